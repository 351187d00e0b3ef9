//! What a file is, by its content: never by its name, and never left to QEMU's probing.
//!
//! qcow2: QEMU docs/interop/qcow2.rst. A raw image has no magic of its own, so it must look like a disk.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use imago::file::File as Storage;
use imago::format::drivers::FormatDriverInstance;
use imago::qcow2::Qcow2;
use serde::Serialize;

use super::{Error, at};

/// The formats we boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Qcow2,
    Raw,
}

impl Format {
    /// QEMU's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// Enough of the beginning to tell formats apart.
pub(super) const HEAD: usize = 64 << 10;

/// What the head of an image says; the error says what it is instead.
pub(super) fn classify(head: &[u8]) -> Result<Format, String> {
    let has = |at: usize, magic: &[u8]| head.get(at..at + magic.len()) == Some(magic);
    if head.is_empty() {
        return Err("empty".into());
    }
    if has(0, b"QFI\xfb") {
        return if has(4, &[0, 0, 0, 2]) || has(4, &[0, 0, 0, 3]) {
            Ok(Format::Qcow2)
        } else {
            Err("a qcow image of an unknown version".into())
        };
    }
    let others: [(usize, &[u8], &str); 7] = [
        (0, b"KDMV", "a VMDK image"),
        (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
        (0, b"vhdxfile", "a VHDX image"),
        (0, b"conectix", "a VHD image"),
        (0x40, &[0x7f, 0x10, 0xda, 0xbe], "a VDI image"),
        (0, b"QED\0", "a QED image"),
        (0, b"PK\x03\x04", "a zip archive"),
    ];
    if let Some((_, _, what)) = others.iter().find(|(at, magic, _)| has(*at, magic)) {
        return Err((*what).into());
    }
    let disks: [(usize, &[u8]); 9] = [
        (510, b"\x55\xaa"),
        (512, b"EFI PART"),
        (4096, b"EFI PART"),
        (1080, b"\x53\xef"),
        (0, b"XFSB"),
        (32_769, b"CD001"),
        (512, b"LABELONE"),
        (0, b"hsqs"),
        (0, b"LUKS\xba\xbe"),
    ];
    if disks.iter().any(|(at, magic)| has(*at, magic)) {
        return Ok(Format::Raw);
    }
    let start = head.get(..head.len().min(512)).unwrap_or(head);
    if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        let text: String = String::from_utf8_lossy(start).split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: String = text.chars().take(60).collect();
        return Err(format!("text beginning {shown:?}"));
    }
    Err("neither qcow2 nor a disk with a boot sector, partition table or file system".into())
}

/// An image that may be booted or stood on: its format and the size the guest sees, in octets. One that names a
/// backing or data file of its own is refused: whoever made it could read any file QEMU can.
pub fn inspect(path: &Path) -> Result<(Format, u64), Error> {
    let mut file = File::open(path).map_err(at("opening the image", path))?;
    let mut head = Vec::new();
    (&mut file).take(HEAD as u64).read_to_end(&mut head).map_err(at("reading the image", path))?;
    let format =
        classify(&head).map_err(|what| Error::NotAnImage { name: path.display().to_string(), what })?;
    match format {
        Format::Raw => {
            let size = file.seek(SeekFrom::End(0)).map_err(at("reading the size of", path))?;
            Ok((format, size))
        }
        Format::Qcow2 => {
            let image = open_qcow2(path)?;
            let refers =
                |what, refers: &str| Error::Refers { path: path.to_owned(), what, refers: refers.to_owned() };
            if let Some(name) = image.implicit_backing_file() {
                return Err(refers("backing file", name));
            }
            if image.requires_external_data_file() {
                let name = image.implicit_external_data_file().map_or("a file beside it", String::as_str);
                return Err(refers("data file", name));
            }
            Ok((format, image.size()))
        }
    }
}

/// Reads a qcow2 header; opens nothing the header names.
pub(super) fn open_qcow2(path: &Path) -> Result<Qcow2<Storage>, Error> {
    Qcow2::<Storage>::open_path(path, false).map_err(at("reading the qcow2 header of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(at: usize, magic: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[at..at + magic.len()].copy_from_slice(magic);
        head
    }

    #[test]
    fn disks_are_told_from_everything_else() {
        assert_eq!(classify(&head(0, b"QFI\xfb\0\0\0\x03")), Ok(Format::Qcow2));
        assert_eq!(classify(&head(510, b"\x55\xaa")), Ok(Format::Raw));
        assert_eq!(classify(&head(1080, b"\x53\xef")), Ok(Format::Raw));
        for (bytes, what) in [
            (Vec::new(), "empty"),
            (
                b"<!DOCTYPE html>\n<title>404</title>".to_vec(),
                "text beginning \"<!DOCTYPE html> <title>404</title>\"",
            ),
            (head(0, b"QFI\xfb\0\0\0\x01"), "unknown version"),
            (head(0, b"KDMV"), "VMDK"),
            (head(0x40, &[0x7f, 0x10, 0xda, 0xbe]), "VDI"),
            (vec![0; 4096], "neither"),
        ] {
            let found = classify(&bytes).unwrap_err();
            assert!(found.contains(what), "{found}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = classify(&bytes);
        }
    }
}
