//! Rules written out as the kernel has them, and what becomes of a packet.

mod fib;

use std::net::IpAddr;

use super::super::expr::{CmpOp, NatKind, base, ct, meta};
use super::super::{
    Chain, Data, Element, Expr, Family, Handle, Hook, Policy, Rule, Ruleset, Set, Table, Userdata,
    Verdict, hook,
};
use super::*;

const PEER: [u8; 4] = [10, 0, 0, 9];
const POD: [u8; 4] = [10, 1, 1, 2];
const GUEST: [u8; 4] = [192, 168, 254, 2];

fn chain(name: &str, kind: &str, number: u32, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    let policy = Policy::Accept;
    let hook = Hook { kind: kind.into(), number, priority, devices: Vec::new(), policy };
    Chain { hook: Some(hook), ..plain(name, rules) }
}

fn plain(name: &str, rules: Vec<Vec<Expr>>) -> Chain {
    let rules = rules.into_iter().map(|exprs| Rule { exprs, ..Rule::default() }).collect();
    Chain {
        name: name.into(),
        hook: None,
        flags: 0,
        handle: Handle::default(),
        userdata: Userdata::default(),
        rules,
    }
}

fn table(chains: Vec<Chain>) -> Ruleset {
    let table = Table {
        family: Family::INET,
        name: "t".into(),
        flags: 0,
        userdata: Userdata::default(),
        sets: Vec::new(),
        objects: Vec::new(),
        flowtables: Vec::new(),
        handle: Handle::default(),
        chains,
    };
    Ruleset { tables: vec![table] }
}

/// A filter chain on input with these rules.
fn input(rules: Vec<Vec<Expr>>) -> Ruleset {
    table(vec![chain("in", "filter", hook::INPUT, 0, rules)])
}

fn dport(port: u16) -> Vec<Expr> {
    vec![
        Expr::Payload { base: base::TRANSPORT, offset: 2, len: 2, dreg: 1 },
        Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: port.to_be_bytes().to_vec() },
    ]
}

fn sport(port: u16) -> Vec<Expr> {
    vec![
        Expr::Payload { base: base::TRANSPORT, offset: 0, len: 2, dreg: 1 },
        Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: port.to_be_bytes().to_vec() },
    ]
}

fn state(bits: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key: ct::STATE, dreg: 1, direction: None },
        Expr::Bitwise {
            sreg: 1,
            dreg: 1,
            len: 4,
            mask: bits.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0; 4] },
    ]
}

fn dnat(to: [u8; 4]) -> Vec<Expr> {
    vec![
        Expr::Immediate { dreg: 1, data: Data::Value(to.to_vec()) },
        Expr::Nat {
            kind: NatKind::Dnat,
            family: 2,
            addr: Some(1),
            addr_max: None,
            port: None,
            port_max: None,
            flags: 0,
        },
    ]
}

fn with(mut exprs: Vec<Expr>, verdict: Verdict) -> Vec<Expr> {
    exprs.push(Expr::verdict(verdict));
    exprs
}

fn mark(value: u32) -> Vec<Expr> {
    vec![
        Expr::Immediate { dreg: 1, data: Data::Value(value.to_ne_bytes().to_vec()) },
        Expr::MetaSet { key: meta::MARK, sreg: 1 },
    ]
}

fn unknown(name: &str) -> Expr {
    Expr::Unknown { name: name.into(), bytes: Vec::new() }
}

/// From the peer to the pod's port 80, the port it comes from not given.
fn packet() -> Packet {
    let mut packet = Packet::ip(Some(PEER.into()), POD.into(), TCP);
    packet.set_ports(None, Some(80));
    packet
}

/// `pod` is here; `guest` behind interface 3.
fn world() -> World {
    let mut world = World::default();
    for (index, name) in [(1, "lo"), (2, "eth0"), (3, "br0")] {
        world.interfaces.push(Interface { index, name: name.into(), ..Interface::default() });
    }
    for (to, kind, link) in [(POD, kind::LOCAL, 2), (GUEST, kind::UNICAST, 3)] {
        let question =
            Question { from: Some(PEER.into()), to: to.into(), iif: Some(2), oif: None, mark: 0 };
        world.routes.insert(question, Route::To { kind, link, gateway: None, source: None });
    }
    world.local.push(LocalRoute { address: POD.into(), length: 32, kind: kind::LOCAL, link: 2 });
    world
}

