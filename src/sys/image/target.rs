//! The files of a backup: what it is written to, and the scratch file that lets the guest go on meanwhile.
//!
//! A target is `NAME.part` until it is whole: then it is synced, and renamed to a name that nobody has. One that is given up is
//! removed, whatever ends the process but a SIGKILL. A scratch file has no name at all.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use imago::FormatCreateBuilder;
use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Error, Format, at, create};
use crate::sys::beneath::Beneath;
use crate::sys::process;

/// It holds all that the guest has: its owner's alone.
const MODE: u32 = 0o600;
/// Between the name of the VM and what follows: `20261130T235959Z`.
pub const STAMP: usize = 16;

/// A file that a backup is written to. Dropped before [`Self::finish`], it is removed.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    part: PathBuf,
    file: File,
    is_whole: bool,
    files: Beneath,
}

impl Target {
    /// An empty qcow2 image for so many octets of a guest, on another one in the same directory where `backing` names it. A
    /// `.part` that is there was left by a launcher that was killed.
    pub fn create(
        path: &Path,
        size_bytes: u64,
        backing: Option<&str>,
        files: &Beneath,
    ) -> Result<Self, Error> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = create(&part, MODE, files).map_err(at("creating", &part))?;
        let target =
            Self { path: path.to_owned(), part, file, is_whole: false, files: files.clone() };
        make(&target.file, size_bytes, backing).map_err(at("creating", &target.part))?;
        Ok(target)
    }

    /// The open file, for QEMU.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// What is written is on the disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(at("syncing", &self.part))
    }

    /// Whole, on the disk and under its name. Returns how many octets it takes there.
    pub fn finish(mut self) -> Result<(PathBuf, u64), Error> {
        self.file.sync_all().map_err(at("syncing", &self.part))?;
        let taken = self.file.metadata().map_err(at("reading", &self.part))?.blocks() * 512;
        self.files.rename_new(&self.part, &self.path).map_err(at("naming", &self.path))?;
        self.is_whole = true;
        self.files.sync_dir_of(&self.path).map_err(at("syncing the directory of", &self.path))?;
        Ok((self.path.clone(), taken))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_whole {
            // A directory that went away took it along.
            let _ = self.files.remove(&self.part);
        }
    }
}

/// A qcow2 image that has no name, in `dir`, for so many octets of a guest. Its file is `room` octets long, which is as far as
/// it may be written.
pub fn scratch(dir: &Path, size_bytes: u64, room: u64) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = match openat(CWD, dir, flags, Mode::from_raw_mode(MODE)) {
        Ok(file) => File::from(file),
        // A file system that knows no files without a name.
        Err(_) => named_once(&dir.join(".backup.scratch"))?,
    };
    let made = make(&file, size_bytes, None).and_then(|()| file.set_len(room));
    made.map_err(at("creating a scratch file in", dir))?;
    Ok(file.into())
}

fn named_once(path: &Path) -> Result<File, Error> {
    let all = Beneath::default();
    let file = create(path, MODE, &all).map_err(at("creating", path))?;
    all.remove(path).map_err(at("removing", path))?;
    Ok(file)
}

fn make(file: &File, size_bytes: u64, backing: Option<&str>) -> io::Result<()> {
    let storage = Storage::try_from(file.try_clone()?)?;
    let builder = Qcow2::<Storage>::create_builder(storage).size(size_bytes);
    match backing {
        Some(name) => builder.backing(name.to_owned(), Format::Qcow2.as_str().to_owned()).create(),
        None => builder.create(),
    }
}

/// Octets that may be written to the volume of a directory or file.
pub fn room(path: &Path) -> io::Result<u64> {
    process::volume(path).map(|(_, free_bytes)| free_bytes)
}

/// Whether both are on one volume.
pub fn share_volume(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    matches!((device(one), device(other)), (Ok(one), Ok(other)) if one == other)
}

/// Removes what launchers of this VM that were killed left of backups in a directory. Returns their names.
pub fn remove_left(dir: &Path, vm: &str, files: &Beneath) -> Vec<String> {
    let left = |name: &String| {
        let rest = name.strip_prefix(vm).and_then(|rest| rest.strip_prefix('-'));
        rest.and_then(|rest| rest.split_at_checked(STAMP)).is_some_and(|(stamp, rest)| {
            is_stamp(stamp) && rest.starts_with(['.', '-']) && rest.ends_with(".qcow2.part")
        })
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(left);
    names.filter(|name| files.remove(&dir.join(name)).is_ok()).collect()
}

/// Whether it is a time as [`stamp`] writes it.
pub fn is_stamp(text: &str) -> bool {
    let digit = |(at, byte): (usize, u8)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    text.len() == STAMP && text.bytes().enumerate().all(digit)
}

/// The time, in UTC, as a part of a file's name (ISO 8601, basic format).
#[expect(clippy::disallowed_methods, reason = "names are made of the time here")]
pub fn stamp_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    stamp(since.as_secs())
}

/// Days to a date by the era of 400 years that begins in March, whose leap day is its last.
fn stamp(unix_secs: u64) -> String {
    let (days, secs) = (unix_secs / 86_400 + 719_468, unix_secs % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!("{year:04}{month:02}{date:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_name() {
        for (secs, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_709_251_200, "20240301T000000Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(stamp(secs), text);
            assert!(is_stamp(text));
        }
        assert!(!is_stamp("20240301T000000") && !is_stamp("2024-301T000000Z"));
    }

    #[test]
    fn a_target_is_there_when_it_is_whole_and_never_in_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let all = Beneath::default();
        let path = dir.path().join("a.qcow2");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        drop(Target::create(&path, 1 << 20, None, &all).unwrap());
        assert_eq!(names(), 0);
        let target = Target::create(&path, 1 << 20, None, &all).unwrap();
        assert!(!path.exists());
        assert_eq!(target.finish().unwrap().0, path);
        assert_eq!((path.exists(), names()), (true, 1));
        let second = Target::create(&path, 1 << 21, None, &all).unwrap();
        second.finish().unwrap_err();
        assert_eq!(names(), 1);
    }

    #[test]
    fn what_was_left_is_told_from_what_is_others() {
        let dir = tempfile::tempdir().unwrap();
        let left = ["vm-20240301T000000Z.qcow2.part", "vm-20240301T000000Z-data.qcow2.part"];
        let others = [
            "vm-20240301T000000Z.qcow2",
            "vm-x-20240301T000000Z.qcow2.part",
            "vm2-20240301T000000Z.qcow2.part",
            "vm.qcow2.part",
        ];
        for name in left.iter().chain(&others) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let mut removed = remove_left(dir.path(), "vm", &Beneath::default());
        removed.sort();
        assert_eq!(removed, [left[1], left[0]]);
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }
}
