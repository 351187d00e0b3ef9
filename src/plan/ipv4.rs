//! The pod's IPv4 address as the guest's own (`BERTH_IPV4=own`), in place of the NAT.
//!
//! As for IPv6 its packets are handed on past the kernel's routing, and between the pod's stack and the guest, which both
//! have the address, the guest has an alias: `VM_IP`. Its question for the gateway's MAC comes from it, too (`nat::alias4`).

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::config::{Config, Ipv4 as Wanted};
use crate::facts::{MAX_ROUTES, NetFacts, Route4};
use crate::net::{Ipv4Prefix, MacAddr};

/// `BERTH_IPV4=own`, and the pod does not let it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the guest cannot have the pod's IPv4 address (BERTH_IPV4=own): {0}; with nat it has one of its own"
)]
pub struct Error(pub String);

/// What the guest has of IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv4Plan {
    /// `VM_IP`, onto which the pod's addresses are translated.
    Nat,
    Own(Own4),
}

/// The pod's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Own4 {
    pub pod: Ipv4Addr,
    /// What the pod's own stack knows the guest by.
    pub alias: Ipv4Addr,
    /// The pod as the guest sees it, which is its router.
    pub gateway: Ipv4Addr,
    /// Of both.
    pub network: Ipv4Prefix,
    /// Where the guest's packets go: the longest prefix first.
    pub routes: Vec<Route4>,
    /// The guest's MAC.
    pub mac: MacAddr,
}

impl Ipv4Plan {
    /// None where there is NAT.
    pub fn own(&self) -> Option<&Own4> {
        match self {
            Self::Own(own) => Some(own),
            Self::Nat => None,
        }
    }
}

impl std::fmt::Display for Ipv4Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(own) => write!(f, "own: {}", own.pod),
            Self::Nat => f.write_str("nat"),
        }
    }
}

/// Decides it.
pub fn plan(config: &Config, facts: &NetFacts, mac: MacAddr) -> Result<Ipv4Plan, Error> {
    if config.network.ipv4 == Wanted::Nat {
        return Ok(Ipv4Plan::Nat);
    }
    let refused = |why: String| Err(Error(why));
    let uplink = &facts.uplink;
    let Some(pod) = uplink.address else {
        return refused(format!("{} has none", uplink.name));
    };
    if !config.network.serve {
        return refused(
            "nothing is served to the guest (NO_DHCP), which would not hear of it".into(),
        );
    }
    let routes = routes(facts, pod.address);
    if routes.is_empty() {
        return refused("the main table has no route".to_owned());
    }
    let network = &config.network;
    Ok(Ipv4Plan::Own(Own4 {
        pod: pod.address,
        alias: network.vm.address,
        gateway: network.gateway,
        network: network.vm,
        routes,
        mac,
    }))
}

/// As `ipv6::routes`: by other links than the uplink the guest goes nowhere.
fn routes(facts: &NetFacts, pod: Ipv4Addr) -> Vec<Route4> {
    let is_own = |route: &&Route4| route.to.length == 32 && route.to.address == pod;
    let followed = |route: &Route4| {
        let leads_nowhere = route.leads_nowhere || route.link != facts.uplink.name;
        Route4 { leads_nowhere, ..route.clone() }
    };
    facts.routing.main.iter().filter(|route| !is_own(route)).map(followed).collect()
}

/// Of so many routes that not all were kept.
pub(super) fn too_many(version: &str, routes: usize) -> Option<String> {
    (routes >= MAX_ROUTES).then(|| {
        format!(
            "of the pod's {version} routes the guest goes by {MAX_ROUTES}, to the largest networks: by the others it goes as if \
             they were not there"
        )
    })
}

/// Networks that the pod reaches by other links, and rules of policy routing, which it does not meet.
pub fn notes(plan: &Ipv4Plan, facts: &NetFacts) -> Vec<String> {
    if plan.own().is_none() {
        return Vec::new();
    }
    let mut notes = Vec::new();
    if !facts.uplink.others.is_empty() {
        let words: Vec<String> =
            facts.uplink.others.iter().map(|other| other.address.to_string()).collect();
        let words = words.join(", ");
        notes
            .push(format!("{words} stays with the pod: the guest has one IPv4 address of its own"));
    }
    let uplink = &facts.uplink.name;
    let others =
        facts.routing.main.iter().filter(|route| route.link != *uplink && !route.leads_nowhere);
    let networks: Vec<String> = others.map(|route| route.to.to_string()).collect();
    if !networks.is_empty() {
        let words = networks.join(", ");
        notes.push(format!("the guest does not reach {words}, which is not by {uplink}"));
    }
    notes.extend(too_many("IPv4", facts.routing.main.len()));
    if let Some(rule) = facts.routing.rules.first() {
        notes.push(format!(
            "the guest goes where the main table leads: it does not meet the ip rule `{rule}`"
        ));
    }
    notes
}
