//! DHCP servers under load: latency of each leg, losses, mistakes, and the highest rate a server holds.
//!
//! Either servers of this machine, each started in a namespace of its own and taken in turns (A B C A B C …), or one
//! server somewhere else on a test network.

pub mod echo;
pub mod link;
pub mod load;
mod perfdhcp;
mod report;
pub mod server;
pub mod wire;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::netns::Pair;
use crate::process::Process;
use crate::{Error, at, plot};
use link::Link;
use load::{Arrival, Crowd, Exchange, Load, Outcome};
pub use report::Report;
use report::{Held, Round};
pub use server::Server;

/// A step of the search for a limit.
const STEP: Duration = Duration::from_millis(1500);
/// Rates between the highest that holds and the lowest that does not are halved so many times.
const HALVINGS: u32 = 3;
/// Loss below which a rate holds.
const MOST_LOSS: f64 = 0.001;
/// Where the search ends: more the driver cannot send here.
const MOST_RATE: f64 = 200_000.0;

#[derive(Debug, Args)]
pub struct Options {
    /// Servers to start and measure, in this order in each round
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "echo,berth,kea,isc,dnsmasq",
        conflicts_with = "server"
    )]
    against: Vec<Server>,
    /// Measure the server at this address instead, on a test network of yours
    #[arg(long, value_name = "IP", requires = "interface")]
    server: Option<Ipv4Addr>,
    /// The interface it is reached by
    #[arg(long, value_name = "IF", requires = "server")]
    interface: Option<String>,
    #[arg(long, value_enum, default_value = "dora")]
    exchange: Exchange,
    /// Exchanges a second, by a schedule that no answer delays
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    rate: f64,
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
    duration: f64,
    /// Milliseconds until an answer is missed
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
    /// Send once more after half of that
    #[arg(long)]
    retransmit: bool,
    /// As a relay, with the interface's own address
    #[arg(long)]
    relay: bool,
    /// Rounds; each server is started anew in each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Leases that are there before anything is measured
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    held: u32,
    /// The highest rate with less than 0.1 % lost and a p99 below --p99-ms, by bisection from --rate on
    #[arg(long, conflicts_with = "closed")]
    find_limit: bool,
    /// Milliseconds
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    p99_ms: f64,
    /// Measure with perfdhcp too, and say how far its means are from ours (both as relays)
    #[arg(long, conflicts_with = "server")]
    perfdhcp: bool,
    /// Words for the server that only sends frames back: what the driver itself is tested against
    #[arg(long, value_name = "WORDS", default_value = "", allow_hyphen_values = true, hide = true)]
    echo: String,
    /// The berth to measure [default: the release build beside this program]
    #[arg(long)]
    berth: Option<PathBuf>,
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

