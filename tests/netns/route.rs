//! Pods with more than one way: further interfaces, policy routing, point-to-point links; and what is told where the guest
//! cannot go where its pod does. `berth net` is in the pod, and the guest a namespace on its bridge.
//!
//! ```text
//! guest eth0 ── port0 [br0] pod ┬ eth0 10.77.0.2 ── 10.77.0.1 peer, 10.50.0.1 behind it
//!                               └ net1 10.99.0.2 ── 10.99.0.1 other
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use crate::support::site::{dial, said, serve, talk};
use crate::support::{self, Netns, PATIENCE, veth};
use berth::facts::Further;
use berth::plan::RoutePlan;
use berth::sys::link::Links;

const POD: &str = "10.77.0.2";
const PEER: &str = "10.77.0.1";
const FAR: &str = "10.50.0.1";

/// A pod that is wired by the test, and `berth net` in it.
struct Pod {
    pod: Netns,
    guest: Netns,
    dir: tempfile::TempDir,
    berth: Option<Child>,
}

impl Pod {
    fn new() -> Self {
        let (pod, guest) = (Netns::new("pod"), Netns::new("guest"));
        pod.run("sysctl -qw net.ipv4.ip_forward=0");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("resolv.conf"), format!("nameserver {PEER}\n")).unwrap();
        Self { pod, guest, dir, berth: None }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = self.pod.command(env!("CARGO_BIN_EXE_berth"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOSTNAME", "demo");
        command.env("BERTH_STATE_DIR", self.dir.path().join("state"));
        command.env("BERTH_RESOLV_CONF", self.dir.path().join("resolv.conf"));
        command.arg(verb).stdin(Stdio::null());
        command
    }

    /// `berth net`, ready, and the guest on its bridge with its address.
    fn start(&mut self, env: &[(&str, &str)]) -> &mut Self {
        let mut command = self.command("net");
        let log = File::create(self.dir.path().join("log")).unwrap();
        self.berth = Some(command.envs(env.iter().copied()).stderr(log).spawn().unwrap());
        self.until("ready", |pod| pod.log().contains("pod address mapped"));
        if !self.pod.ip("-br link").contains("port0") {
            veth(&self.guest, "eth0", &self.pod, "port0");
            self.pod.ip("link set port0 master br0");
            self.pod.run("bridge link set dev port0 hairpin on");
            self.guest.ip("addr add 192.168.254.2/30 dev eth0");
            self.guest.ip("route add default via 192.168.254.1");
        }
        self
    }

    fn end(&mut self, signal: &str) -> Option<i32> {
        let mut berth = self.berth.take().unwrap();
        support::run("kill", &[&format!("-{signal}"), &berth.id().to_string()]);
        berth.wait().unwrap().code()
    }

    /// A start that ends by itself: its code and its log.
    fn refused(&self, verb: &str) -> (Option<i32>, String) {
        let output = self.command(verb).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        support::find(what, PATIENCE, || self.log(), || holds(self).then_some(()));
    }

    fn rules(&self) -> Vec<String> {
        let text = self.pod.ip("rule show");
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    fn ours(&self) -> Vec<String> {
        self.rules().into_iter().filter(|rule| rule.ends_with("proto 190")).collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(mut berth) = self.berth.take() {
            let _ = berth.kill();
            let _ = berth.wait();
        }
    }
}

/// Whom a server in `to` sees, when it is called from a namespace.
fn seen(from: &Netns, to: &str, port: u16) -> Option<String> {
    dial(from, to, port).and_then(|mut stream| talk(&mut stream))
}

fn pings(from: &Netns, to: &str) -> bool {
    from.command("ping").args(["-c1", "-W2", to]).output().unwrap().status.success()
}

/// A peer on eth0 with a network behind it.
fn peer_of(pod: &Netns) -> Netns {
    let peer = Netns::new("peer");
    veth(&peer, "eth0", pod, "eth0");
    peer.ip(&format!("addr add {PEER}/24 dev eth0"));
    peer.ip(&format!("addr add {FAR}/32 dev lo"));
    pod.ip(&format!("addr add {POD}/24 dev eth0"));
    peer
}

fn second(pod: &Netns) -> Netns {
    let other = Netns::new("other");
    veth(&other, "eth0", pod, "net1");
    other.ip("addr add 10.99.0.1/24 dev eth0");
    pod.ip("addr add 10.99.0.2/24 dev net1");
    other
}

fn forwarding(pod: &Netns, link: &str) -> String {
    pod.run(&format!("cat /proc/sys/net/ipv4/conf/{link}/forwarding")).trim().to_owned()
}

#[test]
fn the_guest_reaches_what_the_pod_reaches_by_its_further_interfaces() {
    let mut pod = Pod::new();
    let peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER}"));
    let other = second(&pod.pod);
    assert_eq!(forwarding(&pod.pod, "net1"), "0");
    pod.start(&[]);
    serve(&other, "other", 80);
    serve(&peer, "peer", 80);
    assert!(pings(&pod.guest, "10.99.0.1"));
    assert_eq!(seen(&pod.guest, "10.99.0.1", 80), said("other", "10.99.0.2"));
    assert_eq!(seen(&pod.guest, FAR, 80), said("peer", POD));
    assert_eq!(pod.pod.run("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");

    // Others are not routed from one network to the other.
    other.ip("route add 10.77.0.0/24 via 10.99.0.2");
    peer.ip("route add 10.99.0.0/24 via 10.77.0.2");
    assert!(!pings(&other, PEER));
    assert!(!pings(&peer, "10.99.0.1"));

    // Healed, and on one that comes later.
    for link in ["net1", "eth0", "br0"] {
        pod.pod.run(&format!("sysctl -qw net.ipv4.conf.{link}.forwarding=0"));
        pod.until(link, |pod| forwarding(&pod.pod, link) == "1");
    }
    let late = Netns::new("late");
    veth(&late, "eth0", &pod.pod, "net2");
    late.ip("addr add 10.98.0.1/24 dev eth0");
    pod.pod.ip("addr add 10.98.0.2/24 dev net2");
    pod.until("net2", |pod| forwarding(&pod.pod, "net2") == "1");
    serve(&late, "late", 80);
    assert_eq!(seen(&pod.guest, "10.98.0.1", 80), said("late", "10.98.0.2"));
    assert_eq!(pod.end("TERM"), Some(0));
}

#[test]
fn an_interface_that_cannot_forward_is_named_with_what_is_behind_it() {
    let pod = Pod::new();
    let _other = second(&pod.pod);
    let lost = pod.pod.enter(|| async {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, none).unwrap();
        let networks = vec!["10.99.0.0/24".parse().unwrap()];
        let net1 = Further { name: "net1".parse().unwrap(), addresses: Vec::new(), networks };
        let gone = Further { name: "gone0".parse().unwrap(), ..net1.clone() };
        let plan = RoutePlan { further: vec![gone, net1], rules: Vec::new() };
        berth::apply::routes(&plan, &Links::open().unwrap()).await.unwrap()
    });
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].starts_with("the guest does not reach 10.99.0.0/24 (net1): "), "{lost:?}");
    assert!(lost[0].contains("needs CAP_NET_ADMIN"), "{lost:?}");
}

