//! What a lease is made of.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::Address;
use crate::net::MacAddr;

/// Addresses from the first to the last, both of them included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<A = Ipv4Addr> {
    pub first: A,
    pub last: A,
}

impl<A: Address> Range<A> {
    /// Whether the address is within it, both ends included.
    pub fn contains(self, address: A) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// Who a client is (RFC 2131 §4.2): whatever octets tell it from others. Of DHCPv6, DUID and IAID (RFC 8415 §12).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub Box<[u8]>);

impl ClientId {
    /// Client identifiers are at most 255 octets (RFC 2132 §9.14).
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// Hardware type (IANA's ARP parameters) and address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardware {
    pub kind: u8,
    pub address: MacAddr,
}

/// Of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Offered,
    Bound,
    /// Given back: remembered, and anyone's.
    Released,
    /// In use by a stranger: nobody's for a while.
    Declined,
}

/// An address, its client, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease<A = Ipv4Addr> {
    pub address: A,
    pub client: ClientId,
    pub hardware: Hardware,
    pub name: Option<String>,
    pub state: State,
    /// None: for ever.
    pub until: Option<Instant>,
}

/// Seconds; `u32::MAX` as `max` allows leases without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTime {
    pub default: u32,
    pub min: u32,
    pub max: u32,
}

impl LeaseTime {
    /// What `berth run` gives: up to the usual time, at least five minutes of it.
    pub(crate) fn up_to(default: u32) -> Self {
        Self { default, min: default.min(300), max: default }
    }
}
