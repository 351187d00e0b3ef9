//! What the machine says of itself: interfaces, local addresses, and answers to questions about routes.
//!
//! Nothing is looked up here: a question without an answer stops the walk, the caller finds it out and begins anew.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Scope "global" of an address or route (`enum rt_scope_t`).
pub const UNIVERSE: u8 = 0;

/// `enum rtn_type`, as `fib … type` has them.
pub mod kind {
    /// RTN_UNICAST.
    pub const UNICAST: u8 = 1;
    /// RTN_LOCAL.
    pub const LOCAL: u8 = 2;
    /// RTN_BROADCAST.
    pub const BROADCAST: u8 = 3;
    pub(crate) const MULTICAST: u8 = 5;
    pub(crate) const UNREACHABLE: u8 = 7;
}

/// Of this network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's, from 1.
    pub index: u32,
    /// 15 octets at most.
    pub name: String,
    /// ARPHRD number: 1 Ethernet, 772 loopback.
    pub arp_type: u16,
    /// Of the interface; 0 is the default.
    pub group: u32,
    /// `veth`, `bridge`, …; empty for hardware.
    pub kind: String,
    /// Its address, of Ethernet.
    pub ether: Option<[u8; 6]>,
    /// Index of the bridge or bond it is a port of.
    pub master: Option<u32>,
    /// In the order the kernel has them.
    pub addresses: Vec<Address>,
}

/// Of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Itself.
    pub address: IpAddr,
    /// Bits of its network.
    pub length: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// Another of the same network was there before.
    pub secondary: bool,
}

/// An entry of the table `local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalRoute {
    /// Of the network.
    pub address: IpAddr,
    /// Bits of the network.
    pub length: u8,
    /// See [`kind`].
    pub kind: u8,
    /// Index of the interface.
    pub link: u32,
}

/// What is to be asked with RTM_GETROUTE. With `iif`, as for a packet that comes in there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// Source; None lets the kernel choose.
    pub from: Option<IpAddr>,
    /// Destination.
    pub to: IpAddr,
    /// Index of the interface it came by.
    pub iif: Option<u32>,
    /// Index of the interface it is bound to.
    pub oif: Option<u32>,
    /// `skb->mark`.
    pub mark: u32,
}

/// What the routing tables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// There is a way.
    To {
        /// See [`kind`].
        kind: u8,
        /// 0 for none.
        link: u32,
        /// None where the destination is on the link.
        gateway: Option<IpAddr>,
        /// The address a packet from here gets.
        source: Option<IpAddr>,
    },
    /// The packet goes nowhere; why.
    None(String),
}

/// What a packet is routed by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// All of them.
    pub interfaces: Vec<Interface>,
    /// The routing table `local`.
    pub local: Vec<LocalRoute>,
    /// Answers so far.
    pub routes: BTreeMap<Question, Route>,
    /// Rates, quotas and the like are taken as not exceeded.
    pub within_limits: bool,
}

impl World {
    /// By index.
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    /// By name.
    pub fn named(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The answer, or the question that is to be asked first.
    pub fn route(&self, question: &Question) -> Result<&Route, Question> {
        self.routes.get(question).ok_or_else(|| question.clone())
    }

    /// Type of an address (`inet_dev_addr_type` in the kernel): the longest match in the table `local`, and none
    /// but that of `link` when it is given.
    pub fn kind_of(&self, address: IpAddr, link: Option<u32>) -> u8 {
        match address {
            IpAddr::V4(v4) if v4.is_multicast() => return kind::MULTICAST,
            IpAddr::V4(v4) if v4.is_broadcast() || v4.is_unspecified() => return kind::BROADCAST,
            IpAddr::V6(v6) if v6.is_multicast() => return kind::MULTICAST,
            _ => {}
        }
        let entries = self.local.iter().filter(|route| route.covers(address));
        let longest = entries.max_by_key(|route| route.length);
        match longest {
            Some(route) if link.is_none_or(|link| link == route.link) => route.kind,
            _ => kind::UNICAST,
        }
    }
}

impl LocalRoute {
    fn covers(&self, address: IpAddr) -> bool {
        within(address, self.address, self.length)
    }
}

/// Whether the first `length` bits are the same.
pub(super) fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(length.into());
        (a ^ b).checked_shr(shift).unwrap_or(0) == 0
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}
