//! The same cases against `berth serve` behind a real link: whole frames in, whole frames out (D56, D57).
//!
//! Cases that let more time pass than a test may take stay with the virtual clock.

use std::any::Any;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, udp4};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};
use socket2::{Domain, Socket, Type};

use crate::config::Config;
use crate::packet::{ACK, DISCOVER, INFORM, OFFER, Packet, REQUEST, Reply, To, US, asks_for, mac};
use crate::support::{Netns, veth};
use crate::wire::{ANOTHER_PORT, Case, SOURCE_PORT, Wire};

const ALL: u16 = 3;
const PATIENCE: Duration = Duration::from_secs(5);
/// What a test may wait for.
const BRIEF: Duration = Duration::from_secs(2);
/// Without an answer to a later question, silence is this long: longer than a probe for an address.
const SILENCE: Duration = Duration::from_millis(800);

/// Octets of a payload in one frame.
const LARGEST: usize = 1472;
/// Counts requests by the second, and each silence takes one.
const BY_THE_SECOND: &str = "d59_";

/// A case wants more time, or a larger packet, than there is.
struct NotHere;

struct Link {
    config: Config,
    server: Child,
    socket: Socket,
    own: MacAddr,
    theirs: MacAddr,
    asked: u16,
    dir: tempfile::TempDir,
    namespaces: [Netns; 2],
}

impl Link {
    fn new(config: Config) -> Self {
        let (server, client) = (Netns::new("server"), Netns::new("client"));
        veth(&server, "s0", &client, "c0");
        server.ip("addr add 10.0.0.1/24 dev s0");
        // Behind the relay, and wherever else a case says it is.
        server.ip("route add default dev s0");
        client.ip("addr add 10.0.0.2/24 dev c0");
        if config != Config::Careful {
            // Answers ARP for whatever a case may ask from.
            for network in [
                "10.0.0.8/29",
                "10.0.0.16/28",
                "10.0.0.64/26",
                "10.0.0.128/25",
                "10.1.0.0/24",
                "192.168.0.0/16",
            ] {
                client.ip(&format!("route add local {network} dev c0 table local"));
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &server.name, env!("CARGO_BIN_EXE_berth"), "serve", "--interface=s0"]);
        command.args(config.words()).arg(format!("--lease-file={}", dir.path().join("leases").display()));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("serving DHCP") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "berth serve has ended");
        }
        std::thread::spawn(move || log.bytes().last());
        let mac = |netns: &Netns, link: &str| {
            netns.run(&format!("cat /sys/class/net/{link}/address")).trim().parse::<MacAddr>().unwrap()
        };
        let (own, theirs) = (mac(&client, "c0"), mac(&server, "s0"));
        let socket = packets_of(&client, "c0");
        Self { config, server: child, socket, own, theirs, asked: 0, dir, namespaces: [server, client] }
    }

    fn send_frame(&mut self, payload: &[u8]) {
        let field = |at: usize| payload.get(at..at + 4).map_or([0; 4], |bytes| bytes.try_into().unwrap());
        let (ciaddr, giaddr) = (Ipv4Addr::from(field(12)), Ipv4Addr::from(field(24)));
        let us = Ipv4Addr::new(10, 0, 0, 1);
        let (from, to) = match (ciaddr.is_unspecified(), giaddr.is_unspecified()) {
            (_, false) => {
                let another = payload.windows(SOURCE_PORT.len()).any(|part| part == SOURCE_PORT);
                (SocketAddrV4::new(giaddr, if another { ANOTHER_PORT } else { 67 }), us)
            }
            (false, true) => (SocketAddrV4::new(ciaddr, 68), us),
            (true, true) => (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), Ipv4Addr::BROADCAST),
        };
        let mac = if to.is_broadcast() { MacAddr([0xff; 6]) } else { self.theirs };
        let from = Endpoint { mac: self.own, socket: from };
        let frame = udp4(from, Endpoint { mac, socket: SocketAddrV4::new(to, 67) }, payload).unwrap();
        (&self.socket).write_all(&frame).unwrap();
    }

    /// The next reply of the server before then.
    fn receive(&mut self, until: Instant) -> Option<Reply> {
        let mut buffer = [0; 2048];
        loop {
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.socket.set_read_timeout(Some(left)).unwrap();
            let length = (&self.socket).read(&mut buffer).ok()?;
            if let Some(reply) = self.reply(&buffer[..length]) {
                return Some(reply);
            }
        }
    }

    /// D56: from our port, unfragmented, checksums right (UDP's may be none).
    fn reply(&self, frame: &[u8]) -> Option<Reply> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.src_addr().0 != self.theirs.0 || frame.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let checks = ChecksumCapabilities::default();
        let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
        let ip = Ipv4Repr::parse(&packet, &checks).expect("a right IPv4 checksum");
        let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
        let udp = UdpRepr::parse(&datagram, &ip.src_addr.into(), &ip.dst_addr.into(), &checks)
            .expect("a right UDP checksum");
        assert_eq!((udp.src_port, ip.src_addr, ip.hop_limit), (67, Ipv4Addr::new(10, 0, 0, 1), 64));
        assert!(!packet.more_frags() && packet.frag_offset() == 0);
        let at = frame.dst_addr().0;
        let to = To {
            address: ip.dst_addr,
            port: udp.dst_port,
            mac: (at != [0xff; 6] && at != self.own.0).then_some(at),
        };
        Some(Reply { to, bytes: datagram.payload().to_vec() })
    }
}

