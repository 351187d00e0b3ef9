//! One look at the pod before anything is changed: interface, resolver, devices; files and disks are beside it.
//!
//! Only reads. A second start in the same namespace sees the same, because the default route stays the pod's.

mod disks;
mod files;
mod host;
mod ipv6;
mod main_table;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::Handle;
use rustix::net::netdevice::name_to_index;
use rustix::thread::CapabilitySet;
use socket2::{Domain, Socket, Type};

use main_table::V4;

use super::link::{Links, address_of, errno};
use super::privilege;
use crate::config::{Config, Ipv4};
use crate::exit::{Code, Coded};
use crate::facts::{
    Facts, Further, Interface, NetFacts, Resolver, Routing, RoutingRule, ServedLink, Unusable,
    Uplink,
};
use crate::faults::{self, Fault};
use crate::net::{IfName, Ipv4Prefix, MacAddr};

/// So many networks behind a further interface are named.
const MAX_NETWORKS: usize = 32;
/// Duplicate address detection takes a second or two.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const MAX_LOOKS: u32 = 50;
/// The switch of the whole namespace: links that forward without it do so for us.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The pod is not as needed, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Link(#[from] super::link::Error),
    #[error("reading the pod's {what}")]
    Netlink { what: &'static str, source: io::Error },
    #[error(
        "no default route: of IPv4 in the main table or one that an ip rule leads to, of IPv6 in the main table; attach the pod to a network, or name its interface with BERTH_UPLINK"
    )]
    NoDefaultRoute,
    #[error("no interface {0}: BERTH_UPLINK must name one that exists here")]
    NoSuchLink(IfName),
    #[error("{0} has no address that could be the guest's")]
    NoAddress(IfName),
    #[error("no interface {0}: --interface must name one that exists here")]
    NoInterface(IfName),
    #[error("{link} is not usable: {why}")]
    Unusable { link: String, why: String },
    #[error("no {} in PATH: install QEMU, or name it with BERTH_QEMU", .0.display())]
    NoQemu(PathBuf),
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is {what}", path.display())]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("{}: the root disk cannot be written ({why}): give berth a device that may be written", path.display())]
    ReadOnlyRoot { path: PathBuf, why: String },
    #[error("more than {} extra disks in {} and {}", disks::MAX_DISKS, volumes.display(), devices.display())]
    TooManyDisks { volumes: PathBuf, devices: PathBuf },
    #[error("{} is larger than {} MiB, too large for what it is", .0.display(), files::LARGEST_BYTES >> 20)]
    TooLarge(PathBuf),
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::Facts
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::Link(error) => error.fault(),
            Self::NoDefaultRoute => Some(&faults::NO_DEFAULT_ROUTE),
            Self::NoSuchLink(_) => Some(&faults::NO_SUCH_UPLINK),
            Self::NoAddress(_) => Some(&faults::NO_ADDRESS),
            Self::NoQemu(_) => Some(&faults::NO_QEMU),
            _ => None,
        }
    }
}

/// Looks at everything the plan is made from.
pub async fn facts(config: &Config, links: &Links) -> Result<Facts, Error> {
    Ok(Facts {
        disks: disks::disks(config)?,
        host: host::host(config)?,
        net: settled_net_facts(config, links).await?,
    })
}

