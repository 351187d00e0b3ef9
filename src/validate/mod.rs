//! Checks values files of the chart, as Helm would, but tells all mistakes at once and where they are.
//!
//! The chart's schema is the one source of what is right: it is compiled in, and [`schema`] interprets it over a tree of the
//! YAML that has positions. Beside it there are warnings: keys that nobody reads, and figures that are rarely meant. What
//! the launcher would refuse of cloud-init's files it refuses here.

mod cloud;
mod schema;
mod tree;

use std::fmt;

use serde::Serialize;

use tree::Value;

const SCHEMA: &str = include_str!("../../chart/values.schema.json");

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Helm refuses it, or it is not what it seems.
    Error,
    Warning,
}

/// A place in a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
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

/// All that is wrong with one values file, in its order.
pub fn values(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(root) = tree::read(text, &mut findings) {
        match serde_json::from_str(SCHEMA) {
            Ok(schema) => findings.extend(schema::check(&schema, &root)),
            Err(error) => {
                findings.push(whole(format!("the schema that is built in cannot be read: {error}")));
            }
        }
        findings.extend(cloud::check(&root));
        // Helm needs none; who checks a file wants VMs in it.
        if let Value::Map(entries) = &root.value
            && !entries.iter().any(|entry| entry.key == "vmlist")
        {
            findings.push(whole("there is no vmlist: VMs by name".to_owned()));
        }
    }
    findings.sort_by_key(|finding| (finding.at, finding.severity));
    findings
}

fn whole(message: String) -> Finding {
    Finding { severity: Severity::Error, at: Position { line: 1, column: 1 }, key: String::new(), message }
}

#[cfg(test)]
mod tests;
