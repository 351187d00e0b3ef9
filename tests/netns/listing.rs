//! What `berth nft list` prints is what the system's `nft` prints, as text and as JSON, for rules of every family;
//! and what it prints can be loaded again.

use std::process::Command;

use crate::support::collection::{collections, directory, script};
use crate::support::{Netns, checked};

/// nft 1.0.6 shows these wrongly: a prefix of a connection's address without its family as an address; fields narrower than
/// an octet, where it moves them to the right by itself, as if the rule did so too.
const WRONG_IN_NFT: [&str; 4] = [
    "ct reply ip daddr 0.0.0.10",
    " >> 2 { 1.1.1.1 . ",
    "(@nh,8,8 & 0xfc) >> 2 & 0x38 == 0x8",
    // Without the ICMP that the rule is about.
    "th sport set th sport & ",
];

/// The same in JSON, and that it leaves out the devices of chains, which do not load without.
const WRONG_IN_JSON: [&str; 6] = [
    "{\"mangle\":{\"key\":{\"payload\":{\"protocol\":\"th\"",
    "\"0.0.0.10\"",
    "{\">>\":[{\"payload\":{\"protocol\":\"ip\",\"field\":\"dscp\"",
    "{\">>\":[{\"&\":[{\"payload\":{\"base\":\"nh\",\"offset\":8,\"len\":8}},252]},2]}",
    "\"hook\":\"ingress\"",
    "\"hook\":\"egress\"",
];

/// Extensions of x_tables that nft has words for and berth has none: rare ones, shown by name. (What nft says of TOS
/// is `ip6 dscp` in tables of IPv4, of ECN that both flags are inverted when one is; labels are named by a file.)
const BY_NAME_ONLY: [&str; 4] =
    ["xt match ecn", "xt match connlabel", "xt match cluster", "xt target TOS"];

fn load(netns: &Netns, script: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    netns.nft(&format!("-f {}", file.path().display()));
}

fn berth(netns: &Netns, words: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(["nft", "list", "--netns", &netns.path()]);
    checked(command.args(words.split_whitespace()))
}

/// Elements that time out, and when: time passes between two listings.
fn without_expiry(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    while let Some(at) = words.iter().position(|word| *word == "expires" || *word == "\"expires\":")
    {
        words.drain(at..at + 2);
    }
    words.join(" ")
}

/// The JSON of nft without the two things that it would not load as they were.
fn as_it_would_load(nft: &str) -> String {
    let moved = "{\">>\": [{\"payload\": {\"protocol\": \"ip\", \"field\": \"dscp\"}}, 2]}";
    let text = nft.replace(moved, "{\"payload\": {\"protocol\": \"ip\", \"field\": \"dscp\"}}");
    text.replace(
        "\"hook\": \"ingress\", \"prio\": 0,",
        "\"hook\": \"ingress\", \"prio\": 0, \"dev\": \"lo\",",
    )
    .replace(
        "\"hook\": \"ingress\", \"prio\": 5,",
        "\"hook\": \"ingress\", \"prio\": 5, \"dev\": \"lo\",",
    )
}

fn differences(wanted: &str, found: &str) -> Vec<String> {
    let wanted: Vec<&str> = wanted.lines().collect();
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(wanted.len(), found.len(), "numbers of lines");
    let pairs = wanted.iter().zip(&found).filter(|(wanted, found)| wanted != found);
    let unknown =
        pairs.filter(|(wanted, _)| !WRONG_IN_NFT.iter().any(|wrong| wanted.contains(wrong)));
    unknown.map(|(wanted, found)| format!("nft:   {wanted}\nberth: {found}")).collect()
}

