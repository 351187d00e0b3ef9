//! Types of values: how long they are, in which order a register holds them, and the words nft has for them.
//!
//! A value is kept here as a number in network order; [`Kind::stored`] turns it into the order of the register.

use std::net::{Ipv4Addr, Ipv6Addr};

use nftables::expr::{BinaryOperation, Expression, NamedExpression};

use super::Why;
use super::words::{self, Words};
use crate::net::{MacAddr, hexadecimal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ipv4,
    Ipv6,
    Ether,
    /// A transport protocol.
    Protocol,
    /// A port.
    Service,
    IfName,
    Mark,
    Family,
    EtherType,
    IcmpType,
    Icmpv6Type,
    TcpFlags,
    CtState,
    CtStatus,
    CtDirection,
    FibType,
    PacketType,
    /// ARPHRD.
    LinkType,
    ArpOperation,
    Dscp,
    Boolean,
    /// Whether a look-up found something.
    Exists,
    /// A number of so many octets, in network order or the host's.
    Number {
        octets: u32,
        host: bool,
    },
}

/// First and last value, both in network order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub low: Vec<u8>,
    pub high: Vec<u8>,
}

impl Span {
    pub fn is_one(&self) -> bool {
        self.low == self.high
    }
}

impl Kind {
    pub fn octets(self) -> usize {
        match self {
            Self::Ipv4 | Self::Mark | Self::CtState | Self::CtStatus | Self::FibType | Self::Exists => 4,
            Self::Ipv6 | Self::IfName => 16,
            Self::Ether => 6,
            Self::Service | Self::EtherType | Self::LinkType | Self::ArpOperation => 2,
            Self::Number { octets, .. } => usize::try_from(octets).unwrap_or(0),
            _ => 1,
        }
    }

    /// Whether a register holds it in the host's order.
    pub fn is_host(self) -> bool {
        match self {
            Self::Mark | Self::CtState | Self::CtStatus | Self::FibType | Self::LinkType | Self::Exists => {
                true
            }
            Self::Number { host, .. } => host,
            _ => false,
        }
    }

