//! Every REQUEST there can be, and this server beside another: who is ours is served, who may be the other's meets
//! silence, and no mix of fields gets another client's address (RFC 2131 §4.3.2, table 4).

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::dhcp::config::planned;
use crate::dhcp::packet::*;
use crate::dhcp::request::*;
use crate::dhcp::wire::{Core, Wire};

fn lease_of(wire: &mut dyn Wire, mac: Mac, address: Ipv4Addr) {
    assert_eq!(wire.discover(mac, &[&asks_for(address)]), address);
    assert_eq!(wire.select(mac, address, &[]).kind(), ACK);
}

/// One client that asks so, and one that has HELD.
fn answer(shape: Shape, record: Record, authoritative: bool, broadcast: bool) -> Vec<Reply> {
    let mut words = vec!["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.199"];
    words.extend((!authoritative).then_some("--not-authoritative"));
    let mut core = Core::with(planned(&words).unwrap().settings);
    let wire: &mut dyn Wire = &mut core;
    if record == Record::Ended {
        lease_of(wire, mac(1), OWN);
        wire.advance(Duration::from_secs(4000));
    }
    lease_of(wire, mac(2), HELD);
    match record {
        Record::Offered => assert_eq!(wire.discover(mac(1), &[&asks_for(OWN)]), OWN),
        Record::Bound => lease_of(wire, mac(1), OWN),
        Record::None | Record::Ended => {}
    }
    let packet = shape.packet(mac(1));
    let replies = wire.send(&if broadcast { packet.broadcast() } else { packet });
    // Whatever it was, HELD is still its holder's.
    assert_eq!(wire.renew(mac(2), HELD).kind(), ACK, "{shape:?} {record:?}");
    replies
}

/// 3 servers × 6 × 6 addresses × 4 records, twice authoritative, twice broadcast: 1728 requests.
#[test]
fn d02_d07_every_request_is_answered_by_its_row() {
    let mut wrong = Vec::new();
    let mut asked = 0;
    for shape in Shape::all() {
        for (record, authoritative, broadcast) in RECORDS
            .into_iter()
            .flat_map(|record| [true, false].map(|authoritative| (record, authoritative)))
            .flat_map(|(record, authoritative)| {
                [true, false].map(|broadcast| (record, authoritative, broadcast))
            })
        {
            let replies = answer(shape, record, authoritative, broadcast);
            let kind = replies.first().map_or(0, Reply::kind);
            let wanted = shape.expected(record, authoritative);
            if kind != wanted {
                wrong.push(format!(
                    "{shape:?} {record:?} authoritative={authoritative}: {kind}, not {wanted}"
                ));
            }
            if let (ACK, [reply]) = (kind, replies.as_slice()) {
                let address = shape.asked.or(shape.ciaddr).unwrap();
                assert_eq!(reply.yiaddr(), address);
                assert_eq!(reply.address(12), shape.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED));
                if let Some(ciaddr) = shape.ciaddr {
                    assert_eq!(reply.to.address, ciaddr, "it is heard there (RFC 2131 §4.1)");
                }
            }
            asked += 1;
        }
    }
    assert_eq!(asked, 1728);
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A client that renews and says so with more than it must is no stranger to the limits either.
#[test]
fn d59_who_renews_by_more_words_is_not_limited_by_others() {
    for (server, asked) in
        [(None, None), (Some(US), None), (None, Some(OWN)), (Some(US), Some(OWN))]
    {
        let words =
            ["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.199", "--rate=1"];
        let mut core = Core::with(planned(&words).unwrap().settings);
        let wire: &mut dyn Wire = &mut core;
        lease_of(wire, mac(1), OWN);
        for other in 2..50 {
            wire.send(&Packet::new(mac(other), &[DISCOVER]));
        }
        let renewal = Shape { server, asked, ciaddr: Some(OWN) }.packet(mac(1));
        assert_eq!(wire.reply(&renewal).kind(), ACK, "{server:?} {asked:?}");
    }
}

fn beside(authoritative: bool) -> Core {
    let mut words = vec!["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.101"];
    words.extend((!authoritative).then_some("--not-authoritative"));
    Core::with(planned(&words).unwrap().settings)
}

/// What it offered is free at once for who asks next, by the other server's client of either address.
#[test]
fn d03_who_takes_the_other_server_s_offer_leaves_ours_to_others() {
    for authoritative in [true, false] {
        let mut core = beside(authoritative);
        let wire: &mut dyn Wire = &mut core;
        let (first, _) = (wire.discover(mac(1), &[]), wire.discover(mac(2), &[]));
        wire.silence(&Packet::new(mac(3), &[DISCOVER]));
        wire.silence(&Packet::new(mac(1), &[REQUEST, OTHER, &asks_for(THEIRS)]));
        assert_eq!(wire.lease(mac(3), &[]), first);
        // The other server's client goes on: it renews there, reboots, rebinds. Nobody here says no.
        if !authoritative {
            wire.silence(&Packet::new(mac(1), &[REQUEST, &asks_for(THEIRS)]));
            wire.silence(&Packet::new(mac(1), &[REQUEST]).ciaddr(THEIRS).broadcast());
            // Not even for an address of our range, which somebody here has.
            wire.silence(&Packet::new(mac(1), &[REQUEST, &asks_for(first)]));
            wire.silence(&Packet::new(mac(1), &[REQUEST]).ciaddr(first).broadcast());
        }
    }
}