/// As multi-homed pods have it: what comes from an address leaves by the table of its network.
fn policy(pod: &Netns) {
    pod.ip(&format!("route add default via {PEER} table 100"));
    pod.ip(&format!("rule add from {POD} lookup 100 priority 500"));
}

#[test]
fn a_pod_whose_default_route_is_in_a_table_of_its_own_has_a_guest_that_goes_there_too() {
    let mut pod = Pod::new();
    let peer = peer_of(&pod.pod);
    policy(&pod.pod);
    let foreign = pod.rules();
    pod.start(&[]);
    serve(&peer, "peer", 80);
    serve(&pod.guest, "guest", 80);
    let both_ways = |pod: &Pod| {
        assert_eq!(seen(&pod.guest, FAR, 80), said("peer", POD));
        assert_eq!(seen(&peer, POD, 80), said("guest", PEER));
        // From behind the router, where the answer has to find its way out as well.
        peer.ip(&format!("route replace {POD}/32 dev eth0 src {FAR}"));
        assert_eq!(seen(&peer, POD, 80), said("guest", FAR));
        peer.ip(&format!("route del {POD}/32 dev eth0"));
        // The pod and the guest itself at the pod's address.
        assert_eq!(seen(&pod.pod, POD, 80), said("guest", POD));
        assert_eq!(seen(&pod.guest, POD, 80), said("guest", "192.168.254.1"));
    };
    both_ways(&pod);
    for strict in ["all", "br0", "eth0"] {
        pod.pod.run(&format!("sysctl -qw net.ipv4.conf.{strict}.rp_filter=1"));
    }
    both_ways(&pod);
    let made = [
        "1: from all to 192.168.254.2 lookup main proto 190",
        "500: from 192.168.254.2 lookup 100 proto 190",
    ];
    assert_eq!(pod.ours(), made);

    // Killed and started again, they are there once; removed, they come back; the pod's own stay as they are.
    pod.end("KILL");
    pod.start(&[]);
    assert_eq!(pod.ours(), made);
    pod.pod.ip("rule del from 192.168.254.2 lookup 100");
    pod.until("the rule again", |pod| pod.ours() == made);
    pod.pod.ip("rule del to 192.168.254.2 lookup main");
    pod.until("the first rule again", |pod| pod.ours() == made);

    // One that somebody made by hand does as well, and is neither fought for nor taken away.
    pod.end("TERM");
    for rule in [
        "from 192.168.254.2 lookup 100 priority 500 protocol 190",
        "from 192.168.254.2 lookup 100 priority 500",
    ] {
        pod.pod.ip(&format!("rule {} {rule}", if rule.ends_with("190") { "del" } else { "add" }));
    }
    pod.start(&[]);
    both_ways(&pod);
    assert!(!pod.log().contains("our links were changed"), "{}", pod.log());
    pod.pod.ip("rule del from 192.168.254.2 lookup 100 priority 500");
    pod.until("ours for it", |pod| pod.ours() == made);

    // The pod's rules change, and ours with them; without any there is none of ours.
    pod.pod.ip(&format!(
        "rule add from {POD} to 10.60.0.0/16 fwmark 0/1 ipproto tcp dport 80 lookup 70000 priority 400"
    ));
    pod.until("a rule like it", |pod| {
        pod.ours().contains(
            &"400: from 192.168.254.2 to 10.60.0.0/16 fwmark 0/0x1 ipproto tcp dport 80 lookup 70000 proto 190".to_owned(),
        )
    });
    pod.pod.ip("rule del priority 400 from 10.77.0.2");
    pod.until("no rule like it", |pod| pod.ours() == made);
    assert_eq!(
        pod.rules().into_iter().filter(|rule| !rule.ends_with("proto 190")).collect::<Vec<_>>(),
        foreign
    );
    pod.pod.ip(&format!("route add default via {PEER}"));
    pod.pod.ip("rule del priority 500 from 10.77.0.2");
    pod.until("no rule of ours", |pod| pod.ours().is_empty());
    both_ways(&pod);
    assert_eq!(pod.end("TERM"), Some(0));
}

