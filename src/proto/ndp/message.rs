//! Solicitations as they come, checked to their end before anything of them is used.

use std::net::Ipv6Addr;

use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::Ipv6Packet;

use super::Reason;
use crate::net::MacAddr;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// Type, code, checksum, reserved; a neighbour solicitation's target behind it.
const HEAD: usize = 8;
const TARGET: usize = 16;
/// Source link-layer address (RFC 4861 §4.6.1).
const SOURCE_ADDRESS: u8 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Router,
    Neighbour(Ipv6Addr),
}

/// A solicitation that RFC 4861 lets nobody discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub mac: MacAddr,
    /// Unspecified where the sender has no address yet.
    pub source: Ipv6Addr,
    pub kind: Kind,
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
        let kind = icmp.get_icmpv6_type();
        if kind != Icmpv6Types::RouterSolicit && kind != Icmpv6Types::NeighborSolicit {
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
        let solicited = if kind == Icmpv6Types::RouterSolicit {
            router(body)
        } else {
            neighbour(body, destination, source)
        };
        let kind = solicited
            .filter(|_| icmp.get_icmpv6_code().0 == 0 && !source.is_multicast() && is_unicast(mac))
            .filter(|kind| options(*kind, body, source).is_some())
            .ok_or(Reason::Malformed)?;
        Ok(Self { mac, source, kind })
    }
}

fn is_unicast(mac: MacAddr) -> bool {
    mac.0.first().is_some_and(|first| first & 1 == 0)
}

fn router(body: &[u8]) -> Option<Kind> {
    (body.len() >= HEAD).then_some(Kind::Router)
}

/// One that looks whether an address is free asks from none, and whoever may have it by its solicited-node group (RFC 4861
/// §7.1.1).
fn neighbour(body: &[u8], destination: Ipv6Addr, source: Ipv6Addr) -> Option<Kind> {
    let target: [u8; TARGET] = body.get(HEAD..HEAD + TARGET)?.try_into().ok()?;
    let target = Ipv6Addr::from(target);
    let to_group = destination == solicited_node(target);
    (!target.is_multicast() && (to_group || !source.is_unspecified()))
        .then_some(Kind::Neighbour(target))
}

/// RFC 4291 §2.7.1.
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// All of them are whole, and none tells the link-layer address of nobody.
fn options(kind: Kind, body: &[u8], source: Ipv6Addr) -> Option<()> {
    let head = match kind {
        Kind::Router => HEAD,
        Kind::Neighbour(_) => HEAD + TARGET,
    };
    let mut rest = body.get(head..)?;
    while let [kind, units, ..] = *rest {
        let length = usize::from(units) * 8;
        if length == 0 || kind == SOURCE_ADDRESS && source.is_unspecified() {
            return None;
        }
        rest = rest.get(length..)?;
    }
    rest.is_empty().then_some(())
}
