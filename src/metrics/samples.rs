//! What a snapshot says of each family.

use std::time::Duration;

use super::families::Id;
use super::page::Page;
use super::qemu::{Balloon, Disk, Qemu};
use super::snapshot::{
    Agent, DNS_BOUNDS, Dns, Machine, Memory, Network, Pairs, Process, STATES, Snapshot, Way,
};

const NANOS: f64 = 1e9;

fn seconds(nanos: u64) -> f64 {
    // 2^53 ns are a hundred days; beyond that a microsecond is lost.
    nanos as f64 / NANOS
}

/// The page of a snapshot.
pub fn samples(snapshot: &Snapshot) -> Page {
    let mut page = Page::default();
    let verb = [("verb", snapshot.verb.as_str())];
    info(&mut page, snapshot);
    page.add(Id::StartTime, &verb, snapshot.started.as_secs_f64());
    page.add(Id::Ready, &verb, snapshot.ready);
    if let Some(machine) = &snapshot.machine {
        of_machine(&mut page, machine, snapshot.qemu.as_ref());
    }
    let ready = snapshot.ready_after.filter(|_| snapshot.machine.is_some());
    page.add_some(Id::BootDuration, &[("step", "ready")], ready.map(|after| after.as_secs_f64()));
    for (vcpu, run, wait) in &snapshot.vcpu_times {
        let vcpu = vcpu.to_string();
        page.add(Id::VcpuRun, &[("vcpu", &vcpu)], seconds(*run));
        page.add(Id::VcpuWait, &[("vcpu", &vcpu)], seconds(*wait));
    }
    if let Some(process) = &snapshot.qemu_process {
        of_process(&mut page, [Id::QemuCpu, Id::QemuResident, Id::QemuThreads], &[], process);
    }
    if let Some(process) = &snapshot.process {
        let ids = [Id::ProcessCpu, Id::ProcessResident, Id::ProcessThreads];
        of_process(&mut page, ids, &verb, process);
    }
    if let Some(qemu) = &snapshot.qemu {
        qemu.disks.iter().for_each(|(name, disk)| of_disk(&mut page, name, disk));
        if let Some(balloon) = &qemu.balloon {
            of_balloon(&mut page, balloon);
        }
    }
    if let Some(volume) = snapshot.volume {
        page.add(Id::VolumeSize, &[("volume", "image")], volume.size_bytes);
        page.add(Id::VolumeFree, &[("volume", "image")], volume.free_bytes);
    }
    if let Some(network) = &snapshot.network {
        of_network(&mut page, network);
    }
    if let Some(agent) = &snapshot.agent {
        of_agent(&mut page, agent);
    }
    page.add_some(Id::GuestLeaseTime, &[], snapshot.lease.map(|lease| lease.as_secs_f64()));
    if let Some(fetch) = snapshot.fetch {
        page.add(Id::FetchBytes, &[], fetch.done_bytes);
        page.add_some(Id::FetchSize, &[], fetch.size_bytes);
        page.add(Id::FetchDuration, &[], fetch.took.as_secs_f64());
    }
    if let Some(memory) = &snapshot.memory {
        of_memory(&mut page, memory, verb);
    }
    for (kind, (sessions, skipped)) in &snapshot.console {
        page.add(Id::ConsoleSessions, &[("kind", kind)], *sessions);
        page.add(Id::ConsoleSkipped, &[("kind", kind)], *skipped);
    }
    for (source, errors) in &snapshot.scrape_errors {
        page.add(Id::ScrapeErrors, &[("source", source), verb_of(snapshot)], *errors);
    }
    page.add(Id::ScrapeDuration, &verb, snapshot.took.as_secs_f64());
    page
}

fn verb_of(snapshot: &Snapshot) -> (&str, &str) {
    ("verb", &snapshot.verb)
}

fn info(page: &mut Page, snapshot: &Snapshot) {
    let mut labels = vec![("version", snapshot.version.as_str()), verb_of(snapshot)];
    if !snapshot.vm.is_empty() {
        labels.push(("vm", &snapshot.vm));
    }
    if let Some(machine) = &snapshot.machine {
        let qemu = machine.qemu_version.as_deref().map(|version| ("qemu", version));
        labels.extend(qemu);
        labels.extend(machine.accelerator.map(|accelerator| ("accelerator", accelerator)));
    }
    page.add(Id::Info, &labels, 1);
}

