//! Datagrams in, datagrams (or silence) out. Ids are rows of docs/dhcp-dns.md.

#![expect(clippy::disallowed_methods, reason = "some instant to count from")]

mod any;
mod parameters;
mod pool;
mod relay;
mod settings;
mod validation;

use std::time::{Instant, SystemTime};

use super::*;
use crate::net::MacAddr;

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORMATION_REQUEST: u8 = 11;

const TRANSACTION: [u8; 3] = [0xab, 0xcd, 0xef];
/// Options with their code and length: the client's identifier, ours, and another server's.
const CLIENT: &[u8] = &[0, 1, 0, 10, 0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 2];
const US: &[u8] = &[0, 2, 0, 4, 0, 4, 0xbe, 1];
const OTHER: &[u8] = &[0, 2, 0, 4, 0, 4, 0xbe, 2];
const RAPID_COMMIT: &[u8] = &[0, 14, 0, 0];
/// The guest's address, one it had before, and one that nobody knows.
const CURRENT: &str = "2001:db8:1::10";
const PREVIOUS: &str = "2001:db8:1::9";
const UNKNOWN: &str = "2001:db8:9::9";
/// T1, T2; preferred, valid.
const TIMES: [u32; 2] = [1800, 2880];
const LIFETIMES: [u32; 2] = [3600, 7200];

/// Status codes (RFC 8415 §21.13).
const SUCCESS: u16 = 0;
const NO_ADDRS_AVAIL: u16 = 2;
const NO_BINDING: u16 = 3;
const NOT_ON_LINK: u16 = 4;
const USE_MULTICAST: u16 = 5;
const NO_PREFIX_AVAIL: u16 = 6;

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn settings() -> Settings {
    let server = Duid::new(&US[4..]).unwrap();
    Settings::one_guest(server, vec![address(CURRENT)], Lifetimes::of(3600, 7200))
}

/// Its address was another one before.
fn moved() -> Settings {
    let addresses =
        Addresses::OneGuest { current: vec![address(CURRENT)], previous: vec![address(PREVIOUS)] };
    Settings { addresses, ..settings() }
}

fn now() -> Now {
    Now { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH }
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn message(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    [&[kind][..], &TRANSACTION, &options.concat()].concat()
}

fn oro(codes: &[u16]) -> Vec<u8> {
    option(6, &codes.iter().flat_map(|code| code.to_be_bytes()).collect::<Vec<_>>())
}

/// `IA_NA`, `IA_TA` or `IA_PD` by its option's code, with T1 and T2 of 0 where there are any.
fn association(code: u16, id: u8, addresses: &[&str]) -> Vec<u8> {
    let times = if code == 4 { 0 } else { 8 };
    let mut value = [&[0, 0, 0, id][..], &vec![0; times]].concat();
    for text in addresses {
        value.extend(option(5, &[&address(text).octets()[..], &[0; 8]].concat()));
    }
    option(code, &value)
}

fn ia_na(id: u8, addresses: &[&str]) -> Vec<u8> {
    association(3, id, addresses)
}

fn answer_by(settings: Settings, octets: &[u8]) -> Result<Option<Transmit>, Reason> {
    let datagram = Datagram { payload: octets, unicast: false };
    Responder::new(settings).unwrap().answer(now(), datagram)
}

fn answer(octets: &[u8]) -> Result<Option<Transmit>, Reason> {
    answer_by(settings(), octets)
}

/// A reply as it lies there: its type, and its options in order.
struct Reply {
    kind: u8,
    options: Vec<(u16, Vec<u8>)>,
}

fn items(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        found.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        rest = tail;
    }
    assert!(rest.is_empty(), "{rest:x?}");
    found
}

impl Reply {
    fn of(octets: &[u8]) -> Self {
        assert_eq!(octets[1..4], TRANSACTION);
        Self { kind: octets[0], options: items(&octets[4..]) }
    }

    fn codes(&self) -> Vec<u16> {
        self.options.iter().map(|(code, _)| *code).collect()
    }

