//! Rulesets as `nft -j list` of nft 1.0.6 prints them: the same objects, keys in the same order.
//!
//! What nft leaves out of its JSON (comments of tables and chains) is left out here too, but for the devices of chains:
//! without them they do not load. A chain without a name is listed as a chain: what nft prints for it does not load either.
//! Flags of a table are given as words, where nft 1.0.6 prints memory it has freed.

mod object;
mod plain;
mod statement;
mod value;

use std::io;

use serde_json::ser::Formatter;
use serde_json::{Map, Serializer, Value as Json, json};

use super::names::words::{TABLE_FLAGS, bit_words};
use super::syntax::{elements_of, statements};
use super::text::{Style, hook_name, policy_word, set_word, sorted, type_names};
use super::{Chain, Flowtable, Hook, Object, Rule, Ruleset, Set, Table, set};

/// The nft release that is imitated.
#[derive(Debug, Clone)]
pub struct Release {
    /// As `nft --version` has it, without the v.
    pub version: String,
    /// That goes with the version.
    pub name: String,
}

impl Release {
    /// A version with the name its release had, where it is known.
    pub fn of(version: &str) -> Self {
        let names = [
            ("1.0.6", "Lester Gooch #5"),
            ("1.0.9", "Old Doc Yak #3"),
            ("1.1.1", "Commodore Bullmoose #2"),
        ];
        let name = names.iter().find(|(known, _)| *known == version).map_or("", |(_, name)| *name);
        Self { version: version.to_owned(), name: name.to_owned() }
    }
}

/// A document, made object by object, on one line.
#[derive(Debug)]
pub struct Document {
    bytes: Vec<u8>,
}

impl Document {
    /// With the `metainfo` of this release.
    pub fn new(release: &Release) -> Self {
        let mut document = Self { bytes: b"{\"nftables\": [".to_vec() };
        document.write(&json!({"metainfo": {
            "version": release.version, "release_name": release.name, "json_schema_version": 1}}));
        document
    }

    /// One object more.
    pub fn add(&mut self, object: &Json) {
        self.bytes.extend_from_slice(b", ");
        self.write(object);
    }

    fn write(&mut self, object: &Json) {
        let mut serializer = Serializer::with_formatter(&mut self.bytes, Spaced);
        // A Vec takes all that is written to it.
        let _ = serde::Serialize::serialize(object, &mut serializer);
    }

    /// With the end of its line.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"]}\n");
        self.bytes
    }
}

/// A blank after each comma and colon, as jansson writes.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

impl Ruleset {
    /// Every object of every table.
    pub fn json(&self, style: &Style, out: &mut Document) {
        self.tables.iter().for_each(|table| style.table_json(table, out));
    }
}

/// One object under the name of its kind.
fn named(kind: &str, fields: Map<String, Json>) -> Json {
    let mut object = Map::new();
    object.insert(kind.to_owned(), Json::Object(fields));
    Json::Object(object)
}

fn handle(of: super::Handle) -> Json {
    json!(of.0.unwrap_or(0))
}

/// nft writes a list of one as what is in it, where it does at all.
pub(super) fn one_or_list(words: &[&str]) -> Json {
    match words {
        [word] => json!(word),
        words => json!(words),
    }
}

impl Style {
    /// A table, what is in it, and all rules after that.
    pub(crate) fn table_json(&self, table: &Table, out: &mut Document) {
        let style = self.in_table(table);
        out.add(&style.table_head_json(table));
        table.objects.iter().for_each(|object| out.add(&style.object_json(table, object)));
        let named = table.sets.iter().filter(|set| !set.is_anonymous());
        named.for_each(|set| out.add(&style.set_json(table, set, true)));
        table
            .flowtables
            .iter()
            .for_each(|flowtable| out.add(&style.flowtable_json(table, flowtable)));
        table.chains.iter().for_each(|chain| out.add(&style.chain_json(table, chain)));
        table.chains.iter().for_each(|chain| style.rules_json(table, chain, out));
    }

    /// The rules of a chain.
    pub(crate) fn rules_json(&self, table: &Table, chain: &Chain, out: &mut Document) {
        chain.rules.iter().for_each(|rule| out.add(&self.rule_json(table, chain, rule)));
    }

    pub(crate) fn table_head_json(&self, table: &Table) -> Json {
        let mut fields = Map::new();
        fields.insert("family".to_owned(), json!(table.family.to_string()));
        fields.insert("name".to_owned(), json!(table.name));
        fields.insert("handle".to_owned(), handle(table.handle));
        let flags: Vec<&str> = bit_words(TABLE_FLAGS, table.flags);
        if !flags.is_empty() {
            fields.insert("flags".to_owned(), one_or_list(&flags));
        }
        named("table", fields)
    }

