//! What the guest wrote last, once for all who read it: octets by their position in the stream, and a cursor a reader.
//!
//! ```text
//!  0 ........ start ──────────────────────────────── end
//!    gone       │◄── kept: 64 KiB for replay, or as ──►│ the guest writes here
//!               │    much as the slowest reader needs  │
//!               ▲ cursor of a slow reader              ▲ cursor of one that has read all
//! ```
//!
//! A reader further behind than its bound loses the oldest half of that and more, and is told how much: it goes on in the
//! newest half, so that one that is slow for good is told at times and not all the time.

use std::collections::VecDeque;

use bytes::Bytes;

/// How far a reader is moved on to begin with a whole line after a gap, in octets.
const LINE_WITHIN: u64 = 4096;

/// The end of a stream.
#[derive(Debug, Default)]
pub(super) struct Ring {
    octets: VecDeque<u8>,
    /// Octets written so far: the position of the next one.
    end: u64,
}

impl Ring {
    fn start(&self) -> u64 {
        self.end - octets(self.octets.len())
    }

    /// Adds at the end; what is older than the last `keep` octets is forgotten.
    pub(super) fn push(&mut self, bytes: &[u8], keep: usize) {
        self.octets.extend(bytes);
        self.end += octets(bytes.len());
        self.octets.drain(..self.octets.len().saturating_sub(keep));
        // After a reader that was slow: memory goes with it.
        if self.octets.capacity() > keep.saturating_mul(4) {
            self.octets.shrink_to(keep.saturating_mul(2));
        }
    }

    /// Octets from a position on, at most `limit`; those that are gone are passed over.
    pub(super) fn copy(&self, from: u64, limit: usize) -> Bytes {
        let skip = index(from.saturating_sub(self.start()));
        let (first, second) = self.octets.as_slices();
        let head = first.get(skip..).unwrap_or_default();
        let tail = second.get(skip.saturating_sub(first.len())..).unwrap_or_default();
        let head = head.get(..limit).unwrap_or(head);
        let tail = tail.get(..limit - head.len()).unwrap_or(tail);
        if tail.is_empty() { Bytes::copy_from_slice(head) } else { [head, tail].concat().into() }
    }

    /// Where a line begins, from a position on and before `before`; the position itself when none does.
    fn line_start(&self, from: u64, before: u64) -> u64 {
        if from == 0 {
            return from;
        }
        let skip = index(from.saturating_sub(self.start()));
        let newline = |at: &u64, octet: &u8| (*octet == b'\n').then_some(at + 1);
        (from..before.min(self.end))
            .zip(self.octets.iter().skip(skip))
            .find_map(|(at, octet)| newline(&at, octet))
            .filter(|start| *start < self.end)
            .unwrap_or(from)
    }

    /// The last octets, at most `limit`, from a line's start on where there is one.
    pub(super) fn last(&self, limit: usize) -> Bytes {
        let from = self.start().max(self.end.saturating_sub(octets(limit)));
        self.copy(self.line_start(from, self.end), limit)
    }
}

/// What a reader gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// At least one octet.
    Bytes(Bytes),
    /// So many octets were not kept for it: it was too slow.
    Skipped(u64),
}

impl Chunk {
    /// As it is shown in the stream: of a gap a mark on a line of its own.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Skipped(count) => format!("\r\n[berth: {count} bytes skipped]\r\n").into(),
        }
    }
}

/// How far a reader is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    at: u64,
    /// Octets that may wait for it.
    bound: usize,
}

impl Cursor {
    /// One that gets what is written from now on.
    pub(super) fn at_end(ring: &Ring, bound: usize) -> Self {
        Self { at: ring.end, bound }
    }

    /// Octets of the ring that are kept for it, when `more` are added.
    pub(super) fn needs(&self, ring: &Ring, more: usize) -> usize {
        index(ring.end + octets(more) - self.at).min(self.bound)
    }

    /// What is next, at most `limit` octets; None: all is read.
    pub(super) fn next(&mut self, ring: &Ring, limit: usize) -> Option<Chunk> {
        if ring.end - self.at > octets(self.bound) {
            let to = ring.end - octets(self.bound / 2);
            let to = ring.line_start(to, to + LINE_WITHIN);
            let skipped = to - std::mem::replace(&mut self.at, to);
            return Some(Chunk::Skipped(skipped));
        }
        let bytes = ring.copy(self.at, limit);
        self.at += octets(bytes.len());
        (!bytes.is_empty()).then_some(Chunk::Bytes(bytes))
    }
}

fn octets(count: usize) -> u64 {
    count.try_into().unwrap_or(u64::MAX)
}

