//! Addresses of a pool and who has them.

use std::net::Ipv4Addr;

/// Addresses from the first to the last, both of them included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}
