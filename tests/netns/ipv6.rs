//! The rules of a guest that has the pod's IPv6 addresses, in a kernel, with the real `nft` as judge.

use crate::support::site::{block_on, firewall};
use crate::support::{Netns, sample};
use berth::config::MetadataAddress;
use berth::facts::{Forwarding, Ipv6, Route4, Route6};
use berth::net::{Port, Transport};
use berth::nft::dump::Filter;
use berth::nft::{Family, Ruleset};
use berth::plan::ipv6::Ipv6Plan;
use berth::plan::nat::{Abilities, Indices, for_kernel, not_in, told};
use berth::plan::{Attached, NetPlan};

/// Two addresses, four routes by two links, ports of every transport.
fn plan(change: impl FnOnce(&mut berth::facts::NetFacts, &mut berth::config::Network)) -> NetPlan {
    let (mut config, mut facts) = (sample::config(), sample::facts().net);
    let route = |to: &str, gateway: Option<&str>, link: &str, index| Route6 {
        to: to.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        link: link.parse().unwrap(),
        index,
        leads_nowhere: false,
    };
    facts.ipv6 = Ipv6 {
        forwarding: Forwarding::Off,
        addresses: ["2001:db8::2", "2001:db8::7"].map(|text| text.parse().unwrap()).to_vec(),
        unusable: Vec::new(),
        routes: vec![
            route("2001:db8::2/128", None, "eth0", 2),
            route("2001:db8:1::/64", None, "eth0", 2),
            route("2001:db8:2::/48", Some("2001:db8:1::1"), "net1", 3),
            route("::/0", Some("fe80::1"), "eth0", 2),
        ],
        off: None,
    };
    let port = |transport, number| Port { transport, number };
    config.network.reserved = vec![
        port(Transport::Tcp, 22),
        port(Transport::Udp, 5353),
        port(Transport::Udp, 161),
        port(Transport::Sctp, 9),
    ];
    config.network.gateway_ports = vec![port(Transport::Tcp, 15020)];
    config.network.metadata_address = MetadataAddress::Drop;
    change(&mut facts, &mut config.network);
    NetPlan::new(&config, &facts, Attached::Here).unwrap()
}

/// The pod's IPv4 address, too, by routes of each kind.
fn own4(facts: &mut berth::facts::NetFacts, network: &mut berth::config::Network) {
    network.ipv4 = berth::config::Ipv4::Own;
    let route = |to: &str, gateway: Option<&str>, link: &str, leads_nowhere| Route4 {
        to: to.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        link: link.parse().unwrap(),
        index: 2,
        leads_nowhere,
    };
    facts.routing.main = vec![
        route("10.1.1.2/32", None, "eth0", false),
        route("10.1.1.0/24", None, "eth0", false),
        route("10.2.0.0/16", Some("10.1.1.9"), "eth0", false),
        route("10.3.0.0/16", None, "lo", true),
        route("10.4.0.0/16", Some("10.9.0.1"), "net1", false),
        route("0.0.0.0/0", Some("10.1.1.1"), "eth0", false),
    ];
}

fn pod() -> (Netns, Indices) {
    let pod = Netns::new("pod");
    for (index, link) in [(2, "eth0"), (3, "net1"), (4, "br0"), (5, "tap0")] {
        pod.ip(&format!("link add {link} index {index} type bridge"));
    }
    (pod, Indices { bridge: 4, tap: 5 })
}

#[test]
fn what_is_loaded_is_what_was_planned_and_nft_lists_it_alike() {
    let (pod, indices) = pod();
    let firewall = firewall(&pod);
    let both = plan(|_, _| {});
    let alone = plan(|facts, _| facts.uplink.address = None);
    let own4 = plan(own4);
    let nat = plan(|facts, network| {
        facts.ipv6.forwarding = Forwarding::Ours;
        network.ipv6 = berth::config::Ipv6::Nat;
    });
    let by_dup = Abilities { fwd: false, ..Abilities::ALL };
    let none = Abilities { fwd: false, dup: false, ..Abilities::ALL };
    for (plan, abilities) in [
        (&both, by_dup),
        (&both, none),
        (&both, Abilities::ALL),
        (&alone, by_dup),
        (&alone, Abilities::ALL),
        (&own4, by_dup),
        (&own4, none),
        (&own4, Abilities::ALL),
        (&nat, Abilities::ALL),
    ] {
        let wanted = for_kernel(plan, abilities, indices);
        let generation = block_on(firewall.commit(wanted.clone())).unwrap();
        block_on(firewall.remove(not_in(&wanted))).unwrap();
        assert!(block_on(firewall.holds(wanted.clone())).unwrap(), "{abilities:?}");
        let (now, _) = block_on(firewall.restore(wanted.clone())).unwrap();
        assert!(now >= generation);
        let (_, loaded) = block_on(firewall.dump(Filter::default())).unwrap();
        assert_eq!(loaded.tables.len(), wanted.tables.len(), "{abilities:?}");
        for Family(number) in loaded.tables.iter().map(|table| table.family) {
            let family = Family(number);
            let one = |rules: &Ruleset| {
                let tables = rules.table(family, "berth").cloned().into_iter().collect();
                Ruleset { tables }
            };
            let listed = pod.nft(&format!("list table {family} berth"));
            let names = [(2, "eth0"), (3, "net1"), (4, "br0"), (5, "tap0")];
            let style = berth::nft::text::Style {
                interfaces: names.map(|(index, name)| (index, name.to_owned())).into(),
                ..Default::default()
            };
            alike(&one(&loaded).text(&style), &listed);
        }
    }
}

