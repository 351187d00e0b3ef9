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
mod ids;
mod message;
mod names;
mod outcome;
mod reason;
mod servers;
mod shares;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;

use crate::net::{Ipv4Prefix, Ipv6Prefix};
use cache::{Cache, Found};
use flight::{Asker, Flight, Queued, Stale, Step, Waiting};
use ids::Ids;
use message::{Query, local};
use names::Names;
use outcome::{Outcome, Outcomes};
use servers::Servers;
use wire::{Key, Plain, plain};

pub use names::Named;
pub use reason::Reason;
pub use shares::{Client, Shares};

/// Most questions under way at once, shared by the clients (`Shares`): one alone has half of them; more are answered
/// SERVFAIL. Each has a socket: with those of TCP they are fewer than 1,024 descriptors.
pub(crate) const MAX_FLIGHTS: usize = 512;
/// Octets of all who wait for answers, shared as well, and what each of them costs beside its question, here and with
/// whoever brings the answer back.
const MAX_WAITING: usize = 4 << 20;
const WAITING: usize = 256;
/// Octets of a question: nothing real is longer (RFC 6891 §6.2.5); more are answered FORMERR.
pub(crate) const LARGEST_QUESTION: usize = 1232;
/// A server that has not answered for this long is passed over.
const UPSTREAM_TIMEOUT: Duration = Duration::from_millis(1200);
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
    /// Ours, which are called `gateway`.
    pub gateway: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    /// Asked in this order; those that were silent come last.
    pub upstreams: Vec<SocketAddr>,
    /// The pod's search domains, lower-case, without a dot at the end.
    pub search: Vec<String>,
    pub ndots: u8,
    /// More names that are answered here, lower-case, without a dot at the end.
    pub hosts: Vec<(String, IpAddr)>,
    /// Names of which all that are below them are answered here; the longest counts, and what is in `hosts` before.
    pub below: Vec<(String, IpAddr)>,
    /// A domain that is ours alone: `hosts` and `below` are in it, and nothing else is.
    pub domain: Option<String>,
    /// With such a domain, networks whose addresses nobody else has names for (RFC 6303).
    pub networks: Vec<Ipv4Prefix>,
    pub networks6: Vec<Ipv6Prefix>,
    /// Whether IPv6 addresses of names are passed on; else there are none.
    pub aaaa: bool,
}

/// The transport of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

