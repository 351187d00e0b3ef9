//! `typeof`: the fields of a key, stored with its set as nft stores them.
//!
//! nft's own numbers (src/expression.c, payload.c, meta.c, ct.c, fib.c of nftables 1.0.6), libnftnl's
//! type-length-values, numbers in host order. The kernel does not look at them. `syntax::declared` reads them.

use super::field::Field;
use super::set::Values;
use crate::nft::expr::Expr;
use crate::nft::names::Type;
use crate::nft::names::header;

/// User data of a set: the expressions its key and its data are.
const KEY: u8 = 3;
const DATA: u8 = 4;
/// Of an expression: which it is, and what there is to say of it.
const EXPRESSION: u8 = 0;
const INNER: u8 = 1;
/// `enum expr_types`.
const VERDICT: u32 = 1;
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CT: u32 = 12;
const CONCAT: u32 = 13;
const FIB: u32 = 26;
/// nft 1.0.6 reads no key of more parts, and none of a map to values: its own are listed wrongly, too.
const PARTS_READ: usize = 4;
/// Of a conntrack entry, in whatever direction.
const NO_DIRECTION: u32 = u32::MAX;

/// What a set of several fields needs, so that nft finds their ends: a number's type does not say how long it is.
/// Empty for keys whose types do. A map to verdicts says that, too, or its key is not read.
pub(crate) fn of_set(fields: &[Field], values: Option<Values>) -> Vec<u8> {
    let is_number = |field: &Field| matches!(field.kind.kind, Type::Integer | Type::Hex);
    let is_read = fields.len() <= PARTS_READ && !matches!(values, Some(Values::Of(_)));
    if fields.len() < 2 || !is_read || !fields.iter().any(is_number) {
        return Vec::new();
    }
    let mut parts = Vec::new();
    for (at, field) in (0..).zip(fields) {
        let Some((which, numbers)) = declared(field) else { return Vec::new() };
        let inner = numbers.into_iter().flat_map(|(kind, value)| number(kind, value)).collect();
        parts.extend(nested(at, expression(which, inner)));
    }
    let mut declared = nested(KEY, expression(CONCAT, parts));
    if values == Some(Values::Verdicts) {
        declared.extend(nested(DATA, expression(VERDICT, Vec::new())));
    }
    declared
}

fn expression(which: u32, inner: Vec<u8>) -> Vec<u8> {
    [number(EXPRESSION, which), nested(INNER, inner)].concat()
}

fn number(kind: u8, value: u32) -> Vec<u8> {
    nested(kind, value.to_ne_bytes().to_vec())
}

/// Far from the 255 octets that a length can tell: of more than four fields nothing is stored.
fn nested(kind: u8, value: Vec<u8>) -> Vec<u8> {
    let len = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [vec![kind, len], value].concat()
}

/// The expression that a field is, and its attributes.
fn declared(field: &Field) -> Option<(u32, Vec<(u8, u32)>)> {
    Some(match field.load {
        Expr::Meta { key, .. } => (META, vec![(0, key)]),
        Expr::Ct { key, direction, .. } => {
            (CT, vec![(0, key), (1, direction.map_or(NO_DIRECTION, u32::from))])
        }
        Expr::Fib { result, flags, .. } => (FIB, vec![(0, result), (1, flags)]),
        Expr::Payload { base, offset, .. } => match field.header {
            Some((header, named)) => {
                let at = header::ALL.iter().position(|known| known.name == header.name)?;
                let index = header.fields.iter().position(|known| known.name == named.name)?;
                // nft has a second name for the third field of a VLAN tag.
                let index = index + usize::from(header.name == "vlan" && index >= 2);
                let mut of = vec![(0, from_one(at)?), (1, from_one(index)?)];
                if named.kind == Type::Integer {
                    of.push((4, named.bits));
                }
                (PAYLOAD, of)
            }
            None => {
                let of = [0, 0, base + 1, offset * 8, field.kind.bits];
                (PAYLOAD, (0..).zip(of).collect())
            }
        },
        _ => return None,
    })
}

fn from_one(index: usize) -> Option<u32> {
    u32::try_from(index + 1).ok()
}
