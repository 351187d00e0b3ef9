//! What a register can be loaded from.

use super::super::expr::Extension;
use super::super::names::header::{self, Header};
use super::super::names::key::{self as keys, Key, by_number};
use super::super::names::{Order, Type, extension as options};
use super::{Constant, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    pub source: Source<'a>,
    pub kind: Type,
    pub order: Order,
    pub bits: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<'a> {
    Meta {
        key: u32,
        name: &'static str,
    },
    Ct {
        name: &'static str,
        direction: Option<u8>,
    },
    Header {
        header: &'static Header,
        field: header::Field,
    },
    /// Base, first bit, bits.
    Payload(u32, u32, u32),
    /// With what a mask left of it: first bit, bits.
    Extension(Extension, Option<(u32, u32)>),
    Rt {
        name: &'static str,
        family: Option<&'static str>,
    },
    Fib {
        flags: u32,
        result: u32,
    },
    Socket {
        name: &'static str,
        level: Option<u32>,
    },
    Osf {
        ttl: u8,
        version: bool,
    },
    Numgen {
        random: bool,
        modulus: u32,
        offset: u32,
    },
    Hash {
        key: Option<Box<Value<'a>>>,
        modulus: u32,
        seed: Option<u32>,
        offset: u32,
    },
    Xfrm {
        name: &'static str,
        family: Option<&'static str>,
        direction: u8,
        spnum: u32,
    },
    Tunnel(&'static str),
    /// A register nothing known was loaded into.
    Unknown(String),
}

impl<'a> Field<'a> {
    fn of(source: Source<'a>, key: &Key) -> Self {
        Self { source, kind: key.kind, order: key.order, bits: key.bits }
    }

    /// `bytes` compared with this field.
    pub fn constant(&self, bytes: &[u8]) -> Option<Constant> {
        Constant::read(bytes, self.kind, self.order)
    }
}

pub fn meta<'a>(key: u32) -> Option<Field<'a>> {
    let found = by_number(keys::META, key)?;
    Some(Field::of(Source::Meta { key, name: found.word }, found))
}

pub fn ct<'a>(key: u32, direction: Option<u8>, ip6: bool) -> Option<Field<'a>> {
    let found = by_number(keys::CT, key)?;
    let mut field = Field::of(Source::Ct { name: found.word, direction }, found);
    if field.kind == Type::Invalid {
        (field.kind, field.bits) = if ip6 { (Type::Ipv6, 128) } else { (Type::Ipv4, 32) };
    }
    Some(field)
}

pub fn rt<'a>(key: u32) -> Option<Field<'a>> {
    let found = by_number(keys::RT, key)?;
    Some(Field::of(Source::Rt { name: found.word, family: found.family }, found))
}

pub fn fib<'a>(result: u32, flags: u32) -> Option<Field<'a>> {
    Some(Field::of(Source::Fib { flags, result }, &keys::fib(result, flags)?))
}

pub fn socket<'a>(key: u32, level: Option<u32>) -> Option<Field<'a>> {
    let found = by_number(keys::SOCKET, key)?;
    let level = level.filter(|_| key == keys::socket::CGROUPV2);
    Some(Field::of(Source::Socket { name: found.word, level }, found))
}

pub(crate) fn xfrm<'a>(key: u32, direction: u8, spnum: u32) -> Option<Field<'a>> {
    let found = by_number(keys::XFRM, key.checked_sub(1)?)?;
    Some(Field::of(
        Source::Xfrm { name: found.word, family: found.family, direction, spnum },
        found,
    ))
}

pub fn tunnel<'a>(key: u32) -> Option<Field<'a>> {
    let found = by_number(keys::TUNNEL, key)?;
    Some(Field::of(Source::Tunnel(found.word), found))
}

/// A payload load that no header has been found for yet; ports above IP have names of their own.
pub fn payload<'a>(base: u32, offset: u32, bits: u32) -> Field<'a> {
    let port = header::TH.fields.iter().find(|field| (field.offset, field.bits) == (offset, bits));
    match port {
        Some(field) if base == keys::base::TRANSPORT => header_field(&header::TH, *field),
        _ => Field {
            source: Source::Payload(base, offset, bits),
            kind: Type::Hex,
            order: Order::Network,
            bits,
        },
    }
}

pub(crate) fn header_field<'a>(header: &'static Header, field: header::Field) -> Field<'a> {
    Field {
        source: Source::Header { header, field },
        kind: field.kind,
        order: Order::Network,
        bits: field.bits,
    }
}

pub fn extension<'a>(found: Extension, trimmed: Option<(u32, u32)>) -> Field<'a> {
    let named = options::named(&found, trimmed);
    let bits = trimmed.map_or(found.len.saturating_mul(8), |(_, bits)| bits);
    let presence = options::is_presence(&found);
    let kind = match named {
        Some(named) => named.kind,
        None if presence => Type::Boolean,
        None => Type::Integer,
    };
    let bits = if presence { 8 } else { bits };
    Field { source: Source::Extension(found, trimmed), kind, order: Order::Network, bits }
}
