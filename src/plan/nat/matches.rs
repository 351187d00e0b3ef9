//! What our rules look at and do, as the expressions that nft makes of the same words.

use std::net::Ipv4Addr;

use crate::net::{IfName, Ipv4Prefix};
use crate::nft::build::{
    IPV4, and, any_bit, cmp, ct_status, equal, ifname, immediate, load_meta, load_network,
    load_transport, meta_l4proto, meta_nfproto,
};
use crate::nft::expr::{CmpOp, Extension, NatKind, ct};
use crate::nft::names::key::rt;
use crate::nft::{Expr, Rule, Verdict};

use super::version::Version;

/// IPS_DST_NAT, in the host's byte order.
const STATUS_DNAT: u32 = 0x20;
/// NF_CT_STATE_INVALID_BIT, NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
pub(super) const INVALID: u32 = 1;
pub(super) const ESTABLISHED: u32 = 2;
pub(super) const RELATED: u32 = 4;
/// NF_CT_STATE_UNTRACKED_BIT.
pub(super) const UNTRACKED: u32 = 0x40;
/// IP_CT_DIR_ORIGINAL and _REPLY.
const ORIGINAL: u8 = 0;
const REPLY: u8 = 1;
pub(super) const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// Octets of an IPv6 address.
pub(super) const ADDRESS: u32 = 16;
const TCP_SYN: u8 = 2;

/// `ip saddr …` or `ip daddr …`
pub(super) fn address(offset: u32, op: CmpOp, address: Ipv4Addr) -> Vec<Expr> {
    let mut exprs = meta_nfproto(IPV4).to_vec();
    exprs.extend(field(offset, op, address));
    exprs
}

/// The same, of a packet that is known to be IPv4's.
pub(super) fn field(offset: u32, op: CmpOp, address: Ipv4Addr) -> [Expr; 2] {
    [load_network(offset, 4), cmp(op, address.octets().to_vec())]
}

pub(super) fn interface(key: u32, op: CmpOp, name: &IfName) -> Vec<Expr> {
    vec![load_meta(key), cmp(op, ifname(name.as_str()))]
}

/// `icmp type echo-request`
pub(super) fn echo_request() -> Vec<Expr> {
    [meta_l4proto(ICMP), equal(load_transport(0, 1), vec![ECHO_REQUEST])].concat()
}

/// `ct original ip saddr != … ct reply ip saddr != …`: a connection that this address is no end of.
pub(super) fn not_of(end: Ipv4Addr) -> Vec<Expr> {
    let from = |direction| {
        [
            Expr::Ct { key: ct::SRC_IP, dreg: 1, direction: Some(direction) },
            cmp(CmpOp::Neq, end.octets().to_vec()),
        ]
    };
    [ORIGINAL, REPLY].into_iter().flat_map(from).collect()
}

/// `ip saddr` or `ip daddr` within a network.
pub(super) fn within(offset: u32, network: Ipv4Prefix) -> Vec<Expr> {
    let mut exprs = meta_nfproto(IPV4).to_vec();
    let mask = network.mask().octets();
    exprs.extend([
        load_network(offset, 4),
        and(mask.to_vec()),
        cmp(CmpOp::Eq, network.network().octets().to_vec()),
    ]);
    exprs
}

/// `counter drop`
pub(super) fn dropped() -> [Expr; 2] {
    [Expr::counter(), Expr::verdict(Verdict::Drop)]
}

/// `ct status dnat`
pub(super) fn was_dnat() -> [Expr; 3] {
    ct_status(STATUS_DNAT)
}

/// `snat ip to …` or `dnat ip to …`, all protocols.
pub(super) fn nat(kind: NatKind, version: Version, to: Vec<u8>) -> [Expr; 2] {
    [
        immediate(1, to),
        Expr::Nat {
            kind,
            family: u32::from(version.nfproto()),
            addr: Some(1),
            addr_max: None,
            port: None,
            port_max: None,
            flags: 0,
        },
    ]
}

pub(super) fn masquerade() -> Expr {
    Expr::Masquerade { port: None, port_max: None, flags: 0 }
}

/// `snat ip to …:FIRST-LAST`, or `masquerade to :FIRST-LAST`; of a packet that has ports.
pub(super) fn from_ports(
    version: Version,
    to: Option<Vec<u8>>,
    (first, last): (u16, u16),
) -> Vec<Expr> {
    let port = |dreg, port: u16| immediate(dreg, port.to_be_bytes().to_vec());
    match to {
        Some(to) => vec![
            immediate(1, to),
            port(2, first),
            port(3, last),
            Expr::Nat {
                kind: NatKind::Snat,
                family: u32::from(version.nfproto()),
                addr: Some(1),
                addr_max: None,
                port: Some(2),
                port_max: Some(3),
                flags: 0,
            },
        ],
        None => {
            vec![
                port(1, first),
                port(2, last),
                Expr::Masquerade { port: Some(1), port_max: Some(2), flags: 0 },
            ]
        }
    }
}

/// `tcp flags syn counter tcp option maxseg size set rt mtu`: SYN and SYN-ACK; the kernel only ever lowers it.
pub(super) fn clamp(key: u32, bridge: &IfName, comment: &str) -> Rule {
    let mut exprs = interface(key, CmpOp::Eq, bridge);
    exprs.extend(meta_l4proto(TCP));
    exprs.extend(any_bit(load_transport(13, 1), vec![TCP_SYN]));
    exprs.extend([
        Expr::counter(),
        Expr::Rt { key: rt::TCPMSS, dreg: 1 },
        Expr::Byteorder { sreg: 1, dreg: 1, hton: true, len: 2, size: 2 },
        Expr::ExthdrSet {
            field: Extension { space: 1, kind: 2, offset: 2, len: 2, flags: 0 },
            sreg: 1,
        },
    ]);
    Rule::new(exprs, comment)
}
