//! The rules: the pod's addresses mapped onto the guest, every protocol and port, and the guest held to what is its own.
//!
//! ```text
//!                raw      prerouting                    forward              postrouting
//! peer ──uplink──────────  reserved? pod : dnat guest ── mss, invalid? ────── bridge ───────────────► guest
//! guest ─bridge─ spoofed? (pod address: dnat guest) ─── mss, invalid? ────── uplink  snat pod ─────► peer
//!              ╲ IPv6?                                                       bridge  masquerade ───► guest (hairpin)
//!               ╲───────── the pod's own stack: input ── DHCP, DNS, ping, ports that were opened
//! pod ── output: reserved? pod address: dnat guest ─────────────────────────────────────────────────► guest
//! ```
//!
//! The NAT is here, what the guest may send in `filter`. Of IPv6 the guest has the pod's own address: its packets meet
//! no NAT (`own`), and the pod's own stack knows it by an alias (`alias`). Addresses are matched, not interfaces, where traffic may come from both sides: the gateway's address and
//! broadcasts (DHCP) are never rewritten. Only the guest's own source address is translated, so the ports of DHCP
//! replies stay as they are. Nothing that is forwarded is accepted early: SYN-ACKs belong to established connections
//! and have to meet the clamp.

mod alias;
mod alias4;
mod anchor;
mod closed;
mod filter;
mod flows;
mod kernel;
mod matches;
mod own;
mod owned;
mod slow;
mod translated;
mod version;

pub use anchor::{ANCHOR, anchor};
pub use closed::{CLOSED, closed};
pub use kernel::{Abilities, Indices, for_kernel, told, told4};

use std::net::Ipv4Addr;

use crate::config::{Config, Ipv4, MetadataAddress};
use crate::facts::{Forwarding, NetFacts};
use crate::net::{IfName, Ipv4Prefix, Mapping, Port, Transport};
use crate::nft::build::{cmp, load_transport, meta_l4proto};
use crate::nft::expr::{CmpOp, meta};
use crate::nft::{
    Chain, Expr, Family, Hook, Policy, Rule, Ruleset, Set, Table, Userdata, hook, set, table,
};
use matches::{clamp, dropped, interface};

use super::ipv4::Own4;
use super::ipv6::{Guest6, Nat};
use super::{LinkPlan, link};
use owned::Owned;
use translated::Side;

/// The name of the tables that are ours: one of family inet, and one for ARP.
pub const TABLE: &str = "berth";
/// IPv4 and IPv6 in one table.
pub const FAMILY: Family = Family::INET;

/// NF_IP_PRI_NAT_DST, _NAT_SRC and _MANGLE (linux/netfilter_ipv4.h).
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;
const PRIORITY_MANGLE: i32 = -150;

/// The rules for this pod and guest. There is always an answer: what could be wrong was refused before.
pub fn plan(config: &Config, facts: &NetFacts, link: &LinkPlan) -> Ruleset {
    let owned = config.network.nft_owner;
    let mut build =
        Build { table: empty_table(FAMILY, owned), names: Names::new(config, facts, link) };
    build.raw();
    build.prerouting();
    build.input();
    build.forward();
    build.output();
    build.router();
    build.postrouting();
    let mut arp = Build { table: empty_table(Family::ARP, owned), names: build.names };
    match link.ipv4.own() {
        Some(own) => arp.arp4(own),
        None => arp.arp(),
    }
    let mut tables = vec![build.table, arp.table];
    let ways: Vec<Owned> = link
        .ipv4
        .own()
        .map(Owned::from)
        .into_iter()
        .chain(link.ipv6.own().map(Owned::from))
        .collect();
    if !ways.is_empty() || link.ipv6.nat().is_some() {
        tables.extend(own::tables(arp.names, &ways, link::guest_mac(config), owned));
    }
    Ruleset { tables }
}

