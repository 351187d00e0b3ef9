//! DHCP servers with few leases and with many: memory, latency, and how soon one that was killed answers again.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::dhcp::crowd::Crowd;
use crate::dhcp::four::Four;
use crate::dhcp::link::Link;
use crate::dhcp::load::{Arrival, Exchange, Load};
use crate::dhcp::{Server, beside_us, server, wire};
use crate::netns::Pair;
use crate::process::Process;
use crate::stats::median;
use crate::{Error, at};

/// Clients whose leases are there before; those that are measured begin with 1.
const HELD: u32 = 0x0080_0000;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, value_delimiter = ',', default_value = "berth,kea")]
    against: Vec<Server>,
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,60000")]
    leases: Vec<u32>,
    /// Exchanges a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Each number of leases in turn, so often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    duration: u32,
    /// The berth to measure [default: the release build beside this program]
    #[arg(long)]
    berth: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One server with so many leases.
#[derive(Debug, Serialize)]
pub struct Point {
    pub server: &'static str,
    pub leases: u64,
    /// Leases a second as they were made, 64 at a time.
    pub made_per_second: f64,
    pub rss_kib: f64,
    /// Whole exchanges of other clients, milliseconds.
    pub mean_ms: f64,
    pub p99_ms: f64,
    pub loss: f64,
    /// From the start after a SIGKILL to the first answer.
    pub recovered_ms: f64,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub rate: u32,
    pub rounds: u32,
    pub points: Vec<Point>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    let berth = match &options.berth {
        Some(berth) => berth.clone(),
        None if options.against.contains(&Server::Berth) => beside_us()?,
        None => PathBuf::new(),
    };
    let each = options
        .leases
        .iter()
        .flat_map(|leases| options.against.iter().map(move |server| (*leases, *server)));
    let mut found: Vec<Vec<Point>> = each.clone().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for ((leases, server), rounds) in each.clone().zip(&mut found) {
            eprintln!(
                "  round {} of {}: {leases} leases: {}",
                round + 1,
                options.rounds,
                server.name()
            );
            rounds.push(point(server, leases, options, &berth)?);
        }
    }
    let points = found.iter().filter_map(|rounds| middle(rounds)).collect();
    let report = Report { rate: options.rate, rounds: options.rounds, points };
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

/// Of each figure the median.
fn middle(rounds: &[Point]) -> Option<Point> {
    let first = rounds.first()?;
    let of = |figure: fn(&Point) -> f64| {
        median(rounds.iter().map(figure)).map_or(0.0, |(middle, ..)| middle)
    };
    Some(Point {
        server: first.server,
        leases: first.leases,
        made_per_second: of(|point| point.made_per_second),
        rss_kib: of(|point| point.rss_kib),
        mean_ms: of(|point| point.mean_ms),
        p99_ms: of(|point| point.p99_ms),
        loss: of(|point| point.loss),
        recovered_ms: of(|point| point.recovered_ms),
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for reading")]
fn point(
    server: Server,
    leases: u32,
    options: &Options,
    berth: &std::path::Path,
) -> Result<Point, Error> {
    let pair = Pair::new()?;
    let mut started = server::start(server, &pair, berth, "")?;
    let load = |clients: u32, first: u32, arrival: Arrival| Load {
        exchange: Exchange::Full,
        arrival,
        clients,
        first,
        warmup: Duration::from_millis(500),
        duration: Duration::from_secs(options.duration.into()),
        timeout: Duration::from_secs(1),
        retransmit: false,
        most: None,
    };
    let (had, took, outcome, rss) = pair.driving(|| {
        let mut link = Link::open("c0")?;
        let mut crowd = Crowd::new(&mut link, Four(wire::Path::Link { server: None }));
        let began = Instant::now();
        let had = crowd.prepare(HELD, leases, Duration::from_secs(300))?;
        let took = began.elapsed();
        let clients = 63_000u32.saturating_sub(leases).min(50_000);
        let outcome = crowd.run(&load(clients, 1, Arrival::Open(options.rate.into())))?;
        let rss = Process(started.process.0.id()).rss_kib().unwrap_or(0);
        Ok((had, took, outcome, rss))
    })?;
    at("ending the server", started.process.0.kill())?;
    at("ending the server", started.process.0.wait())?;
    let began = Instant::now();
    let _again = server::again(server, &pair, berth, started)?;
    let recovered = pair.driving(|| {
        let mut link = Link::open("c0")?;
        let mut crowd = Crowd::new(&mut link, Four(wire::Path::Link { server: None }));
        let brief = Load {
            warmup: Duration::ZERO,
            timeout: Duration::from_millis(20),
            most: Some(1),
            ..load(1, HELD, Arrival::Closed(1))
        };
        while crowd.run(&brief)?.done == 0 {
            if began.elapsed() > PATIENCE {
                return Err(Error::Step(format!(
                    "{} does not answer after a restart",
                    server.name()
                )));
            }
        }
        Ok(began.elapsed())
    })?;
    Ok(Point {
        server: server.name(),
        leases: had,
        made_per_second: had as f64 / took.as_secs_f64(),
        rss_kib: rss as f64,
        mean_ms: outcome.whole.mean() / 1e6,
        p99_ms: outcome.whole.value_at_quantile(0.99) as f64 / 1e6,
        loss: outcome.loss(),
        recovered_ms: recovered.as_secs_f64() * 1e3,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "DORA at {}/s with leases that are there already; medians of {} rounds",
            self.rate, self.rounds
        )?;
        writeln!(
            f,
            "{:<8} {:>7} | {:>8} {:>8} | {:>8} {:>8} {:>7} | {:>12}",
            "", "leases", "made/s", "RSS MiB", "mean ms", "p99 ms", "lost %", "restarted ms"
        )?;
        for point in &self.points {
            writeln!(
                f,
                "{:<8} {:>7} | {:>8.0} {:>8.1} | {:>8.3} {:>8.3} {:>7.3} | {:>12.0}",
                point.server,
                point.leases,
                point.made_per_second,
                point.rss_kib / 1024.0,
                point.mean_ms,
                point.p99_ms,
                point.loss * 100.0,
                point.recovered_ms
            )?;
        }
        Ok(())
    }
}
