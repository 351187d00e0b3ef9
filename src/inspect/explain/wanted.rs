//! The words of `berth nft explain` to a packet and its path; what was left out is taken from the machine, and told.

use std::net::IpAddr;

use rtnetlink::Handle;

use super::super::Error;
use crate::cli::nft::{Explain, Track};
use crate::net::{decimal, hexadecimal};
use crate::nft::Family;
use crate::nft::explain::{
    Bits, ICMP, ICMP6, Interface, Packet, Path, Point, Question, Route, State, TCP, World,
    icmp_type, kind, protocol, status_bits, tcp_flags,
};
use crate::sys::route;

/// What is to be explained.
#[derive(Debug)]
pub struct Request {
    pub packet: Packet,
    pub path: Path,
    pub family: Option<Family>,
    /// What was not said and is taken to be so.
    pub assumed: Vec<String>,
}

/// ARPHRD_ETHER and ARPHRD_LOOPBACK: links whose packets have an Ethernet header.
const ETHERNET: [u16; 2] = [1, 772];
/// The bits of `ct status` that have words; others stay open.
const STATUS_WORDS: u32 = 0x23f;

/// The packet and its way, from the words of the command line and the links of this namespace.
pub async fn request(
    wanted: &Explain,
    world: &mut World,
    handle: &Handle,
) -> Result<Request, Error> {
    let (to, destination, protocol) = destination(&wanted.to, world, handle).await?;
    let (from, source) = match &wanted.from {
        Some(text) => {
            let (host, port) = host_and_port(text)?;
            (Some(address(host, to.is_ipv6(), world, handle).await?), port)
        }
        None => (None, None),
    };
    if from.is_some_and(|from| from.is_ipv6() != to.is_ipv6()) {
        return Err(usage("--from and --to are of different families".into()));
    }
    let mut packet = match protocol {
        Protocol::Arp => Packet::arp(from, to, 1),
        Protocol::Ip(number) => Packet::ip(from, to, number),
    };
    packet.set_ports(source, destination);
    if (source.is_some() || destination.is_some()) && !packet.has_ports() {
        return Err(usage(format!("{}: this protocol has no ports", wanted.to)));
    }
    details(wanted, &mut packet)?;
    connection(wanted, &mut packet)?;
    let family = wanted.family.as_deref().map(family).transpose()?;
    let hook = wanted.hook.as_deref().map(hook).transpose()?;
    let needs_hook = packet.family == Family::ARP
        || matches!(family, Some(Family::ARP | Family::BRIDGE | Family::NETDEV));
    if needs_hook && hook.is_none() {
        return Err(usage(
            "rules of arp, bridge and netdev are looked at hook by hook: say --hook".into(),
        ));
    }
    if wanted.vlan.is_some() && hook != Some(Point::Ingress) && family != Some(Family::BRIDGE) {
        return Err(usage(
            "--vlan: IP does not see the tag; it is for --hook ingress and --family bridge".into(),
        ));
    }
    let mut assumed = Vec::new();
    let path = place(wanted, &mut packet, hook, world, handle, &mut assumed).await?;
    if let Some(text) = connection_text(wanted, &packet) {
        assumed.insert(0, text);
    }
    let legacy = route::legacy_tables();
    if !legacy.is_empty() {
        let names = legacy.join(", ");
        assumed.push(format!(
            "legacy iptables tables are here too ({names}); nf_tables does not show their rules"
        ));
    }
    Ok(Request { packet, path, family, assumed })
}

fn usage(text: String) -> Error {
    Error::Usage(text)
}

enum Protocol {
    Arp,
    Ip(u8),
}

/// `ADDRESS[:PORT]/PROTOCOL`
async fn destination(
    text: &str,
    world: &mut World,
    handle: &Handle,
) -> Result<(IpAddr, Option<u16>, Protocol), Error> {
    let Some((end, word)) = text.rsplit_once('/') else {
        return Err(usage(format!(
            "--to {text}: which protocol? Say it after a slash, as in 10.0.0.1:22/tcp, 10.0.0.1/icmp or [fd00::1]:53/udp"
        )));
    };
    let (host, port) = host_and_port(end)?;
    // `icmp` is what people call both.
    let known = |v6: bool| match (word, v6) {
        ("icmp", true) => Some(ICMP6),
        _ => protocol(word),
    };
    if word == "arp" {
        return Ok((address(host, false, world, handle).await?, port, Protocol::Arp));
    }
    let v6 = word == "icmpv6" || host.contains(':');
    let to = address(host, v6, world, handle).await?;
    let number = known(to.is_ipv6()).ok_or_else(|| {
        usage(format!(
            "--to {text}: {word:?} is no protocol: tcp, udp, icmp, icmpv6, sctp, arp or a number"
        ))
    })?;
    Ok((to, port, Protocol::Ip(number)))
}

