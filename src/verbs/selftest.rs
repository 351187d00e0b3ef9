//! `berth selftest`.

use std::net::Ipv4Addr;

use berth::apply;
use berth::config::Options;
use berth::exit::{Code, Failure};
use berth::network::{Network, Source};
use berth::plan::{Attached, NetPlan};
use berth::readiness::Feed;
use berth::selftest::{self, Finding, Outcome};
use berth::status;
use berth::supervise::Signals;
use berth::sys::link::{Links, open_tap};
use berth::sys::netlink::Firewall;
use berth::sys::probe;
use tokio::sync::watch;

use super::{configure, print, warn};

/// The network half, and a synthetic guest on it. What was made for it is taken away again, forwarding apart; what a
/// launcher left is used, and stays.
pub async fn run(options: &Options, no_dns: bool) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    if status::ask(&config.paths.state_dir).await.is_ok() {
        let text =
            "a launcher runs here: ask it with `berth status`, and test in a container of its own";
        return Err(Failure::new(Code::Plan, text));
    }
    let facts = probe::settled_net_facts(&config, &links).await?;
    let plan = NetPlan::new(&config, &facts, Attached::Elsewhere)?;
    let firewall = Firewall::start()?;
    let before = apply::before(&plan, &links, &firewall).await?;
    let source = Source { config: &config, links: &links, attached: Attached::Elsewhere };
    let pod = facts.uplink.address.map(|address| address.address);
    let findings = walk(source, &plan, &firewall, (pod, no_dns), &mut signals).await;
    match &before {
        Some(before) => warn(&apply::remove(&plan, before, &links, &firewall).await),
        None => tracing::info!("links and rules that a launcher left were used, and stay"),
    }
    let findings = findings?.ok_or_else(stopped)?;
    let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    // On a thread of its own, since nobody may read.
    let writing = tokio::task::spawn_blocking(move || print(&text));
    tokio::select! {
        written = writing => written.map_err(|error| Failure::new(Code::Output, error.to_string()))??,
        () = signals.asked_to_stop() => return Err(stopped()),
    };
    let failed = findings.iter().any(|finding| matches!(finding.outcome, Outcome::Failed(_)));
    Ok(if failed { Code::SelfTest } else { Code::Success })
}

/// The network half is made, and serves while the guest walks. None: told to stop before its end.
async fn walk(
    source: Source<'_>,
    plan: &NetPlan,
    firewall: &Firewall,
    (pod, no_dns): (Option<Ipv4Addr>, bool),
    signals: &mut Signals,
) -> Result<Option<Vec<Finding>>, Failure> {
    let network =
        Network::make(plan, source.links, firewall.clone()).await?.map(plan, source.links).await?;
    let tap = &plan.link.tap;
    let queues = open_tap(&tap.name, tap.queues)?;
    let queue =
        queues.into_iter().next().ok_or(Failure::new(Code::Network, "the tap has no queue"))?;
    let (stop, stopping) = watch::channel(false);
    let feed = Feed::default();
    let walking = async {
        let findings = tokio::select! {
            findings = selftest::run(queue, plan, pod, no_dns) => Some(findings),
            () = signals.asked_to_stop() => None,
        };
        let _ = stop.send(true);
        findings
    };
    let (findings, ()) =
        tokio::join!(walking, network.serve_and_heal(source, plan, &feed, stopping));
    Ok(findings)
}

fn stopped() -> Failure {
    Failure::new(Code::Stopped, "stopped before the end of the test")
}
