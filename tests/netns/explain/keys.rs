//! Rulesets by chance over every kind of key that a frame can show: sets, maps, verdict maps, intervals and
//! concatenations of them, in every family; what is told of each frame is what the kernel does.

use std::collections::BTreeMap;
use std::fmt::Write;

use berth::nft::Family;
use berth::nft::explain::{Outcome, Paint, Point};

use crate::explain::frames::{Frame, Place, Yard, any_frame};
use crate::explain::{load_what_is_taken, rulesets};
use crate::support::dice::Dice;

const FRAMES: usize = 12;

const PLACES: [(Family, Point); 9] = [
    (Family::IP, Point::Prerouting),
    (Family::IP6, Point::Prerouting),
    (Family::INET, Point::Prerouting),
    (Family::INET, Point::Prerouting),
    (Family::BRIDGE, Point::Prerouting),
    (Family::BRIDGE, Point::Forward),
    (Family::BRIDGE, Point::Input),
    (Family::ARP, Point::Input),
    (Family::NETDEV, Point::Ingress),
];

/// Something that can be a key: its name, values, intervals of them, and the families that have it.
struct Field {
    text: &'static str,
    values: &'static [&'static str],
    intervals: &'static [&'static str],
    /// i ip, 6 ip6, n inet, b bridge, d netdev, a arp.
    families: &'static str,
}

const fn field(
    text: &'static str,
    values: &'static [&'static str],
    intervals: &'static [&'static str],
    families: &'static str,
) -> Field {
    Field { text, values, intervals, families }
}

const IP: &str = "inbd";
const IP6: &str = "6nbd";
const BOTH: &str = "i6nbd";
const ALL: &str = "i6nbda";
const TRACKED: &str = "i6n";

