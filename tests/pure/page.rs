//! The page in the browser: what is committed of it was built of what is committed, and everything in it is licensed. Without npm:
//! `make web-check` builds it again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// All of it, as it is sent and as it is in the binary.
const MAX_GZIP_BYTES: u64 = 140_000;
const ALLOWED: [&str; 6] = ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"];
const REGISTRY: &str = "https://registry.npmjs.org/";

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(web().join(path)).unwrap_or_else(|error| panic!("web/{path}: {error}"))
}

fn text(path: &str) -> String {
    String::from_utf8(read(path)).unwrap()
}

fn unpacked(path: &str) -> String {
    let mut text = String::new();
    GzDecoder::new(read(path).as_slice()).read_to_string(&mut text).unwrap();
    text
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The manifest's lines that begin with a word, without it.
fn lines(kind: &str) -> Vec<Vec<String>> {
    let manifest = text("dist/manifest");
    let lines = manifest.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(word, _)| *word == kind)
        .map(|(_, rest)| rest.split(' ').map(str::to_owned).collect())
        .collect()
}

/// Path below web/ and SHA-256.
fn digests(kind: &str) -> BTreeMap<String, String> {
    lines(kind).into_iter().map(|line| (line[1].clone(), line[0].clone())).collect()
}

/// Files right in a directory of web/.
fn files(dir: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(web().join(dir)).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| path.strip_prefix(web()).unwrap().display().to_string()).collect()
}

fn lock() -> Value {
    serde_json::from_slice(&read("package-lock.json")).unwrap()
}

#[test]
fn the_committed_page_is_of_the_committed_sources() {
    let sources = digests("source");
    let mut present = files("src");
    present.extend(files("."));
    present.remove(".gitignore");
    assert_eq!(sources.keys().cloned().collect::<BTreeSet<_>>(), present, "run `make web`");
    let mut built = digests("built");
    let names: BTreeSet<String> = built.keys().cloned().collect();
    let mut present = files("dist");
    assert!(present.remove("dist/manifest"));
    assert_eq!(names, present, "run `make web`");
    built.extend(sources);
    for (path, recorded) in built {
        assert_eq!(digest(&read(&path)), recorded, "web/{path} was changed: run `make web`");
    }
}

#[test]
fn the_page_is_small_and_says_by_names_what_is_in_it() {
    let table = text("dist/assets.rs");
    let index = unpacked("dist/index.html.gz");
    let mut total = 0;
    for (file, extension) in [
        ("dist/index.html.gz", None),
        ("dist/licences.txt.gz", None),
        ("dist/page.js.gz", Some("js")),
        ("dist/page.css.gz", Some("css")),
    ] {
        total += read(file).len() as u64;
        let content = unpacked(file);
        assert!(content.len() > 1000, "{file}");
        if let Some(extension) = extension {
            let hash = &digest(content.as_bytes())[..12];
            let name = format!("assets/page-{hash}.{extension}");
            assert!(table.contains(&format!("path: \"/{name}\"")), "{name} in {table}");
            assert!(index.contains(&format!("\"{name}\"")), "{name} in the index");
        }
    }
    assert!(total <= MAX_GZIP_BYTES, "{total} bytes");
}

/// It works below any path, and asks nobody but berth: the Content-Security-Policy would refuse the rest.
#[test]
fn the_index_has_relative_addresses_and_no_script_of_its_own() {
    let index = unpacked("dist/index.html.gz");
    let addresses: Vec<&str> = ["src=\"", "href=\"", "action=\""]
        .iter()
        .flat_map(|start| index.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()))
        .collect();
    assert!(addresses.len() >= 4, "{addresses:?}");
    for address in addresses {
        let relative = !address.starts_with('/') && !address.contains("://");
        assert!(relative || address.starts_with("data:image/svg+xml,"), "{address}");
    }
    assert_eq!(index.matches("<script").count(), 1);
    assert!(index.contains("<script type=\"module\" src=\"assets/"));
    assert!(!index.contains(" onclick=") && !index.contains(" onload="));
}

#[test]
fn every_package_of_the_page_is_licensed_and_said() {
    let lock = lock();
    let notices = unpacked("dist/licences.txt.gz");
    let packages = lines("package");
    let names: BTreeSet<&str> = packages.iter().map(|line| line[0].as_str()).collect();
    let dependencies = lock["packages"][""]["dependencies"].as_object().unwrap();
    assert_eq!(names, dependencies.keys().map(String::as_str).collect());
    for line in &packages {
        let [name, version, licence] = line.as_slice() else { panic!("{line:?}") };
        let locked = &lock["packages"][format!("node_modules/{name}")];
        assert_eq!(locked["version"], version.as_str(), "{name}");
        assert_eq!(locked["license"], licence.as_str(), "{name}");
        assert!(ALLOWED.contains(&licence.as_str()), "{name}: {licence}");
        assert!(notices.contains(&format!("\n{name} {version} ({licence})\n")), "{name}");
        let archive = locked["resolved"].as_str().unwrap();
        assert!(notices.contains(archive), "where {name} is had: {archive}");
    }
    for words in [
        "Mozilla Public License Version 2.0",
        "noVNC is Copyright (C)",
        "Solly Ross (@directxman12)",
        "Copyright (C) 2014-2016 by Vitaly Puzrin",
        "The xterm.js authors (https://github.com/xtermjs/xterm.js)",
        "Microsoft Corporation",
    ] {
        assert!(notices.contains(words), "{words}");
    }
}

/// Of npm's registry under its own name, with the digest of what was had.
#[test]
fn every_package_is_locked_by_digest() {
    let lock = lock();
    let packages = lock["packages"].as_object().unwrap();
    assert!(packages.len() > 10);
    for (path, package) in packages.iter().filter(|(path, _)| !path.is_empty()) {
        assert!(package["resolved"].as_str().unwrap().starts_with(REGISTRY), "{path}: {package}");
        assert!(package["integrity"].as_str().unwrap().starts_with("sha512-"), "{path}");
        assert!(package["license"].is_string(), "{path} says no licence");
    }
}
