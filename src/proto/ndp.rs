//! Router discovery (RFC 4861 §6.2), the router's side: advertisements with name servers and search domains (RFC 8106).
//!
//! Whole Ethernet frames in and out: with a tap of berth's own on the bridge no raw socket is needed, and so no CAP_NET_RAW.
//! Who asks for the router's own addresses is answered by the kernel, which has them. Nobody is remembered: an answer goes
//! to the frame's sender.
//!
//! ```text
//! started ──► three advertisements, at most 16 s apart ──► one in each interval ──► stopped: one of lifetime 0
//! solicited ──► within 0.5 s, to who asked; to all where no address asks, and then at least 3 s after the last to all
//! ```

mod advertisement;
mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::frame;
use crate::net::MacAddr;

pub use advertisement::{Advertisement, Error, Prefix, Settings};
use message::Message;

/// All nodes of the link, and their Ethernet address (RFC 4291 §2.7.1, RFC 2464 §7).
const ALL_NODES: (MacAddr, Ipv6Addr) =
    (MacAddr([0x33, 0x33, 0, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
/// `MAX_RA_DELAY_TIME` (RFC 4861 §10).
const MAX_DELAY: Duration = Duration::from_millis(500);
/// `MIN_DELAY_BETWEEN_RAS`.
const MIN_BETWEEN: Duration = Duration::from_secs(3);
/// `MAX_INITIAL_RTR_ADVERTISEMENTS`, and what is between them: 16 s at most (`MAX_INITIAL_RTR_ADVERT_INTERVAL`), less
/// for a guest whose link is down when its router is another.
const INITIAL: u8 = 3;
const INITIAL_INTERVAL: Duration = Duration::from_secs(4);
/// Who waits for an answer of its own; one more, and all get one. Some 40 octets each.
const MAX_WAITING: usize = 64;

/// Why a frame has no answer. Counted, never fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No router solicitation.
    NotSolicitation,
    Truncated,
    /// Other than 255: it came through a router.
    HopLimit,
    Checksum,
    /// A code, an option or an address that RFC 4861 §6.1.1 discards.
    Malformed,
    /// It says that it comes from us.
    OwnAddress,
}

impl Reason {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotSolicitation => "not_a_solicitation",
            Self::Truncated => "truncated",
            Self::HopLimit => "hop_limit",
            Self::Checksum => "checksum",
            Self::Malformed => "malformed",
            Self::OwnAddress => "own_address",
        }
    }
}

/// What happens to it.
#[derive(Debug)]
pub enum Input<'a> {
    /// An Ethernet frame came.
    Frame(&'a [u8]),
    /// [`Router::deadline`] is there.
    Timeout,
    /// Other settings hold from now on: all nodes hear of them.
    Settings(Advertisement),
    /// This router ends.
    Stop,
}

/// Advertises itself on one link.
pub struct Router {
    advertisement: Advertisement,
    /// Any number: intervals and delays are drawn by it.
    random: Box<dyn FnMut() -> u32 + Send>,
    /// When all nodes get the next advertisement; None after the end.
    next: Option<Instant>,
    last: Option<Instant>,
    initial: u8,
    /// Who asked, and when the answer is due.
    waiting: BTreeMap<(MacAddr, Ipv6Addr), Instant>,
    out: VecDeque<Vec<u8>>,
}

impl Router {
    /// The first advertisement is due at once. `random` gives any number.
    pub fn new(
        now: Instant,
        advertisement: Advertisement,
        random: impl FnMut() -> u32 + Send + 'static,
    ) -> Self {
        Self {
            advertisement,
            random: Box::new(random),
            next: Some(now),
            last: None,
            initial: INITIAL,
            waiting: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Takes one thing in. Drain [`Router::poll`] then, and sleep until [`Router::deadline`].
    ///
    /// # Errors
    ///
    /// Why a frame has no answer.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<(), Reason> {
        match input {
            Input::Frame(octets) => self.frame(now, octets)?,
            Input::Timeout => self.timeout(now),
            Input::Settings(advertisement) => {
                self.advertisement = advertisement;
                self.initial = INITIAL;
                self.advance(now);
            }
            Input::Stop => {
                let mut last = self.advertisement.last().to_vec();
                self.send(ALL_NODES, &mut last);
                self.next = None;
                self.waiting.clear();
            }
        }
        Ok(())
    }

    /// The next frame to send.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// When [`Input::Timeout`] is due; None after [`Input::Stop`].
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.values().copied().chain(self.next).min()
    }

    fn frame(&mut self, now: Instant, octets: &[u8]) -> Result<(), Reason> {
        let message = Message::parse(octets)?;
        let settings = self.advertisement.settings();
        if message.source == settings.address || message.mac == settings.mac {
            return Err(Reason::OwnAddress);
        }
        self.solicited(now, message);
        Ok(())
    }

    /// RFC 4861 §6.2.6.
    fn solicited(&mut self, now: Instant, message: Message) {
        let Some(next) = self.next else { return };
        let due = now + self.drawn(Duration::ZERO..=MAX_DELAY);
        let who = (message.mac, message.source);
        if message.source.is_unspecified()
            || self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(&who)
        {
            self.advance(due);
        } else if next > due {
            // Who asks again is answered once.
            self.waiting.entry(who).or_insert(due);
        }
    }

    /// All nodes get the next one by then, or as soon as there may be another.
    fn advance(&mut self, due: Instant) {
        let earliest = self.last.map_or(due, |last| due.max(last + MIN_BETWEEN));
        self.next = self.next.map(|next| next.min(earliest));
    }

    fn timeout(&mut self, now: Instant) {
        let due: Vec<_> =
            self.waiting.iter().filter(|(_, due)| **due <= now).map(|(who, _)| *who).collect();
        for who in due {
            self.waiting.remove(&who);
            let mut message = self.advertisement.message().to_vec();
            self.send(who, &mut message);
        }
        if self.next.is_some_and(|next| next <= now) {
            let mut message = self.advertisement.message().to_vec();
            self.send(ALL_NODES, &mut message);
            self.last = Some(now);
            self.next = Some(now + self.interval());
        }
    }

    fn interval(&mut self) -> Duration {
        let interval = self.drawn(self.advertisement.settings().interval.clone());
        if self.initial == 0 {
            return interval;
        }
        self.initial -= 1;
        interval.min(INITIAL_INTERVAL)
    }

    fn drawn(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (start, end) = range.into_inner();
        let thousandths = (self.random)() % 1001;
        start + end.saturating_sub(start) * thousandths / 1000
    }

    fn send(&mut self, to: (MacAddr, Ipv6Addr), message: &mut [u8]) {
        let settings = self.advertisement.settings();
        let frame = frame::icmpv6((settings.mac, settings.address), to, message);
        self.out.extend(frame);
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("next", &self.next).finish_non_exhaustive()
    }
}
