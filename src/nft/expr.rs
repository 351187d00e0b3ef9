//! Expressions: the instructions a rule is made of, and their bytes (linux/netfilter/nf_tables.h).
//!
//! An expression that is unknown here, or carries an attribute that is unknown here, is kept whole as
//! [`Expr::Unknown`] and sent back byte for byte: nothing is dropped silently. What the kernel fills in by itself
//! (flags that follow from registers, an upper bound equal to the lower) is left out on both ways.

mod decode;
mod encode;

use std::collections::BTreeMap;

pub use super::names::extension::Extension;
pub use super::names::key::{base, ct, meta};

/// Register numbers: 0 is the verdict, 1 to 4 are sixteen bytes, 8 to 23 are the same space in fours.
pub type Register = u32;
pub const VERDICT: Register = 0;

/// Octets of a value, as the kernel bounds them: what all registers hold (NFT_DATA_VALUE_MAXLEN).
const VALUE_MAX: u32 = 64;

pub(super) fn length(octets: Option<u32>) -> Option<u32> {
    octets.filter(|octets| *octets <= VALUE_MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CmpOp {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

impl CmpOp {
    const ALL: [Self; 6] = [Self::Eq, Self::Neq, Self::Lt, Self::Lte, Self::Gt, Self::Gte];
}

/// Where a packet goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Drop,
    Accept,
    Continue,
    Return,
    Jump(String),
    Goto(String),
    /// Any other code, as the kernel has it.
    Code(i32),
}

/// What a register, or the right side of a map, is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// In the order the register holds it.
    Value(Vec<u8>),
    Verdict(Verdict),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    Snat,
    Dnat,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    Meta {
        key: u32,
        dreg: Register,
    },
    MetaSet {
        key: u32,
        sreg: Register,
    },
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        dreg: Register,
    },
    PayloadSet {
        base: u32,
        offset: u32,
        len: u32,
        sreg: Register,
        csum_type: u32,
        csum_offset: u32,
        csum_flags: u32,
    },
    Cmp {
        sreg: Register,
        op: CmpOp,
        data: Vec<u8>,
    },
    Range {
        sreg: Register,
        inverted: bool,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// `dreg = (sreg & mask) ^ xor`.
    Bitwise {
        sreg: Register,
        dreg: Register,
        len: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// `dreg = sreg << bits`, or `>>`.
    Shift {
        sreg: Register,
        dreg: Register,
        len: u32,
        right: bool,
        bits: u32,
    },
    Byteorder {
        sreg: Register,
        dreg: Register,
        hton: bool,
        len: u32,
        size: u32,
    },
    /// `dreg` is there for maps; 0 of it for verdict maps.
    Lookup {
        set: String,
        sreg: Register,
        dreg: Option<Register>,
        inverted: bool,
    },
    Immediate {
        dreg: Register,
        data: Data,
    },
    Counter {
        packets: u64,
        bytes: u64,
    },
    Ct {
        key: u32,
        dreg: Register,
        direction: Option<u8>,
    },
    CtSet {
        key: u32,
        sreg: Register,
        direction: Option<u8>,
    },
    Fib {
        dreg: Register,
        result: u32,
        flags: u32,
    },
    Rt {
        key: u32,
        dreg: Register,
    },
    Exthdr {
        field: Extension,
        dreg: Register,
    },
    ExthdrSet {
        field: Extension,
        sreg: Register,
    },
    /// Takes the option out.
    ExthdrReset {
        field: Extension,
    },
    Nat {
        kind: NatKind,
        family: u32,
        addr: Option<Register>,
        addr_max: Option<Register>,
        port: Option<Register>,
        port_max: Option<Register>,
        flags: u32,
    },
    Masquerade {
        port: Option<Register>,
        port_max: Option<Register>,
        flags: u32,
    },
    Redirect {
        port: Option<Register>,
        port_max: Option<Register>,
        flags: u32,
    },
    /// `unit` in seconds; `by_bytes` counts bytes, else packets; `over` inverts.
    Limit {
        rate: u64,
        unit_secs: u64,
        burst: u32,
        by_bytes: bool,
        over: bool,
    },
    Log {
        prefix: Option<String>,
        group: Option<u16>,
        snaplen: Option<u32>,
        threshold: Option<u16>,
        level: Option<u32>,
        flags: Option<u32>,
    },
    Reject {
        kind: u32,
        code: Option<u8>,
    },
    Notrack,
    /// `key` 0 transparent, 1 mark, 2 wildcard, 3 cgroupv2 at a level.
    Socket {
        key: u32,
        dreg: Register,
        level: Option<u32>,
    },
    /// `flags` 1: the version, too.
    Osf {
        dreg: Register,
        ttl: u8,
        flags: u32,
    },
    Numgen {
        dreg: Register,
        modulus: u32,
        random: bool,
        offset: u32,
    },
    /// Jenkins' hash of a key; without one, the symmetric hash of the flow.
    Hash {
        sreg: Option<Register>,
        dreg: Register,
        len: u32,
        modulus: u32,
        seed: Option<u32>,
        offset: u32,
    },
    /// `direction` 0 in, 1 out.
    Xfrm {
        dreg: Register,
        key: u32,
        direction: u8,
        spnum: u32,
    },
    Tunnel {
        key: u32,
        dreg: Register,
    },
    /// `flags` 1: over.
    Quota {
        bytes: u64,
        flags: u32,
        consumed: u64,
    },
    /// `flags` 1: over.
    Connlimit {
        count: u32,
        flags: u32,
    },
    /// When a packet came last, milliseconds ago.
    Last {
        set: bool,
        milliseconds: u64,
    },
    Tproxy {
        family: u32,
        addr: Option<Register>,
        port: Option<Register>,
    },
    /// `flags` 1 bypass, 2 fan out.
    Queue {
        from: u16,
        total: u16,
        flags: u16,
        sreg: Option<Register>,
    },
    Dup {
        addr: Option<Register>,
        device: Option<Register>,
    },
    Fwd {
        device: Register,
        addr: Option<Register>,
        family: Option<u32>,
    },
    /// `flags`: NF_SYNPROXY_OPT_*.
    Synproxy {
        mss: u16,
        wscale: u8,
        flags: u32,
    },
    /// Adds (0), updates (1) or deletes (2) an element; `timeout` in milliseconds.
    Dynset {
        set: String,
        operation: u32,
        key: Register,
        data: Option<Register>,
        timeout: Option<u64>,
        exprs: Vec<Expr>,
        flags: u32,
    },
    /// A match (or target) of x_tables, as iptables-nft loads them.
    Xt {
        target: bool,
        name: String,
        revision: u32,
        info: Vec<u8>,
    },
    FlowOffload {
        table: String,
    },
    /// The object that a map gives.
    ObjrefMap {
        set: String,
        sreg: Register,
    },
    /// A named counter (1), quota (2), ct helper (3), limit (4), …
    Objref {
        kind: u32,
        name: String,
    },
    /// `bytes`: the attributes of the expression as the kernel gave them.
    Unknown {
        name: String,
        bytes: Vec<u8>,
    },
}

/// How the sets of a batch are called on the wire: their template name and the identifier within the batch.
pub type SetIds = BTreeMap<String, (String, u32)>;

impl Expr {
    pub fn verdict(verdict: Verdict) -> Self {
        Self::Immediate { dreg: VERDICT, data: Data::Verdict(verdict) }
    }

    pub fn counter() -> Self {
        Self::Counter { packets: 0, bytes: 0 }
    }

    /// The set or map it uses, by name.
    pub fn set_name(&self) -> Option<&String> {
        match self {
            Self::Lookup { set, .. } | Self::Dynset { set, .. } | Self::ObjrefMap { set, .. } => {
                Some(set)
            }
            _ => None,
        }
    }

    pub(super) fn set_name_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Lookup { set, .. } | Self::Dynset { set, .. } | Self::ObjrefMap { set, .. } => {
                Some(set)
            }
            _ => None,
        }
    }

    /// The register a load fills.
    pub fn loads_into(&self) -> Option<Register> {
        match self {
            Self::Meta { dreg, .. }
            | Self::Payload { dreg, .. }
            | Self::Bitwise { dreg, .. }
            | Self::Shift { dreg, .. }
            | Self::Byteorder { dreg, .. }
            | Self::Immediate { dreg, .. }
            | Self::Ct { dreg, .. }
            | Self::Fib { dreg, .. }
            | Self::Rt { dreg, .. }
            | Self::Exthdr { dreg, .. }
            | Self::Socket { dreg, .. }
            | Self::Osf { dreg, .. }
            | Self::Numgen { dreg, .. }
            | Self::Hash { dreg, .. }
            | Self::Xfrm { dreg, .. }
            | Self::Tunnel { dreg, .. } => Some(*dreg),
            Self::Lookup { dreg, .. } => *dreg,
            _ => None,
        }
    }

    /// The kernel's name of the expression.
    pub fn name(&self) -> &str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } | Self::PayloadSet { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } | Self::Shift { .. } => "bitwise",
            Self::Byteorder { .. } => "byteorder",
            Self::Lookup { .. } => "lookup",
            Self::Immediate { .. } => "immediate",
            Self::Counter { .. } => "counter",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Rt { .. } => "rt",
            Self::Exthdr { .. } | Self::ExthdrSet { .. } | Self::ExthdrReset { .. } => "exthdr",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Redirect { .. } => "redir",
            Self::Limit { .. } => "limit",
            Self::Log { .. } => "log",
            Self::Reject { .. } => "reject",
            Self::Notrack => "notrack",
            Self::Socket { .. } => "socket",
            Self::Osf { .. } => "osf",
            Self::Numgen { .. } => "numgen",
            Self::Hash { .. } => "hash",
            Self::Xfrm { .. } => "xfrm",
            Self::Tunnel { .. } => "tunnel",
            Self::Quota { .. } => "quota",
            Self::Connlimit { .. } => "connlimit",
            Self::Last { .. } => "last",
            Self::Tproxy { .. } => "tproxy",
            Self::Queue { .. } => "queue",
            Self::Dup { .. } => "dup",
            Self::Fwd { .. } => "fwd",
            Self::Synproxy { .. } => "synproxy",
            Self::Dynset { .. } => "dynset",
            Self::Xt { target, .. } => {
                if *target {
                    "target"
                } else {
                    "match"
                }
            }
            Self::FlowOffload { .. } => "flow_offload",
            Self::Objref { .. } | Self::ObjrefMap { .. } => "objref",
            Self::Unknown { name, .. } => name,
        }
    }

    /// What nft has no words for, visible as what it is.
    pub fn raw(&self) -> String {
        match self {
            Self::Unknown { name, bytes } => format!("<{name} {}>", super::names::hex(bytes)),
            expr => format!("<{}>", expr.name()),
        }
    }
}
