//! What only the core itself shows: its counts, its journal, its clock.

use std::time::Duration;

use berth::proto::dhcp4::{Reason, Responder};
use berth::proto::leases::{HEADER, Leases};

use crate::dhcp::config::Config;
use crate::dhcp::packet::*;
use crate::dhcp::relay::RELAY;
use crate::dhcp::wire::{Core, Wire};

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
        let kind =
            core.answer(packet).ok().flatten().and_then(|transmit| transmit.kind).map(u8::from);
        (kind, core.responder.leases().journal().len() > 20)
    };
    let asked = asks_for([10, 0, 0, 100].into());
    assert_eq!(journal(&mut core, &Packet::new(mac(1), &[DISCOVER])), (Some(OFFER), false));
    assert_eq!(journal(&mut core, &Packet::new(mac(1), &[REQUEST, US, &asked])), (Some(ACK), true));
    assert_eq!(
        journal(&mut core, &Packet::new(mac(2), &[REQUEST, US, &asked])),
        (Some(NAK), false)
    );
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
    let mut again =
        Core { responder: Responder::new(Config::Small.settings(), leases), now: core.now };
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

#[test]
fn d60_only_a_new_address_of_a_pool_is_probed() {
    let mut core = Core::new(Config::Careful);
    let discover =
        |core: &mut Core, mac| core.answer(&Packet::new(mac, &[DISCOVER])).unwrap().unwrap();
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
    let ack =
        core.answer(&Packet::new(mac(1), &[REQUEST]).ciaddr(second.address)).unwrap().unwrap();
    assert_eq!(ack.probe, None);
}

/// What is silence on a link has its reason in the core.
#[test]
fn every_drop_has_a_reason_that_is_counted() {
    let mut core = Core::new(Config::Small);
    let discover = || Packet::new(mac(1), &[DISCOVER]);
    let cases = [
        (Packet(vec![1; 5000]), Reason::TooLong),
        (Packet(vec![1, 1, 6]), Reason::Truncated),
        (discover().set(0, &[2]), Reason::NotARequest),
        (discover().set(2, &[17]), Reason::HardwareAddress),
        (discover().set(236, &[0]), Reason::NoCookie),
        (Packet::new(mac(1), &[DISCOVER, &[61, 9]]), Reason::Malformed),
        (Packet::new(mac(1), &[]), Reason::NoMessageType),
        (Packet::new(mac(1), &[&[53, 1, 99]]), Reason::UnknownMessageType),
        (Packet::new(mac(1), &[DISCOVER, &[90, 1, 1]]), Reason::Authentication),
        (Packet::new(mac(1), &[REQUEST, OTHER]), Reason::OtherServer),
        (Packet::new(mac(1), &[REQUEST]), Reason::BadMix),
        (discover().giaddr([10, 7, 0, 1]), Reason::NoSubnet),
        (Packet::new(mac(1), &[REQUEST, &asks_for([10, 0, 0, 10].into())]), Reason::UnknownClient),
        (Packet::new(mac(1), &[RELEASE, US]).ciaddr([10, 0, 0, 10].into()), Reason::NotHeld),
    ];
    for (packet, reason) in &cases {
        assert_eq!(core.answer(packet), Err(*reason));
    }
    assert_eq!(core.responder.counts().values().sum::<u64>(), 14);
    assert!(core.responder.counts().values().all(|count| *count == 1));
}

#[test]
fn d33_a_dropped_option_82_is_counted() {
    let mut core = Core::new(Config::Office);
    let long = [&[82, 255, 2, 253][..], &[9; 253]].concat().repeat(5);
    assert!(core.answer(&Packet::new(mac(1), &[DISCOVER, &long]).giaddr(RELAY)).is_ok());
    assert_eq!(core.responder.counts().get(&Reason::RelayInformationDropped), Some(&1));
}
