//! One save. Whatever goes wrong leaves no image, or one that fits the disk no more, before it is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::agent::{GuestAgent, Request};
use super::super::storage::{Storage, Turn};
use super::super::{Monitor, NoAnswer, millis, now};
use super::{Done, Refusal, Told, blocking, facts, file};
use crate::ram::{Facts, Generation, Header, Stream};
use crate::sys::beneath::Beneath;
use crate::sys::ram_file::{self, Part, RamFiles, wall_clock};

/// QEMU is asked this often how far it is.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// A migration that is cancelled ends at once.
const CANCEL_WITHIN: Duration = Duration::from_secs(2);
/// In octets a second. QEMU's default, 128 MiB/s, holds for files as well.
const NO_LIMIT: u64 = 1 << 40;

pub(super) struct Save {
    pub files: Arc<RamFiles>,
    pub beneath: Beneath,
    pub monitor: Monitor,
    /// Of the command line.
    pub early: Facts,
    pub disks: Vec<(PathBuf, bool)>,
    pub seed: Option<PathBuf>,
    pub notes: Facts,
    pub storage: Storage,
    pub agent: Option<GuestAgent>,
}

/// All but its last step.
struct Written {
    part: Arc<Part>,
    stream: Stream,
    facts: Facts,
    generation: Generation,
    saved_at_ms: u64,
}

impl Save {
    pub(super) async fn run(self, mut told: watch::Receiver<Told>) -> Done {
        let began = now();
        let mut turn = None;
        let written = tokio::select! {
            written = self.write_alone(&mut turn) => written,
            _ = told.wait_for(|told| *told >= Told::GiveUp) => Err(Refusal::GivenUp),
        };
        // From here on nothing is given up half-way: the image is there, or it is not.
        let done = match written {
            Ok(written) => self.finish(written).await,
            Err(why) => Err(why),
        };
        match (done, turn) {
            (Ok(bytes), Some(turn)) => {
                let took_ms = millis(now().saturating_duration_since(began));
                Done::Saved { bytes, took_ms, turn }
            }
            (done, _turn) => {
                let why = done.err().unwrap_or(Refusal::GivenUp);
                Done::NotSaved { why, may_run: self.clean_up(told).await }
            }
        }
    }

    /// What a backup put before the disks is taken out first: one that is under way ends soon where the launcher stops.
    async fn write_alone(&self, turn: &mut Option<Turn>) -> Result<Written, Refusal> {
        *turn = Some(self.storage.alone().await);
        self.write().await
    }

    async fn write(&self) -> Result<Written, Refusal> {
        let state = self.ask("query-migrate", None).await?;
        if let Some(reasons) = state.get("blocked-reasons").and_then(Value::as_array) {
            let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
            return Err(Refusal::Blocked(reasons.join("; ")));
        }
        self.thaw().await;
        let mut facts = self.early.clone();
        facts.extend(facts::of_qemu(&self.monitor).await.map_err(qemu("its facts"))?);
        let files = Arc::clone(&self.files);
        let begin = blocking(move || {
            let generation = match files.generation()? {
                Some(generation) => generation,
                None => files.renew()?,
            };
            let part = files.begin()?;
            let room = part.room()?;
            Ok((generation, part, room))
        });
        let (generation, part, room) = begin.await.map_err(file("making it"))?;
        let part = Arc::new(part);
        let limit = json!({"max-bandwidth": NO_LIMIT});
        self.ask("migrate-set-parameters", Some(limit)).await?;
        self.ask("stop", None).await?;
        let saved_at_ms = u64::try_from(wall_clock().as_millis()).unwrap_or(u64::MAX);
        let stream = self.stream(&part, room).await?;
        // QEMU has let go of the disks: they are as they stay.
        let (disks, seed, beneath) = (self.disks.clone(), self.seed.clone(), self.beneath.clone());
        let disks = blocking(move || facts::disks(&disks, seed.as_deref(), &beneath)).await;
        facts.extend(disks.map_err(file("the disks"))?);
        Ok(Written { part, stream, facts, generation, saved_at_ms })
    }

