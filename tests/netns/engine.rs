//! The engine on a real kernel: what a replacement leaves alone, and what a refusal says.

use crate::support::site::{block_on, firewall, plan, rich_plan};
use crate::support::{Netns, collection};
use berth::nft::dump::Filter;
use berth::nft::{
    Chain, Data, DataType, Element, Expr, Family, Handle, Object, ObjectKind, Rule, Ruleset, Set,
    Table, Userdata, Verdict, set,
};
use berth::sys::netlink::{Error, Firewall};

/// The tables of an nft script, as the kernel has them.
fn compiled(script: &str) -> Ruleset {
    let scratch = Netns::new("scratch");
    load(&scratch, script);
    block_on(firewall(&scratch).dump(Filter::default())).unwrap().1
}

fn load(netns: &Netns, script: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    netns.nft(&format!("-f {}", file.path().display()));
}

fn commit(firewall: &Firewall, wanted: &Ruleset) {
    block_on(firewall.commit(wanted.clone())).unwrap();
}

/// The lines of a listing with handles that hold `word`.
fn lines(netns: &Netns, word: &str) -> Vec<String> {
    let listing = netns.nft("-a list ruleset");
    listing.lines().filter(|line| line.contains(word)).map(|line| line.trim().to_owned()).collect()
}

const COUNTING: &str = r#"
table inet t {
    counter hits { comment "all pings"; }
    quota most { 1000 kbytes }
    set kept { type ipv4_addr; flags interval; counter; elements = { 127.0.0.0/8, 10.0.0.0/8 } }
    set swapped { type inet_service; elements = { 22, 80 } }
    map kept_verdicts { type inet_service : verdict; elements = { 22 : jump sub, 80 : drop } }
    chain sub { counter return comment "in the map"; }
    chain in {
        type filter hook input priority 0; policy accept;
        icmp type echo-request counter name "hits" counter comment "one"
        icmp type { echo-request, echo-reply } counter comment "two"
        ip saddr @kept quota name "most"
        ip saddr @kept quota 2000 kbytes
        tcp dport @swapped counter comment "ports"
        tcp dport vmap @kept_verdicts
    }
}
"#;

/// Three pings to itself: three requests and three replies come in.
fn ping(netns: &Netns) {
    netns.run("ping -q -c3 -i0.01 127.0.0.1");
}

#[test]
fn a_replacement_leaves_hooks_sets_and_counters_alone() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    commit(&firewall, &compiled(COUNTING));
    let kept =
        ["table inet", "chain ", "counter hits", "quota most", "set kept ", "map kept_verdicts"];
    let before: Vec<_> = kept.iter().map(|word| lines(&pod, word)).collect();
    ping(&pod);

    let changed =
        COUNTING.replace("22, 80 }", "22, 443 }").replace("icmp type {", "counter\nicmp type {");
    commit(&firewall, &compiled(&changed));

    let after: Vec<_> = kept.iter().map(|word| lines(&pod, word)).collect();
    assert_eq!(before, after, "handles");
    let listing = pod.nft("list ruleset");
    assert!(listing.contains("443"), "{listing}");
    assert!(listing.contains("packets 3 bytes 252\n"), "the named counter began anew:\n{listing}");
    assert!(listing.contains("counter packets 3 bytes 252 comment \"one\""), "{listing}");
    assert!(listing.contains("counter packets 6 bytes 504 comment \"two\""), "{listing}");
    assert!(listing.contains("127.0.0.0/8 counter packets 12 bytes 1008"), "{listing}");
    assert_eq!(listing.matches("used 504 bytes").count(), 2, "{listing}");
    assert!(
        listing.contains("\t\tcounter packets 0 bytes 0\n"),
        "the rule that is new:\n{listing}"
    );

    // And it counts on from there.
    ping(&pod);
    let listing = pod.nft("list ruleset");
    assert!(listing.contains("counter packets 6 bytes 504 comment \"one\""), "{listing}");
    assert!(listing.contains("\t\tcounter packets 6 bytes 504\n"), "{listing}");
}

