//! The headers that come with an event: the first octets of each layer, for one line of text.

use std::net::IpAddr;

use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::icmp::IcmpPacket;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::TcpPacket;
use pnet_packet::udp::UdpPacket;

use super::super::names::Type;
use super::super::names::protocol;
use super::super::names::words::bit_words;
use crate::net::MacAddr;

/// What can be told of a packet; whatever its headers do not hold is None.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packet {
    /// Source and destination.
    pub ether: Option<(MacAddr, MacAddr)>,
    /// Source.
    pub from: Option<IpAddr>,
    /// Destination.
    pub to: Option<IpAddr>,
    /// IANA's number of the transport, or of IPv6's first extension header.
    pub protocol: Option<u8>,
    /// Source and destination.
    pub ports: Option<(u16, u16)>,
    /// As the octet of the header has them.
    pub tcp_flags: Option<u8>,
    /// Type, code, and the identifier and number of an echo.
    pub icmp: Option<(u8, u8, u16, u16)>,
    /// Octets from the network header on.
    pub length: Option<u32>,
    /// Or hop limit.
    pub ttl: Option<u8>,
    /// This is not the first fragment: there is no transport header.
    pub fragment: bool,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Length of an IPv6 header, which its own length does not count.
const IPV6_HEADER: u32 = 40;

impl Packet {
    /// Any bytes will do.
    pub fn parse(link: &[u8], network: &[u8], transport: &[u8]) -> Self {
        let mut packet = Self::default();
        if let Some(ether) = EthernetPacket::new(link) {
            let (from, to) = (ether.get_source(), ether.get_destination());
            packet.ether = Some((MacAddr(from.octets()), MacAddr(to.octets())));
        }
        match network.first().map(|byte| byte >> 4) {
            Some(4) => packet.ipv4(network),
            Some(6) => packet.ipv6(network),
            _ => {}
        }
        if !packet.fragment {
            packet.transport(transport);
        }
        packet
    }

    fn ipv4(&mut self, bytes: &[u8]) {
        let Some(header) = Ipv4Packet::new(bytes) else { return };
        self.from = Some(header.get_source().into());
        self.to = Some(header.get_destination().into());
        self.protocol = Some(header.get_next_level_protocol().0);
        self.length = Some(u32::from(header.get_total_length()));
        self.ttl = Some(header.get_ttl());
        self.fragment = header.get_fragment_offset() != 0;
    }

    fn ipv6(&mut self, bytes: &[u8]) {
        let Some(header) = Ipv6Packet::new(bytes) else { return };
        self.from = Some(header.get_source().into());
        self.to = Some(header.get_destination().into());
        // Extension headers are not in the event: their number stands for the protocol.
        self.protocol = Some(header.get_next_header().0);
        self.length = Some(u32::from(header.get_payload_length()) + IPV6_HEADER);
        self.ttl = Some(header.get_hop_limit());
    }

    fn transport(&mut self, bytes: &[u8]) {
        match self.protocol {
            Some(TCP) => {
                let Some(header) = TcpPacket::new(bytes) else { return };
                self.ports = Some((header.get_source(), header.get_destination()));
                self.tcp_flags = Some(header.get_flags());
            }
            Some(UDP | SCTP) => {
                let Some(header) = UdpPacket::new(bytes) else { return };
                self.ports = Some((header.get_source(), header.get_destination()));
            }
            Some(ICMP | ICMPV6) => {
                let Some(header) = IcmpPacket::new(bytes) else { return };
                let word = |at: usize| {
                    super::super::attr::array::<2>(bytes, at)
                        .map(u16::from_be_bytes)
                        .unwrap_or_default()
                };
                self.icmp =
                    Some((header.get_icmp_type().0, header.get_icmp_code().0, word(4), word(6)));
            }
            _ => {}
        }
    }

    /// `syn,ack` and the like.
    pub fn flag_names(&self) -> Option<String> {
        let flags = self.tcp_flags?;
        let set = bit_words(Type::TcpFlag.symbols(), flags.into());
        Some(if set.is_empty() { "none".to_owned() } else { set.join(",") })
    }

    /// `echo-request`, or the numbers.
    pub fn icmp_name(&self) -> Option<String> {
        let (kind, code, id, number) = self.icmp?;
        let symbols = if self.protocol == Some(ICMPV6) { Type::Icmpv6Type } else { Type::IcmpType };
        let Some(name) = symbols.symbol(kind.into()) else {
            return Some(format!("type {kind} code {code}"));
        };
        Some(match name {
            "echo-request" | "echo-reply" if code == 0 => format!("{name} id {id} seq {number}"),
            "destination-unreachable" | "redirect" | "time-exceeded" | "parameter-problem" => {
                format!("{name} code {code}")
            }
            name if code != 0 => format!("{name} code {code}"),
            name => name.to_owned(),
        })
    }
}

/// A protocol as a person names it; any other by its number.
pub fn protocol_name(number: u8) -> String {
    protocol::word(number).map_or_else(|| format!("protocol {number}"), str::to_owned)
}
