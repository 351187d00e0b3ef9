//! What was measured, as a table, as JSON and CSV, and as plots.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Outcome;
use super::perfdhcp::Agreement;
use crate::plot::{Axis, Chart, short};
use crate::stats::median;

/// Of a curve: 1 - 10^-n, in quarters of n.
const CURVE: u32 = 16;

/// Times of one leg. Milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Leg {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// Share of the exchanges that took no longer, and how long.
    pub curve: Vec<(f64, f64)>,
}

impl Leg {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of less than 2^52")]
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |share: f64| histogram.value_at_quantile(share) as f64 / 1e6;
        let share = |step: u32| 1.0 - 10f64.powf(-f64::from(step) / 4.0);
        let known = |share: &f64| (1.0 - share) * histogram.len() as f64 >= 1.0;
        let curve = (0..=CURVE).map(share).filter(known).map(|share| (share, at(share))).collect();
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e6,
            curve,
        }
    }
}

/// Leases that were made before.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    pub wanted: u32,
    pub had: u64,
    pub seconds: f64,
}

/// One server in one round.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Round {
    pub offer: Leg,
    pub ack: Leg,
    pub whole: Leg,
    pub begun: u64,
    pub done: u64,
    pub per_second: f64,
    /// Of one.
    pub loss: f64,
    pub dropped_offers: u64,
    pub dropped_acks: u64,
    pub retransmitted: u64,
    /// Packets that the driver sent more than a millisecond too late.
    pub late: u64,
    pub wrong: BTreeMap<&'static str, u64>,
    pub duplicates: usize,
    /// By tenths of a second: exchanges, their mean and their longest time in milliseconds.
    pub series: Vec<(u64, f64, f64)>,
    /// The highest rate that held, and what was tried: rate, loss, p99 in milliseconds.
    pub limit: Option<f64>,
    pub tried: Vec<(f64, f64, f64)>,
    /// Of the server, for an exchange.
    pub cpu_us: Option<f64>,
    pub rss_kib: Option<u64>,
    pub held: Option<Held>,
    /// Exchanges in all, counted or not.
    pub all: u64,
}

impl Round {
    /// The latest outcome stands; mistakes add up.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of less than 2^52")]
    pub fn add<A>(&mut self, outcome: &Outcome<A>) {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        self.offer = Leg::of(&outcome.offer);
        self.ack = Leg::of(&outcome.ack);
        self.whole = Leg::of(&outcome.whole);
        (self.begun, self.done) = (outcome.begun, outcome.done);
        (self.per_second, self.loss) = (outcome.rate(), outcome.loss());
        (self.dropped_offers, self.dropped_acks) = (outcome.dropped_offers, outcome.dropped_acks);
        (self.retransmitted, self.late) = (outcome.retransmitted, outcome.late);
        self.series = outcome
            .series
            .iter()
            .map(|(count, mean, most)| (*count, millis(*mean), millis(*most)))
            .collect();
        self.mistakes(outcome);
    }

    pub fn mistakes<A>(&mut self, outcome: &Outcome<A>) {
        for (what, count) in &outcome.wrong {
            *self.wrong.entry(what).or_default() += count;
        }
        self.duplicates += outcome.duplicates.len();
    }
}

#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: String,
    pub version: String,
    pub rounds: Vec<Round>,
    /// Of its whole exchange's mean, and of its limit, to berth's of the same round: medians.
    pub times_berth: Option<f64>,
    pub limit_of_berth: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub exchange: String,
    /// What the protocol calls the answers of both legs.
    pub legs: [&'static str; 2],
    pub rate: f64,
    pub held: u32,
    pub servers: Vec<Measured>,
    pub agreement: Vec<Agreement>,
}

impl Measured {
    pub fn middle(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure)).map_or(0.0, |(middle, ..)| middle)
    }
}

