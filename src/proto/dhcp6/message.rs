//! A client's message as it came: its header (RFC 8415 §8) and the options that matter here, borrowed from the datagram.

use std::net::Ipv6Addr;

use dhcproto::v6::{MessageType, OptionCode};

use super::wire::{self, IA, IA_ADDRESS, IA_TEMPORARY, Item};
use super::{Duid, Reason};

/// Type and transaction.
const HEAD: usize = 4;

/// One that makes sense so far.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub kind: MessageType,
    pub transaction: [u8; 3],
    pub client: Option<&'a [u8]>,
    pub server: Option<&'a [u8]>,
    pub associations: Vec<Association>,
    /// Codes of options, in the order they are asked for.
    pub requested: Vec<OptionCode>,
    pub rapid_commit: bool,
    pub fqdn: Option<&'a [u8]>,
}

/// An identity association (RFC 8415 §12), and the addresses that the client names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Association {
    pub kind: Kind,
    pub id: [u8; 4],
    pub addresses: Vec<Ipv6Addr>,
    /// For how long the client would like them, seconds; 0: it does not say.
    pub valid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `IA_NA`.
    Lasting,
    /// `IA_TA`.
    Temporary,
    /// `IA_PD`.
    Prefixes,
}

impl<'a> Message<'a> {
    /// The addresses that a CONFIRM asks about. Prefixes are not what it is for (RFC 8415 §18.3.3).
    pub fn named(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.associations
            .iter()
            .filter(|association| association.kind != Kind::Prefixes)
            .flat_map(|association| &association.addresses)
            .copied()
    }

    /// Reads a message to its end; the reason why not.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Reason> {
        let (&[kind, a, b, c], options) =
            octets.split_first_chunk::<HEAD>().ok_or(Reason::Truncated)?;
        let kind = MessageType::from(kind);
        served(kind)?;
        let options = wire::read(options)?;
        let value =
            |code| options.iter().find(|(found, _)| *found == code).map(|(_, value)| *value);
        if value(OptionCode::Authentication).is_some() {
            return Err(Reason::Authentication);
        }
        let requested = value(OptionCode::ORO).unwrap_or_default().as_chunks().0;
        Ok(Self {
            kind,
            transaction: [a, b, c],
            client: value(OptionCode::ClientId),
            server: value(OptionCode::ServerId),
            associations: options
                .iter()
                .filter_map(|item| Association::parse(*item).transpose())
                .collect::<Result<_, _>>()?,
            requested: requested
                .iter()
                .map(|code| OptionCode::from(u16::from_be_bytes(*code)))
                .collect(),
            rapid_commit: value(OptionCode::RapidCommit).is_some(),
            fqdn: value(OptionCode::ClientFqdn),
        })
    }

    /// What a message of its type must have, and what it must not (RFC 8415 §16.2 to §16.12).
    pub fn check(&self, ours: &Duid) -> Result<(), Reason> {
        let informs = self.kind == MessageType::InformationRequest;
        if self.client.is_none() && !informs {
            return Err(Reason::NoClientId);
        }
        let to_any =
            matches!(self.kind, MessageType::Solicit | MessageType::Confirm | MessageType::Rebind);
        match self.server {
            Some(_) if to_any => Err(Reason::ServerId),
            Some(server) if server != ours.octets() => Err(Reason::OtherServer),
            None if !to_any && !informs => Err(Reason::NoServerId),
            _ if informs && !self.associations.is_empty() => Err(Reason::Association),
            _ => Ok(()),
        }
    }
}

/// Types that clients send to servers (RFC 8415 §7.3).
fn served(kind: MessageType) -> Result<(), Reason> {
    match kind {
        MessageType::Solicit
        | MessageType::Request
        | MessageType::Confirm
        | MessageType::Renew
        | MessageType::Rebind
        | MessageType::Release
        | MessageType::Decline
        | MessageType::InformationRequest => Ok(()),
        MessageType::Advertise | MessageType::Reply | MessageType::RelayRepl => {
            Err(Reason::NotARequest)
        }
        MessageType::Reconfigure
        | MessageType::ReconfigureRequest
        | MessageType::ReconfigureReply => Err(Reason::Reconfigure),
        MessageType::LeaseQuery
        | MessageType::LeaseQueryReply
        | MessageType::LeaseQueryDone
        | MessageType::LeaseQueryData => Err(Reason::LeaseQuery),
        _ => Err(Reason::UnknownMessageType),
    }
}

impl Association {
    /// None: an option of another kind.
    fn parse((code, value): Item<'_>) -> Result<Option<Self>, Reason> {
        let (kind, head) = match code {
            OptionCode::IANA => (Kind::Lasting, IA),
            OptionCode::IATA => (Kind::Temporary, IA_TEMPORARY),
            OptionCode::IAPD => (Kind::Prefixes, IA),
            _ => return Ok(None),
        };
        let id = *value.first_chunk().ok_or(Reason::Malformed)?;
        let (mut addresses, mut valid) = (Vec::new(), 0);
        for (code, value) in wire::read(value.get(head..).unwrap_or_default())? {
            match code {
                OptionCode::IAAddr => {
                    addresses.extend(address(value)?);
                    valid = valid.max(lifetime(value));
                }
                OptionCode::IAPrefix => nested(value, wire::IA_PREFIX)?,
                _ => {}
            }
        }
        Ok(Some(Self { kind, id, addresses, valid }))
    }
}

/// None: the unspecified one, which asks for none in particular.
fn address(value: &[u8]) -> Result<Option<Ipv6Addr>, Reason> {
    nested(value, IA_ADDRESS)?;
    let octets: [u8; 16] = *value.first_chunk().ok_or(Reason::Malformed)?;
    Ok(Some(Ipv6Addr::from(octets)).filter(|address| !address.is_unspecified()))
}

/// Its valid lifetime (RFC 8415 §21.6).
fn lifetime(value: &[u8]) -> u32 {
    value
        .get(20..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |octets| u32::from_be_bytes(*octets))
}

/// Options within are right as well.
fn nested(value: &[u8], head: usize) -> Result<(), Reason> {
    wire::read(value.get(head..).unwrap_or_default()).map(|_| ())
}