fn walked(ruleset: &Ruleset, packet: &Packet) -> Explanation {
    let world = world();
    let mut packet = packet.clone();
    packet.iif = world.interface(2).cloned();
    explain(ruleset, &world, &packet, Path::Arriving, None).expect("all routes are known")
}

fn outcome(ruleset: &Ruleset, packet: &Packet) -> (Outcome, String) {
    let found = walked(ruleset, packet);
    (found.outcome, found.why)
}

#[test]
fn a_rule_that_turns_on_what_is_not_known_leaves_the_answer_open() {
    let rules = input(vec![with(sport(1024), Verdict::Drop)]);
    let (found, why) = outcome(&rules, &packet());
    assert_eq!(found, Outcome::CannotTell);
    assert!(
        why.starts_with("th sport is not known") || why.starts_with("tcp sport is not known"),
        "{why}"
    );
    let mut told = packet();
    told.set_ports(Some(1024), None);
    assert_eq!(outcome(&rules, &told).0, Outcome::Dropped);
    told.set_ports(Some(1025), None);
    assert_eq!(outcome(&rules, &told).0, Outcome::Accepted);
}

#[test]
fn a_doubt_is_nothing_where_another_part_of_the_rule_says_no() {
    let mut exprs = sport(1024);
    exprs.extend(dport(81));
    assert_eq!(outcome(&input(vec![with(exprs, Verdict::Drop)]), &packet()).0, Outcome::Accepted);
    let mut exprs = vec![Expr::Socket { key: 0, dreg: 1, level: None }];
    exprs.extend(dport(81));
    assert_eq!(outcome(&input(vec![with(exprs, Verdict::Drop)]), &packet()).0, Outcome::Accepted);
}

#[test]
fn a_mark_that_may_have_been_set_is_not_known() {
    let mut maybe = sport(1024);
    maybe.extend(mark(4));
    let marked = |value: u32| {
        let read = Expr::Meta { key: meta::MARK, dreg: 1 };
        let cmp = Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: value.to_ne_bytes().to_vec() };
        with(vec![read, cmp], Verdict::Drop)
    };
    assert_eq!(outcome(&input(vec![maybe.clone(), marked(4)]), &packet()).0, Outcome::CannotTell);
    // Neither 0 nor 4 has this bit.
    assert_eq!(outcome(&input(vec![maybe, marked(1)]), &packet()).0, Outcome::Accepted);
}

#[test]
fn an_expression_of_tomorrow_is_named() {
    let rules = input(vec![with(vec![unknown("nosuch")], Verdict::Drop)]);
    let (found, why) = outcome(&rules, &packet());
    assert_eq!(found, Outcome::CannotTell);
    assert!(why.starts_with("expression nosuch is not understood"), "{why}");
}

#[test]
fn nat_comes_at_its_own_place_whatever_the_chains_priority() {
    // Its own priority would put it before the filter chain at -120.
    let rules = table(vec![
        chain("nat", "nat", hook::PREROUTING, -150, vec![dnat(GUEST)]),
        chain("pre", "filter", hook::PREROUTING, -120, vec![with(daddr(GUEST), Verdict::Drop)]),
        chain("fwd", "filter", hook::FORWARD, 0, vec![]),
    ]);
    let found = walked(&rules, &packet());
    assert_eq!(
        (found.outcome, found.end.destination()),
        (Outcome::Accepted, Some(IpAddr::from(GUEST)))
    );
    assert_eq!(found.why, "leaves by br0 as 10.0.0.9:? -> 192.168.254.2:80/tcp");
}

fn daddr(address: [u8; 4]) -> Vec<Expr> {
    vec![
        Expr::Payload { base: base::NETWORK, offset: 16, len: 4, dreg: 1 },
        Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: address.to_vec() },
    ]
}

