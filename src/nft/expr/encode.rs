//! Expressions to bytes.

use super::super::attr::Writer;
use super::super::nfta::{
    bitwise, byteorder, cmp, connlimit, counter, ct, data, dup, dynset, expr, exthdr, fib, flow,
    fwd, hash, immediate, last, limit, list, log, lookup, masq, meta, nat, numgen, objref, osf,
    payload, queue, quota, range, redir, reject, rt, socket, synproxy, tproxy, tunnel, verdict,
    xfrm, xt,
};
use super::{Data, Expr, Extension, SetIds, Verdict};

/// NFT_DYNSET_F_EXPR: the expressions come as a list.
const DYNSET_EXPRESSIONS: u32 = 2;

impl Expr {
    /// One NFTA_LIST_ELEM of an expression list.
    pub fn encode(&self, sets: &SetIds, w: &mut Writer) {
        w.nest(list::ELEM, |w| self.encode_bare(sets, w));
    }

    /// Name and data, as an element's expression carries them.
    pub(crate) fn encode_bare(&self, sets: &SetIds, w: &mut Writer) {
        w.text(expr::NAME, self.name());
        w.nest(expr::DATA, |w| self.encode_data(sets, w));
    }

    /// One of these knows it.
    fn encode_data(&self, sets: &SetIds, w: &mut Writer) {
        self.encode_field(w);
        self.encode_other_load(w);
        self.encode_match(sets, w);
        self.encode_counting(w);
        self.encode_translation(w);
        self.encode_diversion(w);
        self.encode_with_set(sets, w);
        self.encode_other_action(w);
    }

    /// What the packet holds, and what is known of its flow and its way.
    fn encode_field(&self, w: &mut Writer) {
        match self {
            Self::Meta { key, dreg } => {
                w.u32(meta::KEY, *key);
                w.u32(meta::DREG, *dreg);
            }
            Self::MetaSet { key, sreg } => {
                w.u32(meta::KEY, *key);
                w.u32(meta::SREG, *sreg);
            }
            Self::Payload { base, offset, len, dreg } => {
                w.u32(payload::DREG, *dreg);
                w.u32(payload::BASE, *base);
                w.u32(payload::OFFSET, *offset);
                w.u32(payload::LEN, *len);
            }
            Self::PayloadSet { base, offset, len, sreg, csum_type, csum_offset, csum_flags } => {
                w.u32(payload::SREG, *sreg);
                w.u32(payload::BASE, *base);
                w.u32(payload::OFFSET, *offset);
                w.u32(payload::LEN, *len);
                w.u32(payload::CSUM_TYPE, *csum_type);
                w.u32(payload::CSUM_OFFSET, *csum_offset);
                w.u32(payload::CSUM_FLAGS, *csum_flags);
            }
            Self::Immediate { dreg, data } => {
                w.u32(immediate::DREG, *dreg);
                data.encode(immediate::DATA, w);
            }
            Self::Ct { key, dreg, direction } => {
                w.u32(ct::DREG, *dreg);
                w.u32(ct::KEY, *key);
                if let Some(direction) = direction {
                    w.u8(ct::DIRECTION, *direction);
                }
            }
            Self::CtSet { key, sreg, direction } => {
                w.u32(ct::SREG, *sreg);
                w.u32(ct::KEY, *key);
                if let Some(direction) = direction {
                    w.u8(ct::DIRECTION, *direction);
                }
            }
            Self::Fib { dreg, result, flags } => {
                w.u32(fib::DREG, *dreg);
                w.u32(fib::RESULT, *result);
                w.u32(fib::FLAGS, *flags);
            }
            Self::Rt { key, dreg } => {
                w.u32(rt::DREG, *dreg);
                w.u32(rt::KEY, *key);
            }
            Self::Exthdr { field, dreg } => {
                w.u32(exthdr::DREG, *dreg);
                field.encode(w);
            }
            Self::ExthdrSet { field, sreg } => {
                w.u32(exthdr::SREG, *sreg);
                field.encode(w);
            }
            // The kernel refuses the place of what it is to take out.
            Self::ExthdrReset { field } => {
                w.u8(exthdr::TYPE, field.kind);
                w.u32(exthdr::OP, field.space);
            }
            _ => {}
        }
    }

