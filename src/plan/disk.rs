//! The disks: the root, its overlay on a fetched image, the extra ones, the config drive.
//!
//! The order in which a root is looked for is the seed's: block device, path that exists, name in the image
//! directory, which is fetched when it is not there.

mod data;
mod extra;
mod metadata;
mod seed;
mod userdata;
mod yaml;

pub use extra::ExtraDisk;
pub(super) use metadata::host_name;
pub use seed::{KEYS, judged};

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

pub use crate::config::Source;
use crate::config::{Checksum, Config, Proxies, SeedAs, Url};
use crate::exit::{Code, Coded};
use crate::facts::{DiskFile, Facts};
use crate::faults::{self, Fault, Finding};

/// Why the disk or the seed drive cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{} is not a directory: mount a volume there for images and the VM's disk", .0.display())]
    NoImageDirectory(PathBuf),
    #[error("no image: set IMG_SOURCE to a URL or path and IMG_TARGET to its name in {}", .0.display())]
    NoImage(PathBuf),
    #[error("IMG_TARGET={0:?}: a path that exists, or a name without '..'")]
    Target(String),
    #[error("IMG_SOURCE=\"{0}\" does not end in a file name: set IMG_TARGET")]
    NoName(Url),
    #[error("{} would be both the base image and the VM's own disk: change IMG_TARGET or BERTH_NAME", .0.display())]
    SameFile(PathBuf),
    #[error("{}: {why}", path.display())]
    Data { path: PathBuf, why: String },
    #[error("{} is empty: give it a size, as in `truncate -s 10G`, or remove it", .0.display())]
    Empty(PathBuf),
    #[error("{} and {} would both have the serial {serial}: rename one of them", first.display(), second.display())]
    SameSerial { first: PathBuf, second: PathBuf, serial: String },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::NoImageDirectory(_) => Code::ImageDirectory,
            Self::Data { .. } => Code::Seed,
            Self::NoImage(_)
            | Self::Target(_)
            | Self::NoName(_)
            | Self::SameFile(_)
            | Self::Empty(_)
            | Self::SameSerial { .. } => Code::Plan,
        }
    }

    fn fault(&self) -> Option<&'static Fault> {
        match self {
            Self::NoImageDirectory(_) => Some(&faults::NO_IMAGE_DIRECTORY),
            Self::NoImage(_) => Some(&faults::NO_IMAGE),
            _ => None,
        }
    }
}

/// Root disk, cloud-init's seed drive and further disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskPlan {
    pub root: Root,
    /// Raw, in the order the guest sees them after the root.
    pub extra: Vec<ExtraDisk>,
    /// None when there is none of the four files.
    pub seed: Option<Seed>,
    /// Held (flock) as long as the VM may run.
    pub lock: PathBuf,
    pub state_dir: PathBuf,
    /// QEMU's options for the disk are the user's, and may have a key to an encrypted image.
    #[serde(skip)]
    pub own_options: bool,
    /// Directories in which others may have left links: nothing in them is opened by one that leads out.
    #[serde(skip)]
    pub untrusted: Vec<PathBuf>,
    /// Worth one line in the log at start.
    pub notes: Vec<String>,
    /// Those of them that have a name.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// What the guest starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Root {
    /// Raw block device, used as it is.
    Device { path: PathBuf },
    /// qcow2 overlay at `path`, created on `base` once and kept for ever.
    Overlay { path: PathBuf, base: PathBuf, fetch: Option<Box<Fetch>>, size_bytes: Option<u64> },
}

/// How `base` comes to be when it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetch {
    pub source: Source,
    pub checksum: Option<Checksum>,
    pub ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Proxies::is_empty")]
    pub proxies: Proxies,
    /// `IMG_MAX_SIZE`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let Source::Url(url) = &self.source else { return Ok(()) };
        match self.proxies.of(url) {
            Ok(Some(proxy)) => write!(f, " by the proxy {proxy}"),
            Err(unusable) => write!(f, " ({unusable})"),
            Ok(None) => Ok(()),
        }
    }
}

/// The config drive: its files, and where its image goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seed {
    pub volume: crate::iso::Volume,
    pub path: PathBuf,
    pub attach: SeedAs,
}

/// Decides the disks.
pub fn plan(config: &Config, facts: &Facts) -> Result<DiskPlan, Error> {
    let state_dir = config.paths.state_dir.clone();
    let skipped = facts.disks.skipped.iter();
    let skipped = skipped.map(|why| faults::DISKS_SKIPPED.found(format_args!("no disk: {why}")));
    let findings: Vec<Finding> = skipped.collect();
    let mut notes = findings.iter().map(Finding::to_string).collect();
    let seed = seed::volume(config, facts, &mut notes)?.map(|volume| Seed {
        volume,
        path: state_dir.join("seed.iso"),
        attach: config.guest.seed_as,
    });
    let (root, lock) = match &facts.disks.root_device {
        Some(disk) => (device(config, disk, &mut notes)?, state_dir.join("root.lock")),
        None => {
            let root = overlay(config, facts)?;
            notes.extend(other_overlays(&root, facts));
            notes.extend(unused(config, &root));
            (root, config.paths.image_dir.join(format!(".{}.lock", config.name)))
        }
    };
    let extra = extra::disks(&config.paths, &facts.disks.extra, &mut notes)?;
    let own_options = config.machine.blk_opts.is_some();
    let untrusted = config.paths.untrusted();
    Ok(DiskPlan { root, extra, seed, lock, state_dir, own_options, untrusted, notes, findings })
}

