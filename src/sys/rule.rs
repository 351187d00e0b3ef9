//! Rules of policy routing over rtnetlink (ip-rule(8), linux/fib_rules.h). Ours bear a protocol number of their own
//! (`FRA_PROTOCOL`, Linux 4.17), so that a later start knows them again; nobody else's are touched.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage};
use rtnetlink::IpVersion;

use super::link::{Error, Links, errno};
use crate::facts::RoutingRule;
use crate::net::Ipv4Prefix;

/// Of those that linux/rtnetlink.h gives to nobody.
const OURS: u8 = 190;
/// The rules of every namespace: priority and table of `local`, `main` and `default`.
const EVERYWHERE: [(u32, u32); 3] = [(0, 255), (32_766, 254), (32_767, 253)];
const HEADER_LEN: usize = 12;
const FR_ACT_TO_TBL: u8 = 1;

impl Links {
    /// The pod's own rules, but those that are everywhere.
    pub async fn rules(&self) -> Result<Vec<RoutingRule>, Error> {
        let found = self.every_rule().await?;
        let foreign = found.iter().filter(|message| !is_ours(message)).map(read);
        Ok(foreign.filter(|rule| !is_everywhere(rule)).collect())
    }

    /// Ours are these: the missing are made, the others removed.
    pub(crate) async fn ensure_rules(&self, wanted: &[RoutingRule]) -> Result<(), Error> {
        let found: Vec<RuleMessage> =
            self.every_rule().await?.into_iter().filter(is_ours).collect();
        for rule in wanted {
            if found.iter().any(|message| read(message) == *rule) {
                continue;
            }
            let mut request = self.handle().rule().add().v4();
            *request.message_mut() = write(rule)?;
            match request.execute().await {
                Ok(()) => self.changed(),
                // Somebody else has made the same.
                Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {
                }
                Err(error) => return Err(failed("adding", rule, error)),
            }
        }
        for message in found {
            let rule = read(&message);
            if !wanted.contains(&rule) {
                match self.handle().rule().del(message).execute().await {
                    Ok(()) => self.changed(),
                    // Somebody else has removed it.
                    Err(rtnetlink::Error::NetlinkError(error))
                        if error.raw_code() == -libc::ENOENT => {}
                    Err(error) => return Err(failed("removing", &rule, error)),
                }
            }
        }
        Ok(())
    }

    async fn every_rule(&self) -> Result<Vec<RuleMessage>, Error> {
        match self.handle().rule().get(IpVersion::V4).execute().try_collect().await {
            Ok(found) => Ok(found),
            // A kernel without policy routing has no rules.
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EOPNOTSUPP => {
                Ok(Vec::new())
            }
            Err(error) => Err(Error::Step {
                link: "the ip rules".to_owned(),
                step: "listing them",
                source: errno(error),
            }),
        }
    }
}

fn failed(step: &'static str, rule: &RoutingRule, error: rtnetlink::Error) -> Error {
    Error::Step { link: format!("ip rule `{rule}`"), step, source: errno(error) }
}

fn is_ours(message: &RuleMessage) -> bool {
    message.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::from(OURS)))
}

fn is_everywhere(rule: &RoutingRule) -> bool {
    let plain = |(priority, table)| RoutingRule {
        priority,
        table,
        action: FR_ACT_TO_TBL,
        ..RoutingRule::default()
    };
    EVERYWHERE.into_iter().any(|known| *rule == plain(known))
}

/// What the kernel's message says.
pub fn read(message: &RuleMessage) -> RoutingRule {
    let header = &message.header;
    let mut rule = RoutingRule {
        table: header.table.into(),
        inverted: header.flags.contains(RuleFlags::Invert),
        action: header.action.into(),
        tos: header.tos,
        ..RoutingRule::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Source(IpAddr::V4(address)) => {
                rule.from = Ipv4Prefix::new(*address, header.src_len);
            }
            RuleAttribute::Destination(IpAddr::V4(address)) => {
                rule.to = Ipv4Prefix::new(*address, header.dst_len);
            }
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.oif = Some(name.clone()),
            // What a rule has without being asked to.
            RuleAttribute::Protocol(_)
            | RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            other => {
                match other {
                    // Mark 0 is that of all packets that have none.
                    RuleAttribute::FwMark(mark) => {
                        rule.mark = Some(*mark).filter(|&mark| mark != 0);
                    }
                    RuleAttribute::UidRange(_) => rule.uids = true,
                    _ => {}
                }
                rule.rest.extend(octets(other));
            }
        }
    }
    rule
}

fn octets(attribute: &RuleAttribute) -> Vec<u8> {
    let attributes = std::slice::from_ref(attribute);
    let mut octets = vec![0; attributes.buffer_len()];
    attributes.emit(&mut octets);
    octets
}

/// The message that makes the rule one of ours.
pub fn write(rule: &RoutingRule) -> Result<RuleMessage, Error> {
    let mut header = RuleHeader {
        family: AddressFamily::Inet,
        dst_len: rule.to.map_or(0, |to| to.length),
        src_len: rule.from.map_or(0, |from| from.length),
        tos: rule.tos,
        table: u8::try_from(rule.table).unwrap_or(0),
        action: RuleAction::from(rule.action),
        ..RuleHeader::default()
    };
    header.flags.set(RuleFlags::Invert, rule.inverted);
    let mut raw = vec![0; HEADER_LEN];
    header.emit(&mut raw);
    raw.extend(&rule.rest);
    let mut message = RuleMessage::parse(raw.as_slice()).map_err(|error| Error::Step {
        link: format!("ip rule `{rule}`"),
        step: "writing it",
        source: io::Error::other(error.to_string()),
    })?;
    message.attributes.extend([
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::from(OURS)),
    ]);
    message.attributes.extend(rule.from.map(|from| RuleAttribute::Source(from.address.into())));
    message.attributes.extend(rule.to.map(|to| RuleAttribute::Destination(to.address.into())));
    message.attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    message.attributes.extend(rule.oif.clone().map(RuleAttribute::Oifname));
    Ok(message)
}
