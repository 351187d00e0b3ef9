//! Whose files the VM's are. A launcher that is root and one that is nobody may take turns on one volume, as the two
//! forms of the container do, and neither needs CAP_CHOWN for it: files are shared through QEMU's group.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::process::{Gid, getegid, geteuid, getgroups};
use rustix::thread::set_thread_groups;

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

/// Lets a group read and write a file of ours. An owner who is in the group may (chown(2)).
pub fn share(path: &Path, gid: u32) -> io::Result<()> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if found.uid() != geteuid().as_raw() {
        return Ok(());
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
    let (shown, found) = match fs::metadata(path) {
        Ok(found) => (path, Some(found)),
        Err(_) => (dir, fs::metadata(dir).ok()),
    };
    let Some(found) = found else {
        return format!("berth runs as {uid}:{gid} and may not enter {}", dir.display());
    };
    format!(
        "{} belongs to {}:{} (mode {:o}), and berth runs as {uid}:{gid}: chown {uid}:{gid} it, or run berth as its owner",
        shown.display(),
        found.uid(),
        found.gid(),
        found.mode() & 0o7777
    )
}
