//! The verbs that launch: everything, its two halves, and the synthetic guest.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use berth::config::{Config, OnNetLost, Options};
use berth::exit::{Code, Failure, story};
use berth::plan::link::Tap;
use berth::plan::machine::ReadyMachine;
use berth::plan::{self, Attached, NetPlan, Plan};
use berth::proto::lifecycle::Outcome;
use berth::supervise::{Console, Signals};
use berth::sys::link::{Links, open_tap, try_tap};
use berth::sys::netlink::Firewall;
use berth::sys::{self, child, probe};
use berth::{apply, confine, halves, observe, selftest, serve, status, supervise};
use tokio::sync::watch;

use super::{configure, make_plan, tell};

/// How long `berth net` may stay away under `BERTH_ON_NET_LOST=exit`.
const NET_LOST: Duration = Duration::from_secs(30);

/// The walk: config → facts → plan → apply → serve → supervise.
pub async fn run(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    let plan = make_plan(&config, &links).await?;
    tell(confine::ourselves(Some(&plan.machine)).as_slice());
    let told = Told::start("run", &plan.disk.state_dir, confine::unconfined(Some(&plan.machine)));
    let preparing = async {
        let firewall = Firewall::start()?;
        let held = apply::lock(&plan).await?;
        // What this container may not do is told before gigabytes are fetched, not after.
        let early = if apply::has_to_fetch(&plan.disk).await? {
            let network = Network::make(&plan.net, &links, firewall.clone()).await?;
            firewall.holds(plan.net.nat.clone()).await?;
            apply::fetch(&plan.disk, &held).await?;
            Some(network)
        } else {
            None
        };
        let mapping = async {
            let network = match early {
                Some(network) => network,
                None => Network::make(&plan.net, &links, firewall).await?,
            };
            network.mapped(&plan.net).await
        };
        let (disks, network) = tokio::join!(apply::disks(&plan.disk, held), mapping);
        Ok::<_, Failure>((disks?, network?))
    };
    let (disks, network) = unless_stopped(&mut signals, preparing).await?;
    let machine = disks.machine(&plan.machine);
    let (stop, stopping) = watch::channel(false);
    let supervising = async {
        let code = supervise(&plan, &machine, &mut signals, &told.guest).await;
        let _ = stop.send(true);
        code
    };
    let (code, ()) =
        tokio::join!(supervising, network.keep(&config, &links, &plan.net, Attached::Here, &told, stopping));
    code
}

/// `berth net`: the network half alone. Its end leaves everything as it is: a guest may be attached, and the next start
/// finds it so.
pub async fn net(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    let facts = probe::net_facts(&config, &links).await?;
    let plan = NetPlan::new(&config, &facts, Attached::Elsewhere)?;
    tell(&plan.notes);
    tell(confine::ourselves(None).as_slice());
    // Before anything is touched: another one may serve here.
    let listener = halves::listen(&plan.link.tap.name).await?;
    let told = Told::start("net", &config.paths.state_dir, confine::unconfined(None));
    tokio::spawn(halves::tell(listener, told.network()));
    let preparing = async {
        let firewall = Firewall::start()?;
        Network::make(&plan, &links, firewall).await?.mapped(&plan).await
    };
    let network = unless_stopped(&mut signals, preparing).await?;
    let (stop, stopping) = watch::channel(false);
    let until_told = async {
        signals.asked_to_stop().await;
        let _ = stop.send(true);
    };
    tokio::join!(until_told, network.keep(&config, &links, &plan, Attached::Elsewhere, &told, stopping));
    tracing::info!(
        "asked to stop: links and rules stay for the guest, as long as this network namespace does"
    );
    Ok(Code::Success)
}

