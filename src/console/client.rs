//! The other end of [`super::socket`]: our terminal, or whatever stdin and stdout are, and the guest's console.
//!
//! One task waits for the socket, for keys and for signals, and never for stdout or stdin: those block, and have a thread each.
//! A stdout that is not read stops the reading of the socket, so that it is the launcher which counts what is lost.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Mode;
use super::keys::{Escape, Farewell, Typed};
use super::socket::{Answer, Ask, Attached, MAX_LINE, path};
use crate::exit::{Code, Coded};
use crate::log::one_line;
use crate::sys::local_socket;
use crate::sys::terminal::Raw;
use crate::sys::{child, stdio};

/// A launcher that does not answer within this time is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an escape may be the first of two.
const TWICE: Duration = Duration::from_millis(500);
/// Read at once, from either side, and how many of those wait.
const CHUNK_BYTES: usize = 16 << 10;
const CHUNKS: usize = 4;
/// What may be typed while the guest takes nothing: a large paste.
const PENDING_BYTES: usize = 1 << 20;
/// Ctrl-C.
const INTERRUPT: u8 = 0x03;

/// Why there is no console, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer on {}: is `berth run` or `berth vm` running here, with this BERTH_STATE_DIR?", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("{}: the answer cannot be read", path.display())]
    Answer { path: PathBuf, source: serde_json::Error },
    #[error("the launcher refuses: {0}")]
    Refused(String),
    #[error(
        "the launcher has ended without a word, and the guest with it: it was killed, or it failed before there was a guest"
    )]
    Lost,
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("writing the guest's output")]
    Output(#[source] io::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } | Self::Answer { .. } | Self::Refused(_) | Self::Lost => {
                Code::NoConsole
            }
            Self::Signals(_) => Code::Machine,
            Self::Output(_) => Code::Output,
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The user wanted out; so many octets were typed while the guest took none, and more than are kept.
    Left {
        dropped: usize,
    },
    /// The guest has ended, or the replay that was asked for.
    Guest,
    /// Nobody reads our stdout, or the terminal is gone.
    Unread,
    Signal(u8),
}

