//! Images under a bad network and on bad disks: a real server that misbehaves, a real small file system, and
//! `qemu-img` as the judge of what was made.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{PATIENCE, checked, find, run, until};
use berth::config::{Checksum, Proxies, Url};
use berth::sys::beneath::ALL_TRUSTED;
use berth::sys::image::{
    Access, Error, Format, Origin, Request, Timing, ensure_overlay, fetch, inspect, lock,
    wait_released, write_atomically,
};
use sha2::{Digest, Sha256, Sha512};

/// What the server does with one request; the last one is done again for every further request.
#[derive(Clone)]
enum Act {
    /// 200, or 206 from where the client asks, as a good server answers.
    Whole,
    /// Like `Whole`, but the connection ends after so many octets of the body.
    CutAfter(usize),
    /// Like `Whole`, but nothing more comes after so many octets.
    StallAfter(usize),
    /// 200 and everything, whatever the client asks for.
    NoRange,
    Status(u16),
    /// 302 to this path.
    Redirect(&'static str),
    /// Chunked, without a length.
    Chunked,
}

struct Server {
    url: Url,
    seen: Arc<Mutex<Vec<String>>>,
    etag: Arc<Mutex<Option<String>>>,
}

impl Server {
    fn new(body: &[u8], acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            Url::parse(&format!("http://{}/image.qcow2", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let etag = Arc::new(Mutex::new(Some("\"one\"".to_owned())));
        let (acts, body, requests, tag) =
            (acts.to_vec(), body.to_vec(), seen.clone(), etag.clone());
        // Ends with the test process; each test has a process of its own.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (acts, body, requests, tag) =
                    (acts.clone(), body.clone(), requests.clone(), tag.clone());
                std::thread::spawn(move || {
                    let _ = answer(stream.unwrap(), &acts, &body, &requests, &tag);
                });
            }
        });
        Self { url, seen, etag }
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    acts: &[Act],
    body: &[u8],
    requests: &Mutex<Vec<String>>,
    etag: &Mutex<Option<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(head.to_ascii_lowercase());
            requests.len() - 1
        };
        let head = head.to_ascii_lowercase();
        let act = acts.get(number).or(acts.last()).unwrap().clone();
        let tag = etag.lock().unwrap().clone();
        let validator = tag.as_ref().map(|tag| format!("etag: {tag}\r\n")).unwrap_or_default();
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let same = header("if-range:").is_none_or(|wanted| Some(wanted) == tag.as_deref());
        let start = header("range: bytes=")
            .and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
        let from = match (&act, start) {
            (Act::Whole | Act::CutAfter(_) | Act::StallAfter(_), Some(start)) if same => start,
            _ => 0,
        };
        let part = &body[from.min(body.len())..];
        match act {
            Act::Status(code) => {
                write!(stream, "HTTP/1.1 {code} Nope\r\ncontent-length: 4\r\n\r\nnope")?;
                continue;
            }
            Act::Redirect(to) => {
                write!(
                    stream,
                    "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
                )?;
                continue;
            }
            Act::Chunked => {
                write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                for chunk in part.chunks(1000) {
                    write!(stream, "{:x}\r\n", chunk.len())?;
                    stream.write_all(chunk)?;
                    stream.write_all(b"\r\n")?;
                }
                stream.write_all(b"0\r\n\r\n")?;
                continue;
            }
            _ if from > 0 => write!(
                stream,
                "HTTP/1.1 206 Partial\r\n{validator}content-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\n\r\n",
                part.len(),
                body.len() - 1,
                body.len()
            )?,
            _ => write!(
                stream,
                "HTTP/1.1 200 OK\r\n{validator}content-length: {}\r\n\r\n",
                part.len()
            )?,
        }
        match act {
            Act::CutAfter(octets) => {
                stream.write_all(&part[..octets.min(part.len())])?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            Act::StallAfter(octets) => {
                stream.write_all(&part[..octets.min(part.len())])?;
                std::thread::sleep(Duration::from_secs(20));
                return Ok(());
            }
            _ => stream.write_all(part)?,
        }
    }
}

