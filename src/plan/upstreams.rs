//! Which servers questions are forwarded to, and what is said of those that are not asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use crate::facts::{NameServer, Resolver};

/// Never ourselves: the question would come back for ever.
pub fn upstreams(nameservers: &[NameServer], ours: Ipv4Addr) -> Vec<NameServer> {
    nameservers.iter().copied().filter(|server| server.address != IpAddr::V4(ours)).collect()
}

/// Addresses and ports of name servers, in their order.
pub fn sockets(servers: &[NameServer]) -> Vec<SocketAddr> {
    let socket = |server: &NameServer| match server.address {
        IpAddr::V4(address) => SocketAddr::from((address, 53)),
        IpAddr::V6(address) => SocketAddrV6::new(address, 53, 0, server.scope).into(),
    };
    servers.iter().map(socket).collect()
}

/// Words of `resolv.conf` that are not used, each with why.
pub fn skipped(resolver: &Resolver, ours: Ipv4Addr, whose: &str) -> Vec<String> {
    let mut words = resolver.skipped.clone();
    if resolver.nameservers.iter().any(|server| server.address == IpAddr::V4(ours)) {
        words.push(format!("\"{ours}\": {whose}"));
    }
    words
}

/// One line for all of them; what it means when no server `is_left`. None: there is nothing to say.
pub fn note(file: &Path, words: &[String], is_left: bool, whose: &str) -> Option<String> {
    let words = words.join("; ");
    if is_left {
        return (!words.is_empty()).then(|| format!("resolv.conf: {words}, skipped"));
    }
    let words = if words.is_empty() { words } else { format!(" ({words})") };
    Some(format!(
        "{} names no server that can be asked{words}: {whose} are not resolved until it does; it is read again when it \
         changes",
        file.display()
    ))
}
