//! Statements that need nothing from around them.

use std::fmt::Write;

use super::super::expr::Expr;
use super::super::names::words::{
    LOG_ALL, LOG_FLAGS, LOG_LEVELS, OBJECTS, SYNPROXY_FLAGS, SYNPROXY_MSS, SYNPROXY_WSCALE, WARN,
    bit_words, byte_unit, time_unit, word,
};
use super::time::duration;

/// Statements that need nothing from around them.
pub fn plain(out: &mut String, expr: &Expr, stateless: bool) {
    let _ = match expr {
        Expr::Counter { .. } if stateless => write!(out, "counter"),
        Expr::Counter { packets, bytes } => write!(out, "counter packets {packets} bytes {bytes}"),
        Expr::Limit { .. } => limit(out, expr),
        Expr::Quota { bytes, flags, consumed } => {
            let (number, unit) = byte_unit(*bytes);
            let _ =
                write!(out, "quota {}{number} {unit}", if flags & 1 == 0 { "" } else { "over " });
            let (used, unit) = byte_unit(*consumed);
            if stateless || used == 0 { Ok(()) } else { write!(out, " used {used} {unit}") }
        }
        Expr::Connlimit { count, flags } => {
            write!(out, "ct count {}{count}", if flags & 1 == 0 { "" } else { "over " })
        }
        Expr::Last { .. } if stateless => write!(out, "last"),
        Expr::Last { set: false, .. } => write!(out, "last used never"),
        Expr::Last { milliseconds, .. } => {
            write!(out, "last used {}", duration(*milliseconds, false))
        }
        Expr::Log { .. } => log(out, expr),
        Expr::Notrack => write!(out, "notrack"),
        Expr::Synproxy { mss, wscale, flags } => synproxy(out, *mss, *wscale, *flags),
        Expr::Objref { kind, name } => match kind {
            8 => write!(out, "meta secmark set \"{name}\""),
            kind => {
                write!(
                    out,
                    "{} {} \"{name}\"",
                    word(OBJECTS, *kind).unwrap_or("object"),
                    object_verb(*kind)
                )
            }
        },
        Expr::FlowOffload { table } => write!(out, "flow add @{table}"),
        other => write!(out, "{}", other.raw()),
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
        let word = word(LOG_LEVELS, level);
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
            bit_words(LOG_FLAGS, flags & !3)
                .iter()
                .try_for_each(|name| write!(out, " flags {name}"))
        }
    }
}

fn synproxy(out: &mut String, mss: u16, wscale: u8, flags: u32) -> std::fmt::Result {
    write!(out, "synproxy")?;
    if flags & (SYNPROXY_MSS | SYNPROXY_WSCALE) != 0 {
        write!(out, " mss {mss} wscale {wscale}")?;
    }
    bit_words(SYNPROXY_FLAGS, flags).iter().try_for_each(|name| write!(out, " {name}"))
}

/// What conntrack is given is set, the rest is named.
pub(crate) fn object_verb(kind: u32) -> &'static str {
    if matches!(kind, 3 | 7 | 9) { "set" } else { "name" }
}
