//! How it is: what `berth run`, `net` and `vm` answer on a socket in their state directory, and `berth status` asks.
//!
//! One connection, one answer, closed. Who asks says what for, in a line ([`Request`]); who says nothing is told the
//! status, as JSON. Probes of Kubernetes run `berth status` in the container.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::exit::{Code, Coded};
use crate::faults::Finding;
use crate::log::one_line;
use crate::metrics::Format;
use crate::sys::local_socket;

/// Name of the socket in the state directory.
const SOCKET: &str = "status.sock";
/// An event loop that does not answer within this time is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A status is some hundred octets, a page of metrics some 20 KiB.
const LARGEST: u64 = 1 << 20;
/// The longest request.
const MAX_REQUEST: u64 = 64;
/// How long a request is waited for: ours is there with the connection.
const REQUEST_WITHIN: Duration = Duration::from_secs(1);
/// Of a guest's addresses, on a line for people.
const SHOWN_ADDRESSES: usize = 8;
/// Answers at a time; more wait.
const MAX_ANSWERS: usize = 16;

/// How a launcher is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// `run`, `net` or `vm`.
    pub verb: String,
    /// The network serves, the guest runs, and has shown what `BERTH_READY` asks for. For `net` its own half alone.
    pub ready: bool,
    /// Why it is not ready.
    #[serde(default)]
    pub reasons: Vec<String>,
    pub guest: Option<Guest>,
    /// None for `vm` while no `berth net` is heard.
    pub network: Option<Network>,
    /// The image that is fetched now.
    #[serde(default)]
    pub fetch: Option<Fetch>,
    /// What of it is not confined, and why.
    #[serde(default)]
    pub unconfined: Vec<String>,
    /// What is wrong though it runs, as `berth doctor` says more of.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// The guest's half of the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// `starting`, `running`, `paused` or `stopping`. Ready is `running` alone.
    pub phase: String,
    /// Why it is paused.
    pub reason: Option<String>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// When its QEMU was started, where it runs: ms since the Unix epoch.
    #[serde(default)]
    pub started_ms: Option<u64>,
    /// What its agent says; None where it has no channel to one.
    #[serde(default)]
    pub agent: Option<Agent>,
    /// How its last suspend or resume went; None: there was none in this start.
    #[serde(default)]
    pub suspend: Option<String>,
}

/// What the guest's agent says: all of it is the guest's to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// `absent`, `syncing`, `answers`, `frozen` or `silent`; what is in the other fields stays while it is frozen or silent.
    pub state: String,
    /// The agent's own.
    pub version: Option<String>,
    pub os: Option<String>,
    pub host_name: Option<String>,
    /// Of all interfaces, without those of loopback; the first 64.
    pub addresses: Vec<IpAddr>,
    /// When it last answered: ms since the Unix epoch.
    pub heard_ms: Option<u64>,
}

/// How far a download is, in octets of what comes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    pub bytes: u64,
    /// None: the server did not say.
    pub size: Option<u64>,
}

/// How DHCP and DNS are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serving {
    /// Not asked for (`NO_DHCP`), and the rest of the network is made.
    Off,
    /// The network is not made yet.
    #[default]
    Starting,
    Serving,
    /// One of them is down, or keeps ending.
    Failing,
}

impl Serving {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Failing => "failing",
        }
    }

    /// All that is asked for is there.
    pub fn is_ready(self) -> bool {
        match self {
            Self::Off | Self::Serving => true,
            Self::Starting | Self::Failing => false,
        }
    }
}

/// Whether it serves, and what had to be put right so far. `berth vm` tells what `berth net` told it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub serving: Serving,
    /// Why it is failing.
    #[serde(default)]
    pub reason: Option<String>,
    /// By which way the guest has the pod's IPv4.
    #[serde(default)]
    pub ipv4: Option<String>,
    /// By which way the guest has the pod's IPv6, or why it has none.
    #[serde(default)]
    pub ipv6: Option<String>,
    /// Of the pod's addresses those that are the guest's own.
    #[serde(default)]
    pub own: Vec<IpAddr>,
    /// When the guest was last given its address by DHCP: ms since the Unix epoch.
    #[serde(default)]
    pub leased_ms: Option<u64>,
    pub rules_restored: u64,
    pub links_mended: u64,
    pub addresses_changed: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer on {}: is berth running here, with this BERTH_STATE_DIR?", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("{}: the answer cannot be read", path.display())]
    Answer { path: PathBuf, source: serde_json::Error },
    #[error("listening on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("another launcher is listening on {}: left to it", .0.display())]
    Taken(PathBuf),
}

impl Error {
    /// Whether nobody is there, not even somebody who does not answer.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
            }
            Self::Answer { .. } | Self::Listen { .. } | Self::Taken(_) => false,
        }
    }
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. }
            | Self::Answer { .. }
            | Self::Listen { .. }
            | Self::Taken(_) => Code::NotReady,
        }
    }
}

/// Listens in `dir`, as [`local_socket::listen`] does.
pub fn listen(dir: &Path) -> Result<UnixListener, Error> {
    let path = dir.join(SOCKET);
    match local_socket::listen(&path, "berth status") {
        Ok(listener) => listener.ok_or(Error::Taken(path)),
        Err(source) => Err(Error::Listen { path, source }),
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A [`Status`], as JSON.
    Status,
    /// The page of metrics.
    Metrics(Format),
}

impl Request {
    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Metrics(Format::OpenMetrics) => "metrics openmetrics",
            Self::Metrics(Format::Text) => "metrics prometheus",
        }
    }

    /// None: nobody asks for such a thing.
    fn parse(line: &[u8]) -> Option<Self> {
        let all = [Self::Status, Self::Metrics(Format::OpenMetrics), Self::Metrics(Format::Text)];
        let said = line.trim_ascii();
        if said.is_empty() {
            return Some(Self::Status);
        }
        all.into_iter().find(|request| request.as_str().as_bytes() == said)
    }
}

