//! What there is to boot from and to attach, and the files of the config drive.
//!
//! A disk is a regular file or a block device. What is named to be one and is none is an error; what a search of the
//! volumes meets is passed over with a word, but for an empty directory, which is Docker's for a missing source.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::Error;
use super::files::{DIRECTORY, look, named, no_file, read, words};
use crate::config::{Config, Source};
use crate::facts::{DiskFile, Disks, dictionary_order};
use crate::sys::beneath::{Beneath, leads_out};

/// How deep `/volumes` is searched, how many disks a guest can have, and how many things passed over are told.
const DEEPEST: usize = 16;
pub(super) const MAX_DISKS: usize = 64;
const MAX_SKIPPED: usize = 16;

pub(super) fn disks(config: &Config) -> Result<Disks, Error> {
    let paths = &config.paths;
    let files = Beneath::new(paths.untrusted());
    let (extra, skipped) = extra(&paths.volumes_dir, &paths.device_dir, &files)?;
    // Looked at now: later they would cost VNC its password, or a download its start.
    let password = config.machine.vnc_password_file.as_deref().filter(|_| config.machine.vnc);
    for file in [password, paths.ca_file.as_deref()].into_iter().flatten() {
        named(file)?;
    }
    let optional = |path: &Option<PathBuf>| path.as_deref().map_or(Ok(None), named);
    let root_device =
        root(&paths.device_dir.join("root"), config.machine.raw_blk_opts.is_some(), &files)?;
    let target = config.image.target.as_deref().map_or(Ok(None), target)?;
    let source = match &config.image.source {
        Some(Source::Path(path)) => Some(path),
        _ => None,
    };
    let all = extra.iter().chain(&root_device).map(|disk| &disk.path).chain(&target).chain(source);
    let block_devices = all.filter(|path| is_block_device(path)).cloned().collect();
    Ok(Disks {
        root_device,
        image_dir_exists: paths.image_dir.is_dir(),
        target,
        overlays: overlays(&paths.image_dir),
        extra,
        skipped,
        block_devices,
        userdata: read(&paths.userdata)?,
        vendordata: optional(&paths.vendordata)?,
        networkdata: optional(&paths.networkdata)?,
    })
}

/// `IMG_TARGET`, when it is the path of an image. A word without `/` at its start may mean a name in the image
/// directory as well, so what else stands under `/` says nothing about it.
fn target(word: &str) -> Result<Option<PathBuf>, Error> {
    let path = Path::new("/").join(word);
    let found = match look(&path) {
        Ok(Some(metadata)) => no_disk(&metadata)
            .map_or(Ok(true), |what| Err(Error::NotAFile { path: path.clone(), what })),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => Ok(found.then_some(path)),
        Err(error) if word.starts_with('/') => Err(error),
        Err(_) => Ok(None),
    }
}

/// One that cannot be written boots nothing, unless the user's own options know better.
fn root(path: &Path, own_options: bool, files: &Beneath) -> Result<Option<DiskFile>, Error> {
    let Some(metadata) = look(path)? else { return Ok(None) };
    let disk = disk(path, &metadata, files)?;
    match disk.read_only {
        Some(why) if !own_options => Err(Error::ReadOnlyRoot { path: disk.path, why }),
        _ => Ok(Some(disk)),
    }
}

