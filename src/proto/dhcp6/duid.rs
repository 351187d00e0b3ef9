//! DHCP unique identifiers (RFC 8415 §11): opaque, and compared octet by octet.

use std::fmt;
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::net::MacAddr;

/// Octets: the type and 1 to 128 of the identifier (RFC 8415 §11.1).
pub(super) const LENGTHS: RangeInclusive<usize> = 3..=130;
/// DUID-UUID (RFC 8415 §11.5, RFC 6355).
const UUID: [u8; 2] = [0, 4];

/// Of a client or a server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duid(Box<[u8]>);

impl Duid {
    /// None when it is not of 3 to 130 octets.
    pub fn new(octets: &[u8]) -> Option<Self> {
        LENGTHS.contains(&octets.len()).then(|| Self(octets.into()))
    }

    /// The same on every start for the same MAC. It is a DUID-UUID: a DUID-LL is not for who cannot tell that the
    /// interface belongs to the device for good (RFC 8415 §11.4), as a bridge that is made at each start does not, and
    /// DUID-LLT and DUID-EN want something that is kept. The UUID is a hash, so of version 8 (RFC 9562 §5.8).
    pub fn stable(mac: MacAddr) -> Self {
        let hash =
            Sha256::new().chain_update(b"berth dhcp6 server\0").chain_update(mac.0).finalize();
        let uuid = hash.iter().take(16).enumerate().map(|(at, octet)| match at {
            6 => octet & 0x0f | 0x80,
            8 => octet & 0x3f | 0x80,
            _ => *octet,
        });
        Self(UUID.into_iter().chain(uuid).collect())
    }

    /// The MAC in it: of a DUID-LLT or a DUID-LL of Ethernet (RFC 8415 §11.2, §11.4).
    pub fn mac(&self) -> Option<MacAddr> {
        let ([0, 1, 0, 1, _, _, _, _, mac @ ..] | [0, 3, 0, 1, mac @ ..]) = &*self.0 else {
            return None;
        };
        mac.try_into().ok().map(MacAddr)
    }

    /// As it lies in an option.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// As logs of DHCPv6 have it: octets with colons between them.
impl fmt::Display for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
