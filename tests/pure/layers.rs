//! Who may import whom. One crate gives no layers that the compiler enforces, so this reads the sources and
//! stands in for it. The picture it holds us to is in `src/lib.rs`.

mod arrows;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrows::{Arrows, circles};

/// A room and the rooms it may name. `exit` (codes, and the words for an error's causes) is for rooms whose errors a verb
/// may end with.
const ROOMS: [(&str, &[&str]); 33] = [
    ("net", &[]),
    ("iso", &[]),
    ("faults", &["log"]),
    ("exit", &["faults", "log"]),
    ("log", &[]),
    ("nft", &["net"]),
    ("proto", &["net"]),
    ("ram", &[]),
    ("config", &["net"]),
    ("facts", &["net"]),
    ("cli", &["config"]),
    ("plan", &["config", "exit", "facts", "faults", "iso", "log", "net", "nft", "proto", "ram"]),
    ("sys", &["config", "exit", "facts", "faults", "net", "nft", "ram"]),
    ("apply", &["config", "confine", "exit", "faults", "iso", "log", "net", "nft", "plan", "sys"]),
    ("confine", &["plan", "sys"]),
    ("console", &["exit", "log", "sys"]),
    ("control", &["exit", "supervise", "sys"]),
    ("inspect", &["cli", "exit", "net", "nft", "plan", "sys"]),
    ("observe", &["exit", "net", "nft", "plan", "sys"]),
    ("selftest", &["net", "plan", "sys"]),
    ("serve", &["confine", "exit", "facts", "faults", "net", "plan", "proto", "sys"]),
    ("status", &["exit", "faults", "log", "metrics", "sys"]),
    ("doctor", &["exit", "faults", "plan", "status", "sys"]),
    ("metrics", &[]),
    (
        "collect",
        &[
            "apply",
            "console",
            "metrics",
            "net",
            "nft",
            "observe",
            "plan",
            "proto",
            "serve",
            "supervise",
            "sys",
        ],
    ),
    ("halves", &["exit", "net", "status"]),
    ("validate", &["config", "plan"]),
    (
        "network",
        &["apply", "collect", "config", "exit", "observe", "plan", "readiness", "serve", "sys"],
    ),
    (
        "readiness",
        &[
            "apply",
            "collect",
            "config",
            "confine",
            "console",
            "exit",
            "faults",
            "halves",
            "metrics",
            "net",
            "observe",
            "serve",
            "status",
            "supervise",
            "sys",
        ],
    ),
    // The program: it names the library's rooms by `berth::`, and its own modules by `crate::`.
    (
        "verbs",
        &[
            "apply",
            "cli",
            "collect",
            "config",
            "confine",
            "console",
            "control",
            "doctor",
            "exit",
            "facts",
            "faults",
            "halves",
            "inspect",
            "log",
            "metrics",
            "network",
            "plan",
            "proto",
            "ram",
            "readiness",
            "selftest",
            "serve",
            "status",
            "supervise",
            "sys",
            "validate",
            "web",
        ],
    ),
    ("main", &["cli", "config", "confine", "exit", "log", "sys", "verbs"]),
    (
        "web",
        &[
            "config",
            "console",
            "exit",
            "faults",
            "log",
            "plan",
            "proto",
            "status",
            "supervise",
            "sys",
        ],
    ),
    (
        "supervise",
        &["config", "confine", "console", "exit", "faults", "net", "plan", "proto", "ram", "sys"],
    ),
];

struct Source {
    /// Relative to `src`.
    path: String,
    room: String,
    /// Without comments and without test modules.
    code: String,
    lines: usize,
}

/// Drops comments and `#[cfg(test)]` items with a body.
fn code_of(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let code = line.split("//").next().unwrap_or_default();
        if code.trim() == "#[cfg(test)]" {
            let mut depth = 0i32;
            for line in lines.by_ref() {
                depth += i32::try_from(line.matches('{').count()).unwrap()
                    - i32::try_from(line.matches('}').count()).unwrap();
                if depth <= 0 {
                    break;
                }
            }
            continue;
        }
        out.push_str(code);
        out.push('\n');
    }
    out
}

