//! What is remembered, for how long, and who waits for whom.

use std::net::Ipv6Addr;

use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{AAAA, CNAME, NULL, SOA};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// What the servers say to the first question of a name, with a TTL.
fn taught(bench: &mut Bench, ttl: u32) {
    let asked = bench.asks(&ask_for(PLAIN));
    let mut reply = asked.found();
    reply.answers[0].ttl = ttl;
    bench.reply(&asked, &reply).unwrap();
    bench.answer();
}

pub fn soa(ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns.example."), name("me.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example."), ttl, RData::SOA(soa))
}

/// Whether the next question of this kind is answered from memory.
fn remembers(bench: &mut Bench, bytes: &[u8]) -> bool {
    bench.query(Over::Udp, bytes).unwrap();
    let answered = matches!(bench.forwarder.poll(), Some(Output::Answer { .. }));
    while bench.forwarder.poll().is_some() {}
    answered
}

#[test]
fn n09_an_answer_is_remembered_for_its_time_with_its_ttl_counted_down() {
    let mut bench = Bench::new();
    taught(&mut bench, 300);
    bench.now += Duration::from_secs(100);
    let answer = bench.local(&ask_for(PLAIN));
    assert_eq!((answer.metadata.id, answer.answers[0].ttl), (ID, 200));
    assert_eq!(answer.answers[0].data, RData::A(A(FOUND)));
    bench.now += Duration::from_secs(200);
    bench.asks(&ask_for(PLAIN));
}

#[test]
fn n09_a_ttl_of_zero_is_not_remembered_and_none_longer_than_a_day() {
    let mut bench = Bench::new();
    taught(&mut bench, 0);
    bench.asks(&ask_for(PLAIN));
    let mut bench = Bench::new();
    taught(&mut bench, 30 * 86_400);
    bench.now += HOUR * 21;
    assert!(remembers(&mut bench, &ask_for(PLAIN)));
    bench.now += HOUR * 3;
    bench.asks(&ask_for(PLAIN));
}

#[test]
fn n09_another_type_or_other_bits_are_another_question() {
    let mut bench = Bench::new();
    taught(&mut bench, 300);
    bench.asks(&question(PLAIN, RecordType::TXT).to_vec().unwrap());
    let mut edns = question(PLAIN, RecordType::A);
    edns.set_edns(Edns::new());
    bench.asks(&edns.to_vec().unwrap());
    let mut signed = Edns::new();
    signed.set_dnssec_ok(true);
    edns.set_edns(signed);
    bench.asks(&edns.to_vec().unwrap());
    let mut unchecked = question(PLAIN, RecordType::A);
    unchecked.metadata.checking_disabled = true;
    bench.asks(&unchecked.to_vec().unwrap());
}

/// 65 and 97 differ as "A" and "a" do.
#[test]
fn n09_types_are_not_letters() {
    let mut bench = Bench::new();
    let asked = bench.asks(&question(PLAIN, RecordType::from(65)).to_vec().unwrap());
    let mut reply = asked.found();
    reply.answers[0].ttl = 300;
    bench.reply(&asked, &reply).unwrap();
    bench.answer();
    bench.asks(&question(PLAIN, RecordType::from(97)).to_vec().unwrap());
}

/// RFC 8020 §2
#[test]
fn n10_a_name_that_is_not_has_nothing_of_any_type_until_it_is() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    let mut reply = asked.reply(ResponseCode::NXDomain);
    reply.add_authority(soa(900, 60));
    bench.reply(&asked, &reply).unwrap();
    bench.answer();
    for kind in [RecordType::AAAA, RecordType::MX, RecordType::from(65)] {
        let answer = bench.local(&question(PLAIN, kind).to_vec().unwrap());
        assert_eq!((code(&answer), answer.queries[0].query_type()), (ResponseCode::NXDomain, kind));
    }
    bench.asks(&ask_for(&format!("www.{PLAIN}")));
    bench.now += Duration::from_secs(60);
    taught(&mut bench, 300);
    bench.asks(&question(PLAIN, RecordType::MX).to_vec().unwrap());
}

