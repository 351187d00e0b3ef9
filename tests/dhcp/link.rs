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
use crate::packet::{INFORM, Packet, Reply, To};
use crate::support::{Netns, veth};
use crate::wire::{Case, Wire};

const ALL: u16 = 3;
const PATIENCE: Duration = Duration::from_secs(5);
/// What a test may wait for.
const BRIEF: Duration = Duration::from_secs(2);
/// Without an answer to a later question, silence is this long: longer than a probe for an address.
const SILENCE: Duration = Duration::from_millis(800);

/// A case asked for more time than there is.
struct TooLong;

struct Link {
    config: Config,
    server: Child,
    socket: Socket,
    own: MacAddr,
    theirs: MacAddr,
    asked: u16,
    _dir: tempfile::TempDir,
    _namespaces: [Netns; 2],
}

impl Link {
    fn new(config: Config) -> Self {
        let (server, client) = (Netns::new("server"), Netns::new("client"));
        veth(&server, "s0", &client, "c0");
        server.ip("addr add 10.0.0.1/24 dev s0");
        // Behind the relay, and wherever else a case says it is.
        server.ip("route add default dev s0");
        if config != Config::Careful {
            // Answers ARP for every address.
            client.ip("route add local 0.0.0.0/0 dev c0 table local");
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
        let index: u32 = client.run("cat /sys/class/net/c0/ifindex").trim().parse().unwrap();
        let path = client.path();
        let socket = std::thread::spawn(move || {
            let file = std::fs::File::open(path).unwrap();
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind)).unwrap();
            let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            berth::sys::ffi::bind_packet(&socket, index, ALL).unwrap();
            socket
        });
        let socket = socket.join().unwrap();
        Self {
            config,
            server: child,
            socket,
            own,
            theirs,
            asked: 0,
            _dir: dir,
            _namespaces: [server, client],
        }
    }

    fn send_frame(&mut self, payload: &[u8]) {
        let field = |at: usize| payload.get(at..at + 4).map_or([0; 4], |bytes| bytes.try_into().unwrap());
        let (ciaddr, giaddr) = (Ipv4Addr::from(field(12)), Ipv4Addr::from(field(24)));
        let us = Ipv4Addr::new(10, 0, 0, 1);
        let (from, to) = match (ciaddr.is_unspecified(), giaddr.is_unspecified()) {
            (_, false) => (SocketAddrV4::new(giaddr, 67), us),
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

impl Wire for Link {
    fn send(&mut self, packet: &Packet) -> Vec<Reply> {
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
            panic_any(TooLong);
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

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Every case, in so many threads, each with a server of its own.
#[test]
fn every_case_that_has_the_time_holds_behind_a_real_link() {
    let all: Vec<&Case> = crate::all_cases().collect();
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
    let (mut held, mut too_long, mut wrong) = (0, Vec::new(), Vec::new());
    for (name, ran) in results {
        match ran {
            Ok(()) => held += 1,
            Err(panic) if panic.is::<TooLong>() => too_long.push(name),
            Err(panic) => wrong.push(format!("{name}: {}", words(&*panic))),
        }
    }
    println!("{held} of {} cases held, {} need a virtual clock: {too_long:?}", all.len(), too_long.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(held > all.len() / 2, "{too_long:?}");
}
