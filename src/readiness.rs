//! Whether this launcher is ready: folded from what machine, services and observer say, for `berth status`, for probes and
//! for the other half; and its page of metrics.

mod agent;
mod moments;
mod sign;
mod symptoms;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::apply::Fetching;
use crate::collect::{self, Collector, Kernel, Planned};
use crate::config::Ready;
use crate::console::Hub;
use crate::exit::error_chain;
use crate::faults::{self, Finding};
use crate::metrics::Format;
use crate::serve::{Health, Services, Tally};
use crate::status::{Fetch, Guest, Network, Request, Serving, Status};
use crate::supervise::agent::Known;
use crate::supervise::{MachineStatus, Monitor, Phase};
use crate::{confine, halves, observe, status, sys};

use moments::{other_acks, started, unix_ms};
pub use symptoms::{Expected, look_at_client};

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

/// What the guest has to show, and where it is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub ready: Ready,
    pub guest: Ipv4Addr,
}

/// What there is where a guest is.
#[derive(Debug, Clone)]
pub struct Launch {
    pub wanted: Wanted,
    /// QEMU is asked here.
    pub monitor: Monitor,
    /// What the guest writes is read here.
    pub hub: Hub,
    /// What it is to do, besides.
    pub expected: Expected,
    /// What its agent says, where it has a channel to one.
    pub agent: Option<watch::Receiver<Known>>,
}

/// Where those who know say how it is.
#[derive(Debug, Default)]
pub struct Feed {
    pub machine: watch::Sender<MachineStatus>,
    pub services: watch::Sender<Services>,
    pub counts: watch::Sender<observe::Counts>,
    /// The ways of the guest's packets, in words.
    pub ways: watch::Sender<Ways>,
    /// Of the pod's addresses those that are the guest's own.
    pub own: watch::Sender<Vec<IpAddr>>,
    /// What `berth net` says, for `berth vm`; None while there is none.
    pub other: watch::Sender<Option<Network>>,
    /// What the services count.
    pub tally: Tally,
    /// Links and rules, once they are made.
    pub kernel: watch::Sender<Option<Kernel>>,
    pub planned: watch::Sender<Option<Planned>>,
    pub fetch: watch::Sender<Option<Fetching>>,
    /// What is wrong, of what has a name.
    pub findings: watch::Sender<Vec<Finding>>,
}

/// What is told to who asks: by a socket, or by a listener. Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    collector: Collector,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Answers {
    /// How it is now; [`Status::reasons`] says why it is not ready.
    pub fn status(&self) -> Status {
        (self.status)()
    }

    /// The page of metrics, within half a second.
    pub async fn page(&self, format: Format) -> String {
        self.collector.page(format).await
    }

    async fn to(self, request: Request) -> Option<Vec<u8>> {
        match request {
            Request::Status => serde_json::to_vec(&self.status()).ok(),
            Request::Metrics(format) => Some(self.page(format).await.into_bytes()),
        }
    }
}

impl Feed {
    /// Answers `berth status` from now on. A state directory that cannot be written costs the answers, not the guest.
    /// `launch` is None for `net`, which has no guest; `other` asks the other half for its page.
    pub fn start(
        half: Half,
        state_dir: &Path,
        unconfined: Vec<String>,
        launch: Option<Launch>,
        other: Option<collect::Other>,
    ) -> (Self, Answers) {
        let feed = Self::default();
        let acked = feed.acked(half);
        if let Some(Launch { monitor, hub, expected, .. }) = launch.clone() {
            let (machine, acked) = (feed.machine.subscribe(), acked.clone());
            let findings = feed.findings.clone();
            let watch = symptoms::Watch { expected, machine, acked, monitor, hub, findings };
            tokio::spawn(watch.run());
        }
        let seen = feed.look_for(launch.as_ref(), acked.clone());
        let status = feed.fold(half, unconfined, launch.as_ref(), seen.subscribe());
        let (ready, first_ready) = feed.judge(status.clone(), seen);
        let machine = launch.map(|launch| collect::Machine {
            status: feed.machine.subscribe(),
            monitor: launch.monitor,
            console: launch.hub,
            planned: feed.planned.subscribe(),
            fetch: feed.fetch.subscribe(),
            agent: launch.agent,
        });
        let services = (half != Half::Vm).then(|| collect::Services {
            tally: feed.tally.clone(),
            health: feed.services.subscribe(),
            counts: feed.counts.subscribe(),
            kernel: feed.kernel.subscribe(),
        });
        let collector = Collector::new(collect::Sources {
            verb: half.as_str(),
            started: started(),
            machine,
            services,
            other,
            acked,
            ready,
            first_ready,
        });
        let answers = Answers { status, collector };
        let made = sys::image::private_dir(state_dir).map_err(|error| error_chain(&error));
        match made.and_then(|()| status::listen(state_dir).map_err(|error| error_chain(&error))) {
            Ok(listener) => {
                let answers = answers.clone();
                let answer = move |request| answers.clone().to(request);
                drop(tokio::spawn(status::serve(listener, answer)));
            }
            Err(error) => {
                let finding = faults::STATE_DIRECTORY
                    .found(format_args!("`berth status` gets no answer: {error}"));
                tracing::warn!("{finding}");
            }
        }
        (feed, answers)
    }

