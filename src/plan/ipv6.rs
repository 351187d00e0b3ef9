//! The pod's IPv6 as the guest's own: which addresses, by which next hops, and why not where that cannot be. Where the pod
//! routes already, or may be made to, an address of the guest's own onto which they are translated (RFC 6296 has the word
//! NPTv6 for what knows no connections; this is NAT66, which does).
//!
//! No address is translated on the way to the world. Between the pod's stack and the guest, which both have the pod's
//! address, the guest has an alias: its packets get it when they come in, and lose it when they go out (`nat::own`).
//!
//! ```text
//! world ── eth0 POD6 ─────────── fwd ──────────── tap ── guest POD6, default via fe80::1
//!              pod's own stack ── fd00:6be::1 br0 ──────── as fd00:6be::2
//! ```

use std::fmt;
use std::net::Ipv6Addr;

use serde::Serialize;

use super::ipv4::too_many;
use crate::config::{Config, Ipv6 as Wanted};
use crate::facts::{Forwarding, NameServer, NetFacts, Route6};
use crate::net::{IfName, Ipv6Prefix, MacAddr};

/// The guest's router (RFC 4861 §6.1.2).
pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The pod as the guest sees it, in a network of unique local addresses (RFC 4193) that nobody else sees.
pub const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 0, 1);
/// GATEWAY's network.
pub const NETWORK: Ipv6Prefix =
    Ipv6Prefix { address: Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 0, 0), length: 64 };
/// RFC 8200 §5.
const MIN_MTU: u32 = 1280;

/// A way that was asked for, and that the pod does not let.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "the guest cannot have the pod's IPv6 address (BERTH_IPV6=own): {0}; with auto it is left out"
    )]
    Own(String),
    #[error(
        "the pod's IPv6 address cannot be translated to the guest's (BERTH_IPV6=nat): {0}; with auto it is left out"
    )]
    Nat(String),
}

/// What the guest has of IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6Plan {
    Own(Own),
    Nat(Nat),
    /// Nothing, and why.
    Off(String),
}

/// The pod's own addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Own {
    /// The guest's, the primary first.
    pub pod: Vec<Ipv6Addr>,
    /// Where its packets go: the longest prefix first.
    pub routes: Vec<Route6>,
    /// The guest's MAC.
    pub mac: MacAddr,
    /// A tap of berth's own in the bridge, for router advertisements: a raw socket would need CAP_NET_RAW.
    pub control: IfName,
}

impl Own {
    /// The guest's addresses, each with what the pod's own stack knows it by.
    pub fn aliases(&self) -> impl Iterator<Item = (Ipv6Addr, Ipv6Addr)> {
        self.pod.iter().copied().zip((1..).map(beside))
    }

    /// That of the primary address.
    pub fn alias(&self) -> Ipv6Addr {
        beside(1)
    }
}

/// The pod's addresses, translated onto one of the guest's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nat {
    /// The pod's, the one first that the guest leaves as.
    pub pod: Vec<Ipv6Addr>,
    pub guest: Ipv6Addr,
    /// The guest's MAC.
    pub mac: MacAddr,
    /// As [`Own::control`].
    pub control: IfName,
}

/// What the links and the pod's own stack have of the guest, whichever way its packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest6 {
    pub pod: Vec<Ipv6Addr>,
    /// The guest's own.
    pub addresses: Vec<Ipv6Addr>,
    /// What the pod's own stack knows it by: for each of the pod's addresses, or one for all.
    pub known_by: Vec<Ipv6Addr>,
    pub mac: MacAddr,
    pub control: IfName,
}

impl Guest6 {
    /// The pod's addresses, each with what its stack knows the guest by there.
    pub fn aliases(&self) -> impl Iterator<Item = (Ipv6Addr, Ipv6Addr)> {
        self.pod.iter().copied().zip(self.known_by.iter().copied())
    }
}

