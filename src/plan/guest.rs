//! What the guest is told by DHCP and DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::ipv6::{GATEWAY, ROUTER};
use super::{LinkPlan, disk, host_name, link, upstreams};
use crate::config::{Config, Dns, OnStop};
use crate::facts::{NameServer, NetFacts};
use crate::net::{DomainName, IfName, Ipv4Prefix, MacAddr};
use crate::proto::dhcp6::{self, Duid, Lifetimes, Responder};
use crate::proto::ndp::{Advertisement, Settings};

/// One guest, one address: the lease is long, and renewing it costs nothing.
const LEASE_SECS: u32 = 86_400;

/// Of the pod's own address, which may change, and of a guest that may go on in another pod: its MTU and its names may be
/// others there, and it hears of them at its next renewal, after half of this.
const SHORT_LEASE_SECS: u32 = 3600;

/// Settings of the responder for one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestPlan {
    /// False: nothing is served (`NO_DHCP`).
    pub serve: bool,
    pub interface: IfName,
    pub mac: MacAddr,
    pub address: Ipv4Prefix,
    /// What the pod's own stack knows it by, where its address is the pod's own, too.
    pub alias: Option<Ipv4Addr>,
    pub gateway: Ipv4Addr,
    /// False: the pod has no IPv4 address, and behind the gateway there is nobody.
    pub routed: bool,
    pub gateway_mac: MacAddr,
    pub hostname: String,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Options 119 and 15.
    pub search: Vec<String>,
    pub mtu: u32,
    pub lease_secs: u32,
    /// Where the responder forwards to.
    pub upstreams: Vec<NameServer>,
    pub ndots: u8,
    /// What it is told of IPv6; None where it has none.
    #[serde(skip)]
    pub ipv6: Option<GuestIpv6>,
    /// Watched for changes.
    pub resolv_conf: PathBuf,
    /// Worth one line in the log at start.
    pub notes: Vec<String>,
}

/// What the guest is told of IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestIpv6 {
    /// The tap that is berth's own.
    pub control: IfName,
    pub advertisement: Advertisement,
    pub dhcp: dhcp6::Settings,
    /// Where DNS is asked.
    pub dns: Ipv6Addr,
}

/// RFC 4861 §6.2.1: `MinRtrAdvInterval` and `MaxRtrAdvInterval` by default.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(200)..=Duration::from_secs(600);
/// The longest there is (`AdvDefaultLifetime`): a guest goes on while `berth net` is away.
const ROUTER_LIFETIME: u16 = 9000;

/// Seconds: who renews, which is after half of the first, hears of another address of the pod.
const PREFERRED: u32 = 600;
const VALID: u32 = 86_400;

/// Ours, or the pod's own that the guest can ask as well.
fn servers6(config: &Config, facts: &NetFacts) -> Vec<Ipv6Addr> {
    let asked = |server: &NameServer| match server.address {
        IpAddr::V6(address) if server.scope == 0 && !address.is_loopback() => Some(address),
        _ => None,
    };
    match config.network.dns {
        Dns::Gateway => vec![GATEWAY],
        Dns::Pod => facts.resolver.nameservers.iter().filter_map(asked).collect(),
    }
}

/// No prefix: the guest's address is had by DHCPv6, and everybody else is behind the router.
fn ipv6(config: &Config, facts: &NetFacts, link: &LinkPlan) -> Option<GuestIpv6> {
    let six = link.ipv6.guest()?;
    let servers = servers6(config, facts);
    let search: Vec<DomainName> =
        facts.resolver.search.iter().filter_map(|name| name.parse().ok()).collect();
    let mut settings = Settings {
        mac: link.bridge.mac,
        address: ROUTER,
        managed: true,
        other: true,
        mtu: Some(link.bridge.mtu),
        lifetime: ROUTER_LIFETIME,
        prefixes: Vec::new(),
        servers: servers.clone(),
        search: search.clone(),
        interval: INTERVAL,
    };
    // More domains than fit into one are told by DHCP.
    let advertisement = Advertisement::new(settings.clone()).or_else(|_| {
        settings.search.clear();
        Advertisement::new(settings)
    });
    let server = Duid::stable(link.bridge.mac);
    let lifetimes = Lifetimes::of(PREFERRED, VALID);
    let mut dhcp = dhcp6::Settings::one_guest(server, six.addresses, lifetimes);
    dhcp.parameters.dns = servers;
    dhcp.parameters.search = search;
    if Responder::new(dhcp.clone()).is_err() {
        dhcp.parameters.search.clear();
    }
    let advertisement = advertisement.ok()?;
    Some(GuestIpv6 { control: six.control, advertisement, dhcp, dns: GATEWAY })
}

/// Decides what the guest is told.
pub fn plan(config: &Config, facts: &NetFacts, link: &LinkPlan) -> GuestPlan {
    let network = &config.network;
    let pod: Vec<Ipv4Addr> = facts
        .resolver
        .nameservers
        .iter()
        .filter_map(|server| match server.address {
            IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => {
                Some(address)
            }
            _ => None,
        })
        .collect();
    // A guest that is told nothing resolves nothing: without a name server of the pod's it is told ours.
    let dns = if network.dns == Dns::Pod && !pod.is_empty() { pod } else { vec![network.gateway] };
    let own = link.ipv4.own();
    let moves = config.lifecycle.on_stop == OnStop::Suspend;
    let metadata = facts.metadata.as_deref();
    let named = metadata.and_then(|metadata| disk::host_name(config.guest.seed_format, metadata));
    let (hostname, note) = host_name::told(config, named);
    GuestPlan {
        serve: network.serve,
        interface: link.bridge.name.clone(),
        mac: link::guest_mac(config),
        address: own.map_or(network.vm, |own| Ipv4Prefix { address: own.pod, length: 32 }),
        alias: own.map(|own| own.alias),
        gateway: network.gateway,
        routed: facts.uplink.address.is_some(),
        gateway_mac: link.bridge.mac,
        hostname,
        dns,
        search: facts.resolver.search.clone(),
        mtu: link.bridge.mtu,
        lease_secs: if own.is_some() || moves { SHORT_LEASE_SECS } else { LEASE_SECS },
        upstreams: upstreams::upstreams(&facts.resolver.nameservers, network.gateway),
        ndots: facts.resolver.ndots,
        ipv6: ipv6(config, facts, link),
        resolv_conf: config.paths.resolv_conf.clone(),
        notes: note.into_iter().collect(),
    }
}

/// What is said of the words of `resolv.conf` by itself, and what of this pod beside it.
pub fn notes(plan: &GuestPlan, facts: &NetFacts) -> [Option<String>; 2] {
    let mut words = upstreams::skipped(&facts.resolver, plan.gateway, "the guest's own gateway");
    let note = |words: &[String], is_left| {
        upstreams::note(&plan.resolv_conf, words, is_left, "the guest's names")
    };
    if !plan.serve || plan.upstreams.is_empty() {
        return [note(&words, !plan.serve), None];
    }
    let can_be_asked = |server: &NameServer| {
        server.address.is_ipv4()
            || server.address.is_loopback()
            || server.scope != 0
            || facts.routing.ipv6
    };
    if plan.upstreams.iter().any(can_be_asked) {
        return [note(&words, true), None];
    }
    words.extend(
        plan.upstreams.iter().map(|server| format!("\"{server}\": the pod has no IPv6 address")),
    );
    [None, note(&words, false)]
}
