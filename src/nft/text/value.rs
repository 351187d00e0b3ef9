//! Values as nft writes them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::expr::Verdict;
use super::super::names::words::{BASES, FIB_FLAGS, FIB_RESULTS, OSF_TTL, bit_words, word};
use super::super::names::{Type, extension, hex};
use super::super::syntax::{Constant, Entry, Field, Join, Source, Value};
use super::Style;
use super::plain::plain;
use super::time::{date, duration, hour};

/// As inet_ntop(3) has it: an embedded IPv4 address where the rest is zero.
pub fn ipv6(number: u128) -> String {
    let address = Ipv6Addr::from(number);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
            let low = u32::try_from(number & 0xffff_ffff).unwrap_or(0);
            format!("::{}", Ipv4Addr::from(low))
        }
        _ => address.to_string(),
    }
}

fn octets(number: u128, bits: u32) -> String {
    let count = bits.div_ceil(8).min(16);
    let mut text = String::new();
    for at in (0..count).rev() {
        let octet = number >> (at * 8) & 0xff;
        let colon = if at == 0 { "" } else { ":" };
        let _ = write!(text, "{octet:02x}{colon}");
    }
    text
}

fn class_id(number: u128) -> String {
    let (major, minor) = (number >> 16 & 0xffff, number & 0xffff);
    format!("{major:x}:{minor:x}")
}

/// A name that ends with an asterisk is not all that begin like it: nft tells it by a backslash.
fn whole_name(constant: &Constant) -> String {
    let name = constant.name();
    match name.strip_suffix('*') {
        Some(rest) => format!("{rest}\\*"),
        None => name,
    }
}

/// The value in words, and whether nft quotes them; None when it is a plain number.
pub fn words(constant: Constant, style: &Style, numeric: bool) -> Option<(String, bool)> {
    let number = constant.number;
    let numeric = numeric
        || match constant.kind {
            Type::InetProto => style.numbers.protocol,
            Type::Time => style.numbers.time,
            _ => false,
        };
    // nft has no numbers for `none` and `root`.
    let symbol =
        if numeric && constant.kind != Type::ClassId { None } else { constant.kind.symbol(number) };
    Some(match constant.kind {
        Type::Ipv4 => (Ipv4Addr::from(u32::try_from(number).unwrap_or(0)).to_string(), false),
        Type::Ipv6 => (ipv6(number), false),
        Type::Ether | Type::LinkAddress => (octets(number, constant.bits), false),
        Type::Text | Type::IfName => (whole_name(&constant), true),
        Type::IfIndex => {
            match u32::try_from(number).ok().and_then(|index| style.interfaces.get(&index)) {
                Some(name) => (name.clone(), true),
                None => (number.to_string(), false),
            }
        }
        Type::Date => (date(number), true),
        Type::Hour => (hour(number), true),
        Type::Time => (duration(u64::try_from(number).unwrap_or(u64::MAX), numeric), false),
        Type::ClassId => (symbol.map_or_else(|| class_id(number), str::to_owned), false),
        Type::Realm => {
            symbol.map_or_else(|| (number.to_string(), false), |word| (word.to_owned(), true))
        }
        Type::DevGroup | Type::Day => (symbol?.to_owned(), true),
        Type::Boolean if number <= 1 && !numeric => {
            ((if number == 1 { "exists" } else { "missing" }).to_owned(), false)
        }
        _ => (symbol?.to_owned(), false),
    })
}

/// What is written as a number even without `-n`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers {
    /// Priorities of chains (`-y`).
    pub priority: bool,
    /// Protocols above IP (`-p`).
    pub protocol: bool,
    /// Times, in seconds (`-T`).
    pub time: bool,
}

/// Names of numbers as the system's own files have them; none where they are not wanted.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Ports (`-S`).
    pub services: BTreeMap<u32, String>,
    /// Users and groups (`-u`).
    pub users: BTreeMap<u32, String>,
    /// As users.
    pub groups: BTreeMap<u32, String>,
}

impl Names {
    /// The name of a value that is by itself, no end of a range.
    pub fn of(&self, constant: Constant) -> Option<&str> {
        let names = match constant.kind {
            Type::InetService => &self.services,
            Type::Uid => &self.users,
            Type::Gid => &self.groups,
            _ => return None,
        };
        names.get(&u32::try_from(constant.number).ok()?).map(String::as_str)
    }
}

impl Style {
    pub(super) fn constant(&self, out: &mut String, constant: Constant, numeric: bool) {
        if let Some(name) = self.names.of(constant).filter(|_| !numeric) {
            let _ = write!(out, "\"{name}\"");
            return;
        }
        let numeric = numeric || self.numeric;
        match words(constant, self, numeric) {
            Some((text, true)) => drop(write!(out, "\"{text}\"")),
            Some((text, false)) => out.push_str(&text),
            None => number(out, constant),
        }
    }

    /// A value by itself.
    pub(crate) fn value_text(&self, value: &Value<'_>) -> String {
        let mut out = String::new();
        self.value(&mut out, value);
        out
    }

