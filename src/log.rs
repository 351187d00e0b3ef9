//! The way of log lines to stderr: a queue with a bound in octets, and a thread that writes.
//!
//! A pipe that nobody reads, or a terminal stopped by Ctrl-S, blocks whoever writes to it (`write(2)`). That must
//! not be the thread that answers DHCP and signals. Lines that find the queue full are dropped and counted, and
//! their number is told as soon as writing goes on.
//!
//! Names of files, answers of servers and words of QEMU end in the log: whatever is in them, a line stays one line
//! ([`one_line`]).

mod recent;

pub use recent::{keep, recent};

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// Octets that wait for the reader; as many may be with the thread that writes.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// A text without what ends a line, moves a terminal's cursor or changes the order of what is read: that is written as
/// JSON writes it, so that a line of JSON stays one as well.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            character if is_control(character) => {
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            character => line.push(character),
        }
    }
    line.into()
}

/// Cc of Unicode, its separators of lines, what turns the order of reading, and what is not seen.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// [`one_line`] of a line with its end. Colours are the formatter's: it lets no ESC through that is in a message or field.
fn line_of(octets: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(octets);
    let body = text.strip_suffix('\n').unwrap_or(&text);
    if !body.contains(is_control) {
        return text;
    }
    let mut parts = body.split('\x1b');
    let mut line = parts.next().map(one_line).unwrap_or_default().into_owned();
    for part in parts {
        let parameters = |c: char| c.is_ascii_digit() || c == ';';
        let after = part.strip_prefix('[').map(|rest| rest.trim_start_matches(parameters));
        match after.and_then(|rest| rest.strip_prefix('m')) {
            Some(rest) => {
                line.push('\x1b');
                line.push_str(part.strip_suffix(rest).unwrap_or_default());
                line.push_str(&one_line(rest));
            }
            None => {
                line.push_str("\\u001b");
                line.push_str(&one_line(part));
            }
        }
    }
    if text.ends_with('\n') {
        line.push('\n');
    }
    line.into()
}

/// One queue and its thread. Clones are the same queue. What is written is one line for each call, and never blocks.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Known once the thread runs.
    writer: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines dropped since `waiting` was taken the last time: all of them came after it.
    lost: u64,
    /// Lines of the thread that writes: the number of lost ones, which waits behind nothing.
    notice: Vec<u8>,
    writing: bool,
    closed: bool,
}

impl Queue {
    /// Begins to write, on a thread that begins with `begin`. `on_lost` is called on the thread that writes when it goes on after lines were lost, and may log.
    pub fn start(
        output: impl Write + Send + 'static,
        on_lost: fn(u64),
        begin: fn(),
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Self(shared.clone());
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            begin();
            shared.write_all(output, on_lost);
        })?;
        Ok(queue)
    }

    /// Waits until all is written, but not longer than that; nothing is taken any more.
    pub fn close(&self, within: Duration) {
        let mut state = self.0.lock();
        state.closed = true;
        self.0.changed.notify_all();
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        drop(self.0.changed.wait_timeout_while(state, within, busy));
    }
}

impl Write for Queue {
    /// Takes the line, or counts it.
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let line = line_of(octets);
        recent::add(&line);
        let line = line.as_bytes();
        let mut state = self.0.lock();
        if self.0.writer.get() == Some(&std::thread::current().id()) {
            state.notice.extend_from_slice(line);
        } else if state.lost > 0
            || state.closed
            || state.waiting.len() + line.len() > MAX_WAITING_BYTES
        {
            // Once one is lost, all are until the queue is empty: the gap has one place.
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
            self.0.changed.notify_all();
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut output: impl Write, on_lost: fn(u64)) {
        let _ = self.writer.set(std::thread::current().id());
        let mut lost = 0;
        while let Some((lines, after)) = self.take() {
            match output.write_all(&lines) {
                Ok(()) => lost += after,
                // A full volume, or a reader that is gone: either may be over next time.
                Err(_) => {
                    lost += after
                        + u64::try_from(lines.iter().filter(|octet| **octet == b'\n').count())
                            .unwrap_or(0);
                    continue;
                }
            }
            if lost > 0 {
                on_lost(std::mem::take(&mut lost));
                let notice = std::mem::take(&mut self.lock().notice);
                let _ = output.write_all(&notice);
            }
        }
    }

