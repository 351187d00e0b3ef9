//! Which addresses are given away, and to whom alone: held against the networks they are in.

use std::net::{IpAddr, Ipv4Addr};

use super::Error;
use crate::config::serve::{Host, Reserve, ServeOptions, Span, Whose};
use crate::net::{DomainName, Ipv4Prefix, longest_around};
use crate::proto::dhcp4::{Reservation, ReservedFor, Subnet};

/// What an address is that no client of its network can have.
pub(super) fn taken(subnet: &Subnet, address: Ipv4Addr) -> Option<&'static str> {
    if address == subnet.server {
        Some("our own address")
    } else if subnet.parameters.router == Some(address) {
        Some("the router's address")
    } else {
        end_of(subnet.network, address)
    }
}

/// What an address is that no host of this network has.
pub(super) fn end_of(network: Ipv4Prefix, address: Ipv4Addr) -> Option<&'static str> {
    // RFC 3021: in a /31 both are hosts, as is the one of a /32.
    if network.length >= 31 {
        None
    } else if address == network.network() {
        Some("the network's own address")
    } else {
        (address == network.broadcast()).then_some("the broadcast address")
    }
}

/// A router that is told to clients is a host, wherever it is said.
pub(super) fn routers(subnets: &[Subnet]) -> Result<(), Error> {
    for subnet in subnets {
        let router = subnet.parameters.router.filter(|router| *router != subnet.server);
        let wrong = router.and_then(|router| Some((router, end_of(subnet.network, router)?)));
        if let Some((router, what)) = wrong {
            return Err(Error::NoRouter { router, what, network: subnet.network });
        }
    }
    Ok(())
}

/// One address, one client, one name.
pub(super) fn reservations(
    options: &ServeOptions,
    subnets: &[Subnet],
) -> Result<Vec<Reservation>, Error> {
    let mut seen: Vec<(&Reserve, &Subnet)> = Vec::new();
    for reserve in &options.reserve {
        let address = reserve.address;
        let subnet = longest_around(subnets.iter(), |subnet| subnet.network, address);
        let subnet = subnet.ok_or(Error::ReservedOutside(address))?;
        if let Some(what) = taken(subnet, address) {
            return Err(Error::ReservedTaken { address, what });
        }
        for (other, network) in &seen {
            let same_client = other.whose == reserve.whose;
            if other.address == address {
                return Err(Error::ReservedTwice(address));
            }
            if same_client && network.network == subnet.network {
                let addresses = [other.address, address];
                return Err(Error::ClientTwice { client: reserve.whose.to_string(), addresses });
            }
            // A machine that moves between networks has its name in each.
            if other.name.is_some() && other.name == reserve.name && !same_client {
                let name = other.name.as_ref().map(DomainName::to_string).unwrap_or_default();
                return Err(Error::NameTwice { name, addresses: [other.address, address] });
            }
        }
        seen.push((reserve, subnet));
    }
    Ok(options.reserve.iter().map(reservation).collect())
}

/// A name is one client's, with its domain or without: answers that differ would come by turns. Of several addresses that
/// `--host` gives it, one has to be the client's; IPv6 is none of DHCP's business here.
pub(super) fn names(options: &ServeOptions) -> Result<(), Error> {
    for reserve in &options.reserve {
        let Some(name) = reserve.name.as_ref().map(DomainName::as_str) else { continue };
        let full = options.domain.as_ref().map(|domain| format!("{name}.{domain}"));
        let same = |host: &&Host| {
            !host.below && [Some(name), full.as_deref()].contains(&Some(host.name.as_str()))
        };
        let addresses = options.host.iter().filter(same).filter_map(|host| match host.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let all: Vec<Ipv4Addr> = addresses.collect();
        if let Some(&host) = all.first().filter(|_| !all.contains(&reserve.address)) {
            return Err(Error::NameElsewhere {
                name: name.to_owned(),
                reserved: reserve.address,
                host,
            });
        }
    }
    Ok(())
}

fn reservation(reserve: &Reserve) -> Reservation {
    let client = match &reserve.whose {
        Whose::Mac(mac) => ReservedFor::Mac(*mac),
        Whose::Id(id) => ReservedFor::ClientId(id.clone()),
    };
    let name = reserve.name.as_ref().map(DomainName::to_string);
    Reservation { client, address: reserve.address, name }
}

/// What was asked for and is done otherwise, in words. Refused when there is nothing left to give away.
pub(super) fn notes(options: &ServeOptions, subnets: &[Subnet]) -> Result<Vec<String>, Error> {
    let Some(on_link) = subnets.first() else { return Ok(Vec::new()) };
    let ranges = options.range.iter().map(|span| ("--range", *span, on_link));
    let relayed = options.relayed.iter().zip(subnets.iter().skip(1));
    let relayed = relayed.map(|(relayed, subnet)| ("--relayed", relayed.span, subnet));
    let spans: Vec<(&str, Span, &Subnet)> = ranges.chain(relayed).collect();
    let (mut notes, mut left) = (Vec::new(), !options.reserve.is_empty());
    for (at, (flag, span, subnet)) in spans.iter().enumerate() {
        let kept = kept(*span, subnet);
        left |= span.count() > kept.len() as u64;
        if !kept.is_empty() {
            let kept: Vec<String> =
                kept.iter().map(|(address, what)| format!("{address} ({what})")).collect();
            notes.push(format!("{flag} {span}: {} will not be assigned", kept.join(", ")));
        }
        // What lies in a smaller network is that one's: told with the networks.
        let overlaps = |(_, other, on): &&(&str, Span, &Subnet)| {
            on.network == subnet.network && other.first <= span.last && span.first <= other.last
        };
        if let Some((_, other, _)) = spans.iter().take(at).find(overlaps) {
            notes.push(format!(
                "{flag} {span} overlaps {other}: each address is given to one client all the same"
            ));
        }
    }
    for reserve in &options.reserve {
        if let Some(name) = reserve.name.as_ref().filter(|name| is_like_a_time(name.as_str())) {
            notes.push(format!(
                "--reserve {}: the client is named {name}; how long leases are says --lease-time, for all",
                reserve.address
            ));
        }
    }
    if left || spans.is_empty() { Ok(notes) } else { Err(Error::NothingLeft(notes.join("; "))) }
}

/// What nobody gets of a span.
fn kept(span: Span, subnet: &Subnet) -> Vec<(Ipv4Addr, &'static str)> {
    let special = [
        Some(subnet.network.network()),
        Some(subnet.server),
        subnet.parameters.router,
        Some(subnet.network.broadcast()),
    ];
    let mut kept: Vec<Ipv4Addr> = special
        .into_iter()
        .flatten()
        .filter(|address| (span.first..=span.last).contains(address))
        .collect();
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter().filter_map(|address| Some((address, taken(subnet, address)?))).collect()
}

/// dnsmasq has the lease time of a client where we have its name.
fn is_like_a_time(name: &str) -> bool {
    let number = name.strip_suffix(['s', 'm', 'h', 'd', 'w']);
    name == "infinite" || number.is_some_and(|number| number.parse::<u32>().is_ok())
}
