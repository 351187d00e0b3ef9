//! Who reads the guest's serial line and who types there: sessions, their queues, and counters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::ring::{Chunk, Cursor, Ring};
use super::{MAX_SESSIONS, REPLAY_BYTES};
use crate::log::one_line;

/// Octets that may wait for a session, and for our stdout, before it loses some.
const WAITING_BYTES: usize = 256 << 10;
const STDOUT_WAITING_BYTES: usize = 1 << 20;
/// A reader gets at most so many octets at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Between two times that a reader gets less than that.
const PACE: Duration = Duration::from_millis(25);
/// What is typed waits for the guest in so many pieces of so many octets: one session's paste lets others' keys through.
const TYPED_PIECES: usize = 16;
const TYPED_BYTES: usize = 256;
/// DECSTR, the terminal's soft reset: what a guest's last program left set does not colour the replay.
const SOFT_RESET: &[u8] = b"\x1b[!p";

/// Who a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Our own stdout: the container's log.
    Stdout,
    /// A process that came by the socket.
    Socket,
    /// A browser.
    Web,
    /// Our own look for what BERTH_READY waits for: nobody is there, and nobody waits for it.
    Readiness,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Stdout, Self::Socket, Self::Web, Self::Readiness];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Socket => "socket",
            Self::Web => "web",
            Self::Readiness => "readiness",
        }
    }

    /// Whether it is somebody else's: those are counted, and told in the log.
    fn is_guest(self) -> bool {
        match self {
            Self::Socket | Self::Web => true,
            Self::Stdout | Self::Readiness => false,
        }
    }
}

/// Whether a session may type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    #[serde(rename = "rw")]
    ReadWrite,
    #[serde(rename = "ro")]
    ReadOnly,
}

impl Mode {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        }
    }
}

/// Who wants to be attached, and how.
#[derive(Debug, Clone)]
pub struct Request {
    pub kind: Kind,
    /// For the log and for the others that are there: `uid 0, pid 12`, or an address.
    pub who: String,
    pub mode: Mode,
    /// Octets of replay that are wanted, at most; 64 KiB are kept.
    pub replay: usize,
}

/// Nobody more can be attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_SESSIONS} sessions are attached to the console, which is the most: end one first")]
pub struct Full;

/// The guest has ended, and nobody reads what is typed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest has ended")]
pub struct Gone;

/// Sessions now, and octets that sessions lost because they were too slow, so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub sessions: BTreeMap<Kind, u64>,
    pub skipped_bytes: BTreeMap<Kind, u64>,
}

/// The readers' side. Clones are the same hub.
#[derive(Debug, Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    to_guest: mpsc::Sender<Bytes>,
    /// A session has ended.
    left: Arc<Notify>,
}

/// The guest's side: there is one.
#[derive(Debug)]
pub struct Wire {
    hub: Hub,
    typed: mpsc::Receiver<Bytes>,
}

#[derive(Debug, Default)]
struct State {
    ring: Ring,
    readers: BTreeMap<u64, Reader>,
    next_id: u64,
    closed: bool,
    skipped_bytes: BTreeMap<Kind, u64>,
}

#[derive(Debug)]
struct Reader {
    kind: Kind,
    who: String,
    mode: Mode,
    cursor: Cursor,
    skipped: u64,
    /// Dropped at the end of the stream.
    wake: Option<mpsc::Sender<()>>,
}

/// A hub, and the end of it that the serial line is connected to.
pub fn new() -> (Hub, Wire) {
    let (to_guest, typed) = mpsc::channel(TYPED_PIECES);
    let hub = Hub { state: Arc::default(), to_guest, left: Arc::default() };
    (hub.clone(), Wire { hub, typed })
}

