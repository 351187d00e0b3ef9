//! Answers remembered (RFC 1035 §7.3, 2308, 8767, 9520): by question, as bytes, with the places of their TTLs.
//!
//! A plain question is read here without a library: its bytes in lower case are the key. What has anything else in it
//! (options of EDNS, several questions) is not remembered. An answer is kept whole under the question it answers, so
//! nothing it says of other names is ever an answer to them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Octets of all answers with their keys and what keeps them.
const LARGEST: usize = 4 << 20;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 160;
/// RFC 8767 §4, RFC 2308 §5: seconds.
const MOST: u32 = 86_400;
const MOST_NEGATIVE: u32 = 10_800;
/// RFC 9520 §3.2: failures are asked for again after a second.
const FAILURE: u32 = 1;
/// RFC 8767 §5: how long an answer may be told after its end when nobody knows a newer one, and with which TTL.
const STALE: Duration = Duration::from_secs(86_400);
const STALE_TTL: u32 = 30;
/// Answers that lived this long at least are asked for again in the last tenth of their life.
const WORTH_FETCHING: u32 = 10;

const HEADER: usize = 12;
const OPT: u16 = 41;
const SOA: u16 = 6;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// A question, in lower case, with the bits that make another answer of it: RD, CD, EDNS, DO.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Box<[u8]>);

/// A plain question: one that may be answered from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    pub key: Key,
    /// Octets of an answer by UDP.
    pub most: usize,
}

/// Reads a plain question; None when there is more to it.
pub fn plain(bytes: &[u8]) -> Option<Plain> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let [_, _, flags, more, 0, 1, 0, 0, 0, 0, 0, additional @ (0 | 1)] = *header else { return None };
    // A query, opcode 0, nothing but RD; of the second half nothing but AD and CD.
    if flags & 0xfe != 0 || more & 0xcf != 0 {
        return None;
    }
    let end = question_end(bytes)?;
    let mut marks = flags & 1 | more & 0x30;
    let mut most = 512;
    if additional == 1 {
        let [0, 0, 41, size_high, size_low, 0, 0, signed, 0, 0, 0] = *bytes.get(end..)? else { return None };
        if signed & 0x7f != 0 {
            return None;
        }
        most = usize::from(u16::from_be_bytes([size_high, size_low])).clamp(512, 4096);
        marks |= 2 | signed;
    } else if bytes.len() != end {
        return None;
    }
    let mut key = bytes.get(HEADER..end)?.to_ascii_lowercase();
    key.push(marks);
    Some(Plain { key: Key(key.into()), most })
}

/// The same answer to another who asked the same: with its id, and its question's case.
pub fn readdressed(answer: &[u8], question: &[u8]) -> Option<Vec<u8>> {
    let end = question_end(question)?;
    let mut out = answer.to_vec();
    out.get_mut(..2)?.copy_from_slice(question.get(..2)?);
    out.get_mut(HEADER..end)?.copy_from_slice(question.get(HEADER..end)?);
    Some(out)
}

/// Behind name, type and class of the one question: its name is never compressed.
fn question_end(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => at += length,
            _ => return None,
        }
        if at > HEADER + 255 {
            return None;
        }
    }
    bytes.get(at..at + 4)?;
    Some(at + 4)
}

/// What comes of looking.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// As it is to be sent, but for id and case.
    Answer(Vec<u8>),
    /// The same, and it is time to ask for a newer one.
    Ageing(Vec<u8>),
}

#[derive(Debug)]
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
}

