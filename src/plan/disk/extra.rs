//! The extra disks, each with a serial of its own: letters move when a disk comes or goes, `/dev/disk/by-id` does not.
//!
//! A serial depends on the disk's own path: the part below the volumes without `.img` (`/volumes/data.img` is `data`,
//! `/volumes/db/disk.img` is `db-disk`), or the name in the device directory (`disk1`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Error;
use crate::config::Paths;
use crate::facts::DiskFile;

/// What virtio-blk has room for (VIRTIO_BLK_ID_BYTES, linux/virtio_blk.h).
const LONGEST: usize = 20;
/// Serials of the VM's own disk and of the config drive.
pub(crate) const ROOT: &str = "root";
pub(crate) const SEED: &str = "seed";
const SECTOR: u64 = 512;

/// A disk of a volume, beside the root disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtraDisk {
    pub path: PathBuf,
    /// The guest's udev makes `/dev/disk/by-id/virtio-SERIAL` of it.
    pub serial: String,
    pub writable: bool,
}

pub(super) fn disks(
    paths: &Paths,
    found: &[DiskFile],
    notes: &mut Vec<String>,
) -> Result<Vec<ExtraDisk>, Error> {
    let mut taken = BTreeMap::new();
    found
        .iter()
        .map(|disk| {
            look_at_size(disk, notes)?;
            if let Some(why) = &disk.read_only {
                notes.push(format!(
                    "{} cannot be written ({why}): attached read-only",
                    disk.path.display()
                ));
            }
            let serial = serial(paths, &disk.path);
            if let Some(first) = taken.insert(serial.clone(), disk.path.clone()) {
                return Err(Error::SameSerial { first, second: disk.path.clone(), serial });
            }
            Ok(ExtraDisk { path: disk.path.clone(), serial, writable: disk.read_only.is_none() })
        })
        .collect()
}

pub(super) fn look_at_size(disk: &DiskFile, notes: &mut Vec<String>) -> Result<(), Error> {
    let DiskFile { path, size_bytes, .. } = disk;
    if *size_bytes == 0 {
        return Err(Error::Empty(path.clone()));
    }
    if !size_bytes.is_multiple_of(SECTOR) {
        notes.push(format!(
            "{} has {size_bytes} octets, no multiple of {SECTOR}: the guest sees its last sector filled up with zeros; \
             if that is not meant, the file was cut off",
            path.display()
        ));
    }
    Ok(())
}

