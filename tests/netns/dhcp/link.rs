//! The same cases against `berth serve` behind a real link: whole frames in, whole frames out (D56, D57).
//!
//! Cases that let more time pass than a test may take stay with the virtual clock.

use std::any::Any;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, udp4};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};
use socket2::{Domain, Socket, Type};

use crate::dhcp::Case;
use crate::dhcp::config::Config;
use crate::dhcp::packet::{
    ACK, DISCOVER, INFORM, OFFER, Packet, REQUEST, Reply, To, US, asks_for, mac,
};
use crate::dhcp::wire::{ANOTHER_PORT, SOURCE_PORT, Wire};
use crate::support::{Netns, PATIENCE, veth};

const ALL: u16 = 3;
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

/// Ends with the test.
struct Running(Child);

pub struct Link {
    config: Config,
    _server: Running,
    socket: Socket,
    own: MacAddr,
    theirs: MacAddr,
    asked: u16,
    /// Checksums are the server's own to get right; the kernel leaves those of others to hardware that is none.
    exact: bool,
    dir: tempfile::TempDir,
    namespaces: [Netns; 2],
}

impl Link {
    fn new(config: Config) -> Self {
        let berth = |server: &Netns, leases: &Path| {
            let mut command = server.command(env!("CARGO_BIN_EXE_berth"));
            command.args(["serve", "--interface=s0"]).args(config.words());
            command.arg(format!("--lease-file={}", leases.display()));
            command
        };
        Self::start(config, 24, berth, "serving DHCP")
    }

    /// A /16 whose first addresses are given away, as `dnsmasq` below does.
    pub fn wide(authoritative: bool) -> Self {
        let berth = |server: &Netns, leases: &Path| {
            let mut command = server.command(env!("CARGO_BIN_EXE_berth"));
            command.args([
                "serve",
                "--interface=s0",
                "--address=10.0.0.1/16",
                "--range=10.0.0.100,10.0.0.199",
            ]);
            command.args(["--range=10.0.1.0,10.0.250.250", "--no-dns"]);
            command.args((!authoritative).then_some("--not-authoritative"));
            command.arg(format!("--lease-file={}", leases.display()));
            command
        };
        Self::start(Config::Office, 16, berth, "serving DHCP")
    }

