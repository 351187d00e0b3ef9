//! Devices of ours that a QEMU may have been built without: the guest is started without them then.

use super::{Handed, MachinePlan};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    Panic,
    Agent,
}

impl Lacking {
    /// By QEMU's last words, where it ended for want of one that the plan has (`qdev_set_id`'s caller in softmmu/qdev-monitor.c).
    pub(crate) fn of(plan: &MachinePlan, said: &str) -> Option<Self> {
        let lacks =
            |device: &str| said.contains(&format!("'{device}' is not a valid device model name"));
        if plan.panic_device && lacks("pvpanic-pci") {
            return Some(Self::Panic);
        }
        let agent = plan.has_agent() && (lacks("virtio-serial-pci") || lacks("virtserialport"));
        agent.then_some(Self::Agent)
    }

    /// Whether it is a device of one of these.
    pub(super) fn may_lack(model: &str) -> bool {
        matches!(model, "pvpanic-pci" | "virtio-serial-pci" | "virtserialport")
    }

    /// What the user goes without.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Panic => {
                "this QEMU has no pvpanic-pci: nobody hears when the guest's kernel panics, and BERTH_ON_PANIC does nothing"
            }
            Self::Agent => {
                "this QEMU has no virtio-serial-pci: the guest has no channel to an agent"
            }
        }
    }
}

impl MachinePlan {
    /// The same machine without it.
    pub(crate) fn go_without(&mut self, lacking: Lacking) {
        match lacking {
            Lacking::Panic => self.panic_device = false,
            Lacking::Agent => {
                // Its descriptor is the last one: the numbers of the others stay.
                self.handed.retain(|(_, handed)| *handed != Handed::Agent);
                self.agent.clear();
            }
        }
    }
}