/// It is tried in the search list for addresses only.
#[test]
fn n10_n21_a_bare_name_without_a_mail_server_may_have_an_address() {
    let mut bench = Bench::new();
    let asked = bench.asks(&question("db.", RecordType::MX).to_vec().unwrap());
    let mut reply = asked.reply(ResponseCode::NXDomain);
    reply.add_authority(soa(900, 60));
    bench.reply(&asked, &reply).unwrap();
    bench.answer();
    assert_eq!(bench.asks(&ask_for("db.")).name(), "db.ns.svc.cluster.local.");
}

#[test]
fn n10_that_there_is_nothing_is_remembered_as_long_as_the_soa_says() {
    let negative = |code, record: Option<Record>| {
        let mut bench = Bench::new();
        let asked = bench.asks(&ask_for(PLAIN));
        let mut reply = asked.reply(code);
        if let Some(record) = record {
            reply.add_authority(record);
        }
        bench.reply(&asked, &reply).unwrap();
        bench.answer();
        bench
    };
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        for (record, seconds) in
            [(soa(900, 60), 60), (soa(60, 900), 60), (soa(90_000, 90_000), 10_800)]
        {
            let mut bench = negative(code, Some(record));
            bench.now += Duration::from_secs(seconds - 1);
            assert!(remembers(&mut bench, &ask_for(PLAIN)), "{code} {seconds}");
            bench.now += Duration::from_secs(1);
            assert!(!remembers(&mut bench, &ask_for(PLAIN)), "{code} {seconds}");
        }
        assert!(!remembers(&mut negative(code, None), &ask_for(PLAIN)), "{code}: no SOA");
    }
}

#[test]
fn n11_a_failure_is_remembered_for_a_second() {
    let mut bench =
        Bench::with(Settings { upstreams: settings().upstreams[..1].to_vec(), ..settings() });
    let asked = bench.asks(&ask_for(PLAIN));
    bench.reply(&asked, &asked.reply(ResponseCode::ServFail)).unwrap();
    let asked = bench.asked();
    bench.reply(&asked, &asked.reply(ResponseCode::ServFail)).unwrap();
    assert_eq!(code(&bench.answer()), ResponseCode::ServFail);
    assert_eq!(code(&bench.local(&ask_for(PLAIN))), ResponseCode::ServFail);
    bench.now += Duration::from_secs(1);
    bench.asks(&ask_for(PLAIN));
}

/// Lets what is under way end, and whatever comes of it pass.
fn all_fail(bench: &mut Bench) -> Vec<Message> {
    let mut answers = Vec::new();
    loop {
        while let Some(output) = bench.forwarder.poll() {
            if let Output::Answer { bytes, .. } = output {
                answers.push(Message::from_vec(&bytes).unwrap());
            }
        }
        if bench.forwarder.deadline().is_none() {
            return answers;
        }
        bench.wait();
    }
}

#[test]
fn n12_what_was_known_is_told_for_a_day_when_no_server_answers() {
    let mut bench = Bench::new();
    taught(&mut bench, 300);
    bench.now += HOUR;
    let began = bench.now;
    bench.asks(&ask_for(PLAIN));
    bench.wait();
    assert_eq!(bench.asked().server, settings().upstreams[1], "another server may know");
    bench.wait();
    assert_eq!(
        bench.now - began,
        Duration::from_millis(1800),
        "who asks does not wait for all of them"
    );
    let answer = bench.answer();
    assert_eq!((code(&answer), answer.answers[0].ttl), (ResponseCode::NoError, 30));
    // Who asks while they are still asked is told at once.
    assert_eq!(bench.local(&ask_for(PLAIN)).answers.len(), 1);
    assert!(all_fail(&mut bench).is_empty(), "told already");
    // For half a minute nobody is asked.
    bench.now += Duration::from_secs(29);
    assert_eq!(bench.local(&ask_for(PLAIN)).answers[0].ttl, 30);
    bench.now += Duration::from_secs(2);
    let again = bench.asks(&ask_for(PLAIN));
    let _to_a_silent_one = bench.asked();
    bench.reply(&again, &again.found()).unwrap();
    assert_eq!(bench.answer().answers[0].ttl, 300);
    assert!(all_fail(&mut bench).is_empty());
    bench.now += HOUR * 25;
    bench.asks(&ask_for(PLAIN));
    let answers = all_fail(&mut bench);
    assert_eq!(answers.iter().map(code).collect::<Vec<_>>(), [ResponseCode::ServFail]);
}

