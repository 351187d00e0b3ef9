//! A DNS forwarder for one guest (RFC 1035, 2181, 5452, 6891, 7766): bytes and `now` in, bytes out.
//!
//! Answers of the pod's name servers pass untouched but for the message id, so that types and DNSSEC data nobody
//! here knows stay what they are. The guest's own names are answered here; names that do not exist are tried in
//! the pod's search domains, for guests that know no search list. Answers are remembered for their time, and longer
//! when no server answers any more; who asks what somebody is already asking waits for the same answer.
//!
//! ```text
//!  Query ──► remembered, or local answer ───────────────► Answer
//!     └────► flight: candidate name × server ──► Ask ──► Reply ──► Answer, to all who wait
//!                     ▲ next candidate: NXDOMAIN   │
//!                     └ next server: SERVFAIL, time-out (1.2 s), 4.5 s in all
//! ```

mod cache;
mod flight;
mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;

use cache::{Cache, Found, Key, plain};
use flight::{Flight, Step, Waiting};
use message::{Query, local};

/// Most questions under way at once; more are answered SERVFAIL.
pub const MOST_FLIGHTS: usize = 256;
/// Most who wait for one answer; the next one begins another question.
const MOST_WAITING: usize = 256;
/// A server that has not answered for this long is passed over.
const PATIENCE: Duration = Duration::from_millis(1200);
/// Below the five seconds after which a stub resolver asks again.
const BUDGET: Duration = Duration::from_millis(4500);

/// What the forwarder knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Empty: there is no guest.
    pub hostname: String,
    pub guest: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// Asked in this order, beginning with the one that answered last.
    pub upstreams: Vec<SocketAddr>,
    /// The pod's search domains, lower-case, without a dot at the end.
    pub search: Vec<String>,
    pub ndots: u8,
    /// More names that are answered here, lower-case, without a dot at the end.
    pub hosts: Vec<(String, IpAddr)>,
    /// A domain that is ours alone: `hosts` are in it, and nothing else is.
    pub domain: Option<String>,
    /// Whether IPv6 addresses of names are passed on; else there are none.
    pub aaaa: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

/// What comes in.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// From the guest. `client` is whatever brings the answer back.
    Query { client: u64, over: Over, bytes: &'a [u8] },
    /// From the server an `Ask` went to.
    Reply { ask: u64, bytes: &'a [u8] },
    /// That server could not be asked.
    Failed { ask: u64 },
    /// A deadline may have passed.
    Tick,
}

/// What goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Answer {
        client: u64,
        bytes: Vec<u8>,
    },
    /// To be sent from a port of its own (RFC 5452 §9.2); only that server's answers count.
    Ask {
        ask: u64,
        server: SocketAddr,
        over: Over,
        bytes: Vec<u8>,
    },
    /// Nobody waits for that answer any more.
    Forget {
        ask: u64,
    },
}

/// Why a message was dropped without an answer. Counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Truncated,
    NotAQuery,
    /// An upstream's answer to something else: a mistake or a forgery.
    Mismatch,
    /// An upstream's answer that comes when nobody waits for it.
    Late,
}

impl Reason {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotAQuery => "not_a_query",
            Self::Mismatch => "mismatch",
            Self::Late => "late",
        }
    }
}

/// The forwarder core.
#[derive(Debug)]
pub struct Forwarder {
    settings: Settings,
    flights: BTreeMap<u64, Flight>,
    out: VecDeque<Output>,
    next: u64,
    /// Where the next question begins among the upstreams.
    preferred: usize,
    ids: Ids,
    cache: Cache,
    /// The flight that will answer the question.
    under_way: HashMap<Key, u64>,
}

