//! What a router advertisement says, checked once and encoded once (RFC 4861 §4.2, RFC 8106 §5).

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::net::{DomainName, MacAddr};

/// Router advertisement.
const TYPE: u8 = 134;
/// `AdvCurHopLimit` (RFC 4861 §6.2.1).
const HOP_LIMIT: u8 = 64;
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
/// Options (RFC 4861 §4.6, RFC 8106 §5).
const SOURCE_ADDRESS: u8 = 1;
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const SERVERS: u8 = 25;
const SEARCH: u8 = 31;
/// The least that a link of IPv6 carries (RFC 8200 §5), and what of it is left for the message.
const MIN_MTU: u32 = 1280;
const MAX_OCTETS: usize = 1280 - 40;
/// `AdvDefaultLifetime`, seconds.
const MAX_LIFETIME: u16 = 9000;
/// Bounds of `MinRtrAdvInterval` and `MaxRtrAdvInterval`.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(3);
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(4)..=Duration::from_secs(1800);
/// Name servers are believed for so many of the longest intervals (RFC 8106 §5.1).
const INTERVALS_BELIEVED: u32 = 3;

/// Prefixes that are gone, and said to be.
const MAX_GONE: usize = 4;

/// Why no router may say this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} is no link-local address: a router is known by one (RFC 4861 §6.1.2)")]
    Address(Ipv6Addr),
    #[error("an MTU of {0} octets: IPv6 has 1280 at least")]
    Mtu(u32),
    #[error("a router lifetime of {0} s: 0, or the longest interval to 9000")]
    Lifetime(u16),
    #[error(
        "intervals from {0:?} to {1:?}: the longest 4 s to 30 min, the shortest 3 s to three quarters of it"
    )]
    Interval(Duration, Duration),
    #[error(
        "{network}/{length} is no prefix to advertise: a network of unicast addresses, not of link-local ones"
    )]
    Prefix { network: Ipv6Addr, length: u8 },
    #[error("{0}: it is preferred for longer than it is valid")]
    Preferred(Ipv6Addr),
    #[error("{0} is no name server's address")]
    Server(Ipv6Addr),
    #[error(
        "an advertisement of {0} octets: 1240 fit into any packet; leave out prefixes, servers or domains"
    )]
    TooLong(usize),
}

/// Of addresses on the link, or that hosts make themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    pub network: Ipv6Addr,
    /// Bits, 0 to 128.
    pub length: u8,
    /// L: its addresses are reached without a router.
    pub on_link: bool,
    /// A: hosts make addresses of it (RFC 4862).
    pub autonomous: bool,
    /// Seconds; `u32::MAX` for ever.
    pub valid: u32,
    pub preferred: u32,
}

/// What a router says of itself and its link (RFC 4861 §6.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub mac: MacAddr,
    /// Link-local: where advertisements come from.
    pub address: Ipv6Addr,
    /// M: addresses are had by DHCPv6.
    pub managed: bool,
    /// O: other settings are.
    pub other: bool,
    /// Octets.
    pub mtu: Option<u32>,
    /// Seconds as a default router; 0: none.
    pub lifetime: u16,
    pub prefixes: Vec<Prefix>,
    pub servers: Vec<Ipv6Addr>,
    pub search: Vec<DomainName>,
    /// `MinRtrAdvInterval` to `MaxRtrAdvInterval`.
    pub interval: RangeInclusive<Duration>,
}

/// Settings that a router may have, and the message that says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    settings: Settings,
    message: Vec<u8>,
    last: Vec<u8>,
}

