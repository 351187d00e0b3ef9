//! The words of `berth serve`: each flag, its environment twin and its help.

mod values;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub use values::{
    BootFile, BootFor, Host, MaybeAddress, OptionWords, Relayed, Relayed6, Reserve, Reserve6,
    Router6, RouterAdvertisements, Span, Span6, Upstream, Whose,
};
use values::{address6, boot_url, host_address, host_address6, seconds};

use crate::net::{DomainName, IfName, Ipv4Prefix, Ipv6Prefix, number};

/// Where leases are kept unless told otherwise.
pub(crate) const LEASE_FILE: &str = "/var/lib/berth/leases";

/// Flags of `berth serve`. What delimiters stand for is in `reader`.
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
    /// How long an address is a client's, in seconds (3 at least), or infinite
    #[arg(long, env = "BERTH_SERVE_LEASE_TIME", value_name = "SECONDS", default_value = "3600", value_parser = seconds, help_heading = "DHCP")]
    pub lease_time: u32,
    /// The shortest lease a client may ask for, in seconds [default: 60, or the lease time when that is less]
    #[arg(long, alias = "least-lease-time", env = "BERTH_SERVE_MIN_LEASE_TIME", value_name = "SECONDS", value_parser = seconds, help_heading = "DHCP")]
    pub min_lease_time: Option<u32>,
    /// The longest lease a client may ask for, in seconds, or infinite [default: the lease time]
    #[arg(long, alias = "most-lease-time", env = "BERTH_SERVE_MAX_LEASE_TIME", value_name = "SECONDS", value_parser = seconds, help_heading = "DHCP")]
    pub max_lease_time: Option<u32>,
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
        value_delimiter = ',',
        value_parser = host_address,
        help_heading = "DHCP"
    )]
    pub dns: Vec<Ipv4Addr>,
    /// Search domains told to clients
    #[arg(
        long,
        env = "BERTH_SERVE_SEARCH",
        value_name = "DOMAIN",
        value_delimiter = ',',
        help_heading = "DHCP"
    )]
    pub search: Vec<DomainName>,
    /// Any other option by its number: addresses, a number or text as its RFC has it, or hex:…
    #[arg(
        long = "option",
        env = "BERTH_SERVE_OPTION",
        value_name = "CODE=VALUE",
        value_delimiter = '\n',
        help_heading = "DHCP"
    )]
    pub options: Vec<OptionWords>,
    /// Boot file: for everyone, or for architectures (numbers of RFC 4578, as in 7,9=FILE) and ipxe
    #[arg(
        long,
        env = "BERTH_SERVE_BOOT_FILE",
        value_name = "[ARCH|ipxe,…=]FILE",
        value_delimiter = ' ',
        help_heading = "DHCP"
    )]
    pub boot_file: Vec<BootFile>,
    /// Where boot files are [default: our address]
    #[arg(long, env = "BERTH_SERVE_NEXT_SERVER", value_name = "ADDRESS", value_parser = host_address, help_heading = "DHCP")]
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
    #[arg(long, env = "BERTH_SERVE_OFFER_HOLD", value_name = "SECONDS", default_value_t = 60, value_parser = number(1..=60_u64), help_heading = "DHCP")]
    pub offer_hold: u64,
    /// Seconds for which nobody gets an address that a client declined, 1 to 31536000
    #[arg(
        long,
        env = "BERTH_SERVE_QUARANTINE",
        value_name = "SECONDS",
        default_value_t = 600,
        value_parser = number(1..=31_536_000_u64),
        help_heading = "DHCP"
    )]
    pub quarantine: u64,
    /// Requests a second of one client, in bursts of three seconds' worth [default: any number]
    #[arg(long, env = "BERTH_SERVE_CLIENT_RATE", value_name = "NUMBER", value_parser = number(1..=u32::MAX), help_heading = "DHCP")]
    pub client_rate: Option<u32>,
    /// Requests a second of all clients that have no lease yet [default: any number]
    #[arg(long, env = "BERTH_SERVE_RATE", value_name = "NUMBER", value_parser = number(1..=u32::MAX), help_heading = "DHCP")]
    pub rate: Option<u32>,
    /// Do not serve DHCP, of IPv6 neither
    #[arg(long, env = "BERTH_SERVE_NO_DHCP", help_heading = "DHCP")]
    pub no_dhcp: bool,

    /// Our IPv6 address on it, with its prefix length [default: the interface's first global or unique-local one]
    #[arg(long, env = "BERTH_SERVE_ADDRESS6", value_name = "ADDRESS/LENGTH", value_parser = address6, help_heading = "IPv6")]
    pub address6: Option<Ipv6Prefix>,
    /// IPv6 addresses to give away, from the first to the last; may be said several times
    #[arg(
        long,
        env = "BERTH_SERVE_RANGE6",
        value_name = "FIRST,LAST",
        value_delimiter = ' ',
        help_heading = "IPv6"
    )]
    pub range6: Vec<Span6>,
    /// A network behind a DHCPv6 relay agent: its prefix, and its addresses to give away
    #[arg(
        long,
        env = "BERTH_SERVE_RELAYED6",
        value_name = "NETWORK/LENGTH,FIRST,LAST",
        value_delimiter = ' ',
        help_heading = "IPv6"
    )]
    pub relayed6: Vec<Relayed6>,
    /// An IPv6 address for one client alone: by MAC, or by DUID in hexadecimal (id:…)
    #[arg(
        long,
        env = "BERTH_SERVE_RESERVE6",
        value_name = "MAC|id:HEX,ADDRESS[,NAME]",
        value_delimiter = ' ',
        help_heading = "IPv6"
    )]
    pub reserve6: Vec<Reserve6>,
    /// What router advertisements say [default: on where there is DHCPv6, else off]
    #[arg(
        long,
        env = "BERTH_SERVE_ROUTER_ADVERTISEMENTS",
        value_name = "POLICY",
        value_enum,
        help_heading = "IPv6"
    )]
    pub router_advertisements: Option<RouterAdvertisements>,
    /// Whether this host is the default router that advertisements name
    #[arg(long, env = "BERTH_SERVE_ROUTER6", value_name = "ROUTER", value_enum, default_value_t = Router6::Ours, help_heading = "IPv6")]
    pub router6: Router6,
    /// Name servers told by DHCPv6 and in router advertisements [default: our IPv6 address]
    #[arg(
        long,
        env = "BERTH_SERVE_DNS6",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = host_address6,
        help_heading = "IPv6"
    )]
    pub dns6: Vec<Ipv6Addr>,
    /// Boot file of who boots by IPv6 (RFC 5970)
    #[arg(long, env = "BERTH_SERVE_BOOT_FILE6", value_name = "URL", value_parser = boot_url, help_heading = "IPv6")]
    pub boot_file6: Option<String>,

    /// Name servers that are asked [default: those of resolv.conf]
    #[arg(
        long,
        env = "BERTH_SERVE_UPSTREAM",
        value_name = "ADDRESS[:PORT]",
        value_delimiter = ',',
        help_heading = "DNS"
    )]
    pub upstream: Vec<Upstream>,
    /// A name that is answered here, and its address; *.NAME: all names below it
    #[arg(
        long,
        env = "BERTH_SERVE_HOST",
        value_name = "NAME=ADDRESS",
        value_delimiter = ',',
        help_heading = "DNS"
    )]
    pub host: Vec<Host>,
    /// Our own domain, told to clients; names in it that are not known here do not exist
    #[arg(long, env = "BERTH_SERVE_DOMAIN", value_name = "DOMAIN", help_heading = "DNS")]
    pub domain: Option<DomainName>,
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
