//! Frames of IPv6 (RFC 8200), UDP in them, and options of DHCPv6 (RFC 8415 §21.1), with every length looked at.

use std::net::Ipv6Addr;

use berth::net::MacAddr;

use crate::dhcp::wire::{client, mac};

/// All servers and relay agents (RFC 8415 §7.1), and their MAC (RFC 2464 §7).
pub const ALL_SERVERS: (MacAddr, Ipv6Addr) =
    (MacAddr([0x33, 0x33, 0, 1, 0, 2]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2));
pub const CLIENT_PORT: u16 = 546;
pub const SERVER_PORT: u16 = 547;

/// What the next header of IPv6 is.
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

const ETHERNET: usize = 14;
const ETHERTYPE: [u8; 2] = [0x86, 0xdd];
/// UDP's header: ports, length, checksum.
const PORTS: usize = 8;

/// A client's address on the link, of its MAC (RFC 4291, appendix A).
pub fn link_local(number: u32) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac(number).0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The client whose address on the link it is.
pub fn local_client(address: Ipv6Addr) -> Option<u32> {
    let [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else {
        return None;
    };
    client(MacAddr([a ^ 2, b, c, d, e, f]))
}

/// An IPv6 packet without extension headers, and the frame it came in.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub from: (MacAddr, Ipv6Addr),
    pub to: (MacAddr, Ipv6Addr),
    pub next: u8,
    pub hops: u8,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// None when it is something else, or cut.
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        let (ethernet, rest) = frame.split_first_chunk::<ETHERNET>()?;
        let (to, ethernet) = ethernet.split_first_chunk::<6>()?;
        let (from, ethertype) = ethernet.split_first_chunk::<6>()?;
        let (head, rest) = rest.split_first_chunk::<40>()?;
        let [version, _, _, _, high, low, next, hops, addresses @ ..] = head;
        if *ethertype != ETHERTYPE || version >> 4 != 6 {
            return None;
        }
        let (source, destination) = addresses.split_first_chunk::<16>()?;
        let destination: [u8; 16] = *destination.first_chunk()?;
        Some(Self {
            from: (MacAddr(*from), Ipv6Addr::from(*source)),
            to: (MacAddr(*to), Ipv6Addr::from(destination)),
            next: *next,
            hops: *hops,
            payload: rest.get(..u16::from_be_bytes([*high, *low]).into())?,
        })
    }

    /// Whether the checksum in the payload is right.
    pub fn is_whole(&self) -> bool {
        sum(self.from.1, self.to.1, self.next, self.payload) == 0
    }

    /// Ports and payload of UDP, its checksum not looked at; none when it is not that.
    pub fn datagram(&self) -> Option<(u16, u16, &'a [u8])> {
        let (head, payload) = self.payload.split_first_chunk::<PORTS>()?;
        let [a, b, c, d, e, f, ..] = *head;
        let length = usize::from(u16::from_be_bytes([e, f]));
        (self.next == UDP && length == self.payload.len())
            .then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), payload))
    }
}

/// A datagram in its frame, between these ports; none when it is too long.
pub fn udp6(
    from: (MacAddr, Ipv6Addr, u16),
    to: (MacAddr, Ipv6Addr, u16),
    payload: &[u8],
) -> Option<Vec<u8>> {
    let length = u16::try_from(PORTS + payload.len()).ok()?.to_be_bytes();
    let (ports, none) = ([from.2.to_be_bytes(), to.2.to_be_bytes()].concat(), [0, 0]);
    let mut datagram = [&ports, &length[..], &none, payload].concat();
    let sum = match sum(from.1, to.1, UDP, &datagram) {
        // Zero would mean that there is none, which IPv6 forbids (RFC 8200 §8.1).
        0 => 0xffff,
        sum => sum,
    };
    datagram.get_mut(6..8)?.copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&to.0.0[..], &from.0.0, &ETHERTYPE, &[0x60, 0, 0, 0], &length].concat();
    frame.extend([UDP, 1]);
    frame.extend(from.1.octets());
    frame.extend(to.1.octets());
    frame.extend(datagram);
    Some(frame)
}

/// The Internet checksum with IPv6's pseudo-header (RFC 8200 §8.1); 0 over what has its checksum in it already.
fn sum(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> u16 {
    let words = |octets: &[u8]| -> u64 {
        let (pairs, last) = octets.as_chunks::<2>();
        let last = last.first().map_or(0, |last| u64::from(*last) << 8);
        pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>() + last
    };
    let length = u64::try_from(payload.len()).unwrap_or(0);
    let mut sum =
        words(&from.octets()) + words(&to.octets()) + length + u64::from(next) + words(payload);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// An option of DHCPv6.
pub fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

/// Options with their codes, to the last octet; none when one is cut.
pub fn options(mut rest: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (&[a, b, c, d], tail) = rest.split_first_chunk::<4>()?;
        let (value, tail) = tail.split_at_checked(u16::from_be_bytes([c, d]).into())?;
        found.push((u16::from_be_bytes([a, b]), value));
        rest = tail;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_address_tells_its_number() {
        assert_eq!(link_local(0x0102_0304).to_string(), "fe80::be:1ff:fe02:304");
        assert_eq!(local_client(link_local(0x0102_0304)), Some(0x0102_0304));
        assert_eq!(local_client("fe80::1".parse().unwrap()), None);
    }

    /// Of an odd length too, and empty.
    #[test]
    fn a_datagram_that_is_written_is_whole_and_any_other_bit_is_not() {
        for payload in [&[1, 2, 3, 4][..], &[1, 2, 3], &[]] {
            let (own, to) = ((mac(7), link_local(7), CLIENT_PORT), ALL_SERVERS);
            let frame = udp6(own, (to.0, to.1, SERVER_PORT), payload).unwrap();
            let packet = Packet::read(&frame).unwrap();
            assert!(packet.is_whole());
            assert_eq!(packet.datagram(), Some((546, 547, payload)));
            assert_eq!((packet.from, packet.to), ((own.0, own.1), to));
            for at in ETHERNET + 8..frame.len() {
                let mut spoilt = frame.clone();
                spoilt[at] ^= 1;
                assert!(!Packet::read(&spoilt).unwrap().is_whole(), "{at}");
            }
            assert_eq!(Packet::read(&frame[..frame.len() - 1]), None);
        }
    }

    /// Of an echo request from fe80::1 to ff02::1, word by word.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        let message = [0x80, 0, 0, 0, 0, 1, 0, 1];
        let words = 0xfe80 + 1 + 0xff02 + 1 + 8 + 58 + 0x8000 + 1 + 1;
        let folded = (words & 0xffff) + (words >> 16);
        let (from, to) = ("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap());
        assert_eq!(u32::from(sum(from, to, ICMPV6, &message)), !folded & 0xffff);
    }

    #[test]
    fn a_cut_option_is_none() {
        let both = [option(1, &[7; 3]), option(14, &[])].concat();
        assert_eq!(options(&both), Some(vec![(1, &[7; 3][..]), (14, &[])]));
        assert_eq!(options(&both[..both.len() - 1]), None);
        assert_eq!(options(&both[..5]), None);
    }
}
