//! What the server is told to do, checked once when a responder is made of it.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use super::Duid;
use super::pool::{INFINITE, Pool};
use crate::net::{DomainName, Ipv6Prefix};
use crate::proto::leases::{LeaseTime, Range};

/// `SOL_MAX_RT` and `INF_MAX_RT`, seconds (RFC 8415 §21.24, §21.25).
const MAX_RT: RangeInclusive<u32> = 60..=86_400;
/// `IRT_MINIMUM`, seconds (RFC 8415 §7.6).
const MIN_REFRESH: u32 = 600;

/// Why no server may say this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no address for the guest: one at least")]
    NoAddress,
    #[error("{0} is no address for a guest: unicast, and neither link-local nor loopback")]
    Address(Ipv6Addr),
    #[error("{0} is there twice: a guest has an address once, or had it before")]
    Twice(Ipv6Addr),
    #[error("{0} and {1} are one within the other, or the same: each address is of one network")]
    Overlap(Ipv6Prefix, Ipv6Prefix),
    #[error("{} to {} is not within {}", .0.first, .0.last, .1)]
    Range(Range<Ipv6Addr>, Ipv6Prefix),
    #[error("addresses are valid for {} s at least, {} s, {} s at most", .0.min, .0.default, .0.max)]
    LeaseTime(LeaseTime),
    #[error("{0} is no address of a server")]
    Server(Ipv6Addr),
    #[error(
        "T1 {t1} s, T2 {t2} s, preferred for {preferred} s, valid for {valid} s: none is longer than the one after it, and the last two are not 0"
    )]
    Lifetimes { t1: u32, t2: u32, preferred: u32, valid: u32 },
    #[error("{0} s between messages that have no answer: 60 to 86400")]
    MaxRt(u32),
    #[error("settings refreshed after {0} s: 600 at least")]
    Refresh(u32),
    #[error("a boot file's URL of {0:?}: some characters, no control characters")]
    Boot(String),
    #[error(
        "a reply of {0} octets: 976 leave room for what clients add; leave out addresses, servers, domains or the boot file's parameters"
    )]
    TooLong(usize),
}

/// All that replies are built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Server identifier: the same after a restart, or clients that renew are not answered.
    pub server: Duid,
    pub addresses: Addresses,
    pub lifetimes: Lifetimes,
    pub parameters: Parameters,
    /// A SOLICIT that asks for it gets its REPLY at once (RFC 8415 §18.3.1).
    pub rapid_commit: bool,
    /// With 255 a client waits for no other server (RFC 8415 §18.2.1).
    pub preference: Option<u8>,
}

impl Settings {
    /// The only server of one guest.
    pub fn one_guest(server: Duid, current: Vec<Ipv6Addr>, lifetimes: Lifetimes) -> Self {
        Self {
            server,
            addresses: Addresses::OneGuest { current, previous: Vec::new() },
            lifetimes,
            parameters: Parameters::default(),
            rapid_commit: true,
            preference: Some(u8::MAX),
        }
    }

    /// A pool, whose leases say how long addresses are theirs.
    pub fn pool(server: Duid, pool: Pool) -> Self {
        let preference = pool.authoritative.then_some(u8::MAX);
        let lease = pool.subnets.first().map_or(INFINITE, |subnet| subnet.lease.default);
        Self {
            server,
            addresses: Addresses::Pool(pool),
            lifetimes: Lifetimes::of(lease, lease),
            parameters: Parameters::default(),
            rapid_commit: false,
            preference,
        }
    }
}

/// Which addresses are given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Whoever asks gets all the current ones in its first `IA_NA`, whatever DUID and IAID it has, and nothing is
    /// remembered: there is one client only. Who renews is told that the previous ones have ended.
    OneGuest { current: Vec<Ipv6Addr>, previous: Vec<Ipv6Addr> },
    /// Each client has its own.
    Pool(Pool),
}

/// Seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// When the client asks this server again; 0: as it likes.
    pub t1: u32,
    /// When it asks any.
    pub t2: u32,
    pub preferred: u32,
    pub valid: u32,
}

