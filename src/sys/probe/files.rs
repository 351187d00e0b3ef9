//! Files and disks of the pod, as they are mounted into it.
//!
//! A path that names something else than is meant is an error, never "nothing there": where the source of a bind mount
//! is missing Docker makes a directory, a key that a ConfigMap lacks leaves a dangling link, and a FIFO would block.
//! `/dev/null` is a file that is not there.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat};

use super::Error;
use crate::config::Config;
use crate::facts::{DiskFile, Disks, dictionary_order};

/// cloud-init data beyond this is refused: a config drive holds small files.
pub(super) const LARGEST_BYTES: u64 = 16 << 20;
/// How deep `/volumes` is searched, how many disks a guest can have, and how many things passed over are told.
const DEEPEST: usize = 16;
pub(super) const MOST_DISKS: usize = 64;
const MOST_SKIPPED: usize = 16;

const DIRECTORY: &str =
    "a directory where a file is meant: Docker makes one when the source of a bind mount is missing";
const LEADS_NOWHERE: &str =
    "a link that leads nowhere: mount what it leads to, or the ConfigMap or Secret with that key";

pub(super) fn disks(config: &Config) -> Result<Disks, Error> {
    let paths = &config.paths;
    let (extra, skipped) = extra(&paths.volumes_dir, &paths.device_dir)?;
    // Looked at now: later they would cost VNC its password, or a download its start.
    let password = config.machine.vnc_password_file.as_deref().filter(|_| config.machine.vnc);
    for file in [password, paths.ca_file.as_deref()].into_iter().flatten() {
        named(file)?;
    }
    let optional = |path: &Option<PathBuf>| path.as_deref().map_or(Ok(None), named);
    Ok(Disks {
        root_device: root(&paths.device_dir.join("root"))?,
        image_dir_exists: paths.image_dir.is_dir(),
        target: config.image.target.as_deref().map_or(Ok(None), target)?,
        overlays: overlays(&paths.image_dir),
        extra,
        skipped,
        userdata: read(&paths.userdata)?,
        vendordata: optional(&paths.vendordata)?,
        networkdata: optional(&paths.networkdata)?,
    })
}

// ── files ──

/// What a path leads to; None when nothing is there.
fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(Error::NotAFile { path: path.to_owned(), what: LEADS_NOWHERE }),
            Err(_) => Ok(None),
        },
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// What is there in place of a file; None for a file.
fn no_file(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some(DIRECTORY)
    } else if kind.is_fifo() {
        Some("a FIFO where a file is meant: write what it carries into a file")
    } else if kind.is_socket() {
        Some("a socket where a file is meant")
    } else {
        Some("a device where a file is meant")
    }
}

/// Character device 1:3 (`null(4)`).
fn is_null(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3)
}

/// Content of a file; None when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let Some(metadata) = look(path)?.filter(|metadata| !is_null(metadata)) else { return Ok(None) };
    if let Some(what) = no_file(&metadata) {
        return Err(Error::NotAFile { path: path.to_owned(), what });
    }
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    open(path).map_err(failed)?.take(LARGEST_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST_BYTES {
        Err(Error::TooLarge(path.to_owned()))
    } else {
        Ok(Some(content))
    }
}

/// The same of a file that somebody named, so that it has to be there.
fn named(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    if look(path)?.is_none() {
        return Err(Error::Read { path: path.to_owned(), source: io::ErrorKind::NotFound.into() });
    }
    read(path)
}

/// A file that must be there, and text.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    String::from_utf8(named(path)?.unwrap_or_default()).map_err(|error| Error::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

/// Does not wait for the other end, whatever has come in the file's place meanwhile.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

// ── disks ──

/// `IMG_TARGET`, when it is the path of an image. A word without `/` at its start may mean a name in the image
/// directory as well, so what else stands under `/` says nothing about it.
fn target(word: &str) -> Result<Option<PathBuf>, Error> {
    let path = Path::new("/").join(word);
    let found = match look(&path) {
        Ok(Some(metadata)) => {
            no_disk(&metadata).map_or(Ok(true), |what| Err(Error::NotAFile { path: path.clone(), what }))
        }
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => Ok(found.then_some(path)),
        Err(error) if word.starts_with('/') => Err(error),
        Err(_) => Ok(None),
    }
}

fn root(path: &Path) -> Result<Option<DiskFile>, Error> {
    let Some(metadata) = look(path)? else { return Ok(None) };
    let disk = disk(path, &metadata)?;
    match disk.read_only {
        Some(why) => Err(Error::ReadOnlyRoot { path: disk.path, why }),
        None => Ok(Some(disk)),
    }
}

