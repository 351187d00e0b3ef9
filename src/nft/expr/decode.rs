//! Bytes to expressions.

use super::super::attr::Attributes;
use super::{CmpOp, Data, Expr, Extension, NatKind, Verdict};

/// Flags the kernel derives from the registers given: NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED.
const NAT_DERIVED: u32 = 3;

impl Expr {
    /// An expression list, NFTA_RULE_EXPRESSIONS or NFTA_SET_ELEM_EXPRESSIONS.
    pub fn decode_list(list: Attributes<'_>) -> Vec<Self> {
        list.filter(|(kind, _)| *kind == 1).map(|(_, bytes)| Self::decode(Attributes(bytes))).collect()
    }

    /// Never fails: what is not understood is [`Expr::Unknown`].
    pub fn decode(attributes: Attributes<'_>) -> Self {
        let name = attributes.text(1).unwrap_or_default();
        let data = attributes.value(2).unwrap_or(&[]);
        Self::decode_known(&name, Attributes(data))
            .unwrap_or_else(|| Self::Unknown { name, bytes: data.to_vec() })
    }
    fn decode_known(name: &str, attributes: Attributes<'_>) -> Option<Self> {
        Self::decode_load(name, attributes)
            .or_else(|| Self::decode_match(name, attributes))
            .or_else(|| Self::decode_action(name, attributes))
    }

    fn decode_load(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "meta" if a.only(&[1, 2]) => Self::Meta { key: a.u32(2)?, dreg: a.u32(1)? },
            "meta" if a.only(&[2, 3]) => Self::MetaSet { key: a.u32(2)?, sreg: a.u32(3)? },
            "payload" if a.only(&[1, 2, 3, 4]) => {
                Self::Payload { base: a.u32(2)?, offset: a.u32(3)?, len: a.u32(4)?, dreg: a.u32(1)? }
            }
            "payload" if a.only(&[2, 3, 4, 5, 6, 7, 8]) => Self::PayloadSet {
                base: a.u32(2)?,
                offset: a.u32(3)?,
                len: a.u32(4)?,
                sreg: a.u32(5)?,
                csum_type: a.u32(6).unwrap_or(0),
                csum_offset: a.u32(7).unwrap_or(0),
                csum_flags: a.u32(8).unwrap_or(0),
            },
            "immediate" if a.only(&[1, 2]) => {
                Self::Immediate { dreg: a.u32(1)?, data: Data::decode(a.nest(2)?)? }
            }
            "ct" if a.only(&[1, 2, 3]) => Self::Ct { key: a.u32(2)?, dreg: a.u32(1)?, direction: a.u8(3) },
            "ct" if a.only(&[2, 3, 4]) => Self::CtSet { key: a.u32(2)?, sreg: a.u32(4)?, direction: a.u8(3) },
            "fib" if a.only(&[1, 2, 3]) => Self::Fib { dreg: a.u32(1)?, result: a.u32(2)?, flags: a.u32(3)? },
            "rt" if a.only(&[1, 2]) => Self::Rt { key: a.u32(2)?, dreg: a.u32(1)? },
            "exthdr" if a.only(&[1, 2, 3, 4, 5, 6]) => {
                Self::Exthdr { field: Extension::decode(a)?, dreg: a.u32(1)? }
            }
            "exthdr" if a.only(&[2, 3, 4, 5, 6, 7]) => {
                Self::ExthdrSet { field: Extension::decode(a)?, sreg: a.u32(7)? }
            }
            _ => return None,
        })
    }

    fn decode_match(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
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
            "lookup" if a.only(&[1, 2, 3, 4, 5]) => {
                Self::Lookup { set: a.text(1)?, sreg: a.u32(2)?, dreg: a.u32(3), inverted: flag(a.u32(5))? }
            }
            _ => return None,
        })
    }

    fn decode_action(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "counter" if a.only(&[1, 2, 3]) => Self::Counter { packets: a.u64(2)?, bytes: a.u64(1)? },
            "nat" if a.only(&[1, 2, 3, 4, 5, 6, 7]) => Self::Nat {
                kind: if flag(a.u32(1))? { NatKind::Dnat } else { NatKind::Snat },
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
            "reject" if a.only(&[1, 2]) => Self::Reject { kind: a.u32(1)?, code: a.u8(2) },
            "notrack" if a.only(&[]) => Self::Notrack,
            "objref" if a.only(&[1, 2]) => Self::Objref { kind: a.u32(1)?, name: a.text(2)? },
            _ => return None,
        })
    }
}

impl Verdict {
    pub fn decode(attributes: Attributes<'_>) -> Option<Self> {
        Some(match attributes.i32(1)? {
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
    pub fn decode(attributes: Attributes<'_>) -> Option<Self> {
        match attributes.nest(2) {
            Some(verdict) => Some(Self::Verdict(Verdict::decode(verdict)?)),
            None => Some(Self::Value(attributes.value(1)?.to_vec())),
        }
    }
}

impl Extension {
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

fn value_of(attributes: Attributes<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(attributes.nest(kind)?.value(1)?.to_vec())
}

/// A number that must be 0 or 1; absent is 0.
fn flag(value: Option<u32>) -> Option<bool> {
    match value.unwrap_or(0) {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
