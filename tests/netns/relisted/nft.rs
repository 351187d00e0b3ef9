//! The two nfts that are compared with, and what is known of their mistakes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::compiled::{self, Place};
use crate::support::{Netns, checked, succeeded};

#[derive(Debug)]
pub struct Nft {
    /// Where it is, when not in the system.
    root: Option<PathBuf>,
    pub version: String,
}

impl Nft {
    pub fn of_the_system() -> Self {
        let version = checked(Command::new("nft").arg("--version"));
        Self { root: None, version: number(&version) }
    }

    pub fn of_debian_13() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/listing/trixie.sh");
        let root = PathBuf::from(checked(&mut Command::new(script)).trim());
        let version =
            checked(Command::new("chroot").arg(&root).args(["/usr/sbin/nft", "--version"]));
        Self { root: Some(root), version: number(&version) }
    }

    pub fn is_newer(&self) -> bool {
        self.root.is_some()
    }

    fn command(&self) -> Command {
        match &self.root {
            None => Command::new("nft"),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg("/usr/sbin/nft");
                command
            }
        }
    }

    fn load(&self, netns: &Netns, words: &[&str], text: &str) -> Output {
        let mut command = self.command();
        command.args(words).args(["-f", "-"]).stdin(file_of(text));
        netns.output(&mut command)
    }

    pub fn list(&self, netns: &Netns, flags: &str) -> String {
        let mut command = self.command();
        command.args(flags.split_whitespace()).args(["list", "ruleset"]);
        succeeded(&netns.output(&mut command), &command)
    }

    /// Leaves out line by line what nft or the kernel refuses, and says which.
    pub fn load_what_it_takes(&self, netns: &Netns, lines: &mut Vec<String>) -> Vec<String> {
        let mut refused = Vec::new();
        loop {
            let output = self.load(netns, &[], &lines.join("\n"));
            if output.status.success() {
                return refused;
            }
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let mut bad: Vec<usize> = errors.lines().filter_map(line_of).collect();
            bad.sort_unstable();
            bad.dedup();
            if errors.contains("Could not process rule") {
                // The rest may only follow from the first.
                bad.truncate(1);
            }
            if output.status.code().is_none() {
                let first = first_bad(lines, |lines| {
                    self.load(netns, &["-c"], &lines.join("\n")).status.code().is_none()
                });
                bad = vec![first];
            }
            bad.retain(|at| (1..=lines.len()).contains(at));
            assert!(!bad.is_empty(), "{}: {errors}\n{}", output.status, lines.join("\n"));
            refused.extend(bad.into_iter().rev().map(|at| lines.remove(at - 1)));
        }
    }

    /// Leaves out what nft stops at with a fault when it lists.
    pub fn leave_out_what_it_cannot_list(
        &self,
        netns: Netns,
        lines: &mut Vec<String>,
    ) -> (Netns, Vec<String>) {
        let mut netns = netns;
        let mut left_out = Vec::new();
        while !self.lists(&netns, lines) {
            let fails = |lines: &[String]| {
                let netns = Netns::new("prefix");
                self.load(&netns, &[], &lines.join("\n"));
                !self.lists(&netns, lines)
            };
            left_out.push(lines.remove(first_bad(lines, fails) - 1));
            netns = Netns::new("relisted");
            // What used it is left out too.
            self.load_what_it_takes(&netns, lines);
        }
        (netns, left_out)
    }

    /// Neither stops with a fault nor leaves out sets it cannot read.
    fn lists(&self, netns: &Netns, lines: &[String]) -> bool {
        let list = |flag| netns.output(self.command().args([flag, "list", "ruleset"]));
        let (text, json) = (list("-n"), list("-j"));
        let sets = |text: &str, words: [&str; 2]| {
            text.lines().filter(|line| words.iter().any(|word| line.starts_with(word))).count()
        };
        let made = sets(&lines.join("\n"), ["add set ", "add map "]);
        let listed = sets(&String::from_utf8_lossy(&text.stdout), ["\tset ", "\tmap "]);
        text.status.code().is_some() && json.status.code().is_some() && made == listed
    }
}

