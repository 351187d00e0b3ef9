//! What a power failure can leave of a disk between its making and the end of [`super::sync`]: a file that ends within
//! the tables of a new disk, or zeros. A guest's first flush would have brought all of it to the disk.
//!
//! Anything else may be a user's disk that was cut, and is refused elsewhere.

use std::io;
use std::path::{Path, PathBuf};

use super::identity::Note;
use super::qcow2::{Header, MAGIC, ReadAt};
use super::{Beneath, beside};

/// Header, refcount table, refcount block and L1 table of a disk of up to 4 TiB, a cluster of 64 KiB each. A larger one
/// may end within its L1 table: refused.
const NEW: u64 = 4 << 16;
/// The refcount block of a new disk, and the octets it has for each cluster.
const REFCOUNTS: u64 = 2 << 16;
const REFCOUNT: u64 = 2;
/// Not even a header fits that says where the tables are.
const SECTOR: usize = 512;

pub(super) fn is_stillborn(path: &Path, files: &Beneath) -> io::Result<bool> {
    let file = files.read(path)?;
    let length = file.length()?;
    if length > NEW {
        return Ok(false);
    }
    let mut octets = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.fill(&mut octets, 0)?;
    Ok(holds_nothing(&octets))
}

/// Whether no cluster was ever given to the guest, as far as the octets go.
fn holds_nothing(octets: &[u8]) -> bool {
    let zeros_from = |from: u64| {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        octets.get(from..).unwrap_or_default().iter().all(|&octet| octet == 0)
    };
    if zeros_from(0) {
        return true;
    }
    if octets.len() < SECTOR {
        return octets.starts_with(&MAGIC);
    }
    let Ok(header) = Header::read(octets) else { return false };
    // Without a note it is none of ours, or was used by a version that made none.
    let (Ok(Some(_)), Some(l1)) = (Note::read(octets, &header), header.l1_of_new()) else {
        return false;
    };
    let counted = REFCOUNTS + l1.end.div_ceil(header.cluster()) * REFCOUNT;
    (octets.len() as u64) < l1.end && zeros_from(counted)
}

/// Puts it out of the way, whatever it may tell somebody; where it is now, unless it was empty or is not there.
pub(super) fn put_aside(path: &Path, files: &Beneath) -> io::Result<Option<PathBuf>> {
    match files.metadata(path) {
        Ok(found) if found.len() == 0 => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let aside = beside(path, "cut");
    files.rename(path, &aside)?;
    Ok(Some(aside))
}
