//! What simulated clients do to a server, of either protocol, and what came of it.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Error;

/// Nanoseconds; three digits of precision.
const LONGEST: u64 = 60_000_000_000;

/// A request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// OFFER or ADVERTISE.
    Offer,
    /// ACK or REPLY.
    Ack,
}

/// An exchange, whatever its messages are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// An offer, and the lease.
    Full,
    /// An offer alone.
    Offer,
    /// A lease without an offer (rapid commit).
    Rapid,
    /// Of clients that have their lease (made before, unmeasured).
    Renew,
}

impl Exchange {
    pub(super) fn first(self) -> Leg {
        match self {
            Self::Full | Self::Offer => Leg::Offer,
            Self::Rapid | Self::Renew => Leg::Ack,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Arrival {
    /// Exchanges a second.
    Open(f64),
    /// Exchanges under way.
    Closed(usize),
}

#[derive(Debug, Clone)]
pub struct Load {
    pub exchange: Exchange,
    pub arrival: Arrival,
    /// Clients in turn; numbers begin with `first`.
    pub clients: u32,
    pub first: u32,
    pub warmup: Duration,
    pub duration: Duration,
    pub timeout: Duration,
    /// Once more after half of the time-out.
    pub retransmit: bool,
    /// At most so many exchanges in all.
    pub most: Option<u64>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Outcome<A> {
    pub offer: Histogram<u64>,
    pub ack: Histogram<u64>,
    pub whole: Histogram<u64>,
    /// Exchanges begun and ended within the time that counts, and those that ended.
    pub begun: u64,
    pub done: u64,
    /// Packets that were not answered, by leg.
    pub dropped_offers: u64,
    pub dropped_acks: u64,
    pub retransmitted: u64,
    /// Packets that left late.
    pub late: u64,
    /// Replies with something wrong in them, by what.
    pub wrong: HashMap<&'static str, u64>,
    /// Addresses that two clients were given.
    pub duplicates: Vec<A>,
    /// By tenths of a second: exchanges that ended, and their mean and longest time in nanoseconds.
    pub series: Vec<(u64, u64, u64)>,
    pub took: Duration,
}

impl<A> Outcome<A> {
    pub(super) fn new() -> Result<Self, Error> {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST, 3)
                .map_err(|error| Error::Step(format!("histogram: {error}")))
        };
        Ok(Self {
            offer: histogram()?,
            ack: histogram()?,
            whole: histogram()?,
            begun: 0,
            done: 0,
            dropped_offers: 0,
            dropped_acks: 0,
            retransmitted: 0,
            late: 0,
            wrong: HashMap::new(),
            duplicates: Vec::new(),
            series: Vec::new(),
            took: Duration::ZERO,
        })
    }

    /// Share of the exchanges that did not end.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn loss(&self) -> f64 {
        if self.begun == 0 { 0.0 } else { 1.0 - self.done as f64 / self.begun as f64 }
    }

    /// Exchanges that ended, a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(1e-9)
    }
}
