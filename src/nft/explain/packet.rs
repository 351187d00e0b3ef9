//! A packet as far as it is described: true header octets, and what the kernel keeps beside them.

use std::fmt;
use std::net::IpAddr;

use super::super::Family;
use super::super::expr::base;
use super::super::names::protocol;
use super::bits::{Bits, Truth};
use super::words;
use super::world::Interface;

/// IANA's number.
pub const TCP: u8 = 6;
/// IANA's number.
pub const UDP: u8 = 17;
/// IANA's number.
pub const ICMP: u8 = 1;
/// IANA's number.
pub const ICMP6: u8 = 58;

/// What there is of a TCP header for certain, and of an IPv6 one, an Ethernet one.
const TCP_LEN: usize = 20;
const IP6_LEN: usize = 40;
const ETHER_LEN: usize = 14;
const ARP_LEN: usize = 28;

/// What conntrack says of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// The first of a connection.
    #[default]
    New,
    /// Of one that has been answered.
    Established,
    /// Of one that another has announced, or an error of one.
    Related,
    /// Of none, and begins none.
    Invalid,
    /// Left out of conntrack.
    Untracked,
}

/// The packet's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Of this packet.
    pub state: State,
    /// In the direction opposite to the first packet's.
    pub reply: bool,
    /// Host order, as all that follows.
    pub status: Bits,
    /// `ct mark`.
    pub mark: Bits,
    /// 128 bits.
    pub labels: Bits,
    /// The zone it is in; in any other the packet is the first of a connection. None: in whatever zone it is looked for.
    pub zone: Option<u16>,
}

impl Connection {
    /// The packet is the first of it.
    pub(super) fn begin(&mut self, state: State) {
        let zero = || Bits::known(&words::host(0, 4));
        *self = Self {
            state,
            reply: false,
            status: zero(),
            mark: zero(),
            labels: Bits::known(&[0; 16]),
            zone: self.zone,
        };
    }

    /// It was there before, and what it has been given is not known.
    pub fn forget(&mut self) {
        (self.status, self.mark, self.labels) =
            (Bits::unknown(4), Bits::unknown(4), Bits::unknown(16));
    }
}

/// Starts as the first packet of its connection, without options or payload that anybody knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// ip, ip6 or arp.
    pub family: Family,
    /// None for one that no link has carried yet.
    pub link: Option<Bits>,
    /// The header of IP or ARP.
    pub network: Bits,
    /// The header above, as far as it is known.
    pub transport: Bits,
    /// IANA's number of the transport.
    pub protocol: u8,
    /// Of the whole, from the network header on.
    pub length: Option<u32>,
    /// `skb->mark`, host order.
    pub mark: Bits,
    /// 0 host, 1 broadcast, 2 multicast, 3 another host; None: what its destination says.
    pub kind: Option<Bits>,
    /// Made on this machine.
    pub local: bool,
    /// Of the socket that sent it.
    pub uid: Option<u32>,
    /// Of the socket that sent it.
    pub gid: Option<u32>,
    /// It came by it; None for what this host sends.
    pub iif: Option<Interface>,
    /// It leaves by it; None for what this host takes.
    pub oif: Option<Interface>,
    /// As conntrack sees it.
    pub connection: Connection,
}

impl Packet {
    /// An IP packet to `to`; the protocol is IANA's number.
    pub fn ip(from: Option<IpAddr>, to: IpAddr, protocol: u8) -> Self {
        let (family, network) = match to {
            IpAddr::V4(_) => (Family::IP, ipv4(protocol)),
            IpAddr::V6(_) => (Family::IP6, ipv6(protocol)),
        };
        let mut packet = Self::new(family, network, transport(protocol), protocol);
        packet.set_address(true, &bits_of(to));
        if let Some(from) = from {
            packet.set_address(false, &bits_of(from));
        }
        packet
    }

