//! What a hostile guest, or a hostile neighbour of the LAN, puts on the wire: the n-th frame of each kind.
//!
//! No frame repeats the one before: an address, a name or an identification counts up, so that whoever keeps state has
//! to keep one more.

use std::net::{Ipv4Addr, SocketAddrV4};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, udp4};

use crate::dhcp::wire::{DISCOVER, Message, Path};

const DNS: u16 = 53;
/// Octets of EDNS options in a question: a datagram that just fits a pod's MTU.
const OPTIONS: u16 = 1300;

/// Who sends and who is meant.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub own: (MacAddr, Ipv4Addr),
    pub server: (MacAddr, Ipv4Addr),
}

/// The n-th frame of a kind.
pub type Make = fn(Ends, u32) -> Option<Vec<u8>>;

/// DISCOVER of a client that nobody has seen.
pub fn dhcp(_: Ends, number: u32) -> Option<Vec<u8>> {
    let client = number | 0x8000_0000;
    Message { kind: DISCOVER, xid: number, client, ciaddr: None, requested: None, server: None }
        .frame(Path::Link { server: None })
}

/// A question whose answer goes to an address that nobody has.
pub fn absent(ends: Ends, number: u32) -> Option<Vec<u8>> {
    let [.., third, fourth] = number.to_be_bytes();
    let source = Ipv4Addr::new(10, 77, 128 | third, fourth);
    let from = Ends { own: (ends.own.0, source), ..ends };
    dns(from, number, &question(number, "n0", &[]))
}

/// Many octets of options, and an upstream that does not answer.
pub fn edns(ends: Ends, number: u32) -> Option<Vec<u8>> {
    let [length, within] = [OPTIONS, OPTIONS - 4].map(u16::to_be_bytes);
    // RFC 6891 §6.1.2: the root's name, OPT, 4096 octets, no flags; one option of the local range.
    let mut record = vec![0, 0, 41, 0x10, 0, 0, 0, 0, 0];
    record.extend([length, [0xfd, 0xe9], within].concat());
    record.resize(11 + usize::from(OPTIONS), 0xa5);
    dns(ends, number, &question(number, &format!("s{number}"), &record))
}

/// A name nobody has asked for.
pub fn names(ends: Ends, number: u32) -> Option<Vec<u8>> {
    dns(ends, number, &question(number, &format!("nf{number}"), &[]))
}

/// RFC 826, from a sender nobody has seen.
pub fn arp(ends: Ends, number: u32) -> Option<Vec<u8>> {
    let [_, second, third, fourth] = number.to_be_bytes();
    let mut frame =
        [&[0xff; 6][..], &ends.own.0.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &ends.own.0.0].concat();
    frame.extend([11, second, third, fourth, 0, 0, 0, 0, 0, 0]);
    frame.extend(ends.server.1.octets());
    frame.resize(60, 0);
    Some(frame)
}

/// From a MAC address nobody has seen, of a protocol for experiments (IEEE 802, local).
pub fn sources(ends: Ends, number: u32) -> Option<Vec<u8>> {
    let [a, b, c, d] = number.to_be_bytes();
    let mut frame = [&ends.server.0.0[..], &[0x06, 0x66, a, b, c, d, 0x88, 0xb5]].concat();
    frame.resize(60, 0);
    Some(frame)
}

/// The first part of a datagram of which the rest never comes (RFC 791 §3.2); for the gateway and for others in turn.
pub fn fragments(ends: Ends, number: u32) -> Option<Vec<u8>> {
    let to = if number.is_multiple_of(2) { ends.server.1 } else { Ipv4Addr::new(10, 99, 0, 1) };
    let [.., high, low] = number.to_be_bytes();
    let length = 20 + 1024_u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([high, low, 0x20, 0, 64, 17]);
    let addresses = [ends.own.1.octets(), to.octets()].concat();
    let sum = checksum(&[&header[..], &addresses].concat());
    header.extend(sum.to_be_bytes());
    let ethernet = [&ends.server.0.0[..], &ends.own.0.0, &[8, 0]].concat();
    let mut frame = [ethernet, header, addresses].concat();
    frame.extend([0x40, 0, 0x40, 0]);
    frame.resize(14 + usize::from(length), 0);
    Some(frame)
}

/// "I am your router", with a prefix of its own each time (RFC 4861 §4.2).
pub fn advertisement(ends: Ends, number: u32) -> Option<Vec<u8>> {
    let [_, second, third, fourth] = number.to_be_bytes();
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x66];
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    // 1800 s, a router of high preference.
    let mut body = vec![64, 0x08, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    body.extend([0x20, 1, 0x0d, 0xb8, 0xba, second, third, fourth, 0, 0, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(body.len() + 4).ok()?.to_be_bytes();
    let pseudo =
        [&source[..], &all_nodes, &[0, 0], &length, &[0, 0, 0, 58, 134, 0], &body].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    let ethernet = [&[0x33, 0x33, 0, 0, 0, 1][..], &ends.own.0.0, &[0x86, 0xdd]].concat();
    let ipv6 = [&[0x60, 0, 0, 0][..], &length, &[58, 255], &source, &all_nodes].concat();
    Some([&ethernet[..], &ipv6, &[134, 0], &sum, &body].concat())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    u16::try_from(folded).map_or(0, |folded| !folded)
}

fn dns(ends: Ends, number: u32, payload: &[u8]) -> Option<Vec<u8>> {
    let [.., high, low] = number.to_be_bytes();
    let port = u16::from_be_bytes([high, low]) | 0x8000;
    let end = |(mac, address), port| Endpoint { mac, socket: SocketAddrV4::new(address, port) };
    udp4(end(ends.own, port), end(ends.server, DNS), payload)
}

/// A question for the A record of `LABEL.bench.example`, and an additional record.
pub fn question(number: u32, label: &str, additional: &[u8]) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let mut bytes = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())];
    for label in [label, "bench", "example", ""] {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 1, 0, 1]);
    bytes.extend(additional);
    bytes
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::Ipv4Packet;

    use super::*;

    fn ends() -> Ends {
        let end = |last| (MacAddr([2, 0, 0, 0, 0, last]), Ipv4Addr::new(192, 168, 254, last));
        Ends { own: end(2), server: end(1) }
    }

    /// An upstream or a kernel that drops a frame as malformed would be attacked by nothing.
    #[test]
    fn what_is_built_by_hand_is_well_formed() {
        let frame = advertisement(ends(), 7).unwrap();
        let (addresses, message) = (&frame[22..54], &frame[54..]);
        assert_eq!(frame[18..20], u16::try_from(message.len()).unwrap().to_be_bytes());
        let pseudo = [addresses, &[0, 0], &frame[18..20], &[0, 0, 0, 58], message].concat();
        assert_eq!(checksum(&pseudo), 0);
        // Another octet, another sum.
        assert_ne!(checksum(&[&pseudo[..], &[1, 0]].concat()), 0);

        let frame = fragments(ends(), 9).unwrap();
        let ipv4 = Ipv4Packet::new_checked(&frame[14..]).unwrap();
        assert!(ipv4.verify_checksum() && ipv4.more_frags() && ipv4.ident() == 9);
    }

    #[test]
    fn each_frame_differs_from_the_next() {
        for make in [dhcp, absent, edns, names, arp, sources, fragments, advertisement] {
            let [one, two] = [1, 2].map(|number| make(ends(), number).unwrap());
            assert_ne!(one, two);
            assert!((42..=1464).contains(&one.len()), "{}", one.len());
        }
    }
}
