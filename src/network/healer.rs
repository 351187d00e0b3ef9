//! What the observer needs of this pod: its links put right, and the rules for the addresses it has now.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use tokio::sync::watch;

use super::Source;
use crate::exit::error_chain;
use crate::plan::nat::{Abilities, Indices};
use crate::plan::{self, LinkPlan, NetPlan};
use crate::sys::probe;
use crate::{apply, observe, serve};

pub(super) struct Healer<'a> {
    source: Source<'a>,
    plan: &'a LinkPlan,
    abilities: Abilities,
    /// Of the links as they are now.
    indices: Cell<Indices>,
    /// For those who are bound to the bridge; None when nothing is served.
    targets: Option<watch::Sender<serve::Target>>,
    /// Notes that were logged already.
    logged: RefCell<BTreeSet<String>>,
}

impl<'a> Healer<'a> {
    pub(super) fn new(
        source: Source<'a>,
        plan: &'a LinkPlan,
        (abilities, indices): (Abilities, Indices),
        targets: Option<watch::Sender<serve::Target>>,
        logged: BTreeSet<String>,
    ) -> Self {
        let (indices, logged) = (Cell::new(indices), RefCell::new(logged));
        Self { source, plan, abilities, indices, targets, logged }
    }

    pub(super) fn rules_of(&self, plan: &NetPlan) -> observe::Rules {
        observe::Rules {
            nat: plan::nat::for_kernel(plan, self.abilities, self.indices.get()),
            mapping: plan.mapping.clone(),
        }
    }

    /// The plan for the pod as it is now.
    async fn plan_now(&self) -> Result<NetPlan, String> {
        let Source { config, links, attached } = self.source;
        let facts = probe::net_facts(config, links).await.map_err(|error| error_chain(&error))?;
        NetPlan::new(config, &facts, attached).map_err(|error| error_chain(&error))
    }

    /// Each once, for as long as it is so.
    fn log_new(&self, notes: BTreeSet<String>) {
        let mut logged = self.logged.borrow_mut();
        notes.difference(&logged).for_each(|note| tracing::warn!("{note}"));
        *logged = notes;
    }
}

impl observe::Pod for Healer<'_> {
    async fn mend_links(&self) -> Result<bool, String> {
        let links = self.source.links;
        let before = links.changes();
        let told = |error: apply::Error| error_chain(&error);
        let indices = apply::mend_links(self.plan, links).await.map_err(told)?;
        self.indices.set(indices);
        let index = indices.bridge;
        if self.abilities.dup {
            apply::ipv6(self.plan, index, links).await.map_err(told)?;
        }
        let is_another =
            |target: &mut serve::Target| std::mem::replace(&mut target.link, index) != index;
        if self.targets.as_ref().is_some_and(|targets| targets.send_if_modified(is_another)) {
            tracing::warn!(
                interface = %self.plan.bridge.name,
                "the bridge was replaced, rebinding DHCP and DNS"
            );
        }
        // While the pod has no address its routes stay; `rules` tells why.
        if let Ok(now) = self.plan_now().await {
            let lost =
                apply::routes(&now.route, links).await.map_err(|error| error_chain(&error))?;
            let logged_by_dns = |note: &String| Some(note) == now.resolver_note.as_ref();
            let notes = now.notes.iter().filter(|note| !logged_by_dns(note)).cloned();
            self.log_new(notes.chain(lost).collect());
        }
        Ok(links.changes() != before)
    }

    async fn rules(&self) -> Result<observe::Rules, String> {
        self.plan_now().await.map(|plan| self.rules_of(&plan))
    }
}
