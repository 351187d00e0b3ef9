//! Suspend and resume: a guest's memory goes to a file beside its disk, and the next start takes it up.
//!
//! ```text
//!  save   stop ─► stream ─► fsync ─► header, fsync ─► rename ─► fsync directory ─► quit
//!  load   facts, generation ─► stream, hashed on its way ─► new generation, unlink, fsync directory ─► cont
//! ```
//!
//! QEMU writes and reads a pipe to us: its directory need not be visible to it, and every octet is hashed and counted
//! (`ram` says why). Until `cont` a start may always fall back to a cold boot: the disk is not touched before. After `cont` no
//! image fits the disk any more, whatever is killed when.

mod clock;
mod facts;
mod load;
mod machine;
mod save;

pub(super) use machine::heard;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::agent::GuestAgent;
use super::storage::{Storage, Turn};
use super::{Error, MachineStatus, Monitor, NoAnswer};
use crate::config::{self, OnStop, Resume};
use crate::plan::machine::{Attempt, ReadyMachine};
use crate::ram::{Difference, Facts, Header, Invalid};
use crate::sys::beneath::Beneath;
use crate::sys::ram_file::{Found, Image, RamFiles, wall_clock};

/// What a machine needs for it, besides its plan.
#[derive(Debug)]
pub struct Suspension {
    /// QEMU is asked by it.
    pub monitor: Monitor,
    /// What the guest was told by its network: where that is another, it is to ask anew.
    pub notes: Facts,
    /// Sets the guest's clock.
    pub agent: Option<GuestAgent>,
    /// A backup ends before the disks are let go.
    pub storage: Storage,
    /// Whoever asks for it by `berth suspend`.
    pub asked: Asked,
}

/// Where `berth suspend` comes in: each has an answer.
pub type Asked = tokio::sync::mpsc::Receiver<oneshot::Sender<Result<(), String>>>;

/// Why a guest is not saved, or not taken up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{}", list(.0))]
    Differs(Vec<Difference>),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("{step}: {why}")]
    Qemu { step: &'static str, why: NoAnswer },
    #[error("QEMU: {0}")]
    Migration(String),
    #[error("something in the machine hinders it: {0}")]
    Blocked(String),
    #[error("{step}: {source}")]
    File { step: &'static str, source: std::io::Error },
    #[error(transparent)]
    Header(#[from] crate::ram::TooLarge),
    #[error("no octet of it was taken for {} s", load::STALLED.as_secs())]
    Stalled,
    #[error("it is not done in time")]
    GivenUp,
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn file(step: &'static str) -> impl FnOnce(std::io::Error) -> Refusal {
    move |source| Refusal::File { step, source }
}

/// What a save or a load is told while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    GoOn,
    GiveUp,
    /// And it answers nothing any more.
    QemuEnded,
}

/// How a save or a load ended.
#[derive(Debug)]
pub(super) enum Done {
    /// Until QEMU has ended nothing else is done to the disks, nor until a loaded guest runs.
    Saved {
        bytes: u64,
        took_ms: u64,
        turn: Turn,
    },
    NotSaved {
        why: Refusal,
        may_run: bool,
    },
    Loaded {
        saved_at_ms: u64,
        took_ms: u64,
        notes: Facts,
        turn: Turn,
    },
    NotLoaded {
        why: Refusal,
    },
}

/// In `berth status`.
impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saved { .. } => f.write_str("suspended"),
            Self::NotSaved { why, .. } => write!(f, "not suspended: {why}"),
            Self::Loaded { saved_at_ms, .. } => {
                write!(f, "resumed, {} s after it was saved", offset_ms(*saved_at_ms) / 1000)
            }
            Self::NotLoaded { why } => write!(f, "not resumed: {why}"),
        }
    }
}

/// A machine's way to be suspended and resumed; None of it where its plan has no place for an image.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) files: Arc<RamFiles>,
    beneath: Beneath,
    seed: Option<PathBuf>,
    suspension: Suspension,
    image: Option<(Header, Image)>,
    /// There is a generation, which is another before the guest runs.
    is_used: bool,
    task: Option<(JoinHandle<Done>, watch::Sender<Told>)>,
    /// Why the saved guest was not taken up, of a load.
    pub(super) refusal: Option<String>,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    /// Of a guest that is saved.
    turn: Option<Turn>,
}

