//! The guest's packets go where the pod's own would: forwarding on every interface, and the pod's rules of policy routing
//! once more for the guest.
//!
//! ```text
//! ip rule from POD lookup 100      asks for the source before the NAT, which of the guest's packets is VM_IP
//! ip rule from VM_IP lookup 100    ours, of the same priority
//! ip rule to VM_IP lookup main     ours, before all of them: table 100 does not know the bridge
//! ```

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::config::Config;
use crate::facts::{Further, NetFacts, Routing, RoutingRule};
use crate::net::Ipv4Prefix;

/// RT_TABLE_MAIN and FR_ACT_TO_TBL (linux/rtnetlink.h, linux/fib_rules.h).
const TABLE_MAIN: u32 = 254;
const TO_TABLE: u8 = 1;
/// Right behind the local table, which knows the gateway's address.
const FIRST: u32 = 1;

/// Routing beside the links that we make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RoutePlan {
    /// Interfaces that must forward besides bridge and uplink.
    pub further: Vec<Further>,
    /// The rules of ours there have to be: all of them.
    pub rules: Vec<RoutingRule>,
}

/// Decides the routing.
pub fn plan(config: &Config, facts: &NetFacts) -> RoutePlan {
    let (pod, guest) = (facts.uplink.address, config.network.vm.address);
    let Routing { further, rules, .. } = &facts.routing;
    let first = (!rules.is_empty()).then(|| to_the_guest(guest));
    let is_copied =
        |rule: &&RoutingRule| pod.is_some_and(|pod| is_for_the_pod_only(rule, pod.address, guest));
    let copied = rules.iter().filter(is_copied).map(|rule| copy_of(rule, guest));
    RoutePlan { further: further.clone(), rules: first.into_iter().chain(copied).collect() }
}

/// The pod's rules that the guest does not meet as the pod does, whatever is copied.
pub fn notes(config: &Config, facts: &NetFacts) -> Vec<String> {
    let (Some(pod), guest) = (facts.uplink.address, config.network.vm.address) else {
        return Vec::new();
    };
    let told = |rule: &RoutingRule| {
        let why = what_differs(rule, pod.address, guest)?;
        Some(format!(
            "the pod's ip rule `{rule}` is not the same for the guest, {why}: look where it leads, and add one from \
             {guest} if the guest has to go there too"
        ))
    };
    facts.routing.rules.iter().filter_map(told).collect()
}

/// Whether the sender of a packet is one of the rule's: of the guest's packets and of the pod's own. `iif lo` is what
/// sockets send. What comes by another interface, or is bound to one, is neither's matter.
fn senders(rule: &RoutingRule, pod: Ipv4Addr, guest: Ipv4Addr) -> Option<(bool, bool)> {
    let by_source = |address| rule.from.is_none_or(|from| from.contains(address));
    match (rule.iif.as_deref(), &rule.oif) {
        (None, None) => Some((by_source(guest), by_source(pod))),
        (Some("lo"), None) => Some((false, by_source(pod))),
        _ => None,
    }
}

/// Whether what the pod sends meets the rule by its source, and what the guest sends does not.
fn is_for_the_pod_only(rule: &RoutingRule, pod: Ipv4Addr, guest: Ipv4Addr) -> bool {
    !rule.inverted && !rule.uids && senders(rule, pod, guest) == Some((false, true))
}

/// Why the guest meets a rule differently, with the copies.
fn what_differs(rule: &RoutingRule, pod: Ipv4Addr, guest: Ipv4Addr) -> Option<&'static str> {
    match senders(rule, pod, guest)? {
        (of_guest, of_pod) if rule.inverted => {
            (of_guest != of_pod).then_some("since it is for all senders but some")
        }
        (_, false) => None,
        _ if rule.uids => Some("which is no user of the pod's"),
        _ if rule.mark.is_some() => {
            Some("whose packets have only the marks they get before they are routed")
        }
        _ => None,
    }
}

fn copy_of(rule: &RoutingRule, guest: Ipv4Addr) -> RoutingRule {
    RoutingRule { from: Some(alone(guest)), iif: None, ..rule.clone() }
}

fn to_the_guest(guest: Ipv4Addr) -> RoutingRule {
    RoutingRule {
        priority: FIRST,
        table: TABLE_MAIN,
        to: Some(alone(guest)),
        action: TO_TABLE,
        ..RoutingRule::default()
    }
}

fn alone(address: Ipv4Addr) -> Ipv4Prefix {
    Ipv4Prefix { address, length: 32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 2);

    fn rule(words: &str) -> RoutingRule {
        let mut rule =
            RoutingRule { priority: 500, table: 100, action: TO_TABLE, ..RoutingRule::default() };
        let mut words = words.split(' ');
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            match word {
                "not" => rule.inverted = true,
                "uid" => rule.uids = true,
                "from" => rule.from = Some(value().parse().unwrap()),
                "iif" => rule.iif = Some(value().to_owned()),
                "oif" => rule.oif = Some(value().to_owned()),
                "mark" => rule.mark = Some(value().parse().unwrap()),
                "all" => {}
                other => panic!("{other}"),
            }
        }
        rule
    }

    #[test]
    fn the_guest_meets_the_rules_that_its_pod_meets() {
        for (words, copied, told) in [
            ("from 10.77.0.2/32", true, false),
            ("from 10.77.0.0/16", true, false),
            ("from 10.78.0.0/16", false, false),
            ("from 10.77.0.3/32", false, false),
            ("from 0.0.0.0/0", false, false),
            ("all", false, false),
            ("iif lo", true, false),
            ("iif lo from 10.77.0.2/32", true, false),
            ("iif lo from 10.78.0.2/32", false, false),
            ("iif eth0", false, false),
            ("iif eth0 mark 7", false, false),
            ("oif eth0 from 10.77.0.2/32", false, false),
            ("mark 7", false, true),
            ("mark 7 from 10.77.0.2/32", true, true),
            ("mark 7 from 10.78.0.2/32", false, false),
            ("not mark 7", false, false),
            ("not from 10.77.0.2/32", false, true),
            ("not from 10.78.0.2/32", false, false),
            ("not from 192.168.254.0/24", false, true),
            ("not iif lo", false, true),
            ("uid", false, true),
            ("uid from 10.78.0.2/32", false, false),
        ] {
            let rule = rule(words);
            assert_eq!(is_for_the_pod_only(&rule, POD, GUEST), copied, "{words}");
            assert_eq!(what_differs(&rule, POD, GUEST).is_some(), told, "{words}");
            let copy = copy_of(&rule, GUEST);
            assert!(!is_for_the_pod_only(&copy, POD, GUEST), "a copy of a copy: {words}");
        }
    }
}
