//! A pool of addresses: which networks there are, what is given away in each, and to whom alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Duid, Reason};
use crate::net::{Ipv6Prefix, MacAddr};
use crate::proto::leases::{ClientId, LeaseTime, Range, State};
use crate::proto::limits::Limits;

/// A lifetime without an end (RFC 8415 §7.7).
pub const INFINITE: u32 = u32::MAX;
/// Addresses that one client has at once, and associations of a message that get one.
pub const MAX_HELD: usize = 8;
/// Places that are tried for a new client before the next one that nobody had.
const TRIES: u8 = 16;

/// Settings of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The first is that of the link; the others are behind relay agents.
    pub subnets: Vec<Subnet>,
    pub reservations: Vec<Reservation>,
    /// The only server here: a client that nobody remembers gets its free address back, or is told that it has none.
    /// Otherwise it meets silence.
    pub authoritative: bool,
    /// How long an advertised address waits for its REQUEST.
    pub offer_hold: Duration,
    /// How long a declined address is nobody's.
    pub quarantine: Duration,
    pub limits: Limits,
}

/// A network, and its addresses that are given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub network: Ipv6Prefix,
    /// Ours in it, which no client gets.
    pub server: Option<Ipv6Addr>,
    pub ranges: Vec<Range<Ipv6Addr>>,
    pub lease: LeaseTime,
}

/// An address that one client alone gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub client: ReservedFor,
    pub address: Ipv6Addr,
    /// What DNS calls it.
    pub name: Option<String>,
}

/// By what the client of a reservation is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReservedFor {
    Duid(Duid),
    /// That of its DUID, when it has one (RFC 8415 §11.2, §11.4), or as its relay agent says (RFC 6939).
    Mac(MacAddr),
}

impl Subnet {
    /// All of the network.
    pub(super) fn whole(&self) -> [Range<Ipv6Addr>; 1] {
        let last = self.network.network().to_bits() | !self.network.mask().to_bits();
        [Range { first: self.network.network(), last: Ipv6Addr::from_bits(last) }]
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.network.contains(other.network.network())
            || other.network.contains(self.network.network())
    }
}

impl Pool {
    /// How far ahead the end of a lease, or of a quarantine, can lie; None: there may be none.
    pub fn longest(&self, address: Ipv6Addr, state: State) -> Option<Duration> {
        if state == State::Declined {
            return Some(self.quarantine);
        }
        let of = |subnet: &Subnet| subnet.lease.max;
        let around = longest_around(&self.subnets, address).map(of);
        let secs = around.or_else(|| self.subnets.iter().map(of).max())?;
        (secs != INFINITE).then(|| Duration::from_secs(secs.into()))
    }

    /// Whether the address is of a network that is served.
    pub fn serves(&self, address: Ipv6Addr) -> bool {
        longest_around(&self.subnets, address).is_some()
    }
}

fn longest_around(subnets: &[Subnet], address: Ipv6Addr) -> Option<&Subnet> {
    let around = subnets.iter().filter(|subnet| subnet.network.contains(address));
    around.max_by_key(|subnet| subnet.network.length)
}

/// The settings by what they are looked up by.
#[derive(Debug)]
pub(super) struct Places {
    /// Of each subnet, how many addresses its ranges have.
    sizes: Vec<u128>,
    by_duid: BTreeMap<Duid, Vec<usize>>,
    by_mac: BTreeMap<MacAddr, Vec<usize>>,
    /// No client gets them from a range.
    kept: BTreeSet<Ipv6Addr>,
}

impl Places {
    pub fn new(pool: &Pool) -> Self {
        let size = |subnet: &Subnet| {
            subnet.ranges.iter().fold(0_u128, |all, range| all.saturating_add(count(*range)))
        };
        let mut places = Self {
            sizes: pool.subnets.iter().map(size).collect(),
            by_duid: BTreeMap::new(),
            by_mac: BTreeMap::new(),
            kept: pool.subnets.iter().flat_map(nobodys).collect(),
        };
        for (at, reservation) in pool.reservations.iter().enumerate() {
            places.kept.insert(reservation.address);
            match &reservation.client {
                ReservedFor::Duid(duid) => places.by_duid.entry(duid.clone()).or_default().push(at),
                ReservedFor::Mac(mac) => places.by_mac.entry(*mac).or_default().push(at),
            }
        }
        places
    }