/// A change in the middle touches nothing else: the handles of all other rules stay.
#[test]
fn rules_that_are_as_wanted_stay_where_they_are() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let script = |middle: &str| {
        compiled(&format!(
            "table ip t {{\nset named {{ type inet_service; elements = {{ 1 }}; }}\nchain c {{
                tcp dport {{ 1, 2 }} accept\ncounter\n{middle}\nudp dport {{ 3, 4 }} drop\ntcp dport @named drop\n}}\n}}"
        ))
    };
    let handles = || lines(&pod, "# handle");
    commit(&firewall, &script("ip saddr 10.0.0.1 drop"));
    let before = handles();
    commit(&firewall, &script("ip saddr { 10.0.0.1, 10.0.0.2 } drop\nlog"));
    let after = handles();
    let (gone, new): (Vec<_>, Vec<_>) = (
        before.iter().filter(|line| !after.contains(line)).collect(),
        after.iter().filter(|line| !before.contains(line)).collect(),
    );
    assert_eq!((gone.len(), new.len()), (1, 2), "{before:#?}\n{after:#?}");
    assert_eq!(after[5..7].iter().collect::<Vec<_>>(), new, "in their place");
    commit(&firewall, &script(""));
    assert_eq!(handles().len(), after.len() - 2);
    let whole = handles();

    pod.nft("insert rule ip t c accept");
    commit(&firewall, &script(""));
    assert_eq!(handles(), whole);

    // Only what uses the set has to go with it.
    pod.nft("add element ip t named { 9 }");
    commit(&firewall, &script(""));
    let stay = handles().iter().filter(|line| whole.contains(line)).count();
    assert_eq!((handles().len(), stay), (whole.len(), whole.len() - 2));
}

#[test]
fn a_chain_that_moves_makes_the_table_anew_and_the_counts_go_with_it() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    commit(&firewall, &compiled(COUNTING));
    let before = lines(&pod, "table inet");
    ping(&pod);
    commit(&firewall, &compiled(&COUNTING.replace("priority 0", "priority 5")));
    assert_ne!(lines(&pod, "table inet"), before, "this is the other way: it proves nothing");
    let listing = pod.nft("list ruleset");
    assert!(listing.contains("priority filter + 5"), "{listing}");
    assert!(listing.contains("packets 3 bytes 252\n"), "{listing}");
    assert!(listing.contains("counter packets 3 bytes 252 comment \"one\""), "{listing}");
    assert!(listing.contains("counter packets 6 bytes 504 comment \"two\""), "{listing}");
    assert!(listing.contains("127.0.0.0/8 counter packets 12 bytes 1008"), "{listing}");
    assert_eq!(listing.matches("used 504 bytes").count(), 2, "{listing}");
}

#[test]
fn a_rule_that_changed_begins_at_zero_and_equal_rules_keep_their_own_counts() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let script = |first: &str, last: &str| {
        compiled(&format!(
            "table ip t {{ chain in {{ type filter hook input priority 0;
                icmp type echo-request counter comment \"{first}\"
                counter\nicmp type echo-request accept\ncounter\n{last}\n}}\n}}"
        ))
    };
    commit(&firewall, &script("old", ""));
    ping(&pod);
    commit(&firewall, &script("new", "accept"));
    let counters: Vec<_> = lines(&pod, "counter")
        .iter()
        .map(|line| line.split(" # ").next().unwrap().to_owned())
        .collect();
    let wanted = [
        "icmp type echo-request counter packets 0 bytes 0 comment \"new\"",
        "counter packets 6 bytes 504",
        "counter packets 3 bytes 252",
    ];
    assert_eq!(counters, wanted);
}

#[test]
fn a_healed_table_keeps_what_its_own_rules_counted() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let ours = compiled(COUNTING);
    commit(&firewall, &ours);
    ping(&pod);
    for spoil in [
        "insert rule inet t in drop",
        "add element inet t swapped { 9 }",
        "delete element inet t kept { 10.0.0.0/8 }",
    ] {
        pod.nft(spoil);
        commit(&firewall, &ours);
        let listing = pod.nft("list ruleset");
        assert!(
            listing.contains("counter packets 6 bytes 504 comment \"two\""),
            "{spoil}:\n{listing}"
        );
        assert!(
            listing.contains("127.0.0.0/8 counter packets 12 bytes 1008"),
            "{spoil}:\n{listing}"
        );
        assert!(!listing.contains("\t\tdrop\n") && !listing.contains(" 9,"), "{spoil}:\n{listing}");
    }
}

