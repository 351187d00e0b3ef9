//! The transaction: one datagram of nfnetlink messages that the kernel takes whole or not at all
//! (net/netfilter/nfnetlink.c, `nfnetlink_rcv_batch`).
//!
//! Each table of the ruleset is replaced: made if absent, deleted, made again. The kernel swaps old for new in one
//! step, so no packet meets half of it; kernels without NFT_MSG_DESTROYTABLE (before 6.3) take it too. Other
//! tables are not touched. Named counters start again at zero.

use super::attr::{Attributes, HEADER_LEN, Header, Messages, Writer};
use super::expr::{Expr, SetIds};
use super::wire::kind;
use super::{Chain, Element, Error, Family, Generation, Ruleset, Set, Table};

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
}

/// Which part of the ruleset a message carries: indices into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Transaction,
    Table(usize),
    Set(usize, usize),
    Object(usize, usize),
    Chain(usize, usize),
    Rule(usize, usize, usize),
}

impl Batch {
    /// A transaction that replaces the tables of `ruleset`, refused with ERESTART when the kernel's generation is
    /// not `generation` any more. Sequence numbers begin at `first_sequence`.
    pub fn replace(
        ruleset: &Ruleset,
        generation: Option<Generation>,
        first_sequence: u32,
    ) -> Result<Self, Error> {
        let mut builder = Builder::begin(generation, first_sequence);
        for (at, table) in ruleset.tables.iter().enumerate() {
            builder.table(at, table);
        }
        let too_long = builder.writer.too_long();
        let batch = builder.end();
        if too_long { Err(Error::TooLong(batch.longest(ruleset))) } else { Ok(batch) }
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
    pub fn barrier(generation: Generation, first_sequence: u32) -> Self {
        Builder::begin(Some(generation), first_sequence).end()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of messages, begin and end counted.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// What the message with this sequence number is about, as a person names it; `ruleset` is the one the batch
    /// was made of. `offset` is the kernel's NLMSGERR_ATTR_OFFS, which singles out an expression of a rule.
    pub fn describe(&self, ruleset: &Ruleset, sequence: u32, offset: Option<u32>) -> String {
        let at = sequence.wrapping_sub(self.first_sequence);
        let index = usize::try_from(at).unwrap_or(usize::MAX);
        let subject = self.subjects.get(index).copied().unwrap_or(Subject::Transaction);
        let name = describe(ruleset, subject);
        match offset.and_then(|offset| self.expression_at(index, offset)) {
            Some((number, expression)) => format!("{name}: at expression {number}, {expression}"),
            None => name,
        }
    }

    /// The table that the message with this sequence number makes or deletes.
    pub fn table<'a>(&self, ruleset: &'a Ruleset, sequence: u32) -> Option<&'a Table> {
        let index = usize::try_from(sequence.wrapping_sub(self.first_sequence)).ok()?;
        match *self.subjects.get(index)? {
            Subject::Table(at) => ruleset.tables.get(at),
            _ => None,
        }
    }

    /// What this kernel lacks, when ENOENT came back for the message: an expression, or a type of chain, that no
    /// loaded module provides. None when it is something the rules themselves name.
    pub fn missing(&self, ruleset: &Ruleset, sequence: u32, offset: Option<u32>) -> Option<String> {
        let index = usize::try_from(sequence.wrapping_sub(self.first_sequence)).ok()?;
        match *self.subjects.get(index)? {
            Subject::Rule(..) => {
                let (_, name) = self.expression_at(index, offset?)?;
                // These name chains, sets and objects.
                let refers = matches!(name.as_str(), "immediate" | "lookup" | "objref" | "dynset");
                (!refers).then(|| format!("expression {name} (module nft_{name})"))
            }
            Subject::Chain(table, chain) => {
                let hook = ruleset.tables.get(table)?.chains.get(chain)?.hook.as_ref()?;
                let named = hook.devices.is_empty();
                named.then(|| format!("chains of type {0} (module nft_chain_{0})", hook.kind))
            }
            _ => None,
        }
    }

