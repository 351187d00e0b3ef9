//! JSON Schema, as much of draft 7 as the chart's schema uses, over YAML with positions.
//!
//! Some words are ours. `x-usual`: bounds outside of which there is a warning. `x-variable`: what the launcher is given the
//! value as, and so by whose rules it is checked as well. `x-text`: a number or a truth becomes text, so how it is written
//! matters. `x-network`: an address with a prefix length.

use std::net::IpAddr;

use ipnet::IpNet;
use regex_lite::Regex;
use serde_json::{Map, Value as Json};

use super::node::{Entry, Node, Value, a_kind};
use super::{Finding, Position, Severity};
use crate::config;

/// References of the schema to itself are followed as deep as values may be nested, and no deeper.
const DEEPEST: usize = 128;
/// Keys as much alike as this are taken for slips of the finger.
const ALIKE: usize = 2;

/// Everything that is wrong by the schema.
pub fn check(schema: &Json, root: &Node) -> Vec<Finding> {
    let mut check = Check { schema, findings: Vec::new() };
    check.node(schema, root, "", 0);
    check.findings
}

struct Check<'a> {
    schema: &'a Json,
    findings: Vec<Finding>,
}

impl<'a> Check<'a> {
    fn tell(&mut self, severity: Severity, at: Position, key: &str, message: String) {
        self.findings.push(Finding { severity, at, key: key.to_owned(), message });
    }

    fn error(&mut self, at: Position, key: &str, message: String) {
        self.tell(Severity::Error, at, key, message);
    }

    /// What is wrong by a part of the schema, apart from the rest.
    fn apart(&self, part: &'a Json, node: &Node, key: &str, depth: usize) -> Vec<Finding> {
        let mut check = Check { schema: self.schema, findings: Vec::new() };
        check.node(part, node, key, depth + 1);
        check.findings
    }

    fn holds(&self, part: &'a Json, node: &Node, depth: usize) -> bool {
        self.apart(part, node, "", depth).iter().all(|finding| finding.severity != Severity::Error)
    }

