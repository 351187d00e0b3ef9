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
//!                     └ next server: SERVFAIL, time-out (1.2 s), 4.5 s in all; what was known is told after 1.8 s
//! ```

mod cache;
mod flight;
mod message;
mod names;
mod servers;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;

use crate::net::Ipv4Prefix;
use cache::{Cache, Found};
use flight::{Flight, Stale, Step, Waiting};
use message::{Query, local};
use names::Names;
use servers::Servers;
use wire::{Key, Plain, plain};

pub use names::Named;

/// Most questions under way at once; more are answered SERVFAIL.
pub const MOST_FLIGHTS: usize = 256;
/// Most who wait for one answer; more are answered SERVFAIL.
const MOST_WAITING: usize = 256;
/// A server that has not answered for this long is passed over.
const PATIENCE: Duration = Duration::from_millis(1200);
/// Below the five seconds after which a stub resolver asks again.
const BUDGET: Duration = Duration::from_millis(4500);
/// RFC 8767 §5: who waited for this long is told what was known.
const TELL_STALE: Duration = Duration::from_millis(1800);

/// What the forwarder knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Empty: there is no guest.
    pub hostname: String,
    pub guest: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// Asked in this order; those that were silent come last.
    pub upstreams: Vec<SocketAddr>,
    /// The pod's search domains, lower-case, without a dot at the end.
    pub search: Vec<String>,
    pub ndots: u8,
    /// More names that are answered here, lower-case, without a dot at the end.
    pub hosts: Vec<(String, IpAddr)>,
    /// A domain that is ours alone: `hosts` are in it, and nothing else is.
    pub domain: Option<String>,
    /// With such a domain, networks whose addresses nobody else has names for (RFC 6303).
    pub networks: Vec<Ipv4Prefix>,
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

/// Why a message was dropped, or answered with a failure. Counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Truncated,
    NotAQuery,
    /// An upstream's answer to something else: a mistake or a forgery.
    Mismatch,
    /// An upstream's answer that comes when nobody waits for it.
    Late,
    /// A question of ours that came back: some server asks us. Answered SERVFAIL.
    Loop,
    /// A question too many: too much is under way. Answered SERVFAIL.
    Busy,
    /// A connection too many, in all or of one client. Closed.
    Connections,
}

