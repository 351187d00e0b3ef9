//! Writes man pages and shell completions from the definition that `berth` itself reads its arguments by.
//!
//! ```console
//! $ make man      # or: cargo run --example man -- DIR
//! ```
//!
//! `DIR/man1/` gets a page for each verb, `DIR/completions/` what bash, zsh and fish read.

use std::io;
use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> io::Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "target/man".into()));
    let (pages, completions) = (dir.join("man1"), dir.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    let definition = berth::cli::definition();
    clap_mangen::generate_to(definition.clone(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut definition.clone(), "berth", &completions)?;
    }
    Ok(())
}
