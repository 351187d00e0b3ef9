//! What other processes of the container may ask of the guest: `control.sock` in the state directory, mode 0600.
//!
//! ```text
//!  client  {"guest":"freeze","for_secs":30}\n
//!  server  {"answer":{"frozen":1,"for_secs":30}}\n   or {"error":"…"}\n, and the end
//! ```
//!
//! `guest` is `info`, `interfaces`, `filesystems`, `freeze` or `thaw`; `for_secs` goes with `freeze` alone. Other words are refused.
//! What may be asked of its disks is in [`disks`], `berth suspend` in `suspend`.
//! What comes of the guest is cut and counted where it comes in (`proto::agent`).

pub mod disks;
mod suspend;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::exit::{Code, Coded};
use crate::supervise::agent::{Answer, GuestAgent, MAX_HOLD, NoAnswer, Request};
use crate::supervise::storage::{Progress, Storage};
use crate::sys::local_socket;

pub use suspend::{Suspender, suspend, suspended};

/// Name of the socket in the state directory.
const SOCKET: &str = "control.sock";
/// Connections at a time; more are told so.
const MAX_CONNECTIONS: usize = 8;
/// What these hear.
const BUSY: &[u8] = b"{\"error\":\"the launcher is asked too much at once: ask again\"}\n";
/// For the request to come, and for the answer to be taken.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than a launcher waits for its guest.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
/// A path has 4096 octets at most, and each of them six in JSON.
const MAX_REQUEST: u64 = 32 << 10;
/// 64 interfaces with 32 addresses each are some 200 KiB.
const MAX_ANSWER: u64 = 1 << 20;
/// A freeze ends after this, unless another time is asked for.
pub const HOLD: Duration = Duration::from_secs(30);

/// What is asked of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Info,
    Interfaces,
    Filesystems,
    Freeze,
    Thaw,
}

/// A request, as one line of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub guest: Verb,
    /// Of a freeze: when it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_secs: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    Answer(Value),
    Error(String),
    /// Of a backup; others follow.
    Progress(Progress),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer on {}: is berth running here, with this BERTH_STATE_DIR?", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("{}: the answer cannot be read", path.display())]
    Answer { path: PathBuf, source: serde_json::Error },
    /// In the launcher's words.
    #[error("{0}")]
    Refused(String),
    #[error("the launcher ended before it answered")]
    Ended,
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } | Self::Answer { .. } | Self::Refused(_) | Self::Ended => {
                Code::NoAgent
            }
        }
    }
}

/// Asks the launcher whose state directory this is.
pub async fn ask(dir: &Path, ask: &Ask) -> Result<Value, Error> {
    exchange(dir, ask).await
}

async fn exchange(dir: &Path, ask: &impl Serialize) -> Result<Value, Error> {
    let path = dir.join(SOCKET);
    let unreachable = |source| Error::Unreachable { path: path.clone(), source };
    let mut line = serde_json::to_vec(ask).map_err(|error| unreachable(error.into()))?;
    line.push(b'\n');
    let told = local_socket::exchange(&path, &line, MAX_ANSWER, ANSWER_WITHIN).await;
    let text = told.map_err(unreachable)?;
    match serde_json::from_slice(&text) {
        Ok(Told::Answer(answer)) => Ok(answer),
        Ok(Told::Error(why)) => Err(Error::Refused(why)),
        Ok(Told::Progress(_)) => Err(Error::Ended),
        Err(source) => Err(Error::Answer { path, source }),
    }
}

/// Lets processes of the container ask by `dir`, for as long as the runtime lives. A directory that cannot be written costs
/// these verbs, not the guest. `agent` is None where the guest has no channel of ours.
pub fn start(
    dir: &Path,
    agent: Option<GuestAgent>,
    storage: Option<Storage>,
    suspender: Suspender,
) {
    let verbs = "berth guest, backup, resize and suspend";
    if let Some(listener) = local_socket::listen_or_tell(&dir.join(SOCKET), verbs) {
        tokio::spawn(serve(listener, Asked { agent, storage, suspender }));
    }
}

/// Who answers.
#[derive(Debug, Clone)]
struct Asked {
    agent: Option<GuestAgent>,
    storage: Option<Storage>,
    suspender: Suspender,
}

async fn serve(listener: UnixListener, asked: Asked) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < MAX_CONNECTIONS && may_ask(&stream) => {
                let asked = asked.clone();
                connections.spawn(async move {
                    // Whoever left hears nothing.
                    let _ = serve_one(stream, asked).await;
                });
            }
            Ok((stream, _)) if may_ask(&stream) => {
                // It fits, or nobody reads.
                let _ = stream.try_write(BUSY);
            }
            Ok(_) => {}
            // Out of descriptors, at most: that passes.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Ourselves, and root: the mode says so, too, unless somebody changed it (unix(7), SO_PEERCRED).
fn may_ask(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw() || peer.uid() == 0)
}