/// `berth vm`: the machine half alone, on the tap that `berth net` made. Needs no capability.
pub async fn vm(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    let plan = make_plan(&config, &links).await?;
    tell(confine::ourselves(Some(&plan.machine)).as_slice());
    let told = Told::start("vm", &plan.disk.state_dir, confine::unconfined(Some(&plan.machine)));
    tokio::spawn(halves::follow(plan.net.link.tap.name.clone(), config.machine.uid, told.other.clone()));
    let launching = async {
        let preparing = async {
            apply::tap(&plan.net.link.tap.name, &links).await?;
            let held = apply::lock(&plan).await?;
            if apply::has_to_fetch(&plan.disk).await? {
                let Tap { name, queues, .. } = &plan.net.link.tap;
                try_tap(name, *queues).map_err(|error| Failure::new(Code::Machine, story(&error)))?;
                apply::fetch(&plan.disk, &held).await?;
            }
            Ok(apply::disks(&plan.disk, held).await?)
        };
        let disks = unless_stopped(&mut signals, preparing).await?;
        supervise(&plan, &disks.machine(&plan.machine), &mut signals, &told.guest).await
    };
    let watching = async {
        let limit = (config.lifecycle.on_net_lost == OnNetLost::Exit).then_some(NET_LOST);
        let has_uplink = async || probe::net_facts(&config, &links).await.is_ok();
        halves::watch_over(told.other.subscribe(), limit, has_uplink).await;
    };
    tokio::pin!(launching);
    tokio::select! {
        code = &mut launching => return code,
        () = watching => {}
    }
    tracing::error!(after_s = NET_LOST.as_secs(), "the network half stayed away: stopping the guest");
    // As anybody would ask: the guest gets its grace period.
    child::terminate_ourselves();
    match launching.await {
        Ok(_) | Err(Failure { code: Code::Stopped, .. }) => {
            tracing::error!(code = Code::NetLost.number(), "ended because the network half stayed away");
            Ok(Code::NetLost)
        }
        code => code,
    }
}

/// `berth selftest`: the network half, and a synthetic guest on it. What was made stays, as after `berth net`.
pub async fn self_test(options: &Options, no_dns: bool) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    if status::ask(&config.paths.state_dir).await.is_ok() {
        let text = "a launcher runs here: ask it with `berth status`, and test in a container of its own";
        return Err(Failure::new(Code::Plan, text));
    }
    let facts = probe::net_facts(&config, &links).await?;
    let plan = NetPlan::new(&config, &facts, Attached::Elsewhere)?;
    let firewall = Firewall::start()?;
    let network = Network::make(&plan, &links, firewall).await?.mapped(&plan).await?;
    let tap = &plan.link.tap;
    let queues = open_tap(&tap.name, tap.queues)?;
    let queue = queues.into_iter().next().ok_or(Failure::new(Code::Network, "the tap has no queue"))?;
    let (stop, stopping) = watch::channel(false);
    let told = Told::silent();
    let walking = async {
        let findings = tokio::select! {
            findings = selftest::run(queue, &plan, facts.uplink.address.address, no_dns) => Some(findings),
            () = signals.asked_to_stop() => None,
        };
        let _ = stop.send(true);
        findings
    };
    let (findings, ()) =
        tokio::join!(walking, network.keep(&config, &links, &plan, Attached::Elsewhere, &told, stopping));
    let stopped = || Failure::new(Code::Stopped, "stopped before the end of the test");
    let findings = findings.ok_or_else(stopped)?;
    let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    // On a thread of its own, since nobody may read.
    let writing = tokio::task::spawn_blocking(move || sys::stdio::stdout().write_all(text.as_bytes()));
    tokio::select! {
        _ = writing => {}
        () = signals.asked_to_stop() => return Err(stopped()),
    }
    let failed = findings.iter().any(|finding| matches!(finding.outcome, selftest::Outcome::Failed(_)));
    Ok(if failed { Code::SelfTest } else { Code::Success })
}

async fn unless_stopped<T>(
    signals: &mut Signals,
    preparing: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        prepared = preparing => prepared,
        () = signals.asked_to_stop() => Err(Failure::new(Code::Stopped, "stopped before the guest was started")),
    }
}

