//! Statements as nft writes them.

use std::fmt::Write;

use super::super::expr::{Expr, Verdict};
use super::super::names::Type;
use super::super::syntax::{InPlace, Join, Nat, Relation, Statement, Update, Value};
use super::Style;
use super::value::{duration, raw, verdict_text};

const AF_INET: u8 = 2;

impl Style {
    pub fn statement(&self, out: &mut String, statement: &Statement<'_>) {
        match statement {
            Statement::Match { left, relation, right } => self.relation(out, left, *relation, right),
            Statement::Masked { left, not, value, mask } => {
                self.value(out, left);
                out.push_str(if *not { " != " } else { " " });
                self.value(out, &Value::Flags(*value, Join::List));
                out.push_str(" / ");
                self.value(out, &Value::Flags(*mask, Join::List));
            }
            Statement::VerdictMap(key, set) => {
                self.value(out, key);
                out.push_str(" vmap ");
                self.value(out, set);
            }
            Statement::Verdict(verdict) => verdict_text(out, verdict),
            Statement::InPlace { verdict, rules } => self.in_place(out, verdict, rules),
            Statement::Mangle(field, value) => {
                self.value(out, field);
                out.push_str(" set ");
                self.value(out, value);
            }
            Statement::Nat(nat) => self.nat(out, nat),
            Statement::Reject { expr, family } => self.reject(out, expr, *family),
            Statement::Tproxy { family, addr, port } => {
                out.push_str("tproxy");
                out.push_str(family.map_or("", family_word));
                out.push_str(" to ");
                self.endpoint(out, addr.as_ref(), port.as_ref(), true);
            }
            Statement::Queue { to, flags } => self.queue(out, to.as_ref(), *flags),
            Statement::Dup { addr, device } => {
                out.push_str("dup to ");
                match (addr, device) {
                    (Some(addr), Some(device)) => {
                        self.value(out, addr);
                        out.push_str(" device ");
                        self.value(out, device);
                    }
                    (Some(one), None) | (None, Some(one)) => self.value(out, one),
                    (None, None) => {}
                }
            }
            Statement::Fwd { family, addr, device } => {
                out.push_str("fwd");
                match addr {
                    Some(addr) => {
                        out.push_str(family.map_or("", family_word));
                        out.push_str(" to ");
                        self.value(out, addr);
                        out.push_str(" device ");
                    }
                    None => out.push_str(" to "),
                }
                self.value(out, device);
            }
            Statement::Update(update) => self.update(out, update),
            Statement::ObjectMap(kind, map) => {
                let _ = write!(out, "{} {} ", object_word(*kind), object_verb(*kind));
                self.value(out, map);
            }
            Statement::Reset(field) => {
                out.push_str("reset ");
                self.field(out, field);
            }
            Statement::Xt { expr, transport } => super::xt::statement(out, expr, self.family, *transport),
            Statement::Plain(expr) => plain(out, expr, self.stateless),
        }
    }