/// Rooms that a piece of code names: `crate::room…` and `berth::room…`, `use crate::{a, b::c}`, and `super` from a room's own file.
fn named(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let word = |text: &str| {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut prefixes = vec!["crate::".to_owned(), "berth::".to_owned()];
    prefixes.push("super::".repeat(depth));
    for prefix in prefixes.iter().filter(|prefix| !prefix.is_empty()) {
        for rest in code.split(prefix.as_str()).skip(1) {
            if let Some(list) = rest.strip_prefix('{') {
                let mut nesting = 0;
                let mut first = true;
                let mut current = String::new();
                for c in list.chars() {
                    match c {
                        '{' => nesting += 1,
                        '}' if nesting == 0 => break,
                        '}' => nesting -= 1,
                        ',' if nesting == 0 => first = true,
                        _ if first && nesting == 0 && (c.is_ascii_alphanumeric() || c == '_') => {
                            current.push(c);
                        }
                        ':' if first => {
                            found.insert(std::mem::take(&mut current));
                            first = false;
                        }
                        _ => {}
                    }
                    if c == ',' && !current.is_empty() {
                        found.insert(std::mem::take(&mut current));
                    }
                }
                if !current.is_empty() {
                    found.insert(current);
                }
            } else {
                found.insert(word(rest));
            }
        }
    }
    found.remove("");
    found
}

/// The sources in a directory, at any depth.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths.sort();
    let read = |path: &PathBuf| {
        let relative = path.strip_prefix(&src).unwrap().display().to_string();
        let text = std::fs::read_to_string(path).unwrap();
        let room = relative.split(['/', '.']).next().unwrap().to_owned();
        let lines = text.lines().count();
        Source { path: relative, room, code: code_of(&text), lines }
    };
    let is_test =
        |source: &Source| source.path.ends_with("tests.rs") || source.path.contains("/tests/");
    paths.iter().map(read).filter(|source| !is_test(source)).collect()
}