/// Images anywhere below the volumes, then devices; what is found by two ways counts once.
fn extra(volumes: &Path, devices: &Path) -> Result<(Vec<DiskFile>, Vec<String>), Error> {
    let mut search = Search::default();
    search.below(volumes, 0)?;
    search.found.sort_by(|a, b| dictionary_order(a.0.as_os_str().as_bytes(), b.0.as_os_str().as_bytes()));
    let mut named = Vec::new();
    for entry in entries(devices)?.iter().filter(|entry| entry.file_name().as_bytes().starts_with(b"disk")) {
        let path = entry.path();
        if let Some(metadata) = look(&path)? {
            named.push((path, metadata));
        }
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let Search { mut found, mut skipped } = search;
    found.append(&mut named);
    if found.len() > MOST_DISKS {
        return Err(Error::TooManyDisks { volumes: volumes.to_owned(), devices: devices.to_owned() });
    }
    let mut seen: BTreeMap<(u64, u64, u64), PathBuf> = BTreeMap::new();
    let mut extra = Vec::new();
    for (path, metadata) in found {
        let first = seen.entry(identity(&metadata)).or_insert_with(|| path.clone());
        if *first == path {
            extra.push(disk(&path, &metadata)?);
        } else {
            skipped.push(format!("{} is {}, which is attached already", path.display(), first.display()));
        }
    }
    skipped.truncate(MOST_SKIPPED);
    Ok((extra, skipped))
}

/// Two paths with the same are one disk.
fn identity(metadata: &Metadata) -> (u64, u64, u64) {
    if metadata.file_type().is_block_device() {
        (metadata.rdev(), 0, 0)
    } else {
        (0, metadata.dev(), metadata.ino())
    }
}

/// What is there in place of a disk; None for a regular file or a block device.
fn no_disk(metadata: &Metadata) -> Option<&'static str> {
    if metadata.file_type().is_block_device() { None } else { no_file(metadata) }
}

/// Opens it for reading, which is the least a disk must allow, and asks whether it may be written.
fn disk(path: &Path, metadata: &Metadata) -> Result<DiskFile, Error> {
    if let Some(what) = no_disk(metadata) {
        return Err(Error::NotAFile { path: path.to_owned(), what });
    }
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let size_bytes = open(path).and_then(|mut file| file.seek(SeekFrom::End(0))).map_err(failed)?;
    Ok(DiskFile { path: path.to_owned(), size_bytes, read_only: read_only(path, metadata) })
}

/// Why a disk cannot be written. A regular file is not opened for it: on an overlay that would copy all of it.
fn read_only(path: &Path, metadata: &Metadata) -> Option<String> {
    let writable = if metadata.file_type().is_block_device() {
        OpenOptions::new().read(true).write(true).open(path).map(drop)
    } else {
        accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).map_err(io::Error::from)
    };
    writable.err().map(|error| error.to_string())
}

/// `find DIR -name '*.img'`: real directories only, so that no link leads in a circle.
#[derive(Default)]
struct Search {
    found: Vec<(PathBuf, Metadata)>,
    skipped: Vec<String>,
}

impl Search {
    fn below(&mut self, dir: &Path, depth: usize) -> Result<(), Error> {
        for entry in entries(dir)? {
            let (name, path) = (entry.file_name(), entry.path());
            let is_image = name.as_bytes().ends_with(b".img");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.directory(&path, is_image, depth)?;
            } else if is_image && self.found.len() <= MOST_DISKS {
                match look(&path) {
                    Ok(Some(metadata)) => match no_disk(&metadata) {
                        None => self.found.push((path, metadata)),
                        Some(what) => self.skip(format!("{} is {what}", path.display())),
                    },
                    Ok(None) => {}
                    Err(error) => self.skip(words(&error)),
                }
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, is_image: bool, depth: usize) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        // A ConfigMap's content is in `..TIME`, and links beside it lead there; lost+found is root's alone.
        if name.starts_with(b"..") || name == b"lost+found" || depth >= DEEPEST {
            return Ok(());
        }
        if is_image && entries(path).is_ok_and(|entries| entries.is_empty()) {
            return Err(Error::NotAFile { path: path.to_owned(), what: DIRECTORY });
        }
        match self.below(path, depth + 1) {
            Err(error @ Error::Read { .. }) => self.skip(words(&error)),
            other => return other,
        }
        Ok(())
    }

    fn skip(&mut self, why: String) {
        if self.skipped.len() < MOST_SKIPPED {
            self.skipped.push(why);
        }
    }
}

/// What is in a directory, unsorted; nothing when there is no such directory.
fn entries(dir: &Path) -> Result<Vec<DirEntry>, Error> {
    let failed = |source| Error::Read { path: dir.to_owned(), source };
    match fs::read_dir(dir) {
        Ok(read) => read.collect::<Result<_, _>>().map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Disks of other names, for a word about them; a directory that cannot be read has none.
fn overlays(dir: &Path) -> Vec<PathBuf> {
    let is_overlay = |name: &[u8]| name.ends_with(b".qcow2") && !name.starts_with(b".");
    let mut found: Vec<PathBuf> = entries(dir)
        .unwrap_or_default()
        .iter()
        .filter(|entry| is_overlay(entry.file_name().as_bytes()))
        .map(DirEntry::path)
        .collect();
    found.sort();
    found
}

fn words(error: &Error) -> String {
    match error {
        Error::Read { path, source } => format!("{} cannot be read: {source}", path.display()),
        other => other.to_string(),
    }
}
