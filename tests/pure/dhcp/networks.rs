//! Networks within each other: an address, a client and a reservation belong to the longest prefix around them.

use std::net::Ipv4Addr;

use berth::net::Ipv4Prefix;
use berth::plan::serve::Error;
use berth::proto::dhcp4::{Addresses, Settings};
use berth::proto::leases::Range;
use proptest::prelude::*;

use crate::dhcp::config::{Config, planned, planned_whole};
use crate::dhcp::packet::*;
use crate::dhcp::wire::{Core, Wire};

fn served(words: &[&str]) -> Core {
    Core::with(planned(&[&["--no-dns"], words].concat()).unwrap().settings)
}

/// Mask and router of a reply.
fn told(reply: &Reply) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    (reply.option(1), reply.option(3))
}

const NESTED: &[&str] = &[
    "--address=10.0.0.1/24",
    "--range=10.0.0.100,10.0.0.200",
    "--relayed=10.2.0.0/16,10.2.3.10,10.2.4.20,10.2.0.1",
    "--relayed=10.2.3.0/24,10.2.3.10,10.2.3.20,10.2.3.1",
    "--reserve=52:54:00:00:00:77,10.2.3.77",
];

#[test]
fn a_relay_in_the_smaller_network_gets_its_addresses() {
    let mut core = served(NESTED);
    let wire: &mut dyn Wire = &mut core;
    let smaller = wire.reply(&Packet::new(mac(1), &[DISCOVER]).giaddr([10, 2, 3, 1]));
    assert_eq!(smaller.yiaddr(), Ipv4Addr::new(10, 2, 3, 10));
    assert_eq!(told(&smaller), (Some(vec![255, 255, 255, 0]), Some(vec![10, 2, 3, 1])));
    // Its link selection, and the client's own address when it renews, say the same (RFC 3527).
    let selects = [&[82, 6, 5, 4][..], &[10, 2, 3, 0]].concat();
    let selected = wire.reply(&Packet::new(mac(2), &[DISCOVER, &selects]).giaddr([10, 2, 0, 1]));
    assert_eq!(told(&selected), told(&smaller));
    let ack = wire.select(mac(1), smaller.yiaddr(), &[]);
    assert_eq!(ack.kind(), NAK, "here is another network");
    let request = Packet::new(mac(1), &[REQUEST, US, &asks_for(smaller.yiaddr())]);
    assert_eq!(wire.reply(&request.giaddr([10, 2, 3, 1])).kind(), ACK);
    assert_eq!(told(&wire.renew(mac(1), smaller.yiaddr())), told(&smaller));
}

#[test]
fn the_larger_network_gives_no_address_of_the_smaller() {
    let mut core = served(NESTED);
    let wire: &mut dyn Wire = &mut core;
    let larger = wire.reply(&Packet::new(mac(1), &[DISCOVER]).giaddr([10, 2, 0, 1]));
    // The first of its range that is its own.
    assert_eq!(larger.yiaddr(), Ipv4Addr::new(10, 2, 4, 0));
    assert_eq!(told(&larger), (Some(vec![255, 255, 0, 0]), Some(vec![10, 2, 0, 1])));
    let asked = asks_for([10, 2, 3, 15].into());
    let asking = wire.reply(&Packet::new(mac(2), &[DISCOVER, &asked]).giaddr([10, 2, 0, 1]));
    assert_eq!(asking.yiaddr(), Ipv4Addr::new(10, 2, 4, 1));
    let rebooted = wire.reply(&Packet::new(mac(3), &[REQUEST, &asked]).giaddr([10, 2, 0, 1]));
    assert_eq!(rebooted.kind(), NAK);
}

#[test]
fn a_reservation_is_for_the_smaller_network_it_is_in() {
    let mut core = served(NESTED);
    let wire: &mut dyn Wire = &mut core;
    let reserved = [0x52, 0x54, 0, 0, 0, 0x77];
    let mut offered =
        |giaddr| wire.reply(&Packet::new(reserved, &[DISCOVER]).giaddr(giaddr)).yiaddr().octets();
    assert_eq!(offered([10, 2, 3, 1]), [10, 2, 3, 77]);
    assert_eq!(offered([10, 2, 0, 1]), [10, 2, 4, 0], "not where its router is another");
}

/// What a client has in the smaller network does not hide what it has in the larger one.
#[test]
fn a_client_of_both_networks_keeps_both_addresses() {
    let mut core = served(NESTED);
    let wire: &mut dyn Wire = &mut core;
    let relays = [[10, 2, 3, 1], [10, 2, 0, 1]];
    let lease = |wire: &mut dyn Wire, relay| {
        let offer = wire.reply(&Packet::new(mac(1), &[DISCOVER]).giaddr(relay)).yiaddr();
        let ack = wire.reply(&Packet::new(mac(1), &[REQUEST, US, &asks_for(offer)]).giaddr(relay));
        (ack.kind(), ack.yiaddr())
    };
    let first = relays.map(|relay| lease(wire, relay));
    wire.advance(std::time::Duration::from_secs(60));
    for _ in 0..2 {
        assert_eq!(relays.map(|relay| lease(wire, relay)), first);
    }
    assert_eq!(first.map(|(kind, _)| kind), [ACK, ACK]);
}

