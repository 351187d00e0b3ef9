//! The bytes of a register or of a set's key as nft writes them, by type.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::attr::array;
use super::super::set;

/// How bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ipv4,
    Ipv6,
    Ether,
    /// A decimal number in network order.
    Port,
    Protocol,
    IfName,
    /// A hexadecimal number in host order.
    Mark,
    /// A decimal number in host order.
    Host,
    /// A decimal number in network order, of any length.
    Network,
    /// Words for numbers in host order.
    Words(&'static [(u32, &'static str)]),
    /// Words for bits; `host` order or network order.
    Bits {
        words: &'static [(u32, &'static str)],
        host: bool,
    },
    Raw,
}

pub const STATES: Kind = Kind::Bits {
    words: &[(1, "invalid"), (8, "new"), (2, "established"), (4, "related"), (0x40, "untracked")],
    host: true,
};
pub const STATUS: Kind = Kind::Bits {
    words: &[
        (1, "expected"),
        (2, "seen-reply"),
        (4, "assured"),
        (8, "confirmed"),
        (0x10, "snat"),
        (0x20, "dnat"),
        (0x200, "dying"),
    ],
    host: true,
};
pub const TCP_FLAGS: Kind = Kind::Bits {
    words: &[
        (1, "fin"),
        (2, "syn"),
        (4, "rst"),
        (8, "psh"),
        (0x10, "ack"),
        (0x20, "urg"),
        (0x40, "ecn"),
        (0x80, "cwr"),
    ],
    host: false,
};
pub const FIB_TYPES: Kind = Kind::Words(&[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
]);
pub const FAMILIES: Kind = Kind::Words(&[(2, "ipv4"), (10, "ipv6")]);

/// IANA protocol numbers under the names of /etc/protocols.
const PROTOCOLS: &[(u8, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (41, "ipv6"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (108, "comp"),
    (132, "sctp"),
    (136, "udplite"),
];

impl Kind {
    /// The parts of a set's key by nft's type number, six bits each, the most significant first.
    pub fn of_set_type(number: u32, len: u32) -> Vec<Self> {
        let mut kinds = Vec::new();
        let mut rest = number;
        while rest != 0 && kinds.len() < 5 {
            kinds.push(match rest & 0x3f {
                set::IPV4_ADDR => Self::Ipv4,
                set::IPV6_ADDR => Self::Ipv6,
                set::ETHER_ADDR => Self::Ether,
                set::INET_PROTO => Self::Protocol,
                set::INET_SERVICE => Self::Port,
                set::MARK => Self::Mark,
                set::IFNAME => Self::IfName,
                _ => Self::Raw,
            });
            rest >>= 6;
        }
        kinds.reverse();
        if kinds.is_empty() || (kinds.contains(&Self::Raw) && len > 0) { vec![Self::Raw] } else { kinds }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Ether => "ether_addr",
            Self::Port => "inet_service",
            Self::Protocol => "inet_proto",
            Self::IfName => "ifname",
            Self::Mark => "mark",
            Self::Host | Self::Network | Self::Words(_) | Self::Bits { .. } | Self::Raw => "integer",
        }
    }

    /// Octets of a value; None when it may be any.
    pub fn len(self) -> Option<usize> {
        match self {
            Self::Ipv4 | Self::Mark => Some(4),
            Self::Ipv6 | Self::IfName => Some(16),
            Self::Ether => Some(6),
            Self::Port => Some(2),
            Self::Protocol => Some(1),
            Self::Host | Self::Network | Self::Words(_) | Self::Bits { .. } | Self::Raw => None,
        }
    }

    pub fn text(self, bytes: &[u8]) -> String {
        let exact = self.len().is_none_or(|len| len == bytes.len());
        match self {
            Self::IfName => interface(bytes),
            _ if !exact => self.prefix(bytes).unwrap_or_else(|| hex(bytes)),
            Self::Ipv4 => {
                array::<4>(bytes, 0).map_or_else(String::new, |octets| Ipv4Addr::from(octets).to_string())
            }
            Self::Ipv6 => {
                array::<16>(bytes, 0).map_or_else(String::new, |octets| Ipv6Addr::from(octets).to_string())
            }
            Self::Ether => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            Self::Port | Self::Network => number(bytes, false).to_string(),
            Self::Protocol => {
                let name = PROTOCOLS.iter().find(|(number, _)| [*number] == *bytes);
                name.map_or_else(|| number(bytes, false).to_string(), |(_, name)| (*name).to_owned())
            }
            Self::Mark => format!("0x{:08x}", number(bytes, true)),
            Self::Host => number(bytes, true).to_string(),
            Self::Words(words) => {
                let value = number(bytes, true);
                let word = words.iter().find(|(number, _)| u64::from(*number) == value);
                word.map_or_else(|| value.to_string(), |(_, word)| (*word).to_owned())
            }
            Self::Bits { words, host } => {
                let value = number(bytes, host);
                let mut rest = value;
                let mut set = Vec::new();
                for (bit, word) in words {
                    if rest & u64::from(*bit) != 0 {
                        set.push(*word);
                        rest &= !u64::from(*bit);
                    }
                }
                if rest != 0 || set.is_empty() { format!("0x{value:x}") } else { set.join(",") }
            }
            Self::Raw => hex(bytes),
        }
    }

    /// An address of which only the first octets were compared.
    fn prefix(self, bytes: &[u8]) -> Option<String> {
        let len = self.len().filter(|len| bytes.len() < *len && matches!(self, Self::Ipv4 | Self::Ipv6))?;
        let mut whole = bytes.to_vec();
        whole.resize(len, 0);
        Some(format!("{}/{}", self.text(&whole), bytes.len() * 8))
    }

    /// Whether smaller bytes are smaller values: others sort as little-endian numbers in nft.
    pub fn big_endian(self) -> bool {
        matches!(self, Self::Ipv4 | Self::Ipv6 | Self::Ether | Self::Port | Self::Protocol)
    }
}

fn interface(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(end.and_then(|end| bytes.get(..end)).unwrap_or(bytes)).into_owned();
    if end.is_none() && bytes.len() < 16 { format!("\"{name}*\"") } else { format!("\"{name}\"") }
}

/// Up to eight octets as a number.
pub fn number(bytes: &[u8], host: bool) -> u64 {
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if host && cfg!(target_endian = "little") {
        bytes.iter().rev().fold(0, fold)
    } else {
        bytes.iter().fold(0, fold)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// Length of the prefix when the mask is ones and then zeros.
pub fn prefix_len(mask: &[u8]) -> Option<usize> {
    let ones: usize = mask.iter().map(|byte| byte.leading_ones() as usize).sum();
    let set: usize = mask.iter().map(|byte| byte.count_ones() as usize).sum();
    let contiguous = mask.iter().enumerate().all(|(at, byte)| {
        let wanted = ones.saturating_sub(at * 8).min(8);
        byte.leading_ones() as usize == wanted && byte.count_ones() as usize == wanted
    });
    (contiguous && ones == set).then_some(ones)
}
