//! The last lines of the log, for a page that shows them: kept from the moment they are wanted, bounded in lines and octets.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

const MAX_LINES: usize = 100;
const MAX_BYTES: usize = 32 * 1024;
/// Of one line.
const MAX_LINE_BYTES: usize = 1024;

static RECENT: OnceLock<Mutex<Recent>> = OnceLock::new();

/// Lines are kept from now on.
pub fn keep() {
    let _ = RECENT.get_or_init(Mutex::default);
}

/// The last lines, oldest first, each with its end; at most 100 lines and 32 KiB. Nothing where none are kept.
pub fn recent() -> String {
    RECENT
        .get()
        .map(|recent| recent.lock().unwrap_or_else(PoisonError::into_inner).text())
        .unwrap_or_default()
}

/// A line as it is written, if lines are kept.
pub(super) fn add(line: &str) {
    if let Some(recent) = RECENT.get() {
        recent.lock().unwrap_or_else(PoisonError::into_inner).add(line);
    }
}

#[derive(Debug, Default)]
struct Recent {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Recent {
    fn add(&mut self, line: &str) {
        let line = plain(line, MAX_LINE_BYTES);
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(gone) = self.lines.pop_front() else { return };
            self.bytes -= gone.len();
        }
    }

    fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect()
    }
}

/// Without colours, cut to so many octets, with one end of line. Other ESC are not in a line of ours.
fn plain(line: &str, max: usize) -> String {
    let mut parts = line.trim_end_matches('\n').split('\x1b');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let mut recent = Recent::default();
        for number in 0..1000 {
            recent.add(&format!("line {number}\n"));
        }
        let text = recent.text();
        assert_eq!(text.lines().count(), MAX_LINES);
        assert!(text.starts_with("line 900\n") && text.ends_with("line 999\n"), "{text}");
        for _ in 0..1000 {
            recent.add(&"ü".repeat(100_000));
        }
        let text = recent.text();
        assert!(text.len() <= MAX_BYTES && recent.bytes == text.len(), "{}", text.len());
        assert!(text.lines().all(|line| line.len() <= MAX_LINE_BYTES + 3 && line.ends_with('…')));
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(
            plain("\x1b[2m12:00\x1b[0m \x1b[32m INFO\x1b[0m hm\n", 1024),
            "12:00  INFO hm\n"
        );
    }
}
