//! D49, D52, D54, D59, D60: what is done when there is little left, of addresses, of time, of patience.

use std::time::Duration;

use berth::proto::dhcp4::{Reason, Responder};
use berth::proto::leases::{HEADER, Leases};

use crate::dhcp::config::Config;
use crate::dhcp::packet::*;
use crate::dhcp::wire::{Core, Wire};

cases! {
    Small:
        d49_no_address_and_no_auto_configuration,
        d52_an_empty_pool_offers_nothing_but_to_its_own;
    Careful:
        d59_one_client_is_limited_and_others_are_not;
}

fn d49_no_address_and_no_auto_configuration(wire: &mut dyn Wire) {
    let first = wire.reply(&Packet::new(mac(1), &[DISCOVER, &[116, 1, 1]]));
    assert_eq!((first.kind(), first.option(116)), (OFFER, None));
    wire.lease(mac(1), &[]);
    wire.lease(mac(2), &[]);
    let none = wire.reply(&Packet::new(mac(3), &[DISCOVER, &[116, 1, 1]]));
    assert_eq!((none.kind(), &none.bytes[16..20], none.option(116)), (OFFER, &[0; 4][..], Some(vec![0])));
    assert_eq!((none.option(51), none.to.address.octets()), (None, [255; 4]));
    wire.silence(&Packet::new(mac(3), &[DISCOVER]));
}

fn d52_an_empty_pool_offers_nothing_but_to_its_own(wire: &mut dyn Wire) {
    let (first, second) = (wire.lease(mac(1), &[]), wire.lease(mac(2), &[]));
    for other in 3..20 {
        wire.silence(&Packet::new(mac(other), &[DISCOVER]));
    }
    assert_eq!(wire.discover(mac(1), &[]), first);
    assert_eq!(wire.renew(mac(2), second).kind(), ACK);
}

#[test]
fn d52_an_empty_pool_is_counted() {
    let mut core = Core::new(Config::Small);
    for client in 1..10 {
        core.send(&Packet::new(mac(client), &[DISCOVER]));
    }
    assert_eq!(core.responder.counts().get(&Reason::Exhausted), Some(&7));
}

#[test]
fn d53_every_ack_has_its_record_and_no_other_reply() {
    let mut core = Core::new(Config::Office);
    let journal = |core: &mut Core, packet: &Packet| {
        let kind = core.answer(packet).ok().flatten().and_then(|transmit| transmit.kind).map(u8::from);
        (kind, core.responder.leases().journal().len() > 20)
    };
    let asked = asks_for([10, 0, 0, 100].into());
    assert_eq!(journal(&mut core, &Packet::new(mac(1), &[DISCOVER])), (Some(OFFER), false));
    assert_eq!(journal(&mut core, &Packet::new(mac(1), &[REQUEST, US, &asked])), (Some(ACK), true));
    assert_eq!(journal(&mut core, &Packet::new(mac(2), &[REQUEST, US, &asked])), (Some(NAK), false));
    assert_eq!(
        journal(&mut core, &Packet::new(mac(1), &[REQUEST]).ciaddr([10, 0, 0, 100].into())),
        (Some(ACK), true)
    );
    assert_eq!(journal(&mut core, &Packet::new(mac(1), &[DECLINE, US, &asked])), (None, true));
}

#[test]
fn d55_a_restarted_server_knows_its_clients() {
    let mut core = Core::new(Config::Small);
    let (first, second) = {
        let wire: &mut dyn Wire = &mut core;
        (wire.lease(mac(1), &[]), wire.lease(mac(2), &[&[61, 2, 0, 9]]))
    };
    let file = [HEADER.as_bytes(), &core.responder.leases().journal()].concat();
    let (leases, _) = Leases::recover(core.now, &file, 100);
    let mut again = Core { responder: Responder::new(Config::Small.settings(), leases), now: core.now };
    let wire: &mut dyn Wire = &mut again;
    assert_eq!(wire.renew(mac(1), first).kind(), ACK);
    let rebooted = wire.reply(&Packet::new(mac(2), &[REQUEST, &asks_for(second), &[61, 2, 0, 9]]));
    assert_eq!((rebooted.kind(), rebooted.yiaddr()), (ACK, second));
    wire.silence(&Packet::new(mac(3), &[DISCOVER]));
}

#[test]
fn d54_a_step_of_the_wall_clock_ends_and_extends_nothing() {
    for years in [-10i64, 10] {
        let mut core = Core::new(Config::Office);
        let own = (&mut core as &mut dyn Wire).lease(mac(1), &[]);
        let step = Duration::from_secs(years.unsigned_abs() * 31_536_000);
        core.now.wall = if years < 0 { core.now.wall - step } else { core.now.wall + step };
        let wire: &mut dyn Wire = &mut core;
        wire.advance(Duration::from_secs(3500));
        assert_ne!(wire.discover(mac(2), &[&asks_for(own)]), own, "not over yet");
        wire.advance(Duration::from_secs(200));
        assert_eq!(wire.discover(mac(3), &[&asks_for(own)]), own, "over");
    }
}

fn d59_one_client_is_limited_and_others_are_not(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    let flood = (0..50).filter(|_| !wire.send(&Packet::new(mac(2), &[DISCOVER])).is_empty()).count();
    assert!((1..=6).contains(&flood), "{flood} of 50 answered");
    assert_eq!(wire.send(&Packet::new(mac(3), &[DISCOVER])).len(), 1, "another client");
    wire.advance(Duration::from_secs(2));
    assert_eq!(wire.send(&Packet::new(mac(2), &[DISCOVER])).len(), 1, "limited, not banned");
    // Many names of one flood: all that is new waits, who renews does not.
    let flood =
        (100..1000).filter(|&other| !wire.send(&Packet::new(mac(other), &[DISCOVER])).is_empty()).count();
    assert!((1..=60).contains(&flood), "{flood} of 900 answered");
    for _ in 0..100 {
        wire.send(&Packet::new(mac(1), &[DISCOVER]));
    }
    assert_eq!(wire.renew(mac(1), own).kind(), ACK);
}

#[test]
fn d60_only_a_new_address_of_a_pool_is_probed() {
    let mut core = Core::new(Config::Careful);
    let discover = |core: &mut Core, mac| core.answer(&Packet::new(mac, &[DISCOVER])).unwrap().unwrap();
    let first = discover(&mut core, mac(1));
    assert_eq!(first.probe, Some(first.address));
    // Somebody is there: another one, and nobody gets that for a while.
    core.responder.conflict(core.now, first.address);
    let second = discover(&mut core, mac(1));
    assert_ne!(second.address, first.address);
    assert_eq!(second.probe, Some(second.address));
    let wire: &mut dyn Wire = &mut core;
    assert_eq!(wire.select(mac(1), second.address, &[]).kind(), ACK);
    assert_ne!(wire.discover(mac(2), &[&asks_for(first.address)]), first.address);
    core.advance(Duration::from_secs(10));
    assert_eq!(discover(&mut core, mac(1)).probe, None, "it has it already");
    assert_eq!(discover(&mut core, [0x52, 0x54, 0, 0, 0, 0x77]).probe, None, "reserved");
    let ack = core.answer(&Packet::new(mac(1), &[REQUEST]).ciaddr(second.address)).unwrap().unwrap();
    assert_eq!(ack.probe, None);
}
