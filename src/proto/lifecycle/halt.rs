//! Why a guest stands still though QEMU runs.

use std::fmt;
use std::time::Duration;

/// QEMU answers within this time, or counts as hanging. It needs less than a millisecond.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the guest's processors stand still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// A disk could not be read or written. Tried again.
    Disk(Option<DiskError>),
    /// The guest suspended itself to memory (ACPI S3).
    Suspended,
    /// Its kernel panicked, and a debugger or a reset may follow.
    Panicked,
    /// Another run state than `running`, by QEMU's name.
    State(&'static str),
    /// QEMU answers no command: it hangs, or was stopped.
    Silent,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(Some(error)) => error.fmt(f),
            Self::Disk(None) => f.write_str("a disk of the guest fails"),
            Self::Suspended => f.write_str("the guest suspended itself"),
            Self::Panicked => f.write_str("panicked"),
            Self::State(name) => write!(f, "QEMU's run state is {name}"),
            Self::Silent => write!(f, "QEMU answered nothing for {} s", ANSWER_WITHIN.as_secs()),
        }
    }
}

impl Halt {
    /// Whether `cont` may set it going.
    pub(super) fn is_resumable(&self) -> bool {
        match self {
            Self::Disk(_) => true,
            Self::State(name) => {
                matches!(*name, "paused" | "prelaunch" | "debug" | "watchdog" | "postmigrate")
            }
            Self::Suspended | Self::Panicked | Self::Silent => false,
        }
    }

    pub(super) fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::State(a), Self::State(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// A request to a disk that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskError {
    /// The id of the drive: `disk0` is the root disk.
    pub device: String,
    /// `read` or `write`.
    pub operation: String,
    /// The system's words.
    pub reason: String,
    pub no_space: bool,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, operation, reason, no_space } = self;
        let device = if device.is_empty() { "a disk" } else { device };
        write!(f, "{operation} on {device}: {reason}")?;
        if *no_space { f.write_str(", give its volume more room") } else { Ok(()) }
    }
}
