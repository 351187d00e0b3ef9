//! `berth serve`: what was asked for, on the interface as it is, as settings of the DHCP and DNS cores.

mod addresses;
mod dns;
mod error;
mod mistakes;
mod networks;
mod options;
mod servers;
mod six;

use std::path::PathBuf;
use std::time::Duration;

pub use dns::DnsPlan;
pub use error::Error;
pub use mistakes::mistakes;

use crate::config::serve::{BootFor, Relayed, ServeOptions, Span};
use crate::facts::{Interface, Resolver};
use crate::net::{DomainName, IfName, Ipv4Prefix, Ipv6Prefix, MacAddr};
use crate::proto::dhcp4::{
    Addresses, Boot, BootClient, LeaseTime, Limits, Parameters, Settings, Subnet,
};
use crate::proto::dhcp6;
use crate::proto::leases::Range;
use crate::proto::ndp::Advertisement;

/// Leases remembered beyond the addresses that are given away: those of clients of an earlier range.
const SPARE_LEASES: usize = 4096;
/// What a client may ask for at least unless told otherwise. Seconds.
const MIN_LEASE_TIME: u32 = 60;
/// More addresses than this are not one server's.
const MAX_ADDRESSES: usize = 1 << 20;

/// What is served on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServePlan {
    pub interface: IfName,
    /// Replies come from here.
    pub mac: MacAddr,
    /// Octets.
    pub mtu: u32,
    /// None: a link with IPv6 alone.
    pub address: Option<Ipv4Prefix>,
    pub address6: Option<Ipv6Prefix>,
    pub dhcp: Option<DhcpPlan>,
    pub dhcp6: Option<Dhcp6Plan>,
    pub router: Option<Advertisement>,
    pub dns: Option<DnsPlan>,
    /// Where leases are kept, now or once there is an address to serve from.
    pub leases: Option<LeasesPlan>,
    /// What DNS reads, now or then.
    pub resolv_conf: Option<PathBuf>,
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

/// The same of DHCPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp6Plan {
    pub settings: dhcp6::Settings,
    pub limit: usize,
}

/// Where leases are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasesPlan {
    pub file: PathBuf,
    pub sync: bool,
    /// Whether those of IPv6 are among them.
    pub ipv6: bool,
}

/// Decides everything; touches nothing.
pub fn plan(
    options: &ServeOptions,
    interface: &Interface,
    resolver: &Resolver,
) -> Result<ServePlan, Error> {
    let is_alone = six::is_alone(options);
    let address = options.address.or(interface.addresses.first().copied());
    if address.is_none() && !is_alone {
        return Err(Error::NoAddress(interface.name.clone()));
    }
    if options.no_dhcp && options.no_dns && !six::advertises(options) {
        return Err(Error::Nothing);
    }
    let end = |told: Ipv4Prefix| Some((told, addresses::end_of(told, told.address)?));
    if let Some((told, what)) = options.address.and_then(end) {
        return Err(Error::Address(told, what));
    }
    let mut notes = Vec::new();
    let dhcp = match address {
        Some(address) if !options.no_dhcp && !is_alone => {
            Some(dhcp(options, interface, address, &mut notes)?)
        }
        _ => None,
    };
    let six = six::plan(options, interface, &mut notes)?;
    let address6 = six.as_ref().map(|six| six.address);
    let (dhcp6, router) = six.map_or((None, None), |six| (six.dhcp, six.router));
    let has_dns = !options.no_dns && (address.is_some() || address6.is_some());
    let dns = if has_dns { Some(dns::plan(options, address, address6, resolver)?) } else { None };
    let (name, mac, mtu) = (interface.name.clone(), interface.mac, interface.mtu);
    let ipv6 = six::serves_dhcp(options);
    let leases = (dhcp.is_some() || ipv6).then(|| LeasesPlan {
        file: options.lease_file.clone(),
        sync: options.lease_sync,
        ipv6,
    });
    let resolv_conf = (!options.no_dns).then(|| options.resolv_conf.clone());
    Ok(ServePlan {
        interface: name,
        mac,
        mtu,
        address,
        address6,
        dhcp,
        dhcp6,
        router,
        dns,
        leases,
        resolv_conf,
        notes,
    })
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
