//! Expressions to bytes.

use super::super::attr::Writer;
use super::{Data, Expr, Extension, SetIds, Verdict};

/// NFT_DYNSET_F_EXPR: the expressions come as a list.
const DYNSET_EXPRESSIONS: u32 = 2;

impl Expr {
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
            Self::Cmp { .. }
            | Self::Range { .. }
            | Self::Bitwise { .. }
            | Self::Shift { .. }
            | Self::Byteorder { .. }
            | Self::Lookup { .. } => self.encode_match(sets, w),
            Self::Meta { key, dreg } => {
                w.u32(2, *key);
                w.u32(1, *dreg);
            }
            Self::MetaSet { key, sreg } => {
                w.u32(2, *key);
                w.u32(3, *sreg);
            }
            Self::Payload { base, offset, len, dreg } => {
                w.u32(1, *dreg);
                w.u32(2, *base);
                w.u32(3, *offset);
                w.u32(4, *len);
            }
            Self::PayloadSet { base, offset, len, sreg, csum_type, csum_offset, csum_flags } => {
                w.u32(5, *sreg);
                w.u32(2, *base);
                w.u32(3, *offset);
                w.u32(4, *len);
                w.u32(6, *csum_type);
                w.u32(7, *csum_offset);
                w.u32(8, *csum_flags);
            }
            Self::Immediate { dreg, data } => {
                w.u32(1, *dreg);
                data.encode(2, w);
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
            // The kernel refuses the place of what it is to take out.
            Self::ExthdrReset { field } => {
                w.u8(2, field.kind);
                w.u32(6, field.space);
            }
            Self::Dynset { .. } | Self::ObjrefMap { .. } => self.encode_with_set(sets, w),
            _ => {
                self.encode_load(w);
                self.encode_action(w);
                self.encode_more_actions(w);
            }
        }
    }

    fn encode_load(&self, w: &mut Writer) {
        match self {
            Self::Socket { key, dreg, level } => {
                w.u32(1, *key);
                w.u32(2, *dreg);
                w.some_u32(3, *level);
            }
            Self::Osf { dreg, ttl, flags } => {
                w.u32(1, *dreg);
                w.u8(2, *ttl);
                nonzero(3, *flags, w);
            }
            Self::Numgen { dreg, modulus, random, offset } => {
                w.u32(1, *dreg);
                w.u32(2, *modulus);
                w.u32(3, u32::from(*random));
                w.u32(4, *offset);
            }
            Self::Hash { sreg, dreg, len, modulus, seed, offset } => {
                w.some_u32(1, *sreg);
                w.u32(2, *dreg);
                nonzero(3, *len, w);
                w.u32(4, *modulus);
                w.some_u32(5, *seed);
                w.u32(6, *offset);
                w.u32(7, u32::from(sreg.is_none()));
            }
            Self::Xfrm { dreg, key, direction, spnum } => {
                w.u32(1, *dreg);
                w.u32(2, *key);
                w.u8(3, *direction);
                w.u32(4, *spnum);
            }
            Self::Tunnel { key, dreg } => {
                w.u32(1, *key);
                w.u32(2, *dreg);
            }
            _ => {}
        }
    }

    fn encode_with_set(&self, sets: &SetIds, w: &mut Writer) {
        match self {
            Self::Dynset { set, operation, key, data, timeout, exprs, flags } => {
                let found = sets.get(set);
                w.text(1, found.map_or(set, |(name, _)| name));
                w.some_u32(2, found.map(|(_, id)| *id));
                w.u32(3, *operation);
                w.u32(4, *key);
                w.some_u32(5, *data);
                if let Some(timeout) = timeout {
                    w.u64(6, *timeout);
                }
                match exprs.as_slice() {
                    [] => nonzero(9, *flags, w),
                    [one] => {
                        w.nest(7, |w| one.encode_bare(sets, w));
                        nonzero(9, *flags, w);
                    }
                    several => {
                        w.nest(10, |w| several.iter().for_each(|expr| expr.encode(sets, w)));
                        w.u32(9, *flags | DYNSET_EXPRESSIONS);
                    }
                }
            }
            Self::ObjrefMap { set, sreg } => {
                let found = sets.get(set);
                w.u32(3, *sreg);
                w.text(4, found.map_or(set, |(name, _)| name));
                w.some_u32(5, found.map(|(_, id)| *id));
            }
            _ => {}
        }
    }

    fn encode_match(&self, sets: &SetIds, w: &mut Writer) {
        match self {
            Self::Cmp { sreg, op, data } => {
                w.u32(1, *sreg);
                w.u32(2, *op as u32);
                value(3, data, w);
            }
            Self::Range { sreg, inverted, from, to } => {
                w.u32(1, *sreg);
                w.u32(2, u32::from(*inverted));
                value(3, from, w);
                value(4, to, w);
            }
            Self::Bitwise { sreg, dreg, len, mask, xor } => {
                w.u32(1, *sreg);
                w.u32(2, *dreg);
                w.u32(3, *len);
                value(4, mask, w);
                value(5, xor, w);
            }
            Self::Shift { sreg, dreg, len, right, bits } => {
                w.u32(1, *sreg);
                w.u32(2, *dreg);
                w.u32(3, *len);
                w.u32(6, if *right { 2 } else { 1 });
                value(7, &bits.to_ne_bytes(), w);
            }
            Self::Byteorder { sreg, dreg, hton, len, size } => {
                w.u32(1, *sreg);
                w.u32(2, *dreg);
                w.u32(3, u32::from(*hton));
                w.u32(4, *len);
                w.u32(5, *size);
            }
            Self::Lookup { set, sreg, dreg, inverted } => {
                let found = sets.get(set);
                w.text(1, found.map_or(set, |(name, _)| name));
                w.u32(2, *sreg);
                w.some_u32(3, *dreg);
                w.some_u32(4, found.map(|(_, id)| *id));
                if *inverted {
                    w.u32(5, 1);
                }
            }
            _ => {}
        }
    }

    fn encode_action(&self, w: &mut Writer) {
        match self {
            Self::Counter { packets, bytes } => {
                w.u64(1, *bytes);
                w.u64(2, *packets);
            }
            Self::Nat { kind, family, addr, addr_max, port, port_max, flags } => {
                w.u32(1, *kind as u32);
                w.u32(2, *family);
                w.some_u32(3, *addr);
                w.some_u32(4, *addr_max);
                w.some_u32(5, *port);
                w.some_u32(6, *port_max);
                nonzero(7, *flags, w);
            }
            Self::Masquerade { port, port_max, flags } => {
                nonzero(1, *flags, w);
                w.some_u32(2, *port);
                w.some_u32(3, *port_max);
            }
            Self::Redirect { port, port_max, flags } => {
                w.some_u32(1, *port);
                w.some_u32(2, *port_max);
                nonzero(3, *flags, w);
            }
            Self::Limit { rate, unit_secs, burst, by_bytes, over } => {
                w.u64(1, *rate);
                w.u64(2, *unit_secs);
                w.u32(3, *burst);
                w.u32(4, u32::from(*by_bytes));
                w.u32(5, u32::from(*over));
            }
            Self::Log { prefix, group, snaplen, threshold, level, flags } => {
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
            _ => {}
        }
    }
}

