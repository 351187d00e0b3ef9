//! Rulesets by chance, as text for `nft -f`, out of a small world so that rules and packets meet.

use std::fmt::Write;

use crate::support::dice::Dice;

pub const PORTS: [&str; 5] = ["22", "80", "443", "53", "8080"];
pub const PEERS: [&str; 3] = ["10.1.1.1", "10.1.1.9", "10.1.1.130"];
pub const PODS: [&str; 3] = ["10.1.1.2", "10.1.1.3", "192.168.254.1"];
pub const GUESTS: [&str; 3] = ["192.168.254.2", "192.168.254.3", "192.168.254.5"];
pub const PEERS6: [&str; 2] = ["fd00:1::1", "fd00:1::9"];
pub const PODS6: [&str; 2] = ["fd00:1::2", "fd00:2::1"];
pub const GUESTS6: [&str; 2] = ["fd00:2::2", "fd00:2::3"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    /// A chain that is jumped to from anywhere.
    Sub,
}

const HOOKS: [(Place, &str); 5] = [
    (Place::Prerouting, "prerouting"),
    (Place::Input, "input"),
    (Place::Forward, "forward"),
    (Place::Output, "output"),
    (Place::Postrouting, "postrouting"),
];

/// One or two tables.
pub fn ruleset(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let mut text = String::new();
    table(&mut dice, "inet", "one", &mut text);
    if dice.chance(60) {
        table(&mut dice, "ip", "two", &mut text);
    }
    text
}

fn table(dice: &mut Dice, family: &str, name: &str, out: &mut String) {
    writeln!(out, "table {family} {name} {{").unwrap();
    let [a, b, c] = [dice.one(&PORTS), dice.one(&PORTS), dice.one(&GUESTS)];
    let (d, e) = (dice.one(&PEERS), dice.one(&PODS));
    writeln!(out, " set hosts {{ type ipv4_addr; flags interval; elements = {{ 10.1.1.0/25, 192.168.254.3-192.168.254.9 }}; }}").unwrap();
    writeln!(out, " set ports {{ type inet_service; elements = {{ {a}, 9 }}; }}").unwrap();
    writeln!(out, " set pairs {{ type ipv4_addr . inet_service; flags interval; elements = {{ 10.1.1.0/25 . {b}-9000, {c} . 1-{a} }}; }}").unwrap();
    writeln!(out, " set exact {{ type ipv4_addr . inet_proto . inet_service; elements = {{ {d} . tcp . {a}, {e} . udp . {b} }}; }}").unwrap();
    writeln!(out, " map verdicts {{ type ipv4_addr : verdict; elements = {{ {d} : jump sub1, {c} : accept, {e} : continue }}; }}").unwrap();
    writeln!(out, " map guests {{ type inet_service : ipv4_addr; flags interval; elements = {{ 1-99 : {c}, 100-9000 : 192.168.254.3 }}; }}").unwrap();
    writeln!(out, " set seen {{ type inet_service; flags dynamic; size 100; }}").unwrap();
    writeln!(
        out,
        " set full {{ type inet_service; flags dynamic; size 2; elements = {{ 1, 2 }}; }}"
    )
    .unwrap();
    for sub in 1..=3 {
        writeln!(out, " chain sub{sub} {{").unwrap();
        for _ in 0..=dice.below(3) {
            rule(dice, family, Place::Sub, sub, out);
        }
        writeln!(out, " }}").unwrap();
    }
    let mut number = 0;
    for (place, hook) in HOOKS {
        for _ in 0..dice.below(3) {
            number += 1;
            let priority =
                dice.one(&["-300", "-150", "-110", "-100", "-100", "0", "0", "10", "100", "110"]);
            let policy = if dice.chance(12) { "drop" } else { "accept" };
            let kind = if place == Place::Output && dice.chance(30) { "route" } else { "filter" };
            writeln!(
                out,
                " chain c{number} {{ type {kind} hook {hook} priority {priority}; policy {policy};"
            )
            .unwrap();
            if place == Place::Prerouting && priority == "-300" && dice.chance(50) {
                writeln!(out, "  {} notrack", matching(dice, family, Place::Sub)).unwrap();
            }
            if matches!(place, Place::Prerouting | Place::Output) && priority == "-300" {
                for _ in 0..dice.below(3) {
                    zone_rule(dice, family, out);
                }
            }
            for _ in 0..=dice.below(5) {
                rule(dice, family, place, 0, out);
            }
            writeln!(out, " }}").unwrap();
        }
        if place != Place::Forward && dice.chance(65) {
            number += 1;
            let priority = dice.one(&["-150", "-100", "-50", "90", "100", "110"]);
            writeln!(
                out,
                " chain n{number} {{ type nat hook {hook} priority {priority}; policy accept;"
            )
            .unwrap();
            for _ in 0..=dice.below(3) {
                nat_rule(dice, family, place, out);
            }
            writeln!(out, " }}").unwrap();
        }
    }
    writeln!(out, "}}").unwrap();
}

