//! DHCPv4 (RFC 2131, 2132) for the one guest behind a tap: whoever asks there gets the one address.
//!
//! Nothing is filtered by MAC or client identifier: only the guest can be there, and a server that insisted on a
//! MAC has left many a guest without a network. Requests are decoded by dhcproto; replies are laid out here,
//! because options go out in the order the client asked for (RFC 2131 §3.5). Pools, relays of other subnets and
//! BOOTP are not served.

mod options;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{
    Addresses, Boot, BootClient, INFINITE, LeaseTime, Limits, OneGuest, Parameters, Reservation, ReservedFor,
    Settings, Subnet,
};

use std::net::Ipv4Addr;
use std::time::Instant;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};

use crate::net::MacAddr;

pub const SERVER_PORT: u16 = 67;
pub const CLIENT_PORT: u16 = 68;

/// Largest request looked at, in octets of UDP payload: nothing real comes near it.
const LARGEST: usize = 4096;
/// Header and magic cookie (RFC 2131 §2).
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// What every client takes (RFC 2131 §2): 576 octets of IP datagram, less IP and UDP headers.
const LEAST_SIZE: usize = 576 - 28;

/// Where a reply goes (RFC 2131 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// 255.255.255.255, client port.
    Broadcast,
    /// This address at this MAC, client port: the client cannot answer ARP yet.
    Unicast { address: Ipv4Addr, mac: MacAddr },
    /// A client that has its address, client port.
    Client(Ipv4Addr),
    /// A relay, server port.
    Relay(Ipv4Addr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    pub destination: Destination,
    pub payload: Vec<u8>,
    /// OFFER, ACK or NAK, for the log.
    pub kind: MessageType,
    pub client: MacAddr,
}

/// Why there is no answer. Counted, never fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    TooLong,
    Truncated,
    NotARequest,
    HardwareAddress,
    NoCookie,
    Malformed,
    NoMessageType,
    UnknownMessageType,
    OtherServer,
    BadMix,
    Declined,
    Released,
}

impl Reason {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
            Self::NotARequest => "not_a_request",
            Self::HardwareAddress => "hardware_address",
            Self::NoCookie => "no_cookie",
            Self::Malformed => "malformed",
            Self::NoMessageType => "no_message_type",
            Self::UnknownMessageType => "unknown_message_type",
            Self::OtherServer => "other_server",
            Self::BadMix => "bad_mix",
            Self::Declined => "declined",
            Self::Released => "released",
        }
    }
}

/// The server core.
#[derive(Debug)]
pub struct Responder {
    settings: OneGuest,
}

impl Responder {
    pub fn new(settings: OneGuest) -> Self {
        Self { settings }
    }

    /// Answers one datagram from the client side. A binding of one guest does not expire, so `now` does not
    /// matter yet; it is part of the contract of every core.
    pub fn answer(&mut self, _now: Instant, datagram: &[u8]) -> Result<Option<Transmit>, Reason> {
        let request = Request::parse(datagram)?;
        match request.kind {
            MessageType::Discover => Ok(Some(self.lease(&request, MessageType::Offer))),
            MessageType::Request => self.request(&request),
            MessageType::Inform => self.inform(&request),
            MessageType::Decline => Err(Reason::Declined),
            MessageType::Release => Err(Reason::Released),
            _ => Err(Reason::UnknownMessageType),
        }
    }

    /// RFC 2131 §4.3.2, by what tells the client's state (table 4).
    fn request(&self, request: &Request) -> Result<Option<Transmit>, Reason> {
        let ciaddr = Some(request.message.ciaddr()).filter(|address| !address.is_unspecified());
        let asked = match (request.server, request.address, ciaddr) {
            (Some(server), _, _) if server != self.settings.server => return Err(Reason::OtherServer),
            // SELECTING
            (Some(_), Some(address), None) => address,
            // INIT-REBOOT
            (None, Some(address), None) => address,
            // RENEWING, REBINDING
            (None, None, Some(address)) => address,
            _ => return Err(Reason::BadMix),
        };
        if asked == self.settings.guest.address {
            Ok(Some(self.lease(request, MessageType::Ack)))
        } else {
            Ok(Some(self.nak(request, asked)))
        }
    }

    /// RFC 2131 §4.3.5: parameters only, to the address the client has.
    fn inform(&self, request: &Request) -> Result<Option<Transmit>, Reason> {
        let ciaddr = request.message.ciaddr();
        if ciaddr.is_unspecified() {
            return Err(Reason::BadMix);
        }
        let mut reply = request.reply();
        reply.set_ciaddr(ciaddr);
        let options = options::parameters(&self.settings, request, MessageType::Ack, None);
        Ok(Some(self.transmit(request, &reply, MessageType::Ack, &options)))
    }

    fn lease(&self, request: &Request, kind: MessageType) -> Transmit {
        let mut reply = request.reply();
        reply.set_yiaddr(self.settings.guest.address).set_siaddr(self.settings.server);
        if kind == MessageType::Ack {
            reply.set_ciaddr(request.message.ciaddr());
        }
        let options = options::parameters(&self.settings, request, kind, Some(self.lease_secs(request)));
        self.transmit(request, &reply, kind, &options)
    }

    /// What the client asks for, within reason; never infinite.
    fn lease_secs(&self, request: &Request) -> u32 {
        let most = self.settings.lease_secs;
        request.lease_secs.map_or(most, |asked| asked.clamp(most.min(300), most))
    }

