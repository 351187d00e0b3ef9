//! Where the pod's own packets go besides its uplink: further interfaces, and rules of policy routing (ip-rule(8)).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::net::{IfName, Ipv4Prefix, Ipv6Prefix};

/// Where the pod's own packets go besides the uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Routing {
    /// Links with an IPv4 address or route that are neither loopback, uplink, bridge nor tap; by name.
    pub further: Vec<Further>,
    /// Rules of policy routing but ours and the three that every namespace has, in the kernel's order.
    pub rules: Vec<RoutingRule>,
    /// IPv4 unicast routes of the main table, the longest prefix first, one for each prefix; none by our own links. Only
    /// where the guest's packets go by them.
    pub main: Vec<Route4>,
    /// Where the main table leads by others' links within the guest's network, or around it.
    pub shadowed: Vec<Ipv4Prefix>,
    /// `net.ipv4.ip_forward`: the pod is a router already.
    pub ip_forward: bool,
    /// Some link has a global IPv6 address.
    pub ipv6: bool,
}

/// So many routes are kept, those of the shortest prefixes: each is a rule, and what has more is somebody's router.
pub const MAX_ROUTES: usize = 64;

/// A route (ip-route(8)) to a network, by a gateway's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route<N, A> {
    pub to: N,
    /// None: the destination is on the link.
    pub gateway: Option<A>,
    pub link: IfName,
    /// Of the link.
    pub index: u32,
    /// A route that says that there is none (blackhole, unreachable, prohibit).
    pub leads_nowhere: bool,
}

/// Of IPv4.
pub type Route4 = Route<Ipv4Prefix, Ipv4Addr>;
/// Of IPv6.
pub type Route6 = Route<Ipv6Prefix, Ipv6Addr>;

/// One more interface of the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Further {
    pub name: IfName,
    pub addresses: Vec<Ipv4Prefix>,
    /// Destinations of its routes, the first of many.
    pub networks: Vec<Ipv4Prefix>,
}

/// A rule of policy routing as `ip rule` tells it (ip-rule(8), linux/fib_rules.h): what a packet has to be, and the
/// table it is looked up in then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RoutingRule {
    pub priority: u32,
    pub table: u32,
    /// It holds for all packets but those.
    pub inverted: bool,
    pub from: Option<Ipv4Prefix>,
    pub to: Option<Ipv4Prefix>,
    pub iif: Option<String>,
    pub oif: Option<String>,
    pub mark: Option<u32>,
    /// Only for sockets of some users.
    pub uids: bool,
    /// FR_ACT_*.
    pub action: u8,
    pub tos: u8,
    /// Everything else, the mark too, as the kernel wrote it: carried over unread.
    #[serde(skip)]
    pub rest: Vec<u8>,
}

impl fmt::Display for RoutingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.priority, if self.inverted { " not" } else { "" })?;
        match self.from {
            Some(from) => write!(f, " from {from}")?,
            None => write!(f, " from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(name) = &self.iif {
            write!(f, " iif {name}")?;
        }
        if let Some(name) = &self.oif {
            write!(f, " oif {name}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " fwmark {mark:#x}")?;
        }
        write!(f, "{} lookup {}", if self.uids { " uidrange" } else { "" }, self.table)
    }
}