#[test]
fn n12_an_answer_that_is_used_is_asked_for_again_before_it_ends() {
    let mut bench = Bench::new();
    taught(&mut bench, 300);
    bench.now += Duration::from_secs(280);
    bench.query(Over::Udp, &ask_for(PLAIN)).unwrap();
    assert_eq!(bench.answer().answers[0].ttl, 20);
    let renewal = bench.asked();
    assert!(remembers(&mut bench, &ask_for(PLAIN)));
    bench.reply(&renewal, &renewal.found()).unwrap();
    assert_eq!(bench.forwarder.poll(), None, "nobody waits for it");
    bench.now += Duration::from_secs(100);
    assert_eq!(bench.local(&ask_for(PLAIN)).answers[0].ttl, 200);
}

#[test]
fn n13_a_remembered_answer_has_the_case_and_the_id_of_who_asks() {
    let mut bench = Bench::new();
    taught(&mut bench, 300);
    let mixed = PLAIN.to_uppercase();
    let mut query = ask_for(&mixed);
    query[..2].copy_from_slice(&[0xab, 0xcd]);
    let answer = bench.local(&query);
    assert_eq!((answer.metadata.id, answer.queries[0].name().to_ascii()), (0xabcd, mixed));
}

#[test]
fn n15_the_same_question_is_asked_once_and_all_are_answered() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    for client in 1..=3 {
        let bytes = ask_for(&PLAIN.to_uppercase());
        bench
            .forwarder
            .handle(bench.now, Input::Query { client, from: None, over: Over::Tcp, bytes: &bytes })
            .unwrap();
    }
    assert_eq!(bench.forwarder.poll(), None);
    bench.reply(&asked, &asked.found()).unwrap();
    assert_eq!(bench.answer().answers.len(), 1);
    for wanted in 1..=3 {
        let Some(Output::Answer { client, bytes }) = bench.forwarder.poll() else {
            panic!("{wanted}")
        };
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!((client, answer.queries[0].name().to_ascii()), (wanted, PLAIN.to_uppercase()));
    }
    assert_eq!(bench.forwarder.poll(), None);
}

/// As many as fit into the octets they may have, whatever the question brings along; another client has its own.
#[test]
fn n15_who_waits_is_bounded_in_octets_and_one_question_is_under_way() {
    let mut bench = Bench::new();
    let mut long = question(PLAIN, RecordType::A);
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(65001, vec![7; 1100]));
    long.set_edns(edns);
    let long = long.to_vec().unwrap();
    bench.asks(&long);
    let mut ask = |client: u64, host: u8| {
        let from = Some([10, 0, 0, host].into());
        let input = Input::Query { client, from, over: Over::Udp, bytes: &long };
        let taken = bench.forwarder.handle(bench.now, input);
        match bench.forwarder.poll() {
            None => assert_eq!(taken, Ok(())),
            Some(Output::Answer { client: to, bytes }) => {
                assert_eq!((to, taken), (client, Err(Reason::Busy)));
                assert_eq!(code(&Message::from_vec(&bytes).unwrap()), ResponseCode::ServFail);
            }
            Some(other) => panic!("{other:?}"),
        }
        taken.is_ok()
    };
    let one = wire::question_end(&long).unwrap() + WAITING;
    let taken = (0..).find(|client| !ask(*client, 2)).unwrap();
    let half = (MAX_WAITING / 2 / one) as u64;
    assert!(half.abs_diff(taken) <= 1, "{taken}, not {half}");
    assert!((0..1000).all(|client| ask(client, 3)), "one client's are not another's");
    let flight = bench.forwarder.flights.values().next().unwrap();
    let kept: usize = flight.waiting.iter().map(Waiting::octets).sum();
    assert_eq!((kept, kept <= MAX_WAITING), (bench.forwarder.waiting.held(), true));
}

