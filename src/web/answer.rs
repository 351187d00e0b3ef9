//! From a request to its answer: the guard's judgement, then what the route says.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::time::timeout;

use super::body::{Body, empty, protect, text, typed};
use super::connection::{Connection, Shared, Who};
use super::guard::{self, Allowed, By, Door, Refused, Route};
use super::sessions::SECRET_BYTES;
use super::{Order, page, socket};
use crate::log;
use crate::status::Status;

/// Of a form.
const MAX_BODY_BYTES: usize = 4 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(super) async fn answer(
    request: Request<Incoming>,
    connection: Connection,
) -> Result<Response<Body>, Infallible> {
    let response = match judge(&request, &connection) {
        Ok(allowed) => route(request, &connection, allowed).await,
        Err(Refused { status, why, is_guess }) => {
            if is_guess {
                slow_down(&connection).await;
            }
            refuse(status, why)
        }
    };
    Ok(protect(response))
}

fn refuse(status: StatusCode, why: &'static str) -> Response<Body> {
    let mut response = text(status, why);
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer realm=\"berth\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

/// After a wrong token; with some before it, it takes its time.
async fn slow_down(connection: &Connection) {
    let (delay, is_told) = connection.shared.sessions().guessed(now());
    if is_told {
        tracing::warn!(peer = %connection.peer, "a wrong token, or an old session, at the page");
    }
    tokio::time::sleep(delay).await;
}

fn judge<T>(request: &Request<T>, connection: &Connection) -> Result<Allowed, Refused> {
    let shared = &connection.shared;
    let door = Door {
        is_loopback: connection.is_loopback,
        probes_alone: connection.probes_alone,
        token: shared.token.as_ref(),
        read_only: shared.read_only,
        cookie: &shared.cookie,
    };
    let session = |secret: &[u8]| shared.sessions().number(now(), secret);
    let allowed = guard::judge(request.method(), request.uri(), request.headers(), &door, session)?;
    if let By::Session(number) = allowed.by {
        shared.sessions().used(now(), number);
    }
    Ok(allowed)
}

async fn route(
    request: Request<Incoming>,
    connection: &Connection,
    allowed: Allowed,
) -> Response<Body> {
    let shared = &connection.shared;
    let who = Who { peer: connection.peer, by: allowed.by };
    match allowed.route {
        Route::Index | Route::Licences | Route::Asset => page::file(&request, shared.parts.assets),
        Route::Session => session(shared, allowed.is_known),
        Route::Login => login(request, connection).await,
        Route::Logout => logout(shared, allowed.by),
        Route::Status => match serde_json::to_string(&(shared.parts.status)()) {
            Ok(json) => typed(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        Route::Log => typed(StatusCode::OK, "text/plain; charset=utf-8", log::recent()),
        Route::Livez => text(StatusCode::OK, "ok"),
        Route::Readyz => ready(&(shared.parts.status)()),
        Route::Metrics => match &shared.parts.metrics {
            None => text(StatusCode::NOT_FOUND, "there are no metrics in this build"),
            Some(metrics) => {
                let accept = request.headers().get(header::ACCEPT);
                let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
                let (kind, numbers) = metrics(accept.to_owned()).await;
                typed(StatusCode::OK, kind, numbers)
            }
        },
        Route::Screenshot => shared.screen.picture().await,
        Route::Power | Route::Reset | Route::Nmi => act(shared, allowed.route, &who).await,
        Route::Suspend => order(request, shared, Order::Suspend, &who).await,
        Route::Backup => order(request, shared, Order::Backup, &who).await,
        Route::Resize => order(request, shared, Order::Resize, &who).await,
        Route::Screen | Route::Serial => {
            socket::attach(request, connection, allowed.route, who).await
        }
    }
}

/// What the page asks first. Who it is for is told to those alone who are let in.
fn session(shared: &Shared, is_known: bool) -> Response<Body> {
    let Shared { parts, token, read_only, .. } = shared;
    let (vm, version) = match is_known {
        true => (parts.vm.as_str(), env!("CARGO_PKG_VERSION")),
        false => ("", ""),
    };
    let object = serde_json::json!({
        "vm": vm,
        "version": version,
        "read_only": read_only,
        "login": token.is_some() && !is_known,
        "screen": true,
        "serial": parts.serial.is_some(),
    });
    typed(StatusCode::OK, "application/json", object.to_string())
}

/// A field of the form that is the body of a request.
async fn field(request: Request<Incoming>, name: &str) -> Result<Option<String>, Response<Body>> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = match timeout(BODY_WITHIN, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            return Err(text(StatusCode::PAYLOAD_TOO_LARGE, "a form of at most 4 KiB is taken"));
        }
        Err(_) => return Err(text(StatusCode::REQUEST_TIMEOUT, "the form did not come in 10 s")),
    };
    let mut fields = url::form_urlencoded::parse(&body);
    Ok(fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()))
}

