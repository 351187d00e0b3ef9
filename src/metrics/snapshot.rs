//! What the sources said: each part is absent where its source did not answer, or is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::qemu::Qemu;

/// Counts by a label, or by two.
pub type Counts = BTreeMap<&'static str, u64>;
pub type Pairs = BTreeMap<(&'static str, &'static str), u64>;

/// All that a page is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub version: String,
    /// `run`, `net` or `vm`.
    pub verb: String,
    /// Empty: `net`, which has none.
    pub vm: String,
    /// Since the Unix epoch.
    pub started: Duration,
    pub ready: bool,
    /// From the start to the first time that it was ready.
    pub ready_after: Option<Duration>,
    pub machine: Option<Machine>,
    /// QMP's answers.
    pub qemu: Option<Qemu>,
    pub qemu_process: Option<Process>,
    /// Of each virtual processor: its number, how long it ran and how long it waited, in ns.
    pub vcpu_times: Vec<(u64, u64, u64)>,
    pub process: Option<Process>,
    pub volume: Option<Volume>,
    pub memory: Option<Memory>,
    pub fetch: Option<Fetch>,
    pub network: Option<Network>,
    pub agent: Option<Agent>,
    /// When the guest was last given its address, since the Unix epoch: `vm` knows of it, too.
    pub lease: Option<Duration>,
    /// Of the serial line by kind: who reads it now, and octets that were lost to those who were too slow.
    pub console: BTreeMap<&'static str, (u64, u64)>,
    /// By source, 0 as well.
    pub scrape_errors: Counts,
    pub took: Duration,
}

/// The machine, as its supervisor tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// One of [`STATES`].
    pub state: &'static str,
    pub qemu_version: Option<String>,
    pub accelerator: Option<&'static str>,
    /// As planned.
    pub vcpus: u32,
    pub memory_bytes: u64,
    pub starts: u64,
    pub guest_resets: u64,
    pub host_resets: u64,
    pub panics: u64,
    pub backups: u64,
    pub failed_backups: u64,
    /// When the last one was whole, since the Unix epoch.
    pub last_backup: Option<Duration>,
    /// When this QEMU was started, since the Unix epoch.
    pub started: Option<Duration>,
    /// From berth's start to the first start of QEMU, and until it first ran the guest.
    pub exec_after: Option<Duration>,
    pub running_after: Option<Duration>,
    pub misunderstood: Counts,
}

/// The states of a guest.
pub const STATES: [&str; 6] = ["starting", "running", "paused", "io_error", "panicked", "stopping"];

/// A process, by proc(5).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub anon_bytes: u64,
    pub file_bytes: u64,
    pub threads: u64,
}

/// The volume with the disks, by statvfs(3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    pub size_bytes: u64,
    pub free_bytes: u64,
}

/// The container's memory, by its cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    pub current_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub events: Counts,
}

/// How far the image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetch {
    pub done_bytes: u64,
    pub size_bytes: Option<u64>,
    pub took: Duration,
}

/// What the guest's agent says; the guest chooses it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// Whether it answers now; the rest stays while it is silent.
    pub answers: bool,
    /// Mount point, type, octets used and in all.
    pub file_systems: Vec<(String, String, Option<u64>, Option<u64>)>,
}

/// What the network half counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Network {
    /// Of `uplink` and `guest`, each seen from itself.
    pub links: BTreeMap<&'static str, Link>,
    /// Of rules: packets and octets.
    pub rules: BTreeMap<String, (u64, u64)>,
    pub conntrack: Option<(u64, u64)>,
    pub heals: Counts,
    /// Services that are not off.
    pub serving: BTreeMap<&'static str, bool>,
    /// By protocol, and kind or reason.
    pub dhcp_requests: Pairs,
    pub dhcp_replies: Pairs,
    pub dhcp_dropped: Pairs,
    pub dns: Option<Dns>,
    /// From berth's start to the first time.
    pub lease_after: Option<Duration>,
}

/// A link's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    pub receive: Way,
    pub transmit: Way,
}

/// One direction of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    pub bytes: u64,
    pub packets: u64,
    pub errs: u64,
    pub drop: u64,
}

/// Upper bounds of the histogram of name servers' answers, in seconds; the last one has none.
pub const DNS_BOUNDS: [(&str, Duration); 7] = [
    ("0.001", Duration::from_millis(1)),
    ("0.005", Duration::from_millis(5)),
    ("0.02", Duration::from_millis(20)),
    ("0.1", Duration::from_millis(100)),
    ("0.3", Duration::from_millis(300)),
    ("1.0", Duration::from_secs(1)),
    ("3.0", Duration::from_secs(3)),
];

/// What the DNS service counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dns {
    pub outcomes: Counts,
    pub upstream_failures: u64,
    pub dropped: Counts,
    /// How many were within each of [`DNS_BOUNDS`] and not within the one before.
    pub buckets: [u64; 7],
    pub answers: u64,
    pub sum: Duration,
}
