//! Directories whose content is not trusted, and opening what is in them without being led out.
//!
//! ```text
//! trusted      every path that the operator gives: IMG_SOURCE, cloud-init files, CA_FILE, lease file, devices,
//!              and the directories themselves, which may be links
//! not trusted  what is in the image directory, in the volumes and in the state directory: a QEMU that was
//!              taken over, another pod, or who had the volume before may have put it there
//! ```
//!
//! Links that stay inside are followed, as those of a ConfigMap; one that leads out, or is absolute, is refused by its
//! name. Each component is opened without following it (`O_NOFOLLOW`), so that nothing is won by exchanging it
//! meanwhile: what `openat2(2)` does with RESOLVE_BENEATH, on every kernel and under every seccomp profile. A FIFO, a
//! socket or a character device is never waited for. A hard link is a file of the same volume: it is read and handed
//! over as any other, and what berth itself writes goes into new files, or into those that have one name.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, FileType, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType as Kind, Mode, OFlags, RenameFlags};
use rustix::fs::{
    fcntl_getfl, fcntl_setfl, openat, readlinkat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// As the kernel has it (path_resolution(7)).
const MAX_LINKS: u32 = 40;

#[derive(Debug, thiserror::Error)]
#[error("a link that leads out of {}, whose content is not trusted: put the file itself there, or name it by its own path", .0.display())]
pub(crate) struct LeadsOut(PathBuf);

#[derive(Debug, thiserror::Error)]
#[error("{0} where a file is meant: remove it")]
struct NoFile(&'static str);

/// The directories. With none every path is the operator's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beneath(Vec<PathBuf>);

/// For paths that are all the operator's.
pub static ALL_TRUSTED: Beneath = Beneath(Vec::new());

/// Where a file is: its directory, held open, and its name in there.
struct Place {
    dir: OwnedFd,
    name: OsString,
}

impl Beneath {
    /// Paths below these directories are opened without following links out of them.
    pub fn new(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(dirs.into_iter().collect())
    }

    /// Opens a regular file or a block device.
    pub fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match self.split(path) {
            Some((root, rest)) => {
                let Place { dir, name } = place(root, rest, true)?;
                // Some devices do something when they are opened.
                match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(found) => is_file(Kind::from_raw_mode(found.st_mode).into())?,
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
                openat(dir, name, flags | OFlags::NOFOLLOW, mode)?
            }
            None => openat(CWD, path, flags, mode)?,
        };
        let file = File::from(file);
        is_file(file.metadata()?.file_type().into())?;
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        Ok(file)
    }

    /// Opens for reading; never waits for a FIFO's other end.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        self.open(path, OFlags::RDONLY, Mode::empty())
    }

    /// Opens for reading and writing; the file has to be there.
    pub fn write(&self, path: &Path) -> io::Result<File> {
        self.open(path, OFlags::RDWR, Mode::empty())
    }

    /// A new file; one that is there is an error.
    pub(crate) fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        let Place { dir, name } = self.name(path)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(dir, name, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Of what the path leads to (stat(2)).
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.read(path)?.metadata()
    }

    /// unlink(2); a link itself, not what it leads to.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let Place { dir, name } = self.name(path)?;
        Ok(unlinkat(dir, name, AtFlags::empty())?)
    }

    /// rename(2) of two paths of the same directory tree.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.name(from)?, self.name(to)?);
        Ok(renameat(from.dir, from.name, to.dir, to.name)?)
    }

    /// [`Self::rename`] to a name that nobody has; one that is taken is an error.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.name(from)?, self.name(to)?);
        let renamed =
            renameat_with(&from.dir, &from.name, &to.dir, &to.name, RenameFlags::NOREPLACE);
        match renamed {
            // A file system without it, as NFS: looked at first.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            renamed => return Ok(renamed?),
        }
        match statat(&to.dir, &to.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(renameat(from.dir, from.name, to.dir, to.name)?),
            Err(error) => Err(error.into()),
            Ok(_) => Err(Errno::EXIST.into()),
        }
    }

    /// Makes a rename in its directory durable.
    pub(crate) fn sync_dir_of(&self, path: &Path) -> io::Result<()> {
        let dir = self.name(path)?.dir;
        let dir =
            openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        File::from(dir).sync_all()
    }

    /// The innermost of the directories that a path is in, and the rest of the path.
    fn split<'a>(&'a self, path: &'a Path) -> Option<(&'a Path, &'a Path)> {
        let inside = |dir: &'a PathBuf| {
            path.strip_prefix(dir)
                .ok()
                .filter(|rest| !rest.as_os_str().is_empty())
                .map(|rest| (&**dir, rest))
        };
        self.0.iter().filter_map(inside).min_by_key(|(_, rest)| rest.components().count())
    }

    /// A name to be made, given or taken away: what it is a link to does not matter.
    fn name(&self, path: &Path) -> io::Result<Place> {
        if let Some((root, rest)) = self.split(path) {
            return place(root, rest, false);
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        Ok(Place { dir: directory(CWD, dir, OFlags::empty())?, name })
    }
}

