//! Asks every source for what a page of metrics is made of, all at once and when a page is wanted: between two pages
//! nothing runs.
//!
//! ```text
//!  page ─► an answer of a second ago ─► shared
//!      └─► QMP ─ /proc ─ cgroup, volume ─ links ─ rules ─ the other half     together, 500 ms for the lot
//! ```
//!
//! A source that does not answer in time is left out and counted. What it was asked stays open until it answers, and it
//! is asked nothing more until then: a volume that hangs has one question and no more. So has a QEMU; that it has lost an
//! answer is thought after 5 s, and it is asked one more.

mod kernel;
mod machine;
mod single;
mod steady;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant as Clock, timeout_at};

use crate::apply::Fetching;
use crate::console::Hub;
use crate::metrics::{Counts, Fetch, Format, Network, Page, Snapshot, samples};
use crate::supervise::agent::Known;
use crate::supervise::{MachineStatus, Monitor};
use crate::{observe, serve};

pub use kernel::Kernel;

/// For all sources together.
pub const DEADLINE: Duration = Duration::from_millis(500);
/// A page of this age is shared.
const SHARED: Duration = Duration::from_secs(1);

/// The machine half's sources.
#[derive(Debug, Clone)]
pub struct Machine {
    pub status: watch::Receiver<MachineStatus>,
    pub monitor: Monitor,
    pub console: Hub,
    /// Of the plan, once there is one.
    pub planned: watch::Receiver<Option<Planned>>,
    pub fetch: watch::Receiver<Option<Fetching>>,
    /// What the guest's agent says, where it has a channel to one.
    pub agent: Option<watch::Receiver<Known>>,
}

/// What was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub vm: String,
    pub vcpus: u32,
    pub memory_bytes: u64,
    /// Where the VM's disk is; None: it is a device.
    pub volume: Option<PathBuf>,
}

/// The network half's sources.
#[derive(Debug, Clone)]
pub struct Services {
    pub tally: serve::Tally,
    pub health: watch::Receiver<serve::Services>,
    pub counts: watch::Receiver<observe::Counts>,
    /// None until links and rules are made.
    pub kernel: watch::Receiver<Option<Kernel>>,
}

/// Gives the other half's page; None: there is no answer.
pub type Other =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync>;

/// Everything that can be asked.
pub struct Sources {
    /// `run`, `net` or `vm`.
    pub verb: &'static str,
    /// berth's start, by both clocks.
    pub started: (Instant, SystemTime),
    pub machine: Option<Machine>,
    pub services: Option<Services>,
    pub other: Option<Other>,
    /// When the guest was last given its address; in `vm` as the other half told it.
    pub acked: watch::Receiver<Option<Instant>>,
    pub ready: watch::Receiver<bool>,
    /// When it was ready for the first time.
    pub first_ready: watch::Receiver<Option<Instant>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("verb", &self.verb).finish_non_exhaustive()
    }
}

impl Sources {
    /// The wall clock's time of something that was: by one pair of clocks, so that it stays what it is.
    fn wall(&self, at: Instant) -> Duration {
        let (instant, wall) = self.started;
        let start = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let before = instant.saturating_duration_since(at);
        (start + at.saturating_duration_since(instant)).saturating_sub(before)
    }

    /// How long after berth's start it was.
    fn after(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started.0)
    }
}

/// Collects; all that are cloned share one page.
#[derive(Debug, Clone)]
pub struct Collector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Sources,
    /// Held while a page is collected: who asks meanwhile gets the same.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    page: Option<(Clock, Arc<Page>)>,
    errors: Counts,
    machine: machine::State,
    kernel: kernel::State,
    other: single::Single<Option<String>>,
}

impl State {
    /// A source that has no answer is counted.
    fn heard<T>(&mut self, source: &'static str, answer: Option<T>) -> Option<T> {
        let count = self.errors.entry(source).or_default();
        *count += u64::from(answer.is_none());
        answer
    }
}

impl Collector {
    pub fn new(sources: Sources) -> Self {
        Self(Arc::new(Inner { sources, state: Mutex::default() }))
    }

    /// The page as it is now, or was a second ago, within 500 ms and what it takes to write it.
    pub async fn page(&self, format: Format) -> String {
        self.collected().await.write(format)
    }

