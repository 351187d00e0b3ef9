//! One who asks, and what all who ask share.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use super::Parts;
use super::guard::{By, Token};
use super::screen::Screen;
use super::sessions::Sessions;

/// What all connections share.
pub(super) struct Shared {
    pub parts: Parts,
    pub token: Option<Token>,
    pub is_tls: bool,
    pub read_only: bool,
    pub cookie: String,
    pub sessions: Mutex<Sessions>,
    pub screen: Screen,
}

impl Shared {
    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who asks.
#[derive(Clone)]
pub(super) struct Connection {
    pub shared: Arc<Shared>,
    pub peer: SocketAddr,
    pub is_loopback: bool,
    pub probes_alone: bool,
    /// Its place among those that are served at once.
    pub room: Arc<OwnedSemaphorePermit>,
}

/// For the log: from where, and as whom.
pub(super) struct Who {
    pub peer: SocketAddr,
    pub by: By,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            By::Anybody => write!(f, "{}", self.peer),
            By::Bearer => write!(f, "{} by token", self.peer),
            By::Session(number) => write!(f, "{} in session {number}", self.peer),
        }
    }
}
