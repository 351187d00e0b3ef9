//! No image is half an image: parts, their lengths, their versions, and links that never carry all of it.

use berth::sys::image::Error;

use super::server::{Asked, Server, answer, cut, part};
use super::{Place, image, leave, leave_part, leave_part_of_boot, read, url};

const ETAG: &str = "etag: \"one\"\r\n";

/// Faults row 2: the number after the slash is the length, however much of it comes at a time.
#[test]
fn a_206_that_is_shorter_than_asked_is_asked_on() {
    let body = image(1_000_000);
    let served = body.clone();
    let server = Server::new(move |asked| match asked.from() {
        None => cut("200 OK", ETAG, &served, 300_000),
        Some(from) => part(ETAG, &served, from, (from + 150_000).min(served.len())),
    });
    let place = Place::new();
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
    let asked: Vec<Option<usize>> = server.seen().iter().map(Asked::from).collect();
    // The last octets before a cut are not always written; from there on it is in steps of what is sent.
    let first = asked[1].unwrap();
    assert!(first <= 300_000 && asked[0].is_none(), "{asked:?}");
    let steps: Vec<_> =
        (0..).map(|step| first + step * 150_000).take_while(|at| *at < body.len()).collect();
    assert_eq!(asked[1..], steps.into_iter().map(Some).collect::<Vec<_>>());
    assert_eq!(place.names(), ["base.img"]);
}

/// And rows 2 and 10: what contradicts what was asked for, or itself, is not used.
#[test]
fn a_part_that_contradicts_is_never_spliced_in() {
    let body = image(600_000);
    let other: Vec<u8> = body.iter().map(|octet| !octet).collect();
    type Wrong = fn(usize, &[u8], &[u8]) -> Vec<u8>;
    let wrong: [(&str, Wrong); 8] = [
        ("another start", |from, body, _| part(ETAG, body, from - 1, body.len())),
        ("from the start", |_, body, _| part(ETAG, body, 0, body.len())),
        ("another version", |from, _, other| part("etag: \"two\"\r\n", other, from, other.len())),
        ("no Content-Range", |from, body, _| answer("206 Partial Content", ETAG, &body[from..])),
        ("another whole", |from, _, other| {
            let range =
                format!("content-range: bytes {from}-{}/{}\r\n", other.len() - 1, other.len() + 1);
            answer("206 Partial Content", &range, &other[from..])
        }),
        ("fewer octets", |from, body, _| {
            let range =
                format!("content-range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
            answer("206 Partial Content", &range, &body[from + 1..])
        }),
        ("past its end", |from, body, _| {
            let range = format!("content-range: bytes {from}-{}/{}\r\n", body.len(), body.len());
            answer("206 Partial Content", &range, &body[from..])
        }),
        ("parts of parts", |from, body, _| {
            answer(
                "206 Partial Content",
                "content-type: multipart/byteranges; boundary=x\r\n",
                &body[from..],
            )
        }),
    ];
    for (name, wrong) in wrong {
        let (served, other) = (body.clone(), other.clone());
        let server = Server::new(move |asked| match (asked.number, asked.from()) {
            (0, _) => cut("200 OK", ETAG, &served, 400_000),
            (_, Some(from)) => wrong(from, &served, &other),
            (_, None) => answer("200 OK", ETAG, &served),
        });
        let place = Place::new();
        place.get(&server.url("/x")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(place.image() == body, "{name}");
        let seen = server.seen();
        assert_eq!(
            (seen.len(), seen[1].from().is_some(), seen[2].from()),
            (3, true, None),
            "{name}"
        );
    }
}

#[test]
fn a_part_of_unknown_whole_is_no_whole() {
    let body = image(600_000);
    let served = body.clone();
    let server = Server::new(move |asked| match asked.from() {
        // Of a file that was told without its length at first.
        None if asked.number == 0 => [
            b"HTTP/1.1 200 OK\r\netag: \"one\"\r\ntransfer-encoding: chunked\r\n\r\n61a80\r\n",
            &served[..400_000],
        ]
        .concat(),
        None => answer("200 OK", ETAG, &served),
        Some(from) => {
            let range = format!("{ETAG}content-range: bytes {from}-449999/*\r\n");
            answer("206 Partial Content", &range, &served[from..450_000])
        }
    });
    let place = Place::new();
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
    assert_eq!(server.seen()[2].from(), None);
}

#[test]
fn a_part_that_is_whole_already_needs_nothing_more() {
    let body = image(200_000);
    let length = body.len();
    let server = Server::new(move |_| {
        answer(
            "416 Range Not Satisfiable",
            &format!("content-range: bytes */{length}\r\n"),
            b"no such range",
        )
    });
    let place = Place::wanting(&body);
    leave_part(&place, &url(&server.url("/x")), "\"one\"", &body);
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(place.names(), ["base.img"]);
}

/// It said how long the image is, and then that what there is is all of it.
#[test]
fn a_416_that_contradicts_what_was_said_is_not_the_whole() {
    let body = image(600_000);
    let served = body.clone();
    let server = Server::new(move |asked| match (asked.number, asked.from()) {
        (0, _) => cut("200 OK", ETAG, &served, 300_000),
        (_, Some(from)) => {
            answer("416 Nope", &format!("{ETAG}content-range: bytes */{from}\r\n"), b"")
        }
        (_, None) => answer("200 OK", ETAG, &served),
    });
    // Nothing but the length tells.
    let place = Place::new();
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
}

/// Two VMs that share a directory of images, each with a disk of its own on the same one.
#[test]
fn one_of_two_launchers_fetches_and_the_other_waits() {
    let body = image(3_000_000);
    let served = body.clone();
    let server = Server::new(move |asked| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        match (asked.number, asked.from()) {
            (0, _) => cut("200 OK", ETAG, &served, 1_000_000),
            (_, Some(from)) => part(ETAG, &served, from, served.len()),
            (_, None) => answer("200 OK", ETAG, &served),
        }
    });
    let place = Place::wanting(&body);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| place.get(&server.url("/x")))).collect();
        all.into_iter().for_each(|one| one.join().unwrap().unwrap());
    });
    assert!(place.image() == body);
    assert_eq!(server.seen().len(), 2, "one of them asked, and asked on");
    assert_eq!(place.names(), ["base.img"]);
}

