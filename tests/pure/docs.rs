//! The documents agree with the program and with each other.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What README may have, to stay a front page.
const README_LINES: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files with this extension in a directory; below it too when `deep`.
fn files(dir: &Path, extension: &str, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            files(&path, extension, deep, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(root(), "md", false, &mut found);
    for dir in ["docs", "chart", "bench"] {
        files(&root().join(dir), "md", true, &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

/// Lines outside of code.
fn prose(text: &str) -> Vec<&str> {
    let mut code = false;
    let mut is_prose = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    };
    text.lines().filter(|line| is_prose(line)).collect()
}

/// The anchors that a page has for its headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn the_readme_is_a_front_page() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines: move what is detail to docs/");
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in documents() {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in prose(&text) {
            for rest in line.split("](").skip(1) {
                let link = rest.split(')').next().unwrap();
                if link.contains("://") {
                    continue;
                }
                seen += 1;
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                let to =
                    if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
                let is_there = to.exists()
                    && (anchor.is_empty()
                        || anchors(&std::fs::read_to_string(&to).unwrap()).contains(anchor));
                if !is_there {
                    broken.push(format!("{}: {link}", page.display()));
                }
            }
        }
    }
    assert!(seen > 50, "{seen} links");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Each is linked from the front page, or from one that is.
#[test]
fn every_document_is_reached_from_the_readme() {
    let mut reached = BTreeSet::from([root().join("README.md")]);
    let mut next: Vec<PathBuf> = reached.iter().cloned().collect();
    while let Some(page) = next.pop() {
        let text = std::fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| link.ends_with(".md") && !link.contains("://")) {
            let to = page.parent().unwrap().join(link).canonicalize().unwrap();
            if reached.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    let lost: Vec<PathBuf> =
        documents().into_iter().filter(|page| !reached.contains(page)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Flags with their variables, of one command.
fn flags(command: &clap::Command) -> BTreeSet<(String, String)> {
    let flag = |arg: &clap::Arg| {
        let variable = arg.get_env()?.to_str()?.to_owned();
        Some((arg.get_long()?.to_owned(), variable))
    };
    command.get_arguments().filter_map(flag).collect()
}

#[test]
fn the_reference_has_every_flag_and_variable_of_run_and_no_other() {
    let wanted = flags(berth::cli::definition().find_subcommand("run").unwrap());
    let text = read("docs/reference.md");
    let row = |line: &str| {
        let (flag, rest) = line.strip_prefix("| `--")?.split_once("` | `")?;
        Some((flag.to_owned(), rest.split_once('`')?.0.to_owned()))
    };
    let found: BTreeSet<(String, String)> = text.lines().filter_map(row).collect();
    assert!(wanted.len() > 40, "{wanted:?}");
    let missing: Vec<_> = wanted.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&wanted).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
}

#[test]
fn every_flag_of_serve_is_in_its_document() {
    let definition = berth::cli::definition();
    let serve = definition.find_subcommand("serve").unwrap();
    let document = read("docs/serve.md");
    let (document, _) = document.split_once("## Measure").unwrap();
    let words: BTreeSet<&str> =
        document.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    let missing: Vec<String> = serve
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && !argument.is_global_set())
        .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
        .filter(|long| !["--help", "--log", "--log-format"].contains(&long.as_str()))
        .filter(|long| !words.contains(long.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/serve.md is silent about {missing:?}");
}

#[test]
fn every_command_that_the_documents_show_is_understood() {
    let mut shown = 0;
    for page in documents() {
        let text = std::fs::read_to_string(&page).unwrap().replace("\\\n", " ");
        let commands = text
            .lines()
            .filter_map(|line| line.strip_prefix("# berth ").or(line.strip_prefix("$ berth ")));
        for command in commands {
            shown += 1;
            // A shell's next command, or a redirection, ends the words.
            let line = command.split([';', '>', '|', '&']).next().unwrap();
            let words = std::iter::once("berth").chain(line.split_whitespace()).map(OsString::from);
            if let Err(error) = berth::cli::parse(words) {
                panic!("{}: berth {line}: {error}", page.display());
            }
        }
    }
    assert!(shown >= 7, "{shown} commands");
}

#[test]
fn every_goal_of_make_that_the_documents_name_is_there() {
    let makefile = read("Makefile");
    let goals: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', ' ']))
        .filter_map(|line| line.split_once(':').map(|(goal, _)| goal))
        .collect();
    for page in documents() {
        let text = std::fs::read_to_string(&page).unwrap();
        for start in ["`make ", "# make ", "$ make "] {
            for rest in text.split(start).skip(1) {
                let goal = rest.split([' ', '`', '\n']).next().unwrap();
                assert!(goals.contains(goal), "{}: make {goal}", page.display());
            }
        }
    }
}

/// The messages in the first column: what stands between ellipses, as the sources have it.
#[test]
fn troubleshooting_quotes_what_the_program_says() {
    let mut paths = Vec::new();
    files(&root().join("src"), "rs", true, &mut paths);
    let sources: String = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    // A string that goes on in the next line is one.
    let joined: Vec<&str> = sources.split("\\\n").map(str::trim_start).collect();
    let sources = joined.concat().replace("\\\"", "\"");
    let mut quoted = 0;
    let mut missing = Vec::new();
    for line in read("docs/troubleshooting.md").lines().filter(|line| line.starts_with("| `")) {
        let symptom = line.trim_start_matches("| ").split(" | ").next().unwrap();
        let fence = if symptom.starts_with("``") { "``" } else { "`" };
        // Where a message has backticks itself, the last one ends it.
        let symptom = symptom.strip_prefix(fence).unwrap();
        let Some((message, _)) = symptom.rsplit_once(fence) else { continue };
        if message.starts_with("berth ") {
            continue;
        }
        quoted += 1;
        let parts = message.split('…').map(str::trim).filter(|part| part.len() > 3);
        missing.extend(parts.filter(|part| !sources.contains(part)).map(str::to_owned));
    }
    assert!(quoted > 30, "{quoted} messages");
    assert!(missing.is_empty(), "not in the sources:\n{}", missing.join("\n"));
}
