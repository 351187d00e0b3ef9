//! The NAT: one nf_tables table that maps the pod's addresses onto the guest, every protocol and port.
//!
//! ```text
//!                prerouting                    forward                         postrouting
//! peer ──uplink─ reserved? pod : dnat guest ── clamp mss ───────────── bridge ───────────────► guest
//! guest ─bridge─ (pod address: dnat guest) ─── clamp mss, spoofed? ─── uplink  snat pod ─────► peer
//!                                                                      bridge  masquerade ───► guest (hairpin)
//! pod ── output: reserved? pod address: dnat guest ──────────────────────────────────────────► guest
//! ```
//!
//! The table is of family inet so that IPv6 joins the same chains. Addresses are matched, not interfaces, where
//! traffic may come from both sides: the gateway's address and broadcasts (DHCP) are never rewritten. Only the
//! guest's own source address is translated, so the ports of DHCP replies stay as they are. Nothing is accepted
//! early: SYN-ACKs belong to established connections and have to meet the clamp.

use std::net::Ipv4Addr;

use crate::config::Config;
use crate::facts::NetFacts;
use crate::net::{IfName, Ipv4Prefix, Mapping, Port, Transport};
use crate::nft::expr::{CmpOp, Extension, NatKind, base, ct, meta};
use crate::nft::{
    Chain, Data, Expr, Family, Hook, Policy, Rule, Ruleset, Set, Table, Userdata, Verdict, hook, set, table,
};

use super::LinkPlan;

/// The one table that is ours.
pub const TABLE: &str = "berth";
pub const FAMILY: Family = Family::INET;

/// NF_IP_PRI_NAT_DST, _NAT_SRC and _MANGLE (linux/netfilter_ipv4.h).
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;
const PRIORITY_MANGLE: i32 = -150;

const AF_INET: u8 = 2;
/// Offsets in the IPv4 header.
const SADDR: u32 = 12;
const DADDR: u32 = 16;
/// IPS_DST_NAT, in the host's byte order.
const STATUS_DNAT: u32 = 0x20;
/// NF_CT_STATE_INVALID_BIT.
const STATE_INVALID: u32 = 1;
const TCP: u8 = 6;
const TCP_SYN: u8 = 2;
/// NFT_RT_TCPMSS.
const RT_TCPMSS: u32 = 3;

/// A second table, without rules that do anything: it belongs to the socket that made it, so nobody else's `flush
/// ruleset` takes it away, and as long as it is there the kernel goes on tracking and translating connections that
/// exist. Without it they meet the pod itself, and are reset, in the moment our own table is gone.
pub const ANCHOR: &str = "berth-anchor";

/// The table [`ANCHOR`]: chains of every NAT hook, and one rule that needs connection tracking.
pub fn anchor() -> Ruleset {
    let hooks = [
        ("prerouting", hook::PREROUTING, PRIORITY_DSTNAT),
        ("input", hook::INPUT, PRIORITY_SRCNAT),
        ("output", hook::OUTPUT, PRIORITY_DSTNAT),
        ("postrouting", hook::POSTROUTING, PRIORITY_SRCNAT),
    ];
    let chain = |(name, number, priority): (&str, u32, i32)| {
        let hook =
            Hook { kind: "nat".to_owned(), number, priority, devices: Vec::new(), policy: Policy::Accept };
        Chain::new(name, Some(hook))
    };
    let mut chains: Vec<Chain> = hooks.into_iter().map(chain).collect();
    if let Some(first) = chains.first_mut() {
        let tracked = vec![
            Expr::Ct { key: ct::STATE, dreg: 1, direction: None },
            Expr::Bitwise {
                sreg: 1,
                dreg: 1,
                len: 4,
                mask: STATE_INVALID.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            },
            Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0; 4] },
            Expr::verdict(Verdict::Continue),
        ];
        first.rules.push(Rule::new(tracked, "changes nothing; what it asks keeps connections tracked"));
    }
    let comment = "keeps connections that exist translated while table berth is restored";
    let table = Table {
        flags: table::OWNER,
        userdata: Userdata::comment(comment),
        chains,
        ..Table::new(FAMILY, ANCHOR)
    };
    Ruleset { tables: vec![table] }
}

/// The rules for this pod and guest. There is always an answer: what could be wrong was refused before.
pub fn plan(config: &Config, facts: &NetFacts, link: &LinkPlan) -> Ruleset {
    let mut build =
        Build { table: empty_table(config.network.nft_owner), names: Names::new(config, facts, link) };
    build.prerouting();
    build.output();
    build.forward();
    build.postrouting();
    Ruleset { tables: vec![build.table] }
}

/// Whose addresses are mapped onto whom.
pub fn mapping(config: &Config, facts: &NetFacts) -> Mapping {
    Mapping {
        pod: pod_addresses(facts),
        guest: config.network.vm.address,
        gateway: config.network.gateway,
        reserved: reserved(config),
    }
}

