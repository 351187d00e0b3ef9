//! From the stream into the part: unpacked, checked, synced.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use super::super::create;
use super::http::Keep;
use super::stream::Stream;
use super::unpack::{copy, packing, unpack};
use super::{End, Error, Progress, Request, at};

/// Streams into the part: looks at the beginning, unpacks, writes, compares the digest, syncs.
pub(super) fn save(
    request: &Request<'_>,
    name: &str,
    stream: &mut Stream<'_>,
    part: &Path,
    keep: Option<&Keep<'_>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), End> {
    let resumed = stream.done;
    let mut out = if resumed > 0 {
        append(part, resumed)?
    } else {
        create(part, 0o644).map_err(at("creating", part)).map_err(End::Final)?
    };
    if resumed == 0 {
        let packing = packing(stream.peek().map_err(End::Broken)?);
        // Only bytes that are kept as they came can be taken up later.
        match keep {
            Some(Keep { url, note, boot, validator: Some(validator), total }) if packing.is_none() => {
                let total = total.map(|total| format!("{total}\n")).unwrap_or_default();
                fs::write(note, format!("{url}\n{validator}\n{boot}\n{total}"))
                    .map_err(at("writing", note))
                    .map_err(End::Final)?;
            }
            Some(Keep { note, .. }) => {
                let _ = fs::remove_file(note);
            }
            None => {}
        }
        match packing {
            None => copy(name, stream, &mut out, part, progress)?,
            Some(packing) => unpack(name, packing, stream, &mut out, part, progress)?,
        }
    } else {
        copy(name, stream, &mut out, part, progress)?;
    }
    // Each reader goes to the end of its stream, and so to the end of the wire.
    if io::copy(stream, &mut io::sink()).map_err(End::Broken)? > 0 {
        let what = "an archive with something after its end".to_owned();
        return Err(End::Final(Error::NotAnImage { name: name.to_owned(), what }));
    }
    let verified = verify(request, name, stream);
    verified.and_then(|()| out.sync_all().map_err(at("syncing", part))).map_err(End::Final)
}

fn append(part: &Path, have: u64) -> Result<File, End> {
    let open = || -> io::Result<File> {
        let mut file = fs::OpenOptions::new().read(true).write(true).open(part)?;
        file.set_len(have)?;
        file.seek(SeekFrom::End(0))?;
        Ok(file)
    };
    open().map_err(at("opening", part)).map_err(End::Final)
}

fn verify(request: &Request<'_>, name: &str, stream: &mut Stream<'_>) -> Result<(), Error> {
    let (Some(wanted), Some(found)) = (request.checksum, stream.digest()) else { return Ok(()) };
    if found == *wanted {
        return Ok(());
    }
    Err(Error::Checksum { origin: name.to_owned(), wanted: wanted.to_string(), found: found.to_string() })
}
