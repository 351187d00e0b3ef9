//! The vocabulary of the network: names and addresses that every other room speaks in.
//!
//! Plain values, parsed once and printed the way `ip` prints them. Nothing here touches a socket.

mod ipv6;
mod name;

pub use ipv6::Ipv6Prefix;
pub(crate) use name::host_label;
pub use name::{DomainName, NameError};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a word is not the address or name it should be. `Display` says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a MAC address: six hexadecimal octets as in 52:54:00:12:34:56, unicast")]
    Mac(String),
    #[error(
        "{0:?} is not an interface name: 1 to 15 bytes, no '/', no white space, not '.' or '..'"
    )]
    IfName(String),
    #[error("{0:?} is not an IPv4 prefix: ADDRESS/0..32 as in 10.1.2.3/24")]
    Ipv4Prefix(String),
    #[error("{0:?} is not an IPv6 prefix: ADDRESS/0..128 as in 2001:db8::1/64")]
    Ipv6Prefix(String),
    #[error("{0:?} is not a port: NUMBER/tcp, NUMBER/udp or NUMBER/sctp with 1 to 65535")]
    Port(String),
}

/// A 48-bit Ethernet unicast address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// An address that is the same for the same words on every start and every node: locally
    /// administered, unicast (IEEE 802 §8), the rest a hash of `identity` and `role`. A guest whose
    /// MAC changed would lose its network configuration.
    pub fn stable(identity: &str, role: &str) -> Self {
        let hash =
            Sha256::new().chain_update(identity).chain_update([0]).chain_update(role).finalize();
        let mut octets = [0x52, 0x54, 0, 0, 0, 0];
        for (octet, byte) in octets.iter_mut().skip(2).zip(hash.iter()) {
            *octet = *byte;
        }
        Self(octets)
    }

    /// Whether the group bit is clear and the address is not all zero: something an interface can have.
    pub(crate) fn is_unicast(self) -> bool {
        let Self([first, ..]) = self;
        first & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Mac(text.to_owned());
        let mut six = [0; 6];
        let mut words = text.split([':', '-']);
        for octet in &mut six {
            let word = words.next().filter(|word| word.len() == 2).ok_or_else(bad)?;
            let [value] = *octets(word).ok_or_else(bad)? else { return Err(bad()) };
            *octet = value;
        }
        let mac = Self(six);
        if words.next().is_some() || !mac.is_unicast() { Err(bad()) } else { Ok(mac) }
    }
}

/// Octets in hexadecimal, with or without colons.
pub fn octets(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: char| digit.to_digit(16).and_then(|value| u8::try_from(value).ok());
    let nibbles: Vec<u8> =
        digits.chars().filter(|c| *c != ':').map(nibble).collect::<Option<_>>()?;
    let (pairs, rest) = nibbles.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A number from hexadecimal digits, without a sign.
pub fn hexadecimal(digits: &str) -> Option<u64> {
    let number = u64::from_str_radix(digits, 16).ok();
    number.filter(|_| !digits.starts_with('+'))
}

/// A number from decimal digits, without a sign.
pub(crate) fn decimal<T: FromStr>(digits: &str) -> Option<T> {
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}

/// What clap reads a number by: decimal digits alone, and a value of the range.
pub fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + fmt::Display + Clone,
{
    move |digits| {
        let number = decimal(digits).filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!("expected a number from {} to {}, digits alone", range.start(), range.end())
        })
    }
}

/// The name of a network interface (`IFNAMSIZ`, `dev_valid_name` in the kernel's net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct IfName(String);

impl IfName {
    /// The name, 1 to 15 octets (IFNAMSIZ).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IfName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let valid = (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
        if valid { Ok(Self(text.to_owned())) } else { Err(Error::IfName(text.to_owned())) }
    }
}

/// An IPv4 address with the length of its network's prefix, `10.1.2.3/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Prefix {
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub length: u8,
}

impl Ipv4Prefix {
    /// None when the length is over 32.
    pub fn new(address: Ipv4Addr, length: u8) -> Option<Self> {
        (length <= 32).then_some(Self { address, length })
    }

    /// The netmask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.length.min(32))).unwrap_or(0))
    }

    /// The first address, host bits zero.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask().to_bits())
    }

    /// The last address, host bits one.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask().to_bits())
    }

    /// Whether the address has the same network bits.
    pub fn contains(self, other: Ipv4Addr) -> bool {
        other.to_bits() & self.mask().to_bits() == self.network().to_bits()
    }

    /// Whether the other network is a part of this one, and not all of it.
    pub(crate) fn encloses(self, other: Self) -> bool {
        other.length > self.length && self.contains(other.address)
    }
}

/// Of those that contain an address the one with the longest prefix.
pub(crate) fn longest_around<T>(
    all: impl Iterator<Item = T>,
    network: impl Fn(&T) -> Ipv4Prefix,
    address: Ipv4Addr,
) -> Option<T> {
    all.filter(|one| network(one).contains(address)).max_by_key(|one| network(one).length)
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ipv4Prefix {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            Self::new(address.parse().ok()?, decimal(length)?)
        };
        parse().ok_or_else(|| Error::Ipv4Prefix(text.to_owned()))
    }
}

/// What kind of address it is, where it is one that no host on a link can have (RFC 6890 §2.2.2, RFC 5771).
pub(crate) fn no_host(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [255, 255, 255, 255] => Some("the broadcast address"),
        [0, ..] => Some("an address of \"this network\" (0.0.0.0/8)"),
        [127, ..] => Some("a loopback address (127.0.0.0/8)"),
        [224..=239, ..] => Some("a multicast address (224.0.0.0/4)"),
        [240..=255, ..] => Some("a reserved address (240.0.0.0/4)"),
        _ => None,
    }
}