/// The line, counted from 1, with which it begins to fail.
fn first_bad(lines: &[String], fails: impl Fn(&[String]) -> bool) -> usize {
    let (mut good, mut bad) = (0, lines.len());
    while bad - good > 1 {
        let middle = usize::midpoint(good, bad);
        if fails(&lines[..middle]) {
            bad = middle;
        } else {
            good = middle;
        }
    }
    bad
}

/// `nftables v1.0.6 (…)`
fn number(version: &str) -> String {
    version.split_whitespace().nth(1).unwrap().trim_start_matches('v').to_owned()
}

/// The line that an error of nft is about: `/dev/stdin:7:1-9: Error: …`
fn line_of(error: &str) -> Option<usize> {
    let rest = error.strip_prefix("/dev/stdin:").or_else(|| error.strip_prefix("-:"))?;
    if !error.contains("Error:") {
        return None;
    }
    rest.split(':').next()?.parse().ok()
}

/// The text, to be read from its beginning.
fn file_of(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

pub fn ours(netns: &Netns, flags: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(["nft", "list", "--netns", &netns.path()]);
    checked(command.args(flags.split_whitespace()))
}

/// A listing with each set, and each rule, on one line.
pub fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut open = 0usize;
    for line in text.lines() {
        let depth = line.chars().take_while(|char| *char == '\t').count();
        let trimmed = line.trim();
        if open > 0 {
            // Within a set, an object, a chain in place, or a list that goes on.
            let last = items.last_mut().unwrap();
            let goes_on = last.ends_with(',') || last.ends_with('{') || trimmed.starts_with('}');
            let ends = depth == open && trimmed.starts_with('}');
            last.push_str(if goes_on && !ends { " " } else { "; " });
            last.push_str(trimmed);
            open = if ends { 0 } else { open };
            continue;
        }
        items.push(trimmed.to_owned());
        let whole = depth == 1 && !trimmed.starts_with("chain ") || depth == 2;
        if whole && trimmed.ends_with('{') {
            open = depth;
        }
    }
    items
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
}

impl Form {
    pub fn flag(self) -> &'static str {
        if self == Self::Text { "" } else { "-j" }
    }
}

/// A listing as lines, and what became of each when it was loaded again: None where it was refused.
pub struct Reloaded {
    pub lines: Vec<String>,
    pub places: Vec<Option<Place>>,
    pub made: Vec<Option<String>>,
    pub refused: BTreeSet<String>,
}

/// Why nft does not load, or not as the same, what it prints itself.
struct Excuse {
    why: &'static str,
    holds: fn(&str) -> bool,
}

const TEXT: [Excuse; 5] = [
    Excuse {
        why: "a set of the types of echoes, which nft adds for their numbers, is kept in concatenations",
        holds: |line| line.contains("type { echo-reply, echo-request }"),
    },
    Excuse {
        why: "the version of IP looked up in a map of another protocol's fields",
        holds: |line| line.contains("ip version vmap @") || line.contains("ip6 version vmap @"),
    },
    Excuse {
        why: "IP told by octets where the type of the link is not known: the checksum is forgotten",
        holds: |line| line.contains("@ll,"),
    },
    Excuse {
        why: "whether there is an option, as typeof: listed as its kind",
        holds: |line| line.contains("typeof") && line.contains(" kind"),
    },
    Excuse {
        why: "a set of one range becomes a range",
        holds: |line| {
            line.split("{ ")
                .skip(1)
                .any(|rest| rest.split(" }").next().is_some_and(|set| !set.contains(',')))
        },
    },
];

