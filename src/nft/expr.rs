//! Expressions: the instructions a rule is made of, and their bytes (linux/netfilter/nf_tables.h).
//!
//! An expression that is unknown here, or carries an attribute that is unknown here, is kept whole as
//! [`Expr::Unknown`] and sent back byte for byte: nothing is dropped silently. What the kernel fills in by itself
//! (flags that follow from registers, an upper bound equal to the lower) is left out on both ways.

mod decode;
mod encode;

use std::collections::BTreeMap;

use super::attr::{Attributes, Writer};

/// Register numbers: 0 is the verdict, 1 to 4 are sixteen bytes, 8 to 23 are the same space in fours.
pub type Register = u32;
pub const VERDICT: Register = 0;

/// `enum nft_meta_keys`, as far as it has names here.
pub mod meta {
    pub const LEN: u32 = 0;
    pub const PROTOCOL: u32 = 1;
    pub const MARK: u32 = 3;
    pub const IIF: u32 = 4;
    pub const OIF: u32 = 5;
    pub const IIFNAME: u32 = 6;
    pub const OIFNAME: u32 = 7;
    pub const IIFTYPE: u32 = 8;
    pub const NFPROTO: u32 = 15;
    pub const L4PROTO: u32 = 16;
    pub const PKTTYPE: u32 = 19;
}

/// `enum nft_ct_keys`, as far as it has names here.
pub mod ct {
    pub const STATE: u32 = 0;
    pub const DIRECTION: u32 = 1;
    pub const STATUS: u32 = 2;
    pub const MARK: u32 = 3;
}

/// What a payload offset counts from.
pub mod base {
    pub const LINK: u32 = 0;
    pub const NETWORK: u32 = 1;
    pub const TRANSPORT: u32 = 2;
}

/// Attributes of a quota (1 octets, 2 flags, 4 octets consumed), without the flag that says it is used up, which
/// is the kernel's to set.
pub(super) fn quota(bytes: &[u8], consumed: bool) -> Vec<u8> {
    let attributes = Attributes(bytes);
    let mut writer = Writer::new();
    if let Some(octets) = attributes.u64(1) {
        writer.u64(1, octets);
    }
    writer.some_u32(2, attributes.u32(2).map(|flags| flags & 1));
    if let Some(octets) = attributes.u64(4).filter(|_| consumed) {
        writer.u64(4, octets);
    }
    writer.into_bytes()
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

/// A header option or extension header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extension {
    /// 0 IPv6 extension header, 1 TCP option, 2 IPv4 option, 3 SCTP chunk, 4 DCCP option.
    pub space: u32,
    pub kind: u8,
    pub offset: u32,
    pub len: u32,
    /// 1: match presence only.
    pub flags: u32,
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

    /// Whether the kernel counts in it; what it has counted is not part of what is wanted.
    pub(super) fn is_stateful(&self) -> bool {
        match self {
            Self::Counter { .. } => true,
            Self::Unknown { name, .. } => matches!(name.as_str(), "quota" | "last"),
            _ => false,
        }
    }

    /// As it was before anything was counted.
    pub(super) fn reset_state(&mut self) {
        match self {
            Self::Counter { packets, bytes } => (*packets, *bytes) = (0, 0),
            Self::Unknown { name, bytes } if name == "quota" => *bytes = quota(bytes, false),
            Self::Unknown { name, bytes } if name == "last" => bytes.clear(),
            _ => {}
        }
    }

    /// What goes on counting where this one is.
    pub(super) fn for_reuse(&self) -> Self {
        match self {
            Self::Unknown { name, bytes } if name == "quota" => {
                Self::Unknown { name: name.clone(), bytes: quota(bytes, true) }
            }
            other => other.clone(),
        }
    }

    /// The kernel's name of the expression.
    pub fn name(&self) -> &str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } | Self::PayloadSet { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } => "bitwise",
            Self::Byteorder { .. } => "byteorder",
            Self::Lookup { .. } => "lookup",
            Self::Immediate { .. } => "immediate",
            Self::Counter { .. } => "counter",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Rt { .. } => "rt",
            Self::Exthdr { .. } | Self::ExthdrSet { .. } => "exthdr",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Redirect { .. } => "redir",
            Self::Limit { .. } => "limit",
            Self::Log { .. } => "log",
            Self::Reject { .. } => "reject",
            Self::Notrack => "notrack",
            Self::Objref { .. } => "objref",
            Self::Unknown { name, .. } => name,
        }
    }
}
