//! YAML as cloud-init reads it, written as JSON.
//!
//! cloud-init's reader is PyYAML's `safe_load`, which is YAML 1.1 (yaml.org/type): `0123` is 83, `1:30` is 90, `yes` is
//! true, but `1e5` is text. Numbers keep all of their digits. What JSON has no word for stays text: dates, `.inf`, `.nan`.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

/// Nested deeper no file of a config drive is; octets of JSON, once aliases are followed.
const DEEPEST: usize = 64;
const LARGEST_BYTES: usize = 16 << 20;

/// A value as JSON text; a map as its entries, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Map(Vec<(String, String)>),
    Other(String),
}

impl Value {
    fn json(&self) -> String {
        match self {
            Self::Map(entries) => object(entries),
            Self::Other(json) => json.clone(),
        }
    }
}

pub(super) fn object(entries: &[(String, String)]) -> String {
    let words: Vec<String> =
        entries.iter().map(|(key, json)| format!("{}: {json}", quoted(key))).collect();
    format!("{{{}}}", words.join(", "))
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The one document of a file; nothing is null.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        line: 1,
        anchors: BTreeMap::new(),
        left: LARGEST_BYTES,
    };
    let mut root = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(root.unwrap_or(Value::Other("null".to_owned()))),
            Event::DocumentStart(..) if root.is_some() => {
                return Err(reader.stop("a second document begins here"));
            }
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => root = Some(reader.node(event, 0)?.0),
        }
    }
}

struct Reader<'text> {
    events: Parser<'text, StrInput<'text>>,
    line: usize,
    /// Values with how deep they are.
    anchors: BTreeMap<usize, (Value, usize)>,
    /// Octets that may still be written.
    left: usize,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<Event<'text>, String> {
        loop {
            match self.events.next() {
                None => return Ok(Event::StreamEnd),
                Some(Err(error)) => {
                    self.line = error.marker().line();
                    return Err(self.stop(&error.info()));
                }
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => {
                    self.line = span.start.line();
                    return Ok(event);
                }
            }
        }
    }

    fn stop(&self, why: &str) -> String {
        format!("line {}: {why}", self.line.max(1))
    }

    /// A value, and how many levels it has below itself.
    fn node(&mut self, event: Event<'text>, depth: usize) -> Result<(Value, usize), String> {
        let (anchor, value, levels) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let json = self.scalar(&text, style, tag.as_deref())?;
                self.count(json.len())?;
                (anchor, Value::Other(json), 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.core_tag(tag.as_deref(), &["seq"])?;
                let (items, levels) = self.list(depth)?;
                (anchor, Value::Other(format!("[{}]", items.join(", "))), levels)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.core_tag(tag.as_deref(), &["map"])?;
                let (entries, levels) = self.map(depth)?;
                (anchor, Value::Map(entries), levels)
            }
            Event::Alias(anchor) => {
                let found = self.anchors.get(&anchor).cloned();
                let (value, levels) =
                    found.ok_or_else(|| self.stop("this alias has no anchor before it"))?;
                self.count(value.json().len())?;
                (0, value, levels)
            }
            _ => return Err(self.stop("a value is missing here")),
        };
        if depth + levels > DEEPEST {
            return Err(self.stop(&format!("nested deeper than {DEEPEST} levels")));
        }
        if anchor != 0 {
            self.count(value.json().len())?;
            self.anchors.insert(anchor, (value.clone(), levels));
        }
        Ok((value, levels))
    }

    /// Aliases of aliases grow beyond all bounds.
    fn count(&mut self, octets: usize) -> Result<(), String> {
        let left = self.left.checked_sub(octets + 4);
        self.left = left.ok_or_else(|| self.stop("more than 16 MiB, once aliases are followed"))?;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<String>, usize), String> {
        let (mut items, mut deepest) = (Vec::new(), 0);
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok((items, deepest)),
                event => {
                    let (value, levels) = self.below(event, depth)?;
                    deepest = deepest.max(levels);
                    items.push(value.json());
                }
            }
        }
    }

    fn below(&mut self, event: Event<'text>, depth: usize) -> Result<(Value, usize), String> {
        if depth >= DEEPEST {
            return Err(self.stop(&format!("nested deeper than {DEEPEST} levels")));
        }
        self.node(event, depth + 1).map(|(value, levels)| (value, levels + 1))
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<(String, String)>, usize), String> {
        let (mut entries, mut merged, mut deepest) =
            (Vec::<(String, String)>::new(), Vec::new(), 0);
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let (key, plain) = match self.next()? {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(self.stop("a key has to be a word")),
            };
            self.count(key.len())?;
            let event = self.next()?;
            if plain && key == "<<" {
                merged.extend(self.merged(event, depth)?);
                continue;
            }
            if !seen.insert(key.clone()) {
                return Err(self.stop(&format!("the key {key:?} is there already")));
            }
            let (value, levels) = self.below(event, depth)?;
            deepest = deepest.max(levels);
            entries.push((key, value.json()));
        }
        // What is said goes before what is merged, and the first of those before the others.
        entries.extend(merged.into_iter().filter(|(key, _)| seen.insert(key.clone())));
        Ok((entries, deepest))
    }

    /// What `<<` brings: a map's entries, or those of a list of maps.
    fn merged(
        &mut self,
        event: Event<'text>,
        depth: usize,
    ) -> Result<Vec<(String, String)>, String> {
        let wrong = "only maps are merged by <<";
        if !matches!(event, Event::SequenceStart(..)) {
            return match self.below(event, depth)?.0 {
                Value::Map(entries) => Ok(entries),
                Value::Other(_) => Err(self.stop(wrong)),
            };
        }
        let mut entries = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(entries),
                event => match self.below(event, depth)?.0 {
                    Value::Map(more) => entries.extend(more),
                    Value::Other(_) => return Err(self.stop(wrong)),
                },
            }
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<String, String> {
        match self.core_tag(tag, &["str", "int", "float", "bool", "null"])? {
            Some("str") => Ok(quoted(text)),
            None if style != ScalarStyle::Plain => Ok(quoted(text)),
            _ => plain(text).map_err(|why| self.stop(&why)),
        }
    }

    /// The name of a tag of YAML's own; others mean something that no JSON can say.
    fn core_tag<'a>(
        &self,
        tag: Option<&Tag>,
        known: &[&'a str],
    ) -> Result<Option<&'a str>, String> {
        let Some(tag) = tag else { return Ok(None) };
        let name = known.iter().find(|name| tag.is_yaml_core_schema_tag(name));
        name.copied()
            .map(Some)
            .ok_or_else(|| self.stop(&format!("the tag {tag} is not known here")))
    }
}

