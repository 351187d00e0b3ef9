//! How the last launcher with a state directory ended, if it failed: kept there, for who asks later.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::faults::{self, Finding, Severity};
use crate::sys::beneath::Beneath;
use crate::sys::image::write_atomically;

/// In the state directory.
const FILE: &str = "last-fault.json";
/// Octets of the file that are read: ours has some hundred.
const LARGEST: u64 = 16 * 1024;
const MAX_TEXT: usize = 4096;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Of the container.
    pub code: u8,
    pub text: String,
    /// Its name, where it has one.
    pub fault: Option<String>,
    /// When: ms since the Unix epoch.
    pub at_ms: u64,
}

/// Keeps it, if there is such a directory. One that cannot be written costs the file.
pub fn keep(state_dir: &Path, failure: &Failure, at_ms: u64) {
    let end = (0..=failure.text.len().min(MAX_TEXT)).rev();
    let end = end.into_iter().find(|at| failure.text.is_char_boundary(*at)).unwrap_or(0);
    let last = Last {
        code: failure.code.number(),
        text: failure.text.get(..end).unwrap_or_default().to_owned(),
        fault: failure.fault.map(|fault| fault.id.to_owned()),
        at_ms,
    };
    let Ok(text) = serde_json::to_vec(&last) else { return };
    if state_dir.is_dir()
        && let Err(error) = write_atomically(&state_dir.join(FILE), &text, 0o600, &of(state_dir))
    {
        tracing::debug!(%error, "how it ended is not kept");
    }
}

/// What is in a state directory may be somebody's doing.
fn of(state_dir: &Path) -> Beneath {
    Beneath::new([state_dir.to_owned()])
}

/// It ended as it should: what was before is of no interest.
pub fn forget(state_dir: &Path) {
    let _ = fs::remove_file(state_dir.join(FILE));
}

/// None: it did not fail, or was never here.
pub fn last(state_dir: &Path) -> Option<Last> {
    let file = of(state_dir).read(&state_dir.join(FILE)).ok()?;
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Last {
    /// `running`: another launcher has begun since, so that it is a note. `now_ms`: as [`Self::at_ms`].
    pub fn finding(&self, running: bool, now_ms: u64) -> Finding {
        let fault = self.fault.as_deref().and_then(faults::by_id).unwrap_or(&faults::ENDED);
        let Self { code, text, at_ms, .. } = self;
        let ago = ago(Duration::from_millis(now_ms.saturating_sub(*at_ms)));
        let mut finding = fault.found(format_args!("the last launcher ended {ago} ago: {text}"));
        finding.exit_code = Some(*code);
        finding.severity = if running { Severity::Note } else { Severity::Error };
        finding
    }
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs @ 7200..172_800 => format!("{} h", secs / 3600),
        secs => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    #[test]
    fn the_last_end_is_kept_by_its_name_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Failure::new(Code::Locked, "held by another").named(&faults::DISK_LOCKED);
        keep(&dir.path().join("absent"), &failure, 0);
        assert_eq!(last(&dir.path().join("absent")), None);
        keep(dir.path(), &failure, 61_500);
        let found = last(dir.path()).unwrap();
        let finding = found.finding(false, 7_300_000);
        assert_eq!((&*finding.id, finding.exit_code), ("disk-locked", Some(15)));
        assert!(
            finding.evidence.contains("the last launcher ended 2 h ago: held by another"),
            "{}",
            finding.evidence
        );
        assert_eq!(found.finding(true, 0).severity, Severity::Note);
        keep(dir.path(), &Failure::new(Code::Serve, "é".repeat(4000)), 1);
        assert_eq!((last(dir.path()).unwrap().finding(false, 0).id).as_ref(), "ended");
        forget(dir.path());
        assert_eq!(last(dir.path()), None);
        fs::write(dir.path().join(FILE), "{\"code\":").unwrap();
        assert_eq!(last(dir.path()), None);
        fs::remove_file(dir.path().join(FILE)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join(FILE), 0o600.into()).unwrap();
        assert_eq!(last(dir.path()), None, "a pipe that nobody writes to");
    }
}
