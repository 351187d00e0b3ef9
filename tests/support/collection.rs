//! The rules of `tests/listing/*.rules`: `= FAMILY TYPE HOOK` begins a table with a chain `c` (and a chain `sub` to
//! jump to), `+` adds something to the table called T, every other line is a rule for the chain.

use std::fmt::Write;
use std::path::{Path, PathBuf};

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/listing")
}

pub fn collections() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "rules")).collect();
    paths.sort();
    assert!(paths.len() >= 7, "{paths:?}");
    paths
}

/// A collection as a script for `nft -f`, and how many rules it has.
pub fn script(collection: &Path) -> (String, usize) {
    let text = std::fs::read_to_string(collection).unwrap();
    let (mut script, mut rules, mut tables) = (String::new(), 0, 0);
    let (mut family, mut table) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("= ") {
            let words: Vec<&str> = head.split_whitespace().collect();
            (family, table) = (words[0].to_owned(), format!("t{tables}"));
            tables += 1;
            let device = if family == "netdev" { "device \"lo\" " } else { "" };
            let priority = if words[1] == "route" { -150 } else { 0 };
            writeln!(script, "add table {family} {table}").unwrap();
            writeln!(script, "add chain {family} {table} sub").unwrap();
            writeln!(
                script,
                "add chain {family} {table} c {{ type {} hook {} {device}priority {priority}; }}",
                words[1], words[2]
            )
            .unwrap();
        } else if let Some(more) = line.strip_prefix("+ ") {
            writeln!(script, "{}", more.replacen(" T ", &format!(" {table} "), 1)).unwrap();
        } else if !line.is_empty() {
            rules += 1;
            writeln!(script, "add rule {family} {table} c {line}").unwrap();
        }
    }
    (script, rules)
}
