//! What a hostile guest or peer sends where the guest has the pod's IPv6 address: each attack is seen to work without the
//! rule that is to stop it.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use crate::support::frames::{
    IPV6, Mac, comes, ethernet, ipv6, router_advertisement, udp6, write_frame,
};
use crate::support::site::{block_on, firewall};
use crate::support::{self, Netns, PATIENCE, sample, veth};
use berth::config::{Config, MetadataAddress};
use berth::plan::nat::{Abilities, for_kernel};
use berth::plan::{Attached, NetPlan};
use berth::sys::link::{Links, open_tap};
use berth::sys::probe;

const POD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 0, 1);
const NOWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 1);

/// peer 2001:db8:1::1 ── pod 2001:db8:1::2 with links and rules of ours ── tap ── this program.
pub(crate) struct Pod {
    pub netns: Netns,
    pub peer: Netns,
    tap: File,
    pub bridge: Mac,
    pub mac: Mac,
}

impl Pod {
    fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: fn(&mut Config)) -> Self {
        let (peer, netns) = (Netns::new("peer"), Netns::new("pod"));
        veth(&peer, "eth0", &netns, "eth0");
        for (netns, v4, v6) in [(&peer, "10.1.1.1", PEER), (&netns, "10.1.1.2", POD)] {
            netns.ip(&format!("addr add {v4}/24 dev eth0"));
            netns.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        }
        netns.ip("route add default via 10.1.1.1");
        netns.ip(&format!("-6 route add default via {PEER}"));
        netns.ip("-6 route add blackhole 2001:db8:66::/48");
        let (plan, indices, tap) = netns.enter(move || async move {
            let links = Links::open().unwrap();
            let mut config = sample::config();
            change(&mut config);
            let facts = probe::net_facts(&config, &links).await.unwrap();
            let plan = NetPlan::new(&config, &facts, Attached::Here).unwrap();
            let indices = berth::apply::links(&plan.link, &links).await.unwrap();
            berth::apply::ipv6(&plan.link, indices.bridge, &links).await.unwrap();
            let tap = open_tap(&plan.link.tap.name, 1).unwrap().remove(0);
            (plan, indices, tap)
        });
        block_on(firewall(&netns).commit(for_kernel(&plan, Abilities::ALL, indices))).unwrap();
        let plan = netns.enter(move || async move {
            berth::apply::forwarding6(&plan, &Links::open().unwrap()).unwrap();
            plan
        });
        let tap = File::from(tap);
        rustix::io::ioctl_fionbio(&tap, true).unwrap();
        let (bridge, mac) = (plan.link.bridge.mac.0, plan.guest.mac.0);
        let pod = Self { netns, peer, tap, bridge, mac };
        support::find("the bridge has a carrier", PATIENCE, String::new, || {
            pod.netns.ip("-o link show br0").contains("state UP").then_some(())
        });
        pod
    }

    pub fn send(&self, frame: &[u8]) {
        write_frame(&self.tap, frame);
    }

    fn send_ip(&self, packet: &[u8]) {
        self.send(&ethernet(self.bridge, self.mac, IPV6, packet));
    }

    pub fn hears(&self, is_it: impl Fn(&[u8]) -> bool) -> bool {
        comes(&self.tap, Duration::from_secs(1), is_it)
    }

    /// A datagram to the guest from this address of the peer's.
    fn hears_from(&self, source: Ipv6Addr) -> bool {
        self.peer.ip(&format!("addr replace {source}/128 dev eth0 nodad"));
        self.peer.within(move || {
            let socket = UdpSocket::bind(SocketAddr::from((source, 53))).unwrap();
            socket.send_to(b"?", SocketAddr::from((POD, 5353))).unwrap();
        });
        self.hears(|frame| {
            frame[12..14] == IPV6.to_be_bytes()
                && frame[20] == 17
                && frame[22..38] == source.octets()
        })
    }

    /// Packets of a rule at the peer, before anything else is done with them.
    pub fn count_at_peer(&self, what: &str) {
        self.peer.nft(&format!(
            "add table netdev seen {{ chain c {{ type filter hook ingress device eth0 priority 0; {what} counter; }}; }}"
        ));
    }

    pub fn at_peer(&self) -> u64 {
        let listed = self.peer.nft("list table netdev seen");
        listed.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    /// The honest way to the peer and back: what was sent before has been dealt with.
    fn settle(&self) {
        let peer = self.peer.within(|| UdpSocket::bind(SocketAddr::from((PEER, 7))).unwrap());
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        self.send_ip(&udp6((POD, 4000), (PEER, 7)));
        let (length, from) = peer.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((length, from), (1, SocketAddr::V6(SocketAddrV6::new(POD, 4000, 0, 0))));
        peer.send_to(b"!", from).unwrap();
        assert!(self.hears(|frame| frame[20] == 17 && frame.last() == Some(&b'!')), "no answer");
    }

    /// What is sent does not come to the peer, and does once a rule is gone: that of this comment.
    fn stops(&self, what: &str, (chain, comment): (&str, &str), send: impl Fn(&Self)) {
        self.count_at_peer(what);
        send(self);
        self.settle();
        assert_eq!(self.at_peer(), 0, "{comment}");
        self.without(chain, comment);
        send(self);
        self.settle();
        assert_eq!(self.at_peer(), 1, "without {comment}");
    }

    /// Without the rule of this comment.
    pub fn without(&self, chain: &str, comment: &str) {
        let listing = self.netns.nft(&format!("-a list chain {chain}"));
        let rule = listing.lines().find(|line| line.contains(&format!("comment \"{comment}")));
        let handle = rule.unwrap().rsplit(' ').next().unwrap();
        self.netns.nft(&format!("delete rule {chain} handle {handle}"));
    }
}

