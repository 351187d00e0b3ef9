//! `berth serve`: what was asked for, on the interface as it is, as settings of the DHCP and DNS cores.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::guest::{GuestPlan, upstreams};
use crate::config::serve::{Aaaa, BootFor, Relayed, Reserve, ServeOptions, Span, Whose};
use crate::facts::{Interface, Resolver};
use crate::net::{IfName, Ipv4Prefix, MacAddr};
use crate::proto::dhcp4::{
    Addresses, Boot, BootClient, LeaseTime, Limits, OptionError, Parameters, Reservation, ReservedFor,
    Settings, Subnet, encode,
};
use crate::proto::dns;
use crate::proto::leases::Range;

/// Leases remembered beyond the addresses that are given away: those of clients of an earlier range.
const SPARE_LEASES: usize = 4096;
/// More addresses than this are not one server's.
const MOST_ADDRESSES: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} has no IPv4 address: give it one, or say which subnet to serve with --address")]
    NoAddress(IfName),
    #[error("nothing to serve: --no-dhcp and --no-dns leave nothing")]
    Nothing,
    #[error("--range {}-{} is not within {network}: --address says which network is served", .span.first, .span.last)]
    Outside { span: Span, network: Ipv4Prefix },
    #[error("--reserve {0} is not within any network that is served")]
    ReservedOutside(Ipv4Addr),
    #[error("--reserve says {0} twice: one address, one client")]
    ReservedTwice(Ipv4Addr),
    #[error("neither --range nor --reserve: there are no addresses to give away (--no-dhcp for DNS alone)")]
    NoAddresses,
    #[error("more than {MOST_ADDRESSES} addresses in all ranges")]
    TooMany,
    #[error("the lease times do not fit: --least-lease-time up to --lease-time up to --most-lease-time")]
    LeaseTime,
    #[error("--option")]
    Option(#[from] OptionError),
}

/// What is served on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServePlan {
    pub interface: IfName,
    /// Replies come from here.
    pub mac: MacAddr,
    pub address: Ipv4Prefix,
    pub dhcp: Option<DhcpPlan>,
    pub dns: Option<DnsPlan>,
}

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsPlan {
    /// Where questions are taken.
    pub address: Ipv4Addr,
    /// As of now.
    pub settings: dns::Settings,
    /// Read again when it changes.
    pub resolv_conf: PathBuf,
    /// Name servers stay those of `settings`, whatever the file says.
    pub fixed_upstreams: bool,
    /// So do the search domains.
    pub fixed_search: bool,
}

impl DnsPlan {
    /// For the one guest of `berth run`.
    pub fn one_guest(plan: &GuestPlan) -> Self {
        let settings = dns::Settings {
            hostname: plan.hostname.clone(),
            guest: plan.address.address,
            gateway: plan.gateway,
            upstreams: servers(&plan.upstreams),
            search: plan.search.clone(),
            ndots: plan.ndots,
            hosts: Vec::new(),
            domain: None,
            networks: Vec::new(),
            aaaa: true,
        };
        let (fixed_upstreams, fixed_search) = (false, false);
        Self {
            address: plan.gateway,
            settings,
            resolv_conf: plan.resolv_conf.clone(),
            fixed_upstreams,
            fixed_search,
        }
    }

    /// The settings after `resolv_conf` has become this.
    pub fn settings(&self, resolver: &Resolver) -> dns::Settings {
        let mut settings = self.settings.clone();
        if !self.fixed_upstreams {
            settings.upstreams = servers(&upstreams(&resolver.nameservers, self.address));
        }
        if !self.fixed_search {
            settings.search.clone_from(&resolver.search);
            settings.ndots = resolver.ndots;
        }
        settings
    }
}

fn servers(addresses: &[IpAddr]) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::new(*address, 53)).collect()
}

