//! Servers as they are found: they contradict themselves, leave the question out, or do not know EDNS.

use super::*;

const TTL: Duration = Duration::from_secs(300);

fn aaaa_for(text: &str) -> Vec<u8> {
    question(text, RecordType::AAAA).to_vec().unwrap()
}

fn denied(asked: &Asked) -> Message {
    let mut reply = asked.reply(ResponseCode::NXDomain);
    reply.add_authority(memory::soa(300, 300));
    reply
}

fn found(bench: &mut Bench, asked: &Asked, ttl: u32) {
    let mut reply = asked.found();
    reply.answers[0].ttl = ttl;
    bench.reply(asked, &reply).unwrap();
    assert_eq!(code(&bench.answer()), ResponseCode::NoError);
}

/// A balancer that has an address, and for AAAA says that there is no such name (RFC 8020 would have it gone).
#[test]
fn n10_a_name_that_has_an_address_is_not_gone_when_it_is_not_there_for_another_type() {
    for edns in [false, true] {
        let mut bench = Bench::new();
        let mut first = question(PLAIN, RecordType::A);
        if edns {
            first.set_edns(Edns::new());
        }
        let asked = bench.asks(&first.to_vec().unwrap());
        found(&mut bench, &asked, 2);
        bench.now += Duration::from_secs(1);
        let asked = bench.asks(&aaaa_for(PLAIN));
        bench.reply(&asked, &denied(&asked)).unwrap();
        assert_eq!(code(&bench.answer()), ResponseCode::NXDomain);
        assert_eq!(
            code(&bench.local(&aaaa_for(PLAIN))),
            ResponseCode::NXDomain,
            "that type is remembered"
        );
        bench.now += Duration::from_secs(5);
        let asked = bench.asks(&ask_for(PLAIN));
        found(&mut bench, &asked, 2);
        // A day and more after the last address nobody knows of one.
        bench.now += Duration::from_secs(2 * 86_400);
        let asked = bench.asks(&aaaa_for(PLAIN));
        bench.reply(&asked, &denied(&asked)).unwrap();
        bench.answer();
        assert_eq!(code(&bench.local(&ask_for(PLAIN))), ResponseCode::NXDomain);
    }
}

/// Both asked at once, as every stub resolver does, in either order of the answers.
#[test]
fn n10_an_address_ends_what_was_said_of_its_name_by_another_type() {
    for address_first in [true, false] {
        let mut bench = Bench::new();
        let (four, six) = (bench.asks(&ask_for(PLAIN)), bench.asks(&aaaa_for(PLAIN)));
        if address_first {
            found(&mut bench, &four, 2);
        }
        bench.reply(&six, &denied(&six)).unwrap();
        bench.answer();
        if !address_first {
            found(&mut bench, &four, 2);
        }
        bench.now += Duration::from_secs(5);
        bench.asks(&ask_for(PLAIN));
    }
}

#[test]
fn n10_a_name_that_goes_is_gone_for_all_types() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    found(&mut bench, &asked, 2);
    bench.now += Duration::from_secs(5);
    let asked = bench.asks(&ask_for(PLAIN));
    bench.reply(&asked, &denied(&asked)).unwrap();
    bench.answer();
    assert_eq!(code(&bench.local(&aaaa_for(PLAIN))), ResponseCode::NXDomain);
}

#[test]
fn without_ipv6_a_name_is_there_or_not_as_it_is_for_ipv4() {
    let mut bench = Bench::with(Settings { aaaa: false, ..settings() });
    let asked = bench.asks(&aaaa_for(PLAIN));
    assert_eq!(asked.message().queries[0].query_type(), RecordType::A);
    bench.reply(&asked, &asked.found()).unwrap();
    let answer = bench.answer();
    assert_eq!(answer.queries[0].query_type(), RecordType::AAAA);
    let kinds: Vec<_> = answer.authorities.iter().map(Record::record_type).collect();
    assert_eq!(
        (code(&answer), answer.answers.len(), kinds),
        (ResponseCode::NoError, 0, vec![RecordType::SOA])
    );
    assert_eq!(bench.local(&aaaa_for(PLAIN)).answers.len(), 0, "remembered");
    // What is asked for by IPv4 is its own question, and its answer.
    let asked = bench.asks(&ask_for(PLAIN));
    found(&mut bench, &asked, 300);

    let none = "no.b.c.d.e.example.";
    let asked = bench.asks(&aaaa_for(none));
    bench.reply(&asked, &denied(&asked)).unwrap();
    let answer = bench.answer();
    assert_eq!(
        (code(&answer), answer.queries[0].query_type()),
        (ResponseCode::NXDomain, RecordType::AAAA)
    );
    assert_eq!(answer.authorities.len(), 1);
    assert_eq!(code(&bench.local(&ask_for(none))), ResponseCode::NXDomain);
}

