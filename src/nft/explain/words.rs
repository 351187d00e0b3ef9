//! What a person calls the fields of a packet, and how their values are written: as a listing of the rule does.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::attr::array;
use super::super::names::header::{self, Header};
use super::super::names::key::base;
use super::super::names::{Order, Type, hex};
use super::super::syntax::field::{self, Field, header_field};
use super::super::syntax::{Constant, Join, Value};
use super::super::text;
use crate::net::decimal;

/// How octets are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) kind: Type,
    pub(super) order: Order,
    /// Bits to the right of the value.
    shift: u32,
}

impl Style {
    /// Of what nothing is known but its octets.
    pub(super) const RAW: Self = Self { kind: Type::Hex, order: Order::Network, shift: 0 };

    pub(super) fn of(kind: Type, order: Order) -> Self {
        Self { kind, order, shift: 0 }
    }

    pub(super) fn text(self, bytes: &[u8]) -> String {
        match self.kind {
            Type::Ipv4 | Type::Ipv6 => address(bytes),
            Type::IfName | Type::Text => {
                let name = bytes.split(|byte| *byte == 0).next().unwrap_or(bytes);
                let star = if name.len() == bytes.len() && bytes.len() < 16 { "*" } else { "" };
                format!("\"{}{star}\"", String::from_utf8_lossy(name))
            }
            kind => match Constant::read(bytes, kind, self.order) {
                Some(Constant { number, .. }) if kind == Type::Mark => format!("0x{number:x}"),
                Some(constant) => {
                    let constant = Constant { number: constant.number >> self.shift, ..constant };
                    let is_bits = kind.is_bitmask();
                    text::Style::default().value_text(&if is_bits {
                        Value::Flags(constant, Join::List)
                    } else {
                        Value::Constant(constant)
                    })
                }
                None => hex(bytes),
            },
        }
    }
}

fn address(bytes: &[u8]) -> String {
    match (array::<4>(bytes, 0), array::<16>(bytes, 0), bytes.len()) {
        (Some(octets), _, 4) => Ipv4Addr::from(octets).to_string(),
        (_, Some(octets), 16) => Ipv6Addr::from(octets).to_string(),
        // The first octets of an address: a prefix that ends at an octet.
        (.., len @ 1..=3) => {
            let mut octets = bytes.to_vec();
            octets.resize(4, 0);
            format!("{}/{}", address(&octets), len * 8)
        }
        (.., len @ 5..=15) => {
            let mut octets = bytes.to_vec();
            octets.resize(16, 0);
            format!("{}/{}", address(&octets), len * 8)
        }
        _ => hex(bytes),
    }
}

/// Up to eight octets as a number.
pub(super) fn number(bytes: &[u8], host: bool) -> u64 {
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if host && cfg!(target_endian = "little") {
        bytes.iter().rev().fold(0, fold)
    } else {
        bytes.iter().fold(0, fold)
    }
}

/// A number in host order, in as many octets as the kernel stores.
pub(super) fn host(value: u64, len: usize) -> Vec<u8> {
    let mut bytes = value.to_ne_bytes().to_vec();
    if cfg!(target_endian = "little") {
        bytes.truncate(len);
    } else {
        bytes.drain(..8_usize.saturating_sub(len));
    }
    bytes
}

/// Sixteen octets, as the kernel holds the name of an interface.
pub(super) fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// What a load reads: nft's words for it, and how its value is written.
pub(super) fn field_words(field: Option<&Field<'_>>, name: &str, key: u32) -> (String, Style) {
    match field {
        Some(field) => {
            (text::Style::default().field_text(field), Style::of(field.kind, field.order))
        }
        None => (format!("{name} key {key}"), Style::RAW),
    }
}

/// A place in a layer of a packet whose protocols are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    header: &'static Header,
    /// From the beginning of the header.
    offset: u32,
    bits: u32,
}

impl Place {
    /// Where a load of so many octets reads.
    pub(super) fn of(
        ether_type: u16,
        protocol: u8,
        base: u32,
        octet: u32,
        octets: u32,
    ) -> Option<Self> {
        /// Bits of an Ethernet header.
        const ETHER: u32 = 112;
        let (offset, bits) = (octet.saturating_mul(8), octets.saturating_mul(8));
        let (header, start) = match base {
            base::LINK if offset < ETHER => (&header::ETHER, 0),
            base::LINK => (&header::VLAN, ETHER),
            base::NETWORK => (Header::network(ether_type)?, 0),
            base::TRANSPORT => (Header::transport(protocol).unwrap_or(&header::TH), 0),
            _ => return None,
        };
        Some(Self { header, offset: offset - start, bits })
    }

