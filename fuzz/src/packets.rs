//! Frames of the guest that are read apart from the kernel's sockets.

use std::net::SocketAddrV4;

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, arp_probe, arp_sender, udp4};

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
