//! D01–D19: from DISCOVER to RELEASE.

use std::time::Duration;

use crate::dhcp::packet::*;
use crate::dhcp::wire::Wire;

const XID: [u8; 4] = [0xde, 0xad, 0, 1];

cases! {
    Office:
        d01_discover_is_offered_an_address,
        d02_selecting_us_is_acked,
        d03_another_server_s_client_frees_our_offer,
        d04_init_reboot_is_acked_when_right_and_refused_when_wrong,
        d04_d55_init_reboot_of_an_unknown_client_gets_a_free_address_back,
        d05_renewing_extends,
        d06_rebinding_extends,
        d07_a_bad_mix_gets_no_ack,
        d08_a_nak_says_no_more_than_it_must,
        d09_a_declined_address_is_kept_from_everyone,
        d10_release_frees_what_is_the_client_s_own,
        d11_inform_gets_parameters_and_no_lease,
        d12_replies_go_where_the_client_can_hear,
        d13_clients_are_told_apart_by_identifier_then_hardware,
        d13_two_machines_with_one_identifier_get_two_addresses,
        d13_nobody_gets_another_s_address_by_naming_its_hardware,
        d13_a_reservation_by_mac_is_for_the_machine,
        d14_a_client_gets_its_address_again,
        d14_a_new_client_gets_what_it_asks_for_if_free,
        d15_a_bound_address_is_nobody_else_s,
        d16_an_offer_is_held_a_minute,
        d17_the_same_question_gets_the_same_bytes,
        d18_lease_times_are_bounded_and_ordered,
        d19_secs_and_hops_change_nothing;
    Small:
        d04_init_reboot_of_an_unknown_client_meets_silence,
        d18_leases_without_end_when_configured;
}

fn d01_discover_is_offered_an_address(wire: &mut dyn Wire) {
    let offer = wire.reply(&Packet::new(mac(1), &[DISCOVER]).broadcast());
    assert_eq!(offer.kind(), OFFER);
    assert_eq!((&offer.bytes[..4], &offer.bytes[4..8]), (&[2, 1, 6, 0][..], &XID[..]));
    assert_eq!(offer.bytes[8..16], [0, 0, 0x80, 0, 0, 0, 0, 0]);
    assert_eq!(offer.bytes[16..19], [10, 0, 0]);
    assert!((100..200).contains(&offer.bytes[19]));
    assert_eq!((&offer.bytes[24..28], &offer.bytes[28..34]), (&[0; 4][..], &mac(1)[..]));
    assert_eq!(offer.bytes[236..240], COOKIE);
    assert_eq!(offer.option(54), Some(vec![10, 0, 0, 1]));
    assert_eq!(offer.secs(51), Some(3600));
    let relayed = wire.reply(&Packet::new(mac(2), &[DISCOVER]).giaddr([10, 1, 0, 1]));
    assert_eq!(relayed.bytes[24..28], [10, 1, 0, 1]);
}

fn d02_selecting_us_is_acked(wire: &mut dyn Wire) {
    let offered = wire.discover(mac(1), &[]);
    let ack = wire.select(mac(1), offered, &[]);
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, offered));
    assert_eq!((ack.option(54), ack.secs(51)), (Some(vec![10, 0, 0, 1]), Some(3600)));
    assert_eq!(ack.bytes[4..8], XID);
}

fn d03_another_server_s_client_frees_our_offer(wire: &mut dyn Wire) {
    let offered = wire.discover(mac(1), &[]);
    let asked = asks_for(offered);
    assert_ne!(wire.discover(mac(2), &[&asked]), offered);
    wire.silence(&Packet::new(mac(1), &[REQUEST, OTHER, &asks_for([10, 0, 0, 9].into())]));
    assert_eq!(wire.discover(mac(3), &[&asked]), offered);
}

fn d04_init_reboot_is_acked_when_right_and_refused_when_wrong(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    let mut reboot =
        |address: [u8; 4]| wire.reply(&Packet::new(mac(1), &[REQUEST, &asks_for(address.into())]));
    let ack = reboot(own.octets());
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, own));
    // Another network, another address of this one.
    for wrong in [[192, 168, 7, 7], [10, 0, 0, 199]] {
        let nak = reboot(wrong);
        assert_eq!((nak.kind(), nak.to.address.octets()), (NAK, [255; 4]));
    }
}

