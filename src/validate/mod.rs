//! Checks values files of the chart, as Helm would, but tells all mistakes at once and where they are.
//!
//! The chart's schema is the one source of what is right: it is compiled in, and [`schema`] interprets it over a tree of the
//! YAML that has positions. What stands in two places is held together by [`cross`], in the words of the chart's
//! templates. Beside it there are warnings: keys that nobody reads, and figures that are rarely meant. What the launcher
//! would refuse of cloud-init's files, and of its variables, it refuses here.

mod cloud;
mod cross;
mod node;
mod quantity;
mod scalar;
mod schema;
mod tree;

use std::fmt;
use std::sync::LazyLock;

use serde::Serialize;

use node::Node;

const SCHEMA: &str = include_str!("../../chart/values.schema.json");
const DEFAULTS: &str = include_str!("../../chart/values.yaml");

/// Of a finding: errors fail `berth validate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Helm refuses it, or it is not what it seems.
    Error,
    Warning,
}

/// A place in a file: which of those that were given, from 0; line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    #[serde(skip)]
    pub file: usize,
    pub line: usize,
    pub column: usize,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    #[serde(flatten)]
    pub at: Position,
    /// The key, such as `vmlist.web.vmconfig.cpu.vcpu`; empty for the whole file.
    pub key: String,
    pub message: String,
}

/// For machines: with the file's name.
#[derive(Debug, Serialize)]
pub struct InFile<'a> {
    pub file: &'a str,
    #[serde(flatten)]
    pub finding: &'a Finding,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, at, key, message } = self;
        let mark = match severity {
            Severity::Error => "[E]",
            Severity::Warning => "[W]",
        };
        let colon = if key.is_empty() { "" } else { ": " };
        write!(f, "{}:{}: {mark} {key}{colon}{message}", at.line, at.column)
    }
}

/// All that is wrong with the values of these files, merged as Helm merges them, in their order.
pub fn values(files: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let read: Option<Vec<Node>> = files
        .iter()
        .enumerate()
        .map(|(file, text)| tree::read(file, text, &mut findings))
        .collect();
    if let Some(root) = read.and_then(|roots| roots.into_iter().reduce(Node::merge)) {
        findings.extend(judged(&root, files.len()));
    }
    findings.sort_by(|a, b| (a.at, a.severity, &a.key).cmp(&(b.at, b.severity, &b.key)));
    findings
}

fn judged(root: &Node, files: usize) -> Vec<Finding> {
    static PARSED: LazyLock<serde_json::Result<serde_json::Value>> =
        LazyLock::new(|| serde_json::from_str(SCHEMA));
    let mut findings = match &*PARSED {
        Ok(schema) => schema::check(schema, root),
        Err(error) => {
            let message = format!("the schema that is built in cannot be read: {error}");
            vec![Finding { severity: Severity::Error, at: root.at, key: String::new(), message }]
        }
    };
    findings.extend(cloud::check(root));
    // One after the last file: nothing is wrong in it.
    let defaults = tree::read(files, DEFAULTS, &mut findings);
    findings.extend(cross::check(root, defaults.as_ref()));
    // Helm needs none; who checks values wants VMs in them.
    if !matches!(&root.value, node::Value::Map(entries) if entries.iter().any(|entry| entry.key == "vmlist"))
    {
        let message = "there is no vmlist: VMs by name".to_owned();
        findings.push(Finding {
            severity: Severity::Warning,
            at: root.at,
            key: String::new(),
            message,
        });
    }
    findings
}

#[cfg(test)]
mod tests;
