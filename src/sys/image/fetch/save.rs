//! From the stream into the part: unpacked, checked, synced.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::super::{Beneath, create};
use super::stream::Stream;
use super::unpack::{copy, packing, unpack, within};
use super::{End, Error, Progress, Request, at};

/// Where a part came from: written before its first byte.
pub(super) struct Keep<'a> {
    /// Its fingerprint: what is on a volume is read by others.
    pub url: &'a str,
    pub note: &'a Path,
    pub boot: &'a str,
    pub validator: Option<&'a str>,
    /// The length of the whole, so that the next start holds the server to it.
    pub total: Option<u64>,
}

/// Streams into the part: looks at the beginning, unpacks, writes, compares the digest, syncs.
pub(super) fn save(
    request: &Request<'_>,
    name: &str,
    stream: &mut Stream<'_>,
    part: &Path,
    keep: Option<&Keep<'_>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), End> {
    let files = request.access.files;
    let resumed = stream.done;
    // What is told is believed, and need not be fetched to be refused.
    within(name, stream.total.unwrap_or(0), request.max_bytes).map_err(End::Final)?;
    let mut out = if resumed > 0 {
        append(part, resumed, files)?
    } else {
        create(part, 0o644, files).map_err(at("creating", part)).map_err(End::Final)?
    };
    if resumed == 0 {
        let packing = packing(stream.peek().map_err(End::Broken)?);
        // Only bytes that are kept as they came can be taken up later.
        match keep {
            Some(Keep { url, note, boot, validator: Some(validator), total })
                if packing.is_none() =>
            {
                let total = total.map(|total| format!("{total}\n")).unwrap_or_default();
                let text = format!("{url}\n{validator}\n{boot}\n{total}");
                create(note, 0o644, files)
                    .and_then(|mut file| file.write_all(text.as_bytes()))
                    .map_err(at("writing", note))
                    .map_err(End::Final)?;
            }
            Some(Keep { note, .. }) => {
                let _ = files.remove(note);
            }
            None => {}
        }
        match packing {
            None => copy(request, name, stream, &mut out, part, progress)?,
            Some(packing) => unpack(request, name, packing, stream, &mut out, part, progress)?,
        }
    } else {
        copy(request, name, stream, &mut out, part, progress)?;
    }
    // Each reader goes to the end of its stream, and so to the end of the wire.
    if stream.read(&mut [0; 1]).map_err(End::Broken)? > 0 {
        let what = "an archive with something after its end".to_owned();
        return Err(End::Final(Error::NotAnImage { name: name.to_owned(), what }));
    }
    let verified = verify(request, name, stream);
    verified.and_then(|()| out.sync_all().map_err(at("syncing", part))).map_err(End::Final)
}

fn append(part: &Path, have: u64, files: &Beneath) -> Result<File, End> {
    let open = || -> io::Result<File> {
        let mut file = files.write(part)?;
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
    Err(Error::Checksum {
        origin: name.to_owned(),
        wanted: wanted.to_string(),
        found: found.to_string(),
    })
}