/// What the network half is planned from, for a start. Where nothing but an address that is still tentative could be the
/// guest's, it is waited for (RFC 4862 §5.4: a second or two).
pub async fn settled_net_facts(config: &Config, links: &Links) -> Result<NetFacts, Error> {
    let mut looks = 0;
    loop {
        let facts = net_facts(config, links).await?;
        let is_tentative = |(_, why): &(_, Unusable)| *why == Unusable::Tentative;
        let may_come = facts.uplink.address.is_none()
            && facts.ipv6.addresses.is_empty()
            && facts.ipv6.unusable.iter().any(is_tentative);
        if !may_come || looks == MAX_LOOKS {
            return Ok(facts);
        }
        looks += 1;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Looks at what the network half is planned from.
pub async fn net_facts(config: &Config, links: &Links) -> Result<NetFacts, Error> {
    let rules = links.rules().await?;
    let routes = routes(links.handle()).await?;
    let uplink = uplink(config, &routes, &rules, links.handle()).await?;
    let not_further = [&uplink.name, &config.network.bridge, &config.network.tap];
    let addresses = links.handle().address().get().execute().try_collect().await;
    let addresses: Vec<AddressMessage> = addresses.map_err(netlink("addresses"))?;
    let ours = [&config.network.bridge, &config.network.tap];
    let main = match config.network.ipv4 {
        Ipv4::Own => main_table::best::<V4>(&routes, &links.names().await?, &ours).0,
        // The kernel's own routing is what is used.
        Ipv4::Nat => Vec::new(),
    };
    Ok(NetFacts {
        ipv6: ipv6::ipv6(links, (&uplink.name, uplink.index), &addresses, &ours).await?,
        resolver: resolver(&config.paths.resolv_conf)?,
        routing: Routing {
            further: further(links.handle(), &addresses, &routes, &not_further).await?,
            rules,
            main,
            shadowed: shadowed(&routes, config.network.vm, links, &ours).await?,
            ip_forward: fs::read_to_string(IP_FORWARD).is_ok_and(|text| text.trim() != "0"),
            ipv6: addresses.iter().any(is_global6),
        },
        uplink,
        extra_rules: config.network.extra_rules.as_deref().map(files::text).transpose()?,
        metadata: files::read(&config.paths.metadata)?,
        can_setuid: privilege::has(CapabilitySet::SETUID.union(CapabilitySet::SETGID)),
    })
}

/// Those of these addresses that no link of this namespace has.
pub async fn missing(of: &[IpAddr], links: &Links) -> Result<Vec<IpAddr>, Error> {
    let request = links.handle().address().get().execute();
    let found: Vec<AddressMessage> = request.try_collect().await.map_err(netlink("addresses"))?;
    let has = |address: &&IpAddr| {
        found.iter().flat_map(|message| &message.attributes).any(|attribute| match attribute {
            AddressAttribute::Local(it) | AddressAttribute::Address(it) => it == *address,
            _ => false,
        })
    };
    Ok(of.iter().filter(|address| !has(address)).copied().collect())
}

// ── the interface ──

fn netlink(what: &'static str) -> impl Fn(rtnetlink::Error) -> Error {
    move |error| Error::Netlink { what, source: errno(error) }
}

/// The IPv4 routes of all tables.
async fn routes(handle: &Handle) -> Result<Vec<RouteMessage>, Error> {
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = AddressFamily::Inet;
    handle.route().get(wanted).execute().try_collect().await.map_err(netlink("routes"))
}

/// A default route, as far as it matters here.
struct DefaultRoute {
    table: u32,
    link: u32,
    gateway: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
    metric: u32,
}

/// The default routes, the best first: those of the main table by metric, then those of the tables that the pod's rules
/// lead to, in the order of the rules. A rule for one address says which one the pod has on that way.
fn defaults(routes: &[RouteMessage], rules: &[RoutingRule]) -> Vec<DefaultRoute> {
    let mut found: Vec<(usize, DefaultRoute)> = Vec::new();
    for mut route in routes.iter().filter_map(default_route) {
        let rule = rules.iter().position(|rule| rule.table == route.table && !rule.inverted);
        let place = match rule {
            _ if route.table == u32::from(RouteHeader::RT_TABLE_MAIN) => 0,
            Some(at) => at + 1,
            None => continue,
        };
        let of_one = rule.and_then(|at| rules.get(at)?.from).filter(|from| from.length == 32);
        route.source = route.source.or(of_one.filter(|_| place > 0).map(|from| from.address));
        found.push((place, route));
    }
    found.sort_by_key(|(place, route)| (*place, route.metric));
    found.into_iter().map(|(_, route)| route).collect()
}

async fn uplink(
    config: &Config,
    routes: &[RouteMessage],
    rules: &[RoutingRule],
    handle: &Handle,
) -> Result<Uplink, Error> {
    let defaults = defaults(routes, rules);
    let wanted = config.network.uplink.as_ref();
    let links = match (wanted, defaults.first()) {
        (Some(name), _) => handle.link().get().match_name(name.as_str()),
        (None, Some(route)) => handle.link().get().match_index(route.link),
        (None, None) => match ipv6::default_link(handle).await? {
            Some(index) => handle.link().get().match_index(index),
            None => return Err(Error::NoDefaultRoute),
        },
    };
    let link = match Box::pin(links.execute()).try_next().await {
        Ok(Some(link)) => link,
        Ok(None) => return Err(Error::NoDefaultRoute),
        Err(error) => match wanted {
            Some(name) => return Err(Error::NoSuchLink(name.clone())),
            None => return Err(netlink("interface")(error)),
        },
    };
    let index = link.header.index;
    let (name, mac, mtu) = link_words(&link.attributes)?;
    let request = handle.address().get().set_link_index_filter(index).execute();
    let addresses: Vec<AddressMessage> =
        request.try_collect().await.map_err(netlink("addresses"))?;
    let route = defaults.iter().find(|route| route.link == index);
    let (address, others) = match pick(&addresses, route.and_then(|route| route.source)) {
        Some((address, others)) => (Some(address), others),
        None if addresses.iter().any(is_global6) => (None, Vec::new()),
        None => return Err(Error::NoAddress(name)),
    };
    Ok(Uplink {
        name,
        index,
        mac,
        mtu,
        address,
        others,
        gateway: route.and_then(|route| route.gateway),
    })
}

/// Links with an IPv4 address or route, by name, but loopbacks and those of `but`.
async fn further(
    handle: &Handle,
    addresses: &[AddressMessage],
    routes: &[RouteMessage],
    but: &[&IfName],
) -> Result<Vec<Further>, Error> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(netlink("interfaces"))?;
    let mut found = Vec::new();
    for link in links.iter().filter(|link| !link.header.flags.contains(LinkFlags::Loopback)) {
        let index = link.header.index;
        let of_link = addresses.iter().filter(|message| message.header.index == index);
        let addresses: Vec<Ipv4Prefix> = of_link.filter_map(address_of).collect();
        let mut networks: Vec<Ipv4Prefix> =
            routes.iter().filter_map(|route| network_behind(route, index)).collect();
        networks.sort_unstable();
        networks.dedup();
        networks.truncate(MAX_NETWORKS);
        let Ok((name, ..)) = link_words(&link.attributes) else { continue };
        let is_used = !(addresses.is_empty() && networks.is_empty());
        if is_used && !but.contains(&&name) {
            found.push(Further { name, addresses, networks });
        }
    }
    found.sort();
    Ok(found)
}

/// Where a route by this link leads to.
fn network_behind(message: &RouteMessage, index: u32) -> Option<Ipv4Prefix> {
    let by_it = message.attributes.contains(&RouteAttribute::Oif(index));
    if !by_it || message.header.kind != RouteType::Unicast {
        return None;
    }
    let to = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    Ipv4Prefix::new(to.unwrap_or(Ipv4Addr::UNSPECIFIED), message.header.destination_prefix_length)
}

/// Where the main table leads, by links that are not ours, to what is within the guest's network or holds all of it.
async fn shadowed(
    routes: &[RouteMessage],
    vm: Ipv4Prefix,
    links: &Links,
    ours: &[&IfName],
) -> Result<Vec<Ipv4Prefix>, Error> {
    let is_main = |route: &&RouteMessage| {
        u32::from(route.header.table) == u32::from(RouteHeader::RT_TABLE_MAIN)
    };
    let mut found = Vec::new();
    for (index, name) in links.names().await? {
        if ours.iter().any(|ours| name == ours.as_str()) {
            continue;
        }
        let behind = routes.iter().filter(is_main).filter_map(|route| network_behind(route, index));
        found
            .extend(behind.filter(|to| {
                to.length > 0 && (to.contains(vm.address) || vm.contains(to.address))
            }));
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_NETWORKS);
    Ok(found)
}

/// An interface as DHCP and DNS are served on it; None when there is none of this name.
pub async fn served_link(name: &IfName, links: &Links) -> Result<Option<ServedLink>, Error> {
    let Some(link) = links.find(name).await? else { return Ok(None) };
    let (name, mac, mtu) = link_words(&link.attributes)?;
    let index = link.header.index;
    let request = links.handle().address().get().set_link_index_filter(index).execute();
    let addresses: Vec<AddressMessage> =
        request.try_collect().await.map_err(netlink("addresses"))?;
    let every_address = addresses.iter().filter_map(address_of).collect();
    let picked = pick(&addresses, None).map(|(first, others)| [vec![first], others].concat());
    let (addresses6, link_local) = ipv6::served(&addresses);
    let addresses = picked.unwrap_or_default();
    let interface = Interface { name, mac, mtu, addresses, addresses6, link_local };
    Ok(Some(ServedLink { index, deaf: deaf(&link), interface, every_address }))
}

/// What comes in by a port is its bridge's, bond's or team's.
fn deaf(link: &LinkMessage) -> Option<String> {
    if !link.header.flags.contains(LinkFlags::Up) {
        return Some("the interface is down: no client can reach us until it is up".to_owned());
    }
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let port = infos.flatten().find_map(|info| match info {
        LinkInfo::PortKind(
            kind @ (InfoPortKind::Bridge | InfoPortKind::Bond | InfoPortKind::Team),
        ) => Some(kind),
        _ => None,
    });
    port.map(|kind| {
        format!("the interface is a port of a {kind}, which takes all that comes in: serve on that")
    })
}

/// What is in a file of the pod, at most 16 MiB; None where there is none.
pub fn file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    files::read(path)
}

