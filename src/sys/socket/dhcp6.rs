//! Port 547 of one link, for what is sent to all servers on it.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{Error, let_requests_wait};
use crate::net::IfName;

/// RFC 8415 §7.2.
const DHCP6_SERVER: u16 = 547;
/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415 §7.1).
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Bound to the group: what comes to an address of ours alone is not heard (RFC 8415 §16), and no server for other links
/// is in the way. Needs CAP_NET_BIND_SERVICE, and the link.
///
/// # Errors
///
/// Also that another server has the group on this link.
pub fn dhcp6(interface: &IfName, index: u32, off: &'static str) -> Result<UdpSocket, Error> {
    let bound = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(interface.as_str().as_bytes()))?;
        let_requests_wait(&socket);
        socket.bind(&SocketAddrV6::new(ALL_SERVERS, DHCP6_SERVER, 0, index).into())?;
        socket.join_multicast_v6(&ALL_SERVERS, index)?;
        UdpSocket::from_std(socket.into())
    };
    let what = "DHCPv6, port 547/udp";
    bound().map_err(|source| Error::Bind { what, place: interface.to_string(), off, source })
}
