//! The serial line: what the guest writes goes to whoever reads it, our stdout among them, and what they type to the guest.
//!
//! Nobody holds up anybody. The line is read at once, always: who is slow loses octets, and is told (see `console`). Our
//! stdout and stdin have no other way than to block, which is why each has a thread.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::confine;
use crate::console::{Chunk, Input, Kind, Mode, Output, Request, Wire};
use crate::sys::stdio;
use crate::sys::terminal::KeyByKey;

/// Read from either side at once.
const CHUNK_BYTES: usize = 4096;
/// How long the last words of a guest may take to reach those who read, from QEMU's end on.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// Between two lines of the log that tell of a stdout that is too slow.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Where the serial line leads. Outlives each run of QEMU.
#[derive(Debug)]
pub struct Console {
    wire: Wire,
    /// Until when the last words are waited for, once QEMU has ended.
    flush_until: Option<Instant>,
    _terminal: Option<KeyByKey>,
}

impl Console {
    /// Our stdout besides who else is attached, and our stdin when that is a terminal or `interactive`.
    pub fn stdio(wire: Wire, interactive: bool) -> Self {
        let terminal = KeyByKey::enter();
        if terminal.is_some() {
            tracing::info!(
                "keys go to the guest, Ctrl-C too; Ctrl-] presses its power button, again quits QEMU, again kills it"
            );
        }
        let input = (interactive || terminal.is_some())
            .then(|| Box::new(io::stdin()) as Box<dyn Read + Send>);
        Self { _terminal: terminal, ..Self::new(wire, Box::new(stdio::stdout()), input) }
    }

    /// Any writer and reader; each is used on a thread of its own and may block.
    pub fn new(
        wire: Wire,
        output: Box<dyn Write + Send>,
        input: Option<Box<dyn Read + Send>>,
    ) -> Self {
        let hub = wire.hub();
        // All that was written so far: nothing, unless it is another's turn.
        let stdout = Request {
            kind: Kind::Stdout,
            who: "the launcher's stdout".to_owned(),
            mode: Mode::ReadOnly,
            replay: 0,
        };
        if let Ok(session) = hub.attach(stdout) {
            std::thread::spawn(move || {
                confine::idle();
                write_all(output, session.output);
            });
        }
        if let Some(input) = input {
            let to_guest = hub.input();
            std::thread::spawn(move || {
                confine::idle();
                read_all(input, &to_guest);
            });
        }
        Self { wire, flush_until: None, _terminal: None }
    }

    /// Waits until all the guest wrote has reached everybody, or a second since QEMU's end. Call last.
    pub async fn close(self) {
        let until = self.flush_until.unwrap_or_else(|| Instant::now() + FLUSH_WITHIN);
        self.wire.close(until).await;
    }
}

/// Ends when the guest has ended or nobody reads our output any more.
fn write_all(mut output: Box<dyn Write + Send>, mut from_guest: Output) {
    let mut gaps = Gaps::default();
    while let Some(chunk) = from_guest.blocking_next() {
        if let Chunk::Skipped(count) = chunk {
            gaps.add(count, Instant::now());
        }
        if output.write_all(&chunk.into_bytes()).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
    gaps.tell();
}

/// What stdout lost, and when that was told.
#[derive(Debug, Default)]
struct Gaps {
    untold: u64,
    told: Option<Instant>,
}

impl Gaps {
    fn add(&mut self, lost: u64, now: Instant) {
        self.untold += lost;
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            self.tell();
        }
    }

    fn tell(&mut self) {
        let octets = std::mem::take(&mut self.untold);
        if octets > 0 {
            tracing::warn!(octets, "console output of the guest was lost: stdout was not read");
        }
    }
}

/// Ends at end of file, or at the first key after the console is gone.
fn read_all(mut input: Box<dyn Read + Send>, to_guest: &Input) {
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                if to_guest.blocking_send(chunk.get(..length).unwrap_or_default()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
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
        let (stream, typed) = (&self.stream, &mut self.typed);
        self.open = tokio::select! {
            readable = stream.readable() => readable.is_ok() && read(stream, &console.wire),
            () = to_guest(stream, typed, &mut console.wire) => true,
        };
    }

    /// After QEMU's end: what it still wrote, within a second.
    pub(super) async fn drain(mut self, console: &mut Console) {
        let until = Instant::now() + FLUSH_WITHIN;
        console.flush_until = Some(until);
        let _ = tokio::time::timeout_at(until, async {
            while self.open {
                self.open =
                    self.stream.readable().await.is_ok() && read(&self.stream, &console.wire);
            }
        })
        .await;
    }
}

/// One piece, if there is one. False at the end of the line.
fn read(stream: &UnixStream, wire: &Wire) -> bool {
    let mut chunk = [0; CHUNK_BYTES];
    match stream.try_read(&mut chunk) {
        Ok(0) => false,
        Ok(length) => {
            wire.write(chunk.get(..length).unwrap_or_default());
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

async fn to_guest(stream: &UnixStream, typed: &mut VecDeque<u8>, wire: &mut Wire) {
    if typed.is_empty() {
        return typed.extend(wire.typed().await);
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
    use crate::console;

    #[tokio::test]
    async fn an_output_that_nobody_reads_stops_neither_the_line_nor_anything_else() {
        let (blocked, mut reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let (hub, wire) = console::new();
        let mut console = Console::new(wire, Box::new(blocked), None);
        let (ours, guests) = UnixStream::pair().unwrap();
        let mut line = Line::new(ours);
        let mut sent = 0;
        while sent < 4 << 20 {
            sent += guests.try_write(&[b'x'; 4096]).unwrap_or(0);
            tokio::time::timeout(Duration::from_secs(20), line.relay(&mut console)).await.unwrap();
        }
        assert_eq!(hub.replay(usize::MAX).len(), console::REPLAY_BYTES);
        // It goes on when somebody reads: with the mark, and then the newest.
        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read)
        });
        drop(guests);
        line.drain(&mut console).await;
        console.close().await;
        let read = reading.join().unwrap().unwrap();
        let text = String::from_utf8(read).unwrap();
        let (mut octets, mut skipped) = (0, 0);
        for (number, part) in text.split("\r\n[berth: ").enumerate() {
            let (count, rest) = match number {
                0 => ("0", part),
                _ => part.split_once(" bytes skipped]\r\n").expect("a mark"),
            };
            skipped += count.parse::<usize>().unwrap();
            octets += rest.len();
        }
        assert!(skipped > 0);
        assert_eq!(octets + skipped, sent);
    }

    #[test]
    fn a_stdout_that_is_slow_for_good_is_told_at_times() {
        let mut gaps = Gaps::default();
        let start = Instant::now();
        let untold = (0..25).map(|second| {
            gaps.add(100, start + Duration::from_secs(second));
            gaps.untold
        });
        let untold: Vec<u64> = untold.collect();
        assert_eq!(untold[..2], [0, 100]);
        assert_eq!(untold[9..12], [900, 0, 100]);
    }

    #[tokio::test]
    async fn what_is_typed_reaches_the_guest() {
        let (keys, keyboard) = std::os::unix::net::UnixStream::pair().unwrap();
        let (_hub, wire) = console::new();
        let mut console = Console::new(wire, Box::new(io::sink()), Some(Box::new(keys)));
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