#[test]
fn rules_for_the_pods_sockets_hold_for_the_guest() {
    let mut pod = Pod::new();
    let peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER} table 100"));
    pod.pod.ip("rule add iif lo lookup 100 priority 500");
    pod.start(&[("BERTH_UPLINK", "eth0")]);
    serve(&peer, "peer", 80);
    assert_eq!(seen(&pod.guest, FAR, 80), said("peer", POD));
}

#[test]
fn a_guest_that_would_get_nowhere_is_refused_and_what_is_not_carried_over_is_told() {
    let pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER} table 100"));
    // For everybody but the guest's network: the pod goes there, and nothing of ours changes that.
    pod.pod.ip("rule add not from 192.168.254.0/24 lookup 100 priority 500");
    pod.pod.ip("rule add fwmark 0x7 lookup 100 priority 501");
    let mut command = pod.command("net");
    let output = command.env("BERTH_UPLINK", "eth0").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(12), "{said}");
    assert!(said.contains("192.168.254.2") && said.contains("add an ip rule"), "{said}");
    for rule in ["500: not from 192.168.254.0/24 lookup 100", "501: from all fwmark 0x7 lookup 100"]
    {
        assert_eq!(said.matches(rule).count(), 1, "{rule} in\n{said}");
    }
    assert!(!pod.pod.nft("list tables").contains("berth"), "mapped all the same");
}

#[test]
fn no_default_route_at_all_is_still_code_11() {
    let pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    // A table that no rule leads to is none.
    pod.pod.ip(&format!("route add default via {PEER} table 100"));
    let (code, said) = pod.refused("net");
    assert!(code == Some(11) && said.contains("BERTH_UPLINK"), "{code:?} {said}");
}

#[test]
fn a_guest_network_that_is_a_further_interfaces_too_is_refused() {
    let pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER}"));
    let _other = second(&pod.pod);
    pod.pod.ip("addr add 192.168.254.77/24 dev net1");
    let (code, said) = pod.refused("net");
    assert!(
        code == Some(12) && said.contains("192.168.254.77/24 on net1 overlap"),
        "{code:?} {said}"
    );
}

