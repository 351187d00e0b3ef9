//! Settings that no server may have.

use super::*;

#[test]
fn what_no_server_may_say_is_refused() {
    type Change<'a> = &'a dyn Fn(&mut Settings);
    fn addresses(settings: &mut Settings) -> (&mut Vec<Ipv6Addr>, &mut Vec<Ipv6Addr>) {
        let Addresses::OneGuest { current, previous } = &mut settings.addresses else { panic!() };
        (current, previous)
    }
    let refused = |change: Change<'_>| {
        let mut settings = settings();
        change(&mut settings);
        Responder::new(settings).map(|_| ()).unwrap_err().to_string()
    };
    let boot = |url: &str| Some(Boot { url: url.into(), parameters: Vec::new() });
    let cases: [(Change<'_>, &str); 20] = [
        (&|s| addresses(s).0.clear(), "no address for the guest"),
        (&|s| addresses(s).0.push(Ipv6Addr::UNSPECIFIED), ":: is no address"),
        (&|s| addresses(s).0.push(address("ff02::1")), "ff02::1 is no address"),
        (&|s| addresses(s).0.push(address("fe80::2")), "fe80::2 is no address"),
        (&|s| addresses(s).1.push(Ipv6Addr::LOCALHOST), "::1 is no address"),
        (&|s| addresses(s).0.push(address(CURRENT)), "twice"),
        (&|s| addresses(s).1.push(address(CURRENT)), "twice"),
        (&|s| s.parameters.dns = vec![address("ff02::1")], "ff02::1 is no address of a server"),
        (&|s| s.parameters.ntp = vec![Ipv6Addr::UNSPECIFIED], ":: is no address of a server"),
        (&|s| s.lifetimes.t1 = 2881, "T1 2881 s"),
        (&|s| s.lifetimes.t2 = 3601, "T2 3601 s"),
        (&|s| s.lifetimes.preferred = 7201, "preferred for 7201 s"),
        (&|s| s.lifetimes = Lifetimes::of(0, 1), "preferred for 0 s"),
        (&|s| s.parameters.sol_max_rt = Some(59), "59 s"),
        (&|s| s.parameters.inf_max_rt = Some(86_401), "86401 s"),
        (&|s| s.parameters.refresh = Some(599), "599 s"),
        (&|s| s.parameters.boot = boot(""), "URL"),
        (&|s| s.parameters.boot = boot("http://a/\0"), "URL"),
        (&|s| s.parameters.boot = boot(&"a".repeat(70_000)), "octets: 976"),
        (&|s| s.parameters.dns = vec![Ipv6Addr::LOCALHOST; 40], "octets: 976"),
    ];
    for (change, words) in cases {
        let error = refused(change);
        assert!(error.contains(words), "{error}");
    }
}

/// As many servers as fit, and all that a client can ask for and add within bounds.
#[test]
fn the_longest_settings_fit_with_what_clients_and_agents_add() {
    let with = |servers: usize| {
        let parameters =
            Parameters { dns: vec![Ipv6Addr::LOCALHOST; servers], ..Parameters::default() };
        Settings { parameters, server: Duid::new(&[1; 130]).unwrap(), ..settings() }
    };
    let most = (0..40).take_while(|servers| Responder::new(with(*servers)).is_ok()).last();
    let most = most.expect("some servers");
    assert!(matches!(Responder::new(with(most + 1)), Err(Error::TooLong(977..))));
    let label =
        |octets: usize| [&[u8::try_from(octets).unwrap()][..], &vec![b'a'; octets]].concat();
    let name = [label(63), label(63), label(63), label(61), vec![0]].concat();
    let fqdn = option(39, &[&[1][..], &name].concat());
    let (client, server) = (option(1, &[2; 130]), option(2, &[1; 130]));
    let refused = association(25, 9, &[]).repeat(3);
    let associations = [ia_na(7, &[UNKNOWN]), refused].concat();
    let asked = message(RENEW, &[&client, &server, &fqdn, &oro(&[23, 39]), &associations]);
    let relayed = [&[12, 0][..], &[0; 32], &option(18, b"eth1.100"), &option(9, &asked)].concat();
    let payload = answer_by(with(most), &relayed).unwrap().unwrap().payload;
    assert!((1100..=1232).contains(&payload.len()), "{}", payload.len());
}
