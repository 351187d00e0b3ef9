//! One GET: connections made, redirects followed, each step with its time (RFC 9110, RFC 9112).
//!
//! Which failures are worth another try is decided here: a server that is not there may come, a certificate or a
//! loop of redirects stays what it is.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::range::Resume;
use super::route::{
    Exchange, Route, Shown, USER_AGENT, causes, redirect, refused, request, secret,
};
use super::{End, Error, Timing, trust};
use crate::config::{Proxies, Proxy, Url};

/// curl's own limit is 50 and browsers' 20; nobody's image is further away than this.
const MAX_REDIRECTS: usize = 10;

/// hyper's own limit is 100, and tracing, caches and policies add up. The head as a whole has hyper's limit, 400 KiB.
const MAX_HEADERS: usize = 1000;

pub(super) struct Client<'a> {
    runtime: &'a Runtime,
    tls: TlsConnector,
    proxies: &'a Proxies,
    timing: Timing,
    /// A digest is wanted: whoever sends the image.
    is_checked: bool,
}

/// What a server says, and what it sends.
pub(super) struct Answer<'a> {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body<'a>,
    pub route: Shown,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl<'a> Client<'a> {
    /// One client for all tries: TLS roots and proxies are read once.
    pub fn new(request: &super::Request<'a>, runtime: &'a Runtime) -> Result<Self, Error> {
        let tls = TlsConnector::from(Arc::new(trust::config(request.ca_file)?));
        let (proxies, timing) = (request.proxies, request.timing);
        Ok(Self { runtime, tls, proxies, timing, is_checked: request.checksum.is_some() })
    }

    /// The first answer that is no redirect.
    pub fn get(&self, url: &Url, resume: &Resume) -> Result<Answer<'a>, End> {
        self.runtime.block_on(self.follow(url, resume))
    }

    async fn follow(&self, first: &Url, resume: &Resume) -> Result<Answer<'a>, End> {
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let direct = Route { first, url: &url, proxy: None };
            let proxy = self.proxies.of(&url).map_err(|error| direct.refused(error))?;
            let route = Route { proxy, ..direct };
            let response = self.exchange(&route, resume).await?;
            match redirect(&route, &response)? {
                Some(next) => {
                    self.stays_safe(&route, &next)?;
                    url = next;
                }
                None => return Ok(self.answer(&route, response)),
            }
        }
        let last = Route { first, url: &url, proxy: None };
        Err(last.refused(format_args!("more than {MAX_REDIRECTS} redirects")))
    }

    /// What https promised is lost at a step to http, wherever in the chain: anybody on the way may send another image.
    fn stays_safe(&self, route: &Route<'_>, next: &Url) -> Result<(), End> {
        if !route.url.is_https() || next.is_https() {
            return Ok(());
        }
        if !self.is_checked {
            return Err(route.refused(format!(
                "redirected from https to {next}, where anybody on the way may change the image: set IMG_SHA256, or name \
                 a source that stays with https"
            )));
        }
        tracing::warn!(url = %route.first, to = %next, "redirected from https to http: IMG_SHA256 alone guards the image");
        Ok(())
    }

    fn answer(&self, route: &Route<'_>, response: Response<Incoming>) -> Answer<'a> {
        let (parts, incoming) = response.into_parts();
        let body =
            Body { runtime: self.runtime, incoming, left: Bytes::new(), stall: self.timing.stall };
        Answer { status: parts.status, headers: parts.headers, body, route: route.shown() }
    }

    async fn exchange(
        &self,
        route: &Route<'_>,
        resume: &Resume,
    ) -> Result<Response<Incoming>, End> {
        let request = request(route, resume).map_err(|error| route.refused(error))?;
        let Timing { connect, stall, .. } = self.timing;
        let stream = timeout(connect, self.connect(route))
            .await
            .map_err(|_| route.broken(&late("no connection", connect)))??;
        let answered = timeout(stall, send(stream, request)).await;
        let answered = answered.map_err(|_| route.broken(&late("no answer", stall)))?;
        answered.map_err(|error| unanswered(route, &error))
    }

    /// To the server, or to the proxy that stands for it.
    async fn connect(&self, route: &Route<'_>) -> Result<Box<dyn Io>, End> {
        let Some(proxy) = route.proxy else {
            let stream = self.dial(route, &route.url.host(), route.url.port_or_default()).await?;
            return self.secured(route, stream, route.url).await;
        };
        let stream = self.dial(route, &proxy.url.host(), proxy.port).await?;
        let stream = self.secured(route, stream, &proxy.url).await?;
        if !route.url.is_https() {
            return Ok(stream);
        }
        let stream = tunnel(route, proxy, stream).await?;
        self.secured(route, stream, route.url).await
    }

    async fn dial(&self, route: &Route<'_>, host: &str, port: u16) -> Result<Box<dyn Io>, End> {
        let addresses: Vec<_> = match host.parse::<IpAddr>() {
            Ok(address) => vec![(address, port).into()],
            Err(_) => {
                let found = tokio::net::lookup_host((host, port)).await;
                found.map_err(|error| not_found(route, host, &error))?.collect()
            }
        };
        let mut last = io::Error::other(format!("{host} has no address"));
        // An address that does not answer leaves time for the others.
        let share = self.timing.connect / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(Box::new(stream)),
                Ok(Err(error)) => {
                    last = io::Error::new(error.kind(), format!("{address}: {error}"));
                }
                Err(_) => last = late(&format!("{address}: no connection"), share),
            }
        }
        Err(route.broken(&last))
    }

    /// TLS where the URL wants it.
    async fn secured(
        &self,
        route: &Route<'_>,
        stream: Box<dyn Io>,
        url: &Url,
    ) -> Result<Box<dyn Io>, End> {
        if !url.is_https() {
            return Ok(stream);
        }
        let name = ServerName::try_from(url.host()).map_err(|_| {
            route.refused(format!("{:?} is no name a certificate could be for", url.host()))
        })?;
        match self.tls.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(final_tls(route, &error).unwrap_or_else(|| route.broken(&error))),
        }
    }
}

