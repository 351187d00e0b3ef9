//! What is packed is unpacked on its way to the disk, and what is no image does not get there. Zeros become holes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::super::format::{HEAD, classify};
use super::frames::{Gzip, Zstd};
use super::stream::Stream;
use super::{End, Error, Progress, Request, at};

/// How an image is compressed, by its first octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Xz,
    Zstd,
}

impl Packing {
    /// What is packed in `source`, to the end of it.
    pub fn reader<'a>(self, source: impl BufRead + 'a) -> Box<dyn Read + 'a> {
        match self {
            Self::Gzip => Box::new(Gzip::new(source)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, UNPACK_KIB)),
            Self::Zstd => Box::new(Zstd::new(source, u64::from(UNPACK_KIB) << 10)),
        }
    }
}

/// By the first bytes: a name may lie, and a server may pack on its own.
pub fn packing(head: &[u8]) -> Option<Packing> {
    // Skippable frames may come first (RFC 8878 §3.1.2): pzstd writes one.
    if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = head {
        return Some(Packing::Zstd);
    }
    [
        (&b"\x1f\x8b\x08"[..], Packing::Gzip),
        (b"\xfd7zXZ\0", Packing::Xz),
        (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    ]
    .into_iter()
    .find_map(|(magic, packing)| head.starts_with(magic).then_some(packing))
}

/// Memory an xz or zstd stream may ask for: dictionaries above it are not what images are packed with.
const UNPACK_KIB: u32 = 256 << 10;
const BUFFER: usize = 64 << 10;
/// Zeros of such a length, at a multiple of it, are left out: what file systems allocate at least.
const HOLE: usize = 4 << 10;

pub(super) fn unpack(
    request: &Request<'_>,
    name: &str,
    packing: Packing,
    stream: &mut Stream<'_>,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), End> {
    let total = stream.total;
    let counted = std::cell::Cell::new(stream.done);
    let tee = BufReader::with_capacity(
        BUFFER,
        Tee { stream, counted: &counted, max_bytes: request.max_bytes },
    );
    let mut reader = packing.reader(tee);
    let image = Image { name, max_bytes: request.max_bytes };
    write_checked(&image, &mut reader, out, part, &mut || {
        progress(Progress { done: counted.get(), total });
    })
}

/// Lets progress be told while a decoder owns the stream.
struct Tee<'a, 'b> {
    stream: &'a mut Stream<'b>,
    counted: &'a std::cell::Cell<u64>,
    max_bytes: Option<u64>,
}

impl Read for Tee<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer).map_err(|error| io::Error::other(Broken(error)))?;
        self.counted.set(self.stream.done);
        match self.max_bytes {
            // A decoder may take in without end and give nothing.
            Some(max_bytes) if self.stream.done > max_bytes => {
                Err(io::Error::other(Beyond(max_bytes)))
            }
            _ => Ok(read),
        }
    }
}

/// Marks an error of the wire, so that it is told from one of the decoder.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(#[source] io::Error);

/// Marks that more came than may.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} octets")]
struct Beyond(u64);

pub(super) fn copy(
    request: &Request<'_>,
    name: &str,
    stream: &mut Stream<'_>,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), End> {
    let total = stream.total;
    let counted = std::cell::Cell::new(stream.done);
    let mut tee = Tee { stream, counted: &counted, max_bytes: request.max_bytes };
    let image = Image { name, max_bytes: request.max_bytes };
    write_checked(&image, &mut tee, out, part, &mut || {
        progress(Progress { done: counted.get(), total });
    })
}

/// What is written: by its name, and how large it may be.
struct Image<'a> {
    name: &'a str,
    max_bytes: Option<u64>,
}

impl Image<'_> {
    fn looks_like_one(&self, head: &[u8]) -> Result<(), Error> {
        classify(head).map(drop).map_err(|what| not_an_image(self.name, what))
    }

    fn fits(&self, octets: u64) -> Result<(), Error> {
        within(self.name, octets, self.max_bytes)
    }
}