/// Line by line, so that what differs is seen.
fn alike(ours: &str, theirs: &str) {
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

#[test]
fn why_there_is_none_is_told_once_and_own_insists() {
    let why = |change: fn(&mut berth::facts::NetFacts, &mut berth::config::Network)| {
        let plan = plan(change);
        let Ipv6Plan::Off(why) = &plan.link.ipv6 else { panic!("{}", plan.link.ipv6) };
        assert_eq!(told(&plan.link.ipv6, Abilities::ALL), format!("off: {why}"));
        let tables: Vec<Family> = plan.nat.tables.iter().map(|table| table.family).collect();
        assert_eq!(tables, [Family::INET, Family::ARP]);
        assert!(plan.guest.ipv6.is_none());
        let noted = plan.notes.iter().filter(|note| note.contains("the guest has no IPv6")).count();
        (why.clone(), noted)
    };

    for (found, noted, words) in [
        (why(|_, network| network.ipv6 = berth::config::Ipv6::Off), 0, "BERTH_IPV6 is off"),
        (why(|facts, _| facts.ipv6.addresses.clear()), 0, "eth0 has no global IPv6 address"),
        (
            why(|facts, _| {
                facts.ipv6.addresses.clear();
                let address = "2001:db8::9".parse().unwrap();
                facts.ipv6.unusable = vec![(address, berth::facts::Unusable::Duplicate)];
            }),
            1,
            "2001:db8::9 is a duplicate",
        ),
        (why(|facts, _| facts.ipv6.routes.clear()), 1, "no route"),
        (why(|_, network| network.serve = false), 1, "NO_DHCP"),
        (why(|_, network| network.mtu = Some(1279)), 1, "1279"),
        (
            why(|facts, _| facts.ipv6.addresses[1] = "fd00:6be::9".parse().unwrap()),
            1,
            "fd00:6be::9 is in fd00:6be::/64",
        ),
        (
            why(|facts, _| {
                let server = std::net::IpAddr::V6("fd00:6be::a".parse().unwrap());
                facts.resolver.nameservers = vec![server.into()];
            }),
            1,
            "fd00:6be::a is in fd00:6be::/64",
        ),
        (
            why(|facts, _| facts.ipv6.off = Some(berth::facts::Off::Link("all".to_owned()))),
            1,
            "net.ipv6.conf.all.disable_ipv6 is 1",
        ),
    ] {
        assert!(found.0.contains(words), "{words}: {}", found.0);
        assert_eq!(found.1, noted, "{words}");
    }
    let plan = plan(|_, network| network.ipv6 = berth::config::Ipv6::Own);
    assert_eq!(way(&plan, Abilities::ALL), "own: 2001:db8::2 2001:db8::7, by fwd");
    let (mut config, mut facts) = (sample::config(), sample::facts().net);
    config.network.ipv6 = berth::config::Ipv6::Nat;
    let error = NetPlan::new(&config, &facts, Attached::Here).unwrap_err().to_string();
    assert!(error.contains("BERTH_IPV6=nat") && error.contains("eth0"), "{error}");
    config.network.ipv6 = berth::config::Ipv6::Own;
    let error = NetPlan::new(&config, &facts, Attached::Here).unwrap_err().to_string();
    assert!(error.contains("BERTH_IPV6=own") && error.contains("eth0"), "{error}");
    config.network.ipv6 = berth::config::Ipv6::Auto;
    facts.uplink.address = None;
    let error = NetPlan::new(&config, &facts, Attached::Here).unwrap_err().to_string();
    assert!(
        error.contains("eth0 has no IPv4 address") && error.contains("no global IPv6"),
        "{error}"
    );
}

fn way(plan: &NetPlan, abilities: Abilities) -> String {
    told(&plan.on(abilities).link.ipv6, abilities)
}

#[test]
fn the_last_way_is_nat_where_the_pod_forwards() {
    let without = Abilities { dup: false, ..Abilities::ALL };
    let pod = "2001:db8::2 2001:db8::7";
    for (forwarding, words, closed) in [
        (
            Forwarding::Off,
            "off: this kernel has no way for it, and net.ipv6.conf.all.forwarding is 0",
            false,
        ),
        (Forwarding::Ours, "nat: 2001:db8::2 2001:db8::7", true),
        (Forwarding::Others, "nat: 2001:db8::2 2001:db8::7", false),
    ] {
        let plan = plan(|facts, _| facts.ipv6.forwarding = forwarding);
        assert_eq!(way(&plan, Abilities::ALL), format!("own: {pod}, by fwd"));
        let told = way(&plan, without);
        assert!(told.starts_with(words), "{told}");
        let taken = plan.on(without);
        let is_nat = forwarding != Forwarding::Off;
        let chains = &taken.nat.table(Family::INET, "berth").unwrap().chains;
        let forward = chains.iter().find(|chain| chain.name == "forward").unwrap();
        let is_closed = |rule: &berth::nft::Rule| {
            rule.userdata.as_comment().is_some_and(|text| text.contains("for the guest alone"))
        };
        assert_eq!(forward.rules.iter().any(is_closed), closed);
        assert_eq!(taken.link.own(), Vec::<std::net::IpAddr>::new());
        assert_eq!(taken.mapping.six.is_some(), is_nat);
        let given = taken.guest.ipv6.as_ref().map(|ipv6| ipv6.dhcp.clone());
        assert_eq!(given.is_some(), is_nat);
        // Nothing of IPv6 where the links have none, whatever the rules could.
        assert!(way(&plan, Abilities::ALL.without_ipv6()).starts_with("off: "));
    }
    let insists = plan(|facts, network| {
        facts.ipv6.forwarding = Forwarding::Ours;
        network.ipv6 = berth::config::Ipv6::Own;
    });
    assert_eq!(way(&insists, without), "off: this kernel has no way for it");
}
