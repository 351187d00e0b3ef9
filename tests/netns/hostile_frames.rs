//! What a hostile guest writes on its tap, and what it does not do to the pod, the node and others: looked for in the
//! kernel, each test in network namespaces of its own. Each attack is seen to work without what is to stop it.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::support::frames::{
    ACK, ARP, BROADCAST, IPV4, IPV6, LLDP, Mac, RST, STP, SYN, arp, comes, ethernet,
    first_fragment, igmp, ping, router_advertisement, tcp, udp, unreachable, unreachable_about,
    write_frame,
};
use crate::support::site::{block_on, firewall};
use crate::support::{self, Netns, PATIENCE, sample, veth};
use berth::config::Config;
use berth::sys::link::{Links, open_tap};

const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const MAC: Mac = [0x52, 0x54, 0, 0xba, 0xd0, 1];

/// peer ── pod with links and rules of ours ── tap ── this program.
struct Pod {
    netns: Netns,
    peer: Netns,
    tap: File,
    bridge: Mac,
}

impl Pod {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let (peer, netns) = (Netns::new("peer"), Netns::new("pod"));
        veth(&peer, "eth0", &netns, "eth0");
        peer.ip("addr add 10.1.1.1/24 dev eth0");
        peer.ip("route add 192.168.254.0/24 via 10.1.1.2");
        netns.ip("addr add 10.1.1.2/24 dev eth0");
        netns.ip("route add default via 10.1.1.1");
        let (mut config, facts) = (sample::config(), sample::facts());
        change(&mut config);
        let link = berth::plan::link::plan(&config, &facts.net, 0).unwrap();
        let rules = berth::plan::nat::plan(&config, &facts.net, &link);
        block_on(firewall(&netns).commit(rules)).unwrap();
        let bridge = link.bridge.mac.0;
        let tap = netns.enter(move || async move {
            let links = Links::open().unwrap();
            berth::apply::links(&link, &links).await.unwrap();
            open_tap(&link.tap.name, 1).unwrap().remove(0)
        });
        let tap = File::from(tap);
        rustix::io::ioctl_fionbio(&tap, true).unwrap();
        let pod = Self { netns, peer, tap, bridge };
        // A port forwards when the link has been seen to be there.
        pod.until("the bridge has a carrier", || {
            pod.netns.ip("-o link show br0").contains("state UP")
        });
        pod
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let rules = || self.netns.nft("list ruleset");
        support::find(what, PATIENCE, rules, || holds().then_some(()));
    }

    /// Writes one frame, as QEMU does: behind an empty `struct virtio_net_hdr`.
    fn send(&self, frame: &[u8]) {
        write_frame(&self.tap, frame);
    }

    fn send_ip(&self, packet: &[u8]) {
        self.send(&ethernet(self.bridge, MAC, IPV4, packet));
    }

    /// Whether a frame comes in time that is looked for.
    fn hears(&self, is_it: impl Fn(&[u8]) -> bool) -> bool {
        comes(&self.tap, Duration::from_secs(2), is_it)
    }

    /// The gateway has answered an honest ping: what was sent before has been dealt with.
    fn settle(&self) {
        self.send(&ethernet(BROADCAST, MAC, ARP, &arp(MAC, GUEST, GATEWAY)));
        assert!(
            self.hears(
                |frame| frame[12..14] == ARP.to_be_bytes() && frame[28..32] == GATEWAY.octets()
            )
        );
        self.send_ip(&ping(GUEST, GATEWAY, 64));
        let echoed = |frame: &[u8]| {
            frame[..6] == MAC
                && frame[12..14] == IPV4.to_be_bytes()
                && frame[23] == 1
                && frame[34] == 0
        };
        assert!(self.hears(echoed), "no answer to an honest ping");
    }

    /// Without our rules: the attack is to be seen.
    fn undefended(&self) {
        self.netns.nft("flush ruleset");
    }

    /// Without one of our rules.
    fn without(&self, comment: &str) {
        let listing = self.netns.nft("-a list chain inet berth postrouting");
        let rule =
            listing.lines().find(|line| line.contains(&format!("comment \"{comment}"))).unwrap();
        let handle = rule.rsplit(' ').next().unwrap();
        self.netns.nft(&format!("delete rule inet berth postrouting handle {handle}"));
    }

    fn neighbours(&self, link: &str) -> usize {
        self.netns.ip(&format!("-4 neigh show dev {link}")).lines().count()
    }

    /// Packets of the rules with this comment.
    fn dropped(&self, comment: &str) -> u64 {
        let listing = self.netns.nft("list ruleset");
        let of_it =
            listing.lines().filter(|line| line.contains(&format!("drop comment \"{comment}")));
        of_it
            .map(|line| {
                line.split("packets ")
                    .nth(1)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .sum()
    }

    /// Counts what of IPv4 comes to the peer.
    fn count_at_peer(&self) {
        self.peer
            .nft("add table ip seen { chain c { type filter hook prerouting priority -300; counter; }; }");
    }

    fn at_peer(&self) -> u64 {
        let listed = self.peer.nft("list table ip seen");
        listed.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }
}

/// IPv6 of bridge and tap as the kernel has it where /proc/sys is read-only: on.
fn with_ipv6(pod: &Pod) {
    for link in ["br0", "tap0"] {
        pod.netns.run(&format!("sysctl -qw net.ipv6.conf.{link}.disable_ipv6=0"));
        pod.netns.run(&format!("sysctl -qw net.ipv6.conf.{link}.accept_ra=2"));
    }
}

fn advertise(pod: &Pod) {
    let message = router_advertisement(MAC, "2001:db8:bad::".parse().unwrap());
    for to in [[0x33, 0x33, 0, 0, 0, 1], LLDP, STP, BROADCAST, pod.bridge] {
        pod.send(&ethernet(to, MAC, IPV6, &message));
    }
}

fn ipv6_of(pod: &Pod) -> String {
    let addresses = pod.netns.ip("-6 -o addr show scope global");
    addresses + &pod.netns.ip("-6 route show default")
}

#[test]
fn a_router_advertisement_gives_the_pod_neither_address_nor_route() {
    let pod = Pod::new();
    for link in ["br0", "tap0"] {
        for (name, value) in [("disable_ipv6", "1"), ("accept_ra", "0")] {
            assert_eq!(
                pod.netns.run(&format!("sysctl -n net.ipv6.conf.{link}.{name}")).trim(),
                value,
                "{link}"
            );
        }
    }
    with_ipv6(&pod);
    advertise(&pod);
    pod.settle();
    assert_eq!(ipv6_of(&pod), "");
    assert_eq!(pod.dropped("from the guest: IPv6"), 4);
    assert_eq!(pod.dropped("from the guest, past the bridge"), 1);
    pod.undefended();
    advertise(&pod);
    pod.until("the pod is taken over", || {
        let found = ipv6_of(&pod);
        found.contains("2001:db8:bad:") && found.contains("dev br0")
    });
}

#[test]
fn source_addresses_at_random_are_no_entries_of_the_bridge() {
    let pod = Pod::new();
    pod.settle();
    let table = || pod.netns.run("bridge fdb show br br0").lines().count();
    let before = table();
    let flood = |count: u32| {
        for number in 0..count {
            let [_, a, b, c] = number.to_be_bytes();
            pod.send(&ethernet(pod.bridge, [2, 0xba, 0xd0, a, b, c], 0x88b5, &[0; 46]));
        }
    };
    flood(20_000);
    for from in [pod.bridge, [2, 0xba, 0xd1, 0, 0, 1]] {
        // Tagged once and twice (802.1Q, 802.1ad), STP, IGMP: what else a bridge could remember.
        pod.send(&ethernet(pod.bridge, from, 0x8100, &[&[0, 7, 8, 0][..], &[0; 46]].concat()));
        pod.send(&ethernet(
            BROADCAST,
            from,
            0x88a8,
            &[&[0, 7, 0x81, 0, 0, 8, 8, 0][..], &[0; 46]].concat(),
        ));
        pod.send(&ethernet(STP, from, 38, &[&[0x42, 0x42, 3][..], &[0; 35]].concat()));
        for group in 1..50 {
            let report = igmp(GUEST, Ipv4Addr::new(239, 1, 1, group));
            pod.send(&ethernet([1, 0, 0x5e, 1, 1, group], from, IPV4, &report));
        }
    }
    pod.settle();
    assert_eq!(table(), before);
    assert_eq!(pod.netns.run("bridge mdb show dev br0"), "");
    // The guest is reached all the same, whatever its address is now.
    for mac in ["52:54:00:ba:d0:01", "52:54:00:ba:d0:02"] {
        pod.netns.ip(&format!("neigh replace {GUEST} lladdr {mac} dev br0"));
        let socket = pod.netns.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.send_to(b"hello", (GUEST, 4000)).unwrap();
        assert!(pod.hears(|frame| frame.ends_with(b"hello")), "{mac}");
    }
    pod.netns.run("bridge link set dev tap0 learning on");
    flood(100);
    pod.until("the bridge learns", || table() >= before + 100);
}

#[test]
fn false_senders_of_arp_are_no_neighbours() {
    let pod = Pod::new();
    pod.settle();
    let before = pod.neighbours("br0");
    assert_eq!(before, 1, "{}", pod.netns.ip("neigh show"));
    let attack = || {
        for number in 0..100 {
            for to in [BROADCAST, LLDP, pod.bridge] {
                for (sender, target) in [
                    (Ipv4Addr::new(11, 0, number, 9), GATEWAY),
                    (PEER, GATEWAY),
                    (GATEWAY, GATEWAY),
                ] {
                    pod.send(&ethernet(to, MAC, ARP, &arp(MAC, sender, target)));
                }
            }
        }
    };
    attack();
    pod.settle();
    assert_eq!(
        (pod.neighbours("br0"), pod.neighbours("tap0")),
        (1, 0),
        "{}",
        pod.netns.ip("neigh show")
    );
    assert_eq!(pod.dropped("from the guest, but not with its address"), 600);
    assert_eq!(pod.dropped("from the guest, past the bridge"), 300);
    // Who looks for conflicts has no address yet, and hears that the gateway's is taken (RFC 5227 §2.1.1).
    pod.send(&ethernet(BROADCAST, MAC, ARP, &arp(MAC, Ipv4Addr::UNSPECIFIED, GATEWAY)));
    assert!(
        pod.hears(|frame| frame[12..14] == ARP.to_be_bytes() && frame[28..32] == GATEWAY.octets())
    );
    // Another machine behind the same tap, as after a change of its address.
    let other = [0x52, 0x54, 0, 0xba, 0xd0, 2];
    pod.send(&ethernet(BROADCAST, other, ARP, &arp(other, GUEST, GATEWAY)));
    pod.until("the guest's new address is known", || {
        pod.netns.ip(&format!("neigh show {GUEST}")).contains("52:54:00:ba:d0:02")
    });
    pod.undefended();
    attack();
    pod.until("they are neighbours", || {
        pod.neighbours("br0") >= 100 && pod.neighbours("tap0") >= 100
    });
}

#[test]
fn a_scan_of_the_guests_network_makes_no_neighbours() {
    let pod = Pod::with(|config| config.network.vm = "192.168.254.2/24".parse().unwrap());
    pod.settle();
    let scan = || {
        for last in 3..255 {
            pod.send_ip(&udp((GUEST, 9), (Ipv4Addr::new(192, 168, 254, last), 9)));
        }
    };
    scan();
    // From outside, too, by whoever can send to the pod's link.
    for last in 3..40 {
        let socket = pod.peer.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.send_to(b"x", (Ipv4Addr::new(192, 168, 254, last), 9)).unwrap();
    }
    pod.settle();
    assert_eq!(pod.neighbours("br0"), 1, "{}", pod.netns.ip("neigh show dev br0"));
    pod.undefended();
    scan();
    pod.until("they are looked for", || pod.neighbours("br0") > 200);
}

#[test]
fn a_false_sender_is_answered_by_nothing() {
    let pod = Pod::new();
    pod.netns.ip("addr add 10.1.1.9/32 dev eth0");
    pod.settle();
    pod.count_at_peer();
    let attack = || {
        for source in [STRANGER, PEER, Ipv4Addr::new(10, 1, 1, 77)] {
            for target in [GATEWAY, POD, Ipv4Addr::new(10, 1, 1, 9)] {
                pod.send_ip(&ping(source, target, 64));
                pod.send_ip(&tcp((source, 4000), (target, 4000), SYN));
                pod.send_ip(&tcp((source, 4000), (target, 5900), ACK));
                pod.send_ip(&udp((source, 4000), (target, 4000)));
                pod.send_ip(&udp((source, 4000), (target, 53)));
            }
            // What makes a router write an ICMP error.
            pod.send_ip(&ping(source, Ipv4Addr::new(9, 9, 9, 9), 1));
            pod.send(&ethernet(LLDP, MAC, IPV4, &udp((source, 4000), (GATEWAY, 4000))));
        }
    };
    attack();
    pod.settle();
    assert_eq!(pod.at_peer(), 0);
    assert_eq!(pod.dropped("from the guest, but not with its address"), 3 * 16);
    pod.undefended();
    attack();
    pod.until("the peer is written to", || pod.at_peer() > 10);
}

#[test]
fn what_connection_tracking_calls_invalid_is_not_forwarded() {
    let pod = Pod::new();
    pod.settle();
    pod.count_at_peer();
    let attack = || {
        pod.send_ip(&tcp((GUEST, 4000), (PEER, 80), RST));
        pod.send_ip(&tcp((GUEST, 4001), (PEER, 80), SYN | ACK));
        pod.send_ip(&tcp((GUEST, 4002), (PEER, 80), SYN | RST));
        pod.send_ip(&unreachable(GUEST, PEER));
    };
    attack();
    pod.settle();
    assert_eq!(pod.at_peer(), 0);
    assert_eq!(pod.dropped("from the guest, of no connection"), 4);
    pod.undefended();
    // As the NAT alone would do: conntrack is there, the filter is not.
    pod.netns
        .nft("add table ip t { chain c { type nat hook postrouting priority 100; masquerade; }; }");
    attack();
    pod.until("they leave untranslated", || pod.at_peer() >= 3);
}

/// Whoever has a route to the guest's network does not get past the mapping: not to the guest, nor to the pod's listeners.
#[test]
fn what_is_sent_to_the_guests_network_from_outside_arrives_nowhere() {
    let pod = Pod::new();
    pod.settle();
    let listener = pod.netns.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 15020)).unwrap());
    listener.set_nonblocking(true).unwrap();
    let from = pod.peer.within(|| UdpSocket::bind((PEER, 4000)).unwrap());
    let attack = || {
        for to in [GUEST, GATEWAY] {
            from.send_to(b"x", (to, 15020)).unwrap();
        }
    };
    let to_guest =
        |frame: &[u8]| frame[12..14] == IPV4.to_be_bytes() && frame[26..30] == PEER.octets();
    let heard = || listener.recv(&mut [0; 8]).is_ok();
    attack();
    pod.until("both are dropped", || pod.dropped("from others to the guest's network") == 2);
    assert!(!heard());
    // The pod itself asks its gateway, as ever.
    pod.netns
        .within(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (GATEWAY, 15020)).unwrap());
    pod.until("the pod is heard", heard);
    pod.undefended();
    attack();
    pod.until("the listener hears it", heard);
    assert!(pod.hears(to_guest));
}

