//! The VM's own disk: a qcow2 overlay, created once on its base, with a note of which image that was, and kept for ever.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use imago::FormatCreateBuilder;
use imago::file::File as Storage;
use imago::qcow2::Qcow2;

use super::format::{Access, Keys, refused, whole};
use super::identity::{Identity, Note};
use super::owner::SHARED;
use super::qcow2::{Fault, Header, MAGIC, ReadAt, check_l1};
use super::stillborn::{is_stillborn, put_aside};
use super::{Error, Format, at, beside, create, partitions};

/// Both places of a GPT's first header.
const HEAD_OF_DISK: u64 = 8 << 10;

/// A disk that can be given to QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The base it stands on; another one than asked for when the overlay was made on that.
    pub base: PathBuf,
    pub base_format: Format,
    /// What the guest sees, in octets.
    pub size_bytes: u64,
    pub created: bool,
    /// Worth a line in the log.
    pub notes: Vec<String>,
}

/// Makes the overlay on `base`, or adopts the one that is there, which is never created anew: it holds the
/// user's data. It is grown to `at_least` octets when it is smaller. One that was made is not on the disk until
/// [`super::sync`] has ended.
pub fn ensure_overlay(path: &Path, base: &Path, at_least: Option<u64>) -> Result<Overlay, Error> {
    ensure_overlay_for(path, base, at_least, Access::ALL)
}

/// [`ensure_overlay`], for QEMU options that may have a key to the base, and in directories that are not trusted.
pub fn ensure_overlay_for(
    path: &Path,
    base: &Path,
    at_least: Option<u64>,
    access: Access<'_>,
) -> Result<Overlay, Error> {
    if is_there(path, access)? {
        return adopt(path, base, at_least, access);
    }
    make(path, base, at_least, access)
}

/// Whether the disk at `path`, when there is one and it stands on `base`, was made on an image of this identity.
pub(super) fn wants(
    path: &Path,
    base: &Path,
    found: &Identity,
    access: Access<'_>,
) -> Result<(), Error> {
    if !is_there(path, access)? {
        return Ok(());
    }
    let file = access.files.read(path).map_err(at("opening", path))?;
    let (header, recorded) = header_of(&file, path)?;
    if beside_it(path, &recorded) == base {
        was_made_on(&file, &header, path, base, found)?;
    }
    Ok(())
}

fn is_there(path: &Path, access: Access<'_>) -> Result<bool, Error> {
    Ok(path.exists() && !is_stillborn(path, access.files).map_err(at("reading", path))?)
}

fn make(
    path: &Path,
    base: &Path,
    at_least: Option<u64>,
    access: Access<'_>,
) -> Result<Overlay, Error> {
    let files = access.files;
    let shown = base.display().to_string();
    let look = whole(base, &shown, access)?;
    let identity = Identity::of_file(base, access)?;
    let base_format = look.format;
    let size_bytes = look.size.max(at_least.unwrap_or(0)).next_multiple_of(512);
    let name = base.to_str().ok_or_else(|| Error::Overlay {
        path: path.to_owned(),
        why: format!("the base's path {shown} is not UTF-8"),
    })?;
    let note = Note { identity, base: name.to_owned() };
    let beside = beside(path, "new");
    let file = create(&beside, SHARED, files).map_err(at("creating", &beside))?;
    let write = || -> io::Result<Option<PathBuf>> {
        file.set_permissions(Permissions::from_mode(SHARED))?;
        let storage = Storage::try_from(file.try_clone()?)?;
        Qcow2::<Storage>::create_builder(storage)
            .size(size_bytes)
            .backing(name.to_owned(), base_format.as_str().to_owned())
            .create()?;
        let header = Header::read(&file).map_err(io::Error::other)?;
        note.write(&file, &header, false)?;
        let aside = put_aside(path, files)?;
        files.rename(&beside, path)?;
        Ok(aside)
    };
    let aside = write().map_err(|source| {
        let _ = files.remove(&beside);
        match at("creating", path)(source) {
            Error::File { path, source, .. } => Error::Create { path, source },
            other => other,
        }
    })?;
    let aside = aside.map(|aside| {
        format!(
            "{} ended within the tables of a new disk, as a power failure leaves one that no guest used: made anew; the old \
             file is {} now",
            path.display(),
            aside.display()
        )
    });
    let notes = look
        .notes
        .into_iter()
        .chain(partition_notes(base, &shown, base_format, access))
        .chain(aside)
        .collect();
    Ok(Overlay { base: base.to_owned(), base_format, size_bytes, created: true, notes })
}

