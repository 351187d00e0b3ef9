//! The flags of `nft list`, and what is read for an answer: no more than it shows.

use std::process::{Command, Output};

use crate::support::{self, Netns};
use berth::nft::dump::{Elements, Filter, Rules};
use berth::nft::{Family, Ruleset};
use berth::sys::netlink::Firewall;

/// Something for each flag to change, and its neighbours, which it must not.
const RULES: &str = r#"
table inet t {
    set ports { type inet_service; elements = { 22, 80, 4711 } }
    set users { typeof meta skuid; elements = { 0, 1, 54321 } }
    set seen { type ipv4_addr; flags dynamic,timeout; timeout 90s; }
    set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
    set pairs { type inet_proto . inet_service; elements = { tcp . 22, udp . 53 } }
    map verdicts { type inet_service : verdict; elements = { 22 : accept } }
    map names { type ipv4_addr : inet_service; elements = { 10.0.0.1 : 80 } }
    counter hits { packets 3 bytes 180 }
    ct timeout slow { protocol tcp; l3proto ip; policy = { established : 90 }; }
    chain sub { tcp dport { 25, 465 } accept; }
    chain c {
        type filter hook input priority 0; policy accept;
        tcp dport 22 counter packets 3 bytes 99 accept
        tcp dport { 22, 80, 4711 } accept
        udp dport 53-67 accept
        th dport 53 accept
        tcp dport != 22-25 tcp sport vmap { 22 : accept, 80 : jump sub }
        tcp dport @ports accept
        tcp dport vmap @verdicts
        meta skuid 0 accept
        meta skgid { 0, 1 } accept
        meta skuid 0-1 accept
        meta l4proto tcp accept
        meta l4proto { tcp, udp } accept
        meta l4proto 6-17 accept
        ip protocol icmp accept
        ct state established,related accept
        ct protocol udp accept
        ct state { new, established } accept
        ct status dnat,snat accept
        tcp flags syn accept
        tcp flags & (syn | ack) == syn accept
        tcp flags { syn, ack } accept
        tcp flags & (fin | syn | rst) == (syn | rst) accept
        ct state vmap { new : accept, invalid : drop }
        ct label 3 accept
        ct event set new,destroy
        icmp type echo-request accept
        ip saddr 127.0.0.1 accept
        update @seen { ip saddr timeout 2m }
        ct expiration 2m accept
        meta hour "10:00"-"11:00" accept
        meta day "Monday" accept
        meta mark set tcp dport map { 22 : 1, 80 : 2 }
        ip saddr . tcp dport { 10.0.0.1 . 22, 10.0.0.2 . 4711 } accept
    }
    chain pre { type nat hook prerouting priority dstnat + 5; meta l4proto tcp redirect to :22; meta l4proto udp dnat ip to 10.0.0.1:80-443; }
    chain post { type nat hook postrouting priority 99; meta l4proto udp masquerade to :53; }
}
table netdev n { chain in { type filter hook ingress device "lo" priority 10; }; }
table bridge b { chain f { type filter hook forward priority -195; ether saddr 02:00:00:00:00:01 accept; }; }
"#;

fn loaded() -> Netns {
    with_rules(RULES)
}

fn with_rules(rules: &str) -> Netns {
    let netns = Netns::new("flags");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    netns.nft(&format!("-f {}", file.path().display()));
    netns
}

fn run(netns: &Netns, words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(["nft", "list", "--netns", &netns.path()]).args(words.split_whitespace());
    command.output().unwrap()
}

fn berth(netns: &Netns, words: &str) -> String {
    let output = run(netns, words);
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
    String::from_utf8(output.stdout).unwrap()
}

