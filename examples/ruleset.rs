//! Compiles a ruleset from nft's JSON and prints it in nft's syntax; touches no kernel.
//!
//! ```console
//! $ cargo run --example ruleset                                    # the one below
//! # nft -j list ruleset | cargo run --example ruleset -- -         # what is loaded here
//! ```
//!
//! In between is a `Ruleset`: the instructions that the kernel would be given, and the same type that it is read into.

use std::error::Error;
use std::io::Write;

use berth::nft::compile::compile;
use berth::plan::nat::is_ours;

const WEB: &str = r#"{"nftables": [
    {"table": {"family": "inet", "name": "web"}},
    {"chain": {"family": "inet", "table": "web", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
    {"rule": {"family": "inet", "table": "web", "chain": "input", "expr": [
        {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
        {"accept": null}]}},
    {"rule": {"family": "inet", "table": "web", "chain": "input", "comment": "the site", "expr": [
        {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [80, 443]}}},
        {"counter": {"packets": 0, "bytes": 0}},
        {"accept": null}]}}
]}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let text = match std::env::args_os().nth(1) {
        None => WEB.to_owned(),
        Some(path) if path == "-" => std::io::read_to_string(std::io::stdin())?,
        Some(path) => std::fs::read_to_string(path)?,
    };
    let ruleset = compile(&text, is_ours)?;
    write!(std::io::stdout(), "{ruleset}")?;
    Ok(())
}
