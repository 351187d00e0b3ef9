//! The guest has the pod's own address, of either version of IP: its packets are handed on as they are, and nothing forwards
//! IPv6.
//!
//! ```text
//! table netdev   what comes by the uplink  ── TCP, UDP, whole, not the pod's own flow ──── fwd ► tap
//!                what comes by the tap     ── from the guest's address to the world ────── fwd ► uplink
//!                what the pod itself sends ── its flow is remembered in a set
//! table ip6, ip  the rest of it, and all of it where the kernel has no netdev table: fragments put together,
//!                errors, pings, other protocols. Connection tracking knows the pod's own; the others are sent
//!                on by dup, and dropped
//! ```
//!
//! A packet that is handed on loses one of its hop limit, meets no NAT and costs no entry of connection tracking.
//! Both tables name interfaces by their numbers, which are known once the links are there (`kernel`).

use std::net::Ipv6Addr;

use crate::net::{Ipv6Prefix, MacAddr};
use crate::nft::build::{and, cmp, equal, immediate, load_meta, load_network, prefix_mask};
use crate::nft::expr::{CmpOp, base, meta};
use crate::nft::{Chain, Expr, Family, Hook, Policy, Rule, Table, Verdict, set};

use super::flows::{flow, flows, heard, updates};
use super::kernel::TAP;
use super::matches::{ADDRESS, TCP, UDP, dropped};
use super::owned::{LINK_LOCAL, MULTICAST, Owned};
use super::version::{DADDR6, HOP_BY_HOP, SADDR6, Version, present};
use super::{Build, Names, TRANSPORTS, empty_table, ports_of};

pub(super) const ICMPV6: u8 = 58;

/// NF_NETDEV_INGRESS and _EGRESS (linux/netfilter_netdev.h).
pub(super) const INGRESS: u32 = 0;
const EGRESS: u32 = 1;
/// PACKET_HOST, PACKET_MULTICAST (linux/if_packet.h).
pub(super) const HOST_FRAME: u8 = 0;
const MULTICAST_FRAME: u8 = 2;

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
fn fwd(version: Version, to: Next<'_>, index: u32) -> Vec<Expr> {
    let address = match to {
        Next::Hop(address) => immediate(2, address.to_vec()),
        Next::Destination => {
            let (offset, len) = (version.daddr(), version.octets());
            Expr::Payload { base: base::NETWORK, offset, len, dreg: 2 }
        }
    };
    let family = Some(u32::from(version.nfproto()));
    vec![
        immediate(1, index.to_ne_bytes().to_vec()),
        address,
        Expr::Fwd { device: 1, addr: Some(2), family },
    ]
}

/// Whom a packet is handed to.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    Hop(&'a [u8]),
    /// It is on the link.
    Destination,
}

