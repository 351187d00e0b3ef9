//! The main table's unicast routes, of either version of IP.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::Handle;

use super::{Error, netlink};
use crate::facts::{MAX_ROUTES, Route};
use crate::net::{IfName, Ipv4Prefix, Ipv6Prefix};

/// What differs between the versions of IP.
pub(super) trait Version {
    type Address: Copy;
    type Network: Copy + Ord;
    const FAMILY: AddressFamily;
    const ANY: Self::Address;
    fn address(address: &RouteAddress) -> Option<Self::Address>;
    fn network(address: Self::Address, length: u8) -> Option<Self::Network>;
    fn length(network: &Self::Network) -> u8;
    /// Neither a group nor of the link alone: those are nobody's way to others.
    fn is_beyond(address: Self::Address) -> bool;
}

pub(super) enum V4 {}
pub(super) enum V6 {}

impl Version for V4 {
    type Address = Ipv4Addr;
    type Network = Ipv4Prefix;
    const FAMILY: AddressFamily = AddressFamily::Inet;
    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    fn address(address: &RouteAddress) -> Option<Ipv4Addr> {
        match address {
            RouteAddress::Inet(address) => Some(*address),
            _ => None,
        }
    }

    fn network(address: Ipv4Addr, length: u8) -> Option<Ipv4Prefix> {
        Ipv4Prefix::new(address, length)
    }

    fn length(network: &Ipv4Prefix) -> u8 {
        network.length
    }

    fn is_beyond(address: Ipv4Addr) -> bool {
        !address.is_multicast()
    }
}

impl Version for V6 {
    type Address = Ipv6Addr;
    type Network = Ipv6Prefix;
    const FAMILY: AddressFamily = AddressFamily::Inet6;
    const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

    fn address(address: &RouteAddress) -> Option<Ipv6Addr> {
        match address {
            RouteAddress::Inet6(address) => Some(*address),
            _ => None,
        }
    }

    fn network(address: Ipv6Addr, length: u8) -> Option<Ipv6Prefix> {
        Ipv6Prefix::new(address, length)
    }

    fn length(network: &Ipv6Prefix) -> u8 {
        network.length
    }

    fn is_beyond(address: Ipv6Addr) -> bool {
        !address.is_unicast_link_local() && !address.is_multicast()
    }
}

/// The routes of all tables.
pub(super) async fn messages<V: Version>(handle: &Handle) -> Result<Vec<RouteMessage>, Error> {
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = V::FAMILY;
    let request = handle.route().get(wanted).execute();
    request.try_collect().await.map_err(netlink("routes"))
}

/// A route as it was found.
pub(super) struct Found<V: Version> {
    pub to: V::Network,
    gateway: Option<V::Address>,
    pub index: u32,
    pub metric: u32,
    source: Option<V::Address>,
    pub leads_nowhere: bool,
}

impl<V: Version> Found<V> {
    /// Of the main table; none that only remembers a path MTU.
    pub fn read(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let mut table = u32::from(header.table);
        let (mut address, mut gateway, mut index) = (V::ANY, None, 0);
        let (mut metric, mut source) = (0, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => address = V::address(to).unwrap_or(address),
                RouteAttribute::Gateway(hop) => gateway = V::address(hop),
                RouteAttribute::PrefSource(from) => source = V::address(from),
                RouteAttribute::Oif(link) => index = *link,
                RouteAttribute::Priority(number) => metric = *number,
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::MultiPath(hops) if index == 0 => {
                    let first = hops.first()?;
                    index = first.interface_index;
                    gateway = first.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Gateway(hop) => V::address(hop),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let leads_nowhere = matches!(
            header.kind,
            RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
        );
        let to = V::network(address, header.destination_prefix_length)?;
        // Of IPv4 those that lead nowhere have no link.
        let is_ours = table == u32::from(RouteHeader::RT_TABLE_MAIN)
            && (leads_nowhere || (header.kind == RouteType::Unicast && index != 0))
            && !header.flags.contains(RouteFlags::Cloned)
            && V::is_beyond(address);
        is_ours.then_some(Self { to, gateway, index, metric, source, leads_nowhere })
    }

    pub fn is_default(&self) -> bool {
        V::length(&self.to) == 0 && !self.leads_nowhere
    }
}

/// Routes, and the preferred source of the default one.
type Best<V> =
    (Vec<Route<<V as Version>::Network, <V as Version>::Address>>, Option<<V as Version>::Address>);

/// The best of each network, the longest prefix first.
pub(super) fn best<V: Version>(
    messages: &[RouteMessage],
    names: &BTreeMap<u32, String>,
    but: &[&IfName],
) -> Best<V> {
    let mut found: Vec<Found<V>> = messages.iter().filter_map(Found::read).collect();
    found.sort_by_key(|route| (Reverse(V::length(&route.to)), route.to, route.metric));
    found.dedup_by_key(|route| route.to);
    let source =
        found.iter().find(|route| V::length(&route.to) == 0).and_then(|route| route.source);
    let named = |route: Found<V>| {
        let Found { to, gateway, index, leads_nowhere, .. } = route;
        let nowhere = leads_nowhere.then_some("lo");
        let link: IfName = names.get(&index).map(String::as_str).or(nowhere)?.parse().ok()?;
        (!but.contains(&&link)).then_some(Route { to, gateway, link, index, leads_nowhere })
    };
    let mut routes: Vec<Route<V::Network, V::Address>> =
        found.into_iter().filter_map(named).collect();
    // The default route stays, however many there are.
    if routes.len() > MAX_ROUTES {
        routes.drain(..routes.len() - MAX_ROUTES);
    }
    (routes, source)
}
