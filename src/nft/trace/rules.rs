//! The rules that mark packets for the kernel to trace.
//!
//! Two base chains before all but defragmentation: what comes in, and what this host sends. Each packet is marked
//! by one rule at most, and leaves the chain there, so that one event of ours begins each trace.

use std::net::IpAddr;
use std::str::FromStr;

use super::super::expr::{CmpOp, Data, Expr, Verdict, base, meta};
use super::super::{
    Chain, Family, Hook, Policy, Rule, Ruleset, Set, Table, Userdata, hook, set as kinds, table as flags,
};
use super::packet::protocol_number;
use crate::net::{IfName, Transport};

/// Before `raw` (-300) and after defragmentation (-400).
pub const PRIORITY: i32 = -350;

/// NFT_META_NFTRACE.
const NFTRACE: u32 = 12;
const UDPLITE: u8 = 136;
const DCCP: u8 = 33;

/// Which packets; all when nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub from: Option<Net>,
    pub to: Option<Net>,
    pub protocol: Option<u8>,
    /// Of the source or of the destination.
    pub port: Option<u16>,
    pub iif: Option<IfName>,
}

/// An address or a network, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    pub address: IpAddr,
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
            Some(word) => word.parse().ok().filter(|length| *length <= whole).ok_or_else(wrong)?,
        };
        Ok(Self { address, length })
    }
}

impl Filter {
    /// A protocol by name or number.
    pub fn protocol(word: &str) -> Result<u8, String> {
        protocol_number(word)
            .ok_or_else(|| format!("{word:?} is not a protocol: tcp, udp, icmp, icmpv6, sctp, … or a number"))
    }

    /// Why no packet could be both, if so.
    pub fn contradiction(&self) -> Option<String> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from.address.is_ipv4() != to.address.is_ipv4()
        {
            return Some(format!("{} and {} are of different families", from.address, to.address));
        }
        let ports =
            [Transport::Tcp.number(), Transport::Udp.number(), Transport::Sctp.number(), UDPLITE, DCCP];
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
        let mut name = iif.as_str().as_bytes().to_vec();
        name.resize(16, 0);
        exprs.extend(equal(Expr::Meta { key: meta::IIFNAME, dreg: 1 }, name));
    }
    for (net, v4, v6) in [(filter.from, 12, 8), (filter.to, 16, 24)] {
        if let Some(net) = net {
            exprs.extend(network(net, v4, v6));
        }
    }
    if let Some(protocol) = filter.protocol {
        exprs.extend(equal(Expr::Meta { key: meta::L4PROTO, dreg: 1 }, vec![protocol]));
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
        let load = Expr::Payload { base: base::TRANSPORT, offset, len: 2, dreg: 1 };
        exprs.extend(equal(load, port.to_be_bytes().to_vec()));
        exprs.extend(mark());
        rules.push(Rule { exprs, ..Rule::default() });
    }
    rules
}

fn equal(load: Expr, data: Vec<u8>) -> [Expr; 2] {
    [load, Expr::Cmp { sreg: 1, op: CmpOp::Eq, data }]
}

/// `meta nftrace set 1 accept`
fn mark() -> [Expr; 3] {
    [
        Expr::Immediate { dreg: 1, data: Data::Value(vec![1]) },
        Expr::MetaSet { key: NFTRACE, sreg: 1 },
        Expr::verdict(Verdict::Accept),
    ]
}

fn network(net: Net, v4: u32, v6: u32) -> Vec<Expr> {
    let (family, offset, octets) = match net.address {
        IpAddr::V4(address) => (2, v4, address.octets().to_vec()),
        IpAddr::V6(address) => (10, v6, address.octets().to_vec()),
    };
    let len = u32::try_from(octets.len()).unwrap_or(0);
    let mut exprs = equal(Expr::Meta { key: meta::NFPROTO, dreg: 1 }, vec![family]).to_vec();
    exprs.push(Expr::Payload { base: base::NETWORK, offset, len, dreg: 1 });
    let mask = mask(octets.len(), net.length);
    let data = octets.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
    if mask.iter().any(|octet| *octet != 0xff) {
        exprs.push(Expr::Bitwise { sreg: 1, dreg: 1, len, xor: vec![0; mask.len()], mask });
    }
    exprs.push(Expr::Cmp { sreg: 1, op: CmpOp::Eq, data });
    exprs
}

fn mask(octets: usize, length: u8) -> Vec<u8> {
    let mut left = u32::from(length);
    let mut mask = Vec::new();
    for _ in 0..octets {
        let bits = left.min(8);
        mask.push(u8::try_from(0xff00_u32 >> bits & 0xff).unwrap_or(0));
        left -= bits;
    }
    mask
}

/// `meta l4proto { tcp, udp, … }`
fn has_ports(sets: &mut Vec<Set>) -> [Expr; 2] {
    let name = format!("__set{}", sets.len());
    let mut protocols = vec![Transport::Tcp.number(), Transport::Udp.number(), Transport::Sctp.number()];
    protocols.extend([UDPLITE, DCCP]);
    protocols.sort_unstable();
    let keys = protocols.into_iter().map(|protocol| vec![protocol]).collect();
    sets.push(Set::anonymous(&name, kinds::INET_PROTO, keys));
    let lookup = Expr::Lookup { set: name, sreg: 1, dreg: None, inverted: false };
    [Expr::Meta { key: meta::L4PROTO, dreg: 1 }, lookup]
}