/// From QEMU's start to the guest's end.
async fn supervise(
    plan: &Plan,
    machine: &ReadyMachine,
    signals: &mut Signals,
    standing: &watch::Sender<supervise::Standing>,
) -> Result<Code, Failure> {
    let tap = &plan.net.link.tap;
    let open = || open_tap(&tap.name, tap.queues).map_err(std::io::Error::other);
    let mut console = Console::stdio(false);
    let lifecycle = &plan.lifecycle;
    let outcome = supervise::run(machine, lifecycle, open, &mut console, signals, standing).await;
    console.close().await;
    let outcome = outcome?;
    let code = Code::Guest(outcome.exit_code());
    if let Outcome::Failed { .. } = outcome {
        tracing::error!(code = code.number(), "{outcome}");
    } else {
        tracing::info!(code = code.number(), "{outcome}");
    }
    Ok(code)
}

/// The network half, made and bound.
struct Network {
    bound: Option<serve::Bound>,
    firewall: Firewall,
    /// The kernel has tables of family arp.
    arp: bool,
    /// Notes that were told.
    told: BTreeSet<String>,
}

impl Network {
    /// Everything but the mapping: the pod still has its address for itself.
    async fn make(plan: &NetPlan, links: &Links, firewall: Firewall) -> Result<Self, Failure> {
        let target = serve::Target::one_guest(&plan.guest, 0);
        let starting = target.as_ref().map(serve::prepare).transpose()?;
        let bridge = apply::links(&plan.link, links).await?;
        let lost = apply::routes(&plan.route, links).await?;
        tell(&lost);
        apply::way_out(plan, bridge, links).await?;
        let bind = |(mut target, starting): (serve::Target, _)| {
            target.link = bridge;
            serve::Bound::on(target, starting)
        };
        let bound = target.zip(starting).map(bind).transpose()?;
        let told = lost.into_iter().chain(plan.notes.iter().cloned()).collect();
        Ok(Self { bound, firewall, arp: true, told })
    }

    /// The pod's address is the guest's from here on.
    async fn mapped(mut self, plan: &NetPlan) -> Result<Self, Failure> {
        self.arp = apply::nat(plan, &self.firewall).await?;
        Ok(self)
    }

    /// Serves and heals until told to stop.
    async fn keep(
        self,
        config: &Config,
        links: &Links,
        plan: &NetPlan,
        attached: Attached,
        told: &Told,
        stopping: watch::Receiver<bool>,
    ) {
        told.down.send_modify(|down| *down -= 1);
        let targets = self.bound.as_ref().map(serve::Bound::targets);
        let (subscribed, stop) = (targets.as_ref().map(watch::Sender::subscribe), stopping.clone());
        let down = told.down.clone();
        let serving = tokio::spawn(async move {
            if let (Some(bound), Some(targets)) = (self.bound, subscribed) {
                bound.run(stop, targets, &down).await;
            }
        });
        let (arp, plan_link) = (self.arp, &plan.link);
        let here =
            Here { config, links, plan: plan_link, attached, arp, targets, told: RefCell::new(self.told) };
        observe::run(&self.firewall, rules_of(plan, arp), &here, &told.counts, stopping).await;
        let _ = serving.await;
    }
}

/// What `berth status` is told.
struct Told {
    guest: watch::Sender<supervise::Standing>,
    counts: watch::Sender<observe::Counts>,
    /// What of the network half does not run; the whole of it, before it is made.
    down: serve::Down,
    /// What the network half says, for the half with the guest.
    other: watch::Sender<Option<status::Network>>,
}

impl Told {
    /// Nobody asks.
    fn silent() -> Self {
        Self {
            guest: watch::Sender::default(),
            counts: watch::Sender::default(),
            down: watch::Sender::new(1),
            other: watch::Sender::default(),
        }
    }

    /// Answers from now on. A state directory that cannot be written costs the answers, not the guest.
    fn start(verb: &'static str, state_dir: &Path, unconfined: Vec<String>) -> Self {
        let told = Self::silent();
        let (guest, counts, down) = (told.guest.subscribe(), told.counts.subscribe(), told.down.subscribe());
        let other = told.other.subscribe();
        let status = move || {
            let network = match verb {
                "vm" => other.borrow().clone().unwrap_or_default(),
                _ => network_of(*down.borrow(), *counts.borrow()),
            };
            // A stage may fail at any time: threads are made anew.
            let unconfined = unconfined.iter().cloned().chain(confine::failed()).collect();
            status_of(verb, guest.borrow().clone(), network, unconfined)
        };
        let made = sys::image::private_dir(state_dir).map_err(|error| story(&error));
        match made.and_then(|()| status::listen(state_dir).map_err(|error| story(&error))) {
            Ok(listener) => drop(tokio::spawn(status::tell(listener, status))),
            Err(error) => tracing::warn!(error, "`berth status` gets no answer"),
        }
        told
    }

