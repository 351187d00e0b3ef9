//! Name servers that are scripted: those that resolv.conf names, and those that answer as broken ones do.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::serve::Site;
use crate::support::{Netns, until};

/// Ends with the test.
struct Server(Arc<AtomicBool>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers there as `script` says.
fn server(
    netns: &Netns,
    address: &str,
    script: impl Fn(&Message) -> Vec<u8> + Send + 'static,
) -> Server {
    let address = address.to_owned();
    let socket =
        netns.enter(move || async move { UdpSocket::bind((address.as_str(), 53)).unwrap() });
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let end = ended.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !end.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let answer = script(&Message::from_vec(&buffer[..length]).unwrap());
            let _ = socket.send_to(&answer, from);
        }
    });
    Server(ended)
}

fn answer(query: &Message, code: ResponseCode, ttl: u32, address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut reply = query.clone().into_response();
    reply.metadata.response_code = code;
    let name = query.queries[0].name().clone();
    if let Some(address) = address {
        reply.add_answer(Record::from_rdata(name, ttl, RData::A(A(address))));
    } else {
        let (zone, mail) =
            (Name::from_ascii("test.").unwrap(), Name::from_ascii("me.test.").unwrap());
        let soa = SOA::new(zone.clone(), mail, 1, 3600, 600, 86_400, 300);
        reply.add_authority(Record::from_rdata(zone, 300, RData::SOA(soa)));
    }
    reply.to_vec().unwrap()
}

/// Every name has this address.
fn always(netns: &Netns, at: &str, address: [u8; 4]) -> Server {
    server(netns, at, move |query| {
        let is_a = query.queries[0].query_type() == RecordType::A;
        answer(query, ResponseCode::NoError, 60, is_a.then(|| address.into()))
    })
}

fn bare(query: &Message, code: u8) -> Vec<u8> {
    let [high, low] = query.metadata.id.to_be_bytes();
    vec![high, low, 0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0]
}

impl Site {
    /// The client has servers at 10.0.0.2 and 10.0.0.3.
    fn with_upstreams() -> Self {
        let site = Self::silent();
        site.client.ip("addr add 10.0.0.2/16 dev c0");
        site.client.ip("addr add 10.0.0.3/16 dev c0");
        site
    }

    fn dig(&self, words: &str) -> String {
        self.client.run(&format!("dig @10.0.0.1 +tries=1 +time=5 {words}"))
    }

    fn code_of(&self, words: &str) -> String {
        let answer = self.dig(&format!("+noedns {words}"));
        answer.split("status: ").nth(1).unwrap().split(',').next().unwrap().to_owned()
    }

    fn resolv_conf(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }
}

fn count(log: &PathBuf, what: &str) -> usize {
    fs::read_to_string(log).unwrap().matches(what).count()
}

