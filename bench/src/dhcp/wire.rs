//! Frames of simulated clients, and what is looked at in a server's replies (RFC 2131 §2, RFC 768, RFC 826).

use std::net::{Ipv4Addr, SocketAddrV4};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, udp4};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const ACK: u8 = 5;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const BROADCAST: MacAddr = MacAddr([0xff; 6]);
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// The MAC address of a client by its number: locally administered.
pub fn mac(client: u32) -> MacAddr {
    let [a, b, c, d] = client.to_be_bytes();
    MacAddr([0x02, 0xbe, a, b, c, d])
}

/// The client that has it.
pub fn client(mac: MacAddr) -> Option<u32> {
    let [0x02, 0xbe, number @ ..] = mac.0 else { return None };
    Some(u32::from_be_bytes(number))
}

/// What a client says. Addresses that are not there are not sent.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub kind: u8,
    pub xid: u32,
    pub client: u32,
    /// What it has: renewing.
    pub ciaddr: Option<Ipv4Addr>,
    /// What it was offered.
    pub requested: Option<Ipv4Addr>,
    /// Who offered it.
    pub server: Option<Ipv4Addr>,
}

/// How the clients' packets get to the server.
#[derive(Debug, Clone, Copy)]
pub enum Path {
    /// Broadcast on the link; renewals to the server's address at its MAC, once that is known.
    Link { server: Option<(Ipv4Addr, MacAddr)> },
    /// By a relay with this address and MAC.
    Relay { own: (Ipv4Addr, MacAddr), server: (Ipv4Addr, MacAddr) },
}

impl Message {
    /// The whole frame; none when it would be too long, which it is not.
    pub fn frame(&self, path: Path) -> Option<Vec<u8>> {
        let own = mac(self.client);
        let end = |mac, address: Ipv4Addr, port| Endpoint {
            mac,
            socket: SocketAddrV4::new(address, port),
        };
        let any = Ipv4Addr::UNSPECIFIED;
        let (from, to, relay) = match (path, self.ciaddr) {
            (Path::Relay { own: (address, mac), server }, _) => {
                (end(mac, address, SERVER_PORT), end(server.1, server.0, SERVER_PORT), address)
            }
            (Path::Link { server: Some((address, mac)) }, Some(ciaddr)) => {
                (end(own, ciaddr, CLIENT_PORT), end(mac, address, SERVER_PORT), any)
            }
            (Path::Link { .. }, _) => {
                (end(own, any, CLIENT_PORT), end(BROADCAST, Ipv4Addr::BROADCAST, SERVER_PORT), any)
            }
        };
        udp4(from, to, &self.payload(own, relay))
    }

    fn payload(&self, own: MacAddr, relay: Ipv4Addr) -> Vec<u8> {
        let hops = u8::from(!relay.is_unspecified());
        let mut bytes = vec![1, 1, 6, hops];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        bytes.extend([0; 8]);
        bytes.extend(relay.octets());
        bytes.extend(own.0);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        bytes.extend([53, 1, self.kind]);
        for (code, address) in [(50, self.requested), (54, self.server)] {
            if let Some(address) = address {
                bytes.extend([code, 4]);
                bytes.extend(address.octets());
            }
        }
        bytes.extend([61, 7, 1]);
        bytes.extend(own.0);
        // What most clients ask for: mask, router, DNS, host name, domain, MTU, broadcast, NTP.
        bytes.extend([55, 8, 1, 3, 6, 12, 15, 26, 28, 42, 255]);
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }
}

/// What counts in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub kind: u8,
    pub xid: u32,
    pub chaddr: MacAddr,
    pub yiaddr: Ipv4Addr,
    pub server: Option<Ipv4Addr>,
    pub from: MacAddr,
}

/// A frame that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Reply(Reply),
    /// From a server's port, and wrong.
    Wrong(&'static str),
    /// Something else.
    Nothing,
}

/// Reads a frame, with all its checksums.
pub fn read(frame: &[u8]) -> Seen {
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Seen::Nothing };
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return Seen::Nothing;
    }
    let Ok(packet) = Ipv4Packet::new_checked(ethernet.payload()) else { return Seen::Nothing };
    let Ok(datagram) = UdpPacket::new_checked(packet.payload()) else { return Seen::Nothing };
    if datagram.src_port() != SERVER_PORT {
        return Seen::Nothing;
    }
    let checks = ChecksumCapabilities::default();
    let Ok(ip) = Ipv4Repr::parse(&packet, &checks) else { return Seen::Wrong("IPv4 checksum") };
    if UdpRepr::parse(&datagram, &ip.src_addr.into(), &ip.dst_addr.into(), &checks).is_err() {
        return Seen::Wrong("UDP checksum");
    }
    match reply(datagram.payload(), MacAddr(ethernet.src_addr().0)) {
        Some(reply) => Seen::Reply(reply),
        None => Seen::Wrong("message"),
    }
}

