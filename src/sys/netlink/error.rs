//! What the kernel does not take of a ruleset, or why it cannot be asked.

use std::io;

use crate::exit::{Code, Coded};
use crate::faults::{self, Fault};
use crate::nft::{self, Family};

/// How often a commit or dump begins anew because somebody else changed the ruleset meanwhile.
pub(super) const ATTEMPTS: usize = 32;

/// What the kernel refused, or why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot open a netfilter netlink socket: the process needs CAP_NET_ADMIN and the kernel nfnetlink"
    )]
    Open(#[source] io::Error),
    #[error("cannot start the firewall thread")]
    Thread(#[source] io::Error),
    #[error("the firewall thread has ended")]
    Gone,
    #[error(
        "cannot talk to nf_tables: the process needs CAP_NET_ADMIN and the kernel CONFIG_NF_TABLES"
    )]
    Talk(#[source] io::Error),
    #[error("the kernel refuses {subject}{}", detail(.message))]
    Refused {
        subject: String,
        message: Option<String>,
        /// Of which it is a part.
        table: Option<(Family, String)>,
        source: io::Error,
    },
    #[error(
        "the ruleset changes faster than it can be read ({ATTEMPTS} attempts): is another firewall at work?"
    )]
    Busy,
    #[error(
        "cannot look through the connection tracking table: is the nf_conntrack_netlink module loaded?"
    )]
    Conntrack(#[source] io::Error),
    #[error("this kernel has no {missing}, which {subject} needs: load the module on the node")]
    Missing {
        missing: String,
        subject: String,
        /// As of [`Error::Refused`].
        table: Option<(Family, String)>,
        source: io::Error,
    },
    #[error(
        "this kernel has no tables of family {family}, which {subject} is: it was built without them"
    )]
    NoFamily { family: Family, subject: String, source: io::Error },
    #[error(
        "this kernel cannot keep {subject} with an owner (BERTH_NFT_OWNER=on): it needs Linux 6.9 or later"
    )]
    Owner { subject: String, source: io::Error },
    #[error("{subject} belongs to another process (table flag owner), which alone may change it")]
    Owned { subject: String, source: io::Error },
    #[error(transparent)]
    Ruleset(#[from] nft::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::Nat
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::Open(error) | Self::Talk(error)
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(&faults::NO_NET_ADMIN)
            }
            Self::Talk(_) | Self::Refused { .. } | Self::Missing { .. } | Self::NoFamily { .. } => {
                Some(&faults::NAT_REFUSED)
            }
            _ => None,
        }
    }
}

impl Error {
    /// The family of our own table `name` that the kernel refuses, or a part of it.
    pub fn refused_family(&self, name: &str) -> Option<Family> {
        match self {
            Self::NoFamily { family, .. } => Some(*family),
            Self::Refused { table: Some((family, of)), .. }
            | Self::Missing { table: Some((family, of)), .. } => (of == name).then_some(*family),
            _ => None,
        }
    }
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map_or_else(String::new, |message| format!(" ({message})"))
}
