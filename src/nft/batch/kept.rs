//! What of a table that is there can stay when it is replaced, and what has to go first.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Chain, DataType, Object, Set, Table};

/// NFT_CHAIN_BINDING: the chain lives and dies with a rule.
pub const BOUND: u32 = 4;

/// Both what stays as it is and what is deleted. Rules are always flushed.
#[derive(Debug, Default)]
pub struct Kept<'a> {
    pub chains: BTreeSet<&'a str>,
    pub sets: BTreeSet<&'a str>,
    pub objects: BTreeSet<(u32, &'a str)>,
    pub deleted_chains: Vec<&'a Chain>,
    pub deleted_sets: Vec<&'a Set>,
    pub deleted_objects: Vec<&'a Object>,
}

impl<'a> Kept<'a> {
    /// None when the table has to be made anew: what the kernel cannot change in place differs.
    pub fn of(wanted: &Table, found: &'a Table) -> Option<Self> {
        if wanted.flags != found.flags
            || wanted.userdata != found.userdata
            || wanted.flowtables != found.flowtables
        {
            return None;
        }
        let mut kept = Self::default();
        kept.find_chains(wanted, found)?;
        kept.find_objects(wanted, found);
        kept.find_sets(wanted, found);
        Some(kept)
    }

    fn find_chains(&mut self, wanted: &Table, found: &'a Table) -> Option<()> {
        let bound = |chain: &Chain| chain.flags & BOUND != 0;
        if wanted.chains.iter().chain(&found.chains).any(bound) {
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
        let by_id: BTreeMap<_, _> = wanted.objects.iter().map(|object| (object.id(), object)).collect();
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
        let by_name: BTreeMap<_, _> = wanted.sets.iter().map(|set| (set.name.as_str(), set)).collect();
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