#[test]
fn a_part_that_is_longer_than_the_whole_is_read_anew() {
    let body = image(200_000);
    let served = body.clone();
    let server = Server::new(move |asked| match asked.from() {
        Some(_) => answer("416 Range Not Satisfiable", "content-range: bytes */200000\r\n", b""),
        None => answer("200 OK", ETAG, &served),
    });
    let place = Place::wanting(&body);
    leave_part(&place, &url(&server.url("/x")), "\"one\"", &image(300_000));
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
}

/// A file that was cut short on its server, under a name it had before.
#[test]
fn a_416_that_contradicts_the_length_told_before_is_no_end() {
    let body = image(600_000);
    let served = body.clone();
    let server = Server::new(move |asked| match (asked.number, asked.from()) {
        (0, _) => cut("200 OK", ETAG, &served, 400_000),
        (_, Some(from)) => answer(
            "416 Range Not Satisfiable",
            &format!("{ETAG}content-range: bytes */{from}\r\n"),
            b"",
        ),
        (_, None) => answer("200 OK", ETAG, &served),
    });
    let place = Place::new();
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
    let asked: Vec<bool> = server.seen().iter().map(|asked| asked.from().is_some()).collect();
    assert_eq!(asked, [false, true, false]);
}

/// The length is noted for the next start, which takes the part up, and believes no other.
#[test]
fn the_length_told_to_an_earlier_start_is_held_to() {
    let body = image(600_000);
    type Then = fn(usize, &[u8]) -> Vec<u8>;
    let answers: [(&str, Then, &[bool]); 3] = [
        ("the rest", |from, body| part(ETAG, body, from, body.len()), &[false, true, true]),
        (
            "another 416",
            |from, _| {
                answer(
                    "416 Range Not Satisfiable",
                    &format!("{ETAG}content-range: bytes */{from}\r\n"),
                    b"",
                )
            },
            &[false, true, true, false],
        ),
        (
            "another whole",
            |from, body| part(ETAG, &body[..from + 512], from, from + 512),
            &[false, true, true, false],
        ),
    ];
    for (name, then, wanted) in answers {
        let served = body.clone();
        let server = Server::new(move |asked| match (asked.number, asked.from()) {
            (0, _) => cut("200 OK", ETAG, &served, 400_000),
            (1, _) => answer("403 Not now", "", b""),
            (_, Some(from)) => then(from, &served),
            (_, None) => answer("200 OK", ETAG, &served),
        });
        let place = Place::new();
        place.get(&server.url("/x")).unwrap_err();
        assert_eq!(
            read(&place.path(".base.img.part.from")).lines().nth(3),
            Some("600000"),
            "{name}"
        );
        place.get(&server.url("/x")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(place.image() == body, "{name}");
        let asked: Vec<bool> = server.seen().iter().map(|asked| asked.from().is_some()).collect();
        assert_eq!(asked, wanted, "{name}");
    }
}

/// Spoilt, or less than the part has: then the note is of something else.
#[test]
fn a_length_that_cannot_be_is_no_note() {
    let boot = read(std::path::Path::new("/proc/sys/kernel/random/boot_id"));
    for (total, taken_up) in [
        ("", true),
        ("200000\n", true),
        ("2000", false),
        ("-200000", false),
        ("x", false),
        ("\n", false),
    ] {
        let body = image(200_000);
        let served = body.clone();
        let server = Server::new(move |asked| match asked.from() {
            Some(from) => part(ETAG, &served, from, served.len()),
            None => answer("200 OK", ETAG, &served),
        });
        let (place, from) = (Place::wanting(&body), url(&server.url("/x")));
        leave(&place, &body[..100_000], &format!("{}\n\"one\"\n{boot}{total}", from.fingerprint()));
        place.get(&server.url("/x")).unwrap();
        assert!(place.image() == body, "{total:?}");
        assert_eq!(server.seen()[0].from().is_some(), taken_up, "{total:?}");
    }
}

/// What a power cut left of a note is no reason not to start.
#[test]
fn a_note_that_was_spoilt_is_no_note() {
    for validator in ["", "\u{7f}\u{1}", "\"o\u{0}ne\""] {
        let body = image(200_000);
        let served = body.clone();
        let server = Server::new(move |_| answer("200 OK", ETAG, &served));
        let place = Place::wanting(&body);
        leave_part(&place, &url(&server.url("/x")), validator, &[7; 100_000]);
        place.get(&server.url("/x")).unwrap();
        assert!(place.image() == body && server.seen()[0].from().is_none());
    }
}

/// What was not synced before the power went may be zeros in the middle, and no wire would tell.
#[test]
fn a_part_of_another_boot_is_not_used() {
    let boot = "11111111-2222-4333-8444-555555555555\n";
    for boot in [boot, ""] {
        let body = image(200_000);
        let served = body.clone();
        let server = Server::new(move |_| answer("200 OK", ETAG, &served));
        let place = Place::wanting(&body);
        leave_part_of_boot(&place, &url(&server.url("/x")), "\"one\"", &[0; 100_000], boot);
        place.get(&server.url("/x")).unwrap();
        assert!(place.image() == body && server.seen()[0].from().is_none());
    }
}

/// A corrected source is asked from its beginning; another query or password is another source.
#[test]
fn a_part_of_another_source_is_not_used() {
    for (before, now) in [("/old", "/new"), ("/x?sig=1", "/x?sig=2")] {
        let body = image(200_000);
        let served = body.clone();
        let server = Server::new(move |_| answer("200 OK", ETAG, &served));
        let place = Place::wanting(&body);
        leave_part(&place, &url(&server.url(before)), "\"one\"", &[7; 100_000]);
        place.get(&server.url(now)).unwrap();
        assert!(place.image() == body);
        assert_eq!(server.seen()[0].from(), None);
    }
}

/// Faults row 5: it never gave up, since each try began at zero and looked like progress.
#[test]
fn a_link_that_always_breaks_is_given_up_where_nothing_can_be_taken_up() {
    let body = image(600_000);
    let packed = {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, &body).unwrap();
        packer.finish().unwrap()
    };
    let chunked = |body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\n{ETAG}transfer-encoding: chunked\r\n\r\n{:x}\r\n",
            body.len()
        );
        [head.as_bytes(), &body[..300_000]].concat()
    };
    let answers = [
        ("gz", cut("200 OK", ETAG, &packed, 300_000)),
        ("chunked", chunked(&body)),
        ("no ranges", cut("200 OK", ETAG, &body, 300_000)),
        ("no validator", cut("200 OK", "", &body, 300_000)),
    ];
    for (name, answer) in answers {
        let server = Server::new(move |_| answer.clone());
        let place = Place::new();
        let error = place.get(&server.url("/x")).unwrap_err();
        let Error::Unreachable { tries, idle, furthest, .. } = &error else {
            panic!("{name}: {error}")
        };
        assert!(*tries < 8 && *idle == 4 && *furthest > 100_000, "{name}: {error}");
        assert_eq!(server.seen().len(), usize::try_from(*tries).unwrap(), "{name}");
        assert!(
            error.to_string().contains(&format!("given up after {tries} tries")),
            "{name}: {error}"
        );
        assert!(!place.path("base.img").exists());
    }
}

