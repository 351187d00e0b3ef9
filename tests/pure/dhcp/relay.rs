//! D32–D35, D50: clients behind relays.

use crate::dhcp::packet::*;
use crate::dhcp::wire::{ANOTHER_PORT, SOURCE_PORT, Wire};

cases! {
    Office:
        d32_the_server_identifier_is_how_the_client_reaches_us,
        d33_the_relay_s_address_or_link_selection_chooses_the_subnet,
        d33_option_82_comes_back_unchanged_and_last,
        d33_a_client_of_an_unknown_network_meets_silence,
        d34_the_relay_s_server_identifier_is_used,
        d35_replies_to_a_relay_go_to_the_server_port,
        d35_replies_to_a_relay_go_where_it_says_they_should,
        d50_subnet_selection_is_ignored_unless_allowed;
    Small:
        d50_subnet_selection_is_honoured_when_allowed;
}

pub const RELAY: [u8; 4] = [10, 1, 0, 1];

fn network(reply: &Reply) -> [u8; 2] {
    [reply.bytes[17], reply.bytes[18]]
}

fn d32_the_server_identifier_is_how_the_client_reaches_us(wire: &mut dyn Wire) {
    let here = wire.reply(&Packet::new(mac(1), &[DISCOVER]));
    let behind = wire.reply(&Packet::new(mac(2), &[DISCOVER]).giaddr(RELAY));
    assert_eq!(
        (here.option(54), behind.option(54)),
        (Some(vec![10, 0, 0, 1]), Some(vec![10, 0, 0, 1]))
    );
    // The relayed client renews by unicast, without its relay.
    let asked = asks_for(behind.yiaddr());
    let ack = wire.reply(&Packet::new(mac(2), &[REQUEST, US, &asked]).giaddr(RELAY));
    assert_eq!(ack.kind(), ACK);
    let renewed = wire.renew(mac(2), behind.yiaddr());
    assert_eq!(
        (renewed.kind(), renewed.to.address, renewed.option(3)),
        (ACK, behind.yiaddr(), Some(RELAY.to_vec()))
    );
}

fn d33_the_relay_s_address_or_link_selection_chooses_the_subnet(wire: &mut dyn Wire) {
    let relayed = wire.reply(&Packet::new(mac(1), &[DISCOVER]).giaddr(RELAY));
    assert_eq!((network(&relayed), relayed.option(3)), ([1, 0], Some(RELAY.to_vec())));
    assert!((50..100).contains(&relayed.bytes[19]));
    let selected = [&[82, 6, 5, 4][..], &[10, 0, 0, 0]].concat();
    let reply = wire.reply(&Packet::new(mac(2), &[DISCOVER, &selected]).giaddr(RELAY));
    assert_eq!((network(&reply), reply.to.address.octets()), ([0, 0], RELAY));
    // A client that claims to be a relay's is none.
    let other = [&[82, 6, 5, 4][..], &[10, 1, 0, 0]].concat();
    assert_eq!(network(&wire.reply(&Packet::new(mac(3), &[DISCOVER, &other]))), [0, 0]);
}

fn d33_option_82_comes_back_unchanged_and_last(wire: &mut dyn Wire) {
    let mut relayed = |options: &[&[u8]]| {
        wire.reply(&Packet::new(mac(1), &[&[DISCOVER], options].concat()).giaddr(RELAY))
    };
    let circuit = [82, 8, 1, 3, b'e', b't', b'h', 2, 1, 9];
    let reply = relayed(&[&circuit, &[61, 2, 0, 1]]);
    let options = reply.options();
    assert_eq!(options.last(), Some(&(82, circuit[2..].to_vec())));
    // Not out of the client's share: with 82 and without, the rest is the same.
    let all: Vec<u8> = [55, 254].into_iter().chain(1..=254).collect();
    let long = [&[82, 255, 2, 253][..], &[9; 253]].concat();
    let (with, without) = (relayed(&[&all, &long]).options(), relayed(&[&all]).options());
    let rest: Vec<_> = with.iter().filter(|(code, _)| *code != 82).cloned().collect();
    assert_eq!((rest, with.len()), (without.clone(), without.len() + 1));
    // Whole packets of 1500 octets and no more: then without it. Nonsense in it is the relay's own.
    let huge = [long.clone(), long.clone(), long.clone(), long.clone(), long].concat();
    assert_eq!(relayed(&[&huge]).option(82), None);
    assert_eq!(relayed(&[&[82, 3, 5, 200, 1]]).option(82), Some(vec![5, 200, 1]));
}

