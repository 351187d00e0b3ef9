//! The verb by the built binary: words in, story out, exit code; on the table that berth itself loads.

use berth::sys::netlink::Firewall;

use crate::sample;
use crate::support::{self, Netns};

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
    let wanted = "verdict accepted: delivered to this machine as 10.0.0.9:4000 -> 10.1.1.2:5900/tcp";
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
    let said =
        explain(&pod, "--from 192.168.254.3:7 --iif br0 --to 9.9.9.9:53/udp --hook forward --oif eth0");
    assert_eq!(verdict(&said).0, 1, "{}", said.1);
    assert!(verdict(&said).1.starts_with(
        "verdict dropped: by a rule of inet berth forward: iifname \"br0\" ip saddr != 192.168.254.2"
    ));
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
    let wanted = "verdict cannot tell: tcp sport is not known (tell with --from ADDRESS:PORT); in ip t c";
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
    let rules = json["steps"][0]["chain"]["rules"].as_array().unwrap();
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
    assert_eq!(explain(&pod, "--from 10.1.1.1 --to 10.1.1.2/icmp --hook forward --family bridge").0, 1);
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