/// The resolver's settings as they are now; without a file there are none.
pub fn resolver(path: &Path) -> Result<Resolver, Error> {
    Ok(resolver_file(path)?.unwrap_or_else(|| Resolver::parse(b"")))
}

/// The same; None when there is no file, or an empty one, which may be in the writing.
pub(crate) fn resolver_file(path: &Path) -> Result<Option<Resolver>, Error> {
    let index_of = |name: &str| {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).ok()?;
        name_to_index(&socket, name).ok()
    };
    let content = files::read(path)?.filter(|content| !content.is_empty());
    Ok(content.map(|content| Resolver::parse_on(&content, index_of)))
}

fn default_route(message: &RouteMessage) -> Option<DefaultRoute> {
    let header = &message.header;
    let table = u32::from(header.table);
    let mut route = DefaultRoute { table, link: 0, gateway: None, source: None, metric: 0 };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => route.link = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => {
                route.source = Some(*address);
            }
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(number) => route.table = *number,
            RouteAttribute::MultiPath(hops) if route.link == 0 => {
                let first = hops.first()?;
                route.link = first.interface_index;
                route.gateway = first.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(*address),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let usable = header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && route.link != 0;
    usable.then_some(route)
}

fn link_words(attributes: &[LinkAttribute]) -> Result<(IfName, MacAddr, u32), Error> {
    let mut name = String::new();
    let (mut mac, mut mtu) = (None, 1500);
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Address(octets) => {
                mac = <[u8; 6]>::try_from(octets.as_slice()).ok().map(MacAddr);
            }
            LinkAttribute::Mtu(octets) => mtu = *octets,
            _ => {}
        }
    }
    let unusable = |why: String| Error::Unusable { link: name.clone(), why };
    let parsed: IfName =
        name.parse().map_err(|error: crate::net::Error| unusable(error.to_string()))?;
    // A device without Ethernet addresses (tun, wireguard) carries the pod's traffic all the same.
    Ok((parsed, mac.unwrap_or(MacAddr([0; 6])), mtu))
}

/// The address to map and the others: the route's source if the link has it, else the first global one.
fn pick(
    messages: &[AddressMessage],
    source: Option<Ipv4Addr>,
) -> Option<(Ipv4Prefix, Vec<Ipv4Prefix>)> {
    let mut global: Vec<Ipv4Prefix> = messages
        .iter()
        .filter(|message| message.header.scope == AddressScope::Universe && !is_deprecated(message))
        .filter_map(address_of)
        .filter(|address| !address.address.is_loopback())
        .collect();
    let first = global.iter().position(|address| Some(address.address) == source).unwrap_or(0);
    if global.is_empty() {
        return None;
    }
    let address = global.remove(first);
    global.dedup();
    Some((address, global))
}

fn is_global6(message: &AddressMessage) -> bool {
    message.header.family == AddressFamily::Inet6 && message.header.scope == AddressScope::Universe
}

fn is_deprecated(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Flags(flags) => flags.contains(AddressFlags::Deprecated),
        AddressAttribute::Address(IpAddr::V6(_)) => true,
        _ => false,
    })
}
