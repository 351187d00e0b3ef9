//! Who QEMU runs as.

use super::{Accelerator, Attempt, User};
use crate::config::Config;
use crate::facts::Facts;

/// QEMU gives root up unless it must open paths or devices itself.
pub(super) fn choose(
    config: &Config,
    facts: &Facts,
    attempts: &[Attempt],
    own_disk: bool,
    own_net: bool,
) -> (Option<User>, Vec<String>) {
    let uid = config.machine.uid;
    let mut notes = Vec::new();
    if uid == 0 {
        return (None, notes);
    }
    if own_disk {
        notes.push(
            "KVM_BLK_OPTS: QEMU opens the disk by its path and keeps berth's uid for that"
                .to_owned(),
        );
    }
    if own_net {
        notes.push(
            "KVM_NET_OPTS: QEMU makes its own network device and keeps berth's uid, and may start programs, for that"
                .to_owned(),
        );
    }
    if !notes.is_empty() || !facts.net.can_setuid {
        return (None, notes);
    }
    let kvm = attempts.iter().any(|attempt| attempt.accelerator == Accelerator::Kvm);
    let groups = facts.host.kvm_gid.filter(|_| kvm).into_iter().collect();
    (Some(User { uid, gid: uid, groups }), notes)
}
