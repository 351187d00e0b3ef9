//! Packets in, packets (or silence) out. Ids are rows of docs/dhcp-dns.md.

#![expect(clippy::disallowed_methods, reason = "some instant to count from")]

use std::time::{Instant, SystemTime};

use super::*;

const XID: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];
const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

fn settings() -> OneGuest {
    OneGuest {
        routed: true,
        server: Ipv4Addr::new(192, 168, 254, 1),
        guest: "192.168.254.2/30".parse().unwrap(),
        dns: vec![Ipv4Addr::new(192, 168, 254, 1)],
        search: vec![
            "default.svc.cluster.local".into(),
            "svc.cluster.local".into(),
            "cluster.local".into(),
        ],
        hostname: "web".into(),
        mtu: 1450,
        lease_secs: 86_400,
    }
}

fn now() -> Now {
    Now { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH }
}

fn responder(guest: OneGuest) -> Responder {
    Responder::new(guest.into(), Leases::new(1))
}

/// A request: fixed part with these fields, then options as given.
struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    fn new(options: &[&[u8]]) -> Self {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(XID);
        bytes.extend([0; 20]);
        bytes.extend(MAC);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        bytes.extend(options.concat());
        bytes.push(255);
        Self { bytes }
    }

    fn set(mut self, at: usize, value: &[u8]) -> Self {
        self.bytes[at..at + value.len()].copy_from_slice(value);
        self
    }

    fn ciaddr(self, address: [u8; 4]) -> Self {
        self.set(12, &address)
    }

    fn giaddr(self, address: [u8; 4]) -> Self {
        self.set(24, &address)
    }

    fn answer(&self) -> Result<Option<Transmit>, Reason> {
        responder(settings()).answer(now(), &self.bytes)
    }

    fn reply(&self) -> Reply {
        let transmit = self.answer().expect("an answer").expect("an answer");
        Reply { destination: transmit.destination, bytes: transmit.payload }
    }
}

struct Reply {
    destination: Destination,
    bytes: Vec<u8>,
}

impl Reply {
    /// Codes in order, each with its value, split ones joined.
    fn options(&self) -> Vec<(u8, Vec<u8>)> {
        let mut rest = &self.bytes[240..];
        let mut out: Vec<(u8, Vec<u8>)> = Vec::new();
        while rest[0] != 255 {
            let [code, length, tail @ ..] = rest else {
                panic!("a cut option in {:02x?}", self.bytes)
            };
            let (value, tail) = tail.split_at(usize::from(*length));
            match out.last_mut().filter(|(last, _)| last == code) {
                Some((_, whole)) => whole.extend(value),
                None => out.push((*code, value.to_vec())),
            }
            rest = tail;
        }
        out
    }

    fn codes(&self) -> Vec<u8> {
        self.options().into_iter().map(|(code, _)| code).collect()
    }

    fn option(&self, code: u8) -> Option<Vec<u8>> {
        self.options().into_iter().find(|(found, _)| *found == code).map(|(_, value)| value)
    }

    fn kind(&self) -> u8 {
        self.option(53).expect("a message type")[0]
    }

    fn yiaddr(&self) -> &[u8] {
        &self.bytes[16..20]
    }
}

const DISCOVER: &[u8] = &[53, 1, 1];
const REQUEST: &[u8] = &[53, 1, 3];
const INFORM: &[u8] = &[53, 1, 8];
const US: &[u8] = &[54, 4, 192, 168, 254, 1];
const OTHER: &[u8] = &[54, 4, 10, 0, 0, 1];
const OURS: &[u8] = &[50, 4, 192, 168, 254, 2];
const WRONG: &[u8] = &[50, 4, 10, 9, 8, 7];
const GUEST: [u8; 4] = [192, 168, 254, 2];
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

#[test]
fn d01_discover_is_offered_the_address() {
    let reply = Packet::new(&[DISCOVER]).set(10, &[0x80, 0]).reply();
    assert_eq!(reply.kind(), OFFER);
    assert_eq!((&reply.bytes[..4], &reply.bytes[4..8]), (&[2, 1, 6, 0][..], &XID[..]));
    assert_eq!(reply.yiaddr(), GUEST);
    assert_eq!(reply.bytes[10..12], [0x80, 0]);
    assert_eq!(reply.bytes[28..34], MAC);
    assert_eq!(reply.option(54), Some(vec![192, 168, 254, 1]));
    assert_eq!(reply.option(51), Some(86_400u32.to_be_bytes().to_vec()));
}