impl Ipv6Plan {
    /// None where the guest has not the pod's address.
    pub fn own(&self) -> Option<&Own> {
        match self {
            Self::Own(own) => Some(own),
            Self::Nat(_) | Self::Off(_) => None,
        }
    }

    /// None where nothing is translated.
    pub fn nat(&self) -> Option<&Nat> {
        match self {
            Self::Nat(nat) => Some(nat),
            Self::Own(_) | Self::Off(_) => None,
        }
    }

    /// None when the guest has no IPv6.
    pub fn guest(&self) -> Option<Guest6> {
        match self {
            Self::Own(Own { pod, mac, control, .. }) => Some(Guest6 {
                pod: pod.clone(),
                addresses: pod.clone(),
                known_by: (1_u128..).map(beside).take(pod.len()).collect(),
                mac: *mac,
                control: control.clone(),
            }),
            Self::Nat(Nat { pod, guest, mac, control, .. }) => Some(Guest6 {
                pod: pod.clone(),
                addresses: vec![*guest],
                known_by: vec![*guest],
                mac: *mac,
                control: control.clone(),
            }),
            Self::Off(_) => None,
        }
    }
}

/// Addresses that follow the gateway's.
fn beside(at: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(GATEWAY.to_bits() + at)
}

impl fmt::Display for Ipv6Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(Own { pod, .. }) | Self::Nat(Nat { pod, .. }) => {
                f.write_str(if self.nat().is_some() { "nat:" } else { "own:" })?;
                pod.iter().try_for_each(|address| write!(f, " {address}"))
            }
            Self::Off(why) => write!(f, "off: {why}"),
        }
    }
}

/// Decides it, on a link of so many octets.
pub fn plan(config: &Config, facts: &NetFacts, mtu: u32, mac: MacAddr) -> Result<Ipv6Plan, Error> {
    let wanted = config.network.ipv6;
    if wanted == Wanted::Off {
        return Ok(Ipv6Plan::Off("BERTH_IPV6 is off".to_owned()));
    }
    let why = why_not(config, facts, mtu);
    let why = why.or_else(|| (wanted == Wanted::Nat).then(|| why_no_router(facts)).flatten());
    match (why, wanted) {
        (None, Wanted::Nat) => Ok(Ipv6Plan::Nat(nat(config, facts, mac))),
        (None, _) => Ok(Ipv6Plan::Own(Own {
            pod: facts.ipv6.addresses.clone(),
            routes: routes(facts),
            mac,
            control: control(&config.network.bridge),
        })),
        (Some(why), Wanted::Own) => Err(Error::Own(why)),
        (Some(why), Wanted::Nat) => Err(Error::Nat(why)),
        (Some(why), Wanted::Auto | Wanted::Off) => Ok(Ipv6Plan::Off(why)),
    }
}

/// What is left where this kernel takes the rules of a plan not; None when that has none.
pub fn less(plan: &Ipv6Plan, config: &Config, facts: &NetFacts) -> Option<Ipv6Plan> {
    const NO_WAY: &str = "this kernel has no way for it";
    match plan {
        Ipv6Plan::Own(own) if config.network.ipv6 == Wanted::Auto => {
            Some(match why_no_router(facts) {
                None => Ipv6Plan::Nat(nat(config, facts, own.mac)),
                Some(why) => Ipv6Plan::Off(format!("{NO_WAY}, and {why}")),
            })
        }
        Ipv6Plan::Own(_) | Ipv6Plan::Nat(_) => Some(Ipv6Plan::Off(NO_WAY.to_owned())),
        Ipv6Plan::Off(_) => None,
    }
}

fn nat(config: &Config, facts: &NetFacts, mac: MacAddr) -> Nat {
    Nat {
        pod: facts.ipv6.addresses.clone(),
        guest: beside(1),
        mac,
        control: control(&config.network.bridge),
    }
}

