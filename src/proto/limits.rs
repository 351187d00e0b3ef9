//! Requests per second, in memory of fixed size.
//!
//! A slot belongs to the client that used it last: clients never pay for each other, and one that floods under many
//! names meets the total limit.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::leases::{ClientId, Hardware};

const SLOTS: usize = 1024;
/// Seconds' worth of requests that may come at once.
const BURST_SECS: u32 = 3;

/// Requests per second, with bursts of three seconds' worth. None: as many as come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub per_client: Option<u32>,
    /// Of all clients together that have no lease yet.
    pub total: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    since: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, rate: u32) -> bool {
        let (rate, max) = (f64::from(rate), f64::from(rate.saturating_mul(BURST_SECS)));
        let passed: Duration = now.saturating_duration_since(self.since);
        self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(max);
        self.since = now;
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }

    fn full(now: Instant, rate: u32) -> Self {
        Self { tokens: f64::from(rate.saturating_mul(BURST_SECS)), since: now }
    }
}

#[derive(Debug)]
pub(super) struct Limiter {
    limits: Limits,
    hash: RandomState,
    /// Renewals have slots of their own: whoever forges requests in a client's name does not keep it from renewing.
    clients: Vec<Option<(u64, Bucket)>>,
    total: Option<Bucket>,
}

impl Limiter {
    /// Full buckets.
    pub fn new(limits: Limits) -> Self {
        let slots = if limits.per_client.is_some() { SLOTS } else { 0 };
        Self { limits, hash: RandomState::new(), clients: vec![None; slots], total: None }
    }

    /// Whether a request may be answered; `renews` says that the client holds the address it comes from.
    /// Who has hardware of its own is told apart by it, whatever it calls itself.
    pub(crate) fn admits(
        &mut self,
        now: Instant,
        hardware: Hardware,
        id: &ClientId,
        renews: bool,
    ) -> bool {
        let id = Some(id).filter(|_| hardware.address.0 == [0; 6]);
        let client = self.hash.hash_one((hardware.address, id, renews));
        self.admits_client(now, client) && (renews || self.admits_in_all(now))
    }

    fn admits_client(&mut self, now: Instant, client: u64) -> bool {
        let Some(rate) = self.limits.per_client else { return true };
        let at = usize::try_from(client % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.clients.get_mut(at) else { return true };
        match slot {
            Some((owner, bucket)) if *owner == client => bucket.take(now, rate),
            _ => {
                let mut bucket = Bucket::full(now, rate);
                let has = bucket.take(now, rate);
                *slot = Some((client, bucket));
                has
            }
        }
    }

    fn admits_in_all(&mut self, now: Instant) -> bool {
        let Some(rate) = self.limits.total else { return true };
        self.total.get_or_insert_with(|| Bucket::full(now, rate)).take(now, rate)
    }
}
