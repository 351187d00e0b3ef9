//! Our rules in a kernel, with the real `nft` as judge, each test in network namespaces of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use crate::support::site::{
    GATEWAY, GUEST, PEER, POD, Site, ask, block_on, dial, firewall, mapping, plan, plan_with,
    rich_plan, said, serve, talk, udp_socket,
};
use crate::support::{self, Netns, sample};
use berth::config::MetadataAddress;
use berth::net::{Port, Transport};
use berth::nft::dump::Filter;
use berth::nft::{Chain, Family, Ruleset};
use berth::plan::nat::Abilities;
use berth::sys::netlink::{Error, Firewall};

/// What an operator reads in `berth plan` and in `nft list ruleset`.
#[test]
fn the_rules_of_a_plain_pod() {
    let port = |transport, number| Port { transport, number };
    let also = [port(Transport::Tcp, 9180), port(Transport::Udp, 161)];
    let wanted = r#"table inet berth {
	comment "the pod's address is the guest's; replaced as a whole by berth"
	chain raw {
		type filter hook prerouting priority -450; policy accept;
		meta nfproto ipv6 iifname "br0" counter packets 0 bytes 0 drop comment "from the guest: IPv6, of which it has none here"
		iifname "br0" ip saddr != 192.168.254.2 ip saddr != 0.0.0.0 counter packets 0 bytes 0 drop comment "from the guest, but not with its address"
		ip daddr 192.168.254.0/30 iifname != "br0" iifname != "lo" counter packets 0 bytes 0 drop comment "from others to the guest's network, which is the pod's own affair"
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 10.1.1.2 tcp dport { 5900, 9180 } counter packets 0 bytes 0 return comment "TCP ports that stay with the pod"
		ip daddr 10.1.1.2 udp dport 161 counter packets 0 bytes 0 return comment "UDP ports that stay with the pod"
		ip daddr 10.1.1.2 counter packets 0 bytes 0 dnat ip to 192.168.254.2 comment "to the pod: every protocol and port is the guest's"
	}

	chain input {
		type filter hook input priority filter; policy accept;
		iifname "br0" jump from-guest comment "from the guest: what it was given"
		iifname "tap0" counter packets 0 bytes 0 drop comment "from the guest, past the bridge: nothing"
	}

	chain from-guest {
		iifname "br0" ct state related ct original ip saddr != 192.168.254.2 ct reply ip saddr != 192.168.254.2 counter packets 0 bytes 0 drop comment "from the guest: errors about connections that are not its own"
		ct state established,related accept comment "answers to the pod's own connections"
		ip daddr 192.168.254.1 icmp type echo-request accept comment "ping of the gateway"
		ip daddr 192.168.254.1 tcp dport 53 accept comment "TCP ports that are the guest's to ask at the gateway"
		ip daddr 192.168.254.1 udp dport { 53, 67 } accept comment "UDP ports that are the guest's to ask at the gateway"
		ip daddr 255.255.255.255 udp dport 67 accept comment "DHCP of a client that knows no server"
		counter packets 0 bytes 0 drop comment "from the guest to the pod, and not opened to it"
	}

	chain forward {
		type filter hook forward priority mangle; policy accept;
		iifname "br0" tcp flags syn counter packets 0 bytes 0 tcp option maxseg size set rt mtu comment "from the guest: TCP segments no larger than the route takes"
		oifname "br0" tcp flags syn counter packets 0 bytes 0 tcp option maxseg size set rt mtu comment "to the guest: TCP segments no larger than the route takes"
		ct state invalid,related jump invalid comment "of no connection, or about one: what is not the guest's is dropped"
	}

	chain invalid {
		iifname "br0" ct state invalid counter packets 0 bytes 0 drop comment "from the guest, of no connection: it would leave untranslated"
		iifname "br0" ct state related ct original ip saddr != 192.168.254.2 ct reply ip saddr != 192.168.254.2 counter packets 0 bytes 0 drop comment "from the guest: errors about connections that are not its own"
	}

	chain output {
		type nat hook output priority -100; policy accept;
		ip daddr 10.1.1.2 tcp dport { 5900, 9180 } counter packets 0 bytes 0 return comment "TCP ports that stay with the pod"
		ip daddr 10.1.1.2 udp dport 161 counter packets 0 bytes 0 return comment "UDP ports that stay with the pod"
		ip daddr 10.1.1.2 counter packets 0 bytes 0 dnat ip to 192.168.254.2 comment "from the pod to its own address: the guest's too"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 192.168.254.2 tcp sport { 5900, 9180 } oifname "eth0" counter packets 0 bytes 0 snat ip to 10.1.1.2:16384-32767 comment "guest to the world from TCP ports that stay with the pod"
		ip saddr 192.168.254.2 tcp sport { 5900, 9180 } oifname != "br0" counter packets 0 bytes 0 masquerade to :16384-32767 comment "guest elsewhere from TCP ports that stay with the pod"
		ip saddr 192.168.254.2 udp sport 161 oifname "eth0" counter packets 0 bytes 0 snat ip to 10.1.1.2:16384-32767 comment "guest to the world from UDP ports that stay with the pod"
		ip saddr 192.168.254.2 udp sport 161 oifname != "br0" counter packets 0 bytes 0 masquerade to :16384-32767 comment "guest elsewhere from UDP ports that stay with the pod"
		ip saddr 192.168.254.2 oifname "br0" ct status dnat counter packets 0 bytes 0 masquerade comment "guest to its own pod address: replies must come back this way"
		ip saddr 192.168.254.2 oifname "eth0" counter packets 0 bytes 0 snat ip to 10.1.1.2 comment "guest to the world: as the pod"
		ip saddr 192.168.254.2 oifname != "br0" counter packets 0 bytes 0 masquerade comment "guest through any other interface of the pod"
	}
}
table arp berth {
	comment "the guest's neighbour is the gateway alone; replaced as a whole by berth"
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "br0" arp saddr ip { 0.0.0.0, 192.168.254.2 } accept comment "from the guest: its address, or none yet (RFC 5227)"
		iifname "br0" counter packets 0 bytes 0 drop comment "from the guest, but not with its address"
		iifname "tap0" counter packets 0 bytes 0 drop comment "from the guest, past the bridge: nothing"
	}
}
"#;
    assert_eq!(plan(&also, &[]).to_string(), wanted);
}

