//! The words of `berth serve`: each flag, its environment twin and its help.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::net::{IfName, Ipv4Prefix, MacAddr};

/// Where leases are kept unless told otherwise.
pub const LEASE_FILE: &str = "/var/lib/berth/leases";

/// Flags of `berth serve`. Lists in an environment variable are separated by blanks, options by newlines.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// Interface to serve on; it exists already
    #[arg(long, env = "BERTH_SERVE_INTERFACE", value_name = "NAME")]
    pub interface: IfName,
    /// Our address on it, with its prefix length [default: the interface's first]
    #[arg(long, env = "BERTH_SERVE_ADDRESS", value_name = "ADDRESS/LENGTH")]
    pub address: Option<Ipv4Prefix>,

    /// Addresses to give away, from the first to the last; may be said several times
    #[arg(
        long,
        env = "BERTH_SERVE_RANGE",
        value_name = "FIRST,LAST",
        value_delimiter = ' ',
        help_heading = "DHCP"
    )]
    pub range: Vec<Span>,
    /// A network behind a relay: its prefix, its addresses to give away, its router
    #[arg(
        long,
        env = "BERTH_SERVE_RELAYED",
        value_name = "NETWORK/LENGTH,FIRST,LAST,ROUTER",
        value_delimiter = ' ',
        help_heading = "DHCP"
    )]
    pub relayed: Vec<Relayed>,
    /// An address for one client alone: by MAC, or by client identifier in hexadecimal (id:…)
    #[arg(
        long,
        env = "BERTH_SERVE_RESERVE",
        value_name = "MAC|id:HEX,ADDRESS[,NAME]",
        value_delimiter = ' ',
        help_heading = "DHCP"
    )]
    pub reserve: Vec<Reserve>,
    /// How long an address is a client's, in seconds, or infinite
    #[arg(long, env = "BERTH_SERVE_LEASE_TIME", value_name = "SECONDS", default_value = "3600", value_parser = seconds, help_heading = "DHCP")]
    pub lease_time: u32,
    /// The shortest lease a client may ask for, in seconds
    #[arg(long, env = "BERTH_SERVE_LEAST_LEASE_TIME", value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "DHCP")]
    pub least_lease_time: u32,
    /// The longest lease a client may ask for, in seconds, or infinite [default: the lease time]
    #[arg(long, env = "BERTH_SERVE_MOST_LEASE_TIME", value_name = "SECONDS", value_parser = seconds, help_heading = "DHCP")]
    pub most_lease_time: Option<u32>,
    /// Where leases are kept
    #[arg(long, env = "BERTH_SERVE_LEASE_FILE", value_name = "PATH", default_value = LEASE_FILE, help_heading = "DHCP")]
    pub lease_file: PathBuf,
    /// Wait for the disk before a lease is told: a power cut loses none
    #[arg(long, env = "BERTH_SERVE_LEASE_SYNC", help_heading = "DHCP")]
    pub lease_sync: bool,
    /// Router told to clients [default: our address]; none: no router
    #[arg(long, env = "BERTH_SERVE_ROUTER", value_name = "ADDRESS|none", help_heading = "DHCP")]
    pub router: Option<MaybeAddress>,
    /// Name servers told to clients [default: our address]
    #[arg(
        long,
        env = "BERTH_SERVE_DNS",
        value_name = "ADDRESS",
        value_delimiter = ' ',
        help_heading = "DHCP"
    )]
    pub dns: Vec<Ipv4Addr>,
    /// Search domains told to clients
    #[arg(
        long,
        env = "BERTH_SERVE_SEARCH",
        value_name = "DOMAIN",
        value_delimiter = ' ',
        help_heading = "DHCP"
    )]
    pub search: Vec<String>,
    /// Any other option by its number: addresses, a number or text as its RFC has it, or hex:…
    #[arg(
        long = "option",
        env = "BERTH_SERVE_OPTION",
        value_name = "CODE=VALUE",
        value_delimiter = '\n',
        help_heading = "DHCP"
    )]
    pub options: Vec<OptionWords>,
    /// Boot file: for everyone, for an architecture (RFC 4578 number), or for iPXE
    #[arg(
        long,
        env = "BERTH_SERVE_BOOT_FILE",
        value_name = "[ARCH|ipxe=]FILE",
        value_delimiter = ' ',
        help_heading = "DHCP"
    )]
    pub boot_file: Vec<BootFile>,
    /// Where boot files are [default: our address]
    #[arg(long, env = "BERTH_SERVE_NEXT_SERVER", value_name = "ADDRESS", help_heading = "DHCP")]
    pub next_server: Option<Ipv4Addr>,
    /// Do not tell clients of another network that their address is wrong here: other servers may know them
    #[arg(long, env = "BERTH_SERVE_NOT_AUTHORITATIVE", help_heading = "DHCP")]
    pub not_authoritative: bool,
    /// Two packets instead of four, for clients that ask for it (RFC 4039)
    #[arg(long, env = "BERTH_SERVE_RAPID_COMMIT", help_heading = "DHCP")]
    pub rapid_commit: bool,
    /// Answer BOOTP requests of clients with a reservation
    #[arg(long, env = "BERTH_SERVE_BOOTP", help_heading = "DHCP")]
    pub bootp: bool,
    /// Let clients and relays choose the subnet by option 118 (RFC 3011)
    #[arg(long, env = "BERTH_SERVE_SUBNET_SELECTION", help_heading = "DHCP")]
    pub subnet_selection: bool,
    /// Look for an address by ARP before it is offered the first time
    #[arg(long, env = "BERTH_SERVE_PROBE", help_heading = "DHCP")]
    pub probe: bool,
    /// Seconds for which an offered address waits, 1 to 60
    #[arg(long, env = "BERTH_SERVE_OFFER_HOLD", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=60), help_heading = "DHCP")]
    pub offer_hold: u64,
    /// Seconds for which nobody gets an address that a client declined
    #[arg(
        long,
        env = "BERTH_SERVE_QUARANTINE",
        value_name = "SECONDS",
        default_value_t = 600,
        help_heading = "DHCP"
    )]
    pub quarantine: u64,
    /// Requests a second of one client, in bursts of three seconds' worth [default: any number]
    #[arg(long, env = "BERTH_SERVE_CLIENT_RATE", value_name = "NUMBER", help_heading = "DHCP")]
    pub client_rate: Option<u32>,
    /// Requests a second of all clients that have no lease yet [default: any number]
    #[arg(long, env = "BERTH_SERVE_RATE", value_name = "NUMBER", help_heading = "DHCP")]
    pub rate: Option<u32>,
    /// Do not serve DHCP
    #[arg(long, env = "BERTH_SERVE_NO_DHCP", help_heading = "DHCP")]
    pub no_dhcp: bool,

    /// Name servers that are asked [default: those of resolv.conf]
    #[arg(
        long,
        env = "BERTH_SERVE_UPSTREAM",
        value_name = "ADDRESS[:PORT]",
        value_delimiter = ' ',
        help_heading = "DNS"
    )]
    pub upstream: Vec<Upstream>,
    /// A name that is answered here, and its address
    #[arg(
        long,
        env = "BERTH_SERVE_HOST",
        value_name = "NAME=ADDRESS",
        value_delimiter = ' ',
        help_heading = "DNS"
    )]
    pub host: Vec<Host>,
    /// Our own domain, told to clients; names in it that are not known here do not exist
    #[arg(long, env = "BERTH_SERVE_DOMAIN", value_name = "DOMAIN", help_heading = "DNS")]
    pub domain: Option<String>,
    /// IPv6 addresses of names: pass them on, or say that there are none
    #[arg(long, env = "BERTH_SERVE_AAAA", value_name = "POLICY", value_enum, default_value_t = Aaaa::Pass, help_heading = "DNS")]
    pub aaaa: Aaaa,
    /// The resolver's settings, read again when they change
    #[arg(
        long,
        env = "BERTH_RESOLV_CONF",
        value_name = "PATH",
        default_value = "/etc/resolv.conf",
        help_heading = "DNS"
    )]
    pub resolv_conf: PathBuf,
    /// Do not serve DNS
    #[arg(long, env = "BERTH_SERVE_NO_DNS", help_heading = "DNS")]
    pub no_dns: bool,
}

