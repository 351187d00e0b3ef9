//! The way of a packet to a guest and back: through berth, through plain routing, through the seed's iptables.
//!
//! ```text
//!   outside 10.99.0.1 ──veth── 10.99.0.2 pod, br0 192.168.254.1 ──veth── 192.168.254.2 guest
//!       2001:db8:99::1         2001:db8:99::2                              the pod's, or one of its own
//! ```
//!
//! The guest is a network namespace on the bridge, where QEMU's tap is otherwise: what is compared is the path through
//! the pod, not an emulated card. With berth, a real launcher runs in the pod meanwhile, and its CPU is read. Its rules
//! for IPv6 hang on the tap by name: the guest's veth takes that name from QEMU's tap, and berth puts it into the bridge
//! and writes its rules as for a tap that was made anew. So berth's IPv4 is NAT, its IPv6 the pod's own address, handed on
//! by `fwd`, with forwarding 0; and once more with the pod's own IPv4 address (`BERTH_IPV4=own`). The seed has no IPv6; what stands for it is its rules in ip6tables: NAT66, for which the
//! pod needs the sysctl.

mod standing;

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use serde::Serialize;

pub use standing::Site;

use crate::Error;
use crate::dhcp::beside_us;
use crate::stats::median;
use standing::Standing;

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
    /// Berth, and the pod's IPv4 address is the guest's own as well.
    Own,
    Seed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// One side in one round, by one family. Gbit/s, thousands of packets a processor's second, milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Way {
    pub tcp_in: f64,
    pub tcp_out: f64,
    pub udp_in: f64,
    pub small_in: f64,
    pub ping_ms: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Round {
    pub ipv4: Way,
    pub ipv6: Way,
    /// Of the launcher, in all of that.
    pub cpu_ms: f64,
}

impl Round {
    fn way(&mut self, family: Family) -> &mut Way {
        match family {
            Family::V4 => &mut self.ipv4,
            Family::V6 => &mut self.ipv6,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub plain: Vec<Round>,
    pub berth: Vec<Round>,
    pub own: Vec<Round>,
    pub seed: Vec<Round>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    if let Some(missing) = missing() {
        return Err(Error::Step(missing));
    }
    let berth = options.berth.clone().map_or_else(beside_us, Ok)?;
    let stand = |side| Standing::new(side, &berth);
    let sides = [stand(Side::Plain)?, stand(Side::Berth)?, stand(Side::Own)?, stand(Side::Seed)?];
    let mut rounds: [Vec<Round>; 4] = Default::default();
    for round in 0..options.rounds {
        eprintln!("  round {} of {}", round + 1, options.rounds);
        // Whoever comes first in a figure comes later in the next rounds.
        let first = usize::try_from(round).unwrap_or(0);
        for (rounds, found) in rounds.iter_mut().zip(turn(&sides, first, options.duration)?) {
            rounds.push(found);
        }
    }
    for side in &sides {
        side.handed_on()?;
    }
    let [plain, berth, own, seed] = rounds;
    let report = Report { plain, berth, own, seed };
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

/// One round: every figure by each family, and within each the sides one after another.
fn turn(sides: &[Standing; 4], first: usize, seconds: u32) -> Result<[Round; 4], Error> {
    let order = |side: usize| (first + side) % sides.len();
    let mut found = [Round::default(); 4];
    for figure in FIGURES {
        for family in [Family::V4, Family::V6] {
            for side in (0..sides.len()).map(order) {
                if let (Some(side), Some(round)) = (sides.get(side), found.get_mut(side)) {
                    let before = side.cpu();
                    *(figure.of)(round.way(family)) = (figure.measure)(side, family, seconds)?;
                    round.cpu_ms += side.cpu().saturating_sub(before).as_secs_f64() * 1e3;
                }
            }
        }
    }
    Ok(found)
}

/// One figure of a round.
struct Figure {
    title: &'static str,
    /// How it is had, for so many seconds.
    measure: fn(&Standing, Family, u32) -> Result<f64, Error>,
    /// Where it goes.
    of: fn(&mut Way) -> &mut f64,
}

/// What is measured, one after another.
const FIGURES: [Figure; 5] = [
    Figure {
        title: "TCP in Gbit/s",
        measure: |side, family, seconds| side.iperf(family, seconds, ""),
        of: |way| &mut way.tcp_in,
    },
    Figure {
        title: "TCP out Gbit/s",
        measure: |side, family, seconds| side.iperf(family, seconds, "-R"),
        of: |way| &mut way.tcp_out,
    },
    Figure {
        title: "UDP in Gbit/s",
        measure: |side, family, seconds| side.iperf(family, seconds, "-u -b 0 -l 1400"),
        of: |way| &mut way.udp_in,
    },
    Figure { title: "64 octets, k/CPU s", measure: Standing::small, of: |way| &mut way.small_in },
    Figure {
        title: "ping ms",
        measure: |side, family, _| side.ping(family, 100),
        of: |way| &mut way.ping_ms,
    },
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.plain.len();
        writeln!(
            f,
            "outside <-> guest's place on the bridge; medians of {rounds} rounds (of plain routing, round by round: median, least-most)"
        )?;
        for (family, title) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
            write!(f, "{title:<8}")?;
            for figure in &FIGURES {
                write!(f, " | {:>24}", figure.title)?;
            }
            writeln!(f)?;
            for (name, side) in self.sides() {
                write!(f, "{name:<8}")?;
                for figure in &FIGURES {
                    write!(f, " | {:>24}", cell(side, &self.plain, figure, family))?;
                }
                writeln!(f)?;
            }
        }
        let cpu = median(self.berth.iter().map(|round| round.cpu_ms));
        writeln!(f, "berth's CPU in a round: {:.0} ms", cpu.map_or(0.0, |(middle, ..)| middle))
    }
}

impl Report {
    fn sides(&self) -> [(&'static str, &[Round]); 4] {
        [("plain", &self.plain), ("berth", &self.berth), ("own", &self.own), ("seed", &self.seed)]
    }
}

/// A figure of one side, and what it is of plain routing's.
fn cell(side: &[Round], plain: &[Round], figure: &Figure, family: Family) -> String {
    let value = |round: &Round| {
        let mut round = *round;
        *(figure.of)(round.way(family))
    };
    let (middle, ..) = median(side.iter().map(value)).unwrap_or_default();
    let ratios = side.iter().zip(plain).map(|(own, plain)| value(own) / value(plain));
    let (ratio, least, most) = median(ratios).unwrap_or_default();
    format!("{middle:.3} ({ratio:.2}, {least:.2}-{most:.2})")
}

/// What is measured with has to be there.
fn missing() -> Option<String> {
    let found = |program: &str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
    };
    (!found("iperf3")).then(|| "iperf3: install the Debian package iperf3".to_owned())
}