    fn option(&self, code: u16) -> Option<&[u8]> {
        self.options.iter().find(|(found, _)| *found == code).map(|(_, value)| value.as_slice())
    }

    /// That of the whole message.
    fn status(&self) -> Option<u16> {
        self.option(13).map(|value| u16::from_be_bytes([value[0], value[1]]))
    }

    /// Each identity association: code, identifier, what is in it.
    fn associations(&self) -> Vec<(u16, u8, Content)> {
        let is_one = |code: &u16| [3, 4, 25].contains(code);
        let each = |(code, value): &(u16, Vec<u8>)| {
            let head = if *code == 4 { 4 } else { 12 };
            (*code, value[3], Content::of(&value[4..head], &items(&value[head..])))
        };
        self.options.iter().filter(|(code, _)| is_one(code)).map(each).collect()
    }

    /// What is in the only one.
    fn only(&self) -> Content {
        let [(3, 7, content)] = &self.associations()[..] else { panic!("{:x?}", self.options) };
        content.clone()
    }
}

fn words(octets: &[u8]) -> Vec<u32> {
    octets.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// T1 and T2, and addresses with their lifetimes.
    Lease(Vec<u32>, Vec<(Ipv6Addr, Vec<u32>)>),
    Status(u16),
}

impl Content {
    fn of(times: &[u8], options: &[(u16, Vec<u8>)]) -> Self {
        if let [(13, status)] = options {
            assert!(times.iter().all(|octet| *octet == 0));
            return Self::Status(u16::from_be_bytes([status[0], status[1]]));
        }
        let address = |(code, value): &(u16, Vec<u8>)| {
            assert_eq!((*code, value.len()), (5, 24));
            let octets: [u8; 16] = value[..16].try_into().unwrap();
            (Ipv6Addr::from(octets), words(&value[16..]))
        };
        Self::Lease(words(times), options.iter().map(address).collect())
    }
}

/// The guest's address with its lifetimes, and those that have ended.
fn lease(ended: &[&str]) -> Content {
    let mut addresses = vec![(address(CURRENT), LIFETIMES.to_vec())];
    addresses.extend(ended.iter().map(|text| (address(text), vec![0, 0])));
    Content::Lease(TIMES.to_vec(), addresses)
}

fn reply_by(settings: Settings, octets: &[u8]) -> Reply {
    Reply::of(&answer_by(settings, octets).unwrap().expect("an answer").payload)
}

fn reply(octets: &[u8]) -> Reply {
    reply_by(settings(), octets)
}

/// Octet by octet.
#[test]
fn v11_solicit_is_advertised_the_address() {
    let asked = message(SOLICIT, &[CLIENT, &[0, 8, 0, 2, 0, 0], &ia_na(7, &[])]);
    let transmit = answer(&asked).unwrap().unwrap();
    let advertised = [
        &[ADVERTISE, 0xab, 0xcd, 0xef][..],
        CLIENT,
        US,
        &[0, 7, 0, 1, 255],
        &[0, 3, 0, 40, 0, 0, 0, 7, 0, 0, 7, 8, 0, 0, 11, 64],
        &[0, 5, 0, 24, 0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10],
        &[0, 0, 14, 16, 0, 0, 28, 32],
    ];
    assert_eq!(transmit.payload, advertised.concat());
    let wanted = Transmit {
        destination: Destination::Client,
        payload: transmit.payload.clone(),
        message: MessageType::Solicit,
        kind: MessageType::Advertise,
        status: None,
        client: Duid::new(&CLIENT[4..]),
        addresses: vec![address(CURRENT)],
        name: None,
    };
    assert_eq!(transmit, wanted);
}

#[test]
fn v11_an_address_that_it_would_like_changes_nothing() {
    for hints in [&[][..], &["::"], &[UNKNOWN], &[CURRENT, UNKNOWN]] {
        assert_eq!(reply(&message(SOLICIT, &[CLIENT, &ia_na(7, hints)])).only(), lease(&[]));
    }
}

