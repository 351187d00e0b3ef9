//! Values with the places where they stand, and how several files of them become one.

use super::Position;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub at: Position,
    pub value: Value,
    /// How a scalar without quotes is written, where what it means is not written so: `022` is 18.
    pub written: Option<String>,
}

/// A YAML value with its tag resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its place and value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_at: Position,
    pub node: Node,
}

impl Value {
    /// JSON Schema's name of its type; a number without a fraction is an integer.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(number) if number.fract() == 0.0 => "integer",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    /// A scalar as the chart writes it into a manifest.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            Self::Bool(flag) => Some(flag.to_string()),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }
}

impl Node {
    /// A value at a place.
    pub fn new(at: Position, value: Value) -> Self {
        Self { at, value, written: None }
    }

    /// An empty mapping of the file with this index.
    pub fn empty(file: usize) -> Self {
        Self::new(Position { file, line: 1, column: 1 }, Value::Map(Vec::new()))
    }

    /// What is in a map: a null is as if it was not said.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let entries = match &self.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().filter(|entry| entry.node.value != Value::Null)
    }

    /// The entry with this key; keys are unique.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().find(|entry| entry.key == key)
    }

    /// The value of this key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Of a sequence; empty for anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// How many values it is, its own among them.
    pub fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.size()).sum(),
            _ => 0,
        }
    }

    /// Whether both mean the same, wherever they stand.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(items), Value::List(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| item.same(other))
            }
            (Value::Map(entries), Value::Map(others)) => {
                let there = |entry: &Entry| {
                    others
                        .iter()
                        .any(|other| other.key == entry.key && other.node.same(&entry.node))
                };
                entries.len() == others.len() && entries.iter().all(there)
            }
            (value, other) => value == other,
        }
    }

    /// What `over` says goes first; of two maps key by key, as `helm --values` merges them.
    pub fn merge(mut self, over: Self) -> Self {
        let (Value::Map(entries), Value::Map(others)) = (&mut self.value, &over.value) else {
            return over;
        };
        for other in others {
            match entries.iter_mut().find(|entry| entry.key == other.key) {
                Some(entry) => {
                    entry.key_at = other.key_at;
                    entry.node = entry.node.clone().merge(other.node.clone());
                }
                None => entries.push(other.clone()),
            }
        }
        self.at = over.at;
        self
    }
}

/// `kind` with its article.
pub(crate) fn a_kind(kind: &str) -> String {
    match kind {
        "null" => "nothing".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => "an integer".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "a map".to_owned(),
        "string" => "text".to_owned(),
        other => format!("a {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::read;
    use super::*;

    #[test]
    fn files_are_merged_as_helm_merges_them() {
        let read = |file, text| read(file, text, &mut Vec::new()).unwrap();
        let shown = |node: &Node| {
            node.entries()
                .map(|entry| (entry.key.clone(), entry.node.value.text()))
                .collect::<Vec<_>>()
        };
        let merged = read(0, "a: {b: 1, c: 2, l: [1, 2]}\nd: 5\ne: {f: 1}")
            .merge(read(1, "a: {c: 3, b: null, g: 4, l: [3]}\nd: {h: 6}\ne: 7"));
        let a = merged.get("a").unwrap();
        assert_eq!(
            shown(a),
            [("c".into(), Some("3".into())), ("l".into(), None), ("g".into(), Some("4".into()))]
        );
        assert_eq!(a.get("l").unwrap().items().len(), 1);
        assert_eq!(a.get("c").unwrap().at, Position { file: 1, line: 1, column: 8 });
        assert_eq!(merged.get("d").unwrap().get("h").unwrap().value, Value::Number(6.0));
        assert_eq!(merged.get("e").unwrap().value, Value::Number(7.0));
    }
}
