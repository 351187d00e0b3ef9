//! The guest's link goes down for a moment: clients of DHCP ask anew when it is back (RFC 8415 §18.2.12), which no server
//! could tell them to do at once.

use std::time::{Duration, Instant};

use super::{Lifecycle, Report, State};
use crate::proto::qmp::Command;

/// For so long. Less than what a client takes for the loss of its network.
pub const LINK_DOWN: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// Of a guest that runs; one that starts asks anyway.
    pub(super) fn relink(&mut self, now: Instant) {
        let runs = self.state == State::Running && !self.is_suspending();
        if runs && self.stop.is_none() && self.relink_at.is_none() {
            self.report(Report::Relinking);
            self.send(Command::SetLink { up: false });
            self.relink_at = Some(now + LINK_DOWN);
        }
    }

    /// Then, or when the link is to be back.
    pub(super) fn sooner(&self, then: Instant) -> Option<Instant> {
        Some(self.relink_at.map_or(then, |at| at.min(then)))
    }

    /// Whatever else there is to do.
    pub(super) fn link_is_back(&mut self, now: Instant) {
        if self.state == State::Running && self.relink_at.take_if(|at| now >= *at).is_some() {
            self.send(Command::SetLink { up: true });
        }
    }
}
