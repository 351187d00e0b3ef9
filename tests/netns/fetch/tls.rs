//! Whom https trusts, with curl as the judge.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use berth::sys::image::Error;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{Asked, Server, Wire, answer};
use super::{Place, image};
use crate::support::run;

type Stream = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

struct Tls(Stream);

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Wire for Tls {
    fn end(&mut self) {
        self.0.conn.send_close_notify();
        let _ = self.0.flush();
        self.0.sock.end();
    }
}

/// A certificate and its key, as files.
pub struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    _dir: tempfile::TempDir,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// What `openssl req -x509` makes: its own issuer and, unless told otherwise, an authority.
pub fn self_signed(name: &str, words: &[&str]) -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let name = format!("subjectAltName={name}");
    let mut all = vec!["req", "-x509", "-subj", "/CN=test", "-addext", &name];
    all.extend(["-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()]);
    all.extend(words);
    if !words.contains(&"-newkey") {
        all.extend(KEY);
    }
    run("openssl", &all);
    Pair { certificate, key, _dir: dir }
}

impl Pair {
    fn config(&self) -> Arc<rustls::ServerConfig> {
        let certificate = CertificateDer::from_pem_file(&self.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls_graviola::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
        Arc::new(config)
    }

    /// The same, signed again, and valid until yesterday.
    fn expire(&self) {
        let (certificate, key) = (self.certificate.to_str().unwrap(), self.key.to_str().unwrap());
        run(
            "openssl",
            &["x509", "-in", certificate, "-signkey", key, "-days", "-1", "-out", certificate],
        );
    }
}

pub struct Authority {
    pub file: PathBuf,
    pair: Pair,
}

impl Authority {
    pub fn new() -> Self {
        let pair = self_signed("DNS:authority.example", &["-days", "2"]);
        Self { file: pair.certificate.clone(), pair }
    }

    pub fn issue(&self, name: &str) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut all = vec!["req", "-subj", "/CN=server"];
        all.extend(KEY);
        let (key, csr, cert, ext) =
            (path("key.pem"), path("csr.pem"), path("cert.pem"), path("ext"));
        all.extend(["-keyout", &key, "-out", &csr]);
        run("openssl", &all);
        std::fs::write(&ext, format!("subjectAltName={name}\n")).unwrap();
        let (ca, ca_key) = (self.file.to_str().unwrap(), self.pair.key.to_str().unwrap());
        let words = [
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            ca,
            "-CAkey",
            ca_key,
            "-CAcreateserial",
            "-days",
            "2",
        ];
        run("openssl", &[&words[..], &["-extfile", &ext, "-out", &cert]].concat());
        Pair { certificate: cert.into(), key: key.into(), _dir: dir }
    }
}

pub fn serve(pair: &Pair, body: &[u8]) -> Server {
    serve_on("127.0.0.1:0", pair, body)
}

fn serve_on(address: &str, pair: &Pair, body: &[u8]) -> Server {
    let body = body.to_vec();
    serve_by(address, pair, move |_| answer("200 OK", "", &body))
}

pub fn serve_by(
    address: &str,
    pair: &Pair,
    script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
) -> Server {
    let config = pair.config();
    let wrap = move |stream: TcpStream| {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        Some(Box::new(Tls(rustls::StreamOwned::new(connection, stream))) as Box<dyn Wire>)
    };
    Server::wrapped(TcpListener::bind(address).unwrap(), wrap, script)
}

fn curl_trusts(ca: &Path, from: &str) -> bool {
    let mut command = Command::new("curl");
    command.env_clear().env("PATH", std::env::var("PATH").unwrap());
    command
        .args(["-q", "-sS", "-o", "/dev/null", "--max-time", "20", "--cacert"])
        .arg(ca)
        .arg(from);
    command.output().unwrap().status.success()
}

/// Faults rows 11 and 17.
#[test]
fn a_certificate_in_the_file_is_trusted_as_curl_trusts_it_and_a_bad_one_is_final() {
    let body = image(100_000);
    let days = ["-days", "2"];
    let leaf = ["-days", "2", "-addext", "basicConstraints=critical,CA:FALSE"];
    let rsa = ["-days", "2", "-newkey", "rsa:2048", "-nodes"];
    let stranger = self_signed("DNS:localhost", &days);
    for (what, name, words, own, host, trusted) in [
        ("an authority by itself", "DNS:localhost", &days[..], true, "localhost", true),
        ("by address", "IP:127.0.0.1", &days, true, "127.0.0.1", true),
        ("of RSA", "DNS:localhost", &rsa, true, "localhost", true),
        ("no authority", "DNS:localhost", &leaf, true, "localhost", true),
        ("of another name", "DNS:other.example", &days, true, "localhost", false),
        ("of another address", "IP:127.0.0.2", &days, true, "127.0.0.1", false),
        ("expired", "DNS:localhost", &days, true, "localhost", false),
        ("not in the file", "DNS:localhost", &days, false, "localhost", false),
        ("no authority, not in the file", "DNS:localhost", &leaf, false, "localhost", false),
    ] {
        let pair = self_signed(name, words);
        if what == "expired" {
            pair.expire();
        }
        let ca = if own { pair.certificate.clone() } else { stranger.certificate.clone() };
        let bundle = tempfile::NamedTempFile::new().unwrap();
        // As in a bundle: among others.
        let both =
            [std::fs::read(&stranger.certificate).unwrap(), std::fs::read(&ca).unwrap()].concat();
        std::fs::write(bundle.path(), both).unwrap();
        let server = serve(&pair, &body);
        let from = format!("https://{host}:{}/x", server.address.port());
        assert_eq!(curl_trusts(bundle.path(), &from), trusted, "curl: {what}");
        let place = Place { ca_file: Some(bundle.path().to_owned()), ..Place::new() };
        match place.get(&from) {
            Ok(()) => assert!(trusted && place.image() == body, "{what}"),
            Err(error) => {
                assert!(!trusted && matches!(error, Error::Untrusted { .. }), "{what}: {error}");
                assert!(error.to_string().contains("certificate"), "{what}: {error}");
            }
        }
    }
}

/// One try: each costs a pause, and a certificate stays what it is.
#[test]
fn a_bad_certificate_is_looked_at_once() {
    let (listener, pair) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), self_signed("DNS:other", &["-days", "2"]));
    let (from, ca) =
        (format!("https://{}/x", listener.local_addr().unwrap()), pair.certificate.clone());
    let config = pair.config();
    let connections = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let _ = rustls::StreamOwned::new(connection, stream.unwrap()).read(&mut [0]);
        }
    });
    let place = Place { ca_file: Some(ca), ..Place::new() };
    let error = place.get(&from).unwrap_err().to_string();
    assert!(error.contains("not valid for name") && error.contains("BERTH_CA_FILE"), "{error}");
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn a_port_that_speaks_no_tls_is_final() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = format!("https://{}/x", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut [0; 512]);
        }
    });
    let error = Place::new().get(&plain).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("TLS"), "{error}");
}

