//! The directories of an image, in the order of its path table: level by level, parents first, by name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Error, File};

/// All directories; the first is the root.
pub(super) struct Tree {
    pub directories: Vec<Directory>,
}

pub(super) struct Directory {
    /// Empty for the root.
    pub name: String,
    /// Name in ISO 9660 characters, unique among its siblings.
    pub iso: String,
    /// Index of the parent; the root is its own.
    pub parent: usize,
    pub entries: Vec<Entry>,
}

pub(super) struct Entry {
    pub name: String,
    pub iso: String,
    pub is: Is,
    pub mode: u32,
}

#[derive(Clone, Copy)]
pub(super) enum Is {
    Directory(usize),
    File(usize),
}

/// What a directory holds while the tree grows.
#[derive(Default)]
struct Branch {
    directories: BTreeMap<String, Branch>,
    files: BTreeMap<String, (usize, u32)>,
}

impl Tree {
    /// Sorts files into directories (ECMA-119 §6.9.1).
    pub fn new(files: &[File]) -> Result<Self, Error> {
        let mut root = Branch::default();
        for (number, file) in files.iter().enumerate() {
            root.insert(file, number)?;
        }
        Ok(Self::flatten(&root))
    }

    fn flatten(root: &Branch) -> Self {
        let start =
            Directory { name: String::new(), iso: String::new(), parent: 0, entries: vec![] };
        let mut directories = vec![start];
        let mut queue = std::collections::VecDeque::from([(0, root)]);
        while let Some((number, branch)) = queue.pop_front() {
            let mut taken = BTreeSet::new();
            let mut children: Vec<(String, &String, Option<&Branch>)> = Vec::new();
            for (name, branch) in &branch.directories {
                children.push((mangle(name, false, &mut taken), name, Some(branch)));
            }
            for name in branch.files.keys() {
                children.push((mangle(name, true, &mut taken), name, None));
            }
            children.sort_by(|a, b| a.0.cmp(&b.0));
            let mut entries = Vec::new();
            for (iso, name, below) in children {
                let (is, mode) = match (below, branch.files.get(name)) {
                    (Some(below), _) => {
                        let index = directories.len();
                        let directory = Directory {
                            name: name.clone(),
                            iso: iso.clone(),
                            parent: number,
                            entries: vec![],
                        };
                        directories.push(directory);
                        queue.push_back((index, below));
                        (Is::Directory(index), 0o755)
                    }
                    (None, Some(&(file, mode))) => (Is::File(file), mode),
                    (None, None) => continue,
                };
                entries.push(Entry { name: name.clone(), iso, is, mode });
            }
            if let Some(directory) = directories.get_mut(number) {
                directory.entries = entries;
            }
        }
        Self { directories }
    }
}

impl Branch {
    fn insert(&mut self, file: &File, number: usize) -> Result<(), Error> {
        let components: Vec<&str> = file.path.split('/').collect();
        if !components.iter().all(|component| is_component(component)) {
            return Err(Error::Path(file.path.clone()));
        }
        let twice = || Error::Twice(file.path.clone());
        let mut branch = self;
        let (name, above) = components.split_last().ok_or_else(twice)?;
        for component in above {
            if branch.files.contains_key(*component) {
                return Err(twice());
            }
            branch = branch.directories.entry((*component).to_owned()).or_default();
        }
        let mode = file.mode & 0o777;
        let taken = branch.directories.contains_key(*name);
        if taken || branch.files.insert((*name).to_owned(), (number, mode)).is_some() {
            Err(twice())
        } else {
            Ok(())
        }
    }
}

/// Bounded so that a Rock Ridge record (255 octets) and a Joliet name (64 characters) hold it.
fn is_component(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= 100 && text.chars().count() <= 64;
    fits && text != "." && text != ".." && text.chars().all(|c| c >= ' ' && u32::from(c) <= 0xffff)
}

/// A level 2 name: `A-Z 0-9 _`, files with one dot and `;1`, at most 31, made unique by a number.
fn mangle(name: &str, file: bool, taken: &mut BTreeSet<String>) -> String {
    let plain = |text: &str, most: usize| -> String {
        text.chars()
            .take(most)
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect()
    };
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if file => (stem, extension),
        _ => (name, ""),
    };
    let mut number = 0;
    loop {
        let tail = if number == 0 { String::new() } else { format!("_{number}") };
        let stem = plain(stem, 20);
        let id = if file {
            format!("{stem}{tail}.{};1", plain(extension, 3))
        } else {
            format!("{stem}{tail}")
        };
        if taken.insert(id.clone()) {
            return id;
        }
        number += 1;
    }
}