impl Way {
    /// Looks for a saved guest. A refusal is told here, and is the end where a resume is required.
    pub(super) async fn new(
        ready: &ReadyMachine,
        lifecycle: &config::Lifecycle,
        suspension: Option<Suspension>,
        status: &watch::Sender<MachineStatus>,
    ) -> Result<Option<Self>, Error> {
        let (Some(saved), Some(suspension)) = (&ready.plan.saved, suspension) else {
            return Ok(None);
        };
        let beneath = Beneath::new(ready.plan.untrusted.iter().cloned());
        let files = RamFiles::new(saved.ram.clone(), saved.generation.clone(), beneath.clone());
        let mut way = Self {
            files: Arc::new(files),
            beneath,
            seed: saved.seed.clone(),
            suspension,
            image: None,
            is_used: lifecycle.on_stop == OnStop::Suspend,
            task: None,
            refusal: None,
            waiting: Vec::new(),
            turn: None,
        };
        // Who never suspends pays for no more than this look.
        way.is_used |= way.files.has_generation();
        if way.is_used {
            way.look(ready, lifecycle.resume, status).await?;
        }
        Ok(Some(way))
    }

    async fn look(
        &mut self,
        ready: &ReadyMachine,
        resume: Resume,
        status: &watch::Sender<MachineStatus>,
    ) -> Result<(), Error> {
        let files = Arc::clone(&self.files);
        let found = blocking(move || files.look()).await.map_err(file("reading it"));
        let path = self.files.path().display().to_string();
        let refused = match found {
            Ok(Found::Nothing) => return Ok(()),
            Ok(Found::Image(..) | Found::Refused(_)) if resume == Resume::Off => {
                tracing::warn!(
                    image = path,
                    "the guest was suspended, and is booted: BERTH_RESUME=off"
                );
                return Ok(());
            }
            Ok(Found::Refused(invalid)) => invalid.into(),
            Ok(Found::Image(header, image)) => match self.compare(ready, &header).await {
                Ok(()) => {
                    self.image = Some((*header, image));
                    return Ok(());
                }
                Err(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        if resume == Resume::Require {
            return Err(Error::NotResumed {
                path: self.files.path().to_owned(),
                why: refused.to_string(),
            });
        }
        self.tell_refused(&refused.to_string(), status);
        Ok(())
    }

    pub(super) fn tell_refused(&self, why: &str, status: &watch::Sender<MachineStatus>) {
        status.send_modify(|status| status.suspend = Some(format!("not resumed: {why}")));
        let path = self.files.path().display().to_string();
        tracing::warn!(
            fault = crate::faults::RESUME_REFUSED.id,
            image = path,
            "the saved guest is not resumed, it is booted: {why}"
        );
    }

    /// All that can be compared before QEMU is started.
    async fn compare(&self, ready: &ReadyMachine, header: &Header) -> Result<(), Refusal> {
        let files = Arc::clone(&self.files);
        let generation =
            blocking(move || files.generation()).await.map_err(file("its generation"))?;
        let mut differences = Vec::new();
        if generation != Some(header.generation) {
            differences.push(Difference {
                what: "generation of the disk".to_owned(),
                saved: Some(header.generation.to_string()),
                now: generation.map(|generation| generation.to_string()),
            });
        }
        let Some(attempt) = ready.plan.attempts.first() else { return Ok(()) };
        let now = self.early(ready, attempt).await?;
        let saved = header.facts.among(|what| !facts::is_qemus(what));
        differences.extend(saved.differences(&now));
        if differences.is_empty() { Ok(()) } else { Err(Refusal::Differs(differences)) }
    }

    /// What is known without QEMU: the command line, the disks, the seed.
    async fn early(&self, ready: &ReadyMachine, attempt: &Attempt) -> Result<Facts, Refusal> {
        let mut facts = ready.facts(attempt);
        let disks: Vec<(PathBuf, bool)> =
            ready.plan.disks().map(|(path, writable)| (path.to_owned(), writable)).collect();
        let (beneath, seed) = (self.beneath.clone(), self.seed.clone());
        let disks = blocking(move || facts::disks(&disks, seed.as_deref(), &beneath)).await;
        facts.extend(disks.map_err(file("the disks"))?);
        Ok(facts)
    }

    /// Whether QEMU is to be started for a saved guest.
    pub(super) fn resumes(&self) -> bool {
        self.image.is_some()
    }

    /// Before a guest runs that is not taken up: no image fits its disk.
    pub(super) async fn cold(&mut self) -> Result<(), Error> {
        self.finish().await;
        if !std::mem::take(&mut self.is_used) {
            return Ok(());
        }
        self.image = None;
        let files = Arc::clone(&self.files);
        let done = blocking(move || files.invalidate()).await;
        done.map_err(|source| Error::Generation { path: self.files.path().to_owned(), source })
    }

    /// Begins to save. `attempt` is what QEMU was started with.
    pub(super) fn save(&mut self, ready: &ReadyMachine, attempt: usize) {
        let Some(attempt) = ready.plan.attempts.get(attempt) else { return };
        // An image may be there from now on.
        self.is_used = true;
        let early = ready.facts(attempt);
        let disks =
            ready.plan.disks().map(|(path, writable)| (path.to_owned(), writable)).collect();
        let (tell, told) = watch::channel(Told::GoOn);
        let save = save::Save {
            files: Arc::clone(&self.files),
            beneath: self.beneath.clone(),
            monitor: self.suspension.monitor.clone(),
            early,
            disks,
            seed: self.seed.clone(),
            notes: self.suspension.notes.clone(),
            storage: self.suspension.storage.clone(),
            agent: self.suspension.agent.clone(),
        };
        self.task = Some((tokio::spawn(save.run(told)), tell));
    }

    /// Begins to load what was found.
    pub(super) fn load(&mut self) {
        let Some((header, image)) = self.image.take() else { return };
        let (tell, told) = watch::channel(Told::GoOn);
        let (files, monitor) = (Arc::clone(&self.files), self.suspension.monitor.clone());
        let storage = self.suspension.storage.clone();
        let load = load::Load { files, monitor, header, image, storage };
        self.task = Some((tokio::spawn(load.run(told)), tell));
    }

    pub(super) fn give_up(&self) {
        if let Some((_, tell)) = &self.task {
            tell.send_replace(Told::GiveUp);
        }
    }

    /// The end of what is under way. Cancel-safe.
    pub(super) async fn done(&mut self) -> Done {
        let Some((task, _)) = &mut self.task else { return std::future::pending().await };
        let done = task.await;
        self.task = None;
        // It is not cancelled, and does not panic: then nothing is known.
        done.unwrap_or_else(|error| Done::NotSaved {
            why: Refusal::Migration(error.to_string()),
            may_run: false,
        })
    }

    /// Waits for what is under way; QEMU has ended, so that it ends soon.
    pub(super) async fn finish(&mut self) {
        if let Some((mut task, tell)) = self.task.take() {
            tell.send_replace(Told::QemuEnded);
            let ended = tokio::time::timeout(super::FINISH_WITHIN, &mut task).await;
            if let Ok(Ok(Done::NotLoaded { why } | Done::NotSaved { why, .. })) = ended {
                self.refusal.get_or_insert_with(|| why.to_string());
            }
        }
    }

    /// Somebody asks that the guest is suspended.
    pub(super) async fn asked(&mut self) -> oneshot::Sender<Result<(), String>> {
        match self.suspension.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }

    /// Told when the save has ended.
    pub(super) fn waits(&mut self, asked: oneshot::Sender<Result<(), String>>) {
        self.waiting.push(asked);
    }

    pub(super) fn answer(&mut self, answer: &Result<(), String>) {
        for asked in self.waiting.drain(..) {
            let _ = asked.send(answer.clone());
        }
    }

    /// What the guest was told is not what it would be told now.
    pub(super) fn is_told_anew(&self, saved: &Facts) -> bool {
        !saved.differences(&self.suspension.notes).is_empty()
    }

    /// Of a guest that goes on.
    pub(super) fn set_clock(&self, saved_at_ms: u64) {
        tokio::spawn(clock::set(self.suspension.agent.clone(), saved_at_ms));
    }
}

/// Off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// By how much the guest's clock is behind.
pub(super) fn offset_ms(saved_at_ms: u64) -> u64 {
    let now = u64::try_from(wall_clock().as_millis()).unwrap_or(u64::MAX);
    now.saturating_sub(saved_at_ms)
}