fn reply(bytes: &[u8], from: MacAddr) -> Option<Reply> {
    if bytes.first() != Some(&2) || bytes.get(236..240) != Some(&COOKIE) {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?));
    let (mut kind, mut server) = (None, None);
    let mut rest = bytes.get(240..)?;
    while let Some((&code, tail)) = rest.split_first() {
        rest = match code {
            0 => tail,
            255 => break,
            _ => {
                let (&length, tail) = tail.split_first()?;
                let (value, tail) = tail.split_at_checked(length.into())?;
                match code {
                    53 => kind = value.first().copied(),
                    54 => server = value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets)),
                    _ => {}
                }
                tail
            }
        };
    }
    Some(Reply {
        kind: kind?,
        xid: u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?),
        chaddr: MacAddr(*bytes.get(28..)?.first_chunk()?),
        yiaddr: address(16)?,
        server,
        from,
    })
}

/// The answer to an ARP request (RFC 826) for an address that `owner` knows; none if it is not that.
pub fn arp_answer(frame: &[u8], owner: impl Fn(Ipv4Addr) -> Option<MacAddr>) -> Option<Vec<u8>> {
    let request: &[u8; 28] = frame.get(14..)?.first_chunk()?;
    let [0, 1, 8, 0, 6, 4, 0, 1, asker @ .., t1, t2, t3, t4] = *request else { return None };
    let own = owner(Ipv4Addr::new(t1, t2, t3, t4))?;
    let mut answer = frame.get(6..12)?.to_vec();
    answer.extend(own.0);
    answer.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    answer.extend(own.0);
    answer.extend([t1, t2, t3, t4]);
    answer.extend(asker.get(..10)?);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discover() -> Message {
        Message { kind: DISCOVER, xid: 7, client: 9, ciaddr: None, requested: None, server: None }
    }

    /// The server's side of the same wire.
    fn answered(message: Message, kind: u8) -> Vec<u8> {
        let mut payload = message.payload(mac(message.client), Ipv4Addr::UNSPECIFIED);
        payload[0] = 2;
        payload[16..20].copy_from_slice(&[10, 0, 0, 9]);
        payload[242] = kind;
        let end = |mac, port| Endpoint {
            mac,
            socket: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port),
        };
        udp4(end(MacAddr([2; 6]), 67), end(mac(9), 68), &payload).unwrap()
    }

    #[test]
    fn a_reply_is_read_and_a_spoilt_one_is_wrong() {
        let frame = answered(discover(), OFFER);
        let Seen::Reply(reply) = read(&frame) else { panic!("{:?}", read(&frame)) };
        assert_eq!((reply.kind, reply.xid, reply.chaddr), (OFFER, 7, mac(9)));
        assert_eq!(reply.yiaddr, Ipv4Addr::new(10, 0, 0, 9));
        let mut spoilt = frame.clone();
        spoilt[60] ^= 1;
        assert_eq!(read(&spoilt), Seen::Wrong("UDP checksum"));
        let mut spoilt = frame;
        spoilt[22] ^= 1;
        assert_eq!(read(&spoilt), Seen::Wrong("IPv4 checksum"));
        assert_eq!(read(&discover().frame(Path::Link { server: None }).unwrap()), Seen::Nothing);
    }

    #[test]
    fn an_address_of_ours_is_told_its_mac() {
        let mut request = vec![0xff; 6];
        request.extend([2, 2, 2, 2, 2, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend([2, 2, 2, 2, 2, 2, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9]);
        let ours = |address: Ipv4Addr| (address.octets() == [10, 0, 0, 9]).then(|| mac(9));
        let answer = arp_answer(&request, ours).unwrap();
        assert_eq!(answer[..6], [2; 6]);
        assert_eq!(answer[20..22], [0, 2]);
        assert_eq!(answer[22..32], [&mac(9).0[..], &[10, 0, 0, 9]].concat());
        assert_eq!(answer[32..42], [2, 2, 2, 2, 2, 2, 10, 0, 0, 1]);
        assert_eq!(arp_answer(&request, |_| None), None);
    }
}