/// Impatient: tests do not wait as users do.
const QUICK: Timing = Timing {
    connect: Duration::from_secs(2),
    stall: Duration::from_millis(400),
    backoff: Duration::from_millis(5),
    tries: 4,
};

static DIRECT: Proxies = Proxies::NONE;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn get(&self, origin: Origin<'_>, checksum: Option<&Checksum>) -> Result<(), Error> {
        let target = self.path("base.qcow2");
        fetch(
            &Request {
                origin,
                target: &target,
                checksum,
                ca_file: None,
                proxies: &DIRECT,
                timing: QUICK,
                max_bytes: None,
                access: Access::ALL,
            },
            &mut |_| {},
        )
    }

    fn url(&self, server: &Server) -> Result<(), Error> {
        self.get(Origin::Url(&server.url), None)
    }

    fn image(&self) -> Vec<u8> {
        std::fs::read(self.path("base.qcow2")).unwrap()
    }

    /// Names in the directory: nothing may be left beside the image.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A good image is there already; nothing that goes wrong may touch it.
    fn with_good_image() -> Self {
        let place = Self::new();
        std::fs::write(place.path("base.qcow2"), b"the good one").unwrap();
        place
    }

    fn assert_untouched(&self) {
        assert_eq!(self.image(), b"the good one");
        assert_eq!(self.names(), ["base.qcow2"]);
    }
}

/// A real qcow2 with something in it.
fn qcow2() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i.qcow2").display().to_string();
    run("qemu-img", &["create", "-q", "-f", "qcow2", &path, "8M"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x5a 0 1M", &path]);
    std::fs::read(path).unwrap()
}

fn packed(program: &str, body: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&body));
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    out
}

#[test]
fn a_whole_image_arrives() {
    let (place, body) = (Place::new(), qcow2());
    let server = Server::new(&body, &[Act::Whole]);
    let mut last = 0;
    let target = place.path("base.qcow2");
    let request = Request {
        origin: Origin::Url(&server.url),
        target: &target,
        checksum: None,
        ca_file: None,
        proxies: &DIRECT,
        timing: QUICK,
        max_bytes: None,
        access: Access::ALL,
    };
    fetch(&request, &mut |progress| {
        assert_eq!(progress.total, Some(body.len() as u64));
        last = progress.done;
    })
    .unwrap();
    assert_eq!(last, body.len() as u64);
    assert!(place.image() == body);
    assert_eq!(place.names(), ["base.qcow2"]);
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    for act in [Act::CutAfter(300_000), Act::StallAfter(300_000)] {
        let (place, body) = (Place::new(), qcow2());
        let server = Server::new(&body, &[act, Act::CutAfter(200_000), Act::Whole]);
        let digest = Checksum::Sha256(Sha256::digest(&body).to_vec());
        place.get(Origin::Url(&server.url), Some(&digest)).unwrap();
        assert!(place.image() == body);
        let requests = server.requests();
        assert_eq!(requests.len(), 3);
        assert!(!requests[0].contains("range:"));
        for later in &requests[1..] {
            assert!(
                later.contains("range: bytes=") && later.contains("if-range: \"one\""),
                "{later}"
            );
        }
        assert_eq!(place.names(), ["base.qcow2"]);
    }
}

#[test]
fn a_server_that_knows_no_ranges_is_read_anew() {
    let (place, body) = (Place::new(), qcow2());
    let server = Server::new(&body, &[Act::CutAfter(300_000), Act::NoRange]);
    let digest = Checksum::Sha512(Sha512::digest(&body).to_vec());
    place.get(Origin::Url(&server.url), Some(&digest)).unwrap();
    assert!(place.image() == body);
}

