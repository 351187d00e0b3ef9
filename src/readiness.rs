//! Whether this launcher is ready: folded from what machine, services and observer say, for `berth status` and for the
//! other half.

use std::net::IpAddr;
use std::path::Path;

use tokio::sync::watch;

use crate::exit::error_chain;
use crate::serve::{Health, Services};
use crate::status::{Guest, Network, Serving, Status};
use crate::{confine, observe, status, supervise, sys};

/// Which half, or both, answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Run,
    Net,
    Vm,
}

impl Half {
    fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Net => "net",
            Self::Vm => "vm",
        }
    }
}

/// By which way the guest has the pod's address, or why it has none; None until it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
}

/// Where those who know say how it is.
#[derive(Debug, Default)]
pub struct Feed {
    pub machine: watch::Sender<supervise::MachineStatus>,
    pub services: watch::Sender<Services>,
    pub counts: watch::Sender<observe::Counts>,
    /// The ways of the guest's packets, in words.
    pub ways: watch::Sender<Ways>,
    /// Of the pod's addresses those that are the guest's own.
    pub own: watch::Sender<Vec<IpAddr>>,
    /// What `berth net` says, for `berth vm`; None while there is none.
    pub other: watch::Sender<Option<Network>>,
}

impl Feed {
    /// Answers `berth status` from now on. A state directory that cannot be written costs the answers, not the guest.
    pub fn start(half: Half, state_dir: &Path, unconfined: Vec<String>) -> Self {
        let feed = Self::default();
        let now = feed.status(half, unconfined);
        let made = sys::image::private_dir(state_dir).map_err(|error| error_chain(&error));
        match made.and_then(|()| status::listen(state_dir).map_err(|error| error_chain(&error))) {
            Ok(listener) => drop(tokio::spawn(status::serve(listener, now))),
            Err(error) => tracing::warn!(error, "`berth status` gets no answer"),
        }
        feed
    }

    /// How it is, whenever it is asked. `unconfined`: what is not confined by plan.
    pub fn status(
        &self,
        half: Half,
        unconfined: Vec<String>,
    ) -> impl Fn() -> Status + Send + Sync + use<> {
        let (machine, services) = (self.machine.subscribe(), self.services.subscribe());
        let (counts, other) = (self.counts.subscribe(), self.other.subscribe());
        let (ways, own) = (self.ways.subscribe(), self.own.subscribe());
        move || {
            let network = match half {
                Half::Vm => other.borrow().clone(),
                Half::Run | Half::Net => Some(network(
                    &services.borrow(),
                    *counts.borrow(),
                    &ways.borrow(),
                    &own.borrow(),
                )),
            };
            let machine = match half {
                Half::Net => None,
                Half::Run | Half::Vm => Some(machine.borrow().clone()),
            };
            // A stage may fail at any time: threads are made anew.
            let unconfined = unconfined.iter().cloned().chain(confine::failed()).collect();
            fold(half, machine, network, unconfined)
        }
    }

    /// The network half as it is and as it changes, for the other half.
    pub fn network(&self) -> watch::Receiver<Network> {
        let (mut services, mut counts) = (self.services.subscribe(), self.counts.subscribe());
        let (mut ways, mut own) = (self.ways.subscribe(), self.own.subscribe());
        let (to, heard) = watch::channel(Network::default());
        tokio::spawn(async move {
            loop {
                let now = network(
                    &services.borrow_and_update(),
                    *counts.borrow_and_update(),
                    &ways.borrow_and_update(),
                    &own.borrow_and_update(),
                );
                to.send_replace(now);
                let changed = tokio::select! {
                    changed = services.changed() => changed,
                    changed = counts.changed() => changed,
                    changed = ways.changed() => changed,
                    changed = own.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        heard
    }
}

/// The worst of the services counts.
fn network(services: &Services, counts: observe::Counts, ways: &Ways, own: &[IpAddr]) -> Network {
    let mut reasons = Vec::new();
    let mut serving = Serving::Off;
    for (name, health) in services.all() {
        serving = match (serving, health) {
            (_, Health::Failing(why)) => {
                reasons.push(format!("{name}: {why}"));
                Serving::Failing
            }
            (Serving::Failing, _) => Serving::Failing,
            (Serving::Starting, _) | (_, Health::Starting) => Serving::Starting,
            (Serving::Serving, _) | (_, Health::Serving) => Serving::Serving,
            (Serving::Off, Health::Off) => Serving::Off,
        };
    }
    Network {
        serving,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        ipv4: ways.ipv4.clone(),
        ipv6: ways.ipv6.clone(),
        own: own.to_vec(),
        rules_restored: counts.rules_restored,
        links_mended: counts.links_mended,
        addresses_changed: counts.addresses_changed,
    }
}

fn fold(
    half: Half,
    machine: Option<supervise::MachineStatus>,
    network: Option<Network>,
    unconfined: Vec<String>,
) -> Status {
    let runs = machine.as_ref().is_none_or(|machine| machine.phase == supervise::Phase::Running);
    let serves = network.as_ref().is_some_and(|network| network.serving.is_ready());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verb: half.as_str().to_owned(),
        ready: runs && serves,
        guest: machine.map(|machine| Guest {
            phase: machine.phase.as_str().to_owned(),
            reason: machine.reason,
            accelerator: machine.accelerator.map(|accelerator| accelerator.as_str().to_owned()),
        }),
        network,
        unconfined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dhcp: &Health, dns: &Health) -> (Serving, Option<String>) {
        let services = Services { dhcp: dhcp.clone(), dns: dns.clone(), ..Services::OFF };
        let Network { serving, reason, .. } =
            network(&services, observe::Counts::default(), &Ways::default(), &[]);
        (serving, reason)
    }

    #[test]
    fn the_worst_of_the_services_counts() {
        let failing = Health::Failing("port 67 is taken".to_owned());
        for (health, serving) in [
            (Health::Off, Serving::Off),
            (Health::Starting, Serving::Starting),
            (Health::Serving, Serving::Serving),
        ] {
            assert_eq!(of(&health, &health), (serving, None));
            let why = Some("dhcp: port 67 is taken".to_owned());
            assert_eq!(of(&failing, &health), (Serving::Failing, why));
            let why = Some("dns: port 67 is taken".to_owned());
            assert_eq!(of(&health, &failing), (Serving::Failing, why));
        }
        assert_eq!(of(&Health::Serving, &Health::Off).0, Serving::Serving);
        assert_eq!(of(&Health::Serving, &Health::Starting).0, Serving::Starting);
        assert_eq!(of(&Health::Starting, &Health::Off).0, Serving::Starting);
    }

    #[test]
    fn each_half_is_ready_when_what_it_needs_is() {
        let running =
            supervise::MachineStatus { phase: supervise::Phase::Running, ..Default::default() };
        let ready = |half, machine: &Option<supervise::MachineStatus>, serving: Option<Serving>| {
            let network = serving.map(|serving| Network { serving, ..Network::default() });
            fold(half, machine.clone(), network, Vec::new()).ready
        };
        let (some, starting) = (Some(running), Some(supervise::MachineStatus::default()));
        for serving in [Serving::Off, Serving::Serving] {
            assert!(
                ready(Half::Run, &some, Some(serving)) && ready(Half::Net, &None, Some(serving))
            );
            assert!(!ready(Half::Run, &starting, Some(serving)));
        }
        for serving in [Serving::Starting, Serving::Failing] {
            assert!(
                !ready(Half::Run, &some, Some(serving)) && !ready(Half::Net, &None, Some(serving))
            );
        }
        assert!(!ready(Half::Vm, &some, None), "no network half is heard");
    }
}
