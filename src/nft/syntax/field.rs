//! What a register can be loaded from.

use super::super::expr::Extension;
use super::super::names::header::{self, Header};
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

impl Field<'_> {
    /// `bytes` compared with this field.
    pub fn constant(&self, bytes: &[u8]) -> Option<Constant> {
        Constant::read(bytes, self.kind, self.order)
    }
}

/// Name, type, bits, order, by the numbers of `enum nft_meta_keys`.
const META: &[(&str, Type, u32, Order)] = &[
    ("length", Type::Integer, 32, Order::Host),
    ("protocol", Type::EtherType, 16, Order::Network),
    ("priority", Type::ClassId, 32, Order::Host),
    ("mark", Type::Mark, 32, Order::Host),
    ("iif", Type::IfIndex, 32, Order::Host),
    ("oif", Type::IfIndex, 32, Order::Host),
    ("iifname", Type::IfName, 128, Order::Host),
    ("oifname", Type::IfName, 128, Order::Host),
    ("iiftype", Type::IfType, 16, Order::Host),
    ("oiftype", Type::IfType, 16, Order::Host),
    ("skuid", Type::Uid, 32, Order::Host),
    ("skgid", Type::Gid, 32, Order::Host),
    ("nftrace", Type::Integer, 8, Order::Host),
    ("rtclassid", Type::Realm, 32, Order::Host),
    ("secmark", Type::Integer, 32, Order::Host),
    ("nfproto", Type::NfProto, 8, Order::Host),
    ("l4proto", Type::InetProto, 8, Order::Host),
    ("ibrname", Type::IfName, 128, Order::Host),
    ("obrname", Type::IfName, 128, Order::Host),
    ("pkttype", Type::PktType, 8, Order::Host),
    ("cpu", Type::Integer, 32, Order::Host),
    ("iifgroup", Type::DevGroup, 32, Order::Host),
    ("oifgroup", Type::DevGroup, 32, Order::Host),
    ("cgroup", Type::Integer, 32, Order::Host),
    ("random", Type::Integer, 32, Order::Network),
    ("ipsec", Type::Boolean, 8, Order::Host),
    ("iifkind", Type::IfName, 128, Order::Host),
    ("oifkind", Type::IfName, 128, Order::Host),
    ("ibrpvid", Type::Integer, 16, Order::Host),
    ("ibrvproto", Type::EtherType, 16, Order::Network),
    ("time", Type::Date, 64, Order::Host),
    ("day", Type::Day, 8, Order::Host),
    ("hour", Type::Hour, 32, Order::Host),
    ("sdif", Type::IfIndex, 32, Order::Host),
    ("sdifname", Type::IfName, 128, Order::Host),
    ("broute", Type::Integer, 8, Order::Host),
];

pub fn meta<'a>(key: u32) -> Option<Field<'a>> {
    let (name, kind, bits, order) = *META.get(usize::try_from(key).ok()?)?;
    Some(Field { source: Source::Meta { key, name }, kind, order, bits })
}

/// By the numbers of `enum nft_ct_keys`; addresses without a family are told by the family of the table.
const CT: &[(&str, Type, u32, Order)] = &[
    ("state", Type::CtState, 32, Order::Host),
    ("direction", Type::CtDir, 8, Order::Host),
    ("status", Type::CtStatus, 32, Order::Host),
    ("mark", Type::Mark, 32, Order::Host),
    ("secmark", Type::Integer, 32, Order::Host),
    ("expiration", Type::Time, 32, Order::Host),
    ("helper", Type::Text, 128, Order::Host),
    ("l3proto", Type::NfProto, 8, Order::Host),
    ("saddr", Type::Invalid, 32, Order::Network),
    ("daddr", Type::Invalid, 32, Order::Network),
    ("protocol", Type::InetProto, 8, Order::Network),
    ("proto-src", Type::InetService, 16, Order::Network),
    ("proto-dst", Type::InetService, 16, Order::Network),
    ("label", Type::CtLabel, 128, Order::Host),
    ("packets", Type::Integer, 64, Order::Host),
    ("bytes", Type::Integer, 64, Order::Host),
    ("avgpkt", Type::Integer, 64, Order::Host),
    ("zone", Type::Integer, 16, Order::Host),
    ("event", Type::CtEvent, 32, Order::Host),
    ("ip saddr", Type::Ipv4, 32, Order::Network),
    ("ip daddr", Type::Ipv4, 32, Order::Network),
    ("ip6 saddr", Type::Ipv6, 128, Order::Network),
    ("ip6 daddr", Type::Ipv6, 128, Order::Network),
    ("id", Type::Integer, 32, Order::Network),
];