    /// A chain without a name: a rule a line in a listing, else all on one.
    fn in_place(&self, out: &mut String, verdict: &Verdict, rules: &[InPlace<'_>]) {
        out.push_str(if matches!(verdict, Verdict::Goto(_)) { "goto {" } else { "jump {" });
        let depth = self.depth.map(|depth| depth + 1);
        let inner = Self { depth, ..self.clone() };
        for (at, InPlace { rule, statements }) in rules.iter().enumerate() {
            match depth {
                Some(depth) => line(out, depth),
                None => out.push_str(if at == 0 { " " } else { "; " }),
            }
            inner.statements(out, statements, rule);
        }
        match self.depth {
            Some(depth) => line(out, depth),
            None => out.push_str(if rules.is_empty() { " " } else { "; " }),
        }
        out.push('}');
    }

    fn relation(&self, out: &mut String, left: &Value<'_>, relation: Relation, right: &Value<'_>) {
        self.operand(out, "==", left);
        // What looks like a list of flags is told from one value of flags.
        let said = matches!(left, Value::Binary(..)) || matches!(right, Value::Flags(_, Join::Whole));
        out.push_str(match relation {
            Relation::Equal if said => " == ",
            Relation::Equal | Relation::Any => " ",
            Relation::NotEqual => " != ",
            Relation::Less => " < ",
            Relation::LessEqual => " <= ",
            Relation::Greater => " > ",
            Relation::GreaterEqual => " >= ",
            Relation::None => " ! ",
        });
        self.value(out, right);
    }

    fn nat(&self, out: &mut String, nat: &Nat<'_>) {
        out.push_str(nat.verb);
        if nat.addr.is_some() || nat.port.is_some() {
            out.push_str(nat.family.map_or("", family_word));
            if nat.flags & NETMAP != 0 {
                out.push_str(" prefix");
            }
            out.push_str(" to ");
            self.endpoint(out, nat.addr.as_ref(), nat.port.as_ref(), false);
        }
        let flags = nat_flags(nat.flags);
        if !flags.is_empty() {
            let _ = write!(out, " {}", flags.join(","));
        }
    }

    /// `ADDRESS:PORT`; IPv6 in brackets when a port follows, or `always`.
    fn endpoint(&self, out: &mut String, addr: Option<&Value<'_>>, port: Option<&Value<'_>>, always: bool) {
        let brackets = port.is_some() || always;
        match addr {
            Some(Value::Range(first, last)) if brackets && first.kind == Type::Ipv6 => {
                for (at, end) in [first, last].into_iter().enumerate() {
                    out.push_str(if at == 0 { "[" } else { "-[" });
                    self.constant(out, *end, false);
                    out.push(']');
                }
            }
            Some(Value::Constant(one)) if brackets && one.kind == Type::Ipv6 => {
                out.push('[');
                self.constant(out, *one, false);
                out.push(']');
            }
            Some(addr) => self.value(out, addr),
            None => {}
        }
        if let Some(port) = port {
            out.push(':');
            self.value(out, port);
        }
    }

    fn reject(&self, out: &mut String, expr: &Expr, family: Option<u8>) {
        out.push_str("reject");
        let Some((with, code, usual)) = reject_words(expr, family) else { return };
        let known = matches!(self.family, Some(super::super::Family::IP | super::super::Family::IP6));
        match code {
            None => drop(write!(out, " with {with}")),
            Some(_) if usual && (with == "icmpx" || known) => {}
            Some(code) => {
                let _ = write!(out, " with {with} ");
                self.constant(out, code, false);
            }
        }
    }

    fn queue(&self, out: &mut String, to: Option<&Value<'_>>, flags: u16) {
        out.push_str("queue");
        let names = queue_flags(flags);
        if !names.is_empty() {
            let _ = write!(out, " flags {}", names.join(","));
        }
        if let Some(to) = to {
            out.push_str(" to ");
            self.value(out, to);
        }
    }

    fn update(&self, out: &mut String, update: &Update<'_>) {
        match update.meter {
            Some(size) => {
                let _ = write!(out, "meter {} ", update.name);
                if let Some(size) = size {
                    let _ = write!(out, "size {size} ");
                }
                out.push_str("{ ");
            }
            None => drop(write!(out, "{} @{} {{ ", operation_word(update.operation), update.name)),
        }
        self.value(out, &update.key);
        if let Some(timeout) = update.timeout {
            let _ = write!(out, " timeout {}", duration(timeout, self.numeric_time()));
        }
        for expr in update.exprs {
            out.push(' ');
            plain(out, expr, true);
        }
        if let Some(data) = &update.data {
            out.push_str(" : ");
            self.value(out, data);
        }
        out.push_str(" }");
    }
}

/// Begins a line so deep inside.
fn line(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push('\t'));
}

/// NF_NAT_RANGE_NETMAP.
pub const NETMAP: u32 = 0x40;

