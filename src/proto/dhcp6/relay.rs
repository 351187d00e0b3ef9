//! Relay agents (RFC 8415 §19): what they wrapped a message in, and the reply wrapped for them again.
//!
//! ```text
//! Relay-forward(outer, Relay-forward(inner, message)) ──► Relay-reply(outer, Relay-reply(inner, reply))
//! ```

use std::net::Ipv6Addr;

use dhcproto::v6::{MessageType, OptionCode};

use super::{Destination, Reason, wire};
use crate::net::MacAddr;

/// `HOP_COUNT_LIMIT` (RFC 8415 §7.6): the outermost one counts so many before it.
const HOP_COUNT_LIMIT: usize = 8;
/// Hop count, link address and peer address, behind the type (§9).
const HEAD: usize = 33;
/// What the agent gets back as it sent it (RFC 8415 §21.18, RFC 8357).
const ECHOED: [OptionCode; 2] = [OptionCode::InterfaceId, OptionCode::RelayPort];

/// The client's link-layer address: a hardware type, and octets of it (RFC 6939).
const LINK_LAYER: OptionCode = OptionCode::ClientLinklayerAddr;
/// Hardware type (RFC 8415 §11.2).
const ETHERNET: u8 = 1;

/// The agents that a message came through, the last one first.
#[derive(Debug)]
pub(super) struct Relays<'a>(Vec<Relay<'a>>);

#[derive(Debug)]
struct Relay<'a> {
    head: &'a [u8; HEAD],
    options: Vec<wire::Item<'a>>,
}

impl<'a> Relays<'a> {
    /// The agents, and the message of the client in the midst of it all.
    pub fn unwrap(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), Reason> {
        let mut relays = Vec::new();
        let mut inner = datagram;
        while let Some((&kind, rest)) = inner.split_first()
            && MessageType::from(kind) == MessageType::RelayForw
        {
            if relays.len() > HOP_COUNT_LIMIT {
                return Err(Reason::HopCount);
            }
            let (head, options) = rest.split_first_chunk().ok_or(Reason::Truncated)?;
            let options = wire::read(options)?;
            let message = options.iter().find(|(code, _)| *code == OptionCode::RelayMsg);
            (_, inner) = *message.ok_or(Reason::NoRelayedMessage)?;
            relays.push(Relay { head, options });
        }
        Ok((Self(relays), inner))
    }

    /// RFC 8415 §19.3.
    pub fn wrap(&self, reply: Vec<u8>) -> Vec<u8> {
        self.0.iter().rev().fold(reply, |inner, relay| {
            let mut outer = vec![u8::from(MessageType::RelayRepl)];
            outer.extend(relay.head);
            for (code, value) in relay.options.iter().filter(|(code, _)| ECHOED.contains(code)) {
                wire::write(&mut outer, *code, value);
            }
            wire::write(&mut outer, OptionCode::RelayMsg, &inner);
            outer
        })
    }

    /// Where the reply goes.
    pub fn destination(&self) -> Destination {
        let Some(last) = self.0.first() else { return Destination::Client };
        if last.options.iter().any(|(code, _)| *code == OptionCode::RelayPort) {
            Destination::RelaySource
        } else {
            Destination::Relay
        }
    }

    /// An address of the client's link, by the agent next to the client that knows one: others only pass on what comes by
    /// a link (RFC 8415 §13.1, RFC 6221). None: it is ours.
    pub fn link(&self) -> Option<Ipv6Addr> {
        let links = self.0.iter().rev().filter_map(|relay| {
            let octets: [u8; 16] = *relay.head.get(1..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets))
        });
        links.into_iter().find(|link| !link.is_unspecified())
    }

    /// The client's MAC, as the agent next to it says (RFC 6939).
    pub fn mac(&self) -> Option<MacAddr> {
        let (_, value) = self.0.last()?.options.iter().find(|(code, _)| *code == LINK_LAYER)?;
        let mac = value.strip_prefix(&[0, ETHERNET])?.try_into().ok()?;
        Some(MacAddr(mac))
    }

    /// The client itself sent it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
