//! Reading from a file or from octets, big-endian as all of the format, and the words for what is not there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Octets at an offset: a file, or a slice in tests and fuzzing.
pub trait ReadAt {
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer, or is an error.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Where octets begin, from there on, that need not be zeros; None: there are none up to the end.
    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    /// Holes of a sparse file are told by the file system (lseek(2)); one that does not know has data everywhere.
    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        match seek(self, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data.max(offset))),
            Err(Errno::NXIO) => Ok(None),
            Err(_) => Ok(Some(offset)),
        }
    }
}

impl ReadAt for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Why an image is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What it is instead of a good image: completes "it is ...".
    #[error("{0}")]
    Bad(String),
}

pub(super) fn bad<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Bad(what.into()))
}

/// The fixed fields, big-endian as all of the format.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// None beyond the end.
    pub fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    /// Big-endian; 0 beyond the end.
    pub fn u32(&self, offset: usize) -> u32 {
        let field = self.0.get(offset..offset + 4).and_then(|field| field.try_into().ok());
        field.map_or(0, u32::from_be_bytes)
    }

    /// Big-endian; 0 beyond the end.
    pub fn u64(&self, offset: usize) -> u64 {
        let field = self.0.get(offset..offset + 8).and_then(|field| field.try_into().ok());
        field.map_or(0, u64::from_be_bytes)
    }
}

/// Reads what has to be there: an end before it means a cut image.
pub(super) fn read<R: ReadAt + ?Sized>(
    image: &R,
    buffer: &mut [u8],
    offset: u64,
    what: &str,
) -> Result<(), Fault> {
    image.fill(buffer, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Bad(format!("a qcow2 image cut within its {what}")),
        _ => Fault::Io(error),
    })
}
