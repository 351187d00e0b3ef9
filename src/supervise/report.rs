//! What the core reports, in words: a line of the log, and how the machine stands.

use std::path::Path;
use std::time::Duration;

use super::qemu::Qemu;
use super::{Machine, Phase, millis};
use crate::proto::lifecycle::{CONTINUE_EVERY, Fault, Halt, Report};
use crate::proto::qmp::{Command, Version};

/// VNC's own authentication looks at no more of a password (RFC 6143 §7.2.2).
const VNC_PASSWORD: usize = 8;

impl Machine<'_> {
    pub(super) fn report(&mut self, report: Report) {
        self.stand(&report);
        match report {
            Report::Ready => self.set_vnc_password(),
            Report::Running { version, after } => running(version, after),
            Report::Proven => self.qemu.iter_mut().for_each(Qemu::trust),
            Report::FallBack { from, why } => self.falls_back(from, why),
            Report::Paused(halt) => tracing::error!("the guest is paused: {halt}{}", remedy(&halt)),
            Report::Resumed { why, after } => {
                tracing::info!(after_s = after.as_secs(), "the guest runs again; it was paused: {why}");
            }
            Report::DiskError { error, more } => {
                tracing::error!(more, "a disk of the guest fails, and the guest was told: {error}");
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
            Report::Reset => tracing::info!("the guest rebooted"),
            Report::Panicked => tracing::error!("the guest's kernel panicked"),
            Report::Restarting { after } => {
                tracing::info!(after_s = after.as_secs_f64(), "the guest powered off: started again");
            }
            Report::Refused { command, why } => tracing::warn!(command, why, "QEMU refused a command"),
        }
    }

    /// Once it is to stop, that is how the machine stands.
    fn stand(&self, report: &Report) {
        let (phase, reason) = match report {
            Report::Running { .. } | Report::Resumed { .. } => (Phase::Running, None),
            Report::Paused(halt) => (Phase::Paused, Some(halt.to_string())),
            Report::FallBack { .. } | Report::Restarting { .. } => (Phase::Starting, None),
            Report::Stopping { .. } => (Phase::Stopping, None),
            _ => return,
        };
        self.standing.send_modify(|standing| {
            if standing.phase != Phase::Stopping {
                (standing.phase, standing.reason) = (phase, reason);
            }
        });
    }

    fn falls_back(&mut self, from: usize, why: Fault) {
        let name = |at: usize| self.plan.attempts.get(at).map_or("", |attempt| attempt.accelerator.as_str());
        let (from, next) = (name(from), name(from + 1));
        let said = self.qemu.as_mut().map(Qemu::fold).unwrap_or_default();
        tracing::warn!(
            qemu = said,
            "{from} does not run the guest here: {why}; trying {next}, which is slower"
        );
    }

    fn set_vnc_password(&mut self) {
        let password_file = self.plan.vnc.as_ref().and_then(|vnc| vnc.password_file.as_ref());
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
    tracing::error!(%error, file = %file.display(), "no VNC password: VNC lets nobody in");
}

/// What is odd about the text of a password file.
fn doubts(text: &str) -> Vec<&'static str> {
    let mut lines = text.lines();
    let password = lines.next().unwrap_or_default();
    [
        (password.is_empty(), "the VNC password is empty: VNC lets nobody in"),
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
        Halt::Suspended | Halt::State(_) | Halt::Silent => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
