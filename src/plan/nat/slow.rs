//! What is not handed on at once: fragments put together, errors, pings, other protocols, and everything where the kernel has
//! no table of family netdev. Connection tracking knows the pod's own; the others are sent on by `dup`, and dropped.

use crate::nft::build::{cmp, ct_state, equal, immediate, load_meta, load_transport, meta_l4proto};
use crate::nft::expr::{CmpOp, meta};
use crate::nft::{Chain, Expr, Rule, Verdict, hook, set};

use super::kernel::BRIDGE;
use super::matches::{ESTABLISHED, ICMP, RELATED, dropped, interface};
use super::own::{HOST_FRAME, ICMPV6, Next, last_hop, onward};
use super::owned::Owned;
use super::version::Version;
use super::{Build, TRANSPORTS};

/// NF_IP_PRI_RAW after fragments are put together, before connection tracking, and NF_IP_PRI_MANGLE behind it.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_MANGLE: i32 = -150;
/// After source NAT.
const PRIORITY_UNALIAS: i32 = 300;
/// Of ICMP (RFC 792).
const REDIRECT: u8 = 5;
/// Router solicitation to redirect (RFC 4861 §4).
const NEIGHBOUR_DISCOVERY: [u8; 5] = [133, 134, 135, 136, 137];

/// `dup to ADDRESS device INDEX drop`
fn dup(version: Version, to: Next<'_>, index: u32) -> Vec<Expr> {
    let address = match to {
        Next::Hop(address) => immediate(1, address.to_vec()),
        Next::Destination => version.load(version.daddr()),
    };
    vec![
        address,
        immediate(2, index.to_ne_bytes().to_vec()),
        Expr::Dup { addr: Some(1), device: Some(2) },
        Expr::verdict(Verdict::Drop),
    ]
}

impl Build {
    /// The table of one version.
    pub(super) fn slow(&mut self, own: &Owned) {
        let version = own.version;
        let bridge = self.names.bridge.clone();
        let mut guests = interface(meta::IIFNAME, CmpOp::Eq, &bridge);
        guests.push(version.load(version.saddr()));
        guests.push(self.one_of(version.set_type(), own.pod.clone()));
        guests.push(Expr::verdict(Verdict::Jump("from-guest".to_owned())));
        let (written, taken_back) = match version {
            Version::Four => self.aliases4(),
            Version::Six => self.aliases6(),
        };
        let from = [Rule::new(guests, "from the guest")].into_iter().chain(written).collect();
        self.chain("raw", "filter", hook::PREROUTING, PRIORITY_RAW, from);
        let mut rules = self.near(own, &[Expr::verdict(Verdict::Return)]);
        rules.extend(self.no_metadata(version));
        rules.extend(self.kept(0, &dropped()));
        rules.extend(onward(own, &self.is(version), &[], dup));
        self.table.chains.push(Chain { rules, ..Chain::new("from-guest", None) });
        self.chain("unalias", "filter", hook::POSTROUTING, PRIORITY_UNALIAS, taken_back);

        let mut to_pod = interface(meta::IIFNAME, CmpOp::Eq, &self.names.uplink.clone());
        to_pod.push(version.load(version.daddr()));
        to_pod.push(self.one_of(version.set_type(), own.pod.clone()));
        to_pod.push(Expr::verdict(Verdict::Jump("to-guest".to_owned())));
        let to = vec![Rule::new(to_pod, "to the pod's address")];
        self.chain("prerouting", "filter", hook::PREROUTING, PRIORITY_MANGLE, to);
        let rules = self.forged(own);
        self.table.chains.push(Chain { rules, ..Chain::new("forged", None) });
        let rules = self.delivered(own);
        self.table.chains.push(Chain { rules, ..Chain::new("to-guest", None) });
    }

    fn delivered(&mut self, own: &Owned) -> Vec<Rule> {
        let mut answers = ct_state(ESTABLISHED | RELATED).to_vec();
        answers.extend([Expr::counter(), Expr::verdict(Verdict::Accept)]);
        let mut rules = Vec::new();
        if own.version == Version::Six {
            let mut neighbours = meta_l4proto(ICMPV6).to_vec();
            neighbours.push(load_transport(0, 1));
            neighbours.push(self.one_of(
                set::ICMPV6_TYPE,
                NEIGHBOUR_DISCOVERY.iter().map(|kind| vec![*kind]).collect(),
            ));
            neighbours.push(Expr::verdict(Verdict::Accept));
            rules.push(Rule::new(neighbours, "neighbour discovery of the uplink"));
        }
        let mut for_others = vec![load_meta(meta::PKTTYPE), cmp(CmpOp::Neq, vec![HOST_FRAME])];
        for_others.extend(dropped());
        rules.push(Rule::new(for_others, "in a frame to others, or to all"));
        let forged = || Expr::verdict(Verdict::Jump("forged".to_owned()));
        match own.version {
            Version::Four => {
                rules.push(Rule::new(vec![forged()], "from senders that nobody beyond has"));
                let mut redirect = meta_l4proto(ICMP).to_vec();
                redirect.extend(equal(load_transport(0, 1), vec![REDIRECT]));
                redirect.extend(dropped());
                rules.push(Rule::new(redirect, "a redirect: of the guest's gateway alone"));
            }
            // Routers beyond have link-local addresses, too, and their errors count.
            Version::Six => {
                for (transport, word) in TRANSPORTS {
                    let mut exprs = meta_l4proto(transport.number()).to_vec();
                    exprs.push(forged());
                    let words = format!("{word} from senders that nobody beyond has");
                    rules.push(Rule::new(exprs, &words));
                }
            }
        }
        rules.extend(self.kept(2, &[Expr::counter(), Expr::verdict(Verdict::Accept)]));
        rules.push(Rule::new(answers, "of a connection of the pod's own"));
        rules.push(last_hop(own.version, &[]));
        let mut on = vec![Expr::counter()];
        on.extend(dup(own.version, Next::Hop(&own.alias), BRIDGE));
        rules.push(Rule::new(on, "to the guest"));
        rules
    }
}
