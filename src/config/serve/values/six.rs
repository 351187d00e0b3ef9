//! Values of the IPv6 flags.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use clap::ValueEnum;

use super::{Whose, or_say};
use crate::net::{DomainName, Ipv6Prefix, NameError, octets};

/// Octets of a DUID (RFC 8415 §11.1).
const DUID: std::ops::RangeInclusive<usize> = 3..=130;

/// From the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span6 {
    pub first: Ipv6Addr,
    pub last: Ipv6Addr,
}

impl fmt::Display for Span6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.first, self.last)
    }
}

/// A network behind a relay agent (RFC 8415 §19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed6 {
    pub network: Ipv6Prefix,
    pub span: Span6,
}

/// An address reserved for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve6 {
    /// Its MAC, or its DUID.
    pub whose: Whose,
    pub address: Ipv6Addr,
    pub name: Option<DomainName>,
}

/// What router advertisements say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RouterAdvertisements {
    /// None are sent
    Off,
    /// Addresses and all else are had by DHCPv6
    On,
    /// Hosts make their addresses, all else is had by DHCPv6
    Stateless,
    /// Hosts make their addresses, and have others by DHCPv6
    Slaac,
}

/// Whether this host is the default router of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Router6 {
    /// This host
    Ours,
    /// No default route
    None,
}

/// An address that a host can have anywhere on the link.
pub(in super::super) fn host_address6(word: &str) -> Result<Ipv6Addr, String> {
    let can_be = |address: &Ipv6Addr| {
        !address.is_unspecified()
            && !address.is_multicast()
            && !address.is_loopback()
            && !address.is_unicast_link_local()
            && address.to_ipv4_mapped().is_none()
    };
    or_say(
        word.parse().ok().filter(can_be),
        "an IPv6 address that a host can have, as in fd00::1 (not a link-local one)",
    )
}

/// An address of ours, with the length of its network's prefix.
pub(in super::super) fn address6(word: &str) -> Result<Ipv6Prefix, String> {
    let prefix: Option<Ipv6Prefix> = word.parse().ok();
    or_say(
        prefix.filter(|prefix| host_address6(&prefix.address.to_string()).is_ok()),
        "an IPv6 address that a host can have and a prefix length, as in fd00::1/64",
    )
}

/// Of a boot file (RFC 5970 §3.1).
pub(in super::super) fn boot_url(word: &str) -> Result<String, String> {
    let is_url = |word: &str| {
        let rest = word.split_once("://").map(|(scheme, rest)| (scheme.is_empty(), rest));
        rest.is_some_and(|(nameless, rest)| !nameless && !rest.is_empty())
            && word.bytes().all(|octet| octet.is_ascii_graphic())
    };
    or_say(
        Some(word.to_owned()).filter(|word| is_url(word)),
        "a URL, as in tftp://[fd00::1]/grubx64.efi or http://boot.lan/grubx64.efi",
    )
}

impl FromStr for Span6 {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (first, last) = word.split_once(',')?;
            let (first, last) = (host_address6(first).ok()?, host_address6(last).ok()?);
            (first <= last).then_some(Self { first, last })
        };
        or_say(read(), "two IPv6 addresses, the smaller one first, as in fd00::100,fd00::1ff")
    }
}

impl FromStr for Relayed6 {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (network, span) = word.split_once(',')?;
            Some(Self { network: address6(network).ok()?, span: span.parse().ok()? })
        };
        or_say(
            read(),
            "a prefix and two addresses, as in fd00:0:0:2::/64,fd00:0:0:2::100,fd00:0:0:2::1ff",
        )
    }
}

impl FromStr for Reserve6 {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let mut words = word.splitn(3, ',');
        let client = words.next().unwrap_or_default();
        let whose = match client.strip_prefix("id:") {
            Some(digits) => octets(digits).filter(|id| DUID.contains(&id.len())).map(Whose::Id),
            None => client.parse().ok().map(Whose::Mac),
        };
        let address = words.next().and_then(|address| host_address6(address).ok());
        let (whose, address) = or_say(
            whose.zip(address),
            "a MAC or id:HEX (a DUID, 3 to 130 octets), an IPv6 address and perhaps a name, as in 52:54:00:12:34:56,fd00::5,web",
        )?;
        let name = words
            .next()
            .map(str::parse)
            .transpose()
            .map_err(|error: NameError| error.to_string())?;
        Ok(Self { whose, address, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: FromStr<Err = String>>(word: &str) -> String {
        word.parse::<T>().err().unwrap_or_else(|| panic!("{word:?} is taken"))
    }

    #[test]
    fn words_are_read_or_refused() {
        assert!("fd00::100,fd00::1ff".parse::<Span6>().is_ok());
        for wrong in ["fd00::2,fd00::1", "fd00::1", "fe80::1,fe80::9", "10.0.0.1,10.0.0.9", ""] {
            assert!(refused::<Span6>(wrong).contains("fd00::100,fd00::1ff"), "{wrong}");
        }
        let web = "52:54:00:12:34:56,fd00::5,Web".parse::<Reserve6>().unwrap();
        assert_eq!(web.name.unwrap().as_str(), "web");
        let duid = "id:00:04:ff,fd00::5".parse::<Reserve6>().unwrap();
        assert_eq!((duid.whose, duid.name), (Whose::Id(vec![0, 4, 255]), None));
        for wrong in
            ["id:0004,fd00::5", "fd00::5", "id:000100,10.0.0.5", "x,fd00::5", "id:,fd00::5"]
        {
            assert!(refused::<Reserve6>(wrong).contains("id:HEX"), "{wrong}");
        }
        assert!("fd00:0:0:2::/64,fd00:0:0:2::1,fd00:0:0:2::9".parse::<Relayed6>().is_ok());
        for wrong in ["fd00::/64", "::/0,fd00::1,fd00::2", "fd00::,fd00::1,fd00::2"] {
            assert!(refused::<Relayed6>(wrong).contains("a prefix and two addresses"), "{wrong}");
        }
        assert!(address6("fd00::1/64").is_ok());
        for wrong in ["fd00::1", "fe80::1/64", "::1/128", "ff02::1/64", "10.0.0.1/8"] {
            assert!(address6(wrong).unwrap_err().contains("fd00::1/64"), "{wrong}");
        }
        assert!(boot_url("http://[fd00::1]/a.efi").is_ok());
        for wrong in ["grubx64.efi", "://x", "http://", "http://a b/", ""] {
            assert!(boot_url(wrong).unwrap_err().contains("a URL"), "{wrong}");
        }
    }
}
