//! Answers of QMP (QEMU docs/interop/qmp-ref: query-blockstats, query-block, query-cpus-fast, query-balloon,
//! guest-stats of virtio-balloon). QEMU may be the guest's by now: what is not as expected is absent, and all is bounded.

use std::collections::BTreeMap;

use serde_json::Value;

/// Disks and processors that are looked at.
const MAX_DISKS: usize = 64;
const MAX_VCPUS: usize = 512;
/// What the balloon says of a figure that its driver has not told.
const UNKNOWN: u64 = u64::MAX;

/// What QEMU told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Qemu {
    /// By name.
    pub disks: BTreeMap<String, Disk>,
    pub memory_bytes: Option<u64>,
    /// None: there is no such device.
    pub balloon: Option<Balloon>,
}

/// One disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    pub stats: Option<Stats>,
    /// `ok`, `failed` or `nospace`; None: it is not watched.
    pub io_status: Option<String>,
    pub size_bytes: Option<u64>,
    pub allocated_bytes: Option<u64>,
}

/// What the guest did with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub read: Operations,
    pub write: Operations,
    pub flush: Operations,
    pub discard: Operations,
    pub highest_write: Option<u64>,
}

impl Stats {
    /// Reads, writes, flushes, discards.
    pub fn each(&self) -> [&Operations; 4] {
        [&self.read, &self.write, &self.flush, &self.discard]
    }
}

/// Operations of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Operations {
    pub operations: Option<u64>,
    pub bytes: Option<u64>,
    pub nanos: Option<u64>,
    /// Failed and invalid ones.
    pub errors: Option<u64>,
}

/// The balloon, and what the guest's driver tells by it. Octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balloon {
    pub actual: Option<u64>,
    pub available: Option<u64>,
    pub free: Option<u64>,
    pub cached: Option<u64>,
    pub total: Option<u64>,
    pub major_faults: Option<u64>,
    pub minor_faults: Option<u64>,
    pub swap_in: Option<u64>,
    pub swap_out: Option<u64>,
    pub age_seconds: Option<u64>,
}

/// A disk's name: its drive's, or the last part of its device's path. None: it would be no label.
fn name(of: &Value) -> Option<&str> {
    let text = |key| of.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = text("device")
        .or_else(|| text("qdev")?.rsplit('/').find(|part| *part != "virtio-backend"))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (name.len() <= 64 && name.chars().all(is_plain)).then_some(name)
}

/// query-blockstats: what the guest did with each disk. The levels below it count nothing of the guest's.
pub fn stats(answer: &Value, disks: &mut BTreeMap<String, Disk>) {
    for entry in answer.as_array().into_iter().flatten().take(MAX_DISKS) {
        let (Some(name), Some(stats)) = (name(entry), entry.get("stats")) else { continue };
        let number = |key: &str| stats.get(key).and_then(Value::as_u64);
        let of = |kind: &str| Operations {
            operations: number(&format!("{kind}_operations")),
            bytes: number(&format!("{kind}_bytes")),
            nanos: number(&format!("{kind}_total_time_ns")),
            errors: number(&format!("failed_{kind}_operations")).map(|failed| {
                failed.saturating_add(number(&format!("invalid_{kind}_operations")).unwrap_or(0))
            }),
        };
        let found = Stats {
            read: of("rd"),
            write: of("wr"),
            flush: of("flush"),
            discard: of("unmap"),
            highest_write: number("wr_highest_offset"),
        };
        disks.entry(name.to_owned()).or_default().stats = Some(found);
    }
}

/// query-block: how each disk is.
pub fn blocks(answer: &Value, disks: &mut BTreeMap<String, Disk>) {
    for entry in answer.as_array().into_iter().flatten().take(MAX_DISKS) {
        let Some(name) = name(entry) else { continue };
        // An empty drive.
        let Some(image) = entry.pointer("/inserted/image") else { continue };
        let disk = disks.entry(name.to_owned()).or_default();
        let status = entry.get("io-status").and_then(Value::as_str);
        disk.io_status =
            status.filter(|status| ["ok", "failed", "nospace"].contains(status)).map(str::to_owned);
        disk.size_bytes = image.get("virtual-size").and_then(Value::as_u64);
        disk.allocated_bytes = image.get("actual-size").and_then(Value::as_u64);
    }
}

/// query-cpus-fast: numbers of virtual processors, and their threads.
pub fn vcpus(answer: &Value) -> Vec<(u64, u64)> {
    let entries = answer.as_array().into_iter().flatten().take(MAX_VCPUS);
    let number = |entry: &Value, key| entry.get(key).and_then(Value::as_u64);
    entries
        .filter_map(|entry| Some((number(entry, "cpu-index")?, number(entry, "thread-id")?)))
        .collect()
}

/// What query-balloon and the device's guest-stats say; `now` is the Unix time in seconds.
pub fn balloon(actual: Option<&Value>, stats: Option<&Value>, now: u64) -> Balloon {
    let mut balloon = Balloon {
        actual: actual.and_then(|value| value.get("actual")?.as_u64()),
        ..Balloon::default()
    };
    let updated = stats.and_then(|stats| stats.get("last-update")?.as_u64()).filter(|at| *at > 0);
    let (Some(stats), Some(updated)) = (stats, updated) else { return balloon };
    let of = |key: &str| {
        let value = stats.get("stats")?.get(key)?.as_u64()?;
        (value != UNKNOWN).then_some(value)
    };
    balloon.available = of("stat-available-memory");
    balloon.free = of("stat-free-memory");
    balloon.cached = of("stat-disk-caches");
    balloon.total = of("stat-total-memory");
    balloon.major_faults = of("stat-major-faults");
    balloon.minor_faults = of("stat-minor-faults");
    balloon.swap_in = of("stat-swap-in");
    balloon.swap_out = of("stat-swap-out");
    balloon.age_seconds = Some(now.saturating_sub(updated));
    balloon
}
