//! The nodes of a backup in QEMU's graph, disk by disk (QEMU docs: qapi/block-core.json).

use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use super::super::NoAnswer;
use super::graph::Graph;
use super::{Error, Found, chain};
use crate::sys::image::target::{self, Target};

/// A disk that is copied.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) found: Found,
    /// The time of the backup that it is an increment to.
    pub(super) on: Option<String>,
    pub(super) scratch: Option<OwnedFd>,
    pub(super) scratch_room: u64,
}

impl Part {
    /// With a scratch file, which gets one of so many shares of its volume's free room.
    pub(super) fn new(found: Found, on: Option<String>, shares: u64) -> Result<Self, Error> {
        let dir = &found.disk.scratch_dir;
        let room = target::room(dir).map_err(|source| Error::Io {
            step: "looking for room in",
            path: dir.clone(),
            source,
        })?;
        // Its tables are less than a thousandth of it, and a MiB.
        let most = found.size_bytes + found.size_bytes / 512 + (2 << 20);
        let scratch_room = (room / shares).min(most) / 512 * 512;
        let scratch = Some(target::scratch(dir, found.size_bytes, scratch_room)?);
        Ok(Self { found, on, scratch, scratch_room })
    }
}

/// The bitmap that an increment is copied by; its node is gone with the job.
pub(super) const INCREMENT: &str = "increment";

/// What is added to QEMU for a disk, of the backup of this number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names(pub(super) u64);

/// Of one disk.
#[derive(Debug)]
pub(super) struct NamesOf {
    scratch_file: String,
    scratch_room: String,
    scratch: String,
    pub(super) target: String,
    filter: String,
    pub(super) snapshot: String,
    pub(super) job: String,
}

impl Names {
    /// At most 31 octets each.
    pub(super) fn of(&self, number: usize) -> NamesOf {
        let name = |what: &str| format!("backup{}-{number}-{what}", self.0 % 10_000);
        NamesOf {
            scratch_file: name("file"),
            scratch_room: name("room"),
            scratch: name("scratch"),
            target: name("target"),
            filter: name("filter"),
            snapshot: name("snap"),
            job: name("job"),
        }
    }
}

/// Target and scratch file, before the moment.
pub(super) async fn prepare(
    graph: &mut Graph<'_>,
    names: &NamesOf,
    part: &mut Part,
    target: &Target,
) -> Result<(), Error> {
    let qemu = |step| move |source| Error::Qemu { step, source };
    let (opening, making) = (qemu("opening the target"), qemu("opening the scratch file"));
    let descriptor = target.descriptor().map_err(|source| Error::Io {
        step: "handing over the target in",
        path: part.found.disk.path.clone(),
        source,
    })?;
    let file = graph.hand(descriptor).await.map_err(opening)?;
    // Nothing is flushed by QEMU, whose main loop would wait for it: it is synced here when it is whole. What it is an
    // increment to is not opened.
    let mut of = json!({
        "driver": "qcow2", "detect-zeroes": "unmap", "discard": "unmap", "cache": {"no-flush": true},
        "file": {"driver": "file", "filename": file, "cache": {"no-flush": true}},
    });
    if let (Some(_), Some(of)) = (&part.on, of.as_object_mut()) {
        of.insert("backing".to_owned(), Value::Null);
    }
    graph.node(&names.target, of).await.map_err(opening)?;
    if let Some(scratch) = part.scratch.take() {
        let file = graph.hand(scratch).await.map_err(making)?;
        let of = json!({"driver": "file", "filename": file, "cache": {"no-flush": true}});
        graph.node(&names.scratch_file, of).await.map_err(making)?;
        let of = json!({"driver": "raw", "file": names.scratch_file, "size": part.scratch_room});
        graph.node(&names.scratch_room, of).await.map_err(making)?;
        let of =
            json!({"driver": "qcow2", "file": names.scratch_room, "cache": {"no-flush": true}});
        graph.node(&names.scratch, of).await.map_err(making)?;
    }
    Ok(())
}

/// Taken away again, where the backup fails, by [`Storage::tidy`].
pub(super) async fn begin_bitmap(
    graph: &Graph<'_>,
    found: &Found,
    stamp: &str,
) -> Result<(), NoAnswer> {
    let of = json!({
        "node": found.node, "name": chain::bitmap(stamp), "granularity": chain::GRANULARITY,
        "persistent": found.keeps_bitmaps,
    });
    graph.ask("block-dirty-bitmap-add", of).await.map(drop)
}

/// The moment: the guest's requests pass the filter from now on.
pub(super) async fn insert(
    graph: &mut Graph<'_>,
    names: &NamesOf,
    found: &Found,
) -> Result<(), NoAnswer> {
    let of = json!({
        "driver": "copy-before-write", "file": found.node, "target": names.scratch,
        "on-cbw-error": "break-snapshot",
    });
    graph.node(&names.filter, of).await?;
    let drive = |node: &str| json!({"path": found.qdev, "property": "drive", "value": node});
    graph.make("qom-set", drive(&names.filter), ("qom-set", drive(&found.node))).await
}

/// The disk as it was at the moment, and for an increment what was written before it.
pub(super) async fn reach(
    graph: &mut Graph<'_>,
    names: &NamesOf,
    part: &Part,
) -> Result<(), NoAnswer> {
    let of = json!({"driver": "snapshot-access", "file": names.filter});
    graph.node(&names.snapshot, of).await?;
    let Some(on) = &part.on else { return Ok(()) };
    let of = json!({
        "node": names.snapshot, "name": INCREMENT, "granularity": chain::GRANULARITY,
        "disabled": true,
    });
    graph.ask("block-dirty-bitmap-add", of).await?;
    let last = json!({"node": part.found.node, "name": chain::bitmap(on)});
    let of = json!({"node": names.snapshot, "target": INCREMENT, "bitmaps": [last]});
    graph.ask("block-dirty-bitmap-merge", of).await.map(drop)
}
