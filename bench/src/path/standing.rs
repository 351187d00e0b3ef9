//! One way of packets, built: three namespaces, and in the middle one whoever sends on what is for the guest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::{Family, Side};
use crate::netns::{Netns, ip};
use crate::process::{Process, Running, started};
use crate::startup::Files;
use crate::{Error, at};

const GUEST: &str = "192.168.254.2";
const POD: &str = "10.99.0.2";
/// The guest's own, where the pod routes; and the pod's, which is the guest's by way of berth.
const GUEST6: &str = "2001:db8:254::2";
const POD6: &str = "2001:db8:99::2";
/// What the guest's end is told to have, and berth to expect.
const MAC: &str = "52:54:00:00:00:06";
/// The guest's end in the pod: berth's rules name its tap.
const PORT: &str = "tap0";
/// Octets of a small datagram, and the port it goes to (RFC 863).
const SMALL: usize = 64;
const DISCARD: u16 = 9;
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Site {
    pub outside: Netns,
    pub pod: Netns,
    pub guest: Netns,
}

impl Site {
    pub fn new() -> Result<Self, Error> {
        let site = Self {
            outside: Netns::new("out")?,
            pod: Netns::new("pod")?,
            guest: Netns::new("guest")?,
        };
        let (outside, pod) = (site.outside.name(), site.pod.name());
        ip(&[
            "link", "add", "o0", "netns", outside, "type", "veth", "peer", "name", "eth0", "netns",
            pod,
        ])?;
        site.outside.ip("addr add 10.99.0.1/24 dev o0")?;
        site.outside.ip("link set o0 up")?;
        site.pod.ip("addr add 10.99.0.2/24 dev eth0")?;
        site.pod.ip("link set eth0 up")?;
        site.pod.ip("route add default via 10.99.0.1")?;
        Ok(site)
    }

    /// The pod has IPv6 as well.
    fn dual_stack(&self) -> Result<(), Error> {
        self.outside.ip("addr add 2001:db8:99::1/64 dev o0 nodad")?;
        self.pod.ip("addr add 2001:db8:99::2/64 dev eth0 nodad")?;
        self.pod.ip("-6 route add default via 2001:db8:99::1")
    }

    /// A bridge of one's own, and forwarding.
    fn route(&self) -> Result<(), Error> {
        for words in [
            "link add br0 type bridge",
            "addr add 192.168.254.1/30 dev br0",
            "addr add 2001:db8:254::1/64 dev br0 nodad",
            "link set br0 up",
        ] {
            self.pod.ip(words)?;
        }
        self.pod.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    }

    /// The guest, in QEMU's place.
    pub fn attach(&self) -> Result<(), Error> {
        self.attach_at("g0")
    }

    fn attach_at(&self, port: &str) -> Result<(), Error> {
        let (pod, guest) = (self.pod.name(), self.guest.name());
        ip(&[
            "link", "add", port, "netns", pod, "type", "veth", "peer", "name", "eth0", "netns",
            guest,
        ])?;
        self.pod.ip(&format!("link set {port} master br0 up"))?;
        self.guest.ip("addr add 192.168.254.2/30 dev eth0")?;
        self.guest.ip("link set eth0 up")?;
        self.guest.ip("route add default via 192.168.254.1")
    }

    /// What the guest has of IPv6.
    fn attach6(&self, address: &str, router: &str) -> Result<(), Error> {
        self.guest.ip(&format!("addr add {address} dev eth0 nodad"))?;
        self.guest.ip(&format!("-6 route add default via {router} dev eth0"))
    }

    /// The seed's two rules for TCP, and UDP and pings, which it leaves out, in the same way; for IPv6 as for IPv4. Of
    /// ICMPv6 the pings alone: the rest belongs to the link.
    fn translate(&self) -> Result<(), Error> {
        for (tables, ping, guest, pod) in [
            ("iptables", "-p icmp", GUEST, POD),
            ("ip6tables", "-p icmpv6 --icmpv6-type echo-request", GUEST6, POD6),
        ] {
            for matches in ["-p tcp ! --dport 5900", "-p udp", ping] {
                self.pod.run(&format!(
                    "{tables} -w -t nat -A PREROUTING -d {pod} {matches} -j DNAT --to-destination {guest}"
                ))?;
            }
            self.pod.run(&format!(
                "{tables} -w -t nat -A POSTROUTING -s {guest} -j SNAT --to-source {pod}"
            ))?;
        }
        Ok(())
    }