#[test]
fn of_equal_priorities_the_later_chain_comes_first() {
    let rules = table(vec![
        chain("first", "filter", hook::INPUT, 0, vec![with(vec![], Verdict::Drop)]),
        chain("second", "filter", hook::INPUT, 0, vec![mark(1)]),
    ]);
    let found = walked(&rules, &packet());
    let names: Vec<&str> = found
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Chain { chain, .. } => Some(chain.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!((names, found.outcome), (vec!["second", "first"], Outcome::Dropped));
}

#[test]
fn conntrack_is_not_there_before_its_place() {
    let drop_new = |priority| {
        let rules = vec![with(state(8), Verdict::Drop)];
        table(vec![chain("c", "filter", hook::PREROUTING, priority, rules)])
    };
    assert_eq!(outcome(&drop_new(-300), &packet()).0, Outcome::Accepted);
    assert_eq!(outcome(&drop_new(-150), &packet()).0, Outcome::Dropped);
    let untracked = table(vec![
        chain("raw", "filter", hook::PREROUTING, -300, vec![vec![Expr::Notrack]]),
        chain("nat", "nat", hook::PREROUTING, -100, vec![dnat(GUEST)]),
        chain("in", "filter", hook::INPUT, 0, vec![with(state(0x40), Verdict::Drop)]),
    ]);
    assert_eq!(outcome(&untracked, &packet()).0, Outcome::Dropped, "an untracked packet met nat");
}

#[test]
fn later_packets_are_rewritten_as_the_first_was_and_replies_are_not_guessed() {
    let rules = table(vec![chain("nat", "nat", hook::PREROUTING, -100, vec![dnat(GUEST)])]);
    let mut later = packet();
    later.connection.state = State::Established;
    later.connection.status = Bits::unknown(4);
    assert_eq!(walked(&rules, &later).end.destination(), Some(GUEST.into()));
    // Neither dnat nor snat.
    later.connection.status = Bits::known(&6_u32.to_ne_bytes());
    assert_eq!(walked(&rules, &later).end.destination(), Some(POD.into()));
    later.connection.status = Bits::known(&0x20_u32.to_ne_bytes());
    later.connection.reply = true;
    // Of a reply dnat concerns the source, and snat the destination.
    let found = walked(&rules, &later);
    assert_eq!(
        (found.outcome, found.end.source(), found.end.destination()),
        (Outcome::Accepted, None, Some(POD.into()))
    );
    later.connection.status = Bits::known(&0x10_u32.to_ne_bytes());
    let found = walked(&rules, &later);
    assert_eq!(found.outcome, Outcome::CannotTell);
    let said = |step: &Step| matches!(step, Step::Note(text) if text.contains("destination of replies back"));
    assert!(found.steps.iter().any(said), "{found:?}");
}

#[test]
fn jumps_come_back_and_gotos_do_not() {
    let to = |verdict| vec![Expr::verdict(verdict)];
    let sub =
        plain("sub", vec![with(dport(81), Verdict::Drop), to(Verdict::Return), to(Verdict::Drop)]);
    let base = |first: Verdict| {
        let rules = vec![to(first), to(Verdict::Drop)];
        table(vec![sub.clone(), chain("in", "filter", hook::INPUT, 0, rules)])
    };
    assert_eq!(outcome(&base(Verdict::Jump("sub".into())), &packet()).0, Outcome::Dropped);
    assert_eq!(outcome(&base(Verdict::Goto("sub".into())), &packet()).0, Outcome::Accepted);
    assert_eq!(outcome(&base(Verdict::Jump("absent".into())), &packet()).0, Outcome::CannotTell);
    let around = plain("sub", vec![to(Verdict::Jump("sub".into()))]);
    let endless = table(vec![
        around,
        chain("in", "filter", hook::INPUT, 0, vec![to(Verdict::Jump("sub".into()))]),
    ]);
    let (found, why) = outcome(&endless, &packet());
    assert!(found == Outcome::CannotTell && why.contains("jumps"), "{why}");
}

#[test]
fn accept_ends_a_chain_and_drop_all_of_them() {
    let one = |name, verdict| chain(name, "filter", hook::INPUT, 0, vec![with(vec![], verdict)]);
    let rules = |a, b| table(vec![one("b", b), one("a", a)]);
    assert_eq!(outcome(&rules(Verdict::Accept, Verdict::Drop), &packet()).0, Outcome::Dropped);
    assert_eq!(walked(&rules(Verdict::Drop, Verdict::Accept), &packet()).steps.len(), 2);
}

#[test]
fn a_verdict_map_tells_its_verdict() {
    let element = |port: u16, verdict| Element {
        key: port.to_be_bytes().to_vec(),
        data: Some(Data::Verdict(verdict)),
        ..Element::default()
    };
    let elements = vec![element(22, Verdict::Accept), element(80, Verdict::Drop)];
    let load = Expr::Payload { base: base::TRANSPORT, offset: 2, len: 2, dreg: 1 };
    let lookup = Expr::Lookup { set: "m".into(), sreg: 1, dreg: Some(0), inverted: false };
    let mut rules = input(vec![vec![load, lookup]]);
    for table in &mut rules.tables {
        table.sets.push(Set {
            name: "m".into(),
            key_len: 2,
            elements: elements.clone(),
            ..Set::default()
        });
    }
    let found = walked(&rules, &packet());
    assert_eq!(found.outcome, Outcome::Dropped);
    let text = Paint { explanation: &found, colours: false }.to_string();
    assert!(text.contains("is 80: drop"), "{text}");
}

#[test]
fn a_dormant_table_sees_nothing() {
    let mut rules = input(vec![with(vec![], Verdict::Drop)]);
    assert_eq!(outcome(&rules, &packet()).0, Outcome::Dropped);
    for table in &mut rules.tables {
        table.flags = 1;
    }
    assert_eq!(outcome(&rules, &packet()).0, Outcome::Accepted);
}

#[test]
fn a_route_that_is_not_known_is_asked_for() {
    let question = explain(&Ruleset::default(), &World::default(), &packet(), Path::Arriving, None)
        .expect_err("nobody has said where it goes");
    let wanted =
        Question { from: Some(PEER.into()), to: POD.into(), iif: None, oif: None, mark: 0 };
    assert_eq!(question, wanted);
}

#[test]
fn nothing_that_a_kernel_may_say_stops_the_walk() {
    // Registers, offsets and lengths of nobody's design.
    let odd = [0, 1, 4, 5, 7, 8, 23, 24, 1000, u32::MAX];
    for a in odd {
        for b in odd {
            let exprs = vec![
                Expr::Payload { base: a, offset: b, len: a, dreg: b },
                Expr::Meta { key: a, dreg: b },
                Expr::Ct { key: a, dreg: b, direction: Some(7) },
                Expr::Rt { key: a, dreg: b },
                Expr::Bitwise { sreg: a, dreg: b, len: a.min(100), mask: vec![1; 3], xor: vec![] },
                Expr::Byteorder { sreg: a, dreg: b, hton: true, len: b.min(100), size: a },
                Expr::Cmp { sreg: a, op: CmpOp::Lte, data: vec![0; 100] },
            ];
            for expr in exprs {
                let _ = walked(&input(vec![vec![expr]]), &packet());
            }
        }
    }
}

/// What is above IP, ARP has not: a rule about it does not match, whichever way round it is.
#[test]
fn arp_has_no_ports_and_no_protocol_above_ip() {
    let mut arp = Packet::arp(Some(PEER.into()), POD.into(), 1);
    arp.iif = world().interface(2).cloned();
    let port_is_not = vec![
        Expr::Payload { base: base::TRANSPORT, offset: 2, len: 2, dreg: 1 },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0, 22] },
    ];
    let protocol_is_not = vec![
        Expr::Meta { key: meta::L4PROTO, dreg: 1 },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![6] },
    ];
    for exprs in [port_is_not, protocol_is_not] {
        let mut rules =
            table(vec![chain("c", "filter", hook::FORWARD, 0, vec![with(exprs, Verdict::Drop)])]);
        rules.tables[0].family = Family::BRIDGE;
        let path = Path::Hook(Point::Forward);
        let found =
            explain(&rules, &world(), &arp, path, Some(Family::BRIDGE)).expect("nothing is routed");
        assert_eq!(found.outcome, Outcome::Accepted, "{found:?}");
    }
}

