//! Two servers and a relay on one link: each client has one lease of one server, and nobody is told no.
//!
//! ```text
//! server s0 ── c0 ┐                ┌ m0 ── e0 another server (dnsmasq)
//!                 [br0, a switch] ─┼ m1 ── e0 a client, and so on
//!                                  └ mN ── e0 a relay (dnsmasq), e1 ── e0 a client behind it
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::serve::{Running, Site};
use crate::support::{Netns, checked, until, veth};

const SHORT: &str = "--lease-time=6 --min-lease-time=6";

/// The client's side of a site as a switch.
struct Switch {
    site: Site,
    members: usize,
}

/// `udhcpc` in a namespace of its own: why its script was called, and with which address.
struct Client {
    told: PathBuf,
    running: Running,
}

impl Client {
    fn start(site: &Site, netns: &Netns, name: &str) -> Self {
        let (script, told) =
            (site.dir.path().join(format!("{name}.sh")), site.dir.path().join(name));
        let text = format!(
            "#!/bin/sh\necho \"$1 $ip $router $serverid\" >>{}\n\
             case \"$1\" in bound|renew) ip addr replace $ip/16 dev e0;; deconfig) ip addr flush dev e0;; esac\n",
            told.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = netns.command("busybox");
        command
            .args(["udhcpc", "-i", "e0", "-f", "-t", "20", "-T", "1", "-A", "1", "-s"])
            .arg(script);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { told, running: Running(child) }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.told).unwrap_or_default()
    }

    /// Address, router and server.
    fn bound(&self) -> [String; 3] {
        until("lease", || self.told().contains("bound"));
        let told = self.told();
        let bound: Vec<&str> =
            told.lines().find(|line| line.starts_with("bound")).unwrap().split(' ').collect();
        [1, 2, 3].map(|at| bound[at].to_owned())
    }

    /// It was bound once, and is what it was then after two renewals, which it broadcasts.
    fn check(&self) -> [String; 3] {
        let kept = self.bound();
        for number in 1..=2 {
            checked(Command::new("kill").args(["-USR1", &self.running.0.id().to_string()]));
            until("renewal", || self.told().matches("renew").count() >= number);
        }
        let told = self.told();
        let wanted = format!(" {} {} {}", kept[0], kept[1], kept[2]);
        for line in told.lines().filter(|line| !line.starts_with("deconfig")) {
            let what = line.strip_suffix(wanted.as_str());
            assert!(matches!(what, Some("bound" | "renew")), "{told}");
        }
        assert_eq!(told.matches("bound").count(), 1, "{told}");
        kept
    }
}

impl Switch {
    fn new() -> Self {
        let site = Site::silent();
        site.client.ip("link add br0 type bridge");
        site.client.ip("link set br0 up");
        site.client.ip("link set c0 master br0");
        Self { site, members: 0 }
    }

    /// A namespace with e0 on the link.
    fn member(&mut self, role: &str) -> Netns {
        let netns = Netns::new(role);
        let port = format!("m{}", self.members);
        self.members += 1;
        veth(&netns, "e0", &self.site.client, &port);
        self.site.client.ip(&format!("link set {port} master br0"));
        netns
    }

    /// It serves some addresses of the same network.
    fn other_server(&mut self) -> (Netns, Running, PathBuf) {
        let netns = self.member("other");
        netns.ip("addr add 10.0.0.2/16 dev e0");
        let leases = self.site.dir.path().join("other.leases");
        let mut words = vec!["--dhcp-range=10.0.251.10,10.0.251.200,255.255.0.0,2m"];
        let leased = format!("--dhcp-leasefile={}", leases.display());
        words.push(&leased);
        let running = dnsmasq(&netns, &words);
        (netns, running, leases)
    }
}

fn dnsmasq(netns: &Netns, words: &[&str]) -> Running {
    let mut command = netns.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--pid-file",
        "--user=root",
    ]);
    command.args(["--no-ping", "--log-facility=/dev/null"]).args(words);
    let running = Running(command.stdout(Stdio::null()).spawn().unwrap());
    until("dnsmasq", || netns.run("ss -Hlnu sport = 67").contains(":67"));
    running
}

