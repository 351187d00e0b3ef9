//! The verb by the built binary: words in, story out, exit code; on the table that berth itself loads.

use berth::sys::netlink::Firewall;

use crate::support::{self, Netns, sample};

/// Exit code, standard output, standard error.
type Said = (i32, String, String);

/// A pod with berth's own rules: 10.1.1.2 on eth0, the guest behind br0, VNC reserved.
fn pod() -> (Netns, Netns) {
    let (peer, pod) = (Netns::new("peer"), Netns::new("pod"));
    support::veth(&peer, "eth0", &pod, "eth0");
    pod.ip("addr add 10.1.1.2/24 dev eth0");
    pod.ip("link add br0 type bridge");
    pod.ip("addr add 192.168.254.1/30 dev br0");
    pod.ip("link set br0 up");
    pod.ip("route add default via 10.1.1.1");
    pod.run("sysctl -qw net.ipv4.ip_forward=1");
    pod.enter(async || {
        let (config, facts) = (sample::config(), sample::facts());
        let link = berth::plan::link::plan(&config, &facts.net, 65534).unwrap();
        let rules = berth::plan::nat::plan(&config, &facts.net, &link);
        Firewall::start().unwrap().commit(rules).await.unwrap();
    });
    (peer, pod)
}

fn explain(netns: &Netns, words: &str) -> Said {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(["nft", "explain", "--netns", &netns.path()])
        .args(words.split_whitespace())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn verdict((code, out, err): &Said) -> (i32, &str) {
    (*code, out.lines().last().unwrap_or(err))
}

/// 17 is the kernel's no, and nothing else.
#[test]
fn each_reason_has_its_own_code() {
    let (_peer, pod) = pod();
    let full = "/dev/full";
    for (code, words) in [
        (1, "nft list table inet nope"),
        (1, "nft list chain inet berth nope"),
        (10, "nft list nonsense"),
        (11, "nft explain --from 10.0.0.9 --iif nosuch --to 10.1.1.2:22/tcp"),
        (1, "nft list FULL"),
        (0, "nft list table inet berth"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(words.replace("FULL", "").split_whitespace()).args(["--netns", &pod.path()]);
        if words.contains("FULL") {
            command.stdout(std::fs::OpenOptions::new().write(true).open(full).unwrap());
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        assert_eq!(said.is_empty(), code == 0, "{words}: {said}");
    }
    pod.ip("route del default");
    assert_eq!(explain(&pod, "--from 10.0.0.9 --to pod:22/tcp").0, 11);
}

#[test]
fn a_packet_to_the_pods_address_is_the_guests() {
    let (_peer, pod) = pod();
    let said = explain(&pod, "--from 10.0.0.9:4000 --to POD:80/tcp");
    let wanted = "verdict accepted: leaves by br0 as 10.0.0.9:4000 -> 192.168.254.2:80/tcp";
    assert_eq!(verdict(&said), (0, wanted), "{}", said.1);
    let out = said.1;
    assert!(out.starts_with("packet  10.0.0.9:4000 -> 10.1.1.2:80/tcp\n"), "{out}");
    for line in [
        "        comes by eth0, where the route back to 10.0.0.9 leads",
        "prerouting: inet berth prerouting (type nat, priority -100)",
        "      tcp dport is 80, not 5900",
        "      destination 10.1.1.2:80 becomes 192.168.254.2:80",
        "  = accept; now 10.0.0.9:4000 -> 192.168.254.2:80/tcp",
        "routing 192.168.254.2: forwarded by br0",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}\n{out}");
    }
    assert!(!out.contains('\x1b'), "colours in a pipe:\n{out}");
}

#[test]
fn a_reserved_port_stays_with_the_pod() {
    let (_peer, pod) = pod();
    let said = explain(&pod, "--from 10.0.0.9:4000 --to 10.1.1.2:5900/tcp");
    let wanted =
        "verdict accepted: delivered to this machine as 10.0.0.9:4000 -> 10.1.1.2:5900/tcp";
    assert_eq!(verdict(&said), (0, wanted), "{}", said.1);
    let said = explain(&pod, "--from 10.0.0.9:4000 --to 10.1.1.2:5900/udp");
    assert!(verdict(&said).1.contains("leaves by br0"), "{}", said.1);
}

#[test]
fn the_guest_leaves_as_the_pod_and_a_spoofer_not_at_all() {
    let (_peer, pod) = pod();
    let said = explain(&pod, "--from 192.168.254.2:7 --to 9.9.9.9:53/udp");
    let wanted = "verdict accepted: leaves by eth0 as 10.1.1.2:7 -> 9.9.9.9:53/udp";
    assert_eq!(verdict(&said), (0, wanted), "{}", said.1);
    let said = explain(&pod, "--from 192.168.254.3:7 --iif br0 --to 9.9.9.9:53/udp");
    assert_eq!(verdict(&said).0, 1, "{}", said.1);
    assert!(verdict(&said).1.starts_with(
        "verdict dropped: by a rule of inet berth raw: iifname \"br0\" ip saddr != 192.168.254.2"
    ));
}

/// What the guest may send, in the story's own words: by the chain that says so.
#[test]
fn what_the_guest_may_send_is_told_by_the_chain_that_drops_it() {
    let (_peer, pod) = pod();
    pod.ip("link add tap0 type bridge");
    for (words, code, wanted) in [
        (
            "--from 192.168.254.2:7 --iif br0 --to 192.168.254.1:53/udp",
            0,
            "verdict accepted: delivered",
        ),
        (
            "--from 192.168.254.2:7 --iif br0 --to 192.168.254.1:53/tcp",
            0,
            "verdict accepted: delivered",
        ),
        (
            "--from 192.168.254.2:68 --iif br0 --to 192.168.254.1:67/udp",
            0,
            "verdict accepted: delivered",
        ),
        (
            "--from 192.168.254.2 --iif br0 --to 192.168.254.1/icmp",
            0,
            "verdict accepted: delivered",
        ),
        (
            "--from 192.168.254.2:80 --iif br0 --to 192.168.254.1:9/tcp --ct-state established",
            0,
            "verdict accepted",
        ),
        ("--from 192.168.254.2:7 --iif br0 --to 192.168.254.1:80/tcp", 1, "not opened to it"),
        ("--from 192.168.254.2:7 --iif br0 --to 10.1.1.2:5900/tcp", 1, "not opened to it"),
        (
            "--from 8.8.8.8:7 --iif br0 --to 192.168.254.1:53/udp",
            1,
            "inet berth raw: iifname \"br0\" ip saddr !=",
        ),
        (
            "--from 2001:db8::2:7 --iif br0 --to 2001:db8::1:53/udp --hook prerouting",
            1,
            "inet berth raw: meta nfproto ipv6",
        ),
        (
            "--from 192.168.254.2:7 --iif tap0 --to 192.168.254.1:53/udp --hook input",
            1,
            "inet berth input: iifname \"tap0\"",
        ),
        (
            "--from 192.168.254.2:7 --iif br0 --to 9.9.9.9:53/tcp --hook forward --oif eth0 --ct-state invalid",
            1,
            "inet berth invalid: iifname \"br0\"",
        ),
        (
            "--from 192.168.254.2 --to 192.168.254.1/arp --hook input --iif br0",
            0,
            "verdict accepted",
        ),
        (
            "--from 11.0.0.9 --to 192.168.254.1/arp --hook input --iif br0",
            1,
            "arp berth input: iifname \"br0\"",
        ),
    ] {
        let said = explain(&pod, words);
        let (found, last) = verdict(&said);
        assert!(found == code && last.contains(wanted), "{words}: {found}\n{}{}", said.1, said.2);
    }
}

#[test]
fn the_pod_reaches_the_guest_at_its_own_address() {
    let (_peer, pod) = pod();
    let said = explain(&pod, "--local --from 10.1.1.2:7 --to pod:80/tcp");
    let wanted = "verdict accepted: leaves by br0 as 10.1.1.2:7 -> 192.168.254.2:80/tcp";
    assert_eq!(verdict(&said), (0, wanted), "{}", said.1);
}

#[test]
fn what_was_not_said_may_leave_the_answer_open() {
    let (_peer, pod) = pod();
    pod.nft("add table ip t { chain c { type filter hook prerouting priority 0; tcp sport 1-1023 drop; meta cpu 0 accept; }; }");
    let said = explain(&pod, "--from 10.0.0.9 --to 10.1.1.2:5900/tcp");
    let wanted =
        "verdict cannot tell: tcp sport is not known (tell with --from ADDRESS:PORT); in ip t c";
    let (code, last) = verdict(&said);
    assert!(code == 3 && last.starts_with(wanted), "{}", said.1);
    assert_eq!(explain(&pod, "--from 10.0.0.9:80 --to 10.1.1.2:5900/tcp").0, 1);
    // Nothing depends on the mark of a rule that may have matched.
    pod.nft("flush chain ip t c");
    pod.nft("add rule ip t c tcp sport 1-1023 meta mark set 5");
    assert_eq!(explain(&pod, "--from 10.0.0.9 --to 10.1.1.2:5900/tcp").0, 0);
}

#[test]
fn rejected_is_as_good_as_dropped_to_a_script() {
    let (_peer, pod) = pod();
    pod.nft("add table inet t { chain c { type filter hook input priority 0; tcp dport 5900 reject with tcp reset; }; }");
    let said = explain(&pod, "--from 10.0.0.9:1 --to 10.1.1.2:5900/tcp");
    let (code, last) = verdict(&said);
    assert!(
        code == 1 && last.starts_with("verdict rejected: with a TCP reset, by a rule of inet t c"),
        "{}",
        said.1
    );
}

#[test]
fn rates_are_within_or_unknown() {
    let (_peer, pod) = pod();
    pod.nft("add table inet t { chain c { type filter hook input priority 0; policy drop; limit rate 5/second accept; }; }");
    assert_eq!(explain(&pod, "--from 10.0.0.9:1 --to 10.1.1.2:5900/tcp").0, 3);
    assert_eq!(explain(&pod, "--from 10.0.0.9:1 --to 10.1.1.2:5900/tcp --within-limits").0, 0);
}

#[test]
fn the_story_as_json() {
    let (_peer, pod) = pod();
    let (code, out, _) = explain(&pod, "--from 10.0.0.9:4000 --to 10.1.1.2:80/tcp --output json");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["outcome"].as_str()), (0, Some("accepted")));
    assert_eq!(json["end"], "10.0.0.9:4000 -> 192.168.254.2:80/tcp");
    let rules = json["steps"][1]["chain"]["rules"].as_array().unwrap();
    let matched: Vec<_> = rules.iter().map(|rule| rule["matched"].as_str().unwrap()).collect();
    assert_eq!(matched, ["no", "yes"]);
    assert_eq!(rules[0]["why"], "tcp dport is 80, not 5900");
}