    pub(crate) fn chain_json(&self, table: &Table, chain: &Chain) -> Json {
        let mut fields = Map::new();
        fields.insert("family".to_owned(), json!(table.family.to_string()));
        fields.insert("table".to_owned(), json!(table.name));
        fields.insert("name".to_owned(), json!(chain.name));
        fields.insert("handle".to_owned(), handle(chain.handle));
        if let Some(Hook { kind, number, priority, policy, devices }) = &chain.hook {
            fields.insert("type".to_owned(), json!(kind));
            fields.insert("hook".to_owned(), json!(hook_name(table.family, *number)));
            fields.insert("prio".to_owned(), json!(priority));
            let devices = sorted(devices);
            if !devices.is_empty() {
                fields.insert("dev".to_owned(), one_or_list(&devices));
            }
            fields.insert("policy".to_owned(), json!(policy_word(*policy)));
        }
        named("chain", fields)
    }

    pub(crate) fn rule_json(&self, table: &Table, chain: &Chain, rule: &Rule) -> Json {
        let mut fields = Map::new();
        fields.insert("family".to_owned(), json!(table.family.to_string()));
        fields.insert("table".to_owned(), json!(table.name));
        fields.insert("chain".to_owned(), json!(chain.name));
        fields.insert("handle".to_owned(), handle(rule.handle));
        if let Some(comment) = rule.userdata.as_comment() {
            fields.insert("comment".to_owned(), json!(comment));
        }
        let parts = statements(table, rule);
        fields.insert(
            "expr".to_owned(),
            parts.iter().map(|part| self.statement_json(part)).collect(),
        );
        named("rule", fields)
    }

    pub(crate) fn flowtable_json(&self, table: &Table, flowtable: &Flowtable) -> Json {
        let mut fields = Map::new();
        fields.insert("family".to_owned(), json!(table.family.to_string()));
        fields.insert("name".to_owned(), json!(flowtable.name));
        fields.insert("table".to_owned(), json!(table.name));
        fields.insert("handle".to_owned(), handle(flowtable.handle));
        fields.insert("hook".to_owned(), json!("ingress"));
        fields.insert("prio".to_owned(), json!(flowtable.priority));
        let devices = sorted(&flowtable.devices);
        if !devices.is_empty() {
            fields.insert("dev".to_owned(), one_or_list(&devices));
        }
        named("flowtable", fields)
    }

    pub(crate) fn object_json(&self, table: &Table, object: &Object) -> Json {
        self.object_in(&table.family.to_string(), &table.name, object)
    }

    /// A set or map; `whole`: with its elements.
    pub(crate) fn set_json(&self, table: &Table, found: &Set, whole: bool) -> Json {
        let (key, data) = type_names(found);
        let mut fields = Map::new();
        fields.insert("family".to_owned(), json!(table.family.to_string()));
        fields.insert("name".to_owned(), json!(found.name));
        fields.insert("table".to_owned(), json!(table.name));
        let parts: Vec<&str> = key.split(" . ").collect();
        fields.insert("type".to_owned(), one_or_list(&parts));
        fields.insert("handle".to_owned(), handle(found.handle));
        if let Some(comment) = found.userdata.comment_at(7) {
            fields.insert("comment".to_owned(), json!(comment));
        }
        if let Some(data) = data {
            let data = data.strip_prefix("interval ").unwrap_or(&data).to_owned();
            fields.insert("map".to_owned(), json!(data));
        }
        let constant = found.flags & set::CONSTANT != 0;
        if found.policy == 1 && !constant {
            fields.insert("policy".to_owned(), json!("memory"));
        }
        if let Some(size) = found.size.filter(|_| !constant) {
            fields.insert("size".to_owned(), json!(size));
        }
        let names =
            [(set::CONSTANT, "constant"), (set::INTERVAL, "interval"), (set::TIMEOUT, "timeout")];
        let flags: Vec<&str> =
            names.iter().filter(|(bit, _)| found.flags & bit != 0).map(|(_, name)| *name).collect();
        if !flags.is_empty() {
            fields.insert("flags".to_owned(), json!(flags));
        }
        if let Some(timeout) = found.timeout {
            fields.insert("timeout".to_owned(), json!(timeout / 1000));
        }
        if let Some(interval) = found.gc_interval {
            fields.insert("gc-interval".to_owned(), json!(interval / 1000));
        }
        let hidden = !whole || self.hides_elements(found);
        if !found.elements.is_empty() && !hidden {
            let entries = elements_of(found).entries();
            fields.insert(
                "elem".to_owned(),
                entries.iter().map(|entry| self.entry_json(entry)).collect(),
            );
        }
        if !found.exprs.is_empty() {
            let exprs = found.exprs.iter().map(|expr| plain::plain_json(expr, true));
            fields.insert("stmt".to_owned(), exprs.collect());
        }
        named(set_word(found), fields)
    }
}