#[test]
fn an_address_of_ipv6_has_a_certificate_too() {
    let (body, authority) = (image(100_000), Authority::new());
    let server = serve_on("[::1]:0", &authority.issue("IP:::1"), &body);
    let place = Place { ca_file: Some(authority.file.clone()), ..Place::new() };
    place.get(&format!("https://{}/x", server.address)).unwrap();
    assert!(place.image() == body);
}

/// A body without a length ends where TLS says so, and not where a connection breaks.
#[test]
fn an_end_that_tls_does_not_confirm_is_no_end() {
    let (body, authority) = (image(100_000), Authority::new());
    let pair = authority.issue("DNS:localhost");
    let served = body.clone();
    let config = pair.config();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let from = format!("https://localhost:{}/x", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = Tls(rustls::StreamOwned::new(connection, stream.unwrap()));
            let _ = stream.read(&mut [0; 2048]);
            let length = if number == 0 { 60_000 } else { served.len() };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(&served[..length]);
            let _ = stream.flush();
            match number {
                0 => stream.0.sock.end(),
                _ => stream.end(),
            }
        }
    });
    let place = Place { ca_file: Some(authority.file.clone()), ..Place::new() };
    place.get(&from).unwrap();
    assert!(place.image() == body);
}

/// Security review, M4. Each chain by its steps: what is asked first, and where that leads.
#[test]
fn https_leads_to_http_only_where_a_digest_is_wanted() {
    let body = image(100_000);
    let authority = Authority::new();
    let pair = authority.issue("DNS:localhost");
    let served = body.clone();
    let plain = Arc::new(std::sync::Mutex::new(String::new()));
    let (to_plain, to_safe) = (plain.clone(), plain.clone());
    let safe = serve_by("127.0.0.1:0", &pair, move |asked| match asked.path() {
        "/down" => {
            answer("302 Found", &format!("location: {}/x\r\n", to_plain.lock().unwrap()), b"")
        }
        "/on" => answer("302 Found", "location: /down\r\n", b""),
        _ => answer("200 OK", "", &served),
    });
    let served = body.clone();
    let up = format!("https://localhost:{}", safe.address.port());
    let leads_up = up.clone();
    let http = Server::new(move |asked| match asked.path() {
        "/up" => answer("302 Found", &format!("location: {leads_up}/x\r\n"), b""),
        "/around" => answer("302 Found", &format!("location: {leads_up}/down\r\n"), b""),
        _ => answer("200 OK", "", &served),
    });
    *to_safe.lock().unwrap() = format!("http://user:secret@localhost:{}", http.address.port());
    let down = format!("http://localhost:{}", http.address.port());
    for (from, is_safe) in [
        (format!("{up}/x"), true),
        (format!("{down}/up"), true),
        (format!("{up}/down"), false),
        (format!("{up}/on"), false),
        (format!("{down}/around"), false),
    ] {
        let ca_file = Some(authority.file.clone());
        let place = Place { ca_file: ca_file.clone(), ..Place::new() };
        let (before, got) = (http.seen().len(), place.get(&from));
        assert_eq!(got.is_ok(), is_safe, "{from}: {got:?}");
        if let Err(error) = got {
            let error = error.to_string();
            assert!(
                error.contains("redirected from https") && error.contains("set IMG_SHA256"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
            let asked = http.seen();
            assert!(
                !asked[before..].iter().any(|asked| asked.path() == "/x"),
                "{from}: it was fetched"
            );
        }
        let place = Place { ca_file, ..Place::wanting(&body) };
        place.get(&from).unwrap();
        assert!(place.image() == body, "{from}");
    }
}
