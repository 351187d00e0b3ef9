//! Notices that a file is another one than it was, or has another content (inotify(7)).
//!
//! Watched are the file itself, as it may be a mount, and every directory on the way to it, those behind links included,
//! for the one name in it that leads on: any of them may be replaced, as the `..data` of a ConfigMap is, or not be there
//! yet, as /run/systemd/resolve. What has changed is the caller's to see: more is reported than there is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::ffi;

/// As many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// How often the way is looked at again because it changed while it was watched.
const ROUNDS: usize = 8;

#[derive(Debug)]
pub(crate) struct FileWatch {
    path: PathBuf,
    events: AsyncFd<OwnedFd>,
    watched: BTreeMap<i32, Watched>,
}

#[derive(Debug, PartialEq, Eq)]
enum Watched {
    File,
    /// These of its names lead on.
    Directory(BTreeSet<OsString>),
}

impl FileWatch {
    /// Watches the file and every directory and link on the way to it (inotify(7)).
    pub fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let path = std::path::absolute(path)?;
        let mut watch = Self { path, events: ffi::awaited(fd)?, watched: BTreeMap::new() };
        watch.add()?;
        Ok(watch)
    }

    /// Watches the way as it is now. What changes while it is walked is seen by walking it once more.
    fn add(&mut self) -> io::Result<()> {
        let mut before = None;
        for _ in 0..ROUNDS {
            let way = way(&self.path);
            if before.as_ref() == Some(&way) {
                break;
            }
            self.watch(&way)?;
            before = Some(way);
        }
        Ok(())
    }

    fn watch(&mut self, way: &[(PathBuf, OsString)]) -> io::Result<()> {
        let file = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        let directory = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let mut watched = BTreeMap::new();
        for (path, name) in way {
            // One that is gone again, or may not be looked into: the next one above it is watched.
            match inotify::add_watch(self.events.get_ref(), path, directory) {
                Ok(number) => {
                    let names = watched
                        .entry(number)
                        .or_insert_with(|| Watched::Directory(BTreeSet::new()));
                    if let Watched::Directory(names) = names {
                        names.insert(name.clone());
                    }
                }
                Err(rustix::io::Errno::NOSPC) => return Err(rustix::io::Errno::NOSPC.into()),
                Err(_) => {}
            }
        }
        if let Ok(number) = inotify::add_watch(self.events.get_ref(), &self.path, file) {
            watched.insert(number, Watched::File);
        }
        for number in self.watched.keys().filter(|number| !watched.contains_key(number)) {
            let _ = inotify::remove_watch(self.events.get_ref(), *number);
        }
        self.watched = watched;
        Ok(())
    }

    /// Something has happened. Nothing ever, when the kernel has failed us.
    pub async fn changed(&mut self) {
        loop {
            let Ok(mut ready) = self.events.readable().await else {
                return std::future::pending().await;
            };
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(self.events.get_ref(), &mut buffer);
            let mut concerns_us = false;
            while let Ok(event) = events.next() {
                concerns_us |= is_on_the_way(&self.watched, &event);
            }
            ready.clear_ready();
            if concerns_us {
                // Without room for more watches the caller's own looks have to do.
                let _ = self.add();
                return;
            }
        }
    }
}

fn is_on_the_way(watched: &BTreeMap<i32, Watched>, event: &Event<'_>) -> bool {
    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
        return true;
    }
    match (watched.get(&event.wd()), event.file_name()) {
        (Some(Watched::Directory(names)), Some(name)) => {
            names.contains(OsStr::from_bytes(name.to_bytes()))
        }
        (Some(_), _) => true,
        (None, _) => false,
    }
}

/// The directories that are looked into on the way to a file, and for which name, up to the first that is not there.
fn way(path: &Path) -> Vec<(PathBuf, OsString)> {
    let (mut at, mut links, mut found) = (PathBuf::from("/"), 0, Vec::new());
    let mut rest: Vec<PathBuf> = parts(path);
    while let Some(part) = rest.pop() {
        match part.components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(name)) => {
                found.push((at.clone(), name.to_owned()));
                let next = at.join(name);
                match std::fs::read_link(&next) {
                    Ok(target) if links < MAX_LINKS => {
                        links += 1;
                        rest.extend(parts(&target));
                    }
                    // Not a link.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => at = next,
                    _ => break,
                }
            }
            _ => {}
        }
    }
    found
}