/// The form's `token`, for a cookie.
async fn login(request: Request<Incoming>, connection: &Connection) -> Response<Body> {
    let shared = &connection.shared;
    let said = match field(request, "token").await {
        Ok(said) => said,
        Err(refused) => return refused,
    };
    let Some(token) = &shared.token else { return empty(StatusCode::NO_CONTENT) };
    if !said.is_some_and(|said| token.is(said.trim().as_bytes())) {
        slow_down(connection).await;
        return refuse(StatusCode::UNAUTHORIZED, "this token is not the one");
    }
    let mut secret = [0; SECRET_BYTES];
    if rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
        != Ok(SECRET_BYTES)
    {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the kernel gives no random octets");
    }
    let (number, secret) = shared.sessions().begin(now(), secret);
    tracing::info!(peer = %connection.peer, session = number, "logged in at the page");
    with_cookie(shared, &secret, "")
}

fn logout(shared: &Shared, by: By) -> Response<Body> {
    if let By::Session(number) = by {
        shared.sessions().end(number);
    }
    with_cookie(shared, "", "; Max-Age=0")
}

/// Without a Path it is that of the directory which the page is in for the browser, below whatever proxy (RFC 6265 §5.1.4).
fn with_cookie(shared: &Shared, value: &str, more: &str) -> Response<Body> {
    let secure = if shared.is_tls { "; Secure" } else { "" };
    let cookie = format!("{}={value}; HttpOnly; SameSite=Strict{secure}{more}", shared.cookie);
    let mut response = empty(StatusCode::NO_CONTENT);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// "ok", or why not, each a line.
fn ready(status: &Status) -> Response<Body> {
    if status.ready {
        return text(StatusCode::OK, "ok");
    }
    let reasons: Vec<_> = status.reasons.iter().map(|reason| log::one_line(reason)).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n"))
}

/// What takes its time, and what came of it. Whoever leaves before cancels what can be.
async fn order(
    request: Request<Incoming>,
    shared: &Shared,
    order: Order,
    who: &Who,
) -> Response<Body> {
    let (what, name) = match order {
        Order::Suspend => ("suspend", ""),
        Order::Backup => ("backup", "target"),
        Order::Resize => ("resize", "size"),
    };
    let word = match field(request, name).await {
        Ok(word) => word.unwrap_or_default(),
        Err(refused) => return refused,
    };
    tracing::info!(%who, word, "{what}, by the page");
    match (shared.parts.orders)(order, word).await {
        Ok(done) => text(StatusCode::OK, done),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn act(shared: &Shared, route: Route, who: &Who) -> Response<Body> {
    let (what, command) = match route {
        Route::Reset => ("reset", "system_reset"),
        Route::Nmi => ("NMI", "inject-nmi"),
        _ => ("power button", "system_powerdown"),
    };
    let done = shared.parts.monitor.ask(command, None, None).await;
    match done {
        Ok(_) => {
            tracing::info!(%who, "{what}, by the page");
            empty(StatusCode::NO_CONTENT)
        }
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}
