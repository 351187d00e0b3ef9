//! Ethernet frames with an IPv4 UDP datagram, or a message of ICMPv6, every checksum filled in (RFC 768, 791, 4443).
//!
//! A reply from an ordinary socket reaches a guest with a checksum left to hardware that is not there, and some
//! clients drop it; one that goes out as a whole frame does not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet_packet::icmpv6::{self, MutableIcmpv6Packet};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::udp::{self, MutableUdpPacket};

use crate::net::MacAddr;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const ARP: usize = 28;

/// One side of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub mac: MacAddr,
    pub socket: SocketAddrV4,
}

/// The frame; None when the payload is too long for one datagram.
pub fn udp4(from: Endpoint, to: Endpoint, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP + payload.len()).ok()?;
    let total_length = u16::try_from(IPV4 + UDP + payload.len()).ok()?;
    let mut frame = vec![0; ETHERNET + IPV4 + UDP + payload.len()];

    let mut ethernet = MutableEthernetPacket::new(&mut frame)?;
    ethernet.set_destination(to.mac.0.into());
    ethernet.set_source(from.mac.0.into());
    ethernet.set_ethertype(EtherTypes::Ipv4);

    let (source, destination): (Ipv4Addr, Ipv4Addr) = (*from.socket.ip(), *to.socket.ip());
    let mut udp = MutableUdpPacket::new(frame.get_mut(ETHERNET + IPV4..)?)?;
    udp.set_source(from.socket.port());
    udp.set_destination(to.socket.port());
    udp.set_length(udp_length);
    udp.set_payload(payload);
    let checksum = udp::ipv4_checksum(&udp.to_immutable(), &source, &destination);
    // Zero would mean that there is none (RFC 768).
    udp.set_checksum(if checksum == 0 { 0xffff } else { checksum });

    let mut ip = MutableIpv4Packet::new(frame.get_mut(ETHERNET..)?)?;
    ip.set_version(4);
    ip.set_header_length(5);
    ip.set_total_length(total_length);
    ip.set_flags(Ipv4Flags::DontFragment);
    ip.set_ttl(64);
    ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    ip.set_source(source);
    ip.set_destination(destination);
    let checksum = ipv4::checksum(&ip.to_immutable());
    ip.set_checksum(checksum);
    Some(frame)
}

/// A message of ICMPv6 in a frame, with its checksum (RFC 4443 §2.3) and the hop limit that neighbour discovery has; None
/// when it is too long for one packet.
pub fn icmpv6(
    from: (MacAddr, Ipv6Addr),
    to: (MacAddr, Ipv6Addr),
    message: &mut [u8],
) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    let mut icmp = MutableIcmpv6Packet::new(message)?;
    icmp.set_checksum(0);
    let checksum = icmpv6::checksum(&icmp.to_immutable(), &from.1, &to.1);
    icmp.set_checksum(checksum);

    let mut frame = vec![0; ETHERNET + IPV6 + message.len()];
    let mut ethernet = MutableEthernetPacket::new(&mut frame)?;
    ethernet.set_destination(to.0.0.into());
    ethernet.set_source(from.0.0.into());
    ethernet.set_ethertype(EtherTypes::Ipv6);
    let mut ip = MutableIpv6Packet::new(frame.get_mut(ETHERNET..)?)?;
    ip.set_version(6);
    ip.set_payload_length(length);
    ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
    ip.set_hop_limit(255);
    ip.set_source(from.1);
    ip.set_destination(to.1);
    ip.set_payload(message);
    Some(frame)
}

/// Who has this address? Asked from no address, as one that looks for conflicts does (RFC 5227 §2.1.1).
pub fn arp_probe(mac: MacAddr, address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut frame = vec![0; ETHERNET + ARP];
    let mut ethernet = MutableEthernetPacket::new(&mut frame)?;
    ethernet.set_destination(MacAddr([0xff; 6]).0.into());
    ethernet.set_source(mac.0.into());
    ethernet.set_ethertype(EtherTypes::Arp);
    let mut arp = MutableArpPacket::new(frame.get_mut(ETHERNET..)?)?;
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(mac.0.into());
    arp.set_target_proto_addr(address);
    Some(frame)
}

/// Whose address an ARP frame says it comes from.
pub fn arp_sender(frame: &[u8]) -> Option<Ipv4Addr> {
    let arp = ArpPacket::new(frame.get(ETHERNET..)?)?;
    let right = arp.get_hardware_type() == ArpHardwareTypes::Ethernet
        && arp.get_protocol_type() == EtherTypes::Ipv4;
    right.then(|| arp.get_sender_proto_addr())
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{EthernetFrame, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};

    use super::*;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint {
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            socket: SocketAddrV4::new([10, 0, 0, last].into(), port),
        }
    }

    proptest::proptest! {
        /// smoltcp reads it back and finds both checksums right.
        #[test]
        fn another_stack_reads_what_was_written(payload in proptest::collection::vec(proptest::num::u8::ANY, 0..1473)) {
            let bytes = udp4(end(1, 67), end(2, 68), &payload).unwrap();
            let frame = EthernetFrame::new_checked(&bytes).unwrap();
            assert_eq!(frame.dst_addr().0, [2, 0, 0, 0, 0, 2]);
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            let checks = ChecksumCapabilities::default();
            let ip = Ipv4Repr::parse(&packet, &checks).unwrap();
            let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
            assert_ne!(datagram.checksum(), 0);
            let udp = UdpRepr::parse(&datagram, &ip.src_addr.into(), &ip.dst_addr.into(), &checks).unwrap();
            assert_eq!((udp.src_port, udp.dst_port, datagram.payload()), (67, 68, payload.as_slice()));
        }
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_none() {
        assert!(udp4(end(1, 67), end(2, 68), &[0; 65_507]).is_some());
        assert!(udp4(end(1, 67), end(2, 68), &[0; 65_508]).is_none());
    }
}
