//! One question on its way: which name is tried, which server is asked, what was the best answer so far.

use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;

use super::cache::Key;
use super::message::{Answer, Query};
use super::{BUDGET, Over, PATIENCE, Settings};

#[derive(Debug)]
pub(super) struct Flight {
    /// What the answer is remembered by.
    pub key: Option<Key>,
    pub waiting: Vec<Waiting>,
    /// How the server is asked: UDP until an answer was cut.
    pub upstream: Over,
    pub query: Query,
    /// Index of the server, counted on from where it began.
    pub server: usize,
    first_server: usize,
    /// Names still to try, the next one last; None is the name as it was asked.
    candidates: Vec<Option<Name>>,
    current: Option<Name>,
    /// Message id of the last question sent.
    id: u16,
    /// First answer that said no, for the name as it was asked: it has the SOA.
    negative: Option<Vec<u8>>,
    started: Instant,
    asked: Instant,
}

/// Who asked, how, and in which words.
#[derive(Debug)]
pub(super) struct Waiting {
    pub client: u64,
    pub over: Over,
    pub question: Vec<u8>,
}

/// What becomes of a flight.
#[derive(Debug)]
pub(super) enum Step {
    Ask,
    Answer(Vec<u8>),
    Fail,
}

impl Flight {
    pub fn new(
        now: Instant,
        key: Option<Key>,
        waiting: Vec<Waiting>,
        query: Query,
        settings: &Settings,
        server: usize,
    ) -> Self {
        let mut candidates = candidates(&query, settings);
        candidates.reverse();
        let current = candidates.pop().flatten();
        Self {
            key,
            waiting,
            upstream: Over::Udp,
            query,
            server,
            first_server: server,
            candidates,
            current,
            id: 0,
            negative: None,
            started: now,
            asked: now,
        }
    }

    /// The message to send, with this id.
    pub fn message(&mut self, id: u16) -> Option<Vec<u8>> {
        self.id = id;
        self.query.upstream(id, self.current.as_ref())
    }

    pub fn asked_at(&mut self, now: Instant) {
        self.asked = now;
    }

    pub fn deadline(&self) -> Instant {
        (self.asked + PATIENCE).min(self.started + BUDGET)
    }

    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.started + BUDGET
    }

    /// The id and question we sent, from whom we asked: anything else is not an answer (RFC 5452 §9.1).
    pub fn is_answer(&self, bytes: &[u8]) -> bool {
        self.query.is_answered_by(bytes, self.id, self.current.as_ref())
    }

    pub fn next_server(&mut self, servers: usize) -> Step {
        self.server = self.server.wrapping_add(1);
        self.upstream = Over::Udp;
        // Twice round: a lost datagram is more likely than a dead server.
        if self.server.wrapping_sub(self.first_server) >= 2 * servers.max(1) { Step::Fail } else { Step::Ask }
    }

    /// Takes an answer that is one.
    pub fn take(&mut self, bytes: &[u8], servers: usize) -> Step {
        let answer = Answer::read(bytes);
        if answer.cut && self.upstream == Over::Udp {
            self.upstream = Over::Tcp;
            return Step::Ask;
        }
        match answer.code {
            ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp => {
                self.next_server(servers)
            }
            ResponseCode::NXDomain => self.no_such_name(bytes),
            // The name is there but has nothing of this type: the next name may.
            ResponseCode::NoError if answer.empty && self.current.is_some() => self.no_such_name(bytes),
            _ => match self.query.under_its_own_name(bytes, self.current.as_ref()) {
                Some(bytes) => Step::Answer(bytes),
                None => Step::Fail,
            },
        }
    }

    fn no_such_name(&mut self, bytes: &[u8]) -> Step {
        if self.current.is_none() {
            self.negative = Some(bytes.to_vec());
        }
        match self.candidates.pop() {
            Some(next) => {
                self.current = next;
                self.first_server = self.server;
                self.upstream = Over::Udp;
                Step::Ask
            }
            None => {
                match self.negative.take().and_then(|bytes| self.query.under_its_own_name(&bytes, None)) {
                    Some(bytes) => Step::Answer(bytes),
                    None => Step::Answer(self.query.refusal(ResponseCode::NXDomain)),
                }
            }
        }
    }

    /// No server gave an answer: what the first name brought, else SERVFAIL.
    pub fn give_up(&mut self) -> Vec<u8> {
        let kept = self.negative.take().and_then(|bytes| self.query.under_its_own_name(&bytes, None));
        kept.unwrap_or_else(|| self.query.refusal(ResponseCode::ServFail))
    }
}

/// Names to try, in order. A single label goes through the search list first, as resolv.conf(5) has it; a name
/// with dots but fewer than `ndots` is tried as it is first, because most guests have gone through the list
/// themselves, and a name that already ends in a search domain is left alone.
fn candidates(query: &Query, settings: &Settings) -> Vec<Option<Name>> {
    let dots = query.name().num_labels().saturating_sub(1);
    let text = query.name().to_ascii().to_ascii_lowercase();
    let text = text.trim_end_matches('.');
    let expanded =
        settings.search.iter().any(|domain| text == domain || text.ends_with(&format!(".{domain}")));
    if dots >= settings.ndots.max(1) || expanded || text.is_empty() || !query.is_for_an_address() {
        return vec![None];
    }
    let searched = settings.search.iter().filter_map(|domain| {
        let domain = Name::from_ascii(format!("{domain}.")).ok()?;
        query.name().clone().append_domain(&domain).ok().map(Some)
    });
    if dots == 0 { searched.chain([None]).collect() } else { [None].into_iter().chain(searched).collect() }
}
