//! Packets, laid out byte by byte: fixed fields where RFC 2131 §2 has them, options as given.

use std::net::Ipv4Addr;

pub const COOKIE: [u8; 4] = [99, 130, 83, 99];
pub const DISCOVER: &[u8] = &[53, 1, 1];
pub const REQUEST: &[u8] = &[53, 1, 3];
pub const DECLINE: &[u8] = &[53, 1, 4];
pub const RELEASE: &[u8] = &[53, 1, 7];
pub const INFORM: &[u8] = &[53, 1, 8];
/// Option 54 of the server, and of another.
pub const US: &[u8] = &[54, 4, 10, 0, 0, 1];
pub const OTHER: &[u8] = &[54, 4, 10, 0, 0, 2];
pub const OFFER: u8 = 2;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;

pub type Mac = [u8; 6];

/// Clients by number.
pub fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    [0x52, 0x54, 0, 1, high, low]
}

pub fn asks_for(address: Ipv4Addr) -> Vec<u8> {
    [&[50, 4][..], &address.octets()].concat()
}

#[derive(Debug, Clone)]
pub struct Packet(pub Vec<u8>);

impl Packet {
    pub fn new(mac: Mac, options: &[&[u8]]) -> Self {
        let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, mac[4], mac[5]];
        bytes.extend([0; 20]);
        bytes.extend(mac);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        bytes.extend(options.concat());
        bytes.push(255);
        Self(bytes)
    }

    pub fn set(mut self, at: usize, value: &[u8]) -> Self {
        self.0[at..at + value.len()].copy_from_slice(value);
        self
    }

    pub fn broadcast(self) -> Self {
        self.set(10, &[0x80, 0])
    }

    pub fn ciaddr(self, address: Ipv4Addr) -> Self {
        self.set(12, &address.octets())
    }

    pub fn giaddr(self, address: [u8; 4]) -> Self {
        self.set(24, &address)
    }
}

/// Where a reply went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct To {
    pub address: Ipv4Addr,
    pub port: u16,
    /// When it is the server that chose it: the client does not answer ARP yet.
    pub mac: Option<Mac>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub to: To,
    pub bytes: Vec<u8>,
}

impl Reply {
    /// Codes in order, each with its value, split ones joined: those of the options field, then of `file`, `sname`.
    pub fn options(&self) -> Vec<(u8, Vec<u8>)> {
        let mut out = Vec::new();
        read(&self.bytes[240..], &mut out);
        let overload = out.iter().find(|(code, _)| *code == 52).map_or(0, |(_, value)| value[0]);
        if overload & 1 != 0 {
            read(&self.bytes[108..236], &mut out);
        }
        if overload & 2 != 0 {
            read(&self.bytes[44..108], &mut out);
        }
        out
    }

    pub fn codes(&self) -> Vec<u8> {
        self.options().into_iter().map(|(code, _)| code).collect()
    }

    pub fn option(&self, code: u8) -> Option<Vec<u8>> {
        self.options().into_iter().find(|(found, _)| *found == code).map(|(_, value)| value)
    }

    pub fn text(&self, code: u8) -> Option<String> {
        self.option(code).map(|value| String::from_utf8(value).unwrap())
    }

    pub fn secs(&self, code: u8) -> Option<u32> {
        self.option(code).map(|value| u32::from_be_bytes(value.try_into().unwrap()))
    }

    /// 0: a BOOTP reply.
    pub fn kind(&self) -> u8 {
        self.option(53).map_or(0, |value| value[0])
    }

    pub fn address(&self, at: usize) -> Ipv4Addr {
        let octets: [u8; 4] = self.bytes[at..at + 4].try_into().unwrap();
        octets.into()
    }

    pub fn yiaddr(&self) -> Ipv4Addr {
        self.address(16)
    }

    pub fn siaddr(&self) -> Ipv4Addr {
        self.address(20)
    }

    /// The field `file`, to its NUL.
    pub fn file(&self) -> &str {
        let file = self.bytes[108..236].split(|byte| *byte == 0).next().unwrap();
        std::str::from_utf8(file).unwrap()
    }
}

fn read(mut rest: &[u8], out: &mut Vec<(u8, Vec<u8>)>) {
    while rest[0] != 255 {
        if rest[0] == 0 {
            rest = &rest[1..];
            continue;
        }
        let [code, length, tail @ ..] = rest else { panic!("a cut option") };
        let (value, tail) = tail.split_at(usize::from(*length));
        match out.last_mut().filter(|(last, _)| last == code) {
            Some((_, whole)) => whole.extend(value),
            None => out.push((*code, value.to_vec())),
        }
        rest = tail;
    }
}