    pub fn dnsmasq(authoritative: bool) -> Self {
        let dnsmasq = |server: &Netns, leases: &Path| {
            let mut command = server.command("dnsmasq");
            command.args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--interface=s0",
            ]);
            command.args(["--log-facility=-", "--pid-file", "--no-ping", "--user=root"]);
            command.args(["--dhcp-range=10.0.0.100,10.0.0.199,255.255.0.0,1h"]);
            command.args([
                "--dhcp-range=10.0.1.0,10.0.250.250,255.255.0.0,1h",
                "--dhcp-lease-max=10000",
            ]);
            command.args(authoritative.then_some("--dhcp-authoritative"));
            command.arg(format!("--dhcp-leasefile={}", leases.display()));
            command
        };
        Self { exact: false, ..Self::start(Config::Office, 16, dnsmasq, "DHCP, IP range") }
    }

    fn start(
        config: Config,
        length: u8,
        server_command: impl Fn(&Netns, &Path) -> Command,
        ready: &str,
    ) -> Self {
        let (server, client) = (Netns::new("server"), Netns::new("client"));
        veth(&server, "s0", &client, "c0");
        server.ip(&format!("addr add 10.0.0.1/{length} dev s0"));
        // Behind the relay, and wherever else a case says it is.
        server.ip("route add default dev s0");
        client.ip("addr add 10.0.0.2/24 dev c0");
        let dir = tempfile::tempdir().unwrap();
        if config != Config::Careful {
            // Whatever a case may ask from is known, as hosts are that have asked for our MAC.
            let mac = client.run("cat /sys/class/net/c0/address");
            let known = |address| {
                format!("neigh add {address} lladdr {} dev s0 nud permanent\n", mac.trim())
            };
            let batch = dir.path().join("neighbours");
            std::fs::write(&batch, asked_from().map(known).collect::<String>()).unwrap();
            server.ip(&format!("-batch {}", batch.display()));
        }
        let mut command = server_command(&server, &dir.path().join("leases"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server has ended");
        }
        std::thread::spawn(move || log.bytes().last());
        let mac = |netns: &Netns, link: &str| {
            netns
                .run(&format!("cat /sys/class/net/{link}/address"))
                .trim()
                .parse::<MacAddr>()
                .unwrap()
        };
        let (own, theirs) = (mac(&client, "c0"), mac(&server, "s0"));
        let socket = packets_of(&client, "c0");
        Self {
            config,
            _server: Running(child),
            socket,
            own,
            theirs,
            asked: 0,
            exact: true,
            dir,
            namespaces: [server, client],
        }
    }

    fn send_frame(&mut self, payload: &[u8]) {
        let field =
            |at: usize| payload.get(at..at + 4).map_or([0; 4], |bytes| bytes.try_into().unwrap());
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
        let frame =
            udp4(from, Endpoint { mac, socket: SocketAddrV4::new(to, 67) }, payload).unwrap();
        (&self.socket).write_all(&frame).unwrap();
    }

    /// The next reply of the server before then.
    fn receive(&mut self, until: Instant) -> Option<Reply> {
        let mut buffer = [0; 2048];
        loop {
            let left =
                until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
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
        let checks = if self.exact {
            ChecksumCapabilities::default()
        } else {
            ChecksumCapabilities::ignored()
        };
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

/// Where the cases' requests come from.
fn asked_from() -> impl Iterator<Item = Ipv4Addr> {
    let networks = [
        ([10, 0, 0, 8], 29),
        ([10, 0, 0, 16], 28),
        ([10, 0, 0, 64], 26),
        ([10, 0, 0, 128], 25),
        ([10, 0, 1, 0], 24),
        ([10, 0, 2, 0], 24),
        ([10, 0, 100, 0], 23),
        ([10, 1, 0, 0], 24),
        ([192, 168, 7, 7], 32),
    ];
    networks.into_iter().flat_map(|(network, length)| {
        let first = Ipv4Addr::from(network).to_bits();
        (first..first + (1 << (32 - length))).map(Ipv4Addr::from_bits)
    })
}

/// Every frame of a link.
fn packets_of(netns: &Netns, link: &str) -> Socket {
    let index: u32 =
        netns.run(&format!("cat /sys/class/net/{link}/ifindex")).trim().parse().unwrap();
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
        let marker = Packet::new([0x52, 0x54, 0xff, 0xff, high, low], &[INFORM])
            .ciaddr([10, 0, 0, 250].into());
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

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

/// Clients and relays without a MAC so far get the same replies, from the same port.
#[test]
fn d56_strangers_are_answered_as_others_are() {
    let mut link = Link::new(Config::Office);
    link.namespaces[0].ip("neigh flush dev s0 nud permanent");
    for network in ["10.0.0.16/28", "10.0.0.64/26"] {
        link.namespaces[1].ip(&format!("route add local {network} dev c0 table local"));
    }
    let mut answered = |packet: Packet, to: [u8; 4]| {
        link.send_frame(&packet.0);
        let reply = link.receive(Instant::now() + PATIENCE).expect("a reply");
        assert_eq!(reply.to, To { address: to.into(), port: reply.to.port, mac: None });
        reply
    };
    for host in 20..30 {
        let from = [10, 0, 0, host];
        let inform = Packet::new(mac(host.into()), &[INFORM]).ciaddr(from.into());
        for _ in 0..2 {
            assert_eq!(answered(inform.clone(), from).kind(), ACK);
        }
        let relay = [10, 0, 0, host + 50];
        let relayed = Packet::new(mac(host.into()), &[DISCOVER]).giaddr(relay);
        assert_eq!(answered(relayed, relay).to.port, 67);
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
    let end = |mac, address: [u8; 4], port| Endpoint {
        mac,
        socket: SocketAddrV4::new(address.into(), port),
    };
    let plain = udp4(end(link.own, [0; 4], 68), end(MacAddr([0xff; 6]), [255; 4], 67), &discover.0)
        .unwrap();
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
    let all: Vec<&Case> =
        super::all_cases().filter(|case| !case.name.starts_with(BY_THE_SECOND)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::thread::scope(|scope| {
        let work = || {
            let mut results = Vec::new();
            while let Some(case) = all.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                let ran =
                    catch_unwind(AssertUnwindSafe(|| (case.run)(&mut Link::new(case.config))));
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
    println!(
        "{held} of {} cases held, {} run on the core alone: {elsewhere:?}",
        all.len(),
        elsewhere.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(held > all.len() / 2, "{elsewhere:?}");
}