#[test]
fn other_families_are_looked_at_hook_by_hook() {
    let (_peer, pod) = pod();
    pod.nft("add table arp t { chain c { type filter hook input priority 0; arp operation request arp daddr ip 10.1.1.2 drop; }; }");
    pod.nft("add table bridge t { chain c { type filter hook forward priority 0; ether type ip ip daddr 10.1.1.2 drop; }; }");
    pod.nft("add table netdev t { chain c { type filter hook ingress device eth0 priority 0; udp dport 53 drop; }; }");
    assert_eq!(explain(&pod, "--from 10.1.1.1 --to 10.1.1.2/arp --hook input --iif eth0").0, 1);
    assert_eq!(explain(&pod, "--from 10.1.1.1 --to 10.1.1.3/arp --hook input --iif eth0").0, 0);
    assert_eq!(
        explain(&pod, "--from 10.1.1.1 --to 10.1.1.2/icmp --hook forward --family bridge").0,
        1
    );
    // A device's own chains are part of the way of each packet.
    let said = explain(&pod, "--from 10.1.1.1 --to 10.1.1.2:53/udp");
    assert_eq!(
        verdict(&said),
        (1, "verdict dropped: by a rule of netdev t c: udp dport 53 drop"),
        "{}",
        said.1
    );
}

