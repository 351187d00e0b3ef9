//! Arguments in, exit code out.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use berth::cli::{self, Command, Log, Output};
use berth::config::serve::ServeOptions;
use berth::config::{self, Ambient, Config, LogFormat, Options};
use berth::exit::{Code, story};
use berth::facts::NetFacts;
use berth::plan::machine::BaseFormat;
use berth::plan::{NetPlan, Plan};
use berth::supervise::{Console, Signals};
use berth::sys::image::Format;
use berth::sys::link::{Links, open_tap};
use berth::sys::netlink::Firewall;
use berth::sys::{child, netns, probe};
use berth::{apply, inspect, observe, plan, serve, status, supervise, sys};
use tokio::sync::watch;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            let code = if error.use_stderr() { Code::Usage } else { Code::Success };
            let _ = error.print();
            return code.into();
        }
    };
    let log = match &command {
        Command::Bash(arguments) => return shell(arguments),
        Command::Run { log, .. }
        | Command::Net { log, .. }
        | Command::Vm { log, .. }
        | Command::Plan { log, .. }
        | Command::Serve { log, .. }
        | Command::Nft { log, .. } => log,
        Command::Leases { .. } | Command::Status { .. } => &Log::default(),
    };
    if let Err(error) = start_log(log) {
        eprintln!("berth: {error}");
        return Code::Usage.into();
    }
    // Before there are other threads: they are where this one is.
    if let Command::Nft { place, .. } = &command
        && let Err(error) = enter(place)
    {
        return fail(error).into();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(Failure(Code::Machine, format!("starting the event loop: {error}"))).into();
        }
    };
    let result = runtime.block_on(async {
        match &command {
            Command::Run { options, .. } => run(options).await,
            Command::Net { options, .. } => net(options).await,
            Command::Vm { options, .. } => vm(options).await,
            Command::Status { state_dir, alive, output } => ask_status(state_dir.as_deref(), *alive, *output),
            Command::Plan { options, output, .. } => show_plan(options, *output).await,
            Command::Serve { options, .. } => standing(options).await,
            Command::Leases { lease_file, output } => {
                let json = *output == Output::Json;
                let listed = serve::leases::list(lease_file, json, &mut std::io::stdout().lock());
                listed.map(|()| Code::Success).map_err(|error| Failure(Code::Serve, error))
            }
            Command::Nft { verb: cli::nft::Nft::Check(options), .. } => check(options).await,
            Command::Nft { verb, .. } => {
                inspect::run(verb, &mut std::io::stdout().lock()).await.map_err(from_inspect)
            }
            Command::Bash(_) => Ok(Code::Usage),
        }
    });
    // Threads that still read a terminal or a slow server are not waited for.
    runtime.shutdown_background();
    result.unwrap_or_else(fail).into()
}

/// What went wrong, told once, and the code for it.
struct Failure(Code, String);

fn fail(Failure(code, text): Failure) -> Code {
    for line in text.lines() {
        tracing::error!(code = code.number(), "{line}");
    }
    code
}

/// The walk: config → facts → plan → apply → serve → supervise.
async fn run(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure(Code::Machine, story(&error)))?;
    let links = Links::open().map_err(|error| Failure(Code::Network, story(&error)))?;
    let config = configure(options)?;
    let mut plan = make_plan(&config, &links).await?;
    let told = Told::start("run", &plan.disk.state_dir);
    let preparing = async {
        let firewall = Firewall::start().map_err(|error| Failure(Code::Nat, story(&error)))?;
        let lock = apply::fetch(&plan).await.map_err(from_apply)?;
        let (disks, network) =
            tokio::join!(apply::disks(&plan.disk, lock), Network::prepare(&plan.net, &links, firewall));
        Ok((disks.map_err(from_apply)?, network?))
    };
    let (disks, network) = unless_stopped(&mut signals, preparing).await?;
    let base = stand_on(&mut plan, &disks);
    let (stop, stopping) = watch::channel(false);
    let supervising = async {
        let code = supervise(&plan, base, &mut signals, &told.guest).await;
        let _ = stop.send(true);
        code
    };
    let (code, ()) =
        tokio::join!(supervising, network.keep(&config, &links, &plan.net, NetVerb::Run, &told, stopping));
    code
}

