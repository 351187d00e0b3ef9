//! The serial console: what the guest writes goes to our stdout, what is typed goes to the guest.
//!
//! Nobody holds up anybody: a stdout that is slow stops us reading the serial line (the guest then waits, as with any
//! serial line), never the supervisor. That is why stdout and stdin, which have no other way, get a thread each. A
//! stdout that takes nothing at all for some seconds is nobody's: the guest goes on, and what it writes is lost.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::confine;
use crate::sys::stdio;
use crate::sys::terminal::KeyByKey;

/// Read from either side at once.
const CHUNK_BYTES: usize = 4096;
/// Chunks on their way to stdout, or from stdin.
const CHUNKS: usize = 16;
/// What is kept for replay.
const REPLAY_BYTES: usize = 64 * 1024;
/// A stdout that takes nothing for so long is not waited for.
const STALLED: Duration = Duration::from_secs(2);
/// How long the last words of a guest may take to reach stdout, from QEMU's end on.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Where the serial line leads. Outlives each run of QEMU.
#[derive(Debug)]
pub struct Console {
    /// None: nobody reads any more.
    output: Option<mpsc::Sender<Vec<u8>>>,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    replay: Replay,
    stall: Stall,
    /// Resolves when all output is written.
    flushed: oneshot::Receiver<()>,
    /// Until when they are waited for, once QEMU has ended.
    flush_until: Option<Instant>,
    _terminal: Option<KeyByKey>,
}

impl Console {
    /// Our stdout, and our stdin when that is a terminal or `interactive`.
    pub fn stdio(interactive: bool) -> Self {
        let terminal = KeyByKey::enter();
        if terminal.is_some() {
            tracing::info!(
                "keys go to the guest, Ctrl-C too; Ctrl-] presses its power button, again quits QEMU, again kills it"
            );
        }
        let input = (interactive || terminal.is_some())
            .then(|| Box::new(io::stdin()) as Box<dyn Read + Send>);
        Self { _terminal: terminal, ..Self::new(Box::new(stdio::stdout()), input) }
    }

    /// Any writer and reader; each is used on a thread of its own and may block.
    pub fn new(output: Box<dyn Write + Send>, input: Option<Box<dyn Read + Send>>) -> Self {
        let (to_output, from_guest) = mpsc::channel(CHUNKS);
        let (done, flushed) = oneshot::channel();
        std::thread::spawn(move || {
            confine::idle();
            write_all(output, from_guest);
            let _ = done.send(());
        });
        let input = input.map(|input| {
            let (to_guest, receiver) = mpsc::channel(CHUNKS);
            std::thread::spawn(move || {
                confine::idle();
                read_all(input, &to_guest);
            });
            receiver
        });
        Self {
            output: Some(to_output),
            input,
            replay: Replay::default(),
            stall: Stall::default(),
            flushed,
            flush_until: None,
            _terminal: None,
        }
    }

    /// The last 64 KiB the guest wrote, for whoever comes later.
    pub fn replay(&self) -> Replay {
        self.replay.clone()
    }

    /// Waits until all the guest wrote has reached the output, or a second since QEMU's end. Call last.
    pub async fn close(mut self) {
        self.output = None;
        let until = self.flush_until.unwrap_or_else(|| Instant::now() + FLUSH_WITHIN);
        let _ = tokio::time::timeout_at(until, &mut self.flushed).await;
    }
}

/// Ends when the console is dropped or nobody reads our output any more.
fn write_all(mut output: Box<dyn Write + Send>, mut from_guest: mpsc::Receiver<Vec<u8>>) {
    while let Some(chunk) = from_guest.blocking_recv() {
        if output.write_all(&chunk).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

/// Ends at end of file, or at the first key after the console is gone.
fn read_all(mut input: Box<dyn Read + Send>, to_guest: &mpsc::Sender<Vec<u8>>) {
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                let bytes = chunk.get(..length).unwrap_or_default().to_vec();
                if to_guest.blocking_send(bytes).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// An output that does not take what there is.
#[derive(Debug, Default)]
struct Stall {
    /// Since when.
    since: Option<Instant>,
    /// Octets lost.
    lost: usize,
}

impl Stall {
    /// Waits for room, but not for ever. None: what comes next is lost. Cancel-safe.
    async fn permit<'a>(
        &mut self,
        output: &'a mpsc::Sender<Vec<u8>>,
    ) -> Option<mpsc::Permit<'a, Vec<u8>>> {
        if let Some(permit) = self.room(output) {
            return Some(permit);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let permit = tokio::time::timeout_at(since + STALLED, output.reserve()).await.ok()?.ok()?;
        self.over();
        Some(permit)
    }

    fn room<'a>(&mut self, output: &'a mpsc::Sender<Vec<u8>>) -> Option<mpsc::Permit<'a, Vec<u8>>> {
        let permit = output.try_reserve().ok()?;
        self.over();
        Some(permit)
    }

    fn over(&mut self) {
        self.since = None;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            tracing::warn!(
                octets = lost,
                "console output of the guest was lost: stdout was not read"
            );
        }
    }
}

/// The end of what the guest wrote.
#[derive(Debug, Clone, Default)]
pub struct Replay(Arc<Mutex<VecDeque<u8>>>);

impl Replay {
    /// At most 64 KiB, oldest first.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn add(&self, bytes: &[u8]) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.extend(bytes);
        let excess = ring.len().saturating_sub(REPLAY_BYTES);
        ring.drain(..excess);
    }
}

