//! What RFC 8415 §16 discards, and why it is discarded.

use super::*;

/// A message of each type that a server answers, without identifiers.
fn of_type(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    message(kind, &[&options.concat(), &[0, 8, 0, 2, 0, 0]])
}

/// Each type, and what becomes of it: without the client's identifier, without ours, with ours, with another server's.
#[test]
fn v17_identifiers_are_there_as_each_message_must_have_them() {
    use Reason::{NoClientId, NoServerId, OtherServer, ServerId};
    let (ok, to_any, to_us) = (None, Some(ServerId), Some(NoServerId));
    let table = [
        (SOLICIT, [Some(NoClientId), ok, to_any, to_any]),
        (REQUEST, [Some(NoClientId), to_us, ok, Some(OtherServer)]),
        (CONFIRM, [Some(NoClientId), ok, to_any, to_any]),
        (RENEW, [Some(NoClientId), to_us, ok, Some(OtherServer)]),
        (REBIND, [Some(NoClientId), ok, to_any, to_any]),
        (RELEASE, [Some(NoClientId), to_us, ok, Some(OtherServer)]),
        (DECLINE, [Some(NoClientId), to_us, ok, Some(OtherServer)]),
        (INFORMATION_REQUEST, [ok, ok, ok, Some(OtherServer)]),
    ];
    for (kind, [no_client, no_server, ours, other]) in table {
        // The one that is right is there, where one has to be.
        let right: &[u8] = if ours.is_none() { US } else { &[] };
        let association =
            if kind == INFORMATION_REQUEST { Vec::new() } else { ia_na(7, &[CURRENT]) };
        let cases = [
            (vec![right, &association], no_client),
            (vec![CLIENT, &association], no_server),
            (vec![CLIENT, US, &association], ours),
            (vec![CLIENT, OTHER, &association], other),
        ];
        for (options, reason) in cases {
            let answer = answer(&of_type(kind, &options));
            match reason {
                Some(reason) => assert_eq!(answer, Err(reason), "{kind} {options:x?}"),
                None => assert!(matches!(answer, Ok(Some(_))), "{kind} {options:x?}: {answer:?}"),
            }
        }
        // Without an identity association: nothing to say to a CONFIRM, else an answer as well.
        let without = answer(&of_type(kind, &[CLIENT, right])).unwrap();
        assert_eq!(without.is_none(), kind == CONFIRM, "{kind}");
    }
}

#[test]
fn v17_messages_that_are_not_for_a_server_are_discarded() {
    let cases = [
        (0, Reason::UnknownMessageType),
        (ADVERTISE, Reason::NotARequest),
        (REPLY, Reason::NotARequest),
        (10, Reason::Reconfigure),
        (13, Reason::NotARequest),
        (14, Reason::LeaseQuery),
        (15, Reason::LeaseQuery),
        (16, Reason::LeaseQuery),
        (17, Reason::LeaseQuery),
        (18, Reason::Reconfigure),
        (19, Reason::Reconfigure),
        (20, Reason::UnknownMessageType),
        (255, Reason::UnknownMessageType),
    ];
    for (kind, reason) in cases {
        assert_eq!(answer(&message(kind, &[CLIENT, US])), Err(reason), "{kind}");
    }
}

#[test]
fn v17_authentication_is_not_spoken() {
    let authenticated = message(SOLICIT, &[CLIENT, &option(11, &[0; 11]), &ia_na(7, &[])]);
    assert_eq!(answer(&authenticated), Err(Reason::Authentication));
}

#[test]
fn v17_options_that_are_cut_or_of_a_wrong_length_are_no_message() {
    let long = [0; 131];
    let wrong = [
        // Cut: the head, the value.
        vec![0],
        vec![0, 8, 0],
        vec![0, 8, 0, 2, 0],
        vec![0xff, 0xff, 0xff, 0xff],
        // Identifiers of 2 and of 131 octets.
        option(1, &[0, 3]),
        option(1, &long),
        option(2, &[0, 3]),
        // Too short, too long, odd.
        option(3, &[0; 11]),
        option(4, &[0; 3]),
        option(25, &[0; 11]),
        option(5, &[0; 23]),
        option(26, &[0; 24]),
        option(6, &[0; 3]),
        option(7, &[]),
        option(8, &[0]),
        option(8, &[0; 3]),
        option(9, &[12]),
        option(11, &[0; 10]),
        option(12, &[0; 15]),
        option(13, &[0]),
        option(14, &[0]),
        option(16, &[0; 3]),
        option(17, &[0; 3]),
        option(19, &[0; 2]),
        option(20, &[0]),
        option(32, &[0; 3]),
        option(39, &[]),
        option(82, &[0; 5]),
        option(83, &[0; 3]),
        option(135, &[0]),
    ];
    for octets in &wrong {
        let around = [
            message(SOLICIT, &[CLIENT, octets]),
            // In an association of each kind, and in an address or a prefix of it.
            message(SOLICIT, &[CLIENT, &option(3, &[&[0; 12][..], octets].concat())]),
            message(SOLICIT, &[CLIENT, &option(4, &[&[0; 4][..], octets].concat())]),
            message(SOLICIT, &[CLIENT, &option(25, &[&[0; 12][..], octets].concat())]),
            {
                let inner = option(5, &[&[0; 24][..], octets].concat());
                message(SOLICIT, &[CLIENT, &option(3, &[&[0; 12][..], &inner].concat())])
            },
            {
                let inner = option(26, &[&[0; 25][..], octets].concat());
                message(SOLICIT, &[CLIENT, &option(25, &[&[0; 12][..], &inner].concat())])
            },
        ];
        for (at, octets) in around.iter().enumerate() {
            assert_eq!(answer(octets), Err(Reason::Malformed), "{at}: {octets:x?}");
        }
    }
    for length in 0..4 {
        assert_eq!(answer(&[SOLICIT, 1, 2, 3][..length]), Err(Reason::Truncated));
    }
    assert_eq!(answer(&[SOLICIT, 1, 2, 3]), Err(Reason::NoClientId));
}