/// An error that quotes a packet of the pod's own, as everybody may guess it.
#[test]
fn errors_about_connections_of_others_reach_neither_the_pod_nor_the_world() {
    let pod = Pod::new();
    pod.settle();
    pod.count_at_peer();
    let client = pod.netns.within(|| {
        let client = UdpSocket::bind((POD, 40000)).unwrap();
        client.connect((PEER, 53)).unwrap();
        client
    });
    client.set_nonblocking(true).unwrap();
    // Somebody is there, and does not answer.
    let server = pod.peer.within(|| UdpSocket::bind((PEER, 53)).unwrap());
    client.send(b"question").unwrap();
    pod.until("the question is there", || pod.at_peer() == 1);
    let question = udp((POD, 40000), (PEER, 53));
    let attack = || {
        pod.send_ip(&unreachable_about(GUEST, POD, &question));
        pod.send_ip(&unreachable_about(GUEST, PEER, &udp((PEER, 53), (POD, 40000))));
    };
    let refused =
        || client.recv(&mut [0; 8]).unwrap_err().kind() == std::io::ErrorKind::ConnectionRefused;
    attack();
    pod.settle();
    assert!(!refused());
    assert_eq!(pod.at_peer(), 1);
    assert_eq!(pod.dropped("from the guest: errors about connections"), 2);
    // Those about the guest's own pass.
    pod.send_ip(&udp((GUEST, 4000), (PEER, 53)));
    pod.send_ip(&unreachable_about(GUEST, PEER, &udp((PEER, 53), (GUEST, 4000))));
    pod.until("its own are there", || pod.at_peer() == 3);
    drop(server);
    pod.undefended();
    attack();
    pod.until("the pod believes it", refused);
}

