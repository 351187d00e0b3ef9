//! `berth serve` as real clients find it: each in a namespace of its own behind a veth, from its first lease to its
//! last, and the server killed at any moment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop"
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Netns, checked, veth};

/// Clients wait at random between two attempts, and miss a moment now and then.
const PATIENCE: Duration = Duration::from_secs(90);

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// server s0 10.0.0.1/16 ── c0 client
struct Site {
    server: Netns,
    client: Netns,
    dir: tempfile::TempDir,
    serving: Option<Running>,
}

impl Site {
    /// With leases of so many seconds.
    fn new(words: &str) -> Self {
        let (server, client) = (Netns::new("server"), Netns::new("client"));
        veth(&server, "s0", &client, "c0");
        server.ip("addr add 10.0.0.1/16 dev s0");
        let mut site = Self { server, client, dir: tempfile::tempdir().unwrap(), serving: None };
        site.serve(words);
        site
    }

    fn serve(&mut self, words: &str) {
        let mut command = self.server.command(env!("CARGO_BIN_EXE_berth"));
        command.args(["serve", "--interface=s0", "--range=10.0.1.1,10.0.250.250", "--no-dns"]);
        command.arg(format!("--lease-file={}", self.leases().display())).args(words.split_whitespace());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("serving DHCP") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "berth serve has ended");
        }
        let path = self.dir.path().join("log");
        std::thread::spawn(move || {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            let _ = std::io::copy(&mut log, &mut file);
        });
        self.serving = Some(Running(child));
    }

    fn leases(&self) -> PathBuf {
        self.dir.path().join("leases")
    }

    fn listed(&self) -> Vec<serde_json::Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(["leases", "--output=json", "--lease-file"]).arg(self.leases());
        serde_json::from_str(&checked(&mut command)).unwrap()
    }

    /// A script for clients that sets the address and notes why it was called, and with what.
    fn script(&self) -> (PathBuf, PathBuf) {
        let (script, told) = (self.dir.path().join("script"), self.dir.path().join("told"));
        let text = format!(
            "#!/bin/sh\n\
             echo \"${{reason:-$1}} ${{new_ip_address:-$ip}}\" >>{}\n\
             case \"${{reason:-$1}}\" in\n\
             BOUND|RENEW|REBIND|REBOOT|bound|renew)\n\
             ip addr replace ${{new_ip_address:-$ip}}/16 dev c0;;\n\
             EXPIRE|RELEASE|STOP|deconfig) ip addr flush dev c0;;\n\
             esac\n",
            told.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        (script, told)
    }

    fn told(&self) -> String {
        fs::read_to_string(self.dir.path().join("told")).unwrap_or_default()
    }

    fn log(&self, name: &str) -> (fs::File, PathBuf) {
        let path = self.dir.path().join(name);
        (fs::File::create(&path).unwrap(), path)
    }

    /// Renewals, which are sent to the server itself, do not reach it any more.
    fn deaf_to_renewals(&self) {
        self.server.nft(
            "add table netdev t { chain c { type filter hook ingress device s0 priority 0; ip daddr 10.0.0.1 udp dport 67 drop; }; }",
        );
    }

    fn end_clients(&self) {
        let pids = checked(Command::new("ip").args(["netns", "pids", &self.client.name]));
        for pid in pids.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.end_clients();
    }
}

fn dhclient(site: &Site, lease: &str) -> (Running, PathBuf) {
    let (script, _) = site.script();
    let path = |name: &str| site.dir.path().join(name);
    fs::write(path("dhclient.leases"), lease).unwrap();
    fs::write(path("dhclient.conf"), "timeout 20;\nretry 1;\ninitial-interval 1;\n").unwrap();
    let (log, log_path) = site.log("dhclient.log");
    let mut command = site.client.command("dhclient");
    command.args(["-4", "-d", "-v", "-sf"]).arg(script).arg("-cf").arg(path("dhclient.conf"));
    command.arg("-lf").arg(path("dhclient.leases")).arg("-pf").arg(path("dhclient.pid")).arg("c0");
    (Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap()), log_path)
}