    fn nak(&self, request: &Request, asked: Ipv4Addr) -> Transmit {
        let mut reply = request.reply();
        if !request.message.giaddr().is_unspecified() {
            // The relay must broadcast it: the client has no address that is right (§4.3.2).
            reply.set_flags(Flags::default().set_broadcast());
        }
        let message = format!("{asked} is not this network's: it is {}", self.settings.guest);
        let options = options::nak(&self.settings, request, &message);
        self.transmit(request, &reply, MessageType::Nak, &options)
    }

    fn transmit(&self, request: &Request, reply: &Message, kind: MessageType, options: &[u8]) -> Transmit {
        // dhcproto writes the header and the cookie, then the end option of an empty list, which gives way.
        let mut payload = reply.to_vec().unwrap_or_default();
        payload.truncate(FIXED);
        payload.extend_from_slice(options);
        // BOOTP's size (RFC 1542 §2.1): some clients drop what is shorter.
        payload.resize(payload.len().max(300), 0);
        Transmit {
            destination: request.destination(kind, reply.yiaddr()),
            payload,
            kind,
            client: request.mac,
        }
    }
}

/// A request that makes sense so far.
struct Request {
    message: Message,
    kind: MessageType,
    mac: MacAddr,
    /// Option 54.
    server: Option<Ipv4Addr>,
    /// Option 50.
    address: Option<Ipv4Addr>,
    /// Option 51.
    lease_secs: Option<u32>,
    /// Option 55, by number.
    wanted: Option<Vec<u8>>,
    /// Option 61, to be echoed (RFC 6842).
    client_id: Option<Vec<u8>>,
    /// Octets a reply may have: option 57 less the IP and UDP headers, at least 548.
    most: usize,
}

impl Request {
    /// Looks at the fixed part and the options' lengths first, so that only sane messages reach the decoder.
    fn parse(datagram: &[u8]) -> Result<Self, Reason> {
        if datagram.len() > LARGEST {
            return Err(Reason::TooLong);
        }
        let Some(&[op, htype, hlen, _]) = datagram.first_chunk::<4>() else { return Err(Reason::Truncated) };
        if datagram.len() < FIXED {
            return Err(Reason::Truncated);
        }
        if op != 1 {
            return Err(Reason::NotARequest);
        }
        if htype != 1 || hlen != 6 {
            return Err(Reason::HardwareAddress);
        }
        if datagram.get(FIXED - 4..FIXED) != Some(&COOKIE) {
            return Err(Reason::NoCookie);
        }
        let plain = options::known_only(datagram).ok_or(Reason::Malformed)?;
        let message = Message::decode(&mut Decoder::new(&plain)).map_err(|_| Reason::Malformed)?;
        if message.opcode() != Opcode::BootRequest {
            return Err(Reason::NotARequest);
        }
        Self::read(message)
    }

    fn read(message: Message) -> Result<Self, Reason> {
        let options = message.opts();
        let kind = options.msg_type().ok_or(Reason::NoMessageType)?;
        let mac = message.chaddr().first_chunk().copied().map(MacAddr).ok_or(Reason::HardwareAddress)?;
        let address = |code| match options.get(code) {
            Some(DhcpOption::RequestedIpAddress(address) | DhcpOption::ServerIdentifier(address)) => {
                Some(*address)
            }
            _ => None,
        };
        let lease_secs = match options.get(OptionCode::AddressLeaseTime) {
            Some(DhcpOption::AddressLeaseTime(seconds)) => Some(*seconds),
            _ => None,
        };
        let wanted = match options.get(OptionCode::ParameterRequestList) {
            Some(DhcpOption::ParameterRequestList(codes)) => {
                Some(codes.iter().map(|&code| code.into()).collect())
            }
            _ => None,
        };
        let client_id = match options.get(OptionCode::ClientIdentifier) {
            Some(DhcpOption::ClientIdentifier(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let most = match options.get(OptionCode::MaxMessageSize) {
            Some(DhcpOption::MaxMessageSize(size)) => {
                usize::from(*size).saturating_sub(28).clamp(LEAST_SIZE, 1472)
            }
            _ => LEAST_SIZE,
        };
        Ok(Self {
            server: address(OptionCode::ServerIdentifier),
            address: address(OptionCode::RequestedIpAddress),
            kind,
            mac,
            lease_secs,
            wanted,
            client_id,
            most,
            message,
        })
    }

    /// Header of the reply: what is copied from the request (RFC 2131 table 3).
    fn reply(&self) -> Message {
        let request = &self.message;
        let mut reply = Message::default();
        reply
            .clear_addrs()
            .set_opcode(Opcode::BootReply)
            .set_htype(request.htype())
            .set_xid(request.xid())
            .set_hops(request.hops())
            .set_flags(request.flags())
            .set_giaddr(request.giaddr())
            .set_chaddr(request.chaddr());
        reply
    }

    fn destination(&self, kind: MessageType, yiaddr: Ipv4Addr) -> Destination {
        let request = &self.message;
        let (giaddr, ciaddr) = (request.giaddr(), request.ciaddr());
        if !giaddr.is_unspecified() {
            Destination::Relay(giaddr)
        } else if kind == MessageType::Nak {
            Destination::Broadcast
        } else if !ciaddr.is_unspecified() {
            Destination::Client(ciaddr)
        } else if request.flags().broadcast() {
            Destination::Broadcast
        } else {
            Destination::Unicast { address: yiaddr, mac: self.mac }
        }
    }
}
