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
use crate::nft::{Chain, Expr, Family, Hook, Policy, Rule, Table, Verdict, hook, set};
use crate::plan::ipv6::{NETWORK, Own, ROUTER};

use super::flows::{FLOWS, flow, flows, updates};
use super::kernel::{BRIDGE, TAP};
use super::matches::{
    ADDRESS, ESTABLISHED, ETHERTYPE, RELATED, TCP, UDP, dropped, interface, is_ipv6,
};
use super::{Build, Names, TRANSPORTS, empty_table, ports_of};

/// Of the IPv6 header (RFC 8200 §3): saddr, daddr, hop limit.
pub(super) const SADDR6: u32 = 8;
pub(super) const DADDR6: u32 = 24;
const HOP_LIMIT: u32 = 7;
pub(super) const ICMPV6: u8 = 58;
/// Headers before the transport's (RFC 8200 §4.3, §4.5).
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
/// fe80::/10 and ff00::/8 (RFC 4291 §2.4).
pub(super) const LINK_LOCAL: Ipv6Prefix = Ipv6Prefix { address: ROUTER, length: 10 };
pub(super) const MULTICAST: Ipv6Prefix =
    Ipv6Prefix { address: Ipv6Addr::from_bits(0xff << 120), length: 8 };
/// Router solicitation to redirect (RFC 4861 §4).
const NEIGHBOUR_DISCOVERY: [u8; 5] = [133, 134, 135, 136, 137];

/// NF_NETDEV_INGRESS and _EGRESS (linux/netfilter_netdev.h).
const INGRESS: u32 = 0;
const EGRESS: u32 = 1;
/// PACKET_MULTICAST (linux/if_packet.h).
const MULTICAST_FRAME: u8 = 2;
/// NF_IP6_PRI_RAW after fragments are put together, before connection tracking, and NF_IP6_PRI_MANGLE behind it.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_MANGLE: i32 = -150;

