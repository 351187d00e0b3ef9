//! A shorter file in the making, between two batches of requests.

use std::io;

use tokio::task::JoinHandle;

use super::{Kept, Store, on_disk};
use crate::proto::Now;
use crate::sys::lease_file::{Draft, LeaseFile};

/// Leases written at a time: less than a millisecond of work.
const SLICE: usize = 500;

#[derive(Debug)]
pub(super) struct Rewriting {
    place: Place,
    /// Where to go on; None: all there, the disk has yet to take it.
    from: Option<usize>,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
enum Place {
    Beside {
        draft: Draft,
        /// What was appended to the old file since the beginning.
        since: Vec<u8>,
    },
    /// Behind what it had before, of `from` octets; up to `copied` it is at the beginning as well.
    Behind { from: u64, copied: u64 },
}

impl Rewriting {
    /// What was appended to the file meanwhile.
    pub fn also(&mut self, journal: &[u8]) {
        if let Place::Beside { since, .. } = &mut self.place {
            since.extend_from_slice(journal);
        }
    }
}

impl Store {
    /// The next step.
    pub(super) async fn rewrite(&mut self, leases: &impl Kept, now: Now) -> io::Result<()> {
        let Some(rewriting) = &mut self.rewriting else {
            let place = if self.in_place {
                let from = self.file.len();
                self.file.append(self.header.as_bytes())?;
                Place::Behind { from, copied: from }
            } else {
                Place::Beside { draft: self.file.draft(self.header)?, since: Vec::new() }
            };
            self.written = now;
            if !self.unwritten.is_empty() {
                // All of it will be in the new one.
                (self.unwritten, self.incomplete) = (Vec::new(), true);
            }
            self.rewriting = Some(Rewriting { place, from: Some(0), syncing: None });
            return Ok(());
        };
        if let Some(from) = rewriting.from {
            let (lines, next) = leases.snapshot(now, from, SLICE);
            rewriting.from = next;
            match &mut rewriting.place {
                Place::Beside { draft, .. } => draft.append(&lines)?,
                Place::Behind { .. } if self.file.len() > self.max.saturating_mul(2) => {
                    return Err(io::Error::other("it is as long as a next start would read"));
                }
                Place::Behind { .. } => self.file.append(&lines)?,
            }
            if next.is_none() {
                self.sync_rewritten();
            }
            return Ok(());
        }
        if rewriting.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return Ok(());
        }
        let Some(Rewriting { place, syncing, .. }) = self.rewriting.take() else { return Ok(()) };
        if let Some(syncing) = syncing {
            syncing.await.map_err(io::Error::other)??;
        }
        match place {
            Place::Beside { draft, since } => self.take_name(draft, &since).await?,
            Place::Behind { from, copied } => self.take_beginning(from, copied).await?,
        }
        (self.shortest, self.incomplete) = (self.file.len(), false);
        tracing::debug!(octets = self.file.len(), leases = leases.len(), "lease file rewritten");
        Ok(())
    }

    /// All leases are in the new part: the disk takes it, on a thread that may wait.
    fn sync_rewritten(&mut self) {
        let Some(rewriting) = &mut self.rewriting else { return };
        rewriting.syncing = Some(match &mut rewriting.place {
            Place::Beside { draft, .. } => {
                let file = draft.handle();
                tokio::task::spawn_blocking(move || file.sync_data())
            }
            Place::Behind { from, copied } => {
                let (file, from, to) = (self.file.handle(), *from, self.file.len());
                // What is longer than the old part stays where it is.
                let fits = to - from <= from;
                *copied = if fits { to } else { from };
                tokio::task::spawn_blocking(move || {
                    file.sync_data()?;
                    if fits { LeaseFile::copy_down(&file, from, from, to) } else { Ok(()) }
                })
            }
        });
    }

    async fn take_name(&mut self, mut draft: Draft, since: &[u8]) -> io::Result<()> {
        draft.append(since)?;
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
        Ok(())
    }

    /// The rest is copied, and on the disk before the file is cut.
    async fn take_beginning(&mut self, from: u64, copied: u64) -> io::Result<()> {
        let to = self.file.len();
        if copied == from || to - from > from {
            return Ok(());
        }
        if to > copied {
            let file = self.file.handle();
            let copy = move || LeaseFile::copy_down(&file, from, copied, to);
            tokio::task::spawn_blocking(copy).await.map_err(io::Error::other)??;
        }
        self.file.cut(to - from)
    }
}
