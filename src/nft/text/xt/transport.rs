//! Matches on what is above the network's header: ports, flags, options, types of messages.

use super::info::Info;
use super::{names, not, range};

pub fn words(name: &str, info: &Info<'_>) -> Option<String> {
    match (name, info.revision) {
        ("tcp", 0) => tcp(info),
        ("udp", 0) => Some(ports("udp", info, (0, 4), info.u8(8)?)?.join(" ")),
        ("sctp", 0) => sctp(info),
        ("dccp", 0) => dccp(info),
        ("multiport", 1) => multiport(info),
        ("tcpmss", 0) => {
            let bounds = range(info.u16(0)?, info.u16(2)?);
            Some(format!("tcp option maxseg size {}{bounds}", not(info.bool(4)?)))
        }
        ("esp", 0) => Some(bounded("esp spi", info, info.u8(8)?)?.unwrap_or_default()),
        ("ipcomp", 0) => Some(bounded("comp cpi", info, info.u8(8)?)?.unwrap_or_default()),
        ("ah", 0) if info.ip6 => ah6(info),
        ("ah", 0) => Some(bounded("ah spi", info, info.u8(8)?)?.unwrap_or_default()),
        ("icmp", 0) if !info.ip6 => icmp(info),
        ("icmp6", 0) if info.ip6 => icmp6(info),
        _ => None,
    }
}

/// Two numbers at the beginning that are not all there are; the lowest bit of `inverted` inverts.
fn bounded(words: &str, info: &Info<'_>, inverted: u8) -> Option<Option<String>> {
    let (first, last) = (info.u32(0)?, info.u32(4)?);
    let all = first == 0 && last == u32::MAX;
    Some((!all).then(|| format!("{words} {}{}", not(inverted & 1 != 0), range(first, last))))
}

fn ah6(info: &Info<'_>) -> Option<String> {
    let (len, reserved, inverted) = (info.u32(8)?, info.u8(12)?, info.u8(13)?);
    let mut parts: Vec<String> = bounded("ah spi", info, inverted)?.into_iter().collect();
    if len != 0 || inverted & 2 != 0 {
        parts.push(format!("ah hdrlength {}{len}", not(inverted & 2 != 0)));
    }
    if reserved != 0 {
        parts.push(format!("ah reserved {reserved}"));
    }
    Some(if parts.is_empty() { "meta l4proto ah".to_owned() } else { parts.join(" ") })
}

/// The source's and the destination's ports, which are at these offsets, where they are not all there are.
fn ports(protocol: &str, info: &Info<'_>, at: (usize, usize), inverted: u8) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for (word, at, bit) in [("sport", at.0, 1), ("dport", at.1, 2)] {
        let (first, last) = (info.u16(at)?, info.u16(at + 2)?);
        if (first, last) != (0, u16::MAX) {
            parts.push(format!(
                "{protocol} {word} {}{}",
                not(inverted & bit != 0),
                range(first, last)
            ));
        }
    }
    Some(parts)
}

