//! D49, D52, D54, D59, D60: what is done when there is little left, of addresses, of time, of patience.

use std::time::Duration;

use crate::dhcp::packet::*;
use crate::dhcp::wire::Wire;

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
    assert_eq!(
        (none.kind(), &none.bytes[16..20], none.option(116)),
        (OFFER, &[0; 4][..], Some(vec![0]))
    );
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

fn d59_one_client_is_limited_and_others_are_not(wire: &mut dyn Wire) {
    let own = wire.lease(mac(1), &[]);
    let flood =
        (0..50).filter(|_| !wire.send(&Packet::new(mac(2), &[DISCOVER])).is_empty()).count();
    assert!((1..=6).contains(&flood), "{flood} of 50 answered");
    assert_eq!(wire.send(&Packet::new(mac(3), &[DISCOVER])).len(), 1, "another client");
    wire.advance(Duration::from_secs(2));
    assert_eq!(wire.send(&Packet::new(mac(2), &[DISCOVER])).len(), 1, "limited, not banned");
    // Many names of one flood: all that is new waits, who renews does not.
    let flood = (100..1000)
        .filter(|&other| !wire.send(&Packet::new(mac(other), &[DISCOVER])).is_empty())
        .count();
    assert!((1..=60).contains(&flood), "{flood} of 900 answered");
    for _ in 0..100 {
        wire.send(&Packet::new(mac(1), &[DISCOVER]));
    }
    assert_eq!(wire.renew(mac(1), own).kind(), ACK);
}