    /// What else a register is loaded from.
    fn encode_other_load(&self, w: &mut Writer) {
        match self {
            Self::Socket { key, dreg, level } => {
                w.u32(socket::KEY, *key);
                w.u32(socket::DREG, *dreg);
                w.some_u32(socket::LEVEL, *level);
            }
            Self::Osf { dreg, ttl, flags } => {
                w.u32(osf::DREG, *dreg);
                w.u8(osf::TTL, *ttl);
                nonzero(osf::FLAGS, *flags, w);
            }
            Self::Numgen { dreg, modulus, random, offset } => {
                w.u32(numgen::DREG, *dreg);
                w.u32(numgen::MODULUS, *modulus);
                w.u32(numgen::TYPE, u32::from(*random));
                w.u32(numgen::OFFSET, *offset);
            }
            Self::Hash { sreg, dreg, len, modulus, seed, offset } => {
                w.some_u32(hash::SREG, *sreg);
                w.u32(hash::DREG, *dreg);
                nonzero(hash::LEN, *len, w);
                w.u32(hash::MODULUS, *modulus);
                w.some_u32(hash::SEED, *seed);
                w.u32(hash::OFFSET, *offset);
                w.u32(hash::TYPE, u32::from(sreg.is_none()));
            }
            Self::Xfrm { dreg, key, direction, spnum } => {
                w.u32(xfrm::DREG, *dreg);
                w.u32(xfrm::KEY, *key);
                w.u8(xfrm::DIR, *direction);
                w.u32(xfrm::SPNUM, *spnum);
            }
            Self::Tunnel { key, dreg } => {
                w.u32(tunnel::KEY, *key);
                w.u32(tunnel::DREG, *dreg);
            }
            _ => {}
        }
    }

    fn encode_with_set(&self, sets: &SetIds, w: &mut Writer) {
        match self {
            Self::Dynset { set, operation, key, data, timeout, exprs, flags } => {
                let found = sets.get(set);
                w.text(dynset::SET_NAME, found.map_or(set, |(name, _)| name));
                w.some_u32(dynset::SET_ID, found.map(|(_, id)| *id));
                w.u32(dynset::OP, *operation);
                w.u32(dynset::SREG_KEY, *key);
                w.some_u32(dynset::SREG_DATA, *data);
                if let Some(timeout) = timeout {
                    w.u64(dynset::TIMEOUT, *timeout);
                }
                match exprs.as_slice() {
                    [] => nonzero(dynset::FLAGS, *flags, w),
                    [one] => {
                        w.nest(dynset::EXPR, |w| one.encode_bare(sets, w));
                        nonzero(dynset::FLAGS, *flags, w);
                    }
                    several => {
                        w.nest(dynset::EXPRESSIONS, |w| {
                            several.iter().for_each(|expr| expr.encode(sets, w));
                        });
                        w.u32(dynset::FLAGS, *flags | DYNSET_EXPRESSIONS);
                    }
                }
            }
            Self::ObjrefMap { set, sreg } => {
                let found = sets.get(set);
                w.u32(objref::SET_SREG, *sreg);
                w.text(objref::SET_NAME, found.map_or(set, |(name, _)| name));
                w.some_u32(objref::SET_ID, found.map(|(_, id)| *id));
            }
            _ => {}
        }
    }

