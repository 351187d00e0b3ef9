//! Targets.

use super::super::super::expr::Expr;
use super::super::super::names::words::{NAT_FLAGS, QUEUE_FLAGS, bit_words};
use super::super::plain::plain;
use super::info::Info;
use super::range;

pub fn words(name: &str, info: &Info<'_>) -> Option<String> {
    match (name, info.revision) {
        ("LOG", 0) => log(info),
        ("NFLOG", 0) => nflog(info),
        ("REJECT", 0) => reject(info),
        ("MASQUERADE", 0) => nat("masquerade", info),
        ("REDIRECT", 0) => nat("redirect", info),
        ("SNAT", 0..=2) => nat("snat", info),
        ("DNAT", 0..=2) => nat("dnat", info),
        ("MARK", 2) => {
            Some(format!("meta mark set {}", changed("mark", info.u32(0)?, info.u32(4)?)))
        }
        ("CONNMARK", 1 | 2) => connmark(info),
        ("DSCP", 0) => Some(format!("{} dscp set {:#04x}", info.ip(), info.u8(0)?)),
        ("CLASSIFY", 0) => {
            let class = match info.u32(0)? {
                0 => "none".to_owned(),
                u32::MAX => "root".to_owned(),
                class => format!("{:x}:{:x}", class >> 16, class & 0xffff),
            };
            Some(format!("meta priority set {class}"))
        }
        ("CT", 0..=2) if info.u16(0)? & 1 != 0 => Some("notrack".to_owned()),
        ("NOTRACK", 0) => Some("notrack".to_owned()),
        ("TRACE", 0) => Some("meta nftrace set 1".to_owned()),
        ("AUDIT", 0) => Some("log level audit".to_owned()),
        ("TCPMSS", 0) => Some(match info.u16(0)? {
            u16::MAX => "tcp option maxseg size set rt mtu".to_owned(),
            size => format!("tcp option maxseg size set {size}"),
        }),
        ("TEE", 1) => Some(match info.name(16, 16)? {
            anywhere if anywhere.is_empty() => format!("dup to {}", info.address(0)?),
            device => format!("dup to {} device {device}", info.address(0)?),
        }),
        ("SYNPROXY", 0) => synproxy(info),
        ("NFQUEUE", 1..=3) => queue(info),
        _ => None,
    }
}

fn log(info: &Info<'_>) -> Option<String> {
    let prefix = Some(info.name(2, 30)?).filter(|prefix| !prefix.is_empty());
    let (level, flags) = (Some(u32::from(info.u8(0)?)), Some(u32::from(info.u8(1)?)));
    Some(said(&Expr::Log { prefix, group: None, snaplen: None, threshold: None, level, flags }))
}

/// `struct xt_nflog_info`; so much of a packet is copied only when it says so.
fn nflog(info: &Info<'_>) -> Option<String> {
    let prefix = Some(info.name(12, 64)?).filter(|prefix| !prefix.is_empty());
    let snaplen = Some(info.u32(0)?).filter(|_| info.u16(8).is_some_and(|flags| flags & 1 != 0));
    let threshold = Some(info.u16(6)?).filter(|threshold| *threshold != 0);
    let group = Some(info.u16(4)?);
    Some(said(&Expr::Log { prefix, group, snaplen, threshold, level: None, flags: None }))
}

fn said(expr: &Expr) -> String {
    let mut text = String::new();
    plain(&mut text, expr, false);
    text
}

/// `enum ipt_reject_with`, `enum ip6t_reject_with`; empty is what is usual.
fn reject(info: &Info<'_>) -> Option<String> {
    let with = usize::try_from(info.u32(0)?).ok()?;
    let words = if info.ip6 {
        [
            Some("icmpv6 type no-route"),
            Some("icmpv6 type admin-prohibited"),
            None,
            Some("icmpv6 type addr-unreachable"),
            Some(""),
            None,
            Some("tcp reset"),
            Some("icmpv6 type policy-fail"),
            Some("icmpv6 type reject-route"),
        ]
    } else {
        [
            Some("icmp type net-unreachable"),
            Some("icmp type host-unreachable"),
            Some("icmp type prot-unreachable"),
            Some(""),
            None,
            Some("icmp type net-prohibited"),
            Some("icmp type host-prohibited"),
            Some("tcp reset"),
            Some("icmp type admin-prohibited"),
        ]
    };
    match *words.get(with)? {
        Some("") => Some("reject".to_owned()),
        Some(words) => Some(format!("reject with {words}")),
        None => None,
    }
}