const FIELDS: [Field; 59] = [
    field(
        "ip saddr",
        &["10.1.1.1", "10.1.1.9", "192.168.7.7"],
        &["10.1.1.0/25", "10.1.1.9-10.1.1.200", "192.168.0.0/16"],
        IP,
    ),
    field(
        "ip daddr",
        &["10.1.1.2", "10.1.1.3", "10.1.1.255"],
        &["10.1.1.2-10.1.1.100", "10.1.1.128/25"],
        IP,
    ),
    field("ip protocol", &["6", "17", "1"], &["1-6", "7-20"], IP),
    field("ip ttl", &["1", "64", "255"], &["2-63", "64-128"], IP),
    field("ip dscp", &["cs0", "cs1", "ef"], &["0-7", "8-46"], IP),
    field("ip length", &["28", "36", "40", "128"], &["28-39", "40-60"], IP),
    field("ip version", &["4", "5"], &[], IP),
    field("ip hdrlength", &["5", "6"], &[], IP),
    field(
        "ip6 saddr",
        &["fd00:1::1", "fd00:1::9", "fe80::1"],
        &["fd00:1::/64", "fe80::/10", "fd00:1::2-fd00:1::f"],
        IP6,
    ),
    field("ip6 daddr", &["fd00:1::2", "fd00:1::3"], &["fd00:1::/127", "fd00:1::3-fd00:1::ff"], IP6),
    field("ip6 nexthdr", &["6", "17", "58"], &["1-6", "7-60"], IP6),
    field("ip6 hoplimit", &["1", "64", "255"], &["2-64", "100-255"], IP6),
    field("ip6 dscp", &["cs0", "cs1", "ef"], &["0-7", "8-46"], IP6),
    field("ip6 length", &["8", "16", "20"], &["8-19", "20-60"], IP6),
    field("tcp dport", &["22", "80", "8080"], &["1-60", "80-443", "8000-9000"], BOTH),
    field("tcp sport", &["53", "443"], &["1-60", "400-500"], BOTH),
    field("udp dport", &["53", "80", "443"], &["1-60", "80-443", "8000-65535"], BOTH),
    field("udp sport", &["22", "443"], &["1-60", "400-500"], BOTH),
    field("udp length", &["8", "16", "108"], &["8-15", "16-200"], BOTH),
    field(
        "meta l4proto . th dport",
        &["tcp . 22", "udp . 53", "tcp . 8080", "udp . 443"],
        &["tcp . 1-80", "udp . 50-500", "6-17 . 443"],
        BOTH,
    ),
    field("tcp flags", &["syn", "ack", "0x12"], &[], BOTH),
    field("icmp type", &["echo-request", "echo-reply", "13"], &["0-8", "9-20"], IP),
    field("icmp code", &["0", "1"], &["0-3"], IP),
    field("icmpv6 type", &["echo-request", "nd-neighbor-solicit", "1"], &["1-128", "129-140"], IP6),
    field("meta l4proto", &["tcp", "udp", "icmp", "ipv6-icmp"], &["1-6", "7-58"], BOTH),
    field(
        "meta length",
        &["28", "36", "48", "128", "14", "42", "50"],
        &["20-40", "41-60", "100-200"],
        ALL,
    ),
    field("meta mark", &["0", "1", "5", "0x100"], &["1-5", "0x80-0x200"], ALL),
    field("meta mark & 0xff", &["0", "1", "5"], &["1-5"], ALL),
    field("iifname", &["\"eth0\"", "\"p0\"", "\"lo\""], &["\"et*\"", "\"p*\"", "\"lo\""], ALL),
    field("iif", &["\"eth0\"", "\"p0\"", "\"lo\""], &[], ALL),
    field("iifgroup", &["0", "7"], &["1-10"], ALL),
    field("iiftype", &["ether", "loopback"], &[], ALL),
    field("meta iifkind", &["\"veth\"", "\"bridge\""], &[], ALL),
    field("meta pkttype", &["host", "broadcast", "other"], &[], ALL),
    field("meta protocol", &["ip", "ip6", "arp"], &[], "nbd"),
    field("meta nfproto", &["ipv4", "ipv6"], &[], "n"),
    field(
        "ether saddr",
        &["02:00:00:00:00:01", "02:00:00:00:00:02"],
        &["02:00:00:00:00:02-02:00:00:00:00:ff", "52:54:00:00:00:00-52:54:00:ff:ff:ff"],
        ALL,
    ),
    field(
        "ether daddr",
        &["02:00:00:00:00:e0", "02:00:00:00:00:a0", "ff:ff:ff:ff:ff:ff"],
        &["02:00:00:00:00:00-02:00:00:00:00:c0"],
        ALL,
    ),
    field("ether type", &["ip", "ip6", "arp", "vlan"], &["0x0800-0x0806"], "bd"),
    field("arp operation", &["request", "reply"], &["1-5"], "abd"),
    field("arp htype", &["1", "6"], &["1-5"], "abd"),
    field(
        "arp saddr ip",
        &["10.1.1.1", "10.1.1.9", "192.168.7.7"],
        &["10.1.1.0/25", "192.168.0.0/16"],
        "abd",
    ),
    field("arp daddr ip", &["10.1.1.2", "10.1.1.3"], &["10.1.1.2-10.1.1.200"], "abd"),
    field(
        "arp saddr ether",
        &["02:00:00:00:00:01", "52:54:00:00:00:09"],
        &["02:00:00:00:00:02-02:00:00:00:00:ff"],
        "abd",
    ),
    field("vlan id", &["5", "10"], &["1-7", "8-100"], "bd"),
    field("vlan pcp", &["0", "3"], &["1-7"], "bd"),
    field("vlan type", &["ip", "ip6", "arp"], &[], "bd"),
    field("ip frag-off & 0x1fff", &["0", "1"], &["1-10"], IP),
    field("ip saddr & 0.0.0.255", &["0.0.0.1", "0.0.0.9"], &["0.0.0.2-0.0.0.200"], IP),
    field("ct state", &["new", "invalid", "untracked"], &[], TRACKED),
    field("ct zone", &["0", "5", "7"], &["1-6", "7-9"], TRACKED),
    field("ct original zone", &["0", "5", "7"], &["1-6", "7-9"], TRACKED),
    field("ct mark", &["0", "1", "5"], &["1-5"], TRACKED),
    field("ct direction", &["original", "reply"], &[], TRACKED),
    field("ct protocol", &["tcp", "udp"], &["1-6"], TRACKED),
    field("ct original ip saddr", &["10.1.1.1", "10.1.1.9"], &["10.1.1.0/25"], "in"),
    field("ct original ip6 daddr", &["fd00:1::2"], &["fd00:1::3-fd00:1::ff"], "6n"),
    field("fib daddr type", &["local", "unicast", "broadcast"], &[], TRACKED),
    field("fib saddr type", &["local", "unicast"], &[], TRACKED),
];

fn letter(family: Family) -> char {
    match family {
        Family::IP => 'i',
        Family::IP6 => '6',
        Family::INET => 'n',
        Family::BRIDGE => 'b',
        Family::ARP => 'a',
        _ => 'd',
    }
}

