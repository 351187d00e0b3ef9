//! Statements that do something to the packet, or are seen from outside.

use super::super::Family;
use super::super::expr::{Data, Expr, NatKind, Register};
use super::field::{ct_field, extension_text, meta_field, nat_flags};
use super::rule::{Rendering, Word, described};
use super::value::{Kind, hex};

impl Rendering<'_> {
    pub(super) fn action(&self, expr: &Expr) -> String {
        match expr {
            Expr::Immediate { data: Data::Verdict(verdict), .. } => verdict.to_string(),
            Expr::Counter { packets, bytes } => format!("counter packets {packets} bytes {bytes}"),
            Expr::Nat { .. } => self.nat(expr),
            Expr::Masquerade { port, port_max, flags } => {
                self.port_nat("masquerade", *port, *port_max, *flags)
            }
            Expr::Redirect { port, port_max, flags } => self.port_nat("redirect", *port, *port_max, *flags),
            Expr::MetaSet { key, sreg } => {
                let (text, kind, _) = meta_field(*key);
                format!("{text} set {}", self.source(*sreg, kind))
            }
            Expr::CtSet { key, sreg, .. } => {
                let (name, kind) = ct_field(*key);
                format!("ct {name} set {}", self.source(*sreg, kind))
            }
            Expr::PayloadSet { base, offset, len, sreg, .. } => {
                let (text, kind) = described(&self.payload(*base, *offset, *len));
                format!("{text} set {}", self.source(*sreg, kind))
            }
            Expr::ExthdrSet { field, sreg } => {
                format!("{} set {}", extension_text(field), self.source(*sreg, Kind::Port))
            }
            Expr::Limit { rate, unit_secs, burst, by_bytes, over } => {
                limit(*rate, *unit_secs, *burst, *by_bytes, *over)
            }
            Expr::Log { .. } => log(expr),
            Expr::Reject { kind: 1, .. } => "reject with tcp reset".to_owned(),
            Expr::Reject { code, .. } => {
                code.map_or_else(|| "reject".to_owned(), |code| format!("reject with icmp {code}"))
            }
            Expr::Notrack => "notrack".to_owned(),
            Expr::Objref { kind, name } => {
                let kinds = ["counter", "quota", "ct helper", "limit"];
                let at = kind.checked_sub(1).and_then(|at| usize::try_from(at).ok());
                let kind = at.and_then(|at| kinds.get(at)).unwrap_or(&"object");
                format!("{kind} name \"{name}\"")
            }
            Expr::Unknown { name, bytes } => format!("<{name} {}>", hex(bytes)),
            loads => format!("<{}>", loads.name()),
        }
    }

    fn nat(&self, expr: &Expr) -> String {
        let Expr::Nat { kind, family, addr, addr_max, port, port_max, flags } = expr else {
            return String::new();
        };
        let verb = match kind {
            NatKind::Snat => "snat",
            NatKind::Dnat => "dnat",
        };
        let (word, address) = if *family == 10 { ("ip6 ", Kind::Ipv6) } else { ("ip ", Kind::Ipv4) };
        let named = self.table.family == Family::INET && addr.is_some();
        let word = if named { word } else { "" };
        let mut to = self.bounds(*addr, *addr_max, address);
        if port.is_some() && *family == 10 && addr.is_some() {
            to = format!("[{to}]");
        }
        format!("{verb} {word}to {to}{}{}", self.ports(*port, *port_max), nat_flags(*flags))
    }

    /// What a register gives to a statement that sets something.
    fn source(&self, register: Register, kind: Kind) -> String {
        match self.word(register) {
            Word::Value(bytes) => kind.text(&bytes),
            word => described(&word).0,
        }
    }

    fn bounds(&self, from: Option<Register>, to: Option<Register>, kind: Kind) -> String {
        match (from, to) {
            (None, _) => String::new(),
            (Some(from), None) => self.source(from, kind),
            (Some(from), Some(to)) => format!("{}-{}", self.source(from, kind), self.source(to, kind)),
        }
    }

    fn ports(&self, from: Option<Register>, to: Option<Register>) -> String {
        if from.is_none() { String::new() } else { format!(":{}", self.bounds(from, to, Kind::Port)) }
    }

    fn port_nat(&self, verb: &str, from: Option<Register>, to: Option<Register>, flags: u32) -> String {
        let ports = self.ports(from, to);
        let to = if ports.is_empty() { "" } else { " to " };
        format!("{verb}{to}{ports}{}", nat_flags(flags))
    }
}

fn limit(rate: u64, unit_secs: u64, burst: u32, by_bytes: bool, over: bool) -> String {
    let unit = match unit_secs {
        1 => "second",
        60 => "minute",
        3600 => "hour",
        86_400 => "day",
        _ => "week",
    };
    let over = if over { "over " } else { "" };
    let (rate_unit, burst_unit, usual) = if by_bytes { (" bytes", "bytes", 0) } else { ("", "packets", 5) };
    let burst = if burst == usual { String::new() } else { format!(" burst {burst} {burst_unit}") };
    format!("limit rate {over}{rate}{rate_unit}/{unit}{burst}")
}

/// Levels of syslog(3); `warn` is the usual one and not told.
const LEVELS: [&str; 9] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"];

fn log(expr: &Expr) -> String {
    let Expr::Log { prefix, group, snaplen, threshold, level, .. } = expr else {
        return String::new();
    };
    let mut text = "log".to_owned();
    if let Some(prefix) = prefix {
        text.push_str(&format!(" prefix \"{prefix}\""));
    }
    let numbers = [
        ("group", group.map(u32::from)),
        ("snaplen", *snaplen),
        ("queue-threshold", threshold.map(u32::from)),
    ];
    for (word, number) in numbers {
        if let Some(number) = number {
            text.push_str(&format!(" {word} {number}"));
        }
    }
    let told = level.and_then(|level| usize::try_from(level).ok()).filter(|level| *level != 4);
    if let Some(level) = told.and_then(|level| LEVELS.get(level)) {
        text.push_str(&format!(" level {level}"));
    }
    text
}
