//! Interfaces, local addresses and routing decisions over rtnetlink, as an explanation needs them. Only reads, and
//! needs no capability.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::Handle;

use super::link::errno;
use crate::exit::{Code, Coded};
use crate::nft::explain::{Address, Interface, LocalRoute, Question, Route, World};

/// RT_TABLE_LOCAL.
const LOCAL: u32 = 255;
const FORWARDING6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// RTN_UNICAST.
const UNICAST: u8 = 1;

/// The kernel's answer to a route lookup.
#[derive(Debug, thiserror::Error)]
#[error("reading the {what} of this network namespace")]
pub struct Error {
    what: &'static str,
    source: io::Error,
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::Network
    }
}

/// Everything but the answers to questions.
pub async fn world(handle: &Handle) -> Result<World, Error> {
    let failed = |what| move |error| Error { what, source: errno(error) };
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(failed("interfaces"))?;
    let addresses: Vec<AddressMessage> =
        handle.address().get().execute().try_collect().await.map_err(failed("addresses"))?;
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family;
        let found: Vec<RouteMessage> =
            handle.route().get(wanted).execute().try_collect().await.map_err(failed("routes"))?;
        routes.extend(found);
    }
    Ok(read(&links, &addresses, &routes))
}

/// What the kernel's messages say.
pub fn read(links: &[LinkMessage], addresses: &[AddressMessage], routes: &[RouteMessage]) -> World {
    let mut interfaces: Vec<Interface> = links.iter().map(interface).collect();
    for message in addresses {
        let found = interfaces.iter_mut().find(|interface| interface.index == message.header.index);
        if let (Some(interface), Some(address)) = (found, address(message)) {
            interface.addresses.push(address);
        }
    }
    World { interfaces, local: routes.iter().filter_map(local_route).collect(), ..World::default() }
}

fn interface(message: &LinkMessage) -> Interface {
    let mut found = Interface {
        index: message.header.index,
        arp_type: message.header.link_layer_type.into(),
        ..Interface::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Group(group) => found.group = *group,
            LinkAttribute::Controller(index) => found.master = Some(*index),
            LinkAttribute::Address(octets) => found.ether = octets.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
                found.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    found
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn address(message: &AddressMessage) -> Option<Address> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = of(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = of(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let flagged = message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Flags(flags) => flags.contains(AddressFlags::Secondary),
        _ => false,
    });
    Some(Address {
        address: local.or(plain)?,
        length: message.header.prefix_len,
        scope: message.header.scope.into(),
        secondary: flagged || message.header.flags.contains(AddressHeaderFlags::Secondary),
    })
}

fn local_route(message: &RouteMessage) -> Option<LocalRoute> {
    let mut table = u32::from(message.header.table);
    let (mut to, mut link) = (None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Oif(index) => link = *index,
            _ => {}
        }
    }
    let length = message.header.destination_prefix_length;
    (table == LOCAL).then_some(LocalRoute {
        address: to?,
        length,
        kind: message.header.kind.into(),
        link,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// What the kernel's routing says. That there is no route is an answer, not an error.
pub async fn answer(handle: &Handle, question: &Question) -> Result<Route, Error> {
    let result: Result<Vec<RouteMessage>, _> =
        handle.route().get(request(question)).execute().try_collect().await;
    let message = match result {
        Ok(messages) => messages.into_iter().next(),
        Err(rtnetlink::Error::NetlinkError(error)) => {
            return Ok(Route::None(no_route(&error.to_io(), question)));
        }
        Err(error) => return Err(Error { what: "routes", source: errno(error) }),
    };
    let Some(message) = message else { return Ok(Route::None("no route".into())) };
    let (mut link, mut gateway, mut source) = (0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            _ => {}
        }
    }
    let kind: u8 = message.header.kind.into();
    if kind == UNICAST && question.iif.is_some() && question.to.is_ipv6() && !forwards_ipv6() {
        return Ok(Route::None("IPv6 forwarding is off".into()));
    }
    Ok(match kind {
        1..=5 => Route::To { kind, link, gateway, source },
        6 => Route::None("a blackhole route".into()),
        7 => Route::None("an unreachable route".into()),
        8 => Route::None("a prohibit route".into()),
        other => Route::None(format!("a route of type {other}")),
    })
}

/// Tables of the legacy xtables, which nf_tables does not show (`ip_tables_names` of proc).
pub(crate) fn legacy_tables() -> Vec<String> {
    let read = |family: &str| {
        let path = format!("/proc/thread-self/net/{family}_tables_names");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let named = |family: &str| {
        read(family).lines().map(|name| format!("{family} {name}")).collect::<Vec<_>>()
    };
    ["ip", "ip6"].into_iter().flat_map(named).collect()
}

fn request(question: &Question) -> RouteMessage {
    let route_address = |address: IpAddr| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let (family, length) = match question.to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(route_address(question.to)));
    if let Some(from) = question.from {
        message.header.source_prefix_length = length;
        message.attributes.push(RouteAttribute::Source(route_address(from)));
    }
    message.attributes.extend(question.iif.map(RouteAttribute::Iif));
    message.attributes.extend(question.oif.map(RouteAttribute::Oif));
    if question.mark != 0 {
        message.attributes.push(RouteAttribute::Mark(question.mark));
    }
    message
}

/// Why there is none, in words a person can use.
fn no_route(error: &io::Error, question: &Question) -> String {
    match (error.raw_os_error(), question.iif) {
        (Some(libc::EHOSTUNREACH), Some(_)) => {
            "no route, or forwarding is off on the interface it comes by".into()
        }
        (Some(libc::ENETUNREACH | libc::EHOSTUNREACH), _) => "no route".into(),
        (Some(libc::EXDEV), _) => {
            "its source address is not reached by the interface it comes by (rp_filter)".into()
        }
        (Some(libc::EINVAL), _) => {
            "its source or destination cannot be (martian), or a blackhole route".into()
        }
        (Some(libc::EACCES), _) => "a prohibit route".into(),
        _ => format!("no route ({error})"),
    }
}

fn forwards_ipv6() -> bool {
    std::fs::read_to_string(FORWARDING6).is_ok_and(|text| text.trim() != "0")
}
