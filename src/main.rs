//! Arguments in, exit code out.

mod launch;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use berth::cli::nft::Nft;
use berth::cli::{self, Command, Log, Output};
use berth::config::serve::ServeOptions;
use berth::config::{self, Ambient, Config, LogFormat, Options};
use berth::exit::{Code, Failure};
use berth::facts::Interface;
use berth::log::{Queue, one_line};
use berth::plan::Plan;
use berth::serve::Follower;
use berth::supervise::Signals;
use berth::sys::link::Links;
use berth::sys::{child, netns, probe};
use berth::{confine, inspect, plan, serve, status, sys, validate};
use tokio::sync::{oneshot, watch};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the last lines of the log may take to reach whoever reads them. Part of the margin that is left of a
/// grace period when QEMU is quit.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    confine::hide();
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
        | Command::Selftest { log, .. }
        | Command::Plan { log, .. }
        | Command::Serve { log, .. }
        | Command::Nft { log, .. } => log,
        Command::Leases { .. } | Command::Status { .. } | Command::Validate { .. } => &Log::default(),
    };
    // Both before there are other threads: they begin as this one is.
    sys::ffi::one_heap();
    let refused = if runs_long(&command) { confine::begin() } else { Vec::new() };
    let log = match start_log(log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("berth: {}", one_line(&error));
            return Code::Usage.into();
        }
    };
    tell(&refused);
    if reads_variables(&command) {
        tell(&config::unknown_here());
    }
    let code = act(&command).unwrap_or_else(fail);
    log.close(FLUSH_WITHIN);
    code.into()
}

/// Whether it does something with what the environment says of VMs and servers.
fn reads_variables(command: &Command) -> bool {
    match command {
        Command::Run { .. }
        | Command::Net { .. }
        | Command::Vm { .. }
        | Command::Selftest { .. }
        | Command::Plan { .. }
        | Command::Serve { .. }
        | Command::Nft { verb: Nft::Check(_), .. } => true,
        Command::Status { .. }
        | Command::Validate { .. }
        | Command::Leases { .. }
        | Command::Nft { .. }
        | Command::Bash(_) => false,
    }
}

/// Whether it starts QEMU or serves: then it is confined.
fn runs_long(command: &Command) -> bool {
    matches!(command, Command::Run { .. } | Command::Net { .. } | Command::Vm { .. } | Command::Serve { .. })
}

/// What was asked for.
fn act(command: &Command) -> Result<Code, Failure> {
    // Before there are other threads: they are where this one is.
    if let Command::Nft { place, .. } = command {
        enter(place)?;
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    if runs_long(command) {
        runtime.on_thread_start(confine::files);
    }
    let runtime = runtime.enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(Code::Machine, format!("starting the event loop: {error}")))?;
    let result = runtime.block_on(async {
        match command {
            Command::Run { options, .. } => launch::run(options).await,
            Command::Net { options, .. } => launch::net(options).await,
            Command::Vm { options, .. } => launch::vm(options).await,
            Command::Selftest { options, no_dns, .. } => launch::self_test(options, *no_dns).await,
            Command::Status { state_dir, alive, output } => {
                ask_status(state_dir.as_deref(), *alive, *output).await
            }
            Command::Plan { options, output, .. } => show_plan(options, *output).await,
            Command::Serve { options, .. } => standing(options).await,
            Command::Validate { files, output } => check_values(files, *output),
            Command::Leases { lease_file, output } => {
                print(&serve::leases::list(lease_file, *output == Output::Json)?)
            }
            Command::Nft { verb: Nft::Check(options), .. } => check(options).await,
            Command::Nft { verb: verb @ (Nft::Watch(_) | Nft::Trace(_)), .. } => look(verb).await,
            Command::Nft { verb, .. } => Ok(inspect::run(verb, &mut std::io::stdout().lock()).await?),
            Command::Bash(_) => Ok(Code::Usage),
        }
    });
    // Threads that still read a terminal or a slow server are not waited for.
    runtime.shutdown_background();
    result
}

fn fail(Failure { code, text }: Failure) -> Code {
    for line in text.lines() {
        tracing::error!(code = code.number(), "{line}");
    }
    code
}

fn configure(options: &Options) -> Result<Config, Failure> {
    tell(&options.notes());
    options.parse(&Ambient::read()).map_err(|errors| Failure::new(Code::Usage, errors.to_string()))
}

async fn make_plan(config: &Config, links: &Links) -> Result<Plan, Failure> {
    let facts = probe::facts(config, links).await?;
    let plan = Plan::new(config, &facts)?;
    tell(&plan.net.notes);
    Ok(plan)
}

fn tell(notes: &[impl std::fmt::Display]) {
    for note in notes {
        tracing::warn!("{note}");
    }
}

