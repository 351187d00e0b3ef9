//! What is said to who asks for it.

use super::*;

fn all() -> Settings {
    let parameters = Parameters {
        dns: vec![address("fe80::1"), address("fd00::53")],
        search: vec!["svc.cluster.local".parse().unwrap(), "cluster.local".parse().unwrap()],
        ntp: vec![address("fd00::7b"), address("fd00::7c")],
        boot: Some(Boot {
            url: "http://[fd00::1]/boot.efi".into(),
            parameters: vec!["a".into(), "bc".into()],
        }),
        domain: None,
        sol_max_rt: Some(120),
        inf_max_rt: Some(180),
        refresh: Some(600),
    };
    Settings { parameters, ..settings() }
}

const CODES: [u16; 9] = [23, 24, 31, 32, 56, 59, 60, 82, 83];

#[test]
fn v19_times_and_lifetimes_never_run_backwards() {
    for preferred in [1, 2, 3, 4, 5, 6, 7, 100, 3600, u32::MAX - 1, INFINITE] {
        let Lifetimes { t1, t2, preferred, valid } = Lifetimes::of(preferred, INFINITE);
        assert!(t1 <= t2 && t2 <= preferred && preferred <= valid, "{t1} {t2} {preferred}");
    }
    let wanted = Lifetimes { t1: 1800, t2: 2880, preferred: 3600, valid: 7200 };
    assert_eq!(Lifetimes::of(3600, 7200), wanted);
    assert_eq!(Lifetimes::of(INFINITE, INFINITE).t1, INFINITE);
}

#[test]
fn v19_our_identifier_is_the_same_after_a_restart() {
    let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    let duid = Duid::stable(mac);
    assert_eq!(duid.to_string(), "00:04:bd:68:6e:b3:3b:3d:8c:97:80:f0:21:1d:af:4b:7c:16");
    assert_ne!(duid, Duid::stable(MacAddr([0x52, 0x54, 0, 0, 0, 2])));
    // A UUID of version 8 and of the variant that RFC 9562 is about.
    assert_eq!((duid.octets().len(), duid.octets()[8] >> 4, duid.octets()[10] >> 6), (18, 8, 2));
    let settings = Settings { server: duid.clone(), ..settings() };
    let reply = reply_by(settings, &message(SOLICIT, &[CLIENT, &ia_na(7, &[])]));
    assert_eq!(reply.option(2), Some(duid.octets()));
}

#[test]
fn v19_an_identifier_has_three_to_130_octets() {
    let fits = |octets: usize| Duid::new(&vec![1; octets]).is_some();
    assert_eq!([0, 2, 3, 130, 131].map(fits), [false, false, true, true, false]);
}

#[test]
fn v20_what_was_asked_for_comes_in_its_order_and_once() {
    let asked = [83, 59, 24, 23, 60, 24, 0xfffe, 56, 31, 32, 82, 59];
    let information = message(INFORMATION_REQUEST, &[CLIENT, &oro(&asked)]);
    let reply = reply_by(all(), &information);
    assert_eq!(reply.codes(), [1, 2, 83, 59, 24, 23, 60, 56, 56, 31, 32, 82]);
    let of = |last: u8| [&[0xfd, 0][..], &[0; 13], &[last]].concat();
    let values: [(u16, Vec<u8>); 9] = [
        (23, [address("fe80::1").octets().to_vec(), of(0x53)].concat()),
        (24, b"\x03svc\x07cluster\x05local\0\x07cluster\x05local\0".to_vec()),
        (31, [of(0x7b), of(0x7c)].concat()),
        (32, vec![0, 0, 2, 88]),
        (56, [&[0, 1, 0, 16][..], &of(0x7b)].concat()),
        (59, b"http://[fd00::1]/boot.efi".to_vec()),
        (60, b"\0\x01a\0\x02bc".to_vec()),
        (82, vec![0, 0, 0, 120]),
        (83, vec![0, 0, 0, 180]),
    ];
    for (code, value) in values {
        assert_eq!(reply.option(code), Some(&value[..]), "{code}");
    }
    assert_eq!(reply.options[8], (56, [&[0, 1, 0, 16][..], &of(0x7c)].concat()));
}

#[test]
fn v20_what_was_not_asked_for_does_not_come() {
    for kind in [SOLICIT, REBIND] {
        let reply = reply_by(all(), &message(kind, &[CLIENT, &ia_na(7, &[])]));
        assert!(reply.codes().iter().all(|code| !CODES.contains(code)), "{:?}", reply.codes());
    }
    // And nothing that is not there.
    let asked = message(SOLICIT, &[CLIENT, &ia_na(7, &[]), &oro(&CODES)]);
    assert_eq!(reply(&asked).codes(), [1, 2, 7, 3]);
}