fn matching(dice: &mut Dice, family: &str, place: Place) -> String {
    let anyone = |dice: &mut Dice| {
        let set: &[&str] = match dice.below(3) {
            0 => &PEERS,
            1 => &PODS,
            _ => &GUESTS,
        };
        dice.one(set).to_owned()
    };
    let anyone6 = |dice: &mut Dice| {
        let set: &[&str] = match dice.below(3) {
            0 => &PEERS6,
            1 => &PODS6,
            _ => &GUESTS6,
        };
        dice.one(set).to_owned()
    };
    let side = dice.one(&["saddr", "daddr"]);
    let l4 = dice.one(&["tcp", "udp"]);
    let (p, q) = (dice.one(&PORTS), dice.one(&PORTS));
    let not = dice.one(&["", "", "!= "]);
    let link = dice.one(&["eth0", "inner", "lo", "e*", "absent"]);
    let mark = dice.one(&["0", "1", "2", "7"]);
    match dice.below(47) {
        0..=2 => format!("ip {side} {not}{}", anyone(dice)),
        3 => format!("ip {side} {not}10.1.1.128/25"),
        4 => format!("ip {side} 10.1.0.0/16"),
        5 => format!("ip {side} {not}{{ {}, {} }}", anyone(dice), "10.9.9.9"),
        6 => format!("ip {side} {not}192.168.254.2-192.168.254.3"),
        7 => format!("ip {side} {not}@hosts"),
        8..=10 => format!("{l4} dport {p}"),
        11 => format!("{l4} dport {not}{{ {p}, 100-500 }}"),
        12 => format!("{l4} dport {not}50-90"),
        13 => format!("{l4} dport {not}@ports"),
        14 => format!("meta l4proto {{ tcp, udp }} th dport {p}"),
        15 => format!("{l4} sport 20000-20200"),
        16 => "tcp flags syn".into(),
        17 => "tcp flags & (syn | ack) == ack".into(),
        18 => "icmp type echo-request".into(),
        19 => format!("meta l4proto {}", dice.one(&["icmp", "tcp", "udp", "ipv6-icmp"])),
        20 => format!("ip {side} . {l4} dport {not}@pairs"),
        21 => format!("ip {side} . meta l4proto . th dport {not}@exact"),
        22 => format!(
            "ip saddr . ip daddr {{ {} . {}, {} . {} }}",
            "10.1.1.1", "10.1.1.2", "10.1.1.9", "192.168.254.2"
        ),
        23 => format!("iifname {not}\"{link}\""),
        24 => format!("oifname {not}\"{link}\""),
        25 => "iif \"eth0\"".into(),
        26 => format!("meta mark {not}{mark}"),
        27 => format!("meta mark & 0x3 == {}", dice.one(&["1", "2"])),
        28 => format!("ct mark {mark}"),
        29 => format!(
            "ct state {not}{}",
            dice.one(&["new", "established", "invalid", "established,related", "untracked"])
        ),
        30 => format!("ct direction {}", dice.one(&["original", "reply"])),
        31 => format!("ct status {}", dice.one(&["dnat", "snat"])),
        32 => format!("ct original ip daddr {}", anyone(dice)),
        33 => format!("meta l4proto {l4} ct original proto-dst {q}"),
        34 => format!("fib {side} type {}", dice.one(&["local", "unicast"])),
        35 if matches!(place, Place::Prerouting | Place::Input | Place::Forward) => dice
            .one(&[
                "fib daddr . iif type local",
                "fib saddr . iif type unicast",
                "fib saddr . iif oif missing",
                "fib saddr . iif oif exists",
                "fib saddr oif \"eth0\"",
            ])
            .to_owned(),
        36 => dice
            .one(&["meta length 37-80", "ip ttl 64", "ip ttl < 64", "ip length 36", "ip dscp cs1"])
            .to_owned(),
        37 => dice
            .one(&[
                "meta pkttype host",
                "meta iiftype ether",
                "meta protocol ip",
                "ip protocol udp",
            ])
            .to_owned(),
        38 | 39 if family == "inet" => format!("ip6 {side} {not}{}", anyone6(dice)),
        40 => format!("ct zone {not}{}", dice.one(&["0", "5", "5-9", "{ 0, 7 }"])),
        41 => format!(
            "ct {} zone {}",
            dice.one(&["original", "reply"]),
            dice.one(&["0", "7", "{ 5, 9 }"])
        ),
        42 => format!("ct label {}", dice.one(&["3", "4", "127"])),
        43 => format!("{l4} sport {not}@seen"),
        44 => format!("{l4} sport {not}@full"),
        45 => format!("meta pkttype {not}{}", dice.one(&["host", "broadcast", "{ host, other }"])),
        _ => String::new(),
    }
}