#[test]
fn no_port_is_reserved_when_vnc_was_given_away() {
    let mut config = sample::config();
    config.machine.reserve_vnc = false;
    let link = berth::plan::link::plan(&config, &sample::facts().net, 65534).unwrap();
    let text = berth::plan::nat::plan(&config, &sample::facts().net, &link).to_string();
    assert!(!text.contains("return") && text.contains("dnat ip to"), "{text}");
}

/// A decoder by other hands understands what we send, and would send the same.
#[test]
fn another_codec_reads_our_transaction_and_writes_the_same_bytes() {
    use netlink_packet_core::NetlinkMessage;
    use netlink_packet_netfilter::NetfilterMessage;
    let batch = berth::nft::Batch::replace(&rich_plan(), &Ruleset::default(), None, 1).unwrap();
    let mut rest = batch.bytes();
    let mut messages = 0;
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(&rest[..length]).unwrap();
        let mut again = vec![0; message.buffer_len()];
        message.serialize(&mut again);
        assert_eq!(again, rest[..length], "{message:?}");
        rest = &rest[length..];
        messages += 1;
    }
    assert_eq!(messages, batch.len());
}

#[test]
fn our_text_is_what_nft_lists() {
    for ruleset in [plan(&[], &[]), rich_plan()] {
        let pod = Netns::new("pod");
        let firewall = firewall(&pod);
        block_on(firewall.commit(ruleset.clone())).unwrap();
        let listed = pod.nft("list ruleset");
        assert_eq!(ruleset.to_string(), listed);
        assert_eq!(block_on(firewall.dump(Filter::default())).unwrap().1.to_string(), listed);
    }
}