/// Of a qcow2 image, whose head is not its file's.
fn partition_notes(base: &Path, name: &str, format: Format, access: Access<'_>) -> Vec<String> {
    let read = || -> Result<Vec<String>, Fault> {
        let file = access.files.read(base)?;
        let header = Header::read(&file)?;
        let head = header.head_of_disk(&file, HEAD_OF_DISK)?;
        Ok(partitions::notes(&head, header.size, name))
    };
    match format {
        Format::Raw => Vec::new(),
        // Clusters that only QEMU reads: nothing to say of them.
        Format::Qcow2 => read().unwrap_or_default(),
    }
}

fn adopt(
    path: &Path,
    wanted: &Path,
    at_least: Option<u64>,
    access: Access<'_>,
) -> Result<Overlay, Error> {
    let file = access.files.read(path).map_err(at("opening", path))?;
    let (header, recorded) = header_of(&file, path)?;
    let recorded_base = beside_it(path, &recorded);
    let mut notes = Vec::new();
    let (base, identity) = if may_be_opened(path, &recorded_base, wanted) && recorded_base.exists()
    {
        let identity = Identity::of_file(&recorded_base, access)?;
        if !was_made_on(&file, &header, path, &recorded_base, &identity)? {
            let note = Note { identity: identity.clone(), base: recorded };
            notes.push(first_note(path, &recorded_base, &note, &header, access));
        }
        (recorded_base, identity)
    } else {
        let identity = same_elsewhere(&file, &header, path, &recorded_base, wanted, access)?;
        let (format, shown) = (identity.format.as_str(), wanted.display());
        notes.push(format!(
            "{0} is {1}, and {shown} is the same image: the disk stands on that now; qemu-img rebase -u -F {format} -b \
             {shown} {2} writes it down",
            recorded_base.display(),
            why_not(path, &recorded_base),
            path.display()
        ));
        (wanted.to_owned(), identity)
    };
    let mut size_bytes = header.size;
    if let Some(wanted) = at_least.filter(|&wanted| wanted > size_bytes) {
        size_bytes = wanted.next_multiple_of(512);
        grow(path, &header, size_bytes, access)?;
    }
    Ok(Overlay { base, base_format: identity.format, size_bytes, created: false, notes })
}

/// The overlay's header, and the base's name in it.
fn header_of(file: &File, path: &Path) -> Result<(Header, String), Error> {
    let overlay = |why: String| Error::Overlay { path: path.to_owned(), why };
    let fault = |fault| match fault {
        Fault::Io(error) => at("reading", path)(error),
        Fault::Bad(what) => {
            overlay(format!("is {what}: bring a copy back, or move it away to start over"))
        }
    };
    let mut magic = [0; 4];
    if file.fill(&mut magic, 0).is_err() || magic != MAGIC {
        return Err(overlay(
            "is no qcow2 image: move it away to start over, or set BERTH_NAME".into(),
        ));
    }
    let header = Header::read(file).map_err(fault)?;
    check_l1(file, &header).map_err(fault)?;
    if header.has_data_file() {
        return Err(overlay("keeps its data in another file: refused".into()));
    }
    match &header.backing {
        Some((_, name)) => Ok((header.clone(), name.clone())),
        None => Err(overlay(
            "is a whole image, not an overlay: move it and name it with IMG_TARGET, or set BERTH_NAME".into(),
        )),
    }
}

/// What a relative name in the header means.
fn beside_it(path: &Path, recorded: &str) -> PathBuf {
    dir_of(path).join(recorded)
}

/// What a disk's header names is not trusted either: it may be any file that we can open. Only what is beside the disk
/// and what the operator names is.
fn may_be_opened(path: &Path, recorded: &Path, wanted: &Path) -> bool {
    recorded == wanted || is_below(recorded, dir_of(path))
}

