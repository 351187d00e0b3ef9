//! The transaction: one datagram of nfnetlink messages that the kernel takes whole or not at all
//! (net/netfilter/nfnetlink.c, `nfnetlink_rcv_batch`).
//!
//! ```text
//! found and wanted hang on the same hooks ──► what differs is deleted, what is new is added
//! anything else                           ──► the table made if absent, deleted, made again
//! ```
//!
//! The kernel swaps old for new in one step, so no packet meets half of it; kernels without NFT_MSG_DESTROYTABLE
//! (before 6.3) take it too. The first way leaves chains, their hooks, objects, sets and rules that are as wanted
//! alone, and with them what they have counted; both ways hand on what was counted to what is made again. Other
//! tables are not touched.

mod blame;
mod carry;
mod kept;
mod same;

use super::attr::{Header, Writer};
use super::expr::SetIds;
use super::nfta;
use super::wire::kind;
use super::{Chain, Element, Error, Family, Generation, Ruleset, Set, Table};
use blame::Subject;
use kept::{Kept, KeptRules};

/// NLM_F_REQUEST, _ACK, _CREATE, _APPEND.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// NFNL_SUBSYS_NFTABLES, also the resource a batch is for.
pub(super) const SUBSYSTEM: u16 = 10;
/// Octets of elements per message; an attribute's length has 16 bits.
const ELEMENTS_LEN: usize = 32_768;

/// Bytes of a transaction, and what each message of it is about.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    first_sequence: u32,
    subjects: Vec<Subject>,
    /// Names of what is deleted, for blame.
    deleted: Vec<String>,
}

impl Batch {
    /// A transaction that replaces the tables of `wanted`, of which those in `found` are there. Refused with
    /// ERESTART when the kernel's generation is not `generation` any more, the one that `found` is of. Sequence
    /// numbers begin at `first_sequence`.
    pub fn replace(
        wanted: &Ruleset,
        found: &Ruleset,
        generation: Option<Generation>,
        first_sequence: u32,
    ) -> Result<Self, Error> {
        let mut builder = Builder::begin(generation, first_sequence);
        for (at, table) in wanted.tables.iter().enumerate() {
            match found.table(table.family, &table.name) {
                Some(found) => {
                    let kept = Kept::of(table, found);
                    builder.table(at, &carry::carried(table, found, kept.as_ref()), kept);
                }
                None => builder.table(at, table, None),
            }
        }
        let too_long = builder.writer.too_long();
        let batch = builder.end();
        if too_long { Err(Error::TooLong(batch.longest(wanted))) } else { Ok(batch) }
    }

    /// A transaction that removes the tables named, if they are there.
    pub fn remove(tables: &[(Family, &str)], first_sequence: u32) -> Self {
        let mut builder = Builder::begin(None, first_sequence);
        for (at, (family, name)) in tables.iter().enumerate() {
            builder.no_table(at, *family, name);
        }
        builder.end()
    }

    /// An empty transaction: waits for any other in flight, changes nothing, and is refused with ERESTART when the
    /// generation has moved. Answers only when refused.
    pub(crate) fn barrier(generation: Generation, first_sequence: u32) -> Self {
        Builder::begin(Some(generation), first_sequence).end()
    }

    /// What is to be sent in one piece.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of messages, begin and end counted.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether there is nothing between begin and end, as in a barrier: nothing is answered then.
    pub fn is_empty(&self) -> bool {
        self.subjects.len() <= 2
    }

    /// The table that the message with this sequence number makes or deletes.
    pub fn table<'a>(&self, ruleset: &'a Ruleset, sequence: u32) -> Option<&'a Table> {
        let index = usize::try_from(sequence.wrapping_sub(self.first_sequence)).ok()?;
        match *self.subjects.get(index)? {
            Subject::Table(at) => ruleset.tables.get(at),
            _ => None,
        }
    }

    /// The table that the message with this sequence number makes or changes a part of.
    pub(crate) fn part_of<'a>(&self, ruleset: &'a Ruleset, sequence: u32) -> Option<&'a Table> {
        let index = usize::try_from(sequence.wrapping_sub(self.first_sequence)).ok()?;
        match *self.subjects.get(index)? {
            Subject::Table(at)
            | Subject::Set(at, _)
            | Subject::Elements(at, ..)
            | Subject::Object(at, _)
            | Subject::Chain(at, _)
            | Subject::Rule(at, ..) => ruleset.tables.get(at),
            Subject::Transaction | Subject::Deleted(_) => None,
        }
    }
}