/// Before conntrack: which zone it looks in, and whether.
fn zone_rule(dice: &mut Dice, family: &str, out: &mut String) {
    let guard = if dice.chance(70) { matching(dice, family, Place::Sub) } else { String::new() };
    let action = match dice.below(8) {
        0..=2 => format!("ct zone set {}", dice.one(&["5", "7", "0"])),
        3 => format!("ct {} zone set {}", dice.one(&["original", "reply"]), dice.one(&["7", "9"])),
        4 => "ct zone set ip saddr map { 10.1.1.1 : 5, 10.1.1.9-10.1.1.130 : 7 }".into(),
        5 => "ct zone set meta mark map { 0 : 5, 1-7 : 9 }".into(),
        6 => "notrack".into(),
        _ => format!("ct state {} counter drop", dice.one(&["new", "untracked", "established"])),
    };
    writeln!(out, "  {guard} {action}").unwrap();
}

fn rule(dice: &mut Dice, family: &str, place: Place, sub: usize, out: &mut String) {
    let first = matching(dice, family, place);
    let second = if dice.chance(30) { matching(dice, family, place) } else { String::new() };
    // Chains call only later ones.
    let target = sub + 1;
    let deeper = target <= 3;
    let statement = match dice.below(34) {
        0..=3 => "accept".to_owned(),
        4 | 5 => "drop".into(),
        6 => "return".into(),
        7..=9 if deeper => format!("jump sub{target}"),
        10 if deeper => format!("goto sub{target}"),
        11 if matches!(place, Place::Input | Place::Forward | Place::Output) => "reject".into(),
        12 | 13 => format!("meta mark set {}", dice.one(&["1", "2", "7"])),
        14 => "meta mark set meta mark | 0x4".into(),
        15 => "meta mark set meta mark & 0x6".into(),
        16 => format!("ct mark set {}", dice.one(&["1", "2", "meta mark"])),
        17 => "meta mark set ct mark".into(),
        18 => "ip dscp set cs1".into(),
        19 => "meta mark set tcp dport map { 22 : 1, 80-500 : 2 }".into(),
        20 => format!("tcp dport vmap {{ {} : accept, 8080 : drop }}", dice.one(&["22", "80", "443"])),
        21 if sub == 0 => "ip saddr vmap @verdicts".into(),
        22 if sub == 0 => "udp dport vmap { 1-60 : jump sub2, 61-500 : goto sub3 }".into(),
        24 => format!("ct label set {}", dice.one(&["3", "4"])),
        25 => format!("meta pkttype set {}", dice.one(&["host", "broadcast", "other"])),
        26 => format!(
            "{} @{} {{ {} sport }}",
            dice.one(&["add", "update"]),
            dice.one(&["seen", "full"]),
            l4(dice)
        ),
        27 => format!("delete @{} {{ {} sport }}", dice.one(&["seen", "full"]), l4(dice)),
        28 => format!("add @full {{ {} sport }} counter drop", l4(dice)),
        29 => format!(
            "ct zone vmap {{ 0 : accept, 5 : drop, 7-9 : {} }}",
            dice.one(&["accept", "drop", "continue"])
        ),
        30 => "ct state vmap { new : continue, established : accept, invalid : drop, untracked : accept }"
            .into(),
        31 => dice.one(&["ip ttl set 63", "ip dscp set cs1", "udp dport set 53"]).to_owned(),
        _ => "counter".into(),
    };
    writeln!(out, "  {first} {second} counter {statement}").unwrap();
}

