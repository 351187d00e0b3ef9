//! Between the pod's own stack and a guest that has the pod's IPv6 address: in the tables of family inet and ip6.
//!
//! ```text
//! guest ─ raw: spoofed? ─ alias: from POD6 to GATEWAY ► from ALIAS ─ input: what was opened ─► pod
//! pod ─ output: to POD6 ► dnat ALIAS ─ postrouting: masquerade ─ unalias: to ALIAS ► to POD6 ─► guest
//! ```
//!
//! An address is written, not translated: it costs no entry, and holds for errors too, whose first octets quote
//! packets as the guest knows them.

use std::net::Ipv6Addr;

use crate::net::{Ipv6Prefix, Port, Transport};
use crate::nft::build::{
    IPV6, cmp, equal, ifname, immediate, load_network, load_transport, meta_l4proto, meta_nfproto,
};
use crate::nft::expr::{CmpOp, base, ct, meta};
use crate::nft::{Chain, Expr, Rule, Set, Verdict, hook, set};
use crate::plan::ipv6::{GATEWAY, Guest6, NETWORK, ROUTER};

use super::flows::UPDATE;
use super::matches::{RELATED, UNTRACKED, dropped, interface, masquerade, was_dnat};
use super::own::{ICMPV6, field6, within6};
use super::owned::{LINK_LOCAL, MULTICAST};
use super::version::{DADDR6, SADDR6, Version};
use super::{Build, Names, PRIORITY_MANGLE, TRANSPORTS, ports_of};
use crate::nft::build::ct_state;

/// Words of the rules that write an alias, and take it back.
pub(super) const WRITTEN: &str =
    "from the guest to the pod's own stack, which has this address too";
pub(super) const TAKEN_BACK: &str = "from the pod's own stack to the guest";
const GUEST6: &str = "from-guest6";
const PAST6: &str = "from-others6";
const INPUT6: &str = "input6";
const ALLOWED6: &str = "allowed6";
/// Types of ICMPv6 (RFC 4443, 4861).
const ECHO_REQUEST: u8 = 128;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Where an advertisement has its flags, which these are, and whom it is about (RFC 4861 §4.4).
const FLAGS: u32 = 4;
const ROUTER_FLAG: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const TARGET: u32 = 8;
const DHCP_SERVER: u16 = 547;
/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415 §7.1).
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Where Amazon has its metadata service.
pub(super) const METADATA6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Neighbours that the guest may be to the kernel, whose table is the node's: its own addresses, and a few more.
const NEIGHBOURS: &str = "guest-neighbours";
const MAX_NEIGHBOURS: u32 = 24;
const NEIGHBOUR_STAYS: u64 = 3600 * 1000;

/// Of IPv6: `ip6 daddr …`.
fn to(address: Ipv6Addr) -> Vec<Expr> {
    let mut exprs = meta_nfproto(IPV6).to_vec();
    exprs.extend(field6(DADDR6, address));
    exprs
}

/// Not within a network.
fn beyond6(offset: u32, network: Ipv6Prefix) -> Vec<Expr> {
    let not = |expr| match expr {
        Expr::Cmp { sreg, data, .. } => Expr::Cmp { sreg, op: CmpOp::Neq, data },
        other => other,
    };
    within6(offset, network).into_iter().map(not).collect()
}

fn icmpv6(kind: u8) -> Vec<Expr> {
    let mut exprs = meta_l4proto(ICMPV6).to_vec();
    exprs.extend(equal(load_transport(0, 1), vec![kind]));
    exprs
}

