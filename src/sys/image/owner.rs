//! Whose files the VM's are. A launcher that is root and one that is nobody may take turns on one volume, as the two
//! forms of the container do, and neither needs CAP_CHOWN for it: files are shared through QEMU's group.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::process::{Gid, getegid, geteuid, getgroups};
use rustix::thread::set_thread_groups;

use super::Beneath;

/// What the VM's disk and its lock are created with: the group of who made them, or QEMU's.
pub(super) const SHARED: u32 = 0o660;

/// Puts this thread into a group as well, so that it opens what was made by a launcher of that group. Needs CAP_SETGID.
pub fn join_group(gid: u32) -> io::Result<()> {
    let gid = Gid::from_raw(gid);
    let mut groups = getgroups()?;
    if gid == getegid() || groups.contains(&gid) {
        return Ok(());
    }
    groups.push(gid);
    Ok(set_thread_groups(&groups)?)
}

/// A name in a volume may be one more of a file elsewhere on it.
#[derive(Debug, thiserror::Error)]
#[error("{} has another name as well: what it is a hard link to is not berth's to share", .0.display())]
struct AnotherName(PathBuf);

/// Lets a group read and write a file of ours. An owner who is in the group may (chown(2)). A file with another name is
/// refused: it may be somebody's.
pub fn share(path: &Path, gid: u32, files: &Beneath) -> io::Result<()> {
    let file = files.read(path)?;
    let found = file.metadata()?;
    if found.uid() != geteuid().as_raw() {
        return Ok(());
    }
    if found.gid() == gid && found.mode() & 0o777 == SHARED {
        return Ok(());
    }
    if found.nlink() != 1 {
        return Err(io::Error::other(AnotherName(path.to_owned())));
    }
    if found.gid() != gid {
        fchown(&file, None, Some(gid))?;
    }
    if found.mode() & 0o777 != SHARED {
        file.set_permissions(Permissions::from_mode(SHARED))?;
    }
    Ok(())
}

/// Who is kept from a file, by whom, and what helps.
pub(super) fn words(path: &Path) -> String {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let Ok(of_dir) = fs::metadata(dir) else {
        return format!("berth runs as {uid}:{gid} and may not enter {}", dir.display());
    };
    let of_path = fs::metadata(path).ok().map(|found| (path, found));
    let found: Vec<_> = of_path.into_iter().chain([(dir, of_dir)]).collect();
    for (shown, found) in &found {
        let (shown, owner) = (shown.display(), format!("{}:{}", found.uid(), found.gid()));
        let (mode, wanted, bits) = match (found.mode() & 0o7777, found.is_dir()) {
            (mode, true) => (mode, 0o700, "u+rwx"),
            (mode, false) => (mode, 0o600, "u+rw"),
        };
        if found.uid() != uid {
            return format!(
                "{shown} belongs to {owner} (mode {mode:o}), and berth runs as {uid}:{gid}: chown {uid}:{gid} it, or run \
                 berth as its owner"
            );
        }
        if mode & wanted != wanted {
            return format!(
                "{shown} is berth's own ({owner}), but its mode {mode:o} keeps berth from it: chmod {bits} it"
            );
        }
    }
    format!(
        "{} is berth's own, and neither its mode nor its directory's is the reason: look at mounts and security modules",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_our_own_is_told_by_its_mode_and_not_by_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let told = |of: &Path, mode| {
            fs::set_permissions(of, Permissions::from_mode(mode)).unwrap();
            words(&file)
        };
        let text = told(&file, 0o440);
        assert!(text.contains("file is berth's own") && text.contains("mode 440"), "{text}");
        assert!(text.ends_with("chmod u+rw it"), "{text}");
        assert!(told(&file, 0o600).contains("neither its mode nor"));
        fs::remove_file(&file).unwrap();
        let text = told(dir.path(), 0o500);
        assert!(text.contains("mode 500") && text.ends_with("chmod u+rwx it"), "{text}");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_file_with_another_name_is_not_shared() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("file"), dir.path().join("other"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&file, &other).unwrap();
        let share = || share(&other, getegid().as_raw(), &Beneath::default());
        assert!(share().unwrap_err().to_string().contains("other has another name"));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&file).unwrap();
        share().unwrap();
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, SHARED);
    }
}
