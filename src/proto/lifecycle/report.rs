//! What is worth a line in the log.

use std::time::Duration;

use super::halt::{DiskError, Halt};
use super::outcome::Fault;
use crate::proto::qmp::Version;

/// Worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// QEMU takes commands.
    Ready,
    /// The guest's processors run for the first time.
    Running {
        version: Version,
        after: Duration,
    },
    /// The accelerator has run the guest for long enough; it is not given up any more.
    Proven,
    /// The accelerator does not run this guest; the next one is tried.
    FallBack {
        from: usize,
        why: Fault,
    },
    /// The guest does not run any more, though QEMU does. Once, however often it is tried again.
    Paused(Halt),
    /// The guest runs again.
    Resumed {
        why: Halt,
        after: Duration,
    },
    /// A request of the guest to a disk failed, and the guest was told. `more`: others like it since the last report.
    DiskError {
        error: DiskError,
        more: u64,
    },
    /// The guest's link goes down for a moment.
    Relinking,
    /// The guest's memory is saved.
    Saved,
    /// A saved guest cannot be taken up.
    NotResumed,
    /// We were asked to stop.
    Stopping {
        quit_in: Duration,
    },
    /// QEMU says that it pressed the power button.
    Pressed,
    /// The guest did not power off in time, or cannot, since it is paused.
    Quitting {
        after: Duration,
        paused: Option<Halt>,
    },
    Killing,
    Reset,
    Panicked,
    /// A guest that panicked is reset then: for this time in a row.
    Resetting {
        after: Duration,
        time: u32,
    },
    /// The guest powered itself off and is run again.
    Restarting {
        after: Duration,
    },
    Refused {
        command: &'static str,
        why: String,
    },
}
