//! One fetcher of an image at a time: launchers of several VMs may share the directory, and there is one part.
//!
//! `flock(2)` on a file beside the part, which is renamed and made anew under the one who writes it. The kernel lets
//! go of it when the process ends, however it ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::super::Beneath;
use super::super::lock::{acquire, holder_of, open, sign};
use super::{Error, at};

/// Whoever may write to the directory may fetch, and another user's lock is held with it open for reading.
const MODE: u32 = 0o664;
/// The lock may be taken away between two steps of opening it, but not for ever.
const MAX_VANISHED: u32 = 100;

/// Held until dropped.
pub(super) struct Turn<'a> {
    file: File,
    path: PathBuf,
    files: &'a Beneath,
}

impl<'a> Turn<'a> {
    /// Waits for it, with a word when it has to. Blocking, for as long as another one fetches.
    pub fn take(path: &Path, target: &Path, files: &'a Beneath) -> Result<Self, Error> {
        let (mut told, mut vanished) = (false, 0);
        loop {
            let (mut file, writable) = match open(path, MODE, files) {
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && vanished < MAX_VANISHED =>
                {
                    vanished += 1;
                    continue;
                }
                opened => opened.map_err(at("opening the lock", path))?,
            };
            if !acquire(&file, path, FlockOperation::NonBlockingLockExclusive)? {
                if !told {
                    tracing::warn!(
                        image = %target.display(), lock = %path.display(), holder = ?holder_of(&mut file),
                        "another launcher fetches this image, waiting for it"
                    );
                    told = true;
                }
                acquire(&file, path, FlockOperation::LockExclusive)?;
            }
            // Who had it has removed it at the end, and the next may have made another.
            if !is_at(&file, path, files) {
                continue;
            }
            if writable {
                // Only for whoever waits: a full volume is told of by what needs the room.
                let pod = rustix::system::uname().nodename().to_string_lossy().into_owned();
                let _ = sign(&mut file, &format!("{pod} (pid {})", std::process::id()));
            }
            return Ok(Self { file, path: path.to_owned(), files });
        }
    }
}

impl Drop for Turn<'_> {
    /// Nobody else removes it while it is locked. After a kill it stays, and is taken by the next.
    fn drop(&mut self) {
        if is_at(&self.file, &self.path, self.files) {
            let _ = self.files.remove(&self.path);
        }
    }
}

/// Whether the name is still that of the open file. Opened, since on NFS only that asks the server.
fn is_at(file: &File, path: &Path, files: &Beneath) -> bool {
    let identity = |file: &File| file.metadata().ok().map(|found| (found.dev(), found.ino()));
    let there = files.read(path).ok().and_then(|file| identity(&file));
    there.is_some() && there == identity(file)
}
