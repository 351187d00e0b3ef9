//! DHCPv6 server (RFC 8415): datagrams in, replies (or silence) out, under a clock that is handed in.
//!
//! One `Responder` serves one link and what relay agents send to it. Messages are read where they lie, and refused whole
//! when any option in them, nested ones too, is not right. Not served: prefixes, temporary addresses, reconfiguration,
//! lease queries, authentication, and messages that come by unicast (no client is given the option that allows it).
//!
//! Of `dhcproto::v6` there are its names for types, codes and statuses, no more. Its reader takes cut options and wrong
//! lengths in silence or by a panic, any relayed message for a Relay-forward, and a thousand associations in each other for
//! an overflow of the stack; its writer turns repeated options around, and compresses search lists (RFC 8415 §10).

mod assign;
mod binding;
mod duid;
mod fqdn;
mod message;
mod parameters;
mod pool;
mod relay;
mod reply;
mod settings;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use dhcproto::v6::{MessageType, Status};

pub use self::duid::Duid;
pub use self::pool::{INFINITE, MAX_HELD, Pool, Reservation, ReservedFor, Subnet};
pub use self::settings::{Addresses, Boot, Error, Lifetimes, Parameters, Settings};
use super::Now;
pub use super::leases::LeaseTime;
use super::leases::Leases;
use super::limits::Limiter;
pub use super::limits::Limits;

use self::assign::{Assignment, Client};
use self::binding::Decision;
use self::message::Message;
use self::parameters::Values;
use self::pool::Places;
use self::relay::Relays;

/// RFC 8415 §7.2.
pub const SERVER_PORT: u16 = 547;
/// RFC 8415 §7.2.
pub const CLIENT_PORT: u16 = 546;

/// Largest datagram looked at, in octets of UDP payload: nothing real comes near it.
const LARGEST: usize = 4096;

/// What came to the server port.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    pub payload: &'a [u8],
    /// To an address of ours, not to a group (RFC 8415 §16, §18.4).
    pub unicast: bool,
}

/// Where a reply goes: to the address that the message came from (RFC 8415 §18.3.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Its client port.
    Client,
    /// Its server port.
    Relay,
    /// The port the message came from (RFC 8357).
    RelaySource,
}

/// A reply, where it goes, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    pub destination: Destination,
    pub payload: Vec<u8>,
    /// What the client sent.
    pub message: MessageType,
    /// ADVERTISE or REPLY.
    pub kind: MessageType,
    /// Of all of it, where it has one: Success, NotOnLink, UseMulticast.
    pub status: Option<Status>,
    /// None: an INFORMATION-REQUEST that does not say.
    pub client: Option<Duid>,
    /// What the client is given or, after a RELEASE or DECLINE, what it named.
    pub addresses: Vec<Ipv6Addr>,
    /// The first label of its name, when it says one that can be one.
    pub name: Option<String>,
}

/// Why there is no answer, or one without what was asked for. Counted, never fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    TooLong,
    Truncated,
    /// An option that does not fit into its message, or whose length cannot be.
    Malformed,
    /// An option twice of which there may be one.
    Repeated,
    /// ADVERTISE, REPLY or Relay-reply.
    NotARequest,
    UnknownMessageType,
    Reconfigure,
    LeaseQuery,
    /// Option 11.
    Authentication,
    NoClientId,
    NoServerId,
    /// A server identifier in a message to any server.
    ServerId,
    OtherServer,
    /// An identity association in an INFORMATION-REQUEST.
    Association,
    /// To us alone, and not even a status may be answered.
    Unicast,
    /// To us alone: answered by that status.
    UseMulticast,
    /// Through more agents than there may be.
    HopCount,
    /// A Relay-forward with nothing in it.
    NoRelayedMessage,
    /// The reply would not fit into a packet: the client, or agents, add too much to it.
    NoRoom,
    /// Answered: the client says that somebody else has its address.
    Declined,
    /// Answered: no address is left.
    Exhausted,
    /// Of a link that is not served.
    NoSubnet,
    /// There are no addresses: only INFORMATION-REQUESTs are answered.
    NothingToGive,
    /// More messages than one client, or all that are new, may send.
    TooMany,
    /// The reply could not be sent.
    Unsent,
}

