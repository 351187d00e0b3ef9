//! Messages in, messages out, under a clock of the test's own. Ids are rows of the DNS conformance table.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::*;

mod broken;
mod configured;
mod memory;

const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 1);
const FOUND: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const CLIENT: u64 = 77;
const ID: u16 = 0x1234;

fn settings() -> Settings {
    Settings {
        hostname: "web".into(),
        guest: GUEST,
        gateway: Some(GATEWAY),
        gateway6: None,
        upstreams: vec!["10.0.0.10:53".parse().unwrap(), "10.0.0.11:53".parse().unwrap()],
        search: vec!["ns.svc.cluster.local".into(), "cluster.local".into()],
        ndots: 5,
        hosts: vec![],
        below: vec![],
        domain: None,
        networks: vec![],
        networks6: vec![],
        aaaa: true,
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(name(text), kind));
    message
}

fn ask_for(text: &str) -> Vec<u8> {
    question(text, RecordType::A).to_vec().unwrap()
}

/// A name that no search list touches.
const PLAIN: &str = "a.b.c.d.e.example.";

/// Many such names.
fn numbered(number: usize) -> Vec<u8> {
    ask_for(&format!("n{number}.{PLAIN}"))
}

/// A question on its way to a server.
#[derive(Debug, Clone)]
struct Asked {
    ask: u64,
    server: SocketAddr,
    over: Over,
    bytes: Vec<u8>,
}

impl Asked {
    fn message(&self) -> Message {
        Message::from_vec(&self.bytes).unwrap()
    }

    fn name(&self) -> String {
        self.message().queries[0].name().to_ascii()
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = self.message().into_response();
        reply.metadata.response_code = code;
        reply
    }

    /// One A record of the name asked for.
    fn found(&self) -> Message {
        let mut reply = self.reply(ResponseCode::NoError);
        reply.add_answer(Record::from_rdata(
            self.message().queries[0].name().clone(),
            300,
            RData::A(A(FOUND)),
        ));
        reply
    }
}

/// A forwarder, a clock that stands still until told, and what came out.
struct Bench {
    forwarder: Forwarder,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(settings())
    }

    #[expect(clippy::disallowed_methods, reason = "a clock begins somewhere; it moves by hand")]
    fn with(settings: Settings) -> Self {
        let mut id = 0x5eedu16;
        let ids = move || {
            id = id.wrapping_mul(0x6255).wrapping_add(0x3619);
            Some(id)
        };
        Self { forwarder: Forwarder::new(settings, ids), now: Instant::now() }
    }

    fn query(&mut self, over: Over, bytes: &[u8]) -> Result<(), Reason> {
        self.query_of(2, over, bytes)
    }

    /// Of a client at 10.0.0.`host`.
    fn query_of(&mut self, host: u8, over: Over, bytes: &[u8]) -> Result<(), Reason> {
        let from = Some([10, 0, 0, host].into());
        self.forwarder.handle(self.now, Input::Query { client: CLIENT, from, over, bytes })
    }

    fn asks(&mut self, bytes: &[u8]) -> Asked {
        self.query(Over::Udp, bytes).unwrap();
        self.asked()
    }

    fn reply(&mut self, asked: &Asked, reply: &Message) -> Result<(), Reason> {
        let bytes = reply.to_vec().unwrap();
        self.forwarder.handle(self.now, Input::Reply { ask: asked.ask, bytes: &bytes })
    }

    fn asked(&mut self) -> Asked {
        loop {
            match self.forwarder.poll() {
                Some(Output::Ask { ask, server, over, bytes }) => {
                    return Asked { ask, server, over, bytes };
                }
                Some(Output::Forget { .. }) => {}
                other => panic!("a question for a server was due, not {other:?}"),
            }
        }
    }

    fn answer_bytes(&mut self) -> Vec<u8> {
        loop {
            match self.forwarder.poll() {
                Some(Output::Answer { client: CLIENT, bytes }) => return bytes,
                Some(Output::Forget { .. }) => {}
                other => panic!("an answer was due, not {other:?}"),
            }
        }
    }

    fn answer(&mut self) -> Message {
        Message::from_vec(&self.answer_bytes()).unwrap()
    }

    /// The answer to a question no server is asked.
    fn local(&mut self, bytes: &[u8]) -> Message {
        self.query(Over::Udp, bytes).unwrap();
        self.only_answer()
    }

    fn only_answer(&mut self) -> Message {
        let answer = self.answer();
        assert_eq!(self.forwarder.poll(), None);
        answer
    }

    /// Lets the next deadline pass.
    fn wait(&mut self) {
        self.now = self.forwarder.deadline().expect("something is under way");
        self.forwarder.handle(self.now, Input::Tick).unwrap();
    }
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[test]
fn n01_the_reply_has_the_id_and_question_of_the_query() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    bench.reply(&asked, &asked.found()).unwrap();
    let answer = bench.answer();
    assert_eq!(answer.metadata.id, ID);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert!(answer.metadata.recursion_desired);
    assert_eq!(answer.queries, question(PLAIN, RecordType::A).queries);
    assert_eq!(answer.answers[0].data, RData::A(A(FOUND)));
    assert_eq!(bench.forwarder.deadline(), None);
}