/// What the guest sends on has it between tap and uplink: the pod's own packets have not.
const MARK: u32 = 0x6265_7274;

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
        let mut options = present(HOP_BY_HOP);
        options.extend(dropped());
        let rules = vec![
            Rule::new(
                options,
                "with hop-by-hop options, which are read before any rule of the pod's",
            ),
            Rule::new(vec![Expr::verdict(Verdict::Accept)], "to the bridge"),
        ];
        self.table.chains.push(Chain { rules, ..Chain::new("link", None) });
        let rules = self.on_link();
        self.table.chains.push(Chain { rules, ..Chain::new("near", None) });
        let returning = self.returning(own);
        self.device_chain("to-guest", EGRESS, &tap, returning);
    }

    /// What comes by the uplink.
    fn arrived(&mut self, own: &Own) -> Vec<Rule> {
        let others = self.not_of_pod(DADDR6, own);
        let mut rare = vec![load_meta(meta::L4PROTO)];
        rare.push(self.none_of([vec![TCP], vec![UDP]].into_iter()));
        rare.push(Expr::verdict(Verdict::Accept));
        let mut part = present(FRAGMENT);
        part.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![
            untagged_ipv6_alone(),
            Rule::new(others, "not to the pod's address"),
            Rule::new(rare, "pings, errors, neighbours: the slow way"),
            Rule::new(part, "a part of a packet: the slow way"),
        ];
        rules.extend(self.forged(own));
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

    /// Senders that nobody beyond the uplink has: the guest's gateway, the guest itself, and hosts of its link. Of TCP and
    /// UDP: routers beyond have link-local addresses as well, and their errors count.
    fn forged(&mut self, own: &Own) -> Vec<Rule> {
        let mut of_pod = self.is6();
        of_pod.push(load_network(SADDR6, ADDRESS));
        of_pod.push(self.one_of(set::IPV6_ADDR, octets(own)));
        of_pod.extend(dropped());
        let mut rules = vec![Rule::new(of_pod, "from others with the pod's own address")];
        for network in [NETWORK, LINK_LOCAL] {
            let mut exprs = self.is6();
            exprs.extend(within6(SADDR6, network));
            exprs.extend(dropped());
            rules.push(Rule::new(exprs, "from others as the guest's gateway or neighbour"));
        }
        rules
    }

    /// What leaves by the tap: a group is sent to whoever is on the bridge, and comes back to who sent it, whose own
    /// question for its address would be another's claim of it (RFC 4862 §5.4.3).
    fn returning(&self, own: &Own) -> Vec<Rule> {
        let mut others = vec![load_meta(meta::PKTTYPE), cmp(CmpOp::Neq, vec![MULTICAST_FRAME])];
        others.push(Expr::verdict(Verdict::Accept));
        let source = Expr::Payload { base: base::LINK, offset: 6, len: 6, dreg: 1 };
        let mut its_own = equal(source, own.mac.0.to_vec()).to_vec();
        its_own.extend(self.is6());
        its_own.extend(dropped());
        vec![
            Rule::new(others, "to one host"),
            Rule::new(its_own, "what the guest itself has sent to a group"),
        ]
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
        let offset = Extension { space: 0, kind: FRAGMENT, offset: 2, len: 2, flags: 0 };
        let mut later = any_bit(Expr::Exthdr { field: offset, dreg: 1 }, vec![0xff, 0xf8]).to_vec();
        later.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![
            Rule::new(guests, "from the guest"),
            not_ipv6(),
            Rule::new(others, "not from the pod's address"),
            Rule::new(later, "a later part of a packet, which has no ports"),
        ];
        rules.extend(self.reserved6(0, &[Expr::verdict(Verdict::Accept)]));
        rules.extend(updates(DADDR6, 0, 2));
        rules
    }

    /// What comes by the tap.
    fn left(&mut self, own: &Own) -> Vec<Rule> {
        let mut others = self.is6();
        others.push(load_network(SADDR6, ADDRESS));
        others.push(self.none_of(octets(own).into_iter()));
        others.push(Expr::verdict(Verdict::Goto("near".to_owned())));
        let mut rules = vec![
            untagged_ipv6_alone(),
            Rule::new(others, "not from the guest's global address: to its link alone"),
        ];
        rules.extend(self.near(own, &[Expr::verdict(Verdict::Goto("link".to_owned()))]));
        rules.extend(self.refused6(&self.is6()));
        rules.extend(self.reserved6(0, &dropped()));
        let mark =
            [immediate(1, MARK.to_ne_bytes().to_vec()), Expr::MetaSet { key: meta::MARK, sreg: 1 }];
        rules.extend(onward(own, &self.is6(), &mark, fwd));
        rules
    }

    /// With a link-local address, or none yet, to its link: others' senders would be answered before `raw` is asked, where
    /// options before the transport are wrong (RFC 8200 §4.2).
    fn on_link(&self) -> Vec<Rule> {
        let pair = |from: Vec<Expr>, to| {
            let mut exprs = self.is6();
            exprs.extend(from);
            exprs.extend(within6(DADDR6, to));
            exprs.push(Expr::verdict(Verdict::Goto("link".to_owned())));
            Rule::new(exprs, "from the guest to its link")
        };
        vec![
            pair(field6(SADDR6, Ipv6Addr::UNSPECIFIED).to_vec(), MULTICAST),
            pair(within6(SADDR6, LINK_LOCAL), MULTICAST),
            pair(within6(SADDR6, LINK_LOCAL), LINK_LOCAL),
            Rule::new(dropped().to_vec(), "with an address that is not its own"),
        ]
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
        let rules = self.forged(own);
        self.table.chains.push(Chain { rules, ..Chain::new("forged", None) });
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
        for (transport, word) in TRANSPORTS {
            let mut exprs = meta_l4proto(transport.number()).to_vec();
            exprs.push(Expr::verdict(Verdict::Jump("forged".to_owned())));
            rules.push(Rule::new(exprs, &format!("{word} from senders that nobody beyond has")));
        }
        rules.extend(self.reserved6(2, &[Expr::counter(), Expr::verdict(Verdict::Accept)]));
        rules.push(Rule::new(answers, "of a connection of the pod's own"));
        rules.push(last_hop(&[]));
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
            (MULTICAST, "to a group"),
            (LINK_LOCAL, "to a link-local address"),
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

/// `exthdr frag exists`, or of another header before the transport's.
fn present(kind: u8) -> Vec<Expr> {
    let field = Extension { space: 0, kind, offset: 0, len: 1, flags: 1 };
    vec![Expr::Exthdr { field, dreg: 1 }, cmp(CmpOp::Eq, vec![1])]
}

/// `ip6 hoplimit <= 1 drop`: both ways take one of it, without a look.
fn last_hop(is6: &[Expr]) -> Rule {
    let mut ends = is6.to_vec();
    ends.extend([load_network(HOP_LIMIT, 1), cmp(CmpOp::Lte, vec![1])]);
    ends.extend(dropped());
    Rule::new(ends, "at its last hop")
}

/// By the routes of the pod, the longest prefix first; a last hop is not gone beyond.
fn onward(own: &Own, is6: &[Expr], first: &[Expr], hand: fn(Next, u32) -> Vec<Expr>) -> Vec<Rule> {
    let mut rules = vec![last_hop(is6)];
    for route in &own.routes {
        let mut exprs = is6.to_vec();
        if route.to.length > 0 {
            exprs.extend(within6(DADDR6, route.to));
        }
        if route.leads_nowhere {
            exprs.extend(dropped());
            rules.push(Rule::new(exprs, &format!("from the guest to {}: no way there", route.to)));
            continue;
        }
        exprs.push(Expr::counter());
        exprs.extend(first.iter().cloned());
        exprs.extend(hand(route.gateway.map_or(Next::Destination, Next::Hop), route.index));
        rules.push(Rule::new(exprs, &format!("from the guest to {} by {}", route.to, route.link)));
    }
    rules.push(Rule::new(dropped().to_vec(), "from the guest, where the pod has no route"));
    rules
}
