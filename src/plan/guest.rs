//! What the guest is told by DHCP and DNS.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::Serialize;

use crate::net::{IfName, Ipv4Prefix, MacAddr};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {}

/// Settings of the responder for one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestPlan {
    /// False: nothing is served (`NO_DHCP`).
    pub serve: bool,
    pub interface: IfName,
    pub mac: MacAddr,
    pub address: Ipv4Prefix,
    pub gateway: Ipv4Addr,
    pub gateway_mac: MacAddr,
    pub hostname: String,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Options 119 and 15.
    pub search: Vec<String>,
    pub mtu: u32,
    pub lease_secs: u32,
    /// Where the responder forwards to.
    pub upstreams: Vec<IpAddr>,
    pub ndots: u8,
    /// Watched for changes.
    pub resolv_conf: PathBuf,
}