fn is_below(path: &Path, dir: &Path) -> bool {
    path.strip_prefix(dir)
        .is_ok_and(|rest| rest.components().all(|part| part != Component::ParentDir))
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Why a recorded base is not opened.
fn why_not(path: &Path, recorded: &Path) -> String {
    let dir = dir_of(path);
    if is_below(recorded, dir) || !recorded.exists() {
        return "gone".to_owned();
    }
    format!(
        "not in {} and not the image that is configured (IMG_TARGET names it, if it is right)",
        dir.display()
    )
}

/// Whether the disk has a note of the base that is there. Of another one it is an error: the disk's data are
/// differences, and on another base they are garbage.
fn was_made_on(
    file: &File,
    header: &Header,
    path: &Path,
    base: &Path,
    found: &Identity,
) -> Result<bool, Error> {
    let shown = path.display().to_string();
    let recorded = header.backing.as_ref().map(|(_, name)| name.as_str());
    let note = Note::read(file, header).map_err(refused(path, &shown))?;
    // With another name in the header than in the note somebody moved the disk to another base on purpose.
    match note.filter(|note| recorded == Some(&note.base)) {
        Some(note) if note.identity == *found => Ok(true),
        Some(note) => Err(other_base(path, base, &note.identity.to_string(), found)),
        None => fits(file, header, path, base, found).map(|()| false),
    }
}

/// The identity of `wanted`, when it is the image that the disk was made on and that is gone from its place: moved
/// with its directory, or renamed. QEMU is told the base's path; what the header says is never opened.
fn same_elsewhere(
    file: &File,
    header: &Header,
    path: &Path,
    gone: &Path,
    wanted: &Path,
    access: Access<'_>,
) -> Result<Identity, Error> {
    let error = |why: String| {
        let why =
            format!("was made on {}, which is {}; {why}", gone.display(), why_not(path, gone));
        Error::Overlay { path: path.to_owned(), why }
    };
    let (disk, shown) = (path.display(), wanted.display());
    if !wanted.exists() {
        return Err(error(format!("{shown} is not there either: bring the base back")));
    }
    let found = Identity::of_file(wanted, access)?;
    let recorded = header.backing.as_ref().map(|(_, name)| name.as_str());
    let note = Note::read(file, header).map_err(refused(path, &disk.to_string()))?;
    match note.filter(|note| recorded == Some(&note.base)) {
        Some(note) if note.identity == found => Ok(found),
        Some(note) => Err(error(format!(
            "that was {}; {shown} is {found} and would corrupt it: bring the base back",
            note.identity
        ))),
        None => Err(error(format!(
            "the disk has no note whether {shown} is the same image: bring the base back, or, where it is the same, \
             qemu-img rebase -u -F {} -b {shown} {disk}",
            found.format.as_str()
        ))),
    }
}

fn other_base(disk: &Path, base: &Path, made_on: &str, found: &Identity) -> Error {
    let why = format!(
        "was made on {made_on}; {} is {found} and would corrupt it: bring the first one back, set BERTH_NAME for a new \
         disk beside this one, or move this one away to begin anew",
        base.display()
    );
    Error::Overlay { path: disk.to_owned(), why }
}

/// An overlay without a note, of an earlier version or of somebody else: what its header says of the base has to be
/// true at least.
fn fits(
    file: &File,
    header: &Header,
    path: &Path,
    base: &Path,
    found: &Identity,
) -> Result<(), Error> {
    let format = header.backing_format(file).map_err(refused(path, &path.display().to_string()))?;
    let told = format.unwrap_or_else(|| found.format.as_str().to_owned());
    if told == found.format.as_str() && found.size <= header.size {
        return Ok(());
    }
    let made_on = format!("a {told} image of at most {} octets for the guest", header.size);
    Err(other_base(path, base, &made_on, found))
}

/// Notes the base of a disk that has no note; says what came of it. A base that is not whole is no reason to keep a
/// guest from a disk it had until now.
fn first_note(
    path: &Path,
    base: &Path,
    note: &Note,
    header: &Header,
    access: Access<'_>,
) -> String {
    if let Err(error) =
        whole(base, &base.display().to_string(), Access { keys: Keys::Users, ..access })
    {
        return format!(
            "the base of {} is not as it should be, the guest may read zeros: {error}",
            path.display()
        );
    }
    let write = || access.files.write(path).and_then(|file| note.write(&file, header, true));
    match write() {
        Ok(()) => {
            format!(
                "{} had no note of its base: from now on it wants {}",
                path.display(),
                note.identity
            )
        }
        Err(error) => format!(
            "{} has no note of its base, so that another one under its name goes unnoticed: {error}",
            path.display()
        ),
    }
}

/// Only the overlay itself is opened: what lies beyond the base reads as zeros.
fn grow(path: &Path, header: &Header, size_bytes: u64, access: Access<'_>) -> Result<(), Error> {
    let file = access.files.write(path).map_err(at("opening", path))?;
    header.grow(&file, size_bytes).map_err(|fault| match fault {
        Fault::Io(error) => at("growing", path)(error),
        Fault::Bad(what) => {
            let why = format!(
                "is {what} and cannot grow: bring a copy back, or take BERTH_DISK_SIZE away"
            );
            Error::Overlay { path: path.to_owned(), why }
        }
    })
}