/// Of JSON more: nft 1.0.6 prints what its own parser does not take, and leaves out what it would need.
const JSON: [Excuse; 11] = [
    Excuse {
        why: "no such object to the parser",
        holds: |line| line.starts_with("{\"ct expectation\"") || line.starts_with("{\"synproxy\""),
    },
    Excuse {
        why: "a set by typeof is told by the name of its type, and integer and string are none that sets can have",
        holds: |line| is_set(line) && (line.contains("\"integer\"") || line.contains("\"string\"")),
    },
    Excuse {
        why: "a date is of type time, as seconds are",
        holds: |line| is_set(line) && line.contains("\"time\""),
    },
    Excuse {
        why: "the day and the hour are no types of sets",
        holds: |line| is_set(line) && (line.contains("\"day\"") || line.contains("\"hour\"")),
    },
    Excuse {
        why: "a map to several values is told as text",
        holds: |line| is_set(line) && line.contains(" . "),
    },
    Excuse {
        why: "that a set is dynamic is not told, and data that is added to a map only as text",
        holds: |line| {
            line.contains("{\"set\":{\"op\"")
                || ["add @", "update @", "delete @"].iter().any(|word| line.contains(word))
        },
    },
    Excuse {
        why: "the wildcard of a socket is not taken",
        holds: |line| line.contains("\"socket\""),
    },
    Excuse {
        why: "a set's comment, and what its elements counted, are not taken",
        holds: |line| {
            is_set(line) && (line.contains("\"comment\"") || line.contains("\"counter\""))
        },
    },
    Excuse {
        why: "a set of one range becomes a range",
        holds: |line| line.contains("{\"set\":[{\"range\"") || line.contains("{\"set\":[{\"elem\""),
    },
    Excuse {
        why: "with a policy and a size, and not dynamic, the kernel refuses it",
        holds: |line| is_set(line) && line.contains("\"policy\"") && line.contains("\"size\""),
    },
    Excuse { why: "IP told by octets", holds: |line| line.contains("\"base\":\"ll\"") },
];

fn is_set(line: &str) -> bool {
    line.starts_with("{\"set\"") || line.starts_with("{\"map\"")
}

/// Whether it is known why nft does not load what it and we list, or it uses something that was refused.
pub fn excuse(form: Form, line: &str, refused: &BTreeSet<String>) -> Option<&'static str> {
    let known: &[Excuse] = if form == Form::Text { &TEXT } else { &JSON };
    let uses = |refused: &String| {
        let object: serde_json::Value = serde_json::from_str(refused).unwrap_or_default();
        let Some((kind, fields)) = object.as_object().and_then(|object| object.iter().next())
        else {
            let name = refused.split(' ').nth(1).unwrap_or_default();
            return refused.starts_with("set ") | refused.starts_with("map ")
                && line.contains(&format!("@{name} "));
        };
        let name = |field: &str| fields[field].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "set" | "map" => line.contains(&format!("@{}\"", name("name"))),
            "rule" => {
                compiled::is_unnamed(&name("chain"))
                    && line.contains(&format!("\"target\":\"{}\"", name("chain")))
            }
            _ => line.contains(&format!("\"{kind}\":\"{}\"", name("name"))),
        }
    };
    if form == Form::Json && refused.contains(line) {
        return Some("the parser takes neither nft's JSON of it nor ours");
    }
    let excuse = known.iter().find(|excuse| (excuse.holds)(line)).map(|excuse| excuse.why);
    excuse.or_else(|| refused.iter().any(uses).then_some("it uses what is not taken"))
}

/// With numbers in decimal: in concatenations nft writes some in hexadecimal, by no rule that its texts tell.
pub fn in_decimal(line: &str) -> String {
    let word = |word: &str| {
        let (digits, rest) = match word.find(|char: char| !char.is_ascii_alphanumeric()) {
            Some(at) => word.split_at(at),
            None => (word, ""),
        };
        match digits.strip_prefix("0x").and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
            Some(number) => format!("{number}{rest}"),
            None => word.to_owned(),
        }
    };
    line.replace('-', " - ").split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A command for each line of a listing, with the line: what nft refuses is known by its line then.
fn flat(lines: &[String]) -> Vec<(String, String)> {
    let (mut table, mut chain) = (String::new(), String::new());
    let mut commands = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let command = match words.as_slice() {
            ["table", family, name, "{"] => {
                table = format!("{family} {name}");
                format!("add table {table}")
            }
            ["chain", name, "{"] => {
                (*name).clone_into(&mut chain);
                format!("add chain {table} {chain}")
            }
            ["}"] => {
                chain.clear();
                continue;
            }
            [""] => continue,
            ["type", ..] => format!("add chain {table} {chain} {{ {line} }}"),
            _ if !chain.is_empty() => format!("add rule {table} {chain} {line}"),
            ["ct", kind, rest @ ..] => format!("add ct {kind} {table} {}", rest.join(" ")),
            [kind, rest @ ..] => format!("add {kind} {table} {}", rest.join(" ")),
            [] => continue,
        };
        commands.push((command, line.clone()));
    }
    // Chains before what jumps to them.
    commands.sort_by_key(|(command, _)| {
        if command.starts_with("add table") {
            0
        } else {
            1 + usize::from(!command.starts_with("add chain"))
        }
    });
    commands
}