/// One answer for all who wait: each has its own copy only when it is sent.
#[test]
fn n15_many_who_wait_for_a_long_answer_do_not_multiply_it() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    for client in 0..5000 {
        let input = Input::Query { client, from: None, over: Over::Tcp, bytes: &ask_for(PLAIN) };
        bench.forwarder.handle(bench.now, input).unwrap();
    }
    let mut reply = asked.found();
    let record = reply.answers[0].clone();
    reply.answers.extend(std::iter::repeat_n(record, 900));
    bench.reply(&asked, &reply).unwrap();
    let kept = |queued: &Queued| match queued {
        Queued::Answer(_, answer) => Some(Arc::as_ptr(answer)),
        Queued::Ready(_) => None,
    };
    let kept: Vec<_> = bench.forwarder.out.iter().map(kept).collect();
    assert_eq!(kept.len(), 5001);
    assert!(kept.iter().all(|answer| answer.is_some() && *answer == kept[0]));
    let sent = std::iter::from_fn(|| bench.forwarder.poll()).count();
    assert_eq!(sent, 5001);
}

#[test]
fn n22_records_of_unknown_types_are_remembered_as_they_are() {
    let mut bench = Bench::new();
    let query = question(PLAIN, RecordType::Unknown(65_400)).to_vec().unwrap();
    let asked = bench.asks(&query);
    let mut reply = asked.bytes.clone();
    reply[2] |= 0x80;
    reply[3] |= 0x80;
    reply[7] = 1;
    reply.extend([0xc0, 12, 0xff, 0x78, 0, 1, 0, 0, 1, 0, 0, 3, 0xc0, 12, 0xff]);
    bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &reply }).unwrap();
    let first = bench.answer_bytes();
    bench.query(Over::Udp, &query).unwrap();
    assert_eq!(bench.answer_bytes(), first);
    assert_eq!(first[2..], reply[2..]);
}

#[test]
fn n27_an_answer_about_another_name_is_not_remembered() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    let mut reply = asked.reply(ResponseCode::NoError);
    reply.add_answer(Record::from_rdata(name("other.example."), 300, RData::A(A(FOUND))));
    bench.reply(&asked, &reply).unwrap();
    bench.answer();
    bench.asks(&ask_for(PLAIN));
    let mut bench = Bench::new();
    taught(&mut bench, 300);
    // Whatever came along with it is no answer to questions of its own.
    bench.asks(&ask_for("other.example.a.b.c."));
}

#[test]
fn n28_another_configuration_forgets_what_the_old_servers_said() {
    let mut bench = Bench::new();
    taught(&mut bench, 300);
    bench.forwarder.reconfigure(settings());
    assert!(remembers(&mut bench, &ask_for(PLAIN)));
    bench.forwarder.reconfigure(Settings { ndots: 2, ..settings() });
    let late = bench.asks(&ask_for(PLAIN));
    bench.forwarder.reconfigure(settings());
    bench.reply(&late, &late.found()).unwrap();
    assert_eq!(bench.answer().answers.len(), 1, "it is an answer for who asked then");
    assert!(!remembers(&mut bench, &ask_for(PLAIN)));
}

#[test]
fn n29_memory_is_bounded_and_what_is_used_stays() {
    let mut bench = Bench::new();
    taught(&mut bench, 80_000);
    for number in 0..30_000 {
        let asked = bench.asks(&numbered(number));
        let mut reply = asked.found();
        reply.answers[0].ttl = 80_000;
        bench.reply(&asked, &reply).unwrap();
        bench.answer();
        if number % 1000 == 0 {
            assert!(remembers(&mut bench, &ask_for(PLAIN)), "{number}");
        }
    }
    assert!(!remembers(&mut bench, &numbered(0)));
    assert!(remembers(&mut bench, &numbered(29_999)));
}

