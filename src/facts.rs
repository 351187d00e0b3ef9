//! What the pod gives: plain data read by `sys::probe`, and the parsers of what it reads.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::Serialize;

use crate::net::{IfName, Ipv4Prefix, MacAddr};

/// One look at the pod, before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub uplink: Uplink,
    pub resolver: Resolver,
    pub disks: Disks,
    pub host: Host,
}

/// The pod's own interface: the one with the default route, or the one the user named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uplink {
    pub name: IfName,
    pub index: u32,
    pub mac: MacAddr,
    /// Octets.
    pub mtu: u32,
    /// The address that is mapped onto the guest: the default route's preferred source, else the first
    /// global one.
    pub address: Ipv4Prefix,
    /// Every other global IPv4 address of the interface; mapped onto the guest too.
    pub others: Vec<Ipv4Prefix>,
    /// None when the default route has no next hop (a point-to-point device).
    pub gateway: Option<Ipv4Addr>,
}

/// `resolv.conf(5)`, as far as a forwarder needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolver {
    pub nameservers: Vec<IpAddr>,
    /// Lower-case, no trailing dot, valid names only.
    pub search: Vec<String>,
    /// 0 to 15; 1 when not said.
    pub ndots: u8,
    /// Words that were skipped, with why: told once, never fatal.
    pub skipped: Vec<String>,
}

/// What there is to boot from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disks {
    /// `/dev/vm/root`, when it exists.
    pub root_device: Option<PathBuf>,
    pub image_dir_exists: bool,
    /// `IMG_TARGET` names a path that exists: that path.
    pub target: Option<PathBuf>,
    /// `*.qcow2` directly in the image directory, sorted.
    pub overlays: Vec<PathBuf>,
    /// `/volumes/**/*.img` in `sort -d` order, then `/dev/vm/disk*` in glob order.
    pub extra: Vec<PathBuf>,
    /// Content of the files of the config drive; None when there is no such file.
    pub metadata: Option<Vec<u8>>,
    pub userdata: Option<Vec<u8>>,
    pub vendordata: Option<Vec<u8>>,
    pub networkdata: Option<Vec<u8>>,
}

/// What this container and kernel offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// QEMU's full path.
    pub qemu: PathBuf,
    /// `/dev/kvm` opens for reading and writing. Says nothing about whether guests run.
    pub kvm: bool,
    /// `/dev/vhost-net` opens.
    pub vhost_net: bool,
    /// Whether this process may change to another uid (CAP_SETUID and CAP_SETGID).
    pub can_setuid: bool,
    /// gid of `/dev/kvm`, for QEMU's supplementary groups.
    pub kvm_gid: Option<u32>,
}
