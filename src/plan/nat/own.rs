//! The guest has the pod's own IPv6 address: its packets are handed on as they are, and IPv6 forwarding stays 0.
//!
//! ```text
//! table netdev   what comes by the uplink  ── TCP, UDP, whole, not the pod's own flow ──── fwd ► tap
//!                what comes by the tap     ── from the guest's address to the world ────── fwd ► uplink
//!                what the pod itself sends ── its flow is remembered in a set
//! table ip6      the rest of it, and all of it where the kernel has no netdev table: fragments put together,
//!                errors, pings, other protocols. Connection tracking knows the pod's own; the others are sent
//!                on by dup, and dropped
//! ```
//!
//! A packet that is handed on loses one of its hop limit, meets no NAT and costs no entry of connection tracking.
//! Both tables name interfaces by their numbers, which are known once the links are there (`kernel`).

use std::net::Ipv6Addr;

use crate::net::Ipv6Prefix;
use crate::nft::build::{
    IPV6, and, any_bit, cmp, ct_state, equal, immediate, load_meta, load_network, load_transport,
    meta_l4proto, prefix_mask,
};
use crate::nft::expr::{CmpOp, Extension, base, meta};
use crate::nft::{Chain, Expr, Family, Hook, Policy, Rule, Set, Table, Verdict, hook, set};
use crate::plan::ipv6::{NETWORK, Own, ROUTER};

use super::kernel::{BRIDGE, TAP};
use super::matches::{ESTABLISHED, RELATED, TCP, dropped, interface};
use super::{Build, Names, TRANSPORTS, empty_table, ports_of};

/// Of the IPv6 header (RFC 8200 §3): saddr, daddr, hop limit.
pub(super) const SADDR6: u32 = 8;
pub(super) const DADDR6: u32 = 24;
const HOP_LIMIT: u32 = 7;
const ADDRESS: u32 = 16;
pub(super) const ICMPV6: u8 = 58;
const UDP: u8 = 17;
/// Fragment header (RFC 8200 §4.5).
const FRAGMENT: u8 = 44;
const TCP_FIN_OR_RST: u8 = 0x05;
const TCP_SYN_OR_PSH: u8 = 0x0a;
/// fe80::/10 and ff00::/8 (RFC 4291 §2.4).
pub(super) const LINK_LOCAL: Ipv6Prefix = Ipv6Prefix { address: ROUTER, length: 10 };
pub(super) const MULTICAST: Ipv6Prefix =
    Ipv6Prefix { address: Ipv6Addr::from_bits(0xff << 120), length: 8 };
/// ETH_P_IPV6 (linux/if_ether.h).
const ETHERTYPE: [u8; 2] = [0x86, 0xdd];
/// Router solicitation to redirect (RFC 4861 §4).
const NEIGHBOUR_DISCOVERY: [u8; 5] = [133, 134, 135, 136, 137];

/// NF_NETDEV_INGRESS and _EGRESS (linux/netfilter_netdev.h).
const INGRESS: u32 = 0;
const EGRESS: u32 = 1;
/// NF_IP6_PRI_RAW after fragments are put together, before connection tracking, and NF_IP6_PRI_MANGLE behind it.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_MANGLE: i32 = -150;

/// What the guest sends on has it between tap and uplink: the pod's own packets have not.
const MARK: u32 = 0x6265_7274;
/// The pod's own flows: address and port of the other end, protocol, own port.
const FLOWS: &str = "flows";
/// Flows at once: some 150 octets of the kernel's memory for each.
const MAX_FLOWS: u32 = 65_536;
/// How long a flow is remembered that is heard nothing of: one of TCP that stands, one that ends or begins, one of UDP
/// (nf_conntrack_udp_timeout_stream is 120 s).
const STANDING: u64 = 24 * 3600 * 1000;
const ENDING: u64 = 120 * 1000;
const BEGINNING: u64 = 600 * 1000;
const DATAGRAMS: u64 = 180 * 1000;
/// NFT_DYNSET_OP_UPDATE.
const UPDATE: u32 = 1;

/// `ip6 saddr …` or `ip6 daddr …`, of a packet that is known to be IPv6's.
pub(super) fn field6(offset: u32, address: Ipv6Addr) -> [Expr; 2] {
    [load_network(offset, ADDRESS), cmp(CmpOp::Eq, address.octets().to_vec())]
}

