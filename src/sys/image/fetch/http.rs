//! Asking a server: what to ask for, whom to trust, when to try again (RFC 9110).

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::{Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::save::save;
use super::stream::Stream;
use super::{End, Error, Progress, Request};

pub(super) fn from_url(
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
pub(super) struct Keep<'a> {
    pub url: &'a str,
    pub note: &'a Path,
    pub validator: Option<&'a str>,
}
