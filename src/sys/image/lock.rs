//! One disk, one launcher: `flock(2)` on a file next to the disk, held as long as the VM may run.
//!
//! The kernel lets go of it when the process ends, however it ends. The file tells who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::{Error, at};

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock or tells who has it and for how long. `holder` is written into the file: who we are.
pub fn lock(path: &Path, holder: &str) -> Result<Lock, Error> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(at("opening the lock", path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let since = file.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = since.and_then(|since| since.elapsed().ok()).map_or(0, |age| age.as_secs());
            let mut text = String::new();
            let _ = file.take(200).read_to_string(&mut text);
            let text = text.trim();
            let who = if text.is_empty() { "another launcher" } else { text };
            let holder = format!("{who} for {age} s");
            return Err(Error::Locked { path: path.to_owned(), holder });
        }
        Err(error) => return Err(at("locking", path)(error.into())),
    }
    let write = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{holder}"));
    write.map_err(at("writing the lock", path))?;
    Ok(Lock { _file: file })
}
