//! What the kernel says when asked: requests for dumps, and the ruleset put together from the answers.
//!
//! A dump may tell an object twice when a transaction passes by; repeats are dropped (rules by handle, the rest by
//! name). Whether the answers belong to one generation is for the caller to check.

mod filter;

use std::collections::{HashMap, HashSet};

use super::attr::{Attributes, Header, Message, Writer};
use super::batch::SUBSYSTEM;
use super::nfta;
use super::wire::kind;
use super::{Chain, Element, Family, Flowtable, Generation, Object, Rule, Ruleset, Set, Table};

pub use filter::{Elements, Filter, Rules};

/// NLM_F_REQUEST; with NLM_F_ROOT | NLM_F_MATCH for a dump.
const REQUEST: u16 = 1;
const DUMP: u16 = 0x301;

/// NFTA_CHAIN_USE.
const CHAIN_USE: u16 = 6;

/// The requests whose answers [`Dump::add`] takes before those to [`Dump::rule_requests`] and
/// [`Dump::set_requests`], in this order.
pub fn requests(filter: &Filter, first_sequence: u32) -> Vec<Vec<u8>> {
    let kinds =
        [kind::GET_TABLE, kind::GET_CHAIN, kind::GET_SET, kind::GET_OBJECT, kind::GET_FLOWTABLE];
    let family = filter.family.unwrap_or(Family::UNSPEC);
    let mut requests = Vec::new();
    for (number, kind) in (0..).zip(kinds) {
        requests.push(request(kind, DUMP, family, first_sequence.wrapping_add(number), |w| {
            // A dump of tables and chains has no filter; others stop early at an unknown table.
            if let (Some(table), kind::GET_SET | kind::GET_OBJECT) = (&filter.table, kind) {
                w.text(nfta::TABLE, table);
            }
        }));
    }
    requests
}

pub(crate) fn generation_request(sequence: u32) -> Vec<u8> {
    request(kind::GET_GENERATION, REQUEST, Family::UNSPEC, sequence, |_| {})
}

/// The generation in an answer to [`generation_request`].
pub fn generation(message: &Message<'_>) -> Option<Generation> {
    let wanted = message.kind == SUBSYSTEM << 8 | u16::from(kind::NEW_GENERATION);
    if wanted { message.attributes().u32(nfta::generation::ID) } else { None }
}

/// Message type of what ends a transaction.
pub(crate) const TRANSACTION: u16 = SUBSYSTEM << 8 | kind::NEW_GENERATION as u16;

/// A transaction that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// That the rules were of.
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
        generation: attributes.u32(nfta::generation::ID)?,
        pid: attributes.u32(nfta::generation::PROC_PID).unwrap_or(0),
        process: attributes.text(nfta::generation::PROC_NAME).unwrap_or_default(),
    })
}

fn request(
    kind: u8,
    flags: u16,
    family: Family,
    sequence: u32,
    fill: impl FnOnce(&mut Writer),
) -> Vec<u8> {
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
    /// Places in the ruleset, by the bytes of the names.
    tables: HashMap<Vec<u8>, Vec<usize>>,
    indices: Vec<Index>,
}

/// What a table has so far, and where.
#[derive(Debug, Default)]
struct Index {
    chains: HashMap<Vec<u8>, usize>,
    /// How many rules are in each chain or go there.
    uses: Vec<u32>,
    sets: HashMap<Vec<u8>, usize>,
    objects: HashSet<(u32, Vec<u8>)>,
    flowtables: HashSet<Vec<u8>>,
    /// By handle.
    rules: HashSet<u64>,
}

impl Dump {
    /// Nothing received yet.
    pub fn new(filter: Filter) -> Self {
        Self { filter, ruleset: Ruleset::default(), tables: HashMap::new(), indices: Vec::new() }
    }

