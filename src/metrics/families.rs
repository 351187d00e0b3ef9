//! The table: every family there is, with its type, its unit and where its numbers come from.

/// What kind of numbers a family has (OpenMetrics 1.0 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Never falls within one run of QEMU; its samples end in `_total`.
    Counter,
    Gauge,
    /// `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// Its word in a TYPE line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One family. `name` has its prefix and its unit, and no `_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// The end of the name; empty: it has none.
    pub unit: &'static str,
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident $kind:ident $unit:literal $name:literal $help:literal;)+) => {
        /// A family of the table, in its order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Id {
            $($id),+
        }

        impl Id {
            /// Its line of the table.
            pub fn family(self) -> Family {
                match self {
                    $(Self::$id => Family {
                        name: concat!("berth_", $name),
                        kind: Kind::$kind,
                        unit: $unit,
                        help: $help,
                    }),+
                }
            }
        }

        /// The whole table, in the order of a page.
        pub const FAMILIES: &[Id] = &[$(Id::$id),+];
    };
}

families! {
    Info Gauge "" "info" "Always 1: version, verb, VM, QEMU's version (QMP greeting) and accelerator.";
    StartTime Gauge "seconds" "start_time_seconds" "When berth was started, Unix time.";
    GuestStartTime Gauge "seconds" "guest_start_time_seconds" "When QEMU was started, Unix time.";
    GuestState Gauge "" "guest_state" "1 for the state the guest is in (QMP events), 0 for the others.";
    Ready Gauge "" "ready" "1 when berth status says ready.";
    GuestResets Counter "" "guest_resets" "Reboots of the guest, by who began them (QMP RESET).";
    GuestStarts Counter "" "guest_starts" "Starts of QEMU.";
    GuestPanics Counter "" "guest_panics" "Panics of the guest's kernel (QMP GUEST_PANICKED, of a pvpanic device).";
    Backups Counter "" "backups" "Backups, by what came of them (berth backup).";
    LastBackup Gauge "seconds" "backup_last_success_timestamp_seconds" "When the last backup was whole, Unix time; absent before the first of this berth.";
    BootDuration Gauge "seconds" "guest_boot_duration_seconds" "From berth's start to the first time of each step.";
    Vcpus Gauge "" "guest_vcpus" "Virtual processors (plan).";
    Memory Gauge "bytes" "guest_memory_bytes" "The guest's memory (QMP query-memory-size-summary, or plan).";
    VcpuRun Counter "seconds" "vcpu_run_seconds" "Time that a virtual processor's thread ran (/proc schedstat, field 1).";
    VcpuWait Counter "seconds" "vcpu_wait_seconds" "Time that a virtual processor's thread waited for a processor (/proc schedstat, field 2).";
    QemuCpu Counter "seconds" "qemu_cpu_seconds" "Processor time of all of QEMU's threads (/proc stat).";
    QemuResident Gauge "bytes" "qemu_resident_bytes" "QEMU's resident memory (/proc status, RssAnon, and RssFile with RssShmem).";
    QemuThreads Gauge "" "qemu_threads" "QEMU's threads (/proc status).";
    ProcessCpu Counter "seconds" "process_cpu_seconds" "Processor time of berth itself (/proc stat).";
    ProcessResident Gauge "bytes" "process_resident_bytes" "berth's own resident memory (/proc status).";
    ProcessThreads Gauge "" "process_threads" "berth's own threads (/proc status).";
    GuestAvailable Gauge "bytes" "guest_memory_available_bytes" "What the guest's kernel thinks it can give (virtio-balloon, stat-available-memory).";
    GuestFree Gauge "bytes" "guest_memory_free_bytes" "Memory the guest uses for nothing (virtio-balloon, stat-free-memory).";
    GuestCached Gauge "bytes" "guest_memory_cached_bytes" "Caches of the guest (virtio-balloon, stat-disk-caches).";
    GuestTotal Gauge "bytes" "guest_memory_total_bytes" "Memory as the guest's kernel sees it (virtio-balloon, stat-total-memory).";
    GuestBalloon Gauge "bytes" "guest_memory_balloon_bytes" "Memory the balloon leaves to the guest (QMP query-balloon).";
    GuestStatsAge Gauge "seconds" "guest_memory_stats_age_seconds" "Since the guest's driver told these figures (virtio-balloon, last-update).";
    GuestMajorFaults Counter "" "guest_major_faults" "Page faults of the guest that read from a disk (virtio-balloon).";
    GuestMinorFaults Counter "" "guest_minor_faults" "Page faults of the guest that did not (virtio-balloon).";
    GuestSwapIn Counter "bytes" "guest_swap_in_bytes" "Read from the guest's swap (virtio-balloon).";
    GuestSwapOut Counter "bytes" "guest_swap_out_bytes" "Written to the guest's swap (virtio-balloon).";
    DiskReads Counter "" "disk_reads_completed" "Reads by the guest (QMP query-blockstats, rd_operations).";
    DiskWrites Counter "" "disk_writes_completed" "Writes by the guest (QMP query-blockstats, wr_operations).";
    DiskFlushes Counter "" "disk_flushes_completed" "Flushes by the guest (QMP query-blockstats, flush_operations).";
    DiskDiscards Counter "" "disk_discards_completed" "Discards by the guest (QMP query-blockstats, unmap_operations).";
    DiskRead Counter "bytes" "disk_read_bytes" "Read by the guest (QMP query-blockstats, rd_bytes).";
    DiskWritten Counter "bytes" "disk_written_bytes" "Written by the guest (QMP query-blockstats, wr_bytes).";
    DiskDiscarded Counter "bytes" "disk_discarded_bytes" "Discarded by the guest (QMP query-blockstats, unmap_bytes).";
    DiskReadTime Counter "seconds" "disk_read_time_seconds" "Time spent in reads (QMP query-blockstats, rd_total_time_ns).";
    DiskWriteTime Counter "seconds" "disk_write_time_seconds" "Time spent in writes (QMP query-blockstats, wr_total_time_ns).";
    DiskFlushTime Counter "seconds" "disk_flush_time_seconds" "Time spent in flushes (QMP query-blockstats, flush_total_time_ns).";
    DiskErrors Counter "" "disk_errors" "Requests that failed or made no sense (QMP query-blockstats, failed_* and invalid_*).";
    DiskStopped Gauge "" "disk_io_stopped" "1 while the guest is paused for this disk (QMP query-block, io-status).";
    DiskSize Gauge "bytes" "disk_size_bytes" "Size of the disk as the guest sees it (QMP query-block, virtual-size).";
    DiskAllocated Gauge "bytes" "disk_allocated_bytes" "What the disk's file takes on the volume (QMP query-block, actual-size).";
    DiskHighestWrite Gauge "bytes" "disk_highest_write_bytes" "End of the last octet written (QMP query-blockstats, wr_highest_offset).";
    VolumeSize Gauge "bytes" "volume_size_bytes" "Size of the volume (statvfs).";
    VolumeFree Gauge "bytes" "volume_free_bytes" "Free on the volume for berth (statvfs).";
    NetReceiveBytes Counter "bytes" "network_receive_bytes" "Received by the pod's uplink, or by the guest (RTM_GETLINK, the tap seen from the guest).";
    NetTransmitBytes Counter "bytes" "network_transmit_bytes" "Sent by the pod's uplink, or by the guest (RTM_GETLINK).";
    NetReceivePackets Counter "" "network_receive_packets" "Packets received (RTM_GETLINK).";
    NetTransmitPackets Counter "" "network_transmit_packets" "Packets sent (RTM_GETLINK).";
    NetReceiveErrs Counter "" "network_receive_errs" "Errors in receiving (RTM_GETLINK).";
    NetTransmitErrs Counter "" "network_transmit_errs" "Errors in sending (RTM_GETLINK).";
    NetReceiveDrop Counter "" "network_receive_drop" "Packets dropped in receiving (RTM_GETLINK).";
    NetTransmitDrop Counter "" "network_transmit_drop" "Packets dropped in sending (RTM_GETLINK).";
    NatPackets Counter "" "nat_packets" "Packets that our rules counted, of a translated connection the first alone (nf_tables).";
    NatBytes Counter "bytes" "nat_bytes" "Octets of those packets (nf_tables).";
    ConntrackEntries Gauge "" "conntrack_entries" "Connections in the pod's table (nf_conntrack_count).";
    ConntrackLimit Gauge "" "conntrack_limit" "Connections that the table takes (nf_conntrack_max).";
    Heal Counter "" "heal" "What others changed and berth put right (rules, links), and changes of the pod's address.";
    Serving Gauge "" "service_serving" "1 while a service serves, 0 while it starts or fails; absent where it is off.";
    DhcpRequests Counter "" "dhcp_requests" "Messages of DHCP clients, by protocol and kind.";
    DhcpReplies Counter "" "dhcp_replies" "Replies that were sent, by protocol and kind.";
    DhcpDropped Counter "" "dhcp_dropped" "Messages without an answer, or with less of one, by protocol and reason.";
    DnsQueries Counter "" "dns_queries" "Answers to DNS questions, by where they came from.";
    DnsUpstreamFailures Counter "" "dns_upstream_failures" "Name servers that did not answer, or could not be asked.";
    DnsUpstreamAnswers Counter "" "dns_upstream_answers" "Answers of name servers.";
    DnsDropped Counter "" "dns_dropped" "DNS messages without an answer of a server, by reason.";
    DnsUpstreamDuration Histogram "seconds" "dns_upstream_duration_seconds" "From a question to a name server to its answer.";
    GuestLeaseTime Gauge "seconds" "guest_lease_time_seconds" "When the guest was last given its address by DHCP, Unix time.";
    AgentUp Gauge "" "agent_up" "1 while the guest's agent answers; absent where the guest has no channel to one.";
    AgentUsed Gauge "bytes" "agent_filesystem_used_bytes" "Used of a file system, as the guest's agent says (guest-get-fsinfo, used-bytes).";
    AgentSize Gauge "bytes" "agent_filesystem_size_bytes" "Size of it for users without privilege (guest-get-fsinfo, total-bytes).";
    FetchBytes Gauge "bytes" "image_fetch_bytes" "Fetched of the image so far.";
    FetchSize Gauge "bytes" "image_fetch_size_bytes" "Size of the image, where its server said so.";
    FetchDuration Gauge "seconds" "image_fetch_duration_seconds" "Time the fetch took, or has taken so far.";
    ContainerMemory Gauge "bytes" "container_memory_current_bytes" "Memory of the container (cgroup).";
    ContainerLimit Gauge "bytes" "container_memory_limit_bytes" "Its limit (cgroup); absent where there is none.";
    ContainerEvents Counter "" "container_memory_events" "Times that the limit was met, and processes killed for it (cgroup).";
    QmpMisunderstood Counter "" "qmp_misunderstood" "Lines of QMP that made no sense, by reason.";
    ConsoleSessions Gauge "" "console_sessions" "Who reads the guest's serial line now, by kind.";
    ConsoleSkipped Counter "bytes" "console_skipped_bytes" "Octets of the serial line that a reader was too slow for, by kind.";
    ScrapeErrors Counter "" "scrape_errors" "Sources that did not answer in time, by source.";
    ScrapeDuration Gauge "seconds" "scrape_duration_seconds" "Time it took to collect this page.";
}
