//! The ladder of an orderly end: the power button, again and again, then `quit`, then SIGKILL.

use std::time::{Duration, Instant};

use super::{By, Lifecycle, Outcome, Report, State};
use crate::proto::qmp::Command;

/// Between two presses of the power button: a guest that is still booting ignores the first ones.
pub(crate) const POWERDOWN_EVERY: Duration = Duration::from_secs(2);

/// We were asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) at: Instant,
    pub(super) next_powerdown: Instant,
    pub(super) quit_at: Instant,
    pub(super) kill_at: Instant,
    pub(super) interrupts: u32,
    pub(super) quit_sent: bool,
    /// A paused guest was told to go on.
    pub(super) set_going: bool,
}

impl Lifecycle {
    pub(super) fn terminate(&mut self, now: Instant) {
        if let Some(stop) = &mut self.stop {
            stop.next_powerdown = stop.next_powerdown.min(now);
            return;
        }
        let stop = self.stop_at(now);
        self.stop = Some(stop);
        match self.state {
            State::Idle | State::Pausing(_) => self.end(Outcome::Stopped(By::Guest)),
            _ => {
                self.report(Report::Stopping {
                    quit_in: stop.quit_at.saturating_duration_since(now),
                });
                if self.stops_loading(now) || self.saves_to_stop() {
                    return;
                }
                self.set_going(now);
                self.powerdown(now);
            }
        }
    }

    /// Asked for at this moment.
    pub(super) fn stop_at(&self, now: Instant) -> Stop {
        Stop {
            at: now,
            next_powerdown: now,
            quit_at: now + self.settings.grace.saturating_sub(self.settings.margin),
            kill_at: now + self.settings.grace,
            interrupts: 0,
            quit_sent: false,
            set_going: false,
        }
    }

    pub(super) fn interrupt(&mut self, now: Instant) {
        if self.stop.is_none_or(|stop| stop.interrupts == 0) {
            self.terminate(now);
        }
        let Some(stop) = &mut self.stop else { return };
        stop.interrupts += 1;
        if stop.interrupts >= 2 {
            stop.quit_at = now;
        }
        if stop.interrupts >= 3 {
            self.kill(now);
        }
    }

    /// Presses the power button when that is due and QEMU can be told.
    pub(super) fn powerdown(&mut self, now: Instant) {
        let stands = self.is_suspending();
        let Some(stop) = &mut self.stop else { return };
        if self.state == State::Running && !stands && !stop.quit_sent && now >= stop.next_powerdown
        {
            stop.next_powerdown = now + POWERDOWN_EVERY;
            self.send(Command::SystemPowerdown);
        }
    }

    pub(super) fn end_of_grace(&mut self, now: Instant) {
        let Some(stop) = &mut self.stop else { return };
        let ready = self.state == State::Running;
        if now >= stop.quit_at && !stop.quit_sent && ready {
            stop.quit_sent = true;
            let after = now.saturating_duration_since(stop.at);
            let paused = self.halt().cloned();
            self.report(Report::Quitting { after, paused });
            self.send(Command::Quit);
        } else if now >= stop.kill_at || (now >= stop.quit_at && !ready) {
            self.kill(now);
        }
    }
}
