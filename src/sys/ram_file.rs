//! The RAM image of a suspended guest on its volume (`ram` has its format), and the generation of the disk beside it.
//!
//! ```text
//!  .NAME.ram.part   a save under way: the stream behind room for the header
//!  NAME.ram         a whole one, 0600: it holds all that the guest had in memory
//!  NAME.gen         the generation of the disk: 16 octets
//! ```
//!
//! All of it blocks: off the event loop. What is renamed or removed here is on the disk when the function returns.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::fstatvfs;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

use super::beneath::Beneath;
use super::image::qcow2::Header as Qcow2;
use crate::ram::{Generation, HEADER_BYTES, Header, Invalid, Stream, hex};

/// Read and written at once. The pipe holds as much, where that is allowed (pipe(7), /proc/sys/fs/pipe-max-size).
const CHUNK_BYTES: usize = 256 * 1024;
const PIPE_BYTES: usize = 1 << 20;
/// Left free on the volume: the guest's disk may be on it, and others' files.
const SPARE_BYTES: u64 = 32 << 20;
/// Of a disk: its partition table, and the superblock of a file system without one.
const HEAD_BYTES: u64 = 64 * 1024;

/// Where they are.
#[derive(Debug, Clone)]
pub struct RamFiles {
    ram: PathBuf,
    generation: PathBuf,
    files: Beneath,
}

/// What is there.
#[derive(Debug)]
pub enum Found {
    Nothing,
    /// Its header holds; its stream is not looked at yet.
    Image(Box<Header>, Image),
    Refused(Invalid),
}

/// A stream that may be read.
#[derive(Debug)]
pub struct Image(File);

/// A save under way.
#[derive(Debug)]
pub struct Part(File);

impl RamFiles {
    pub fn new(ram: PathBuf, generation: PathBuf, files: Beneath) -> Self {
        Self { ram, generation, files }
    }

    pub fn path(&self) -> &Path {
        &self.ram
    }

    fn part(&self) -> PathBuf {
        let name = self.ram.file_name().unwrap_or_default().to_string_lossy();
        self.ram.with_file_name(format!(".{name}.part"))
    }

    /// Looks at the header.
    pub fn look(&self) -> io::Result<Found> {
        let file = match self.files.read(&self.ram) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let mut head = Vec::new();
        (&file).take(HEADER_BYTES as u64).read_to_end(&mut head)?;
        Ok(match Header::decode(&head, file.metadata()?.len()) {
            Ok(header) => Found::Image(Box::new(header), Image(file)),
            Err(invalid) => Found::Refused(invalid),
        })
    }

    /// Whether a guest was ever to be suspended here: a save needs a generation, so nothing else is there without.
    pub fn has_generation(&self) -> bool {
        self.generation.exists()
    }

