//! Other network namespaces (setns(2), network_namespaces(7)).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::exit::{Code, Coded};

/// Why a namespace cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening the network namespace {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("entering the network namespace {} (needs CAP_SYS_ADMIN, and a file that is one)", path.display())]
    Enter { path: PathBuf, source: io::Error },
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::Network
    }
}

/// The file of a process's network namespace.
pub fn of_process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Moves the calling thread, and those it starts from now on, into a network namespace.
pub fn enter(path: &Path) -> Result<(), Error> {
    let open = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    move_into_link_name_space(open.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| Error::Enter { path: path.to_owned(), source: error.into() })
}