    fn encode_match(&self, sets: &SetIds, w: &mut Writer) {
        match self {
            Self::Cmp { sreg, op, data } => {
                w.u32(cmp::SREG, *sreg);
                w.u32(cmp::OP, *op as u32);
                value(cmp::DATA, data, w);
            }
            Self::Range { sreg, inverted, from, to } => {
                w.u32(range::SREG, *sreg);
                w.u32(range::OP, u32::from(*inverted));
                value(range::FROM_DATA, from, w);
                value(range::TO_DATA, to, w);
            }
            Self::Bitwise { sreg, dreg, len, mask, xor } => {
                w.u32(bitwise::SREG, *sreg);
                w.u32(bitwise::DREG, *dreg);
                w.u32(bitwise::LEN, *len);
                value(bitwise::MASK, mask, w);
                value(bitwise::XOR, xor, w);
            }
            Self::Shift { sreg, dreg, len, right, bits } => {
                w.u32(bitwise::SREG, *sreg);
                w.u32(bitwise::DREG, *dreg);
                w.u32(bitwise::LEN, *len);
                w.u32(bitwise::OP, if *right { 2 } else { 1 });
                value(bitwise::DATA, &bits.to_ne_bytes(), w);
            }
            Self::Byteorder { sreg, dreg, hton, len, size } => {
                w.u32(byteorder::SREG, *sreg);
                w.u32(byteorder::DREG, *dreg);
                w.u32(byteorder::OP, u32::from(*hton));
                w.u32(byteorder::LEN, *len);
                w.u32(byteorder::SIZE, *size);
            }
            Self::Lookup { set, sreg, dreg, inverted } => {
                let found = sets.get(set);
                w.text(lookup::SET, found.map_or(set, |(name, _)| name));
                w.u32(lookup::SREG, *sreg);
                w.some_u32(lookup::DREG, *dreg);
                w.some_u32(lookup::SET_ID, found.map(|(_, id)| *id));
                if *inverted {
                    w.u32(lookup::FLAGS, 1);
                }
            }
            _ => {}
        }
    }

    /// What counts, and what counting limits.
    fn encode_counting(&self, w: &mut Writer) {
        match self {
            Self::Counter { packets, bytes } => {
                w.u64(counter::BYTES, *bytes);
                w.u64(counter::PACKETS, *packets);
            }
            Self::Limit { rate, unit_secs, burst, by_bytes, over } => {
                w.u64(limit::RATE, *rate);
                w.u64(limit::UNIT, *unit_secs);
                w.u32(limit::BURST, *burst);
                w.u32(limit::TYPE, u32::from(*by_bytes));
                w.u32(limit::FLAGS, u32::from(*over));
            }
            Self::Quota { bytes, flags, consumed } => {
                w.u64(quota::BYTES, *bytes);
                w.u32(quota::FLAGS, *flags);
                if *consumed != 0 {
                    w.u64(quota::CONSUMED, *consumed);
                }
            }
            Self::Connlimit { count, flags } => {
                w.u32(connlimit::COUNT, *count);
                nonzero(connlimit::FLAGS, *flags, w);
            }
            Self::Last { set: true, milliseconds } => {
                w.u32(last::SET, 1);
                w.u64(last::MSECS, *milliseconds);
            }
            _ => {}
        }
    }

    /// What translates addresses and ports.
    fn encode_translation(&self, w: &mut Writer) {
        match self {
            Self::Nat { kind, family, addr, addr_max, port, port_max, flags } => {
                w.u32(nat::TYPE, *kind as u32);
                w.u32(nat::FAMILY, *family);
                w.some_u32(nat::REG_ADDR_MIN, *addr);
                w.some_u32(nat::REG_ADDR_MAX, *addr_max);
                w.some_u32(nat::REG_PROTO_MIN, *port);
                w.some_u32(nat::REG_PROTO_MAX, *port_max);
                nonzero(nat::FLAGS, *flags, w);
            }
            Self::Masquerade { port, port_max, flags } => {
                nonzero(masq::FLAGS, *flags, w);
                w.some_u32(masq::REG_PROTO_MIN, *port);
                w.some_u32(masq::REG_PROTO_MAX, *port_max);
            }
            Self::Redirect { port, port_max, flags } => {
                w.some_u32(redir::REG_PROTO_MIN, *port);
                w.some_u32(redir::REG_PROTO_MAX, *port_max);
                nonzero(redir::FLAGS, *flags, w);
            }
            _ => {}
        }
    }

