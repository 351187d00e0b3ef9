//! Types of values: how long they are, in which order a register holds them, and the words nft has for them.
//!
//! A value is kept here as a number in network order; [`Kind::stored`] turns it into the order of the register.

use std::net::{Ipv4Addr, Ipv6Addr};

use nftables::expr::{BinaryOperation, Expression, NamedExpression};

use super::Why;
use crate::net::{decimal, hexadecimal};
use crate::nft::build::prefix_mask;
use crate::nft::names::words::{self, Words};
use crate::nft::names::{Order, Type, symbols};

/// The type of a value, and how a register holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub kind: Type,
    pub bits: u32,
    pub order: Order,
}

/// First and last value, both in network order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub low: Vec<u8>,
    pub high: Vec<u8>,
}

impl Span {
    pub(crate) fn is_one(&self) -> bool {
        self.low == self.high
    }
}

impl From<Type> for Kind {
    fn from(kind: Type) -> Self {
        Self { kind, bits: kind.bits(), order: kind.order() }
    }
}

impl Kind {
    pub fn octets(self) -> usize {
        usize::try_from(self.bits.div_ceil(8)).unwrap_or(0)
    }

    /// Whether a register holds it in the host's order, which a single octet has not.
    pub(crate) fn is_host(self) -> bool {
        self.order == Order::Host && self.bits > 8 && !self.kind.is_text()
    }

    /// Whether values are combinations of bits.
    pub fn is_bits(self) -> bool {
        self.kind.is_bitmask()
    }

    /// nft's number of the type (`enum datatypes`), for sets; None where a set needs more than that.
    pub fn number(self) -> Option<u32> {
        match self.kind {
            Type::Integer | Type::Hex if self.bits.is_multiple_of(8) => Some(Type::Integer as u32),
            Type::Integer | Type::Hex | Type::Dscp | Type::Ecn | Type::Boolean => None,
            kind => Some(kind as u32),
        }
    }

    /// As the register holds it.
    pub(crate) fn stored(self, mut value: Vec<u8>) -> Vec<u8> {
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
            Expression::Boolean(value) if self.kind == Type::Boolean => {
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
                let mask = prefix_mask(low.len(), prefix.len)
                    .ok_or_else(|| format!("a prefix of {} bits", prefix.len))?;
                let first = low.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
                let high = low.iter().zip(&mask).map(|(octet, mask)| octet | !mask).collect();
                Ok(Span { low: first, high })
            }
            Expression::String(word) if self.kind == Type::IfName && beginning(word).is_some() => {
                self.names_from(beginning(word).unwrap_or_default())
            }
            single => self.value(single).map(|value| Span { low: value.clone(), high: value }),
        }
    }

    /// All names that begin so.
    fn names_from(self, start: &str) -> Result<Span, Why> {
        let wrong = || format!("{start:?} and * is no pattern of interface names");
        let start = Some(start).filter(|start| !start.contains(['\\', '*'])).ok_or_else(wrong)?;
        let low = name_of(start, 0).ok_or_else(wrong)?;
        Ok(Span { low, high: name_of(start, 0xff).ok_or_else(wrong)? })
    }

    fn word(self, word: &str) -> Result<Vec<u8>, Why> {
        let wrong = || match word.split_at_checked(1) {
            Some(("0" | "+", digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("{word:?} is not a number without a sign or a leading zero (octal to nft)")
            }
            _ => format!("{word:?} is not {}", self.name()),
        };
        match self.kind {
            Type::Ipv4 => {
                word.parse::<Ipv4Addr>().map(|a| a.octets().to_vec()).map_err(|_| wrong())
            }
            Type::Ipv6 => {
                word.parse::<Ipv6Addr>().map(|a| a.octets().to_vec()).map_err(|_| wrong())
            }
            Type::Ether => octets(word).ok_or_else(wrong),
            Type::IfName | Type::Text => {
                // An asterisk at the end is one of the name's where a backslash says so.
                let name = word
                    .strip_suffix("\\*")
                    .map_or_else(|| word.to_owned(), |start| format!("{start}*"));
                name_of(&name, 0).ok_or_else(wrong)
            }
            Type::ClassId if word.contains(':') => self.integer(class_id(word).ok_or_else(wrong)?),
            kind => {
                let known =
                    kind.number(word).or_else(|| words::number(also(kind), word)).map(u64::from);
                self.integer(known.or_else(|| number(word)).ok_or_else(wrong)?)
            }
        }
    }

    fn integer(self, value: u64) -> Result<Vec<u8>, Why> {
        if matches!(self.kind, Type::Ipv4 | Type::Ipv6 | Type::Ether | Type::IfName | Type::Text) {
            return Err(format!("{value} is not {}", self.name()));
        }
        let bytes = value.to_be_bytes();
        let octets = self.octets();
        let unused = bytes.len().saturating_sub(octets);
        let (high, low) = bytes.split_at_checked(unused).unwrap_or((&[], &bytes));
        if high.iter().any(|octet| *octet != 0) {
            return Err(format!("{value} does not fit into {octets} octets"));
        }
        if value.checked_shr(self.bits).is_some_and(|more| more != 0) {
            return Err(format!("{value} does not fit into {} bits", self.bits));
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
        match self.kind {
            Type::Ipv4 => "an IPv4 address",
            Type::Ipv6 => "an IPv6 address",
            Type::Ether => "a MAC address",
            Type::IfName => "an interface name",
            Type::IfIndex => "an interface's index (a name goes with iifname or oifname)",
            Type::InetProto => "a protocol known here (use its number)",
            Type::InetService => "a port or a service known here (use its number)",
            Type::Boolean => "true or false",
            _ => "a value of this type",
        }
    }
}

/// The name of an interface as the kernel holds it, filled up to 16 octets.
fn name_of(name: &str, fill: u8) -> Option<Vec<u8>> {
    let mut octets = name.as_bytes().to_vec();
    if octets.is_empty() || octets.len() > 15 || octets.contains(&0) {
        return None;
    }
    octets.resize(16, fill);
    Some(octets)
}

/// What is before the asterisk of `eth*`.
pub fn beginning(word: &str) -> Option<&str> {
    word.strip_suffix('*').filter(|start| !start.ends_with('\\'))
}

/// `01:00:5e:00:00:00`: any six octets, an address of several or a mask too.
fn octets(word: &str) -> Option<Vec<u8>> {
    let octet = |digits: &str| hexadecimal(digits)?.try_into().ok().filter(|_| digits.len() <= 2);
    word.split(':').map(octet).collect::<Option<Vec<u8>>>().filter(|octets| octets.len() == 6)
}

/// Words that nft takes besides those it lists.
fn also(kind: Type) -> Words {
    match kind {
        Type::InetService => symbols::INET_SERVICE,
        Type::InetProto => &[(58, "icmpv6"), (108, "comp")],
        Type::EtherType => &[(0x8100, "vlan")],
        Type::PktType => &[(0, "unicast")],
        _ => &[],
    }
}

/// `1:10`, both hexadecimal.
fn class_id(word: &str) -> Option<u64> {
    let (major, minor) = word.split_once(':')?;
    let half = |digits: &str| hexadecimal(digits).filter(|half| *half <= 0xffff);
    Some(half(major)? << 16 | half(minor)?)
}

/// Decimal, or hexadecimal after `0x`. What begins with 0 is octal to nft and decimal to people: it is not taken.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => hexadecimal(digits),
        None => decimal(word).filter(|_| word == "0" || !word.starts_with('0')),
    }
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
