//! DNS forwarders: CPU for an answer, answers a second, and how long they take: remembered ones, and ones that an
//! upstream has to be asked for.
//!
//! Each server stands in a namespace of its own, with the same upstream (dnsmasq that knows everything) behind the link.
//! dnsperf drives them as fast as they go; our own driver sends by a schedule that no answer delays, and counts a time
//! from when the question was due.

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::dhcp::beside_us;
use crate::netns::Pair;
use crate::process::{Process, Running, started};
use crate::stats::median;
use crate::{Error, at};

const UPSTREAM: &str = "10.77.0.2";
const UPSTREAM_PORT: u16 = 5300;
const NAMES: usize = 500;
/// A question without an answer for so long is lost.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Server {
    Berth,
    Dnsmasq,
    Unbound,
}

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, value_delimiter = ',', default_value = "berth,dnsmasq,unbound")]
    against: Vec<Server>,
    /// Questions a second, by a schedule that no answer delays
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Seconds of each measurement
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

/// One server in one round. Microseconds and answers a second.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Remembered answers, as fast as dnsperf goes, and the server's CPU for each.
    pub cached_per_second: f64,
    pub cached_cpu_us: f64,
    /// The same by a schedule: mean, p50, p99, and the share that was lost.
    pub cached: Times,
    /// Names nobody asked for yet, by dnsperf and by schedule.
    pub fresh_per_second: f64,
    pub fresh: Times,
    pub rss_kib: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Times {
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub lost: f64,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub rate: u32,
    pub servers: Vec<(String, Vec<Round>)>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    let berth = match &options.berth {
        Some(berth) => berth.clone(),
        None if options.against.contains(&Server::Berth) => beside_us()?,
        None => PathBuf::new(),
    };
    let mut servers: Vec<(String, Vec<Round>)> = options
        .against
        .iter()
        .map(|server| (format!("{server:?}").to_lowercase(), Vec::new()))
        .collect();
    for round in 0..options.rounds {
        for (server, (name, rounds)) in options.against.iter().zip(&mut servers) {
            eprintln!("  round {} of {}: {name}", round + 1, options.rounds);
            rounds.push(one(*server, options, &berth)?);
        }
    }
    let report = Report { rate: options.rate, servers };
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

fn one(server: Server, options: &Options, berth: &Path) -> Result<Round, Error> {
    let pair = Pair::new()?;
    let dir = at("a directory", tempfile::tempdir())?;
    let upstream = format!(
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --port={UPSTREAM_PORT} --user=root \
         --pid-file --address=/bench.example/192.0.2.7 --local-ttl=3600 --dns-forward-max=10000"
    );
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let _upstream =
        started("dnsmasq (Debian package dnsmasq-base)", pair.in_client(&words(&upstream)))?;
    let command = pair.in_server(&words(&line(server, dir.path(), berth)?));
    let running = started(&format!("{server:?}").to_lowercase(), command)?;
    pair.driving(|| {
        wait_for_answer()?;
        let file = |name: &str, first: usize, count: usize| -> Result<PathBuf, Error> {
            let lines: String = (first..first + count)
                .map(|number| format!("n{number}.bench.example A\n"))
                .collect();
            let path = dir.path().join(name);
            at("writing questions", std::fs::write(&path, lines)).map(|()| path)
        };
        let cached = file("cached", 0, NAMES)?;
        dnsperf(&cached, 1, &["-n", "1"])?;
        let seconds = options.duration;
        let (answers, cached_per_second, cpu) =
            with_cpu(&running, || dnsperf(&cached, seconds, &["-l", &seconds.to_string()]))?;
        let schedule =
            |first: usize, names: usize| by_schedule(options.rate, seconds, first, names);
        let times = schedule(0, NAMES)?;
        let fresh = file("fresh", 1_000_000, 200_000)?;
        let (_, fresh_per_second) = dnsperf(&fresh, seconds, &["-l", &seconds.to_string()])?;
        // Slower: every question costs the upstream's time, too.
        let rate = (options.rate / 5).max(1);
        let fresh = by_schedule(rate, seconds, 2_000_000, usize::MAX)?;
        #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
        let cached_cpu_us = cpu.as_secs_f64() * 1e6 / answers.max(1) as f64;
        let rss_kib = Process(running.0.id()).rss_kib();
        Ok(Round {
            cached_per_second,
            cached_cpu_us,
            cached: times,
            fresh_per_second,
            fresh,
            rss_kib,
        })
    })
}

fn line(server: Server, dir: &Path, berth: &Path) -> Result<String, Error> {
    Ok(match server {
        Server::Berth => format!(
            "{} serve --interface=s0 --no-dhcp --upstream={UPSTREAM}:{UPSTREAM_PORT} --log=warn",
            berth.display()
        ),
        Server::Dnsmasq => format!(
            "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file \
             --interface=s0 --bind-interfaces --server={UPSTREAM}#{UPSTREAM_PORT} --cache-size=10000"
        ),
        Server::Unbound => {
            let config = dir.join("unbound.conf");
            let text = format!(
                "server:\n interface: 10.77.0.1\n access-control: 10.77.0.0/16 allow\n username: \"\"\n chroot: \"\"\n \
                 directory: \"{dir}\"\n pidfile: \"\"\n use-syslog: no\n num-threads: 1\n do-ip6: no\n \
                 do-not-query-localhost: no\n module-config: \"iterator\"\n\
                 forward-zone:\n name: \".\"\n forward-addr: {UPSTREAM}@{UPSTREAM_PORT}\n",
                dir = dir.display()
            );
            at("writing unbound.conf", std::fs::write(&config, text))?;
            format!("unbound -d -p -c {}", config.display())
        }
    })
}

/// Wherever the calling thread is.
fn wait_for_answer() -> Result<(), Error> {
    let socket = connected()?;
    let mut buffer = [0; 1500];
    at("a time-out", socket.set_read_timeout(Some(Duration::from_millis(200))))?;
    for _ in 0..50 {
        // Refused as long as nobody listens.
        let sent = socket.send(&question(7, usize::MAX));
        if sent.is_ok() && socket.recv(&mut buffer).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::Step("the DNS server does not answer".into()))
}

fn connected() -> Result<UdpSocket, Error> {
    let socket = at("a UDP socket", UdpSocket::bind("0.0.0.0:0"))?;
    let server: SocketAddr = ([10, 77, 0, 1], 53).into();
    at("a UDP socket", socket.connect(server)).map(|()| socket)
}

fn question(id: u16, number: usize) -> Vec<u8> {
    let name = format!("n{number}");
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in [name.as_str(), "bench", "example", ""] {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 1, 0, 1]);
    bytes
}

