//! What a file is, by its content: never by its name, and never left to QEMU's probing.
//!
//! qcow2: QEMU docs/interop/qcow2.rst. A raw image has no magic of its own, so it must look like a disk.

use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::qcow2::{self, Fault, Header, ReadAt, check_tables};
use super::{ALL_TRUSTED, Beneath, Error, at, partitions};

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

/// Images of other kinds: magics no disk begins with.
const IMAGES: [(usize, &[u8], &str); 12] = [
    (0, b"KDMV", "a VMDK image"),
    (0, b"COWD", "a VMDK image"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0, b"vhdxfile", "a VHDX image"),
    (0, b"conectix", "a VHD image"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "a VDI image"),
    (0, b"QED\0", "a QED image"),
    (0, b"WithoutFreeSpace", "a Parallels image"),
    (0, b"WithouFreSpacExt", "a Parallels image"),
    (0, b"Bochs Virtual HD", "a Bochs image"),
    (0, b"MSWIM\0\0\0", "a WIM image"),
    (0, b"\x7fELF", "a program"),
];

/// Archives. What they hold is not guessed at.
const ARCHIVES: [(&[u8], &str); 22] = [
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"LZIP", "lzip"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop"),
    (b"\x5d\0\0", "lzma"),
    (b"\x1f\x9d", "compress"),
    (b"070701", "cpio"),
    (b"070702", "cpio"),
    (b"070707", "cpio"),
    (b"!<arch>\n", "ar"),
    (b"MSCF", "cabinet"),
    (b"xar!", "xar"),
    (b"\xed\xab\xee\xdb", "rpm"),
];

/// Of a text no more is told than its kind: a file may be a secret, and a server's page repeats the URL it was asked for,
/// with what is secret in it.
const TEXT: &str = "text";
const PAGE: &str = "a web page";

/// Boot sectors, partition tables, file systems, encrypted disks.
const DISKS: [(usize, &[u8]); 9] = [
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

/// What the head of an image says; the error says what it is instead.
pub fn classify(head: &[u8]) -> Result<Format, String> {
    let has = |at: usize, magic: &[u8]| head.get(at..at + magic.len()) == Some(magic);
    if head.is_empty() {
        return Err("empty".into());
    }
    if has(0, &qcow2::MAGIC) {
        return if has(4, &[0, 0, 0, 2]) || has(4, &[0, 0, 0, 3]) {
            Ok(Format::Qcow2)
        } else {
            Err("a qcow image of an unknown version".into())
        };
    }
    if let Some((_, _, what)) = IMAGES.iter().find(|(at, magic, _)| has(*at, magic)) {
        return Err((*what).into());
    }
    if let Some((_, kind)) = ARCHIVES.iter().find(|(magic, _)| has(0, magic)) {
        return Err(archive(kind));
    }
    if is_tar(head) {
        return Err(archive("tar"));
    }
    if DISKS.iter().any(|(at, magic)| has(*at, magic)) {
        return Ok(Format::Raw);
    }
    // Two octets alone: a boot sector may begin with them.
    if has(0, b"\xc7\x71") || has(0, b"\x71\xc7") {
        return Err(archive("cpio"));
    }
    let start = head.get(..head.len().min(512)).unwrap_or(head);
    if is_page(start) {
        return Err(PAGE.into());
    }
    if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Err(TEXT.into());
    }
    Err("neither qcow2 nor a disk with a boot sector, partition table or file system".into())
}

fn is_page(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let begins =
        |word: &[u8]| start.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    begins(b"<!doctype html") || begins(b"<html")
}

fn archive(kind: &str) -> String {
    format!("a {kind} archive (unpack it first)")
}

/// A tar header has no magic of its own in its oldest form, but a sum of its octets, the sum's own field as blanks.
fn is_tar(head: &[u8]) -> bool {
    let (Some(header), Some(field)) = (head.get(..512), head.get(148..156)) else { return false };
    let text = String::from_utf8_lossy(field);
    let digits = text.trim_matches(['\0', ' ']);
    let octets = |octets: &[u8]| octets.iter().map(|&octet| u32::from(octet)).sum::<u32>();
    let sum = octets(header) - octets(field) + 8 * u32::from(b' ');
    u32::from_str_radix(digits, 8).is_ok_and(|told| told == sum) && head.first() != Some(&0)
}

/// What an image is, by its head and header.
#[derive(Debug)]
pub(super) struct Look {
    pub format: Format,
    /// What the guest sees, in octets.
    pub size: u64,
    /// Of a qcow2 image.
    pub header: Option<Header>,
    /// Worth a line in the log when a disk is made on it.
    pub notes: Vec<String>,
}

