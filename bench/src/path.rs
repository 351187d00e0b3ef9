//! The way of a packet to a guest and back: through berth's NAT, through plain routing, through the seed's iptables.
//!
//! ```text
//!   outside 10.99.0.1 ──veth── 10.99.0.2 pod, br0 192.168.254.1 ──veth── 192.168.254.2 guest
//! ```
//!
//! The guest is a network namespace on the bridge, where QEMU's tap is otherwise: what is compared is the path through
//! the pod, not an emulated card. With berth, a real launcher runs in the pod meanwhile, and its CPU is read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::dhcp::beside_us;
use crate::netns::{Netns, ip};
use crate::process::{Process, Running, started};
use crate::startup::Files;
use crate::stats::median;
use crate::{Error, at};

const GUEST: &str = "192.168.254.2";
const POD: &str = "10.99.0.2";
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct Options {
    /// Seconds of each transfer
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    duration: u32,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The berth to measure [default: the release build beside this program]
    #[arg(long)]
    berth: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Plain,
    Berth,
    Seed,
}

/// One side in one round. Gbit/s and milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Round {
    pub tcp_in: f64,
    pub tcp_out: f64,
    pub udp_in: f64,
    pub ping_ms: f64,
    /// Of the launcher, in all of that.
    pub cpu_ms: f64,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub plain: Vec<Round>,
    pub berth: Vec<Round>,
    pub seed: Vec<Round>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    if let Some(missing) = missing() {
        return Err(Error::Step(missing));
    }
    let berth = options.berth.clone().map_or_else(beside_us, Ok)?;
    let stand = |side| Standing::new(side, &berth);
    let sides = [stand(Side::Plain)?, stand(Side::Berth)?, stand(Side::Seed)?];
    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        eprintln!("  round {} of {}", round + 1, options.rounds);
        // Whoever comes first in a figure comes second and third in the next rounds.
        let first = usize::try_from(round).unwrap_or(0);
        let order = |side: usize| (first + side) % sides.len();
        let mut found = [Round::default(); 3];
        for (measure, place) in FIGURES {
            for side in (0..sides.len()).map(order) {
                if let (Some(side), Some(round)) = (sides.get(side), found.get_mut(side)) {
                    let before = side.cpu();
                    *place(round) = measure(side, options.duration)?;
                    round.cpu_ms += side.cpu().saturating_sub(before).as_secs_f64() * 1e3;
                }
            }
        }
        for (rounds, round) in rounds.iter_mut().zip(found) {
            rounds.push(round);
        }
    }
    let [plain, berth, seed] = rounds;
    let report = Report { plain, berth, seed };
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

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

    /// A bridge of one's own, and forwarding.
    fn route(&self) -> Result<(), Error> {
        for words in
            ["link add br0 type bridge", "addr add 192.168.254.1/30 dev br0", "link set br0 up"]
        {
            self.pod.ip(words)?;
        }
        self.pod.run("sysctl -qw net.ipv4.ip_forward=1")
    }

    /// The guest, in QEMU's place.
    pub fn attach(&self) -> Result<(), Error> {
        let (pod, guest) = (self.pod.name(), self.guest.name());
        ip(&[
            "link", "add", "g0", "netns", pod, "type", "veth", "peer", "name", "eth0", "netns",
            guest,
        ])?;
        self.pod.ip("link set g0 master br0 up")?;
        self.guest.ip("addr add 192.168.254.2/30 dev eth0")?;
        self.guest.ip("link set eth0 up")?;
        self.guest.ip("route add default via 192.168.254.1")
    }
}

/// One way, for as long as is measured; all of them stand at the same time, and take turns.
struct Standing {
    site: Site,
    /// Where the guest is reached.
    address: &'static str,
    launcher: Option<(Running, Files)>,
    _iperf3: Running,
}

impl Standing {
    fn new(side: Side, berth: &Path) -> Result<Self, Error> {
        let site = Site::new()?;
        let mut launcher = None;
        let address = match side {
            Side::Plain => {
                site.route()?;
                site.outside.ip("route add 192.168.254.0/30 via 10.99.0.2")?;
                GUEST
            }
            Side::Seed => {
                site.route()?;
                // Its two rules for TCP; UDP and ICMP, which it leaves out, in the same way.
                for rule in [
                    "-A PREROUTING -d 10.99.0.2 -p tcp ! --dport 5900 -j DNAT --to-destination 192.168.254.2",
                    "-A PREROUTING -d 10.99.0.2 -p udp -j DNAT --to-destination 192.168.254.2",
                    "-A PREROUTING -d 10.99.0.2 -p icmp -j DNAT --to-destination 192.168.254.2",
                    "-A POSTROUTING -s 192.168.254.2 -j SNAT --to-source 10.99.0.2",
                ] {
                    site.pod.run(&format!("iptables -w -t nat {rule}"))?;
                }
                POD
            }
            Side::Berth => {
                launcher = Some(launch(&site, berth)?);
                POD
            }
        };
        site.attach()?;
        let command = site.guest.command("iperf3 --server --interval 0");
        let standing = Self {
            _iperf3: started("iperf3 (Debian package iperf3)", command)?,
            site,
            address,
            launcher,
        };
        let began = Instant::now();
        while standing.ping(1).is_err() {
            if began.elapsed() > PATIENCE {
                return Err(Error::Step(format!("{side:?}: {address} does not answer")));
            }
        }
        Ok(standing)
    }

