//! The verbs that launch: everything, and its two halves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth::collect::{Other, Planned};
use berth::config::{Config, OnNetLost, Options, Reach};
use berth::console::{Hub, Wire};
use berth::exit::{Code, Failure, error_chain};
use berth::faults::{self, Fault};
use berth::metrics::Format;
use berth::network::{Network, Source};
use berth::plan::disk::Root;
use berth::plan::link::Tap;
use berth::plan::machine::ReadyMachine;
use berth::plan::{Attached, NetPlan, Plan};
use berth::proto::lifecycle::Outcome;
use berth::ram::Facts;
use berth::readiness::{Answers, Expected, Feed, Half, Launch, Wanted, look_at_client, other_page};
use berth::supervise::agent::{self, Channel};
use berth::supervise::storage::Storage;
use berth::supervise::{self, Console, Monitor, Others, Questions, Signals, Suspension};
use berth::sys::link::{Links, open_tap, try_tap};
use berth::sys::netlink::Firewall;
use berth::sys::{child, probe};
use berth::{apply, confine, console, control, doctor, halves, web};
use tokio::sync::{mpsc, watch};

use super::orders::orders;
use super::{configure, failed, make_plan, warn};

/// How long `berth net` may stay away under `BERTH_ON_NET_LOST=exit`.
const NET_LOST: Duration = Duration::from_secs(30);

/// The walk: config → facts → plan → apply → serve → supervise.
pub async fn run(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    let plan = make_plan(&config, &links).await?;
    warn(confine::ourselves(Some(&plan.machine)).as_slice());
    let (feed, ends) = start(Half::Run, &config, &plan, None)?;
    let preparing = async {
        let firewall = Firewall::start()?;
        let held = apply::lock(&plan).await?;
        // What this container may not do is told before gigabytes are fetched, not after.
        let early = if apply::has_to_fetch(&plan.disk).await? {
            let network = Network::make(&plan.net, &links, firewall.clone()).await?;
            firewall.holds(plan.net.nat.clone()).await?;
            apply::fetch(&plan.disk, &held, feed.fetch.clone()).await?;
            Some(network)
        } else {
            None
        };
        let mapping = async {
            let network = match early {
                Some(network) => network,
                None => Network::make(&plan.net, &links, firewall).await?,
            };
            network.map(&plan.net, &links).await
        };
        let (disks, network) = tokio::join!(apply::disks(&plan.disk, held), mapping);
        Ok::<_, Failure>((disks?, network?))
    };
    let (disks, network) = or_stopped(&mut signals, preparing).await?;
    let machine = disks.machine(&plan.machine);
    let (stop, stopping) = watch::channel(false);
    let supervising = async {
        let code = supervise(&plan, &machine, ends, &mut signals, &feed).await;
        let _ = stop.send(true);
        code
    };
    let source = Source { config: &config, links: &links, attached: Attached::Here };
    let (code, ()) =
        tokio::join!(supervising, network.serve_and_heal(source, &plan.net, &feed, stopping));
    code
}

/// `berth net`: the network half alone. Its end leaves everything as it is: a guest may be attached, and the next start
/// finds it so.
pub async fn net(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    let facts = probe::settled_net_facts(&config, &links).await?;
    let plan = NetPlan::new(&config, &facts, Attached::Elsewhere)?;
    warn(&plan.notes);
    warn(confine::ourselves(None).as_slice());
    if config.web.reach != Reach::Off || config.web.metrics.is_some() {
        tracing::info!(
            "BERTH_WEB and BERTH_METRICS are `berth vm`'s: this half has no screen, and keeps their ports for it"
        );
    }
    // Before anything is touched: another one may serve here.
    let listener = halves::listen(&plan.link.tap.name).await?;
    let (feed, answers) =
        Feed::start(Half::Net, &config.paths.state_dir, confine::unconfined(None), None, None);
    feed.findings.send_replace(plan.findings.clone());
    tokio::spawn(look_at_client(feed.tally.clone(), plan.guest.mac, feed.findings.clone()));
    tokio::spawn(halves::serve(listener, feed.network()));
    let page = move || {
        let answers = answers.clone();
        async move { answers.page(Format::OpenMetrics).await }
    };
    let (tap, readers) = (plan.link.tap.name.clone(), vec![config.machine.uid]);
    tokio::spawn(halves::serve_page(tap, readers, page));
    let preparing = async {
        let firewall = Firewall::start()?;
        Network::make(&plan, &links, firewall).await?.map(&plan, &links).await
    };
    let network = or_stopped(&mut signals, preparing).await?;
    let (stop, stopping) = watch::channel(false);
    let until_told = async {
        signals.asked_to_stop().await;
        let _ = stop.send(true);
    };
    let source = Source { config: &config, links: &links, attached: Attached::Elsewhere };
    tokio::join!(until_told, network.serve_and_heal(source, &plan, &feed, stopping));
    tracing::info!(
        "asked to stop: links and rules stay for the guest, as long as this network namespace does"
    );
    doctor::forget(&config.paths.state_dir);
    Ok(Code::Success)
}

