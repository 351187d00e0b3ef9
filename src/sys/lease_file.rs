//! The lease file on disk: appended to, locked against a second server, replaced by a shorter one while in use.
//!
//! What the lines say is `proto::leases`' business. The lock is flock(2) on the file itself; the new file of a
//! replacement is locked before it takes the name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

/// Read at most; a server of a million leases keeps below.
const LARGEST: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} the lease file {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the lease file {} is in use: another server serves from it", .0.display())]
    Locked(PathBuf),
    #[error("the lease file {} is larger than {} MiB: move it away", .0.display(), LARGEST >> 20)]
    TooLarge(PathBuf),
}

fn at(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::File { what, path: path.to_owned(), source }
}

#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    file: Arc<File>,
    /// Octets that are whole lines.
    len: u64,
    /// Behind them is a part of one that could not be taken back.
    torn: bool,
}

impl LeaseFile {
    /// Opens or makes it, with `header` as its first line, and returns what is in it. Its directory is made, too.
    pub fn open(path: &Path, header: &str) -> Result<(Self, Vec<u8>), Error> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(at("making the directory of", path))?;
        }
        let file = locked(path)?;
        let mut content = Vec::new();
        (&file).take(LARGEST + 1).read_to_end(&mut content).map_err(at("reading", path))?;
        let len = u64::try_from(content.len()).unwrap_or(u64::MAX);
        if len > LARGEST {
            return Err(Error::TooLarge(path.to_owned()));
        }
        let mut opened = Self { path: path.to_owned(), file: Arc::new(file), len, torn: false };
        if content.is_empty() {
            opened.append(header.as_bytes()).map_err(at("writing", path))?;
        } else if content.last() != Some(&b'\n') {
            // A line that was cut must not spoil the next one.
            opened.append(b"\n").map_err(at("writing", path))?;
        }
        Ok((opened, content))
    }

    /// What is in the file of a server that may be running.
    pub fn peek(path: &Path) -> Result<Vec<u8>, Error> {
        let file = File::open(path).map_err(at("opening", path))?;
        let mut content = Vec::new();
        file.take(LARGEST).read_to_end(&mut content).map_err(at("reading", path))?;
        Ok(content)
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of the bytes, or none as far as a reader is concerned.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            (&*self.file).write_all(b"\n")?;
            self.torn = false;
            self.len = self.file.metadata()?.len();
        }
        let written = (&*self.file).write_all(bytes);
        match written {
            Ok(()) => self.len += u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            // A full disk took half a line.
            Err(_) => self.torn = self.file.set_len(self.len).is_err(),
        }
        written
    }

    /// To wait for the disk elsewhere (fdatasync(2)).
    pub fn handle(&self) -> Arc<File> {
        self.file.clone()
    }

    /// A file beside it, to be filled and to take its place.
    pub fn draft(&self, header: &str) -> io::Result<Draft> {
        let path = self.path.with_added_extension("new");
        let file = options().open(&path)?;
        file.set_len(0)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut draft = Draft { path, file: Arc::new(file), len: 0 };
        draft.append(header.as_bytes())?;
        Ok(draft)
    }

    /// The draft is the lease file from now on. Its content is on the disk before its name is.
    pub fn replace(&mut self, draft: Draft) -> io::Result<()> {
        fs::rename(&draft.path, &self.path)?;
        self.file = draft.file;
        self.len = draft.len;
        self.torn = false;
        Ok(())
    }

    /// Waits until the directory has the new name.
    pub fn sync_dir(path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A lease file in the making.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
}

impl Draft {
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)?;
        self.len += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    pub fn handle(&self) -> Arc<File> {
        self.file.clone()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o644);
    options
}

/// Opens and locks it; once more when it was replaced between the two.
fn locked(path: &Path) -> Result<File, Error> {
    loop {
        let file = options().open(path).map_err(at("opening", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked(path.to_owned())),
            Err(error) => return Err(at("locking", path)(error.into())),
        }
        let ours = file.metadata().map_err(at("looking at", path))?;
        let named = fs::metadata(path);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "header\n";

    #[test]
    fn appended_lines_are_found_again_and_a_cut_one_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/leases");
        let (mut file, content) = LeaseFile::open(&path, HEADER).unwrap();
        assert!(content.is_empty());
        file.append(b"one\ntw").unwrap();
        drop(file);
        let (mut file, content) = LeaseFile::open(&path, HEADER).unwrap();
        assert_eq!(content, b"header\none\ntw");
        file.append(b"three\n").unwrap();
        assert_eq!(LeaseFile::peek(&path).unwrap(), b"header\none\ntw\nthree\n");
    }

    #[test]
    fn one_server_at_a_time_also_after_it_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        let (mut file, _) = LeaseFile::open(&path, HEADER).unwrap();
        assert!(matches!(LeaseFile::open(&path, HEADER), Err(Error::Locked(_))));
        file.append(b"old\nold\n").unwrap();
        let mut draft = file.draft(HEADER).unwrap();
        draft.append(b"short\n").unwrap();
        file.replace(draft).unwrap();
        assert!(matches!(LeaseFile::open(&path, HEADER), Err(Error::Locked(_))));
        file.append(b"after\n").unwrap();
        assert_eq!(file.len(), 19);
        drop(file);
        assert_eq!(LeaseFile::open(&path, HEADER).unwrap().1, b"header\nshort\nafter\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