/// Images anywhere below the volumes, then devices; what is found by two ways counts once.
fn extra(
    volumes: &Path,
    devices: &Path,
    files: &Beneath,
) -> Result<(Vec<DiskFile>, Vec<String>), Error> {
    let mut search = Search { files, found: Vec::new(), skipped: Vec::new() };
    search.below(volumes, 0)?;
    search
        .found
        .sort_by(|a, b| dictionary_order(a.0.as_os_str().as_bytes(), b.0.as_os_str().as_bytes()));
    let mut named = Vec::new();
    for entry in
        entries(devices)?.iter().filter(|entry| entry.file_name().as_bytes().starts_with(b"disk"))
    {
        let path = entry.path();
        if let Some(metadata) = look(&path)? {
            named.push((path, metadata));
        }
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let Search { mut found, mut skipped, .. } = search;
    found.append(&mut named);
    if found.len() > MAX_DISKS {
        return Err(Error::TooManyDisks {
            volumes: volumes.to_owned(),
            devices: devices.to_owned(),
        });
    }
    let mut seen: BTreeMap<(u64, u64, u64), PathBuf> = BTreeMap::new();
    let mut extra = Vec::new();
    for (path, metadata) in found {
        let first = seen.entry(identity(&metadata)).or_insert_with(|| path.clone());
        if *first == path {
            extra.push(disk(&path, &metadata, files)?);
        } else {
            skipped.push(format!(
                "{} is {}, which is attached already",
                path.display(),
                first.display()
            ));
        }
    }
    skipped.truncate(MAX_SKIPPED);
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

fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// What is there in place of a disk; None for a regular file or a block device.
fn no_disk(metadata: &Metadata) -> Option<&'static str> {
    if metadata.file_type().is_block_device() { None } else { no_file(metadata) }
}

/// Opens it for reading, which is the least a disk must allow, and asks whether it may be written.
fn disk(path: &Path, metadata: &Metadata, files: &Beneath) -> Result<DiskFile, Error> {
    if let Some(what) = no_disk(metadata) {
        return Err(Error::NotAFile { path: path.to_owned(), what });
    }
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let size_bytes =
        files.read(path).and_then(|mut file| file.seek(SeekFrom::End(0))).map_err(failed)?;
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
struct Search<'a> {
    files: &'a Beneath,
    found: Vec<(PathBuf, Metadata)>,
    skipped: Vec<String>,
}

impl Search<'_> {
    fn below(&mut self, dir: &Path, depth: usize) -> Result<(), Error> {
        for entry in entries(dir)? {
            let (name, path) = (entry.file_name(), entry.path());
            let is_image = name.as_bytes().ends_with(b".img");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.directory(&path, is_image, depth)?;
            } else if is_image && self.found.len() <= MAX_DISKS {
                match look(&path) {
                    Ok(Some(metadata)) => {
                        match no_disk(&metadata).map(str::to_owned).or_else(|| self.led_out(&path))
                        {
                            None => self.found.push((path, metadata)),
                            Some(what) => self.skip(format!("{} is {what}", path.display())),
                        }
                    }
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

    /// Why a link is not followed.
    fn led_out(&self, path: &Path) -> Option<String> {
        self.files.read(path).err().filter(leads_out).map(|error| error.to_string())
    }

    fn skip(&mut self, why: String) {
        if self.skipped.len() < MAX_SKIPPED {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::files::{LARGEST_BYTES, text};
    use super::*;
    use crate::config::{Ambient, Options};

    /// A directory with the pod's places in it, and what of it is seen.
    struct Pod(tempfile::TempDir);

    impl Pod {
        fn new() -> Self {
            let pod = Self(tempfile::tempdir().unwrap());
            for dir in ["image", "volumes", "dev"] {
                fs::create_dir(pod.at(dir)).unwrap();
            }
            pod
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn file(&self, path: &str, content: &str) {
            fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            fs::write(self.at(path), content).unwrap();
        }

        fn dir(&self, path: &str) {
            fs::create_dir_all(self.at(path)).unwrap();
        }

        fn disks_with(&self, set: impl FnOnce(&mut Options)) -> Result<Disks, String> {
            let at = |path: &str| Some(self.at(path));
            let mut options = Options {
                image_dir: at("image"),
                volumes_dir: at("volumes"),
                device_dir: at("dev"),
                metadata: at("metadata"),
                userdata: at("userdata"),
                ..Options::default()
            };
            set(&mut options);
            let config = options.parse(&Ambient::default()).unwrap();
            read(&config.paths.metadata).and_then(|_| disks(&config)).map_err(|error| words(&error))
        }

        fn disks(&self) -> Result<Disks, String> {
            self.disks_with(|_| {})
        }
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    }

    /// What Docker, Kubernetes and a shell put where a file is meant.
    fn spoil(path: &Path, how: &str) -> &'static str {
        match how {
            "directory" => {
                fs::create_dir(path).unwrap();
                "is a directory where a file is meant"
            }
            "link" => {
                symlink("..data/gone", path).unwrap();
                "is a link that leads nowhere"
            }
            "circle" => {
                symlink(path, path).unwrap();
                "cannot be read: Too many levels"
            }
            "fifo" => {
                fifo(path);
                "is a FIFO"
            }
            "socket" => {
                drop(std::os::unix::net::UnixListener::bind(path).unwrap());
                "is a socket"
            }
            "zero" => {
                symlink("/dev/zero", path).unwrap();
                "is a device"
            }
            _ => {
                fs::File::create(path).unwrap().set_len(LARGEST_BYTES + 1).unwrap();
                "larger than 16 MiB"
            }
        }
    }

    /// A path variable, and how it is set.
    type Variable = (&'static str, fn(&mut Options, PathBuf));

    const VARIABLES: [Variable; 6] = [
        ("metadata", |o, path| o.metadata = Some(path)),
        ("userdata", |o, path| o.userdata = Some(path)),
        ("vendordata", |o, path| o.vendordata = Some(path)),
        ("networkdata", |o, path| o.networkdata = Some(path)),
        ("vnc", |o, path| o.vnc_password_file = Some(path)),
        ("ca", |o, path| o.ca_file = Some(path)),
    ];

    #[test]
    fn what_is_no_file_is_named_whichever_variable_names_it() {
        for (name, set) in VARIABLES {
            for how in ["directory", "link", "circle", "fifo", "socket", "zero", "large"] {
                let pod = Pod::new();
                let path = pod.at(name);
                let said = spoil(&path, how);
                let error = pod.disks_with(|options| set(options, path.clone())).unwrap_err();
                assert!(
                    error.contains(said) && error.contains(&path.display().to_string()),
                    "{name}: {error}"
                );
            }
        }
        for how in ["directory", "link", "fifo"] {
            let pod = Pod::new();
            let said = spoil(&pod.at("file"), how);
            assert!(
                super::super::resolver(&pod.at("file")).unwrap_err().to_string().contains(said)
            );
            assert!(text(&pod.at("file")).unwrap_err().to_string().contains(said));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_only_where_somebody_named_it() {
        let pod = Pod::new();
        for (name, set) in VARIABLES {
            let seen = pod.disks_with(|options| set(options, pod.at(name)));
            assert_eq!(seen.is_ok(), ["metadata", "userdata"].contains(&name), "{name}: {seen:?}");
            assert!(pod.disks_with(|options| set(options, "/dev/null".into())).is_ok(), "{name}");
        }
    }

    #[test]
    fn links_of_a_config_map_are_followed() {
        let pod = Pod::new();
        pod.file("..2026_01/userdata", "#!");
        symlink("..2026_01", pod.at("..data")).unwrap();
        symlink("..data/userdata", pod.at("userdata")).unwrap();
        assert_eq!(pod.disks().unwrap().userdata.as_deref(), Some(&b"#!"[..]));
    }

    #[test]
    fn a_directory_in_place_of_a_disk_is_an_error() {
        for path in ["volumes/a.img", "volumes/b/a.img", "dev/disk1", "dev/root"] {
            let pod = Pod::new();
            pod.dir(path);
            let error = pod.disks().unwrap_err();
            assert!(error.contains(path) && error.contains("Docker makes one"), "{path}: {error}");
        }
        for how in ["link", "fifo", "zero"] {
            for path in ["dev/disk1", "dev/root"] {
                let pod = Pod::new();
                let said = spoil(&pod.at(path), how);
                let error = pod.disks().unwrap_err();
                assert!(error.contains(path) && error.contains(said), "{path}: {error}");
            }
        }
        let pod = Pod::new();
        for place in ["volumes", "dev"] {
            fs::remove_dir(pod.at(place)).unwrap();
            assert!(pod.disks().is_ok());
            pod.file(place, "");
            let error = pod.disks().unwrap_err();
            assert!(error.contains(place) && error.contains("Not a directory"), "{error}");
            fs::remove_file(pod.at(place)).unwrap();
        }
    }

    #[test]
    fn a_target_that_is_no_image_is_an_error_when_its_path_is_whole() {
        let pod = Pod::new();
        let target = |word: String| pod.disks_with(|options| options.image_target = Some(word));
        let word = |path: &str| pod.at(path).display().to_string();
        assert!(target(word("image")).unwrap_err().contains("is a directory"));
        assert_eq!(target(word("image").trim_start_matches('/').to_owned()).unwrap().target, None);
        assert_eq!(target(word("image/a.qcow2")).unwrap().target, None);
        pod.file("image/a.qcow2", "x");
        assert_eq!(target(word("image/a.qcow2")).unwrap().target, Some(pod.at("image/a.qcow2")));
        assert_eq!(
            target(word("image/a.qcow2/b")).unwrap_err().matches("Not a directory").count(),
            1
        );
    }

    /// A volume of Kubernetes has more in it than disks.
    #[test]
    fn what_only_looks_like_a_disk_is_passed_over_with_a_word() {
        let pod = Pod::new();
        pod.file("volumes/a.img", "a");
        pod.file("volumes/dir.img/b.img", "b");
        pod.file("volumes/lost+found/c.img", "c");
        pod.file("volumes/cm/..2026/d.img", "d");
        symlink("..2026/d.img", pod.at("volumes/cm/d.img")).unwrap();
        fs::hard_link(pod.at("volumes/a.img"), pod.at("dev/disk1")).unwrap();
        spoil(&pod.at("volumes/gone.img"), "link");
        spoil(&pod.at("volumes/pipe.img"), "fifo");
        let disks = pod.disks().unwrap();
        let found: Vec<&Path> = disks.extra.iter().map(|disk| disk.path.as_path()).collect();
        assert_eq!(
            found,
            [pod.at("volumes/a.img"), pod.at("volumes/cm/d.img"), pod.at("volumes/dir.img/b.img")]
        );
        let told = disks.skipped.join("\n");
        for word in
            ["gone.img is a link", "pipe.img is a FIFO", "dev/disk1 is ", "attached already"]
        {
            assert!(told.contains(word), "{word} in {told}");
        }
        assert_eq!(disks.skipped.len(), 3, "{told}");
    }

    #[test]
    fn sizes_and_rights_are_seen() {
        let pod = Pod::new();
        pod.file("volumes/a.img", &"x".repeat(700));
        pod.file("dev/root", "x");
        let disks = pod.disks().unwrap();
        assert_eq!((disks.extra[0].size_bytes, &disks.extra[0].read_only), (700, &None));
        assert_eq!(disks.root_device.unwrap().path, pod.at("dev/root"));
    }
}
