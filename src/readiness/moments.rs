//! Moments by the clock that only goes on, and by the one that people have: the halves tell each other the latter.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::status::Network;

/// A moment by both clocks.
#[expect(clippy::disallowed_methods, reason = "a verb: when berth was started")]
pub(super) fn started() -> (Instant, SystemTime) {
    (tokio::time::Instant::now().into_std(), SystemTime::now())
}

/// Milliseconds since the Unix epoch, by a moment that is known by both clocks.
pub(super) fn unix_ms((instant, wall): (Instant, SystemTime), at: Instant) -> u64 {
    let wall = wall + at.saturating_duration_since(instant);
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// When the other half gave the guest its address, by this process's clock.
pub(super) async fn other_acks(
    mut other: watch::Receiver<Option<Network>>,
    acked: watch::Sender<Option<Instant>>,
    (instant, wall): (Instant, SystemTime),
) {
    loop {
        let told = other.borrow_and_update().as_ref().and_then(|other| other.leased_ms);
        let at = told.and_then(|ms| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
            at.duration_since(wall).ok().and_then(|after| instant.checked_add(after))
        });
        if at.is_some() {
            acked.send_if_modified(|acked| std::mem::replace(acked, at) != at);
        }
        if other.changed().await.is_err() {
            return;
        }
    }
}
