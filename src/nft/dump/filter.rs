//! What a dump is asked for: tables by family and name, and how much of them.

use std::collections::HashSet;

use super::super::{Chain, Expr, Family, Set, Table};

/// Which tables to tell about, and what of them. What is not asked for is not read: a set may have a million elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// All when None.
    pub family: Option<Family>,
    /// One table by name; all when None.
    pub table: Option<String>,
    /// Which rules are read.
    pub rules: Rules,
    /// Which elements are read.
    pub elements: Elements,
}

/// Whose rules are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rules {
    /// Of all chains.
    #[default]
    All,
    /// Of no chain.
    None,
    /// Those of one chain, and of chains without a name, which are written where they are called.
    Chain(String),
}

/// Whose elements are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Elements {
    /// Of all sets.
    #[default]
    All,
    /// Of no set.
    None,
    /// Of the sets without a name that the rules asked for look into: they are written within the rules.
    InRules,
    /// Of sets that are neither maps nor meters.
    Sets,
    /// Of maps.
    Maps,
    /// Of meters.
    Meters,
    /// Of one set or map.
    Of(String),
}

impl Filter {
    /// One table, all of it.
    pub fn table(family: Family, name: &str) -> Self {
        Self { family: Some(family), table: Some(name.to_owned()), ..Self::default() }
    }

    pub(super) fn takes(&self, family: Family, table: &str) -> bool {
        self.family.is_none_or(|wanted| wanted == family)
            && self.table.as_ref().is_none_or(|wanted| wanted == table)
    }

    pub(super) fn wants_rules(&self, chain: &Chain) -> bool {
        match &self.rules {
            Rules::All => true,
            Rules::None => false,
            Rules::Chain(name) => chain.name == *name || chain.is_bound(),
        }
    }

    pub(super) fn wants(&self, set: &Set, looked_up: &HashSet<&str>) -> bool {
        match &self.elements {
            Elements::All => true,
            Elements::None => false,
            Elements::InRules => set.is_anonymous() && looked_up.contains(set.name.as_str()),
            Elements::Sets => !set.is_anonymous() && !set.is_map(),
            Elements::Maps => !set.is_anonymous() && set.is_map(),
            Elements::Meters => set.is_meter(),
            Elements::Of(name) => set.name == *name,
        }
    }

    /// The sets that the rules told of look into; only looked for where it matters.
    pub(super) fn looked_up<'a>(&self, table: &'a Table) -> HashSet<&'a str> {
        if self.elements != Elements::InRules {
            return HashSet::new();
        }
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        rules
            .flat_map(|rule| rule.exprs.iter().filter_map(Expr::set_name).map(String::as_str))
            .collect()
    }
}
