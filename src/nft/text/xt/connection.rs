//! Matches on what conntrack knows.

use std::net::IpAddr;

use super::super::super::syntax::prefix_len;
use super::info::Info;
use super::{masked, names, not, range};

pub fn words(name: &str, info: &Info<'_>) -> Option<String> {
    match (name, info.revision) {
        ("conntrack", 3) => conntrack(info),
        ("state", 0) => Some(format!("ct state {}", states(info.u32(0)?))),
        ("connmark", 1) => {
            Some(format!("ct mark {}", masked(info.u32(0)?, info.u32(4)?, info.bool(8)?)))
        }
        ("helper", 0) => {
            Some(format!("ct helper {}\"{}\"", not(info.u32(0)? != 0), info.name(4, 30)?))
        }
        ("connbytes", 0) => connbytes(info),
        _ => None,
    }
}

const SNAT: u32 = 0x40;
const DNAT: u32 = 0x80;

/// XT_CONNTRACK_STATE_*.
fn states(mask: u32) -> String {
    let words =
        [(1, "invalid"), (8, "new"), (4, "related"), (2, "established"), (0x100, "untracked")];
    names(mask, &words).join(",")
}

/// What is matched and inverted of `struct xt_conntrack_mtinfo3`.
const STATE: u16 = 1;
const PROTO: u16 = 1 << 1;
const STATUS: u16 = 1 << 6;
const EXPIRES: u16 = 1 << 7;
const DIRECTION: u16 = 1 << 12;
/// Each: its bit, the words, where the address and its mask are.
const ADDRESSES: [(u16, &str, usize); 4] = [
    (1 << 2, "original saddr", 0),
    (1 << 3, "original daddr", 32),
    (1 << 4, "reply saddr", 64),
    (1 << 5, "reply daddr", 96),
];
/// Each: its bit, the words, where the first and the last port are.
const PORTS: [(u16, &str, usize, usize); 4] = [
    (1 << 8, "original proto-src", 138, 154),
    (1 << 9, "original proto-dst", 140, 156),
    (1 << 10, "reply proto-src", 142, 158),
    (1 << 11, "reply proto-dst", 144, 160),
];

fn conntrack(info: &Info<'_>) -> Option<String> {
    let (matched, inverted) = (info.u16(146)?, info.u16(148)?);
    let inverts = |bit: u16| inverted & bit != 0;
    let mut parts = Vec::new();
    let direction = if inverts(DIRECTION) { "reply" } else { "original" };
    if matched & DIRECTION != 0 {
        parts.push(format!("direction {direction}"));
    }
    if matched & PROTO != 0 {
        let protocol = info.u16(136)?;
        parts.push(format!("{direction} protocol {}{protocol}", not(inverts(PROTO))));
    }
    if matched & STATE != 0 {
        let mask = u32::from(info.u16(150)?);
        parts.push(if mask & (SNAT | DNAT) != 0 {
            let which = if mask & SNAT != 0 { "snat" } else { "dnat" };
            format!("status {}{which}", if inverts(STATUS) { "!=" } else { "" })
        } else {
            format!("state {}{}", if inverts(STATE) { "! " } else { "" }, states(mask))
        });
    }
    if matched & STATUS != 0 {
        let words = [(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed")];
        let words = names(u32::from(info.u16(152)?), &words).join(",");
        let text = format!("status {}{words}", if inverts(STATUS) { "! " } else { "" });
        parts.push(text.trim_end().to_owned());
    }
    if matched & EXPIRES != 0 {
        let expires = range(info.u32(128)?, info.u32(132)?);
        parts.push(format!("expiration {}{expires}", not(inverts(EXPIRES))));
    }
    for (bit, words, at) in ADDRESSES.iter().filter(|(bit, ..)| matched & bit != 0) {
        let len = len_of(info.addr(at + 16)?);
        parts.push(format!("{words} {}{}{len}", not(inverts(*bit)), info.address(*at)?));
    }
    for (bit, words, first, last) in PORTS.iter().filter(|(bit, ..)| matched & bit != 0) {
        parts.push(format!(
            "{words} {}{}",
            not(inverts(*bit)),
            range(info.u16(*first)?, info.u16(*last)?)
        ));
    }
    Some(parts.iter().map(|part| format!("ct {part}")).collect::<Vec<_>>().join(" "))
}

/// `/LEN`, where the mask has one and it is not the whole address.
fn len_of(mask: IpAddr) -> String {
    let (bits, mask) = match mask {
        IpAddr::V4(mask) => (32, u128::from(mask.to_bits())),
        IpAddr::V6(mask) => (128, mask.to_bits()),
    };
    match prefix_len(mask, bits) {
        Some(len) if len < bits => format!("/{len}"),
        _ => String::new(),
    }
}

/// `struct xt_connbytes_info`; bounds that are the wrong way round are inverted ones.
fn connbytes(info: &Info<'_>) -> Option<String> {
    let (from, to) = (info.u64(0)?, info.u64(8)?);
    let what = *["packets", "bytes", "avgpkt"].get(usize::from(info.u8(16)?))?;
    let direction = *["original ", "reply ", ""].get(usize::from(info.u8(17)?))?;
    let bounds = match (from, to) {
        (from, u64::MAX) => format!("ge {from}"),
        (u64::MAX, to) => format!("lt {to}"),
        (from, to) if from > to => format!("!= {to}-{from}"),
        (from, to) => range(from, to),
    };
    Some(format!("ct {direction}{what} {bounds}"))
}
