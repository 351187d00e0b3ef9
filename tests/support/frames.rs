//! Frames as a hostile guest writes them on its tap: every field at will, checksums right.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];
/// Nearest bridge group addresses: STP's and LLDP's (IEEE 802.1Q, table 8-1).
pub const STP: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];
pub const LLDP: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x0e];

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;

pub const ICMP: u8 = 1;
pub const IGMP: u8 = 2;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// A request: who has `target`?
pub fn arp(from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &from, &sender.octets(), &[0; 6], &target.octets()].concat()
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut head = [0x45, 0, length[0], length[1], 0, 0, 0, 0, ttl, protocol, 0, 0].to_vec();
    head.extend(from.octets());
    head.extend(to.octets());
    let sum = checksum(&[&head]);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    [&head[..], payload].concat()
}

pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let (source, port) = (from.1.to_be_bytes(), to.1.to_be_bytes());
    // No checksum (RFC 768).
    let datagram = [source[0], source[1], port[0], port[1], 0, 9, 0, 0, 1];
    ipv4(from.0, to.0, 64, UDP, &datagram)
}

pub fn tcp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    let mut segment =
        [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
    segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let sum = checksum(&[&from.0.octets(), &to.0.octets(), &[0, TCP, 0, 20], &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(from.0, to.0, 64, TCP, &segment)
}

pub fn ping(from: Ipv4Addr, to: Ipv4Addr, ttl: u8) -> Vec<u8> {
    ipv4(from, to, ttl, ICMP, &icmp(8, 0, &[]))
}

/// "Port unreachable" about a datagram that nobody sent.
pub fn unreachable(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    unreachable_about(from, to, &udp((to, 5), (from, 6)))
}

/// The same about this packet.
pub fn unreachable_about(from: Ipv4Addr, to: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    ipv4(from, to, 64, ICMP, &icmp(3, 3, &packet[..28]))
}

/// The packet as its first fragment, of which no other comes.
pub fn first_fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] = 0x20;
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

pub fn icmp(kind: u8, code: u8, about: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0, 0, 1, 0, 1], about].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A packet of IPv4 whose header was changed, with its checksum.
pub fn summed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A membership report for a group (RFC 2236).
pub fn igmp(from: Ipv4Addr, group: Ipv4Addr) -> Vec<u8> {
    let mut report = [&[0x16, 0, 0, 0][..], &group.octets()].concat();
    let sum = checksum(&[&report]);
    report[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(from, group, 1, IGMP, &report)
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, 64];
    [&head[..], &from.octets(), &to.octets(), payload].concat()
}

/// Of one octet.
pub fn icmp6(ends: (Ipv6Addr, Ipv6Addr), hops: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let pseudo = [0, 0, length[0], length[1], 0, 0, 0, 58];
    let sum = checksum(&[&ends.0.octets(), &ends.1.octets(), &pseudo, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = ipv6(ends.0, ends.1, 58, &message);
    packet[7] = hops;
    packet
}

pub fn udp6(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16)) -> Vec<u8> {
    let (source, port) = (from.1.to_be_bytes(), to.1.to_be_bytes());
    let mut datagram = [source[0], source[1], port[0], port[1], 0, 9, 0, 0, 1];
    let pseudo = [0, 0, 0, 9, 0, 0, 0, UDP];
    let sum = checksum(&[&from.0.octets(), &to.0.octets(), &pseudo, &datagram]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv6(from.0, to.0, UDP, &datagram)
}

/// A router of highest preference with a prefix to make addresses in (RFC 4861 §4.2, RFC 4191).
pub fn router_advertisement(mac: Mac, prefix: Ipv6Addr) -> Vec<u8> {
    let (from, to) = (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    );
    let head = [134, 0, 0, 0, 64, 0x08, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let option = [3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0];
    let mut message = [&head[..], &[1, 1], &mac, &option, &prefix.octets()].concat();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let pseudo = [0, 0, length[0], length[1], 0, 0, 0, 58];
    let sum = checksum(&[&from.octets(), &to.octets(), &pseudo, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let head = [0x60, 0, 0, 0, length[0], length[1], 58, 255];
    [&head[..], &from.octets(), &to.octets(), &message].concat()
}

/// Writes one frame on a tap, as QEMU does: behind an empty `struct virtio_net_hdr`.
pub fn write_frame(mut tap: &File, frame: &[u8]) {
    tap.write_all(&[&[0; 10], frame].concat()).unwrap();
}

/// Whether a frame comes in time that is looked for.
pub fn comes(mut tap: &File, limit: Duration, is_it: impl Fn(&[u8]) -> bool) -> bool {
    let end = Instant::now() + limit;
    let mut buffer = [0; 2048];
    while Instant::now() < end {
        match tap.read(&mut buffer) {
            Ok(length) if is_it(&buffer[10..length]) => return true,
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    false
}

/// RFC 1071; every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
