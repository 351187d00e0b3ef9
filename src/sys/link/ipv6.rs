//! IPv6 of the links between pod and guest: addresses of the bridge, and the guest as a neighbour that is never asked for.

use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::AddressMessageBuilder;

use super::{Error, Links, Version, failed};
use crate::net::{IfName, Ipv6Prefix, MacAddr};
use crate::sys::ipv6;

/// What of IPv6 the links have.
#[derive(Debug, Clone)]
pub struct Ipv6On<'a> {
    pub bridge: &'a IfName,
    /// Of the bridge, and no other.
    pub addresses: &'a [Ipv6Prefix],
    pub tap: &'a IfName,
    /// What the guest is known by, on bridge and tap.
    pub guest: &'a [Ipv6Addr],
    pub mac: MacAddr,
}

impl Links {
    /// Makes bridge and tap have IPv6 as wanted. Both are there.
    ///
    /// # Errors
    ///
    /// Also that IPv6 is off on one of them, and that this may not be changed.
    pub async fn ensure_ipv6(&self, wanted: &Ipv6On<'_>) -> Result<(), Error> {
        for name in [wanted.bridge, wanted.tap] {
            let link = self.find(name).await?.ok_or_else(|| Error::Vanished(name.clone()))?;
            match ipv6::with(name) {
                Ok(true) => self.changed(),
                Ok(false) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::Vanished(name.clone()));
                }
                Err(source) => return Err(Error::NoIpv6 { link: name.clone(), source }),
            }
            let index = link.header.index;
            let addresses = if name == wanted.bridge { wanted.addresses } else { &[] };
            self.ensure_addresses6(name, index, addresses).await?;
            let guest: Vec<IpAddr> = wanted.guest.iter().copied().map(IpAddr::V6).collect();
            self.ensure_neighbours(name, Version::Six, &guest, wanted.mac).await?;
        }
        Ok(())
    }

    /// Packets that come by these links are sent on, or no more.
    ///
    /// # Errors
    ///
    /// It is off, and may not be turned on.
    pub fn ensure_forwarding6(&self, links: &[&IfName], on: bool) -> Result<(), Error> {
        let changed = if on {
            ipv6::forward(links).map_err(Error::NoForwarding6)?
        } else {
            ipv6::forward_no_more(links)
        };
        if changed {
            self.changed();
        }
        Ok(())
    }

    /// These and no others.
    async fn ensure_addresses6(
        &self,
        name: &IfName,
        index: u32,
        wanted: &[Ipv6Prefix],
    ) -> Result<(), Error> {
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let found: Vec<AddressMessage> = request
            .try_collect()
            .await
            .map_err(|error| failed(name, "reading its addresses", error))?;
        let mut there = Vec::new();
        for message in found {
            let Some(address) = address6(&message) else { continue };
            if wanted.contains(&address) {
                there.push(address);
                continue;
            }
            let step = self.handle.address().del(message).execute().await;
            step.map_err(|error| failed(name, "removing a stale address", error))?;
            self.changed();
        }
        for address in wanted.iter().filter(|address| !there.contains(address)) {
            let Ipv6Prefix { address, length } = *address;
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(address, length)
                .build();
            // Nobody else is on this link but the guest, which has no say in it.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            let mut request = self.handle.address().add(index, address.into(), length).replace();
            *request.message_mut() = message;
            request.execute().await.map_err(|error| failed(name, "adding its address", error))?;
            self.changed();
        }
        Ok(())
    }
}

fn address6(message: &AddressMessage) -> Option<Ipv6Prefix> {
    if message.header.family != AddressFamily::Inet6 {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V6(address)) => {
            Ipv6Prefix::new(*address, message.header.prefix_len)
        }
        _ => None,
    })
}
