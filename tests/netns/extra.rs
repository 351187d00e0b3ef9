//! Operators' own rules: what we compile and commit lists as what `nft -j -f` makes of the same document.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::generated::rulesets;
use crate::support::collection::{collections, script};
use crate::support::site::{block_on, firewall};
use crate::support::{Netns, sample, veth};
use berth::nft::json::{Document, Release};
use berth::nft::text::Style;
use berth::nft::{Chain, Expr, Handle, Object, ObjectKind, Rule, Ruleset, Set, Table, Userdata};
use berth::sys::netlink::Firewall;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

fn compile(text: &str) -> Result<Ruleset, berth::nft::compile::Error> {
    berth::nft::compile::compile(text, berth::plan::nat::is_ours)
}

/// Two namespaces: rules of ours in one, of nft's in the other.
struct Bench {
    ours: Netns,
    theirs: Netns,
    firewall: Firewall,
    /// Reads theirs.
    other: Firewall,
}

/// Rules and sets of a table.
type Instructions = (Vec<Vec<Expr>>, Vec<Vec<berth::nft::Element>>);

/// What the kernel was told: rules and elements, without what only nft reads (user data, sizes of sets).
fn instructions(firewall: &Firewall) -> Vec<Instructions> {
    let (_, ruleset) = block_on(firewall.dump(berth::nft::dump::Filter::default())).unwrap();
    let of_table = |table: &Table| {
        let rules =
            table.chains.iter().flat_map(|chain| &chain.rules).map(|rule| rule.exprs.clone());
        let sets = table.sets.iter().map(|set| set.elements.clone());
        (rules.collect(), sets.collect())
    };
    ruleset.canonical().tables.iter().map(of_table).collect()
}

impl Bench {
    fn new() -> Self {
        let (ours, theirs) = (Netns::new("ours"), Netns::new("nft"));
        let (firewall, other) = (firewall(&ours), firewall(&theirs));
        Self { ours, theirs, firewall, other }
    }

    /// What is wrong with our version of the document, if anything.
    fn compare(&self, document: &Value) -> Result<(), String> {
        let text = document.to_string();
        self.theirs.nft("flush ruleset");
        nft_loads(&self.theirs, &text)?;
        self.compare_loaded(&text)
    }

    /// The same, with what nft has loaded already.
    fn compare_loaded(&self, text: &str) -> Result<(), String> {
        self.ours.nft("flush ruleset");
        let wanted = compile(text).map_err(|error| error.to_string())?;
        let first = block_on(self.firewall.commit(wanted.clone()))
            .map_err(|error| format!("{}\n{wanted}", berth::exit::error_chain(&error)))?;
        let (ours, theirs) = (self.ours.nft("list ruleset"), self.theirs.nft("list ruleset"));
        if ours != theirs {
            let only = |some: &str, other: &str| {
                let lines: Vec<&str> =
                    some.lines().filter(|line| !other.lines().any(|o| o == *line)).collect();
                lines.join("\n")
            };
            return Err(format!(
                "ours:\n{}\nnft's:\n{}",
                only(&ours, &theirs),
                only(&theirs, &ours)
            ));
        }
        let (ours, theirs) = (instructions(&self.firewall), instructions(&self.other));
        if ours != theirs {
            return Err(format!("other instructions\nours {ours:?}\nnft's {theirs:?}"));
        }
        let again = block_on(self.firewall.commit(wanted.clone())).unwrap();
        if again != first {
            let (_, found) =
                block_on(self.firewall.dump(berth::nft::dump::Filter::default())).unwrap();
            return Err(format!(
                "a second commit is not a no-op\nwanted {:#?}\nfound {:#?}",
                wanted.canonical(),
                found.canonical()
            ));
        }
        Ok(())
    }
}

