//! Files of the pod, as they are mounted into it.
//!
//! A path that names something else than is meant is an error, never "nothing there": where the source of a bind mount
//! is missing Docker makes a directory, a key that a ConfigMap lacks leaves a dangling link, and a FIFO would block.
//! `/dev/null` is a file that is not there.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Error;

/// cloud-init data beyond this is refused: a config drive holds small files.
pub(super) const LARGEST_BYTES: u64 = 16 << 20;

pub(super) const DIRECTORY: &str = "a directory where a file is meant: Docker makes one when the source of a bind mount is missing";
const LEADS_NOWHERE: &str =
    "a link that leads nowhere: mount what it leads to, or the ConfigMap or Secret with that key";

/// What a path leads to; None when nothing is there.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(Error::NotAFile { path: path.to_owned(), what: LEADS_NOWHERE }),
            Err(_) => Ok(None),
        },
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// What is there in place of a file; None for a file.
pub(super) fn no_file(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some(DIRECTORY)
    } else if kind.is_fifo() {
        Some("a FIFO where a file is meant: write what it carries into a file")
    } else if kind.is_socket() {
        Some("a socket where a file is meant")
    } else {
        Some("a device where a file is meant")
    }
}

/// Character device 1:3 (`null(4)`).
fn is_null(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3)
}

/// Content of a file; None when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let Some(metadata) = look(path)?.filter(|metadata| !is_null(metadata)) else { return Ok(None) };
    if let Some(what) = no_file(&metadata) {
        return Err(Error::NotAFile { path: path.to_owned(), what });
    }
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    open(path)
        .map_err(failed)?
        .take(LARGEST_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > LARGEST_BYTES {
        Err(Error::TooLarge(path.to_owned()))
    } else {
        Ok(Some(content))
    }
}

/// The same of a file that somebody named, so that it has to be there.
pub(super) fn named(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    if look(path)?.is_none() {
        return Err(Error::Read { path: path.to_owned(), source: Errno::NOENT.into() });
    }
    read(path)
}

/// A file that must be there, and text.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    String::from_utf8(named(path)?.unwrap_or_default()).map_err(|error| Error::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

/// Does not wait for the other end, whatever has come in the file's place meanwhile.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

pub(super) fn words(error: &Error) -> String {
    match error {
        Error::Read { path, source } => format!("{} cannot be read: {source}", path.display()),
        other => other.to_string(),
    }
}