#[test]
fn d02_selecting_us_is_acked() {
    let reply = Packet::new(&[REQUEST, US, OURS]).reply();
    assert_eq!((reply.kind(), reply.yiaddr()), (ACK, &GUEST[..]));
    assert_eq!(Packet::new(&[REQUEST, US, WRONG]).reply().kind(), NAK);
}

#[test]
fn d03_selecting_another_server_is_none_of_our_business() {
    assert_eq!(Packet::new(&[REQUEST, OTHER, OURS]).answer(), Err(Reason::OtherServer));
}

#[test]
fn d04_init_reboot_is_acked_or_sent_back_to_the_start() {
    assert_eq!(Packet::new(&[REQUEST, OURS]).reply().kind(), ACK);
    let nak = Packet::new(&[REQUEST, WRONG]).reply();
    assert_eq!((nak.kind(), nak.destination), (NAK, Destination::Broadcast));
}

#[test]
fn d05_d06_renewing_and_rebinding_extend() {
    let reply = Packet::new(&[REQUEST]).ciaddr(GUEST).reply();
    assert_eq!((reply.kind(), reply.yiaddr()), (ACK, &GUEST[..]));
    assert_eq!(reply.destination, Destination::Client(GUEST.into()));
    assert_eq!(reply.bytes[12..16], GUEST);
    assert_eq!(Packet::new(&[REQUEST]).ciaddr([10, 9, 8, 7]).reply().kind(), NAK);
}

#[test]
fn d07_a_bad_mix_gets_no_ack() {
    assert_eq!(Packet::new(&[REQUEST]).answer(), Err(Reason::BadMix));
    assert_eq!(Packet::new(&[REQUEST, US, WRONG]).ciaddr(GUEST).answer(), Err(Reason::BadMix));
    assert_eq!(Packet::new(&[REQUEST, US]).answer(), Err(Reason::BadMix));
    // It renews, and repeats its address and us.
    assert_eq!(
        Packet::new(&[REQUEST, US, OURS]).ciaddr(GUEST).reply().kind(),
        u8::from(MessageType::Ack)
    );
}

#[test]
fn d08_a_nak_says_no_more_than_it_must() {
    let nak = Packet::new(&[REQUEST, WRONG, &[55, 2, 1, 3], &[61, 2, 1, 9]]).reply();
    assert_eq!(nak.codes(), [53, 54, 61, 56]);
    assert_eq!((nak.yiaddr(), &nak.bytes[20..24]), (&[0; 4][..], &[0; 4][..]));
    let relayed = Packet::new(&[REQUEST, WRONG]).giaddr(GUEST).reply();
    assert_eq!(relayed.destination, Destination::Relay(GUEST.into()));
    assert_eq!(relayed.bytes[10..12], [0x80, 0]);
}

#[test]
fn d09_d10_decline_and_release_are_counted() {
    assert_eq!(Packet::new(&[&[53, 1, 4], US, OURS]).answer(), Err(Reason::Declined));
    assert_eq!(Packet::new(&[&[53, 1, 7], US]).ciaddr(GUEST).answer(), Err(Reason::Released));
}

#[test]
fn d11_inform_gets_parameters_and_no_lease() {
    let reply = Packet::new(&[INFORM]).ciaddr([192, 168, 254, 2]).reply();
    assert_eq!((reply.kind(), reply.yiaddr()), (ACK, &[0; 4][..]));
    assert!(reply.option(6).is_some());
    assert!([51, 58, 59].iter().all(|&code| reply.option(code).is_none()));
    assert_eq!(reply.destination, Destination::Client(GUEST.into()));
    assert_eq!(Packet::new(&[INFORM]).answer(), Err(Reason::BadMix));
}

#[test]
fn d12_replies_go_where_the_client_can_hear() {
    let discover = || Packet::new(&[DISCOVER]);
    assert_eq!(
        discover().reply().destination,
        Destination::Unicast { address: GUEST.into(), mac: MacAddr(MAC) }
    );
    assert_eq!(discover().set(10, &[0x80, 0]).reply().destination, Destination::Broadcast);
    assert_eq!(discover().giaddr(GUEST).reply().destination, Destination::Relay(GUEST.into()));
}

