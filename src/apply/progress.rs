//! How far a download is: a bar on a terminal, a line every few seconds otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::sys::image::Progress;

const EVERY: Duration = Duration::from_secs(5);

/// One download.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    source: String,
    told: Instant,
}

#[expect(clippy::disallowed_methods, reason = "a verb: it tells something every few seconds")]
impl Bar {
    pub fn new(source: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let words = "{bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(words).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::no_length().with_style(style)
        });
        tracing::info!(source, "fetching the image");
        Self { bar, source: source.to_owned(), told: Instant::now() }
    }

    pub fn show(&mut self, progress: Progress) {
        let Progress { done, total } = progress;
        if let Some(bar) = &self.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        } else if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let percent = total.filter(|total| *total > 0).map(|total| done.saturating_mul(100) / total);
            tracing::info!(source = self.source, done, total, percent, "fetching");
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
