//! How far a download is: a bar on a terminal, a line every few seconds otherwise.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::confine;
use crate::log::Queue;
use crate::sys::image::Progress;
use crate::sys::stdio;

const EVERY: Duration = Duration::from_secs(5);
/// A terminal that is not told about its width.
const COLUMNS: u16 = 80;
/// How long the end of the bar may take to be drawn.
const FLUSH_WITHIN: Duration = Duration::from_millis(100);

/// How far a download is, for whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetching {
    pub since: Instant,
    pub done_bytes: u64,
    /// None: the server did not say.
    pub size_bytes: Option<u64>,
    /// None: it goes on.
    pub until: Option<Instant>,
}

impl Fetching {
    pub(super) fn since(since: Instant) -> Self {
        Self { since, done_bytes: 0, size_bytes: None, until: None }
    }

    pub(super) fn at(self, progress: Progress) -> Self {
        Self { done_bytes: progress.done, size_bytes: progress.total, ..self }
    }
}

/// One download.
pub(super) struct Bar {
    bar: Option<(ProgressBar, Queue)>,
    source: String,
    told: Instant,
}

#[expect(clippy::disallowed_methods, reason = "a verb: it tells something every few seconds")]
impl Bar {
    /// Shows progress on a terminal, or logs it every few seconds.
    pub fn new(source: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let words = "{bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(words)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let queue = Queue::start(stdio::stderr(), |_| {}, confine::idle).ok()?;
            let target = ProgressDrawTarget::term_like(Box::new(Screen(queue.clone())));
            Some((ProgressBar::with_draw_target(None, target).with_style(style), queue))
        });
        let bar = bar.flatten();
        tracing::info!(source, "fetching the image");
        Self { bar, source: source.to_owned(), told: Instant::now() }
    }

    /// Octets so far, and of how many when the server said so.
    pub fn show(&mut self, progress: Progress) {
        let Progress { done, total } = progress;
        if let Some((bar, _)) = &self.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        } else if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let percent =
                total.filter(|total| *total > 0).map(|total| done.saturating_mul(100) / total);
            tracing::info!(source = self.source, done, total, percent, "fetching");
        }
    }

    /// Clears the bar.
    pub fn finish(&self) {
        if let Some((bar, queue)) = &self.bar {
            bar.finish_and_clear();
            queue.close(FLUSH_WITHIN);
        }
    }
}

/// A terminal that may be stopped: drawing never waits for it, and what it does not take is not missed.
#[derive(Debug)]
struct Screen(Queue);

impl Screen {
    fn draw(&self, text: &str) -> io::Result<()> {
        self.0.clone().write_all(text.as_bytes())
    }

    /// ECMA-48: the cursor by `n`, where that is not 0, which would mean 1.
    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.draw(&format!("\u{1b}[{n}{direction}")) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        stdio::stderr().columns().unwrap_or(COLUMNS)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
