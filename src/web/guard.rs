//! Who may do what: the head of a request is allowed, or refused with a status and a reason. Pure.
//!
//! ```text
//!  head ─► Host is ours? ─► is there such a path, by this method? ─► Origin is Host? ─► token or session? ─► may it act? ─► Allowed
//!            403 (421)          404, 405                              403                401                  403
//! ```
//!
//! A port that is forwarded to somebody's own machine is reached by every page in that somebody's browser. Two things tell such
//! a page from ours: what it calls us (`Host`: by DNS rebinding a name of its own leads to 127.0.0.1), and where it is from
//! (`Origin`, which a browser adds to every POST and WebSocket: RFC 6454, RFC 6455 §10.2).

use hyper::header::{AUTHORIZATION, AsHeaderName, COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Uri};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A page, or what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Index,
    /// Below `/assets/`; its name.
    Asset,
    Licences,
    Session,
    Login,
    Logout,
    Status,
    Log,
    Screen,
    Serial,
    Screenshot,
    Power,
    Reset,
    Nmi,
    Suspend,
    Backup,
    Resize,
    Metrics,
    Livez,
    Readyz,
}

/// What a route wants of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Anybody: the page itself, and probes.
    Open,
    /// Our own page, which need not be logged in.
    Ours,
    /// Whoever has the token.
    Read,
    /// The same, from our own page, over a WebSocket.
    Attach,
    /// The same, from our own page, where the guest may be acted upon.
    Act,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Index,
            "/licences" => Self::Licences,
            "/session" => Self::Session,
            "/login" => Self::Login,
            "/logout" => Self::Logout,
            "/status" => Self::Status,
            "/log" => Self::Log,
            "/screen" => Self::Screen,
            "/serial" => Self::Serial,
            "/screenshot.png" => Self::Screenshot,
            "/power" => Self::Power,
            "/reset" => Self::Reset,
            "/nmi" => Self::Nmi,
            "/suspend" => Self::Suspend,
            "/backup" => Self::Backup,
            "/resize" => Self::Resize,
            "/metrics" => Self::Metrics,
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            path if path.starts_with("/assets/") => Self::Asset,
            _ => return None,
        })
    }

    fn access(self) -> Access {
        match self {
            Self::Index | Self::Asset | Self::Licences | Self::Session => Access::Open,
            Self::Livez | Self::Readyz => Access::Open,
            Self::Login | Self::Logout => Access::Ours,
            Self::Status | Self::Log | Self::Screenshot | Self::Metrics => Access::Read,
            Self::Screen | Self::Serial => Access::Attach,
            Self::Power | Self::Reset | Self::Nmi => Access::Act,
            Self::Suspend | Self::Backup | Self::Resize => Access::Act,
        }
    }

    /// Those of the metrics' port.
    fn is_probe(self) -> bool {
        matches!(self, Self::Metrics | Self::Livez | Self::Readyz)
    }
}

/// What opens the page. Kept as a digest: comparing takes as long whatever is said, of whatever length.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    pub fn new(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    pub fn is(&self, said: &[u8]) -> bool {
        self.0.ct_eq(&Self::new(said).0).into()
    }
}

/// Where a request came in, and what is asked of it there.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// The connection's own end is 127.0.0.1 or ::1.
    pub is_loopback: bool,
    /// The metrics' port: three paths, for anybody.
    pub probes_alone: bool,
    /// None: whoever reaches it is let in.
    pub token: Option<&'a Token>,
    pub read_only: bool,
    /// Name of the session's cookie.
    pub cookie: &'a str,
}

/// How somebody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Nothing was asked.
    Anybody,
    Bearer,
    /// The number of the session.
    Session(u32),
}

/// A request that may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    pub route: Route,
    pub by: By,
    /// Whether it showed what would open all of the page.
    pub is_known: bool,
}

/// Why it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub status: StatusCode,
    pub why: &'static str,
    /// A token or session was said, and is none: it is counted.
    pub is_guess: bool,
}

const fn refused(status: StatusCode, why: &'static str) -> Refused {
    Refused { status, why, is_guess: false }
}

