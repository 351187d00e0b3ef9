//! Names: dig, glibc, dnsperf, and connections that stay open.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::serve::{Running, Site};
use crate::support::{checked, until};

/// A dnsmasq in the client's namespace as the upstream, and `berth serve` for names alone.
fn names() -> (Site, Running) {
    let mut site = Site::silent();
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    let mut upstream = site.client.command("dnsmasq");
    upstream.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--port=5300",
    ]);
    upstream.args([
        "--address=/example.org/192.0.2.7",
        "--txt-record=text.example.org,hello",
        "--local-ttl=60",
    ]);
    upstream.args(["--cname=alias.example.org,www.example.org", "--user=root", "--pid-file"]);
    let upstream = Running(upstream.stderr(Stdio::null()).spawn().unwrap());
    site.serve_names("--upstream=10.0.0.2:5300");
    let answers =
        || site.client.run("dig @10.0.0.2 -p 5300 +short +tries=1 +time=1 www.example.org");
    until("upstream", || {
        std::panic::catch_unwind(answers).is_ok_and(|answer| answer.contains("192.0.2.7"))
    });
    (site, upstream)
}

impl Site {
    /// Where its log goes.
    pub fn serve_names(&mut self, words: &str) -> PathBuf {
        let mut command = self.server.command(env!("CARGO_BIN_EXE_berth"));
        command.args([
            "serve",
            "--interface=s0",
            "--no-dhcp",
            "--domain=lan",
            "--host=printer=10.0.0.9",
        ]);
        let (log, path) = self.log("names.log");
        command.arg("--host=printer=fd00::9").args(words.split_whitespace()).stderr(log);
        self.serving = Some(Running(command.spawn().unwrap()));
        until("server", || fs::read_to_string(&path).unwrap().contains("serving DNS"));
        path
    }
}

#[test]
fn dig_asks_for_our_names_and_others_and_hears_them_when_the_upstream_is_gone() {
    let (site, upstream) = names();
    let dig = |words: &str| site.client.run(&format!("dig @10.0.0.1 +tries=1 +time=5 {words}"));
    assert_eq!(dig("+short printer.lan"), "10.0.0.9\n");
    assert_eq!(dig("+short printer.lan AAAA"), "fd00::9\n");
    assert_eq!(dig("+short -x 10.0.0.9"), "printer.lan.\n");
    assert_eq!(dig("+short -x fd00::9"), "printer.lan.\n");
    assert!(dig("nobody.lan").contains("status: NXDOMAIN"));
    for words in ["+notcp", "+tcp", "+noedns", "+dnssec +bufsize=1232", "+cdflag"] {
        let answer = dig(&format!("{words} wWw.Example.org"));
        assert!(
            answer.contains("status: NOERROR") && answer.contains("192.0.2.7"),
            "{words}: {answer}"
        );
        assert!(answer.contains("wWw.Example.org."), "{words}: {answer}");
    }
    assert_eq!(dig("+short TXT text.example.org"), "\"hello\"\n");
    assert!(dig("ANY www.example.org").contains("RFC8482"));
    assert!(dig("CH TXT version.bind").contains("status: REFUSED"));
    drop(upstream);
    for words in ["+noedns", "+tcp +noedns"] {
        let answer = dig(&format!("{words} www.example.org"));
        assert!(answer.contains("192.0.2.7"), "{answer}");
    }
}

#[test]
fn glibc_finds_names_through_us_with_ndots_5() {
    let (site, _upstream) = names();
    let conf = site.dir.path().join("resolv.conf");
    fs::write(&conf, "nameserver 10.0.0.1\nsearch a.lan lan\noptions ndots:5\n").unwrap();
    let line = format!(
        "mount --bind {} /etc/resolv.conf && getent ahostsv4 printer && getent ahostsv4 www.example.org",
        conf.display()
    );
    let found = checked(site.client.command("unshare").args(["--mount", "sh", "-c", &line]));
    assert!(found.contains("10.0.0.9") && found.contains("192.0.2.7"), "{found}");
}