#[test]
fn n19_hosts_and_our_own_domain_are_answered_here() {
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
    let hosts = vec![("printer".into(), [10, 0, 0, 9].into()), ("printer".into(), v6.into())];
    let mut bench = Bench::with(Settings {
        hosts,
        domain: Some("lan".into()),
        networks: vec!["10.0.0.1/24".parse().unwrap()],
        ..settings()
    });
    for text in ["printer.", "PRINTER.lan."] {
        let answer = bench.local(&ask_for(text));
        assert_eq!(answer.answers[0].data, RData::A(A([10, 0, 0, 9].into())), "{text}");
        assert!(answer.metadata.authoritative);
    }
    let answer = bench.local(&question("printer.lan.", RecordType::AAAA).to_vec().unwrap());
    assert_eq!(answer.answers[0].data, RData::AAAA(AAAA(v6)));
    let none = bench.local(&question("printer.lan.", RecordType::TXT).to_vec().unwrap());
    assert_eq!(
        (code(&none), none.answers.len(), none.authorities.len()),
        (ResponseCode::NoError, 0, 1)
    );
    for pointer in [
        "9.0.0.10.in-addr.arpa.",
        "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
    ] {
        let answer = bench.local(&question(pointer, RecordType::PTR).to_vec().unwrap());
        assert!(
            matches!(&answer.answers[0].data, RData::PTR(to) if to.0 == name("printer.lan.")),
            "{pointer}"
        );
    }
    assert_eq!(code(&bench.local(&ask_for("nobody.lan."))), ResponseCode::NXDomain);
    // Nobody else has names for addresses of our network; those of others may.
    let pointer = |text| question(text, RecordType::PTR).to_vec().unwrap();
    assert_eq!(code(&bench.local(&pointer("8.0.0.10.in-addr.arpa."))), ResponseCode::NXDomain);
    bench.asks(&pointer("8.1.0.10.in-addr.arpa."));
    bench.asks(&ask_for("a.b.c.d.e.wlan."));
}

proptest::proptest! {
    /// Whatever comes back is remembered or not; what is told again is what was told, with smaller TTLs.
    #[test]
    fn what_is_remembered_is_what_was_told(
        spoil in proptest::collection::vec((2usize..160, proptest::num::u8::ANY), 0..6),
        wait in 0u64..400,
    ) {
        let mut bench = Bench::new();
        let asked = bench.asks(&ask_for(PLAIN));
        let mut reply = asked.found();
        reply.add_authority(soa(300, 60));
        let mut bytes = reply.to_vec().unwrap();
        for (at, byte) in spoil {
            if let Some(slot) = bytes.get_mut(at) { *slot = byte; }
        }
        let taken = bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &bytes });
        if let (Ok(()), Some(Output::Answer { bytes: told, .. })) = (taken, bench.forwarder.poll()) {
            bench.now += Duration::from_secs(wait);
            bench.query(Over::Udp, &ask_for(PLAIN)).unwrap();
            if let Some(Output::Answer { bytes: again, .. }) = bench.forwarder.poll() {
                proptest::prop_assert_eq!(again.len(), told.len());
                let (told, again) = (Message::from_vec(&told), Message::from_vec(&again));
                if let (Ok(told), Ok(again)) = (told, again) {
                    let both = told.answers.iter().zip(&again.answers);
                    for (told, again) in both {
                        proptest::prop_assert_eq!(&told.data, &again.data);
                        proptest::prop_assert!(again.ttl <= told.ttl);
                    }
                }
            }
        }
    }

    /// What the short way takes for a plain question, the library reads as the same question.
    #[test]
    fn a_plain_question_is_what_the_library_reads(
        text in "[a-zA-Z0-9]{1,20}(\\.[a-z]{1,10}){0,4}\\.",
        kind in 1u16..300,
        bits in proptest::bits::u8::masked(7),
        spoil in proptest::option::of((0usize..60, proptest::num::u8::ANY)),
    ) {
        let mut query = question(&text, RecordType::from(kind));
        query.metadata.recursion_desired = bits & 1 != 0;
        if bits & 2 != 0 {
            let mut edns = Edns::new();
            edns.set_dnssec_ok(bits & 4 != 0);
            edns.set_max_payload(1232);
            query.set_edns(edns);
        }
        let mut bytes = query.to_vec().unwrap();
        if let Some((at, byte)) = spoil && let Some(slot) = bytes.get_mut(at) {
            *slot = byte;
        }
        let read = Message::from_vec(&bytes);
        match plain(&bytes) {
            Some(found) => {
                let read = read.unwrap();
                proptest::prop_assert_eq!(read.queries.len(), 1);
                proptest::prop_assert_eq!((read.answers.len(), read.authorities.len()), (0, 0));
                let max = read.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()).clamp(512, 4096));
                proptest::prop_assert_eq!(found.max, max);
            }
            None => proptest::prop_assert!(spoil.is_some(), "a plain question was not taken for one"),
        }
    }
}