    /// Whether values are combinations of bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::TcpFlags | Self::CtState | Self::CtStatus)
    }

    /// nft's number of the type (`enum datatypes`), for sets; None where a set needs more than that.
    pub fn number(self) -> Option<u32> {
        Some(match self {
            Self::Family => 2,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Ether => 9,
            Self::EtherType => 10,
            Self::ArpOperation => 11,
            Self::Protocol => 12,
            Self::Service => 13,
            Self::IcmpType => 14,
            Self::TcpFlags => 15,
            Self::Mark => 19,
            Self::LinkType => 21,
            Self::CtState => 26,
            Self::CtDirection => 27,
            Self::CtStatus => 28,
            Self::Icmpv6Type => 29,
            Self::PacketType => 31,
            Self::FibType => 38,
            Self::IfName => 41,
            Self::Dscp | Self::Boolean | Self::Exists | Self::Number { .. } => return None,
        })
    }

    fn words(self) -> Words {
        match self {
            Self::Protocol => words::PROTOCOLS,
            Self::Service => words::SERVICES,
            Self::Family => words::FAMILIES,
            Self::EtherType => words::ETHER_TYPES,
            Self::IcmpType => words::ICMP_TYPES,
            Self::Icmpv6Type => words::ICMPV6_TYPES,
            Self::TcpFlags => words::TCP_FLAGS,
            Self::CtState => words::CT_STATES,
            Self::CtStatus => words::CT_STATUS,
            Self::CtDirection => words::CT_DIRECTIONS,
            Self::FibType => words::FIB_TYPES,
            Self::PacketType => words::PACKET_TYPES,
            Self::LinkType => words::LINK_TYPES,
            Self::ArpOperation => words::ARP_OPERATIONS,
            Self::Dscp => words::DSCP,
            _ => &[],
        }
    }

    /// As the register holds it.
    pub fn stored(self, mut value: Vec<u8>) -> Vec<u8> {
        if self.is_host() && cfg!(target_endian = "little") {
            value.reverse();
        }
        value
    }

    /// A value in network order.
    pub fn value(self, expression: &Expression<'_>) -> Result<Vec<u8>, Why> {
        match expression {
            Expression::String(word) => self.word(word),
            Expression::Number(number) => self.integer(u64::from(*number)),
            Expression::Boolean(value) if matches!(self, Self::Boolean | Self::Exists) => {
                self.integer(u64::from(*value))
            }
            Expression::List(parts) if self.is_bits() => self.bits(parts),
            Expression::BinaryOperation(operation) => match operation.as_ref() {
                BinaryOperation::OR(parts) if self.is_bits() => self.bits(parts),
                _ => Err("an operation where a value is wanted".into()),
            },
            other => Err(format!("{} where a single value is wanted", what(other))),
        }
    }

    /// A value, a prefix or a range.
    pub fn span(self, expression: &Expression<'_>) -> Result<Span, Why> {
        match expression {
            Expression::Range(range) => {
                let [low, high] = &range.range;
                let (low, high) = (self.value(low)?, self.value(high)?);
                if low > high {
                    Err("a range whose end is before its beginning".into())
                } else {
                    Ok(Span { low, high })
                }
            }
            Expression::Named(NamedExpression::Prefix(prefix)) => {
                let low = self.value(&prefix.addr)?;
                let mask =
                    mask(low.len(), prefix.len).ok_or_else(|| format!("a prefix of {} bits", prefix.len))?;
                let first = low.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
                let high = low.iter().zip(&mask).map(|(octet, mask)| octet | !mask).collect();
                Ok(Span { low: first, high })
            }
            single => self.value(single).map(|value| Span { low: value.clone(), high: value }),
        }
    }

    fn word(self, word: &str) -> Result<Vec<u8>, Why> {
        let wrong = || format!("{word:?} is not {}", self.name());
        match self {
            Self::Ipv4 => word.parse::<Ipv4Addr>().map(|a| a.octets().to_vec()).map_err(|_| wrong()),
            Self::Ipv6 => word.parse::<Ipv6Addr>().map(|a| a.octets().to_vec()).map_err(|_| wrong()),
            Self::Ether => word.parse::<MacAddr>().map(|mac| mac.0.to_vec()).map_err(|_| wrong()),
            Self::IfName => {
                let mut name = word.as_bytes().to_vec();
                if name.is_empty() || name.len() > 15 || name.contains(&0) {
                    return Err(wrong());
                }
                name.resize(16, 0);
                Ok(name)
            }
            _ => {
                let known = self.words().iter().find(|(name, _)| *name == word);
                match (known, number(word)) {
                    (Some((_, value)), _) => self.integer(u64::from(*value)),
                    (None, Some(value)) => self.integer(value),
                    (None, None) => Err(wrong()),
                }
            }
        }
    }

    fn integer(self, value: u64) -> Result<Vec<u8>, Why> {
        if matches!(self, Self::Ipv4 | Self::Ipv6 | Self::Ether | Self::IfName) {
            return Err(format!("{value} is not {}", self.name()));
        }
        let bytes = value.to_be_bytes();
        let octets = self.octets();
        let unused = bytes.len().saturating_sub(octets);
        let (high, low) = bytes.split_at_checked(unused).unwrap_or((&[], &bytes));
        if high.iter().any(|octet| *octet != 0) {
            return Err(format!("{value} does not fit into {octets} octets"));
        }
        let mut padded = vec![0; octets.saturating_sub(low.len())];
        padded.extend_from_slice(low);
        Ok(padded)
    }

    fn bits(self, parts: &[Expression<'_>]) -> Result<Vec<u8>, Why> {
        let mut all = vec![0; self.octets()];
        for part in parts {
            for (octet, bit) in all.iter_mut().zip(self.value(part)?) {
                *octet |= bit;
            }
        }
        Ok(all)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Ether => "a MAC address",
            Self::IfName => "an interface name",
            Self::Protocol => "a protocol known here (use its number)",
            Self::Service => "a port or a service known here (use its number)",
            Self::Boolean | Self::Exists => "true or false",
            _ => "a value of this type",
        }
    }
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => hexadecimal(digits),
        None => word.parse().ok(),
    }
}

/// So many ones, then zeros; None when they are more than the octets hold.
pub fn mask(octets: usize, length: u32) -> Option<Vec<u8>> {
    let mut left = length;
    let mut mask = Vec::new();
    for _ in 0..octets {
        let bits = left.min(8);
        mask.push(u8::try_from(0xff00_u32 >> bits & 0xff).ok()?);
        left -= bits;
    }
    (left == 0).then_some(mask)
}

/// What an expression is, for a message.
pub fn what(expression: &Expression<'_>) -> &'static str {
    match expression {
        Expression::String(_) => "a word",
        Expression::Number(_) => "a number",
        Expression::Boolean(_) => "a truth value",
        Expression::List(_) => "a list",
        Expression::BinaryOperation(_) => "an operation",
        Expression::Range(_) => "a range",
        Expression::Verdict(_) => "a verdict",
        Expression::Named(named) => match named {
            NamedExpression::Concat(_) => "a concatenation",
            NamedExpression::Set(_) => "a set",
            NamedExpression::Map(_) => "a map",
            NamedExpression::Prefix(_) => "a prefix",
            NamedExpression::Payload(_) => "a header field",
            NamedExpression::Exthdr(_) => "an extension header (exthdr)",
            NamedExpression::TcpOption(_) => "a TCP option",
            NamedExpression::SctpChunk(_) => "an SCTP chunk",
            NamedExpression::Meta(_) => "meta",
            NamedExpression::RT(_) => "rt",
            NamedExpression::CT(_) => "ct",
            NamedExpression::Numgen(_) => "numgen",
            NamedExpression::JHash(_) => "jhash",
            NamedExpression::SymHash(_) => "symhash",
            NamedExpression::Fib(_) => "fib",
            NamedExpression::Elem(_) => "an element with options",
            NamedExpression::Socket(_) => "socket",
            NamedExpression::Osf(_) => "osf",
        },
    }
}