#[test]
fn v11_rapid_commit_is_replied_to_at_once_and_says_so() {
    let asked = message(SOLICIT, &[CLIENT, RAPID_COMMIT, &ia_na(7, &[])]);
    let committed = reply(&asked);
    assert_eq!((committed.kind, committed.codes()), (REPLY, vec![1, 2, 14, 3]));
    assert_eq!(committed.only(), lease(&[]));
    // Where it is off, or nothing would be committed, it is a SOLICIT like any other.
    let off = reply_by(Settings { rapid_commit: false, ..settings() }, &asked);
    assert_eq!((off.kind, off.codes()), (ADVERTISE, vec![1, 2, 7, 3]));
    let prefixes = message(SOLICIT, &[CLIENT, RAPID_COMMIT, &association(25, 1, &[])]);
    assert_eq!(reply(&prefixes).kind, ADVERTISE);
}

#[test]
fn v12_request_to_us_is_replied_to() {
    for addresses in [&[][..], &["::"], &[CURRENT]] {
        let reply = reply(&message(REQUEST, &[CLIENT, US, &ia_na(7, addresses)]));
        assert_eq!((reply.kind, reply.codes()), (REPLY, vec![1, 2, 3]));
        assert_eq!(reply.only(), lease(&[]));
    }
    let elsewhere = message(REQUEST, &[CLIENT, OTHER, &ia_na(7, &[])]);
    assert_eq!(answer(&elsewhere), Err(Reason::OtherServer));
}

#[test]
fn v12_a_request_for_another_address_is_not_on_link() {
    for addresses in [&[UNKNOWN][..], &[CURRENT, UNKNOWN], &[PREVIOUS]] {
        let reply = reply_by(moved(), &message(REQUEST, &[CLIENT, US, &ia_na(7, addresses)]));
        assert_eq!(reply.only(), Content::Status(NOT_ON_LINK));
    }
}

#[test]
fn v13_confirm_says_whether_the_addresses_are_right_or_nothing() {
    let confirm = |associations: &[Vec<u8>]| message(CONFIRM, &[CLIENT, &associations.concat()]);
    let cases = [
        (vec![ia_na(7, &[CURRENT])], SUCCESS),
        (vec![ia_na(7, &[CURRENT]), ia_na(8, &[CURRENT])], SUCCESS),
        (vec![ia_na(7, &[UNKNOWN])], NOT_ON_LINK),
        (vec![ia_na(7, &[CURRENT, PREVIOUS])], NOT_ON_LINK),
        (vec![ia_na(7, &[CURRENT]), association(4, 1, &[UNKNOWN])], NOT_ON_LINK),
    ];
    for (associations, status) in cases {
        let reply = reply_by(moved(), &confirm(&associations));
        assert_eq!((reply.kind, reply.status()), (REPLY, Some(status)), "{associations:x?}");
        assert_eq!(reply.codes(), [1, 2, 13]);
    }
    for associations in [vec![], vec![ia_na(7, &[])], vec![ia_na(7, &["::"])]] {
        assert_eq!(answer(&confirm(&associations)), Ok(None), "{associations:x?}");
    }
    // A prefix (2001:db8::/56) is not what is asked about.
    let prefix = [&[0; 8][..], &[56, 0x20, 1, 0xd, 0xb8], &[0; 12]].concat();
    let prefixes = option(25, &[&[0; 12][..], &option(26, &prefix)].concat());
    assert_eq!(answer(&confirm(&[prefixes])), Ok(None));
}

#[test]
fn v14_renew_and_rebind_extend() {
    for octets in [
        message(RENEW, &[CLIENT, US, &ia_na(7, &[CURRENT])]),
        message(REBIND, &[CLIENT, &ia_na(7, &[CURRENT])]),
        message(REBIND, &[CLIENT, &ia_na(7, &[])]),
    ] {
        let reply = reply(&octets);
        assert_eq!((reply.kind, reply.codes()), (REPLY, vec![1, 2, 3]));
        assert_eq!(reply.only(), lease(&[]));
    }
}

