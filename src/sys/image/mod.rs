//! Disk images on this machine: the lock, the fetch, what a file is, the overlay and its base, small files written
//! whole.
//!
//! Blocking code; the verb runs it off the event loop. A good file is never replaced by a bad one: everything is
//! written beside its place, looked at, synced, and renamed. An overlay is synced while QEMU starts.

pub mod fetch;
mod format;
mod identity;
mod lock;
mod overlay;
mod owner;
mod partitions;
pub mod qcow2;
mod stillborn;
pub mod target;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::exit::{Code, Coded};
use crate::faults::{self, Fault};
use crate::sys::beneath::{ALL_TRUSTED, Beneath};

pub use fetch::{Origin, Progress, Request, Timing, fetch, fetch_for};
pub use format::{Access, Format, Keys, classify, inspect, inspect_for};
pub use identity::{Identity, Note};
pub use lock::{Lock, held_by, lock, lock_for, wait_released};
pub use overlay::{Overlay, ensure_overlay, ensure_overlay_for};
pub use owner::{join_group, share};

/// What is wrong with an image, a disk or its source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step} {}", path.display())]
    File { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{step} {}: {why}", path.display())]
    Denied { step: &'static str, path: PathBuf, why: String },
    #[error("no space left for {}: give the volume more room, or remove what is not needed", .0.display())]
    Full(PathBuf),
    /// `via`: proxies and redirects on the way.
    #[error("{url}: {via}the server answered {status}: check IMG_SOURCE")]
    Status { url: String, via: String, status: u16 },
    /// Another try would end as this one.
    #[error("{url}: {why}")]
    Refused { url: String, why: String },
    /// Its certificate is not one that is trusted here.
    #[error(
        "{url}: {why}: check the name and the server's certificate, or give its authority in BERTH_CA_FILE"
    )]
    Untrusted { url: String, why: String },
    #[error(
        "{url}: given up after {tries} tries, of which the last {idle} got no further than {furthest} octets: {last}"
    )]
    Unreachable { url: String, tries: u32, idle: u32, furthest: u64, last: String },
    #[error(
        "{origin} has the digest {found}, but {wanted} is wanted: the image is not what IMG_SHA256 says"
    )]
    Checksum { origin: String, wanted: String, found: String },
    #[error(
        "{name} is larger than the {max_bytes} octets that IMG_MAX_SIZE allows: raise it, or check IMG_SOURCE"
    )]
    TooLarge { name: String, max_bytes: u64 },
    #[error("{name} is {what}: a qcow2 or raw disk image is needed")]
    NotAnImage { name: String, what: String },
    #[error("{name} names {refers} as its {what}: an image that opens other files is refused")]
    Refers { name: String, what: &'static str, refers: String },
    #[error("{}: {why}", path.display())]
    Overlay { path: PathBuf, why: String },
    #[error("creating the overlay {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("{} is held by {holder}: one disk, one VM", path.display())]
    Locked { path: PathBuf, holder: String },
    #[error("no usable certificate in {}", .0.display())]
    Certificates(PathBuf),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Status { .. }
            | Self::Refused { .. }
            | Self::Untrusted { .. }
            | Self::Unreachable { .. }
            | Self::Certificates(_)
            | Self::Full(_) => Code::Fetch,
            Self::Checksum { .. }
            | Self::NotAnImage { .. }
            | Self::Refers { .. }
            | Self::TooLarge { .. } => Code::Refused,
            Self::Locked { .. } => Code::Locked,
            Self::File { .. }
            | Self::Denied { .. }
            | Self::Overlay { .. }
            | Self::Create { .. } => Code::Overlay,
        }
    }

    fn fault(&self) -> Option<&'static Fault> {
        Some(match self {
            Self::Status { .. } => &faults::IMAGE_STATUS,
            Self::Refused { .. } | Self::Unreachable { .. } => &faults::IMAGE_UNREACHABLE,
            Self::Untrusted { .. } | Self::Certificates(_) => &faults::IMAGE_UNTRUSTED,
            Self::Full(_) => &faults::VOLUME_FULL,
            Self::Checksum { .. } => &faults::IMAGE_CHECKSUM,
            Self::NotAnImage { .. } | Self::Refers { .. } => &faults::IMAGE_REFUSED,
            Self::TooLarge { .. } => &faults::IMAGE_TOO_LARGE,
            Self::Locked { .. } => &faults::DISK_LOCKED,
            Self::Denied { .. } => &faults::VOLUME_READ_ONLY,
            Self::Overlay { .. } | Self::Create { .. } => &faults::OVERLAY_REFUSED,
            Self::File { .. } => return None,
        })
    }
}

/// An I/O error with its file; a full disk and a file of somebody else have words of their own.
fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full(path.to_owned()),
        io::ErrorKind::PermissionDenied => {
            Error::Denied { step, path: path.to_owned(), why: owner::words(path) }
        }
        io::ErrorKind::ReadOnlyFilesystem => Error::Denied {
            step,
            path: path.to_owned(),
            why: "the volume is mounted read-only: mount it to be written (readOnly: false)"
                .to_owned(),
        },
        _ => Error::File { step, path: path.to_owned(), source },
    }
}

/// Makes a directory that only its owner enters. One that exists is left as it is.
pub(crate) fn private_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(at("creating the directory", path))
}

/// Makes a directory for images.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(at("creating the directory", path))
}

/// Writes a small file whole or not at all: beside its place, then renamed. Content that is there already is
/// left alone. What it holds can be made again, so it is not synced.
pub fn write_atomically(
    path: &Path,
    content: &[u8],
    mode: u32,
    files: &Beneath,
) -> Result<(), Error> {
    if holds(path, content, files) {
        return Ok(());
    }
    let beside = beside(path, "new");
    let mut file = create(&beside, mode, files).map_err(at("creating", &beside))?;
    let mut write = || -> io::Result<()> {
        file.write_all(content)?;
        files.rename(&beside, path)
    };
    write().map_err(|error| {
        let _ = files.remove(&beside);
        at("writing", path)(error)
    })
}

/// No more is read than there should be.
fn holds(path: &Path, content: &[u8], files: &Beneath) -> bool {
    let mut found = Vec::new();
    let read = |file: File| file.take(content.len() as u64 + 1).read_to_end(&mut found);
    files.read(path).and_then(read).is_ok() && found == content
}

/// Creates a file anew with this mode.
fn create(path: &Path, mode: u32, files: &Beneath) -> io::Result<File> {
    match files.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            Err(io::Error::other("a directory is where a new file is made: remove it"))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => files.create_new(path, mode),
    }
}

/// `.NAME.SUFFIX` in the same directory.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Waits until a file that was renamed is on the disk under its name.
pub fn sync(path: &Path, files: &Beneath) -> Result<(), Error> {
    files.read(path).and_then(|file| file.sync_all()).map_err(at("syncing", path))?;
    files.sync_dir_of(path).map_err(at("syncing the directory of", path))
}
