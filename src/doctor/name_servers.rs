//! Each name server is asked something, and whether the way to it carries packets as large as the pod's link does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::faults::{self, Finding};
use crate::plan::GuestPlan;

/// For an answer; with one more try, since a datagram may be lost.
const WITHIN: Duration = Duration::from_millis(900);
const TRIES: usize = 2;
/// How long a router's error is waited for.
const ERROR_WITHIN: Duration = Duration::from_millis(150);
/// Asked at the same time; resolv.conf has three, as a rule.
const MAX_SERVERS: usize = 8;
/// RFC 7830: EDNS(0) padding.
const PADDING: u16 = 12;
/// UDP over IPv4 and IPv6, without options.
const HEADERS: usize = 20 + 8;
const HEADERS6: usize = 40 + 8;

/// Asks those that berth forwards to, within 2 s. `mtu` is of the pod's link.
pub async fn ask(guest: &GuestPlan, mtu: u32) -> Vec<Finding> {
    let sockets = guest.upstreams.iter().take(MAX_SERVERS);
    let sockets = sockets.map(|server| match server.address {
        IpAddr::V4(address) => SocketAddr::from((address, 53)),
        IpAddr::V6(address) => std::net::SocketAddrV6::new(address, 53, 0, server.scope).into(),
    });
    let asked =
        join_all(sockets.map(|server| async move { (server, one(server, mtu).await) })).await;
    let mut findings = Vec::new();
    let silent = asked.iter().filter_map(|(server, asked)| {
        let why = match asked {
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => "no answer in 2 s".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(format!("{server}: {why}"))
    });
    let silent: Vec<String> = silent.collect();
    if !silent.is_empty() {
        findings.push(faults::NAME_SERVER_SILENT.found(silent.join("; ")));
    }
    let narrow = asked.iter().find_map(|(server, asked)| {
        let path = asked.as_ref().ok().copied().flatten()?;
        Some(format!(
            "a router on the way to {server} carries {path} octets, and the pod's link {mtu}"
        ))
    });
    findings.extend(narrow.map(|seen| faults::PATH_MTU.found(seen)));
    findings
}

/// Octets that a packet to it may have, where a router has said that it carries fewer than the route has it.
async fn one(server: SocketAddr, mtu: u32) -> io::Result<Option<u32>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => [0u8; 4].into(),
        SocketAddr::V6(_) => [0u8; 16].into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    if server.is_ipv4() {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
    } else {
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?;
    }
    socket.connect(server).await?;
    let path = || {
        let path =
            if server.is_ipv4() { sockopt::ip_mtu(&socket) } else { sockopt::ipv6_mtu(&socket) };
        path.map_err(io::Error::from)
    };
    let mut last = io::ErrorKind::TimedOut.into();
    for id in 1..=u16::try_from(TRIES).unwrap_or(1) {
        socket.send(&question(id, 0)?).await?;
        let mut answer = [0; 512];
        match timeout(WITHIN, socket.recv(&mut answer)).await {
            Ok(Ok(_)) => {
                let before = path()?;
                let room = usize::try_from(before.min(mtu)).unwrap_or(0);
                let headers = if server.is_ipv4() { HEADERS } else { HEADERS6 };
                // What the kernel knows already refuses it, and says so by itself.
                if socket.send(&question(0x4242, room.saturating_sub(headers))?).await.is_ok() {
                    sleep(ERROR_WITHIN).await;
                }
                return path().map(|after| (after < before).then_some(after));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// For the root's name servers, which every server has something to say about; padded to so many octets.
fn question(id: u16, octets: usize) -> io::Result<Vec<u8>> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::root(), RecordType::NS));
    let bare = message.to_vec().map_err(io::Error::other)?;
    // OPT without options has 11 octets, an option 4 before its own.
    let Some(padding) = octets.checked_sub(bare.len() + 11 + 4) else { return Ok(bare) };
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_version(0);
    edns.options_mut().insert(EdnsOption::Unknown(PADDING, vec![0; padding]));
    message.edns = Some(edns);
    message.to_vec().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_as_long_as_it_is_to_be() {
        let bare = question(7, 0).unwrap();
        assert_eq!(bare, [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]);
        for octets in [500, 1232, 1472, 8972] {
            let padded = question(7, octets).unwrap();
            assert_eq!(padded.len(), octets);
            assert_eq!(Message::from_vec(&padded).unwrap().queries.len(), 1);
        }
    }
}
