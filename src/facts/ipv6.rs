//! What the pod has of IPv6: addresses that can be used, and where its packets go.

use std::fmt;
use std::net::Ipv6Addr;

use serde::Serialize;

use super::Route6;

/// IPv6 of the uplink (RFC 4862, `ip -6 addr`, `ip -6 route`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ipv6 {
    /// Global unicast addresses of the uplink that packets may come from: the default route's preferred source first.
    pub addresses: Vec<Ipv6Addr>,
    /// Those that may not be used, or not yet.
    pub unusable: Vec<(Ipv6Addr, Unusable)>,
    /// Unicast routes of the main table, the longest prefix first, one for each prefix; none by our own links.
    pub routes: Vec<Route6>,
    /// The kernel has no IPv6, or it is off on the uplink or on links that will be made (`disable_ipv6`).
    pub off: Option<Off>,
    /// Whether what others send can be sent on.
    pub forwarding: Forwarding,
}

/// `net.ipv6.conf.all.forwarding`, or else `force_forwarding` of a link (Linux 6.17).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// Neither on nor to be had.
    #[default]
    Off,
    /// Off, but may be had for links of the guest's alone.
    Ours,
    /// On, and not by us.
    Others,
}

/// Why an address is none that a packet may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unusable {
    /// The kernel still asks whether somebody has it (RFC 4862 §5.4).
    Tentative,
    /// Somebody has it.
    Duplicate,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tentative => "tentative: duplicate address detection goes on",
            Self::Duplicate => "a duplicate: another host has it",
        })
    }
}

/// Where IPv6 is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// No `/proc/sys/net/ipv6`.
    Kernel,
    /// `net.ipv6.conf.NAME.disable_ipv6` is 1, and may not be written.
    Link(String),
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("this kernel has no IPv6"),
            Self::Link(name) => write!(f, "net.ipv6.conf.{name}.disable_ipv6 is 1"),
        }
    }
}
