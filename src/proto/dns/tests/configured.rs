//! Names that are configured: one by one, all below one, and those that have names below them.

use super::*;

/// `--domain lan --host *.apps.lan=… --host *.dev.apps.lan=… --host www.apps.lan=… --host gateway=…`
fn office() -> Settings {
    let host = |name: &str, last| (name.to_owned(), IpAddr::from([10, 0, 0, last]));
    Settings {
        hostname: String::new(),
        gateway: Some([10, 0, 0, 1].into()),
        hosts: vec![
            host("www.apps.lan", 8),
            host("gateway", 254),
            host("a.b.lan", 5),
            host("c.example.org", 6),
        ],
        below: vec![
            host("apps.lan", 7),
            ("apps.lan".into(), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 7])),
            host("dev.apps.lan", 9),
            host("any", 10),
        ],
        domain: Some("lan".into()),
        networks: vec!["10.0.0.1/24".parse().unwrap()],
        networks6: vec!["fd00::1/64".parse().unwrap()],
        search: vec![],
        ..settings()
    }
}

fn told(bench: &mut Bench, text: &str, kind: RecordType) -> String {
    let answer = bench.local(&question(text, kind).to_vec().unwrap());
    match answer.answers.first() {
        Some(found) => found.data.to_string(),
        None => code(&answer).to_string(),
    }
}

#[test]
fn all_names_below_one_have_its_address_and_nearer_ones_go_first() {
    let mut bench = Bench::with(office());
    bench.forwarder.name(
        bench.now,
        Named { address: IpAddr::from([10, 0, 0, 77]), name: Some("phone".into()), until: None },
    );
    for (text, wanted) in [
        ("shop.apps.lan.", "10.0.0.7"),
        ("a.b.Shop.APPS.lan.", "10.0.0.7"),
        ("www.apps.lan.", "10.0.0.8"),
        // As dnsmasq's --address: RFC 4592 would have www.apps.lan hide what is below it.
        ("a.www.apps.lan.", "10.0.0.7"),
        ("x.dev.apps.lan.", "10.0.0.9"),
        // One that is configured without a dot is in our domain as well.
        ("x.any.lan.", "10.0.0.10"),
        ("x.any.", "10.0.0.10"),
        ("phone.lan.", "10.0.0.77"),
        // What has names below it exists; only our own domain is known to have nothing else.
        ("apps.lan.", "No Error"),
        ("dev.apps.lan.", "10.0.0.7"),
        ("any.lan.", "No Error"),
        ("b.lan.", "No Error"),
        ("lan.", "No Error"),
        ("myapps.lan.", "Non-Existent Domain"),
        ("nobody.lan.", "Non-Existent Domain"),
        ("x.www.lan.", "Non-Existent Domain"),
    ] {
        assert_eq!(told(&mut bench, text, RecordType::A), wanted, "{text}");
    }
    assert_eq!(told(&mut bench, "shop.apps.lan.", RecordType::AAAA), "fd00::7");
    for (text, kind) in [("x.dev.apps.lan.", RecordType::AAAA), ("shop.apps.lan.", RecordType::TXT)]
    {
        assert_eq!(told(&mut bench, text, kind), "No Error", "{text}");
    }
    assert_eq!(told(&mut bench, "7.0.0.10.in-addr.arpa.", RecordType::PTR), "Non-Existent Domain");
}

#[test]
fn names_below_one_that_is_not_in_our_domain_are_ours_and_it_is_not() {
    let mut bench = Bench::with(Settings {
        below: vec![("apps.org".into(), [10, 0, 0, 7].into())],
        ..office()
    });
    assert_eq!(told(&mut bench, "x.apps.org.", RecordType::A), "10.0.0.7");
    for text in ["apps.org.", "org.", "xapps.org.", "example.org."] {
        assert_eq!(bench.asks(&ask_for(text)).name(), text);
    }
}

/// `gateway` was ours whatever was configured, and `gateway.lan` what was.
#[test]
fn what_is_configured_for_gateway_is_what_it_is() {
    for name in ["gateway", "gateway.lan"] {
        let hosts = vec![(name.to_owned(), [10, 0, 0, 254].into())];
        let mut bench = Bench::with(Settings { hosts, ..office() });
        for text in ["gateway.", "gateway.lan."] {
            assert_eq!(told(&mut bench, text, RecordType::A), "10.0.0.254", "{name}: {text}");
        }
        let pointer = |last| format!("{last}.0.0.10.in-addr.arpa.");
        assert_eq!(told(&mut bench, &pointer(254), RecordType::PTR), "gateway.lan.", "{name}");
        assert_eq!(told(&mut bench, &pointer(1), RecordType::PTR), "Non-Existent Domain", "{name}");
    }
    let mut bench = Bench::with(Settings { hosts: vec![], ..office() });
    assert_eq!(told(&mut bench, "gateway.", RecordType::A), "10.0.0.1");
    assert_eq!(told(&mut bench, "1.0.0.10.in-addr.arpa.", RecordType::PTR), "gateway.");
}

/// A client of both families is found by either, and by its name in our domain.
#[test]
fn names_of_dhcpv6_clients_have_addresses_and_pointers() {
    let gateway6 = Some("fd00::1".parse().unwrap());
    let mut bench = Bench::with(Settings { hosts: vec![], gateway6, ..office() });
    for address in ["10.0.0.77", "fd00::77"] {
        let named =
            Named { address: address.parse().unwrap(), name: Some("Phone".into()), until: None };
        bench.forwarder.name(bench.now, named);
    }
    let pointer = |last: &str| format!("{last}{}d.f.ip6.arpa.", "0.".repeat(26));
    for (text, kind, wanted) in [
        ("phone.lan.", RecordType::A, "10.0.0.77"),
        ("phone.", RecordType::AAAA, "fd00::77"),
        ("phone.lan.", RecordType::TXT, "No Error"),
        (&pointer("7.7.0.0."), RecordType::PTR, "phone.lan."),
        (&pointer("1.0.0.0."), RecordType::PTR, "gateway."),
        // Of our network, and nobody's: no server is asked.
        (&pointer("9.9.0.0."), RecordType::PTR, "Non-Existent Domain"),
        ("gateway.", RecordType::AAAA, "fd00::1"),
        ("nobody.lan.", RecordType::AAAA, "Non-Existent Domain"),
    ] {
        assert_eq!(told(&mut bench, text, kind), wanted, "{text}");
    }
    // What is no address is a name like any other.
    for text in ["7.7.d.f.ip6.arpa.", "77.d.f.ip6.arpa.", "x.ip6.arpa."] {
        assert_eq!(bench.asks(&ask_for(text)).name(), text);
    }
    let gone = Named { address: "fd00::77".parse().unwrap(), name: None, until: None };
    bench.forwarder.name(bench.now, gone);
    assert_eq!(told(&mut bench, "phone.lan.", RecordType::AAAA), "No Error");
    assert_eq!(told(&mut bench, "phone.lan.", RecordType::A), "10.0.0.77");
}