impl Reason {
    /// Whether there is an answer all the same.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Loop | Self::Busy)
    }

    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotAQuery => "not_a_query",
            Self::Mismatch => "mismatch",
            Self::Late => "late",
            Self::Loop => "loop",
            Self::Busy => "busy",
            Self::Connections => "connections",
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
    servers: Servers,
    ids: Ids,
    cache: Cache,
    names: Names,
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
            servers: Servers::default(),
            ids: Ids(seed | 1),
            cache: Cache::default(),
            names: Names::default(),
            under_way: HashMap::new(),
        }
    }

    /// New upstreams and search domains; questions under way go on as they were.
    pub fn reconfigure(&mut self, settings: Settings) {
        if self.settings != settings {
            self.settings = settings;
            self.servers.forget();
            self.cache.clear();
            // Who asks from now on asks the new servers; what the old ones have yet to say is not remembered.
            self.under_way.clear();
            self.flights.values_mut().for_each(|flight| flight.key = None);
        }
    }

    /// Takes one thing in. The error says why it was dropped, or failed.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<(), Reason> {
        match input {
            Input::Query { client, over, bytes } => self.query(now, client, over, bytes),
            Input::Reply { ask, bytes } => self.reply(now, ask, bytes),
            Input::Failed { ask } => {
                self.silent(now, ask);
                self.step(now, ask, Flight::next_server);
                Ok(())
            }
            Input::Tick => {
                self.tick(now);
                Ok(())
            }
        }
    }

    /// Somebody has this name from now on.
    pub fn name(&mut self, now: Instant, named: Named) {
        self.names.take(now, named);
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
        let mut ageing = false;
        // What servers said of a name is none of its business any more when a client has it.
        let is_ours = |plain: &&Plain| self.names.is_empty() || !self.is_leased(now, &plain.key);
        if let Some(Plain { key, most, .. }) = plain.as_ref().filter(is_ours) {
            match self.cache.get(now, key) {
                Found::Nothing => {
                    if let Some(answered) = self.join(now, client, over, bytes, key, *most) {
                        return answered;
                    }
                }
                Found::Answer(answer) => {
                    self.tell(client, over, bytes, *most, answer);
                    return Ok(());
                }
                Found::Ageing(answer) => {
                    self.tell(client, over, bytes, *most, answer);
                    ageing = true;
                }
            }
        }
        let query = match Query::parse(bytes)? {
            Ok(query) => query,
            Err(refusal) => {
                self.out.push_back(Output::Answer { client, bytes: refusal });
                return Ok(());
            }
        };
        let most = query.most();
        if let Some(answer) = local(now, &query, &self.settings, &self.names) {
            self.tell(client, over, bytes, most, answer);
            return Ok(());
        }
        let busy = self.flights.len() >= MOST_FLIGHTS;
        if self.settings.upstreams.is_empty() || busy {
            if !ageing {
                self.tell(client, over, bytes, most, query.refusal(ResponseCode::ServFail));
            }
            return if busy { Err(Reason::Busy) } else { Ok(()) };
        }
        // A newer answer is for nobody in particular.
        let waiting = Waiting { client, over, question: bytes.to_vec(), most };
        let waiting = if ageing { Vec::new() } else { vec![waiting] };
        let servers = self.servers.ranked(&self.settings.upstreams);
        let key = plain.map(|plain| plain.key);
        let mut flight = Flight::new(now, key, waiting, query, &self.settings, servers);
        let known = flight.key.as_ref().is_some_and(|key| self.cache.stale(now, key).is_some());
        flight.stale = known.then_some(Stale::Known);
        self.ask(now, flight);
        self.try_a_silent_one(now, bytes);
        Ok(())
    }

    fn is_leased(&self, now: Instant, key: &Key) -> bool {
        let Ok(name) = Name::from_bytes(&key.0) else { return false };
        let name = name.to_ascii();
        self.names.find(now, name.trim_end_matches('.'), self.settings.domain.as_deref()).is_some()
    }

    /// Waits with those who asked the same; None: nobody has.
    fn join(
        &mut self,
        now: Instant,
        client: u64,
        over: Over,
        bytes: &[u8],
        key: &Key,
        most: usize,
    ) -> Option<Result<(), Reason>> {
        let flight = self.under_way.get(key).and_then(|ask| self.flights.get_mut(ask))?;
        let refused = if flight.is_ours(bytes) {
            Reason::Loop
        } else if flight.stale == Some(Stale::Told) {
            let stale = self.cache.stale(now, key)?;
            self.tell(client, over, bytes, most, stale);
            return Some(Ok(()));
        } else if flight.waiting.len() >= MOST_WAITING {
            Reason::Busy
        } else {
            flight.waiting.push(Waiting { client, over, question: bytes.to_vec(), most });
            return Some(Ok(()));
        };
        let answer = flight.query.refusal(ResponseCode::ServFail);
        self.tell(client, over, bytes, most, answer);
        Some(Err(refused))
    }

    /// A server that was silent is asked the same beside the one that answers, to see whether it does again.
    fn try_a_silent_one(&mut self, now: Instant, question: &[u8]) {
        if let Some(server) = self.servers.due(now, &self.settings.upstreams)
            && let Ok(Ok(query)) = Query::parse(question)
        {
            let mut probe = Flight::new(now, None, Vec::new(), query, &self.settings, vec![server]);
            probe.probe = true;
            self.ask(now, probe);
        }
    }

    /// The answer to everybody who waits for it; remembered, if it may be.
    fn land(&mut self, now: Instant, flight: Flight, answer: &[u8]) {
        if let Some(key) = &flight.key {
            self.cache.put(now, key, answer, flight.is_about_the_name(&self.settings));
        }
        self.tell_all(flight.waiting, answer);
    }

    fn tell_all(&mut self, waiting: Vec<Waiting>, answer: &[u8]) {
        for Waiting { client, over, question, most } in waiting {
            self.tell(client, over, &question, most, answer.to_vec());
        }
    }

    fn tell(&mut self, client: u64, over: Over, question: &[u8], most: usize, mut answer: Vec<u8>) {
        wire::readdress(&mut answer, question);
        self.out.push_back(Output::Answer { client, bytes: wire::fit(answer, over, most) });
    }

    fn reply(&mut self, now: Instant, ask: u64, bytes: &[u8]) -> Result<(), Reason> {
        let flight = self.flights.get(&ask).ok_or(Reason::Late)?;
        if !flight.is_answer(bytes) {
            return Err(Reason::Mismatch);
        }
        if let Some(server) = flight.server() {
            self.servers.answered(server);
        }
        self.step(now, ask, |flight| flight.take(bytes));
        Ok(())
    }

    fn silent(&mut self, now: Instant, ask: u64) {
        if let Some(server) = self.flights.get(&ask).and_then(Flight::server) {
            self.servers.was_silent(now, server);
        }
    }

    fn tick(&mut self, now: Instant) {
        let late: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.deadline() <= now).map(|(ask, _)| *ask).collect();
        for ask in late {
            self.tell_stale(now, ask);
            if self.flights.get(&ask).is_some_and(|flight| flight.is_server_late(now)) {
                self.out.push_back(Output::Forget { ask });
                self.silent(now, ask);
                self.step(
                    now,
                    ask,
                    |flight| if flight.is_over(now) { Step::Fail } else { flight.next_server() },
                );
            }
        }
    }

    /// Who has waited for long is told what was known; the question goes on.
    fn tell_stale(&mut self, now: Instant, ask: u64) {
        let Some(flight) = self.flights.get_mut(&ask).filter(|flight| flight.is_time_for_stale(now)) else {
            return;
        };
        let known = flight.key.as_ref().and_then(|key| self.cache.stale(now, key));
        flight.stale = known.is_some().then_some(Stale::Told);
        if let Some(known) = known {
            let waiting = std::mem::take(&mut flight.waiting);
            self.tell_all(waiting, &known);
        }
    }

    /// Moves one flight on: it asks again, or it is answered.
    fn step(&mut self, now: Instant, ask: u64, decide: impl FnOnce(&mut Flight) -> Step) {
        let Some(mut flight) = self.flights.remove(&ask) else { return };
        if let Some(key) = flight.key.as_ref().filter(|key| self.under_way.get(*key) == Some(&ask)) {
            self.under_way.remove(key);
        }
        match decide(&mut flight) {
            Step::Ask => self.ask(now, flight),
            Step::Answer(bytes) => self.land(now, flight, &bytes),
            Step::Fail => self.fail(now, flight),
        }
    }

    /// No server answers: what was known before is better than nothing (RFC 8767).
    fn fail(&mut self, now: Instant, mut flight: Flight) {
        match flight.key.as_ref().and_then(|key| Some((key, self.cache.stale(now, key)?))) {
            Some((key, known)) => {
                self.cache.none_newer(now, key);
                self.tell_all(flight.waiting, &known);
            }
            None => {
                let answer = flight.give_up();
                self.land(now, flight, &answer);
            }
        }
    }

    fn ask(&mut self, now: Instant, mut flight: Flight) {
        let message =
            flight.server().and_then(|server| Some((server, flight.message(now, self.ids.next())?)));
        let Some((server, bytes)) = message else {
            return self.fail(now, flight);
        };
        self.next += 1;
        self.out.push_back(Output::Ask { ask: self.next, server, over: flight.over, bytes });
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