fn device(config: &Config, disk: &DiskFile, notes: &mut Vec<String>) -> Result<Root, Error> {
    extra::look_at_size(disk, notes)?;
    if config.image.disk_size_bytes.is_some() {
        notes.push(format!(
            "BERTH_DISK_SIZE is for images: {} keeps the size it has",
            disk.path.display()
        ));
    }
    Ok(Root::Device { path: disk.path.clone() })
}

fn overlay(config: &Config, facts: &Facts) -> Result<Root, Error> {
    let dir = &config.paths.image_dir;
    if !facts.disks.image_dir_exists {
        return Err(Error::NoImageDirectory(dir.clone()));
    }
    let path = dir.join(format!("{}.qcow2", config.name));
    let (base, source) = base(config, facts, &path)?;
    if base == path {
        return Err(Error::SameFile(path));
    }
    let fetch = source.map(|source| {
        Box::new(Fetch {
            source,
            checksum: config.image.checksum.clone(),
            ca_file: config.paths.ca_file.clone(),
            proxies: config.image.proxies.clone(),
            max_bytes: config.image.max_bytes,
        })
    });
    Ok(Root::Overlay { path, base, fetch, size_bytes: config.image.disk_size_bytes })
}

/// The base image, and where it comes from when it is not there. `own` is the VM's disk.
fn base(config: &Config, facts: &Facts, own: &Path) -> Result<(PathBuf, Option<Source>), Error> {
    let dir = &config.paths.image_dir;
    let source = config.image.source.clone();
    match (&facts.disks.target, &config.image.target, source) {
        (Some(path), _, _) => Ok((path.clone(), None)),
        (None, Some(target), source) => {
            let name = relative(target).ok_or_else(|| Error::Target(target.clone()))?;
            Ok((dir.join(name), source))
        }
        // A local image needs no copy when nobody named one.
        (None, None, Some(Source::Path(path))) => Ok((path, None)),
        (None, None, Some(Source::Url(url))) => {
            let name = file_name(&url).ok_or_else(|| Error::NoName(url.clone()))?;
            let path = Some(dir.join(&name)).filter(|path| path != own);
            // A VM that has the image's name.
            Ok((path.unwrap_or_else(|| dir.join(format!("base-{name}"))), Some(Source::Url(url))))
        }
        (None, None, None) => Err(Error::NoImage(dir.clone())),
    }
}

/// The target below the image directory. It may have directories of its own, but leads nowhere else.
fn relative(target: &str) -> Option<PathBuf> {
    let path = Path::new(target);
    let mut name = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => name.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!name.as_os_str().is_empty()).then_some(name)
}

/// The last part of a URL's path, without the suffix of what is unpacked on the way.
fn file_name(url: &Url) -> Option<String> {
    let name = url.path().rsplit('/').next()?;
    let name =
        [".gz", ".xz", ".zst"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+~".contains(&byte));
    (fits && !name.is_empty() && !name.starts_with('.')).then(|| name.to_owned())
}

/// What is asked of an image that is neither fetched nor copied, and so not read to its end.
fn unused(config: &Config, root: &Root) -> Option<String> {
    let Root::Overlay { base, fetch: None, .. } = root else { return None };
    let image = &config.image;
    let set =
        [("IMG_SHA256", image.checksum.is_some()), ("IMG_MAX_SIZE", image.max_bytes.is_some())];
    let set: Vec<&str> = set.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    (!set.is_empty()).then(|| {
        format!(
            "{} is not fetched and not copied, and so not held to {}: set IMG_SOURCE to where it is, and IMG_TARGET to \
             the name of a copy",
            base.display(),
            set.join(" and ")
        )
    })
}

/// A new name gets a new, empty disk. Someone whose pods changed names will want to know where the old one is.
fn other_overlays(root: &Root, facts: &Facts) -> Option<String> {
    let Root::Overlay { path, base, .. } = root else { return None };
    if facts.disks.overlays.contains(path) {
        return None;
    }
    let others: Vec<String> = facts
        .disks
        .overlays
        .iter()
        .filter(|other| *other != base)
        .filter_map(|other| other.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect();
    (!others.is_empty()).then(|| {
        format!(
            "{} is new; there are other images beside it: if one of them is this VM's disk under an old name, \
             start with BERTH_NAME set to it: {}",
            path.display(),
            others.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_stays_below_the_image_directory() {
        assert_eq!(relative("a.qcow2"), Some("a.qcow2".into()));
        assert_eq!(relative("sub dir/./a.qcow2"), Some("sub dir/a.qcow2".into()));
        assert_eq!(relative("/gone/a.qcow2"), Some("gone/a.qcow2".into()));
        for target in ["../a", "a/../../b", "/", "."] {
            assert_eq!(relative(target), None, "{target}");
        }
    }

    #[test]
    fn a_url_gives_a_name_unless_it_has_none() {
        let name = |url: &str| file_name(&Url::parse(url).unwrap());
        assert_eq!(name("https://h/d/debian-12.qcow2?x=/y").as_deref(), Some("debian-12.qcow2"));
        assert_eq!(name("http://h/disk.raw.xz").as_deref(), Some("disk.raw"));
        for url in [
            "http://h",
            "http://h/",
            "http://h/d/",
            "http://h/%2e%2e",
            "http://h/.hidden",
            "http://h/a%20b",
        ] {
            assert_eq!(name(url), None, "{url}");
        }
    }
}
