//! What can be wrong with a pod, a disk or a guest: one table, which the start, `berth doctor` and docs/doctor.md read.
//!
//! An entry is what is known beforehand; a [`Finding`] is one that was met, with what was seen. This room looks at nothing.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::log::one_line;

/// What it means for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it is meant to be, and worth knowing.
    Note,
    /// It runs, and somebody will suffer.
    Warning,
    /// It does not run.
    Error,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that can be wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Lower case, words joined by `-`. Stays what it is: scripts look for it.
    pub id: &'static str,
    pub severity: Severity,
    /// What a start ends with when this keeps it from running (docs/reference.md).
    pub exit_code: Option<u8>,
    /// In a few words.
    pub what: &'static str,
    /// Why that is so, and what follows.
    pub cause: &'static str,
    pub remedy: &'static str,
}

/// Octets of an evidence that are kept: much of it is others' words.
const MAX_EVIDENCE: usize = 600;

impl Fault {
    /// Met, with what was seen: one line, whatever is in it.
    pub fn found(&self, evidence: impl fmt::Display) -> Finding {
        let mut evidence = one_line(&evidence.to_string()).into_owned();
        if evidence.len() > MAX_EVIDENCE {
            let end = (0..=MAX_EVIDENCE).rev().find(|at| evidence.is_char_boundary(*at));
            evidence.truncate(end.unwrap_or(0));
            evidence.push('…');
        }
        Finding {
            id: Cow::Borrowed(self.id),
            severity: self.severity,
            what: Cow::Borrowed(self.what),
            evidence,
            remedy: Cow::Borrowed(self.remedy),
            exit_code: self.exit_code,
        }
    }
}

/// A fault that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub id: Cow<'static, str>,
    pub severity: Severity,
    pub what: Cow<'static, str>,
    /// What was seen, of this pod.
    pub evidence: String,
    pub remedy: Cow<'static, str>,
    pub exit_code: Option<u8>,
}

/// As the log has it: what was seen, what to do, and by which name more is said.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.evidence, self.remedy, self.id)
    }
}

/// The fault of this name.
pub fn by_id(id: &str) -> Option<&'static Fault> {
    ALL.iter().copied().find(|fault| fault.id == id)
}

macro_rules! faults {
    ($($name:ident = $id:literal, $severity:ident, $code:expr, $what:literal, $cause:literal, $remedy:literal;)+) => {
        $(pub static $name: Fault = Fault {
            id: $id,
            severity: Severity::$severity,
            exit_code: $code,
            what: $what,
            cause: $cause,
            remedy: $remedy,
        };)+

        /// All of them, in the order of a start.
        pub static ALL: &[&Fault] = &[$(&$name),+];
    };
}