async fn serve_one(mut stream: UnixStream, asked: Asked) -> io::Result<()> {
    let (from, mut to) = stream.split();
    let mut line = Vec::new();
    let mut from = BufReader::new(from.take(MAX_REQUEST));
    let told = match timeout(TIMEOUT, from.read_until(b'\n', &mut line)).await {
        Ok(Ok(_)) if suspend::is_asked(&line) => suspend::answer(&asked.suspender).await,
        Ok(Ok(_)) => match disks::parse(&line) {
            Some(Ok(ask)) => disks::answer(ask, asked.storage.as_ref(), from, &mut to).await?,
            Some(Err(why)) => Told::Error(why),
            None => match parse(&line) {
                Ok(ask) => answer(ask, asked.agent.as_ref()).await,
                Err(why) => Told::Error(why),
            },
        },
        Ok(Err(error)) => return Err(error),
        Err(_) => Told::Error("no request in time".to_owned()),
    };
    disks::write(&mut to, &told).await
}

/// The request, or what is wrong with it.
fn parse(line: &[u8]) -> Result<Ask, String> {
    let ask: Ask = serde_json::from_slice(line).map_err(|error| format!("request: {error}"))?;
    match ask {
        Ask { guest: Verb::Freeze, for_secs: Some(secs) }
            if !(1..=MAX_HOLD.as_secs()).contains(&secs) =>
        {
            Err(format!("request: for_secs is 1 to {}", MAX_HOLD.as_secs()))
        }
        Ask { guest: Verb::Freeze, .. } | Ask { for_secs: None, .. } => Ok(ask),
        _ => Err("request: for_secs goes with freeze alone".to_owned()),
    }
}

async fn answer(ask: Ask, agent: Option<&GuestAgent>) -> Told {
    let Some(agent) = agent else {
        return Told::Error("the guest has no channel to an agent that is berth's: the words after -- have one of their own, or another machine".to_owned());
    };
    let hold = ask.for_secs.map_or(HOLD, Duration::from_secs);
    let answer = match ask.guest {
        Verb::Info => info(agent).await,
        Verb::Interfaces => agent.ask(Request::Interfaces).await.map(value),
        Verb::Filesystems => agent.ask(Request::FileSystems).await.map(value),
        Verb::Freeze => agent.ask(Request::Freeze { hold }).await.map(|answer| match answer {
            Answer::Frozen(number) => json!({"frozen": number, "for_secs": hold.as_secs()}),
            other => value(other),
        }),
        Verb::Thaw => agent.ask(Request::Thaw).await.map(value),
    };
    answer.map_or_else(|why| Told::Error(why.to_string()), Told::Answer)
}

/// What the agent and its system are. One that does not know its system tells the rest.
async fn info(agent: &GuestAgent) -> Result<Value, NoAnswer> {
    let known = |answer: Result<Answer, NoAnswer>| match answer {
        Ok(answer) => Ok(value(answer)),
        Err(NoAnswer::Refused(_) | NoAnswer::Frozen) => Ok(Value::Null),
        Err(why) => Err(why),
    };
    let own = known(agent.ask(Request::Info).await)?;
    let os = known(agent.ask(Request::OsInfo).await)?;
    let host_name = known(agent.ask(Request::HostName).await)?;
    let state = agent.known().borrow().presence.as_str();
    Ok(json!({"state": state, "agent": own, "os": os, "host_name": host_name}))
}

fn value(answer: Answer) -> Value {
    match answer {
        Answer::Done => Value::Null,
        Answer::Info(info) => json!({"version": info.version, "commands": info.commands}),
        Answer::Os(os) => json!(os),
        Answer::HostName(name) => json!(name),
        Answer::Interfaces(interfaces) => json!(interfaces),
        Answer::FileSystems(systems) => json!(systems),
        Answer::Frozen(number) => json!({"frozen": number}),
        Answer::Thawed(number) => json!({"thawed": number}),
        Answer::FreezeStatus(is_frozen) => json!(is_frozen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_words_that_are_known() {
        let ask = |guest, for_secs| Ok(Ask { guest, for_secs });
        assert_eq!(parse(br#"{"guest":"info"}"#), ask(Verb::Info, None));
        assert_eq!(parse(br#"{"guest":"freeze"}"#), ask(Verb::Freeze, None));
        assert_eq!(parse(br#"{"guest":"freeze","for_secs":300}"#), ask(Verb::Freeze, Some(300)));
        for wrong in [
            "",
            "{}",
            r#"{"guest":"exec"}"#,
            r#"{"guest":"info","path":"/"}"#,
            r#"{"guest":"thaw","for_secs":1}"#,
            r#"{"guest":"freeze","for_secs":0}"#,
            r#"{"guest":"freeze","for_secs":301}"#,
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_absent_agent_is_told_at_once_and_a_missing_channel_too() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Ask { guest: Verb::Info, for_secs: None };
        assert!(matches!(ask(dir.path(), &wanted).await, Err(Error::Unreachable { .. })));
        let (agent, _channel) = crate::supervise::agent::start();
        let suspender = tokio::sync::mpsc::channel(1).0;
        start(dir.path(), Some(agent), None, suspender.clone());
        let Err(Error::Refused(why)) = ask(dir.path(), &wanted).await else { panic!() };
        assert_eq!(why, NoAnswer::Absent.to_string());
        let other = tempfile::tempdir().unwrap();
        start(other.path(), None, None, suspender);
        let Err(Error::Refused(why)) = ask(other.path(), &wanted).await else { panic!() };
        assert!(why.contains("no channel"), "{why}");
    }
}