    /// The network half as it is and as it changes, for the other half.
    fn network(&self) -> watch::Receiver<status::Network> {
        let (mut down, mut counts) = (self.down.subscribe(), self.counts.subscribe());
        let (to, network) = watch::channel(status::Network::default());
        tokio::spawn(async move {
            loop {
                to.send_replace(network_of(*down.borrow_and_update(), *counts.borrow_and_update()));
                let changed = tokio::select! {
                    changed = down.changed() => changed,
                    changed = counts.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        network
    }
}

fn network_of(down: usize, counts: observe::Counts) -> status::Network {
    status::Network {
        serving: down == 0,
        rules_restored: counts.rules_restored,
        links_mended: counts.links_mended,
        addresses_changed: counts.addresses_changed,
    }
}

fn status_of(
    verb: &str,
    guest: supervise::Standing,
    network: status::Network,
    unconfined: Vec<String>,
) -> status::Status {
    let running = guest.phase == supervise::Phase::Running;
    let machine = verb != "net";
    status::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verb: verb.to_owned(),
        ready: (running || !machine) && network.serving,
        guest: machine.then(|| status::Guest {
            phase: guest.phase.as_str().to_owned(),
            reason: guest.reason,
            accelerator: guest.accelerator.map(|accelerator| accelerator.as_str().to_owned()),
        }),
        network: Some(network),
        unconfined,
    }
}

/// What the observer needs of this pod.
struct Here<'a> {
    config: &'a Config,
    links: &'a Links,
    plan: &'a plan::LinkPlan,
    attached: Attached,
    arp: bool,
    /// Told to those who are bound to the bridge; None when nothing is served.
    targets: Option<watch::Sender<serve::Target>>,
    /// Notes that were told already.
    told: RefCell<BTreeSet<String>>,
}

impl Here<'_> {
    async fn now(&self) -> Result<NetPlan, String> {
        let facts = probe::net_facts(self.config, self.links).await.map_err(|error| story(&error))?;
        NetPlan::new(self.config, &facts, self.attached).map_err(|error| story(&error))
    }

    /// Each once, for as long as it is so.
    fn tell_new(&self, notes: BTreeSet<String>) {
        let mut told = self.told.borrow_mut();
        notes.difference(&told).for_each(|note| tracing::warn!("{note}"));
        *told = notes;
    }
}

impl observe::Pod for Here<'_> {
    async fn mend_links(&self) -> Result<bool, String> {
        let before = self.links.changes();
        let index = apply::mend_links(self.plan, self.links).await.map_err(|error| story(&error))?;
        let is_another = |target: &mut serve::Target| std::mem::replace(&mut target.link, index) != index;
        if self.targets.as_ref().is_some_and(|targets| targets.send_if_modified(is_another)) {
            tracing::warn!(
                interface = %self.plan.bridge.name,
                "the bridge is another one now, binding DHCP and DNS anew"
            );
        }
        // While the pod has no address its routes stay; `rules` tells why.
        if let Ok(now) = self.now().await {
            let lost = apply::routes(&now.route, self.links).await.map_err(|error| story(&error))?;
            let told_by_dns = |note: &String| Some(note) == now.resolver_note.as_ref();
            let notes = now.notes.iter().filter(|note| !told_by_dns(note)).cloned();
            self.tell_new(notes.chain(lost).collect());
        }
        Ok(self.links.changes() != before)
    }

    async fn rules(&self) -> Result<observe::Rules, String> {
        self.now().await.map(|plan| rules_of(&plan, self.arp))
    }
}

fn rules_of(plan: &NetPlan, arp: bool) -> observe::Rules {
    let nat = plan.nat.clone();
    observe::Rules { nat: if arp { nat } else { plan::nat::without_arp(nat) }, mapping: plan.mapping.clone() }
}