    /// The lines that wait, and how many were lost after them. None: closed, and all is written.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let mut state = self.lock();
        state.writing = false;
        self.changed.notify_all();
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state =
            self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return None;
        }
        state.writing = true;
        Some((std::mem::take(&mut state.waiting), std::mem::take(&mut state.lost)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const LINE: &[u8] = &[b'x'; 1023];

    fn write(queue: &mut Queue, lines: usize) {
        for _ in 0..lines {
            queue.write_all(LINE).unwrap();
            queue.write_all(b"\n").unwrap();
        }
    }

    /// Reads until `text` was there; gives all that was read.
    fn read_until(reader: &mut UnixStream, text: &str) -> String {
        reader.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut read = String::new();
        while !read.contains(text) {
            let mut chunk = [0; 4096];
            let length = reader.read(&mut chunk).unwrap();
            assert!(length > 0, "ended without {text:?}");
            read.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        }
        read
    }

    static LOST: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_reader_that_stops_costs_lines_and_no_time_or_memory_and_they_are_counted() {
        let (output, mut reader) = UnixStream::pair().unwrap();
        let on_lost = |lost| {
            LOST.fetch_add(lost, Ordering::Relaxed);
            tracing::error!(lost, "lines lost");
        };
        let queue = Queue::start(output, on_lost, || {}).unwrap();
        let writer = queue.clone();
        // The thread that writes logs as well.
        tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_ansi(false)
            .init();
        const LINES: u64 = 20_000;
        for number in 0..LINES {
            tracing::info!(number, "a line that nobody reads now, and long enough to fill a queue");
            assert!(queue.0.lock().waiting.len() <= MAX_WAITING_BYTES);
        }
        let read = read_until(&mut reader, "lines lost lost=");
        let kept = u64::try_from(read.matches("a line that").count()).unwrap();
        assert_eq!(kept + LOST.load(Ordering::Relaxed), LINES);
        assert!(
            read.contains(&format!("number={}\nERROR", kept - 1)),
            "the gap is told where it is"
        );
        tracing::info!("the next");
        read_until(&mut reader, "the next");
    }

    #[test]
    fn the_end_waits_for_a_reader_and_not_for_one_that_never_comes() {
        let (output, mut reader) = UnixStream::pair().unwrap();
        let mut queue = Queue::start(output, |_| {}, || {}).unwrap();
        write(&mut queue, 3);
        queue.close(Duration::from_secs(20));
        let mut read = vec![0; 3 * 1024];
        reader.read_exact(&mut read).unwrap();

        let (output, _reader) = UnixStream::pair().unwrap();
        let mut queue = Queue::start(output, |_| {}, || {}).unwrap();
        write(&mut queue, 2000);
        queue.close(Duration::from_millis(50));
        assert!(queue.0.lock().writing, "somebody read");
    }

    /// Whether each ESC begins a colour.
    fn is_dyed_at_most(line: &str) -> bool {
        let parameter = |c: char| c.is_ascii_digit() || c == ';';
        let is_colour = |rest: &str| {
            rest.strip_prefix('[')
                .is_some_and(|rest| rest.trim_start_matches(parameter).starts_with('m'))
        };
        line.split('\x1b').skip(1).all(is_colour)
    }

    /// Names of files in a volume with a newline made lines of the log that berth never wrote.
    #[test]
    fn nothing_in_a_message_or_field_ends_a_line() {
        let forged = "a\n2026-01-01T00:00:00Z ERROR FORGED\r\x1b[2K\u{85}\u{2028}\t\u{9b}1A";
        for json in [false, true] {
            let (output, mut reader) = UnixStream::pair().unwrap();
            let queue = Queue::start(output, |_| {}, || {}).unwrap();
            let writer = queue.clone();
            let lines =
                tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(!json);
            let log = || {
                tracing::warn!("{forged}");
                tracing::warn!(field = %forged, other = forged, "message");
            };
            if json {
                tracing::subscriber::with_default(lines.json().flatten_event(true).finish(), log);
            } else {
                tracing::subscriber::with_default(lines.finish(), log);
            }
            queue.close(Duration::from_secs(20));
            drop(queue);
            let mut read = String::new();
            reader.read_to_string(&mut read).unwrap();
            assert_eq!(read.lines().count(), 2, "{read:?}");
            for line in read.lines() {
                assert!(line.contains("FORGED") && line.contains("WARN"), "{line:?}");
                assert!(is_dyed_at_most(line) && (json || line.contains('\x1b')), "{line:?}");
                let text = line.replace('\x1b', "");
                assert!(!text.contains(is_control), "{line:?}");
                if json {
                    let object: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert!(object["message"].is_string());
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_one_line_and_ours_stay_readable(text in "(.|[\\n\\r\\x1b\\x00\\[;m1]|[\u{80}-\u{9f}]|\u{2029}){0,40}") {
            let line = one_line(&text);
            proptest::prop_assert!(!line.contains(is_control));
            proptest::prop_assert_eq!(line == text, !text.contains(is_control));
            let quoted = format!("\"{}\"", line.replace('"', "").replace('\\', "\\\\"));
            proptest::prop_assert!(serde_json::from_str::<String>(&quoted).is_ok());
            let written = line_of(format!("{text}\n").as_bytes()).into_owned();
            proptest::prop_assert!(written.ends_with('\n') && written.lines().count() == 1);
            proptest::prop_assert!(is_dyed_at_most(&written));
        }
    }
}
