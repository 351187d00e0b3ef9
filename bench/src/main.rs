//! `berth-bench`: every figure we publish, measured beside what a user would run instead, in the same run.
#![expect(clippy::print_stdout, reason = "the results are this program's output")]
#![expect(
    clippy::disallowed_methods,
    reason = "it starts the programs it measures and reads the clock"
)]

mod all;
mod boot;
mod dhcp;
mod dhcp6;
mod dns;
mod footprint;
mod hostile;
mod launcher;
mod netns;
mod nft;
mod operate;
mod path;
mod plot;
mod process;
mod scale;
mod startup;
mod stats;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures berth beside what a user would run instead. Ratios count; digits depend on the machine.
#[derive(Debug, Parser)]
#[command(name = "berth-bench", version)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// From start to QEMU's exec: berth and the seed's tools in the seed's order; then RSS and binary size
    Startup(startup::Options),
    /// From start to the guest's first answer: a boot beside bare QEMU's, and a guest that was suspended
    Boot(boot::Options),
    /// nf_tables: commit of our table and listings of any, beside nft and iptables
    Nft(nft::Options),
    /// DHCP servers under load: latency, loss, mistakes, the highest rate that holds
    Dhcp(Box<dhcp::Options>),
    /// DHCPv6 servers under load: the same
    Dhcp6(Box<dhcp6::Options>),
    /// DNS forwarders: CPU for an answer, answers a second, how long they take
    Dns(dns::Options),
    /// What launchers cost while their guests do nothing: memory, threads, wake-ups
    Footprint(footprint::Options),
    /// What an operator's looks cost: a scrape, the page's memory, the guest's output while its console is read
    Operate(operate::Options),
    /// Throughput and latency to a guest and back: berth's NAT, plain routing, the seed's iptables
    Path(path::Options),
    /// DHCP servers with few leases and with many: memory, latency, recovery after a kill
    Scale(scale::Options),
    /// What honest clients notice of floods, what berth and the kernel keep of them, and whether it heals and ends
    Hostile(hostile::Options),
    /// Everything above, and one report of it
    All(all::Options),
    #[command(hide = true)]
    DhcpEcho(dhcp::echo::Options),
    #[command(hide = true)]
    HostileQemu(hostile::qemu::Options),
}

/// What ends a measurement: it names the step, so that a missing program is told by its name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Step(String),
    #[error("{step}: {source}")]
    Io { step: String, source: std::io::Error },
}

/// Names the step an I/O error came from.
pub fn at<T>(step: impl Into<String>, result: std::io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Io { step: step.into(), source })
}

/// A report for other programs.
pub fn write_json(path: &Path, report: &impl serde::Serialize) -> Result<(), Error> {
    let text =
        serde_json::to_string_pretty(report).map_err(|error| Error::Step(error.to_string()))?;
    at(format!("writing {}", path.display()), std::fs::write(path, text + "\n"))
}

/// A server that makes mistakes fails the run, whatever its figures.
fn without_mistakes(report: &dhcp::Report) -> Result<String, Error> {
    match report.mistakes() {
        Some(mistakes) => Err(Error::Step(format!("{mistakes}\n{report}"))),
        None => Ok(report.to_string()),
    }
}

/// Runs one, and what there is to say of it.
fn measure(bench: Bench) -> Result<String, Error> {
    match bench {
        Bench::Startup(options) => startup::run(&options).map(|report| report.to_string()),
        Bench::Boot(options) => boot::run(&options).map(|report| report.to_string()),
        Bench::Nft(options) => nft::run(&options).map(|report| report.to_string()),
        Bench::Dhcp(options) => dhcp::run(&options).and_then(|report| without_mistakes(&report)),
        Bench::Dhcp6(options) => dhcp6::run(&options).and_then(|report| without_mistakes(&report)),
        Bench::Dns(options) => dns::run(&options).map(|report| report.to_string()),
        Bench::Footprint(options) => footprint::run(&options).map(|report| report.to_string()),
        Bench::Operate(options) => operate::run(&options).map(|report| report.to_string()),
        Bench::Path(options) => path::run(&options).map(|report| report.to_string()),
        Bench::Scale(options) => scale::run(&options).map(|report| report.to_string()),
        Bench::Hostile(options) => hostile::run(&options).map(|report| report.to_string()),
        Bench::All(options) => all::run(&options).map(|path| path.display().to_string()),
        Bench::DhcpEcho(options) => dhcp::echo::run(&options).map(|()| String::new()),
        Bench::HostileQemu(options) => hostile::qemu::run(&options).map(|()| String::new()),
    }
}

fn main() -> ExitCode {
    if startup::is_qemu_stand_in() {
        return startup::stand_in();
    }
    let report = measure(Cli::parse().bench);
    match report {
        Ok(report) => {
            println!("{}", report.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("berth-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