/// From every variant to every other: chains, maps that name them, objects, maps of objects, policies, comments.
#[test]
fn any_table_becomes_any_other() {
    let inside = [
        "",
        "chain in { type filter hook input priority 0; policy drop; counter; }",
        "chain in { type filter hook input priority 0; policy accept; jump sub; }\nchain sub { jump deep; }\nchain deep { }",
        "chain in { type filter hook input priority 0; tcp dport vmap @v; }\nchain a { }\nchain b { }
         map v { type inet_service : verdict; elements = { 1 : jump a, 2 : goto b }; }",
        "chain in { type filter hook input priority 0; tcp dport vmap @v; }\nchain a { }
         map v { type inet_service : verdict; elements = { 1 : jump a, 2 : goto a }; }",
        "map v { type inet_service : verdict; elements = { 1 : accept }; }",
        "counter c { }\ncounter d { }\nmap o { type inet_service : counter; elements = { 1 : \"c\", 2 : \"d\" }; }
         chain in { type filter hook input priority 0; counter name tcp dport map @o; }",
        "counter c { }\nlimit l { rate 1/second }\nmap o { type inet_service : counter; elements = { 1 : \"c\" }; }
         chain in { type filter hook input priority 0; counter name tcp dport map @o; limit name \"l\"; }",
        "limit l { rate 2/second }\nchain in { comment \"x\"; type filter hook input priority 0; limit name \"l\"; }",
        "set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.0-11.0.0.9 } }
         chain in { type filter hook input priority 7; ip saddr @s accept; ip daddr { 1.2.3.4, 5.6.7.8 } drop; }",
        "set s { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 1-5 } }
         chain in { type filter hook input priority 7; ip saddr . tcp dport @s accept; }",
        "set s { type ipv4_addr; size 9; flags dynamic,timeout; timeout 1m; }
         chain in { type filter hook output priority 7; update @s { ip saddr } accept; }",
    ];
    let variants = inside.map(|text| compiled(&format!("table inet t {{\n{text}\n}}")));
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    for (from, first) in variants.iter().enumerate() {
        for (to, second) in variants.iter().enumerate() {
            commit(&firewall, first);
            if let Err(error) = block_on(firewall.commit(second.clone())) {
                panic!("{from} to {to}: {error}: {:?}", std::error::Error::source(&error));
            }
            let found = block_on(firewall.dump(Filter::default())).unwrap().1;
            assert_eq!(found.canonical(), second.canonical(), "{from} to {to}:\n{found}");
            assert!(!pod.nft("list ruleset").is_empty());
        }
    }
}

/// Every rule there is a listing test of, committed by us where it was loaded by nft.
#[test]
fn what_nft_loads_is_the_same_when_we_commit_it() {
    for collection in collection::collections() {
        let wanted = compiled(&collection::script(&collection).0);
        let pod = Netns::new("pod");
        let firewall = firewall(&pod);
        if let Err(error) = block_on(firewall.commit(wanted.clone())) {
            panic!("{}: {error}: {:?}", collection.display(), std::error::Error::source(&error));
        }
        let found = block_on(firewall.dump(Filter::default())).unwrap().1;
        let (wanted, found) = (wanted.canonical(), found.canonical());
        for (wanted, found) in wanted.tables.iter().zip(&found.tables) {
            let rules = |table: &Table| {
                table.chains.iter().flat_map(|chain| chain.rules.clone()).collect::<Vec<_>>()
            };
            for (wanted_rule, found_rule) in rules(wanted).iter().zip(&rules(found)) {
                assert_eq!(wanted_rule, found_rule, "{}", wanted.rule_text(wanted_rule));
            }
        }
        assert_eq!(found, wanted, "{}", collection.display());
    }
}

/// Chains without a name live with the rule that goes there.
#[test]
fn chains_inside_rules_are_made_again() {
    let script = "table inet t { chain in { type filter hook input priority 0; tcp dport 22 jump { counter; \
                  ip saddr 10.0.0.1 drop; accept; }; udp dport 53 jump { drop; }; }; }";
    let wanted = compiled(script);
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    for _ in 0..2 {
        if let Err(error) = block_on(firewall.commit(wanted.clone())) {
            panic!("{error}: {:?}", std::error::Error::source(&error));
        }
        let found = block_on(firewall.dump(Filter::default())).unwrap().1;
        assert_eq!(found.canonical(), wanted.canonical(), "{found}");
        pod.nft("insert rule inet t in accept");
    }
}

/// Large enough to be asked for chain by chain over two sockets: every rule once, in its place, with its set.
#[test]
fn a_large_ruleset_is_found_whole() {
    let mut script = String::new();
    for table in ["ip t", "inet t", "inet empty"] {
        script.push_str(&format!("table {table} {{\nchain none {{ }}\n"));
        for chain in 0..if table == "inet empty" { 0 } else { 9 } {
            script.push_str(&format!("chain c{chain} {{\n"));
            for rule in 0..50 + 20 * chain {
                let set = if rule % 7 == 0 {
                    format!("{{ {rule}, {} }}", rule + 1000)
                } else {
                    (rule + 1).to_string()
                };
                script.push_str(&format!("tcp dport {set} counter accept\n"));
            }
            script.push_str("}\n");
        }
        script.push_str("}\n");
    }
    let pod = Netns::new("pod");
    load(&pod, &script);
    let firewall = firewall(&pod);
    for _ in 0..3 {
        let found = block_on(firewall.dump(Filter::default())).unwrap().1;
        assert!(
            found.to_string() == pod.nft("list ruleset"),
            "{} and nft differ",
            found.tables.len()
        );
        let found = block_on(firewall.dump(Filter::table(Family::IP, "t"))).unwrap().1;
        assert_eq!(found.to_string(), pod.nft("list table ip t"));
    }
}

#[test]
fn what_packets_put_into_a_set_is_no_difference_and_stays() {
    let script = "table ip t {\nset seen { type ipv4_addr; size 99; flags dynamic; }
        chain in {\ntype filter hook input priority 0\nadd @seen { ip saddr counter }\nADDED\n}\n}";
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let wanted = compiled(&script.replace("ADDED", ""));
    commit(&firewall, &wanted);
    ping(&pod);
    let before = pod.nft("-a list ruleset");
    assert!(before.contains("127.0.0.1 counter packets 6"), "{before}");
    commit(&firewall, &wanted);
    assert_eq!(pod.nft("-a list ruleset"), before);
    commit(&firewall, &compiled(&script.replace("ADDED", "accept")));
    assert!(pod.nft("list ruleset").contains("127.0.0.1 counter packets 6"));
}