impl Wire {
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What the guest wrote, for everybody. Never waits.
    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.hub.lock();
        let State { ring, readers, .. } = &mut *state;
        let needed = readers.values().map(|reader| reader.cursor.needs(ring, bytes.len())).max();
        ring.push(bytes, needed.unwrap_or_default().max(REPLAY_BYTES));
        for wake in readers.values().filter_map(|reader| reader.wake.as_ref()) {
            // Full: it will look anyway.
            let _ = wake.try_send(());
        }
    }

    /// What is typed next. Cancel-safe.
    pub async fn typed(&mut self) -> Bytes {
        match self.typed.recv().await {
            Some(bytes) => bytes,
            // Not while this has a hub.
            None => std::future::pending().await,
        }
    }

    /// The stream ends here: sessions read what there is, and leave. Resolves when all have left, or at `until`.
    pub async fn close(self, until: Instant) {
        self.hub.close();
        let all_left = async {
            loop {
                let left = self.hub.left.notified();
                if !self.hub.lock().is_waited_for() {
                    return;
                }
                left.await;
            }
        };
        let _ = tokio::time::timeout_at(until, all_left).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.hub.close();
    }
}

impl Hub {
    /// Attaches somebody, who gets what the guest writes from here on after the replay. Told in the log, as is the end.
    pub fn attach(&self, request: Request) -> Result<Session, Full> {
        let Request { kind, who, mode, replay } = request;
        let who = one_line(&who).into_owned();
        let mut state = self.lock();
        if kind.is_guest() && state.guests() >= MAX_SESSIONS {
            drop(state);
            tracing::warn!(who, kind = kind.as_str(), "console: refused, {Full}");
            return Err(Full);
        }
        let others = state.words().collect();
        let id = state.next_id;
        state.next_id += 1;
        let (wake, woken) = mpsc::channel(1);
        let bound = if kind == Kind::Stdout { STDOUT_WAITING_BYTES } else { WAITING_BYTES };
        let cursor = Cursor::at_end(&state.ring, bound);
        let wake = (!state.closed).then_some(wake);
        let replay = state.ring.last(replay.min(REPLAY_BYTES));
        let reader = Reader { kind, who, mode, cursor, skipped: 0, wake };
        if kind.is_guest() {
            tracing::info!(
                who = reader.who,
                kind = kind.as_str(),
                mode = mode.as_str(),
                "console: attached"
            );
        }
        state.readers.insert(id, reader);
        drop(state);
        let replay = match replay.is_empty() {
            true => replay,
            false => [SOFT_RESET, &replay].concat().into(),
        };
        let input = (mode == Mode::ReadWrite).then(|| self.input());
        Ok(Session {
            replay,
            others,
            output: Output { hub: self.clone(), id, woken, last: None },
            input,
        })
    }

    /// A way to type that is no session: our own stdin's.
    pub fn input(&self) -> Input {
        Input(self.to_guest.clone())
    }

    /// The end of what the guest wrote, at most 64 KiB, from a line's start on where there is one.
    pub fn replay(&self, limit: usize) -> Bytes {
        self.lock().ring.last(limit.min(REPLAY_BYTES))
    }

    /// Who is there, our stdout too.
    pub fn sessions(&self) -> Vec<String> {
        self.lock().words().collect()
    }

    /// For metrics. Every kind has a number.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let of = |kind: Kind| state.readers.values().filter(|reader| reader.kind == kind).count();
        let skipped = |kind| state.skipped_bytes.get(&kind).copied().unwrap_or_default();
        Counts {
            sessions: Kind::ALL
                .map(|kind| (kind, u64::try_from(of(kind)).unwrap_or(u64::MAX)))
                .into(),
            skipped_bytes: Kind::ALL.map(|kind| (kind, skipped(kind))).into(),
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for reader in state.readers.values_mut() {
            reader.wake = None;
        }
    }

    /// Octets that wait for a session, and whether no more are to come.
    fn waiting(&self, id: u64) -> (usize, bool) {
        let state = self.lock();
        let waiting = state.readers.get(&id).map(|reader| reader.cursor.needs(&state.ring, 0));
        (waiting.unwrap_or_default(), state.closed)
    }

    fn take(&self, id: u64) -> Option<Chunk> {
        let mut state = self.lock();
        let State { ring, readers, skipped_bytes, .. } = &mut *state;
        let reader = readers.get_mut(&id)?;
        let chunk = reader.cursor.next(ring, CHUNK_BYTES)?;
        if let Chunk::Skipped(count) = chunk {
            reader.skipped += count;
            *skipped_bytes.entry(reader.kind).or_default() += count;
        }
        Some(chunk)
    }