#[test]
fn what_is_committed_is_what_is_found() {
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let wanted = rich_plan();
    let committed = block_on(firewall.commit(wanted.clone())).unwrap();
    let (generation, found) = block_on(firewall.dump(Filter::default())).unwrap();
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
    let good = pod.nft("list ruleset");
    for spoil in [
        "flush table arp berth",
        "delete table arp berth",
        "insert rule arp berth input accept",
        "flush table inet berth",
        "delete table inet berth",
        "add rule inet berth forward drop",
        "insert rule inet berth prerouting accept",
        "add chain inet berth more",
        "flush ruleset",
    ] {
        pod.nft(spoil);
        assert_ne!(
            pod.command("nft").args(["list", "ruleset"]).output().unwrap().stdout,
            good.as_bytes(),
            "{spoil}"
        );
        block_on(firewall.commit(rich_plan())).unwrap();
        let listed = ["inet", "arp"].map(|family| pod.nft(&format!("list table {family} berth")));
        assert_eq!(listed.concat(), good, "{spoil}");
    }
}

#[test]
fn readers_see_whole_rulesets_while_writers_race() {
    const ROUNDS: usize = 300;
    let pod = Netns::new("pod");
    let variants = [plan(&[], &[]), rich_plan()];
    let (reader, one, two) = (firewall(&pod), firewall(&pod), firewall(&pod));
    block_on(one.commit(variants[0].clone())).unwrap();
    let canonical = variants.each_ref().map(Ruleset::canonical);
    std::thread::scope(|scope| {
        for writer in [&one, &two] {
            let variants = &variants;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    block_on(writer.commit(variants[round % 2].clone())).unwrap();
                }
            });
        }
        for round in 0..ROUNDS {
            let found = block_on(reader.dump(Filter::default())).unwrap().1.canonical();
            assert!(canonical.contains(&found), "round {round}:\n{found}");
        }
    });
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
    let ours = [(Family::INET, "berth"), (Family::ARP, "berth"), (Family::IP6, "absent")];
    let ours = ours.map(|(family, name)| (family, name.to_owned()));
    block_on(firewall.remove(ours.to_vec())).unwrap();
    assert_eq!((pod.nft("-a list table inet other"), pod.nft("-a list table ip berth")), before);
    let left = pod.nft("list tables");
    assert!(!left.contains("inet berth") && !left.contains("arp berth"), "{left}");
}

fn chain<'a>(ruleset: &'a mut Ruleset, name: &str) -> &'a mut Chain {
    ruleset.tables[0].chains.iter_mut().find(|chain| chain.name == name).unwrap()
}

#[test]
fn a_refused_rule_is_named_and_nothing_is_left_behind() {
    use berth::nft::{Expr, Rule, Verdict};
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let mut bad = plan(&[], &[]);
    let jump = vec![Expr::counter(), Expr::verdict(Verdict::Jump("nowhere".to_owned()))];
    chain(&mut bad, "forward").rules.push(Rule::new(jump, "a bad one"));
    let error = block_on(firewall.commit(bad)).unwrap_err();
    let wanted = "the kernel refuses rule `counter packets 0 bytes 0 jump nowhere comment \"a bad one\"` \
                  in chain inet berth forward: at expression 2, immediate";
    assert_eq!(error.to_string(), wanted);
    assert!(
        matches!(error, Error::Refused { source, .. } if source.raw_os_error() == Some(libc::ENOENT))
    );
    assert_eq!(pod.nft("list ruleset"), "");
}

