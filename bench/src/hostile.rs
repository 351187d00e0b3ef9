//! Floods, and what everybody else notices of them: a guest that sends anything on its tap, a neighbour of `berth serve`'s
//! LAN, a QEMU that was taken over.
//!
//! Each has a stand of its own. First its honest clients are measured in peace, then during the flood, in the same run;
//! our table is flushed once in each. SIGTERM comes while the flood goes on. The rows named `quiet` have no flood: what
//! two such measurements differ by is what the others' difference is to be judged by.

mod frames;
mod honest;
pub mod qemu;
mod stand;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::dhcp::beside_us;
use crate::netns::inside;
use crate::{Error, at};
use frames::Make;
use honest::{Service, Times};
use stand::{Stand, Verb};

/// Connections that are held open at once.
const CONNECTIONS: usize = 400;

#[derive(Debug, Args)]
pub struct Options {
    /// Seconds of each flood; half as many without it come first
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    seconds: f64,
    /// These alone, by name
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = known)]
    only: Vec<String>,
    /// The berth to measure [default: the release build beside this program]
    #[arg(long)]
    berth: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 3600".into()) }
}

fn known(text: &str) -> Result<String, String> {
    let names = || FLOODS.iter().map(|flood| flood.name);
    if names().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    Err(format!("one of {}", names().collect::<Vec<_>>().join(", ")))
}

/// What is sent.
enum What {
    Nothing,
    /// So many frames a second.
    Frames(u32, Make),
    /// So many TCP connections to the name server a second, each of which begins a question and leaves it at that.
    Connections(u32),
    /// By the program in QEMU's place, as fast as it is read.
    Program(&'static str),
}

struct Flood {
    name: &'static str,
    verb: Verb,
    what: What,
}

const fn flood(name: &'static str, verb: Verb, what: What) -> Flood {
    Flood { name, verb, what }
}

const FLOODS: [Flood; 18] = [
    flood("net-quiet", Verb::Net, What::Nothing),
    flood("net-dhcp", Verb::Net, What::Frames(5_000, frames::dhcp)),
    flood("net-dns-edns", Verb::Net, What::Frames(20_000, frames::edns)),
    flood("net-dns-names", Verb::Net, What::Frames(5_000, frames::names)),
    flood("net-dns-tcp", Verb::Net, What::Connections(200)),
    flood("net-arp", Verb::Net, What::Frames(2_000, frames::arp)),
    flood("net-sources", Verb::Net, What::Frames(5_000, frames::sources)),
    flood("net-fragments", Verb::Net, What::Frames(5_000, frames::fragments)),
    flood("net-ra", Verb::Net, What::Frames(500, frames::advertisement)),
    flood("serve-quiet", Verb::Serve, What::Nothing),
    flood("serve-dhcp", Verb::Serve, What::Frames(5_000, frames::dhcp)),
    flood("serve-dns-absent", Verb::Serve, What::Frames(1_000, frames::absent)),
    flood("serve-dns-edns", Verb::Serve, What::Frames(20_000, frames::edns)),
    flood("serve-dns-names", Verb::Serve, What::Frames(5_000, frames::names)),
    flood("serve-dns-tcp", Verb::Serve, What::Connections(200)),
    flood("run-quiet", Verb::Run, What::Program("quiet")),
    flood("run-qmp", Verb::Run, What::Program("events")),
    flood("run-console", Verb::Run, What::Program("console")),
];

/// One of the two times.
#[derive(Debug, Serialize)]
pub struct Phase {
    pub clients: BTreeMap<Service, Times>,
    /// Our table flushed by somebody, until it was whole again. None: not within five seconds, or there is none.
    pub heal_ms: Option<f64>,
    pub peak_rss_kib: Option<u64>,
    /// Of one processor.
    pub cpu: f64,
    pub neighbours: usize,
    pub fdb: usize,
    /// Routes that an advertisement of the guest's made.
    pub advertised_routes: usize,
    pub log_bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub name: &'static str,
    /// Whether there is a table to heal.
    pub heals: bool,
    pub quiet: Phase,
    pub flood: Phase,
    /// Frames or connections that were let in a second. None: a program's own, as fast as it was read.
    pub sent_per_second: Option<f64>,
    /// How berth ended before anybody asked it to.
    pub ended: Option<String>,
    /// SIGTERM to the end, while the flood goes on. None: it had to be killed.
    pub sigterm_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub seconds: f64,
    pub floods: Vec<Row>,
    /// The largest share that an honest client lost in any flood.
    pub worst_loss: f64,
    pub worst_rss_kib: u64,
    /// None: one did not heal.
    pub worst_heal_ms: Option<f64>,
    /// None: one did not end.
    pub worst_sigterm_ms: Option<f64>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    let berth = options.berth.clone().map_or_else(beside_us, Ok)?;
    let wanted = |flood: &&Flood| {
        options.only.is_empty() || options.only.iter().any(|name| name == flood.name)
    };
    let mut rows = Vec::new();
    for flood in FLOODS.iter().filter(wanted) {
        eprintln!("  {}", flood.name);
        rows.push(one(flood, &berth, Duration::from_secs_f64(options.seconds))?);
    }
    let report = Report::new(options.seconds, rows);
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

fn one(flood: &Flood, berth: &Path, length: Duration) -> Result<Row, Error> {
    let (peace, began) = (length / 2, Instant::now());
    // The program is told when to begin: what it may look at meanwhile is not sure.
    let patience = Duration::from_secs(5) + peace;
    let words = match flood.what {
        What::Program(what) => format!("--flood {what} --after-ms {}", patience.as_millis()),
        _ => String::new(),
    };
    let mut stand = Stand::new(flood.verb, berth, &words)?;
    let quiet = phase(&stand, peace)?;
    if matches!(flood.what, What::Program(_)) {
        std::thread::sleep(patience.saturating_sub(began.elapsed()));
    }
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Stops when this is left, whichever way.
        let _stop = Stops(&stop);
        let send = sender(&flood.what, &stand)?;
        scope.spawn(|| send.map(|send| at_rate(&flood.what, send, &stop, &sent)));
        let began = Instant::now();
        let phase = phase(&stand, length)?;
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let rate = sent.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        let (ended, sigterm_ms) = (stand.ended(), stand.end());
        let sent_per_second = (!matches!(flood.what, What::Program(_))).then_some(rate);
        let heals = flood.verb != Verb::Serve;
        Ok(Row { name: flood.name, heals, quiet, flood: phase, sent_per_second, ended, sigterm_ms })
    })
}

struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The honest clients for so long, and our table flushed in the middle of it.
fn phase(stand: &Stand, length: Duration) -> Result<Phase, Error> {
    let (began, before, logged) = (Instant::now(), stand.process().cpu(), stand.log_bytes());
    let (clients, heal_ms) = std::thread::scope(|scope| {
        let healing = scope.spawn(|| {
            std::thread::sleep(length / 2);
            stand.heal()
        });
        let clients = honest::measure(stand, length);
        (clients, healing.join().ok().flatten())
    });
    let cpu =
        stand.process().cpu().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
    let peak_rss_kib = stand.process().peak_rss_kib();
    let [neighbours, fdb, advertised_routes] = stand.kernel();
    let log_bytes = stand.log_bytes() - logged;
    let clients = clients?;
    Ok(Phase { clients, heal_ms, peak_rss_kib, cpu, neighbours, fdb, advertised_routes, log_bytes })
}

/// Sends the n-th; whether it was let in.
type Sender = Box<dyn FnMut(u32) -> bool + Send>;

/// None where nothing is to be sent by us.
fn sender(what: &What, stand: &Stand) -> Result<Option<Sender>, Error> {
    Ok(match *what {
        What::Nothing | What::Program(_) => None,
        What::Frames(_, make) => {
            let (mut wire, ends) = (stand.wire()?, stand.ends()?);
            Some(Box::new(move |number| make(ends, number).is_some_and(|frame| wire(&frame))))
        }
        What::Connections(_) => {
            let (mut held, resolver) = (VecDeque::new(), stand.resolver());
            let netns = stand.inner().name().to_owned();
            Some(Box::new(move |_| {
                let Ok(opened) = inside(&netns, || at("connecting", slow(resolver))) else {
                    return false;
                };
                held.push_back(opened);
                // The oldest makes room.
                if held.len() > CONNECTIONS {
                    held.pop_front();
                }
                true
            }))
        }
    })
}