fn tcp(info: &Info<'_>) -> Option<String> {
    let (option, mask, flags, inverted) = (info.u8(8)?, info.u8(9)?, info.u8(10)?, info.u8(11)?);
    let mut parts = ports("tcp", info, (0, 4), inverted)?;
    if option != 0 {
        let there = if inverted & 8 == 0 { "exists" } else { "missing" };
        parts.push(format!("tcp option {option} {there}"));
    }
    if mask != 0 || inverted & 4 != 0 {
        let words = [(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg")];
        let words = |flags: u8| match names(u32::from(flags), &words).join(",") {
            none if none.is_empty() => "0x0".to_owned(),
            some => some,
        };
        parts.push(format!(
            "tcp flags {}{} / {}",
            not(inverted & 4 != 0),
            words(flags),
            words(mask)
        ));
    }
    Some(parts.join(" "))
}

/// `struct xt_sctp_info` and `struct xt_dccp_info` begin with the destination's ports.
fn flagged_ports(
    protocol: &str,
    info: &Info<'_>,
    flags: u32,
    inverted: u32,
) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for (word, at, bit) in [("sport", 4, 1), ("dport", 0, 2)] {
        if flags & bit != 0 {
            let bounds = range(info.u16(at)?, info.u16(at + 2)?);
            parts.push(format!("{protocol} {word} {}{bounds}", not(inverted & bit != 0)));
        }
    }
    Some(parts)
}

/// Types of chunks that nft has words for.
const CHUNKS: [(u8, &str); 22] = [
    (0, "data"),
    (1, "init"),
    (2, "init-ack"),
    (3, "sack"),
    (4, "heartbeat"),
    (5, "heartbeat-ack"),
    (6, "abort"),
    (7, "shutdown"),
    (8, "shutdown-ack"),
    (9, "error"),
    (10, "cookie-echo"),
    (11, "cookie-ack"),
    (12, "ecne"),
    (13, "cwr"),
    (14, "shutdown-complete"),
    (64, "i-data"),
    (130, "re-config"),
    (132, "pad"),
    (193, "asconf"),
    (128, "asconf-ack"),
    (192, "forward-tsn"),
    (194, "i-forward-tsn"),
];
/// Of `struct xt_sctp_info`; its bitmap has room for eight times the types there are.
const CHUNK_TYPES: u32 = 4;
const MATCH_ALL: u32 = 2;
const MATCH_ONLY: u32 = 4;

fn sctp(info: &Info<'_>) -> Option<String> {
    let (flags, inverted) = (info.u32(284)?, info.u32(288)?);
    let mut parts = flagged_ports("sctp", info, flags, inverted)?;
    if flags & CHUNK_TYPES != 0 {
        let kind = info.u32(264)?;
        if kind != MATCH_ALL && kind != MATCH_ONLY {
            return None;
        }
        for (number, word) in CHUNKS {
            let at = usize::from(number / 32) * 4 + 8;
            let wanted = info.u32(at)? & (1 << (number % 32)) != 0;
            if wanted || kind == MATCH_ONLY {
                let there = wanted != (inverted & CHUNK_TYPES != 0);
                parts.push(format!("sctp chunk {word} {}", chunk(info, number, there)?));
            }
        }
    }
    Some(parts.join(" "))
}

/// Whether a chunk is there, or what flags it has.
fn chunk(info: &Info<'_>, number: u8, there: bool) -> Option<String> {
    let count = usize::try_from(info.u32(280)?).ok()?.min(4);
    for at in (0..count).map(|nth| 268 + nth * 3) {
        if info.u8(at)? == number {
            let (flag, mask) = (info.u8(at + 1)?, info.u8(at + 2)?);
            let sign = if there { "==" } else { "!=" };
            return Some(format!("flags & {mask:#x} {sign} {flag:#x}"));
        }
    }
    Some(if there { "exists" } else { "missing" }.to_owned())
}

fn dccp(info: &Info<'_>) -> Option<String> {
    let (flags, inverted, types) = (info.u16(8)?, info.u16(10)?, info.u16(12)?);
    if flags & 8 != 0 {
        return None;
    }
    let mut parts = flagged_ports("dccp", info, u32::from(flags), u32::from(inverted))?;
    if flags & 4 != 0 {
        let words = [
            "request", "response", "data", "ack", "dataack", "closereq", "close", "reset", "sync",
            "syncack", "10-15",
        ];
        let set = |(bit, word): (usize, &'static str)| (types & (1 << bit) != 0).then_some(word);
        let words: Vec<&str> = words.into_iter().enumerate().filter_map(set).collect();
        parts.push(format!("dccp type {}{}", not(inverted & 4 != 0), braced(&words)));
    }
    Some(parts.join(" "))
}

/// One, or several in braces.
fn braced(words: &[&str]) -> String {
    match words {
        [one] => (*one).to_owned(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

/// `struct xt_multiport_v1`: ports, of which some begin a range that the next one ends.
fn multiport(info: &Info<'_>) -> Option<String> {
    const PORTS: usize = 15;
    let protocol =
        info.transport.filter(|name| ["tcp", "udp", "udplite", "sctp", "dccp"].contains(name))?;
    let inverted = info.bool(47)?;
    let count = usize::from(info.u8(1)?).min(PORTS);
    let ports = (0..count).map(|nth| info.u16(2 + nth * 2)).collect::<Option<Vec<u16>>>()?;
    let word = match info.u8(0)? {
        0 => "sport",
        1 => "dport",
        // Either: each port on each side. That it is inverted gets lost in nft's words.
        2 => {
            let pairs = ports.iter().map(|port| format!("0-65535 . {port}, {port} . 0-65535"));
            let pairs = pairs.collect::<Vec<_>>().join(", ");
            return Some(format!("{protocol} sport . {protocol} dport {{ {pairs} }}"));
        }
        _ => return None,
    };
    let mut found = Vec::new();
    let mut rest = ports.iter().enumerate();
    while let Some((nth, port)) = rest.next() {
        if info.bool(32 + nth)? {
            found.push(format!("{port}-{}", rest.next()?.1));
        } else {
            found.push(port.to_string());
        }
    }
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    Some(format!("{protocol} {word} {}{}", not(inverted), braced(&found)))
}

/// Types of ICMP that nft has words for.
const ICMP: [(u8, &str); 13] = [
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
    (17, "address-mask-request"),
    (18, "address-mask-reply"),
];
const ICMP6: [(u8, &str); 11] = [
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
];

fn icmp(info: &Info<'_>) -> Option<String> {
    const ANY: u8 = 255;
    if (info.u8(0)?, info.u8(1)?, info.u8(2)?) == (ANY, 0, 255) {
        return Some("ip protocol icmp".to_owned());
    }
    icmp_type("icmp", &ICMP, info)
}

fn icmp6(info: &Info<'_>) -> Option<String> {
    icmp_type("icmpv6", &ICMP6, info)
}

/// A type with all of its codes: for a single code nft has no words.
fn icmp_type(protocol: &str, known: &[(u8, &str)], info: &Info<'_>) -> Option<String> {
    let (number, codes, inverted) = (info.u8(0)?, (info.u8(1)?, info.u8(2)?), info.u8(3)?);
    let (_, word) = known.iter().find(|(known, _)| *known == number && codes == (0, 255))?;
    Some(format!("{protocol} type {}{word}", not(inverted & 1 != 0)))
}
