//! What `make man` writes is whole: every verb has a page, and bash, asked as at a prompt, offers verbs, flags and words.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::builder::PossibleValue;

#[path = "../../examples/man.rs"]
mod man;

/// Every verb and verb of a verb, as words.
fn verbs(command: &clap::Command, before: &[String], found: &mut Vec<Vec<String>>) {
    for verb in command.get_subcommands() {
        let words = [before, &[verb.get_name().to_owned()]].concat();
        verbs(verb, &words, found);
        found.push(words);
    }
}

fn all_verbs() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    verbs(&berth::cli::definition(), &[], &mut found);
    assert!(found.len() > 12, "{found:?}");
    found
}

/// What bash offers for the last of these words.
fn offers(dir: &Path, words: &[&str]) -> BTreeSet<String> {
    let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                  _berth berth \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
                  printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).arg(dir.join("completions/berth.bash"));
    let output = bash.arg("berth").args(words).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(complaints, "");
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_verb_has_a_page_and_is_offered_by_every_shell() {
    let dir = tempfile::tempdir().unwrap();
    man::write(dir.path()).unwrap();
    let text = |path: &str| std::fs::read_to_string(dir.path().join(path)).unwrap();
    let (zsh, fish) = (text("completions/_berth"), text("completions/berth.fish"));
    for verb in all_verbs() {
        let page = text(&format!("man1/berth-{}.1", verb.join("-")));
        assert!(page.contains(".SH SYNOPSIS"), "{verb:?}");
        let (last, before) = verb.split_last().unwrap();
        let words: Vec<&str> = before.iter().map(String::as_str).chain([""]).collect();
        assert!(offers(dir.path(), &words).contains(last), "bash: {verb:?}");
        assert!(zsh.contains(&format!("({last})")), "zsh: {verb:?}");
        assert!(fish.contains(&format!("-a \"{last}\"")), "fish: {verb:?}");
    }
}

#[test]
fn flags_that_take_some_few_words_offer_them() {
    let dir = tempfile::tempdir().unwrap();
    man::write(dir.path()).unwrap();
    let definition = berth::cli::definition();
    let mut seen = 0;
    for verb in definition.get_subcommands() {
        for arg in verb.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let Some(flag) = arg.get_long() else { continue };
            let known: Vec<PossibleValue> = arg.get_possible_values();
            let known: Vec<String> = known.iter().map(|word| word.get_name().to_owned()).collect();
            let words = if known.is_empty() {
                arg.get_env().and_then(|name| man::words(name.to_str()?)).unwrap_or_default()
            } else {
                known
            };
            if words.is_empty() {
                continue;
            }
            seen += 1;
            let offered = offers(dir.path(), &[verb.get_name(), &format!("--{flag}"), ""]);
            assert_eq!(offered, words.into_iter().collect(), "{} --{flag}", verb.get_name());
        }
    }
    assert!(seen > 40, "{seen}");
    let accel = offers(dir.path(), &["run", "--accel", ""]);
    assert_eq!(accel, ["auto", "kvm", "tcg"].map(str::to_owned).into());
    assert_eq!(man::words("BERTH_ON_POWEROFF").unwrap(), ["exit", "restart"]);
    assert_eq!(man::words("BERTH_ON_PANIC").unwrap(), ["exit", "reset", "pause"]);
    assert_eq!(man::words("IMG_VCPU"), None);
    assert_eq!(man::words("BERTH_NAME"), None);
}