/// `berth net`: the network half alone. Its end leaves everything as it is: a guest may be attached, and the next start
/// finds it so.
async fn net(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure(Code::Machine, story(&error)))?;
    let links = Links::open().map_err(|error| Failure(Code::Network, story(&error)))?;
    let config = configure(options)?;
    let facts =
        probe::net_facts(&config, &links).await.map_err(|error| Failure(Code::Facts, story(&error)))?;
    tell_skipped(&facts);
    let plan = NetVerb::Net.plan(&config, &facts).map_err(from_plan)?;
    let told = Told::start("net", &config.paths.state_dir);
    let preparing = async {
        let firewall = Firewall::start().map_err(|error| Failure(Code::Nat, story(&error)))?;
        Network::prepare(&plan, &links, firewall).await
    };
    let network = unless_stopped(&mut signals, preparing).await?;
    let (stop, stopping) = watch::channel(false);
    let until_told = async {
        signals.asked_to_stop().await;
        let _ = stop.send(true);
    };
    tokio::join!(until_told, network.keep(&config, &links, &plan, NetVerb::Net, &told, stopping));
    tracing::info!("asked to stop: links and rules stay for the guest");
    Ok(Code::Success)
}

/// `berth vm`: the machine half alone, on the tap that `berth net` made. Needs no capability.
async fn vm(options: &Options) -> Result<Code, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure(Code::Machine, story(&error)))?;
    let links = Links::open().map_err(|error| Failure(Code::Network, story(&error)))?;
    let config = configure(options)?;
    let mut plan = make_plan(&config, &links).await?;
    let told = Told::start("vm", &plan.disk.state_dir);
    let preparing = async {
        apply::tap(&plan.net.link.tap.name, &links).await.map_err(from_apply)?;
        let lock = apply::fetch(&plan).await.map_err(from_apply)?;
        apply::disks(&plan.disk, lock).await.map_err(from_apply)
    };
    let disks = unless_stopped(&mut signals, preparing).await?;
    let base = stand_on(&mut plan, &disks);
    supervise(&plan, base, &mut signals, &told.guest).await
}

async fn unless_stopped<T>(
    signals: &mut Signals,
    preparing: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        prepared = preparing => prepared,
        () = signals.asked_to_stop() => Err(Failure(Code::Stopped, "stopped before the guest was started".into())),
    }
}

/// The base image's format, and its true path told to the machine.
fn stand_on(plan: &mut Plan, disks: &apply::Disks) -> BaseFormat {
    let Some((path, format)) = &disks.base else { return BaseFormat::Raw };
    plan.machine.stand_on(path);
    match format {
        Format::Qcow2 => BaseFormat::Qcow2,
        Format::Raw => BaseFormat::Raw,
    }
}

/// From QEMU's start to the guest's end.
async fn supervise(
    plan: &Plan,
    base: BaseFormat,
    signals: &mut Signals,
    standing: &watch::Sender<supervise::Standing>,
) -> Result<Code, Failure> {
    let tap = &plan.net.link.tap;
    let open = || open_tap(&tap.name, tap.queues).map_err(std::io::Error::other);
    let mut console = Console::stdio(false);
    let (machine, lifecycle) = (&plan.machine, &plan.lifecycle);
    let outcome = supervise::run(machine, base, lifecycle, open, &mut console, signals, standing).await;
    console.close().await;
    let outcome = outcome.map_err(|error| Failure(Code::Machine, story(&error)))?;
    let code = Code::Guest(outcome.exit_code());
    tracing::info!(?outcome, code = code.number(), "the guest has ended");
    Ok(code)
}

/// Who asks for the network half: whose the tap is depends on it.
#[derive(Clone, Copy)]
enum NetVerb {
    Run,
    Net,
}

impl NetVerb {
    fn plan(self, config: &Config, facts: &NetFacts) -> Result<NetPlan, plan::Error> {
        let owner = match self {
            Self::Run if !probe::can_setuid() => 0,
            _ => config.machine.uid,
        };
        NetPlan::new(config, facts, owner)
    }
}

/// The network half, made and bound.
struct Network {
    bound: Option<serve::Bound>,
    /// The bridge's index.
    bridge: u32,
    firewall: Firewall,
}

impl Network {
    async fn prepare(plan: &NetPlan, links: &Links, firewall: Firewall) -> Result<Self, Failure> {
        let bridge = apply::links(&plan.link, links).await.map_err(from_apply)?;
        apply::nat(plan, &firewall).await.map_err(from_apply)?;
        let bound = serve::bind(&plan.guest).map_err(|error| Failure(Code::Serve, story(&error)))?;
        Ok(Self { bound, bridge, firewall })
    }

