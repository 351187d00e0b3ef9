//! Proxies as curl has them, and curl beside us.

use std::net::TcpListener;
use std::process::Command;

use berth::sys::image::Error;

use super::server::{Server, answer};
use super::{Place, image, tls};

/// A proxy that answers for everybody, and lets everybody through.
fn proxy(body: &[u8]) -> Server {
    let body = body.to_vec();
    Server::new(move |asked| match asked.line.starts_with("CONNECT ") {
        true => b"HTTP/1.1 200 Go on\r\n\r\n".to_vec(),
        false => answer("200 OK", "", &body),
    })
}

/// What curl asks with these variables.
fn curl(set: &[(&str, &str)], words: &[&str]) {
    let mut command = Command::new("curl");
    command.env_clear().envs(set.iter().copied()).env("PATH", std::env::var("PATH").unwrap());
    command.args(["-q", "-sS", "-o", "/dev/null", "--max-time", "20"]).args(words);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Faults row 6: Squid lets CONNECT go to 443 only.
#[test]
fn http_goes_by_a_proxy_in_absolute_form_as_curls_does() {
    let body = image(100_000);
    let proxy = proxy(&body);
    let by = format!("http://me:p%3aw@{}", proxy.address);
    for from in [
        "http://images.example/a%20b?c=d#e",
        "http://images.example:8080/",
        "http://user:p%40ss@images.example/x",
        "http://[fd00::1]:8080/x",
        "HTTP://IMAGES.example/x",
    ] {
        let set = [("http_proxy", by.as_str())];
        let before = proxy.seen().len();
        curl(&set, &[from]);
        let place = Place::by(&set);
        place.get(from).unwrap();
        assert!(place.image() == body);
        let seen = proxy.seen();
        let [theirs, ours] = &seen[before..] else { panic!("{from}: {seen:?}") };
        assert!(ours.line.starts_with("GET http://"), "{}", ours.line);
        let lower = |line: &str| line.replace("IMAGES", "images");
        assert_eq!(lower(&ours.line), lower(&theirs.line));
        for name in ["host", "authorization", "proxy-authorization"] {
            assert_eq!(
                ours.header(name).map(lower),
                theirs.header(name).map(lower),
                "{from}: {name}"
            );
        }
        assert!(ours.header("proxy-authorization").is_some());
    }
}

/// Faults row 7: which variables count, and for whom none does.
#[test]
fn who_is_asked_directly_is_who_curl_asks_directly() {
    let body = image(100_000);
    let proxy = proxy(&body);
    let by = proxy.address.to_string();
    let (v4, v6) = {
        let (one, two) = (body.clone(), body.clone());
        (
            Server::new(move |_| answer("200 OK", "", &one)),
            Server::on("[::1]:0", move |_| answer("200 OK", "", &two)),
        )
    };
    let (four, six) = (v4.url("/x"), v6.url("/x"));
    let named = four.replace("127.0.0.1", "localhost");
    let variables: &[&[(&str, &str)]] = &[
        &[],
        &[("http_proxy", &by)],
        &[("HTTP_PROXY", &by)],
        &[("all_proxy", &by)],
        &[("ALL_PROXY", &by)],
        &[("https_proxy", &by)],
        &[("http_proxy", ""), ("all_proxy", &by)],
    ];
    // Networks of IPv6 are left to the unit tests: curl 7.88 compares these as text, which its manual does not say.
    let lists = [
        "",
        "*",
        "127.0.0.1",
        "127.0.0.0/8",
        "127.0.0.0/24",
        "128.0.0.0/8",
        "127.0.0.1/33",
        "127.0.0.9/28",
        "10.0.0.0/8,127.0.0.1",
        "10.0.0.1 127.0.0.1",
        "0.0.1",
        "localhost",
        "LocalHost",
        ".localhost",
        "ocalhost",
        "host",
        "localhost.",
        "::1",
        "fd00::/8",
        "*.localhost",
        "localhost:1",
    ];
    let direct = |set: &[(&str, &str)], from: &str, ours: bool| {
        let before = proxy.seen().len();
        match ours {
            true => Place::by(set).get(from).unwrap(),
            false => curl(set, &[from]),
        }
        proxy.seen().len() == before
    };
    let agree = |set: &[(&str, &str)], from: &str| {
        assert_eq!(direct(set, from, true), direct(set, from, false), "{set:?} {from}");
    };
    for set in variables {
        agree(set, &four);
    }
    for list in lists {
        for (from, name) in [(&four, "no_proxy"), (&named, "NO_PROXY"), (&six, "NO_PROXY")] {
            agree(&[("http_proxy", &by), (name, list)], from);
        }
    }
    // Row 7 itself, and not only that both are the same.
    assert!(direct(&[("http_proxy", &by), ("NO_PROXY", "127.0.0.0/24")], &four, true));
    assert!(!direct(&[("http_proxy", &by), ("NO_PROXY", "127.1.0.0/24")], &four, true));
}

#[test]
fn https_goes_by_a_tunnel_and_the_server_is_the_one_that_is_checked() {
    let body = image(300_000);
    let (proxy, authority) = (proxy(&body), tls::Authority::new());
    let server = tls::serve(&authority.issue("DNS:localhost"), &body);
    let port = server.address.port();
    let from = format!("https://user:pass@localhost:{port}/x");
    let by = format!("http://me:p%40@{}", proxy.address);
    for variable in ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        let before = proxy.seen().len();
        let set = [(variable, by.as_str())];
        curl(&set, &["--cacert", authority.file.to_str().unwrap(), &from]);
        let place = Place { ca_file: Some(authority.file.clone()), ..Place::by(&set) };
        place.get(&from).unwrap();
        assert!(place.image() == body);
        let seen = proxy.seen();
        let [theirs, ours] = &seen[before..] else { panic!("{seen:?}") };
        assert_eq!(ours.line, format!("CONNECT localhost:{port} HTTP/1.1"));
        for name in ["host", "proxy-authorization"] {
            assert_eq!(ours.header(name), theirs.header(name), "{name}");
        }
        assert_eq!(
            (ours.line.as_str(), ours.header("authorization")),
            (theirs.line.as_str(), None)
        );
        let [.., theirs, ours] = &server.seen()[..] else { panic!() };
        assert_eq!(ours.line, "GET /x HTTP/1.1");
        assert_eq!(ours.header("authorization"), theirs.header("authorization"));
        assert_eq!(ours.header("proxy-authorization"), None);
    }
}

