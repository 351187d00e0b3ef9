//! Frames of every family, thrown at one hook: whether they pass it is read from a set that a chain behind fills.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use berth::inspect::explain::predict;
use berth::nft::dump::Filter;
use berth::nft::explain::{
    Bits, Explanation, ICMP, ICMP6, Outcome, Packet, Path, Point, TCP, UDP, World,
};
use berth::nft::{Family, Ruleset};
use berth::sys::link::Links;
use berth::sys::netlink::Firewall;
use berth::sys::route;
use socket2::{Domain, Socket, Type};

use crate::explain::wire::checksum;
use crate::support::dice::Dice;
use crate::support::{self, Netns};

pub const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet addresses that frames come from.
pub const SENDERS: [[u8; 6]; 3] =
    [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0x52, 0x54, 0, 0, 0, 9]];

/// far ── eth0 of the pod; far ── p0 ── br0 ── p1 ── near, br0 in the pod.
#[derive(Debug)]
pub struct Yard {
    pub pod: Netns,
    far: Netns,
    _near: Netns,
    /// To eth0, to p0.
    sockets: [Socket; 2],
}

/// Where the frames are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub family: Family,
    pub point: Point,
}

impl Place {
    pub fn new(family: Family, point: Point) -> Self {
        Self { family, point }
    }

    fn is_bridge(self) -> bool {
        self.family == Family::BRIDGE
    }

    pub fn device(self) -> &'static str {
        if self.is_bridge() { "p0" } else { "eth0" }
    }

    /// `type filter hook … ` up to the priority.
    pub fn hook(self, priority: &str) -> String {
        let device = if self.family == Family::NETDEV { "device \"eth0\" " } else { "" };
        format!("type filter hook {} {device}priority {priority}", self.point)
    }

    /// A chain behind all others that remembers the numbers of the frames that come so far. They go no further, so that
    /// conntrack knows none of them when the next one comes.
    pub fn witness(self) -> String {
        let family = self.family;
        let v4 =
            (" set v4 { typeof ip id; flags dynamic; size 65535; }\n", "update @v4 { ip id }; ");
        let v6 = (
            " set v6 { typeof ip6 flowlabel; flags dynamic; size 65535; }\n",
            "update @v6 { ip6 flowlabel }; ",
        );
        let arp = (
            " set frames { type ether_addr; flags dynamic; size 65535; }\n",
            "update @frames { arp daddr ether }; ",
        );
        let parts: &[(&str, &str)] = match family {
            Family::IP => &[v4],
            Family::IP6 => &[v6],
            Family::ARP => &[arp],
            Family::INET => &[v4, v6],
            _ => &[v4, v6, arp],
        };
        let sets: String = parts.iter().map(|(set, _)| *set).collect();
        let rules: String = parts.iter().map(|(_, rule)| *rule).collect();
        format!(
            "table {family} witness {{\n{sets} chain seen {{ {}; {rules}drop; }}\n}}\n",
            self.hook("500")
        )
    }
}

/// A frame, numbered so that it is known again.
#[derive(Debug, Clone)]
pub struct Frame {
    pub number: u16,
    pub ether_from: [u8; 6],
    pub ether_to: [u8; 6],
    pub from: IpAddr,
    pub to: IpAddr,
    pub kind: Kind,
    pub ttl: u8,
    pub tos: u8,
    /// Octets past the headers.
    pub payload: usize,
    /// PCP, DEI and VLAN of an 802.1Q tag.
    pub tag: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Operation.
    Arp(u16),
    /// Protocol, ports, TCP's flags.
    Ports(u8, u16, u16, u8),
    /// Type and code.
    Icmp(u8, u8),
}

