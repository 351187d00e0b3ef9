//! Reading the structure of an extension: fields at their offsets, in the machine's order unless said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::value::ipv6;

/// What an extension is told, and by which rule.
pub(crate) struct Info<'a> {
    pub bytes: &'a [u8],
    pub revision: u32,
    pub ip6: bool,
    pub transport: Option<&'static str>,
}

impl Info<'_> {
    fn octets<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    pub fn u8(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// A field that says yes or no.
    pub fn bool(&self, at: usize) -> Option<bool> {
        Some(self.u8(at)? != 0)
    }

    pub fn u16(&self, at: usize) -> Option<u16> {
        self.octets(at).map(u16::from_ne_bytes)
    }

    /// In the network's order.
    pub fn port(&self, at: usize) -> Option<u16> {
        self.octets(at).map(u16::from_be_bytes)
    }

    pub fn u32(&self, at: usize) -> Option<u32> {
        self.octets(at).map(u32::from_ne_bytes)
    }

    pub fn u64(&self, at: usize) -> Option<u64> {
        self.octets(at).map(u64::from_ne_bytes)
    }

    pub fn mac(&self, at: usize) -> Option<String> {
        let octets: [u8; 6] = self.octets(at)?;
        Some(octets.map(|octet| format!("{octet:02x}")).join(":"))
    }

    /// `union nf_inet_addr`.
    pub fn addr(&self, at: usize) -> Option<IpAddr> {
        if self.ip6 {
            self.octets::<16>(at).map(Ipv6Addr::from).map(IpAddr::V6)
        } else {
            self.octets::<4>(at).map(Ipv4Addr::from).map(IpAddr::V4)
        }
    }

    /// An address as it is written.
    pub fn address(&self, at: usize) -> Option<String> {
        Some(match self.addr(at)? {
            IpAddr::V4(addr) => addr.to_string(),
            IpAddr::V6(addr) => ipv6(addr.to_bits()),
        })
    }

    /// A string of at most so many octets, that ends at a zero.
    pub fn name(&self, at: usize, len: usize) -> Option<String> {
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(len);
        bytes.get(..end).map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// What the addresses of the rule are called.
    pub fn ip(&self) -> &'static str {
        if self.ip6 { "ip6" } else { "ip" }
    }
}
