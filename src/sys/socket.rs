//! The responder's sockets: bound so that only the guest's side reaches them.
//!
//! Both listen on one link only (SO_BINDTODEVICE), DNS also on the gateway's address only, never on the pod's.
//! Ports 53 and 67 need CAP_NET_BIND_SERVICE or `net.ipv4.ip_unprivileged_port_start`; whole frames need CAP_NET_RAW,
//! and where that is missing replies to a client without an address are broadcast (RFC 2131 §4.1 allows it).
//!
//! Each has two more sockets on the same port that only send, to addresses nobody may have: what waits for their ARP is
//! charged to these. They take in nothing: a filter drops what reaches them, and what could is kept from them by being
//! connected to where nothing comes from. That needs a route, which there is none before the link is up and has its address;
//! until then the socket that listens was bound last, and of those that are alike the kernel takes the last.

mod dhcp6;
mod dns6;
mod solicitations;

pub use dhcp6::{Dhcp6, dhcp6, dhcp6_of_link};
pub use dns6::{Dns6, dns6};
pub use solicitations::solicitations;

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};
use rustix::net::addr::SocketAddrArg;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};

use super::ffi;
use super::neighbours::Tables;
use crate::faults::{self, Fault};
use crate::net::IfName;

const DHCP_SERVER: u16 = 67;
const DNS: u16 = 53;
/// RFC 863: nobody sends from there.
const DISCARD: u16 = 9;
/// linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_ALL: u16 = 0x0003;
/// BPF_RET | BPF_K (linux/bpf_common.h): with 0 the datagram is dropped.
const RETURN: u16 = 0x06;

/// Octets of requests that may wait while others are answered; without CAP_NET_ADMIN what net.core.rmem_max allows.
const WAITING: usize = 4 << 20;

/// Octets of answers that may be on their way to one that has a MAC; what is sent leaves at once, but to a router that is
/// gone some 200 KiB wait. Of answers to strangers: some ninety, in three seconds.
const ANSWERS: usize = 4 << 20;
const STRANGERS: usize = 32 << 10;
/// Of a TCP connection's answers and questions in the kernel, which doubles it.
const TCP_ANSWERS: usize = 32 << 10;
const TCP_QUESTIONS: usize = 8 << 10;

fn let_answers_wait(socket: &Socket) {
    if set_socket_send_buffer_size_force(socket, ANSWERS).is_err() {
        let _ = socket.set_send_buffer_size(ANSWERS);
    }
}

/// Sockets that only send, to addresses without a MAC: those that had one once, and others; and where that is seen.
#[derive(Debug)]
pub struct Aside {
    pub tables: io::Result<Arc<Tables>>,
    pub gone: Sender,
    pub strangers: Sender,
}

/// Binds the listener last, and the first of the others without SO_REUSEADDR, so that it notices another server. It is on
/// the listener for this moment alone.
fn bind(
    listener: &Socket,
    interface: &IfName,
    at: SocketAddrV4,
    ours: Ipv4Addr,
) -> io::Result<Aside> {
    let gone = Sender::new(interface, ours)?;
    gone.socket.bind(&SocketAddr::from(at).into())?;
    gone.socket.set_reuse_address(true)?;
    let strangers = Sender::new(interface, ours)?;
    for socket in [&strangers.socket, listener] {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(at).into())?;
    }
    listener.set_reuse_address(false)?;
    for sender in [&gone, &strangers] {
        // Else when there is something to send.
        let _ = sender.connect();
    }
    Ok(Aside { tables: Tables::open().map(Arc::new), gone, strangers })
}

/// Sends from the listener's address and port, and takes nothing in.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
    ours: Ipv4Addr,
}

impl Sender {
    fn new(interface: &IfName, ours: Ipv4Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        socket.set_freebind_v4(true)?;
        socket.bind_device(Some(interface.as_str().as_bytes()))?;
        ffi::set_no_check(&socket)?;
        socket.set_send_buffer_size(STRANGERS)?;
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        Ok(Self { socket, ours })
    }

    /// Sends, if it can be connected by now: until then nothing is sent to strangers, by no other socket either.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        if self.socket.peer_addr().is_err() {
            self.connect()?;
        }
        self.socket.send_to(bytes, &to.into()).map(drop)
    }

    fn connect(&self) -> io::Result<()> {
        // Without our address it would be connected from another, for good.
        std::net::UdpSocket::bind((self.ours, 0))?;
        self.socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, DISCARD)).into())
    }
}

fn let_requests_wait(socket: &Socket) {
    if set_socket_recv_buffer_size_force(socket, WAITING).is_err() {
        // The usual size serves, too.
        let _ = socket.set_recv_buffer_size(WAITING);
    }
}

/// A socket that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("binding {what} on {place}{}", hint(.source, .off))]
    Bind { what: &'static str, place: String, off: &'static str, source: io::Error },
}

impl Error {
    pub(crate) fn fault(&self) -> Option<&'static Fault> {
        let Self::Bind { source, .. } = self;
        match source.kind() {
            io::ErrorKind::PermissionDenied => Some(&faults::NO_NET_BIND_SERVICE),
            io::ErrorKind::AddrInUse => Some(&faults::SERVE_TAKEN),
            _ => None,
        }
    }
}

/// `off` is how the user does without this service.
fn hint(error: &io::Error, off: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (needs CAP_NET_BIND_SERVICE)".to_owned(),
        io::ErrorKind::AddrInUse => format!(" (something else serves there: stop it, or {off})"),
        _ => String::new(),
    }
}