    /// Takes one message of an answer; what is not part of a ruleset, or of no table seen, is passed over.
    pub fn add(&mut self, message: &Message<'_>) {
        let [kind, subsystem] = message.kind.to_le_bytes();
        if u16::from(subsystem) != SUBSYSTEM {
            return;
        }
        let family = Family(message.family());
        let attributes = message.attributes();
        let Some(name) = attributes.name(nfta::TABLE) else { return };
        if kind == kind::NEW_TABLE {
            self.add_table(family, name, attributes);
            return;
        }
        // Tables that are not wanted are not there.
        let Some(at) = self.table_at(family, name) else { return };
        let (Some(table), Some(index)) =
            (self.ruleset.tables.get_mut(at), self.indices.get_mut(at))
        else {
            return;
        };
        match kind {
            kind::NEW_CHAIN => index.add_chain(table, attributes),
            kind::NEW_SET => index.add_set(table, attributes),
            kind::NEW_OBJECT => index.add_object(table, attributes),
            kind::NEW_FLOWTABLE => index.add_flowtable(table, attributes),
            kind::NEW_RULE => index.add_rule(table, attributes),
            kind::NEW_ELEMENT => index.add_elements(table, attributes),
            _ => {}
        }
    }

    /// Requests for the rules: one for all while they are `few`; else one for each chain, since the kernel goes on
    /// with a long answer by counting through all it has told, and in as many equal parts as can be asked for at once.
    pub(crate) fn rule_requests(
        &self,
        few: u32,
        parts: usize,
        first_sequence: u32,
    ) -> Vec<Vec<Vec<u8>>> {
        let chains: Vec<(&Table, &Chain, u32)> = self.chains_of_rules().collect();
        let all: u32 = chains.iter().fold(0, |all, (.., uses)| all.saturating_add(*uses));
        if self.filter.rules == Rules::None {
            return Vec::new();
        }
        if all <= few && self.filter.rules == Rules::All {
            let family = self.filter.family.unwrap_or(Family::UNSPEC);
            let request = request(kind::GET_RULE, DUMP, family, first_sequence, |w| {
                if let Some(table) = &self.filter.table {
                    w.text(nfta::TABLE, table);
                }
            });
            return vec![vec![request]];
        }
        let mut requests: Vec<_> = (0..parts.max(1)).map(|_| Vec::new()).collect();
        let share = all / u32::try_from(requests.len()).unwrap_or(1) + 1;
        let mut before: u32 = 0;
        for (number, (table, chain, uses)) in (0..).zip(chains) {
            let part = usize::try_from(before / share).unwrap_or(0);
            before = before.saturating_add(uses);
            if let Some(part) = requests.get_mut(part) {
                part.push(request(
                    kind::GET_RULE,
                    DUMP,
                    table.family,
                    first_sequence.wrapping_add(number),
                    |w| {
                        w.text(nfta::TABLE, &table.name);
                        w.text(nfta::rule::CHAIN, &chain.name);
                    },
                ));
            }
        }
        requests
    }

    /// The chains whose rules are wanted, and how many those are.
    fn chains_of_rules(&self) -> impl Iterator<Item = (&Table, &Chain, u32)> {
        let tables = self.ruleset.tables.iter().zip(&self.indices);
        let chains = tables.flat_map(|(table, index)| {
            table.chains.iter().zip(&index.uses).map(move |(chain, uses)| (table, chain, *uses))
        });
        chains.filter(|(_, chain, _)| self.filter.wants_rules(chain))
    }

    /// Requests for the elements of the sets seen so far; none is told of yet. The rules are here by now.
    pub fn set_requests(&self, first_sequence: u32) -> Vec<Vec<u8>> {
        let sets = self.ruleset.tables.iter().flat_map(|table| {
            let looked_up = self.filter.looked_up(table);
            let wanted = move |set: &&Set| self.filter.wants(set, &looked_up);
            table.sets.iter().filter(wanted).map(move |set| (table, set))
        });
        let numbered = (0..).zip(sets);
        let request = |(number, (table, set)): (u32, (&Table, &Set))| {
            request(
                kind::GET_ELEMENT,
                DUMP,
                table.family,
                first_sequence.wrapping_add(number),
                |w| {
                    w.text(nfta::TABLE, &table.name);
                    w.text(nfta::set_elem_list::SET, &set.name);
                },
            )
        };
        numbered.map(request).collect()
    }