/// To whom a frame is, its Ethernet address says, not its IP address.
#[test]
fn the_packet_type_is_that_of_the_frame() {
    let rule = |kind: u8| {
        let read = Expr::Meta { key: meta::PKTTYPE, dreg: 1 };
        with(vec![read, Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![kind] }], Verdict::Drop)
    };
    let mut world = world();
    world.interfaces[1].ether = Some([2, 0, 0, 0, 0, 1]);
    for (to, kind) in [
        ([2, 0, 0, 0, 0, 1], 0),
        ([0xff; 6], 1),
        ([1, 0, 0x5e, 0, 0, 1], 2),
        ([2, 0, 0, 0, 0, 2], 3),
    ] {
        let mut packet = packet();
        packet.iif = world.interface(2).cloned();
        packet.set_ether(None, Some(to));
        for other in 0..4 {
            let rules = table(vec![chain("c", "filter", hook::PREROUTING, 0, vec![rule(other)])]);
            let found = explain(&rules, &world, &packet, Path::Hook(Point::Prerouting), None)
                .expect("no routes");
            assert_eq!(found.outcome == Outcome::Dropped, other == kind, "{to:?} {other}");
        }
    }
}

#[test]
fn a_port_has_its_bridges_name_and_no_other_interface_has_one() {
    let mut world = world();
    let mut port =
        Interface { index: 4, name: "tap0".into(), master: Some(3), ..Interface::default() };
    world.interfaces[2].kind = "bridge".into();
    world.interfaces.push(port.clone());
    let read = Expr::Meta { key: 17, dreg: 1 };
    let is_br0 = Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: words::interface("br0") };
    let rule = with(vec![read, is_br0], Verdict::Drop);
    let mut rules = table(vec![chain("c", "filter", hook::FORWARD, 0, vec![rule])]);
    rules.tables[0].family = Family::BRIDGE;
    let outcome = |iif: &Interface| {
        let mut packet = packet();
        packet.iif = Some(iif.clone());
        let path = Path::Hook(Point::Forward);
        explain(&rules, &world, &packet, path, Some(Family::BRIDGE))
            .expect("nothing is routed")
            .outcome
    };
    assert_eq!(outcome(&port), Outcome::Dropped);
    port.master = None;
    assert_eq!(outcome(&port), Outcome::Accepted);
}

