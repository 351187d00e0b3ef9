//! The program itself: no line of its log, no plan and no error has a password or a signature in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::server::{Server, answer, cut};
use super::{Place, image};
use crate::support::{Netns, run, veth};

const PEER: &str = "10.77.0.1";

/// A pod with a server on its link.
pub fn pod(
    script: impl Fn(&super::server::Asked) -> Vec<u8> + Send + Sync + 'static,
) -> (Netns, Netns, Server) {
    let (pod, peer) = (Netns::new("pod"), Netns::new("peer"));
    veth(&pod, "eth0", &peer, "eth0");
    pod.ip("address add 10.77.0.2/24 dev eth0");
    peer.ip(&format!("address add {PEER}/24 dev eth0"));
    pod.ip(&format!("route add default via {PEER}"));
    let server = peer.enter(move || async move { Server::on(&format!("{PEER}:0"), script) });
    (pod, peer, server)
}

fn berth(pod: &Netns, place: &Place, words: &[&str], set: &[(&str, &str)]) -> Output {
    command(pod, place, words, set).output().unwrap()
}

pub fn command(pod: &Netns, place: &Place, words: &[&str], set: &[(&str, &str)]) -> Command {
    let mut command: Command = pod.command(env!("CARGO_BIN_EXE_berth"));
    let (images, state) = (place.path("images"), place.path("state"));
    std::fs::create_dir_all(&images).unwrap();
    command
        .args(words)
        .env("BERTH_IMAGE_DIR", images)
        .env("BERTH_STATE_DIR", state)
        .env("BERTH_NAME", "vm");
    command.env("BERTH_QEMU", "/bin/true").env("BERTH_LOG", "debug").envs(set.iter().copied());
    command
}

/// Faults row 9.
#[test]
fn neither_log_nor_plan_nor_error_tells_a_secret() {
    let body = image(600_000);
    let (pod, _peer, server) = pod(move |asked| match asked.number % 2 {
        0 => cut("200 OK", "etag: \"one\"\r\n", &body, 300_000),
        _ => answer("403 No", "", b""),
    });
    let from = format!("http://user:secret@{}/x.img?X-Amz-Signature=secret", server.address);
    let by = format!("http://me:secret@{}", server.address);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    for set in [
        &[("IMG_SOURCE", from.as_str())][..],
        &[("IMG_SOURCE", &from), ("http_proxy", &by)],
        &[("IMG_SOURCE", &from), ("BERTH_LOG_FORMAT", "json")],
    ] {
        let output = berth(&pod, &Place::new(), &["run"], set);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(13), "{said}");
        for word in
            ["fetching the image", "interrupted", "answered 403", "http://***@", "/x.img?***"]
        {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("secret"), "{said}");
        for words in [&["plan"][..], &["plan", "--output", "json"]] {
            let output = berth(&pod, &Place::new(), words, set);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(
                output.status.success() && said.contains("?***") && !said.contains("secret"),
                "{said}"
            );
            assert_eq!(
                said.contains("by the proxy") || said.contains("(http_proxy)"),
                set.len() == 2 && set[1].0 == "http_proxy",
                "{said}"
            );
        }
    }
    for (wrong, code) in [
        ("htp://user:secret@h/x?secret", 10),
        ("http://user:secret@h:0/x?secret", 10),
        ("http://user:sec ret@h/x?secret", 10),
        ("user:secret@h/x?secret", 10),
        ("//user:secret@h/x?secret", 10),
        ("user:secret@h", 10),
        ("h/x?sig=a@secret", 10),
        ("http://user:secret@h/?secret", 12),
    ] {
        let output = berth(&pod, &Place::new(), &["run"], &[("IMG_SOURCE", wrong)]);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            said.contains("IMG_SOURCE=\"") && !said.contains("secret") && !said.contains("ret@"),
            "{said}"
        );
    }
}

/// The octets of every file below a directory, by its path.
fn files(dir: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), all),
            kind if kind.is_file() => {
                all.push((entry.path(), std::fs::read(entry.path()).unwrap()));
            }
            _ => {}
        }
    }
}

