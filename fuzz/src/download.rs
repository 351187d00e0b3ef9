//! What a server sends, and what stands on a volume that others write to.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use berth::config::Source;
use berth::sys::image::fetch::{Exchange, Extent, Resume, packing, send, validator};
use berth::sys::image::qcow2::Header;
use berth::sys::image::{classify, ensure_overlay};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::host::block_on;

/// What unpacked octets are bounded by here.
const MOST: u64 = 1 << 20;

fn unpacked(data: &[u8], piece: usize) -> Option<Result<Vec<u8>, std::io::Error>> {
    let packing = packing(data)?;
    let mut out = Vec::new();
    let mut reader = packing.reader(BufReader::with_capacity(piece, data)).take(MOST);
    Some(reader.read_to_end(&mut out).map(|_| out))
}

/// An archive: the same, or refused as well, however it comes in pieces.
pub fn unpack(data: &[u8]) {
    let Some(whole) = unpacked(data, 64 << 10) else { return };
    let pieces = unpacked(data, 3).expect("packed");
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert!(whole == pieces),
        (whole, pieces) => assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} {pieces:?}"),
    }
}

/// The head of a file: an image's, or what it is instead in words that can stand in a log.
pub fn image_head(data: &[u8]) {
    if let Err(what) = classify(data) {
        assert!(
            !what.is_empty() && what.len() <= 400 && !what.contains(char::is_control),
            "{what:?}"
        );
    }
}

/// A server: takes what is written, answers with these octets.
struct Server(Vec<u8>, usize);

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Self(data, read) = &mut *self;
        let octets = (data.len() - *read).min(buffer.remaining());
        buffer.put_slice(&data[*read..*read + octets]);
        *read += octets;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn asked() -> Exchange {
    Request::builder()
        .uri("/disk.raw")
        .header("host", "server")
        .body(Empty::new())
        .expect("a request")
}

/// What was kept of an earlier answer, by one octet.
fn resume(octet: u8) -> Resume {
    let validator = match octet >> 6 {
        0 => None,
        1 | 2 => Some("\"one\"".to_owned()),
        _ => Some("Tue, 03 Nov 2026 10:00:00 GMT".to_owned()),
    };
    let total = (octet & 0x20 != 0).then_some(20);
    Resume { have: u64::from(octet & 0x1f), validator, total }
}

/// The whole of an answer: no more comes out than went in, a part is the one that was asked for, and what is noted of
/// it is one line.
pub fn http(data: &[u8]) {
    let Some((&first, answer)) = data.split_first() else { return };
    let resume = resume(first);
    block_on(async {
        let Ok(response) = send(Server(answer.to_vec(), 0), asked()).await else { return };
        let (head, body) = response.into_parts();
        if let Some(validator) = validator(&head.headers) {
            assert!(!validator.contains(['\r', '\n']) && validator.len() <= answer.len());
        }
        if let Some(location) = head.headers.get("location").and_then(|value| value.to_str().ok())
            && let Ok(Source::Url(url)) = Source::parse("http://server/disk.raw")
            && let Ok(next) = url.redirect(location)
        {
            assert!(next.origin_form().starts_with('/') && !next.host().is_empty());
        }
        match head.status.as_u16() {
            206 => {
                if let Ok(Extent { start, end, total }) = Extent::part(&head.headers, &resume) {
                    let (end, total) = (end.expect("an end"), total.expect("a length"));
                    assert!(start == resume.have && start < end && end <= total);
                    assert!(resume.total.is_none_or(|before| before == total));
                }
            }
            416 => {
                if let Some(extent) = Extent::nothing_left(&head.headers, &resume) {
                    let all = Some(resume.have);
                    assert_eq!((extent.start, extent.end, extent.total), (resume.have, all, all));
                }
            }
            _ => assert_eq!(Extent::whole(&head.headers).start, 0),
        }
        if let Ok(body) = body.collect().await {
            assert!(body.to_bytes().len() <= answer.len());
        }
    });
}

