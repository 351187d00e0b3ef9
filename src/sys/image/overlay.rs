//! The VM's own disk: a qcow2 overlay, created once on its base and kept for ever.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use imago::file::File as Storage;
use imago::format::PreallocateMode;
use imago::format::drivers::FormatDriverInstance;
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder};

use super::format::open_qcow2;
use super::{Error, Format, at, beside, create, inspect};

/// A disk that can be given to QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The base it stands on; another one than asked for when the overlay was made on that.
    pub base: PathBuf,
    pub base_format: Format,
    /// What the guest sees, in octets.
    pub size_bytes: u64,
    pub created: bool,
}

/// Makes the overlay on `base`, or adopts the one that is there, which is never created anew: it holds the
/// user's data. It is grown to `at_least` octets when it is smaller. One that was made is not on the disk until
/// [`super::sync`] has ended.
pub fn ensure_overlay(path: &Path, base: &Path, at_least: Option<u64>) -> Result<Overlay, Error> {
    let is_there = path.exists() && !is_stillborn(path).map_err(at("reading", path))?;
    if is_there { adopt(path, base, at_least) } else { make(path, base, at_least) }
}

/// Whether the file ends before its L1 table: then no cluster was ever given to the guest. So a power failure leaves it
/// between its making and the end of [`super::sync`]; a guest's first flush would have brought all of it to the disk.
fn is_stillborn(path: &Path) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = Vec::new();
    Read::by_ref(&mut file).take(72).read_to_end(&mut header)?;
    // docs/interop/qcow2.rst: l1_table_offset is at octet 40, nb_snapshots at 60.
    let [b'Q', b'F', b'I', 0xfb, ..] = *header else { return Ok(header.is_empty()) };
    let (Some(table), Some(snapshots)) = (header.get(40..48), header.get(60..64)) else { return Ok(true) };
    let table = table.try_into().map_or(0, u64::from_be_bytes);
    Ok(table >= length && snapshots == [0; 4])
}

fn make(path: &Path, base: &Path, at_least: Option<u64>) -> Result<Overlay, Error> {
    let (base_format, base_bytes) = inspect(base)?;
    let size_bytes = base_bytes.max(at_least.unwrap_or(0)).next_multiple_of(512);
    let name = base.to_str().ok_or_else(|| Error::Overlay {
        path: path.to_owned(),
        why: format!("the base's path {} is not UTF-8", base.display()),
    })?;
    let beside = beside(path, "new");
    let write = || -> io::Result<()> {
        let file = create(&beside, 0o600)?;
        let storage = Storage::try_from(file.try_clone()?)?;
        Qcow2::<Storage>::create_builder(storage)
            .size(size_bytes)
            .backing(name.to_owned(), base_format.as_str().to_owned())
            .create()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&beside);
        match at("creating", path)(source) {
            Error::File { path, source, .. } => Error::Create { path, source },
            full => full,
        }
    })?;
    Ok(Overlay { base: base.to_owned(), base_format, size_bytes, created: true })
}

fn adopt(path: &Path, wanted: &Path, at_least: Option<u64>) -> Result<Overlay, Error> {
    let overlay = |why: String| Error::Overlay { path: path.to_owned(), why };
    let image = open_qcow2(path)?;
    let recorded = image.implicit_backing_file().ok_or_else(|| {
        overlay(
            "is a whole image, not an overlay: move it and name it with IMG_TARGET, or set BERTH_NAME".into(),
        )
    })?;
    if image.requires_external_data_file() {
        return Err(overlay("keeps its data in another file: refused".into()));
    }
    let base = path.parent().unwrap_or(Path::new("/")).join(recorded);
    if !base.exists() {
        let why = format!(
            "was made on {}, which is gone; {} is another image and would corrupt it: bring the base back",
            base.display(),
            wanted.display()
        );
        return Err(overlay(why));
    }
    let (base_format, _) = inspect(&base)?;
    let mut size_bytes = image.size();
    drop(image);
    if let Some(wanted) = at_least.filter(|&wanted| wanted > size_bytes) {
        size_bytes = wanted.next_multiple_of(512);
        grow(path, size_bytes).map_err(at("growing", path))?;
    }
    Ok(Overlay { base, base_format, size_bytes, created: false })
}

/// Only the overlay itself is opened: what lies beyond the base reads as zeros.
fn grow(path: &Path, size_bytes: u64) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let image = Qcow2::<Storage>::builder(Storage::try_from(file)?)
        .write(true)
        .backing(None)
        .open(DenyImplicitOpenGate::default())?;
    let image = FormatAccess::new(image);
    image.resize_grow(size_bytes, PreallocateMode::None)?;
    image.flush()
}