/// Ports that stay with the pod: VNC unless it was given away, and what the user reserved. Sorted, no repeats.
fn reserved(config: &Config) -> Vec<Port> {
    let vnc = Port { transport: Transport::Tcp, number: 5900 };
    let vnc = (config.machine.vnc && config.machine.reserve_vnc).then_some(vnc);
    let mut ports: Vec<Port> = config.network.reserved.iter().copied().chain(vnc).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Addresses that are the guest's now, the primary first.
fn pod_addresses(facts: &NetFacts) -> Vec<Ipv4Addr> {
    let mut addresses = vec![facts.uplink.address.address];
    for Ipv4Prefix { address, .. } in &facts.uplink.others {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses
}

struct Names {
    mapping: Mapping,
    /// Forwarding is on for the guest alone, on more than one interface: nobody else is to be routed between them.
    guest_alone: bool,
    primary: Ipv4Addr,
    uplink: IfName,
    bridge: IfName,
}

impl Names {
    fn new(config: &Config, facts: &NetFacts, link: &LinkPlan) -> Self {
        Self {
            mapping: mapping(config, facts),
            guest_alone: !facts.routing.ip_forward && !facts.routing.further.is_empty(),
            primary: facts.uplink.address.address,
            uplink: link.uplink.clone(),
            bridge: link.bridge.name.clone(),
        }
    }
}

fn empty_table(owned: bool) -> Table {
    Table {
        flags: if owned { table::OWNER | table::PERSIST } else { 0 },
        userdata: Userdata::comment("the pod's address is the guest's; replaced as a whole by berth"),
        ..Table::new(FAMILY, TABLE)
    }
}

struct Build {
    table: Table,
    names: Names,
}

impl Build {
    fn prerouting(&mut self) {
        let mut rules = self.reserved_rules();
        let mut exprs = self.addressed_to_pod();
        exprs.push(Expr::counter());
        exprs.extend(nat(NatKind::Dnat, self.names.mapping.guest));
        rules.push(Rule::new(exprs, "to the pod: every protocol and port is the guest's"));
        self.chain("prerouting", "nat", hook::PREROUTING, PRIORITY_DSTNAT, rules);
    }

    /// Connections the pod makes to its own address.
    fn output(&mut self) {
        let mut rules = self.reserved_rules();
        let mut exprs = self.addressed_to_pod();
        exprs.push(Expr::counter());
        exprs.extend(nat(NatKind::Dnat, self.names.mapping.guest));
        rules.push(Rule::new(exprs, "from the pod to its own address: the guest's too"));
        self.chain("output", "nat", hook::OUTPUT, PRIORITY_DSTNAT, rules);
    }

    fn forward(&mut self) {
        let bridge = &self.names.bridge;
        let mut spoofed = interface(meta::IIFNAME, CmpOp::Eq, bridge);
        spoofed.extend(address(SADDR, CmpOp::Neq, self.names.mapping.guest));
        spoofed.extend([Expr::counter(), Expr::verdict(Verdict::Drop)]);
        let mut rules = vec![
            clamp(meta::IIFNAME, bridge, "from the guest: TCP segments no larger than the route takes"),
            clamp(meta::OIFNAME, bridge, "to the guest: TCP segments no larger than the route takes"),
            Rule::new(spoofed, "from the guest, but not with its address"),
        ];
        if self.names.guest_alone {
            let mut passing = interface(meta::IIFNAME, CmpOp::Neq, bridge);
            passing.extend(interface(meta::OIFNAME, CmpOp::Neq, bridge));
            passing.extend([Expr::counter(), Expr::verdict(Verdict::Drop)]);
            rules.push(Rule::new(
                passing,
                "between the pod's own interfaces: the pod is no router, ip_forward is 0",
            ));
        }
        self.chain("forward", "filter", hook::FORWARD, PRIORITY_MANGLE, rules);
    }

    fn postrouting(&mut self) {
        let Names { mapping: Mapping { guest, .. }, primary, uplink, bridge, .. } = &self.names;
        let from_guest = || address(SADDR, CmpOp::Eq, *guest);

        let mut hairpin = from_guest();
        hairpin.extend(interface(meta::OIFNAME, CmpOp::Eq, bridge));
        hairpin.extend(was_dnat());
        hairpin.extend([Expr::counter(), masquerade()]);

        let mut out = from_guest();
        out.extend(interface(meta::OIFNAME, CmpOp::Eq, uplink));
        out.push(Expr::counter());
        out.extend(nat(NatKind::Snat, *primary));

        let mut elsewhere = from_guest();
        elsewhere.extend(interface(meta::OIFNAME, CmpOp::Neq, bridge));
        elsewhere.extend([Expr::counter(), masquerade()]);

        let rules = vec![
            Rule::new(hairpin, "guest to its own pod address: replies must come back this way"),
            Rule::new(out, "guest to the world: as the pod"),
            Rule::new(elsewhere, "guest through any other interface of the pod"),
        ];
        self.chain("postrouting", "nat", hook::POSTROUTING, PRIORITY_SRCNAT, rules);
    }

    /// `ip daddr POD tcp dport { … } counter return`, one rule for each transport that has reserved ports.
    fn reserved_rules(&mut self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (transport, word) in [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP"), (Transport::Sctp, "SCTP")]
        {
            let reserved = self.names.mapping.reserved.iter().filter(|port| port.transport == transport);
            let ports: Vec<Vec<u8>> = reserved.map(|port| port.number.to_be_bytes().to_vec()).collect();
            if ports.is_empty() {
                continue;
            }
            let mut exprs = self.addressed_to_pod();
            exprs.extend(protocol(transport.number()));
            exprs.push(Expr::Payload { base: base::TRANSPORT, offset: 2, len: 2, dreg: 1 });
            exprs.push(self.one_of(set::INET_SERVICE, ports));
            exprs.extend([Expr::counter(), Expr::verdict(Verdict::Return)]);
            rules.push(Rule::new(exprs, &format!("{word} ports that stay with the pod")));
        }
        rules
    }

    /// `ip daddr POD`
    fn addressed_to_pod(&mut self) -> Vec<Expr> {
        let pod: Vec<Vec<u8>> =
            self.names.mapping.pod.iter().map(|address| address.octets().to_vec()).collect();
        let mut exprs = nfproto();
        exprs.push(Expr::Payload { base: base::NETWORK, offset: DADDR, len: 4, dreg: 1 });
        exprs.push(self.one_of(set::IPV4_ADDR, pod));
        exprs
    }

    /// Register 1 is one of `keys`: a comparison with the only one, else an anonymous set.
    fn one_of(&mut self, kind: u32, mut keys: Vec<Vec<u8>>) -> Expr {
        keys.sort_unstable();
        if let [key] = keys.as_slice() {
            return Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: key.clone() };
        }
        let name = format!("__set{}", self.table.sets.len());
        self.table.sets.push(Set::anonymous(&name, kind, keys));
        Expr::Lookup { set: name, sreg: 1, dreg: None, inverted: false }
    }

    fn chain(&mut self, name: &str, kind: &str, number: u32, priority: i32, rules: Vec<Rule>) {
        let hook =
            Hook { kind: kind.to_owned(), number, priority, devices: Vec::new(), policy: Policy::Accept };
        self.table.chains.push(Chain { rules, ..Chain::new(name, Some(hook)) });
    }
}

/// `meta nfproto ipv4`
fn nfproto() -> Vec<Expr> {
    vec![
        Expr::Meta { key: meta::NFPROTO, dreg: 1 },
        Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![AF_INET] },
    ]
}

/// `meta l4proto …`
fn protocol(number: u8) -> Vec<Expr> {
    vec![Expr::Meta { key: meta::L4PROTO, dreg: 1 }, Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![number] }]
}