    /// An ARP request (1) or reply (2) for IPv4 on Ethernet (RFC 826).
    pub fn arp(from: Option<IpAddr>, to: IpAddr, operation: u16) -> Self {
        let mut network = Bits::unknown(ARP_LEN);
        network.put(0, &Bits::known(&[0, 1, 8, 0, 6, 4]));
        network.put(6, &Bits::known(&operation.to_be_bytes()));
        network.put(24, &bits_of(to));
        if let Some(from) = from {
            network.put(14, &bits_of(from));
        }
        Self::new(Family::ARP, network, Bits::default(), 0)
    }

    fn new(family: Family, network: Bits, transport: Bits, protocol: u8) -> Self {
        let zero = || Bits::known(&words::host(0, 4));
        let connection = Connection {
            state: State::New,
            reply: false,
            status: zero(),
            mark: zero(),
            labels: Bits::known(&[0; 16]),
            zone: None,
        };
        Self {
            family,
            link: None,
            network,
            transport,
            protocol,
            length: None,
            mark: zero(),
            kind: None,
            local: false,
            uid: None,
            gid: None,
            iif: None,
            oif: None,
            connection,
        }
    }

    /// Whether its transport has them.
    pub fn has_ports(&self) -> bool {
        matches!(self.protocol, TCP | UDP | 33 | 132 | 136)
    }

    /// None leaves one unknown.
    pub fn set_ports(&mut self, source: Option<u16>, destination: Option<u16>) {
        for (offset, port) in [(0, source), (2, destination)] {
            if let Some(port) = port {
                self.transport.put(offset, &Bits::known(&port.to_be_bytes()));
            }
        }
    }

    /// As the octet of the header has them.
    pub fn set_tcp_flags(&mut self, flags: u8) {
        self.transport.put(13, &Bits::known(&[flags]));
    }

    /// They may be any.
    pub(crate) fn forget_tcp_flags(&mut self) {
        self.transport.put(13, &Bits::unknown(1));
    }

    /// Type and code.
    pub fn set_icmp(&mut self, kind: u8, code: u8) {
        self.transport.put(0, &Bits::known(&[kind, code]));
    }

    /// The type of ICMP, where it is known.
    pub(super) fn icmp_type(&self) -> Option<u8> {
        self.transport.part(0, 1)?.bytes()?.first().copied()
    }

    pub(crate) fn set_mark(&mut self, mark: u32) {
        self.mark = Bits::known(&mark.to_ne_bytes());
    }

    /// TTL or hop limit.
    pub fn set_ttl(&mut self, ttl: u8) {
        let offset = if self.family == Family::IP6 { 7 } else { 8 };
        self.network.put(offset, &Bits::known(&[ttl]));
    }

    /// Type of service or traffic class, both eight bits.
    pub fn set_tos(&mut self, tos: u8) {
        if self.family == Family::IP6 {
            let [high, low] = (u16::from(tos) << 4 | 0x6000).to_be_bytes();
            self.network.put(0, &Bits::partly(&[high, low], &[0xff, 0xf0]));
        } else {
            self.network.put(1, &Bits::known(&[tos]));
        }
    }

    /// Whether its type of service may be this one.
    pub fn may_have_tos(&self, tos: u8) -> bool {
        let mut other = self.clone();
        other.set_tos(tos);
        let len = if self.family == Family::IP6 { 2 } else { 1 };
        let at = if self.family == Family::IP6 { 0 } else { 1 };
        let (mine, its) = (self.network.part(at, len), other.network.part(at, len));
        mine.zip(its)
            .is_some_and(|(mine, its)| its.bytes().is_none_or(|its| mine.equals(&its) != Truth::No))
    }

    /// From the network header on.
    pub fn set_length(&mut self, length: u16) {
        self.length = Some(length.into());
        match self.family {
            Family::IP => self.network.put(2, &Bits::known(&length.to_be_bytes())),
            Family::IP6 => {
                let rest = length.saturating_sub(u16::try_from(IP6_LEN).unwrap_or(0));
                self.network.put(4, &Bits::known(&rest.to_be_bytes()));
            }
            _ => {}
        }
    }