/// The first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(2);
    const CALM: Duration = Duration::from_millis(50);

    async fn is_noticed(watch: &mut FileWatch, change: impl FnOnce()) -> bool {
        while timeout(CALM, watch.changed()).await.is_ok() {}
        change();
        timeout(SOON, watch.changed()).await.is_ok()
    }

    fn write(path: &Path) {
        fs::write(path, "nameserver 10.0.0.1\n").unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_removed_and_made_again_is_noticed_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("resolv.conf"), dir.path().join("new"));
        let mut watch = FileWatch::new(&path).unwrap();
        assert!(is_noticed(&mut watch, || write(&path)).await, "made");
        assert!(is_noticed(&mut watch, || write(&path)).await, "written");
        write(&other);
        assert!(is_noticed(&mut watch, || fs::rename(&other, &path).unwrap()).await, "replaced");
        assert!(is_noticed(&mut watch, || write(&path)).await, "written after that");
        assert!(is_noticed(&mut watch, || fs::remove_file(&path).unwrap()).await, "removed");
        assert!(is_noticed(&mut watch, || write(&path)).await, "made again");
    }

    #[tokio::test]
    async fn a_link_to_a_file_elsewhere_is_followed() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, target, other) = (
            dir.path().join("resolv.conf"),
            elsewhere.path().join("stub"),
            elsewhere.path().join("new"),
        );
        write(&target);
        symlink(&target, &path).unwrap();
        let mut watch = FileWatch::new(&path).unwrap();
        assert!(is_noticed(&mut watch, || write(&target)).await);
        write(&other);
        assert!(is_noticed(&mut watch, || fs::rename(&other, &target).unwrap()).await);
        assert!(is_noticed(&mut watch, || write(&target)).await);
    }

    /// As the kubelet does it: resolv.conf → ..data/resolv.conf, and ..data becomes another link by a rename.
    #[tokio::test]
    async fn a_directory_behind_a_link_that_is_swapped_is_noticed() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        for version in ["..1", "..2", "..3"] {
            fs::create_dir(at(version)).unwrap();
            write(&at(version).join("resolv.conf"));
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/resolv.conf", at("resolv.conf")).unwrap();
        let path = outside.path().join("resolv.conf");
        symlink(at("resolv.conf"), &path).unwrap();
        let mut watch = FileWatch::new(&path).unwrap();
        for version in ["..2", "..3"] {
            symlink(version, at("..tmp")).unwrap();
            let swap = || fs::rename(at("..tmp"), at("..data")).unwrap();
            assert!(is_noticed(&mut watch, swap).await, "{version}");
            assert!(
                is_noticed(&mut watch, || write(&at(version).join("resolv.conf"))).await,
                "{version}"
            );
        }
        // Watches do not pile up.
        assert!(watch.watched.len() <= way(&path).len() + 1, "{:?}", watch.watched);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_yet_is_waited_for_from_the_nearest_that_is() {
        let dir = tempfile::tempdir().unwrap();
        let (run, link) = (dir.path().join("run/systemd/resolve"), dir.path().join("resolv.conf"));
        symlink("run/systemd/resolve/stub-resolv.conf", &link).unwrap();
        let mut watch = FileWatch::new(&link).unwrap();
        let make = || {
            fs::create_dir_all(&run).unwrap();
            write(&run.join("stub-resolv.conf"));
        };
        assert!(is_noticed(&mut watch, make).await, "made with all above it");
        assert!(is_noticed(&mut watch, || write(&run.join("stub-resolv.conf"))).await, "written");
        let away = || fs::rename(dir.path().join("run"), dir.path().join("gone")).unwrap();
        assert!(is_noticed(&mut watch, away).await, "moved away with what is above it");
        assert!(
            is_noticed(&mut watch, || fs::create_dir(dir.path().join("run")).unwrap()).await,
            "begun again"
        );
    }

    #[tokio::test]
    async fn other_files_beside_it_are_nothing_and_links_in_a_ring_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        write(&path);
        let mut watch = FileWatch::new(&path).unwrap();
        while timeout(CALM, watch.changed()).await.is_ok() {}
        write(&dir.path().join("other"));
        assert!(timeout(CALM * 4, watch.changed()).await.is_err());
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        symlink(&two, &one).unwrap();
        symlink(&one, &two).unwrap();
        let mut watch = FileWatch::new(&one).unwrap();
        let out = || {
            fs::remove_file(&two).unwrap();
            write(&two);
        };
        assert!(is_noticed(&mut watch, out).await);
    }
}