#[test]
fn without_ipv6_short_names_are_searched_and_local_ones_are_as_they_are() {
    let mut bench = Bench::with(Settings { aaaa: false, domain: Some("lan".into()), ..settings() });
    let asked = bench.asks(&aaaa_for("db."));
    bench.reply(&asked, &asked.found()).unwrap();
    let answer = bench.answer();
    assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(answer.queries[0].name(), &name("db."));
    assert_eq!(code(&bench.local(&aaaa_for("nobody.lan."))), ResponseCode::NXDomain);
    assert_eq!(bench.local(&aaaa_for("localhost.")).answers.len(), 1);
    // Plain or not: a CD bit, options of EDNS.
    let mut odd = question(PLAIN, RecordType::AAAA);
    odd.metadata.recursion_desired = false;
    odd.metadata.authentic_data = true;
    odd.add_additional(Record::from_rdata(name("x."), 0, RData::A(A(FOUND))));
    let asked = bench.asks(&odd.to_vec().unwrap());
    assert_eq!(asked.message().queries[0].query_type(), RecordType::A);
    bench.reply(&asked, &asked.found()).unwrap();
    assert_eq!(bench.answer().answers.len(), 0);
}

#[test]
fn that_no_server_answers_is_known_after_the_second_silence_of_each() {
    let mut bench = Bench::new();
    let fail = |bench: &mut Bench, number: usize| {
        bench.query(Over::Udp, &numbered(number)).unwrap();
        loop {
            match bench.forwarder.poll() {
                Some(Output::Ask { ask, .. }) => {
                    bench.forwarder.handle(bench.now, Input::Failed { ask }).unwrap();
                }
                Some(Output::Answer { .. }) => return,
                _ => {}
            }
        }
    };
    assert!(!bench.forwarder.is_without_servers());
    // Asked by two, each server once more.
    fail(&mut bench, 1);
    assert!(bench.forwarder.is_without_servers());
    let asked = bench.asks(&numbered(2));
    bench.reply(&asked, &asked.reply(ResponseCode::ServFail)).unwrap();
    assert!(!bench.forwarder.is_without_servers(), "that it will not is an answer");
    let none = Settings { upstreams: vec![], ..settings() };
    bench.forwarder.reconfigure(none);
    assert!(!bench.forwarder.is_without_servers());
}

fn bare(asked: &Asked, code: u8) -> Vec<u8> {
    let mut bytes = asked.bytes[..12].to_vec();
    (bytes[2], bytes[3]) = (0x80 | bytes[2], code);
    bytes[4..12].fill(0);
    bytes
}

#[test]
fn n18_an_error_without_the_question_sends_to_the_next_server_at_once() {
    for (error, told) in [
        (1, ResponseCode::FormErr),
        (2, ResponseCode::ServFail),
        (4, ResponseCode::ServFail),
        (5, ResponseCode::ServFail),
    ] {
        let mut bench = Bench::new();
        let began = bench.now;
        let asked = bench.asks(&ask_for(PLAIN));
        bench
            .forwarder
            .handle(bench.now, Input::Reply { ask: asked.ask, bytes: &bare(&asked, error) })
            .unwrap();
        let next = bench.asked();
        assert_ne!(next.server, asked.server);
        found(&mut bench, &next, 300);
        // All of them, over and over: the client hears what it can do something about, and at once.
        bench.query(Over::Udp, &ask_for("other.b.c.d.e.example.")).unwrap();
        let mut asks = 0;
        let answer = loop {
            match bench.forwarder.poll() {
                Some(Output::Ask { ask, server, over, bytes }) => {
                    asks += 1;
                    let bytes = bare(&Asked { ask, server, over, bytes }, error);
                    bench.forwarder.handle(bench.now, Input::Reply { ask, bytes: &bytes }).unwrap();
                }
                Some(Output::Answer { bytes, .. }) => break Message::from_vec(&bytes).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((code(&answer), asks, bench.now), (told, 4, began));
        assert_eq!(answer.queries.len(), 1);
    }
}

#[test]
fn n14_a_header_alone_that_is_no_error_or_not_for_us_is_waited_on() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = bare(&asked, 5);
        change(&mut bytes);
        bytes
    };
    for wrong in [
        with(|bytes| bytes[3] = 0),
        with(|bytes| bytes[3] = 3),
        with(|bytes| bytes[0] ^= 1),
        with(|bytes| bytes[2] &= 0x7f),
        with(|bytes| bytes[5] = 1),
        with(|bytes| bytes[7] = 1),
        with(|bytes| bytes.truncate(11)),
    ] {
        let taken =
            bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &wrong });
        assert_eq!(taken, Err(Reason::Mismatch), "{wrong:?}");
    }
    // Nor is the answer to the question in another class.
    let mut other = asked.found().to_vec().unwrap();
    other[12 + PLAIN.len() + 1 + 3] = 3;
    let taken = bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &other });
    assert_eq!(taken, Err(Reason::Mismatch));
    // Another case of its letters is the same question.
    let mut reply = asked.found().to_vec().unwrap();
    reply[12..12 + PLAIN.len()].make_ascii_uppercase();
    bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &reply }).unwrap();
    assert_eq!(code(&bench.answer()), ResponseCode::NoError);
}

