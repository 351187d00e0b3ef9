//! Whether everything a qcow2 header points to lies within the file: a download cut short shows there.
//!
//! L1 and L2 tables, data and compressed clusters, refcounts, snapshots and bitmaps. Tables are read in pieces,
//! each L2 table once; holes in a sparse file are passed over, and what is read has a bound. A compressed cluster's
//! length is told in sectors, so that its last one may be short unnoticed. What is inside of clusters and refcount
//! blocks is not looked at, nor whether clusters are shared by mistake: that is `qemu-img check`'s, which reads a
//! whole image.

use std::cell::Cell;

use super::read::{Fault, Fields, ReadAt, bad, read};
use super::{BITMAPS, BITMAPS_CONSISTENT, Header, Table};

/// Octets of a table that are in memory at a time.
const PIECE: u64 = 64 << 10;
/// As many are compared at a time: whole entries of either size.
static ZEROS: [u8; 4096] = [0; 4096];
/// Pointers to L2 tables in memory: 32 MiB. Half of them, all different, stand for 1 PiB with clusters of 64 KiB.
const MAX_L2_ENTRIES: usize = 4 << 20;
/// Octets of tables that are read: those of a full disk of 64 TiB with clusters of 64 KiB. Some seconds.
const MAX_READ: u64 = 8 << 30;
/// QEMU's own bounds (block/qcow2.h, block/qcow2-bitmap.c).
const MAX_SNAPSHOT_EXTRA: u32 = 1024;
const MAX_BITMAPS: u32 = 65_535;
const MAX_BITMAP_DIRECTORY: u64 = 64 << 20;

/// Bits of an entry that are a host offset.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Marks an L2 entry of a compressed cluster, which has fields of its own.
pub(super) const COMPRESSED: u64 = 1 << 62;

/// Refuses a disk without its L1 table or one of its L2 tables. QEMU has them on the disk before it points to them, so no
/// power failure takes them; of what they point to the newest may be missing, and no guest was told that it is there.
pub fn check_l1<R: ReadAt + ?Sized>(image: &R, header: &Header) -> Result<(), Fault> {
    Walk::new(image, header)?.l1(header.l1)
}

/// Refuses an image that points to what is not in it.
pub fn check_tables<R: ReadAt + ?Sized>(image: &R, header: &Header) -> Result<(), Fault> {
    let mut walk = Walk::new(image, header)?;
    walk.l1(header.l1)?;
    walk.last = walk.last_cluster()?;
    walk.snapshots()?;
    walk.l2_tables()?;
    walk.pointers(header.refcounts, "refcount table", "refcount block")?;
    walk.bitmaps()
}

impl Header {
    /// Of a compressed cluster: where it begins, and where its last sector does.
    pub(super) fn compressed(&self, entry: u64) -> (u64, u64) {
        let offset_bits = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let more_sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
        (offset, if more_sectors == 0 { offset } else { offset / 512 * 512 + more_sectors * 512 })
    }
}

struct Walk<'a, R: ?Sized> {
    image: &'a R,
    header: &'a Header,
    /// Of the file.
    length: u64,
    /// Octets of all L1 tables so far. Tables that share no octet are not larger than the file.
    l1_octets: u64,
    l2: Vec<u64>,
    /// Where the cluster is that the disk ends in; 0: nowhere.
    last: u64,
    /// Octets that may be read yet.
    left: Cell<u64>,
    /// Up to where zeros are, from where they were looked for.
    hole: Cell<(u64, u64)>,
}

impl<'a, R: ReadAt + ?Sized> Walk<'a, R> {
    fn new(image: &'a R, header: &'a Header) -> Result<Self, Fault> {
        Ok(Self {
            image,
            header,
            length: image.length()?,
            l1_octets: 0,
            l2: Vec::new(),
            last: 0,
            left: Cell::new(MAX_READ),
            hole: Cell::new((0, 0)),
        })
    }

    /// Octets from there on that are no file's data, and so zeros.
    fn zeros(&self, offset: u64) -> Result<u64, Fault> {
        let (from, to) = self.hole.get();
        if !(from..to).contains(&offset) {
            let data = self.image.data_from(offset)?.unwrap_or(u64::MAX);
            // What is beyond the end is missing, and no zeros.
            self.hole.set((offset, data.min(self.length)));
        }
        Ok(self.hole.get().1.saturating_sub(offset))
    }

