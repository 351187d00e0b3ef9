//! The program itself: no line of its log, no plan and no error has a password or a signature in it.

use std::process::{Command, Output};

use super::server::{Server, answer, cut};
use super::support::{Netns, veth};
use super::{Place, image};

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
    command.args(words).env("BERTH_IMAGE_DIR", images).env("BERTH_STATE_DIR", state).env("BERTH_NAME", "vm");
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
        for word in ["fetching the image", "interrupted", "answered 403", "http://***@", "/x.img?***"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("secret"), "{said}");
        for words in [&["plan"][..], &["plan", "--output", "json"]] {
            let output = berth(&pod, &Place::new(), words, set);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(output.status.success() && said.contains("?***") && !said.contains("secret"), "{said}");
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
