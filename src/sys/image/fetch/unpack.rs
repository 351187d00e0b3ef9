//! What is packed is unpacked on its way to the disk, and what is no image does not get there. Zeros become holes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::super::format::{HEAD, classify};
use super::frames::{Gzip, Zstd};
use super::stream::Stream;
use super::{End, Error, Progress, at};

#[derive(Clone, Copy)]
pub(super) enum Packing {
    Gzip,
    Xz,
    Zstd,
}

/// By the first bytes: a name may lie, and a server may pack on its own.
pub(super) fn packing(head: &[u8]) -> Option<Packing> {
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
    name: &str,
    packing: Packing,
    stream: &mut Stream<'_>,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), End> {
    let total = stream.total;
    let counted = std::cell::Cell::new(stream.done);
    let tee = BufReader::with_capacity(BUFFER, Tee { stream, counted: &counted });
    let mut reader: Box<dyn Read + '_> = match packing {
        Packing::Gzip => Box::new(Gzip::new(tee)),
        Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(tee, true, UNPACK_KIB)),
        Packing::Zstd => Box::new(Zstd::new(tee, u64::from(UNPACK_KIB) << 10)),
    };
    write_checked(name, &mut reader, out, part, &mut || progress(Progress { done: counted.get(), total }))
}

/// Lets progress be told while a decoder owns the stream.
struct Tee<'a, 'b> {
    stream: &'a mut Stream<'b>,
    counted: &'a std::cell::Cell<u64>,
}

impl Read for Tee<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer).map_err(|error| io::Error::other(Broken(error)))?;
        self.counted.set(self.stream.done);
        Ok(read)
    }
}

/// Marks an error of the wire, so that it is told from one of the decoder.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(#[source] io::Error);

pub(super) fn copy(
    name: &str,
    stream: &mut Stream<'_>,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), End> {
    let total = stream.total;
    let counted = std::cell::Cell::new(stream.done);
    let mut tee = Tee { stream, counted: &counted };
    write_checked(name, &mut tee, out, part, &mut || progress(Progress { done: counted.get(), total }))
}

/// Writes what it reads; refuses what does not begin like an image before it is written. However it ends, the file is
/// as long as what was written.
fn write_checked(
    name: &str,
    reader: &mut dyn Read,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(),
) -> Result<(), End> {
    let result = write_blocks(name, reader, out, part, progress);
    // Holes at the end are no part of it yet.
    let ended = out.stream_position().and_then(|end| out.set_len(end));
    result.and(ended.map_err(at("writing", part)).map_err(End::Final))
}

fn write_blocks(
    name: &str,
    reader: &mut dyn Read,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(),
) -> Result<(), End> {
    let start = out.stream_position().map_err(at("writing", part)).map_err(End::Final)?;
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    let mut first = start == 0;
    let mut broken = None;
    loop {
        let read = match reader.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => match cause(name, &error) {
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
            classify(block).map_err(|what| End::Final(not_an_image(name, what)))?;
        }
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
        let boxed = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner = boxed.map(|error| error as &(dyn std::error::Error + 'static)).or_else(|| error.source());
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