#[test]
fn no_frame_of_a_vlan_leaves_by_the_uplink() {
    let pod = Pod::new();
    let tagged = [&[0, 100][..], &IPV6.to_be_bytes(), &udp6((POD, 4000), (PEER, 9))].concat();
    pod.stops("ether type 0x8100", ("netdev berth guest", "of a VLAN"), |pod| {
        pod.send(&ethernet(pod.bridge, pod.mac, 0x8100, &tagged));
    });
}

/// `br_netfilter` off: with it on the packet meets `raw` as a frame, before its options are read.
#[test]
fn a_wrong_option_is_answered_to_no_false_sender() {
    let pod = Pod::new();
    pod.netns.run("sysctl -qw net.bridge.bridge-nf-call-ip6tables=0");
    let neighbours = || pod.netns.ip("-6 neigh show dev br0").lines().count();
    let before = neighbours();
    let spoof = || {
        for last in 0..50 {
            // Unknown, and answered wherever it goes (RFC 8200 §4.2).
            let options = [17, 0, 0x9e, 4, 0, 0, 0, 0];
            let datagram = &udp6((POD, 4000), (GATEWAY, 9))[40..];
            let payload = [&options[..], datagram].concat();
            let source = Ipv6Addr::new(0xfd00, 0x6be, 0, 0, 0, 0, 1, last);
            pod.send_ip(&ipv6(source, GATEWAY, 0, &payload));
            // The kernel takes a tag of VLAN 0 for none.
            let tagged = [&[0, 0][..], &IPV6.to_be_bytes(), &ipv6(source, GATEWAY, 0, &payload)];
            pod.send(&ethernet(pod.bridge, pod.mac, 0x8100, &tagged.concat()));
            pod.send_ip(&ipv6(POD, GATEWAY, 0, &payload));
            let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, last);
            pod.send_ip(&ipv6(link_local, "fe80::1".parse().unwrap(), 0, &payload));
        }
    };
    spoof();
    pod.settle();
    assert!(neighbours() <= before + 1, "{}", pod.netns.ip("-6 neigh show dev br0"));
    pod.netns.nft("delete table netdev berth");
    // What is answered has a limit (icmp_msgs_burst).
    support::until("entries of the node's table", || {
        spoof();
        neighbours() > before + 20
    });
}

#[test]
fn nobody_beyond_the_uplink_is_the_guests_gateway_or_the_guest() {
    let pod = Pod::new();
    pod.netns.ip(&format!("-6 route add {GATEWAY}/128 dev eth0"));
    let stranger: Ipv6Addr = "2001:db8:1::77".parse().unwrap();
    pod.settle();
    assert!(pod.hears_from(stranger), "an honest one");
    assert!(!pod.hears_from(GATEWAY));
    pod.without("netdev berth uplink", "from others as the guest's gateway or neighbour");
    assert!(pod.hears_from(GATEWAY), "without the rule");
}

