//! What of a table that is there can stay when it is replaced, and what has to go first.
//!
//! Of the rules of a chain those stay that are the same at its beginning and at its end; what is between is deleted
//! and made again. A rule cannot stay when it uses something that goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::expr::Expr;
use super::super::{Chain, DataType, Flowtable, Object, Rule, Set, Table};
use super::same::{Anonymous, anonymous, same_rule};

/// Both what stays as it is and what is deleted.
#[derive(Debug, Default)]
pub(crate) struct Kept<'a> {
    pub chains: BTreeSet<&'a str>,
    pub sets: BTreeSet<&'a str>,
    pub objects: BTreeSet<(u32, &'a str)>,
    pub deleted_chains: Vec<&'a Chain>,
    pub deleted_sets: Vec<&'a Set>,
    pub deleted_objects: Vec<&'a Object>,
    /// By the name of the chain.
    pub rules: HashMap<&'a str, KeptRules>,
}

/// Of a chain that is found and wanted.
#[derive(Debug, Default)]
pub(crate) struct KeptRules {
    /// How many stay at the beginning and at the end.
    pub first: usize,
    pub last: usize,
    /// Handles of those between.
    pub deleted: Vec<u64>,
    /// Handle of the first of the last: what is new comes before it.
    pub before: Option<u64>,
}

impl<'a> Kept<'a> {
    /// None when the table has to be made anew: what the kernel cannot change in place differs.
    pub fn of(wanted: &'a Table, found: &'a Table) -> Option<Self> {
        let flowtables = |table: &Table| -> Vec<_> {
            table.flowtables.iter().map(Flowtable::canonical).collect()
        };
        if wanted.flags != found.flags
            || wanted.userdata != found.userdata
            || flowtables(wanted) != flowtables(found)
        {
            return None;
        }
        let mut kept = Self::default();
        kept.find_chains(wanted, found)?;
        kept.find_objects(wanted, found);
        kept.find_sets(wanted, found);
        kept.find_rules(wanted, found);
        Some(kept)
    }

    fn find_chains(&mut self, wanted: &Table, found: &'a Table) -> Option<()> {
        if wanted.chains.iter().chain(&found.chains).any(Chain::is_bound) {
            return None;
        }
        let by_name: BTreeMap<_, _> =
            wanted.chains.iter().map(|chain| (chain.name.as_str(), chain)).collect();
        for chain in &found.chains {
            match by_name.get(chain.name.as_str()) {
                None => self.deleted_chains.push(chain),
                Some(wanted) if !same_shape(wanted, chain) => return None,
                // A policy can be changed: the chain is sent again.
                Some(wanted) if wanted.hook == chain.hook => {
                    self.chains.insert(chain.name.as_str());
                }
                Some(_) => {}
            }
        }
        Some(())
    }

    fn find_objects(&mut self, wanted: &Table, found: &'a Table) {
        let by_id: BTreeMap<_, _> =
            wanted.objects.iter().map(|object| (object.id(), object)).collect();
        for object in &found.objects {
            match by_id.get(&object.id()) {
                Some(wanted) if wanted.canonical() == object.canonical() => {
                    self.objects.insert(object.id());
                }
                _ => self.deleted_objects.push(object),
            }
        }
    }

    /// Elements that name a chain or object which goes would hold it.
    fn find_sets(&mut self, wanted: &Table, found: &'a Table) {
        let by_name: BTreeMap<_, _> =
            wanted.sets.iter().map(|set| (set.name.as_str(), set)).collect();
        for set in found.sets.iter().filter(|set| !set.is_anonymous()) {
            let holds = (set.data == Some(DataType::Verdict) && !self.deleted_chains.is_empty())
                || (set.object.is_some() && !self.deleted_objects.is_empty());
            match by_name.get(set.name.as_str()) {
                Some(wanted) if !holds && wanted.canonical() == set.canonical() => {
                    self.sets.insert(set.name.as_str());
                }
                _ => self.deleted_sets.push(set),
            }
        }
    }
}

impl<'a> Kept<'a> {
    fn find_rules(&mut self, wanted: &'a Table, found: &'a Table) {
        let by_name: HashMap<_, _> =
            wanted.chains.iter().map(|chain| (chain.name.as_str(), chain)).collect();
        let (wanted_sets, found_sets) = (anonymous(wanted), anonymous(found));
        let uses = Uses::of(self);
        for chain in &found.chains {
            let Some(wanted) = by_name.get(chain.name.as_str()) else { continue };
            let stays = |(wanted, found): &(&Rule, &Rule)| {
                found.handle.0.is_some()
                    && !uses.any_in(found, &found_sets)
                    && same_rule((wanted, &wanted_sets), (found, &found_sets))
            };
            let rules = KeptRules::of(&wanted.rules, &chain.rules, stays);
            // Their sets stay with them.
            for (_, rule) in
                wanted.rules.iter().enumerate().filter(|(at, _)| rules.has(*at, wanted.rules.len()))
            {
                let names = rule.exprs.iter().filter_map(Expr::set_name).map(String::as_str);
                self.sets.extend(names.filter(|name| wanted_sets.contains_key(name)));
            }
            self.rules.insert(chain.name.as_str(), rules);
        }
    }
}

impl KeptRules {
    fn of(wanted: &[Rule], found: &[Rule], stays: impl Fn(&(&Rule, &Rule)) -> bool) -> Self {
        let first = wanted.iter().zip(found).take_while(&stays).count();
        let shorter = wanted.len().min(found.len());
        let last = wanted
            .iter()
            .rev()
            .zip(found.iter().rev())
            .take(shorter - first)
            .take_while(&stays)
            .count();
        let between = found.get(first..found.len() - last).unwrap_or(&[]);
        Self {
            first,
            last,
            deleted: between.iter().filter_map(|rule| rule.handle.0).collect(),
            before: found.len().checked_sub(last).and_then(|at| found.get(at)?.handle.0),
        }
    }

    /// Whether the wanted rule at this place of so many is one that stays.
    pub fn has(&self, at: usize, len: usize) -> bool {
        at < self.first || at >= len - self.last
    }
}

/// What is deleted, by name.
struct Uses<'a> {
    sets: BTreeSet<&'a str>,
    objects: BTreeSet<(u32, &'a str)>,
}

impl<'a> Uses<'a> {
    fn of(kept: &Kept<'a>) -> Self {
        Self {
            sets: kept.deleted_sets.iter().map(|set| set.name.as_str()).collect(),
            objects: kept.deleted_objects.iter().map(|object| object.id()).collect(),
        }
    }

    fn any_in(&self, rule: &Rule, anonymous: &Anonymous<'_>) -> bool {
        rule.exprs.iter().any(|expr| match expr {
            Expr::Objref { kind, name } => self.objects.contains(&(*kind, name)),
            _ => expr.set_name().is_some_and(|name| {
                let names_objects =
                    anonymous.get(name.as_str()).is_some_and(|set| set.object.is_some());
                self.sets.contains(name.as_str()) || names_objects && !self.objects.is_empty()
            }),
        })
    }
}

/// Whether the kernel takes one for the other, but for the policy.
fn same_shape(wanted: &Chain, found: &Chain) -> bool {
    let hooks = match (&wanted.hook, &found.hook) {
        (None, None) => true,
        (Some(wanted), Some(found)) => {
            (&wanted.kind, wanted.number, wanted.priority, &wanted.devices)
                == (&found.kind, found.number, found.priority, &found.devices)
        }
        _ => false,
    };
    hooks && wanted.flags == found.flags && wanted.userdata == found.userdata
}
