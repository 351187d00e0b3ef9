//! `berth resize`: a disk is larger from now on, and the guest hears of it at once (`block_resize`, qapi/block-core.json).

use std::io::{Seek, SeekFrom};

use serde::Serialize;
use serde_json::json;

use super::{Error, Found, Storage, off};

const SECTOR: u64 = 512;

/// A disk and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resized {
    pub disk: String,
    pub from_bytes: u64,
    pub size_bytes: u64,
}

impl Storage {
    /// The VM's own disk gets so many octets; without a size, disks that are volumes or files of their own get what those have.
    pub async fn resize(&self, wanted: Option<u64>) -> Result<Vec<Resized>, Error> {
        let _turn = self.turn()?;
        let mut resized = Vec::new();
        for found in self.look().await? {
            let size_bytes = match wanted {
                Some(wanted) if found.disk.device == "disk0" => {
                    if found.disk.is_raw {
                        return Err(Error::OfVolume(found.disk.path));
                    }
                    wanted.next_multiple_of(SECTOR)
                }
                None if found.disk.is_raw => self.size_of(&found).await?,
                _ => continue,
            };
            resized.push(self.grow(found, size_bytes).await?);
        }
        Ok(resized)
    }

    /// Of the file or device, in whole sectors.
    async fn size_of(&self, found: &Found) -> Result<u64, Error> {
        let (path, files) = (found.disk.path.clone(), self.files.clone());
        let sought =
            off(move || files.read(&path).and_then(|mut file| file.seek(SeekFrom::End(0))));
        let size = sought.await.map_err(|source| Error::Io {
            step: "looking at",
            path: found.disk.path.clone(),
            source,
        })?;
        Ok(size / SECTOR * SECTOR)
    }

    async fn grow(&self, found: Found, size_bytes: u64) -> Result<Resized, Error> {
        let Found { disk, size_bytes: from_bytes, .. } = found;
        if size_bytes < from_bytes {
            return Err(Error::Smaller {
                disk: disk.name,
                size_bytes: from_bytes,
                wanted: size_bytes,
            });
        }
        if size_bytes > from_bytes {
            let of = json!({"device": disk.device, "size": size_bytes});
            let answer = self.monitor.ask("block_resize", Some(of), None).await;
            answer.map_err(|source| Error::Qemu { step: "growing the disk", source })?;
            tracing::info!(disk = disk.name, from_bytes, size_bytes, "the disk has grown");
        }
        Ok(Resized { disk: disk.name, from_bytes, size_bytes })
    }
}