fn directory(dir: impl std::os::fd::AsFd, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(
        dir,
        name,
        flags | OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Walks from `root` to where the file is, or would be. `follow`: the last component may be a link as well.
fn place(root: &Path, rest: &Path, follow: bool) -> io::Result<Place> {
    let out = || io::Error::other(LeadsOut(root.to_owned()));
    let mut dirs = Vec::new();
    let mut dir = directory(CWD, root, OFlags::empty())?;
    let mut links = 0;
    let mut left = parts(rest, &out)?;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            dir = dirs.pop().ok_or_else(out)?;
            continue;
        }
        let is_link = (follow || !left.is_empty())
            && statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|found| Kind::from_raw_mode(found.st_mode) == Kind::Symlink);
        if is_link {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = OsString::from_vec(readlinkat(&dir, &name, Vec::new())?.into_bytes());
            let mut target = parts(Path::new(&target), &out)?;
            target.append(&mut left);
            left = target;
        } else if left.is_empty() {
            return Ok(Place { dir, name });
        } else {
            let below = directory(&dir, Path::new(&name), OFlags::NOFOLLOW)?;
            dirs.push(std::mem::replace(&mut dir, below));
        }
    }
    Err(io::ErrorKind::IsADirectory.into())
}

/// The components of a relative path.
fn parts(path: &Path, out: &impl Fn() -> io::Error) -> io::Result<VecDeque<OsString>> {
    if path.is_absolute() {
        return Err(out());
    }
    let parts = path.components().filter(|part| *part != Component::CurDir);
    Ok(parts.map(|part| part.as_os_str().to_owned()).collect())
}