/// The name itself where it fits and is nobody else's by its form, else its beginning and a hash of the whole path. It
/// depends on nothing else: what a guest has in its fstab stays the same disk, whatever others come.
fn serial(paths: &Paths, path: &Path) -> String {
    let in_volumes = path.strip_prefix(&paths.volumes_dir);
    let in_volumes = in_volumes.ok();
    let below = in_volumes.or_else(|| path.strip_prefix(&paths.device_dir).ok());
    let name = below.unwrap_or(path).to_string_lossy();
    let name = name.strip_suffix(".img").unwrap_or(&name);
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect();
    let whole = plain.replace('-', "/") == name.replace('-', "/") && plain.len() <= LONGEST;
    let of_others =
        [ROOT, SEED].contains(&&*plain) || (in_volumes.is_some() && plain.starts_with("disk"));
    if whole && !plain.is_empty() && !of_others {
        return plain;
    }
    let hash =
        Sha256::new().chain_update(name).chain_update([u8::from(in_volumes.is_some())]).finalize();
    let digits: String = hash.iter().take(4).map(|octet| format!("{octet:02x}")).collect();
    let start: String = plain.chars().take(LONGEST - 1 - digits.len()).collect();
    format!("{start}-{digits}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Ambient, Options};

    fn paths() -> Paths {
        Options::default().parse(&Ambient::default()).unwrap().paths
    }

    fn serials(found: &[&str]) -> Vec<String> {
        let disk = |path: &&str| DiskFile { path: path.into(), size_bytes: 512, read_only: None };
        let found: Vec<DiskFile> = found.iter().map(disk).collect();
        let disks = disks(&paths(), &found, &mut Vec::new()).unwrap();
        disks.into_iter().map(|disk| disk.serial).collect()
    }

    fn refused(found: &[&str]) -> bool {
        let disk = |path: &&str| DiskFile { path: path.into(), size_bytes: 512, read_only: None };
        let found: Vec<DiskFile> = found.iter().map(disk).collect();
        matches!(disks(&paths(), &found, &mut Vec::new()), Err(Error::SameSerial { .. }))
    }

    #[test]
    fn a_serial_is_the_disks_own_name() {
        let found = [
            "/volumes/d1.img",
            "/volumes/db/disk.img",
            "/volumes/a.b_c.img",
            "/dev/vm/disk1",
            "/dev/vm/disk-db",
        ];
        assert_eq!(serials(&found), ["d1", "db-disk", "a.b_c", "disk1", "disk-db"]);
    }

    /// kubevirt#9361: one more disk before the others moved all of their letters.
    #[test]
    fn a_disk_that_comes_changes_no_other_disks_serial() {
        let before =
            ["/volumes/d1.img", "/volumes/x y.img", "/volumes/a-name-longer-than-twenty.img"];
        let after: Vec<&str> =
            ["/volumes/0.img"].into_iter().chain(before).chain(["/dev/vm/disk9"]).collect();
        assert_eq!(serials(&before), serials(&after)[1..4]);
    }

    #[test]
    fn serials_that_would_be_the_same_are_not() {
        assert!(
            refused(&["/volumes/a-1.img", "/volumes/a/1.img"]),
            "neither takes the other's name"
        );
        let found = [
            "/volumes/a-1.img",
            "/volumes/disk1.img",
            "/volumes/root.img",
            "/volumes/seed.img",
            "/volumes/é.img",
            "/dev/vm/disk1",
        ];
        let serials = serials(&found);
        assert_eq!((&*serials[0], &*serials[5]), ("a-1", "disk1"));
        for (serial, start) in serials[1..5].iter().zip(["disk1-", "root-", "seed-", "--"]) {
            assert!(serial.starts_with(start) && serial.len() == start.len() + 8, "{serials:?}");
        }
        assert_eq!(serials.iter().collect::<BTreeSet<_>>().len(), 6);
    }

    #[test]
    fn sizes_and_rights_are_told() {
        let disk = |size_bytes, read_only: Option<&str>| DiskFile {
            path: "/volumes/a.img".into(),
            size_bytes,
            read_only: read_only.map(str::to_owned),
        };
        let plan = |disk| {
            let mut notes = Vec::new();
            disks(&paths(), &[disk], &mut notes).map(|disks| (disks[0].writable, notes.join("\n")))
        };
        assert_eq!(plan(disk(0, None)), Err(Error::Empty("/volumes/a.img".into())));
        assert_eq!(plan(disk(1024, None)), Ok((true, String::new())));
        let (writable, notes) = plan(disk(1000, None)).unwrap();
        assert!(writable && notes.contains("/volumes/a.img has 1000 octets"), "{notes}");
        let (writable, notes) = plan(disk(512, Some("Read-only file system"))).unwrap();
        assert!(
            !writable && notes.contains("(Read-only file system): attached read-only"),
            "{notes}"
        );
    }

    proptest::proptest! {
        #[test]
        fn every_serial_fits_is_plain_and_is_its_own(names in proptest::collection::btree_set("[a-cA./ ,é-]{1,30}", 1..20)) {
            let found: Vec<String> = names.iter().map(|name| format!("/volumes/{name}.img")).collect();
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            // Each has the serial it has alone, or the start is refused.
            proptest::prop_assume!(!refused(&found));
            let serials = serials(&found);
            for (serial, path) in serials.iter().zip(&found) {
                assert_eq!(*serial, super::serial(&paths(), Path::new(path)));
            }
            for serial in &serials {
                assert!((1..=LONGEST).contains(&serial.len()), "{serial}");
                assert!(serial.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{serial}");
            }
            assert_eq!(serials.iter().collect::<BTreeSet<_>>().len(), serials.len());
        }
    }
}