    /// Where the client is: the network around what its relay agent says of the link (RFC 8415 §13.1).
    pub fn subnet(pool: &Pool, link: Option<Ipv6Addr>) -> Result<usize, Reason> {
        let Some(link) = link else { return Ok(0) };
        let around = longest_around(&pool.subnets, link).ok_or(Reason::NoSubnet)?;
        pool.subnets.iter().position(|subnet| subnet == around).ok_or(Reason::NoSubnet)
    }

    /// Whether a client of the subnet can get it from a range.
    pub fn gives(&self, pool: &Pool, on: usize, address: Ipv6Addr) -> bool {
        let is_inside = |subnet: &Subnet| subnet.ranges.iter().any(|range| range.contains(address));
        pool.subnets.get(on).is_some_and(is_inside) && self.is_free(pool, on, address)
    }

    /// Nobody else's by the settings: neither reserved nor of a smaller network.
    pub fn is_free(&self, pool: &Pool, on: usize, address: Ipv6Addr) -> bool {
        let inner = longest_around(&pool.subnets, address);
        inner == pool.subnets.get(on) && !self.kept.contains(&address)
    }

    /// What is reserved for a client in the subnet: by its DUID, else by its MAC.
    pub fn reservation<'p>(
        &self,
        pool: &'p Pool,
        on: usize,
        duid: Option<&Duid>,
        mac: Option<MacAddr>,
    ) -> Option<&'p Reservation> {
        let network = pool.subnets.get(on);
        let of = |all: Option<&Vec<usize>>| {
            let all = all.into_iter().flatten().filter_map(|at| pool.reservations.get(*at));
            all.into_iter().find(|it| longest_around(&pool.subnets, it.address) == network)
        };
        of(duid.and_then(|duid| self.by_duid.get(duid)))
            .or_else(|| of(mac.and_then(|mac| self.by_mac.get(&mac))))
    }

    /// Where a client's address is to be, by who it is: the same after all was forgotten. Some places, the best first.
    pub fn spread<'a>(
        &'a self,
        pool: &'a Pool,
        on: usize,
        client: &'a ClientId,
    ) -> impl Iterator<Item = Ipv6Addr> + 'a {
        let size = self.sizes.get(on).copied().unwrap_or_default();
        let place = move |at: u8| {
            let hash = Sha256::new().chain_update([at]).chain_update(&client.0).finalize();
            let number = u128::from_be_bytes(*hash.first_chunk()?);
            let mut left = number.checked_rem(size)?;
            for range in &pool.subnets.get(on)?.ranges {
                if left < count(*range) {
                    return Some(Ipv6Addr::from_bits(range.first.to_bits() + left));
                }
                left -= count(*range);
            }
            None
        };
        (0..TRIES).filter_map(place).filter(move |address| self.gives(pool, on, *address))
    }

    pub fn is_kept(&self, address: Ipv6Addr) -> bool {
        self.kept.contains(&address)
    }

    /// Whether there is anything to give away.
    pub fn is_empty(&self, pool: &Pool) -> bool {
        self.sizes.iter().all(|size| *size == 0) && pool.reservations.is_empty()
    }
}

/// Ours, and the subnet-router anycast address (RFC 4291 §2.6.1), which a /127 does without (RFC 6164).
pub(crate) fn nobodys(subnet: &Subnet) -> impl Iterator<Item = Ipv6Addr> + use<> {
    let anycast = (subnet.network.length < 127).then(|| subnet.network.network());
    subnet.server.into_iter().chain(anycast)
}

/// How many addresses it has, saturating.
pub(crate) fn count(range: Range<Ipv6Addr>) -> u128 {
    range.last.to_bits().saturating_sub(range.first.to_bits()).saturating_add(1)
}
