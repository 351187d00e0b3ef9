//! Statements, from bytes.

use super::super::super::attr::Attributes;
use super::super::super::nfta::{
    connlimit, counter, dup, dynset, flow, fwd, last, limit, log, masq, nat, objref, queue, quota,
    redir, reject, synproxy, tproxy, xt,
};
use super::super::{Expr, NatKind};
use super::flag;

/// Flags the kernel derives from the registers given: NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED.
const NAT_DERIVED: u32 = 3;

impl Expr {
    /// What counts, and what counting limits.
    pub(super) fn decode_counting(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "counter" if a.only(&[counter::BYTES, counter::PACKETS, counter::PAD]) => {
                Self::Counter { packets: a.u64(counter::PACKETS)?, bytes: a.u64(counter::BYTES)? }
            }
            "limit"
                if a.only(&[
                    limit::RATE,
                    limit::UNIT,
                    limit::BURST,
                    limit::TYPE,
                    limit::FLAGS,
                    limit::PAD,
                ]) =>
            {
                Self::Limit {
                    rate: a.u64(limit::RATE)?,
                    unit_secs: a.u64(limit::UNIT)?,
                    burst: a.u32(limit::BURST).unwrap_or(0),
                    by_bytes: flag(a.u32(limit::TYPE))?,
                    over: flag(a.u32(limit::FLAGS))?,
                }
            }
            "quota" if a.only(&[quota::BYTES, quota::FLAGS, quota::PAD, quota::CONSUMED]) => {
                Self::Quota {
                    bytes: a.u64(quota::BYTES)?,
                    // The kernel's own note that it is used up is left out.
                    flags: a.u32(quota::FLAGS).unwrap_or(0) & 1,
                    consumed: a.u64(quota::CONSUMED).unwrap_or(0),
                }
            }
            "connlimit" if a.only(&[connlimit::COUNT, connlimit::FLAGS]) => Self::Connlimit {
                count: a.u32(connlimit::COUNT)?,
                flags: a.u32(connlimit::FLAGS).unwrap_or(0),
            },
            "last" if a.only(&[last::SET, last::MSECS, last::PAD]) => Self::Last {
                set: flag(a.u32(last::SET))?,
                milliseconds: a.u64(last::MSECS).unwrap_or(0),
            },
            _ => return None,
        })
    }

    /// What translates addresses and ports. Of a range that is one value the kernel tells both ends.
    pub(super) fn decode_translation(name: &str, a: Attributes<'_>) -> Option<Self> {
        let last = |max, min| a.u32(max).filter(|max| Some(*max) != a.u32(min));
        Some(match name {
            "nat"
                if a.only(&[
                    nat::TYPE,
                    nat::FAMILY,
                    nat::REG_ADDR_MIN,
                    nat::REG_ADDR_MAX,
                    nat::REG_PROTO_MIN,
                    nat::REG_PROTO_MAX,
                    nat::FLAGS,
                ]) =>
            {
                Self::Nat {
                    kind: if flag(a.u32(nat::TYPE))? { NatKind::Dnat } else { NatKind::Snat },
                    family: a.u32(nat::FAMILY)?,
                    addr: a.u32(nat::REG_ADDR_MIN),
                    addr_max: last(nat::REG_ADDR_MAX, nat::REG_ADDR_MIN),
                    port: a.u32(nat::REG_PROTO_MIN),
                    port_max: last(nat::REG_PROTO_MAX, nat::REG_PROTO_MIN),
                    flags: a.u32(nat::FLAGS).unwrap_or(0) & !NAT_DERIVED,
                }
            }
            "masq" if a.only(&[masq::FLAGS, masq::REG_PROTO_MIN, masq::REG_PROTO_MAX]) => {
                Self::Masquerade {
                    port: a.u32(masq::REG_PROTO_MIN),
                    port_max: last(masq::REG_PROTO_MAX, masq::REG_PROTO_MIN),
                    flags: a.u32(masq::FLAGS).unwrap_or(0) & !NAT_DERIVED,
                }
            }
            "redir" if a.only(&[redir::REG_PROTO_MIN, redir::REG_PROTO_MAX, redir::FLAGS]) => {
                Self::Redirect {
                    port: a.u32(redir::REG_PROTO_MIN),
                    port_max: last(redir::REG_PROTO_MAX, redir::REG_PROTO_MIN),
                    flags: a.u32(redir::FLAGS).unwrap_or(0) & !NAT_DERIVED,
                }
            }
            _ => return None,
        })
    }

    /// Where else a packet goes.
    pub(super) fn decode_diversion(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "tproxy" if a.only(&[tproxy::FAMILY, tproxy::REG_ADDR, tproxy::REG_PORT]) => {
                Self::Tproxy {
                    family: a.u32(tproxy::FAMILY)?,
                    addr: a.u32(tproxy::REG_ADDR),
                    port: a.u32(tproxy::REG_PORT),
                }
            }
            "queue" if a.only(&[queue::NUM, queue::TOTAL, queue::FLAGS, queue::SREG_QNUM]) => {
                Self::Queue {
                    from: a.u16(queue::NUM).unwrap_or(0),
                    total: a.u16(queue::TOTAL).unwrap_or(0),
                    flags: a.u16(queue::FLAGS).unwrap_or(0),
                    sreg: a.u32(queue::SREG_QNUM),
                }
            }
            "dup" if a.only(&[dup::SREG_ADDR, dup::SREG_DEV]) => {
                Self::Dup { addr: a.u32(dup::SREG_ADDR), device: a.u32(dup::SREG_DEV) }
            }
            "fwd" if a.only(&[fwd::SREG_DEV, fwd::SREG_ADDR, fwd::NFPROTO]) => Self::Fwd {
                device: a.u32(fwd::SREG_DEV)?,
                addr: a.u32(fwd::SREG_ADDR),
                family: a.u32(fwd::NFPROTO),
            },
            "synproxy" if a.only(&[synproxy::MSS, synproxy::WSCALE, synproxy::FLAGS]) => {
                Self::Synproxy {
                    mss: a.u16(synproxy::MSS).unwrap_or(0),
                    wscale: a.u8(synproxy::WSCALE).unwrap_or(0),
                    flags: a.u32(synproxy::FLAGS).unwrap_or(0),
                }
            }
            "flow_offload" if a.only(&[flow::TABLE_NAME]) => {
                Self::FlowOffload { table: a.text(flow::TABLE_NAME)? }
            }
            _ => return None,
        })
    }

    /// Answers, objects, sets and modules of x_tables.
    pub(super) fn decode_other_action(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "log"
                if a.only(&[
                    log::GROUP,
                    log::PREFIX,
                    log::SNAPLEN,
                    log::QTHRESHOLD,
                    log::LEVEL,
                    log::FLAGS,
                ]) =>
            {
                Self::Log {
                    prefix: a.text(log::PREFIX),
                    group: a.u16(log::GROUP),
                    snaplen: a.u32(log::SNAPLEN),
                    threshold: a.u16(log::QTHRESHOLD),
                    level: a.u32(log::LEVEL),
                    flags: a.u32(log::FLAGS),
                }
            }
            "reject" if a.only(&[reject::TYPE, reject::ICMP_CODE]) => {
                Self::Reject { kind: a.u32(reject::TYPE)?, code: a.u8(reject::ICMP_CODE) }
            }
            "notrack" if a.only(&[]) => Self::Notrack,
            "objref" if a.only(&[objref::IMM_TYPE, objref::IMM_NAME]) => {
                Self::Objref { kind: a.u32(objref::IMM_TYPE)?, name: a.text(objref::IMM_NAME)? }
            }
            "objref" if a.only(&[objref::SET_SREG, objref::SET_NAME, objref::SET_ID]) => {
                Self::ObjrefMap { set: a.text(objref::SET_NAME)?, sreg: a.u32(objref::SET_SREG)? }
            }
            "dynset"
                if a.only(&[
                    dynset::SET_NAME,
                    dynset::SET_ID,
                    dynset::OP,
                    dynset::SREG_KEY,
                    dynset::SREG_DATA,
                    dynset::TIMEOUT,
                    dynset::EXPR,
                    dynset::PAD,
                    dynset::FLAGS,
                    dynset::EXPRESSIONS,
                ]) =>
            {
                Self::Dynset {
                    set: a.text(dynset::SET_NAME)?,
                    operation: a.u32(dynset::OP)?,
                    key: a.u32(dynset::SREG_KEY)?,
                    data: a.u32(dynset::SREG_DATA),
                    // Told as 0 where there is none; refused as 0 where the set has none.
                    timeout: a.u64(dynset::TIMEOUT).filter(|timeout| *timeout != 0),
                    exprs: match (a.nest(dynset::EXPR), a.nest(dynset::EXPRESSIONS)) {
                        (Some(one), _) => vec![Self::decode(one)],
                        (None, Some(list)) => Self::decode_list(list),
                        (None, None) => Vec::new(),
                    },
                    // That there are expressions follows from them.
                    flags: a.u32(dynset::FLAGS).unwrap_or(0) & 1,
                }
            }
            "match" | "target" if a.only(&[xt::NAME, xt::REV, xt::INFO]) => Self::Xt {
                target: name == "target",
                name: a.text(xt::NAME)?,
                revision: a.u32(xt::REV)?,
                info: a.value(xt::INFO)?.to_vec(),
            },
            _ => return None,
        })
    }
}
