//! The way to the guest's agent: bytes between QEMU's socket and the core (`proto::agent`), and whoever asks. A task of its own:
//! an agent that talks without end, or takes nothing, holds up nobody else.
//!
//! QEMU reads nothing of the socket while the guest has the port closed, and says when it opens and closes it: an absent agent is
//! not even looked for.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

pub use crate::proto::agent::{
    Address, Answer, FileSystem, Info, Interface, Known, MAX_HOLD, NoAnswer, OsInfo, Presence,
    Request,
};
use crate::proto::agent::{Agent, Input, Output};

/// Questions that wait for the task; the core takes as many again.
const MAX_WAITING: usize = 8;
/// Sockets of runs of QEMU that the task has not seen.
const MAX_LINES: usize = 4;
/// Bytes that QEMU does not take; what is more is lost, as it is when the guest does not read.
const MAX_UNSENT_BYTES: usize = 16 * 1024;
const CHUNK_BYTES: usize = 4096;
/// For a request, all that wait before it among them.
const TIMEOUT: Duration = Duration::from_secs(120);

struct Question {
    request: Request,
    answer: oneshot::Sender<Result<Answer, NoAnswer>>,
}

/// Where the guest's agent is asked, and what it said. Outlives each run of QEMU.
#[derive(Debug, Clone)]
pub struct GuestAgent {
    ask: mpsc::Sender<Question>,
    known: watch::Receiver<Known>,
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Channel {
    lines: mpsc::Sender<UnixStream>,
    port: watch::Sender<Port>,
    ask: mpsc::Sender<Question>,
}

/// Whether the guest has the port open, and how often that changed, or the guest began anew: all may happen between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Port {
    open: bool,
    changes: u64,
    resets: u64,
}

/// Begins the task, which lives as long as the runtime.
pub fn start() -> (GuestAgent, Channel) {
    let (lines, new_lines) = mpsc::channel(MAX_LINES);
    let (ask, asked) = mpsc::channel(MAX_WAITING);
    let (port, said) = watch::channel(Port::default());
    let (to, known) = watch::channel(Known::default());
    let (keys, mut count) = (RandomState::new(), 0_u64);
    let number = move || {
        count += 1;
        u32::try_from(keys.hash_one(count) >> 32).unwrap_or_default()
    };
    let relay = Relay {
        core: Agent::new(number),
        stream: None,
        unsent: VecDeque::new(),
        answers: BTreeMap::new(),
        next: 0,
        port: Port::default(),
        known: to,
    };
    tokio::spawn(relay.run(new_lines, said, asked));
    (GuestAgent { ask: ask.clone(), known }, Channel { lines, port, ask })
}

impl GuestAgent {
    /// The agent's answer.
    pub async fn ask(&self, request: Request) -> Result<Answer, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.ask.try_send(Question { request, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Busy,
            mpsc::error::TrySendError::Closed(_) => NoAnswer::Ended,
        })?;
        match tokio::time::timeout(TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NoAnswer::Ended),
            Err(_) => Err(NoAnswer::TimedOut),
        }
    }

    /// What it said, as that changes.
    pub fn known(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }
}

impl Channel {
    /// Another run of QEMU.
    pub(super) fn begin(&self, line: UnixStream) {
        self.port(false);
        // The task takes them at once, but where it is never run: then nobody asks either.
        let _ = self.lines.try_send(line);
    }

    pub(super) fn port(&self, open: bool) {
        self.port.send_modify(|port| (port.open, port.changes) = (open, port.changes + 1));
    }

    /// The guest begins anew.
    pub(super) fn reset(&self) {
        self.port.send_modify(|port| port.resets += 1);
    }

    /// Beside the power button. Nobody waits for the answer: there is none when it succeeds.
    pub(super) fn shut_down(&self) {
        let (answer, _) = oneshot::channel();
        let _ = self.ask.try_send(Question { request: Request::Shutdown, answer });
    }
}

struct Relay {
    core: Agent,
    stream: Option<UnixStream>,
    unsent: VecDeque<u8>,
    answers: BTreeMap<u64, oneshot::Sender<Result<Answer, NoAnswer>>>,
    next: u64,
    port: Port,
    known: watch::Sender<Known>,
}

