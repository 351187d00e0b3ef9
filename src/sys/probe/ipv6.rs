//! What the pod has of IPv6: addresses of the uplink, the main table, and whether it is on.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};

use rtnetlink::Handle;

use super::{Error, netlink};
use crate::facts::{Ipv6, Off, Route6, Unusable};
use crate::net::{IfName, Ipv6Prefix};
use crate::sys::ipv6;
use crate::sys::link::Links;

/// So many addresses and routes are read: what is more is somebody's router.
const MAX_ADDRESSES: usize = 8;
const MAX_ROUTES: usize = 64;
/// IFA_F_TEMPORARY (linux/if_addr.h), which for IPv4 is IFA_F_SECONDARY.
const TEMPORARY: AddressFlags = AddressFlags::Secondary;

/// One look, without waiting for addresses that are tentative. `but` are our own links.
pub(super) async fn ipv6(
    links: &Links,
    uplink: (&IfName, u32),
    addresses: &[AddressMessage],
    but: &[&IfName],
) -> Result<Ipv6, Error> {
    if let Some(off) = off(uplink.0) {
        return Ok(Ipv6 { off: Some(off), ..Ipv6::default() });
    }
    let (usable, unusable) = of_uplink(addresses, uplink.1, None);
    if usable.is_empty() {
        // Where no packet can come from, none goes anywhere.
        return Ok(Ipv6 { unusable, ..Ipv6::default() });
    }
    let names = links.names().await?;
    let found = messages(links.handle()).await?;
    let found = found.iter().filter_map(Found::read).collect();
    let (routes, source) = routes(found, &names, but);
    let (addresses, unusable) = of_uplink(addresses, uplink.1, source);
    Ok(Ipv6 { addresses, unusable, routes, off: None })
}

/// The link of the main table's best default route.
pub(super) async fn default_link(handle: &Handle) -> Result<Option<u32>, Error> {
    let found = messages(handle).await?;
    let defaults = found.iter().filter_map(Found::read);
    let defaults = defaults.filter(|route| route.to.length == 0 && !route.leads_nowhere);
    Ok(defaults.min_by_key(|route| route.metric).map(|route| route.index))
}

/// The IPv6 routes of all tables.
async fn messages(handle: &Handle) -> Result<Vec<RouteMessage>, Error> {
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = AddressFamily::Inet6;
    let request = handle.route().get(wanted).execute();
    request.try_collect().await.map_err(netlink("IPv6 routes"))
}

/// New links take after `default`; what is written there, or on ours, is tried when they are made.
fn off(uplink: &IfName) -> Option<Off> {
    if !fs::exists(ipv6::CONF).unwrap_or(false) {
        return Some(Off::Kernel);
    }
    let is_on = |name: &str| {
        let text = fs::read_to_string(format!("{}/{name}/disable_ipv6", ipv6::CONF));
        text.is_ok_and(|text| text.trim() == "1")
    };
    ["all", uplink.as_str()].into_iter().find(|name| is_on(name)).map(|name| Off::Link(name.into()))
}

fn of_uplink(
    messages: &[AddressMessage],
    index: u32,
    source: Option<Ipv6Addr>,
) -> (Vec<Ipv6Addr>, Vec<(Ipv6Addr, Unusable)>) {
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for message in messages.iter().filter(|message| message.header.index == index) {
        let Some(address) = global(message) else { continue };
        let flags = flags(message);
        // What will go of its own accord, or is going already, is no address to be reached at.
        if flags.intersects(TEMPORARY | AddressFlags::Deprecated) {
            continue;
        }
        let why = if flags.contains(AddressFlags::Dadfailed) {
            Some(Unusable::Duplicate)
        } else if flags.contains(AddressFlags::Tentative)
            && !flags.contains(AddressFlags::Optimistic)
        {
            Some(Unusable::Tentative)
        } else {
            None
        };
        match why {
            Some(why) => unusable.push((address, why)),
            None => usable.push(address),
        }
    }
    // The kernel tells the newest first; whoever gives addresses meant the oldest.
    usable.reverse();
    usable.sort_by_key(|address| Some(*address) != source);
    usable.truncate(MAX_ADDRESSES);
    unusable.truncate(MAX_ADDRESSES);
    (usable, unusable)
}

fn global(message: &AddressMessage) -> Option<Ipv6Addr> {
    let header = &message.header;
    if header.family != AddressFamily::Inet6 || header.scope != AddressScope::Universe {
        return None;
    }
    // Of a point-to-point address IFA_ADDRESS is the other end's.
    let of = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V6(address)) if local => Some(*address),
            AddressAttribute::Address(IpAddr::V6(address)) if !local => Some(*address),
            _ => None,
        })
    };
    of(true).or_else(|| of(false))
}

fn flags(message: &AddressMessage) -> AddressFlags {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    found.unwrap_or(AddressFlags::empty())
}

/// A route as it was found.
struct Found {
    to: Ipv6Prefix,
    gateway: Option<Ipv6Addr>,
    index: u32,
    metric: u32,
    source: Option<Ipv6Addr>,
    leads_nowhere: bool,
}

impl Found {
    /// Of the main table, neither to link-local nor to multicast addresses; none that only remembers a path MTU.
    fn read(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let mut table = u32::from(header.table);
        let (mut address, mut gateway, mut index) = (Ipv6Addr::UNSPECIFIED, None, 0);
        let (mut metric, mut source) = (0, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet6(to)) => address = *to,
                RouteAttribute::Gateway(RouteAddress::Inet6(hop)) => gateway = Some(*hop),
                RouteAttribute::PrefSource(RouteAddress::Inet6(from)) => source = Some(*from),
                RouteAttribute::Oif(link) => index = *link,
                RouteAttribute::Priority(number) => metric = *number,
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::MultiPath(hops) if index == 0 => {
                    let first = hops.first()?;
                    index = first.interface_index;
                    gateway = first.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Gateway(RouteAddress::Inet6(hop)) => Some(*hop),
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
        let to = Ipv6Prefix::new(address, header.destination_prefix_length)?;
        let is_ours = table == u32::from(RouteHeader::RT_TABLE_MAIN)
            && (leads_nowhere || header.kind == RouteType::Unicast)
            && index != 0
            && !header.flags.contains(RouteFlags::Cloned)
            && !address.is_unicast_link_local()
            && !address.is_multicast();
        is_ours.then_some(Self { to, gateway, index, metric, source, leads_nowhere })
    }
}

/// The best of each prefix, the longest prefix first; and the preferred source of the default route.
fn routes(
    mut found: Vec<Found>,
    names: &BTreeMap<u32, String>,
    but: &[&IfName],
) -> (Vec<Route6>, Option<Ipv6Addr>) {
    found.sort_by_key(|route| (Reverse(route.to.length), route.to, route.metric));
    found.dedup_by_key(|route| route.to);
    let source = found.iter().find(|route| route.to.length == 0).and_then(|route| route.source);
    let named = |route: Found| {
        let link: IfName = names.get(&route.index)?.parse().ok()?;
        let Found { to, gateway, index, leads_nowhere, .. } = route;
        (!but.contains(&&link)).then_some(Route6 { to, gateway, link, index, leads_nowhere })
    };
    let mut routes: Vec<Route6> = found.into_iter().filter_map(named).collect();
    // The default route stays, however many there are.
    if routes.len() > MAX_ROUTES {
        routes.drain(..routes.len() - MAX_ROUTES);
    }
    (routes, source)
}
