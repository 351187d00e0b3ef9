//! A guest that is saved instead of ended, and one that goes on where it was saved.
//!
//! ```text
//!   running ── Terminate, Suspend ──► Saving ── Saved ──► quit, Ended: suspended
//!      ▲                               │ until: GiveUp
//!      └──── cont, then the ladder ────┘ NotSaved
//!
//!   Starting, incoming ── Ready: Load ──► Loading ── Loaded ──► cont, running
//!                                          │ NotLoaded, exit
//!                                          └──► kill, then a cold boot, or Ended: not resumed
//! ```
//!
//! What is written, and when, is `supervise`'s: it says [`Input::Saved`] when the image is whole, [`Input::Loaded`] when it can
//! not be used again. Nothing here lets the guest run before.

use std::time::{Duration, Instant};

use super::{GIVE_UP, Lifecycle, Outcome, Output, Report, State};
use crate::proto::qmp::Command;

/// What is left of the grace period for the power button when a save does not end: half of it, and no more than this.
pub const RESERVE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Suspend {
    #[default]
    No,
    /// This run of QEMU is for a saved guest, which does not run yet.
    Loading,
    /// It cannot be; QEMU's end is awaited.
    NotLoaded,
    Saving {
        until: Instant,
    },
    /// The save is to end.
    GivenUp,
    /// It failed, and what is left could be taken for an image: QEMU's end is awaited.
    NotSaved,
    /// The image is whole; QEMU's end is awaited.
    Saved,
}

impl Lifecycle {
    /// Whether the guest stands still because we want it to.
    pub(super) fn is_suspending(&self) -> bool {
        self.suspend != Suspend::No
    }

    /// Whether the guest runs, so that it can be saved.
    pub fn can_suspend(&self) -> bool {
        // An image is taken up by the first accelerator.
        let is_first = self.attempt == 0;
        let runs = is_first && self.state == State::Running && self.ran && self.halt().is_none();
        runs && !self.is_suspending() && !self.panicked
    }

    /// Asked for by somebody else than a signal: when it cannot be, the guest runs on.
    pub(super) fn suspend(&mut self, now: Instant) {
        if self.can_suspend() && self.stop.is_none() {
            self.save(now + self.settings.grace.saturating_sub(self.settings.margin));
        }
    }

    fn save(&mut self, until: Instant) {
        // It would be down when the guest goes on.
        if self.relink_at.take().is_some() {
            self.send(Command::SetLink { up: true });
        }
        self.suspend = Suspend::Saving { until };
        self.outputs.push_back(Output::Save);
    }

    /// Asked to stop: saves the guest, where that is wanted and can be.
    pub(super) fn saves_to_stop(&mut self) -> bool {
        let Some(stop) = self.stop else { return false };
        let left = stop.quit_at.saturating_duration_since(stop.at);
        let until = stop.quit_at - (left / 2).min(RESERVE);
        match self.suspend {
            Suspend::Saving { until: given } => {
                self.suspend = Suspend::Saving { until: given.min(until) };
                return true;
            }
            Suspend::GivenUp | Suspend::NotSaved | Suspend::Saved => return true,
            Suspend::No | Suspend::Loading | Suspend::NotLoaded => {}
        }
        let saves = self.settings.suspend_on_stop && self.can_suspend();
        if saves {
            self.save(until);
        }
        saves
    }

    /// Asked to stop before it goes on: it stays as it is saved, unless it is too late for that.
    pub(super) fn stops_loading(&mut self, now: Instant) -> bool {
        match (self.suspend, self.state) {
            (Suspend::Loading, State::Running) => self.outputs.push_back(Output::GiveUp),
            (Suspend::Loading | Suspend::NotLoaded, _) => self.kill(now),
            _ => return false,
        }
        true
    }

    pub(super) fn saved(&mut self, now: Instant) {
        if !matches!(self.suspend, Suspend::Saving { .. } | Suspend::GivenUp) {
            return;
        }
        self.suspend = Suspend::Saved;
        self.report(Report::Saved);
        self.ends_soon(now);
    }

    /// QEMU is quit, and killed when it does not end.
    fn ends_soon(&mut self, now: Instant) {
        let mut stop = self.stop.unwrap_or_else(|| self.stop_at(now));
        let is_told = std::mem::replace(&mut stop.quit_sent, true);
        stop.kill_at = stop.kill_at.min(now + GIVE_UP);
        self.stop = Some(stop);
        if !is_told {
            self.send(Command::Quit);
        }
    }

    /// `may_run`: no image is left that the guest could be taken up from later.
    pub(super) fn not_saved(&mut self, now: Instant, may_run: bool) {
        if !matches!(self.suspend, Suspend::Saving { .. } | Suspend::GivenUp) {
            return;
        }
        if !may_run {
            self.suspend = Suspend::NotSaved;
            return self.ends_soon(now);
        }
        self.suspend = Suspend::No;
        self.send(Command::Cont);
        self.ask(now);
        if let Some(stop) = &mut self.stop {
            stop.next_powerdown = now;
            self.powerdown(now);
        }
    }

    pub(super) fn loaded(&mut self, now: Instant, anew: bool) {
        if self.suspend != Suspend::Loading {
            return;
        }
        self.suspend = Suspend::No;
        self.incoming = false;
        self.send(Command::Cont);
        self.ask(now);
        if anew {
            self.relink(now);
        }
        if let Some(stop) = &mut self.stop {
            stop.next_powerdown = now;
            self.powerdown(now);
        }
    }

    pub(super) fn not_loaded(&mut self, now: Instant) {
        if self.suspend == Suspend::Loading {
            self.suspend = Suspend::NotLoaded;
            self.kill(now);
        }
    }

    /// QEMU ended. True: as it had to, or for want of a guest that it could load.
    pub(super) fn ended_suspended(&mut self, now: Instant) -> bool {
        match self.suspend {
            Suspend::No | Suspend::Saving { .. } | Suspend::GivenUp | Suspend::NotSaved => {
                return false;
            }
            Suspend::Saved => self.end(Outcome::Suspended),
            Suspend::Loading | Suspend::NotLoaded if self.stop.is_some() => {
                self.end(Outcome::Suspended);
            }
            Suspend::Loading | Suspend::NotLoaded => {
                self.report(Report::NotResumed);
                if self.settings.resume_required {
                    self.end(Outcome::NotResumed);
                } else {
                    self.incoming = false;
                    self.spawn(now);
                }
            }
        }
        true
    }

    /// When [`Self::tend_save`] has something to do.
    pub(super) fn save_at(&self) -> Option<Instant> {
        match self.suspend {
            Suspend::Saving { until } => Some(until),
            _ => None,
        }
    }

    pub(super) fn tend_save(&mut self, now: Instant) {
        if self.save_at().is_some_and(|until| now >= until) {
            self.suspend = Suspend::GivenUp;
            self.outputs.push_back(Output::GiveUp);
        }
    }
}