#[test]
fn rooms_import_only_what_they_may() {
    let mut offences = Vec::new();
    for source in sources() {
        if source.room == "lib" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
            offences.push(format!("src/{}: a room that is not in the picture", source.path));
            continue;
        };
        // From room/file.rs the crate is two modules up; from room.rs and room/mod.rs one.
        let parts = source.path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
        for name in named(&source.code, parts) {
            let is_room = ROOMS.iter().any(|(room, _)| *room == name);
            if is_room && name != source.room && !allowed.contains(&name.as_str()) {
                offences
                    .push(format!("src/{}: {} may not import {name}", source.path, source.room));
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// The files and folders of `nft`, and which of the others each may name. `mod` are the types of a ruleset.
const NFT: [(&str, &[&str]); 20] = [
    ("names", &[]),
    ("userdata", &[]),
    ("attr", &[]),
    ("nfta", &[]),
    ("conntrack", &["attr"]),
    ("expr", &["attr", "names", "nfta"]),
    ("mod", &["batch", "dump", "expr", "userdata"]),
    ("build", &["expr", "mod", "names"]),
    ("canonical", &["attr", "expr", "mod", "nfta"]),
    ("wire", &["attr", "expr", "mod", "nfta", "userdata"]),
    ("batch", &["attr", "expr", "mod", "nfta", "wire"]),
    ("dump", &["attr", "batch", "expr", "mod", "nfta", "wire"]),
    ("replay", &["attr", "batch", "mod", "nfta", "wire"]),
    ("trace", &["attr", "batch", "build", "expr", "mod", "names", "nfta", "userdata", "wire"]),
    ("syntax", &["attr", "expr", "mod", "names", "userdata"]),
    ("text", &["attr", "expr", "mod", "names", "nfta", "syntax"]),
    ("json", &["attr", "expr", "mod", "names", "nfta", "syntax", "text"]),
    ("compile", &["build", "expr", "mod", "names", "userdata"]),
    ("explain", &["attr", "expr", "mod", "names", "syntax", "text"]),
    ("hooks", &["attr", "mod", "text"]),
];

#[test]
fn nft_imports_inside_only_what_it_may() {
    let part = |file: &str| {
        let inside = file.strip_prefix("nft/")?;
        Some(inside.split(['/', '.']).next().unwrap_or_default().to_owned())
    };
    let mut offences = BTreeSet::new();
    for (from, to) in Arrows::of(&sources()).all(true) {
        let (Some(from), Some(to)) = (part(&from), part(&to)) else { continue };
        let allowed = NFT.iter().find(|(name, _)| *name == from).map(|(_, allowed)| *allowed);
        if from != to && !allowed.is_some_and(|allowed| allowed.contains(&to.as_str())) {
            offences.insert(format!("nft/{from} may not import nft/{to}"));
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn no_files_import_in_a_circle() {
    let arrows = Arrows::of(&sources()).all(false);
    assert!(arrows.len() > 500, "the reader sees too little: {}", arrows.len());
    let found = circles(&arrows);
    let inside = |circle: &[String]| {
        let both =
            |arrow: &&(String, String)| circle.contains(&arrow.0) && circle.contains(&arrow.1);
        arrows
            .iter()
            .filter(both)
            .map(|(from, to)| format!("  {from} -> {to}\n"))
            .collect::<String>()
    };
    let text: Vec<String> =
        found.iter().map(|circle| format!("{}\n{}", circle.join(" "), inside(circle))).collect();
    assert!(found.is_empty(), "files in a circle:\n{}", text.join("\n"));
}

#[test]
fn dangerous_words_stay_in_their_rooms() {
    let mut offences = Vec::new();
    for source in sources() {
        let mut only_in = |word: &str, rooms: &[&str]| {
            let allowed = rooms.iter().any(|room| source.path.starts_with(room));
            if source.code.contains(word) && !allowed {
                offences.push(format!("src/{}: {word} belongs in {rooms:?}", source.path));
            }
        };
        only_in("unsafe ", &["sys/ffi.rs"]);
        only_in("allow(unsafe_code)", &["sys/ffi.rs"]);
        only_in("env::var", &["config/"]);
        only_in("env::args", &["main.rs"]);
        only_in("Command::new(", &["sys/child.rs", "sys/ffi.rs"]);
        only_in("process::exit", &[]);
        only_in("todo!", &[]);
        only_in("unimplemented!", &[]);
        // Cores own neither a clock nor a socket.
        if ["proto", "nft", "plan", "iso", "facts", "net", "validate", "metrics"]
            .contains(&source.room.as_str())
        {
            for word in [
                "Instant::now",
                "SystemTime::now",
                "tokio::",
                "std::fs::",
                "std::process",
                "UdpSocket",
                "TcpStream",
            ] {
                if source.code.contains(word) {
                    offences
                        .push(format!("src/{}: {word} in a room that only thinks", source.path));
                }
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn files_fit_in_a_head() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.lines > 500)
        .map(|source| format!("src/{}: {} lines", source.path, source.lines))
        .collect();
    assert!(long.is_empty(), "past 500 lines a file wants to be a folder:\n{}", long.join("\n"));
}

/// Functions and their lines, from `fn` to the brace that ends them: rustfmt gives it the same indentation.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let name_in = |line: &'_ str| {
        let start = line.find("fn ").map(|at| at + 3)?;
        let is_qualifier = |c: char| c.is_ascii_alphanumeric() || " ()\"".contains(c);
        let len = line[start..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        (len > 0 && line[..start].chars().all(is_qualifier)).then_some(start..start + len)
    };
    let lines: Vec<&str> = code.lines().map(str::trim_end).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = name_in(line) else { continue };
        let ends = |other: &&str| {
            indentation(other) == indentation(line)
                && (other.ends_with(';') || other.trim_start().starts_with('}'))
        };
        let more = if line.ends_with([';', '}']) {
            Some(0)
        } else {
            lines[at + 1..].iter().position(ends).map(|more| more + 1)
        };
        found.push((&line[name], more.expect("a function ends") + 1));
    }
    found
}

#[test]
fn functions_fit_a_screen() {
    let sources = sources();
    let all: Vec<(&str, &str, usize)> = sources
        .iter()
        .flat_map(|source| {
            let of = |(name, lines)| (source.path.as_str(), name, lines);
            functions(&source.code).into_iter().map(of)
        })
        .collect();
    assert!(all.len() > 2000, "the reader sees too little: {}", all.len());
    let long: Vec<String> = all
        .iter()
        .filter(|(.., lines)| *lines > 70)
        .map(|(path, name, lines)| format!("src/{path}: {name} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "past 70 lines a function wants to be several:\n{}", long.join("\n"));
}

#[test]
fn the_reader_of_functions_counts_from_fn_to_the_brace() {
    let code = "\
pub(crate) const fn one() -> u8 { 1 }
impl A {
    async fn three(&self) {
        fn inside() {}
    }
    pub fn five(
        a: u8,
    ) -> Vec<fn(u8) -> u8> {
        { a }
    }
}
trait B {
    fn declared();
    unsafe extern \"C\" fn declared_long(
        a: u8,
    ) -> u8;
}
let text = \"fn of a text\";
";
    let wanted = [
        ("one", 1),
        ("three", 3),
        ("inside", 1),
        ("five", 5),
        ("declared", 1),
        ("declared_long", 3),
    ];
    assert_eq!(functions(code), wanted);
}

/// A promise is worth what shows it: the tests that SECURITY.md names.
#[test]
fn each_promise_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    ["src", "tests", "bench"].iter().for_each(|dir| walk(&root.join(dir), &mut paths));
    let code: String = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut promises = 0;
    let rows =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise |"));
    for row in rows {
        let columns: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(columns.len(), 4, "{row}");
        let names: Vec<&str> =
            columns[2].split('`').skip(1).step_by(2).filter(|word| !word.contains(' ')).collect();
        assert!(!names.is_empty(), "no test shows it: {row}");
        for name in names {
            assert!(is_test(&code, name), "{name} is no test");
        }
        promises += 1;
    }
    assert!(promises > 20, "{promises}");
}

/// Whether a function of this name has the attribute, among others and above comments.
fn is_test(code: &str, name: &str) -> bool {
    let named = format!("fn {name}()");
    code.match_indices(&named).any(|(at, _)| {
        // Its own line may say `async` and `pub`.
        let above = code[..at].lines().rev().skip(usize::from(!code[..at].ends_with('\n')));
        let above: Vec<&str> = above
            .map(str::trim)
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .collect();
        let is_left_out = above.iter().any(|line| line.starts_with("#[ignore"));
        !is_left_out
            && above.iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn a_function_without_the_attribute_is_no_test() {
    assert!(is_test("#[test]\nfn a() {}\n", "a"));
    let paused = |more: &str| {
        format!(
            "    /// Why.\n    #[tokio::test(start_paused = true)]\n{more}    async fn a() {{}}\n"
        )
    };
    assert!(is_test(&paused(""), "a"));
    assert!(
        !is_test(&paused("    #[ignore = \"a campaign\"]\n"), "a"),
        "what is left out shows nothing"
    );
    assert!(!is_test("#[test]\nfn b() {}\n\nfn a() {}\n", "a"));
    assert!(!is_test("fn a() {}\n", "a"));
    assert!(!is_test("#[test]\nfn b() { let text = \"fn a()\"; }\n", "c"));
}

#[test]
fn the_reader_sees_every_kind_of_import() {
    let rooms = |code: &str, depth| named(&code_of(code), depth).into_iter().collect::<Vec<_>>();
    assert_eq!(rooms("use crate::net::MacAddr;\n", 1), ["net"]);
    assert_eq!(
        rooms("use crate::{apply, plan::{self, x}, sys::y};\n", 1),
        ["apply", "plan", "sys"]
    );
    assert_eq!(rooms("fn f() { crate::exit::story(); }\n", 1), ["exit"]);
    assert_eq!(
        rooms("use berth::sys::x;\nuse berth::{apply, plan};\n", 1),
        ["apply", "plan", "sys"]
    );
    assert_eq!(rooms("use super::super::sys::x;\n", 2), ["sys"]);
    assert_eq!(rooms("// crate::sys\nlet a = 1; // crate::serve\n", 1), Vec::<String>::new());
    assert_eq!(
        rooms("#[cfg(test)]\nmod tests {\n    use crate::sys::x;\n}\nuse crate::net::y;\n", 1),
        ["net"]
    );
}

#[test]
fn the_reader_follows_re_exports_and_sees_circles() {
    let source = |path: &str, code: &str| {
        let room = path.split(['/', '.']).next().unwrap().to_owned();
        Source { path: path.to_owned(), room, code: code.to_owned(), lines: 1 }
    };
    let sources = [
        source(
            "a.rs",
            "pub mod b;\npub mod c;\npub use b::{One, two as other};\nfn f() { c::g() }\n",
        ),
        source("a/b.rs", "use super::Above;\npub struct One;\nfn two() { crate::d::deep::g() }\n"),
        source("a/c.rs", "use super::other;\nuse crate::d::*;\n"),
        source("d/mod.rs", "pub use self::deep::*;\npub mod deep;\n"),
        source("d/deep.rs", "use crate::a::{self, One};\npub fn g() { a::other() }\n"),
    ];
    let arrows = Arrows::of(&sources).all(false);
    let has = |from: &str, to: &str| arrows.contains(&(from.to_owned(), to.to_owned()));
    assert!(
        has("a/c.rs", "a/b.rs") && has("a/b.rs", "d/deep.rs") && has("d/deep.rs", "a/b.rs"),
        "{arrows:?}"
    );
    assert!(has("a.rs", "a/c.rs") && !has("a/b.rs", "a.rs"), "{arrows:?}");
    assert_eq!(circles(&arrows), [["a.rs", "a/b.rs", "a/c.rs", "d/deep.rs", "d/mod.rs"]]);
}

/// The image is built of what .dockerignore leaves: what is compiled in from elsewhere has to be there.
#[test]
fn what_is_compiled_in_is_in_the_images_build_context() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    let mut found = 0;
    for source in sources() {
        for (at, call) in source
            .code
            .match_indices("include_str!(\"")
            .chain(source.code.match_indices("include_bytes!(\""))
        {
            let path = source.code[at + call.len()..].split('"').next().unwrap();
            let from = Path::new("src").join(&source.path);
            let up = path.matches("../").count();
            let base = from.ancestors().nth(up + 1).unwrap();
            let path = base.join(path.trim_start_matches("../"));
            let is_there = path.starts_with("src")
                || context.lines().any(|line| line == format!("!/{}", path.display()));
            assert!(is_there, "src/{} needs {}", source.path, path.display());
            found += 1;
        }
    }
    assert!(found > 1, "the chart's schema and values are compiled in");
}