#[test]
fn one_guest_is_sent_nothing_to_the_addresses_of_others() {
    let other = [10, 0, 0, 9];
    for options in
        [&[DISCOVER][..], &[INFORM], &[REQUEST, US, OURS], &[REQUEST, OURS], &[REQUEST, WRONG]]
    {
        assert_eq!(Packet::new(options).giaddr(other).answer(), Err(Reason::NoSubnet));
        if let Ok(Some(reply)) = Packet::new(options).ciaddr(other).answer() {
            let to = reply.destination;
            let own = Destination::Unicast { address: GUEST.into(), mac: MacAddr(MAC) };
            assert!(to == Destination::Broadcast || to == own, "{to:?}");
        }
    }
    assert_eq!(Packet::new(&[INFORM]).ciaddr(other).reply().destination, Destination::Broadcast);
}

#[test]
fn d13_any_mac_and_any_client_identifier_is_served() {
    for (mac, id) in
        [([2, 0, 0, 0, 0, 1], &[61, 3, 1, 2, 3][..]), ([0xaa; 6], &[61, 5, 255, 0, 0, 0, 1])]
    {
        assert_eq!(Packet::new(&[DISCOVER, id]).set(28, &mac).reply().yiaddr(), GUEST);
    }
}

#[test]
fn d17_the_same_question_gets_the_same_bytes() {
    for options in [&[DISCOVER][..], &[REQUEST, US, OURS]] {
        assert_eq!(Packet::new(options).reply().bytes, Packet::new(options).reply().bytes);
    }
}

#[test]
fn d18_lease_times_are_bounded_and_ordered() {
    for (asked, given) in [(60u32, 300u32), (3600, 3600), (u32::MAX, 86_400)] {
        let option = [&[51, 4][..], &asked.to_be_bytes()].concat();
        let reply = Packet::new(&[DISCOVER, &option]).reply();
        let seconds = |code| u32::from_be_bytes(reply.option(code).unwrap().try_into().unwrap());
        assert_eq!((seconds(51), seconds(58)), (given, given / 2));
        assert!(seconds(58) < seconds(59) && seconds(59) < seconds(51));
    }
}

/// 3 is the shortest that `berth serve` takes.
#[test]
fn d18_the_shortest_leases_have_timers_in_order() {
    for lease_secs in 3..40 {
        let packet = Packet::new(&[DISCOVER, &[51, 4, 0, 0, 0, 1]]);
        let transmit =
            responder(OneGuest { lease_secs, ..settings() }).answer(now(), &packet.bytes);
        let Transmit { destination, payload: bytes, .. } = transmit.unwrap().unwrap();
        let reply = Reply { destination, bytes };
        let seconds = |code| u32::from_be_bytes(reply.option(code).unwrap().try_into().unwrap());
        let [lease, t1, t2] = [51, 58, 59].map(seconds);
        assert!(lease == lease_secs && 0 < t1 && t1 < t2 && t2 < lease, "{t1} < {t2} < {lease}");
    }
}

#[test]
fn d19_secs_and_hops_change_nothing() {
    let plain = Packet::new(&[DISCOVER]).reply();
    let other = Packet::new(&[DISCOVER]).set(3, &[3]).set(8, &[0xff, 0xff]).reply();
    assert_eq!((other.bytes[3], other.options()), (3, plain.options()));
}

#[test]
fn d20_d22_what_does_not_fit_is_left_out_whole() {
    let long = OneGuest {
        search: (0..55).map(|n| format!("domain-number-{n}.example")).collect(),
        ..settings()
    };
    // The link takes 1450 octets, whatever the client would.
    for (size, whole) in [(576u16, false), (1500, true)] {
        let option = [&[57, 2][..], &size.to_be_bytes()].concat();
        let packet = Packet::new(&[DISCOVER, &option, &[55, 3, 119, 1, 3]]);
        let transmit = responder(long.clone()).answer(now(), &packet.bytes).unwrap().unwrap();
        assert!(transmit.payload.len() + 28 <= usize::from(size.min(1450)));
        let reply = Reply { destination: transmit.destination, bytes: transmit.payload };
        assert_eq!(reply.option(119).is_some(), whole);
        assert!(reply.option(3).is_some() && reply.option(1).is_some());
        if whole {
            assert_eq!(reply.option(119), Some(value::search_list(&long.search)));
        }
    }
}

