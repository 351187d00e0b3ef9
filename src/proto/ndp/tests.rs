//! Frames in, frames out. What is sent is read by another implementation (smoltcp's), checksums with it.

#![expect(clippy::disallowed_methods, reason = "some instant to count from")]

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscPrefixInfoFlags, NdiscRepr,
    NdiscRouterFlags,
};

use super::*;

const GUEST: (MacAddr, Ipv6Addr) =
    (MacAddr([0x52, 0x54, 0, 0, 0, 2]), Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, 2));
const OURS: (MacAddr, Ipv6Addr) =
    (MacAddr([0x52, 0x54, 0, 0, 0, 1]), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
const ALL_ROUTERS: (MacAddr, Ipv6Addr) =
    (MacAddr([0x33, 0x33, 0, 0, 0, 2]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2));
const NOBODY: (MacAddr, Ipv6Addr) = (GUEST.0, Ipv6Addr::UNSPECIFIED);

fn settings() -> Settings {
    Settings {
        mac: OURS.0,
        address: OURS.1,
        managed: true,
        other: true,
        mtu: Some(1450),
        lifetime: 1800,
        prefixes: vec![Prefix {
            network: "fd00:6be::".parse().unwrap(),
            length: 64,
            on_link: true,
            autonomous: false,
            valid: 3600,
            preferred: 1800,
        }],
        servers: vec!["fd00:6be::1".parse().unwrap()],
        search: vec!["svc.cluster.local".parse().unwrap()],
        interval: Duration::from_secs(200)..=Duration::from_secs(600),
    }
}

/// Draws the same each time: `thousandths` of a range.
fn router(now: Instant, thousandths: u32) -> Router {
    Router::new(now, Advertisement::new(settings()).unwrap(), move || thousandths)
}

fn sent(router: &mut Router) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| router.poll()).collect()
}

/// A frame as another implementation reads it: to whom, and what.
fn read(frame: &[u8]) -> (MacAddr, Ipv6Addr, Vec<u8>, NdiscRepr<'_>) {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    let (to, from) = (ethernet.dst_addr().0, ethernet.src_addr().0);
    assert_eq!(MacAddr(from), OURS.0);
    let ip = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!((ip.src_addr(), ip.hop_limit()), (OURS.1, 255));
    let destination = ip.dst_addr();
    let icmp = Icmpv6Packet::new_checked(&frame[54..]).unwrap();
    let checked = ChecksumCapabilities::default();
    let icmp = Icmpv6Repr::parse(&OURS.1, &destination, &icmp, &checked).unwrap();
    let Icmpv6Repr::Ndisc(message) = icmp else { panic!("{icmp:?}") };
    (MacAddr(to), destination, frame[54..].to_vec(), message)
}

fn router_solicitation(options: &[u8]) -> Vec<u8> {
    [&[133, 0, 0, 0, 0, 0, 0, 0], options].concat()
}

fn frame_of(from: (MacAddr, Ipv6Addr), to: (MacAddr, Ipv6Addr), mut message: Vec<u8>) -> Vec<u8> {
    frame::icmpv6(from, to, &mut message).unwrap()
}

const ITS_MAC: [u8; 8] = [1, 1, 0x52, 0x54, 0, 0, 0, 2];

#[test]
fn an_advertisement_says_what_was_set() {
    let now = Instant::now();
    let mut router = router(now, 500);
    assert_eq!(router.deadline(), Some(now));
    router.handle(now, Input::Timeout).unwrap();
    let frames = sent(&mut router);
    assert_eq!(frames.len(), 1);
    let (mac, to, octets, message) = read(&frames[0]);
    assert_eq!((mac, to), ALL_NODES);
    let NdiscRepr::RouterAdvert {
        hop_limit, flags, router_lifetime, lladdr, mtu, prefix_info, ..
    } = message
    else {
        panic!("{message:?}")
    };
    assert_eq!((hop_limit, mtu), (64, Some(1450)));
    assert_eq!(flags, NdiscRouterFlags::MANAGED | NdiscRouterFlags::OTHER);
    assert_eq!(router_lifetime.secs(), 1800);
    assert_eq!(lladdr.unwrap().as_bytes(), OURS.0.0);
    let prefix = prefix_info.unwrap();
    assert_eq!((prefix.prefix_len, prefix.flags), (64, NdiscPrefixInfoFlags::ON_LINK));
    assert_eq!((prefix.valid_lifetime.secs(), prefix.preferred_lifetime.secs()), (3600, 1800));
    // RFC 8106: three times the longest interval, the server's address; the domain, filled up with zeros.
    let servers = [&[25, 3, 0, 0, 0, 0, 7, 8, 0xfd, 0, 6, 0xbe][..], &[0; 11], &[1]].concat();
    let search = b"\x1f\x04\0\0\0\0\x07\x08\x03svc\x07cluster\x05local\0\0\0\0\0\0";
    assert!(octets.windows(servers.len()).any(|window| window == servers), "{octets:x?}");
    assert!(octets.ends_with(search), "{octets:x?}");
}