/// BADVERS and BADCOOKIE are NOERROR and YXRRSET to who does not look at EDNS (RFC 6891 §6.1.3).
#[test]
fn n18_codes_of_edns_and_of_updates_send_to_the_next_server() {
    for refusal in [ResponseCode::BADVERS, ResponseCode::BADCOOKIE, ResponseCode::NotAuth] {
        let mut bench = Bench::new();
        let mut asking = question(PLAIN, RecordType::A);
        asking.set_edns(Edns::new());
        let asked = bench.asks(&asking.to_vec().unwrap());
        let mut reply = asked.reply(refusal);
        reply.set_edns(Edns::new());
        bench.reply(&asked, &reply).unwrap();
        assert_ne!(bench.asked().server, asked.server, "{refusal}");
    }
}

/// Row by row what an old server's FORMERR means: the client asks without EDNS.
#[test]
fn n07_a_format_error_with_the_question_is_the_clients() {
    let mut bench = Bench::new();
    let mut asking = question(PLAIN, RecordType::A);
    asking.set_edns(Edns::new());
    let asked = bench.asks(&asking.to_vec().unwrap());
    let mut reply = asked.reply(ResponseCode::FormErr);
    reply.edns = None;
    bench.reply(&asked, &reply).unwrap();
    assert_eq!(code(&bench.answer()), ResponseCode::FormErr);
    bench.now += TTL;
    let asked = bench.asks(&ask_for(PLAIN));
    found(&mut bench, &asked, 300);
}

/// Its answers do not fit, and TCP is closed: there is no good answer, but a quick one.
#[test]
fn n06_cut_answers_and_tcp_refused_is_a_failure_at_once() {
    let mut bench = Bench::new();
    bench.query(Over::Udp, &ask_for(PLAIN)).unwrap();
    let mut asks = Vec::new();
    let answer = loop {
        match bench.forwarder.poll() {
            Some(Output::Ask { ask, server, over, bytes }) => {
                asks.push(over);
                if over == Over::Tcp {
                    bench.forwarder.handle(bench.now, Input::Failed { ask }).unwrap();
                    continue;
                }
                let mut reply = Asked { ask, server, over, bytes }.reply(ResponseCode::NoError);
                reply.metadata.truncation = true;
                let bytes = reply.to_vec().unwrap();
                bench.forwarder.handle(bench.now, Input::Reply { ask, bytes: &bytes }).unwrap();
            }
            Some(Output::Answer { bytes, .. }) => break Message::from_vec(&bytes).unwrap(),
            Some(Output::Forget { .. }) => {}
            None => panic!("it is waited on"),
        }
    };
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert_eq!(asks, [Over::Udp, Over::Tcp].repeat(4));
}

/// What a server may do with a question.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answers,
    Denies,
    HasNothing,
    Refuses(u8),
    RefusesBare(u8),
    Cuts,
    BadVersion,
    Spoils,
    Fails,
    IsSilent,
}

fn does() -> impl proptest::strategy::Strategy<Value = Does> {
    use proptest::prelude::*;
    prop_oneof![
        Just(Does::Answers),
        Just(Does::Denies),
        Just(Does::HasNothing),
        (0u8..16).prop_map(Does::Refuses),
        (0u8..16).prop_map(Does::RefusesBare),
        Just(Does::Cuts),
        Just(Does::BadVersion),
        Just(Does::Spoils),
        Just(Does::Fails),
        Just(Does::IsSilent),
    ]
}