    /// File systems that are frozen would be so when the guest goes on, and nobody would know of it.
    async fn thaw(&self) {
        let Some(agent) = &self.agent else { return };
        // One that freezes at this moment is not known to.
        let answers = agent.known().borrow().presence.answers();
        if answers && let Err(why) = agent.ask(Request::Thaw).await {
            tracing::warn!("the guest's file systems may be frozen when it goes on: {why}");
        }
    }

    async fn stream(&self, part: &Arc<Part>, room: u64) -> Result<Stream, Refusal> {
        let (from, to) = ram_file::pipe().map_err(file("a pipe"))?;
        let name = json!({"fdname": "ram"});
        let given = self.monitor.ask("getfd", Some(name), Some(to.into())).await;
        given.map_err(qemu("getfd"))?;
        let part = Arc::clone(part);
        let mut receiving =
            tokio::spawn(blocking(move || part.receive(from, room, &AtomicU64::new(0))));
        self.ask("migrate", Some(json!({"uri": "fd:ram"}))).await?;
        tokio::select! {
            ended = self.until_completed() => ended?,
            // Before QEMU is through: it cannot be written.
            received = &mut receiving => return self.whole(received).await,
        }
        joined(receiving.await)
    }

    /// The stream ended first. It is whole where QEMU says so.
    async fn whole(
        &self,
        received: Result<std::io::Result<Stream>, tokio::task::JoinError>,
    ) -> Result<Stream, Refusal> {
        let stream = joined(received)?;
        self.until_completed().await?;
        Ok(stream)
    }

    async fn until_completed(&self) -> Result<(), Refusal> {
        loop {
            let state = self.ask("query-migrate", None).await?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some(status @ ("failed" | "cancelled")) => {
                    let why = state.get("error-desc").and_then(Value::as_str).unwrap_or(status);
                    return Err(Refusal::Migration(why.to_owned()));
                }
                // None was begun.
                None => return Err(Refusal::Migration("nothing is written".to_owned())),
                Some(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    async fn finish(&self, written: Written) -> Result<u64, Refusal> {
        let Written { part, stream, facts, generation, saved_at_ms } = written;
        let header = Header { stream, generation, saved_at_ms, facts, notes: self.notes.clone() };
        let header = header.encode()?;
        let files = Arc::clone(&self.files);
        blocking(move || files.finish(&part, &header)).await.map_err(file("writing its header"))?;
        Ok(stream.bytes)
    }

    /// Whether the guest may run on: nothing is left that its disk could be taken for later.
    async fn clean_up(&self, mut told: watch::Receiver<Told>) -> bool {
        let cancelled = async {
            let _ = self.monitor.ask("migrate_cancel", None, None).await;
            let _ = tokio::time::timeout(CANCEL_WITHIN, self.until_completed()).await;
        };
        tokio::select! {
            () = cancelled => {}
            _ = told.wait_for(|told| *told == Told::QemuEnded) => {}
        }
        let files = Arc::clone(&self.files);
        let removed = blocking(move || files.discard().or_else(|_| files.renew().map(|_| true)));
        match removed.await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, image = %self.files.path().display(), "the image of a save that failed can be neither removed nor made unfit: the guest does not run on");
                false
            }
        }
    }

    async fn ask(&self, command: &'static str, arguments: Option<Value>) -> Result<Value, Refusal> {
        self.monitor.ask(command, arguments, None).await.map_err(qemu(command))
    }
}

fn joined(
    received: Result<std::io::Result<Stream>, tokio::task::JoinError>,
) -> Result<Stream, Refusal> {
    let received = received.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    received.map_err(file("writing it"))
}

pub(super) fn qemu(step: &'static str) -> impl FnOnce(NoAnswer) -> Refusal {
    move |why| Refusal::Qemu { step, why }
}