#[test]
fn servers_that_are_not_asked_are_said_at_the_start_and_at_each_change() {
    let mut site = Site::with_upstreams();
    let _server = always(&site.client, "10.0.0.2", [192, 0, 2, 2]);
    let path = site.resolv_conf();
    let words = "nameserver 10.0.0.1\nnameserver fe80::1%nosuch\nnameserver ns.example\nnameserver 10.0.0.2:53\n";
    fs::write(&path, words).unwrap();
    let log = site.serve_names(&format!("--resolv-conf={}", path.display()));
    let said = "names no server that can be asked (\"fe80::1%nosuch\": a link-local name server, and no interface \
                nosuch; \"ns.example\": not an address; \"10.0.0.2:53\": not an address; \"10.0.0.1\": this server's own \
                address): names that are not ours are not resolved until it does";
    until("warning", || count(&log, said) == 1);
    assert_eq!(site.code_of("www.test"), "SERVFAIL");
    fs::write(&path, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n").unwrap();
    until("change", || count(&log, "resolv.conf changed nameservers=\"10.0.0.1 10.0.0.2\"") == 1);
    assert_eq!(count(&log, "resolv.conf: \"10.0.0.1\": this server's own address, skipped"), 1);
    assert_eq!(site.dig("+short www.test"), "192.0.2.2\n");
    fs::write(&path, words).unwrap();
    until("warning", || count(&log, said) == 2);
    assert_eq!(count(&log, " WARN "), 3);
    // A file that is gone says nothing.
    fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
    until("change", || count(&log, "resolv.conf changed nameservers=\"10.0.0.2\"") == 1);
    fs::remove_file(&path).unwrap();
    until("warning", || {
        count(&log, "is not there or empty: name servers and search domains stay as they are") == 1
    });
    assert_eq!(site.dig("+short other.test"), "192.0.2.2\n");
}

#[test]
fn upstreams_of_the_users_are_held_to_the_same() {
    let mut site = Site::with_upstreams();
    let refused = |words: &str| -> Output {
        let mut command = site.server.command("timeout");
        command.args(["5", env!("CARGO_BIN_EXE_berth"), "serve", "--interface=s0", "--no-dhcp"]);
        command.args(words.split_whitespace()).output().unwrap()
    };
    for (words, why) in [
        ("--upstream=10.0.0.1", "\"10.0.0.1:53\": this server's own address"),
        ("--upstream=::ffff:10.0.0.1", "\"[::ffff:10.0.0.1]:53\": this server's own address"),
        ("--upstream=fe80::1", "\"[fe80::1]:53\": a link-local address without its interface"),
        (
            "--upstream=fe80::1 --upstream=10.0.0.1",
            "\"[fe80::1]:53\": a link-local address without its interface, as in [fe80::1%2]:53 with its index; \"10.0.0.1:53\"",
        ),
    ] {
        let output = refused(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(12), "{words}: {text}");
        assert!(
            text.contains(&format!("--upstream names no server that can be asked ({why}")),
            "{text}"
        );
    }
    // No host's address is no word for a server.
    assert_eq!(refused("--upstream=224.0.0.1").status.code(), Some(10));
    let _server = always(&site.client, "10.0.0.2", [192, 0, 2, 2]);
    let log = site.serve_names("--upstream=10.0.0.1 --upstream=10.0.0.2");
    until("warning", || {
        count(&log, "--upstream: \"10.0.0.1:53\": this server's own address, skipped") == 1
    });
    assert_eq!(site.dig("+short www.test"), "192.0.2.2\n");
}

#[test]
fn a_link_local_server_is_asked_on_its_link() {
    let mut site = Site::silent();
    site.client.ip("addr add 10.0.0.2/16 dev c0");
    site.client.ip("addr add fe80::53/64 dev c0 nodad");
    site.server.ip("addr add fe80::1/64 dev s0 nodad");
    let _server = always(&site.client, "::", [192, 0, 2, 6]);
    fs::write(site.resolv_conf(), "nameserver fe80::53%s0\n").unwrap();
    let log = site.serve_names(&format!("--resolv-conf={}", site.resolv_conf().display()));
    assert_eq!(site.dig("+short www.test"), "192.0.2.6\n");
    assert_eq!(count(&log, " WARN "), 0, "{}", fs::read_to_string(&log).unwrap());
}

#[test]
fn resolv_conf_is_what_it_says_however_it_got_there() {
    let mut site = Site::with_upstreams();
    let _servers = [
        always(&site.client, "10.0.0.2", [192, 0, 2, 2]),
        always(&site.client, "10.0.0.3", [192, 0, 2, 3]),
    ];
    let dir = site.dir.path().to_owned();
    let volume = dir.join("volume");
    for (version, server) in [("..1", "10.0.0.2"), ("..2", "10.0.0.3")] {
        let file = volume.join(version).join("resolv.conf");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("nameserver {server}\n")).unwrap();
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
    }
    let point = |to: &str| {
        symlink(to, volume.join("new")).unwrap();
        fs::rename(volume.join("new"), volume.join("..data")).unwrap();
    };
    point("..1");
    symlink("volume/..data/resolv.conf", site.resolv_conf()).unwrap();
    let log = site.serve_names(&format!("--resolv-conf={}", site.resolv_conf().display()));
    assert_eq!(site.dig("+short one.test"), "192.0.2.2\n");
    let began = Instant::now();
    point("..2");
    until("change", || count(&log, "resolv.conf changed") == 1);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "by inotify, not by the look of each minute"
    );
    assert_eq!(site.dig("+short one.test"), "192.0.2.3\n", "nor is what the old server said");
    // The whole of it goes, and comes in a directory that is made anew.
    fs::rename(&volume, dir.join("away")).unwrap();
    fs::create_dir_all(volume.join("..data")).unwrap();
    fs::write(volume.join("..data/resolv.conf"), "nameserver 10.0.0.2\n").unwrap();
    until("change", || count(&log, "resolv.conf changed") == 2);
    assert_eq!(site.dig("+short one.test"), "192.0.2.2\n");
}