#[test]
fn mistakes_are_told_with_what_is_allowed() {
    let (_peer, pod) = pod();
    for (words, code, wanted) in [
        ("--to 10.1.1.2", 10, "which protocol? Say it after a slash, as in 10.0.0.1:22/tcp"),
        ("--to 10.1.1.2:22/tpc", 10, "\"tpc\" is no protocol"),
        ("--to 10.1.1.2:99999/tcp", 10, "is no ADDRESS or ADDRESS:PORT"),
        ("--to web.example:22/tcp", 10, "names are not looked up"),
        ("--to 10.1.1.2:22/icmp", 10, "this protocol has no ports"),
        ("--to 10.1.1.2:22/tcp --from fd00::1", 10, "different families"),
        ("--to 10.1.1.2:22/tcp --hook middle", 10, "ingress, prerouting, input"),
        ("--to 10.1.1.2:22/tcp --iif eth9", 11, "no interface eth9 here; there are"),
        ("--to 10.1.1.2:22/udp --tcp-flags syn", 10, "of a TCP packet"),
        ("--to 10.1.1.2:22/tcp --family bridge", 10, "say --hook"),
        ("--to 10.1.1.2:22/tcp --oif eth0", 10, "--oif is for --hook"),
        ("--to 10.1.1.2:22/tcp --vlan 5", 10, "--vlan: IP does not see the tag"),
    ] {
        let (found, _, err) = explain(&pod, words);
        assert!(found == code && err.contains(wanted), "{words}: {found} {err}");
    }
}

