//! One disk, one launcher: `flock(2)` on a file next to the disk, held as long as the VM may run.
//!
//! The kernel lets go of it when the process ends, however it ends. The file tells who holds it.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use super::owner::SHARED;
use super::{ALL_TRUSTED, Beneath, Error, at};
use crate::sys::ffi;

/// Who only looks whether it is held (`berth doctor`) has it for a moment.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock or tells who has it and for how long. `holder` is written into the file: who we are.
pub fn lock(path: &Path, holder: &str) -> Result<Lock, Error> {
    lock_for(path, holder, &ALL_TRUSTED)
}

/// [`lock`], in a directory that may not be trusted.
pub fn lock_for(path: &Path, holder: &str, files: &Beneath) -> Result<Lock, Error> {
    let (mut file, writable) = open(path, SHARED, files).map_err(at("opening the lock", path))?;
    let mut tries = TRIES;
    while !acquire(&file, path, FlockOperation::NonBlockingLockExclusive)? {
        tries -= 1;
        if tries > 0 {
            std::thread::sleep(PAUSE);
            continue;
        }
        return Err(Error::Locked { path: path.to_owned(), holder: holder_of(&mut file) });
    }
    if writable {
        sign(&mut file, holder).map_err(at("writing the lock", path))?;
    }
    Ok(Lock { _file: file })
}

/// Who has the lock, by its own word; None: nobody, or there is none. Held for as long as it takes to see that.
pub fn held_by(path: &Path, files: &Beneath) -> Option<String> {
    let mut file = files.read(path).ok()?;
    let held = retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockShared));
    (held == Err(Errno::WOULDBLOCK)).then(|| holder_of(&mut file))
}

/// Whether the lock is ours now. A file system without locks is refused: what is not guarded is lost in silence.
pub(super) fn acquire(file: &File, path: &Path, operation: FlockOperation) -> Result<bool, Error> {
    match retry_on_intr(|| flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let why = "no locks on this file system: an NFS volume needs its lock service, or local_lock=flock";
            Err(Error::Overlay { path: path.to_owned(), why: why.to_owned() })
        }
        Err(error) => Err(at("locking", path)(error.into())),
    }
}

/// Who has the lock by its own word, and for how long.
pub(super) fn holder_of(file: &mut File) -> String {
    let since = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let age = since.and_then(|since| since.elapsed().ok()).map_or(0, |age| age.as_secs());
    let mut text = String::new();
    let _ = file.take(200).read_to_string(&mut text);
    let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    let who = if text.is_empty() { "another launcher" } else { &text };
    format!("{who} for {age} s")
}

/// Writes who has the lock. What has another name as well may be somebody's file: it is locked and left as it is.
pub(super) fn sign(file: &mut File, holder: &str) -> io::Result<()> {
    if file.metadata()?.nlink() > 1 {
        return Ok(());
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{holder}")
}

/// Opens the lock, or makes it with this mode; whether it may be written. To hold it, reading is enough.
pub(super) fn open(path: &Path, mode: u32, files: &Beneath) -> io::Result<(File, bool)> {
    let both = || files.write(path);
    // Without O_CREAT at first: in a sticky directory it is refused for a file of somebody else (protected_regular).
    let error = match both() {
        Ok(file) => return Ok((file, true)),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::NotFound => {}
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            return files.read(path).map(|file| (file, false)).map_err(|_| error);
        }
        _ => return Err(error),
    }
    match files.create_new(path, mode) {
        Ok(file) => {
            file.set_permissions(Permissions::from_mode(mode))?;
            Ok((file, true))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            both().map(|file| (file, true))
        }
        Err(error) => Err(error),
    }
}

/// Waits until no QEMU holds its own lock on the image (QEMU docs/system/qemu-block-drivers: image locking). One
/// that was killed a moment ago still does, for as long as the kernel takes to end it.
pub fn wait_released(image: &Path, limit: Duration, files: &Beneath) -> Result<(), Error> {
    let file = files.write(image).map_err(at("opening", image))?;
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    loop {
        if !ffi::locked_by_another(&file).map_err(at("looking for locks on", image))? {
            return Ok(());
        }
        if waited >= limit {
            let holder = "a QEMU that still runs".to_owned();
            return Err(Error::Locked { path: image.to_owned(), holder });
        }
        std::thread::sleep(step);
        waited += step;
    }
}