    /// The field that is there, or whose first octets are.
    pub(super) fn field(self, icmp: Option<u8>) -> Option<Field<'static>> {
        let mut fields = self.header.fields_at(self.offset, icmp);
        let is_read = |field: &&header::Field| {
            field.bits == self.bits || field.kind.is_address() && self.bits < field.bits
        };
        fields.find(is_read).map(|field| header_field(self.header, *field))
    }

    /// The field that a mask leaves, and how it is read from the masked octets.
    pub(super) fn masked(self, mask: &[u8]) -> Option<(Field<'static>, Style)> {
        let mask = Constant::read(mask, Type::Hex, Order::Network)?.number;
        let (shift, bits) = (mask.trailing_zeros(), mask.count_ones());
        let left = self.bits.checked_sub(mask.checked_ilog2()? + 1)?;
        let place = Self { offset: self.offset + left, bits, ..self };
        let field = place
            .field(None)
            .filter(|field| field.bits == bits && left + bits + shift == self.bits)?;
        let style = Style { shift, ..Style::of(field.kind, field.order) };
        Some((field, style))
    }
}

/// What a load of a layer reads.
pub(super) fn payload_words(
    place: Option<Place>,
    icmp: Option<u8>,
    (base, offset, len): (u32, u32, u32),
) -> (String, Style) {
    let found = place.and_then(|place| place.field(icmp));
    let field = found
        .unwrap_or_else(|| field::payload(base, offset.saturating_mul(8), len.saturating_mul(8)));
    field_words(Some(&field), "payload", base)
}

/// The flag of the verb that tells what is not known about a field, where there is one.
pub(super) fn hint(field: &str) -> Option<&'static str> {
    let flags = [
        ("sport", "--from ADDRESS:PORT"),
        ("dport", "--to ADDRESS:PORT/PROTOCOL"),
        ("saddr ether", "--ether-from MAC"),
        ("ether saddr", "--ether-from MAC"),
        ("ether daddr", "--ether-to MAC"),
        ("vlan", "--vlan ID"),
        ("ct mark", "--ct-mark N"),
        ("ct zone", "--ct-zone N"),
        ("ct status", "--ct-status WORDS"),
        ("ip saddr", "--from ADDRESS"),
        ("ip6 saddr", "--from ADDRESS"),
        ("meta length", "--length N"),
        ("ip length", "--length N"),
        ("ttl", "--ttl N"),
        ("hoplimit", "--ttl N"),
        ("dscp", "--tos N"),
        ("tcp flags", "--tcp-flags WORDS"),
        ("icmp", "--icmp-type N"),
        ("skuid", "--uid N"),
        ("skgid", "--gid N"),
        ("iif", "--iif NAME"),
        ("oif", "--oif NAME"),
    ];
    flags.iter().find(|(word, _)| field.contains(word)).map(|(_, flag)| *flag)
}

/// An ICMP type, by name or number.
pub fn icmp_type(word: &str, v6: bool) -> Option<u8> {
    let (kind, word) = match (v6, word) {
        // RFC 2710 has one number for both.
        (true, "mld-listener-reduction") => (Type::Icmpv6Type, "mld-listener-done"),
        (true, word) => (Type::Icmpv6Type, word),
        (false, word) => (Type::IcmpType, word),
    };
    numbered(kind, word)?.try_into().ok()
}

/// `syn,ack`, or a number; empty for none.
pub fn tcp_flags(words: &str) -> Option<u8> {
    set_bits(Type::TcpFlag, words)?.try_into().ok()
}

/// `dnat,seen-reply`, or a number; empty for none.
pub fn status_bits(words: &str) -> Option<u32> {
    set_bits(Type::CtStatus, words)
}

fn numbered(kind: Type, word: &str) -> Option<u32> {
    kind.number(word).or_else(|| decimal(word))
}

fn set_bits(kind: Type, wanted: &str) -> Option<u32> {
    let wanted = wanted.split([',', '|']).filter(|word| !word.is_empty() && *word != "none");
    wanted.map(|word| numbered(kind, word)).try_fold(0, |bits, bit| Some(bits | bit?))
}
