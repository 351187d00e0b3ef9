//! Leases on disk while they are served: written before a reply leaves, and now and then a shorter file.
//!
//! A new file is filled some leases at a time between two batches of requests; what changes meanwhile goes into both
//! files, so that it makes no difference when the server is killed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::plan::serve::DhcpPlan;
use crate::proto::Now;
use crate::proto::leases::{HEADER, Leases, Recovered};
use crate::sys::lease_file::{Draft, Error, LeaseFile};

/// Octets for each lease that the file may have, and at least, before it is written anew; a line is some 70.
const SPARE: u64 = 300;
const LEAST: u64 = 256 << 10;
/// What waits for a disk that refuses; more is left out. (Leases in it were told to nobody.)
const MOST_UNWRITTEN: usize = 1 << 20;
/// Steps of the wall clock that the file is written anew for: the ends in it are that clock's.
const STEP: Duration = Duration::from_secs(10);
/// Leases written at a time: less than a millisecond of work.
const SLICE: usize = 500;

#[derive(Debug)]
pub struct Store {
    file: LeaseFile,
    sync: bool,
    rewriting: Option<Rewriting>,
    /// Octets after it was written anew.
    shortest: u64,
    /// When that was, by both clocks.
    written: Now,
    unwritten: Vec<u8>,
    /// That it cannot be written was said.
    failing: bool,
}

/// A shorter file in the making.
#[derive(Debug)]
struct Rewriting {
    draft: Draft,
    /// Where to go on; None: all there, the disk has yet to take it.
    from: Option<usize>,
    syncing: Option<JoinHandle<io::Result<()>>>,
    /// What was appended to the old file since the beginning.
    since: Vec<u8>,
}

impl Store {
    /// The leases as they were left, and where they are kept; nowhere without a path.
    pub fn open(plan: &DhcpPlan, now: Now) -> Result<(Option<Self>, Leases), Error> {
        let Some(path) = &plan.lease_file else { return Ok((None, Leases::new(plan.limit))) };
        let (file, content) = LeaseFile::open(path, HEADER)?;
        let (leases, recovered) = Leases::recover(now, &content, plan.limit);
        let Recovered { damaged, left_out, .. } = recovered;
        if damaged + left_out > 0 {
            tracing::warn!(path = %path.display(), damaged, left_out, "lines of the lease file passed over");
        }
        tracing::info!(path = %path.display(), leases = leases.len(), "lease file read");
        let store = Self {
            file,
            sync: plan.sync,
            rewriting: None,
            shortest: 0,
            written: now,
            unwritten: Vec::new(),
            failing: false,
        };
        Ok((Some(store), leases))
    }

    /// Writes what the leases have to say. False: it is not on the disk, and the replies must not leave.
    pub async fn write(&mut self, leases: &mut Leases) -> bool {
        let mut journal = std::mem::take(&mut self.unwritten);
        journal.extend(leases.journal());
        if journal.is_empty() {
            return true;
        }
        let written = self.append(&journal).await;
        if written.is_err() && journal.len() <= MOST_UNWRITTEN {
            self.unwritten.clone_from(&journal);
        }
        match &written {
            Ok(()) if self.failing => tracing::info!("the lease file can be written again"),
            Err(error) if !self.failing => {
                tracing::error!(path = %self.file.path().display(), %error, "the lease file cannot be written: no lease is told until it can");
            }
            _ => {}
        }
        self.failing = written.is_err();
        !self.failing
    }

    async fn append(&mut self, journal: &[u8]) -> io::Result<()> {
        self.file.append(journal)?;
        if let Some(rewriting) = &mut self.rewriting {
            rewriting.since.extend_from_slice(journal);
        }
        if self.sync { on_disk(self.file.handle()).await } else { Ok(()) }
    }

    /// Whether `tidy` has something to do.
    pub fn is_rewriting(&self) -> bool {
        self.rewriting.is_some()
    }

    /// Begins a shorter file when this one is long, or goes on with it.
    pub async fn tidy(&mut self, leases: &Leases, now: Now) {
        let spare = SPARE * u64::try_from(leases.len()).unwrap_or(u64::MAX);
        let most = LEAST.max(spare).max(2 * self.shortest);
        if self.rewriting.is_none() && self.file.len() <= most && !self.is_another_time(now) {
            return;
        }
        if let Err(error) = self.rewrite(leases, now).await {
            tracing::warn!(%error, "the lease file could not be shortened");
            self.rewriting = None;
        }
    }

    /// Whether the wall clock was set since the file was written.
    fn is_another_time(&self, now: Now) -> bool {
        let expected = self.written.wall + now.monotonic.saturating_duration_since(self.written.monotonic);
        let step = now.wall.duration_since(expected).unwrap_or_else(|earlier| earlier.duration());
        step > STEP
    }

    async fn rewrite(&mut self, leases: &Leases, now: Now) -> io::Result<()> {
        let Some(rewriting) = &mut self.rewriting else {
            let draft = self.file.draft(HEADER)?;
            self.written = now;
            self.rewriting = Some(Rewriting { draft, from: Some(0), syncing: None, since: Vec::new() });
            return Ok(());
        };
        if let Some(from) = rewriting.from {
            let (lines, next) = leases.snapshot(now, from, SLICE);
            rewriting.draft.append(&lines)?;
            rewriting.from = next;
            if next.is_none() {
                let file = rewriting.draft.handle();
                rewriting.syncing = Some(tokio::task::spawn_blocking(move || file.sync_data()));
            }
            return Ok(());
        }
        if rewriting.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return Ok(());
        }
        let Some(Rewriting { mut draft, syncing, since, .. }) = self.rewriting.take() else { return Ok(()) };
        if let Some(syncing) = syncing {
            syncing.await.map_err(io::Error::other)??;
        }
        draft.append(&since)?;
        if self.sync {
            on_disk(draft.handle()).await?;
        }
        self.file.replace(draft)?;
        self.shortest = self.file.len();
        if self.sync {
            let path = self.file.path().to_owned();
            tokio::task::spawn_blocking(move || LeaseFile::sync_dir(&path))
                .await
                .map_err(io::Error::other)??;
        }
        tracing::debug!(octets = self.file.len(), leases = leases.len(), "lease file written anew");
        Ok(())
    }
}

/// Waits for the disk, on a thread that may wait.
async fn on_disk(file: Arc<std::fs::File>) -> io::Result<()> {
    tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)?
}
