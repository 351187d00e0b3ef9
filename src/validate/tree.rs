//! YAML as Helm understands it, with positions.
//!
//! Helm's parser is YAML 1.1's where people meet it: `yes` and `on` are true, `0755` is octal and `1_000` a thousand, but
//! `52:54:00` is text. A key that is said twice counts by its last value there; here it is a mistake.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::{Finding, Position, Severity};

/// Nested deeper, or larger once aliases are followed, no values file is.
const DEEPEST: usize = 64;
const LARGEST: usize = 100_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: Position,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

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
}

/// The values, or None where there is nothing to look at any more; what is wrong is told.
pub fn read(text: &str, findings: &mut Vec<Finding>) -> Option<Node> {
    let start = Position { line: 1, column: 1 };
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        lines: text.lines().collect(),
        anchors: BTreeMap::new(),
        nodes: 0,
        findings,
    };
    match reader.document() {
        Ok(None) => Some(Node { at: start, value: Value::Map(Vec::new()) }),
        // Helm takes an empty file for one without values.
        Ok(Some(Node { value: Value::Null, .. })) => Some(Node { at: start, value: Value::Map(Vec::new()) }),
        Ok(Some(root)) => match root.value {
            Value::Map(_) => Some(root),
            other => {
                error(findings, root.at, format!("values are a map, and this is {}", a_kind(other.kind())));
                None
            }
        },
        Err(Stop(at, message)) => {
            error(findings, at, message);
            None
        }
    }
}

fn error(findings: &mut Vec<Finding>, at: Position, message: String) {
    findings.push(Finding { severity: Severity::Error, at, key: String::new(), message });
}

/// `kind` with its article.
pub fn a_kind(kind: &str) -> String {
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

/// Nothing after this place can be understood.
struct Stop(Position, String);

struct Reader<'a, 'text> {
    events: Parser<'text, granit_parser::StrInput<'text>>,
    lines: Vec<&'text str>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    findings: &'a mut Vec<Finding>,
}

type Next<'text> = (Event<'text>, Position);

fn position(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

impl<'text> Reader<'_, 'text> {
    /// The first document.
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    error(self.findings, at, "Helm reads the first document of a file only".to_owned());
                    return Ok(root);
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, at, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<Next<'text>, Stop> {
        loop {
            match self.events.next() {
                None => return Ok((Event::StreamEnd, Position { line: 1, column: 1 })),
                Some(Err(error)) => {
                    let marker = error.marker();
                    let at = Position { line: marker.line().max(1), column: marker.col() + 1 };
                    return Err(Stop(at, format!("this is no YAML: {}", error.info())));
                }
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, position(&span))),
            }
        }
    }

    fn node(&mut self, event: Event<'text>, at: Position, depth: usize) -> Result<Node, Stop> {
        self.counted(1, at)?;
        if depth > DEEPEST {
            return Err(Stop(at, format!("nested deeper than {DEEPEST} levels")));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (anchor, if plain { plain_scalar(&text) } else { Value::Text(text.into_owned()) })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, Value::List(self.list(depth)?)),
            Event::MappingStart(_, anchor, _) => (anchor, Value::Map(self.map(depth)?)),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Stop(at, "this alias has no anchor before it".to_owned()));
                };
                self.counted(size(&node), at)?;
                return Ok(Node { at, ..node });
            }
            _ => return Err(Stop(at, "a value is missing here".to_owned())),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Aliases of aliases grow beyond all bounds.
    fn counted(&mut self, nodes: usize, at: Position) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > LARGEST {
            return Err(Stop(at, format!("more than {LARGEST} values")));
        }
        Ok(())
    }

    /// Helm's parser refuses what ours takes for blanks.
    fn no_tab_before(&self, at: Position) -> Result<(), Stop> {
        let line = self.lines.get(at.line.saturating_sub(1)).copied().unwrap_or_default();
        let before: String = line.chars().take(at.column.saturating_sub(1)).collect();
        if before.trim().is_empty() && before.contains('\t') {
            return Err(Stop(at, "a tab indents this line, and YAML wants blanks".to_owned()));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(items),
                event => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let (mut entries, mut merged) = (Vec::<Entry>::new(), Vec::new());
        loop {
            let (event, key_at) = self.next()?;
            self.no_tab_before(key_at)?;
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => {
                    if style == ScalarStyle::Plain && plain_scalar(&text) == Value::Null {
                        return Err(Stop(key_at, "nothing cannot be a key".to_owned()));
                    }
                    text.into_owned()
                }
                _ => return Err(Stop(key_at, "a key has to be a word".to_owned())),
            };
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            if merges {
                match node.value {
                    Value::Map(entries) => merged.extend(entries),
                    Value::List(maps) => merged.extend(maps.into_iter().flat_map(|map| match map.value {
                        Value::Map(entries) => entries,
                        _ => Vec::new(),
                    })),
                    _ => return Err(Stop(at, "only maps are merged by <<".to_owned())),
                }
                continue;
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let line = first.key_at.line;
                let message =
                    format!("{key} is there already, in line {line}; Helm takes the last one without a word");
                error(self.findings, key_at, message);
                entries.retain(|entry| entry.key != key);
            }
            entries.push(Entry { key, key_at, node });
        }
        // What is said goes before what is merged, and the first of those before the others.
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum(),
        _ => 0,
    }
}

