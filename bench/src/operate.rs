//! What an operator's looks cost: a scrape, the memory of the page, and the guest's output while its console is read.

mod guest;
mod viewer;

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;
use serde::Serialize;

use crate::launcher::Launcher;
use crate::process::{Process, Running};
use crate::startup::release_build;
use crate::stats::{Summary, median};
use crate::{Error, at};

/// A guest without a system is through with its firmware by then.
const SETTLE: Duration = Duration::from_secs(5);
/// An answer is shared for a second: a scrape after that is a new one.
const BETWEEN_SCRAPES: Duration = Duration::from_millis(1200);
/// The guest's output is counted for so long, after readers had their replay.
const COUNTED: Duration = Duration::from_secs(3);
const REPLAY: Duration = Duration::from_secs(1);
const READERS: usize = 10;
const METRICS: &str = "10.99.0.2:9177";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub struct Options {
    /// Scrapes that are timed
    #[arg(long, default_value_t = 20)]
    scrapes: usize,
    /// Launchers of each kind whose memory is looked at
    #[arg(long, default_value_t = 3)]
    launchers: usize,
    /// Rounds of the guest's output, without readers and with them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The berth to measure [default: the static release build, made by `make build` when missing]
    #[arg(long)]
    berth: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// RSS in KiB: the median, the least and the most.
type Memory = (f64, f64, f64);

#[derive(Debug, Serialize)]
pub struct Report {
    /// From the connection to the last octet; None: none was asked for.
    scrape: Option<Summary>,
    page_off: Option<Memory>,
    page_idle: Option<Memory>,
    /// With one screen and one serial line.
    page_watched: Option<Memory>,
    /// Octets of the guest a second.
    alone: Option<(f64, f64, f64)>,
    with_readers: Option<(f64, f64, f64)>,
    /// The second over the first, round by round.
    ratio: Option<(f64, f64, f64)>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    let berth = options.berth.clone().map_or_else(release_build, Ok)?;
    let scrape = scrapes(&berth, options.scrapes)?;
    let [page_off, page_idle, page_watched] = memory(&berth, options.launchers)?;
    let rounds = (0..options.rounds).map(|_| outputs(&berth)).collect::<Result<Vec<_>, _>>()?;
    let report = Report {
        scrape,
        page_off,
        page_idle,
        page_watched,
        alone: median(rounds.iter().map(|(alone, _)| *alone)),
        with_readers: median(rounds.iter().map(|(_, read)| *read)),
        ratio: median(rounds.iter().map(|(alone, read)| read / alone)),
    };
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

impl Launcher {
    fn rss_kib(&self) -> Result<u64, Error> {
        let rss = Process(self.running.0.id()).rss_kib();
        rss.ok_or_else(|| Error::Step("reading the memory of a launcher: it has ended".into()))
    }

    /// When it listens there.
    fn connect(&self, address: &str) -> Result<TcpStream, Error> {
        let address: SocketAddr =
            address.parse().map_err(|_| Error::Step(format!("{address} is no address")))?;
        self.pod.inside(|| {
            let end = Instant::now() + PATIENCE;
            loop {
                match TcpStream::connect_timeout(&address, PATIENCE) {
                    Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                    stream => return at(format!("connecting to {address}"), stream),
                }
            }
        })
    }
}

fn scrapes(berth: &Path, count: usize) -> Result<Option<Summary>, Error> {
    let launcher = Launcher::start(berth, |command| {
        command.env("BERTH_METRICS", "pod:9177");
    })?;
    std::thread::sleep(SETTLE);
    let mut taken = Vec::new();
    for _ in 0..count {
        std::thread::sleep(BETWEEN_SCRAPES);
        taken.push(scrape(&launcher)?);
    }
    Ok(Summary::of(&taken))
}

fn scrape(launcher: &Launcher) -> Result<Duration, Error> {
    let mut stream = launcher.connect(METRICS)?;
    at("bounding a scrape", stream.set_read_timeout(Some(PATIENCE)))?;
    let began = Instant::now();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n");
    at("asking for the metrics", stream.write_all(request.as_bytes()))?;
    let mut text = String::new();
    at("reading the metrics", stream.read_to_string(&mut text))?;
    let taken = began.elapsed();
    if text.starts_with("HTTP/1.1 200") && text.contains("\nberth_") {
        Ok(taken)
    } else {
        let head = text.lines().next().unwrap_or("nothing");
        Err(Error::Step(format!("a scrape was answered by {head:?}")))
    }
}

/// Of launchers without the page, with it, and with it looked at.
fn memory(berth: &Path, launchers: usize) -> Result<[Option<Memory>; 3], Error> {
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..launchers {
        for ((reach, watched), found) in
            [("off", false), ("loopback", false), ("loopback", true)].into_iter().zip(&mut found)
        {
            let launcher = Launcher::start(berth, |command| {
                command.env("BERTH_WEB", reach);
            })?;
            std::thread::sleep(SETTLE);
            let viewers = if watched { Some(viewer::both(&launcher)?) } else { None };
            std::thread::sleep(SETTLE);
            found.push(launcher.rss_kib()?);
            if let Some(viewers) = viewers {
                viewers.end()?;
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "figures for reading")]
    let of = |found: Vec<u64>| median(found.into_iter().map(|kib| kib as f64));
    Ok(found.map(of))
}

/// Octets a second of a guest that writes all the time: alone, and with readers of whom one has stopped reading.
fn outputs(berth: &Path) -> Result<(f64, f64), Error> {
    let image = guest::writing()?;
    let mut launcher = Launcher::start(berth, |command| {
        command.env("IMG_TARGET", image.path()).stdout(Stdio::piped());
    })?;
    let stdout = launcher.running.0.stdout.take();
    let counter = guest::Counter::start(stdout.ok_or_else(|| Error::Step("no output".into()))?);
    std::thread::sleep(SETTLE);
    let alone = counter.rate(COUNTED)?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut command = launcher.files.command(berth, "console");
        command.arg("--read-only").stderr(Stdio::null());
        readers.push(Running(at("starting a reader", command.spawn())?));
    }
    std::thread::sleep(REPLAY);
    if let Some(first) = readers.first() {
        at("stopping a reader", Process(first.0.id()).signal(Signal::STOP))?;
    }
    let read = counter.rate(COUNTED)?;
    for reader in &mut readers {
        if let Some(status) = at("looking at a reader", reader.0.try_wait())? {
            return Err(Error::Step(format!("a reader of the console has ended: {status}")));
        }
    }
    Ok((alone, read))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scrape) = &self.scrape {
            writeln!(f, "/metrics               {scrape}")?;
        }
        for (name, memory) in [
            ("RSS, page off", self.page_off),
            ("RSS, page idle", self.page_idle),
            ("RSS, screen and serial", self.page_watched),
        ] {
            if let Some((middle, least, most)) = memory.map(mib) {
                writeln!(f, "{name:<22} {middle:>9.2} MiB ({least:.2}-{most:.2})")?;
            }
        }
        for (name, rate) in
            [("guest's output", self.alone), ("the same, 10 readers", self.with_readers)]
        {
            if let Some((middle, least, most)) = rate.map(mib) {
                let (middle, least, most) = (middle / 1024.0, least / 1024.0, most / 1024.0);
                writeln!(f, "{name:<22} {middle:>9.3} MiB/s ({least:.3}-{most:.3})")?;
            }
        }
        if let Some((middle, least, most)) = self.ratio {
            writeln!(f, "{:<22} {middle:>9.2} ({least:.2}-{most:.2})", "ratio by round")?;
        }
        Ok(())
    }
}

fn mib((middle, least, most): (f64, f64, f64)) -> (f64, f64, f64) {
    (middle / 1024.0, least / 1024.0, most / 1024.0)
}