impl Entry {
    fn cost(&self, key: &Key) -> usize {
        self.bytes.len() + 2 * self.ttls.len() + 2 * key.0.len() + OVERHEAD
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
pub struct Cache {
    entries: HashMap<Key, Entry>,
    /// In the order they came; one that was used since gets another turn.
    queue: VecDeque<Key>,
    octets: usize,
}

impl Cache {
    pub fn get(&mut self, now: Instant, key: &Key) -> Found {
        let Some(entry) = self.entries.get_mut(key) else { return Found::Nothing };
        let age = u32::try_from(now.saturating_duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        if age >= entry.life {
            return Found::Nothing;
        }
        entry.used = true;
        let bytes = entry.with_ttls(|ttl| ttl.saturating_sub(age));
        let ageing = entry.life >= WORTH_FETCHING && age >= entry.life - entry.life / 10 && !entry.renewing;
        entry.renewing |= ageing;
        if ageing { Found::Ageing(bytes) } else { Found::Answer(bytes) }
    }

    /// What was known, when nobody knows better any more.
    pub fn stale(&self, now: Instant, key: &Key) -> Option<Vec<u8>> {
        let entry = self.entries.get(key)?;
        let end = entry.stored + Duration::from_secs(entry.life.into());
        let worth = entry.bytes.get(3).is_some_and(|code| code & 0xf != SERVFAIL);
        (worth && now < end + STALE).then(|| entry.with_ttls(|_| STALE_TTL))
    }

    /// Remembers an answer, if it may be: with an end, not cut, about the question.
    pub fn put(&mut self, now: Instant, key: &Key, answer: &[u8]) {
        let Some((life, ttls)) = life(answer) else { return };
        let failed = answer.get(3).is_some_and(|code| code & 0xf == SERVFAIL);
        if failed && self.stale(now, key).is_some() {
            return;
        }
        let mut bytes = answer.to_vec();
        if let Some(flags) = bytes.get_mut(2) {
            // Not an authority's word any more.
            *flags &= !0x04;
        }
        let entry = Entry { bytes, ttls, stored: now, life, used: false, renewing: false };
        self.octets += entry.cost(key);
        match self.entries.insert(key.clone(), entry) {
            Some(before) => self.octets -= before.cost(key),
            None => self.queue.push_back(key.clone()),
        }
        self.shrink();
    }

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

/// One record: where its TTL is, its type, owner and data.
struct Place {
    owner: usize,
    kind: u16,
    ttl_at: usize,
    ttl: u32,
    data: usize,
    length: usize,
}

/// How long an answer may be told, and the places of its TTLs; None: it must not be remembered.
fn life(answer: &[u8]) -> Option<(u32, Vec<u16>)> {
    let header: &[u8; HEADER] = answer.first_chunk()?;
    let [_, _, flags, code, 0, 1, a1, a2, n1, n2, x1, x2] = *header else { return None };
    if flags & 0x02 != 0 {
        return None;
    }
    let counts = [[a1, a2], [n1, n2], [x1, x2]].map(|count| usize::from(u16::from_be_bytes(count)));
    let [answers, authorities, _] = counts;
    let mut at = question_end(answer)?;
    let (mut ttls, mut least, mut negative, mut about) = (Vec::new(), MOST, None, true);
    for index in 0..counts.iter().sum() {
        let record = record(answer, at)?;
        at = record.data + record.length;
        if record.kind == OPT {
            continue;
        }
        ttls.push(u16::try_from(record.ttl_at).ok()?);
        // RFC 2181 §8: the highest bit set means zero.
        let ttl = if record.ttl >> 31 == 0 { record.ttl } else { 0 };
        if index < answers {
            least = least.min(ttl);
            if index == 0 {
                about = same_name(answer, record.owner);
            }
        } else if index < answers + authorities && record.kind == SOA && record.length >= 4 {
            let minimum =
                answer.get(at - 4..at)?.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets));
            negative = Some(ttl.min(minimum).min(MOST_NEGATIVE));
        }
    }
    let life = match (code & 0xf, answers) {
        (0, 1..) => Some(least).filter(|_| about),
        // A CNAME that leads to nothing ends with its SOA too.
        (0, 0) | (NXDOMAIN, _) => negative.map(|negative| negative.min(least)),
        (SERVFAIL, 0) => Some(FAILURE),
        _ => None,
    };
    life.filter(|life| *life > 0).map(|life| (life, ttls))
}

fn record(bytes: &[u8], owner: usize) -> Option<Place> {
    let fixed = skip_name(bytes, owner)?;
    let field: &[u8; 10] = bytes.get(fixed..)?.first_chunk()?;
    let [k1, k2, _, _, t1, t2, t3, t4, l1, l2] = *field;
    let (kind, ttl) = (u16::from_be_bytes([k1, k2]), u32::from_be_bytes([t1, t2, t3, t4]));
    let (data, length) = (fixed + 10, usize::from(u16::from_be_bytes([l1, l2])));
    bytes.get(data..data + length)?;
    Some(Place { owner, kind, ttl_at: fixed + 4, ttl, data, length })
}

/// Behind a name, which may end in a pointer.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + length,
            0xc0.. => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

/// Whether the name there is the question's.
fn same_name(bytes: &[u8], mut at: usize) -> bool {
    let mut question = HEADER;
    for _ in 0..256 {
        let (Some(&length), Some(&wanted)) = (bytes.get(at), bytes.get(question)) else { return false };
        if length >= 0xc0 {
            let Some(&low) = bytes.get(at + 1) else { return false };
            let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
            if to >= at {
                return false;
            }
            at = to;
            continue;
        }
        let size = usize::from(length) + 1;
        let label = |from: usize| bytes.get(from..from + size);
        let same = matches!((label(at), label(question)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        if length != wanted || !same {
            return false;
        }
        if length == 0 {
            return true;
        }
        at += size;
        question += size;
    }
    false
}
