//! `berth serve`: what was asked for, on the interface as it is, as settings of the DHCP and DNS cores.

mod addresses;
mod mistakes;
mod networks;
mod options;
mod servers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

pub use mistakes::mistakes;

use super::guest::GuestPlan;
use super::upstreams::{self, sockets, upstreams};
use crate::config::serve::{Aaaa, BootFor, Relayed, ServeOptions, Span};
use crate::exit::{Code, Coded};
use crate::facts::{Interface, Resolver};
use crate::net::{DomainName, IfName, Ipv4Prefix, MacAddr};
use crate::proto::dhcp4::{
    Addresses, Boot, BootClient, INFINITE, LeaseTime, Limits, OptionError, Parameters, Settings,
    Subnet,
};
use crate::proto::dns;
use crate::proto::leases::Range;

/// Leases remembered beyond the addresses that are given away: those of clients of an earlier range.
const SPARE_LEASES: usize = 4096;
/// What a client may ask for at least unless told otherwise. Seconds.
const MIN_LEASE_TIME: u32 = 60;
/// More addresses than this are not one server's.
const MAX_ADDRESSES: usize = 1 << 20;

/// What `berth serve` refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} has no IPv4 address: give it one, or say which subnet to serve with --address")]
    NoAddress(IfName),
    #[error("nothing to serve: --no-dhcp and --no-dns leave nothing")]
    Nothing,
    #[error("--address {0} is {1}, and no host's")]
    Address(Ipv4Prefix, &'static str),
    #[error("--range {span} is not within {network}: --address says which network is served")]
    Outside { span: Span, network: Ipv4Prefix },
    #[error("--reserve {0} is not within any network that is served")]
    ReservedOutside(Ipv4Addr),
    #[error("--reserve says {0} twice: one address, one client")]
    ReservedTwice(Ipv4Addr),
    #[error("--reserve {address} is {what}: no client can have it")]
    ReservedTaken { address: Ipv4Addr, what: &'static str },
    #[error("--reserve gives {client} {} and {} in one network: one client, one address", .addresses[0], .addresses[1])]
    ClientTwice { client: String, addresses: [Ipv4Addr; 2] },
    #[error("--reserve gives the name {name} to {} and {}: one name, one client", .addresses[0], .addresses[1])]
    NameTwice { name: String, addresses: [Ipv4Addr; 2] },
    #[error(
        "--reserve gives the name {name} to {reserved}, and --host to {host}: say both alike, or one alone"
    )]
    NameElsewhere { name: String, reserved: Ipv4Addr, host: Ipv4Addr },
    #[error(
        "neither --range nor --reserve: there are no addresses to give away (--no-dhcp for DNS alone)"
    )]
    NoAddresses,
    #[error("no address is left to give away: {0}")]
    NothingLeft(String),
    #[error("--relayed {0} is a network that is served already: each may be said once")]
    SameNetwork(Ipv4Prefix),
    #[error(
        "--relayed {network} has our own address {own} in it: its clients would not ask their relay"
    )]
    Behind { network: Ipv4Prefix, own: Ipv4Addr },
    #[error(
        "--relayed {network}: its router {router} is no host of that network, so that no client reaches it"
    )]
    RouterElsewhere { network: Ipv4Prefix, router: Ipv4Addr },
    #[error("the range {}-{} of {network} lies in a smaller network that is served: no address is left in it", .span.first, .span.last)]
    Swallowed { span: Span, network: Ipv4Prefix },
    #[error("more than {MAX_ADDRESSES} addresses in all ranges")]
    TooMany,
    #[error("{} {} is longer than {} {}: min up to default up to max", .0[0].0, secs(.0[0].1), .0[1].0, secs(.0[1].1))]
    LeaseTime([(&'static str, u32); 2]),
    #[error(
        "--upstream names no server that can be asked ({0}): name another, or none for those of resolv.conf"
    )]
    NoUpstream(String),
    #[error("--option")]
    Option(#[from] OptionError),
    #[error("--option {0} is said twice: several values of one option go by comma")]
    OptionTwice(u8),
    #[error("--option {code} and {flag} say the same thing: leave one out")]
    SaidTwice { code: u8, flag: &'static str },
    #[error(
        "--option 33 alone: clients that take 121 do not look at it, say --option 121=NETWORK/LENGTH,ROUTER as well"
    )]
    StaticRoutes,
    #[error(
        "--option 121 and --option 249 differ: they are the same routes for different clients, leave 249 out"
    )]
    RoutesDiffer,
    #[error(
        "--option 121 holds no routes: its octets are those of RFC 3442, or NETWORK/LENGTH,ROUTER pairs"
    )]
    NoRoutes,
    #[error("the default route is by {router}, and by {by} in --option 121: leave one out")]
    TwoDefaults { router: Ipv4Addr, by: Ipv4Addr },
    #[error("the router {router} is {what} of {network}, and no host's: name a host, or none")]
    NoRouter { router: Ipv4Addr, what: &'static str, network: Ipv4Prefix },
    #[error("--boot-file has two files for {0}: {1} and {2}")]
    BootTwice(String, String, String),
}

