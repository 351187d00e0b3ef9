//! From a source to a good image in its place: over HTTP(S) or from a path, resumed, checked, unpacked.
//!
//! Everything streams: bytes from the wire are hashed, unpacked when they begin as gzip, xz or zstd does, looked
//! at, and written to `.NAME.part`; only what passed is synced and renamed. A connection that breaks is taken up
//! with `Range` and `If-Range` (RFC 9110 §13.1.5, §14.2), so that two versions of a file are never spliced. An
//! unpacked part that a killed run left is taken up as well. Blocking.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256, Sha512};
use ureq::http::{Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::format::{HEAD, classify};
use super::{Error, at, beside, create, sync_dir_of};
use crate::config::Checksum;

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
    pub timing: Timing,
}

#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// http or https.
    Url(&'a str),
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
    /// Tries without a single new byte before it is given up.
    pub tries: u32,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), stall: seconds(30), backoff: Duration::from_millis(500), tries: 6 }
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
    let part = beside(request.target, "part");
    let note = beside(request.target, "part.from");
    match request.origin {
        Origin::Path(path) => {
            let file = File::open(path).map_err(at("opening the image", path))?;
            let total = file.metadata().map_err(at("reading the size of", path))?.len();
            let mut stream = Stream::new(Box::new(BufReader::new(file)), Some(total), request.checksum);
            save(request, &path.display().to_string(), &mut stream, &part, None, progress)
                .map_err(|end| end.error(path.display().to_string()))?;
        }
        Origin::Url(url) => from_url(request, url, &part, &note, progress)?,
    }
    let _ = fs::remove_file(&note);
    fs::rename(&part, request.target).map_err(at("renaming to", request.target))?;
    sync_dir_of(request.target).map_err(at("syncing the directory of", request.target))
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

fn from_url(
    request: &Request<'_>,
    url: &str,
    part: &Path,
    note: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let agent = agent(request)?;
    let mut resume = Resume::read(url, part, note);
    let mut tries = 0;
    loop {
        let result = pass(request, url, &agent, part, note, &resume, progress);
        let (got, last) = match result {
            Ok(()) => return Ok(()),
            Err((_, End::Final(error))) => {
                // Nothing of a bad file is worth keeping; a full disk needs the room.
                let _ = fs::remove_file(part);
                let _ = fs::remove_file(note);
                return Err(error);
            }
            Err((got, End::Broken(error))) => (got, error.to_string()),
        };
        tries = if got > 0 { 1 } else { tries + 1 };
        if tries >= request.timing.tries {
            return Err(Error::Unreachable { url: url.to_owned(), tries, last });
        }
        tracing::warn!(url, got, error = %last, "download interrupted, trying again");
        std::thread::sleep(pause(request.timing.backoff, tries));
        resume = Resume::read(url, part, note);
    }
}

fn pause(first: Duration, tries: u32) -> Duration {
    first.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(Duration::from_secs(10))
}

/// What a part may be taken up from: bytes as they came, of a version with a name.
struct Resume {
    have: u64,
    validator: Option<String>,
}

impl Resume {
    const NOTHING: Self = Self { have: 0, validator: None };

    fn read(url: &str, part: &Path, note: &Path) -> Self {
        let text = fs::read_to_string(note).unwrap_or_default();
        let mut lines = text.lines();
        let same = lines.next() == Some(url);
        let validator = lines.next().filter(|line| same && !line.is_empty()).map(str::to_owned);
        match fs::metadata(part) {
            Ok(metadata) if validator.is_some() => Self { have: metadata.len(), validator },
            _ => Self::NOTHING,
        }
    }
}

