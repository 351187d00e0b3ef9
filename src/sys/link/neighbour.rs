//! The guest as a neighbour that is never asked for.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::{Error, Links, failed};
use crate::net::{IfName, MacAddr};

impl Links {
    /// Makes these addresses, all of one version of IP, permanent neighbours of a link that is there.
    pub async fn ensure_neighbours(
        &self,
        name: &IfName,
        addresses: &[IpAddr],
        mac: MacAddr,
    ) -> Result<(), Error> {
        let link = self.find(name).await?.ok_or_else(|| Error::Vanished(name.clone()))?;
        let index = link.header.index;
        let is_six = addresses.iter().all(IpAddr::is_ipv6);
        let family = if is_six { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let request = self.handle.neighbours().get().set_address_family(family).execute();
        let found: Vec<NeighbourMessage> = request
            .try_collect()
            .await
            .map_err(|error| failed(name, "reading its neighbours", error))?;
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
