use proptest::prelude::*;

use super::*;

const SECRET: &str = "a-token-of-some-length";
const COOKIE: &str = "berth-1234";

fn door(token: Option<&Token>) -> Door<'_> {
    Door { is_loopback: true, probes_alone: false, token, read_only: false, cookie: COOKIE }
}

fn session(secret: &[u8]) -> Option<u32> {
    (secret == b"5e55").then_some(7)
}

fn ask(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    door: &Door<'_>,
) -> Result<Allowed, StatusCode> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    judge(&method, &path.parse().unwrap(), &map, door, session).map_err(|refused| refused.status)
}

const HOME: (&str, &str) = ("host", "localhost:6080");
const ORIGIN_HOME: (&str, &str) = ("origin", "http://localhost:6080");

#[test]
fn a_name_that_was_rebound_to_localhost_is_refused() {
    let door = door(None);
    for (host, status) in [
        ("localhost:6080", None),
        ("LOCALHOST", None),
        ("127.0.0.1:1", None),
        ("[::1]:6080", None),
        ("evil.example:6080", Some(403)),
        ("localhost.evil.example", Some(403)),
        ("127.0.0.1.evil.example", Some(403)),
        ("127.0.0.2", Some(403)),
        ("localhost@evil.example", Some(400)),
        ("", Some(400)),
    ] {
        let said = ask("GET", "/status", &[("host", host)], &door).err();
        assert_eq!(said.map(|status| status.as_u16()), status, "{host}");
    }
    assert_eq!(ask("GET", "/", &[], &door).unwrap_err(), 400);
    assert_eq!(ask("GET", "/", &[HOME, HOME], &door).unwrap_err(), 400);
    assert_eq!(ask("GET", "http://localhost:6080/", &[HOME], &door).unwrap_err(), 400);
    // On the pod's address a proxy says any name.
    let pod = Door { is_loopback: false, ..door };
    assert!(ask("GET", "/", &[("host", "vm.example")], &pod).is_ok());
}

#[test]
fn another_page_neither_attaches_nor_acts() {
    let door = door(None);
    for (method, path) in [
        ("GET", "/screen"),
        ("GET", "/serial"),
        ("POST", "/power"),
        ("POST", "/reset"),
        ("POST", "/login"),
        ("POST", "/nmi"),
        ("POST", "/suspend"),
        ("POST", "/backup"),
        ("POST", "/resize"),
    ] {
        assert!(ask(method, path, &[HOME, ORIGIN_HOME], &door).is_ok(), "{path}");
        assert!(ask(method, path, &[HOME, ("origin", "https://localhost:6080")], &door).is_ok());
        for origin in [
            "http://evil.example",
            "http://localhost:6081",
            "http://localhost",
            "null",
            "",
            "file://",
            "localhost:6080",
            "http://localhost:6080.evil.example",
        ] {
            let said = ask(method, path, &[HOME, ("origin", origin)], &door);
            assert_eq!(said.unwrap_err(), 403, "{path} {origin}");
        }
        let two = [HOME, ORIGIN_HOME, ("origin", "http://evil.example")];
        assert_eq!(ask(method, path, &two, &door).unwrap_err(), 403);
        assert_eq!(
            ask(method, path, &[HOME], &door).unwrap_err(),
            403,
            "{path}: whoever says nothing"
        );
    }
}

#[test]
fn a_script_with_the_token_needs_no_origin() {
    let token = Token::new(SECRET.as_bytes());
    let door = door(Some(&token));
    let bearer = format!("bearer {SECRET}");
    let ours = ("authorization", bearer.as_str());
    let allowed = ask("POST", "/power", &[HOME, ours], &door).unwrap();
    assert_eq!((allowed.by, allowed.is_known), (By::Bearer, true));
    assert_eq!(ask("POST", "/power", &[HOME, ours, ours], &door).unwrap_err(), 403);
    let foreign = ("origin", "http://evil.example");
    assert_eq!(ask("POST", "/power", &[HOME, ours, foreign], &door).unwrap_err(), 403);
}

#[test]
fn with_a_token_only_the_page_itself_is_open() {
    let token = Token::new(SECRET.as_bytes());
    let door = door(Some(&token));
    let known = ("cookie", "other=1; berth-1234=5e55; x=y");
    for path in ["/", "/assets/a.js", "/licences", "/session", "/livez", "/readyz"] {
        let allowed = ask("GET", path, &[HOME], &door).unwrap();
        assert!(!allowed.is_known, "{path}");
        assert!(ask("GET", path, &[HOME, known], &door).unwrap().is_known);
    }
    for path in ["/status", "/log", "/metrics", "/screenshot.png", "/screen", "/serial"] {
        let from_home = [HOME, ORIGIN_HOME];
        assert_eq!(ask("GET", path, &from_home, &door).unwrap_err(), 401, "{path}");
        let with = |header| ask("GET", path, &[HOME, ORIGIN_HOME, header], &door);
        assert_eq!(with(known).unwrap().by, By::Session(7));
        for wrong in [
            ("cookie", "berth-1234=5e56"),
            ("cookie", "berth-1235=5e55"),
            ("authorization", "Bearer nonsense"),
            ("authorization", "Basic YTpi"),
            ("authorization", "Bearer"),
            ("authorization", ""),
        ] {
            assert_eq!(with(wrong).unwrap_err(), 401, "{path} {wrong:?}");
        }
        // Never in what proxies log.
        let query = format!("{path}?token={SECRET}");
        assert_eq!(ask("GET", &query, &from_home, &door).unwrap_err(), 401);
    }
}

