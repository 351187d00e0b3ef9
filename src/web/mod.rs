//! The one HTTP listener: a page with the guest's screen, serial line and state, and what probes and Prometheus ask.
//!
//! ```text
//! listen ─► (tls) ─► hyper: one head ─► guard: who may do what ─► answer ─► status, log, assets, screenshot, buttons
//!  ≤ 16 connections    ≤ 8 KiB, 10 s      pure                      └─► socket: WebSocket ⇄ bytes of screen or serial line
//! ```
//!
//! All of it runs on the launcher's one thread and holds nobody up: whatever is read has a bound, and whatever is written to one
//! who does not read is given up (TCP_USER_TIMEOUT). The screen comes from QEMU by QMP, without a listener of QEMU's ([`screen`]).

mod answer;
mod body;
mod connection;
pub mod guard;
mod listen;
mod page;
mod screen;
mod serial;
pub mod sessions;
mod socket;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config;
use crate::exit::{Code, Coded};
use crate::faults::{self, Fault};
use crate::plan::WebPlan;
use crate::status::Status;
use crate::supervise::Monitor;
use crate::sys;

use guard::Token;

/// Of a file with a token. 128 bits in base64 are 22 characters.
const MIN_TOKEN_BYTES: usize = 22;
const MAX_TOKEN_BYTES: usize = 1024;

/// Why the page cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "listening on {address} for the {what}: take another port by {variable}, or end who has it"
    )]
    Bind { address: SocketAddr, what: &'static str, variable: &'static str, source: io::Error },
    #[error("the token of the page, by BERTH_WEB_TOKEN_FILE")]
    TokenFile(#[source] sys::probe::Error),
    #[error("the token of the page: there is no file {} (BERTH_WEB_TOKEN_FILE)", .0.display())]
    NoTokenFile(PathBuf),
    #[error(
        "the token of the page in {} has {length} characters on its first line: {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} are wanted, as `openssl rand -hex 32` makes them",
        path.display()
    )]
    Token { path: PathBuf, length: usize },
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Bind { .. } => Code::Serve,
            Self::TokenFile(_) | Self::NoTokenFile(_) | Self::Tls(_) => Code::Facts,
            Self::Token { .. } => Code::Plan,
        }
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some(&faults::SERVE_TAKEN)
            }
            _ => None,
        }
    }
}

/// A file of the page, as it is sent: packed by gzip.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// `/`, `/licences` or below `/assets/`, where a name is that of its content for ever.
    pub path: &'static str,
    /// Content-Type.
    pub kind: &'static str,
    pub gzip: &'static [u8],
}

/// The page as it is built by `make web`.
pub const ASSETS: &[Asset] = &include!("../../web/dist/assets.rs");

/// Octets both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The guest's serial line, for more than one at once.
pub trait Serial: Send + Sync {
    /// One more who reads, and writes unless `read_only`. `who` is for the log. An error is in words for whoever asked.
    fn attach(&self, who: &str, read_only: bool) -> Result<Box<dyn Stream>, String>;
}

/// The numbers: asked with the value of `Accept`, they say their Content-Type and text.
pub type Metrics = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = (&'static str, String)> + Send>> + Send + Sync,
>;

/// What a button may set going that takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The guest's memory goes to its volume.
    Suspend,
    /// With the target's path.
    Backup,
    /// With the size, as in 20G.
    Resize,
}

/// Carries one out, with the word that goes with it: what came of it, in words. Dropped, it is cancelled where it can be.
pub type Orders = Arc<
    dyn Fn(Order, String) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>>
        + Send
        + Sync,
>;

/// What the page shows, and where it is from.
#[derive(Clone)]
pub struct Parts {
    /// The VM's name.
    pub vm: String,
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    pub monitor: Monitor,
    /// None: there is no such route.
    pub serial: Option<Arc<dyn Serial>>,
    /// None: there is no such route.
    pub metrics: Option<Metrics>,
    pub orders: Orders,
    pub assets: &'static [Asset],
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("vm", &self.vm).finish_non_exhaustive()
    }
}

/// Listens where the plan says, from now on. Binding is tried at once: a port that is taken is an error of the start.
pub fn start(config: &config::Web, plan: &WebPlan, parts: Parts) -> Result<(), Error> {
    if plan.page.is_empty() && plan.metrics.is_empty() {
        return Ok(());
    }
    crate::log::keep();
    let token = match &config.token_file {
        Some(path) if !plan.page.is_empty() => Some(token(path)?),
        _ => None,
    };
    let tls = match &config.tls {
        Some(files) if !plan.page.is_empty() => Some(tls::Tls::load(files)?),
        _ => None,
    };
    let page = listen::bind(&plan.page, "page", "BERTH_WEB_PORT")?;
    let metrics = listen::bind(&plan.metrics, "metrics", "BERTH_METRICS")?;
    let shared = Arc::new(connection::Shared {
        cookie: cookie(&parts.vm),
        screen: screen::Screen::new(parts.monitor.clone()),
        parts,
        token,
        is_tls: tls.is_some(),
        read_only: config.read_only,
        sessions: std::sync::Mutex::default(),
    });
    for (listeners, tls, probes_alone) in [(page, tls, false), (metrics, None, true)] {
        if let Some(first) = listeners.first() {
            let what = if probes_alone { "metrics" } else { "page" };
            let address = first.local_addr().map(|address| address.to_string()).unwrap_or_default();
            tracing::info!(what, address, tls = tls.is_some(), "HTTP listens");
        }
        listen::serve(listeners, tls, probes_alone, &shared);
    }
    Ok(())
}

/// The first line of a file, without what stands around it.
fn token(path: &Path) -> Result<Token, Error> {
    let text = sys::probe::file(path).map_err(Error::TokenFile)?;
    let text = text.ok_or_else(|| Error::NoTokenFile(path.to_owned()))?;
    let line = text.split(|octet| *octet == b'\n').next().unwrap_or_default().trim_ascii();
    if (MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&line.len()) {
        Ok(Token::new(line))
    } else {
        Err(Error::Token { path: path.to_owned(), length: line.len() })
    }
}

/// Cookies are of a host, whatever its port: two VMs that are forwarded to one localhost have cookies of their own.
fn cookie(vm: &str) -> String {
    let digest = Sha256::digest(vm.as_bytes());
    digest.iter().take(4).fold("berth-".to_owned(), |name, octet| format!("{name}{octet:02x}"))
}