impl Expr {
    fn encode_more_actions(&self, w: &mut Writer) {
        match self {
            Self::Quota { bytes, flags, consumed } => {
                w.u64(1, *bytes);
                w.u32(2, *flags);
                if *consumed != 0 {
                    w.u64(4, *consumed);
                }
            }
            Self::Connlimit { count, flags } => {
                w.u32(1, *count);
                nonzero(2, *flags, w);
            }
            Self::Last { set: true, milliseconds } => {
                w.u32(1, 1);
                w.u64(2, *milliseconds);
            }
            Self::Tproxy { family, addr, port } => {
                w.u32(1, *family);
                w.some_u32(2, *addr);
                w.some_u32(3, *port);
            }
            Self::Queue { from, total, flags, sreg } => {
                if sreg.is_none() {
                    w.u16(1, *from);
                    w.u16(2, *total);
                }
                w.u16(3, *flags);
                w.some_u32(4, *sreg);
            }
            Self::Dup { addr, device } => {
                w.some_u32(1, *addr);
                w.some_u32(2, *device);
            }
            Self::Fwd { device, addr, family } => {
                w.u32(1, *device);
                w.some_u32(2, *addr);
                w.some_u32(3, *family);
            }
            Self::Synproxy { mss, wscale, flags } => {
                w.u16(1, *mss);
                w.u8(2, *wscale);
                w.u32(3, *flags);
            }
            Self::Xt { name, revision, info, .. } => {
                w.text(1, name);
                w.u32(2, *revision);
                w.bytes(3, info);
            }
            Self::FlowOffload { table } => w.text(1, table),
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
        w.bytes(1, &self.code().to_be_bytes());
        if let Self::Jump(chain) | Self::Goto(chain) = self {
            w.text(2, chain);
        }
    }
}

impl Data {
    pub fn encode(&self, kind: u16, w: &mut Writer) {
        w.nest(kind, |w| match self {
            Self::Value(bytes) => w.bytes(1, bytes),
            Self::Verdict(verdict) => w.nest(2, |w| verdict.encode(w)),
        });
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
}

fn value(kind: u16, bytes: &[u8], w: &mut Writer) {
    w.nest(kind, |w| w.bytes(1, bytes));
}

fn nonzero(kind: u16, value: u32, w: &mut Writer) {
    if value != 0 {
        w.u32(kind, value);
    }
}