faults! {
    WRONG_WORDS = "wrong-words", Error, Some(10),
        "a flag or variable is wrong",
        "A value is not of the kind that its variable takes, or two contradict each other. Nothing is guessed: a start with \
         a word that is not understood would be another start than the one that was meant.",
        "mend each variable that is named; docs/reference.md has what each of them takes";
    NO_DEFAULT_ROUTE = "no-default-route", Error, Some(11),
        "the pod has no default route",
        "The interface with the default route is the pod's own, whose address the guest gets. Without a network, or before \
         it is attached, there is none.",
        "attach the pod to a network, or name its interface with BERTH_UPLINK";
    NO_ADDRESS = "no-address", Error, Some(11),
        "the pod's interface has no address for the guest",
        "The interface is there, and has neither a global IPv4 address nor a global IPv6 address.",
        "give the interface an address, or name another with BERTH_UPLINK";
    NO_SUCH_UPLINK = "no-such-uplink", Error, Some(11),
        "BERTH_UPLINK names no interface",
        "The pod has no interface of this name.",
        "name one of the pod's interfaces (`ip link`), or unset BERTH_UPLINK";
    NO_QEMU = "no-qemu", Error, Some(11),
        "there is no QEMU",
        "berth starts the program that BERTH_QEMU names, looked up in PATH. The launcher image has it; another may not.",
        "install QEMU, or name it with BERTH_QEMU";
    NETWORK_OVERLAP = "network-overlap", Error, Some(12),
        "the guest's network overlaps the pod's",
        "The guest's private network (VM_IP, VM_GW, BERTH_VM_PREFIX) and one that the pod is attached to have addresses in \
         common: packets to these would go astray.",
        "choose another network with VM_IP and VM_GW";
    NETWORK_SHADOWS = "network-shadows", Warning, None,
        "the guest's network hides addresses that the pod needs",
        "An address that the pod reaches by its routes (a name server, the API server, another route) is within the guest's \
         private network, so that packets to it stay at the bridge, of the guest and of the pod.",
        "choose another network with VM_IP and VM_GW";
    MTU_CUT = "mtu-cut", Warning, None,
        "BERTH_MTU is larger than the pod's link",
        "Packets of the guest leave by the pod's link, which carries no larger ones. The guest is given the link's MTU.",
        "unset BERTH_MTU, or give the pod's network a larger MTU";
    MTU_TOO_SMALL = "mtu-too-small", Warning, None,
        "the MTU is below what IP asks for",
        "Every host takes IPv4 datagrams of 576 octets (RFC 791 §3.2), and IPv6 wants links of 1280 (RFC 8200 §5). Below \
         the first no answer of DHCP fits; below the second guests use no IPv6.",
        "give the pod's link a larger MTU, and BERTH_MTU, where it is set";
    PATH_MTU = "path-mtu", Warning, None,
        "the path carries smaller packets than the link",
        "A router on the way says that it carries less than the pod's own link. It says so to each connection of the guest's, \
         too; where such errors are lost (a firewall, a network policy), connections that send much hang.",
        "set BERTH_MTU to what the path carries (tunnels take 50 to 100 octets), or mend the network's MTU";
    NO_NAME_SERVER = "no-name-server", Warning, None,
        "there is no name server to forward to",
        "The guest is told to ask berth, and berth asks the name servers of resolv.conf. The file is missing, empty, or \
         names none that can be asked: the guest resolves nothing but its own name.",
        "give the pod a resolv.conf with a nameserver (dnsPolicy, --dns), or name the file with BERTH_RESOLV_CONF";
    RESOLV_CONF_WORDS = "resolv-conf-words", Warning, None,
        "words of resolv.conf are not used",
        "A word in the file is not what resolv.conf(5) has in its place.",
        "mend the words that are named; all others are used";
    NAME_SERVER_SILENT = "name-server-silent", Warning, None,
        "a name server does not answer",
        "It was asked a question and did not answer within 2 s: it is down, or a firewall or network policy is in between. \
         Each name the guest asks for waits for the next server.",
        "mend the server or the way to it, or take it out of resolv.conf";
    NO_NET_ADMIN = "no-net-admin", Error, Some(4),
        "CAP_NET_ADMIN is missing",
        "Bridge, tap and NAT are made in the pod's own network namespace, for which this capability is needed; nothing of \
         the node's is touched.",
        "add NET_ADMIN to the container's capabilities (securityContext.capabilities.add, --cap-add)";
    NO_NET_BIND_SERVICE = "no-net-bind-service", Error, Some(18),
        "CAP_NET_BIND_SERVICE is missing",
        "DHCP (67) and DNS (53) are ports below 1024 (net.ipv4.ip_unprivileged_port_start).",
        "add NET_BIND_SERVICE to the container's capabilities, or set NO_DHCP=1 where nothing is to be served";
    NO_SETUID = "no-setuid", Warning, None,
        "CAP_SETUID and CAP_SETGID are missing",
        "QEMU cannot be given a uid of its own (BERTH_QEMU_UID), and keeps that of berth.",
        "add SETUID and SETGID to the container's capabilities, or run `berth net` and `berth vm` in two containers";
    NO_KILL = "no-kill", Warning, None,
        "CAP_KILL is missing",
        "QEMU has another uid than berth, which cannot kill it without this capability: a QEMU that hangs stays until the \
         container's runtime ends it.",
        "add KILL to the container's capabilities";
    TUN_MISSING = "tun-missing", Error, Some(4),
        "there is no /dev/net/tun",
        "The guest's network card is a tap, which is made by this device. Without the path it can be made where the \
         container has CAP_MKNOD and may use the device.",
        "give the container the device (a hostPath of type CharDevice, a device plugin, --device /dev/net/tun)";
    TUN_WRONG = "tun-wrong", Error, Some(4),
        "/dev/net/tun is no TUN device",
        "The path is there and is something else: a file or another device that was put or mounted in its place.",
        "mount the node's /dev/net/tun (character device 10:200) there";
    NAT_REFUSED = "nat-refused", Error, Some(17),
        "the kernel refused the rules",
        "berth's rules go to nf_tables in one transaction. A kernel without nf_tables, or without an expression of theirs, \
         takes none of them.",
        "load nf_tables, nft_chain_nat and nf_conntrack on the node, or use a newer kernel (5.4 and later have all of it)";
    SERVE_TAKEN = "serve-taken", Error, Some(18),
        "a port that berth serves on is taken",
        "Another program of the pod listens on the port, which a container of the same pod or an earlier launcher may be.",
        "end the other program, or change the port where it can be";
    NO_IMAGE_DIRECTORY = "no-image-directory", Error, Some(2),
        "the image directory is missing",
        "The image and the VM's disk are kept there (BERTH_IMAGE_DIR, /image).",
        "mount a volume there, or name another directory with BERTH_IMAGE_DIR";
    NO_IMAGE = "no-image", Error, Some(12),
        "there is nothing to boot",
        "No root device, no disk of an earlier start, no image in the image directory, and no IMG_SOURCE.",
        "set IMG_SOURCE to where the image comes from, or put one in the image directory";
    IMAGE_STATUS = "image-status", Error, Some(13),
        "the server has no such image",
        "The server of IMG_SOURCE answered that there is none, or that it is not for us. Asking again would not change that.",
        "check IMG_SOURCE, and the rights to it";
    IMAGE_UNREACHABLE = "image-unreachable", Error, Some(13),
        "the image's server cannot be reached",
        "The name does not resolve, nobody answers at the address, or the connection breaks again and again.",
        "check IMG_SOURCE, name servers, proxy and network policy: the pod, not the guest, fetches the image";
    IMAGE_UNTRUSTED = "image-untrusted", Error, Some(13),
        "the image's server is not trusted",
        "Its certificate is not signed by an authority that is known here, has ended, or is for another name.",
        "name the authority's certificate with BERTH_CA_FILE, or mend the server's";
    IMAGE_REFUSED = "image-refused", Error, Some(14),
        "what is there is no image",
        "It is neither qcow2 nor a raw disk: a page of a portal, an archive, an image that opens other files, or one that is \
         damaged or cut short.",
        "check where IMG_SOURCE leads, and bring a whole image";
    IMAGE_CHECKSUM = "image-checksum", Error, Some(14),
        "the image has another checksum",
        "What was fetched is not what IMG_SHA256 says: the image was changed, or another is there.",
        "check IMG_SHA256 against the publisher's, or fetch from a source that is trusted";
    IMAGE_TOO_LARGE = "image-too-large", Error, Some(14),
        "the image is larger than IMG_MAX_SIZE",
        "More octets than allowed came, or come out of what is packed.",
        "raise IMG_MAX_SIZE, or check IMG_SOURCE";
    VOLUME_FULL = "volume-full", Error, Some(13),
        "the volume is full",
        "There is no space left on the volume of the image directory, or its quota is used up.",
        "give the volume more room, or remove what is not needed";
    VOLUME_READ_ONLY = "volume-read-only", Error, Some(3),
        "the volume cannot be written",
        "The VM's disk is kept in the image directory, whose volume is mounted read-only, or belongs to another user.",
        "mount the volume to be written (readOnly: false), and owned by who runs berth";
    OVERLAY_REFUSED = "overlay-refused", Error, Some(3),
        "the VM's disk cannot be used",
        "The disk of an earlier start is damaged, or its base image is gone or another.",
        "bring the base image back, or restore the disk from a copy; moved away, a new one is made";
    DISK_LOCKED = "disk-locked", Error, Some(15),
        "another launcher has the disk",
        "One disk, one VM: two would destroy it. A pod that is being replaced may still be ending.",
        "end the other VM, or give each its own name (BERTH_NAME) or volume";
    DISKS_SKIPPED = "disks-skipped", Warning, None,
        "something that looks like a disk is none",
        "A file or device is where extra disks are, and cannot be used as one.",
        "take it away, or mend what is said of it";
    VOLUME_FILLS = "volume-fills", Warning, None,
        "the volume is nearly full",
        "The VM's disk grows as the guest writes. When the volume is full the guest is paused, until there is room.",
        "give the volume more room before it is full";
    DISK_STOPPED = "disk-stopped", Error, None,
        "the guest is paused for its disk",
        "A write could not be done: the volume is full, over its quota, or away. The guest goes on when it can be.",
        "give the volume more room, or bring it back; berth tries again by itself";
    MEMORY_LIMIT = "memory-limit", Warning, None,
        "the container has less memory than the guest",
        "QEMU takes the guest's memory (IMG_RAM_MB) and some 200 MiB more, as the guest uses it. Above the container's limit \
         the kernel kills it.",
        "raise the container's memory limit, or lower IMG_RAM_MB";
    MEMORY_REFUSED = "memory-refused", Error, Some(19),
        "there is not as much memory",
        "QEMU could not have the guest's memory at its start.",
        "lower IMG_RAM_MB, or give the machine more memory";
    OOM_KILLED = "oom-killed", Warning, None,
        "processes were killed for want of memory",
        "The container's memory cgroup has met its limit, and the kernel has killed a process in it: QEMU, most likely.",
        "raise the container's memory limit, or lower IMG_RAM_MB";
    CPU_THROTTLED = "cpu-throttled", Warning, None,
        "the container is throttled",
        "Its CPU limit (CFS quota) was used up in many of the periods: the guest stands still for parts of a second, which \
         its clock and its users notice.",
        "raise the container's CPU limit to IMG_VCPU and some more, or take it away";
    NO_KVM = "no-kvm", Error, Some(12),
        "/dev/kvm cannot be used",
        "BERTH_ACCEL=kvm, and the device is not there, is not KVM's, or may not be opened.",
        "give the container /dev/kvm (a device plugin, --device /dev/kvm), or use BERTH_ACCEL=auto";
    SLOW_WITHOUT_KVM = "slow-without-kvm", Warning, None,
        "the guest is emulated",
        "Without KVM every instruction of the guest is translated, which takes ten times as long, about.",
        "give the container /dev/kvm, or say BERTH_ACCEL=tcg where that is meant";
    KVM_BROKEN = "kvm-broken", Error, Some(19),
        "KVM is there and does not run the guest",
        "The device opens, and the guest's processors fail: nested virtualisation that is off or broken, most likely.",
        "run on another node, mend nested virtualisation, or use BERTH_ACCEL=auto, which falls back to emulation";
    VNC_TAKEN = "vnc-taken", Error, Some(19),
        "VNC's port is taken",
        "Another program of the pod listens on 5900.",
        "end that program, or set BERTH_VNC=off (and NO_VNC=1, where the port is the guest's)";
    QEMU_REFUSED = "qemu-refused", Error, Some(19),
        "QEMU does not start",
        "QEMU ended before it ran the guest: it does not know a word, or cannot have what one asks for.",
        "mend the words after --, KVM_*_OPTS, BERTH_CPU or LAUNCHER, whichever QEMU names";
    QEMU_FAILED = "qemu-failed", Error, Some(19),
        "QEMU failed",
        "It ended, or stopped the guest, and the guest did not ask for it.",
        "look at what QEMU said; a core limit, a memory limit or a node that went down are likely";
    STATE_DIRECTORY = "state-directory", Warning, None,
        "the state directory cannot be used",
        "`berth status`, and so every probe, asks by a socket there (BERTH_STATE_DIR, /run/berth). It belongs to another \
         user, or cannot be written: probes will fail, and berth itself runs.",
        "mount an emptyDir there, owned by who runs berth, or name another directory with BERTH_STATE_DIR";
    GUEST_SILENT = "guest-silent", Warning, None,
        "the guest has not asked for an address",
        "It runs, and 120 s later no DHCP of its own has been answered: it does not boot, has no driver for virtio-net, or has \
         a network of its own in mind. Who sent what is seen where the launcher has CAP_NET_RAW.",
        "look at its console (`berth console --log`); have its network configured by DHCP";
    GUEST_OTHER_MAC = "guest-other-mac", Warning, None,
        "the guest sends from another MAC address",
        "The address was given to another MAC address than that of the card that berth gives the guest (BERTH_MAC): a bridge \
         within the guest, or a card that was set to another. There is one address: who asks next has it, too.",
        "have the guest keep its card's address, or say the other one with BERTH_MAC";
    GUEST_STATIC = "guest-static", Warning, None,
        "the guest uses an address without asking",
        "It speaks ARP for an address, and has asked for none by DHCP: it has a fixed configuration, which may be of another \
         pod. Seen where the launcher has CAP_NET_RAW; without, it is `guest-silent`.",
        "have its network configured by DHCP: the pod's address may be another with each start";
    NO_BOOT = "no-boot", Warning, None,
        "the firmware found nothing to boot",
        "The disk has no boot sector, or not one for this firmware: an empty disk, or one made for UEFI alone.",
        "use an image that boots by BIOS, or give QEMU a UEFI firmware by words after --";
    CONFIG_DRIVE_UNREAD = "config-drive-unread", Warning, None,
        "the guest has not opened its config drive",
        "It runs, and not one block of its config drive was read, with which cloud-init sets up users and keys: it does not \
         boot, or has no driver for the drive. Most systems look at every disk, with cloud-init or without: that there is no \
         cloud-init in an image is not seen from here.",
        "use a cloud image, or say BERTH_SEED_AS=cdrom where it looks for a CD-ROM";
    GUEST_PANICKED = "guest-panicked", Error, Some(22),
        "the guest's kernel panicked",
        "The guest told so by its pvpanic device. What follows is BERTH_ON_PANIC's.",
        "look at its last words (`berth console --log`, or the container's log)";
    RESUME_REFUSED = "resume-refused", Warning, Some(23),
        "the suspended guest cannot be resumed",
        "Its memory fits only the machine, the QEMU, the processor and the disk that it was saved with, and only once. Something \
         is another now, or the image is damaged; the log has each with both values. It is booted instead, as after a power \
         cut, unless BERTH_RESUME=require.",
        "give it back what it was saved with, under BERTH_RESUME=require so that it is not booted before; or let it boot";
    NET_HALF_LOST = "net-half-lost", Error, Some(21),
        "the network half is away",
        "`berth vm` runs beside `berth net`, in the same network namespace; nobody answers there.",
        "look at the container with `berth net`, which has to run in the same pod with the same BERTH_TAP";
    NOT_READY = "not-ready", Note, None,
        "the launcher is not ready",
        "What BERTH_READY asks for has not been seen, or a service of its own fails. While a guest boots that is as it should be.",
        "wait for it, or look at its console (`berth console --log`) and at the log";
    SERVICE_FAILS = "service-fails", Warning, None,
        "DHCP, DNS or another service of the launcher fails",
        "It ended, or could not be bound, and is started again and again.",
        "look at the log for why; another program on its port is likely";
    NOT_ANSWERING = "not-answering", Error, None,
        "a launcher is there and does not answer",
        "The socket in the state directory is there and no answer comes: the launcher is stuck, stopped, or another user's.",
        "ask as the user it runs as; look at its log; end it and start it again: the disk is safe";
    UNKNOWN_VARIABLE = "unknown-variable", Warning, None,
        "a variable is not known",
        "It begins as ours do, and nobody reads it: mistyped, most likely. What it was meant for is as if it was not said.",
        "mend its name, or take it away";
    CANNOT_START = "cannot-start", Error, None,
        "a start would end here",
        "What the launcher needs is not as it should be, by a fault that has no name of its own here.",
        "mend what is said; docs/reference.md has the exit codes";
    ENDED = "ended", Error, None,
        "the last start ended",
        "A launcher with this state directory ended by an error that has no name of its own here.",
        "look at what it said; docs/reference.md has the exit codes";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_words_are_whole() {
        let ids: BTreeSet<&str> = ALL.iter().map(|fault| fault.id).collect();
        assert_eq!(ids.len(), ALL.len());
        for fault in ALL {
            let Fault { id, what, cause, remedy, .. } = fault;
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{id}");
            assert!(what.len() < 60 && !what.ends_with('.') && !remedy.ends_with('.'), "{id}");
            assert!(cause.ends_with('.'), "{id}");
            assert_eq!(by_id(id), Some(*fault));
        }
        assert_eq!(by_id("no-such"), None);
    }

    #[test]
    fn what_others_said_is_one_line_of_a_bounded_length() {
        let finding = ENDED.found(format!("a\nb\x1b[31m{}", "é".repeat(1000)));
        assert!(finding.evidence.starts_with("a\\nb\\u001b[31mé") && finding.evidence.len() < 610);
    }
}
