//! The machine at run time: QEMU as a child, QMP, signals, the serial console. One task owns it all.
//!
//! The thinking is `proto::lifecycle`'s; here its outputs become system calls and what happens becomes its
//! inputs. Runs on a current-thread runtime with IO and time, on a thread that lives as long as the machine:
//! QEMU is killed when the thread that started it ends, so that no machine outlives its supervisor.

pub mod agent;
mod ask;
mod error;
mod own;
mod qemu;
mod report;
mod serial;
mod signals;
pub mod storage;
mod suspend;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config;
use crate::plan::machine::{Accelerator, Lacking, MachinePlan, ReadyMachine, VNC_PORT};
use crate::proto::lifecycle::{Exit, Fault, Input, Lifecycle, Outcome, Output, Settings};
use crate::proto::qmp::{Command, Event, Reason, Version};
use crate::sys::{cgroup, child};

pub use ask::{Monitor, NoAnswer, Questions};
pub use error::Error;
use own::Own;
use qemu::{Qemu, Run};
use report::RateLimit;
pub use serial::Console;
pub use signals::Signals;
use signals::Wanted;
use suspend::Way;
pub use suspend::{Asked, Suspension};

/// How the machine is, for whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineStatus {
    pub phase: Phase,
    /// Why the guest is paused.
    pub reason: Option<String>,
    /// The accelerator that is tried or runs the guest.
    pub accelerator: Option<Accelerator>,
    /// It is paused for a disk.
    pub is_io_error: bool,
    /// The guest's kernel has panicked, in this run of QEMU.
    pub is_panicked: bool,
    /// In this run of QEMU the guest goes on that was suspended: what it showed at its start it shows no more.
    pub is_resumed: bool,
    /// How the last suspend or resume went.
    pub suspend: Option<String>,
    /// Of this run of QEMU.
    pub pid: Option<u32>,
    pub version: Option<Version>,
    /// When it was started; the first start, and when the guest first ran.
    pub started: Option<Instant>,
    pub first_started: Option<Instant>,
    pub first_ran: Option<Instant>,
    /// When the last backup was whole.
    pub last_backup: Option<Instant>,
    pub counts: Counts,
    /// Lines of QMP in this run of QEMU.
    pub misunderstood: BTreeMap<Reason, u64>,
}

/// What happened to the machine so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of QEMU.
    pub starts: u64,
    /// Reboots, by who began them.
    pub guest_resets: u64,
    pub host_resets: u64,
    pub panics: u64,
    pub backups: u64,
    pub failed_backups: u64,
    /// Lines of QMP in runs of QEMU that ended.
    pub misunderstood: BTreeMap<Reason, u64>,
}

/// Of the machine, as `berth status` shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// No guest yet, or none between two runs.
    #[default]
    Starting,
    /// QEMU takes commands and the guest's processors run.
    Running,
    /// QEMU runs, and the guest does not.
    Paused,
    Stopping,
}

impl Phase {
    /// The word in `berth status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
        }
    }
}

/// Who is heard and told while the machine runs.
#[derive(Debug)]
pub struct Others<'a> {
    /// Of the pod's addresses the guest's own: when one is another, the guest is to ask for its addresses anew.
    pub own: watch::Receiver<Vec<IpAddr>>,
    /// Passed on to QEMU.
    pub questions: &'a mut Questions,
    pub status: &'a watch::Sender<MachineStatus>,
    /// The way to the guest's agent.
    pub agent: &'a agent::Channel,
    /// None: the guest is never suspended, and none is resumed.
    pub suspension: Option<Suspension>,
}

/// Runs the machine to its end. `open_tap` is called for each start of QEMU that is handed tap queues, and gives
/// one descriptor for each queue of the tap.
pub async fn run(
    ready: &ReadyMachine,
    lifecycle: &config::Lifecycle,
    mut open_tap: impl FnMut() -> io::Result<Vec<OwnedFd>>,
    console: &mut Console,
    signals: &mut Signals,
    others: Others<'_>,
) -> Result<Outcome, Error> {
    let plan = &ready.plan;
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    let Others { own, questions, status, agent, suspension } = others;
    let suspend = Way::new(ready, lifecycle, suspension, status).await?;
    let settings = Settings {
        attempts: plan.attempts.len(),
        restart_on_poweroff: lifecycle.on_poweroff == config::OnPoweroff::Restart,
        reset_on_panic: lifecycle.on_panic == config::OnPanic::Reset,
        grace: lifecycle.grace,
        margin: lifecycle.margin,
        suspend_on_stop: suspend.is_some() && lifecycle.on_stop == config::OnStop::Suspend,
        resume: suspend.as_ref().is_some_and(Way::resumes),
        resume_required: lifecycle.resume == config::Resume::Require,
    };
    let core = Lifecycle::new(now(), settings);
    let rate_limit = RateLimit::new(now());
    let mut own = Own::new(own);
    let ready = Cow::Borrowed(ready);
    let (qemu, is_doubtful, oom_kills) = (None, false, None);
    let mut machine = Machine {
        ready,
        core,
        qemu,
        is_doubtful,
        oom_kills,
        status,
        rate_limit,
        agent,
        suspend,
        attempt: 0,
    };
    machine.core.handle(now(), Input::Start);
    let outcome = loop {
        if let Some(outcome) = machine.obey(&mut open_tap, console).await? {
            break outcome;
        }
        machine.next(console, signals, &mut own, questions).await?;
    };
    let said = machine.qemu.as_ref().map(Qemu::last_said).unwrap_or_default();
    machine.end_run(console).await;
    machine.end_save().await;
    machine.explain(outcome);
    judge(plan, outcome, said)
}

