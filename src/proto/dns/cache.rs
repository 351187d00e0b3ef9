//! Answers remembered (RFC 1035 §7.3, 2308, 8020, 8767, 9520): by question, as bytes, with the places of their TTLs.
//!
//! An answer is kept whole under the question it answers, so nothing it says of other names is ever an answer to them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::wire::{HEADER, Key, OPT, is_the_questions, records};

/// Octets of all answers with their keys and what keeps them.
const LARGEST: usize = 4 << 20;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 384;
/// RFC 8767 §4, RFC 2308 §5: seconds.
const MAX_TTL: u32 = 86_400;
const MAX_NEGATIVE: u32 = 10_800;
/// RFC 9520 §3.2: failures are asked for again after a second.
const FAILURE: u32 = 1;
/// RFC 8767 §5: how long an answer may be told after its end when nobody knows a newer one, with which TTL, and how long
/// nobody is asked after that failed.
const STALE: Duration = Duration::from_secs(86_400);
const STALE_TTL: u32 = 30;
const RECHECK: Duration = Duration::from_secs(30);
/// Answers that lived this long at least are asked for again in the last tenth of their life.
const WORTH_FETCHING: u32 = 10;

const SOA: u16 = 6;
/// What names are asked for: A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, HTTPS.
const KINDS: [u16; 10] = [1, 2, 5, SOA, 12, 15, 16, 28, 33, 65];
const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// What comes of looking.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// As it is to be sent, but for id and case.
    Answer(Vec<u8>),
    /// The same, and it is time to ask for a newer one.
    Ageing(Vec<u8>),
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Vec<u8>,
    /// Where TTLs are.
    ttls: Vec<u16>,
    stored: Instant,
    /// Seconds.
    life: u32,
    used: bool,
    /// Somebody is asking for a newer one.
    renewing: bool,
    /// Nobody knew a newer one: none is asked for before.
    again: Option<Instant>,
}

impl Entry {
    fn cost(&self, key: &Key) -> usize {
        self.bytes.len() + 2 * self.ttls.len() + 2 * key.0.len() + OVERHEAD
    }

    fn code(&self) -> Option<u8> {
        self.bytes.get(3).map(|code| code & 0xf)
    }

    /// Whether it may be told when nobody knows better.
    fn is_lately_known(&self, now: Instant) -> bool {
        now < self.stored + Duration::from_secs(self.life.into()) + STALE
    }

    fn says_it_is_there(&self, now: Instant) -> bool {
        self.code() == Some(NOERROR) && self.is_lately_known(now)
    }

    fn with_ttls(&self, ttl: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for at in &self.ttls {
            let at = usize::from(*at);
            if let Some(field) = bytes.get_mut(at..at + 4) {
                let old = field.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets));
                field.copy_from_slice(&ttl(old).to_be_bytes());
            }
        }
        bytes
    }
}

#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// In the order they came; one that was used since gets another turn.
    queue: VecDeque<Key>,
    octets: usize,
    /// Bits that questions had: few of all there could be.
    marks: BTreeSet<u8>,
}

impl Cache {
    /// What is known, of the question or of its name: one that does not exist has nothing of any type (RFC 8020 §2).
    pub fn get(&mut self, now: Instant, key: &Key) -> Found {
        match self.look(now, key) {
            Found::Nothing => self.look(now, &key.of_the_name()),
            found => found,
        }
    }

    fn look(&mut self, now: Instant, key: &Key) -> Found {
        let Some(entry) = self.entries.get_mut(key) else { return Found::Nothing };
        let age = u32::try_from(now.saturating_duration_since(entry.stored).as_secs())
            .unwrap_or(u32::MAX);
        if age >= entry.life {
            let refreshing = entry.again.is_some_and(|again| now < again);
            return if refreshing {
                self.stale(now, key).map_or(Found::Nothing, Found::Answer)
            } else {
                Found::Nothing
            };
        }
        entry.used = true;
        let bytes = entry.with_ttls(|ttl| ttl.saturating_sub(age));
        let ageing =
            entry.life >= WORTH_FETCHING && age >= entry.life - entry.life / 10 && !entry.renewing;
        entry.renewing |= ageing;
        if ageing { Found::Ageing(bytes) } else { Found::Answer(bytes) }
    }

    /// What was known, when nobody knows better any more.
    pub fn stale(&self, now: Instant, key: &Key) -> Option<Vec<u8>> {
        let entry = self.entries.get(key)?;
        let worth = entry.code() != Some(SERVFAIL) && entry.is_lately_known(now);
        worth.then(|| entry.with_ttls(|_| STALE_TTL))
    }

