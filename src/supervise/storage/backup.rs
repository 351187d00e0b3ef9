//! `berth backup`: all disks as they were at one moment, while the guest goes on.
//!
//! ```text
//!           before                      while it is copied
//!  guest ─► disk node          guest ─► copy-before-write ─► disk node
//!                                            │ old clusters     ▲
//!                                            ▼                  │
//!                                         scratch ◄── snapshot-access ◄── backup job ─► target
//! ```
//!
//! What the guest overwrites goes to a scratch file beside its disk first, so that the guest never waits for the target, which may be
//! slow, full or gone; a plain `blockdev-backup` has it wait. A scratch file that is full breaks the snapshot
//! (`on-cbw-error=break-snapshot`, QEMU 7.1), not the guest's write: the backup is given up. QEMU docs: qapi/block-core.json.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::super::{NoAnswer, millis, now};
use super::graph::Graph;
use super::nodes::{INCREMENT, Names, Part, begin_bitmap, insert, prepare, reach};
use super::still::{Consistency, Released};
use super::watch::{Progress, Watch, removed};
use super::{Error, Found, Stop, Storage, chain, off};
use crate::sys::image::target::{self, Target};

/// Requests of a job under way, of 1 MiB each: so much is written yet when it is cancelled.
const WORKERS: u64 = 4;
/// Of the free room of a volume that the target shares with a disk so much is left to the guest.
const LEFT: u64 = 10;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// A new file, or a directory.
    pub target: PathBuf,
    #[serde(default)]
    pub incremental: bool,
    /// Octets a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<u64>,
}

/// A disk's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    pub disk: String,
    pub path: PathBuf,
    /// What the guest sees.
    pub size_bytes: u64,
    /// What the file takes.
    pub file_bytes: u64,
    /// The file that it is an increment to; None: it stands alone.
    pub on: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    pub files: Vec<Written>,
    pub consistency: Consistency,
    pub frozen_ms: Option<u64>,
    pub took_ms: u64,
    pub warnings: Vec<String>,
}

/// Where the files go.
#[derive(Debug, Clone)]
struct Place {
    dir: PathBuf,
    /// The file that was asked for; None: names are made of the time.
    file: Option<PathBuf>,
    stamp: String,
    names: Names,
}

/// What a backup is carried out by.
struct Order<'a> {
    wanted: &'a Wanted,
    place: Place,
    progress: &'a watch::Sender<Progress>,
    stop: Stop,
}

impl Place {
    fn path(&self, vm: &str, disk: &str) -> PathBuf {
        match (&self.file, disk) {
            (None, disk) => self.dir.join(chain::file(vm, &self.stamp, disk)),
            (Some(file), "root") => file.clone(),
            (Some(file), disk) => {
                let stem = file.file_stem().unwrap_or_default().to_string_lossy();
                let extension = file.extension().map(|extension| extension.to_string_lossy());
                let extension = extension.map(|text| format!(".{text}")).unwrap_or_default();
                file.with_file_name(format!("{stem}-{disk}{extension}"))
            }
        }
    }
}

impl Storage {
    /// Copies all disks. `gone` ends it when its other end is dropped. Not to be dropped before it has ended: the guest's disk
    /// would keep what was put before it.
    pub async fn back_up(
        &self,
        wanted: &Wanted,
        progress: &watch::Sender<Progress>,
        gone: oneshot::Receiver<()>,
    ) -> Result<Done, Error> {
        let _turn = self.turn()?;
        let done = self.take(wanted, progress, gone).await;
        self.machine.send_modify(|machine| match &done {
            Ok(_) => {
                machine.counts.backups += 1;
                machine.last_backup = Some(now());
            }
            Err(_) => machine.counts.failed_backups += 1,
        });
        done
    }

