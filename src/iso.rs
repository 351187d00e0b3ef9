//! ISO 9660 images with Rock Ridge and Joliet, from files to bytes: enough for a config drive.
//!
//! ECMA-119 (level 2 names), IEEE P1281/P1282 (SUSP, RRIP 1.09: SP CE ER PX TF NM), Joliet level 3. Every
//! date is the same fixed one, so that the same input gives the same bytes. No El Torito, no symbolic links,
//! no multi-session, no files of 4 GiB.

mod record;
mod tree;

use serde::Serialize;

use record::{
    Names, descriptor, directory, directory_bytes, extension_record, path_table, path_table_bytes,
};
use tree::Tree;

/// What goes into an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Volume identifier, as `blkid` shows it: `config-2`, `cidata`. At most 16 characters.
    pub label: String,
    pub files: Vec<File>,
}

/// A file of the volume: its path, `/` between names, and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Relative, `/` between components; each component at most 64 characters and 100 octets.
    pub path: String,
    #[serde(skip)]
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// What cannot be put on such an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("label {0:?} is not 1 to 16 printable ASCII characters")]
    Label(String),
    #[error(
        "path {0:?} has a component that is empty, '.', '..', too long, or not in the Basic Multilingual Plane"
    )]
    Path(String),
    #[error("path {0:?} is there twice, or is both a file and a directory")]
    Twice(String),
    #[error("more than {MAX_FILES} files or {} MiB: too much for one image", LARGEST_BYTES >> 20)]
    TooLarge,
}

const SECTOR: usize = 2048;
const MAX_FILES: usize = 1000;
const LARGEST_BYTES: usize = 256 << 20;
/// Sixteen sectors the standard leaves alone, then the descriptors: primary, Joliet, terminator.
const FIRST_FREE: usize = 19;

/// Where everything is, in sectors.
struct Layout {
    /// L and M path tables of the ISO names, then of the Joliet names.
    tables: [usize; 4],
    /// Extents of the directories, in the tree's order, for each kind of names.
    iso: Vec<Extent>,
    joliet: Vec<Extent>,
    /// The SUSP extension record. After the root directory: readers refuse it before.
    extension: usize,
    files: Vec<Extent>,
    end: usize,
}

/// Where something begins (sector) and how long it is (octets).
#[derive(Clone, Copy)]
struct Extent {
    sector: u32,
    bytes: u32,
}

impl Volume {
    /// The image.
    pub fn image(&self) -> Result<Vec<u8>, Error> {
        let printable = self.label.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if self.label.is_empty() || self.label.len() > 16 || !printable {
            return Err(Error::Label(self.label.clone()));
        }
        let total: usize = self.files.iter().map(|file| file.content.len()).sum();
        if self.files.len() > MAX_FILES || total > LARGEST_BYTES {
            return Err(Error::TooLarge);
        }
        let tree = Tree::new(&self.files)?;
        let layout = Layout::new(&tree, &self.files);
        let mut image = Image(vec![0; layout.end * SECTOR]);
        self.descriptors(&mut image, &tree, &layout);
        for (names, extents) in [(Names::Iso, &layout.iso), (Names::Joliet, &layout.joliet)] {
            for (number, extent) in extents.iter().enumerate() {
                let bytes =
                    directory(&tree, number, names, extents, &layout.files, layout.extension);
                image.put(extent.sector as usize, &bytes);
            }
        }
        image.put(layout.extension, &extension_record());
        for (file, extent) in self.files.iter().zip(&layout.files) {
            image.put(extent.sector as usize, &file.content);
        }
        Ok(image.0)
    }

