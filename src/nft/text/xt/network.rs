//! Matches on the packet, its network header and where it comes from.

use super::info::Info;
use super::{masked, names, not, range};

pub fn words(name: &str, info: &Info<'_>) -> Option<String> {
    match (name, info.revision) {
        ("addrtype", 1) => addrtype(info),
        ("mac", 0) => Some(format!("ether saddr {}{}", not(info.u32(8)? != 0), info.mac(0)?)),
        ("iprange", 1) => iprange(info),
        ("ttl", 0) if !info.ip6 => compared("ip ttl", info),
        ("hl", 0) if info.ip6 => compared("ip6 hoplimit", info),
        ("length", 0) => {
            Some(format!("meta length {}{}", not(info.bool(4)?), range(info.u16(0)?, info.u16(2)?)))
        }
        ("pkttype", 0) => {
            let word =
                *["unicast", "broadcast", "multicast"].get(usize::try_from(info.u32(0)?).ok()?)?;
            Some(format!("pkttype {}{word}", not(info.u32(4)? != 0)))
        }
        ("dscp", 0) => {
            Some(format!("{} dscp {}{:#04x}", info.ip(), not(info.bool(1)?), info.u8(0)?))
        }
        ("mark", 1) => {
            Some(format!("meta mark {}", masked(info.u32(0)?, info.u32(4)?, info.bool(8)?)))
        }
        ("cpu", 0) => Some(format!("cpu {}{}", not(info.u32(4)? != 0), info.u32(0)?)),
        ("owner", 1) => owner(info),
        ("devgroup", 0) => devgroup(info),
        ("realm", 0) => {
            Some(format!("rtclassid {}", masked(info.u32(0)?, info.u32(4)?, info.bool(8)?)))
        }
        ("cgroup", 0) => Some(format!("meta cgroup {}{}", not(info.u32(4)? != 0), info.u32(0)?)),
        ("cgroup", 1) => cgroup(info, 4100),
        ("cgroup", 2) => cgroup(info, 4),
        ("rpfilter", 0) => rpfilter(info),
        ("policy", 0) => policy(info),
        ("frag", 0) if info.ip6 => frag(info),
        ("rt", 0) if info.ip6 => rt(info),
        ("hbh", 0) if info.ip6 => {
            let (flags, inverted) = (info.u8(4)?, info.u8(5)?);
            let length =
                || Some(format!("hbh hdrlength {}{}", not(inverted & 1 != 0), info.u32(0)?));
            if flags & 3 == 1 { length() } else { None }
        }
        ("mh", 0) if info.ip6 => {
            let (first, last) = (info.u8(0)?, info.u8(1)?);
            let all = (first, last) == (0, u8::MAX);
            let types = format!("mh type {}{}", not(info.u8(2)? & 1 != 0), range(first, last));
            Some(if all { String::new() } else { types })
        }
        _ => None,
    }
}

/// XT_ADDRTYPE_*, of which the last ones have no words.
fn addrtype(info: &Info<'_>) -> Option<String> {
    let (source, destination, flags) = (info.u16(0)?, info.u16(2)?, info.u32(4)?);
    // One address is shown; what is inverted is shown for whichever.
    let (word, types) = if source != 0 { ("saddr", source) } else { ("daddr", destination) };
    let interface = match (flags & 4 != 0, flags & 8 != 0) {
        (true, _) => " . iif",
        (false, true) => " . oif",
        (false, false) => "",
    };
    let words = [
        (1, "unspec"),
        (1 << 1, "unicast"),
        (1 << 2, "local"),
        (1 << 3, "broadcast"),
        (1 << 4, "anycast"),
        (1 << 5, "multicast"),
        (1 << 6, "blackhole"),
        (1 << 7, "unreachable"),
        (1 << 8, "prohibit"),
    ];
    let found = names(u32::from(types), &words).join(", ");
    let found = if types.count_ones() > 1 { format!("{{ {found} }}") } else { found };
    let text = format!("fib {word}{interface} type {}{found}", not(flags & 3 != 0));
    Some(text.trim_end().to_owned())
}

fn iprange(info: &Info<'_>) -> Option<String> {
    let flags = info.u8(64)?;
    let mut parts = Vec::new();
    for (bit, word, at) in [(1, "saddr", 0), (2, "daddr", 32)] {
        if flags & bit != 0 {
            let (first, last) = (info.address(at)?, info.address(at + 16)?);
            parts.push(format!(
                "{} {word} {}{first}-{last}",
                info.ip(),
                not(flags & (bit << 4) != 0)
            ));
        }
    }
    Some(parts.join(" "))
}

