//! YAML as Helm understands it, with positions.
//!
//! Helm's parser is YAML 1.1's where people meet it: `yes` and `on` are true, `0755` is octal and `1_000` a thousand, but
//! `52:54:00` is text. A key that is said twice counts by its last value there, and one that is a number or a truth becomes
//! another word; here both are mistakes.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use super::node::{Entry, Node, Value, a_kind};
use super::scalar::{plain_scalar, resolved};
use super::{Finding, Position, Severity};

/// Nested deeper, or larger once aliases are followed, no values file is.
const DEEPEST: usize = 64;
const LARGEST: usize = 100_000;

/// The values of a file, or None where there is nothing to look at any more; what is wrong is told.
pub fn read(file: usize, text: &str, findings: &mut Vec<Finding>) -> Option<Node> {
    let mut reader = Reader {
        file,
        events: Parser::new_from_str(text),
        lines: text.lines().collect(),
        anchors: BTreeMap::new(),
        nodes: 0,
        in_flow: false,
        findings,
    };
    match reader.document() {
        // Helm takes an empty file for one without values.
        Ok(None | Some(Node { value: Value::Null, .. })) => Some(Node::empty(file)),
        Ok(Some(root)) => match root.value {
            Value::Map(_) => Some(root),
            other => {
                error(
                    findings,
                    root.at,
                    format!("values are a map, and this is {}", a_kind(other.kind())),
                );
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

/// Nothing after this place can be understood.
struct Stop(Position, String);

struct Reader<'a, 'text> {
    file: usize,
    events: Parser<'text, granit_parser::StrInput<'text>>,
    lines: Vec<&'text str>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    /// Within brackets or braces.
    in_flow: bool,
    findings: &'a mut Vec<Finding>,
}

type Next<'text> = (Event<'text>, Position);

impl<'text> Reader<'_, 'text> {
    /// The first document.
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    error(
                        self.findings,
                        at,
                        "Helm reads the first document of a file only".to_owned(),
                    );
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
                None => return Ok((Event::StreamEnd, self.position(1, 0))),
                Some(Err(error)) => {
                    let marker = error.marker();
                    let at = self.position(marker.line().max(1), marker.col());
                    return Err(Stop(at, format!("this is no YAML: {}", error.info())));
                }
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, Span { start, .. }))) => {
                    return Ok((event, self.position(start.line(), start.col())));
                }
            }
        }
    }

    fn position(&self, line: usize, column: usize) -> Position {
        Position { file: self.file, line, column: column + 1 }
    }

    fn node(&mut self, event: Event<'text>, at: Position, depth: usize) -> Result<Node, Stop> {
        self.counted(1, at)?;
        if depth > DEEPEST {
            return Err(Stop(at, format!("nested deeper than {DEEPEST} levels")));
        }
        let mut written = None;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag)
                if style == ScalarStyle::Plain && tag.is_none() =>
            {
                self.plain(&text, at)?;
                let value = plain_scalar(&text);
                if matches!(
                    &*text,
                    ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | ".nan" | ".NaN" | ".NAN"
                ) {
                    return Err(Stop(at, format!("{text} is no value: Helm cannot read it")));
                }
                written = value.text().filter(|meant| *meant != text).map(|_| text.into_owned());
                (anchor, value)
            }
            Event::Scalar(text, _, anchor, Some(tag))
                if matches!(tag.core_suffix(), Some("int" | "float" | "bool" | "null")) =>
            {
                (anchor, plain_scalar(&text))
            }
            Event::Scalar(text, _, anchor, _) => (anchor, Value::Text(text.into_owned())),
            Event::SequenceStart(style, anchor, _) => {
                (anchor, Value::List(self.within(style, |reader| reader.list(depth))?))
            }
            Event::MappingStart(style, anchor, _) => {
                (anchor, Value::Map(self.within(style, |reader| reader.map(depth))?))
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Stop(at, "this alias has no anchor before it".to_owned()));
                };
                self.counted(node.size(), at)?;
                return Ok(Node { at, ..node });
            }
            _ => return Err(Stop(at, "a value is missing here".to_owned())),
        };
        let node = Node { at, value, written };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn within<T>(
        &mut self,
        style: StructureStyle,
        read: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let outside = self.in_flow;
        self.in_flow |= style == StructureStyle::Flow;
        let found = read(self)?;
        self.in_flow = outside;
        Ok(found)
    }

    /// To Helm's parser a question mark ends a word within brackets and braces, and a colon begins none.
    fn plain(&self, text: &str, at: Position) -> Result<(), Stop> {
        if self.in_flow && (text.contains('?') || text.starts_with(':')) {
            return Err(Stop(
                at,
                format!("Helm cannot read {text} within braces: put it in quotes"),
            ));
        }
        Ok(())
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

    fn key(&mut self, text: &str, at: Position) -> Result<String, Stop> {
        let Some(key) = resolved(text) else {
            return Err(Stop(at, "nothing cannot be a key".to_owned()));
        };
        if key != text {
            error(
                self.findings,
                at,
                format!("Helm reads the key {text} as {key}: put it in quotes"),
            );
        }
        Ok(key)
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
            let merges =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, _, tag)
                    if style == ScalarStyle::Plain && tag.is_none() =>
                {
                    self.plain(&text, key_at)?;
                    self.key(&text, key_at)?
                }
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Stop(key_at, "a key has to be a word".to_owned())),
            };
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            if merges {
                match node.value {
                    Value::Map(entries) => merged.extend(entries),
                    Value::List(maps) => {
                        merged.extend(maps.into_iter().flat_map(|map| match map.value {
                            Value::Map(entries) => entries,
                            _ => Vec::new(),
                        }));
                    }
                    _ => return Err(Stop(at, "only maps are merged by <<".to_owned())),
                }
                continue;
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let line = first.key_at.line;
                let message = format!(
                    "{key} is there already, in line {line}; Helm takes the last one without a word"
                );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_quotes_or_has_a_tag_is_text() {
        for (word, text) in [("'5'", "5"), ("\"yes\"", "yes"), ("!!str 5", "5"), ("! 5", "5")] {
            let root = read(0, &format!("a: {word}"), &mut Vec::new()).unwrap();
            assert_eq!(root.get("a").unwrap().value, Value::Text(text.to_owned()), "{word}");
        }
    }

    #[test]
    fn a_tag_says_what_is_meant_even_in_quotes() {
        for (word, value) in [
            ("!!int '22'", Value::Number(22.0)),
            ("!!float 22", Value::Number(22.0)),
            ("!!bool \"false\"", Value::Bool(false)),
            ("!!null ''", Value::Null),
        ] {
            let root = read(0, &format!("a: {word}"), &mut Vec::new()).unwrap();
            let Value::Map(entries) = root.value else { panic!() };
            assert_eq!(entries[0].node.value, value, "{word}");
        }
    }

    #[test]
    fn a_word_that_helm_ends_within_braces_is_a_mistake() {
        for text in [
            "a: {b: http://c/d?e}",
            "a: [b?]",
            "a: {b?: c}",
            "a: {b: :c}",
            "a: {b: {}, c: [{d: ?e}]}",
        ] {
            assert!(said(text).concat().contains("within braces: put it in quotes"), "{text}");
        }
        for text in [
            "a: http://c/d?e",
            "a: {b: 'c?'}",
            "a: {b: c}\nd: e?",
            "a: {b: c:d}",
            "a:\n  - b?\n  - :c",
        ] {
            assert_eq!(said(text), Vec::<String>::new(), "{text}");
        }
    }

    fn said(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        read(0, text, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_no_values_file_is_told_with_its_place() {
        assert_eq!(said(""), Vec::<String>::new());
        assert_eq!(said("[1]"), ["1:1: [E] values are a map, and this is a list"]);
        assert_eq!(
            said("a: 1\n---\nb: 2"),
            ["2:1: [E] Helm reads the first document of a file only"]
        );
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
        assert_eq!(said("a: -.inf"), ["1:4: [E] -.inf is no value: Helm cannot read it"]);
        assert_eq!(said("a: '.inf'"), Vec::<String>::new());
    }

    #[test]
    fn a_key_that_helm_reads_as_another_is_a_mistake() {
        for (key, read) in [
            ("no", "false"),
            ("y", "true"),
            ("On", "true"),
            ("0x1f", "31"),
            ("022", "18"),
            ("1_0", "10"),
            ("1e5", "100000"),
            ("1.50", "1.5"),
        ] {
            let wanted = format!("1:1: [E] Helm reads the key {key} as {read}: put it in quotes");
            assert_eq!(said(&format!("{key}: 1")), [wanted]);
            assert_eq!(said(&format!("'{key}': 1\n\"{key}1\": 1")), Vec::<String>::new());
        }
        for key in ["22", "-5", "1.5", "yEs", "2001-01-01", "a"] {
            assert_eq!(said(&format!("{key}: 1")), Vec::<String>::new());
        }
    }

    #[test]
    fn aliases_and_merges_are_followed_and_do_not_explode() {
        let mut findings = Vec::new();
        let root = read(0, "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x", &mut findings).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let Value::Map(entries) = root.value else { panic!() };
        let Value::Map(merged) = &entries[1].node.value else { panic!() };
        let found: Vec<(&str, &Value)> =
            merged.iter().map(|entry| (entry.key.as_str(), &entry.node.value)).collect();
        assert_eq!(found, [("c", &Value::Number(3.0)), ("b", &Value::Number(1.0))]);
        assert_eq!(entries[2].node.at, Position { file: 0, line: 3, column: 4 });
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..9 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{items}]\n");
        }
        assert!(said(&bomb).concat().contains("more than"));
        assert!(said(&"[".repeat(500)).concat().contains("[E]"));
        assert!(
            said(&format!("a: {}{}", "[".repeat(70), "]".repeat(70)))
                .concat()
                .contains("nested deeper")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c:\\[\\]{}&*<>|?!'\"# \n\t0-9.,~_-]{0,200}") {
            read(0, &text, &mut Vec::new());
        }
    }
}