#[test]
fn what_the_kernel_lacks_is_named() {
    use berth::nft::{Expr, Rule};
    let pod = Netns::new("pod");
    let firewall = firewall(&pod);
    let mut ahead = plan(&[], &[]);
    let future = Expr::Unknown { name: "nosuch".to_owned(), bytes: Vec::new() };
    chain(&mut ahead, "forward").rules.push(Rule::new(vec![future], "of tomorrow"));
    let error = block_on(firewall.commit(ahead)).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "this kernel has no expression nosuch (module nft_nosuch), which rule `<nosuch 0x> comment"
        ),
        "{error}"
    );

    let mut ahead = plan(&[], &[]);
    chain(&mut ahead, "output").hook.as_mut().unwrap().kind = "nosuch".to_owned();
    let error = block_on(firewall.commit(ahead)).unwrap_err().to_string();
    assert!(
        error.contains(
            "no chains of type nosuch (module nft_chain_nosuch), which chain inet berth output"
        ),
        "{error}"
    );

    // DECnet's, which no kernel has tables for; nothing is left of the others in the transaction.
    let mut ahead = plan(&[], &[]);
    ahead.tables[1].family = Family(12);
    let error = block_on(firewall.commit(ahead)).unwrap_err();
    assert!(matches!(error, Error::NoFamily { family: Family(12), .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "this kernel has no tables of family family12, which table family12 berth is: it was built without them"
    );
    assert_eq!(pod.nft("list ruleset"), "");
    let without_arp = Abilities { arp: false, ..Abilities::ALL };
    let kept = without_arp.of(&plan(&[], &[]));
    assert_eq!(kept.tables, plan(&[], &[]).tables[..1]);
}

#[test]
fn a_process_without_the_capability_is_told_which() {
    let pod = Netns::new("pod");
    let error = pod.within(|| {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, sets).unwrap();
        let firewall = Firewall::start().unwrap();
        block_on(firewall.commit(plan(&[], &[]))).unwrap_err()
    });
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    assert!(matches!(error, Error::Talk(source) if source.raw_os_error() == Some(libc::EPERM)));
}

#[test]
fn rulesets_of_others_survive_a_round_trip() {
    let pod = Netns::new("pod");
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), FOREIGN).unwrap();
    pod.nft(&format!("-f {}", script.path().display()));
    let before = pod.nft("list ruleset");
    let firewall = firewall(&pod);
    let found = block_on(firewall.dump(Filter::default())).unwrap().1;
    pod.nft("flush ruleset");
    block_on(firewall.commit(found.clone())).unwrap();
    assert_eq!(pod.nft("list ruleset"), before);
    assert_eq!(
        block_on(firewall.dump(Filter::default())).unwrap().1.canonical(),
        found.canonical()
    );
}

#[test]
fn a_ruleset_of_others_reads_as_nft_lists_it() {
    let pod = Netns::new("pod");
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), FOREIGN).unwrap();
    pod.nft(&format!("-f {}", script.path().display()));
    let listed = pod.nft("list ruleset");
    assert_eq!(block_on(firewall(&pod).dump(Filter::default())).unwrap().1.to_string(), listed);
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

fn tcp(from: &Netns, host: &str, port: u16) -> Option<String> {
    talk(&mut dial(from, host, port)?)
}

fn udp(from: &Netns, host: &str, port: u16) -> Option<String> {
    ask(&udp_socket(from, "0.0.0.0"), host, port)
}

