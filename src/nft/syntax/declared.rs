//! `typeof`: what nft stored with a set of the expressions its keys and data were declared with.
//!
//! nft's own numbers (src/expression.c, proto.c of nftables 1.0.6), libnftl's type-length-values, numbers in host
//! order. What is not understood leaves the set with the plain types the kernel knows.

use super::super::attr::array;
use super::super::expr::Extension;
use super::super::names::header;
use super::super::names::{Order, Type, extension as options};
use super::super::{Set, Userdata};
use super::field::{self, Field};

/// Userdata of a set.
const KEY: u8 = 3;
const DATA: u8 = 4;

/// The fields the keys were declared with.
pub fn key<'a>(set: &Set) -> Option<Vec<Field<'a>>> {
    declared(set.userdata.value(KEY)?)
}

/// The fields the data was declared with.
pub fn data<'a>(set: &Set) -> Option<Vec<Field<'a>>> {
    declared(set.userdata.value(DATA)?)
}

fn declared<'a>(bytes: &[u8]) -> Option<Vec<Field<'a>>> {
    let outer = Userdata(bytes.to_vec());
    let inner = Userdata(outer.value(1)?.to_vec());
    match number(&outer, 0)? {
        // A concatenation.
        13 => {
            let part = |at: u8| {
                let part = Userdata(inner.value(at)?.to_vec());
                one(number(&part, 0)?, &Userdata(part.value(1)?.to_vec()))
            };
            let count = (0..16).take_while(|at| inner.value(*at).is_some()).count();
            if count == 0 { None } else { (0..u8::try_from(count).ok()?).map(part).collect() }
        }
        kind => Some(vec![one(kind, &inner)?]),
    }
}

fn number(userdata: &Userdata, kind: u8) -> Option<u32> {
    Some(u32::from_ne_bytes(array(userdata.value(kind)?, 0)?))
}

fn one<'a>(kind: u32, inner: &Userdata) -> Option<Field<'a>> {
    match kind {
        7 => payload(inner),
        8 => option(inner),
        9 => field::meta(number(inner, 0)?),
        10 => field::socket(number(inner, 0)?, Some(number(inner, 1).unwrap_or(0))),
        11 => Some(Field {
            source: super::Source::Osf { ttl: 0, version: false },
            kind: Type::Text,
            order: Order::Host,
            bits: 128,
        }),
        12 => {
            let direction = number(inner, 1).and_then(|direction| u8::try_from(direction).ok());
            field::ct(number(inner, 0)?, direction, false)
        }
        23 => Some(Field {
            source: super::Source::Numgen {
                random: number(inner, 0)? == 1,
                modulus: number(inner, 1)?,
                offset: number(inner, 2)?,
            },
            kind: Type::Integer,
            order: Order::Host,
            bits: 32,
        }),
        24 => hash(inner),
        25 => field::rt(number(inner, 0)?),
        26 => field::fib(number(inner, 0)?, number(inner, 1)?),
        27 => {
            field::xfrm(number(inner, 0)?, u8::try_from(number(inner, 2)?).ok()?, number(inner, 1)?)
        }
        _ => None,
    }
}

/// The hash of the flow; with type 0 that of a key, which nft itself does not read back.
fn hash<'a>(inner: &Userdata) -> Option<Field<'a>> {
    let (kind, offset, modulus) = (number(inner, 0)?, number(inner, 1)?, number(inner, 2)?);
    let source = super::Source::Hash { key: None, modulus, seed: None, offset };
    (kind == 1).then_some(Field { source, kind: Type::Integer, order: Order::Host, bits: 32 })
}

fn payload<'a>(inner: &Userdata) -> Option<Field<'a>> {
    let Some(at) = number(inner, 0)?.checked_sub(1) else {
        let base = number(inner, 2)?.checked_sub(1)?;
        return Some(field::payload(base, number(inner, 3)?, number(inner, 4)?));
    };
    let header = *header::ALL.get(usize::try_from(at).ok()?)?;
    let mut index = usize::try_from(number(inner, 1)?.checked_sub(1)?).ok()?;
    if header.name == "vlan" && index >= 2 {
        // nft has a second name for the third field.
        index -= 1;
    }
    Some(field::header_field(header, *header.fields.get(index)?))
}

/// nft's numbers of extension headers, from 1.
const HEADERS: [&str; 8] = ["hbh", "rt", "rt0", "rt2", "srh", "frag", "dst", "mh"];
/// Of the fields that IPv4 options have, from 1.
const IP_OPTION_FIELDS: [&str; 5] = ["type", "length", "value", "ptr", "addr"];
/// Selective acknowledgement, and the first field of its second block; those of two more follow.
const SACK: u32 = 5;
const SACK1: u32 = 4;

fn option<'a>(inner: &Userdata) -> Option<Field<'a>> {
    let (kind, index, space) =
        (number(inner, 0)?, number(inner, 1)?, number(inner, 2).unwrap_or(0));
    let at = |from: u32| usize::try_from(index.checked_sub(from)?).ok();
    let (kind, (offset, bits)) = match space {
        options::IPV6 => {
            let name = *HEADERS.get(usize::try_from(kind.checked_sub(1)?).ok()?)?;
            options::place_of(space, name, at(1)?)?
        }
        options::TCP if kind == SACK && index >= SACK1 => {
            let more = at(SACK1)?;
            options::place_of(space, ["sack1", "sack2", "sack3"].get(more / 2)?, more % 2)?
        }
        options::IPV4 => {
            let kind = u8::try_from(kind).ok()?;
            (kind, options::place_named(space, kind, IP_OPTION_FIELDS.get(at(1)?)?)?)
        }
        options::TCP | options::SCTP => {
            let kind = u8::try_from(kind).ok()?;
            (kind, options::place(space, kind, at(0)?)?)
        }
        _ => return None,
    };
    let found = Extension { space, kind, offset: offset / 8, len: bits.div_ceil(8), flags: 0 };
    Some(field::extension(found, Some((offset, bits))))
}
