//! Bytes to expressions.

mod action;
mod load;

use super::super::attr::{Attributes, array};
use super::super::nfta::{
    bitwise, byteorder, cmp, data, expr, exthdr, list, lookup, range, verdict,
};
use super::{CmpOp, Data, Expr, Extension, Verdict, length};

impl Expr {
    /// An expression list, NFTA_RULE_EXPRESSIONS or NFTA_SET_ELEM_EXPRESSIONS.
    pub(crate) fn decode_list(list: Attributes<'_>) -> Vec<Self> {
        let mut exprs = Vec::with_capacity(list.count());
        exprs.extend(
            list.filter(|(kind, _)| *kind == list::ELEM)
                .map(|(_, bytes)| Self::decode(Attributes(bytes))),
        );
        exprs
    }

    /// Never fails: what is not understood is [`Expr::Unknown`].
    pub fn decode(attributes: Attributes<'_>) -> Self {
        let name = String::from_utf8_lossy(attributes.name(expr::NAME).unwrap_or_default());
        let data = attributes.value(expr::DATA).unwrap_or(&[]);
        Self::decode_known(&name, Attributes(data))
            .unwrap_or_else(|| Self::Unknown { name: name.into_owned(), bytes: data.to_vec() })
    }

    fn decode_known(name: &str, attributes: Attributes<'_>) -> Option<Self> {
        Self::decode_field(name, attributes)
            .or_else(|| Self::decode_other_load(name, attributes))
            .or_else(|| Self::decode_match(name, attributes))
            .or_else(|| Self::decode_counting(name, attributes))
            .or_else(|| Self::decode_translation(name, attributes))
            .or_else(|| Self::decode_diversion(name, attributes))
            .or_else(|| Self::decode_other_action(name, attributes))
    }

    fn decode_match(name: &str, a: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "cmp" if a.only(&[cmp::SREG, cmp::OP, cmp::DATA]) => Self::Cmp {
                sreg: a.u32(cmp::SREG)?,
                op: *CmpOp::ALL.get(usize::try_from(a.u32(cmp::OP)?).ok()?)?,
                data: value_of(a, cmp::DATA)?,
            },
            "range" if a.only(&[range::SREG, range::OP, range::FROM_DATA, range::TO_DATA]) => {
                Self::Range {
                    sreg: a.u32(range::SREG)?,
                    inverted: flag(a.u32(range::OP))?,
                    from: value_of(a, range::FROM_DATA)?,
                    to: value_of(a, range::TO_DATA)?,
                }
            }
            "bitwise" => return Self::decode_bitwise(a),
            "byteorder"
                if a.only(&[
                    byteorder::SREG,
                    byteorder::DREG,
                    byteorder::OP,
                    byteorder::LEN,
                    byteorder::SIZE,
                ]) =>
            {
                Self::Byteorder {
                    sreg: a.u32(byteorder::SREG)?,
                    dreg: a.u32(byteorder::DREG)?,
                    hton: flag(a.u32(byteorder::OP))?,
                    len: length(a.u32(byteorder::LEN))?,
                    size: a.u32(byteorder::SIZE)?,
                }
            }
            "lookup"
                if a.only(&[
                    lookup::SET,
                    lookup::SREG,
                    lookup::DREG,
                    lookup::SET_ID,
                    lookup::FLAGS,
                ]) =>
            {
                Self::Lookup {
                    set: a.text(lookup::SET)?,
                    sreg: a.u32(lookup::SREG)?,
                    dreg: a.u32(lookup::DREG),
                    inverted: flag(a.u32(lookup::FLAGS))?,
                }
            }
            _ => return None,
        })
    }

    /// A mask, or a shift; the operation says which.
    fn decode_bitwise(a: Attributes<'_>) -> Option<Self> {
        use bitwise::{DATA, DREG, LEN, MASK, OP, SREG, XOR};
        let (sreg, dreg, len) = (a.u32(SREG)?, a.u32(DREG)?, length(a.u32(LEN))?);
        match a.u32(OP).unwrap_or(0) {
            0 if a.only(&[SREG, DREG, LEN, OP, MASK, XOR]) => {
                let (mask, xor) = (value_of(a, MASK)?, value_of(a, XOR)?);
                Some(Self::Bitwise { sreg, dreg, len, mask, xor })
            }
            operation @ (1 | 2) if a.only(&[SREG, DREG, LEN, OP, DATA]) => {
                let bits = u32::from_ne_bytes(array(&value_of(a, DATA)?, 0)?);
                Some(Self::Shift { sreg, dreg, len, right: operation == 2, bits })
            }
            _ => None,
        }
    }
}

impl Verdict {
    /// From NFTA_VERDICT_*; None when the code, or the chain of a jump, is missing.
    pub fn decode(attributes: Attributes<'_>) -> Option<Self> {
        Some(match attributes.i32(verdict::CODE)? {
            0 => Self::Drop,
            1 => Self::Accept,
            -1 => Self::Continue,
            -3 => Self::Jump(attributes.text(verdict::CHAIN)?),
            -4 => Self::Goto(attributes.text(verdict::CHAIN)?),
            -5 => Self::Return,
            other => Self::Code(other),
        })
    }
}

impl Data {
    /// From NFTA_DATA_*; None when there is neither a value nor a verdict.
    pub fn decode(attributes: Attributes<'_>) -> Option<Self> {
        match attributes.nest(data::VERDICT) {
            Some(verdict) => Some(Self::Verdict(Verdict::decode(verdict)?)),
            None => Some(Self::Value(attributes.value(data::VALUE)?.to_vec())),
        }
    }
}

impl Extension {
    fn decode(a: Attributes<'_>) -> Option<Self> {
        Some(Self {
            space: a.u32(exthdr::OP).unwrap_or(0),
            kind: a.u8(exthdr::TYPE)?,
            offset: a.u32(exthdr::OFFSET)?,
            len: length(a.u32(exthdr::LEN))?,
            flags: a.u32(exthdr::FLAGS).unwrap_or(0),
        })
    }
}

fn value_of(attributes: Attributes<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(attributes.nest(kind)?.value(data::VALUE)?.to_vec())
}

/// A number that must be 0 or 1; absent is 0.
fn flag(value: Option<u32>) -> Option<bool> {
    match value.unwrap_or(0) {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
