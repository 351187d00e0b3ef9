//! The router task: solicitations in, advertisements out, as whole frames.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Instant;

use tokio::time::sleep_until;

use crate::net::IfName;
use crate::proto::ndp::{Advertisement, Input, Reason, Router};
use crate::sys::frames::{self, Frames};

/// What is advertised, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub port: Port,
    pub advertisement: Advertisement,
}

/// Where frames come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Port {
    /// A tap of our own.
    Tap(IfName),
    /// A link that exists.
    Link(IfName),
}

pub(super) fn bind(task: &Task) -> Result<Frames, frames::Error> {
    match &task.port {
        Port::Tap(name) => Frames::attach(name),
        Port::Link(name) => Frames::solicitations(name),
    }
}

/// Serves until the tap fails; the error is why.
#[expect(clippy::disallowed_methods, reason = "a verb: the core is told the time here")]
pub(super) async fn serve(frames: Frames, task: Task) -> io::Error {
    let mut router = Router::new(Instant::now(), task.advertisement, random);
    let mut dropped: BTreeMap<Reason, u64> = BTreeMap::new();
    loop {
        let deadline = router.deadline();
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let handled = tokio::select! {
            frame = frames.next() => match frame {
                Ok(frame) => router.handle(Instant::now(), Input::Frame(&frame)),
                Err(error) if is_passing(&error) => continue,
                Err(error) => return error,
            },
            () = due => router.handle(Instant::now(), Input::Timeout),
        };
        if let Err(reason) = handled {
            let count = dropped.entry(reason).or_default();
            *count += 1;
            tracing::trace!(reason = reason.label(), count, "frame dropped");
        }
        while let Some(frame) = router.poll() {
            match frames.send(&frame) {
                // A link that is down, or has no room for it: the next one is sent all the same.
                Err(error) if is_passing(&error) => {
                    tracing::debug!(%error, "router advertisement not sent");
                }
                Err(error) => return error,
                Ok(()) => {}
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkDown | io::ErrorKind::WouldBlock)
        || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

fn random() -> u32 {
    // Each has keys of its own.
    u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0)
}