fn named(last: u8, name: Option<&str>, bench: &Bench, secs: Option<u64>) -> Named {
    let until = secs.map(|secs| bench.now + Duration::from_secs(secs));
    Named { address: IpAddr::from([10, 0, 0, last]), name: name.map(str::to_owned), until }
}

#[test]
fn names_of_clients_are_known_as_long_as_they_have_their_addresses() {
    let mut bench = Bench::with(Settings {
        hosts: vec![("printer".into(), [10, 0, 0, 9].into())],
        domain: Some("lan".into()),
        networks: vec!["10.0.0.1/24".parse().unwrap()],
        ..settings()
    });
    let laptop = ask_for("laptop.lan.");
    assert_eq!(code(&bench.local(&laptop)), ResponseCode::NXDomain);
    bench.forwarder.name(bench.now, named(7, Some("LapTop"), &bench, Some(3600)));
    for text in ["laptop.lan.", "Laptop."] {
        let answer = bench.local(&ask_for(text));
        assert_eq!(answer.answers[0].data, RData::A(A([10, 0, 0, 7].into())), "{text}");
    }
    let none = bench.local(&question("laptop.lan.", RecordType::AAAA).to_vec().unwrap());
    assert_eq!((code(&none), none.answers.len()), (ResponseCode::NoError, 0));
    let pointer = question("7.0.0.10.in-addr.arpa.", RecordType::PTR).to_vec().unwrap();
    assert_eq!(bench.local(&pointer).answers[0].data.to_string(), "laptop.lan.");
    // Another one with this name is not found by it, nor one that takes a name of ours, or nobody's.
    for (last, name) in [(8, "laptop"), (8, "printer"), (8, "wpad"), (8, "localhost")] {
        bench.forwarder.name(bench.now, named(last, Some(name), &bench, None));
    }
    assert_eq!(bench.local(&laptop).answers[0].data, RData::A(A([10, 0, 0, 7].into())));
    let printer = bench.local(&ask_for("printer.lan."));
    assert_eq!(printer.answers[0].data, RData::A(A([10, 0, 0, 9].into())));
    assert_eq!(code(&bench.local(&ask_for("wpad.lan."))), ResponseCode::NXDomain);
    // It ends with the lease; then the name is free.
    bench.now += HOUR;
    assert_eq!(code(&bench.local(&laptop)), ResponseCode::NXDomain);
    assert_eq!(code(&bench.local(&pointer)), ResponseCode::NXDomain);
    bench.forwarder.name(bench.now, named(8, Some("laptop"), &bench, None));
    assert_eq!(bench.local(&laptop).answers[0].data, RData::A(A([10, 0, 0, 8].into())));
    bench.forwarder.name(bench.now, named(8, None, &bench, None));
    assert_eq!(code(&bench.local(&laptop)), ResponseCode::NXDomain);
}

#[test]
fn what_servers_said_of_a_name_is_not_told_when_a_client_has_it() {
    let mut bench = Bench::with(Settings { search: vec![], ..settings() });
    let asked = bench.asks(&ask_for("laptop."));
    let mut reply = asked.reply(ResponseCode::NXDomain);
    reply.add_authority(soa(900, 600));
    bench.reply(&asked, &reply).unwrap();
    bench.answer();
    assert_eq!(code(&bench.local(&ask_for("laptop."))), ResponseCode::NXDomain);
    bench.forwarder.name(bench.now, named(7, Some("laptop"), &bench, Some(60)));
    assert_eq!(bench.local(&ask_for("laptop.")).answers.len(), 1);
    bench.now += Duration::from_secs(60);
    assert_eq!(code(&bench.local(&ask_for("laptop."))), ResponseCode::NXDomain);
}

