//! Our rules in a kernel, with the real `nft` as judge, each test in network namespaces of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop"
)]

mod support;
#[path = "support/sample.rs"]
mod sample;

use std::fs::File;

use berth::net::{Port, Transport};
use berth::nft::dump::Filter;
use berth::nft::{Family, Ruleset};
use berth::sys::netlink::{Error, Firewall};
use support::Netns;

fn enter(netns: &Netns) {
    let file = File::open(netns.path()).unwrap();
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind)).unwrap();
}

/// A firewall whose socket is in `netns`, made by a thread that goes there and is gone.
fn firewall(netns: &Netns) -> Firewall {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(netns);
                Firewall::start().unwrap()
            })
            .join()
            .unwrap()
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// The rules for the sample pod, with `also` reserved and `others` as further addresses.
fn plan(also: &[Port], others: &[&str]) -> Ruleset {
    let (mut config, mut facts) = (sample::config(), sample::facts());
    config.network.reserved = also.to_vec();
    facts.uplink.others = others.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let link = berth::plan::link::plan(&config, &facts).unwrap();
    berth::plan::nat::plan(&config, &facts, &link)
}

fn rich_plan() -> Ruleset {
    let port = |transport, number| Port { transport, number };
    let also = [port(Transport::Tcp, 22), port(Transport::Udp, 5353), port(Transport::Sctp, 9), port(Transport::Tcp, 5900)];
    plan(&also, &["10.1.1.7/24", "10.9.0.1/16"])
}

fn ours() -> Filter {
    Filter::table(Family::INET, "berth")
}

#[test]
fn our_text_is_what_nft_lists() {
    for ruleset in [plan(&[], &[]), rich_plan()] {
        let pod = Netns::new("pod");
        let firewall = firewall(&pod);
        block_on(firewall.commit(ruleset.clone())).unwrap();
        let listed = pod.nft("list table inet berth");
        assert_eq!(ruleset.to_string(), listed);
        assert_eq!(block_on(firewall.dump(ours())).unwrap().1.to_string(), listed);
    }
}

#[test]
fn what_is_committed_is_what_is_found() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let wanted = rich_plan();
    let committed = block_on(firewall.commit(wanted.clone())).unwrap();
    let (generation, found) = block_on(firewall.dump(ours())).unwrap();
    assert_eq!(generation, committed);
    assert_eq!(found.canonical(), wanted.canonical());
}

#[test]
fn a_second_commit_changes_nothing_and_keeps_the_counters() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let first = block_on(firewall.commit(rich_plan())).unwrap();
    let before = pod.nft("-a list ruleset");
    assert_eq!(block_on(firewall.commit(rich_plan())).unwrap(), first);
    assert_eq!(pod.nft("-a list ruleset"), before);
}

#[test]
fn a_changed_table_is_put_right() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    block_on(firewall.commit(rich_plan())).unwrap();
    let good = pod.nft("list table inet berth");
    for spoil in [
        "flush table inet berth",
        "delete table inet berth",
        "add rule inet berth forward drop",
        "insert rule inet berth prerouting accept",
        "add chain inet berth more",
        "flush ruleset",
    ] {
        pod.nft(spoil);
        assert_ne!(pod.command("nft").args(["list", "ruleset"]).output().unwrap().stdout, good.as_bytes(), "{spoil}");
        block_on(firewall.commit(rich_plan())).unwrap();
        assert_eq!(pod.nft("list table inet berth"), good, "{spoil}");
    }
}

#[test]
fn tables_of_others_are_not_touched() {
    let pod = Netns::new("pod");
    pod.nft("add table inet other { chain c { type filter hook input priority 0; ct state established counter accept; }; }");
    pod.nft("add table ip berth { chain theirs { }; }");
    let before = (pod.nft("-a list table inet other"), pod.nft("-a list table ip berth"));
    let firewall = firewall(&pod);
    block_on(firewall.commit(plan(&[], &[]))).unwrap();
    block_on(firewall.commit(rich_plan())).unwrap();
    block_on(firewall.remove(vec![(Family::INET, "berth".to_owned()), (Family::IP6, "absent".to_owned())])).unwrap();
    assert_eq!((pod.nft("-a list table inet other"), pod.nft("-a list table ip berth")), before);
    assert!(!pod.nft("list tables").contains("inet berth"));
}

