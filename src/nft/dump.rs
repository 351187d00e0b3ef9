//! What the kernel says when asked: requests for dumps, and the ruleset put together from the answers.
//!
//! A dump may tell an object twice when a transaction passes by; repeats are dropped (rules by handle, the rest by
//! name). Whether the answers belong to one generation is for the caller to check.

use std::collections::BTreeSet;

use super::attr::{Attributes, Header, Message, Writer};
use super::batch::SUBSYSTEM;
use super::wire::kind;
use super::{Chain, Element, Family, Flowtable, Generation, Object, Rule, Ruleset, Set, Table};

/// NLM_F_REQUEST; with NLM_F_ROOT | NLM_F_MATCH for a dump.
const REQUEST: u16 = 1;
const DUMP: u16 = 0x301;

/// Which tables to tell about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// All when None.
    pub family: Option<Family>,
    /// One table by name; all when None.
    pub table: Option<String>,
}

impl Filter {
    pub fn table(family: Family, name: &str) -> Self {
        Self { family: Some(family), table: Some(name.to_owned()) }
    }

    fn takes(&self, family: Family, table: &str) -> bool {
        self.family.is_none_or(|wanted| wanted == family)
            && self.table.as_ref().is_none_or(|wanted| wanted == table)
    }
}

/// The requests whose answers [`Dump::add`] takes before [`Dump::set_requests`], in this order.
pub fn requests(filter: &Filter, first_sequence: u32) -> Vec<Vec<u8>> {
    let kinds = [
        kind::GET_TABLE,
        kind::GET_CHAIN,
        kind::GET_SET,
        kind::GET_OBJECT,
        kind::GET_FLOWTABLE,
        kind::GET_RULE,
    ];
    let family = filter.family.unwrap_or(Family::UNSPEC);
    let mut requests = Vec::new();
    for (number, kind) in (0..).zip(kinds) {
        requests.push(request(kind, DUMP, family, first_sequence.wrapping_add(number), |w| {
            // A dump of tables and chains has no filter; others stop early at an unknown table.
            if let (Some(table), kind::GET_SET | kind::GET_OBJECT | kind::GET_RULE) = (&filter.table, kind) {
                w.text(1, table);
            }
        }));
    }
    requests
}

pub fn generation_request(sequence: u32) -> Vec<u8> {
    request(kind::GET_GENERATION, REQUEST, Family::UNSPEC, sequence, |_| {})
}

/// The generation in an answer to [`generation_request`].
pub fn generation(message: &Message<'_>) -> Option<Generation> {
    let wanted = message.kind == SUBSYSTEM << 8 | u16::from(kind::NEW_GENERATION);
    if wanted { message.attributes().u32(1) } else { None }
}

/// Message type of what ends a transaction.
pub const TRANSACTION: u16 = SUBSYSTEM << 8 | kind::NEW_GENERATION as u16;

/// A transaction that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub generation: Generation,
    /// In the initial PID namespace.
    pub pid: u32,
    /// Name of the thread, at most fifteen octets.
    pub process: String,
}

/// What ends a transaction (NFT_MSG_NEWGEN), as the multicast group hears it.
pub fn transaction(message: &Message<'_>) -> Option<Transaction> {
    if message.kind != TRANSACTION {
        return None;
    }
    let attributes = message.attributes();
    Some(Transaction {
        generation: attributes.u32(1)?,
        pid: attributes.u32(2).unwrap_or(0),
        process: attributes.text(3).unwrap_or_default(),
    })
}

fn request(kind: u8, flags: u16, family: Family, sequence: u32, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    let kind = SUBSYSTEM << 8 | u16::from(kind);
    writer.message(Header { kind, flags, sequence, family: family.0, ..Header::default() }, fill);
    writer.into_bytes()
}

/// A ruleset in the making.
#[derive(Debug)]
pub struct Dump {
    filter: Filter,
    ruleset: Ruleset,
    /// Family, table, chain and handle of the rules seen.
    rules: BTreeSet<(Family, String, String, u64)>,
}

impl Dump {
    pub fn new(filter: Filter) -> Self {
        Self { filter, ruleset: Ruleset::default(), rules: BTreeSet::new() }
    }