/// An answer to the guest is not to be what comes to a port that stays with the pod.
#[test]
fn the_guest_cannot_take_over_a_port_that_stays_with_the_pod() {
    let reserved = [15020, 15022];
    let pod = Pod::with(|config| {
        config.network.reserved =
            reserved.map(|port| format!("{port}/udp").parse().unwrap()).to_vec();
    });
    pod.settle();
    let listeners = reserved.map(|port| {
        let listener = pod.netns.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let heard = |at: usize| listeners[at].recv(&mut [0; 8]).is_ok();
    let attack = |at: usize, port| {
        let peer = pod.peer.within(|| UdpSocket::bind((PEER, port)).unwrap());
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        pod.send_ip(&udp((GUEST, reserved[at]), (PEER, port)));
        let (_, from) = peer.recv_from(&mut [0; 8]).unwrap();
        peer.send_to(b"x", (POD, reserved[at])).unwrap();
        from
    };
    let from = attack(0, 40000);
    assert_eq!(from.ip(), POD);
    assert!(!reserved.contains(&from.port()));
    pod.until("the pod's listener hears it", || heard(0));
    // Other ports are kept as they are.
    pod.send_ip(&udp((GUEST, 15021), (PEER, 40001)));
    let peer = pod.peer.within(|| UdpSocket::bind((PEER, 40002)).unwrap());
    pod.send_ip(&udp((GUEST, 15021), (PEER, 40002)));
    assert_eq!(peer.recv_from(&mut [0; 8]).unwrap().1, (POD, 15021).into());
    pod.without("guest to the world from UDP ports that stay");
    pod.without("guest elsewhere from UDP ports that stay");
    // Another one, since the kernel remembers how it mapped the first.
    assert_eq!(attack(1, 40003).port(), reserved[1]);
    assert!(
        pod.hears(|frame| frame[12..14] == IPV4.to_be_bytes() && frame[26..30] == PEER.octets())
    );
    assert!(!heard(1));
}

/// What waits for the rest of a packet is answered with an error when none comes.
#[test]
fn a_fragment_with_a_false_sender_is_answered_by_nothing() {
    let pod = Pod::new();
    pod.netns.run("sysctl -qw net.ipv4.ipfrag_time=1");
    pod.settle();
    pod.count_at_peer();
    let attack = || {
        for source in [STRANGER, PEER] {
            pod.send_ip(&first_fragment(ping(source, GATEWAY, 64)));
        }
    };
    attack();
    assert_eq!(pod.dropped("from the guest, but not with its address"), 2);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(pod.at_peer(), 0);
    pod.undefended();
    attack();
    pod.until("the peer is written to", || pod.at_peer() > 0);
}

#[test]
fn a_frame_to_the_bridges_own_groups_reaches_no_listener_of_the_pod() {
    let pod = Pod::with(|config| config.network.gateway_ports = vec!["15021/udp".parse().unwrap()]);
    pod.settle();
    let [closed, open] = [15020, 15021].map(|port| {
        let socket = pod.netns.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        socket.set_nonblocking(true).unwrap();
        socket
    });
    let attack = || {
        for port in [15020, 15021] {
            for to in [LLDP, [0x01, 0x80, 0xc2, 0, 0, 2], [0x01, 0x80, 0xc2, 0, 0, 0x0f]] {
                pod.send(&ethernet(to, MAC, IPV4, &udp((GUEST, 4000), (GATEWAY, port))));
            }
        }
    };
    let heard = |socket: &UdpSocket| std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok()).count();
    attack();
    pod.send_ip(&udp((GUEST, 4000), (GATEWAY, 15020)));
    pod.send_ip(&udp((GUEST, 4000), (GATEWAY, 15021)));
    pod.settle();
    assert_eq!((heard(&closed), heard(&open)), (0, 1));
    pod.undefended();
    attack();
    pod.until("they reach it", || heard(&closed) > 0);
}