    async fn take(
        &self,
        wanted: &Wanted,
        progress: &watch::Sender<Progress>,
        gone: oneshot::Receiver<()>,
    ) -> Result<Done, Error> {
        let began = Instant::now();
        let found = self.look().await?;
        let mut warnings = Vec::new();
        let place = self.place(wanted, &mut warnings).await?;
        let stop = Stop { gone, machine: self.machine.subscribe() };
        let mut order = Order { wanted, place: place.clone(), progress, stop };
        let (mut parts, mut targets) =
            self.files(found, &place, wanted.incremental, &mut warnings).await?;
        tracing::info!(target = %wanted.target.display(), disks = parts.len(), "backup begins");
        let mut graph = Graph::new(&self.monitor);
        let copied = async {
            let released = self.note(&mut graph, &mut parts, &targets, &order).await?;
            for (number, part) in parts.iter().enumerate() {
                self.copy(number, part, &mut targets, &mut order).await?;
            }
            Ok(released)
        }
        .await;
        let whole = match copied {
            Ok(released) => synced(&mut targets).await.map(|()| released),
            error => error,
        };
        if whole.is_err() {
            removed(std::mem::take(&mut targets)).await;
        }
        graph.undo().await;
        let named = match whole {
            Ok(released) => named(targets).await.map(|files| (released, files)),
            Err(error) => Err(error),
        };
        if wanted.incremental {
            self.tidy(&parts, &place.stamp, named.is_ok()).await;
        }
        let (Released { consistency, frozen, warning }, files) = named?;
        warnings.extend(warning.map(|why| format!("the backup is crash-consistent: {why}")));
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let files = parts.iter().zip(files).map(|(part, (path, file_bytes))| Written {
            disk: part.found.disk.name.clone(),
            path,
            size_bytes: part.found.size_bytes,
            file_bytes,
            on: part.on.as_ref().map(|on| chain::file(&self.vm, on, &part.found.disk.name)),
        });
        let (frozen_ms, took_ms) = (frozen.map(millis), millis(began.elapsed()));
        tracing::info!(?consistency, frozen_ms, took_ms, "backup is whole");
        Ok(Done { files: files.collect(), consistency, frozen_ms, took_ms, warnings })
    }

    async fn place(&self, wanted: &Wanted, warnings: &mut Vec<String>) -> Result<Place, Error> {
        let (to, vm, files) = (wanted.target.clone(), self.vm.clone(), self.files.clone());
        let names = Names(self.run.fetch_add(1, Ordering::Relaxed));
        let incremental = wanted.incremental;
        let (place, left) = off(move || {
            let stamp = target::stamp_now();
            if to.is_dir() {
                let left = target::remove_left(&to, &vm, &files);
                return Ok((Place { dir: to, file: None, stamp, names }, left));
            }
            let is_meant = !to.as_os_str().as_encoded_bytes().ends_with(b"/");
            let dir = to.parent().filter(|dir| is_meant && dir.is_dir());
            let dir = dir.ok_or_else(|| Error::NoDirectory(to.clone()))?.to_owned();
            if incremental {
                return Err(Error::NeedsDirectory(to));
            }
            Ok((Place { dir, file: Some(to), stamp, names }, Vec::new()))
        })
        .await?;
        warnings.extend(
            left.into_iter()
                .map(|name| format!("removed {name}, which a launcher that was killed has left")),
        );
        Ok(place)
    }

    /// Decides what is copied, and makes the files for it.
    async fn files(
        &self,
        found: Vec<Found>,
        place: &Place,
        incremental: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<Part>, Vec<Target>), Error> {
        let (vm, files, place) = (self.vm.clone(), self.files.clone(), place.clone());
        let (parts, targets, mut notes) = off(move || {
            let (mut parts, mut targets, mut notes) = (Vec::new(), Vec::new(), Vec::new());
            let shares = found.len() as u64 + 1;
            for found in found {
                let disk = &found.disk;
                let path = place.path(&vm, &disk.name);
                if path.symlink_metadata().is_ok() {
                    return Err(Error::Exists(path));
                }
                if target::share_volume(&place.dir, &disk.path) {
                    notes.push(format!(
                        "{} is on the volume of the disk {}: what takes the one takes the other",
                        place.dir.display(),
                        disk.name
                    ));
                }
                let on = match incremental.then(|| found.last(&vm, &place.dir)) {
                    Some(Err(why)) => {
                        notes.push(format!("{} is copied in full: {why}", disk.name));
                        None
                    }
                    last => last.and_then(Result::ok),
                };
                let backing = on.as_ref().map(|on| chain::file(&vm, on, &disk.name));
                targets.push(Target::create(&path, found.size_bytes, backing.as_deref(), &files)?);
                parts.push(Part::new(found, on, shares)?);
            }
            Ok((parts, targets, notes))
        })
        .await?;
        warnings.append(&mut notes);
        Ok((parts, targets))
    }

    /// Puts everything in its place, and notes the moment: from then on QEMU keeps what the guest overwrites.
    async fn note(
        &self,
        graph: &mut Graph<'_>,
        parts: &mut [Part],
        targets: &[Target],
        order: &Order<'_>,
    ) -> Result<Released, Error> {
        let qemu = |step| move |source| Error::Qemu { step, source };
        let Order { wanted, place: Place { stamp, names, .. }, .. } = order;
        for (number, (part, target)) in parts.iter_mut().zip(targets).enumerate() {
            prepare(graph, &names.of(number), part, target).await?;
            if wanted.incremental {
                begin_bitmap(graph, &part.found, stamp)
                    .await
                    .map_err(qemu("beginning a bitmap"))?;
            }
        }
        let held = self.hold().await;
        let mut noted = Ok(());
        for (number, part) in parts.iter().enumerate() {
            noted = match noted {
                Ok(()) => insert(graph, &names.of(number), &part.found).await,
                error => error,
            };
        }
        let released = held.release().await;
        noted.map_err(qemu("noting the moment"))?;
        for (number, part) in parts.iter().enumerate() {
            reach(graph, &names.of(number), part)
                .await
                .map_err(qemu("reading the disk as it was"))?;
        }
        Ok(released)
    }

