//! A reply's bytes: who it is for and from, what was decided, then what was asked for in its order.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use dhcproto::v6::{MessageType, OptionCode, Status};

use super::binding::{Content, Decision};
use super::message::{Association, Kind, Message};
use super::parameters::Values;
use super::pool::MAX_HELD;
use super::wire::{self, write};
use super::{Addresses, Lifetimes, Settings, duid, fqdn};

/// Octets of UDP payload that any link carries (RFC 8200 §5), less the IPv6 and UDP headers.
pub(super) const MAX: usize = 1280 - 48;
/// Of these the settings may take so many; identity associations that are refused, addresses that have ended, and agents
/// on the way have the rest.
pub(super) const MAX_SETTINGS: usize = MAX - 256;
/// Code and length of an option.
const OPTION: usize = 4;
/// Type and transaction, then a preference, or rapid commit.
const HEAD: usize = 4 + OPTION + 1;
/// Flags and a name.
const FQDN: usize = 256;

/// The reply to a message, without its agents.
pub(super) fn encode(
    settings: &Settings,
    values: &Values,
    message: &Message,
    decision: &Decision,
) -> Vec<u8> {
    let mut out = vec![u8::from(decision.kind)];
    out.extend(message.transaction);
    if let Some(client) = message.client {
        write(&mut out, OptionCode::ClientId, client);
    }
    write(&mut out, OptionCode::ServerId, settings.server.octets());
    if let Some(preference) =
        settings.preference.filter(|_| decision.kind == MessageType::Advertise)
    {
        write(&mut out, OptionCode::Preference, &[preference]);
    }
    if let Some(status) = decision.status {
        write_status(&mut out, status);
    }
    if decision.rapid_commit {
        write(&mut out, OptionCode::RapidCommit, &[]);
    }
    let lifetimes = decision.lifetimes.unwrap_or(settings.lifetimes);
    for (association, content) in &decision.associations {
        write_association(&mut out, association, content, lifetimes);
    }
    if decision.parameters {
        write_requested(&mut out, settings, values, message, decision.kind);
    }
    out
}

/// The most octets that these settings take in a reply.
pub(super) fn longest(settings: &Settings, values: &Values) -> usize {
    let (associations, addresses) = match &settings.addresses {
        Addresses::OneGuest { current, previous } => (1, current.len() + previous.len()),
        Addresses::Pool(_) => (MAX_HELD, MAX_HELD),
    };
    let associations = associations * (OPTION + wire::IA) + addresses * (OPTION + wire::IA_ADDRESS);
    let ids = 2 * OPTION + duid::LENGTHS.end() + settings.server.octets().len();
    let parameters: usize = values.values().map(Vec::len).sum();
    HEAD + ids + associations + parameters + OPTION + FQDN
}

/// RFC 8415 §21.13. The words are for a person who reads the client's log.
fn write_status(out: &mut Vec<u8>, status: Status) {
    let words = match status {
        Status::NoAddrsAvail => "no more addresses",
        Status::NoPrefixAvail => "no prefixes here",
        Status::NoBinding => "not known here",
        Status::NotOnLink => "not an address of this link",
        Status::UseMulticast => "ask by multicast",
        _ => "",
    };
    let value = [&u16::from(status).to_be_bytes(), words.as_bytes()].concat();
    write(out, OptionCode::StatusCode, &value);
}

fn write_association(
    out: &mut Vec<u8>,
    association: &Association,
    content: &Content,
    lifetimes: Lifetimes,
) {
    let code = match association.kind {
        Kind::Lasting => OptionCode::IANA,
        Kind::Temporary => OptionCode::IATA,
        Kind::Prefixes => OptionCode::IAPD,
    };
    let mut value = association.id.to_vec();
    let (t1, t2) = match content {
        Content::Lease { given, .. } if !given.is_empty() => (lifetimes.t1, lifetimes.t2),
        Content::Lease { .. } | Content::Refused(_) => (0, 0),
    };
    if association.kind != Kind::Temporary {
        value.extend(t1.to_be_bytes());
        value.extend(t2.to_be_bytes());
    }
    match content {
        Content::Lease { given, ended } => {
            for address in given {
                write_address(&mut value, *address, lifetimes.preferred, lifetimes.valid);
            }
            for address in ended {
                write_address(&mut value, *address, 0, 0);
            }
        }
        Content::Refused(status) => write_status(&mut value, *status),
    }
    write(out, code, &value);
}

/// RFC 8415 §21.6.
fn write_address(out: &mut Vec<u8>, address: Ipv6Addr, preferred: u32, valid: u32) {
    let mut value = address.octets().to_vec();
    value.extend(preferred.to_be_bytes());
    value.extend(valid.to_be_bytes());
    write(out, OptionCode::IAAddr, &value);
}

/// Each option once, and only in messages that may have it (RFC 8415 appendix B).
fn write_requested(
    out: &mut Vec<u8>,
    settings: &Settings,
    values: &Values,
    message: &Message,
    kind: MessageType,
) {
    let parameters = &settings.parameters;
    let mut said = BTreeSet::new();
    for code in &message.requested {
        let may = match code {
            OptionCode::InformationRefreshTime => message.kind == MessageType::InformationRequest,
            OptionCode::InfMaxRt => kind == MessageType::Reply,
            _ => true,
        };
        if !may || !said.insert(u16::from(*code)) {
            continue;
        }
        if let Some(option) = message.fqdn.filter(|_| *code == OptionCode::ClientFqdn) {
            let domain = parameters.domain.as_ref().or(parameters.search.first());
            write(out, *code, &fqdn::reply(option, domain));
        }
        if let Some(options) = values.get(&u16::from(*code)) {
            out.extend(options);
        }
    }
}
