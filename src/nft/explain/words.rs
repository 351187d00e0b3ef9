//! What a person calls the fields of a packet, and how their values are written.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::attr::array;
use super::super::expr::{base, ct, meta};
use super::super::names::Type;

/// How octets are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A decimal number in network order.
    Number,
    /// A decimal number in host order.
    Host,
    /// A hexadecimal number in host order.
    Mark,
    Address,
    Ether,
    Name,
    Protocol,
    /// Words for bits; `host` order or network order.
    Bits(&'static [(u64, &'static str)], bool),
    /// Words for numbers.
    Words(&'static [(u64, &'static str)], bool),
    /// nft's words for numbers in network order.
    Symbols(Type),
    Hex,
}

pub(super) const TCP_FLAGS: &[(u64, &str)] = &[
    (1, "fin"),
    (2, "syn"),
    (4, "rst"),
    (8, "psh"),
    (0x10, "ack"),
    (0x20, "urg"),
    (0x40, "ecn"),
    (0x80, "cwr"),
];
const STATES: &[(u64, &str)] =
    &[(1, "invalid"), (8, "new"), (2, "established"), (4, "related"), (0x40, "untracked")];
pub(super) const STATUS: &[(u64, &str)] = &[
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (0x10, "snat"),
    (0x20, "dnat"),
    (0x200, "dying"),
];
const FIB_TYPES: &[(u64, &str)] = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
const PACKET_TYPES: &[(u64, &str)] = &[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")];
const FAMILIES: &[(u64, &str)] = &[(2, "ipv4"), (10, "ipv6")];
const ETHER_TYPES: &[(u64, &str)] = &[(0x0800, "ip"), (0x0806, "arp"), (0x86dd, "ip6"), (0x8100, "vlan")];
/// IANA protocol numbers under the names of /etc/protocols.
pub(super) const PROTOCOLS: &[(u64, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (41, "ipv6"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "icmpv6"),
    (132, "sctp"),
    (136, "udplite"),
];

impl Style {
    pub(super) fn text(self, bytes: &[u8]) -> String {
        match self {
            Self::Number => number(bytes, false).to_string(),
            Self::Host => number(bytes, true).to_string(),
            Self::Mark => format!("0x{:x}", number(bytes, true)),
            Self::Address => address(bytes),
            Self::Ether => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            Self::Name => {
                let name = bytes.split(|byte| *byte == 0).next().unwrap_or(bytes);
                let star = if name.len() == bytes.len() && bytes.len() < 16 { "*" } else { "" };
                format!("\"{}{star}\"", String::from_utf8_lossy(name))
            }
            Self::Protocol => word(PROTOCOLS, number(bytes, false)),
            Self::Words(words, host) => word(words, number(bytes, host)),
            Self::Symbols(kind) => {
                let number = number(bytes, false);
                kind.symbol(number.into()).map_or_else(|| number.to_string(), str::to_owned)
            }
            Self::Bits(words, host) => bits(words, number(bytes, host)),
            Self::Hex => hex(bytes),
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

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

fn word(words: &[(u64, &str)], value: u64) -> String {
    let found = words.iter().find(|(number, _)| *number == value);
    found.map_or_else(|| value.to_string(), |(_, word)| (*word).to_owned())
}

/// `syn,ack`; the rest of the number in hexadecimal.
pub(super) fn bits(words: &[(u64, &str)], value: u64) -> String {
    let mut rest = value;
    let mut set = Vec::new();
    for (bit, word) in words {
        if rest & bit != 0 {
            set.push((*word).to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 || set.is_empty() {
        set.push(format!("0x{rest:x}"));
    }
    set.join(",")
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

pub(super) fn meta_field(key: u32) -> (String, Style) {
    let (name, style) = match key {
        meta::LEN => ("meta length", Style::Host),
        meta::PROTOCOL => ("meta protocol", Style::Words(ETHER_TYPES, false)),
        2 => ("meta priority", Style::Mark),
        meta::MARK => ("meta mark", Style::Mark),
        meta::IIF => ("iif", Style::Host),
        meta::OIF => ("oif", Style::Host),
        meta::IIFNAME => ("iifname", Style::Name),
        meta::OIFNAME => ("oifname", Style::Name),
        meta::IIFTYPE => ("meta iiftype", Style::Host),
        9 => ("meta oiftype", Style::Host),
        10 => ("meta skuid", Style::Host),
        11 => ("meta skgid", Style::Host),
        12 => ("meta nftrace", Style::Host),
        13 => ("meta rtclassid", Style::Host),
        14 => ("meta secmark", Style::Mark),
        meta::NFPROTO => ("meta nfproto", Style::Words(FAMILIES, true)),
        meta::L4PROTO => ("meta l4proto", Style::Protocol),
        17 => ("meta ibrname", Style::Name),
        18 => ("meta obrname", Style::Name),
        meta::PKTTYPE => ("meta pkttype", Style::Words(PACKET_TYPES, true)),
        20 => ("meta cpu", Style::Host),
        21 => ("meta iifgroup", Style::Host),
        22 => ("meta oifgroup", Style::Host),
        23 => ("meta cgroup", Style::Host),
        24 => ("meta random", Style::Number),
        25 => ("meta ipsec", Style::Host),
        26 => ("meta iifkind", Style::Name),
        27 => ("meta oifkind", Style::Name),
        30 => ("meta time", Style::Host),
        31 => ("meta day", Style::Host),
        32 => ("meta hour", Style::Host),
        33 => ("meta sdif", Style::Host),
        34 => ("meta sdifname", Style::Name),
        other => return (format!("meta key {other}"), Style::Hex),
    };
    (name.to_owned(), style)
}

pub(super) fn ct_field(key: u32, direction: Option<u8>) -> (String, Style) {
    let (name, style) = match key {
        ct::STATE => ("state", Style::Bits(STATES, true)),
        ct::DIRECTION => ("direction", Style::Words(&[(0, "original"), (1, "reply")], true)),
        ct::STATUS => ("status", Style::Bits(STATUS, true)),
        ct::MARK => ("mark", Style::Mark),
        4 => ("secmark", Style::Mark),
        5 => ("expiration", Style::Host),
        6 => ("helper", Style::Name),
        7 => ("l3proto", Style::Words(FAMILIES, true)),
        8 | 19 | 21 => ("saddr", Style::Address),
        9 | 20 | 22 => ("daddr", Style::Address),
        10 => ("protocol", Style::Protocol),
        11 => ("proto-src", Style::Number),
        12 => ("proto-dst", Style::Number),
        13 => ("label", Style::Hex),
        14 => ("packets", Style::Host),
        15 => ("bytes", Style::Host),
        16 => ("avgpkt", Style::Host),
        17 => ("zone", Style::Host),
        18 => ("event", Style::Mark),
        23 => ("id", Style::Host),
        other => return (format!("ct key {other}"), Style::Hex),
    };
    let direction = match direction {
        Some(0) => "original ",
        Some(1) => "reply ",
        _ => "",
    };
    (format!("ct {direction}{name}"), style)
}

pub(super) fn fib_field(result: u32, flags: u32) -> (String, Style) {
    let names = [(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (0x10, "oif")];
    let by: Vec<&str> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    let (name, style) = match result {
        1 => ("oif", Style::Host),
        2 => ("oifname", Style::Name),
        _ => ("type", Style::Words(FIB_TYPES, true)),
    };
    (format!("fib {} {name}", by.join(" . ")), style)
}

/// A header field of a packet whose protocols are known.
pub(super) fn payload_field(ether_type: u16, protocol: u8, at: (u32, u32, u32)) -> (String, Style) {
    let (name, style) = match (ether_type, protocol, at) {
        (.., (base::LINK, 0, 6)) => ("ether daddr", Style::Ether),
        (.., (base::LINK, 6, 6)) => ("ether saddr", Style::Ether),
        (.., (base::LINK, 14, 2)) => ("vlan id", Style::Number),
        (.., (base::LINK, 12, 2)) => ("ether type", Style::Words(ETHER_TYPES, false)),
        (0x0800, _, (base::NETWORK, offset, len)) => match (offset, len) {
            (1, 1) => ("ip dscp", Style::Hex),
            (2, 2) => ("ip length", Style::Number),
            (4, 2) => ("ip id", Style::Number),
            (6, 2) => ("ip frag-off", Style::Hex),
            (8, 1) => ("ip ttl", Style::Number),
            (9, 1) => ("ip protocol", Style::Protocol),
            (12, 1..=4) => ("ip saddr", Style::Address),
            (16, 1..=4) => ("ip daddr", Style::Address),
            _ => return raw("nh", offset, len),
        },
        (0x86dd, _, (base::NETWORK, offset, len)) => match (offset, len) {
            (4, 2) => ("ip6 length", Style::Number),
            (6, 1) => ("ip6 nexthdr", Style::Protocol),
            (7, 1) => ("ip6 hoplimit", Style::Number),
            (8, 1..=16) => ("ip6 saddr", Style::Address),
            (24, 1..=16) => ("ip6 daddr", Style::Address),
            _ => return raw("nh", offset, len),
        },
        (0x0806, _, (base::NETWORK, offset, len)) => match (offset, len) {
            (6, 2) => ("arp operation", Style::Words(&[(1, "request"), (2, "reply")], false)),
            (8, 6) => ("arp saddr ether", Style::Ether),
            (14, 4) => ("arp saddr ip", Style::Address),
            (18, 6) => ("arp daddr ether", Style::Ether),
            (24, 4) => ("arp daddr ip", Style::Address),
            _ => return raw("nh", offset, len),
        },
        (_, 6, (base::TRANSPORT, 0, 2)) => ("tcp sport", Style::Number),
        (_, 6, (base::TRANSPORT, 2, 2)) => ("tcp dport", Style::Number),
        (_, 6, (base::TRANSPORT, 13, 1)) => ("tcp flags", Style::Bits(TCP_FLAGS, false)),
        (_, 17, (base::TRANSPORT, 0, 2)) => ("udp sport", Style::Number),
        (_, 17, (base::TRANSPORT, 2, 2)) => ("udp dport", Style::Number),
        (_, 1, (base::TRANSPORT, 0, 1)) => ("icmp type", Style::Symbols(Type::IcmpType)),
        (_, 1, (base::TRANSPORT, 1, 1)) => ("icmp code", Style::Number),
        (_, 58, (base::TRANSPORT, 0, 1)) => ("icmpv6 type", Style::Symbols(Type::Icmpv6Type)),
        (_, 58, (base::TRANSPORT, 1, 1)) => ("icmpv6 code", Style::Number),
        (_, _, (base::TRANSPORT, 0, 2)) => ("th sport", Style::Number),
        (_, _, (base::TRANSPORT, 2, 2)) => ("th dport", Style::Number),
        (.., (base::LINK, offset, len)) => return raw("ll", offset, len),
        (.., (base::TRANSPORT, offset, len)) => return raw("th", offset, len),
        (.., (_, offset, len)) => return raw("nh", offset, len),
    };
    (name.to_owned(), style)
}

fn raw(base: &str, offset: u32, len: u32) -> (String, Style) {
    (format!("@{base},{},{}", offset.saturating_mul(8), len.saturating_mul(8)), Style::Hex)
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

/// A protocol's number, by name or number.
pub fn protocol(word: &str) -> Option<u8> {
    let word = if word == "ipv6-icmp" { "icmpv6" } else { word };
    numbered(PROTOCOLS, word).and_then(|number| u8::try_from(number).ok())
}

/// An ICMP type, by name or number.
pub fn icmp_type(word: &str, v6: bool) -> Option<u8> {
    let (kind, word) = match (v6, word) {
        // RFC 2710 has one number for both.
        (true, "mld-listener-reduction") => (Type::Icmpv6Type, "mld-listener-done"),
        (true, word) => (Type::Icmpv6Type, word),
        (false, word) => (Type::IcmpType, word),
    };
    let found = kind.symbols().iter().find(|(_, symbol)| *symbol == word);
    found.map_or_else(|| word.parse().ok(), |(number, _)| u8::try_from(*number).ok())
}

/// `syn,ack`, or a number; empty for none.
pub fn tcp_flags(words: &str) -> Option<u8> {
    set_bits(TCP_FLAGS, words).and_then(|bits| u8::try_from(bits).ok())
}

/// `dnat,seen-reply`, or a number; empty for none.
pub fn status_bits(words: &str) -> Option<u32> {
    set_bits(STATUS, words).and_then(|bits| u32::try_from(bits).ok())
}

fn numbered(words: &[(u64, &str)], wanted: &str) -> Option<u64> {
    let found = words.iter().find(|(_, word)| *word == wanted);
    found.map(|(number, _)| *number).or_else(|| wanted.parse().ok())
}

fn set_bits(words: &[(u64, &str)], wanted: &str) -> Option<u64> {
    let wanted = wanted.split([',', '|']).filter(|word| !word.is_empty() && *word != "none");
    wanted.map(|word| numbered(words, word)).try_fold(0, |bits, bit| Some(bits | bit?))
}