fn address(offset: u32, op: CmpOp, address: Ipv4Addr) -> Vec<Expr> {
    let mut exprs = nfproto();
    exprs.push(Expr::Payload { base: base::NETWORK, offset, len: 4, dreg: 1 });
    exprs.push(Expr::Cmp { sreg: 1, op, data: address.octets().to_vec() });
    exprs
}

fn interface(key: u32, op: CmpOp, name: &IfName) -> Vec<Expr> {
    let mut data = name.as_str().as_bytes().to_vec();
    data.resize(16, 0);
    vec![Expr::Meta { key, dreg: 1 }, Expr::Cmp { sreg: 1, op, data }]
}

/// `ct status dnat`
fn was_dnat() -> Vec<Expr> {
    vec![
        Expr::Ct { key: ct::STATUS, dreg: 1, direction: None },
        Expr::Bitwise { sreg: 1, dreg: 1, len: 4, mask: STATUS_DNAT.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0; 4] },
    ]
}

/// `snat ip to …` or `dnat ip to …`, all protocols.
fn nat(kind: NatKind, to: Ipv4Addr) -> [Expr; 2] {
    [
        Expr::Immediate { dreg: 1, data: Data::Value(to.octets().to_vec()) },
        Expr::Nat {
            kind,
            family: u32::from(AF_INET),
            addr: Some(1),
            addr_max: None,
            port: None,
            port_max: None,
            flags: 0,
        },
    ]
}

fn masquerade() -> Expr {
    Expr::Masquerade { port: None, port_max: None, flags: 0 }
}

/// `tcp flags syn counter tcp option maxseg size set rt mtu`: SYN and SYN-ACK; the kernel only ever lowers it.
fn clamp(key: u32, bridge: &IfName, comment: &str) -> Rule {
    let mut exprs = interface(key, CmpOp::Eq, bridge);
    exprs.extend(protocol(TCP));
    exprs.extend([
        Expr::Payload { base: base::TRANSPORT, offset: 13, len: 1, dreg: 1 },
        Expr::Bitwise { sreg: 1, dreg: 1, len: 1, mask: vec![TCP_SYN], xor: vec![0] },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0] },
        Expr::counter(),
        Expr::Rt { key: RT_TCPMSS, dreg: 1 },
        Expr::Byteorder { sreg: 1, dreg: 1, hton: true, len: 2, size: 2 },
        Expr::ExthdrSet { field: Extension { space: 1, kind: 2, offset: 2, len: 2, flags: 0 }, sreg: 1 },
    ]);
    Rule::new(exprs, comment)
}
