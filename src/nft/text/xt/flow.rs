//! Matches on how much and when: limits, chances, times.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::super::syntax::ones;
use super::super::time::date;
use super::info::Info;
use super::not;

pub fn words(name: &str, info: &Info<'_>) -> Option<String> {
    match (name, info.revision) {
        ("limit", 0) => {
            let (number, unit) = rate(u64::from(info.u32(0)?), LIMIT_SCALE)?;
            let burst = info.u32(4)?;
            Some(format!("limit rate {number}/{unit}{}", packets(u64::from(burst))))
        }
        ("hashlimit", 3) => hashlimit(info),
        ("statistic", 0) => statistic(info),
        ("time", 0) => time(info),
        ("quota", 0) => {
            let over = if info.u32(0)? & 1 == 0 { "" } else { "over " };
            Some(format!("quota {over}{} bytes", info.u64(8)?))
        }
        _ => None,
    }
}

/// Periods are counted in so many parts of a second.
const LIMIT_SCALE: u64 = 10_000;
const HASHLIMIT_SCALE: u64 = 1_000_000;
const DEFAULT_BURST: u64 = 5;

/// How many in the shortest unit of time that tells it, give or take a rounding.
fn rate(period: u64, scale: u64) -> Option<(u64, &'static str)> {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let mut found = None;
    for (seconds, unit) in units {
        let whole: u64 = seconds * scale;
        let (number, rest) = (whole.checked_div(period)?, whole.checked_rem(period)?);
        if found.is_some() && (period > whole || number < rest) {
            break;
        }
        found = Some((number, unit));
    }
    found
}

fn packets(burst: u64) -> String {
    if burst == DEFAULT_BURST { String::new() } else { format!(" burst {burst} packets") }
}

/// What `struct hashlimit_cfg3` (after a name of NAME_MAX) counts by.
const DESTINATION: u32 = 1;
const DESTINATION_PORT: u32 = 1 << 1;
const SOURCE: u32 = 1 << 2;
const SOURCE_PORT: u32 = 1 << 3;
const INVERT: u32 = 1 << 4;
const BYTES: u32 = 1 << 5;
const RATE_MATCH: u32 = 1 << 6;
/// Milliseconds until an entry is forgotten: so many go without saying.
const USUAL_EXPIRY: u32 = 1000;

fn hashlimit(info: &Info<'_>) -> Option<String> {
    let name = info.name(0, 255)?;
    let (period, burst, mode, expire) =
        (info.u64(256)?, info.u64(264)?, info.u32(272)?, info.u32(288)?);
    if mode & RATE_MATCH != 0 {
        return None;
    }
    let mut keys = Vec::new();
    // The protocol of the ports is always called this.
    for (bit, key) in [
        (DESTINATION, format!("{} daddr{}", info.ip(), masked(info, info.u8(297)?))),
        (DESTINATION_PORT, "tcp dport".to_owned()),
        (SOURCE, format!("{} saddr{}", info.ip(), masked(info, info.u8(296)?))),
        (SOURCE_PORT, "tcp sport".to_owned()),
    ] {
        keys.extend((mode & bit != 0).then_some(key));
    }
    if keys.is_empty() {
        return None;
    }
    let timeout = match expire {
        USUAL_EXPIRY => String::new(),
        other => format!(" timeout {}s", other / 1000),
    };
    let over = if mode & INVERT == 0 { "" } else { "over " };
    let rate = if mode & BYTES == 0 {
        let (number, unit) = rate(period, HASHLIMIT_SCALE)?;
        format!("{number}/{unit}{}", packets(burst))
    } else {
        byte_rate(period, burst)
    };
    Some(format!("meter {name} {{ {}{timeout} limit rate {over}{rate} }}", keys.join(" . ")))
}