impl Advertisement {
    /// # Errors
    ///
    /// What RFC 4861 §6.2.1 does not let a router be set to.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        check(&settings)?;
        let believed = settings.interval.end().as_secs().saturating_mul(INTERVALS_BELIEVED.into());
        let believed = u32::try_from(believed).unwrap_or(u32::MAX);
        let message = encode(&settings, settings.lifetime, believed);
        let last = encode(&settings, 0, 0);
        if message.len() > MAX_OCTETS {
            return Err(Error::TooLong(message.len()));
        }
        Ok(Self { settings, message, last })
    }

    /// The same router, which is none any more: no default route, no addresses, no name servers.
    #[must_use]
    pub fn withdrawn(&self) -> Self {
        let settings =
            Settings { lifetime: 0, managed: false, other: false, ..self.settings.clone() };
        let message = encode(&settings, 0, 0);
        Self { last: message.clone(), message, settings }
    }

    /// The same router, which said `before` until now: of prefixes that are gone hosts are to use no address any more
    /// (RFC 9096 §3.5), the latest ones at least.
    #[must_use]
    pub fn after(&self, before: &Self) -> Self {
        let mut settings = self.settings.clone();
        let is_known = |all: &[Prefix], it: &Prefix| {
            all.iter().any(|prefix| (prefix.network, prefix.length) == (it.network, it.length))
        };
        for gone in &before.settings.prefixes {
            if settings.prefixes.len() <= MAX_GONE && !is_known(&settings.prefixes, gone) {
                settings.prefixes.push(Prefix { valid: 0, preferred: 0, ..gone.clone() });
            }
        }
        Self::new(settings).unwrap_or_else(|_| self.clone())
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// From ICMPv6's type on, without a checksum.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// The last one: no default router, and no name server, from now on (RFC 4861 §6.2.5).
    pub(super) fn last(&self) -> &[u8] {
        &self.last
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    let (min, max) = (*settings.interval.start(), *settings.interval.end());
    if !settings.address.is_unicast_link_local() {
        return Err(Error::Address(settings.address));
    }
    if let Some(mtu) = settings.mtu.filter(|mtu| *mtu < MIN_MTU) {
        return Err(Error::Mtu(mtu));
    }
    if !INTERVALS.contains(&max) || min < SHORTEST_INTERVAL || min > max * 3 / 4 {
        return Err(Error::Interval(min, max));
    }
    let lifetime = settings.lifetime;
    if lifetime != 0 && (u64::from(lifetime) < max.as_secs() || lifetime > MAX_LIFETIME) {
        return Err(Error::Lifetime(lifetime));
    }
    settings.prefixes.iter().try_for_each(check_prefix)?;
    let wrong = |server: &&Ipv6Addr| server.is_multicast() || server.is_unspecified();
    settings.servers.iter().find(wrong).map_or(Ok(()), |server| Err(Error::Server(*server)))
}

fn check_prefix(prefix: &Prefix) -> Result<(), Error> {
    let Prefix { network, length, valid, preferred, .. } = *prefix;
    let host_bits = 128_u32.checked_sub(length.into());
    let is_network = host_bits.is_some_and(|bits| network.to_bits().trailing_zeros() >= bits);
    if !is_network || network.is_multicast() || network.is_unicast_link_local() {
        return Err(Error::Prefix { network, length });
    }
    if preferred > valid { Err(Error::Preferred(network)) } else { Ok(()) }
}

fn encode(settings: &Settings, lifetime: u16, believed: u32) -> Vec<u8> {
    let flags = flag(settings.managed, MANAGED) | flag(settings.other, OTHER);
    let mut octets = vec![TYPE, 0, 0, 0, HOP_LIMIT, flags];
    octets.extend(lifetime.to_be_bytes());
    // How long a neighbour counts as reached, and how often one is asked for: as hosts have it themselves.
    octets.extend([0; 8]);
    octets.extend([SOURCE_ADDRESS, 1]);
    octets.extend(settings.mac.0);
    if let Some(mtu) = settings.mtu {
        octets.extend([MTU, 1, 0, 0]);
        octets.extend(mtu.to_be_bytes());
    }
    for prefix in &settings.prefixes {
        let flags = flag(prefix.on_link, ON_LINK) | flag(prefix.autonomous, AUTONOMOUS);
        octets.extend([PREFIX, 4, prefix.length, flags]);
        octets.extend(prefix.valid.to_be_bytes());
        octets.extend(prefix.preferred.to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(prefix.network.octets());
    }
    let servers: Vec<u8> = settings.servers.iter().flat_map(Ipv6Addr::octets).collect();
    resolver(&mut octets, SERVERS, believed, &servers);
    let search: Vec<u8> = settings.search.iter().flat_map(DomainName::labels).collect();
    resolver(&mut octets, SEARCH, believed, &search);
    octets
}

fn flag(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

/// An option with a lifetime (RFC 8106 §5.1, §5.2), its end filled with zeros. Of what one has no room for another has.
fn resolver(octets: &mut Vec<u8>, kind: u8, lifetime: u32, content: &[u8]) {
    if content.is_empty() {
        return;
    }
    let units = (8 + content.len()).div_ceil(8);
    // Beyond what fits into any packet: refused by the length of all.
    octets.extend([kind, u8::try_from(units).unwrap_or(u8::MAX), 0, 0]);
    octets.extend(lifetime.to_be_bytes());
    octets.extend(content);
    octets.resize(octets.len().next_multiple_of(8), 0);
}