/// `berth vm`: the machine half alone, on the tap that `berth net` made. Needs no capability.
pub async fn vm(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let config = configure(options)?;
    let plan = make_plan(&config, &links).await?;
    warn(confine::ourselves(Some(&plan.machine)).as_slice());
    let other = other_page(plan.net.link.tap.name.clone(), config.machine.uid);
    let (feed, ends) = start(Half::Vm, &config, &plan, Some(other))?;
    tokio::spawn(halves::follow(
        plan.net.link.tap.name.clone(),
        config.machine.uid,
        feed.other.clone(),
    ));
    tokio::spawn(halves::own(feed.other.subscribe(), feed.own.clone()));
    let launching = async {
        let preparing = async {
            apply::tap(&plan.net.link.tap.name, &links).await?;
            let held = apply::lock(&plan).await?;
            if apply::has_to_fetch(&plan.disk).await? {
                let Tap { name, queues, .. } = &plan.net.link.tap;
                try_tap(name, *queues)
                    .map_err(|error| Failure::new(Code::Machine, error_chain(&error)))?;
                apply::fetch(&plan.disk, &held, feed.fetch.clone()).await?;
            }
            Ok(apply::disks(&plan.disk, held).await?)
        };
        let disks = or_stopped(&mut signals, preparing).await?;
        let machine = disks.machine(&plan.machine);
        supervise(&plan, &machine, ends, &mut signals, &feed).await
    };
    let watching = async {
        let limit = (config.lifecycle.on_net_lost == OnNetLost::Exit).then_some(NET_LOST);
        let has_uplink = async || probe::net_facts(&config, &links).await.is_ok();
        halves::watch_over(feed.other.subscribe(), limit, has_uplink).await;
    };
    tokio::pin!(launching);
    tokio::select! {
        code = &mut launching => return code,
        () = watching => {}
    }
    tracing::error!(
        after_s = NET_LOST.as_secs(),
        "the network half stayed away: stopping the guest"
    );
    // As anybody would ask: the guest gets its grace period.
    child::terminate_ourselves();
    match launching.await {
        Ok(_) | Err(Failure { code: Code::Stopped, .. }) => {
            let words = "ended because the network half stayed away";
            Err(Failure::new(Code::NetLost, words).named(&faults::NET_HALF_LOST))
        }
        code => code,
    }
}

/// The supervisor's ends: of the serial line, of what is asked of QEMU, and of the way to the guest's agent.
struct Ends {
    wire: Wire,
    questions: Questions,
    agent: Channel,
    suspension: Suspension,
}