/// IPT_TTL_* and IP6T_HL_*.
fn compared(words: &str, info: &Info<'_>) -> Option<String> {
    let sign = *["", "!= ", "lt ", "gt "].get(usize::from(info.u8(0)?))?;
    Some(format!("{words} {sign}{}", info.u8(1)?))
}

fn owner(info: &Info<'_>) -> Option<String> {
    let inverted = info.u8(17)?;
    match info.u8(16)? {
        1 => Some(format!("skuid {}{}", not(inverted & 1 != 0), range(info.u32(0)?, info.u32(4)?))),
        2 => {
            Some(format!("skgid {}{}", not(inverted & 2 != 0), range(info.u32(8)?, info.u32(12)?)))
        }
        _ => None,
    }
}

/// Once inverted, the second group is, too.
fn devgroup(info: &Info<'_>) -> Option<String> {
    let flags = info.u32(0)?;
    let mut parts = Vec::new();
    let source = flags & 1 != 0;
    let inverted = source && flags & 2 != 0;
    if source {
        parts.push(format!("iifgroup {}", masked(info.u32(4)?, info.u32(8)?, inverted)));
    }
    if flags & 4 != 0 {
        let inverted = inverted || flags & 8 != 0;
        parts.push(format!("oifgroup {}", masked(info.u32(12)?, info.u32(16)?, inverted)));
    }
    Some(parts.join(" "))
}

/// A class; a path has no words.
fn cgroup(info: &Info<'_>, at: usize) -> Option<String> {
    let path = info.bool(0)?;
    let class = format!("meta cgroup {}{}", not(info.bool(3)?), info.u32(at)?);
    (!path).then_some(class)
}

fn rpfilter(info: &Info<'_>) -> Option<String> {
    const LOOSE: u8 = 1;
    const VALID_MARK: u8 = 2;
    const ACCEPT_LOCAL: u8 = 4;
    const INVERT: u8 = 8;
    let flags = info.u8(0)?;
    if flags & ACCEPT_LOCAL != 0 {
        return None;
    }
    let mark = if flags & VALID_MARK == 0 { "" } else { ". mark " };
    let interface = if flags & LOOSE == 0 { ". iif " } else { "" };
    Some(format!("fib saddr {mark}{interface}oif {}0", not(flags & INVERT == 0)))
}

/// Whether packets came in by IPsec; how has no words.
fn policy(info: &Info<'_>) -> Option<String> {
    const IN: u16 = 1;
    const NONE: u16 = 4;
    let (flags, len) = (info.u16(304)?, info.u16(306)?);
    // What is asked of the first element.
    let asked = info.u8(74)?;
    match flags {
        flags if flags == IN | NONE => Some("meta secpath missing".to_owned()),
        IN if len <= 1 && asked == 0 => Some("meta secpath exists".to_owned()),
        _ => None,
    }
}

fn frag(info: &Info<'_>) -> Option<String> {
    let (flags, inverted) = (info.u8(12)?, info.u8(13)?);
    let mut parts = Vec::new();
    if flags & 1 != 0 {
        parts.push(format!("id {}{}", not(inverted & 1 != 0), range(info.u32(0)?, info.u32(4)?)));
    }
    let rest = [
        (4, "reserved 1"),
        (8, "frag-off 0"),
        (0x10, "more-fragments 1"),
        (0x20, "more-fragments 0"),
    ];
    parts.extend(names(u32::from(flags), &rest).into_iter().map(str::to_owned));
    Some(parts.iter().map(|part| format!("frag {part}")).collect::<Vec<_>>().join(" "))
}

/// The type-0 header's addresses have no words.
fn rt(info: &Info<'_>) -> Option<String> {
    let (flags, inverted) = (info.u8(16)?, info.u8(17)?);
    if flags & !7 != 0 {
        return None;
    }
    let mut parts = Vec::new();
    if flags & 1 != 0 {
        parts.push(format!("rt type {}{}", not(inverted & 1 != 0), info.u32(0)?));
    }
    if flags & 2 != 0 {
        let left = range(info.u32(4)?, info.u32(8)?);
        parts.push(format!("rt seg-left {}{left}", not(inverted & 2 != 0)));
    }
    if flags & 4 != 0 {
        parts.push(format!("rt hdrlength {}{}", not(inverted & 4 != 0), info.u32(12)?));
    }
    Some(parts.join(" "))
}