fn with_cpu(
    running: &Running,
    work: impl FnOnce() -> Result<(u64, f64), Error>,
) -> Result<(u64, f64, Duration), Error> {
    let process = Process(running.0.id());
    let before = process.cpu();
    let (answers, rate) = work()?;
    Ok((answers, rate, process.cpu().saturating_sub(before)))
}

/// Answers, and answers a second.
fn dnsperf(questions: &Path, seconds: u32, words: &[&str]) -> Result<(u64, f64), Error> {
    let mut command = Command::new("dnsperf");
    command.args(["-s", "10.77.0.1", "-c", "4", "-q", "50", "-d"]).arg(questions).args(words);
    let output = at("dnsperf (Debian package dnsperf)", command.stdin(Stdio::null()).output())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |label: &str| {
        let rest = text.lines().find_map(|line| line.trim().strip_prefix(label))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let answers = figure("Queries completed:").unwrap_or(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of questions"
    )]
    let count = answers as u64;
    Ok((count, figure("Queries per second:").unwrap_or(answers / f64::from(seconds))))
}

/// Questions at this rate, of so many names in turn.
fn by_schedule(rate: u32, seconds: u32, first: usize, names: usize) -> Result<Times, Error> {
    let socket = connected()?;
    at("a UDP socket", socket.set_nonblocking(true))?;
    let mut times = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3)
        .map_err(|error| Error::Step(format!("histogram: {error}")))?;
    let (start, all) = (Instant::now(), u64::from(rate) * u64::from(seconds));
    let mut due_of: HashMap<u16, Instant> = HashMap::new();
    let (mut sent, mut answered, mut buffer) = (0u64, 0u64, [0; 1500]);
    loop {
        #[expect(clippy::cast_precision_loss, reason = "a schedule of less than 2^52 questions")]
        let due = start + Duration::from_secs_f64(sent as f64 / f64::from(rate));
        let now = Instant::now();
        if sent < all && due <= now {
            let id = u16::try_from(sent % 65_536).unwrap_or(0);
            let number = first + usize::try_from(sent).unwrap_or(0) % names;
            if at("a question", sent_or_full(&socket, &question(id, number)))? {
                due_of.insert(id, due);
            }
            sent += 1;
        }
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let id = buffer
                        .first_chunk()
                        .filter(|_| length > 12)
                        .map(|id| u16::from_be_bytes(*id));
                    if let Some(due) = id.and_then(|id| due_of.remove(&id)) {
                        let nanos = Instant::now().saturating_duration_since(due).as_nanos();
                        times.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
                        answered += 1;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return at("answers", Err(error)),
            }
        }
        if sent == all && (answered == all || now > due + TIMEOUT) {
            break;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "figures for reading")]
    let figures = Times {
        mean_us: times.mean() / 1e3,
        p50_us: times.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: times.value_at_quantile(0.99) as f64 / 1e3,
        lost: 1.0 - answered as f64 / all as f64,
    };
    Ok(figures)
}

