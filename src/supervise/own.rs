//! The addresses that the guest shares with its pod.

use std::net::IpAddr;

use tokio::sync::watch;

/// Which of the pod's addresses are the guest's own.
pub(super) struct Own {
    heard: watch::Receiver<Vec<IpAddr>>,
    /// What the guest may have been given.
    given: Vec<IpAddr>,
}

impl Own {
    pub(super) fn new(mut heard: watch::Receiver<Vec<IpAddr>>) -> Self {
        let given = heard.borrow_and_update().clone();
        Self { heard, given }
    }

    /// Until the guest may have one that is its own no more, while there is another for it. Of one that is new, or that there
    /// is none, it hears by itself.
    pub(super) async fn are_others(&mut self) {
        while self.heard.changed().await.is_ok() {
            let now = self.heard.borrow_and_update().clone();
            if now.is_empty() {
                continue;
            }
            let is_lost = self.given.iter().any(|address| !now.contains(address));
            self.given = now;
            if is_lost {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}