    /// Nobody knows better: what is known is told without asking, for a while.
    pub(crate) fn none_newer(&mut self, now: Instant, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.again = Some(now + RECHECK);
            entry.renewing = false;
        }
    }

    /// Remembers an answer, if it may be: with an end, not cut, about the question; one that says there is no such name
    /// is remembered of all its types too, if it is `about_the_name`, and none of them is known. (Servers that balance load
    /// say so of a name that has addresses of the other kind.)
    pub fn put(&mut self, now: Instant, key: &Key, answer: &[u8], about_the_name: bool) {
        let Some((life, ttls)) = life(answer) else { return };
        let code = answer.get(3).map_or(0, |code| code & 0xf);
        if code == SERVFAIL && self.stale(now, key).is_some() {
            return;
        }
        let mut bytes = answer.to_vec();
        if let Some(flags) = bytes.get_mut(2) {
            // Not an authority's word any more.
            *flags &= !0x04;
        }
        self.marks.insert(key.marks());
        let entry =
            Entry { bytes, ttls, stored: now, life, used: false, renewing: false, again: None };
        match code {
            // With a CNAME before it the name is there, and what it leads to is not.
            NXDOMAIN if about_the_name && answer.get(6..8) == Some(&[0, 0]) => {
                if !self.has_other_types(now, key) {
                    self.insert(key.of_the_name(), entry.clone());
                }
            }
            SERVFAIL => {}
            _ => self.is_there(key),
        }
        self.insert(key.clone(), entry);
        self.shrink();
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.octets += entry.cost(&key);
        match self.entries.insert(key.clone(), entry) {
            Some(before) => self.octets -= before.cost(&key),
            None => self.queue.push_back(key),
        }
    }

    /// Whether the name is known to be there by another type, in whichever words it was asked.
    fn has_other_types(&self, now: Instant, key: &Key) -> bool {
        let mut other = key.clone();
        let kinds = KINDS.iter().filter(|kind| **kind != key.kind());
        kinds.flat_map(|kind| self.marks.iter().map(move |marks| (*kind, *marks))).any(
            |(kind, marks)| {
                other.ask_for(kind, marks);
                self.entries.get(&other).is_some_and(|entry| entry.says_it_is_there(now))
            },
        )
    }

    /// That there is no such name is not so any more.
    fn is_there(&mut self, key: &Key) {
        let mut name = key.clone();
        for marks in &self.marks {
            name.ask_for(0, *marks);
            if let Some(entry) = self.entries.get_mut(&name) {
                (entry.life, entry.again) = (0, None);
            }
        }
    }

    /// Forgets all answers.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn shrink(&mut self) {
        while self.octets > LARGEST {
            let Some(key) = self.queue.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if std::mem::take(&mut entry.used) {
                self.queue.push_back(key);
            } else if let Some(entry) = self.entries.remove(&key) {
                self.octets -= entry.cost(&key);
            }
        }
    }
}

/// How long an answer may be told, and the places of its TTLs; None: it must not be remembered.
fn life(answer: &[u8]) -> Option<(u32, Vec<u16>)> {
    let header: &[u8; HEADER] = answer.first_chunk()?;
    let [_, _, flags, code, _, _, answers @ ..] = *header;
    if flags & 0x02 != 0 {
        return None;
    }
    let (mut ttls, mut min, mut negative, mut about) = (Vec::new(), MAX_TTL, None, true);
    for (index, (section, record)) in records(answer)?.into_iter().enumerate() {
        if record.kind == OPT {
            continue;
        }
        ttls.push(u16::try_from(record.ttl_at).ok()?);
        // RFC 2181 §8: the highest bit set means zero.
        let ttl = if record.ttl >> 31 == 0 { record.ttl } else { 0 };
        if section == 0 {
            min = min.min(ttl);
            if index == 0 {
                about = is_the_questions(answer, record.owner);
            }
        } else if section == 1 && record.kind == SOA && record.length >= 4 {
            let end = record.end();
            let minimum = answer
                .get(end - 4..end)?
                .first_chunk()
                .map_or(0, |octets| u32::from_be_bytes(*octets));
            negative = Some(ttl.min(minimum).min(MAX_NEGATIVE));
        }
    }
    let life = match (code & 0xf, answers.first_chunk()) {
        (SERVFAIL, Some([0, 0])) => Some(FAILURE),
        // A CNAME that leads to nothing ends with its SOA too.
        (0, Some([0, 0])) | (NXDOMAIN, _) => negative.map(|negative| negative.min(min)),
        (0, _) => Some(min).filter(|_| about),
        _ => None,
    };
    life.filter(|life| *life > 0).map(|life| (life, ttls))
}