/// ` and MASK`, where not the whole address counts.
fn masked(info: &Info<'_>, len: u8) -> String {
    let len = u32::from(len);
    if info.ip6 && len < 128 {
        let mask = Ipv6Addr::from_bits(ones(128) & !ones(128 - len));
        let groups = mask.segments().map(|group| format!("{group:04x}")).join(":");
        format!(" and {groups}")
    } else if !info.ip6 && len < 32 {
        let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
        format!(" and {}", IpAddr::V4(Ipv4Addr::from_bits(mask)))
    } else {
        String::new()
    }
}

const BYTE_UNITS: [(u64, &str); 3] = [(1 << 20, "mbytes"), (1 << 10, "kbytes"), (1, "bytes")];

/// What sixteen bytes cost; a rate of bytes is kept as that.
fn cost_of(bytes: u64) -> u64 {
    u64::from(u32::MAX) / ((bytes >> 4) + 1)
}

/// The bytes a second of a cost: in the largest unit that comes back as the same cost.
fn byte_rate(cost: u64, burst: u64) -> String {
    let bytes =
        (u64::from(u32::MAX).checked_div(cost).unwrap_or(u64::from(u32::MAX)).saturating_sub(1))
            << 4;
    let exact = |unit: &&(u64, &str)| bytes >= unit.0 && cost_of(bytes & !(unit.0 - 1)) == cost;
    let (unit, word) = BYTE_UNITS.iter().find(exact).unwrap_or(&(1, "bytes"));
    let mut text = format!("{} {word}/second", bytes / unit);
    if burst != 0 {
        let burst = bytes.saturating_mul(burst);
        let (unit, word) = BYTE_UNITS.iter().find(|unit| burst >= unit.0).unwrap_or(&(1, "bytes"));
        text.push_str(&format!(" burst {} {word}", burst / unit));
    }
    text
}

/// `struct xt_statistic_info`: by chance, or every so many.
fn statistic(info: &Info<'_>) -> Option<String> {
    let inverted = info.u16(2)? & 1 != 0;
    match info.u16(0)? {
        0 => {
            let sign = if inverted { ">=" } else { "<" };
            Some(format!("meta random & 2147483647 {sign} {}", info.u32(4)?))
        }
        1 => {
            let (every, packet) = (u64::from(info.u32(4)?) + 1, info.u32(8)?);
            Some(format!("numgen inc mod {every} {}{packet}", not(inverted)))
        }
        _ => None,
    }
}

const ALL_MONTHDAYS: u32 = 0xffff_fffe;
const ALL_WEEKDAYS: u8 = 0xfe;
const END_OF_TIME: u32 = 0x7fff_ffff;
const END_OF_DAY: u32 = 86_399;

/// `struct xt_time_info`. Before hours and days there is always a blank.
fn time(info: &Info<'_>) -> Option<String> {
    let (from, to) = (info.u32(0)?, info.u32(4)?);
    let (begin, end) = (info.u32(8)?, info.u32(12)?);
    let weekdays = info.u8(20)?;
    if info.u32(16)? != ALL_MONTHDAYS {
        return None;
    }
    let mut text = String::new();
    if from != 0 || to != END_OF_TIME {
        text.push_str(&format!("meta time \"{}\"-\"{}\"", moment(from), moment(to)));
    }
    if begin != 0 || end != END_OF_DAY {
        text.push_str(&format!(" meta hour \"{}\"-\"{}\"", hour(begin), hour(end)));
    }
    if weekdays != ALL_WEEKDAYS {
        // Sunday is the seventh to xt_time.
        let days =
            (1..=7_u8).filter(|day| weekdays & (1 << day) != 0).map(|day| (day % 7).to_string());
        let days: Vec<String> = days.collect();
        match days.as_slice() {
            [day] => text.push_str(&format!(" meta day {day}")),
            days => text.push_str(&format!(" meta day {{ {} }}", days.join(", "))),
        }
    }
    Some(text)
}

fn hour(seconds: u32) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn moment(seconds: u32) -> String {
    date(u128::from(seconds) * 1_000_000_000)
}