#[test]
fn where_the_pod_has_no_way_the_guest_has_none() {
    let pod = Pod::new();
    let rule = ("netdev berth onward", "from the guest to 2001:db8:66::/48: no way there");
    pod.stops(&format!("ip6 daddr {NOWHERE}"), rule, |pod| {
        pod.send_ip(&udp6((POD, 4000), (NOWHERE, 9)));
    });
}

#[test]
fn the_metadata_address_can_be_closed_over_ipv6_too() {
    let metadata: Ipv6Addr = "fd00:ec2::254".parse().unwrap();
    for part in [false, true] {
        let pod = Pod::with(|config| config.network.metadata_address = MetadataAddress::Drop);
        let rule = ("netdev berth guest", "from the guest to the node's metadata service");
        pod.stops(&format!("ip6 daddr {metadata}"), rule, |pod| {
            let whole = udp6((POD, 4000), (metadata, 80));
            // The first of two parts (RFC 8200 §4.5), or all of it.
            let fragment = [&[17, 0, 0, 1, 0, 0, 0, 7][..], &whole[40..48]].concat();
            let first = ipv6(POD, metadata, 44, &fragment);
            pod.send_ip(if part { &first } else { &whole });
        });
    }
}

#[test]
fn the_guests_own_traffic_is_not_flooded_to_the_router() {
    let pod = Pod::new();
    let router = pod.netns.within(|| open_tap(&"br0-ra".parse().unwrap(), 1).unwrap().remove(0));
    let router = File::from(router);
    rustix::io::ioctl_fionbio(&router, true).unwrap();
    support::find("the router's port has a carrier", PATIENCE, String::new, || {
        pod.netns.ip("-o link show br0-ra").contains("state UP").then_some(())
    });
    // Frames that wait there.
    let heard = || std::iter::from_fn(|| (&router).read(&mut [0; 2048]).ok()).count();
    pod.netns.ip(&format!(
        "neigh replace 192.168.254.2 lladdr {} dev br0 nud permanent",
        pod.mac.map(|octet| format!("{octet:02x}")).join(":")
    ));
    let hundred = || {
        pod.netns.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..100 {
                socket.send_to(b"?", "192.168.254.2:9").unwrap();
            }
        });
        assert!(pod.hears(|frame| frame[..6] == pod.mac && frame[23] == 17), "the guest has them");
        pod.settle();
    };
    heard();
    hundred();
    let frames = heard();
    assert!(frames < 20, "{frames} frames of the guest's");
    pod.netns.run("bridge link set dev br0-ra flood on");
    hundred();
    assert!(heard() >= 100, "flooded, it has them all");
}

#[test]
fn what_the_guest_sends_to_a_group_does_not_come_back_to_it() {
    let pod = Pod::new();
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let group = [0x33, 0x33, 0, 0, 0, 1];
    let own: Ipv6Addr = "fe80::77".parse().unwrap();
    let send = || pod.send(&ethernet(group, pod.mac, IPV6, &udp6((own, 4001), (all, 4002))));
    let is_it = |frame: &[u8]| frame[..6] == group && frame[6..12] == pod.mac;
    send();
    assert!(!pod.hears(is_it));
    pod.netns.nft("delete chain netdev berth to-guest");
    send();
    assert!(pod.hears(is_it), "without the chain");
}

#[test]
fn a_guest_that_has_ipv6_is_no_router_of_the_pod() {
    let pod = Pod::new();
    for link in ["br0", "tap0", "br0-ra"] {
        pod.netns.run(&format!("sysctl -qw net.ipv6.conf.{link}.accept_ra=2"));
    }
    let state =
        || pod.netns.ip("-6 -o addr show scope global") + &pod.netns.ip("-6 route show default");
    let before = state();
    let message = router_advertisement(pod.mac, "2001:db8:bad::".parse().unwrap());
    for calls in ["0", "1"] {
        pod.netns.run(&format!("sysctl -qw net.bridge.bridge-nf-call-ip6tables={calls}"));
        for to in [[0x33, 0x33, 0, 0, 0, 1], pod.bridge] {
            pod.send(&ethernet(to, pod.mac, IPV6, &message));
        }
        pod.settle();
        assert_eq!(state(), before, "bridge-nf-call-ip6tables={calls}");
    }
}
