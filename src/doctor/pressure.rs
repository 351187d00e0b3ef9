//! What a container has too little of: memory, time, room on its volume.

use std::path::Path;

use rustix::fs::statvfs;

use crate::faults::{self, Finding};
use crate::sys::cgroup;

/// Parts of the periods in which the container was stopped, and how many it takes to mean something.
const THROTTLED: f64 = 0.25;
const MIN_THROTTLED: u64 = 100;
/// Octets below which a volume is full, and nearly so; and the part that is free then.
const FULL: u64 = 1 << 20;
const NEARLY: u64 = 64 << 20;
const FREE: f64 = 0.05;

/// As its control groups count.
pub fn cgroups() -> Vec<Finding> {
    let kills = cgroup::memory().map_or(0, |memory| {
        memory.events.iter().filter(|(event, _)| *event == "oom_kill").map(|(_, count)| count).sum()
    });
    let killed = (kills > 0).then(|| {
        faults::OOM_KILLED
            .found(format_args!("{kills} processes of this memory cgroup were killed"))
    });
    let throttled =
        cgroup::throttled().and_then(|(throttled, periods)| throttling(throttled, periods));
    killed.into_iter().chain(throttled).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn throttling(throttled: u64, periods: u64) -> Option<Finding> {
    let part = throttled as f64 / periods.max(1) as f64;
    (throttled >= MIN_THROTTLED && part > THROTTLED).then(|| {
        faults::CPU_THROTTLED.found(format_args!(
            "stopped in {throttled} of {periods} periods ({:.0} %) for its CPU limit",
            part * 100.0
        ))
    })
}

/// Of the volume that the disk grows on.
pub fn volume(dir: &Path) -> Option<Finding> {
    let found = statvfs(dir).ok()?;
    let octets = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    filling(dir, octets(found.f_bavail), octets(found.f_blocks))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn filling(dir: &Path, free: u64, size: u64) -> Option<Finding> {
    let (path, mib) = (dir.display(), |octets: u64| octets >> 20);
    if free < FULL {
        return Some(faults::VOLUME_FULL.found(format_args!(
            "{path}: {} KiB of {} MiB are free",
            free >> 10,
            mib(size)
        )));
    }
    let part = free as f64 / size.max(1) as f64;
    (free < NEARLY || (part < FREE && free < 16 * NEARLY)).then(|| {
        faults::VOLUME_FILLS.found(format_args!(
            "{path}: {} of {} MiB are free",
            mib(free),
            mib(size)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_full_or_nearly_so() {
        let found = |free, size| filling(Path::new("/image"), free, size).map(|finding| finding.id);
        assert_eq!(found(0, 1 << 30).as_deref(), Some("volume-full"));
        assert_eq!(found(60 << 20, 1 << 30).as_deref(), Some("volume-fills"));
        assert_eq!(found(900 << 20, 100 << 30).as_deref(), Some("volume-fills"));
        // One in twenty of a large volume is a lot.
        assert_eq!(found(2 << 30, 100 << 30), None);
        assert_eq!(found(500 << 20, 1 << 30), None);
    }

    #[test]
    fn a_container_is_throttled_when_it_is_often() {
        assert!(throttling(99, 100).is_none() && throttling(100, 10_000).is_none());
        assert!(throttling(300, 1000).is_some());
        assert!(throttling(0, 0).is_none());
    }
}
