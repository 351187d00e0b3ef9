//! Expressions: the instructions a rule is made of, and their bytes (linux/netfilter/nf_tables.h).
//!
//! An expression that is unknown here, or carries an attribute that is unknown here, is kept whole as
//! [`Expr::Unknown`] and sent back byte for byte: nothing is dropped silently. What the kernel fills in by itself
//! (flags that follow from registers, an upper bound equal to the lower) is left out on both ways.

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

impl Verdict {
    fn code(&self) -> i32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Continue => -1,
            Self::Jump(_) => -3,
            Self::Goto(_) => -4,
            Self::Return => -5,
            Self::Code(code) => *code,
        }
    }

    fn encode(&self, w: &mut Writer) {
        w.bytes(1, &self.code().to_be_bytes());
        if let Self::Jump(chain) | Self::Goto(chain) = self {
            w.text(2, chain);
        }
    }

    fn decode(attributes: Attributes<'_>) -> Option<Self> {
        #[expect(
            clippy::cast_possible_wrap,
            reason = "the code is a signed number in an unsigned attribute"
        )]
        let code = attributes.u32(1)? as i32;
        Some(match code {
            0 => Self::Drop,
            1 => Self::Accept,
            -1 => Self::Continue,
            -3 => Self::Jump(attributes.text(2)?),
            -4 => Self::Goto(attributes.text(2)?),
            -5 => Self::Return,
            other => Self::Code(other),
        })
    }
}

impl Data {
    pub fn encode(&self, kind: u16, w: &mut Writer) {
        w.nest(kind, |w| match self {
            Self::Value(bytes) => w.bytes(1, bytes),
            Self::Verdict(verdict) => w.nest(2, |w| verdict.encode(w)),
        });
    }

    pub fn decode(attributes: Attributes<'_>) -> Option<Self> {
        match attributes.nest(2) {
            Some(verdict) => Some(Self::Verdict(Verdict::decode(verdict)?)),
            None => Some(Self::Value(attributes.value(1)?.to_vec())),
        }
    }
}

fn value(kind: u16, bytes: &[u8], w: &mut Writer) {
    w.nest(kind, |w| w.bytes(1, bytes));
}

fn value_of(attributes: Attributes<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(attributes.nest(kind)?.value(1)?.to_vec())
}

/// Flags the kernel derives from the registers given: NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED.
const NAT_DERIVED: u32 = 3;

impl Expr {
    pub fn verdict(verdict: Verdict) -> Self {
        Self::Immediate {
            dreg: VERDICT,
            data: Data::Verdict(verdict),
        }
    }

