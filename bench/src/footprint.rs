//! What a launcher costs while its guest runs and does nothing: memory, threads, wake-ups; one of them, and many.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::launcher::Launcher;
use crate::process::{Process, WakeUps};
use crate::startup::{is_static, release_build};
use crate::stats::median;
use crate::{Error, at};

/// A guest without a system is through with its firmware by then.
const SETTLE: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
pub struct Options {
    /// Launchers at once
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    launchers: Vec<usize>,
    /// Seconds that wake-ups are counted for
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: u64,
    /// The berth to measure [default: the static release build, made by `make build` when missing]
    #[arg(long)]
    berth: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// So many launchers at once; medians over them.
#[derive(Debug, Serialize)]
pub struct Crowd {
    pub launchers: usize,
    pub rss_kib: f64,
    pub pss_kib: f64,
    pub most_pss_kib: f64,
    pub threads: f64,
    pub wake_ups_per_minute: f64,
    pub cpu_ms_per_minute: f64,
    /// Until all of them had started QEMU.
    pub seconds: f64,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub binary_bytes: u64,
    pub statically_linked: bool,
    pub crowds: Vec<Crowd>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    let berth = options.berth.clone().map_or_else(release_build, Ok)?;
    let mut crowds = Vec::new();
    for &launchers in &options.launchers {
        eprintln!("  {launchers} launchers");
        crowds.push(crowd(&berth, launchers, Duration::from_secs(options.watch))?);
    }
    let report = Report {
        binary_bytes: at("reading the binary's size", std::fs::metadata(&berth))?.len(),
        statically_linked: is_static(&berth)?,
        crowds,
    };
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

impl Launcher {
    fn process(&self) -> Process {
        Process(self.running.0.id())
    }
}

fn crowd(berth: &std::path::Path, launchers: usize, watch: Duration) -> Result<Crowd, Error> {
    let began = Instant::now();
    let all =
        (0..launchers).map(|_| Launcher::start(berth, |_| {})).collect::<Result<Vec<_>, _>>()?;
    for launcher in &all {
        while !has_child(launcher.process()) {
            if began.elapsed() > Duration::from_secs(120) {
                return Err(Error::Step("a launcher did not start QEMU".into()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    // Firmware under emulation takes its time on few processors.
    std::thread::sleep(
        SETTLE + Duration::from_millis(400) * u32::try_from(launchers).unwrap_or(100),
    );
    let before: Vec<(WakeUps, Duration)> =
        all.iter().map(|one| (one.process().wake_ups(), one.process().cpu())).collect();
    std::thread::sleep(watch);
    let minutes = watch.as_secs_f64() / 60.0;
    #[expect(clippy::cast_precision_loss, reason = "figures for reading")]
    let middle = |figure: &dyn Fn(Process) -> Option<u64>| {
        median(all.iter().filter_map(|one| figure(one.process()).map(|figure| figure as f64)))
            .unwrap_or_default()
    };
    #[expect(clippy::cast_precision_loss, reason = "figures for reading")]
    let wakes = all
        .iter()
        .zip(&before)
        .map(|(one, (wakes, _))| one.process().wake_ups().since(wakes) as f64 / minutes);
    let cpu = all.iter().zip(&before).map(|(one, (_, cpu))| {
        one.process().cpu().saturating_sub(*cpu).as_secs_f64() * 1e3 / minutes
    });
    let (wake_ups_per_minute, ..) = median(wakes).unwrap_or_default();
    let (cpu_ms_per_minute, ..) = median(cpu).unwrap_or_default();
    let pss = middle(&Process::pss_kib);
    Ok(Crowd {
        launchers,
        rss_kib: middle(&Process::rss_kib).0,
        pss_kib: pss.0,
        most_pss_kib: pss.2,
        threads: middle(&Process::threads).0,
        wake_ups_per_minute,
        cpu_ms_per_minute,
        seconds,
    })
}

/// QEMU, by whatever name.
fn has_child(process: Process) -> bool {
    let path = format!("/proc/{0}/task/{0}/children", process.0);
    std::fs::read_to_string(path).is_ok_and(|children| !children.trim().is_empty())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let linking = if self.statically_linked { "static" } else { "dynamic" };
        #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
        let binary = self.binary_bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "launchers of guests that do nothing; the binary has {binary:.1} MiB, {linking}"
        )?;
        writeln!(
            f,
            "{:>9} | {:>8} {:>8} {:>8} | {:>7} {:>12} {:>10} | {:>8}",
            "launchers",
            "RSS MiB",
            "PSS MiB",
            "most",
            "threads",
            "wake-ups/min",
            "CPU ms/min",
            "all up s"
        )?;
        for crowd in &self.crowds {
            writeln!(
                f,
                "{:>9} | {:>8.2} {:>8.2} {:>8.2} | {:>7.0} {:>12.1} {:>10.1} | {:>8.1}",
                crowd.launchers,
                crowd.rss_kib / 1024.0,
                crowd.pss_kib / 1024.0,
                crowd.most_pss_kib / 1024.0,
                crowd.threads,
                crowd.wake_ups_per_minute,
                crowd.cpu_ms_per_minute,
                crowd.seconds
            )?;
        }
        Ok(())
    }
}
