//! IPv6 of `berth serve`: DHCPv6, and router advertisements.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Dhcp6Plan, Error, SPARE_LEASES, lease_time, once_each};
use crate::config::serve::{
    Host, Relayed6, Reserve6, Router6, RouterAdvertisements, ServeOptions, Span6, Whose,
};
use crate::facts::Interface;
use crate::net::{DomainName, Ipv6Prefix};
use crate::proto::dhcp6::{
    Boot, Duid, LeaseTime, Limits, Parameters, Pool, Reservation, ReservedFor, Responder, Settings,
    Subnet,
};
use crate::proto::leases::Range;
use crate::proto::ndp::{self, Advertisement};

/// IPv6 addresses that are remembered at once, however many a range has: some 300 octets each.
const MAX_LEASES: u128 = 1 << 17;
/// MinRtrAdvInterval to MaxRtrAdvInterval (RFC 4861 §6.2.1), and three of the longest (AdvDefaultLifetime).
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(200)..=Duration::from_secs(600);
const ROUTER_LIFETIME: u16 = 1800;
/// Of prefixes, seconds: a host forgets one that is gone soon enough (RFC 9096 §3.4).
const PREFERRED: u32 = 2700;
const VALID: u32 = 5400;
/// The least that a link of IPv6 carries (RFC 8200 §5).
const MIN_MTU: u32 = 1280;

/// What is served of IPv6.
#[derive(Debug)]
pub(super) struct SixPlan {
    pub address: Ipv6Prefix,
    pub dhcp: Option<Dhcp6Plan>,
    pub router: Option<Advertisement>,
}

/// Whether there are addresses to give away, or options to tell.
fn has_addresses(options: &ServeOptions) -> bool {
    !(options.range6.is_empty() && options.reserve6.is_empty() && options.relayed6.is_empty())
}

fn policy(options: &ServeOptions) -> RouterAdvertisements {
    let on_link = !(options.range6.is_empty() && options.reserve6.is_empty());
    let usual = if on_link && !options.no_dhcp {
        RouterAdvertisements::On
    } else {
        RouterAdvertisements::Off
    };
    options.router_advertisements.unwrap_or(usual)
}

/// Whether router advertisements are wanted.
pub(super) fn advertises(options: &ServeOptions) -> bool {
    policy(options) != RouterAdvertisements::Off
}

fn is_wanted(options: &ServeOptions) -> bool {
    options.address6.is_some() || has_addresses(options) || advertises(options)
}

/// Whether nothing of DHCPv4 is asked for: it may be a link with IPv6 alone.
pub(super) fn is_alone(options: &ServeOptions) -> bool {
    is_wanted(options)
        && options.range.is_empty()
        && options.reserve.is_empty()
        && options.relayed.is_empty()
}

/// None: not asked for, or not now, which a note says.
pub(super) fn plan(
    options: &ServeOptions,
    interface: &Interface,
    notes: &mut Vec<String>,
) -> Result<Option<SixPlan>, Error> {
    if !is_wanted(options) {
        let unused = [
            ("--dns6", !options.dns6.is_empty()),
            ("--boot-file6", options.boot_file6.is_some()),
            ("--router6", options.router6 != Router6::Ours),
        ];
        let unused = unused.iter().find(|(_, said)| *said);
        return unused.map_or(Ok(None), |(flag, _)| Err(Error::NoIpv6(flag)));
    }
    let Some(address) = address(options, interface, notes) else { return Ok(None) };
    let dhcp = match serves_dhcp(options) {
        true => Some(dhcp(options, interface, address, notes)?),
        false => None,
    };
    let router = router(options, interface, address, notes)?;
    Ok(Some(SixPlan { address, dhcp, router }))
}

/// Whether DHCPv6 is served, once there is an address to serve from.
pub(super) fn serves_dhcp(options: &ServeOptions) -> bool {
    let policy = policy(options);
    let told = matches!(policy, RouterAdvertisements::Stateless | RouterAdvertisements::Slaac);
    !options.no_dhcp && (has_addresses(options) || told)
}

/// Ours, while the link has it.
fn address(
    options: &ServeOptions,
    interface: &Interface,
    notes: &mut Vec<String>,
) -> Option<Ipv6Prefix> {
    let has =
        |wanted: &Ipv6Prefix| interface.addresses6.iter().any(|it| it.address == wanted.address);
    match options.address6 {
        Some(wanted) if has(&wanted) => Some(wanted),
        Some(wanted) => {
            notes.push(format!("the interface does not have {wanted} (--address6): IPv6 is not served until it does"));
            None
        }
        None => {
            let first = interface.addresses6.first().copied();
            if first.is_none() {
                notes.push("the interface has no IPv6 address but link-local ones: IPv6 is not served until it has one".to_owned());
            }
            first
        }
    }
}

