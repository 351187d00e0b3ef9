//! What will not be as one might expect, by the names of [`crate::faults`]: told at the start, and by `berth doctor`.

use std::net::IpAddr;

use super::{GuestPlan, LinkPlan, link};
use crate::config::{Accel, Config};
use crate::facts::{Facts, NetFacts};
use crate::faults::{self, Fault, Finding};

/// What QEMU takes beside the guest's memory, about: MiB.
const QEMU_MIB: u64 = 200;

/// Of the network.
pub(super) fn of_network(config: &Config, facts: &NetFacts, links: &LinkPlan) -> Vec<Finding> {
    let mtu = mtu(config, facts);
    let small = link::note(links).map(|note| faults::MTU_TOO_SMALL.found(note));
    let shadows = shadows(config, facts).map(|seen| faults::NETWORK_SHADOWS.found(seen));
    mtu.into_iter().chain(small).chain(shadows).collect()
}

fn mtu(config: &Config, facts: &NetFacts) -> Option<Finding> {
    let (uplink, wanted) = (&facts.uplink, config.network.mtu?);
    (wanted > uplink.mtu).then(|| {
        let (name, mtu) = (&uplink.name, uplink.mtu);
        faults::MTU_CUT.found(format_args!(
            "BERTH_MTU={wanted}, and {name} carries {mtu}: the guest has {mtu}"
        ))
    })
}

/// By which name the words about `resolv.conf` are known.
pub(super) fn of_resolver(guest: &GuestPlan) -> &'static Fault {
    if guest.serve && guest.upstreams.is_empty() {
        &faults::NO_NAME_SERVER
    } else {
        &faults::RESOLV_CONF_WORDS
    }
}

/// Addresses that the pod needs, and that stay at the bridge; networks that overlap the guest's.
fn shadows(config: &Config, facts: &NetFacts) -> Option<String> {
    let vm = config.network.vm;
    let within = |address: &IpAddr| match address {
        IpAddr::V4(address) => vm.contains(*address) && *address != config.network.gateway,
        IpAddr::V6(_) => false,
    };
    let servers = facts.resolver.nameservers.iter().map(|server| server.address);
    let servers = servers.filter(within).map(|address| format!("the name server {address}"));
    let api = config.network.service_host.filter(within);
    let api = api.map(|address| format!("the API server {address} (KUBERNETES_SERVICE_HOST)"));
    let routes = facts.routing.shadowed.iter().map(|to| format!("the pod's route to {to}"));
    let all: Vec<String> = servers.chain(api).chain(routes).collect();
    (!all.is_empty()).then(|| format!("the guest's network {vm} and {} overlap", all.join(", ")))
}

/// Of the machine. `uid` is QEMU's, where that is another than ours.
pub(super) fn of_machine(config: &Config, facts: &Facts, uid: Option<u32>) -> Vec<Finding> {
    let (machine, host) = (&config.machine, &facts.host);
    let no_setuid = !facts.net.can_setuid && machine.uid != 0 && host.uid != machine.uid;
    let no_setuid = no_setuid
        .then(|| faults::NO_SETUID.found("no CAP_SETUID and CAP_SETGID: QEMU keeps berth's uid"));
    let others = uid.filter(|uid| *uid != host.uid && !host.can_kill);
    let no_kill = others.map(|uid| {
        faults::NO_KILL.found(format_args!(
            "no CAP_KILL, and QEMU runs as uid {uid}: one that hangs cannot be killed"
        ))
    });
    let is_slow = machine.accel == Accel::Auto && !host.kvm;
    let slow = is_slow.then(|| {
        faults::SLOW_WITHOUT_KVM
            .found("no /dev/kvm that opens here: the guest is emulated (tcg), which is much slower")
    });
    [no_setuid, no_kill, slow, memory(machine.ram_mib, host.memory_limit_bytes)]
        .into_iter()
        .flatten()
        .collect()
}

fn memory(ram_mib: u64, limit_bytes: Option<u64>) -> Option<Finding> {
    let limit_mib = limit_bytes? >> 20;
    (ram_mib.saturating_add(QEMU_MIB) > limit_mib).then(|| {
        faults::MEMORY_LIMIT.found(format_args!(
            "IMG_RAM_MB={ram_mib}, and the container's limit is {limit_mib} MiB: with QEMU's own {QEMU_MIB} MiB the guest \
             will be killed once it uses its memory"
        ))
    })
}