#[test]
fn a_relayed_network_within_the_link_s_own_is_apart_from_it() {
    let mut core = served(&[
        "--address=10.0.0.1/8",
        "--range=10.0.0.100,10.0.0.200",
        "--relayed=10.2.3.0/24,10.2.3.10,10.2.3.20,10.2.3.1",
    ]);
    let wire: &mut dyn Wire = &mut core;
    let behind = wire.reply(&Packet::new(mac(1), &[DISCOVER]).giaddr([10, 2, 3, 1]));
    assert_eq!(behind.yiaddr(), Ipv4Addr::new(10, 2, 3, 10));
    assert_eq!(told(&behind).1, Some(vec![10, 2, 3, 1]));
    let here = wire.reply(&Packet::new(mac(2), &[DISCOVER]));
    assert_eq!((here.yiaddr(), here.option(1)), ([10, 0, 0, 100].into(), Some(vec![255, 0, 0, 0])));
}

#[test]
fn networks_that_cannot_be_meant_are_refused() {
    let refused = |words: &[&str]| {
        planned(
            &[&["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.200"], words]
                .concat(),
        )
        .map(drop)
        .unwrap_err()
    };
    let same = |error| matches!(error, Error::SameNetwork(_));
    assert!(same(refused(&["--relayed=10.0.0.0/24,10.0.0.10,10.0.0.20,10.0.0.254"])));
    let twice = "--relayed=10.2.0.0/24,10.2.0.10,10.2.0.20,10.2.0.1";
    assert!(same(refused(&[twice, "--relayed=10.2.0.9/24,10.2.0.30,10.2.0.40,10.2.0.2"])));
    let elsewhere = |error| matches!(error, Error::RouterElsewhere { .. });
    for router in ["10.9.0.1", "10.2.0.0", "10.2.0.255"] {
        assert!(
            elsewhere(refused(&[&format!("--relayed=10.2.0.0/24,10.2.0.10,10.2.0.20,{router}")])),
            "{router}"
        );
    }
    // The router of the larger one is in the smaller one: its clients do not reach it.
    let larger = "--relayed=10.2.0.0/16,10.2.9.10,10.2.9.20,10.2.0.2";
    assert!(elsewhere(refused(&[twice, larger])));
    let behind = "--relayed=10.0.0.0/25,10.0.0.10,10.0.0.20,10.0.0.2";
    assert!(matches!(refused(&[behind]), Error::Behind { .. }));
    let all = "--relayed=10.0.0.64/26,10.0.0.70,10.0.0.80,10.0.0.65";
    assert!(
        planned(&["--no-dns", "--address=10.0.0.1/24", "--range=10.0.0.100,10.0.0.200", all])
            .is_ok()
    );
    assert!(matches!(
        refused(&["--range=10.0.0.66,10.0.0.99", all]),
        Error::Swallowed { network, .. } if network.length == 24
    ));
}

#[test]
fn addresses_a_range_gives_up_to_a_smaller_network_are_told() {
    let notes = planned_whole(&[&["--no-dns"], NESTED].concat()).unwrap().notes;
    assert_eq!(
        notes,
        ["246 addresses of 10.2.3.10-10.2.4.20 are of a smaller network and given there only"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever lies within what: the client of a relay gets an address of the smallest network around the relay, which
    /// lies in no smaller one, with that network's mask; or nothing, when nothing of it is left.
    #[test]
    fn every_client_is_of_the_smallest_network_around_its_relay(
        networks in proptest::collection::vec((0u8..4, 0u8..=255, 20u8..29), 1..6),
        relay in (0u8..4, 1u8..255),
        asks in (0u8..4, any::<u8>()),
    ) {
        let mut settings: Settings = Config::Office.settings();
        let model = settings.subnets[1].clone();
        settings.subnets.truncate(1);
        let mut all: Vec<Ipv4Prefix> = Vec::new();
        for (high, low, length) in networks {
            let network = Ipv4Prefix { address: Ipv4Addr::new(10, 9, high, low), length };
            if all.iter().any(|other| other.network() == network.network() && other.length == length) {
                continue;
            }
            let mut subnet = model.clone();
            subnet.network = network;
            subnet.parameters.router = None;
            subnet.addresses = Addresses::Pool(vec![Range { first: network.network(), last: network.broadcast() }]);
            settings.subnets.push(subnet);
            all.push(network);
        }
        let smallest = |it: Ipv4Addr| all.iter().filter(|net| net.contains(it)).max_by_key(|net| net.length);
        let mut core = Core::with(settings);
        let giaddr = [10, 9, relay.0, relay.1];
        let asked = asks_for([10, 9, asks.0, asks.1].into());
        for options in [&[DISCOVER][..], &[DISCOVER, &asked], &[REQUEST, &asked], &[REQUEST, US, &asked]] {
            let found = core.send(&Packet::new(mac(1), options).giaddr(giaddr));
            let Some(network) = smallest(giaddr.into()) else {
                prop_assert_eq!(found, []);
                continue;
            };
            for reply in found.iter().filter(|reply| reply.kind() != NAK) {
                prop_assert_eq!(smallest(reply.yiaddr()), Some(network));
                prop_assert_eq!(reply.option(1), Some(network.mask().octets().to_vec()));
            }
        }
    }
}