/// Judges a head. `session` knows the number of a session by its secret.
pub fn judge(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    door: &Door<'_>,
    session: impl Fn(&[u8]) -> Option<u32>,
) -> Result<Allowed, Refused> {
    let host = host(uri, headers)?;
    // The kubelet and Prometheus say an address; there is nothing on that port that a page could misuse.
    if door.is_loopback && !door.probes_alone && !is_local(host.host()) {
        return Err(refused(
            StatusCode::FORBIDDEN,
            "on this address it is localhost, 127.0.0.1 or [::1]: another Host is refused",
        ));
    }
    let not_found = refused(StatusCode::NOT_FOUND, "there is no such page");
    let route = Route::of(uri.path()).ok_or(not_found)?;
    if door.probes_alone && !route.is_probe() {
        return Err(not_found);
    }
    let access = route.access();
    let fits = match access {
        Access::Ours | Access::Act => method == Method::POST,
        Access::Attach => method == Method::GET,
        Access::Open | Access::Read => method == Method::GET || method == Method::HEAD,
    };
    if !fits {
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "not by this method"));
    }
    if door.probes_alone {
        return Ok(Allowed { route, by: By::Anybody, is_known: false });
    }
    let shown = shown(headers, door, session);
    if matches!(access, Access::Ours | Access::Act | Access::Attach) {
        own_page(headers, &host, matches!(shown, Shown::Known(By::Bearer)))?;
    }
    let allowed = |by, is_known| Ok(Allowed { route, by, is_known });
    match (access, shown) {
        (Access::Act, Shown::Known(_)) if door.read_only => Err(refused(
            StatusCode::FORBIDDEN,
            "BERTH_WEB_READONLY: this page shows and does nothing",
        )),
        (_, Shown::Known(by)) => allowed(by, true),
        (Access::Open | Access::Ours, _) => allowed(By::Anybody, false),
        (_, Shown::Nothing) => Err(refused(StatusCode::UNAUTHORIZED, "a token is wanted")),
        (_, Shown::Wrong) => Err(Refused {
            is_guess: true,
            ..refused(
                StatusCode::UNAUTHORIZED,
                "this token is not the one, or the session has ended",
            )
        }),
    }
}

/// One value, where there is one and no other.
fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Result<Option<&HeaderValue>, ()> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    all.next().map_or(Ok(first), |_| Err(()))
}

/// RFC 9112 §3.2: there is one Host, and what is asked for is a path.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Refused> {
    const WHY: Refused =
        refused(StatusCode::BAD_REQUEST, "a path is asked for, and one Host is named");
    if uri.authority().is_some() || uri.scheme().is_some() || !uri.path().starts_with('/') {
        return Err(WHY);
    }
    let host = single(headers, HOST).map_err(|()| WHY)?.ok_or(WHY)?;
    let authority =
        host.to_str().ok().and_then(|text| text.parse::<Authority>().ok()).ok_or(WHY)?;
    // A user's name is no part of it.
    if authority.as_str().contains('@') { Err(WHY) } else { Ok(authority) }
}

fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

/// Whether our own page asks. A script that says the token is no page: it may leave `Origin` out.
fn own_page(headers: &HeaderMap, host: &Authority, has_token: bool) -> Result<(), Refused> {
    const WHY: Refused =
        refused(StatusCode::FORBIDDEN, "this is from another page: Origin is not Host");
    match single(headers, ORIGIN).map_err(|()| WHY)? {
        None if has_token => Ok(()),
        None => Err(refused(
            StatusCode::FORBIDDEN,
            "without an Origin it takes a token in `Authorization: Bearer`",
        )),
        Some(origin) => {
            let text = origin.to_str().map_err(|_| WHY)?;
            // The scheme is aside: a proxy may speak TLS for us.
            let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            if place.is_some_and(|place| place.eq_ignore_ascii_case(host.as_str())) {
                Ok(())
            } else {
                Err(WHY)
            }
        }
    }
}

enum Shown {
    Nothing,
    Wrong,
    Known(By),
}

fn shown(headers: &HeaderMap, door: &Door<'_>, session: impl Fn(&[u8]) -> Option<u32>) -> Shown {
    let Some(token) = door.token else { return Shown::Known(By::Anybody) };
    match single(headers, AUTHORIZATION) {
        Err(()) => return Shown::Wrong,
        Ok(Some(value)) => {
            let said = bearer(value.as_bytes());
            let is_it = said.is_some_and(|said| token.is(said));
            return if is_it { Shown::Known(By::Bearer) } else { Shown::Wrong };
        }
        Ok(None) => {}
    }
    let mut is_said = false;
    for secret in
        headers.get_all(COOKIE).iter().flat_map(|value| cookies(value.as_bytes(), door.cookie))
    {
        if let Some(number) = session(secret) {
            return Shown::Known(By::Session(number));
        }
        is_said = true;
    }
    if is_said { Shown::Wrong } else { Shown::Nothing }
}

/// RFC 6750 §2.1; the scheme in any case (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Values of this name (RFC 6265 §5.4).
fn cookies<'a>(value: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    value
        .split(|octet| *octet == b';')
        .filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;
