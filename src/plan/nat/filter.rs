//! What the guest may send, and to whom: the chains that only drop.
//!
//! ```text
//! raw        of IPv6 what comes from its own address, or nothing where it has none (`alias`); of IPv4 what comes
//!            from its own address (or from 0.0.0.0, as DHCP does);
//!            to its network nothing that did not come as the pod's
//! input      to the pod's own stack: DHCP, DNS, ping and opened ports at the gateway's address, and answers
//! forward    nothing that connection tracking calls invalid: it would leave untranslated;
//!            no ICMP error about a connection that is not the guest's
//! table arp  its own address, or none: each sender is a neighbour in the kernel's table, which is the node's
//! ```
//!
//! `raw` is before fragments are put together, connection tracking and routing: a packet with a false sender costs
//! no entry, and is answered by no ICMP error either. Frames to some of the addresses 01:80:c2:00:00:0X (IEEE
//! 802.1D §7.12.6) a bridge does not take from its port: the kernel hands them up as if they came by the tap
//! itself, where nothing else comes. Routers pass no such frame on (`ip_forward` wants PACKET_HOST), so that
//! `input` is where they end.

use std::net::Ipv4Addr;

use crate::config::Network;
use crate::net::{Port, Transport};
use crate::nft::build::{cmp, ct_state, ifname, load_network};
use crate::nft::expr::{CmpOp, meta};
use crate::nft::{Chain, Expr, Rule, Verdict, hook, set};

use super::matches::{
    ESTABLISHED, INVALID, RELATED, address, dropped, echo_request, field, interface, not_of, within,
};
use super::version::{DADDR, SADDR};
use super::{Build, TRANSPORTS, ports_of};

/// NF_IP_PRI_RAW_BEFORE_DEFRAG and _FILTER (linux/netfilter_ipv4.h).
const PRIORITY_RAW: i32 = -450;
pub(super) const PRIORITY_FILTER: i32 = 0;
/// NF_ARP_IN (linux/netfilter_arp.h), and where an ARP packet says who sends it (RFC 826).
pub(super) const ARP_IN: u32 = 0;
pub(super) const ARP_SENDER: u32 = 14;

const FROM_GUEST: &str = "from-guest";
const INVALID_CHAIN: &str = "invalid";
/// Where clouds have their metadata service (RFC 3927's network, by convention).
pub(super) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const DHCP: Port = Port { transport: Transport::Udp, number: 67 };

