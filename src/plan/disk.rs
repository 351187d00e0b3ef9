//! The disks: the root, its overlay on a fetched image, the extra ones, the config drive.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{Checksum, SeedAs};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskPlan {
    pub root: Root,
    /// Raw, in the order the guest sees them after the root.
    pub extra: Vec<PathBuf>,
    /// None when neither metadata nor userdata is there.
    pub seed: Option<Seed>,
    /// Held (flock) as long as the VM may run.
    pub lock: PathBuf,
    pub state_dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Root {
    /// Raw block device, used as it is.
    Device { path: PathBuf },
    /// qcow2 overlay at `path`, created on `base` once and kept for ever.
    Overlay {
        path: PathBuf,
        base: PathBuf,
        fetch: Option<Fetch>,
        size_bytes: Option<u64>,
    },
}

/// How `base` comes to be when it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetch {
    pub source: Source,
    pub checksum: Option<Checksum>,
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// http or https.
    Url(String),
    Path(PathBuf),
}

/// The config drive: its files, and where its image goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seed {
    pub volume: crate::iso::Volume,
    pub path: PathBuf,
    pub attach: SeedAs,
}