/// A denial of this many octets, with the SOA at its end.
fn long_denial(asked: &Asked, code: ResponseCode, octets: usize) -> Message {
    let mut reply = asked.reply(code);
    while reply.to_vec().unwrap().len() < octets {
        let left = octets - reply.to_vec().unwrap().len();
        let data = RData::NULL(NULL::with(vec![0; left.min(8000)]));
        reply.add_authority(Record::from_rdata(name("example."), 300, data));
    }
    reply.add_authority(soa(900, 60));
    reply
}

fn kept(bench: &Bench) -> usize {
    bench.forwarder.flights.values().map(Flight::kept).sum()
}

/// Servers that say no at length, and then nothing, made each question under way hold 128 KiB.
#[test]
fn h5_what_a_server_denies_at_length_is_kept_short_while_other_names_are_tried() {
    for octets in [100, 1000, 4000, 4200, 30_000, 60_000] {
        let mut bench = Bench::new();
        bench.query(Over::Tcp, &ask_for("a.example.")).unwrap();
        let mut asked = bench.asked();
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            bench.reply(&asked, &long_denial(&asked, code, octets)).unwrap();
            asked = bench.asked();
            assert!(
                (1..=message::LARGEST_DENIAL).contains(&kept(&bench)),
                "{octets}: {}",
                kept(&bench)
            );
        }
        let answers = all_fail(&mut bench);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        let lead = answer.answers.iter().map(Record::record_type);
        assert_eq!(
            (code(answer), lead.collect::<Vec<_>>()),
            (ResponseCode::NoError, vec![RecordType::CNAME])
        );
        assert_eq!(answer.authorities.last(), Some(&soa(900, 60)), "{octets}");
        assert!(
            !answer.metadata.truncation,
            "all that is told of it is there: who asks again by TCP hears no more"
        );
    }
}

#[test]
fn a_denial_of_the_last_name_passes_as_it_came_by_tcp() {
    let mut bench = Bench::new();
    bench.query(Over::Tcp, &ask_for(PLAIN)).unwrap();
    let asked = bench.asked();
    let reply = long_denial(&asked, ResponseCode::NXDomain, 30_000);
    bench.reply(&asked, &reply).unwrap();
    assert_eq!(bench.answer().authorities, reply.authorities);
}

/// What leads to a name that is not there is part of the answer: without it another name would be denied.
#[test]
fn a_long_denial_that_does_not_fit_with_what_leads_to_it_is_not_kept() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for("a.example."));
    let mut reply = long_denial(&asked, ResponseCode::NXDomain, 5000);
    for number in 0..300 {
        let (from, to) = (format!("c{number}.example."), format!("c{}.example.", number + 1));
        reply.add_answer(Record::from_rdata(name(&from), 300, RData::CNAME(CNAME(name(&to)))));
    }
    bench.reply(&asked, &reply).unwrap();
    bench.asked();
    assert_eq!(kept(&bench), 0);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// Whatever comes back, and however often: a question under way keeps no more of it.
    #[test]
    fn h5_what_a_question_under_way_keeps_of_answers_is_bounded(
        replies in proptest::collection::vec((0usize..60_000, proptest::bool::ANY, 0u8..6), 1..12),
    ) {
        let mut bench = Bench::new();
        bench.query(Over::Udp, &ask_for("a.example.")).unwrap();
        for (octets, filled, rcode) in replies {
            let mut asked = None;
            while let Some(output) = bench.forwarder.poll() {
                if let Output::Ask { ask, server, over, bytes } = output {
                    asked = Some(Asked { ask, server, over, bytes });
                }
            }
            let Some(asked) = asked else { break };
            let reply = long_denial(&asked, ResponseCode::from_low(rcode), octets);
            let mut bytes = reply.to_vec().unwrap();
            if !filled {
                bytes.resize(bytes.len() + octets / 10, 0);
            }
            let _ = bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &bytes });
            assert!(kept(&bench) <= message::LARGEST_DENIAL);
        }
    }
}
