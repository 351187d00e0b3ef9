//! The structures on the disk: descriptors, directory records with their system use fields, path tables.

use super::tree::{Directory, Is, Tree};
use super::{Extent, SECTOR, number};

/// Which of the two trees of names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// ISO 9660 names, with the real ones in Rock Ridge fields.
    Iso,
    Joliet,
}

const DIRECTORY: u8 = 2;
/// 1980-01-01 00:00:00 UTC (ECMA-119 §9.1.5): the one date of every file.
const DATE: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];
/// The same for descriptors (ECMA-119 §8.4.26.1).
const LONG_DATE: &[u8; 17] = b"1980010100000000\0";
const RRIP: &[u8; 10] = b"RRIP_1991A";
const ABOUT: &[u8] =
    b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";

/// ECMA-119 §7.3.3: little-endian, then big-endian.
fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (slot, byte) in
        bytes.iter_mut().zip(value.to_le_bytes().into_iter().chain(value.to_be_bytes()))
    {
        *slot = byte;
    }
    bytes
}

/// ECMA-119 §7.2.3.
fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// The volume descriptor (ECMA-119 §8.4, §8.5).
pub(super) fn descriptor(
    names: Names,
    label: &str,
    sectors: usize,
    table_bytes: usize,
    [little, big]: [usize; 2],
    extents: &[Extent],
) -> Vec<u8> {
    let joliet = names == Names::Joliet;
    let text = |text: &str, length: usize| -> Vec<u8> {
        let (mut bytes, blank) =
            if joliet { (ucs2(text), vec![0, b' ']) } else { (text.into(), vec![b' ']) };
        while bytes.len() + blank.len() <= length {
            bytes.extend(&blank);
        }
        bytes.resize(length, 0);
        bytes
    };
    let root = extents.first().copied().unwrap_or(Extent { sector: 0, bytes: 0 });
    let mut out = vec![if joliet { 2 } else { 1 }];
    out.extend(b"CD001\x01\x00");
    out.extend(text("LINUX", 32));
    out.extend(text(label, 32));
    out.extend([0; 8]);
    out.extend(both32(number(sectors)));
    let mut escapes = [0; 32];
    if let (true, Some(start)) = (joliet, escapes.get_mut(..3)) {
        start.copy_from_slice(b"%/E");
    }
    out.extend(escapes);
    out.extend(both16(1));
    out.extend(both16(1));
    out.extend(both16(2048));
    out.extend(both32(number(table_bytes)));
    out.extend(number(little).to_le_bytes());
    out.extend([0; 4]);
    out.extend(number(big).to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(&[0], root, DIRECTORY, &[]));
    for length in [128, 128, 128, 128, 37, 37, 37] {
        out.extend(text("", length));
    }
    for _ in 0..4 {
        out.extend(LONG_DATE);
    }
    out.push(1);
    out
}

/// A directory record (ECMA-119 §9.1) with its system use area.
fn record(id: &[u8], extent: Extent, flags: u8, system_use: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(extent.sector));
    out.extend(both32(extent.bytes));
    out.extend(DATE);
    out.extend([flags, 0, 0]);
    out.extend(both16(1));
    out.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
    out.extend(id);
    if id.len().is_multiple_of(2) {
        out.push(0);
    }
    out.extend(system_use);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    let length = u8::try_from(out.len()).unwrap_or(u8::MAX);
    if let Some(first) = out.first_mut() {
        *first = length;
    }
    out
}

/// POSIX attributes (RRIP PX), times (TF: modification, access, attributes) and the name (NM).
fn rock_ridge(mode: u32, links: u32, name: &str) -> Vec<u8> {
    let mut out = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        out.extend(both32(value));
    }
    out.extend(b"TF\x1a\x01\x0e");
    for _ in 0..3 {
        out.extend(DATE);
    }
    if !name.is_empty() {
        out.extend(b"NM");
        out.push(u8::try_from(5 + name.len()).unwrap_or(u8::MAX));
        out.extend([1, 0]);
        out.extend(name.bytes());
    }
    out
}

/// What makes the root Rock Ridge: SP (SUSP is used here), and CE → ER.
fn root_fields(extension: usize) -> Vec<u8> {
    let mut out = b"SP\x07\x01\xbe\xef\x00".to_vec();
    out.extend(b"CE\x1c\x01");
    out.extend(both32(number(extension)));
    out.extend(both32(0));
    out.extend(both32(number(extension_record().len())));
    out
}

