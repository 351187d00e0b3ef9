//! The way of a request: to which server, by which proxy, asked in which form, and how it may be told.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};

use super::range::Resume;
use super::{End, Error};
use crate::config::{Proxy, Url};

pub(super) const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

/// A GET, which has no body.
pub type Exchange = Request<Empty<Bytes>>;

/// Where a request goes, and on whose behalf.
pub(super) struct Route<'a> {
    pub first: &'a Url,
    pub url: &'a Url,
    pub proxy: Option<&'a Proxy>,
}

/// The same as it may be told.
#[derive(Debug)]
pub(super) struct Shown {
    pub url: String,
    /// What is between us and the URL; empty or with a blank at its end.
    pub via: String,
}

impl Route<'_> {
    /// The URL without its secrets.
    pub fn shown(&self) -> Shown {
        let Self { first, url, proxy } = self;
        let redirected =
            if first == url { String::new() } else { format!("redirected to {url}: ") };
        let by = proxy.map(|proxy| format!("by the proxy {proxy}: ")).unwrap_or_default();
        Shown { url: first.to_string(), via: redirected + &by }
    }

    /// An end that trying again cannot mend.
    pub fn refused(&self, why: impl fmt::Display) -> End {
        refused(self.shown(), why)
    }

    /// The same for want of trust.
    pub fn untrusted(&self, why: impl fmt::Display) -> End {
        let Shown { url, via } = self.shown();
        End::Final(Error::Untrusted { url, why: format!("{via}{why}") })
    }

    /// An end after which trying again may help.
    pub fn broken(&self, error: &io::Error) -> End {
        End::Broken(io::Error::new(error.kind(), causes(error))).on(&self.shown())
    }
}

pub(super) fn refused(Shown { url, via }: Shown, why: impl fmt::Display) -> End {
    End::Final(Error::Refused { url, why: format!("{via}{why}") })
}

impl End {
    /// Says what was between us and the URL. What is final says it already.
    pub fn on(self, Shown { via, .. }: &Shown) -> Self {
        match self {
            Self::Broken(error) if !via.is_empty() => {
                Self::Broken(io::Error::new(error.kind(), format!("{via}{error}")))
            }
            end => end,
        }
    }
}

pub(super) fn request(route: &Route<'_>, resume: &Resume) -> Result<Exchange, hyper::http::Error> {
    let Route { first, url, proxy } = route;
    let by_proxy = proxy.filter(|_| !url.is_https());
    let target = if by_proxy.is_some() { url.absolute_form() } else { url.origin_form() };
    let mut request = Request::get(target)
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*");
    // What a URL is told by its user goes to no other server.
    let basic = url.basic().or_else(|| url.same_origin(first).then(|| first.basic())?);
    if let Some(basic) = basic {
        request = request.header(header::AUTHORIZATION, secret(&basic)?);
    }
    if let Some(basic) = by_proxy.and_then(|proxy| proxy.url.basic()) {
        request = request.header(header::PROXY_AUTHORIZATION, secret(&basic)?);
    }
    if let Some((range, validator)) = resume.range() {
        request = request.header(header::RANGE, range).header(header::IF_RANGE, validator);
    }
    request.body(Empty::new())
}

pub(super) fn secret(text: &str) -> Result<HeaderValue, hyper::http::Error> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where it sends us, if it does.
pub(super) fn redirect(
    route: &Route<'_>,
    response: &Response<Incoming>,
) -> Result<Option<Url>, End> {
    let follows = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(header::LOCATION).filter(|_| follows) else {
        return Ok(None);
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    let next = route.url.redirect(&location);
    next.map(Some)
        .map_err(|wrong| route.refused(format!("redirected to {}: {}", wrong.shown, wrong.allowed)))
}

/// An error with what is below it.
pub(super) fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        below = cause.source();
    }
    text
}
