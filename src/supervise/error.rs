//! What keeps a machine from running, and the code and the name of each.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::exit::{Code, Coded};
use crate::faults;
use crate::plan::machine::{Accelerator, VNC_PORT};
use crate::proto::lifecycle::{Fault, Outcome};

/// What keeps a machine from running. A guest's own end is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot make a socket for QEMU")]
    Socket(#[source] io::Error),
    #[error("cannot open the tap")]
    Tap(#[source] io::Error),
    #[error("cannot open disk {}", path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    #[error("waiting for QEMU failed")]
    Wait(#[source] io::Error),
    #[error("{accelerator} does not run the guest here: {fault}{said}; BERTH_ACCEL=auto falls back to tcg", accelerator = accelerator.as_str())]
    Accelerator { accelerator: Accelerator, fault: Fault, said: String },
    #[error(
        "port {VNC_PORT} of {address} is taken by another program of this pod: VNC cannot listen there; end that program, or set BERTH_VNC=off (and NO_VNC=1, where the port is the guest's)"
    )]
    VncPort { address: IpAddr },
    /// Before the guest ran, with QEMU's own code: a word of its command line, as good as always.
    #[error(
        "QEMU does not start{said}: mend the words after --, KVM_*_OPTS, BERTH_CPU or LAUNCHER, whichever it names"
    )]
    Refused { said: String },
    #[error(
        "QEMU cannot have the guest's memory{said}: lower IMG_RAM_MB, or give the container or the machine more"
    )]
    NoMemory { said: String },
    #[error("{} is not resumed, and BERTH_RESUME=require: {why}", path.display())]
    NotResumed { path: PathBuf, why: String },
    #[error("{} may fit the disk, and the guest is not to run then: it can be neither removed nor made unfit", path.display())]
    Generation { path: PathBuf, source: io::Error },
    #[error("{outcome}{said}")]
    Broken { outcome: Outcome, said: String },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            // QEMU is not to blame for a disk that went away since it was looked at.
            Self::Disk { .. } => Code::Facts,
            Self::NotResumed { .. } => Code::NotResumed,
            Self::Generation { .. } => Code::Overlay,
            Self::Signals(_)
            | Self::Socket(_)
            | Self::Tap(_)
            | Self::Start { .. }
            | Self::Wait(_)
            | Self::Accelerator { .. }
            | Self::VncPort { .. }
            | Self::Refused { .. }
            | Self::NoMemory { .. }
            | Self::Broken { .. } => Code::Machine,
        }
    }

    fn fault(&self) -> Option<&'static faults::Fault> {
        Some(match self {
            Self::Accelerator { .. } => &faults::KVM_BROKEN,
            Self::VncPort { .. } => &faults::VNC_TAKEN,
            Self::Refused { .. } => &faults::QEMU_REFUSED,
            Self::NotResumed { .. } => &faults::RESUME_REFUSED,
            Self::NoMemory { .. } => &faults::MEMORY_REFUSED,
            Self::Start { .. } | Self::Broken { .. } => &faults::QEMU_FAILED,
            Self::Signals(_)
            | Self::Socket(_)
            | Self::Tap(_)
            | Self::Disk { .. }
            | Self::Generation { .. }
            | Self::Wait(_) => {
                return None;
            }
        })
    }
}