fn why_no_router(facts: &NetFacts) -> Option<String> {
    (facts.ipv6.forwarding == Forwarding::Off)
        .then(|| "net.ipv6.conf.all.forwarding is 0, a sysctl of the pod's".to_owned())
}

/// Without those to the pod's own addresses, which are the guest's. By other links than the uplink the guest goes nowhere:
/// what came back by them would find no rule of ours.
fn routes(facts: &NetFacts) -> Vec<Route6> {
    let is_own = |route: &&Route6| {
        route.to.length == 128 && facts.ipv6.addresses.contains(&route.to.address)
    };
    let followed = |route: &Route6| {
        let leads_nowhere = route.leads_nowhere || route.link != facts.uplink.name;
        Route6 { leads_nowhere, ..route.clone() }
    };
    facts.ipv6.routes.iter().filter(|route| !is_own(route)).map(followed).collect()
}

/// `br0-ra`. A name has 15 octets at most (IFNAMSIZ).
fn control(bridge: &IfName) -> IfName {
    let stem: String = bridge.as_str().chars().take(12).collect();
    [format!("{stem}-ra"), "berth-ra".to_owned()]
        .iter()
        .find_map(|name| name.parse().ok())
        .unwrap_or_else(|| bridge.clone())
}

fn why_not(config: &Config, facts: &NetFacts, mtu: u32) -> Option<String> {
    let ipv6 = &facts.ipv6;
    if let Some(off) = &ipv6.off {
        return Some(off.to_string());
    }
    if !config.network.serve {
        return Some(
            "nothing is served to the guest (NO_DHCP), which would not hear of it".to_owned(),
        );
    }
    if mtu < MIN_MTU {
        return Some(format!("the guest's MTU is {mtu}, and IPv6 has {MIN_MTU} octets at least"));
    }
    if ipv6.addresses.is_empty() {
        let why = ipv6.unusable.first().map(|(address, why)| format!("{address} is {why}"));
        let none = || format!("{} has no global IPv6 address", facts.uplink.name);
        return Some(why.unwrap_or_else(none));
    }
    if ipv6.routes.is_empty() {
        return Some("the pod has an IPv6 address and no route".to_owned());
    }
    let taken = ipv6.addresses.iter().find(|address| NETWORK.contains(**address));
    let server = |server: &&NameServer| match server.address {
        std::net::IpAddr::V6(address) => NETWORK.contains(address),
        std::net::IpAddr::V4(_) => false,
    };
    let asked = facts.resolver.nameservers.iter().find(server);
    let taken = taken.map(ToString::to_string).or_else(|| asked.map(ToString::to_string));
    taken.map(|address| format!("{address} is in {NETWORK}, which is between pod and guest here"))
}

/// What is told once: that the pod has IPv6 and its guest has not.
pub fn note(plan: &Ipv6Plan, config: &Config, facts: &NetFacts) -> Option<String> {
    let has_some = !(facts.ipv6.addresses.is_empty() && facts.ipv6.unusable.is_empty());
    match plan {
        Ipv6Plan::Nat(_) => None,
        Ipv6Plan::Own(_) => elsewhere(facts).or_else(|| too_many("IPv6", facts.ipv6.routes.len())),
        Ipv6Plan::Off(why) if has_some && config.network.ipv6 != Wanted::Off => {
            Some(format!("the guest has no IPv6: {why}"))
        }
        Ipv6Plan::Off(_) => None,
    }
}

/// Networks that the pod reaches by other links.
fn elsewhere(facts: &NetFacts) -> Option<String> {
    let uplink = &facts.uplink.name;
    let others = facts.ipv6.routes.iter().filter(|route| {
        route.link != *uplink && !route.leads_nowhere && !NETWORK.contains(route.to.address)
    });
    let networks: Vec<String> = others.map(|route| route.to.to_string()).collect();
    let words = networks.join(", ");
    (!networks.is_empty())
        .then(|| format!("by IPv6 the guest does not reach {words}, which is not by {uplink}"))
}
