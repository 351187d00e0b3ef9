//! The bytes of the wire: hashed as they come, looked at before they are used, an early end noticed.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256, Sha512};

use super::super::Beneath;
use super::super::format::HEAD;
use super::{Error, at};
use crate::config::Checksum;

/// The bytes of the wire, hashed as they are read; an early end is an error.
pub(super) struct Stream<'a> {
    inner: Box<dyn Read + 'a>,
    hash: Option<Hash>,
    pub done: u64,
    pub total: Option<u64>,
    /// The first bytes, to tell what they are.
    head: Vec<u8>,
    served: usize,
}

enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    fn new(wanted: &Checksum) -> Self {
        match wanted {
            Checksum::Sha256(_) => Self::Sha256(Sha256::new()),
            Checksum::Sha512(_) => Self::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hash) => Checksum::Sha256(hash.finalize().to_vec()),
            Self::Sha512(hash) => Checksum::Sha512(hash.finalize().to_vec()),
        }
    }
}

impl<'a> Stream<'a> {
    /// Hashes what is read, and refuses more than `total` octets.
    pub fn new(inner: Box<dyn Read + 'a>, total: Option<u64>, checksum: Option<&Checksum>) -> Self {
        Self { inner, hash: checksum.map(Hash::new), done: 0, total, head: Vec::new(), served: 0 }
    }

    /// Takes a part in as if it had just been read.
    pub fn replay(&mut self, part: &Path, bytes: u64, files: &Beneath) -> Result<(), Error> {
        let mut file = files.read(part).map_err(at("opening", part))?.take(bytes);
        let mut buffer = vec![0; HEAD];
        loop {
            match file.read(&mut buffer).map_err(at("reading", part))? {
                0 => return Ok(()),
                read => self.count(buffer.get(..read).unwrap_or_default()),
            }
        }
    }

    /// The digest of all that was read; once.
    pub fn digest(&mut self) -> Option<Checksum> {
        self.hash.take().map(Hash::finish)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.done += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
    }

    /// Reads the beginning without consuming it.
    pub(crate) fn peek(&mut self) -> io::Result<&[u8]> {
        let mut buffer = vec![0; HEAD];
        while self.head.len() < HEAD {
            let want = HEAD - self.head.len();
            match self.fill(buffer.get_mut(..want).unwrap_or_default())? {
                0 => break,
                read => self.head.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
        Ok(&self.head)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(buffer.get(..read).unwrap_or_default());
        match self.total {
            Some(total) if read == 0 && self.done < total => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("ended after {} of {total} octets", self.done),
            )),
            _ => Ok(read),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(waiting) = self.head.get(self.served..).filter(|waiting| !waiting.is_empty()) {
            let mut waiting = waiting;
            let read = waiting.read(buffer)?;
            self.served += read;
            return Ok(read);
        }
        self.fill(buffer)
    }
}
