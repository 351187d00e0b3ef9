//! Leases on disk while they are served: written before a reply leaves, and now and then a shorter file.
//!
//! A new file is filled some leases at a time between two batches of requests; what changes meanwhile goes into both
//! files, so that it makes no difference when the server is killed. Where no file can take the name (it is mounted by
//! itself, or its directory is not ours) the same is done in place (`sys::lease_file`). What fails is said once and
//! tried again after a pause, not by every request.

mod kept;
mod rewrite;
#[cfg(test)]
mod tests;

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::kept::{Both, Kept};
use self::rewrite::Rewriting;
use crate::proto::dhcp4::{ReservedFor, Settings};
use crate::proto::dhcp6::Pool;
use crate::proto::leases::{
    Address as _, HEADER, HEADER6, Leases, State, has_ipv6_header, is_ours,
};
use crate::proto::{Now, dhcp6};
use crate::sys::lease_file::{Error, LeaseFile, Named};

/// Octets for each lease that the file may have, and at least, before it is written anew; a line is some 70.
const SPARE: u64 = 300;
const MIN_REWRITE: u64 = 256 << 10;
/// Octets that a file may have that nothing makes shorter: half of what a next start would read.
const MAX_FILE: u64 = 512 << 20;
/// What waits for a disk that refuses; more is left out. (Leases in it were told to nobody.)
const MAX_UNWRITTEN: usize = 1 << 20;
/// Steps of the wall clock that the file is written anew for: the ends in it are that clock's.
const STEP: Duration = Duration::from_secs(10);
/// How often clock and file are looked at when nobody asks for anything.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Between two attempts at what failed.
const WRITE_AGAIN: Pause =
    Pause { first: Duration::from_millis(100), last: Duration::from_secs(2) };
const SHORTEN_AGAIN: Pause =
    Pause { first: Duration::from_secs(10), last: Duration::from_secs(600) };

/// Leases of a family that is not served now, which stay in the file.
const MAX_IDLE: usize = 1 << 20;

/// What is kept, and where: of each family that is served its settings, and how many addresses may be remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping<'a> {
    pub file: Option<&'a Path>,
    pub sync: bool,
    pub four: Option<(&'a Settings, usize)>,
    pub six: Option<(&'a Pool, usize)>,
}

/// The first line of a file.
pub(super) fn header(has_ipv6: bool) -> &'static str {
    if has_ipv6 { HEADER6 } else { HEADER }
}

#[derive(Debug)]
pub(crate) struct Store {
    file: LeaseFile,
    /// Its first line.
    header: &'static str,
    sync: bool,
    rewriting: Option<Rewriting>,
    /// No file can take its name.
    in_place: bool,
    /// Octets after it was written anew.
    shortest: u64,
    max: u64,
    /// When that was, by both clocks.
    written: Now,
    unwritten: Vec<u8>,
    /// More than that was to be written: the file lacks it.
    incomplete: bool,
    writing: Attempts,
    shortening: Attempts,
}

/// How long to wait: twice as long each time.
#[derive(Debug, Clone, Copy)]
struct Pause {
    first: Duration,
    last: Duration,
}

/// Of something that may fail: when to try again, and whether it was said.
#[derive(Debug)]
struct Attempts {
    pause: Pause,
    failed: Option<(Duration, Instant)>,
}

impl Attempts {
    fn new(pause: Pause) -> Self {
        Self { pause, failed: None }
    }

    fn waits(&self, now: Instant) -> bool {
        self.failed.is_some_and(|(_, again)| now < again)
    }

    /// Whether it is the first time.
    fn fail(&mut self, now: Instant) -> bool {
        let Pause { first, last } = self.pause;
        let pause = self.failed.map_or(first, |(before, _)| (before * 2).min(last));
        self.failed.replace((pause, now + pause)).is_none()
    }

    /// Whether it had failed before.
    fn succeed(&mut self) -> bool {
        self.failed.take().is_some()
    }
}