pub fn family_word(family: u8) -> &'static str {
    if family == AF_INET { " ip" } else { " ip6" }
}

pub fn nat_flags(flags: u32) -> Vec<&'static str> {
    let names = [(4, "random"), (0x10, "fully-random"), (8, "persistent")];
    names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

pub fn queue_flags(flags: u16) -> Vec<&'static str> {
    [(1, "bypass"), (2, "fanout")].iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

pub fn operation_word(operation: u32) -> &'static str {
    match operation {
        0 => "add",
        1 => "update",
        2 => "delete",
        _ => "unknown",
    }
}

pub fn object_word(kind: u32) -> &'static str {
    [
        "counter",
        "quota",
        "ct helper",
        "limit",
        "connlimit",
        "tunnel",
        "ct timeout",
        "secmark",
        "ct expectation",
        "synproxy",
    ]
    .get(usize::try_from(kind).unwrap_or(0).wrapping_sub(1))
    .copied()
    .unwrap_or("object")
}

/// What conntrack is given is set, the rest is named.
fn object_verb(kind: u32) -> &'static str {
    if matches!(kind, 3 | 7 | 9) { "set" } else { "name" }
}

/// What a reject answers with: the words, the code, and whether it is the usual one.
pub fn reject_words(
    expr: &Expr,
    family: Option<u8>,
) -> Option<(&'static str, Option<super::super::syntax::Constant>, bool)> {
    let Expr::Reject { kind, code } = expr else { return None };
    let code = code.unwrap_or(0);
    let of = |kind| Some(super::super::syntax::Constant { number: u128::from(code), bits: 8, kind });
    Some(match (kind, family) {
        (1, _) => ("tcp reset", None, false),
        (2, _) => ("icmpx", of(Type::IcmpxCode), code == 1),
        (_, Some(AF_INET)) => ("icmp", of(Type::IcmpCode), code == 3),
        (_, Some(_)) => ("icmpv6", of(Type::Icmpv6Code), code == 4),
        (_, None) => return None,
    })
}

/// The largest of bytes, kbytes, … that divides so many bytes, and how often.
pub fn byte_unit(bytes: u64) -> (u64, &'static str) {
    let units = ["bytes", "kbytes", "mbytes"];
    let (mut rest, mut unit) = (bytes, 0);
    while rest != 0 && rest % 1024 == 0 && unit + 1 < units.len() {
        rest /= 1024;
        unit += 1;
    }
    (rest, units.get(unit).copied().unwrap_or("bytes"))
}

pub fn time_unit(seconds: u64) -> &'static str {
    match seconds {
        60 => "minute",
        3600 => "hour",
        86_400 => "day",
        604_800 => "week",
        _ => "second",
    }
}

/// Levels of syslog(3); `warn` is the usual one and not told.
pub const LOG_LEVELS: [&str; 9] =
    ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"];
pub const WARN: u32 = 4;
/// NF_LOG_TCPSEQ, _TCPOPT, _IPOPT, _UID, _MACDECODE together.
pub const LOG_ALL: u32 = 0x2f;

/// Statements that need nothing from around them.
pub fn plain(out: &mut String, expr: &Expr, stateless: bool) {
    let _ = match expr {
        Expr::Counter { .. } if stateless => write!(out, "counter"),
        Expr::Counter { packets, bytes } => write!(out, "counter packets {packets} bytes {bytes}"),
        Expr::Limit { .. } => limit(out, expr),
        Expr::Quota { bytes, flags, consumed } => {
            let (number, unit) = byte_unit(*bytes);
            let _ = write!(out, "quota {}{number} {unit}", if flags & 1 == 0 { "" } else { "over " });
            let (used, unit) = byte_unit(*consumed);
            if stateless || used == 0 { Ok(()) } else { write!(out, " used {used} {unit}") }
        }
        Expr::Connlimit { count, flags } => {
            write!(out, "ct count {}{count}", if flags & 1 == 0 { "" } else { "over " })
        }
        Expr::Last { .. } if stateless => write!(out, "last"),
        Expr::Last { set: false, .. } => write!(out, "last used never"),
        Expr::Last { milliseconds, .. } => write!(out, "last used {}", duration(*milliseconds, false)),
        Expr::Log { .. } => log(out, expr),
        Expr::Notrack => write!(out, "notrack"),
        Expr::Synproxy { mss, wscale, flags } => synproxy(out, *mss, *wscale, *flags),
        Expr::Objref { kind, name } => match kind {
            8 => write!(out, "meta secmark set \"{name}\""),
            kind => write!(out, "{} {} \"{name}\"", object_word(*kind), object_verb(*kind)),
        },
        Expr::FlowOffload { table } => write!(out, "flow add @{table}"),
        other => write!(out, "{}", raw(other)),
    };
}

