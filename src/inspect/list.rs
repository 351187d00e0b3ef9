//! `berth nft list`: what `nft list …` and `nft -j list …` print, for whatever is loaded.

use std::io::{self, Write};

use super::{Error, written};
use crate::cli::Output;
use crate::cli::nft::List;
use crate::exit::Code;
use crate::nft::dump::Filter;
use crate::nft::json::{Document, Release};
use crate::nft::text::{Style, object_word};
use crate::nft::{Family, Ruleset, Table};
use crate::sys::link::Links;
use crate::sys::netlink::Firewall;

/// What the words after `list` mean.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Ruleset(Option<Family>),
    Tables(Option<Family>),
    Table(Family, String),
    Chains(Option<Family>),
    Chain(Family, String, String),
    /// `sets`, `maps`, `counters`, …
    Every(Kind, Option<Family>),
    One(Kind, Family, String, String),
}

/// What a table holds besides chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Set,
    Map,
    Meter,
    Flowtable,
    /// By the kernel's number.
    Object(u32),
}

pub async fn run(wanted: &List, out: &mut impl Write) -> Result<Code, Error> {
    let what = parse(&wanted.what)?;
    let firewall = Firewall::start()?;
    let (_, ruleset) = firewall.dump(filter(&what)).await?;
    let json = wanted.json || wanted.output == Some(Output::Json);
    let rules = !json && matches!(what, What::Ruleset(_) | What::Table(..) | What::Chain(..));
    for table in ruleset.tables.iter().filter(|table| rules && table.is_foreign()) {
        // As nft says it, wherever it shows rules: of these it shows no more than an image.
        let family = table.family;
        let _ = writeln!(
            io::stderr(),
            "# Warning: table {family} {} is managed by iptables-nft, do not touch!",
            table.name
        );
    }
    let style = Style {
        handles: wanted.handle,
        numeric: wanted.numeric,
        stateless: wanted.stateless,
        interfaces: Links::open()?.names().await?,
        ..Style::default()
    };
    let text = if json {
        let mut document = Document::new(&Release::of(&wanted.nft_version));
        objects(&what, &ruleset, &style, &mut document)?;
        document.finish()
    } else {
        text(&what, &ruleset, &style)?.into_bytes()
    };
    written(out.write_all(&text))?;
    Ok(Code::Success)
}

fn filter(what: &What) -> Filter {
    match what {
        What::Table(family, table) | What::Chain(family, table, _) | What::One(_, family, table, _) => {
            Filter::table(*family, table)
        }
        What::Ruleset(family) | What::Tables(family) | What::Chains(family) | What::Every(_, family) => {
            Filter { family: *family, table: None }
        }
    }
}

fn parse(words: &[String]) -> Result<What, Error> {
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
        ("chain", [table, chain]) => Ok(What::Chain(family, (*table).to_owned(), (*chain).to_owned())),
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
                 secmark, ct helper, ct timeout or ct expectation",
            )),
        },
    }
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
        word => (1..=10).find(|kind| object_word(*kind) == word).map(Kind::Object),
    }
}

fn plural(word: &str) -> Option<Kind> {
    word.strip_suffix('s').and_then(singular)
}

/// The table that was named.
fn table<'a>(ruleset: &'a Ruleset, family: Family, name: &str) -> Result<&'a Table, Error> {
    let absent = || Error::Absent(format!("there is no table {family} {name}"));
    ruleset.table(family, name).ok_or_else(absent)
}

fn text(what: &What, ruleset: &Ruleset, style: &Style) -> Result<String, Error> {
    let tables = &ruleset.tables;
    Ok(match what {
        What::Ruleset(_) => ruleset.text(style),
        What::Tables(_) => {
            tables.iter().map(|table| format!("table {} {}\n", table.family, table.name)).collect()
        }
        What::Table(family, name) => style.table(table(ruleset, *family, name)?),
        What::Chains(_) => {
            tables.iter().map(|table| style.one(table, |style, out| style.chain_heads(out, table))).collect()
        }
        What::Chain(family, name, chain) => {
            let table = table(ruleset, *family, name)?;
            style.one_chain(table, chain_of(table, chain)?)
        }
        What::Every(kind, _) => {
            // As nft does: a table without objects is not worth a word when objects are asked for.
            let worth = |table: &&Table| !matches!(kind, Kind::Object(_)) || !table.objects.is_empty();
            let listed = tables.iter().filter(worth);
            listed.map(|table| style.one(table, |style, out| every(style, out, table, *kind, None))).collect()
        }
        What::One(kind, family, name, object) => {
            let table = table(ruleset, *family, name)?;
            let mut inside = String::new();
            every(style, &mut inside, table, *kind, Some(object));
            if inside.is_empty() {
                return Err(Error::Absent(format!(
                    "there is no such thing as {object} in table {family} {name}"
                )));
            }
            style.one(table, |style, out| every(style, out, table, *kind, Some(object)))
        }
    })
}