impl Coded for Error {
    /// Usage where the words are wrong for every pod, whatever its link is.
    fn code(&self) -> Code {
        match self {
            Self::Nothing
            | Self::Address(..)
            | Self::ReservedTwice(_)
            | Self::NameTwice { .. }
            | Self::NameElsewhere { .. }
            | Self::NoAddresses
            | Self::RouterElsewhere { .. }
            | Self::TooMany
            | Self::LeaseTime(_)
            | Self::Option(_)
            | Self::OptionTwice(_)
            | Self::SaidTwice { .. }
            | Self::StaticRoutes
            | Self::RoutesDiffer
            | Self::NoRoutes
            | Self::BootTwice(..) => Code::Usage,
            Self::NoAddress(_)
            | Self::Outside { .. }
            | Self::ReservedOutside(_)
            | Self::ReservedTaken { .. }
            | Self::ClientTwice { .. }
            | Self::NothingLeft(_)
            // It may be the link's own.
            | Self::SameNetwork(_)
            | Self::Behind { .. }
            | Self::Swallowed { .. }
            | Self::NoUpstream(_)
            | Self::TwoDefaults { .. }
            | Self::NoRouter { .. } => Code::Plan,
        }
    }
}

/// What is served on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServePlan {
    pub interface: IfName,
    /// Replies come from here.
    pub mac: MacAddr,
    /// Octets.
    pub mtu: u32,
    pub address: Ipv4Prefix,
    pub dhcp: Option<DhcpPlan>,
    pub dns: Option<DnsPlan>,
    /// What was asked for and is done otherwise: told once.
    pub notes: Vec<String>,
}

/// DHCP's settings, and where leases are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpPlan {
    pub settings: Settings,
    /// None: leases are not kept.
    pub lease_file: Option<PathBuf>,
    /// Wait for the disk before a reply leaves.
    pub sync: bool,
    /// Addresses that may be remembered.
    pub limit: usize,
}

/// DNS' settings, and the resolv.conf they follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsPlan {
    /// Where questions are taken.
    pub address: Ipv4Addr,
    /// And of IPv6, where the guest has it.
    pub address6: Option<Ipv6Addr>,
    /// As of now.
    pub settings: dns::Settings,
    /// Read again when it changes.
    pub resolv_conf: PathBuf,
    /// Name servers stay those of `settings`, whatever the file says.
    pub fixed_upstreams: bool,
    /// So do the search domains.
    pub fixed_search: bool,
    /// Name servers of the user's that are not asked, each with why.
    pub skipped: Vec<String>,
    /// What there is to say of `resolv.conf` at the start was said by the verb.
    pub note_logged: bool,
}

impl DnsPlan {
    /// For the one guest of `berth run`.
    pub fn one_guest(plan: &GuestPlan) -> Self {
        let settings = dns::Settings {
            hostname: plan.hostname.clone(),
            guest: plan.address.address,
            gateway: plan.gateway,
            upstreams: sockets(&plan.upstreams),
            search: plan.search.clone(),
            ndots: plan.ndots,
            hosts: Vec::new(),
            below: Vec::new(),
            domain: None,
            networks: Vec::new(),
            aaaa: true,
        };
        let (fixed_upstreams, fixed_search) = (false, false);
        Self {
            address: plan.gateway,
            address6: plan.ipv6.as_ref().map(|ipv6| ipv6.dns),
            settings,
            resolv_conf: plan.resolv_conf.clone(),
            fixed_upstreams,
            fixed_search,
            skipped: Vec::new(),
            note_logged: true,
        }
    }

    /// Whether `resolv.conf` says anything to us.
    pub(crate) fn reads_resolv_conf(&self) -> bool {
        !(self.fixed_upstreams && self.fixed_search)
    }