#[test]
fn d21_options_come_in_the_order_they_were_asked_for() {
    let reply = Packet::new(&[DISCOVER, &[55, 7, 119, 6, 3, 42, 1, 12, 15]]).reply();
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 119, 6, 3, 1, 12, 15, 26]);
}

#[test]
fn d23_d24_padding_is_skipped_and_split_options_are_joined() {
    let reply = Packet::new(&[&[0, 0], &[55, 1, 6], DISCOVER, &[0], &[55, 1, 3]]).reply();
    let codes = reply.codes();
    assert!(codes.contains(&6) && codes.contains(&3), "{codes:?}");
    let mut packet = Packet::new(&[DISCOVER]);
    packet.bytes.pop();
    assert!(packet.answer().is_ok(), "a missing end option is tolerated");
}

#[test]
fn d25_d27_d28_d29_what_is_no_request_is_dropped() {
    let discover = || Packet::new(&[DISCOVER]);
    assert_eq!(discover().set(236, &[0]).answer(), Err(Reason::NoCookie));
    assert_eq!(discover().set(0, &[2]).answer(), Err(Reason::NotARequest));
    assert_eq!(discover().set(2, &[17]).answer(), Err(Reason::HardwareAddress));
    assert_eq!(discover().set(1, &[7]).answer(), Err(Reason::HardwareAddress));
    assert_eq!(Packet::new(&[&[53, 1, 99]]).answer(), Err(Reason::UnknownMessageType));
    assert_eq!(Packet::new(&[&[53, 1, 2]]).answer(), Err(Reason::UnknownMessageType));
    assert_eq!(Packet::new(&[]).answer(), Err(Reason::NoMessageType));
    assert_eq!(Packet { bytes: vec![1, 1, 6] }.answer(), Err(Reason::Truncated));
    assert_eq!(Packet { bytes: vec![1; 5000] }.answer(), Err(Reason::TooLong));
    let mut cut = Packet::new(&[DISCOVER, &[61, 200, 1]]);
    cut.bytes.truncate(245);
    assert_eq!(cut.answer(), Err(Reason::Malformed));
}

#[test]
fn d30_unknown_options_are_ignored() {
    assert_eq!(Packet::new(&[DISCOVER, &[224, 3, 1, 2, 3], &[254, 1, 0]]).reply().kind(), OFFER);
}

#[test]
fn d37_the_client_identifier_is_echoed() {
    let reply = Packet::new(&[DISCOVER, &[61, 4, 255, 1, 2, 3]]).reply();
    assert_eq!(reply.option(61), Some(vec![255, 1, 2, 3]));
}

#[test]
fn d39_classless_routes_are_sent_when_asked_for() {
    let reply = Packet::new(&[DISCOVER, &[55, 3, 121, 249, 3]]).reply();
    let route = Some(vec![0, 192, 168, 254, 1]);
    assert_eq!((reply.option(121), reply.option(249)), (route.clone(), route));
    assert!(reply.option(3).is_some());
    assert_eq!(Packet::new(&[DISCOVER]).reply().option(121), None);
}

#[test]
fn d41_the_search_list_is_compressed() {
    let reply = Packet::new(&[DISCOVER, &[55, 1, 119]]).reply();
    let expected = b"\x07default\x03svc\x07cluster\x05local\x00\xc0\x08\xc0\x0c";
    assert_eq!(reply.option(119), Some(expected.to_vec()));
}

#[test]
fn d42_names_are_sent_without_dots_at_the_end() {
    let reply = Packet::new(&[DISCOVER]).reply();
    assert_eq!(reply.option(12), Some(b"web".to_vec()));
    assert_eq!(reply.option(15), Some(b"default.svc.cluster.local".to_vec()));
}

