//! DHCPv6 servers under load, as `dhcp` does it for IPv4: the same driver, schedule and figures.
//!
//! Each client is a host of its own: a MAC, a DUID-LL made of it, and a link-local address that it sends from. A server
//! answers to that address, so that its kernel looks for the neighbour first. In namespaces here the clients are permanent
//! neighbours of each server instead: the kernel has 1024 neighbours at most that it found itself (`gc_thresh3`), and
//! forgets none within 5 s, so that more than some 200 new clients a second would measure the kernel and no server.
//! Whoever asks nevertheless, as servers elsewhere do, is answered as hosts answer.

pub mod echo;
mod server;
mod six;
mod wire;

use std::path::Path;

use clap::{Args, ValueEnum};

use crate::Error;
use crate::dhcp::crowd::Crowd;
use crate::dhcp::link::Link;
use crate::dhcp::measure::say;
use crate::dhcp::report::{Report, Round};
use crate::dhcp::{load, measure};
use crate::netns::Pair;
use server::Server;
use six::Six;

#[derive(Debug, Args)]
pub struct Options {
    /// Servers to start and measure, in this order in each round
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "echo,berth,kea",
        conflicts_with = "interface"
    )]
    against: Vec<Server>,
    /// Measure the server on this interface instead, on a test network of yours
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    #[arg(long, value_enum, default_value = "sarr")]
    exchange: Exchange,
    #[command(flatten)]
    measure: measure::Measurement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Exchange {
    /// SOLICIT, ADVERTISE, REQUEST, REPLY
    Sarr,
    /// SOLICIT, ADVERTISE
    Solicit,
    /// SOLICIT with rapid commit, REPLY
    Rapid,
    /// RENEW, REPLY, of clients that have their lease (made before, unmeasured)
    Renew,
}

impl From<Exchange> for load::Exchange {
    fn from(exchange: Exchange) -> Self {
        match exchange {
            Exchange::Sarr => Self::Full,
            Exchange::Solicit => Self::Offer,
            Exchange::Rapid => Self::Rapid,
            Exchange::Renew => Self::Renew,
        }
    }
}

/// Measures, and writes what was asked for.
pub fn run(options: &Options) -> Result<Report, Error> {
    let how = &options.measure;
    let wanted = options.against.contains(&Server::Berth) && options.interface.is_none();
    let berth = how.berth(wanted)?;
    let exchange = format!("{:?}", options.exchange);
    let mut report = Report::new(&exchange, ["ADVERTISE", "REPLY"], how.rate, how.held);
    match &options.interface {
        Some(interface) => elsewhere(options, interface, &mut report)?,
        None => here(options, &berth, &mut report)?,
    }
    report.finish();
    how.write(&report)?;
    Ok(report)
}

fn elsewhere(options: &Options, interface: &str, report: &mut Report) -> Result<(), Error> {
    let how = &options.measure;
    for round in 0..how.rounds {
        say(&format!("round {} of {}: {interface}", round + 1, how.rounds));
        let mut link = Link::open6(interface)?;
        let mut crowd = Crowd::new(&mut link, Six::default());
        let found = how.measure(options.exchange.into(), &mut crowd)?;
        report.add(interface, || interface.to_owned(), found);
    }
    Ok(())
}

fn here(options: &Options, berth: &Path, report: &mut Report) -> Result<(), Error> {
    if let Some(missing) = options.against.iter().find_map(|server| server.missing()) {
        return Err(Error::Step(missing));
    }
    let rounds = options.measure.rounds;
    for round in 0..rounds {
        for &server in &options.against {
            say(&format!("round {} of {rounds}: {}", round + 1, server.name()));
            let found = one(options, server, berth)?;
            report.add(server.name(), || server.version(berth), found);
        }
    }
    Ok(())
}

fn one(options: &Options, server: Server, berth: &Path) -> Result<Round, Error> {
    let how = &options.measure;
    let exchange = options.exchange.into();
    let pair = Pair::six()?;
    let held = measure::FIRST_HELD..measure::FIRST_HELD + how.held;
    server::know(&pair, (1..=how.clients(exchange)).chain(held))?;
    let running = server::start(server, &pair, berth, &how.echo)?;
    pair.driving(|| {
        let mut link = Link::open6("c0")?;
        how.started(&running, exchange, &mut link, Six::default())
    })
}
