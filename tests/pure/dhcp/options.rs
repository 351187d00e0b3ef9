//! D20–D22, D36–D48: what a reply says.

use crate::dhcp::packet::*;
use crate::dhcp::wire::Wire;

cases! {
    Office:
        d20_replies_are_no_longer_than_the_client_takes,
        d21_options_come_in_the_order_they_were_asked_for,
        d21_who_asks_for_nothing_gets_the_usual_and_the_configured,
        d22_what_does_not_fit_overloads_the_fields_then_is_left_out_whole,
        d36_rapid_commit_is_for_those_who_are_allowed,
        d37_the_client_identifier_is_echoed,
        d38_identifiers_are_opaque_and_compared_whole,
        d39_classless_routes_are_sent_when_asked_for,
        d41_the_search_list_is_compressed,
        d42_names_are_sent_without_dots_at_the_end,
        d43_the_fqdn_is_answered_in_the_client_s_form,
        d44_a_small_mtu_is_told_unasked,
        d45_what_is_configured_is_passed_on,
        d47_ipv6_only_is_for_those_who_ask,
        d48_the_captive_portal_is_told_to_who_asks;
    Small:
        d36_rapid_commit_acks_at_once,
        d40_a_router_outside_of_the_network_gets_a_route_first;
}

fn offer(wire: &mut dyn Wire, options: &[&[u8]]) -> Reply {
    wire.reply(&Packet::new(mac(1), &[&[DISCOVER], options].concat()))
}

fn d20_replies_are_no_longer_than_the_client_takes(wire: &mut dyn Wire) {
    let all: Vec<u8> = [55, 254].into_iter().chain(1..=254).collect();
    let id = [&[61, 255][..], &[7; 255]].concat();
    for (size, max) in [
        (None, 576),
        (Some(300u16), 576),
        (Some(576), 576),
        (Some(700), 700),
        (Some(u16::MAX), 1500),
    ] {
        let option =
            size.map(|size| [&[57, 2][..], &size.to_be_bytes()].concat()).unwrap_or_default();
        let reply = offer(wire, &[&all, &id, &option]);
        assert!((300..=max - 28).contains(&reply.bytes.len()), "{size:?}: {}", reply.bytes.len());
        assert!(
            [53, 54, 61, 51, 58, 59, 1].iter().all(|&code| reply.option(code).is_some()),
            "{size:?}"
        );
    }
}

fn d21_options_come_in_the_order_they_were_asked_for(wire: &mut dyn Wire) {
    let reply = offer(wire, &[&[55, 9, 119, 6, 3, 222, 42, 1, 12, 15, 6]]);
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 119, 6, 3, 42, 1, 15, 26]);
    let reply = offer(wire, &[&[55, 2, 224, 3]]);
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 224, 3, 26]);
    assert_eq!(reply.option(224), Some(vec![0xaa, 0xbb, 0xcc]));
}

fn d21_who_asks_for_nothing_gets_the_usual_and_the_configured(wire: &mut dyn Wire) {
    let reply = offer(wire, &[&[57, 2, 5, 0xdc]]);
    assert_eq!(
        reply.codes(),
        [53, 54, 51, 58, 59, 1, 3, 6, 15, 28, 26, 119, 42, 100, 101, 114, 120, 224, 252]
    );
}