impl Store {
    /// The leases as they were left, and where they are kept; nowhere without a path.
    pub fn open(what: &Keeping<'_>, now: Now) -> Result<(Option<Self>, Both), Error> {
        let limit = what.four.map_or(MAX_IDLE, |(_, limit)| limit);
        let limit6 = what.six.map_or(MAX_IDLE, |(_, limit)| limit);
        let Some(path) = what.file else {
            return Ok((None, Both { four: Leases::new(limit), six: Leases::new(limit6) }));
        };
        let header = header(what.six.is_some());
        let (mut file, content) = LeaseFile::open(path, header, is_ours)?;
        let (mut four, recovered) = Leases::recover(now, &content, limit);
        let is_old = !has_ipv6_header(&content);
        let lines6 = if is_old { &[] } else { content.as_slice() };
        let (mut six, recovered6) = Leases::<Ipv6Addr>::recover(now, lines6, limit6);
        let (damaged, left_out) = (recovered.damaged, recovered.left_out + recovered6.left_out);
        if damaged + left_out > 0 {
            tracing::warn!(path = %path.display(), damaged, left_out, "lines of the lease file passed over");
        }
        let mut far = 0;
        if let Some((settings, _)) = what.four {
            far += four.shorten(now, |address, state| settings.longest(address, state));
            warn_of_unknown(settings, &four, now);
        }
        if let Some((pool, _)) = what.six {
            far += six.shorten(now, |address, state| pool.longest(address, state));
            warn_of_unknown6(pool, &six, now);
        }
        if far > 0 {
            tracing::warn!(path = %path.display(), leases = far, "leases that end later than any may now are made shorter: the clock, or the lease time, was another one");
        }
        let has_ipv6 = what.six.is_some() || !six.is_empty();
        // An earlier version: the line says so from here on, and the file is written anew as what it is now.
        let is_upgraded = has_ipv6 && is_old && !content.is_empty();
        if is_upgraded {
            file.append(HEADER6.as_bytes()).map_err(|source| Error::File {
                what: "writing",
                path: path.to_owned(),
                source,
            })?;
        }
        let mut both = Both { four, six };
        // At once: its ends are those of the clock as it is now.
        let journal = both.journal();
        let unwritten = if file.append(&journal).is_ok() { Vec::new() } else { journal };
        tracing::info!(path = %file.path().display(), leases = both.len(), "lease file read");
        let store = Self {
            file,
            header: self::header(has_ipv6),
            sync: what.sync,
            rewriting: None,
            in_place: false,
            shortest: 0,
            max: MAX_FILE,
            written: now,
            unwritten,
            incomplete: is_upgraded,
            writing: Attempts::new(WRITE_AGAIN),
            shortening: Attempts::new(SHORTEN_AGAIN),
        };
        Ok((Some(store), both))
    }

    /// Writes what the leases have to say. False: it is not on the disk, and the replies must not leave.
    pub async fn write(&mut self, leases: &mut impl Kept, now: Now) -> bool {
        let journal = leases.journal();
        if self.unwritten.len() + journal.len() <= MAX_UNWRITTEN {
            self.unwritten.extend(journal);
        } else {
            (self.incomplete, self.rewriting) = (true, None);
        }
        if self.writing.waits(now.monotonic) {
            return false;
        }
        if self.unwritten.is_empty() && self.writing.failed.is_none() {
            return true;
        }
        self.attempt(leases, now).await
    }

    /// Looks after the file when nobody asks for anything.
    pub async fn check(&mut self, leases: &impl Kept, now: Now) {
        if !self.writing.waits(now.monotonic) {
            self.attempt(leases, now).await;
        }
    }

    async fn attempt(&mut self, leases: &impl Kept, now: Now) -> bool {
        match self.write_all(leases, now).await {
            Ok(()) => {
                if self.writing.succeed() {
                    tracing::info!("the lease file can be written again");
                }
                true
            }
            Err(error) => {
                if self.writing.fail(now.monotonic) {
                    tracing::error!(path = %self.file.path().display(), %error, "the lease file cannot be written: no lease is acknowledged until it can");
                }
                false
            }
        }
    }

    async fn write_all(&mut self, leases: &impl Kept, now: Now) -> io::Result<()> {
        self.restore_name(leases, now).await?;
        let journal = std::mem::take(&mut self.unwritten);
        let written = self.append(&journal).await;
        if written.is_err() {
            self.unwritten = journal;
        }
        written
    }

    async fn append(&mut self, journal: &[u8]) -> io::Result<()> {
        if journal.is_empty() {
            return Ok(());
        }
        let length = u64::try_from(journal.len()).unwrap_or(u64::MAX);
        if self.file.len().saturating_add(length) > self.max {
            let max = self.max >> 20;
            return Err(io::Error::other(format!("it has {max} MiB and cannot be made shorter")));
        }
        self.file.append(journal)?;
        if let Some(rewriting) = &mut self.rewriting {
            rewriting.also(journal);
        }
        if self.sync { on_disk(self.file.handle()).await } else { Ok(()) }
    }

    /// When there is something to do though nobody asks.
    pub(crate) fn next_check(&self, now: Instant) -> Instant {
        self.writing.failed.map_or(now + CHECK_INTERVAL, |(_, again)| again)
    }

    /// Whether `tidy` has something to do.
    pub(crate) fn is_rewriting(&self) -> bool {
        self.rewriting.is_some()
    }

    /// Looks after the file, and begins a shorter one when this one is long, or goes on with it.
    pub async fn tidy(&mut self, leases: &impl Kept, now: Now) {
        if self.rewriting.is_none()
            && (self.shortening.waits(now.monotonic) || !self.is_due(leases, now))
        {
            return;
        }
        match self.rewrite(leases, now).await {
            Ok(()) if self.rewriting.is_some() => {}
            Ok(()) => {
                if self.shortening.succeed() {
                    tracing::info!("the lease file could be shortened again");
                }
            }
            Err(error) if !self.in_place && LeaseFile::cannot_be_replaced(&error) => {
                tracing::info!(path = %self.file.path().display(), %error, "no file can take the lease file's name: it is shortened in place");
                (self.rewriting, self.in_place) = (None, true);
            }
            Err(error) => {
                self.rewriting = None;
                if self.shortening.fail(now.monotonic) {
                    tracing::warn!(path = %self.file.path().display(), %error, "the lease file could not be shortened: it grows, and is tried again now and then");
                }
            }
        }
    }

