//! What a guest that has the pod's IPv4 address says by ARP and under other addresses (`BERTH_IPV4=own`).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use berth::config::{Ipv4, MetadataAddress};

use crate::hostile_ipv6::Pod;
use crate::support::PATIENCE;
use crate::support::frames::{ARP, BROADCAST, IPV4, arp, ethernet, first_fragment, udp};

const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 1);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

fn pod() -> Pod {
    Pod::with(|config| {
        config.network.ipv4 = Ipv4::Own;
        config.network.metadata_address = MetadataAddress::Drop;
    })
}

impl Pod {
    fn asks(&self, sender: Ipv4Addr, target: Ipv4Addr) {
        self.send(&ethernet(BROADCAST, self.mac, ARP, &arp(self.mac, sender, target)));
    }

    /// An answer about `who`, to a guest that has the address `to`.
    fn is_told(&self, who: Ipv4Addr, to: Ipv4Addr) -> bool {
        self.hears(|frame| {
            frame[12..14] == ARP.to_be_bytes()
                && frame[20..22] == [0, 2]
                && frame[28..32] == who.octets()
                && frame[38..42] == to.octets()
        })
    }

    fn send4(&self, packet: &[u8]) {
        self.send(&ethernet(self.bridge, self.mac, IPV4, packet));
    }

    /// The honest way to the peer and back, by IPv4.
    fn settle4(&self) {
        let peer = self.peer.within(|| UdpSocket::bind(SocketAddr::from((PEER, 7))).unwrap());
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        self.send4(&udp((POD, 4000), (PEER, 7)));
        let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from, SocketAddr::from((POD, 4000)), "as the pod, by its own port");
        peer.send_to(b"!", from).unwrap();
        assert!(
            self.hears(|frame| frame[12..14] == IPV4.to_be_bytes() && frame.last() == Some(&b'!'))
        );
    }
}

#[test]
fn the_kernel_answers_for_the_gateway_alone() {
    let pod = pod();
    pod.asks(POD, GATEWAY);
    assert!(pod.is_told(GATEWAY, POD), "as the guest knows itself");
    pod.asks(Ipv4Addr::UNSPECIFIED, GATEWAY);
    assert!(pod.is_told(GATEWAY, Ipv4Addr::UNSPECIFIED), "before it has an address");
    // RFC 5227: whoever answers has it.
    pod.asks(Ipv4Addr::UNSPECIFIED, POD);
    assert!(!pod.is_told(POD, Ipv4Addr::UNSPECIFIED));
    pod.without("arp berth input", "from the guest: about others than its gateway");
    pod.asks(Ipv4Addr::UNSPECIFIED, POD);
    assert!(pod.is_told(POD, Ipv4Addr::UNSPECIFIED), "without the rule");
}

#[test]
fn nobody_but_the_guest_is_a_neighbour() {
    let pod = pod();
    let neighbours = || {
        let listed = pod.netns.ip("-4 neigh show");
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        lines.retain(|line| line.contains("br0") || line.contains("tap0"));
        lines.sort();
        lines
    };
    let before = neighbours();
    assert_eq!(before.len(), 3, "{before:?}");
    let stranger = [2, 0, 0, 0, 0, 9];
    for sender in [POD, GATEWAY, PEER, Ipv4Addr::new(192, 168, 254, 2)] {
        for target in [GATEWAY, POD, PEER] {
            for mac in [pod.mac, stranger] {
                let mut packet = arp(mac, sender, target);
                pod.send(&ethernet(BROADCAST, mac, ARP, &packet));
                packet[7] = 2;
                pod.send(&ethernet(pod.bridge, mac, ARP, &packet));
            }
        }
    }
    pod.settle4();
    assert_eq!(neighbours(), before);
}

#[test]
fn with_another_address_it_reaches_nobody() {
    let pod = pod();
    pod.count_at_peer("ip daddr 10.1.1.1 udp dport 9");
    let senders = [GATEWAY, PEER, Ipv4Addr::new(192, 168, 254, 2), Ipv4Addr::new(10, 1, 1, 66)];
    for calls in ["0", "1"] {
        pod.netns.run(&format!("sysctl -qw net.bridge.bridge-nf-call-iptables={calls}"));
        for sender in senders {
            pod.send4(&udp((sender, 4000), (PEER, 9)));
            pod.send4(&first_fragment(udp((sender, 4000), (PEER, 9))));
        }
        pod.settle4();
        assert_eq!(pod.at_peer(), 0, "bridge-nf-call-iptables={calls}");
    }
    pod.send4(&udp((POD, 4000), (PEER, 9)));
    pod.settle4();
    assert_eq!(pod.at_peer(), 1, "with its own");
}

#[test]
fn the_metadata_address_can_be_closed() {
    let pod = pod();
    pod.count_at_peer(&format!("ip daddr {METADATA}"));
    let send = || pod.send4(&udp((POD, 4000), (METADATA, 80)));
    send();
    pod.settle4();
    assert_eq!(pod.at_peer(), 0);
    pod.without("netdev berth guest4", "from the guest to the node's metadata service");
    send();
    pod.settle4();
    assert_eq!(pod.at_peer(), 1, "without the rule");
}
