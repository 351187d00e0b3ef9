use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const STRAY: &[u8] =
    b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray \\uFFFD\"}}\n";

/// A core and its clock.
struct Site {
    agent: Agent,
    now: Instant,
    /// Lines sent and not looked at yet.
    sent: VecDeque<Vec<u8>>,
    answers: Vec<(u64, Result<Answer, NoAnswer>)>,
}

impl Site {
    #[expect(clippy::disallowed_methods, reason = "a test's beginning of time")]
    fn new() -> Self {
        let numbers = Arc::new(AtomicU32::new(100));
        let agent = Agent::new(move || numbers.fetch_add(1, Ordering::Relaxed));
        Self { agent, now: Instant::now(), sent: VecDeque::new(), answers: Vec::new() }
    }

    /// One that has said its number, and has been asked what it is asked at first.
    fn synced() -> Self {
        let mut site = Self::new();
        site.open();
        site.answer_number();
        for (asked, reply) in [
            ("guest-info", r#"{"return":{"version":"7.2.22","supported_commands":[]}}"#),
            ("guest-fsfreeze-status", r#"{"return":"thawed"}"#),
            ("guest-get-osinfo", r#"{"return":{"id":"debian","pretty-name":"Debian 12"}}"#),
            ("guest-get-host-name", r#"{"return":{"host-name":"tiny"}}"#),
            ("guest-network-get-interfaces", r#"{"return":[]}"#),
            ("guest-get-fsinfo", r#"{"return":[]}"#),
        ] {
            assert_eq!(site.asked(), asked);
            site.says(reply);
        }
        assert!(site.sent.is_empty());
        site
    }

    fn handle(&mut self, input: Input<'_>) {
        self.agent.handle(self.now, input);
        while let Some(output) = self.agent.poll() {
            match output {
                Output::Transmit(line) => self.sent.push_back(line),
                Output::Answer(number, answer) => self.answers.push((number, answer)),
                Output::Known => {}
            }
        }
    }

    fn open(&mut self) {
        self.handle(Input::Port { open: true });
    }

    fn says(&mut self, line: &str) {
        self.handle(Input::Bytes(format!("{line}\n").as_bytes()));
    }

    fn ask(&mut self, number: u64, request: Request) {
        self.handle(Input::Ask { number, request });
    }

    /// The command of the next line sent.
    fn asked(&mut self) -> String {
        let line = self.sent.pop_front().unwrap();
        let line = line.strip_prefix(&[DELIMITER]).unwrap_or(&line);
        let asked: Value = serde_json::from_slice(line).unwrap();
        asked["execute"].as_str().unwrap().to_owned()
    }

    fn number(&mut self) -> u64 {
        let line = self.sent.pop_front().unwrap();
        let asked: Value =
            serde_json::from_slice(line.strip_prefix(&[DELIMITER]).unwrap()).unwrap();
        assert_eq!(asked["execute"], "guest-sync-delimited");
        asked["arguments"]["id"].as_u64().unwrap()
    }

    fn answer_number(&mut self) {
        let number = self.number();
        self.handle(Input::Bytes(&delimited(number)));
    }

    /// To the next deadline.
    fn wait(&mut self) -> Duration {
        let at = self.agent.deadline().unwrap();
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        self.handle(Input::Tick);
        waited
    }

    fn answer(&mut self) -> (u64, Result<Answer, NoAnswer>) {
        assert_eq!(self.answers.len(), 1, "{:?}", self.answers);
        self.answers.remove(0)
    }

    fn presence(&self) -> Presence {
        self.agent.known().presence
    }
}

fn delimited(number: u64) -> Vec<u8> {
    [vec![DELIMITER], format!("{{\"return\": {number}}}\n").into_bytes()].concat()
}

#[test]
fn an_absent_agent_costs_nothing_and_answers_at_once() {
    let mut site = Site::new();
    assert_eq!((site.agent.deadline(), site.presence()), (None, Presence::Absent));
    site.ask(1, Request::Ping);
    assert_eq!(site.answer(), (1, Err(NoAnswer::Absent)));
    assert!(site.sent.is_empty());
}

/// What qemu-ga 7.2 says first: an error for the octet, and then the number behind another.
#[test]
fn an_error_before_the_number_is_skipped() {
    let mut site = Site::new();
    site.open();
    let number = site.number();
    site.handle(Input::Bytes(STRAY));
    assert_eq!(site.presence(), Presence::Syncing);
    for octet in delimited(number) {
        site.handle(Input::Bytes(&[octet]));
    }
    assert_eq!((site.presence(), site.asked().as_str()), (Presence::Answering, "guest-info"));
}

#[test]
fn replies_of_a_former_session_come_first_and_are_nobodys() {
    let mut site = Site::new();
    site.open();
    let number = site.number();
    site.ask(1, Request::HostName);
    site.says(r#"{"return":{"host-name":"old"}}"#);
    site.says(r#"{"return":[{"online":true,"logical-id":0}]}"#);
    // A former number, and ours without a delimiter.
    site.handle(Input::Bytes(&delimited(7)));
    site.says(&format!("{{\"return\": {number}}}"));
    assert_eq!((site.presence(), site.answers.len()), (Presence::Syncing, 0));
    site.handle(Input::Bytes(&delimited(number)));
    assert_eq!(site.asked(), "guest-get-host-name");
    site.says(r#"{"return":{"host-name":"new"}}"#);
    assert_eq!(site.answer(), (1, Ok(Answer::HostName("new".to_owned()))));
}

/// The next session's first line is a parse error, twice.
#[test]
fn half_a_request_of_a_former_session_spoils_nothing() {
    let mut site = Site::new();
    site.open();
    let number = site.number();
    site.handle(Input::Bytes(STRAY));
    site.handle(Input::Bytes(STRAY));
    site.handle(Input::Bytes(&delimited(number)));
    assert_eq!(site.presence(), Presence::Answering);
}

#[test]
fn a_late_reply_is_not_the_next_ones() {
    let mut site = Site::synced();
    site.ask(1, Request::HostName);
    assert_eq!(site.asked(), "guest-get-host-name");
    assert_eq!(site.wait(), Duration::from_secs(5));
    assert_eq!(site.answer(), (1, Err(NoAnswer::TimedOut)));
    site.ask(2, Request::HostName);
    let number = site.number();
    assert!(site.sent.is_empty(), "before it is known whose replies come");
    site.says(r#"{"return":{"host-name":"late"}}"#);
    site.handle(Input::Bytes(&delimited(number)));
    assert_eq!(site.asked(), "guest-get-host-name");
    site.says(r#"{"return":{"host-name":"in time"}}"#);
    assert_eq!(site.answer(), (2, Ok(Answer::HostName("in time".to_owned()))));
}

#[test]
fn silence_is_asked_ever_less_and_up_to_each_minute() {
    let mut site = Site::new();
    site.open();
    site.ask(1, Request::Ping);
    let mut waits = Vec::new();
    for _ in 0..6 {
        site.number();
        assert_eq!(site.wait(), SYNC_WITHIN);
        assert_eq!(site.presence(), Presence::Lost);
        assert!(site.sent.is_empty());
        waits.push(site.wait().as_secs());
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    assert_eq!(site.answer(), (1, Err(NoAnswer::Silent)));
    site.ask(2, Request::Ping);
    site.wait();
    site.ask(3, Request::Ping);
    assert_eq!(site.answers.remove(0), (2, Err(NoAnswer::Silent)));
    assert_eq!(site.answer(), (3, Err(NoAnswer::Silent)));
    site.wait();
    site.sent.drain(..site.sent.len() - 1);
    site.answer_number();
    assert_eq!(site.presence(), Presence::Answering);
}

#[test]
fn it_is_asked_each_30_s_while_it_answers() {
    let mut site = Site::synced();
    assert_eq!(site.agent.known().host_name.as_deref(), Some("tiny"));
    assert_eq!(site.wait(), Duration::from_secs(30));
    assert_eq!(site.asked(), "guest-info");
    site.says(
        r#"{"return":{"version":"8","supported_commands":[{"name":"guest-get-host-name","enabled":true,"success-response":true},{"name":"guest-get-osinfo","enabled":false,"success-response":true}]}}"#,
    );
    assert_eq!(site.asked(), "guest-get-host-name");
    site.says(r#"{"return":{"host-name":"other"}}"#);
    assert!(site.sent.is_empty(), "what it has not is not asked");
    assert_eq!(site.agent.known().host_name.as_deref(), Some("other"));
    site.handle(Input::Port { open: false });
    let known = site.agent.known();
    assert_eq!((known.presence, &known.host_name), (Presence::Absent, &None));
}

#[test]
fn a_frozen_agent_refuses_and_what_it_said_stays() {
    let mut site = Site::synced();
    site.ask(1, Request::Freeze { hold: Duration::from_secs(20) });
    assert_eq!(site.asked(), "guest-fsfreeze-freeze");
    site.says(r#"{"return": 1}"#);
    assert_eq!(site.answer(), (1, Ok(Answer::Frozen(1))));
    assert_eq!(site.presence(), Presence::Frozen);
    site.ask(2, Request::Interfaces);
    site.asked();
    site.says(r#"{"error": {"class": "CommandNotFound", "desc": "Command guest-network-get-interfaces has been disabled: the agent is in frozen state"}}"#);
    assert_eq!(site.answer(), (2, Err(NoAnswer::Frozen)));
    assert_eq!(site.agent.known().host_name.as_deref(), Some("tiny"));
    // A second one would be taken for one that failed, and thawed.
    site.ask(3, Request::Freeze { hold: Duration::from_secs(20) });
    assert_eq!(site.answer(), (3, Err(NoAnswer::Frozen)));
    site.ask(4, Request::Thaw);
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
    site.says(r#"{"return": 1}"#);
    assert_eq!(site.answer(), (4, Ok(Answer::Thawed(1))));
    assert_eq!(site.presence(), Presence::Answering);
    // No thaw of ours: what it refused is asked again.
    assert_eq!(site.wait(), Duration::from_secs(5));
    assert_eq!(site.asked(), "guest-info");
}

#[test]
fn a_freeze_ends_though_nobody_thaws() {
    let mut site = Site::synced();
    site.ask(1, Request::Freeze { hold: Duration::from_secs(20) });
    site.asked();
    site.says(r#"{"return": 1}"#);
    assert_eq!(site.wait(), Duration::from_secs(20));
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
    site.says(r#"{"error": {"class": "GenericError", "desc": "not now"}}"#);
    assert_eq!(site.wait(), Duration::from_secs(5), "tried again");
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
    site.says(r#"{"return": 1}"#);
    assert_eq!(site.presence(), Presence::Answering);
    assert!(site.agent.guard.is_none());
}

#[test]
fn a_freeze_without_an_answer_ends_too() {
    let mut site = Site::synced();
    site.ask(1, Request::Freeze { hold: Duration::from_secs(3600) });
    site.asked();
    assert_eq!(site.wait(), Duration::from_secs(30));
    assert_eq!(site.answer(), (1, Err(NoAnswer::TimedOut)));
    // The agent went, and came back after the time of the thaw.
    site.handle(Input::Port { open: false });
    site.sent.clear();
    site.now += MAX_HOLD;
    site.open();
    site.answer_number();
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
}

#[test]
fn a_freeze_that_fails_by_half_is_thawed_at_once_and_one_of_others_is_left() {
    let mut site = Site::synced();
    site.ask(1, Request::Freeze { hold: Duration::from_secs(20) });
    site.asked();
    site.says(
        r#"{"error": {"class": "GenericError", "desc": "failed to freeze /data: I/O error"}}"#,
    );
    assert!(matches!(site.answer(), (1, Err(NoAnswer::Refused(_)))));
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
    site.says(r#"{"return": 0}"#);
    site.ask(2, Request::Freeze { hold: Duration::from_secs(20) });
    site.asked();
    site.says(r#"{"error": {"desc": "the agent is in frozen state"}}"#);
    assert_eq!(site.answer(), (2, Err(NoAnswer::Frozen)));
    assert!(site.agent.guard.is_none());
    site.wait();
    assert_eq!(site.asked(), "guest-fsfreeze-status");
    site.says(r#"{"return": "thawed"}"#);
    assert_eq!(site.presence(), Presence::Answering);
}

#[test]
fn an_endless_reply_is_given_up_and_costs_no_memory() {
    let mut site = Site::synced();
    site.ask(1, Request::Interfaces);
    site.asked();
    let mut answered = false;
    for _ in 0..1000 {
        site.handle(Input::Bytes(&[b'['; 4096]));
        assert!(site.agent.line.capacity() <= 2 * MAX_REPLY_BYTES);
        answered |= !site.answers.is_empty();
    }
    assert!(answered);
    assert_eq!(site.answer(), (1, Err(NoAnswer::Misunderstood)));
    // The rest of it comes before the number.
    let number = site.number();
    site.handle(Input::Bytes(b"\n"));
    site.handle(Input::Bytes(&[DELIMITER; 9]));
    site.handle(Input::Bytes(&delimited(number)));
    assert_eq!(site.presence(), Presence::Answering);
}

#[test]
fn garbage_for_a_reply_is_no_answer_and_the_channel_counts_no_more() {
    for garbage in [
        "x",
        "{}",
        "[]",
        "null",
        "{\"return\":7}",
        "{\"return\":[{}]}",
        "\u{ff}",
        "{\"return\":[],\"error\":{}}",
    ] {
        let mut site = Site::synced();
        site.ask(1, Request::Interfaces);
        site.asked();
        site.says(garbage);
        assert_eq!(site.answer(), (1, Err(NoAnswer::Misunderstood)), "{garbage}");
        site.answer_number();
        assert_eq!(site.presence(), Presence::Answering);
    }
    let mut site = Site::synced();
    site.says(r#"{"return":{}}"#);
    assert_eq!(site.agent.reasons().get(&Reason::Unasked), Some(&1));
}

#[test]
fn what_the_guest_says_is_cut_and_counted() {
    let address = json!({"ip-address": "10.0.0.1", "ip-address-type": "ipv4", "prefix": 24});
    let mut addresses = vec![address; 40];
    addresses.insert(0, json!({"ip-address": "nonsense", "prefix": 200}));
    addresses.insert(0, json!({"ip-address": "::1", "prefix": 129}));
    let name = format!("\u{1b}[31m\u{202e}{}", "x".repeat(999));
    let interface = json!({"name": name, "hardware-address": "02:00:00:00:00:01", "ip-addresses": addresses, "statistics": {}});
    let mut site = Site::synced();
    site.ask(1, Request::Interfaces);
    site.asked();
    site.says(&json!({"return": vec![interface; 70]}).to_string());
    let (1, Ok(Answer::Interfaces(interfaces))) = site.answer() else { panic!() };
    assert_eq!(interfaces.len(), 64);
    let first = interfaces.first().unwrap();
    assert_eq!((first.name.len(), &first.name[..5]), (128, "[31mx"));
    assert_eq!(first.mac.unwrap().to_string(), "02:00:00:00:00:01");
    assert_eq!(first.addresses.len(), 31, "32 were looked at");
    assert_eq!(first.addresses[0].prefix, None);
    let system = json!({"name": "vda2", "mountpoint": "/data\u{7}", "type": "ext4", "used-bytes": 1, "total-bytes": 2, "disk": []});
    site.ask(2, Request::FileSystems);
    site.asked();
    site.says(&json!({"return": vec![system; 99]}).to_string());
    let (2, Ok(Answer::FileSystems(systems))) = site.answer() else { panic!() };
    let wanted = FileSystem {
        mountpoint: "/data".to_owned(),
        kind: "ext4".to_owned(),
        used_bytes: Some(1),
        total_bytes: Some(2),
    };
    assert_eq!((systems.len(), systems.first()), (64, Some(&wanted)));
}

#[test]
fn requests_wait_for_each_other_and_a_thaw_goes_first() {
    let mut site = Site::synced();
    for number in 0..10 {
        site.ask(number, Request::Ping);
    }
    assert_eq!(site.answer(), (9, Err(NoAnswer::Busy)));
    site.ask(10, Request::Thaw);
    assert_eq!(site.asked(), "guest-ping");
    site.says(r#"{"return":{}}"#);
    assert_eq!(
        (site.answer(), site.asked().as_str()),
        ((0, Ok(Answer::Done)), "guest-fsfreeze-thaw")
    );
    site.handle(Input::Port { open: false });
    assert!(site.answers.iter().all(|(_, answer)| *answer == Err(NoAnswer::Ended)));
    assert_eq!(site.answers.len(), 9);
}

#[test]
fn a_shutdown_thaws_first() {
    let mut site = Site::synced();
    site.ask(1, Request::Freeze { hold: Duration::from_secs(20) });
    site.asked();
    site.says(r#"{"return": 1}"#);
    site.ask(2, Request::Shutdown);
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
    site.says(r#"{"return": 1}"#);
    assert_eq!(site.asked(), "guest-shutdown");
    site.handle(Input::Port { open: false });
    assert_eq!(site.answers.pop(), Some((2, Err(NoAnswer::Ended))), "as it is when it succeeds");
}

/// What a guest may do between our steps.
#[derive(Debug, Clone)]
enum Step {
    Ask,
    /// The agent takes what has come, and answers so many of it.
    Answer(usize),
    Pass(u64),
    /// The port closes and opens, and what was not taken is lost.
    Reopen,
    Garbage(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Ask),
        6 => (1..4usize).prop_map(Step::Answer),
        2 => (1..40u64).prop_map(Step::Pass),
        1 => Just(Step::Reopen),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Garbage),
    ]
}

/// As qemu-ga is: takes requests in their order, and answers each, sooner or later. Which was the n-th of the host's names it says.
#[derive(Default)]
struct Model {
    replies: VecDeque<Vec<u8>>,
    asked: u64,
}

impl Model {
    fn take(&mut self, line: &[u8]) {
        let asked: Value =
            serde_json::from_slice(line.strip_prefix(&[DELIMITER]).unwrap_or(line)).unwrap();
        let reply = match asked["execute"].as_str().unwrap() {
            "guest-sync-delimited" => {
                self.replies.push_back(STRAY.to_vec());
                return self
                    .replies
                    .push_back(delimited(asked["arguments"]["id"].as_u64().unwrap()));
            }
            "guest-get-host-name" => {
                self.asked += 1;
                format!(r#"{{"return":{{"host-name":"{}"}}}}"#, self.asked)
            }
            "guest-network-get-interfaces" | "guest-get-fsinfo" => r#"{"return":[]}"#.to_owned(),
            _ => r#"{"return":{}}"#.to_owned(),
        };
        self.replies.push_back(format!("{reply}\n").into_bytes());
    }
}

const REFUSED: &str = r#"{"error": {"class": "CommandNotFound", "desc": "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"}}"#;

fn freeze(secs: u64) -> Request {
    Request::Freeze { hold: Duration::from_secs(secs) }
}

/// One that was asked for a freeze and has frozen, at the answer to the asker.
fn frozen(secs: u64) -> Site {
    let mut site = Site::synced();
    site.ask(1, freeze(secs));
    assert_eq!(site.asked(), "guest-fsfreeze-freeze");
    site.says(r#"{"return":1}"#);
    assert_eq!(site.answer(), (1, Ok(Answer::Frozen(1))));
    site
}

#[test]
fn of_two_freezes_that_wait_the_second_is_refused_and_the_first_ends() {
    let mut site = Site::synced();
    site.ask(1, Request::FileSystems);
    site.ask(2, freeze(20));
    site.ask(3, freeze(20));
    site.asked();
    site.says(r#"{"return":[]}"#);
    drop(site.answer());
    assert_eq!(site.asked(), "guest-fsfreeze-freeze");
    site.says(r#"{"return":1}"#);
    assert_eq!(site.answers, [(2, Ok(Answer::Frozen(1))), (3, Err(NoAnswer::Frozen))]);
    assert!(site.sent.is_empty());
    assert_eq!(site.wait(), Duration::from_secs(20));
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
}

#[test]
fn a_freeze_that_was_told_as_failed_is_thawed_when_the_agent_answers_again() {
    let mut site = Site::synced();
    site.ask(1, Request::Freeze { hold: MAX_HOLD });
    site.asked();
    site.wait();
    assert_eq!(site.answer(), (1, Err(NoAnswer::TimedOut)));
    site.answer_number();
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
}

#[test]
fn a_freeze_holds_from_its_answer_on() {
    let mut site = Site::synced();
    site.ask(1, freeze(20));
    site.asked();
    site.now += Duration::from_secs(19);
    site.says(r#"{"return":1}"#);
    site.wait();
    // The round that keeps the status fresh comes between.
    site.says(r#"{"return":"frozen"}"#);
    site.sent.clear();
    assert_eq!(site.wait(), Duration::from_secs(9));
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
}

#[test]
fn an_agent_that_comes_back_while_its_guest_is_frozen_is_shown_so() {
    let mut site = frozen(300);
    site.handle(Input::Port { open: false });
    site.open();
    site.sent.clear();
    site.now += Duration::from_secs(10);
    site.handle(Input::Port { open: true });
    site.sent.drain(..site.sent.len() - 1);
    site.answer_number();
    while let Some(line) = site.sent.pop_front() {
        let asked = String::from_utf8(line).unwrap();
        if asked.contains("guest-info") {
            site.says(r#"{"return":{"version":"7.2.22","supported_commands":[{"name":"guest-fsfreeze-status","enabled":true},{"name":"guest-get-osinfo","enabled":false}]}}"#);
        } else {
            assert!(asked.contains("guest-fsfreeze-status"), "{asked}");
            site.says(r#"{"return":"frozen"}"#);
        }
    }
    assert_eq!(site.presence(), Presence::Frozen);
}

#[test]
fn a_guest_that_begins_anew_is_not_frozen_any_more() {
    let mut site = frozen(300);
    site.handle(Input::Reset);
    site.handle(Input::Port { open: false });
    // Whatever was sent is for nobody.
    site.sent.clear();
    site.open();
    site.answer_number();
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
    site.says(r#"{"return":0}"#);
    site.ask(2, freeze(20));
    assert!(site.answers.is_empty(), "{:?}", site.answers);
}

#[test]
fn a_shutdown_has_a_place_of_its_own_and_no_freeze_comes_after_it() {
    let mut site = Site::synced();
    for number in 0..9 {
        site.ask(number, Request::Ping);
    }
    site.ask(9, Request::Thaw);
    assert!(site.answers.is_empty(), "{:?}", site.answers);
    site.ask(10, Request::Shutdown);
    assert!(site.answers.is_empty(), "{:?}", site.answers);
    let mut site = Site::synced();
    site.ask(1, Request::Ping);
    site.ask(2, freeze(300));
    site.ask(3, Request::Shutdown);
    assert_eq!(site.answer(), (2, Err(NoAnswer::ShuttingDown)));
    site.ask(4, freeze(300));
    assert_eq!(site.answer(), (4, Err(NoAnswer::ShuttingDown)));
}

#[test]
fn somebody_who_waits_for_a_thaw_waits_no_minute() {
    let mut site = frozen(20);
    while site.now < site.agent.guard.as_ref().unwrap().thaw_at + Duration::from_secs(300) {
        assert!(site.wait() <= Duration::from_secs(30));
        site.sent.clear();
    }
    let longest = (0..10).map(|_| site.wait()).max();
    assert!(longest <= Some(AGAIN), "{longest:?}");
}

#[test]
fn a_word_of_a_path_is_no_frozen_state() {
    let mut site = Site::synced();
    site.ask(1, freeze(20));
    site.asked();
    site.says(r#"{"error": {"desc": "failed to open /srv/frozen-orders: Permission denied"}}"#);
    assert!(matches!(site.answer(), (1, Err(NoAnswer::Refused(_)))));
    // Perhaps by half: thawed at once. By others: theirs.
    assert_eq!(site.asked(), "guest-fsfreeze-thaw");
    let mut site = Site::synced();
    site.ask(1, freeze(20));
    site.asked();
    site.says(REFUSED);
    assert_eq!(site.answer(), (1, Err(NoAnswer::Frozen)));
}

#[test]
fn a_number_that_is_none_costs_no_list() {
    let mut site = Site::synced();
    site.ask(1, Request::Interfaces);
    site.says(r#"{"return":[{"name":"e0","ip-addresses":[{"ip-address":"10.0.0.1","prefix":-1},{"ip-address":"10.0.0.2","prefix":24}]}]}"#);
    let (1, Ok(Answer::Interfaces(interfaces))) = site.answer() else { panic!() };
    let prefixes: Vec<_> = interfaces[0].addresses.iter().map(|it| it.prefix).collect();
    assert_eq!(prefixes, [None, Some(24)]);
    site.ask(2, Request::FileSystems);
    site.says(r#"{"return":[{"mountpoint":"/","type":"ext4","used-bytes":1.5,"total-bytes":7}]}"#);
    let (2, Ok(Answer::FileSystems(systems))) = site.answer() else { panic!() };
    assert_eq!((systems[0].used_bytes, systems[0].total_bytes), (None, Some(7)));
}

proptest! {
    /// Each answer is that to the request sent last, whatever came late or was lost.
    #[test]
    fn no_request_gets_anothers_answer(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut site, mut model) = (Site::new(), Model::default());
        let mut next = 0;
        site.open();
        for step in steps {
            match step {
                Step::Ask => {
                    site.ask(next, Request::HostName);
                    next += 1;
                }
                Step::Answer(replies) => {
                    for _ in 0..replies {
                        for line in site.sent.drain(..) {
                            model.take(&line);
                        }
                        let Some(reply) = model.replies.pop_front() else { break };
                        site.handle(Input::Bytes(&reply));
                        for (_, answer) in site.answers.drain(..) {
                            if let Ok(answer) = answer {
                                prop_assert_eq!(answer, Answer::HostName(model.asked.to_string()));
                            }
                        }
                    }
                }
                Step::Pass(secs) => {
                    site.now += Duration::from_secs(secs);
                    site.handle(Input::Tick);
                }
                Step::Reopen => {
                    site.handle(Input::Port { open: false });
                    site.sent.clear();
                    site.open();
                }
                Step::Garbage(bytes) => site.handle(Input::Bytes(&bytes)),
            }
        }
        // It comes round again in the end.
        site.handle(Input::Bytes(b"\n"));
        for _ in 0..200 {
            for line in site.sent.drain(..) {
                model.take(&line);
            }
            match model.replies.pop_front() {
                Some(reply) => site.handle(Input::Bytes(&reply)),
                None if site.presence() == Presence::Answering => break,
                None => drop(site.wait()),
            }
        }
        prop_assert_eq!(site.presence(), Presence::Answering);
    }
}