/// Packets counted by the rule whose comment holds `comment`, in all chains.
fn counted(netns: &Netns, comment: &str) -> u64 {
    let listing = netns.nft("list table inet berth");
    let lines = listing.lines().filter(|line| line.contains(comment));
    lines
        .map(|line| {
            line.split("packets ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum()
}

#[test]
fn the_world_reaches_the_guest_at_the_pods_address_and_is_seen_as_itself() {
    let site = Site::with_rules();
    serve(&site.guest, "guest", 80);
    serve(&site.pod, "pod", 80);
    assert_eq!(tcp(&site.peer, POD, 80), said("guest", PEER));
    assert_eq!(udp(&site.peer, POD, 80), said("guest", PEER));
    site.guest.run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1");
    assert!(!ping(&site.peer, POD), "the pod answered a ping that is the guest's");
    site.guest.run("sysctl -qw net.ipv4.icmp_echo_ignore_all=0");
    assert!(ping(&site.peer, POD));
}

fn ping(from: &Netns, host: &str) -> bool {
    from.command("ping").args(["-c1", "-W1", host]).output().unwrap().status.success()
}

#[test]
fn reserved_ports_stay_with_the_pod() {
    let site = Site::new();
    site.commit(&[Port { transport: Transport::Udp, number: 5353 }]);
    for port in [5900, 5353] {
        serve(&site.guest, "guest", port);
        serve(&site.pod, "pod", port);
    }
    assert_eq!(tcp(&site.peer, POD, 5900), said("pod", PEER));
    assert_eq!(udp(&site.peer, POD, 5900), said("guest", PEER));
    assert_eq!(udp(&site.peer, POD, 5353), said("pod", PEER));
    assert_eq!(tcp(&site.peer, POD, 5353), said("guest", PEER));
}

#[test]
fn the_guest_is_seen_as_the_pod() {
    let site = Site::with_rules();
    serve(&site.peer, "peer", 80);
    assert_eq!(tcp(&site.guest, PEER, 80), said("peer", POD));
    assert_eq!(udp(&site.guest, PEER, 80), said("peer", POD));
    assert!(ping(&site.guest, PEER));
}

#[test]
fn the_pod_reaches_the_guest_at_its_own_address_but_not_at_localhost() {
    let site = Site::with_rules();
    for port in [80, 5900] {
        serve(&site.guest, "guest", port);
        serve(&site.pod, "pod", port);
    }
    assert_eq!(tcp(&site.pod, POD, 80), said("guest", POD));
    assert_eq!(udp(&site.pod, POD, 80), said("guest", POD));
    assert_eq!(tcp(&site.pod, POD, 5900), said("pod", POD));
    assert_eq!(tcp(&site.pod, "127.0.0.1", 80), said("pod", "127.0.0.1"));
    assert_eq!(tcp(&site.pod, GUEST, 80), said("guest", GATEWAY));
}

#[test]
fn the_guest_reaches_itself_at_the_pods_address() {
    let site = Site::with_rules();
    serve(&site.guest, "guest", 80);
    serve(&site.pod, "pod", 80);
    assert_eq!(tcp(&site.guest, POD, 80), said("guest", GATEWAY));
    assert_eq!(udp(&site.guest, POD, 80), said("guest", GATEWAY));
}

/// Sidecars listen on every address, VNC on the pod's: neither is the guest's to ask, unless it is opened.
#[test]
fn the_pods_listeners_do_not_answer_the_guest_unless_opened() {
    let site = Site::new();
    let commit = |open: &[Port]| {
        let open = open.to_vec();
        block_on(site.firewall.commit(plan_with(|network| network.gateway_ports = open))).unwrap();
    };
    let port = |transport, number| Port { transport, number };
    for port in [15020, 5900, 8125] {
        serve(&site.pod, "pod", port);
    }
    // Without rules they all answer: what follows is the rules' doing.
    for (address, port) in [(GATEWAY, 15020), (POD, 5900), (GATEWAY, 8125)] {
        assert_eq!(tcp(&site.guest, address, port), said("pod", GUEST));
    }
    commit(&[]);
    std::thread::scope(|scope| {
        for (address, port) in [(GATEWAY, 15020), (GATEWAY, 5900), (POD, 5900), (GATEWAY, 8125)] {
            let site = &site;
            scope.spawn(move || {
                assert_eq!(tcp(&site.guest, address, port), None, "{address}:{port}");
            });
            scope.spawn(move || assert_eq!(udp(&site.guest, GATEWAY, port), None, "{port}"));
        }
    });
    assert!(counted(&site.pod, "not opened to it") >= 8);
    commit(&[port(Transport::Tcp, 15020), port(Transport::Udp, 8125)]);
    assert_eq!(tcp(&site.guest, GATEWAY, 15020), said("pod", GUEST));
    assert_eq!(udp(&site.guest, GATEWAY, 8125), said("pod", GUEST));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(tcp(&site.guest, GATEWAY, 8125), None));
        scope.spawn(|| assert_eq!(udp(&site.guest, GATEWAY, 15020), None));
        scope.spawn(|| assert_eq!(tcp(&site.guest, POD, 5900), None));
    });
    // It is the guest's to answer, and the pod's to ask.
    serve(&site.guest, "guest", 15020);
    assert_eq!(tcp(&site.pod, GUEST, 15020), said("guest", GATEWAY));
    assert_eq!(udp(&site.pod, POD, 15020), said("guest", POD));
    assert!(ping(&site.pod, GUEST) && ping(&site.guest, GATEWAY));
}

