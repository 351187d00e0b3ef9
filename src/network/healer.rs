//! What the observer needs of this pod: its links put right, and the rules for the addresses it has now.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

use super::Source;
use crate::config::Ipv6;
use crate::exit::error_chain;
use crate::plan::nat::{Abilities, Indices};
use crate::plan::{self, LinkPlan, NetPlan};
use crate::readiness::Feed;
use crate::sys::link;
use crate::sys::netlink::Firewall;
use crate::sys::probe;
use crate::{apply, observe, serve};

/// How long the guest's router may take to say that it is none any more.
const LAST_WORDS: Duration = Duration::from_millis(200);

pub(super) struct Healer<'a> {
    source: Source<'a>,
    firewall: &'a Firewall,
    feed: &'a Feed,
    /// Links as they should be; of them IPv6 alone changes with the pod.
    plan: RefCell<LinkPlan>,
    abilities: Cell<Abilities>,
    /// How many tables of ours are not loaded.
    surplus: Cell<usize>,
    /// Of the links as they are now.
    indices: Cell<Indices>,
    /// For those who are bound to the bridge; None when nothing is served.
    targets: Option<watch::Sender<serve::Target>>,
    /// Of the guest's own addresses those that the pod has no more.
    lost: RefCell<Vec<IpAddr>>,
    /// Notes that were logged already.
    logged: RefCell<BTreeSet<String>>,
}

impl<'a> Healer<'a> {
    pub(super) fn new(
        source: Source<'a>,
        (firewall, feed): (&'a Firewall, &'a Feed),
        plan: LinkPlan,
        (abilities, indices): (Abilities, Indices),
        targets: Option<watch::Sender<serve::Target>>,
        logged: BTreeSet<String>,
    ) -> Self {
        let (indices, logged) = (Cell::new(indices), RefCell::new(logged));
        let (plan, abilities) = (RefCell::new(plan), Cell::new(abilities));
        let (surplus, lost) = (Cell::new(0), RefCell::default());
        Self { source, firewall, feed, plan, abilities, surplus, indices, targets, lost, logged }
    }

    pub(super) fn rules_of(&self, plan: &NetPlan) -> observe::Rules {
        observe::Rules {
            nat: plan::nat::for_kernel(plan, self.abilities.get(), self.indices.get()),
            mapping: plan.mapping.clone(),
        }
    }

    /// The plan for the pod as it is now.
    async fn plan_now(&self) -> Result<NetPlan, String> {
        let Source { config, links, attached } = self.source;
        let facts = probe::net_facts(config, links).await.map_err(|error| error_chain(&error))?;
        let plan = match NetPlan::new(config, &facts, attached) {
            // IPv6 that was insisted on has gone: no reason to follow nothing else.
            Err(plan::Error::Link(plan::link::Error::Ipv6(_))) => {
                let mut config = config.clone();
                config.network.ipv6 = Ipv6::Off;
                NetPlan::new(&config, &facts, attached)
            }
            plan => plan,
        };
        plan.map_err(|error| error_chain(&error))
    }

    /// Each once, for as long as it is so.
    fn log_new(&self, notes: BTreeSet<String>) {
        let mut logged = self.logged.borrow_mut();
        notes.difference(&logged).for_each(|note| tracing::warn!("{note}"));
        *logged = notes;
    }

    /// The guest's IPv4 address as the pod's is now, where that is its own. True when it is another.
    async fn follow_ipv4(&self, now: &NetPlan) -> Result<bool, apply::Error> {
        if self.plan.borrow().ipv4 == now.link.ipv4 {
            return Ok(false);
        }
        let plan = LinkPlan { ipv4: now.link.ipv4.clone(), ..self.plan.borrow().clone() };
        apply::ipv4(&plan, self.source.links).await?;
        let (abilities, indices) = (self.abilities.get(), self.indices.get());
        self.abilities.set(apply::learn(now, abilities, indices, self.firewall).await?.1);
        self.plan.borrow_mut().ipv4 = now.link.ipv4.clone();
        let told = plan::nat::told4(&now.link.ipv4, abilities);
        self.feed.ways.send_modify(|ways| ways.ipv4 = Some(told));
        if let Some(targets) = &self.targets {
            let guest = &now.on(self.abilities.get()).guest;
            targets.send_if_modified(|target| target.follow(guest));
        }
        Ok(true)
    }

    /// The pod's address is not clear. What the guest sends from one that is gone for sure is dropped: another pod may have
    /// it by now.
    async fn close(&self) -> Result<(), String> {
        let own = self.plan.borrow().own();
        let lost = probe::missing(&own, self.source.links).await;
        let mut lost = lost.map_err(|error| error_chain(&error))?;
        // One of its own would leave as the address that is gone.
        let nat = self.plan.borrow().ipv6.nat().cloned();
        let leaves_as = nat.iter().filter_map(|nat| nat.pod.first().copied()).map(IpAddr::V6);
        let leaves_as: Vec<IpAddr> = leaves_as.collect();
        let gone = probe::missing(&leaves_as, self.source.links).await;
        let gone = gone.map_err(|error| error_chain(&error))?;
        lost.extend(nat.filter(|_| !gone.is_empty()).map(|nat| IpAddr::V6(nat.guest)));
        if *self.lost.borrow() == lost {
            return Ok(());
        }
        if lost.is_empty() {
            self.open().await;
            return Ok(());
        }
        let tap = self.plan.borrow().tap.name.clone();
        let done = apply::close(&tap, &lost, self.firewall).await;
        done.map_err(|error| error_chain(&error))?;
        tracing::warn!(
            ?lost,
            "the pod has lost an address that is the guest's own: nothing is sent from it"
        );
        *self.lost.borrow_mut() = lost;
        Ok(())
    }