#[test]
fn our_own_table_is_replaced_in_place() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    commit(&firewall, &plan(&[], &[]));
    let before = (lines(&pod, "table "), lines(&pod, "chain "));
    commit(&firewall, &rich_plan());
    assert_eq!((lines(&pod, "table "), lines(&pod, "chain ")), before);
    assert_eq!(
        block_on(firewall.dump(Filter::default())).unwrap().1.canonical(),
        rich_plan().canonical()
    );
}

fn table(chains: Vec<Chain>, sets: Vec<Set>, objects: Vec<Object>) -> Ruleset {
    let userdata = Userdata::default();
    Ruleset {
        tables: vec![Table {
            family: Family::INET,
            name: "t".to_owned(),
            handle: Handle::default(),
            flags: 0,
            userdata,
            sets,
            flowtables: Vec::new(),
            objects,
            chains,
        }],
    }
}

fn chain(rules: Vec<Rule>) -> Chain {
    Chain {
        name: "c".to_owned(),
        handle: Handle::default(),
        hook: None,
        flags: 0,
        userdata: Userdata::default(),
        rules,
    }
}

fn ports(name: &str, elements: Vec<Element>) -> Set {
    Set {
        name: name.to_owned(),
        key_type: set::INET_SERVICE,
        key_len: 2,
        elements,
        ..Set::default()
    }
}

/// What a commit of `bad` is refused with: the words, and the kernel's number. Nothing may be left behind.
fn refused(bad: Ruleset) -> (String, Option<i32>) {
    let pod = Netns::new("pod");
    let error = block_on(firewall(&pod).commit(bad)).unwrap_err();
    assert_eq!(pod.nft("list ruleset"), "");
    let Error::Refused { source, .. } = &error else { panic!("{error}") };
    (error.to_string(), source.raw_os_error())
}

