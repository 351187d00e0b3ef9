//! Relay agents: what they wrapped is unwrapped, and wrapped again.

use super::*;

const RELAY_FORWARD: u8 = 12;
const RELAY_REPLY: u8 = 13;

/// Type, hop count, link address 2001:db8::hops, peer address fe80::hops.
fn head(kind: u8, hops: u8) -> Vec<u8> {
    let link = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[hops]].concat();
    let peer = [&[0xfe, 0x80][..], &[0; 13], &[hops]].concat();
    [&[kind, hops][..], &link, &peer].concat()
}

fn forward(hops: u8, options: &[&[u8]], inner: &[u8]) -> Vec<u8> {
    [head(RELAY_FORWARD, hops), options.concat(), option(9, inner)].concat()
}

fn solicit() -> Vec<u8> {
    message(SOLICIT, &[CLIENT, &ia_na(7, &[])])
}

fn plain() -> Vec<u8> {
    answer(&solicit()).unwrap().unwrap().payload
}

#[test]
fn v21_a_reply_goes_back_through_the_agents_it_came_by() {
    let interface = option(18, b"eth1");
    // Nothing else that an agent says comes back: its identifier (37), its subscriber (38).
    let inner = forward(0, &[&option(37, &[0; 4]), &interface, &option(38, b"x")], &solicit());
    let outer = forward(1, &[], &inner);
    let transmit = answer(&outer).unwrap().unwrap();
    let inner = [head(RELAY_REPLY, 0), interface, option(9, &plain())].concat();
    let wanted = [head(RELAY_REPLY, 1), option(9, &inner)].concat();
    assert_eq!(transmit.payload, wanted);
    assert_eq!((transmit.destination, transmit.kind), (Destination::Relay, MessageType::Advertise));
    assert_eq!(transmit.client, Duid::new(&CLIENT[4..]));
}

/// RFC 8357: an agent that asks from a port of its own.
#[test]
fn v21_an_agent_s_port_comes_back_and_the_last_one_s_is_where_the_reply_goes() {
    let port = option(135, &[0x12, 0x34]);
    let one = answer(&forward(0, &[&port], &solicit())).unwrap().unwrap();
    assert_eq!(one.destination, Destination::RelaySource);
    assert_eq!(one.payload, [head(RELAY_REPLY, 0), port.clone(), option(9, &plain())].concat());
    let two = answer(&forward(1, &[], &forward(0, &[&port], &solicit()))).unwrap().unwrap();
    assert_eq!(two.destination, Destination::Relay);
}

/// `HOP_COUNT_LIMIT`: the outermost one counts eight before it.
#[test]
fn v21_eight_agents_before_the_last_one_and_no_more() {
    let through = |agents: u8| (0..agents).fold(solicit(), |inner, at| forward(at, &[], &inner));
    let nine = answer(&through(9)).unwrap().unwrap().payload;
    assert_eq!(nine.len(), plain().len() + 9 * 38);
    assert_eq!(answer(&through(10)), Err(Reason::HopCount));
    assert_eq!(answer(&through(100)), Err(Reason::HopCount));
}

#[test]
fn v21_what_is_relayed_is_judged_as_what_is_not() {
    let through = |inner: &[u8]| answer(&forward(0, &[], inner));
    assert_eq!(through(&message(SOLICIT, &[])), Err(Reason::NoClientId));
    assert_eq!(through(&message(REQUEST, &[CLIENT, OTHER])), Err(Reason::OtherServer));
    assert_eq!(through(&message(RELAY_REPLY, &[])), Err(Reason::NotARequest));
    assert_eq!(through(&message(CONFIRM, &[CLIENT])), Ok(None));
    // An agent sends to us alone.
    let octets = forward(0, &[], &solicit());
    let mut responder = Responder::new(settings()).unwrap();
    let answer = responder.answer(now(), Datagram { payload: &octets, unicast: true });
    assert!(matches!(answer, Ok(Some(_))), "{answer:?}");
}

#[test]
fn v21_what_an_agent_sends_is_whole_and_has_one_message_in_it() {
    let whole = forward(0, &[], &solicit());
    for length in 1..34 {
        assert_eq!(answer(&whole[..length]), Err(Reason::Truncated), "{length}");
    }
    assert_eq!(answer(&whole[..34]), Err(Reason::NoRelayedMessage));
    for length in 35..whole.len() {
        assert_eq!(answer(&whole[..length]), Err(Reason::Malformed), "{length}");
    }
    let twice = [whole.clone(), option(9, &solicit())].concat();
    assert_eq!(answer(&twice), Err(Reason::Repeated));
    let ports = forward(0, &[&option(135, &[0; 2]).repeat(2)], &solicit());
    assert_eq!(answer(&ports), Err(Reason::Repeated));
}

#[test]
fn v21_agents_that_say_too_much_leave_no_room() {
    let through = |octets: usize| answer(&forward(0, &[&option(18, &vec![0; octets])], &solicit()));
    let room = 1232 - plain().len() - 38 - 4;
    assert_eq!(through(room).unwrap().unwrap().payload.len(), 1232);
    assert_eq!(through(room + 1), Err(Reason::NoRoom));
}
