//! What comes to the page: heads of requests, and what a viewer of the screen says.

use berth::proto::rfb::LookOnly;
use berth::web::guard::{self, By, Door, Route, Token};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A line with method and path, and lines of headers; to four doors. Without the token nothing of the guest is shown.
pub fn web_guard(data: &[u8]) {
    let mut lines = data.split(|octet| *octet == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|octet| *octet == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(word).ok());
    let uri = words.next().and_then(|word| hyper::Uri::try_from(word).ok());
    let (Some(method), Some(uri)) = (method, uri) else { return };
    let mut headers = HeaderMap::new();
    for line in lines.take(60) {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value[1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    let token = Token::new(SECRET);
    for number in 0..8u8 {
        let door = Door {
            is_loopback: number & 1 != 0,
            probes_alone: false,
            token: (number & 2 != 0).then_some(&token),
            read_only: number & 4 != 0,
            cookie: "berth-1",
        };
        let session = |secret: &[u8]| (secret == b"5e55").then_some(1);
        let Ok(allowed) = guard::judge(&method, &uri, &headers, &door, session) else { continue };
        let acts = matches!(
            allowed.route,
            Route::Power
                | Route::Reset
                | Route::Nmi
                | Route::Suspend
                | Route::Backup
                | Route::Resize
        );
        assert!(!(acts && door.read_only));
        let shows = matches!(
            allowed.route,
            Route::Status
                | Route::Log
                | Route::Screen
                | Route::Serial
                | Route::Screenshot
                | Route::Metrics
        );
        if door.token.is_some() {
            assert!(allowed.is_known || !(acts || shows));
            assert!(allowed.by != By::Anybody || !allowed.is_known);
        }
        let attaches = matches!(allowed.route, Route::Screen | Route::Serial);
        assert!(!(acts || attaches) || allowed.by == By::Bearer || headers.contains_key("origin"));
    }
}

/// A viewer that may look alone, at once and in pieces: what passes is the same, and no key, pointer or text.
pub fn rfb(data: &[u8]) {
    let mut whole = Vec::new();
    let at_once = LookOnly::default().pass(data, &mut whole);
    for size in [1, 3, 17] {
        let (mut filter, mut passed) = (LookOnly::default(), Vec::new());
        let ended = data.chunks(size).try_for_each(|piece| filter.pass(piece, &mut passed));
        assert_eq!(ended, at_once);
        assert_eq!(passed, whole);
    }
    assert!(whole.len() <= data.len());
}
