//! Notices that a file is another one than it was, or has another content (inotify(7)).
//!
//! The file itself is watched, as it may be a mount or a link from elsewhere, and its directory, as it may be replaced
//! or not be there yet. What has changed is the caller's to see: more is reported than there is.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::ffi;

#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    events: AsyncFd<OwnedFd>,
}

impl FileWatch {
    pub fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let watch = Self { path: path.to_owned(), events: ffi::awaited(fd)? };
        watch.add();
        Ok(watch)
    }

    /// Whatever is there now. What is there already stays as it is.
    fn add(&self) {
        let file = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        let dir = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let _ = inotify::add_watch(self.events.get_ref(), &self.path, file);
        if let Some(parent) = self.path.parent() {
            let _ = inotify::add_watch(self.events.get_ref(), parent, dir);
        }
    }

    /// Something has happened. Nothing ever, when the kernel has failed us.
    pub async fn changed(&self) {
        let Ok(mut ready) = self.events.readable().await else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        while rustix::io::read(self.events.get_ref(), &mut buffer).is_ok_and(|length| length > 0) {}
        ready.clear_ready();
        self.add();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(2);

    async fn is_noticed(watch: &FileWatch, change: impl FnOnce()) -> bool {
        while timeout(Duration::from_millis(50), watch.changed()).await.is_ok() {}
        change();
        timeout(SOON, watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_removed_and_made_again_is_noticed_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("resolv.conf"), dir.path().join("new"));
        let watch = FileWatch::new(&path).unwrap();
        let write = |path: &Path| std::fs::write(path, "nameserver 10.0.0.1\n").unwrap();
        assert!(is_noticed(&watch, || write(&path)).await, "made");
        assert!(is_noticed(&watch, || write(&path)).await, "written");
        write(&other);
        assert!(is_noticed(&watch, || std::fs::rename(&other, &path).unwrap()).await, "replaced");
        assert!(is_noticed(&watch, || write(&path)).await, "written after that");
        assert!(is_noticed(&watch, || std::fs::remove_file(&path).unwrap()).await, "removed");
        assert!(is_noticed(&watch, || write(&path)).await, "made again");
    }

    #[tokio::test]
    async fn a_link_to_a_file_elsewhere_is_followed() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, target, other) =
            (dir.path().join("resolv.conf"), elsewhere.path().join("stub"), elsewhere.path().join("new"));
        std::fs::write(&target, "one").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let watch = FileWatch::new(&path).unwrap();
        assert!(is_noticed(&watch, || std::fs::write(&target, "two").unwrap()).await);
        std::fs::write(&other, "three").unwrap();
        assert!(is_noticed(&watch, || std::fs::rename(&other, &target).unwrap()).await);
        assert!(is_noticed(&watch, || std::fs::write(&target, "four").unwrap()).await);
    }
}