/// Within a network.
pub(super) fn within6(offset: u32, network: Ipv6Prefix) -> Vec<Expr> {
    let mask = prefix_mask(16, network.length.into()).unwrap_or_default();
    let first = network.network().octets().to_vec();
    vec![load_network(offset, ADDRESS), and(mask), cmp(CmpOp::Eq, first)]
}

/// `fwd ip6 to ADDRESS device INDEX`
fn fwd(to: Next, index: u32) -> Vec<Expr> {
    let address = match to {
        Next::Hop(address) => immediate(2, address.octets().to_vec()),
        Next::Destination => {
            Expr::Payload { base: base::NETWORK, offset: DADDR6, len: 16, dreg: 2 }
        }
    };
    vec![
        immediate(1, index.to_ne_bytes().to_vec()),
        address,
        Expr::Fwd { device: 1, addr: Some(2), family: Some(u32::from(IPV6)) },
    ]
}

/// `dup to ADDRESS device INDEX drop`
fn dup(to: Next, index: u32) -> Vec<Expr> {
    let address = match to {
        Next::Hop(address) => immediate(1, address.octets().to_vec()),
        Next::Destination => load_network(DADDR6, ADDRESS),
    };
    vec![
        address,
        immediate(2, index.to_ne_bytes().to_vec()),
        Expr::Dup { addr: Some(1), device: Some(2) },
        Expr::verdict(Verdict::Drop),
    ]
}

/// Whom a packet is handed to.
#[derive(Clone, Copy)]
enum Next {
    Hop(Ipv6Addr),
    /// It is on the link.
    Destination,
}

/// The tables beside that of family inet.
pub(super) fn tables(names: Names, own: &Own, owned: bool) -> [Table; 2] {
    let mut netdev = Build { table: empty_table(Family::NETDEV, owned), names };
    netdev.netdev(own);
    let mut ip6 = Build { table: empty_table(Family::IP6, owned), names: netdev.names };
    ip6.ip6(own);
    [netdev.table, ip6.table]
}

impl Build {
    fn netdev(&mut self, own: &Own) {
        self.table.sets.push(flows());
        let (uplink, tap) = (self.names.uplink.to_string(), self.names.tap.to_string());
        let arrived = self.arrived(own);
        self.device_chain("uplink", INGRESS, &uplink, arrived);
        let rules = self.pods_own();
        self.table.chains.push(Chain { rules, ..Chain::new("pods-own", None) });
        let sent = self.sent(own);
        self.device_chain("pod", EGRESS, &uplink, sent);
        let left = self.left(own);
        self.device_chain("guest", INGRESS, &tap, left);
    }

    /// What comes by the uplink.
    fn arrived(&mut self, own: &Own) -> Vec<Rule> {
        let others = self.not_of_pod(DADDR6, own);
        let mut rare = vec![load_meta(meta::L4PROTO)];
        rare.push(self.none_of([vec![TCP], vec![UDP]].into_iter()));
        rare.push(Expr::verdict(Verdict::Accept));
        let mut part = fragment();
        part.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![
            not_ipv6(),
            Rule::new(others, "not to the pod's address"),
            Rule::new(rare, "pings, errors, neighbours: the slow way"),
            Rule::new(part, "a part of a packet: the slow way"),
        ];
        rules.extend(self.reserved6(2, &[Expr::counter(), Expr::verdict(Verdict::Accept)]));
        let mut known = self.is6();
        known.extend(flow(SADDR6, 2, 0));
        known.push(Expr::Lookup { set: FLOWS.to_owned(), sreg: 1, dreg: None, inverted: false });
        known.push(Expr::verdict(Verdict::Goto("pods-own".to_owned())));
        rules.push(Rule::new(known, "of a flow of the pod's own"));
        let mut on = vec![Expr::counter()];
        on.extend(fwd(Next::Hop(own.alias()), TAP));
        rules.push(Rule::new(on, "to the guest"));
        rules
    }

    /// Of a flow of the pod's own: for how long it is remembered, by what comes.
    fn pods_own(&self) -> Vec<Rule> {
        let mut rules = updates(SADDR6, 2, 0);
        rules.push(Rule::new(
            vec![Expr::counter(), Expr::verdict(Verdict::Accept)],
            "of a flow of the pod's own",
        ));
        rules
    }

