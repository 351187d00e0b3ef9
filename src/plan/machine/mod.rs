//! QEMU's command line, decided before QEMU is touched: a pure function of config, facts, links and disks.
//!
//! The same words are valid on QEMU 7.2 to 10 (`qemu-system-x86_64(1)`); which one it is we learn from its QMP
//! greeting. QEMU is handed every disk, the tap, QMP and the serial line as open descriptors, so its uid needs
//! no right to any path. What only the start can know (the accelerator that works, the base image's format)
//! is filled in by [`MachinePlan::ready`] and [`ReadyMachine::command`]. Options of the user (`KVM_*_OPTS`, words after `--`) are in
//! `options`, next to this file.

mod accel;
mod channel;
mod confine;
mod lacking;
mod options;
mod panic;
mod ready;
mod saved;
mod slots;
mod user;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::disk::{ExtraDisk, Root};
use super::{DiskPlan, LinkPlan, findings};
use crate::config::{Config, OnPanic, OnReboot, Reach, SeedAs};
use crate::facts::{Facts, NetFacts};
use crate::faults::Finding;
use crate::net::MacAddr;
use crate::proto::qmp::NETDEV;

pub(crate) use lacking::Lacking;
pub use ready::ReadyMachine;
pub use saved::Saved;

/// What makes a machine impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "{variable}: no value for ${placeholder}; known are $KVM_IMAGE, $BRIDGE_IFACE, $NEWMAC, $VM_IP, $VM_GW, $HOSTNAME and $IMG_*"
    )]
    Placeholder { variable: &'static str, placeholder: String },
    #[error(
        "BERTH_ACCEL=kvm, but /dev/kvm does not open for reading and writing: give the pod the device, or use BERTH_ACCEL=auto"
    )]
    NoKvm,
}

/// Display 0 of the VNC server (RFC 6143).
pub(crate) const VNC_PORT: u16 = 5900;

/// First number a handed descriptor has in QEMU; the others follow without gaps.
pub(crate) const FIRST_FD: i32 = 20;

/// What to execute, as whom, and with which open files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachinePlan {
    /// `LAUNCHER`: words before QEMU's path.
    pub launcher: Vec<String>,
    pub qemu: PathBuf,
    /// Tried in this order until one runs the guest. Never empty.
    pub attempts: Vec<Attempt>,
    /// Open files by the number they have in QEMU.
    pub handed: Vec<(i32, Handed)>,
    /// None: QEMU keeps berth's uid.
    pub user: Option<User>,
    pub vnc: Option<Vnc>,
    /// Why QEMU keeps all that its uid may open; None: it is confined to what it is handed.
    pub unconfined: Option<String>,
    /// QEMU is to have a device by which a Linux or Windows guest tells that its kernel panicked.
    pub panic_device: bool,
    /// Where a guest that is suspended goes; None where it cannot be.
    #[serde(skip)]
    pub saved: Option<Saved>,
    /// As the disks' plan has it.
    #[serde(skip)]
    pub untrusted: Vec<PathBuf>,
    /// Worth one line in the log at start.
    pub notes: Vec<String>,
    /// Those of them that have a name.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// Words before the accelerator and the root disk: the NIC with its fixed address is among them.
    head: Vec<String>,
    /// `-drive` and `-device` of a root disk whose base format is known at start only.
    root: Option<RootDrive>,
    /// Words after the root disk, those of the channel to an agent, and the user's own.
    tail: Vec<String>,
    agent: Vec<String>,
    own: Vec<String>,
}

/// One way to execute guest code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    pub accelerator: Accelerator,
    /// QEMU's `-cpu`.
    pub cpu: String,
}

/// QEMU's accelerator of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    /// QEMU's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Whom QEMU runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups: the one of `/dev/kvm`.
    pub groups: Vec<u32>,
}

/// QEMU's VNC server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vnc {
    /// The pod's: of IPv6 where it has no other.
    pub address: IpAddr,
    /// Its first line is set as the password over QMP; nobody gets in before.
    pub password_file: Option<PathBuf>,
}

/// Format of the image an overlay stands on. Known when it has been fetched; never probed by QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseFormat {
    Qcow2,
    Raw,
}