#[test]
fn n01_n26_another_opcode_is_not_implemented() {
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut message = question(PLAIN, RecordType::SOA);
        message.metadata.op_code = opcode;
        let bytes = message.to_vec().unwrap();
        let mut bench = Bench::new();
        bench.query(Over::Udp, &bytes).unwrap();
        let answer = bench.answer_bytes();
        assert_eq!((&answer[..2], answer[3] & 0xf), (&ID.to_be_bytes()[..], 4), "{opcode:?}");
        assert_eq!(
            answer[2] & 0xf8,
            0x80 | (bytes[2] & 0x78),
            "{opcode:?}: QR, and the opcode as it came"
        );
    }
}

#[test]
fn n02_not_exactly_one_question_is_a_format_error() {
    for count in [0, 2, 255] {
        let mut bytes = ask_for(PLAIN);
        bytes[5] = count;
        assert_eq!(code(&Bench::new().local(&bytes)), ResponseCode::FormErr, "{count}");
    }
}

#[test]
fn n03_malformed_names_are_refused_and_never_followed_for_ever() {
    let header = &ask_for(PLAIN)[..12];
    let long_name: Vec<u8> = [[63; 64].as_slice(); 5].concat();
    let cases: [(&str, &[u8]); 6] = [
        ("a pointer to itself", &[0xc0, 12, 0, 1, 0, 1]),
        ("a pointer forward", &[0xc0, 40, 0, 1, 0, 1]),
        ("two pointers in a ring", &[0xc0, 14, 0xc0, 12, 0, 1, 0, 1]),
        ("a label of a type that is none", &[0x80, 1, 0, 0, 1, 0, 1]),
        ("a label past the end", &[40, b'a', 0, 0, 1]),
        ("a name of more than 255 octets", &[long_name.as_slice(), &[0, 0, 1, 0, 1]].concat()),
    ];
    for (what, rest) in cases {
        let answer = Bench::new().local(&[header, rest].concat());
        assert_eq!((answer.metadata.id, code(&answer)), (ID, ResponseCode::FormErr), "{what}");
    }
}

#[test]
fn n03_what_has_no_header_or_is_an_answer_is_dropped() {
    let mut bench = Bench::new();
    assert_eq!(bench.query(Over::Udp, &[0; 11]), Err(Reason::Truncated));
    let mut bytes = ask_for(PLAIN);
    bytes[2] |= 0x80;
    assert_eq!(bench.query(Over::Udp, &bytes), Err(Reason::NotAQuery));
    assert_eq!(bench.forwarder.poll(), None);
}

/// An answer with this many A records, and what becomes of it for a client with this EDNS size.
fn large(records: usize, over: Over, size: Option<u16>) -> (usize, Message) {
    let mut query = question(PLAIN, RecordType::A);
    if let Some(size) = size {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        query.set_edns(edns);
    }
    let mut bench = Bench::new();
    bench.query(over, &query.to_vec().unwrap()).unwrap();
    let asked = bench.asked();
    let mut reply = asked.reply(ResponseCode::NoError);
    for last in 0..records {
        let address = Ipv4Addr::new(10, 0, 0, u8::try_from(last).unwrap());
        reply.add_answer(Record::from_rdata(name(PLAIN), 60, RData::A(A(address))));
    }
    if size.is_some() {
        reply.set_edns(Edns::new());
    }
    bench.reply(&asked, &reply).unwrap();
    let bytes = bench.answer_bytes();
    (bytes.len(), Message::from_vec(&bytes).unwrap())
}

