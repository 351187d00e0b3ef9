//! The way of log lines to stderr: a queue with a bound in octets, and a thread that writes.
//!
//! A pipe that nobody reads, or a terminal stopped by Ctrl-S, blocks whoever writes to it (`write(2)`). That must
//! not be the thread that answers DHCP and signals. Lines that find the queue full are dropped and counted, and
//! their number is told as soon as writing goes on.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// Octets that wait for the reader; as many may be with the thread that writes.
const MAX_WAITING_BYTES: usize = 256 * 1024;

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
    /// Begins to write. `on_lost` is called on the thread that writes when it goes on after lines were lost, and may log.
    pub fn start(output: impl Write + Send + 'static, on_lost: fn(u64)) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Self(shared.clone());
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_all(output, on_lost))?;
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
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if self.0.writer.get() == Some(&std::thread::current().id()) {
            state.notice.extend_from_slice(line);
        } else if state.lost > 0 || state.closed || state.waiting.len() + line.len() > MAX_WAITING_BYTES {
            // Once one is lost, all are until the queue is empty: the gap has one place.
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
            self.0.changed.notify_all();
        }
        Ok(line.len())
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
                        + u64::try_from(lines.iter().filter(|octet| **octet == b'\n').count()).unwrap_or(0);
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
        let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
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
        let queue = Queue::start(output, on_lost).unwrap();
        let writer = queue.clone();
        // The thread that writes logs as well.
        tracing_subscriber::fmt().with_writer(move || writer.clone()).without_time().with_ansi(false).init();
        const LINES: u64 = 20_000;
        for number in 0..LINES {
            tracing::info!(number, "a line that nobody reads now, and long enough to fill a queue");
            assert!(queue.0.lock().waiting.len() <= MAX_WAITING_BYTES);
        }
        let read = read_until(&mut reader, "lines lost lost=");
        let kept = u64::try_from(read.matches("a line that").count()).unwrap();
        assert_eq!(kept + LOST.load(Ordering::Relaxed), LINES);
        assert!(read.contains(&format!("number={}\nERROR", kept - 1)), "the gap is told where it is");
        tracing::info!("the next");
        read_until(&mut reader, "the next");
    }

    #[test]
    fn the_end_waits_for_a_reader_and_not_for_one_that_never_comes() {
        let (output, mut reader) = UnixStream::pair().unwrap();
        let mut queue = Queue::start(output, |_| {}).unwrap();
        write(&mut queue, 3);
        queue.close(Duration::from_secs(20));
        let mut read = vec![0; 3 * 1024];
        reader.read_exact(&mut read).unwrap();

        let (output, _reader) = UnixStream::pair().unwrap();
        let mut queue = Queue::start(output, |_| {}).unwrap();
        write(&mut queue, 2000);
        queue.close(Duration::from_millis(50));
        assert!(queue.0.lock().writing, "somebody read");
    }
}