#[test]
fn an_element_that_jumps_nowhere_is_named() {
    let goes = |port: u16, verdict| Element {
        key: port.to_be_bytes().to_vec(),
        data: Some(Data::Verdict(verdict)),
        ..Element::default()
    };
    let elements = vec![goes(22, Verdict::Accept), goes(80, Verdict::Jump("nowhere".to_owned()))];
    let mut map = ports("verdicts", elements);
    (map.flags, map.data) = (set::MAP, Some(DataType::Verdict));
    let (text, number) = refused(table(Vec::new(), vec![map.clone()], Vec::new()));
    assert_eq!(
        text,
        "the kernel refuses element 80 : jump nowhere of map verdicts of table inet t"
    );
    assert_eq!(number, Some(libc::ENOENT));

    map.flags |= set::ANONYMOUS | set::CONSTANT;
    let exprs = vec![
        Expr::Meta { key: berth::nft::expr::meta::L4PROTO, dreg: 1 },
        Expr::Cmp { sreg: 1, op: berth::nft::expr::CmpOp::Eq, data: vec![6] },
        Expr::Payload { base: 2, offset: 2, len: 2, dreg: 1 },
        Expr::Lookup { set: "verdicts".to_owned(), sreg: 1, dreg: Some(0), inverted: false },
    ];
    let chains = vec![chain(vec![Rule::new(exprs, "by port")])];
    let (text, _) = refused(table(chains, vec![map], Vec::new()));
    assert!(
        text.starts_with(
            "the kernel refuses element 80 : jump nowhere of the map of rule `tcp dport vmap {"
        ),
        "{text}"
    );
    assert!(text.ends_with("comment \"by port\"` in chain inet t c"), "{text}");
}

#[test]
fn a_set_whose_keys_are_too_long_is_named() {
    let mut bad = ports("wide", Vec::new());
    bad.key_len = 65;
    let (text, number) = refused(table(Vec::new(), vec![bad], Vec::new()));
    assert!(text.starts_with("the kernel refuses set wide of table inet t"), "{text}");
    assert_eq!(number, Some(libc::EINVAL));
}

#[test]
fn a_key_of_another_length_than_the_sets_is_named() {
    let element = |key: &[u8]| Element { key: key.to_vec(), ..Element::default() };
    let bad = ports("ports", vec![element(&[0, 22]), element(&[0, 0, 0, 80])]);
    let (text, number) = refused(table(Vec::new(), vec![bad], Vec::new()));
    assert!(
        text.starts_with("the kernel refuses element ")
            && text.ends_with(" of set ports of table inet t"),
        "{text}"
    );
    assert_eq!(number, Some(libc::EINVAL));
}

#[test]
fn a_comment_too_long_for_the_kernel_is_named() {
    let long = Userdata([vec![0, 255], vec![b'x'; 300]].concat());
    let rule = Rule { exprs: vec![Expr::counter()], userdata: long.clone(), ..Rule::default() };
    let (text, number) = refused(table(vec![chain(vec![rule])], Vec::new(), Vec::new()));
    assert!(
        text.contains("in chain inet t c: at its comment (Attribute failed policy validation)"),
        "{text}"
    );
    assert_eq!(number, Some(libc::ERANGE));

    let bad = Set { userdata: long, ..ports("ports", Vec::new()) };
    let (text, _) = refused(table(Vec::new(), vec![bad], Vec::new()));
    assert!(
        text.starts_with("the kernel refuses set ports of table inet t: at its comment"),
        "{text}"
    );
}

#[test]
fn an_element_that_names_no_object_is_named() {
    let names = |port: u16, object: &str| Element {
        key: port.to_be_bytes().to_vec(),
        object: Some(object.to_owned()),
        ..Element::default()
    };
    let mut map = ports("counters", vec![names(22, "there"), names(80, "absent")]);
    (map.flags, map.object) = (set::OBJECT, Some(1));
    let there = Object {
        name: "there".to_owned(),
        handle: Handle::default(),
        kind: ObjectKind::Counter { packets: 0, bytes: 0 },
        userdata: Userdata::default(),
    };
    let (text, number) = refused(table(Vec::new(), vec![map], vec![there]));
    assert_eq!(text, "the kernel refuses element 80 : \"absent\" of map counters of table inet t");
    assert_eq!(number, Some(libc::ENOENT));
}
