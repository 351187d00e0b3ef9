//! A guest that does not run though QEMU does: why, how that is noticed, and what sets it going again.
//!
//! ```text
//!             STOP, SUSPEND, no answer                RESUME, WAKEUP, an answer
//!   running ───────────────────────────► paused ───────────────────────────────► running
//!                                         │  ▲
//!                          cont, RESUME   ▼  │ STOP: the disk is as it was
//!                                        proving ── LASTS over ──► running
//! ```
//!
//! QEMU pauses a guest whose disk fails (`werror=stop`, `rerror=stop`) and forgets no request: each is made again
//! on `cont`. So that is tried again and again, and the guest counts as running only when it goes on.

use std::time::{Duration, Instant};

use super::halt::{ANSWER_WITHIN, DiskError, Halt};
use super::{Lifecycle, Report, State};
use crate::proto::qmp::{Command, Event, RunState};

/// A guest paused by an error of a disk is tried again this often.
pub const CONTINUE_EVERY: Duration = Duration::from_secs(5);
/// A guest that was set going again counts as running when it was not paused within this time.
pub const LASTS: Duration = Duration::from_secs(1);
/// QEMU is asked this often how the guest is.
pub const ASK_EVERY: Duration = Duration::from_secs(10);
/// Between two reports of errors that the guest itself was told of: it can cause them without end.
pub const ERRORS_EVERY: Duration = Duration::from_secs(60);

/// What is known about the guest of this run of QEMU.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Why it does not run, and since when.
    halt: Option<(Halt, Instant)>,
    /// Last error that pauses.
    disk_error: Option<DiskError>,
    continue_at: Option<Instant>,
    /// It was set going again, and counts as running then.
    proving_until: Option<Instant>,
    ask_at: Option<Instant>,
    /// Since when an answer is due.
    asked: Option<Instant>,
    /// Errors told to the guest: when the last report was, and how many were not reported.
    errors: (Option<Instant>, u64),
}

impl Lifecycle {
    pub(super) fn halt(&self) -> Option<&Halt> {
        self.pulse.halt.as_ref().map(|(halt, _)| halt)
    }

    /// Asks QEMU how the guest is.
    pub(super) fn ask(&mut self, now: Instant) {
        self.pulse.asked.get_or_insert(now);
        self.pulse.ask_at = Some(now + ASK_EVERY);
        self.send(Command::QueryStatus);
    }

    pub(super) fn status(&mut self, now: Instant, state: RunState) {
        self.pulse.asked = None;
        if self.is_suspending() {
            return;
        }
        match state {
            RunState::Running => self.goes(now),
            RunState::IoError => self.halts(now, Halt::Disk(self.pulse.disk_error.clone())),
            RunState::Suspended => self.halts(now, Halt::Suspended),
            RunState::Other("guest-panicked") => self.halts(now, Halt::Panicked),
            RunState::Other(name) => self.halts(now, Halt::State(name)),
            RunState::InternalError => {}
        }
    }

    /// Events that say that the guest stands still, or not any more.
    pub(super) fn pulse(&mut self, now: Instant, event: Event) {
        if self.is_suspending() {
            return;
        }
        match event {
            Event::Stop => self.ask(now),
            Event::Suspend => self.halts(now, Halt::Suspended),
            Event::Resume | Event::Wakeup => self.goes(now),
            Event::BlockIoError { stops, device, operation, reason, no_space } => {
                let error = DiskError { device, operation, reason, no_space };
                if stops {
                    self.pulse.disk_error = Some(error);
                } else {
                    self.told_to_guest(now, error);
                }
            }
            _ => {}
        }
    }

    fn told_to_guest(&mut self, now: Instant, error: DiskError) {
        let (last, more) = &mut self.pulse.errors;
        if last.is_some_and(|last| now < last + ERRORS_EVERY) {
            *more = more.saturating_add(1);
            return;
        }
        *last = Some(now);
        let more = std::mem::take(more);
        self.report(Report::DiskError { error, more });
    }

    fn goes(&mut self, now: Instant) {
        self.first_run(now);
        self.pulse.continue_at = None;
        match self.pulse.halt {
            Some((Halt::Disk(_), _)) if self.stop.is_none() => {
                self.pulse.proving_until.get_or_insert(now + LASTS);
            }
            _ => self.resumed(now),
        }
    }

    fn resumed(&mut self, now: Instant) {
        self.pulse.proving_until = None;
        if let Some((why, since)) = self.pulse.halt.take() {
            self.report(Report::Resumed { why, after: now.saturating_duration_since(since) });
        }
    }

    fn halts(&mut self, now: Instant, halt: Halt) {
        self.pulse.proving_until = None;
        if matches!(halt, Halt::Disk(_)) {
            self.pulse.continue_at.get_or_insert(now + CONTINUE_EVERY);
        }
        let known = self.pulse.halt.as_ref().filter(|(known, _)| known.is_same_kind(&halt));
        if known.is_none() {
            self.report(Report::Paused(halt.clone()));
            if halt == Halt::Panicked {
                self.after_panic(now);
            }
            self.pulse.halt = Some((halt, now));
        }
        if self.stop.is_some() {
            self.set_going(now);
        }
    }

    /// Asked to stop: the power button of a paused guest moves nothing, so it is set going, once, or QEMU is quit.
    pub(super) fn set_going(&mut self, now: Instant) {
        let (Some(halt), Some(stop)) =
            (self.pulse.halt.as_ref().map(|(halt, _)| halt.clone()), &mut self.stop)
        else {
            return;
        };
        match halt {
            Halt::Silent => {}
            Halt::Suspended => self.send(Command::SystemWakeup),
            halt if halt.is_resumable() && !stop.set_going => {
                stop.set_going = true;
                self.send(Command::Cont);
            }
            _ => stop.quit_at = stop.quit_at.min(now),
        }
    }

    /// When [`Self::tend`] has something to do.
    pub(super) fn tend_at(&self) -> Option<Instant> {
        let Pulse { continue_at, proving_until, ask_at, .. } = &self.pulse;
        let after_panic = self.after_panic_at();
        let all = [*continue_at, *proving_until, *ask_at, self.silent_at(), after_panic];
        all.into_iter().flatten().min()
    }

    fn silent_at(&self) -> Option<Instant> {
        let known = matches!(self.halt(), Some(Halt::Silent));
        self.pulse.asked.filter(|_| !known).map(|asked| asked + ANSWER_WITHIN)
    }

    /// Does what is due for a guest that is to run.
    pub(super) fn tend(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(self.pulse.proving_until) {
            self.resumed(now);
        }
        if due(self.silent_at()) {
            self.halts(now, Halt::Silent);
        }
        self.tend_panicked(now);
        if due(self.pulse.continue_at) {
            self.pulse.continue_at = None;
            self.send(Command::Cont);
        }
        if due(self.pulse.ask_at) && self.state == State::Running {
            self.ask(now);
        }
    }
}
