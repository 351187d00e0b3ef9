//! IPv6 addresses with the length of their prefix, as `ip -6` prints them.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::{Error, decimal};

/// An IPv6 address with the length of its network's prefix, `2001:db8::1/64`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv6Prefix {
    pub address: Ipv6Addr,
    /// 0 to 128.
    pub length: u8,
}

impl Ipv6Prefix {
    /// None when the length is over 128.
    pub fn new(address: Ipv6Addr, length: u8) -> Option<Self> {
        (length <= 128).then_some(Self { address, length })
    }

    /// The netmask.
    pub fn mask(self) -> Ipv6Addr {
        let host_bits = 128 - u32::from(self.length.min(128));
        Ipv6Addr::from_bits(u128::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    /// The first address, host bits zero.
    pub fn network(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() & self.mask().to_bits())
    }

    /// Whether the address has the same network bits.
    pub fn contains(self, other: Ipv6Addr) -> bool {
        other.to_bits() & self.mask().to_bits() == self.network().to_bits()
    }
}

impl fmt::Display for Ipv6Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Ipv6Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ipv6Prefix {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            Self::new(address.parse().ok()?, decimal(length)?)
        };
        parse().ok_or_else(|| Error::Ipv6Prefix(text.to_owned()))
    }
}

impl serde::Serialize for Ipv6Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Ipv6Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_know_their_network() {
        let six4 = prefix("2001:db8::7/64");
        assert_eq!(six4.mask().to_string(), "ffff:ffff:ffff:ffff::");
        assert_eq!(six4.network().to_string(), "2001:db8::");
        assert!(six4.contains("2001:db8::ffff:1".parse().unwrap()));
        assert!(!six4.contains("2001:db8:0:1::".parse().unwrap()));
        assert_eq!(prefix("::1/0").mask(), Ipv6Addr::UNSPECIFIED);
        let host = prefix("fe80::1/128");
        assert_eq!(host.network(), host.address);
        assert_eq!(host.to_string(), "fe80::1/128");
    }

    #[test]
    fn bad_words_are_named() {
        for text in ["", "::1", "::1/129", "::1/+4", "1.2.3.4/8", "::g/4", "/64"] {
            assert!(text.parse::<Ipv6Prefix>().is_err(), "{text}");
        }
    }
}