    fn detach(&self, id: u64) {
        let Some(Reader { kind, who, skipped, .. }) = self.lock().readers.remove(&id) else {
            return;
        };
        if kind.is_guest() {
            tracing::info!(who, kind = kind.as_str(), skipped_bytes = skipped, "console: detached");
        }
        self.left.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who is there, our stdout too.
    fn words(&self) -> impl Iterator<Item = String> {
        self.readers.values().filter(|reader| reader.kind != Kind::Readiness).map(Reader::words)
    }

    /// Whether somebody reads on at the end of the stream.
    fn is_waited_for(&self) -> bool {
        self.readers.values().any(|reader| reader.kind != Kind::Readiness)
    }

    /// Sessions that count.
    fn guests(&self) -> usize {
        self.readers.values().filter(|reader| reader.kind.is_guest()).count()
    }
}

impl Reader {
    fn words(&self) -> String {
        match self.kind {
            Kind::Stdout | Kind::Readiness => self.who.clone(),
            Kind::Socket | Kind::Web => format!("{} ({})", self.who, self.mode.as_str()),
        }
    }
}

/// One that is attached. It has left when its output is dropped.
#[derive(Debug)]
pub struct Session {
    /// The end of what the guest wrote before, after a soft reset of the terminal; empty when there is nothing.
    pub replay: Bytes,
    /// Who else is there.
    pub others: Vec<String>,
    pub output: Output,
    /// None: it may only read.
    pub input: Option<Input>,
}

/// What the guest writes, for one session.
#[derive(Debug)]
pub struct Output {
    hub: Hub,
    id: u64,
    woken: mpsc::Receiver<()>,
    /// When it got something the last time.
    last: Option<Instant>,
}

/// What a session is to do now.
enum Next {
    Take,
    /// Gather a little first.
    Gather(Duration),
    Wait,
    End,
}

impl Output {
    /// What is next; None once the guest has ended and all is read. Cancel-safe.
    ///
    /// At once after a pause; then at most every 25 ms, unless there is much: QEMU hands over octet by octet, and to wake
    /// every reader for each would cost the guest more than half its speed.
    pub async fn next(&mut self) -> Option<Chunk> {
        loop {
            match self.now() {
                Next::Take => return self.take(),
                Next::Gather(time) => tokio::time::sleep(time).await,
                Next::Wait => drop(self.woken.recv().await),
                Next::End => return None,
            }
        }
    }

    /// The same on a thread that may wait.
    pub fn blocking_next(&mut self) -> Option<Chunk> {
        loop {
            match self.now() {
                Next::Take => return self.take(),
                Next::Gather(time) => std::thread::sleep(time),
                Next::Wait => drop(self.woken.blocking_recv()),
                Next::End => return None,
            }
        }
    }

    fn now(&self) -> Next {
        let (waiting, closed) = self.hub.waiting(self.id);
        let pause = self.last.map(|last| PACE.saturating_sub(last.elapsed())).unwrap_or_default();
        match waiting {
            0 if closed => Next::End,
            0 => Next::Wait,
            1..CHUNK_BYTES if !closed && !pause.is_zero() => Next::Gather(pause),
            _ => Next::Take,
        }
    }

    fn take(&mut self) -> Option<Chunk> {
        self.last = Some(Instant::now());
        self.hub.take(self.id)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.hub.detach(self.id);
    }
}

/// What a session types.
#[derive(Debug, Clone)]
pub struct Input(mpsc::Sender<Bytes>);

impl Input {
    /// Waits while the guest takes nothing: at most 4 KiB wait for it, of all sessions together. Each of those that wait has
    /// its turn. Dropped half-way, the pieces that went are gone.
    pub async fn send(&self, bytes: &[u8]) -> Result<(), Gone> {
        for piece in bytes.chunks(TYPED_BYTES) {
            self.0.send(Bytes::copy_from_slice(piece)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// The same on a thread that may wait.
    pub fn blocking_send(&self, bytes: &[u8]) -> Result<(), Gone> {
        for piece in bytes.chunks(TYPED_BYTES) {
            self.0.blocking_send(Bytes::copy_from_slice(piece)).map_err(|_| Gone)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