    /// Where else a packet goes.
    fn encode_diversion(&self, w: &mut Writer) {
        match self {
            Self::Tproxy { family, addr, port } => {
                w.u32(tproxy::FAMILY, *family);
                w.some_u32(tproxy::REG_ADDR, *addr);
                w.some_u32(tproxy::REG_PORT, *port);
            }
            Self::Queue { from, total, flags, sreg } => {
                if sreg.is_none() {
                    w.u16(queue::NUM, *from);
                    w.u16(queue::TOTAL, *total);
                }
                w.u16(queue::FLAGS, *flags);
                w.some_u32(queue::SREG_QNUM, *sreg);
            }
            Self::Dup { addr, device } => {
                w.some_u32(dup::SREG_ADDR, *addr);
                w.some_u32(dup::SREG_DEV, *device);
            }
            Self::Fwd { device, addr, family } => {
                w.u32(fwd::SREG_DEV, *device);
                w.some_u32(fwd::SREG_ADDR, *addr);
                w.some_u32(fwd::NFPROTO, *family);
            }
            Self::Synproxy { mss, wscale, flags } => {
                w.u16(synproxy::MSS, *mss);
                w.u8(synproxy::WSCALE, *wscale);
                w.u32(synproxy::FLAGS, *flags);
            }
            Self::FlowOffload { table } => w.text(flow::TABLE_NAME, table),
            _ => {}
        }
    }

    /// Answers, objects, modules of x_tables, and what is not known.
    fn encode_other_action(&self, w: &mut Writer) {
        match self {
            Self::Log { prefix, group, snaplen, threshold, level, flags } => {
                if let Some(group) = group {
                    w.u16(log::GROUP, *group);
                }
                if let Some(prefix) = prefix {
                    w.text(log::PREFIX, prefix);
                }
                w.some_u32(log::SNAPLEN, *snaplen);
                if let Some(threshold) = threshold {
                    w.u16(log::QTHRESHOLD, *threshold);
                }
                w.some_u32(log::LEVEL, *level);
                w.some_u32(log::FLAGS, *flags);
            }
            Self::Reject { kind, code } => {
                w.u32(reject::TYPE, *kind);
                if let Some(code) = code {
                    w.u8(reject::ICMP_CODE, *code);
                }
            }
            Self::Objref { kind, name } => {
                w.u32(objref::IMM_TYPE, *kind);
                w.text(objref::IMM_NAME, name);
            }
            Self::Xt { name, revision, info, .. } => {
                w.text(xt::NAME, name);
                w.u32(xt::REV, *revision);
                w.bytes(xt::INFO, info);
            }
            Self::Unknown { bytes, .. } => w.raw(bytes),
            _ => {}
        }
    }
}

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
        w.bytes(verdict::CODE, &self.code().to_be_bytes());
        if let Self::Jump(chain) | Self::Goto(chain) = self {
            w.text(verdict::CHAIN, chain);
        }
    }
}

impl Data {
    /// As an attribute of this type.
    pub fn encode(&self, kind: u16, w: &mut Writer) {
        w.nest(kind, |w| match self {
            Self::Value(bytes) => w.bytes(data::VALUE, bytes),
            Self::Verdict(verdict) => w.nest(data::VERDICT, |w| verdict.encode(w)),
        });
    }
}

impl Extension {
    fn encode(&self, w: &mut Writer) {
        w.u8(exthdr::TYPE, self.kind);
        w.u32(exthdr::OFFSET, self.offset);
        w.u32(exthdr::LEN, self.len);
        // The kernel refuses any flags where it is to write the field.
        nonzero(exthdr::FLAGS, self.flags, w);
        w.u32(exthdr::OP, self.space);
    }
}

fn value(kind: u16, bytes: &[u8], w: &mut Writer) {
    w.nest(kind, |w| w.bytes(data::VALUE, bytes));
}

fn nonzero(kind: u16, value: u32, w: &mut Writer) {
    if value != 0 {
        w.u32(kind, value);
    }
}
