//! When a rule is the same rule: the same expressions, but for what the kernel counts in them, the same contents of
//! anonymous sets whatever their names, and the same comment.

use std::collections::HashMap;

use super::super::attr::Writer;
use super::super::expr::{Expr, SetIds};
use super::super::{Rule, Set, Table};

/// The anonymous sets of a table, by name.
pub(crate) type Anonymous<'a> = HashMap<&'a str, &'a Set>;

pub fn anonymous(table: &Table) -> Anonymous<'_> {
    let sets = table.sets.iter().filter(|set| set.is_anonymous());
    sets.map(|set| (set.name.as_str(), set)).collect()
}

pub(crate) fn same_rule(
    (wanted, wanted_sets): (&Rule, &Anonymous<'_>),
    (found, found_sets): (&Rule, &Anonymous<'_>),
) -> bool {
    wanted.userdata == found.userdata
        && wanted.exprs.len() == found.exprs.len()
        && wanted.exprs.iter().zip(&found.exprs).all(|(wanted, found)| {
            let sets = |expr: &Expr, sets: &Anonymous<'_>| {
                expr.set_name().and_then(|name| sets.get(name.as_str())).map(|set| contents(set))
            };
            wanted == found
                && wanted.set_name().is_none_or(|name| !wanted_sets.contains_key(name.as_str()))
                || bare(wanted, wanted_sets) == bare(found, found_sets)
                    && sets(wanted, wanted_sets) == sets(found, found_sets)
        })
}

/// The same as bytes, to look for it among many.
pub fn key(rule: &Rule, sets: &Anonymous<'_>) -> Vec<u8> {
    let ids = SetIds::new();
    let mut writer = Writer::new();
    for expr in &rule.exprs {
        if let Some(set) = expr.set_name().and_then(|name| sets.get(name.as_str())) {
            let contents = contents(set);
            contents.encode("", 0, &mut writer);
            contents
                .elements
                .iter()
                .for_each(|element| writer.nest(0, |w| element.encode(&ids, w)));
        }
        bare(expr, sets).encode(&ids, &mut writer);
    }
    writer.bytes(0, &rule.userdata.0);
    writer.into_bytes()
}

/// Without counts and the name of an anonymous set.
fn bare(expr: &Expr, sets: &Anonymous<'_>) -> Expr {
    let mut expr = expr.clone();
    expr.reset_counter();
    expr.fill_in();
    if let Some(name) = expr.set_name_mut()
        && sets.contains_key(name.as_str())
    {
        name.clear();
    }
    expr
}

fn contents(set: &Set) -> Set {
    Set { name: String::new(), ..set.canonical() }
}