/// How a packet is handed on: `fwd` or `dup`.
pub(super) type Hand = fn(Version, Next<'_>, u32) -> Vec<Expr>;

/// The tables beside that of family inet: of both versions, and of each.
pub(super) fn tables(names: Names, owned: &[Owned], mac: MacAddr, is_owner: bool) -> Vec<Table> {
    let mut netdev = Build { table: empty_table(Family::NETDEV, is_owner), names };
    for own in owned {
        netdev.netdev(own, mac);
    }
    netdev.translated6();
    let mut tables = vec![netdev.table];
    let mut names = netdev.names;
    for own in owned {
        let mut slow = Build { table: empty_table(own.version.family(), is_owner), names };
        slow.slow(own);
        tables.push(slow.table);
        names = slow.names;
    }
    tables
}

impl Build {
    /// What the kernel reads and answers before any rule of the IP hooks, of a guest whose IPv6 is translated.
    fn translated6(&mut self) {
        if self.names.nat6.is_none() {
            return;
        }
        let version = Version::Six;
        let rules = [other_protocol(version), tagged(version)].into_iter();
        let rules = rules.chain(refused_options(version)).collect();
        let tap = self.names.tap.to_string();
        self.device_chain(&version.named("guest"), INGRESS, &tap, rules);
    }

    fn netdev(&mut self, own: &Owned, mac: MacAddr) {
        let named = |name: &str| own.version.named(name);
        self.table.sets.push(flows(own.version));
        let (uplink, tap) = (self.names.uplink.to_string(), self.names.tap.to_string());
        let arrived = self.arrived(own);
        self.device_chain(&named("uplink"), INGRESS, &uplink, arrived);
        let rules = pods_own(own.version);
        self.table.chains.push(Chain { rules, ..Chain::new(&named("pods-own"), None) });
        let sent = self.sent(own);
        self.device_chain(&named("pod"), EGRESS, &uplink, sent);
        let left = self.left(own);
        self.device_chain(&named("guest"), INGRESS, &tap, left);
        let to_bridge = Rule::new(vec![Expr::verdict(Verdict::Accept)], "to the bridge");
        let rules: Vec<Rule> =
            refused_options(own.version).into_iter().chain([to_bridge]).collect();
        self.table.chains.push(Chain { rules, ..Chain::new(&named("link"), None) });
        let rules = self.on_link(own.version);
        self.table.chains.push(Chain { rules, ..Chain::new(&named("near"), None) });
        if own.version == Version::Six {
            let returning = returning(mac);
            self.device_chain("to-guest", EGRESS, &tap, returning);
        }
    }

    /// What comes by the uplink.
    fn arrived(&mut self, own: &Owned) -> Vec<Rule> {
        let version = own.version;
        let others = self.not_of_pod(version.daddr(), own);
        let mut rare = vec![load_meta(meta::L4PROTO)];
        rare.push(self.none_of(set::INET_PROTO, vec![vec![TCP], vec![UDP]]));
        rare.push(Expr::verdict(Verdict::Accept));
        let mut part = version.part();
        part.push(Expr::verdict(Verdict::Accept));
        let mut for_others = vec![load_meta(meta::PKTTYPE), cmp(CmpOp::Neq, vec![HOST_FRAME])];
        for_others.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![
            untagged_alone(version),
            Rule::new(others, "not to the pod's address"),
            Rule::new(for_others, "a frame to others, or to all: the pod's stack drops it"),
            Rule::new(rare, "pings, errors, neighbours: the slow way"),
            Rule::new(part, "a part of a packet: the slow way"),
        ];
        rules.extend(self.forged(own));
        rules.extend(self.kept(2, &[Expr::counter(), Expr::verdict(Verdict::Accept)]));
        let mut known = self.is(version);
        known.extend(flow(version, version.saddr(), 2, 0));
        let set = version.named(super::flows::FLOWS);
        known.push(Expr::Lookup { set, sreg: 1, dreg: None, inverted: false });
        known.push(Expr::verdict(Verdict::Goto(version.named("pods-own"))));
        rules.push(Rule::new(known, "of a flow of the pod's own"));
        // What is shorter than it says has none: the pod's stack drops it.
        let mut on = readable();
        on.push(Expr::counter());
        on.extend(fwd(version, Next::Hop(&own.alias), TAP));
        rules.push(Rule::new(on, "to the guest"));
        rules
    }

    /// Senders that nobody beyond the uplink has: the guest's gateway, the guest itself, hosts of its link, and what is no
    /// host's address.
    pub(super) fn forged(&mut self, own: &Owned) -> Vec<Rule> {
        let saddr = own.version.saddr();
        let mut of_pod = self.is(own.version);
        of_pod.push(own.version.load(saddr));
        of_pod.push(self.one_of(own.version.set_type(), own.pod.clone()));
        of_pod.extend(dropped());
        let mut rules = vec![Rule::new(of_pod, "from others with the pod's own address")];
        for network in &own.inner {
            let mut exprs = self.is(own.version);
            exprs.extend(network.within(saddr));
            exprs.extend(dropped());
            rules.push(Rule::new(exprs, "from others as the guest's gateway or neighbour"));
        }
        rules
    }

    /// What leaves by the uplink.
    fn sent(&mut self, own: &Owned) -> Vec<Rule> {
        let version = own.version;
        let mut guests = equal(load_meta(meta::MARK), version.mark()).to_vec();
        guests.extend([
            immediate(1, vec![0; 4]),
            Expr::MetaSet { key: meta::MARK, sreg: 1 },
            Expr::verdict(Verdict::Accept),
        ]);
        let others = self.not_of_pod(version.saddr(), own);
        let mut later = version.later_part();
        later.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![
            Rule::new(guests, "from the guest"),
            other_protocol(version),
            Rule::new(others, "not from the pod's address"),
            Rule::new(later, "a later part of a packet, which has no ports"),
        ];
        rules.extend(self.kept(0, &[Expr::verdict(Verdict::Accept)]));
        rules.extend(updates(version));
        rules
    }

    /// What comes by the tap.
    fn left(&mut self, own: &Owned) -> Vec<Rule> {
        let version = own.version;
        let mut others = self.is(version);
        others.push(version.load(version.saddr()));
        others.push(self.none_of(version.set_type(), own.pod.clone()));
        others.push(Expr::verdict(Verdict::Goto(version.named("near"))));
        let mut rules = vec![
            other_protocol(version),
            tagged(version),
            Rule::new(others, "not from the guest's global address: to its link alone"),
        ];
        rules.extend(self.near(own, &[Expr::verdict(Verdict::Goto(version.named("link")))]));
        rules.extend(self.no_metadata(version));
        rules.extend(self.kept(0, &dropped()));
        let mark = [immediate(1, version.mark()), Expr::MetaSet { key: meta::MARK, sreg: 1 }];
        let onward = onward(own, &self.is(version), &mark, fwd);
        self.table
            .chains
            .push(Chain { rules: onward, ..Chain::new(&version.named("onward"), None) });
        let mut whole = readable();
        whole.push(Expr::verdict(Verdict::Goto(version.named("onward"))));
        rules.push(Rule::new(whole, "as long as it says"));
        rules.push(Rule::new(dropped().to_vec(), "shorter than it says"));
        rules
    }

    /// With a link-local address, or none yet, to its link: others' senders would be answered before `raw` is asked, where
    /// options before the transport are wrong (RFC 8200 §4.2).
    fn on_link(&self, version: Version) -> Vec<Rule> {
        let pair = |from: Vec<Expr>, to: Vec<Expr>| {
            let mut exprs = self.is(version);
            exprs.extend(from);
            exprs.extend(to);
            exprs.push(Expr::verdict(Verdict::Goto(version.named("link"))));
            Rule::new(exprs, "from the guest to its link")
        };
        let none_yet =
            || equal(version.load(version.saddr()), vec![0; version.octets() as usize]).to_vec();
        let mut rules = match version {
            Version::Four => vec![pair(none_yet(), Vec::new())],
            Version::Six => vec![
                pair(none_yet(), within6(DADDR6, MULTICAST)),
                pair(within6(SADDR6, LINK_LOCAL), within6(DADDR6, MULTICAST)),
                pair(within6(SADDR6, LINK_LOCAL), within6(DADDR6, LINK_LOCAL)),
            ],
        };
        rules.push(Rule::new(dropped().to_vec(), "with an address that is not its own"));
        rules
    }

    /// What the guest sends to its own link, and to itself.
    pub(super) fn near(&mut self, own: &Owned, end: &[Expr]) -> Vec<Rule> {
        let daddr = own.version.daddr();
        let mut to_self = self.is(own.version);
        to_self.push(own.version.load(daddr));
        to_self.push(self.one_of(own.version.set_type(), own.pod.clone()));
        to_self.extend(dropped());
        let mut rules = vec![Rule::new(to_self, "to the guest's own address")];
        for (network, words) in &own.near {
            let mut exprs = self.is(own.version);
            exprs.extend(network.within(daddr));
            exprs.extend(end.iter().cloned());
            rules.push(Rule::new(exprs, words));
        }
        rules
    }

    /// `BERTH_METADATA_ADDRESS=drop`.
    pub(super) fn no_metadata(&self, version: Version) -> Option<Rule> {
        match version {
            Version::Six => self.refused6(&self.is(version)),
            Version::Four => self.refused4(&self.is(version)),
        }
    }

    /// `tcp dport { … }` or `tcp sport { … }`, of each transport that has reserved ports.
    pub(super) fn kept(&mut self, offset: u32, end: &[Expr]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (transport, word) in TRANSPORTS {
            let Some(ports) = ports_of(&self.names.mapping.reserved, transport) else { continue };
            let mut exprs = self.ports(offset, transport, ports);
            exprs.extend(end.iter().cloned());
            rules.push(Rule::new(exprs, &format!("{word} ports that stay with the pod")));
        }
        rules
    }

    /// `ip saddr != POD accept`, or `ip6`.
    fn not_of_pod(&mut self, offset: u32, own: &Owned) -> Vec<Expr> {
        let mut exprs = own.version.protocol().to_vec();
        exprs.push(own.version.load(offset));
        exprs.push(self.none_of(own.version.set_type(), own.pod.clone()));
        exprs.push(Expr::verdict(Verdict::Accept));
        exprs
    }

    /// What makes the listing read as this version's in this table's family.
    pub(super) fn is(&self, version: Version) -> Vec<Expr> {
        if self.table.family == Family::NETDEV { version.protocol().to_vec() } else { Vec::new() }
    }

    /// Register 1 is none of `keys`.
    fn none_of(&mut self, kind: u32, keys: Vec<Vec<u8>>) -> Expr {
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

/// What leaves by the tap: a group is sent to whoever is on the bridge, and comes back to who sent it, whose own
/// question for its address would be another's claim of it (RFC 4862 §5.4.3).
fn returning(mac: MacAddr) -> Vec<Rule> {
    let mut others = vec![load_meta(meta::PKTTYPE), cmp(CmpOp::Neq, vec![MULTICAST_FRAME])];
    others.push(Expr::verdict(Verdict::Accept));
    let source = Expr::Payload { base: base::LINK, offset: 6, len: 6, dreg: 1 };
    let mut its_own = equal(source, mac.0.to_vec()).to_vec();
    its_own.extend(Version::Six.protocol());
    its_own.extend(dropped());
    vec![
        Rule::new(others, "to one host"),
        Rule::new(its_own, "what the guest itself has sent to a group"),
    ]
}

/// Of a flow of the pod's own: remembered for longer by what comes. Never for less: anybody may send an end, or a
/// beginning, that the pod's own stack takes for none (RFC 5961 §3).
fn pods_own(version: Version) -> Vec<Rule> {
    let mut rules = heard(version);
    rules.push(Rule::new(
        vec![Expr::counter(), Expr::verdict(Verdict::Accept)],
        "of a flow of the pod's own",
    ));
    rules
}

/// `meta l4proto != 255`: true of each packet whose headers are all there, of the rest no rule that looks for them is.
fn readable() -> Vec<Expr> {
    vec![load_meta(meta::L4PROTO), cmp(CmpOp::Neq, vec![u8::MAX])]
}

/// Options that are read before any rule is.
fn refused_options(version: Version) -> Option<Rule> {
    let mut options = present(HOP_BY_HOP);
    options.extend(dropped());
    (version == Version::Six).then(|| {
        Rule::new(options, "with hop-by-hop options, which are read before any rule of the pod's")
    })
}

/// `ether type != ip6 accept`: of a frame of a VLAN this is the tag's type, where `meta protocol` is that of what is in it.
fn untagged_alone(version: Version) -> Rule {
    let ethertype = Expr::Payload { base: base::LINK, offset: 12, len: 2, dreg: 1 };
    let other = cmp(CmpOp::Neq, version.ethertype());
    let exprs = vec![ethertype, other, Expr::verdict(Verdict::Accept)];
    let name = version.name();
    Rule::new(exprs, &format!("not {name}, or of a VLAN, which the bridge has none of"))
}

/// Of a frame with a tag the type is the tag's: the kernel takes one of VLAN 0 for none.
fn tagged(version: Version) -> Rule {
    let ethertype = Expr::Payload { base: base::LINK, offset: 12, len: 2, dreg: 1 };
    let mut tagged = vec![ethertype, cmp(CmpOp::Neq, version.ethertype())];
    tagged.extend(dropped());
    Rule::new(tagged, "of a VLAN, which the bridge has none of")
}

fn other_protocol(version: Version) -> Rule {
    let ethertype = cmp(CmpOp::Neq, version.ethertype());
    let exprs = vec![load_meta(meta::PROTOCOL), ethertype, Expr::verdict(Verdict::Accept)];
    Rule::new(exprs, &format!("not {}", version.name()))
}

/// `ip6 hoplimit <= 1 drop`: both ways take one of it, without a look.
pub(super) fn last_hop(version: Version, is_it: &[Expr]) -> Rule {
    let mut ends = is_it.to_vec();
    ends.extend([load_network(version.ttl(), 1), cmp(CmpOp::Lte, vec![1])]);
    ends.extend(dropped());
    Rule::new(ends, "at its last hop")
}

/// By the routes of the pod, the longest prefix first; a last hop is not gone beyond.
pub(super) fn onward(own: &Owned, is_it: &[Expr], first: &[Expr], hand: Hand) -> Vec<Rule> {
    let mut rules = vec![last_hop(own.version, is_it)];
    for route in &own.routes {
        let mut exprs = is_it.to_vec();
        exprs.extend(route.to.within(own.version.daddr()));
        let Some(index) = route.index else {
            exprs.extend(dropped());
            rules.push(Rule::new(exprs, &format!("from the guest to {}: no way there", route.to)));
            continue;
        };
        exprs.push(Expr::counter());
        exprs.extend(first.iter().cloned());
        let next = route.gateway.as_deref().map_or(Next::Destination, Next::Hop);
        exprs.extend(hand(own.version, next, index));
        rules.push(Rule::new(exprs, &format!("from the guest to {} by {}", route.to, route.link)));
    }
    rules.push(Rule::new(dropped().to_vec(), "from the guest, where the pod has no route"));
    rules
}