fn d04_d55_init_reboot_of_an_unknown_client_gets_a_free_address_back(wire: &mut dyn Wire) {
    let free = [10, 0, 0, 150].into();
    let ack = wire.reply(&Packet::new(mac(1), &[REQUEST, &asks_for(free)]));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, free));
    let renewed = wire.renew(mac(2), [10, 0, 0, 151].into());
    assert_eq!(renewed.kind(), ACK);
    // Not free, reserved, in no pool.
    for refused in [[10, 0, 0, 150], [10, 0, 0, 77], [10, 0, 0, 20]] {
        assert_eq!(
            wire.reply(&Packet::new(mac(3), &[REQUEST, &asks_for(refused.into())])).kind(),
            NAK
        );
    }
}

fn d04_init_reboot_of_an_unknown_client_meets_silence(wire: &mut dyn Wire) {
    wire.silence(&Packet::new(mac(1), &[REQUEST, &asks_for([10, 0, 0, 10].into())]));
    wire.silence(&Packet::new(mac(1), &[REQUEST]).ciaddr([10, 0, 0, 10].into()));
    // Another server may serve that network on this link.
    wire.silence(&Packet::new(mac(1), &[REQUEST, &asks_for([192, 168, 7, 7].into())]));
}

fn d05_renewing_extends(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    wire.advance(Duration::from_secs(1800));
    let ack = wire.renew(mac(1), own);
    assert_eq!((ack.kind(), ack.yiaddr(), ack.address(12)), (ACK, own, own));
    assert_eq!(ack.to, To { address: own, port: 68, mac: None });
    wire.advance(Duration::from_secs(3000));
    assert_ne!(wire.discover(mac(2), &[&asks_for(own)]), own, "extended past its first end");
    let wrong = wire.renew(mac(1), [10, 9, 8, 7].into());
    assert_eq!(wrong.kind(), NAK);
}

fn d06_rebinding_extends(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    wire.advance(Duration::from_secs(3200));
    let ack = wire.reply(&Packet::new(mac(1), &[REQUEST]).ciaddr(own).broadcast());
    assert_eq!((ack.kind(), ack.yiaddr(), ack.to.address), (ACK, own, own));
}

fn d07_a_bad_mix_gets_no_ack(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    let asked = asks_for(own);
    wire.silence(&Packet::new(mac(1), &[REQUEST]));
    wire.silence(&Packet::new(mac(1), &[REQUEST, US]));
    let other = [10, 0, 0, 111].into();
    wire.silence(&Packet::new(mac(1), &[REQUEST, US, &asked]).ciaddr(other));
    wire.silence(&Packet::new(mac(1), &[REQUEST, &asked]).ciaddr(other));
    wire.silence(&Packet::new(mac(1), &[REQUEST, OTHER, &asked]).ciaddr(own));
    assert_eq!(wire.select(mac(1), [10, 0, 0, 180].into(), &[]).kind(), NAK);
}

fn d08_a_nak_says_no_more_than_it_must(wire: &mut dyn Wire) {
    let wrong = asks_for([192, 168, 7, 7].into());
    let nak = wire.reply(&Packet::new(mac(1), &[REQUEST, &wrong, &[55, 2, 1, 3], &[61, 2, 1, 9]]));
    assert_eq!(nak.codes(), [53, 54, 61, 56]);
    assert_eq!((&nak.bytes[12..24], nak.kind()), (&[0; 12][..], NAK));
    assert_eq!(nak.to, To { address: [255; 4].into(), port: 68, mac: None });
    let relayed = wire.reply(&Packet::new(mac(1), &[REQUEST, &wrong]).giaddr([10, 1, 0, 1]));
    assert_eq!(relayed.to, To { address: [10, 1, 0, 1].into(), port: 67, mac: None });
    assert_eq!(relayed.bytes[10..12], [0x80, 0]);
}

fn d09_a_declined_address_is_kept_from_everyone(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    let asked = asks_for(own);
    wire.silence(&Packet::new(mac(2), &[DECLINE, US, &asked]));
    assert_eq!(wire.renew(mac(1), own).kind(), ACK, "only who has it can decline it");
    wire.silence(&Packet::new(mac(1), &[DECLINE, US, &asked]));
    let next = wire.discover(mac(1), &[&asked]);
    assert_ne!(next, own);
    assert_ne!(wire.discover(mac(2), &[&asked]), own);
    wire.advance(Duration::from_secs(601));
    assert_eq!(wire.discover(mac(3), &[&asked]), own, "the quarantine has an end");
}