    /// A field by itself.
    pub(crate) fn field_text(&self, field: &Field<'_>) -> String {
        let mut out = String::new();
        self.field(&mut out, field);
        out
    }

    pub(super) fn value(&self, out: &mut String, value: &Value<'_>) {
        match value {
            Value::Field(field) => self.field(out, field),
            Value::Constant(constant) => self.constant(out, *constant, false),
            Value::Flags(flags, join) => flag_words(out, *flags, *join, self.numeric),
            Value::Beginning(name) => drop(write!(out, "\"{}*\"", name.name())),
            Value::Prefix(first, len) => {
                self.constant(out, *first, false);
                let _ = write!(out, "/{len}");
            }
            Value::Range(first, last) => {
                self.constant(out, *first, true);
                out.push('-');
                self.constant(out, *last, true);
            }
            Value::Long(bytes) => out.push_str(&hex(bytes)),
            Value::Elements(elements) => {
                out.push_str("{ ");
                for (at, entry) in elements.entries().iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    self.entry(out, entry);
                }
                out.push_str(" }");
            }
            Value::Named(name) => drop(write!(out, "@{name}")),
            Value::Verdict(verdict) => verdict_text(out, verdict),
            Value::Object(name) => drop(write!(out, "\"{name}\"")),
            Value::Any => out.push('*'),
            Value::Concat(values) => {
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { " . " });
                    self.value(out, value);
                }
            }
            Value::Binary(sign, left, right) => {
                self.operand(out, sign, left);
                let _ = write!(out, " {sign} ");
                self.operand(out, sign, right);
            }
            Value::Map(key, set) => {
                self.value(out, key);
                out.push_str(" map ");
                self.value(out, set);
            }
        }
    }

    /// In parentheses when it binds less.
    pub(super) fn operand(&self, out: &mut String, sign: &str, value: &Value<'_>) {
        let inner = match value {
            Value::Binary(inner, ..) => binding(inner),
            Value::Flags(flags, Join::Or) if flags.number.count_ones() > 1 => binding("|"),
            Value::Flags(flags, Join::List) if flags.number.count_ones() > 1 => {
                out.push('(');
                flag_words(out, *flags, Join::Or, self.numeric);
                return out.push(')');
            }
            _ => 0,
        };
        if binding(sign) < inner {
            out.push('(');
            self.value(out, value);
            out.push(')');
        } else {
            self.value(out, value);
        }
    }

    pub(super) fn entry(&self, out: &mut String, entry: &Entry<'_>) {
        self.value(out, &entry.key);
        for expr in &entry.element.exprs {
            out.push(' ');
            plain(out, expr, self.stateless);
        }
        if let Some(timeout) = entry.element.timeout.filter(|timeout| *timeout != 0) {
            let _ = write!(out, " timeout {}", duration(timeout, self.numeric_time()));
        }
        if let Some(left) = entry.element.expiration.filter(|left| *left != 0 && !self.stateless) {
            let _ = write!(out, " expires {}", duration(left, self.numeric_time()));
        }
        if let Some(comment) = entry.element.userdata.as_comment() {
            let _ = write!(out, " comment \"{comment}\"");
        }
        if let Some(data) = &entry.data {
            out.push_str(" : ");
            self.value(out, data);
        }
    }

    pub(super) fn field(&self, out: &mut String, field: &Field<'_>) {
        let _ = match &field.source {
            Source::Meta { key, name } => {
                // The interfaces and their groups need no word before them.
                let bare = matches!(key, 4..=7 | 21 | 22);
                write!(out, "{}{name}", if bare { "" } else { "meta " })
            }
            Source::Ct { name, direction } => {
                let direction = match direction {
                    Some(0) => "original ",
                    Some(1) => "reply ",
                    _ => "",
                };
                // Of the table's family.
                let family = match (*name, field.kind) {
                    ("saddr" | "daddr", Type::Ipv6) => "ip6 ",
                    ("saddr" | "daddr", _) => "ip ",
                    _ => "",
                };
                write!(out, "ct {direction}{family}{name}")
            }
            Source::Header { header, field } => write!(out, "{} {}", header.name, field.name),
            Source::Payload(base, offset, bits) => {
                write!(out, "@{},{offset},{bits}", word(BASES, *base).unwrap_or("?"))
            }
            Source::Extension(found, trimmed) => return extension_text(out, found, *trimmed),
            Source::Rt { name, family: None } => write!(out, "rt {name}"),
            Source::Rt { name, family: Some(family) } => write!(out, "rt {family} {name}"),
            Source::Fib { flags, result } => {
                write!(
                    out,
                    "fib {} {}",
                    bit_words(FIB_FLAGS, *flags).join(" . "),
                    word(FIB_RESULTS, *result).unwrap_or("unknown")
                )
            }
            Source::Socket { name, level: None } => write!(out, "socket {name}"),
            Source::Socket { name, level: Some(level) } => {
                write!(out, "socket {name} level {level}")
            }
            Source::Osf { ttl, version } => {
                let ttl = word(OSF_TTL, u32::from(*ttl))
                    .map_or(String::new(), |word| format!("ttl {word} "));
                write!(out, "osf {ttl}{}", if *version { "version" } else { "name" })
            }
            Source::Numgen { random, modulus, offset } => {
                let _ =
                    write!(out, "numgen {} mod {modulus}", if *random { "random" } else { "inc" });
                if *offset == 0 { Ok(()) } else { write!(out, " offset {offset}") }
            }
            Source::Hash { key, modulus, seed, offset } => {
                return self.hash(out, key.as_deref(), *modulus, *seed, *offset);
            }
            Source::Xfrm { name, family, direction, spnum } => {
                let direction = if *direction == 1 { "out" } else { "in" };
                let spnum = if *spnum == 0 { String::new() } else { format!(" spnum {spnum}") };
                let family = family.map_or(String::new(), |family| format!(" {family}"));
                write!(out, "ipsec {direction}{spnum}{family} {name}")
            }
            Source::Tunnel(name) => write!(out, "tunnel {name}"),
            Source::Unknown(text) => write!(out, "{text}"),
        };
    }

    fn hash(
        &self,
        out: &mut String,
        key: Option<&Value<'_>>,
        modulus: u32,
        seed: Option<u32>,
        offset: u32,
    ) {
        out.push_str(if key.is_some() { "jhash " } else { "symhash" });
        key.into_iter().for_each(|key| self.value(out, key));
        let _ = write!(out, " mod {modulus}");
        if let Some(seed) = seed.filter(|_| key.is_some()) {
            let _ = write!(out, " seed 0x{seed:x}");
        }
        if offset != 0 {
            let _ = write!(out, " offset {offset}");
        }
    }
}

