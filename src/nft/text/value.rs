//! Values as nft writes them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::expr::{Expr, Verdict};
use super::super::names::{Type, extension};
use super::super::syntax::{Constant, Entry, Field, Join, Source, Value};
use super::{Style, statement};

/// Days, hours, … of so many milliseconds; whole seconds when numbers are wanted.
pub fn duration(milliseconds: u64, numeric: bool) -> String {
    if numeric {
        return format!("{}s", milliseconds / 1000);
    }
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `2020-01-31 10:00:00` of so many nanoseconds since 1970, UTC.
pub fn date(nanoseconds: u128) -> String {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in 400-year cycles, so that leap days come last.
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let of_cycle = shifted.rem_euclid(146_097);
    let year = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + cycle * 400 + i64::from(month <= 2);
    let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}")
}

fn hour(seconds: u128) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if rest == 0 { format!("{hours:02}:{minutes:02}") } else { format!("{hours:02}:{minutes:02}:{rest:02}") }
}

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
    let symbol = if numeric && constant.kind != Type::ClassId { None } else { constant.kind.symbol(number) };
    Some(match constant.kind {
        Type::Ipv4 => (Ipv4Addr::from(u32::try_from(number).unwrap_or(0)).to_string(), false),
        Type::Ipv6 => (ipv6(number), false),
        Type::Ether | Type::LinkAddress => (octets(number, constant.bits), false),
        Type::Text | Type::IfName => (whole_name(&constant), true),
        Type::IfIndex => match u32::try_from(number).ok().and_then(|index| style.interfaces.get(&index)) {
            Some(name) => (name.clone(), true),
            None => (number.to_string(), false),
        },
        Type::Date => (date(number), true),
        Type::Hour => (hour(number), true),
        Type::Time => (duration(u64::try_from(number).unwrap_or(u64::MAX), numeric), false),
        Type::ClassId => (symbol.map_or_else(|| class_id(number), str::to_owned), false),
        Type::Realm => symbol.map_or_else(|| (number.to_string(), false), |word| (word.to_owned(), true)),
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
            statement::plain(out, expr, self.stateless);
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
            Source::Payload(base, offset, bits) => write!(out, "@{},{offset},{bits}", base_name(*base)),
            Source::Extension(found, trimmed) => return extension_text(out, found, *trimmed),
            Source::Rt { name, family: None } => write!(out, "rt {name}"),
            Source::Rt { name, family: Some(family) } => write!(out, "rt {family} {name}"),
            Source::Fib { flags, result } => {
                write!(out, "fib {} {}", fib_flags(*flags).join(" . "), fib_result(*result))
            }
            Source::Socket { name, level: None } => write!(out, "socket {name}"),
            Source::Socket { name, level: Some(level) } => write!(out, "socket {name} level {level}"),
            Source::Osf { ttl, version } => {
                let ttl = osf_ttl(*ttl).map_or(String::new(), |word| format!("ttl {word} "));
                write!(out, "osf {ttl}{}", if *version { "version" } else { "name" })
            }
            Source::Numgen { random, modulus, offset } => {
                let _ = write!(out, "numgen {} mod {modulus}", if *random { "random" } else { "inc" });
                if *offset == 0 { Ok(()) } else { write!(out, " offset {offset}") }
            }
            Source::Hash { key, modulus, seed, offset } => {
                match key {
                    Some(key) => {
                        out.push_str("jhash ");
                        self.value(out, key);
                    }
                    None => out.push_str("symhash"),
                }
                let _ = write!(out, " mod {modulus}");
                if let Some(seed) = seed.filter(|_| key.is_some()) {
                    let _ = write!(out, " seed 0x{seed:x}");
                }
                if *offset == 0 { Ok(()) } else { write!(out, " offset {offset}") }
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
}

pub fn base_name(base: u32) -> &'static str {
    ["ll", "nh", "th", "ih"].get(usize::try_from(base).unwrap_or(9)).copied().unwrap_or("?")
}

pub fn fib_flags(flags: u32) -> Vec<&'static str> {
    let names = [(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (0x10, "oif")];
    names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

pub fn fib_result(result: u32) -> &'static str {
    match result {
        1 => "oif",
        2 => "oifname",
        3 => "type",
        _ => "unknown",
    }
}

pub fn osf_ttl(ttl: u8) -> Option<&'static str> {
    match ttl {
        1 => Some("loose"),
        2 => Some("skip"),
        _ => None,
    }
}

/// What an extension is called by itself.
pub fn extension_space(space: u32) -> &'static str {
    match space {
        extension::IPV6 => "exthdr",
        extension::TCP => "tcp option",
        extension::IPV4 => "ip option",
        extension::SCTP => "sctp chunk",
        _ => "dccp option",
    }
}

fn extension_text(out: &mut String, found: &super::super::expr::Extension, trimmed: Option<(u32, u32)>) {
    let named = extension::named(found, trimmed);
    let presence = extension::is_presence(found);
    let space = extension_space(found.space);
    let bits = (found.offset.saturating_mul(8), found.len.saturating_mul(8));
    let _ = match named.and_then(|named| Some((named.name, named.field?.0))) {
        // IPv6 extension headers stand by themselves.
        Some((name, field)) if found.space == extension::IPV6 => write!(out, "{name} {field}"),
        Some((name, field)) => write!(out, "{space} {name} {field}"),
        None => match extension::name_of(found.space, found.kind).filter(|_| presence || bits.1 == 0) {
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
        },
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

/// The names of the bits; what has none as a number.
pub fn flag_names(flags: Constant) -> Vec<&'static str> {
    let symbols = flags.kind.symbols().iter();
    symbols.filter(|(bit, _)| flags.number & u128::from(*bit) != 0).map(|(_, word)| *word).collect()
}

/// Bits without a name.
pub fn nameless(flags: Constant) -> u128 {
    flags.kind.symbols().iter().fold(flags.number, |rest, (bit, _)| rest & !u128::from(*bit))
}

fn flag_words(out: &mut String, flags: Constant, join: Join, numeric: bool) {
    let (names, rest) = (flag_names(flags), nameless(flags));
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

pub fn hex(bytes: &[u8]) -> String {
    let mut text = "0x".to_owned();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An expression nft has no words for here.
pub fn raw(expr: &Expr) -> String {
    match expr {
        Expr::Unknown { name, bytes } => format!("<{name} {}>", hex(bytes)),
        expr => format!("<{}>", expr.name()),
    }
}
