//! Port 53 of the gateway's IPv6 address. Its client is the one guest, a neighbour that nobody has to ask for: what is sent
//! waits for no one.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::{DNS, Error, TCP_ANSWERS, TCP_QUESTIONS, let_answers_wait, let_requests_wait};
use crate::net::IfName;

/// DNS's two ways.
#[derive(Debug)]
pub struct Dns6 {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

/// As of [`super::dns`].
///
/// # Errors
///
/// Also that something else serves there.
pub fn dns6(interface: &IfName, gateway: Ipv6Addr, off: &'static str) -> Result<Dns6, Error> {
    let socket = |kind: Type, protocol| -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, kind.nonblocking(), Some(protocol))?;
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
        socket.bind_device(Some(interface.as_str().as_bytes()))?;
        Ok(socket)
    };
    let address = SocketAddr::from(SocketAddrV6::new(gateway, DNS, 0, 0)).into();
    let bound = || -> io::Result<Dns6> {
        let udp = socket(Type::DGRAM, Protocol::UDP)?;
        let_requests_wait(&udp);
        let_answers_wait(&udp);
        udp.bind(&address)?;
        let tcp = socket(Type::STREAM, Protocol::TCP)?;
        tcp.set_reuse_address(true)?;
        tcp.set_send_buffer_size(TCP_ANSWERS)?;
        tcp.set_recv_buffer_size(TCP_QUESTIONS)?;
        tcp.bind(&address)?;
        tcp.listen(64)?;
        let (udp, tcp) = (UdpSocket::from_std(udp.into())?, TcpListener::from_std(tcp.into())?);
        Ok(Dns6 { udp, tcp })
    };
    let (what, place) = ("DNS, port 53", gateway.to_string());
    bound().map_err(|source| Error::Bind { what, place, off, source })
}