impl Lifetimes {
    /// T1 and T2 as RFC 8415 §21.4 recommends: half of the preferred lifetime, and four fifths.
    pub fn of(preferred: u32, valid: u32) -> Self {
        let (t1, t2) = match preferred {
            INFINITE => (INFINITE, INFINITE),
            secs => (secs / 2, secs - secs.div_ceil(5)),
        };
        Self { t1, t2, preferred, valid }
    }
}

/// What is sent to who asks for it. Empty is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// 23.
    pub dns: Vec<Ipv6Addr>,
    /// 24.
    pub search: Vec<DomainName>,
    /// 56, and 31 for who knows that one only.
    pub ntp: Vec<Ipv6Addr>,
    /// 59 and 60.
    pub boot: Option<Boot>,
    /// What a bare name of option 39 is completed with; the first of `search` when not set.
    pub domain: Option<DomainName>,
    /// 82: seconds between SOLICITs that nobody answers.
    pub sol_max_rt: Option<u32>,
    /// 83: the same of INFORMATION-REQUESTs.
    pub inf_max_rt: Option<u32>,
    /// 32: seconds after which who has no address asks for its parameters again.
    pub refresh: Option<u32>,
}

/// A boot file (RFC 5970).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    pub url: String,
    pub parameters: Vec<String>,
}

/// That a server may say it.
pub(super) fn check(settings: &Settings) -> Result<(), Error> {
    match &settings.addresses {
        Addresses::OneGuest { current, previous } => check_guest(current, previous)?,
        Addresses::Pool(pool) => check_pool(pool)?,
    }
    let Lifetimes { t1, t2, preferred, valid } = settings.lifetimes;
    if t1 > t2 || t2 > preferred || preferred > valid || preferred == 0 {
        return Err(Error::Lifetimes { t1, t2, preferred, valid });
    }
    check_parameters(&settings.parameters)
}

fn check_pool(pool: &Pool) -> Result<(), Error> {
    if pool.subnets.is_empty() {
        return Err(Error::NoAddress);
    }
    for (at, subnet) in pool.subnets.iter().enumerate() {
        let network = subnet.network;
        if let Some(other) = pool.subnets.iter().take(at).find(|other| other.overlaps(subnet)) {
            return Err(Error::Overlap(other.network, network));
        }
        let is_inside = |range: &&Range<Ipv6Addr>| {
            network.contains(range.first)
                && network.contains(range.last)
                && range.first <= range.last
        };
        if let Some(range) = subnet.ranges.iter().find(|range| !is_inside(range)) {
            return Err(Error::Range(*range, network));
        }
        let LeaseTime { default, min, max } = subnet.lease;
        if min == 0 || min > default || default > max {
            return Err(Error::LeaseTime(subnet.lease));
        }
    }
    Ok(())
}

fn check_guest(current: &[Ipv6Addr], previous: &[Ipv6Addr]) -> Result<(), Error> {
    if current.is_empty() {
        return Err(Error::NoAddress);
    }
    let mut seen = BTreeSet::new();
    for address in current.iter().chain(previous) {
        if !is_usable(*address) || address.is_unicast_link_local() || address.is_loopback() {
            return Err(Error::Address(*address));
        }
        if !seen.insert(address) {
            return Err(Error::Twice(*address));
        }
    }
    Ok(())
}

fn check_parameters(parameters: &Parameters) -> Result<(), Error> {
    let servers = parameters.dns.iter().chain(&parameters.ntp);
    if let Some(server) = servers.copied().find(|server| !is_usable(*server)) {
        return Err(Error::Server(server));
    }
    let rts = [parameters.sol_max_rt, parameters.inf_max_rt];
    if let Some(secs) = rts.into_iter().flatten().find(|secs| !MAX_RT.contains(secs)) {
        return Err(Error::MaxRt(secs));
    }
    if let Some(secs) = parameters.refresh.filter(|secs| *secs < MIN_REFRESH) {
        return Err(Error::Refresh(secs));
    }
    let wrong = |url: &&String| url.is_empty() || url.chars().any(char::is_control);
    let url = parameters.boot.as_ref().map(|boot| &boot.url).filter(wrong);
    url.map_or(Ok(()), |url| Err(Error::Boot(url.clone())))
}

fn is_usable(address: Ipv6Addr) -> bool {
    !address.is_multicast() && !address.is_unspecified()
}
