//! Between the pod's own stack and a guest that has the pod's IPv4 address (`BERTH_IPV4=own`); as `alias` for IPv6, and
//! ARP beside it.
//!
//! ```text
//! guest ─ arp: who has GATEWAY, tell POD ► tell ALIAS ─ kernel ─ arp: to ALIAS ► to POD ─► guest
//! ```
//!
//! The kernel answers no question that comes from an address of its own, and would answer for its own address, which is
//! the guest's (RFC 5227).

use std::net::Ipv4Addr;

use crate::nft::build::{cmp, equal, immediate, load_network};
use crate::nft::expr::{CmpOp, base, meta};
use crate::nft::{Expr, Rule, Verdict, set};
use crate::plan::ipv4::Own4;

use super::Build;
use super::alias::{TAKEN_BACK, WRITTEN};
use super::filter::{ARP_IN, ARP_SENDER, METADATA, PRIORITY_FILTER};
use super::matches::{address, dropped, field, interface, masquerade, was_dnat};
use super::version::{DADDR, SADDR, Version};

/// NF_ARP_OUT (linux/netfilter_arp.h), and where a packet says whom it asks (RFC 826).
const ARP_OUT: u32 = 1;
const ARP_TARGET: u32 = 24;

/// `arp saddr ip …` or `arp daddr ip …`
fn arp(offset: u32, op: CmpOp, address: Ipv4Addr) -> [Expr; 2] {
    [load_network(offset, 4), cmp(op, address.octets().to_vec())]
}

/// `arp saddr ip set …` or `arp daddr ip set …`
fn arp_written(offset: u32, address: Ipv4Addr) -> [Expr; 2] {
    let (csum_type, csum_offset, csum_flags) = (0, 0, 0);
    let base = base::NETWORK;
    let set =
        Expr::PayloadSet { base, offset, len: 4, sreg: 1, csum_type, csum_offset, csum_flags };
    [immediate(1, address.octets().to_vec()), set]
}

impl Build {
    /// What writes the guest's alias, and what takes it back: in the table of family ip.
    pub(super) fn aliases4(&mut self) -> (Vec<Rule>, Vec<Rule>) {
        let Some(Own4 { pod, alias, gateway, .. }) = self.names.own4.clone() else {
            return (Vec::new(), Vec::new());
        };
        let mut before = interface(meta::IIFNAME, CmpOp::Eq, &self.names.bridge);
        before.extend(field(SADDR, CmpOp::Eq, pod));
        before.push(load_network(DADDR, 4));
        let to_pod = [gateway, Ipv4Addr::BROADCAST].map(|address| address.octets().to_vec());
        before.push(self.one_of(set::IPV4_ADDR, to_pod.to_vec()));
        before.extend(Version::Four.written(SADDR, alias.octets().to_vec()));
        let mut after = interface(meta::OIFNAME, CmpOp::Eq, &self.names.bridge);
        after.extend(field(DADDR, CmpOp::Eq, alias));
        after.extend(Version::Four.written(DADDR, pod.octets().to_vec()));
        (vec![Rule::new(before, WRITTEN)], vec![Rule::new(after, TAKEN_BACK)])
    }

    /// `BERTH_METADATA_ADDRESS=drop`.
    pub(super) fn refused4(&self, first: &[Expr]) -> Option<Rule> {
        let mut exprs = first.to_vec();
        exprs.extend(field(DADDR, CmpOp::Eq, METADATA));
        exprs.extend(dropped());
        let rule = Rule::new(exprs, "from the guest to the node's metadata service");
        self.names.drop_metadata.then_some(rule)
    }

    /// The guest answers whom it does not take for itself.
    pub(super) fn postrouting4(&self) -> Option<Rule> {
        let own = self.names.own4.as_ref()?;
        let mut exprs = address(DADDR, CmpOp::Eq, own.alias);
        exprs.extend(interface(meta::OIFNAME, CmpOp::Eq, &self.names.bridge));
        exprs.extend(was_dnat());
        exprs.extend([Expr::counter(), masquerade()]);
        Some(Rule::new(exprs, "from the pod to its own address: as the guest's gateway"))
    }

    /// The table of family arp, where the guest has the pod's address.
    pub(super) fn arp4(&mut self, own: &Own4) {
        let bridge = self.names.bridge.clone();
        let from = || interface(meta::IIFNAME, CmpOp::Eq, &bridge);
        let mut others = from();
        others.extend(arp(ARP_TARGET, CmpOp::Neq, own.gateway));
        others.extend(dropped());
        let mut asks = from();
        asks.extend(arp(ARP_SENDER, CmpOp::Eq, own.pod));
        asks.extend(arp_written(ARP_SENDER, own.alias));
        asks.push(Expr::verdict(Verdict::Accept));
        let mut none_yet = from();
        none_yet.extend(equal(load_network(ARP_SENDER, 4), vec![0; 4]));
        none_yet.push(Expr::verdict(Verdict::Accept));
        let mut rules = vec![
            Rule::new(others, "from the guest: about others than its gateway, its own address too"),
            Rule::new(asks, "from the guest: its address, which is the pod's own too"),
            Rule::new(none_yet, "from the guest: none yet (RFC 5227)"),
        ];
        rules.extend(self.no_other_arp());
        self.chain("input", "filter", ARP_IN, PRIORITY_FILTER, rules);
        let mut answers = interface(meta::OIFNAME, CmpOp::Eq, &bridge);
        answers.extend(arp(ARP_TARGET, CmpOp::Eq, own.alias));
        answers.extend(arp_written(ARP_TARGET, own.pod));
        let rules = vec![Rule::new(answers, "to the guest, as it knows itself")];
        self.chain("output", "filter", ARP_OUT, PRIORITY_FILTER, rules);
    }
}
