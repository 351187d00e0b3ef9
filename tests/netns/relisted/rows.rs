//! What was listed wrongly once, by the nft that made it.

use super::nft::{self, Form, Nft};
use crate::support::Netns;

/// Loads the lines into table `ip t` with a chain `c`; each of the others is found in our listing.
fn lists(nft: &Nft, lines: &[&str], wanted: &[&str]) {
    let netns = Netns::new("row");
    let mut script = vec!["add table ip t".to_owned(), "add chain ip t c".to_owned()];
    script.extend(lines.iter().map(|line| (*line).to_owned()));
    let refused = nft.load_what_it_takes(&netns, &mut script);
    assert!(refused.is_empty(), "{refused:?}");
    let listed = Nft::lines(Form::Text, &nft::ours(&netns, ""));
    for line in wanted {
        assert!(
            listed.iter().any(|found| found == line),
            "not there: {line}\n{}",
            listed.join("\n")
        );
    }
}

fn system(lines: &[&str], wanted: &[&str]) {
    lists(&Nft::of_the_system(), lines, wanted);
}

#[test]
fn intervals_of_numbers_in_the_hosts_order_are_not_turned_round() {
    system(
        &[
            "add set ip t tm { type mark; flags interval; elements = { 0x10-0x20, 0x100 }; }",
            "add set ip t u { typeof meta skuid; flags interval; elements = { 1000-2000, 33 }; }",
            "add set ip t l { typeof meta length; flags interval; elements = { 100-200 }; }",
            "add set ip t k { type ipv4_addr . mark; flags interval; elements = { 10.0.0.0/8 . 0x10 }; }",
            "add map ip t v { type mark : verdict; flags interval; elements = { 0x1-0xf : accept, 0x100 : drop }; }",
        ],
        &[
            "set tm { type mark; flags interval; elements = { 0x00000010-0x00000020, 0x00000100 }; }",
            "set u { typeof meta skuid; flags interval; elements = { 33, 1000-2000 }; }",
            "set l { typeof meta length; flags interval; elements = { 100-200 }; }",
            "set k { type ipv4_addr . mark; flags interval; elements = { 10.0.0.0/8 . 0x00000010 }; }",
            "map v { type mark : verdict; flags interval; elements = { 0x00000001-0x0000000f : accept, 0x00000100 : drop }; }",
        ],
    );
}

#[test]
fn names_of_interfaces_in_intervals_are_whole_or_end_with_an_asterisk() {
    system(
        &[
            "add set ip t i { type ifname; flags interval; elements = { \"eth0\", \"ppp*\", \"wg0\" }; }",
            "add set ip t k { type ipv4_addr . ifname; flags interval; elements = { 10.1.2.2 . \"abcdef*\" }; }",
            "add rule ip t c ip saddr . iifname { 10.0.0.0/8 . \"eth*\" } accept",
        ],
        &[
            "set i { type ifname; flags interval; elements = { \"eth0\", \"ppp*\", \"wg0\" }; }",
            "set k { type ipv4_addr . ifname; flags interval; elements = { 10.1.2.2 . \"abcdef*\" }; }",
            "ip saddr . iifname { 10.0.0.0/8 . \"eth*\" } accept",
        ],
    );
}

#[test]
fn chains_without_a_name_stand_where_they_are_used() {
    system(
        &["add rule ip t c tcp dport 80 jump { ip saddr 1.1.1.1 accept; drop; }"],
        &["tcp dport 80 jump { ip saddr 1.1.1.1 accept; drop; }"],
    );
}

#[test]
fn an_interface_whose_name_ends_with_an_asterisk_is_one() {
    system(
        &[
            "add rule ip t c iifname \"dummy\\*\" accept",
            "add rule ip t c oifname { \"dummy\\*\", \"lo\" } accept",
        ],
        &["iifname \"dummy\\*\" accept", "oifname { \"lo\", \"dummy\\*\" } accept"],
    );
}

#[test]
fn constants_of_concatenations_are_of_the_sets_types() {
    system(
        &[
            "add set ip t u { type ipv4_addr . inet_service; flags dynamic; size 100; }",
            "add rule ip t c add @u { ip saddr . 22 }",
        ],
        &["add @u { ip saddr . 22 }"],
    );
}

