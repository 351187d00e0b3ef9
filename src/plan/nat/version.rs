//! A version of IP: where its header has what.

use crate::nft::build::{
    IPV4, IPV6, any_bit, cmp, equal, immediate, load_meta, load_network, meta_nfproto,
};
use crate::nft::expr::{CmpOp, Extension, base, meta};
use crate::nft::{Expr, Family, set};

/// Headers of IPv6 before the transport's (RFC 8200 §4.3, §4.5).
pub(super) const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
/// Of IPv4 (RFC 791 §3.1): flags and offset, 13 bits of them in units of eight octets.
const FRAGMENT_OFFSET: u32 = 6;
/// Offsets in the IPv4 header.
pub(super) const SADDR: u32 = 12;
pub(super) const DADDR: u32 = 16;
/// Of the IPv6 header (RFC 8200 §3).
pub(super) const SADDR6: u32 = 8;
pub(super) const DADDR6: u32 = 24;
/// A version of IP: where its header has what, and how nft calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Four,
    Six,
}

impl Version {
    pub fn saddr(self) -> u32 {
        if self == Self::Four { SADDR } else { SADDR6 }
    }

    pub fn daddr(self) -> u32 {
        if self == Self::Four { DADDR } else { DADDR6 }
    }

    /// Octets of an address.
    pub fn octets(self) -> u32 {
        if self == Self::Four { 4 } else { 16 }
    }

    /// Time to live, or hop limit.
    pub fn ttl(self) -> u32 {
        if self == Self::Four { 8 } else { 7 }
    }

    pub fn nfproto(self) -> u8 {
        if self == Self::Four { IPV4 } else { IPV6 }
    }

    /// ETH_P_IP, ETH_P_IPV6 (linux/if_ether.h).
    pub fn ethertype(self) -> Vec<u8> {
        if self == Self::Four { vec![0x08, 0x00] } else { vec![0x86, 0xdd] }
    }

    /// Of a set of addresses.
    pub fn set_type(self) -> u32 {
        if self == Self::Four { set::IPV4_ADDR } else { set::IPV6_ADDR }
    }

    pub fn family(self) -> Family {
        if self == Self::Four { Family::IP } else { Family::IP6 }
    }

    /// As people say it.
    pub fn name(self) -> &'static str {
        if self == Self::Four { "IPv4" } else { "IPv6" }
    }

    /// Of a chain or set of the table that both share.
    pub fn named(self, name: &str) -> String {
        if self == Self::Four { format!("{name}4") } else { name.to_owned() }
    }

    /// What the guest sends on has it between tap and uplink: the pod's own packets have not. Each version has one of its
    /// own, since the chains of both see each packet.
    pub fn mark(self) -> Vec<u8> {
        let mark: u32 = if self == Self::Four { 0x6265_7234 } else { 0x6265_7274 };
        mark.to_ne_bytes().to_vec()
    }

    /// `ip6 saddr …` or `ip6 daddr …`, of any packet.
    pub fn has(self, offset: u32, address: Vec<u8>) -> Vec<Expr> {
        let mut exprs = meta_nfproto(self.nfproto()).to_vec();
        exprs.extend([self.load(offset), cmp(CmpOp::Eq, address)]);
        exprs
    }

    /// `meta protocol ip6`
    pub fn protocol(self) -> [Expr; 2] {
        equal(load_meta(meta::PROTOCOL), self.ethertype())
    }

    /// `ip6 saddr` or `ip6 daddr`
    pub fn load(self, offset: u32) -> Expr {
        load_network(offset, self.octets())
    }

    /// `meta protocol ip ip frag-off & BITS != 0`
    fn fragment(self, bits: Vec<u8>) -> Vec<Expr> {
        let mut exprs = self.protocol().to_vec();
        exprs.extend(any_bit(load_network(FRAGMENT_OFFSET, 2), bits));
        exprs
    }

    /// A part of a packet.
    pub fn part(self) -> Vec<Expr> {
        match self {
            Self::Four => self.fragment(vec![0x3f, 0xff]),
            Self::Six => present(FRAGMENT),
        }
    }

    /// A part of a packet, and not its first.
    pub fn later_part(self) -> Vec<Expr> {
        match self {
            Self::Four => self.fragment(vec![0x1f, 0xff]),
            Self::Six => {
                let field = Extension { space: 0, kind: FRAGMENT, offset: 2, len: 2, flags: 0 };
                any_bit(Expr::Exthdr { field, dreg: 1 }, vec![0xff, 0xf8]).to_vec()
            }
        }
    }

    /// `ip6 saddr set …` or `ip6 daddr set …`, with the checksums that cover it.
    pub fn written(self, offset: u32, address: Vec<u8>) -> [Expr; 2] {
        let len = self.octets();
        // NFT_PAYLOAD_CSUM_INET at its place in the header of IPv4; IPv6's has none.
        let (csum_type, csum_offset) = if self == Self::Four { (1, 10) } else { (0, 0) };
        let base = base::NETWORK;
        let set = Expr::PayloadSet {
            base,
            offset,
            len,
            sreg: 1,
            csum_type,
            csum_offset,
            // NFT_PAYLOAD_L4CSUM_PSEUDOHDR.
            csum_flags: 1,
        };
        [immediate(1, address), set]
    }
}

/// `exthdr frag exists`, or of another header before the transport's.
pub(super) fn present(kind: u8) -> Vec<Expr> {
    let field = Extension { space: 0, kind, offset: 0, len: 1, flags: 1 };
    vec![Expr::Exthdr { field, dreg: 1 }, cmp(CmpOp::Eq, vec![1])]
}
