//! A qcow2 image's header (QEMU docs/interop/qcow2.rst), read from a file or from octets that mean no good.
//!
//! QEMU reads and writes the images; this says beforehand whether one is whole and may be opened at all, and makes a disk
//! larger ([`grow`]). Extended L2 entries and clusters compressed with zstd are QEMU's business. What the header points to is walked by [`tables`].

mod data;
mod grow;
mod read;
mod tables;

use std::ops::Range;

pub use read::{Fault, ReadAt};
pub use tables::{check_l1, check_tables};

use read::{Fields, bad, read};

/// The first four octets (QEMU, docs/interop/qcow2.txt).
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Bits of `incompatible_features`.
mod incompatible {
    pub(crate) const DIRTY: u64 = 1 << 0;
    pub(crate) const CORRUPT: u64 = 1 << 1;
    pub(crate) const DATA_FILE: u64 = 1 << 2;
    pub(crate) const COMPRESSION: u64 = 1 << 3;
    pub(crate) const EXTENDED_L2: u64 = 1 << 4;
    pub(crate) const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
}

/// `autoclear_features`: the bitmaps extension is consistent.
const BITMAPS_CONSISTENT: u64 = 1 << 0;

/// Types of header extensions.
const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const BITMAPS: u32 = 0x2385_2875;

/// QEMU opens none whose tables are larger (block/qcow2.h).
const MAX_L1_OCTETS: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE_OCTETS: u64 = 8 << 20;
const MAX_SNAPSHOTS: u32 = 65_536;
const MAX_BACKING_NAME: u32 = 1023;

/// A table in the file: where, and how many entries (octets for the tables without a fixed entry).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Table {
    offset: u64,
    entries: u64,
}

/// Where a header extension's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    pub kind: u32,
    pub offset: u64,
    pub length: u32,
}

/// What a header says, held to the format's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub cluster_bits: u32,
    /// What the guest sees, in octets.
    pub size: u64,
    /// Where the backing file's name is, and the name.
    pub backing: Option<(u64, String)>,
    pub extensions: Vec<Extension>,
    /// Where the mark is that ends the extensions, when there is one.
    pub extensions_end: Option<u64>,
    encryption: u32,
    incompatible: u64,
    autoclear: u64,
    l1: Table,
    refcounts: Table,
    snapshots: Table,
    /// The width of a refcount, as a power of two of bits.
    refcount_order: u32,
}

/// Version 2 ends there, the fields that version 3 always has at 104.
const V2_LENGTH: u32 = 72;
const V3_LENGTH: u32 = 104;
/// Refcounts of version 2 have 16 bits.
const V2_REFCOUNT_ORDER: u32 = 4;
/// Of the compression type, where the header is long enough to have it.
const COMPRESSION_TYPE: u32 = V3_LENGTH;