/// Two versions of a file are never spliced.
#[test]
fn a_file_that_changed_meanwhile_is_read_anew() {
    let (place, body) = (Place::new(), qcow2());
    let server = Server::new(&body, &[Act::CutAfter(300_000), Act::Whole]);
    let etag = server.etag.clone();
    let requests = server.seen.clone();
    std::thread::spawn(move || {
        while requests.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        *etag.lock().unwrap() = Some("\"two\"".into());
    });
    place.url(&server).unwrap();
    assert!(place.image() == body);
}

#[test]
fn without_a_validator_nothing_is_taken_up() {
    let (place, body) = (Place::new(), qcow2());
    let server = Server::new(&body, &[Act::CutAfter(300_000), Act::Whole]);
    *server.etag.lock().unwrap() = None;
    place.url(&server).unwrap();
    assert!(place.image() == body);
    assert!(server.requests().iter().all(|request| !request.contains("range:")));
}

#[test]
fn an_answer_that_is_no_is_believed_at_once() {
    for status in [404, 403, 410] {
        let place = Place::with_good_image();
        let server = Server::new(b"", &[Act::Status(status)]);
        let error = place.url(&server).unwrap_err();
        assert!(matches!(error, Error::Status { status: found, .. } if found == status), "{error}");
        assert!(error.to_string().contains("IMG_SOURCE"), "{error}");
        assert_eq!(server.requests().len(), 1);
        place.assert_untouched();
    }
}

#[test]
fn a_server_in_trouble_is_asked_again_but_not_for_ever() {
    let (place, body) = (Place::new(), qcow2());
    let server = Server::new(&body, &[Act::Status(500), Act::Status(503), Act::Whole]);
    place.url(&server).unwrap();
    assert!(place.image() == body);

    let place = Place::with_good_image();
    let server = Server::new(&body, &[Act::Status(503)]);
    let error = place.url(&server).unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { tries: 4, .. }) && error.to_string().contains("503"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 4);
    place.assert_untouched();
}

#[test]
fn nobody_there_is_told_after_a_few_tries() {
    let place = Place::with_good_image();
    let error = place
        .get(Origin::Url(&Url::parse("http://127.0.0.1:9/x.qcow2").unwrap()), None)
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { tries: 4, .. }), "{error}");
    place.assert_untouched();
}

#[test]
fn what_is_no_image_is_refused_by_its_kind() {
    for (body, word) in [
        (&b"<!DOCTYPE html><html><title>Sign in</title></html>"[..], "a web page"),
        (b"", "empty"),
        (b"{\"error\": \"gone\"}", "is text"),
        (&[0; 100_000], "neither"),
        (b"KDMV0000", "VMDK"),
    ] {
        let place = Place::with_good_image();
        let server = Server::new(body, &[Act::Whole]);
        let error = place.url(&server).unwrap_err();
        assert!(
            matches!(error, Error::NotAnImage { .. }) && error.to_string().contains(word),
            "{error}"
        );
        assert_eq!(server.requests().len(), 1);
        place.assert_untouched();
    }
}

#[test]
fn a_wrong_digest_is_refused() {
    let body = qcow2();
    for digest in [Checksum::Sha256(vec![7; 32]), Checksum::Sha512(vec![7; 64])] {
        let place = Place::with_good_image();
        let server = Server::new(&body, &[Act::Whole]);
        let error = place.get(Origin::Url(&server.url), Some(&digest)).unwrap_err();
        assert!(
            matches!(error, Error::Checksum { .. }) && error.to_string().contains("IMG_SHA256"),
            "{error}"
        );
        place.assert_untouched();
    }
}

#[test]
fn packed_images_are_unpacked_on_the_way() {
    let body = qcow2();
    for program in ["gzip", "xz", "zstd"] {
        let (place, packed) = (Place::new(), packed(program, &body));
        let server = Server::new(&packed, &[Act::CutAfter(packed.len() / 2), Act::Whole]);
        let digest = Checksum::Sha256(Sha256::digest(&packed).to_vec());
        place
            .get(Origin::Url(&server.url), Some(&digest))
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(place.image() == body, "{program}");
        assert_eq!(place.names(), ["base.qcow2"]);
    }
}