impl Frame {
    pub fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Arp(_) => 0,
            Kind::Ports(protocol, ..) => protocol,
            Kind::Icmp(..) if self.to.is_ipv4() => ICMP,
            Kind::Icmp(..) => ICMP6,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let body = match self.kind {
            Kind::Arp(operation) => self.arp(operation),
            _ => self.ip(),
        };
        let ether_type: u16 = match (self.kind, self.to) {
            (Kind::Arp(_), _) => 0x0806,
            (_, IpAddr::V4(_)) => 0x0800,
            _ => 0x86dd,
        };
        let tag = self.tag.map_or_else(Vec::new, |tag| [[0x81, 0], tag.to_be_bytes()].concat());
        [&self.ether_to[..], &self.ether_from, &tag, &ether_type.to_be_bytes(), &body].concat()
    }

    /// In a request nobody looks at the wanted Ethernet address: there is the number.
    fn arp(&self, operation: u16) -> Vec<u8> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from, self.to) else { panic!("{self:?}") };
        let number = self.number.to_be_bytes();
        let head = [0, 1, 8, 0, 6, 4];
        [
            &head[..],
            &operation.to_be_bytes(),
            &self.ether_from,
            &from.octets(),
            &[2, 0, 0, 0],
            &number,
            &to.octets(),
        ]
        .concat()
    }

    fn ip(&self) -> Vec<u8> {
        let transport = self.transport();
        let length = u16::try_from(transport.len()).unwrap();
        let number = self.number.to_be_bytes();
        let mut packet = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = (length + 20).to_be_bytes();
                let fixed = [
                    0x45,
                    self.tos,
                    total[0],
                    total[1],
                    number[0],
                    number[1],
                    0,
                    0,
                    self.ttl,
                    self.protocol(),
                    0,
                    0,
                ];
                let mut header = [&fixed[..], &from.octets(), &to.octets()].concat();
                let sum = checksum(&[&header]).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                header
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let length = length.to_be_bytes();
                let fixed = [
                    0x60 | self.tos >> 4,
                    self.tos << 4,
                    number[0],
                    number[1],
                    length[0],
                    length[1],
                    self.protocol(),
                    self.ttl,
                ];
                [&fixed[..], &from.octets(), &to.octets()].concat()
            }
            _ => panic!("{self:?}"),
        };
        packet.extend(transport);
        packet
    }

    fn transport(&self) -> Vec<u8> {
        let (mut bytes, at) = match self.kind {
            Kind::Ports(TCP, sport, dport, flags) => {
                let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
                (
                    [ports, vec![0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]]
                        .concat(),
                    16,
                )
            }
            Kind::Ports(_, sport, dport, _) => {
                let length = u16::try_from(8 + self.payload).unwrap();
                (
                    [sport.to_be_bytes(), dport.to_be_bytes(), length.to_be_bytes(), [0, 0]]
                        .concat(),
                    6,
                )
            }
            Kind::Icmp(kind, code) => (vec![kind, code, 0, 0, 0, 7, 0, 1], 2),
            Kind::Arp(_) => panic!("{self:?}"),
        };
        bytes.extend(vec![0x5a; self.payload]);
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let pseudo = match (self.from, self.to) {
            (IpAddr::V4(_), IpAddr::V4(_)) if self.protocol() == ICMP => Vec::new(),
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                [&from.octets()[..], &to.octets(), &[0, self.protocol()], &length].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                [&from.octets()[..], &to.octets(), &[0, 0], &length, &[0, 0, 0, self.protocol()]]
                    .concat()
            }
            _ => panic!("{self:?}"),
        };
        let sum = checksum(&[&pseudo, &bytes]).to_be_bytes();
        bytes[at..at + 2].copy_from_slice(&sum);
        bytes
    }

    /// The same as words of `berth nft explain` make it.
    pub fn packet(&self, world: &World, place: Place) -> Packet {
        let mut packet = match self.kind {
            Kind::Arp(operation) => Packet::arp(Some(self.from), self.to, operation),
            _ => Packet::ip(Some(self.from), self.to, self.protocol()),
        };
        packet.iif = world.named(place.device()).cloned();
        packet.oif = world
            .named("p1")
            .cloned()
            .filter(|_| place.is_bridge() && place.point == Point::Forward);
        packet.set_ether(Some(self.ether_from), Some(self.ether_to));
        self.tag.into_iter().for_each(|tag| packet.set_vlan(tag));
        let length = match self.kind {
            Kind::Arp(_) => {
                packet.length = Some(28);
                return packet;
            }
            Kind::Ports(protocol, sport, dport, flags) => {
                packet.set_ports(Some(sport), Some(dport));
                if protocol == TCP {
                    packet.set_tcp_flags(flags);
                } else {
                    let length = u16::try_from(8 + self.payload).unwrap();
                    packet.transport.put(4, &Bits::known(&length.to_be_bytes()));
                }
                if protocol == TCP { 20 } else { 8 }
            }
            Kind::Icmp(kind, code) => {
                packet.set_icmp(kind, code);
                8
            }
        };
        packet.set_ttl(self.ttl);
        packet.set_tos(self.tos);
        let header = if self.to.is_ipv4() { 20 } else { 40 };
        packet.set_length(u16::try_from(header + length + self.payload).unwrap());
        packet
    }
}