fn d10_release_frees_what_is_the_client_s_own(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    let asked = asks_for(own);
    wire.silence(&Packet::new(mac(2), &[RELEASE, US]).ciaddr(own));
    wire.silence(&Packet::new(mac(1), &[RELEASE, OTHER]).ciaddr(own));
    wire.silence(&Packet::new(mac(1), &[RELEASE, US]).ciaddr([10, 0, 0, 101].into()));
    assert_ne!(wire.discover(mac(3), &[&asked]), own, "none of these was a release");
    wire.silence(&Packet::new(mac(1), &[RELEASE, US]).ciaddr(own));
    assert_eq!(wire.discover(mac(1), &[]), own, "remembered");
    wire.advance(Duration::from_secs(61));
    assert_eq!(wire.discover(mac(4), &[&asked]), own, "and free");
    // systemd-networkd does not say which server it means.
    let own = wire.lease(mac(5), &[]);
    wire.silence(&Packet::new(mac(5), &[RELEASE]).ciaddr(own));
    assert_eq!(wire.discover(mac(6), &[&asks_for(own)]), own);
}

fn d11_inform_gets_parameters_and_no_lease(wire: &mut dyn Wire) {
    let own = [10, 0, 0, 30].into();
    let ack = wire.reply(&Packet::new(mac(1), &[INFORM]).ciaddr(own));
    assert_eq!((ack.kind(), ack.address(12), &ack.bytes[16..20]), (ACK, own, &[0; 4][..]));
    assert_eq!(ack.option(6), Some(vec![10, 0, 0, 53]));
    assert!([51, 58, 59].iter().all(|&code| ack.option(code).is_none()));
    assert_eq!(ack.to, To { address: own, port: 68, mac: None });
    let mut inform =
        |last| wire.send(&Packet::new(mac(1), &[INFORM]).ciaddr([10, 0, 0, last].into())).len();
    assert_eq!(inform(100), 1);
    wire.silence(&Packet::new(mac(1), &[INFORM]));
    assert_eq!(
        wire.discover(mac(2), &[&asks_for([10, 0, 0, 100].into())]).octets(),
        [10, 0, 0, 100]
    );
}

fn d12_replies_go_where_the_client_can_hear(wire: &mut dyn Wire) {
    let plain = wire.reply(&Packet::new(mac(1), &[DISCOVER]));
    assert_eq!(plain.to, To { address: plain.yiaddr(), port: 68, mac: Some(mac(1)) });
    let broadcast = wire.reply(&Packet::new(mac(2), &[DISCOVER]).broadcast());
    assert_eq!(broadcast.to, To { address: [255; 4].into(), port: 68, mac: None });
    let relayed = wire.reply(&Packet::new(mac(3), &[DISCOVER]).giaddr([10, 1, 0, 1]).broadcast());
    assert_eq!(relayed.to, To { address: [10, 1, 0, 1].into(), port: 67, mac: None });
    let own = wire.lease(mac(4), &[]);
    let renewed = wire.reply(&Packet::new(mac(4), &[REQUEST]).ciaddr(own).broadcast());
    assert_eq!(renewed.to, To { address: own, port: 68, mac: None });
}

fn d13_clients_are_told_apart_by_identifier_then_hardware(wire: &mut dyn Wire) {
    let (id, other) = (&[61, 3, 0, b'a', b'b'][..], &[61, 3, 0, b'a', b'c'][..]);
    let own = wire.lease(mac(1), &[id]);
    assert_ne!(wire.discover(mac(1), &[other]), own);
    assert_ne!(wire.discover(mac(1), &[]), own);
    assert_eq!(wire.discover(mac(1), &[id]), own);
    wire.silence(&Packet::new(mac(1), &[RELEASE, US, id]).ciaddr(own));
    assert_eq!(wire.discover(mac(2), &[id]), own, "the same client in another machine");
}

fn d13_two_machines_with_one_identifier_get_two_addresses(wire: &mut dyn Wire) {
    let id = &[61, 5, 255, 0, 0, 0, 1][..];
    let first = wire.lease(mac(1), &[id]);
    let second = wire.lease(mac(2), &[id]);
    assert_ne!(first, second);
    for (mac, own) in [(mac(1), first), (mac(2), second)] {
        let ack = wire.reply(&Packet::new(mac, &[REQUEST, id]).ciaddr(own));
        assert_eq!((ack.kind(), ack.yiaddr()), (ACK, own));
    }
}

fn d13_nobody_gets_another_s_address_by_naming_its_hardware(wire: &mut dyn Wire) {
    let named = [&[61, 7, 1][..], &mac(1)].concat();
    let thief = wire.lease(mac(2), &[&named]);
    let own = wire.lease(mac(1), &[]);
    assert_ne!(thief, own);
    assert_eq!(wire.renew(mac(1), own).kind(), ACK);
    wire.silence(&Packet::new(mac(2), &[RELEASE, US, &named]).ciaddr(own));
    assert_eq!(wire.renew(mac(1), own).kind(), ACK);
}