    /// When the guest was given its address: by this process, or by the other half.
    fn acked(&self, half: Half) -> watch::Receiver<Option<Instant>> {
        if half != Half::Vm {
            return self.tally.acked();
        }
        let acked = watch::Sender::default();
        let heard = acked.subscribe();
        tokio::spawn(other_acks(self.other.subscribe(), acked, started()));
        heard
    }

    /// Looks for what the guest has to show from now on.
    fn look_for(
        &self,
        launch: Option<&Launch>,
        acked: watch::Receiver<Option<Instant>>,
    ) -> sign::Seen {
        let (seen, machine) = (sign::Seen::default(), self.machine.subscribe());
        let agent = launch.and_then(|launch| launch.agent.clone());
        let wanted = launch.map(|launch| (&launch.wanted.ready, launch.wanted.guest, &launch.hub));
        match wanted {
            None | Some((Ready::Running, ..)) => {}
            Some((Ready::Agent, ..)) => match agent {
                Some(known) => drop(tokio::spawn(sign::agent(machine, known, seen.clone()))),
                None => tracing::warn!(
                    "BERTH_READY=agent: the guest has no channel to an agent that is berth's, and is never ready"
                ),
            },
            Some((Ready::Dhcp, ..)) => {
                tokio::spawn(sign::dhcp(machine, acked, seen.clone()));
            }
            Some((Ready::Tcp(port), guest, _)) => {
                tokio::spawn(sign::tcp(machine, (guest, *port), seen.clone()));
            }
            Some((Ready::Serial(pattern), _, hub)) => match hub.attach(sign::reader()) {
                Ok(session) => {
                    let looking =
                        sign::serial(pattern.clone(), session.output, machine, seen.clone());
                    tokio::spawn(looking);
                }
                Err(error) => tracing::warn!(%error, "BERTH_READY is not looked for"),
            },
        }
        seen
    }

    /// How it is, whenever that is asked.
    fn fold(
        &self,
        half: Half,
        unconfined: Vec<String>,
        launch: Option<&Launch>,
        seen: watch::Receiver<Option<Instant>>,
    ) -> Arc<dyn Fn() -> Status + Send + Sync> {
        let (machine, services) = (self.machine.subscribe(), self.services.subscribe());
        let (counts, other) = (self.counts.subscribe(), self.other.subscribe());
        let (ways, own) = (self.ways.subscribe(), self.own.subscribe());
        let (acked, begun, fetching) = (self.tally.acked(), started(), self.fetch.subscribe());
        let findings = self.findings.subscribe();
        let wanted = launch.map(|launch| launch.wanted.clone());
        let agent = launch.and_then(|launch| launch.agent.clone());
        Arc::new(move || {
            let network = match half {
                Half::Vm => other.borrow().clone(),
                Half::Run | Half::Net => Some(network(
                    &services.borrow(),
                    *counts.borrow(),
                    &ways.borrow(),
                    &own.borrow(),
                    acked.borrow().map(|at| unix_ms(begun, at)),
                )),
            };
            let machine = match half {
                Half::Net => None,
                Half::Run | Half::Vm => Some(machine.borrow().clone()),
            };
            // A stage may fail at any time: threads are made anew.
            let unconfined = unconfined.iter().cloned().chain(confine::failed()).collect();
            let missing = machine.as_ref().zip(wanted.as_ref()).and_then(|(machine, wanted)| {
                sign::missing(&wanted.ready, machine, *seen.borrow())
            });
            let stopped = machine.as_ref().filter(|machine| machine.is_io_error);
            let stopped = stopped.map(|machine| {
                format!("the guest is paused: {}", machine.reason.as_deref().unwrap_or("its disk"))
            });
            let mut status = fold(half, machine.as_ref(), network, missing, unconfined);
            if let (Some(guest), Some(machine)) = (&mut status.guest, &machine) {
                let running = machine.started.filter(|_| machine.pid.is_some());
                guest.started_ms = running.map(|at| unix_ms(begun, at));
                guest.agent = agent.as_ref().map(|known| agent::said(&known.borrow(), begun));
                guest.suspend.clone_from(&machine.suspend);
            }
            status.fetch = fetching.borrow().and_then(fetch);
            status.findings.clone_from(&findings.borrow());
            status.findings.extend(stopped.map(|why| faults::DISK_STOPPED.found(why)));
            if machine.is_some_and(|machine| machine.is_panicked) {
                let what = "the guest is as its kernel left it, and waits";
                status.findings.push(faults::GUEST_PANICKED.found(what));
            }
            status
        })
    }

