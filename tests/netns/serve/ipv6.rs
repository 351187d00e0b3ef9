//! `berth serve` on a link with IPv6: DHCPv6, router advertisements, names.

mod beside;
mod clients;
mod firmware;

use std::fs;
use std::process::{Command, Stdio};

use crate::serve::{Running, Site};
use crate::support::{Netns, checked, until, veth};

const RANGE: &str = "--range6=fd00::100,fd00::1ff --log=debug";

impl Site {
    /// server s0 fd00::1/64 ── c0 client, without IPv4.
    fn six(words: &str) -> Self {
        let mut site = Self::silent();
        site.server.ip("addr flush dev s0 scope global");
        site.server.ip("addr add fd00::1/64 dev s0 nodad");
        site.launch_as("true", &format!("{RANGE} {words}"));
        site
    }

    /// Once it advertises itself: its link-local address is looked for first.
    fn advertising(words: &str) -> Self {
        let site = Self::six(words);
        until("router advertisements", || site.server_log().contains("serving router adv"));
        until("client's address", || !site.client.ip("-6 addr show dev c0").contains("tentative"));
        site
    }

    /// That it has answered messages of a kind.
    fn answered(&self, message: &str) -> usize {
        self.server_log().matches(&format!("DHCPv6 reply to={message} kind=Reply")).count()
    }

    fn bound(&self) -> Option<String> {
        let listed = self.listed();
        let bound = listed.iter().find(|lease| lease["state"] == "bound")?;
        bound["address"].as_str().map(str::to_owned)
    }

    /// What rdisc6 is told by who answers first.
    fn advertised(&self) -> String {
        checked(self.client.command("timeout").args(["20", "rdisc6", "-1", "c0"]))
    }