/// One end of a link without Ethernet in a namespace (tun(4)).
fn tun(netns: &Netns, name: &str) -> OwnedFd {
    netns.within(|| {
        let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        let flags = u16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
        berth::sys::ffi::tun_set_iff(&file, name, flags).unwrap();
        file.into()
    })
}

/// A point-to-point link between two namespaces, as VPN and PPP daemons make it; gone with the test's process.
fn tunnel(a: &Netns, b: &Netns) {
    let (a, b) = (File::from(tun(a, "tun0")), File::from(tun(b, "tun0")));
    for (mut from, mut to) in [(a.try_clone().unwrap(), b.try_clone().unwrap()), (b, a)] {
        std::thread::spawn(move || {
            let mut packet = vec![0; 65_536];
            while let Ok(length) = from.read(&mut packet) {
                let _ = to.write(&packet[..length]);
            }
        });
    }
}

/// Whatever its addresses are, a link without neighbours is as good an uplink as any.
#[test]
fn point_to_point_links_carry_the_guest_both_ways() {
    for (addresses, peers) in [
        (["10.77.0.2 peer 10.77.0.1/32", ""], "10.77.0.1 peer 10.77.0.2/32"),
        (["10.77.0.2/31", ""], "10.77.0.3/31"),
        (["10.77.0.2/32", "10.77.0.1/32"], "10.77.0.1/32"),
    ] {
        let mut pod = Pod::new();
        let peer = Netns::new("peer");
        tunnel(&pod.pod, &peer);
        pod.pod.ip(&format!("addr add {} dev tun0", addresses[0]));
        peer.ip(&format!("addr add {peers} dev tun0"));
        for netns in [&pod.pod, &peer] {
            netns.ip("link set tun0 mtu 1380 up");
        }
        pod.pod.ip("route add default dev tun0");
        peer.ip(&format!("route replace {POD}/32 dev tun0"));
        peer.ip(&format!("addr add {FAR}/32 dev lo"));
        pod.start(&[]);
        serve(&peer, "peer", 80);
        serve(&pod.guest, "guest", 80);
        assert_eq!(seen(&pod.guest, FAR, 80), said("peer", POD), "{addresses:?}");
        peer.ip(&format!("route replace {POD}/32 dev tun0 src {FAR}"));
        assert_eq!(seen(&peer, POD, 80), said("guest", FAR), "{addresses:?}");
        assert!(pod.pod.ip("link show br0").contains("mtu 1380"));

        // The guest's address and names by DHCP and DNS.
        pod.guest.ip("addr flush dev eth0");
        let words = "timeout 20 busybox udhcpc -i eth0 -f -q -n -t 5 -T 1 -s /bin/true";
        let told = pod.guest.command("sh").args(["-c", &format!("{words} 2>&1")]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains("lease of 192.168.254.2 obtained"), "{told}");
        pod.guest.ip("addr add 192.168.254.2/30 dev eth0");
        assert_eq!(
            pod.guest.run("dig @192.168.254.1 +tries=1 +time=5 +short demo").trim(),
            "192.168.254.2"
        );
        assert_eq!(pod.end("TERM"), Some(0));
    }
}

#[test]
fn a_bridge_that_is_deleted_is_made_again_and_served_again() {
    let mut pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER}"));
    pod.start(&[]);
    let resolves = |pod: &Pod| {
        let mut dig = pod.guest.command("dig");
        dig.args(["@192.168.254.1", "+tries=1", "+time=1", "+short", "demo"]);
        dig.output().unwrap().stdout == b"192.168.254.2\n"
    };
    assert!(resolves(&pod));
    for round in 1..=3 {
        pod.pod.ip("link del br0");
        let again = "the bridge was replaced, rebinding DHCP and DNS";
        pod.until("word of it", |pod| pod.log().matches(again).count() == round);
        pod.pod.ip("link set port0 master br0");
        pod.until("names", resolves);
        let words = "timeout 20 busybox udhcpc -i eth0 -f -q -n -t 5 -T 1 -s /bin/true 2>&1";
        let told = pod.guest.command("sh").args(["-c", words]).output().unwrap();
        assert!(
            String::from_utf8(told.stdout).unwrap().contains("lease of 192.168.254.2 obtained")
        );
    }
}