#[test]
fn dhclient_leases_renews_rebinds_and_releases() {
    let site = Site::new("--lease-time=12 --least-lease-time=12");
    let (_running, log) = dhclient(&site, "");
    let says = |words: &str| fs::read_to_string(&log).unwrap().contains(words);
    until("lease", || site.told().contains("BOUND 10.0.1.1"));
    until("renewal", || says("DHCPREQUEST for 10.0.1.1 on c0 to 10.0.0.1 port 67"));
    until("renewed lease", || site.told().contains("RENEW 10.0.1.1"));
    site.deaf_to_renewals();
    let rebound = "to 10.0.0.1 port 67\nDHCPREQUEST for 10.0.1.1 on c0 to 255.255.255.255 port 67\nDHCPACK";
    until("rebinding", || says(rebound));
    site.server.nft("delete table netdev t");
    let path = |name: &str| site.dir.path().join(name);
    let mut release = site.client.command("timeout");
    release.args(["20", "dhclient", "-4", "-r", "-v", "-sf"]).arg(path("script"));
    release.arg("-lf").arg(path("dhclient.leases")).arg("-pf").arg(path("dhclient.pid")).arg("c0");
    checked(&mut release);
    until("release", || site.listed()[0]["state"] == "released");
}

#[test]
fn dhclient_with_a_lease_of_another_network_recovers_from_the_nak() {
    let lease = "lease {\n interface \"c0\";\n fixed-address 192.168.77.5;\n option subnet-mask 255.255.255.0;\n \
                 option dhcp-lease-time 90000;\n option dhcp-server-identifier 192.168.77.1;\n \
                 renew 6 2037/01/01 00:00:00;\n rebind 6 2037/01/01 00:00:00;\n expire 6 2037/01/01 00:00:00;\n}\n";
    let site = Site::new("");
    let (_running, log) = dhclient(&site, lease);
    until("lease", || site.told().contains("BOUND 10.0.1.1"));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("DHCPNAK from 10.0.0.1"), "{log}");
}

#[test]
fn udhcpc_leases_renews_rebinds_releases_and_recovers_from_a_nak() {
    let mut site = Site::new("--lease-time=8 --least-lease-time=8");
    let (script, _) = site.script();
    let (log, log_path) = site.log("udhcpc.log");
    let mut command = site.client.command("busybox");
    command.args(["udhcpc", "-i", "c0", "-f", "-R", "-t", "5", "-T", "1", "-A", "1", "-s"]).arg(script);
    let running = Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    until("lease", || site.told().contains("bound 10.0.1.1"));
    until("renewal", || site.told().contains("renew 10.0.1.1"));
    site.deaf_to_renewals();
    let renewals = || site.told().matches("renew").count();
    let before = renewals();
    until("rebinding", || renewals() > before);
    site.server.nft("delete table netdev t");
    // Another server takes over, and knows of other addresses only.
    drop(site.serving.take());
    fs::remove_file(site.leases()).unwrap();
    site.server.ip("addr flush dev s0");
    site.server.ip("addr add 10.0.0.1/16 dev s0");
    site.serve("--reserve=02:00:00:00:00:01,10.0.1.1 --lease-time=8 --least-lease-time=8");
    until("another lease", || site.told().contains("bound 10.0.1.2"));
    assert!(site.told().contains("nak"), "{}", site.told());
    let pid = running.0.id().to_string();
    checked(Command::new("kill").args(["-USR2", &pid]));
    until("release", || site.listed().iter().any(|lease| lease["state"] == "released"));
    drop(fs::read(log_path));
}

#[test]
fn dhcpcd_leases_renews_and_releases() {
    let site = Site::new("--lease-time=20 --least-lease-time=20 --rapid-commit");
    let (log, log_path) = site.log("dhcpcd.log");
    let mut command = site.client.command("dhcpcd");
    command.args(["-4", "-B", "-d", "-c", "/bin/true", "--noarp", "--nobackground", "-o", "rapid_commit"]);
    command.args(["--waitip=4", "-t", "20", "c0"]);
    let running = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let says = |words: &str| fs::read_to_string(&log_path).unwrap().contains(words);
    until("lease", || says("leased 10.0.1.1 for 20 seconds"));
    until("renewal", || says("renewing lease of 10.0.1.1"));
    until("renewed lease", || {
        fs::read_to_string(&log_path).unwrap().matches("10.0.1.1 for 20 seconds").count() > 1
    });
    checked(site.client.command("dhcpcd").args(["-4", "-k", "c0"]));
    until("release", || site.listed()[0]["state"] == "released");
    drop(running);
}

