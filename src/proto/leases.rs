//! Addresses of a pool and who has them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::net::MacAddr;
use crate::proto::Now;

/// Addresses from the first to the last, both of them included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientId(pub Box<[u8]>);

impl ClientId {
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardware {
    pub kind: u8,
    pub address: MacAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Offered,
    Bound,
    Released,
    Declined,
}

#[derive(Debug, Clone)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub client: ClientId,
    pub hardware: Hardware,
    pub state: State,
    pub until: Option<Instant>,
}

impl Lease {
    fn live(&self, now: Now) -> bool {
        self.state != State::Released && self.until.is_none_or(|until| until > now.monotonic)
    }
}

#[derive(Debug)]
pub struct Leases {
    all: BTreeMap<Ipv4Addr, Lease>,
    limit: usize,
    journal: Vec<u8>,
}

impl Leases {
    pub fn new(limit: usize) -> Self {
        Self { all: BTreeMap::new(), limit, journal: Vec::new() }
    }
    pub fn of_client(&self, now: Now, client: &ClientId, within: &[Range]) -> Option<Lease> {
        let inside = |a: Ipv4Addr| within.iter().any(|r| (r.first..=r.last).contains(&a));
        self.all
            .values()
            .filter(|l| l.client == *client && l.state != State::Declined && inside(l.address))
            .max_by_key(|l| l.live(now))
            .cloned()
    }
    pub fn of_address(&self, _now: Now, address: Ipv4Addr) -> Option<Lease> {
        self.all.get(&address).cloned()
    }
    pub fn is_free_for(&self, now: Now, address: Ipv4Addr, client: &ClientId) -> bool {
        self.all
            .get(&address)
            .is_none_or(|l| !l.live(now) || (l.client == *client && l.state != State::Declined))
    }
    pub fn free(&mut self, now: Now, ranges: &[Range], skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let each =
            || ranges.iter().flat_map(|r| (r.first.to_bits()..=r.last.to_bits()).map(Ipv4Addr::from_bits));
        each().find(|a| !skip(*a) && !self.all.contains_key(a)).or_else(|| {
            each()
                .filter(|a| !skip(*a))
                .filter(|a| self.all.get(a).is_some_and(|l| !l.live(now)))
                .min_by_key(|a| self.all.get(a).map(|l| l.until))
        })
    }
    pub fn offer(
        &mut self,
        now: Now,
        address: Ipv4Addr,
        client: &ClientId,
        hardware: Hardware,
        hold: Duration,
    ) -> bool {
        if self.all.len() >= self.limit {
            return false;
        }
        let until = Some(now.monotonic + hold);
        self.all.insert(
            address,
            Lease { address, client: client.clone(), hardware, state: State::Offered, until },
        );
        true
    }
    pub fn bind(
        &mut self,
        now: Now,
        address: Ipv4Addr,
        client: &ClientId,
        hardware: Hardware,
        _name: Option<&str>,
        lease: Option<Duration>,
    ) -> bool {
        let until = lease.map(|lease| now.monotonic + lease);
        self.all
            .insert(address, Lease { address, client: client.clone(), hardware, state: State::Bound, until });
        self.journal.push(1);
        true
    }
    pub fn release(&mut self, _now: Now, address: Ipv4Addr) {
        if let Some(l) = self.all.get_mut(&address) {
            l.state = State::Released;
        }
    }
    pub fn decline(&mut self, now: Now, address: Ipv4Addr, quarantine: Duration) {
        let client = ClientId(Box::new([]));
        let hardware = Hardware { kind: 0, address: MacAddr([0; 6]) };
        let until = Some(now.monotonic + quarantine);
        self.all.insert(address, Lease { address, client, hardware, state: State::Declined, until });
    }
    pub fn withdraw(&mut self, address: Ipv4Addr) {
        if self.all.get(&address).is_some_and(|l| l.state == State::Offered) {
            self.all.remove(&address);
        }
    }
}