#[test]
fn without_our_services_nothing_is_open_at_the_gateway() {
    let text = plan_with(|network| network.serve = false).to_string();
    assert!(!text.contains("dport 53") && !text.contains("dport 67"), "{text}");
    let opened = plan_with(|network| {
        network.serve = false;
        network.gateway_ports = vec![Port { transport: Transport::Udp, number: 67 }];
    });
    let text = opened.to_string();
    for wanted in [
        "ip daddr 192.168.254.1 udp dport 67 accept",
        "ip daddr 255.255.255.255 udp dport 67 accept",
    ] {
        assert!(text.contains(wanted) && !text.contains("dport 53"), "{text}");
    }
}

#[test]
fn the_metadata_address_is_reached_as_from_any_pod_or_not_at_all() {
    const METADATA: &str = "169.254.169.254";
    let site = Site::with_rules();
    site.peer.ip("addr add 169.254.169.254/32 dev eth0");
    serve(&site.peer, "node", 80);
    assert_eq!(tcp(&site.guest, METADATA, 80), said("node", POD));
    let drop = plan_with(|network| network.metadata_address = MetadataAddress::Drop);
    block_on(site.firewall.commit(drop)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(tcp(&site.guest, METADATA, 80), None));
        scope.spawn(|| assert_eq!(udp(&site.guest, METADATA, 80), None));
    });
    assert!(counted(&site.pod, "metadata service") >= 2);
    // The pod itself still does, and the guest the rest of the world.
    assert_eq!(tcp(&site.pod, METADATA, 80), said("node", POD));
    assert_eq!(tcp(&site.guest, PEER, 80), said("node", POD));
}

#[test]
fn the_hairpin_works_with_netfilter_off_on_the_bridge_too() {
    let site = Site::with_rules();
    site.pod.run("bridge link set dev port0 hairpin off");
    site.pod.ip("link set br0 type bridge nf_call_iptables 0");
    site.pod.run("sysctl -qw net.bridge.bridge-nf-call-iptables=0");
    serve(&site.guest, "guest", 80);
    assert_eq!(tcp(&site.guest, POD, 80), said("guest", GATEWAY));
    assert_eq!(udp(&site.guest, POD, 80), said("guest", GATEWAY));
}

#[test]
fn the_guest_leaves_by_another_interface_with_that_ones_address() {
    let site = Site::with_rules();
    let other = Netns::new("other");
    support::veth(&other, "eth0", &site.pod, "net1");
    other.ip("addr add 10.2.2.1/24 dev eth0");
    site.pod.ip("addr add 10.2.2.2/24 dev net1");
    serve(&other, "other", 80);
    assert_eq!(tcp(&site.guest, "10.2.2.1", 80), said("other", "10.2.2.2"));
}

#[test]
fn every_address_of_the_pod_is_the_guests() {
    let site = Site::new();
    site.pod.ip("addr add 10.1.1.7/24 dev eth0");
    block_on(site.firewall.commit(rich_plan())).unwrap();
    serve(&site.guest, "guest", 80);
    assert_eq!(tcp(&site.peer, "10.1.1.7", 80), said("guest", PEER));
    assert_eq!(tcp(&site.pod, "10.1.1.7", 80), said("guest", POD));
    assert_eq!(tcp(&site.guest, "10.1.1.7", 80), said("guest", GATEWAY));
}

