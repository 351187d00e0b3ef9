//! D23–D31, D51: what is read leniently, and what is no request.

use crate::dhcp::packet::*;
use crate::dhcp::wire::Wire;

cases! {
    Office:
        d23_padding_overload_and_a_missing_end_are_read,
        d23_options_after_the_end_are_not,
        d24_split_options_are_joined,
        d25_a_wrong_cookie_is_dropped_where_bootp_does_not_apply,
        d27_replies_to_the_server_port_are_dropped,
        d28_broken_headers_and_options_are_dropped,
        d29_unknown_message_types_are_dropped,
        d30_unknown_options_are_ignored,
        d31_a_second_type_or_identifier_is_dropped,
        d51_what_is_not_supported_is_dropped;
    Small:
        d25_without_bootp_the_cookie_must_be_right;
}

fn d23_padding_overload_and_a_missing_end_are_read(wire: &mut dyn Wire) {
    assert_eq!(wire.reply(&Packet::new(mac(1), &[&[0, 0], DISCOVER, &[0, 0, 0]])).kind(), OFFER);
    let mut endless = Packet::new(mac(1), &[DISCOVER]);
    endless.0.pop();
    assert_eq!(wire.reply(&endless).kind(), OFFER);
    // Type in `file`, identifier in `sname`.
    let overloaded = Packet::new(mac(1), &[&[52, 1, 3]])
        .set(108, &[53, 1, 1, 255])
        .set(44, &[0, 61, 2, 0, 7, 255]);
    assert_eq!(wire.reply(&overloaded).option(61), Some(vec![0, 7]));
    // Not overloaded: a server's name, whatever it looks like.
    let named = Packet::new(mac(1), &[DISCOVER]).set(44, &[61, 2, 0, 7, 255]);
    assert_eq!(wire.reply(&named).option(61), None);
}

fn d23_options_after_the_end_are_not(wire: &mut dyn Wire) {
    let offer = wire.reply(&Packet::new(mac(1), &[DISCOVER, &[255], &[61, 2, 0, 7], &[53, 1, 7]]));
    assert_eq!((offer.kind(), offer.option(61)), (OFFER, None));
}

fn d24_split_options_are_joined(wire: &mut dyn Wire) {
    let offer = wire.reply(&Packet::new(mac(1), &[&[55, 1, 6], DISCOVER, &[55, 2, 1, 42]]));
    assert_eq!(offer.codes(), [53, 54, 51, 58, 59, 6, 1, 42, 26]);
    let halves = wire.reply(&Packet::new(mac(2), &[DISCOVER, &[50, 2, 10, 0], &[50, 2, 0, 155]]));
    assert_eq!(halves.yiaddr().octets(), [10, 0, 0, 155]);
}

fn d25_a_wrong_cookie_is_dropped_where_bootp_does_not_apply(wire: &mut dyn Wire) {
    wire.silence(&Packet::new(mac(1), &[DISCOVER]).set(236, &[0]));
}

fn d25_without_bootp_the_cookie_must_be_right(wire: &mut dyn Wire) {
    wire.silence(&Packet::new(mac(1), &[DISCOVER]).set(239, &[98]));
    wire.silence(&Packet::new([0x52, 0x54, 0, 0, 0, 0x77], &[]));
    assert_eq!(wire.reply(&Packet::new(mac(1), &[DISCOVER])).kind(), OFFER);
}

fn d27_replies_to_the_server_port_are_dropped(wire: &mut dyn Wire) {
    for op in [0, 2, 3, 255] {
        wire.silence(&Packet::new(mac(1), &[DISCOVER]).set(0, &[op]));
    }
}

fn d28_broken_headers_and_options_are_dropped(wire: &mut dyn Wire) {
    let discover = || Packet::new(mac(1), &[DISCOVER]);
    for (at, value) in [(2, 17), (2, 255), (2, 5), (2, 0), (1, 7), (1, 32), (1, 0)] {
        wire.silence(&discover().set(at, &[value]));
    }
    for length in [0, 1, 4, 28, 43, 108, 235, 236, 239] {
        wire.silence(&Packet(discover().0[..length].to_vec()));
    }
    for cut in [
        &[61, 200, 1][..],
        &[61],
        &[54, 3, 10, 0, 0],
        &[50, 5, 10, 0, 0, 1, 1],
        &[57, 1, 5],
        &[51, 0],
    ] {
        let mut packet = Packet::new(mac(1), &[DISCOVER, cut]);
        packet.0.pop();
        wire.silence(&packet);
    }
    wire.silence(&Packet([discover().0, vec![0; 4096]].concat()));
    assert_eq!(wire.reply(&discover()).kind(), OFFER);
}

fn d29_unknown_message_types_are_dropped(wire: &mut dyn Wire) {
    for kind in [0, 2, 5, 6, 9, 10, 14, 19, 99, 255] {
        wire.silence(&Packet::new(mac(1), &[&[53, 1, kind]]));
    }
}

fn d30_unknown_options_are_ignored(wire: &mut dyn Wire) {
    let plain = wire.reply(&Packet::new(mac(1), &[DISCOVER]));
    let odd =
        wire.reply(&Packet::new(mac(1), &[DISCOVER, &[224, 3, 1, 2, 3], &[254, 0], &[145, 1, 1]]));
    assert_eq!(odd, plain);
}

fn d31_a_second_type_or_identifier_is_dropped(wire: &mut dyn Wire) {
    wire.silence(&Packet::new(mac(1), &[DISCOVER, REQUEST]));
    wire.silence(&Packet::new(mac(1), &[DISCOVER, &[61, 2, 0, 1], &[61, 2, 0, 2]]));
    // Said twice is said once.
    let offer = wire.reply(&Packet::new(mac(1), &[DISCOVER, &[61, 2, 0, 1], &[61, 2, 0, 1]]));
    assert_eq!(offer.option(61), Some(vec![0, 1]));
}

fn d51_what_is_not_supported_is_dropped(wire: &mut dyn Wire) {
    // FORCERENEW, lease queries by address, their answers; delayed authentication.
    for kind in 9..=18 {
        wire.silence(&Packet::new(mac(1), &[&[53, 1, kind]]).ciaddr([10, 0, 0, 100].into()));
    }
    wire.silence(&Packet::new(mac(1), &[DISCOVER, &[90, 11, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]]));
}
