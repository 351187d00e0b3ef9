//! Every way to end: one table of exit codes, and what an error needs to be in it.
//!
//! Each room says the codes of its own errors ([`Coded`]), without a catch-all arm: one code for all of them, or
//! a decision for each new one.
//! 2, 3 and 4 keep the meaning the seed documents; the rest of ours begin at 10; QEMU's own code is passed on.

use std::fmt;
use std::process::ExitCode;

use crate::faults::Fault;
use crate::log::one_line;

/// Why there is no guest (any more), as the code the container ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Nothing was wrong.
    Success,
    /// `nft explain`: the packet is dropped or rejected.
    Dropped,
    /// `nft explain`: what happens depends on something that is not known.
    CannotTell,
    /// The image directory is missing.
    ImageDirectory,
    /// The VM's disk (overlay) could not be made or adopted.
    Overlay,
    /// Bridge or tap could not be brought up.
    Network,
    /// A flag or variable is wrong.
    Usage,
    /// The pod is not as needed: no default route, no address, no QEMU, a file or disk that cannot be read.
    Facts,
    /// What is asked does not fit this pod.
    Plan,
    /// The image could not be fetched.
    Fetch,
    /// What was fetched or found is not an image that may be booted, or too large.
    Refused,
    /// Another launcher holds the disk.
    Locked,
    /// The config drive could not be made.
    Seed,
    /// The kernel refused the NAT rules.
    Nat,
    /// DHCP, DNS, the page or the metrics' port could not be bound.
    Serve,
    /// QEMU could not be started, ended before there was a guest, or none of the accelerators worked.
    Machine,
    /// The start was ended by SIGTERM or SIGINT before there was a guest.
    Stopped,
    /// `vm`: `berth net` stayed away, and `BERTH_ON_NET_LOST=exit`.
    NetLost,
    /// The guest's kernel panicked, and that is to end it.
    Panicked,
    /// A saved guest cannot be resumed, and `BERTH_RESUME=require`.
    NotResumed,
    /// `nft check`: the rules are not what the plan says.
    Drifted,
    /// `nft list`: what was asked for is not loaded.
    NotLoaded,
    /// The answer could not be written: a full disk behind stdout.
    Output,
    /// `status`: not ready, or nobody answers.
    NotReady,
    /// `console`: there is none, or it was cut off.
    NoConsole,
    /// `console`: ended by a signal.
    Signal(u8),
    /// `guest`: its agent does not answer, or refuses. `backup`, `resize`: it is not done.
    NoAgent,
    /// `doctor`: something will make somebody suffer.
    Warnings,
    /// `doctor`: something keeps the guest from running.
    Errors,
    /// `selftest`: a step failed.
    SelfTest,
    /// `validate`: a values file has errors.
    Invalid,
    /// There was a guest: its end, or QEMU's own code.
    Guest(u8),
}

impl Code {
    /// The table of docs/reference.md.
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Dropped
            | Self::Drifted
            | Self::NotLoaded
            | Self::Output
            | Self::NotReady
            | Self::NoConsole
            | Self::NoAgent
            | Self::SelfTest
            | Self::Warnings
            | Self::Invalid => 1,
            Self::ImageDirectory | Self::Errors => 2,
            Self::Overlay | Self::CannotTell => 3,
            Self::Network => 4,
            Self::Usage => 10,
            Self::Facts => 11,
            Self::Plan => 12,
            Self::Fetch => 13,
            Self::Refused => 14,
            Self::Locked => 15,
            Self::Seed => 16,
            Self::Nat => 17,
            Self::Serve => 18,
            Self::Machine => 19,
            Self::Stopped => 20,
            Self::NetLost => 21,
            Self::Panicked => 22,
            Self::NotResumed => 23,
            // As shells tell it.
            Self::Signal(number) => number.saturating_add(128),
            Self::Guest(code) => code,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        code.number().into()
    }
}

/// An error that a verb can end with.
pub trait Coded: std::error::Error {
    /// What the process ends with.
    fn code(&self) -> Code;

    /// Which of the known faults it is; None where it has no name.
    fn fault(&self) -> Option<&'static Fault> {
        None
    }
}

/// Why a verb ended: the code, the words for it, and which fault it is, where it has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub text: String,
    pub fault: Option<&'static Fault>,
}

impl Failure {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), fault: None }
    }

    /// The same, by its name.
    pub fn named(self, fault: &'static Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }
}

/// As the end of a container is told.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.fault.map(|fault| format!(" [{}]", fault.id)).unwrap_or_default();
        write!(f, "code {}{name}: {}", self.code.number(), self.text)
    }
}

impl<E: Coded> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { fault: error.fault(), ..Self::new(error.code(), error_chain(&error)) }
    }
}

/// An error's whole story: what, and why, and why. On one line, whatever names and answers are in it.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    one_line(&text).into_owned()
}