/// `berth validate`: what is wrong with the values of these files together; the code says whether anything is an error.
fn check_values(files: &[PathBuf], output: Output) -> Result<Code, Failure> {
    let read = |path: &PathBuf| {
        read_values(path).map_err(|error| {
            Failure::new(Code::Facts, format!("{}: it cannot be read: {error}", path.display()))
        })
    };
    let texts = files.iter().map(read).collect::<Result<Vec<String>, Failure>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let name = |finding: &validate::Finding| {
        files.get(finding.at.file).map(|path| path.display().to_string()).unwrap_or_default()
    };
    let found: Vec<(String, validate::Finding)> =
        validate::values(&texts).into_iter().map(|finding| (name(&finding), finding)).collect();
    let errors = found.iter().filter(|(_, finding)| finding.severity == validate::Severity::Error).count();
    match output {
        Output::Text => {
            let text: String = found.iter().map(|(file, finding)| format!("{file}:{finding}\n")).collect();
            print(&text)?;
            let warnings = found.len() - errors;
            if !found.is_empty() {
                eprintln!("berth: {}, {}", many(errors, "error"), many(warnings, "warning"));
            }
        }
        Output::Json => {
            let told: Vec<_> =
                found.iter().map(|(file, finding)| validate::InFile { file, finding }).collect();
            let text = serde_json::to_string_pretty(&told)
                .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
            print(&format!("{text}\n"))?;
        }
    }
    Ok(if errors == 0 { Code::Success } else { Code::Invalid })
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn read_values(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    }
}

/// `berth status`: the answer printed; whether it is ready, or alive, is the code.
async fn ask_status(state_dir: Option<&Path>, alive: bool, output: Output) -> Result<Code, Failure> {
    let dir = state_dir.unwrap_or(Path::new(config::STATE_DIR));
    let status = status::ask(dir).await?;
    let text = match output {
        Output::Text => status.to_string(),
        Output::Json => {
            serde_json::to_string(&status).map_err(|error| Failure::new(Code::NotReady, error.to_string()))?
        }
    };
    print(&format!("{text}\n"))?;
    Ok(if status.ready || alive { Code::Success } else { Code::NotReady })
}

/// `nft watch` and `trace`, which go on until they are told to end: on a thread of their own, since whoever reads them may
/// stop reading.
async fn look(verb: &Nft) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let (done, mut looked) = oneshot::channel();
    let verb = verb.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Code::Machine, error.to_string()));
        let mut out = std::io::stdout().lock();
        let look = |runtime: tokio::runtime::Runtime| Ok(runtime.block_on(inspect::run(&verb, &mut out))?);
        let _ = done.send(runtime.and_then(look));
    });
    let ended = |ended: Result<_, _>| {
        ended.unwrap_or_else(|_| Err(Failure::new(Code::Machine, "the verb ended unexpectedly")))
    };
    tokio::select! {
        result = &mut looked => return ended(result),
        () = signals.asked_to_stop() => {}
    }
    // It has heard the signal as well, and ends by itself where it is not kept from it.
    match tokio::time::timeout(FLUSH_WITHIN, looked).await {
        Ok(result) => ended(result),
        Err(_) => {
            tracing::warn!("stopped before the end: nobody read stdout, or the kernel was slow");
            Ok(Code::Success)
        }
    }
}

fn enter(place: &cli::nft::Where) -> Result<(), Failure> {
    let process = place.pid.map(netns::of_process);
    match place.netns.as_ref().or(process.as_ref()) {
        Some(path) => Ok(netns::enter(path)?),
        None => Ok(()),
    }
}

/// `berth serve`: config → facts → plan → serve.
async fn standing(options: &ServeOptions) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let found = probe::served_link(&options.interface, &links).await?;
    let found = found.ok_or_else(|| probe::Error::NoInterface(options.interface.clone()))?;
    let resolver = probe::resolver(&options.resolv_conf)?;
    let plan = |interface: &Interface| plan::serve::plan(options, interface, &resolver);
    let follower = Follower::new(&links, options.address, &found, plan)?;
    tell(confine::ourselves(None).as_slice());
    let (stop, stopping) = watch::channel(false);
    let serving = serve::standing(follower, stopping);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended?,
        () = signals.asked_to_stop() => {
            let _ = stop.send(true);
            serving.await?;
        }
    }
    Ok(Code::Success)
}

async fn check(options: &Options) -> Result<Code, Failure> {
    let links = Links::open()?;
    let plan = make_plan(&configure(options)?, &links).await?;
    Ok(inspect::check::run(&plan.net.nat, &mut std::io::stdout().lock()).await?)
}

async fn show_plan(options: &Options, output: Output) -> Result<Code, Failure> {
    let links = Links::open()?;
    let plan = make_plan(&configure(options)?, &links).await?;
    let text = match output {
        Output::Text => plan.to_string(),
        Output::Json => serde_json::to_string_pretty(&plan)
            .map_err(|error| Failure::new(Code::Plan, error.to_string()))?,
    };
    print(&format!("{text}\n"))
}

/// The answer, to stdout. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<Code, Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Output, format!("writing the result: {error}")))
        }
        _ => Ok(Code::Success),
    }
}

fn shell(arguments: &[OsString]) -> ExitCode {
    let error = child::become_program("bash", arguments);
    eprintln!("berth: bash: {error}");
    Code::Usage.into()
}

fn start_log(log: &Log) -> Result<Queue, String> {
    let filter = log.targets().map_err(|invalid| invalid.to_string())?;
    let lost = |lost| tracing::error!(lost, "log lines lost: nobody read stderr, or it could not be written");
    let queue = Queue::start(sys::stdio::stderr(), lost, confine::idle)
        .map_err(|error| format!("starting the log: {error}"))?;
    let writer = queue.clone();
    let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        Some(LogFormat::Json) => registry.with(lines.json().flatten_event(true)).init(),
        _ => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).init(),
    }
    // The hook of the standard library writes to stderr itself, and waits for it.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{}", panic.to_string().replace('\n', " "));
    }));
    Ok(queue)
}