/// What becomes of questions for IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Aaaa {
    Pass,
    None,
}

/// From the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    pub network: Ipv4Prefix,
    pub span: Span,
    pub router: Ipv4Addr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Mac(MacAddr),
    Id(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    pub whose: Whose,
    pub address: Ipv4Addr,
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeAddress(pub Option<Ipv4Addr>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionWords {
    pub code: u8,
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFor {
    Any,
    Architecture(u16),
    Ipxe,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    pub client: BootFor,
    pub file: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream(pub SocketAddr);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub address: std::net::IpAddr,
}

fn seconds(word: &str) -> Result<u32, String> {
    let number =
        if word == "infinite" { Some(u32::MAX) } else { word.parse().ok().filter(|number| *number > 0) };
    number.ok_or_else(|| "a number of seconds above 0, or infinite".to_owned())
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
                network: network.parse().ok()?,
                span: span.parse().ok()?,
                router: router.parse().ok()?,
            })
        };
        or_say(
            read(),
            "a prefix, two addresses and a router, as in 10.2.0.0/16,10.2.0.10,10.2.9.250,10.2.0.1",
        )
    }
}

impl FromStr for Reserve {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let mut words = word.splitn(3, ',');
            let client = words.next()?;
            let whose = match client.strip_prefix("id:") {
                Some(digits) => Whose::Id(unhex(digits)?),
                None => Whose::Mac(client.parse().ok()?),
            };
            Some(Self { whose, address: words.next()?.parse().ok()?, name: words.next().map(str::to_owned) })
        };
        or_say(read(), "a MAC or id:HEX, an address and perhaps a name, as in 52:54:00:12:34:56,10.0.0.5,web")
    }
}