fn of_machine(page: &mut Page, machine: &Machine, qemu: Option<&Qemu>) {
    for state in STATES {
        page.add(Id::GuestState, &[("state", state)], state == machine.state);
    }
    let started = machine.started.map(|started| started.as_secs_f64());
    page.add_some(Id::GuestStartTime, &[], started);
    page.add(Id::GuestResets, &[("initiator", "guest")], machine.guest_resets);
    page.add(Id::GuestResets, &[("initiator", "host")], machine.host_resets);
    page.add(Id::GuestStarts, &[], machine.starts);
    page.add(Id::GuestPanics, &[], machine.panics);
    page.add(Id::Backups, &[("result", "done")], machine.backups);
    page.add(Id::Backups, &[("result", "failed")], machine.failed_backups);
    let last = machine.last_backup.map(|last| last.as_secs_f64());
    page.add_some(Id::LastBackup, &[], last);
    let steps = [("qemu_exec", machine.exec_after), ("running", machine.running_after)];
    for (step, after) in steps {
        boot_step(page, step, after);
    }
    page.add(Id::Vcpus, &[], u64::from(machine.vcpus));
    let memory = qemu.and_then(|qemu| qemu.memory_bytes).unwrap_or(machine.memory_bytes);
    page.add(Id::Memory, &[], memory);
    for (reason, count) in &machine.misunderstood {
        page.add(Id::QmpMisunderstood, &[("reason", reason)], *count);
    }
}

fn of_agent(page: &mut Page, agent: &Agent) {
    page.add(Id::AgentUp, &[], agent.answers);
    for (mountpoint, kind, used, size) in &agent.file_systems {
        let labels = [("mountpoint", mountpoint.as_str()), ("fstype", kind)];
        page.add_some(Id::AgentUsed, &labels, *used);
        page.add_some(Id::AgentSize, &labels, *size);
    }
}

fn boot_step(page: &mut Page, step: &str, after: Option<Duration>) {
    page.add_some(Id::BootDuration, &[("step", step)], after.map(|after| after.as_secs_f64()));
}

fn of_process(
    page: &mut Page,
    [cpu, resident, threads]: [Id; 3],
    more: &[(&str, &str)],
    process: &Process,
) {
    let with = |label| [&[label], more].concat();
    page.add(cpu, &with(("mode", "user")), process.user_seconds);
    page.add(cpu, &with(("mode", "system")), process.system_seconds);
    page.add(resident, &with(("kind", "anon")), process.anon_bytes);
    page.add(resident, &with(("kind", "file")), process.file_bytes);
    page.add(threads, more, process.threads);
}

fn of_disk(page: &mut Page, name: &str, disk: &Disk) {
    let labels = [("disk", name)];
    if let Some(stats) = &disk.stats {
        let [read, write, flush, discard] = stats.each();
        let counts = [
            (Id::DiskReads, read.operations),
            (Id::DiskWrites, write.operations),
            (Id::DiskFlushes, flush.operations),
            (Id::DiskDiscards, discard.operations),
            (Id::DiskRead, read.bytes),
            (Id::DiskWritten, write.bytes),
            (Id::DiskDiscarded, discard.bytes),
        ];
        for (id, count) in counts {
            page.add_some(id, &labels, count);
        }
        let times = [
            (Id::DiskReadTime, read.nanos),
            (Id::DiskWriteTime, write.nanos),
            (Id::DiskFlushTime, flush.nanos),
        ];
        for (id, nanos) in times {
            page.add_some(id, &labels, nanos.map(seconds));
        }
        for (operation, of) in
            [("read", read), ("write", write), ("flush", flush), ("discard", discard)]
        {
            page.add_some(Id::DiskErrors, &[labels[0], ("operation", operation)], of.errors);
        }
        page.add_some(Id::DiskHighestWrite, &labels, stats.highest_write);
    }
    if let Some(status) = &disk.io_status {
        for reason in ["nospace", "failed"] {
            page.add(Id::DiskStopped, &[labels[0], ("reason", reason)], status == reason);
        }
    }
    page.add_some(Id::DiskSize, &labels, disk.size_bytes);
    page.add_some(Id::DiskAllocated, &labels, disk.allocated_bytes);
}

