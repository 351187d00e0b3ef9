//! Whether QEMU opens nothing but what berth hands it: then it can be confined to that (`confine` says how).
//!
//! Words of the user may make it open anything. Those that are known not to are listed; with any other it is not confined.

use super::options;
use crate::config::Config;
use crate::plan::DiskPlan;
use crate::plan::disk::Root;

/// Of a QEMU that is not.
pub(super) fn note(why: &str) -> String {
    format!("{why}: QEMU is not confined (docs/reference.md, Confinement)")
}

/// Options of QEMU that open no file, device or socket, whatever their value.
const OPEN_NOTHING: [&str; 21] = [
    "-accel",
    "-action",
    "-boot",
    "-cpu",
    "-global",
    "-k",
    "-m",
    "-machine",
    "-M",
    "-msg",
    "-name",
    "-no-acpi",
    "-no-hpet",
    "-no-reboot",
    "-no-shutdown",
    "-overcommit",
    "-rtc",
    "-set",
    "-smp",
    "-uuid",
    "-vga",
];
/// Of these options the values that do not, by their beginning.
const OPEN_NOTHING_AS: [(&str, &[&str]); 5] = [
    (
        "-device",
        &[
            "e1000",
            "i6300esb",
            "pcie-root-port",
            "pvpanic",
            "qemu-xhci",
            "rtl8139",
            "usb-kbd",
            "usb-mouse",
            "usb-tablet",
            "virtio-balloon",
            "virtio-net",
            "virtio-rng",
            "virtio-scsi",
            "vmcoreinfo",
            "vmxnet3",
        ],
    ),
    ("-object", &["iothread", "memory-backend-memfd", "memory-backend-ram", "throttle-group"]),
    ("-smbios", &["type="]),
    ("-nic", &["none"]),
    ("-net", &["none"]),
];

/// Why QEMU is not confined; None: it is.
pub(super) fn why_not(
    config: &Config,
    disk: &DiskPlan,
    net: Option<&options::Net>,
) -> Option<String> {
    let machine = &config.machine;
    let (own_disk, variable) = match disk.root {
        Root::Device { .. } => (&machine.raw_blk_opts, "KVM_RAW_BLK_OPTS"),
        Root::Overlay { .. } => (&machine.blk_opts, "KVM_BLK_OPTS"),
    };
    let nets = net.and_then(|net| opening(&net.words, net.fd_word));
    if !machine.confine {
        Some("BERTH_CONFINE=off".to_owned())
    } else if !machine.launcher.is_empty() {
        Some("LAUNCHER is a program of yours".to_owned())
    } else if own_disk.is_some() {
        Some(format!("{variable} has QEMU open paths"))
    } else if let Some(word) = nets {
        Some(format!("{word} of KVM_NET_OPTS may have QEMU open something"))
    } else {
        let word = opening(&machine.extra_args, None)?;
        Some(format!("{word} after -- may have QEMU open something"))
    }
}

/// The first option that is not known to open nothing. Word number `ours` is the one that berth hands its tap by.
fn opening(words: &[String], ours: Option<usize>) -> Option<&str> {
    let mut words = words.iter().enumerate().peekable();
    while let Some((_, word)) = words.next() {
        let value = words.next_if(|(_, value)| !value.starts_with('-'));
        let option = word.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(word);
        let (at, value) = value.map_or((None, ""), |(at, value)| (Some(at), value.as_str()));
        let is_known = OPEN_NOTHING.contains(&option)
            || OPEN_NOTHING_AS.iter().any(|(name, values)| {
                *name == option && values.iter().any(|known| value.starts_with(known))
            })
            || (ours.is_some() && at == ours);
        let names_something = ["/", "vhost", "file="].iter().any(|part| value.contains(part));
        if !is_known || names_something {
            return Some(word);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::opening;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_that_open_nothing_are_known_and_all_others_are_named() {
        for (text, found) in [
            ("", None),
            ("-device virtio-balloon", None),
            ("--device virtio-balloon -no-reboot -smbios type=1,serial=a", None),
            ("-set device.virtio-disk0.rerror=report -m 512", None),
            ("-nic none", None),
            ("-nic user", Some("-nic")),
            ("-m 512 -device vfio-pci,host=01:00.0", Some("-device")),
            ("-device virtio-net,romfile=/x", Some("-device")),
            ("-device vhost-vsock-pci,guest-cid=3", Some("-device")),
            ("-machine q35,kernel=/boot/x", Some("-machine")),
            ("-smbios file=x", Some("-smbios")),
            ("-smbios type=11,path=x,file=y", Some("-smbios")),
            ("-object rng-random,id=a,filename=x", Some("-object")),
            ("-cdrom x.iso", Some("-cdrom")),
            ("-netdev user,id=a", Some("-netdev")),
            ("-chardev socket,id=a,host=::,port=1", Some("-chardev")),
            ("disk.img", Some("disk.img")),
            ("-m 512 disk.img", Some("disk.img")),
        ] {
            assert_eq!(opening(&words(text), None), found, "{text}");
        }
        let net = words("-netdev tap,id=net0 -device virtio-net,netdev=net0");
        assert_eq!(opening(&net, Some(1)), None, "the tap is ours");
        assert_eq!(opening(&net, None), Some("-netdev"));
        assert_eq!(opening(&words("-netdev tap,id=net0,vhost=on"), Some(1)), Some("-netdev"));
    }
}