fn dhcp(
    options: &ServeOptions,
    interface: &Interface,
    address: Ipv6Prefix,
    notes: &mut Vec<String>,
) -> Result<Dhcp6Plan, Error> {
    let subnets = subnets(options, address)?;
    let reservations = reservations(options, &subnets)?;
    for (span, subnet) in spans(options).zip(networks(options, &subnets)) {
        let kept: Vec<String> = taken_within(span, subnet);
        if !kept.is_empty() {
            notes.push(format!("{span}: {} will not be assigned", kept.join(", ")));
        }
    }
    let all = spans(options).map(|span| span.last.to_bits() - span.first.to_bits());
    let all = all.fold(0_u128, |all, count| all.saturating_add(count).saturating_add(1));
    let limit = usize::try_from(all.min(MAX_LEASES)).unwrap_or(usize::MAX);
    let pool = Pool {
        subnets,
        reservations,
        authoritative: !options.not_authoritative,
        offer_hold: Duration::from_secs(options.offer_hold),
        quarantine: Duration::from_secs(options.quarantine),
        limits: Limits { per_client: options.client_rate, total: options.rate },
    };
    let boot = options.boot_file6.clone().map(|url| Boot { url, parameters: Vec::new() });
    let parameters = Parameters {
        dns: servers(options, address),
        search: search(options),
        domain: options.domain.clone(),
        boot,
        ..Parameters::default()
    };
    let settings = Settings {
        parameters,
        rapid_commit: options.rapid_commit,
        ..Settings::pool(Duid::stable(interface.mac), pool)
    };
    Responder::new(settings.clone())?;
    Ok(Dhcp6Plan { settings, limit: limit + options.reserve6.len() + SPARE_LEASES })
}

fn spans(options: &ServeOptions) -> impl Iterator<Item = Span6> {
    options.range6.iter().copied().chain(options.relayed6.iter().map(|relayed| relayed.span))
}

/// That of each span.
fn networks<'s>(options: &ServeOptions, subnets: &'s [Subnet]) -> impl Iterator<Item = &'s Subnet> {
    let ours = subnets.iter().cycle().take(usize::from(!subnets.is_empty()));
    ours.cycle().take(options.range6.len()).chain(subnets.iter().skip(1))
}

fn subnets(options: &ServeOptions, address: Ipv6Prefix) -> Result<Vec<Subnet>, Error> {
    let LeaseTime { default, min, max } = lease_time(options)?;
    let lease = LeaseTime { default, min, max };
    let is_inside = |span: &Span6, network: Ipv6Prefix| {
        network.contains(span.first) && network.contains(span.last)
    };
    if let Some(span) = options.range6.iter().find(|span| !is_inside(span, address)) {
        return Err(Error::Outside6(*span, address));
    }
    let range = |span: &Span6| Range { first: span.first, last: span.last };
    let ranges = options.range6.iter().map(range).collect();
    let mut all = vec![Subnet { network: address, server: Some(address.address), ranges, lease }];
    for Relayed6 { network, span } in &options.relayed6 {
        if !is_inside(span, *network) {
            return Err(Error::RelayedOutside6(*network, *span));
        }
        let overlaps = |other: &&Subnet| {
            other.network.contains(network.network()) || network.contains(other.network.network())
        };
        if let Some(other) = all.iter().find(overlaps) {
            return Err(Error::Overlap6(*network, other.network));
        }
        all.push(Subnet { network: *network, server: None, ranges: vec![range(span)], lease });
    }
    Ok(all)
}

/// What an address is that no client of its network can have.
fn taken(subnet: &Subnet, address: Ipv6Addr) -> Option<&'static str> {
    if Some(address) == subnet.server {
        Some("our own address")
    } else if subnet.network.length < 127 && address == subnet.network.network() {
        // RFC 4291 §2.6.1, RFC 6164.
        Some("every router's address (subnet-router anycast)")
    } else {
        None
    }
}

fn taken_within(span: Span6, subnet: &Subnet) -> Vec<String> {
    let special = [subnet.server, Some(subnet.network.network())];
    let inside = special.into_iter().flatten().filter(|it| (span.first..=span.last).contains(it));
    let mut all: Vec<Ipv6Addr> = inside.collect();
    all.dedup();
    all.into_iter()
        .filter_map(|address| Some(format!("{address} ({})", taken(subnet, address)?)))
        .collect()
}

