//! Values of `berth serve`'s flags: what each may be, and what is said of one that is not.

mod six;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

pub use six::{Relayed6, Reserve6, Router6, RouterAdvertisements, Span6};
pub(super) use six::{address6, boot_url, host_address6};

use crate::net::{
    DomainName, Ipv4Prefix, MacAddr, NameError, decimal, hexadecimal, no_host, octets,
};

/// From the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl Span {
    /// How many addresses it has, 1 to 2³².
    pub fn count(self) -> u64 {
        u64::from(self.last.to_bits().saturating_sub(self.first.to_bits())) + 1
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.first, self.last)
    }
}

/// A network behind a relay agent (RFC 2131 §4.3.1, giaddr).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    pub network: Ipv4Prefix,
    pub span: Span,
    pub router: Ipv4Addr,
}

/// By what a client is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Mac(MacAddr),
    Id(Vec<u8>),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Id(id) => {
                f.write_str("id:")?;
                id.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

/// An address reserved for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    pub whose: Whose,
    pub address: Ipv4Addr,
    pub name: Option<DomainName>,
}

/// An address, or the word `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeAddress(pub Option<Ipv4Addr>);

/// A DHCP option by number, its value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionWords {
    /// 1 to 254.
    pub code: u8,
    pub words: String,
}

/// Which clients a boot file is for (RFC 4578, client architecture).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootFor {
    Any,
    /// IANA's number of a processor architecture (RFC 4578 §2.1).
    Architecture(u16),
    Ipxe,
}

impl fmt::Display for BootFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("everyone"),
            Self::Architecture(number) => write!(f, "architecture {number}"),
            Self::Ipxe => f.write_str("ipxe"),
        }
    }
}

/// A boot file and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    pub clients: Vec<BootFor>,
    pub file: String,
}

/// A name server, port 53 unless said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream(pub SocketAddr);

/// A name with its addresses, for DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub name: DomainName,
    /// `*.NAME`: every name below it, and not the name itself.
    pub below: bool,
    pub address: IpAddr,
}

/// The shortest lease in which T1 < T2 < its end, in whole seconds (RFC 2131 §4.4.5).
const SHORTEST_LEASE: u32 = 3;
/// No network of hosts is larger than the largest of RFC 1918 §3: its prefix length.
const LARGEST_NETWORK: u8 = 8;
/// RFC 2132 §9.14, as one option without RFC 3396.
const LONGEST_ID: usize = 255;

pub(super) fn seconds(word: &str) -> Result<u32, String> {
    let number = if word == "infinite" { Some(u32::MAX) } else { decimal(word) };
    let number = number.filter(|number| *number >= SHORTEST_LEASE);
    or_say(number, "a number of seconds, 3 at least, or infinite")
}

/// An address that a host can have.
pub(super) fn host_address(word: &str) -> Result<Ipv4Addr, String> {
    let address = word.parse().map_err(|_| "an IPv4 address, as in 10.0.0.1".to_owned())?;
    match no_host(address) {
        Some(kind) => Err(format!("an address that a host can have, not {kind}")),
        None => Ok(address),
    }
}

fn or_say<T>(value: Option<T>, allowed: &str) -> Result<T, String> {
    value.ok_or_else(|| allowed.to_owned())
}

impl FromStr for Span {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (first, last) = word.split_once(',')?;
            let (first, last) = (first.parse::<Ipv4Addr>().ok()?, last.parse().ok()?);
            (first <= last).then_some(Self { first, last })
        };
        or_say(read(), "two addresses, the smaller one first, as in 10.0.0.10,10.0.0.250")
    }
}

impl FromStr for Relayed {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (network, rest) = word.split_once(',')?;
            let (span, router) = rest.rsplit_once(',')?;
            Some(Self {
                network: network
                    .parse()
                    .ok()
                    .filter(|network: &Ipv4Prefix| network.length >= LARGEST_NETWORK)?,
                span: span.parse().ok()?,
                router: host_address(router).ok()?,
            })
        };
        or_say(
            read(),
            "a prefix of 8 to 32, two addresses and a router, as in 10.2.0.0/16,10.2.0.10,10.2.9.250,10.2.0.1",
        )
    }
}