impl Build {
    /// All IPv6 that comes by the bridge; a guest that has none sends none.
    pub(super) fn raw6(&mut self) -> Rule {
        let mut ipv6 = meta_nfproto(IPV6).to_vec();
        ipv6.extend(interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge));
        let Some(six) = self.names.six.clone() else {
            ipv6.extend(dropped());
            return Rule::new(ipv6, "from the guest: IPv6, of which it has none here");
        };
        ipv6.push(Expr::verdict(Verdict::Goto(GUEST6.to_owned())));
        let rules = self.guest6(&six);
        self.table.chains.push(Chain { rules, ..Chain::new(GUEST6, None) });
        Rule::new(ipv6, "from the guest: IPv6")
    }

    /// From others to the network between pod and guest, or as if they were in it: nobody else looks at who sends IPv6.
    pub(super) fn past6(&mut self) -> Option<Rule> {
        self.names.six.as_ref()?;
        let others = [
            (DADDR6, "from others to the network between pod and guest"),
            (SADDR6, "from others as the guest, or as its gateway"),
        ];
        let rules = others.map(|(offset, words)| {
            let mut exprs = meta_nfproto(IPV6).to_vec();
            exprs.extend(within6(offset, NETWORK));
            exprs.extend(dropped());
            Rule::new(exprs, words)
        });
        self.table.chains.push(Chain { rules: rules.to_vec(), ..Chain::new(PAST6, None) });
        let mut past = meta_nfproto(IPV6).to_vec();
        past.extend(interface(meta::IIFNAME, CmpOp::Neq, &self.names.bridge));
        past.push(cmp(CmpOp::Neq, ifname("lo")));
        past.push(Expr::verdict(Verdict::Goto(PAST6.to_owned())));
        Some(Rule::new(past, "from others: IPv6"))
    }

    /// Advertisements of the guest's router say that it is one: the kernel's would not where it does not forward, and the guest
    /// would take its route away (RFC 4861 §7.2.5).
    pub(super) fn router(&mut self) {
        if self.names.six.is_none() {
            return;
        }
        let rule = |flags: u8| {
            let mut exprs = interface(meta::OIFNAME, CmpOp::Eq, &self.names.bridge);
            exprs.extend(icmpv6(ADVERTISEMENT));
            exprs.extend(equal(load_transport(FLAGS, 1), vec![flags]));
            exprs.push(immediate(1, vec![flags | ROUTER_FLAG]));
            exprs.push(Expr::PayloadSet {
                base: base::TRANSPORT,
                offset: FLAGS,
                len: 1,
                sreg: 1,
                // NFT_PAYLOAD_CSUM_INET, where ICMPv6 has its checksum.
                csum_type: 1,
                csum_offset: 2,
                csum_flags: 0,
            });
            Rule::new(exprs, "neighbour advertisements to the guest: of its router")
        };
        let rules = [SOLICITED | OVERRIDE, SOLICITED, OVERRIDE].map(rule).to_vec();
        self.chain("router", "filter", hook::OUTPUT, PRIORITY_MANGLE, rules);
    }

    /// Where `br_netfilter` is on, what the bridge passes on comes here, too, our own advertisements among it: who may
    /// say what to the pod's stack is `input`'s matter.
    fn guest6(&mut self, six: &Guest6) -> Vec<Rule> {
        let accept = || Expr::verdict(Verdict::Accept);
        let is6 = || meta_nfproto(IPV6).to_vec();
        let mut own_address = is6();
        own_address.push(load_network(SADDR6, 16));
        let its = six.addresses.iter().map(|address| address.octets().to_vec()).collect();
        own_address.push(self.one_of(set::IPV6_ADDR, its));
        own_address.push(accept());
        let mut none_yet = is6();
        none_yet.extend(field6(SADDR6, Ipv6Addr::UNSPECIFIED));
        none_yet.extend(within6(DADDR6, MULTICAST));
        none_yet.push(accept());
        let near = |to: Ipv6Prefix| {
            let mut exprs = is6();
            exprs.extend(within6(SADDR6, LINK_LOCAL));
            exprs.extend(within6(DADDR6, to));
            exprs.push(accept());
            Rule::new(exprs, "with a link-local address, on its link")
        };
        let mut rules: Vec<Rule> = self.refused6(&meta_nfproto(IPV6)).into_iter().collect();
        rules.extend([
            Rule::new(own_address, "with its own address"),
            Rule::new(none_yet, "with none yet (RFC 4862 §5.4.2)"),
            near(MULTICAST),
            near(LINK_LOCAL),
            Rule::new(dropped().to_vec(), "with an address that is not its own"),
        ]);
        rules
    }

    /// `BERTH_METADATA_ADDRESS=drop`, for IPv6.
    pub(super) fn refused6(&self, first: &[Expr]) -> Option<Rule> {
        let mut exprs = first.to_vec();
        exprs.extend(field6(DADDR6, METADATA6));
        exprs.extend(dropped());
        let rule = Rule::new(exprs, "from the guest to the node's metadata service");
        self.names.drop_metadata.then_some(rule)
    }

    /// What writes the guest's aliases, and what takes them back: in the table of family ip6.
    pub(super) fn aliases6(&self) -> (Vec<Rule>, Vec<Rule>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (pod, alias) in self.names.six.iter().flat_map(Guest6::aliases) {
            let mut exprs = interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge);
            exprs.extend(field6(SADDR6, pod));
            exprs.extend(field6(DADDR6, GATEWAY));
            exprs.extend(Version::Six.written(SADDR6, alias.octets().to_vec()));
            before.push(Rule::new(exprs, WRITTEN));
            let mut exprs = interface(meta::OIFNAME, CmpOp::Eq, &self.names.bridge);
            exprs.extend(field6(DADDR6, alias));
            exprs.extend(Version::Six.written(DADDR6, pod.octets().to_vec()));
            after.push(Rule::new(exprs, TAKEN_BACK));
        }
        (before, after)
    }

    /// What of the pod's own stack is open to the guest.
    pub(super) fn opened6(&mut self) -> Option<Rule> {
        self.names.six.as_ref()?;
        let few = self.few();
        let mut rules = self.claims6().to_vec();
        rules.push(few);
        rules.push(Rule::new(dropped().to_vec(), "from more addresses than the guest may have"));
        self.table.chains.push(Chain { rules, ..Chain::new(INPUT6, None) });
        let rules = self.allowed6();
        self.table.chains.push(Chain { rules, ..Chain::new(ALLOWED6, None) });
        let mut ipv6 = meta_nfproto(IPV6).to_vec();
        ipv6.push(Expr::verdict(Verdict::Jump(INPUT6.to_owned())));
        Some(Rule::new(ipv6, "IPv6"))
    }

    fn allowed6(&mut self) -> Vec<Rule> {
        let accept = || Expr::verdict(Verdict::Accept);
        let ping = |address| {
            let mut ping = to(address);
            ping.extend(icmpv6(ECHO_REQUEST));
            ping.push(accept());
            Rule::new(ping, "ping of the gateway")
        };
        let mut rules = vec![ping(ROUTER), ping(GATEWAY)];
        let dhcp = Port { transport: Transport::Udp, number: 67 };
        let open: Vec<Port> =
            self.names.open.iter().copied().filter(|port| *port != dhcp).collect();
        for (transport, word) in TRANSPORTS {
            let Some(ports) = ports_of(&open, transport) else { continue };
            let mut exprs = to(GATEWAY);
            exprs.extend(self.destination_ports(transport, ports));
            exprs.push(accept());
            let comment = format!("{word} ports that are the guest's to ask at the gateway");
            rules.push(Rule::new(exprs, &comment));
        }
        let server = vec![DHCP_SERVER.to_be_bytes().to_vec()];
        let mut exprs = to(ALL_SERVERS);
        exprs.extend(self.destination_ports(Transport::Udp, server));
        exprs.push(accept());
        rules.push(Rule::new(exprs, "DHCPv6"));
        let mut neighbours = meta_l4proto(ICMPV6).to_vec();
        neighbours.push(load_transport(0, 1));
        let kinds = vec![vec![SOLICITATION], vec![ADVERTISEMENT]];
        neighbours.push(self.one_of(set::ICMPV6_TYPE, kinds));
        neighbours.push(accept());
        rules.push(Rule::new(neighbours, "neighbour discovery"));
        rules
    }

    /// Words of the router, which we are.
    fn claims6(&self) -> [Rule; 3] {
        let mut router = meta_nfproto(IPV6).to_vec();
        router.extend(field6(SADDR6, ROUTER));
        router.extend(dropped());
        let claim = |address: Ipv6Addr| {
            let mut exprs = icmpv6(ADVERTISEMENT);
            exprs.extend(equal(load_transport(TARGET, 16), address.octets().to_vec()));
            exprs.extend(dropped());
            Rule::new(exprs, "a claim of the pod's addresses")
        };
        [Rule::new(router, "with its router's address"), claim(ROUTER), claim(GATEWAY)]
    }

    /// Each sender that is answered is a neighbour in the kernel's table.
    fn few(&mut self) -> Rule {
        self.table.sets.push(Set {
            name: NEIGHBOURS.to_owned(),
            flags: set::DYNAMIC | set::TIMEOUT,
            key_type: set::IPV6_ADDR,
            key_len: 16,
            size: Some(MAX_NEIGHBOURS),
            timeout: Some(NEIGHBOUR_STAYS),
            ..Set::default()
        });
        let mut exprs = meta_nfproto(IPV6).to_vec();
        exprs.extend([
            load_network(SADDR6, 16),
            Expr::Dynset {
                set: NEIGHBOURS.to_owned(),
                operation: UPDATE,
                key: 1,
                data: None,
                timeout: None,
                exprs: Vec::new(),
                flags: 0,
            },
            Expr::verdict(Verdict::Goto(ALLOWED6.to_owned())),
        ]);
        Rule::new(exprs, "from few addresses at a time: each is a neighbour to the kernel")
    }

    /// Of IPv6 what is not forwarded. What is the guest's own passes forwarding by.
    pub(super) fn unfit6(&self) -> Vec<Rule> {
        let Names { bridge, six, nat6, closed6, .. } = &self.names;
        let of6 = |key, op| {
            let mut exprs = meta_nfproto(IPV6).to_vec();
            exprs.extend(interface(key, op, bridge));
            exprs
        };
        // Not what the bridge itself passes on, which comes here too where `br_netfilter` is on: to groups, or on the link.
        let routed = |key| {
            let mut exprs = of6(key, CmpOp::Eq);
            exprs.extend(beyond6(SADDR6, LINK_LOCAL));
            exprs.extend(beyond6(DADDR6, MULTICAST));
            exprs
        };
        let mut rules = Vec::new();
        if let Some(six) = six {
            let mut nobody = routed(meta::OIFNAME);
            let guest = six.known_by.first().unwrap_or(&GATEWAY).octets();
            nobody.extend([load_network(DADDR6, 16), cmp(CmpOp::Neq, guest.to_vec())]);
            nobody.extend(dropped());
            let words =
                "of IPv6 to the guest's network, but not to the guest: no other host is there";
            rules.push(Rule::new(nobody, words));
        }
        if nat6.is_some() {
            let mut untracked = routed(meta::IIFNAME);
            untracked.extend(ct_state(UNTRACKED));
            untracked.extend(dropped());
            let words = "from the guest, and not tracked: it would leave untranslated";
            rules.push(Rule::new(untracked, words));
        }
        if *closed6 {
            let mut passing = of6(meta::IIFNAME, CmpOp::Neq);
            passing.extend(interface(meta::OIFNAME, CmpOp::Neq, bridge));
            passing.extend(dropped());
            let words = "between the pod's own interfaces: of IPv6 it routes for the guest alone";
            rules.push(Rule::new(passing, words));
        }
        rules
    }

    /// An ICMPv6 error that quotes a packet of somebody else's.
    pub(super) fn foreign_errors6(&self) -> Option<Rule> {
        let alias = self.names.six.as_ref()?.known_by.first()?;
        let mut exprs = interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge);
        exprs.extend(ct_state(RELATED));
        for direction in [0, 1] {
            exprs.push(Expr::Ct { key: ct::SRC_IP6, dreg: 1, direction: Some(direction) });
            exprs.push(cmp(CmpOp::Neq, alias.octets().to_vec()));
        }
        exprs.extend(dropped());
        Some(Rule::new(exprs, "from the guest: errors about connections that are not its own"))
    }

    /// The guest answers whom it does not take for itself.
    pub(super) fn postrouting6(&self) -> Rule {
        let mut exprs = meta_nfproto(IPV6).to_vec();
        exprs.extend(interface(meta::OIFNAME, CmpOp::Eq, &self.names.bridge));
        exprs.extend(within6(DADDR6, NETWORK));
        exprs.extend(was_dnat());
        exprs.extend([Expr::counter(), masquerade()]);
        Rule::new(exprs, "from the pod to its own address: as the guest's gateway")
    }
}