/// One to three fields, their elements, and whether those are intervals.
struct Key {
    text: String,
    elements: Vec<String>,
    intervals: bool,
}

fn any_field(dice: &mut Dice, family: Family) -> &'static Field {
    loop {
        let found = &FIELDS[dice.below(FIELDS.len())];
        if found.families.contains(letter(family)) {
            return found;
        }
    }
}

fn key(dice: &mut Dice, family: Family) -> Key {
    let fields: Vec<&Field> =
        (0..[1, 1, 1, 2, 2, 3][dice.below(6)]).map(|_| any_field(dice, family)).collect();
    let intervals = dice.chance(45);
    let mut elements: Vec<String> = Vec::new();
    for _ in 0..=dice.below(3) {
        let parts: Vec<&str> = fields
            .iter()
            .map(|field| match intervals && !field.intervals.is_empty() && dice.chance(70) {
                true => dice.one(field.intervals),
                false => dice.one(field.values),
            })
            .collect();
        let element = parts.join(" . ");
        if !elements.contains(&element) {
            elements.push(element);
        }
    }
    let text = fields.iter().map(|field| field.text).collect::<Vec<_>>().join(" . ");
    Key { text, elements, intervals }
}

fn with_data(key: &Key, mut data: impl FnMut() -> String, otherwise: bool) -> String {
    let mut all = key.elements.clone();
    if otherwise {
        all.push("*".into());
    }
    all.iter().map(|element| format!("{element} : {}", data())).collect::<Vec<_>>().join(", ")
}

fn rule(dice: &mut Dice, family: Family, number: usize, sets: &mut String, rules: &mut String) {
    let key = key(dice, family);
    let flags = if key.intervals { "flags interval; " } else { "" };
    let not = if dice.chance(25) { "!= " } else { "" };
    let (text, elements) = (&key.text, key.elements.join(", "));
    let otherwise = dice.chance(20);
    let statement = match dice.below(10) {
        0..=3 => "drop".to_owned(),
        4 | 5 => "accept".into(),
        6 => "jump sub".into(),
        7 if TRACKED.contains(letter(family)) => format!("ct mark set {}", dice.one(&["1", "5"])),
        _ => format!("meta mark set {}", dice.one(&["1", "5", "0x100"])),
    };
    let verdict = |dice: &mut Dice| {
        dice.one(&["accept", "drop", "continue", "jump sub", "return"]).to_owned()
    };
    let mark = |dice: &mut Dice| dice.one(&["1", "5", "0x100"]).to_owned();
    let line = match dice.below(10) {
        0..=2 => {
            writeln!(
                sets,
                "  set s{number} {{ typeof {text}; {flags}elements = {{ {elements} }}; }}"
            )
            .unwrap();
            format!("{text} {not}@s{number} {statement}")
        }
        3 | 4 => format!("{text} {not}{{ {elements} }} {statement}"),
        5 => format!("{text} {not}{} {statement}", key.elements[0]),
        6 => {
            let data = with_data(&key, || verdict(dice), otherwise);
            writeln!(
                sets,
                "  map v{number} {{ typeof {text} : verdict; {flags}elements = {{ {data} }}; }}"
            )
            .unwrap();
            format!("{text} vmap @v{number}")
        }
        7 => format!("{text} vmap {{ {} }}", with_data(&key, || verdict(dice), otherwise)),
        8 => {
            let data = with_data(&key, || mark(dice), otherwise);
            writeln!(
                sets,
                "  map m{number} {{ typeof {text} : meta mark; {flags}elements = {{ {data} }}; }}"
            )
            .unwrap();
            format!("meta mark set {text} map @m{number}")
        }
        _ => {
            format!("meta mark set {text} map {{ {} }}", with_data(&key, || mark(dice), otherwise))
        }
    };
    writeln!(rules, "  {line}").unwrap();
}

