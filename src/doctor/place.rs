//! What a start needs of its place, looked at without taking anything: devices, capabilities, ports, locks.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::thread::CapabilitySet;
use socket2::{Domain, Socket, Type};

use crate::faults::{self, Finding};
use crate::plan::disk::Root;
use crate::plan::machine::VNC_PORT;
use crate::plan::{NetPlan, Plan};
use crate::sys::{ffi, privilege};

const TUN: &str = "/dev/net/tun";
/// Ports of the gateway's (RFC 2131 §4.1, RFC 1035 §4.2).
const DHCP: u16 = 67;
const DNS: u16 = 53;
/// Octets of a lock that say who has it.
const MAX_HOLDER: u64 = 512;

/// Of whoever starts here next: nobody runs yet.
#[derive(Debug)]
pub struct Place;

impl Place {
    /// For the network half.
    pub fn network(plan: &NetPlan) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !privilege::has(CapabilitySet::NET_ADMIN) {
            findings.push(faults::NO_NET_ADMIN.found("CAP_NET_ADMIN is not in the effective set"));
        }
        findings.extend(tun());
        if plan.guest.serve {
            findings.extend(port(plan.guest.gateway, DHCP, "DHCP"));
            findings.extend(port(plan.guest.gateway, DNS, "DNS"));
        }
        findings
    }

    /// For the machine half.
    pub fn machine(plan: &Plan) -> Vec<Finding> {
        let disk = &plan.disk;
        let vnc = plan.machine.vnc.as_ref().and_then(|vnc| vnc_port(vnc.address));
        let volume = disk.lock.parent().filter(|dir| *dir != disk.state_dir).and_then(writable);
        lock(&disk.lock).into_iter().chain(no_image(&disk.root)).chain(volume).chain(vnc).collect()
    }
}

fn tun() -> Option<Finding> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).custom_flags(libc::O_CLOEXEC).open(TUN);
    match opened {
        Ok(file) => ffi::tun_features(&file).err().map(|error| {
            faults::TUN_WRONG
                .found(format_args!("{TUN} is there, and TUNGETFEATURES says: {error}"))
        }),
        // It is made then, where that is allowed.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && privilege::has(CapabilitySet::MKNOD) =>
        {
            None
        }
        Err(error) => Some(faults::TUN_MISSING.found(format_args!("{TUN}: {error}"))),
    }
}

/// Whether it could be bound at the gateway's address, which is not there yet.
fn port(gateway: Ipv4Addr, port: u16, what: &str) -> Option<Finding> {
    let bound = || -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_freebind_v4(true)?;
        socket.bind(&SocketAddr::from((gateway, port)).into())
    };
    let error = bound().err()?;
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(
            faults::NO_NET_BIND_SERVICE
                .found(format_args!("binding {what}, port {port}/udp: {error}")),
        ),
        io::ErrorKind::AddrInUse => Some(
            faults::SERVE_TAKEN
                .found(format_args!("{what}, port {port}/udp: something else serves there")),
        ),
        _ => None,
    }
}

fn vnc_port(address: IpAddr) -> Option<Finding> {
    let error = TcpListener::bind((address, VNC_PORT)).err()?;
    (error.kind() == io::ErrorKind::AddrInUse).then(|| {
        faults::VNC_TAKEN
            .found(format_args!("port {VNC_PORT} of {address}: something else listens there"))
    })
}

fn no_image(root: &Root) -> Option<Finding> {
    let Root::Overlay { path, base, fetch: None, .. } = root else { return None };
    (!path.exists() && !base.exists()).then(|| {
        faults::NO_IMAGE
            .found(format_args!("{} is not there, and IMG_SOURCE is not set", base.display()))
    })
}

fn writable(dir: &Path) -> Option<Finding> {
    let error = access(dir, Access::WRITE_OK).err().filter(|_| dir.exists())?;
    let error = io::Error::from(error);
    Some(faults::VOLUME_READ_ONLY.found(format_args!("{}: {error}", dir.display())))
}

/// Held for as long as it takes to see that nobody else has it.
fn lock(path: &Path) -> Option<Finding> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    let held = flock(&file, FlockOperation::NonBlockingLockShared).err()?;
    (held == rustix::io::Errno::WOULDBLOCK).then(|| {
        let mut text = String::new();
        let _ = file.take(MAX_HOLDER).read_to_string(&mut text);
        let file = path.display();
        let holder = text.trim();
        let holder = if holder.is_empty() { "another launcher" } else { holder };
        faults::DISK_LOCKED.found(format_args!("{file} is held by {holder}"))
    })
}

/// Whose it is: `berth status` asks there.
pub fn state_directory(dir: &Path) -> Option<Finding> {
    let found = std::fs::symlink_metadata(dir).ok()?;
    let (uid, path) = (rustix::process::geteuid().as_raw(), dir.display());
    let seen = if !found.is_dir() {
        format!("{path} is no directory")
    } else if found.uid() != uid && uid != 0 {
        format!("{path} is uid {}'s, and this is uid {uid}", found.uid())
    } else {
        let error = access(dir, Access::WRITE_OK).err()?;
        format!("{path}: {}", io::Error::from(error))
    };
    Some(faults::STATE_DIRECTORY.found(seen))
}
