//! Addresses that are the guest's own, of either version of IP, as the rules see them.

use crate::net::{Ipv4Prefix, Ipv6Prefix};
use crate::nft::Expr;
use crate::nft::build::{and, cmp, load_network, prefix_mask};
use crate::nft::expr::CmpOp;
use crate::plan::ipv4::Own4;
use crate::plan::ipv6::{NETWORK, Own, ROUTER};

use super::version::Version;

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
