//! RFB, what a viewer of the screen says (RFC 6143 §7.1, §7.5; the extensions of the RFB community's registry): a filter that
//! lets it look and not touch.
//!
//! ```text
//!  Version ─► Security ─► Init ─► Message ⇄ (its rest: passed or dropped)
//! ```
//!
//! Messages follow each other without a frame, so an unknown one ends the stream: where the next begins is not known. At most
//! some octets of a head are kept.

/// "RFB 003.008\n" (§7.1.1).
const VERSION_BYTES: usize = 12;
/// Of the heads that are looked at.
const MAX_HEAD_BYTES: usize = 12;

/// Why nothing more is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    #[error("not a version of RFB that is known here")]
    Version,
    #[error("a kind of authentication that was not offered")]
    Security,
    #[error("a message that is not known here")]
    Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Version,
    Security,
    Init,
    Message,
    /// So many octets of a message, that go on or do not.
    Rest {
        left: u64,
        pass: bool,
    },
}

/// The stream of one viewer that may not touch: keys, pointer, clipboard, sizes and power buttons are left out.
#[derive(Debug)]
pub struct LookOnly {
    stage: Stage,
    head: Vec<u8>,
}

impl Default for LookOnly {
    fn default() -> Self {
        Self { stage: Stage::Version, head: Vec::with_capacity(MAX_HEAD_BYTES) }
    }
}

impl LookOnly {
    /// Takes what the viewer said, in any cut; adds what the server is to hear of it.
    pub fn pass(&mut self, mut bytes: &[u8], to: &mut Vec<u8>) -> Result<(), Reason> {
        while !bytes.is_empty() {
            if let Stage::Rest { left, pass } = self.stage {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
                if pass {
                    to.extend_from_slice(now);
                }
                bytes = later;
                let left = left.saturating_sub(now.len().try_into().unwrap_or(u64::MAX));
                self.stage = if left == 0 { Stage::Message } else { Stage::Rest { left, pass } };
                continue;
            }
            if let Some((first, later)) = bytes.split_first() {
                self.head.push(*first);
                bytes = later;
                self.look(to)?;
            }
        }
        Ok(())
    }

    /// Another octet of a head is there.
    fn look(&mut self, to: &mut Vec<u8>) -> Result<(), Reason> {
        self.stage = match (self.stage, self.head.as_slice()) {
            (Stage::Version, head) if head.len() < VERSION_BYTES => return Ok(()),
            // §7.1.2: the server of 3.3 decides by itself.
            (Stage::Version, b"RFB 003.003\n") => Stage::Init,
            (Stage::Version, b"RFB 003.007\n" | b"RFB 003.008\n") => Stage::Security,
            (Stage::Version, _) => return Err(Reason::Version),
            // None, the only one that is offered to whom we bring.
            (Stage::Security, [1]) => Stage::Init,
            (Stage::Security, _) => return Err(Reason::Security),
            // §7.3.1: others stay, whatever it wants.
            (Stage::Init, _) => {
                self.head.clear();
                to.push(1);
                self.stage = Stage::Message;
                return Ok(());
            }
            (Stage::Message | Stage::Rest { .. }, head) => {
                let Some((length, pass)) = message(head)? else { return Ok(()) };
                let left = length.saturating_sub(head.len().try_into().unwrap_or(u64::MAX));
                if !pass {
                    self.head.clear();
                }
                if left == 0 { Stage::Message } else { Stage::Rest { left, pass } }
            }
        };
        to.append(&mut self.head);
        Ok(())
    }
}

