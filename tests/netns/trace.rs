//! `berth nft trace` on real packets, each test in network namespaces of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{Netns, until, veth};
use serde_json::Value;

/// `pod` (10.1.1.2 on eth0) and a `peer` (10.1.1.1) beside it.
struct Site {
    pod: Netns,
    peer: Netns,
}

impl Site {
    fn new(rules: &str) -> Self {
        let (pod, peer) = (Netns::new("pod"), Netns::new("peer"));
        veth(&pod, "eth0", &peer, "eth0");
        pod.ip("addr add 10.1.1.2/24 dev eth0");
        peer.ip("addr add 10.1.1.1/24 dev eth0");
        pod.nft(rules);
        Self { pod, peer }
    }

    fn start(&self, words: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(["nft", "--netns", &self.pod.path(), "trace"]).args(words.split_whitespace());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the marking table", || self.tables() == 1);
        child
    }

    /// Tables of traces under way.
    fn tables(&self) -> usize {
        self.pod.nft("list tables").matches("berth-trace-").count()
    }

    /// One datagram from the peer.
    fn send(&self, to: &str, port: u16) {
        self.peer.within(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(b"hello", (to.parse::<Ipv4Addr>().unwrap(), port)).unwrap();
        });
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

fn ended(mut child: Child) -> Output {
    until("the trace's end", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const RULES: &str = "
    add table ip nat { chain pre { type nat hook prerouting priority dstnat; }; };
    add rule ip nat pre udp dport 53 counter dnat to 10.1.1.2:5353;
    add table inet filter { chain checks { }; chain in { type filter hook input priority filter; policy drop; }; };
    add rule inet filter checks udp dport 5353 accept;
    add rule inet filter checks return;
    add rule inet filter in meta l4proto udp jump checks comment \"all-udp\";
    add rule inet filter in udp dport 99 drop";

#[test]
fn a_packet_is_told_with_its_rules_verdicts_and_rewriting() {
    let site = Site::new(RULES);
    let trace = site.start("--count 1 --protocol udp");
    site.send("10.1.1.2", 53);
    let told = text(&ended(trace));
    let lines: Vec<&str> = told.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("#1 +") && lines[0].contains("s eth0: udp 10.1.1.1:"), "{told}");
    assert!(lines[0].contains(" > 10.1.1.2:53 ttl 64 length 33"), "{told}");
    let has = |start: &str, end: &str| {
        assert!(
            lines.iter().any(|line| line.starts_with(start) && line.ends_with(end)),
            "{start} {end}\n{told}"
        );
    };
    has("ip nat pre  rule udp dport 53 counter packets ", "dnat to 10.1.1.2:5353 (verdict accept)");
    has("> udp 10.1.1.1:", " > 10.1.1.2:5353 ttl 64 length 33");
    has(
        "inet filter in  rule meta l4proto udp jump checks comment \"all-udp\"",
        "(verdict jump checks)",
    );
    has("inet filter checks  rule udp dport 5353 accept", "(verdict accept)");
    has("passed every chain it met", "");
    assert_eq!(lines.last(), Some(&"1 packet traced, no events lost"), "{told}");
    assert_eq!(site.tables(), 0);
}

#[test]
fn a_dropped_packet_is_told_with_the_rule_that_dropped_it() {
    let site = Site::new(RULES);
    let trace = site.start("--count 2 --output json --protocol udp");
    site.send("10.1.1.2", 99);
    site.send("10.1.1.2", 98);
    let told = text(&ended(trace));
    let objects: Vec<Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let packet = |port: u16| {
        objects
            .iter()
            .find(|object| object["first"]["dport"] == port)
            .unwrap_or_else(|| panic!("{told}"))
    };
    let (ruled, fell) = (packet(99), packet(98));
    for dropped in [ruled, fell] {
        assert_eq!(dropped["verdict"], "drop", "{told}");
        assert_eq!(dropped["first"]["iif"], "eth0", "{told}");
        assert_eq!(dropped["first"]["saddr"], "10.1.1.1", "{told}");
    }
    let last = |packet: &Value| packet["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (last(ruled)["rule"].as_str(), last(ruled)["chain"].as_str()),
        (Some("udp dport 99 drop"), Some("in"))
    );
    assert_eq!(
        (last(fell)["type"].as_str(), last(fell)["verdict"].as_str()),
        (Some("policy"), Some("drop"))
    );
    assert_eq!(objects.last().unwrap()["packets"], 2, "{told}");
}

#[test]
fn what_the_filter_leaves_out_is_not_told() {
    let site = Site::new(RULES);
    for (words, other) in [
        ("--port 7777", 7778),
        ("--port 7777 --protocol udp --to 10.1.1.0/24 --from 10.1.1.1 --iif eth0", 1),
        ("--port 7777 --iif eth0", 1),
    ] {
        let trace = site.start(&format!("--count 1 --output json {words}"));
        site.send("10.1.1.2", other);
        site.send("10.1.1.2", 7777);
        let told = text(&ended(trace));
        let first: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
        assert_eq!(first["first"]["dport"], 7777, "{words}\n{told}");
        assert_eq!(told.lines().count(), 2, "{told}");
    }
    for words in [
        "--from 10.1.1.3",
        "--to 10.1.2.0/24",
        "--protocol tcp",
        "--iif lo",
        "--port 1",
        "--to fd00::/8",
    ] {
        let trace = site.start(&format!("--for 400ms {words}"));
        site.send("10.1.1.2", 7777);
        assert_eq!(text(&ended(trace)), "0 packets traced, no events lost\n", "{words}");
    }
}

#[test]
fn what_this_host_sends_is_told_too() {
    let site =
        Site::new("add table ip out { chain post { type filter hook postrouting priority 0; }; }");
    site.pod.nft("add rule ip out post oifname eth0 udp dport 4242 counter");
    let trace = site.start("--count 1 --port 4242");
    site.pod
        .within(|| UdpSocket::bind("10.1.1.2:0").unwrap().send_to(b"x", "10.1.1.1:4242").unwrap());
    let told = text(&ended(trace));
    assert!(told.contains("this host to eth0: udp 10.1.1.2:"), "{told}");
    assert!(told.contains("ip out post  rule oifname \"eth0\" udp dport 4242 counter"), "{told}");
}

#[test]
fn the_mark_that_a_packet_came_with_is_shown() {
    let site =
        Site::new("add table ip out { chain post { type filter hook postrouting priority 0; }; }");
    let trace = site.start("--count 1 --port 4242");
    site.pod.within(|| {
        let socket = UdpSocket::bind("10.1.1.2:0").unwrap();
        socket2::SockRef::from(&socket).set_mark(0x2a).unwrap();
        socket.send_to(b"x", "10.1.1.1:4242").unwrap()
    });
    let text = text(&ended(trace));
    assert!(text.lines().next().unwrap().ends_with(" mark 0x0000002a"), "{text}");
}

/// Handles begin anew with a new table: the old text must not be told for the new rule.
#[test]
fn rules_that_are_replaced_meanwhile_are_told_as_they_are_now() {
    let rules = |verdict: &str| {
        format!(
            "add table ip t {{ chain c {{ type filter hook prerouting priority 0; }}; }}; add rule ip t c udp dport 4242 {verdict}"
        )
    };
    let site = Site::new(&rules("accept"));
    let mut trace = site.start("--count 2 --port 4242 --iif eth0");
    let mut out = BufReader::new(trace.stdout.take().unwrap());
    let mut told = String::new();
    site.send("10.1.1.2", 4242);
    while !told.contains("(verdict accept)") {
        assert!(out.read_line(&mut told).unwrap() > 0, "{told}");
    }
    site.pod.nft(&format!("delete table ip t; {}", rules("drop")));
    site.send("10.1.1.2", 4242);
    out.read_to_string(&mut told).unwrap();
    text(&ended(trace));
    assert!(told.contains("rule udp dport 4242 accept (verdict accept)"), "{told}");
    assert!(told.contains("rule udp dport 4242 drop (verdict drop)"), "{told}");
}

#[test]
fn nothing_is_left_behind_however_it_ends() {
    use rustix::process::Signal;
    let site = Site::new(RULES);
    let before = site.pod.nft("list ruleset");
    for (how, code) in [(Signal::KILL, None), (Signal::INT, Some(0)), (Signal::TERM, Some(0))] {
        let trace = site.start("");
        signal(&trace, how);
        assert_eq!(ended(trace).status.code(), code, "{how:?}");
        until("the table's end", || site.tables() == 0);
        assert_eq!(site.pod.nft("list ruleset"), before);
    }
    let output = ended(site.start("--for 200ms --port 1"));
    assert_eq!(text(&output), "0 packets traced, no events lost\n");
    assert_eq!(site.tables(), 0);
}

#[test]
fn nobody_else_can_take_the_table_away() {
    let site = Site::new(RULES);
    let trace = site.start("--count 1 --port 4242");
    site.pod.nft("flush ruleset");
    assert_eq!(site.tables(), 1);
    site.send("10.1.1.2", 4242);
    assert!(text(&ended(trace)).contains("met no chain"));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let site = Site::new(RULES);
    let mut trace = site.start("--protocol udp");
    drop(trace.stdout.take());
    until("the trace's end", || {
        site.send("10.1.1.2", 4242);
        trace.try_wait().unwrap().is_some()
    });
    assert!(ended(trace).status.success());
    assert_eq!(site.tables(), 0);
}

#[test]
fn a_filter_that_makes_no_sense_is_a_usage_error() {
    let pod = Netns::new("pod");
    for (words, why) in [
        ("--from host", "--from: \"host\" is not an address"),
        ("--to 10.0.0.0/40", "--to: \"10.0.0.0/40\" is not an address"),
        ("--protocol tpc", "--protocol: \"tpc\" is not a protocol"),
        ("--port 22 --protocol icmp", "icmp has no ports"),
        ("--from 10.0.0.1 --to fd00::1", "different families"),
        ("--iif a/b", "--iif: "),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(["nft", "--netns", &pod.path(), "trace"]).args(words.split_whitespace());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(10), "{words}: {stderr}");
        assert!(stderr.contains(why), "{words}: {stderr}");
    }
}