fn ruleset(dice: &mut Dice, place: Place) -> String {
    let family = place.family;
    let (mut sets, mut rules, mut sub, mut raw) =
        (String::new(), String::new(), String::new(), String::new());
    for number in 0..4 + dice.below(6) {
        rule(dice, family, number, &mut sets, &mut rules);
    }
    // Of the chain that is jumped to, no jumps.
    for number in 20..21 + dice.below(2) {
        let mut lines = String::new();
        rule(dice, family, number, &mut sets, &mut lines);
        sub.push_str(&lines.replace("jump sub", "drop"));
    }
    if TRACKED.contains(letter(family)) {
        let key = key(dice, family);
        let zones = [
            "ct zone set 5",
            "ct original zone set 7",
            "ct reply zone set 7",
            "notrack",
            "meta mark set 5",
        ];
        writeln!(raw, "  {} {{ {} }} {}", key.text, key.elements.join(", "), dice.one(&zones))
            .unwrap();
        writeln!(raw, "  ct zone set meta mark map {{ 0 : {}, 1-9 : 9 }}", dice.one(&["0", "5"]))
            .unwrap();
        // What is asked before conntrack has looked.
        for number in 30..32 {
            rule(dice, family, number, &mut sets, &mut raw);
        }
    }
    let policy = dice.one(&["accept", "accept", "drop"]);
    let before = if raw.is_empty() {
        String::new()
    } else {
        format!(" chain raw {{ {};\n{raw} }}\n", place.hook("-300"))
    };
    format!(
        "table {family} one {{\n{sets} chain sub {{\n{sub} }}\n{before} chain c {{ {}; policy {policy};\n{rules} }}\n}}\n{}",
        place.hook("0"),
        place.witness()
    )
}

#[derive(Debug, Default)]
struct Tally {
    rulesets: u64,
    frames: usize,
    passed: usize,
    stopped: usize,
    cannot_tell: usize,
    refused_lines: usize,
    families: BTreeMap<String, usize>,
    unknown: BTreeMap<String, usize>,
    /// Rules that have each kind of key.
    keys: BTreeMap<&'static str, usize>,
}

#[test]
fn explain_agrees_with_the_kernel_about_every_kind_of_key() {
    let yard = Yard::new();
    let first = std::env::var("EXPLAIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut tally = Tally::default();
    let mut wrong: Vec<String> = Vec::new();
    for seed in first..first + rulesets() * 3 / 2 {
        let mut dice = Dice::new(seed);
        let (family, point) = PLACES[dice.below(PLACES.len())];
        let place = Place::new(family, point);
        yard.pod.nft("flush ruleset");
        let text = ruleset(&mut dice, place);
        let (refused, taken) = load_what_is_taken(&yard.pod, &text);
        tally.refused_lines += refused;
        for field in &FIELDS {
            let rules =
                taken.iter().filter(|line| line.contains(field.text) && !line.starts_with("  set"));
            *tally.keys.entry(field.text).or_default() += rules.count();
        }
        let frames: Vec<Frame> = (1..=FRAMES)
            .map(|number| any_frame(&mut dice, place, u16::try_from(number).unwrap()))
            .collect();
        let (ruleset, told, seen) = yard.told_and_seen(place, &frames);
        tally.rulesets += 1;
        for (frame, told) in frames.iter().zip(&told) {
            tally.frames += 1;
            let passed = seen.contains(&frame.number);
            *(if passed { &mut tally.passed } else { &mut tally.stopped }) += 1;
            *tally.families.entry(format!("{family} {point}")).or_default() += 1;
            let agrees = match told.outcome {
                Outcome::Accepted => passed,
                Outcome::Dropped | Outcome::Rejected => !passed,
                Outcome::CannotTell => {
                    tally.cannot_tell += 1;
                    *tally
                        .unknown
                        .entry(told.why.split(" is not known").next().unwrap().to_owned())
                        .or_default() += 1;
                    true
                }
            };
            if !agrees {
                let paint = Paint { explanation: told, colours: false };
                wrong.push(format!(
                    "seed {seed}: {frame:?}\nseen to pass: {passed}\n{paint}\n{ruleset}"
                ));
            }
        }
    }
    println!("{tally:#?}");
    for error_chain in &wrong {
        println!("{}", error_chain.lines().take(2).collect::<Vec<_>>().join("\n"));
    }
    assert!(
        wrong.is_empty(),
        "{} of {} wrong; the first:\n{}",
        wrong.len(),
        tally.frames,
        wrong[0]
    );
    assert!(tally.cannot_tell * 10 < tally.frames, "{tally:?}");
    assert!(tally.passed * 4 > tally.frames && tally.stopped * 5 > tally.frames, "{tally:?}");
    assert!(tally.families.len() >= 7, "{tally:?}");
    assert!(tally.keys.values().all(|count| *count > 0), "{tally:?}");
}
