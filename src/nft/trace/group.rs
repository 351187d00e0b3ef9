//! Events of one packet put together.
//!
//! The kernel does not say which event of a packet is its last, and gives the number of a packet that has gone to
//! one that comes. So a packet begins with the event of the rule that marked it, and ends when it is dropped, when
//! its number begins again, or when nothing was heard of it for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::Family;
use super::{Event, TABLE_PREFIX};

/// After so long without an event a packet has passed every chain. A queue to user space may take longer; then
/// the rest is not told.
const QUIET: Duration = Duration::from_millis(50);
/// Packets under way at a time; beyond, the first is told as it is.
const MOST_OPEN: u64 = 1024;
/// Steps kept of one packet; the rest is counted.
const MOST_STEPS: usize = 1024;

/// What is known of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// From 1, in the order the packets began.
    pub number: u64,
    /// The kernel's number of the packet, which comes again.
    pub id: u32,
    /// When its first event came.
    pub began: Instant,
    /// The event of the rule that marked it: the packet as it was then.
    pub first: Event,
    /// In the order they came.
    pub steps: Vec<TracedStep>,
    /// Steps that were too many to keep.
    pub more: usize,
}

/// An event, and the rule it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedStep {
    /// As the kernel told it.
    pub event: Event,
    /// The rule as nft writes it; None when it is gone.
    pub rule: Option<String>,
}

impl Traced {
    /// The event that ended it, if one did.
    pub(crate) fn dropped_by(&self) -> Option<&Event> {
        self.steps.last().map(|step| &step.event).filter(|event| event.drops())
    }
}

#[derive(Debug)]
struct Open {
    traced: Traced,
    last: Instant,
    ended: bool,
}

/// Packets under way, told in the order they began: [`Groups::add`] takes, [`Groups::poll`] gives.
#[derive(Debug)]
pub struct Groups {
    /// Our table, whose events begin packets and are not told.
    table: String,
    open: BTreeMap<u64, Open>,
    /// Numbers of the packets that have not ended, by the kernel's.
    numbers: BTreeMap<u32, u64>,
    began: u64,
    /// Events of packets that others marked.
    foreign: u64,
}

impl Groups {
    /// Of packets that rules of this table mark.
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            began: 0,
            foreign: 0,
        }
    }

    /// Whether the event's table marks packets: ours, or that of another trace.
    pub(crate) fn is_mark(event: &Event) -> bool {
        event.family == Family::INET && event.table.starts_with(TABLE_PREFIX)
    }

    /// Events that belong to no packet of ours.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Takes an event with the text of its rule.
    pub fn add(&mut self, now: Instant, event: Event, rule: Option<String>) {
        if Self::is_mark(&event) {
            // The end of our own chain tells nothing.
            if event.table == self.table && event.handle().is_some() {
                self.begin(now, event);
            }
            return;
        }
        let number = self.numbers.get(&event.id);
        let Some(open) = number.and_then(|number| self.open.get_mut(number)) else {
            self.foreign += 1;
            return;
        };
        open.last = now;
        open.ended = event.drops();
        if open.ended {
            self.numbers.remove(&event.id);
        }
        if open.traced.steps.len() < MOST_STEPS || open.ended {
            open.traced.steps.push(TracedStep { event, rule });
        } else {
            open.traced.more += 1;
        }
    }

    fn begin(&mut self, now: Instant, first: Event) {
        self.began += 1;
        let id = first.id;
        if let Some(before) = self.numbers.insert(id, self.began)
            && let Some(open) = self.open.get_mut(&before)
        {
            open.ended = true;
        }
        let traced =
            Traced { number: self.began, id, began: now, first, steps: Vec::new(), more: 0 };
        self.open.insert(self.began, Open { traced, last: now, ended: false });
    }

    /// The packet that began first, when it has ended.
    pub fn poll(&mut self, now: Instant) -> Option<Traced> {
        let first = self.open.first_entry()?;
        let open = first.get();
        let told = open.ended || open.last + QUIET <= now || self.began - *first.key() >= MOST_OPEN;
        if !told {
            return None;
        }
        let traced = first.remove().traced;
        if self.numbers.get(&traced.id) == Some(&traced.number) {
            self.numbers.remove(&traced.id);
        }
        Some(traced)
    }

    /// When [`Groups::poll`] will have something; None while no packet is under way.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open.first_key_value().map(|(_, open)| open.last + QUIET)
    }

    /// The packets under way, as far as they are known.
    pub fn rest(&mut self) -> Vec<Traced> {
        self.numbers.clear();
        std::mem::take(&mut self.open).into_values().map(|open| open.traced).collect()
    }
}
