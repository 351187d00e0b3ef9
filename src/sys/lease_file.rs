//! The lease file on disk: appended to, locked against a second server, and made shorter while in use.
//!
//! What the lines say is `proto::leases`' business. The lock is flock(2) on the file itself; the new file of a
//! replacement is locked before it takes the name. A path that is a symlink stands for what it leads to. Where no file
//! can take another's name (a file that is mounted by itself, a directory that is not ours to write), it is made
//! shorter in place, so that every prefix of the work leaves a file that says the same:
//!
//! ```text
//! old lines                          all there is to say, in any order
//! old lines | new lines              appended: the last line of an address counts
//! new lines .. rest | new lines      copied over the old ones: what is at the end still counts
//! new lines                          the file ends there
//! ```

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::exit::{Code, Coded};

/// Read at most; a server of a million leases keeps below.
const LARGEST: u64 = 1 << 30;
/// As the kernel has it (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Octets copied at a time.
const CHUNK: usize = 1 << 20;

/// Why the lease file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} the lease file {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the lease file {} is in use: another server serves from it", .0.display())]
    Locked(PathBuf),
    #[error("the lease file {} is larger than {} MiB: move it away", .0.display(), LARGEST >> 20)]
    TooLarge(PathBuf),
    #[error("the lease file {} holds something else than leases of berth: name another one", .0.display())]
    Foreign(PathBuf),
    #[error("the lease file {} is {kind}: name a file, or one that does not exist yet", path.display())]
    Kind { path: PathBuf, kind: &'static str },
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::Serve
    }
}

fn at(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::File { what, path: path.to_owned(), source }
}

/// What the name of the file leads to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// To this file, as it was left.
    Ours,
    /// To this file, which somebody else wrote to or cut.
    Changed,
    /// To nothing.
    Gone,
    /// To another file.
    Other,
}

#[derive(Debug)]
pub(crate) struct LeaseFile {
    /// As it was said.
    said: PathBuf,
    /// Where it is: no symlink.
    path: PathBuf,
    file: Arc<File>,
    /// Octets that are whole lines.
    len: u64,
    /// Behind them is a part of one that could not be taken back.
    torn: bool,
}

impl LeaseFile {
    /// Opens or makes it, with `header` as its first line, and returns what is in it. Its directory is made, too. What
    /// has another content than `is_ours` takes is somebody else's, and left as it is.
    pub fn open(
        said: &Path,
        header: &str,
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Result<(Self, Vec<u8>), Error> {
        let path = &target(said).map_err(at("following the link to", said))?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(at("making the directory of", path))?;
        }
        let file = locked(path)?;
        let len = file.metadata().map_err(at("looking at", path))?.len();
        if len > LARGEST {
            return Err(Error::TooLarge(path.to_owned()));
        }
        let mut content = Vec::new();
        (&file).take(LARGEST).read_to_end(&mut content).map_err(at("reading", path))?;
        if !is_ours(&content) {
            return Err(Error::Foreign(path.to_owned()));
        }
        // A draft that was never finished; its server is gone, as we have the lock.
        let _ = fs::remove_file(draft_path(path));
        let len = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let (said, path) = (said.to_owned(), path.to_owned());
        let mut opened = Self { said, path: path.clone(), file: Arc::new(file), len, torn: false };
        if content.is_empty() {
            opened.append(header.as_bytes()).map_err(at("writing", &path))?;
        } else if content.last() != Some(&b'\n') {
            // A line that was cut must not spoil the next one.
            opened.append(b"\n").map_err(at("writing", &path))?;
        }
        Ok((opened, content))
    }

