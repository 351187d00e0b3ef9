//! Expressions of the rules that are made here, by the words nft has for them. Register 1 holds what is looked at.

use super::Data;
use super::expr::{CmpOp, Expr, Register, base, ct, meta};

/// NFPROTO_IPV4, _IPV6.
pub const IPV4: u8 = 2;
pub const IPV6: u8 = 10;

/// `meta KEY`
pub(crate) fn load_meta(key: u32) -> Expr {
    Expr::Meta { key, dreg: 1 }
}

/// `ct KEY`, of the flow whichever way it goes.
pub(crate) fn load_ct(key: u32) -> Expr {
    Expr::Ct { key, dreg: 1, direction: None }
}

/// `@nh,OFFSET,LEN`, both in octets.
pub(crate) fn load_network(offset: u32, len: u32) -> Expr {
    Expr::Payload { base: base::NETWORK, offset, len, dreg: 1 }
}

/// `@th,OFFSET,LEN`, both in octets.
pub(crate) fn load_transport(offset: u32, len: u32) -> Expr {
    Expr::Payload { base: base::TRANSPORT, offset, len, dreg: 1 }
}

/// `== DATA` and its like.
pub fn cmp(op: CmpOp, data: Vec<u8>) -> Expr {
    Expr::Cmp { sreg: 1, op, data }
}

pub fn equal(load: Expr, data: Vec<u8>) -> [Expr; 2] {
    [load, cmp(CmpOp::Eq, data)]
}

/// `& MASK`
pub fn and(mask: Vec<u8>) -> Expr {
    let len = u32::try_from(mask.len()).unwrap_or(0);
    Expr::Bitwise { sreg: 1, dreg: 1, len, xor: vec![0; mask.len()], mask }
}

/// One of these bits is set.
pub(crate) fn any_bit(load: Expr, bits: Vec<u8>) -> [Expr; 3] {
    let none = vec![0; bits.len()];
    [load, and(bits), cmp(CmpOp::Neq, none)]
}

pub fn immediate(dreg: Register, value: Vec<u8>) -> Expr {
    Expr::Immediate { dreg, data: Data::Value(value) }
}

/// `meta nfproto ipv4`, or `ipv6`
pub(crate) fn meta_nfproto(family: u8) -> [Expr; 2] {
    equal(load_meta(meta::NFPROTO), vec![family])
}

/// `meta l4proto …`
pub(crate) fn meta_l4proto(protocol: u8) -> [Expr; 2] {
    equal(load_meta(meta::L4PROTO), vec![protocol])
}

/// `ct state …`: one of them.
pub fn ct_state(bits: u32) -> [Expr; 3] {
    any_bit(load_ct(ct::STATE), bits.to_ne_bytes().to_vec())
}

/// `ct status …`: one of them.
pub fn ct_status(bits: u32) -> [Expr; 3] {
    any_bit(load_ct(ct::STATUS), bits.to_ne_bytes().to_vec())
}

/// The name of an interface, as a register holds it.
pub fn ifname(name: &str) -> Vec<u8> {
    let mut octets = name.as_bytes().to_vec();
    octets.resize(16, 0);
    octets
}

/// So many ones, then zeros; None when they are more than the octets hold.
pub(crate) fn prefix_mask(octets: usize, length: u32) -> Option<Vec<u8>> {
    let mut left = length;
    let mut mask = Vec::new();
    for _ in 0..octets {
        let bits = left.min(8);
        mask.push(u8::try_from(0xff00_u32 >> bits & 0xff).ok()?);
        left -= bits;
    }
    (left == 0).then_some(mask)
}
