//! `berth backup` and `berth resize`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use berth::cli::Output;
use berth::cli::disks::{Backup, Resize};
use berth::config;
use berth::control::{self, disks::Ask};
use berth::exit::{Code, Failure};
use berth::log::one_line;
use berth::supervise::storage::{Progress, Wanted};
use berth::sys::stdio;
use serde_json::Value;

use super::{list, word};

fn dir(state_dir: Option<&PathBuf>) -> &Path {
    state_dir.map_or(Path::new(config::STATE_DIR), PathBuf::as_path)
}

/// Asks for it, and shows how far it is on a terminal.
pub async fn backup(backup: &Backup) -> Result<Code, Failure> {
    let Backup { target, incremental, speed, state_dir, output } = backup;
    // The launcher has a directory of its own.
    let target = std::path::absolute(target)
        .map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", target.display())))?;
    let is_seen = std::io::stderr().is_terminal();
    let wanted = Wanted { target, incremental: *incremental, speed: *speed };
    let answer = control::disks::ask(dir(state_dir.as_ref()), &Ask::Backup(wanted), |progress| {
        if is_seen {
            let _ = write!(stdio::stderr(), "\r{}\x1b[K", shown(&progress));
        }
    })
    .await;
    if is_seen {
        let _ = write!(stdio::stderr(), "\r\x1b[K");
    }
    let answer = answer?;
    super::print(&match output {
        Output::Json => format!("{answer:#}\n"),
        Output::Text => done(&answer),
    })
}

/// Asks for it.
pub async fn resize(resize: &Resize) -> Result<Code, Failure> {
    let Resize { size, state_dir, output } = resize;
    let ask = Ask::Resize { size: *size };
    let answer = control::disks::ask(dir(state_dir.as_ref()), &ask, |_| {}).await?;
    super::print(&match output {
        Output::Json => format!("{answer:#}\n"),
        Output::Text => list(&answer).iter().map(resized).collect(),
    })
}

fn shown(progress: &Progress) -> String {
    let Progress { disk, done, total } = progress;
    let percent = done.saturating_mul(100).checked_div(*total).unwrap_or(0);
    format!("{} {percent} %, {} of {} MiB", one_line(disk), done >> 20, total >> 20)
}

fn done(answer: &Value) -> String {
    let mut text = String::new();
    for file in list(&answer["files"]) {
        let kind = match &file["on"] {
            Value::Null => "full".to_owned(),
            on => format!("an increment to {}", word(on)),
        };
        text.push_str(&format!(
            "{} {} {} bytes, {kind}\n",
            word(&file["disk"]),
            word(&file["path"]),
            word(&file["file_bytes"])
        ));
    }
    text.push_str(&match answer["consistency"].as_str() {
        Some("file-system") => format!(
            "consistent: its file systems were frozen for {} ms\n",
            word(&answer["frozen_ms"])
        ),
        _ => "crash-consistent: as after a power cut\n".to_owned(),
    });
    for warning in list(&answer["warnings"]) {
        text.push_str(&format!("warning: {}\n", word(warning)));
    }
    text
}

fn resized(disk: &Value) -> String {
    format!(
        "{} {} bytes, before {}\n",
        word(&disk["disk"]),
        word(&disk["size_bytes"]),
        word(&disk["from_bytes"])
    )
}
