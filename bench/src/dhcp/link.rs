//! Raw frames on one interface (packet(7)): IPv4 and ARP, or IPv6, that come in, and whatever goes out.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use berth::net::MacAddr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use crate::{Error, at};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// Octets: what waits while the driver is not looking.
const BUFFER: usize = 32 << 20;

#[derive(Debug)]
pub struct Link {
    ip: Socket,
    /// IPv6 has its neighbours in itself.
    arp: Option<Socket>,
    pub mac: MacAddr,
}

impl Link {
    /// In the network namespace of the calling thread.
    pub fn open(interface: &str) -> Result<Self, Error> {
        Self::of(interface, IPV4, Some(ARP))
    }

    /// The same, of IPv6.
    pub fn open6(interface: &str) -> Result<Self, Error> {
        Self::of(interface, IPV6, None)
    }

    fn of(interface: &str, ip: u16, arp: Option<u16>) -> Result<Self, Error> {
        let (index, mac) = find(interface)?;
        Self::bind(index, mac, ip, arp)
            .map_err(|source| Error::Io { step: format!("packet socket on {interface}"), source })
    }

    fn bind(index: u32, mac: MacAddr, ip: u16, arp: Option<u16>) -> std::io::Result<Self> {
        let socket = |protocol| -> std::io::Result<Socket> {
            // Protocol 0: nothing comes before it is bound.
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER);
            berth::sys::ffi::bind_packet(&socket, index, protocol)?;
            Ok(socket)
        };
        Ok(Self { ip: socket(ip)?, arp: arp.map(socket).transpose()?, mac })
    }

    pub fn send(&mut self, frame: &[u8]) -> Result<(), Error> {
        loop {
            match (&self.ip).write(frame) {
                Ok(_) => return Ok(()),
                // The link's queue is full: as a wire would be busy.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {}
                Err(error) => return at("sending a frame", Err(error)),
            }
        }
    }

    /// The length of the next frame of IP; none when none waits.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        receive(&self.ip, buffer)
    }

    pub fn receive_arp(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.arp.as_ref().map_or(Ok(None), |arp| receive(arp, buffer))
    }

    /// Until a frame waits, or so long.
    pub fn wait(&self, longest: Duration) -> Result<(), Error> {
        let sockets = std::iter::once(&self.ip).chain(&self.arp);
        let mut sockets: Vec<_> =
            sockets.map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
        let longest = Timespec {
            tv_sec: longest.as_secs().try_into().unwrap_or(1),
            tv_nsec: longest.subsec_nanos().into(),
        };
        match poll(&mut sockets, Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => at("waiting for frames", Err(error.into())),
        }
    }
}

/// Index and MAC, by iproute2: /sys may be another namespace's.
fn find(interface: &str) -> Result<(u32, MacAddr), Error> {
    let output =
        at("ip link", Command::new("ip").args(["-j", "link", "show", "dev", interface]).output())?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let index = links.pointer("/0/ifindex").and_then(|index| u32::try_from(index.as_u64()?).ok());
    let mac = links.pointer("/0/address").and_then(|mac| mac.as_str()?.parse().ok());
    index.zip(mac).ok_or_else(|| Error::Step(format!("there is no Ethernet interface {interface}")))
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
    let mut socket = socket;
    match socket.read(buffer) {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        // Down for a moment, as a link is that is being configured.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NETDOWN.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => at("receiving frames", Err(error)),
    }
}