#[test]
fn v14_a_wrong_address_comes_back_with_lifetimes_of_nothing_beside_the_right_one() {
    for octets in [
        message(RENEW, &[CLIENT, US, &ia_na(7, &[UNKNOWN, CURRENT, UNKNOWN])]),
        message(REBIND, &[CLIENT, &ia_na(7, &[UNKNOWN])]),
    ] {
        assert_eq!(reply(&octets).only(), lease(&[UNKNOWN]));
    }
}

/// The pod's address changed.
#[test]
fn v08_who_renews_is_told_that_the_previous_address_has_ended() {
    for addresses in [&[PREVIOUS][..], &[CURRENT], &[]] {
        let reply = reply_by(moved(), &message(RENEW, &[CLIENT, US, &ia_na(7, addresses)]));
        assert_eq!(reply.only(), lease(&[PREVIOUS]));
    }
    let both = reply_by(moved(), &message(REBIND, &[CLIENT, &ia_na(7, &[UNKNOWN])]));
    assert_eq!(both.only(), lease(&[PREVIOUS, UNKNOWN]));
    let asked = message(SOLICIT, &[CLIENT, &ia_na(7, &[])]);
    assert_eq!(reply_by(moved(), &asked).only(), lease(&[]));
}

#[test]
fn v08_settings_are_changed_while_it_runs_and_wrong_ones_change_nothing() {
    let mut responder = Responder::new(settings()).unwrap();
    let asked = message(RENEW, &[CLIENT, US, &ia_na(7, &[CURRENT])]);
    let renew = |responder: &mut Responder| {
        let datagram = Datagram { payload: &asked, unicast: false };
        responder.answer(now(), datagram).unwrap().unwrap().addresses
    };
    responder.count(Reason::Malformed);
    let next = "2001:db8:2::1";
    let addresses =
        Addresses::OneGuest { current: vec![address(next)], previous: vec![address(CURRENT)] };
    responder.change(Settings { addresses, ..settings() }).unwrap();
    assert_eq!(renew(&mut responder), [address(next)]);
    let none = Addresses::OneGuest { current: Vec::new(), previous: Vec::new() };
    let refused = responder.change(Settings { addresses: none, ..settings() });
    assert_eq!(refused, Err(Error::NoAddress));
    assert_eq!(renew(&mut responder), [address(next)]);
    assert_eq!(responder.counts().get(&Reason::Malformed), Some(&1));
}

/// kubevirt#9843: a server that ended when it was asked by who has its address already.
#[test]
fn v15_information_request_gets_parameters_and_nothing_else() {
    let parameters = Parameters { dns: vec![address("fe80::1")], ..Parameters::default() };
    let settings = || Settings { parameters: parameters.clone(), ..settings() };
    for (options, codes) in [
        (vec![CLIENT, &oro(&[23])], vec![1, 2, 23]),
        (vec![&oro(&[23])], vec![2, 23]),
        (vec![US, CLIENT], vec![1, 2]),
        (vec![], vec![2]),
    ] {
        let asked = message(INFORMATION_REQUEST, &options);
        let reply = reply_by(settings(), &asked);
        assert_eq!((reply.kind, reply.codes()), (REPLY, codes));
        let transmit = answer_by(settings(), &asked).unwrap().unwrap();
        assert!(transmit.addresses.is_empty());
        assert_eq!(transmit.client.is_some(), options.contains(&CLIENT));
    }
    for code in [3, 4, 25] {
        let asked = message(INFORMATION_REQUEST, &[CLIENT, &association(code, 7, &[])]);
        assert_eq!(answer(&asked), Err(Reason::Association));
    }
}

