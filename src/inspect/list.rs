//! `berth nft list`: what `nft list …` and `nft -j list …` print, for whatever is loaded.

mod what;

use std::io::{self, Write};

use super::{Error, written};
use crate::cli::Output;
use crate::cli::nft::List;
use crate::exit::Code;
use crate::nft::hooks;
use crate::nft::json::{Document, Release};
use crate::nft::text::{Names, Numbers, Style};
use crate::nft::{Family, Ruleset, Table};
use crate::sys::link::Links;
use crate::sys::names;
use crate::sys::netlink::Firewall;
use what::{Hooks, Kind, What, parse};

/// Prints the ruleset, or a part of it, as text or JSON.
pub async fn run(wanted: &List, out: &mut impl Write) -> Result<Code, Error> {
    refuse(wanted)?;
    let json = wanted.json || wanted.output == Some(Output::Json);
    if let Some(asked) = what::hooks(&wanted.what)? {
        let text = hooks(&Firewall::start()?, asked, json).await?;
        written(out.write_all(text.as_bytes()))?;
        return Ok(Code::Success);
    }
    let what = parse(&wanted.what)?;
    let firewall = Firewall::start()?;
    let (_, ruleset) = firewall.dump(what.filter(wanted.terse)).await?;
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
        numeric: wanted.numeric > 0,
        numbers: Numbers {
            priority: wanted.numeric_priority,
            protocol: wanted.numeric_protocol,
            time: wanted.numeric_time,
        },
        names: named(wanted),
        stateless: wanted.stateless,
        terse: wanted.terse,
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

async fn hooks(firewall: &Firewall, asked: Hooks, json: bool) -> Result<String, Error> {
    let device = asked.device.as_deref();
    if json {
        return Err(Error::Usage("list hooks: nft has no JSON for them; leave out -j".to_owned()));
    }
    let devices: Vec<String> = Links::open()?.names().await?.into_values().collect();
    if let Some(device) = device.filter(|device| !devices.iter().any(|name| name == device)) {
        return Err(Error::Pod(format!(
            "no interface {device} here; there are {}",
            devices.join(", ")
        )));
    }
    let entries = firewall.hooks(hooks::queries(asked.family, device, &devices)).await?;
    Ok(hooks::text(&entries))
}

/// What nft has that makes no sense here.
fn refuse(wanted: &List) -> Result<(), Error> {
    let why = match (wanted.reversedns, wanted.interactive) {
        (true, _) => {
            "-N, --reversedns: a name server would be asked about each address; addresses stay as they are"
        }
        (_, true) => "-i, --interactive: this lists what the words say and reads no commands",
        _ => return Ok(()),
    };
    Err(Error::Usage(why.to_owned()))
}

/// The names that are wanted. A file that is not here leaves numbers, which is told.
fn named(wanted: &List) -> Names {
    let read = |wanted: bool, path: &str, column: names::Column| {
        let found = if wanted { names::read(path, column) } else { Ok(Default::default()) };
        found.unwrap_or_else(|error| {
            let _ = writeln!(io::stderr(), "# Warning: {path}: {error}; numbers stay numbers");
            Default::default()
        })
    };
    Names {
        services: read(wanted.service, "/etc/services", names::Column::Port),
        users: read(wanted.guid, "/etc/passwd", names::Column::Id),
        groups: read(wanted.guid, "/etc/group", names::Column::Id),
    }
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
        What::Chains(_) => tables
            .iter()
            .map(|table| style.one(table, |style, out| style.chain_heads(out, table)))
            .collect(),
        What::Chain(family, name, chain) => {
            let table = table(ruleset, *family, name)?;
            style.one_chain(table, chain_of(table, chain)?)
        }
        What::Every(kind, _) => {
            // As nft does: a table without objects is not worth a word when objects are asked for.
            let worth =
                |table: &&Table| !matches!(kind, Kind::Object(_)) || !table.objects.is_empty();
            let listed = tables.iter().filter(worth);
            listed
                .map(|table| style.one(table, |style, out| every(style, out, table, *kind, None)))
                .collect()
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
        _ => sets(table, kind)
            .filter(|set| named(&set.name))
            .for_each(|set| style.set(out, set, true)),
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
            let chains = tables
                .iter()
                .flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
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

fn every_json(
    style: &Style,
    table: &Table,
    kind: Kind,
    name: Option<&String>,
) -> Vec<serde_json::Value> {
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
    let absent = || {
        Error::Absent(format!("there is no chain {name} in table {} {}", table.family, table.name))
    };
    table.chains.iter().find(|found| found.name == name).ok_or_else(absent)
}