    /// The Ethernet header it came with.
    pub fn set_ether(&mut self, from: Option<[u8; 6]>, to: Option<[u8; 6]>) {
        let mut link = self.link.take().unwrap_or_else(|| Bits::unknown(ETHER_LEN));
        for (offset, address) in [(0, to), (6, from)] {
            if let Some(address) = address {
                link.put(offset, &Bits::known(&address));
                if self.family == Family::ARP && offset == 6 {
                    self.network.put(8, &Bits::known(&address));
                }
            }
        }
        link.put(12, &Bits::known(&self.ether_type().to_be_bytes()));
        self.link = Some(link);
    }

    /// The frame has an 802.1Q tag: PCP, DEI and VLAN together. `set_ether` comes first.
    pub fn set_vlan(&mut self, tag: u16) {
        if let Some(mut link) = self.link.as_ref().and_then(|link| link.part(0, ETHER_LEN - 2)) {
            link.extend(&Bits::known(&[0x81, 0x00]));
            link.extend(&Bits::known(&tag.to_be_bytes()));
            link.extend(&Bits::known(&self.ether_type().to_be_bytes()));
            self.link = Some(link);
        }
    }

    pub(super) fn ether_type(&self) -> u16 {
        match self.family {
            Family::IP6 => 0x86dd,
            Family::ARP => 0x0806,
            _ => 0x0800,
        }
    }

    pub(super) fn layer(&self, number: u32) -> Option<&Bits> {
        match number {
            base::LINK => self.link.as_ref(),
            base::NETWORK => Some(&self.network),
            base::TRANSPORT => Some(&self.transport).filter(|_| self.family != Family::ARP),
            _ => None,
        }
    }

    pub(super) fn layer_mut(&mut self, number: u32) -> Option<&mut Bits> {
        match number {
            base::LINK => self.link.as_mut(),
            base::NETWORK => Some(&mut self.network),
            base::TRANSPORT if self.family == Family::ARP => None,
            base::TRANSPORT => Some(&mut self.transport),
            _ => None,
        }
    }

    /// What tells where headers end and what they are: a packet in which that is rewritten is another one.
    pub(super) fn shape(&self) -> Vec<Option<Bits>> {
        let network: &[(usize, usize)] = match self.family {
            Family::IP => &[(0, 1), (2, 2), (6, 2), (9, 1)],
            Family::IP6 => &[(4, 3)],
            _ => &[],
        };
        let transport: &[(usize, usize)] = match self.protocol {
            TCP => &[(12, 1)],
            UDP => &[(4, 2)],
            _ => &[],
        };
        let parts = network.iter().map(|(at, len)| self.network.part(*at, *len));
        parts.chain(transport.iter().map(|(at, len)| self.transport.part(*at, *len))).collect()
    }

    /// Whether octets are those of an address, a port or an echo's identifier.
    pub(super) fn has_end_at(&self, layer: u32, offset: usize, len: usize) -> bool {
        let overlaps =
            |at: usize, size: usize| offset < at + size && at < offset.saturating_add(len);
        match layer {
            base::NETWORK => [false, true].into_iter().any(|destination| {
                let (at, size) = self.address_at(destination);
                overlaps(at, size)
            }),
            base::TRANSPORT if self.has_ports() => overlaps(0, 4),
            base::TRANSPORT => overlaps(4, 2),
            _ => false,
        }
    }

    fn address_at(&self, destination: bool) -> (usize, usize) {
        match (self.family, destination) {
            (Family::IP6, false) => (8, 16),
            (Family::IP6, true) => (24, 16),
            (Family::ARP, false) => (14, 4),
            (Family::ARP, true) => (24, 4),
            (_, false) => (12, 4),
            (_, true) => (16, 4),
        }
    }