    /// Its samples.
    pub async fn collected(&self) -> Arc<Page> {
        let Inner { sources, state } = &*self.0;
        let mut state = state.lock().await;
        let now = Clock::now();
        if let Some((at, page)) = &state.page
            && now.duration_since(*at) <= SHARED
        {
            return page.clone();
        }
        let page = Arc::new(collect(sources, &mut state, now).await);
        state.page = Some((now, page.clone()));
        page
    }
}

async fn collect(sources: &Sources, state: &mut State, now: Clock) -> Page {
    // The other half waits for this one's.
    let deadline = now + if sources.verb == "net" { DEADLINE - DEADLINE / 5 } else { DEADLINE };
    let Sources { machine, services, other, .. } = sources;
    let (of_machine, of_kernel, of_other) =
        (&mut state.machine, &mut state.kernel, &mut state.other);
    let kernel = services.as_ref().and_then(|services| services.kernel.borrow().clone());
    let asking_other = async {
        let other = other.as_ref()?;
        Some(of_other.get(deadline, other).await.flatten())
    };
    let asking_services = async {
        match &kernel {
            Some(kernel) => Some(of_kernel.ask(kernel, deadline).await),
            None => None,
        }
    };
    let asking_machine = of_machine.ask(machine.as_ref(), deadline);
    let (told, found, other) = tokio::join!(asking_machine, asking_services, asking_other);
    let mut snapshot = Snapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verb: sources.verb.to_owned(),
        started: sources.wall(sources.started.0),
        ready: *sources.ready.borrow(),
        lease: sources.acked.borrow().map(|at| sources.wall(at)),
        ready_after: sources.first_ready.borrow().map(|at| sources.after(at)),
        ..Snapshot::default()
    };
    machine::fill(&mut snapshot, sources, state, told);
    if let Some(services) = services {
        let mut network = of_services(sources, services);
        kernel::fill(&mut network, state, found);
        snapshot.network = Some(network);
    }
    let other = other.and_then(|answer| state.heard("net", answer));
    snapshot.scrape_errors = state.errors.clone();
    snapshot.took = now.elapsed();
    let mut page = samples(&snapshot);
    other.iter().for_each(|text| page.merge(text));
    page
}

/// What the services counted themselves.
fn of_services(sources: &Sources, services: &Services) -> Network {
    let counted = services.tally.counted();
    let heals = *services.counts.borrow();
    let heals = [
        ("rules", heals.rules_restored),
        ("links", heals.links_mended),
        ("address", heals.addresses_changed),
    ];
    Network {
        heals: BTreeMap::from(heals),
        serving: serving(&services.health.borrow()),
        dhcp_requests: counted.requests,
        dhcp_replies: counted.replies,
        dhcp_dropped: counted.dropped,
        dns: Some(crate::metrics::Dns {
            outcomes: counted.dns_outcomes,
            upstream_failures: counted.upstream_failures,
            dropped: counted.dns_dropped,
            buckets: counted.upstream_buckets,
            answers: counted.upstream_answers,
            sum: counted.upstream_time,
        }),
        lease_after: counted.first_acked.map(|at| sources.after(at)),
        ..Network::default()
    }
}

/// Of those that are not off.
fn serving(services: &serve::Services) -> BTreeMap<&'static str, bool> {
    let of = |(name, health): (&'static str, &serve::Health)| match health {
        serve::Health::Off => None,
        serve::Health::Serving => Some((name, true)),
        serve::Health::Starting | serve::Health::Failing(_) => Some((name, false)),
    };
    services.all().into_iter().filter_map(of).collect()
}

/// How far a download is.
fn fetch(fetching: Fetching) -> Fetch {
    let until = fetching.until.unwrap_or_else(|| Clock::now().into_std());
    Fetch {
        done_bytes: fetching.done_bytes,
        size_bytes: fetching.size_bytes,
        took: until.saturating_duration_since(fetching.since),
    }
}

/// None: not in time.
async fn in_time<T>(deadline: Clock, asked: impl Future<Output = T>) -> Option<T> {
    timeout_at(deadline, asked).await.ok()
}
