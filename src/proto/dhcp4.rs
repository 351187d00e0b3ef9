//! DHCPv4 server (RFC 2131, 2132): datagrams in, replies (or silence) out, under a clock that is handed in.
//!
//! One `Responder` serves one interface and what relays send to it. Requests are read where they lie, replies laid
//! out here, because options go out in the order the client asked for (RFC 2131 §3.5). Who has which address is in
//! `leases`; its journal must be on disk before a reply leaves. Not served: lease queries, forced renewals,
//! authentication (RFC 3118).

mod binding;
mod boot;
mod code;
mod fqdn;
mod link;
mod parameters;
mod reply;
mod request;
mod settings;
#[cfg(test)]
mod tests;
mod typed;
mod value;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

pub use self::link::left_of;
pub use self::settings::{
    Addresses, Boot, BootClient, INFINITE, OneGuest, Parameters, Reservation, ReservedFor,
    Settings, Subnet,
};
pub use self::typed::{OptionError, encode};
pub use self::value::decode_routes;
use super::Now;
pub use super::leases::LeaseTime;
use super::leases::Leases;
use super::limits::Limiter;
pub use super::limits::Limits;
use crate::net::MacAddr;

use self::link::Link;
use self::reply::{Fixed, Options};
use self::request::Request;

/// RFC 2131 §4.1.
pub const SERVER_PORT: u16 = 67;
/// RFC 2131 §4.1.
pub const CLIENT_PORT: u16 = 68;

/// Header and magic cookie (RFC 2131 §2).
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

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
    /// A relay, the port its request came from (RFC 8357 §4).
    RelaySource(Ipv4Addr),
}

/// A reply and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    pub destination: Destination,
    pub payload: Vec<u8>,
    /// OFFER, ACK or NAK, for the log. None: a BOOTP reply.
    pub kind: Option<MessageType>,
    pub client: MacAddr,
    /// What the client is given; unspecified in a NAK or the answer to an INFORM.
    pub address: Ipv4Addr,
    /// Look for this address on the link first, for less than a second; what else goes to this client waits as long.
    /// When somebody has it, say so to `Responder::conflict` and hand in the same request again; else send.
    pub probe: Option<Ipv4Addr>,
}

/// Why there is no answer, or less of one. Counted, never fatal.
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
    /// Option 90.
    Authentication,
    OtherServer,
    BadMix,
    /// No subnet for the relay's or client's address.
    NoSubnet,
    /// No address is left.
    Exhausted,
    /// Nothing is known of the client, and this server does not speak for all.
    UnknownClient,
    /// RELEASE or DECLINE of what the client does not have.
    NotHeld,
    TooMany,
    Declined,
    Released,
    /// Answered, but without option 82: it did not fit.
    RelayInformationDropped,
    /// Somebody already uses an address that was to be offered.
    Conflict,
    /// Leased, but the client's name is none.
    Name,
    /// The socket does not take the reply: it goes to an address that nobody has. Dropped.
    Unsent,
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
            Self::Authentication => "authentication",
            Self::OtherServer => "other_server",
            Self::BadMix => "bad_mix",
            Self::NoSubnet => "no_subnet",
            Self::Exhausted => "exhausted",
            Self::UnknownClient => "unknown_client",
            Self::NotHeld => "not_held",
            Self::TooMany => "too_many",
            Self::Declined => "declined",
            Self::Released => "released",
            Self::RelayInformationDropped => "relay_information_dropped",
            Self::Conflict => "conflict",
            Self::Name => "name",
            Self::Unsent => "unsent",
        }
    }
}

/// The server core.
#[derive(Debug)]
pub struct Responder {
    settings: Settings,
    link: Link,
    leases: Leases,
    limiter: Limiter,
    counts: BTreeMap<Reason, u64>,
    declined: Option<Ipv4Addr>,
    /// A name that no client can have, and whose it was to be.
    unusable: Option<(MacAddr, Vec<u8>)>,
}

/// What the policy decides; the rest of a reply follows from it.
#[derive(Debug, Clone, Copy)]
struct Decision {
    kind: MessageType,
    /// Which subnet's parameters.
    subnet: usize,
    address: Option<Ipv4Addr>,
    lease_secs: Option<u32>,
    /// Which reservation's name.
    reservation: Option<usize>,
    rapid: bool,
    probe: bool,
}

impl Responder {
    /// Answers from these settings and the leases known so far.
    pub fn new(settings: Settings, mut leases: Leases) -> Self {
        let limiter = Limiter::new(settings.limits);
        let link = Link::new(&settings);
        let pools =
            (0..settings.subnets.len()).flat_map(|subnet| link.pool(subnet).iter().copied());
        leases.divide(&pools.collect::<Vec<_>>());
        Self {
            link,
            settings,
            leases,
            limiter,
            counts: BTreeMap::new(),
            declined: None,
            unusable: None,
        }
    }