#[test]
fn a_page_that_shows_and_does_nothing_refuses_what_acts() {
    let door = Door { read_only: true, ..door(None) };
    for path in ["/power", "/reset", "/nmi", "/suspend", "/backup", "/resize"] {
        assert_eq!(ask("POST", path, &[HOME, ORIGIN_HOME], &door).unwrap_err(), 403);
    }
    assert!(ask("GET", "/screen", &[HOME, ORIGIN_HOME], &door).is_ok());
}

#[test]
fn the_metrics_port_has_three_paths_for_anybody() {
    let token = Token::new(SECRET.as_bytes());
    let door = Door { probes_alone: true, is_loopback: false, ..door(Some(&token)) };
    let host = ("host", "10.1.2.3:9177");
    for path in ["/metrics", "/livez", "/readyz"] {
        assert!(ask("GET", path, &[host], &door).is_ok(), "{path}");
    }
    let login = format!("Bearer {SECRET}");
    for path in ["/", "/session", "/status", "/log", "/screen", "/screenshot.png", "/assets/a.js"] {
        let said = ask("GET", path, &[host, ("authorization", &login)], &door);
        assert_eq!(said.unwrap_err(), 404, "{path}");
    }
    assert_eq!(ask("POST", "/power", &[host, ("authorization", &login)], &door).unwrap_err(), 404);
}

#[test]
fn paths_have_their_methods() {
    let door = door(None);
    for (method, path, status) in [
        ("GET", "/power", 405),
        ("POST", "/status", 405),
        ("POST", "/screen", 405),
        ("GET", "/login", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "/power", 405),
        ("GET", "/nothing", 404),
        ("GET", "//", 404),
        ("GET", "/assets", 404),
        ("GET", "/power/", 404),
    ] {
        let said = ask(method, path, &[HOME, ORIGIN_HOME], &door);
        assert_eq!(said.unwrap_err(), status, "{method} {path}");
    }
    assert!(ask("HEAD", "/status", &[HOME], &door).is_ok());
}

#[test]
fn a_token_is_itself_alone() {
    let token = Token::new(SECRET.as_bytes());
    assert!(token.is(SECRET.as_bytes()));
    for wrong in
        ["", "a", "a-token-of-some-lengt", "a-token-of-some-length ", "b-token-of-some-length"]
    {
        assert!(!token.is(wrong.as_bytes()), "{wrong}");
    }
    assert!(!format!("{token:?}").contains(SECRET));
}

const METHODS: [&str; 5] = ["GET", "POST", "HEAD", "PUT", "OPTIONS"];
const PATHS: [&str; 12] = [
    "/",
    "/screen",
    "/serial",
    "/power",
    "/reset",
    "/nmi",
    "/status",
    "/log",
    "/login",
    "/metrics",
    "/screenshot.png",
    "/x",
];

proptest! {
    /// Whatever is said beside it: nothing of the guest is shown or done without the token, and nothing done for a page of others.
    #[test]
    fn nothing_opens_it_but_the_token(
        method in proptest::sample::select(&METHODS[..]),
        path in proptest::sample::select(&PATHS[..]),
        host in "(localhost|127\\.0\\.0\\.1|\\[::1\\]|evil\\.example|[ -~]{0,12})(:[0-9]{1,5})?",
        origin in proptest::option::of("(https?://)?(localhost|evil\\.example|null|[ -~]{0,12})(:[0-9]{1,5})?"),
        authorization in proptest::option::of("(Bearer |Basic )?[ -~]{0,30}"),
        cookie in proptest::option::of("(berth-1234=)?[ -~]{0,30}"),
        is_loopback: bool,
        read_only: bool,
        has_token: bool,
    ) {
        let token = Token::new(SECRET.as_bytes());
        let door = Door { is_loopback, read_only, ..door(has_token.then_some(&token)) };
        let mut headers = vec![("host", host.as_str())];
        headers.extend(origin.as_deref().map(|value| ("origin", value)));
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        headers.extend(cookie.as_deref().map(|value| ("cookie", value)));
        let Ok(allowed) = ask(method, path, &headers, &door) else { return Ok(()) };
        let access = allowed.route.access();
        if has_token {
            prop_assert!(!allowed.is_known && matches!(access, Access::Open | Access::Ours));
        }
        if matches!(access, Access::Ours | Access::Act | Access::Attach) {
            let origin = origin.unwrap();
            let place = origin.split_once("://").unwrap().1;
            prop_assert!(place.eq_ignore_ascii_case(&host));
        }
        if is_loopback {
            let name = host.rsplit_once(':').map_or(host.as_str(), |(name, port)| {
                if port.bytes().all(|octet| octet.is_ascii_digit()) { name } else { host.as_str() }
            });
            prop_assert!(["localhost", "127.0.0.1", "[::1]", "[:"].contains(&name.to_ascii_lowercase().as_str()));
        }
        prop_assert!(!(read_only && access == Access::Act));
    }
}