#[test]
fn what_will_not_work_is_told_once_at_the_start() {
    for (resolv_conf, words) in [
        ("", vec!["names no server that can be asked: the guest's names"]),
        (
            "nameserver 192.168.254.1\n",
            vec!["\"192.168.254.1\": the guest's own gateway): the guest's names"],
        ),
        (
            "nameserver fe80::1%eth9\nnameserver ns.example\n",
            vec![
                "(\"fe80::1%eth9\": a link-local name server, and no interface eth9; \"ns.example\": not an address)",
            ],
        ),
        (
            "nameserver fe80::1\nnameserver ns.example\nnameserver 10.77.0.1\n",
            vec![
                "resolv.conf: \"fe80::1\": a link-local name server without its interface, as in fe80::1%eth0; \"ns.example\": not an address, skipped",
            ],
        ),
        ("nameserver fe80::1%eth0\n", vec![]),
        ("nameserver fd00::53\n", vec!["asked (\"fd00::53\": the pod has no IPv6 address)"]),
        ("nameserver fd00::53\nnameserver 10.77.0.1\n", vec![]),
        ("nameserver 127.0.0.53\n", vec![]),
        ("nameserver 10.77.0.1\n", vec![]),
    ] {
        let mut pod = Pod::new();
        let _peer = peer_of(&pod.pod);
        pod.pod.ip(&format!("route add default via {PEER}"));
        std::fs::write(pod.dir.path().join("resolv.conf"), resolv_conf).unwrap();
        pod.start(&[]);
        let log = pod.log();
        assert_eq!(log.matches(" WARN ").count(), words.len(), "{resolv_conf:?}\n{log}");
        for word in words {
            assert_eq!(log.matches(word).count(), 1, "{word:?} in\n{log}");
        }
    }
}

#[test]
fn servers_that_cannot_be_asked_any_more_are_said_once_at_the_change() {
    let mut pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER}"));
    pod.start(&[]);
    assert_eq!(pod.log().matches(" WARN ").count(), 0, "{}", pod.log());
    let path = pod.dir.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 192.168.254.1\n").unwrap();
    let said = "names no server that can be asked (\"192.168.254.1\": the guest's own gateway)";
    pod.until("word of it", |pod| pod.log().contains(said));
    // The healer looks at the pod again, and reads the same.
    pod.pod.ip("addr add 10.77.0.9/24 dev eth0");
    pod.until("the other address", |pod| pod.log().contains("remapped"));
    assert_eq!(pod.log().matches(said).count(), 1, "{}", pod.log());
    std::fs::write(&path, format!("nameserver {PEER}\n")).unwrap();
    pod.until("servers", |pod| pod.log().matches("resolv.conf changed").count() == 2);
    assert_eq!(pod.log().matches(said).count(), 1, "{}", pod.log());
}

/// The kernel answers for all addresses and links at once: dnsmasq as a host runs it.
#[test]
fn ports_that_something_else_has_are_named_with_what_to_do() {
    for (words, what) in [
        ("--port=0 --dhcp-range=10.77.0.50,10.77.0.60", "DHCP, port 67/udp on br0"),
        ("--port=53", "DNS, port 53 on 192.168.254.1"),
    ] {
        let pod = Pod::new();
        let _peer = peer_of(&pod.pod);
        pod.pod.ip(&format!("route add default via {PEER}"));
        let mut other = pod.pod.command("dnsmasq");
        other.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--pid-file",
            "--no-resolv",
        ]);
        let log = pod.dir.path().join("log");
        other.args(["--log-facility=-", "--leasefile-ro"]).args(words.split_whitespace());
        let mut other = other.stderr(File::create(log).unwrap()).spawn().unwrap();
        pod.until("dnsmasq", |pod| pod.log().contains("started"));
        let (code, text) = pod.refused("net");
        let _ = (other.kill(), other.wait());
        assert_eq!(code, Some(18), "{text}");
        let hint =
            "(something else serves there: stop it, or set NO_DHCP to serve neither DHCP nor DNS)";
        assert!(text.contains(&format!("binding {what} {hint}")), "{text}");
    }
}

#[test]
fn an_mtu_that_no_guest_can_live_with_is_told() {
    for (mtu, words) in
        [(68, "every IPv4 host has to take"), (1000, "guests use no IPv6"), (1280, "")]
    {
        let mut pod = Pod::new();
        let _peer = peer_of(&pod.pod);
        pod.pod.ip(&format!("link set eth0 mtu {mtu}"));
        pod.pod.ip(&format!("route add default via {PEER}"));
        pod.start(&[]);
        let log = pod.log();
        assert!(log.contains(words), "{mtu}: {log}");
        assert_eq!(log.matches(" WARN ").count(), usize::from(!words.is_empty()), "{mtu}: {log}");
        assert_eq!(pod.end("TERM"), Some(0));
    }
}