/// One address, one client, one name.
fn reservations(options: &ServeOptions, subnets: &[Subnet]) -> Result<Vec<Reservation>, Error> {
    let mut seen: Vec<(&Reserve6, Ipv6Prefix)> = Vec::new();
    for reserve in &options.reserve6 {
        let address = reserve.address;
        let subnet = subnets.iter().find(|subnet| subnet.network.contains(address));
        let subnet = subnet.ok_or(Error::ReservedOutside6(address))?;
        if let Some(what) = taken(subnet, address) {
            return Err(Error::ReservedTaken6(address, what));
        }
        for (other, network) in &seen {
            let addresses = [other.address, address];
            let same_client = other.whose == reserve.whose;
            if other.address == address {
                return Err(Error::ReservedTwice6(address));
            }
            if same_client && *network == subnet.network {
                return Err(Error::ClientTwice6 { client: reserve.whose.to_string(), addresses });
            }
            if let Some(name) = reserve.name.as_ref().filter(|_| !same_client)
                && other.name.as_ref() == Some(name)
            {
                return Err(Error::NameTwice6 { name: name.to_string(), addresses });
            }
        }
        seen.push((reserve, subnet.network));
    }
    let reservation = |reserve: &Reserve6| {
        let client = match &reserve.whose {
            Whose::Mac(mac) => ReservedFor::Mac(*mac),
            Whose::Id(duid) => ReservedFor::Duid(Duid::new(duid)?),
        };
        let name = reserve.name.as_ref().map(DomainName::to_string);
        Some(Reservation { client, address: reserve.address, name })
    };
    Ok(options.reserve6.iter().filter_map(reservation).collect())
}

/// A name that `--host` has too is the client's there as well.
pub(super) fn names(options: &ServeOptions) -> Result<(), Error> {
    for reserve in &options.reserve6 {
        let Some(name) = reserve.name.as_ref().map(DomainName::as_str) else { continue };
        let full = options.domain.as_ref().map(|domain| format!("{name}.{domain}"));
        let same = |host: &&Host| {
            !host.below && [Some(name), full.as_deref()].contains(&Some(host.name.as_str()))
        };
        let addresses = options.host.iter().filter(same).filter_map(|host| match host.address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        });
        let all: Vec<Ipv6Addr> = addresses.collect();
        if let Some(&host) = all.first().filter(|_| !all.contains(&reserve.address)) {
            let (name, reserved) = (name.to_owned(), reserve.address);
            return Err(Error::NameElsewhere6 { name, reserved, host });
        }
    }
    Ok(())
}

fn servers(options: &ServeOptions, address: Ipv6Prefix) -> Vec<Ipv6Addr> {
    let ours = || if options.no_dns { Vec::new() } else { vec![address.address] };
    if options.dns6.is_empty() { ours() } else { once_each(options.dns6.iter().copied()) }
}

/// There is one list of domains in IPv6, and no domain beside it.
fn search(options: &ServeOptions) -> Vec<DomainName> {
    let domain = options.domain.iter().filter(|_| options.search.is_empty());
    once_each(options.search.iter().chain(domain).cloned())
}

fn router(
    options: &ServeOptions,
    interface: &Interface,
    address: Ipv6Prefix,
    notes: &mut Vec<String>,
) -> Result<Option<Advertisement>, Error> {
    let policy = policy(options);
    let (managed, autonomous, word) = match policy {
        RouterAdvertisements::Off => return Ok(None),
        RouterAdvertisements::On => (true, false, "on"),
        RouterAdvertisements::Stateless => (false, true, "stateless"),
        RouterAdvertisements::Slaac => (true, true, "slaac"),
    };
    if autonomous && address.length != 64 {
        return Err(Error::Autonomous(address, word));
    }
    let Some(link_local) = interface.link_local else {
        notes.push(
            "the interface has no link-local address: no router advertisements until it has one"
                .to_owned(),
        );
        return Ok(None);
    };
    let (network, length) = (address.network(), address.length);
    let prefix = ndp::Prefix {
        network,
        length,
        on_link: true,
        autonomous,
        valid: VALID,
        preferred: PREFERRED,
    };
    let has_pool = !options.no_dhcp && has_addresses(options);
    let settings = ndp::Settings {
        mac: interface.mac,
        address: link_local,
        managed: managed && has_pool,
        other: serves_dhcp(options),
        mtu: Some(interface.mtu).filter(|mtu| *mtu >= MIN_MTU),
        lifetime: if options.router6 == Router6::Ours { ROUTER_LIFETIME } else { 0 },
        prefixes: vec![prefix],
        servers: servers(options, address),
        search: search(options),
        interval: INTERVAL,
    };
    Ok(Some(Advertisement::new(settings)?))
}