/// ER: which extension the other fields belong to.
pub(super) fn extension_record() -> Vec<u8> {
    let length = 8 + RRIP.len() + ABOUT.len();
    let mut out = b"ER".to_vec();
    for byte in [length, 1, RRIP.len(), ABOUT.len(), 0, 1] {
        out.push(u8::try_from(byte).unwrap_or(u8::MAX));
    }
    out.extend(RRIP);
    out.extend(ABOUT);
    out
}

/// The records of one directory. Extents not known yet may be given as none: lengths do not depend on them.
fn records(
    tree: &Tree,
    at: usize,
    names: Names,
    extents: &[Extent],
    files: &[Extent],
    extension: usize,
) -> Vec<Vec<u8>> {
    let nowhere = Extent { sector: 0, bytes: 0 };
    let place = |extents: &[Extent], number: usize| {
        let extent = extents.get(number).copied().unwrap_or(nowhere);
        // A directory's length is a whole number of sectors.
        Extent { sector: extent.sector, bytes: number_of_sectors(extent.bytes) }
    };
    let Some(directory) = tree.directories.get(at) else {
        return Vec::new();
    };
    let rock = |own: Vec<u8>| if names == Names::Iso { own } else { Vec::new() };
    let mut dot = rock(rock_ridge(0o040_755, subdirectories(directory), ""));
    if at == 0 && names == Names::Iso {
        let mut fields = root_fields(extension);
        fields.append(&mut dot);
        dot = fields;
    }
    let above = tree.directories.get(directory.parent).map_or(2, subdirectories);
    let mut out = vec![
        record(&[0], place(extents, at), DIRECTORY, &dot),
        record(
            &[1],
            place(extents, directory.parent),
            DIRECTORY,
            &rock(rock_ridge(0o040_755, above, "")),
        ),
    ];
    for entry in &directory.entries {
        let id =
            if names == Names::Iso { entry.iso.clone().into_bytes() } else { ucs2(&entry.name) };
        out.push(match entry.is {
            Is::Directory(index) => {
                let links = tree.directories.get(index).map_or(2, subdirectories);
                let fields = rock(rock_ridge(0o040_000 | entry.mode, links, &entry.name));
                record(&id, place(extents, index), DIRECTORY, &fields)
            }
            Is::File(index) => {
                let extent = files.get(index).copied().unwrap_or(nowhere);
                record(&id, extent, 0, &rock(rock_ridge(0o100_000 | entry.mode, 1, &entry.name)))
            }
        });
    }
    // Both kinds of names are sorted by their own bytes (ECMA-119 §9.3).
    if let Some(entries) = out.get_mut(2..) {
        entries.sort_by(|a, b| a.get(33..).cmp(&b.get(33..)));
    }
    out
}

fn number_of_sectors(bytes: u32) -> u32 {
    let sector = number(SECTOR);
    bytes.div_ceil(sector) * sector
}

/// Links of a directory: its name, its dot, and the dot-dot of each below.
fn subdirectories(directory: &Directory) -> u32 {
    2 + number(
        directory.entries.iter().filter(|entry| matches!(entry.is, Is::Directory(_))).count(),
    )
}

/// Puts records into sectors; none crosses the border of one (ECMA-119 §6.8.1.1).
pub(super) fn directory(
    tree: &Tree,
    at: usize,
    names: Names,
    extents: &[Extent],
    files: &[Extent],
    extension: usize,
) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records(tree, at, names, extents, files, extension) {
        let left = SECTOR - out.len() % SECTOR;
        if record.len() > left {
            out.resize(out.len() + left, 0);
        }
        out.extend(record);
    }
    out
}

pub(super) fn directory_bytes(tree: &Tree, at: usize, names: Names) -> usize {
    directory(tree, at, names, &[], &[], 0).len()
}

/// ECMA-119 §9.4: one record a directory, in the tree's order.
pub(super) fn path_table(
    tree: &Tree,
    names: Names,
    extents: &[Extent],
    order32: fn(u32) -> [u8; 4],
    order16: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, directory) in tree.directories.iter().enumerate() {
        let id = match names {
            _ if at == 0 => vec![0],
            Names::Iso => directory.iso.clone().into_bytes(),
            Names::Joliet => ucs2(&directory.name),
        };
        let sector = extents.get(at).map_or(0, |extent| extent.sector);
        let parent = u16::try_from(directory.parent + 1).unwrap_or(u16::MAX);
        out.extend([u8::try_from(id.len()).unwrap_or(u8::MAX), 0]);
        out.extend(order32(sector));
        out.extend(order16(parent));
        out.extend(&id);
        if id.len() % 2 == 1 {
            out.push(0);
        }
    }
    out
}

pub(super) fn path_table_bytes(tree: &Tree, names: Names) -> usize {
    path_table(tree, names, &[], u32::to_le_bytes, u16::to_le_bytes).len()
}
