//! What the kernel has of each rule and set: the judge between two ways of writing them.

use std::collections::{BTreeMap, BTreeSet};

use berth::nft::dump::Filter;
use berth::nft::expr::Expr;
use berth::nft::{Data, Handle, Rule, Set, Table, Userdata, Verdict};
use berth::sys::netlink::Firewall;

use crate::support::Netns;

/// A rule by its chain and number, a set by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Rule(String, usize),
    Set(String),
}

pub type Compiled = BTreeMap<Place, String>;

/// Everything in the table of a namespace; nothing when there is none.
pub fn compiled(netns: &Netns) -> Compiled {
    let (_, ruleset) =
        netns.enter(|| async { Firewall::start().unwrap().dump(Filter::default()).await.unwrap() });
    let mut compiled = Compiled::new();
    for table in &ruleset.tables {
        for set in table.sets.iter().filter(|set| !set.is_anonymous()) {
            compiled.insert(Place::Set(set.name.clone()), described_set(set));
        }
        for chain in &table.chains {
            for (number, rule) in chain.rules.iter().enumerate() {
                compiled.insert(Place::Rule(chain.name.clone(), number), described(table, rule, 0));
            }
        }
    }
    compiled
}

/// Without what the kernel counts and numbers; sets and chains without a name stand where they are used.
fn described(table: &Table, rule: &Rule, depth: usize) -> String {
    let mut text = format!("{:?}\u{1}", rule.userdata.as_comment());
    for expr in &rule.exprs {
        let mut expr = expr.clone();
        let set = set_of(&expr)
            .and_then(|name| table.sets.iter().find(|set| set.name == name && set.is_anonymous()));
        if let (
            Some(set),
            Expr::Lookup { set: name, .. }
            | Expr::Dynset { set: name, .. }
            | Expr::ObjrefMap { set: name, .. },
        ) = (set, &mut expr)
        {
            *name = described_set(set);
        }
        if let Expr::Immediate {
            data: Data::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)),
            ..
        } = &mut expr
            && let Some(found) =
                table.chains.iter().find(|found| found.name == *chain && is_unnamed(&found.name))
            && depth < 8
        {
            *chain = found.rules.iter().map(|rule| described(table, rule, depth + 1)).collect();
        }
        text += &format!("{expr:?}\u{1}");
    }
    text
}

/// As nft calls chains without a name; JSON has them as chains of their own.
pub fn is_unnamed(chain: &str) -> bool {
    chain.starts_with("__chain")
}

fn set_of(expr: &Expr) -> Option<String> {
    expr.set_name().cloned()
}

fn described_set(set: &Set) -> String {
    let mut set = set.clone();
    set.handle = Handle::default();
    // What nft notes with it differs between texts that mean the same; its comment does not.
    let comment = set.userdata.comment_at(7);
    set.userdata = Userdata::default();
    if set.is_anonymous() {
        set.name.clear();
    }
    // JSON has no word for it.
    set.flags &= !berth::nft::set::DYNAMIC;
    if set.is_anonymous() {
        // nft counts elements that are there twice.
        set.size = None;
    }
    set.elements.iter_mut().for_each(|element| element.expiration = None);
    set.elements.sort();
    format!("{comment:?} {set:?}")
}

/// Where the lines of a listing belong; refused ones have no place in what was loaded.
pub fn places(lines: &[String], refused: &BTreeSet<String>) -> Vec<(Option<Place>, Option<Place>)> {
    let mut chain = String::new();
    let (mut all, mut loaded) = (0, 0);
    let mut places = Vec::new();
    for line in lines {
        let mut words = line.split(' ');
        let place = match (words.next().unwrap_or_default(), words.next()) {
            ("chain", Some(name)) if line.ends_with('{') && chain.is_empty() => {
                name.clone_into(&mut chain);
                (all, loaded) = (0, 0);
                (None, None)
            }
            ("set" | "map", Some(name)) if chain.is_empty() => {
                let place = Place::Set(name.to_owned());
                (Some(place.clone()), (!refused.contains(line)).then_some(place))
            }
            ("}", None) => {
                chain.clear();
                (None, None)
            }
            ("type", _) | ("comment", _) | ("", _) => (None, None),
            _ if chain.is_empty() => (None, None),
            _ => {
                let first = Place::Rule(chain.clone(), all);
                let second = (!refused.contains(line)).then(|| Place::Rule(chain.clone(), loaded));
                all += 1;
                loaded += usize::from(second.is_some());
                (Some(first), second)
            }
        };
        places.push(place);
    }
    places
}

/// The same of the objects of a document.
pub fn places_json(
    objects: &[serde_json::Value],
    refused: &BTreeSet<String>,
) -> Vec<(Option<Place>, Option<Place>)> {
    let mut numbers: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let place = |object: &serde_json::Value| {
        let taken = !refused.contains(&object.to_string());
        if let Some(set) = object.get("set").or_else(|| object.get("map")) {
            let place = Place::Set(set["name"].as_str().unwrap().to_owned());
            return (Some(place.clone()), taken.then_some(place));
        }
        let Some(rule) = object.get("rule") else { return (None, None) };
        let chain = rule["chain"].as_str().unwrap().to_owned();
        let (all, loaded) = numbers.entry(chain.clone()).or_default();
        let first = Place::Rule(chain.clone(), *all);
        let second = taken.then_some(Place::Rule(chain, *loaded));
        *all += 1;
        *loaded += usize::from(taken);
        (Some(first), second)
    };
    objects.iter().map(place).collect()
}
