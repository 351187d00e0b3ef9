//! The verbs: what each command does with the rooms of the library.

mod console;
mod disks;
mod doctor;
mod guest;
mod launch;
mod nft;
mod orders;
mod selftest;
mod serve;
mod show;

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use berth::cli::Command;
use berth::config::{Ambient, Config, Options};
use berth::exit::{Code, Failure};
use berth::faults;
use berth::log::one_line;
use berth::plan::Plan;
use berth::sys::link::Links;
use berth::sys::{probe, stdio, termination};
use serde_json::Value;

/// What has to be done before there are other threads.
pub fn prepare(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Check { place, .. } | Command::Inspect { place, .. } => nft::enter(place),
        Command::Run(_)
        | Command::Net(_)
        | Command::Vm(_)
        | Command::Selftest { .. }
        | Command::Status { .. }
        | Command::Console(_)
        | Command::Guest(_)
        | Command::Backup(_)
        | Command::Resize(_)
        | Command::Suspend { .. }
        | Command::Doctor(_)
        | Command::Plan { .. }
        | Command::Serve(_)
        | Command::Validate { .. }
        | Command::Leases { .. } => Ok(()),
    }
}

/// Does what was asked for.
pub async fn act(command: &Command) -> Result<Code, Failure> {
    match command {
        Command::Run(options) => launch::run(options).await,
        Command::Net(options) => launch::net(options).await,
        Command::Vm(options) => launch::vm(options).await,
        Command::Selftest { options, no_dns } => selftest::run(options, *no_dns).await,
        Command::Status { state_dir, alive, output } => {
            show::status(state_dir.as_deref(), *alive, *output).await
        }
        Command::Console(console) => console::run(console).await,
        Command::Guest(verb) => guest::run(verb).await,
        Command::Backup(wanted) => disks::backup(wanted).await,
        Command::Resize(wanted) => disks::resize(wanted).await,
        Command::Suspend { state_dir } => guest::suspend(state_dir.as_deref()).await,
        Command::Doctor(wanted) => doctor::run(wanted).await,
        Command::Plan { options, output } => show::plan(options, *output).await,
        Command::Serve(options) => serve::run(options).await,
        Command::Validate { files, output } => show::validate(files, *output),
        Command::Leases { lease_file, output } => show::leases(lease_file, *output),
        Command::Check { options, .. } => nft::check(options).await,
        Command::Inspect { verb, .. } => nft::look(verb).await,
    }
}

fn configure(options: &Options) -> Result<Config, Failure> {
    warn(&options.notes());
    options
        .parse(&Ambient::read())
        .map_err(|errors| Failure::new(Code::Usage, errors.to_string()).named(&faults::WRONG_WORDS))
}

async fn make_plan(config: &Config, links: &Links) -> Result<Plan, Failure> {
    let facts = probe::facts(config, links).await?;
    let plan = Plan::new(config, &facts)?;
    warn(&plan.net.notes);
    Ok(plan)
}

/// How a launcher ends that failed: told to Kubernetes, and kept for `berth doctor`.
pub fn ended(command: &Command, failure: &Failure) {
    match command {
        Command::Run(options) | Command::Net(options) | Command::Vm(options) => {
            failed(&options.state_dir(), failure);
        }
        _ => termination::tell(&failure.to_string()),
    }
}

/// The same by its state directory.
fn failed(state_dir: &Path, failure: &Failure) {
    termination::tell(&failure.to_string());
    // One that was asked to stop has nothing to tell later, nor what was before it.
    match failure.code {
        Code::Stopped => berth::doctor::forget(state_dir),
        _ => berth::doctor::keep(state_dir, failure, now_ms()),
    }
}

#[expect(clippy::disallowed_methods, reason = "a verb: when it ended")]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Each a line in the log.
pub fn warn(notes: &[impl std::fmt::Display]) {
    for note in notes {
        tracing::warn!("{note}");
    }
}

/// The answer, to stdout. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<Code, Failure> {
    match stdio::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Output, format!("writing the result: {error}")))
        }
        _ => Ok(Code::Success),
    }
}

/// A value for people, on one line whatever is in it.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text).into_owned(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