/// Whether this is one of our own tables.
pub fn is_ours(family: Family, name: &str) -> bool {
    name == TABLE
        && [FAMILY, Family::ARP, Family::NETDEV, Family::IP6, Family::IP].contains(&family)
}

/// Tables of ours that an earlier plan may have loaded, and this one has not.
pub fn not_in(rules: &Ruleset) -> Vec<(Family, String)> {
    let ours = [Family::NETDEV, Family::IP6, Family::IP].map(|family| (family, TABLE.to_owned()));
    ours.into_iter()
        .chain([(Family::NETDEV, CLOSED.to_owned())])
        .filter(|(family, name)| rules.table(*family, name).is_none())
        .collect()
}

/// Whose addresses are mapped onto whom: none, where the guest has the pod's own.
pub fn mapping(config: &Config, facts: &NetFacts) -> Mapping {
    let is_own = config.network.ipv4 == Ipv4::Own;
    Mapping {
        pod: if is_own { Vec::new() } else { pod_addresses(facts) },
        guest: config.network.vm.address,
        gateway: config.network.gateway,
        reserved: reserved(config),
        six: None,
    }
}

/// Ports that stay with the pod: VNC unless it was given away, the page and metrics where they listen on the pod's address, and
/// what the user reserved. Sorted, no repeats.
fn reserved(config: &Config) -> Vec<Port> {
    let vnc = Port { transport: Transport::Tcp, number: 5900 };
    let vnc = (config.machine.vnc && config.machine.reserve_vnc).then_some(vnc);
    let web = config.web.pod_ports().map(|number| Port { transport: Transport::Tcp, number });
    let kept = config.network.reserved.iter().copied().chain(vnc).chain(web);
    let mut ports: Vec<Port> = kept.collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

const TRANSPORTS: [(Transport, &str); 3] =
    [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP"), (Transport::Sctp, "SCTP")];

/// Those of one transport, as a header has them; None when there are none.
fn ports_of(ports: &[Port], transport: Transport) -> Option<Vec<Vec<u8>>> {
    let of_it = ports.iter().filter(|port| port.transport == transport);
    let found: Vec<Vec<u8>> = of_it.map(|port| port.number.to_be_bytes().to_vec()).collect();
    (!found.is_empty()).then_some(found)
}

/// Addresses that are the guest's now, the primary first; none where the pod has IPv6 alone.
fn pod_addresses(facts: &NetFacts) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    for Ipv4Prefix { address, .. } in facts.uplink.address.iter().chain(&facts.uplink.others) {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses
}

struct Names {
    mapping: Mapping,
    /// What the guest itself has.
    guest: Ipv4Addr,
    /// Forwarding is on for the guest alone, on more than one interface: nobody else is to be routed between them.
    guest_alone: bool,
    /// The pod's addresses, and what they are translated to.
    sides: Vec<Side>,
    uplink: IfName,
    bridge: IfName,
    tap: IfName,
    /// What of the pod's own stack is open to the guest, at the gateway's address.
    open: Vec<Port>,
    /// The guest's.
    network: Ipv4Prefix,
    /// The guest's network has other addresses than the guest's and the gateway's.
    neighbours: bool,
    drop_metadata: bool,
    /// The guest's IPv6.
    six: Option<Guest6>,
    /// The same, where it is translated.
    nat6: Option<Nat>,
    /// Links forward IPv6 for the guest's sake alone, now or in an earlier life.
    closed6: bool,
    /// The guest's IPv4, where it is the pod's own.
    own4: Option<Own4>,
}

impl Names {
    fn new(config: &Config, facts: &NetFacts, link: &LinkPlan) -> Self {
        let mut names = Self {
            mapping: mapping(config, facts),
            guest: link.ipv4.own().map_or(config.network.vm.address, |own| own.pod),
            guest_alone: !facts.routing.ip_forward && !facts.routing.further.is_empty(),
            uplink: link.uplink.clone(),
            bridge: link.bridge.name.clone(),
            tap: link.tap.name.clone(),
            open: filter::open(&config.network),
            network: config.network.vm,
            neighbours: config.network.vm.length < 30,
            drop_metadata: config.network.metadata_address == MetadataAddress::Drop,
            six: link.ipv6.guest(),
            nat6: link.ipv6.nat().cloned(),
            closed6: facts.ipv6.forwarding == Forwarding::Ours,
            own4: link.ipv4.own().cloned(),
            sides: Vec::new(),
        };
        let pod = link.ipv4.own().map_or_else(|| pod_addresses(facts), |own| vec![own.pod]);
        names.sides = [Side::four(&names, &pod)].into_iter().chain(Side::six(link)).collect();
        names
    }
}

fn empty_table(family: Family, owned: bool) -> Table {
    let comment = match family {
        Family::ARP => "the guest's neighbour is the gateway alone; replaced as a whole by berth",
        Family::NETDEV => {
            "the guest's own packets between uplink and tap; replaced as a whole by berth"
        }
        Family::IP6 | Family::IP => {
            "the guest's own packets that are not handed on at once; replaced as a whole by berth"
        }
        _ => "the pod's address is the guest's; replaced as a whole by berth",
    };
    Table {
        flags: if owned { table::OWNER | table::PERSIST } else { 0 },
        userdata: Userdata::comment(comment),
        ..Table::new(family, TABLE)
    }
}

struct Build {
    table: Table,
    names: Names,
}

impl Build {
    fn forward(&mut self) {
        let bridge = &self.names.bridge;
        let mut rules = vec![
            clamp(
                meta::IIFNAME,
                bridge,
                "from the guest: TCP segments no larger than the route takes",
            ),
            clamp(
                meta::OIFNAME,
                bridge,
                "to the guest: TCP segments no larger than the route takes",
            ),
        ];
        rules.extend(self.unfit());
        if self.names.guest_alone {
            let mut passing = interface(meta::IIFNAME, CmpOp::Neq, bridge);
            passing.extend(interface(meta::OIFNAME, CmpOp::Neq, bridge));
            passing.extend(dropped());
            rules.push(Rule::new(
                passing,
                "between the pod's own interfaces: the pod is no router, ip_forward is 0",
            ));
        }
        self.chain("forward", "filter", hook::FORWARD, PRIORITY_MANGLE, rules);
        self.invalid();
    }

    /// `tcp dport { … }`
    fn destination_ports(&mut self, transport: Transport, ports: Vec<Vec<u8>>) -> Vec<Expr> {
        self.ports(2, transport, ports)
    }

    fn ports(&mut self, offset: u32, transport: Transport, ports: Vec<Vec<u8>>) -> Vec<Expr> {
        let mut exprs = meta_l4proto(transport.number()).to_vec();
        exprs.push(load_transport(offset, 2));
        exprs.push(self.one_of(set::INET_SERVICE, ports));
        exprs
    }

    /// Register 1 is one of `keys`: a comparison with the only one, else an anonymous set.
    fn one_of(&mut self, kind: u32, mut keys: Vec<Vec<u8>>) -> Expr {
        keys.sort_unstable();
        if let [key] = keys.as_slice() {
            return cmp(CmpOp::Eq, key.clone());
        }
        let name = format!("__set{}", self.table.sets.len());
        self.table.sets.push(Set::anonymous(&name, kind, keys));
        Expr::Lookup { set: name, sreg: 1, dreg: None, inverted: false }
    }

    fn chain(&mut self, name: &str, kind: &str, number: u32, priority: i32, rules: Vec<Rule>) {
        let hook = Hook {
            kind: kind.to_owned(),
            number,
            priority,
            devices: Vec::new(),
            policy: Policy::Accept,
        };
        self.table.chains.push(Chain { rules, ..Chain::new(name, Some(hook)) });
    }
}