impl FromStr for Reserve {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let mut words = word.splitn(3, ',');
        let client = words.next().unwrap_or_default();
        let whose = match client.strip_prefix("id:") {
            Some(digits) => {
                octets(digits).filter(|id| (1..=LONGEST_ID).contains(&id.len())).map(Whose::Id)
            }
            None => client.parse().ok().map(Whose::Mac),
        };
        let address = words.next().and_then(|address| address.parse().ok());
        let (whose, address) = or_say(
            whose.zip(address),
            "a MAC or id:HEX, an address and perhaps a name, as in 52:54:00:12:34:56,10.0.0.5,web",
        )?;
        let name = words
            .next()
            .map(str::parse)
            .transpose()
            .map_err(|error: NameError| error.to_string())?;
        Ok(Self { whose, address, name })
    }
}

impl FromStr for MaybeAddress {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        if word.eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        host_address(word)
            .map(|address| Self(Some(address)))
            .map_err(|allowed| format!("{allowed}, or none"))
    }
}

impl FromStr for OptionWords {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (code, words) = word.split_once('=')?;
            let code = decimal(code.trim()).filter(|code| (1..=254).contains(code))?;
            Some(Self { code, words: words.trim().to_owned() })
        };
        or_say(read(), "a number of 1 to 254 and a value, as in 42=10.0.0.1")
    }
}

impl FromStr for BootFile {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        // What has a '/' before its first '=' is a path or a URL.
        let whose = word.split_once('=').filter(|(whose, _)| !whose.contains('/'));
        let (clients, file) = match whose {
            Some((whose, file)) => (or_say(boot_clients(whose), ARCHITECTURES)?, file),
            None => (vec![BootFor::Any], word),
        };
        let is_list = file.contains(',') && !file.contains("://");
        if file.is_empty() || file.contains(char::is_control) || is_list {
            return Err(
                "one file, as in pxelinux.0 or 7=grubx64.efi; where it is says --next-server"
                    .to_owned(),
            );
        }
        Ok(Self { clients, file: file.to_owned() })
    }
}

const ARCHITECTURES: &str = "before the '=' numbers of architectures or ipxe, by comma, as in 7,9=grubx64.efi: 0 is BIOS, \
     6 UEFI x86, 7 UEFI x64 (some say 9), 11 UEFI arm64, 15, 16 and 19 the same three by HTTP";

fn boot_clients(words: &str) -> Option<Vec<BootFor>> {
    let client = |word: &str| match word.trim().to_ascii_lowercase() {
        word if word == "ipxe" => Some(BootFor::Ipxe),
        word => {
            let number = match word.strip_prefix("0x") {
                Some(digits) => hexadecimal(digits).and_then(|number| u16::try_from(number).ok()),
                None => word.parse().ok(),
            };
            number.map(BootFor::Architecture)
        }
    };
    words.split(',').map(client).collect()
}

impl FromStr for Upstream {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let plain = || Some(SocketAddr::new(word.parse().ok()?, 53));
        let server: Option<SocketAddr> = word.parse().ok().or_else(plain);
        let can_be = |server: &SocketAddr| {
            server.port() != 0 && !server.ip().is_unspecified() && !server.ip().is_multicast()
        };
        or_say(
            server.filter(can_be).map(Self),
            "a server's address, as in 10.0.0.53 or 10.0.0.53:5353",
        )
    }
}