    /// The guest's end has the tap's name and place. Berth stands still meanwhile: it takes whatever has the name for its
    /// tap, and writes its rules for the new one. QEMU keeps the old one, down: one that is deleted would keep it busy.
    fn take_the_taps_place(&self, launcher: &Running) -> Result<(), Error> {
        let pid = Pid::from_child(&launcher.0);
        let tell = |signal| at("a signal to berth", kill_process(pid, signal).map_err(Into::into));
        tell(Signal::STOP)?;
        self.pod.ip("link set tap0 down nomaster")?;
        self.pod.ip("link set tap0 name qemu0")?;
        self.attach_at(PORT)?;
        self.guest.ip(&format!("link set eth0 address {MAC}"))?;
        self.attach6(&format!("{POD6}/128"), "fe80::1")?;
        tell(Signal::CONT)?;
        let began = Instant::now();
        while !self.rules().contains(&format!("fwd ip6 to fd00:6be::2 device {PORT:?}")) {
            if began.elapsed() > PATIENCE {
                return Err(Error::Step(format!(
                    "berth did not hand packets to the guest's end:\n{}",
                    self.rules()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The guest has the pod's own IPv4 address.
    fn own(&self) -> Result<(), Error> {
        self.guest.ip("-4 addr flush dev eth0")?;
        self.guest.ip(&format!("addr add {POD}/32 dev eth0"))?;
        self.guest.ip("route add default via 192.168.254.1 dev eth0 onlink")
    }

    /// What hands on the guest's own packets, as nft lists it.
    fn rules(&self) -> String {
        let output = self.pod.command("nft list table netdev berth").output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    }
}

/// One way, for as long as is measured; all of them stand at the same time, and take turns.
pub(super) struct Standing {
    site: Site,
    /// Where the guest is reached.
    addresses: [&'static str; 2],
    launcher: Option<(Running, Files)>,
    /// The guest has the pod's IPv4 address.
    owns: bool,
    _iperf3: Running,
}

impl Standing {
    pub(super) fn new(side: Side, berth: &Path) -> Result<Self, Error> {
        let site = Site::new()?;
        site.dual_stack()?;
        let mut launcher = None;
        if matches!(side, Side::Berth | Side::Own) {
            let (running, files) = launch(&site, berth, side)?;
            site.take_the_taps_place(&running)?;
            if side == Side::Own {
                site.own()?;
            }
            launcher = Some((running, files));
        } else {
            site.route()?;
            site.attach()?;
            site.attach6(&format!("{GUEST6}/64"), "2001:db8:254::1")?;
        }
        let addresses = match side {
            Side::Plain => {
                site.outside.ip("route add 192.168.254.0/30 via 10.99.0.2")?;
                site.outside.ip("-6 route add 2001:db8:254::/64 via 2001:db8:99::2")?;
                [GUEST, GUEST6]
            }
            Side::Seed => {
                site.translate()?;
                [POD, POD6]
            }
            Side::Berth | Side::Own => [POD, POD6],
        };
        let command = site.guest.command("iperf3 --server --interval 0");
        let standing = Self {
            _iperf3: started("iperf3 (Debian package iperf3)", command)?,
            site,
            addresses,
            launcher,
            owns: side == Side::Own,
        };
        let began = Instant::now();
        for family in [Family::V4, Family::V6] {
            while let Err(error) = standing.ping(family, 1) {
                if began.elapsed() > PATIENCE {
                    return Err(Error::Step(format!("{side:?}: {error}")));
                }
            }
        }
        Ok(standing)
    }

    fn address(&self, family: Family) -> &'static str {
        let [v4, v6] = self.addresses;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    pub(super) fn cpu(&self) -> Duration {
        self.launcher.as_ref().map(|(running, _)| Process(running.0.id()).cpu()).unwrap_or_default()
    }

    /// That it was berth's chains, both of them, which handed the packets on: a measurement of something else is none.
    pub(super) fn handed_on(&self) -> Result<(), Error> {
        if self.launcher.is_none() {
            return Ok(());
        }
        let rules = self.site.rules();
        let handed = rules
            .lines()
            .filter(|rule| rule.contains(if self.owns { "fwd ip to" } else { "fwd ip6 to" }));
        let packets = handed.filter_map(|rule| {
            rule.split_once("packets ")?.1.split(' ').next()?.parse::<u64>().ok()
        });
        if packets.filter(|packets| *packets > 1000).count() >= 2 {
            return Ok(());
        }
        Err(Error::Step(format!("berth's netdev chains did not hand the packets on:\n{rules}")))
    }

    /// Gbit/s that arrived.
    pub(super) fn iperf(&self, family: Family, seconds: u32, words: &str) -> Result<f64, Error> {
        let words = format!("-c {} -t {seconds} {words}", self.address(family));
        let step = format!("iperf3 {words}");
        let mut last = String::new();
        // The server takes a moment between two clients.
        for _ in 0..20 {
            let output =
                at(&step, self.site.outside.command(&format!("iperf3 -J {words}")).output())?;
            let report: serde_json::Value =
                serde_json::from_slice(&output.stdout).unwrap_or_default();
            let sum = |name: &str| {
                report
                    .pointer(&format!("/end/{name}/bits_per_second"))
                    .and_then(serde_json::Value::as_f64)
            };
            let lost = report
                .pointer("/end/sum/lost_percent")
                .and_then(serde_json::Value::as_f64)
                .unwrap_or(0.0);
            if let Some(bits) =
                sum("sum_received").or_else(|| sum("sum").map(|bits| bits * (1.0 - lost / 100.0)))
            {
                return Ok(bits / 1e9);
            }
            last = report.pointer("/error").map_or_else(String::new, ToString::to_string);
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(Error::Step(format!("{step}: {last}")))
    }

    /// Thousands of small datagrams that arrived at the guest's end for each second of a processor. They are sent one by
    /// one, by a thread whose processor takes each of them all the way and is charged for it: what the way costs is what it
    /// cannot send, and what else the machine does is left out. Nobody reads them.
    pub(super) fn small(&self, family: Family, seconds: u32) -> Result<f64, Error> {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let to: IpAddr =
            self.address(family).parse().map_err(|_| Error::Step("no address".into()))?;
        let (guest, outside) = (&self.site.guest, &self.site.outside);
        let sink = guest.inside(|| at("a socket", UdpSocket::bind((any, DISCARD))))?;
        let sender = outside.inside(|| at("a socket", UdpSocket::bind((any, 0))))?;
        at("connecting", sender.connect((to, DISCARD)))?;
        let before = guest.inside(received)?;
        let (began, whole) = (Instant::now(), Duration::from_secs(seconds.into()));
        let charged = clock_gettime(ClockId::ThreadCPUTime);
        while began.elapsed() < whole {
            for _ in 0..64 {
                at("sending", sender.send(&[0; SMALL]))?;
            }
        }
        let charged = clock_gettime(ClockId::ThreadCPUTime) - charged;
        let charged = Duration::try_from(charged).unwrap_or_default();
        let arrived = guest.inside(received)?.saturating_sub(before);
        drop(sink);
        Ok(f64::from(u32::try_from(arrived).unwrap_or(u32::MAX)) / charged.as_secs_f64() / 1e3)
    }

    /// Mean time there and back.
    pub(super) fn ping(&self, family: Family, count: u32) -> Result<f64, Error> {
        let address = self.address(family);
        let words = format!("ping -q -n -c {count} -i 0.005 -W 1 {address}");
        let output = at("ping", self.site.outside.command(&words).output())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let times = text.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
        let mean = times.and_then(|times| times.split('/').nth(1)?.parse().ok());
        mean.ok_or_else(|| Error::Step(format!("ping {address}: no answer")))
    }
}

/// What this thread's eth0 has received, in packets.
fn received() -> Result<u64, Error> {
    let text = at("reading", std::fs::read_to_string("/proc/thread-self/net/dev"))?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    packets.ok_or_else(|| Error::Step("no eth0 in /proc/net/dev".into()))
}

/// A launcher whose network is up.
fn launch(site: &Site, berth: &Path, side: Side) -> Result<(Running, Files), Error> {
    let files = Files::new()?;
    let mut command = files.berth(berth);
    command.args(["--vnc", "off", "--grace", "1", "--ram-mb", "64"]).stderr(Stdio::null());
    command.env("BERTH_MAC", MAC).env("BERTH_TAP", PORT);
    command.env("BERTH_IPV4", if side == Side::Own { "own" } else { "nat" });
    let running = site.pod.inside(|| at("starting berth", command.spawn()).map(Running))?;
    let began = Instant::now();
    while !site.rules().contains("fwd ip6 to") || site.pod.ip("link show br0").is_err() {
        if began.elapsed() > PATIENCE {
            return Err(Error::Step("berth did not build its network".into()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Through with its firmware, QEMU leaves the processors alone.
    std::thread::sleep(Duration::from_secs(4));
    Ok((running, files))
}