    /// A client of perfdhcp's for each exchange; how many there were.
    fn perfdhcp(&self, words: &str) -> usize {
        let words = format!("timeout 60 perfdhcp -6 -l c0 -W 2000000 {words}");
        let mut words = words.split_whitespace();
        let mut command = self.client.command(words.next().unwrap());
        let output = command.args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.matches("drops: 0\n").count(), 2, "{text}");
        assert_eq!(text.matches("non unique addresses: 0\n").count(), 2, "{text}");
        let replied = text.rsplit("received packets: ").next().unwrap();
        replied.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// One who asks for an address, takes it, and ends.
fn lease(netns: &Netns, dir: &std::path::Path, name: &str) {
    let path = |what: &str| dir.join(format!("{name}.{what}"));
    fs::write(path("conf"), format!("timeout 20;\nsend fqdn.fqdn \"{name}\";\n")).unwrap();
    let mut command = netns.command("timeout");
    command.args(["30", "dhclient", "-6", "-1", "-sf", "/bin/true", "-cf"]).arg(path("conf"));
    command.arg("-lf").arg(path("leases")).arg("-pf").arg(path("pid")).arg("c0");
    checked(command.stderr(Stdio::null()));
}

#[test]
fn v01_to_v07_router_advertisements_say_what_was_asked_for() {
    for (words, wanted, unwanted) in [
        (
            "--domain=lan",
            vec![
                "Stateful address conf.    :          Yes",
                "Stateful other conf.      :          Yes",
                "Router lifetime           :         1800",
                "fd00::/64",
                "Autonomous address conf.:           No",
                "Recursive DNS server     : fd00::1",
                "DNS search list          : lan",
                "MTU                      :         1500",
                "Source link-layer address",
            ],
            vec![],
        ),
        (
            "--router-advertisements=slaac --router6=none --dns6=fd00::53",
            vec![
                "Stateful address conf.    :          Yes",
                "Router lifetime           :            0",
                "Autonomous address conf.:          Yes",
                "Recursive DNS server     : fd00::53",
            ],
            vec!["DNS search list"],
        ),
        (
            "--router-advertisements=stateless --no-dns",
            vec![
                "Stateful address conf.    :           No",
                "Stateful other conf.      :          Yes",
                "Autonomous address conf.:          Yes",
            ],
            vec!["Recursive DNS server"],
        ),
    ] {
        let site = Site::advertising(words);
        let said = site.advertised();
        for line in wanted {
            assert!(said.contains(line), "{words}: no {line:?} in {said}");
        }
        assert!(unwanted.iter().all(|line| !said.contains(line)), "{words}: {said}");
    }
}

#[test]
fn v01_another_program_reads_the_advertisement_and_all_packets_are_right() {
    let site = Site::advertising("");
    let file = site.dir.path().join("packets");
    // Else sums are left to a device that is not there.
    site.server.run("ethtool -K s0 tx off");
    site.client.run("ethtool -K c0 tx off");
    let mut command = site.client.command("tcpdump");
    command.args(["-i", "c0", "-U", "--immediate-mode", "-Z", "root", "-w"]).arg(&file);
    command.arg("ip6");
    let tcpdump = Running(command.stderr(Stdio::null()).spawn().unwrap());
    until("tcpdump", || fs::metadata(&file).is_ok_and(|file| file.len() >= 24));
    let (log, path) = site.log("radvdump");
    let _dump = Running(site.client.command("radvdump").stdout(log).spawn().unwrap());
    let dumped = || fs::read_to_string(&path).unwrap_or_default();
    until("radvdump", || {
        site.advertised();
        dumped().contains("AdvManagedFlag on")
    });
    for line in ["AdvOtherConfigFlag on", "prefix fd00::/64", "AdvAutonomous off", "RDNSS fd00::1"]
    {
        assert!(dumped().contains(line), "{}", dumped());
    }
    lease(&site.client, site.dir.path(), "laptop");
    site.client.ip("addr add fd00::9/64 dev c0 nodad");
    for words in ["AAAA gateway.", "-x fd00::1", "A gateway.", "+tcp AAAA gateway."] {
        site.client.run(&format!("dig @fd00::1 +time=2 +tries=2 {words}"));
    }
    drop(tcpdump);
    let read = checked(
        Command::new("tcpdump").args(["-n", "-vvv", "-r"]).arg(&file).stderr(Stdio::null()),
    );
    for wrong in ["bad", "malformed", "invalid", "incorrect", "[|"] {
        let lines: Vec<&str> = read.lines().filter(|line| line.contains(wrong)).collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
    for kind in ["router advertisement", "dhcp6 advertise", "dhcp6 reply", "AAAA fd00::1"] {
        assert!(read.contains(kind), "{kind}: {read}");
    }
}

#[test]
fn names_of_clients_have_addresses_and_pointers_of_both_families() {
    let mut site = Site::silent();
    site.server.ip("addr add fd00::1/64 dev s0 nodad");
    let words = "--range=10.0.1.1,10.0.1.9 --reserve6=02:00:00:00:00:77,fd00::77,printer \
                 --domain=lan --upstream=10.0.0.9 --host=nas=fd00::8";
    site.launch_as("true", &format!("{RANGE} {words}"));
    until("client's address", || !site.client.ip("-6 addr show dev c0").contains("tentative"));
    lease(&site.client, site.dir.path(), "laptop");
    let address = site.bound().unwrap();
    site.client.ip("addr add fd00::9/64 dev c0 nodad");
    site.client.ip("addr add 10.0.0.9/16 dev c0");
    let dig = |words: &str| {
        let words = format!("dig +short +time=2 +tries=2 {words}");
        site.client.run(&words).trim().to_owned()
    };
    until("name", || dig("@fd00::1 AAAA laptop.lan") == address);
    for server in ["fd00::1", "10.0.0.1"] {
        assert_eq!(dig(&format!("@{server} -x {address}")), "laptop.lan.");
        assert_eq!(dig(&format!("@{server} A laptop.lan")), "");
        assert_eq!(dig(&format!("@{server} AAAA printer")), "fd00::77");
        assert_eq!(dig(&format!("@{server} -x fd00::77")), "printer.lan.");
        assert_eq!(dig(&format!("@{server} +tcp AAAA nas.lan")), "fd00::8");
        assert_eq!(dig(&format!("@{server} AAAA gateway")), "fd00::1");
    }
    // A name of ours that nobody has, and an address: no server is asked.
    for words in ["AAAA nobody.lan", "-x fd00::dead"] {
        let answer = site.client.run(&format!("dig @fd00::1 +time=2 +tries=1 {words}"));
        assert!(answer.contains("status: NXDOMAIN"), "{answer}");
    }
    // The same name by IPv4: both.
    fs::write(site.dir.path().join("v4.conf"), "send host-name \"laptop\";\n").unwrap();
    let mut command = site.client.command("timeout");
    command.args(["30", "dhclient", "-4", "-1", "-sf", "/bin/true", "-cf"]);
    command.arg(site.dir.path().join("v4.conf")).arg("-lf").arg(site.dir.path().join("v4.leases"));
    checked(command.arg("-pf").arg(site.dir.path().join("v4.pid")).arg("c0").stderr(Stdio::null()));
    until("IPv4 name", || dig("@fd00::1 A laptop.lan") == "10.0.1.1");
    assert_eq!(dig("@10.0.0.1 AAAA laptop.lan"), address);
}

#[test]
fn v22_nothing_told_is_lost_when_the_server_is_killed() {
    let mut site = Site::six("--lease-sync");
    until("client's address", || !site.client.ip("-6 addr show dev c0").contains("tentative"));
    let before = site.perfdhcp("-r 50 -R 50 -n 50");
    assert_eq!(before, 50);
    let told = site.listed();
    drop(site.serving.take());
    site.launch_as("true", RANGE);
    assert_eq!(site.listed(), told);
    // Others, with other DUIDs, have other addresses.
    site.perfdhcp("-r 50 -R 50 -n 50");
    let listed = site.listed();
    assert!(told.iter().all(|lease| listed.contains(lease)), "{told:?} {listed:?}");
    assert_eq!(listed.len(), told.len() + 50);
    let file = fs::read_to_string(site.leases()).unwrap();
    assert!(file.starts_with("berth-leases 2\nbound fd00::"), "{file}");
}

#[test]
fn perfdhcp_loses_nothing_and_gives_no_address_twice() {
    let site = Site::six("--range6=fd00::1:0,fd00::ffff:ffff");
    until("client's address", || !site.client.ip("-6 addr show dev c0").contains("tentative"));
    let replied = site.perfdhcp("-r 200 -R 50000 -n 1200");
    assert!(replied >= 1200, "{replied}");
    assert_eq!(site.listed().len(), replied);
}

/// An IPv4 server's file has IPv6 leases from then on, and keeps them while there is no IPv6.
#[test]
fn an_earlier_lease_file_is_upgraded_and_both_families_stay_in_it() {
    let mut site = Site::silent();
    let lines =
        "berth-leases 1\nbound 10.0.1.7 4102444800 1/02:00:00:00:00:07 01020000000007 laptop";
    let line = lines.lines().nth(1).unwrap().to_owned() + " ";
    let sum = format!("{:08x}", crc32fast::hash(line.as_bytes()));
    fs::write(site.leases(), format!("{lines} {sum}\n")).unwrap();
    site.server.ip("addr add fd00::1/64 dev s0 nodad");
    let both = "--range=10.0.1.1,10.0.1.9 --no-dns --max-lease-time=infinite";
    site.launch_as("true", &format!("{RANGE} {both}"));
    until("client's address", || !site.client.ip("-6 addr show dev c0").contains("tentative"));
    lease(&site.client, site.dir.path(), "phone");
    let addresses = |site: &Site| -> Vec<String> {
        let listed = site.listed();
        listed.iter().map(|lease| lease["address"].as_str().unwrap().to_owned()).collect()
    };
    let all = addresses(&site);
    assert_eq!((all.len(), all[0].as_str()), (2, "10.0.1.7"));
    let file = || fs::read_to_string(site.leases()).unwrap();
    until("upgraded file", || file().starts_with("berth-leases 2\n"));
    for words in [both, RANGE] {
        drop(site.serving.take());
        site.launch_as("true", words);
        assert_eq!(addresses(&site), all);
    }
}

#[test]
fn ipv6_is_followed_as_its_address_comes_changes_and_goes() {
    let mut site = Site::silent();
    let words = "--range=10.0.1.1,10.0.1.9 --no-dns --router-advertisements=slaac --log=debug";
    site.launch_as("true", words);
    let says = |words: &str| site.server_log().contains(words);
    assert!(says("has no IPv6 address but link-local ones"), "{}", site.server_log());
    site.server.ip("addr add fd00::1/64 dev s0");
    until("IPv6", || says("serving DHCPv6") && says("serving router adv"));
    until("client's address", || !site.client.ip("-6 addr show dev c0").contains("tentative"));
    site.server.ip("addr add fd00::2/64 dev s0 nodad");
    site.server.ip("addr del fd00::1/64 dev s0");
    until("another address", || says("our IPv6 address changed, serving from the new one"));
    until("router", || {
        site.advertised().contains("Recursive DNS server") || says("serving router")
    });
    // Of another network: what hosts made of the former one is not used any more.
    site.server.ip("addr del fd00::2/64 dev s0");
    site.server.ip("addr add fd01::1/64 dev s0 nodad");
    until("former prefix", || {
        let said = site.advertised();
        let (now, gone) = (said.find("fd01::/64"), said.find("fd00::/64"));
        now.is_some()
            && gone.is_some_and(|at| said[at..].contains("Pref. time              :            0"))
    });
    site.server.ip("addr flush dev s0 scope global");
    until("none", || {
        site.server_log().matches("IPv6 is not served until it has one").count() > 1
            || says("nothing is served")
    });
    // With IPv6 alone: nothing is asked for of IPv4.
    drop(site.serving.take());
    site.server.ip("addr add fd00::1/64 dev s0 nodad");
    site.launch_as("true", RANGE);
    lease(&site.client, site.dir.path(), "phone");
    assert!(site.bound().is_some());
}

/// server s0 ── c0 relay r0 fd00:0:0:2::1 ── c0 client: dhcrelay sends what it hears to our address.
#[test]
fn v21_clients_behind_a_relay_agent_have_addresses_of_their_network() {
    let site = Site::six("--relayed6=fd00:0:0:2::/64,fd00:0:0:2::100,fd00:0:0:2::1ff");
    let far = Netns::new("far");
    veth(&site.client, "r0", &far, "c0");
    site.client.ip("addr add fd00::9/64 dev c0 nodad");
    site.client.ip("addr add fd00:0:0:2::1/64 dev r0 nodad");
    let mut command = site.client.command("dhcrelay");
    command.args(["-6", "-d", "-l", "r0", "-u", "fd00::1%c0", "--no-pid"]);
    let _relay = Running(command.stderr(Stdio::null()).spawn().unwrap());
    until("addresses", || !far.ip("-6 addr show dev c0").contains("tentative"));
    until("relay's address", || !site.client.ip("-6 addr show").contains("tentative"));
    lease(&far, site.dir.path(), "far");
    assert!(site.bound().unwrap().starts_with("fd00:0:0:2::1"), "{:?}", site.listed());
}
