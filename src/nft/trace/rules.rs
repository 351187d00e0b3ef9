//! The rules that mark packets for the kernel to trace.
//!
//! Two base chains before all but defragmentation: what comes in, and what this host sends. Each packet is marked
//! by one rule at most, and leaves the chain there, so that one event of ours begins each trace.

use std::net::IpAddr;
use std::str::FromStr;

use super::super::build::{
    IPV4, IPV6, and, cmp, equal, ifname, immediate, load_meta, load_network, load_transport,
    meta_l4proto, meta_nfproto, prefix_mask,
};
use super::super::expr::{CmpOp, Expr, Verdict, meta};
use super::super::names::protocol;
use super::super::{
    Chain, Family, Hook, Policy, Rule, Ruleset, Set, Table, Userdata, hook, set as kinds,
    table as flags,
};
use crate::net::{IfName, Transport, decimal};

/// Before `raw` (-300) and after defragmentation (-400).
pub const PRIORITY: i32 = -350;

const UDPLITE: u8 = 136;
const DCCP: u8 = 33;

/// Which packets; all when nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Source.
    pub from: Option<Net>,
    /// Destination.
    pub to: Option<Net>,
    /// IANA's number of the transport.
    pub protocol: Option<u8>,
    /// Of the source or of the destination.
    pub port: Option<u16>,
    /// The interface it came by.
    pub iif: Option<IfName>,
}

/// An address or a network, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    /// One of its addresses.
    pub address: IpAddr,
    /// Bits: 32 or 128 for a single address.
    pub length: u8,
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let wrong = || format!("{text:?} is not an address or a network such as 10.0.0.0/8");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some(word) => decimal(word).filter(|length| *length <= whole).ok_or_else(wrong)?,
        };
        Ok(Self { address, length })
    }
}

impl Filter {
    /// A protocol by name or number.
    pub fn protocol(word: &str) -> Result<u8, String> {
        protocol::number(word).ok_or_else(|| {
            format!(
                "{word:?} is not a protocol above IP: tcp, udp, icmp, icmpv6, sctp, … or a number; \
                 all of IPv4 is --from 0.0.0.0/0, of IPv6 --from ::/0"
            )
        })
    }

    /// Why no packet could be both, if so.
    pub(crate) fn contradiction(&self) -> Option<String> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from.address.is_ipv4() != to.address.is_ipv4()
        {
            return Some(format!("{} and {} are of different families", from.address, to.address));
        }
        let ports = [
            Transport::Tcp.number(),
            Transport::Udp.number(),
            Transport::Sctp.number(),
            UDPLITE,
            DCCP,
        ];
        match (self.protocol, self.port) {
            (Some(protocol), Some(_)) if !ports.contains(&protocol) => {
                Some(format!("{} has no ports", super::protocol_name(protocol)))
            }
            _ => None,
        }
    }
}

/// The table that marks the packets of `filter`.
pub fn ruleset(name: &str, filter: &Filter) -> Ruleset {
    let mut table = Table::new(Family::INET, name);
    // It goes when the socket that made it is closed, whatever becomes of us.
    table.flags = flags::OWNER;
    table.userdata = Userdata::comment("marks packets for berth nft trace; gone when it ends");
    for (chain, number) in [("prerouting", hook::PREROUTING), ("output", hook::OUTPUT)] {
        // What this host sends has come in nowhere.
        if number == hook::OUTPUT && filter.iif.is_some() {
            continue;
        }
        let rules = rules(filter, &mut table.sets);
        let hook = Hook {
            kind: "filter".to_owned(),
            number,
            priority: PRIORITY,
            devices: Vec::new(),
            policy: Policy::Accept,
        };
        table.chains.push(Chain { rules, ..Chain::new(chain, Some(hook)) });
    }
    Ruleset { tables: vec![table] }
}

fn rules(filter: &Filter, sets: &mut Vec<Set>) -> Vec<Rule> {
    let mut exprs = Vec::new();
    if let Some(iif) = &filter.iif {
        exprs.extend(equal(load_meta(meta::IIFNAME), ifname(iif.as_str())));
    }
    for (net, v4, v6) in [(filter.from, 12, 8), (filter.to, 16, 24)] {
        if let Some(net) = net {
            exprs.extend(network(net, v4, v6));
        }
    }
    if let Some(protocol) = filter.protocol {
        exprs.extend(meta_l4proto(protocol));
    }
    let Some(port) = filter.port else {
        exprs.extend(mark());
        return vec![Rule { exprs, ..Rule::default() }];
    };
    let mut rules = Vec::new();
    for offset in [0, 2] {
        let mut exprs = exprs.clone();
        if filter.protocol.is_none() {
            exprs.extend(has_ports(sets));
        }
        exprs.extend(equal(load_transport(offset, 2), port.to_be_bytes().to_vec()));
        exprs.extend(mark());
        rules.push(Rule { exprs, ..Rule::default() });
    }
    rules
}

/// `meta nftrace set 1 accept`
fn mark() -> [Expr; 3] {
    [
        immediate(1, vec![1]),
        Expr::MetaSet { key: meta::NFTRACE, sreg: 1 },
        Expr::verdict(Verdict::Accept),
    ]
}

fn network(net: Net, v4: u32, v6: u32) -> Vec<Expr> {
    let (family, offset, octets) = match net.address {
        IpAddr::V4(address) => (IPV4, v4, address.octets().to_vec()),
        IpAddr::V6(address) => (IPV6, v6, address.octets().to_vec()),
    };
    let mut exprs = meta_nfproto(family).to_vec();
    exprs.push(load_network(offset, u32::try_from(octets.len()).unwrap_or(0)));
    let mask =
        prefix_mask(octets.len(), net.length.into()).unwrap_or_else(|| vec![0xff; octets.len()]);
    let data = octets.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
    if mask.iter().any(|octet| *octet != 0xff) {
        exprs.push(and(mask));
    }
    exprs.push(cmp(CmpOp::Eq, data));
    exprs
}

/// `meta l4proto { tcp, udp, … }`
fn has_ports(sets: &mut Vec<Set>) -> [Expr; 2] {
    let name = format!("__set{}", sets.len());
    let mut protocols =
        vec![Transport::Tcp.number(), Transport::Udp.number(), Transport::Sctp.number()];
    protocols.extend([UDPLITE, DCCP]);
    protocols.sort_unstable();
    let keys = protocols.into_iter().map(|protocol| vec![protocol]).collect();
    sets.push(Set::anonymous(&name, kinds::INET_PROTO, keys));
    let lookup = Expr::Lookup { set: name, sreg: 1, dreg: None, inverted: false };
    [load_meta(meta::L4PROTO), lookup]
}
