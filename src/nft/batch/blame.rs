//! Which part of the ruleset the kernel did not like, named as a person names it.
//!
//! The sequence number of an error singles out a message; NLMSGERR_ATTR_OFFS an octet of it, and so an
//! expression, an element or an attribute.

use super::super::attr::{Attributes, HEADER_LEN, Messages, Writer};
use super::super::expr::{Expr, SetIds};
use super::super::{Chain, Rule, Ruleset, Set, Table, set};
use super::Batch;

/// What a message carries: indices into the ruleset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Transaction,
    Table(usize),
    Set(usize, usize),
    /// Elements of a set from this one on.
    Elements(usize, usize, usize),
    Object(usize, usize),
    Chain(usize, usize),
    Rule(usize, usize, usize),
    /// Something that was found and is not wanted.
    Deleted(usize),
}

/// NFTA_RULE_EXPRESSIONS, NFTA_SET_ELEM_LIST_ELEMENTS.
const EXPRESSIONS: u16 = 4;
const ELEMENTS: u16 = 3;

impl Batch {
    /// What the message with this sequence number is about, as a person names it; `wanted` is the ruleset the
    /// batch was made of. `offset` is the kernel's NLMSGERR_ATTR_OFFS.
    pub fn describe(&self, wanted: &Ruleset, sequence: u32, offset: Option<u32>) -> String {
        let index = self.index(sequence);
        let subject = self.subjects.get(index).copied().unwrap_or(Subject::Transaction);
        let place = offset.and_then(|offset| self.place(index, offset));
        if let (Subject::Elements(table, set, first), Some(Place::Item(number, _))) =
            (subject, &place)
            && let Some(text) = element(wanted, table, set, first + number)
        {
            return text;
        }
        let name = self.name(wanted, subject);
        match place {
            Some(Place::Item(number, bytes)) if matches!(subject, Subject::Rule(..)) => {
                let expression = Expr::decode(Attributes(bytes));
                format!("{name}: at expression {}, {}", number + 1, expression.name())
            }
            Some(Place::Attribute(kind)) => match attribute_name(subject, kind) {
                Some(attribute) => format!("{name}: at its {attribute}"),
                None => name,
            },
            _ => name,
        }
    }

    /// What this kernel lacks, when ENOENT came back for the message: an expression, or a type of chain, that no
    /// loaded module provides. None when it is something the rules themselves name.
    pub fn missing(&self, wanted: &Ruleset, sequence: u32, offset: Option<u32>) -> Option<String> {
        let index = self.index(sequence);
        match *self.subjects.get(index)? {
            Subject::Rule(..) => {
                let Place::Item(_, bytes) = self.place(index, offset?)? else { return None };
                let expression = Expr::decode(Attributes(bytes));
                let name = expression.name();
                // These name chains, sets and objects.
                let refers = matches!(name, "immediate" | "lookup" | "objref" | "dynset");
                (!refers).then(|| format!("expression {name} (module nft_{name})"))
            }
            Subject::Chain(table, chain) => {
                let hook = wanted.tables.get(table)?.chains.get(chain)?.hook.as_ref()?;
                let named = hook.devices.is_empty();
                named.then(|| format!("chains of type {0} (module nft_chain_{0})", hook.kind))
            }
            _ => None,
        }
    }

    fn index(&self, sequence: u32) -> usize {
        usize::try_from(sequence.wrapping_sub(self.first_sequence)).unwrap_or(usize::MAX)
    }

    /// What the octet at `offset` of a message belongs to.
    fn place(&self, index: usize, offset: u32) -> Option<Place<'_>> {
        let list_kind = match self.subjects.get(index)? {
            Subject::Rule(..) => Some(EXPRESSIONS),
            Subject::Elements(..) => Some(ELEMENTS),
            _ => None,
        };
        let message = Messages(&self.bytes).nth(index)?;
        let offset = usize::try_from(offset).ok()?;
        let (start, kind, value) = holding(message.attributes(), HEADER_LEN + 4, offset)?;
        if Some(kind) == list_kind
            && let Some((number, value)) = numbered(Attributes(value), start + 4, offset)
        {
            return Some(Place::Item(number, value));
        }
        Some(Place::Attribute(kind))
    }

    /// The rule that takes most octets: only rules can outgrow a message.
    pub(super) fn longest(&self, wanted: &Ruleset) -> String {
        let rules = self.subjects.iter().filter(|subject| matches!(subject, Subject::Rule(..)));
        let longest = rules.max_by_key(|subject| match subject {
            Subject::Rule(table, chain, rule) => {
                rule_at(wanted, *table, *chain, *rule).map_or(0, |(.., rule)| {
                    let mut writer = Writer::new();
                    rule.encode("", "", &SetIds::new(), &mut writer);
                    writer.len()
                })
            }
            _ => 0,
        });
        longest.map_or_else(|| "a name".to_owned(), |subject| self.name(wanted, *subject))
    }

    fn name(&self, wanted: &Ruleset, subject: Subject) -> String {
        let table = |at: usize| wanted.tables.get(at);
        let name = match subject {
            Subject::Transaction => None,
            Subject::Table(at) => table(at).map(of_table),
            Subject::Set(at, set) => {
                table(at).and_then(|table| Some(name_of_set(table, table.sets.get(set)?)))
            }
            Subject::Elements(at, set, _) => table(at).and_then(|table| {
                Some(format!("elements of {}", name_of_set(table, table.sets.get(set)?)))
            }),
            Subject::Object(at, object) => table(at).and_then(|table| {
                Some(format!("object {} of {}", table.objects.get(object)?.name, of_table(table)))
            }),
            Subject::Chain(at, chain) => table(at).and_then(|table| {
                Some(format!(
                    "chain {} {} {}",
                    table.family,
                    table.name,
                    table.chains.get(chain)?.name
                ))
            }),
            Subject::Rule(at, chain, rule) => rule_at(wanted, at, chain, rule)
                .map(|(table, chain, rule)| name_of_rule(table, chain, rule)),
            Subject::Deleted(at) => self.deleted.get(at).cloned(),
        };
        name.unwrap_or_else(|| "the transaction".to_owned())
    }
}

