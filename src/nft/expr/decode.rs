//! Bytes to expressions.

use super::super::attr::{Attributes, array};
use super::{CmpOp, Data, Expr, Extension, NatKind, Verdict, length};

/// Flags the kernel derives from the registers given: NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED.
const NAT_DERIVED: u32 = 3;

impl Expr {
    /// An expression list, NFTA_RULE_EXPRESSIONS or NFTA_SET_ELEM_EXPRESSIONS.
    pub fn decode_list(list: Attributes<'_>) -> Vec<Self> {
        let mut exprs = Vec::with_capacity(list.count());
        exprs.extend(list.filter(|(kind, _)| *kind == 1).map(|(_, bytes)| Self::decode(Attributes(bytes))));
        exprs
    }

    /// Never fails: what is not understood is [`Expr::Unknown`].
    pub fn decode(attributes: Attributes<'_>) -> Self {
        let name = String::from_utf8_lossy(attributes.name(1).unwrap_or_default());
        let data = attributes.value(2).unwrap_or(&[]);
        Self::decode_known(&name, Attributes(data))
            .unwrap_or_else(|| Self::Unknown { name: name.into_owned(), bytes: data.to_vec() })
    }

    fn decode_known(name: &str, attributes: Attributes<'_>) -> Option<Self> {
        Self::decode_load(name, attributes)
            .or_else(|| Self::decode_more_loads(name, attributes))
            .or_else(|| Self::decode_match(name, attributes))
            .or_else(|| Self::decode_action(name, attributes))
            .or_else(|| Self::decode_more_actions(name, attributes))
    }

    fn decode_load(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "meta" if a.only(&[1, 2]) => Self::Meta { key: a.u32(2)?, dreg: a.u32(1)? },
            "meta" if a.only(&[2, 3]) => Self::MetaSet { key: a.u32(2)?, sreg: a.u32(3)? },
            "payload" if a.only(&[1, 2, 3, 4]) => {
                Self::Payload { base: a.u32(2)?, offset: a.u32(3)?, len: length(a.u32(4))?, dreg: a.u32(1)? }
            }
            "payload" if a.only(&[2, 3, 4, 5, 6, 7, 8]) => Self::PayloadSet {
                base: a.u32(2)?,
                offset: a.u32(3)?,
                len: length(a.u32(4))?,
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

    fn decode_more_loads(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "exthdr" if a.only(&[2, 3, 4, 5, 6]) => Self::ExthdrReset {
                field: Extension {
                    space: a.u32(6).unwrap_or(0),
                    kind: a.u8(2)?,
                    offset: 0,
                    len: 0,
                    flags: 0,
                },
            },
            "socket" if a.only(&[1, 2, 3]) => {
                Self::Socket { key: a.u32(1)?, dreg: a.u32(2)?, level: a.u32(3) }
            }
            "osf" if a.only(&[1, 2, 3]) => {
                Self::Osf { dreg: a.u32(1)?, ttl: a.u8(2).unwrap_or(0), flags: a.u32(3).unwrap_or(0) }
            }
            "numgen" if a.only(&[1, 2, 3, 4]) => Self::Numgen {
                dreg: a.u32(1)?,
                modulus: a.u32(2)?,
                random: flag(a.u32(3))?,
                offset: a.u32(4).unwrap_or(0),
            },
            "hash" if a.only(&[1, 2, 3, 4, 5, 6, 7]) => {
                let symmetric = flag(a.u32(7))?;
                let sreg = if symmetric { None } else { Some(a.u32(1)?) };
                Self::Hash {
                    sreg,
                    dreg: a.u32(2)?,
                    len: length(a.u32(3).or(Some(0)))?,
                    modulus: a.u32(4)?,
                    seed: a.u32(5),
                    offset: a.u32(6).unwrap_or(0),
                }
            }
            "xfrm" if a.only(&[1, 2, 3, 4]) => Self::Xfrm {
                dreg: a.u32(1)?,
                key: a.u32(2)?,
                direction: a.u8(3)?,
                spnum: a.u32(4).unwrap_or(0),
            },
            "tunnel" if a.only(&[1, 2]) => Self::Tunnel { key: a.u32(1)?, dreg: a.u32(2)? },
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
                len: length(a.u32(3))?,
                mask: value_of(a, 4)?,
                xor: value_of(a, 5)?,
            },
            "bitwise" if a.only(&[1, 2, 3, 6, 7]) && matches!(a.u32(6), Some(1 | 2)) => Self::Shift {
                sreg: a.u32(1)?,
                dreg: a.u32(2)?,
                len: length(a.u32(3))?,
                right: a.u32(6) == Some(2),
                bits: u32::from_ne_bytes(array(&value_of(a, 7)?, 0)?),
            },
            "byteorder" if a.only(&[1, 2, 3, 4, 5]) => Self::Byteorder {
                sreg: a.u32(1)?,
                dreg: a.u32(2)?,
                hton: flag(a.u32(3))?,
                len: length(a.u32(4))?,
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
            "objref" if a.only(&[3, 4, 5]) => Self::ObjrefMap { set: a.text(4)?, sreg: a.u32(3)? },
            _ => return None,
        })
    }

