//! Whatever comes: no panic, and an answer that another implementation reads.

use dhcproto::v6;
use dhcproto::{Decodable, Decoder, Encodable};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// As another library reads it: nothing of it is left out.
fn read(payload: &[u8]) -> v6::Message {
    let message = v6::Message::decode(&mut Decoder::new(payload)).unwrap();
    assert_eq!(message.to_vec().unwrap().len(), payload.len(), "{message:?}");
    message
}

/// One option of a message, often one that makes sense.
fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let addresses =
        vec(prop_oneof![Just(CURRENT), Just(PREVIOUS), Just(UNKNOWN), Just("::")], 0..4);
    let codes = vec(prop_oneof![Just(39_u16), 20..40_u16, 56..61_u16, 80..84_u16], 0..8);
    prop_oneof![
        4 => Just(CLIENT.to_vec()),
        4 => Just(US.to_vec()),
        1 => Just(RAPID_COMMIT.to_vec()),
        4 => (prop_oneof![Just(3_u16), Just(4), Just(25)], any::<u8>(), addresses)
            .prop_map(|(code, id, addresses)| association(code, id, &addresses)),
        2 => codes.prop_map(|codes| oro(&codes)),
        1 => Just(option(39, b"\x01\x03web")),
        1 => (0..140_u16, vec(any::<u8>(), 0..40)).prop_map(|(code, value)| option(code, &value)),
        1 => vec(any::<u8>(), 0..6),
    ]
}

fn any_datagram() -> impl Strategy<Value = Vec<u8>> {
    let options = vec(any_option(), 0..10).prop_map(|options| options.concat());
    let message = (0..24_u8, options).prop_map(|(kind, options)| message(kind, &[&options]));
    let relays = vec(vec(any::<u8>(), 0..12), 0..3);
    (message, relays).prop_map(|(inner, relays)| {
        relays.iter().fold(inner, |inner, interface| {
            [&[12, 0][..], &[0; 32], &option(18, interface), &option(9, &inner)].concat()
        })
    })
}

fn answers_well(octets: &[u8], unicast: bool) {
    let mut responder = Responder::new(moved()).unwrap();
    let datagram = Datagram { payload: octets, unicast };
    let first = responder.answer(now(), datagram);
    // The same question, the same octets.
    assert_eq!(responder.answer(now(), datagram), first);
    let Ok(Some(transmit)) = first else { return };
    let payload = &transmit.payload;
    assert!(payload.len() <= 1232);
    if transmit.destination == Destination::Client {
        let reply = read(payload);
        assert_eq!((reply.msg_type(), &reply.xid()[..]), (transmit.kind, &octets[1..4]));
        let client = reply.opts().get(v6::OptionCode::ClientId);
        let wanted = transmit.client.as_ref().map(|duid| duid.octets().to_vec());
        assert_eq!(client.cloned(), wanted.map(v6::DhcpOption::ClientId));
        let server = v6::DhcpOption::ServerId(US[4..].to_vec());
        assert_eq!(reply.opts().get(v6::OptionCode::ServerId), Some(&server));
    }
    // A server's own reply is none of its requests.
    let echoed = responder.answer(now(), Datagram { payload, unicast });
    assert_eq!(echoed, Err(Reason::NotARequest));
}

proptest! {
    #[test]
    fn v17_no_datagram_is_too_much(octets in vec(any::<u8>(), 0..200), unicast: bool) {
        answers_well(&octets, unicast);
    }

    #[test]
    fn v17_messages_of_any_options_are_answered_so_that_others_can_read_it(
        octets in any_datagram(),
        unicast: bool,
    ) {
        answers_well(&octets, unicast);
    }

    /// A right one, with an octet spoilt and its end cut off.
    #[test]
    fn v17_a_spoilt_message_does_no_harm(at in 0..100_usize, value: u8, cut in 0..100_usize) {
        let mut octets =
            message(RENEW, &[CLIENT, US, &oro(&[23, 39]), &ia_na(7, &[CURRENT, UNKNOWN])]);
        if let Some(octet) = octets.get_mut(at) {
            *octet = value;
        }
        octets.truncate(octets.len().saturating_sub(cut));
        answers_well(&octets, false);
    }
}