fn d22_what_does_not_fit_overloads_the_fields_then_is_left_out_whole(wire: &mut dyn Wire) {
    // With this identifier 307 - 291 octets are left of 548, then 127 in `file` and 63 in `sname`.
    let id = [&[61, 255][..], &[7; 255]].concat();
    let reply = offer(wire, &[&id, &[55, 8, 101, 100, 252, 114, 119, 42, 6, 15]]);
    assert!(reply.bytes.len() <= 548);
    let overload = reply.option(52).expect("more than the options field holds");
    assert_eq!(overload, [3]);
    assert_eq!(reply.text(101).as_deref(), Some("Europe/Amsterdam"));
    assert_eq!(reply.text(252).as_deref(), Some("http://wpad.example.org/wpad.dat"));
    assert_eq!(reply.text(114).as_deref(), Some("https://10.0.0.1/captive"));
    assert_eq!(reply.option(42), Some(vec![10, 0, 0, 123]));
    // All of it, and nothing that was not asked for.
    let all = offer(
        wire,
        &[
            &id,
            &[55, 14, 101, 100, 252, 114, 119, 42, 6, 15, 120, 224, 28, 3, 121, 249],
            &[57, 2, 2, 64],
        ],
    );
    for (code, value) in all.options() {
        let whole = offer(wire, &[&id, &[55, 1, code], &[57, 2, 5, 0xdc]]).option(code);
        assert!(code == 52 || whole == Some(value), "option {code} is cut");
    }
}

fn d36_rapid_commit_is_for_those_who_are_allowed(wire: &mut dyn Wire) {
    let reply = offer(wire, &[&[80, 0]]);
    assert_eq!((reply.kind(), reply.option(80)), (OFFER, None));
}

fn d36_rapid_commit_acks_at_once(wire: &mut dyn Wire) {
    let ack = offer(wire, &[&[80, 0]]);
    assert_eq!((ack.kind(), ack.option(80)), (ACK, Some(vec![])));
    assert_eq!(wire.renew(mac(1), ack.yiaddr()).kind(), ACK, "it is bound");
    let plain = wire.reply(&Packet::new(mac(2), &[DISCOVER]));
    assert_eq!((plain.kind(), plain.option(80)), (OFFER, None));
}

fn d37_the_client_identifier_is_echoed(wire: &mut dyn Wire) {
    assert_eq!(offer(wire, &[&[61, 4, 255, 1, 2, 3]]).option(61), Some(vec![255, 1, 2, 3]));
    assert_eq!(offer(wire, &[]).option(61), None);
}

fn d38_identifiers_are_opaque_and_compared_whole(wire: &mut dyn Wire) {
    let duid = |last| [61, 15, 255, 1, 2, 3, 4, 0, 2, 0, 0, 0xab, 0x11, 9, 8, 7, last];
    let own = wire.lease(mac(1), &[&duid(1)]);
    assert_ne!(wire.lease(mac(1), &[&duid(2)]), own);
    assert_eq!(wire.discover(mac(1), &[&duid(1)]), own);
    // As short and as long as they come; none at all counts as not sent.
    for id in [&[61, 1, 255][..], &[61, 1, 0], &[&[61, 255][..], &[3; 255]].concat()] {
        assert_eq!(offer(wire, &[id]).option(61).as_deref(), Some(&id[2..]));
    }
    assert_eq!(offer(wire, &[&[61, 0]]).option(61), None);
}

fn d39_classless_routes_are_sent_when_asked_for(wire: &mut dyn Wire) {
    let both = offer(wire, &[&[55, 3, 121, 249, 3]]);
    let route = Some(vec![0, 10, 0, 0, 254]);
    assert_eq!((both.option(121), both.option(249)), (route.clone(), route));
    assert_eq!(both.option(3), Some(vec![10, 0, 0, 254]));
    assert_eq!(offer(wire, &[&[55, 1, 121]]).option(3), None);
    assert_eq!(offer(wire, &[]).option(121), None);
}

fn d40_a_router_outside_of_the_network_gets_a_route_first(wire: &mut dyn Wire) {
    let routes = offer(wire, &[&[55, 1, 121]]).option(121);
    assert_eq!(routes, Some(vec![32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1]));
}

fn d41_the_search_list_is_compressed(wire: &mut dyn Wire) {
    let list = offer(wire, &[&[55, 1, 119]]).option(119);
    assert_eq!(list, Some(b"\x03lab\x07example\x03org\x00\xc0\x04".to_vec()));
}

