//! What matches tell about the protocols of a packet, and which of them go without saying.

use super::super::Family;
use super::super::expr::base;
use super::super::names::header::{self, Header};
use super::field::{Field, Source};
use super::rebuild::{INSIDE, Rebuild};
use super::{Statement, Value};

/// Bits of an Ethernet header; a VLAN tag's worth follows for each tag.
const ETHER_BITS: u32 = 112;
const TAG_BITS: u32 = 32;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl<'a> Rebuild<'a> {
    /// The header at a bit of a layer, and its own first bit.
    pub(super) fn header_at(&self, layer: u32, offset: u32) -> Option<(&'static Header, u32)> {
        match layer {
            base::LINK => self.link.iter().rev().find(|(_, start)| *start <= offset).copied(),
            base::NETWORK => self.network.map(|header| (header, 0)),
            base::TRANSPORT => self.transport.map(|header| (header, 0)),
            _ => None,
        }
    }

    /// A match said which protocol is above a layer.
    pub(super) fn told(&mut self, layer: u32, number: u128) {
        match layer {
            // What nft calls the link's type.
            LINK_TYPE => {
                if number == 1 {
                    self.link = vec![(&header::ETHER, 0)];
                }
                self.remember(base::LINK);
            }
            base::LINK => {
                let above = u16::try_from(number).ok().and_then(Header::network);
                if above.is_some_and(|header| header.name == "vlan") {
                    let tags = self.link.iter().filter(|(header, _)| header.name == "vlan").count();
                    let tags = u32::try_from(tags).unwrap_or(0);
                    self.link.push((&header::VLAN, ETHER_BITS + TAG_BITS * tags));
                    self.remember(base::LINK);
                } else {
                    self.network = above;
                    self.remember(base::NETWORK);
                }
            }
            // A table of one family knows better.
            FLOW_FAMILY if !self.is_wide() => {}
            FAMILY | FLOW_FAMILY => {
                self.network = match number {
                    2 => Some(&header::IP),
                    10 => Some(&header::IP6),
                    _ => None,
                };
                // Of the flow it is a match of its own.
                if layer == FAMILY {
                    self.remember(base::NETWORK);
                }
            }
            _ => {
                let protocol = u8::try_from(number).unwrap_or(0);
                if layer == ABOVE_NETWORK && self.implied_by(protocol) {
                    self.drop_pending(base::NETWORK);
                }
                self.transport = Header::transport(protocol);
                self.remember(base::TRANSPORT);
            }
        }
    }

    /// That it is an echo, either way, tells what an ICMP header is.
    pub(super) fn told_echo(&mut self, field: &Field<'a>, set: &super::super::Set) {
        let Source::Header { header, field } = &field.source else { return };
        let echo = match (header.name, field.name) {
            ("icmp", "type") => header::ECHO,
            ("icmpv6", "type") => header::ECHO6,
            _ => return,
        };
        if set
            .elements
            .iter()
            .all(|element| matches!(element.key.as_slice(), [kind] if echo.contains(kind)))
        {
            self.icmp = echo.first().copied();
        }
    }

    /// ICMP is in IPv4 only, ICMPv6 in IPv6 only: the match on the network's protocol says nothing more.
    fn implied_by(&self, protocol: u8) -> bool {
        let needed = match protocol {
            _ if self.table.family == Family::IP => "ip",
            _ if self.table.family == Family::IP6 => "ip6",
            _ if !self.is_wide() => return true,
            ICMP => "ip",
            ICMPV6 => "ip6",
            _ => return false,
        };
        self.network.is_none_or(|header| header.name == needed)
    }

    /// Whether tables of the family see several network protocols.
    fn is_wide(&self) -> bool {
        matches!(self.table.family, Family::INET | Family::BRIDGE | Family::NETDEV)
    }

    pub(super) fn remember(&mut self, layer: u32) {
        let at = self.statements.len().checked_sub(1);
        if let Some(pending) =
            usize::try_from(layer).ok().and_then(|layer| self.pending.get_mut(layer))
        {
            *pending = at;
        }
    }

    fn drop_pending(&mut self, layer: u32) {
        let Some(pending) =
            usize::try_from(layer).ok().and_then(|layer| self.pending.get_mut(layer))
        else {
            return;
        };
        let Some(at) = pending.take() else { return };
        if let Some(statement) = self.statements.get_mut(at).and_then(Option::take) {
            self.dropped = (layer == base::TRANSPORT).then_some((at, statement));
        }
    }

    /// A mapping of ports wants the transport protocol said in so many words.
    pub(super) fn keep_transport(&mut self) {
        if let Some((at, statement)) = self.dropped.take()
            && let Some(place) = self.statements.get_mut(at)
        {
            *place = Some(statement);
        }
    }

    fn pending_at(&self, layer: u32) -> Option<&Statement<'a>> {
        let at = (*self.pending.get(usize::try_from(layer).ok()?)?)?;
        self.statements.get(at)?.as_ref()
    }

    /// A field of a layer was used: a match that only told the layer's protocol goes.
    pub(super) fn used(&mut self, layer: u32, field: &Value<'a>) {
        if let Value::Field(Field { source: Source::Header { header, field }, .. }) = field
            && let [kind] = canonical_type(header, field)
            && self.icmp == Some(*kind)
        {
            self.drop_pending(INSIDE);
        }
        if !(self.is_wide() && self.restricts(layer, field)) {
            self.drop_pending(layer);
        }
    }

    /// Whether the match that is pending says more than the field does, where the family says nothing: `ip protocol`
    /// that it is IPv4, the type of the link's payload that there is a tag. That a tag is an 802.1Q one goes without
    /// saying when its own bits are looked at.
    fn restricts(&self, layer: u32, field: &Value<'a>) -> bool {
        let Some(Statement::Match { left: Value::Field(dependency), right, .. }) =
            self.pending_at(layer)
        else {
            return false;
        };
        let Source::Header { header: told, .. } = &dependency.source else { return false };
        match layer {
            base::TRANSPORT => ["ip", "ip6"].contains(&told.name),
            base::LINK => {
                let tag = matches!(field, Value::Field(Field { source: Source::Header { header, field }, .. })
                    if header.name == "vlan" && field.name != "type");
                let usual = matches!(right, Value::Constant(value) if value.number == 0x8100);
                !(tag && usual && told.name == "ether")
            }
            _ => false,
        }
    }
}