/// `10.0.0.1`, `10.0.0.1:22`, `fd00::1`, `[fd00::1]:22`, `pod:22`
fn host_and_port(text: &str) -> Result<(&str, Option<u16>), Error> {
    let bad = || {
        usage(format!("{text:?} is no ADDRESS or ADDRESS:PORT, as in 10.0.0.1:22 or [fd00::1]:22"))
    };
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(decimal(port).ok_or_else(bad)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(bad()),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(decimal(port).ok_or_else(bad)?))),
        None => Ok((text, None)),
    }
}

/// `pod` is the address that packets of this machine to the world have.
async fn address(
    host: &str,
    v6: bool,
    world: &mut World,
    handle: &Handle,
) -> Result<IpAddr, Error> {
    if !host.eq_ignore_ascii_case("pod") {
        return host.parse().map_err(|_| {
            usage(format!(
                "{host:?} is no IP address (names are not looked up; `pod` is this machine's own)"
            ))
        });
    }
    // Any address that is not near: TEST-NET-1 and its like of IPv6 (RFC 5737, RFC 3849).
    let far = if v6 {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
    } else {
        IpAddr::from([192, 0, 2, 1])
    };
    match ask(world, handle, far, None).await? {
        Route::To { source: Some(source), .. } => Ok(source),
        _ => Err(Error::Pod(
            "pod: there is no default route here, so no address that is the pod's".into(),
        )),
    }
}

async fn ask(
    world: &mut World,
    handle: &Handle,
    to: IpAddr,
    iif: Option<u32>,
) -> Result<Route, Error> {
    let question = Question { from: None, to, iif, oif: None, mark: 0 };
    if let Ok(route) = world.route(&question) {
        return Ok(route.clone());
    }
    let answer = route::answer(handle, &question).await?;
    world.routes.insert(question, answer.clone());
    Ok(answer)
}

fn details(wanted: &Explain, packet: &mut Packet) -> Result<(), Error> {
    if let Some(words) = &wanted.tcp_flags {
        let flags = tcp_flags(words).filter(|_| packet.protocol == TCP);
        packet.set_tcp_flags(flags.ok_or_else(|| {
            usage(format!(
                "--tcp-flags {words}: fin, syn, rst, psh, ack, urg, ecn, cwr, of a TCP packet"
            ))
        })?);
    }
    if let Some(text) = &wanted.icmp_type {
        let (word, code) = text.split_once('/').unwrap_or((text, "0"));
        let icmp = matches!(packet.protocol, ICMP | ICMP6);
        let found = icmp_type(word, packet.protocol == ICMP6).zip(decimal(code)).filter(|_| icmp);
        let (kind, code) = found.ok_or_else(|| {
            usage(format!(
                "--icmp-type {text}: TYPE or TYPE/CODE, as in echo-request or 3/1, of an ICMP packet"
            ))
        })?;
        packet.set_icmp(kind, code);
    }
    if let Some(mark) = &wanted.mark {
        packet.set_mark(number("--mark", mark)?);
    }
    wanted.length.into_iter().for_each(|length| packet.set_length(length));
    wanted.ttl.into_iter().for_each(|ttl| packet.set_ttl(ttl));
    wanted.tos.into_iter().for_each(|tos| packet.set_tos(tos));
    packet.uid = wanted.uid;
    packet.gid = wanted.gid;
    Ok(())
}

/// Decimal, or hexadecimal after `0x`.
fn number(flag: &str, text: &str) -> Result<u32, Error> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => hexadecimal(digits).and_then(|number| u32::try_from(number).ok()),
        None => decimal(text),
    };
    parsed.ok_or_else(|| usage(format!("{flag} {text}: a number of 32 bits, as 10 or 0x4000")))
}

/// What is not known of a connection that was there before.
fn connection(wanted: &Explain, packet: &mut Packet) -> Result<(), Error> {
    let found = &mut packet.connection;
    found.state = match wanted.ct_state {
        Track::New => State::New,
        Track::Established => State::Established,
        Track::Related => State::Related,
        Track::Invalid => State::Invalid,
        Track::Untracked => State::Untracked,
    };
    found.reply = wanted.reply;
    let known = found.state == State::New;
    found.zone = wanted.ct_zone;
    if !known {
        found.forget();
    }
    if let Some(words) = &wanted.ct_status {
        let bits = status_bits(words).ok_or_else(|| {
            usage(format!(
                "--ct-status {words}: expected, seen-reply, assured, confirmed, snat, dnat, dying"
            ))
        })?;
        found.status = Bits::partly(&bits.to_ne_bytes(), &STATUS_WORDS.to_ne_bytes());
    }
    if let Some(mark) = &wanted.ct_mark {
        found.mark = Bits::known(&number("--ct-mark", mark)?.to_ne_bytes());
    }
    if !known && packet.protocol == TCP && wanted.tcp_flags.is_none() {
        packet.forget_tcp_flags();
    }
    Ok(())
}

