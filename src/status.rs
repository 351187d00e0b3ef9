//! How it is: what `berth run`, `net` and `vm` answer on a socket in their state directory, and `berth status` asks.
//!
//! One connection, one JSON object, closed. Probes of Kubernetes run `berth status` in the container.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::exit::{Code, Coded};
use crate::log::one_line;
use crate::sys::local_socket;

/// Name of the socket in the state directory.
const SOCKET: &str = "status.sock";
/// An event loop that does not answer within this time is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);
/// An answer is some hundred octets.
const LARGEST: u64 = 64 << 10;

/// How a launcher is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// `run`, `net` or `vm`.
    pub verb: String,
    /// The network serves, and the guest runs. For `net` its own half alone.
    pub ready: bool,
    pub guest: Option<Guest>,
    /// None for `vm` while no `berth net` is heard.
    pub network: Option<Network>,
    /// What of it is not confined, and why.
    #[serde(default)]
    pub unconfined: Vec<String>,
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

/// Tells everybody who connects, for as long as the task lives.
pub async fn serve(listener: UnixListener, status: impl Fn() -> Status) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of descriptors, at most: that passes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let Ok(text) = serde_json::to_vec(&status()) else { continue };
        // The answer fits into the socket's buffer: nobody keeps others waiting.
        let _ = tokio::time::timeout(TIMEOUT, stream.write_all(&text)).await;
    }
}

/// Asks the launcher whose state directory this is. Root may ask one that is not root.
pub async fn ask(dir: &Path) -> Result<Status, Error> {
    let path = dir.join(SOCKET);
    let ask = async {
        let stream = local_socket::open(&path)?;
        let mut text = Vec::new();
        stream.take(LARGEST).read_to_end(&mut text).await?;
        Ok(text)
    };
    let asked = tokio::time::timeout(TIMEOUT, ask).await;
    let text = asked
        .unwrap_or_else(|_| Err(Errno::TIMEDOUT.into()))
        .map_err(|source| Error::Unreachable { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| Error::Answer { path, source })
}

/// For people: whatever is in a value, a line stays one line.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, verb, ready, guest, network, unconfined } = self;
        let (verb, version) = (one_line(verb), one_line(version));
        write!(f, "berth {verb} {version}: {}", if *ready { "ready" } else { "not ready" })?;
        if let Some(Guest { phase, reason, accelerator }) = guest {
            write!(f, "\nguest    {}{}", one_line(phase), Because(reason))?;
            if let Some(accelerator) = accelerator {
                write!(f, ", {}", one_line(accelerator))?;
            }
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
        unconfined.iter().try_for_each(|what| write!(f, "\nnot confined  {}", one_line(what)))
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
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use rustix::net::{SocketAddrUnix, bind};
    use rustix::process::geteuid;

    use super::*;
    use crate::sys::local_socket::{dial, socket};

    fn status() -> Status {
        Status {
            version: "1.2.3".to_owned(),
            verb: "run".to_owned(),
            ready: true,
            guest: Some(Guest {
                phase: "running".to_owned(),
                reason: None,
                accelerator: Some("tcg".to_owned()),
            }),
            network: Some(Network {
                serving: Serving::Serving,
                reason: None,
                ipv4: Some("nat".to_owned()),
                ipv6: Some("own: 2001:db8::2, by fwd".to_owned()),
                own: vec!["2001:db8::2".parse().unwrap()],
                rules_restored: 2,
                links_mended: 1,
                addresses_changed: 0,
            }),
            unconfined: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_is_told_is_what_is_heard_also_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
        for _ in 0..2 {
            // The first one's socket is still there for the second.
            let listener = listen(dir.path()).unwrap();
            let serving = tokio::spawn(serve(listener, status));
            assert_eq!(ask(dir.path()).await.unwrap(), status());
            let mode = fs::metadata(dir.path().join(SOCKET)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
            serving.abort();
            let _ = serving.await;
        }
        assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
    }

    /// A second start, by `docker exec` say, is refused for the disk's lock later.
    #[tokio::test]
    async fn a_launcher_that_runs_keeps_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let _telling = tokio::spawn(serve(listen(dir.path()).unwrap(), status));
        assert!(matches!(listen(dir.path()), Err(Error::Taken(_))));
        assert!(ask(dir.path()).await.is_ok());
    }

    /// A listener that accepts nobody, and those that wait for it.
    fn deaf(path: &Path) -> (OwnedFd, Vec<OwnedFd>) {
        let listener = socket().unwrap();
        bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let waiting = std::iter::from_fn(|| dial(path).ok()).collect();
        assert_eq!(dial(path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        (listener, waiting)
    }

    /// A link to a listener with a full backlog held the start, and its ear for SIGTERM, until that listener ended.
    #[tokio::test]
    async fn what_is_not_ours_in_the_sockets_place_is_replaced_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join(SOCKET), dir.path().join("elsewhere"));
        let _deaf = deaf(&elsewhere);
        let link = || std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let name = || fs::hard_link(&elsewhere, &path).unwrap();
        let file = || fs::write(&path, "").unwrap();
        let strange = || {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            // Nobody but root can give one away.
            if geteuid().is_root() {
                std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            }
        };
        for put in [&link as &dyn Fn(), &name, &file, &strange] {
            put();
            assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
            let serving = tokio::spawn(serve(listen(dir.path()).unwrap(), status));
            assert_eq!(ask(dir.path()).await.unwrap(), status());
            serving.abort();
            let _ = serving.await;
            fs::remove_file(&path).unwrap();
        }
        assert!(fs::metadata(&elsewhere).unwrap().file_type().is_socket());
        fs::create_dir(&path).unwrap();
        assert!(matches!(listen(dir.path()), Err(Error::Listen { .. })));
    }

    /// It is there, if too busy to answer.
    #[tokio::test]
    async fn a_launcher_with_a_full_backlog_keeps_its_socket_and_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let _deaf = deaf(&dir.path().join(SOCKET));
        assert!(matches!(listen(dir.path()), Err(Error::Taken(_))));
        assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_end_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
    }

    #[test]
    fn people_read_lines() {
        assert_eq!(
            status().to_string(),
            "berth run 1.2.3: ready\nguest    running, tcg\nnetwork  serving; rules restored 2, links mended 1, addresses changed 0\nipv4     nat\nipv6     own: 2001:db8::2, by fwd"
        );
        let guest = Guest {
            phase: "paused".to_owned(),
            reason: Some("write on disk0: No space left on device".to_owned()),
            accelerator: Some("tcg".to_owned()),
        };
        let unconfined = vec!["QEMU: BERTH_CONFINE=off".to_owned()];
        let paused =
            Status { ready: false, guest: Some(guest), network: None, unconfined, ..status() };
        assert_eq!(
            paused.to_string(),
            "berth run 1.2.3: not ready\nguest    paused (write on disk0: No space left on device), tcg\nnot confined  QEMU: BERTH_CONFINE=off"
        );
        let network = Network {
            serving: Serving::Failing,
            reason: Some("dns: port 53 is\ntaken\u{1b}[2J".to_owned()),
            ..Network::default()
        };
        let failing = Status {
            verb: "net".to_owned(),
            ready: false,
            guest: None,
            network: Some(network),
            ..status()
        };
        assert_eq!(
            failing.to_string(),
            "berth net 1.2.3: not ready\nnetwork  failing (dns: port 53 is\\ntaken\\u001b[2J); rules restored 0, links mended 0, addresses changed 0"
        );
    }
}
