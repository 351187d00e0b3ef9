//! Several launchers that want one image of a shared directory: one fetches, the others wait and take it.

use crate::support::until;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth::config::{Checksum, Proxies};
use berth::sys::image::{Access, Error, Origin, Request, fetch};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Gid, Pid, Signal, Uid, kill_process};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use sha2::{Digest, Sha256};

use super::server::{Server, answer, cut, part};
use super::{Place, QUICK, image, leave_part, secrets, url};

const ETAG: &str = "etag: \"one\"\r\n";
const LONG: Duration = Duration::from_secs(60);

/// Whether somebody waits for the lock (proc(5), `/proc/locks`).
fn waited_for(lock: &Path) -> bool {
    let Ok(found) = std::fs::metadata(lock) else { return false };
    let inode = format!(":{} ", found.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&inode))
}

fn hold(lock: &Path) -> File {
    let file = File::create(lock).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

/// A server that breaks off, and goes on with this answer only when it is told to.
fn paused(body: &[u8], then: fn(&[u8], usize) -> Vec<u8>) -> (Server, Sender<()>) {
    let (go, wait): (_, Receiver<()>) = channel();
    let (served, wait) = (body.to_vec(), Mutex::new(wait));
    let server = Server::new(move |asked| match (asked.number, asked.from()) {
        (0, _) => cut("200 OK", ETAG, &served, 300_000),
        (1, Some(from)) => {
            wait.lock().unwrap().recv_timeout(LONG).unwrap();
            then(&served, from)
        }
        (_, Some(from)) => part(ETAG, &served, from, served.len()),
        (_, None) => answer("200 OK", ETAG, &served),
    });
    (server, go)
}

/// Longer than the pause of the server above.
fn get(target: &Path, origin: Origin<'_>, checksum: Option<&Checksum>) -> Result<(), Error> {
    let timing = berth::sys::image::Timing { stall: LONG, ..QUICK };
    let proxies = &Proxies::NONE;
    fetch(
        &Request {
            origin,
            target,
            checksum,
            ca_file: None,
            proxies,
            timing,
            max_bytes: None,
            access: Access::ALL,
        },
        &mut |_| {},
    )
}

/// What the first got is taken, wherever the second's would have come from; its own source is not even asked.
#[test]
fn a_second_fetcher_waits_and_takes_what_the_first_got() {
    let body = image(1_000_000);
    for from_path in [false, true] {
        let (server, go) = paused(&body, |body, from| part(ETAG, body, from, body.len()));
        let place = Place::new();
        let (target, lock) = (place.path("base.img"), place.path(".base.img.part.lock"));
        let (from, elsewhere) = (url(&server.url("/x")), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(elsewhere.path(), image(700_000)).unwrap();
        let checksum = Checksum::Sha256(Sha256::digest(&body).to_vec());
        std::thread::scope(|scope| {
            let first = scope.spawn(|| get(&target, Origin::Url(&from), Some(&checksum)));
            until("the first is under way", || server.seen().len() == 2);
            let second = scope.spawn(|| {
                let origin =
                    if from_path { Origin::Path(elsewhere.path()) } else { Origin::Url(&from) };
                get(&target, origin, Some(&checksum))
            });
            until("the second waits", || waited_for(&lock));
            go.send(()).unwrap();
            first.join().unwrap().unwrap();
            second.join().unwrap().unwrap();
        });
        assert!(place.image() == body && server.seen().len() == 2, "{from_path}");
        assert_eq!(place.names(), ["base.img"]);
    }
}

#[test]
fn a_second_fetcher_goes_on_where_the_first_failed() {
    let body = image(1_000_000);
    let (server, go) = paused(&body, |_, _| answer("403 Not you", "", b""));
    let place = Place::wanting(&body);
    let (target, lock) = (place.path("base.img"), place.path(".base.img.part.lock"));
    let from = url(&server.url("/x"));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&target, Origin::Url(&from), place.checksum.as_ref()));
        until("the first is under way", || server.seen().len() == 2);
        let second = scope.spawn(|| get(&target, Origin::Url(&from), place.checksum.as_ref()));
        until("the second waits", || waited_for(&lock));
        go.send(()).unwrap();
        let error = first.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Status { status: 403, .. }), "{error}");
        second.join().unwrap().unwrap();
    });
    assert!(place.image() == body);
    // The first's part is taken up.
    assert!(server.seen().len() == 3 && server.seen()[2].from().is_some());
    assert_eq!(place.names(), ["base.img"]);
}

#[test]
fn what_came_meanwhile_is_looked_at() {
    let body = image(500_000);
    for (came, requests) in [(&b"<html>no image</html>"[..], 1), (&image(400_000), 0)] {
        let served = body.clone();
        let server = Server::new(move |_| answer("200 OK", ETAG, &served));
        let place = Place::new();
        let (target, lock) = (place.path("base.img"), place.path(".base.img.part.lock"));
        let held = hold(&lock);
        let from = url(&server.url("/x"));
        std::thread::scope(|scope| {
            let fetcher = scope.spawn(|| get(&target, Origin::Url(&from), None));
            until("it waits", || waited_for(&lock));
            std::fs::write(&target, came).unwrap();
            drop(held);
            fetcher.join().unwrap().unwrap();
        });
        assert_eq!(server.seen().len(), requests);
        assert!(place.image() == if requests == 0 { came } else { &body });
        assert_eq!(place.names(), ["base.img"]);
    }
}