impl FromStr for MaybeAddress {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        if word == "none" {
            return Ok(Self(None));
        }
        or_say(word.parse().ok().map(|address| Self(Some(address))), "an IPv4 address, or none")
    }
}

impl FromStr for OptionWords {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (code, words) = word.split_once('=')?;
            Some(Self { code: code.parse().ok()?, words: words.to_owned() })
        };
        or_say(read(), "a number of 1 to 254 and a value, as in 42=10.0.0.1")
    }
}

impl FromStr for BootFile {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let told = word.split_once('=').and_then(|(client, file)| {
            let client = match client {
                "ipxe" => BootFor::Ipxe,
                number => BootFor::Architecture(number.parse().ok()?),
            };
            Some(Self { client, file: file.to_owned() })
        });
        let told = told.unwrap_or_else(|| Self { client: BootFor::Any, file: word.to_owned() });
        or_say(Some(told).filter(|told| !told.file.is_empty()), "a file, as in pxelinux.0 or 7=grubx64.efi")
    }
}

impl FromStr for Upstream {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let plain = || Some(SocketAddr::new(word.parse().ok()?, 53));
        or_say(word.parse().ok().or_else(plain).map(Self), "an address, as in 10.0.0.53 or 10.0.0.53:5353")
    }
}

impl FromStr for Host {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let read = || {
            let (name, address) = word.split_once('=')?;
            let name = name.trim_end_matches('.');
            (!name.is_empty()).then_some(Self { name: name.to_lowercase(), address: address.parse().ok()? })
        };
        or_say(read(), "a name and its address, as in printer.lan=10.0.0.9")
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| *byte != b':').collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes.filter(|bytes| rest.is_empty() && !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_or_refused() {
        assert!("10.0.0.9,10.0.0.1".parse::<Span>().is_err());
        assert_eq!("id:01:ff,10.0.0.5,web".parse::<Reserve>().unwrap().whose, Whose::Id(vec![1, 255]));
        assert_eq!("52:54:00:12:34:56,10.0.0.5".parse::<Reserve>().unwrap().name, None);
        for wrong in ["id:,10.0.0.5", "id:0,10.0.0.5", "10.0.0.5", "zz:54:00:12:34:56,10.0.0.5"] {
            assert!(wrong.parse::<Reserve>().is_err(), "{wrong}");
        }
        assert_eq!("7=a=b".parse::<BootFile>().unwrap().client, BootFor::Architecture(7));
        let url = "http://boot/x?a=b".parse::<BootFile>().unwrap();
        assert_eq!((url.client, url.file.as_str()), (BootFor::Any, "http://boot/x?a=b"));
        assert_eq!("10.0.0.53".parse::<Upstream>().unwrap().0.port(), 53);
        assert_eq!("[fd00::1]:54".parse::<Upstream>().unwrap().0.port(), 54);
        assert_eq!("fd00::1".parse::<Upstream>().unwrap().0.port(), 53);
        assert!("256=x".parse::<OptionWords>().is_err());
        assert_eq!(seconds("infinite"), Ok(u32::MAX));
        assert!(seconds("0").is_err());
    }
}
