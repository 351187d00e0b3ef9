//! Increments: what the guest wrote since a backup, by a dirty bitmap in its disk (QEMU docs/interop/bitmaps.rst).
//!
//! The bitmap `berth-STAMP` began with the backup of that time, in the file with that time in its name. So the bitmap itself says
//! which file an increment stands on. The next one begins before the moment of a backup, and the last one is read after it: what
//! is in between is copied by both.

use std::path::Path;

use serde_json::Value;

use super::Found;
use crate::sys::image::target::is_stamp;

const PREFIX: &str = "berth-";
/// Octets that one bit stands for: a cluster.
pub(super) const GRANULARITY: u64 = 64 << 10;

/// A dirty bitmap of a disk (qapi/block-core.json, BlockDirtyInfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bitmap {
    pub(super) name: String,
    /// QEMU was killed: writes are missing in it.
    is_inconsistent: bool,
    is_recording: bool,
}

impl Bitmap {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
        Some(Self {
            name: value.get("name")?.as_str()?.to_owned(),
            is_inconsistent: flag("inconsistent"),
            is_recording: flag("recording"),
        })
    }

    fn stamp(&self) -> Option<&str> {
        self.name.strip_prefix(PREFIX).filter(|stamp| is_stamp(stamp))
    }
}

/// The name of the bitmap that begins at this time.
pub(super) fn bitmap(stamp: &str) -> String {
    format!("{PREFIX}{stamp}")
}

/// The name of a disk's file of this time.
pub(super) fn file(vm: &str, stamp: &str, disk: &str) -> String {
    match disk {
        "root" => format!("{vm}-{stamp}.qcow2"),
        disk => format!("{vm}-{stamp}-{disk}.qcow2"),
    }
}

impl Found {
    /// Those of ours.
    pub(super) fn own_bitmaps(&self) -> impl Iterator<Item = &Bitmap> {
        self.bitmaps.iter().filter(|bitmap| bitmap.stamp().is_some())
    }

    /// The time of the last backup that an increment can stand on, or why there is none.
    pub(super) fn last(&self, vm: &str, dir: &Path) -> Result<String, String> {
        let mut bitmaps: Vec<&Bitmap> = self.own_bitmaps().collect();
        bitmaps.sort_by(|one, other| other.name.cmp(&one.name));
        let mut tried = bitmaps.into_iter().map(|bitmap| self.usable(bitmap, vm, dir));
        match tried.next() {
            None => Err(
                "its disk has no bitmap of a backup before it: there was none, or QEMU was killed \
                         before it wrote it down"
                    .to_owned(),
            ),
            Some(Ok(stamp)) => Ok(stamp),
            Some(Err(why)) => tried.find_map(Result::ok).ok_or(why),
        }
    }

    fn usable(&self, bitmap: &Bitmap, vm: &str, dir: &Path) -> Result<String, String> {
        let stamp = bitmap.stamp().unwrap_or_default();
        if bitmap.is_inconsistent || !bitmap.is_recording {
            return Err(format!(
                "the bitmap of {stamp} is not consistent: QEMU was killed since, and did not write it down"
            ));
        }
        let file = file(vm, stamp, &self.disk.name);
        if dir.join(&file).is_file() {
            Ok(stamp.to_owned())
        } else {
            Err(format!("{file}, which the last bitmap began with, is not in {}", dir.display()))
        }
    }
}
