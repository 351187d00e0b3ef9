//! Arguments in, exit code out.

mod verbs;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use berth::cli::{self, Command, Log, Request};
use berth::config::{self, LogFormat};
use berth::confine;
use berth::exit::{Code, Failure};
use berth::log::{Queue, one_line};
use berth::sys::{self, child};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the last lines of the log may take to reach whoever reads them. Part of the margin that is left of a
/// grace period when QEMU is quit.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    confine::hide();
    match cli::parse(std::env::args_os()) {
        Ok(Request::Shell(arguments)) => shell(&arguments),
        Ok(Request::Verb { log, command }) => run(&log, &command),
        Err(error) => {
            let code = if error.use_stderr() { Code::Usage } else { Code::Success };
            let _ = error.print();
            code.into()
        }
    }
}

fn run(log: &Log, command: &Command) -> ExitCode {
    // Both before there are other threads: they begin as this one is.
    sys::ffi::one_heap();
    let refused = if command.runs_long() { confine::begin() } else { Vec::new() };
    let log = match start_log(log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("berth: {}", one_line(&error));
            return Code::Usage.into();
        }
    };
    verbs::warn(&refused);
    if command.reads_variables() {
        verbs::warn(&config::unknown_here());
    }
    let code = act(command).unwrap_or_else(|failure| {
        if command.runs_long() {
            verbs::ended(command, &failure);
        }
        fail(failure)
    });
    log.close(FLUSH_WITHIN);
    code.into()
}

/// Does what was asked for, on one thread.
fn act(command: &Command) -> Result<Code, Failure> {
    verbs::prepare(command)?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    if command.runs_long() {
        runtime.on_thread_start(confine::files);
    }
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Code::Machine, format!("starting the event loop: {error}"))
    })?;
    let result = runtime.block_on(verbs::act(command));
    // Threads that still read a terminal or a slow server are not waited for.
    runtime.shutdown_background();
    result
}

fn fail(Failure { code, text, fault }: Failure) -> Code {
    let fault = fault.map(|fault| fault.id);
    for line in text.lines() {
        tracing::error!(code = code.number(), fault, "{line}");
    }
    code
}

fn shell(arguments: &[OsString]) -> ExitCode {
    let error = child::become_program("bash", arguments);
    eprintln!("berth: bash: {error}");
    Code::Usage.into()
}

fn start_log(log: &Log) -> Result<Queue, String> {
    let filter = log.targets().map_err(|invalid| invalid.to_string())?;
    let lost = |lost| {
        tracing::error!(lost, "log lines lost: stderr was not read, or could not be written");
    };
    let queue = Queue::start(sys::stdio::stderr(), lost, confine::idle)
        .map_err(|error| format!("starting the log: {error}"))?;
    let writer = queue.clone();
    let lines =
        tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_target(false);
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