fn connection_text(wanted: &Explain, packet: &Packet) -> Option<String> {
    let first = packet.connection.state == State::New && packet.family != Family::ARP;
    let kind = match packet.protocol {
        TCP if wanted.tcp_flags.is_none() => ": a TCP SYN",
        ICMP | ICMP6 if wanted.icmp_type.is_none() => ": an echo request",
        _ => "",
    };
    first.then(|| format!("the first packet of its connection (ct state new){kind}"))
}

fn family(word: &str) -> Result<Family, Error> {
    let families =
        [Family::IP, Family::IP6, Family::INET, Family::ARP, Family::BRIDGE, Family::NETDEV];
    let found = families.into_iter().find(|family| family.to_string() == word);
    found.ok_or_else(|| usage(format!("--family {word}: ip, ip6, inet, arp, bridge or netdev")))
}

fn hook(word: &str) -> Result<Point, Error> {
    Point::ALL.into_iter().find(|point| point.to_string() == word).ok_or_else(|| {
        usage(format!(
            "--hook {word}: ingress, prerouting, input, forward, output, postrouting or egress"
        ))
    })
}

/// Where the packet begins, and its interfaces.
async fn place(
    wanted: &Explain,
    packet: &mut Packet,
    hook: Option<Point>,
    world: &mut World,
    handle: &Handle,
    assumed: &mut Vec<String>,
) -> Result<Path, Error> {
    if wanted.oif.is_some() && hook.is_none() {
        return Err(usage(
            "--oif is for --hook: on its whole way the packet leaves where it is routed".into(),
        ));
    }
    packet.oif = wanted.oif.as_deref().map(|name| named(name, world)).transpose()?;
    packet.iif = wanted.iif.as_deref().map(|name| named(name, world)).transpose()?;
    let mut local = wanted.local || hook == Some(Point::Output);
    if !local && packet.iif.is_none() && !matches!(hook, Some(Point::Egress | Point::Postrouting)) {
        match packet.source() {
            Some(from) => match ask(world, handle, from, None).await? {
                Route::To { kind: kind::LOCAL, .. } => {
                    local = true;
                    assumed.push(format!(
                        "made on this machine: {from} is its own address (--iif: it is not)"
                    ));
                }
                Route::To { link, .. } => {
                    packet.iif = world.interface(link).cloned();
                    let name = packet.iif.as_ref().map_or("?", |interface| &interface.name);
                    assumed.push(format!("comes by {name}, where the route back to {from} leads"));
                }
                Route::None(_) => {}
            },
            None => assumed.push("from anybody, by any interface (--from, --iif)".into()),
        }
    }
    packet.local = local;
    if !local {
        ether(wanted, packet, world)?;
    }
    Ok(match (hook, local) {
        (Some(point), _) => Path::Hook(point),
        (None, true) => Path::Local,
        (None, false) => Path::Arriving,
    })
}

fn named(name: &str, world: &World) -> Result<Interface, Error> {
    world.named(name).cloned().ok_or_else(|| {
        let names: Vec<&str> =
            world.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        Error::Pod(format!("no interface {name} here; there are {}", names.join(", ")))
    })
}

/// The Ethernet address of a multicast or broadcast address (RFC 1112 §6.4, RFC 2464 §7).
fn group(to: IpAddr, world: &World) -> Option<[u8; 6]> {
    match to {
        IpAddr::V4(v4) if v4.is_multicast() => {
            let [_, a, b, c] = v4.octets();
            Some([1, 0, 0x5e, a & 0x7f, b, c])
        }
        IpAddr::V6(v6) if v6.is_multicast() => {
            let [.., a, b, c, d] = v6.octets();
            Some([0x33, 0x33, a, b, c, d])
        }
        to => (world.kind_of(to, None) == kind::BROADCAST).then_some([0xff; 6]),
    }
}

/// The Ethernet header: of an arriving packet the destination is the interface's own address.
fn ether(wanted: &Explain, packet: &mut Packet, world: &World) -> Result<(), Error> {
    let has_header = packet.iif.as_ref().is_none_or(|iif| ETHERNET.contains(&iif.arp_type));
    let own =
        packet.iif.as_ref().and_then(|iif| iif.ether).filter(|_| packet.family != Family::ARP);
    let own = packet.destination().and_then(|to| group(to, world)).or(own);
    let octets = |text: &Option<String>| -> Result<Option<[u8; 6]>, Error> {
        let Some(text) = text else { return Ok(None) };
        let octet = |word| hexadecimal(word).and_then(|octet| u8::try_from(octet).ok());
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let octets = octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok());
        octets
            .map(Some)
            .ok_or_else(|| usage(format!("{text:?} is no MAC address, as in 52:54:00:12:34:56")))
    };
    let (from, to) = (octets(&wanted.ether_from)?, octets(&wanted.ether_to)?);
    if has_header {
        packet.set_ether(from, to.or(own));
        wanted.vlan.into_iter().for_each(|vlan| packet.set_vlan(vlan));
    }
    Ok(())
}
