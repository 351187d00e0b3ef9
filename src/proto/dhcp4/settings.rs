//! What the server is told to do: subnets, reservations, policy. Plain values, checked by whoever reads the words.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::code;
use crate::net::{Ipv4Prefix, MacAddr, longest_around};
use crate::proto::leases::{LeaseTime, Range, State};
use crate::proto::limits::Limits;

/// A lease that never ends (RFC 2131 §3.3).
pub const INFINITE: u32 = u32::MAX;

/// All that replies are built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// In order of preference; those not `relayed` share the link this server listens on.
    pub subnets: Vec<Subnet>,
    pub reservations: Vec<Reservation>,
    /// The only server here: clients nobody remembers are told so (NAK), or get the free address they ask for
    /// back, as after a loss of the lease file. Otherwise they meet silence (RFC 2131 §4.3.2).
    pub authoritative: bool,
    /// How long an offered address waits for its REQUEST; at most 60 s.
    pub offer_hold: Duration,
    /// How long a declined address is not given to anyone.
    pub quarantine: Duration,
    /// RFC 4039.
    pub rapid_commit: bool,
    /// Answers BOOTP requests of clients that have a reservation (RFC 1534).
    pub bootp: bool,
    /// Whether a relay's or client's subnet selection option decides (RFC 3011). Link selection of a relay always
    /// does (RFC 3527).
    pub subnet_selection: bool,
    /// Says in `Transmit::probe` which addresses to look for on the link before they are offered.
    pub probe: bool,
    pub limits: Limits,
}

/// One network, its addresses, and what clients in it are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Any address of the network, and its length.
    pub network: Ipv4Prefix,
    /// Server identifier: how clients of this subnet reach us.
    pub server: Ipv4Addr,
    /// Only reached through a relay, not on the link itself.
    pub relayed: bool,
    pub addresses: Addresses,
    pub lease: LeaseTime,
    pub parameters: Parameters,
}

/// Which addresses a subnet gives away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Whoever asks gets this one, and nothing is remembered: there is one client only.
    OneGuest(Ipv4Addr),
    Pool(Vec<Range>),
}

/// What is sent to who asks for it. Empty is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// 3, and the default route of 121. Off the network's prefix, 121 gets a route to it as well (RFC 3442).
    pub router: Option<Ipv4Addr>,
    /// More routes for 121 and 249: to where, by which router (0.0.0.0: on the link).
    pub routes: Vec<(Ipv4Prefix, Ipv4Addr)>,
    /// 6.
    pub dns: Vec<Ipv4Addr>,
    /// 15, and what a bare name of option 81 is completed with; the first of `search` when not set.
    pub domain: Option<String>,
    /// 119.
    pub search: Vec<String>,
    /// 12, for clients without a name of their own in a reservation.
    pub host_name: Option<String>,
    /// 26; told unasked when below 1500.
    pub mtu: Option<u16>,
    pub boot: Vec<Boot>,
    /// Boot server: siaddr and 66; the server itself when not set.
    pub next_server: Option<Ipv4Addr>,
    /// By code, as they go out; instead of what is said above. See `encode` for the words of a person.
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Parameters {
    /// Whatever is told to be a router.
    pub fn routers(&self) -> impl Iterator<Item = Ipv4Addr> {
        let listed =
            self.options.get(&code::ROUTER).map(|octets| octets.as_chunks().0).unwrap_or_default();
        self.router.into_iter().chain(listed.iter().map(|octets| Ipv4Addr::from_octets(*octets)))
    }

    /// That of the mask, when it is told by number.
    pub(crate) fn mask_length(&self) -> Option<u8> {
        let mask: [u8; 4] = self.options.get(&code::MASK)?.as_slice().try_into().ok()?;
        u8::try_from(u32::from_be_bytes(mask).leading_ones()).ok()
    }
}

/// A boot file, and who gets it (RFC 4578 §2.1; IANA's processor architecture types).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    pub client: BootClient,
    /// A path for TFTP, a URL for HTTP boot or iPXE.
    pub file: String,
}

/// The most particular one wins: iPXE, then the architecture, then any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootClient {
    Any,
    /// Option 93.
    Architecture(u16),
    /// Option 175, or 77 saying so.
    Ipxe,
}

/// An address that one client alone gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub client: ReservedFor,
    pub address: Ipv4Addr,
    /// Option 12, and the name in 81.
    pub name: Option<String>,
}

/// By what the client of a reservation is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReservedFor {
    Mac(MacAddr),
    /// Option 61, whole.
    ClientId(Vec<u8>),
}

/// The one guest of `berth run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneGuest {
    /// Our address: server identifier and, where it is `routed`, router.
    pub server: Ipv4Addr,
    pub routed: bool,
    pub guest: Ipv4Prefix,
    pub dns: Vec<Ipv4Addr>,
    pub search: Vec<String>,
    pub hostname: String,
    /// Octets.
    pub mtu: u32,
    pub lease_secs: u32,
}

impl From<OneGuest> for Settings {
    fn from(guest: OneGuest) -> Self {
        let parameters = Parameters {
            router: guest.routed.then_some(guest.server),
            dns: guest.dns,
            search: guest.search,
            host_name: Some(guest.hostname),
            mtu: Some(u16::try_from(guest.mtu).unwrap_or(u16::MAX)),
            ..Parameters::default()
        };
        Self::new(vec![Subnet {
            network: guest.guest,
            server: guest.server,
            relayed: false,
            addresses: Addresses::OneGuest(guest.guest.address),
            lease: LeaseTime::up_to(guest.lease_secs),
            parameters,
        }])
    }
}

impl Settings {
    /// The subnet an address belongs to: the longest prefix that contains it. A network within another has its
    /// addresses to itself.
    pub(crate) fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        longest_around(self.subnets.iter(), |subnet| subnet.network, address)
    }

    /// How far ahead the end of a lease, or of a quarantine, can lie; None: there may be none. Of an address that is in
    /// no subnet any more, as far as any other's.
    pub fn longest(&self, address: Ipv4Addr, state: State) -> Option<Duration> {
        if state == State::Declined {
            return Some(self.quarantine);
        }
        let of = |subnet: &Subnet| subnet.lease.max;
        let secs = self.subnet_of(address).map(of).or_else(|| self.subnets.iter().map(of).max())?;
        (secs != INFINITE).then(|| Duration::from_secs(secs.into()))
    }

    /// Authoritative, nothing reserved, nothing limited, everything optional off.
    pub fn new(subnets: Vec<Subnet>) -> Self {
        Self {
            subnets,
            reservations: Vec::new(),
            authoritative: true,
            offer_hold: Duration::from_secs(60),
            quarantine: Duration::from_secs(600),
            rapid_commit: false,
            bootp: false,
            subnet_selection: false,
            probe: false,
            limits: Limits::default(),
        }
    }
}
