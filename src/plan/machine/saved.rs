//! A guest that is suspended: where its memory goes, and what its machine has to be when it goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Attempt, Handed, Lacking, MachinePlan, ReadyMachine};
use crate::config::{Config, Machine, OnStop};
use crate::plan::DiskPlan;
use crate::plan::disk::Root;
use crate::ram::Facts;

/// QEMU's options that make a disk which the guest may write (qemu-system-x86_64(1)).
const DISKS: [&str; 11] =
    ["drive", "blockdev", "hda", "hdb", "hdc", "hdd", "fda", "fdb", "sd", "mtdblock", "pflash"];

/// Beside the VM's disk: they belong together, on one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub ram: PathBuf,
    pub generation: PathBuf,
    /// The config drive, whose file is made anew at each start.
    pub seed: Option<PathBuf>,
}

/// None where it cannot be; what is asked for then is noted.
pub(super) fn place(
    config: &Config,
    devices: &BTreeSet<PathBuf>,
    disk: &DiskPlan,
    own_disk: bool,
    notes: &mut Vec<String>,
) -> Option<Saved> {
    let place = beside(config, devices, disk, own_disk);
    let why = place.as_ref().err().filter(|_| config.lifecycle.on_stop == OnStop::Suspend);
    notes.extend(why.map(|why| {
        format!("BERTH_ON_STOP=suspend: {why}, so a guest that is to stop is powered off")
    }));
    place.ok()
}

/// Beside a disk that is a file of berth's own: of another nothing would tell that somebody else wrote it meanwhile.
fn beside(
    config: &Config,
    devices: &BTreeSet<PathBuf>,
    disk: &DiskPlan,
    own_disk: bool,
) -> Result<Saved, &'static str> {
    let Root::Overlay { path, base, .. } = &disk.root else {
        return Err("the root disk is a block device");
    };
    if own_disk {
        return Err("KVM_BLK_OPTS has the root disk");
    }
    let is_device = |path: &PathBuf| devices.contains(path);
    if disk.extra.iter().any(|extra| extra.writable && is_device(&extra.path)) {
        return Err("a further disk that the guest writes is a block device");
    }
    if has_disk(config) {
        return Err("the words after -- or KVM_RAW_BLK_OPTS have a disk of their own");
    }
    let beside = |suffix| path.with_file_name(format!("{}.{suffix}", config.name));
    let (ram, generation) = (beside("ram"), beside("gen"));
    if [&ram, &generation].contains(&base) {
        return Err("the base image has the name of a saved guest");
    }
    let seed = disk.seed.as_ref().map(|seed| seed.path.clone());
    Ok(Saved { ram, generation, seed })
}

/// Whether the user's words make a disk, of which nothing is known here.
fn has_disk(config: &Config) -> bool {
    let Machine { raw_blk_opts, extra_args, .. } = &config.machine;
    extra_args.iter().chain(raw_blk_opts.iter().flatten()).any(|word| {
        let option = word.trim_start_matches('-');
        let is_option = option.len() < word.len();
        is_option && DISKS.contains(&option)
    })
}

impl MachinePlan {
    /// The disks by their names in [`ReadyMachine::facts`]' terms: each path, and whether the guest writes it.
    pub fn disks(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.handed.iter().filter_map(|(_, file)| match file {
            Handed::Disk { path, writable, .. } => Some((path.as_path(), *writable)),
            _ => None,
        })
    }
}

impl ReadyMachine {
    /// The command line's part of what has to be the same: without the numbers of descriptors, paths and addresses, which are
    /// others at each start, and without devices that a QEMU may lack: what it has of them is seen on its PCI bus.
    pub fn facts(&self, attempt: &Attempt) -> Facts {
        let words = self.command(attempt);
        let mut facts = Facts::default();
        for pair in words.windows(2) {
            let [option, value] = pair else { continue };
            let option = option.trim_start_matches('-');
            match option {
                "accel" => facts.push("accelerator", value),
                "cpu" => facts.push("CPU model", value),
                "smp" => facts.push("vCPUs", value),
                "m" => facts.push("memory in MiB", value),
                "machine" | "M" | "vga" | "global" | "rtc" => {
                    facts.push(format!("-{option}"), value);
                }
                "device" => {
                    let (model, settings) = value.split_once(',').unwrap_or((value, ""));
                    if Lacking::may_lack(model) {
                        continue;
                    }
                    facts.push(format!("device {model}"), same(settings));
                }
                _ => {}
            }
        }
        facts
    }
}

/// The MTU is the pod's.
fn same(settings: &str) -> String {
    let kept = settings.split(',').filter(|setting| !setting.starts_with("host_mtu="));
    kept.collect::<Vec<_>>().join(",")
}
