//! A snapshot in which every family has a sample.

use std::collections::BTreeMap;
use std::time::Duration;

use berth::metrics::{
    Agent, Balloon, Dns, Fetch, Link, Machine, Memory, Network, Process, Qemu, Snapshot, Volume,
    Way, blocks, stats,
};
use serde_json::json;

/// As QEMU 7.2 answers for a disk and a config drive.
fn qemu() -> Qemu {
    let mut qemu = Qemu { memory_bytes: Some(201_326_592), ..Qemu::default() };
    let answer = json!([
        {"device": "disk0", "qdev": "/machine/peripheral/virtio-disk0/virtio-backend", "stats": {
            "rd_operations": 1200, "rd_bytes": 20_971_520, "rd_total_time_ns": 1_500_000_000u64,
            "wr_operations": 300, "wr_bytes": 4_194_304, "wr_total_time_ns": 700_000_000, "wr_highest_offset": 50_331_648,
            "flush_operations": 25, "flush_total_time_ns": 90_000_000,
            "unmap_operations": 2, "unmap_bytes": 65536, "unmap_total_time_ns": 1000,
            "failed_rd_operations": 0, "failed_wr_operations": 3, "failed_flush_operations": 0, "failed_unmap_operations": 0,
            "invalid_rd_operations": 0, "invalid_wr_operations": 1, "invalid_flush_operations": 0, "invalid_unmap_operations": 0}},
        {"device": "seed0", "stats": {"rd_operations": 12, "rd_bytes": 24576, "rd_total_time_ns": 3_000_000}}
    ]);
    stats(&answer, &mut qemu.disks);
    let answer = json!([
        {"device": "disk0", "io-status": "nospace", "inserted": {"image": {"virtual-size": 52_428_800, "actual-size": 598_016}}},
        {"device": "seed0", "inserted": {"image": {"virtual-size": 53_248, "actual-size": 53_248}}}
    ]);
    blocks(&answer, &mut qemu.disks);
    qemu.balloon = Some(Balloon {
        actual: Some(201_326_592),
        available: Some(100_000_000),
        free: Some(90_000_000),
        cached: Some(20_000_000),
        total: Some(190_000_000),
        major_faults: Some(11),
        minor_faults: Some(22),
        swap_in: Some(0),
        swap_out: Some(0),
        age_seconds: Some(3),
    });
    qemu
}

fn network() -> Network {
    let way = |bytes| Way { bytes, packets: bytes / 1000, errs: 0, drop: 1 };
    let link = |n| Link { receive: way(n), transmit: way(2 * n) };
    Network {
        links: BTreeMap::from([("uplink", link(5_000_000)), ("guest", link(4_000_000))]),
        rules: BTreeMap::from([("guest to the world: as the pod".to_owned(), (17, 1020))]),
        conntrack: Some((42, 65_536)),
        heals: BTreeMap::from([("address", 0), ("links", 1), ("rules", 2)]),
        serving: BTreeMap::from([("dhcp", true), ("dns", false)]),
        dhcp_requests: BTreeMap::from([(("4", "discover"), 2), (("6", "solicit"), 1)]),
        dhcp_replies: BTreeMap::from([(("4", "ack"), 1)]),
        dhcp_dropped: BTreeMap::from([(("4", "truncated"), 1)]),
        dns: Some(Dns {
            outcomes: BTreeMap::from([("hit", 5), ("upstream", 7)]),
            upstream_failures: 1,
            dropped: BTreeMap::from([("mismatch", 1)]),
            buckets: [1, 2, 3, 0, 0, 0, 0],
            answers: 7,
            sum: Duration::from_millis(3456),
        }),
        lease_after: Some(Duration::from_millis(12_500)),
    }
}

/// All that there can be.
pub fn whole() -> Snapshot {
    let process = Process {
        user_seconds: 12.25,
        system_seconds: 3.5,
        anon_bytes: 250_000_000,
        file_bytes: 30_000_000,
        threads: 5,
    };
    Snapshot {
        version: "1.2.3".to_owned(),
        verb: "run".to_owned(),
        vm: "demo".to_owned(),
        started: Duration::from_secs(1_700_000_000),
        ready: true,
        ready_after: Some(Duration::from_millis(12_501)),
        machine: Some(Machine {
            state: "io_error",
            qemu_version: Some("7.2.22".to_owned()),
            accelerator: Some("tcg"),
            vcpus: 1,
            memory_bytes: 201_326_592,
            starts: 1,
            guest_resets: 1,
            host_resets: 0,
            panics: 0,
            backups: 3,
            failed_backups: 1,
            last_backup: Some(Duration::from_secs(1_700_000_000)),
            started: Some(Duration::from_millis(1_700_000_000_050)),
            exec_after: Some(Duration::from_millis(50)),
            running_after: Some(Duration::from_millis(120)),
            misunderstood: BTreeMap::from([("not_json", 1)]),
        }),
        qemu: Some(qemu()),
        qemu_process: Some(process),
        vcpu_times: vec![(0, 11_500_000_000, 250_000_000)],
        process: Some(Process { threads: 4, ..process }),
        volume: Some(Volume { size_bytes: 10_737_418_240, free_bytes: 5_368_709_120 }),
        memory: Some(Memory {
            current_bytes: Some(300_000_000),
            limit_bytes: Some(600_000_000),
            events: BTreeMap::from([("max", 4), ("oom_kill", 0)]),
        }),
        fetch: Some(Fetch {
            done_bytes: 1000,
            size_bytes: Some(4000),
            took: Duration::from_millis(2500),
        }),
        agent: Some(Agent {
            answers: true,
            file_systems: vec![
                ("/".to_owned(), "ext4".to_owned(), Some(1_500_000_000), Some(9_000_000_000)),
                ("/mnt/\"x\"".to_owned(), "iso9660".to_owned(), None, None),
            ],
        }),
        network: Some(network()),
        lease: Some(Duration::from_millis(1_700_000_012_500)),
        console: BTreeMap::from([("socket", (2, 4096)), ("stdout", (1, 0))]),
        scrape_errors: BTreeMap::from([("qmp", 0), ("links", 1)]),
        took: Duration::from_micros(2500),
    }
}
