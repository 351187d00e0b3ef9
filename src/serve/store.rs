//! Leases on disk while they are served: written before a reply leaves, and now and then a shorter file.
//!
//! A new file is filled some leases at a time between two batches of requests; what changes meanwhile goes into both
//! files, so that it makes no difference when the server is killed.

use std::io;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::plan::serve::DhcpPlan;
use crate::proto::Now;
use crate::proto::leases::{HEADER, Leases};
use crate::sys::lease_file::{Draft, Error, LeaseFile};

/// Octets for each lease that the file may have, and at least, before it is written anew; a line is some 70.
const SPARE: u64 = 300;
const LEAST: u64 = 256 << 10;
/// Leases written at a time: less than a millisecond of work.
const SLICE: usize = 500;

#[derive(Debug)]
pub struct Store {
    file: LeaseFile,
    sync: bool,
    rewriting: Option<Rewriting>,
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
        if recovered.damaged > 0 {
            tracing::warn!(path = %path.display(), lines = recovered.damaged, "lines of the lease file are damaged, passed over");
        }
        tracing::info!(path = %path.display(), leases = leases.len(), "lease file read");
        Ok((Some(Self { file, sync: plan.sync, rewriting: None, failing: false }), leases))
    }

    /// Writes what the leases have to say. False: it is not on the disk, and the replies must not leave.
    pub async fn write(&mut self, leases: &mut Leases) -> bool {
        let journal = leases.journal();
        if journal.is_empty() {
            return true;
        }
        let written = self.append(&journal).await;
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
        let most = LEAST.max(SPARE * u64::try_from(leases.len()).unwrap_or(u64::MAX));
        if self.rewriting.is_none() && self.file.len() <= most {
            return;
        }
        if let Err(error) = self.rewrite(leases, now).await {
            tracing::warn!(%error, "the lease file could not be shortened");
            self.rewriting = None;
        }
    }

    async fn rewrite(&mut self, leases: &Leases, now: Now) -> io::Result<()> {
        let Some(rewriting) = &mut self.rewriting else {
            let draft = self.file.draft(HEADER)?;
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
