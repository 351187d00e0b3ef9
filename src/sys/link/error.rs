//! Why a link is not as it should be.

use std::io;

use crate::exit::{Code, Coded};
use crate::faults::{self, Fault};
use crate::net::IfName;

pub(super) const TUN: &str = "/dev/net/tun";

/// What the kernel did not let us do, and to which link.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening an rtnetlink socket")]
    Socket(#[source] io::Error),
    #[error("{link}: {step}{}", capability_hint(.source))]
    Step { link: String, step: &'static str, source: io::Error },
    #[error(
        "{link} exists and is {kind}, not a bridge: remove it or choose another name with BERTH_BRIDGE"
    )]
    NotABridge { link: IfName, kind: String },
    #[error("{link} exists and is no tap: remove it or choose another name with BERTH_TAP")]
    NotATap { link: IfName },
    #[error(
        "{TUN}: give the container the device (--device {TUN}, or a device plugin), or CAP_MKNOD to make it"
    )]
    NoTun(#[source] io::Error),
    #[error("{TUN} is no TUN device here: mount the node's, character device 10:200, there")]
    NotTun(#[source] io::Error),
    #[error("{link}: {step}{}", tap_hint(.source))]
    Tap { link: IfName, step: &'static str, source: io::Error },
    #[error("IPv6 is off on {link} (disable_ipv6), and cannot be turned on here")]
    NoIpv6 { link: IfName, source: io::Error },
    #[error("IPv6 is not forwarded (net.ipv6.conf.all.forwarding is 0), and cannot be here")]
    NoForwarding6(#[source] io::Error),
    #[error("{0} is not there though it was just made: something else removes it")]
    Vanished(IfName),
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::Network
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::Step { source, .. } | Self::Tap { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(&faults::NO_NET_ADMIN)
            }
            Self::NoTun(_) => Some(&faults::TUN_MISSING),
            Self::NotTun(_) => Some(&faults::TUN_WRONG),
            _ => None,
        }
    }
}

fn capability_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { " (needs CAP_NET_ADMIN)" } else { "" }
}

/// Attaching without CAP_NET_ADMIN is for the tap's owner; its queues were counted when it was made.
fn tap_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            " (needs CAP_NET_ADMIN, or `berth net` with this uid as BERTH_QEMU_UID)"
        }
        Some(libc::EINVAL) => {
            " (its shape is another: IMG_VCPU has to be the same for `berth net` and `berth vm`)"
        }
        _ => "",
    }
}