    /// What leaves by the uplink.
    fn sent(&mut self, own: &Own) -> Vec<Rule> {
        let mark = |value: u32| value.to_ne_bytes().to_vec();
        let mut guests = equal(load_meta(meta::MARK), mark(MARK)).to_vec();
        guests.extend([
            immediate(1, mark(0)),
            Expr::MetaSet { key: meta::MARK, sreg: 1 },
            Expr::verdict(Verdict::Accept),
        ]);
        let others = self.not_of_pod(SADDR6, own);
        let mut rules = vec![
            Rule::new(guests, "from the guest"),
            not_ipv6(),
            Rule::new(others, "not from the pod's address"),
        ];
        rules.extend(self.reserved6(0, &[Expr::verdict(Verdict::Accept)]));
        rules.extend(updates(DADDR6, 0, 2));
        rules
    }

    /// What comes by the tap.
    fn left(&mut self, own: &Own) -> Vec<Rule> {
        let others = self.not_of_pod(SADDR6, own);
        let mut rules = vec![
            untagged_ipv6_alone(),
            Rule::new(others, "not from the guest's address: to the pod's stack, if to anybody"),
        ];
        rules.extend(self.near(own, &[Expr::verdict(Verdict::Accept)]));
        rules.extend(self.refused6(&self.is6()));
        rules.extend(self.reserved6(0, &dropped()));
        let mark =
            [immediate(1, MARK.to_ne_bytes().to_vec()), Expr::MetaSet { key: meta::MARK, sreg: 1 }];
        rules.extend(onward(own, &self.is6(), &mark, fwd));
        rules
    }

    /// The way of what the other table leaves.
    fn ip6(&mut self, own: &Own) {
        let bridge = self.names.bridge.clone();
        let mut guests = interface(meta::IIFNAME, CmpOp::Eq, &bridge);
        guests.push(load_network(SADDR6, ADDRESS));
        guests.push(self.one_of(set::IPV6_ADDR, octets(own)));
        guests.push(Expr::verdict(Verdict::Jump("from-guest".to_owned())));
        let from = vec![Rule::new(guests, "from the guest")];
        self.chain("raw", "filter", hook::PREROUTING, PRIORITY_RAW, from);
        let mut rules = self.near(own, &[Expr::verdict(Verdict::Return)]);
        rules.extend(self.refused6(&self.is6()));
        rules.extend(self.reserved6(0, &dropped()));
        rules.extend(onward(own, &self.is6(), &[], dup));
        self.table.chains.push(Chain { rules, ..Chain::new("from-guest", None) });

        let mut to_pod = interface(meta::IIFNAME, CmpOp::Eq, &self.names.uplink.clone());
        to_pod.push(load_network(DADDR6, ADDRESS));
        to_pod.push(self.one_of(set::IPV6_ADDR, octets(own)));
        to_pod.push(Expr::verdict(Verdict::Jump("to-guest".to_owned())));
        let to = vec![Rule::new(to_pod, "to the pod's address")];
        self.chain("prerouting", "filter", hook::PREROUTING, PRIORITY_MANGLE, to);
        let rules = self.delivered(own);
        self.table.chains.push(Chain { rules, ..Chain::new("to-guest", None) });
    }

    fn delivered(&mut self, own: &Own) -> Vec<Rule> {
        let mut neighbours = meta_l4proto(ICMPV6).to_vec();
        neighbours.push(load_transport(0, 1));
        neighbours.push(self.one_of(
            set::ICMPV6_TYPE,
            NEIGHBOUR_DISCOVERY.iter().map(|kind| vec![*kind]).collect(),
        ));
        neighbours.push(Expr::verdict(Verdict::Accept));
        let mut answers = ct_state(ESTABLISHED | RELATED).to_vec();
        answers.extend([Expr::counter(), Expr::verdict(Verdict::Accept)]);
        let mut rules = vec![Rule::new(neighbours, "neighbour discovery of the uplink")];
        rules.extend(self.reserved6(2, &[Expr::counter(), Expr::verdict(Verdict::Accept)]));
        rules.push(Rule::new(answers, "of a connection of the pod's own"));
        let mut on = vec![Expr::counter()];
        on.extend(dup(Next::Hop(own.alias()), BRIDGE));
        rules.push(Rule::new(on, "to the guest"));
        rules
    }

