//! What the pod has of IPv6: addresses of the uplink, the main table, and whether it is on.

use std::fs::{self, OpenOptions};
use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use rtnetlink::Handle;

use super::Error;
use super::main_table::{self, Found, V6};
use crate::facts::{Ipv6, Off, Unusable};
use crate::net::{IfName, Ipv6Prefix};
use crate::sys::ipv6;
use crate::sys::link::Links;

/// What new links have.
const DEFAULT: &str = "default";
/// So many are read.
const MAX_ADDRESSES: usize = 8;
/// IFA_F_TEMPORARY (linux/if_addr.h), which for IPv4 is IFA_F_SECONDARY.
const TEMPORARY: AddressFlags = AddressFlags::Secondary;

/// One look, without waiting for addresses that are tentative. `but` are our own links.
pub(super) async fn ipv6(
    links: &Links,
    uplink: (&IfName, u32),
    addresses: &[AddressMessage],
    but: &[&IfName],
) -> Result<Ipv6, Error> {
    let (usable, unusable) = of_uplink(addresses, uplink.1, None);
    if let Some(off) = off(uplink.0) {
        return Ok(Ipv6 { addresses: usable, unusable, off: Some(off), ..Ipv6::default() });
    }
    if usable.is_empty() {
        // Where no packet can come from, none goes anywhere.
        return Ok(Ipv6 { unusable, ..Ipv6::default() });
    }
    let names = links.names().await?;
    let found = main_table::messages::<V6>(links.handle()).await?;
    let (routes, source) = main_table::best::<V6>(&found, &names, but);
    let (addresses, unusable) = of_uplink(addresses, uplink.1, source);
    let forwarding = ipv6::forwarding();
    Ok(Ipv6 { addresses, unusable, routes, off: None, forwarding })
}

/// The link of the main table's best default route.
pub(super) async fn default_link(handle: &Handle) -> Result<Option<u32>, Error> {
    let found = main_table::messages::<V6>(handle).await?;
    let defaults = found.iter().filter_map(Found::<V6>::read).filter(Found::is_default);
    Ok(defaults.min_by_key(|route| route.metric).map(|route| route.index))
}

/// Each link has a value of its own: that of `all` was written into all of them when it was set, and a new one takes after
/// `default`, where ours may not be written.
fn off(uplink: &IfName) -> Option<Off> {
    if !fs::exists(ipv6::CONF).unwrap_or(false) {
        return Some(Off::Kernel);
    }
    let path = |name: &str| format!("{}/{name}/disable_ipv6", ipv6::CONF);
    let is_off = |name: &str| fs::read_to_string(path(name)).is_ok_and(|text| text.trim() == "1");
    let is_fixed = |name: &str| OpenOptions::new().write(true).open(path(name)).is_err();
    let uplink = uplink.as_str();
    let name = if is_off(uplink) {
        uplink
    } else if is_off(DEFAULT) && is_fixed(DEFAULT) {
        DEFAULT
    } else {
        return None;
    };
    Some(Off::Link(name.to_owned()))
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

/// Addresses of a link that is served, and its link-local one: none that is tentative, or that goes of its own accord.
pub(super) fn served(messages: &[AddressMessage]) -> (Vec<Ipv6Prefix>, Option<Ipv6Addr>) {
    let unusable =
        TEMPORARY | AddressFlags::Deprecated | AddressFlags::Dadfailed | AddressFlags::Tentative;
    let (mut global, mut link_local) = (Vec::new(), None);
    for message in messages.iter().filter(|message| !flags(message).intersects(unusable)) {
        let length = message.header.prefix_len;
        match of_scope(message, AddressScope::Universe) {
            Some(address) => global.extend(Ipv6Prefix::new(address, length)),
            None => link_local = link_local.or(of_scope(message, AddressScope::Link)),
        }
    }
    global.reverse();
    (global, link_local)
}

fn global(message: &AddressMessage) -> Option<Ipv6Addr> {
    of_scope(message, AddressScope::Universe)
}

fn of_scope(message: &AddressMessage, scope: AddressScope) -> Option<Ipv6Addr> {
    let header = &message.header;
    if header.family != AddressFamily::Inet6 || header.scope != scope {
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