/// Measures, and writes what was asked for.
pub fn run(options: &Options) -> Result<Report, Error> {
    let wanted = options.against.contains(&Server::Berth) && options.server.is_none();
    let berth = match &options.berth {
        Some(berth) => berth.clone(),
        None if wanted => beside_us()?,
        None => PathBuf::new(),
    };
    let mut report = Report::new(options.exchange, options.rate, options.held);
    match (options.server, &options.interface) {
        (Some(address), Some(interface)) => elsewhere(options, address, interface, &mut report)?,
        _ => here(options, &berth, &mut report)?,
    }
    report.finish();
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    if let Some(path) = &options.csv {
        at(format!("writing {}", path.display()), std::fs::write(path, report.csv()))?;
    }
    if let Some(dir) = &options.svg {
        at(format!("making {}", dir.display()), std::fs::create_dir_all(dir))?;
        for (name, chart) in report.charts() {
            plot::write(&dir.join(name), &chart)?;
        }
    }
    Ok(report)
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

fn elsewhere(
    options: &Options,
    address: Ipv4Addr,
    interface: &str,
    report: &mut Report,
) -> Result<(), Error> {
    let name = address.to_string();
    for round in 0..options.rounds {
        say(&format!("round {} of {}: {name}", round + 1, options.rounds));
        let mut link = Link::open(interface)?;
        let path = path(options, &mut link, address, own_address(interface)?)?;
        let mut crowd = Crowd::new(&mut link, path);
        report.add(&name, || name.clone(), measure(options, &mut crowd)?);
    }
    Ok(())
}

/// The interface's first IPv4 address, for the relay.
fn own_address(interface: &str) -> Result<Option<Ipv4Addr>, Error> {
    let output = std::process::Command::new("ip")
        .args(["-j", "-4", "addr", "show", "dev", interface])
        .output();
    let output = at("ip addr", output)?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(links.pointer("/0/addr_info/0/local").and_then(|text| text.as_str()?.parse().ok()))
}

fn here(options: &Options, berth: &Path, report: &mut Report) -> Result<(), Error> {
    if let Some(missing) = options.against.iter().find_map(|server| server.missing()) {
        return Err(Error::Step(missing));
    }
    for round in 0..options.rounds {
        for &server in &options.against {
            say(&format!("round {} of {}: {}", round + 1, options.rounds, server.name()));
            let found = one(options, server, berth)?;
            report.add(server.name(), || server.version(berth), found);
        }
    }
    if options.perfdhcp {
        for &server in options.against.iter().filter(|server| **server != Server::Echo) {
            say(&format!("perfdhcp: {}", server.name()));
            report.agreement.push(perfdhcp::compare(
                server,
                berth,
                options.rate,
                options.duration,
            )?);
        }
    }
    Ok(())
}

fn one(options: &Options, server: Server, berth: &Path) -> Result<Round, Error> {
    let pair = Pair::new()?;
    let running = server::start(server, &pair, berth, &options.echo)?;
    pair.driving(|| {
        let mut link = Link::open("c0")?;
        let path = path(options, &mut link, server::ADDRESS, Some(server::RELAY))?;
        let mut crowd = Crowd::new(&mut link, path);
        let process = Process(running.process.0.id());
        let before = process.cpu();
        let mut round = measure(options, &mut crowd)?;
        // Of all that was done, what was not counted too.
        round.all = crowd.ended();
        let all = round.all.max(1);
        #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
        let each = process.cpu().saturating_sub(before).as_secs_f64() * 1e6 / all as f64;
        round.cpu_us = Some(each).filter(|_| server != Server::Networkd || each > 0.0);
        round.rss_kib = process.rss_kib();
        Ok(round)
    })
}

fn path(
    options: &Options,
    link: &mut Link,
    server: Ipv4Addr,
    own: Option<Ipv4Addr>,
) -> Result<wire::Path, Error> {
    if !options.relay {
        return Ok(wire::Path::Link { server: None });
    }
    let own =
        own.ok_or_else(|| Error::Step("--relay: the interface has no IPv4 address".into()))?;
    let own = (own, link.mac);
    let mac = load::resolve(link, own, server)?;
    Ok(wire::Path::Relay { own, server: (server, mac) })
}

/// What one server does in one round.
fn measure(options: &Options, crowd: &mut Crowd<'_>) -> Result<Round, Error> {
    let clients =
        options.clients.unwrap_or(if options.exchange == Exchange::Renew { 500 } else { 50_000 });
    let mut held = None;
    if options.held > 0 {
        let begun = std::time::Instant::now();
        // Clients of their own, far from the others.
        let had = crowd.prepare(0x0080_0000, options.held, Duration::from_secs(120))?;
        held = Some(Held { wanted: options.held, had, seconds: begun.elapsed().as_secs_f64() });
        say(&format!("{had} leases held"));
    }
    let arrival = options.closed.map_or(Arrival::Open(options.rate), Arrival::Closed);
    let load = Load {
        exchange: options.exchange,
        arrival,
        clients: if options.held > 0 { clients.min(63_000 - options.held) } else { clients },
        first: 1,
        warmup: Duration::from_secs_f64(options.warmup),
        duration: Duration::from_secs_f64(options.duration),
        timeout: Duration::from_millis(options.timeout_ms),
        retransmit: options.retransmit,
        most: None,
    };
    let mut round = Round { held, ..Round::default() };
    if options.find_limit {
        find_limit(options, &load, crowd, &mut round)?;
    } else {
        round.add(&crowd.run(&load)?);
    }
    Ok(round)
}

fn find_limit(
    options: &Options,
    load: &Load,
    crowd: &mut Crowd<'_>,
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
        let holds = outcome.loss() < MOST_LOSS && p99_ms(&outcome) <= options.p99_ms;
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
    let (mut low, mut high) = (0.0, options.rate);
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

#[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
fn p99_ms(outcome: &Outcome) -> f64 {
    outcome.whole.value_at_quantile(0.99) as f64 / 1e6
}

fn say(line: &str) {
    eprintln!("  {line}");
}
