//! What our rules look at and do, as the expressions that nft makes of the same words.

use std::net::Ipv4Addr;

use crate::net::{IfName, Ipv4Prefix};
use crate::nft::expr::{CmpOp, Extension, NatKind, base, ct, meta};
use crate::nft::{Data, Expr, Rule, Verdict};

pub(super) const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Offsets in the IPv4 header.
pub(super) const SADDR: u32 = 12;
pub(super) const DADDR: u32 = 16;
/// IPS_DST_NAT, in the host's byte order.
const STATUS_DNAT: u32 = 0x20;
/// NF_CT_STATE_INVALID_BIT, NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
pub(super) const INVALID: u32 = 1;
pub(super) const ESTABLISHED: u32 = 2;
pub(super) const RELATED: u32 = 4;
/// IP_CT_DIR_ORIGINAL and _REPLY.
const ORIGINAL: u8 = 0;
const REPLY: u8 = 1;
const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
pub(super) const TCP: u8 = 6;
const TCP_SYN: u8 = 2;
/// NFT_RT_TCPMSS.
const RT_TCPMSS: u32 = 3;

/// `meta nfproto ipv4`
pub(super) fn nfproto() -> Vec<Expr> {
    vec![
        Expr::Meta { key: meta::NFPROTO, dreg: 1 },
        Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![AF_INET] },
    ]
}

/// `meta l4proto …`
pub(super) fn protocol(number: u8) -> Vec<Expr> {
    vec![Expr::Meta { key: meta::L4PROTO, dreg: 1 }, Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![number] }]
}

/// `ip saddr …` or `ip daddr …`
pub(super) fn address(offset: u32, op: CmpOp, address: Ipv4Addr) -> Vec<Expr> {
    let mut exprs = nfproto();
    exprs.extend(field(offset, op, address));
    exprs
}

/// The same, of a packet that is known to be IPv4's.
pub(super) fn field(offset: u32, op: CmpOp, address: Ipv4Addr) -> [Expr; 2] {
    [
        Expr::Payload { base: base::NETWORK, offset, len: 4, dreg: 1 },
        Expr::Cmp { sreg: 1, op, data: address.octets().to_vec() },
    ]
}

pub(super) fn interface(key: u32, op: CmpOp, name: &IfName) -> Vec<Expr> {
    vec![Expr::Meta { key, dreg: 1 }, Expr::Cmp { sreg: 1, op, data: name_of(name.as_str()) }]
}

/// An interface's name, as a register holds it.
pub(super) fn name_of(interface: &str) -> Vec<u8> {
    let mut name = interface.as_bytes().to_vec();
    name.resize(16, 0);
    name
}

/// `meta nfproto ipv6`
pub(super) fn nfproto6() -> [Expr; 2] {
    [Expr::Meta { key: meta::NFPROTO, dreg: 1 }, Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![AF_INET6] }]
}

/// `icmp type echo-request`
pub(super) fn echo_request() -> Vec<Expr> {
    let mut exprs = protocol(ICMP);
    exprs.push(Expr::Payload { base: base::TRANSPORT, offset: 0, len: 1, dreg: 1 });
    exprs.push(Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: vec![ECHO_REQUEST] });
    exprs
}

/// `ct state …`: one of them.
pub(super) fn state(bits: u32) -> [Expr; 3] {
    [
        Expr::Ct { key: ct::STATE, dreg: 1, direction: None },
        Expr::Bitwise { sreg: 1, dreg: 1, len: 4, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0; 4] },
    ]
}

/// `ct original ip saddr != … ct reply ip saddr != …`: a connection that this address is no end of.
pub(super) fn not_of(end: Ipv4Addr) -> Vec<Expr> {
    let from = |direction| {
        [
            Expr::Ct { key: ct::SRC_IP, dreg: 1, direction: Some(direction) },
            Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: end.octets().to_vec() },
        ]
    };
    [ORIGINAL, REPLY].into_iter().flat_map(from).collect()
}

/// `ip saddr` or `ip daddr` within a network.
pub(super) fn within(offset: u32, network: Ipv4Prefix) -> Vec<Expr> {
    let mut exprs = nfproto();
    let mask = network.mask().octets();
    exprs.extend([
        Expr::Payload { base: base::NETWORK, offset, len: 4, dreg: 1 },
        Expr::Bitwise { sreg: 1, dreg: 1, len: 4, mask: mask.to_vec(), xor: vec![0; 4] },
        Expr::Cmp { sreg: 1, op: CmpOp::Eq, data: network.network().octets().to_vec() },
    ]);
    exprs
}

/// `counter drop`
pub(super) fn dropped() -> [Expr; 2] {
    [Expr::counter(), Expr::verdict(Verdict::Drop)]
}

/// `ct status dnat`
pub(super) fn was_dnat() -> Vec<Expr> {
    vec![
        Expr::Ct { key: ct::STATUS, dreg: 1, direction: None },
        Expr::Bitwise { sreg: 1, dreg: 1, len: 4, mask: STATUS_DNAT.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0; 4] },
    ]
}

/// `snat ip to …` or `dnat ip to …`, all protocols.
pub(super) fn nat(kind: NatKind, to: Ipv4Addr) -> [Expr; 2] {
    [
        Expr::Immediate { dreg: 1, data: Data::Value(to.octets().to_vec()) },
        Expr::Nat {
            kind,
            family: u32::from(AF_INET),
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
pub(super) fn from_ports(to: Option<Ipv4Addr>, (first, last): (u16, u16)) -> Vec<Expr> {
    let port = |dreg, port: u16| Expr::Immediate { dreg, data: Data::Value(port.to_be_bytes().to_vec()) };
    match to {
        Some(to) => vec![
            Expr::Immediate { dreg: 1, data: Data::Value(to.octets().to_vec()) },
            port(2, first),
            port(3, last),
            Expr::Nat {
                kind: NatKind::Snat,
                family: u32::from(AF_INET),
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
    exprs.extend(protocol(TCP));
    exprs.extend([
        Expr::Payload { base: base::TRANSPORT, offset: 13, len: 1, dreg: 1 },
        Expr::Bitwise { sreg: 1, dreg: 1, len: 1, mask: vec![TCP_SYN], xor: vec![0] },
        Expr::Cmp { sreg: 1, op: CmpOp::Neq, data: vec![0] },
        Expr::counter(),
        Expr::Rt { key: RT_TCPMSS, dreg: 1 },
        Expr::Byteorder { sreg: 1, dreg: 1, hton: true, len: 2, size: 2 },
        Expr::ExthdrSet { field: Extension { space: 1, kind: 2, offset: 2, len: 2, flags: 0 }, sreg: 1 },
    ]);
    Rule::new(exprs, comment)
}