    /// What the guest sends to its own link, and to itself.
    fn near(&mut self, own: &Own, end: &[Expr]) -> Vec<Rule> {
        let mut to_self = self.is6();
        to_self.push(load_network(DADDR6, ADDRESS));
        to_self.push(self.one_of(set::IPV6_ADDR, octets(own)));
        to_self.extend(dropped());
        let mut rules = vec![Rule::new(to_self, "to the guest's own address")];
        for (network, words) in [
            (LINK_LOCAL, "to a link-local address"),
            (MULTICAST, "to a group"),
            (NETWORK, "to the pod"),
        ] {
            let mut exprs = self.is6();
            exprs.extend(within6(DADDR6, network));
            exprs.extend(end.iter().cloned());
            rules.push(Rule::new(exprs, words));
        }
        rules
    }

    /// `tcp dport { … }` or `tcp sport { … }`, of each transport that has reserved ports.
    pub(super) fn reserved6(&mut self, offset: u32, end: &[Expr]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (transport, word) in TRANSPORTS {
            let Some(ports) = ports_of(&self.names.mapping.reserved, transport) else { continue };
            let mut exprs = self.ports(offset, transport, ports);
            exprs.extend(end.iter().cloned());
            rules.push(Rule::new(exprs, &format!("{word} ports that stay with the pod")));
        }
        rules
    }

    /// `ip6 saddr != POD accept`
    fn not_of_pod(&mut self, offset: u32, own: &Own) -> Vec<Expr> {
        let mut exprs = is_ipv6();
        exprs.push(load_network(offset, ADDRESS));
        exprs.push(self.none_of(octets(own).into_iter()));
        exprs.push(Expr::verdict(Verdict::Accept));
        exprs
    }

    /// What makes the listing read as IPv6 in this table's family.
    fn is6(&self) -> Vec<Expr> {
        if self.table.family == Family::NETDEV { is_ipv6() } else { Vec::new() }
    }

    /// Register 1 is none of `keys`.
    fn none_of(&mut self, keys: impl Iterator<Item = Vec<u8>>) -> Expr {
        let mut keys: Vec<Vec<u8>> = keys.collect();
        keys.sort_unstable();
        let kind = if keys.first().is_some_and(|key| key.len() == 16) {
            set::IPV6_ADDR
        } else {
            set::INET_PROTO
        };
        match self.one_of(kind, keys) {
            Expr::Cmp { sreg, data, .. } => Expr::Cmp { sreg, op: CmpOp::Neq, data },
            Expr::Lookup { set, sreg, dreg, .. } => {
                Expr::Lookup { set, sreg, dreg, inverted: true }
            }
            other => other,
        }
    }

    fn device_chain(&mut self, name: &str, number: u32, device: &str, rules: Vec<Rule>) {
        let hook = Hook {
            kind: "filter".to_owned(),
            number,
            priority: 0,
            devices: vec![device.to_owned()],
            policy: Policy::Accept,
        };
        self.table.chains.push(Chain { rules, ..Chain::new(name, Some(hook)) });
    }
}

/// The pod's addresses.
pub(super) fn octets(own: &Own) -> Vec<Vec<u8>> {
    own.pod.iter().map(|pod| pod.octets().to_vec()).collect()
}

/// `meta protocol ip6`
fn is_ipv6() -> Vec<Expr> {
    equal(load_meta(meta::PROTOCOL), ETHERTYPE.to_vec()).to_vec()
}

/// `ether type != ip6 accept`: of a frame of a VLAN this is the tag's type, where `meta protocol` is that of what is in it.
fn untagged_ipv6_alone() -> Rule {
    let ethertype = Expr::Payload { base: base::LINK, offset: 12, len: 2, dreg: 1 };
    let other = cmp(CmpOp::Neq, ETHERTYPE.to_vec());
    let exprs = vec![ethertype, other, Expr::verdict(Verdict::Accept)];
    Rule::new(exprs, "not IPv6, or of a VLAN, which the bridge has none of")
}

