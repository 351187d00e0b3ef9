//! Which image a disk was made on: noted within the overlay, so that it moves along with the file.
//!
//! The note is a header extension of our own. QEMU and qemu-img keep extensions they do not know (docs/interop/qcow2.rst,
//! "Header extensions"). It is read at each start, so an identity is cheap: format, length, size, and a digest of
//! samples. It guards against mistakes, another build or a half image under the same path; not against an attacker,
//! who may write to a base anyway.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::format::{Access, look, open};
use super::qcow2::{Fault, Header, ReadAt};
use super::{Error, Format, at};

/// What an image is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub format: Format,
    /// Of the file.
    length: u64,
    /// What the guest sees, in octets.
    pub size: u64,
    digest: [u8; 32],
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { format, length, size, digest } = self;
        let [a, b, c, d, ..] = digest;
        write!(
            f,
            "a {} image of {length} octets, {size} for the guest, identity {a:02x}{b:02x}{c:02x}{d:02x}",
            format.as_str()
        )
    }
}

/// The head has the partition table or the qcow2 header, the tail a raw image's backup table.
const ENDS: usize = 64 << 10;
/// From each power of two: partitions begin at 1, 4 or 128 MiB, file systems with their UUID and time of writing.
const SAMPLE: usize = 4 << 10;

impl Identity {
    /// Reads about 200 KiB of it, whatever its size.
    pub fn of(path: &Path) -> Result<Self, Error> {
        Self::of_file(path, Access::ALL)
    }

    pub(super) fn of_file(path: &Path, access: Access<'_>) -> Result<Self, Error> {
        Self::named(path, &path.display().to_string(), access)
    }

    /// [`Self::of_file`], with another name in errors.
    pub(super) fn named(path: &Path, name: &str, access: Access<'_>) -> Result<Self, Error> {
        let file = open(path, access)?;
        let found = look(&file, path, name)?;
        let length = file.length().map_err(at("reading the size of", path))?;
        let digest = digest(&file, length).map_err(at("reading the image", path))?;
        Ok(Self { format: found.format, length, size: found.size, digest })
    }
}

fn digest(file: &File, length: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; ENDS];
    let tail = length.saturating_sub(ENDS as u64);
    let powers = (20..u64::BITS).map(|bits| 1 << bits).take_while(|&offset| offset < tail);
    let samples =
        [(0, ENDS), (tail, ENDS)].into_iter().chain(powers.map(|offset| (offset, SAMPLE)));
    for (offset, octets) in samples {
        let octets = octets.min(usize::try_from(length - offset).unwrap_or(octets));
        let sample = buffer.get_mut(..octets).unwrap_or_default();
        file.fill(sample, offset)?;
        hash.update(&*sample);
    }
    Ok(hash.finalize().into())
}

/// The type of our header extension: "brth".
const KIND: u32 = 0x6272_7468;
const VERSION: u8 = 1;
/// Version, format, six octets of nothing, length, size, digest; then the base's name as the header had it.
const FIXED: usize = 56;
const MAX_NOTE: u32 = FIXED as u32 + 1023;

/// What an overlay says of its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub identity: Identity,
    /// The header's backing file then. Another one now means that somebody moved the disk to another base on purpose.
    pub base: String,
}

impl Note {
    /// The newest note of an overlay, if it has one that we can read.
    pub fn read<R: ReadAt + ?Sized>(overlay: &R, header: &Header) -> Result<Option<Self>, Fault> {
        Ok(header.extension(overlay, KIND, MAX_NOTE)?.as_deref().and_then(Self::decode))
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let number =
            |from: usize| octets.get(from..from + 8)?.try_into().ok().map(u64::from_be_bytes);
        let format = match *octets {
            [VERSION, 0, ..] => Format::Raw,
            [VERSION, 1, ..] => Format::Qcow2,
            _ => return None,
        };
        let digest = octets.get(24..FIXED)?.try_into().ok()?;
        let base = String::from_utf8(octets.get(FIXED..)?.to_vec()).ok()?;
        Some(Self {
            identity: Identity { format, length: number(8)?, size: number(16)?, digest },
            base,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let Identity { format, length, size, digest } = &self.identity;
        let mut octets = vec![VERSION, u8::from(*format == Format::Qcow2), 0, 0, 0, 0, 0, 0];
        octets.extend(length.to_be_bytes());
        octets.extend(size.to_be_bytes());
        octets.extend(digest);
        octets.extend(self.base.as_bytes());
        octets
    }

    /// Adds the note to an overlay nobody uses. When `durable`, each step is on the disk before the next, and leaves a
    /// good header: a power failure between them loses the note alone.
    pub fn write(&self, overlay: &File, header: &Header, durable: bool) -> io::Result<()> {
        let sync = || if durable { overlay.sync_data() } else { Ok(()) };
        let (Some(mark), Some((name_offset, name))) = (header.extensions_end, &header.backing)
        else {
            return Err(io::Error::other("its header has no place for it"));
        };
        let note = self.encode();
        let padded = (note.len() as u64).next_multiple_of(8);
        let next_mark = mark + 8 + padded;
        if *name_offset < next_mark + 8 {
            // The name is in the way. Its old octets stay until the header knows the new place.
            let moved = (next_mark + 8).max(name_offset + name.len() as u64);
            if moved + name.len() as u64 >= header.cluster() {
                return Err(io::Error::other("the first cluster has no room for it"));
            }
            overlay.write_all_at(name.as_bytes(), moved)?;
            sync()?;
            overlay.write_all_at(&moved.to_be_bytes(), 8)?;
            sync()?;
        }
        let mut body = note.clone();
        body.resize(usize::try_from(padded + 8).map_err(io::Error::other)?, 0);
        overlay.write_all_at(&body, mark + 8)?;
        sync()?;
        // Eight octets that share a sector: there as a whole or not at all.
        let head = u64::from(KIND) << 32 | note.len() as u64;
        overlay.write_all_at(&head.to_be_bytes(), mark)?;
        sync()
    }
}
