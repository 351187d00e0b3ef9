//! The disks of a guest that runs: copied ([`backup`]) and made larger ([`resize`]), one thing at a time.
//!
//! QEMU is asked by the supervisor's conversation ([`Monitor`]). Files are opened and made here, off the event loop, and handed to
//! QEMU open: it is confined, and opens none itself.

mod backup;
mod chain;
mod graph;
mod nodes;
mod resize;
mod still;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::Value;
use tokio::sync::watch::{Receiver, Sender};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard, oneshot};

use super::agent::GuestAgent;
use super::{MachineStatus, Monitor, NoAnswer, Phase};
use crate::exit::error_chain;
use crate::plan::disk::{DiskPlan, Root};
use crate::sys::beneath::Beneath;
use crate::sys::image;

pub use backup::{Done, Wanted, Written};
pub use resize::Resized;
pub use still::Consistency;
pub use watch::Progress;

/// Why a disk was not copied, or not made larger. The guest goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a backup, a resize or a suspend is under way: one at a time")]
    Busy,
    #[error("the guest is being stopped")]
    Stopping,
    #[error("{step}")]
    Qemu { step: &'static str, source: NoAnswer },
    #[error(
        "QEMU has no {0} of ours: KVM_BLK_OPTS or KVM_RAW_BLK_OPTS describe the disk in words of their own"
    )]
    NoDisk(String),
    #[error("{} exists: a backup never replaces a file", .0.display())]
    Exists(PathBuf),
    #[error("{}: give a directory, or a file in one that exists", .0.display())]
    NoDirectory(PathBuf),
    #[error("{}: an increment needs a directory, in which the backups before it are", .0.display())]
    NeedsDirectory(PathBuf),
    #[error(transparent)]
    File(#[from] image::Error),
    #[error("{step} {}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("copying {disk}: {why}")]
    Job { disk: String, why: String },
    #[error("cancelled: {0}")]
    Cancelled(&'static str),
    #[error(
        "{disk} was {size_bytes} octets large, {wanted} are wanted: a disk is never made smaller"
    )]
    Smaller { disk: String, size_bytes: u64, wanted: u64 },
    #[error(
        "{} is as large as its volume: grow that, then `berth resize` without a size", .0.display()
    )]
    OfVolume(PathBuf),
}

impl Error {
    /// What went wrong, and why, on one line.
    pub fn story(&self) -> String {
        error_chain(self)
    }
}

/// Whoever has it has the disks for himself.
pub(super) type Turn = OwnedMutexGuard<()>;

/// A disk of the guest, by what it is in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Disk {
    /// QEMU's name of the drive.
    device: String,
    /// As the guest knows it: `root`, or its serial.
    name: String,
    path: PathBuf,
    /// Its size is that of the file or device.
    is_raw: bool,
    /// Where there is room for a scratch file: on the disk's own volume, if that is a file system.
    scratch_dir: PathBuf,
}

/// What QEMU says of a disk.
#[derive(Debug, Clone)]
struct Found {
    disk: Disk,
    /// The node at the top of it.
    node: String,
    /// The device that the guest has it by.
    qdev: String,
    size_bytes: u64,
    /// qcow2: bitmaps in it last.
    keeps_bitmaps: bool,
    bitmaps: Vec<chain::Bitmap>,
}

/// The disks of one guest, through all runs of QEMU.
#[derive(Debug, Clone)]
pub struct Storage {
    vm: String,
    disks: Vec<Disk>,
    files: Beneath,
    monitor: Monitor,
    agent: Option<GuestAgent>,
    machine: Sender<MachineStatus>,
    /// Number of the last backup: nodes of one that could not be taken out stay.
    run: Arc<AtomicU64>,
    turn: Arc<Mutex<()>>,
}

/// Who wants that a backup ends: whoever asked for it, by leaving, and a launcher that stops.
#[derive(Debug)]
struct Stop {
    gone: oneshot::Receiver<()>,
    machine: Receiver<MachineStatus>,
}

impl Stop {
    /// Resolves once.
    async fn wanted(&mut self) -> &'static str {
        let ends = |machine: &MachineStatus| machine.phase == Phase::Stopping;
        tokio::select! {
            _ = &mut self.gone => "whoever asked for it has left",
            _ = self.machine.wait_for(ends) => "the guest is being stopped",
        }
    }
}

impl Storage {
    /// Those that the guest may write.
    pub fn new(
        plan: &DiskPlan,
        vm: &str,
        monitor: Monitor,
        agent: Option<GuestAgent>,
        machine: Sender<MachineStatus>,
    ) -> Self {
        let files = Beneath::new(plan.untrusted.iter().cloned());
        Self {
            vm: vm.to_owned(),
            disks: disks(plan),
            files,
            monitor,
            agent,
            machine,
            run: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// When nothing is under way; until it is dropped nothing begins.
    pub(super) async fn alone(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }

    fn turn(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let turn = self.turn.try_lock().map_err(|_| Error::Busy)?;
        match self.machine.borrow().phase {
            Phase::Stopping => Err(Error::Stopping),
            Phase::Starting | Phase::Running | Phase::Paused => Ok(turn),
        }
    }

    /// All of them, as QEMU has them.
    async fn look(&self) -> Result<Vec<Found>, Error> {
        let answer = self.monitor.ask("query-block", None, None).await;
        let answer = answer.map_err(|source| Error::Qemu { step: "asking for disks", source })?;
        let found =
            |disk: &Disk| found(disk, &answer).ok_or_else(|| Error::NoDisk(disk.device.clone()));
        self.disks.iter().map(found).collect()
    }
}

fn disks(plan: &DiskPlan) -> Vec<Disk> {
    let dir_of = |path: &Path| path.parent().map(Path::to_path_buf);
    let (path, image_dir) = match &plan.root {
        Root::Overlay { path, .. } => (path, dir_of(path)),
        Root::Device { path } => (path, None),
    };
    let root = Disk {
        device: "disk0".to_owned(),
        name: "root".to_owned(),
        path: path.clone(),
        is_raw: image_dir.is_none(),
        scratch_dir: image_dir.clone().unwrap_or_else(|| plan.state_dir.clone()),
    };
    let extra = (1..).zip(&plan.extra).filter(|(_, disk)| disk.writable).map(|(number, disk)| {
        let own = disk.path.is_file().then(|| dir_of(&disk.path)).flatten();
        Disk {
            device: format!("disk{number}"),
            name: disk.serial.clone(),
            path: disk.path.clone(),
            is_raw: true,
            scratch_dir: own
                .or_else(|| image_dir.clone())
                .unwrap_or_else(|| plan.state_dir.clone()),
        }
    });
    std::iter::once(root).chain(extra).collect()
}

/// Out of the answer to `query-block` (qapi/block-core.json, BlockInfo).
fn found(disk: &Disk, answer: &Value) -> Option<Found> {
    let all = answer.as_array()?;
    let block = all.iter().find(|block| block["device"] == disk.device.as_str())?;
    let text = |path: &str| block.pointer(path)?.as_str().map(str::to_owned);
    let bitmaps = block.pointer("/inserted/dirty-bitmaps").and_then(Value::as_array);
    Some(Found {
        disk: disk.clone(),
        node: text("/inserted/node-name")?,
        qdev: text("/qdev")?,
        size_bytes: block.pointer("/inserted/image/virtual-size")?.as_u64()?,
        keeps_bitmaps: text("/inserted/drv")? == "qcow2",
        bitmaps: bitmaps.into_iter().flatten().filter_map(chain::Bitmap::of).collect(),
    })
}

/// What blocks, off the event loop.
async fn off<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