    /// Serves and heals until told to stop.
    async fn keep(
        self,
        config: &Config,
        links: &Links,
        plan: &NetPlan,
        verb: NetVerb,
        told: &Told,
        stopping: watch::Receiver<bool>,
    ) {
        let (bridge, bridges) = watch::channel(self.bridge);
        let serving = tokio::spawn(serve::run(self.bound, stopping.clone(), bridges));
        let here = Here { config, links, plan: &plan.link, verb, bridge };
        told.serving.send_replace(true);
        observe::run(&self.firewall, rules_of(plan), &here, &told.counts, stopping).await;
        let _ = serving.await;
    }
}

/// What `berth status` is told.
struct Told {
    guest: watch::Sender<supervise::Standing>,
    counts: watch::Sender<observe::Counts>,
    serving: watch::Sender<bool>,
}

impl Told {
    /// Answers from now on. A state directory that cannot be written costs the answers, not the guest.
    fn start(verb: &'static str, state_dir: &Path) -> Self {
        let told = Self {
            guest: watch::Sender::default(),
            counts: watch::Sender::default(),
            serving: watch::Sender::new(false),
        };
        let (guest, counts, serving) =
            (told.guest.subscribe(), told.counts.subscribe(), told.serving.subscribe());
        let status = move || status_of(verb, *guest.borrow(), *counts.borrow(), *serving.borrow());
        let made = sys::image::private_dir(state_dir).map_err(|error| story(&error));
        match made.and_then(|()| status::listen(state_dir).map_err(|error| story(&error))) {
            Ok(listener) => drop(tokio::spawn(status::tell(listener, status))),
            Err(error) => tracing::warn!(error, "`berth status` gets no answer"),
        }
        told
    }
}

fn status_of(
    verb: &str,
    guest: supervise::Standing,
    counts: observe::Counts,
    serving: bool,
) -> status::Status {
    let running = guest.phase == supervise::Phase::Running;
    let (machine, network) = (verb != "net", verb != "vm");
    status::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        verb: verb.to_owned(),
        ready: (running || !machine) && (serving || !network),
        guest: machine.then(|| status::Guest {
            phase: guest.phase.as_str().to_owned(),
            accelerator: guest.accelerator.map(|accelerator| accelerator.as_str().to_owned()),
        }),
        network: network.then_some(status::Network {
            serving,
            rules_restored: counts.rules_restored,
            links_mended: counts.links_mended,
            addresses_changed: counts.addresses_changed,
        }),
    }
}

/// What the observer needs of this pod.
struct Here<'a> {
    config: &'a Config,
    links: &'a Links,
    plan: &'a plan::LinkPlan,
    verb: NetVerb,
    /// Told to those who are bound to the bridge.
    bridge: watch::Sender<u32>,
}

impl observe::Pod for Here<'_> {
    async fn mend_links(&self) -> Result<bool, String> {
        let before = self.links.changes();
        let index = apply::mend_links(self.plan, self.links).await.map_err(|error| story(&error))?;
        self.bridge.send_if_modified(|bridge| std::mem::replace(bridge, index) != index);
        Ok(self.links.changes() != before)
    }

    async fn rules(&self) -> Result<observe::Rules, String> {
        let facts = probe::net_facts(self.config, self.links).await.map_err(|error| story(&error))?;
        let plan = self.verb.plan(self.config, &facts);
        plan.map(|plan| rules_of(&plan)).map_err(|error| story(&error))
    }
}

fn rules_of(plan: &NetPlan) -> observe::Rules {
    observe::Rules { nat: plan.nat.clone(), mapping: plan.mapping.clone() }
}

fn configure(options: &Options) -> Result<Config, Failure> {
    options.parse(&Ambient::read()).map_err(|errors| Failure(Code::Usage, errors.to_string()))
}

async fn make_plan(config: &Config, links: &Links) -> Result<Plan, Failure> {
    let facts = probe::facts(config, links).await.map_err(|error| Failure(Code::Facts, story(&error)))?;
    tell_skipped(&facts.net);
    Plan::new(config, &facts).map_err(from_plan)
}

