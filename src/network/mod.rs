//! The network half of a pod: made, mapped, then served and healed until told to stop.
//!
//! ```text
//! make: links, routes, sockets bound ─► map: the pod's address is the guest's ─► serve and heal
//! ```
//!
//! `berth run` and `net` have the same one; the self-test walks through it.

mod healer;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::collect::Kernel;
use crate::config::Config;
use crate::exit::{Failure, error_chain};
use crate::plan::nat::{Abilities, Indices, TABLE, told, told4};
use crate::plan::{Attached, NetPlan};
use crate::readiness::{Feed, Ways};
use crate::sys::link::{self, Links};
use crate::sys::netlink::Firewall;
use crate::{apply, observe, serve};

use healer::Healer;

/// What it is planned from, now and at each repair.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub config: &'a Config,
    pub links: &'a Links,
    pub attached: Attached,
}

/// The network half, made and bound.
#[derive(Debug)]
pub struct Network {
    bound: Option<serve::Bound>,
    firewall: Firewall,
    indices: Indices,
    /// What this kernel's tables can hold.
    abilities: Abilities,
    /// Notes that were logged.
    logged: BTreeSet<String>,
}

impl Network {
    /// Everything but the mapping: the pod still has its address for itself.
    pub async fn make(plan: &NetPlan, links: &Links, firewall: Firewall) -> Result<Self, Failure> {
        let target = serve::Target::one_guest(&plan.guest, 0);
        let starting = target.as_ref().map(serve::prepare).transpose()?;
        let indices = apply::links(&plan.link, links).await?;
        let mut lost = apply::routes(&plan.route, links).await?;
        let mut abilities = Abilities::ALL;
        match apply::ipv6(&plan.link, indices.bridge, links).await {
            Err(error @ apply::Error::Link(link::Error::NoIpv6 { .. })) => {
                lost.push(format!("the guest has no IPv6: {}", error_chain(&error)));
                abilities = abilities.without_ipv6();
            }
            made => made?,
        }
        for note in &lost {
            tracing::warn!("{note}");
        }
        apply::way_out(plan, indices.bridge, links).await?;
        apply::guest(plan, None, links).await?;
        let bind = |(mut target, starting): (serve::Target, _)| {
            target.link = indices.bridge;
            serve::Bound::on(target, starting)
        };
        let bound = target.zip(starting).map(bind).transpose()?;
        let logged = lost.into_iter().chain(plan.notes.iter().cloned()).collect();
        Ok(Self { bound, firewall, indices, abilities, logged })
    }

    /// The pod's address is the guest's from here on.
    pub async fn map(mut self, plan: &NetPlan, links: &Links) -> Result<Self, Failure> {
        self.abilities = apply::nat(plan, self.abilities, self.indices, &self.firewall).await?;
        if plan.on(self.abilities).link.ipv6.nat().is_some()
            && let Err(error) = apply::forwarding6(plan.on(self.abilities), links)
        {
            let note = format!("the guest has no IPv6: {}", error_chain(&error));
            tracing::warn!("{note}");
            self.logged.insert(note);
            let abilities = self.abilities.without_ipv6();
            self.abilities = apply::learn(plan, abilities, self.indices, &self.firewall).await?.1;
        }
        let taken = plan.on(self.abilities);
        if taken.link.ipv6 != plan.link.ipv6
            && let Some(bound) = &mut self.bound
        {
            bound.with_less(&taken.guest);
        }
        Ok(self)
    }

    /// Serves and heals until told to stop.
    pub async fn serve_and_heal(
        self,
        source: Source<'_>,
        plan: &NetPlan,
        feed: &Feed,
        stopping: watch::Receiver<bool>,
    ) {
        let targets = self.bound.as_ref().map(serve::Bound::targets);
        let (subscribed, stop) = (targets.as_ref().map(watch::Sender::subscribe), stopping.clone());
        let services = feed.services.clone();
        let tally = feed.tally.clone();
        let serving = tokio::spawn(async move {
            match (self.bound, subscribed) {
                (Some(bound), Some(targets)) => {
                    bound.run(stop, targets, &services, &tally).await;
                }
                _ => drop(services.send_replace(serve::Services::OFF)),
            }
        });
        let link = plan.on(self.abilities).link.clone();
        let ipv4 = told4(&link.ipv4, self.abilities);
        let ipv6 = told(&link.ipv6, self.abilities);
        tracing::info!(ipv4, ipv6, "the guest's ways");
        feed.ways.send_replace(Ways { ipv4: Some(ipv4), ipv6: Some(ipv6) });
        feed.own.send_replace(link.own());
        let known = (self.abilities, self.indices);
        let healer = Healer::new(source, (&self.firewall, feed), link, known, targets, self.logged);
        let rules = healer.rules_of(plan);
        feed.kernel.send_replace(measured(&self.firewall, &rules, plan));
        tokio::select! {
            () = observe::run(&self.firewall, rules, &healer, &feed.counts, stopping) => {}
            () = greet(plan, source.links, &feed.tally) => {}
        }
        let _ = serving.await;
    }
}

/// Makes the guest known at once when it has taken its address. Whoever tried to reach it before waits for it no longer. Has no end.
async fn greet(plan: &NetPlan, links: &Links, tally: &serve::Tally) {
    let mut acked = tally.acked();
    while acked.changed().await.is_ok() {
        if let Err(error) = apply::guest(plan, tally.counted().client, links).await {
            tracing::debug!(error = error_chain(&error), "the guest was not made known");
        }
    }
    std::future::pending::<()>().await;
}

/// Whose counters are read for a page of metrics: by a socket of its own, and of our own tables alone.
fn measured(firewall: &Firewall, rules: &observe::Rules, plan: &NetPlan) -> Option<Kernel> {
    let ours = rules.nat.tables.iter().filter(|table| table.name == TABLE);
    let links = Links::open()
        .inspect_err(|error| {
            let error = error_chain(error);
            tracing::warn!(error, "links and rules are not among the metrics");
        })
        .ok()?;
    Some(Kernel {
        firewall: firewall.clone(),
        tables: ours.map(|table| (table.family, table.name.clone())).collect(),
        links: Arc::new(links),
        uplink: plan.link.uplink.clone(),
        tap: plan.link.tap.name.clone(),
    })
}