impl Header {
    /// Reads the header and its extensions, not what it points to.
    pub fn read<R: ReadAt + ?Sized>(image: &R) -> Result<Self, Fault> {
        let mut octets = [0; COMPRESSION_TYPE as usize + 1];
        let head = octets.len().min(usize::try_from(image.length()?).unwrap_or(usize::MAX));
        image.fill(octets.get_mut(..head).unwrap_or_default(), 0)?;
        if head < V2_LENGTH as usize || !octets.starts_with(&MAGIC) {
            return bad("a qcow2 image cut within its header");
        }
        let fields = Fields(&octets);
        let header_length = match fields.u32(4) {
            2 => V2_LENGTH,
            3 if head < V3_LENGTH as usize => return bad("a qcow2 image cut within its header"),
            3 => fields.u32(100),
            version => return bad(format!("a qcow2 image of the unknown version {version}")),
        };
        let v3 = |value: u64| if fields.u32(4) == 3 { value } else { 0 };
        let cluster_bits = fields.u32(20);
        if !(9..=21).contains(&cluster_bits) {
            return bad(format!("a damaged qcow2 image (clusters of 2^{cluster_bits} octets)"));
        }
        let min = if fields.u32(4) == 3 { V3_LENGTH } else { V2_LENGTH };
        if header_length < min
            || !header_length.is_multiple_of(8)
            || header_length > 1 << cluster_bits
        {
            return bad(format!("a damaged qcow2 image (a header of {header_length} octets)"));
        }
        let mut header = Self {
            cluster_bits,
            size: fields.u64(24),
            backing: None,
            extensions: Vec::new(),
            extensions_end: None,
            encryption: fields.u32(32),
            incompatible: v3(fields.u64(72)),
            autoclear: v3(fields.u64(88)),
            l1: Table { offset: fields.u64(40), entries: fields.u32(36).into() },
            refcounts: Table {
                offset: fields.u64(48),
                entries: u64::from(fields.u32(56)) << (cluster_bits - 3),
            },
            snapshots: Table { offset: fields.u64(64), entries: fields.u32(60).into() },
            refcount_order: if fields.u32(4) == 3 { fields.u32(96) } else { V2_REFCOUNT_ORDER },
        };
        header.bounds()?;
        header.compression(
            fields.u8(COMPRESSION_TYPE as usize).filter(|_| header_length > COMPRESSION_TYPE),
        )?;
        header.backing = header.backing_name(image, fields.u64(8), fields.u32(16))?;
        header.read_extensions(image, header_length)?;
        Ok(header)
    }

    fn bounds(&self) -> Result<(), Fault> {
        let damaged = |what: &str| bad(format!("a damaged qcow2 image ({what})"));
        let unknown = self.incompatible & !incompatible::KNOWN;
        if unknown != 0 {
            return bad(format!(
                "a qcow2 image with the unknown feature {}",
                unknown.trailing_zeros()
            ));
        }
        if self.refcount_order > 6 {
            return damaged("refcounts of more than 64 bits");
        }
        // A subcluster is a 32nd of a cluster and has a sector at least.
        if self.extended_l2() && self.cluster_bits < 14 {
            return damaged("extended L2 entries with clusters below 16 KiB");
        }
        if self.l1.entries * 8 > MAX_L1_OCTETS {
            return damaged("an L1 table of more than 32 MiB");
        }
        if self.refcounts.entries == 0
            || self.refcounts.entries * 8 > MAX_REFCOUNT_TABLE_OCTETS.max(self.cluster())
        {
            return damaged("a refcount table of no size that is allowed");
        }
        if self.snapshots.entries > MAX_SNAPSHOTS.into() {
            return damaged("more than 65536 snapshots");
        }
        let covered =
            self.l1.entries.saturating_mul(self.l2_entries()).saturating_mul(self.cluster());
        if covered < self.size {
            return damaged("an L1 table too small for the disk");
        }
        Ok(())
    }

    /// The feature's bit stands for every type but the first.
    fn compression(&self, kind: Option<u8>) -> Result<(), Fault> {
        let told = self.incompatible & incompatible::COMPRESSION != 0;
        match kind.unwrap_or(0) {
            0 if told => bad("a damaged qcow2 image (zlib, but marked as compressed otherwise)"),
            0 => Ok(()),
            1 if told => Ok(()),
            1 => bad("a damaged qcow2 image (zstd, but not marked as compressed so)"),
            kind => bad(format!("a qcow2 image with the unknown compression type {kind}")),
        }
    }

    fn backing_name<R: ReadAt + ?Sized>(
        &self,
        image: &R,
        offset: u64,
        length: u32,
    ) -> Result<Option<(u64, String)>, Fault> {
        if offset == 0 {
            return Ok(None);
        }
        if length > MAX_BACKING_NAME || offset.saturating_add(length.into()) > self.cluster() {
            return bad("a damaged qcow2 image (its backing file's name)");
        }
        let mut name = vec![0; length as usize];
        read(image, &mut name, offset, "backing file's name")?;
        Ok(Some((offset, String::from_utf8_lossy(&name).into_owned())))
    }

