//! `berth nft`: what nf_tables has loaded, whoever loaded it, read over netlink.
//!
//! Each verb is a file of its own. They read the ruleset as it is, print to what they are given and change
//! nothing; `trace` alone loads a table, one that is gone when its socket is.

pub mod check;
mod diff;
pub mod explain;
mod list;
mod trace;
mod watch;

use std::io::{self, Write};

use crate::cli::nft::Inspect;
use crate::exit::{Code, Coded};
use crate::sys::{link, netlink, route};

/// Why a command of `berth nft` ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Route(#[from] route::Error),
    /// The words after the verb.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not loaded.
    #[error("{0}")]
    Absent(String),
    /// The pod has not what the question needs: an interface, a default route.
    #[error("{0}")]
    Pod(String),
    #[error("listening for signals")]
    Signals(#[source] io::Error),
    #[error("writing the result")]
    Write(#[source] io::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Netlink(error) => error.code(),
            Self::Link(error) => error.code(),
            Self::Route(error) => error.code(),
            Self::Usage(_) => Code::Usage,
            Self::Absent(_) => Code::NotLoaded,
            Self::Pod(_) => Code::Facts,
            Self::Signals(_) => Code::Machine,
            Self::Write(_) => Code::Output,
        }
    }
}

/// Does what the verb says; the code tells what was found.
pub async fn run(verb: &Inspect, out: &mut impl Write) -> Result<Code, Error> {
    match verb {
        Inspect::List(wanted) => list::run(wanted, out).await,
        Inspect::Explain(wanted) => explain::run(wanted, out).await,
        Inspect::Trace(wanted) => trace::run(wanted, out).await,
        Inspect::Watch(wanted) => watch::run(wanted, out).await,
    }
}

/// A reader that has seen enough (`| head`) is no failure.
fn written(result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Write),
    }
}