    /// To take the answers to another part of the requests elsewhere; they come back by [`Dump::join`].
    #[must_use]
    pub fn fork(&self) -> Self {
        let chain = |chain: &Chain| Chain { rules: Vec::new(), ..chain.clone() };
        let table = |table: &Table| Table {
            chains: table.chains.iter().map(chain).collect(),
            sets: table.sets.clone(),
            userdata: table.userdata.clone(),
            name: table.name.clone(),
            flowtables: Vec::new(),
            objects: Vec::new(),
            ..*table
        };
        let index = |index: &Index| Index {
            chains: index.chains.clone(),
            sets: index.sets.clone(),
            ..Index::default()
        };
        Self {
            filter: self.filter.clone(),
            ruleset: Ruleset { tables: self.ruleset.tables.iter().map(table).collect() },
            tables: self.tables.clone(),
            indices: self.indices.iter().map(index).collect(),
        }
    }

    /// Rules and elements of a fork, which were asked for there only.
    pub fn join(&mut self, fork: Self) {
        for (table, fork) in self.ruleset.tables.iter_mut().zip(fork.ruleset.tables) {
            for (chain, fork) in table.chains.iter_mut().zip(fork.chains) {
                chain.rules.extend(fork.rules);
            }
            for (set, fork) in table.sets.iter_mut().zip(fork.sets) {
                set.elements.extend(fork.elements);
            }
        }
    }

    /// What has been received.
    pub fn finish(self) -> Ruleset {
        self.ruleset
    }

    fn table_at(&self, family: Family, name: &[u8]) -> Option<usize> {
        let found =
            |at: &&usize| self.ruleset.tables.get(**at).is_some_and(|table| table.family == family);
        self.tables.get(name)?.iter().find(found).copied()
    }

    fn add_table(&mut self, family: Family, name: &[u8], attributes: Attributes<'_>) {
        if let Some(table) = Table::decode(family, attributes)
            && self.filter.takes(family, &table.name)
            && self.table_at(family, name).is_none()
        {
            self.tables.entry(name.to_vec()).or_default().push(self.ruleset.tables.len());
            self.ruleset.tables.push(table);
            self.indices.push(Index::default());
        }
    }
}

impl Index {
    fn add_chain(&mut self, table: &mut Table, attributes: Attributes<'_>) {
        if let (Some(name), Some(chain)) =
            (attributes.name(nfta::chain::NAME), Chain::decode(attributes))
            && !self.chains.contains_key(name)
        {
            self.chains.insert(name.to_vec(), table.chains.len());
            table.chains.push(chain);
            self.uses.push(attributes.u32(CHAIN_USE).unwrap_or(0));
        }
    }

    fn add_set(&mut self, table: &mut Table, attributes: Attributes<'_>) {
        if let (Some(name), Some(set)) = (attributes.name(nfta::set::NAME), Set::decode(attributes))
            && !self.sets.contains_key(name)
        {
            self.sets.insert(name.to_vec(), table.sets.len());
            table.sets.push(set);
        }
    }

    fn add_object(&mut self, table: &mut Table, attributes: Attributes<'_>) {
        if let (Some(name), Some(object)) =
            (attributes.name(nfta::obj::NAME), Object::decode(attributes))
            && self.objects.insert((object.kind.number(), name.to_vec()))
        {
            table.objects.push(object);
        }
    }

    fn add_flowtable(&mut self, table: &mut Table, attributes: Attributes<'_>) {
        if let (Some(name), Some(flowtable)) =
            (attributes.name(nfta::flowtable::NAME), Flowtable::decode(attributes))
            && self.flowtables.insert(name.to_vec())
        {
            table.flowtables.push(flowtable);
        }
    }

    fn add_rule(&mut self, table: &mut Table, attributes: Attributes<'_>) {
        let at = attributes.name(nfta::rule::CHAIN).and_then(|name| self.chains.get(name));
        let Some(chain) = at.and_then(|at| table.chains.get_mut(*at)) else { return };
        let rule = Rule::decode(attributes);
        if rule.handle.0.is_none_or(|handle| self.rules.insert(handle)) {
            chain.rules.push(rule);
        }
    }

    fn add_elements(&mut self, table: &mut Table, attributes: Attributes<'_>) {
        let at = attributes.name(nfta::set_elem_list::SET).and_then(|name| self.sets.get(name));
        let (Some(set), Some(list)) = (
            at.and_then(|at| table.sets.get_mut(*at)),
            attributes.nest(nfta::set_elem_list::ELEMENTS),
        ) else {
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