    /// What is said of servers that are not asked, once for each `resolver`.
    pub fn note(&self, resolver: &Resolver) -> Option<String> {
        if self.fixed_upstreams {
            let words = self.skipped.join("; ");
            return (!words.is_empty()).then(|| format!("--upstream: {words}, skipped"));
        }
        let (ours, names) = match self.settings.hostname.as_str() {
            "" => ("this server's own address", "names that are not ours"),
            _ => ("the guest's own gateway", "the guest's names"),
        };
        let words = upstreams::skipped(resolver, self.address, ours);
        let is_left = !upstreams(&resolver.nameservers, self.address).is_empty();
        upstreams::note(&self.resolv_conf, &words, is_left, names)
    }

    /// The settings after `resolv_conf` has become this.
    pub fn settings(&self, resolver: &Resolver) -> dns::Settings {
        let mut settings = self.settings.clone();
        if !self.fixed_upstreams {
            settings.upstreams = sockets(&upstreams(&resolver.nameservers, self.address));
        }
        if !self.fixed_search {
            settings.search.clone_from(&resolver.search);
            settings.ndots = resolver.ndots;
        }
        settings
    }
}

/// Decides everything; touches nothing.
pub fn plan(
    options: &ServeOptions,
    interface: &Interface,
    resolver: &Resolver,
) -> Result<ServePlan, Error> {
    let address = options.address.or(interface.addresses.first().copied());
    let address = address.ok_or_else(|| Error::NoAddress(interface.name.clone()))?;
    if options.no_dhcp && options.no_dns {
        return Err(Error::Nothing);
    }
    let end = |told: Ipv4Prefix| Some((told, addresses::end_of(told, told.address)?));
    if let Some((told, what)) = options.address.and_then(end) {
        return Err(Error::Address(told, what));
    }
    let mut notes = Vec::new();
    let dhcp =
        if options.no_dhcp { None } else { Some(dhcp(options, interface, address, &mut notes)?) };
    let dns = if options.no_dns { None } else { Some(dns(options, address, resolver)?) };
    let (mac, mtu) = (interface.mac, interface.mtu);
    Ok(ServePlan { interface: interface.name.clone(), mac, mtu, address, dhcp, dns, notes })
}

fn outside(span: Span, network: Ipv4Prefix) -> Option<Error> {
    let is_inside = network.contains(span.first) && network.contains(span.last);
    (!is_inside).then_some(Error::Outside { span, network })
}

fn dhcp(
    options: &ServeOptions,
    interface: &Interface,
    address: Ipv4Prefix,
    notes: &mut Vec<String>,
) -> Result<DhcpPlan, Error> {
    if options.range.is_empty() && options.relayed.is_empty() && options.reserve.is_empty() {
        return Err(Error::NoAddresses);
    }
    let lease = lease_time(options)?;
    let parameters = parameters(options, interface, address)?;
    notes.extend(networks::check(options, address)?);
    if let Some(error) = options.range.iter().find_map(|span| outside(*span, address)) {
        return Err(error);
    }
    let pool = options.range.iter().map(|span| range(*span)).collect();
    let on_link = Subnet {
        network: address,
        server: address.address,
        relayed: false,
        addresses: Addresses::Pool(pool),
        lease,
        parameters: parameters.clone(),
    };
    let behind = |relayed: &Relayed| {
        if let Some(error) = outside(relayed.span, relayed.network) {
            return Err(error);
        }
        Ok(Subnet {
            network: relayed.network,
            server: address.address,
            relayed: true,
            addresses: Addresses::Pool(vec![range(relayed.span)]),
            lease,
            parameters: Parameters { router: Some(relayed.router), ..parameters.clone() },
        })
    };
    let mut subnets = vec![on_link];
    for relayed in &options.relayed {
        subnets.push(behind(relayed)?);
    }
    options::divide(options, &mut subnets)?;
    addresses::routers(&subnets)?;
    let reservations = addresses::reservations(options, &subnets)?;
    notes.extend(addresses::notes(options, &subnets)?);
    let limit = addresses(options)?;
    let settings = Settings {
        reservations,
        authoritative: !options.not_authoritative,
        offer_hold: Duration::from_secs(options.offer_hold),
        quarantine: Duration::from_secs(options.quarantine),
        rapid_commit: options.rapid_commit,
        bootp: options.bootp,
        subnet_selection: options.subnet_selection,
        probe: options.probe,
        limits: Limits { per_client: options.client_rate, total: options.rate },
        ..Settings::new(subnets)
    };
    let lease_file = Some(options.lease_file.clone());
    Ok(DhcpPlan { settings, lease_file, sync: options.lease_sync, limit })
}