/// A name that does not exist (NXDOMAIN) is so at each try; a name server that does not answer may, later. EAI_NONAME of
/// getaddrinfo(3), told by its words alone: musl's. glibc has it for a server that is not reached as well.
fn not_found(route: &Route<'_>, host: &str, error: &io::Error) -> End {
    let said = error.to_string();
    if is_no_name(&said) {
        return route.refused(format_args!("{host}: {said}: check the name, and the pod's DNS"));
    }
    route.broken(&io::Error::other(format!("{host}: {said}")))
}

fn is_no_name(said: &str) -> bool {
    said.contains("Name does not resolve")
}

/// Sends a request and reads the head of its answer; the rest of the connection is a task.
pub async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Exchange,
) -> io::Result<Response<Incoming>> {
    let mut http = hyper::client::conn::http1::Builder::new();
    http.max_headers(MAX_HEADERS);
    let (mut sender, connection) =
        http.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // What ends it is seen by who reads the body.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(io::Error::other)
}

/// RFC 9110 §9.3.6.
async fn tunnel(route: &Route<'_>, proxy: &Proxy, stream: Box<dyn Io>) -> Result<Box<dyn Io>, End> {
    let target = route.url.authority_with_port();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(target.as_str())
        .header(header::HOST, target.as_str())
        .header(header::USER_AGENT, USER_AGENT);
    if let Some(basic) = proxy.url.basic() {
        let value = secret(&basic).map_err(|error| route.refused(error))?;
        request = request.header(header::PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::new()).map_err(|error| route.refused(error))?;
    let response = send(stream, request).await.map_err(|error| unanswered(route, &error))?;
    if !response.status().is_success() {
        let status = response.status().as_u16();
        let why = format!("the proxy answered {status} to CONNECT {target}");
        return Err(if passes(status) {
            route.broken(&io::Error::other(why))
        } else {
            route.refused(format!("{why}: check {}, or name the host in no_proxy", proxy.variable))
        });
    }
    let upgraded = hyper::upgrade::on(response).await;
    let upgraded = upgraded.map_err(|error| route.broken(&io::Error::other(error)))?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// 408, 425, 429 and 5xx pass; the others are answers.
fn passes(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

impl Answer<'_> {
    /// Of one that is not what was asked for.
    pub(crate) fn bad_status(self) -> End {
        match self.status.as_u16() {
            status if passes(status) => {
                End::Broken(io::Error::other(format!("the server answered {status}")))
                    .on(&self.route)
            }
            407 => refused(self.route, "407 was answered: check the proxy's user and password"),
            status => {
                End::Final(Error::Status { url: self.route.url, via: self.route.via, status })
            }
        }
    }
}

fn late(what: &str, after: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {after:?}"))
}

/// A head that is too large or no HTTP is so at each try; a connection that ended may last longer the next time.
fn unanswered(route: &Route<'_>, error: &io::Error) -> End {
    let http = error.get_ref().and_then(|error| error.downcast_ref::<hyper::Error>());
    match http {
        Some(http) if http.is_parse() => route.refused(format!(
            "{}: a server of HTTP/1.1 is needed, with at most {MAX_HEADERS} headers; check the scheme and the port",
            causes(http)
        )),
        _ => route.broken(error),
    }
}

/// What TLS says that another try cannot change: not an alert of a server in trouble, nor an end of the connection.
fn final_tls(route: &Route<'_>, error: &io::Error) -> Option<End> {
    use rustls::{AlertDescription as Alert, Error as Tls};
    let tls = error.get_ref()?.downcast_ref::<Tls>()?;
    match tls {
        Tls::InvalidCertificate(_) => Some(route.untrusted(tls)),
        Tls::AlertReceived(Alert::InternalError | Alert::UserCanceled | Alert::CloseNotify) => None,
        Tls::AlertReceived(_) | Tls::PeerIncompatible(_) | Tls::InvalidMessage(_) => Some(
            route.refused(format!("{tls}: does the server speak TLS 1.2 or 1.3 on this port?")),
        ),
        _ => None,
    }
}

/// The body as it comes, read by whoever blocks.
pub(super) struct Body<'a> {
    runtime: &'a Runtime,
    incoming: Incoming,
    left: Bytes,
    stall: Duration,
}

impl Body<'_> {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Self { runtime, incoming, stall, .. } = self;
        let frame = runtime.block_on(async { timeout(*stall, incoming.frame()).await });
        match frame.map_err(|_| late("no octet", *stall))? {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(io::Error::other(causes(&error))),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.next()? {
                Some(octets) => self.left = octets,
                None => return Ok(0),
            }
        }
        let read = (&*self.left).read(buffer)?;
        self.left.advance(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_exist_is_told_from_a_server_that_does_not_answer() {
        let said = |why: &str| is_no_name(&format!("failed to lookup address information: {why}"));
        assert!(said("Name does not resolve"));
        for may_pass in [
            "Name or service not known",
            "Temporary failure in name resolution",
            "Try again",
            "Non-recoverable failure",
        ] {
            assert!(!said(may_pass), "{may_pass}");
        }
    }
}