pub fn ct<'a>(key: u32, direction: Option<u8>, ip6: bool) -> Option<Field<'a>> {
    let (name, kind, bits, order) = *CT.get(usize::try_from(key).ok()?)?;
    let (kind, bits) = match (kind, ip6) {
        (Type::Invalid, true) => (Type::Ipv6, 128),
        (Type::Invalid, false) => (Type::Ipv4, 32),
        known => (known.0, bits),
    };
    Some(Field { source: Source::Ct { name, direction }, kind, order, bits })
}

pub fn rt<'a>(key: u32) -> Option<Field<'a>> {
    let (name, family, kind, bits, order) = match key {
        0 => ("classid", None, Type::Realm, 32, Order::Host),
        1 => ("nexthop", Some("ip"), Type::Ipv4, 32, Order::Network),
        2 => ("nexthop", Some("ip6"), Type::Ipv6, 128, Order::Network),
        3 => ("mtu", None, Type::Integer, 16, Order::Host),
        4 => ("ipsec", None, Type::Boolean, 8, Order::Host),
        _ => return None,
    };
    Some(Field { source: Source::Rt { name, family }, kind, order, bits })
}

/// NFTA_FIB_F_PRESENT.
const PRESENT: u32 = 0x20;

pub fn fib<'a>(result: u32, flags: u32) -> Option<Field<'a>> {
    let (kind, bits) = match result {
        1 if flags & PRESENT != 0 => (Type::Boolean, 8),
        1 => (Type::IfIndex, 32),
        2 if flags & PRESENT != 0 => (Type::Boolean, 8),
        2 => (Type::IfName, 128),
        3 => (Type::FibAddr, 32),
        _ => return None,
    };
    Some(Field { source: Source::Fib { flags, result }, kind, order: Order::Host, bits })
}

pub fn socket<'a>(key: u32, level: Option<u32>) -> Option<Field<'a>> {
    let (name, kind, bits) = match key {
        0 => ("transparent", Type::Integer, 8),
        1 => ("mark", Type::Mark, 32),
        2 => ("wildcard", Type::Integer, 8),
        3 => ("cgroupv2", Type::CgroupV2, 64),
        _ => return None,
    };
    let level = level.filter(|_| key == 3);
    Some(Field { source: Source::Socket { name, level }, kind, order: Order::Host, bits })
}

pub fn xfrm<'a>(key: u32, direction: u8, spnum: u32) -> Option<Field<'a>> {
    let (name, family, kind, bits, order) = match key {
        1 => ("daddr", Some("ip"), Type::Ipv4, 32, Order::Network),
        2 => ("daddr", Some("ip6"), Type::Ipv6, 128, Order::Network),
        3 => ("saddr", Some("ip"), Type::Ipv4, 32, Order::Network),
        4 => ("saddr", Some("ip6"), Type::Ipv6, 128, Order::Network),
        5 => ("reqid", None, Type::Integer, 32, Order::Host),
        6 => ("spi", None, Type::Integer, 32, Order::Network),
        _ => return None,
    };
    Some(Field { source: Source::Xfrm { name, family, direction, spnum }, kind, order, bits })
}

/// A payload load that no header has been found for yet; ports above IP have names of their own.
pub fn payload<'a>(base: u32, offset: u32, bits: u32) -> Field<'a> {
    let port = header::TH.fields.iter().find(|field| (field.offset, field.bits) == (offset, bits));
    match port {
        Some(field) if base == super::super::expr::base::TRANSPORT => header_field(&header::TH, *field),
        _ => Field {
            source: Source::Payload(base, offset, bits),
            kind: Type::Hex,
            order: Order::Network,
            bits,
        },
    }
}

pub fn header_field<'a>(header: &'static Header, field: header::Field) -> Field<'a> {
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
