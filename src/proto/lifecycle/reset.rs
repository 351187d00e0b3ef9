//! A guest that begins again in the same QEMU: its own reboots, and ours after a panic of its kernel.
//!
//! ```text
//!            GUEST_PANICKED, STOP                after 1, 2, 4, 8, 16 s
//!   running ─────────────────────► paused ───────────────────────────────► system_reset
//!      ▲                              │ one more within CALM                   │ RESET
//!      └─────────────── cont ─────────│────────────────────────────────────────┘
//!                                     └──► quit, and killed GIVE_UP later ──► Ended: panicked
//! ```
//!
//! QEMU pauses a guest that panics where that is asked for (`-action panic=pause`); elsewhere it ends, or lets it run.

use std::time::{Duration, Instant};

use super::{CALM, GIVE_UP, Halt, Lifecycle, Outcome, Report};
use crate::proto::qmp::Command;

/// Resets within this time of each other are one reboot: the firmware makes a second one itself.
pub const REBOOT: Duration = Duration::from_secs(2);
/// A guest that panics is reset so many times in a row.
pub const MAX_RESETS: u32 = 5;
/// From the first panic of a row to its reset; doubled for each that follows.
const FIRST_RESET: Duration = Duration::from_secs(1);

/// What is known of both. A row of panics goes on over runs of QEMU.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// When the last reboot was reported.
    rebooted: Option<Instant>,
    /// How many panics there were in a row, and when the last one was.
    panics: (u32, Option<Instant>),
    next: Option<Next>,
}

/// What follows a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    ResetAt(Instant),
    /// `RESET` is awaited: QEMU refuses to go on before.
    Resetting,
    /// QEMU was quit, and is killed then.
    KillAt(Instant),
}

impl Resets {
    /// Another run of QEMU.
    pub(super) fn begin(&mut self) {
        self.next = None;
    }
}

impl Lifecycle {
    /// The guest's own reset.
    pub(super) fn reset(&mut self, now: Instant) {
        if self.resets.rebooted.is_none_or(|last| now >= last + REBOOT) {
            self.resets.rebooted = Some(now);
            self.report(Report::Reset);
        }
    }

    /// The guest's kernel panicked. `runs`: that is for the guest to deal with.
    pub(super) fn panics(&mut self, runs: bool) {
        // Two devices may say so.
        if !self.panicked {
            self.panicked = !runs;
            self.report(Report::Panicked);
        }
    }

    pub(super) fn panicked_end(&self) -> Outcome {
        Outcome::Panicked { times: self.resets.panics.0 }
    }

    /// QEMU has paused it for its panic.
    pub(super) fn after_panic(&mut self, now: Instant) {
        if !self.settings.reset_on_panic || self.stop.is_some() {
            return;
        }
        let (times, last) = &mut self.resets.panics;
        if last.is_none_or(|last| now >= last + CALM) {
            *times = 0;
        }
        (*times, *last) = (times.saturating_add(1), Some(now));
        let time = *times;
        if time > MAX_RESETS {
            self.panicked = true;
            self.resets.next = Some(Next::KillAt(now + GIVE_UP));
            return self.send(Command::Quit);
        }
        let after = FIRST_RESET * 2_u32.pow(time - 1);
        self.resets.next = Some(Next::ResetAt(now + after));
        self.report(Report::Resetting { after, time });
    }

    /// When [`Self::tend_panicked`] has something to do.
    pub(super) fn after_panic_at(&self) -> Option<Instant> {
        match self.resets.next? {
            Next::ResetAt(at) | Next::KillAt(at) => Some(at),
            Next::Resetting => None,
        }
    }

    pub(super) fn tend_panicked(&mut self, now: Instant) {
        match self.resets.next {
            Some(Next::ResetAt(at)) if now >= at => {
                self.resets.next = Some(Next::Resetting);
                self.send(Command::SystemReset);
            }
            Some(Next::KillAt(at)) if now >= at => {
                self.resets.next = None;
                self.kill(now);
            }
            _ => {}
        }
    }

    /// Somebody else than the guest reset it: we, or whoever presses the page's button. No panic keeps it from then on.
    pub(super) fn was_reset(&mut self) {
        if let Some(Next::KillAt(_)) = self.resets.next {
            return;
        }
        self.panicked = false;
        self.resets.next = None;
        if self.halt() == Some(&Halt::Panicked) && self.stop.is_none() {
            self.send(Command::Cont);
        }
    }
}