/// RFC 8415 appendix B: 32 is for who has no address, 83 in no ADVERTISE.
#[test]
fn v20_each_option_is_in_messages_that_may_have_it() {
    let of = |kind: u8, options: &[&[u8]]| {
        let asked = message(kind, &[CLIENT, &options.concat(), &oro(&CODES)]);
        let codes = reply_by(all(), &asked).codes();
        codes.into_iter().filter(|code| CODES.contains(code)).collect::<Vec<_>>()
    };
    assert_eq!(of(SOLICIT, &[&ia_na(7, &[])]), [23, 24, 31, 56, 56, 59, 60, 82]);
    assert_eq!(of(REQUEST, &[US, &ia_na(7, &[])]), [23, 24, 31, 56, 56, 59, 60, 82, 83]);
    assert_eq!(of(RENEW, &[US, &ia_na(7, &[])]), [23, 24, 31, 56, 56, 59, 60, 82, 83]);
    assert_eq!(of(INFORMATION_REQUEST, &[]), [23, 24, 31, 32, 56, 56, 59, 60, 82, 83]);
    assert!(of(CONFIRM, &[&ia_na(7, &[CURRENT])]).is_empty());
    assert!(of(RELEASE, &[US, &ia_na(7, &[CURRENT])]).is_empty());
}

/// RFC 4704 §6, with its flags 1 (the server updates), 2 (that was overridden) and 4 (nobody does).
#[test]
fn v20_the_client_s_name_is_completed_and_nobody_updates_it() {
    let cases: [(&[u8], &[u8], Option<&str>); 12] = [
        (b"\x01\x03web", b"\x06\x03web\x03svc\x07cluster\x05local\0", Some("web")),
        (b"\x00\x03web", b"\x04\x03web\x03svc\x07cluster\x05local\0", Some("web")),
        (b"\x04\x03web\x01a", b"\x04\x03web\x01a\x03svc\x07cluster\x05local\0", Some("web")),
        (b"\x05\x03web\x03lan\0", b"\x06\x03web\x03lan\0", Some("web")),
        // None that one could have: flags only.
        (b"\x01", b"\x06", None),
        (b"\x00\0", b"\x04", None),
        (b"\x00\x03we", b"\x04", None),
        (b"\x00\x03web\0\0", b"\x04", None),
        (b"\x00\x03web\xc0\0", b"\x04", None),
        (b"\x00\x04_web", b"\x04", None),
        (b"\x00\x04we.b", b"\x04", None),
        (b"\x00\x40web", b"\x04", None),
    ];
    for (given, wanted, name) in cases {
        let option = option(39, given);
        let asked = message(SOLICIT, &[CLIENT, &option, &oro(&[39]), &ia_na(7, &[])]);
        assert_eq!(reply_by(all(), &asked).option(39), Some(wanted), "{given:x?}");
        let transmit = answer_by(all(), &asked).unwrap().unwrap();
        assert_eq!(transmit.name.as_deref(), name);
        // Not asked for, it is not said, though heard.
        let asked = message(SOLICIT, &[CLIENT, &option, &ia_na(7, &[])]);
        assert_eq!(reply_by(all(), &asked).option(39), None);
        assert_eq!(answer_by(all(), &asked).unwrap().unwrap().name.as_deref(), name);
    }
    let asked = message(SOLICIT, &[CLIENT, &oro(&[39]), &ia_na(7, &[])]);
    assert_eq!(reply_by(all(), &asked).option(39), None);
}

#[test]
fn v20_the_domain_of_a_name_is_the_one_that_is_set_or_none() {
    let asked = message(SOLICIT, &[CLIENT, &option(39, b"\0\x03web"), &oro(&[39]), &ia_na(7, &[])]);
    let mut settings = all();
    settings.parameters.domain = Some("lan".parse().unwrap());
    assert_eq!(reply_by(settings, &asked).option(39), Some(&b"\x04\x03web\x03lan\0"[..]));
    assert_eq!(reply(&asked).option(39), Some(&b"\x04\x03web"[..]));
    // A name that the domain has no room in: as it came.
    let long = [
        &[0][..],
        &b"\x3faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(3),
        b"\x30aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]
    .concat();
    let asked = message(SOLICIT, &[CLIENT, &option(39, &long), &oro(&[39]), &ia_na(7, &[])]);
    assert_eq!(reply_by(all(), &asked).option(39).unwrap()[1..], long[1..]);
}