#[test]
fn data_of_several_values_is_added_whole() {
    lists(
        &Nft::of_debian_13(),
        &[
            "add map ip t m { type ipv4_addr . inet_service : ipv4_addr . inet_service; flags dynamic,timeout; size 100; }",
            "add rule ip t c update @m { ip saddr . ct original proto-dst timeout 1m30s : ip daddr . tcp dport }",
        ],
        &["update @m { ip saddr . ct original proto-dst timeout 1m30s : ip daddr . tcp dport }"],
    );
}

#[test]
fn a_match_of_the_transport_stays_where_ports_are_mapped_or_octets_compared() {
    system(
        &[
            "add chain ip t n { type nat hook prerouting priority 0; }",
            "add rule ip t n ip protocol 6 redirect to :tcp dport map { 22 : 8000, 80 : 8080 }",
            "add rule ip t c meta l4proto 91 @th,400,16 0x0",
            "add rule ip t c ip protocol 103 tcp option sack left 5",
        ],
        &[
            "ip protocol tcp redirect to :tcp dport map { 22 : 8000, 80 : 8080 }",
            "meta l4proto 91 @th,400,16 0x0",
        ],
    );
}

#[test]
fn what_is_not_known_is_followed_by_no_invented_match() {
    let nft = Nft::of_debian_13();
    let netns = Netns::new("inner");
    let mut script = vec![
        "add table ip t".to_owned(),
        "add chain ip t c".to_owned(),
        "add rule ip t c udp dport 4789 vxlan ip saddr 1.1.1.1 drop".to_owned(),
    ];
    assert!(nft.load_what_it_takes(&netns, &mut script).is_empty());
    let listed = nft::ours(&netns, "");
    let rule = listed.lines().find(|line| line.contains("4789")).unwrap();
    assert!(rule.contains("<inner 0x") && rule.ends_with("drop"), "{rule}");
    assert_eq!(rule.matches("udp dport").count(), 1, "{rule}");
    assert!(rule.contains("<register 1> 0x1010101"), "{rule}");
}

#[test]
fn helpers_by_a_map_are_set() {
    system(
        &[
            "add ct helper ip t h1 { type \"ftp\" protocol tcp; }",
            "add rule ip t c ct helper set tcp dport map { 21 : \"h1\" }",
        ],
        &["ct helper set tcp dport map { 21 : \"h1\" }"],
    );
}

#[test]
fn named_counters_keep_what_they_counted_in_json() {
    let netns = Netns::new("counter");
    netns.run("nft add table ip t");
    netns.run("nft add counter ip t user123 { packets 12 bytes 1433 }");
    let listed = nft::ours(&netns, "-j -s counters");
    assert!(listed.contains("\"packets\": 12, \"bytes\": 1433"), "{listed}");
}

#[test]
fn masks_of_flags_are_flags_before_sets_too() {
    system(
        &["add rule ip t c tcp flags & (fin | syn | ack) == { syn, ack }"],
        &["tcp flags & (fin | syn | ack) == { syn, ack }"],
    );
}

#[test]
fn ranges_that_are_prefixes_and_narrow_fields_are_as_nft_writes_them() {
    system(
        &[
            "add chain ip t n { type nat hook prerouting priority 0; }",
            "add set ip t v { typeof ip version; elements = { 4 }; }",
            "add set ip t r { typeof ip option ra value; elements = { 4 }; }",
            "add rule ip t n dnat to 192.168.3.0-192.168.3.255",
            "add rule ip t c ip version @v",
            "add rule ip t c ip saddr . ip dscp { 1.1.1.1 . cs1 }",
        ],
        &[
            "dnat to 192.168.3.0/24",
            "ip version @v",
            "ip saddr . ip dscp { 1.1.1.1 . cs1 }",
            "set r { typeof ip option ra value; elements = { 4 }; }",
        ],
    );
}

#[test]
fn devices_are_in_the_order_of_their_names() {
    let netns = Netns::new("devices");
    netns.run("nft add table netdev n");
    netns.run("nft add chain netdev n c { type filter hook ingress devices = { lo, dummy0 } priority 0; }");
    let line = "type filter hook ingress devices = { dummy0, lo } priority filter; policy accept;";
    assert!(nft::ours(&netns, "").contains(line));
}

#[test]
fn arithmetic_on_more_octets_than_a_field_has_is_in_the_hosts_order() {
    lists(
        &Nft::of_debian_13(),
        &["add rule ip t c meta mark set ip dscp << 2 | 0x10"],
        &["meta mark set ip dscp << 2 | 0x10"],
    );
}