/// Length of the message that begins so, and whether the server is to hear it; None: more of its head is wanted.
fn message(head: &[u8]) -> Result<Option<(u64, bool)>, Reason> {
    let number = |at: usize, octets: usize| {
        let part = head.get(at..at + octets)?;
        Some(part.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
    };
    let Some(kind) = head.first() else { return Ok(None) };
    Ok(match kind {
        // SetPixelFormat, SetEncodings, FramebufferUpdateRequest.
        0 => Some((20, true)),
        2 => number(2, 2).map(|count| (4 + 4 * count, true)),
        3 => Some((10, true)),
        // KeyEvent, PointerEvent.
        4 => Some((8, false)),
        5 => Some((6, false)),
        // ClientCutText; of the extended clipboard the length is negative.
        6 => number(4, 4).map(|length| {
            let length = if length >> 31 == 0 { length } else { (1 << 32) - length };
            (8 + length, false)
        }),
        // EnableContinuousUpdates, ClientFence.
        150 => Some((10, true)),
        248 => number(8, 1).map(|length| (9 + length, true)),
        // xvp: power; SetDesktopSize.
        250 => Some((4, false)),
        251 => number(6, 1).map(|screens| (8 + 16 * screens, false)),
        // QEMU's: a key with its code, and sound.
        255 => match (number(1, 1), number(2, 2)) {
            (None, _) => None,
            (Some(0), _) => Some((12, false)),
            (Some(1), None) => None,
            (Some(1), Some(0 | 1)) => Some((4, false)),
            (Some(1), Some(2)) => Some((10, false)),
            _ => return Err(Reason::Message),
        },
        _ => return Err(Reason::Message),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEGIN: &[u8] = b"RFB 003.008\n\x01\x00";

    fn all(bytes: &[u8]) -> Result<Vec<u8>, Reason> {
        let (mut filter, mut to) = (LookOnly::default(), Vec::new());
        filter.pass(bytes, &mut to).map(|()| to)
    }

    fn after_begin(bytes: &[u8]) -> Result<Vec<u8>, Reason> {
        let passed = all(&[BEGIN, bytes].concat())?;
        Ok(passed.strip_prefix(b"RFB 003.008\n\x01\x01").unwrap().to_vec())
    }

    fn messages() -> Vec<(Vec<u8>, bool)> {
        let update = vec![3, 1, 0, 0, 0, 0, 2, 208, 1, 144];
        vec![
            ([vec![0, 0, 0, 0], vec![32; 16]].concat(), true),
            ([vec![2, 0, 0, 2], vec![255; 8]].concat(), true),
            (vec![2, 0, 0, 0], true),
            (update, true),
            (vec![4, 1, 0, 0, 0, 0, 0, 97], false),
            (vec![5, 1, 0, 9, 0, 9], false),
            (b"\x06\0\0\0\0\0\0\x04text".to_vec(), false),
            (b"\x06\0\0\0\xff\xff\xff\xfctext".to_vec(), false),
            (vec![150, 1, 0, 0, 0, 0, 2, 208, 1, 144], true),
            (b"\xf8\0\0\0\0\0\0\0\x03abc".to_vec(), true),
            (vec![250, 0, 1, 2], false),
            ([vec![251, 0, 4, 0, 3, 0, 1, 0], vec![7; 16]].concat(), false),
            ([vec![255, 0], vec![9; 10]].concat(), false),
            (vec![255, 1, 0, 0], false),
            ([vec![255, 1, 0, 2], vec![9; 6]].concat(), false),
        ]
    }

    #[test]
    fn a_viewer_looks_and_does_not_touch() {
        let mut said = Vec::new();
        let mut wanted = Vec::new();
        for (message, passes) in messages() {
            let heard = after_begin(&message).unwrap();
            assert_eq!(heard, if passes { message.clone() } else { Vec::new() }, "{message:?}");
            said.extend_from_slice(&message);
            if passes {
                wanted.extend_from_slice(&message);
            }
        }
        assert_eq!(after_begin(&said).unwrap(), wanted);
    }

    #[test]
    fn what_is_not_known_ends_it() {
        assert_eq!(all(b"GET / HTTP/1"), Err(Reason::Version));
        assert_eq!(all(b"RFB 003.008\n\x02"), Err(Reason::Security));
        for unknown in [&[1][..], &[7], &[249], &[255, 2, 0, 0], &[255, 1, 0, 3]] {
            assert_eq!(after_begin(unknown), Err(Reason::Message), "{unknown:?}");
        }
        // The server of 3.3 decides by itself.
        assert_eq!(all(b"RFB 003.003\n\x00\x03").unwrap(), b"RFB 003.003\n\x01\x03");
    }

    #[test]
    fn a_text_of_any_length_takes_no_memory() {
        let (mut filter, mut to) = (LookOnly::default(), Vec::new());
        filter.pass(BEGIN, &mut to).unwrap();
        to.clear();
        filter.pass(b"\x06\0\0\0\x7f\xff\xff\xff", &mut to).unwrap();
        for _ in 0..100 {
            filter.pass(&[b'x'; 65536], &mut to).unwrap();
        }
        assert!(to.is_empty() && filter.head.capacity() <= MAX_HEAD_BYTES);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            picks in proptest::collection::vec(0..15usize, 0..20),
            cuts in proptest::collection::vec(1..9usize, 1..40),
        ) {
            let all_of: Vec<u8> = picks.iter().flat_map(|at| messages()[*at].0.clone()).collect();
            let said = [BEGIN, &all_of].concat();
            let (mut filter, mut to) = (LookOnly::default(), Vec::new());
            let mut rest = said.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                filter.pass(now, &mut to).unwrap();
                rest = later;
            }
            prop_assert_eq!(to, all(&said).unwrap());
        }

        #[test]
        fn any_octets_are_bounded(said in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (mut filter, mut to) = (LookOnly::default(), Vec::new());
            let _ = filter.pass(&[BEGIN, &said].concat(), &mut to);
            prop_assert!(to.len() <= BEGIN.len() + said.len());
            prop_assert!(filter.head.len() <= MAX_HEAD_BYTES);
        }
    }
}