/// A transport with ports, as nft names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Transport {
    /// IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A port that stays with the pod, `5900/tcp`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub transport: Transport,
    /// 1 to 65535.
    pub number: u16,
}

/// Who is reached at the pod's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// Addresses mapped onto the guest, the primary first.
    pub pod: Vec<Ipv4Addr>,
    pub guest: Ipv4Addr,
    /// The pod as the guest sees it.
    pub gateway: Ipv4Addr,
    /// Ports that stay with the pod.
    pub reserved: Vec<Port>,
    /// The same of IPv6, where it is translated.
    pub six: Option<Mapping6>,
}

/// Of IPv6, as [`Mapping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapping6 {
    pub pod: Vec<Ipv6Addr>,
    pub guest: Ipv6Addr,
    pub gateway: Ipv6Addr,
}

impl Mapping {
    /// All addresses mapped onto the guest.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let six = self.six.iter().flat_map(|six| &six.pod).copied().map(IpAddr::V6);
        self.pod.iter().copied().map(IpAddr::V4).chain(six)
    }

    /// Guest and gateway, of the version that this address is of.
    pub fn beside(&self, address: IpAddr) -> Option<(IpAddr, IpAddr)> {
        match (address, &self.six) {
            (IpAddr::V4(_), _) => Some((self.guest.into(), self.gateway.into())),
            (IpAddr::V6(_), Some(six)) => Some((six.guest.into(), six.gateway.into())),
            (IpAddr::V6(_), None) => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        };
        write!(f, "{}/{transport}", self.number)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Port {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (number, transport) = text.split_once('/').unwrap_or((text, "tcp"));
            let transport = match transport {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                "sctp" => Transport::Sctp,
                _ => return None,
            };
            Some(Self { transport, number: decimal(number).filter(|&number| number != 0)? })
        };
        parse().ok_or_else(|| Error::Port(text.to_owned()))
    }
}

macro_rules! serialize_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
serialize_as_text!(MacAddr, Ipv4Prefix, Port);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_numbers_are_digits_alone() {
        for (text, number) in [("0", 0), ("fF", 255), ("ffffffffffffffff", u64::MAX)] {
            assert_eq!(hexadecimal(text), Some(number), "{text}");
        }
        for text in ["", "+f", "-1", "0x1", "g", " 1", "1_0", "10000000000000000"] {
            assert_eq!(hexadecimal(text), None, "{text}");
        }
    }

    #[test]
    fn a_stable_mac_is_local_unicast_and_depends_on_identity_and_role() {
        let mac = MacAddr::stable("web", "guest");
        assert_eq!(mac, MacAddr::stable("web", "guest"));
        assert_ne!(mac, MacAddr::stable("web", "gateway"));
        assert_ne!(mac, MacAddr::stable("db", "guest"));
        assert!(mac.is_unicast() && mac.0[0] & 2 == 2, "{mac}");
        assert_ne!(MacAddr::stable("ab", "c"), MacAddr::stable("a", "bc"));
    }

    #[test]
    fn words_parse_and_print_the_same() {
        assert_eq!(
            "52:54:00:AB:cd:ef".parse::<MacAddr>().unwrap().to_string(),
            "52:54:00:ab:cd:ef"
        );
        assert_eq!("10.1.2.3/24".parse::<Ipv4Prefix>().unwrap().to_string(), "10.1.2.3/24");
        assert_eq!("5900".parse::<Port>().unwrap().to_string(), "5900/tcp");
        assert_eq!("53/udp".parse::<Port>().unwrap().to_string(), "53/udp");
    }

    #[test]
    fn bad_words_are_named() {
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "01:00:5e:00:00:01",
            "0:1:2:3:4:5",
            "zz:zz:zz:zz:zz:zz",
            "+2:54:00:12:34:56",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
        for text in ["", ".", "a/b", "sixteen-letters-", "a b"] {
            assert!(text.parse::<IfName>().is_err(), "{text}");
        }
        for text in ["10.0.0.1", "10.0.0.1/33", "10.0.0/8", "/8"] {
            assert!(text.parse::<Ipv4Prefix>().is_err(), "{text}");
        }
        for text in ["0", "65536", "53/icmp", "tcp/53"] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_that_no_host_can_have_are_known_by_their_ends() {
        let is = |text: &str| no_host(text.parse().unwrap()).is_some();
        for text in
            ["0.0.0.0", "0.0.0.2", "0.255.255.255", "127.0.0.0", "127.0.0.2", "127.255.255.255"]
        {
            assert!(is(text), "{text}");
        }
        for text in [
            "224.0.0.0",
            "224.0.0.2",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.254",
            "255.255.255.255",
        ] {
            assert!(is(text), "{text}");
        }
        for text in [
            "1.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.254.1.2",
            "100.64.0.2",
            "223.255.255.255",
        ] {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn prefixes_know_their_network() {
        let prefix: Ipv4Prefix = "192.168.254.1/30".parse().unwrap();
        assert_eq!(prefix.mask(), Ipv4Addr::new(255, 255, 255, 252));
        assert_eq!(prefix.network(), Ipv4Addr::new(192, 168, 254, 0));
        assert_eq!(prefix.broadcast(), Ipv4Addr::new(192, 168, 254, 3));
        assert!(
            prefix.contains(Ipv4Addr::new(192, 168, 254, 2))
                && !prefix.contains(Ipv4Addr::new(192, 168, 254, 4))
        );
        let all: Ipv4Prefix = "1.2.3.4/0".parse().unwrap();
        assert_eq!(all.mask(), Ipv4Addr::UNSPECIFIED);
        let host: Ipv4Prefix = "1.2.3.4/32".parse().unwrap();
        assert_eq!(host.network(), host.address);
    }
}
