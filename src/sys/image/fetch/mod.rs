//! From a source to a good image in its place: over HTTP(S) or from a path, resumed, checked, unpacked.
//!
//! Everything streams: bytes from the wire are hashed, unpacked when they begin as gzip, xz or zstd does, looked
//! at, and written to `.NAME.part`; only what passed is synced, looked at as a whole, and renamed. A connection that breaks is taken up
//! with `Range` and `If-Range` (RFC 9110 §13.1.5, §14.2), so that two versions of a file are never spliced. An
//! unpacked part that a killed run left is taken up as well. Of several launchers that want one image, one fetches
//! and the others wait. Proxies and trust are as curl has them. Blocking.

mod client;
mod frames;
mod http;
mod range;
mod route;
mod save;
mod stream;
mod trust;
mod turn;
mod unpack;

use std::fs;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::format::{Access, whole};
use super::identity::Identity;
use super::overlay::wants;
use super::{Error, at, beside};
use crate::config::{Checksum, Proxies, Url};

pub use client::send;
use http::from_url;
pub use range::{Extent, Resume, validator};
pub use route::Exchange;
use save::save;
use stream::Stream;
use turn::Turn;
pub use unpack::{Packing, packing};

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub origin: Origin<'a>,
    /// Where the image goes. Its directory exists.
    pub target: &'a Path,
    /// Of the bytes as they come, before they are unpacked.
    pub checksum: Option<&'a Checksum>,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<&'a Path>,
    pub proxies: &'a Proxies,
    pub timing: Timing,
    /// Octets that may come over the wire, and that the unpacked image may have.
    pub max_bytes: Option<u64>,
    /// Of the files that are written and looked at. With keys an encrypted image is taken.
    pub access: Access<'a>,
}

/// Where the octets come from.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    Url(&'a Url),
    Path(&'a Path),
}

/// When a server counts as gone. The defaults suit the internet.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub connect: Duration,
    /// No byte for this long ends a connection.
    pub stall: Duration,
    /// Pause before the second try; doubled each time, at most 10 s.
    pub backoff: Duration,
    /// Tries in a row that get no further than those before, until it is given up.
    pub tries: u32,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(10),
            stall: seconds(30),
            backoff: Duration::from_millis(500),
            tries: 6,
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Octets of the wire.
    pub done: u64,
    pub total: Option<u64>,
}

/// Puts the image into its place. What is there already is replaced only by one that passed every check.
pub fn fetch(request: &Request<'_>, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    fetch_for(request, None, progress)
}

/// [`fetch`], for the VM's disk at this path: an image that is not the one it was made on does not get into its
/// place. While another launcher fetches it, waits, and takes what that one got.
pub fn fetch_for(
    request: &Request<'_>,
    disk: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let (access, files) = (request.access, request.access.files);
    let before = file_at(request.target);
    let _turn = Turn::take(&beside(request.target, "part.lock"), request.target, files)?;
    if file_at(request.target) != before && fetched_by_another(request.target, disk, access) {
        return Ok(());
    }
    let part = beside(request.target, "part");
    let note = beside(request.target, "part.from");
    let (name, got) = match request.origin {
        Origin::Path(path) => {
            let name = path.display().to_string();
            (name.clone(), from_path(request, path, &name, &part, progress))
        }
        Origin::Url(url) => (url.to_string(), from_url(request, url, &part, &note, progress)),
    };
    let place = || {
        check_part(&part, &name, request.target, disk, access)?;
        files.rename(&part, request.target).map_err(at("renaming to", request.target))
    };
    got.and_then(|()| {
        place().inspect_err(|_| {
            // Nothing of it is worth taking up.
            let _ = files.remove(&part);
            let _ = files.remove(&note);
        })
    })?;
    let _ = files.remove(&note);
    files.sync_dir_of(request.target).map_err(at("syncing the directory of", request.target))
}

/// Tells one file under a name from the next.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Whether what came while we waited will do.
fn fetched_by_another(target: &Path, disk: Option<&Path>, access: Access<'_>) -> bool {
    match check_part(target, &target.display().to_string(), target, disk, access) {
        Ok(()) => {
            tracing::info!(image = %target.display(), "another launcher has fetched the image");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "the image another launcher fetched is invalid, fetching it again");
            false
        }
    }
}

fn from_path(
    request: &Request<'_>,
    path: &Path,
    name: &str,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let files = request.access.files;
    let file = files.read(path).map_err(at("opening the image", path))?;
    let total = file.metadata().map_err(at("reading the size of", path))?.len();
    let mut stream = Stream::new(Box::new(BufReader::new(file)), Some(total), request.checksum);
    save(request, name, &mut stream, part, None, progress).map_err(|end| {
        let _ = files.remove(part);
        end.error(name.to_owned())
    })
}

/// The one look at all of it before it has a name.
fn check_part(
    part: &Path,
    name: &str,
    target: &Path,
    disk: Option<&Path>,
    access: Access<'_>,
) -> Result<(), Error> {
    whole(part, name, access)?;
    match disk {
        Some(disk) => wants(disk, target, &Identity::named(part, name, access)?, access),
        None => Ok(()),
    }
}

/// Why a pass ended.
enum End {
    /// The stream broke; what it had got is worth taking up.
    Broken(io::Error),
    Final(Error),
}

impl End {
    fn error(self, name: String) -> Error {
        match self {
            Self::Final(error) => error,
            Self::Broken(source) => Error::File { step: "reading", path: name.into(), source },
        }
    }
}
