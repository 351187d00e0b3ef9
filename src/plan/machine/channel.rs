//! The channel to an agent in the guest: a virtio-serial port of the name that qemu-ga opens (QEMU docs/interop/qemu-ga.rst).
//!
//! Without an agent it does nothing. Linux has the driver (`CONFIG_VIRTIO_CONSOLE`), Windows one in virtio-win.

use super::panic::other_kind;
use super::{Build, Handed};
use crate::config::Machine;
use crate::proto::qmp::AGENT_PORT;

/// Where agents look for it.
const NAME: &str = "org.qemu.guest_agent.0";
/// Another function of the chipset's own slot that it leaves free, as pvpanic's is: no other device has another address for
/// it. Ports are numbered from 1; the user's words may add two.
const BUS: &str = "virtio-serial-pci,id=agent-bus,max_ports=4,bus=pcie.0,addr=0x1f.7";

/// Whether the machine has one of ours: a channel of the user's own is theirs, and another kind of machine may have no such slot.
pub(super) fn has_place(machine: &Machine) -> bool {
    let replaced = [&machine.blk_opts, &machine.raw_blk_opts, &machine.net_opts];
    let words = machine.extra_args.iter().chain(replaced.into_iter().flatten().flatten());
    let is_theirs = words.into_iter().any(|word| word.contains(NAME));
    !is_theirs && other_kind(machine).is_none()
}

impl Build {
    /// The words of the channel; they are the last of ours, and so is its descriptor.
    pub(super) fn agent(&mut self) -> Vec<String> {
        let before = self.words.len();
        let fd = self.hand(Handed::Agent);
        self.word("-chardev", format!("socket,id={AGENT_PORT}-line,fd={fd}"));
        self.word("-device", BUS);
        self.word(
            "-device",
            format!("virtserialport,bus=agent-bus.0,nr=1,chardev={AGENT_PORT}-line,id={AGENT_PORT},name={NAME}"),
        );
        self.words.split_off(before)
    }
}