#[test]
fn v17_an_option_of_which_there_is_one_comes_once() {
    let twice: [(u16, &[u8]); 11] = [
        (1, &CLIENT[4..]),
        (2, &US[4..]),
        (6, &[0, 23]),
        (7, &[0]),
        (8, &[0, 0]),
        (12, &[0; 16]),
        (14, &[]),
        (15, &[]),
        (20, &[]),
        (39, &[0]),
        (82, &[0; 4]),
    ];
    for (code, value) in twice {
        let both = option(code, value).repeat(2);
        assert_eq!(answer(&message(SOLICIT, &[&both])), Err(Reason::Repeated), "{code}");
    }
    let inside = option(3, &[&[0; 12][..], &option(13, &[0, 0]).repeat(2)].concat());
    assert_eq!(answer(&message(SOLICIT, &[CLIENT, &inside])), Err(Reason::Repeated));
    // These may come again: vendor classes of several vendors, and whatever is not known.
    let again = [option(16, &[0; 4]).repeat(2), option(17, &[0; 4]).repeat(2)].concat();
    let unknown = option(0xfffe, &[1, 2, 3]).repeat(2);
    let asked = message(SOLICIT, &[CLIENT, &again, &unknown, &ia_na(7, &[])]);
    assert_eq!(reply(&asked).only(), lease(&[]));
}

/// RFC 8415 §16 and §18.4.
#[test]
fn v17_to_our_own_address_only_some_are_told_to_use_multicast() {
    let options = |kind| match kind {
        SOLICIT | CONFIRM | REBIND => vec![CLIENT],
        _ => vec![CLIENT, US],
    };
    for kind in [SOLICIT, CONFIRM, REBIND, INFORMATION_REQUEST] {
        let asked = message(kind, &options(kind));
        let mut responder = Responder::new(settings()).unwrap();
        let answer = responder.answer(now(), Datagram { payload: &asked, unicast: true });
        assert_eq!(answer, Err(Reason::Unicast), "{kind}");
    }
    for kind in [REQUEST, RENEW, RELEASE, DECLINE] {
        let asked = message(kind, &[CLIENT, US, &ia_na(7, &[CURRENT]), &oro(&[82])]);
        let mut responder = Responder::new(settings()).unwrap();
        let datagram = Datagram { payload: &asked, unicast: true };
        let transmit = responder.answer(now(), datagram).unwrap().unwrap();
        let reply = Reply::of(&transmit.payload);
        assert_eq!((reply.kind, reply.status()), (REPLY, Some(USE_MULTICAST)));
        assert_eq!(reply.codes(), [1, 2, 13]);
        assert!(transmit.status == Some(Status::UseMulticast) && transmit.addresses.is_empty());
        assert_eq!(responder.counts(), &BTreeMap::from([(Reason::UseMulticast, 1)]));
        // One that is discarded anyway is not answered so.
        let other = message(kind, &[CLIENT, OTHER]);
        let answer = responder.answer(now(), Datagram { payload: &other, unicast: true });
        assert_eq!(answer, Err(Reason::OtherServer));
    }
}

#[test]
fn v17_what_is_discarded_is_counted() {
    let mut responder = Responder::new(settings()).unwrap();
    for octets in [&[][..], &[SOLICIT], &[2, 0, 0, 0], &[0; 5000]] {
        let _ = responder.answer(now(), Datagram { payload: octets, unicast: false });
    }
    let counts = [(Reason::TooLong, 1), (Reason::Truncated, 2), (Reason::NotARequest, 1)];
    assert_eq!(responder.counts(), &BTreeMap::from(counts));
}

/// The longest datagram that is looked at: its reply would be too long, and the next longer one is not read.
#[test]
fn v17_a_reply_that_no_packet_has_room_for_is_not_sent() {
    let fill = |octets: usize| {
        let mut asked = message(RENEW, &[CLIENT, US, &ia_na(7, &[])]);
        while octets - asked.len() > 200 {
            asked.extend(association(4, 1, &[]));
        }
        let rest = octets - asked.len() - 4;
        asked.extend(option(0xfffe, &vec![0; rest]));
        asked
    };
    assert_eq!(answer(&fill(4096)), Err(Reason::NoRoom));
    assert_eq!(answer(&fill(4097)), Err(Reason::TooLong));
    // One with few of them is answered, however long it is.
    let asked = message(RENEW, &[CLIENT, US, &ia_na(7, &[]), &option(0xfffe, &[0; 4000])]);
    assert_eq!(reply(&asked).only(), lease(&[]));
}