impl Reason {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Repeated => "repeated",
            Self::NotARequest => "not_a_request",
            Self::UnknownMessageType => "unknown_message_type",
            Self::Reconfigure => "reconfigure",
            Self::LeaseQuery => "lease_query",
            Self::Authentication => "authentication",
            Self::NoClientId => "no_client_id",
            Self::NoServerId => "no_server_id",
            Self::ServerId => "server_id",
            Self::OtherServer => "other_server",
            Self::Association => "association",
            Self::Unicast => "unicast",
            Self::UseMulticast => "use_multicast",
            Self::HopCount => "hop_count",
            Self::NoRelayedMessage => "no_relayed_message",
            Self::NoRoom => "no_room",
            Self::Declined => "declined",
            Self::Exhausted => "exhausted",
            Self::NoSubnet => "no_subnet",
            Self::NothingToGive => "nothing_to_give",
            Self::TooMany => "too_many",
            Self::Unsent => "unsent",
        }
    }
}

/// The server core.
#[derive(Debug)]
pub struct Responder {
    settings: Settings,
    values: Values,
    places: Option<Places>,
    leases: Leases<Ipv6Addr>,
    limiter: Limiter,
    counts: BTreeMap<Reason, u64>,
    declined: Option<Ipv6Addr>,
}

impl Responder {
    /// Answers from these settings, without a lease so far.
    ///
    /// # Errors
    ///
    /// What RFC 8415 does not let a server say, or no packet has room for.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::with_leases(settings, Leases::new(0))
    }

    /// The same with the leases known so far. A pool's journal must be on disk before a reply leaves.
    ///
    /// # Errors
    ///
    /// As for [`Responder::new`].
    pub fn with_leases(settings: Settings, mut leases: Leases<Ipv6Addr>) -> Result<Self, Error> {
        settings::check(&settings)?;
        let values = parameters::encode(&settings.parameters);
        let longest = reply::longest(&settings, &values);
        if longest > reply::MAX_SETTINGS {
            return Err(Error::TooLong(longest));
        }
        let (places, limits) = match &settings.addresses {
            Addresses::OneGuest { .. } => (None, Limits::default()),
            Addresses::Pool(pool) => {
                let ranges = pool.subnets.iter().flat_map(|subnet| &subnet.ranges).copied();
                leases.divide(&ranges.collect::<Vec<_>>());
                (Some(Places::new(pool)), pool.limits)
            }
        };
        let (limiter, counts) = (Limiter::new(limits), BTreeMap::new());
        Ok(Self { settings, values, places, leases, limiter, counts, declined: None })
    }

    /// Other settings hold from now on.
    ///
    /// # Errors
    ///
    /// As for [`Responder::new`]: the old ones stay.
    pub fn change(&mut self, settings: Settings) -> Result<(), Error> {
        let Self { settings, values, places, .. } = Self::new(settings)?;
        (self.settings, self.values, self.places) = (settings, values, places);
        Ok(())
    }

    /// Answers one datagram that came to the server port. None: a CONFIRM that names no address, of which nothing can be
    /// said.
    pub fn answer(&mut self, now: Now, datagram: Datagram<'_>) -> Result<Option<Transmit>, Reason> {
        let answer = self.respond(now, datagram);
        if let Err(reason) = &answer {
            self.count(*reason);
        }
        answer
    }

    /// To take the journal, list, or compact.
    pub fn leases(&mut self) -> &mut Leases<Ipv6Addr> {
        &mut self.leases
    }

    /// The address that a client declined last.
    pub fn last_declined(&self) -> Option<Ipv6Addr> {
        self.declined
    }

    /// Since the start.
    pub fn counts(&self) -> &BTreeMap<Reason, u64> {
        &self.counts
    }

    /// Counts a datagram without an answer.
    pub fn count(&mut self, reason: Reason) {
        *self.counts.entry(reason).or_default() += 1;
    }

    fn respond(&mut self, now: Now, datagram: Datagram<'_>) -> Result<Option<Transmit>, Reason> {
        if datagram.payload.len() > LARGEST {
            return Err(Reason::TooLong);
        }
        let (relays, octets) = Relays::unwrap(datagram.payload)?;
        let message = Message::parse(octets)?;
        let to_us_alone = datagram.unicast && relays.is_empty();
        if to_us_alone && !may_be_told(message.kind) {
            return Err(Reason::Unicast);
        }
        let checked = message.check(&self.settings.server);
        if checked == Err(Reason::OtherServer) && message.kind == MessageType::Request {
            self.assign(now, &relays, &message, |assignment| {
                assignment.withdraw();
                Ok(None)
            })?;
        }
        checked?;
        let decision = if to_us_alone {
            Some(Decision::status(Status::UseMulticast))
        } else {
            self.decide(now, &relays, &message)?
        };
        let Some(decision) = decision else { return Ok(None) };
        let reply = reply::encode(&self.settings, &self.values, &message, &decision);
        let payload = relays.wrap(reply);
        if payload.len() > reply::MAX {
            return Err(Reason::NoRoom);
        }
        if to_us_alone {
            self.count(Reason::UseMulticast);
        } else if message.kind == MessageType::Decline {
            self.declined = decision.declined.last().copied();
            self.count(Reason::Declined);
        } else if decision.is_exhausted() {
            self.count(Reason::Exhausted);
        }
        Ok(Some(Transmit {
            destination: relays.destination(),
            payload,
            message: message.kind,
            kind: decision.kind,
            status: decision.status,
            client: message.client.and_then(Duid::new),
            addresses: addresses(&message, &decision),
            name: message.fqdn.and_then(fqdn::label).map(str::to_owned),
        }))
    }
}