fn l4(dice: &mut Dice) -> &'static str {
    if dice.chance(50) { "tcp" } else { "udp" }
}

fn nat_rule(dice: &mut Dice, family: &str, place: Place, out: &mut String) {
    let ip = if family == "inet" { " ip" } else { "" };
    let guard = matching(dice, family, place);
    let (guest, pod) = (dice.one(&GUESTS), dice.one(&PODS));
    let port = dice.one(&PORTS);
    let action = match (place, dice.below(12)) {
        (_, 0) => dice.one(&["accept", "return", "counter"]).to_owned(),
        (Place::Prerouting | Place::Output, 1..=3) => format!("dnat{ip} to {guest}"),
        (Place::Prerouting | Place::Output, 4) => format!("dnat{ip} to {pod}"),
        (Place::Prerouting | Place::Output, 5) => format!("dnat{ip} to 10.1.1.9"),
        (Place::Prerouting | Place::Output, 6) => {
            format!("meta l4proto tcp dnat{ip} to {guest}:{port}")
        }
        (Place::Prerouting | Place::Output, 7) => {
            format!("meta l4proto {{ tcp, udp }} dnat{ip} to :{port}")
        }
        (Place::Prerouting | Place::Output, 8) => format!("dnat{ip} to tcp dport map @guests"),
        (Place::Prerouting | Place::Output, 9) => {
            format!("dnat{ip} to udp dport map {{ 53 : {guest}, 80 : 10.1.1.9 }}")
        }
        (Place::Prerouting | Place::Output, _) => format!("meta l4proto udp redirect to :{port}"),
        (Place::Postrouting, 1..=4) => "masquerade".into(),
        (Place::Postrouting, 5) => "meta l4proto tcp masquerade to :40000-50000".into(),
        (_, 6 | 7) => format!("meta l4proto udp snat{ip} to 10.77.0.1:15000-30000"),
        _ => format!("snat{ip} to {}", dice.one(&["10.77.0.1", "10.1.1.3", "192.168.254.1"])),
    };
    writeln!(out, "  {guard} {action}").unwrap();
}

/// For iptables-restore: what iptables-nft makes of it are modules of x_tables among nf_tables' own expressions.
pub fn iptables(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let mut text = String::new();
    for (name, hooks) in [
        ("raw", ["PREROUTING", "OUTPUT"].as_slice()),
        ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
        ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
        ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
    ] {
        writeln!(text, "*{name}").unwrap();
        for hook in hooks {
            let policy = if name == "filter" && dice.chance(15) { "DROP" } else { "ACCEPT" };
            writeln!(text, ":{hook} {policy} [0:0]").unwrap();
        }
        writeln!(text, ":SUB1 - [0:0]\n:SUB2 - [0:0]").unwrap();
        for hook in hooks {
            for _ in 0..dice.below(4) {
                let (guard, protocol) = xt_match(&mut dice);
                let target = xt_target(&mut dice, name, hook, protocol);
                writeln!(text, "-A {hook} {guard} -j {target}").unwrap();
            }
        }
        for sub in ["SUB1", "SUB2"] {
            for _ in 0..dice.below(3) {
                let (guard, _) = xt_match(&mut dice);
                let target =
                    dice.one(&["RETURN", "ACCEPT", "MARK --set-mark 2", "CONNMARK --save-mark"]);
                let target = if sub == "SUB1" && dice.chance(20) { "SUB2" } else { target };
                writeln!(text, "-A {sub} {guard} -j {target}").unwrap();
            }
        }
        writeln!(text, "COMMIT").unwrap();
    }
    text
}