    /// Source or destination address.
    pub(super) fn address(&self, destination: bool) -> Bits {
        let (offset, len) = self.address_at(destination);
        self.network.part(offset, len).unwrap_or_else(|| Bits::unknown(len))
    }

    pub(super) fn set_address(&mut self, destination: bool, address: &Bits) {
        let (offset, _) = self.address_at(destination);
        self.network.put(offset, address);
    }

    /// Source or destination port.
    pub(super) fn port(&self, destination: bool) -> Bits {
        let offset = if destination { 2 } else { 0 };
        self.transport.part(offset, 2).unwrap_or_else(|| Bits::unknown(2))
    }

    pub(super) fn set_port(&mut self, destination: bool, port: &Bits) {
        let offset = if destination { 2 } else { 0 };
        self.transport.put(offset, port);
    }

    /// Of IP; None while it is not known.
    pub fn source(&self) -> Option<IpAddr> {
        address_of(&self.address(false))
    }

    /// Of IP; None while it is not known.
    pub fn destination(&self) -> Option<IpAddr> {
        address_of(&self.address(true))
    }

    /// None where there are none or they are not known.
    pub fn source_port(&self) -> Option<u16> {
        self.known_port(false)
    }

    /// None while it is not known, or where there is none.
    pub fn destination_port(&self) -> Option<u16> {
        self.known_port(true)
    }

    fn known_port(&self, destination: bool) -> Option<u16> {
        let bytes = self.has_ports().then(|| self.port(destination).bytes())??;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    /// `10.0.0.9:?`
    pub(super) fn end(&self, destination: bool) -> String {
        let host = address_of(&self.address(destination));
        let text = host.map_or_else(|| "?".to_owned(), |address| address.to_string());
        if !self.has_ports() {
            return text;
        }
        let port =
            self.known_port(destination).map_or_else(|| "?".to_owned(), |port| port.to_string());
        if text.contains(':') { format!("[{text}]:{port}") } else { format!("{text}:{port}") }
    }
}

/// `10.0.0.9:40000 -> 10.1.1.2:22/tcp`
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.family {
            Family::ARP => "arp".to_owned(),
            _ => protocol::word(self.protocol)
                .map_or_else(|| self.protocol.to_string(), str::to_owned),
        };
        write!(f, "{} -> {}/{protocol}", self.end(false), self.end(true))
    }
}

pub(super) fn bits_of(address: IpAddr) -> Bits {
    match address {
        IpAddr::V4(address) => Bits::known(&address.octets()),
        IpAddr::V6(address) => Bits::known(&address.octets()),
    }
}

pub(super) fn address_of(bits: &Bits) -> Option<IpAddr> {
    let bytes = bits.bytes()?;
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// Version and length of the header, no fragment, the protocol; the rest is nobody's knowledge.
fn ipv4(protocol: u8) -> Bits {
    let mut header = Bits::unknown(20);
    header.put(0, &Bits::known(&[0x45]));
    // DF may be set or not; there is no offset and nothing follows.
    header.put(6, &Bits::partly(&[0, 0], &[0xbf, 0xff]));
    header.put(9, &Bits::known(&[protocol]));
    header
}

fn ipv6(protocol: u8) -> Bits {
    let mut header = Bits::unknown(IP6_LEN);
    header.put(0, &Bits::partly(&[0x60], &[0xf0]));
    header.put(6, &Bits::known(&[protocol]));
    header
}

/// The first packet's header: a SYN, an echo request.
fn transport(protocol: u8) -> Bits {
    match protocol {
        TCP => {
            let mut header = Bits::unknown(TCP_LEN);
            header.put(13, &Bits::known(&[2]));
            header
        }
        ICMP | ICMP6 => {
            let mut header = Bits::unknown(8);
            header.put(0, &Bits::known(&[if protocol == ICMP { 8 } else { 128 }, 0]));
            header
        }
        132 => Bits::unknown(12),
        _ => Bits::unknown(8),
    }
}
