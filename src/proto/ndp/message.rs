//! Router solicitations as they come, checked to their end before anything of them is used.

use std::net::Ipv6Addr;

use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::Ipv6Packet;

use super::Reason;
use crate::net::MacAddr;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// Type, code, checksum, reserved.
const HEAD: usize = 8;
/// Source link-layer address (RFC 4861 §4.6.1).
const SOURCE_ADDRESS: u8 = 1;

/// A router solicitation that RFC 4861 lets nobody discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub mac: MacAddr,
    /// Unspecified where the sender has no address yet.
    pub source: Ipv6Addr,
}

impl Message {
    pub fn parse(octets: &[u8]) -> Result<Self, Reason> {
        let frame = EthernetPacket::new(octets).ok_or(Reason::Truncated)?;
        if frame.get_ethertype() != EtherTypes::Ipv6 {
            return Err(Reason::NotSolicitation);
        }
        let ip = octets.get(ETHERNET..).and_then(Ipv6Packet::new).ok_or(Reason::Truncated)?;
        if ip.get_version() != 6 || ip.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
            return Err(Reason::NotSolicitation);
        }
        // Ethernet pads what is short.
        let length = usize::from(ip.get_payload_length());
        let start = ETHERNET + IPV6;
        let body = octets.get(start..start + length).ok_or(Reason::Truncated)?;
        let icmp = Icmpv6Packet::new(body).ok_or(Reason::Truncated)?;
        if icmp.get_icmpv6_type() != Icmpv6Types::RouterSolicit {
            return Err(Reason::NotSolicitation);
        }
        if ip.get_hop_limit() != 255 {
            return Err(Reason::HopLimit);
        }
        let (source, destination) = (ip.get_source(), ip.get_destination());
        if icmp.get_checksum() != icmpv6::checksum(&icmp, &source, &destination) {
            return Err(Reason::Checksum);
        }
        let mac = frame.get_source();
        let mac = MacAddr([mac.0, mac.1, mac.2, mac.3, mac.4, mac.5]);
        let is_right = icmp.get_icmpv6_code().0 == 0
            && !source.is_multicast()
            && is_unicast(mac)
            && options_are_whole(body, source);
        if is_right { Ok(Self { mac, source }) } else { Err(Reason::Malformed) }
    }
}

fn is_unicast(mac: MacAddr) -> bool {
    mac.0.first().is_some_and(|first| first & 1 == 0)
}

/// All of them are whole, and none tells the link-layer address of nobody.
fn options_are_whole(body: &[u8], source: Ipv6Addr) -> bool {
    let Some(mut rest) = body.get(HEAD..) else { return false };
    while let [kind, units, ..] = *rest {
        let length = usize::from(units) * 8;
        if length == 0 || kind == SOURCE_ADDRESS && source.is_unspecified() {
            return false;
        }
        let Some(next) = rest.get(length..) else { return false };
        rest = next;
    }
    rest.is_empty()
}
