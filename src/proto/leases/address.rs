//! What a family's addresses have in common, as far as leases of them go.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of an IAID (RFC 8415 §12), which end the identifier of a DHCPv6 client's binding.
const IAID: usize = 4;

/// Of IPv4 or of IPv6.
pub trait Address: Copy + Ord + Hash + Debug + Display {
    /// Whether one machine may have several clients, each with an address.
    const HAS_OWNERS: bool;

    /// The one after it; None: there is none.
    fn next(self) -> Option<Self>;

    /// None: of the other family.
    fn of(address: IpAddr) -> Option<Self>;

    /// What of a client's identifier is the machine's.
    fn owner(client: &[u8]) -> &[u8];
}

impl Address for Ipv4Addr {
    const HAS_OWNERS: bool = false;

    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    fn owner(client: &[u8]) -> &[u8] {
        client
    }
}

impl Address for Ipv6Addr {
    const HAS_OWNERS: bool = true;

    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    /// The DUID without the IAID behind it.
    fn owner(client: &[u8]) -> &[u8] {
        client.len().checked_sub(IAID).and_then(|end| client.get(..end)).unwrap_or_default()
    }
}
