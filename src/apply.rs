//! Make kernel and disks match the plan. Twice equals once: a restart after a kill runs the same steps.

mod network;
mod progress;
mod undo;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::exit::{Code, Coded};
use crate::faults::{self, Fault};
use crate::iso;
use crate::net::IfName;
use crate::plan::Plan;
use crate::plan::disk::{DiskPlan, Fetch, Root, Seed, Source};
use crate::plan::machine::{BaseFormat, MachinePlan, ReadyMachine};
use crate::sys::beneath::Beneath;
use crate::sys::image::{self, Access, Format, Keys, Lock, Origin, Request, Timing};
use crate::sys::{link, netlink, route};
use tokio::sync::watch;

pub(crate) use network::{close, learn, open, way_out, without};
pub use network::{forwarding6, guest, ipv4, ipv6, links, mend_links, nat, routes, tap};
pub use undo::{Before, before, remove};

use progress::Bar;
pub use progress::Fetching;

/// How long `berth vm` waits for the tap of `berth net`.
const TAP_COMES: Duration = Duration::from_secs(60);
/// How long the QEMU of a launcher that was killed may take to end.
const QEMU_GONE: Duration = Duration::from_secs(5);

/// What could not be brought about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error("{} is not there: mount it, or set IMG_SOURCE to where it comes from", .0.display())]
    NoBase(PathBuf),
    #[error("the config drive")]
    Seed(#[source] iso::Error),
    #[error("writing the config drive")]
    WriteSeed(#[source] image::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(
        "no {0} after {TAP_COMES:?}: `berth net` has to make it, in this network namespace and with the same BERTH_TAP"
    )]
    NoTap(IfName),
    #[error(
        "what {guest} sends to the world has no route here ({why}), though the pod has one from {pod}: add an ip rule \
         for {guest} that leads where the pod's lead"
    )]
    NoWayOut { guest: Ipv4Addr, pod: Ipv4Addr, why: String },
    #[error(transparent)]
    Routes(#[from] route::Error),
    #[error(transparent)]
    Nat(#[from] netlink::Error),
    #[error(
        "{0}: there already, and not all that a launcher leaves; a test makes its own and takes them away again: choose \
         other names (BERTH_BRIDGE, BERTH_TAP), or test in a container of its own"
    )]
    SomebodyElses(String),
    /// The files were read by code that did not expect what is in them: the same as an image that is refused.
    #[error(
        "{what} cannot be read ({why}): it is damaged, or was made to look so; bring a copy back, or move it away to begin \
         anew"
    )]
    Panicked { what: String, why: String },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Image(error) => error.code(),
            Self::Panicked { .. } => Code::Refused,
            Self::NoBase(_) | Self::NoWayOut { .. } | Self::SomebodyElses(_) => Code::Plan,
            Self::Seed(_) | Self::WriteSeed(_) => Code::Seed,
            Self::NoTap(_) => Code::Network,
            Self::Link(error) => error.code(),
            Self::Routes(error) => error.code(),
            Self::Nat(error) => error.code(),
        }
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::Image(error) | Self::WriteSeed(error) => error.fault(),
            Self::NoBase(_) => Some(&faults::NO_IMAGE),
            Self::Link(error) => error.fault(),
            Self::Nat(error) => error.fault(),
            Self::Panicked { .. } => Some(&faults::IMAGE_REFUSED),
            Self::NoTap(_) => Some(&faults::NET_HALF_LOST),
            _ => None,
        }
    }
}

/// Runs what blocks off the event loop: the one place where a panic over the content of a file becomes an error.
async fn blocking<T: Send + 'static>(
    what: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| {
        let what = what.display().to_string();
        let panic = error.try_into_panic().ok();
        let text = panic.as_ref().and_then(|panic| {
            panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or(panic.downcast_ref::<&str>().copied())
        });
        Err(Error::Panicked { what, why: text.unwrap_or("a task ended unexpectedly").to_owned() })
    })
}

/// What the plan says of the files: keys, and directories that are not trusted.
#[derive(Clone)]
struct Files {
    keys: Keys,
    beneath: Beneath,
}

impl Files {
    fn of(plan: &DiskPlan) -> Self {
        let keys = if plan.own_options { Keys::Users } else { Keys::None };
        Self { keys, beneath: Beneath::new(plan.untrusted.iter().cloned()) }
    }

