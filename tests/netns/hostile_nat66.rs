//! What a hostile guest or peer sends where the pod's IPv6 address is translated (`BERTH_IPV6=nat`): each attack is seen to work
//! without the rule that is to stop it. And of both ways: what the guest is told of its router.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use berth::config::Ipv6;

use crate::hostile_ipv6::Pod;
use crate::support;
use crate::support::frames::{IPV6, ethernet, icmp6, ipv6, udp6};

const POD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 0, 1);
const GUEST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 0, 2);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn pod() -> Pod {
    Pod::with(|config| config.network.ipv6 = Ipv6::Nat)
}

impl Pod {
    fn sends6(&self, packet: &[u8]) {
        self.send(&ethernet(self.bridge, self.mac, IPV6, packet));
    }

    /// The honest way to the peer, as the pod.
    fn honest(&self) {
        let peer = self.peer.within(|| UdpSocket::bind(SocketAddr::from((PEER, 7))).unwrap());
        peer.set_read_timeout(Some(support::PATIENCE)).unwrap();
        self.sends6(&udp6((GUEST, 4000), (PEER, 7)));
        let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from.ip(), POD);
    }

    fn neighbours(&self) -> usize {
        self.netns.ip("-6 neigh show dev br0").lines().count()
    }

    /// Flags of the router's advertisement, when the guest asks whether it is there (RFC 4861 §7.2.4).
    fn routers_flags(&self, own: Ipv6Addr) -> u8 {
        let mut question = vec![0, 0, 0, 0];
        question.extend(ROUTER.octets());
        question.extend([1, 1]);
        question.extend(self.mac);
        self.sends6(&icmp6((own, ROUTER), 255, 135, &question));
        let flags = std::cell::Cell::new(None);
        self.hears(|frame| {
            let is_it = frame[12..14] == IPV6.to_be_bytes() && frame[20] == 58 && frame[54] == 136;
            if is_it {
                flags.set(Some(frame[58]));
            }
            is_it
        });
        flags.get().expect("an advertisement")
    }
}

#[test]
fn the_guests_router_says_that_it_is_one_though_the_pod_is_none() {
    for (pod, own) in [(Pod::with(|_| {}), POD), (pod(), GUEST)] {
        // Router and solicited: without the first the guest takes its route away (RFC 4861 §7.2.5).
        assert_eq!(pod.routers_flags(own) & 0xc0, 0xc0);
        let all = pod.netns.run("cat /proc/sys/net/ipv6/conf/all/forwarding");
        assert_eq!(all.trim(), "0");
        pod.netns.nft("flush chain inet berth router");
        assert_eq!(pod.routers_flags(own) & 0xc0, 0x40, "the kernel's own");
    }
}

#[test]
fn a_wrong_option_of_a_guest_behind_nat_is_answered_to_nobody() {
    let pod = pod();
    pod.netns.run("sysctl -qew net.bridge.bridge-nf-call-ip6tables=0");
    let spoof = || {
        for last in 0..50 {
            let options = [17, 0, 0x9e, 4, 0, 0, 0, 0];
            let datagram = &udp6((GUEST, 4000), (GATEWAY, 9))[40..];
            let payload = [&options[..], datagram].concat();
            let source = Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 1, last);
            pod.sends6(&ipv6(source, GATEWAY, 0, &payload));
            let tagged = [&[0, 0][..], &IPV6.to_be_bytes(), &ipv6(source, GATEWAY, 0, &payload)];
            pod.send(&ethernet(pod.bridge, pod.mac, 0x8100, &tagged.concat()));
        }
    };
    let before = pod.neighbours();
    spoof();
    pod.honest();
    assert!(pod.neighbours() <= before + 1, "{}", pod.netns.ip("-6 neigh show dev br0"));
    pod.netns.nft("delete table netdev berth");
    support::until("entries of the node's table", || {
        spoof();
        pod.neighbours() > before + 20
    });
}

#[test]
fn neighbours_that_are_not_there_are_no_entries_of_the_nodes_table() {
    let pod = pod();
    let scan = || {
        for last in 16..116 {
            let nobody = Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 2, last);
            pod.sends6(&udp6((GUEST, 4000), (nobody, 9)));
        }
        pod.honest();
    };
    let before = pod.neighbours();
    scan();
    assert!(pod.neighbours() <= before + 1, "{}", pod.netns.ip("-6 neigh show dev br0"));
    pod.without("inet berth forward", "of IPv6 to the guest's network");
    scan();
    assert!(pod.neighbours() > before + 50);
}

#[test]
fn what_is_not_tracked_does_not_leave_untranslated() {
    let pod = pod();
    let send = || {
        for kind in [130, 131, 143] {
            pod.sends6(&icmp6((GUEST, PEER), 64, kind, &[0; 20]));
        }
        pod.honest();
    };
    pod.count_at_peer(&format!("ip6 saddr {GUEST}"));
    send();
    assert_eq!(pod.at_peer(), 0);
    pod.without("inet berth forward", "from the guest, and not tracked");
    send();
    assert_eq!(pod.at_peer(), 3);
}

#[test]
fn nobody_beyond_the_uplink_sends_as_the_gateway_or_is_sent_on() {
    let pod = pod();
    let from_gateway = || {
        pod.peer.ip(&format!("addr replace {GATEWAY}/128 dev eth0 nodad"));
        pod.peer.within(|| {
            let socket = UdpSocket::bind(SocketAddr::from((GATEWAY, 53))).unwrap();
            socket.send_to(b"?", SocketAddr::from((POD, 5353))).unwrap();
        });
        pod.hears(|frame| frame[20] == 17 && frame[22..38] == GATEWAY.octets())
    };
    pod.honest();
    assert!(!from_gateway());
    pod.without("inet berth from-others6", "from others as the guest, or as its gateway");
    assert!(from_gateway(), "without the rule");

    // A host beside the pod does not go by it.
    let beyond: Ipv6Addr = "2001:db8:5::5".parse().unwrap();
    pod.netns.ip(&format!("-6 route add {beyond}/128 via {PEER} dev eth0"));
    pod.peer.ip(&format!("-6 route add {beyond}/128 via {POD} dev eth0"));
    let send = || {
        pod.peer.within(move || {
            let socket = UdpSocket::bind(SocketAddr::from((PEER, 0))).unwrap();
            socket.send_to(b"?", SocketAddr::from((beyond, 9))).unwrap();
        });
        pod.honest();
    };
    pod.count_at_peer(&format!("ip6 daddr {beyond}"));
    send();
    assert_eq!(pod.at_peer(), 0);
    pod.without("inet berth forward", "between the pod's own interfaces: of IPv6");
    send();
    assert!(pod.at_peer() > 0, "without the rule");
}