#[test]
fn a_packet_that_is_not_routed_is_dropped() {
    let (_peer, pod) = pod();
    pod.run("sysctl -qw net.ipv4.ip_forward=0");
    let said = explain(&pod, "--from 10.1.1.1:1 --to 10.1.1.2:80/tcp");
    let (code, last) = verdict(&said);
    assert!(code == 1 && last.contains("forwarding is off"), "{}", said.1);
}

/// The rules of two chains on the way in: before conntrack, and at input.
fn on_the_way(before: &str, input: &str) -> String {
    format!(
        "table inet t {{\n set seen {{ type ipv4_addr; flags dynamic; size 10; }}\n \
         set full {{ type ipv4_addr; flags dynamic; size 1; elements = {{ 1.1.1.1 }}; }}\n \
         map zones {{ typeof ip saddr : ct zone; elements = {{ 10.1.1.1 : 5, 10.1.1.9 : 6 }}; }}\n \
         ct helper h {{ type \"ftp\" protocol tcp; }}\n \
         chain p {{ type filter hook prerouting priority -300; policy accept; {before}; }}\n \
         chain i {{ type filter hook input priority 0; policy accept; {input}; }}\n}}\n"
    )
}

/// What a rule does to the packet, its connection or a set is seen by those after it.
#[test]
fn what_rules_set_is_what_later_rules_find() {
    let (_peer, pod) = pod();
    let words = "--from 10.1.1.1:4000 --iif eth0 --to 10.1.1.2:5900/tcp";
    for (before, input, code, wanted) in [
        // Zones.
        ("ct zone set 5", "ct zone 5 drop", 1, "dropped"),
        ("ct zone set 5", "ct zone 0 drop", 0, "accepted"),
        ("ct zone set ip saddr map @zones", "ct zone 5 drop", 1, "dropped"),
        ("ct original zone set 5", "ct original zone 5 ct reply zone 0 drop", 1, "dropped"),
        ("ct reply zone set 5", "ct original zone 5 drop", 0, "accepted"),
        // The first one counts, and holds against notrack; after notrack it has the packet tracked again.
        ("ct zone set 5; ct zone set 6", "ct zone 5 drop", 1, "dropped"),
        ("ct zone set 5; notrack", "ct state new ct zone 5 drop", 1, "dropped"),
        ("notrack; ct zone set 5", "ct state new ct zone 5 drop", 1, "dropped"),
        ("notrack", "ct state untracked drop", 1, "dropped"),
        ("ct zone set 5; ct state new drop", "accept", 1, "dropped"),
        ("ct zone set 5; ct zone 5 drop", "accept", 0, "accepted"),
        ("ct state invalid drop", "accept", 1, "dropped"),
        ("accept", "ct zone set 5; ct zone 5 drop", 0, "accepted"),
        ("tcp sport 4000 meta cpu 0 ct zone set 5", "accept", 3, "meta cpu is not known"),
        // Connections.
        ("accept", "ct label set 3; ct label 3 drop", 1, "dropped"),
        ("accept", "ct label set 3; ct label 4 drop", 0, "accepted"),
        ("accept", "ct mark set 7; ct mark 7 drop", 1, "dropped"),
        ("accept", "ct helper set \"h\"; ct helper \"ftp\" drop", 3, "ct helper is not known"),
        ("accept", "ct helper \"ftp\" drop", 0, "accepted"),
        // The packet.
        ("meta pkttype set broadcast", "meta pkttype broadcast drop", 1, "dropped"),
        (
            "meta cpu 0 meta pkttype set broadcast",
            "meta pkttype broadcast drop",
            3,
            "meta pkttype is not known",
        ),
        ("meta priority set root", "meta priority root drop", 3, "meta priority is not known"),
        ("ip dscp set cs1", "ip dscp cs1 drop", 1, "dropped"),
        ("ip ttl set 3", "ip ttl 3 drop", 1, "dropped"),
        ("ip protocol set 17", "accept", 3, "another protocol, length or offset"),
        ("ip saddr set 9.9.9.9", "ip saddr 9.9.9.9 drop", 1, "dropped"),
        (
            "accept",
            "ip saddr set 9.9.9.9; ct reply ip daddr 9.9.9.9 drop",
            3,
            "ct reply ip daddr is not known",
        ),
        // Sets.
        ("add @seen { ip saddr }", "ip saddr @seen drop", 1, "dropped"),
        ("add @seen { ip saddr }; delete @seen { ip saddr }", "ip saddr @seen drop", 0, "accepted"),
        ("add @seen { ip daddr }", "ip saddr @seen drop", 0, "accepted"),
        ("meta cpu 0 add @seen { ip saddr }", "ip saddr @seen drop", 3, "@seen has changed"),
        ("accept", "add @full { ip saddr } drop", 0, "accepted"),
        // What others decide.
        ("accept", "udp dport 5900 synproxy mss 1460 wscale 7", 0, "accepted"),
        ("accept", "tcp dport 5900 synproxy mss 1460 wscale 7", 3, "synproxy answers"),
        (
            "ct state vmap { invalid : continue, new : drop }",
            "ct state vmap { new : drop, established : accept }",
            1,
            "dropped",
        ),
    ] {
        pod.nft("flush ruleset");
        super::feed(&pod, "nft -f -", &on_the_way(before, input))
            .unwrap_or_else(|error| panic!("{error}"));
        let said = explain(&pod, words);
        let (found, last) = verdict(&said);
        assert!(
            found == code && last.contains(wanted),
            "{before} | {input}: {found} {last}\n{}",
            said.1
        );
    }
}