/// What a node that was asked whether it can has to have still: links and addresses, rules, tables.
fn standing(pod: &Pod) -> String {
    let addresses = pod.pod.ip("-o -4 addr");
    [pod.pod.ip("-br link"), addresses, pod.pod.ip("rule"), pod.pod.nft("list ruleset")].concat()
}

#[test]
fn selftest_takes_away_nothing_of_others() {
    let wired = || {
        let pod = Pod::new();
        let peer = peer_of(&pod.pod);
        pod.pod.ip(&format!("route add default via {PEER}"));
        (pod, peer)
    };
    let walk = |pod: &Pod, words: &[&str]| {
        let mut command = pod.command("selftest");
        let output = command.arg("--no-dns").args(words).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    // Links and a table of its names: refused before anything is touched.
    let others = [
        (
            "tap0",
            &["link add tap0 type veth peer name tap9", "addr add 172.16.0.1/24 dev tap0"][..],
            "",
        ),
        ("tap0", &["tuntap add tap0 mode tap"], ""),
        ("br0", &["link add br0 type bridge", "addr add 172.17.0.1/24 dev br0"], ""),
        ("table berth", &[], "add table inet berth"),
    ];
    for (name, links, table) in others {
        let (pod, _peer) = wired();
        links.iter().for_each(|words| drop(pod.pod.ip(words)));
        if !table.is_empty() {
            pod.pod.nft(table);
        }
        let before = standing(&pod);
        let (code, said) = walk(&pod, &[]);
        assert!(code == Some(12) && said.contains(&format!("{name}: there already")), "{said}");
        assert_eq!(standing(&pod), before);
    }
    // Tables that its extra rules name, and policy routing.
    let (pod, _peer) = wired();
    pod.pod.nft("add table inet filter");
    pod.pod.nft("add chain inet filter input { type filter hook input priority 0; }");
    let extra = pod.dir.path().join("extra.json");
    std::fs::write(&extra, pod.pod.nft("-j list ruleset")).unwrap();
    pod.pod.ip(&format!("route add default via {PEER} table 100"));
    let address = format!("{POD}/32");
    pod.pod.ip(&format!("rule add from {address} lookup 100"));
    let before = standing(&pod);
    let (code, said) = walk(&pod, &["--extra-rules", extra.to_str().unwrap()]);
    assert_eq!((code, said.matches("ok ").count()), (Some(0), 3), "{said}");
    assert_eq!(standing(&pod), before);
}

#[test]
fn selftest_without_its_capability_says_so() {
    let pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER}"));
    let mut command = pod.pod.command("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"]);
    command.arg(env!("CARGO_BIN_EXE_berth")).arg("selftest");
    command.env("HOSTNAME", "demo").env("BERTH_STATE_DIR", pod.dir.path().join("state"));
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
}

/// A container in a network of its own, without a name server: everything else is tested, and counts.
#[test]
fn selftest_passes_where_no_name_server_is_to_be_had_and_that_was_said() {
    let pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER}"));
    let before = standing(&pod);
    let walk = |words: &[&str]| {
        let output = pod.command("selftest").args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = walk(&[]);
    assert!(
        code == Some(1)
            && said.contains("FAILED  out through the NAT")
            && said.contains("--no-dns"),
        "{said}"
    );
    let (code, said) = walk(&["--no-dns"]);
    assert_eq!(
        (code, said.matches("ok ").count(), said.matches("FAILED").count()),
        (Some(0), 3, 0),
        "{said}"
    );
    assert!(said.contains("skipped out through the NAT"), "{said}");
    assert_eq!(standing(&pod), before);
}

/// `kubectl exec POD -c net -- berth nft check`: that container has no image.
#[test]
fn the_half_without_a_disk_checks_its_rules() {
    let mut pod = Pod::new();
    let _peer = peer_of(&pod.pod);
    pod.pod.ip(&format!("route add default via {PEER}"));
    pod.start(&[]);
    let check = |pod: &Pod| {
        let mut command = pod.command("nft");
        let output = command.arg("check").env("BERTH_IMAGE_DIR", "/nowhere").output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = check(&pod);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(pod.end("TERM"), Some(0));
    pod.pod.nft("add rule inet berth forward counter comment \"of others\"");
    let (code, said) = check(&pod);
    assert!(code == Some(1) && said.contains("of others"), "{code:?} {said}");
}