    async fn copy(
        &self,
        number: usize,
        part: &Part,
        targets: &mut Vec<Target>,
        order: &mut Order<'_>,
    ) -> Result<(), Error> {
        let Order { wanted, place, .. } = &*order;
        let names = place.names.of(number);
        let mut job = json!({
            "job-id": names.job, "device": names.snapshot, "target": names.target,
            "on-target-error": "report", "on-source-error": "report", "auto-dismiss": false,
            "x-perf": {"max-workers": WORKERS},
        });
        let mut set = |key: &str, value: Value| {
            job.as_object_mut().and_then(|job| job.insert(key.to_owned(), value));
        };
        match part.on {
            None => set("sync", "full".into()),
            Some(_) => {
                set("sync", "bitmap".into());
                set("bitmap", INCREMENT.into());
                set("bitmap-mode", "never".into());
            }
        }
        if let Some(speed) = wanted.speed {
            set("speed", speed.into());
        }
        let begun = self.monitor.ask("blockdev-backup", Some(job), None).await;
        match begun {
            Ok(_) | Err(NoAnswer::TimedOut) => {}
            Err(source) => return Err(Error::Qemu { step: "beginning to copy", source }),
        }
        let shared = target::share_volume(&place.dir, &part.found.disk.path)
            .then(|| (place.dir.clone(), target::room(&place.dir).unwrap_or(0) / LEFT));
        let disk = &part.found.disk.name;
        let has_limit = wanted.speed.is_some();
        let watch = Watch { monitor: &self.monitor, job: &names.job, disk, shared, has_limit };
        watch.job(targets, order.progress, &mut order.stop, part.scratch_room).await
    }

    /// The bitmap that counts from now on is the one that goes with what is on the target.
    async fn tidy(&self, parts: &[Part], stamp: &str, is_whole: bool) {
        let new = chain::bitmap(stamp);
        for part in parts {
            let old = part.found.own_bitmaps().map(|bitmap| bitmap.name.clone());
            let names: Vec<String> =
                if is_whole { old.collect() } else { std::iter::once(new.clone()).collect() };
            for name in names {
                let of = json!({"node": part.found.node, "name": name});
                if let Err(error) =
                    self.monitor.ask("block-dirty-bitmap-remove", Some(of), None).await
                    && is_whole
                {
                    tracing::warn!(%error, bitmap = name, "a bitmap of an earlier backup stays");
                }
            }
        }
    }
}

/// On the disk, so that QEMU has nothing to wait for when it closes them.
async fn synced(targets: &mut Vec<Target>) -> Result<(), Error> {
    let all = std::mem::take(targets);
    let (all, synced) = off(move || {
        let synced = all.iter().try_for_each(Target::sync);
        (all, synced)
    })
    .await;
    *targets = all;
    Ok(synced?)
}

/// Those of other disks first: where the root's is, all are.
async fn named(targets: Vec<Target>) -> Result<Vec<(PathBuf, u64)>, Error> {
    off(move || {
        let mut names: Vec<(PathBuf, u64)> = Vec::new();
        for target in targets.into_iter().rev() {
            match target.finish() {
                Ok(name) => names.push(name),
                Err(error) => {
                    for (path, _) in names {
                        // Of no use without the others.
                        let _ = std::fs::remove_file(path);
                    }
                    return Err(error.into());
                }
            }
        }
        names.reverse();
        Ok(names)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_the_vm_the_time_and_the_disk() {
        let stamp = "20240301T000000Z".to_owned();
        let mut place = Place { dir: "/b".into(), file: None, stamp, names: Names(0) };
        let of = |place: &Place, disk| place.path("vm", disk).display().to_string();
        assert_eq!(of(&place, "root"), "/b/vm-20240301T000000Z.qcow2");
        assert_eq!(of(&place, "data"), "/b/vm-20240301T000000Z-data.qcow2");
        place.file = Some("/b/c.d.qcow2".into());
        assert_eq!(of(&place, "root"), "/b/c.d.qcow2");
        assert_eq!(of(&place, "data"), "/b/c.d-data.qcow2");
        place.file = Some("/b/c".into());
        assert_eq!(of(&place, "data"), "/b/c-data");
    }
}