/// The server's bytes; None: none come.
fn done(asked: &Asked, does: Does) -> Option<Vec<u8>> {
    let mut reply = match does {
        Does::Answers | Does::Cuts | Does::Spoils => asked.found(),
        Does::Denies => denied(asked),
        Does::HasNothing => asked.reply(ResponseCode::NoError),
        Does::Refuses(low) => asked.reply(ResponseCode::from_low(low)),
        Does::RefusesBare(low) => return Some(bare(asked, low)),
        Does::BadVersion => asked.reply(ResponseCode::BADVERS),
        Does::Fails | Does::IsSilent => return None,
    };
    reply.metadata.truncation = matches!(does, Does::Cuts);
    if matches!(does, Does::BadVersion) {
        reply.set_edns(Edns::new());
    }
    let mut bytes = reply.to_vec().unwrap();
    if matches!(does, Does::Spoils) {
        bytes[7] = 9;
    }
    Some(bytes)
}

proptest::proptest! {
    /// Whatever servers do, who asks hears one thing, before it asks again, and no server is asked without end.
    #[test]
    fn every_question_has_one_answer_in_time(
        script in proptest::collection::vec(does(), 1..12),
        short in proptest::bool::ANY,
        six in proptest::bool::ANY,
        aaaa in proptest::bool::ANY,
    ) {
        let mut bench = Bench::with(Settings { aaaa, ..settings() });
        let kind = if six { RecordType::AAAA } else { RecordType::A };
        let asking = question(if short { "db." } else { PLAIN }, kind);
        bench.query(Over::Udp, &asking.to_vec().unwrap()).unwrap();
        let (began, mut script, mut asks, mut answers) = (bench.now, script.iter().cycle(), 0, Vec::new());
        while answers.is_empty() {
            match bench.forwarder.poll() {
                Some(Output::Ask { ask, server, over, bytes }) => {
                    asks += 1;
                    let (asked, does) = (Asked { ask, server, over, bytes }, *script.next().unwrap());
                    match done(&asked, does) {
                        Some(bytes) => drop(bench.forwarder.handle(bench.now, Input::Reply { ask, bytes: &bytes })),
                        None if matches!(does, Does::Fails) => {
                            bench.forwarder.handle(bench.now, Input::Failed { ask }).unwrap();
                        }
                        None => {}
                    }
                }
                Some(Output::Answer { bytes, .. }) => answers.push(Message::from_vec(&bytes).unwrap()),
                Some(Output::Forget { .. }) => {}
                None => bench.wait(),
            }
        }
        while let Some(output) = bench.forwarder.poll() {
            proptest::prop_assert!(!matches!(output, Output::Answer { .. }), "a second answer");
        }
        let answer = &answers[0];
        proptest::prop_assert_eq!(&answer.queries, &asking.queries);
        proptest::prop_assert!(bench.now - began <= BUDGET);
        // Three names, two servers, twice round, by UDP and TCP.
        proptest::prop_assert!(asks <= 3 * 2 * 2 * 2, "{} asks", asks);
        proptest::prop_assert!(aaaa || !six || answer.answers.iter().all(|record| record.record_type() != RecordType::A));
    }

    /// No address that was told within the day is denied from memory because of another type.
    #[test]
    fn a_known_address_is_never_denied_by_what_was_said_of_the_other_kind(
        steps in proptest::collection::vec((proptest::bool::ANY, proptest::bool::ANY, proptest::bool::ANY, 0u64..400), 1..40),
    ) {
        let mut bench = Bench::new();
        // By type; and by type and EDNS, what was said of that question itself.
        let (mut known, mut said) = ([false; 2], [[false; 2]; 2]);
        for (six, edns, is_there, wait) in steps {
            let mut asking = question(PLAIN, if six { RecordType::AAAA } else { RecordType::A });
            if edns {
                asking.set_edns(Edns::new());
            }
            bench.query(Over::Udp, &asking.to_vec().unwrap()).unwrap();
            let mut asked = Vec::new();
            while let Some(output) = bench.forwarder.poll() {
                match output {
                    Output::Ask { ask, server, over, bytes } => asked.push(Asked { ask, server, over, bytes }),
                    Output::Answer { bytes, .. } => {
                        let denied = code(&Message::from_vec(&bytes).unwrap()) == ResponseCode::NXDomain;
                        let itself = said[usize::from(six)][usize::from(edns)];
                        proptest::prop_assert!(!denied || itself || !known[usize::from(six)]);
                    }
                    Output::Forget { .. } => {}
                }
            }
            for asked in asked {
                let mut reply = if is_there { asked.found() } else { denied(&asked) };
                reply.answers.iter_mut().for_each(|record| record.ttl = 20);
                bench.reply(&asked, &reply).unwrap();
                known[usize::from(six)] = is_there;
                said[usize::from(six)][usize::from(edns)] = !is_there;
                while bench.forwarder.poll().is_some() {}
            }
            bench.now += Duration::from_secs(wait);
        }
    }
}