impl FromStr for Host {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (name, address) = word.split_once('=')?;
            Some((name, address.parse().ok()?))
        };
        let (name, address) = or_say(
            read(),
            "a name and its address, as in printer.lan=10.0.0.9, or *.apps.lan=10.0.0.9",
        )?;
        let below = name.strip_prefix("*.");
        let name = below.unwrap_or(name).parse().map_err(|error: NameError| error.to_string())?;
        Ok(Self { name, below: below.is_some(), address })
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
        assert!("10.0.0.9,10.0.0.1".parse::<Span>().is_err());
        assert_eq!(
            "id:01:ff,10.0.0.5,web".parse::<Reserve>().unwrap().whose,
            Whose::Id(vec![1, 255])
        );
        assert_eq!("52:54:00:12:34:56,10.0.0.5".parse::<Reserve>().unwrap().name, None);
        for wrong in [
            "id:,10.0.0.5",
            "id:0,10.0.0.5",
            "id:+f,10.0.0.5",
            "10.0.0.5",
            "zz:54:00:12:34:56,10.0.0.5",
        ] {
            assert!(
                refused::<Reserve>(wrong).contains("52:54:00:12:34:56,10.0.0.5,web"),
                "{wrong}"
            );
        }
        assert!(
            refused::<Reserve>(&format!("id:{},10.0.0.5", "00".repeat(256))).contains("id:HEX")
        );
        assert_eq!("10.0.0.53".parse::<Upstream>().unwrap().0.port(), 53);
        assert_eq!("[fd00::1]:54".parse::<Upstream>().unwrap().0.port(), 54);
        assert_eq!("fd00::1".parse::<Upstream>().unwrap().0.port(), 53);
        for wrong in ["10.0.0.53:0", "0.0.0.0", "224.0.0.1", "ns.lan", "10.9.0.2#5353"] {
            assert!(refused::<Upstream>(wrong).contains("10.0.0.53:5353"), "{wrong}");
        }
        for wrong in
            ["0.0.0.0/0,10.2.0.10,10.2.0.20,10.2.0.1", "10.0.0.0/7,10.2.0.10,10.2.0.20,10.2.0.1"]
        {
            assert!(refused::<Relayed>(wrong).contains("a prefix of 8 to 32"), "{wrong}");
        }
        for wrong in ["256=x", "0=x", "255=x", "x", "ntp=10.0.0.1"] {
            assert!(refused::<OptionWords>(wrong).contains("42=10.0.0.1"), "{wrong}");
        }
        assert_eq!("None".parse(), Ok(MaybeAddress(None)));
        for wrong in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "gateway"] {
            assert!(refused::<MaybeAddress>(wrong).ends_with(", or none"), "{wrong}");
        }
    }

    /// T1 and T2 of a lease of one second were both 0.
    #[test]
    fn a_lease_is_long_enough_for_its_timers() {
        assert_eq!((seconds("infinite"), seconds("3")), (Ok(u32::MAX), Ok(3)));
        for wrong in ["0", "1", "2", "-1", "12h", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_reservations_and_hosts_are_names() {
        let web = "52:54:00:12:34:56,10.0.0.5,Web_1.".parse::<Reserve>().unwrap();
        assert_eq!(web.name.unwrap().as_str(), "web_1");
        for (name, words) in
            [("", "empty"), ("web,12h", "web,12h"), ("a b", "label"), ("10.0.0.5", "address")]
        {
            let said = refused::<Reserve>(&format!("52:54:00:12:34:56,10.0.0.5,{name}"));
            assert!(said.contains(words), "{name}: {said}");
        }
        let host =
            |word: &str| word.parse::<Host>().map(|host| (host.name.to_string(), host.below));
        assert_eq!(host("Nas.Lan.=10.0.0.8"), Ok(("nas.lan".to_owned(), false)));
        assert_eq!(host("*.apps.lan=fd00::1"), Ok(("apps.lan".to_owned(), true)));
        for (word, words) in [
            ("nas,nas2=10.0.0.8", "nas,nas2"),
            ("a..b=10.0.0.8", "label"),
            ("bücher.lan=10.0.0.8", "xn--bcher-kva.lan"),
            ("*=10.0.0.8", "label \"*\""),
            ("a.*.lan=10.0.0.8", "label \"*\""),
            ("=10.0.0.8", "empty"),
            ("gateway=", "printer.lan=10.0.0.9"),
            ("nas", "printer.lan=10.0.0.9"),
            ("localhost=10.0.0.8", "127.0.0.1"),
        ] {
            let said = refused::<Host>(word);
            assert!(said.contains(words), "{word}: {said}");
        }
    }

    #[test]
    fn boot_files_are_for_everyone_for_architectures_or_refused() {
        use BootFor::{Any, Architecture, Ipxe};
        for (word, clients, file) in [
            ("pxelinux.0", vec![Any], "pxelinux.0"),
            ("7=a=b", vec![Architecture(7)], "a=b"),
            ("0x07=grubx64.efi", vec![Architecture(7)], "grubx64.efi"),
            ("7,9=grubx64.efi", vec![Architecture(7), Architecture(9)], "grubx64.efi"),
            ("0X10, IPXE=x", vec![Architecture(16), Ipxe], "x"),
            ("http://boot/x?a=b", vec![Any], "http://boot/x?a=b"),
            ("7=http://boot/x?a=b", vec![Architecture(7)], "http://boot/x?a=b"),
            ("/x86=64/linux", vec![Any], "/x86=64/linux"),
        ] {
            assert_eq!(word.parse(), Ok(BootFile { clients, file: file.to_owned() }), "{word}");
        }
        for wrong in ["efi64=x", "65536=x", "0x=x", "0x+7=x", "-1=x", "7,=x", "=x", "tag:efi,x=y"] {
            assert!(refused::<BootFile>(wrong).contains("numbers of architectures"), "{wrong}");
        }
        assert!(refused::<BootFile>("efi64=x").contains("7 UEFI x64"));
        for wrong in ["7=", "a\nb", "pxelinux.0,,10.0.0.2", "tag:efi,grubx64.efi"] {
            assert!(refused::<BootFile>(wrong).contains("one file"), "{wrong}");
        }
    }
}