#[test]
fn a_name_that_a_balancer_denies_for_ipv6_keeps_its_address() {
    let mut site = Site::with_upstreams();
    let _server = server(&site.client, "10.0.0.2", |query| match query.queries[0].query_type() {
        RecordType::A => answer(query, ResponseCode::NoError, 1, Some([192, 0, 2, 7].into())),
        _ => answer(query, ResponseCode::NXDomain, 0, None),
    });
    site.serve_names("--upstream=10.0.0.2");
    assert_eq!(site.dig("+short web.test"), "192.0.2.7\n");
    assert_eq!(site.code_of("web.test AAAA"), "NXDOMAIN");
    for _ in 0..6 {
        // Longer than its second, and far shorter than the five minutes of the other.
        assert_eq!(site.dig("+short web.test"), "192.0.2.7\n");
        std::thread::sleep(Duration::from_millis(400));
    }
}

#[test]
fn without_ipv6_a_name_that_is_not_there_is_not_there() {
    let mut site = Site::with_upstreams();
    let _server = server(&site.client, "10.0.0.2", |query| {
        let is_there = query.queries[0].name().to_ascii() == "web.test.";
        match query.queries[0].query_type() {
            RecordType::A if is_there => {
                answer(query, ResponseCode::NoError, 60, Some([192, 0, 2, 7].into()))
            }
            RecordType::A => answer(query, ResponseCode::NXDomain, 0, None),
            // It is not to be asked for these.
            _ => bare(query, 5),
        }
    });
    site.serve_names("--upstream=10.0.0.2 --aaaa=none");
    for (name, code) in
        [("web.test", "NOERROR"), ("no.test", "NXDOMAIN"), ("nobody.lan", "NXDOMAIN")]
    {
        assert_eq!(site.code_of(&format!("{name} AAAA")), code);
        assert_eq!(site.code_of(name), code);
    }
    assert!(site.dig("web.test AAAA").contains("SOA"), "that there is none can be remembered");
    assert_eq!(site.dig("+short printer.lan AAAA"), "fd00::9\n", "our own are the user's words");
}

#[test]
fn a_server_that_answers_with_a_header_alone_is_passed_over_at_once() {
    for (code, all) in [(1, "FORMERR"), (2, "SERVFAIL"), (4, "SERVFAIL"), (5, "SERVFAIL")] {
        let mut site = Site::with_upstreams();
        let _broken = server(&site.client, "10.0.0.2", move |query| bare(query, code));
        let _whole = always(&site.client, "10.0.0.3", [192, 0, 2, 3]);
        site.serve_names("--upstream=10.0.0.2 --upstream=10.0.0.3");
        let began = Instant::now();
        assert_eq!(site.dig("+short www.test"), "192.0.2.3\n", "{code}");
        assert!(began.elapsed() < Duration::from_secs(1), "less than the patience with one server");
        drop(site.serving.take());
        site.serve_names("--upstream=10.0.0.2");
        let began = Instant::now();
        assert_eq!(site.code_of("www.test"), all);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn that_no_server_answers_is_said_once_and_that_one_does_again() {
    let mut site = Site::with_upstreams();
    let log = site.serve_names("--upstream=10.0.0.2 --upstream=10.0.0.3");
    for number in 0..4 {
        assert_eq!(site.code_of(&format!("n{number}.test")), "SERVFAIL");
    }
    assert_eq!(count(&log, "no name server answers"), 1);
    let _server = always(&site.client, "10.0.0.3", [192, 0, 2, 3]);
    until("an answer", || site.dig("+short www.test") == "192.0.2.3\n");
    until("word of it", || count(&log, "a name server answers again") == 1);
    assert_eq!(count(&log, " WARN "), 1);
}