/// What the guest is served at the gateway's address, and what the user opened. Sorted, no repeats.
pub(super) fn open(network: &Network) -> Vec<Port> {
    let dns = [Transport::Tcp, Transport::Udp].map(|transport| Port { transport, number: 53 });
    let served = dns.into_iter().chain([DHCP]).filter(|_| network.serve);
    let mut ports: Vec<Port> = network.gateway_ports.iter().copied().chain(served).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

impl Build {
    /// All that comes by the bridge, the pod's own stack and the world alike.
    pub(super) fn raw(&mut self) {
        let ipv6 = self.raw6();
        let bridge = &self.names.bridge;
        let mut spoofed = interface(meta::IIFNAME, CmpOp::Eq, bridge);
        spoofed.extend(address(SADDR, CmpOp::Neq, self.names.guest));
        spoofed.extend(field(SADDR, CmpOp::Neq, Ipv4Addr::UNSPECIFIED));
        spoofed.extend(dropped());
        let mut past = within(DADDR, self.names.network);
        past.extend(interface(meta::IIFNAME, CmpOp::Neq, bridge));
        past.push(cmp(CmpOp::Neq, ifname("lo")));
        past.extend(dropped());
        let mut rules = vec![
            ipv6,
            Rule::new(spoofed, "from the guest, but not with its address"),
            Rule::new(past, "from others to the guest's network, which is the pod's own affair"),
        ];
        rules.extend(self.past6());
        self.chain("raw", "filter", hook::PREROUTING, PRIORITY_RAW, rules);
    }

    /// What is for the pod itself.
    pub(super) fn input(&mut self) {
        let mut guest = interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge);
        guest.push(Expr::verdict(Verdict::Jump(FROM_GUEST.to_owned())));
        let mut tap = interface(meta::IIFNAME, CmpOp::Eq, &self.names.tap);
        tap.extend(dropped());
        let rules = vec![
            Rule::new(guest, "from the guest: what it was given"),
            Rule::new(tap, "from the guest, past the bridge: nothing"),
        ];
        self.chain("input", "filter", hook::INPUT, PRIORITY_FILTER, rules);
        let rules = self.opened();
        self.table.chains.push(Chain { rules, ..Chain::new(FROM_GUEST, None) });
    }

    /// The sender is the guest: `raw` has seen to it.
    fn opened(&mut self) -> Vec<Rule> {
        let gateway = self.names.mapping.gateway;
        let mut answers = ct_state(ESTABLISHED | RELATED).to_vec();
        answers.push(Expr::verdict(Verdict::Accept));
        let mut ping = address(DADDR, CmpOp::Eq, gateway);
        ping.extend(echo_request());
        ping.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![self.foreign_errors()];
        rules.extend(self.foreign_errors6());
        rules.extend([
            Rule::new(answers, "answers to the pod's own connections"),
            Rule::new(ping, "ping of the gateway"),
        ]);
        let open = self.names.open.clone();
        for (transport, word) in TRANSPORTS {
            let Some(ports) = ports_of(&open, transport) else { continue };
            let mut exprs = address(DADDR, CmpOp::Eq, gateway);
            exprs.extend(self.destination_ports(transport, ports));
            exprs.push(Expr::verdict(Verdict::Accept));
            rules.push(Rule::new(
                exprs,
                &format!("{word} ports that are the guest's to ask at the gateway"),
            ));
        }
        if open.contains(&DHCP) {
            let mut exprs = address(DADDR, CmpOp::Eq, Ipv4Addr::BROADCAST);
            exprs.extend(
                self.destination_ports(DHCP.transport, vec![DHCP.number.to_be_bytes().to_vec()]),
            );
            exprs.push(Expr::verdict(Verdict::Accept));
            rules.push(Rule::new(exprs, "DHCP of a client that knows no server"));
        }
        rules.extend(self.opened6());
        rules
            .push(Rule::new(dropped().to_vec(), "from the guest to the pod, and not opened to it"));
        rules
    }

    /// What is not forwarded, whoever sent it.
    pub(super) fn unfit(&self) -> Vec<Rule> {
        let names = &self.names;
        let mut invalid = ct_state(INVALID | RELATED).to_vec();
        invalid.push(Expr::verdict(Verdict::Jump(INVALID_CHAIN.to_owned())));
        let mut rules = vec![Rule::new(
            invalid,
            "of no connection, or about one: what is not the guest's is dropped",
        )];
        if names.neighbours {
            let mut nobody = interface(meta::OIFNAME, CmpOp::Eq, &names.bridge);
            nobody.extend(address(DADDR, CmpOp::Neq, names.mapping.guest));
            nobody.extend(dropped());
            rules.push(Rule::new(
                nobody,
                "to the guest's network, but not to the guest: no other host is there",
            ));
        }
        rules.extend(self.unfit6());
        if names.drop_metadata {
            let mut metadata = interface(meta::IIFNAME, CmpOp::Eq, &names.bridge);
            metadata.extend(address(DADDR, CmpOp::Eq, METADATA));
            metadata.extend(dropped());
            rules.push(Rule::new(metadata, "from the guest to the node's metadata service"));
        }
        rules
    }

    /// A chain of its own, so that what is valid pays one comparison: NAT passes these packets by.
    pub(super) fn invalid(&mut self) {
        let mut invalid = interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge);
        invalid.extend(ct_state(INVALID));
        invalid.extend(dropped());
        let rules = vec![
            Rule::new(invalid, "from the guest, of no connection: it would leave untranslated"),
            self.foreign_errors(),
        ]
        .into_iter()
        .chain(self.names.nat6.as_ref().and_then(|_| self.foreign_errors6()))
        .collect();
        self.table.chains.push(Chain { rules, ..Chain::new(INVALID_CHAIN, None) });
    }

    /// An ICMP error that quotes a packet of somebody else's: who sends it there believes that it is of the way there.
    fn foreign_errors(&self) -> Rule {
        let mut exprs = interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge);
        exprs.extend(ct_state(RELATED));
        exprs.extend(not_of(self.names.mapping.guest));
        exprs.extend(dropped());
        Rule::new(exprs, "from the guest: errors about connections that are not its own")
    }

    /// The end of what the guest may say by ARP.
    pub(super) fn no_other_arp(&self) -> [Rule; 2] {
        [
            (&self.names.bridge, "from the guest, but not with its address"),
            (&self.names.tap, "from the guest, past the bridge: nothing"),
        ]
        .map(|(name, comment)| {
            let mut exprs = interface(meta::IIFNAME, CmpOp::Eq, name);
            exprs.extend(dropped());
            Rule::new(exprs, comment)
        })
    }

    /// The table of family arp.
    pub(super) fn arp(&mut self) {
        let senders = [Ipv4Addr::UNSPECIFIED, self.names.mapping.guest];
        let mut own = interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge);
        own.push(load_network(ARP_SENDER, 4));
        own.push(
            self.one_of(set::IPV4_ADDR, senders.map(|address| address.octets().to_vec()).to_vec()),
        );
        own.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![Rule::new(own, "from the guest: its address, or none yet (RFC 5227)")];
        rules.extend(self.no_other_arp());
        self.chain("input", "filter", ARP_IN, PRIORITY_FILTER, rules);
    }
}