#[test]
fn a_guest_with_a_source_address_that_is_not_its_own_is_not_forwarded() {
    let site = Site::with_rules();
    site.guest.ip("addr add 10.77.0.1/32 dev lo");
    site.peer.ip("route add 10.77.0.1 via 10.1.1.2");
    serve(&site.peer, "peer", 80);
    // Else its ARP request has the false address, too, and is not answered.
    assert!(ping(&site.guest, GATEWAY));
    assert_eq!(ask(&udp_socket(&site.guest, "10.77.0.1"), PEER, 80), None);
    assert_eq!(counted(&site.pod, "not with its address"), 1);
    assert_eq!(ask(&udp_socket(&site.guest, GUEST), PEER, 80), said("peer", POD));
    assert_eq!(counted(&site.pod, "not with its address"), 1);
}

#[test]
fn segments_fit_the_smaller_link_in_both_directions() {
    let site = Site::with_rules();
    site.pod.ip("link set eth0 mtu 1300");
    let listener = site.peer.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
    let out = dial(&site.guest, PEER, 80).unwrap();
    let accepted = listener.accept().unwrap().0;
    // 1300 less IP and TCP headers; timestamps may take 12 more.
    for (whose, stream) in [("guest", &out), ("peer", &accepted)] {
        let mss = socket2::SockRef::from(stream).tcp_mss().unwrap();
        assert!((1200..=1260).contains(&mss), "{whose}: {mss}");
    }
    assert_eq!(counted(&site.pod, "TCP segments no larger"), 2);
}

#[test]
fn connections_survive_a_commit() {
    let site = Site::with_rules();
    for port in [80, 5900] {
        serve(&site.guest, "guest", port);
        serve(&site.pod, "pod", port);
    }
    let mut to_guest = dial(&site.peer, POD, 80).unwrap();
    let mut to_pod = dial(&site.peer, POD, 5900).unwrap();
    for extra in [1, 2, 3] {
        assert_eq!(talk(&mut to_guest), said("guest", PEER));
        assert_eq!(talk(&mut to_pod), said("pod", PEER));
        site.commit(&[Port { transport: Transport::Tcp, number: extra }]);
    }
}

#[test]
fn flows_that_began_before_the_rules_reach_the_guest_after_a_sweep() {
    let site = Site::new();
    let reserved = [Port { transport: Transport::Udp, number: 5353 }];
    // Something of somebody else's that makes the kernel track connections.
    site.pod.nft(
        "add table ip theirs { chain c { type filter hook input priority 0; ct state invalid drop; }; }",
    );
    for port in [4000, 5353] {
        serve(&site.guest, "guest", port);
        serve(&site.pod, "pod", port);
    }
    let (probe, kept) = (udp_socket(&site.peer, "0.0.0.0"), udp_socket(&site.peer, "0.0.0.0"));
    assert_eq!(ask(&probe, POD, 4000), said("pod", PEER));
    assert_eq!(ask(&kept, POD, 5353), said("pod", PEER));
    // As if the node knew the way to the guest: it is answered without any translation.
    site.peer.ip("route add 192.168.254.0/30 via 10.1.1.2");
    serve(&site.peer, "peer", 4001);
    serve(&site.pod, "pod", 4001);
    let (outbound, to_gateway) =
        (udp_socket(&site.guest, "0.0.0.0"), udp_socket(&site.guest, "0.0.0.0"));
    assert_eq!(ask(&outbound, PEER, 4001), said("peer", GUEST));
    assert_eq!(ask(&to_gateway, GATEWAY, 4001), said("pod", GUEST));
    site.commit(&reserved);
    assert_eq!(ask(&outbound, PEER, 4001), None, "its answers come past the mapping");
    assert_eq!(
        ask(&probe, POD, 4000),
        said("pod", PEER),
        "the flow is not sticky here: this test proves nothing"
    );

    let sweep = || block_on(site.firewall.sweep(mapping(&reserved))).unwrap();
    assert_eq!(sweep(), 2);
    assert_eq!(ask(&probe, POD, 4000), said("guest", PEER));
    assert_eq!(ask(&outbound, PEER, 4001), said("peer", POD));
    assert_eq!(ask(&kept, POD, 5353), said("pod", PEER));
    assert_eq!(ask(&to_gateway, GATEWAY, 4001), said("pod", GUEST));
    assert_eq!(sweep(), 0);
}