impl Responder {
    fn decide<'a>(
        &mut self,
        now: Now,
        relays: &Relays,
        message: &'a Message<'a>,
    ) -> Result<Option<Decision<'a>>, Reason> {
        if let Addresses::OneGuest { current, previous } = &self.settings.addresses {
            return binding::decide((current, previous), self.settings.rapid_commit, message);
        }
        self.assign(now, relays, message, |assignment| {
            if message.kind == MessageType::InformationRequest {
                Ok(Some(Decision::new(MessageType::Reply)))
            } else {
                assignment.decide()
            }
        })
    }

    /// Lets a pool decide about the client, unless it says too much.
    fn assign<'a>(
        &mut self,
        now: Now,
        relays: &Relays,
        message: &'a Message<'a>,
        decide: impl FnOnce(&mut Assignment<'_, 'a>) -> Result<Option<Decision<'a>>, Reason>,
    ) -> Result<Option<Decision<'a>>, Reason> {
        let Addresses::Pool(pool) = &self.settings.addresses else { return Ok(None) };
        let Some(places) = &self.places else { return Ok(None) };
        let on = Places::subnet(pool, relays.link())?;
        let Some(client) = Client::new(message, relays.mac(), on) else {
            // Who does not say who it is has no address, and may ask all the same.
            return Ok(Some(Decision::new(MessageType::Reply)));
        };
        let (leases, rapid_commit) = (&mut self.leases, self.settings.rapid_commit);
        let mut assignment =
            Assignment { pool, places, leases, now, message, client: &client, rapid_commit };
        let (renews, hardware) = (assignment.renews(), client.hardware());
        if !self.limiter.admits(now.monotonic, hardware, &client.owner(), renews) {
            return Err(Reason::TooMany);
        }
        decide(&mut assignment)
    }
}

/// Messages that may come by unicast where a server allows it; of others not even that it does not is said (RFC 8415 §16).
fn may_be_told(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline
    )
}

fn addresses(message: &Message, decision: &Decision) -> Vec<Ipv6Addr> {
    match message.kind {
        MessageType::Release | MessageType::Decline if decision.status == Some(Status::Success) => {
            message.associations.iter().flat_map(|it| &it.addresses).copied().collect()
        }
        _ => decision.given().collect(),
    }
}
