//! A ruleset kept up to date by what the kernel tells of each transaction (NFNLGRP_NFTABLES).
//!
//! The messages are those of a dump, and their opposites. A rule tells that it comes last, or the handle of the one
//! before it; else it is the first.

use super::attr::{Attributes, Message};
use super::batch::SUBSYSTEM;
use super::nfta;
use super::wire::kind;
use super::{Chain, Element, Family, Flowtable, Object, Rule, Ruleset, Set, Table};

/// NLM_F_APPEND.
const APPEND: u16 = 0x800;

impl Ruleset {
    /// Makes the change that one message tells. What does not fit is passed over: the next dump puts it right.
    pub fn replay(&mut self, message: &Message<'_>) {
        let [kind, subsystem] = message.kind.to_le_bytes();
        if u16::from(subsystem) != SUBSYSTEM {
            return;
        }
        let family = Family(message.family());
        let attributes = message.attributes();
        let Some(name) = attributes.text(nfta::TABLE) else { return };
        match kind {
            kind::NEW_TABLE => {
                if let Some(table) = Table::decode(family, attributes) {
                    self.tables
                        .retain(|found| (found.family, &found.name) != (family, &table.name));
                    self.tables.push(table);
                }
            }
            kind::DEL_TABLE => {
                self.tables.retain(|found| (found.family, &found.name) != (family, &name));
            }
            _ => {
                let found = self
                    .tables
                    .iter_mut()
                    .find(|found| found.family == family && found.name == name);
                if let Some(table) = found {
                    table.replay(kind, message.flags & APPEND != 0, attributes);
                }
            }
        }
    }
}

impl Table {
    fn replay(&mut self, kind: u8, last: bool, a: Attributes<'_>) {
        match kind {
            kind::NEW_CHAIN => self.new_chain(a),
            kind::DEL_CHAIN => {
                gone(&mut self.chains, a.text(nfta::chain::NAME).as_ref(), |chain| &chain.name);
            }
            kind::NEW_RULE => self.new_rule(last, a),
            kind::DEL_RULE => {
                let (chain, handle) = (a.text(nfta::rule::CHAIN), a.u64(nfta::rule::HANDLE));
                for chain in
                    self.chains.iter_mut().filter(|found| Some(&found.name) == chain.as_ref())
                {
                    chain.rules.retain(|rule| rule.handle.0 != handle);
                }
            }
            kind::NEW_SET => {
                if let Some(set) = Set::decode(a)
                    && self.sets.iter().all(|found| found.name != set.name)
                {
                    self.sets.push(set);
                }
            }
            kind::DEL_SET => {
                gone(&mut self.sets, a.text(nfta::set::NAME).as_ref(), |set| &set.name);
            }
            kind::NEW_ELEMENT => self.elements(a, |set, element| {
                set.elements
                    .retain(|found| (&found.key, found.flags) != (&element.key, element.flags));
                set.elements.push(element);
            }),
            kind::DEL_ELEMENT => self.elements(a, |set, element| {
                set.elements
                    .retain(|found| (&found.key, found.flags) != (&element.key, element.flags));
            }),
            kind::NEW_OBJECT => {
                if let Some(object) = Object::decode(a) {
                    gone(&mut self.objects, Some(&object.name), |found| &found.name);
                    self.objects.push(object);
                }
            }
            kind::DEL_OBJECT => {
                gone(&mut self.objects, a.text(nfta::obj::NAME).as_ref(), |object| &object.name);
            }
            kind::NEW_FLOWTABLE => self.flowtables.extend(Flowtable::decode(a)),
            kind::DEL_FLOWTABLE => {
                gone(&mut self.flowtables, a.text(nfta::flowtable::NAME).as_ref(), |flowtable| {
                    &flowtable.name
                });
            }
            _ => {}
        }
    }

    fn new_chain(&mut self, a: Attributes<'_>) {
        let Some(chain) = Chain::decode(a) else { return };
        match self.chains.iter_mut().find(|found| found.name == chain.name) {
            Some(found) => *found = Chain { rules: std::mem::take(&mut found.rules), ..chain },
            None => self.chains.push(chain),
        }
    }

    fn new_rule(&mut self, last: bool, a: Attributes<'_>) {
        let Some(chain) = a.text(nfta::rule::CHAIN) else { return };
        let Some(chain) = self.chains.iter_mut().find(|found| found.name == chain) else { return };
        let rule = Rule::decode(a);
        if let Some(same) = chain.rules.iter_mut().find(|found| found.handle.0 == rule.handle.0) {
            *same = rule;
            return;
        }
        let before = a.u64(nfta::rule::POSITION).and_then(|before| {
            let at = chain.rules.iter().position(|found| found.handle.0 == Some(before))?;
            Some(at + 1)
        });
        let at = before.unwrap_or(if last { chain.rules.len() } else { 0 });
        chain.rules.insert(at.min(chain.rules.len()), rule);
    }

    fn elements(&mut self, a: Attributes<'_>, mut change: impl FnMut(&mut Set, Element)) {
        let (Some(name), Some(list)) =
            (a.text(nfta::set_elem_list::SET), a.nest(nfta::set_elem_list::ELEMENTS))
        else {
            return;
        };
        if let Some(set) = self.sets.iter_mut().find(|set| set.name == name) {
            list.for_each(|(_, element)| change(set, Element::decode(Attributes(element))));
        }
    }
}

fn gone<T>(things: &mut Vec<T>, name: Option<&String>, named: impl Fn(&T) -> &String) {
    things.retain(|thing| Some(named(thing)) != name);
}
