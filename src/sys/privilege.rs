//! What a process or a thread gives up for good: prctl(2), capabilities(7), setrlimit(2).

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The last capability a kernel may have: the sets have 64 bits.
const CAPABILITIES: u32 = 64;
/// What the network takes.
const OF_THE_NETWORK: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_BROADCAST);

/// No other process of this uid looks into this one's memory, environment or open files (`/proc/PID/mem`, ptrace(2)).
pub(crate) fn not_dumpable() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Memory is not written to a file when a process of ours is killed.
pub(crate) fn no_core_files() -> io::Result<()> {
    Ok(rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

/// This thread, and all that it starts, gain nothing by executing a program.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Whether this thread has all of these in its effective set (capabilities(7)).
pub(crate) fn has(wanted: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Takes every capability from the calling thread. System calls only: a child may do it before its exec.
pub fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?)
}

/// Takes the network's capabilities from the calling thread.
pub(crate) fn drop_network_capabilities() -> io::Result<()> {
    let CapabilitySets { effective, permitted, inheritable } = rustix::thread::capabilities(None)?;
    let sets = CapabilitySets {
        effective: effective.difference(OF_THE_NETWORK),
        permitted: permitted.difference(OF_THE_NETWORK),
        inheritable: inheritable.difference(OF_THE_NETWORK),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Empties the bounding set of the calling thread. Needs CAP_SETPCAP; without it the set stays, which no_new_privs makes
/// harmless. System calls only.
pub(crate) fn empty_bounding_set() {
    for bit in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if rustix::thread::remove_capability_from_bounding_set(one).is_err() {
            return;
        }
    }
}
