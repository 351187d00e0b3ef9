//! What the client looks for in either direction: the key that leads out, and the words that end the stream.

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Finds the escape wherever it is, in the middle of a paste too. Twice in a row is one for the guest.
///
/// ```text
///            Ctrl-]                     Ctrl-]: one is sent
///  plain ─────────────► asked ─────────────────────────────► plain
///                         │ any other octet, or a while without one
///                         ▼
///                        left
/// ```
#[derive(Debug, Default)]
pub(super) struct Escape {
    asked: bool,
}

/// What becomes of what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) to_guest: Vec<u8>,
    /// The user wants out; what came behind it is nobody's.
    pub(super) left: bool,
}

impl Escape {
    /// Whether the last octet was an escape: with nothing behind it, it counts.
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    pub(super) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut to_guest = Vec::with_capacity(typed.len());
        for octet in typed {
            match (*octet, std::mem::take(&mut self.asked)) {
                (ESCAPE, false) => self.asked = true,
                (octet @ ESCAPE, true) | (octet, false) => to_guest.push(octet),
                (_, true) => return Typed { to_guest, left: true },
            }
        }
        Typed { to_guest, left: false }
    }
}

/// Takes the farewell off the end of a stream. Holds back only what may be its beginning.
#[derive(Debug)]
pub(super) struct Farewell {
    words: Vec<u8>,
    held: Vec<u8>,
}

impl Farewell {
    pub(super) fn new(words: &str) -> Self {
        Self { words: words.into(), held: Vec::new() }
    }

    /// What of the stream is to be shown now.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let begins = |length: &usize| {
            let (end, beginning) = (all.get(all.len() - length..), self.words.get(..*length));
            end.is_some() && end == beginning
        };
        let most = self.words.len().min(all.len());
        let held = (1..=most).rev().find(begins).unwrap_or_default();
        self.held = all.split_off(all.len() - held);
        all
    }

    /// At the end of the stream: None when it was the farewell, otherwise what was held back.
    pub(super) fn end(self) -> Option<Vec<u8>> {
        (self.held != self.words || self.words.is_empty()).then_some(self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(reads: &[&[u8]]) -> (Vec<u8>, bool, bool) {
        let (mut escape, mut to_guest) = (Escape::default(), Vec::new());
        for read in reads {
            let Typed { to_guest: more, left } = escape.take(read);
            to_guest.extend(more);
            if left {
                return (to_guest, true, false);
            }
        }
        (to_guest, false, escape.is_asked())
    }

    /// virtctl looks at the first octet of a read alone.
    #[test]
    fn the_escape_is_found_in_the_middle_of_a_paste() {
        assert_eq!(typed(&[b"first\rsecond\x1dthird\r"]), (b"first\rsecond".to_vec(), true, false));
        assert_eq!(typed(&[b"one", b"two\x1d"]), (b"onetwo".to_vec(), false, true));
        assert_eq!(typed(&[b"a\x1d", b"b"]), (b"a".to_vec(), true, false));
    }

    #[test]
    fn twice_is_one_for_the_guest() {
        assert_eq!(typed(&[b"a\x1d\x1db"]), (b"a\x1db".to_vec(), false, false));
        assert_eq!(typed(&[b"\x1d", b"\x1d"]), (b"\x1d".to_vec(), false, false));
        assert_eq!(typed(&[b"\x1d\x1d\x1d"]), (b"\x1d".to_vec(), false, true));
    }

    proptest! {
        /// However it is cut into reads.
        #[test]
        fn keys_are_the_same_however_they_are_read(
            keys in proptest::collection::vec(prop_oneof![Just(ESCAPE), Just(b'a')], 0..12),
            cut in 0..12_usize,
        ) {
            let (first, second) = keys.split_at(cut.min(keys.len()));
            prop_assert_eq!(typed(&[first, second]), typed(&[&keys]));
            let none: Vec<u8> = keys.iter().copied().filter(|octet| *octet != ESCAPE).collect();
            prop_assert_eq!(typed(&[&none]), (none.clone(), false, false));
        }

        /// However it is cut into reads, and whatever the guest wrote.
        #[test]
        fn the_farewell_is_taken_off_and_nothing_else(
            stream in "[\0be]{0,20}", ended in any::<bool>(), sizes in proptest::collection::vec(1..5_usize, 30),
        ) {
            const WORDS: &str = "\0be-12";
            let whole = if ended { format!("{stream}{WORDS}") } else { stream.clone() };
            let (mut farewell, mut shown, mut rest) = (Farewell::new(WORDS), Vec::new(), whole.as_bytes());
            for size in sizes {
                let (now, later) = rest.split_at(size.min(rest.len()));
                shown.extend(farewell.take(now));
                prop_assert!(farewell.held.len() <= WORDS.len());
                rest = later;
            }
            shown.extend(farewell.take(rest));
            let held = farewell.end();
            prop_assert_eq!(held.is_none(), ended);
            shown.extend(held.unwrap_or_default());
            prop_assert_eq!(shown, stream.into_bytes());
        }
    }
}