impl Yard {
    pub fn new() -> Self {
        let (far, pod, near) = (Netns::new("far"), Netns::new("pod"), Netns::new("near"));
        support::veth(&far, "f0", &pod, "eth0");
        support::veth(&far, "f1", &pod, "p0");
        support::veth(&near, "n0", &pod, "p1");
        for netns in [&far, &pod, &near] {
            // Nothing speaks by itself.
            netns.run("sysctl -qw net.ipv6.conf.all.router_solicitations=0 net.ipv6.conf.all.accept_dad=0");
        }
        pod.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0");
        for port in ["p0", "p1"] {
            pod.ip(&format!("link set {port} master br0"));
        }
        pod.ip("link set br0 address 02:00:00:00:00:b0 up");
        near.ip("link set n0 address 02:00:00:00:00:a0");
        pod.ip("addr add 10.1.1.2/24 dev eth0");
        pod.ip("addr add 10.1.1.3/24 dev eth0");
        pod.ip("addr add fd00:1::2/64 dev eth0 nodad");
        pod.ip("link set eth0 address 02:00:00:00:00:e0 group 7");
        pod.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.icmp_ratelimit=0 net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0");
        pod.run("bridge fdb replace 02:00:00:00:00:a0 dev p1 master static");
        let sockets = ["f0", "f1"].map(|link| {
            let index: u32 =
                far.run(&format!("cat /sys/class/net/{link}/ifindex")).trim().parse().unwrap();
            far.enter(move || async move {
                let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
                berth::sys::ffi::bind_packet(&socket, index, 0).unwrap();
                socket
            })
        });
        Self { pod, far, _near: near, sockets }
    }

    fn send(&self, place: Place, frame: &Frame) {
        let socket = &self.sockets[usize::from(place.is_bridge())];
        socket
            .send(&frame.bytes())
            .unwrap_or_else(|error| panic!("{frame:?} from {:?}: {error}", self.far));
    }

    /// What is told of the frames, and what came of them: whether each reached the witness.
    pub fn told_and_seen(
        &self,
        place: Place,
        frames: &[Frame],
    ) -> (Ruleset, Vec<Explanation>, BTreeSet<u16>) {
        let (ruleset, told) = self.told(place, frames.to_vec());
        for frame in frames {
            self.send(place, frame);
        }
        let wanted: Vec<u16> = frames
            .iter()
            .zip(&told)
            .filter(|(_, told)| told.outcome == Outcome::Accepted)
            .map(|(frame, _)| frame.number)
            .collect();
        // Those that are told to pass are waited for; those that are not have had as long.
        let mut seen = BTreeSet::new();
        for _ in 0..300 {
            std::thread::sleep(Duration::from_millis(10));
            seen = self.seen(place.family);
            if wanted.iter().all(|number| seen.contains(number)) {
                break;
            }
        }
        (ruleset, told, seen)
    }

    fn told(&self, place: Place, frames: Vec<Frame>) -> (Ruleset, Vec<Explanation>) {
        self.pod.enter(async move || {
            let links = Links::open().unwrap();
            let mut world = route::world(links.handle()).await.unwrap();
            let mut ruleset = Firewall::start().unwrap().dump(Filter::default()).await.unwrap().1;
            ruleset.tables.retain(|table| table.name != "witness");
            let only = Some(place.family)
                .filter(|family| matches!(*family, Family::BRIDGE | Family::ARP | Family::NETDEV));
            let mut told = Vec::new();
            for frame in frames {
                let packet = frame.packet(&world, place);
                let path = Path::Hook(place.point);
                told.push(
                    predict(links.handle(), &ruleset, &mut world, &packet, path, only)
                        .await
                        .unwrap(),
                );
            }
            (ruleset, told)
        })
    }

