//! What the guest sees at the beginning of its disk. Only what one file holds: a backing file is not opened.

use std::io::Read;

use flate2::read::DeflateDecoder;

use super::read::{Fault, Fields, ReadAt, bad, read};
use super::tables::{COMPRESSED, OFFSET};
use super::{Header, incompatible};

/// Bit of a standard L2 entry: the cluster reads as zeros.
const ZERO: u64 = 1 << 0;

impl Header {
    /// The first octets of the disk, or all of a smaller one. Clusters compressed with zstd and extended L2 entries are an error.
    pub(crate) fn head_of_disk<R: ReadAt + ?Sized>(
        &self,
        image: &R,
        octets: u64,
    ) -> Result<Vec<u8>, Fault> {
        if self.incompatible & incompatible::COMPRESSION != 0
            || self.extended_l2()
            || self.has_data_file()
        {
            return bad("a qcow2 image that only QEMU reads");
        }
        let octets = usize::try_from(self.size.min(octets)).map_err(std::io::Error::other)?;
        let mut head = Vec::new();
        // A head that is less than a table of the smallest clusters covers.
        for index in 0.. {
            if head.len() >= octets || index >= self.l2_entries() {
                break;
            }
            head.extend(self.first_clusters(image, index)?);
        }
        head.truncate(octets);
        Ok(head)
    }

    /// A cluster that the first L2 table has.
    fn first_clusters<R: ReadAt + ?Sized>(&self, image: &R, index: u64) -> Result<Vec<u8>, Fault> {
        let pointer = |offset: u64| {
            let mut octets = [0; 8];
            read(image, &mut octets, offset, "tables").map(|()| Fields(&octets).u64(0))
        };
        let mut cluster = vec![0; usize::try_from(self.cluster()).map_err(std::io::Error::other)?];
        let table = if self.l1.entries > 0 { pointer(self.l1.offset)? & OFFSET } else { 0 };
        let entry = if table > 0 { pointer(table + index * 8)? } else { 0 };
        match entry & OFFSET {
            _ if entry & COMPRESSED != 0 => self.inflate(image, entry, &mut cluster)?,
            0 => {}
            _ if entry & ZERO != 0 => {}
            offset => read(image, &mut cluster, offset, "data cluster")?,
        }
        Ok(cluster)
    }

    fn inflate<R: ReadAt + ?Sized>(
        &self,
        image: &R,
        entry: u64,
        cluster: &mut [u8],
    ) -> Result<(), Fault> {
        let (offset, last) = self.compressed(entry);
        let end = last.saturating_add(512).min(image.length()?);
        // Told in sectors of a cluster at most, and one more.
        let length = end.saturating_sub(offset).min(2 * self.cluster());
        let mut packed = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        read(image, &mut packed, offset, "compressed cluster")?;
        Ok(DeflateDecoder::new(&*packed).read_exact(cluster)?)
    }
}