/// Where in a message: an item of its list (from 0), or one of its attributes.
enum Place<'a> {
    Item(usize, &'a [u8]),
    Attribute(u16),
}

/// The attribute that holds `offset`, when the first begins at `at`: its place, type and value.
fn holding(attributes: Attributes<'_>, at: usize, offset: usize) -> Option<(usize, u16, &[u8])> {
    let mut start = at;
    for (kind, value) in attributes {
        let end = start + 4 + value.len().next_multiple_of(4);
        if (start..end).contains(&offset) {
            return Some((start, kind, value));
        }
        start = end;
    }
    None
}

/// The same, by number.
fn numbered(list: Attributes<'_>, at: usize, offset: usize) -> Option<(usize, &[u8])> {
    let (start, _, value) = holding(list, at, offset)?;
    let mut before = at;
    let number = list.take_while(|(_, value)| {
        before += 4 + value.len().next_multiple_of(4);
        before <= start
    });
    Some((number.count(), value))
}

/// What the attributes are called that a person gave.
fn attribute_name(subject: Subject, kind: u16) -> Option<&'static str> {
    Some(match (subject, kind) {
        (Subject::Table(_), 2) => "flags",
        (Subject::Table(_), 6)
        | (Subject::Chain(..), 12)
        | (Subject::Rule(..), 7)
        | (Subject::Object(..), 8)
        | (Subject::Set(..), 13) => "comment",
        (Subject::Table(_), 1)
        | (Subject::Chain(..), 3)
        | (Subject::Object(..) | Subject::Set(..), 2) => "name",
        (Subject::Chain(..), 4) => "hook",
        (Subject::Chain(..), 5) => "policy",
        (Subject::Chain(..) | Subject::Object(..), 7 | 3) => "type",
        (Subject::Object(..), 4) => "data",
        (Subject::Set(..), 3) => "flags",
        (Subject::Set(..), 4) => "key type",
        (Subject::Set(..), 5) => "key length",
        (Subject::Set(..), 6) => "data type",
        (Subject::Set(..), 7) => "data length",
        (Subject::Set(..), 9) => "size and fields",
        (Subject::Set(..), 11) => "timeout",
        (Subject::Set(..), 12) => "gc-interval",
        (Subject::Set(..), 15) => "object type",
        _ => return None,
    })
}

fn rule_at(
    wanted: &Ruleset,
    table: usize,
    chain: usize,
    rule: usize,
) -> Option<(&Table, &Chain, &Rule)> {
    let table = wanted.tables.get(table)?;
    let chain = table.chains.get(chain)?;
    Some((table, chain, chain.rules.get(rule)?))
}

fn of_table(table: &Table) -> String {
    format!("table {} {}", table.family, table.name)
}

fn name_of_rule(table: &Table, chain: &Chain, rule: &Rule) -> String {
    let text = table.rule_text(rule);
    format!("rule `{text}` in chain {} {} {}", table.family, table.name, chain.name)
}

/// An anonymous set has no name that says anything: the rule that uses it does.
fn name_of_set(table: &Table, set: &Set) -> String {
    let uses = |rule: &&Rule| rule.exprs.iter().any(|expr| expr.set_name() == Some(&set.name));
    let user = || {
        let chains = table.chains.iter();
        chains
            .flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
            .find(|(_, rule)| uses(rule))
    };
    match set.is_anonymous().then(user).flatten() {
        Some((chain, rule)) => {
            format!("the {} of {}", set.noun(), name_of_rule(table, chain, rule))
        }
        None => format!("{} {} of {}", set.noun(), set.name, of_table(table)),
    }
}

fn element(wanted: &Ruleset, table: usize, set: usize, at: usize) -> Option<String> {
    let table = wanted.tables.get(table)?;
    let set = table.sets.get(set)?;
    let text = element_text(table, set, at).or_else(|| {
        let key = &set.elements.get(at)?.key;
        Some(format!("0x{}", key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
    })?;
    Some(format!("element {text} of {}", name_of_set(table, set)))
}

/// As nft writes it: what a set of this element alone is listed with.
fn element_text(table: &Table, found: &Set, at: usize) -> Option<String> {
    // The end of an interval is an element of its own.
    let ends = found.elements.get(at + 1).is_some_and(|next| next.flags & 1 != 0);
    let elements = found.elements.get(at..=at + usize::from(ends))?.to_vec();
    let alone = Set { flags: found.flags & !set::ANONYMOUS, elements, ..found.clone() };
    let table =
        Table { sets: vec![alone], chains: Vec::new(), objects: Vec::new(), ..table.clone() };
    let listed = table.to_string();
    let (_, text) = listed.split_once("elements = { ")?;
    Some(text.split_once(" }\n")?.0.to_owned())
}