impl Relay {
    async fn run(
        mut self,
        mut lines: mpsc::Receiver<UnixStream>,
        mut port: watch::Receiver<Port>,
        mut asked: mpsc::Receiver<Question>,
    ) {
        loop {
            let deadline = self.core.deadline();
            let writing = !self.unsent.is_empty();
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => self.begin(line),
                    None => return,
                },
                changed = port.changed() => match changed {
                    Ok(()) => self.port(*port.borrow_and_update()),
                    Err(_) => return,
                },
                Some(question) = asked.recv() => self.ask(question),
                () = super::until(deadline) => self.handle(Input::Tick),
                () = readable(self.stream.as_ref()) => {
                    self.read();
                    // One that talks without end is always readable: signals and timers have their turn between.
                    tokio::task::yield_now().await;
                }
                () = writable(self.stream.as_ref()), if writing => self.flush(),
            }
        }
    }

    fn begin(&mut self, line: UnixStream) {
        self.unsent.clear();
        self.handle(Input::Port { open: false });
        self.handle(Input::Reset);
        self.stream = Some(line);
        // It may be told first.
        if self.port.open {
            self.handle(Input::Port { open: true });
        }
    }

    fn port(&mut self, port: Port) {
        let before = std::mem::replace(&mut self.port, port);
        if port.resets != before.resets {
            self.handle(Input::Reset);
        }
        if port.changes == before.changes {
            return;
        }
        if port.changes > before.changes + 1 || !port.open {
            self.handle(Input::Port { open: false });
        }
        if port.open {
            self.handle(Input::Port { open: true });
        }
    }

    fn ask(&mut self, Question { request, answer }: Question) {
        let number = self.next;
        self.next += 1;
        self.answers.insert(number, answer);
        self.handle(Input::Ask { number, request });
    }

    fn read(&mut self) {
        let Some(stream) = &self.stream else { return };
        let mut chunk = [0; CHUNK_BYTES];
        match stream.try_read(&mut chunk) {
            Ok(length @ 1..) => {
                self.handle(Input::Bytes(chunk.get(..length).unwrap_or_default()));
            }
            Err(error) if is_for_now(&error) => {}
            // QEMU has ended.
            Ok(0) | Err(_) => {
                self.stream = None;
                self.unsent.clear();
                self.handle(Input::Port { open: false });
            }
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.core.handle(now(), input);
        while let Some(output) = self.core.poll() {
            match output {
                Output::Transmit(bytes) if self.unsent.len() + bytes.len() <= MAX_UNSENT_BYTES => {
                    self.unsent.extend(bytes);
                }
                // As if it were lost: the core waits for it in vain.
                Output::Transmit(_) => {}
                Output::Answer(number, answer) => {
                    if let Some(asked) = self.answers.remove(&number) {
                        let _ = asked.send(answer);
                    }
                }
                Output::Known => self.tell(),
            }
        }
        self.flush();
    }

    fn tell(&self) {
        let known = self.core.known().clone();
        let (is, version) = (known.presence, known.version.clone().unwrap_or_default());
        let was = self.known.send_replace(known);
        match (was.presence, is) {
            (Presence::Frozen, Presence::Answering) => {
                tracing::info!("the guest's file systems are thawed");
            }
            (_, Presence::Frozen) if was.presence != Presence::Frozen => {
                tracing::info!("the guest's file systems are frozen");
            }
            // An agent that says its version has begun.
            (_, Presence::Answering) if was.version.is_none() && !version.is_empty() => {
                tracing::info!(version, "the guest agent answers");
            }
            _ => {}
        }
    }

    fn flush(&mut self) {
        let Some(stream) = &self.stream else { return };
        while !self.unsent.is_empty() {
            match stream.try_write(self.unsent.make_contiguous()) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if is_for_now(&error) => return,
                Err(_) => self.unsent.clear(),
            }
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// An error is read as well.
async fn readable(stream: Option<&UnixStream>) {
    match stream {
        Some(stream) => drop(stream.readable().await),
        None => std::future::pending().await,
    }
}

async fn writable(stream: Option<&UnixStream>) {
    match stream {
        Some(stream) => drop(stream.writable().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Without an end, as fast as a thread writes: others of the runtime have their turn.
    #[tokio::test]
    async fn an_agent_that_talks_without_end_holds_up_nobody() {
        for what in ["\n", "\u{ff}{\"return\":1}\n", "xxxxxxxx"] {
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let chunk = what.repeat((1 << 20) / what.len());
            let flood =
                std::thread::spawn(move || while theirs.write_all(chunk.as_bytes()).is_ok() {});
            let (agent, channel) = start();
            channel.begin(UnixStream::from_std(ours).unwrap());
            let begun = tokio::time::Instant::now();
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // 0.1 s of sleep; without its turn each would be as long as the flood.
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            drop((agent, channel));
            tokio::task::spawn_blocking(|| flood.join().unwrap()).await.unwrap();
        }
    }
}