fn extension_text(
    out: &mut String,
    found: &super::super::expr::Extension,
    trimmed: Option<(u32, u32)>,
) {
    let named = extension::named(found, trimmed);
    let presence = extension::is_presence(found);
    let space = extension::space_word(found.space);
    let bits = (found.offset.saturating_mul(8), found.len.saturating_mul(8));
    let _ = match named.and_then(|named| Some((named.name, named.field?.0))) {
        // IPv6 extension headers stand by themselves.
        Some((name, field)) if found.space == extension::IPV6 => write!(out, "{name} {field}"),
        Some((name, field)) => write!(out, "{space} {name} {field}"),
        None => {
            match extension::name_of(found.space, found.kind).filter(|_| presence || bits.1 == 0) {
                Some(name) => write!(out, "{space} {name}"),
                None if presence || bits.1 == 0 => write!(out, "{space} {}", found.kind),
                // nft's word for a part of an option it knows otherwise.
                None if found.space == extension::TCP
                    && extension::name_of(found.space, found.kind).is_some() =>
                {
                    let name = extension::name_of(found.space, found.kind).unwrap_or_default();
                    write!(out, "{space} {name} unknown")
                }
                None => write!(out, "{space} @{},{},{}", found.kind, bits.0, bits.1),
            }
        }
    };
}

fn binding(sign: &str) -> u8 {
    match sign {
        "<<" | ">>" => 1,
        "&" => 2,
        "^" => 3,
        _ => 4,
    }
}

pub(super) fn verdict_text(out: &mut String, verdict: &Verdict) {
    let _ = write!(out, "{verdict}");
}

fn flag_words(out: &mut String, flags: Constant, join: Join, numeric: bool) {
    let (names, rest) = (flags.flag_names(), flags.nameless());
    let between = if join == Join::List { "," } else { " | " };
    if numeric && join != Join::Whole {
        let bits = (0..128).map(|bit| 1u128 << bit).filter(|bit| flags.number & bit != 0);
        out.push_str(&bits.map(|bit| format!("0x{bit:x}")).collect::<Vec<_>>().join(between));
        return;
    }
    // One value of several bits is a number.
    if join == Join::Whole && (numeric || names.len() > 1) {
        let _ = write!(out, "0x{:x}", flags.number);
        return;
    }
    out.push_str(&names.join(between));
    if names.is_empty() || rest != 0 {
        let _ = write!(out, "{}0x{rest:x}", if names.is_empty() { "" } else { between });
    }
}

fn number(out: &mut String, constant: Constant) {
    let number = constant.number;
    let _ = match constant.kind {
        Type::Mark => write!(out, "0x{number:08x}"),
        Type::EtherType => write!(out, "0x{number:04x}"),
        Type::Dscp => write!(out, "0x{number:02x}"),
        Type::CtLabel => write!(out, "{}", number.trailing_zeros() % 128),
        Type::Ecn
        | Type::Hex
        | Type::Bitmask
        | Type::TcpFlag
        | Type::CtState
        | Type::CtStatus
        | Type::CtEvent => {
            write!(out, "0x{number:x}")
        }
        _ => write!(out, "{number}"),
    };
}
