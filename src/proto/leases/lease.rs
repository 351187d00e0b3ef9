//! What a lease is made of.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::net::MacAddr;

/// Addresses from the first to the last, both of them included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl Range {
    /// Whether the address is within it, both ends included.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// Who a client is (RFC 2131 §4.2): whatever octets tell it from others.
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
pub struct Lease {
    pub address: Ipv4Addr,
    pub client: ClientId,
    pub hardware: Hardware,
    pub name: Option<String>,
    pub state: State,
    /// None: for ever.
    pub until: Option<Instant>,
}
