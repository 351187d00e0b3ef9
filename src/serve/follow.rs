//! Follows the interface of `berth serve`: what is served is planned anew whenever the link or its addresses change.
//!
//! ```text
//!  rtnetlink: link, address ─┐                        ┌─ as before: nothing
//!  every minute ─────────────┴─► look ─► can it be ───┼─ another link, address, MAC, MTU: another target
//!                                        served?      └─ no: nothing is served until it can
//! ```
//!
//! Whatever changes what clients get is said once. An interface that is gone is waited for: whoever supervises us could
//! only start us again, and would be refused until it is back.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Target;
use crate::exit::error_chain;
use crate::facts::{Interface, ServedLink};
use crate::net::{IfName, Ipv4Prefix};
use crate::plan::serve::{Error, ServePlan};
use crate::proto::ndp::Advertisement;
use crate::sys::link::Links;
use crate::sys::netlink::watch::LinkChanges;
use crate::sys::probe;

/// A look without being told, should a message have gone astray.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// An interface that is made anew is deleted, made, named, addressed and set up: one look serves all that comes so close
/// together.
const DEBOUNCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_secs(1);

/// What there is to serve, as of the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Served,
    /// Nothing is served, and why.
    Waiting(String),
}

/// The interface, and how it is served.
#[derive(Debug)]
pub struct Follower<'a, P> {
    links: &'a Links,
    /// Ours on it, when the user chose: then it is served only while the link has it.
    fixed: Option<Ipv4Prefix>,
    plan: P,
    /// What was served last.
    planned: ServePlan,
    /// The last router advertisement that said anything.
    advertised: Option<Advertisement>,
    link: u32,
    deaf: Option<String>,
    state: State,
}