/// DHCP's two ways: datagrams, and whole frames where that is allowed.
#[derive(Debug)]
pub struct Dhcp {
    pub udp: UdpSocket,
    pub aside: Aside,
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
    /// Listens to ARP from now on, to see who has an address. Needs CAP_NET_RAW.
    pub(crate) fn listen_to_arp(&mut self, interface: &IfName) -> io::Result<()> {
        self.arp = Some(frames(interface, ETH_P_ARP)?);
        Ok(())
    }

    /// The next ARP frame that came in; None when there is none.
    pub(crate) fn heard_arp<'a>(&self, buffer: &'a mut [u8; 64]) -> Option<&'a [u8]> {
        let mut socket = self.arp.as_ref()?;
        let length = socket.read(buffer).ok()?;
        buffer.get(..length)
    }
}

/// Port 67 of one link, to answer from `ours`. Bound without SO_REUSEADDR, which a datagram socket does not need to start again: a server that is
/// there for this link, or for all, is in the way. Set after that: dnsmasq binds for all links before it keeps to one, and
/// on another link it is welcome. Not seen is who binds that way later, or listens with a packet socket.
pub fn dhcp(interface: &IfName, ours: Ipv4Addr, off: &'static str) -> Result<Dhcp, Error> {
    let bound = || -> io::Result<Dhcp> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(interface.as_str().as_bytes()))?;
        ffi::set_no_check(&socket)?;
        let_requests_wait(&socket);
        let_answers_wait(&socket);
        let aside =
            bind(&socket, interface, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DHCP_SERVER), ours)?;
        socket.set_reuse_address(true)?;
        let udp = UdpSocket::from_std(socket.into())?;
        Ok(Dhcp { udp, aside, frames: frames(interface, 0).ok(), arp: None })
    };
    bound().map_err(|source| Error::Bind {
        what: "DHCP, port 67/udp",
        place: interface.to_string(),
        off,
        source,
    })
}

/// A packet socket (packet(7)) for all that the link sends and receives.
pub(super) fn every_frame(interface: &IfName) -> io::Result<OwnedFd> {
    frames(interface, ETH_P_ALL).map(OwnedFd::from)
}

fn frames(interface: &IfName, protocol: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    let index = name_to_index(&socket, interface.as_str())?;
    ffi::bind_packet(&socket, index, protocol)?;
    Ok(socket)
}

/// Datagrams that are taken with one system call (recvmmsg(2)), and the octets of each: a longer one is cut.
const TAKEN: usize = 32;
const LARGEST: usize = 1280;

/// Room for datagrams that are taken together.
#[derive(Debug)]
pub(crate) struct Basket(Vec<u8>);

impl Default for Basket {
    fn default() -> Self {
        Self(vec![0; TAKEN * LARGEST])
    }
}

impl Basket {
    /// Hands over the datagrams that wait at an IPv4 socket, some at a time. False: there are no more.
    pub fn take(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<bool> {
        let taken = socket.try_io(Interest::READABLE, || {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                self.0.chunks_exact_mut(LARGEST).map(|chunk| [IoSliceMut::new(chunk)]).collect();
            let mut headers = MultiHeaders::<SockaddrIn>::preallocate(TAKEN, None);
            let taken = recvmmsg(
                socket.as_raw_fd(),
                &mut headers,
                slices.iter_mut(),
                MsgFlags::MSG_DONTWAIT,
                None,
            )?;
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
pub(crate) fn send_all(
    socket: &UdpSocket,
    datagrams: &[(SocketAddr, Vec<u8>)],
) -> io::Result<usize> {
    if let [(to, bytes)] = datagrams {
        return socket.try_send_to(bytes, *to).map(|_| 1);
    }
    let slices: Vec<_> =
        datagrams.iter().map(|(to, bytes)| (to.as_any(), [IoSlice::new(bytes)])).collect();
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
pub struct Dns4 {
    pub udp: UdpSocket,
    pub aside: Aside,
    pub tcp: TcpListener,
}

/// Of each family that is served.
#[derive(Debug)]
pub struct Dns {
    pub four: Option<Dns4>,
    pub six: Option<Dns6>,
}

/// Port 53 of the gateway's address, for what comes in by this link: an address is reachable from every link of
/// the pod (the weak host model of RFC 1122 §3.3.4.2), and the pod's neighbours are not ours to serve. Binds
/// before the address is there, too.
pub fn dns(interface: &IfName, gateway: Ipv4Addr, off: &'static str) -> Result<Dns4, Error> {
    let address = SocketAddrV4::new(gateway, DNS);
    let guest_side = |socket: &Socket| -> io::Result<()> {
        socket.set_freebind_v4(true)?;
        socket.bind_device(Some(interface.as_str().as_bytes()))
    };
    let bound = || -> io::Result<Dns4> {
        let udp = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        guest_side(&udp)?;
        ffi::set_no_check(&udp)?;
        let_requests_wait(&udp);
        let_answers_wait(&udp);
        let aside = bind(&udp, interface, address, gateway)?;
        let tcp = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        guest_side(&tcp)?;
        // Connections of an earlier start that have yet to end are not in the way; another listener is.
        tcp.set_reuse_address(true)?;
        // Before it listens: connections have them from it.
        tcp.set_send_buffer_size(TCP_ANSWERS)?;
        tcp.set_recv_buffer_size(TCP_QUESTIONS)?;
        tcp.bind(&SocketAddr::from(address).into())?;
        tcp.listen(64)?;
        let (udp, tcp) = (UdpSocket::from_std(udp.into())?, TcpListener::from_std(tcp.into())?);
        Ok(Dns4 { udp, aside, tcp })
    };
    bound().map_err(|source| Error::Bind {
        what: "DNS, port 53",
        place: gateway.to_string(),
        off,
        source,
    })
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