/// What stands beside a part on a volume: taken up with what can be asked for, and never beyond the whole.
pub fn resume_note(data: &[u8]) {
    let Ok(note) = std::str::from_utf8(data) else { return };
    for before in [None, Some(7)] {
        let Resume { have, validator, total } =
            Resume::noted(note, "fingerprint", "boot", 5, before);
        let Some(validator) = validator else {
            assert!(have == 0 && total.is_none());
            continue;
        };
        assert!(
            have == 5
                && total.is_none_or(|total| total >= have)
                && before.is_none_or(|_| total == before)
        );
        assert!(note.starts_with("fingerprint") && note.contains("boot"));
        assert!(HeaderValue::from_str(&validator).is_ok() && !validator.is_empty());
        let length = total.map(|total| format!("{total}\n")).unwrap_or_default();
        let again = format!("fingerprint\n{validator}\nboot\n{length}");
        let again = Resume::noted(&again, "fingerprint", "boot", 5, before);
        assert_eq!((again.validator, again.total), (Some(validator), total));
    }
}

/// A disk that was made once, in a directory of its own.
struct Disk {
    dir: tempfile::TempDir,
    /// Where there is something, and what.
    parts: Vec<(u64, Vec<u8>)>,
    length: u64,
}

impl Disk {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.expect("a directory");
        let mut base = vec![0; 4096];
        base[510..512].copy_from_slice(b"\x55\xaa");
        fs::write(dir.path().join("base.raw"), base).expect("a base");
        let disk = dir.path().join("disk.qcow2");
        ensure_overlay(&disk, &dir.path().join("base.raw"), Some(1 << 30)).expect("a disk");
        let octets = fs::read(&disk).expect("a disk");
        let parts =
            octets.chunks(512).enumerate().filter(|(_, part)| part.iter().any(|octet| *octet != 0));
        let parts = parts.map(|(at, part)| (at as u64 * 512, part.to_vec())).collect();
        Self { dir, parts, length: octets.len() as u64 }
    }

    /// As it was made, but for these octets.
    fn spoil(&self, changes: &[Change<'_>]) -> PathBuf {
        let path = self.dir.path().join("disk.qcow2");
        let file = File::options().write(true).truncate(true).open(&path).expect("a disk");
        file.set_len(self.length).expect("room");
        for (at, octets) in &self.parts {
            file.write_all_at(octets, *at).expect("room");
        }
        for change in changes {
            match change {
                Change::Octets(at, octets) => file.write_all_at(octets, *at).expect("room"),
                Change::Length(length) => file.set_len(*length).expect("room"),
            }
        }
        path
    }

    /// Without what was put aside.
    fn tidy(&self) {
        for entry in fs::read_dir(self.dir.path()).expect("a directory").flatten() {
            if !["base.raw", "disk.qcow2"].iter().any(|name| entry.file_name() == *name) {
                fs::remove_file(entry.path()).expect("a file");
            }
        }
    }
}

enum Change<'a> {
    Octets(u64, &'a [u8]),
    Length(u64),
}

/// Records of a place (three octets), a length and as many octets; length 255 cuts the file there.
fn changes(mut data: &[u8]) -> Vec<Change<'_>> {
    let mut found = Vec::new();
    while let [a, b, c, length, rest @ ..] = data {
        let at = u64::from(u32::from_be_bytes([0, *a, *b, *c]) % (1 << 20));
        if *length == 255 {
            found.push(Change::Length(at));
            data = rest;
        } else {
            let (octets, rest) = rest.split_at(rest.len().min(usize::from(*length)));
            found.push(Change::Octets(at, octets));
            data = rest;
        }
    }
    found
}

thread_local! {
    static DISK: RefCell<Disk> = RefCell::new(Disk::new());
}

/// The VM's disk, as somebody else left it, and the size it is wanted with: taken as it is and the same the second time,
/// or refused; what was taken can be read, and has not grown beyond its tables.
pub fn overlay(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    // From half of what it has to 256 TiB.
    let wanted = (first != 0).then(|| 1 << (29 + u32::from(first) % 20));
    DISK.with_borrow(|disk| {
        let base = disk.dir.path().join("base.raw");
        let path = disk.spoil(&changes(data));
        // Not its length: it has holes, as far as its tables say that something is there.
        let octets = |path| fs::metadata(path).expect("a disk").blocks() * 512;
        let before = octets(&path);
        let Ok(first) = ensure_overlay(&path, &base, wanted) else { return };
        if first.created {
            disk.tidy();
        }
        let header = Header::read(&File::open(&path).expect("a disk")).expect("a header");
        assert_eq!(header.size, first.size_bytes);
        assert!(first.size_bytes >= wanted.unwrap_or(0));
        assert!(octets(&path) <= before + (64 << 20), "{}", octets(&path));
        let second = ensure_overlay(&path, &base, wanted).expect("a disk that was taken");
        assert_eq!((second.size_bytes, second.base), (first.size_bytes, first.base));
    });
}
