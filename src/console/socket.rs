//! The way in from other processes of the container: `console.sock` in the state directory, mode 0600.
//!
//! ```text
//!  client  {"mode":"rw","replay":65536,"follow":true}\n          then what is typed
//!  server  {"mode":"rw","replay":812,"others":["…"],"farewell":"…"}\n   then the replay, and what the guest writes
//!          {"error":"…"}\n                                       and the end
//! ```
//!
//! `mode` is `rw` or `ro`; `replay` is wanted, then given, in octets; without `follow` the replay is all, and takes no session. Other words
//! are refused. When the guest has ended orderly, the last octets are those of `farewell`, which nobody can guess: a
//! stream that ends without them was cut. A client that closes its writing half has left.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Hub, Input, Kind, MAX_SESSIONS, Mode, REPLAY_BYTES, Request, Session};
use crate::sys::local_socket;

/// Name of the socket in the state directory.
const SOCKET: &str = "console.sock";
/// Connections at a time: sessions, and those that ask or are told why not.
const MAX_CONNECTIONS: usize = 2 * MAX_SESSIONS;
/// For the first line, and for what is written before the octets.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The first lines have some hundred octets, the names of all others among them.
pub(super) const MAX_LINE: u64 = 16 << 10;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub mode: Mode,
    /// Octets of what was written before; 65536 at most.
    #[serde(default = "most")]
    pub replay: usize,
    /// Whether it stays.
    #[serde(default = "yes")]
    pub follow: bool,
}

fn most() -> usize {
    REPLAY_BYTES
}

fn yes() -> bool {
    true
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Attached(Attached),
    Refused { error: String },
}

/// The stream begins behind this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub mode: Mode,
    pub replay: usize,
    /// Who else is there.
    pub others: Vec<String>,
    pub farewell: String,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(SOCKET)
}

/// Lets processes of the container in by `dir`, for as long as the runtime lives. A directory that cannot be written, or in
/// which another launcher listens, costs the console, not the guest.
pub fn start(dir: &Path, hub: Hub) {
    if let Some(listener) = local_socket::listen_or_tell(&path(dir), "berth console") {
        tokio::spawn(serve(listener, hub));
    }
}

async fn serve(listener: UnixListener, hub: Hub) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                let hub = hub.clone();
                connections.spawn(async move {
                    // Its end, whoever made it, is told where the session ends.
                    let _ = serve_one(stream, &hub).await;
                });
            }
            Ok(_) => {}
            // Out of descriptors, at most: that passes.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn serve_one(mut stream: UnixStream, hub: &Hub) -> io::Result<()> {
    let who = peer(&stream);
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    let asked = timeout(TIMEOUT, ask(&mut from)).await;
    let Ask { mode, replay, follow } = match asked.map_err(|_| "no first line in time".to_owned()) {
        Ok(Ok(ask)) => ask,
        Ok(Err(error)) | Err(error) => return timeout(TIMEOUT, refuse(&mut to, error)).await?,
    };
    if !follow {
        let replay = hub.replay(replay);
        let farewell = farewell()?;
        let last = [&replay, farewell.as_bytes()].concat();
        let (replay, others) = (replay.len(), hub.sessions());
        let answer = Answer::Attached(Attached { mode: Mode::ReadOnly, replay, others, farewell });
        return timeout(TIMEOUT, write(&mut to, &answer, &last)).await?;
    }
    let session = match hub.attach(Request { kind: Kind::Socket, who, mode, replay }) {
        Ok(session) => session,
        Err(full) => return timeout(TIMEOUT, refuse(&mut to, full.to_string())).await?,
    };
    let Session { replay, others, mut output, input } = session;
    let farewell = farewell()?;
    let last = farewell.clone();
    let answer = Answer::Attached(Attached { mode, replay: replay.len(), others, farewell });
    let reading = async {
        write(&mut to, &answer, &replay).await?;
        while let Some(chunk) = output.next().await {
            to.write_all(&chunk.into_bytes()).await?;
        }
        to.write_all(last.as_bytes()).await
    };
    let typing = type_all(&mut from, input);
    tokio::pin!(typing);
    // Each at its own pace: one that does not read may type, and the other way round.
    let read = tokio::select! {
        read = reading => read,
        typed = &mut typing => return typed,
    };
    // One that is gone may have typed before.
    if read.is_err() {
        let _ = timeout(TIMEOUT, typing).await;
    }
    read
}

/// The first line, or what is wrong with it.
async fn ask(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Ask, String> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    let ask: Ask = serde_json::from_slice(&line).map_err(|error| format!("first line: {error}"))?;
    if ask.replay > REPLAY_BYTES {
        return Err(format!("first line: replay is at most {REPLAY_BYTES}"));
    }
    Ok(ask)
}

/// Until the client has left. Of one that may not type nothing is passed on.
async fn type_all(from: &mut (impl AsyncBufRead + Unpin), input: Option<Input>) -> io::Result<()> {
    loop {
        let bytes = from.fill_buf().await?;
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        if let Some(input) = &input
            && input.send(bytes).await.is_err()
        {
            // The guest has ended; what it wrote may still be read.
            return std::future::pending().await;
        }
        from.consume(length);
    }
}

async fn refuse(to: &mut (impl AsyncWriteExt + Unpin), error: String) -> io::Result<()> {
    write(to, &Answer::Refused { error }, b"").await
}

async fn write(
    to: &mut (impl AsyncWriteExt + Unpin),
    answer: &Answer,
    rest: &[u8],
) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.write_all(rest).await
}

/// A NUL, which terminals ignore, and what nobody can guess.
fn farewell() -> io::Result<String> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let digits: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!("\0berth-end-{digits}"))
}

/// By what the kernel says (SO_PEERCRED, unix(7)).
fn peer(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(peer) => format!("uid {}, pid {}", peer.uid(), peer.pid().unwrap_or_default()),
        Err(_) => "somebody".to_owned(),
    }
}