#[test]
fn every_rule_lists_as_nft_lists_it() {
    let mut total = 0;
    let mut wrong = Vec::new();
    for collection in collections() {
        let netns = Netns::new("rules");
        let (script, rules) = script(&collection);
        total += rules;
        load(&netns, &script);
        for flags in ["", "-a", "-n", "-s", "-a -n -s"] {
            let nft = netns.nft(&format!("{flags} list ruleset"));
            let ours = berth(&netns, flags);
            let name = collection.file_name().unwrap().to_string_lossy().into_owned();
            let found = differences(&without_expiry(&nft), &without_expiry(&ours));
            wrong.extend(found.into_iter().map(|line| format!("{name} {flags}\n{line}")));
        }
    }
    println!("{total} rules, {} listed otherwise", wrong.len());
    assert!(total >= 1000, "{total}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_json_is_nfts_byte_for_byte() {
    for collection in collections() {
        let netns = Netns::new("json");
        load(&netns, &script(&collection).0);
        let (nft, ours) = (netns.nft("-j list ruleset"), berth(&netns, "-j"));
        if nft == ours {
            continue;
        }
        // To be read: an object a line.
        let lines = |text: &str| {
            let document: serde_json::Value = serde_json::from_str(text).unwrap();
            document["nftables"]
                .as_array()
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        let wrong: Vec<String> = differences(&lines(&nft), &lines(&ours))
            .into_iter()
            .filter(|line| !WRONG_IN_JSON.iter().any(|wrong| line.contains(wrong)))
            .collect();
        assert!(wrong.is_empty(), "{}:\n{}", collection.display(), wrong.join("\n"));
    }
}

/// Declarations of every kind of set, map, object and chain.
#[test]
fn declarations_list_as_nft_lists_them() {
    let netns = Netns::new("declared");
    load(&netns, &std::fs::read_to_string(directory().join("declarations.nft")).unwrap());
    for flags in ["", "-a", "-n", "-s"] {
        let nft = netns.nft(&format!("{flags} list ruleset"));
        let wrong = differences(&without_expiry(&nft), &without_expiry(&berth(&netns, flags)));
        assert!(wrong.is_empty(), "{flags}:\n{}", wrong.join("\n"));
    }
    let (nft, ours) = (netns.nft("-j list ruleset"), berth(&netns, "-j"));
    assert_eq!(as_it_would_load(&without_expiry(&nft)), without_expiry(&ours));
}

#[test]
fn each_thing_that_can_be_asked_for_is_what_nft_answers() {
    let netns = Netns::new("one");
    load(&netns, &std::fs::read_to_string(directory().join("declarations.nft")).unwrap());
    for what in [
        "tables",
        "tables ip",
        "table ip y",
        "table y",
        "table inet t",
        "chains",
        "chains ip",
        "chain ip y pri",
        "chain inet t c",
        "sets",
        "maps",
        "set ip y h",
        "map ip y k",
        "counters",
        "counter ip y cc",
        "quotas",
        "limits",
        "limit ip y l1",
        "ruleset ip",
        "ruleset inet",
    ] {
        let (nft, ours) = (netns.nft(&format!("list {what}")), berth(&netns, what));
        let wrong = differences(&without_expiry(&nft), &without_expiry(&ours));
        assert!(wrong.is_empty(), "list {what}: {}", wrong.join("\n"));
        let (nft, ours) =
            (netns.nft(&format!("-j list {what}")), berth(&netns, &format!("-j {what}")));
        assert_eq!(
            without_expiry(&ours),
            as_it_would_load(&without_expiry(&nft)),
            "-j list {what}"
        );
    }
}

#[test]
fn what_is_not_there_or_not_known_is_said() {
    let netns = Netns::new("absent");
    let fails = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        let out =
            command.args(["nft", "list", "--netns", &netns.path()]).args(words).output().unwrap();
        assert!(!out.status.success(), "{words:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(fails(&["table", "inet", "nowhere"]).contains("there is no table inet nowhere"));
    assert!(fails(&["chain", "inet", "t"]).contains("chain [FAMILY] TABLE NAME"));
    assert!(fails(&["nonsense"]).contains("allowed: ruleset, tables"));
    assert!(fails(&["tables", "ipx"]).contains("allowed: ip, ip6, inet, arp, bridge or netdev"));
}

/// Rules of iptables-nft (and of kube-proxy, Docker, Istio and Calico, who use it) are mostly extensions of x_tables.
#[test]
fn rules_of_iptables_nft_read_as_nft_shows_them() {
    let (mut lines, mut rules, mut by_name, mut wrong) = (0, 0, 0, Vec::new());
    for family in ["ip", "ip6"] {
        let netns = Netns::new("iptables");
        let script = directory().join("iptables.sh");
        checked(netns.command("bash").arg(script).arg(family));
        for flags in ["", "-a", "-n", "-s"] {
            let nft = netns.nft(&format!("{flags} list ruleset"));
            let ours = berth(&netns, flags);
            let (known, other): (Vec<_>, Vec<_>) = differences(&nft, &ours)
                .into_iter()
                .partition(|found| BY_NAME_ONLY.iter().any(|name| found.contains(name)));
            assert_eq!(known.len(), if family == "ip" { 5 } else { 1 }, "{}", known.join("\n"));
            if flags.is_empty() {
                lines += nft.lines().count();
                by_name += known.len();
                rules += nft.lines().filter(|line| line.contains("counter packets")).count();
            }
            wrong.extend(other.into_iter().map(|found| format!("{family} {flags}\n{found}")));
        }
        assert_eq!(netns.nft("-j list ruleset"), berth(&netns, "-j"));
    }
    println!(
        "{lines} lines, {rules} rules of iptables: {by_name} by name only, {} else otherwise",
        wrong.len()
    );
    assert!(rules >= 400, "{rules}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of a target that both families use, nft 1.0.6 shows nothing in the tables of the second one.
#[test]
fn targets_of_iptables_nft_are_shown_for_both_families() {
    let netns = Netns::new("both");
    for program in ["iptables-nft", "ip6tables-nft"] {
        netns.run(&format!("{program} -t nat -A POSTROUTING -j MASQUERADE"));
    }
    let shown = |text: &str| text.lines().filter(|line| line.ends_with(" masquerade")).count();
    assert_eq!(shown(&berth(&netns, "")), 2);
    assert_eq!(
        shown(&netns.nft("list ruleset")),
        1,
        "nft does better now: compare both families at once"
    );
}

/// On standard error, as nft does: where rules are listed, and where iptables made them.
#[test]
fn tables_of_iptables_nft_are_warned_of() {
    let netns = Netns::new("warned");
    netns.run("iptables-nft -A INPUT -m comment --comment x");
    netns.run("iptables-nft -t raw -A PREROUTING -s 1.1.1.1 -j DROP");
    netns.run("ip6tables-nft -t nat -A POSTROUTING -j MASQUERADE");
    netns.nft("add table ip plain");
    let warnings = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        text.lines()
            .filter(|line| line.starts_with("# Warning"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let whats = [
        "list ruleset",
        "list ruleset ip",
        "list table ip filter",
        "list table ip raw",
        "list table ip plain",
        "list chain ip6 nat POSTROUTING",
        "list chains",
        "list tables",
        "list sets",
        "-j list ruleset",
    ];
    for (what, number) in whats.into_iter().zip([2, 1, 1, 0, 0, 1, 0, 0, 0, 0]) {
        let mut ours = Command::new(env!("CARGO_BIN_EXE_berth"));
        ours.args(["nft", "list", "--netns", &netns.path()]);
        ours.args(what.replace("list ", "").replace(" list", "").split_whitespace());
        let wanted = warnings(netns.command("nft").args(what.split_whitespace()));
        assert_eq!(wanted.len(), number, "{what}: {wanted:?}");
        assert_eq!(warnings(&mut ours), wanted, "{what}");
    }
}

/// Ours read by nft: the rules are the same ones afterwards.
#[test]
fn our_text_loaded_by_nft_is_the_same_ruleset() {
    use berth::nft::dump::Filter;
    use berth::sys::netlink::Firewall;
    // Rules put into families they hardly belong to list, in nft as here, in a way that nft does not read.
    let readable = collections().into_iter().filter(|path| !path.ends_with("families.rules"));
    for collection in readable {
        let (first, second) = (Netns::new("first"), Netns::new("second"));
        load(&first, &script(&collection).0);
        let dump = |netns: &Netns| {
            netns
                .enter(async || Firewall::start().unwrap().dump(Filter::default()).await.unwrap().1)
        };
        let found = dump(&first);
        load(&second, &found.to_string());
        let again = dump(&second);
        // Elements in one order, whatever the kernel's hashing gave.
        let (wanted, loaded) = (found.canonical().to_string(), again.canonical().to_string());
        let wrong = differences(&wanted, &loaded);
        assert!(wrong.is_empty(), "{}:\n{}", collection.display(), wrong.join("\n"));
    }
}
