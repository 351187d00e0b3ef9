//! A file of the config drive as a map of JSON values, whether it was written as JSON or as YAML.
//!
//! The values stay text: a number that went through a float would be another one.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::yaml;

/// A map: all of it as JSON, and each value of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub json: String,
    pub entries: BTreeMap<String, String>,
    /// Whether `json` is what was given.
    pub verbatim: bool,
}

impl Map {
    /// Whether the top level has this key.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The same with more entries, before those that are there.
    pub fn with(&self, added: &[(&str, String)]) -> String {
        let mut words: Vec<String> =
            added.iter().map(|(key, value)| format!("{}: {value}", yaml::quoted(key))).collect();
        let rest = self.json.trim_start().strip_prefix('{').unwrap_or("}");
        if !self.entries.is_empty() {
            words.push(String::new());
        }
        format!("{{{}{rest}", words.join(", ").trim_end_matches(' '))
    }
}

/// UTF-8 without the byte order mark that some editors write, and that no reader in a guest expects.
pub(super) fn text(given: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(given).map_err(|error| format!("not UTF-8: {error}"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Nothing at all is an empty map, in both languages.
pub(super) fn map(text: &str) -> Result<Map, String> {
    if let Ok(entries) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) {
        let entries =
            entries.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect();
        return Ok(Map { json: text.to_owned(), entries, verbatim: true });
    }
    match yaml::read(text) {
        Ok(yaml::Value::Map(entries)) => {
            let json = format!("{}\n", yaml::object(&entries));
            Ok(Map { json, entries: entries.into_iter().collect(), verbatim: false })
        }
        Ok(yaml::Value::Other(json)) if json == "null" => {
            Ok(Map { json: "{}\n".to_owned(), entries: BTreeMap::new(), verbatim: false })
        }
        Ok(yaml::Value::Other(json)) => {
            Err(format!("a map of keys to values is needed, not {}", kind(&json)))
        }
        Err(why) => Err(format!("neither JSON nor YAML: {why}")),
    }
}

fn kind(json: &str) -> &'static str {
    match serde_json::from_str(json) {
        Ok(Value::Bool(_)) => "a truth value",
        Ok(Value::Number(_)) => "a number",
        Ok(Value::Array(_)) => "a list",
        _ => "a text",
    }
}

/// A text or a number in words; None for anything else.
pub(super) fn words(json: &str) -> Option<String> {
    match serde_json::from_str(json) {
        Ok(Value::String(text)) => Some(text),
        Ok(Value::Number(_)) => Some(json.to_owned()),
        _ => None,
    }
}