/// What comes in.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// From a client. `client` is whatever brings the answer back; `from` is whose share it is.
    Query { client: u64, from: Client, over: Over, bytes: &'a [u8] },
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

/// The forwarder core.
#[derive(Debug)]
pub struct Forwarder {
    settings: Settings,
    flights: BTreeMap<u64, Flight>,
    /// Flights and octets that wait, by client.
    places: Shares,
    waiting: Shares,
    out: VecDeque<Queued>,
    next: u64,
    servers: Servers,
    ids: Ids,
    cache: Cache,
    names: Names,
    /// The flight that will answer the question.
    under_way: HashMap<Key, u64>,
    outcomes: Outcomes,
}

impl Forwarder {
    /// `ids` says the message ids: nobody may be able to guess the next one from others.
    pub fn new(settings: Settings, ids: impl FnMut() -> Option<u16> + Send + 'static) -> Self {
        Self {
            settings,
            flights: BTreeMap::new(),
            places: Shares::new(MAX_FLIGHTS),
            waiting: Shares::new(MAX_WAITING),
            out: VecDeque::new(),
            next: 0,
            servers: Servers::default(),
            ids: Ids(Box::new(ids)),
            cache: Cache::default(),
            names: Names::default(),
            under_way: HashMap::new(),
            outcomes: Outcomes::default(),
        }
    }

    /// New upstreams and search domains; questions under way go on as they were.
    pub(crate) fn reconfigure(&mut self, settings: Settings) {
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
            Input::Query { client, from, over, bytes } => {
                self.query(now, Asker { client, from, over }, bytes)
            }
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

    /// Whether there are servers and none answers: once may be a lost datagram, twice in a row is trouble.
    pub(crate) fn is_without_servers(&self) -> bool {
        self.servers.are_silent(&self.settings.upstreams)
    }

    /// How many answers came from where since this was last asked, by metric label; None: there were none.
    pub fn outcomes(&mut self) -> Option<Vec<(&'static str, u64)>> {
        self.outcomes.take()
    }

    /// What is to be sent, until there is nothing more.
    pub fn poll(&mut self) -> Option<Output> {
        let Some(queued) = self.out.pop_front() else {
            // Of a flood's answers nothing is kept.
            self.out.shrink_to(MAX_FLIGHTS);
            return None;
        };
        Some(match queued {
            Queued::Ready(output) => output,
            Queued::Answer(waiting, answer) => waiting.answer(Arc::unwrap_or_clone(answer)),
        })
    }

    /// When `Tick` is due: a server has been silent for too long. None: nothing is under way.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.flights.values().map(Flight::deadline).min()
    }

    fn query(&mut self, now: Instant, asker: Asker, bytes: &[u8]) -> Result<(), Reason> {
        if bytes.len() > LARGEST_QUESTION {
            self.refuse(asker, message::too_long(bytes)?);
            return Err(Reason::TooLong);
        }
        let plain = plain(bytes);
        let mut ageing = false;
        // What servers said of a name is none of its business any more when a client has it.
        let is_ours = |plain: &&Plain| self.names.is_empty() || !self.is_leased(now, &plain.key);
        if let Some(Plain { key, max, .. }) = plain.as_ref().filter(is_ours) {
            match self.cache.get(now, key) {
                Found::Nothing => {
                    if let Some(answered) = self.join(now, asker, bytes, key, *max) {
                        return answered;
                    }
                }
                Found::Answer(answer) => {
                    self.answer_client((asker, bytes, *max), answer, Outcome::Hit);
                    return Ok(());
                }
                Found::Ageing(answer) => {
                    self.answer_client((asker, bytes, *max), answer, Outcome::Hit);
                    ageing = true;
                }
            }
        }
        let query = match Query::parse(bytes)? {
            Ok(query) => query,
            Err(refusal) => {
                self.refuse(asker, refusal);
                return Ok(());
            }
        };
        let max = query.max();
        if let Some(answer) = local(now, &query, &self.settings, &self.names) {
            self.answer_client((asker, bytes, max), answer, Outcome::Local);
            return Ok(());
        }
        let without = self.settings.upstreams.is_empty();
        // A newer answer is for nobody in particular.
        let waiting = (!ageing).then(|| Waiting::new(asker, bytes, max));
        if without || !self.admits(asker.from, waiting.as_ref()) {
            if !ageing {
                let answer = query.refusal(ResponseCode::ServFail);
                self.answer_client((asker, bytes, max), answer, Outcome::Failed);
            }
            return if without { Ok(()) } else { Err(Reason::Busy) };
        }
        let waiting = waiting.into_iter().collect();
        let servers = self.servers.ranked(&self.settings.upstreams);
        let key = plain.map(|plain| plain.key);
        let mut flight = Flight::new(now, key, waiting, query, &self.settings, servers);
        flight.place = Some(asker.from);
        let known = flight.key.as_ref().is_some_and(|key| self.cache.stale(now, key).is_some());
        flight.stale = known.then_some(Stale::Known);
        self.ask(now, flight);
        self.try_a_silent_one(now, bytes);
        Ok(())
    }

    /// Whether there is a place for a flight of this client and who waits for it; it has it, then.
    fn admits(&mut self, from: Client, waiting: Option<&Waiting>) -> bool {
        let octets = waiting.map_or(0, Waiting::octets);
        if !self.waiting.take(from, octets) {
            return false;
        }
        let has = self.places.take(from, 1);
        if !has {
            self.waiting.give(from, octets);
        }
        has
    }

    /// The flight is over: its place is another's.
    fn leave(&mut self, flight: &mut Flight) {
        if let Some(from) = flight.place.take() {
            self.places.give(from, 1);
        }
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
        asker: Asker,
        bytes: &[u8],
        key: &Key,
        max: usize,
    ) -> Option<Result<(), Reason>> {
        let flight = self.under_way.get(key).and_then(|ask| self.flights.get_mut(ask))?;
        let refused = if flight.is_ours(bytes) {
            Reason::Loop
        } else if flight.stale == Some(Stale::Told) {
            let stale = self.cache.stale(now, key)?;
            self.answer_client((asker, bytes, max), stale, Outcome::Stale);
            return Some(Ok(()));
        } else {
            let waiting = Waiting::new(asker, bytes, max);
            if self.waiting.take(asker.from, waiting.octets()) {
                flight.waiting.push(waiting);
                return Some(Ok(()));
            }
            Reason::Busy
        };
        let answer = flight.query.refusal(ResponseCode::ServFail);
        self.answer_client((asker, bytes, max), answer, Outcome::Failed);
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
    fn land(&mut self, now: Instant, mut flight: Flight, answer: Vec<u8>, outcome: Outcome) {
        self.leave(&mut flight);
        if let Some(key) = &flight.key {
            self.cache.put(now, key, &answer, flight.is_about_the_name(&self.settings));
        }
        self.answer_all(flight.waiting, answer, outcome);
    }

    /// One answer for all of them: each has its own when it is sent.
    fn answer_all(&mut self, waiting: Vec<Waiting>, answer: Vec<u8>, outcome: Outcome) {
        self.outcomes.add(outcome, waiting.len());
        let answer = Arc::new(answer);
        for waiting in waiting {
            self.waiting.give(waiting.asker.from, waiting.octets());
            self.out.push_back(Queued::Answer(waiting, answer.clone()));
        }
    }

    fn answer_client(
        &mut self,
        (asker, question, max): (Asker, &[u8], usize),
        answer: Vec<u8>,
        outcome: Outcome,
    ) {
        self.outcomes.add(outcome, 1);
        self.out.push_back(Queued::Ready(flight::answer(asker, question, max, answer)));
    }

    /// As it is.
    fn refuse(&mut self, asker: Asker, bytes: Vec<u8>) {
        self.outcomes.add(Outcome::Refused, 1);
        self.out.push_back(Queued::Ready(Output::Answer { client: asker.client, bytes }));
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
        let late: Vec<u64> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.deadline() <= now)
            .map(|(ask, _)| *ask)
            .collect();
        for ask in late {
            self.answer_stale(now, ask);
            if self.flights.get(&ask).is_some_and(|flight| flight.is_server_late(now)) {
                self.out.push_back(Queued::Ready(Output::Forget { ask }));
                self.silent(now, ask);
                self.step(now, ask, |flight| {
                    if flight.is_over(now) { Step::Fail } else { flight.next_server() }
                });
            }
        }
    }

    /// Who has waited for long is told what was known; the question goes on.
    fn answer_stale(&mut self, now: Instant, ask: u64) {
        let Some(flight) =
            self.flights.get_mut(&ask).filter(|flight| flight.is_time_for_stale(now))
        else {
            return;
        };
        let known = flight.key.as_ref().and_then(|key| self.cache.stale(now, key));
        flight.stale = known.is_some().then_some(Stale::Told);
        if let Some(known) = known {
            let waiting = std::mem::take(&mut flight.waiting);
            self.answer_all(waiting, known, Outcome::Stale);
        }
    }

    /// Moves one flight on: it asks again, or it is answered.
    fn step(&mut self, now: Instant, ask: u64, decide: impl FnOnce(&mut Flight) -> Step) {
        let Some(mut flight) = self.flights.remove(&ask) else { return };
        if let Some(key) = flight.key.as_ref().filter(|key| self.under_way.get(*key) == Some(&ask))
        {
            self.under_way.remove(key);
        }
        match decide(&mut flight) {
            Step::Ask => self.ask(now, flight),
            Step::Answer(bytes) => self.land(now, flight, bytes, Outcome::Upstream),
            Step::Fail => self.fail(now, flight),
        }
    }

    /// No server answers: what was known before is better than nothing (RFC 8767).
    fn fail(&mut self, now: Instant, mut flight: Flight) {
        match flight.key.as_ref().and_then(|key| Some((key, self.cache.stale(now, key)?))) {
            Some((key, known)) => {
                self.cache.none_newer(now, key);
                self.leave(&mut flight);
                self.answer_all(flight.waiting, known, Outcome::Stale);
            }
            None => {
                let answer = flight.give_up();
                self.land(now, flight, answer, Outcome::Failed);
            }
        }
    }

    fn ask(&mut self, now: Instant, mut flight: Flight) {
        let message = flight
            .server()
            .and_then(|server| Some((server, flight.message(now, (self.ids.0)()?)?)));
        let Some((server, bytes)) = message else {
            return self.fail(now, flight);
        };
        self.next += 1;
        let over = flight.over;
        self.out.push_back(Queued::Ready(Output::Ask { ask: self.next, server, over, bytes }));
        if let Some(key) = &flight.key {
            self.under_way.insert(key.clone(), self.next);
        }
        self.flights.insert(self.next, flight);
    }
}