/// A match, and the protocol it says when it says one.
fn xt_match(dice: &mut Dice) -> (String, Option<&'static str>) {
    let not = dice.one(&["", "", "! "]);
    let port = dice.one(&PORTS);
    let peer = dice.one(&PEERS);
    let l4 = dice.one(&["tcp", "udp"]);
    let protocol = Some(if l4 == "tcp" { "tcp" } else { "udp" });
    match dice.below(26) {
        0 => (format!("{not}-s {peer}"), None),
        1 => (format!("{not}-d 10.1.1.0/25"), None),
        2 => (format!("{not}-d {}", dice.one(&GUESTS)), None),
        3 => (format!("-p {l4} -m {l4} {not}--dport {port}"), protocol),
        4 => (format!("-p {l4} -m {l4} --sport 20000:20300"), protocol),
        5 => (format!("-p {l4} -m multiport {not}--dports 22,80:443,8080"), protocol),
        6 => (format!("-p {l4} -m multiport {not}--ports 53,{port}"), protocol),
        7 => (format!("-p {l4} -m multiport {not}--sports 20000:20100,20200:20300"), protocol),
        8 => (format!("-p tcp -m tcp {not}--syn"), Some("tcp")),
        9 => ("-p tcp -m tcp --tcp-flags SYN,ACK ACK".into(), Some("tcp")),
        10 => (format!("-p icmp -m icmp {not}--icmp-type echo-request"), Some("icmp")),
        11 => ("-p icmp -m icmp --icmp-type any".into(), Some("icmp")),
        12 => (format!("-m conntrack {not}--ctstate NEW"), None),
        13 => (format!("-m conntrack {not}--ctstate RELATED,ESTABLISHED"), None),
        14 => (
            format!(
                "-m conntrack {not}--ctstate {}",
                dice.one(&["INVALID", "DNAT", "SNAT", "UNTRACKED"])
            ),
            None,
        ),
        15 => (format!("-m conntrack --ctdir {}", dice.one(&["ORIGINAL", "REPLY"])), None),
        16 => (
            format!(
                "-m state --state {}",
                dice.one(&["NEW", "ESTABLISHED", "INVALID", "UNTRACKED"])
            ),
            None,
        ),
        17 => (format!("-m addrtype {not}--dst-type LOCAL"), None),
        18 => (format!("-m addrtype {not}--src-type {}", dice.one(&["LOCAL", "UNICAST"])), None),
        19 => (format!("-m mark {not}--mark 0x1/0x3"), None),
        20 => (format!("-m connmark {not}--mark {}", dice.one(&["0", "1", "2"])), None),
        21 => (format!("-m iprange {not}--src-range 10.1.1.1-10.1.1.9"), None),
        22 => (format!("-m iprange {not}--dst-range 192.168.254.2-192.168.254.3"), None),
        23 => ("-m comment --comment \"for everybody\"".into(), None),
        _ => (String::new(), None),
    }
}

fn xt_target(dice: &mut Dice, table: &str, hook: &str, protocol: Option<&str>) -> String {
    let ports = matches!(protocol, Some("tcp" | "udp"));
    let (guest, port) = (dice.one(&GUESTS), dice.one(&PORTS));
    let plain = match dice.below(16) {
        0..=2 => "ACCEPT".into(),
        3 if table != "nat" => "DROP".into(),
        4 | 5 => "SUB1".into(),
        6 => "RETURN".into(),
        7 => format!(
            "MARK {}",
            dice.one(&["--set-mark 1", "--or-mark 0x4", "--and-mark 0x6", "--xor-mark 0x1"])
        ),
        8 => "MARK --set-xmark 0x2/0x3".into(),
        9 => format!("CONNMARK {}", dice.one(&["--save-mark", "--restore-mark", "--set-mark 2"])),
        10 if table == "filter" => "REJECT".into(),
        11 if table == "filter" && protocol == Some("tcp") => {
            "REJECT --reject-with tcp-reset".into()
        }
        12 | 14 if table == "raw" => {
            dice.one(&["CT --notrack", "CT --zone 5", "CT --zone-orig 7", "CT --zone mark"]).into()
        }
        13 if table == "mangle" && protocol == Some("tcp") => "LOG --log-prefix x".into(),
        _ => "SUB2".into(),
    };
    if table != "nat" || dice.chance(30) {
        return plain;
    }
    match (hook, dice.below(4)) {
        ("PREROUTING" | "OUTPUT", 0) if ports => format!("REDIRECT --to-ports {port}"),
        ("PREROUTING" | "OUTPUT", 1) if ports => format!("DNAT --to-destination {guest}:{port}"),
        ("PREROUTING" | "OUTPUT", _) => format!("DNAT --to-destination {guest}"),
        ("POSTROUTING", 0 | 1) => "MASQUERADE".into(),
        _ => format!("SNAT --to-source {}", dice.one(&["10.77.0.1", "10.1.1.3"])),
    }
}
