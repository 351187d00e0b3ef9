//! One question on its way: which name is tried, which server is asked, what was the best answer so far.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};

use super::message::{self, Answer, Query};
use super::wire::{self, HEADER, Key};
use super::{BUDGET, Client, Output, Over, Settings, TELL_STALE, UPSTREAM_TIMEOUT, WAITING};

#[derive(Debug)]
pub(super) struct Flight {
    /// What the answer is remembered by.
    pub key: Option<Key>,
    pub waiting: Vec<Waiting>,
    /// How the server is asked: UDP until an answer was cut.
    pub over: Over,
    pub query: Query,
    /// Only to see whether a server answers again.
    pub probe: bool,
    /// Whose place among the flights it has.
    pub place: Option<Client>,
    /// What was known of it can be told; those who waited for long were told it.
    pub stale: Option<Stale>,
    /// Servers in the order they are asked, and which one it is; it begins with `first` for each name.
    servers: Vec<SocketAddr>,
    server: usize,
    first: usize,
    /// Names still to try, the next one last; None is the name as it was asked.
    candidates: Vec<Option<Name>>,
    current: Option<Name>,
    /// The type servers are asked for, when it is another than the question's.
    kind: Option<RecordType>,
    /// The question as it was sent last.
    sent: Vec<u8>,
    /// First answer that said no, until there is a better one.
    denied: Option<Denied>,
    /// A server did not understand the question, and said it without repeating it.
    format_error: bool,
    started: Instant,
    asked: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    Known,
    Told,
}

/// What is to be sent: answers to many are made one by one, when they are asked for.
#[derive(Debug)]
pub(super) enum Queued {
    Ready(Output),
    Answer(Waiting, Arc<Vec<u8>>),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub client: u64,
    pub from: Client,
    pub over: Over,
}

/// Who asked, and in which words.
#[derive(Debug)]
pub(super) struct Waiting {
    pub asker: Asker,
    /// Header and question section; of the rest nothing is needed (271 octets at most).
    question: Box<[u8]>,
    /// Octets of an answer by UDP.
    max: usize,
}

impl Waiting {
    /// Keeps id and question, and `max`, the octets an answer may have.
    pub fn new(asker: Asker, bytes: &[u8], max: usize) -> Self {
        let end = wire::question_end(bytes).unwrap_or(HEADER);
        Self { asker, question: bytes.get(..end).unwrap_or_default().into(), max }
    }

    /// What it costs to keep.
    pub fn octets(&self) -> usize {
        self.question.len() + WAITING
    }

    /// The answer with the asker's own id and question.
    pub fn answer(&self, answer: Vec<u8>) -> Output {
        self::answer(self.asker, &self.question, self.max, answer)
    }
}

/// The answer for one who asked the same in its own words.
pub(super) fn answer(asker: Asker, question: &[u8], max: usize, mut answer: Vec<u8>) -> Output {
    wire::readdress(&mut answer, question);
    Output::Answer { client: asker.client, bytes: wire::fit(answer, asker.over, max) }
}

/// An answer that said no, cut to what is told of it when no other name has more (`message::denial`).
#[derive(Debug)]
enum Denied {
    /// Of the name as it was asked: it is not there.
    Name(Vec<u8>),
    /// Of this name: it is there, but has nothing like it. Comes first: who is told that a name is not there does not ask
    /// for its other types.
    Type(Vec<u8>, Option<Name>),
}

/// What becomes of a flight.
#[derive(Debug)]
pub(super) enum Step {
    Ask,
    Answer(Vec<u8>),
    Fail,
}

impl Flight {
    /// A question under way to the servers, first one first.
    pub fn new(
        now: Instant,
        key: Option<Key>,
        waiting: Vec<Waiting>,
        query: Query,
        settings: &Settings,
        servers: Vec<SocketAddr>,
    ) -> Self {
        let mut candidates = candidates(&query, settings);
        candidates.reverse();
        let current = candidates.pop().flatten();
        Self {
            key,
            waiting,
            over: Over::Udp,
            kind: query.asked_as(settings),
            query,
            probe: false,
            place: None,
            stale: None,
            servers,
            server: 0,
            first: 0,
            candidates,
            current,
            sent: Vec::new(),
            denied: None,
            format_error: false,
            started: now,
            asked: now,
        }
    }

    /// The server that is asked now.
    pub fn server(&self) -> Option<SocketAddr> {
        self.servers.get(self.server.checked_rem(self.servers.len())?).copied()
    }

    /// The next message, with this id.
    pub fn message(&mut self, now: Instant, id: u16) -> Option<Vec<u8>> {
        self.asked = now;
        self.sent = self.query.upstream(id, self.current.as_ref(), self.kind)?;
        Some(self.sent.clone())
    }

    /// When something has to happen next.
    pub(crate) fn deadline(&self) -> Instant {
        let server = (self.asked + UPSTREAM_TIMEOUT).min(self.started + BUDGET);
        self.stale_at().map_or(server, |told| server.min(told))
    }

    /// When who waits is told what was known (RFC 8767 §5, the client response timer).
    fn stale_at(&self) -> Option<Instant> {
        (self.stale == Some(Stale::Known)).then(|| self.started + TELL_STALE)
    }

    pub(crate) fn is_time_for_stale(&self, now: Instant) -> bool {
        self.stale_at().is_some_and(|told| told <= now)
    }

    pub(crate) fn is_server_late(&self, now: Instant) -> bool {
        self.asked + UPSTREAM_TIMEOUT <= now || self.is_over(now)
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.started + BUDGET
    }

    /// Whether it answers this question, by id and question section (RFC 5452 §9.1).
    pub fn is_answer(&self, bytes: &[u8]) -> bool {
        wire::answers(bytes, &self.sent) || wire::is_bare_error(bytes, &self.sent)
    }