    fn decode_more_actions(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "quota" if a.only(&[1, 2, 3, 4]) => Self::Quota {
                bytes: a.u64(1)?,
                // The kernel's own note that it is used up is left out.
                flags: a.u32(2).unwrap_or(0) & 1,
                consumed: a.u64(4).unwrap_or(0),
            },
            "connlimit" if a.only(&[1, 2]) => {
                Self::Connlimit { count: a.u32(1)?, flags: a.u32(2).unwrap_or(0) }
            }
            "last" if a.only(&[1, 2, 3]) => {
                Self::Last { set: flag(a.u32(1))?, milliseconds: a.u64(2).unwrap_or(0) }
            }
            "tproxy" if a.only(&[1, 2, 3]) => {
                Self::Tproxy { family: a.u32(1)?, addr: a.u32(2), port: a.u32(3) }
            }
            "queue" if a.only(&[1, 2, 3, 4]) => Self::Queue {
                from: a.u16(1).unwrap_or(0),
                total: a.u16(2).unwrap_or(0),
                flags: a.u16(3).unwrap_or(0),
                sreg: a.u32(4),
            },
            "dup" if a.only(&[1, 2]) => Self::Dup { addr: a.u32(1), device: a.u32(2) },
            "fwd" if a.only(&[1, 2, 3]) => Self::Fwd { device: a.u32(1)?, addr: a.u32(2), family: a.u32(3) },
            "synproxy" if a.only(&[1, 2, 3]) => Self::Synproxy {
                mss: a.u16(1).unwrap_or(0),
                wscale: a.u8(2).unwrap_or(0),
                flags: a.u32(3).unwrap_or(0),
            },
            "dynset" if a.only(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) => Self::Dynset {
                set: a.text(1)?,
                operation: a.u32(3)?,
                key: a.u32(4)?,
                data: a.u32(5),
                // Told as 0 where there is none; refused as 0 where the set has none.
                timeout: a.u64(6).filter(|timeout| *timeout != 0),
                exprs: match (a.nest(7), a.nest(10)) {
                    (Some(one), _) => vec![Self::decode(one)],
                    (None, Some(list)) => Self::decode_list(list),
                    (None, None) => Vec::new(),
                },
                // That there are expressions follows from them.
                flags: a.u32(9).unwrap_or(0) & 1,
            },
            "match" | "target" if a.only(&[1, 2, 3]) => Self::Xt {
                target: name == "target",
                name: a.text(1)?,
                revision: a.u32(2)?,
                info: a.value(3)?.to_vec(),
            },
            "flow_offload" if a.only(&[1]) => Self::FlowOffload { table: a.text(1)? },
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
            len: length(a.u32(4))?,
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