    fn node(&mut self, part: &'a Json, node: &Node, key: &str, depth: usize) {
        let Some(words) = part.as_object().filter(|_| depth < DEEPEST) else { return };
        if let Some(name) = words.get("$ref").and_then(Json::as_str) {
            let name = name.trim_start_matches("#/definitions/");
            if let Some(part) = self.schema.get("definitions").and_then(|all| all.get(name)) {
                self.node(part, node, key, depth + 1);
            }
            return;
        }
        if !self.kind(words, node, key) {
            return;
        }
        self.words(words, node, key);
        self.written(words, node, key);
        match &node.value {
            Value::Number(number) => {
                self.bounds(words, *number, node, key);
            }
            Value::Text(text) => self.text(words, text, node, key),
            Value::List(items) => {
                self.size(words, "Items", items.len(), node, key);
                self.unique(words, items, key);
                if let Some(part) = words.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.node(part, item, &format!("{key}[{index}]"), depth + 1);
                    }
                }
            }
            Value::Map(entries) => self.map(words, entries, node, key, depth),
            Value::Null | Value::Bool(_) => {}
        }
        self.branches(words, node, key, depth);
        if let Some(text) = node.value.text() {
            self.variable(words, &text, node, key);
        }
    }

    /// Whether it is of a type that may be.
    fn kind(&mut self, words: &Map<String, Json>, node: &Node, key: &str) -> bool {
        let wanted: Vec<&str> = match words.get("type") {
            Some(Json::String(kind)) => vec![kind],
            Some(Json::Array(kinds)) => kinds.iter().filter_map(Json::as_str).collect(),
            _ => return true,
        };
        let kind = node.value.kind();
        if wanted.contains(&kind) || (kind == "integer" && wanted.contains(&"number")) {
            return true;
        }
        let named: Vec<String> =
            wanted.iter().filter(|kind| **kind != "null").map(|kind| a_kind(kind)).collect();
        let message = format!(
            "this is {}, and has to be {}{}",
            shown(&node.value),
            named.join(" or "),
            why(words)
        );
        self.error(node.at, key, message);
        false
    }

    /// `enum` and `const`.
    fn words(&mut self, words: &Map<String, Json>, node: &Node, key: &str) {
        let constant = words.get("const").map(std::slice::from_ref);
        let allowed = words.get("enum").and_then(Json::as_array).map(Vec::as_slice).or(constant);
        let Some(allowed) = allowed else { return };
        if !allowed.iter().any(|word| same(word, &node.value)) {
            let said = allowed.iter().filter(|word| !word.is_null());
            let list: Vec<String> = said.map(|word| word.to_string().replace('"', "")).collect();
            self.error(
                node.at,
                key,
                format!("{} is none of {}", shown(&node.value), list.join(", ")),
            );
        }
    }

    /// `uniqueItems`
    fn unique(&mut self, words: &Map<String, Json>, items: &[Node], key: &str) {
        if words.get("uniqueItems").and_then(Json::as_bool) != Some(true) {
            return;
        }
        for (index, item) in items.iter().enumerate() {
            if items.iter().take(index).any(|other| other.same(item)) {
                self.error(
                    item.at,
                    &format!("{key}[{index}]"),
                    format!("this is there already{}", why(words)),
                );
            }
        }
    }

    /// What is written in another way than it is meant is rarely meant so.
    fn written(&mut self, words: &Map<String, Json>, node: &Node, key: &str) {
        let (Some(written), Some(meant)) = (&node.written, node.value.text()) else { return };
        let digits = written.trim_start_matches(['+', '-']);
        let zero = digits
            .strip_prefix('0')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let message = match &node.value {
            Value::Number(_) if zero => {
                format!("Helm reads {written} as {meant}: write it without the leading zero")
            }
            _ if words.contains_key("x-text") => {
                format!("Helm reads {written} as {meant}: put it in quotes")
            }
            _ => return,
        };
        self.tell(Severity::Warning, node.at, key, message);
    }

    fn bounds(&mut self, words: &Map<String, Json>, number: f64, node: &Node, key: &str) {
        let outside = |words: &Map<String, Json>| {
            let of = |name: &str| words.get(name).and_then(Json::as_f64);
            let (min, max) = (of("minimum"), of("maximum"));
            (min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max)).then(
                || match (min, max) {
                    (Some(min), Some(max)) => format!("{min} to {max}"),
                    (Some(min), None) => format!("{min} or more"),
                    (_, max) => format!("{} at most", max.unwrap_or_default()),
                },
            )
        };
        if let Some(range) = outside(words) {
            self.error(node.at, key, format!("{number} is out of range: {range}{}", why(words)));
        } else if let Some(range) = words.get("x-usual").and_then(Json::as_object).and_then(outside)
        {
            let message = format!("{number} is unusual ({range}): is it meant?{}", why(words));
            self.tell(Severity::Warning, node.at, key, message);
        }
    }

    fn text(&mut self, words: &Map<String, Json>, text: &str, node: &Node, key: &str) {
        if let Some(pattern) = words.get("pattern").and_then(Json::as_str)
            && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            let wanted = description(words)
                .map_or_else(|| format!("something like {pattern}"), str::to_owned);
            self.error(node.at, key, format!("{} is not {wanted}", shown(&node.value)));
        }
        let form = words.get("format").and_then(Json::as_str);
        let right = match form {
            Some("ipv4") => text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
            Some("ipv6") => text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
            _ => !words.contains_key("x-network") || text.parse::<IpNet>().is_ok(),
        };
        if !right {
            let wanted = description(words).or(form).unwrap_or("a network");
            self.error(node.at, key, format!("{} is not {wanted}", shown(&node.value)));
        }
        self.size(words, "Length", text.chars().count(), node, key);
    }

    /// `minLength` and the like, of `what`.
    fn size(&mut self, words: &Map<String, Json>, what: &str, size: usize, node: &Node, key: &str) {
        let bound = |which: &str| words.get(&format!("{which}{what}")).and_then(Json::as_u64);
        if bound("min").is_some_and(|min| (size as u64) < min) {
            let how = if size == 0 { "empty" } else { "too short" };
            self.error(node.at, key, format!("this is {how}{}", why(words)));
        }
        if let Some(max) = bound("max").filter(|max| size as u64 > *max) {
            self.error(node.at, key, format!("this is longer than {max}{}", why(words)));
        }
    }

    fn variable(&mut self, words: &Map<String, Json>, text: &str, node: &Node, key: &str) {
        let told = self.findings.iter().any(|finding| finding.at == node.at);
        if let Some(variable) = words.get("x-variable").and_then(Json::as_str).filter(|_| !told)
            && let Err(invalid) = config::check(variable, text)
        {
            // As far as it may be shown: a URL may have a password in it.
            self.error(
                node.at,
                key,
                format!("{:?} is refused at start: {}", invalid.value, invalid.reason),
            );
        }
    }

    fn map(
        &mut self,
        words: &'a Map<String, Json>,
        entries: &[Entry],
        node: &Node,
        key: &str,
        depth: usize,
    ) {
        let below =
            |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        for name in words
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            if !entries.iter().any(|entry| entry.key == name) {
                let part =
                    words.get("properties").and_then(|all| all.get(name)).and_then(Json::as_object);
                self.error(
                    node.at,
                    &below(name),
                    format!("this is missing{}", part.map(why).unwrap_or_default()),
                );
            }
        }
        let min = words.get("minProperties").and_then(Json::as_u64).unwrap_or(0);
        if (entries.len() as u64) < min {
            self.error(node.at, key, format!("this has nothing in it{}", why(words)));
        }
        let known = words.get("properties").and_then(Json::as_object);
        for entry in entries {
            let name = below(&entry.key);
            if let Some(part) = words.get("propertyNames") {
                let value = Value::Text(entry.key.clone());
                let named = Node { at: entry.key_at, value, written: None };
                self.node(part, &named, &name, depth + 1);
            }
            if let Some(part) = known.and_then(|known| known.get(&entry.key)) {
                self.node(part, &entry.node, &name, depth + 1);
                continue;
            }
            match (words.get("additionalProperties"), known) {
                (Some(Json::Bool(false)), _) => {
                    let message = format!("there is no such key{}", hint(known, &entry.key));
                    self.error(entry.key_at, &name, message);
                }
                (Some(Json::Bool(true)), _) => {}
                (Some(part @ Json::Object(_)), _) => self.node(part, &entry.node, &name, depth + 1),
                // Where a part of the schema says no type, another one says it, and the keys.
                (_, Some(known)) if words.contains_key("type") => {
                    let message = format!("unknown key, ignored{}", hint(Some(known), &entry.key));
                    self.tell(Severity::Warning, entry.key_at, &name, message);
                }
                _ => {}
            }
        }
    }

    /// `if`, `anyOf`, `allOf` and `not`.
    fn branches(&mut self, words: &'a Map<String, Json>, node: &Node, key: &str, depth: usize) {
        if let Some(condition) = words.get("if") {
            let branch = if self.holds(condition, node, depth) { "then" } else { "else" };
            if let Some(part) = words.get(branch) {
                self.node(part, node, key, depth + 1);
            }
        }
        for part in words.get("allOf").and_then(Json::as_array).into_iter().flatten() {
            self.node(part, node, key, depth + 1);
        }
        if let Some(parts) = words.get("anyOf").and_then(Json::as_array)
            && !parts.iter().any(|part| self.holds(part, node, depth))
        {
            // What comes closest is most likely meant.
            let all = parts.iter().map(|part| self.apart(part, node, key, depth));
            let closest = all.min_by_key(Vec::len).unwrap_or_default();
            match description(words) {
                Some(wanted) => self.error(node.at, key, wanted.to_owned()),
                None => self.findings.extend(closest),
            }
        }
        if let Some(part) = words.get("not")
            && self.holds(part, node, depth)
        {
            let wanted = part.as_object().and_then(description).unwrap_or("this may not be");
            self.error(node.at, key, wanted.to_owned());
        }
    }
}