/// Holds an image to IMG_MAX_SIZE.
pub(super) fn within(name: &str, octets: u64, max_bytes: Option<u64>) -> Result<(), Error> {
    match max_bytes {
        Some(max_bytes) if octets > max_bytes => {
            Err(Error::TooLarge { name: name.to_owned(), max_bytes })
        }
        _ => Ok(()),
    }
}

/// Writes what it reads; refuses what does not begin like an image before it is written. However it ends, the file is
/// as long as what was written.
fn write_checked(
    image: &Image<'_>,
    reader: &mut dyn Read,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(),
) -> Result<(), End> {
    let result = write_blocks(image, reader, out, part, progress);
    // Holes at the end are no part of it yet.
    let ended = out.stream_position().and_then(|end| out.set_len(end));
    result.and(ended.map_err(at("writing", part)).map_err(End::Final))
}

fn write_blocks(
    image: &Image<'_>,
    reader: &mut dyn Read,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(),
) -> Result<(), End> {
    let start = out.stream_position().map_err(at("writing", part)).map_err(End::Final)?;
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    let (mut first, mut written) = (start == 0, start);
    let mut broken = None;
    loop {
        let read = match reader.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => match cause(image.name, &error) {
                // What came before a break can be taken up, however little it was.
                end @ End::Broken(_) if !first || filled >= HEAD => {
                    broken = Some(end);
                    0
                }
                end => return Err(end),
            },
        };
        filled += read;
        if read > 0 && filled < buffer.len() {
            continue;
        }
        let block = buffer.get(..filled).unwrap_or_default();
        if first {
            first = false;
            image.looks_like_one(block).map_err(End::Final)?;
        }
        written += block.len() as u64;
        image.fits(written).map_err(End::Final)?;
        write_sparse(out, block).map_err(at("writing", part)).map_err(End::Final)?;
        progress();
        filled = 0;
        if read == 0 {
            return broken.map_or(Ok(()), Err);
        }
    }
}

/// Writes to the end of a file, and seeks over zeros.
fn write_sparse(out: &mut File, block: &[u8]) -> io::Result<()> {
    let is_hole = |piece: &[u8]| piece == [0; HOLE];
    let pieces: Vec<&[u8]> = block.chunks(HOLE).collect();
    let mut rest = block;
    for run in pieces.chunk_by(|one, next| is_hole(one) == is_hole(next)) {
        let octets = run.iter().map(|piece| piece.len()).sum();
        let (written, after) = rest.split_at_checked(octets).unwrap_or((rest, &[]));
        rest = after;
        if run.first().is_some_and(|piece| is_hole(piece)) {
            out.seek(SeekFrom::Current(i64::try_from(octets).map_err(io::Error::other)?))?;
        } else {
            out.write_all(written)?;
        }
    }
    Ok(())
}

/// The wire's errors are worth another try; a decoder's mean that the file is bad.
fn cause(name: &str, error: &io::Error) -> End {
    let mut inner: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = inner {
        if error.is::<Broken>() {
            return End::Broken(io::Error::other(error.to_string()));
        }
        if let Some(&Beyond(max_bytes)) = error.downcast_ref() {
            return End::Final(Error::TooLarge { name: name.to_owned(), max_bytes });
        }
        let boxed = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner = boxed
            .map(|error| error as &(dyn std::error::Error + 'static))
            .or_else(|| error.source());
    }
    let what = match error.kind() {
        io::ErrorKind::OutOfMemory => {
            format!(
                "packed with a dictionary or window above {} MiB (pack it with a smaller one)",
                UNPACK_KIB >> 10
            )
        }
        _ => format!("a damaged archive ({error})"),
    };
    End::Final(not_an_image(name, what))
}

fn not_an_image(name: &str, what: String) -> Error {
    Error::NotAnImage { name: name.to_owned(), what }
}
