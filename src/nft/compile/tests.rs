use proptest::prelude::*;
use serde_json::{Value, json};

use super::Error;
use crate::nft::{Family, Ruleset};

fn compile(text: &str) -> Result<Ruleset, Error> {
    super::compile(text, |family, name| name == "berth" && family != Family::IP)
}

/// A document of a table, a chain and these objects.
fn document(objects: &[Value]) -> Result<Ruleset, String> {
    let mut list = vec![
        json!({ "table": { "family": "inet", "name": "t" } }),
        json!({ "chain": { "family": "inet", "table": "t", "name": "c" } }),
    ];
    list.extend_from_slice(objects);
    compile(&json!({ "nftables": list }).to_string()).map_err(|error| error.to_string())
}

fn rule(statements: &Value) -> Value {
    json!({ "rule": { "family": "inet", "table": "t", "chain": "c", "expr": statements } })
}

fn set(more: &Value) -> Value {
    let mut set = json!({ "family": "inet", "table": "t", "name": "s", "type": "inet_service" });
    for (key, value) in more.as_object().unwrap() {
        set[key] = value.clone();
    }
    json!({ "set": set })
}

#[track_caller]
fn refused(objects: &[Value], why: &str) {
    let error = document(objects).unwrap_err();
    assert!(error.contains(why), "wanted: {why}\nsaid: {error}");
}

#[test]
fn a_refusal_names_the_object_and_what_is_in_it() {
    let error =
        document(&[rule(&json!([{ "counter": null }, { "queue": { "num": 1 } }]))]).unwrap_err();
    assert_eq!(
        error,
        "extra rules, object 3 (rule in chain inet t c): statement 2 (queue): this statement is not supported"
    );
    let error = document(&[set(&json!({ "auto-merge": true }))]).unwrap_err();
    assert_eq!(error, "extra rules, object 3 (set inet t s): auto-merge is not understood");
    let error = document(&[rule(&json!([{ "sing": null }]))]).unwrap_err();
    assert!(error.starts_with(
        "extra rules, object 3 (rule in chain inet t c): statement 1 (sing): unknown variant"
    ));
}