/// NF_NAT_RANGE_*.
const MAP_IPS: u32 = 1;
const PROTO_SPECIFIED: u32 = 2;
const PROTO_OFFSET: u32 = 0x20;

/// Where a range has its flags, addresses and ports: `struct nf_nat_ipv4_multi_range_compat` for the oldest
/// revision of IPv4, else `struct nf_nat_range`, which `nf_nat_range2` goes on from.
fn nat(verb: &str, info: &Info<'_>) -> Option<String> {
    let compat = !info.ip6 && info.revision == 0;
    let (at, addresses, ports) =
        if compat { (4, (8, 12), (16, 18)) } else { (0, (4, 20), (36, 38)) };
    let flags = info.u32(at)?;
    if flags & PROTO_OFFSET != 0 || compat && info.u32(0)? != 1 {
        return None;
    }
    let mut to = String::new();
    if flags & MAP_IPS != 0 {
        let found = range(info.address(addresses.0)?.as_str(), info.address(addresses.1)?.as_str());
        to = if info.ip6 && flags & PROTO_SPECIFIED != 0 { format!("[{found}]") } else { found };
    }
    if flags & PROTO_SPECIFIED != 0 {
        to.push_str(&format!(":{}", range(info.port(ports.0)?, info.port(ports.1)?)));
    }
    let mut text = verb.to_owned();
    if !to.is_empty() {
        text.push_str(&format!(" to {to}"));
    }
    let flags = bit_words(NAT_FLAGS, flags);
    if !flags.is_empty() {
        text.push_str(&format!(" {}", flags.join(",")));
    }
    Some(text)
}

/// What `(mark & !mask) ^ value` is of the mark.
fn changed(mark: &str, value: u32, mask: u32) -> String {
    match (value, mask) {
        (value, u32::MAX) => format!("{value:#x}"),
        (0, mask) => format!("{mark} and {:#x}", !mask),
        (value, mask) if value == mask => format!("{mark} or {value:#x}"),
        (value, 0) => format!("{mark} xor {value:#x}"),
        (value, mask) if mark == "mark" => format!("{mark} and {:#x} xor {value:#x}", !mask),
        (value, mask) => format!("{mark} xor {value:#x} and {:#x}", !mask),
    }
}

/// `struct xt_connmark_tginfo1`, and 2 with shifts, which have no words; nor have two masks.
fn connmark(info: &Info<'_>) -> Option<String> {
    const SET: u8 = 0;
    const SAVE: u8 = 1;
    const RESTORE: u8 = 2;
    let (value, mask, other) = (info.u32(0)?, info.u32(4)?, info.u32(8)?);
    let (bits, mode) =
        if info.revision == 1 { (0, info.u8(12)?) } else { (info.u8(13)?, info.u8(14)?) };
    let masked = match mask {
        u32::MAX => String::new(),
        mask => format!(" and {mask:#x}"),
    };
    match mode {
        _ if bits != 0 => None,
        SET => Some(format!("ct mark set {}", changed("ct mark", value, mask))),
        SAVE if mask == other => Some(format!("ct mark set mark{masked}")),
        RESTORE if mask == other => Some(format!("meta mark set ct mark{masked}")),
        _ => None,
    }
}

fn synproxy(info: &Info<'_>) -> Option<String> {
    let (options, wscale, mss) = (info.u8(0)?, info.u8(1)?, info.u16(2)?);
    let mut text = "synproxy".to_owned();
    let said = [
        (4, " sack-perm".to_owned()),
        (8, " timestamp".to_owned()),
        (2, format!(" wscale {wscale}")),
        (1, format!(" mss {mss}")),
    ];
    for (_, words) in said.iter().filter(|(bit, _)| options & bit != 0) {
        text.push_str(words);
    }
    Some(text)
}

/// `struct xt_NFQ_info_v1` to `_v3`.
fn queue(info: &Info<'_>) -> Option<String> {
    let (first, total) = (info.u16(0)?, info.u16(2)?);
    let flags = if info.revision == 1 { 0 } else { info.u16(4)? };
    let queues = range(first, first.checked_add(total.max(1) - 1)?);
    let flags = bit_words(QUEUE_FLAGS, u32::from(flags)).join(",");
    Some(format!("queue num {queues} {flags}").trim_end().to_owned())
}
