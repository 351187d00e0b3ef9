//! What has been counted goes on to what replaces it: a rule that stays the same rule keeps its counters.
//!
//! The same rule is one in the chain of the same name with the same expressions, but for what the kernel counts in
//! them, the same contents of anonymous sets, and the same comment. Packets that arrive between dump and commit
//! are not counted (a fraction of a millisecond).

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use super::super::attr::Writer;
use super::super::expr::{Expr, SetIds};
use super::super::{Chain, Element, Rule, Set, Table};

/// `wanted`, with what `found` has counted.
pub fn carried<'a>(wanted: &'a Table, found: &Table) -> Cow<'a, Table> {
    let mut table = Cow::Borrowed(wanted);
    rules(&mut table, wanted, found);
    objects(&mut table, wanted, found);
    elements(&mut table, wanted, found);
    table
}

fn rules(table: &mut Cow<'_, Table>, wanted: &Table, found: &Table) {
    let (wanted_sets, found_sets) = (anonymous(wanted), anonymous(found));
    for (at, chain) in wanted.chains.iter().enumerate() {
        let Some(found) = found.chains.iter().find(|found| found.name == chain.name) else { continue };
        let mut counted = counted(found, &found_sets);
        if counted.is_empty() {
            continue;
        }
        for (number, rule) in chain.rules.iter().enumerate() {
            if rule.exprs.iter().any(Expr::is_stateful)
                && let Some(same) = counted.get_mut(&key(rule, &wanted_sets)).and_then(VecDeque::pop_front)
                && let Some(chain) = table.to_mut().chains.get_mut(at)
                && let Some(rule) = chain.rules.get_mut(number)
            {
                take(&mut rule.exprs, &same.exprs);
            }
        }
    }
}

/// The rules that have counted something; equal ones in their order.
fn counted<'a>(chain: &'a Chain, sets: &BTreeMap<&str, &Set>) -> BTreeMap<Vec<u8>, VecDeque<&'a Rule>> {
    let mut rules: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
    for rule in chain.rules.iter().filter(|rule| rule.exprs.iter().any(Expr::is_stateful)) {
        rules.entry(key(rule, sets)).or_default().push_back(rule);
    }
    rules
}

fn anonymous(table: &Table) -> BTreeMap<&str, &Set> {
    let sets = table.sets.iter().filter(|set| set.is_anonymous());
    sets.map(|set| (set.name.as_str(), set)).collect()
}

/// What makes a rule the same: the bytes that would be sent for it, without counts, names of anonymous sets and
/// the order of their elements.
fn key(rule: &Rule, sets: &BTreeMap<&str, &Set>) -> Vec<u8> {
    let ids = SetIds::new();
    let mut writer = Writer::new();
    for expr in &rule.exprs {
        let mut expr = expr.clone();
        expr.reset_counter();
        if let Some(set) = expr.set_name_mut()
            && let Some(used) = sets.get(set.as_str())
        {
            set.clear();
            let contents = Set { name: String::new(), ..used.canonical() };
            contents.encode("", 0, &mut writer);
            contents.elements.iter().for_each(|element| writer.nest(0, |w| element.encode(&ids, w)));
        }
        expr.encode(&ids, &mut writer);
    }
    writer.bytes(0, &rule.userdata.0);
    writer.into_bytes()
}

/// Hands on what was counted; the expressions are otherwise the same.
fn take(exprs: &mut [Expr], counted: &[Expr]) {
    for (expr, counted) in exprs.iter_mut().zip(counted) {
        if expr.is_stateful() {
            *expr = counted.for_reuse();
        }
    }
}

fn objects(table: &mut Cow<'_, Table>, wanted: &Table, found: &Table) {
    let known: BTreeMap<_, _> = found.objects.iter().map(|object| (object.id(), object)).collect();
    for (at, object) in wanted.objects.iter().enumerate() {
        if let Some(found) = known.get(&object.id())
            && object.canonical() == found.canonical()
            && let Some(object) = table.to_mut().objects.get_mut(at)
        {
            object.kind = found.kind.for_reuse();
        }
    }
}

/// Counters of the elements of a set that is the same set, if not of the same elements.
fn elements(table: &mut Cow<'_, Table>, wanted: &Table, found: &Table) {
    for (at, set) in wanted.sets.iter().enumerate() {
        let counts = set.elements.iter().any(|element| element.exprs.iter().any(Expr::is_stateful));
        let found = found.sets.iter().find(|found| found.name == set.name && !set.is_anonymous());
        let Some(found) = found.filter(|_| counts) else { continue };
        let counted: BTreeMap<_, _> = found.elements.iter().map(|element| (id(element), element)).collect();
        let Some(carrying) = table.to_mut().sets.get_mut(at) else { continue };
        for (wanted, element) in set.elements.iter().zip(&mut carrying.elements) {
            if let Some(same) = counted.get(&id(wanted))
                && stateless(&wanted.exprs) == stateless(&same.exprs)
            {
                take(&mut element.exprs, &same.exprs);
            }
        }
    }
}

fn id(element: &Element) -> (&[u8], Option<&[u8]>, u32) {
    (&element.key, element.key_end.as_deref(), element.flags)
}

fn stateless(exprs: &[Expr]) -> Vec<Expr> {
    let mut exprs = exprs.to_vec();
    exprs.iter_mut().for_each(Expr::reset_counter);
    exprs
}
