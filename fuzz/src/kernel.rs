//! The kernel's messages beside those of a dump, rules that people write, and packets walked through them. Parts of all
//! these are the guest's: packets in traces, names and addresses in connections.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use berth::net::{Mapping, Mapping6, Port, Transport};
use berth::nft::attr::Messages;
use berth::nft::compile::compile;
use berth::nft::dump::{Dump, Filter};
use berth::nft::explain::{
    self, Bits, Interface, LocalRoute, Packet, Path, Point, Route, State, World,
};
use berth::nft::trace::{Event, Groups, Packet as Traced};
use berth::nft::{Batch, Family, Ruleset, conntrack, hooks};
use berth::plan::nat;
use berth::sys::{route, rule};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

/// Events of nftables' tracing, put together to packets: each packet that began is told once.
pub fn nft_trace(now: Instant, data: &[u8]) {
    let mut groups = Groups::new("berth-trace-1");
    let (mut events, mut told) = (0, Vec::new());
    for (step, message) in Messages(data).enumerate() {
        let now = now + Duration::from_millis(20 * step as u64);
        if let Some(event) = Event::decode(&message) {
            events += 1;
            groups.add(now, event, None);
        }
        told.extend(std::iter::from_fn(|| groups.poll(now)));
    }
    told.extend(groups.rest());
    assert!(told.iter().map(|packet| packet.number).eq(1..=told.len() as u64));
    let steps: usize = told.iter().map(|packet| packet.steps.len() + packet.more + 1).sum();
    assert!(steps as u64 + groups.foreign() <= events);
    for packet in told.iter().filter_map(|told| told.first.packet.as_ref()) {
        let _ = (packet.flag_names(), packet.icmp_name());
    }
}

/// The headers of a packet as a trace has them: a length octet before the link's and the network's.
pub fn trace_packet(data: &[u8]) {
    let part = |data: &[u8]| -> (Vec<u8>, Vec<u8>) {
        let Some((&length, rest)) = data.split_first() else { return Default::default() };
        let (part, rest) = rest.split_at(rest.len().min(length.into()));
        (part.to_vec(), rest.to_vec())
    };
    let (link, rest) = part(data);
    let (network, transport) = part(&rest);
    let packet = Traced::parse(&link, &network, &transport);
    assert!(packet.ether.is_none() || link.len() >= 14);
    assert!(packet.from.is_none() || network.len() >= 20);
    assert!(packet.tcp_flags.is_none() || transport.len() >= 14);
    assert_eq!(packet.from.map(|from| from.is_ipv6()), packet.to.map(|to| to.is_ipv6()));
    let _ = (packet.flag_names(), packet.icmp_name());
}

/// Connections: a request to delete one names it as the kernel did.
pub fn conntrack(data: &[u8]) {
    let (pod, guest) = (Ipv4Addr::new(10, 244, 7, 2), Ipv4Addr::new(192, 168, 254, 2));
    let reserved = vec![Port { transport: Transport::Tcp, number: 5900 }];
    let gateway = Ipv4Addr::new(192, 168, 254, 1);
    let six = Mapping6 {
        pod: vec!["2001:db8::2".parse().expect("an address")],
        guest: "fd00:6be::2".parse().expect("an address"),
        gateway: "fd00:6be::1".parse().expect("an address"),
    };
    let mapping = Mapping { pod: vec![pod], guest, gateway, reserved, six: Some(six) };
    for message in Messages(data) {
        let found = [
            conntrack::stale(&message, &mapping),
            conntrack::translated(&message, &[pod.into(), guest.into()]),
        ];
        for stale in found.into_iter().flatten() {
            let request = stale.delete_request(7);
            let mut again = Messages(&request);
            let asked = again.next().expect("a message");
            assert!(again.next().is_none() && asked.sequence == 7);
            let (asked, told) = (asked.attributes(), message.attributes());
            for kind in [1, 12, 18] {
                assert_eq!(asked.value(kind), told.value(kind), "attribute {kind}");
            }
        }
    }
}

/// Base hooks (NFNL_SUBSYS_HOOK).
pub fn nft_hooks(data: &[u8]) {
    for query in hooks::queries(None, Some("eth0"), &["eth0".into(), "br0".into()]) {
        let entries: Vec<_> = Messages(data).filter_map(|message| query.entry(&message)).collect();
        assert!(hooks::text(&entries).len() <= 200 * entries.len() + 4 * data.len() + 200);
    }
}

/// Transactions as they are heard: the ruleset that comes of them can be told and sent.
pub fn nft_replay(data: &[u8]) {
    let mut ruleset = Ruleset::default();
    Messages(data).for_each(|message| ruleset.replay(&message));
    let rules: usize =
        ruleset.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    assert!(rules <= data.len() / 16);
    let _ = ruleset.to_string();
    let _ = Batch::replace(&ruleset, &ruleset.canonical(), Some(1), 1);
}

/// rtnetlink: links, addresses, routes, rules, neighbours. A rule of policy routing is carried over as it is.
pub fn rtnetlink(mut data: &[u8]) {
    let (mut links, mut addresses, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(length) = data.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(message) = data.get(..length) else { break };
        let read = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message);
        if let Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(message), .. }) = read {
            match message {
                RouteNetlinkMessage::NewLink(link) => links.push(link),
                RouteNetlinkMessage::NewAddress(address) => addresses.push(address),
                RouteNetlinkMessage::NewRoute(route) => routes.push(route),
                RouteNetlinkMessage::NewRule(message) => {
                    let read = rule::read(&message);
                    if let Ok(written) = rule::write(&read) {
                        assert_eq!(rule::read(&written), read);
                    }
                    let _ = read.to_string();
                }
                _ => {}
            }
        }
        data = data.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
    }
    let world = route::read(&links, &addresses, &routes);
    assert!(world.interfaces.len() == links.len() && world.local.len() <= routes.len());
}