#[test]
fn every_name_that_nft_has_for_an_icmp_type_is_taken() {
    use super::super::names::Type;
    for (of, v6) in [(Type::IcmpType, false), (Type::Icmpv6Type, true)] {
        assert!(!of.symbols().is_empty());
        for (number, word) in of.symbols() {
            assert_eq!(icmp_type(word, v6).map(u32::from), Some(*number), "{word}");
        }
    }
}

/// nft's words, as a listing of the rule has them: `icmp type is 13`, `ip dscp & 0xfc` were ours alone.
#[test]
fn a_rule_that_does_not_match_is_explained_in_the_words_of_its_listing() {
    let payload = |base, offset, len| Expr::Payload { base, offset, len, dreg: 1 };
    let is = |data: &[u8]| Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: data.to_vec() };
    let and = |mask: &[u8]| {
        let len = u32::try_from(mask.len()).unwrap();
        Expr::Bitwise { sreg: 1, dreg: 1, len, mask: mask.to_vec(), xor: vec![0; mask.len()] }
    };
    let mut ping = packet();
    ping.protocol = 1;
    ping.set_icmp(8, 0);
    let mut urgent = packet();
    urgent.set_tos(0xb8);
    urgent.set_tcp_flags(0x10);
    for (packet, rule, wanted) in [
        (
            &ping,
            vec![payload(base::TRANSPORT, 0, 1), is(&[13])],
            "icmp type is echo-request, not timestamp-request",
        ),
        (
            &ping,
            vec![Expr::Meta { key: meta::L4PROTO, dreg: 1 }, is(&[89])],
            "meta l4proto is icmp, not ospf",
        ),
        (
            &urgent,
            vec![payload(base::NETWORK, 1, 1), and(&[0xfc]), is(&[0x2c << 2])],
            "ip dscp is ef, not va",
        ),
        (
            &urgent,
            vec![payload(base::TRANSPORT, 13, 1), and(&[0x12]), is(&[2])],
            "tcp flags is ack; & syn,ack it is ack, not syn",
        ),
        (
            &urgent,
            vec![payload(base::NETWORK, 12, 1), is(&[11])],
            "ip saddr is 10.0.0.9, not 11.0.0.0/8",
        ),
    ] {
        let explained = explain(
            &input(vec![with(rule, Verdict::Drop)]),
            &world(),
            packet,
            Path::Hook(Point::Input),
            None,
        );
        let steps = explained.expect("nothing is routed").steps;
        let why = steps.iter().find_map(|step| match step {
            Step::Chain { rules, .. } => rules.first().and_then(|met| met.why.clone()),
            _ => None,
        });
        assert_eq!(why.as_deref(), Some(wanted));
    }
}