impl<'a, P> Follower<'a, P>
where
    P: Fn(&Interface) -> Result<ServePlan, Error>,
{
    /// Begins with the interface as it was `found`.
    pub fn new(
        links: &'a Links,
        fixed: Option<Ipv4Prefix>,
        found: &ServedLink,
        plan: P,
    ) -> Result<Self, Error> {
        let planned = plan(&found.interface)?;
        let state =
            fixed.and_then(|fixed| is_missing(fixed, found)).map_or(State::Served, State::Waiting);
        let (advertised, deaf) = (planned.router.clone(), found.deaf.clone());
        Ok(Self { links, fixed, plan, planned, advertised, link: found.index, deaf, state })
    }

    fn name(&self) -> &IfName {
        &self.planned.interface
    }

    /// All of it, whether or not it can be served now.
    pub(super) fn target(&self) -> Target {
        Target::from_serve(&self.planned, self.link)
    }

    /// Says what is served from now on.
    pub(super) fn begin(&self, targets: &watch::Sender<Target>) {
        let interface = self.name();
        for note in &self.planned.notes {
            tracing::warn!(%interface, "{note}");
        }
        match &self.state {
            State::Served => {
                for (what, address) in services(&self.planned) {
                    tracing::info!(%interface, %address, "serving {what}");
                }
            }
            State::Waiting(why) => {
                tracing::warn!(%interface, "{why}");
                targets.send_modify(|target| *target = target.without_services());
            }
        }
        if let Some(deaf) = &self.deaf {
            tracing::warn!(%interface, "{deaf}");
        }
    }

    /// Follows until it is dropped.
    pub(super) async fn run(mut self, targets: &watch::Sender<Target>) -> Infallible {
        loop {
            let Err(error) = self.watch(targets).await;
            tracing::error!(interface = %self.name(), error, "watching the interface failed, restarting");
            sleep(PAUSE).await;
        }
    }

    async fn watch(&mut self, targets: &watch::Sender<Target>) -> Result<Infallible, String> {
        let mut changes =
            LinkChanges::of_links_and_addresses().map_err(|error| error_chain(&error))?;
        let mut recheck = interval(RECHECK_INTERVAL);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The first tick is at once: what happened while nobody listened is seen then.
            tokio::select! {
                change = changes.next() => {
                    change.map_err(|error| error_chain(&error))?;
                    let debounce = sleep(DEBOUNCE);
                    tokio::pin!(debounce);
                    loop {
                        tokio::select! {
                            () = &mut debounce => break,
                            change = changes.next() => change.map_err(|error| error_chain(&error))?,
                        }
                    }
                }
                _ = recheck.tick() => {}
            }
            let name = self.name().clone();
            let found =
                probe::served_link(&name, self.links).await.map_err(|error| error_chain(&error))?;
            let called = match &found {
                Some(_) => None,
                None => self
                    .links
                    .names()
                    .await
                    .map_err(|error| error_chain(&error))?
                    .remove(&self.link),
            };
            self.take(found.as_ref(), called.as_deref(), targets);
        }
    }

    /// Goes on with what was found; `called` is what the link has for a name when it is not ours any more.
    fn take(
        &mut self,
        found: Option<&ServedLink>,
        called: Option<&str>,
        targets: &watch::Sender<Target>,
    ) {
        let now = match found {
            None => Err(gone(self.name(), called)),
            Some(found) => self.plan_for(found).map(|planned| (found, planned)),
        };
        match now {
            Err(why) => {
                if self.state != State::Waiting(why.clone()) {
                    tracing::warn!(interface = %self.name(), "{why}");
                    self.state = State::Waiting(why);
                    targets.send_modify(|target| *target = target.without_services());
                }
            }
            Ok((found, mut planned)) => {
                if let (Some(before), Some(now)) = (&self.advertised, &mut planned.router) {
                    *now = now.after(before);
                }
                self.advertised = planned.router.clone().or(self.advertised.take());
                self.log_change(found, &planned);
                (self.planned, self.link, self.state) = (planned, found.index, State::Served);
                let target = self.target();
                targets.send_if_modified(|now| {
                    *now != target && {
                        *now = target;
                        true
                    }
                });
            }
        }
        if let Some(found) = found {
            self.log_state(found.deaf.clone());
        }
    }

    /// The address we have is kept as long as the link has it, whichever others come before it.
    fn plan_for(&self, found: &ServedLink) -> Result<ServePlan, String> {
        if let Some(why) = self.fixed.and_then(|fixed| is_missing(fixed, found)) {
            return Err(why);
        }
        let mut interface = found.interface.clone();
        let (ours, ours6) = (self.planned.address, self.planned.address6);
        let is = |ours: Option<Ipv4Prefix>, it: &Ipv4Prefix| {
            ours.is_some_and(|ours| ours.address == it.address)
        };
        interface.addresses.sort_by_key(|address| !is(ours, address));
        interface
            .addresses6
            .sort_by_key(|address| ours6.map(|ours| ours.address) != Some(address.address));
        (self.plan)(&interface)
            .map_err(|error| format!("nothing is served until this fits: {}", error_chain(&error)))
    }

    fn log_change(&self, found: &ServedLink, now: &ServePlan) {
        let (interface, before) = (self.name(), &self.planned);
        let address = ours(now);
        if found.index != self.link {
            tracing::warn!(%interface, %address, "the interface was replaced, rebinding");
        } else if self.state != State::Served {
            tracing::info!(%interface, %address, "serving again");
        }
        if let (Some(from), Some(to)) = (before.address, now.address)
            && from != to
        {
            tracing::warn!(%interface, %from, %to, "our address changed, serving from the new one");
        }
        match (before.address6, now.address6) {
            (Some(from), Some(to)) if from != to => {
                tracing::warn!(%interface, %from, %to, "our IPv6 address changed, serving from the new one");
            }
            _ => {}
        }
        let served: Vec<&str> = services(before).into_iter().map(|(what, _)| what).collect();
        let new = services(now).into_iter().filter(|(what, _)| !served.contains(what));
        for (what, address) in new {
            tracing::info!(%interface, %address, "serving {what}");
        }
        for note in now.notes.iter().filter(|note| !before.notes.contains(note)) {
            tracing::warn!(%interface, "{note}");
        }
        if now.mac != before.mac || now.mtu != before.mtu {
            tracing::info!(%interface, mac = %now.mac, mtu = now.mtu, "the interface's MAC or MTU changed");
        }
    }

    fn log_state(&mut self, deaf: Option<String>) {
        let interface = self.name();
        match &deaf {
            _ if deaf == self.deaf => {}
            Some(deaf) => tracing::warn!(%interface, "{deaf}"),
            None => tracing::info!(%interface, "the interface is up, and hears"),
        }
        self.deaf = deaf;
    }
}

/// What is served, and from where.
fn services(plan: &ServePlan) -> Vec<(&'static str, String)> {
    let four = plan.address.map(|address| address.to_string());
    let six = plan.address6.map(|address| address.to_string());
    let all = [
        ("DHCP", plan.dhcp.is_some(), &four),
        ("DNS", plan.dns.is_some(), &four),
        ("DHCPv6", plan.dhcp6.is_some(), &six),
        ("router advertisements", plan.router.is_some(), &six),
        ("DNS over IPv6", plan.dns.is_some(), &six),
    ];
    let served = all.into_iter().filter(|(_, served, _)| *served);
    served.filter_map(|(what, _, address)| Some((what, address.clone()?))).collect()
}

fn ours(plan: &ServePlan) -> String {
    let four = plan.address.map(|address| address.to_string());
    four.or_else(|| plan.address6.map(|address| address.to_string())).unwrap_or_default()
}

fn gone(name: &IfName, called: Option<&str>) -> String {
    match called {
        Some(called) => {
            format!(
                "the interface is called {called} now: nothing is served until one is called {name}"
            )
        }
        None => "the interface is gone: nothing is served until it is back".to_owned(),
    }
}

fn is_missing(fixed: Ipv4Prefix, found: &ServedLink) -> Option<String> {
    let has = |address: Ipv4Addr| found.every_address.iter().any(|found| found.address == address);
    (!has(fixed.address)).then(|| {
        format!("the interface does not have {fixed} (--address): nothing is served until it does")
    })
}
