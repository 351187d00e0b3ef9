//! Connection tracking entries over netlink (linux/netfilter/nfnetlink_conntrack.h).
//!
//! Of IPv6 all are looked at: the kernel's address filter is inverted there and names the wrong flows.

use std::net::{IpAddr, Ipv4Addr};

use super::attr::{Attributes, Header, Message, Writer, array};
use crate::net::{Mapping, Port};

/// NFNL_SUBSYS_CTNETLINK.
const SUBSYSTEM: u16 = 1;
const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x301;
/// Attributes of an entry.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// CTA_TUPLE_IP and _PROTO, CTA_PROTO_NUM and _DST_PORT.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
/// CTA_FILTER_ORIG_FLAGS and _REPLY_FLAGS.
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
/// CTA_IP_V4_SRC and _DST; of IPv6 two more.
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
/// CTA_FILTER flags, in host order: compare the source, the destination address.
const FILTER_SOURCE: u32 = 1;
const FILTER_DESTINATION: u32 = 2;

/// An entry that should have been translated and was not: nobody will before it is gone (a connection meets the nat
/// chains once).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The entry's own attributes, for its deletion.
    original: Vec<u8>,
    family: u8,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
    /// IANA protocol number, and the port at the pod.
    pub protocol: u8,
    /// In host order.
    pub port: u16,
}

/// Asks for the entries that came to `pod` and are answered from it.
pub(crate) fn inbound_request(pod: Ipv4Addr, sequence: u32) -> Vec<u8> {
    filtered_request((FILTER_DESTINATION, FILTER_SOURCE), pod, sequence)
}

/// Asks for the entries that came from `guest` and are answered to it.
pub(crate) fn outbound_request(guest: Ipv4Addr, sequence: u32) -> Vec<u8> {
    filtered_request((FILTER_SOURCE, FILTER_DESTINATION), guest, sequence)
}

/// The entries that have `address` at this place of the original direction, and at that of the reply.
fn filtered_request((original, reply): (u32, u32), address: Ipv4Addr, sequence: u32) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.message(header(GET, DUMP, sequence, AF_INET), |w| {
        for (tuple, place) in [(TUPLE_ORIG, original), (TUPLE_REPLY, reply)] {
            let kind = if place == FILTER_SOURCE { SOURCE } else { DESTINATION };
            w.nest(tuple, |w| w.nest(TUPLE_IP, |w| w.bytes(kind, &address.octets())));
        }
        w.nest(FILTER, |w| {
            w.bytes(FILTER_ORIG_FLAGS, &original.to_ne_bytes());
            w.bytes(FILTER_REPLY_FLAGS, &reply.to_ne_bytes());
        });
    });
    writer.into_bytes()
}

/// The entry in an answer, when its first packet came to the pod and the pod answers, though not at a reserved
/// port; or came from the guest and is answered to the guest's own address, though not by its gateway. (Older kernels
/// filter nothing.)
pub fn stale(message: &Message<'_>, mapping: &Mapping) -> Option<Stale> {
    let (original, reply) = tuples(message)?;
    let address = |tuple, kind| address(message.family(), tuple, kind);
    let (from, to) = (address(original, SOURCE)?, address(original, DESTINATION)?);
    let (guest, gateway) = mapping.beside(to)?;
    let found = Stale::of(message, original);
    let kept = |port: &Port| (port.transport.number(), port.number) == (found.protocol, found.port);
    let stale = if mapping.addresses().any(|pod| pod == to) {
        address(reply, SOURCE)? == to && !mapping.reserved.iter().any(kept)
    } else {
        from == guest && address(reply, DESTINATION)? == from && to != gateway
    };
    stale.then_some(found)
}

/// Asks for every entry, of IPv6 or IPv4.
pub(crate) fn all_request(is_six: bool, sequence: u32) -> Vec<u8> {
    let mut writer = Writer::new();
    let family = if is_six { AF_INET6 } else { AF_INET };
    writer.message(header(GET, DUMP, sequence, family), |_| {});
    writer.into_bytes()
}

/// The entry in an answer, when it came to one of the addresses, or is answered at one: what was mapped from it or
/// onto it.
pub fn translated(message: &Message<'_>, addresses: &[IpAddr]) -> Option<Stale> {
    let (original, reply) = tuples(message)?;
    let address = |tuple, kind| address(message.family(), tuple, kind);
    let concerned = addresses.contains(&address(original, DESTINATION)?)
        || addresses.contains(&address(reply, DESTINATION)?);
    concerned.then(|| Stale::of(message, original))
}

/// Both directions of an entry; None when the message has none.
fn tuples<'a>(message: &Message<'a>) -> Option<(Attributes<'a>, Attributes<'a>)> {
    let is_entry =
        message.kind == SUBSYSTEM << 8 | NEW && [AF_INET, AF_INET6].contains(&message.family());
    let attributes = message.attributes();
    is_entry.then_some((attributes.nest(TUPLE_ORIG)?, attributes.nest(TUPLE_REPLY)?))
}

impl Stale {
    fn of(message: &Message<'_>, original: Attributes<'_>) -> Self {
        let attributes = message.attributes();
        Self {
            family: message.family(),
            original: original.0.to_vec(),
            id: attributes.value(ID).map(<[u8]>::to_vec),
            zone: attributes.value(ZONE).map(<[u8]>::to_vec),
            protocol: original.nest(TUPLE_PROTO).and_then(|ports| ports.u8(PROTO_NUM)).unwrap_or(0),
            port: original
                .nest(TUPLE_PROTO)
                .and_then(|ports| ports.u16(PROTO_DST_PORT))
                .unwrap_or(0),
        }
    }