fn index(count: u64) -> usize {
    count.try_into().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: usize = 64;

    /// As the hub does it.
    fn push(ring: &mut Ring, cursors: &[Cursor], bytes: &[u8]) {
        let keep = cursors.iter().map(|cursor| cursor.needs(ring, bytes.len())).max();
        ring.push(bytes, keep.unwrap_or_default().max(KEEP));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(Vec<u8>),
        Read { reader: usize, limit: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let line =
            proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..90);
        let write = line.prop_map(Step::Write);
        let read =
            (0..3_usize, 1..70_usize).prop_map(|(reader, limit)| Step::Read { reader, limit });
        proptest::collection::vec(prop_oneof![write, read], 0..50)
    }

    proptest! {
        /// Whoever reads when: what it got and what it was told is skipped are the stream, each octet in its place.
        #[test]
        fn what_is_read_and_what_is_skipped_are_the_stream(steps in steps()) {
            let mut ring = Ring::default();
            let mut cursors = [40, 200, 300].map(|bound| Cursor::at_end(&ring, bound));
            let (mut stream, mut at) = (Vec::new(), [0_usize; 3]);
            let rest = (0..3).flat_map(|reader| vec![Step::Read { reader, limit: 7 }; 60]);
            for step in steps.into_iter().chain(rest) {
                match step {
                    Step::Write(bytes) => {
                        push(&mut ring, &cursors, &bytes);
                        stream.extend(bytes);
                        prop_assert!(ring.octets.len() <= 300 && ring.octets.len() >= stream.len().min(KEEP));
                    }
                    Step::Read { reader, limit } => {
                        let unread = stream.len() - at[reader];
                        match cursors[reader].next(&ring, limit) {
                            None => prop_assert_eq!(unread, 0),
                            Some(Chunk::Bytes(bytes)) => {
                                prop_assert!(unread <= cursors[reader].bound && bytes.len() <= limit);
                                prop_assert_eq!(&stream[at[reader]..at[reader] + bytes.len()], &bytes[..]);
                                at[reader] += bytes.len();
                            }
                            Some(Chunk::Skipped(count)) => {
                                prop_assert!(unread > cursors[reader].bound);
                                at[reader] += usize::try_from(count).unwrap();
                                prop_assert!(stream.len() - at[reader] <= cursors[reader].bound / 2);
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(at, [stream.len(); 3], "all is read, or told");
        }

        /// Whatever was written: the end of it, from a line's start on unless it is one line.
        #[test]
        fn a_replay_is_the_end_from_a_lines_start_on(
            writes in proptest::collection::vec(proptest::collection::vec(prop_oneof![6 => any::<u8>(), 1 => Just(b'\n')], 0..50), 0..12),
            limit in 0..100_usize,
        ) {
            let mut ring = Ring::default();
            for bytes in &writes {
                push(&mut ring, &[], bytes);
            }
            let stream = writes.concat();
            let tail = &stream[stream.len() - stream.len().min(limit).min(KEEP)..];
            let replay = ring.last(limit);
            let whole = tail.len() == stream.len();
            let newline = tail.iter().position(|octet| *octet == b'\n');
            let expected = match newline {
                Some(at) if !whole && at + 1 < tail.len() => &tail[at + 1..],
                _ => tail,
            };
            prop_assert_eq!(&replay[..], expected);
        }
    }

    #[test]
    fn after_a_gap_a_reader_goes_on_with_a_whole_line() {
        let mut ring = Ring::default();
        let mut cursor = Cursor::at_end(&ring, 100);
        let text: String = (0..40).map(|number| format!("line {number:02}\r\n")).collect();
        push(&mut ring, &[cursor], text.as_bytes());
        let Some(Chunk::Skipped(count)) = cursor.next(&ring, 1000) else { panic!("no gap") };
        assert_eq!(count, 35 * 9);
        let Some(Chunk::Bytes(rest)) = cursor.next(&ring, 1000) else { panic!("nothing left") };
        assert_eq!(rest, "line 35\r\nline 36\r\nline 37\r\nline 38\r\nline 39\r\n");
        let mark = Chunk::Skipped(count).into_bytes();
        assert_eq!(mark, "\r\n[berth: 315 bytes skipped]\r\n");
    }

    #[test]
    fn memory_goes_with_the_slow_reader_that_wanted_it() {
        let mut ring = Ring::default();
        let slow = Cursor::at_end(&ring, 1 << 20);
        for _ in 0..1024 {
            push(&mut ring, &[slow], &[b'x'; 4096]);
        }
        assert_eq!(ring.octets.len(), 1 << 20);
        push(&mut ring, &[], b"x");
        assert_eq!(ring.octets.len(), KEEP);
        assert!(ring.octets.capacity() <= 4 * KEEP, "{}", ring.octets.capacity());
    }
}