/// False: the queue was full, the question is lost.
fn sent_or_full(socket: &UdpSocket, bytes: &[u8]) -> std::io::Result<bool> {
    match socket.send(bytes) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "DNS; medians. Remembered: dnsperf, then {}/s by schedule. Fresh: names nobody asked for yet",
            self.rate
        )?;
        writeln!(
            f,
            "{:<8} | {:>9} {:>7} | {:>8} {:>8} {:>7} | {:>8} {:>8} {:>8} {:>7} | {:>6} | {:>7}",
            "",
            "cached/s",
            "CPU us",
            "p50 us",
            "p99 us",
            "lost %",
            "fresh/s",
            "p50 us",
            "p99 us",
            "lost %",
            "MiB",
            "CPU x"
        )?;
        let berth = self.servers.iter().find(|(name, _)| name == "berth");
        for (name, rounds) in &self.servers {
            let middle = |figure: &dyn Fn(&Round) -> f64| {
                median(rounds.iter().map(figure)).map_or(0.0, |(m, ..)| m)
            };
            let ratios = berth.into_iter().flat_map(|(_, own)| own.iter().zip(rounds));
            let ratio = median(ratios.map(|(own, other)| own.cached_cpu_us / other.cached_cpu_us));
            #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
            let mib = |round: &Round| round.rss_kib.unwrap_or(0) as f64 / 1024.0;
            writeln!(
                f,
                "{name:<8} | {:>9.0} {:>7.2} | {:>8.0} {:>8.0} {:>7.3} | {:>8.0} {:>8.0} {:>8.0} {:>7.3} | {:>6.1} | {:>7}",
                middle(&|round| round.cached_per_second),
                middle(&|round| round.cached_cpu_us),
                middle(&|round| round.cached.p50_us),
                middle(&|round| round.cached.p99_us),
                middle(&|round| round.cached.lost * 100.0),
                middle(&|round| round.fresh_per_second),
                middle(&|round| round.fresh.p50_us),
                middle(&|round| round.fresh.p99_us),
                middle(&|round| round.fresh.lost * 100.0),
                middle(&mib),
                ratio.map_or(String::new(), |(ratio, ..)| format!("{ratio:.2}")),
            )?;
        }
        write!(f, "CPU x: berth's CPU for a remembered answer, of this server's")
    }
}