/// A connection of one zone is not known in another.
#[test]
fn a_zone_has_connections_of_its_own() {
    let (_peer, pod) = pod();
    pod.nft("flush ruleset");
    let rules =
        on_the_way("ip daddr 10.1.1.2 ct zone set 5", "ct state new drop; ct state invalid drop");
    super::feed(&pod, "nft -f -", &rules).unwrap_or_else(|error| panic!("{error}"));
    let words = "--from 10.1.1.1:4000 --iif eth0 --to 10.1.1.2:5900/tcp --ct-state established";
    assert_eq!(explain(&pod, words).0, 0);
    assert_eq!(explain(&pod, &format!("{words} --ct-zone 5")).0, 0);
    assert_eq!(explain(&pod, &format!("{words} --ct-zone 0 --tcp-flags ack")).0, 1);
    let said = explain(&pod, &format!("{words} --ct-zone 0"));
    assert!(verdict(&said).0 == 3 && said.1.contains("depends on the zone"), "{}", said.1);
    // Of one hook alone nothing is known of what rules have set before.
    let words = "--from 10.1.1.1:4000 --iif eth0 --to 10.1.1.2:5900/tcp --hook input";
    pod.nft("add rule inet t i ct zone 5 drop");
    let said = explain(&pod, &format!("{words} --ct-state established"));
    assert!(
        verdict(&said).1.contains("ct zone is not known (tell with --ct-zone N)"),
        "{}",
        said.1
    );
    assert_eq!(explain(&pod, &format!("{words} --ct-state established --ct-zone 5")).0, 1);
}

/// Not every packet begins a connection, whatever is said of it.
#[test]
fn neighbour_discovery_is_not_tracked_and_a_stray_answer_is_invalid() {
    let (_peer, pod) = pod();
    pod.nft("flush ruleset");
    pod.nft("add table inet t { chain i { type filter hook input priority 0; ct state untracked counter drop; ct state invalid reject; }; }");
    pod.ip("addr add fd00:1::2/64 dev eth0 nodad");
    let of = |to: &str| {
        explain(
            &pod,
            &format!("--from fd00:1::9 --iif eth0 --to [fd00:1::2]/icmpv6 --icmp-type {to}"),
        )
    };
    assert!(verdict(&of("nd-neighbor-solicit")).1.contains("dropped"));
    assert!(verdict(&of("echo-reply")).1.contains("rejected"));
    assert_eq!(verdict(&of("echo-request")).0, 0);
    let said =
        explain(&pod, "--from 10.1.1.1:4000 --iif eth0 --to 10.1.1.2:5900/tcp --tcp-flags syn,ack");
    assert!(
        said.1.contains("conntrack calls the packet invalid")
            && verdict(&said).1.contains("rejected"),
        "{}",
        said.1
    );
}