/// The half with the machine answers from now on: status, console, page and metrics. Returned are who feeds them, and what they
/// ask.
fn start(
    half: Half,
    config: &Config,
    plan: &Plan,
    other: Option<Other>,
) -> Result<(Feed, Ends), Failure> {
    let (hub, wire) = console::new();
    let (monitor, questions) = Monitor::new();
    let (guest_agent, agent) = agent::start();
    let guest = &plan.net.guest;
    let wanted = Wanted {
        ready: plan.lifecycle.ready.clone(),
        guest: guest.alias.unwrap_or(guest.address.address),
    };
    let expected = Expected {
        tap: plan.net.link.tap.name.clone(),
        mac: guest.mac,
        gateway: guest.gateway_mac,
        asks: guest.serve,
        seed: plan.disk.seed.is_some(),
    };
    let launch = Launch {
        wanted,
        monitor: monitor.clone(),
        hub: hub.clone(),
        expected,
        agent: plan.machine.has_agent().then(|| guest_agent.known()),
    };
    let unconfined = confine::unconfined(Some(&plan.machine));
    let (feed, answers) = Feed::start(half, &plan.disk.state_dir, unconfined, Some(launch), other);
    feed.findings.send_replace(plan.findings().cloned().collect());
    tokio::spawn(look_at_client(feed.tally.clone(), guest.mac, feed.findings.clone()));
    let volume = match &plan.disk.root {
        Root::Overlay { path, .. } => path.parent().map(Path::to_path_buf),
        Root::Device { .. } => None,
    };
    feed.planned.send_replace(Some(Planned {
        vm: plan.name.clone(),
        vcpus: config.machine.vcpu,
        memory_bytes: config.machine.ram_mib.saturating_mul(1 << 20),
        volume,
    }));
    console::socket::start(&plan.disk.state_dir, hub.clone());
    let guest_agent = plan.machine.has_agent().then_some(guest_agent);
    let disks = Storage::new(
        &plan.disk,
        &plan.name,
        monitor.clone(),
        guest_agent.clone(),
        feed.machine.clone(),
    );
    let (suspender, asked) = mpsc::channel(1);
    control::start(
        &plan.disk.state_dir,
        guest_agent.clone(),
        Some(disks.clone()),
        suspender.clone(),
    );
    let suspension = Suspension {
        monitor: monitor.clone(),
        notes: told(plan),
        asked,
        agent: guest_agent,
        storage: disks.clone(),
    };
    let parts = parts(config, answers, monitor, hub, orders(disks, suspender));
    web::start(&config.web, &plan.web, parts)?;
    Ok((feed, Ends { wire, questions, agent, suspension }))
}

/// What the page and the metrics' port show.
fn parts(
    config: &Config,
    answers: Answers,
    monitor: Monitor,
    hub: Hub,
    orders: web::Orders,
) -> web::Parts {
    let numbers = answers.clone();
    web::Parts {
        vm: config.name.clone(),
        status: Arc::new(move || answers.status()),
        monitor,
        serial: Some(Arc::new(hub)),
        metrics: Some(Arc::new(move |accept| {
            let (numbers, format) = (numbers.clone(), Format::accepted(&accept));
            Box::pin(async move { (format.content_type(), numbers.page(format).await) })
        })),
        orders,
        assets: web::ASSETS,
    }
}

/// What the guest hears of its network at once, and what a pod elsewhere may tell it otherwise.
fn told(plan: &Plan) -> Facts {
    let guest = &plan.net.guest;
    let mut facts = Facts::default();
    facts.push("address", guest.address.to_string());
    facts.push("name servers", format!("{:?}", guest.dns));
    facts.push("search", guest.search.join(" "));
    facts.push("MTU", guest.mtu.to_string());
    facts.push("IPv6", format!("{:?}", plan.net.guest.ipv6));
    facts
}

fn fault_of(outcome: Outcome) -> Option<&'static Fault> {
    match outcome {
        Outcome::Failed { .. } => Some(&faults::QEMU_FAILED),
        Outcome::Panicked { .. } => Some(&faults::GUEST_PANICKED),
        Outcome::NotResumed => Some(&faults::RESUME_REFUSED),
        Outcome::Poweroff | Outcome::Reboot | Outcome::Stopped(_) | Outcome::Suspended => None,
    }
}

async fn or_stopped<T>(
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
    ends: Ends,
    signals: &mut Signals,
    feed: &Feed,
) -> Result<Code, Failure> {
    let Ends { wire, mut questions, agent, suspension } = ends;
    let tap = &plan.net.link.tap;
    let open = || open_tap(&tap.name, tap.queues).map_err(std::io::Error::other);
    let mut console = Console::stdio(wire, false);
    let others = Others {
        own: feed.own.subscribe(),
        questions: &mut questions,
        status: &feed.machine,
        agent: &agent,
        suspension: Some(suspension),
    };
    let outcome =
        supervise::run(machine, &plan.lifecycle, open, &mut console, signals, others).await;
    console.close().await;
    let outcome = outcome?;
    let code = match outcome {
        Outcome::Panicked { .. } => Code::Panicked,
        Outcome::NotResumed => Code::NotResumed,
        _ => Code::Guest(outcome.exit_code()),
    };
    let fault = fault_of(outcome);
    let state_dir = &plan.disk.state_dir;
    match fault {
        Some(fault) => failed(state_dir, &Failure::new(code, outcome.to_string()).named(fault)),
        None => doctor::forget(state_dir),
    }
    if fault.is_some() {
        tracing::error!(code = code.number(), "{outcome}");
    } else {
        tracing::info!(code = code.number(), "{outcome}");
    }
    Ok(code)
}
