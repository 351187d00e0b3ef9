//! Frames of the guest that are read apart from the kernel's sockets.

use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, arp_probe, arp_sender, icmpv6, udp4};
use berth::proto::ndp::{Advertisement, Input, Reason, Router, Settings};

/// A frame from the tap: the sender of an ARP packet is where RFC 826 has it. As the payload of a datagram it stays what
/// it is.
pub fn frame(data: &[u8]) {
    let sender = arp_sender(data);
    let arp = data.get(14..42).filter(|arp| arp.starts_with(&[0, 1, 8, 0]));
    assert_eq!(
        sender.map(|address| address.octets().to_vec()),
        arp.map(|arp| arp[14..18].to_vec())
    );
    if let Some(address) = sender {
        let probe = arp_probe(MacAddr([2, 0, 0, 0, 0, 1]), address).expect("a frame");
        assert_eq!(arp_sender(&probe), Some([0, 0, 0, 0].into()));
        assert_eq!(probe[38..], address.octets());
    }
    let end = |last| Endpoint {
        mac: MacAddr([2, 0, 0, 0, 0, last]),
        socket: SocketAddrV4::new([10, 0, 0, last].into(), 67),
    };
    if let Some(frame) = udp4(end(1), end(2), data) {
        assert!(
            frame.len() == 42 + data.len() && frame.ends_with(data) && arp_sender(&frame).is_none()
        );
    }
}

/// A frame to a router of IPv6, and one whose checksum is right: refused without a word, or a solicitation that is answered
/// by frames of its own, in which it sees itself.
pub fn ndp(data: &[u8]) {
    asked(data);
    let (Some(source), Some(destination), Some(message)) =
        (data.first_chunk::<16>(), data.get(16..32), data.get(32..))
    else {
        return;
    };
    let destination: [u8; 16] = destination.try_into().expect("16 octets");
    let (from, to) = (MacAddr([2, 0, 0, 0, 0, 9]), MacAddr([0x33, 0x33, 0, 0, 0, 2]));
    let mut message = message.to_vec();
    if let Some(frame) = icmpv6((from, (*source).into()), (to, destination.into()), &mut message) {
        asked(&frame);
    }
}

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn asked(frame: &[u8]) {
    let settings = Settings {
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        managed: true,
        other: true,
        mtu: Some(1280),
        lifetime: 1800,
        prefixes: Vec::new(),
        servers: vec![Ipv6Addr::LOCALHOST],
        search: Vec::new(),
        interval: Duration::from_secs(200)..=Duration::from_secs(600),
    };
    let start = Instant::now();
    let advertisement = Advertisement::new(settings).expect("settings");
    let mut router = Router::new(start, advertisement, || 500);
    router.handle(start, Input::Timeout).expect("no frame");
    assert_eq!(std::iter::from_fn(|| router.poll()).count(), 1);
    let before = router.deadline();
    let now = start + Duration::from_secs(1);
    let taken = router.handle(now, Input::Frame(frame));
    if taken.is_err() {
        assert!(router.poll().is_none() && router.deadline() == before);
        return;
    }
    assert_eq!((&frame[12..15], frame[20], frame[21]), (&[0x86, 0xdd, frame[14]][..], 58, 255));
    let due = router.deadline().expect("a router that goes on");
    assert!(due <= before.expect("one that goes on"));
    // A neighbour is answered at once.
    if frame[54] == 133 {
        router.handle(due, Input::Timeout).expect("no frame");
    }
    let mut answers: Vec<Vec<u8>> = std::iter::from_fn(|| router.poll()).collect();
    let answer = answers.pop().expect("an answer");
    assert!(answers.is_empty() && answer.len() < 1294 && [134, 136].contains(&answer[54]));
    let again = router.handle(due, Input::Frame(&answer));
    assert_eq!(again, Err(Reason::NotSolicitation));
}
