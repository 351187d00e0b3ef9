//! Loads of registers, from bytes.

use super::super::super::attr::Attributes;
use super::super::super::nfta::{
    ct, exthdr, fib, hash, immediate, meta, numgen, osf, payload, rt, socket, tunnel, xfrm,
};
use super::super::{Data, Expr, Extension, length};
use super::flag;

impl Expr {
    /// What the packet holds, and what is known of its flow and its way.
    pub(super) fn decode_field(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "meta" if a.only(&[meta::DREG, meta::KEY]) => {
                Self::Meta { key: a.u32(meta::KEY)?, dreg: a.u32(meta::DREG)? }
            }
            "meta" if a.only(&[meta::KEY, meta::SREG]) => {
                Self::MetaSet { key: a.u32(meta::KEY)?, sreg: a.u32(meta::SREG)? }
            }
            "payload" if a.only(&[payload::DREG, payload::BASE, payload::OFFSET, payload::LEN]) => {
                Self::Payload {
                    base: a.u32(payload::BASE)?,
                    offset: a.u32(payload::OFFSET)?,
                    len: length(a.u32(payload::LEN))?,
                    dreg: a.u32(payload::DREG)?,
                }
            }
            "payload"
                if a.only(&[
                    payload::BASE,
                    payload::OFFSET,
                    payload::LEN,
                    payload::SREG,
                    payload::CSUM_TYPE,
                    payload::CSUM_OFFSET,
                    payload::CSUM_FLAGS,
                ]) =>
            {
                Self::PayloadSet {
                    base: a.u32(payload::BASE)?,
                    offset: a.u32(payload::OFFSET)?,
                    len: length(a.u32(payload::LEN))?,
                    sreg: a.u32(payload::SREG)?,
                    csum_type: a.u32(payload::CSUM_TYPE).unwrap_or(0),
                    csum_offset: a.u32(payload::CSUM_OFFSET).unwrap_or(0),
                    csum_flags: a.u32(payload::CSUM_FLAGS).unwrap_or(0),
                }
            }
            "immediate" if a.only(&[immediate::DREG, immediate::DATA]) => Self::Immediate {
                dreg: a.u32(immediate::DREG)?,
                data: Data::decode(a.nest(immediate::DATA)?)?,
            },
            "ct" if a.only(&[ct::DREG, ct::KEY, ct::DIRECTION]) => Self::Ct {
                key: a.u32(ct::KEY)?,
                dreg: a.u32(ct::DREG)?,
                direction: a.u8(ct::DIRECTION),
            },
            "ct" if a.only(&[ct::KEY, ct::DIRECTION, ct::SREG]) => Self::CtSet {
                key: a.u32(ct::KEY)?,
                sreg: a.u32(ct::SREG)?,
                direction: a.u8(ct::DIRECTION),
            },
            "fib" if a.only(&[fib::DREG, fib::RESULT, fib::FLAGS]) => Self::Fib {
                dreg: a.u32(fib::DREG)?,
                result: a.u32(fib::RESULT)?,
                flags: a.u32(fib::FLAGS)?,
            },
            "rt" if a.only(&[rt::DREG, rt::KEY]) => {
                Self::Rt { key: a.u32(rt::KEY)?, dreg: a.u32(rt::DREG)? }
            }
            // First: the others ask for a register, which a reset has not.
            "exthdr"
                if a.only(&[
                    exthdr::TYPE,
                    exthdr::OFFSET,
                    exthdr::LEN,
                    exthdr::FLAGS,
                    exthdr::OP,
                ]) =>
            {
                Self::ExthdrReset {
                    field: Extension {
                        space: a.u32(exthdr::OP).unwrap_or(0),
                        kind: a.u8(exthdr::TYPE)?,
                        offset: 0,
                        len: 0,
                        flags: 0,
                    },
                }
            }
            "exthdr"
                if a.only(&[
                    exthdr::DREG,
                    exthdr::TYPE,
                    exthdr::OFFSET,
                    exthdr::LEN,
                    exthdr::FLAGS,
                    exthdr::OP,
                ]) =>
            {
                Self::Exthdr { field: Extension::decode(a)?, dreg: a.u32(exthdr::DREG)? }
            }
            "exthdr"
                if a.only(&[
                    exthdr::TYPE,
                    exthdr::OFFSET,
                    exthdr::LEN,
                    exthdr::FLAGS,
                    exthdr::OP,
                    exthdr::SREG,
                ]) =>
            {
                Self::ExthdrSet { field: Extension::decode(a)?, sreg: a.u32(exthdr::SREG)? }
            }
            _ => return None,
        })
    }

    /// What else a register is loaded from.
    pub(super) fn decode_other_load(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "socket" if a.only(&[socket::KEY, socket::DREG, socket::LEVEL]) => Self::Socket {
                key: a.u32(socket::KEY)?,
                dreg: a.u32(socket::DREG)?,
                level: a.u32(socket::LEVEL),
            },
            "osf" if a.only(&[osf::DREG, osf::TTL, osf::FLAGS]) => Self::Osf {
                dreg: a.u32(osf::DREG)?,
                ttl: a.u8(osf::TTL).unwrap_or(0),
                flags: a.u32(osf::FLAGS).unwrap_or(0),
            },
            "numgen" if a.only(&[numgen::DREG, numgen::MODULUS, numgen::TYPE, numgen::OFFSET]) => {
                Self::Numgen {
                    dreg: a.u32(numgen::DREG)?,
                    modulus: a.u32(numgen::MODULUS)?,
                    random: flag(a.u32(numgen::TYPE))?,
                    offset: a.u32(numgen::OFFSET).unwrap_or(0),
                }
            }
            "hash"
                if a.only(&[
                    hash::SREG,
                    hash::DREG,
                    hash::LEN,
                    hash::MODULUS,
                    hash::SEED,
                    hash::OFFSET,
                    hash::TYPE,
                ]) =>
            {
                let symmetric = flag(a.u32(hash::TYPE))?;
                let sreg = if symmetric { None } else { Some(a.u32(hash::SREG)?) };
                Self::Hash {
                    sreg,
                    dreg: a.u32(hash::DREG)?,
                    len: length(a.u32(hash::LEN).or(Some(0)))?,
                    modulus: a.u32(hash::MODULUS)?,
                    seed: a.u32(hash::SEED),
                    offset: a.u32(hash::OFFSET).unwrap_or(0),
                }
            }
            "xfrm" if a.only(&[xfrm::DREG, xfrm::KEY, xfrm::DIR, xfrm::SPNUM]) => Self::Xfrm {
                dreg: a.u32(xfrm::DREG)?,
                key: a.u32(xfrm::KEY)?,
                direction: a.u8(xfrm::DIR)?,
                spnum: a.u32(xfrm::SPNUM).unwrap_or(0),
            },
            "tunnel" if a.only(&[tunnel::KEY, tunnel::DREG]) => {
                Self::Tunnel { key: a.u32(tunnel::KEY)?, dreg: a.u32(tunnel::DREG)? }
            }
            _ => return None,
        })
    }
}