    /// Counts what is about to be read.
    fn afford(&self, octets: u64) -> Result<(), Fault> {
        match self.left.get().checked_sub(octets) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => bad(format!(
                "a qcow2 image with more than {} GiB of tables (qemu-img convert -O qcow2 makes one with fewer)",
                MAX_READ >> 30
            )),
        }
    }

    /// A table of which every octet has to be there.
    fn whole(&self, offset: u64, octets: u64, what: &str) -> Result<(), Fault> {
        match offset.checked_add(octets) {
            Some(end) if end <= self.length => self.aligned(offset, what),
            _ => self.beyond(what, offset),
        }
    }

    fn aligned(&self, offset: u64, what: &str) -> Result<(), Fault> {
        if offset.is_multiple_of(self.header.cluster()) {
            return Ok(());
        }
        bad(format!(
            "a damaged qcow2 image (its {what} at octet {offset} is not at a cluster's start)"
        ))
    }

    fn beyond<T>(&self, what: &str, offset: u64) -> Result<T, Fault> {
        let length = self.length;
        bad(format!(
            "a qcow2 image that was cut (its {what} at octet {offset} is beyond its end at {length})"
        ))
    }

    /// Each entry of `size` octets, told by its first eight and the eight after them, if it has them.
    fn entries(
        &self,
        table: Table,
        size: usize,
        entry: &mut dyn FnMut(u64, u64) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let size_octets = size as u64;
        let mut left = table.entries * size_octets;
        let mut offset = table.offset;
        let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or_default()];
        while left > 0 {
            // An entry of zeros stands for nothing.
            let skipped = (self.zeros(offset)? / size_octets * size_octets).min(left);
            offset += skipped;
            left -= skipped;
            let now = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.afford(now as u64)?;
            let part = piece.get_mut(..now).unwrap_or_default();
            read(self.image, part, offset, "tables")?;
            // Most of a fresh image's tables is empty.
            for page in part.chunks(ZEROS.len()).filter(|page| !ZEROS.starts_with(page)) {
                page.chunks_exact(size)
                    .try_for_each(|octets| entry(Fields(octets).u64(0), Fields(octets).u64(8)))?;
            }
            offset += now as u64;
            left -= now as u64;
        }
        Ok(())
    }

    /// Takes an L1 table's L2 tables in.
    fn l1(&mut self, table: Table) -> Result<(), Fault> {
        if table.entries == 0 {
            return Ok(());
        }
        self.whole(table.offset, table.entries * 8, "L1 table")?;
        self.l1_octets = self.l1_octets.saturating_add(table.entries * 8);
        if self.l1_octets > self.length {
            return bad("a damaged qcow2 image (its L1 tables overlap)");
        }
        let mut found = std::mem::take(&mut self.l2);
        self.entries(table, 8, &mut |entry, _| {
            let offset = entry & OFFSET;
            if offset == 0 {
                return Ok(());
            }
            self.whole(offset, self.header.cluster(), "L2 table")?;
            found.push(offset);
            // Snapshots share tables.
            if found.len() >= MAX_L2_ENTRIES {
                found.sort_unstable();
                found.dedup();
                if found.len() > MAX_L2_ENTRIES / 2 {
                    return bad("a qcow2 image with more than two million L2 tables");
                }
            }
            Ok(())
        })?;
        self.l2 = found;
        Ok(())
    }

    fn l2_tables(&mut self) -> Result<(), Fault> {
        let mut tables = std::mem::take(&mut self.l2);
        tables.sort_unstable();
        tables.dedup();
        let size = if self.header.extended_l2() { 16 } else { 8 };
        let entries = self.header.l2_entries();
        tables.into_iter().try_for_each(|offset| {
            self.entries(Table { offset, entries }, size, &mut |entry, bitmap| {
                self.cluster(entry, bitmap)
            })
        })
    }

    /// A cluster that an L2 entry stands for. Data in a file of its own is not here.
    fn cluster(&self, entry: u64, bitmap: u64) -> Result<(), Fault> {
        if entry & COMPRESSED != 0 {
            return self.compressed(entry);
        }
        match entry & OFFSET {
            0 => Ok(()),
            _ if self.header.has_data_file() => Ok(()),
            offset => self.whole(offset, self.needed(offset, bitmap), "data cluster"),
        }
    }

    /// The octets of a data cluster that have to be there. With extended L2 entries QEMU writes no further than the last
    /// subcluster that is allocated, which the low half of the bitmap tells; else a whole cluster. A writer may leave out
    /// what lies beyond the disk's end.
    fn needed(&self, offset: u64, bitmap: u64) -> u64 {
        let cluster = self.header.cluster();
        let max = match self.header.size % cluster {
            tail if tail > 0 && offset == self.last => tail,
            _ => cluster,
        };
        if !self.header.extended_l2() {
            return max;
        }
        let allocated = bitmap & u64::from(u32::MAX);
        let subclusters = u64::from(u64::BITS - allocated.leading_zeros());
        (subclusters * cluster / 32).clamp(1, max)
    }

    fn last_cluster(&self) -> Result<u64, Fault> {
        let last = self.header.size.saturating_sub(1) / self.header.cluster();
        let (table, entry) = (last / self.header.l2_entries(), last % self.header.l2_entries());
        if table >= self.header.l1.entries {
            return Ok(0);
        }
        let pointer = |offset: u64| {
            let mut octets = [0; 8];
            read(self.image, &mut octets, offset, "tables").map(|()| Fields(&octets).u64(0))
        };
        match pointer(self.header.l1.offset + table * 8)? & OFFSET {
            0 => Ok(0),
            l2 => {
                Ok(pointer(l2 + entry * (self.header.cluster() / self.header.l2_entries()))?
                    & OFFSET)
            }
        }
    }

    /// A compressed cluster's last sector holds at least one octet of it.
    fn compressed(&self, entry: u64) -> Result<(), Fault> {
        let (offset, last) = self.header.compressed(entry);
        if last >= self.length { self.beyond("compressed cluster", offset) } else { Ok(()) }
    }

    /// A table of offsets of clusters.
    fn pointers(&self, table: Table, name: &str, what: &str) -> Result<(), Fault> {
        self.whole(table.offset, table.entries * 8, name)?;
        self.entries(table, 8, &mut |entry, _| match entry & OFFSET {
            0 => Ok(()),
            offset => self.whole(offset, self.header.cluster(), what),
        })
    }

    /// Each snapshot has an L1 table of its own.
    fn snapshots(&mut self) -> Result<(), Fault> {
        let Table { mut offset, entries } = self.header.snapshots;
        if entries > 0 {
            self.whole(offset, 1, "snapshot table")?;
        }
        for _ in 0..entries {
            let mut head = [0; 40];
            read(self.image, &mut head, offset, "snapshot table")?;
            let fields = Fields(&head);
            let (id, name) = (fields.u32(12) >> 16, fields.u32(12) & 0xffff);
            let extra = fields.u32(36);
            if extra > MAX_SNAPSHOT_EXTRA {
                return bad("a damaged qcow2 image (its snapshot table)");
            }
            self.l1(Table { offset: fields.u64(0), entries: fields.u32(8).into() })?;
            offset = (offset + 40 + u64::from(extra + id + name)).next_multiple_of(8);
            if offset > self.length.next_multiple_of(8) {
                return self.beyond("snapshot table", offset);
            }
        }
        Ok(())
    }

    /// Persistent dirty bitmaps, when whoever wrote last knew of them.
    fn bitmaps(&self) -> Result<(), Fault> {
        if self.header.autoclear & BITMAPS_CONSISTENT == 0 {
            return Ok(());
        }
        let Some(extension) = self.header.extension(self.image, BITMAPS, 24)? else {
            return Ok(());
        };
        let fields = Fields(&extension);
        let (count, octets, mut offset) = (fields.u32(0), fields.u64(8), fields.u64(16));
        if extension.len() < 24 || count > MAX_BITMAPS || octets > MAX_BITMAP_DIRECTORY {
            return bad("a damaged qcow2 image (its bitmap directory)");
        }
        self.whole(offset, octets, "bitmap directory")?;
        let end = offset + octets;
        let mut table_octets = 0u64;
        for _ in 0..count {
            let mut head = [0; 24];
            read(self.image, &mut head, offset, "bitmap directory")?;
            let fields = Fields(&head);
            let table = Table { offset: fields.u64(0), entries: fields.u32(8).into() };
            table_octets = table_octets.saturating_add(table.entries * 8);
            let name = u64::from(fields.u32(16) & 0xffff);
            offset = (offset + 24 + u64::from(fields.u32(20)) + name).next_multiple_of(8);
            if offset > end || table_octets > self.length {
                return bad("a damaged qcow2 image (its bitmap directory)");
            }
            self.pointers(table, "bitmap table", "bitmap")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Counts what is read, and how often it is asked for data.
    struct Counted {
        file: File,
        octets: Cell<u64>,
        asked: Cell<u64>,
    }

    impl ReadAt for Counted {
        fn length(&self) -> std::io::Result<u64> {
            self.file.length()
        }

        fn fill(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
            self.octets.set(self.octets.get() + buffer.len() as u64);
            self.file.fill(buffer, offset)
        }

        fn data_from(&self, offset: u64) -> std::io::Result<Option<u64>> {
            self.asked.set(self.asked.get() + 1);
            self.file.data_from(offset)
        }
    }

    const CLUSTER: u64 = 2 << 20;
    const TABLES: u64 = 8192;

    /// An image of the largest clusters: header, L1 table, refcount table, and L2 tables that are holes.
    fn sparse() -> Counted {
        let file = tempfile::tempfile().unwrap();
        let mut head = super::super::MAGIC.to_vec();
        for (from, value) in [(4, 3u64), (20, 21), (36, TABLES), (56, 1), (96, 4), (100, 104)] {
            head.resize(104, 0);
            head[from..from + 4].copy_from_slice(&(value as u32).to_be_bytes());
        }
        for (from, value) in [(24, 1u64 << 30), (40, CLUSTER), (48, 2 * CLUSTER)] {
            head[from..from + 8].copy_from_slice(&value.to_be_bytes());
        }
        file.write_all_at(&head, 0).unwrap();
        let l1: Vec<u8> =
            (0..TABLES).flat_map(|table| ((3 + table) * CLUSTER).to_be_bytes()).collect();
        file.write_all_at(&l1, CLUSTER).unwrap();
        file.set_len((3 + TABLES) * CLUSTER).unwrap();
        Counted { file, octets: Cell::default(), asked: Cell::default() }
    }

    /// 72 KiB on the disk were 16 GiB to read, and delayed the start by 44 s.
    #[test]
    fn tables_that_are_holes_are_not_read() {
        let image = sparse();
        let header = Header::read(&image).unwrap();
        check_tables(&image, &header).unwrap();
        assert!(image.octets.get() < 256 << 10, "{}", image.octets.get());
        assert!(image.asked.get() < 16, "{}", image.asked.get());
        // What is behind a hole is seen.
        let entry = (TABLES + 3) * CLUSTER;
        image.file.write_all_at(&entry.to_be_bytes(), (TABLES + 3) * CLUSTER - 8).unwrap();
        let fault = check_tables(&image, &header).unwrap_err().to_string();
        assert!(fault.contains("data cluster") && fault.contains("beyond its end"), "{fault}");
        assert!(image.octets.get() < 1 << 20, "{}", image.octets.get());
    }

    /// The same where every table is data: reflinks, or a file system that knows of no holes.
    #[test]
    fn what_is_read_has_a_bound() {
        let image = sparse();
        let header = Header::read(&image).unwrap();
        let mut walk = Walk::new(&image, &header).unwrap();
        walk.left.set(3 * CLUSTER);
        walk.l1(header.l1).unwrap();
        (0..4).for_each(|table| {
            let zeros = vec![0; usize::try_from(CLUSTER).unwrap()];
            image.file.write_all_at(&zeros, (3 + table) * CLUSTER).unwrap();
        });
        let fault = walk.l2_tables().unwrap_err().to_string();
        assert!(fault.contains("GiB of tables") && fault.contains("qemu-img convert"), "{fault}");
        assert!(image.octets.get() <= 3 * CLUSTER + (1 << 20));
    }
}