fn d13_a_reservation_by_mac_is_for_the_machine(wire: &mut dyn Wire) {
    let printer = [0x52, 0x54, 0, 0, 0, 0x77];
    for id in [&[][..], &[61, 2, 0, 1], &[61, 5, 255, 0, 0, 0, 9]] {
        assert_eq!(wire.lease(printer, &[id]).octets(), [10, 0, 0, 77]);
    }
    assert_eq!(wire.lease(mac(9), &[&[61, 5, 255, 0, 0, 0, 0x78]]).octets(), [10, 0, 0, 78]);
}

fn d14_a_client_gets_its_address_again(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    assert_eq!(
        wire.discover(mac(1), &[&asks_for([10, 0, 0, 190].into())]),
        own,
        "current before asked for"
    );
    wire.advance(Duration::from_secs(4000));
    let other = wire.lease(mac(2), &[]);
    assert_ne!(other, own, "never used ones go first");
    assert_eq!(
        wire.discover(mac(1), &[&asks_for([10, 0, 0, 190].into())]),
        own,
        "previous before asked for"
    );
}

fn d14_a_new_client_gets_what_it_asks_for_if_free(wire: &mut dyn Wire) {
    assert_eq!(
        wire.discover(mac(1), &[&asks_for([10, 0, 0, 190].into())]).octets(),
        [10, 0, 0, 190]
    );
    for refused in [[10, 0, 0, 190], [10, 0, 0, 77], [10, 0, 0, 2], [10, 1, 0, 50], [10, 0, 0, 1]] {
        let offered = wire.discover(mac(2), &[&asks_for(refused.into())]).octets();
        assert_ne!(offered, refused);
        assert!(offered[..3] == [10, 0, 0] && (100..200).contains(&offered[3]));
    }
}

fn d15_a_bound_address_is_nobody_else_s(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    for other in 2..150 {
        for reply in wire.send(&Packet::new(mac(other), &[DISCOVER, &asks_for(own)])) {
            assert_ne!(reply.yiaddr(), own);
        }
    }
    assert_eq!(wire.select(mac(2), own, &[]).kind(), NAK);
    assert_eq!(wire.renew(mac(3), own).kind(), NAK);
    assert_eq!(wire.renew(mac(1), own).kind(), ACK);
}

fn d16_an_offer_is_held_a_minute(wire: &mut dyn Wire) {
    let offered = wire.discover(mac(1), &[]);
    wire.advance(Duration::from_secs(50));
    assert_ne!(wire.discover(mac(2), &[&asks_for(offered)]), offered);
    wire.advance(Duration::from_secs(11));
    assert_eq!(wire.discover(mac(3), &[&asks_for(offered)]), offered);
}

fn d17_the_same_question_gets_the_same_bytes(wire: &mut dyn Wire) {
    let discover = Packet::new(mac(1), &[DISCOVER]);
    let first = wire.reply(&discover);
    assert_eq!(wire.reply(&discover), first);
    let ack = wire.select(mac(1), first.yiaddr(), &[]);
    wire.advance(Duration::from_secs(1));
    assert_eq!(wire.select(mac(1), first.yiaddr(), &[]), ack);
}

fn d18_lease_times_are_bounded_and_ordered(wire: &mut dyn Wire) {
    for (asked, given) in [(60u32, 300u32), (1801, 1801), (u32::MAX, 3600)] {
        let option = [&[51, 4][..], &asked.to_be_bytes()].concat();
        let offer = wire.reply(&Packet::new(mac(1), &[DISCOVER, &option]));
        assert_eq!((offer.secs(51), offer.secs(58)), (Some(given), Some(given / 2)));
        assert_eq!(offer.secs(59), Some(given * 7 / 8));
    }
}

fn d18_leases_without_end_when_configured(wire: &mut dyn Wire) {
    let offer = wire.reply(&Packet::new(mac(1), &[DISCOVER, &[51, 4, 255, 255, 255, 255]]));
    assert_eq!((offer.secs(51), offer.secs(58), offer.secs(59)), (Some(u32::MAX), None, None));
    let own = wire.select(mac(1), offer.yiaddr(), &[]).yiaddr();
    wire.advance(Duration::from_secs(86_400 * 365));
    assert_ne!(wire.discover(mac(2), &[&asks_for(own)]), own);
}

fn d19_secs_and_hops_change_nothing(wire: &mut dyn Wire) {
    let plain = wire.reply(&Packet::new(mac(1), &[DISCOVER]));
    let other = wire.reply(&Packet::new(mac(1), &[DISCOVER]).set(3, &[3]).set(8, &[0xff, 0xff]));
    assert_eq!((other.bytes[3], other.options()), (3, plain.options()));
    assert_eq!(other.yiaddr(), plain.yiaddr());
}
