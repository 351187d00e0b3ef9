//! The responder's sockets: bound so that only the guest's side reaches them.
//!
//! Both listen on one link only (SO_BINDTODEVICE), DNS also on the gateway's address only, never on the pod's.
//! Ports 53 and 67 need CAP_NET_BIND_SERVICE or `net.ipv4.ip_unprivileged_port_start`; whole frames need CAP_NET_RAW,
//! and where that is missing replies to a client without an address are broadcast (RFC 2131 §4.1 allows it).

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};
use rustix::net::addr::SocketAddrArg;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};

use super::ffi;
use crate::net::IfName;

const DHCP_SERVER: u16 = 67;
const DNS: u16 = 53;
/// linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;

/// Octets of requests that may wait while others are answered; without CAP_NET_ADMIN what net.core.rmem_max allows.
const WAITING: usize = 4 << 20;

fn let_requests_wait(socket: &Socket) {
    if set_socket_recv_buffer_size_force(socket, WAITING).is_err() {
        // The usual size serves, too.
        let _ = socket.set_recv_buffer_size(WAITING);
    }
}

/// A socket that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("binding {what} on {place}{}", hint(.source))]
    Bind { what: &'static str, place: String, source: io::Error },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (needs CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrInUse => " (something else serves there: stop it, or set NO_DHCP)",
        _ => "",
    }
}

/// DHCP's two ways: datagrams, and whole frames where that is allowed.
#[derive(Debug)]
pub struct Dhcp {
    pub udp: UdpSocket,
    frames: Option<Socket>,
    arp: Option<Socket>,
}

impl Dhcp {
    /// Sends a whole frame out of the link. False when this process may not.
    pub fn send_frame(&self, frame: &[u8]) -> io::Result<bool> {
        match &self.frames {
            Some(socket) => socket.send(frame).map(|_| true),
            None => Ok(false),
        }
    }
}

impl Dhcp {
    /// Listens to ARP from now on, to see who has an address. Without CAP_NET_RAW nothing is heard.
    pub fn listen_to_arp(&mut self, interface: &IfName) {
        self.arp = frames(interface, ETH_P_ARP).ok();
    }

    /// The next ARP frame that came in; None when there is none.
    pub fn heard_arp<'a>(&self, buffer: &'a mut [u8; 64]) -> Option<&'a [u8]> {
        let mut socket = self.arp.as_ref()?;
        let length = socket.read(buffer).ok()?;
        buffer.get(..length)
    }
}

/// Port 67 of one link.
pub fn dhcp(interface: &IfName) -> Result<Dhcp, Error> {
    let bind = || -> io::Result<Dhcp> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(interface.as_str().as_bytes()))?;
        ffi::set_no_check(&socket)?;
        let_requests_wait(&socket);
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, DHCP_SERVER)).into())?;
        let udp = UdpSocket::from_std(socket.into())?;
        Ok(Dhcp { udp, frames: frames(interface, 0).ok(), arp: None })
    };
    bind().map_err(|source| Error::Bind { what: "DHCP, port 67/udp", place: interface.to_string(), source })
}

fn frames(interface: &IfName, protocol: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    let index = name_to_index(&socket, interface.as_str())?;
    ffi::bind_packet(&socket, index, protocol)?;
    Ok(socket)
}

/// Datagrams that are taken with one system call (recvmmsg(2)), and the octets of each: a longer one is cut.
const TAKEN: usize = 32;
const LARGEST: usize = 4096;

/// Room for datagrams that are taken together.
#[derive(Debug)]
pub struct Basket(Vec<u8>);

impl Default for Basket {
    fn default() -> Self {
        Self(vec![0; TAKEN * LARGEST])
    }
}

impl Basket {
    /// Hands over the datagrams that wait at an IPv4 socket, some at a time. False: there are no more.
    pub fn take(&mut self, socket: &UdpSocket, mut each: impl FnMut(SocketAddr, &[u8])) -> io::Result<bool> {
        let taken = socket.try_io(Interest::READABLE, || {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                self.0.chunks_exact_mut(LARGEST).map(|chunk| [IoSliceMut::new(chunk)]).collect();
            let mut headers = MultiHeaders::<SockaddrIn>::preallocate(TAKEN, None);
            let taken =
                recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            let mut count = 0;
            for datagram in taken {
                count += 1;
                if let (Some(from), Some(bytes)) = (datagram.address, datagram.iovs().next()) {
                    each(SocketAddrV4::from(from).into(), bytes);
                }
            }
            // Fewer than there is room for: the socket is empty, and the next datagram wakes us.
            if count < TAKEN { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match taken {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // What a broken peer's ICMP error leaves behind is not the socket's end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Sends datagrams with one system call (sendmmsg(2)); how many the socket has taken.
pub fn send_all(socket: &UdpSocket, datagrams: &[(SocketAddr, Vec<u8>)]) -> io::Result<usize> {
    if let [(to, bytes)] = datagrams {
        return socket.try_send_to(bytes, *to).map(|_| 1);
    }
    let slices: Vec<_> = datagrams.iter().map(|(to, bytes)| (to.as_any(), [IoSlice::new(bytes)])).collect();
    let mut controls: Vec<_> = slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut headers: Vec<_> = slices
        .iter()
        .zip(&mut controls)
        .map(|((to, slices), control)| MMsgHdr::new_with_addr(to, slices, control))
        .collect();
    socket.try_io(Interest::WRITABLE, || Ok(sendmmsg(socket, &mut headers, SendFlags::DONTWAIT)?))
}

/// DNS's two ways.
#[derive(Debug)]
pub struct Dns {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

/// Port 53 of the gateway's address, for what comes in by this link: an address is reachable from every link of
/// the pod (the weak host model of RFC 1122 §3.3.4.2), and the pod's neighbours are not ours to serve. Binds
/// before the address is there, too.
pub fn dns(interface: &IfName, gateway: Ipv4Addr) -> Result<Dns, Error> {
    let address = SocketAddr::from(SocketAddrV4::new(gateway, DNS));
    let guest_side = |socket: &Socket| -> io::Result<()> {
        socket.set_reuse_address(true)?;
        socket.set_freebind_v4(true)?;
        socket.bind_device(Some(interface.as_str().as_bytes()))
    };
    let bind = || -> io::Result<Dns> {
        let udp = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        guest_side(&udp)?;
        ffi::set_no_check(&udp)?;
        let_requests_wait(&udp);
        udp.bind(&address.into())?;
        let tcp = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        guest_side(&tcp)?;
        tcp.bind(&address.into())?;
        tcp.listen(64)?;
        Ok(Dns { udp: UdpSocket::from_std(udp.into())?, tcp: TcpListener::from_std(tcp.into())? })
    };
    bind().map_err(|source| Error::Bind { what: "DNS, port 53", place: gateway.to_string(), source })
}

/// A socket for one question to one server, from a port the kernel picks at random.
pub async fn upstream(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected: the kernel drops what comes from anyone else.
    socket.connect(server).await?;
    Ok(socket)
}
