//! What a start needs of its place, looked at without taking anything: devices, capabilities, ports, locks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::thread::CapabilitySet;

use crate::exit::{Coded, error_chain};
use crate::faults::{self, Finding};
use crate::plan::disk::Root;
use crate::plan::machine::VNC_PORT;
use crate::plan::{DiskPlan, NetPlan, Plan};
use crate::sys::beneath::Beneath;
use crate::sys::{image, link, privilege};

/// Ports of the gateway's (RFC 2131 §4.1, RFC 1035 §4.2).
const DHCP: u16 = 67;
const DNS: u16 = 53;

/// For the network half.
pub fn network(plan: &NetPlan) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !privilege::has(CapabilitySet::NET_ADMIN) {
        findings.push(faults::NO_NET_ADMIN.found("CAP_NET_ADMIN is not in the effective set"));
    }
    findings.extend(link::try_tun().err().map(|error| found(&error)));
    if plan.guest.serve {
        if unprivileged() > DNS && !privilege::has(CapabilitySet::NET_BIND_SERVICE) {
            findings.push(faults::NO_NET_BIND_SERVICE.found(
                "CAP_NET_BIND_SERVICE is not in the effective set, and DHCP and DNS have ports that need it",
            ));
        }
        let at = |port| SocketAddr::from((plan.guest.gateway, port));
        let wanted = [
            (at(DHCP), Transport::Udp, "DHCP"),
            (at(DNS), Transport::Udp, "DNS"),
            (at(DNS), Transport::Tcp, "DNS"),
        ];
        findings.extend(taken(&wanted).map(|seen| faults::SERVE_TAKEN.found(seen)));
    }
    findings
}

/// For the machine half.
pub fn machine(plan: &Plan) -> Vec<Finding> {
    let disk = &plan.disk;
    let vnc = plan.machine.vnc.as_ref().and_then(|vnc| {
        let at = SocketAddr::new(vnc.address, VNC_PORT);
        taken(&[(at, Transport::Tcp, "VNC")]).map(|seen| faults::VNC_TAKEN.found(seen))
    });
    let page = plan.web.page.iter().map(|at| (*at, Transport::Tcp, "the page"));
    let metrics = plan.web.metrics.iter().map(|at| (*at, Transport::Tcp, "the metrics"));
    let web: Vec<_> = page.chain(metrics).collect();
    let web = taken(&web).map(|seen| faults::SERVE_TAKEN.found(seen));
    let volume = disk.lock.parent().filter(|dir| *dir != disk.state_dir).and_then(writable);
    locked(disk)
        .into_iter()
        .chain(no_image(&disk.root))
        .chain(volume)
        .chain(vnc)
        .chain(web)
        .collect()
}

/// As the start would say it.
fn found(error: &impl Coded) -> Finding {
    error.fault().unwrap_or(&faults::CANNOT_START).found(error_chain(error))
}

/// What is bound already where berth wants to be: nothing is bound to find that out.
fn taken(wanted: &[(SocketAddr, Transport, &str)]) -> Option<String> {
    let taken = wanted.iter().filter(|(socket, transport, _)| {
        transport.tables().iter().any(|table| {
            let text = std::fs::read_to_string(table).unwrap_or_default();
            text.lines().skip(1).filter_map(|line| transport.bound(line)).any(|bound| {
                bound.port() == socket.port()
                    && (bound.ip().is_unspecified()
                        || socket.ip().is_unspecified()
                        || bound.ip() == socket.ip())
            })
        })
    });
    let words = taken.map(|(socket, transport, what)| {
        format!(
            "{what}, port {}/{}: something else serves there",
            socket.port(),
            transport.as_str()
        )
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join("; "))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Of this network namespace (proc(5)).
    fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Tcp => ["/proc/self/net/tcp", "/proc/self/net/tcp6"],
            Self::Udp => ["/proc/self/net/udp", "/proc/self/net/udp6"],
        }
    }

    /// Where the socket of a line is bound: one that listens, of TCP.
    fn bound(self, line: &str) -> Option<SocketAddr> {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        // TCP_LISTEN (linux/tcp_states.h).
        if self == Self::Tcp && state != "0A" {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
        let octets: Option<Vec<[u8; 4]>> =
            (0..address.len() / 8).map(|at| word(address.get(at * 8..at * 8 + 8)?)).collect();
        let octets = octets?.concat();
        let address: IpAddr = match <[u8; 4]>::try_from(octets.as_slice()) {
            Ok(four) => four.into(),
            Err(_) => <[u8; 16]>::try_from(octets.as_slice()).ok()?.into(),
        };
        Some(SocketAddr::new(address.to_canonical(), port))
    }
}

/// From which port on nobody needs a capability (ip-sysctl).
fn unprivileged() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
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

fn locked(disk: &DiskPlan) -> Option<Finding> {
    let files = Beneath::new(disk.untrusted.iter().cloned());
    let holder = image::held_by(&disk.lock, &files)?;
    Some(faults::DISK_LOCKED.found(format_args!("{} is held by {holder}", disk.lock.display())))
}

/// `berth status` asks there; what is not there yet is made by the launcher.
pub fn state_directory(dir: &Path) -> Option<Finding> {
    let uid = rustix::process::geteuid().as_raw();
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    let path = there.display();
    let seen = if !there.is_dir() {
        format!("{path} is no directory")
    } else {
        let error = access(there, Access::WRITE_OK | Access::EXEC_OK).err()?;
        format!("{path}, as uid {uid}: {}", io::Error::from(error))
    };
    Some(faults::STATE_DIRECTORY.found(seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_says_where_a_socket_is_bound() {
        let tcp = |line| Transport::Tcp.bound(line).map(|bound| bound.to_string());
        let listens = "   0: 00000000:0035 00000000:0000 0A 00000000:00000000 00:00000000";
        assert_eq!(tcp(listens).as_deref(), Some("0.0.0.0:53"));
        let connected = "   1: 0100007F:1770 0100007F:9A10 01 00000000:00000000 00:00000000";
        assert_eq!(tcp(connected), None);
        let mapped = "  2: 0000000000000000FFFF00000100007F:17C0 00000000000000000000000000000000:0000 0A 0:0";
        assert_eq!(tcp(mapped).as_deref(), Some("127.0.0.1:6080"));
        let udp = "  123: 01FEA8C0:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000";
        let bound = Transport::Udp.bound(udp).map(|bound| bound.to_string());
        assert_eq!(bound.as_deref(), Some("192.168.254.1:67"));
        for cut in 0..udp.len() {
            let _ = Transport::Udp.bound(udp.get(..cut).unwrap_or_default());
        }
    }
}
