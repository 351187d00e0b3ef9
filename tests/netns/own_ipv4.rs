//! What a guest that has the pod's IPv4 address says by ARP and under other addresses (`BERTH_IPV4=own`).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use berth::config::{Ipv4, MetadataAddress};
use socket2::{Domain, Socket, Type};

use crate::hostile_ipv6::Pod;
use crate::support::PATIENCE;
use crate::support::frames::{
    ACK, ARP, BROADCAST, IPV4, Mac, RST, SYN, arp, ethernet, first_fragment, icmp, ipv4, ping, tcp,
    udp,
};

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

    /// A frame from the peer's link, whatever is in it.
    fn peer_sends(&self, to: Mac, packet: &[u8]) {
        let word = |netns: &crate::support::Netns, file: &str| {
            netns.run(&format!("cat /sys/class/net/eth0/{file}")).trim().to_owned()
        };
        let index: u32 = word(&self.peer, "ifindex").parse().unwrap();
        let mut socket = self.peer.enter(move || async move {
            let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            berth::sys::ffi::bind_packet(&socket, index, 0).unwrap();
            socket
        });
        socket.write_all(&ethernet(to, [2, 0, 0, 0, 0, 1], IPV4, packet)).unwrap();
    }

    /// Of the pod's end of the link.
    fn uplink(&self) -> Mac {
        let text = self.netns.run("cat /sys/class/net/eth0/address");
        let octets: Vec<u8> =
            text.trim().split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        octets.try_into().unwrap()
    }

    /// Whether the guest is handed a packet from this sender.
    fn hears4(&self, source: Ipv4Addr) -> bool {
        self.hears(|frame| frame[12..14] == IPV4.to_be_bytes() && frame[26..30] == source.octets())
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

/// RFC 1122 §3.2.1.3: what no kernel sends on.
#[test]
fn what_is_nobodys_address_is_not_sent_to() {
    let pod = pod();
    let nobody = ["127.0.0.1", "0.0.0.0", "0.0.0.9", "240.0.0.1", "10.1.1.255"];
    for calls in ["0", "1"] {
        pod.netns.run(&format!("sysctl -qw net.bridge.bridge-nf-call-iptables={calls}"));
        for (at, to) in nobody.iter().enumerate() {
            if calls == "0" && at == 0 {
                pod.count_at_peer("ip saddr 10.1.1.2 udp dport 9");
            }
            let whole = udp((POD, 4000), (to.parse().unwrap(), 9));
            pod.send4(&whole);
            pod.send4(&first_fragment(whole));
        }
        pod.settle4();
        assert_eq!(pod.at_peer(), 0, "bridge-nf-call-iptables={calls}");
    }
    pod.without("netdev berth onward4", "from the guest to 127.0.0.0/8: no way there");
    pod.send4(&udp((POD, 4000), ("127.0.0.1".parse().unwrap(), 9)));
    pod.settle4();
    assert_eq!(pod.at_peer(), 1, "without the rule");
}

#[test]
fn nobody_sends_from_an_address_that_is_nobodys_or_of_the_guests_own_link() {
    let pod = pod();
    let uplink = pod.uplink();
    let stranger = Ipv4Addr::new(10, 1, 1, 77);
    for sender in [
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.9",
        "255.255.255.255",
        "192.168.254.1",
        "192.168.254.2",
        "10.1.1.2",
    ] {
        let sender: Ipv4Addr = sender.parse().unwrap();
        for packet in [
            udp((sender, 53), (POD, 5353)),
            first_fragment(udp((sender, 53), (POD, 5353))),
            tcp((sender, 53), (POD, 5353), SYN),
            ping(sender, POD, 64),
            ipv4(sender, POD, 64, 132, &[0; 12]),
        ] {
            pod.peer_sends(uplink, &packet);
        }
        assert!(!pod.hears4(sender), "from {sender}");
    }
    for packet in [udp((stranger, 53), (POD, 5353)), ping(stranger, POD, 64)] {
        pod.peer_sends(uplink, &packet);
        assert!(pod.hears4(stranger), "an honest one");
    }
    // A redirect is the word of its gateway (RFC 1122 §3.2.2.2).
    let about = udp((POD, 6), (stranger, 5));
    let redirect = ipv4(PEER, POD, 64, 1, &icmp(5, 1, &about[..28]));
    pod.peer_sends(uplink, &redirect);
    assert!(!pod.hears4(PEER));
    pod.without("ip berth to-guest", "a redirect");
    pod.peer_sends(uplink, &redirect);
    assert!(pod.hears4(PEER), "without the rule");
}

/// RFC 1122 §3.3.6, §4.2.3.10.
#[test]
fn a_frame_that_is_not_for_the_pod_is_not_the_guests() {
    let pod = pod();
    let stranger = Ipv4Addr::new(10, 1, 1, 77);
    for to in [BROADCAST, [2, 0, 0, 0, 0x22, 0x22]] {
        for packet in [
            tcp((stranger, 53), (POD, 5353), SYN),
            udp((stranger, 53), (POD, 5353)),
            ping(stranger, POD, 64),
        ] {
            pod.peer_sends(to, &packet);
        }
        assert!(!pod.hears4(stranger), "{to:x?}");
    }
    pod.without("netdev berth uplink4", "a frame to others, or to all");
    pod.peer_sends(BROADCAST, &udp((stranger, 53), (POD, 5353)));
    assert!(pod.hears4(stranger), "without the rule");
}

/// Of a packet that says to be longer no rule sees a port: not one that stays with the pod either.
#[test]
fn a_packet_that_is_shorter_than_it_says_goes_nowhere() {
    let pod = pod();
    let cut = |mut packet: Vec<u8>| {
        let length = u16::try_from(packet.len() + 20).unwrap();
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        crate::support::frames::summed(packet)
    };
    pod.count_at_peer("ip saddr 10.1.1.2 tcp sport 5900");
    pod.send4(&cut(tcp((POD, 5900), (PEER, 9), SYN)));
    pod.settle4();
    assert_eq!(pod.at_peer(), 0);
    let stranger = Ipv4Addr::new(10, 1, 1, 77);
    pod.peer_sends(pod.uplink(), &cut(tcp((stranger, 53), (POD, 5900), SYN)));
    assert!(!pod.hears4(stranger));
}

/// A connection of the pod's own stays its own, whoever says that it ends.
#[test]
fn a_forged_end_takes_no_flow_from_the_pod() {
    let pod = pod();
    let listener = pod.peer.within(|| TcpListener::bind((PEER, 778)).unwrap());
    let mut stream = pod.netns.within(|| TcpStream::connect((PEER, 778)).unwrap());
    let (mut other, from) = listener.accept().unwrap();
    stream.write_all(b"?").unwrap();
    other.read_exact(&mut [0]).unwrap();
    let SocketAddr::V4(from) = from else { panic!("{from}") };
    for flags in [RST, RST | ACK, SYN, SYN | ACK, 1, 1 | ACK] {
        pod.peer_sends(pod.uplink(), &tcp((PEER, 778), (POD, from.port()), flags));
    }
    pod.settle4();
    let set = pod.netns.nft("list set netdev berth flows4");
    let of_it = format!("{PEER} . tcp . {} . 778", from.port());
    let flow = set.split(&of_it).nth(1).unwrap_or_else(|| panic!("{set}"));
    let expires = |flow: &str| flow.split("expires ").nth(1).unwrap_or_default().to_owned();
    assert!(expires(flow).starts_with("23h"), "{of_it} in {set}");
    // Its own end is one.
    drop(stream);
    drop(other);
    crate::support::until("it ends", || {
        let set = pod.netns.nft("list set netdev berth flows4");
        set.split(&of_it).nth(1).is_some_and(|flow| expires(flow).starts_with("1m"))
    });
}

#[test]
fn a_launcher_with_nat_leaves_no_neighbour_of_one_without() {
    let pod = pod();
    let neighbours = || pod.netns.ip("-4 neigh show nud permanent");
    assert!(neighbours().contains("192.168.254.2 dev br0"), "{}", neighbours());
    pod.netns.enter(|| async {
        let links = berth::sys::link::Links::open().unwrap();
        let config = crate::support::sample::config();
        let facts = berth::sys::probe::net_facts(&config, &links).await.unwrap();
        let attached = berth::plan::Attached::Here;
        let plan = berth::plan::NetPlan::new(&config, &facts, attached).unwrap();
        berth::apply::links(&plan.link, &links).await.unwrap();
    });
    assert_eq!(neighbours().trim(), "");
}