fn description(words: &Map<String, Json>) -> Option<&str> {
    words.get("description").and_then(Json::as_str)
}

fn why(words: &Map<String, Json>) -> String {
    description(words).map_or_else(String::new, |text| format!(" ({text})"))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) if text.chars().count() <= 60 => format!("{text:?}"),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        other => a_kind(other.kind()),
    }
}

fn same(word: &Json, value: &Value) -> bool {
    match (word, value) {
        (Json::String(word), Value::Text(text)) => word == text,
        (Json::Bool(word), Value::Bool(flag)) => word == flag,
        (Json::Number(word), Value::Number(number)) => word.as_f64() == Some(*number),
        (Json::Null, Value::Null) => true,
        _ => false,
    }
}

fn hint(known: Option<&Map<String, Json>>, name: &str) -> String {
    let plain = |word: &str| word.to_lowercase().replace(['_', '-'], "");
    let near = known
        .into_iter()
        .flat_map(Map::keys)
        .map(|key| (strsim::damerau_levenshtein(&plain(key), &plain(name)), key));
    match near.min() {
        Some((distance, key)) if distance <= ALIKE && distance < key.len() => {
            format!(": did you mean {key}?")
        }
        _ => String::new(),
    }
}

/// Keywords that are understood; those with only meaning for people among them.
#[cfg(test)]
pub(crate) const KEYWORDS: [&str; 33] = [
    "$schema",
    "title",
    "description",
    "definitions",
    "$ref",
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "x-usual",
    "x-variable",
    "x-text",
    "x-network",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "items",
    "minItems",
    "maxItems",
    "uniqueItems",
    "required",
    "minProperties",
    "properties",
    "propertyNames",
    "additionalProperties",
    "if",
    "then",
    "else",
    "anyOf",
    "allOf",
    "not",
];
