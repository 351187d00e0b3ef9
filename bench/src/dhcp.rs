//! DHCP servers under load: latency of each leg, losses, mistakes, and the highest rate a server holds.
//!
//! Either servers of this machine, each started in a namespace of its own and taken in turns (A B C A B C …), or one
//! server somewhere else on a test network.

pub mod crowd;
pub mod echo;
pub mod four;
pub mod link;
pub mod load;
pub mod measure;
mod perfdhcp;
pub mod protocol;
pub mod report;
pub mod server;
pub mod wire;

use std::net::Ipv4Addr;
use std::path::Path;

use clap::{Args, ValueEnum};

use crate::Error;
use crate::netns::Pair;
use crowd::Crowd;
use four::Four;
use link::Link;
pub use measure::beside_us;
use measure::say;
pub use report::Report;
use report::Round;
pub use server::Server;

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
    /// As a relay, with the interface's own address
    #[arg(long)]
    relay: bool,
    /// Measure with perfdhcp too, and say how far its means are from ours (both as relays)
    #[arg(long, conflicts_with = "server")]
    perfdhcp: bool,
    #[command(flatten)]
    measure: measure::Measurement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Exchange {
    /// DISCOVER, OFFER, REQUEST, ACK
    Dora,
    /// DISCOVER, OFFER
    Do,
    /// REQUEST, ACK, of clients that have their lease (made before, unmeasured)
    Renew,
}

impl From<Exchange> for load::Exchange {
    fn from(exchange: Exchange) -> Self {
        match exchange {
            Exchange::Dora => Self::Full,
            Exchange::Do => Self::Offer,
            Exchange::Renew => Self::Renew,
        }
    }
}

/// Measures, and writes what was asked for.
pub fn run(options: &Options) -> Result<Report, Error> {
    let how = &options.measure;
    let wanted = options.against.contains(&Server::Berth) && options.server.is_none();
    let berth = how.berth(wanted)?;
    let exchange = format!("{:?}", options.exchange);
    let mut report = Report::new(&exchange, ["OFFER", "ACK"], how.rate, how.held);
    match (options.server, &options.interface) {
        (Some(address), Some(interface)) => elsewhere(options, address, interface, &mut report)?,
        _ => here(options, &berth, &mut report)?,
    }
    report.finish();
    how.write(&report)?;
    Ok(report)
}

fn elsewhere(
    options: &Options,
    address: Ipv4Addr,
    interface: &str,
    report: &mut Report,
) -> Result<(), Error> {
    let (how, name) = (&options.measure, address.to_string());
    for round in 0..how.rounds {
        say(&format!("round {} of {}: {name}", round + 1, how.rounds));
        let mut link = Link::open(interface)?;
        let path = path(options, &mut link, address, own_address(interface)?)?;
        let mut crowd = Crowd::new(&mut link, Four(path));
        let found = how.measure(options.exchange.into(), &mut crowd)?;
        report.add(&name, || name.clone(), found);
    }
    Ok(())
}

/// The interface's first IPv4 address, for the relay.
fn own_address(interface: &str) -> Result<Option<Ipv4Addr>, Error> {
    let output = std::process::Command::new("ip")
        .args(["-j", "-4", "addr", "show", "dev", interface])
        .output();
    let output = crate::at("ip addr", output)?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(links.pointer("/0/addr_info/0/local").and_then(|text| text.as_str()?.parse().ok()))
}

fn here(options: &Options, berth: &Path, report: &mut Report) -> Result<(), Error> {
    if let Some(missing) = options.against.iter().find_map(|server| server.missing()) {
        return Err(Error::Step(missing));
    }
    let how = &options.measure;
    for round in 0..how.rounds {
        for &server in &options.against {
            say(&format!("round {} of {}: {}", round + 1, how.rounds, server.name()));
            let found = one(options, server, berth)?;
            report.add(server.name(), || server.version(berth), found);
        }
    }
    if options.perfdhcp {
        for &server in options.against.iter().filter(|server| **server != Server::Echo) {
            say(&format!("perfdhcp: {}", server.name()));
            report.agreement.push(perfdhcp::compare(server, berth, how.rate, how.duration)?);
        }
    }
    Ok(())
}

fn one(options: &Options, server: Server, berth: &Path) -> Result<Round, Error> {
    let pair = Pair::new()?;
    let running = server::start(server, &pair, berth, &options.measure.echo)?;
    pair.driving(|| {
        let mut link = Link::open("c0")?;
        let path = path(options, &mut link, server::ADDRESS, Some(server::RELAY))?;
        let exchange = options.exchange.into();
        let mut round = options.measure.started(&running, exchange, &mut link, Four(path))?;
        round.cpu_us = round.cpu_us.filter(|each| server != Server::Networkd || *each > 0.0);
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
    let mac = four::resolve(link, own, server)?;
    Ok(wire::Path::Relay { own, server: (server, mac) })
}