/// Slow is not broken: each try gets further, however often it ends.
#[test]
fn a_link_that_breaks_often_gets_there() {
    let body = image(1_000_000);
    let served = body.clone();
    let server = Server::new(move |asked| match asked.from() {
        None => cut("200 OK", ETAG, &served, 100_000),
        Some(from) => cut(
            "206 Partial Content",
            &format!("{ETAG}content-range: bytes {from}-{}/{}\r\n", served.len() - 1, served.len()),
            &served[from..],
            40_000,
        ),
    });
    let place = Place::wanting(&body);
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body && server.seen().len() > 20, "{}", server.seen().len());
}

#[test]
fn the_note_beside_a_part_has_no_secret_in_it() {
    let body = image(600_000);
    let server = Server::new(move |asked| match asked.number {
        0 => cut("200 OK", ETAG, &body, 300_000),
        _ => answer("503 Later", "", b""),
    });
    let place = Place::new();
    let from = server.url("/x?sig=secret").replace("http://", "http://user:secret@");
    place.get(&from).unwrap_err();
    assert_eq!(place.names(), [".base.img.part", ".base.img.part.from"]);
    let note = read(&place.path(".base.img.part.from"));
    assert!(note.contains("\"one\"") && !note.contains("secret"), "{note}");
}

/// A link that has run out, or a proxy that was mistaken: what is there already is not fetched twice.
#[test]
fn a_refusal_on_the_way_costs_nothing_of_what_is_there() {
    let body = image(600_000);
    let served = body.clone();
    let server = Server::new(move |asked| match (asked.number, asked.from()) {
        (0, _) => cut("200 OK", ETAG, &served, 300_000),
        (1, _) => answer("403 Not now", "", b""),
        (_, Some(from)) => part(ETAG, &served, from, served.len()),
        (_, None) => answer("500 Whole", "", b""),
    });
    let place = Place::wanting(&body);
    let error = place.get(&server.url("/x")).unwrap_err();
    assert!(matches!(error, Error::Status { status: 403, .. }), "{error}");
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body && server.seen().len() == 3);
    assert_eq!(place.names(), ["base.img"]);
}
