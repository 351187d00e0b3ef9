//! Our table spoiled by somebody, and how long until it is whole again: from the one transaction to the other, as a
//! third party hears them.

use std::fmt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use berth::observe::{self, Counts, Pod, Rules};
use berth::sys::netlink::Firewall;
use berth::sys::netlink::watch::Transactions;
use rustix::process::setpriority_process;
use serde::Serialize;
use tokio::sync::watch;

use super::program;
use crate::Error;
use crate::stats::Summary;

/// Longer than the observer's ration asks for, so that none is put off.
const PAUSE: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
pub struct Report {
    /// The table deleted over netlink, by a process that stays.
    netlink: Summary,
    /// `nft flush ruleset`: the process ends, and the kernel cleans up after it.
    process: Summary,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "our table gone, from the other's transaction to ours")?;
        writeln!(f, "  {:<22}{}", "deleted over netlink", self.netlink)?;
        writeln!(f, "  {:<22}{}", "nft flush ruleset", self.process)
    }
}

/// Rules alone: nobody touches the links here.
struct Here(Rules);

impl Pod for Here {
    async fn mend_links(&self) -> Result<bool, String> {
        Ok(false)
    }

    async fn rules(&self) -> Result<Rules, String> {
        Ok(self.0.clone())
    }
}

pub fn run(runs: usize) -> Result<Report, Error> {
    let nat = super::commit::plan(&[]);
    let rules = Rules { nat, mapping: super::commit::mapping() };
    let (stop, stopping) = watch::channel(false);
    let (tell, ready) = mpsc::channel();
    std::thread::scope(|scope| {
        let observing = scope.spawn(|| observe(rules.clone(), stopping, &tell));
        let measured = ready
            .recv_timeout(PATIENCE)
            .map_err(|_| Error::Step("the observer did not start".into()))
            .and_then(|()| measure(&rules, runs));
        let _ = stop.send(true);
        let ended = observing.join().map_err(|_| Error::Step("the observer stopped".into()))?;
        ended.and(measured)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Error::Step(format!("starting a runtime: {error}")))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn step(error: berth::sys::netlink::Error) -> Error {
    Error::Step(berth::exit::error_chain(&error))
}

fn observe(
    rules: Rules,
    stopping: watch::Receiver<bool>,
    ready: &mpsc::Sender<()>,
) -> Result<(), Error> {
    runtime()?.block_on(async {
        let firewall = Firewall::start().map_err(step)?;
        firewall.commit(rules.nat.clone()).await.map_err(step)?;
        let (counts, _) = watch::channel(Counts::default());
        let here = Here(rules.clone());
        let observing = observe::run(&firewall, rules, &here, &counts, stopping);
        tokio::pin!(observing);
        tokio::select! {
            () = &mut observing => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(100)) => drop(ready.send(())),
        }
        observing.await;
        Ok(())
    })
}

fn measure(rules: &Rules, runs: usize) -> Result<Report, Error> {
    let (hearing, heard) = mpsc::channel();
    let (stop, stopping) = watch::channel(false);
    std::thread::scope(|scope| {
        let listener = scope.spawn(|| listen(&hearing, stopping));
        let measured = disturb(rules, runs, &heard);
        let _ = stop.send(true);
        let ended = listener.join().map_err(|_| Error::Step("the listener stopped".into()))?;
        ended.and(measured)
    })
}

fn disturb(rules: &Rules, runs: usize, heard: &mpsc::Receiver<Instant>) -> Result<Report, Error> {
    let runtime = runtime()?;
    let disturber = runtime.block_on(async { Firewall::start() }).map_err(step)?;
    let tables: Vec<_> =
        rules.nat.tables.iter().map(|table| (table.family, table.name.clone())).collect();
    let (mut netlink, mut process) = (Vec::new(), Vec::new());
    heard.recv_timeout(PATIENCE).map_err(|_| Error::Step("the listener did not start".into()))?;
    for _ in 0..runs {
        runtime.block_on(disturber.remove(tables.clone())).map_err(step)?;
        netlink.push(between(heard)?);
        program(&["nft", "flush", "ruleset"])?;
        process.push(between(heard)?);
    }
    let of = |samples: &[Duration]| {
        Summary::of(samples).ok_or_else(|| Error::Step("nothing was measured".into()))
    };
    Ok(Report { netlink: of(&netlink)?, process: of(&process)? })
}

/// A program that spoils our table, in the namespace of the calling thread, and how long until it is whole again.
pub fn once(spoils: &[&str]) -> Result<Duration, Error> {
    let (hearing, heard) = mpsc::channel();
    let (stop, stopping) = watch::channel(false);
    std::thread::scope(|scope| {
        let listener = scope.spawn(|| listen(&hearing, stopping));
        let listening = heard
            .recv_timeout(PATIENCE)
            .map_err(|_| Error::Step("the listener did not start".into()));
        let taken = listening.and_then(|_| program(spoils)).and_then(|()| between(&heard));
        let _ = stop.send(true);
        let ended = listener.join().map_err(|_| Error::Step("the listener stopped".into()))?;
        ended.and(taken)
    })
}

/// Tells when transactions are heard. Comes first on its processor: woken late, it would hear two at once.
fn listen(tell: &mpsc::Sender<Instant>, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
    setpriority_process(None, -20)
        .map_err(|error| Error::Step(format!("raising the priority: {error}")))?;
    runtime()?.block_on(async {
        let mut transactions = Transactions::open().map_err(step)?;
        loop {
            // The first says that it listens.
            let _ = tell.send(Instant::now());
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                heard = transactions.next() => heard.map_err(step)?,
            };
        }
    })
}

/// The time between the next two transactions.
fn between(heard: &mpsc::Receiver<Instant>) -> Result<Duration, Error> {
    let next = || {
        heard.recv_timeout(PATIENCE).map_err(|_| Error::Step("our table was not restored".into()))
    };
    let (disturbed, restored) = (next()?, next()?);
    std::thread::sleep(PAUSE);
    Ok(restored - disturbed)
}
