//! DNS of `berth serve`, and of the one guest: what is answered here, and who is asked for the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::{Error, addresses, once_each, servers, six};
use crate::config::serve::{Aaaa, ServeOptions};
use crate::facts::Resolver;
use crate::net::{DomainName, Ipv4Prefix, Ipv6Prefix};
use crate::plan::guest::GuestPlan;
use crate::plan::upstreams::{self, sockets, upstreams};
use crate::proto::dns;

/// DNS' settings, and the resolv.conf they follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsPlan {
    /// Where questions are taken.
    pub address: Option<Ipv4Addr>,
    /// And of IPv6, where the link has it.
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
            gateway: Some(plan.gateway),
            gateway6: None,
            upstreams: sockets(&plan.upstreams),
            search: plan.search.clone(),
            ndots: plan.ndots,
            hosts: Vec::new(),
            below: Vec::new(),
            domain: None,
            networks: Vec::new(),
            networks6: Vec::new(),
            aaaa: true,
        };
        let (fixed_upstreams, fixed_search) = (false, false);
        Self {
            address: Some(plan.gateway),
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

    fn ours(&self) -> Ipv4Addr {
        self.address.unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    fn is_ours6(&self, resolver: &Resolver, address: Ipv6Addr) -> bool {
        resolver.nameservers.iter().any(|server| server.address == IpAddr::V6(address))
    }

    /// Those that can be asked: not ourselves.
    fn servers(&self, resolver: &Resolver) -> Vec<SocketAddr> {
        let mut servers = sockets(&upstreams(&resolver.nameservers, self.ours()));
        servers.retain(|server| Some(server.ip()) != self.address6.map(IpAddr::V6));
        servers
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
        let mut words = upstreams::skipped(resolver, self.ours(), ours);
        let six = self.address6.filter(|it| self.is_ours6(resolver, *it));
        words.extend(six.map(|address| format!("\"{address}\": {ours}")));
        let is_left = !self.servers(resolver).is_empty();
        upstreams::note(&self.resolv_conf, &words, is_left, names)
    }

    /// The settings after `resolv_conf` has become this.
    pub fn settings(&self, resolver: &Resolver) -> dns::Settings {
        let mut settings = self.settings.clone();
        if !self.fixed_upstreams {
            settings.upstreams = self.servers(resolver);
        }
        if !self.fixed_search {
            settings.search.clone_from(&resolver.search);
            settings.ndots = resolver.ndots;
        }
        settings
    }
}

pub(super) fn plan(
    options: &ServeOptions,
    network: Option<Ipv4Prefix>,
    network6: Option<Ipv6Prefix>,
    resolver: &Resolver,
) -> Result<DnsPlan, Error> {
    let address = network.map(|network| network.address);
    let address6 = network6.map(|network| network.address);
    let ours = [address.map(IpAddr::V4), address6.map(IpAddr::V6)];
    let (told, skipped) = servers::configured_upstreams(options, &ours);
    if told.is_empty() && !skipped.is_empty() {
        return Err(Error::NoUpstream(skipped.join("; ")));
    }
    addresses::names(options)?;
    six::names(options)?;
    let all = options.host.iter();
    let of = |below| {
        let that = all.clone().filter(move |host| host.below == below);
        that.map(|host| (host.name.to_string(), host.address))
    };
    let reserved = options.reserve.iter();
    let reserved = reserved.filter_map(|reserve| {
        Some((reserve.name.as_ref()?.to_string(), IpAddr::from(reserve.address)))
    });
    let reserved6 = options.reserve6.iter().filter_map(|reserve| {
        Some((reserve.name.as_ref()?.to_string(), IpAddr::from(reserve.address)))
    });
    let relayed6 = options.relayed6.iter().map(|relayed| relayed.network);
    let settings = dns::Settings {
        hostname: String::new(),
        guest: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
        gateway: address,
        gateway6: address6,
        upstreams: told,
        search: once_each(options.search.iter().map(DomainName::to_string)),
        ndots: 1,
        hosts: once_each(of(false).chain(reserved).chain(reserved6)),
        below: once_each(of(true)),
        domain: options.domain.as_ref().map(DomainName::to_string),
        networks: network
            .into_iter()
            .chain(options.relayed.iter().map(|relayed| relayed.network))
            .collect(),
        networks6: network6.into_iter().chain(relayed6).collect(),
        aaaa: options.aaaa == Aaaa::Pass,
    };
    let mut plan = DnsPlan {
        address,
        address6,
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