#[test]
fn damaged_archives_and_pages_in_archives_are_refused() {
    let body = qcow2();
    for program in ["gzip", "xz", "zstd"] {
        let mut damaged = packed(program, &body);
        let middle = damaged.len() / 2;
        for byte in &mut damaged[middle..middle + 64] {
            *byte ^= 0xa5;
        }
        let page = packed(program, b"<html>not here</html>");
        for body in [damaged, page] {
            let place = Place::with_good_image();
            let server = Server::new(&body, &[Act::Whole]);
            let error = place.url(&server).unwrap_err();
            assert!(matches!(error, Error::NotAnImage { .. }), "{program}: {error}");
            place.assert_untouched();
        }
    }
}

#[test]
fn redirects_and_chunks_are_followed() {
    let (place, body) = (Place::new(), qcow2());
    let server = Server::new(&body, &[Act::Redirect("/other"), Act::Chunked]);
    place.url(&server).unwrap();
    assert!(place.image() == body);
    assert!(server.requests()[1].starts_with("get /other "));

    let server = Server::new(&body, &[Act::Redirect("/again")]);
    let place = Place::with_good_image();
    assert!(place.url(&server).is_err());
    place.assert_untouched();
}

#[test]
fn a_path_is_a_source_too() {
    let (place, body) = (Place::new(), qcow2());
    let source = place.path("source.gz");
    std::fs::write(&source, packed("gzip", &body)).unwrap();
    place
        .get(
            Origin::Path(&source),
            Some(&Checksum::Sha256(Sha256::digest(std::fs::read(&source).unwrap()).to_vec())),
        )
        .unwrap();
    assert!(place.image() == body);
    assert!(matches!(
        place.get(Origin::Path(&place.path("absent")), None),
        Err(Error::File { .. })
    ));
}

/// A file system of its own, small enough to be full.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(dir: &Path, size: &str) -> Self {
        let path = dir.join("small");
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &path.display().to_string()]);
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_on_it() {
    let (dir, body) = (tempfile::tempdir().unwrap(), qcow2());
    let small = Tmpfs::new(dir.path(), "512k");
    let target = small.0.join("base.qcow2");
    let server = Server::new(&body, &[Act::Whole]);
    let request = Request {
        origin: Origin::Url(&server.url),
        target: &target,
        checksum: None,
        ca_file: None,
        proxies: &DIRECT,
        timing: QUICK,
        max_bytes: None,
        access: Access::ALL,
    };
    let error = fetch(&request, &mut |_| {}).unwrap_err();
    assert!(
        matches!(error, Error::Full(_)) && error.to_string().contains("no space left"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(&small.0).unwrap().count(), 0);
}

/// Not a test of its own: what the next one starts and kills.
#[test]
fn child_that_fetches() {
    if let (Ok(url), Ok(target)) = (std::env::var("FETCH_URL"), std::env::var("FETCH_TARGET")) {
        let target = PathBuf::from(target);
        let timing = Timing { stall: Duration::from_secs(15), ..QUICK };
        let url = Url::parse(&url).unwrap();
        let request = Request {
            origin: Origin::Url(&url),
            target: &target,
            checksum: None,
            ca_file: None,
            proxies: &DIRECT,
            timing,
            max_bytes: None,
            access: Access::ALL,
        };
        let _ = fetch(&request, &mut |_| {});
    }
}

#[test]
fn a_killed_fetch_is_taken_up_by_the_next_start() {
    let (place, body) = (Place::new(), qcow2());
    let server = Server::new(&body, &[Act::StallAfter(700_000), Act::Whole]);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "image::child_that_fetches"])
        .env("FETCH_URL", server.url.to_string())
        .env("FETCH_TARGET", place.path("base.qcow2"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let part = place.path(".base.qcow2.part");
    until("a part of it", || std::fs::metadata(&part).is_ok_and(|part| part.len() >= 500_000));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("base.qcow2").exists());
    place.url(&server).unwrap();
    assert!(place.image() == body);
    assert!(server.requests()[1].contains("range: bytes="), "{:?}", server.requests());
    assert_eq!(place.names(), ["base.qcow2"]);
}

