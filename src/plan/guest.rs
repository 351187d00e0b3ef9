//! What the guest is told by DHCP and DNS.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::Serialize;

use super::{LinkPlan, host_name};
use crate::config::{Config, Dns};
use crate::facts::NetFacts;
use crate::net::{IfName, Ipv4Prefix, MacAddr};

/// One guest, one address: the lease is long, and renewing it costs nothing.
const LEASE_SECS: u32 = 86_400;

/// Settings of the responder for one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestPlan {
    /// False: nothing is served (`NO_DHCP`).
    pub serve: bool,
    pub interface: IfName,
    pub mac: MacAddr,
    pub address: Ipv4Prefix,
    pub gateway: Ipv4Addr,
    pub gateway_mac: MacAddr,
    pub hostname: String,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Options 119 and 15.
    pub search: Vec<String>,
    pub mtu: u32,
    pub lease_secs: u32,
    /// Where the responder forwards to.
    pub upstreams: Vec<IpAddr>,
    pub ndots: u8,
    /// Watched for changes.
    pub resolv_conf: PathBuf,
    /// Worth one line in the log at start.
    pub notes: Vec<String>,
}

/// Decides what the guest is told.
pub fn plan(config: &Config, facts: &NetFacts, link: &LinkPlan) -> GuestPlan {
    let network = &config.network;
    let pod: Vec<Ipv4Addr> = facts
        .resolver
        .nameservers
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) if !address.is_loopback() => Some(*address),
            _ => None,
        })
        .collect();
    // A guest that is told nothing resolves nothing: without a name server of the pod's it is told ours.
    let dns = if network.dns == Dns::Pod && !pod.is_empty() { pod } else { vec![network.gateway] };
    let (hostname, note) = host_name::told(config, facts.metadata.as_deref());
    GuestPlan {
        serve: network.serve,
        interface: link.bridge.name.clone(),
        mac: network.mac.unwrap_or_else(|| MacAddr::stable(&config.name, "guest")),
        address: network.vm,
        gateway: network.gateway,
        gateway_mac: link.bridge.mac,
        hostname,
        dns,
        search: facts.resolver.search.clone(),
        mtu: link.bridge.mtu,
        lease_secs: LEASE_SECS,
        upstreams: upstreams(&facts.resolver.nameservers, network.gateway),
        ndots: facts.resolver.ndots,
        resolv_conf: config.paths.resolv_conf.clone(),
        notes: note.into_iter().collect(),
    }
}

/// Words of `resolv.conf` that were skipped; in one with what it means where no name server is left.
pub fn notes(plan: &GuestPlan, facts: &NetFacts) -> Vec<String> {
    let mut words = facts.resolver.skipped.clone();
    if facts.resolver.nameservers.contains(&plan.gateway.into()) {
        words.push(format!("\"{}\": the guest's own gateway", plan.gateway));
    }
    let can_be_asked = |server: &IpAddr| server.is_ipv4() || server.is_loopback() || facts.routing.ipv6;
    if !plan.serve || plan.upstreams.iter().any(can_be_asked) {
        return words.into_iter().map(|word| format!("resolv.conf: {word}, skipped")).collect();
    }
    words.extend(plan.upstreams.iter().map(|server| format!("\"{server}\": the pod has no IPv6 address")));
    let words = if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) };
    let file = plan.resolv_conf.display();
    vec![format!(
        "{file} names no server that can be asked{words}: the guest's names are not resolved until it does; it is read \
         again when it changes"
    )]
}

/// Never ourselves: the question would come back for ever.
pub fn upstreams(nameservers: &[IpAddr], gateway: Ipv4Addr) -> Vec<IpAddr> {
    nameservers.iter().copied().filter(|address| *address != IpAddr::V4(gateway)).collect()
}