fn nft_loads(netns: &Netns, text: &str) -> Result<(), String> {
    let mut nft = Command::new("nft");
    nft.args(["-j", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut nft = netns.within(|| nft.spawn()).unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = nft.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!("nft refuses it: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A document with one chain and one rule of these statements.
fn rule(family: &str, chain: &Value, statements: &Value) -> Value {
    let mut base = json!({ "family": family, "table": "t", "name": "c" });
    for (key, value) in chain.as_object().unwrap() {
        base[key] = value.clone();
    }
    json!({ "nftables": [
        { "add": { "table": { "family": family, "name": "t" } } },
        { "add": { "chain": { "family": family, "table": "t", "name": "other" } } },
        { "add": { "chain": base } },
        { "add": { "counter": { "family": family, "table": "t", "name": "hits" } } },
        { "add": { "set": { "family": family, "table": "t", "name": "hosts", "type": "ipv4_addr", "elem": ["10.0.0.1", "10.0.0.7"] } } },
        { "add": { "set": { "family": family, "table": "t", "name": "nets", "type": "ipv4_addr", "flags": ["interval"],
            "elem": [ { "prefix": { "addr": "10.0.0.0", "len": 8 } }, { "range": ["192.168.0.5", "192.168.0.9"] } ] } } },
        { "add": { "map": { "family": family, "table": "t", "name": "backends", "type": "inet_service", "map": "ipv4_addr",
            "elem": [[80, "10.0.0.2"], [443, "10.0.0.3"]] } } },
        { "add": { "map": { "family": family, "table": "t", "name": "verdicts", "type": ["ipv4_addr", "inet_service"], "map": "verdict",
            "elem": [[{ "concat": ["10.0.0.2", 80] }, { "accept": null }], [{ "concat": ["10.0.0.3", 81] }, { "jump": { "target": "other" } }]] } } },
        { "add": { "rule": { "family": family, "table": "t", "chain": "c", "expr": statements } } },
    ]})
}

fn filter() -> Value {
    json!({ "type": "filter", "hook": "input", "prio": 0, "policy": "accept" })
}

fn nat(hook: &str) -> Value {
    json!({ "type": "nat", "hook": hook, "prio": if hook == "postrouting" { 100 } else { -100 } })
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

fn meta(key: &str) -> Value {
    json!({ "meta": { "key": key } })
}

fn ct(key: &str) -> Value {
    json!({ "ct": { "key": key } })
}

#[expect(clippy::needless_pass_by_value, reason = "it is made where it is given")]
fn test(left: &Value, op: &str, right: Value) -> Value {
    json!({ "match": { "left": left, "op": op, "right": right } })
}

/// Family, chain, statements.
fn rules() -> Vec<(&'static str, Value, Value)> {
    let tcp_dport = payload("tcp", "dport");
    let (ip_saddr, ip_daddr) = (payload("ip", "saddr"), payload("ip", "daddr"));
    let accept = json!({ "accept": null });
    let mut all = Vec::new();
    let mut both = |statements: Value| {
        all.push(("ip", filter(), statements.clone()));
        all.push(("inet", filter(), statements));
    };
    // Matches on header fields, one by one.
    both(json!([test(&tcp_dport, "==", json!(22)), accept]));
    both(json!([test(&tcp_dport, "==", json!("ssh")), accept]));
    both(json!([test(&tcp_dport, "!=", json!(22)), { "drop": null }]));
    both(json!([test(&tcp_dport, ">", json!(1023)), accept]));
    both(json!([test(&tcp_dport, "<=", json!(1023)), accept]));
    both(json!([test(&tcp_dport, "==", json!({ "range": [1000, 2000] })), accept]));
    both(json!([test(&tcp_dport, "!=", json!({ "range": [1000, 2000] })), accept]));
    both(json!([test(&ip_saddr, "==", json!("10.1.2.3")), accept]));
    both(json!([
        test(&ip_saddr, "==", json!({ "prefix": { "addr": "10.1.2.0", "len": 24 } })),
        accept
    ]));
    both(json!([
        test(&ip_saddr, "!=", json!({ "prefix": { "addr": "172.16.0.0", "len": 12 } })),
        accept
    ]));
    both(json!([test(&ip_saddr, "==", json!({ "range": ["10.0.0.5", "10.0.0.9"] })), accept]));
    both(json!([
        test(&payload("udp", "sport"), "==", json!(53)),
        test(&ip_daddr, "==", json!("10.0.0.1")),
        accept
    ]));
    both(json!([test(&payload("ip", "protocol"), "==", json!("icmp")), accept]));
    both(json!([test(&payload("ip", "ttl"), "<", json!(5)), { "drop": null }]));
    both(json!([test(&payload("ip", "dscp"), "==", json!("af21")), accept]));
    both(json!([test(&payload("ip", "length"), ">", json!(1400)), accept]));
    both(
        json!([test(&payload("icmp", "type"), "==", json!("echo-request")), { "counter": null }, accept]),
    );
    both(json!([test(&payload("th", "dport"), "==", json!(53)), accept]));
    both(json!([test(&payload("ip", "frag-off"), "!=", json!(0)), accept]));
    // Flags.
    both(json!([test(&ct("state"), "in", json!(["established", "related"])), accept]));
    both(json!([test(&ct("state"), "in", json!("invalid")), { "drop": null }]));
    both(json!([test(&ct("state"), "==", json!("new")), accept]));
    both(json!([test(&ct("state"), "==", json!({ "set": ["new", "established"] })), accept]));
    both(json!([test(&ct("status"), "in", json!("dnat")), accept]));
    both(json!([test(&payload("tcp", "flags"), "in", json!("syn")), accept]));
    both(json!([test(&payload("tcp", "flags"), "==", json!("syn")), accept]));
    both(json!([
        test(
            &json!({ "&": [payload("tcp", "flags"), { "|": ["syn", "ack"] }] }),
            "==",
            json!("syn")
        ),
        accept
    ]));
    // Meta and ct.
    both(json!([test(&meta("iifname"), "==", json!("eth0")), accept]));
    both(json!([test(&meta("iifname"), "!=", json!("veth*")), accept]));
    both(json!([test(&meta("iifname"), "==", json!({ "set": ["eth0", "lo"] })), accept]));
    both(json!([test(&meta("mark"), "==", json!(0x42)), accept]));
    both(json!([test(&meta("mark"), "==", json!({ "range": [1, 9] })), accept]));
    both(json!([test(&json!({ "&": [meta("mark"), 0xff] }), "==", json!(0x10)), accept]));
    both(json!([test(&meta("length"), ">", json!(100)), accept]));
    both(json!([
        test(&meta("l4proto"), "==", json!({ "set": ["tcp", "udp"] })),
        test(&payload("th", "dport"), "==", json!(53)),
        accept
    ]));
    both(json!([
        test(&meta("l4proto"), "==", json!("tcp")),
        test(&tcp_dport, "==", json!(80)),
        accept
    ]));
    both(json!([test(&meta("pkttype"), "==", json!("broadcast")), { "drop": null }]));
    both(json!([test(&meta("skuid"), "==", json!(1000)), accept]));
    both(json!([test(&ct("mark"), "==", json!(7)), accept]));
    both(json!([test(&ct("direction"), "==", json!("reply")), accept]));
    both(json!([
        test(&meta("l4proto"), "==", json!("tcp")),
        test(&json!({ "ct": { "key": "proto-dst", "dir": "original" } }), "==", json!(80)),
        accept
    ]));
    both(json!([
        test(&json!({ "fib": { "result": "type", "flags": ["daddr"] } }), "==", json!("local")),
        accept
    ]));
    both(
        json!([test(&json!({ "fib": { "result": "oif", "flags": ["saddr", "iif"] } }), "==", json!(false)), { "drop": null }]),
    );
    // Sets and maps.
    both(json!([test(&tcp_dport, "==", json!({ "set": [22, 80, 443] })), accept]));
    both(json!([
        test(&tcp_dport, "!=", json!({ "set": [22, { "range": [100, 200] }, 65535] })),
        accept
    ]));
    both(json!([
        test(&tcp_dport, "==", json!({ "set": [{ "range": [10, 20] }, { "range": [21, 30] }, 5] })),
        accept
    ]));
    both(json!([
        test(
            &ip_saddr,
            "==",
            json!({ "set": [{ "prefix": { "addr": "10.0.0.0", "len": 8 } }, "192.168.0.1"] })
        ),
        accept
    ]));
    both(json!([test(&ip_saddr, "==", json!("@hosts")), accept]));
    both(json!([test(&ip_saddr, "!=", json!("@nets")), { "drop": null }]));
    both(json!([test(&meta("mark"), "==", json!({ "set": [1, 2, 0x300] })), accept]));
    both(json!([
        test(
            &json!({ "concat": [ip_saddr, tcp_dport] }),
            "==",
            json!({ "set": [{ "concat": ["10.0.0.1", 80] }, { "concat": ["10.0.0.2", 443] }] })
        ),
        accept
    ]));
    both(json!([
        test(
            &json!({ "concat": [meta("iifname"), ip_saddr] }),
            "==",
            json!({ "set": [{ "concat": ["eth0", { "prefix": { "addr": "10.0.0.0", "len": 8 } }] }] })
        ),
        accept
    ]));
    both(
        json!([{ "vmap": { "key": tcp_dport, "data": { "set": [[22, accept], [80, { "drop": null }], [81, { "jump": { "target": "other" } }]] } } }]),
    );
    both(json!([{ "vmap": { "key": { "concat": [ip_daddr, tcp_dport] }, "data": "@verdicts" } }]));
    both(
        json!([{ "vmap": { "key": ip_saddr, "data": { "set": [[{ "prefix": { "addr": "10.0.0.0", "len": 8 } }, accept], ["192.168.0.1", { "return": null }]] } } }]),
    );
    // Statements.
    both(json!([{ "counter": null }]));
    both(json!([{ "counter": { "packets": 5, "bytes": 500 } }, { "continue": null }]));
    both(json!([{ "counter": "hits" }, { "return": null }]));
    both(json!([{ "jump": { "target": "other" } }]));
    both(json!([{ "goto": { "target": "other" } }]));
    both(json!([{ "log": null }]));
    both(
        json!([{ "log": { "prefix": "in: ", "level": "info", "flags": ["tcp options", "ip options"] } }]),
    );
    both(
        json!([{ "log": { "prefix": "x", "group": 2, "snaplen": 100, "queue-threshold": 3 } }, { "drop": null }]),
    );
    both(json!([{ "limit": { "rate": 10, "per": "second" } }, accept]));
    both(
        json!([{ "limit": { "rate": 10, "per": "minute", "burst": 20, "inv": true } }, { "drop": null }]),
    );
    both(
        json!([{ "limit": { "rate": 2, "rate_unit": "mbytes", "per": "second", "burst": 5, "burst_unit": "kbytes" } }, accept]),
    );
    both(json!([{ "reject": null }]));
    both(json!([{ "reject": { "type": "tcp reset" } }]));
    both(json!([{ "reject": { "type": "icmp", "expr": "host-unreachable" } }]));
    both(json!([test(&tcp_dport, "==", json!(113)), { "reject": { "type": "tcp reset" } }]));
    both(json!([{ "mangle": { "key": meta("mark"), "value": 0x10 } }]));
    both(json!([{ "mangle": { "key": ct("mark"), "value": meta("mark") } }]));
    both(
        json!([{ "mangle": { "key": meta("mark"), "value": { "map": { "key": tcp_dport, "data": { "set": [[22, 1], [80, 2]] } } } } }]),
    );
    both(json!([{ "mangle": { "key": payload("tcp", "dport"), "value": 8080 } }]));
    both(json!([{ "mangle": { "key": payload("ip", "daddr"), "value": "10.9.9.9" } }]));
    let clamp = json!([test(&payload("tcp", "flags"), "in", json!("syn")),
        { "mangle": { "key": { "tcp option": { "name": "maxseg", "field": "size" } }, "value": { "rt": { "key": "mtu" } } } }]);
    both(
        json!([{ "mangle": { "key": { "tcp option": { "name": "maxseg", "field": "size" } }, "value": 1400 } }]),
    );
    both(json!([{ "notrack": null }]));
    for family in ["ip", "ip6", "inet"] {
        let forward = json!({ "type": "filter", "hook": "forward", "prio": -150 });
        all.push((family, forward, clamp.clone()));
    }
    // Of one family.
    let ip6 = payload("ip6", "saddr");
    for family in ["ip6", "inet"] {
        all.push((family, filter(), json!([test(&ip6, "==", json!("fd00::1")), accept])));
        all.push((
            family,
            filter(),
            json!([test(&ip6, "==", json!({ "prefix": { "addr": "fd00::", "len": 56 } })), accept]),
        ));
        all.push((
            family,
            filter(),
            json!([test(&ip6, "==", json!({ "set": ["fd00::1", "fd00::2"] })), accept]),
        ));
        all.push((
            family,
            filter(),
            json!([
                test(
                    &payload("icmpv6", "type"),
                    "==",
                    json!({ "set": ["nd-neighbor-solicit", "echo-request"] })
                ),
                accept
            ]),
        ));
        all.push((
            family,
            filter(),
            json!([{ "reject": { "type": "icmpv6", "expr": "admin-prohibited" } }]),
        ));
        all.push((
            family,
            filter(),
            json!([test(&payload("ip6", "nexthdr"), "==", json!("udp")), accept]),
        ));
        all.push((
            family,
            filter(),
            json!([
                test(
                    &json!({ "concat": [ip6, payload("udp", "dport")] }),
                    "==",
                    json!({ "set": [{ "concat": ["fd00::1", 53] }] })
                ),
                accept
            ]),
        ));
    }
    all.push(("ip6", filter(), json!([{ "reject": null }])));
    all.push(("inet", filter(), json!([{ "reject": { "type": "icmpx", "expr": "no-route" } }])));
    all.push((
        "inet",
        filter(),
        json!([
            test(&meta("nfproto"), "==", json!("ipv6")),
            test(&ip6, "==", json!("fd00::1")),
            accept
        ]),
    ));
    all.push((
        "bridge",
        filter(),
        json!([test(&payload("ether", "saddr"), "!=", json!("02:00:00:00:00:01")), { "drop": null }]),
    ));
    all.push((
        "bridge",
        filter(),
        json!([
            test(&ip_saddr, "==", json!("10.0.0.1")),
            test(&tcp_dport, "==", json!(22)),
            accept
        ]),
    ));
    all.push((
        "bridge",
        filter(),
        json!([test(&payload("ether", "type"), "==", json!("arp")), accept]),
    ));
    all.push((
        "inet",
        filter(),
        json!([test(&payload("ether", "saddr"), "==", json!("02:00:00:00:00:01")), accept]),
    ));
    all.push((
        "arp",
        filter(),
        json!([
            test(&payload("arp", "operation"), "==", json!("request")),
            test(&payload("arp", "saddr ip"), "==", json!("10.0.0.1")),
            accept
        ]),
    ));
    // NAT.
    for (family, more) in [("ip", json!({})), ("inet", json!({ "family": "ip" }))] {
        let to = |value: Value| {
            let mut to = more.clone();
            for (key, value) in value.as_object().unwrap() {
                to[key] = value.clone();
            }
            to
        };
        let web = test(&tcp_dport, "==", json!(80));
        all.push((
            family,
            nat("prerouting"),
            json!([test(&ip_daddr, "==", json!("10.0.0.1")), { "dnat": to(json!({ "addr": "10.9.0.1" })) }]),
        ));
        all.push((
            family,
            nat("prerouting"),
            json!([web, { "dnat": to(json!({ "addr": "10.9.0.1", "port": 8080 })) }]),
        ));
        all.push((family, nat("prerouting"), json!([web, { "dnat": to(json!({ "addr": { "range": ["10.9.0.1", "10.9.0.4"] }, "port": { "range": [8000, 8010] } })) }])));
        all.push((family, nat("prerouting"), json!([test(&ip_daddr, "==", json!("10.0.0.1")), { "dnat": to(json!({ "addr": { "map": { "key": tcp_dport, "data": "@backends" } } })) }])));
        all.push((family, nat("prerouting"), json!([{ "dnat": to(json!({ "addr": { "map": { "key": tcp_dport, "data": { "set": [[80, "10.0.0.5"], [81, "10.0.0.6"]] } } } })) }])));
        all.push((family, nat("postrouting"), json!([test(&meta("oifname"), "==", json!("eth0")), { "snat": to(json!({ "addr": "10.0.0.9", "flags": ["random", "persistent"] })) }])));
        all.push((
            family,
            nat("postrouting"),
            json!([web, { "snat": to(json!({ "addr": "10.0.0.9", "port": { "range": [1024, 2048] } })) }]),
        ));
        all.push((family, nat("postrouting"), json!([{ "masquerade": null }])));
        all.push((
            family,
            nat("postrouting"),
            json!([web, { "masquerade": { "port": { "range": [1024, 2048] }, "flags": ["fully-random"] } }]),
        ));
        all.push((family, nat("prerouting"), json!([web, { "redirect": { "port": 3128 } }])));
        all.push((family, nat("prerouting"), json!([{ "redirect": null }])));
    }
    all.push((
        "ip6",
        nat("prerouting"),
        json!([test(&tcp_dport, "==", json!(80)), { "dnat": { "addr": "fd00::9", "port": 8080 } }]),
    ));
    all
}

#[test]
fn our_rules_list_as_those_that_nft_makes_of_the_same_document() {
    let bench = Bench::new();
    let rules = rules();
    let mut wrong = Vec::new();
    for (family, chain, statements) in &rules {
        if let Err(why) = bench.compare(&rule(family, chain, statements)) {
            wrong.push(format!("{family} {statements}\n{why}"));
        }
    }
    println!("{} of {} rules list identically", rules.len() - wrong.len(), rules.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rules.len(), wrong.join("\n"));
}

/// Whole documents: (name, objects).
fn documents() -> Vec<(&'static str, Value)> {
    let of = |more: Value| {
        let mut object = json!({ "family": "inet", "table": "t" });
        for (key, value) in more.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    };
    let table = json!({ "table": { "family": "inet", "name": "t" } });
    let chain = json!({ "chain": of(json!({ "name": "c", "type": "filter", "hook": "forward", "prio": -150, "policy": "drop" })) });
    let port = payload("tcp", "dport");
    let rule = |expr: Value, comment: &str| json!({ "rule": of(json!({ "chain": "c", "expr": expr, "comment": comment })) });
    vec![
        (
            "bare objects, with metainfo, comments and an insert",
            json!([
                { "metainfo": { "json_schema_version": 1 } }, table, chain,
                rule(json!([test(&port, "==", json!(1)), { "accept": null }]), "first"),
                { "add": rule(json!([test(&port, "==", json!(2)), { "accept": null }]), "second") },
                { "insert": rule(json!([test(&port, "==", json!(3)), { "accept": null }]), "third, at the head") },
            ]),
        ),
        (
            "a chain that is jumped to before it is there",
            json!([
                table, chain, { "chain": of(json!({ "name": "later" })) },
                rule(json!([{ "jump": { "target": "later" } }]), "x"),
            ]),
        ),
        (
            "sets of all kinds",
            json!([
                table,
                { "set": of(json!({ "name": "a", "type": "ipv6_addr", "elem": ["fd00::2", "fd00::1"]})) },
                { "set": of(json!({ "name": "b", "type": "ether_addr", "elem": ["02:00:00:00:00:01"] })) },
                { "set": of(json!({ "name": "d", "type": "inet_proto", "elem": ["tcp", "udp"] })) },
                { "set": of(json!({ "name": "e", "type": "mark", "elem": [1, 0x10000] })) },
                { "set": of(json!({ "name": "f", "type": "ifname", "elem": ["eth0", "br0"] })) },
                { "set": of(json!({ "name": "g", "type": "ipv4_addr", "flags": ["timeout"], "timeout": 3600, "gc-interval": 12, "size": 1000 })) },
                { "set": of(json!({ "name": "h", "type": "inet_service", "flags": ["interval"], "policy": "memory",
                    "elem": [{ "range": [0, 10] }, { "range": [65_000, 65_535] }, 100] })) },
                { "set": of(json!({ "name": "i", "type": ["ipv4_addr", "inet_service"], "flags": ["interval"],
                    "elem": [{ "concat": [{ "prefix": { "addr": "10.0.0.0", "len": 8 } }, { "range": [80, 90] }] },
                             { "concat": ["192.168.0.1", 443] }] })) },
                { "set": of(json!({ "name": "j", "type": "mark", "flags": ["interval"], "elem": [{ "range": [1, 9] }] })) },
                { "set": of(json!({ "name": "k", "type": "ipv4_addr", "flags": ["constant"],
                    "elem": [{ "elem": { "val": "10.0.0.1", "comment": "the router" } }] })) },
            ]),
        ),
        (
            "elements added later, between others",
            json!([
                table,
                { "set": of(json!({ "name": "s", "type": "inet_service", "flags": ["interval"], "elem": [{ "range": [10, 20] }] })) },
                { "map": of(json!({ "name": "m", "type": "inet_service", "map": "mark" })) },
                { "add": { "element": of(json!({ "name": "s", "elem": [5, { "range": [21, 30] }] })) } },
                { "add": { "element": of(json!({ "name": "m", "elem": [[80, 1], [81, 0x20]] })) } },
            ]),
        ),
        (
            "maps of all kinds",
            json!([
                table, chain, { "chain": of(json!({ "name": "web" })) },
                { "map": of(json!({ "name": "v", "type": "inet_service", "map": "verdict", "flags": ["interval"],
                    "elem": [[{ "range": [80, 89] }, { "jump": { "target": "web" } }], [443, { "accept": null }]] })) },
                { "map": of(json!({ "name": "n", "type": "ifname", "map": "verdict", "elem": [["eth0", { "goto": { "target": "web" } }], ["*", { "drop": null }]] })) },
                { "map": of(json!({ "name": "p", "type": "ipv4_addr", "map": "inet_service", "elem": [["10.0.0.1", 80]] })) },
                rule(json!([{ "vmap": { "key": port, "data": "@v" } }]), "by port"),
                rule(json!([{ "vmap": { "key": meta("iifname"), "data": "@n" } }]), "by interface"),
            ]),
        ),
        (
            "counters that have counted",
            json!([
                table, chain,
                { "counter": of(json!({ "name": "hits", "packets": 7, "bytes": 700 })) },
                rule(json!([{ "counter": "hits" }]), "named"),
            ]),
        ),
        (
            "several tables, of all families",
            json!([
                { "table": { "family": "ip", "name": "t" } }, { "table": { "family": "ip6", "name": "t" } }, table,
                { "table": { "family": "arp", "name": "t" } }, { "table": { "family": "bridge", "name": "t" } },
                { "table": { "family": "netdev", "name": "t" } },
                { "chain": { "family": "netdev", "table": "t", "name": "c", "type": "filter", "hook": "ingress", "dev": "lo", "prio": -10 } },
                { "rule": { "family": "netdev", "table": "t", "chain": "c", "expr":
                    [test(&payload("ip", "saddr"), "==", json!("10.0.0.1")), { "drop": null }] } },
                { "chain": { "family": "ip", "table": "t", "name": "c", "type": "route", "hook": "output", "prio": -150 } },
                { "rule": { "family": "ip", "table": "t", "chain": "c", "expr": [{ "mangle": { "key": meta("mark"), "value": 1 } }] } },
            ]),
        ),
    ]
}

/// nft had read `ip ttl . ip saddr { 3 . 10.0.0.1 }` of ours as `{ 0 . 3.0.0.0 }`: a number's type does not say how
/// long it is, and nothing else did.
#[test]
fn numbers_beside_other_values_list_as_nft_lists_them() {
    let bench = Bench::new();
    let address = payload("ip", "saddr");
    let network = json!({ "prefix": { "addr": "10.0.0.0", "len": 8 } });
    let accept = json!({ "accept": null });
    let raw = json!({ "payload": { "base": "nh", "offset": 96, "len": 24 } });
    let numbers = [
        payload("ip", "ttl"),
        payload("ip", "id"),
        payload("tcp", "window"),
        payload("udp", "length"),
        payload("esp", "spi"),
        payload("igmp", "mrt"),
        raw,
        meta("cpu"),
        meta("length"),
        meta("cgroup"),
        ct("zone"),
        json!({ "ct": { "key": "packets", "dir": "original" } }),
    ];
    let beside = |left: &Value, first: Value, op: &str| {
        let key = json!({ "concat": [left, address] });
        test(&key, op, json!({ "set": [{ "concat": [first, "10.0.0.1"] }] }))
    };
    let mut wrong = Vec::new();
    let mut compare = |statements: &Value| {
        if let Err(why) = bench.compare(&rule("inet", &filter(), statements)) {
            wrong.push(format!("{statements}\n{why}"));
        }
    };
    for number in &numbers {
        compare(&json!([beside(number, json!(3), "=="), accept]));
        compare(&json!([beside(number, json!(3), "!="), accept]));
        let key = json!({ "concat": [address, number] });
        let last = json!({ "set": [{ "concat": ["10.0.0.1", 200] }] });
        compare(&json!([test(&key, "==", last), accept]));
        let map = json!({ "set": [[{ "concat": ["10.0.0.1", 3] }, accept]] });
        compare(&json!([{ "vmap": { "key": key, "data": map } }]));
    }
    for number in &numbers[..7] {
        compare(&json!([beside(number, json!({ "range": [3, 9] }), "=="), accept]));
        let key = json!({ "concat": [address, number] });
        let inside = json!({ "set": [{ "concat": [network, 3] }] });
        compare(&json!([test(&key, "==", inside), accept]));
    }
    // Lengths are part of what a transport's checksum covers; the direction is one that kernels forget.
    compare(&json!([{ "mangle": { "key": payload("ip", "length"), "value": 300 } }]));
    compare(&json!([{ "mangle": { "key": payload("ip6", "length"), "value": 300 } }]));
    let protocol = json!({ "ct": { "key": "protocol", "dir": "original" } });
    compare(&json!([test(&protocol, "==", json!("tcp")), accept]));
    compare(&json!([test(&payload("igmp", "type"), "==", json!("leave-group")), accept]));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn whole_documents_list_as_nft_lists_them() {
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for (name, objects) in documents() {
        if let Err(why) = bench.compare(&json!({ "nftables": objects })) {
            wrong.push(format!("{name}\n{why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// `berth plan` in a pod, with the file as an operator gives it.
#[test]
fn the_plan_has_the_rules_of_the_file_or_says_what_is_wrong_with_it() {
    let pod = Netns::new("pod");
    let peer = Netns::new("peer");
    veth(&pod, "eth0", &peer, "eth0");
    pod.ip("addr add 10.1.1.2/24 dev eth0");
    pod.ip("route add default via 10.1.1.1");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.json");
    let plan = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut berth = pod.command(env!("CARGO_BIN_EXE_berth"));
        berth
            .args(["plan", "--qemu", "/bin/true", "--image-target", "x.img", "--image-dir"])
            .arg(dir.path());
        berth.env("BERTH_EXTRA_RULES", &file).env("BERTH_STATE_DIR", dir.path()).output().unwrap()
    };
    let good = plan(
        &rule(
            "ip",
            &filter(),
            &json!([test(&payload("tcp", "dport"), "==", json!(22)), { "drop": null }]),
        )
        .to_string(),
    );
    let text = String::from_utf8_lossy(&good.stdout);
    assert!(good.status.success(), "{good:?}");
    assert!(text.contains("table inet berth {") && text.contains("table ip t {"), "{text}");
    assert!(text.contains("\t\ttcp dport 22 drop\n"), "{text}");

    let bad = plan(
        &rule("ip", &filter(), &json!([{ "counter": null }, { "queue": { "num": 1 } }]))
            .to_string(),
    );
    let said = String::from_utf8_lossy(&bad.stderr);
    assert_eq!(bad.status.code(), Some(12), "{bad:?}");
    assert!(
        said.contains(
            "object 9 (rule in chain ip t c): statement 2 (queue): this statement is not supported"
        ),
        "{said}"
    );

    std::fs::remove_file(&file).unwrap();
    let mut berth = pod.command(env!("CARGO_BIN_EXE_berth"));
    let none =
        berth.args(["plan", "--qemu", "/bin/true", "--extra-rules", "/nowhere"]).output().unwrap();
    assert_eq!(none.status.code(), Some(11), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stderr).contains("reading /nowhere"), "{none:?}");
}

fn plan(extra: &Value) -> berth::plan::Plan {
    let (mut config, mut facts) = (sample::config(), sample::facts());
    config.image.target = Some("x.img".to_owned());
    facts.net.extra_rules = Some(extra.to_string());
    berth::plan::Plan::new(&config, &facts).unwrap()
}

#[test]
fn ours_and_theirs_are_loaded_in_one_transaction_or_neither() {
    let bench = Bench::new();
    let dump = || block_on(bench.firewall.dump(berth::nft::dump::Filter::default())).unwrap();
    let bad = plan(&rule("ip", &filter(), &json!([{ "masquerade": null }])));
    let error = block_on(bench.firewall.commit(bad.net.nat)).unwrap_err().to_string();
    assert!(error.contains("rule `masquerade` in chain ip t c"), "{error}");
    assert_eq!(bench.ours.nft("list ruleset"), "");

    let good = plan(&rule("ip", &nat("postrouting"), &json!([{ "masquerade": null }])));
    let before = dump().0;
    let after = block_on(bench.firewall.commit(good.net.nat.clone())).unwrap();
    assert_eq!(after, before + 1);
    let listed = bench.ours.nft("list ruleset");
    assert!(listed.contains("table inet berth {") && listed.contains("table ip t {"), "{listed}");
    assert_eq!(block_on(bench.firewall.commit(good.net.nat.clone())).unwrap(), after);
    bench.ours.nft("flush chain ip t c");
    block_on(bench.firewall.commit(good.net.nat)).unwrap();
    assert_eq!(bench.ours.nft("list ruleset"), listed);
}

/// What an operator has: the JSON that nft prints of rules that are loaded. (nft itself does not take it back where
/// a map jumps to a chain.)
#[test]
fn what_nft_prints_can_be_given_back() {
    let bench = Bench::new();
    let mut wrong = Vec::new();
    let rules = rules();
    for (family, chain, statements) in &rules {
        let text = rule(family, chain, statements).to_string();
        bench.theirs.nft("flush ruleset");
        nft_loads(&bench.theirs, &text).unwrap();
        if let Err(why) = bench.compare_loaded(&bench.theirs.nft("-j list ruleset")) {
            wrong.push(format!("{family} {statements}\n{why}"));
        }
    }
    println!("{} of {} are taken back", rules.len() - wrong.len(), rules.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rules.len(), wrong.join("\n"));
}

/// A rule by itself: its chain, the chains of its table, the sets it looks into, and its named counters.
fn alone(table: &Table, chain: &Chain, rule: &Rule) -> Table {
    let used: Vec<&String> = rule.exprs.iter().filter_map(Expr::set_name).collect();
    let sets = table.sets.iter().filter(|set| used.contains(&&set.name));
    let is_named = |object: &&Object| {
        let name = object.name.as_str();
        let is_it = |expr: &Expr| matches!(expr, Expr::Objref { name: used, .. } if used == name);
        matches!(object.kind, ObjectKind::Counter { .. }) && rule.exprs.iter().any(is_it)
    };
    let counters = table.objects.iter().filter(is_named);
    let chains = table.chains.iter().map(|other| Chain {
        rules: if other.name == chain.name {
            vec![Rule { handle: Handle::default(), ..rule.clone() }]
        } else {
            Vec::new()
        },
        ..Chain::new(&other.name, None)
    });
    Table {
        sets: sets.map(|set| Set { handle: Handle::default(), ..set.clone() }).collect(),
        objects: counters
            .map(|object| Object { handle: Handle::default(), ..object.clone() })
            .collect(),
        chains: chains.collect(),
        ..Table::new(table.family, &table.name)
    }
}

/// All of it, but what only nft reads of a set: types that the kernel does not look at, and its size.
fn meant(ruleset: &Ruleset) -> Ruleset {
    let mut ruleset = ruleset.canonical();
    for set in ruleset.tables.iter_mut().flat_map(|table| &mut table.sets) {
        let comment = set.userdata.comment_at(7);
        set.userdata = comment.as_deref().map(Userdata::comment).unwrap_or_default();
        set.size = None;
    }
    ruleset
}

fn listed(ruleset: &Ruleset) -> String {
    let mut document = Document::new(&Release::of("1.0.6"));
    ruleset.json(&Style::default(), &mut document);
    String::from_utf8(document.finish()).unwrap()
}

/// What `--extra-rules` does not take, though nft lists it: said in these words, where `*` is any, never compiled to
/// something else; and how many rules of tests/listing each is said of.
const POLICY: [(&str, usize); 26] = [
    // Statements that are for other things than filtering and NAT, or name objects other than counters.
    ("this statement is not supported", 91),
    ("*.map is not understood", 2),
    ("*.size is not understood", 3),
    ("*stmt is not understood", 3),
    // What the types of libnftables-json that are read here do not know.
    ("unknown variant *", 55),
    ("data did not match any variant of untagged enum *", 203),
    ("invalid type: *", 3),
    ("missing field *", 4),
    // Keys and fields that need more than one protocol, or depend on time zones, files or user space.
    ("* as what is looked at", 398),
    ("the ct key * is not supported", 70),
    ("the header field * is not supported", 185),
    ("a raw payload of base ih is not supported", 9),
    ("a field that is not of whole octets, looked up in a set, is not supported", 18),
    ("setting a field that is not of whole octets is not supported", 34),
    ("setting a single octet under a checksum is not supported", 17),
    ("setting this field is not supported", 16),
    ("this cannot be set", 9),
    // Arithmetic, and values that other fields give.
    ("* where a single value is wanted", 65),
    ("a value of another type", 8),
    ("an operation where a value is wanted", 60),
    ("an operation other than & on what is compared", 28),
    ("& on this field, or compared by order", 7),
    // nft lists what can never match, too.
    ("IPv4 and IPv6 in one rule", 16),
    ("ARP where there is IP", 5),
    ("IP where there is ARP", 4),
    ("family (ip or ip6) must be said here", 1),
];

/// The reason of [`POLICY`] that a refusal gives, after the object's and the statement's names; None for others.
fn policy_of(refusal: &str) -> Option<&'static str> {
    let why = refusal.rsplit("): ").next().unwrap_or(refusal);
    let is_said = |reason: &str| match reason.split_once('*') {
        Some((start, end)) => why.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None => why == reason,
    };
    let mut reasons = POLICY.iter().map(|(reason, _)| *reason).filter(|reason| is_said(reason));
    reasons.next().filter(|_| reasons.next().is_none())
}

enum Relisted {
    /// Instruction by instruction.
    Same,
    /// By other instructions: nft loads neighbouring fields at once.
    SameListing,
    Refused(String),
    Other(String),
}

/// What becomes of a rule that is listed as JSON and compiled again.
fn relisted(table: Table) -> Relisted {
    let ruleset = Ruleset { tables: vec![table] };
    let text = listed(&ruleset);
    match compile(&text) {
        Err(error) => Relisted::Refused(error.to_string()),
        Ok(compiled) if meant(&compiled) == meant(&ruleset) => Relisted::Same,
        Ok(compiled) if listed(&compiled) == text => Relisted::SameListing,
        Ok(compiled) => Relisted::Other(format!(
            "{text}{}\n{:?}\n{:?}\n",
            listed(&compiled),
            meant(&compiled),
            meant(&ruleset)
        )),
    }
}

#[test]
fn what_is_listed_as_json_compiles_to_the_same_rule_or_is_refused_by_policy() {
    let netns = Netns::new("listed");
    let firewall = firewall(&netns);
    let (mut same, mut like, mut others) = (0, 0, Vec::new());
    let mut refused = BTreeMap::<&str, usize>::new();
    for collection in collections() {
        netns.nft("flush ruleset");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script(&collection).0).unwrap();
        netns.nft(&format!("-f {}", file.path().display()));
        let (_, ruleset) = block_on(firewall.dump(berth::nft::dump::Filter::default())).unwrap();
        for table in &ruleset.tables {
            for chain in &table.chains {
                for rule in &chain.rules {
                    match relisted(alone(table, chain, rule)) {
                        Relisted::Same => same += 1,
                        Relisted::SameListing => like += 1,
                        Relisted::Other(how) => others.push(how),
                        Relisted::Refused(why) => match policy_of(&why) {
                            Some(reason) => *refused.entry(reason).or_default() += 1,
                            None => others.push(format!("{}: {why}", table.rule_text(rule))),
                        },
                    }
                }
            }
        }
    }
    let left: usize = refused.values().sum();
    println!("{same} are the same, {like} list the same, {left} are refused");
    assert!(others.is_empty(), "{} are others:\n{}", others.len(), others.join("\n"));
    assert_eq!(refused, BTreeMap::from(POLICY));
    assert!(same >= 2000 && like < 200, "{same}, {like}");
}

#[test]
fn rules_made_up_at_random_are_listed_and_compiled_to_themselves() {
    let counted = std::cell::RefCell::new((0, 0, 0));
    // They match nothing, and people do not write them.
    let is_odd = |why: &str| why.ends_with("): two transport protocols in one rule");
    let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&rulesets::rulesets(), |ruleset| {
        for table in &ruleset.tables {
            for chain in &table.chains {
                for rule in &chain.rules {
                    let (same, like, refused) = &mut *counted.borrow_mut();
                    match relisted(alone(table, chain, rule)) {
                        Relisted::Same => *same += 1,
                        Relisted::SameListing => *like += 1,
                        Relisted::Refused(why) if policy_of(&why).is_some() || is_odd(&why) => {
                            *refused += 1;
                        }
                        Relisted::Refused(how) | Relisted::Other(how) => {
                            return Err(TestCaseError::fail(how));
                        }
                    }
                }
            }
        }
        Ok(())
    });
    let (same, like, refused) = counted.into_inner();
    println!("{same} are the same, {like} list the same, {refused} are refused");
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(same > 100, "{same}");
}
