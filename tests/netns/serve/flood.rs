//! Floods, really sent, and who asks honestly beside them. What an attack costs is looked for in the process's memory
//! and in the kernel's tables.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use berth::proto::frame::{Endpoint, udp4};
use dhcproto::Encodable;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode};
use socket2::{Domain, Socket, Type};

use crate::serve::Site;
use crate::serve::crowd::Crowd;
use crate::support::{Netns, until};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The issue's own bound.
const MOST_MEMORY: u64 = 24 << 10;

/// How much of a flood may come at once where its sender was kept from the processor.
const LATE: Duration = Duration::from_millis(20);

/// Runs until it is dropped; has panicked when its work has.
struct Flood {
    rate: u32,
    began: Instant,
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// `rate` times a second, with a number that grows; what a busy machine kept it from is not made up for beyond [`LATE`].
    fn start(rate: u32, mut send: impl FnMut(u32) + Send + 'static) -> Self {
        let (ended, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (end, count) = (ended.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let mut due = Instant::now();
            for number in 0.. {
                match due.checked_duration_since(Instant::now()) {
                    Some(early) => std::thread::sleep(early),
                    None => due = due.max(Instant::now() - LATE),
                }
                due += Duration::from_secs(1) / rate;
                if end.load(Ordering::Relaxed) {
                    return;
                }
                send(number);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { rate, began: Instant::now(), ended, sent, thread: Some(thread) }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The same, near the rate: fewer would be no flood.
    #[track_caller]
    fn sent_at_rate(&self) -> u64 {
        let sent = self.sent();
        let least = f64::from(self.rate) * self.began.elapsed().as_secs_f64() / 4.0;
        assert!(sent as f64 >= least, "{sent} sent, {} a second were to be", self.rate);
        sent
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn words_of(netns: &Netns, path: &str) -> String {
    netns.run(&format!("cat {path}")).trim().to_owned()
}

fn mac(netns: &Netns, link: &str) -> MacAddr {
    words_of(netns, &format!("/sys/class/net/{link}/address")).parse().unwrap()
}

/// Sends whole frames from the client's link, whoever they say they are from.
fn raw(site: &Site) -> impl Fn(&[u8]) + Send + use<> {
    let index: u32 = words_of(&site.client, "/sys/class/net/c0/ifindex").parse().unwrap();
    let socket = site.client.enter(move || async move {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
        berth::sys::ffi::bind_packet(&socket, index, 0).unwrap();
        socket
    });
    move |frame| {
        // What the link does not take is a flood's own loss.
        let _ = (&socket).write_all(frame);
    }
}

fn datagram(to: MacAddr, from: (Ipv4Addr, u16), port: u16, payload: &[u8]) -> Vec<u8> {
    let from =
        Endpoint { mac: MacAddr([2, 0xbb, 0, 0, 0, 1]), socket: SocketAddrV4::new(from.0, from.1) };
    udp4(from, Endpoint { mac: to, socket: SocketAddrV4::new(SERVER, port) }, payload).unwrap()
}

/// printer.lan, which is answered here, or a name that is asked for elsewhere; with EDNS options of so many octets.
fn question(id: u16, name: &str, options: usize) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\x01"].concat();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend(b"\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0");
    let octets = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    bytes.extend(octets(options + 4));
    bytes.extend([0xfd, 0xe9]);
    bytes.extend(octets(options));
    bytes.resize(bytes.len() + options, 7);
    bytes
}

/// An address of the link's network that nobody has.
fn absent(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 100, 0]) + number % 30_000)
}

/// How long each of some questions took that came one after another; None: it had no answer in a second.
fn honest(site: &Site, from: Ipv4Addr, count: u16) -> Vec<Option<Duration>> {
    site.client.enter(move || async move {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.connect((SERVER, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut buffer = [0; 512];
        let ask = |id: u16| {
            std::thread::sleep(Duration::from_millis(10));
            let began = Instant::now();
            socket.send(&question(id, "printer.lan", 0)).unwrap();
            loop {
                let length = socket.recv(&mut buffer).ok()?;
                if buffer[..2] == id.to_be_bytes() {
                    assert!(buffer[..length].windows(4).any(|address| address == [10, 0, 0, 9]));
                    return Some(began.elapsed());
                }
            }
        };
        (0..count).map(ask).collect()
    })
}

fn median(times: &[Option<Duration>]) -> Duration {
    let mut times: Vec<Duration> = times.iter().map(|time| time.expect("an answer")).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// KiB of the server's memory that are its own. (A test's binary is large, and the kernel shares it.)
fn memory(site: &Site) -> u64 {
    let pid = site.serving.as_ref().unwrap().0.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// The most it had in this time.
fn most_memory(site: &Site, lasts: Duration) -> u64 {
    let began = Instant::now();
    let mut max = 0;
    while began.elapsed() < lasts {
        max = max.max(memory(site));
        std::thread::sleep(Duration::from_millis(20));
    }
    max
}

#[test]
fn h3_questions_from_addresses_that_nobody_has_keep_nobody_waiting() {
    let mut site = Site::silent();
    for host in [2, 3, 4] {
        site.client.ip(&format!("addr add 10.0.0.{host}/16 dev c0"));
    }
    site.serve_names("--upstream=10.0.0.2:5300");
    let quiet = median(&honest(&site, [10, 0, 0, 2].into(), 60));
    for (rate, newcomer) in [(600, 3), (6000, 4)] {
        let (send, to) = (raw(&site), mac(&site.server, "s0"));
        let flood = Flood::start(rate, move |number| {
            let bytes = question(0, "printer.lan", 0);
            send(&datagram(to, (absent(number), 4000), 53, &bytes));
        });
        // Until ARP gives up on the first of them, all the others wait.
        std::thread::sleep(Duration::from_millis(1500));
        let times = honest(&site, [10, 0, 0, 2].into(), 60);
        let lost = times.iter().filter(|time| time.is_none()).count();
        assert_eq!(lost, 0, "at {rate} a second");
        let busy = median(&times);
        println!(
            "at {rate} a second: median {busy:?}, quiet {quiet:?}, {} sent",
            flood.sent_at_rate()
        );
        // The flood's own sender and the kernel's ARP share the processor with everybody.
        assert!(busy <= 2 * quiet + Duration::from_millis(2), "{busy:?}, quiet {quiet:?}");
        // Nor who comes now; nor is the node's table filled (net.ipv4.neigh.default.gc_thresh3 is 1,024).
        site.client.ip("neigh flush dev c0");
        assert!(honest(&site, [10, 0, 0, newcomer].into(), 5).iter().all(Option::is_some));
        // Nor who was quiet for so long that the server's kernel forgot it.
        site.server.ip("neigh del 10.0.0.2 dev s0");
        assert!(honest(&site, [10, 0, 0, 2].into(), 5).iter().all(Option::is_some));
        let waiting = site.server.ip("-4 neigh show dev s0").matches("INCOMPLETE").count();
        assert!((1..=128).contains(&waiting), "{waiting} neighbours that are none");
    }
}

/// What answers strangers needs a route, which there was none when it was bound: it was done without for good, and the
/// node's table of neighbours was filled.
#[test]
fn h3_strangers_wait_for_each_other_though_link_or_address_came_late() {
    let names = "--domain=lan --host=printer=10.0.0.9 --upstream=10.0.0.2:5300";
    for (before, words, after) in [
        ("link set s0 down", "", "link set s0 up"),
        ("addr flush dev s0", "--address=10.0.0.1/16", "addr add 10.0.0.1/16 dev s0"),
    ] {
        let mut site = Site::silent();
        for host in [2, 3] {
            site.client.ip(&format!("addr add 10.0.0.{host}/16 dev c0"));
        }
        // Another address, which is not to be answered from.
        site.server.ip("link add other type bridge");
        site.server.ip("addr add 192.0.2.1/24 dev other");
        site.server.ip("link set other up");
        site.server.ip(before);
        site.serve_both(&format!("{names} {words}"));
        site.server.ip(after);
        let works = || honest(&site, [10, 0, 0, 2].into(), 1).iter().all(Option::is_some);
        until("an answer", works);
        assert!(honest(&site, [10, 0, 0, 2].into(), 20).iter().all(Option::is_some), "{after}");
        Crowd::new(&site.client, "c0").lease(5);
        let (send, to) = (raw(&site), mac(&site.server, "s0"));
        let flood = Flood::start(3000, move |number| {
            let bytes = question(0, "printer.lan", 0);
            send(&datagram(to, (absent(number), 4000), 53, &bytes));
            send(&datagram(to, (absent(number), 68), 67, &informs(number)));
        });
        std::thread::sleep(Duration::from_millis(1500));
        site.client.ip("neigh flush dev c0");
        assert!(honest(&site, [10, 0, 0, 3].into(), 20).iter().all(Option::is_some), "{after}");
        let neighbours = site.server.ip("-4 neigh show dev s0");
        let waiting =
            neighbours.matches("INCOMPLETE").count() + neighbours.matches("FAILED").count();
        assert!((1..=512).contains(&waiting), "{after}: {waiting} neighbours that are none");
        assert!(flood.sent() > 1000);
        let sockets = site.server.run("ss -uanH");
        let of = |port: &str, from: &str| {
            sockets
                .lines()
                .filter(|line| {
                    line.contains(&format!("{from}%s0:{port}")) && line.contains("127.0.0.1:9")
                })
                .count()
        };
        println!("{sockets}");
        assert!(of("53", "10.0.0.1") >= 1 && of("67", "10.0.0.1") >= 1, "{after}: {sockets}");
    }
}

#[test]
fn h5_memory_is_bounded_whatever_is_asked() {
    let mut site = Site::silent();
    for host in 2..=40 {
        site.client.ip(&format!("addr add 10.0.0.{host}/16 dev c0"));
    }
    // Takes questions and never answers; who asks for a closed port hears so at once.
    let _silent = site.client.enter(|| async { UdpSocket::bind("10.0.0.2:5300").unwrap() });
    for upstream in ["10.0.0.2:5300", "10.0.0.2:5301"] {
        site.serve_names(&format!("--upstream={upstream}"));
        let before = memory(&site);
        let mut seen = Vec::new();
        for (what, options, froms) in
            [("too long", 1380, 1), ("long", 1100, 1), ("long, of many", 1100, 30_000)]
        {
            let (send, to) = (raw(&site), mac(&site.server, "s0"));
            let flood = Flood::start(60_000, move |number| {
                let name = format!("n{}.test", number % 600);
                let from = if froms == 1 { [10, 0, 0, 3].into() } else { absent(number % froms) };
                send(&datagram(to, (from, 4000), 53, &question(0, &name, options)));
            });
            seen.push((what, most_memory(&site, Duration::from_millis(800))));
            assert!(flood.sent() > 1000);
        }
        if upstream.ends_with("5300") {
            seen.push(("TCP", over_tcp(&site)));
        }
        println!("{before} KiB before; {seen:?}");
        assert!(seen.iter().all(|(_, max)| *max <= MOST_MEMORY), "KiB: {seen:?}");
        assert_eq!(site.client.run("dig @10.0.0.1 +short +tries=1 printer.lan"), "10.0.0.9\n");
        drop(site.serving.take());
    }
}

/// As many connections as there are, from many addresses: some announce 64 KiB and send them, some ask and never read.
fn over_tcp(site: &Site) -> u64 {
    let connect = |host: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([10, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&SocketAddr::from((SERVER, 53)).into()).unwrap();
        TcpStream::from(socket)
    };
    let held = site.client.enter(move || async move {
        let mut held = Vec::new();
        for host in 3..=20 {
            for number in 0..16u16 {
                let mut stream = connect(host);
                stream.set_nonblocking(true).unwrap();
                let bytes = if number.is_multiple_of(2) {
                    [&[0xff, 0xff][..], &[7; 0xffff]].concat()
                } else {
                    let one = question(number, "printer.lan", 1100);
                    [&u16::try_from(one.len()).unwrap().to_be_bytes()[..], &one].concat().repeat(60)
                };
                let _ = stream.write(&bytes);
                held.push(stream);
            }
        }
        held
    });
    let max = most_memory(site, Duration::from_millis(700));
    drop(held);
    max
}

/// INFORM is answered to the address it comes from, and by way of a relay to the relay's.
fn informs(number: u32) -> Vec<u8> {
    let mut message = Message::default();
    let mac = [2, 0xcc, 0, 0, (number >> 8) as u8, number as u8];
    message.set_opcode(Opcode::BootRequest).set_chaddr(&mac).set_xid(number);
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Inform));
    if number.is_multiple_of(2) {
        message.set_ciaddr(absent(number))
    } else {
        message.set_giaddr(absent(number))
    };
    message.to_vec().unwrap()
}

fn discovers(number: u32) -> Vec<u8> {
    let mut message = Message::default();
    let [a, b, c, d] = number.to_be_bytes();
    message.set_opcode(Opcode::BootRequest).set_chaddr(&[2, 0xdd, a, b, c, d]).set_xid(number);
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
    message.to_vec().unwrap()
}

#[test]
fn dhcp_floods_keep_nobody_waiting_and_memory_is_bounded() {
    let mut site = Site::new("--lease-time=3600");
    let mut crowd = Crowd::new(&site.client, "c0");
    crowd.silence(Duration::from_secs(1));
    let lease_some = |crowd: &mut Crowd| {
        let began = Instant::now();
        crowd.lease(30);
        began.elapsed() / 30
    };
    let quiet = lease_some(&mut crowd);
    for (what, rate, bytes) in
        [("informs", 1000, informs as fn(u32) -> Vec<u8>), ("discovers", 1000, discovers)]
    {
        let (send, to) = (raw(&site), mac(&site.server, "s0"));
        let lines = || fs::read_to_string(site.leases()).unwrap().lines().count();
        let before = lines();
        let flood = Flood::start(rate, move |number| {
            let from =
                if number.is_multiple_of(3) { absent(number) } else { Ipv4Addr::UNSPECIFIED };
            send(&datagram(to, (from, 68), 67, &bytes(number)));
        });
        std::thread::sleep(Duration::from_millis(1000));
        let busy = lease_some(&mut crowd);
        crowd.renew_some();
        let max = most_memory(&site, Duration::from_millis(500));
        println!(
            "{what}: {busy:?} each, quiet {quiet:?}; {max} KiB, {} sent",
            flood.sent_at_rate()
        );
        assert!(busy <= 2 * quiet + Duration::from_millis(5), "{what}: {busy:?}, quiet {quiet:?}");
        assert!(max <= MOST_MEMORY, "{what}: {max} KiB");
        let written = lines() - before;
        assert!(written <= 60, "{what}: {written} lines for 30 leases and 20 renewals");
        let waiting = site.server.ip("-4 neigh show dev s0").matches("INCOMPLETE").count();
        assert!(waiting <= 128, "{what}: {waiting} neighbours that are none");
    }
    drop(site.serving.take());
}

/// A listener that cannot accept waits: it neither ends nor turns round and round.
#[test]
fn without_descriptors_the_server_waits_and_goes_on() {
    let mut site = Site::silent();
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    let log = site.serve_names("--upstream=10.0.0.2:5300");
    let pid = site.serving.as_ref().unwrap().0.id();
    let limit = |max: &str| {
        let pid = format!("--pid={pid}");
        super::checked(
            std::process::Command::new("prlimit").args([pid, format!("--nofile={max}")]),
        );
    };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit(&format!("{open}:1024"));
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let words: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
    };
    let mut held: Vec<TcpStream> = site
        .client
        .enter(|| async { (0..8).map(|_| TcpStream::connect((SERVER, 53)).unwrap()).collect() });
    let said = || fs::read_to_string(&log).unwrap().matches("takes no connection").count();
    until("word of it", || said() == 1);
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    let used = ticks() - before;
    assert!(used < 20, "{used} of 100 ticks of a second");
    assert!(honest(&site, [10, 0, 0, 2].into(), 3).iter().all(Option::is_some), "UDP goes on");
    assert_eq!(said(), 1);
    limit("1024:1024");
    let last = held.last_mut().unwrap();
    let one = question(7, "printer.lan", 0);
    last.write_all(&[&u16::try_from(one.len()).unwrap().to_be_bytes()[..], &one].concat()).unwrap();
    last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(last.read_exact(&mut [0; 14]).is_ok());
}