/// Every frame of a link.
fn packets_of(netns: &Netns, link: &str) -> Socket {
    let index: u32 = netns.run(&format!("cat /sys/class/net/{link}/ifindex")).trim().parse().unwrap();
    netns.enter(move || async move {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
        berth::sys::ffi::bind_packet(&socket, index, ALL).unwrap();
        socket
    })
}

impl Wire for Link {
    fn send(&mut self, packet: &Packet) -> Vec<Reply> {
        if packet.0.len() > LARGEST {
            panic_any(NotHere);
        }
        self.send_frame(&packet.0);
        let mut replies = Vec::new();
        if self.config == Config::Careful {
            replies.extend(self.receive(Instant::now() + SILENCE));
            return replies;
        }
        // Requests are answered in order: when this one is, there is no more to come for the other.
        self.asked += 1;
        let [high, low] = self.asked.to_be_bytes();
        let marker =
            Packet::new([0x52, 0x54, 0xff, 0xff, high, low], &[INFORM]).ciaddr([10, 0, 0, 250].into());
        let marker = marker.set(4, &[0xff, 0xff, high, low]);
        self.send_frame(&marker.0);
        loop {
            let reply = self.receive(Instant::now() + PATIENCE).expect("the server to be alive");
            if reply.bytes[4..8] == [0xff, 0xff, high, low] {
                return replies;
            }
            replies.push(reply);
        }
    }

    fn advance(&mut self, by: Duration) {
        if by > BRIEF {
            panic_any(NotHere);
        }
        std::thread::sleep(by);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The record is in the file when the ACK is on the wire.
#[test]
fn d53_a_lease_is_written_before_it_is_told() {
    let mut link = Link::new(Config::Office);
    let path = link.dir.path().join("leases");
    for number in 1..=60 {
        let wire: &mut dyn Wire = &mut link;
        let offered = wire.discover(mac(number), &[]);
        link.send_frame(&Packet::new(mac(number), &[REQUEST, US, &asks_for(offered)]).0);
        let ack = link.receive(Instant::now() + PATIENCE).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(ack.kind(), ACK);
        assert!(
            written.lines().next_back().unwrap().starts_with(&format!("bound {offered} ")),
            "{number}: {written}"
        );
    }
}

#[test]
fn d57_what_comes_in_elsewhere_is_not_answered() {
    let mut link = Link::new(Config::Office);
    let [server, client] = &link.namespaces;
    veth(server, "s1", client, "c1");
    server.ip("addr add 10.0.9.1/24 dev s1");
    let elsewhere = packets_of(client, "c1");
    let discover = Packet::new(mac(1), &[DISCOVER]).broadcast();
    let own = std::mem::replace(&mut link.socket, elsewhere);
    link.send_frame(&discover.0);
    assert_eq!(link.receive(Instant::now() + Duration::from_millis(300)), None);
    link.socket = own;
    assert_eq!((&mut link as &mut dyn Wire).reply(&discover).kind(), OFFER);
}

#[test]
fn d58_tagged_frames_and_lone_fragments_are_not_answered() {
    let mut link = Link::new(Config::Office);
    let discover = Packet::new(mac(1), &[DISCOVER]).broadcast();
    let end = |mac, address: [u8; 4], port| Endpoint { mac, socket: SocketAddrV4::new(address.into(), port) };
    let plain = udp4(end(link.own, [0; 4], 68), end(MacAddr([0xff; 6]), [255; 4], 67), &discover.0).unwrap();
    let tagged = [&plain[..12], &[0x81, 0, 0, 7], &plain[12..]].concat();
    let mut fragment = plain;
    let mut ip = Ipv4Packet::new_unchecked(&mut fragment[14..]);
    ip.set_dont_frag(false);
    ip.set_more_frags(true);
    ip.fill_checksum();
    for frame in [tagged, fragment] {
        (&link.socket).write_all(&frame).unwrap();
        assert_eq!(link.receive(Instant::now() + Duration::from_millis(300)), None);
    }
    assert_eq!((&mut link as &mut dyn Wire).reply(&discover).kind(), OFFER);
}

/// Somebody has the first address of the pool; who asks is offered the second.
#[test]
fn d60_an_address_somebody_uses_is_not_offered() {
    let mut link = Link::new(Config::Careful);
    link.namespaces[1].ip("addr add 10.0.0.100/24 dev c0");
    let began = Instant::now();
    link.send_frame(&Packet::new(mac(1), &[DISCOVER]).0);
    let offer = link.receive(Instant::now() + PATIENCE).unwrap();
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 0, 0, 101));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Every case, in so many threads, each with a server of its own.
#[test]
fn every_case_that_has_the_time_holds_behind_a_real_link() {
    let all: Vec<&Case> = crate::all_cases().filter(|case| !case.name.starts_with(BY_THE_SECOND)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::thread::scope(|scope| {
        let work = || {
            let mut results = Vec::new();
            while let Some(case) = all.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                let ran = catch_unwind(AssertUnwindSafe(|| (case.run)(&mut Link::new(case.config))));
                results.push((case.name, ran));
            }
            results
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let (mut held, mut elsewhere, mut wrong) = (0, Vec::new(), Vec::new());
    for (name, ran) in results {
        match ran {
            Ok(()) => held += 1,
            Err(panic) if panic.is::<NotHere>() => elsewhere.push(name),
            Err(panic) => wrong.push(format!("{name}: {}", words(&*panic))),
        }
    }
    println!("{held} of {} cases held, {} run on the core alone: {elsewhere:?}", all.len(), elsewhere.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(held > all.len() / 2, "{elsewhere:?}");
}
