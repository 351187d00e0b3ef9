//! What `.config/nextest.toml` and the Makefile say of tests: that they are there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The file of a module of a test program.
fn module(program: &str, path: &[&str]) -> Option<String> {
    let stem = path.iter().fold(root().join("tests").join(program), |dir, name| dir.join(name));
    let files = [stem.with_extension("rs"), stem.join("mod.rs")];
    files.iter().find_map(|file| std::fs::read_to_string(file).ok())
}

fn is_there(name: &str) -> bool {
    let mut path: Vec<&str> = name.split("::").collect();
    let function = path.pop().unwrap();
    let mut found: Vec<_> =
        ["netns", "guest"].iter().filter_map(|program| module(program, &path)).collect();
    if path.is_empty() {
        found.push(std::fs::read_to_string(root().join("bench/tests/driver.rs")).unwrap());
    }
    found.iter().any(|text| text.contains(&format!("\nfn {function}()")))
}

/// A test that is renamed would run beside others again, and fail now and then.
#[test]
fn each_test_that_runs_alone_is_there() {
    let text = std::fs::read_to_string(root().join(".config/nextest.toml")).unwrap();
    let names: Vec<&str> =
        text.split("test(=").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(is_there(name), "{name}");
    }
    let modules: BTreeSet<&str> = text
        .split("test(/^")
        .skip(1)
        .flat_map(|rest| rest.split("::/").next().unwrap().trim_matches(['(', ')']).split('|'))
        .collect();
    assert!(modules.contains("cri") && modules.contains("vm"), "{modules:?}");
    for name in modules {
        let path: Vec<&str> = name.split("::").collect();
        assert!(
            ["netns", "guest"].iter().any(|program| module(program, &path).is_some()),
            "{name}"
        );
    }
}

/// Cargo makes a program of every other file there, and it would be linked and grouped by itself.
#[test]
fn there_are_three_test_programs() {
    let entries = std::fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap());
    let programs: BTreeSet<String> = entries
        .filter(|entry| {
            entry.path().extension().is_some_and(|end| end == "rs")
                || entry.path().join("main.rs").exists()
        })
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(programs.into_iter().eq(["guest", "netns", "pure"].map(str::to_owned)));
}
