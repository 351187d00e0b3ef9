//! Matches and targets of x_tables, as iptables-nft loads them, in the words that nft finds for them.
//!
//! Their data is the C structure of each module (linux/netfilter/xt_*.h, revisions as iptables 1.8 uses them), in host
//! order. What has no words here is named: `xt match recent`.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::Family;
use super::super::attr::array;
use super::super::syntax::Type;
use super::statement::nat_flags;

/// A module's structure, read without trust.
#[derive(Clone, Copy)]
struct Info<'a>(&'a [u8]);

impl Info<'_> {
    fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn u16(self, at: usize) -> u16 {
        array(self.0, at).map_or(0, u16::from_ne_bytes)
    }

    fn u32(self, at: usize) -> u32 {
        array(self.0, at).map_or(0, u32::from_ne_bytes)
    }

    fn port(self, at: usize) -> u16 {
        array(self.0, at).map_or(0, u16::from_be_bytes)
    }

    fn ipv4(self, at: usize) -> Ipv4Addr {
        array::<4>(self.0, at).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from)
    }

    fn ipv6(self, at: usize) -> Ipv6Addr {
        array::<16>(self.0, at).map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from)
    }

    fn name(self, at: usize, len: usize) -> String {
        let bytes = self.0.get(at..).unwrap_or(&[]);
        let bytes: Vec<u8> = bytes.iter().take(len).take_while(|byte| **byte != 0).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What a module of a rule says, or its name; `transport` is the protocol a match before it told.
pub fn text(
    target: bool,
    name: &str,
    revision: u32,
    info: &[u8],
    family: Option<Family>,
    transport: Option<&str>,
) -> String {
    let ip6 = family == Some(Family::IP6);
    let info = Info(info);
    let words = if target {
        target_words(name, revision, info, ip6)
    } else {
        match_words(name, info, ip6, transport)
    };
    words.unwrap_or_else(|| format!("xt {} {name}", if target { "target" } else { "match" }))
}

fn not(inverted: bool) -> &'static str {
    if inverted { "!= " } else { "" }
}

fn span<T: Copy + PartialEq + std::fmt::Display>(low: T, high: T) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

fn match_words(name: &str, info: Info<'_>, ip6: bool, transport: Option<&str>) -> Option<String> {
    Some(match name {
        "comment" => String::new(),
        "udp" | "tcp" if asks_nothing(name, info) => String::new(),
        "conntrack" => return conntrack(info),
        "state" => format!("ct state {}", states(info.u32(0))),
        "multiport" => return multiport(info, transport?),
        "addrtype" => return address_type(info),
        "statistic" => statistic(info),
        "mac" => {
            let octets: Vec<String> = (0..6).map(|at| format!("{:02x}", info.u8(at))).collect();
            format!("ether saddr {}{}", not(info.u32(8) != 0), octets.join(":"))
        }
        "iprange" if info.u8(64) & 3 != 0 => ranges(info, ip6),
        "ttl" | "hl" => {
            let field = if name == "ttl" { "ip ttl" } else { "ip6 hoplimit" };
            let sign = ["", "!= ", "lt ", "gt "].get(usize::from(info.u8(0)))?;
            format!("{field} {sign}{}", info.u8(1))
        }
        "length" => format!("meta length {}{}", not(info.u8(4) != 0), span(info.u16(0), info.u16(2))),
        "pkttype" => {
            let kind = ["unicast", "broadcast", "multicast"].get(usize::try_from(info.u32(0)).ok()?)?;
            format!("pkttype {}{kind}", not(info.u32(4) != 0))
        }
        "dscp" => {
            let header = if ip6 { "ip6" } else { "ip" };
            format!("{header} dscp {}0x{:02x}", not(info.u8(1) != 0), info.u8(0))
        }
        "connmark" => masked("ct mark", info.u32(0), info.u32(4), info.u8(8) != 0),
        "mark" => masked("meta mark", info.u32(0), info.u32(4), info.u8(8) != 0),
        "cpu" => format!("cpu {}{}", not(info.u32(4) != 0), info.u32(0)),
        "esp" => format!("esp spi {}{}", not(info.u8(8) & 1 != 0), span(info.u32(0), info.u32(4))),
        "ah" => format!("ah spi {}{}", not(info.u8(12) & 1 != 0), span(info.u32(0), info.u32(4))),
        "icmp" => return icmp("icmp", Type::IcmpType, info),
        "icmp6" => return icmp("icmpv6", Type::Icmpv6Type, info),
        "owner" => return owner(info),
        "tcpmss" => {
            format!("tcp option maxseg size {}{}", not(info.u8(4) != 0), span(info.u16(0), info.u16(2)))
        }
        "helper" => format!("ct helper {}\"{}\"", not(info.u32(0) != 0), info.name(4, 30)),
        // Revision 2; a path has no words.
        "cgroup" if info.u8(0) == 0 && info.u8(1) != 0 => {
            format!("meta cgroup {}{}", not(info.u8(3) != 0), info.u32(4))
        }
        "devgroup" => return device_group(info),
        "realm" => masked("rtclassid", info.u32(0), info.u32(4), info.u8(8) != 0),
        _ => return None,
    })
}