impl Reloaded {
    pub fn is_of_unnamed_chain(&self, at: usize) -> bool {
        let chain = match &self.places[at] {
            Some(Place::Rule(chain, _)) => compiled::is_unnamed(chain),
            _ => false,
        };
        chain
            || self.lines[at].starts_with("{\"chain\"")
                && self.lines[at].contains("\"name\":\"__chain")
    }
}

impl Nft {
    pub fn lines(form: Form, listing: &str) -> Vec<String> {
        match form {
            Form::Text => items(listing).iter().map(|line| without_expiry(line)).collect(),
            Form::Json => objects(listing).iter().skip(1).map(ToString::to_string).collect(),
        }
    }

    pub fn reloaded(&self, form: Form, listing: &str) -> (Netns, Reloaded) {
        let netns = Netns::new("again");
        let lines = Self::lines(form, listing);
        let (refused, places): (BTreeSet<String>, _) = match form {
            Form::Text => {
                let refused = if self.load(&netns, &[], listing).status.success() {
                    BTreeSet::new()
                } else {
                    let (commands, of): (Vec<_>, Vec<_>) = flat(&lines).into_iter().unzip();
                    let refused = self.load_what_it_takes(&netns, &mut commands.clone());
                    let at =
                        commands.iter().zip(of).filter(|(command, _)| refused.contains(command));
                    at.map(|(_, line)| line).collect()
                };
                let places = compiled::places(&lines, &refused);
                (refused, places)
            }
            Form::Json => {
                let mut objects = objects(listing);
                objects.remove(0);
                let refused = self.load_objects_it_takes(&netns, &objects);
                let places = compiled::places_json(&objects, &refused);
                (refused, places)
            }
        };
        let compiled = compiled::compiled(&netns);
        let made = places.iter().zip(&lines).map(|((wanted, place), line)| match place {
            None if wanted.is_none() && form == Form::Text => Some(String::new()),
            Some(place) => compiled.get(place).cloned(),
            None => (!refused.contains(line)).then(String::new),
        });
        let made = made.collect();
        (
            netns,
            Reloaded {
                lines,
                places: places.into_iter().map(|(place, _)| place).collect(),
                made,
                refused,
            },
        )
    }

    fn load_objects_it_takes(
        &self,
        netns: &Netns,
        objects: &[serde_json::Value],
    ) -> BTreeSet<String> {
        // Declarations first, for the case that it goes in part by part.
        let mut objects = objects.to_vec();
        let kinds = ["table", "chain"];
        objects.sort_by_key(|object| {
            match kinds.iter().position(|kind| object.get(kind).is_some()) {
                Some(at) => at,
                None => 2 + usize::from(object.get("rule").is_some()),
            }
        });
        let mut refused = BTreeSet::new();
        self.load_objects(netns, &objects, &mut refused);
        refused
    }

    fn load_objects(
        &self,
        netns: &Netns,
        objects: &[serde_json::Value],
        refused: &mut BTreeSet<String>,
    ) {
        let document = serde_json::json!({ "nftables": objects }).to_string();
        if objects.is_empty() || self.load(netns, &["-j"], &document).status.success() {
            return;
        }
        if let [one] = objects {
            refused.insert(one.to_string());
            return;
        }
        let (one, other) = objects.split_at(objects.len() / 2);
        self.load_objects(netns, one, refused);
        self.load_objects(netns, other, refused);
    }
}

fn objects(document: &str) -> Vec<serde_json::Value> {
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    let mut objects = document["nftables"].as_array().unwrap().clone();
    objects.iter_mut().for_each(without_expires);
    objects
}

/// Time passes between two listings.
fn without_expires(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.remove("expires");
            fields.values_mut().for_each(without_expires);
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(without_expires),
        _ => {}
    }
}

fn without_expiry(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    while let Some(at) = words.iter().position(|word| *word == "expires") {
        let comma = if words[at + 1].ends_with(',') { "," } else { "" };
        words.drain(at..at + 2);
        words[at - 1].push_str(comma);
    }
    words.join(" ")
}