/// Beyond the layers: what tells of the link, of the network's family, of the protocol above the network.
const LINK_TYPE: u32 = 16;
const FAMILY: u32 = 17;
const ABOVE_NETWORK: u32 = 18;
/// The network's family as conntrack has it.
const FLOW_FAMILY: u32 = 19;

/// The layer whose protocol a field tells.
pub(super) fn protocol_of(field: &Field<'_>, family: Family) -> Option<u32> {
    match &field.source {
        Source::Meta { name: "protocol", .. }
            if !matches!(family, Family::BRIDGE | Family::NETDEV) =>
        {
            None
        }
        Source::Meta { name: "iiftype", .. } => Some(LINK_TYPE),
        Source::Meta { name: "nfproto", .. } => Some(FAMILY),
        Source::Ct { name: "l3proto", .. } => Some(FLOW_FAMILY),
        Source::Meta { name: "protocol", .. } => Some(base::LINK),
        Source::Meta { name: "l4proto", .. } => Some(ABOVE_NETWORK),
        Source::Header { header, field } if header.upper == Some(field.name) => match header.name {
            "ether" | "vlan" => Some(base::LINK),
            _ => Some(base::NETWORK),
        },
        _ => None,
    }
}

/// The ICMP type that nft asks for by itself for a field of one kind of message.
fn canonical_type(header: &Header, field: &header::Field) -> &'static [u8] {
    match (header.name, field.name) {
        ("icmp", "gateway" | "mtu") | ("icmpv6", "parameter-problem" | "mtu") => field.only,
        ("icmpv6", "max-delay") => &[130],
        _ => &[],
    }
}