#[test]
fn n04_an_answer_longer_than_the_client_takes_says_so() {
    for (size, limit) in [(None, 512), (Some(100), 512), (Some(1232), 1232)] {
        let (length, answer) = large(100, Over::Udp, size);
        assert!(length <= limit, "{length} octets for {size:?}");
        assert!(answer.metadata.truncation, "{size:?}");
        assert_eq!(answer.queries.len(), 1, "the question is kept");
    }
    // Whole records as far as they fit: 12 octets of header, 23 of question, 16 each, 11 of EDNS.
    for (size, records) in [(None, (512 - 12 - 23) / 16), (Some(1232), (1232 - 12 - 23 - 11) / 16)]
    {
        let (_, answer) = large(100, Over::Udp, size);
        assert_eq!(
            (answer.answers.len(), answer.edns.is_some()),
            (records, size.is_some()),
            "{size:?}"
        );
    }
    for (over, size) in [(Over::Udp, Some(4096)), (Over::Tcp, None)] {
        let (_, answer) = large(100, over, size);
        assert_eq!(
            (answer.metadata.truncation, answer.answers.len()),
            (false, 100),
            "{over:?} {size:?}"
        );
    }
}

#[test]
fn n06_a_cut_answer_is_asked_for_again_over_tcp() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    let mut cut = asked.reply(ResponseCode::NoError);
    cut.metadata.truncation = true;
    bench.reply(&asked, &cut).unwrap();
    let again = bench.asked();
    assert_eq!((again.over, again.server, again.name()), (Over::Tcp, asked.server, asked.name()));
    bench.reply(&again, &again.found()).unwrap();
    assert_eq!(bench.answer().answers.len(), 1);
}

#[test]
fn n07_edns_is_answered_when_used_and_only_then() {
    assert!(Bench::new().local(&ask_for("web.")).edns.is_none());
    let mut query = question("web.", RecordType::A);
    query.set_edns(Edns::new());
    assert!(Bench::new().local(&query.to_vec().unwrap()).edns.is_some());
}

#[test]
fn n07_a_version_nobody_has_is_bad() {
    let mut query = question("web.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    query.set_edns(edns);
    let answer = Bench::new().local(&query.to_vec().unwrap());
    // 16 is BADVERS here and BADSIG in TSIG; the library reads it as the latter.
    assert_eq!(u16::from(code(&answer)), 16);
    assert_eq!(answer.edns.expect("the code's upper bits need it").version(), 0);
}

/// Options end here: none is asked of a server, and a question is the same with and without them.
#[test]
fn n07_unknown_options_are_ignored() {
    let with = |option: &[u8]| {
        let mut bytes = ask_for(PLAIN);
        bytes[11] = 1;
        bytes.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, u8::try_from(option.len()).unwrap()]);
        bytes.extend(option);
        bytes
    };
    let cookie = with(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut bench = Bench::new();
    let asked = bench.asks(&cookie);
    assert!(asked.bytes.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]), "{:?}", asked.bytes);
    let mut found = asked.found();
    found.set_edns(Edns::new());
    bench.reply(&asked, &found).unwrap();
    bench.answer();
    for option in [&[][..], &[0xff, 0xfe, 0, 0], &[0, 3, 0, 0, 0, 10, 0, 8, 8, 7, 6, 5, 4, 3, 2, 1]]
    {
        let answer = bench.local(&with(option));
        assert_eq!((answer.answers.len(), answer.edns.is_some()), (1, true), "{option:?}");
    }
    for spoilt in [&[0][..], &[0, 10, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]] {
        assert_eq!(code(&Bench::new().local(&with(spoilt))), ResponseCode::FormErr, "{spoilt:?}");
    }
}

#[test]
fn n07_two_opt_records_are_a_format_error() {
    let mut bytes = ask_for(PLAIN);
    bytes[11] = 2;
    for _ in 0..2 {
        bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(code(&Bench::new().local(&bytes)), ResponseCode::FormErr);
}

#[test]
fn n08_n22_everything_but_the_id_passes_as_it_is() {
    let mut query = question(PLAIN, RecordType::from(65_280));
    query.metadata.checking_disabled = true;
    query.metadata.authentic_data = true;
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    query.set_edns(edns);
    let bytes = query.to_vec().unwrap();
    let mut bench = Bench::new();
    let asked = bench.asks(&bytes);
    // The size is what we take.
    let size = bytes.len() - 8;
    assert_eq!(asked.bytes[2..size], bytes[2..size]);
    assert_eq!(asked.bytes[size..], [&1232u16.to_be_bytes()[..], &bytes[size + 2..]].concat());

    // A record of a type nobody knows, its owner a pointer to the question.
    let mut reply = asked.reply(ResponseCode::NoError).to_vec().unwrap();
    let question_end = 12 + PLAIN.len() + 1 + 4;
    reply.truncate(question_end);
    reply[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    reply.extend([0xc0, 12, 0xff, 0, 0, 1, 0, 0, 0, 60, 0, 3, 1, 2, 3]);
    bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &reply }).unwrap();
    let answer = bench.answer_bytes();
    assert_eq!((&answer[..2], &answer[2..]), (&ID.to_be_bytes()[..], &reply[2..]));
}

