//! A message as its octets: the question, where the records are, what of them fits (RFC 1035 §4, 6891 §6.1).
//!
//! Nearly every question is a plain one and is read here without a library; whatever else is in a message, nothing here
//! looks at the data of a record, so that types nobody knows pass as they came (RFC 3597).

use hickory_proto::rr::Name;

use super::Over;

/// Header of a DNS message (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;
/// What a client without EDNS takes over UDP (RFC 1035 §4.2.1), and the most that is sent that way.
pub(crate) const MIN_UDP: usize = 512;
const MAX_UDP: usize = 4096;
/// What servers are told that we take (RFC 6891 §6.2.5): never in fragments.
pub(crate) const UPSTREAM_UDP: [u8; 2] = 1232u16.to_be_bytes();
/// QR and TC of the first octet of flags, AD and CD of the second.
const QR: u8 = 0x80;
const TC: u8 = 0x02;
const CHECKED: u8 = 0x30;
/// The EDNS pseudo-record's type (RFC 6891 §6.1.1).
pub const OPT: u16 = 41;

/// A question, in lower case, with the bits that make another answer of it: RD, AD, CD, EDNS, DO.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(pub Box<[u8]>);

impl Key {
    /// That the name does not exist, whatever is asked of it (RFC 8020 §2): a type no question has.
    pub(crate) fn of_the_name(&self) -> Self {
        let mut key = self.clone();
        key.ask_for(0, self.marks());
        key
    }

    /// It becomes the question for another type, with other bits.
    pub(crate) fn ask_for(&mut self, kind: u16, bits: u8) {
        if let Some([high, low, _, _, marks]) = self.0.last_chunk_mut::<5>() {
            [*high, *low] = kind.to_be_bytes();
            *marks = bits;
        }
    }

    /// The question's type (RFC 1035 §3.2.2).
    pub fn kind(&self) -> u16 {
        self.0.last_chunk::<5>().map_or(0, |[high, low, ..]| u16::from_be_bytes([*high, *low]))
    }

    pub(crate) fn marks(&self) -> u8 {
        self.0.last().copied().unwrap_or(0)
    }
}

/// A plain question: one, and EDNS or not. EDNS options are between two neighbours: ours end here (RFC 6891 §6.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    pub key: Key,
    /// Octets of an answer by UDP.
    pub max: usize,
    /// The second octet of the flags of EDNS: DO, if there is EDNS.
    edns: Option<u8>,
}

/// Reads a plain question; None when there is more to it, or something wrong.
pub fn plain(bytes: &[u8]) -> Option<Plain> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let [_, _, flags, more, 0, 1, 0, 0, 0, 0, 0, additional @ (0 | 1)] = *header else {
        return None;
    };
    // A query, opcode 0, nothing but RD; of the second half nothing but AD and CD.
    if flags & 0xfe != 0 || more & !CHECKED != 0 {
        return None;
    }
    let end = question_end(bytes)?;
    let (mut marks, mut max, mut edns) = (flags & 1 | more & CHECKED, MIN_UDP, None);
    if additional == 1 {
        let [0, 0, 41, size_high, size_low, _, 0, signed, _, ref options @ ..] =
            *bytes.get(end..)?
        else {
            return None;
        };
        if !are_options(options) {
            return None;
        }
        max = within_udp(u16::from_be_bytes([size_high, size_low]).into());
        marks |= 2 | signed & 0x80;
        edns = Some(signed & 0x80);
    } else if bytes.len() != end {
        return None;
    }
    let mut key = bytes.get(HEADER..end)?.to_vec();
    // Letters of the name only: types differ by these bits too.
    let name = key.len().checked_sub(4)?;
    key.get_mut(..name)?.make_ascii_lowercase();
    key.push(marks);
    Some(Plain { key: Key(key.into()), max, edns })
}

impl Plain {
    /// The same question for a server, by another name if there is one.
    pub fn upstream(&self, question: &[u8], id: u16, name: Option<&Name>) -> Option<Vec<u8>> {
        let end = question_end(question)?;
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend(question.get(2..HEADER)?);
        match name {
            None => bytes.extend(question.get(HEADER..end)?),
            Some(name) => {
                for label in name {
                    bytes.push(u8::try_from(label.len()).ok()?);
                    bytes.extend(label);
                }
                bytes.push(0);
                bytes.extend(question.get(end - 4..end)?);
            }
        }
        if let Some(signed) = self.edns {
            bytes.extend([0, 0, 41]);
            bytes.extend(UPSTREAM_UDP);
            bytes.extend([0, 0, signed, 0, 0, 0]);
        }
        Some(bytes)
    }
}

pub(crate) fn within_udp(size: usize) -> usize {
    size.clamp(MIN_UDP, MAX_UDP)
}