    /// Takes one message of an answer; what is not part of a ruleset, or of no table seen, is passed over.
    pub fn add(&mut self, message: &Message<'_>) {
        let [kind, subsystem] = message.kind.to_le_bytes();
        if u16::from(subsystem) != SUBSYSTEM {
            return;
        }
        let family = Family(message.family());
        let attributes = message.attributes();
        let Some(name) = attributes.text(1) else { return };
        if !self.filter.takes(family, &name) {
            return;
        }
        match kind {
            kind::NEW_TABLE => self.add_table(Table::decode(family, attributes)),
            kind::NEW_RULE => self.add_rule(family, &name, attributes),
            _ => {
                let Some(table) = self.table_mut(family, &name) else {
                    return;
                };
                match kind {
                    kind::NEW_CHAIN => table.add_chain(Chain::decode(attributes)),
                    kind::NEW_SET => table.add_set(Set::decode(attributes)),
                    kind::NEW_OBJECT => table.add_object(Object::decode(attributes)),
                    kind::NEW_FLOWTABLE => table.add_flowtable(Flowtable::decode(attributes)),
                    kind::NEW_ELEMENT => table.add_elements(attributes),
                    _ => {}
                }
            }
        }
    }

    /// Requests for the elements of the sets seen so far.
    pub fn set_requests(&self, first_sequence: u32) -> Vec<Vec<u8>> {
        let sets =
            self.ruleset.tables.iter().flat_map(|table| table.sets.iter().map(move |set| (table, set)));
        let numbered = (0..).zip(sets);
        let request = |(number, (table, set)): (u32, (&Table, &Set))| {
            request(kind::GET_ELEMENT, DUMP, table.family, first_sequence.wrapping_add(number), |w| {
                w.text(1, &table.name);
                w.text(2, &set.name);
            })
        };
        numbered.map(request).collect()
    }

    pub fn finish(self) -> Ruleset {
        self.ruleset
    }

    fn table_mut(&mut self, family: Family, name: &str) -> Option<&mut Table> {
        self.ruleset.tables.iter_mut().find(|table| table.family == family && table.name == name)
    }

    fn add_table(&mut self, table: Option<Table>) {
        if let Some(table) = table
            && self.ruleset.table(table.family, &table.name).is_none()
        {
            self.ruleset.tables.push(table);
        }
    }

    fn add_rule(&mut self, family: Family, table: &str, attributes: Attributes<'_>) {
        let Some(chain) = attributes.text(2) else { return };
        let rule = Rule::decode(attributes);
        let repeated = rule
            .handle
            .0
            .is_some_and(|handle| !self.rules.insert((family, table.to_owned(), chain.clone(), handle)));
        let found = self.table_mut(family, table);
        if let Some(chain) = found.and_then(|table| table.chains.iter_mut().find(|found| found.name == chain))
            && !repeated
        {
            chain.rules.push(rule);
        }
    }
}

impl Table {
    fn add_chain(&mut self, chain: Option<Chain>) {
        if let Some(chain) = chain
            && self.chains.iter().all(|found| found.name != chain.name)
        {
            self.chains.push(chain);
        }
    }

    fn add_set(&mut self, set: Option<Set>) {
        if let Some(set) = set
            && self.sets.iter().all(|found| found.name != set.name)
        {
            self.sets.push(set);
        }
    }

    fn add_object(&mut self, object: Option<Object>) {
        if let Some(object) = object
            && self.objects.iter().all(|found| (&found.kind, &found.name) != (&object.kind, &object.name))
        {
            self.objects.push(object);
        }
    }

    fn add_flowtable(&mut self, flowtable: Option<Flowtable>) {
        if let Some(flowtable) = flowtable
            && self.flowtables.iter().all(|found| found.name != flowtable.name)
        {
            self.flowtables.push(flowtable);
        }
    }

    fn add_elements(&mut self, attributes: Attributes<'_>) {
        let (Some(name), Some(list)) = (attributes.text(2), attributes.nest(3)) else {
            return;
        };
        let Some(set) = self.sets.iter_mut().find(|set| set.name == name) else {
            return;
        };
        for (_, element) in list {
            let element = Element::decode(Attributes(element));
            // Large sets come whole; a linear look for repeats would be quadratic there.
            if set.elements.last() != Some(&element) {
                set.elements.push(element);
            }
        }
    }
}