    /// The numbers that the witness has.
    fn seen(&self, family: Family) -> BTreeSet<u16> {
        let ruleset = self.pod.enter(async move || {
            Firewall::start().unwrap().dump(Filter::table(family, "witness")).await.unwrap().1
        });
        let sets = ruleset.tables.iter().flat_map(|table| &table.sets);
        sets.flat_map(|set| &set.elements)
            .map(|element| match element.key.as_slice() {
                [a, b] => u16::from_be_bytes([*a, *b]),
                // Three octets of flow label, four bits of traffic class before it.
                [_, a, b] | [_, _, _, _, a, b] => u16::from_be_bytes([*a, *b]),
                key => panic!("{key:?}"),
            })
            .collect()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub const FROM4: [&str; 4] = ["10.1.1.1", "10.1.1.9", "10.1.1.130", "192.168.7.7"];
pub const TO4: [&str; 3] = ["10.1.1.2", "10.1.1.3", "10.1.1.255"];
pub const FROM6: [&str; 3] = ["fd00:1::1", "fd00:1::9", "fe80::1"];
pub const TO6: [&str; 2] = ["fd00:1::2", "fd00:1::3"];
pub const PORTS: [&str; 5] = ["22", "53", "80", "443", "8080"];

/// A frame that the place may see.
pub fn any_frame(dice: &mut Dice, place: Place, number: u16) -> Frame {
    let v6 = match place.family {
        Family::IP | Family::ARP => false,
        Family::IP6 => true,
        _ => dice.chance(35),
    };
    let arp = place.family == Family::ARP
        || matches!(place.family, Family::BRIDGE | Family::NETDEV) && dice.chance(20);
    // What the witness asks of ARP, a tagged frame does not answer.
    let tagged = !arp && matches!(place.family, Family::BRIDGE | Family::NETDEV) && dice.chance(30);
    let port = |dice: &mut Dice| dice.one(&PORTS).parse().unwrap();
    let kind = match dice.below(10) {
        _ if arp => Kind::Arp(if dice.chance(70) { 1 } else { 2 }),
        0..=3 => Kind::Ports(TCP, port(dice), port(dice), [2, 0x10, 0x12, 4, 0x11][dice.below(5)]),
        4..=7 => Kind::Ports(UDP, port(dice), port(dice), 0),
        _ if v6 => Kind::Icmp([128, 129, 135, 1][dice.below(4)], 0),
        _ => Kind::Icmp([8, 0, 13][dice.below(3)], 0),
    };
    let (from, to) = if v6 && !arp {
        (dice.one(&FROM6), dice.one(&TO6))
    } else {
        (dice.one(&FROM4), dice.one(&TO4))
    };
    let to = match to {
        // No other comes to input.
        "fd00:1::3" if place.point == Point::Input && place.family != Family::BRIDGE => "fd00:1::2",
        to => to,
    };
    let own = match (place.is_bridge(), place.point) {
        (true, Point::Forward) => [2, 0, 0, 0, 0, 0xa0],
        (true, Point::Prerouting) if dice.chance(50) => [2, 0, 0, 0, 0, 0xa0],
        (true, _) => [2, 0, 0, 0, 0, 0xb0],
        _ => [2, 0, 0, 0, 0, 0xe0],
    };
    Frame {
        number,
        ether_from: SENDERS[dice.below(SENDERS.len())],
        ether_to: if to == "10.1.1.255" { BROADCAST } else { own },
        from: address(from),
        to: address(to),
        kind,
        ttl: [1, 64, 255][dice.below(3)],
        tos: [0, 0x20, 0xb8][dice.below(3)],
        payload: [0, 8, 100][dice.below(3)],
        tag: if tagged { Some([5, 10, 0x600a][dice.below(3)]) } else { None },
    }
}