/// Whether this is the length of options and as many octets of options.
fn are_options(bytes: &[u8]) -> bool {
    let Some(([high, low], mut rest)) = bytes.split_first_chunk() else { return false };
    if rest.len() != usize::from(u16::from_be_bytes([*high, *low])) {
        return false;
    }
    while let Some(([_, _, high, low], more)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(after) = more.get(length..) else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// Behind name, type and class of the one question: its name is never compressed.
pub(crate) fn question_end(bytes: &[u8]) -> Option<usize> {
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

/// What an error of broken servers has for a response code, when it comes as a header alone: FORMERR, SERVFAIL, NOTIMP,
/// REFUSED. Anything else would be said of a name.
const ERRORS: [u8; 4] = [1, 2, 4, 5];

/// Whether these bytes are no more than an error for the message of this id. Who can forge it can forge the question too.
pub(crate) fn is_bare_error(bytes: &[u8], sent: &[u8]) -> bool {
    let Some([id1, id2, flags, code, 0, 0, 0, 0, 0, 0, _, _]) = bytes.first_chunk::<HEADER>()
    else {
        return false;
    };
    flags & QR != 0 && sent.get(..2) == Some(&[*id1, *id2]) && ERRORS.contains(&(code & 0xf))
}

/// The type of the one question becomes this one.
pub(crate) fn set_type(bytes: &mut [u8], kind: u16) -> Option<()> {
    let end = question_end(bytes)?;
    bytes.get_mut(end - 4..end - 2)?.copy_from_slice(&kind.to_be_bytes());
    Some(())
}

/// The upper eight of the twelve bits of a response code (RFC 6891 §6.1.3); 0 without EDNS.
pub(crate) fn extended_code(records: &[(usize, Place)]) -> u32 {
    records.iter().find(|(_, record)| record.kind == OPT).map_or(0, |(_, record)| record.ttl >> 24)
}

/// Whether these bytes answer the question that was sent: its id, name, type and class (RFC 5452 §9.1). Names are
/// compared without case (RFC 4343).
pub fn answers(bytes: &[u8], sent: &[u8]) -> bool {
    let about = |bytes: &[u8]| {
        let end = question_end(bytes)?;
        let question = bytes.get(HEADER..end)?;
        question
            .split_last_chunk()
            .map(|(name, kind): (&[u8], &[u8; 4])| (name.to_ascii_lowercase(), *kind))
    };
    bytes.get(2).is_some_and(|flags| flags & QR != 0)
        && bytes.get(..2) == sent.get(..2)
        && bytes.get(4..6) == Some(&[0, 1])
        && about(bytes).is_some_and(|ours| about(sent) == Some(ours))
}

/// The same answer for another who asked the same: with its id, and its question's case. False: there is no place for it.
pub(crate) fn readdress(answer: &mut [u8], question: &[u8]) -> bool {
    let Some(end) = question_end(question) else { return false };
    let parts = [0..2, HEADER..end];
    parts.into_iter().all(|part| match (answer.get_mut(part.clone()), question.get(part)) {
        (Some(to), Some(from)) => {
            to.copy_from_slice(from);
            true
        }
        _ => false,
    })
}

/// One record: where its TTL is, its type, owner and data.
pub struct Place {
    pub owner: usize,
    pub kind: u16,
    pub ttl_at: usize,
    pub ttl: u32,
    pub data: usize,
    pub length: usize,
}

impl Place {
    /// Where the next record begins.
    pub fn end(&self) -> usize {
        self.data + self.length
    }
}

/// The records of a message, in order, each with the section it is in: answers, authorities, others. None: there are not
/// as many as the header says, or there is something behind them.
pub fn records(bytes: &[u8]) -> Option<Vec<(usize, Place)>> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let [_, _, _, _, 0, 1, a1, a2, n1, n2, x1, x2] = *header else { return None };
    let counts = [[a1, a2], [n1, n2], [x1, x2]].map(u16::from_be_bytes);
    let mut at = question_end(bytes)?;
    let mut found = Vec::new();
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let record = record(bytes, at)?;
            at = record.end();
            found.push((section, record));
        }
    }
    (at == bytes.len()).then_some(found)
}

/// Whether all records are there, with options where they belong.
pub(crate) fn is_sound(bytes: &[u8]) -> bool {
    let options =
        |record: &Place| bytes.get(record.data - 2..record.end()).is_some_and(are_options);
    records(bytes)
        .is_some_and(|all| all.iter().all(|(_, record)| record.kind != OPT || options(record)))
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
pub(crate) fn is_the_questions(bytes: &[u8], mut at: usize) -> bool {
    let mut question = HEADER;
    for _ in 0..256 {
        let (Some(&length), Some(&wanted)) = (bytes.get(at), bytes.get(question)) else {
            return false;
        };
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
        let same =
            matches!((label(at), label(question)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
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

/// Over UDP no more than the client takes: the records that fit, in order, and the bit that says so when there are
/// answers or authorities among the rest (RFC 2181 §9). What EDNS says is kept (RFC 6891 §7).
pub fn fit(answer: Vec<u8>, over: Over, max: usize) -> Vec<u8> {
    if over == Over::Tcp || answer.len() <= max {
        return answer;
    }
    cut(&answer, max).unwrap_or_else(|| {
        // Not even the question can be told from the rest.
        let mut header = answer;
        header.truncate(HEADER);
        if let Some(flags) = header.get_mut(2) {
            *flags |= TC;
        }
        header.iter_mut().skip(4).for_each(|count| *count = 0);
        header
    })
}

fn cut(answer: &[u8], max: usize) -> Option<Vec<u8>> {
    let start = question_end(answer)?;
    let records = records(answer).unwrap_or_default();
    let opt = records.iter().find(|(_, record)| record.kind == OPT);
    let opt =
        opt.and_then(|(_, record)| answer.get(record.owner..record.end())).unwrap_or_default();
    let room = max.checked_sub(opt.len())?;
    let (mut end, mut counts) = (start, [0u16; 3]);
    let mut all = !records.is_empty();
    for (section, record) in &records {
        // Pointers point back: what comes before a record does not need it.
        if record.kind == OPT || record.end() > room {
            all &= *section == 2;
            break;
        }
        end = record.end();
        if let Some(count) = counts.get_mut(*section) {
            *count += 1;
        }
    }
    let mut out = answer.get(..end)?.to_vec();
    if !opt.is_empty() {
        out.extend(opt);
        counts = [counts[0], counts[1], counts[2] + 1];
    }
    if !all {
        *out.get_mut(2)? |= TC;
    }
    for (count, field) in counts.iter().zip(out.get_mut(6..HEADER)?.chunks_exact_mut(2)) {
        field.copy_from_slice(&count.to_be_bytes());
    }
    Some(out)
}