fn of_balloon(page: &mut Page, balloon: &Balloon) {
    let figures = [
        (Id::GuestBalloon, balloon.actual),
        (Id::GuestAvailable, balloon.available),
        (Id::GuestFree, balloon.free),
        (Id::GuestCached, balloon.cached),
        (Id::GuestTotal, balloon.total),
        (Id::GuestStatsAge, balloon.age_seconds),
        (Id::GuestMajorFaults, balloon.major_faults),
        (Id::GuestMinorFaults, balloon.minor_faults),
        (Id::GuestSwapIn, balloon.swap_in),
        (Id::GuestSwapOut, balloon.swap_out),
    ];
    for (id, figure) in figures {
        page.add_some(id, &[], figure);
    }
}

fn of_network(page: &mut Page, network: &Network) {
    for (device, link) in &network.links {
        let labels = [("device", *device)];
        let ids =
            [Id::NetReceiveBytes, Id::NetReceivePackets, Id::NetReceiveErrs, Id::NetReceiveDrop];
        of_way(page, ids, &labels, link.receive);
        let ids = [
            Id::NetTransmitBytes,
            Id::NetTransmitPackets,
            Id::NetTransmitErrs,
            Id::NetTransmitDrop,
        ];
        of_way(page, ids, &labels, link.transmit);
    }
    for (rule, (packets, bytes)) in &network.rules {
        page.add(Id::NatPackets, &[("rule", rule)], *packets);
        page.add(Id::NatBytes, &[("rule", rule)], *bytes);
    }
    if let Some((entries, limit)) = network.conntrack {
        page.add(Id::ConntrackEntries, &[], entries);
        page.add(Id::ConntrackLimit, &[], limit);
    }
    for (what, count) in &network.heals {
        page.add(Id::Heal, &[("what", what)], *count);
    }
    for (service, serves) in &network.serving {
        page.add(Id::Serving, &[("service", service)], *serves);
    }
    pairs(page, Id::DhcpRequests, "kind", &network.dhcp_requests);
    pairs(page, Id::DhcpReplies, "kind", &network.dhcp_replies);
    pairs(page, Id::DhcpDropped, "reason", &network.dhcp_dropped);
    if let Some(dns) = &network.dns {
        of_dns(page, dns);
    }
    boot_step(page, "dhcp_ack", network.lease_after);
}

fn of_way(page: &mut Page, ids: [Id; 4], labels: &[(&str, &str)], way: Way) {
    let figures = [way.bytes, way.packets, way.errs, way.drop];
    for (id, figure) in ids.into_iter().zip(figures) {
        page.add(id, labels, figure);
    }
}

fn pairs(page: &mut Page, id: Id, label: &str, counts: &Pairs) {
    for ((protocol, of), count) in counts {
        page.add(id, &[("protocol", protocol), (label, of)], *count);
    }
}

fn of_dns(page: &mut Page, dns: &Dns) {
    for (outcome, count) in &dns.outcomes {
        page.add(Id::DnsQueries, &[("outcome", outcome)], *count);
    }
    page.add(Id::DnsUpstreamFailures, &[], dns.upstream_failures);
    page.add(Id::DnsUpstreamAnswers, &[], dns.answers);
    for (reason, count) in &dns.dropped {
        page.add(Id::DnsDropped, &[("reason", reason)], *count);
    }
    let buckets: Vec<(&str, u64)> =
        DNS_BOUNDS.iter().zip(dns.buckets).map(|((bound, _), count)| (*bound, count)).collect();
    page.add_histogram(Id::DnsUpstreamDuration, &buckets, dns.answers, dns.sum.as_secs_f64());
}

fn of_memory(page: &mut Page, memory: &Memory, verb: [(&str, &str); 1]) {
    page.add_some(Id::ContainerMemory, &verb, memory.current_bytes);
    page.add_some(Id::ContainerLimit, &verb, memory.limit_bytes);
    for (event, count) in &memory.events {
        page.add(Id::ContainerEvents, &[("event", event), verb[0]], *count);
    }
}
