//! What has been counted goes on to what replaces it: a rule that stays the same rule keeps its counters.
//!
//! This is for rules that have to be made again: those that can stay where they are were left alone. Packets that
//! arrive between dump and commit are not counted (a fraction of a millisecond).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::super::expr::Expr;
use super::super::{Element, Rule, Table};
use super::kept::Kept;
use super::same::{Anonymous, anonymous, key};

/// `wanted`, with what `found` has counted in all that is not kept.
pub fn carried<'a>(wanted: &'a Table, found: &Table, kept: Option<&Kept<'_>>) -> Cow<'a, Table> {
    let mut table = Cow::Borrowed(wanted);
    rules(&mut table, wanted, found, kept);
    objects(&mut table, wanted, found);
    elements(&mut table, wanted, found);
    table
}

fn rules(table: &mut Cow<'_, Table>, wanted: &Table, found: &Table, kept: Option<&Kept<'_>>) {
    let found_chains: HashMap<_, _> =
        found.chains.iter().map(|chain| (chain.name.as_str(), chain)).collect();
    let (wanted_sets, found_sets) = (anonymous(wanted), anonymous(found));
    for (at, chain) in wanted.chains.iter().enumerate() {
        let Some(found) = found_chains.get(chain.name.as_str()) else { continue };
        let kept = kept.and_then(|kept| kept.rules.get(chain.name.as_str()));
        let stays = |at: usize, rules: &[Rule]| kept.is_some_and(|kept| kept.has(at, rules.len()));
        let gone = found.rules.iter().enumerate().filter(|(at, _)| !stays(*at, &found.rules));
        let mut counted = counted(gone.map(|(_, rule)| rule), &found_sets);
        if counted.is_empty() {
            continue;
        }
        for (number, rule) in chain.rules.iter().enumerate() {
            if !stays(number, &chain.rules)
                && rule.exprs.iter().any(Expr::is_stateful)
                && let Some(same) =
                    counted.get_mut(&key(rule, &wanted_sets)).and_then(VecDeque::pop_front)
                && let Some(chain) = table.to_mut().chains.get_mut(at)
                && let Some(rule) = chain.rules.get_mut(number)
            {
                take(&mut rule.exprs, &same.exprs);
            }
        }
    }
}

/// The rules that count something; equal ones in their order.
fn counted<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    sets: &Anonymous<'_>,
) -> BTreeMap<Vec<u8>, VecDeque<&'a Rule>> {
    let mut counted: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
    for rule in rules.filter(|rule| rule.exprs.iter().any(Expr::is_stateful)) {
        counted.entry(key(rule, sets)).or_default().push_back(rule);
    }
    counted
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
        let counted: BTreeMap<_, _> =
            found.elements.iter().map(|element| (id(element), element)).collect();
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
