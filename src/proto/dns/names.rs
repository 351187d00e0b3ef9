//! Names that are known here: those that are configured, and those that DHCP clients gave themselves, as long as they
//! have their addresses.
//!
//! What is configured goes first. Who has a name keeps it: another client that takes the same is not found by it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::Settings;

/// Names that others look up without being told to: whoever had one of them would be trusted with what is not its
/// (VU#598349; RFC 5214 §8.3; RFC 6761).
const NOBODYS: [&str; 4] = ["wpad", "isatap", "localhost", "gateway"];

/// An address has this name from now on, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub address: IpAddr,
    /// One label.
    pub name: Option<String>,
    /// None: for ever.
    pub until: Option<Instant>,
}

/// What is known here of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// One of them at least.
    Addresses(Option<Ipv4Addr>, Option<Ipv6Addr>),
    Name(&'a str),
}

/// Names that are answered without a server.
#[derive(Debug, Default)]
pub struct Names {
    of_address: HashMap<IpAddr, (String, Option<Instant>)>,
    /// Of each family one.
    of_name: HashMap<String, Ipv4Addr>,
    of_name6: HashMap<String, Ipv6Addr>,
}

impl Names {
    /// Whether no client has a name.
    pub fn is_empty(&self) -> bool {
        self.of_address.is_empty()
    }

    /// A lease's name, until the lease ends.
    pub fn take(&mut self, now: Instant, named: Named) {
        let Named { address, name, until } = named;
        if let Some((before, _)) = self.of_address.remove(&address) {
            match address {
                IpAddr::V4(_) => drop(self.of_name.remove(&before)),
                IpAddr::V6(_) => drop(self.of_name6.remove(&before)),
            }
        }
        let name = name.map(|name| name.to_ascii_lowercase());
        let Some(name) = name.filter(|name| !NOBODYS.contains(&name.as_str())) else { return };
        let ended = match address {
            IpAddr::V4(_) if self.address(now, &name).is_some() => return,
            IpAddr::V6(_) if self.address6(now, &name).is_some() => return,
            IpAddr::V4(address) => self.of_name.insert(name.clone(), address).map(IpAddr::V4),
            IpAddr::V6(address) => self.of_name6.insert(name.clone(), address).map(IpAddr::V6),
        };
        if let Some(ended) = ended {
            self.of_address.remove(&ended);
        }
        self.of_address.insert(address, (name, until));
    }

    /// What is known of a name in lower case, without a dot at its end: its addresses, or the name of one
    /// below in-addr.arpa or ip6.arpa. A name may have the domain, which is ours.
    pub fn find(&self, now: Instant, text: &str, domain: Option<&str>) -> Option<Found<'_>> {
        let bare =
            domain.and_then(|domain| text.strip_suffix(domain)?.strip_suffix('.')).unwrap_or(text);
        match (self.address(now, bare), self.address6(now, bare)) {
            (None, None) => self.name(now, reversed(text)?).map(Found::Name),
            (four, six) => Some(Found::Addresses(four, six)),
        }
    }

    fn address(&self, now: Instant, name: &str) -> Option<Ipv4Addr> {
        let address = *self.of_name.get(name)?;
        self.name(now, address.into()).map(|_| address)
    }

    fn address6(&self, now: Instant, name: &str) -> Option<Ipv6Addr> {
        let address = *self.of_name6.get(name)?;
        self.name(now, address.into()).map(|_| address)
    }

    fn name(&self, now: Instant, address: IpAddr) -> Option<&str> {
        let (name, until) = self.of_address.get(&address)?;
        until.is_none_or(|until| now < until).then_some(name)
    }
}

/// A name with our domain.
pub fn whole(name: &str, settings: &Settings) -> String {
    match &settings.domain {
        Some(domain) if !name.contains('.') => format!("{name}.{domain}"),
        _ => name.to_owned(),
    }
}

/// Addresses that are configured for a name, bare or in our domain. None: it is not.
pub fn configured(text: &str, settings: &Settings) -> Option<Vec<IpAddr>> {
    let text = whole(text, settings);
    let is = |(name, _): &&(String, IpAddr)| whole(name, settings) == text;
    let found: Vec<IpAddr> =
        settings.hosts.iter().filter(is).map(|(_, address)| *address).collect();
    (!found.is_empty()).then_some(found)
}

/// Addresses of all names below a configured one that this is below. The longest such name counts.
pub fn below(text: &str, settings: &Settings) -> Option<Vec<IpAddr>> {
    let mut found = (0, Vec::new());
    for (name, address) in &settings.below {
        let names = [whole(name, settings), name.clone()];
        let Some(length) = names.iter().find(|name| is_below(text, name)).map(String::len) else {
            continue;
        };
        if length > found.0 {
            found = (length, Vec::new());
        }
        if length == found.0 {
            found.1.push(*address);
        }
    }
    (found.0 > 0).then_some(found.1)
}

/// Whether names below this are configured: it exists then, with nothing to say (RFC 8020 §2).
pub(crate) fn has_names_below(text: &str, settings: &Settings) -> bool {
    let below = |(name, _): &(String, IpAddr)| is_below(&whole(name, settings), text);
    let wildcard = |(name, _): &(String, IpAddr)| whole(name, settings) == text || name == text;
    settings.hosts.iter().chain(&settings.below).any(below) || settings.below.iter().any(wildcard)
}

pub(crate) fn is_below(text: &str, name: &str) -> bool {
    text.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// The address of a name below in-addr.arpa (RFC 1035 §3.5) or ip6.arpa (RFC 3596 §2.5).
pub fn reversed(text: &str) -> Option<IpAddr> {
    if let Some(nibbles) = text.strip_suffix(".ip6.arpa") {
        return reversed6(nibbles).map(IpAddr::V6);
    }
    let mut octets = [0; 4];
    let mut labels = text.strip_suffix(".in-addr.arpa")?.split('.');
    for octet in octets.iter_mut().rev() {
        *octet = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// Its 32 digits, the last one first.
fn reversed6(nibbles: &str) -> Option<Ipv6Addr> {
    let mut bits = 0;
    let mut labels = nibbles.split('.');
    for at in 0..32 {
        let digit = labels.next().filter(|label| label.len() == 1)?;
        bits |= u128::from_str_radix(digit, 16).ok()? << (4 * at);
    }
    labels.next().is_none().then(|| Ipv6Addr::from_bits(bits))
}
