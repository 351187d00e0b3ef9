//! Commits are as CONTRIBUTING.md asks, as far as a machine can read that.

use std::process::Command;

/// Commits after this one. Those before were written before there were rules.
const SINCE: &str = "02abaf8";
const LONGEST_SUBJECT: usize = 72;

/// What git prints, or why it does not.
fn git(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments);
    let output = command.output().map_err(|error| format!("git: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// What is wrong with a commit's message.
fn faults(message: &str) -> Vec<&'static str> {
    let (subject, rest) = message.split_once('\n').unwrap_or((message, ""));
    // `area: Do this` or `Do this`.
    let words = subject.split_once(": ").map_or(subject, |(_, words)| words);
    let verb = words.split(' ').next().unwrap_or_default().to_lowercase();
    let inflected =
        verb.len() > 5 && (verb.ends_with("ing") || verb.ends_with("ed")) && verb != "exceed";
    let draft = ["fixup!", "squash!", "amend!"].iter().any(|word| subject.starts_with(word));
    let found = [
        (subject.chars().count() > LONGEST_SUBJECT, "the subject is longer than 72 characters"),
        (subject.contains(';'), "the subject has a semicolon: two changes?"),
        (subject.ends_with('.'), "the subject ends with a full stop"),
        (inflected, "the subject is no imperative"),
        (draft, "it is to be squashed"),
        (!rest.is_empty() && !rest.starts_with('\n'), "no empty line after the subject"),
        (rest.trim().is_empty(), "no body that says why"),
    ];
    found.into_iter().filter_map(|(holds, fault)| holds.then_some(fault)).collect()
}

#[test]
fn commits_keep_to_the_rules() {
    // A shallow clone, an archive or a squashed copy has other commits, written by tools: there is nothing to look at.
    if let Err(error) = git(&["merge-base", "--is-ancestor", SINCE, "HEAD"]) {
        println!(
            "not looked at: {SINCE} is not in the history here (git fetch --unshallow?) {error}"
        );
        return;
    }
    let range = format!("{SINCE}..HEAD");
    let log = git(&["log", "--no-merges", "--format=%h %B%x00", &range]).unwrap();
    let mut wrong = Vec::new();
    for commit in log.split('\0').map(str::trim).filter(|commit| !commit.is_empty()) {
        let (hash, message) = commit.split_once(' ').unwrap();
        let subject = message.lines().next().unwrap();
        wrong.extend(faults(message).into_iter().map(|fault| format!("{hash} {subject}: {fault}")));
    }
    assert!(wrong.is_empty(), "see CONTRIBUTING.md, Commits:\n{}", wrong.join("\n"));
}

#[test]
fn what_the_rules_refuse() {
    let good = "nft: cut a circle\n\nraw was the one name that syntax took from text.\n";
    assert!(faults(good).is_empty());
    for (message, fault) in [
        ("Add a page\n", "no body that says why"),
        ("Add a page\nand why", "no empty line after the subject"),
        ("Add a page; mend another\n\nwhy", "the subject has a semicolon: two changes?"),
        ("Add a page.\n\nwhy", "the subject ends with a full stop"),
        ("docs: Adding a page\n\nwhy", "the subject is no imperative"),
        ("fixup! Add a page\n\nwhy", "it is to be squashed"),
        (
            "Add a page, and say in its subject everything that its body is there to say\n\nwhy",
            "the subject is longer than 72 characters",
        ),
    ] {
        assert_eq!(faults(message), [fault], "{message}");
    }
}