    /// The expression that holds the octet at `offset` of a NEWRULE message, counted from 1.
    fn expression_at(&self, index: usize, offset: u32) -> Option<(usize, String)> {
        if !matches!(self.subjects.get(index)?, Subject::Rule(..)) {
            return None;
        }
        let message = Messages(&self.bytes).nth(index)?;
        let offset = usize::try_from(offset).ok()?;
        let mut at = HEADER_LEN + 4;
        let mut list = None;
        for (kind, value) in message.attributes() {
            if kind == 4 {
                list = Some((at + 4, value));
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        let (mut at, list) = list?;
        for (number, (_, value)) in Attributes(list).enumerate() {
            let end = at + 4 + value.len().next_multiple_of(4);
            if (at..end).contains(&offset) {
                return Some((number + 1, Expr::decode(Attributes(value)).name().to_owned()));
            }
            at = end;
        }
        None
    }

    fn longest(&self, ruleset: &Ruleset) -> String {
        let rules = self.subjects.iter().filter(|subject| matches!(subject, Subject::Rule(..)));
        let longest = rules.max_by_key(|subject| match subject {
            Subject::Rule(table, chain, rule) => {
                rule_at(ruleset, *table, *chain, *rule).map_or(0, |(.., rule)| {
                    let mut writer = Writer::new();
                    rule.encode("", "", &SetIds::new(), &mut writer);
                    writer.len()
                })
            }
            _ => 0,
        });
        longest.map_or_else(|| "a name".to_owned(), |subject| describe(ruleset, *subject))
    }
}

fn rule_at(
    ruleset: &Ruleset,
    table: usize,
    chain: usize,
    rule: usize,
) -> Option<(&Table, &Chain, &super::Rule)> {
    let table = ruleset.tables.get(table)?;
    let chain = table.chains.get(chain)?;
    Some((table, chain, chain.rules.get(rule)?))
}

fn describe(ruleset: &Ruleset, subject: Subject) -> String {
    let table = |at: usize| ruleset.tables.get(at);
    let described = match subject {
        Subject::Transaction => None,
        Subject::Table(at) => table(at).map(|table| format!("table {} {}", table.family, table.name)),
        Subject::Set(at, set) => table(at).and_then(|table| {
            Some(format!("set {} of table {} {}", table.sets.get(set)?.name, table.family, table.name))
        }),
        Subject::Object(at, object) => table(at).and_then(|table| {
            Some(format!(
                "object {} of table {} {}",
                table.objects.get(object)?.name,
                table.family,
                table.name
            ))
        }),
        Subject::Chain(at, chain) => table(at).and_then(|table| {
            Some(format!("chain {} {} {}", table.family, table.name, table.chains.get(chain)?.name))
        }),
        Subject::Rule(at, chain, rule) => rule_at(ruleset, at, chain, rule).map(|(table, chain, rule)| {
            format!(
                "rule `{}` in chain {} {} {}",
                table.rule_text(rule),
                table.family,
                table.name,
                chain.name
            )
        }),
    };
    described.unwrap_or_else(|| "the transaction".to_owned())
}

struct Builder {
    writer: Writer,
    first_sequence: u32,
    subjects: Vec<Subject>,
    /// Where the last message between begin and end starts.
    last: Option<usize>,
}

impl Builder {
    fn begin(generation: Option<Generation>, first_sequence: u32) -> Self {
        let mut builder = Self { writer: Writer::new(), first_sequence, subjects: Vec::new(), last: None };
        builder.control(BATCH_BEGIN, |w| w.some_u32(1, generation));
        builder
    }

    fn end(mut self) -> Batch {
        self.control(BATCH_END, |_| {});
        let mut bytes = self.writer.into_bytes();
        if let Some(last) = self.last {
            acknowledge(&mut bytes, last);
        }
        Batch { bytes, first_sequence: self.first_sequence, subjects: self.subjects }
    }

    fn control(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let sequence = self.next_sequence(Subject::Transaction);
        let header = Header { kind, flags: REQUEST, sequence, resource: SUBSYSTEM, ..Header::default() };
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
        let header = Header { kind, flags: REQUEST | flags, sequence, family: family.0, ..Header::default() };
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
            w.text(1, name);
        });
        self.message(Subject::Table(at), kind::DEL_TABLE, 0, family, |w| {
            w.text(1, name);
        });
    }

    fn table(&mut self, at: usize, table: &Table) {
        let family = table.family;
        self.no_table(at, family, &table.name);
        self.message(Subject::Table(at), kind::NEW_TABLE, CREATE, family, |w| {
            table.encode(w);
        });
        for (index, chain) in table.chains.iter().enumerate() {
            self.message(Subject::Chain(at, index), kind::NEW_CHAIN, CREATE, family, |w| {
                chain.encode(&table.name, w);
            });
        }
        for (index, object) in table.objects.iter().enumerate() {
            let subject = Subject::Object(at, index);
            self.message(subject, kind::NEW_OBJECT, CREATE, family, |w| {
                object.encode(&table.name, w);
            });
        }
        let mut sets = SetIds::new();
        for (index, set) in table.sets.iter().enumerate() {
            let id = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            sets.insert(set.name.clone(), (set.wire_name().to_owned(), id));
            self.set(Subject::Set(at, index), table, set, id, &sets);
        }
        for (chain_index, chain) in table.chains.iter().enumerate() {
            for (index, rule) in chain.rules.iter().enumerate() {
                let subject = Subject::Rule(at, chain_index, index);
                self.message(subject, kind::NEW_RULE, CREATE | APPEND, family, |w| {
                    rule.encode(&table.name, &chain.name, &sets, w);
                });
            }
        }
    }

    fn set(&mut self, subject: Subject, table: &Table, set: &Set, id: u32, sets: &SetIds) {
        self.message(subject, kind::NEW_SET, CREATE, table.family, |w| {
            set.encode(&table.name, id, w);
        });
        let mut rest = set.elements.as_slice();
        while !rest.is_empty() {
            self.message(subject, kind::NEW_ELEMENT, CREATE, table.family, |w| {
                w.text(1, &table.name);
                w.text(2, set.wire_name());
                w.u32(4, id);
                w.nest(3, |w| rest = encode_some(rest, sets, w));
            });
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
        w.nest(1, |w| element.encode(sets, w));
        rest = tail;
    }
    rest
}
