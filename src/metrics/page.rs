//! The writer: samples in, and the text of either format out. Their sample lines are the same; what differs are the
//! names in TYPE and HELP, UNIT, and the end.
//!
//! OpenMetrics 1.0 §3.1 (a family's name is without `_total`, UNIT is its end, `# EOF` is last) and Prometheus'
//! "Text-based format" 0.0.4 (a counter's name is with it).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::families::{FAMILIES, Id, Kind};

/// Longest value of a label, in characters.
const MAX_LABEL: usize = 64;
/// Series of one family, more are left out: 255 processors, say.
const MAX_SERIES: usize = 512;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Text,
}

impl Format {
    /// The better one that an `Accept` header names (RFC 9110 §12.5.1); 0.0.4 where it names neither. Weights are not
    /// looked at: Prometheus asks for OpenMetrics first wherever it can read it.
    pub fn accepted(header: &str) -> Self {
        let is_open = |range: &str| {
            let range = range.split(';').next().unwrap_or_default().trim();
            range.eq_ignore_ascii_case("application/openmetrics-text")
        };
        if header.split(',').any(is_open) { Self::OpenMetrics } else { Self::Text }
    }

    /// For a `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A number of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Whole(u64),
    /// One that is no number (NaN, infinite) is left out.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

/// Samples by family, each a line without its family's name: `_total{disk="disk0"} 42`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    lines: BTreeMap<Id, Vec<String>>,
}

impl Page {
    /// Adds a sample of a counter or a gauge. What is no number is left out.
    pub fn add(&mut self, id: Id, labels: &[(&str, &str)], value: impl Into<Value>) {
        let suffix = if id.family().kind == Kind::Counter { "_total" } else { "" };
        self.push(id, suffix, labels, value.into());
    }

    /// The same, where there is a value.
    pub fn add_some<V: Into<Value>>(&mut self, id: Id, labels: &[(&str, &str)], value: Option<V>) {
        if let Some(value) = value {
            self.add(id, labels, value);
        }
    }

    /// Adds a histogram: how many were at most as large as each bound (not those below it), how many there were in all,
    /// and their sum.
    pub fn add_histogram(&mut self, id: Id, buckets: &[(&str, u64)], count: u64, sum: f64) {
        let mut so_far = 0u64;
        for (bound, more) in buckets {
            so_far = so_far.saturating_add(*more);
            self.push(id, "_bucket", &[("le", bound)], so_far.into());
        }
        self.push(id, "_bucket", &[("le", "+Inf")], count.into());
        self.push(id, "_sum", &[], sum.into());
        self.push(id, "_count", &[], count.into());
    }

    fn push(&mut self, id: Id, suffix: &str, labels: &[(&str, &str)], value: Value) {
        let mut line = suffix.to_owned();
        for (at, (name, text)) in labels.iter().enumerate() {
            let begin = if at == 0 { '{' } else { ',' };
            let _ = write!(line, "{begin}{name}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            line.push('}');
        }
        let _ = match value {
            Value::Whole(value) => write!(line, " {value}"),
            Value::Real(value) if value.is_finite() => write!(line, " {value}"),
            Value::Real(_) => return,
        };
        self.insert(id, line);
    }

    /// A series that is there already is left out: two samples of one are an error to who reads them.
    fn insert(&mut self, id: Id, line: String) {
        let lines = self.lines.entry(id).or_default();
        if lines.len() < MAX_SERIES && !lines.iter().any(|known| series(known) == series(&line)) {
            lines.push(line);
        }
    }

    /// Takes in the samples of another page, of either format. What is of no family here, or no sample, is left out.
    pub fn merge(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((id, rest)) = sample(line) {
                self.insert(id, rest.to_owned());
            }
        }
    }

    /// The families that have samples, and how many.
    pub fn series(&self) -> usize {
        self.lines.values().map(Vec::len).sum()
    }

    /// The whole text.
    pub fn write(&self, format: Format) -> String {
        let mut out = String::new();
        for (id, lines) in &self.lines {
            let family = id.family();
            let name = match (format, family.kind) {
                (Format::Text, Kind::Counter) => format!("{}_total", family.name),
                _ => family.name.to_owned(),
            };
            let _ = writeln!(out, "# TYPE {name} {}", family.kind.as_str());
            if format == Format::OpenMetrics && !family.unit.is_empty() {
                let _ = writeln!(out, "# UNIT {name} {}", family.unit);
            }
            let _ = writeln!(out, "# HELP {name} {}", family.help);
            for line in lines {
                let _ = writeln!(out, "{}{line}", family.name);
            }
        }
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }
}

/// A line without its value.
fn series(line: &str) -> &str {
    line.rsplit_once(' ').map_or(line, |(series, _)| series)
}

/// Backslash, quote and line feed are escaped in either format; other control characters are left out.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MAX_LABEL) {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// The family of a sample's line, and the line without its name. None: it is none that we would write.
fn sample(line: &str) -> Option<(Id, &str)> {
    let id = FAMILIES.iter().copied().find(|id| {
        let rest = line.strip_prefix(id.family().name);
        rest.is_some_and(|rest| suffixes(id.family().kind).iter().any(|s| begins(rest, s)))
    })?;
    let rest = line.strip_prefix(id.family().name)?;
    let (series, value) = rest.rsplit_once(' ')?;
    let value: f64 = value.parse().ok()?;
    let labels = series.find('{').and_then(|at| series.get(at..)).unwrap_or_default();
    let is_whole = labels.is_empty() || (labels.ends_with("\"}") && labels.len() <= 512);
    let is_plain = !rest.chars().any(char::is_control);
    (value.is_finite() && is_whole && is_plain).then_some((id, rest))
}

fn suffixes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Counter => &["_total"],
        Kind::Gauge => &[""],
        Kind::Histogram => &["_bucket", "_sum", "_count"],
    }
}

fn begins(rest: &str, suffix: &str) -> bool {
    rest.strip_prefix(suffix).is_some_and(|rest| rest.starts_with(['{', ' ']))
}