    /// Whether these are the very bytes that were sent: they have come back.
    pub fn is_ours(&self, question: &[u8]) -> bool {
        self.sent == question
    }

    pub(crate) fn next_server(&mut self) -> Step {
        self.server += 1;
        self.over = Over::Udp;
        // Twice round: a lost datagram is more likely than a dead server.
        let all = self.server - self.first >= 2 * self.servers.len();
        if all || self.probe { Step::Fail } else { Step::Ask }
    }

    /// Takes an answer that is one.
    pub fn take(&mut self, bytes: &[u8]) -> Step {
        if self.probe {
            return Step::Fail;
        }
        let answer = Answer::read(bytes);
        if answer.is_bare {
            self.format_error |= answer.code == ResponseCode::FormErr;
            return self.next_server();
        }
        if answer.cut && self.over == Over::Udp {
            self.over = Over::Tcp;
            return Step::Ask;
        }
        let records = wire::records(bytes);
        match answer.code {
            // Records that are not there: no better than none. A version of EDNS that is not ours, a cookie: nor these.
            _ if records
                .as_ref()
                .map_or(!answer.cut, |records| wire::extended_code(records) != 0) =>
            {
                self.next_server()
            }
            // No other name is tried, and nothing better is known: as it came.
            ResponseCode::NXDomain
                if self.candidates.is_empty()
                    && self.current.is_none()
                    && self.denied.is_none() =>
            {
                self.answer(bytes)
            }
            ResponseCode::NXDomain => {
                if self.current.is_none() && self.denied.is_none() {
                    self.denied = message::denial(bytes).map(Denied::Name);
                }
                self.next_name()
            }
            // The name is there but has nothing of this type: the next name may.
            ResponseCode::NoError if answer.empty && self.current.is_some() => {
                if !matches!(self.denied, Some(Denied::Type(..)))
                    && let Some(bytes) = message::denial(bytes)
                {
                    self.denied = Some(Denied::Type(bytes, self.current.clone()));
                }
                self.next_name()
            }
            // An old server does not know EDNS: the client asks without it.
            ResponseCode::FormErr if self.current.is_some() => {
                self.format_error = true;
                self.next_server()
            }
            ResponseCode::NoError | ResponseCode::FormErr => self.answer(bytes),
            _ => self.next_server(),
        }
    }

    fn answer(&self, bytes: &[u8]) -> Step {
        let answer = self.query.under_its_own_name(bytes, self.current.as_ref());
        match answer.and_then(|bytes| self.as_asked(bytes)) {
            Some(bytes) => Step::Answer(bytes),
            None => Step::Fail,
        }
    }

    fn as_asked(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        if self.kind.is_some() { self.query.without_data(bytes) } else { Some(bytes) }
    }

    fn next_name(&mut self) -> Step {
        match self.candidates.pop() {
            Some(next) => {
                self.current = next;
                self.first = self.server;
                self.over = Over::Udp;
                Step::Ask
            }
            None => Step::Answer(
                self.denial().unwrap_or_else(|| self.query.refusal(ResponseCode::NXDomain)),
            ),
        }
    }

    fn denial(&mut self) -> Option<Vec<u8>> {
        let (bytes, name) = match self.denied.take()? {
            Denied::Name(bytes) => (bytes, None),
            Denied::Type(bytes, name) => (bytes, name),
        };
        self.as_asked(self.query.under_its_own_name(&bytes, name.as_ref())?)
    }

    /// Octets of answers that it keeps.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        match &self.denied {
            Some(Denied::Name(bytes) | Denied::Type(bytes, _)) => bytes.capacity(),
            None => 0,
        }
    }

    /// No server gave an answer: what a name brought, else SERVFAIL, or FORMERR to who may ask in simpler words.
    pub(crate) fn give_up(&mut self) -> Vec<u8> {
        let code = if self.format_error { ResponseCode::FormErr } else { ResponseCode::ServFail };
        self.denial().unwrap_or_else(|| self.query.refusal(code))
    }

    /// Whether what is said of this type holds for all: a name that is tried in domains is tried in all of them for
    /// addresses only.
    pub(crate) fn is_about_the_name(&self, settings: &Settings) -> bool {
        self.query.is_for_an_address() || !is_searched(&self.query, settings)
    }
}

/// Whether the name is tried in the search list too. A name that already ends in a search domain is left alone.
fn is_searched(query: &Query, settings: &Settings) -> bool {
    let dots = query.name().num_labels().saturating_sub(1);
    let text = query.name().to_ascii().to_ascii_lowercase();
    let text = text.trim_end_matches('.');
    let expanded = settings
        .search
        .iter()
        .any(|domain| text == domain || text.ends_with(&format!(".{domain}")));
    !(settings.search.is_empty() || dots >= settings.ndots.max(1) || expanded || text.is_empty())
}

/// Names to try, in order. A single label goes through the search list first, as resolv.conf(5) has it; a name
/// with dots but fewer than `ndots` is tried as it is first, because most guests have gone through the list
/// themselves.
fn candidates(query: &Query, settings: &Settings) -> Vec<Option<Name>> {
    if !query.is_for_an_address() || !is_searched(query, settings) {
        return vec![None];
    }
    let searched = settings.search.iter().filter_map(|domain| {
        let domain = Name::from_ascii(format!("{domain}.")).ok()?;
        query.name().clone().append_domain(&domain).ok().map(Some)
    });
    let is_single = query.name().num_labels() <= 1;
    if is_single {
        searched.chain([None]).collect()
    } else {
        [None].into_iter().chain(searched).collect()
    }
}