    fn is_due(&self, leases: &impl Kept, now: Now) -> bool {
        let spare = SPARE * u64::try_from(leases.len()).unwrap_or(u64::MAX);
        let max = MIN_REWRITE.max(spare).max(2 * self.shortest);
        self.incomplete || self.file.len() > max || self.is_another_time(now)
    }

    /// Whether the wall clock was set since the file was written.
    fn is_another_time(&self, now: Now) -> bool {
        let expected =
            self.written.wall + now.monotonic.saturating_duration_since(self.written.monotonic);
        let step = now.wall.duration_since(expected).unwrap_or_else(|earlier| earlier.duration());
        step > STEP
    }

    /// A next start would read what the name leads to: it is to hold all there is. Somebody may have removed the file,
    /// or put another one in its place.
    async fn restore_name(&mut self, leases: &impl Kept, now: Now) -> io::Result<()> {
        let named = self.file.named()?;
        if named == Named::Ours {
            return Ok(());
        }
        self.rewriting = None;
        let path = self.file.path().display().to_string();
        let all = leases.all(now);
        match named {
            Named::Ours => {}
            Named::Changed => {
                self.file.go_behind()?;
                self.file.append(&[self.header.as_bytes(), &all].concat())?;
            }
            Named::Gone | Named::Other => {
                self.file.move_along()?;
                let mut draft = self.file.draft(self.header)?;
                draft.append(&all)?;
                on_disk(draft.handle()).await?;
                self.file.replace(draft)?;
            }
        }
        self.written = now;
        let what = match named {
            Named::Gone => "the lease file was removed",
            Named::Other => "the lease file's name led to another file, which is kept as .other",
            _ => "another process wrote to the lease file",
        };
        tracing::warn!(%path, leases = leases.len(), "{what}: rewritten; stop the server before the file is changed");
        Ok(())
    }
}

/// Says which leases of the file are in nobody's network, and which are in the way of a reservation.
fn warn_of_unknown(settings: &Settings, leases: &Leases, now: Now) {
    let is_live = |until: Option<Instant>| until.is_none_or(|until| until > now.monotonic);
    let live = || leases.iter().filter(|lease| lease.state == State::Bound && is_live(lease.until));
    let elsewhere = live().filter(|lease| settings.subnet_of(lease.address).is_none()).count();
    if elsewhere > 0 {
        tracing::warn!(
            leases = elsewhere,
            "leases of networks that are not served any more: remembered, not renewed"
        );
    }
    for reservation in &settings.reservations {
        let Some(lease) = leases.of_address(now, reservation.address) else { continue };
        let is_its_own = match &reservation.client {
            ReservedFor::Mac(mac) => lease.hardware.address == *mac,
            ReservedFor::ClientId(id) => *lease.client.0 == **id,
        };
        if !is_its_own && lease.state == State::Bound && is_live(lease.until) {
            let (address, client) = (reservation.address, lease.hardware.address);
            tracing::warn!(%address, %client, "a reserved address is leased to another client: reserved again when that ends");
        }
    }
}

/// The same of IPv6.
fn warn_of_unknown6(pool: &Pool, leases: &Leases<Ipv6Addr>, now: Now) {
    let is_live = |until: Option<Instant>| until.is_none_or(|until| until > now.monotonic);
    let live = || leases.iter().filter(|lease| lease.state == State::Bound && is_live(lease.until));
    let elsewhere = live().filter(|lease| !pool.serves(lease.address)).count();
    if elsewhere > 0 {
        tracing::warn!(
            leases = elsewhere,
            "IPv6 leases of networks that are not served any more: remembered, not renewed"
        );
    }
    for reservation in &pool.reservations {
        let Some(lease) = leases.of_address(now, reservation.address) else { continue };
        let duid = Ipv6Addr::owner(&lease.client.0);
        let is_its_own = match &reservation.client {
            dhcp6::ReservedFor::Mac(mac) => lease.hardware.address == *mac,
            dhcp6::ReservedFor::Duid(reserved) => reserved.octets() == duid,
        };
        if !is_its_own && lease.state == State::Bound && is_live(lease.until) {
            let (address, client) = (reservation.address, dhcp6::Duid::new(duid));
            tracing::warn!(%address, ?client, "a reserved address is leased to another client: reserved again when that ends");
        }
    }
}

/// Waits for the disk, on a thread that may wait.
async fn on_disk(file: Arc<std::fs::File>) -> io::Result<()> {
    tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)?
}
