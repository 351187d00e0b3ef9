//! A disk made larger: in its L1 table's own clusters, else with a new table at the file's end.
//!
//! The image was written by a QEMU that may not have been itself: every table is looked at before it is used, nothing
//! recurses, and memory is bounded by the format's own limits. A kill leaves a good image at each step, with clusters
//! that leaked at worst:
//!
//! ```text
//! refcounts of the new clusters ─► new L1 table ─► refcount table ─► header ─► the old table's clusters are free
//! ```

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::read::{Fault, Fields, ReadAt, bad, read};
use super::tables::{OFFSET, check_l1};
use super::{Header, MAX_L1_OCTETS, Table, V2_LENGTH};

/// What a power failure can take of a file's end is less than memory.
const MAX_AHEAD: u64 = 64 << 30;

impl Header {
    /// Makes the disk larger. Not to be used for one that is smaller or equal.
    pub fn grow(&self, image: &File, size: u64) -> Result<(), Fault> {
        check_l1(image, self)?;
        let covered = self.l2_entries() * self.cluster();
        let entries = size.div_ceil(covered).max(self.l1.entries);
        if entries * 8 > MAX_L1_OCTETS {
            let max = MAX_L1_OCTETS / 8 * covered;
            return bad(format!("a qcow2 image for at most {max} octets of a guest"));
        }
        if self.l1.entries == 0 {
            return bad("a damaged qcow2 image (it has no L1 table)");
        }
        self.apart(image)?;
        if entries * 8 <= self.room(self.l1) {
            return self.grow_in_place(image, size, entries);
        }
        self.usable()?;
        let room = Room::find(self, image, (entries * 8).div_ceil(self.cluster()))?;
        room.take(self, image)?;
        let mut table = vec![0; octets(entries * 8)?];
        let (old, _) = table.split_at_mut_checked(octets(self.l1.entries * 8)?).unwrap_or_default();
        read(image, old, self.l1.offset, "L1 table")?;
        let offset = room.first * self.cluster();
        image.write_all_at(&table, offset)?;
        // A file ends with a cluster.
        image.set_len(room.end() * self.cluster())?;
        image.sync_data()?;
        room.enter(self, image)?;
        self.put(image, size, Table { offset, entries })?;
        for cluster in self.clusters(self.l1) {
            Counts::of(self, image, cluster)?.free(image, cluster)?;
        }
        Ok(image.sync_data()?)
    }

    fn grow_in_place(&self, image: &File, size: u64, entries: u64) -> Result<(), Fault> {
        let (old, new) = (self.l1.entries * 8, entries * 8);
        // What is behind the table need not be zeros yet.
        image.write_all_at(&vec![0; octets(new - old)?], self.l1.offset + old)?;
        image.sync_data()?;
        self.put(image, size, Table { entries, ..self.l1 })
    }

    /// Size and L1 table, by one write within a sector.
    fn put(&self, image: &File, size: u64, l1: Table) -> Result<(), Fault> {
        let mut fields = [0; V2_LENGTH as usize];
        image.read_exact_at(&mut fields, 0)?;
        let mut put = |from: usize, value: &[u8]| {
            fields.iter_mut().skip(from).zip(value).for_each(|(slot, octet)| *slot = *octet);
        };
        put(24, &size.to_be_bytes());
        put(36, &u32::try_from(l1.entries).map_err(std::io::Error::other)?.to_be_bytes());
        put(40, &l1.offset.to_be_bytes());
        if self.autoclear != 0 {
            // Bitmaps of the old size are of no use: cleared first, as for every writer that does not keep them.
            image.write_all_at(&[0; 8], 88)?;
        }
        image.write_all_at(&fields, 0)?;
        Ok(image.sync_data()?)
    }

    /// Octets in the clusters of a table.
    fn room(&self, table: Table) -> u64 {
        (table.entries * 8).next_multiple_of(self.cluster())
    }

    /// Refuses an image of which two tables are in one place: what is written to one would spoil the other. Header, L1 table and
    /// its L2 tables, refcount table and its blocks; 40 MiB at most, by the format's bounds.
    fn apart(&self, image: &File) -> Result<(), Fault> {
        let mut places = vec![0];
        for (table, what) in [(self.l1, "L1 table"), (self.refcounts, "refcount table")] {
            places.extend(self.clusters(table));
            let mut entries = vec![0; octets(table.entries * 8)?];
            read(image, &mut entries, table.offset, what)?;
            let entries = entries.chunks_exact(8).map(|entry| Fields(entry).u64(0) & OFFSET);
            places.extend(
                entries.filter(|offset| *offset != 0).map(|offset| offset / self.cluster()),
            );
        }
        places.sort_unstable();
        if places.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return bad("a damaged qcow2 image (two of its tables are in one place)");
        }
        Ok(())
    }

    fn clusters(&self, table: Table) -> impl Iterator<Item = u64> + use<> {
        let first = table.offset / self.cluster();
        first..first + self.room(table) / self.cluster()
    }

    /// Clusters that a refcount block counts.
    fn counted(&self) -> u64 {
        (self.cluster() * 8) >> self.refcount_order
    }
}

fn octets(length: u64) -> Result<usize, Fault> {
    Ok(usize::try_from(length).map_err(std::io::Error::other)?)
}

/// Clusters behind all that is used: for a table, then for the refcount blocks that they need themselves.
struct Room {
    first: u64,
    wanted: u64,
    /// By the index in the refcount table: blocks that are there, and those that are made.
    old: Vec<u64>,
    new: Vec<u64>,
}

