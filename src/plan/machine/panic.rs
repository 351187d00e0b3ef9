//! The device by which a guest tells that its kernel panicked: pvpanic-pci (QEMU docs/specs/pvpanic.rst, QEMU 6.0).
//!
//! Linux has a driver for it (`CONFIG_PVPANIC_PCI`), Windows one in virtio-win. Without a driver it does nothing.

use crate::config::{Config, Machine, OnPanic};

/// A function of the chipset's own slot that it leaves free: no other device has another address for it, however many
/// there are.
pub(super) const DEVICE: &str = "pvpanic-pci,id=pvpanic0,bus=pcie.0,addr=0x1f.6";

/// Whether there is a place for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Ours,
    /// The user has one already.
    Theirs,
    /// A machine of the user's choosing may have no such slot.
    Unknown(String),
}

pub(super) fn has_place(machine: &Machine) -> Place {
    if values(machine, &["device"]).any(|value| value.starts_with("pvpanic")) {
        return Place::Theirs;
    }
    other_kind(machine).map_or(Place::Ours, Place::Unknown)
}

/// The kind of machine that the user's words make of it, where that is not ours.
pub(super) fn other_kind(machine: &Machine) -> Option<String> {
    // The last one counts.
    let kind = values(machine, &["machine", "M"]).filter_map(kind).next_back()?;
    (kind != "q35" && !kind.starts_with("pc-q35")).then(|| kind.to_owned())
}

/// What the user's words have behind these options.
fn values<'a>(
    machine: &'a Machine,
    options: &'static [&str],
) -> impl DoubleEndedIterator<Item = &'a str> {
    machine.extra_args.windows(2).filter_map(move |pair| match pair {
        [option, value] => options
            .contains(&option.strip_prefix('-').unwrap_or(option).trim_start_matches('-'))
            .then_some(value.as_str()),
        _ => None,
    })
}

/// `-machine [type=]KIND,SETTING=VALUE`: the kind, where it is said.
fn kind(value: &str) -> Option<&str> {
    let mut settings = value.split(',');
    let first = settings.next().filter(|first| !first.contains('='));
    first.or_else(|| value.split(',').find_map(|setting| setting.strip_prefix("type=")))
}

/// What is asked for and cannot be.
pub(super) fn note(place: &Place, config: &Config) -> Option<String> {
    match place {
        Place::Unknown(kind) if config.lifecycle.on_panic != OnPanic::Exit => Some(format!(
            "the machine is {kind}, not q35: it has no pvpanic device of ours, and BERTH_ON_PANIC is for one of yours"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_machine_is_its_first_word_or_its_type() {
        for (value, wanted) in [
            ("pc", Some("pc")),
            ("q35,kernel-irqchip=split", Some("q35")),
            ("type=microvm,rtc=on", Some("microvm")),
            ("hpet=off,type=pc-i440fx-7.2", Some("pc-i440fx-7.2")),
            ("hpet=off", None),
        ] {
            assert_eq!(kind(value), wanted, "{value}");
        }
    }
}
