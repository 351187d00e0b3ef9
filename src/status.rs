//! How it is: what `berth run`, `net` and `vm` answer on a socket in their state directory, and `berth status` asks.
//!
//! One connection, one JSON object, closed. Probes of Kubernetes run `berth status` in the container.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

/// Name of the socket in the state directory.
const SOCKET: &str = "status.sock";
/// An event loop that does not answer within this time is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
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
    pub network: Option<Network>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// `starting`, `running`, `paused` or `stopping`. Ready is `running` alone.
    pub phase: String,
    /// Why it is paused.
    pub reason: Option<String>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
}

/// Whether it serves, and what had to be put right so far. `berth vm` tells what `berth net` told it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub serving: bool,
    pub rules_restored: u64,
    pub links_mended: u64,
    pub addresses_changed: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nobody answers on {}: is berth running here, with this BERTH_STATE_DIR?", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("{}: the answer cannot be read", path.display())]
    Answer { path: PathBuf, source: serde_json::Error },
    #[error("listening on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("another launcher answers on {}: it keeps it", .0.display())]
    Taken(PathBuf),
}

/// Listens in `dir`, for its owner only; the socket of a launcher that was killed makes room, that of one that runs
/// does not.
pub fn listen(dir: &Path) -> Result<UnixListener, Error> {
    let path = dir.join(SOCKET);
    if UnixStream::connect(&path).is_ok() {
        return Err(Error::Taken(path));
    }
    let listen = || -> io::Result<UnixListener> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|source| Error::Listen { path: path.clone(), source })
}

/// Tells everybody who connects, for as long as the task lives.
pub async fn tell(listener: UnixListener, status: impl Fn() -> Status) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of descriptors, at most: that passes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let Ok(text) = serde_json::to_vec(&status()) else { continue };
        // The answer fits into the socket's buffer: nobody keeps others waiting.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(&text)).await;
    }
}

/// Asks the launcher whose state directory this is.
pub fn ask(dir: &Path) -> Result<Status, Error> {
    let path = dir.join(SOCKET);
    let ask = || -> io::Result<Vec<u8>> {
        let stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = Vec::new();
        stream.take(LARGEST).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|source| Error::Unreachable { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| Error::Answer { path, source })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, verb, ready, guest, network } = self;
        write!(f, "berth {verb} {version}: {}", if *ready { "ready" } else { "not ready" })?;
        if let Some(Guest { phase, reason, accelerator }) = guest {
            write!(f, "\nguest    {phase}")?;
            if let Some(reason) = reason {
                write!(f, " ({reason})")?;
            }
            if let Some(accelerator) = accelerator {
                write!(f, ", {accelerator}")?;
            }
        }
        if let Some(network) = network {
            let Network { serving, rules_restored, links_mended, addresses_changed } = network;
            let serving = match (*serving, verb.as_str()) {
                (true, _) => "serving",
                (false, "vm") => "no `berth net` serves in this network namespace",
                (false, _) => "not yet",
            };
            write!(
                f,
                "\nnetwork  {serving}; rules restored {rules_restored}, links mended {links_mended}, addresses changed {addresses_changed}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                serving: true,
                rules_restored: 2,
                links_mended: 1,
                addresses_changed: 0,
            }),
        }
    }

    #[tokio::test]
    async fn what_is_told_is_what_is_heard_also_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ask(dir.path()), Err(Error::Unreachable { .. })));
        for _ in 0..2 {
            // The first one's socket is still there for the second.
            let listener = listen(dir.path()).unwrap();
            let telling = tokio::spawn(tell(listener, status));
            let path = dir.path().to_owned();
            let heard = tokio::task::spawn_blocking(move || ask(&path)).await.unwrap();
            assert_eq!(heard.unwrap(), status());
            telling.abort();
            let _ = telling.await;
        }
        assert!(matches!(ask(dir.path()), Err(Error::Unreachable { .. })));
    }

    /// A second start, by `docker exec` say, is refused for the disk's lock later.
    #[tokio::test]
    async fn a_launcher_that_runs_keeps_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let _telling = tokio::spawn(tell(listen(dir.path()).unwrap(), status));
        assert!(matches!(listen(dir.path()), Err(Error::Taken(_))));
        let path = dir.path().to_owned();
        assert!(tokio::task::spawn_blocking(move || ask(&path)).await.unwrap().is_ok());
    }

    #[test]
    fn people_read_lines() {
        assert_eq!(
            status().to_string(),
            "berth run 1.2.3: ready\nguest    running, tcg\nnetwork  serving; rules restored 2, links mended 1, addresses changed 0"
        );
        let guest = Guest {
            phase: "paused".to_owned(),
            reason: Some("write on disk0: No space left on device".to_owned()),
            accelerator: Some("tcg".to_owned()),
        };
        let paused = Status { ready: false, guest: Some(guest), network: None, ..status() };
        assert_eq!(
            paused.to_string(),
            "berth run 1.2.3: not ready\nguest    paused (write on disk0: No space left on device), tcg"
        );
    }
}