    /// What is in the file of a server that may be running; refused as [`LeaseFile::open`] does.
    pub(crate) fn peek(path: &Path, is_ours: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, Error> {
        is_file(path, &fs::metadata(path).map_err(at("opening", path))?)?;
        let file = File::open(path).map_err(at("opening", path))?;
        let mut content = Vec::new();
        file.take(LARGEST).read_to_end(&mut content).map_err(at("reading", path))?;
        if is_ours(&content) { Ok(content) } else { Err(Error::Foreign(path.to_owned())) }
    }

    /// Octets.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// All of the bytes, or none as far as a reader is concerned.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, self.len);
        if written.is_ok() {
            self.len += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        if written.is_err() || self.torn {
            // A full disk took half a line.
            self.torn = self.file.set_len(self.len).is_err();
        }
        written
    }

    /// To wait for the disk elsewhere (fdatasync(2)).
    pub fn handle(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Whether the file that is written to is still the one that a next start would read.
    pub fn named(&self) -> io::Result<Named> {
        let named = match fs::metadata(&self.said) {
            Ok(named) => named,
            Err(error) if is_gone(&error) => return Ok(Named::Gone),
            Err(error) => return Err(error),
        };
        let ours = self.file.metadata()?;
        Ok(match (named.dev(), named.ino()) == (ours.dev(), ours.ino()) {
            false => Named::Other,
            true if ours.len() == self.len || self.torn => Named::Ours,
            true => Named::Changed,
        })
    }

    /// Makes the file its own again after somebody else wrote to it: what comes next is behind that, in a line of its own.
    pub(crate) fn go_behind(&mut self) -> io::Result<()> {
        self.len = self.file.metadata()?.len();
        self.append(b"\n")
    }

    /// Follows the name to where it leads now. A file that is there, and no server's, stays beside it as `.other`.
    pub(crate) fn move_along(&mut self) -> io::Result<()> {
        self.path = target(&self.said)?;
        let there = match options().open(&self.path) {
            Ok(there) => there,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        flock(&there, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "another server serves from it")
        })?;
        let other = self.path.with_added_extension("other");
        let _ = fs::remove_file(&other);
        // Under both names until ours takes the one: nothing is lost to a kill.
        fs::hard_link(&self.path, &other).or_else(|_| fs::copy(&self.path, &other).map(drop))
    }

    /// A file beside it, to be filled and to take its place.
    pub fn draft(&self, header: &str) -> io::Result<Draft> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let path = draft_path(&self.path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Nothing that somebody put there is written to.
        let file = options().create_new(true).open(&path)?;
        let mut draft = Draft { path, file: Arc::new(file), len: 0, in_place: false };
        flock(&draft.file, FlockOperation::NonBlockingLockExclusive)?;
        let before = self.file.metadata()?;
        draft.file.set_permissions(before.permissions())?;
        // Who may read it goes on doing so; only root can give a file away.
        let _ = std::os::unix::fs::fchown(&draft.file, Some(before.uid()), Some(before.gid()));
        draft.append(header.as_bytes())?;
        Ok(draft)
    }

    /// The draft is the lease file from now on. Its content is on the disk before its name is.
    pub fn replace(&mut self, mut draft: Draft) -> io::Result<()> {
        fs::rename(&draft.path, &self.path)?;
        draft.in_place = true;
        self.file = draft.file.clone();
        self.len = draft.len;
        self.torn = false;
        Ok(())
    }

    /// Whether that is the answer of a place where no file can take another's name.
    pub(crate) fn cannot_be_replaced(error: &io::Error) -> bool {
        use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
        matches!(
            error.kind(),
            CrossesDevices | PermissionDenied | ReadOnlyFilesystem | ResourceBusy
        )
    }

    /// Copies what is behind `from`, of which all before `copied` is copied already, up to `to` over the beginning, and
    /// waits for the disk. Any part of it leaves a file that says the same.
    pub(crate) fn copy_down(file: &File, from: u64, copied: u64, to: u64) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut at = copied;
        while at < to {
            let some = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            let part = buffer.get_mut(..some).unwrap_or_default();
            file.read_exact_at(part, at)?;
            file.write_all_at(part, at - from)?;
            at += u64::try_from(some).unwrap_or(u64::MAX);
        }
        file.sync_data()
    }

    /// All that counts is in the first `len` octets, and on the disk.
    pub fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = len;
        self.torn = false;
        Ok(())
    }

    /// Waits until the directory has the new name.
    pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    /// As it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A lease file in the making; gone when it is dropped, unless it took its place.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    in_place: bool,
}

impl Draft {
    /// Writes at the end; what was cut off by an error is taken back.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// The open file, for `fsync` on another thread.
    pub fn handle(&self) -> Arc<File> {
        self.file.clone()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.in_place {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn draft_path(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// Not `O_APPEND`, which pwrite(2) would follow; nor may a FIFO wait for its other end.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).bits();
    options.read(true).write(true).mode(0o644).custom_flags(flags.cast_signed());
    options
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What a path leads to, link by link, whether it exists or not.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(to) = fs::read_link(&path) else { return Ok(path) };
        path = path.parent().map_or_else(|| to.clone(), |dir| dir.join(&to));
    }
    Err(rustix::io::Errno::LOOP.into())
}

fn is_file(path: &Path, found: &fs::Metadata) -> Result<(), Error> {
    let kind = found.file_type();
    let kind = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Error::Kind { path: path.to_owned(), kind })
}

/// Opens and locks it; once more when it was replaced between the two.
fn locked(path: &Path) -> Result<File, Error> {
    loop {
        if let Ok(found) = fs::metadata(path) {
            is_file(path, &found)?;
        }
        let file =
            options().create(true).truncate(false).open(path).map_err(at("opening", path))?;
        let ours = file.metadata().map_err(at("looking at", path))?;
        is_file(path, &ours)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked(path.to_owned())),
            Err(error) => return Err(at("locking", path)(error.into())),
        }
        let named = fs::metadata(path);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}