/// A file QEMU is handed as an open descriptor, so that its uid needs no right to the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Handed {
    /// Queue number `0` of the tap.
    TapQueue(u16),
    /// One end of a socket pair that carries QMP.
    Qmp,
    /// One end of a socket pair that carries the serial console.
    Serial,
    /// One end of a socket pair to the guest's agent.
    Agent,
    /// A disk, opened read-write or read-only; the member of fd set N.
    Disk { path: PathBuf, writable: bool, fdset: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct RootDrive {
    overlay_fdset: u32,
    base_fdset: u32,
    base_is_device: bool,
    slot: String,
}

impl MachinePlan {
    /// The whole command line of one attempt. `base` is the format of the overlay's base image; it is not
    /// looked at when the root is a device or the user's own options describe it.
    fn command(&self, attempt: &Attempt, base: BaseFormat) -> Vec<String> {
        let mut words = self.launcher.clone();
        words.push(self.qemu.to_string_lossy().into_owned());
        words.extend_from_slice(&self.head);
        if self.panic_device {
            push(&mut words, "-device", panic::DEVICE);
        }
        push(&mut words, "-accel", attempt.accelerator.as_str());
        push(&mut words, "-cpu", &attempt.cpu);
        if let Some(root) = &self.root {
            push(&mut words, "-drive", root.drive(base));
            push(&mut words, "-device", format!("{ROOT_DEVICE}{PAUSES}{}", root.slot));
        }
        for more in [&self.tail, &self.agent, &self.own] {
            words.extend_from_slice(more);
        }
        words
    }

    /// Whether the guest has a channel to an agent that is ours.
    pub fn has_agent(&self) -> bool {
        self.handed.iter().any(|(_, file)| *file == Handed::Agent)
    }

    /// The command line as it is most likely to be, for people to look at.
    pub fn preview(&self) -> Vec<String> {
        self.attempts
            .first()
            .map(|attempt| self.command(attempt, BaseFormat::Qcow2))
            .unwrap_or_default()
    }
}

impl RootDrive {
    /// `auto-read-only=off`: otherwise QEMU opens the image read-only first, and an fd set holds what was put
    /// in it. The backing file is named here so that the path in the qcow2 header is never opened.
    fn drive(&self, base: BaseFormat) -> String {
        let driver = match base {
            BaseFormat::Qcow2 => "qcow2",
            BaseFormat::Raw => "raw",
        };
        format!(
            "file=/dev/fdset/{},if=none,id=disk0,format=qcow2,auto-read-only=off,discard=unmap,\
             backing.driver={driver},backing.file.driver={},backing.file.filename=/dev/fdset/{}",
            self.overlay_fdset,
            if self.base_is_device { "host_device" } else { "file" },
            self.base_fdset
        )
    }
}

const ROOT_DEVICE: &str = "virtio-blk-pci,drive=disk0,id=virtio-disk0,serial=root,bootindex=1";
/// A disk whose volume is full, over its quota, or away for a while pauses the guest, which is told and tried again.
/// QEMU's default hands all but a full volume to the guest, whose file system gives up for good.
const PAUSES: &str = ",werror=stop,rerror=stop";

/// Where the pod is reached, where VNC is wanted. A pod without an address was refused before.
fn vnc(config: &Config, facts: &NetFacts) -> Option<Vnc> {
    let machine = &config.machine;
    let own = facts.ipv6.addresses.first().map(|address| IpAddr::V6(*address));
    let address = facts.uplink.address.map(|address| IpAddr::V4(address.address)).or(own)?;
    machine.vnc.then(|| Vnc { address, password_file: machine.vnc_password_file.clone() })
}

/// Decides the machine. Pure; the paths it names are opened at start.
pub fn plan(
    config: &Config,
    facts: &Facts,
    link: &LinkPlan,
    disk: &DiskPlan,
) -> Result<MachinePlan, Error> {
    let machine = &config.machine;
    let mac = config.network.mac.unwrap_or_else(|| MacAddr::stable(&config.name, "guest"));
    let own_disk = options::disk(config, disk, mac)?;
    let own_net = options::net(config, disk, mac)?;
    let unconfined = confine::why_not(config, disk, own_net.as_ref());
    let attempts = accel::attempts(config, facts)?;
    let vnc = vnc(config, &facts.net);

    let mut build = Build { block_devices: facts.disks.block_devices.clone(), ..Build::default() };
    build.frame(config, own_net.as_ref().is_none_or(|net| net.fd_word.is_some()));
    let web = config.web.reach != Reach::Off;
    let all_ours = own_disk.is_none() && own_net.is_none();
    build.begin_slots(machine, all_ours, vnc.is_some() || web);
    build.consoles(vnc.as_ref(), web);
    let helper = match own_net {
        None => {
            build.nic(link, mac);
            false
        }
        Some(net) => build.own_nic(net),
    };
    let mut head = std::mem::take(&mut build.words);
    let root = match &own_disk {
        Some(words) => {
            build.words.extend_from_slice(words);
            None
        }
        None => build.root(&disk.root),
    };
    build.other_disks(disk);
    build.small_devices(vnc.is_some() || web);
    let agent = if channel::has_place(machine) { build.agent() } else { Vec::new() };

    let (user, mut notes) = user::choose(config, facts, &attempts, own_disk.is_some(), helper);
    notes.extend(unconfined.as_deref().map(confine::note));
    let panic_device = panic::has_place(machine);
    notes.extend(panic::note(&panic_device, config));
    let saved =
        saved::place(config, &facts.disks.block_devices, disk, own_disk.is_some(), &mut notes);
    notes.extend(accel::overcommitted(machine.vcpu, facts.host.cpus));
    let findings = findings::of_machine(config, facts, user.as_ref().map(|user| user.uid));
    notes.extend(findings.iter().map(Finding::to_string));
    head.append(&mut build.fdsets());
    Ok(MachinePlan {
        launcher: machine.launcher.clone(),
        qemu: facts.host.qemu.clone(),
        attempts,
        handed: build.handed,
        user,
        vnc,
        unconfined,
        panic_device: panic_device == panic::Place::Ours,
        saved,
        untrusted: disk.untrusted.clone(),
        notes,
        findings,
        head,
        root,
        tail: build.words,
        agent,
        own: machine.extra_args.clone(),
    })
}

/// The words and handed files so far.
#[derive(Debug, Default)]
struct Build {
    words: Vec<String>,
    handed: Vec<(i32, Handed)>,
    fdsets: u32,
    block_devices: BTreeSet<PathBuf>,
    /// The next device's; None where that is QEMU's to choose.
    next_slot: Option<u8>,
}

impl Build {
    fn word(&mut self, option: &str, value: impl Into<String>) {
        push(&mut self.words, option, value);
    }

    /// Hands a file over; returns its number in QEMU.
    fn hand(&mut self, file: Handed) -> i32 {
        let fd = self.handed.last().map_or(FIRST_FD, |(last, _)| last + 1);
        self.handed.push((fd, file));
        fd
    }

    /// Hands a disk over; returns its fd set, which is opened as `/dev/fdset/N`.
    fn disk(&mut self, path: &Path, writable: bool) -> u32 {
        self.fdsets += 1;
        self.hand(Handed::Disk { path: path.to_owned(), writable, fdset: self.fdsets });
        self.fdsets
    }

    /// A raw disk, as `-drive` names it. QEMU takes `/dev/fdset/N` for a regular file, and refuses a block device
    /// behind it, unless the driver is named.
    fn raw_file(&mut self, path: &Path, writable: bool) -> String {
        let set = self.disk(path, writable);
        if self.block_devices.contains(path) {
            format!("file.driver=host_device,file.filename=/dev/fdset/{set}")
        } else {
            format!("file=/dev/fdset/{set}")
        }
    }

    /// `-add-fd` for every disk.
    fn fdsets(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (fd, file) in &self.handed {
            if let Handed::Disk { fdset, .. } = file {
                push(&mut words, "-add-fd", format!("fd={fd},set={fdset}"));
            }
        }
        words
    }

    /// `graphics=off` sends the firmware's text to the serial line, as the seed's `-nographic` did.
    fn frame(&mut self, config: &Config, confined: bool) {
        let machine = &config.machine;
        self.words.extend(["-nodefaults", "-no-user-config"].map(str::to_owned));
        self.word("-display", "none");
        self.word("-name", format!("guest={}", config.name.replace(',', ",,")));
        self.word("-machine", "q35,graphics=off,dump-guest-core=off");
        self.word("-smp", machine.vcpu.to_string());
        self.word("-m", machine.ram_mib.to_string());
        let spawn = if confined { ",elevateprivileges=deny,spawn=deny" } else { "" };
        self.word("-sandbox", format!("on,obsolete=deny{spawn},resourcecontrol=deny"));
        if config.lifecycle.on_reboot == OnReboot::Exit {
            self.word("-action", "reboot=shutdown");
        }
        if config.lifecycle.on_panic != OnPanic::Exit {
            self.word("-action", "panic=pause");
        }
    }

    /// QMP and serial on sockets; no human monitor anywhere. A screen only where VNC or the page (`web`) shows it: the page's
    /// readers come by QMP, to a server that needs no listener, and whoever wants to be alone there is not.
    fn consoles(&mut self, vnc: Option<&Vnc>, web: bool) {
        let qmp = self.hand(Handed::Qmp);
        self.word("-chardev", format!("socket,id=qmp0,fd={qmp}"));
        self.word("-mon", "chardev=qmp0,mode=control");
        let serial = self.hand(Handed::Serial);
        self.word("-chardev", format!("socket,id=serial0,fd={serial}"));
        self.word("-serial", "chardev:serial0");
        let shared = if web { ",share=ignore" } else { "" };
        if let Some(vnc) = vnc {
            let password = if vnc.password_file.is_some() { ",password=on" } else { "" };
            let address = match vnc.address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            };
            self.word("-vnc", format!("{address}:0{password}{shared}"));
        } else if web {
            self.word("-vnc", format!("none{shared}"));
        }
        if vnc.is_some() || web {
            self.word("-vga", "std");
        }
    }

    /// At a fixed PCI address, so that its name in the guest does not depend on the number of disks. Created
    /// before anything that takes the first free address.
    fn nic(&mut self, link: &LinkPlan, mac: MacAddr) {
        let fds: Vec<String> = (0..link.tap.queues.max(1))
            .map(|queue| self.hand(Handed::TapQueue(queue)).to_string())
            .collect();
        let queues = fds.len();
        let (word, multi) = if queues > 1 {
            ("fds", format!(",mq=on,vectors={}", 2 * queues + 2))
        } else {
            ("fd", String::new())
        };
        self.word("-netdev", format!("tap,id={NETDEV},{word}={},vhost=off", fds.join(":")));
        let mtu = link.bridge.mtu;
        self.word(
            "-device",
            format!(
                "virtio-net-pci,netdev={NETDEV},mac={mac},host_mtu={mtu},romfile=,bus=pcie.0,addr=0x2{multi}"
            ),
        );
    }

    /// The user's network; returns whether QEMU makes the device itself.
    fn own_nic(&mut self, net: options::Net) -> bool {
        let options::Net { mut words, fd_word } = net;
        if let Some(at) = fd_word {
            let fd = self.hand(Handed::TapQueue(0));
            if let Some(word) = words.get_mut(at) {
                word.push_str(&format!(",fd={fd}"));
            }
        }
        self.words.append(&mut words);
        fd_word.is_none()
    }

    fn root(&mut self, root: &Root) -> Option<RootDrive> {
        match root {
            Root::Device { path } => {
                let file = self.raw_file(path, true);
                self.word(
                    "-drive",
                    format!("{file},if=none,id=disk0,format=raw,auto-read-only=off,discard=unmap"),
                );
                let slot = self.slot();
                self.word("-device", format!("{ROOT_DEVICE}{PAUSES}{slot}"));
                None
            }
            Root::Overlay { path, base, .. } => {
                let overlay_fdset = self.disk(path, true);
                let base_fdset = self.disk(base, false);
                let base_is_device = self.block_devices.contains(base);
                let slot = self.slot();
                Some(RootDrive { overlay_fdset, base_fdset, base_is_device, slot })
            }
        }
    }

    /// The extra disks in their order, then the config drive, so that it never shifts their names.
    fn other_disks(&mut self, disk: &DiskPlan) {
        for (number, ExtraDisk { path, serial, writable }) in (1..).zip(&disk.extra) {
            let file = self.raw_file(path, *writable);
            let access = if *writable { "auto-read-only=off,discard=unmap" } else { "readonly=on" };
            self.word("-drive", format!("{file},if=none,id=disk{number},format=raw,{access}"));
            let slot = self.slot();
            self.word(
                "-device",
                format!("virtio-blk-pci,drive=disk{number},id=virtio-disk{number},serial={serial}{PAUSES}{slot}"),
            );
        }
        if let Some(seed) = &disk.seed {
            let set = self.disk(&seed.path, false);
            self.word(
                "-drive",
                format!("file=/dev/fdset/{set},if=none,id=seed0,format=raw,readonly=on"),
            );
            let device = match seed.attach {
                SeedAs::Disk => {
                    let slot = self.slot();
                    format!("virtio-blk-pci,drive=seed0,id=virtio-seed0,serial=seed{slot}")
                }
                SeedAs::Cdrom => "ide-cd,drive=seed0,id=cd0,bus=ide.0,serial=seed".to_owned(),
            };
            self.word("-device", device);
        }
    }
}

fn push(words: &mut Vec<String>, option: &str, value: impl Into<String>) {
    words.push(option.to_owned());
    words.push(value.into());
}

#[cfg(test)]
mod tests;