/// What was there before is what the caller does not want.
#[test]
fn an_image_that_was_there_before_is_replaced() {
    let body = image(500_000);
    let served = body.clone();
    let server = Server::new(move |_| answer("200 OK", ETAG, &served));
    let place = Place::new();
    std::fs::write(place.path("base.img"), image(400_000)).unwrap();
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
}

/// The lock is removed by who held it: to hold a removed one is to hold nothing.
#[test]
fn a_lock_that_was_removed_meanwhile_is_not_taken_for_the_next() {
    let body = image(500_000);
    let served = body.clone();
    let server = Server::new(move |_| answer("200 OK", ETAG, &served));
    let place = Place::new();
    let (target, lock) = (place.path("base.img"), place.path(".base.img.part.lock"));
    let first = hold(&lock);
    let from = url(&server.url("/x"));
    std::thread::scope(|scope| {
        let fetcher = scope.spawn(|| get(&target, Origin::Url(&from), None));
        until("it waits for the first", || waited_for(&lock));
        std::fs::remove_file(&lock).unwrap();
        let second = hold(&lock);
        drop(first);
        until("it waits for the second", || waited_for(&lock));
        assert!(server.seen().is_empty() && !fetcher.is_finished());
        drop(second);
        fetcher.join().unwrap().unwrap();
    });
    assert!(place.image() == body);
    assert_eq!(place.names(), ["base.img"]);
}

/// The kernel let go of it; only its name is left.
#[test]
fn the_lock_of_one_that_was_killed_is_taken() {
    let body = image(500_000);
    let served = body.clone();
    let server = Server::new(move |asked| part(ETAG, &served, asked.from().unwrap(), served.len()));
    let place = Place::wanting(&body);
    std::fs::write(place.path(".base.img.part.lock"), "pod (pid 1)\n").unwrap();
    leave_part(&place, &url(&server.url("/x")), "\"one\"", &body[..200_000]);
    place.get(&server.url("/x")).unwrap();
    assert!(place.image() == body);
    assert_eq!(place.names(), ["base.img"]);
}

/// Somebody else's lock is held as well, and where only its owner may remove it, it stays.
#[test]
fn the_lock_of_another_user_is_taken() {
    let body = image(500_000);
    for (mode, left) in [
        (0o777, &["base.img", "source"][..]),
        (0o1777, &[".base.img.part.lock", "base.img", "source"]),
    ] {
        let place = Place::new();
        std::fs::set_permissions(place.dir.path(), Permissions::from_mode(mode)).unwrap();
        let (target, source) = (place.path("base.img"), place.path("source"));
        std::fs::write(&source, &body).unwrap();
        let lock = place.path(".base.img.part.lock");
        let held = hold(&lock);
        std::fs::set_permissions(&lock, Permissions::from_mode(0o664)).unwrap();
        std::thread::scope(|scope| {
            let nobody = scope.spawn(|| {
                set_thread_groups(&[]).unwrap();
                set_thread_gid(Gid::from_raw(65534)).unwrap();
                set_thread_uid(Uid::from_raw(65534)).unwrap();
                get(&target, Origin::Path(&source), None)
            });
            until("it waits", || waited_for(&lock) || nobody.is_finished());
            drop(held);
            nobody.join().unwrap().unwrap();
        });
        assert!(place.image() == body);
        assert_eq!(place.names(), left, "{mode:o}");
    }
}

/// However they meet, the image is one of those that were sent, from the first octet to the last.
#[test]
fn many_at_once_never_splice() {
    let bodies: Arc<Vec<Vec<u8>>> =
        Arc::new((0..6).map(|number| image(600_000 + number * 512)).collect());
    let served = bodies.clone();
    let server = Server::new(move |asked| {
        let number: usize = asked.path()[1..].parse().unwrap();
        let etag = format!("etag: \"{number}\"\r\n");
        match asked.from() {
            None => cut("200 OK", &etag, &served[number], 250_000),
            Some(from) => part(&etag, &served[number], from, served[number].len()),
        }
    });
    let place = Place::new();
    let target = place.path("base.img");
    std::thread::scope(|scope| {
        let fetchers: Vec<_> = (0..bodies.len())
            .map(|number| {
                let (from, target) = (url(&server.url(&format!("/{number}"))), &target);
                scope.spawn(move || get(target, Origin::Url(&from), None))
            })
            .collect();
        for fetcher in fetchers {
            fetcher.join().unwrap().unwrap();
        }
    });
    assert!(bodies.contains(&place.image()));
    assert_eq!(place.names(), ["base.img"]);
}

/// The program itself: who waits says so, and for whom, and ends when it is told to.
#[test]
fn who_waits_says_so_and_ends_at_sigterm() {
    let (pod, _peer, server) = secrets::pod(|_| answer("404 Gone", "", b""));
    let place = Place::new();
    let from = format!("http://{}/x.img", server.address);
    let mut command = secrets::command(&pod, &place, &["run"], &[("IMG_SOURCE", &from)]);
    let lock = place.path("images/.x.img.part.lock");
    let held = hold(&lock);
    std::fs::write(&lock, "pod-a (pid 7)\n").unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    while !said.contains("another launcher fetches this image") {
        said += &lines.next().unwrap_or_else(|| panic!("{said}"));
    }
    assert!(said.contains("pod-a (pid 7)") && said.contains(lock.to_str().unwrap()), "{said}");
    until("it waits", || waited_for(&lock));
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let started = Instant::now();
    child.wait().unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(server.seen().is_empty());
    drop(held);
}
