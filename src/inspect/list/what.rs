//! The words after `berth nft list`, and what has to be read for them.

use super::super::Error;
use crate::nft::Family;
use crate::nft::dump::{Elements, Filter, Rules};
use crate::nft::names::words::{OBJECTS, number};

/// What the words after `list` mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Ruleset(Option<Family>),
    Tables(Option<Family>),
    Table(Family, String),
    Chains(Option<Family>),
    Chain(Family, String, String),
    /// `sets`, `maps`, `counters`, …
    Every(Kind, Option<Family>),
    One(Kind, Family, String, String),
}

/// Of a family; the device whose own hooks are told as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hooks {
    pub family: Option<Family>,
    pub device: Option<String>,
}

/// What a table holds besides chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Set,
    Map,
    Meter,
    Flowtable,
    /// By the kernel's number.
    Object(u32),
}

impl What {
    /// What has to be read to print it.
    pub(super) fn filter(&self, terse: bool) -> Filter {
        let (family, table) = match self {
            Self::Table(family, table)
            | Self::Chain(family, table, _)
            | Self::One(_, family, table, _) => (Some(*family), Some(table.clone())),
            Self::Ruleset(family)
            | Self::Tables(family)
            | Self::Chains(family)
            | Self::Every(_, family) => (*family, None),
        };
        let (rules, elements) = match self {
            Self::Ruleset(_) | Self::Table(..) if terse => (Rules::All, Elements::InRules),
            Self::Ruleset(_) | Self::Table(..) => (Rules::All, Elements::All),
            Self::Chain(.., chain) => (Rules::Chain(chain.clone()), Elements::InRules),
            Self::Every(kind, _) if !terse => (Rules::None, kind.elements()),
            Self::One(Kind::Set | Kind::Map | Kind::Meter, .., name) if !terse => {
                (Rules::None, Elements::Of(name.clone()))
            }
            _ => (Rules::None, Elements::None),
        };
        Filter { family, table, rules, elements }
    }
}

impl Kind {
    fn elements(self) -> Elements {
        match self {
            Self::Set => Elements::Sets,
            Self::Map => Elements::Maps,
            Self::Meter => Elements::Meters,
            Self::Flowtable | Self::Object(_) => Elements::None,
        }
    }
}

/// Reads the words after `list`, as nft takes them.
pub fn parse(words: &[String]) -> Result<What, Error> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (what, rest) = match words.as_slice() {
        [] => return Ok(What::Ruleset(None)),
        ["ct", kind, rest @ ..] => (format!("ct {kind}"), rest),
        ["flow", "table" | "tables", ..] => return Err(usage("flow table", "flowtable")),
        [what, rest @ ..] => ((*what).to_owned(), rest),
    };
    let only_family = || match rest {
        [] => Ok(None),
        [family] => family_of(family).map(Some),
        _ => Err(usage(&words.join(" "), "at most a family there")),
    };
    match what.as_str() {
        "ruleset" => return Ok(What::Ruleset(only_family()?)),
        "tables" => return Ok(What::Tables(only_family()?)),
        "chains" => return Ok(What::Chains(only_family()?)),
        _ => {}
    }
    if let Some(kind) = plural(&what) {
        return Ok(What::Every(kind, only_family()?));
    }
    let (family, names) = match rest {
        [family, names @ ..] if family_of(family).is_ok() => (family_of(family)?, names),
        // As nft has it.
        names => (Family::IP, names),
    };
    match (what.as_str(), names) {
        ("table", [table]) => Ok(What::Table(family, (*table).to_owned())),
        ("table", _) => Err(usage(&words.join(" "), "table [FAMILY] NAME")),
        ("chain", [table, chain]) => {
            Ok(What::Chain(family, (*table).to_owned(), (*chain).to_owned()))
        }
        ("chain", _) => Err(usage(&words.join(" "), "chain [FAMILY] TABLE NAME")),
        (word, names) => match (singular(word), names) {
            (Some(kind), [table, name]) => {
                Ok(What::One(kind, family, (*table).to_owned(), (*name).to_owned()))
            }
            (Some(_), _) => Err(usage(&words.join(" "), &format!("{word} [FAMILY] TABLE NAME"))),
            (None, _) => Err(usage(
                word,
                "ruleset, tables, table, chains, chain, sets, set, maps, map, meters, meter, flowtables, \
                 flowtable, counters, counter, quotas, quota, limits, limit, synproxys, synproxy, secmarks, \
                 secmark, ct helper, ct timeout, ct expectation or hooks",
            )),
        },
    }
}