/// V02: three soon, then one in each interval.
#[test]
fn advertisements_come_by_themselves() {
    let start = Instant::now();
    let mut router = router(start, 500);
    let mut times = Vec::new();
    for _ in 0..6 {
        let due = router.deadline().unwrap();
        router.handle(due, Input::Timeout).unwrap();
        assert_eq!(sent(&mut router).len(), 1);
        times.push((due - start).as_secs());
    }
    assert_eq!(times, [0, 4, 8, 12, 412, 812]);
    // Nothing before its time.
    router.handle(start, Input::Timeout).unwrap();
    assert!(sent(&mut router).is_empty());
}

#[test]
fn who_asks_is_answered_once_and_by_itself_within_half_a_second() {
    let start = Instant::now();
    for (thousandths, delay) in [(0, 0), (500, 250), (1000, 500)] {
        let mut router = router(start, thousandths);
        router.handle(start, Input::Timeout).unwrap();
        sent(&mut router);
        let now = start + Duration::from_secs(1);
        let asked = frame_of(GUEST, ALL_ROUTERS, router_solicitation(&ITS_MAC));
        router.handle(now, Input::Frame(&asked)).unwrap();
        router.handle(now + Duration::from_millis(1), Input::Frame(&asked)).unwrap();
        let due = router.deadline().unwrap();
        assert_eq!(due - now, Duration::from_millis(delay));
        assert!(sent(&mut router).is_empty());
        router.handle(due, Input::Timeout).unwrap();
        let frames = sent(&mut router);
        assert_eq!(frames.len(), 1);
        let (mac, to, _, message) = read(&frames[0]);
        assert_eq!((mac, to), GUEST);
        assert!(matches!(message, NdiscRepr::RouterAdvert { .. }));
    }
}

/// RFC 4861 §6.2.6: to all nodes no two within 3 s, whoever asks.
#[test]
fn who_has_no_address_is_answered_with_all_others_and_not_too_often() {
    let start = Instant::now();
    let mut router = router(start, 1000);
    router.handle(start, Input::Timeout).unwrap();
    sent(&mut router);
    let asked = frame_of(NOBODY, ALL_ROUTERS, router_solicitation(&[]));
    for millis in [100, 200, 2000, 2900, 4000, 4100] {
        router.handle(start + Duration::from_millis(millis), Input::Frame(&asked)).unwrap();
    }
    let due = router.deadline().unwrap();
    assert_eq!(due - start, Duration::from_secs(3));
    router.handle(due, Input::Timeout).unwrap();
    assert_eq!(read(&sent(&mut router)[0]).1, ALL_NODES.1);
    // Two more of the first ones.
    for _ in 0..2 {
        let due = router.deadline().unwrap();
        router.handle(due, Input::Timeout).unwrap();
        sent(&mut router);
    }
    router.handle(start + Duration::from_secs(20), Input::Frame(&asked)).unwrap();
    assert_eq!(router.deadline().unwrap() - start, Duration::from_millis(20_500));
}

#[test]
fn a_flood_of_askers_is_one_answer_to_all() {
    let start = Instant::now();
    let mut router = router(start, 1000);
    router.handle(start, Input::Timeout).unwrap();
    sent(&mut router);
    let now = start + Duration::from_millis(3_200);
    for number in 0..10_000_u16 {
        let [high, low] = number.to_be_bytes();
        let from =
            (MacAddr([2, 0, 0, 0, high, low]), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number));
        let asked = frame_of(from, ALL_ROUTERS, router_solicitation(&[]));
        router.handle(now, Input::Frame(&asked)).unwrap();
    }
    assert_eq!(router.waiting.len(), MAX_WAITING);
    router.handle(now + MAX_DELAY, Input::Timeout).unwrap();
    let frames = sent(&mut router);
    assert_eq!(frames.len(), MAX_WAITING + 1);
    assert_eq!(frames.iter().filter(|frame| read(frame).1 == ALL_NODES.1).count(), 1);
}

