//! The network half of a test: made where there is none, and taken away again.

use std::collections::BTreeSet;

use super::Error;
use crate::exit::error_chain;
use crate::nft::Family;
use crate::nft::dump::{Elements, Filter, Rules};
use crate::plan::{NetPlan, nat};
use crate::sys::link::Links;
use crate::sys::netlink::Firewall;

/// What was there before the test, none of it the test's to take away.
#[derive(Debug)]
pub struct Before {
    /// None where they cannot be read: nothing can be loaded there either.
    tables: Option<BTreeSet<(Family, String)>>,
}

/// What is there before anything is made. None: all that a launcher leaves, which is used and stays.
///
/// # Errors
///
/// A link or a table of these names is somebody else's: a test would change it and take it away.
pub async fn before(
    plan: &NetPlan,
    links: &Links,
    firewall: &Firewall,
) -> Result<Option<Before>, Error> {
    let filter = Filter { rules: Rules::None, elements: Elements::None, ..Filter::default() };
    let tables = firewall.dump(filter).await.ok().map(|(_, found)| -> BTreeSet<_> {
        found.tables.into_iter().map(|table| (table.family, table.name)).collect()
    });
    let (bridge, tap) = (&plan.link.bridge.name, &plan.link.tap.name);
    let has_table = tables
        .as_ref()
        .is_some_and(|tables| tables.iter().any(|(family, name)| nat::is_ours(*family, name)));
    let looked_for = [
        (bridge.to_string(), links.exists(bridge).await?),
        (tap.to_string(), links.exists(tap).await?),
        (format!("table {}", nat::TABLE), has_table),
    ];
    let found: Vec<&str> = looked_for
        .iter()
        .filter(|(_, is_there)| *is_there)
        .map(|(name, _)| name.as_str())
        .collect();
    match found.len() {
        0 => Ok(Some(Before { tables })),
        all if all == looked_for.len() => Ok(None),
        _ => Err(Error::SomebodyElses(found.join(", "))),
    }
}

/// Takes away what was made since, the mapping first, so that the pod has its address again. Forwarding stays on. What
/// cannot be removed is returned in words, and the rest goes on.
pub async fn remove(
    plan: &NetPlan,
    before: &Before,
    links: &Links,
    firewall: &Firewall,
) -> Vec<String> {
    let mut left = Vec::new();
    let mut step = |what: &str, done: Result<(), Error>| {
        left.extend(done.err().map(|error| format!("{what} stays: {}", error_chain(&error))));
    };
    let anchor = nat::anchor();
    for table in plan.nat.tables.iter().chain(&anchor.tables) {
        let named = (table.family, table.name.clone());
        if before.tables.as_ref().is_none_or(|tables| tables.contains(&named)) {
            continue;
        }
        let done = firewall.remove(vec![named]).await;
        // A kernel without such tables has none.
        if table.family == Family::INET {
            step(&format!("table {}", table.name), done.map(drop).map_err(Error::from));
        }
    }
    step("what was added to the ip rules", links.ensure_rules(&[]).await.map_err(Error::from));
    let of = [&plan.link.uplink, &plan.link.bridge.name];
    step("forwarding of IPv6", links.ensure_forwarding6(&of, false).map_err(Error::from));
    let control = plan.link.ipv6.guest().map(|guest| guest.control);
    for link in control.iter().chain([&plan.link.tap.name, &plan.link.bridge.name]) {
        step(link.as_str(), links.remove(link).await.map_err(Error::from));
    }
    left
}