fn not_ipv6() -> Rule {
    let ethertype = cmp(CmpOp::Neq, ETHERTYPE.to_vec());
    let exprs = vec![load_meta(meta::PROTOCOL), ethertype, Expr::verdict(Verdict::Accept)];
    Rule::new(exprs, "not IPv6")
}

/// `exthdr frag exists`
fn fragment() -> Vec<Expr> {
    let field = Extension { space: 0, kind: FRAGMENT, offset: 0, len: 1, flags: 1 };
    vec![Expr::Exthdr { field, dreg: 1 }, cmp(CmpOp::Eq, vec![1])]
}

/// By the routes of the pod, the longest prefix first; a last hop is not gone beyond.
fn onward(own: &Own, is6: &[Expr], first: &[Expr], hand: fn(Next, u32) -> Vec<Expr>) -> Vec<Rule> {
    let mut ends = is6.to_vec();
    ends.extend([load_network(HOP_LIMIT, 1), cmp(CmpOp::Lte, vec![1])]);
    ends.extend(dropped());
    let mut rules = vec![Rule::new(ends, "at its last hop")];
    for route in &own.routes {
        let mut exprs = is6.to_vec();
        if route.to.length > 0 {
            exprs.extend(within6(DADDR6, route.to));
        }
        exprs.push(Expr::counter());
        exprs.extend(first.iter().cloned());
        exprs.extend(hand(route.gateway.map_or(Next::Destination, Next::Hop), route.index));
        rules.push(Rule::new(exprs, &format!("from the guest to {} by {}", route.to, route.link)));
    }
    rules.push(Rule::new(dropped().to_vec(), "from the guest, where the pod has no route"));
    rules
}

/// The other end's address and port, the protocol and the own port, in a row from register 1 on.
fn flow(address: u32, own_port: u32, other_port: u32) -> Vec<Expr> {
    let load = |base, offset, len, dreg| Expr::Payload { base, offset, len, dreg };
    vec![
        load(base::NETWORK, address, ADDRESS, 1),
        Expr::Meta { key: meta::L4PROTO, dreg: 2 },
        load(base::TRANSPORT, own_port, 2, 13),
        load(base::TRANSPORT, other_port, 2, 14),
    ]
}

/// Remembers the pod's flow of a packet, for as long as the packet says.
fn updates(address: u32, own_port: u32, other_port: u32) -> Vec<Rule> {
    let remember = |first: Vec<Expr>, timeout, words| {
        let mut exprs = first;
        exprs.extend(is_ipv6());
        exprs.extend(flow(address, own_port, other_port));
        exprs.push(Expr::Dynset {
            set: FLOWS.to_owned(),
            operation: UPDATE,
            key: 1,
            data: None,
            timeout: Some(timeout),
            exprs: Vec::new(),
            flags: 0,
        });
        exprs.push(Expr::verdict(Verdict::Accept));
        Rule::new(exprs, words)
    };
    let tcp = |bits: u8| {
        let mut exprs = meta_l4proto(TCP).to_vec();
        exprs.extend(any_bit(load_transport(13, 1), vec![bits]));
        exprs
    };
    let mut begins = meta_l4proto(TCP).to_vec();
    begins.extend([load_transport(13, 1), and(vec![0x17]), cmp(CmpOp::Eq, vec![0x02])]);
    vec![
        remember(tcp(TCP_FIN_OR_RST), ENDING, "a flow of the pod's own ends"),
        remember(begins, BEGINNING, "a flow of the pod's own begins"),
        remember(tcp(TCP_SYN_OR_PSH), STANDING, "a flow of the pod's own"),
        remember(meta_l4proto(UDP).to_vec(), DATAGRAMS, "datagrams of the pod's own"),
    ]
}

/// `type ipv6_addr . inet_proto . inet_service . inet_service`, filled by packets.
fn flows() -> Set {
    let kinds = [set::IPV6_ADDR, set::INET_PROTO, set::INET_SERVICE, set::INET_SERVICE];
    Set {
        name: FLOWS.to_owned(),
        flags: set::DYNAMIC | set::TIMEOUT,
        key_type: kinds.into_iter().fold(0, |all, kind| all << 6 | kind),
        key_len: 28,
        size: Some(MAX_FLOWS),
        timeout: Some(STANDING),
        ..Set::default()
    }
}
