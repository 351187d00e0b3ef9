//! Addresses that are the guest's own, of either version of IP, as the rules see them.

use crate::net::{Ipv4Prefix, Ipv6Prefix};
use crate::nft::build::{
    IPV4, IPV6, and, any_bit, cmp, equal, immediate, load_meta, load_network, prefix_mask,
};
use crate::nft::expr::{CmpOp, Extension, base, meta};
use crate::nft::{Expr, Family, set};
use crate::plan::ipv4::Own4;
use crate::plan::ipv6::{NETWORK, Own, ROUTER};

use super::matches::{DADDR, DADDR6, SADDR, SADDR6};

/// Headers of IPv6 before the transport's (RFC 8200 §4.3, §4.5).
pub(super) const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
/// Of IPv4 (RFC 791 §3.1): flags and offset, 13 bits of them in units of eight octets.
const FRAGMENT_OFFSET: u32 = 6;
/// fe80::/10 and ff00::/8 (RFC 4291 §2.4).
pub(super) const LINK_LOCAL: Ipv6Prefix = Ipv6Prefix { address: ROUTER, length: 10 };
pub(super) const MULTICAST: Ipv6Prefix =
    Ipv6Prefix { address: std::net::Ipv6Addr::from_bits(0xff << 120), length: 8 };
/// RFC 1112 §4, RFC 919.
const MULTICAST4: Ipv4Prefix =
    Ipv4Prefix { address: std::net::Ipv4Addr::new(224, 0, 0, 0), length: 4 };
const BROADCAST4: Ipv4Prefix = Ipv4Prefix { address: std::net::Ipv4Addr::BROADCAST, length: 32 };

/// Neither sent from nor to on a link (RFC 1122 §3.2.1.3, RFC 6890): 0/8, 127/8, 240/4; groups and these, as senders.
const THIS_NETWORK: Ipv4Prefix = Ipv4Prefix { address: std::net::Ipv4Addr::UNSPECIFIED, length: 8 };
const LOOPBACK4: Ipv4Prefix =
    Ipv4Prefix { address: std::net::Ipv4Addr::new(127, 0, 0, 0), length: 8 };
const RESERVED4: Ipv4Prefix =
    Ipv4Prefix { address: std::net::Ipv4Addr::new(240, 0, 0, 0), length: 4 };
const NO_SENDER: Ipv4Prefix =
    Ipv4Prefix { address: std::net::Ipv4Addr::new(224, 0, 0, 0), length: 3 };

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

/// A network: its first address, and the length of its prefix.
#[derive(Debug, Clone)]
pub(super) struct Network {
    first: Vec<u8>,
    length: u8,
    words: String,
}

impl Network {
    /// Whether an address at this place of the header is one of it.
    pub fn within(&self, offset: u32) -> Vec<Expr> {
        let len = self.first.len();
        let load = load_network(offset, u32::try_from(len).unwrap_or(0));
        let is_it = cmp(CmpOp::Eq, self.first.clone());
        match self.length {
            0 => Vec::new(),
            whole if usize::from(whole) == len * 8 => vec![load, is_it],
            length => {
                let mask = prefix_mask(len, length.into()).unwrap_or_default();
                vec![load, and(mask), is_it]
            }
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl From<Ipv4Prefix> for Network {
    fn from(prefix: Ipv4Prefix) -> Self {
        let first = prefix.network().octets().to_vec();
        Self { first, length: prefix.length, words: prefix.to_string() }
    }
}

impl From<Ipv6Prefix> for Network {
    fn from(prefix: Ipv6Prefix) -> Self {
        let first = prefix.network().octets().to_vec();
        Self { first, length: prefix.length, words: prefix.to_string() }
    }
}

/// A way to a network.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub to: Network,
    /// None: it is on the link.
    pub gateway: Option<Vec<u8>>,
    /// Of the link; None where it leads nowhere.
    pub index: Option<u32>,
    pub link: String,
}

/// What the guest owns of one version.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub version: Version,
    /// The pod's addresses.
    pub pod: Vec<Vec<u8>>,
    /// What packets to the guest are handed to.
    pub alias: Vec<u8>,
    /// Networks whose senders nobody beyond the uplink is: those between pod and guest, and the link's own.
    pub inner: Vec<Network>,
    /// What the guest sends to its own link, and the pod.
    pub near: Vec<(Network, &'static str)>,
    /// The longest prefix first.
    pub routes: Vec<Way>,
}

impl From<&Own> for Owned {
    fn from(own: &Own) -> Self {
        let way = |route: &crate::facts::Route6| Way {
            to: route.to.into(),
            gateway: route.gateway.map(|address| address.octets().to_vec()),
            index: (!route.leads_nowhere).then_some(route.index),
            link: route.link.to_string(),
        };
        Self {
            version: Version::Six,
            pod: own.pod.iter().map(|pod| pod.octets().to_vec()).collect(),
            alias: own.alias().octets().to_vec(),
            inner: vec![NETWORK.into(), LINK_LOCAL.into()],
            near: vec![
                (MULTICAST.into(), "to a group"),
                (LINK_LOCAL.into(), "to a link-local address"),
                (NETWORK.into(), "to the pod"),
            ],
            routes: own.routes.iter().map(way).collect(),
        }
    }
}

impl From<&Own4> for Owned {
    fn from(own: &Own4) -> Self {
        let way = |route: &crate::facts::Route4| Way {
            to: route.to.into(),
            gateway: route.gateway.map(|address| address.octets().to_vec()),
            index: (!route.leads_nowhere).then_some(route.index),
            link: route.link.to_string(),
        };
        // No kernel sends these on, nor what is to all of a network that the pod is on.
        let to_all =
            own.routes.iter().filter(|route| route.gateway.is_none() && route.to.length < 31);
        let to_all = to_all.map(|route| Ipv4Prefix { address: route.to.broadcast(), length: 32 });
        let nowhere = to_all.chain([THIS_NETWORK, LOOPBACK4, RESERVED4]).map(|to| Way {
            to: to.into(),
            gateway: None,
            index: None,
            link: String::new(),
        });
        Self {
            version: Version::Four,
            pod: vec![own.pod.octets().to_vec()],
            alias: own.alias.octets().to_vec(),
            inner: [own.network, THIS_NETWORK, LOOPBACK4, NO_SENDER].map(Network::from).to_vec(),
            near: vec![
                (MULTICAST4.into(), "to a group"),
                (BROADCAST4.into(), "to all of its link"),
                (own.network.into(), "to the pod"),
            ],
            routes: nowhere.chain(own.routes.iter().map(way)).collect(),
        }
    }
}
