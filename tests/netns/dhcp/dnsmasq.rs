//! dnsmasq beside us: the same REQUESTs, and where the two differ, why.
//!
//! Behind real links of their own, client by client. Both know what `Record` says, and one more client that has HELD.

use std::net::Ipv4Addr;

use crate::dhcp::link::Link;
use crate::dhcp::packet::*;
use crate::dhcp::request::{FREE, HELD, OWN, Record, Shape};
use crate::dhcp::wire::Wire;

/// For each client an OWN and a FREE of its own: dnsmasq is one server for all of them.
fn moved(shape: Shape, client: u16) -> (Shape, Ipv4Addr) {
    let at =
        |network: [u8; 4]| Ipv4Addr::from_bits(u32::from_be_bytes(network) + u32::from(client));
    let (own, free) = (at([10, 0, 1, 0]), at([10, 0, 100, 0]));
    let to = |address: Ipv4Addr| match address {
        OWN => own,
        FREE => free,
        other => other,
    };
    (Shape { asked: shape.asked.map(to), ciaddr: shape.ciaddr.map(to), ..shape }, own)
}

fn kind(link: &mut Link, client: u16, shape: Shape, record: Record) -> u8 {
    let wire: &mut dyn Wire = link;
    let (shape, own) = moved(shape, client);
    let wanted = asks_for(own);
    if record != Record::None {
        assert_eq!(wire.discover(mac(client), &[&wanted]), own);
    }
    if record == Record::Bound {
        assert_eq!(wire.select(mac(client), own, &[]).kind(), ACK);
    }
    let replies = wire.send(&shape.packet(mac(client)).broadcast());
    replies.first().map_or(0, Reply::kind)
}

/// Why the answers may differ.
fn reason(
    shape: Shape,
    record: Record,
    authoritative: bool,
    theirs: u8,
    ours: u8,
) -> Option<&'static str> {
    let Shape { server, asked, ciaddr } = shape;
    match (theirs, ours) {
        _ if server == Some(OTHER) && ours == 0 => {
            Some("it took another server's offer (§4.3.1): not ours to refuse")
        }
        (_, 0) if asked.or(ciaddr).is_none() => Some("it asks for nothing"),
        (_, 0) if asked.zip(ciaddr).is_some_and(|(asked, ciaddr)| asked != ciaddr) => {
            Some("it asks for one address and comes from another: in no row of table 4")
        }
        (ACK, NAK) if record != Record::None => {
            Some("it has, or was offered, another address; dnsmasq gives that up")
        }
        (_, ACK) if record == Record::Offered => {
            Some("it was offered this one; dnsmasq remembers no offers")
        }
        (NAK, ACK) if !authoritative && server == Some(US) && record == Record::None => {
            Some("it says that it is ours, and the address is free")
        }
        (NAK, 0) if !authoritative && record != Record::Bound && server.is_none() => Some(
            "dnsmasq sees that it was sent to it alone; another server's client may broadcast the same",
        ),
        _ => None,
    }
}

/// Requests that were compared, and where the answers differ for no reason.
fn compare(authoritative: bool) -> (usize, Vec<String>) {
    let mut links = [Link::dnsmasq(authoritative), Link::wide(authoritative)];
    for link in &mut links {
        let wire: &mut dyn Wire = link;
        assert_eq!(wire.discover(mac(9000), &[&asks_for(HELD)]), HELD);
        assert_eq!(wire.select(mac(9000), HELD, &[]).kind(), ACK);
    }
    let records = [Record::None, Record::Offered, Record::Bound];
    let all = Shape::all().flat_map(|shape| records.map(|record| (shape, record)));
    let (mut asked, mut found) = (0, Vec::new());
    for (client, (shape, record)) in (1u16..).zip(all) {
        let [theirs, ours] = links.each_mut().map(|link| kind(link, client, shape, record));
        asked += 1;
        if theirs != ours && reason(shape, record, authoritative, theirs, ours).is_none() {
            found.push(format!("{shape:?} {record:?}: dnsmasq {theirs}, we {ours}"));
        }
    }
    (asked, found)
}

/// 3 servers × 6 × 6 addresses × 3 records: 324 requests to each, and as many when they are not authoritative.
#[test]
fn d07_requests_are_answered_as_dnsmasq_answers_them_or_for_a_reason() {
    for authoritative in [true, false] {
        let (asked, found) = compare(authoritative);
        assert_eq!(asked, 324);
        assert!(
            found.is_empty(),
            "authoritative={authoritative}, {}:\n{}",
            found.len(),
            found.join("\n")
        );
    }
}