#[test]
fn v16_release_and_decline_succeed_and_the_address_stays_the_guest_s() {
    let mut responder = Responder::new(settings()).unwrap();
    for kind in [RELEASE, DECLINE] {
        let asked = message(kind, &[CLIENT, US, &ia_na(7, &[CURRENT]), &oro(&[23])]);
        let datagram = Datagram { payload: &asked, unicast: false };
        let transmit = responder.answer(now(), datagram).unwrap().unwrap();
        let reply = Reply::of(&transmit.payload);
        assert_eq!((reply.kind, reply.status()), (REPLY, Some(SUCCESS)));
        assert_eq!(reply.codes(), [1, 2, 13]);
        assert_eq!(transmit.addresses, [address(CURRENT)]);
        assert_eq!(u8::from(transmit.message), kind);
    }
    assert_eq!(responder.counts(), &BTreeMap::from([(Reason::Declined, 1)]));
    let asked = message(SOLICIT, &[CLIENT, &ia_na(7, &[])]);
    let datagram = Datagram { payload: &asked, unicast: false };
    let transmit = responder.answer(now(), datagram).unwrap().unwrap();
    assert_eq!(Reply::of(&transmit.payload).only(), lease(&[]));
}

#[test]
fn v16_what_is_no_binding_cannot_be_released() {
    let others = [ia_na(8, &[CURRENT]), association(4, 1, &[]), association(25, 2, &[])].concat();
    let reply = reply(&message(RELEASE, &[CLIENT, US, &ia_na(7, &[CURRENT]), &others]));
    assert_eq!(reply.status(), Some(SUCCESS));
    let none = || Content::Status(NO_BINDING);
    assert_eq!(reply.associations(), [(3, 8, none()), (4, 1, none()), (25, 2, none())]);
}

#[test]
fn v18_temporary_addresses_prefixes_and_a_second_association_are_refused_inside() {
    let all = [
        association(25, 1, &[]),
        association(4, 2, &[]),
        ia_na(7, &[]),
        ia_na(8, &[]),
        association(25, 3, &[]),
    ]
    .concat();
    for (octets, codes) in [
        (message(SOLICIT, &[CLIENT, &all]), vec![1, 2, 7]),
        (message(REQUEST, &[CLIENT, US, &all]), vec![1, 2]),
        (message(RENEW, &[CLIENT, US, &all]), vec![1, 2]),
        (message(REBIND, &[CLIENT, &all]), vec![1, 2]),
    ] {
        let reply = reply(&octets);
        let wanted = [
            (25, 1, Content::Status(NO_PREFIX_AVAIL)),
            (4, 2, Content::Status(NO_ADDRS_AVAIL)),
            (3, 7, lease(&[])),
            (3, 8, Content::Status(NO_ADDRS_AVAIL)),
            (25, 3, Content::Status(NO_PREFIX_AVAIL)),
        ];
        assert_eq!(reply.associations(), wanted);
        assert_eq!(reply.codes(), [&codes[..], &[25, 4, 3, 3, 25]].concat());
    }
}

#[test]
fn v22_the_one_guest_is_served_whatever_it_says_it_is() {
    let longest = [0xff; 130];
    for duid in [&[0, 1, 0][..], &[0, 2, 0, 0, 0, 9, 1], &longest] {
        for id in [0, 1, 255] {
            let asked = message(SOLICIT, &[&option(1, duid), &ia_na(id, &[])]);
            let reply = reply(&asked);
            assert_eq!(reply.option(1), Some(duid));
            assert_eq!(reply.associations(), [(3, id, lease(&[]))]);
        }
    }
}

#[test]
fn v22_all_of_its_addresses_are_in_the_first_association() {
    let current = vec![address(CURRENT), address("2001:db8:2::10")];
    let addresses = Addresses::OneGuest { current: current.clone(), previous: Vec::new() };
    let asked = message(SOLICIT, &[CLIENT, &ia_na(7, &[]), &ia_na(8, &[])]);
    let settings = Settings { addresses, ..settings() };
    let reply = reply_by(settings, &asked);
    let each = |address: &Ipv6Addr| (*address, LIFETIMES.to_vec());
    let both = Content::Lease(TIMES.to_vec(), current.iter().map(each).collect());
    assert_eq!(reply.associations(), [(3, 7, both), (3, 8, Content::Status(NO_ADDRS_AVAIL))]);
}
