//! What the services counted since the process was started, however often one of them was started anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dhcproto::{v4, v6};

use crate::net::MacAddr;

/// By protocol, and by kind or reason; all of them from fixed lists.
type Pairs = BTreeMap<(&'static str, &'static str), u64>;

/// Upper bounds of the durations of name servers' answers.
pub const BOUNDS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// The counts of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    pub requests: Pairs,
    pub replies: Pairs,
    pub dropped: Pairs,
    /// Answers to DNS questions, by where they came from.
    pub dns_outcomes: BTreeMap<&'static str, u64>,
    pub dns_dropped: BTreeMap<&'static str, u64>,
    pub upstream_failures: u64,
    pub upstream_answers: u64,
    /// Answers that took no longer than each of [`BOUNDS`], and longer than the one before.
    pub upstream_buckets: [u64; 7],
    pub upstream_time: Duration,
    /// When the guest was last given an address, and the first time.
    pub acked: Option<Instant>,
    /// By which MAC address it asked.
    pub client: Option<MacAddr>,
    pub first_acked: Option<Instant>,
}

/// Where services count. All that are cloned count together; a lock is held for some nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counted: Arc<Mutex<Counted>>,
    acked: tokio::sync::watch::Sender<Option<Instant>>,
}

impl Tally {
    /// As of now.
    pub fn counted(&self) -> Counted {
        self.lock().clone()
    }

    /// When the guest was last given an address, and when that changes.
    pub fn acked(&self) -> tokio::sync::watch::Receiver<Option<Instant>> {
        self.acked.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message of a client came, of the kind that its core found in it.
    pub(super) fn request(&self, protocol: &'static str, kind: &'static str) {
        *self.lock().requests.entry((protocol, kind)).or_default() += 1;
    }

    pub(super) fn reply(&self, protocol: &'static str, kind: &'static str) {
        *self.lock().replies.entry((protocol, kind)).or_default() += 1;
    }

    /// So many more of a core's reasons.
    fn dropped(&self, protocol: &'static str, reason: &'static str, more: u64) {
        *self.lock().dropped.entry((protocol, reason)).or_default() += more;
    }

    /// The guest has its address from now on, or still.
    pub(super) fn ack(&self, now: Instant, client: Option<MacAddr>) {
        {
            let mut counted = self.lock();
            counted.acked = Some(now);
            counted.client = client.or(counted.client);
            counted.first_acked.get_or_insert(now);
        }
        self.acked.send_replace(Some(now));
    }

    pub(super) fn dns(&self, outcomes: &[(&'static str, u64)]) {
        let mut counted = self.lock();
        for (outcome, more) in outcomes {
            *counted.dns_outcomes.entry(outcome).or_default() += more;
        }
    }

    pub(super) fn dns_dropped(&self, reason: &'static str) {
        *self.lock().dns_dropped.entry(reason).or_default() += 1;
    }

    pub(super) fn upstream_failed(&self) {
        self.lock().upstream_failures += 1;
    }

    pub(super) fn upstream_answered(&self, took: Duration) {
        let mut counted = self.lock();
        counted.upstream_answers += 1;
        counted.upstream_time = counted.upstream_time.saturating_add(took);
        let bucket = BOUNDS.iter().position(|bound| took <= *bound);
        if let Some(count) = bucket.and_then(|at| counted.upstream_buckets.get_mut(at)) {
            *count += 1;
        }
    }
}

/// What of a core's counts is told already: a core that is started anew counts from 0.
#[derive(Debug)]
pub(super) struct Told<R>(BTreeMap<R, u64>);

impl<R> Default for Told<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Copy + Ord> Told<R> {
    pub(super) fn tell(
        &mut self,
        (tally, protocol): (&Tally, &'static str),
        counts: &BTreeMap<R, u64>,
        label: fn(R) -> &'static str,
    ) {
        for (reason, count) in counts {
            let told = self.0.entry(*reason).or_default();
            if count > told {
                tally.dropped(protocol, label(*reason), count - *told);
                *told = *count;
            }
        }
    }
}

/// Metric label of a DHCP message's kind; None: BOOTP's.
pub(super) fn kind4(kind: Option<v4::MessageType>) -> &'static str {
    match kind {
        None => "bootp",
        Some(v4::MessageType::Discover) => "discover",
        Some(v4::MessageType::Offer) => "offer",
        Some(v4::MessageType::Request) => "request",
        Some(v4::MessageType::Decline) => "decline",
        Some(v4::MessageType::Ack) => "ack",
        Some(v4::MessageType::Nak) => "nak",
        Some(v4::MessageType::Release) => "release",
        Some(v4::MessageType::Inform) => "inform",
        Some(_) => "other",
    }
}

/// Metric label of a DHCPv6 message's type.
pub(super) fn kind6(kind: v6::MessageType) -> &'static str {
    match kind {
        v6::MessageType::Solicit => "solicit",
        v6::MessageType::Advertise => "advertise",
        v6::MessageType::Request => "request",
        v6::MessageType::Confirm => "confirm",
        v6::MessageType::Renew => "renew",
        v6::MessageType::Rebind => "rebind",
        v6::MessageType::Reply => "reply",
        v6::MessageType::Release => "release",
        v6::MessageType::Decline => "decline",
        v6::MessageType::InformationRequest => "information_request",
        _ => "other",
    }
}

/// The same of a datagram: its first octet (RFC 8415 §8), of a relay's the relay's.
pub(super) fn asked6(datagram: &[u8]) -> &'static str {
    datagram.first().map_or("other", |kind| kind6(v6::MessageType::from(*kind)))
}

/// Metric label of the kind that option 53 of a DHCPv4 message says (RFC 2132 §9.6), for counting alone: its core says
/// whether the message is one. Options begin after the cookie (RFC 2131 §3).
pub(super) fn asked4(datagram: &[u8]) -> &'static str {
    let mut rest = datagram.get(240..).unwrap_or_default();
    while let Some((code, after)) = rest.split_first() {
        match code {
            0 => rest = after,
            255 => break,
            53 => return kind4(after.get(1).map(|kind| v4::MessageType::from(*kind))),
            _ => {
                let length = after.first().map_or(0, |length| usize::from(*length));
                rest = after.get(1 + length..).unwrap_or_default();
            }
        }
    }
    kind4(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_in_the_first_bucket_that_holds_them() {
        let tally = Tally::default();
        for millis in [0, 1, 2, 100, 101, 4000] {
            tally.upstream_answered(Duration::from_millis(millis));
        }
        let counted = tally.counted();
        assert_eq!(counted.upstream_buckets, [2, 1, 0, 1, 1, 0, 0]);
        assert_eq!(counted.upstream_answers, 6, "one beyond the last bound");
        assert_eq!(counted.upstream_time, Duration::from_millis(4204));
    }

    #[test]
    fn the_kind_of_a_message_is_read_whatever_else_is_in_it() {
        let with = |options: &[u8]| [&[0; 240], options].concat();
        assert_eq!(asked4(&with(&[53, 1, 1, 255])), "discover");
        assert_eq!(asked4(&with(&[0, 0, 55, 2, 53, 1, 53, 1, 3])), "request");
        assert_eq!(asked4(&with(&[53, 1, 77])), "other");
        for cut in [&[][..], &[255, 53, 1, 1], &[12, 200, 53], &[53]] {
            assert_eq!(asked4(&with(cut)), "bootp", "{cut:?}");
        }
        assert_eq!(asked4(b"short"), "bootp");
    }
}
