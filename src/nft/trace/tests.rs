use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::attr::{Header, Messages, Writer};
use super::*;

const MARK: &str = "berth-trace-1";

/// IPv4, TCP, 10.0.0.9 to 10.1.1.2, ttl 63.
const NETWORK: [u8; 20] = [0x45, 0, 0, 60, 0, 0, 0x40, 0, 63, 6, 0, 0, 10, 0, 0, 9, 10, 1, 1, 2];
/// 51234 to 22, SYN.
const TRANSPORT: [u8; 20] = [0xc8, 0x22, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];

#[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
fn start() -> Instant {
    Instant::now()
}

fn encode(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.message(Header { kind: EVENT, family: 1, ..Header::default() }, fill);
    writer.into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Event> {
    Messages(bytes).next().and_then(|message| Event::decode(&message))
}

fn rule_event(id: u32, table: &str, handle: u64, verdict: i32) -> Event {
    let bytes = encode(|w| {
        w.text(1, table);
        w.text(2, "chain");
        w.u64(3, handle);
        w.u32(4, 3);
        w.nest(5, |w| w.bytes(1, &verdict.to_be_bytes()));
        w.u32(6, id);
    });
    decode(&bytes).unwrap()
}

#[test]
fn the_first_event_of_a_chain_tells_the_packet() {
    let bytes = encode(|w| {
        w.text(1, "filter");
        w.text(2, "input");
        w.u64(3, 7);
        w.u32(4, 3);
        w.nest(5, |w| {
            w.bytes(1, &(-3i32).to_be_bytes());
            w.text(2, "ssh");
        });
        w.u32(6, 0xabcd);
        w.bytes(8, &NETWORK);
        w.bytes(9, &TRANSPORT);
        w.u32(10, 2);
        // NFTA_TRACE_OIFTYPE lies between.
        w.bytes(13, &[0, 1]);
        w.u32(14, 5);
    });
    let event = decode(&bytes).unwrap();
    assert_eq!(event.step, Step::Rule { handle: 7, verdict: Verdict::Jump("ssh".into()) });
    assert_eq!((event.id, event.iif, event.oif, event.mark), (0xabcd, Some(2), None, Some(5)));
    let packet = event.packet.unwrap();
    assert_eq!(packet.from, Some("10.0.0.9".parse().unwrap()));
    assert_eq!(packet.to, Some("10.1.1.2".parse().unwrap()));
    assert_eq!((packet.ports, packet.ttl, packet.length), (Some((51_234, 22)), Some(63), Some(60)));
    assert_eq!(packet.flag_names().as_deref(), Some("syn"));
}

#[test]
fn the_code_of_an_icmp_type_is_told_where_it_says_something() {
    let name = |protocol: u8, icmp: [u8; 8]| {
        let mut network = NETWORK;
        network[9] = protocol;
        Packet::parse(&[], &network, &icmp).icmp_name().unwrap()
    };
    assert_eq!(name(1, [8, 0, 0, 0, 0, 7, 0, 1]), "echo-request id 7 seq 1");
    assert_eq!(name(1, [3, 0, 0, 0, 0, 0, 0, 0]), "destination-unreachable code 0");
    assert_eq!(name(1, [11, 0, 0, 0, 0, 0, 0, 0]), "time-exceeded code 0");
    assert_eq!(name(1, [11, 1, 0, 0, 0, 0, 0, 0]), "time-exceeded code 1");
    assert_eq!(name(1, [5, 1, 0, 0, 10, 0, 0, 1]), "redirect code 1");
    assert_eq!(name(1, [10, 0, 0, 0, 0, 0, 0, 0]), "router-solicitation");
    assert_eq!(name(58, [4, 2, 0, 0, 0, 0, 0, 0]), "parameter-problem code 2");
    assert_eq!(name(1, [200, 3, 0, 0, 0, 0, 0, 0]), "type 200 code 3");
}

/// To nft it is protocol 0, which no packet of IPv4 has.
#[test]
fn ip_is_no_protocol_to_trace_and_0_is_the_hop_by_hop_header() {
    let error = Filter::protocol("ip").unwrap_err();
    assert!(error.contains("0.0.0.0/0"), "{error}");
    assert!(Filter::protocol("+6").is_err());
    assert_eq!((Filter::protocol("hopopt"), Filter::protocol("0")), (Ok(0), Ok(0)));
    assert_eq!((Filter::protocol("TCP"), Filter::protocol("icmpv6")), (Ok(6), Ok(58)));
    assert_eq!((protocol_name(0), protocol_name(58)), ("hopopt".to_owned(), "icmpv6".to_owned()));
}

#[test]
fn a_later_fragment_has_no_ports() {
    let mut network = NETWORK;
    network[7] = 185;
    let packet = Packet::parse(&[], &network, &TRANSPORT);
    assert!(packet.fragment && packet.ports.is_none());
}

#[test]
fn a_packet_ends_when_dropped_when_its_number_comes_again_and_when_quiet() {
    let now = start();
    let mut groups = Groups::new(MARK);
    groups.add(now, rule_event(1, MARK, 3, 1), None);
    groups.add(now, rule_event(2, MARK, 3, 1), None);
    groups.add(now, rule_event(2, "filter", 9, 0), None);
    assert_eq!(groups.poll(now), None, "the first has not ended");
    groups.add(now, rule_event(1, "filter", 8, 1), Some("accept".into()));
    groups.add(now, rule_event(1, MARK, 3, 1), None);
    let first = groups.poll(now).unwrap();
    assert_eq!((first.number, first.steps.len(), first.dropped_by()), (1, 1, None));
    let second = groups.poll(now).unwrap();
    assert!(second.number == 2 && second.dropped_by().is_some());
    assert_eq!(groups.poll(now), None);
    let later = groups.deadline().unwrap();
    assert!(later > now && later < now + Duration::from_secs(1));
    assert_eq!(groups.poll(later).map(|traced| (traced.number, traced.steps.len())), Some((3, 0)));
    assert_eq!(groups.deadline(), None);
}

#[test]
fn events_of_packets_that_others_marked_are_counted_only() {
    let now = start();
    let mut groups = Groups::new(MARK);
    groups.add(now, rule_event(1, "filter", 9, 0), None);
    groups.add(now, rule_event(1, "berth-trace-2", 3, 1), None);
    assert_eq!((groups.foreign(), groups.poll(now + Duration::from_secs(9))), (1, None));
}

#[test]
fn packets_and_steps_are_bounded() {
    let now = start();
    let mut groups = Groups::new(MARK);
    for id in 0..5000 {
        groups.add(now, rule_event(id, MARK, 3, 1), None);
        while groups.poll(now).is_some() {}
    }
    assert!(groups.rest().len() <= 1024);
    groups.add(now, rule_event(1, MARK, 3, 1), None);
    for handle in 0..5000 {
        groups.add(now, rule_event(1, "filter", handle, 1), None);
    }
    let traced = groups.rest().remove(0);
    assert_eq!((traced.steps.len(), traced.more), (1024, 5000 - 1024));
}

#[test]
fn the_rule_that_marks_says_what_the_filter_says() {
    let filter = |port, iif: Option<&str>| Filter {
        from: Some("10.0.0.0/9".parse().unwrap()),
        to: Some("10.1.1.2".parse().unwrap()),
        protocol: None,
        port,
        iif: iif.map(|name| name.parse().unwrap()),
    };
    let text = ruleset(MARK, &filter(Some(53), Some("eth0"))).to_string();
    assert!(text.contains("iifname \"eth0\" ip saddr 10.0.0.0/9 ip daddr 10.1.1.2 "), "{text}");
    assert!(text.contains("flags owner") && !text.contains("hook output"), "{text}");
    assert_eq!(ruleset(MARK, &filter(Some(53), None)).tables[0].chains[1].rules.len(), 2);
    assert_eq!(ruleset(MARK, &Filter::default()).tables[0].chains[0].rules[0].exprs.len(), 3);
}

#[test]
fn filters_that_no_packet_passes_are_told() {
    let net = |text: &str| text.parse::<Net>();
    for wrong in ["10.0.0.0/33", "10.0.0.0/+8", "fd00::/129", "host", "", "10.0.0.1/"] {
        assert!(net(wrong).is_err(), "{wrong}");
    }
    let mixed = Filter { from: net("10.0.0.1").ok(), to: net("fd00::1").ok(), ..Filter::default() };
    assert!(mixed.contradiction().unwrap().contains("families"));
    let ports = Filter { protocol: Some(1), port: Some(1), ..Filter::default() };
    assert_eq!(ports.contradiction().unwrap(), "icmp has no ports");
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..20u16) {
        let mut writer = Writer::new();
        writer.message(Header { kind: EVENT, ..Header::default() }, |w| {
            w.text(1, "t");
            w.u32(4, 3);
            w.u32(6, 1);
            w.u64(3, 1);
            w.bytes(8, &bytes);
            w.bytes(kind, &bytes);
            w.raw(&bytes);
        });
        let _ = decode(&writer.into_bytes());
        let _ = Packet::parse(&bytes, &bytes, &bytes).icmp_name();
    }
}