/// Security review, M3. Each way that a download ends, with a secret in the user, the password, the query, the
/// redirect and the proxy: nobody who reads the log, the plan, the status or a file of the volumes learns of one, nor
/// does QEMU.
#[test]
fn however_a_download_ends_no_secret_is_left_anywhere() {
    let body = image(600_000);
    let bad = body.clone();
    let (pod, peer, server) =
        pod(move |asked| match asked.path().split('?').next().unwrap_or_default() {
            "/whole" => answer("200 OK", "etag: \"one\"\r\n", &body),
            "/cut" if asked.from().is_none() => cut("200 OK", "etag: \"one\"\r\n", &body, 300_000),
            "/cut" => answer("403 No", "", b""),
            "/page" => answer("200 OK", "", b"<html>log in</html>"),
            "/echo" => answer("200 OK", "", format!("asked for {}\n", asked.path()).as_bytes()),
            "/redirect" => {
                answer("302 Found", "location: //you:hunter2@10.77.0.1:9/y?hunter2\r\n", b"")
            }
            "/nowhere" => answer("302 Found", "location: ftp://you:hunter2@h/y?hunter2\r\n", b""),
            "/loop" => answer("302 Found", "location: ?hunter2\r\n", b""),
            "/407" => answer("407 Who", "", b""),
            _ => answer("404 Gone", "", b""),
        });
    let stranger = super::tls::self_signed("DNS:other.example", &["-days", "2"]);
    let served = bad.clone();
    let tls = peer.enter(move || async move {
        super::tls::serve_by(&format!("{PEER}:0"), &stranger, move |_| {
            answer("200 OK", "", &served)
        })
    });
    let (http, https) = (server.address, tls.address);
    let url = |path: &str| format!("http://hunter2user:hunter2@{http}/{path}?token=hunter2");
    let proxy = format!("http://hunter2user:hunter2@{http}");
    let none = "0".repeat(64);
    let qemu = Place::new();
    let program = qemu.path("qemu");
    let lines =
        "#!/bin/sh\nfor file in cmdline environ; do tr '\\0' '\\n' < /proc/$$/$file >&2; done\n";
    std::fs::write(&program, lines).unwrap();
    run("chmod", &["755", program.to_str().unwrap()]);
    run("chmod", &["755", qemu.dir.path().to_str().unwrap()]);
    for (what, code, set) in [
        ("whole", None, vec![("IMG_SOURCE", url("whole"))]),
        ("404", Some(13), vec![("IMG_SOURCE", url("gone"))]),
        ("cut", Some(13), vec![("IMG_SOURCE", url("cut"))]),
        ("a page", Some(14), vec![("IMG_SOURCE", url("page"))]),
        ("a page that repeats the URL", Some(14), vec![("IMG_SOURCE", url("echo"))]),
        ("redirect", Some(13), vec![("IMG_SOURCE", url("nowhere"))]),
        ("loop", Some(13), vec![("IMG_SOURCE", url("loop"))]),
        ("digest", Some(14), vec![("IMG_SOURCE", url("whole")), ("IMG_SHA256", none)]),
        ("size", Some(14), vec![("IMG_SOURCE", url("whole")), ("IMG_MAX_SIZE", "100K".to_owned())]),
        (
            "tls",
            Some(13),
            vec![("IMG_SOURCE", format!("https://hunter2user:hunter2@{https}/x?hunter2"))],
        ),
        ("proxy", Some(13), vec![("IMG_SOURCE", url("407")), ("http_proxy", proxy.clone())]),
        (
            "tunnel",
            Some(13),
            vec![
                ("IMG_SOURCE", "https://hunter2user:hunter2@h/x?hunter2".to_owned()),
                ("https_proxy", proxy),
            ],
        ),
        // Tried again until the test has seen enough.
        ("another server", None, vec![("IMG_SOURCE", url("redirect"))]),
        (
            "name",
            None,
            vec![("IMG_SOURCE", "http://hunter2user:hunter2@nothing.invalid/x?hunter2".to_owned())],
        ),
    ] {
        let place = Place::new();
        let mut set: Vec<(&str, &str)> =
            set.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // It looks at itself in /proc, which is not among what QEMU may open.
        set.extend([
            ("BERTH_CONFINE", "off"),
            ("BERTH_QEMU", program.to_str().unwrap()),
            ("IMG_TARGET", "base.img"),
        ]);
        let mut said = Vec::new();
        for words in [&["plan"][..], &["plan", "--output", "json"]] {
            let output = berth(&pod, &place, words, &set);
            assert!(output.status.success(), "{what}");
            said.extend([output.stdout, output.stderr].concat());
        }
        let mut launcher = command(&pod, &place, &["run"], &set);
        let launcher = launcher
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = launcher.id().to_string();
        let limit = if code.is_some() || what == "whole" { 60 } else { 2 };
        let (ended, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || ended.send(launcher.wait_with_output().unwrap()));
        let output = waiting.recv_timeout(Duration::from_secs(limit)).unwrap_or_else(|_| {
            said.extend(berth(&pod, &place, &["status"], &set).stdout);
            run("kill", &["-TERM", &pid]);
            waiting.recv_timeout(Duration::from_secs(60)).unwrap()
        });
        said.extend([output.stdout, output.stderr].concat());
        let said = String::from_utf8_lossy(&said).into_owned();
        if let Some(code) = code {
            assert_eq!(output.status.code(), Some(code), "{what}\n{said}");
        }
        assert_eq!(
            said.contains("PATH="),
            what == "whole",
            "QEMU has an environment: {what}\n{said}"
        );
        assert!(!said.contains("hunter2"), "{what}\n{said}");
        let mut left = Vec::new();
        files(place.dir.path(), &mut left);
        for (path, octets) in left {
            let has = octets.windows(7).any(|window| window == b"hunter2");
            assert!(!has, "{what}: {}", path.display());
        }
    }
}