    /// Of the disk as it is. None: it has none, or one that is cut off.
    pub fn generation(&self) -> io::Result<Option<Generation>> {
        let mut octets = Vec::new();
        match self.files.read(&self.generation) {
            Ok(file) => file.take(17).read_to_end(&mut octets)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(octets.try_into().ok().map(Generation))
    }

    /// Another generation: no RAM image that there is fits the disk any more.
    pub fn renew(&self) -> io::Result<Generation> {
        let mut octets = [0; 16];
        getrandom(&mut octets, GetRandomFlags::empty())?;
        let name = self.generation.file_name().unwrap_or_default().to_string_lossy();
        let beside = self.generation.with_file_name(format!(".{name}.new"));
        self.remove(&beside)?;
        let mut file = self.files.create_new(&beside, 0o644)?;
        file.write_all(&octets)?;
        file.sync_all()?;
        self.files.rename(&beside, &self.generation)?;
        self.files.sync_dir_of(&self.generation)?;
        Ok(Generation(octets))
    }

    /// Removes image and part; whether there was any.
    pub fn discard(&self) -> io::Result<bool> {
        // The image first, and each whatever comes of the other.
        let (ram, part) = (self.remove(&self.ram), self.remove(&self.part()));
        let any = matches!(ram, Ok(true)) || matches!(part, Ok(true));
        if any {
            self.files.sync_dir_of(&self.ram)?;
        }
        Ok(ram? | part?)
    }

    /// Before the guest may write: no image is left that fits the disk. One of both is enough for that, and the first error
    /// is told where neither could be done.
    pub fn invalidate(&self) -> io::Result<()> {
        match (self.renew(), self.discard()) {
            (Err(error), Err(_)) => Err(error),
            (Ok(_), Ok(_)) => Ok(()),
            (Err(error), Ok(_)) => {
                tracing::warn!(%error, path = %self.generation.display(), "the disk's generation cannot be renewed; its RAM image is removed");
                Ok(())
            }
            (Ok(_), Err(error)) => {
                tracing::warn!(%error, path = %self.ram.display(), "the used RAM image cannot be removed; it fits the disk no more");
                Ok(())
            }
        }
    }

    /// Begins a save. One that was left by a launcher that was killed is removed.
    pub fn begin(&self) -> io::Result<Part> {
        self.remove(&self.part())?;
        Ok(Part(self.files.create_new(&self.part(), 0o600)?))
    }

    /// The last step: the header is written, and the image has its name. Until here the part counts for nothing.
    pub fn finish(&self, part: &Part, header: &[u8]) -> io::Result<()> {
        part.0.write_all_at(header, 0)?;
        part.0.sync_all()?;
        self.files.rename(&self.part(), &self.ram)?;
        self.files.sync_dir_of(&self.ram)
    }

    fn remove(&self, path: &Path) -> io::Result<bool> {
        match self.files.remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Both ends close-on-exec: QEMU gets a copy of one of them.
pub fn pipe() -> io::Result<(File, File)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // More is only faster.
    let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
    Ok((read.into(), write.into()))
}

impl Part {
    /// Octets that may be written without using the volume up.
    pub fn room(&self) -> io::Result<u64> {
        let volume = fstatvfs(&self.0)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize).saturating_sub(SPARE_BYTES))
    }

    /// Writes all that comes to its end, at most `most` octets, and syncs it. `so_far` counts.
    pub fn receive(&self, mut from: File, most: u64, so_far: &AtomicU64) -> io::Result<Stream> {
        let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let octets = chunk.get(..length).unwrap_or_default();
            if bytes.saturating_add(length as u64) > most {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!(
                        "it takes more than the {} MiB that the volume has room for",
                        most >> 20
                    ),
                ));
            }
            self.0.write_all_at(octets, HEADER_BYTES as u64 + bytes)?;
            hash.update(octets);
            bytes += length as u64;
            so_far.store(bytes, Ordering::Relaxed);
        }
        drop(from);
        self.0.sync_data()?;
        Ok(Stream { bytes, sha256: hash.finalize().into() })
    }
}

impl Image {
    /// Writes the stream to QEMU, and tells what it was.
    pub fn send(self, mut to: File, so_far: &AtomicU64) -> io::Result<Stream> {
        let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = match self.0.read_at(&mut chunk, HEADER_BYTES as u64 + bytes) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let octets = chunk.get(..length).unwrap_or_default();
            hash.update(octets);
            to.write_all(octets)?;
            bytes += length as u64;
            so_far.store(bytes, Ordering::Relaxed);
        }
        Ok(Stream { bytes, sha256: hash.finalize().into() })
    }
}

