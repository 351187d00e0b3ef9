//! The IPv6 flags, on a link with 10.0.0.1/24 and fd00::1/64.

use std::net::Ipv6Addr;

use super::*;
use crate::proto::dhcp6::{Addresses, Pool};

const RANGE: &str = "--range6 fd00::100,fd00::1ff";

fn pool(words: &str) -> Pool {
    let planned = planned(words).unwrap();
    match planned.dhcp6.unwrap().settings.addresses {
        Addresses::Pool(pool) => pool,
        Addresses::OneGuest { .. } => panic!("{words}"),
    }
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn a_range_is_served_from_the_interfaces_address_and_advertised() {
    let found = planned(&format!("{RANGE} --domain lan")).unwrap();
    assert!(found.dhcp.is_none() && found.router.is_some() && found.notes.is_empty());
    let settings = found.dhcp6.unwrap().settings;
    assert_eq!(settings.parameters.dns, [address("fd00::1")]);
    assert_eq!(settings.parameters.search, ["lan".parse().unwrap()]);
    assert_eq!((settings.preference, settings.rapid_commit), (Some(255), false));
    let dns = found.dns.unwrap();
    assert_eq!((dns.address, dns.address6), (Some([10, 0, 0, 1].into()), Some(address("fd00::1"))));
    assert!(found.leases.unwrap().ipv6);
    let both = planned(&format!("{RANGE} --range 10.0.0.9,10.0.0.20 --no-dns")).unwrap();
    assert!(both.dhcp.is_some() && both.dhcp6.is_some() && both.dns.is_none());
}

#[test]
fn ipv4_alone_is_what_it_was() {
    let found = planned("--range 10.0.0.9,10.0.0.20").unwrap();
    assert!(found.dhcp6.is_none() && found.router.is_none() && found.address6.is_none());
    assert!(!found.leases.unwrap().ipv6);
    assert_eq!(found.dns.unwrap().address6, None);
}

#[test]
fn advertisements_go_with_addresses_unless_told_otherwise() {
    for (words, dhcp, router) in [
        (RANGE, true, true),
        ("--reserve6 52:54:00:00:00:01,fd00::5", true, true),
        ("--relayed6 fd00:0:0:2::/64,fd00:0:0:2::1,fd00:0:0:2::9", true, false),
        ("--address6 fd00::1/64", false, false),
        ("--router-advertisements stateless", true, true),
        ("--router-advertisements on", false, true),
        ("--router-advertisements slaac --no-dhcp", false, true),
        (&format!("{RANGE} --router-advertisements off"), true, false),
        (&format!("{RANGE} --no-dhcp"), false, false),
    ] {
        let found = planned(words).unwrap();
        assert_eq!((found.dhcp6.is_some(), found.router.is_some()), (dhcp, router), "{words}");
    }
    assert!(refused("--no-dhcp --no-dns --range6 fd00::9,fd00::9").contains("nothing to serve"));
}

#[test]
fn policy_is_that_of_ipv4() {
    let words = "--lease-time 600 --min-lease-time 60 --max-lease-time 900 --not-authoritative \
                 --client-rate 5 --rate 50 --offer-hold 9 --quarantine 60";
    let pool = pool(&format!("{RANGE} {words}"));
    let lease = pool.subnets[0].lease;
    assert_eq!((lease.default, lease.min, lease.max), (600, 60, 900));
    assert!(!pool.authoritative);
    assert_eq!((pool.limits.per_client, pool.limits.total), (Some(5), Some(50)));
    assert_eq!((pool.offer_hold.as_secs(), pool.quarantine.as_secs()), (9, 60));
}

#[test]
fn what_does_not_fit_is_refused() {
    for (words, wanted) in [
        ("--range6 fd01::1,fd01::9", "--range6 fd01::1,fd01::9 is not within fd00::1/64"),
        ("--reserve6 52:54:00:00:00:01,fd01::5", "not within any network"),
        ("--reserve6 52:54:00:00:00:01,fd00::1", "our own address"),
        ("--reserve6 52:54:00:00:00:01,fd00::", "subnet-router anycast"),
        ("--reserve6 52:54:00:00:00:01,fd00::5 --reserve6 id:000401,fd00::5", "twice"),
        ("--reserve6 52:54:00:00:00:01,fd00::5 --reserve6 52:54:00:00:00:01,fd00::6", "one client"),
        ("--reserve6 52:54:00:00:00:01,fd00::5,a --reserve6 id:000401,fd00::6,a", "one name"),
        ("--reserve6 52:54:00:00:00:01,fd00::5,a --host a=fd00::6", "and --host to fd00::6"),
        ("--relayed6 fd00::/56,fd00::9,fd00::9", "overlaps"),
        ("--relayed6 fd00:0:0:2::/64,fd00::9,fd00::9", "is not within it"),
        ("--address6 fd00::1/72 --router-advertisements slaac", "takes a /64"),
        ("--range 10.0.0.9,10.0.0.9 --dns6 fd00::53", "--dns6 says something of IPv6"),
        ("--range 10.0.0.9,10.0.0.9 --boot-file6 http://a/b", "--boot-file6 says"),
        ("--range 10.0.0.9,10.0.0.9 --router6 none", "--router6 says"),
    ] {
        let said = refused(words);
        assert!(said.contains(wanted), "{words}: {said}");
    }
}

#[test]
fn what_is_given_otherwise_or_not_now_is_said() {
    let ours = planned("--range6 fd00::,fd00::9").unwrap();
    assert!(
        ours.notes[0].contains("fd00::1 (our own address), fd00:: (every router"),
        "{:?}",
        ours.notes
    );
    let not_now = |change: fn(&mut Interface), words: &str| {
        let (options, mut interface, resolver) = asked(words);
        change(&mut interface);
        plan(&options, &interface, &resolver).unwrap()
    };
    let without = not_now(|interface| interface.addresses6.clear(), RANGE);
    assert!(without.dhcp6.is_none() && without.leases.is_some());
    assert!(without.notes[0].contains("IPv6 is not served until it has one"));
    let another = not_now(|_| {}, &format!("--address6 fd00::7/64 {RANGE}"));
    assert!(another.notes[0].contains("does not have fd00::7/64"), "{:?}", another.notes);
    let silent = not_now(|interface| interface.link_local = None, RANGE);
    assert!(silent.router.is_none() && silent.dhcp6.is_some());
    assert!(silent.notes[0].contains("no router advertisements until"));
    let alone = not_now(|interface| interface.addresses.clear(), RANGE);
    assert_eq!(alone.dns.unwrap().address, None);
}