// ── https ──

struct Https {
    url: Url,
    ca: PathBuf,
    _dir: tempfile::TempDir,
}

fn https(body: Vec<u8>) -> Https {
    use rustls::pki_types::pem::PemObject;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test ca",
            "-keyout",
            &path("ca.key"),
            "-out",
            &path("ca.pem"),
        ],
    );
    run(
        "openssl",
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &path("key.pem"),
            "-out",
            &path("csr.pem"),
        ],
    );
    std::fs::write(path("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    run(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &path("csr.pem"),
            "-CA",
            &path("ca.pem"),
            "-CAkey",
            &path("ca.key"),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &path("ext"),
            "-out",
            &path("cert.pem"),
        ],
    );
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(path("cert.pem")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(path("key.pem")).unwrap();
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url =
        Url::parse(&format!("https://{}/image.qcow2", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut request = [0; 2048];
            if stream.read(&mut request).is_err() {
                continue;
            }
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&body);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    Https { url, ca: path("ca.pem").into(), _dir: dir }
}

#[test]
fn https_trusts_who_it_is_told_to_trust_and_nobody_else() {
    let body = qcow2();
    let (server, stranger) = (https(body.clone()), https(body.clone()));
    let place = Place::new();
    let target = place.path("base.qcow2");
    let request = |url, ca| Request {
        origin: Origin::Url(url),
        target: &target,
        checksum: None,
        ca_file: Some(ca),
        proxies: &DIRECT,
        timing: QUICK,
        max_bytes: None,
        access: Access::ALL,
    };
    let error = fetch(&request(&stranger.url, &server.ca), &mut |_| {}).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    assert!(place.names().is_empty(), "{:?}", place.names());
    fetch(&request(&server.url, &server.ca), &mut |_| {}).unwrap();
    assert!(place.image() == body);
    let nonsense = place.path("base.qcow2");
    assert!(matches!(
        fetch(&request(&server.url, &nonsense), &mut |_| {}),
        Err(Error::Certificates(_))
    ));
}

// ── formats, overlays, locks ──

fn create(path: &Path, words: &[&str]) {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q"]).args(words);
    checked(command.arg(path).args(if words.contains(&"-b") { vec![] } else { vec!["4M"] }));
}

#[test]
fn an_image_that_opens_other_files_is_refused() {
    let place = Place::new();
    std::fs::write(place.path("secret"), vec![0; 1 << 20]).unwrap();
    let secret = place.path("secret").display().to_string();
    create(&place.path("backed.qcow2"), &["-f", "qcow2", "-F", "raw", "-b", &secret]);
    let error = inspect(&place.path("backed.qcow2")).unwrap_err();
    assert!(
        matches!(error, Error::Refers { what: "backing file", .. })
            && error.to_string().contains("secret"),
        "{error}"
    );
    let option = format!("data_file={}", place.path("data").display());
    create(&place.path("data.qcow2"), &["-f", "qcow2", "-o", &option]);
    assert!(matches!(
        inspect(&place.path("data.qcow2")),
        Err(Error::Refers { what: "data file", .. })
    ));
    for (format, word) in [("vmdk", "VMDK"), ("vdi", "VDI"), ("vhdx", "VHDX"), ("qed", "QED")] {
        create(&place.path(format), &["-f", format]);
        let error = inspect(&place.path(format)).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    create(&place.path("good.qcow2"), &["-f", "qcow2"]);
    assert_eq!(inspect(&place.path("good.qcow2")).unwrap(), (Format::Qcow2, 4 << 20));
}

fn info(path: &Path) -> serde_json::Value {
    let text = checked(
        Command::new("qemu-img").args(["info", "--output", "json", "--backing-chain"]).arg(path),
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_overlay_is_made_once_kept_and_grown() {
    for (format, wanted) in [("qcow2", Format::Qcow2), ("raw", Format::Raw)] {
        let place = Place::new();
        let (base, disk) = (place.path("base"), place.path("vm.qcow2"));
        create(&base, &["-f", format]);
        if format == "raw" {
            let mut bytes = std::fs::read(&base).unwrap();
            bytes[510..512].copy_from_slice(b"\x55\xaa");
            std::fs::write(&base, bytes).unwrap();
        }
        let made = ensure_overlay(&disk, &base, Some(5 << 20)).unwrap();
        assert_eq!((made.created, made.base_format, made.size_bytes), (true, wanted, 5 << 20));
        let chain = info(&disk);
        assert_eq!(chain[0]["virtual-size"], 5 << 20);
        assert_eq!(chain[0]["backing-filename-format"], format);
        assert_eq!(chain[0]["full-backing-filename"], base.display().to_string());
        checked(
            Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 0x77 1M 64k"]).arg(&disk),
        );

        let bytes = std::fs::read(&disk).unwrap();
        let kept = ensure_overlay(&disk, &base, Some(1 << 20)).unwrap();
        assert_eq!((kept.created, kept.size_bytes), (false, 5 << 20));
        assert!(std::fs::read(&disk).unwrap() == bytes);

        let grown = ensure_overlay(&disk, &base, Some(3 << 30)).unwrap();
        assert_eq!(grown.size_bytes, 3 << 30);
        assert_eq!(info(&disk)[0]["virtual-size"], 3u64 << 30);
        checked(Command::new("qemu-img").arg("check").arg(&disk));
        let read = ["-f", "qcow2", "-c", "read -P 0x77 1M 64k", "-c", "read -P 0 2G 64k"];
        let out = checked(Command::new("qemu-io").args(read).arg(&disk));
        assert!(!out.contains("failed"), "{out}");
    }
}

/// What a power failure leaves of one that was never flushed: made anew. Whatever may hold data: kept.
#[test]
fn an_overlay_that_was_cut_before_its_tables_is_made_anew() {
    let place = Place::new();
    let (base, disk) = (place.path("base"), place.path("vm.qcow2"));
    create(&base, &["-f", "qcow2"]);
    assert!(ensure_overlay(&disk, &base, None).unwrap().created);
    let whole = std::fs::read(&disk).unwrap();
    let table = u64::from_be_bytes(whole[40..48].try_into().unwrap());
    assert_eq!(table, 3 << 16);
    let prefixes = [0, 4, 71, 72, 4096, table - 1, table, table + 1];
    let zeros = [1, 4096, whole.len()].map(|length| vec![0; length]);
    let prefixes = prefixes.map(|length| whole[..usize::try_from(length).unwrap()].to_vec());
    let aside = place.path(".vm.qcow2.cut");
    for left in prefixes.into_iter().chain(zeros) {
        let length = left.len();
        let _ = std::fs::remove_file(&aside);
        std::fs::write(&disk, &left).unwrap();
        let made = ensure_overlay(&disk, &base, None).unwrap();
        assert!(made.created, "{length} octets");
        // An empty file has nothing to keep.
        assert_eq!(
            made.notes.iter().any(|note| note.contains("made anew")),
            length > 0,
            "{:?}",
            made.notes
        );
        assert!(
            length == 0 && !aside.exists() || std::fs::read(&aside).unwrap() == left,
            "{length} octets"
        );
        checked(Command::new("qemu-img").args(["check", "-q"]).arg(&disk));
    }
    // The whole; one with a snapshot; and what is no qcow2 at all.
    assert!(!ensure_overlay(&disk, &base, None).unwrap().created);
    let mut snapshot = whole[..4096].to_vec();
    snapshot[63] = 1;
    for kept in [&snapshot[..], &vec![0; whole.len() + 65_536], b"text"] {
        std::fs::write(&disk, kept).unwrap();
        assert!(!ensure_overlay(&disk, &base, None).is_ok_and(|disk| disk.created));
        assert!(std::fs::read(&disk).unwrap() == kept);
    }
}

#[test]
fn an_overlay_without_its_base_is_an_error_and_stays() {
    let place = Place::new();
    let (base, other, disk) = (place.path("base"), place.path("other"), place.path("vm.qcow2"));
    create(&base, &["-f", "qcow2"]);
    create(&other, &["-f", "qcow2"]);
    checked(Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 1 0 64k"]).arg(&other));
    ensure_overlay(&disk, &base, None).unwrap();
    let bytes = std::fs::read(&disk).unwrap();
    // Another base is asked for: the disk stays on its own.
    assert_eq!(ensure_overlay(&disk, &other, None).unwrap().base, base);
    std::fs::remove_file(&base).unwrap();
    let error = ensure_overlay(&disk, &other, None).unwrap_err().to_string();
    assert!(error.contains("which is gone") && error.contains("base"), "{error}");
    assert!(std::fs::read(&disk).unwrap() == bytes);
    // A whole image in its place is not ours to use as an overlay.
    assert!(ensure_overlay(&other, &disk, None).unwrap_err().to_string().contains("IMG_TARGET"));
}

#[test]
fn the_lock_tells_who_holds_it_and_ends_with_the_process() {
    let place = Place::new();
    let path = place.path(".vm.lock");
    let held = lock(&path, "web-0 (pid 7)").unwrap();
    let error = lock(&path, "web-1 (pid 8)").unwrap_err();
    assert!(
        matches!(error, Error::Locked { .. }) && error.to_string().contains("web-0 (pid 7) for "),
        "{error}"
    );
    drop(held);
    lock(&path, "web-1 (pid 8)").unwrap();
    let mut holder = Command::new("flock").arg(&path).args(["sleep", "30"]).spawn().unwrap();
    until("it is locked", || lock(&path, "us").is_err());
    checked(Command::new("pkill").args(["-KILL", "-P", &holder.id().to_string()]));
    let _ = holder.kill();
    let _ = holder.wait();
    until("the lock ends with its holder", || lock(&path, "us").is_ok());
}

#[test]
fn a_disk_that_qemu_still_holds_is_waited_for() {
    let place = Place::new();
    let disk = place.path("vm.qcow2");
    create(&disk, &["-f", "qcow2"]);
    wait_released(&disk, Duration::ZERO, &ALL_TRUSTED).unwrap();
    let mut holder = Command::new("qemu-io")
        .arg(&disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let error = find("the lock of qemu-io", PATIENCE, String::new, || {
        wait_released(&disk, Duration::from_millis(20), &ALL_TRUSTED)
            .err()
            .map(|error| error.to_string())
    });
    assert!(error.contains("held by a QEMU that still runs"), "{error}");
    // It ends with its input, while somebody waits.
    drop(holder.stdin.take());
    wait_released(&disk, Duration::from_secs(5), &ALL_TRUSTED).unwrap();
    assert!(holder.wait().unwrap().success());
}

#[test]
fn small_files_are_written_whole_with_their_mode() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let path = place.path("seed.iso");
    write_atomically(&path, b"one", 0o600, &ALL_TRUSTED).unwrap();
    let first = std::fs::metadata(&path).unwrap();
    assert_eq!(first.mode() & 0o777, 0o600);
    write_atomically(&path, b"one", 0o600, &ALL_TRUSTED).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().ino(),
        first.ino(),
        "nothing new, nothing written"
    );
    write_atomically(&path, b"two", 0o600, &ALL_TRUSTED).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(place.names(), ["seed.iso"]);
}
