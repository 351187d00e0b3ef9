//! Where each device is on the PCI bus, said in so many words: a saved guest goes on only where every device is where it was,
//! and no other version of QEMU or of berth moves one.

use super::Build;
use super::panic::other_kind;
use crate::config::Machine;

/// After the last one it is left to QEMU, which says that there is no room.
const LAST: u8 = 0x1e;
/// The network card's own.
const NIC: u8 = 0x2;

impl Build {
    /// Where all devices are ours, of a machine whose bus is known. The screen's is the first of all.
    pub(super) fn begin_slots(&mut self, machine: &Machine, all_ours: bool, screen: bool) {
        let is_known = all_ours && other_kind(machine).is_none();
        self.next_slot = is_known.then_some(if screen { 3 } else { 1 });
    }

    /// The next slot that is free, in the order of the devices, as QEMU itself would choose it. Where the user's words make some
    /// of the devices that is left to QEMU.
    pub(super) fn slot(&mut self) -> String {
        let Some(slot) = self.next_slot else { return String::new() };
        self.next_slot = (slot < LAST).then_some(slot + 1);
        if slot == NIC {
            return self.slot();
        }
        format!(",bus=pcie.0,addr={slot:#x}")
    }

    /// Whatever else takes a PCI slot behind the disks. The pointer is absolute, as VNC's is.
    pub(super) fn small_devices(&mut self, screen: bool) {
        self.word("-object", "rng-builtin,id=rng0");
        let slot = self.slot();
        self.word("-device", format!("virtio-rng-pci,rng=rng0{slot}"));
        if screen {
            let slot = self.slot();
            self.word("-device", format!("qemu-xhci,id=usb0{slot}"));
            self.word("-device", "usb-tablet,bus=usb0.0");
        }
    }
}
