//! What nft calls the things a register can be loaded from, and how their values are written.

use super::super::expr::{Extension, ct, meta};
use super::value::{self, Kind};

/// Whether a match on the field says which protocol a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    NetworkProtocol,
    TransportProtocol,
    None,
}

pub fn meta_field(key: u32) -> (String, Kind, Role) {
    let (name, kind, role) = match key {
        meta::LEN => ("meta length", Kind::Host, Role::None),
        meta::PROTOCOL => ("meta protocol", Kind::Raw, Role::None),
        meta::MARK => ("meta mark", Kind::Mark, Role::None),
        meta::IIF => ("iif", Kind::Host, Role::None),
        meta::OIF => ("oif", Kind::Host, Role::None),
        meta::IIFNAME => ("iifname", Kind::IfName, Role::None),
        meta::OIFNAME => ("oifname", Kind::IfName, Role::None),
        meta::IIFTYPE => ("meta iiftype", Kind::Host, Role::None),
        meta::NFPROTO => ("meta nfproto", value::FAMILIES, Role::NetworkProtocol),
        meta::L4PROTO => ("meta l4proto", Kind::Protocol, Role::TransportProtocol),
        other => return (format!("<meta {other}>"), Kind::Raw, Role::None),
    };
    (name.to_owned(), kind, role)
}

pub fn ct_field(key: u32) -> (String, Kind) {
    let (name, kind) = match key {
        ct::STATE => ("state", value::STATES),
        ct::DIRECTION => ("direction", Kind::Words(&[(0, "original"), (1, "reply")])),
        ct::STATUS => ("status", value::STATUS),
        ct::MARK => ("mark", Kind::Mark),
        other => return (format!("<{other}>"), Kind::Raw),
    };
    (name.to_owned(), kind)
}

pub fn fib_field(result: u32, flags: u32) -> (String, Kind) {
    let names = [(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (0x10, "oif")];
    let by: Vec<&str> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    let (name, kind) = match result {
        1 => ("oif", Kind::Host),
        2 => ("oifname", Kind::IfName),
        3 => ("type", value::FIB_TYPES),
        _ => ("<unknown>", Kind::Raw),
    };
    (format!("fib {} {name}", by.join(" . ")), kind)
}

pub fn link_field(offset: u32, len: u32) -> Option<(&'static str, Kind)> {
    Some(match (offset, len) {
        (0, 6) => ("ether daddr", Kind::Ether),
        (6, 6) => ("ether saddr", Kind::Ether),
        _ => return None,
    })
}

pub fn ipv4_field(offset: u32, len: u32) -> Option<(&'static str, Kind)> {
    Some(match (offset, len) {
        (8, 1) => ("ip ttl", Kind::Port),
        (9, 1) => ("ip protocol", Kind::Protocol),
        (12, 1..=4) => ("ip saddr", Kind::Ipv4),
        (16, 1..=4) => ("ip daddr", Kind::Ipv4),
        _ => return None,
    })
}

pub fn ipv6_field(offset: u32, len: u32) -> Option<(&'static str, Kind)> {
    Some(match (offset, len) {
        (6, 1) => ("ip6 nexthdr", Kind::Protocol),
        (8, 1..=16) => ("ip6 saddr", Kind::Ipv6),
        (24, 1..=16) => ("ip6 daddr", Kind::Ipv6),
        _ => return None,
    })
}

pub fn transport_field(protocol: u8, offset: u32, len: u32) -> Option<(&'static str, Kind)> {
    Some(match (protocol, offset, len) {
        (6, 0, 2) => ("tcp sport", Kind::Port),
        (6, 2, 2) => ("tcp dport", Kind::Port),
        (6, 13, 1) => ("tcp flags", value::TCP_FLAGS),
        (17, 0, 2) => ("udp sport", Kind::Port),
        (17, 2, 2) => ("udp dport", Kind::Port),
        (17, 6, 2) => ("udp checksum", Kind::Port),
        (132, 0, 2) => ("sctp sport", Kind::Port),
        (132, 2, 2) => ("sctp dport", Kind::Port),
        _ => return None,
    })
}

pub fn extension_text(field: &Extension) -> String {
    match (field.space, field.kind, field.offset, field.len) {
        (1, 2, 2, 2) => "tcp option maxseg size".to_owned(),
        (space, kind, offset, len) => {
            let space = ["exthdr", "tcp option", "ip option", "sctp chunk", "dccp option"]
                .get(space as usize)
                .copied()
                .unwrap_or("exthdr");
            format!("{space} @{kind},{},{}", offset.saturating_mul(8), len.saturating_mul(8))
        }
    }
}

pub fn nat_flags(flags: u32) -> String {
    let names = [(4, "random"), (0x10, "fully-random"), (8, "persistent")];
    let set: Vec<&str> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { String::new() } else { format!(" {}", set.join(",")) }
}