/// A word without quotes, as go-yaml resolves it.
fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        b'0'..=b'9' | b'.' => (false, text),
        _ => return None,
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let digits = digits.replace('_', "");
    let radix = |prefix: &str, radix| i64::from_str_radix(digits.strip_prefix(prefix)?, radix).ok();
    let octal = || {
        let rest = digits.strip_prefix('0').filter(|rest| !rest.is_empty())?;
        i64::from_str_radix(rest, 8).ok()
    };
    #[expect(clippy::cast_precision_loss, reason = "as JSON has it")]
    let whole = radix("0x", 16)
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0o", 8))
        .or_else(octal)
        .map(|number| number as f64);
    // Not what Rust reads beside: "inf", "nan", signs in the middle.
    let decimal = || {
        let known = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
        digits
            .chars()
            .all(known)
            .then(|| digits.parse::<f64>().ok())
            .flatten()
            .filter(|number| number.is_finite())
    };
    let number = whole.or_else(decimal)?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        let mut findings = Vec::new();
        let root =
            read(&format!("a: {text}"), &mut findings).unwrap_or_else(|| panic!("{text}: {findings:?}"));
        match root.value {
            Value::Map(mut entries) => entries.remove(0).node.value,
            other => panic!("{other:?}"),
        }
    }

    /// What Helm's own parser makes of these words.
    #[test]
    fn plain_words_are_what_helm_takes_them_for() {
        for word in ["y", "Yes", "YES", "on", "On", "true", "TRUE"] {
            assert_eq!(value(word), Value::Bool(true), "{word}");
        }
        for word in ["n", "no", "No", "off", "False"] {
            assert_eq!(value(word), Value::Bool(false), "{word}");
        }
        for word in ["", "~", "null", "Null"] {
            assert_eq!(value(word), Value::Null, "{word}");
        }
        for (word, number) in [
            ("0755", 493.0),
            ("0o755", 493.0),
            ("0x1F", 31.0),
            ("0b11", 3.0),
            ("1_000", 1000.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("+5", 5.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("1_0.5", 10.5),
            ("0_1", 1.0),
            ("-0x1", -1.0),
            ("08", 8.0),
            ("09.5", 9.5),
        ] {
            assert_eq!(value(word), Value::Number(number), "{word}");
        }
        for word in
            ["yEs", "tRUE", "52:54:00", "190:20:30", "2001-01-01", "<<", "=", "1e", "inf", "1-2", "-x"]
        {
            assert_eq!(value(word), Value::Text(word.to_owned()), "{word}");
        }
        for (word, text) in [("'5'", "5"), ("\"yes\"", "yes"), ("!!str 5", "5")] {
            assert_eq!(value(word), Value::Text(text.to_owned()), "{word}");
        }
    }

    fn said(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        read(text, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_no_values_file_is_told_with_its_place() {
        assert_eq!(said(""), Vec::<String>::new());
        assert_eq!(said("[1]"), ["1:1: [E] values are a map, and this is a list"]);
        assert_eq!(said("a: 1\n---\nb: 2"), ["2:1: [E] Helm reads the first document of a file only"]);
        assert_eq!(
            said("a: 1\nb: 2\na: 3"),
            ["3:1: [E] a is there already, in line 1; Helm takes the last one without a word"]
        );
        assert!(said("a: *b").concat().contains("[E]"));
        assert_eq!(said("\ta: 1"), ["1:2: [E] a tab indents this line, and YAML wants blanks"]);
        assert!(said("a: 1\n\tb: 2").concat().contains("tab"));
        assert!(said("a:\n\tb: 2").concat().contains("tab"));
        assert_eq!(said("? [a]\n: b"), ["1:3: [E] a key has to be a word"]);
        assert_eq!(said("null: 3"), ["1:1: [E] nothing cannot be a key"]);
    }

    #[test]
    fn aliases_and_merges_are_followed_and_do_not_explode() {
        let mut findings = Vec::new();
        let root = read("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x", &mut findings).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let Value::Map(entries) = root.value else { panic!() };
        let Value::Map(merged) = &entries[1].node.value else { panic!() };
        let found: Vec<(&str, &Value)> =
            merged.iter().map(|entry| (entry.key.as_str(), &entry.node.value)).collect();
        assert_eq!(found, [("c", &Value::Number(3.0)), ("b", &Value::Number(1.0))]);
        assert_eq!(entries[2].node.at, Position { line: 3, column: 4 });
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..9 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{items}]\n");
        }
        assert!(said(&bomb).concat().contains("more than"));
        assert!(said(&"[".repeat(500)).concat().contains("[E]"));
        assert!(said(&format!("a: {}{}", "[".repeat(70), "]".repeat(70))).concat().contains("nested deeper"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c:\\[\\]{}&*<>|?!'\"# \n\t0-9.,~_-]{0,200}") {
            read(&text, &mut Vec::new());
        }
    }
}
