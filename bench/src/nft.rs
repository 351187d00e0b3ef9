//! nf_tables: berth's own netlink beside the programs that do the same, in namespaces made for it.
//!
//! Three questions, each with its own file: how long until our table is committed (and until it is live, which is
//! when a listener sees the new generation); how long a full listing takes, by the number of rules; and how long
//! until a table that somebody spoiled is whole again. The sides take turns within a round.

mod commit;
pub mod heal;
mod listing;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use berth::sys::netlink::Firewall;
use clap::Args;
use serde::Serialize;

use crate::netns::Pod;
use crate::{Error, at};

const TOOLS: [&str; 2] = ["nft", "iptables-restore"];

#[derive(Debug, Args)]
pub struct Options {
    /// Rounds of the commits; the listings take fewer, the larger they are
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Sizes of the rulesets that are listed
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
    rules: Vec<usize>,
    /// One of so many rules has a set of its own; all but the first for the largest size only. For each set the kernel
    /// walks its list of all of them, which costs both sides the same: with many sets that is most of a listing
    #[arg(long, value_delimiter = ',', default_values_t = [100, 4])]
    sets: Vec<usize>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    commit: commit::Report,
    listing: Vec<listing::Report>,
    heal: heal::Report,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.commit)?;
        self.listing.iter().try_for_each(|listing| write!(f, "{listing}"))?;
        write!(f, "{}", self.heal)
    }
}

pub fn run(options: &Options) -> Result<Report, Error> {
    for tool in TOOLS {
        at(
            format!("{tool}: apt-get install nftables iptables"),
            Command::new(tool).arg("--version").output(),
        )?;
    }
    let commit = Pod::new()?.inside(|| commit::run(options.runs.max(1)))?;
    let usual = options.rules.iter().zip(options.sets.iter().take(1).cycle());
    let many = options.rules.iter().max().into_iter().cycle().zip(options.sets.iter().skip(1));
    let mut listing = Vec::new();
    for (rules, sets) in usual.chain(many) {
        listing.push(Pod::new()?.inside(|| listing::run(*rules, (*sets).max(1)))?);
    }
    let heal = Pod::new()?.inside(|| heal::run(options.runs.max(1)))?;
    let report = Report { commit, listing, heal };
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Error::Step(error.to_string()))?;
        at(format!("writing {}", path.display()), fs::write(path, text))?;
    }
    Ok(report)
}

/// The engine as `berth run` uses it, and something to wait for its answers with.
struct Engine {
    firewall: Firewall,
    runtime: tokio::runtime::Runtime,
}

impl Engine {
    fn start() -> Result<Self, Error> {
        let firewall = Firewall::start().map_err(|error| Error::Step(error.to_string()))?;
        let runtime =
            at("starting a runtime", tokio::runtime::Builder::new_current_thread().build())?;
        Ok(Self { firewall, runtime })
    }

    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, berth::sys::netlink::Error>>,
    ) -> Result<T, Error> {
        self.runtime.block_on(answer).map_err(|error| Error::Step(error.to_string()))
    }
}

/// How long something took.
fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<(Duration, T), Error> {
    let begun = Instant::now();
    let made = work()?;
    Ok((begun.elapsed(), made))
}

/// Runs a program to its end; its output is thrown away.
fn program(words: &[&str]) -> Result<(), Error> {
    let step = words.join(" ");
    let Some((name, args)) = words.split_first() else { return Ok(()) };
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    let status = at(&step, command.status())?;
    if status.success() { Ok(()) } else { Err(Error::Step(format!("{step}: {status}"))) }
}