/// An image that may be booted or stood on: whole as far as its tables tell. Its format and the size the guest sees,
/// in octets. One that names a backing or data file of its own is refused: whoever made it could read any file QEMU
/// can.
pub fn inspect(path: &Path) -> Result<(Format, u64), Error> {
    inspect_for(path, Access::ALL)
}

/// [`inspect`], for QEMU options that may have a key, and in directories that are not trusted.
pub fn inspect_for(path: &Path, access: Access<'_>) -> Result<(Format, u64), Error> {
    let look = whole(path, &path.display().to_string(), access)?;
    Ok((look.format, look.size))
}

/// Whether QEMU is given keys to encrypted images: by options of the user's only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    None,
    Users,
}

/// How files are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    pub keys: Keys,
    pub files: &'a Beneath,
}

impl Access<'static> {
    /// Every path is the operator's, and QEMU has no key.
    pub const ALL: Self = Self { keys: Keys::None, files: &ALL_TRUSTED };
}

/// [`inspect`], with the words for errors: a part of a download is told by its origin.
pub(super) fn whole(path: &Path, name: &str, access: Access<'_>) -> Result<Look, Error> {
    let file = open(path, access)?;
    let look = look(&file, path, name)?;
    let encryption = look.header.as_ref().and_then(Header::encryption);
    if let (Some(method), Keys::None) = (encryption, access.keys) {
        let what = format!(
            "an encrypted qcow2 image ({method}), and QEMU has no key: decrypt it with qemu-img convert, or give the key \
             in KVM_BLK_OPTS"
        );
        return Err(Error::NotAnImage { name: name.to_owned(), what });
    }
    if let Some(header) = &look.header {
        check_tables(&file, header).map_err(refused(path, name))?;
    }
    Ok(look)
}

pub(super) fn open(path: &Path, access: Access<'_>) -> Result<File, Error> {
    access.files.read(path).map_err(at("opening the image", path))
}

/// Head and header, but no tables.
pub(super) fn look(file: &File, path: &Path, name: &str) -> Result<Look, Error> {
    let length = file.length().map_err(at("reading the size of", path))?;
    let mut head = vec![0; HEAD.min(usize::try_from(length).unwrap_or(HEAD))];
    file.fill(&mut head, 0).map_err(at("reading the image", path))?;
    let format =
        classify(&head).map_err(|what| Error::NotAnImage { name: name.to_owned(), what })?;
    if format == Format::Raw {
        return Ok(Look {
            format,
            size: length,
            header: None,
            notes: partitions::notes(&head, length, name),
        });
    }
    let header = Header::read(file).map_err(refused(path, name))?;
    let refers = |what, refers: String| Error::Refers { name: name.to_owned(), what, refers };
    if let Some((_, backing)) = header.backing {
        return Err(refers("backing file", backing));
    }
    if header.has_data_file() {
        let data = header.data_file(file).map_err(refused(path, name))?;
        return Err(refers("data file", data.unwrap_or_else(|| "a file beside it".to_owned())));
    }
    header.usable().map_err(refused(path, name))?;
    Ok(Look { format, size: header.size, header: Some(header), notes: Vec::new() })
}

pub(super) fn refused(path: &Path, name: &str) -> impl FnOnce(Fault) -> Error {
    move |fault| match fault {
        Fault::Io(error) => at("reading the image", path)(error),
        Fault::Bad(what) => Error::NotAnImage { name: name.to_owned(), what },
    }
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
            (b"<!DOCTYPE html>\n<title>404</title>".to_vec(), "a web page"),
            (head(0, b"QFI\xfb\0\0\0\x01"), "unknown version"),
            (head(0, b"KDMV"), "VMDK"),
            (head(0, b"PK\x03\x04"), "zip archive (unpack it first)"),
            (head(0, b"7z\xbc\xaf\x27\x1c"), "7z archive"),
            (head(0, b"\x1f\x8b\x08"), "gzip archive"),
            (head(0x40, &[0x7f, 0x10, 0xda, 0xbe]), "VDI"),
            (vec![0; 4096], "neither"),
        ] {
            let found = classify(&bytes).unwrap_err();
            assert!(found.contains(what), "{found}");
        }
    }

    /// A server that repeats the URL had its query shown.
    #[test]
    fn of_a_text_nothing_but_its_kind_is_told() {
        assert_eq!(classify(b"asked for /echo?tok=hunter2\n").unwrap_err(), "text");
        let page = "\u{feff}\n<!DocType HTML><title>\u{e4} /echo?tok=hunter2</title>";
        assert_eq!(classify(page.as_bytes()).unwrap_err(), "a web page");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = classify(&bytes);
        }
    }
}