#[test]
fn n08_the_do_bit_is_copied_into_answers_of_our_own() {
    for asked in [false, true] {
        let mut query = question("web.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_dnssec_ok(asked);
        query.set_edns(edns);
        let answer = Bench::new().local(&query.to_vec().unwrap());
        assert_eq!(answer.edns.expect("asked with it").flags().dnssec_ok, asked);
    }
}

#[test]
fn n13_the_case_of_the_question_is_kept() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for("A.b.C.d.E.exAMple."));
    assert_eq!(asked.name(), "A.b.C.d.E.exAMple.");
    let mut reply = asked.found();
    reply.queries[0].set_name(name("a.b.c.d.e.example."));
    bench.reply(&asked, &reply).expect("compared without case");
    assert_eq!(bench.answer().answers.len(), 1);

    let answer = Bench::new().local(&ask_for("WeB."));
    assert_eq!(answer.queries[0].name().to_ascii(), "WeB.");
    assert_eq!(answer.answers[0].name.to_ascii(), "WeB.");
}

#[test]
fn n14_what_does_not_answer_our_question_is_dropped_and_waited_on() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    let forged = |change: fn(&mut Message)| {
        let mut reply = asked.found();
        change(&mut reply);
        reply
    };
    let forgeries: [(&str, Message); 5] = [
        ("another id", forged(|reply| reply.metadata.id ^= 1)),
        ("a question", forged(|reply| reply.metadata.message_type = MessageType::Query)),
        (
            "another name",
            forged(|reply| {
                reply.queries[0].set_name(name("bank.example."));
            }),
        ),
        (
            "another type",
            forged(|reply| {
                reply.queries[0].set_query_type(RecordType::AAAA);
            }),
        ),
        (
            "another class",
            forged(|reply| {
                reply.queries[0].set_query_class(DNSClass::CH);
            }),
        ),
    ];
    for (what, reply) in forgeries {
        assert_eq!(bench.reply(&asked, &reply), Err(Reason::Mismatch), "{what}");
        assert_eq!(bench.forwarder.poll(), None, "{what}");
    }
    bench.reply(&asked, &asked.found()).expect("the true one is still waited for");
    assert_eq!(bench.answer().answers.len(), 1);
    assert_eq!(bench.reply(&asked, &asked.found()), Err(Reason::Late));
}

#[test]
fn n14_every_question_has_the_id_it_is_given_and_without_one_none_is_sent() {
    let mut given = [0xbeef, 1, 0xffff].into_iter();
    let mut bench = Bench::new();
    bench.forwarder = Forwarder::new(settings(), move || given.next());
    let ids: Vec<u16> =
        (0..3).map(|number| bench.asks(&numbered(number)).message().metadata.id).collect();
    assert_eq!(ids, [0xbeef, 1, 0xffff]);
    assert_eq!(code(&bench.local(&ask_for(PLAIN))), ResponseCode::ServFail);
}

#[test]
fn n16_any_gets_the_least_answer() {
    let answer = Bench::new().local(&question(PLAIN, RecordType::ANY).to_vec().unwrap());
    assert_eq!((answer.answers.len(), answer.answers[0].record_type()), (1, RecordType::HINFO));
}

#[test]
fn n17_a_silent_server_is_passed_over_and_the_next_question_begins_with_the_other() {
    let mut bench = Bench::new();
    let first = bench.asks(&ask_for(PLAIN));
    let began = bench.now;
    bench.wait();
    assert_eq!(bench.now - began, UPSTREAM_TIMEOUT);
    let second = bench.asked();
    assert_ne!(first.server, second.server);
    assert_ne!(first.message().metadata.id, second.message().metadata.id);
    bench.reply(&second, &second.found()).unwrap();
    assert_eq!(bench.answer().answers.len(), 1);
    assert_eq!(bench.asks(&numbered(1)).server, second.server);
}