    /// They end with a mark, where the backing file's name begins, or with the cluster.
    fn read_extensions<R: ReadAt + ?Sized>(&mut self, image: &R, start: u32) -> Result<(), Fault> {
        let end = self.backing.as_ref().map_or(self.cluster(), |(offset, _)| *offset);
        let mut offset = u64::from(start);
        while offset + 8 <= end {
            let mut head = [0; 8];
            read(image, &mut head, offset, "header extensions")?;
            let (kind, length) = (Fields(&head).u32(0), Fields(&head).u32(4));
            if kind == END {
                self.extensions_end = Some(offset);
                break;
            }
            let next = offset + 8 + u64::from(length).next_multiple_of(8);
            if offset + 8 + u64::from(length) > end {
                return bad("a damaged qcow2 image (a header extension without end)");
            }
            self.extensions.push(Extension { kind, offset: offset + 8, length });
            offset = next;
        }
        Ok(())
    }

    /// Refuses what QEMU could not open, or would open other files for.
    pub fn usable(&self) -> Result<(), Fault> {
        if self.incompatible & incompatible::CORRUPT != 0 {
            return bad("a qcow2 image marked as corrupt (qemu-img check -r all may repair it)");
        }
        if self.incompatible & incompatible::DIRTY != 0 {
            return bad(
                "a qcow2 image that was in use when it was copied (dirty: qemu-img check -r all mends it)",
            );
        }
        Ok(())
    }

    /// The method, when QEMU needs a key to read the image.
    pub(crate) fn encryption(&self) -> Option<&'static str> {
        match self.encryption {
            0 => None,
            2 => Some("LUKS"),
            _ => Some("AES"),
        }
    }

    pub(crate) fn has_data_file(&self) -> bool {
        self.incompatible & incompatible::DATA_FILE != 0
    }

    /// The name of the data file, when the image keeps its data in another one and says in which.
    pub fn data_file<R: ReadAt + ?Sized>(&self, image: &R) -> Result<Option<String>, Fault> {
        let name = self.extension(image, DATA_FILE_NAME, MAX_BACKING_NAME)?;
        Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()))
    }

    /// The format of the backing file, as QEMU names it.
    pub(crate) fn backing_format<R: ReadAt + ?Sized>(
        &self,
        image: &R,
    ) -> Result<Option<String>, Fault> {
        let name = self.extension(image, BACKING_FORMAT, 16)?;
        Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()))
    }

    /// An extension's data. One that is longer than `max` octets counts as absent.
    pub fn extension<R: ReadAt + ?Sized>(
        &self,
        image: &R,
        kind: u32,
        max: u32,
    ) -> Result<Option<Vec<u8>>, Fault> {
        // The last counts: one that is out of date is not taken out.
        let found = self.extensions.iter().rfind(|found| found.kind == kind && found.length <= max);
        let Some(found) = found else { return Ok(None) };
        let mut data = vec![0; found.length as usize];
        read(image, &mut data, found.offset, "header extensions")?;
        Ok(Some(data))
    }

    /// Where the L1 table is, if it is where a new image of 64 KiB clusters has it: behind the header, the refcount table
    /// and a refcount block.
    pub(crate) fn l1_of_new(&self) -> Option<Range<u64>> {
        let is_new = self.cluster_bits == 16
            && self.refcounts.offset == self.cluster()
            && self.l1.offset == 3 * self.cluster()
            && self.snapshots.entries == 0;
        is_new.then(|| self.l1.offset..self.l1.offset + self.l1.entries * 8)
    }

    fn extended_l2(&self) -> bool {
        self.incompatible & incompatible::EXTENDED_L2 != 0
    }

    /// Octets of a cluster: 512 to 2 MiB.
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn l2_entries(&self) -> u64 {
        self.cluster() / if self.extended_l2() { 16 } else { 8 }
    }
}