/// `struct xt_udp` and `xt_tcp` with all ports; what is said of ports, nft has as payload.
fn asks_nothing(name: &str, info: Info<'_>) -> bool {
    let all = |at: usize| (info.u16(at), info.u16(at + 2)) == (0, u16::MAX);
    let rest = if name == "udp" { 8..9 } else { 8..12 };
    all(0) && all(4) && rest.into_iter().all(|at| info.u8(at) == 0)
}

fn masked(field: &str, mark: u32, mask: u32, inverted: bool) -> String {
    if mask == u32::MAX {
        format!("{field} {}0x{mark:x}", not(inverted))
    } else {
        format!("{field} and 0x{mask:x} {} 0x{mark:x}", if inverted { "!=" } else { "==" })
    }
}

/// XT_CONNTRACK_STATE_*.
fn states(mask: u32) -> String {
    let names = [(1, "invalid"), (8, "new"), (4, "related"), (2, "established"), (0x100, "untracked")];
    let set: Vec<&str> = names.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect();
    set.join(",")
}

/// `struct xt_conntrack_mtinfo2` and 3: state, status and direction alone.
fn conntrack(info: Info<'_>) -> Option<String> {
    const STATE: u16 = 1;
    const STATUS: u16 = 0x40;
    const DIRECTION: u16 = 0x1000;
    const ALIAS: u16 = 0x2000;
    let (flags, inverted) = (info.u16(146), info.u16(148));
    let bang = |bit: u16| if inverted & bit != 0 { "! " } else { "" };
    let (state, status) = (u32::from(info.u16(150)), u32::from(info.u16(152)));
    match flags & !ALIAS {
        STATE if state & 0xc0 != 0 => {
            let names = [(0x40, "snat"), (0x80, "dnat")];
            let set: Vec<&str> =
                names.iter().filter(|(bit, _)| state & bit != 0).map(|(_, name)| *name).collect();
            Some(format!("ct status {}{}", bang(STATE), set.join(",")))
        }
        STATE => Some(format!("ct state {}{}", bang(STATE), states(state))),
        STATUS => {
            let names = [(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed")];
            let set: Vec<&str> =
                names.iter().filter(|(bit, _)| status & bit != 0).map(|(_, name)| *name).collect();
            Some(format!("ct status {}{}", bang(STATUS), set.join(",")))
        }
        DIRECTION => {
            let direction = if inverted & DIRECTION != 0 { "reply" } else { "original" };
            Some(format!("ct direction {direction}"))
        }
        _ => None,
    }
}

/// `struct xt_multiport_v1`: one side's ports.
fn multiport(info: Info<'_>, transport: &str) -> Option<String> {
    let side = match info.u8(0) {
        0 => "sport",
        1 => "dport",
        _ => return None,
    };
    let mut ports = Vec::new();
    let mut at = 0;
    while at < usize::from(info.u8(1)).min(15) {
        let first = info.u16(2 + 2 * at);
        if info.u8(32 + at) != 0 {
            at += 1;
            ports.push(format!("{first}-{}", info.u16(2 + 2 * at)));
        } else {
            ports.push(first.to_string());
        }
        at += 1;
    }
    let inverted = not(info.u8(47) != 0);
    Some(match ports.as_slice() {
        [one] => format!("{transport} {side} {inverted}{one}"),
        several => format!("{transport} {side} {inverted}{{ {} }}", several.join(", ")),
    })
}

/// `struct xt_addrtype_info_v1`: one side's type.
fn address_type(info: Info<'_>) -> Option<String> {
    let (source, destination, flags) = (info.u16(0), info.u16(2), info.u32(4));
    let (side, mask, inverted) = match (source, destination) {
        (source, 0) => ("saddr", source, flags & 1 != 0),
        (0, destination) => ("daddr", destination, flags & 2 != 0),
        _ => return None,
    };
    let by = match flags & 12 {
        4 => " . iif",
        8 => " . oif",
        _ => "",
    };
    let kinds: Vec<&str> = Type::FibAddr
        .symbols()
        .iter()
        .filter(|(bit, _)| mask >> bit & 1 != 0)
        .map(|(_, name)| *name)
        .collect();
    let kinds = match kinds.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("{{ {} }}", several.join(", ")),
    };
    Some(format!("fib {side}{by} type {}{kinds}", not(inverted)))
}

/// `struct xt_statistic_info`.
fn statistic(info: Info<'_>) -> String {
    let inverted = info.u16(2) & 1 != 0;
    if info.u16(0) == 0 {
        let sign = if inverted { ">=" } else { "<" };
        return format!("meta random & {} {sign} {}", i32::MAX, info.u32(4));
    }
    format!("numgen inc mod {} {}{}", info.u32(4).wrapping_add(1), not(inverted), info.u32(8))
}

/// `struct xt_iprange_mtinfo`.
fn ranges(info: Info<'_>, ip6: bool) -> String {
    let flags = info.u8(64);
    let mut parts = Vec::new();
    for (side, at, bit) in [("saddr", 0, 1), ("daddr", 32, 2)] {
        if flags & bit == 0 {
            continue;
        }
        let inverted = not(flags & bit << 4 != 0);
        parts.push(if ip6 {
            format!("ip6 {side} {inverted}{}-{}", info.ipv6(at), info.ipv6(at + 16))
        } else {
            format!("ip {side} {inverted}{}-{}", info.ipv4(at), info.ipv4(at + 16))
        });
    }
    parts.join(" ")
}

/// `struct ipt_icmp`: a type with any code.
fn icmp(header: &str, kinds: Type, info: Info<'_>) -> Option<String> {
    let kind = info.u8(0);
    if kind == 0xff && kinds == Type::IcmpType {
        return Some("ip protocol icmp".to_owned());
    }
    if (info.u8(1), info.u8(2)) != (0, 0xff) {
        return None;
    }
    let word = kinds.symbol(u128::from(kind)).map_or_else(|| kind.to_string(), str::to_owned);
    Some(format!("{header} type {}{word}", not(info.u8(3) & 1 != 0)))
}

/// `struct xt_devgroup_info`: one side's whole group.
fn device_group(info: Info<'_>) -> Option<String> {
    match (info.u32(0), info.u32(8), info.u32(16)) {
        (flags @ (1 | 3), u32::MAX, _) => {
            Some(format!("iifgroup {}0x{:x}", not(flags & 2 != 0), info.u32(4)))
        }
        (flags @ (4 | 12), _, u32::MAX) => {
            Some(format!("oifgroup {}0x{:x}", not(flags & 8 != 0), info.u32(12)))
        }
        _ => None,
    }
}

/// `struct xt_owner_match_info`: a user or a group.
fn owner(info: Info<'_>) -> Option<String> {
    let (wanted, inverted) = (info.u8(16), info.u8(17));
    match wanted {
        1 => Some(format!("skuid {}{}", not(inverted & 1 != 0), span(info.u32(0), info.u32(4)))),
        2 => Some(format!("skgid {}{}", not(inverted & 2 != 0), span(info.u32(8), info.u32(12)))),
        _ => None,
    }
}

fn target_words(name: &str, revision: u32, info: Info<'_>, ip6: bool) -> Option<String> {
    Some(match name {
        "LOG" => log(info),
        "NFLOG" => {
            let prefix = info.name(12, 64);
            let prefix = if prefix.is_empty() { prefix } else { format!("prefix \"{prefix}\" ") };
            format!("log {prefix}group {}", info.u16(4))
        }
        "REJECT" => return reject(info.u32(0), ip6),
        "MASQUERADE" => nat("masquerade", revision, info, ip6),
        "REDIRECT" => nat("redirect", revision, info, ip6),
        "SNAT" => nat("snat", revision, info, ip6),
        "DNAT" => nat("dnat", revision, info, ip6),
        "MARK" => mark(info.u32(0), info.u32(4)),
        "CONNMARK" => return connmark(info),
        "DSCP" => format!("{} dscp set 0x{:02x}", if ip6 { "ip6" } else { "ip" }, info.u8(0)),
        "CLASSIFY" => format!("meta priority set {:x}:{:x}", info.u32(0) >> 16, info.u32(0) & 0xffff),
        "CT" if info.u16(0) & 1 != 0 => "notrack".to_owned(),
        "TCPMSS" if info.u16(0) == u16::MAX => "tcp option maxseg size set rt mtu".to_owned(),
        "TCPMSS" => format!("tcp option maxseg size set {}", info.u16(0)),
        "TEE" if ip6 => format!("dup to {}", info.ipv6(0)),
        "TEE" => format!("dup to {}", info.ipv4(0)),
        "AUDIT" => "log level audit".to_owned(),
        _ => return None,
    })
}

/// `struct xt_log_info`.
fn log(info: Info<'_>) -> String {
    let (level, flags, prefix) = (info.u8(0), u32::from(info.u8(1)), info.name(2, 30));
    let mut text = "log".to_owned();
    if !prefix.is_empty() {
        let _ = write!(text, " prefix \"{prefix}\"");
    }
    if let Some(word) = super::LOG_LEVELS.get(usize::from(level)).filter(|_| u32::from(level) != super::WARN)
    {
        let _ = write!(text, " level {word}");
    }
    if flags & super::LOG_ALL == super::LOG_ALL {
        text.push_str(" flags all");
        return text;
    }
    match flags & 3 {
        3 => text.push_str(" flags tcp sequence,options"),
        1 => text.push_str(" flags tcp sequence"),
        2 => text.push_str(" flags tcp options"),
        _ => {}
    }
    for name in super::log_flags(flags & !3) {
        let _ = write!(text, " flags {name}");
    }
    text
}

/// `enum ipt_reject_with` and `enum ip6t_reject_with`.
fn reject(with: u32, ip6: bool) -> Option<String> {
    let words = if ip6 {
        [
            "no-route",
            "admin-prohibited",
            "",
            "addr-unreachable",
            "port-unreachable",
            "",
            "tcp reset",
            "policy-fail",
            "reject-route",
        ]
    } else {
        [
            "net-unreachable",
            "host-unreachable",
            "prot-unreachable",
            "port-unreachable",
            "",
            "net-prohibited",
            "host-prohibited",
            "tcp reset",
            "admin-prohibited",
        ]
    };
    match *words.get(usize::try_from(with).ok()?)? {
        "" => None,
        "port-unreachable" => Some("reject".to_owned()),
        "tcp reset" => Some("reject with tcp reset".to_owned()),
        word => Some(format!("reject with {} type {word}", if ip6 { "icmpv6" } else { "icmp" })),
    }
}

/// Revision 0 has IPv4's old structure with a count before it, later ones `struct nf_nat_range`.
fn nat(verb: &str, revision: u32, info: Info<'_>, ip6: bool) -> String {
    const MAP_IPS: u32 = 1;
    const PORTS: u32 = 2;
    let old = !ip6 && revision == 0;
    let (flags, low, high, port) = if old { (info.u32(4), 8, 12, 16) } else { (info.u32(0), 4, 20, 36) };
    let mut to = String::new();
    if flags & MAP_IPS != 0 {
        to = match (ip6, flags & PORTS != 0) {
            (false, _) => span(info.ipv4(low), info.ipv4(high)),
            (true, false) => span(info.ipv6(low), info.ipv6(high)),
            (true, true) if info.ipv6(low) == info.ipv6(high) => format!("[{}]", info.ipv6(low)),
            (true, true) => format!("[{}]-[{}]", info.ipv6(low), info.ipv6(high)),
        };
    }
    if flags & PORTS != 0 {
        let _ = write!(to, ":{}", span(info.port(port), info.port(port + 2)));
    }
    let mut text = verb.to_owned();
    if !to.is_empty() {
        let _ = write!(text, " to {to}");
    }
    let names = nat_flags(flags);
    if !names.is_empty() {
        let _ = write!(text, " {}", names.join(","));
    }
    text
}

/// `struct xt_mark_tginfo2`.
fn mark(mark: u32, mask: u32) -> String {
    match (mark, mask) {
        (mark, u32::MAX) => format!("meta mark set 0x{mark:x}"),
        (0, mask) => format!("meta mark set mark and 0x{:x}", !mask),
        (mark, mask) if mark == mask => format!("meta mark set mark or 0x{mark:x}"),
        (mark, 0) => format!("meta mark set mark xor 0x{mark:x}"),
        (mark, mask) => format!("meta mark set mark and 0x{:x} xor 0x{mark:x}", !mask),
    }
}

/// `struct xt_connmark_tginfo2`: without shifts.
fn connmark(info: Info<'_>) -> Option<String> {
    let (mark, mask, packet) = (info.u32(0), info.u32(4), info.u32(8));
    if info.u8(13) != 0 {
        return None;
    }
    let and = |text: &str| if mask == u32::MAX { text.to_owned() } else { format!("{text} and 0x{mask:x}") };
    Some(match (info.u8(14), mark, mask) {
        (0, mark, u32::MAX) => format!("ct mark set 0x{mark:x}"),
        (0, 0, mask) => format!("ct mark set ct mark and 0x{:x}", !mask),
        (0, mark, mask) if mark == mask => format!("ct mark set ct mark or 0x{mark:x}"),
        (0, mark, 0) => format!("ct mark set ct mark xor 0x{mark:x}"),
        (0, mark, mask) => format!("ct mark set ct mark xor 0x{mark:x} and 0x{:x}", !mask),
        (1, ..) if packet == mask => and("ct mark set mark"),
        (2, ..) if packet == mask => and("meta mark set ct mark"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_have_words_or_a_name(
            at in 0usize..48,
            revision in 0u32..4,
            info in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let names = [
                "comment", "udp", "tcp", "conntrack", "state", "multiport", "addrtype", "statistic", "mac", "iprange", "ttl", "hl",
                "length", "pkttype", "dscp", "connmark", "mark", "cpu", "esp", "ah", "icmp", "icmp6", "owner",
                "tcpmss", "helper", "cgroup", "recent", "LOG", "NFLOG", "REJECT", "MASQUERADE", "REDIRECT", "SNAT",
                "DNAT", "MARK", "CONNMARK", "DSCP", "CLASSIFY", "CT", "TCPMSS", "TEE", "AUDIT", "TTL",
            ];
            let name = names[at % names.len()];
            for family in [Family::IP, Family::IP6] {
                let target = name.starts_with(char::is_uppercase);
                let found = text(target, name, revision, &info, Some(family), Some("tcp"));
                prop_assert!(["comment", "udp", "tcp"].contains(&name) || !found.is_empty());
            }
        }
    }
}
