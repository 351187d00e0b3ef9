//! The network half's kernel: links, our rules, connections. The table of connections is never walked for a page.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant as Clock;

use super::in_time;
use super::single::Single;
use super::steady::Steady;
use crate::metrics::{Link, Network, Way};
use crate::net::IfName;
use crate::nft::dump::{Elements, Filter};
use crate::nft::expr::Expr;
use crate::nft::{Family, Ruleset};
use crate::sys::link::{Links, Statistics};
use crate::sys::netlink::Firewall;
use crate::sys::process;

/// Where links and rules are looked up.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub firewall: Firewall,
    /// Of our tables.
    pub tables: Vec<(Family, String)>,
    pub links: Arc<Links>,
    pub uplink: IfName,
    pub tap: IfName,
}

type Rules = BTreeMap<String, (u64, u64)>;

/// Answers that may come late, and counters as they were.
#[derive(Debug, Default)]
pub(super) struct State {
    rules: Single<Option<Rules>>,
    conntrack: Single<Option<(u64, u64)>>,
    steady: Steady<(String, &'static str)>,
}

/// What was found; None: not in time, or refused.
#[derive(Debug)]
pub(super) struct Found {
    links: Option<Vec<(&'static str, Statistics)>>,
    rules: Option<Rules>,
    /// None inside: conntrack is not loaded, which is no error.
    conntrack: Option<Option<(u64, u64)>>,
}

impl State {
    pub async fn ask(&mut self, kernel: &Kernel, deadline: Clock) -> Found {
        let links = async { in_time(deadline, links(kernel)).await.flatten() };
        let rules = self.rules.get(deadline, || rules(kernel.clone()));
        let conntrack = self.conntrack.blocking(deadline, process::conntrack);
        let (links, rules, conntrack) = tokio::join!(links, rules, conntrack);
        Found { links, rules: rules.flatten(), conntrack }
    }
}

/// Both from their own sides: what the guest sends is what the tap receives. A link that is not there has no figures.
async fn links(kernel: &Kernel) -> Option<Vec<(&'static str, Statistics)>> {
    let mut found = Vec::new();
    for (device, name) in [("uplink", &kernel.uplink), ("guest", &kernel.tap)] {
        let statistics = kernel.links.statistics(name).await.ok()?;
        found.extend(statistics.map(|statistics| (device, statistics)));
    }
    Some(found)
}

/// Of all rules of ours that count, by their comments.
async fn rules(kernel: Kernel) -> Option<Rules> {
    let mut counted = Rules::new();
    for (family, name) in kernel.tables {
        let filter = Filter { elements: Elements::None, ..Filter::table(family, &name) };
        let found = kernel.firewall.peek(filter).await.ok()?;
        count(&found, &mut counted);
    }
    Some(counted)
}

fn count(found: &Ruleset, counted: &mut Rules) {
    let chains = found.tables.iter().flat_map(|table| &table.chains);
    for rule in chains.flat_map(|chain| &chain.rules) {
        for expr in &rule.exprs {
            let Expr::Counter { packets, bytes } = expr else { continue };
            let comment = rule.userdata.as_comment().unwrap_or_default();
            let sum = counted.entry(label(&comment)).or_default();
            *sum = (sum.0.saturating_add(*packets), sum.1.saturating_add(*bytes));
        }
    }
}

/// A comment of ours as a label: without the addresses that are in some.
fn label(comment: &str) -> String {
    let is_address = |word: &str| {
        let word = word.trim_end_matches([':', ',', ';']);
        let address = word.split_once('/').map_or(word, |(address, _)| address);
        address.parse::<IpAddr>().is_ok()
    };
    let words = comment.split(' ').map(|word| if is_address(word) { "a network" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Puts it where it is told, as counters that go on when what counts is made anew.
pub(super) fn fill(network: &mut Network, state: &mut super::State, found: Option<Found>) {
    // Nothing is made yet.
    let Some(Found { links, rules, conntrack }) = found else { return };
    if let Some(links) = state.heard("links", links) {
        for (device, statistics) in links {
            network.links.insert(device, of_link(&mut state.kernel.steady, device, &statistics));
        }
    }
    if let Some(rules) = state.heard("rules", rules) {
        let steady = &mut state.kernel.steady;
        for (rule, (packets, bytes)) in rules {
            let packets = steady.of((rule.clone(), "packets"), packets);
            let bytes = steady.of((rule.clone(), "bytes"), bytes);
            network.rules.insert(rule, (packets, bytes));
        }
    }
    network.conntrack = state.heard("conntrack", conntrack).flatten();
}

fn of_link(
    steady: &mut Steady<(String, &'static str)>,
    device: &'static str,
    found: &Statistics,
) -> Link {
    // Not by its index: another link of the same name is the same to who reads this.
    let mut of = |what, now| steady.of((device.to_owned(), what), now);
    let received = Way {
        bytes: of("rx_bytes", found.rx_bytes),
        packets: of("rx_packets", found.rx_packets),
        errs: of("rx_errs", found.rx_errors),
        drop: of("rx_drop", found.rx_dropped),
    };
    let sent = Way {
        bytes: of("tx_bytes", found.tx_bytes),
        packets: of("tx_packets", found.tx_packets),
        errs: of("tx_errs", found.tx_errors),
        drop: of("tx_drop", found.tx_dropped),
    };
    match device {
        "guest" => Link { receive: sent, transmit: received },
        _ => Link { receive: received, transmit: sent },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_becomes_a_label() {
        for (comment, wanted) in [
            (
                "from the guest to 10.0.0.0/8: no way there",
                "from the guest to a network no way there",
            ),
            ("from the guest to 2001:db8::/32 by eth0", "from the guest to a network by eth0"),
            ("to the guest", "to the guest"),
            ("", ""),
        ] {
            assert_eq!(label(comment), wanted);
        }
    }

    #[test]
    fn the_tap_is_seen_from_the_guest() {
        let found =
            Statistics { rx_bytes: 10, tx_bytes: 20, rx_dropped: 1, ..Statistics::default() };
        let mut steady = Steady::default();
        let guest = of_link(&mut steady, "guest", &found);
        assert_eq!((guest.receive.bytes, guest.transmit.bytes, guest.transmit.drop), (20, 10, 1));
        let uplink = of_link(&mut steady, "uplink", &found);
        assert_eq!((uplink.receive.bytes, uplink.transmit.bytes), (10, 20));
    }
}