    /// Whether it is ready as that changes, and when it was for the first time.
    fn judge(
        &self,
        status: Arc<dyn Fn() -> Status + Send + Sync>,
        seen: sign::Seen,
    ) -> (watch::Receiver<bool>, watch::Receiver<Option<Instant>>) {
        let (mut machine, mut services) = (self.machine.subscribe(), self.services.subscribe());
        let mut other = self.other.subscribe();
        let (ready, first_ready) = (watch::Sender::new(false), watch::Sender::new(None));
        let both = (ready.subscribe(), first_ready.subscribe());
        tokio::spawn(async move {
            // Where nothing is looked for, nobody else has the other end.
            let mut shown = seen.subscribe();
            loop {
                let now = status().ready;
                ready.send_replace(now);
                if now && first_ready.borrow().is_none() {
                    first_ready.send_replace(Some(tokio::time::Instant::now().into_std()));
                }
                let changed = tokio::select! {
                    changed = machine.changed() => changed,
                    changed = services.changed() => changed,
                    changed = other.changed() => changed,
                    changed = shown.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        both
    }

    /// The network half as it is and as it changes, for the other half.
    pub fn network(&self) -> watch::Receiver<Network> {
        let (mut services, mut counts) = (self.services.subscribe(), self.counts.subscribe());
        let (mut ways, mut own) = (self.ways.subscribe(), self.own.subscribe());
        let (mut acked, begun) = (self.tally.acked(), started());
        let (to, heard) = watch::channel(Network::default());
        tokio::spawn(async move {
            loop {
                let now = network(
                    &services.borrow_and_update(),
                    *counts.borrow_and_update(),
                    &ways.borrow_and_update(),
                    &own.borrow_and_update(),
                    acked.borrow_and_update().map(|at| unix_ms(begun, at)),
                );
                to.send_replace(now);
                let changed = tokio::select! {
                    changed = services.changed() => changed,
                    changed = counts.changed() => changed,
                    changed = ways.changed() => changed,
                    changed = own.changed() => changed,
                    changed = acked.changed() => changed,
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
fn network(
    services: &Services,
    counts: observe::Counts,
    ways: &Ways,
    own: &[IpAddr],
    leased_ms: Option<u64>,
) -> Network {
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
        leased_ms,
        rules_restored: counts.rules_restored,
        links_mended: counts.links_mended,
        addresses_changed: counts.addresses_changed,
    }
}

/// The download, until it is over.
fn fetch(fetching: Fetching) -> Option<Fetch> {
    let Fetching { done_bytes: bytes, size_bytes: size, until, .. } = fetching;
    until.is_none().then_some(Fetch { bytes, size })
}

fn fold(
    half: Half,
    machine: Option<&MachineStatus>,
    network: Option<Network>,
    missing: Option<String>,
    unconfined: Vec<String>,
) -> Status {
    let mut reasons = Vec::new();
    let because = |what: &str, why: &Option<String>| {
        why.as_ref().map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"))
    };
    if let Some(machine) = machine
        && machine.phase != Phase::Running
    {
        reasons.push(because(&format!("the guest is {}", machine.phase.as_str()), &machine.reason));
    }
    match &network {
        Some(network) if network.serving.is_ready() => {}
        Some(network) => {
            let what = format!("the network is {}", network.serving.as_str());
            reasons.push(because(&what, &network.reason));
        }
        None => reasons.push("no `berth net` serves in this network namespace".to_owned()),
    }
    reasons.extend(missing);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verb: half.as_str().to_owned(),
        ready: reasons.is_empty(),
        reasons,
        guest: machine.map(|machine| Guest {
            phase: machine.phase.as_str().to_owned(),
            reason: machine.reason.clone(),
            accelerator: machine.accelerator.map(|accelerator| accelerator.as_str().to_owned()),
            started_ms: None,
            agent: None,
            suspend: None,
        }),
        network,
        fetch: None,
        unconfined,
        findings: Vec::new(),
    }
}

/// Asks the network half of this tap for its page.
pub fn other_page(tap: crate::net::IfName, guest: u32) -> collect::Other {
    Box::new(move || Box::pin(halves::page(tap.clone(), guest)))
}

#[cfg(test)]
mod tests;
