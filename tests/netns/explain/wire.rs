//! Packets made and read by hand: raw sockets send them, packet sockets and raw sockets see what becomes of them.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use berth::nft::explain::{ICMP, ICMP6, TCP, UDP};
use socket2::{Domain, Protocol, Socket, Type};

const MAGIC: &[u8] = b"brth";
const TTL: u8 = 64;

/// A packet to be sent, numbered so that it is known again.
#[derive(Debug, Clone)]
pub struct Shot {
    pub number: u32,
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    pub flags: u8,
    pub tos: u8,
}

/// What a receiver saw of it. Raw sockets of IPv6 do not tell the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub number: u32,
    pub from: IpAddr,
    pub to: Option<IpAddr>,
    pub ports: Option<(u16, u16)>,
    pub tos: Option<u8>,
}

impl Shot {
    /// From the IP header on.
    pub fn length(&self) -> u16 {
        u16::try_from(self.bytes().len()).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut packet = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = u16::try_from(20 + transport.len()).unwrap().to_be_bytes();
                let id = u16::try_from(self.number % 60_000 + 1).unwrap().to_be_bytes();
                let mut header = vec![
                    0x45,
                    self.tos,
                    total[0],
                    total[1],
                    id[0],
                    id[1],
                    0,
                    0,
                    TTL,
                    self.protocol,
                    0,
                    0,
                ];
                header.extend(from.octets());
                header.extend(to.octets());
                let sum = checksum(&[&header]).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                header
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let length = u16::try_from(transport.len()).unwrap().to_be_bytes();
                let mut header = vec![
                    0x60 | self.tos >> 4,
                    self.tos << 4,
                    0,
                    0,
                    length[0],
                    length[1],
                    self.protocol,
                    TTL,
                ];
                header.extend(from.octets());
                header.extend(to.octets());
                header
            }
            _ => panic!("{self:?}"),
        };
        packet.extend(transport);
        packet
    }

    /// What follows the IP header, with its checksum.
    fn transport(&self) -> Vec<u8> {
        let mut bytes = self.unsummed();
        let sum = checksum(&[&self.pseudo(bytes.len()), &bytes]);
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            _ => 2,
        };
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn unsummed(&self) -> Vec<u8> {
        let ports = [self.sport.to_be_bytes(), self.dport.to_be_bytes()].concat();
        let mut bytes = match self.protocol {
            TCP => [ports, vec![0, 0, 0, 1, 0, 0, 0, 0, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]]
                .concat(),
            UDP => [ports, vec![0, 16, 0, 0]].concat(),
            ICMP => [vec![8, 0, 0, 0], self.sport.to_be_bytes().to_vec(), vec![0, 1]].concat(),
            _ => [vec![128, 0, 0, 0], self.sport.to_be_bytes().to_vec(), vec![0, 1]].concat(),
        };
        bytes.extend(MAGIC);
        bytes.extend(self.number.to_be_bytes());
        bytes
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        let length = u16::try_from(length).unwrap().to_be_bytes();
        match (self.from, self.to) {
            (IpAddr::V4(_), IpAddr::V4(_)) if self.protocol == ICMP => Vec::new(),
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                [&from.octets()[..], &to.octets(), &[0, self.protocol], &length].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                [&from.octets()[..], &to.octets(), &[0, 0], &length, &[0, 0, 0, self.protocol]]
                    .concat()
            }
            _ => panic!("{self:?}"),
        }
    }
}

/// RFC 1071.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Sends as a socket of the calling thread's network namespace does: the kernel makes the IP header. False when the
/// rules refused it at once.
pub fn send_from_socket(shot: &Shot) -> bool {
    let domain = if shot.to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let protocol = Protocol::from(i32::from(shot.protocol));
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    socket.bind(&SocketAddr::new(shot.from, 0).into()).unwrap();
    if shot.to.is_ipv4() {
        socket.set_tos_v4(shot.tos.into()).unwrap();
    } else {
        socket.set_tclass_v6(shot.tos.into()).unwrap();
    }
    sent(shot, socket.send_to(&shot.transport(), &SocketAddr::new(shot.to, 0).into()))
}

fn sent(shot: &Shot, result: std::io::Result<usize>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => false,
        Err(error) => panic!("{shot:?}: {error}"),
    }
}

/// Sends and sees, in the network namespace it was made in.
#[derive(Debug)]
pub struct Post {
    v4: Socket,
    v6: Socket,
    ears: Vec<Ear>,
}

#[derive(Debug)]
struct Ear {
    socket: Socket,
    /// None when packets come whole.
    protocol: Option<u8>,
    v6: bool,
}