#[test]
fn n17_a_silent_server_is_tried_beside_the_other_until_it_answers_again() {
    let mut bench = Bench::new();
    let first = bench.asks(&ask_for(PLAIN));
    bench.wait();
    let second = bench.asked();
    bench.reply(&second, &second.found()).unwrap();
    bench.answer();
    let mut tries = 0;
    for number in 0..60 {
        bench.now += Duration::from_secs(1);
        let asked = bench.asks(&numbered(number));
        assert_eq!(asked.server, second.server, "nobody waits for one that is silent");
        if let Some(Output::Ask { server, .. }) = bench.forwarder.poll() {
            assert_eq!(server, first.server);
            tries += 1;
        }
        bench.reply(&asked, &asked.found()).unwrap();
        bench.answer();
        while bench.forwarder.deadline().is_some() {
            bench.wait();
        }
        while bench.forwarder.poll().is_some() {}
    }
    assert!((3..=6).contains(&tries), "{tries}: pauses of 2, 4, 8 … seconds");
    bench.now += Duration::from_secs(60);
    let asked = bench.asks(&numbered(100));
    let mut probe = bench.asked();
    assert_eq!(probe.server, first.server);
    bench.reply(&asked, &asked.found()).unwrap();
    bench.answer();
    probe.bytes[2] |= 0x80;
    bench
        .forwarder
        .handle(bench.now, Input::Reply { ask: probe.ask, bytes: &probe.bytes })
        .unwrap();
    assert_eq!(bench.forwarder.poll(), None, "whatever it says, it answers");
    assert_eq!(bench.asks(&numbered(101)).server, first.server);
}

#[test]
fn n17_when_every_server_is_silent_the_guest_hears_so_before_it_asks_again() {
    let mut bench = Bench::new();
    bench.asks(&ask_for(PLAIN));
    let began = bench.now;
    while bench.forwarder.deadline().is_some() {
        bench.wait();
    }
    assert!(bench.now - began <= Duration::from_millis(4500), "{:?}", bench.now - began);
    let outputs: Vec<Output> = std::iter::from_fn(|| bench.forwarder.poll()).collect();
    let Some(Output::Answer { bytes, .. }) = outputs.last() else { panic!("{outputs:?}") };
    assert_eq!(code(&Message::from_vec(bytes).unwrap()), ResponseCode::ServFail);
}

#[test]
fn n17_servers_that_cannot_be_reached_fail_at_once() {
    let mut bench = Bench::new();
    let mut asked = bench.asks(&ask_for(PLAIN));
    for _ in 0..3 {
        bench.forwarder.handle(bench.now, Input::Failed { ask: asked.ask }).unwrap();
        asked = bench.asked();
    }
    bench.forwarder.handle(bench.now, Input::Failed { ask: asked.ask }).unwrap();
    assert_eq!(code(&bench.answer()), ResponseCode::ServFail);
}

#[test]
fn n18_a_server_that_will_not_is_passed_over_and_a_name_that_is_not_is_final() {
    for refusal in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let mut bench = Bench::new();
        let asked = bench.asks(&ask_for(PLAIN));
        bench.reply(&asked, &asked.reply(refusal)).unwrap();
        assert_ne!(bench.asked().server, asked.server, "{refusal}");
    }
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    bench.reply(&asked, &asked.reply(ResponseCode::NXDomain)).unwrap();
    assert_eq!(code(&bench.answer()), ResponseCode::NXDomain);
}

#[test]
fn n19_our_own_names_are_answered_here() {
    let addresses = [
        ("web.", GUEST),
        ("web.ns.svc.cluster.local.", GUEST),
        ("gateway.", GATEWAY),
        ("localhost.", Ipv4Addr::LOCALHOST),
        ("a.localhost.", Ipv4Addr::LOCALHOST),
    ];
    for (text, address) in addresses {
        let answer = Bench::new().local(&ask_for(text));
        assert!(answer.metadata.authoritative, "{text}");
        assert_eq!(answer.answers[0].data, RData::A(A(address)), "{text}");
        assert_eq!(answer.answers[0].name, name(text));
        let none = Bench::new().local(&question(text, RecordType::TXT).to_vec().unwrap());
        assert_eq!((code(&none), none.answers.len()), (ResponseCode::NoError, 0), "{text}");
        assert_eq!(
            none.authorities[0].record_type(),
            RecordType::SOA,
            "{text}: or it may not be remembered"
        );
    }
    let v6 = Bench::new().local(&question("localhost.", RecordType::AAAA).to_vec().unwrap());
    assert_eq!(v6.answers[0].data.to_string(), "::1");
    let v6 = Bench::new().local(&question("web.", RecordType::AAAA).to_vec().unwrap());
    assert_eq!((code(&v6), v6.answers.len()), (ResponseCode::NoError, 0));
    for (text, target) in [
        ("2.254.168.192.in-addr.arpa.", "web.ns.svc.cluster.local."),
        ("1.254.168.192.in-addr.arpa.", "gateway."),
    ] {
        let answer = Bench::new().local(&question(text, RecordType::PTR).to_vec().unwrap());
        assert_eq!(answer.answers[0].data.to_string(), target);
    }
}