/// The first difference, an object a line. nft leaves out of JSON which device a chain has.
fn same(wanted: &str, found: &str, what: &str) {
    let ingress = r#""hook": "ingress", "prio": 10,"#;
    let wanted = &wanted.replace(ingress, &format!(r#"{ingress} "dev": "lo","#));
    let lines = |text: &str| {
        text.replace("}, {\"", "},\n{\"").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (wanted, found) in lines(wanted).into_iter().zip(lines(found)) {
        assert_eq!(found, wanted, "{what}");
    }
    assert_eq!(found.len(), wanted.len(), "{what}");
}

#[test]
fn each_flag_changes_what_it_changes_in_nft() {
    let netns = loaded();
    let plain = [netns.nft("list ruleset"), netns.nft("-j list ruleset")];
    for (flags, changes) in [
        ("-t", [true, true]),
        ("-y", [true, false]),
        ("-p", [true, true]),
        ("-T", [true, false]),
        ("-S", [true, true]),
        ("-u", [true, true]),
        ("-n", [true, true]),
        ("-nn", [true, true]),
        ("-e", [false, false]),
        ("-n -S", [true, true]),
        ("-n -u -t", [true, true]),
        ("-a -y -p -T -S -u -t", [true, true]),
        (
            "--terse --numeric-priority --numeric-protocol --numeric-time --service --guid",
            [true, true],
        ),
    ] {
        for (json, (plain, changes)) in ["", "-j"].into_iter().zip(plain.iter().zip(changes)) {
            let nft = netns.nft(&format!("{flags} {json} list ruleset"));
            same(&nft, &berth(&netns, &format!("{flags} {json}")), &format!("{flags} {json}"));
            assert_eq!(
                nft != *plain,
                changes,
                "{flags} {json}: the rules of this test do not show it"
            );
        }
    }
}

#[test]
fn each_flag_holds_for_every_listing() {
    let netns = loaded();
    for what in [
        "tables",
        "chains",
        "sets",
        "maps",
        "meters",
        "counters",
        "table inet t",
        "chain inet t c",
        "chain inet t pre",
        "set inet t ports",
        "map inet t names",
        "set inet t users",
        "ruleset inet",
    ] {
        for flags in ["-t", "-y", "-p", "-S", "-u", "-n", "-s -t -a", "-j -t", "-j -S"] {
            let nft = netns.nft(&format!("{flags} list {what}"));
            same(&nft, &berth(&netns, &format!("{flags} {what}")), &format!("{flags} list {what}"));
        }
    }
}

/// What stands at the head of a table has a line of its own before the rest, and what a rule fills is called a meter.
#[test]
fn heads_of_tables_and_meters_are_as_nft_has_them() {
    let rules = "table ip bare {\n flags dormant\n}\n\
        table ip y {\n flags dormant\n counter c {\n }\n set s {\n type ipv4_addr\n }\n chain a {\n }\n}\n\
        table ip z {\n comment \"no flags\"\n chain a {\n }\n}\n\
        table inet t {\n flags dormant\n comment \"both\"\n chain a {\n type filter hook input priority 0\n \
        tcp dport 22 meter m size 10 { ip saddr limit rate 5/second } drop\n }\n}\n";
    let netns = with_rules(rules);
    for what in [
        "ruleset",
        "table ip bare",
        "table inet t",
        "chain inet t a",
        "meters",
        "meter inet t m",
        "sets",
    ] {
        for flags in ["", "-a", "-t", "-s"] {
            let nft = netns.nft(&format!("{flags} list {what}"));
            same(&nft, &berth(&netns, &format!("{flags} {what}")), &format!("{flags} list {what}"));
        }
    }
    for what in ["meters", "meter inet t m"] {
        same(&netns.nft(&format!("-j list {what}")), &berth(&netns, &format!("-j {what}")), what);
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let netns = loaded();
    for (words, wanted) in [
        ("-N", "-N, --reversedns: a name server would be asked"),
        ("--reversedns", "-N, --reversedns: a name server would be asked"),
        ("-i", "-i, --interactive: "),
        ("-j hooks", "list hooks: nft has no JSON"),
        ("hooks nonsense", "allowed: ip, ip6, inet, arp, bridge or netdev"),
        ("hooks ip lo", "allowed: hooks [FAMILY] [device NAME]"),
    ] {
        let output = run(&netns, words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(10) && said.contains(wanted), "{words}: {said}");
        assert!(output.stdout.is_empty(), "{words}");
    }
    let output = run(&netns, "hooks device nosuch");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(11) && said.contains("no interface nosuch here; there are lo"),
        "{said}"
    );
}

/// On a kernel that tells who sits on its hooks, what nft says; on any other, once, that it does not.
#[test]
fn hooks_are_told_or_why_they_are_not() {
    let netns = loaded();
    for words in [
        "hooks",
        "hooks ip",
        "hooks ip device lo",
        "hooks netdev device lo",
        "hooks inet",
        "hooks arp",
    ] {
        let output = run(&netns, words);
        let (said, told) =
            (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        if output.status.success() {
            let known = words.contains("arp") || told.contains("[nf_tables]");
            assert!(known && said.is_empty(), "{words}: {told}{said}");
        } else {
            let wanted = "this kernel has no nfnetlink_hook (CONFIG_NETFILTER_NETLINK_HOOK), which `list hooks` needs";
            assert!(output.status.code() == Some(17) && said.contains(wanted), "{words}: {said}");
            assert_eq!((said.lines().count(), told.as_ref()), (1, ""), "{words}: {said}");
        }
    }
}

/// `list tables` of a firewall with a million addresses reads none of them.
#[test]
fn elements_that_are_not_shown_are_not_read() {
    let netns = loaded();
    let found = |filter: Filter| -> Ruleset {
        netns.enter(async move || Firewall::start().unwrap().dump(filter).await.unwrap().1)
    };
    let counts = |filter: Filter| {
        let ruleset = found(filter);
        let tables = || ruleset.tables.iter();
        let sets = || tables().flat_map(|table| &table.sets);
        let elements = |anonymous| {
            let some = sets().filter(move |set| set.is_anonymous() == anonymous);
            some.map(|set| set.elements.len()).sum::<usize>()
        };
        let rules: usize =
            tables().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
        (rules, elements(false), elements(true))
    };
    let only = |rules, elements| Filter { rules, elements, ..Filter::default() };
    let (rules, named, anonymous) = counts(Filter::default());
    assert!(rules > 25 && named > 8 && anonymous > 10, "{rules} {named} {anonymous}");
    assert_eq!(counts(only(Rules::None, Elements::None)), (0, 0, 0));
    assert_eq!(counts(only(Rules::All, Elements::InRules)), (rules, 0, anonymous));
    let chain = Filter {
        rules: Rules::Chain("sub".into()),
        elements: Elements::InRules,
        ..Filter::table(Family::INET, "t")
    };
    assert_eq!(counts(chain), (1, 0, 2));
    let one =
        Filter { rules: Rules::None, elements: Elements::Of("ports".into()), ..Filter::default() };
    assert_eq!(counts(one), (0, 3, 0));
    assert_eq!(counts(only(Rules::None, Elements::Maps)), (0, 2, 0));
}

/// Address space that does for listings without a large set's elements does not for those with them.
#[test]
fn a_listing_without_elements_takes_no_memory_for_them() {
    let netns = Netns::new("many");
    let addresses: Vec<String> =
        (0..200_000_u32).map(|n| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)).collect();
    let script = format!(
        "table inet geo {{\n set s {{ type ipv4_addr; elements = {{ {} }}; }}\n chain c {{ ip saddr @s tcp dport {{ 22, 80 }} drop; }}\n}}\n",
        addresses.join(", ")
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    netns.nft(&format!("-f {}", file.path().display()));
    for (words, modest) in [
        ("tables", true),
        ("chains", true),
        ("chain inet geo c", true),
        ("-t ruleset", true),
        ("-t sets", true),
        ("-t -j table inet geo", true),
        ("counters", true),
        ("set inet geo s", false),
        ("ruleset", false),
    ] {
        let peak = peak_kib(&netns, words);
        assert_eq!(peak < 40_000, modest, "list {words}: {peak} KiB");
    }
}

/// The most memory a listing had, in KiB: what the shell's `time` would say.
fn peak_kib(netns: &Netns, words: &str) -> u64 {
    let script = "import resource, subprocess, sys\n\
        subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut command = Command::new("python3");
    command.args([
        "-c",
        script,
        env!("CARGO_BIN_EXE_berth"),
        "nft",
        "list",
        "--netns",
        &netns.path(),
    ]);
    support::checked(command.args(words.split_whitespace())).trim().parse().unwrap()
}
