//! Matches and targets of x_tables, as iptables-nft loads them, in nft's words: what `nft list` built with
//! libxtables shows (1.0.6 with iptables 1.8.9).
//!
//! The kernel hands out the extension's own structure (linux/netfilter/xt_*.h, netfilter_ipv4/ipt_*.h,
//! netfilter_ipv6/ip6t_*.h). What has no words, or a structure that is shorter or newer than these, is `xt match
//! NAME`. Where nft's words are a lossy or odd rendering (a direction left out, `!=` for the wrong half), they are
//! rendered the same: whoever compares listings finds no difference.
//!
//! Two things are not followed. A hashlimit that is told its interval has a word in nft that is none (`(null)`).
//! And when both families use MASQUERADE, SNAT, DNAT, REDIRECT, DSCP or TEE, nft forgets the target of the family it
//! lists second and shows nothing for it.

mod connection;
mod flow;
mod info;
mod network;
mod target;
mod transport;

use std::fmt::Write;

use super::super::Family;
use super::super::expr::Expr;
use info::Info;

/// `transport`: the protocol that a match before it in the rule told.
pub fn statement(
    out: &mut String,
    expr: &Expr,
    family: Option<Family>,
    transport: Option<&'static str>,
) {
    let Expr::Xt { target, name, revision, info } = expr else { return };
    let ip6 = match family {
        Some(Family::IP) => Some(false),
        Some(Family::IP6) => Some(true),
        _ => None,
    };
    let words = ip6.and_then(|ip6| {
        let info = Info { bytes: info, revision: *revision, ip6, transport };
        if *target { target::words(name, &info) } else { match_words(name, &info) }
    });
    let _ = match words {
        Some(words) => write!(out, "{words}"),
        None => write!(out, "xt {} {name}", if *target { "target" } else { "match" }),
    };
}

fn match_words(name: &str, info: &Info<'_>) -> Option<String> {
    match name {
        "comment" => Some(String::new()),
        "conntrack" | "state" | "connmark" | "helper" | "connbytes" => {
            connection::words(name, info)
        }
        "limit" | "hashlimit" | "statistic" | "time" | "quota" => flow::words(name, info),
        "tcp" | "udp" | "sctp" | "dccp" | "multiport" | "tcpmss" | "esp" | "ah" | "ipcomp"
        | "icmp" | "icmp6" => transport::words(name, info),
        _ => network::words(name, info),
    }
}

/// Before a value that must not be.
const fn not(inverted: bool) -> &'static str {
    if inverted { "!= " } else { "" }
}

/// From the first to the last; one where they are the same.
fn range<T: std::fmt::Display + PartialEq + Copy>(first: T, last: T) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// `and MASK == VALUE` where not all bits count.
fn masked(value: u32, mask: u32, inverted: bool) -> String {
    match (mask, inverted) {
        (u32::MAX, inverted) => format!("{}{value:#x}", not(inverted)),
        (mask, false) => format!("and {mask:#x} == {value:#x}"),
        (mask, true) => format!("and {mask:#x} != {value:#x}"),
    }
}

/// The words of those bits that are set.
fn names(bits: u32, words: &[(u32, &'static str)]) -> Vec<&'static str> {
    words.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MATCHES: [&str; 42] = [
        "comment",
        "conntrack",
        "state",
        "connmark",
        "helper",
        "connbytes",
        "limit",
        "hashlimit",
        "statistic",
        "time",
        "quota",
        "tcp",
        "udp",
        "sctp",
        "dccp",
        "multiport",
        "tcpmss",
        "esp",
        "ah",
        "ipcomp",
        "icmp",
        "icmp6",
        "addrtype",
        "mac",
        "iprange",
        "ttl",
        "hl",
        "length",
        "pkttype",
        "dscp",
        "mark",
        "cpu",
        "owner",
        "devgroup",
        "realm",
        "cgroup",
        "frag",
        "rt",
        "hbh",
        "mh",
        "rpfilter",
        "policy",
    ];
    const TARGETS: [&str; 19] = [
        "LOG",
        "NFLOG",
        "REJECT",
        "MASQUERADE",
        "SNAT",
        "DNAT",
        "REDIRECT",
        "MARK",
        "CONNMARK",
        "DSCP",
        "CLASSIFY",
        "CT",
        "NOTRACK",
        "TCPMSS",
        "TEE",
        "AUDIT",
        "SYNPROXY",
        "NFQUEUE",
        "TRACE",
    ];

    fn text(target: bool, name: &str, revision: u32, info: &[u8], family: Family) -> String {
        let expr = Expr::Xt { target, name: name.to_owned(), revision, info: info.to_vec() };
        let mut out = String::new();
        statement(&mut out, &expr, Some(family), Some("tcp"));
        out
    }

    proptest! {
        #[test]
        fn no_octets_stop_it(
            name in prop::sample::select(MATCHES.iter().chain(&TARGETS).copied().collect::<Vec<_>>()),
            revision in 0_u32..5,
            ip6: bool,
            info in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let family = if ip6 { Family::IP6 } else { Family::IP };
            text(TARGETS.contains(&name), name, revision, &info, family);
        }

        /// Few bits set: as structures mostly are.
        #[test]
        fn no_sparse_octets_stop_it(
            name in prop::sample::select(MATCHES.iter().chain(&TARGETS).copied().collect::<Vec<_>>()),
            revision in 0_u32..5,
            info in prop::collection::vec(prop_oneof![4 => Just(0_u8), 1 => Just(255), 1 => any::<u8>()], 0..600),
        ) {
            text(TARGETS.contains(&name), name, revision, &info, Family::IP);
        }
    }

    #[test]
    fn what_is_short_or_unknown_is_called_by_its_name() {
        for name in MATCHES.iter().filter(|name| **name != "comment") {
            assert_eq!(text(false, name, 1, &[], Family::IP), format!("xt match {name}"));
        }
        for name in TARGETS.iter().filter(|name| !["AUDIT", "NOTRACK", "TRACE"].contains(name)) {
            assert_eq!(text(true, name, 1, &[], Family::IP6), format!("xt target {name}"));
        }
        assert_eq!(text(false, "recent", 0, &[0; 300], Family::IP), "xt match recent");
        assert_eq!(text(true, "TTL", 0, &[0; 300], Family::IP), "xt target TTL");
        // Nobody's but iptables' families.
        assert_eq!(text(false, "mark", 1, &[0; 16], Family::BRIDGE), "xt match mark");
    }

    #[test]
    fn a_structure_of_another_revision_is_not_misread() {
        assert_eq!(
            text(true, "MARK", 2, &[5, 0, 0, 0, 255, 255, 255, 255], Family::IP),
            "meta mark set 0x5"
        );
        assert_eq!(
            text(true, "MARK", 1, &[5, 0, 0, 0, 255, 255, 255, 255], Family::IP),
            "xt target MARK"
        );
    }
}