/// V03.
#[test]
fn the_last_one_is_no_default_router_and_nothing_follows() {
    let now = Instant::now();
    let mut router = router(now, 500);
    router.handle(now, Input::Stop).unwrap();
    let frames = sent(&mut router);
    let (_, to, octets, message) = read(&frames[0]);
    let NdiscRepr::RouterAdvert { router_lifetime, .. } = message else { panic!("{message:?}") };
    assert_eq!((frames.len(), to, router_lifetime.secs()), (1, ALL_NODES.1, 0));
    assert!(octets.windows(8).any(|window| window == [25, 3, 0, 0, 0, 0, 0, 0]), "{octets:x?}");
    let asked = frame_of(GUEST, ALL_ROUTERS, router_solicitation(&ITS_MAC));
    router.handle(now, Input::Frame(&asked)).unwrap();
    assert_eq!((router.deadline(), sent(&mut router)), (None, vec![]));
}

#[test]
fn new_settings_are_told_to_all_soon() {
    let start = Instant::now();
    let mut router = router(start, 500);
    for _ in 0..5 {
        let due = router.deadline().unwrap();
        router.handle(due, Input::Timeout).unwrap();
    }
    sent(&mut router);
    let now = router.deadline().unwrap() - Duration::from_secs(100);
    let changed = Advertisement::new(Settings { mtu: Some(1280), ..settings() }).unwrap();
    router.handle(now, Input::Settings(changed)).unwrap();
    assert_eq!(router.deadline(), Some(now));
    router.handle(now, Input::Timeout).unwrap();
    let frames = sent(&mut router);
    let (_, _, _, message) = read(&frames[0]);
    assert!(matches!(message, NdiscRepr::RouterAdvert { mtu: Some(1280), .. }), "{message:?}");
    assert_eq!(router.deadline(), Some(now + INITIAL_INTERVAL));
}

/// V01, RFC 4861 §6.1.1: each discarded, and nothing sent.
#[test]
fn what_a_router_has_to_discard_is_discarded() {
    let now = Instant::now();
    let good = frame_of(GUEST, ALL_ROUTERS, router_solicitation(&ITS_MAC));
    let spoilt = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let code = [&[133, 1, 0, 0, 0, 0, 0, 0][..], &ITS_MAC].concat();
    let multicast = (GUEST.0, ALL_NODES.1);
    let group_mac = (MacAddr([1, 0, 0, 0, 0, 2]), GUEST.1);
    let cases = [
        (good[..13].to_vec(), Reason::Truncated),
        (good[..53].to_vec(), Reason::Truncated),
        (good[..good.len() - 1].to_vec(), Reason::Truncated),
        (spoilt(12, 8), Reason::NotSolicitation),
        (spoilt(14, 0x40), Reason::NotSolicitation),
        (spoilt(20, 17), Reason::NotSolicitation),
        (spoilt(54, 134), Reason::NotSolicitation),
        (spoilt(21, 254), Reason::HopLimit),
        (spoilt(56, !good[56]), Reason::Checksum),
        (spoilt(22, 0xfc), Reason::Checksum),
        (frame_of(GUEST, ALL_ROUTERS, code), Reason::Malformed),
        (frame_of(GUEST, ALL_ROUTERS, vec![133, 0, 0, 0, 0, 0]), Reason::Malformed),
        (
            frame_of(GUEST, ALL_ROUTERS, router_solicitation(&[1, 0, 0, 0, 0, 0, 0, 0])),
            Reason::Malformed,
        ),
        (
            frame_of(GUEST, ALL_ROUTERS, router_solicitation(&[1, 2, 0, 0, 0, 0, 0, 0])),
            Reason::Malformed,
        ),
        (frame_of(GUEST, ALL_ROUTERS, router_solicitation(&[1])), Reason::Malformed),
        (frame_of(NOBODY, ALL_ROUTERS, router_solicitation(&ITS_MAC)), Reason::Malformed),
        (frame_of(multicast, ALL_ROUTERS, router_solicitation(&[])), Reason::Malformed),
        (frame_of(group_mac, ALL_ROUTERS, router_solicitation(&[])), Reason::Malformed),
        (spoilt(54, 135), Reason::NotSolicitation),
        (frame_of((GUEST.0, OURS.1), ALL_ROUTERS, router_solicitation(&[])), Reason::OwnAddress),
        (frame_of(OURS, ALL_ROUTERS, router_solicitation(&[])), Reason::OwnAddress),
    ];
    for (number, (frame, reason)) in cases.iter().enumerate() {
        let mut router = router(now, 500);
        let before = router.deadline();
        assert_eq!(router.handle(now, Input::Frame(frame)), Err(*reason), "case {number}");
        assert_eq!((router.deadline(), sent(&mut router)), (before, vec![]), "case {number}");
    }
    // Padding is none of the packet's.
    let padded = [&good[..], &[0; 6]].concat();
    assert_eq!(router(now, 500).handle(now, Input::Frame(&padded)), Ok(()));
}