/// How long what is under way of a save or a load may take to end when QEMU has: files are removed.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// strerror(3) of ENOMEM, as QEMU has it in all its words for memory that it cannot have.
const NO_MEMORY: &str = "Cannot allocate memory";

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A failure of QEMU that it did not put into an exit code of its own is ours to explain.
fn judge(plan: &MachinePlan, outcome: Outcome, said: String) -> Result<Outcome, Error> {
    let Outcome::Failed { fault, attempt, suspect, running } = outcome else {
        return Ok(outcome);
    };
    let refused = !running && fault == Fault::Exited(Exit::Code(1));
    let of_memory = said.contains(NO_MEMORY);
    let of_kvm = said.to_ascii_lowercase().contains("kvm");
    let said = if said.is_empty() { said } else { format!(" ({said})") };
    match plan.attempts.get(attempt).map(|attempt| attempt.accelerator) {
        _ if refused && of_memory => Err(Error::NoMemory { said }),
        Some(accelerator @ Accelerator::Kvm) if suspect && (of_kvm || !refused) => {
            Err(Error::Accelerator { accelerator, fault, said })
        }
        _ if refused => Err(Error::Refused { said }),
        _ if matches!(fault, Fault::Exited(exit) if exit != Exit::Code(0)) => Ok(outcome),
        _ => Err(Error::Broken { outcome, said }),
    }
}

