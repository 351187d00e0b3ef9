//! What a thread may open, bind, connect to and signal from some moment on (landlock(7)), for itself and all it starts.
//!
//! A kernel knows some of it, by its version of the interface, or none: what it does not know is not restricted.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::ffi;

/// What is asked for; a kernel's own version may be less.
const WANTED: ABI = ABI::V6;

/// What is done with a file, or with all below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read, listed and executed.
    Execute,
    /// Read and listed.
    Read,
    /// Everything, but executed.
    Write,
}

/// All that is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// What is not there is left out.
    pub files: Vec<(PathBuf, Access)>,
    pub tcp_bind: Vec<u16>,
    /// None: wherever it likes.
    pub tcp_connect: Option<Vec<u16>>,
    /// Signals to, and abstract sockets of, processes that are not confined by the same rules.
    pub others: bool,
}

impl Access {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Self::Execute => AccessFs::from_read(WANTED),
            Self::Read => AccessFs::from_read(WANTED) & !AccessFs::Execute,
            Self::Write => AccessFs::from_all(WANTED) & !AccessFs::Execute,
        }
    }
}

/// The version of the interface that the kernel has; 0: none.
pub fn version() -> u32 {
    ffi::landlock_version()
}

/// The rules, as a descriptor that [`restrict`] takes; None where the kernel has no Landlock.
pub fn rules(allowed: &Allowed) -> io::Result<Option<OwnedFd>> {
    build(allowed).map_err(io::Error::other)
}

fn build(allowed: &Allowed) -> Result<Option<OwnedFd>, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::BindTcp)?;
    if allowed.tcp_connect.is_some() {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    if !allowed.others {
        ruleset = ruleset.scope(Scope::from_all(WANTED))?;
    }
    let mut ruleset = ruleset.create()?;
    for (path, access) in &allowed.files {
        let Ok(file) = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        let is_dir = rustix::fs::fstat(&file)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let rights =
            if is_dir { access.rights() } else { access.rights() & AccessFs::from_file(WANTED) };
        ruleset = ruleset.add_rule(PathBeneath::new(file, rights))?;
    }
    for port in &allowed.tcp_bind {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in allowed.tcp_connect.iter().flatten() {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(ruleset.into())
}

/// Binds the calling thread, and all it starts from now on. Needs no_new_privs.
pub(crate) fn restrict(rules: &impl AsFd) -> io::Result<()> {
    ffi::landlock_restrict(rules.as_fd())
}