#[test]
fn n20_names_that_are_not_for_servers_stay_here_but_the_clusters_own_go() {
    for text in ["printer.local.", "x.invalid.", "x.y.onion.", "local."] {
        assert_eq!(code(&Bench::new().local(&ask_for(text))), ResponseCode::NXDomain, "{text}");
    }
    let mut bench = Bench::new();
    assert_eq!(
        bench.asks(&ask_for("db.other.svc.cluster.local.")).name(),
        "db.other.svc.cluster.local."
    );
    assert_eq!(Bench::new().asks(&ask_for("notlocal.")).name(), "notlocal.ns.svc.cluster.local.");
}

#[test]
fn n21_a_bare_name_goes_through_the_search_list_and_leads_there_by_a_cname() {
    let mut bench = Bench::new();
    let first = bench.asks(&ask_for("DB."));
    assert_eq!(first.name().to_ascii_lowercase(), "db.ns.svc.cluster.local.");
    bench.reply(&first, &first.reply(ResponseCode::NXDomain)).unwrap();
    let second = bench.asked();
    assert_eq!(second.name().to_ascii_lowercase(), "db.cluster.local.");
    bench.reply(&second, &second.found()).unwrap();
    let answer = bench.answer();
    assert_eq!((answer.metadata.id, code(&answer)), (ID, ResponseCode::NoError));
    assert_eq!(answer.queries[0].name().to_ascii(), "DB.");
    let lines: Vec<(String, RecordType)> = answer
        .answers
        .iter()
        .map(|record| (record.name.to_ascii(), record.record_type()))
        .collect();
    assert_eq!(lines, [("DB.".into(), RecordType::CNAME), (second.name(), RecordType::A)]);
    assert!(answer.answers[0].data.to_string().eq_ignore_ascii_case("db.cluster.local."));
}

/// Who asks for both kinds of addresses takes one "no such name" for the answer to both (musl).
#[test]
fn n21_a_name_that_has_an_address_of_the_other_kind_only_is_not_said_to_be_none() {
    let mut bench = Bench::new();
    let first = bench.asks(&question("db.", RecordType::AAAA).to_vec().unwrap());
    let mut nothing = first.reply(ResponseCode::NoError);
    nothing.add_authority(Record::from_rdata(
        name("cluster.local."),
        30,
        RData::SOA(hickory_proto::rr::rdata::SOA::new(name("ns."), name("me."), 1, 2, 3, 4, 30)),
    ));
    bench.reply(&first, &nothing).unwrap();
    for _ in 0..2 {
        let next = bench.asked();
        bench.reply(&next, &next.reply(ResponseCode::NXDomain)).unwrap();
    }
    let answer = bench.answer();
    assert_eq!(
        (code(&answer), answer.queries[0].name().to_ascii()),
        (ResponseCode::NoError, "db.".into())
    );
    assert_eq!(answer.answers[0].data.to_string(), first.name());
    assert_eq!((answer.answers.len(), answer.authorities.len()), (1, 1));
}

#[test]
fn n21_a_name_with_some_dots_is_tried_as_it_is_first() {
    let mut bench = Bench::new();
    let mut names = Vec::new();
    let mut asked = bench.asks(&ask_for("db.other."));
    loop {
        names.push(asked.name());
        bench.reply(&asked, &asked.reply(ResponseCode::NXDomain)).unwrap();
        if names.len() == 3 {
            break;
        }
        asked = bench.asked();
    }
    assert_eq!(names, ["db.other.", "db.other.ns.svc.cluster.local.", "db.other.cluster.local."]);
    let answer = bench.answer();
    assert_eq!(
        (code(&answer), answer.queries[0].name().to_ascii()),
        (ResponseCode::NXDomain, "db.other.".into())
    );
}

#[test]
fn n21_a_name_with_dots_enough_or_of_another_type_is_left_alone() {
    for (text, kind) in
        [(PLAIN, RecordType::A), ("db.", RecordType::MX), ("db.cluster.local.", RecordType::A)]
    {
        let mut bench = Bench::new();
        let asked = bench.asks(&question(text, kind).to_vec().unwrap());
        assert_eq!(asked.name(), text);
        bench.reply(&asked, &asked.reply(ResponseCode::NXDomain)).unwrap();
        assert_eq!(code(&bench.answer()), ResponseCode::NXDomain, "{text} {kind}");
    }
}