/// Those of one kind, all or the one of a name.
fn every(style: &Style, out: &mut String, table: &Table, kind: Kind, name: Option<&String>) {
    let named = |found: &String| name.is_none_or(|name| name == found);
    match kind {
        Kind::Object(number) => {
            let found = table.objects.iter().filter(|object| object.kind.number() == number);
            found.filter(|object| named(&object.name)).for_each(|object| style.object(out, object));
        }
        Kind::Flowtable => {
            table
                .flowtables
                .iter()
                .filter(|found| named(&found.name))
                .for_each(|found| style.flowtable(out, found));
        }
        _ => sets(table, kind).filter(|set| named(&set.name)).for_each(|set| style.set(out, set, true)),
    }
}

fn sets(table: &Table, kind: Kind) -> impl Iterator<Item = &crate::nft::Set> {
    table.sets.iter().filter(move |set| match kind {
        Kind::Map => !set.is_anonymous() && set.is_map(),
        Kind::Meter => set.is_meter(),
        _ => !set.is_anonymous() && !set.is_map(),
    })
}

fn objects(what: &What, ruleset: &Ruleset, style: &Style, out: &mut Document) -> Result<(), Error> {
    let tables = &ruleset.tables;
    match what {
        What::Ruleset(_) => ruleset.json(style, out),
        What::Tables(_) => tables.iter().for_each(|table| out.add(&style.table_head_json(table))),
        What::Table(family, name) => style.table_json(table(ruleset, *family, name)?, out),
        What::Chains(_) => {
            let chains = tables.iter().flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
            chains.for_each(|(table, chain)| out.add(&style.chain_json(table, chain)));
        }
        What::Chain(family, name, chain) => {
            let table = table(ruleset, *family, name)?;
            let found = chain_of(table, chain)?;
            out.add(&style.chain_json(table, found));
            style.in_table(table).rules_json(table, found, out);
        }
        What::Every(kind, _) => {
            tables
                .iter()
                .flat_map(|table| every_json(style, table, *kind, None))
                .for_each(|object| out.add(&object));
        }
        What::One(kind, family, name, object) => {
            let found = every_json(style, table(ruleset, *family, name)?, *kind, Some(object));
            if found.is_empty() {
                return Err(no_such(object, *family, name));
            }
            found.iter().for_each(|object| out.add(object));
        }
    }
    Ok(())
}

fn every_json(style: &Style, table: &Table, kind: Kind, name: Option<&String>) -> Vec<serde_json::Value> {
    let named = |found: &String| name.is_none_or(|name| name == found);
    match kind {
        Kind::Object(number) => {
            let found = table.objects.iter().filter(|object| object.kind.number() == number);
            found
                .filter(|object| named(&object.name))
                .map(|object| style.object_json(table, object))
                .collect()
        }
        Kind::Flowtable => {
            let found = table.flowtables.iter().filter(|found| named(&found.name));
            found.map(|found| style.flowtable_json(table, found)).collect()
        }
        _ => {
            let found = sets(table, kind).filter(|set| named(&set.name));
            found.map(|set| style.set_json(table, set, true)).collect()
        }
    }
}

fn no_such(name: &str, family: Family, table: &str) -> Error {
    Error::Absent(format!("there is no such thing as {name} in table {family} {table}"))
}

fn chain_of<'a>(table: &'a Table, name: &str) -> Result<&'a crate::nft::Chain, Error> {
    let absent =
        || Error::Absent(format!("there is no chain {name} in table {} {}", table.family, table.name));
    table.chains.iter().find(|found| found.name == name).ok_or_else(absent)
}