impl Forwarder {
    /// `seed` makes the message ids: it must be random.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            flights: BTreeMap::new(),
            out: VecDeque::new(),
            next: 0,
            preferred: 0,
            ids: Ids(seed | 1),
            cache: Cache::default(),
            under_way: HashMap::new(),
        }
    }

    /// New upstreams and search domains; questions under way go on as they were.
    pub fn reconfigure(&mut self, settings: Settings) {
        if self.settings != settings {
            self.settings = settings;
            self.preferred = 0;
            self.cache.clear();
            // Who asks from now on asks the new servers; what the old ones have yet to say is not remembered.
            self.under_way.clear();
            self.flights.values_mut().for_each(|flight| flight.key = None);
        }
    }

    /// Takes one thing in. The error says why it was dropped.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<(), Reason> {
        match input {
            Input::Query { client, over, bytes } => self.query(now, client, over, bytes),
            Input::Reply { ask, bytes } => self.reply(now, ask, bytes),
            Input::Failed { ask } => {
                self.step(now, ask, |flight, settings, _| flight.next_server(settings.upstreams.len()));
                Ok(())
            }
            Input::Tick => {
                self.tick(now);
                Ok(())
            }
        }
    }

    /// What is to be sent, until there is nothing more.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When `Tick` is due: a server has been silent for too long. None: nothing is under way.
    pub fn deadline(&self) -> Option<Instant> {
        self.flights.values().map(Flight::deadline).min()
    }

    fn query(&mut self, now: Instant, client: u64, over: Over, bytes: &[u8]) -> Result<(), Reason> {
        let plain = plain(bytes);
        let found = plain.as_ref().map_or(Found::Nothing, |plain| self.cache.get(now, &plain.key));
        let ageing = matches!(found, Found::Ageing(_));
        if let Found::Answer(answer) | Found::Ageing(answer) = found {
            self.tell(&Waiting { client, over, question: bytes.to_vec() }, &answer);
            if !ageing {
                return Ok(());
            }
        }
        let key = plain.map(|plain| plain.key);
        let ask = key.as_ref().and_then(|key| self.under_way.get(key));
        if let Some(flight) = ask.and_then(|ask| self.flights.get_mut(ask)).filter(|_| !ageing)
            && flight.waiting.len() < MOST_WAITING
        {
            flight.waiting.push(Waiting { client, over, question: bytes.to_vec() });
            return Ok(());
        }
        let query = match Query::parse(bytes)? {
            Ok(query) => query,
            Err(refusal) => {
                self.out.push_back(Output::Answer { client, bytes: refusal });
                return Ok(());
            }
        };
        if let Some(answer) = local(&query, &self.settings) {
            self.out.push_back(Output::Answer { client, bytes: query.fit(over, answer) });
            return Ok(());
        }
        if self.settings.upstreams.is_empty() || self.flights.len() >= MOST_FLIGHTS {
            if !ageing {
                let bytes = query.refusal(ResponseCode::ServFail);
                self.out.push_back(Output::Answer { client, bytes });
            }
            return Ok(());
        }
        // A newer answer is for nobody in particular.
        let waiting =
            if ageing { Vec::new() } else { vec![Waiting { client, over, question: bytes.to_vec() }] };
        let flight = Flight::new(now, key, waiting, query, &self.settings, self.preferred);
        self.ask(now, flight);
        Ok(())
    }

    /// The answer to everybody who waits for it; remembered, if it may be.
    fn land(&mut self, now: Instant, flight: &Flight, answer: &[u8]) {
        if let Some(key) = &flight.key {
            self.cache.put(now, key, answer);
        }
        flight.waiting.iter().for_each(|waiting| self.tell(waiting, answer));
    }

    fn tell(&mut self, waiting: &Waiting, answer: &[u8]) {
        let Waiting { client, over, question } = waiting;
        let Some(bytes) = cache::readdressed(answer, question) else { return };
        let fits = *over == Over::Tcp || plain(question).is_some_and(|plain| bytes.len() <= plain.most);
        let bytes = match (fits, Query::parse(question)) {
            (false, Ok(Ok(query))) => query.fit(*over, bytes),
            _ => bytes,
        };
        self.out.push_back(Output::Answer { client: *client, bytes });
    }

    fn reply(&mut self, now: Instant, ask: u64, bytes: &[u8]) -> Result<(), Reason> {
        let flight = self.flights.get(&ask).ok_or(Reason::Late)?;
        if !flight.is_answer(bytes) {
            return Err(Reason::Mismatch);
        }
        self.step(now, ask, |flight, settings, preferred| {
            let step = flight.take(bytes, settings.upstreams.len());
            if matches!(step, Step::Answer(_)) {
                *preferred = flight.server;
            }
            step
        });
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.deadline() <= now).map(|(ask, _)| *ask).collect();
        for ask in late {
            self.out.push_back(Output::Forget { ask });
            self.step(now, ask, |flight, settings, preferred| {
                *preferred = flight.server.wrapping_add(1);
                if flight.is_over(now) { Step::Fail } else { flight.next_server(settings.upstreams.len()) }
            });
        }
    }

    /// Moves one flight on: it asks again, or it is answered.
    fn step(
        &mut self,
        now: Instant,
        ask: u64,
        decide: impl FnOnce(&mut Flight, &Settings, &mut usize) -> Step,
    ) {
        let Some(mut flight) = self.flights.remove(&ask) else { return };
        if let Some(key) = flight.key.as_ref().filter(|key| self.under_way.get(*key) == Some(&ask)) {
            self.under_way.remove(key);
        }
        match decide(&mut flight, &self.settings, &mut self.preferred) {
            Step::Ask => self.ask(now, flight),
            Step::Answer(bytes) => self.land(now, &flight, &bytes),
            Step::Fail => self.fail(now, flight),
        }
    }

    /// No server answers: what was known before is better than nothing (RFC 8767).
    fn fail(&mut self, now: Instant, mut flight: Flight) {
        let stale = flight.key.as_ref().and_then(|key| self.cache.stale(now, key));
        let answer = stale.clone().unwrap_or_else(|| flight.give_up());
        if stale.is_some() {
            flight.key = None;
        }
        self.land(now, &flight, &answer);
    }

    fn ask(&mut self, now: Instant, mut flight: Flight) {
        let server =
            self.settings.upstreams.get(flight.server % self.settings.upstreams.len().max(1)).copied();
        let (Some(server), Some(bytes)) = (server, flight.message(self.ids.next())) else {
            return self.fail(now, flight);
        };
        self.next += 1;
        flight.asked_at(now);
        self.out.push_back(Output::Ask { ask: self.next, server, over: flight.upstream, bytes });
        if let Some(key) = &flight.key {
            self.under_way.insert(key.clone(), self.next);
        }
        self.flights.insert(self.next, flight);
    }
}

/// Message ids (xorshift64*), seeded at random. The ports are the kernel's; both together are RFC 5452's.
#[derive(Debug)]
struct Ids(u64);

impl Ids {
    fn next(&mut self) -> u16 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let [high, low, ..] = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}