fn d33_a_client_of_an_unknown_network_meets_silence(wire: &mut dyn Wire) {
    wire.silence(&Packet::new(mac(1), &[DISCOVER]).giaddr([10, 7, 0, 1]));
    let selected = [&[82, 6, 5, 4][..], &[10, 7, 0, 0]].concat();
    wire.silence(&Packet::new(mac(1), &[DISCOVER, &selected]).giaddr(RELAY));
}

fn d34_the_relay_s_server_identifier_is_used(wire: &mut dyn Wire) {
    let information = [82, 6, 11, 4, 10, 1, 0, 1];
    let relayed =
        |options: &[&[u8]]| Packet::new(mac(1), &[options, &[&information]].concat()).giaddr(RELAY);
    let offer = wire.reply(&relayed(&[DISCOVER]));
    assert_eq!(offer.option(54), Some(RELAY.to_vec()));
    let asked = asks_for(offer.yiaddr());
    let ack = wire.reply(&relayed(&[REQUEST, &[54, 4, 10, 1, 0, 1], &asked]));
    assert_eq!((ack.kind(), ack.option(54)), (ACK, Some(RELAY.to_vec())));
    // Not by the client's own word.
    let local = wire.reply(&Packet::new(mac(2), &[DISCOVER, &information]));
    assert_eq!(local.option(54), Some(vec![10, 0, 0, 1]));
}

fn d35_replies_to_a_relay_go_to_the_server_port(wire: &mut dyn Wire) {
    let to = To { address: RELAY.into(), port: 67, mac: None };
    assert_eq!(wire.reply(&Packet::new(mac(1), &[DISCOVER]).giaddr(RELAY)).to, to);
    let wrong = asks_for([192, 168, 7, 7].into());
    assert_eq!(wire.reply(&Packet::new(mac(1), &[REQUEST, &wrong]).giaddr(RELAY)).to, to);
}

/// RFC 8357
fn d35_replies_to_a_relay_go_where_it_says_they_should(wire: &mut dyn Wire) {
    let reply = wire.reply(&Packet::new(mac(1), &[DISCOVER, SOURCE_PORT]).giaddr(RELAY));
    assert_eq!(reply.to, To { address: RELAY.into(), port: ANOTHER_PORT, mac: None });
    assert_eq!(reply.option(82), Some(vec![19, 0]));
    let here = wire.reply(&Packet::new(mac(1), &[DISCOVER, SOURCE_PORT]));
    assert_ne!(here.to.port, ANOTHER_PORT, "no relay, no port of its own");
}

fn d50_subnet_selection_is_honoured_when_allowed(wire: &mut dyn Wire) {
    let mut of = |address: [u8; 4]| {
        let option = [&[118, 4][..], &address].concat();
        wire.send(&Packet::new(mac(1), &[DISCOVER, &option])).first().map(network)
    };
    assert_eq!(
        (of([10, 1, 0, 0]), of([10, 0, 0, 0]), of([10, 7, 0, 0])),
        (Some([1, 0]), Some([0, 0]), None)
    );
}

fn d50_subnet_selection_is_ignored_unless_allowed(wire: &mut dyn Wire) {
    assert_eq!(
        network(&wire.reply(&Packet::new(mac(1), &[DISCOVER, &[118, 4, 10, 1, 0, 0]]))),
        [0, 0]
    );
}
