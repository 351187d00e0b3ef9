//! The words of `berth backup` and `berth resize`.

use std::path::PathBuf;

use clap::Args;

use super::Output;
use crate::config;

pub(super) const BACKUP: &str = "\
Examples:
  berth backup /backup/                 all disks, each a qcow2 file with the VM's name and the time in its own
  berth backup /backup/web.qcow2        the disk, a file of this name that is not there yet
  berth backup --incremental /backup/   what was written since the last one there; the first is a full one
  berth backup --speed 50M /backup/     50 MiB a second at most

In Kubernetes: kubectl exec POD -c CONTAINER -- berth backup /backup/

The guest goes on meanwhile, and does not wait for the target. With QEMU's guest agent in the guest its file systems are flushed
and frozen for the moment that the backup is of; without, it is as after a power cut, and says so. Ctrl-C cancels it. A backup is
started like any image: IMG_TARGET=/backup/web.qcow2. Exit code 1: there is no backup, and nothing is left of it.";

pub(super) const RESIZE: &str = "\
Examples:
  berth resize 40G                      the VM's own disk has 40 GiB from now on
  berth resize                          disks that are volumes are as large as these have become

In the guest, which sees it at once: growpart /dev/vda 1 && resize2fs /dev/vda1. A disk is never made smaller.";

/// A copy of the guest's disks.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// A directory, or a new file; on another volume than the disks
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// What was written since the last backup of this kind in this directory
    #[arg(long)]
    pub incremental: bool,
    /// Octets a second at most, as in 50M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub speed: Option<u64>,
    /// The launcher's state directory [default: /run/berth]
    #[arg(long, env = "BERTH_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub output: Output,
}

/// Larger disks.
#[derive(Debug, Clone, Args)]
pub struct Resize {
    /// Of the VM's own disk, as in 40G; without it disks that are volumes take the size of these
    #[arg(value_name = "SIZE", value_parser = size)]
    pub size: Option<u64>,
    /// The launcher's state directory [default: /run/berth]
    #[arg(long, env = "BERTH_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub output: Output,
}

fn size(text: &str) -> Result<u64, String> {
    config::size(text).ok_or_else(|| "a size in octets, or as in 20G".to_owned())
}