/// A session.
#[derive(Debug)]
pub struct Client {
    /// What it was given.
    pub attached: Attached,
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

/// Attaches to the guest of the launcher whose state directory this is. Root may, and who the launcher runs as.
pub async fn attach(dir: &Path, ask: &Ask) -> Result<Client, Error> {
    let path = path(dir);
    let asking = async {
        let (from, mut to) = local_socket::open(&path)?.into_split();
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        to.write_all(&line).await?;
        let (mut from, mut line) = (BufReader::with_capacity(CHUNK_BYTES, from), Vec::new());
        (&mut from).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((from, to, line))
    };
    let asked =
        timeout(TIMEOUT, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (from, to, line) =
        asked.map_err(|source| Error::Unreachable { path: path.clone(), source })?;
    match serde_json::from_slice(&line) {
        Ok(Answer::Attached(attached)) => Ok(Client { attached, from, to }),
        Ok(Answer::Refused { error }) => Err(Error::Refused(one_line(&error).into_owned())),
        Err(source) => Err(Error::Answer { path, source }),
    }
}

impl Client {
    /// Our stdin and stdout, until either end, a signal, or the escape where stdin is a terminal. The terminal is as it was
    /// afterwards. The end of a stdin that is none ends nothing. Without `types` stdin is left alone.
    pub async fn relay(self, types: bool) -> Result<End, Error> {
        let Self { attached, from, to } = self;
        let mut signals = Signals::listen()?;
        let (shown, showing) = show();
        let terminal = if types { Raw::enter() } else { None };
        let is_terminal = terminal.is_some();
        let may_type = attached.mode == Mode::ReadWrite;
        let gone = unread_for_good();
        let reading = read(from, Farewell::new(&attached.farewell), shown, showing);
        let typing = async {
            match types && (may_type || is_terminal) {
                true => Typing::new(to, is_terminal, may_type).run(keys()).await,
                false => stay(to).await,
            }
        };
        let end = tokio::select! {
            end = reading => end,
            end = typing => Ok(end),
            signal = signals.next(terminal.as_ref()) => Ok(End::Signal(signal)),
            Ok(()) = gone => Ok(End::Unread),
        };
        if let Some(terminal) = terminal {
            terminal.leave();
        }
        end
    }
}

/// Nothing more is typed, and nobody has left.
async fn stay(_to: OwnedWriteHalf) -> End {
    std::future::pending().await
}

/// What the guest writes, until it ends and all is shown.
async fn read(
    mut from: BufReader<OwnedReadHalf>,
    mut farewell: Farewell,
    shown: mpsc::Sender<Bytes>,
    mut showing: oneshot::Receiver<io::Result<()>>,
) -> Result<End, Error> {
    loop {
        let room = tokio::select! {
            biased;
            ended = &mut showing => return unread(ended),
            room = shown.reserve() => room,
        };
        let read = tokio::select! {
            ended = &mut showing => return unread(ended),
            read = from.fill_buf() => read.map(<[u8]>::to_vec).unwrap_or_default(),
        };
        from.consume(read.len());
        if read.is_empty() {
            break;
        }
        let bytes = farewell.take(&read);
        if let Ok(room) = room
            && !bytes.is_empty()
        {
            room.send(bytes.into());
        }
    }
    let lost = farewell.end();
    let end = if lost.is_some() { Err(Error::Lost) } else { Ok(End::Guest) };
    let _ = shown.send(lost.unwrap_or_default().into()).await;
    drop(shown);
    match showing.await {
        Ok(Err(error)) => unread(Ok(Err(error))),
        _ => end,
    }
}

/// The thread that shows has ended before the guest.
fn unread(ended: Result<io::Result<()>, oneshot::error::RecvError>) -> Result<End, Error> {
    match ended {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(End::Unread),
    }
}

/// What is typed, and not taken by the launcher yet.
struct Typing {
    to: OwnedWriteHalf,
    is_terminal: bool,
    may_type: bool,
    escape: Escape,
    pending: VecDeque<u8>,
    dropped: usize,
}

impl Typing {
    fn new(to: OwnedWriteHalf, is_terminal: bool, may_type: bool) -> Self {
        let (escape, pending) = (Escape::default(), VecDeque::new());
        Self { to, is_terminal, may_type, escape, pending, dropped: 0 }
    }

    /// Until the user wants out. On a terminal keys are looked at also while the guest takes nothing: one of them leads out.
    async fn run(mut self, mut keys: mpsc::Receiver<Bytes>) -> End {
        loop {
            let asked = self.escape.is_asked();
            let ready = tokio::select! {
                typed = keys.recv(), if self.is_terminal || self.pending.is_empty() => Some(typed),
                () = sleep(TWICE), if asked => return self.leave().await,
                _ = self.to.writable(), if !self.pending.is_empty() => None,
            };
            match ready {
                Some(Some(typed)) if self.take(&typed) => return self.leave().await,
                Some(Some(_)) => {}
                // Hung up.
                Some(None) if self.is_terminal => return End::Unread,
                // `printf … | berth console`: what the guest makes of it is still to come.
                Some(None) => return stay(self.to).await,
                None => self.write(),
            }
        }
    }

    /// Whether the user wants out. Who may only read leaves by Ctrl-C as well.
    fn take(&mut self, typed: &[u8]) -> bool {
        let Typed { to_guest, left } = match self.is_terminal {
            true => self.escape.take(typed),
            false => Typed { to_guest: typed.to_vec(), left: false },
        };
        if !self.may_type {
            return left || to_guest.contains(&INTERRUPT);
        }
        let room = PENDING_BYTES.saturating_sub(self.pending.len()).min(to_guest.len());
        self.dropped += to_guest.len() - room;
        self.pending.extend(to_guest.into_iter().take(room));
        left
    }

    fn write(&mut self) {
        match self.to.try_write(self.pending.make_contiguous()) {
            Ok(length) => drop(self.pending.drain(..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A launcher that is gone is told by the other side.
            Err(_) => self.pending.clear(),
        }
    }

    /// What was typed before the way out still goes, if it is taken soon.
    async fn leave(mut self) -> End {
        let _ = timeout(TWICE, self.to.write_all(self.pending.make_contiguous())).await;
        End::Left { dropped: self.dropped }
    }
}

/// A thread that writes to stdout, and how it ended.
fn show() -> (mpsc::Sender<Bytes>, oneshot::Receiver<io::Result<()>>) {
    let (to, mut from) = mpsc::channel::<Bytes>(CHUNKS);
    let (done, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let mut output = stdio::stdout();
        let mut result = Ok(());
        while let Some(bytes) = from.blocking_recv() {
            result = output.write_all(&bytes);
            if result.is_err() {
                break;
            }
        }
        let _ = done.send(result);
    });
    (to, ended)
}

/// A thread that waits until nobody can read our stdout any more: a guest that says nothing would not let us know.
fn unread_for_good() -> oneshot::Receiver<()> {
    let (done, gone) = oneshot::channel();
    std::thread::spawn(move || {
        if stdio::stdout().until_gone().is_ok() {
            let _ = done.send(());
        }
    });
    gone
}

/// A thread that reads stdin. It may wait there for ever: nobody waits for it.
fn keys() -> mpsc::Receiver<Bytes> {
    let (to, keys) = mpsc::channel(CHUNKS);
    std::thread::spawn(move || {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match io::stdin().read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    let bytes = Bytes::copy_from_slice(chunk.get(..length).unwrap_or_default());
                    if to.blocking_send(bytes).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    keys
}

/// The signals that end a session, and the one after which a terminal is to be set again.
struct Signals {
    ends: Vec<(u8, Signal)>,
    goes_on: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        let ends = [
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
        ];
        let ends = ends.into_iter().filter(|kind| !child::ignores(kind.as_raw_value()));
        let number = |kind: SignalKind| kind.as_raw_value().try_into().unwrap_or_default();
        Ok(Self {
            ends: ends
                .map(|kind| Ok((number(kind), listen(kind)?)))
                .collect::<Result<_, Error>>()?,
            goes_on: listen(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    /// Until one that ends.
    async fn next(&mut self, terminal: Option<&Raw>) -> u8 {
        let Self { ends, goes_on } = self;
        std::future::poll_fn(|context| {
            while goes_on.poll_recv(context).is_ready() {
                // The shell has set it for itself meanwhile.
                if let Some(terminal) = terminal {
                    terminal.again();
                }
            }
            ends.iter_mut()
                .find_map(|(number, signal)| {
                    signal.poll_recv(context).is_ready().then_some(*number)
                })
                .map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}

/// Words for the user, on stderr, which may be one that nobody reads.
pub async fn tell(text: String) {
    let (done, told) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = stdio::stderr().write_all(format!("berth: {text}\n").as_bytes());
        let _ = done.send(());
    });
    let _ = timeout(TWICE, told).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    /// A paused guest, and a paste that is larger than all that is kept for it.
    #[tokio::test]
    async fn the_way_out_is_heard_while_nothing_is_taken_and_what_is_lost_is_told() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (_from, to) = ours.into_split();
        let (keys, typed) = mpsc::channel(CHUNKS);
        let typing = tokio::spawn(Typing::new(to, true, true).run(typed));
        for _ in 0..40 {
            keys.send(vec![b'x'; 64 << 10].into()).await.unwrap();
        }
        keys.send("\x1d".into()).await.unwrap();
        let End::Left { dropped } = typing.await.unwrap() else { panic!("another end") };
        assert!(dropped > 1 << 20 && dropped < 40 * (64 << 10), "{dropped}");
    }
}
