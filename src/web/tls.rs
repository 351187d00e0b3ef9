//! The page's certificate: read at the start, and again when its files are others. cert-manager and the kubelet replace them
//! while we run.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::config;

/// How long a change may go unseen.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A chain is some KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the certificate of the page in {} cannot be read", path.display())]
    Certificate { path: PathBuf, source: pem::Error },
    #[error("the key of the page's certificate in {} cannot be read", path.display())]
    Key { path: PathBuf, source: pem::Error },
    #[error("there is no certificate in {}", .0.display())]
    None(PathBuf),
    #[error("{} is too large for certificates or a key", .0.display())]
    Large(PathBuf),
    #[error("certificate {} and key {} cannot be used together", cert.display(), key.display())]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
}

/// What changes when a file is another one: device, inode, size, time.
type Seen = [Option<(u64, u64, u64, i64, i64)>; 2];

struct State {
    config: Arc<ServerConfig>,
    seen: Seen,
    looked: Instant,
}

/// Certificate and key in use.
pub(super) struct Tls {
    files: config::Tls,
    state: Mutex<State>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn load(files: &config::Tls) -> Result<Self, Error> {
        let seen = look(files);
        let config = Arc::new(load(files)?);
        let state = State { config, seen, looked: Instant::now() };
        Ok(Self { files: files.clone(), state: Mutex::new(state) })
    }

    /// With the certificate of now. One that cannot be used is told once, and the one before it stays.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let seen = look(&self.files);
            if seen != state.seen {
                state.seen = seen;
                match load(&self.files) {
                    Ok(config) => {
                        state.config = Arc::new(config);
                        tracing::info!("the page has another certificate");
                    }
                    Err(error) => tracing::warn!(
                        error = crate::exit::error_chain(&error),
                        "the page keeps the certificate it had"
                    ),
                }
            }
        }
        TlsAcceptor::from(state.config.clone())
    }
}

fn look(files: &config::Tls) -> Seen {
    [&files.cert, &files.key].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    })
}

fn load(files: &config::Tls) -> Result<ServerConfig, Error> {
    let config::Tls { cert, key } = files;
    small(cert)?;
    small(key)?;
    let wrong = |source| Error::Certificate { path: cert.clone(), source };
    let chain = CertificateDer::pem_file_iter(cert).map_err(wrong)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if chain.is_empty() {
        return Err(Error::None(cert.clone()));
    }
    let own_key = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| Error::Key { path: key.clone(), source })?;
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, own_key))
        .map_err(|source| Error::Pair { cert: cert.clone(), key: key.clone(), source })?;
    Ok(config)
}

/// It is read as a whole.
fn small(path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_FILE_BYTES || !found.is_file() => {
            Err(Error::Large(path.to_owned()))
        }
        // Whether it is there is said by whoever reads it.
        _ => Ok(()),
    }
}