    /// Answers one datagram that came to the server port.
    pub fn answer(&mut self, now: Now, datagram: &[u8]) -> Result<Option<Transmit>, Reason> {
        let answer = Request::parse(datagram).and_then(|request| self.respond(now, &request));
        if let Err(reason) = &answer {
            self.count(*reason);
        }
        answer
    }

    /// Somebody answered the probe for this address: nobody gets it for a while.
    pub fn conflict(&mut self, now: Now, address: Ipv4Addr) {
        self.count(Reason::Conflict);
        self.leases.decline(now, address, self.settings.quarantine);
    }

    /// The last address that a client declined, for the log (RFC 2131 §4.3.3).
    pub(crate) fn last_declined(&self) -> Option<Ipv4Addr> {
        self.declined
    }

    /// A client's name that is none, so that it was given its lease without one; each is told once.
    pub fn unusable_name(&mut self) -> Option<(MacAddr, Vec<u8>)> {
        self.unusable.take()
    }

    /// To take the journal, list, or compact.
    pub fn leases(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// Since the start.
    pub fn counts(&self) -> &BTreeMap<Reason, u64> {
        &self.counts
    }

    /// Counts a request without an answer.
    pub fn count(&mut self, reason: Reason) {
        *self.counts.entry(reason).or_default() += 1;
    }

    fn respond(&mut self, now: Now, request: &Request) -> Result<Option<Transmit>, Reason> {
        if !request.cookie && !self.settings.bootp {
            return Err(Reason::NoCookie);
        }
        if request.has(code::AUTHENTICATION) {
            return Err(Reason::Authentication);
        }
        let Some(kind) = request.kind else { return self.bootp(now, request).map(Some) };
        let decide = match kind {
            MessageType::Discover => Self::discover,
            MessageType::Request => Self::request,
            MessageType::Decline => Self::decline,
            MessageType::Release => Self::release,
            MessageType::Inform => Self::inform,
            _ => return Err(Reason::UnknownMessageType),
        };
        let client = self.client(now, request)?;
        let decision = decide(self, now, request, &client)?;
        Ok(self.reply(request, decision))
    }

    fn reply(&mut self, request: &Request, decision: Decision) -> Option<Transmit> {
        let subnet = self.settings.subnets.get(decision.subnet)?;
        let values = self.link.values(decision.subnet)?;
        let reservation = decision.reservation.and_then(|at| self.settings.reservations.get(at));
        let kind = decision.kind;
        let mut fixed = Fixed::of(request);
        let server = request.relay(code::SERVER_OVERRIDE).unwrap_or(subnet.server);
        let mut options = Options::new(request, kind, server);
        if kind == MessageType::Nak {
            // The relay must broadcast it: the client has no address that is right (RFC 2131 §4.3.2).
            fixed.broadcast |= request.giaddr.is_some();
            options.may(code::MESSAGE, &b"this address is not for this client here"[..]);
        } else {
            fixed.yiaddr = decision.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            if let Some(secs) = decision.lease_secs {
                options.lease(secs);
            }
            if kind == MessageType::Ack {
                fixed.ciaddr = request.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
            }
            if decision.rapid {
                options.must(code::RAPID_COMMIT, &[][..]);
            }
            if kind == MessageType::Offer && decision.address.is_none() {
                options.must(code::AUTO_CONFIGURE, &[0][..]);
            } else {
                fixed.siaddr = subnet.parameters.next_server.unwrap_or(subnet.server);
                fixed.file = values.fill(&mut options, subnet, request, reservation);
            }
        }
        let (payload, echoed) = options.lay_out(request, fixed, request.max, values.max());
        let destination = destination(request, kind, fixed.yiaddr, self.link.alone());
        let address = fixed.yiaddr;
        let probe = decision.address.filter(|_| decision.probe);
        if !echoed {
            self.count(Reason::RelayInformationDropped);
        }
        Some(Transmit {
            destination,
            payload,
            kind: Some(kind),
            client: request.mac,
            address,
            probe,
        })
    }
}

/// RFC 2131 §4.1. A guest that is alone on its link is sent nothing to addresses that are not its own: each is a neighbour of
/// the node's kernel.
fn destination(
    request: &Request,
    kind: MessageType,
    yiaddr: Ipv4Addr,
    alone: Option<Ipv4Addr>,
) -> Destination {
    match (request.giaddr, request.ciaddr) {
        (Some(relay), _) if request.has_relay(code::SOURCE_PORT) => Destination::RelaySource(relay),
        (Some(relay), _) => Destination::Relay(relay),
        _ if kind == MessageType::Nak => Destination::Broadcast,
        (None, Some(ciaddr)) if alone.is_none_or(|guest| guest == ciaddr) => {
            Destination::Client(ciaddr)
        }
        _ if request.broadcast || request.answered_to_all || yiaddr.is_unspecified() => {
            Destination::Broadcast
        }
        _ => Destination::Unicast { address: yiaddr, mac: request.mac },
    }
}