/// A word without quotes.
fn plain(text: &str) -> Result<String, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok("null".to_owned()),
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Ok("true".to_owned());
        }
        "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Ok("false".to_owned());
        }
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { "-" } else { "" }, digits),
        None => ("", text),
    };
    if let Some(number) = whole(digits)? {
        return Ok(format!("{sign}{number}"));
    }
    // A point at the beginning takes no sign.
    let number =
        fraction(digits).filter(|_| !digits.starts_with('.') || digits.len() == text.len());
    Ok(number.map_or_else(|| quoted(text), |number| format!("{sign}{number}")))
}

/// `tag:yaml.org,2002:int` in decimal, without its sign.
fn whole(digits: &str) -> Result<Option<String>, String> {
    let all = |text: &str, known: fn(u8) -> bool| {
        !text.is_empty() && text.bytes().all(|byte| known(byte) || byte == b'_')
    };
    let (radix, rest) = if let Some(rest) =
        digits.strip_prefix("0b").filter(|rest| all(rest, |byte| matches!(byte, b'0' | b'1')))
    {
        (2, rest)
    } else if let Some(rest) =
        digits.strip_prefix("0x").filter(|rest| all(rest, |byte| byte.is_ascii_hexdigit()))
    {
        (16, rest)
    } else if let Some(rest) =
        digits.strip_prefix('0').filter(|rest| all(rest, |byte| matches!(byte, b'0'..=b'7')))
    {
        (8, rest)
    } else if digits.starts_with(|first| matches!(first, '1'..='9'))
        && all(digits, |byte| byte.is_ascii_digit())
    {
        return Ok(Some(digits.replace('_', "")));
    } else {
        return if digits == "0" { Ok(Some(digits.to_owned())) } else { sexagesimal(digits) };
    };
    let rest = rest.replace('_', "");
    if rest.is_empty() {
        return Ok(Some("0".to_owned()));
    }
    let number = u128::from_str_radix(&rest, radix);
    number.map(|number| Some(number.to_string())).map_err(|_| too_large(digits))
}

fn too_large(digits: &str) -> String {
    format!("{digits} is a number of more than 128 bits: put it in quotes")
}

/// `190:20:30`: base 60, as clocks have it.
fn sexagesimal(digits: &str) -> Result<Option<String>, String> {
    let mut parts = digits.split(':');
    let first = parts.next().unwrap_or_default();
    let known = first.starts_with(|c| matches!(c, '1'..='9'))
        && first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if !known || !digits.contains(':') || !parts.clone().all(is_sixtieth) {
        return Ok(None);
    }
    base_60(first, parts).map(Some).ok_or_else(|| too_large(digits))
}

fn base_60<'a>(first: &str, mut sixtieths: impl Iterator<Item = &'a str>) -> Option<String> {
    let first = first.replace('_', "").parse::<u128>().ok()?;
    let sum = sixtieths
        .try_fold(first, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?))?;
    Some(sum.to_string())
}

fn is_sixtieth(part: &str) -> bool {
    matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
}