impl Room {
    fn find(header: &Header, image: &File, wanted: u64) -> Result<Self, Fault> {
        let (table, length) = (header.refcounts, image.length()?);
        if table.offset == 0 || !table.offset.is_multiple_of(header.cluster()) {
            return bad("a damaged qcow2 image (its refcount table)");
        }
        let mut blocks = vec![0; octets(table.entries * 8)?];
        read(image, &mut blocks, table.offset, "refcount table")?;
        let is_there = |index: u64| {
            octets(index * 8)
                .is_ok_and(|at| blocks.get(at..at + 8).is_some_and(|entry| entry != [0; 8]))
        };
        let mut first = length.div_ceil(header.cluster());
        // Clusters that are counted need not be in the file yet.
        if let Some(last) = (0..table.entries).rev().find(|&index| is_there(index)) {
            let last = Counts::of(header, image, last * header.counted())?;
            first = first.max(last.end(header));
        }
        if first.saturating_mul(header.cluster()).saturating_sub(length) > MAX_AHEAD {
            return bad("a damaged qcow2 image (its refcounts are of clusters far beyond its end)");
        }
        let mut room = Self { first, wanted, old: Vec::new(), new: Vec::new() };
        loop {
            let before = room.new.len();
            let touched = first / header.counted()..(room.end() - 1) / header.counted() + 1;
            if touched.end > table.entries || room.end().checked_mul(header.cluster()).is_none() {
                return bad(
                    "a qcow2 image whose refcount table is full (qemu-img resize makes it larger)",
                );
            }
            (room.old, room.new) = touched.partition(|&index| is_there(index));
            if room.new.len() == before {
                return Ok(room);
            }
        }
    }

    fn end(&self) -> u64 {
        self.first + self.wanted + self.new.len() as u64
    }

    fn blocks(&self) -> impl Iterator<Item = (u64, u64)> {
        self.new.iter().copied().zip(self.first + self.wanted..)
    }

    /// Counts the clusters: nobody else takes them from now on.
    fn take(&self, header: &Header, image: &File) -> Result<(), Fault> {
        let per = header.counted();
        let mine = |index: u64| (index * per).max(self.first)..((index + 1) * per).min(self.end());
        for &index in &self.old {
            let mut counts = Counts::of(header, image, index * per)?;
            mine(index).for_each(|cluster| counts.set(cluster, true));
            counts.write(image)?;
        }
        for (index, place) in self.blocks() {
            let mut counts = Counts::new(header, index, place * header.cluster())?;
            mine(index).for_each(|cluster| counts.set(cluster, true));
            counts.write(image)?;
        }
        Ok(())
    }

    /// The new blocks into the refcount table.
    fn enter(&self, header: &Header, image: &File) -> Result<(), Fault> {
        for (index, place) in self.blocks() {
            let entry = (place * header.cluster()).to_be_bytes();
            image.write_all_at(&entry, header.refcounts.offset + index * 8)?;
        }
        Ok(image.sync_data()?)
    }
}

/// One refcount block.
struct Counts {
    offset: u64,
    /// The first cluster that it counts.
    first: u64,
    /// Bits of a refcount.
    width: usize,
    octets: Vec<u8>,
}

impl Counts {
    fn new(header: &Header, index: u64, offset: u64) -> Result<Self, Fault> {
        let octets = vec![0; octets(header.cluster())?];
        Ok(Self {
            offset,
            first: index * header.counted(),
            width: 1 << header.refcount_order,
            octets,
        })
    }

    /// That counts this cluster.
    fn of(header: &Header, image: &File, cluster: u64) -> Result<Self, Fault> {
        let index = cluster / header.counted();
        let mut entry = [0; 8];
        read(image, &mut entry, header.refcounts.offset + index * 8, "refcount table")?;
        let offset = Fields(&entry).u64(0) & OFFSET;
        if index >= header.refcounts.entries
            || offset == 0
            || !offset.is_multiple_of(header.cluster())
        {
            return bad("a damaged qcow2 image (its refcount table)");
        }
        let mut counts = Self::new(header, index, offset)?;
        read(image, &mut counts.octets, offset, "refcounts")?;
        Ok(counts)
    }

    /// The first cluster behind all that are used.
    fn end(&self, header: &Header) -> u64 {
        let last = self.octets.iter().rposition(|&octet| octet != 0);
        let used =
            last.map_or(0, |last| ((last as u64 + 1) * 8).div_ceil(1 << header.refcount_order));
        self.first + used
    }

    /// The octets of a cluster's count, big-endian, and where it begins in them: several share an octet from its lowest
    /// bit on.
    fn place(&self, cluster: u64) -> (Range<usize>, usize) {
        let index = usize::try_from(cluster - self.first).unwrap_or(usize::MAX);
        let bit = index.saturating_mul(self.width);
        (bit / 8..(bit / 8).saturating_add(self.width.div_ceil(8)), bit % 8)
    }

    fn set(&mut self, cluster: u64, used: bool) {
        let (octets, shift) = self.place(cluster);
        if let Some(last) = self.octets.get_mut(octets).and_then(<[u8]>::last_mut) {
            *last = if used { *last | 1 << shift } else { *last & !(1 << shift) };
        }
    }

    fn is_one(&self, cluster: u64) -> bool {
        let (octets, shift) = self.place(cluster);
        let Some((last, rest)) = self.octets.get(octets).and_then(<[u8]>::split_last) else {
            return false;
        };
        let mask = (1u16 << self.width.min(8)) - 1;
        rest.iter().all(|&octet| octet == 0) && (u16::from(*last) >> shift) & mask == 1
    }

    fn write(&self, image: &File) -> Result<(), Fault> {
        Ok(image.write_all_at(&self.octets, self.offset)?)
    }

    /// A cluster that had one user has none; one that is shared stays.
    fn free(mut self, image: &File, cluster: u64) -> Result<(), Fault> {
        if !self.is_one(cluster) {
            return Ok(());
        }
        self.set(cluster, false);
        self.write(image)
    }
}