    fn descriptors(&self, image: &mut Image, tree: &Tree, layout: &Layout) {
        let [iso_l, iso_m, joliet_l, joliet_m] = layout.tables;
        for (sector, names, extents, little, big) in [
            (16, Names::Iso, &layout.iso, iso_l, iso_m),
            (17, Names::Joliet, &layout.joliet, joliet_l, joliet_m),
        ] {
            let size = path_table_bytes(tree, names);
            image.put(
                sector,
                &descriptor(names, &self.label, layout.end, size, [little, big], extents),
            );
            image
                .put(little, &path_table(tree, names, extents, u32::to_le_bytes, u16::to_le_bytes));
            image.put(big, &path_table(tree, names, extents, u32::to_be_bytes, u16::to_be_bytes));
        }
        image.put(18, b"\xffCD001\x01");
    }
}

/// The bytes, filled in by sector. `Layout` made room for each part.
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector * SECTOR;
        if let Some(place) = self.0.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

impl Layout {
    fn new(tree: &Tree, files: &[File]) -> Self {
        let mut next = FIRST_FREE;
        let mut take = |bytes: usize| {
            let sector = next;
            next += bytes.div_ceil(SECTOR).max(1);
            sector
        };
        let iso_table = path_table_bytes(tree, Names::Iso);
        let joliet_table = path_table_bytes(tree, Names::Joliet);
        let tables = [take(iso_table), take(iso_table), take(joliet_table), take(joliet_table)];
        let mut extent =
            |bytes: usize| Extent { sector: number(take(bytes)), bytes: number(bytes) };
        let mut directories = |names| -> Vec<Extent> {
            (0..tree.directories.len())
                .map(|number| extent(directory_bytes(tree, number, names)))
                .collect()
        };
        let iso = directories(Names::Iso);
        let joliet = directories(Names::Joliet);
        let extension = take(SECTOR);
        let files = files
            .iter()
            .map(|file| Extent {
                sector: number(take(file.content.len())),
                bytes: number(file.content.len()),
            })
            .collect();
        Self { tables, iso, joliet, extension, files, end: next }
    }
}

/// Sectors and lengths are far below 2³²: `LARGEST_BYTES` and `MAX_FILES` see to it.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> File {
        File { path: path.into(), content: content.into(), mode: 0o400 }
    }

    fn volume(files: Vec<File>) -> Volume {
        Volume { label: "config-2".into(), files }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let one = volume(vec![file("openstack/latest/user_data", b"#!/bin/sh\n"), file("a", b"")]);
        let image = one.image().unwrap();
        assert_eq!(image, one.clone().image().unwrap());
        assert_eq!(image.len() % SECTOR, 0);
        assert!(image.len() < 100 << 10, "{} octets", image.len());
    }

    #[test]
    fn the_label_stands_in_the_primary_descriptor_as_it_is() {
        let image = volume(vec![]).image().unwrap();
        assert_eq!(&image[16 * SECTOR..16 * SECTOR + 6], b"\x01CD001");
        assert_eq!(&image[16 * SECTOR + 40..16 * SECTOR + 49], b"config-2 ");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for path in [
            "",
            "/a",
            "a//b",
            "a/../b",
            ".",
            "a/",
            &"n".repeat(101),
            &"é".repeat(65),
            "\u{1f600}",
            "nul\0",
        ] {
            assert_eq!(
                volume(vec![file(path, b"")]).image(),
                Err(Error::Path(path.into())),
                "{path:?}"
            );
        }
        for twice in [
            vec![file("a", b""), file("a", b"")],
            vec![file("a/b", b""), file("a", b"")],
            vec![file("a", b""), file("a/b", b"")],
        ] {
            assert!(matches!(volume(twice).image(), Err(Error::Twice(_))));
        }
        for label in ["", "a label of seventeen", "tab\t", "é"] {
            let volume = Volume { label: label.into(), files: vec![] };
            assert_eq!(volume.image(), Err(Error::Label(label.into())));
        }
        let many = (0..=MAX_FILES).map(|number| file(&number.to_string(), b"")).collect();
        assert_eq!(volume(many).image(), Err(Error::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn no_paths_make_it_panic(paths in proptest::collection::vec("[a-zA-Z./é]{0,40}", 0..20)) {
            let _ = volume(paths.iter().map(|path| file(path, path.as_bytes())).collect()).image();
        }
    }
}
