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
            "payload" => return Self::decode_payload(a),
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
            "exthdr" => return Self::decode_exthdr(a),
            _ => return None,
        })
    }

    /// Read into a register, or written from one with the checksum that covers it.
    fn decode_payload(a: Attributes<'_>) -> Option<Self> {
        use payload::{BASE, CSUM_FLAGS, CSUM_OFFSET, CSUM_TYPE, DREG, LEN, OFFSET, SREG};
        let (base, offset, len) = (a.u32(BASE)?, a.u32(OFFSET)?, length(a.u32(LEN))?);
        if a.only(&[DREG, BASE, OFFSET, LEN]) {
            return Some(Self::Payload { base, offset, len, dreg: a.u32(DREG)? });
        }
        let written = [BASE, OFFSET, LEN, SREG, CSUM_TYPE, CSUM_OFFSET, CSUM_FLAGS];
        a.only(&written).then_some(Self::PayloadSet {
            base,
            offset,
            len,
            sreg: a.u32(SREG)?,
            csum_type: a.u32(CSUM_TYPE).unwrap_or(0),
            csum_offset: a.u32(CSUM_OFFSET).unwrap_or(0),
            csum_flags: a.u32(CSUM_FLAGS).unwrap_or(0),
        })
    }

    /// Read into a register, written from one, or taken out, which needs none.
    fn decode_exthdr(a: Attributes<'_>) -> Option<Self> {
        use exthdr::{DREG, FLAGS, LEN, OFFSET, OP, SREG, TYPE};
        if !a.only(&[DREG, TYPE, OFFSET, LEN, FLAGS, OP, SREG]) {
            return None;
        }
        Some(match (a.value(DREG), a.value(SREG)) {
            (Some(_), None) => Self::Exthdr { field: Extension::decode(a)?, dreg: a.u32(DREG)? },
            (None, Some(_)) => Self::ExthdrSet { field: Extension::decode(a)?, sreg: a.u32(SREG)? },
            (None, None) => {
                let (space, kind) = (a.u32(OP).unwrap_or(0), a.u8(TYPE)?);
                let field = Extension { space, kind, offset: 0, len: 0, flags: 0 };
                Self::ExthdrReset { field }
            }
            (Some(_), Some(_)) => return None,
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