#[test]
fn dnsperf_loses_no_answer() {
    let (site, _upstream) = names();
    let queries: String =
        (0..200).map(|number| format!("n{number}.example.org A\nprinter.lan AAAA\n")).collect();
    let file = site.dir.path().join("queries");
    fs::write(&file, queries).unwrap();
    let words = format!("dnsperf -s 10.0.0.1 -d {} -c 4 -q 50 -l 3", file.display());
    let report = site.client.run(&words);
    let lost = report.lines().find(|line| line.contains("Queries lost")).unwrap();
    assert!(lost.contains(" 0 (0.00%)"), "{report}");
    let rate: f64 = report
        .lines()
        .find_map(|line| line.trim().strip_prefix("Queries per second:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    println!("{rate} answers a second");
    assert!(rate > 100.0, "{report}");
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// printer.lan, A; with this id.
fn question(id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0\x07printer\x03lan\0\0\x01\0\x01"].concat()
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect(("10.0.0.1", 53)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn read_id(stream: &mut TcpStream) -> u16 {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[answer.len() - 4..], [10, 0, 0, 9]);
    u16::from_be_bytes([answer[0], answer[1]])
}

/// Whether the other side has closed it, and after how long.
fn closed_after(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    began.elapsed()
}

#[test]
fn n05_questions_are_pipelined_and_an_idle_connection_ends() {
    let (site, _upstream) = names();
    site.client.enter(|| async {
        let mut stream = connect();
        // All at once, more than may wait; read only then.
        let all: Vec<u8> = (0..1000).flat_map(|id| framed(&question(id))).collect();
        stream.write_all(&all).unwrap();
        let mut answered: Vec<u16> = (0..1000).map(|_| read_id(&mut stream)).collect();
        answered.sort_unstable();
        assert!(answered.into_iter().eq(0..1000));
        // A message that comes an octet at a time, and one that is too long for a question.
        let slow = connect();
        let mut writes = slow.try_clone().unwrap();
        std::thread::spawn(move || {
            for octet in framed(&question(1)) {
                let _ = writes.write_all(&[octet]);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let slow = std::thread::spawn(move || {
            slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            closed_after(slow)
        });
        let mut long = connect();
        long.write_all(&[0xff, 0xff, 1]).unwrap();
        assert!(closed_after(long) < Duration::from_secs(8), "it is not waited for");
        // Half a message is as idle as none.
        stream.write_all(&[0, 29, 1]).unwrap();
        let idle = closed_after(stream);
        let slow = slow.join().unwrap();
        for idle in [idle, slow] {
            assert!((8..13).contains(&idle.as_secs()), "{idle:?}");
        }
    });
}

#[test]
fn n05_connections_are_bounded_by_client_and_in_all() {
    let (site, _upstream) = names();
    for host in 1..=40 {
        site.client.ip(&format!("addr add 10.0.9.{host}/16 dev c0"));
    }
    site.client.enter(|| async {
        let from = |host: u8| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([10, 0, 9, host], 0)).into()).unwrap();
            socket.connect(&SocketAddr::from(([10, 0, 0, 1], 53)).into()).unwrap();
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            stream
        };
        let mut held: Vec<TcpStream> = (0..16).map(|_| from(1)).collect();
        for stream in &mut held {
            stream.write_all(&framed(&question(7))).unwrap();
            assert_eq!(read_id(stream), 7);
        }
        assert!(closed_after(from(1)) < Duration::from_secs(1), "one too many of one client");
        let mut other = from(2);
        other.write_all(&framed(&question(8))).unwrap();
        assert_eq!(read_id(&mut other), 8, "another client has its own");
        drop((other, held));
        let served = |host| {
            let mut stream = from(host);
            stream.write_all(&framed(&question(9))).unwrap();
            assert_eq!(read_id(&mut stream), 9, "10.0.9.{host}");
            stream
        };
        let is_open = |mut stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        // All places, and more: of those who have most one that is idle makes room, nobody who asks is kept out.
        let many: Vec<TcpStream> =
            (3..=18).flat_map(|host| (0..16).map(move |_| host)).map(served).collect();
        let few: Vec<TcpStream> = (19..=40).map(served).collect();
        let lost = |all: &[TcpStream]| all.iter().filter(|stream| !is_open(stream)).count();
        assert_eq!((lost(&many), lost(&few)), (few.len(), 0));
        let lost: Vec<usize> = many.chunks(16).map(lost).collect();
        assert!(lost.iter().all(|lost| (1..=2).contains(lost)), "{lost:?}");
        let oldest = many.chunks(16).zip(lost).all(|(all, lost)| all[lost..].iter().all(is_open));
        assert!(oldest, "the ones that were idle for longest");
        // With as many as anybody, a client closes its own.
        let more: Vec<TcpStream> = (0..16).map(|_| served(19)).collect();
        assert!(few[1..].iter().all(is_open) && more[15..].iter().all(is_open));
    });
    assert_eq!(site.client.run("dig @10.0.0.1 +short +tries=1 printer.lan"), "10.0.0.9\n");
}

/// One question without an answer on each connection: none of them was idle, and nobody else came in.
#[test]
fn n05_connections_that_always_ask_keep_nobody_out() {
    let mut site = Site::silent();
    for host in 1..=40 {
        site.client.ip(&format!("addr add 10.0.9.{host}/16 dev c0"));
    }
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    let _silent = site.client.enter(|| async { UdpSocket::bind("10.0.0.2:5300").unwrap() });
    site.serve_names("--upstream=10.0.0.2:5300");
    let answered = site.client.enter(|| async {
        let from = |host: u8| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([10, 0, 9, host], 0)).into()).unwrap();
            socket.connect(&SocketAddr::from(([10, 0, 0, 1], 53)).into()).unwrap();
            TcpStream::from(socket)
        };
        let mut number = 0;
        let mut asking = |host| {
            number += 1;
            let name = format!("x{number:05}");
            let bytes = [
                &[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6],
                name.as_bytes(),
                b"\x04test\0\0\x01\0\x01",
            ];
            let mut stream = from(host);
            stream.write_all(&framed(&bytes.concat())).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        };
        let hosts: Vec<u8> = (1..=16).flat_map(|host| [host; 16]).collect();
        let mut held: Vec<TcpStream> = hosts.iter().map(|host| asking(*host)).collect();
        let mut answered = 0;
        for _ in 0..20 {
            let mut honest = from(40);
            // As one who does not ask at once: whoever lost a place takes one again meanwhile.
            for (stream, host) in held.iter_mut().zip(&hosts) {
                if !stream
                    .read(&mut [0; 64])
                    .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
                {
                    *stream = asking(*host);
                }
            }
            honest.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let _ = honest.write_all(&framed(&question(9)));
            answered += usize::from(honest.read(&mut [0; 64]).is_ok_and(|length| length > 0));
        }
        answered
    });
    assert_eq!(answered, 20);
}

/// An upstream that is this very server by another name: what it is asked comes back.
#[test]
fn n23_a_loop_is_told_once_and_ends() {
    let (mut site, _upstream) = names();
    drop(site.serving.take());
    // What goes to 10.0.0.77 comes in by the link again.
    site.client.run("sysctl -qw net.ipv4.ip_forward=1");
    site.client.run("sysctl -qw net.ipv4.conf.c0.send_redirects=0");
    site.server.ip("route add 10.77.0.1 via 10.0.0.2 src 10.0.0.1");
    site.client.nft("add table ip loop { chain c { type nat hook prerouting priority -100; ip daddr 10.77.0.1 dnat to 10.0.0.1; }; chain p { type nat hook postrouting priority 100; oifname c0 udp dport 53 masquerade; }; }");
    site.server.run("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    let log = site.serve_names("--upstream=10.77.0.1 --upstream=10.0.0.2:5300");
    for _ in 0..3 {
        let answer = site.client.run("dig @10.0.0.1 +tries=1 +time=5 +noedns www.example.org");
        assert!(answer.contains("192.0.2.7"), "{answer}");
    }
    assert!(
        site.client
            .run("dig @10.0.0.1 +tries=1 +time=5 +noedns mail.example.org")
            .contains("192.0.2.7")
    );
    let text = fs::read_to_string(log).unwrap();
    assert_eq!(text.matches("a name server asks us what we asked it").count(), 1, "{text}");
}

#[test]
fn dhcp_clients_are_found_by_the_names_they_give_themselves() {
    let mut site = Site::silent();
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    let serve = |site: &mut Site| {
        site.serve_both("--domain=lan --reserve=02:00:00:00:00:77,10.0.0.77,printer");
    };
    serve(&mut site);
    let dig = |site: &Site, words: &str| {
        site.client.run(&format!("dig @10.0.0.1 +tries=1 +time=5 +short {words}"))
    };
    let (script, _) = site.script();
    let mut command = site.client.command("busybox");
    command.args(["udhcpc", "-i", "c0", "-f", "-R", "-x", "hostname:LapTop", "-s"]).arg(script);
    let client = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("lease", || site.told().contains("bound 10.0.1.1"));
    let known = |site: &Site| {
        assert_eq!(dig(site, "laptop.lan"), "10.0.1.1\n");
        assert_eq!(dig(site, "laptop"), "10.0.1.1\n");
        assert_eq!(dig(site, "-x 10.0.1.1"), "laptop.lan.\n");
        assert_eq!(dig(site, "printer.lan"), "10.0.0.77\n");
    };
    until("name", || dig(&site, "laptop.lan") == "10.0.1.1\n");
    known(&site);
    // Killed and started again, it knows them from its leases.
    drop(site.serving.take());
    serve(&mut site);
    until("name", || dig(&site, "laptop.lan") == "10.0.1.1\n");
    known(&site);
    checked(Command::new("kill").args(["-USR2", &client.0.id().to_string()]));
    until("end of the address", || !site.client.ip("addr show c0").contains("10.0."));
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    until("end of the name", || dig(&site, "laptop.lan").is_empty());
    assert_eq!(dig(&site, "-x 10.0.1.1"), "");
}