/// Decides everything; touches nothing.
pub fn plan(options: &ServeOptions, interface: &Interface, resolver: &Resolver) -> Result<ServePlan, Error> {
    let address = options.address.or(interface.addresses.first().copied());
    let address = address.ok_or_else(|| Error::NoAddress(interface.name.clone()))?;
    if options.no_dhcp && options.no_dns {
        return Err(Error::Nothing);
    }
    let dhcp = if options.no_dhcp { None } else { Some(dhcp(options, interface, address)?) };
    let dns = (!options.no_dns).then(|| dns(options, address, resolver));
    Ok(ServePlan { interface: interface.name.clone(), mac: interface.mac, address, dhcp, dns })
}

fn dhcp(options: &ServeOptions, interface: &Interface, address: Ipv4Prefix) -> Result<DhcpPlan, Error> {
    let lease = lease_time(options)?;
    let parameters = parameters(options, interface, address)?;
    let inside = |span: &&Span| !(address.contains(span.first) && address.contains(span.last));
    if let Some(span) = options.range.iter().find(inside) {
        return Err(Error::Outside { span: *span, network: address });
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
        if !(relayed.network.contains(relayed.span.first) && relayed.network.contains(relayed.span.last)) {
            return Err(Error::Outside { span: relayed.span, network: relayed.network });
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
    let reservations = reservations(options, &subnets)?;
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
    Ok(DhcpPlan { settings, lease_file: Some(options.lease_file.clone()), sync: options.lease_sync, limit })
}

fn lease_time(options: &ServeOptions) -> Result<LeaseTime, Error> {
    let usual = options.lease_time;
    let (least, most) = (options.least_lease_time.min(usual), options.most_lease_time.unwrap_or(usual));
    if usual > most { Err(Error::LeaseTime) } else { Ok(LeaseTime { usual, least, most }) }
}

fn parameters(
    options: &ServeOptions,
    interface: &Interface,
    address: Ipv4Prefix,
) -> Result<Parameters, Error> {
    let router = options.router.map_or(Some(address.address), |router| router.0);
    let ours = || if options.no_dns { Vec::new() } else { vec![address.address] };
    let dns = if options.dns.is_empty() { ours() } else { options.dns.clone() };
    let mut others = BTreeMap::new();
    for option in &options.options {
        others.insert(option.code, encode(option.code, &option.words)?);
    }
    let boot = options.boot_file.iter().map(|boot| Boot {
        client: match boot.client {
            BootFor::Any => BootClient::Any,
            BootFor::Architecture(number) => BootClient::Architecture(number),
            BootFor::Ipxe => BootClient::Ipxe,
        },
        file: boot.file.clone(),
    });
    Ok(Parameters {
        router,
        dns,
        domain: options.domain.clone(),
        search: options.search.clone(),
        mtu: u16::try_from(interface.mtu).ok(),
        boot: boot.collect(),
        next_server: options.next_server,
        options: others,
        ..Parameters::default()
    })
}

fn reservations(options: &ServeOptions, subnets: &[Subnet]) -> Result<Vec<Reservation>, Error> {
    if options.range.is_empty() && options.relayed.is_empty() && options.reserve.is_empty() {
        return Err(Error::NoAddresses);
    }
    let mut seen = Vec::new();
    let one = |reserve: &Reserve| {
        if !subnets.iter().any(|subnet| subnet.network.contains(reserve.address)) {
            return Err(Error::ReservedOutside(reserve.address));
        }
        if seen.contains(&reserve.address) {
            return Err(Error::ReservedTwice(reserve.address));
        }
        seen.push(reserve.address);
        let client = match &reserve.whose {
            Whose::Mac(mac) => ReservedFor::Mac(*mac),
            Whose::Id(id) => ReservedFor::ClientId(id.clone()),
        };
        Ok(Reservation { client, address: reserve.address, name: reserve.name.clone() })
    };
    options.reserve.iter().map(one).collect()
}

fn addresses(options: &ServeOptions) -> Result<usize, Error> {
    let relayed = options.relayed.iter().map(|relayed| relayed.span);
    let spans = options.range.iter().copied().chain(relayed);
    let count = |span: Span| u64::from(span.last.to_bits() - span.first.to_bits()) + 1;
    let all = usize::try_from(spans.map(count).sum::<u64>()).unwrap_or(usize::MAX);
    if all > MOST_ADDRESSES { Err(Error::TooMany) } else { Ok(all + options.reserve.len() + SPARE_LEASES) }
}

fn range(span: Span) -> Range {
    Range { first: span.first, last: span.last }
}

fn dns(options: &ServeOptions, network: Ipv4Prefix, resolver: &Resolver) -> DnsPlan {
    let address = network.address;
    let told = options.upstream.iter().map(|upstream| upstream.0);
    // Ourselves would be asked for ever.
    let told = told.filter(|server| *server != SocketAddr::new(address.into(), 53)).collect();
    let reserved = options
        .reserve
        .iter()
        .filter_map(|reserve| Some((reserve.name.as_deref()?.to_lowercase(), IpAddr::from(reserve.address))));
    let hosts = options.host.iter().map(|host| (host.name.clone(), host.address)).chain(reserved);
    let settings = dns::Settings {
        hostname: String::new(),
        guest: address,
        gateway: address,
        upstreams: told,
        search: options.search.clone(),
        ndots: 1,
        hosts: hosts.collect(),
        domain: options.domain.as_ref().map(|domain| domain.trim_matches('.').to_lowercase()),
        networks: [network]
            .into_iter()
            .chain(options.relayed.iter().map(|relayed| relayed.network))
            .collect(),
        aaaa: options.aaaa == Aaaa::Pass,
    };
    let mut plan = DnsPlan {
        address,
        settings,
        resolv_conf: options.resolv_conf.clone(),
        fixed_upstreams: !options.upstream.is_empty(),
        // Several clients have search lists of their own: by DHCP.
        fixed_search: true,
    };
    plan.settings = plan.settings(resolver);
    plan
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        options: ServeOptions,
    }

    fn planned(words: &str) -> Result<ServePlan, Error> {
        let words = ["serve", "--interface", "eth1"].into_iter().chain(words.split_whitespace());
        let options = Words::try_parse_from(words).unwrap().options;
        let interface = Interface {
            name: "eth1".parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
        };
        let resolver = Resolver::parse(b"nameserver 10.0.0.1\nnameserver 9.9.9.9\n");
        plan(&options, &interface, &resolver)
    }

    #[test]
    fn a_range_is_served_from_the_interfaces_address() {
        let found = planned("--range 10.0.0.10,10.0.0.20").unwrap();
        let dhcp = found.dhcp.unwrap();
        let subnet = &dhcp.settings.subnets[0];
        assert_eq!(subnet.server, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(subnet.parameters.router, Some(subnet.server));
        assert_eq!(subnet.parameters.dns, [subnet.server]);
        assert_eq!(dhcp.limit, 11 + SPARE_LEASES);
        // Never ourselves: the question would come back for ever.
        assert_eq!(found.dns.unwrap().settings.upstreams, ["9.9.9.9:53".parse().unwrap()]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |words: &str| planned(words).unwrap_err();
        assert!(matches!(refused("--range 10.0.1.10,10.0.1.20"), Error::Outside { .. }));
        assert!(matches!(refused("--range 10.0.0.10,10.0.1.20"), Error::Outside { .. }));
        assert_eq!(refused(""), Error::NoAddresses);
        assert_eq!(refused("--no-dhcp --no-dns"), Error::Nothing);
        let twice = "--reserve 52:54:00:00:00:01,10.0.0.5 --reserve 52:54:00:00:00:02,10.0.0.5";
        assert_eq!(refused(twice), Error::ReservedTwice(Ipv4Addr::new(10, 0, 0, 5)));
        let outside = "--reserve 52:54:00:00:00:01,10.9.0.5";
        assert_eq!(refused(outside), Error::ReservedOutside(Ipv4Addr::new(10, 9, 0, 5)));
        assert!(matches!(refused("--range 10.0.0.2,10.0.0.3 --option 51=9"), Error::Option(_)));
        assert_eq!(refused("--range 10.0.0.2,10.0.0.3 --most-lease-time 60"), Error::LeaseTime);
        let all = "--address 10.0.0.1/8 --range 10.0.0.2,10.200.0.0";
        assert_eq!(refused(all), Error::TooMany);
    }
}