    /// The message that deletes the entry; answered with ENOENT when it is gone already.
    pub fn delete_request(&self, sequence: u32) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.message(header(DELETE, REQUEST | ACK, sequence, self.family), |w| {
            w.nest(TUPLE_ORIG, |w| w.raw(&self.original));
            if let Some(id) = &self.id {
                w.bytes(ID, id);
            }
            if let Some(zone) = &self.zone {
                w.bytes(ZONE, zone);
            }
        });
        writer.into_bytes()
    }
}

/// nfgenmsg version 1: with 0 a deletion ignores the family.
fn header(kind: u16, flags: u16, sequence: u32, family: u8) -> Header {
    Header { kind: SUBSYSTEM << 8 | kind, flags, sequence, family, version: 1, resource: 0 }
}

fn address(family: u8, tuple: Attributes<'_>, kind: u16) -> Option<IpAddr> {
    let ip = tuple.nest(TUPLE_IP)?;
    if family == AF_INET6 {
        return Some(array::<16>(ip.value(kind + 2)?, 0)?.into());
    }
    Some(array::<4>(ip.value(kind)?, 0)?.into())
}

#[cfg(test)]
mod tests {
    use super::super::attr::Messages;
    use super::*;
    use crate::net::Transport;

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
    const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
    const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 2);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 1);

    /// From the first to the second, at this port; answered from the third to the fourth.
    fn entry<A: Into<IpAddr> + Copy>(ends: [A; 4], port: u16) -> Vec<u8> {
        let [from, to, back_from, back_to] = ends.map(Into::into);
        let end = |w: &mut Writer, kind, address| match address {
            IpAddr::V4(address) => w.bytes(kind, &address.octets()),
            IpAddr::V6(address) => w.bytes(kind + 2, &address.octets()),
        };
        let tuple = |w: &mut Writer, source: IpAddr, destination: IpAddr| {
            w.nest(1, |w| {
                end(w, SOURCE, source);
                end(w, DESTINATION, destination);
            });
            w.nest(2, |w| {
                w.u8(1, 6);
                w.u16(2, 40_000);
                w.u16(3, port);
            });
        };
        let mut writer = Writer::new();
        let family = if from.is_ipv6() { AF_INET6 } else { AF_INET };
        writer.message(header(NEW, 0, 7, family), |w| {
            w.nest(TUPLE_ORIG, |w| tuple(w, from, to));
            w.nest(TUPLE_REPLY, |w| tuple(w, back_from, back_to));
            w.u32(ID, 77);
        });
        writer.into_bytes()
    }

    #[test]
    fn what_nobody_translated_is_stale() {
        let vnc = Port { transport: Transport::Tcp, number: 5900 };
        let mapping = Mapping {
            pod: vec![POD],
            guest: GUEST,
            gateway: GATEWAY,
            reserved: vec![vnc],
            six: None,
        };
        let look = |bytes: &[u8]| stale(&Messages(bytes).next().unwrap(), &mapping);
        let found = look(&entry([PEER, POD, POD, PEER], 80)).unwrap();
        assert_eq!((found.protocol, found.port), (6, 80));
        assert_eq!(look(&entry([PEER, POD, GUEST, PEER], 80)), None);
        assert_eq!(look(&entry([PEER, POD, POD, PEER], 5900)), None);
        assert_eq!(look(&entry([PEER, GATEWAY, GATEWAY, PEER], 80)), None);
        assert!(look(&entry([GUEST, PEER, PEER, GUEST], 5900)).is_some());
        assert_eq!(look(&entry([GUEST, PEER, PEER, POD], 80)), None);
        assert_eq!(look(&entry([GUEST, GATEWAY, GATEWAY, GUEST], 53)), None);

        let bytes = found.delete_request(1);
        let message = Messages(&bytes).next().unwrap();
        assert_eq!(message.attributes().u32(ID), Some(77));
        let original = message.attributes().nest(TUPLE_ORIG).unwrap();
        assert_eq!(address(AF_INET, original, DESTINATION), Some(POD.into()));
    }

    #[test]
    fn of_ipv6_what_nobody_translated_is_stale_where_it_should_have_been() {
        let [peer, pod, guest, gateway] =
            ["2001:db8::9", "2001:db8::2", "fd00:6be::2", "fd00:6be::1"]
                .map(|text| text.parse::<std::net::Ipv6Addr>().unwrap());
        let six = crate::net::Mapping6 { pod: vec![pod], guest, gateway };
        let mut mapping = Mapping {
            pod: vec![POD],
            guest: GUEST,
            gateway: GATEWAY,
            reserved: Vec::new(),
            six: Some(six),
        };
        let of = |bytes: &[u8], mapping: &Mapping| stale(&Messages(bytes).next().unwrap(), mapping);
        let untranslated = entry([peer, pod, pod, peer], 80);
        let found = of(&untranslated, &mapping).unwrap();
        assert_eq!(of(&entry([peer, pod, guest, peer], 80), &mapping), None);
        assert!(of(&entry([guest, peer, peer, guest], 53), &mapping).is_some());
        assert_eq!(of(&entry([guest, gateway, gateway, guest], 53), &mapping), None);
        let bytes = found.delete_request(1);
        assert_eq!(Messages(&bytes).next().unwrap().family(), AF_INET6);
        let gone = translated(&Messages(&untranslated).next().unwrap(), &[pod.into()]);
        assert_eq!(gone, Some(found));
        mapping.six = None;
        assert_eq!(of(&untranslated, &mapping), None, "the pod's own, where nothing is translated");
    }
}