/// One connection. On failure: how many new octets it brought.
fn pass(
    request: &Request<'_>,
    url: &str,
    agent: &Agent,
    part: &Path,
    note: &Path,
    resume: &Resume,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), (u64, End)> {
    let nothing = |end| (0, end);
    let response = ask(agent, url, resume).map_err(nothing)?;
    let resumed = response.status() == 206;
    let start = if resumed { resume.have } else { 0 };
    if resumed && content_range_start(&response) != Some(start) {
        let _ = fs::remove_file(note);
        return Err(nothing(End::Broken(io::Error::other("the server answered with another range"))));
    }
    let total = length(&response).map(|length| start + length);
    let validator = validator(&response);
    let body = response.into_body().into_reader();
    let mut stream = Stream::new(Box::new(body), total, request.checksum);
    let keep = Keep { url, note, validator: validator.as_deref() };
    let result = if resumed {
        stream
            .replay(part, start)
            .map_err(End::Final)
            .and_then(|()| save(request, url, &mut stream, part, Some(&keep), progress))
    } else {
        save(request, url, &mut stream, part, Some(&keep), progress)
    };
    let got = stream.done.saturating_sub(start);
    result.map_err(|end| (got, end))
}

fn ask(agent: &Agent, url: &str, resume: &Resume) -> Result<Response<Body>, End> {
    let mut call = agent.get(url);
    if let (Some(validator), 1..) = (&resume.validator, resume.have) {
        call =
            call.header(header::RANGE, format!("bytes={}-", resume.have)).header(header::IF_RANGE, validator);
    }
    let response = call.call().map_err(|error| End::Broken(io::Error::other(error)))?;
    match response.status().as_u16() {
        200 | 206 => Ok(response),
        // The part is as long as the file or longer: it is another file, or whole already; read it anew.
        416 => {
            let again = agent.get(url).call().map_err(|error| End::Broken(io::Error::other(error)))?;
            if again.status() == 200 { Ok(again) } else { Err(bad_status(url, again.status().as_u16())) }
        }
        status => Err(bad_status(url, status)),
    }
}

/// 408, 429 and 5xx pass; the others are answers.
fn bad_status(url: &str, status: u16) -> End {
    match status {
        408 | 429 | 500..=599 => End::Broken(io::Error::other(format!("the server answered {status}"))),
        _ => End::Final(Error::Status { url: url.to_owned(), status }),
    }
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn length(response: &Response<Body>) -> Option<u64> {
    text(response, header::CONTENT_LENGTH)?.parse().ok()
}

fn content_range_start(response: &Response<Body>) -> Option<u64> {
    text(response, header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// A strong ETag, else the date. A weak one does not promise the same bytes (RFC 9110 §13.1.5).
fn validator(response: &Response<Body>) -> Option<String> {
    let etag = text(response, header::ETAG).filter(|etag| etag.starts_with('"'));
    etag.or_else(|| text(response, header::LAST_MODIFIED)).map(str::to_owned)
}

fn agent(request: &Request<'_>) -> Result<Agent, Error> {
    let timing = request.timing;
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls_graviola::default_provider()))
        .root_certs(roots(request.ca_file)?)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(timing.connect))
        .timeout_recv_response(Some(timing.stall))
        .timeout_per_read(Some(timing.stall))
        .build();
    Ok(config.new_agent())
}

/// The file given, else the system's bundle, else Mozilla's list in the binary.
fn roots(ca_file: Option<&Path>) -> Result<RootCerts, Error> {
    let system = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let Some(path) = ca_file.or_else(|| system.exists().then_some(system)) else {
        return Ok(RootCerts::WebPki);
    };
    let certificates: Vec<Certificate<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(|_| Error::Certificates(path.to_owned()))?
        .filter_map(Result::ok)
        .map(|der| Certificate::from_der(&der).to_owned())
        .collect();
    if certificates.is_empty() { Err(Error::Certificates(path.to_owned())) } else { Ok(certificates.into()) }
}

/// Where a part came from: written before its first byte.
struct Keep<'a> {
    url: &'a str,
    note: &'a Path,
    validator: Option<&'a str>,
}

/// The bytes of the wire, hashed as they are read; an early end is an error.
struct Stream<'a> {
    inner: Box<dyn Read + 'a>,
    hash: Option<Hash>,
    done: u64,
    total: Option<u64>,
    /// The first bytes, to tell what they are.
    head: Vec<u8>,
    served: usize,
}

enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    fn new(wanted: &Checksum) -> Self {
        match wanted {
            Checksum::Sha256(_) => Self::Sha256(Sha256::new()),
            Checksum::Sha512(_) => Self::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hash) => Checksum::Sha256(hash.finalize().to_vec()),
            Self::Sha512(hash) => Checksum::Sha512(hash.finalize().to_vec()),
        }
    }
}

impl<'a> Stream<'a> {
    fn new(inner: Box<dyn Read + 'a>, total: Option<u64>, checksum: Option<&Checksum>) -> Self {
        Self { inner, hash: checksum.map(Hash::new), done: 0, total, head: Vec::new(), served: 0 }
    }

    /// Takes a part in as if it had just been read.
    fn replay(&mut self, part: &Path, bytes: u64) -> Result<(), Error> {
        let mut file = File::open(part).map_err(at("opening", part))?.take(bytes);
        let mut buffer = vec![0; HEAD];
        loop {
            match file.read(&mut buffer).map_err(at("reading", part))? {
                0 => return Ok(()),
                read => self.count(buffer.get(..read).unwrap_or_default()),
            }
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.done += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
    }

    /// Reads the beginning without consuming it.
    fn peek(&mut self) -> io::Result<&[u8]> {
        let mut buffer = vec![0; HEAD];
        while self.head.len() < HEAD {
            let want = HEAD - self.head.len();
            match self.fill(buffer.get_mut(..want).unwrap_or_default())? {
                0 => break,
                read => self.head.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
        Ok(&self.head)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(buffer.get(..read).unwrap_or_default());
        match self.total {
            Some(total) if read == 0 && self.done < total => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("ended after {} of {total} octets", self.done),
            )),
            _ => Ok(read),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(waiting) = self.head.get(self.served..).filter(|waiting| !waiting.is_empty()) {
            let mut waiting = waiting;
            let read = waiting.read(buffer)?;
            self.served += read;
            return Ok(read);
        }
        self.fill(buffer)
    }
}

/// Streams into the part: looks at the beginning, unpacks, writes, compares the digest, syncs.
fn save(
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
            Some(Keep { url, note, validator: Some(validator) }) if packing.is_none() => {
                fs::write(note, format!("{url}\n{validator}\n"))
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
    io::copy(stream, &mut io::sink()).map_err(End::Broken)?;
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
    let (Some(wanted), Some(hash)) = (request.checksum, stream.hash.take()) else {
        return Ok(());
    };
    let found = hash.finish();
    if found == *wanted {
        return Ok(());
    }
    Err(Error::Checksum { origin: name.to_owned(), wanted: wanted.to_string(), found: found.to_string() })
}

#[derive(Clone, Copy)]
enum Packing {
    Gzip,
    Xz,
    Zstd,
}

/// By the first bytes: a name may lie, and a server may pack on its own.
fn packing(head: &[u8]) -> Option<Packing> {
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

fn unpack(
    name: &str,
    packing: Packing,
    stream: &mut Stream<'_>,
    out: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), End> {
    let total = stream.total;
    let counted = std::cell::Cell::new(stream.done);
    let tee = Tee { stream, counted: &counted };
    let mut reader: Box<dyn Read + '_> =
        match packing {
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(tee)),
            Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(tee, true, UNPACK_KIB)),
            Packing::Zstd => Box::new(ruzstd::decoding::StreamingDecoder::new(tee).map_err(|error| {
                End::Final(not_an_image(name, format!("a damaged zstd stream ({error})")))
            })?),
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

fn copy(
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

/// Writes what it reads; refuses what does not begin like an image before it is written.
fn write_checked(
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
    loop {
        let read = match reader.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(cause(name, &error)),
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
        out.write_all(block).map_err(at("writing", part)).map_err(End::Final)?;
        progress();
        filled = 0;
        if read == 0 {
            return Ok(());
        }
    }
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
    End::Final(not_an_image(name, format!("a damaged archive ({error})")))
}

fn not_an_image(name: &str, what: String) -> Error {
    Error::NotAnImage { name: name.to_owned(), what }
}
