//! The machine at run time: QEMU as a child, QMP, signals, the serial console. One task owns it all.
//!
//! The thinking is `proto::lifecycle`'s; here its outputs become system calls and what happens becomes its
//! inputs. Runs on a current-thread runtime with IO and time, on a thread that lives as long as the machine:
//! QEMU is killed when the thread that started it ends, so that no machine outlives its supervisor.

mod qemu;
mod serial;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config;
use crate::plan::machine::{Accelerator, BaseFormat, MachinePlan};
use crate::proto::lifecycle::{Fault, Input, Lifecycle, Outcome, Output, Report, Settings};
use crate::proto::qmp::{Command, Event, Version};
use crate::sys::child;

use qemu::Qemu;
pub use serial::{Console, Replay};

/// What keeps a machine from running. A guest's own end is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot make a socket for QEMU")]
    Socket(#[source] io::Error),
    #[error("cannot open the tap")]
    Tap(#[source] io::Error),
    #[error("cannot open disk {}", path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    #[error("cannot learn how QEMU is")]
    Wait(#[source] io::Error),
    #[error("{accelerator} does not run the guest here: {fault}{said}; BERTH_ACCEL=auto falls back to tcg", accelerator = accelerator.as_str())]
    Accelerator { accelerator: Accelerator, fault: Fault, said: String },
    #[error("{fault}{said}")]
    Broken { fault: Fault, said: String },
}

/// The signals that matter, heard from the moment this is made: PID 1 has no default for them.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    /// The ends of a session (signal(7)); None where whoever started us wanted them ignored, as nohup(1) does.
    hangup: Option<Signal>,
    quit: Option<Signal>,
    interrupt: Signal,
    child: Signal,
}

impl Signals {
    /// Call early: before anything that takes time.
    pub fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        let unless_ignored = |kind: SignalKind| {
            let heard = !child::ignores(kind.as_raw_value());
            heard.then(|| listen(kind)).transpose()
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            hangup: unless_ignored(SignalKind::hangup())?,
            quit: unless_ignored(SignalKind::quit())?,
            interrupt: listen(SignalKind::interrupt())?,
            child: listen(SignalKind::child())?,
        })
    }

    /// Resolves when we are asked to stop: for whatever is done before the machine starts. Cancel-safe.
    pub async fn asked_to_stop(&mut self) {
        let Self { terminate, hangup, quit, interrupt, .. } = self;
        tokio::select! {
            _ = terminate.recv() => {}
            () = heard(hangup) => {}
            () = heard(quit) => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Cancel-safe.
    async fn next(&mut self) -> Wanted {
        let Self { terminate, hangup, quit, interrupt, child } = self;
        tokio::select! {
            biased;
            _ = terminate.recv() => Wanted::Stop,
            () = heard(hangup) => Wanted::Stop,
            () = heard(quit) => Wanted::Stop,
            _ = interrupt.recv() => Wanted::Hurry,
            _ = child.recv() => Wanted::Bury,
        }
    }
}

/// What a signal asks for.
enum Wanted {
    Stop,
    /// SIGINT: stop, and each further one sooner.
    Hurry,
    /// A child has ended.
    Bury,
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// How the machine is, for whoever asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub phase: Phase,
    /// The accelerator that is tried or runs the guest.
    pub accelerator: Option<Accelerator>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// No guest yet, or none between two runs.
    #[default]
    Starting,
    /// QEMU takes commands and the guest's processors run.
    Running,
    Stopping,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}

/// Runs the machine to its end. `open_tap` is called for each start of QEMU that is handed tap queues, and gives
/// one descriptor for each queue of the tap.
pub async fn run(
    plan: &MachinePlan,
    base: BaseFormat,
    lifecycle: &config::Lifecycle,
    mut open_tap: impl FnMut() -> io::Result<Vec<OwnedFd>>,
    console: &mut Console,
    signals: &mut Signals,
    standing: &watch::Sender<Standing>,
) -> Result<Outcome, Error> {
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    let settings = Settings {
        attempts: plan.attempts.len(),
        restart_on_poweroff: lifecycle.on_poweroff == config::OnPoweroff::Restart,
        grace: lifecycle.grace,
        margin: lifecycle.margin,
    };
    let mut machine = Machine { plan, base, core: Lifecycle::new(now(), settings), qemu: None, standing };
    machine.core.handle(now(), Input::Start);
    let outcome = loop {
        if let Some(outcome) = machine.obey(&mut open_tap, console).await? {
            break outcome;
        }
        machine.next(console, signals).await?;
    };
    let said = machine.qemu.as_ref().map(Qemu::last_said).unwrap_or_default();
    machine.end_run(console).await;
    judge(plan, outcome, said)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A failure of QEMU that it did not put into an exit code of its own is ours to explain.
fn judge(plan: &MachinePlan, outcome: Outcome, said: String) -> Result<Outcome, Error> {
    let Outcome::Failed { fault, attempt, running } = outcome else {
        return Ok(outcome);
    };
    let said = if said.is_empty() { said } else { format!(" ({said})") };
    match plan.attempts.get(attempt).map(|attempt| attempt.accelerator) {
        Some(accelerator @ Accelerator::Kvm) if !running => {
            Err(Error::Accelerator { accelerator, fault, said })
        }
        _ if matches!(fault, Fault::Exited(_)) => Ok(outcome),
        _ => Err(Error::Broken { fault, said }),
    }
}

struct Machine<'a> {
    plan: &'a MachinePlan,
    base: BaseFormat,
    core: Lifecycle,
    /// None before the first start and between two runs.
    qemu: Option<Qemu>,
    standing: &'a watch::Sender<Standing>,
}

impl Machine<'_> {
    /// Does what the core wants; Some at the end.
    async fn obey(
        &mut self,
        open_tap: &mut impl FnMut() -> io::Result<Vec<OwnedFd>>,
        console: &mut Console,
    ) -> Result<Option<Outcome>, Error> {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Spawn { attempt } => {
                    self.end_run(console).await;
                    self.spawn(attempt, open_tap)?;
                }
                Output::Send(command) => {
                    if let Some(qemu) = &mut self.qemu {
                        qemu.send(&command);
                    }
                }
                Output::Kill => self.kill(),
                Output::Report(report) => self.report(report),
                Output::End(outcome) => return Ok(Some(outcome)),
            }
        }
        Ok(None)
    }

    /// Waits for one thing to happen and tells the core.
    async fn next(&mut self, console: &mut Console, signals: &mut Signals) -> Result<(), Error> {
        let deadline = self.core.deadline();
        let mut events = Vec::new();
        let input = tokio::select! {
            biased;
            wanted = signals.next() => match wanted {
                Wanted::Stop => Some(Input::Terminate),
                Wanted::Hurry => Some(Input::Interrupt),
                Wanted::Bury => self.buried(&mut events)?,
            },
            () = until(deadline) => Some(Input::Tick),
            () = talk(&mut self.qemu, &mut events, console) => None,
        };
        for event in events {
            self.core.handle(now(), Input::Qmp(event));
        }
        if let Some(input) = input {
            self.core.handle(now(), input);
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        attempt: usize,
        open_tap: &mut impl FnMut() -> io::Result<Vec<OwnedFd>>,
    ) -> Result<(), Error> {
        let Some(attempt) = self.plan.attempts.get(attempt) else {
            return Ok(());
        };
        let before = now();
        let qemu = Qemu::start(self.plan, attempt, self.base, open_tap)?;
        tracing::info!(
            pid = qemu.pid(),
            accelerator = attempt.accelerator.as_str(),
            took_ms = millis(now().saturating_duration_since(before)),
            "QEMU started"
        );
        self.qemu = Some(qemu);
        self.standing.send_modify(|standing| standing.accelerator = Some(attempt.accelerator));
        Ok(())
    }

    /// After SIGCHLD.
    fn buried(&mut self, events: &mut Vec<Event>) -> Result<Option<Input>, Error> {
        let exit = match &mut self.qemu {
            Some(qemu) => qemu.ended(events).map_err(Error::Wait)?,
            None => None,
        };
        child::reap_orphans(self.qemu.as_ref().map(Qemu::child));
        Ok(exit.map(Input::Exited))
    }

    fn kill(&mut self) {
        if let Some(qemu) = &mut self.qemu
            && let Err(error) = qemu.kill()
        {
            tracing::error!(%error, "cannot kill QEMU (CAP_KILL is needed for a child of another uid)");
        }
    }

    async fn end_run(&mut self, console: &mut Console) {
        if let Some(qemu) = self.qemu.take() {
            qemu.finish(console).await;
        }
    }

    fn report(&mut self, report: Report) {
        let phase = match report {
            Report::Running { .. } => Some(Phase::Running),
            Report::FallBack { .. } | Report::Restarting { .. } => Some(Phase::Starting),
            Report::Stopping { .. } => Some(Phase::Stopping),
            _ => None,
        };
        if let Some(phase) = phase {
            self.standing.send_modify(|standing| standing.phase = phase);
        }
        match report {
            Report::Running { version, after } => self.running(version, after),
            Report::FallBack { from, why } => {
                let name =
                    |at: usize| self.plan.attempts.get(at).map_or("", |attempt| attempt.accelerator.as_str());
                let (from, next) = (name(from), name(from + 1));
                let said = self.qemu.as_ref().map(Qemu::last_said).unwrap_or_default();
                tracing::warn!(
                    qemu = said,
                    "{from} does not run the guest here: {why}; trying {next}, which is slower"
                );
            }
            Report::Stopping { quit_in } => {
                tracing::info!(quit_in_s = quit_in.as_secs_f64(), "asked to stop");
            }
            Report::Pressed => tracing::info!("power button pressed"),
            Report::Quitting { after } => {
                tracing::warn!(
                    after_s = after.as_secs_f64(),
                    "the guest did not power off in time: quitting QEMU"
                );
            }
            Report::Killing => tracing::warn!("killing QEMU"),
            Report::Reset => tracing::info!("the guest rebooted"),
            Report::Panicked => tracing::error!("the guest's kernel panicked"),
            Report::DiskFull => tracing::error!(
                "a disk of the guest cannot be written (no space?): guest paused, tried again"
            ),
            Report::Restarting { after } => {
                tracing::info!(after_s = after.as_secs_f64(), "the guest powered off: started again");
            }
            Report::Refused { command, why } => tracing::warn!(command, why, "QEMU refused a command"),
        }
    }

    fn running(&mut self, version: Version, after: Duration) {
        tracing::info!(%version, after_ms = millis(after), "QEMU runs the guest");
        if version < Version::OLDEST {
            tracing::warn!(%version, oldest = %Version::OLDEST, "this QEMU is older than any berth was tried with");
        }
        let password_file = self.plan.vnc.as_ref().and_then(|vnc| vnc.password_file.as_ref());
        let (Some(file), Some(qemu)) = (password_file, &mut self.qemu) else {
            return;
        };
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let password = text.lines().next().unwrap_or_default().to_owned();
                qemu.send(&Command::SetVncPassword(password));
            }
            Err(error) => {
                tracing::error!(%error, file = %file.display(), "no VNC password: VNC lets nobody in");
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Resolves when QEMU or its guest said something that was dealt with.
async fn talk(qemu: &mut Option<Qemu>, events: &mut Vec<Event>, console: &mut Console) {
    match qemu {
        Some(qemu) => qemu.talk(events, console).await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