#[test]
fn what_no_router_may_say_is_refused() {
    type Change<'a> = &'a dyn Fn(&mut Settings);
    let secs = Duration::from_secs;
    let prefix = |text: &str, length, valid, preferred| Prefix {
        network: text.parse().unwrap(),
        length,
        on_link: false,
        autonomous: true,
        valid,
        preferred,
    };
    let refused = |change: Change<'_>| {
        let mut settings = settings();
        change(&mut settings);
        Advertisement::new(settings).unwrap_err().to_string()
    };
    let cases: [(Change<'_>, &str); 13] = [
        (&|s| s.address = "fd00::1".parse().unwrap(), "link-local"),
        (&|s| s.mtu = Some(1279), "1279 octets"),
        (&|s| s.lifetime = 599, "599 s"),
        (&|s| s.lifetime = 9001, "9001 s"),
        (&|s| s.interval = secs(2)..=secs(4), "intervals"),
        (&|s| s.interval = secs(3)..=secs(3), "intervals"),
        (&|s| s.interval = secs(500)..=secs(600), "intervals"),
        (&|s| s.prefixes = vec![prefix("fd00::1", 64, 2, 1)], "fd00::1/64"),
        (&|s| s.prefixes = vec![prefix("fd00::", 129, 2, 1)], "fd00::/129"),
        (&|s| s.prefixes = vec![prefix("fe80::", 64, 2, 1)], "fe80::/64"),
        (&|s| s.prefixes = vec![prefix("fd00::", 64, 1, 2)], "longer than it is valid"),
        (&|s| s.servers = vec![Ipv6Addr::UNSPECIFIED], "no name server"),
        (&|s| s.servers = vec![Ipv6Addr::LOCALHOST; 80], "octets: 1240"),
    ];
    for (change, words) in cases {
        let error = refused(change);
        assert!(error.contains(words), "{error}");
    }
    let no_default = Settings { lifetime: 0, prefixes: vec![prefix("::", 0, 0, 0)], ..settings() };
    assert!(Advertisement::new(no_default).is_ok());
}

proptest::proptest! {
    /// No frame makes it panic, or be heard of by anybody before its time; a valid one is answered however long it is.
    #[test]
    fn no_frame_is_too_much(octets: Vec<u8>, at in 0..120_usize, value: u8) {
        let now = Instant::now();
        let mut router = router(now, 500);
        let mut frame = frame_of(GUEST, ALL_ROUTERS, router_solicitation(&ITS_MAC));
        if let Some(octet) = frame.get_mut(at) {
            *octet = value;
        }
        frame.extend(&octets);
        let _ = router.handle(now, Input::Frame(&octets));
        proptest::prop_assert!(router.poll().is_none());
        let heard = router.handle(now, Input::Frame(&frame)).is_ok();
        proptest::prop_assert!(router.poll().is_none());
        let _ = router.handle(now + MAX_DELAY, Input::Timeout);
        // The first one to all is due all the while.
        proptest::prop_assert!(router.poll().is_some() && (heard || router.poll().is_none()));
    }
}

/// Hosts would go on with addresses that lead nowhere.
#[test]
fn v08_a_prefix_that_is_gone_is_said_to_be_and_one_that_is_back_is_not() {
    let of = |network: &str| {
        let mut settings = settings();
        settings.prefixes[0].network = network.parse().unwrap();
        Advertisement::new(settings).unwrap()
    };
    let said = |advertisement: &Advertisement| -> Vec<(String, u32)> {
        let prefixes = &advertisement.settings().prefixes;
        prefixes.iter().map(|it| (it.network.to_string(), it.valid)).collect()
    };
    let second = of("fd02::").after(&of("fd01::"));
    assert_eq!(said(&second), [("fd02::".to_owned(), 3600), ("fd01::".to_owned(), 0)]);
    assert_eq!(second.after(&second), second);
    let back = of("fd01::").after(&second);
    assert_eq!(said(&back), [("fd01::".to_owned(), 3600), ("fd02::".to_owned(), 0)]);
    let many = (3..20).fold(back, |before, number| of(&format!("fd{number:02}::")).after(&before));
    assert_eq!(said(&many).len(), 5);
}
