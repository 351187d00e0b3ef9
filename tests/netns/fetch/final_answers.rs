//! What another try cannot change is told at once; what it can is tried again.

use std::net::TcpListener;

use berth::sys::image::Error;

use super::server::{Server, answer, cut};
use super::{Place, image};

/// Faults rows 17 and 27.
#[test]
fn what_cannot_change_is_final_at_once_and_told_in_its_own_words() {
    for (location, requests, word) in [
        ("/again", 11, "more than 10 redirects"),
        (
            "file:///etc/passwd",
            1,
            "redirected to file:///etc/passwd: only http and https are followed",
        ),
        ("ftp://h/x", 1, "only http and https are followed"),
        ("data:,x", 1, "only http and https are followed"),
        ("http://[::1", 1, "this is no URL"),
        ("http://h:99999/", 1, "this is no URL"),
        (
            "http://u:secret@h:99999/?secret",
            1,
            "redirected to http://***@h:99999/?***: this is no URL",
        ),
    ] {
        let server =
            Server::new(move |_| answer("302 Found", &format!("location: {location}\r\n"), b""));
        let error = Place::new().get(&server.url("/x")).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{location}: {error}");
        assert!(error.to_string().contains(word), "{location}: {error}");
        assert_eq!(server.seen().len(), requests, "{location}");
    }
    for status in [
        "300 Choices",
        "302 Found",
        "304 Not Modified",
        "400 Bad",
        "401 Who",
        "404 Gone",
        "204 Nothing",
    ] {
        let server =
            Server::new(move |_| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into());
        let error = Place::new().get(&server.url("/x")).unwrap_err();
        let number: u16 = status[..3].parse().unwrap();
        assert!(
            matches!(error, Error::Status { status, .. } if status == number),
            "{status}: {error}"
        );
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

/// Of a server that adds many headers the image is taken; of one that is no HTTP server, or never ends its head, none.
#[test]
fn a_head_is_taken_or_refused_at_once() {
    let headers =
        |count: usize| (0..count).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let body = image(100_000);
    for count in [150, 990] {
        let served = body.clone();
        let server = Server::new(move |_| answer("200 OK", &headers(count), &served));
        let place = Place::new();
        place.get(&server.url("/x")).unwrap_or_else(|error| panic!("{count}: {error}"));
        assert!(place.image() == body);
    }
    let long = format!("x: {}\r\n", "y".repeat(1_000_000));
    for (name, head) in [
        ("headers", answer("200 OK", &headers(1001), &body)),
        ("octets", answer("200 OK", &long, &body)),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("a name that is none", answer("200 OK", "a b: c\r\n", &body)),
    ] {
        let server = Server::new(move |_| head.clone());
        let error = Place::new().get(&server.url("/x")).unwrap_err();
        let Error::Refused { why, .. } = &error else { panic!("{name}: {error}") };
        assert!(why.contains("a server of HTTP/1.1 is needed"), "{name}: {error}");
        assert_eq!(server.seen().len(), 1, "{name}");
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    for status in
        ["408 Late", "425 Early", "429 Slow", "500 Oh", "502 Bad", "503 Later", "504 Late"]
    {
        let body = image(100_000);
        let served = body.clone();
        let server = Server::new(move |asked| match asked.number {
            0 => answer(status, "", b""),
            1 => Vec::new(),
            _ => answer("200 OK", "", &served),
        });
        let place = Place::new();
        place.get(&server.url("/x")).unwrap_or_else(|error| panic!("{status}: {error}"));
        assert!(place.image() == body);
    }
    // Nobody there yet, and a name that is not known yet.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for from in [format!("http://{free}/x"), "http://no-such-host.invalid/x".to_owned()] {
        let error = Place::new().get(&from).unwrap_err();
        assert!(matches!(error, Error::Unreachable { tries: 4, idle: 4, .. }), "{from}: {error}");
    }
}

#[test]
fn redirects_of_every_form_are_followed() {
    let body = image(100_000);
    let served = body.clone();
    let server = Server::new(move |asked| match asked.path() {
        "/a/x" => answer("301 Moved", "location: ../b?y=1\r\n", b"moved"),
        "/b?y=1" => answer("302 Found", "location: c d\u{e9}\r\n", b""),
        "/c%20d%C3%A9" => {
            answer("303 See", &format!("location: //{}/e\r\n", asked.header("host").unwrap()), b"")
        }
        "/e" => answer("307 There", "location: /f#g\r\n", b""),
        "/f" => answer("308 There", "location: ?h\r\n", b""),
        "/f?h" => answer("200 OK", "", &served),
        _ => answer("404 Gone", "", b""),
    });
    let place = Place::new();
    place.get(&server.url("/a/x")).unwrap();
    assert!(place.image() == body);
}

/// Faults row 8, and who is told: the server that the URL names, and nobody else.
#[test]
fn credentials_are_decoded_and_stay_with_their_server() {
    let body = image(100_000);
    let served = body.clone();
    let other = Server::new(move |_| answer("200 OK", "", &served));
    let elsewhere = other.url("/y");
    let server = Server::new(move |asked| match asked.path() {
        "/x" => answer("302 Found", "location: /here\r\n", b""),
        _ => answer("302 Found", &format!("location: {elsewhere}\r\n"), b""),
    });
    let place = Place::new();
    place.get(&server.url("/x").replace("http://", "http://user:p%40ss@")).unwrap();
    assert!(place.image() == body);
    for asked in server.seen() {
        // user:p@ss
        assert_eq!(asked.header("authorization"), Some("Basic dXNlcjpwQHNz"), "{}", asked.line);
        assert_eq!(asked.header("host"), Some(server.address.to_string().as_str()));
    }
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[test]
fn a_literal_of_ipv6_is_a_host_as_any_other() {
    let body = image(100_000);
    let served = body.clone();
    let server = Server::on("[::1]:0", move |_| answer("200 OK", "", &served));
    let place = Place::new();
    place.get(&server.url("/x?y")).unwrap();
    assert!(place.image() == body);
    let seen = server.seen();
    assert_eq!(seen[0].line, "GET /x?y HTTP/1.1");
    assert_eq!(seen[0].header("host"), Some(server.address.to_string().as_str()));
}

/// Security review, L2: a body, an archive and a file of zeros without end, and what the server says of the length.
#[test]
fn an_image_that_is_too_large_is_refused_before_it_fills_the_volume() {
    const MAX: u64 = 1 << 20;
    let large = image(3 << 20);
    let sparse = [image(4096), vec![0; 64 << 20]].concat();
    let packed = |octets: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packer, octets).unwrap();
        packer.finish().unwrap()
    };
    // Members with nothing in them: a decoder gives no octet for any number of them.
    let nothing = packed(b"").repeat(100_000);
    let chunked = |octets: &[u8]| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        let size = format!("{:x}\r\n", octets.len());
        [head.as_bytes(), size.as_bytes(), octets, b"\r\n0\r\n\r\n"].concat()
    };
    let bomb = packed(&sparse);
    assert!((bomb.len() as u64) < MAX);
    for (what, answer) in [
        ("a length that is told", cut("200 OK", "", &large, 0)),
        ("a body", chunked(&large)),
        ("a bomb", chunked(&bomb)),
        ("zeros", chunked(&sparse)),
        ("an archive of nothing", chunked(&nothing)),
    ] {
        let server = Server::new(move |_| answer.clone());
        let place = Place { max_bytes: Some(MAX), ..Place::new() };
        let error = place.get(&server.url("/x")).unwrap_err();
        assert!(matches!(error, Error::TooLarge { max_bytes: MAX, .. }), "{what}: {error}");
        assert!(error.to_string().contains("IMG_MAX_SIZE"), "{error}");
        assert_eq!((server.seen().len(), place.names()), (1, vec![]), "{what}");
    }
    let body = image(1 << 20);
    let served = body.clone();
    let server = Server::new(move |_| answer("200 OK", "", &served));
    let place = Place { max_bytes: Some(MAX), ..Place::new() };
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
}

/// Security review, M5: the note of a download was written through a link.
#[test]
fn what_is_beside_an_image_is_made_anew_whatever_it_leads_to() {
    let body = image(600_000);
    let served = body.clone();
    let server = Server::new(move |_| answer("200 OK", "etag: \"one\"\r\n", &served));
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    std::fs::write(&victim, "as it was").unwrap();
    let place = Place::new();
    for name in [".base.img.part.from", ".base.img.part", "base.img"] {
        std::os::unix::fs::symlink(&victim, place.path(name)).unwrap();
    }
    place.get(&server.url("/x")).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "as it was");
    assert!(place.image() == body && place.names() == ["base.img"]);
}