/// `hooks [FAMILY] [device NAME]`, which is no part of a ruleset; None when something else is asked for.
pub fn hooks(words: &[String]) -> Result<Option<Hooks>, Error> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["hooks", rest @ ..] = words.as_slice() else { return Ok(None) };
    let (family, device) = match rest {
        [] => (None, None),
        ["device", name] => (None, Some((*name).to_owned())),
        [family] => (Some(family_of(family)?), None),
        [family, "device", name] => (Some(family_of(family)?), Some((*name).to_owned())),
        _ => return Err(usage(&words.join(" "), "hooks [FAMILY] [device NAME]")),
    };
    Ok(Some(Hooks { family, device }))
}

fn usage(found: &str, allowed: &str) -> Error {
    Error::Usage(format!("list {found}: not known; allowed: {allowed}"))
}

fn family_of(word: &str) -> Result<Family, Error> {
    Ok(match word {
        "ip" => Family::IP,
        "ip6" => Family::IP6,
        "inet" => Family::INET,
        "arp" => Family::ARP,
        "bridge" => Family::BRIDGE,
        "netdev" => Family::NETDEV,
        other => return Err(usage(other, "ip, ip6, inet, arp, bridge or netdev")),
    })
}

fn singular(word: &str) -> Option<Kind> {
    match word {
        "set" => Some(Kind::Set),
        "map" => Some(Kind::Map),
        "meter" => Some(Kind::Meter),
        "flowtable" => Some(Kind::Flowtable),
        word => number(OBJECTS, word).map(Kind::Object),
    }
}

fn plural(word: &str) -> Option<Kind> {
    word.strip_suffix('s').and_then(singular)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str, terse: bool) -> (Rules, Elements) {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let filter = parse(&words).expect("known words").filter(terse);
        (filter.rules, filter.elements)
    }

    #[test]
    fn what_is_not_shown_is_not_asked_for() {
        let one = |name: &str| Elements::Of(name.to_owned());
        for (words, whole, terse) in [
            ("", (Rules::All, Elements::All), (Rules::All, Elements::InRules)),
            ("ruleset inet", (Rules::All, Elements::All), (Rules::All, Elements::InRules)),
            ("table inet t", (Rules::All, Elements::All), (Rules::All, Elements::InRules)),
            ("sets", (Rules::None, Elements::Sets), (Rules::None, Elements::None)),
            ("maps ip", (Rules::None, Elements::Maps), (Rules::None, Elements::None)),
            ("meters", (Rules::None, Elements::Meters), (Rules::None, Elements::None)),
            ("set inet t s", (Rules::None, one("s")), (Rules::None, Elements::None)),
            ("map t m", (Rules::None, one("m")), (Rules::None, Elements::None)),
        ] {
            assert_eq!((asked(words, false), asked(words, true)), (whole, terse), "{words}");
        }
        let chain = (Rules::Chain("c".to_owned()), Elements::InRules);
        assert_eq!(
            (asked("chain inet t c", false), asked("chain inet t c", true)),
            (chain.clone(), chain)
        );
        for words in ["tables", "chains", "counters", "flowtables", "quota inet t q", "ct helpers"]
        {
            assert_eq!(asked(words, false), (Rules::None, Elements::None), "{words}");
        }
    }
}