struct Builder {
    writer: Writer,
    first_sequence: u32,
    subjects: Vec<Subject>,
    deleted: Vec<String>,
    /// Where the last message between begin and end starts.
    last: Option<usize>,
}

impl Builder {
    fn begin(generation: Option<Generation>, first_sequence: u32) -> Self {
        let mut builder = Self {
            writer: Writer::new(),
            first_sequence,
            subjects: Vec::new(),
            deleted: Vec::new(),
            last: None,
        };
        builder.control(BATCH_BEGIN, |w| w.some_u32(nfta::generation::ID, generation));
        builder
    }

    fn end(mut self) -> Batch {
        self.control(BATCH_END, |_| {});
        let mut bytes = self.writer.into_bytes();
        if let Some(last) = self.last {
            acknowledge(&mut bytes, last);
        }
        let Self { first_sequence, subjects, deleted, .. } = self;
        Batch { bytes, first_sequence, subjects, deleted }
    }

    fn control(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let sequence = self.next_sequence(Subject::Transaction);
        let header =
            Header { kind, flags: REQUEST, sequence, resource: SUBSYSTEM, ..Header::default() };
        self.writer.message(header, fill);
    }

    fn message(
        &mut self,
        subject: Subject,
        kind: u8,
        flags: u16,
        family: Family,
        fill: impl FnOnce(&mut Writer),
    ) {
        self.last = Some(self.writer.len());
        let sequence = self.next_sequence(subject);
        let kind = SUBSYSTEM << 8 | u16::from(kind);
        let header = Header {
            kind,
            flags: REQUEST | flags,
            sequence,
            family: family.0,
            ..Header::default()
        };
        self.writer.message(header, fill);
    }

    fn next_sequence(&mut self, subject: Subject) -> u32 {
        let number = u32::try_from(self.subjects.len()).unwrap_or(u32::MAX);
        self.subjects.push(subject);
        self.first_sequence.wrapping_add(number)
    }

    /// Makes and deletes: deleting alone is refused when there is none.
    fn no_table(&mut self, at: usize, family: Family, name: &str) {
        self.message(Subject::Table(at), kind::NEW_TABLE, CREATE, family, |w| {
            w.text(nfta::table::NAME, name);
        });
        self.message(Subject::Table(at), kind::DEL_TABLE, 0, family, |w| {
            w.text(nfta::table::NAME, name);
        });
    }

    fn table(&mut self, at: usize, table: &Table, kept: Option<Kept<'_>>) {
        match &kept {
            Some(kept) => self.make_room(at, table, kept),
            None => {
                self.no_table(at, table.family, &table.name);
                self.message(Subject::Table(at), kind::NEW_TABLE, CREATE, table.family, |w| {
                    table.encode(w);
                });
            }
        }
        let kept = kept.unwrap_or_default();
        for (index, chain) in table.chains.iter().enumerate() {
            if !kept.chains.contains(chain.name.as_str()) {
                self.message(
                    Subject::Chain(at, index),
                    kind::NEW_CHAIN,
                    CREATE,
                    table.family,
                    |w| {
                        chain.encode(&table.name, w);
                    },
                );
            }
        }
        for (index, object) in table.objects.iter().enumerate() {
            if !kept.objects.contains(&object.id()) {
                let subject = Subject::Object(at, index);
                self.message(subject, kind::NEW_OBJECT, CREATE, table.family, |w| {
                    object.encode(&table.name, w);
                });
            }
        }
        let mut sets = SetIds::new();
        for (index, set) in table.sets.iter().enumerate() {
            if !kept.sets.contains(set.name.as_str()) {
                let id = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
                sets.insert(set.name.clone(), (set.wire_name().to_owned(), id));
                self.set((at, index), table, set, id, &sets);
            }
        }
        // A chain that a rule has to itself is closed to more rules once that rule is there.
        let (bound, open): (Vec<_>, Vec<_>) =
            table.chains.iter().enumerate().partition(|(_, chain)| chain.is_bound());
        for (index, chain) in bound.into_iter().rev().chain(open) {
            let rules = kept.rules.get(chain.name.as_str());
            self.rules((at, index), table, chain, &sets, rules.unwrap_or(&KeptRules::default()));
        }
    }