/// `tag:yaml.org,2002:float` as JSON has it, without its sign; None for what is none, or has no word in JSON.
fn fraction(text: &str) -> Option<String> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => {
            let (sign, power) = exponent.split_at_checked(1)?;
            let fits = matches!(sign, "+" | "-")
                && !power.is_empty()
                && power.bytes().all(|byte| byte.is_ascii_digit());
            (number, fits.then(|| format!("e{exponent}"))?)
        }
        None => (text, String::new()),
    };
    let (before, after) = number.split_once('.')?;
    if !digits(after)
        || before.is_empty() && !after.starts_with(|first: char| first.is_ascii_digit())
    {
        return None;
    }
    let before = if before.contains(':') && exponent.is_empty() {
        let mut parts = before.split(':');
        let first = parts.next()?;
        let first = (first.starts_with(|first: char| first.is_ascii_digit()) && digits(first))
            .then_some(first)?;
        parts.clone().all(is_sixtieth).then(|| base_60(first, parts))??
    } else {
        let starts = before.is_empty() || before.starts_with(|first: char| first.is_ascii_digit());
        (starts && digits(before))
            .then(|| before.replace('_', "").trim_start_matches('0').to_owned())?
    };
    let after = after.replace('_', "");
    let or_zero = |text: String| if text.is_empty() { "0".to_owned() } else { text };
    Some(format!("{}.{}{exponent}", or_zero(before), or_zero(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        read(text).map_or_else(|error| error, |value| value.json())
    }

    /// The table of a YAML 1.1 reader; `tests/netns/seed.rs` asks PyYAML itself.
    #[test]
    fn words_are_what_yaml_1_1_takes_them_for() {
        for (word, wanted) in [
            ("0123", "83"),
            ("08", "\"08\""),
            ("0o17", "\"0o17\""),
            ("0x1F", "31"),
            ("-0b11", "-3"),
            ("1_000", "1000"),
            ("+5", "5"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("190:20:30", "685230"),
            ("52:54:00", "190440"),
            ("02:54:00", "\"02:54:00\""),
            ("1:30.5", "90.5"),
            ("1e5", "\"1e5\""),
            ("1.0e5", "\"1.0e5\""),
            ("1.50e+5", "1.50e+5"),
            ("09.5", "9.5"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-.5", "\"-.5\""),
            (".inf", "\".inf\""),
            ("2001-01-01", "\"2001-01-01\""),
            ("yes", "true"),
            ("y", "\"y\""),
            ("Off", "false"),
            ("~", "null"),
            ("'0123'", "\"0123\""),
            ("!!str 0123", "\"0123\""),
            ("{a: [1, {b: no}], c: \"d\\n\"}", "{\"a\": [1, {\"b\": false}], \"c\": \"d\\n\"}"),
        ] {
            assert_eq!(json(word), wanted, "{word}");
        }
        assert!(json(&format!("0x{}", "f".repeat(40))).contains("more than 128 bits"));
    }

    #[test]
    fn what_no_json_can_say_is_told_with_its_line() {
        for (text, said) in [
            ("a: 1\na: 2\n", "line 2: the key \"a\" is there already"),
            ("a: !!binary aGk=\n", "line 1: the tag"),
            ("a: !mine x\n", "line 1: the tag"),
            ("a: 1\n---\nb: 2\n", "second document"),
            ("? [a]\n: b\n", "a key has to be a word"),
            ("a: *b\n", "line 1"),
            ("<<: 1\n", "only maps are merged"),
        ] {
            assert!(json(text).contains(said), "{text}: {}", json(text));
        }
    }

    #[test]
    fn aliases_and_merges_are_followed_and_do_not_explode() {
        let text = "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: [*x]\n";
        assert_eq!(
            json(text),
            r#"{"a": {"b": 1, "c": 2}, "d": {"c": 3, "b": 1}, "e": [{"b": 1, "c": 2}]}"#
        );
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        let mut deep = "a0: &a0 [1]\n".to_owned();
        for level in 1..100 {
            bomb += &format!(
                "a{level}: &a{level} [{}]\n",
                vec![format!("*a{}", level - 1); 10].join(", ")
            );
            deep += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert!(json(&bomb).contains("16 MiB"), "{}", json(&bomb));
        assert!(json(&deep).contains("nested deeper"), "{}", json(&deep));
        assert!(json(&format!("{}{}", "[".repeat(500), "]".repeat(500))).contains("line 1"));
    }

    proptest::proptest! {
        #[test]
        fn what_comes_out_is_json(text in "[a-c:\\[\\]{}&*<>|?!'\"# \n\t0-9.,~_+eEx-]{0,200}") {
            if let Ok(value) = read(&text) {
                let json = value.json();
                assert!(serde_json::from_str::<Box<serde_json::value::RawValue>>(&json).is_ok(), "{text}: {json}");
            }
        }
    }
}