#[test]
fn a_proxy_may_be_spoken_to_by_tls() {
    let body = image(300_000);
    let authority = tls::Authority::new();
    let proxy = tls::serve(&authority.issue("DNS:localhost"), &body);
    let by = format!("https://localhost:{}", proxy.address.port());
    let place =
        Place { ca_file: Some(authority.file.clone()), ..Place::by(&[("http_proxy", &by)]) };
    place.get("http://images.example/x").unwrap();
    assert!(place.image() == body);
    assert_eq!(proxy.lines(), ["GET http://images.example/x HTTP/1.1"]);
}

#[test]
fn a_redirect_chooses_its_proxy_anew() {
    let proxy = Server::new(|_| answer("302 Found", "location: http://127.0.0.1:9/x\r\n", b""));
    let by = proxy.address.to_string();
    let error =
        Place::by(&[("http_proxy", &by), ("no_proxy", "127.0.0.1")]).get("http://images.example/x");
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("redirected to http://127.0.0.1:9/x: ") && error.contains("refused"),
        "{error}"
    );
    assert!(!error.contains("by the proxy"), "{error}");
}

/// Who reads the log has to learn that a proxy was in the way, which one, and whose word it was.
#[test]
fn an_error_says_which_proxy_was_in_the_way() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (variable, from) in [("http_proxy", "http://h/x"), ("HTTPS_PROXY", "https://h/x")] {
        let by = format!("http://me:secret@{free}");
        let error = Place::by(&[(variable, &by)]).get(from).unwrap_err();
        assert!(matches!(error, Error::Unreachable { tries: 4, .. }), "{error}");
        let said = format!("by the proxy http://***@{free} ({variable}): ");
        assert!(
            error.to_string().contains(&said) && error.to_string().contains("refused"),
            "{error}"
        );
    }
    for (status, tries, word) in [
        ("403 No", 1, "403"),
        ("407 Who", 1, "407"),
        ("502 Bad", 4, "502"),
        ("301 There", 1, "301"),
    ] {
        let proxy = Server::new(move |_| answer(status, "", b""));
        let by = proxy.address.to_string();
        for from in ["http://h/x", "https://h/x"] {
            let before = proxy.seen().len();
            let error = Place::by(&[("all_proxy", &by)]).get(from).unwrap_err().to_string();
            let said = format!("by the proxy http://{by} (all_proxy): ");
            assert!(error.contains(&said) && error.contains(word), "{status} {from}: {error}");
            assert_eq!(proxy.seen().len() - before, tries, "{status} {from}: {error}");
        }
    }
    let error = Place::by(&[("all_proxy", "socks5://u:secret@s:1")]).get("http://h/x").unwrap_err();
    let error = error.to_string();
    assert!(error.contains("all_proxy=\"socks5://***@s:1\"") && error.contains("SOCKS"), "{error}");
}
