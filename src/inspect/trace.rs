//! `berth nft trace`: marks packets, hears what the rules do to them, and tells it packet by packet.
//!
//! The table that marks them belongs to the socket that loaded it, so that not even SIGKILL leaves it behind.

mod json;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;
use crate::cli::Output;
use crate::cli::nft::Trace;
use crate::exit::Code;
use crate::nft::dump::Filter as Which;
use crate::nft::trace::{Event, Filter, Groups, Net, Traced, ruleset};
use crate::nft::{Family, Ruleset};
use crate::sys::netlink::trace::{Heard, Traces, table_name};
use crate::sys::netlink::{self, Firewall};

/// Prints packets as they pass the rules, until the limit or a signal.
pub async fn run(wanted: &Trace, out: &mut impl Write) -> Result<Code, Error> {
    let filter = filter(wanted).map_err(Error::Usage)?;
    let mut signals = Signals::listen().map_err(Error::Signals)?;
    let table = table_name();
    let firewall = Firewall::start()?;
    // Heard before it is loaded: no packet is missed.
    let mut session = Session {
        traces: Traces::open()?,
        rules: Rules::default(),
        groups: Groups::new(&table),
        teller: Teller::new(wanted, now()),
        lost: 0,
    };
    firewall.commit(ruleset(&table, &filter)).await?;
    let ended = session.watch(&firewall, wanted, &mut signals, out).await;
    // It would go by itself, but not before the process does.
    let removed = firewall.remove(vec![(Family::INET, table)]).await;
    session.finish(&ended?, out)?;
    removed?;
    Ok(Code::Success)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a verb: the clock is read here and given to the cores"
)]
fn now() -> Instant {
    Instant::now()
}

fn filter(wanted: &Trace) -> Result<Filter, String> {
    let net = |option: &str, word: &Option<String>| match word {
        Some(word) => word.parse::<Net>().map(Some).map_err(|error| format!("--{option}: {error}")),
        None => Ok(None),
    };
    let protocol = wanted.protocol.as_deref().map(Filter::protocol).transpose();
    let iif = wanted.iif.as_deref().map(str::parse).transpose();
    let filter = Filter {
        from: net("from", &wanted.from)?,
        to: net("to", &wanted.to)?,
        protocol: protocol.map_err(|error| format!("--protocol: {error}"))?,
        port: wanted.port,
        iif: iif.map_err(|error: crate::net::Error| format!("--iif: {error}"))?,
    };
    filter.contradiction().map_or(Ok(filter), Err)
}

/// Why it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// As many packets as asked for, or the time is over, or a signal came.
    Done,
    /// Nobody reads any more.
    Unread,
}

struct Session {
    traces: Traces,
    rules: Rules,
    groups: Groups,
    teller: Teller,
    lost: u64,
}

impl Session {
    async fn watch(
        &mut self,
        firewall: &Firewall,
        wanted: &Trace,
        signals: &mut Signals,
        out: &mut impl Write,
    ) -> Result<Ended, Error> {
        let end = wanted.time.map(|time| now() + time);
        loop {
            while let Some(traced) = self.groups.poll(now()) {
                if !self.teller.print(&traced, &self.traces, out)? {
                    return Ok(Ended::Unread);
                }
                if self.teller.enough() {
                    return Ok(Ended::Done);
                }
            }
            tokio::select! {
                heard = self.traces.hear() => {
                    for heard in heard? {
                        self.take(heard, firewall).await?;
                    }
                }
                () = until(self.groups.deadline()) => {}
                () = until(end) => return Ok(Ended::Done),
                () = signals.any() => return Ok(Ended::Done),
            }
        }
    }

    async fn take(&mut self, heard: Heard, firewall: &Firewall) -> Result<(), Error> {
        match heard {
            Heard::Lost => self.lost += 1,
            Heard::Changed => self.rules.stale = true,
            Heard::Event(event) => {
                let mark = Groups::is_mark(&event);
                let rule = if mark { None } else { self.rules.text(&event, firewall).await? };
                self.groups.add(now(), *event, rule);
            }
        }
        Ok(())
    }

    /// What is still under way, unless there were enough or nobody reads, and the sums.
    fn finish(&mut self, ended: &Ended, out: &mut impl Write) -> Result<(), Error> {
        if *ended == Ended::Unread {
            return Ok(());
        }
        for traced in self.groups.rest() {
            if self.teller.enough() || !self.teller.print(&traced, &self.traces, out)? {
                break;
            }
        }
        self.teller.sums(self.lost, self.groups.foreign(), out)
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// The rules by table and handle, as text.
#[derive(Debug)]
struct Rules {
    text: BTreeMap<(Family, String, u64), String>,
    /// Not there when last looked for.
    absent: BTreeSet<(Family, String, u64)>,
    stale: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { text: BTreeMap::new(), absent: BTreeSet::new(), stale: true }
    }
}

impl Rules {
    /// The text of an event's rule. The rules are read again when the ruleset changed or the rule is not known.
    async fn text(&mut self, event: &Event, firewall: &Firewall) -> Result<Option<String>, Error> {
        let Some(handle) = event.handle() else {
            return Ok(None);
        };
        let key = (event.family, event.table.clone(), handle);
        if self.stale || !(self.text.contains_key(&key) || self.absent.contains(&key)) {
            match firewall.dump(Which::default()).await {
                Ok((_, ruleset)) => self.learn(&ruleset),
                // Rules that change without pause: tell what is known.
                Err(netlink::Error::Busy) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let text = self.text.get(&key).cloned();
        if text.is_none() {
            self.absent.insert(key);
        }
        Ok(text)
    }

    fn learn(&mut self, ruleset: &Ruleset) {
        self.text.clear();
        self.absent.clear();
        for table in &ruleset.tables {
            for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
                if let Some(handle) = rule.handle.0 {
                    self.text
                        .insert((table.family, table.name.clone(), handle), table.rule_text(rule));
                }
            }
        }
        self.stale = false;
    }
}

/// Prints packets, and counts them.
struct Teller {
    output: Output,
    colour: bool,
    count: Option<u64>,
    began: Instant,
    printed: u64,
}

impl Teller {
    fn new(wanted: &Trace, began: Instant) -> Self {
        let colour = wanted.output == Output::Text && io::stdout().is_terminal();
        Self { output: wanted.output, colour, count: wanted.count, began, printed: 0 }
    }

    fn enough(&self) -> bool {
        self.count.is_some_and(|count| self.printed >= count)
    }

    /// Whether somebody still reads.
    fn print(
        &mut self,
        traced: &Traced,
        traces: &Traces,
        out: &mut impl Write,
    ) -> Result<bool, Error> {
        self.printed += 1;
        let seconds = traced.began.saturating_duration_since(self.began).as_secs_f64();
        let named = |index: u32| traces.interface(index).unwrap_or_else(|| format!("if{index}"));
        let text = match self.output {
            Output::Text => text::packet(traced, self.printed, seconds, &named, self.colour),
            Output::Json => json::packet(traced, self.printed, seconds, &named),
        };
        read(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    fn sums(&self, lost: u64, foreign: u64, out: &mut impl Write) -> Result<(), Error> {
        let text = match self.output {
            Output::Text => text::sums(self.printed, lost, foreign),
            Output::Json => json::sums(self.printed, lost, foreign),
        };
        read(out.write_all(text.as_bytes()).and_then(|()| out.flush())).map(drop)
    }
}

/// False when the reader is gone (`| head`).
fn read(written: io::Result<()>) -> Result<bool, Error> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Write(error)),
    }
}

/// What ends a trace from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
