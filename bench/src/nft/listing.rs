//! A whole listing by the number of rules: dump and text in process, beside `nft list ruleset`.

use std::fmt::{self, Write};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use berth::nft::dump::Filter;
use serde::Serialize;

use super::{Engine, program, timed};
use crate::stats::Summary;
use crate::{Error, at};

#[derive(Debug, Serialize)]
pub struct Report {
    rules: usize,
    sets: usize,
    bytes: usize,
    /// Both; then each alone.
    berth: Summary,
    dump: Summary,
    text: Summary,
    nft: Summary,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, sets, bytes, berth, dump, text, nft } = self;
        let each = berth.median_ms * 1e3 / f64::from(u32::try_from(*rules).unwrap_or(u32::MAX));
        writeln!(
            f,
            "{rules} rules and {sets} sets listed ({} KiB of text, the same of both)",
            bytes / 1024
        )?;
        writeln!(f, "  berth, in process     {berth}  {each:>6.2} us a rule")?;
        writeln!(f, "    of it the dump      {dump}")?;
        writeln!(f, "    of it the text      {text}")?;
        writeln!(f, "  nft list ruleset      {nft}  {:>6.1} x", nft.median_ms / berth.median_ms)
    }
}

/// Rules listed altogether on each side: the larger, the fewer rounds.
const WORK: usize = 60_000;

/// A listing of so many rules, a `sets`th of which has an anonymous set.
pub fn run(rules: usize, sets: usize) -> Result<Report, Error> {
    let file = at("making a file", tempfile::NamedTempFile::new())?;
    at("writing the rules", fs::write(file.path(), script(rules, sets)))?;
    program(&["nft", "-f", &file.path().display().to_string()])?;
    let engine = Engine::start()?;
    let (mut both, mut dumps, mut texts, mut nft) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut found_sets) = (0, 0);
    let rounds = (WORK / rules.max(1)).clamp(5, 100);
    for round in 0..rounds {
        let (dump, (_, ruleset)) = timed(|| engine.wait(engine.firewall.dump(Filter::default())))?;
        let (text, ours) = timed(|| Ok(ruleset.to_string()))?;
        let (taken, theirs) = timed(listed)?;
        if round == 0 && ours != theirs {
            return Err(Error::Step(format!("berth and nft list {rules} rules differently")));
        }
        bytes = ours.len();
        found_sets = ruleset.tables.iter().map(|table| table.sets.len()).sum();
        both.push(dump + text);
        dumps.push(dump);
        texts.push(text);
        nft.push(taken);
    }
    let of = |samples: &[Duration]| {
        Summary::of(samples).ok_or_else(|| Error::Step("nothing was measured".into()))
    };
    Ok(Report {
        rules,
        sets: found_sets,
        bytes,
        berth: of(&both)?,
        dump: of(&dumps)?,
        text: of(&texts)?,
        nft: of(&nft)?,
    })
}

fn listed() -> Result<String, Error> {
    let mut command = Command::new("nft");
    let output =
        at("nft list ruleset", command.args(["list", "ruleset"]).stdin(Stdio::null()).output())?;
    String::from_utf8(output.stdout).map_err(|error| Error::Step(error.to_string()))
}

/// What a pod with many services might have: four kinds of rules in chains of a hundred, some with comments, a set by
/// name and one of a `sets`th of the rules with a set of its own.
fn script(rules: usize, sets: usize) -> String {
    let mut text =
        "table inet many {\n\tset peers { type ipv4_addr; flags interval; elements = { 10.0.0.0/9 } }\n"
            .to_owned();
    for first in (0..rules).step_by(100) {
        let _ = writeln!(text, "\tchain services{first} {{");
        for number in first..(first + 100).min(rules) {
            let _ = writeln!(text, "\t\t{}", rule(number, number % sets == 1));
        }
        let _ = writeln!(text, "\t}}");
    }
    text.push_str("}\n");
    text
}

fn rule(number: usize, set: bool) -> String {
    let (high, low, port) = (number / 250, number % 250, 1000 + number % 60_000);
    let ports = if set { format!("{{ 53, {port} }}") } else { port.to_string() };
    match number % 4 {
        0 => format!("ip daddr 10.96.{high}.{low} tcp dport {port} counter accept"),
        1 => format!(
            "ip saddr @peers ip daddr 10.97.{high}.{low} udp dport {ports} counter drop comment \"service {number}\""
        ),
        2 => format!(
            "iifname \"eth{low}\" ct state established,related meta mark set 0x{number:x} counter"
        ),
        _ => format!("ip saddr 10.98.{high}.{low}/31 limit rate {}/second counter return", 1 + low),
    }
}
