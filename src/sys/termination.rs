//! What Kubernetes shows of a container's end (`terminationMessagePath`): the kubelet makes the file, and reads it then.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Where Kubernetes has it, unless told otherwise.
const PATH: &str = "/dev/termination-log";
/// A kubelet reads no more (`MaxContainerTerminationMessageLength`).
const MAX_BYTES: usize = 4096;

/// Writes why it ends, in place of what was said before. Elsewhere than in Kubernetes there is no such file, and none is
/// made; one that cannot be written costs the message.
pub fn tell(text: &str) {
    let _ = tell_in(Path::new(PATH), text);
}

fn tell_in(path: &Path, text: &str) -> io::Result<()> {
    // Whatever else is in its place is neither followed nor waited for.
    let flags =
        OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let end = (0..=text.len().min(MAX_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    file.write_all(text.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fault_is_in_the_file_that_is_there_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        assert!(tell_in(&path, "lost").is_err() && !path.exists());
        std::fs::write(&path, "what an earlier one said, and longer").unwrap();
        tell_in(&path, "code 15: held by another").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "code 15: held by another");
        tell_in(&path, &"é".repeat(5000)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "é".repeat(2048));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(tell_in(&link, "elsewhere").is_err());
    }
}
