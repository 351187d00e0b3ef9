//! The guest as a neighbour: one that is never asked for, or one that is known before it was asked for.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::{Error, Links, failed};
use crate::net::{IfName, MacAddr};

/// Of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Four,
    Six,
}

impl Links {
    /// Makes the address that MAC's on a link, to be confirmed when it is used (NUD_STALE, rtnetlink(7)). Without it, who
    /// sends to a guest that is not there yet has the kernel ask for it, each second once: that long the guest, when it
    /// comes, is not heard of. What the kernel knows stays, unless this is `certain`: a guest may have another MAC by itself.
    pub async fn suggest_neighbour(
        &self,
        name: &IfName,
        address: IpAddr,
        mac: MacAddr,
        certain: bool,
    ) -> Result<(), Error> {
        let link = self.find(name).await?.ok_or_else(|| Error::Vanished(name.clone()))?;
        let neighbours = self.handle.neighbours();
        let request = neighbours.add(link.header.index, address).link_layer_address(&mac.0);
        let request = request.state(NeighbourState::Stale);
        let request = if certain { request.replace() } else { request };
        match request.execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {
                Ok(())
            }
            step => step.map_err(|error| failed(name, "making the guest known to it", error)),
        }
    }

    /// Makes these addresses, all of that version of IP, the permanent neighbours of a link that is there: no others.
    pub async fn ensure_neighbours(
        &self,
        name: &IfName,
        version: Version,
        addresses: &[IpAddr],
        mac: MacAddr,
    ) -> Result<(), Error> {
        let link = self.find(name).await?.ok_or_else(|| Error::Vanished(name.clone()))?;
        let index = link.header.index;
        let family = match version {
            Version::Four => AddressFamily::Inet,
            Version::Six => AddressFamily::Inet6,
        };
        let request = self.handle.neighbours().get().set_address_family(family).execute();
        let found: Vec<NeighbourMessage> = request
            .try_collect()
            .await
            .map_err(|error| failed(name, "reading its neighbours", error))?;
        let stale = found.iter().filter(|message| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(it)) => {
                    Some(IpAddr::V4(*it))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(it)) => {
                    Some(IpAddr::V6(*it))
                }
                _ => None,
            });
            message.header.ifindex == index
                && message.header.state == NeighbourState::Permanent
                && address.is_some_and(|address| !addresses.contains(&address))
        });
        for message in stale {
            let step = self.handle.neighbours().del(message.clone()).execute().await;
            step.map_err(|error| failed(name, "removing a stale neighbour", error))?;
            self.changed();
        }
        let has_mac = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
        for address in addresses {
            let destination = NeighbourAttribute::Destination(match address {
                IpAddr::V4(address) => NeighbourAddress::Inet(*address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(*address),
            });
            let is_there = found.iter().any(|message| {
                message.header.ifindex == index
                    && message.header.state == NeighbourState::Permanent
                    && message.attributes.contains(&destination)
                    && message.attributes.contains(&has_mac)
            });
            if is_there {
                continue;
            }
            let request = self
                .handle
                .neighbours()
                .add(index, *address)
                .link_layer_address(&mac.0)
                .state(NeighbourState::Permanent)
                .replace();
            let step = request.execute().await;
            step.map_err(|error| failed(name, "making the guest its neighbour", error))?;
            self.changed();
        }
        Ok(())
    }
}