fn limit(out: &mut String, expr: &Expr) -> std::fmt::Result {
    let Expr::Limit { rate, unit_secs, burst, by_bytes, over } = expr else { return Ok(()) };
    let over = if *over { "over " } else { "" };
    let per = time_unit(*unit_secs);
    if *by_bytes {
        let (rate, unit) = byte_unit(*rate);
        write!(out, "limit rate {over}{rate} {unit}/{per}")?;
        let (burst, unit) = byte_unit(u64::from(*burst));
        if burst == 0 { Ok(()) } else { write!(out, " burst {burst} {unit}") }
    } else {
        write!(out, "limit rate {over}{rate}/{per}")?;
        if matches!(burst, 0 | 5) { Ok(()) } else { write!(out, " burst {burst} packets") }
    }
}

pub fn log_flags(flags: u32) -> Vec<&'static str> {
    let names = [(1, "tcp sequence"), (2, "tcp options"), (4, "ip options"), (8, "skuid"), (0x20, "ether")];
    names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

fn log(out: &mut String, expr: &Expr) -> std::fmt::Result {
    let Expr::Log { prefix, group, snaplen, threshold, level, flags } = expr else { return Ok(()) };
    write!(out, "log")?;
    if let Some(prefix) = prefix {
        write!(out, " prefix \"{prefix}\"")?;
    }
    if let Some(group) = group {
        write!(out, " group {group}")?;
    }
    if let Some(snaplen) = snaplen {
        write!(out, " snaplen {snaplen}")?;
    }
    if let Some(threshold) = threshold {
        write!(out, " queue-threshold {threshold}")?;
    }
    if let Some(level) = level.filter(|level| *level != WARN) {
        let word = LOG_LEVELS.get(usize::try_from(level).unwrap_or(99)).copied();
        write!(out, " level {}", word.unwrap_or("unknown"))?;
    }
    match flags.unwrap_or(0) {
        LOG_ALL => write!(out, " flags all"),
        flags => {
            match (flags & 1 != 0, flags & 2 != 0) {
                (true, true) => write!(out, " flags tcp sequence,options")?,
                (true, false) => write!(out, " flags tcp sequence")?,
                (false, true) => write!(out, " flags tcp options")?,
                (false, false) => {}
            }
            log_flags(flags & !3).iter().try_for_each(|name| write!(out, " flags {name}"))
        }
    }
}

/// NF_SYNPROXY_OPT_*.
pub const SYNPROXY_MSS: u32 = 1;
pub const SYNPROXY_WSCALE: u32 = 2;
pub const SYNPROXY_FLAGS: [(u32, &str); 2] = [(8, "timestamp"), (4, "sack-perm")];

fn synproxy(out: &mut String, mss: u16, wscale: u8, flags: u32) -> std::fmt::Result {
    write!(out, "synproxy")?;
    if flags & (SYNPROXY_MSS | SYNPROXY_WSCALE) != 0 {
        write!(out, " mss {mss} wscale {wscale}")?;
    }
    SYNPROXY_FLAGS.iter().filter(|(bit, _)| flags & bit != 0).try_for_each(|(_, name)| write!(out, " {name}"))
}
