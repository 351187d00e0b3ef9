//! The router task: solicitations in, advertisements out, as whole frames.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Instant;

use tokio::time::sleep_until;

use crate::net::IfName;
use crate::proto::ndp::{Advertisement, Input, Reason, Router};
use crate::sys::frames::{self, Frames};

/// What is advertised, and by which tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub tap: IfName,
    pub advertisement: Advertisement,
}

pub(super) fn bind(task: &Task) -> Result<Frames, frames::Error> {
    Frames::attach(&task.tap)
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
            if let Err(error) = frames.send(&frame) {
                return error;
            }
        }
    }
}

fn random() -> u32 {
    // Each has keys of its own.
    u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0)
}
