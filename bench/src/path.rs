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
#[derive(Debug, Clone, Serialize)]
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
    let mut report = Report { plain: Vec::new(), berth: Vec::new(), seed: Vec::new() };
    for round in 0..options.rounds {
        eprintln!("  round {} of {}", round + 1, options.rounds);
        report.plain.push(one(Side::Plain, &berth, options.duration)?);
        report.berth.push(one(Side::Berth, &berth, options.duration)?);
        report.seed.push(one(Side::Seed, &berth, options.duration)?);
    }
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

struct Site {
    outside: Netns,
    pod: Netns,
    guest: Netns,
}

impl Site {
    fn new() -> Result<Self, Error> {
        let site = Self { outside: Netns::new("out")?, pod: Netns::new("pod")?, guest: Netns::new("guest")? };
        let (outside, pod) = (site.outside.name(), site.pod.name());
        ip(&["link", "add", "o0", "netns", outside, "type", "veth", "peer", "name", "eth0", "netns", pod])?;
        site.outside.ip("addr add 10.99.0.1/24 dev o0")?;
        site.outside.ip("link set o0 up")?;
        site.pod.ip("addr add 10.99.0.2/24 dev eth0")?;
        site.pod.ip("link set eth0 up")?;
        site.pod.ip("route add default via 10.99.0.1")?;
        Ok(site)
    }

    /// A bridge of one's own, and forwarding.
    fn route(&self) -> Result<(), Error> {
        for words in ["link add br0 type bridge", "addr add 192.168.254.1/30 dev br0", "link set br0 up"] {
            self.pod.ip(words)?;
        }
        self.pod.run("sysctl -qw net.ipv4.ip_forward=1")
    }

    /// The guest, in QEMU's place.
    fn attach(&self) -> Result<(), Error> {
        let (pod, guest) = (self.pod.name(), self.guest.name());
        ip(&["link", "add", "g0", "netns", pod, "type", "veth", "peer", "name", "eth0", "netns", guest])?;
        self.pod.ip("link set g0 master br0 up")?;
        self.guest.ip("addr add 192.168.254.2/30 dev eth0")?;
        self.guest.ip("link set eth0 up")?;
        self.guest.ip("route add default via 192.168.254.1")
    }
}

fn one(side: Side, berth: &Path, seconds: u32) -> Result<Round, Error> {
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
    let command = |words: &str| site.guest.command(words);
    let _server = started("iperf3 (Debian package iperf3)", command("iperf3 --server --interval 0"))?;
    let began = Instant::now();
    while ping(&site, address, 1).is_err() {
        if began.elapsed() > PATIENCE {
            return Err(Error::Step(format!("{side:?}: {address} does not answer")));
        }
    }
    let process = launcher.as_ref().map(|(running, _): &(Running, Files)| Process(running.0.id()));
    let before = process.map(Process::cpu).unwrap_or_default();
    let transfer = |words: &str| iperf(&site, &format!("-c {address} -t {seconds} {words}"));
    Ok(Round {
        tcp_in: transfer("")?,
        tcp_out: transfer("-R")?,
        udp_in: transfer("-u -b 0 -l 1400")?,
        ping_ms: ping(&site, address, 400)?,
        cpu_ms: process.map(Process::cpu).unwrap_or_default().saturating_sub(before).as_secs_f64() * 1e3,
    })
}

/// A launcher whose network is up.
fn launch(site: &Site, berth: &Path) -> Result<(Running, Files), Error> {
    let files = Files::new()?;
    let mut command = files.berth(berth);
    command.args(["--vnc", "off", "--grace", "1", "--ram-mb", "64"]).stderr(Stdio::null());
    let running = site.pod.inside(|| at("starting berth", command.spawn()).map(Running))?;
    let began = Instant::now();
    while site.pod.run("nft list table inet berth").is_err() || site.pod.ip("link show br0").is_err() {
        if began.elapsed() > PATIENCE {
            return Err(Error::Step("berth did not build its network".into()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Through with its firmware, QEMU leaves the processors alone.
    std::thread::sleep(Duration::from_secs(4));
    Ok((running, files))
}

/// Gbit/s that arrived.
fn iperf(site: &Site, words: &str) -> Result<f64, Error> {
    let step = format!("iperf3 {words}");
    let mut last = String::new();
    // The server takes a moment between two clients.
    for _ in 0..20 {
        let output = at(&step, site.outside.command(&format!("iperf3 -J {words}")).output())?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let sum = |name: &str| {
            report.pointer(&format!("/end/{name}/bits_per_second")).and_then(serde_json::Value::as_f64)
        };
        let lost = report.pointer("/end/sum/lost_percent").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        if let Some(bits) = sum("sum_received").or_else(|| sum("sum").map(|bits| bits * (1.0 - lost / 100.0)))
        {
            return Ok(bits / 1e9);
        }
        last = report.pointer("/error").map_or_else(String::new, ToString::to_string);
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Error::Step(format!("{step}: {last}")))
}

/// Mean time there and back.
fn ping(site: &Site, address: &str, count: u32) -> Result<f64, Error> {
    let words = format!("ping -q -n -c {count} -i 0.005 -W 1 {address}");
    let output = at("ping", site.outside.command(&words).output())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times = text.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    let mean = times.and_then(|times| times.split('/').nth(1)?.parse().ok());
    mean.ok_or_else(|| Error::Step(format!("ping {address}: no answer")))
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
                let ratios = side.iter().zip(&self.plain).map(|(own, plain)| figure(own) / figure(plain));
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
    let found = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    (!found("iperf3")).then(|| "iperf3: install the Debian package iperf3".to_owned())
}