    fn cpu(&self) -> Duration {
        self.launcher.as_ref().map(|(running, _)| Process(running.0.id()).cpu()).unwrap_or_default()
    }

    /// Gbit/s that arrived.
    fn iperf(&self, seconds: u32, words: &str) -> Result<f64, Error> {
        let words = format!("-c {} -t {seconds} {words}", self.address);
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

    /// Mean time there and back.
    fn ping(&self, count: u32) -> Result<f64, Error> {
        let address = self.address;
        let words = format!("ping -q -n -c {count} -i 0.005 -W 1 {address}");
        let output = at("ping", self.site.outside.command(&words).output())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let times = text.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
        let mean = times.and_then(|times| times.split('/').nth(1)?.parse().ok());
        mean.ok_or_else(|| Error::Step(format!("ping {address}: no answer")))
    }
}

/// One figure of a round: how it is had, for so many seconds, and where it goes.
type Figure = (fn(&Standing, u32) -> Result<f64, Error>, fn(&mut Round) -> &mut f64);

/// What is measured, one after another: the sides take turns within each.
const FIGURES: [Figure; 4] = [
    (|side, seconds| side.iperf(seconds, ""), |round| &mut round.tcp_in),
    (|side, seconds| side.iperf(seconds, "-R"), |round| &mut round.tcp_out),
    (|side, seconds| side.iperf(seconds, "-u -b 0 -l 1400"), |round| &mut round.udp_in),
    (|side, _| side.ping(100), |round| &mut round.ping_ms),
];

/// A launcher whose network is up.
fn launch(site: &Site, berth: &Path) -> Result<(Running, Files), Error> {
    let files = Files::new()?;
    let mut command = files.berth(berth);
    command.args(["--vnc", "off", "--grace", "1", "--ram-mb", "64"]).stderr(Stdio::null());
    let running = site.pod.inside(|| at("starting berth", command.spawn()).map(Running))?;
    let began = Instant::now();
    while site.pod.run("nft list table inet berth").is_err()
        || site.pod.ip("link show br0").is_err()
    {
        if began.elapsed() > PATIENCE {
            return Err(Error::Step("berth did not build its network".into()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Through with its firmware, QEMU leaves the processors alone.
    std::thread::sleep(Duration::from_secs(4));
    Ok((running, files))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.plain.len();
        writeln!(
            f,
            "outside <-> guest's place on the bridge; medians of {rounds} rounds (of plain routing, round by round)"
        )?;
        writeln!(
            f,
            "{:<8} | {:>16} | {:>16} | {:>16} | {:>16} | {:>9}",
            "", "TCP in Gbit/s", "TCP out Gbit/s", "UDP in Gbit/s", "ping ms", "CPU ms"
        )?;
        for (name, side) in [("plain", &self.plain), ("berth", &self.berth), ("seed", &self.seed)] {
            let cell = |figure: &dyn Fn(&Round) -> f64| {
                let middle = median(side.iter().map(figure)).map_or(0.0, |(middle, ..)| middle);
                let ratios =
                    side.iter().zip(&self.plain).map(|(own, plain)| figure(own) / figure(plain));
                let ratio = median(ratios).map_or(0.0, |(ratio, ..)| ratio);
                format!("{middle:.3} ({ratio:.2})")
            };
            writeln!(
                f,
                "{name:<8} | {:>16} | {:>16} | {:>16} | {:>16} | {:>9.0}",
                cell(&|round| round.tcp_in),
                cell(&|round| round.tcp_out),
                cell(&|round| round.udp_in),
                cell(&|round| round.ping_ms),
                median(side.iter().map(|round| round.cpu_ms)).map_or(0.0, |(middle, ..)| middle),
            )?;
        }
        Ok(())
    }
}

/// What is measured with has to be there.
fn missing() -> Option<String> {
    let found = |program: &str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
    };
    (!found("iperf3")).then(|| "iperf3: install the Debian package iperf3".to_owned())
}