/// What a name stands for, as far as it matters here.
struct What(Option<&'static str>);

impl From<Kind> for What {
    fn from(kind: Kind) -> Self {
        Self(match kind {
            Kind::RegularFile | Kind::BlockDevice | Kind::Symlink => None,
            Kind::Directory => Some("a directory"),
            Kind::Fifo => Some("a FIFO"),
            Kind::Socket => Some("a socket"),
            _ => Some("a device"),
        })
    }
}

impl From<FileType> for What {
    fn from(kind: FileType) -> Self {
        let kinds = [
            (kind.is_file() || kind.is_block_device(), Kind::RegularFile),
            (kind.is_dir(), Kind::Directory),
            (kind.is_fifo(), Kind::Fifo),
            (kind.is_socket(), Kind::Socket),
        ];
        let found = kinds.into_iter().find_map(|(holds, kind)| holds.then_some(kind));
        found.unwrap_or(Kind::CharacterDevice).into()
    }
}

fn is_file(What(instead): What) -> io::Result<()> {
    match instead {
        None => Ok(()),
        Some(instead) => Err(io::Error::other(NoFile(instead))),
    }
}

/// Whether a link was refused.
pub(crate) fn leads_out(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<LeadsOut>()).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn volume() -> (tempfile::TempDir, Beneath) {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for dir in ["out", "volume", "volume/sub", "volume/..2026"] {
            fs::create_dir(at(dir)).unwrap();
        }
        for file in ["out/secret", "volume/file", "volume/sub/file", "volume/..2026/key"] {
            fs::write(at(file), file).unwrap();
        }
        let beneath = Beneath::new([at("volume")]);
        (place, beneath)
    }

    #[test]
    fn links_that_stay_inside_are_followed_and_others_are_refused_by_name() {
        let (place, beneath) = volume();
        let at = |name: &str| place.path().join(name);
        let absolute = at("volume/file");
        for (link, target, leads) in [
            ("a", Path::new("file"), Some("volume/file")),
            ("..data", Path::new("..2026"), None),
            ("key", Path::new("..data/key"), Some("volume/..2026/key")),
            ("sub/up", Path::new("../file"), Some("volume/file")),
            ("sub/round", Path::new("../sub/../sub/./file"), Some("volume/sub/file")),
            ("b", Path::new("a"), Some("volume/file")),
        ] {
            symlink(target, at("volume").join(link)).unwrap();
            let Some(leads) = leads else { continue };
            let mut text = String::new();
            beneath.read(&at("volume").join(link)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, leads, "{link}");
        }
        for (link, target) in [
            ("out", Path::new("../out/secret")),
            ("sub/out", Path::new("../../out/secret")),
            ("dir", Path::new("../out")),
            ("by-dir", Path::new("dir/secret")),
            ("through", Path::new("../volume/file")),
            ("passwd", Path::new("/etc/passwd")),
            ("absolute", &absolute),
            ("magic", Path::new("/proc/self/root/etc/passwd")),
        ] {
            symlink(target, at("volume").join(link)).unwrap();
            let path = at("volume").join(link);
            for path in [path.clone(), path.join("secret")] {
                let error = beneath.write(&path).unwrap_err();
                assert!(
                    leads_out(&error) && error.to_string().contains("volume"),
                    "{link}: {error}"
                );
            }
        }
        assert!(leads_out(&beneath.read(&at("volume/../out/secret")).unwrap_err()));
        assert!(leads_out(&beneath.remove(&at("volume/dir/secret")).unwrap_err()));
        assert!(leads_out(&beneath.rename(&at("volume/file"), &at("volume/dir/x")).unwrap_err()));
        assert!(leads_out(&beneath.create_new(&at("volume/dir/x"), 0o600).unwrap_err()));
        symlink("circle", at("volume/circle")).unwrap();
        assert_eq!(
            beneath.read(&at("volume/circle")).unwrap_err().raw_os_error(),
            Some(libc::ELOOP)
        );
        assert_eq!(fs::read_dir(at("out")).unwrap().count(), 1);
    }

    /// The path that was given may be a link, and so may one outside of all of the directories.
    #[test]
    fn the_operators_own_paths_are_followed() {
        let (place, _) = volume();
        let at = |name: &str| place.path().join(name);
        symlink(at("volume"), at("linked")).unwrap();
        symlink(at("out/secret"), at("elsewhere")).unwrap();
        let beneath = Beneath::new([at("linked")]);
        assert!(beneath.read(&at("linked/file")).is_ok() && beneath.read(&at("elsewhere")).is_ok());
        symlink(at("out/secret"), at("volume/out")).unwrap();
        assert!(leads_out(&beneath.read(&at("linked/out")).unwrap_err()));
        // The innermost directory that was given.
        let beneath = Beneath::new([at("volume"), at("volume/sub")]);
        symlink("../file", at("volume/sub/up")).unwrap();
        assert!(leads_out(&beneath.read(&at("volume/sub/up")).unwrap_err()));
    }

    #[test]
    fn what_is_no_file_is_named_and_not_waited_for() {
        let (place, beneath) = volume();
        let at = |name: &str| place.path().join("volume").join(name);
        let make = |name: &str, kind, device| {
            rustix::fs::mknodat(CWD, at(name), kind, 0o600.into(), device).unwrap();
        };
        make("fifo", Kind::Fifo, 0);
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        // Nobody but root can make one.
        if rustix::process::geteuid().is_root() {
            make("zero", Kind::CharacterDevice, rustix::fs::makedev(1, 5));
        } else {
            make("zero", Kind::Fifo, 0);
        }
        for trusted in [&beneath, &ALL_TRUSTED] {
            for (name, words) in [("fifo", "a FIFO"), ("socket", ""), ("sub", ""), ("zero", "")] {
                for opened in [trusted.read(&at(name)), trusted.write(&at(name))] {
                    let error = opened.unwrap_err().to_string();
                    assert!(error.contains(words), "{name}: {error}");
                }
            }
        }
    }

    #[test]
    fn names_are_made_given_and_taken_away_without_following_them() {
        let (place, beneath) = volume();
        let at = |name: &str| place.path().join(name);
        symlink(at("out/secret"), at("volume/link")).unwrap();
        assert!(beneath.create_new(&at("volume/link"), 0o600).is_err());
        beneath.create_new(&at("volume/new"), 0o600).unwrap().write_all(b"new").unwrap();
        beneath.rename(&at("volume/new"), &at("volume/link")).unwrap();
        assert_eq!(fs::read(at("volume/link")).unwrap(), b"new");
        symlink(at("out/secret"), at("volume/again")).unwrap();
        beneath.remove(&at("volume/again")).unwrap();
        beneath.sync_dir_of(&at("volume/link")).unwrap();
        assert_eq!(fs::read(at("out/secret")).unwrap(), b"out/secret");
    }
}