    /// The pod's address is clear.
    async fn open(&self) {
        if !self.lost.borrow().is_empty() {
            apply::open(self.firewall).await;
            self.lost.borrow_mut().clear();
        }
    }

    /// Once it is served.
    fn tell_own(&self, now: &NetPlan) {
        let own = now.link.own();
        self.feed.own.send_if_modified(|before| std::mem::replace(before, own.clone()) != own);
    }

    /// The guest's IPv6 as the pod's is now: rules that this kernel takes, links, and what is served. True when it is
    /// another.
    async fn follow_ipv6(&self, plan: &NetPlan) -> Result<bool, apply::Error> {
        let before = self.plan.borrow().ipv6.clone();
        let mut now = plan.on(self.abilities.get());
        let is_new = |now: &NetPlan| before != now.link.ipv6 && now.link.ipv6.guest().is_some();
        if is_new(now) {
            let (abilities, indices) = (self.abilities.get(), self.indices.get());
            self.abilities.set(apply::learn(plan, abilities, indices, self.firewall).await?.1);
            now = plan.on(self.abilities.get());
        }
        let links = LinkPlan { ipv6: now.link.ipv6.clone(), ..self.plan.borrow().clone() };
        let made = apply::ipv6(&links, self.indices.get().bridge, self.source.links).await;
        match made.and_then(|()| apply::forwarding6(now, self.source.links)) {
            // That stays so, and is no reason to follow nothing else.
            Err(apply::Error::Link(
                error @ (link::Error::NoIpv6 { .. } | link::Error::NoForwarding6(_)),
            )) => {
                tracing::warn!("the guest has no IPv6: {}", error_chain(&error));
                self.abilities.set(self.abilities.get().without_ipv6());
                now = plan.on(self.abilities.get());
            }
            made => made?,
        }
        // Not before: what failed is tried again at the next look.
        self.plan.borrow_mut().ipv6 = now.link.ipv6.clone();
        let is_another = before != now.link.ipv6;
        if is_another {
            let told = plan::nat::told(&now.link.ipv6, self.abilities.get());
            self.feed.ways.send_modify(|ways| ways.ipv6 = Some(told));
        }
        let told = self
            .targets
            .as_ref()
            .is_some_and(|targets| targets.send_if_modified(|target| target.follow(&now.guest)));
        if told && before.guest().is_some() && now.link.ipv6.guest().is_none() {
            // The rules that come next let no word of ours through.
            tokio::time::sleep(LAST_WORDS).await;
        }
        Ok(is_another)
    }
}

impl observe::Pod for Healer<'_> {
    async fn mend_links(&self) -> Result<bool, String> {
        let links = self.source.links;
        let before = links.changes();
        let told = |error: apply::Error| error_chain(&error);
        let plan = self.plan.borrow().clone();
        let indices = apply::mend_links(&plan, links).await.map_err(told)?;
        self.indices.set(indices);
        let is_mended = links.changes() != before;
        let index = indices.bridge;
        let is_another =
            |target: &mut serve::Target| std::mem::replace(&mut target.link, index) != index;
        if self.targets.as_ref().is_some_and(|targets| targets.send_if_modified(is_another)) {
            tracing::warn!(
                interface = %plan.bridge.name,
                "the bridge was replaced, rebinding DHCP and DNS"
            );
        }
        // While the pod has no address its routes stay; `rules` tells why.
        if let Ok(plan) = self.plan_now().await {
            self.open().await;
            if self.follow_ipv4(&plan).await.map_err(told)? {
                tracing::warn!(ipv4 = %plan.link.ipv4, "the pod's IPv4 or its routes changed");
            }
            let is_another = self.follow_ipv6(&plan).await.map_err(told)?;
            let now = plan.on(self.abilities.get());
            if is_another {
                tracing::warn!(ipv6 = %now.link.ipv6, "the pod's IPv6 or its routes changed");
            }
            self.tell_own(now);
            let lost =
                apply::routes(&now.route, links).await.map_err(|error| error_chain(&error))?;
            let logged_by_dns = |note: &String| Some(note) == now.resolver_note.as_ref();
            let notes = now.notes.iter().filter(|note| !logged_by_dns(note)).cloned();
            self.log_new(notes.chain(lost).collect());
        } else {
            self.close().await?;
        }
        Ok(is_mended)
    }

    async fn rules(&self) -> Result<observe::Rules, String> {
        let now = self.plan_now().await?;
        let rules = self.rules_of(&now);
        let surplus = plan::nat::not_in(&rules.nat);
        if self.surplus.replace(surplus.len()) != surplus.len() {
            apply::without(&surplus, self.firewall).await;
        }
        Ok(rules)
    }
}
