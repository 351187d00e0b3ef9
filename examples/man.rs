//! Writes man pages and shell completions from the definition that `berth` itself reads its arguments by.
//!
//! ```console
//! $ make man      # or: cargo run --example man -- DIR
//! ```
//!
//! `DIR/man1/` gets a page for each verb, `DIR/completions/` what bash, zsh and fish read.

use std::io;
use std::path::{Path, PathBuf};

use berth::config;
use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;

/// No flag takes it.
const NO_WORD: &str = "?";

#[allow(dead_code, reason = "tests take this file for what is below")]
fn main() -> io::Result<()> {
    write(&PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "target/man".into())))
}

/// Writes all of it to `dir`, which is made where it is not there.
pub fn write(dir: &Path) -> io::Result<()> {
    let (pages, completions) = (dir.join("man1"), dir.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    let definition = berth::cli::definition();
    clap_mangen::generate_to(definition.clone(), &pages)?;
    let mut definition = with_words(definition);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut definition, "berth", &completions)?;
    }
    Ok(())
}

/// The definition with the words of flags that take some few: each is text to clap, and read by `config`.
fn with_words(command: Command) -> Command {
    command.mut_args(with_words_of).mut_subcommands(with_words)
}

fn with_words_of(arg: Arg) -> Arg {
    if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() {
        return arg;
    }
    let named = |names: &[&str]| {
        let mut said = arg.get_value_names().unwrap_or_default().iter();
        said.any(|name| names.contains(&name.as_str()))
    };
    if named(&["DIR"]) {
        return arg.value_hint(ValueHint::DirPath);
    }
    if named(&["PATH", "FILE", "PROGRAM"]) {
        return arg.value_hint(ValueHint::AnyPath);
    }
    match arg.get_env().and_then(|variable| variable.to_str()).and_then(words) {
        Some(words) => {
            // clap wants them for as long as the program runs, which is not long.
            let words = words.into_iter().map(|word| &*word.leak());
            arg.value_parser(PossibleValuesParser::new(words))
        }
        None => arg,
    }
}

/// The words that a variable may be, as the refusal of another one names them; None where it may be more than some words.
pub fn words(variable: &str) -> Option<Vec<String>> {
    let refused = config::check(variable, NO_WORD).err()?;
    let words: Vec<&str> = refused.reason.strip_prefix("expected ")?.split(" or ").collect();
    let is_word = |word: &&str| {
        word.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit())
            && config::check(variable, word).is_ok()
    };
    words.iter().all(is_word).then(|| words.into_iter().map(str::to_owned).collect())
}
