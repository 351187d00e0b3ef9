//! Port 547 of one link: for what is sent to all servers on it, and by relay agents to us.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{Error, let_answers_wait, let_requests_wait};
use crate::net::IfName;

/// RFC 8415 §7.2.
const DHCP6_SERVER: u16 = 547;
/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415 §7.1).
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// `All_DHCP_Servers`, to which relay agents send that are told no server.
const SITE_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

/// Bound to the group: what comes to an address of ours alone is not heard (RFC 8415 §16), and no server for other links
/// is in the way. Needs CAP_NET_BIND_SERVICE, and the link.
///
/// # Errors
///
/// Also that another server has the group on this link.
pub fn dhcp6(interface: &IfName, index: u32, off: &'static str) -> Result<UdpSocket, Error> {
    named(interface, off, group(interface, index, ALL_SERVERS))
}

/// What clients and relay agents of a link send.
#[derive(Debug)]
pub struct Dhcp6([UdpSocket; 3]);

impl Dhcp6 {
    /// Which of them hears what is sent to our address alone.
    pub const OURS: usize = 2;

    /// Of both groups, and of our address.
    pub fn each(&self) -> [&UdpSocket; 3] {
        self.0.each_ref()
    }
}

/// As of [`dhcp6`], and by unicast to `ours` as well, which relay agents may be told: whose a datagram is tells the socket.
///
/// # Errors
///
/// As of [`dhcp6`].
pub fn dhcp6_of_link(
    interface: &IfName,
    index: u32,
    ours: Ipv6Addr,
    off: &'static str,
) -> Result<Dhcp6, Error> {
    let bound = || -> io::Result<Dhcp6> {
        let all = group(interface, index, ALL_SERVERS)?;
        let site = group(interface, index, SITE_SERVERS)?;
        let own = socket(interface)?;
        // Before the address is there, too.
        own.set_freebind_v6(true)?;
        own.bind(&SocketAddrV6::new(ours, DHCP6_SERVER, 0, 0).into())?;
        Ok(Dhcp6([all, site, UdpSocket::from_std(own.into())?]))
    };
    named(interface, off, bound())
}

fn named<T>(interface: &IfName, off: &'static str, bound: io::Result<T>) -> Result<T, Error> {
    let what = "DHCPv6, port 547/udp";
    bound.map_err(|source| Error::Bind { what, place: interface.to_string(), off, source })
}

fn socket(interface: &IfName) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind_device(Some(interface.as_str().as_bytes()))?;
    let_requests_wait(&socket);
    let_answers_wait(&socket);
    Ok(socket)
}

fn group(interface: &IfName, index: u32, group: Ipv6Addr) -> io::Result<UdpSocket> {
    let socket = socket(interface)?;
    socket.bind(&SocketAddrV6::new(group, DHCP6_SERVER, 0, index).into())?;
    socket.join_multicast_v6(&group, index)?;
    UdpSocket::from_std(socket.into())
}