#[test]
fn perfdhcp_loses_nothing_and_gives_no_address_twice() {
    let site = Site::new("");
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    let words = "timeout 60 perfdhcp -4 -l c0 -r 300 -R 50000 -p 5";
    let output = {
        let mut words = words.split_whitespace();
        let mut command = site.client.command(words.next().unwrap());
        command.args(words).output().unwrap()
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("drops: 0\n").count(), 2, "{text}");
    assert_eq!(text.matches("non unique addresses: 0\n").count(), 2, "{text}");
    let acked: usize =
        text.rsplit("received packets: ").next().unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(acked > 1000, "{text}");
    assert_eq!(site.listed().len(), acked);
}

/// A dnsmasq in the client's namespace as the upstream, and `berth serve` for names alone.
fn names() -> (Site, Running) {
    let mut site = Site::new("");
    drop(site.serving.take());
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
    let mut command = site.server.command(env!("CARGO_BIN_EXE_berth"));
    command.args(["serve", "--interface=s0", "--no-dhcp", "--upstream=10.0.0.2:5300", "--domain=lan"]);
    command.args(["--host=printer=10.0.0.9", "--host=printer=fd00::9"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("serving DNS") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "berth serve has ended");
    }
    site.serving = Some(Running(child));
    let answers = || site.client.run("dig @10.0.0.2 -p 5300 +short +tries=1 +time=1 www.example.org");
    until("upstream", || std::panic::catch_unwind(answers).is_ok_and(|answer| answer.contains("192.0.2.7")));
    (site, upstream)
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
        assert!(answer.contains("status: NOERROR") && answer.contains("192.0.2.7"), "{words}: {answer}");
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

#[test]
fn one_lease_file_one_server() {
    let site = Site::new("");
    let mut second = site.server.command(env!("CARGO_BIN_EXE_berth"));
    second.args(["serve", "--interface=s0", "--range=10.0.1.1,10.0.1.9", "--no-dns"]);
    let output = second.arg(format!("--lease-file={}", site.leases().display())).output().unwrap();
    assert_eq!(output.status.code(), Some(18));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("another server serves from it"), "{text}");
}

#[test]
fn a_term_ends_it_at_once_and_what_is_wrong_is_told() {
    let mut site = Site::new("");
    let mut running = site.serving.take().unwrap();
    checked(Command::new("kill").args(["-TERM", &running.0.id().to_string()]));
    let began = Instant::now();
    assert!(running.0.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(1));
    let refused = |words: &str, code: i32, says: &str| {
        let mut command = site.server.command(env!("CARGO_BIN_EXE_berth"));
        let output = command.arg("serve").args(words.split_whitespace()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says), "{text}");
    };
    refused("--interface=nosuch --range=10.0.1.1,10.0.1.9", 11, "no interface nosuch");
    refused("--interface=lo --range=10.0.1.1,10.0.1.9", 12, "lo has no IPv4 address");
    refused("--interface=s0 --range=10.9.1.1,10.9.1.9", 12, "is not within 10.0.0.1/16");
    refused("--interface=s0", 12, "neither --range nor --reserve");
    refused("--interface=s0 --range=10.0.1.9", 10, "two addresses");
}

/// What was acknowledged to somebody is known after a SIGKILL at whatever moment: no address is given twice, and who
/// has one gets it again.
#[test]
fn no_acknowledged_lease_is_lost_to_fifty_kills() {
    let words = "--lease-time=3600";
    let mut site = Site::new(words);
    let mut wire = clients::Clients::new(&site.client, "c0");
    let mut acked = 0;
    for round in 0..50_u64 {
        let after = Duration::from_millis(5 + round * 13 % 60);
        let killer = {
            let pid = site.serving.as_ref().unwrap().0.id().to_string();
            std::thread::spawn(move || {
                std::thread::sleep(after);
                checked(Command::new("kill").args(["-KILL", &pid]));
            })
        };
        acked += wire.lease_until_silent();
        killer.join().unwrap();
        drop(site.serving.take());
        site.serve(words);
        wire.renew_some();
    }
    println!("{acked} leases acknowledged over 50 kills");
    assert!(acked > 500, "{acked}");
    let listed = site.listed();
    for (client, address) in wire.held() {
        let lease = listed.iter().find(|lease| lease["address"] == address.to_string()).unwrap();
        assert_eq!(lease["mac"], client.to_string());
    }
}