    pub fn counter() -> Self {
        Self::Counter { packets: 0, bytes: 0 }
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

    /// One NFTA_LIST_ELEM of an expression list.
    pub fn encode(&self, sets: &SetIds, w: &mut Writer) {
        w.nest(1, |w| self.encode_bare(sets, w));
    }

    /// Name and data, as an element's expression carries them.
    pub fn encode_bare(&self, sets: &SetIds, w: &mut Writer) {
        w.text(1, self.name());
        w.nest(2, |w| self.encode_data(sets, w));
    }

    fn encode_data(&self, sets: &SetIds, w: &mut Writer) {
        match self {
            Self::Meta { key, dreg } => {
                w.u32(2, *key);
                w.u32(1, *dreg);
            }
            Self::MetaSet { key, sreg } => {
                w.u32(2, *key);
                w.u32(3, *sreg);
            }
            Self::Payload {
                base,
                offset,
                len,
                dreg,
            } => {
                w.u32(1, *dreg);
                w.u32(2, *base);
                w.u32(3, *offset);
                w.u32(4, *len);
            }
            Self::PayloadSet {
                base,
                offset,
                len,
                sreg,
                csum_type,
                csum_offset,
                csum_flags,
            } => {
                w.u32(5, *sreg);
                w.u32(2, *base);
                w.u32(3, *offset);
                w.u32(4, *len);
                w.u32(6, *csum_type);
                w.u32(7, *csum_offset);
                w.u32(8, *csum_flags);
            }
            Self::Cmp { sreg, op, data } => {
                w.u32(1, *sreg);
                w.u32(2, *op as u32);
                value(3, data, w);
            }
            Self::Range {
                sreg,
                inverted,
                from,
                to,
            } => {
                w.u32(1, *sreg);
                w.u32(2, u32::from(*inverted));
                value(3, from, w);
                value(4, to, w);
            }
            Self::Bitwise {
                sreg,
                dreg,
                len,
                mask,
                xor,
            } => {
                w.u32(1, *sreg);
                w.u32(2, *dreg);
                w.u32(3, *len);
                value(4, mask, w);
                value(5, xor, w);
            }
            Self::Byteorder {
                sreg,
                dreg,
                hton,
                len,
                size,
            } => {
                w.u32(1, *sreg);
                w.u32(2, *dreg);
                w.u32(3, u32::from(*hton));
                w.u32(4, *len);
                w.u32(5, *size);
            }
            Self::Lookup {
                set,
                sreg,
                dreg,
                inverted,
            } => {
                let found = sets.get(set);
                w.text(1, found.map_or(set, |(name, _)| name));
                w.u32(2, *sreg);
                w.some_u32(3, *dreg);
                w.some_u32(4, found.map(|(_, id)| *id));
                if *inverted {
                    w.u32(5, 1);
                }
            }
            Self::Immediate { dreg, data } => {
                w.u32(1, *dreg);
                data.encode(2, w);
            }
            Self::Counter { packets, bytes } => {
                w.u64(1, *bytes);
                w.u64(2, *packets);
            }
            Self::Ct { key, dreg, direction } => {
                w.u32(1, *dreg);
                w.u32(2, *key);
                if let Some(direction) = direction {
                    w.u8(3, *direction);
                }
            }
            Self::CtSet { key, sreg, direction } => {
                w.u32(4, *sreg);
                w.u32(2, *key);
                if let Some(direction) = direction {
                    w.u8(3, *direction);
                }
            }
            Self::Fib { dreg, result, flags } => {
                w.u32(1, *dreg);
                w.u32(2, *result);
                w.u32(3, *flags);
            }
            Self::Rt { key, dreg } => {
                w.u32(1, *dreg);
                w.u32(2, *key);
            }
            Self::Exthdr { field, dreg } => {
                w.u32(1, *dreg);
                field.encode(w);
            }
            Self::ExthdrSet { field, sreg } => {
                w.u32(7, *sreg);
                field.encode(w);
            }
            Self::Nat {
                kind,
                family,
                addr,
                addr_max,
                port,
                port_max,
                flags,
            } => {
                w.u32(1, *kind as u32);
                w.u32(2, *family);
                w.some_u32(3, *addr);
                w.some_u32(4, *addr_max);
                w.some_u32(5, *port);
                w.some_u32(6, *port_max);
                nonzero(7, *flags, w);
            }
            Self::Masquerade {
                port,
                port_max,
                flags,
            } => {
                nonzero(1, *flags, w);
                w.some_u32(2, *port);
                w.some_u32(3, *port_max);
            }
            Self::Redirect {
                port,
                port_max,
                flags,
            } => {
                w.some_u32(1, *port);
                w.some_u32(2, *port_max);
                nonzero(3, *flags, w);
            }
            Self::Limit {
                rate,
                unit_secs,
                burst,
                by_bytes,
                over,
            } => {
                w.u64(1, *rate);
                w.u64(2, *unit_secs);
                w.u32(3, *burst);
                w.u32(4, u32::from(*by_bytes));
                w.u32(5, u32::from(*over));
            }
            Self::Log {
                prefix,
                group,
                snaplen,
                threshold,
                level,
                flags,
            } => {
                if let Some(group) = group {
                    w.u16(1, *group);
                }
                if let Some(prefix) = prefix {
                    w.text(2, prefix);
                }
                w.some_u32(3, *snaplen);
                if let Some(threshold) = threshold {
                    w.u16(4, *threshold);
                }
                w.some_u32(5, *level);
                w.some_u32(6, *flags);
            }
            Self::Reject { kind, code } => {
                w.u32(1, *kind);
                if let Some(code) = code {
                    w.u8(2, *code);
                }
            }
            Self::Notrack => {}
            Self::Objref { kind, name } => {
                w.u32(1, *kind);
                w.text(2, name);
            }
            Self::Unknown { bytes, .. } => w.raw(bytes),
        }
    }

    /// An expression list, NFTA_RULE_EXPRESSIONS or NFTA_SET_ELEM_EXPRESSIONS.
    pub fn decode_list(list: Attributes<'_>) -> Vec<Self> {
        list.filter(|(kind, _)| *kind == 1)
            .map(|(_, bytes)| Self::decode(Attributes(bytes)))
            .collect()
    }

    /// Never fails: what is not understood is [`Expr::Unknown`].
    pub fn decode(attributes: Attributes<'_>) -> Self {
        let name = attributes.text(1).unwrap_or_default();
        let data = attributes.value(2).unwrap_or(&[]);
        Self::decode_known(&name, Attributes(data)).unwrap_or_else(|| Self::Unknown {
            name,
            bytes: data.to_vec(),
        })
    }

    fn decode_known(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "meta" if a.only(&[1, 2]) => Self::Meta {
                key: a.u32(2)?,
                dreg: a.u32(1)?,
            },
            "meta" if a.only(&[2, 3]) => Self::MetaSet {
                key: a.u32(2)?,
                sreg: a.u32(3)?,
            },
            "payload" if a.only(&[1, 2, 3, 4]) => Self::Payload {
                base: a.u32(2)?,
                offset: a.u32(3)?,
                len: a.u32(4)?,
                dreg: a.u32(1)?,
            },
            "payload" if a.only(&[2, 3, 4, 5, 6, 7, 8]) => Self::PayloadSet {
                base: a.u32(2)?,
                offset: a.u32(3)?,
                len: a.u32(4)?,
                sreg: a.u32(5)?,
                csum_type: a.u32(6).unwrap_or(0),
                csum_offset: a.u32(7).unwrap_or(0),
                csum_flags: a.u32(8).unwrap_or(0),
            },
            "cmp" if a.only(&[1, 2, 3]) => Self::Cmp {
                sreg: a.u32(1)?,
                op: *CmpOp::ALL.get(usize::try_from(a.u32(2)?).ok()?)?,
                data: value_of(a, 3)?,
            },
            "range" if a.only(&[1, 2, 3, 4]) => Self::Range {
                sreg: a.u32(1)?,
                inverted: flag(a.u32(2))?,
                from: value_of(a, 3)?,
                to: value_of(a, 4)?,
            },
            "bitwise" if a.only(&[1, 2, 3, 4, 5, 6]) && a.u32(6).unwrap_or(0) == 0 => Self::Bitwise {
                sreg: a.u32(1)?,
                dreg: a.u32(2)?,
                len: a.u32(3)?,
                mask: value_of(a, 4)?,
                xor: value_of(a, 5)?,
            },
            "byteorder" if a.only(&[1, 2, 3, 4, 5]) => Self::Byteorder {
                sreg: a.u32(1)?,
                dreg: a.u32(2)?,
                hton: flag(a.u32(3))?,
                len: a.u32(4)?,
                size: a.u32(5)?,
            },
            "lookup" if a.only(&[1, 2, 3, 4, 5]) => Self::Lookup {
                set: a.text(1)?,
                sreg: a.u32(2)?,
                dreg: a.u32(3),
                inverted: flag(a.u32(5))?,
            },
            "immediate" if a.only(&[1, 2]) => Self::Immediate {
                dreg: a.u32(1)?,
                data: Data::decode(a.nest(2)?)?,
            },
            "counter" if a.only(&[1, 2, 3]) => Self::Counter {
                packets: a.u64(2)?,
                bytes: a.u64(1)?,
            },
            "ct" if a.only(&[1, 2, 3]) => Self::Ct {
                key: a.u32(2)?,
                dreg: a.u32(1)?,
                direction: a.u8(3),
            },
            "ct" if a.only(&[2, 3, 4]) => Self::CtSet {
                key: a.u32(2)?,
                sreg: a.u32(4)?,
                direction: a.u8(3),
            },
            "fib" if a.only(&[1, 2, 3]) => Self::Fib {
                dreg: a.u32(1)?,
                result: a.u32(2)?,
                flags: a.u32(3)?,
            },
            "rt" if a.only(&[1, 2]) => Self::Rt {
                key: a.u32(2)?,
                dreg: a.u32(1)?,
            },
            "exthdr" if a.only(&[1, 2, 3, 4, 5, 6]) => Self::Exthdr {
                field: Extension::decode(a)?,
                dreg: a.u32(1)?,
            },
            "exthdr" if a.only(&[2, 3, 4, 5, 6, 7]) => Self::ExthdrSet {
                field: Extension::decode(a)?,
                sreg: a.u32(7)?,
            },
            "nat" if a.only(&[1, 2, 3, 4, 5, 6, 7]) => Self::Nat {
                kind: if flag(a.u32(1))? {
                    NatKind::Dnat
                } else {
                    NatKind::Snat
                },
                family: a.u32(2)?,
                addr: a.u32(3),
                addr_max: a.u32(4).filter(|max| Some(*max) != a.u32(3)),
                port: a.u32(5),
                port_max: a.u32(6).filter(|max| Some(*max) != a.u32(5)),
                flags: a.u32(7).unwrap_or(0) & !NAT_DERIVED,
            },
            "masq" if a.only(&[1, 2, 3]) => Self::Masquerade {
                port: a.u32(2),
                port_max: a.u32(3).filter(|max| Some(*max) != a.u32(2)),
                flags: a.u32(1).unwrap_or(0) & !NAT_DERIVED,
            },
            "redir" if a.only(&[1, 2, 3]) => Self::Redirect {
                port: a.u32(1),
                port_max: a.u32(2).filter(|max| Some(*max) != a.u32(1)),
                flags: a.u32(3).unwrap_or(0) & !NAT_DERIVED,
            },
            "limit" if a.only(&[1, 2, 3, 4, 5, 6]) => Self::Limit {
                rate: a.u64(1)?,
                unit_secs: a.u64(2)?,
                burst: a.u32(3).unwrap_or(0),
                by_bytes: flag(a.u32(4))?,
                over: flag(a.u32(5))?,
            },
            "log" if a.only(&[1, 2, 3, 4, 5, 6]) => Self::Log {
                prefix: a.text(2),
                group: a.u16(1),
                snaplen: a.u32(3),
                threshold: a.u16(4),
                level: a.u32(5),
                flags: a.u32(6),
            },
            "reject" if a.only(&[1, 2]) => Self::Reject {
                kind: a.u32(1)?,
                code: a.u8(2),
            },
            "notrack" if a.only(&[]) => Self::Notrack,
            "objref" if a.only(&[1, 2]) => Self::Objref {
                kind: a.u32(1)?,
                name: a.text(2)?,
            },
            _ => return None,
        })
    }
}

impl Extension {
    fn encode(&self, w: &mut Writer) {
        w.u8(2, self.kind);
        w.u32(3, self.offset);
        w.u32(4, self.len);
        // The kernel refuses any flags where it is to write the field.
        nonzero(5, self.flags, w);
        w.u32(6, self.space);
    }

    fn decode(a: Attributes<'_>) -> Option<Self> {
        Some(Self {
            space: a.u32(6).unwrap_or(0),
            kind: a.u8(2)?,
            offset: a.u32(3)?,
            len: a.u32(4)?,
            flags: a.u32(5).unwrap_or(0),
        })
    }
}

fn nonzero(kind: u16, value: u32, w: &mut Writer) {
    if value != 0 {
        w.u32(kind, value);
    }
}

/// A number that must be 0 or 1; absent is 0.
fn flag(value: Option<u32>) -> Option<bool> {
    match value.unwrap_or(0) {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