impl Report {
    pub fn new(exchange: &str, legs: [&'static str; 2], rate: f64, held: u32) -> Self {
        let exchange = exchange.to_uppercase();
        Self { exchange, legs, rate, held, servers: Vec::new(), agreement: Vec::new() }
    }

    pub fn add(&mut self, name: &str, version: impl FnOnce() -> String, round: Round) {
        match self.servers.iter_mut().find(|server| server.name == name) {
            Some(server) => server.rounds.push(round),
            None => self.servers.push(Measured {
                name: name.to_owned(),
                version: version(),
                rounds: vec![round],
                times_berth: None,
                limit_of_berth: None,
            }),
        }
    }

    /// Ratios to berth, round by round.
    pub fn finish(&mut self) {
        let Some(berth) = self.servers.iter().find(|server| server.name == "berth") else { return };
        let berth = berth.rounds.clone();
        for server in &mut self.servers {
            let ratio = |figure: &dyn Fn(&Round) -> f64| {
                let both = server.rounds.iter().zip(&berth);
                let ratios = both.map(|(own, berth)| (figure(own), figure(berth)));
                median(ratios.filter(|(_, berth)| *berth > 0.0).map(|(own, berth)| own / berth))
                    .map(|(middle, ..)| middle)
            };
            server.times_berth = ratio(&|round| round.whole.mean);
            server.limit_of_berth =
                ratio(&|round| round.limit.unwrap_or(0.0)).filter(|ratio| *ratio > 0.0);
        }
    }

    /// What no server may do, in words.
    pub fn mistakes(&self) -> Option<String> {
        let of = |server: &Measured| {
            let duplicates: usize = server.rounds.iter().map(|round| round.duplicates).sum();
            let wrong: u64 = server.rounds.iter().flat_map(|round| round.wrong.values()).sum();
            let kinds: Vec<&str> =
                server.rounds.iter().flat_map(|round| round.wrong.keys().copied()).collect();
            (duplicates + kinds.len() > 0).then(|| {
                format!(
                    "{}: {duplicates} addresses given to two clients, {wrong} wrong replies {kinds:?}",
                    server.name
                )
            })
        };
        self.servers.iter().find_map(of)
    }

    /// Percentiles of every run, a line each.
    pub fn csv(&self) -> String {
        let mut text = "server,round,leg,share,milliseconds\n".to_owned();
        let [offer, ack] = self.legs.map(str::to_lowercase);
        for server in &self.servers {
            for (number, round) in server.rounds.iter().enumerate() {
                for (leg, times) in
                    [(&*offer, &round.offer), (&ack, &round.ack), ("whole", &round.whole)]
                {
                    for (share, millis) in &times.curve {
                        let _ = writeln!(
                            text,
                            "{},{},{leg},{share:.6},{millis:.6}",
                            server.name,
                            number + 1
                        );
                    }
                }
            }
        }
        text
    }

    pub fn charts(&self) -> Vec<(&'static str, Chart)> {
        let each = |points: &dyn Fn(&Round) -> Vec<(f64, f64)>| {
            let last =
                |server: &Measured| Some((server.name.clone(), points(server.rounds.last()?)));
            self.servers.iter().filter_map(last).collect::<Vec<_>>()
        };
        let nines = |place: f64| format!("{} %", short((1.0 - 1.0 / place) * 100.0));
        let axis = |label: &str, format: fn(f64) -> String, logarithmic| Axis {
            label: label.into(),
            format,
            logarithmic,
        };
        let what = format!("{} at {} a second", self.exchange, short(self.rate));
        let mut charts = vec![
            (
                "latency.svg",
                Chart {
                    title: format!("{what}: exchanges that took no longer"),
                    x: axis("share of the exchanges", nines, true),
                    y: axis("milliseconds", short, true),
                    series: each(&|round| {
                        round
                            .whole
                            .curve
                            .iter()
                            .map(|(share, millis)| (1.0 / (1.0 - share), *millis))
                            .collect()
                    }),
                },
            ),
            (
                "time.svg",
                Chart {
                    title: format!("{what}: longest exchange of each tenth of a second"),
                    x: axis("seconds", short, false),
                    y: axis("milliseconds", short, true),
                    series: each(&|round| {
                        let steps = (0u32..).zip(&round.series);
                        steps.map(|(step, (_, _, most))| (f64::from(step) / 10.0, *most)).collect()
                    }),
                },
            ),
        ];
        if self
            .servers
            .iter()
            .any(|server| server.rounds.iter().any(|round| !round.tried.is_empty()))
        {
            let by_rate = |round: &Round| {
                let mut points: Vec<(f64, f64)> = round
                    .tried
                    .iter()
                    .map(|(rate, loss, _)| (*rate, (loss * 100.0).max(0.001)))
                    .collect();
                points.sort_by(|one, other| one.0.total_cmp(&other.0));
                points
            };
            charts.push((
                "limit.svg",
                Chart {
                    title: "exchanges lost, by rate".into(),
                    x: axis("exchanges a second", short, true),
                    y: axis("% lost", short, true),
                    series: each(&by_rate),
                },
            ));
        }
        charts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held =
            if self.held > 0 { format!(", {} leases held", self.held) } else { String::new() };
        let rounds = self.servers.first().map_or(0, |server| server.rounds.len());
        writeln!(
            f,
            "{} at {:.0}/s{held}; medians of {rounds} rounds, milliseconds",
            self.exchange, self.rate
        )?;
        writeln!(
            f,
            "{:<10} {:>8} {:>7} | {:>9} {:>7} | {:>7} {:>7} | {:>7} {:>7} {:>7} {:>8} | {:>6} {:>6} | {:>7}",
            "",
            "done/s",
            "lost %",
            self.legs[0],
            "p99",
            self.legs[1],
            "p99",
            "whole",
            "p50",
            "p99",
            "p99.9",
            "CPU us",
            "MiB",
            "x berth"
        )?;
        for server in &self.servers {
            let middle = |figure: &dyn Fn(&Round) -> f64| server.middle(figure);
            writeln!(
                f,
                "{:<10} {:>8.0} {:>7.3} | {:>9.3} {:>7.3} | {:>7.3} {:>7.3} | {:>7.3} {:>7.3} {:>7.3} {:>8.3} | {:>6.1} {:>6.1} | {:>7}",
                server.name,
                middle(&|round| round.per_second),
                middle(&|round| round.loss * 100.0),
                middle(&|round| round.offer.mean),
                middle(&|round| round.offer.p99),
                middle(&|round| round.ack.mean),
                middle(&|round| round.ack.p99),
                middle(&|round| round.whole.mean),
                middle(&|round| round.whole.p50),
                middle(&|round| round.whole.p99),
                middle(&|round| round.whole.p999),
                middle(&|round| round.cpu_us.unwrap_or(0.0)),
                middle(&|round| mib(round.rss_kib)),
                server.times_berth.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            )?;
        }
        for server in &self.servers {
            let late: u64 = server.rounds.iter().map(|round| round.late).sum();
            if late > 0 {
                writeln!(
                    f,
                    "{}: {late} packets left more than 1 ms late: the driver had no processor",
                    server.name
                )?;
            }
            let Some((limit, least, most)) =
                median(server.rounds.iter().filter_map(|round| round.limit))
            else {
                continue;
            };
            let ratio = server
                .limit_of_berth
                .map_or(String::new(), |ratio| format!(", {ratio:.3} of berth's"));
            writeln!(
                f,
                "{}: holds {limit:.0}/s (min {least:.0}, max {most:.0}){ratio}",
                server.name
            )?;
        }
        for Agreement { server, rate, ours, perfdhcp, .. } in &self.agreement {
            writeln!(
                f,
                "{server} at {rate:.0}/s as a relay: ours {:.3} and {:.3} ms, perfdhcp {:.3} and {:.3} ms",
                ours.0, ours.1, perfdhcp.0, perfdhcp.1
            )?;
        }
        for found in &self.agreement {
            writeln!(f, "{}: within {:.0} % of perfdhcp", found.server, found.distance * 100.0)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
fn mib(kib: Option<u64>) -> f64 {
    kib.unwrap_or(0) as f64 / 1024.0
}