/// Some clients meet the one first, some the other, some both at once.
#[test]
fn clients_of_two_servers_on_one_link_keep_their_leases() {
    for authoritative in [false, true] {
        let mut switch = Switch::new();
        let (_other, _running, other_leases) = switch.other_server();
        let members: Vec<Netns> = (0..5).map(|_| switch.member("client")).collect();
        // Alone with the other server.
        let first = Client::start(&switch.site, &members[0], "first");
        until("lease of the other server", || first.told().contains("bound 10.0.251."));
        let policy = if authoritative { "" } else { "--not-authoritative" };
        switch.site.serve(&format!("{SHORT} --router=10.0.0.1 --log=debug {policy}"));
        let clients: Vec<Client> = members[1..]
            .iter()
            .enumerate()
            .map(|(number, netns)| Client::start(&switch.site, netns, &format!("client{number}")))
            .collect();
        let all = || clients.iter().chain([&first]);
        let mut kept: Vec<[String; 3]> = all().map(Client::bound).collect();
        assert!(
            !switch.site.server_log().contains("kind=Some(Nak)"),
            "{}",
            switch.site.server_log()
        );
        for (client, kept) in all().zip(&mut kept) {
            // Who speaks for all tells a client that rebinds to another server that it is wrong.
            if !authoritative || kept[2] == "10.0.0.1" {
                assert_eq!(client.check(), *kept);
            }
        }
        let other = fs::read_to_string(other_leases).unwrap();
        for [address, router, server] in &kept {
            let theirs = address.starts_with("10.0.251.");
            assert_eq!(*server, if theirs { "10.0.0.2" } else { "10.0.0.1" }, "{kept:?}");
            assert_eq!(router, server, "{kept:?}");
            // Who has it, and nobody else.
            assert_eq!(other.contains(&format!(" {address} ")), theirs, "{other}");
        }
        let ours = kept.iter().filter(|[_, _, server]| server == "10.0.0.1").count();
        let live = switch.site.listed().iter().filter(|lease| lease["state"] == "bound").count();
        assert_eq!(live, ours, "{:?}", switch.site.listed());
        let mut addresses: Vec<&String> = kept.iter().map(|[address, ..]| address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 5);
        assert!(
            !switch.site.server_log().contains("kind=Some(Nak)"),
            "{}",
            switch.site.server_log()
        );
    }
}

/// INIT-REBOOT (RFC 2131 §4.3.2): dhclient asks both servers for what it had of the other one.
#[test]
fn a_client_of_the_other_server_reboots_without_a_no() {
    let mut switch = Switch::new();
    let (_other, _running, _) = switch.other_server();
    let netns = switch.member("client");
    let path = |name: &str| switch.site.dir.path().join(name);
    let (conf, leases, log) =
        (path("dhclient.conf"), path("dhclient.leases"), path("dhclient.log"));
    fs::write(&conf, "timeout 20;\nretry 1;\ninitial-interval 1;\n").unwrap();
    fs::write(&leases, "").unwrap();
    let start = || {
        let mut command = netns.command("dhclient");
        command
            .args(["-4", "-d", "-v", "-sf", "/bin/true", "-cf"])
            .arg(&conf)
            .arg("-lf")
            .arg(&leases);
        let log = fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        Running(
            command
                .args(["-pf", "/dev/null", "e0"])
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        )
    };
    let says = |words: &str| fs::read_to_string(&log).unwrap().matches(words).count();
    let first = start();
    until("lease", || says("bound to 10.0.251.") == 1);
    drop(first);
    let before = says("DHCPDISCOVER");
    switch.site.serve("--not-authoritative");
    let second = start();
    until("the same lease", || says("bound to 10.0.251.") == 2);
    drop(second);
    assert_eq!(
        (says("DHCPNAK"), says("DHCPDISCOVER")),
        (0, before),
        "{}",
        fs::read_to_string(&log).unwrap()
    );
    assert_eq!(switch.site.listed().len(), 0);
}

/// A relay hears the link that the server hears, too, and a link that it does not.
#[test]
fn a_relay_on_the_link_and_behind_it_gives_each_client_one_lease() {
    let mut switch = Switch::new();
    let relay = switch.member("relay");
    let (near, far) = (switch.member("near"), Netns::new("far"));
    veth(&relay, "e1", &far, "e0");
    relay.ip("addr add 10.0.0.9/16 dev e0");
    relay.ip("addr add 10.2.0.1/24 dev e1");
    relay.run("sysctl -qw net.ipv4.ip_forward=1");
    switch.site.server.ip("route add 10.2.0.0/24 via 10.0.0.9");
    let _relaying =
        dnsmasq(&relay, &["--dhcp-relay=10.0.0.9,10.0.0.1", "--dhcp-relay=10.2.0.1,10.0.0.1"]);
    switch
        .site
        .serve(&format!("{SHORT} --relayed=10.2.0.0/24,10.2.0.10,10.2.0.20,10.2.0.1 --log=debug"));
    let near = Client::start(&switch.site, &near, "near");
    let far_client = Client::start(&switch.site, &far, "far");
    until("lease", || far_client.told().contains("bound"));
    far.ip("route replace default via 10.2.0.1 dev e0 onlink");
    assert_eq!(near.check(), ["10.0.1.1", "10.0.0.1", "10.0.0.1"].map(str::to_owned));
    assert_eq!(far_client.check(), ["10.2.0.10", "10.2.0.1", "10.0.0.1"].map(str::to_owned));
    // The near client's packets came by the relay as well.
    let log = switch.site.server_log();
    assert!(!log.contains("kind=Some(Nak)"), "{log}");
    let offers = log.matches("kind=Some(Offer)").count();
    assert!(offers >= 3, "two for the near client, one for the far one: {log}");
    let listed = switch.site.listed();
    let mut addresses: Vec<&str> =
        listed.iter().map(|lease| lease["address"].as_str().unwrap()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["10.0.1.1", "10.2.0.10"], "{listed:?}");
}