#[test]
fn d44_a_small_mtu_is_told_unasked() {
    assert_eq!(
        Packet::new(&[DISCOVER, &[55, 1, 3]]).reply().option(26),
        Some(1450u16.to_be_bytes().to_vec())
    );
    let default = OneGuest { mtu: 1500, ..settings() };
    let packet = Packet::new(&[DISCOVER, &[55, 1, 3]]);
    let transmit = responder(default).answer(now(), &packet.bytes).unwrap().unwrap();
    let reply = Reply { destination: transmit.destination, bytes: transmit.payload };
    assert_eq!(reply.option(26), None);
}

#[test]
fn d51_lease_queries_are_dropped() {
    assert_eq!(Packet::new(&[&[53, 1, 10]]).answer(), Err(Reason::UnknownMessageType));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(20_000))]

    #[test]
    fn random_bytes_end_nothing(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..700)) {
        let _ = responder(settings()).answer(now(), &bytes);
    }

    #[test]
    fn spoilt_requests_end_nothing_and_replies_stay_in_bounds(
        kind in 0u8..20,
        tail in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        spoilt in proptest::collection::vec((0usize..500, proptest::num::u8::ANY), 0..6),
    ) {
        let mut packet = Packet::new(&[&[53, 1, kind], &tail]);
        for (at, byte) in spoilt {
            if let Some(slot) = packet.bytes.get_mut(at) {
                *slot = byte;
            }
        }
        if let Ok(Some(transmit)) = packet.answer() {
            assert!((300..=1472).contains(&transmit.payload.len()));
            assert_eq!(transmit.payload[0], 2);
        }
    }

    /// dhcproto is the judge of our own reading of well-formed requests, split options among them.
    #[test]
    fn requests_are_read_as_dhcproto_reads_them(
        header in proptest::collection::vec(proptest::num::u8::ANY, 232),
        kind in 1u8..9,
        words in proptest::collection::vec((0usize..9, proptest::array::uniform4(proptest::num::u8::ANY)), 0..9),
        wanted in proptest::collection::vec(1u8..255, 2..40),
        id in proptest::collection::vec(proptest::num::u8::ANY, 2..80),
    ) {
        use dhcproto::v4::{DhcpOption, Message, OptionCode};
        use dhcproto::{Decodable, Decoder};
        let mut bytes = [&[1, 1, 6, 0][..], &header, &COOKIE, &[53, 1, kind, 61], &[id.len() as u8], &id].concat();
        let mut said = Vec::new();
        for (which, value) in words {
            let code = [50, 51, 54, 0, 224, 2, 118, 28, 35][which];
            if code == 0 {
                bytes.push(0);
            } else if !said.contains(&code) {
                said.push(code);
                bytes.extend([code, 4]);
                bytes.extend(value);
            }
        }
        let (first, second) = wanted.split_at(wanted.len() / 2);
        for part in [first, second] {
            bytes.extend([55, part.len() as u8]);
            bytes.extend(part);
        }
        bytes.push(255);
        let theirs = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        let ours = Request::parse(&bytes).unwrap();
        let options = theirs.opts();
        let some = |address: Ipv4Addr| Some(address).filter(|address| !address.is_unspecified());
        let address = |code| match options.get(code) {
            Some(DhcpOption::RequestedIpAddress(it) | DhcpOption::ServerIdentifier(it)) => Some(*it),
            _ => None,
        };
        proptest::prop_assert_eq!(ours.kind, options.msg_type());
        proptest::prop_assert_eq!((ours.ciaddr, ours.giaddr), (some(theirs.ciaddr()), some(theirs.giaddr())));
        proptest::prop_assert_eq!(ours.broadcast, theirs.flags().broadcast());
        proptest::prop_assert_eq!(&ours.mac.0[..], theirs.chaddr());
        proptest::prop_assert_eq!(ours.address, address(OptionCode::RequestedIpAddress));
        proptest::prop_assert_eq!(ours.server, address(OptionCode::ServerIdentifier));
        let lease = options.get(OptionCode::AddressLeaseTime);
        let lease = lease.cloned();
        proptest::prop_assert_eq!(ours.lease_secs.map(DhcpOption::AddressLeaseTime), lease);
        proptest::prop_assert_eq!(ours.option(code::CLIENT_ID), Some(&id[..]));
        proptest::prop_assert_eq!(ours.option(code::REQUEST_LIST), Some(&wanted[..]));
    }
}