#[test]
fn n21_a_name_too_long_for_a_domain_is_tried_without_it() {
    let label = "x".repeat(63);
    let text = format!("{label}.{label}.{label}.{}.", "x".repeat(55));
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(&text));
    assert_eq!(asked.name(), text);
    bench.reply(&asked, &asked.reply(ResponseCode::NXDomain)).unwrap();
    assert_eq!(code(&bench.answer()), ResponseCode::NXDomain);
}

#[test]
fn n21_a_search_that_takes_too_long_ends_within_the_budget() {
    let search = (0..32).map(|number| format!("d{number}.example")).collect();
    let mut bench = Bench::with(Settings { search, ..settings() });
    bench.asks(&ask_for("db."));
    let began = bench.now;
    while bench.forwarder.deadline().is_some() {
        bench.wait();
    }
    assert!(bench.now - began <= BUDGET);
}

#[test]
fn n23_without_a_server_the_answer_is_a_failure() {
    let mut bench = Bench::with(Settings { upstreams: vec![], ..settings() });
    assert_eq!(code(&bench.local(&ask_for(PLAIN))), ResponseCode::ServFail);
}

/// A server that is ourselves, by whatever way: what comes back is what was sent.
#[test]
fn n23_a_question_of_ours_that_comes_back_fails_and_the_next_server_is_asked() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    assert_eq!(bench.query(Over::Udp, &asked.bytes), Err(Reason::Loop));
    let refusal = bench.answer_bytes();
    bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &refusal }).unwrap();
    let next = bench.asked();
    assert_ne!(next.server, asked.server);
    bench.reply(&next, &next.found()).unwrap();
    assert_eq!(bench.answer().answers.len(), 1);
}

/// By another server: our question has another id, and waits for itself.
#[test]
fn n23_a_ring_of_servers_ends_by_itself() {
    let mut bench =
        Bench::with(Settings { upstreams: settings().upstreams[..1].to_vec(), ..settings() });
    bench.asks(&ask_for(PLAIN));
    let mut asks = 1;
    while bench.forwarder.deadline().is_some() {
        bench.query(Over::Udp, &ask_for(PLAIN)).unwrap();
        bench.wait();
        while let Some(output) = bench.forwarder.poll() {
            asks += usize::from(matches!(output, Output::Ask { .. }));
        }
    }
    assert_eq!(asks, 2, "no more than without the ring");
}

#[test]
fn n25_n26_chaos_and_transfers_are_refused() {
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    for query in [chaos, question(PLAIN, RecordType::AXFR), question(PLAIN, RecordType::IXFR)] {
        assert_eq!(
            code(&Bench::new().local(&query.to_vec().unwrap())),
            ResponseCode::Refused,
            "{query:?}"
        );
    }
}

#[test]
fn n28_a_new_configuration_keeps_what_is_under_way() {
    let mut bench = Bench::new();
    let old = bench.asks(&ask_for(PLAIN));
    let server: SocketAddr = "10.9.9.9:53".parse().unwrap();
    bench.forwarder.reconfigure(Settings { upstreams: vec![server], ..settings() });
    assert_eq!(bench.asks(&ask_for(PLAIN)).server, server);
    bench.reply(&old, &old.found()).unwrap();
    assert_eq!(bench.answer().answers.len(), 1);
    // And with no server left, a late one fails instead of asking nobody.
    let waiting = bench.asks(&numbered(1));
    bench.forwarder.reconfigure(Settings { upstreams: vec![], ..settings() });
    bench.forwarder.handle(bench.now, Input::Failed { ask: waiting.ask }).unwrap();
    while bench.forwarder.deadline().is_some() {
        bench.wait();
    }
    assert!(bench.forwarder.flights.is_empty());
}

#[test]
fn n30_private_addresses_and_all_names_pass() {
    let mut bench = Bench::new();
    for (number, address) in
        [[127, 0, 0, 1], [10, 0, 0, 1], [169, 254, 169, 254], [0, 0, 0, 0]].into_iter().enumerate()
    {
        let asked = bench.asks(&numbered(number));
        let mut reply = asked.found();
        reply.answers[0].data = RData::A(A(address.into()));
        bench.reply(&asked, &reply).unwrap();
        assert_eq!(bench.answer().answers[0].data, RData::A(A(address.into())));
    }
}

