//! What the core reports, in words: a line of the log, and how the machine stands.

use std::path::Path;
use std::time::{Duration, Instant};

use super::qemu::Qemu;
use super::{Machine, Phase, millis, now};
use crate::proto::lifecycle::{CONTINUE_EVERY, Fault, Halt, MAX_RESETS, Report};
use crate::proto::qmp::{Command, Version};

/// VNC's own authentication looks at no more of a password (RFC 6143 §7.2.2).
const VNC_PASSWORD: usize = 8;

/// Lines that QEMU and its guest may cause at once, and how long it takes until there is one more: either can cause
/// them without end.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(10);

/// What may still be said of what QEMU tells.
#[derive(Debug)]
pub(super) struct RateLimit {
    left: u32,
    since: Instant,
    /// Not said since the last one that was.
    suppressed: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// And that so many before it were not.
    This {
        suppressed: u64,
    },
    /// Nothing but that there are more of them than are said.
    FirstSuppressed,
    Nothing,
}

impl RateLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, suppressed: 0 }
    }

    fn ask(&mut self, now: Instant) -> Verdict {
        let more = now.saturating_duration_since(self.since).as_millis() / REFILL.as_millis();
        let more = u32::try_from(more).unwrap_or(BURST).min(BURST);
        if more > 0 {
            self.since = if self.left + more >= BURST { now } else { self.since + REFILL * more };
            self.left = (self.left + more).min(BURST);
        }
        if self.left == 0 {
            self.suppressed = self.suppressed.saturating_add(1);
            return if self.suppressed == 1 { Verdict::FirstSuppressed } else { Verdict::Nothing };
        }
        self.left -= 1;
        Verdict::This { suppressed: std::mem::take(&mut self.suppressed) }
    }
}

/// Whether it is QEMU or its guest that decides how often it is reported.
fn is_rate_limited(report: &Report) -> bool {
    match report {
        Report::Paused(_)
        | Report::Resumed { .. }
        | Report::DiskError { .. }
        | Report::Pressed
        | Report::Reset
        | Report::Panicked
        | Report::Refused { .. } => true,
        Report::Ready
        | Report::Running { .. }
        | Report::Proven
        | Report::FallBack { .. }
        | Report::Stopping { .. }
        | Report::Quitting { .. }
        | Report::Killing
        | Report::Saved
        | Report::NotResumed
        | Report::Relinking
        | Report::Resetting { .. }
        | Report::Restarting { .. } => false,
    }
}

impl Machine<'_> {
    pub(super) fn report(&mut self, report: Report) {
        self.stand(&report);
        if is_rate_limited(&report) && !self.may_say() {
            return;
        }
        match report {
            Report::Ready => self.takes_commands(),
            Report::Relinking => tracing::warn!(
                "the guest's address is another now: its link goes down for a moment, so that it asks for it"
            ),
            Report::Running { version, after } => running(version, after),
            Report::Proven => self.qemu.iter_mut().for_each(Qemu::trust),
            Report::FallBack { from, why } => self.falls_back(from, why),
            Report::Paused(halt) => tracing::error!("the guest is paused: {halt}{}", remedy(&halt)),
            Report::Resumed { why, after } => {
                tracing::info!(
                    after_s = after.as_secs(),
                    "the guest runs again; it was paused: {why}"
                );
            }
            Report::DiskError { error, more } => {
                tracing::error!(more, "disk error, passed to the guest: {error}");
            }
            Report::Stopping { quit_in } => {
                tracing::info!(quit_in_s = quit_in.as_secs_f64(), "asked to stop");
            }
            Report::Pressed => tracing::info!("power button pressed"),
            Report::Quitting { after, paused: None } => tracing::warn!(
                after_s = after.as_secs_f64(),
                "the guest did not power off in time: quitting QEMU"
            ),
            Report::Quitting { after, paused: Some(halt) } => tracing::warn!(
                after_s = after.as_secs_f64(),
                "the guest is paused ({halt}) and cannot power off: quitting QEMU"
            ),
            Report::Killing => tracing::warn!("killing QEMU"),
            // Told by whoever wrote it.
            Report::Saved => {}
            Report::NotResumed => self.not_resumed(),
            Report::Reset => tracing::info!("the guest rebooted"),
            Report::Panicked => tracing::error!("the guest's kernel panicked"),
            Report::Resetting { after, time } => tracing::warn!(
                after_s = after.as_secs(),
                "the guest is reset for its panic, {time} of {MAX_RESETS} times in a row"
            ),
            Report::Restarting { after } => {
                tracing::info!(
                    after_s = after.as_secs_f64(),
                    "the guest powered off: started again"
                );
            }
            Report::Refused { command, why } => {
                tracing::warn!(command, why, "QEMU refused a command");
            }
        }
    }

    fn may_say(&mut self) -> bool {
        match self.rate_limit.ask(now()) {
            Verdict::This { suppressed: 0 } => true,
            Verdict::This { suppressed } => {
                tracing::warn!(suppressed, "log lines of QEMU events were suppressed");
                true
            }
            Verdict::FirstSuppressed => {
                tracing::warn!(
                    every_s = REFILL.as_secs(),
                    "too many QEMU events: rate-limiting their log lines"
                );
                false
            }
            Verdict::Nothing => false,
        }
    }

    /// Once it is to stop, that is how the machine stands.
    fn stand(&self, report: &Report) {
        self.note(report);
        let (phase, reason) = match report {
            Report::Running { .. } | Report::Resumed { .. } => (Phase::Running, None),
            Report::Paused(halt) => (Phase::Paused, Some(halt.to_string())),
            Report::FallBack { .. } | Report::Restarting { .. } => (Phase::Starting, None),
            Report::Stopping { .. } => (Phase::Stopping, None),
            _ => return,
        };
        self.status.send_modify(|status| {
            status.is_io_error = matches!(report, Report::Paused(Halt::Disk(_)));
            if status.phase != Phase::Stopping {
                (status.phase, status.reason) = (phase, reason);
            }
        });
    }

    /// What is counted, and seen once.
    fn note(&self, report: &Report) {
        self.status.send_if_modified(|status| {
            match report {
                Report::Running { version, .. } => {
                    status.version = Some(*version);
                    status.first_ran.get_or_insert_with(now);
                }
                Report::Reset => {
                    status.counts.guest_resets += 1;
                    status.is_panicked = false;
                }
                Report::Resumed { .. } => status.is_panicked = false,
                Report::Panicked => {
                    status.counts.panics += 1;
                    status.is_panicked = true;
                }
                _ => return false,
            }
            true
        });
    }

    fn falls_back(&mut self, from: usize, why: Fault) {
        let name = |at: usize| {
            self.ready.plan.attempts.get(at).map_or("", |attempt| attempt.accelerator.as_str())
        };
        let (from, next) = (name(from), name(from + 1));
        let said = self.qemu.as_mut().map(Qemu::fold).unwrap_or_default();
        tracing::warn!(
            qemu = said,
            "{from} does not run the guest here: {why}; trying {next}, which is slower"
        );
    }

    /// It has all devices that it is to have.
    fn takes_commands(&mut self) {
        if !self.is_doubtful {
            self.qemu.iter_mut().for_each(Qemu::trust);
        }
        self.set_vnc_password();
    }

    fn set_vnc_password(&mut self) {
        let password_file = self.ready.plan.vnc.as_ref().and_then(|vnc| vnc.password_file.as_ref());
        let (Some(file), Some(qemu)) = (password_file, &mut self.qemu) else {
            return;
        };
        match std::fs::read_to_string(file) {
            Ok(text) => {
                for doubt in doubts(&text) {
                    tracing::warn!(file = %file.display(), "{doubt}");
                }
                let password = text.lines().next().unwrap_or_default().to_owned();
                qemu.send(&Command::SetVncPassword(password));
            }
            Err(error) => no_password(file, &error),
        }
    }
}