    /// Deletes what is in the way, users before what they use.
    fn make_room(&mut self, at: usize, table: &Table, kept: &Kept<'_>) {
        for (index, chain) in table.chains.iter().enumerate() {
            if let Some(rules) = kept.rules.get(chain.name.as_str()) {
                self.delete_rules(Subject::Chain(at, index), table, chain, rules);
            }
        }
        // Named without a rule, it is the chain's; without a chain, it is the table's.
        for chain in &kept.deleted_chains {
            self.delete(table, kind::DEL_RULE, "rules of chain", &chain.name, |w| {
                w.text(nfta::rule::CHAIN, &chain.name);
            });
        }
        for set in &kept.deleted_sets {
            self.delete(table, kind::DEL_SET, set.noun(), &set.name, |w| {
                w.text(nfta::set::NAME, &set.name);
            });
        }
        for object in &kept.deleted_objects {
            self.delete(table, kind::DEL_OBJECT, "object", &object.name, |w| {
                w.text(nfta::obj::NAME, &object.name);
                w.u32(nfta::obj::TYPE, object.kind.number());
            });
        }
        for chain in &kept.deleted_chains {
            self.delete(table, kind::DEL_CHAIN, "chain", &chain.name, |w| {
                w.text(nfta::chain::NAME, &chain.name);
            });
        }
    }

    fn delete_rules(&mut self, subject: Subject, table: &Table, chain: &Chain, rules: &KeptRules) {
        let KeptRules { first: 0, last: 0, deleted, .. } = rules else {
            for handle in &rules.deleted {
                self.message(subject, kind::DEL_RULE, 0, table.family, |w| {
                    w.text(nfta::rule::TABLE, &table.name);
                    w.text(nfta::rule::CHAIN, &chain.name);
                    w.u64(nfta::rule::HANDLE, *handle);
                });
            }
            return;
        };
        if !deleted.is_empty() {
            self.message(subject, kind::DEL_RULE, 0, table.family, |w| {
                w.text(nfta::rule::TABLE, &table.name);
                w.text(nfta::rule::CHAIN, &chain.name);
            });
        }
    }

    fn delete(
        &mut self,
        table: &Table,
        kind: u8,
        noun: &str,
        name: &str,
        fill: impl FnOnce(&mut Writer),
    ) {
        let subject = Subject::Deleted(self.deleted.len());
        self.deleted
            .push(format!("deleting {noun} {name} of table {} {}", table.family, table.name));
        self.message(subject, kind, 0, table.family, |w| {
            w.text(nfta::TABLE, &table.name);
            fill(w);
        });
    }

    fn set(
        &mut self,
        (at, index): (usize, usize),
        table: &Table,
        set: &Set,
        id: u32,
        sets: &SetIds,
    ) {
        self.message(Subject::Set(at, index), kind::NEW_SET, CREATE, table.family, |w| {
            set.encode(&table.name, id, w);
        });
        let mut rest = set.elements.as_slice();
        while !rest.is_empty() {
            let subject = Subject::Elements(at, index, set.elements.len() - rest.len());
            self.message(subject, kind::NEW_ELEMENT, CREATE, table.family, |w| {
                w.text(nfta::set_elem_list::TABLE, &table.name);
                w.text(nfta::set_elem_list::SET, set.wire_name());
                w.u32(nfta::set_elem_list::SET_ID, id);
                w.nest(nfta::set_elem_list::ELEMENTS, |w| rest = encode_some(rest, sets, w));
            });
        }
    }

    fn rules(
        &mut self,
        (at, index): (usize, usize),
        table: &Table,
        chain: &Chain,
        sets: &SetIds,
        kept: &KeptRules,
    ) {
        // At the end, or before what stays there.
        let flags = if kept.before.is_some() { CREATE } else { CREATE | APPEND };
        for (number, rule) in chain.rules.iter().enumerate() {
            if kept.has(number, chain.rules.len()) {
                continue;
            }
            self.message(
                Subject::Rule(at, index, number),
                kind::NEW_RULE,
                flags,
                table.family,
                |w| {
                    rule.encode(&table.name, &chain.name, sets, w);
                    if let Some(handle) = kept.before {
                        w.u64(nfta::rule::POSITION, handle);
                    }
                },
            );
        }
    }
}

/// Sets NLM_F_ACK on the message that begins at `at`: success is its answer and no error before it.
fn acknowledge(bytes: &mut [u8], at: usize) {
    if let Some(flags) = bytes.get_mut(at + 6..at + 8) {
        let value = flags.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes)) | ACK;
        flags.copy_from_slice(&value.to_ne_bytes());
    }
}

/// Writes elements until the message is full; returns those that are left.
fn encode_some<'a>(elements: &'a [Element], sets: &SetIds, w: &mut Writer) -> &'a [Element] {
    let start = w.len();
    let mut rest = elements;
    while let [element, tail @ ..] = rest {
        if w.len() - start > ELEMENTS_LEN {
            break;
        }
        w.nest(nfta::list::ELEM, |w| element.encode(sets, w));
        rest = tail;
    }
    rest
}