/// One QEMU's serial line.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    /// Typed, and not taken by QEMU yet.
    typed: VecDeque<u8>,
    open: bool,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, typed: VecDeque::new(), open: true }
    }

    /// Moves one piece in either direction. Loses nothing when it is dropped half-way; never resolves once the
    /// line is closed.
    pub(super) async fn relay(&mut self, console: &mut Console) {
        if !self.open {
            return std::future::pending().await;
        }
        let Console { output, input, replay, stall, .. } = console;
        let (stream, typed) = (&self.stream, &mut self.typed);
        self.open = tokio::select! {
            open = to_output(stream, output, replay, stall) => open,
            () = to_guest(stream, typed, input) => true,
        };
    }

    /// After QEMU's end: what it still wrote, within a second.
    pub(super) async fn drain(mut self, console: &mut Console) {
        console.input.take_if(|input| input.is_closed());
        let until = Instant::now() + FLUSH_WITHIN;
        console.flush_until = Some(until);
        let _ = tokio::time::timeout_at(until, async {
            while self.open {
                let Console { output, replay, stall, .. } = &mut *console;
                self.open = to_output(&self.stream, output, replay, stall).await;
            }
        })
        .await;
    }
}

/// False at the end of the line.
async fn to_output(
    stream: &UnixStream,
    output: &Option<mpsc::Sender<Vec<u8>>>,
    replay: &Replay,
    stall: &mut Stall,
) -> bool {
    let permit = match output {
        Some(output) => stall.permit(output).await,
        None => None,
    };
    if stream.readable().await.is_err() {
        return false;
    }
    // There may be room by now.
    let permit = permit.or_else(|| stall.room(output.as_ref()?));
    let mut chunk = [0; CHUNK_BYTES];
    match stream.try_read(&mut chunk) {
        Ok(0) => false,
        Ok(length) => {
            let bytes = chunk.get(..length).unwrap_or_default();
            replay.add(bytes);
            match permit {
                Some(permit) => permit.send(bytes.to_vec()),
                None => stall.lost += bytes.len(),
            }
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

async fn to_guest(
    stream: &UnixStream,
    typed: &mut VecDeque<u8>,
    input: &mut Option<mpsc::Receiver<Vec<u8>>>,
) {
    if typed.is_empty() {
        let bytes = match input {
            Some(receiver) => receiver.recv().await,
            None => std::future::pending().await,
        };
        match bytes {
            Some(bytes) => typed.extend(bytes),
            None => *input = None,
        }
        return;
    }
    if stream.writable().await.is_ok()
        && let Ok(length) = stream.try_write(typed.make_contiguous())
    {
        typed.drain(..length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_keeps_the_end_and_no_more() {
        let replay = Replay::default();
        for byte in 0..=255_u8 {
            replay.add(&[byte; 1000]);
        }
        let suppressed = replay.bytes();
        assert_eq!(suppressed.len(), REPLAY_BYTES);
        assert_eq!((suppressed.first(), suppressed.last()), (Some(&190), Some(&255)));
    }

    #[tokio::test]
    async fn a_blocked_output_stops_reading_the_line_and_nothing_else() {
        let (blocked, _held) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut console = Console::new(Box::new(blocked), None);
        let (ours, guests) = UnixStream::pair().unwrap();
        let mut line = Line::new(ours);
        let mut sent = 0;
        let mut idle = 0;
        while idle < 20 {
            match guests.try_write(&[b'x'; 4096]) {
                Ok(length) => sent += length,
                Err(_) => idle += 1,
            }
            // Gives up at once when blocked: the supervisor's other work goes on.
            let _ = tokio::time::timeout(Duration::from_millis(10), line.relay(&mut console)).await;
        }
        assert!(sent > CHUNK_BYTES * CHUNKS, "took {sent} bytes before it stopped");
        assert!(sent < 2 << 20, "took {sent} bytes although nobody reads");
    }

    #[tokio::test(start_paused = true)]
    async fn an_output_that_nobody_reads_at_all_does_not_hold_up_the_guest() {
        let (blocked, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut console = Console::new(Box::new(blocked), None);
        let (ours, guests) = UnixStream::pair().unwrap();
        let mut line = Line::new(ours);
        let mut sent = 0;
        while sent < 4 << 20 {
            sent += guests.try_write(&[b'x'; 4096]).unwrap_or(0);
            // Time is virtual: it goes on when all wait.
            let _ = tokio::time::timeout(Duration::from_millis(10), line.relay(&mut console)).await;
        }
        assert!(console.stall.lost > 0);
        assert_eq!(console.replay().bytes().len(), REPLAY_BYTES);
        drop(reader);
    }

    #[tokio::test]
    async fn what_is_typed_reaches_the_guest() {
        let (keys, keyboard) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut console = Console::new(Box::new(io::sink()), Some(Box::new(keys)));
        let (ours, guests) = UnixStream::pair().unwrap();
        let mut line = Line::new(ours);
        (&keyboard).write_all(b"root\r").unwrap();
        let mut got = Vec::new();
        while got.len() < 5 {
            tokio::select! {
                () = line.relay(&mut console) => {}
                _ = guests.readable() => { let _ = guests.try_read_buf(&mut got); }
            }
        }
        assert_eq!(got, b"root\r");
    }
}