mod clients {
    //! Many clients on one link, each with a MAC of its own, as fast as they are answered.

    use std::collections::HashMap;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use berth::net::MacAddr;
    use berth::proto::frame::{Endpoint, udp4};
    use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
    use dhcproto::{Decodable, Decoder, Encodable};
    use socket2::{Domain, Socket, Type};

    use crate::support::Netns;

    const SILENCE: Duration = Duration::from_millis(150);

    pub struct Clients {
        socket: Socket,
        next: u32,
        held: HashMap<MacAddr, Ipv4Addr>,
    }

    impl Clients {
        pub fn new(netns: &Netns, link: &str) -> Self {
            let index: u32 = netns.run(&format!("cat /sys/class/net/{link}/ifindex")).trim().parse().unwrap();
            let socket = netns.enter(move || async move {
                let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
                berth::sys::ffi::bind_packet(&socket, index, 3).unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket
            });
            Self { socket, next: 0, held: HashMap::new() }
        }

        pub fn held(&self) -> impl Iterator<Item = (MacAddr, Ipv4Addr)> {
            self.held.iter().map(|(client, address)| (*client, *address))
        }

        /// New clients, one after another, until the server says nothing more; how many have their lease.
        pub fn lease_until_silent(&mut self) -> usize {
            for acked in 0.. {
                self.next += 1;
                let [_, a, b, c] = self.next.to_be_bytes();
                let client = MacAddr([2, 0, 0, a, b, c]);
                let Some(offer) = self.ask(client, MessageType::Discover, None) else { return acked };
                let Some(ack) = self.ask(client, MessageType::Request, Some(offer.yiaddr())) else {
                    return acked;
                };
                let other = self.held.iter().find(|(_, address)| **address == ack.yiaddr());
                assert_eq!(other, None, "{client} was given another's address");
                self.held.insert(client, ack.yiaddr());
            }
            unreachable!()
        }

        /// Some of those who have an address ask for it again.
        pub fn renew_some(&mut self) {
            let some: Vec<_> = self.held().take(20).collect();
            for (client, address) in some {
                let reply = self.ask(client, MessageType::Request, Some(address)).expect("an answer");
                assert_eq!((reply.opts().msg_type(), reply.yiaddr()), (Some(MessageType::Ack), address));
            }
        }

        fn ask(&mut self, client: MacAddr, kind: MessageType, address: Option<Ipv4Addr>) -> Option<Message> {
            let mut message = Message::default();
            message.set_opcode(Opcode::BootRequest).set_chaddr(&client.0).set_xid(self.next);
            message.opts_mut().insert(DhcpOption::MessageType(kind));
            if let Some(address) = address {
                message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
            }
            let end =
                |mac, address: Ipv4Addr, port| Endpoint { mac, socket: SocketAddrV4::new(address, port) };
            let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
            let payload = message.to_vec().unwrap();
            let frame = udp4(end(client, from, 68), end(MacAddr([0xff; 6]), to, 67), &payload).unwrap();
            (&self.socket).write_all(&frame).unwrap();
            let mut buffer = [0; 2048];
            loop {
                let length = (&self.socket).read(&mut buffer).ok()?;
                let bytes = buffer.get(42..length).unwrap_or_default();
                let Ok(reply) = Message::decode(&mut Decoder::new(bytes)) else { continue };
                let ours = reply.opcode() == Opcode::BootReply && reply.chaddr() == client.0;
                let wanted =
                    if kind == MessageType::Discover { MessageType::Offer } else { MessageType::Ack };
                if ours && reply.opts().has_msg_type(wanted) {
                    assert!(reply.opts().get(OptionCode::ServerIdentifier).is_some());
                    return Some(reply);
                }
            }
        }
    }
}