/// A ruleset that people write in nft's JSON: compiled the same twice, and what was compiled can be sent.
pub fn extra_rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let compiled = compile(text, nat::is_ours);
    assert_eq!(compiled, compile(text, nat::is_ours));
    match compiled {
        Ok(ruleset) => {
            let Ok(batch) = Batch::replace(&ruleset, &Ruleset::default(), Some(1), 1) else {
                return;
            };
            let mut dump = Dump::new(Filter::default());
            Messages(batch.bytes()).for_each(|message| dump.add(&message));
            let tables: Vec<_> =
                ruleset.tables.iter().map(|table| (table.family, &table.name)).collect();
            let found = dump.finish();
            assert!(found.tables.iter().all(|table| tables.contains(&(table.family, &table.name))));
        }
        Err(error) => assert!(error.to_string().len() <= 4 * data.len() + 400),
    }
}

fn interface(index: u32, name: &str, arp_type: u16) -> Interface {
    let ether = Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap_or(0)]);
    Interface { index, name: name.to_owned(), arp_type, ether, ..Interface::default() }
}

fn world() -> World {
    let interfaces = vec![interface(1, "lo", 772), interface(2, "eth0", 1), interface(3, "br0", 1)];
    let local = vec![
        LocalRoute { address: [127, 0, 0, 0].into(), length: 8, kind: 2, link: 1 },
        LocalRoute { address: [10, 244, 7, 2].into(), length: 32, kind: 2, link: 2 },
        LocalRoute { address: [192, 168, 254, 1].into(), length: 32, kind: 2, link: 3 },
    ];
    World { interfaces, local, ..World::default() }
}

/// A packet and where it begins, in eight octets.
fn packet(octets: [u8; 8], world: &World) -> (Packet, Path, Option<Family>) {
    let [shape, protocol, from, to, high, low, flags, path] = octets;
    let ip = |last: u8| match last >> 6 {
        0 => Ipv4Addr::new(10, 244, 7, last),
        1 => Ipv4Addr::new(192, 168, 254, last & 3),
        2 => Ipv4Addr::new(127, 0, 0, last & 1),
        _ => Ipv4Addr::new(8, 8, last, 8),
    };
    let family = |address: Ipv4Addr| {
        if shape & 1 == 0 { address.into() } else { address.to_ipv6_mapped().into() }
    };
    let source = (shape & 2 == 0).then(|| family(ip(from)));
    let mut packet = match shape >> 6 {
        3 => Packet::arp(
            (shape & 2 == 0).then(|| ip(from).into()),
            ip(to).into(),
            (flags & 3).into(),
        ),
        _ => Packet::ip(source, family(ip(to)), protocol),
    };
    if packet.has_ports() {
        packet.set_ports(
            (shape & 4 == 0).then_some(high.into()),
            Some(u16::from_be_bytes([high, low])),
        );
    }
    match protocol {
        explain::TCP if shape & 8 == 0 => packet.set_tcp_flags(flags),
        explain::ICMP | explain::ICMP6 => packet.set_icmp(high, low),
        _ => {}
    }
    if shape & 16 != 0 {
        packet.iif = world.interface(u32::from(low % 4)).cloned();
        packet.oif = world.interface(u32::from(high % 4)).cloned();
        packet.set_ether(Some([2, 0, 0, 0, 0, low]), None);
    }
    if shape & 32 != 0 {
        packet.set_ttl(low);
        packet.set_length(u16::from_be_bytes([high, low]));
        packet.mark = Bits::unknown(4);
        packet.connection.forget();
    }
    let states = [State::New, State::Established, State::Related, State::Invalid, State::Untracked];
    packet.connection.state = states.get(usize::from(flags >> 5)).copied().unwrap_or_default();
    packet.local = path & 8 != 0;
    let families =
        [Family::IP, Family::IP6, Family::INET, Family::ARP, Family::BRIDGE, Family::NETDEV];
    let family = families.get(usize::from(path >> 5)).copied();
    let path = match path & 7 {
        at @ 0..7 if shape >> 6 != 0 => Path::Hook(Point::ALL[usize::from(at)]),
        _ if packet.local => Path::Local,
        _ => Path::Arriving,
    };
    (packet, path, family)
}

/// Whatever the kernel says is loaded, and whatever packet: an explanation, the same when it is asked for again.
pub fn explain(data: &[u8]) {
    let Some((octets, data)) = data.split_first_chunk::<8>() else { return };
    let mut dump = Dump::new(Filter::default());
    Messages(data).for_each(|message| dump.add(&message));
    let ruleset = dump.finish();
    let mut world = world();
    let (packet, path, family) = packet(*octets, &world);
    for _ in 0..16 {
        let found = explain::explain(&ruleset, &world, &packet, path, family);
        assert_eq!(found, explain::explain(&ruleset, &world, &packet, path, family));
        match found {
            Ok(explanation) => {
                let text = explain::Paint { explanation: &explanation, colours: false }.to_string();
                assert!(!text.is_empty() && !explanation.why.is_empty());
                serde_json::to_vec(&explanation).expect("JSON");
                return;
            }
            Err(question) => {
                assert!(!world.routes.contains_key(&question), "asked twice");
                let link = 1 + question.mark % 3;
                let answer = Route::To {
                    kind: 1,
                    link,
                    gateway: None,
                    source: Some([10, 244, 7, 2].into()),
                };
                world.routes.insert(question, answer);
            }
        }
    }
}