#[test]
fn our_own_table_is_not_to_be_touched() {
    for family in ["inet", "arp"] {
        let text = r#"{"nftables":[{"add":{"table":{"family":"FAMILY","name":"berth"}}}]}"#;
        let error = compile(&text.replace("FAMILY", family)).unwrap_err();
        let wanted =
            format!("extra rules, object 1 (table {family} berth): this table is berth's own");
        assert_eq!(error.to_string(), wanted);
    }
    let other = compile(r#"{"nftables":[{"add":{"table":{"family":"ip","name":"berth"}}}]}"#);
    assert!(other.is_ok());
}

#[test]
fn what_names_something_that_is_not_there_is_refused() {
    refused(
        &[rule(&json!([{ "jump": { "target": "away" } }]))],
        "object 3 (rule in chain inet t c): the chain away is not",
    );
    refused(&[rule(&json!([{ "counter": "hits" }]))], "the counter hits is not defined");
    let port = json!({ "payload": { "protocol": "tcp", "field": "dport" } });
    let in_set =
        |name: &str| rule(&json!([{ "match": { "left": port, "op": "==", "right": name } }]));
    refused(&[in_set("@s")], "statement 1 (match): the set s is not defined before");
    refused(&[set(&json!({ "type": "ipv4_addr" })), in_set("@s")], "keys of another type");
    refused(
        &[json!({ "rule": { "family": "ip", "table": "t", "chain": "c", "expr": [] } })],
        "table ip t is not",
    );
    refused(
        &[json!({ "rule": { "family": "inet", "table": "t", "chain": "d", "expr": [] } })],
        "chain d is not",
    );
    refused(
        &[json!({ "element": { "family": "inet", "table": "t", "name": "s", "elem": [1] } })],
        "set s is not",
    );
    refused(
        &[
            json!({ "map": { "family": "inet", "table": "t", "name": "m", "type": "mark", "map": "verdict",
            "elem": [[1, { "goto": { "target": "away" } }]] } }),
        ],
        "object 3 (map inet t m): the chain away is not",
    );
}

#[test]
fn commands_that_look_at_what_is_loaded_are_refused() {
    for (command, object) in [
        ("delete", json!({ "table": { "family": "ip", "name": "x" } })),
        ("flush", json!({ "ruleset": null })),
        ("list", json!({ "tables": null })),
        ("replace", json!({ "rule": {} })),
        ("rename", json!({ "chain": {} })),
        ("reset", json!({ "counters": null })),
    ] {
        refused(&[json!({ command: object })], &format!("{command} is not supported"));
    }
    let at = json!({ "insert": { "rule": { "family": "inet", "table": "t", "chain": "c", "index": 1, "expr": [] } } });
    refused(&[at], "a position (handle or index) is not supported");
}

#[test]
fn objects_that_are_not_compiled_are_refused_by_kind() {
    for kind in ["flowtable", "quota", "limit", "ct helper", "synproxy", "secmark", "nonsense"] {
        refused(
            &[json!({ kind: { "family": "inet", "table": "t", "name": "n" } })],
            &format!("object 3 ({kind} inet t n): a {kind} is not supported here"),
        );
    }
}

/// One vocabulary: words of the listing that had been left out of a table of their own here.
#[test]
fn every_word_that_a_listing_has_is_taken() {
    let field = |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
    let meta = |key: &str| json!({ "meta": { "key": key } });
    for (left, word, wanted) in [
        (field("ip", "dscp"), "va", "ip dscp va"),
        (field("ip", "dscp"), "lephb", "ip dscp lephb"),
        (field("ip", "ecn"), "ect0", "ip ecn ect0"),
        (field("ip", "protocol"), "ospf", "ip protocol ospf"),
        (field("icmpv6", "type"), "mld2-listener-report", "icmpv6 type mld2-listener-report"),
        (field("icmpv6", "code"), "policy-fail", "icmpv6 code policy-fail"),
        (field("igmp", "type"), "leave-group", "meta nfproto ipv4 igmp type leave-group"),
        (field("ether", "daddr"), "01:00:5e:00:00:fb", "ether daddr 01:00:5e:00:00:fb"),
        (meta("protocol"), "8021ad", "meta protocol 8021ad"),
        (meta("l4proto"), "icmpv6", "meta l4proto ipv6-icmp"),
        (meta("iifgroup"), "default", "iifgroup \"default\""),
        (meta("priority"), "1:10", "meta priority 1:10"),
    ] {
        let wanted_rule = json!([{ "match": { "left": left, "op": "==", "right": word } }]);
        let text = document(&[rule(&wanted_rule)]).unwrap().to_string();
        assert!(text.contains(&format!("\t\t{wanted}\n")), "{wanted}: {text}");
    }
}

/// Rust takes a sign before digits, and for decimal what nft takes for octal.
#[test]
fn numbers_with_a_sign_or_a_leading_zero_are_refused() {
    let field = |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
    let meta = |key: &str| json!({ "meta": { "key": key } });
    for (left, words) in [
        (field("ether", "saddr"), ["+1:2:3:4:5:6", "1:2:3:4:5:+6", "001:2:3:4:5:6"].as_slice()),
        (meta("priority"), &["+1:2", "1:+2", "1:10000", "1:", ":1"]),
        (field("tcp", "dport"), &["+3", "010", "00", "0x+3", "0x", "-1"]),
        (field("ip", "ttl"), &["+3", "010"]),
        (meta("mark"), &["+3", "010", "0x+3"]),
        (meta("l4proto"), &["+6", "06"]),
    ] {
        for word in words {
            let wanted = json!([{ "match": { "left": left, "op": "==", "right": word } }]);
            refused(&[rule(&wanted)], &format!("{word:?} is not a"));
        }
    }
    let zero = json!([{ "match": { "left": meta("mark"), "op": "==", "right": "0" } }]);
    assert!(document(&[rule(&zero)]).unwrap().to_string().contains("meta mark 0x00000000"));
}

#[test]
fn true_and_false_are_values_of_presence_only() {
    let ttl = json!({ "payload": { "protocol": "ip", "field": "ttl" } });
    let mark = json!({ "meta": { "key": "nftrace" } });
    for left in [ttl, mark] {
        let wanted = json!([{ "match": { "left": left, "op": "==", "right": true } }]);
        refused(&[rule(&wanted)], "a truth value where a single value is wanted");
    }
}

/// Its end, in bits, had been more than 32 bits hold.
#[test]
fn a_raw_payload_past_what_the_kernel_reads_is_refused() {
    let at = |offset: u32| {
        let left = json!({ "payload": { "base": "th", "offset": offset, "len": 8 } });
        rule(&json!([{ "match": { "left": left, "op": "==", "right": 1 } }]))
    };
    refused(&[at(u32::MAX - 7)], "a raw payload past octet 255 is not supported");
    refused(&[at(2048)], "a raw payload past octet 255 is not supported");
    assert!(document(&[at(2040)]).is_ok());
}

/// They were 32 bits wide.
#[test]
fn a_named_counter_may_have_counted_more_than_four_gigabytes() {
    let counter = |bytes: Value| json!({ "counter": { "family": "inet", "table": "t", "name": "hits", "packets": 7, "bytes": bytes } });
    let text = document(&[counter(json!(1_u64 << 40))]).unwrap().to_string();
    assert!(text.contains("packets 7 bytes 1099511627776"), "{text}");
    refused(&[counter(json!("many"))], "object 3 (counter inet t hits): invalid type");
    refused(&[counter(json!(-1))], "object 3 (counter inet t hits): invalid value");
}

/// Kernels take the direction and do not tell it back: such rules were replaced at every look.
#[test]
fn the_protocol_of_a_connection_has_no_direction() {
    let left = json!({ "ct": { "key": "protocol", "dir": "original" } });
    let wanted = json!([{ "match": { "left": left, "op": "==", "right": "tcp" } }]);
    let text = document(&[rule(&wanted)]).unwrap().to_string();
    assert!(text.contains("\t\tct protocol tcp\n"), "{text}");
}

/// `eth*` in a set had been a name with an asterisk, which no interface has.
#[test]
fn patterns_of_interface_names_are_patterns_in_sets_too() {
    let words = json!({ "set": ["eth*", "lo", "veth\\*"] });
    let left = json!({ "meta": { "key": "iifname" } });
    let wanted = json!([{ "match": { "left": left, "op": "==", "right": words } }]);
    let text = document(&[rule(&wanted)]).unwrap().to_string();
    assert!(text.contains("iifname { \"eth*\", \"lo\", \"veth\\*\" }"), "{text}");
    let named = set(&json!({ "type": "ifname", "elem": ["eth*"] }));
    refused(&[named], "a range or prefix in a set without the flag interval");
}

#[test]
fn values_of_another_type_are_refused() {
    let compare = |protocol: &str, field: &str, op: &str, right: Value| {
        let left = json!({ "payload": { "protocol": protocol, "field": field } });
        rule(&json!([{ "match": { "left": left, "op": op, "right": right } }]))
    };
    refused(&[compare("tcp", "dport", "==", json!(65_536))], "65536 does not fit into 2 octets");
    refused(
        &[compare("tcp", "dport", "==", json!("no-such-service"))],
        "is not a port or a service known here",
    );
    refused(
        &[compare("ip", "saddr", "==", json!("fd00::1"))],
        "\"fd00::1\" is not an IPv4 address",
    );
    refused(
        &[compare("ip", "saddr", "==", json!({ "prefix": { "addr": "10.0.0.0", "len": 33 } }))],
        "a prefix of 33 bits",
    );
    refused(
        &[compare("ip", "saddr", "==", json!({ "range": ["10.0.0.2", "10.0.0.1"] }))],
        "end is before its beginning",
    );
    refused(&[compare("ip", "dscp", "==", json!(64))], "64 does not fit into 6 bits");
    refused(
        &[compare("ip", "nothing", "==", json!(1))],
        "the header field ip nothing is not supported",
    );
    refused(&[compare("tcp", "dport", "<", json!({ "set": [1] }))], "a set compared by order");
    refused(&[compare("tcp", "dport", "==", json!({ "set": [] }))], "an empty set");
    refused(
        &[compare("tcp", "dport", "==", json!([1, 2]))],
        "a list where a single value is wanted",
    );
    let both = json!([
        { "match": { "left": { "payload": { "protocol": "ip", "field": "saddr" } }, "op": "==", "right": "10.0.0.1" } },
        { "match": { "left": { "payload": { "protocol": "ip6", "field": "saddr" } }, "op": "==", "right": "fd00::1" } },
    ]);
    refused(&[rule(&both)], "statement 2 (match): IPv4 and IPv6 in one rule");
}

#[test]
fn sets_whose_elements_do_not_fit_are_refused() {
    refused(
        &[set(&json!({ "elem": [{ "range": [1, 2] }] }))],
        "a range or prefix in a set without the flag interval",
    );
    let interval = |elements: Value| set(&json!({ "flags": ["interval"], "elem": elements }));
    refused(
        &[interval(json!([{ "range": [1, 5] }, { "range": [5, 9] }]))],
        "object 3 (set inet t s): intervals that overlap",
    );
    let more = json!({ "add": { "element": { "family": "inet", "table": "t", "name": "s", "elem": [3] } } });
    refused(
        &[interval(json!([{ "range": [1, 5] }])), more],
        "object 4 (element inet t s): intervals that overlap",
    );
    refused(&[set(&json!({ "map": "mark" }))], "map is not understood");
    refused(&[set(&json!({ "type": "cgroupsv2" }))], "object 3 (set inet t s)");
    refused(
        &[set(&json!({})), set(&json!({}))],
        "object 4 (set inet t s): a set or map of this name was defined before",
    );
    let map = json!({ "map": { "family": "inet", "table": "t", "name": "m", "type": "mark", "map": "mark", "elem": [1] } });
    refused(&[map], "a number where a pair of key and value is wanted");
}

#[test]
fn chains_that_are_half_base_chains_are_refused() {
    let chain = |more: &[(&str, Value)]| {
        let mut chain = json!({ "family": "inet", "table": "t", "name": "d" });
        for (key, value) in more {
            chain[key] = value.clone();
        }
        json!({ "chain": chain })
    };
    refused(&[chain(&[("hook", json!("input"))])], "a base chain needs type, hook and prio");
    refused(&[chain(&[("policy", json!("drop"))])], "a base chain needs type, hook and prio");
    let base = [("type", json!("filter")), ("hook", json!("egress")), ("prio", json!(0))];
    refused(&[chain(&base)], "the family has no such hook");
}

#[test]
fn text_that_is_no_document_is_refused() {
    for (text, why) in [
        ("", "not JSON"),
        ("table ip x { }", "not JSON"),
        ("{}", "no list"),
        ("{\"nftables\": 1}", "no list"),
        ("[1]", "object 1 (of no known kind)"),
        ("[{}]", "object 1"),
        ("[{\"add\": {}}]", "add of nothing"),
        ("[{\"add\": {\"table\": {}}}]", "object 1 (table ? ?): missing field `family`"),
    ] {
        let error = compile(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    assert_eq!(compile("[]").unwrap(), Ruleset::default());
}

#[test]
fn neighbours_become_one_interval_in_a_rules_own_set_only() {
    let left = json!({ "payload": { "protocol": "tcp", "field": "dport" } });
    let right =
        json!({ "set": [{ "range": [10, 20] }, { "range": [21, 30] }, { "range": [15, 25] }] });
    let own =
        document(&[rule(&json!([{ "match": { "left": left, "op": "==", "right": right } }]))])
            .unwrap();
    assert_eq!(own.tables[0].sets[0].elements.len(), 3);
    let named = document(&[set(
        &json!({ "flags": ["interval"], "elem": [{ "range": [0, 20] }, { "range": [21, 65_535] }] }),
    )]);
    let keys: Vec<(Vec<u8>, u32)> = named.unwrap().tables[0].sets[0]
        .elements
        .iter()
        .map(|e| (e.key.clone(), e.flags))
        .collect();
    assert_eq!(keys, [(vec![0, 0], 0), (vec![0, 21], 1), (vec![0, 21], 0)]);
}

proptest! {
    #[test]
    fn no_document_makes_it_panic(
        family in prop::sample::select(vec!["ip", "ip6", "inet", "arp", "bridge", "netdev"]),
        protocol in prop::sample::select(vec!["ip", "ip6", "tcp", "icmp", "icmpv6", "ether", "arp", "th", "udp"]),
        field in prop::sample::select(vec!["saddr", "daddr", "dport", "type", "flags", "dscp", "saddr ip", "flowlabel", "version"]),
        op in prop::sample::select(vec!["==", "!=", "<", ">", "<=", ">=", "in", "&"]),
        value in prop_oneof![
            any::<u32>().prop_map(Value::from), "[a-z0-9.:*@]{0,12}".prop_map(Value::from), any::<bool>().prop_map(Value::from),
            (any::<u16>(), any::<u16>()).prop_map(|(a, b)| json!({ "range": [a, b] })),
            (any::<u16>(), any::<u32>()).prop_map(|(a, b)| json!({ "prefix": { "addr": a, "len": b } })),
            prop::collection::vec(any::<u16>(), 0..5).prop_map(|a| json!({ "set": a })),
        ],
    ) {
        let left = json!({ "payload": { "protocol": protocol, "field": field } });
        let document = json!([
            { "table": { "family": family, "name": "t" } },
            { "chain": { "family": family, "table": "t", "name": "c" } },
            { "rule": { "family": family, "table": "t", "chain": "c",
                "expr": [{ "match": { "left": left, "op": op, "right": value } }] } },
        ]);
        let _ = compile(&document.to_string());
    }
}