#[test]
fn answers_with_records_that_are_not_there_are_not_passed_on() {
    let mut bench = Bench::new();
    let asked = bench.asks(&ask_for(PLAIN));
    let mut bytes = asked.found().to_vec().unwrap();
    bytes[7] = 9;
    bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &bytes }).unwrap();
    assert_ne!(bench.asked().server, asked.server);
}

/// One that asks much has half of the places, and takes nobody else's.
#[test]
fn questions_under_way_are_bounded_and_shared() {
    let mut bench = Bench::new();
    for number in 0..MAX_FLIGHTS / 2 {
        bench.asks(&numbered(number));
    }
    assert_eq!(bench.query(Over::Udp, &ask_for(PLAIN)), Err(Reason::Busy));
    assert_eq!(code(&bench.only_answer()), ResponseCode::ServFail);
    for host in 3..=9 {
        bench.query_of(host, Over::Udp, &numbered(1000 + usize::from(host))).unwrap();
        bench.asked();
    }
    let left =
        (2000..).find(|number| bench.query_of(3, Over::Udp, &numbered(*number)).is_err()).unwrap()
            - 2000;
    assert!((100..MAX_FLIGHTS / 4).contains(&left), "{left}");
    assert!(bench.forwarder.flights.len() < MAX_FLIGHTS);
    // What is over is free again.
    while bench.forwarder.deadline().is_some() {
        while bench.forwarder.poll().is_some() {}
        bench.wait();
    }
    assert_eq!((bench.forwarder.places.held(), bench.forwarder.waiting.held()), (0, 0));
    assert_eq!(bench.query(Over::Udp, &numbered(9999)), Ok(()));
}

#[test]
fn a_question_longer_than_any_is_refused() {
    for over in [Over::Udp, Over::Tcp] {
        let mut bench = Bench::new();
        let mut bytes = ask_for(PLAIN);
        bytes.resize(LARGEST_QUESTION, 0);
        bench.query(over, &bytes).unwrap();
        assert_eq!(code(&bench.only_answer()), ResponseCode::FormErr, "octets behind the end");
        bytes.push(0);
        assert_eq!(bench.query(over, &bytes), Err(Reason::TooLong));
        assert_eq!(code(&bench.only_answer()), ResponseCode::FormErr);
        // It is no question: no answer to what is one itself, or has no header.
        bytes[2] |= 0x80;
        assert_eq!(bench.query(over, &bytes), Err(Reason::NotAQuery));
        assert_eq!(bench.forwarder.poll(), None);
    }
}

proptest::proptest! {
    #[test]
    fn random_bytes_end_nothing(
        query in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        reply in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
    ) {
        let mut bench = Bench::new();
        let _ = bench.query(Over::Udp, &query);
        while bench.forwarder.poll().is_some() {}
        let asked = bench.asks(&ask_for("db."));
        let _ = bench.forwarder.handle(bench.now, Input::Reply { ask: asked.ask, bytes: &reply });
    }

    /// A question and its true answer, each with some octets spoilt: one answer at most, of no more than fits.
    #[test]
    fn spoilt_messages_end_nothing(
        spoil_query in proptest::collection::vec((12usize..60, proptest::num::u8::ANY), 0..3),
        spoil_reply in proptest::collection::vec((2usize..120, proptest::num::u8::ANY), 0..5),
        text in proptest::sample::select(vec!["db.", "db.other.", PLAIN, "web."]),
    ) {
        let spoil = |bytes: &mut Vec<u8>, changes: &[(usize, u8)]| for (at, byte) in changes {
            if let Some(slot) = bytes.get_mut(*at) { *slot = *byte; }
        };
        let mut bench = Bench::new();
        let mut query = ask_for(text);
        spoil(&mut query, &spoil_query);
        let _ = bench.query(Over::Udp, &query);
        let mut answers = 0;
        // Every question for a server is answered with a spoilt answer, then with its time-out.
        for _ in 0..200 {
            match bench.forwarder.poll() {
                Some(Output::Answer { bytes, .. }) => {
                    answers += 1;
                    assert!(bytes.len() <= 512, "{} octets", bytes.len());
                }
                Some(Output::Ask { ask, server, over, bytes }) => {
                    let asked = Asked { ask, server, over, bytes };
                    let mut reply = asked.found().to_vec().unwrap();
                    spoil(&mut reply, &spoil_reply);
                    let _ = bench.forwarder.handle(bench.now, Input::Reply { ask, bytes: &reply });
                }
                Some(Output::Forget { .. }) => {}
                None if bench.forwarder.deadline().is_some() => bench.wait(),
                None => break,
            }
        }
        assert!(answers <= 1);
        assert!(bench.forwarder.flights.is_empty());
    }
}