fn no_password(file: &Path, error: &std::io::Error) {
    tracing::error!(%error, file = %file.display(), "no VNC password: VNC refuses all clients");
}

/// What is odd about the text of a password file.
fn doubts(text: &str) -> Vec<&'static str> {
    let mut lines = text.lines();
    let password = lines.next().unwrap_or_default();
    [
        (password.is_empty(), "the VNC password is empty: VNC refuses all clients"),
        (
            password.len() > VNC_PASSWORD,
            "the VNC password is longer than 8 characters: only the first 8 count",
        ),
        (
            lines.any(|line| !line.is_empty()),
            "the VNC password file has several lines: the first is the password",
        ),
    ]
    .into_iter()
    .filter_map(|(holds, doubt)| holds.then_some(doubt))
    .collect()
}

fn running(version: Version, after: Duration) {
    tracing::info!(%version, after_ms = millis(after), "QEMU runs the guest");
    if version < Version::OLDEST {
        tracing::warn!(%version, oldest = %Version::OLDEST, "this QEMU is older than any berth was tried with");
    }
}

fn remedy(halt: &Halt) -> String {
    match halt {
        Halt::Disk(_) => format!("; tried again every {} s", CONTINUE_EVERY.as_secs()),
        Halt::Suspended | Halt::Panicked | Halt::State(_) | Halt::Silent => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_tells_without_end_is_said_from_time_to_time() {
        let start = now();
        let mut rate_limit = RateLimit::new(start);
        for _ in 0..BURST {
            assert_eq!(rate_limit.ask(start), Verdict::This { suppressed: 0 });
        }
        assert_eq!(rate_limit.ask(start), Verdict::FirstSuppressed);
        // A second of a flood, then another: one line for each that is allowed, however many there are.
        let said = |rate_limit: &mut RateLimit, from: Duration| {
            (0..100_000u32)
                .filter(|n| {
                    rate_limit.ask(start + from + Duration::from_micros((*n).into()))
                        != Verdict::Nothing
                })
                .count()
        };
        assert_eq!(said(&mut rate_limit, Duration::from_secs(1)), 0);
        assert_eq!(said(&mut rate_limit, REFILL), 2);
        assert_eq!(rate_limit.ask(start + 2 * REFILL), Verdict::This { suppressed: 99_999 });
        // After a quiet while all of them may be said again.
        let quiet = start + REFILL * (BURST + 5);
        assert_eq!(
            (0..100).filter(|_| rate_limit.ask(quiet) != Verdict::Nothing).count(),
            BURST as usize + 1
        );
    }

    #[test]
    fn a_vnc_password_that_is_not_what_it_looks_like_is_told() {
        let kinds = |text: &str| {
            doubts(text).iter().map(|doubt| doubt.split(' ').nth(4).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(kinds("sesame78\n"), [""; 0]);
        assert_eq!(kinds("sesame78\r\n\n"), [""; 0]);
        assert_eq!(kinds("longpassword123"), ["longer"]);
        assert_eq!(kinds(""), ["empty:"]);
        assert_eq!(kinds("\nsesame\n"), ["empty:", "has"]);
        assert_eq!(kinds("sesame\nother\n"), ["has"]);
    }
}