fn tell_skipped(facts: &NetFacts) {
    for word in &facts.resolver.skipped {
        tracing::warn!("resolv.conf: {word}, skipped");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn from_plan(error: plan::Error) -> Failure {
    let code = match &error {
        plan::Error::Disk(plan::disk::Error::NoImageDirectory(_)) => Code::ImageDirectory,
        plan::Error::Disk(plan::disk::Error::Data { .. }) => Code::Seed,
        _ => Code::Plan,
    };
    Failure(code, story(&error))
}

/// `berth status`: the answer printed; whether it is ready, or alive, is the code.
fn ask_status(state_dir: Option<&Path>, alive: bool, output: Output) -> Result<Code, Failure> {
    let dir = state_dir.unwrap_or(Path::new(config::STATE_DIR));
    let status = status::ask(dir).map_err(|error| Failure(Code::NotReady, story(&error)))?;
    let text = match output {
        Output::Text => status.to_string(),
        Output::Json => {
            serde_json::to_string(&status).map_err(|error| Failure(Code::NotReady, error.to_string()))?
        }
    };
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if status.ready || alive { Code::Success } else { Code::NotReady })
}

fn enter(place: &cli::nft::Where) -> Result<(), Failure> {
    let process = place.pid.map(netns::of_process);
    match place.netns.as_ref().or(process.as_ref()) {
        Some(path) => netns::enter(path).map_err(|error| Failure(Code::Network, story(&error))),
        None => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn from_inspect(error: inspect::Error) -> Failure {
    let code = match &error {
        inspect::Error::Usage(_) => Code::Usage,
        inspect::Error::Route(_) => Code::Network,
        inspect::Error::Signals(_) => Code::Machine,
        _ => Code::Nat,
    };
    Failure(code, story(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn from_apply(error: apply::Error) -> Failure {
    use sys::image::Error as Image;
    let code = match &error {
        apply::Error::Image(image) => match image {
            Image::Status { .. } | Image::Unreachable { .. } | Image::Certificates(_) | Image::Full(_) => {
                Code::Fetch
            }
            Image::Checksum { .. } | Image::NotAnImage { .. } | Image::Refers { .. } => Code::Refused,
            Image::Locked { .. } => Code::Locked,
            Image::File { .. } | Image::Overlay { .. } | Image::Create { .. } => Code::Overlay,
        },
        apply::Error::NoBase(_) => Code::Plan,
        apply::Error::Seed(_) | apply::Error::WriteSeed(_) => Code::Seed,
        apply::Error::Link(_) | apply::Error::NoTap(_) => Code::Network,
        apply::Error::Nat(_) => Code::Nat,
        apply::Error::Task(_) => Code::Machine,
    };
    Failure(code, story(&error))
}

/// `berth serve`: config → facts → plan → serve.
async fn standing(options: &ServeOptions) -> Result<Code, Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure(Code::Machine, story(&error)))?;
    let links = Links::open().map_err(|error| Failure(Code::Network, story(&error)))?;
    let facts = |error: probe::Error| Failure(Code::Facts, story(&error));
    let interface = probe::interface(&options.interface, &links).await.map_err(facts)?;
    let resolver = probe::resolver(&options.resolv_conf).map_err(facts)?;
    let plan = plan::serve::plan(options, &interface, &resolver)
        .map_err(|error| Failure(Code::Plan, story(&error)))?;
    let (stop, stopping) = watch::channel(false);
    let serving = serve::standing(&plan, stopping);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = signals.asked_to_stop() => {
            let _ = stop.send(true);
            serving.await
        }
    };
    ended.map(|()| Code::Success).map_err(|error| Failure(Code::Serve, story(&error)))
}

async fn check(options: &Options) -> Result<Code, Failure> {
    let links = Links::open().map_err(|error| Failure(Code::Network, story(&error)))?;
    let plan = make_plan(&configure(options)?, &links).await?;
    inspect::check::run(&plan.net.nat, &mut std::io::stdout().lock()).await.map_err(from_inspect)
}

async fn show_plan(options: &Options, output: Output) -> Result<Code, Failure> {
    let links = Links::open().map_err(|error| Failure(Code::Network, story(&error)))?;
    let plan = make_plan(&configure(options)?, &links).await?;
    let text = match output {
        Output::Text => plan.to_string(),
        Output::Json => {
            serde_json::to_string_pretty(&plan).map_err(|error| Failure(Code::Plan, error.to_string()))?
        }
    };
    // A reader that has seen enough is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(Code::Success)
}

fn shell(arguments: &[OsString]) -> ExitCode {
    let error = child::become_program("bash", arguments);
    eprintln!("berth: bash: {error}");
    Code::Usage.into()
}

fn start_log(log: &Log) -> Result<(), String> {
    let words = log.filter.as_deref().filter(|words| !words.is_empty()).unwrap_or("info");
    let filter: Targets = words.parse().map_err(|error| format!("BERTH_LOG={words:?}: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        Some(LogFormat::Json) => registry.with(lines.json().flatten_event(true)).init(),
        _ => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).init(),
    }
    Ok(())
}
