//! How a machine ends, and the exit code that says so.

use std::fmt;
use std::time::Duration;

use super::READY_WITHIN;

/// A row of panics is over when there was none for this long.
pub const CALM: Duration = Duration::from_secs(10 * 60);
/// What a launcher ends with whose guest's kernel panicked.
pub const PANICKED: i32 = 22;
/// And one that was to take a saved guest up, and could not.
pub const NOT_RESUMED: i32 = 23;

/// How it all ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered itself off.
    Poweroff,
    /// The guest rebooted, and that is to end the machine.
    Reboot,
    /// The guest's kernel panicked, so many times in a row.
    Panicked { times: u32 },
    /// We were asked to stop, and it did.
    Stopped(By),
    /// Its memory is saved, and the next start takes it up.
    Suspended,
    /// There is a saved guest, it cannot be taken up, and nothing else is wanted.
    NotResumed,
    /// QEMU failed. `running`: the guest had run. `suspect`: the accelerator may be to blame.
    Failed { fault: Fault, attempt: usize, running: bool, suspect: bool },
}

impl Outcome {
    /// The exit code of a supervisor: QEMU's own where it ended by itself, 128 and the signal where it was
    /// killed, 0 where all went as it should. A failure is never 0, and a panic of the guest has a code of its own.
    pub fn exit_code(&self) -> u8 {
        let code = match self {
            Self::Poweroff | Self::Reboot | Self::Suspended => 0,
            Self::Stopped(By::Guest | By::Quit) => 0,
            Self::NotResumed => NOT_RESUMED,
            Self::Panicked { .. } => PANICKED,
            Self::Stopped(By::Kill) => 128 + 9,
            Self::Failed { fault: Fault::Exited(Exit::Code(code)), .. } => (*code).max(1),
            Self::Failed { fault: Fault::Exited(Exit::Signal(signal)), .. } => 128 + signal,
            Self::Failed { fault: Fault::InternalError | Fault::NeverReady, .. } => 1,
        };
        u8::try_from(code).unwrap_or(1)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poweroff => f.write_str("the guest powered off"),
            Self::Reboot => f.write_str("the guest rebooted, which is to end it"),
            Self::Panicked { times: 0 | 1 } => f.write_str("the guest's kernel panicked"),
            Self::Panicked { times } => write!(
                f,
                "the guest's kernel panicked {times} times, each less than {} min after the one before",
                CALM.as_secs() / 60
            ),
            Self::Suspended => {
                f.write_str("the guest is suspended: its memory is saved beside its disk")
            }
            Self::NotResumed => {
                f.write_str("the saved guest is not resumed, which BERTH_RESUME=require wants")
            }
            Self::Stopped(By::Guest) => f.write_str("stopped as asked"),
            Self::Stopped(By::Quit) => {
                f.write_str("stopped as asked, but the guest did not power off: QEMU was quit")
            }
            Self::Stopped(By::Kill) => {
                f.write_str("stopped as asked, but QEMU did not end: it was killed")
            }
            Self::Failed { fault, running: true, .. } => write!(f, "{fault} while the guest ran"),
            Self::Failed { fault, running: false, .. } => write!(f, "{fault} before the guest ran"),
        }
    }
}

/// What made a machine stop that was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The guest powered off in time, or was not running.
    Guest,
    /// QEMU was told to quit: disks are flushed, the guest's own state is as after a power cut.
    Quit,
    /// SIGKILL.
    Kill,
}

/// Why an attempt did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// QEMU stopped the guest in the run state `internal-error`.
    InternalError,
    /// QEMU did not take commands within [`READY_WITHIN`].
    NeverReady,
    /// QEMU ended without the guest having ended.
    Exited(Exit),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InternalError => f.write_str("QEMU stopped the guest with an internal error"),
            Self::NeverReady => {
                write!(f, "QEMU took no command within {} s", READY_WITHIN.as_secs())
            }
            Self::Exited(exit) => write!(f, "QEMU ended with {exit}"),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// A signal that no program causes by a fault of its own (signal(7)): somebody sent it, the kernel's killer of
    /// processes that take too much memory among them.
    pub(crate) fn is_from_outside(self) -> bool {
        // SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS
        matches!(self, Self::Signal(signal) if !matches!(signal, 4 | 5 | 6 | 7 | 8 | 11 | 31))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
