//! What is measured of any server, of either protocol: one rate, or the highest that it holds; and where it is written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::crowd::Crowd;
use super::link::Link;
use super::load::{Arrival, Exchange, Load, Outcome};
use super::protocol::Protocol;
use super::report::{Held, Report, Round};
use super::server::Started;
use crate::process::Process;
use crate::{Error, at, plot};

/// A step of the search for a limit.
const STEP: Duration = Duration::from_millis(1500);
/// Rates between the highest that holds and the lowest that does not are halved so many times.
const HALVINGS: u32 = 3;
/// Loss below which a rate holds.
const MOST_LOSS: f64 = 0.001;
/// Where the search ends: more the driver cannot send here.
const MOST_RATE: f64 = 200_000.0;
/// The first of the clients whose leases are there before: far from the others.
pub const FIRST_HELD: u32 = 0x0080_0000;

#[derive(Debug, Args)]
pub struct Measurement {
    /// Exchanges a second, by a schedule that no answer delays
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    pub rate: f64,
    /// Instead of a rate: so many exchanges always under way
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    closed: Option<usize>,
    /// Clients, in turn [default: 50000; 500 for renewals]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    clients: Option<u32>,
    /// Seconds that do not count
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warmup: f64,
    /// Seconds that count
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub duration: f64,
    /// Milliseconds until an answer is missed
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
    /// Send once more after half of that
    #[arg(long)]
    retransmit: bool,
    /// Rounds; each server is started anew in each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Leases that are there before anything is measured
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub held: u32,
    /// The highest rate with less than 0.1 % lost and a p99 below --p99-ms, by bisection from --rate on
    #[arg(long, conflicts_with = "closed")]
    find_limit: bool,
    /// Milliseconds
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    p99_ms: f64,
    /// Words for the server that only sends frames back: what the driver itself is tested against
    #[arg(long, value_name = "WORDS", default_value = "", allow_hyphen_values = true, hide = true)]
    pub echo: String,
    /// The berth to measure [default: the release build beside this program]
    #[arg(long)]
    pub berth: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Percentiles of every run, a line each
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Where plots go: latency.svg, time.svg, and limit.svg with --find-limit
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text, 0.01, 1e6)
}

fn seconds(text: &str) -> Result<f64, String> {
    positive(text, 0.0, 86_400.0)
}

fn positive(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number".to_owned())?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("from {least} to {most}"))
    }
}

pub fn beside_us() -> Result<PathBuf, Error> {
    let own = at("our own program", std::env::current_exe())?;
    let berth = own.with_file_name("berth");
    if berth.exists() {
        return Ok(berth);
    }
    Err(Error::Step(format!(
        "{}: build it first (cargo build --release), or say --berth",
        berth.display()
    )))
}

impl Measurement {
    /// The berth to measure, where it is among the servers.
    pub fn berth(&self, is_wanted: bool) -> Result<PathBuf, Error> {
        match &self.berth {
            Some(berth) => Ok(berth.clone()),
            None if is_wanted => beside_us(),
            None => Ok(PathBuf::new()),
        }
    }

    /// Clients, and of these none that would have the pool run out together with the leases that are held.
    pub fn clients(&self, exchange: Exchange) -> u32 {
        let default = if exchange == Exchange::Renew { 500 } else { 50_000 };
        let clients = self.clients.unwrap_or(default);
        if self.held > 0 { clients.min(63_000 - self.held) } else { clients }
    }

    /// What one server of ours does in one round, and what it costs it.
    pub fn started<P: Protocol>(
        &self,
        server: &Started,
        exchange: Exchange,
        link: &mut Link,
        protocol: P,
    ) -> Result<Round, Error> {
        let mut crowd = Crowd::new(link, protocol);
        let process = Process(server.process.0.id());
        let before = process.cpu();
        let mut round = self.measure(exchange, &mut crowd)?;
        // Of all that was done, what was not counted too.
        round.all = crowd.ended();
        let all = round.all.max(1);
        #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
        let each = process.cpu().saturating_sub(before).as_secs_f64() * 1e6 / all as f64;
        round.cpu_us = Some(each);
        round.rss_kib = process.rss_kib();
        Ok(round)
    }

    /// What one server does in one round.
    pub fn measure<P: Protocol>(
        &self,
        exchange: Exchange,
        crowd: &mut Crowd<'_, P>,
    ) -> Result<Round, Error> {
        let mut held = None;
        if self.held > 0 {
            let begun = Instant::now();
            let had = crowd.prepare(FIRST_HELD, self.held, Duration::from_secs(120))?;
            held = Some(Held { wanted: self.held, had, seconds: begun.elapsed().as_secs_f64() });
            say(&format!("{had} leases held"));
        }
        let load = Load {
            exchange,
            arrival: self.closed.map_or(Arrival::Open(self.rate), Arrival::Closed),
            clients: self.clients(exchange),
            first: 1,
            warmup: Duration::from_secs_f64(self.warmup),
            duration: Duration::from_secs_f64(self.duration),
            timeout: Duration::from_millis(self.timeout_ms),
            retransmit: self.retransmit,
            most: None,
        };
        let mut round = Round { held, ..Round::default() };
        if self.find_limit {
            self.limit(&load, crowd, &mut round)?;
        } else {
            round.add(&crowd.run(&load)?);
        }
        Ok(round)
    }

    fn limit<P: Protocol>(
        &self,
        load: &Load,
        crowd: &mut Crowd<'_, P>,
        round: &mut Round,
    ) -> Result<(), Error> {
        let mut holds = |rate: f64| -> Result<bool, Error> {
            let step = Load {
                arrival: Arrival::Open(rate),
                warmup: Duration::from_millis(500),
                duration: STEP,
                ..load.clone()
            };
            let outcome = crowd.run(&step)?;
            let holds = outcome.loss() < MOST_LOSS && p99_ms(&outcome) <= self.p99_ms;
            say(&format!(
                "{rate:.0}/s: {:.3} % lost, p99 {:.2} ms: {}",
                outcome.loss() * 100.0,
                p99_ms(&outcome),
                if holds { "holds" } else { "does not hold" }
            ));
            round.tried.push((rate, outcome.loss(), p99_ms(&outcome)));
            if holds {
                round.add(&outcome);
            } else {
                round.mistakes(&outcome);
            }
            Ok(holds)
        };
        let (mut low, mut high) = (0.0, self.rate);
        while high <= MOST_RATE && holds(high)? {
            (low, high) = (high, high * 2.0);
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if holds(middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        round.limit = Some(low);
        Ok(())
    }

    /// Writes what was asked for.
    pub fn write(&self, report: &Report) -> Result<(), Error> {
        if let Some(path) = &self.json {
            crate::write_json(path, report)?;
        }
        if let Some(path) = &self.csv {
            at(format!("writing {}", path.display()), std::fs::write(path, report.csv()))?;
        }
        if let Some(dir) = &self.svg {
            plots(dir, report)?;
        }
        Ok(())
    }
}

fn plots(dir: &Path, report: &Report) -> Result<(), Error> {
    at(format!("making {}", dir.display()), std::fs::create_dir_all(dir))?;
    for (name, chart) in report.charts() {
        plot::write(&dir.join(name), &chart)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
fn p99_ms<A>(outcome: &Outcome<A>) -> f64 {
    outcome.whole.value_at_quantile(0.99) as f64 / 1e6
}

pub fn say(line: &str) {
    eprintln!("  {line}");
}