/// Tells everybody who connects, for as long as the task lives. Each has a task: nobody keeps others waiting.
pub async fn serve<F>(
    listener: UnixListener,
    answer: impl Fn(Request) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Option<Vec<u8>>> + Send + 'static,
{
    let mut answers = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if answers.len() < MAX_ANSWERS => accepted,
            Some(_) = answers.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, at most: that passes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let (mut reader, mut writer) = stream.into_split();
        let answer = answer.clone();
        answers.spawn(async move {
            let Some(request) = heard(&mut reader).await else { return };
            if let Some(text) = answer(request).await {
                let _ = tokio::time::timeout(TIMEOUT, writer.write_all(&text)).await;
            }
            drop(reader);
        });
    }
}

async fn heard(reader: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST));
    let read = reader.read_until(b'\n', &mut line);
    match tokio::time::timeout(REQUEST_WITHIN, read).await {
        Ok(Ok(_)) => Request::parse(&line),
        Ok(Err(_)) => None,
        // It says nothing, and listens.
        Err(_) => Some(Request::Status),
    }
}

/// Asks the launcher whose state directory this is how it is.
pub async fn ask(dir: &Path) -> Result<Status, Error> {
    let text = ask_for(dir, Request::Status).await?;
    serde_json::from_slice(&text).map_err(|source| Error::Answer { path: dir.join(SOCKET), source })
}

/// Asks the launcher whose state directory this is. Root may ask one that is not root.
pub async fn ask_for(dir: &Path, request: Request) -> Result<Vec<u8>, Error> {
    let path = dir.join(SOCKET);
    let line = format!("{}\n", request.as_str());
    let answer = local_socket::exchange(&path, line.as_bytes(), LARGEST, TIMEOUT).await;
    let is_misheard = |text: &Vec<u8>| request != Request::Status && text.starts_with(b"{");
    match answer {
        Ok(text) if is_misheard(&text) => {
            Err(Error::Unreachable { path, source: Errno::TIMEDOUT.into() })
        }
        answer => answer.map_err(|source| Error::Unreachable { path, source }),
    }
}

/// For people: whatever is in a value, a line stays one line.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, verb, ready, reasons, guest, network, fetch, .. } = self;
        let (verb, version) = (one_line(verb), one_line(version));
        write!(f, "berth {verb} {version}: {}", if *ready { "ready" } else { "not ready" })?;
        if let Some(Guest { phase, reason, accelerator, agent, suspend, .. }) = guest {
            write!(f, "\nguest    {}{}", one_line(phase), Because(reason))?;
            if let Some(accelerator) = accelerator {
                write!(f, ", {}", one_line(accelerator))?;
            }
            agent.as_ref().map_or(Ok(()), |agent| write!(f, "\nagent    {agent}"))?;
            let how = suspend.as_ref();
            how.map_or(Ok(()), |how| write!(f, "\nsuspend  {}", one_line(how)))?;
        }
        if let Some(Fetch { bytes, size }) = fetch {
            write!(f, "\nfetching {bytes}")?;
            size.map_or(Ok(()), |size| write!(f, " of {size}"))?;
            write!(f, " bytes of the image")?;
        }
        match network {
            Some(network) => {
                let Network { serving, reason, ipv4, ipv6, .. } = network;
                let Network { rules_restored, links_mended, addresses_changed, .. } = network;
                write!(
                    f,
                    "\nnetwork  {}{}; rules restored {rules_restored}, links mended {links_mended}, addresses changed {addresses_changed}",
                    serving.as_str(),
                    Because(reason)
                )?;
                for (name, way) in [("ipv4", ipv4), ("ipv6", ipv6)] {
                    if let Some(way) = way {
                        write!(f, "\n{name}     {}", one_line(way))?;
                    }
                }
            }
            None if verb == "vm" => {
                write!(f, "\nnetwork  no `berth net` serves in this network namespace")?;
            }
            None => {}
        }
        for reason in reasons {
            write!(f, "\nbecause  {}", one_line(reason))?;
        }
        for what in &self.unconfined {
            write!(f, "\nnot confined  {}", one_line(what))?;
        }
        self.findings.iter().try_for_each(|Finding { id, severity, evidence, .. }| {
            let (severity, id) = (severity.as_str(), one_line(id));
            write!(f, "\n{severity:<8} {id}: {}", one_line(evidence))
        })
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, os, host_name, addresses, .. } = self;
        f.write_str(&one_line(state))?;
        if let Some(os) = os {
            write!(f, ", {}", one_line(os))?;
        }
        if let Some(name) = host_name {
            write!(f, ", host {}", one_line(name))?;
        }
        let shown = addresses.iter().take(SHOWN_ADDRESSES);
        shown.enumerate().try_for_each(|(at, address)| {
            write!(f, "{}{address}", if at == 0 { ", " } else { " " })
        })?;
        match addresses.len().saturating_sub(SHOWN_ADDRESSES) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A reason in parentheses, if there is one.
struct Because<'a>(&'a Option<String>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |reason| write!(f, " ({})", one_line(reason)))
    }
}

#[cfg(test)]
mod tests;