#[test]
fn a_refused_rule_is_named_and_nothing_is_left_behind() {
    use berth::nft::{Expr, Rule, Verdict};
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let mut bad = plan(&[], &[]);
    let jump = vec![Expr::counter(), Expr::verdict(Verdict::Jump("nowhere".to_owned()))];
    bad.tables[0].chains[2].rules.push(Rule::new(jump, "a bad one"));
    let error = block_on(firewall.commit(bad)).unwrap_err();
    let wanted = "the kernel refuses rule `counter packets 0 bytes 0 jump nowhere comment \"a bad one\"` \
                  in chain inet berth forward: at expression 2, immediate";
    assert_eq!(error.to_string(), wanted);
    assert!(matches!(error, Error::Refused { source, .. } if source.raw_os_error() == Some(libc::ENOENT)));
    assert_eq!(pod.nft("list ruleset"), "");
}

#[test]
fn rulesets_of_others_survive_a_round_trip() {
    let pod = Netns::new("pod");
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), FOREIGN).unwrap();
    pod.nft(&format!("-f {}", script.path().display()));
    let before = pod.nft("list ruleset");
    let firewall = firewall(&pod);
    let found = block_on(firewall.dump(Filter::default())).unwrap().1;
    pod.nft("flush ruleset");
    block_on(firewall.commit(found.clone())).unwrap();
    assert_eq!(pod.nft("list ruleset"), before);
    assert_eq!(block_on(firewall.dump(Filter::default())).unwrap().1.canonical(), found.canonical());
}

/// Every kind of expression there is a name for, and some there is none for.
const FOREIGN: &str = r#"
table inet stress {
    comment "somebody's"
    counter hits { packets 3 bytes 180 }
    quota most { over 1000 mbytes }
    set hosts { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.5, 192.168.2.0-192.168.2.9 } }
    set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 22-80 } }
    map verdicts { type inet_service : verdict; elements = { 22 : accept, 80 : drop } }
    map names { type inet_service : ipv4_addr; elements = { 22 : 10.0.0.1, 80 : 10.0.0.2 } }
    set seen { type ipv4_addr; size 128; flags dynamic,timeout; timeout 1m; }
    chain sub { counter name "hits" return; }
    chain in {
        type filter hook input priority filter + 5; policy drop;
        ct state established,related accept
        ip saddr @hosts accept
        ip saddr . tcp dport @pairs accept
        tcp dport vmap @verdicts
        tcp dport { 1-5, 9 } goto sub
        limit rate 10/second burst 20 packets log prefix "x " level info jump sub
        limit rate over 2 mbytes/minute drop
        meta mark set 0x2a
        ct mark set meta mark
        udp dport 53 udp checksum set 0
        tcp option maxseg size 100-500 reject with tcp reset
        ip6 saddr fe80::/10 reject with icmpv6 no-route
        update @seen { ip saddr limit rate 5/minute } accept
        fib saddr . iif oif 0 drop
        numgen random mod 2 0 quota name "most" drop
        ip dscp set cs1
        ether saddr 02:00:00:00:00:01 accept
        meta length 100-200 notrack
    }
    chain nat {
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport 1000-2000 dnat ip to 10.0.0.1-10.0.0.9:80-90 random,persistent
        dnat ip to tcp dport map @names
        udp dport 53 redirect to :8080
    }
    chain out {
        type nat hook postrouting priority srcnat; policy accept;
        meta l4proto tcp masquerade to :1024-2048 fully-random
    }
}
table netdev ing { chain c { type filter hook ingress device "lo" priority 0; policy accept; counter; }; }
table bridge br { chain c { type filter hook forward priority filter; ether type arp counter accept; }; }
"#;