    fn access(&self) -> Access<'_> {
        Access { keys: self.keys, files: &self.beneath }
    }
}

/// Disks that are ready, held by the lock.
#[derive(Debug)]
pub struct Disks {
    _lock: Lock,
    /// The overlay's base and its format; None for a root device.
    base: Option<(PathBuf, Format)>,
}

impl Disks {
    /// The machine on these disks.
    pub fn machine(&self, plan: &MachinePlan) -> ReadyMachine {
        let format = |format: &Format| match format {
            Format::Qcow2 => BaseFormat::Qcow2,
            Format::Raw => BaseFormat::Raw,
        };
        plan.ready(self.base.as_ref().map(|(path, found)| (path.as_path(), format(found))))
    }
}

/// A disk that nobody else may start, and the group that its files are shared with: QEMU's, when that is not ours.
#[derive(Debug)]
pub struct Held {
    lock: Lock,
    group: Option<u32>,
}

/// Nobody else has the VM's disk from here on.
pub async fn lock(plan: &Plan) -> Result<Held, Error> {
    let (disk, name) = (plan.disk.clone(), plan.name.clone());
    let group = plan.machine.user.as_ref().map(|user| user.gid);
    // The thread that opens the disk for QEMU later.
    join(group);
    let (path, files) = (disk.lock.clone(), Files::of(&disk));
    blocking(&path, move || {
        join(group);
        for note in &disk.notes {
            tracing::warn!("{note}");
        }
        image::private_dir(&disk.state_dir)?;
        let holder = format!("{name} (pid {})", std::process::id());
        let lock = image::lock_for(&disk.lock, &holder, &files.beneath)?;
        share(&disk.lock, group, &files);
        Ok(Held { lock, group })
    })
    .await
}

/// Threads have groups of their own: each that opens what another launcher may have made.
fn join(group: Option<u32>) {
    if let Some(Err(error)) = group.map(image::join_group) {
        tracing::debug!(%error, "not in QEMU's group");
    }
}

/// So that a launcher that starts as QEMU's user takes up what one that starts as root has made, on the same volume.
fn share(path: &Path, group: Option<u32>, files: &Files) {
    match group.map(|gid| image::share(path, gid, &files.beneath)) {
        None | Some(Ok(())) => {}
        // A group that we are not in, nor may be.
        Some(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            tracing::debug!(%error, path = %path.display(), "not shared with QEMU's group");
        }
        Some(Err(error)) => {
            tracing::warn!(%error, path = %path.display(), "not shared with QEMU's group");
        }
    }
}

