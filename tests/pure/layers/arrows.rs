//! Which file needs which, as far as a reader of `use` lines and paths can tell: re-exports are followed to the
//! file that has the name, macros and methods are not seen.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

/// A module by its names from the crate's root.
type Path = Vec<String>;

/// What a file names: words bound by `use`, modules all of whose names are, and paths within the code.
#[derive(Default)]
struct Names {
    bound: BTreeMap<String, Path>,
    globs: Vec<Path>,
    paths: BTreeSet<Path>,
}

pub struct Arrows {
    /// The sources by module.
    files: BTreeMap<Path, String>,
    code: BTreeMap<Path, String>,
    names: BTreeMap<Path, Names>,
}

impl Arrows {
    /// Of the library's files.
    pub fn of(sources: &[Source]) -> Self {
        let modules =
            sources.iter().filter(|source| !["main", "verbs"].contains(&source.room.as_str()));
        let modules: Vec<(Path, &Source)> =
            modules.map(|source| (module_of(&source.path), source)).collect();
        let files =
            modules.iter().map(|(module, source)| (module.clone(), source.path.clone())).collect();
        let code =
            modules.iter().map(|(module, source)| (module.clone(), source.code.clone())).collect();
        let mut arrows = Self { files, code, names: BTreeMap::new() };
        for (module, source) in modules {
            let names = arrows.names_in(&module, &source.code);
            arrows.names.insert(module, names);
        }
        arrows
    }

    /// From file to file; from a file to the module it is in when `up`.
    pub fn all(&self, up: bool) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for (module, names) in &self.names {
            let bound = names.bound.values().chain(&names.globs);
            for path in bound.chain(&names.paths) {
                let Some(target) = self.target(path, 8) else { continue };
                if target != *module && (up || !module.starts_with(&target)) {
                    found.insert((self.files[module].clone(), self.files[&target].clone()));
                }
            }
        }
        found
    }

    /// The module that has what an absolute path names.
    fn target(&self, path: &[String], hops: usize) -> Option<Path> {
        let depth = (0..=path.len()).rev().find(|end| self.files.contains_key(&path[..*end]))?;
        let (module, rest) = (path[..depth].to_vec(), &path[depth..]);
        let (Some(name), Some(names)) = (rest.first(), self.names.get(&module)) else {
            return Some(module);
        };
        if hops == 0 {
            return Some(module);
        }
        if let Some(other) = names.bound.get(name) {
            let other: Path = other.iter().chain(&rest[1..]).cloned().collect();
            return self.target(&other, hops - 1);
        }
        let glob = names.globs.iter().filter_map(|glob| self.target(glob, hops - 1));
        glob.into_iter().find(|glob| defines(&self.code[glob], name)).or(Some(module))
    }

    fn names_in(&self, module: &Path, code: &str) -> Names {
        let mut names = Names::default();
        let mut rest = String::new();
        let mut in_use = String::new();
        for line in code.lines() {
            let start = line
                .trim_start()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ");
            if !in_use.is_empty() || start.trim_start_matches("pub ").starts_with("use ") {
                in_use.push_str(line);
                if line.contains(';') {
                    let (_, tree) = in_use.split_once("use ").unwrap();
                    self.add_tree(&mut names, module, &[], tree.trim_end_matches([';', ' ']));
                    in_use.clear();
                }
            } else {
                rest.push_str(line);
                rest.push('\n');
            }
        }
        for path in paths(&rest) {
            let bound = names
                .bound
                .get(&path[0])
                .map(|bound| bound.iter().chain(&path[1..]).cloned().collect());
            names.paths.extend(bound.or_else(|| self.absolute(module, &path)));
        }
        names
    }

    /// One tree of a `use`: `a::{b, c as d, e::*}`.
    fn add_tree(&self, names: &mut Names, module: &Path, before: &[String], tree: &str) {
        let tree = tree.trim();
        if let Some((start, list)) = tree.split_once('{') {
            let list = list.trim_end().trim_end_matches('}');
            let mut before = before.to_vec();
            before.extend(
                start.split("::").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned),
            );
            split_list(list).iter().for_each(|part| self.add_tree(names, module, &before, part));
            return;
        }
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut path: Path =
            before.iter().cloned().chain(path.split("::").map(|w| w.trim().to_owned())).collect();
        path.retain(|word| !word.is_empty());
        let last = path.last().cloned().unwrap_or_default();
        if path.len() > 1 && (last == "self" || last == "*") {
            path.pop();
        }
        let Some(absolute) = self.absolute(module, &path) else { return };
        if last == "*" {
            names.globs.push(absolute);
        } else {
            let name = if alias.is_empty() {
                path.last().cloned().unwrap_or_default()
            } else {
                alias.trim().to_owned()
            };
            names.bound.insert(name, absolute);
        }
    }

    /// A path as seen from a module, from the crate's root; None for other crates.
    fn absolute(&self, module: &Path, path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let from = match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => return Some(module.iter().chain(rest).cloned().collect()),
            "super" => {
                let ups = path.iter().take_while(|word| *word == "super").count();
                let kept = module.len().checked_sub(ups)?;
                return Some(module[..kept].iter().chain(&path[ups..]).cloned().collect());
            }
            _ => module.iter().chain([first]).cloned().collect::<Path>(),
        };
        self.files.contains_key(&from).then(|| from.iter().chain(rest).cloned().collect())
    }
}

/// `nft/text/value.rs` → nft, text, value.
fn module_of(path: &str) -> Path {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|word| *word != "lib").map(str::to_owned).collect()
}

/// Commas outside of braces.
fn split_list(list: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Words joined by `::`.
fn paths(code: &str) -> Vec<Path> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let runs = code.split(|c| !is_path(c)).filter(|run| run.contains("::"));
    let words =
        runs.map(|run| run.split(':').filter(|word| !word.is_empty()).map(str::to_owned).collect());
    words.filter(|path: &Path| path.len() > 1).collect()
}

fn defines(code: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "const", "static", "type", "trait", "mod"].iter().any(|kind| {
        let item = format!("{kind} {name}");
        code.match_indices(&item).any(|(at, _)| {
            !code[at + item.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        })
    })
}

/// Files that reach each other, the largest circle first.
pub fn circles(arrows: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    arrows.iter().for_each(|(from, to)| next.entry(from).or_default().push(to));
    let reached = |from: &str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open = next.get(from).cloned().unwrap_or_default();
        while let Some(file) = open.pop() {
            if seen.insert(file) {
                open.extend(next.get(file).into_iter().flatten());
            }
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|file| (*file, reached(file))).collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, to) in &reach {
        if to.contains(file) {
            let both =
                to.iter().filter(|other| reach.get(*other).is_some_and(|back| back.contains(file)));
            circles.insert(both.map(|file| (*file).to_owned()).collect());
        }
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}
