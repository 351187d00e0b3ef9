//! A pod with a peer and a guest in network namespaces, and what crosses between them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use berth::config::{Config, Network};
use berth::facts::NetFacts;
use berth::net::{Mapping, Port, Transport};
use berth::nft::dump::Filter;
use berth::nft::{Family, Ruleset};
use berth::sys::netlink::Firewall;

use crate::support::{self, Netns, sample};

pub fn firewall(netns: &Netns) -> Firewall {
    netns.within(|| Firewall::start().unwrap())
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The rules for the sample pod, with `also` reserved and `others` as further addresses.
pub fn plan(also: &[Port], others: &[&str]) -> Ruleset {
    let (mut config, mut facts) = (sample::config(), sample::facts());
    config.network.reserved = also.to_vec();
    facts.net.uplink.others = others.iter().map(|prefix| prefix.parse().unwrap()).collect();
    rules_of(&config, &facts.net)
}

/// The rules for the sample pod, configured otherwise.
pub fn plan_with(change: impl FnOnce(&mut Network)) -> Ruleset {
    let mut config = sample::config();
    change(&mut config.network);
    rules_of(&config, &sample::facts().net)
}

fn rules_of(config: &Config, facts: &NetFacts) -> Ruleset {
    let link = berth::plan::link::plan(config, facts, 65534).unwrap();
    berth::plan::nat::plan(config, facts, &link)
}

pub fn mapping(also: &[Port]) -> Mapping {
    let mut config = sample::config();
    config.network.reserved = also.to_vec();
    berth::plan::nat::mapping(&config, &sample::facts().net)
}

pub fn rich_plan() -> Ruleset {
    let port = |transport, number| Port { transport, number };
    let also = [
        port(Transport::Tcp, 22),
        port(Transport::Udp, 5353),
        port(Transport::Sctp, 9),
        port(Transport::Tcp, 5900),
    ];
    plan(&also, &["10.1.1.7/24", "10.9.0.1/16"])
}

pub fn ours() -> Filter {
    Filter::table(Family::INET, "berth")
}

pub const POD: &str = "10.1.1.2";
pub const PEER: &str = "10.1.1.1";
pub const GUEST: &str = "192.168.254.2";
pub const GATEWAY: &str = "192.168.254.1";

/// peer ── pod ── guest, the guest on a port of the pod's bridge; no rules yet.
#[derive(Debug)]
pub struct Site {
    pub peer: Netns,
    pub pod: Netns,
    pub guest: Netns,
    pub firewall: Firewall,
}

impl Site {
    pub fn new() -> Self {
        let (peer, pod, guest) = (Netns::new("peer"), Netns::new("pod"), Netns::new("guest"));
        support::veth(&peer, "eth0", &pod, "eth0");
        support::veth(&guest, "eth0", &pod, "port0");
        peer.ip("addr add 10.1.1.1/24 dev eth0");
        pod.ip("addr add 10.1.1.2/24 dev eth0");
        pod.ip("link add br0 type bridge");
        pod.ip("link set port0 master br0");
        pod.ip("addr add 192.168.254.1/30 dev br0");
        pod.ip("link set br0 up");
        pod.ip("route add default via 10.1.1.1");
        pod.run("sysctl -qw net.ipv4.ip_forward=1");
        // With br_netfilter in the kernel the hairpin connection is turned round inside the bridge.
        pod.run("bridge link set dev port0 hairpin on");
        guest.ip("addr add 192.168.254.2/30 dev eth0");
        guest.ip("route add default via 192.168.254.1");
        let firewall = firewall(&pod);
        Self { peer, pod, guest, firewall }
    }

    pub fn with_rules() -> Self {
        let site = Self::new();
        site.commit(&[]);
        site
    }

    pub fn commit(&self, reserved: &[Port]) {
        block_on(self.firewall.commit(plan(reserved, &[]))).unwrap();
    }
}

pub const PATIENCE: Duration = Duration::from_secs(2);

/// Answers everybody on TCP and UDP `port` with `name` and the address they come from, until the test ends.
pub fn serve(netns: &Netns, name: &'static str, port: u16) {
    let any = (Ipv4Addr::UNSPECIFIED, port);
    let (tcp, udp) =
        netns.within(|| (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap()));
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = tcp.accept() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|length| length == 1) {
                    let _ = stream.write_all(format!("{name} {}", from.ip()).as_bytes());
                }
            });
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, from)) = udp.recv_from(&mut [0; 16]) {
            let _ = udp.send_to(format!("{name} {}", from.ip()).as_bytes(), from);
        }
    });
}

pub fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

pub fn dial(from: &Netns, host: &str, port: u16) -> Option<TcpStream> {
    let stream = from.within(|| TcpStream::connect_timeout(&address(host, port), PATIENCE)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

pub fn talk(stream: &mut TcpStream) -> Option<String> {
    let mut answer = [0; 64];
    stream.write_all(&[1]).ok()?;
    let length = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).into_owned())
}

pub fn udp_socket(from: &Netns, source: &str) -> UdpSocket {
    let socket = from.within(|| UdpSocket::bind(address(source, 0))).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub fn ask(socket: &UdpSocket, host: &str, port: u16) -> Option<String> {
    let mut answer = [0; 64];
    socket.send_to(&[1], address(host, port)).ok()?;
    let length = socket.recv(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).into_owned())
}

pub fn said(name: &str, source: &str) -> Option<String> {
    Some(format!("{name} {source}"))
}