/// A connection that has sent the length of a question and its first octet.
fn slow(resolver: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&resolver, Duration::from_millis(200))?;
    stream.write_all(&[0, 40, 0]).map(|()| stream)
}

/// Until it is stopped. Behind its time it catches up, as far as it gets.
fn at_rate(what: &What, mut send: Sender, stop: &AtomicBool, sent: &AtomicU64) {
    let (What::Frames(rate, _) | What::Connections(rate)) = *what else { return };
    let (start, mut number) = (Instant::now(), 0u32);
    while !stop.load(Ordering::Relaxed) {
        if start.elapsed().as_secs_f64() * f64::from(rate) < f64::from(number) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        number = number.wrapping_add(1);
        sent.fetch_add(u64::from(send(number)), Ordering::Relaxed);
    }
}

impl Report {
    fn new(seconds: f64, floods: Vec<Row>) -> Self {
        let losses =
            floods.iter().flat_map(|row| row.flood.clients.values()).map(|times| times.lost);
        let worst = |figures: Vec<Option<f64>>| {
            figures
                .into_iter()
                .try_fold(0.0, |worst: f64, figure| figure.map(|figure| worst.max(figure)))
        };
        Self {
            seconds,
            worst_loss: losses.fold(0.0, f64::max),
            worst_rss_kib: floods
                .iter()
                .filter_map(|row| row.flood.peak_rss_kib)
                .max()
                .unwrap_or(0),
            worst_heal_ms: worst(
                floods.iter().filter(|row| row.heals).map(|row| row.flood.heal_ms).collect(),
            ),
            worst_sigterm_ms: worst(floods.iter().map(|row| row.sigterm_ms).collect()),
            floods,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "floods of {} s; quiet > during it. Honest clients: median/p99 ms (lost %)",
            self.seconds
        )?;
        writeln!(
            f,
            "{:<17}{:>8} | {:<38} | {:<38} | {:<38} | {:<16} | {:<12} | {:<9} | {:>11} | {:>11} | {:>6} | {:>3} | {:>9}",
            "",
            "sent/s",
            "to the guest and back",
            "DNS",
            "DHCP",
            "heal ms",
            "RSS MiB",
            "CPU %",
            "neighbours",
            "FDB",
            "SIGTERM ms",
            "RA",
            "log octets"
        )?;
        for row in &self.floods {
            let (quiet, flood) = (&row.quiet, &row.flood);
            let clients = |service| {
                let of = |phase: &Phase| phase.clients.get(&service).map_or("-".to_owned(), cell);
                format!("{} > {}", of(quiet), of(flood))
            };
            let heal = |phase: &Phase| match phase.heal_ms {
                None if row.heals => "never".to_owned(),
                healed => healed.map_or("-".to_owned(), |ms| format!("{ms:.1}")),
            };
            #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
            let rss =
                |phase: &Phase| phase.peak_rss_kib.map_or(f64::NAN, |kib| kib as f64 / 1024.0);
            writeln!(
                f,
                "{:<17}{:>8} | {:<38} | {:<38} | {:<38} | {:<16} | {:<12} | {:<9} | {:>11} | {:>11} | {:>10} | {:>3} | {:>9}",
                row.name,
                row.sent_per_second.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
                clients(Service::Nat),
                clients(Service::Dns),
                clients(Service::Dhcp),
                format!("{} > {}", heal(quiet), heal(flood)),
                format!("{:.1} > {:.1}", rss(quiet), rss(flood)),
                format!("{:.0} > {:.0}", quiet.cpu * 100.0, flood.cpu * 100.0),
                format!("{} > {}", quiet.neighbours, flood.neighbours),
                format!("{} > {}", quiet.fdb, flood.fdb),
                row.sigterm_ms.map_or("never".to_owned(), |ms| format!("{ms:.0}")),
                flood.advertised_routes,
                flood.log_bytes,
            )?;
        }
        for row in &self.floods {
            if let Some(ended) = &row.ended {
                writeln!(f, "{}: berth ended in the flood: {ended}", row.name)?;
            }
        }
        Ok(())
    }
}

fn cell(times: &Times) -> String {
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    format!("{}/{} ({:.0})", ms(times.median_ms), ms(times.p99_ms), times.lost * 100.0)
}