fn lease_time(options: &ServeOptions) -> Result<LeaseTime, Error> {
    let default = options.lease_time;
    let min = options.min_lease_time.unwrap_or(default.min(MIN_LEASE_TIME));
    let max = options.max_lease_time.unwrap_or(default);
    let (min_is, default_is) = (("--min-lease-time", min), ("--lease-time", default));
    let wrong = if min > default {
        Some([min_is, default_is])
    } else {
        (default > max).then_some([default_is, ("--max-lease-time", max)])
    };
    wrong.map_or(Ok(LeaseTime { default, min, max }), |pair| Err(Error::LeaseTime(pair)))
}

fn secs(secs: u32) -> String {
    if secs == INFINITE { "infinite".to_owned() } else { secs.to_string() }
}

fn parameters(
    options: &ServeOptions,
    interface: &Interface,
    address: Ipv4Prefix,
) -> Result<Parameters, Error> {
    let router = options.router.map_or(Some(address.address), |router| router.0);
    let ours = || if options.no_dns { Vec::new() } else { vec![address.address] };
    let dns = if options.dns.is_empty() { ours() } else { options.dns.clone() };
    let mut parameters = Parameters {
        router,
        dns,
        domain: options.domain.as_ref().map(DomainName::to_string),
        search: once_each(options.search.iter().map(DomainName::to_string)),
        mtu: u16::try_from(interface.mtu).ok(),
        boot: boot(options)?,
        next_server: options.next_server,
        ..Parameters::default()
    };
    options::add(options, &mut parameters)?;
    Ok(parameters)
}

/// Each client has one.
fn boot(options: &ServeOptions) -> Result<Vec<Boot>, Error> {
    let mut all: Vec<(BootFor, &str)> = Vec::new();
    for boot in &options.boot_file {
        for client in &boot.clients {
            if let Some((_, other)) = all.iter().find(|(other, _)| other == client) {
                return Err(Error::BootTwice(
                    client.to_string(),
                    (*other).to_owned(),
                    boot.file.clone(),
                ));
            }
            all.push((*client, &boot.file));
        }
    }
    let boot = |(client, file): (BootFor, &str)| Boot {
        client: match client {
            BootFor::Any => BootClient::Any,
            BootFor::Architecture(number) => BootClient::Architecture(number),
            BootFor::Ipxe => BootClient::Ipxe,
        },
        file: file.to_owned(),
    };
    Ok(all.into_iter().map(boot).collect())
}

fn addresses(options: &ServeOptions) -> Result<usize, Error> {
    let relayed = options.relayed.iter().map(|relayed| relayed.span);
    let spans = options.range.iter().copied().chain(relayed);
    let all = usize::try_from(spans.map(Span::count).sum::<u64>()).unwrap_or(usize::MAX);
    if all > MAX_ADDRESSES {
        Err(Error::TooMany)
    } else {
        Ok(all + options.reserve.len() + SPARE_LEASES)
    }
}

fn range(span: Span) -> Range {
    Range { first: span.first, last: span.last }
}

fn dns(options: &ServeOptions, network: Ipv4Prefix, resolver: &Resolver) -> Result<DnsPlan, Error> {
    let address = network.address;
    let (told, skipped) = servers::configured_upstreams(options, address);
    if told.is_empty() && !skipped.is_empty() {
        return Err(Error::NoUpstream(skipped.join("; ")));
    }
    addresses::names(options)?;
    let all = options.host.iter();
    let of = |below| {
        let that = all.clone().filter(move |host| host.below == below);
        that.map(|host| (host.name.to_string(), host.address))
    };
    let reserved = options.reserve.iter();
    let reserved = reserved.filter_map(|reserve| {
        Some((reserve.name.as_ref()?.to_string(), IpAddr::from(reserve.address)))
    });
    let settings = dns::Settings {
        hostname: String::new(),
        guest: address,
        gateway: address,
        upstreams: told,
        search: once_each(options.search.iter().map(DomainName::to_string)),
        ndots: 1,
        hosts: once_each(of(false).chain(reserved)),
        below: once_each(of(true)),
        domain: options.domain.as_ref().map(DomainName::to_string),
        networks: [network]
            .into_iter()
            .chain(options.relayed.iter().map(|relayed| relayed.network))
            .collect(),
        aaaa: options.aaaa == Aaaa::Pass,
    };
    let mut plan = DnsPlan {
        address6: None,
        address,
        settings,
        resolv_conf: options.resolv_conf.clone(),
        fixed_upstreams: !options.upstream.is_empty(),
        // Several clients have search lists of their own: by DHCP.
        fixed_search: true,
        skipped,
        note_logged: false,
    };
    plan.settings = plan.settings(resolver);
    Ok(plan)
}

fn once_each<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

#[cfg(test)]
mod tests;