impl Post {
    /// Sees what comes in by the interfaces.
    pub fn on_the_wire() -> Self {
        let ear = |v6, kind: u16| {
            let protocol = Protocol::from(i32::from(kind.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))
                .expect("needs CAP_NET_RAW");
            Ear { socket, protocol: None, v6 }
        };
        Self::new(vec![ear(false, 0x0800), ear(true, 0x86dd)])
    }

    /// Sees what is delivered to sockets.
    pub fn of_a_host() -> Self {
        let ear = |v6, number: u8| {
            let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
            let protocol = Some(Protocol::from(i32::from(number)));
            let socket = Socket::new(domain, Type::RAW, protocol).expect("needs CAP_NET_RAW");
            Ear { socket, protocol: v6.then_some(number), v6 }
        };
        let v4 = [TCP, UDP, ICMP].map(|number| ear(false, number));
        let v6 = [TCP, UDP, ICMP6].map(|number| ear(true, number));
        Self::new(v4.into_iter().chain(v6).collect())
    }

    fn new(ears: Vec<Ear>) -> Self {
        // IPPROTO_RAW: packets are sent as they are.
        let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(255))).unwrap();
        for ear in &ears {
            ear.socket.set_recv_buffer_size(1 << 20).unwrap();
            ear.socket.set_nonblocking(true).unwrap();
        }
        Self { v4: raw(Domain::IPV4), v6: raw(Domain::IPV6), ears }
    }

    /// False when the sender's own rules refused it.
    pub fn send(&self, shot: &Shot) -> bool {
        let socket = if shot.to.is_ipv4() { &self.v4 } else { &self.v6 };
        sent(shot, socket.send_to(&shot.bytes(), &SocketAddr::new(shot.to, 0).into()))
    }

    /// What has come meanwhile.
    pub fn seen(&self) -> Vec<Sight> {
        let mut sights = Vec::new();
        for ear in &self.ears {
            let mut buffer = [MaybeUninit::new(0_u8); 256];
            while let Ok((length, from)) = ear.socket.recv_from(&mut buffer) {
                let bytes: Vec<u8> =
                    buffer[..length].iter().map(|byte| initialised(*byte)).collect();
                let sight = match (ear.protocol, ear.v6) {
                    (None, false) => v4_sight(&bytes),
                    (None, true) => v6_sight(&bytes),
                    (Some(protocol), _) => {
                        let from = from.as_socket().unwrap().ip();
                        number(protocol, &bytes).map(|(number, ports)| Sight {
                            number,
                            from,
                            to: None,
                            ports,
                            tos: None,
                        })
                    }
                };
                sights.extend(sight);
            }
        }
        sights
    }
}

/// The buffer was filled with zeros to begin with.
fn initialised(byte: MaybeUninit<u8>) -> u8 {
    #[expect(unsafe_code, reason = "socket2 receives into such buffers only")]
    // SAFETY: made by `MaybeUninit::new`.
    unsafe {
        byte.assume_init()
    }
}

fn v4_sight(bytes: &[u8]) -> Option<Sight> {
    let address =
        |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    let (number, ports) = number(*bytes.get(9)?, bytes.get(20..)?)?;
    let (from, to) = (address(12)?.into(), Some(address(16)?.into()));
    Some(Sight { number, from, to, ports, tos: bytes.get(1).copied() })
}

fn v6_sight(bytes: &[u8]) -> Option<Sight> {
    let address =
        |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
    let (number, ports) = number(*bytes.get(6)?, bytes.get(40..)?)?;
    let tos = bytes.first()? << 4 | bytes.get(1)? >> 4;
    Some(Sight {
        number,
        from: address(8)?.into(),
        to: Some(address(24)?.into()),
        ports,
        tos: Some(tos),
    })
}

/// The number of one of our packets, and its ports; None for others, and for answers.
fn number(protocol: u8, transport: &[u8]) -> Option<(u32, Option<(u16, u16)>)> {
    let header = match protocol {
        TCP => 20,
        UDP => 8,
        ICMP if transport.first() == Some(&8) => 8,
        ICMP6 if transport.first() == Some(&128) => 8,
        _ => return None,
    };
    let rest = transport.get(header..)?.strip_prefix(MAGIC)?;
    let port = |at: usize| Some(u16::from_be_bytes(transport.get(at..at + 2)?.try_into().ok()?));
    let ports = if matches!(protocol, TCP | UDP) { Some((port(0)?, port(2)?)) } else { None };
    Some((u32::from_be_bytes(rest.get(..4)?.try_into().ok()?), ports))
}

/// Long enough for packets that come at all to be there.
pub const SETTLE: Duration = Duration::from_millis(30);