/// A disk as it is, in words that are others when somebody else has written it: its size, its beginning, and of a file that is
/// written when that last was. A guest that is suspended writes nothing.
pub fn disk(path: &Path, writable: bool, files: &Beneath) -> io::Result<String> {
    let file = files.read(path)?;
    let metadata = file.metadata()?;
    let octets = if metadata.is_file() {
        metadata.len()
    } else {
        rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?
    };
    let mut head = vec![0; usize::try_from(octets.min(HEAD_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut head, 0)?;
    let mut words = match Qcow2::read(&file) {
        Ok(header) => format!("qcow2 of {} octets", header.size),
        Err(_) => format!("{octets} octets"),
    };
    words.push_str(", begins with SHA-256 ");
    words.push_str(hex(&Sha256::digest(&head)).get(..16).unwrap_or_default());
    if writable && metadata.is_file() {
        words.push_str(&format!(", written at {}.{:09}", metadata.mtime(), metadata.mtime_nsec()));
    }
    Ok(words)
}

/// A file that is the same or another one: its hash. `most` octets are read.
pub fn hash(path: &Path, most: u64, files: &Beneath) -> io::Result<String> {
    let mut octets = Vec::new();
    files.read(path)?.take(most).read_to_end(&mut octets)?;
    Ok(format!("SHA-256 {}", hex(&Sha256::digest(&octets)).get(..16).unwrap_or_default()))
}

/// Since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock, for a file that outlives the process"
)]
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ram::Facts;
    use crate::sys::beneath::ALL_TRUSTED;

    fn files(dir: &Path) -> RamFiles {
        RamFiles::new(dir.join("x.ram"), dir.join("x.gen"), ALL_TRUSTED.clone())
    }

    fn save(files: &RamFiles, stream: &[u8]) -> Header {
        let (read, mut write) = pipe().unwrap();
        let octets = stream.to_vec();
        let writer = std::thread::spawn(move || write.write_all(&octets));
        let part = files.begin().unwrap();
        let stream = part.receive(read, u64::MAX, &AtomicU64::new(0)).unwrap();
        writer.join().unwrap().unwrap();
        let generation = files.renew().unwrap();
        let header = Header {
            stream,
            generation,
            saved_at_ms: 1,
            facts: Facts::default(),
            notes: Facts::default(),
        };
        files.finish(&part, &header.encode().unwrap()).unwrap();
        header
    }

    #[test]
    fn what_is_saved_is_sent_and_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        assert!(!files.has_generation() && matches!(files.look().unwrap(), Found::Nothing));
        let text: Vec<u8> = (0..1_000_000_u32).map(|octet| octet as u8).collect();
        let saved = save(&files, &text);
        let mode = std::fs::metadata(files.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let Found::Image(header, image) = files.look().unwrap() else { panic!() };
        assert_eq!((*header, files.generation().unwrap()), (saved.clone(), Some(saved.generation)));
        let (mut read, write) = pipe().unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            read.read_to_end(&mut got).unwrap();
            got
        });
        let sent = image.send(write, &AtomicU64::new(0)).unwrap();
        assert_eq!((saved.check(&sent), reader.join().unwrap()), (Ok(()), text));
        files.invalidate().unwrap();
        assert!(matches!(files.look().unwrap(), Found::Nothing));
        assert_ne!(files.generation().unwrap(), Some(saved.generation));
        assert!(!files.discard().unwrap());
    }

    #[test]
    fn a_save_that_was_cut_off_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let (read, mut write) = pipe().unwrap();
        write.write_all(&[1; 1000]).unwrap();
        drop(write);
        let part = files.begin().unwrap();
        assert!(part.room().is_ok());
        let full = part.receive(read, 999, &AtomicU64::new(0)).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        drop(part);
        assert!(files.part().exists() && matches!(files.look().unwrap(), Found::Nothing));
        assert!(files.discard().unwrap() && !files.part().exists());
        std::fs::write(dir.path().join("x.gen"), [1; 15]).unwrap();
        assert_eq!(files.generation().unwrap(), None);
    }

    #[test]
    fn a_disk_that_somebody_wrote_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, vec![0; 100_000]).unwrap();
        let look = || disk(&path, true, &ALL_TRUSTED).unwrap();
        let before = look();
        assert_eq!(before, look());
        std::thread::sleep(Duration::from_millis(20));
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(b"x", 90_000)
            .unwrap();
        assert_ne!(before, look());
    }
}