fn d42_names_are_sent_without_dots_at_the_end(wire: &mut dyn Wire) {
    assert_eq!(offer(wire, &[&[55, 1, 15]]).text(15).as_deref(), Some("example.org"));
    let printer = Packet::new([0x52, 0x54, 0, 0, 0, 0x77], &[DISCOVER, &[55, 1, 12]]);
    assert_eq!(wire.reply(&printer).text(12).as_deref(), Some("printer"));
}

fn d43_the_fqdn_is_answered_in_the_client_s_form(wire: &mut dyn Wire) {
    let mut fqdn = |mac, value: &[u8]| {
        let option = [&[81, u8::try_from(value.len()).unwrap()], value].concat();
        wire.reply(&Packet::new(mac, &[DISCOVER, &option])).option(81)
    };
    // No update by the server (N), its wish for one overridden (O), the form (E) as asked.
    assert_eq!(
        fqdn(mac(1), b"\x05\0\0\x03web").unwrap(),
        b"\x0e\xff\xff\x03web\x07example\x03org\0"
    );
    assert_eq!(fqdn(mac(1), b"\x04\0\0\x03web\x03lab\0").unwrap(), b"\x0c\xff\xff\x03web\x03lab\0");
    assert_eq!(fqdn(mac(1), b"\x00\0\0web").unwrap(), b"\x08\xff\xffweb.example.org");
    assert_eq!(fqdn(mac(1), b"\x01\0\0web.lab").unwrap(), b"\x0a\xff\xffweb.lab");
    assert_eq!(fqdn(mac(1), b"\x01\0\0web.lab\0").unwrap(), b"\x0a\xff\xffweb.lab");
    // Reserved names win; what is no name is not repeated.
    assert_eq!(
        fqdn([0x52, 0x54, 0, 0, 0, 0x77], b"\x00\0\0web").unwrap(),
        b"\x08\xff\xffprinter.example.org"
    );
    assert_eq!(fqdn(mac(1), b"\x04\0\0\x3fweb").unwrap(), b"\x0c\xff\xff");
    assert_eq!(fqdn(mac(1), b"\x00\0\0w\x01b").unwrap(), b"\x08\xff\xff");
    assert_eq!(fqdn(mac(1), b"\x00"), None);
}

fn d44_a_small_mtu_is_told_unasked(wire: &mut dyn Wire) {
    assert_eq!(offer(wire, &[&[55, 1, 3]]).option(26), Some(vec![5, 120]));
}

fn d45_what_is_configured_is_passed_on(wire: &mut dyn Wire) {
    let reply = offer(wire, &[&[55, 5, 42, 100, 101, 120, 252]]);
    assert_eq!(reply.option(42), Some(vec![10, 0, 0, 123]));
    assert_eq!(reply.text(100).as_deref(), Some("CET-1CEST,M3.5.0,M10.5.0/3"));
    assert_eq!(reply.text(101).as_deref(), Some("Europe/Amsterdam"));
    assert_eq!(reply.option(120), Some(vec![1, 10, 0, 0, 0x78]));
    assert_eq!(reply.text(252).as_deref(), Some("http://wpad.example.org/wpad.dat"));
}

fn d47_ipv6_only_is_for_those_who_ask(wire: &mut dyn Wire) {
    assert_eq!(
        offer(wire, &[&[55, 2, 1, 108]]).secs(108),
        Some(300),
        "60 s were configured: below the least"
    );
    assert_eq!(offer(wire, &[&[57, 2, 5, 0xdc]]).option(108), None);
}

fn d48_the_captive_portal_is_told_to_who_asks(wire: &mut dyn Wire) {
    assert_eq!(
        offer(wire, &[&[55, 1, 114]]).text(114).as_deref(),
        Some("https://10.0.0.1/captive")
    );
    assert_eq!(offer(wire, &[&[55, 1, 1]]).option(114), None);
}