/// KiB of this process: now, and the most since it was asked with `anew`.
fn memory(anew: bool) -> [u64; 2] {
    if anew {
        fs::write("/proc/self/clear_refs", "5").unwrap();
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    ["VmRSS:", "VmHWM:"].map(|what| {
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    })
}

/// A guest makes as many connections to its gateway as it likes: looking through 124,512 of them took 20 MiB, and a repair
/// waited for half a second.
#[test]
fn a_sweep_of_many_connections_takes_little_memory_and_no_repair_waits_for_it() {
    let site = Site::new();
    site.pod.nft(
        "add table ip theirs { chain c { type filter hook input priority 0; ct state invalid drop; }; }",
    );
    let flood = udp_socket(&site.guest, "0.0.0.0");
    for port in 1..=50_000 {
        let _ = flood.send_to(b"x", (GATEWAY, port));
    }
    let count = || {
        site.pod
            .run("cat /proc/sys/net/netfilter/nf_conntrack_count")
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    assert!(count() > 20_000, "{} connections: too few to show anything", count());
    site.commit(&[]);
    // What the sockets need for life is there.
    block_on(site.firewall.forget(vec!["10.9.9.9".parse().unwrap()])).unwrap();
    let [before, _] = memory(true);
    let order = std::cell::RefCell::new(Vec::new());
    let reserved = [Port { transport: Transport::Udp, number: 5353 }];
    block_on(async {
        tokio::join!(
            async {
                site.firewall.sweep(mapping(&[])).await.unwrap();
                order.borrow_mut().push("sweep");
            },
            async {
                site.firewall.commit(plan(&reserved, &[])).await.unwrap();
                order.borrow_mut().push("repair");
            }
        )
    });
    assert_eq!(order.into_inner(), ["repair", "sweep"]);
    let [_, max] = memory(false);
    assert!(
        max - before < 3 << 10,
        "{before} KiB before, {max} KiB at most, with {} connections",
        count()
    );
}

/// The schema crate reads nft's own JSON of our table and finds in it what we planned.
#[test]
fn nfts_json_of_our_table_has_what_was_planned() {
    use nftables::schema::{NfListObject, NfObject, Nftables};
    let pod = Netns::new("pod");
    let ruleset = rich_plan();
    block_on(firewall(&pod).commit(ruleset.clone())).unwrap();
    let text = pod.nft("-j list table inet berth");
    let document: Nftables<'_> = serde_json::from_str(&text).unwrap();
    let mut comments = Vec::new();
    let mut chains = Vec::new();
    for object in document.objects.iter() {
        match object {
            NfObject::ListObject(NfListObject::Chain(chain)) => chains.push(chain.name.to_string()),
            NfObject::ListObject(NfListObject::Rule(rule)) => {
                comments.push(rule.comment.as_deref().unwrap().to_owned());
            }
            _ => {}
        }
    }
    let table = ruleset.table(Family::INET, "berth").unwrap();
    let planned: Vec<String> = table.chains.iter().map(|chain| chain.name.clone()).collect();
    assert_eq!(chains, planned);
    assert_eq!(comments.len(), table.chains.iter().map(|chain| chain.rules.len()).sum::<usize>());
    let rendered = ruleset.to_string();
    assert!(
        comments.iter().all(|comment| rendered.contains(&format!("comment \"{comment}\""))),
        "{comments:?}"
    );
}