/// It had a lease here once, and has one of the other server now.
#[test]
fn d04_a_client_that_moved_to_the_other_server_is_let_be() {
    let mut core = beside(false);
    let wire: &mut dyn Wire = &mut core;
    let own = wire.lease(mac(1), &[]);
    wire.advance(Duration::from_secs(4000));
    wire.silence(&Packet::new(mac(1), &[REQUEST, &asks_for(THEIRS)]));
    wire.silence(&Packet::new(mac(1), &[REQUEST]).ciaddr(THEIRS));
    let back = wire.reply(&Packet::new(mac(1), &[REQUEST, &asks_for(own)]));
    assert_eq!((back.kind(), back.yiaddr()), (ACK, own), "and has its old one when it asks for it");
}

/// A relay that stands on our own link repeats what we heard already, with its address there.
#[test]
fn d17_a_request_that_also_comes_by_a_relay_has_one_answer() {
    for (authoritative, relay_first) in [(true, true), (true, false), (false, true), (false, false)]
    {
        let mut core = beside(authoritative);
        let wire: &mut dyn Wire = &mut core;
        let mut both = |packet: Packet| {
            let copies = [packet.clone(), packet.set(3, &[1]).giaddr([10, 0, 0, 9])];
            let order = if relay_first { [1, 0] } else { [0, 1] };
            order.map(|at| {
                let reply = wire.reply(&copies[at]);
                (reply.kind(), reply.yiaddr(), reply.secs(51), reply.option(3))
            })
        };
        let [first, second] = both(Packet::new(mac(1), &[DISCOVER]));
        assert_eq!(first, second);
        let asked = asks_for(first.1);
        let [ack, again] = both(Packet::new(mac(1), &[REQUEST, US, &asked]));
        assert_eq!((ack.0, ack.1, &ack), (ACK, first.1, &again));
        let [rebooted, again] = both(Packet::new(mac(1), &[REQUEST, &asked]));
        assert_eq!((rebooted.0, &rebooted), (ACK, &again));
    }
}

/// RFC 4390: InfiniBand has no address for chaddr, and is answered to all; IEEE 802 is as Ethernet.
#[test]
fn clients_of_other_hardware_are_served() {
    let mut core = beside(true);
    let wire: &mut dyn Wire = &mut core;
    let infiniband = |options: &[&[u8]]| Packet::new([0; 6], options).set(1, &[32, 0]);
    wire.silence(&infiniband(&[DISCOVER]));
    let (one, two) = (&[61, 3, 0, 7, 1][..], &[61, 3, 0, 7, 2][..]);
    let mut lease = |id: &[u8], flagged: bool| {
        let flags = |packet: Packet| if flagged { packet.broadcast() } else { packet };
        let offer = wire.reply(&flags(infiniband(&[DISCOVER, id])));
        assert_eq!((offer.bytes[1..3].to_vec(), &offer.bytes[28..44]), (vec![32, 0], &[0; 16][..]));
        assert_eq!(offer.to, To { address: [255; 4].into(), port: 68, mac: None });
        let ack = wire.reply(&flags(infiniband(&[REQUEST, US, id, &asks_for(offer.yiaddr())])));
        assert_eq!(
            (ack.kind(), ack.yiaddr(), ack.to.address),
            (ACK, offer.yiaddr(), [255; 4].into())
        );
        ack.yiaddr()
    };
    let (first, second) = (lease(one, true), lease(two, false));
    assert_ne!(first, second);
    assert_eq!(lease(one, false), first);
    let renewed = wire.reply(&infiniband(&[REQUEST, one]).ciaddr(first));
    assert_eq!((renewed.kind(), renewed.to.address), (ACK, first));
    let mut core = beside(true);
    let wire: &mut dyn Wire = &mut core;
    let offer = wire.reply(&Packet::new(mac(1), &[DISCOVER]).set(1, &[6]));
    assert_eq!((offer.bytes[1], offer.to.mac), (6, Some(mac(1))));
    for (htype, hlen) in [(0, 6), (1, 0), (1, 16), (6, 8), (32, 6), (32, 20), (24, 8)] {
        wire.silence(&Packet::new(mac(2), &[DISCOVER, one]).set(1, &[htype, hlen]));
    }
}

/// Each pays for itself, though their hardware says the same.
#[test]
fn d59_clients_without_hardware_addresses_are_limited_one_by_one() {
    let words =
        ["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.199", "--client-rate=1"];
    let mut core = Core::with(planned(&words).unwrap().settings);
    let infiniband = |id: u8| Packet::new([0; 6], &[DISCOVER, &[61, 3, 0, 7, id]]).set(1, &[32, 0]);
    let flood = (0..50).filter(|_| !core.send(&infiniband(1)).is_empty()).count();
    assert_eq!(flood, 3);
    assert_eq!((2..50).filter(|id| !core.send(&infiniband(*id)).is_empty()).count(), 48);
}

/// Names as telephones and microcontrollers have them; one that is none is told, once, and costs no lease.
#[test]
fn names_are_taken_as_dnsmasq_takes_them_and_others_are_told() {
    let mut core = beside(true);
    let name = |text: &str| [&[12, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let own = (&mut core as &mut dyn Wire).lease(mac(1), &[&name("ESP_0a1b2c")]);
    let named =
        |core: &mut Core| core.responder.leases().iter().find(|it| it.address == own).unwrap().name;
    assert_eq!(named(&mut core).as_deref(), Some("ESP_0a1b2c"));
    assert_eq!(core.responder.unusable_name(), None);
    for bad in ["my phone", "_tcp", "-x", "b\u{fc}cher"] {
        let ack = (&mut core as &mut dyn Wire).select(mac(1), own, &[&name(bad)]);
        assert_eq!((ack.kind(), named(&mut core)), (ACK, None), "{bad}");
        let told = core.responder.unusable_name();
        assert_eq!(told, Some((berth::net::MacAddr(mac(1)), bad.as_bytes().to_vec())));
        assert_eq!(core.responder.unusable_name(), None);
    }
}