struct Machine<'a> {
    ready: Cow<'a, ReadyMachine>,
    core: Lifecycle,
    /// None before the first start and between two runs.
    qemu: Option<Qemu>,
    /// There is another accelerator for this run of QEMU.
    is_doubtful: bool,
    /// What our cgroup counted when QEMU was started.
    oom_kills: Option<u64>,
    status: &'a watch::Sender<MachineStatus>,
    rate_limit: RateLimit,
    agent: &'a agent::Channel,
    /// None: this machine has no place for a saved guest.
    suspend: Option<Way>,
    /// Which accelerator QEMU was started with.
    attempt: usize,
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
                Output::Spawn { attempt, incoming } => {
                    self.end_run(console).await;
                    if !incoming {
                        self.renew().await?;
                    }
                    self.spawn(attempt, incoming, open_tap)?;
                }
                Output::Send(command) => {
                    if command == Command::SystemPowerdown {
                        self.agent.shut_down();
                    }
                    if let Some(qemu) = &mut self.qemu {
                        qemu.send(&command);
                    }
                }
                Output::Save => self.save(),
                Output::Load => self.load(),
                Output::GiveUp => self.give_up(),
                Output::Kill => self.kill(),
                Output::Report(report) => self.report(report),
                Output::End(outcome) => return Ok(Some(outcome)),
            }
        }
        Ok(None)
    }

    /// Waits for one thing to happen and tells the core.
    async fn next(
        &mut self,
        console: &mut Console,
        signals: &mut Signals,
        own: &mut Own,
        questions: &mut Questions,
    ) -> Result<(), Error> {
        let deadline = self.core.deadline();
        let mut events = Vec::new();
        // As many as QEMU may have under way: then what it says has its turn.
        let takes_questions = self.qemu.as_mut().is_none_or(Qemu::takes_questions);
        let input = tokio::select! {
            biased;
            wanted = signals.next() => match wanted {
                Wanted::Stop => Some(Input::Terminate),
                Wanted::Hurry => Some(Input::Interrupt),
                Wanted::Bury => self.buried(&mut events)?,
            },
            () = until(deadline) => Some(Input::Tick),
            () = own.are_others() => Some(Input::Relink),
            heard = suspend::heard(&mut self.suspend) => self.hear(heard),
            question = questions.next(), if takes_questions => {
                self.asked(question);
                None
            }
            () = talk(&mut self.qemu, &mut events, console) => None,
        };
        for event in events {
            if let Event::AgentPort { open } = event {
                self.agent.port(open);
            }
            if matches!(event, Event::Reset { .. }) {
                self.agent.reset();
            }
            if event == (Event::Reset { guest: false }) {
                self.status.send_modify(|status| status.counts.host_resets += 1);
            }
            self.core.handle(now(), Input::Qmp(event));
        }
        if let Some(input) = input {
            self.core.handle(now(), input);
        }
        // A socket that is always readable never waits: signals and timers have their turn now and then.
        tokio::task::coop::consume_budget().await;
        Ok(())
    }

    fn spawn(
        &mut self,
        attempt: usize,
        incoming: bool,
        open_tap: &mut impl FnMut() -> io::Result<Vec<OwnedFd>>,
    ) -> Result<(), Error> {
        self.attempt = attempt;
        self.is_doubtful = attempt + 1 < self.ready.plan.attempts.len();
        let Some(attempt) = self.ready.plan.attempts.get(attempt) else {
            return Ok(());
        };
        if let Some(vnc) = &self.ready.plan.vnc {
            look_for_vnc(vnc.address)?;
        }
        self.oom_kills = cgroup::oom_kills();
        let before = now();
        // Until it takes commands it may lack a device, too.
        let plan = &self.ready.plan;
        let is_doubtful = self.is_doubtful || plan.panic_device || plan.has_agent();
        let run = Run { attempt, incoming, doubtful: is_doubtful };
        let qemu = Qemu::start(&self.ready, run, open_tap, self.agent)?;
        tracing::info!(
            pid = qemu.pid(),
            accelerator = attempt.accelerator.as_str(),
            took_ms = millis(now().saturating_duration_since(before)),
            "QEMU started"
        );
        let pid = qemu.pid();
        self.qemu = Some(qemu);
        self.status.send_modify(|status| {
            status.accelerator = Some(attempt.accelerator);
            (status.pid, status.version, status.is_panicked) = (Some(pid), None, false);
            status.is_resumed = false;
            status.started = Some(before);
            status.first_started.get_or_insert(before);
            status.counts.starts += 1;
        });
        Ok(())
    }

    /// After SIGCHLD.
    fn buried(&mut self, events: &mut Vec<Event>) -> Result<Option<Input>, Error> {
        let exit = match &mut self.qemu {
            Some(qemu) => qemu.ended(events).map_err(Error::Wait)?,
            None => None,
        };
        child::reap_orphans(self.qemu.as_ref().map(Qemu::child));
        Ok(exit.map(|exit| if self.lacks() { Input::Lacking(exit) } else { Input::Exited(exit) }))
    }

    /// Whether QEMU has ended for want of a device of ours that can be done without: then it is to be started so.
    fn lacks(&mut self) -> bool {
        let Some(qemu) = &mut self.qemu else { return false };
        let Some(lacking) = Lacking::of(&self.ready.plan, &qemu.last_said()) else { return false };
        qemu.fold();
        self.ready.to_mut().plan.go_without(lacking);
        tracing::warn!("{}", lacking.words());
        true
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
            self.status.send_modify(|status| {
                (status.pid, status.misunderstood) = (None, BTreeMap::new());
                for (reason, count) in qemu.misunderstood() {
                    *status.counts.misunderstood.entry(reason).or_default() += count;
                }
            });
            qemu.finish(console).await;
        }
    }

    /// Others ask QEMU, and see what was not understood of it so far.
    fn asked(&mut self, question: ask::Question) {
        let Some(qemu) = &mut self.qemu else { return question.refuse(NoAnswer::NotRunning) };
        let misunderstood: BTreeMap<Reason, u64> = qemu.misunderstood().collect();
        self.status.send_if_modified(|status| {
            status.misunderstood = misunderstood;
            false
        });
        qemu.ask(question);
    }

    /// Why somebody may have killed QEMU.
    fn explain(&self, outcome: Outcome) {
        let Outcome::Failed { fault: Fault::Exited(Exit::Signal(9)), .. } = outcome else { return };
        match (self.oom_kills, cgroup::oom_kills()) {
            (Some(before), Some(after)) if after > before => tracing::error!(
                "QEMU was killed for want of memory: raise the container's memory limit, or lower IMG_RAM_MB; QEMU takes that and some 200 MiB more"
            ),
            (Some(_), Some(_)) => {
                tracing::error!("QEMU was killed by SIGKILL, and not by us or for want of memory");
            }
            _ => tracing::error!(
                "QEMU was killed by SIGKILL, and not by us: a memory limit is the likely reason; raise it, or lower IMG_RAM_MB"
            ),
        }
    }
}

/// QEMU would only say that it cannot listen. Somebody else's listener on another address is no obstacle.
fn look_for_vnc(address: IpAddr) -> Result<(), Error> {
    match TcpListener::bind((address, VNC_PORT)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::VncPort { address }),
        _ => Ok(()),
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
