use std::ffi::OsString;

use clap::Parser;

use std::net::Ipv4Addr;

use super::*;
use crate::config::reader;
use crate::exit::{Code, Coded};
use crate::proto::dhcp4::INFINITE;

mod six;

#[derive(Debug, Parser)]
struct Words {
    #[command(flatten)]
    options: ServeOptions,
}

fn planned(words: &str) -> Result<ServePlan, Error> {
    let (options, interface, resolver) = asked(words);
    plan(&options, &interface, &resolver)
}

fn asked(words: &str) -> (ServeOptions, Interface, Resolver) {
    let words = ["serve", "--interface", "eth1"].into_iter().chain(words.split_whitespace());
    let words: Vec<OsString> = words.map(OsString::from).collect();
    let options = reader::parse::<Words>(&words, &|_| None).unwrap().options;
    let interface = Interface {
        name: "eth1".parse().unwrap(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses: vec!["10.0.0.1/24".parse().unwrap()],
        addresses6: vec!["fd00::1/64".parse().unwrap()],
        link_local: Some("fe80::1".parse().unwrap()),
    };
    let resolver = Resolver::parse(b"nameserver 10.0.0.1\nnameserver 9.9.9.9\n");
    (options, interface, resolver)
}

fn refused(words: &str) -> String {
    let error = planned(words).err().unwrap_or_else(|| panic!("{words} is taken"));
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn a_range_is_served_from_the_interfaces_address() {
    let found = planned("--range 10.0.0.10,10.0.0.20").unwrap();
    let dhcp = found.dhcp.unwrap();
    let subnet = &dhcp.settings.subnets[0];
    assert_eq!(subnet.server, Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(subnet.parameters.router, Some(subnet.server));
    assert_eq!(subnet.parameters.dns, [subnet.server]);
    assert_eq!(dhcp.limit, 11 + SPARE_LEASES);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    // Never ourselves: the question would come back for ever.
    assert_eq!(found.dns.unwrap().settings.upstreams, ["9.9.9.9:53".parse().unwrap()]);
}

#[test]
fn what_does_not_fit_is_refused() {
    const RANGE: &str = "--range 10.0.0.20,10.0.0.30";
    for (words, said) in [
        ("--range 10.0.1.10,10.0.1.20", "--range 10.0.1.10,10.0.1.20 is not within 10.0.0.1/24"),
        ("--range 10.0.0.10,10.0.1.20", "--range 10.0.0.10,10.0.1.20 is not within 10.0.0.1/24"),
        ("", "neither --range nor --reserve"),
        ("--no-dhcp --no-dns", "nothing to serve"),
        ("--address 10.0.0.1/8 --range 10.0.0.2,10.200.0.0", "more than 1048576 addresses"),
        (
            "--address 10.0.0.0/24 --range 10.0.0.2,10.0.0.3",
            "--address 10.0.0.0/24 is the network's own address",
        ),
        (
            "--address 10.0.0.255/24 --range 10.0.0.2,10.0.0.3",
            "--address 10.0.0.255/24 is the broadcast address",
        ),
        ("{} --option 51=9", "--option: option 51 is written by the server itself"),
        ("{} --option 6=10.0.0.1 --option 6=10.0.0.2", "--option 6 is said twice"),
        ("{} --router 10.0.0.255", "the router 10.0.0.255 is the broadcast address of 10.0.0.1/24"),
        (
            "{} --option 3=10.0.0.0",
            "the router 10.0.0.0 is the network's own address of 10.0.0.1/24",
        ),
        ("{} --option 121=0.0.0.0/0,10.0.0.255", "the router 10.0.0.255 is the broadcast address"),
        ("{} --boot-file a --boot-file b", "--boot-file has two files for everyone: a and b"),
        (
            "{} --boot-file 7,9=a --boot-file 0x7=b",
            "--boot-file has two files for architecture 7: a and b",
        ),
        ("{} --max-lease-time 60", "--lease-time 3600 is longer than --max-lease-time 60"),
        ("{} --min-lease-time 7200", "--min-lease-time 7200 is longer than --lease-time 3600"),
        (
            "{} --min-lease-time infinite",
            "--min-lease-time infinite is longer than --lease-time 3600",
        ),
        (
            "{} --lease-time infinite --max-lease-time 60",
            "--lease-time infinite is longer than --max-lease-time 60",
        ),
    ] {
        let found = refused(&words.replace("{}", RANGE));
        assert!(found.contains(said), "{words}: {found}");
    }
}

#[test]
fn lease_times_that_are_not_said_fit_those_that_are() {
    for (words, default, min, max) in [
        ("", 3600, 60, 3600),
        ("--lease-time 20", 20, 20, 20),
        ("--lease-time 3", 3, 3, 3),
        ("--lease-time infinite", INFINITE, 60, INFINITE),
        ("--min-lease-time 3600 --max-lease-time infinite", 3600, 3600, INFINITE),
    ] {
        let found = planned(&format!("--range 10.0.0.10,10.0.0.20 {words}")).unwrap().dhcp.unwrap();
        assert_eq!(found.settings.subnets[0].lease, LeaseTime { default, min, max }, "{words}");
    }
}

/// A reservation of the server's own address was offered to the client.
#[test]
fn a_reservation_is_held_against_its_network() {
    let relayed = "--relayed 10.2.0.0/16,10.2.0.10,10.2.9.250,10.2.0.1";
    for (words, said) in [
        ("1,10.0.0.1", "10.0.0.1 is our own address"),
        ("1,10.0.0.0", "10.0.0.0 is the network's own address"),
        ("1,10.0.0.255", "10.0.0.255 is the broadcast address"),
        ("1,10.0.0.254 --router 10.0.0.254", "10.0.0.254 is the router's address"),
        ("1,10.2.0.1", "10.2.0.1 is the router's address"),
        ("1,10.2.0.0", "10.2.0.0 is the network's own address"),
        ("1,10.2.255.255", "10.2.255.255 is the broadcast address"),
        ("1,10.9.0.5", "10.9.0.5 is not within any network"),
        ("1,10.0.0.5 --reserve 52:54:00:00:00:02,10.0.0.5", "10.0.0.5 twice"),
        (
            "1,10.0.0.5 --reserve 52:54:00:00:00:01,10.0.0.6",
            "52:54:00:00:00:01 10.0.0.5 and 10.0.0.6 in one network",
        ),
        (
            "2,10.0.0.7 --reserve id:0A,10.0.0.5 --reserve id:0a,10.0.0.6",
            "id:0a 10.0.0.5 and 10.0.0.6 in one network",
        ),
        (
            "1,10.0.0.5,web --reserve 52:54:00:00:00:02,10.0.0.6,WEB",
            "the name web to 10.0.0.5 and 10.0.0.6",
        ),
    ] {
        let found = refused(&format!("{relayed} --reserve 52:54:00:00:00:0{words}"));
        assert!(found.contains(said), "{words}: {found}");
    }
    for (network, words) in [
        // The other end of a point-to-point link has an address that ends as a network's does.
        ("10.0.0.1/31", "10.0.0.0"),
        ("10.0.0.0/31", "10.0.0.1"),
        ("10.0.0.1/23", "10.0.0.255"),
        ("10.0.0.1/24", "10.2.0.255"),
    ] {
        let words = format!("--address {network} {relayed} --reserve 52:54:00:00:00:01,{words}");
        assert!(planned(&words).is_ok(), "{words}");
    }
    let found = refused("--address 10.0.0.1/32 --reserve 52:54:00:00:00:01,10.0.0.1");
    assert!(found.contains("our own address"), "{found}");
    // A machine that moves.
    let both = "--reserve 52:54:00:00:00:01,10.0.0.5,web --reserve 52:54:00:00:00:01,10.2.0.5,web";
    let hosts = planned(&format!("{relayed} {both}")).unwrap().dns.unwrap().settings.hosts;
    assert_eq!(hosts.len(), 2);
    // Networks within each other may begin alike.
    let nested = "--address 10.1.0.1/8 --relayed 10.0.0.0/24,10.0.0.10,10.0.0.20,10.0.0.1";
    let both = "--reserve 52:54:00:00:00:01,10.1.0.5 --reserve 52:54:00:00:00:01,10.0.0.5";
    assert!(planned(&format!("{nested} {both}")).is_ok());
}

#[test]
fn what_is_trimmed_overlaps_or_looks_like_another_is_noted() {
    let notes = |words: &str| planned(words).unwrap().notes.join("\n");
    for (words, noted) in [
        (
            "--range 10.0.0.0,10.0.0.255 --router 10.0.0.254",
            "--range 10.0.0.0,10.0.0.255: 10.0.0.0 (the network's own address), 10.0.0.1 (our own address), 10.0.0.254 (the \
             router's address), 10.0.0.255 (the broadcast address) will not be assigned",
        ),
        (
            "--relayed 10.2.0.0/24,10.2.0.1,10.2.0.9,10.2.0.1",
            "--relayed 10.2.0.1,10.2.0.9: 10.2.0.1 (the router's address) will not be assigned",
        ),
        (
            "--range 10.0.0.10,10.0.0.20 --range 10.0.0.20,10.0.0.30",
            "--range 10.0.0.20,10.0.0.30 overlaps 10.0.0.10,10.0.0.20: each address is given to one client all the same",
        ),
        (
            "--reserve 52:54:00:00:00:01,10.0.0.5,12h",
            "--reserve 10.0.0.5: the client is named 12h; how long leases are says --lease-time, for all",
        ),
        ("--range 10.0.0.2,10.0.0.254 --reserve 52:54:00:00:00:01,10.0.0.5,web12h", ""),
    ] {
        assert_eq!(notes(words), noted, "{words}");
    }
    let found = refused("--range 10.0.0.0,10.0.0.1");
    assert!(
        found.starts_with("no address is left to give away: --range 10.0.0.0,10.0.0.1: 10.0.0.0"),
        "{found}"
    );
}

#[test]
fn hosts_are_names_or_all_below_one_and_each_once() {
    let words = "--no-dhcp --host nas.lan=10.0.0.8,*.apps.lan=10.0.0.7 --host NAS.lan.=10.0.0.8 --domain Lan.";
    let settings = planned(words).unwrap().dns.unwrap().settings;
    assert_eq!(settings.hosts, [("nas.lan".to_owned(), [10, 0, 0, 8].into())]);
    assert_eq!(settings.below, [("apps.lan".to_owned(), [10, 0, 0, 7].into())]);
    assert_eq!(settings.domain.as_deref(), Some("lan"));
}

#[test]
fn a_name_is_one_clients_whoever_gives_it() {
    let with = |words: &str| {
        planned(&format!("--reserve 52:54:00:00:00:01,10.0.0.5,web --domain lan {words}"))
    };
    for words in [
        "--host web.lan=10.0.0.5",
        "--host web=10.0.0.5,web=10.0.0.6",
        "--host web.lan=fd00::5",
        "--host *.web.lan=10.0.0.6",
        "--host web.home=10.0.0.6",
    ] {
        assert!(with(words).is_ok(), "{words}");
    }
    for words in [
        "--host web.lan=10.0.0.6",
        "--host web=10.0.0.6",
        "--host fd.lan=10.0.0.5,Web.Lan.=10.0.0.6",
    ] {
        let error = with(words).unwrap_err();
        let wanted = "the name web to 10.0.0.5, and --host to 10.0.0.6";
        assert!(
            error.to_string().contains(wanted) && error.code() == Code::Usage,
            "{words}: {error}"
        );
    }
    let twice = planned("--range 10.0.0.2,10.0.0.3 --search lan,LAN,home").unwrap();
    assert_eq!(twice.dhcp.unwrap().settings.subnets[0].parameters.search, ["lan", "home"]);
}

/// The first ended the plan, and the second came when it was mended.
#[test]
fn all_mistakes_are_told_at_once() {
    let words = "--range 10.9.9.1,10.9.9.9 --min-lease-time 7200 --boot-file a --boot-file b --upstream 10.0.0.1";
    let (options, interface, resolver) = asked(words);
    let first = plan(&options, &interface, &resolver).unwrap_err();
    let all = mistakes(first.clone(), &options, &interface, &resolver);
    assert_eq!(all[0], first);
    let all: Vec<String> = all.iter().map(Error::to_string).collect();
    for says in ["--min-lease-time 7200", "--boot-file", "--range", "10.0.0.1:53"] {
        assert_eq!(all.iter().filter(|text| text.contains(says)).count(), 1, "{says}: {all:?}");
    }
    assert_eq!(all.len(), 4, "{all:?}");
    let (options, interface, resolver) = asked("--no-dhcp --no-dns --min-lease-time 7200");
    assert_eq!(mistakes(Error::Nothing, &options, &interface, &resolver), [Error::Nothing]);
}