/// Whether the base that is there will do. A disk that was made is held to its base when it is adopted; without one, a
/// base that is refused, left by an earlier version or by hand, is worth asking its source for another.
fn has_base(disk: &Path, base: &Path, access: Access<'_>) -> Result<bool, Error> {
    if !base.exists() || disk.exists() {
        return Ok(base.exists());
    }
    match image::inspect_for(base, access) {
        Ok(_) => Ok(true),
        Err(error @ (image::Error::NotAnImage { .. } | image::Error::Refers { .. })) => {
            tracing::warn!(error = %crate::exit::error_chain(&error), "the cached image is invalid, fetching it again");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether [`fetch`] is needed, and will take long.
pub async fn has_to_fetch(plan: &DiskPlan) -> Result<bool, Error> {
    let Root::Overlay { path, base, fetch: Some(_), .. } = plan.root.clone() else {
        return Ok(false);
    };
    let files = Files::of(plan);
    blocking(&base.clone(), move || Ok(!has_base(&path, &base, files.access())?)).await
}

/// What may take long, and must be done before the pod's address is mapped, since a download under way would lose its
/// answers to the guest.
pub async fn fetch(
    plan: &DiskPlan,
    held: &Held,
    told: watch::Sender<Option<Fetching>>,
) -> Result<(), Error> {
    let Root::Overlay { path, base, fetch: Some(fetch), .. } = plan.root.clone() else {
        return Ok(());
    };
    let (group, files) = (held.group, Files::of(plan));
    blocking(&base.clone(), move || {
        join(group);
        fetch_base(&path, &base, &fetch, files.access(), &told)
    })
    .await
}

#[expect(clippy::disallowed_methods, reason = "a verb: durations are measured here")]
fn fetch_base(
    disk: &Path,
    base: &Path,
    fetch: &Fetch,
    access: Access<'_>,
    told: &watch::Sender<Option<Fetching>>,
) -> Result<(), Error> {
    let started = Instant::now();
    told.send_replace(Some(Fetching::since(started)));
    if let Some(dir) = base.parent() {
        image::make_dir(dir)?;
    }
    let origin = match &fetch.source {
        Source::Url(url) => Origin::Url(url),
        Source::Path(path) => Origin::Path(path),
    };
    let shown = fetch.to_string();
    let mut bar = Bar::new(&shown);
    let request = Request {
        origin,
        target: base,
        checksum: fetch.checksum.as_ref(),
        ca_file: fetch.ca_file.as_deref(),
        proxies: &fetch.proxies,
        timing: Timing::default(),
        max_bytes: fetch.max_bytes,
        access,
    };
    let fetched = image::fetch_for(&request, Some(disk), &mut |progress| {
        told.send_replace(Some(Fetching::since(started).at(progress)));
        bar.show(progress);
    });
    bar.finish();
    told.send_modify(|told| {
        *told = told.map(|told| Fetching { until: Some(Instant::now()), ..told });
    });
    fetched?;
    tracing::info!(source = shown, image = %base.display(), took_ms = started.elapsed().as_millis(), "image fetched");
    Ok(())
}

/// Overlay and config drive.
pub async fn disks(plan: &DiskPlan, held: Held) -> Result<Disks, Error> {
    let plan = plan.clone();
    let Held { lock, group } = held;
    let files = Files::of(&plan);
    let what = match &plan.root {
        Root::Overlay { path, .. } | Root::Device { path } => path.clone(),
    };
    blocking(&what, move || {
        join(group);
        let base = root(&plan.root, &files)?;
        if let Root::Overlay { path, .. } = &plan.root {
            share(path, group, &files);
        }
        if let Some(seed) = &plan.seed {
            write_seed(seed, &files)?;
        }
        Ok(Disks { _lock: lock, base })
    })
    .await
}

#[expect(clippy::disallowed_methods, reason = "a verb: durations are measured here")]
fn root(root: &Root, files: &Files) -> Result<Option<(PathBuf, Format)>, Error> {
    let Root::Overlay { path, base, size_bytes, .. } = root else { return Ok(None) };
    let started = Instant::now();
    if !path.exists() && !base.exists() {
        return Err(Error::NoBase(base.clone()));
    }
    if path.exists() {
        image::wait_released(path, QEMU_GONE, &files.beneath)?;
    }
    let overlay = image::ensure_overlay_for(path, base, *size_bytes, files.access())?;
    if overlay.base != *base {
        tracing::warn!(disk = %path.display(), base = %overlay.base.display(), wanted = %base.display(),
            "the VM's disk was made on another image and stays on it");
    }
    for note in &overlay.notes {
        tracing::warn!("{note}");
    }
    if let Some(wanted) =
        size_bytes.filter(|wanted| wanted.next_multiple_of(512) < overlay.size_bytes)
    {
        tracing::warn!(disk = %path.display(), wanted, size_bytes = overlay.size_bytes,
            "BERTH_DISK_SIZE is less than the disk has: a disk is never shrunk");
    }
    if overlay.created {
        let (path, files) = (path.clone(), files.clone());
        // QEMU starts meanwhile; until this ends a power failure leaves no disk, or one that is made anew.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = image::sync(&path, &files.beneath) {
                tracing::error!(error = %crate::exit::error_chain(&error), "the VM's disk may be lost by a power failure");
            }
        });
    }
    tracing::info!(
        disk = %path.display(),
        created = overlay.created,
        size_bytes = overlay.size_bytes,
        took_ms = started.elapsed().as_millis(),
        "disk ready"
    );
    Ok(Some((overlay.base, overlay.base_format)))
}

fn write_seed(seed: &Seed, files: &Files) -> Result<(), Error> {
    let image = seed.volume.image().map_err(Error::Seed)?;
    image::write_atomically(&seed.path, &image, 0o600, &files.beneath).map_err(Error::WriteSeed)?;
    tracing::info!(image = %seed.path.display(), label = seed.volume.label, bytes = image.len(), "config drive ready");
    Ok(())
}
