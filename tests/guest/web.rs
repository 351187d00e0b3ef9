//! The page with a real guest: its screen, its buttons, and who is let in.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::support::world::{POD, World};
use crate::support::{Netns, checked};

mod numbers;

const LOCAL: &str = "127.0.0.1:6080";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SOON: Duration = Duration::from_secs(30);

fn connect(netns: &Netns, address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    let stream = netns.within(move || TcpStream::connect_timeout(&address, SOON).unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request with these headers besides, and all of its answer.
fn ask(
    netns: &Netns,
    address: &str,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = connect(netns, address);
    let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();
    Answer::read(&mut stream)
}

pub fn get(world: &World, path: &str) -> Answer {
    ask(&world.pod, LOCAL, &format!("GET {path}"), &[], "")
}

fn post(world: &World, path: &str, origin: &str) -> u16 {
    ask(&world.pod, LOCAL, &format!("POST {path}"), &[("Origin", origin)], "").status
}

/// A WebSocket of the page; an error is the status of its refusal.
fn socket(
    netns: &Netns,
    address: &str,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocket<TcpStream>, u16> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tungstenite::client(request, connect(netns, address)) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            Err(answer.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

/// A viewer of the screen (RFC 6143).
pub struct Viewer {
    socket: WebSocket<TcpStream>,
    unread: Vec<u8>,
}

impl Viewer {
    /// Up to ServerInit: width and height.
    pub fn start(netns: &Netns, headers: &[(&'static str, &str)], shared: u8) -> (Self, u16, u16) {
        let socket = socket(netns, LOCAL, "/screen", headers).unwrap();
        let mut viewer = Self { socket, unread: Vec::new() };
        assert_eq!(viewer.take(12), b"RFB 003.008\n");
        viewer.say(b"RFB 003.008\n");
        assert_eq!(viewer.take(2), [1, 1], "one kind of authentication: none");
        viewer.say(&[1]);
        assert_eq!(viewer.take(4), [0; 4]);
        viewer.say(&[shared]);
        let init = viewer.take(24);
        let name = viewer.take(usize::from(init[23]));
        assert!(name.starts_with(b"QEMU"), "{name:?}");
        let number = |at: usize| u16::from_be_bytes([init[at], init[at + 1]]);
        (viewer, number(0), number(2))
    }

    fn say(&mut self, bytes: &[u8]) {
        self.socket.send(Message::Binary(bytes.to_vec().into())).unwrap();
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            if let Message::Binary(bytes) = self.socket.read().unwrap() {
                self.unread.extend_from_slice(&bytes);
            }
        }
        self.unread.drain(..length).collect()
    }

    /// All of the screen, not only what changed, in raw pixels of 32 bits.
    fn update(&mut self, width: u16, height: u16) -> Vec<u8> {
        self.say(&[2, 0, 0, 1, 0, 0, 0, 0]);
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        self.say(&[&[3, 0, 0, 0, 0, 0], size.as_slice()].concat());
        assert_eq!(self.take(2), [0, 0], "FramebufferUpdate");
        let rectangles = self.take(2);
        let mut pixels = Vec::new();
        for _ in 0..u16::from_be_bytes([rectangles[0], rectangles[1]]) {
            let head = self.take(12);
            let side = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
            assert_eq!(head[8..], [0; 4], "raw");
            pixels.extend(self.take(side(4) * side(6) * 4));
        }
        pixels
    }

    /// What the server says at the end.
    fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Width and height of a PNG, each of whose chunks has its checksum (W3C PNG §5.3).
pub fn picture(bytes: &[u8]) -> (u32, u32) {
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let (mut at, mut kinds) = (8, Vec::new());
    while at < bytes.len() {
        let length = number(bytes, at) as usize;
        let named = &bytes[at + 4..at + 8 + length];
        let mut crc = flate2::Crc::new();
        crc.update(named);
        assert_eq!(crc.sum(), number(bytes, at + 8 + length));
        kinds.push(String::from_utf8(named[..4].to_vec()).unwrap());
        at += 12 + length;
    }
    assert_eq!((kinds.first().unwrap().as_str(), kinds.last().unwrap().as_str()), ("IHDR", "IEND"));
    (number(bytes, 16), number(bytes, 20))
}

pub fn origin() -> [(&'static str, &'static str); 1] {
    [("Origin", "http://127.0.0.1:6080")]
}

#[test]
fn the_page_shows_the_guest_and_presses_its_button() {
    let mut world = World::new();
    // Without VNC's listener there is a screen all the same.
    world.set("BERTH_WEB", "loopback").set("BERTH_VNC", "off").start();
    world.until("the page", SOON, |world| world.log().contains("HTTP listens").then_some(()));
    let early = get(&world, "/readyz");
    assert!(
        early.status == 200 || early.text().contains("the guest is starting\n"),
        "{}",
        early.text()
    );
    world.ready();

    let session = get(&world, "/session").json();
    let wanted = serde_json::json!({"vm": "demo", "version": env!("CARGO_PKG_VERSION"), "read_only": false, "login": false, "screen": true, "serial": true});
    assert_eq!(session, wanted);
    let status = get(&world, "/status");
    let told = checked(world.command(&[]).args(["status", "--output", "json"]));
    assert_eq!(status.json(), serde_json::from_str::<Value>(&told).unwrap());
    assert_eq!((get(&world, "/livez").text(), get(&world, "/readyz").text()), ("ok\n", "ok\n"));
    let log = get(&world, "/log");
    assert!(log.text().contains("QEMU started") && log.text().lines().count() <= 100);
    assert!(log.headers["content-type"].starts_with("text/plain"));
    for name in ["content-security-policy", "x-frame-options", "referrer-policy"] {
        assert!(log.headers.contains_key(name), "{name}");
    }
    assert_eq!(log.headers["cache-control"], "no-store");

    // Two viewers, one of which wants to be alone: both see all of it, and as much as a picture shows.
    let (mut first, width, height) = Viewer::start(&world.pod, &origin(), 1);
    let (mut second, ..) = Viewer::start(&world.pod, &origin(), 0);
    let octets = usize::from(width) * usize::from(height) * 4;
    assert_eq!(second.update(width, height).len(), octets);
    assert_eq!(first.update(width, height).len(), octets);
    let shot = get(&world, "/screenshot.png");
    assert_eq!((shot.status, shot.headers["content-type"].as_str()), (200, "image/png"));
    assert_eq!(picture(&shot.body), (u32::from(width), u32::from(height)));
    drop(second);
    assert_eq!(first.update(width, height).len(), octets);

    let rss = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
    println!("{}", rss.lines().find(|line| line.starts_with("VmRSS")).unwrap());
    assert_eq!(post(&world, "/nmi", "http://127.0.0.1:6080"), 204);
    assert_eq!(post(&world, "/power", "http://127.0.0.1:6080"), 204);
    assert_eq!(world.wait(SOON).code(), Some(0), "{}", world.log());
    assert!(world.serial().contains("down poweroff"), "{}", world.serial());
    let log = world.log();
    assert!(log.contains("power button, by the page"), "{log}");
    assert_eq!(
        (log.matches("screen attached").count(), log.matches("screen detached").count()),
        (2, 2)
    );
}

#[test]
fn the_page_grows_a_disk_backs_it_up_and_suspends_the_guest() {
    let mut world = World::new();
    let dir = world.path("backups");
    std::fs::create_dir(&dir).unwrap();
    world.set("BERTH_WEB", "loopback").start().ready();
    let order = |path: &str, body: &str| {
        let origin = [("Origin", "http://127.0.0.1:6080")];
        let answer = ask(&world.pod, LOCAL, &format!("POST {path}"), &origin, body);
        (answer.status, answer.text().trim().to_owned())
    };
    let size = || world.guest("cat /sys/block/vda/size").trim().parse::<u64>().unwrap() * 512;
    let before = size();
    assert_eq!(order("/resize", "size=1G"), (200, format!("root {} bytes", 1 << 30)));
    assert_eq!((size() > before, size()), (true, 1 << 30));
    let (status, why) = order("/resize", "size=1M");
    assert!(status == 503 && why.contains("never made smaller"), "{status} {why}");
    assert_eq!(order("/resize", "size=large").0, 503);
    let (status, said) = order("/backup", &format!("target={}", dir.display()));
    assert!(status == 200 && said.starts_with("Backed up to "), "{status} {said}");
    let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(said.contains(&*files[0].to_string_lossy()), "{said}");
    assert_eq!(order("/backup", "target=relative").0, 503);
    let (status, said) = order("/suspend", "");
    assert_eq!((status, said.as_str()), (200, "The guest is suspended."), "{}", world.log());
    assert_eq!(world.wait(SOON).code(), Some(0), "{}", world.log());
    assert!(world.path("image/demo.ram").exists());
}

/// §7.6 of what is asked of a page: each a refusal, and the guest notices none of it.
#[test]
fn others_are_refused_and_bounded_and_the_guest_is_unharmed() {
    let mut world = World::new();
    world.set("BERTH_WEB", "loopback").start().ready();
    let here = "http://127.0.0.1:6080";
    for path in ["/power", "/reset", "/nmi", "/suspend", "/backup", "/resize", "/login"] {
        assert_eq!(post(&world, path, "http://evil.example"), 403, "{path}");
        let silent = ask(&world.pod, LOCAL, &format!("POST {path}"), &[], "");
        assert_eq!(silent.status, 403, "{path}");
    }
    let foreign = [("Origin", "http://evil.example")];
    assert_eq!(socket(&world.pod, LOCAL, "/screen", &foreign).err(), Some(403));
    assert_eq!(socket(&world.pod, LOCAL, "/screen", &[]).err(), Some(403));
    assert_eq!(socket(&world.pod, LOCAL, "/serial", &foreign).err(), Some(403));
    let rebound = ask(&world.pod, LOCAL, "GET /status", &[("Host", "evil.example:6080")], "");
    assert_eq!(rebound.status, 403);
    assert_eq!(get(&world, "/screen").status, 403);
    let plain = ask(&world.pod, LOCAL, "GET /screen", &[("Origin", here)], "");
    assert_eq!(plain.status, 426);
    let body = format!("token={}", "x".repeat(5000));
    let large = ask(&world.pod, LOCAL, "POST /login", &[("Origin", here)], &body);
    assert_eq!(large.status, 413);

    // A head without end.
    let mut bomb = connect(&world.pod, LOCAL);
    bomb.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap();
    let sent = (0..64).take_while(|_| bomb.write_all(&[b'x'; 16 * 1024]).is_ok()).count();
    let mut told = Vec::new();
    let _ = bomb.read_to_end(&mut told);
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 431"), "{sent}: {told:?}");

    // A message of 1 MiB.
    let (mut viewer, ..) = Viewer::start(&world.pod, &origin(), 1);
    let _ = viewer.socket.send(Message::Binary(vec![0; 1 << 20].into()));
    assert!(matches!(viewer.close_code(), Some(1009) | None));

    // Those who say nothing have all the places, and lose them.
    let began = Instant::now();
    let mut silent: Vec<TcpStream> = (0..16).map(|_| connect(&world.pod, LOCAL)).collect();
    let mut next = connect(&world.pod, LOCAL);
    let turned_away = Answer::read(&mut next);
    let length = turned_away.headers["content-length"].parse().ok();
    assert_eq!((turned_away.status, length), (503, Some(turned_away.body.len())));
    silent[0].write_all(b"GET / HT").unwrap();
    let mut end = Vec::new();
    let _ = silent[0].read_to_end(&mut end);
    let took = began.elapsed().as_secs_f64();
    assert!((8.0..20.0).contains(&took), "{took} s");
    drop(silent);
    world.until("a place", SOON, |world| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| get(world, "/livez").status))
            .ok()
            .filter(|status| *status == 200)
    });

    let peak = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak {peak} KiB");
    assert!(peak < 40_000, "{peak} KiB");
    // The guest has its lease, its network and its screen.
    assert_eq!(World::udp(&world.peer, POD, 7, b"echo").as_deref(), Some(&b"echo"[..]));
    let renewed = world.guest("udhcpc -n -q -i eth0 -t 5 -T 2 2>&1");
    assert!(renewed.contains("lease of 192.168.254.2 obtained"), "{renewed}");
    assert_eq!(get(&world, "/screenshot.png").status, 200);
    assert_eq!(world.stop(), Some(0));
}

#[test]
fn loopback_changes_no_rule_and_the_guest_keeps_the_port() {
    let mut world = World::new();
    world.start().ready();
    let off = world.pod.run("nft -s list ruleset");
    assert_eq!(world.stop(), Some(0));
    world.set("BERTH_WEB", "loopback").start().ready();
    assert_eq!(world.pod.run("nft -s list ruleset"), off);
    world.guest("serve tcp 6080 echo guest-6080 >/dev/null 2>&1 &");
    for netns in [&world.peer, &world.pod] {
        let said = world.until("the guest's own port", SOON, |_| {
            World::tcp(netns, POD, 6080, b"").ok().filter(|said| !said.is_empty())
        });
        assert_eq!(String::from_utf8_lossy(&said).trim(), "guest-6080");
    }
    assert_eq!(get(&world, "/livez").status, 200);
    let v6 = ask(&world.pod, "[::1]:6080", "GET /livez", &[], "");
    assert_eq!(v6.status, 200);
}

#[test]
fn on_the_pods_address_it_takes_a_token() {
    let mut world = World::new();
    let page = format!("{POD}:6080");
    let refused = |world: &mut World, code: i32, word: &str| {
        assert_eq!(world.start().wait(SOON).code(), Some(code), "{}", world.log());
        assert!(world.log().contains(word), "{}", world.log());
    };
    world.set("BERTH_WEB", "pod");
    refused(&mut world, 10, "BERTH_WEB_TOKEN_FILE");
    let file = world.path("token").display().to_string();
    world.set("BERTH_WEB_TOKEN_FILE", &file);
    refused(&mut world, 11, "there is no file");
    std::fs::write(&file, "secret\n").unwrap();
    refused(&mut world, 12, "has 6 characters");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    world.set("BERTH_METRICS", "pod:9177").set("BERTH_WEB_READONLY", "on").start().ready();

    let with = |path: &str, headers: &[(&str, &str)]| ask(&world.peer, &page, path, headers, "");
    assert_eq!(with("GET /status", &[]).status, 401);
    assert_eq!(with(&format!("GET /status?token={TOKEN}"), &[]).status, 401);
    let bearer = format!("Bearer {TOKEN}");
    let known = ("Authorization", bearer.as_str());
    assert_eq!(with("GET /status", &[known]).json()["verb"], "run");
    let stranger = with("GET /session", &[]).json();
    assert_eq!((&stranger["login"], &stranger["vm"]), (&Value::Bool(true), &Value::from("")));
    assert_eq!(with("GET /screenshot.png", &[known]).status, 200);

    // The form, its cookie, and its end.
    let origin = format!("http://{page}");
    let form = |token: &str| {
        let headers =
            [("Origin", origin.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
        ask(&world.peer, &page, "POST /login", &headers, &format!("token={token}"))
    };
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(form("0123456789abcdef0123456789abcdeF").status, 401);
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "the sixth guess is slow");
    let login = form(TOKEN);
    assert_eq!(login.status, 204);
    let cookie = &login.headers["set-cookie"];
    assert!(
        cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure"),
        "{cookie}"
    );
    let cookie = ("Cookie", cookie.split(';').next().unwrap());
    assert_eq!(with("GET /status", &[cookie]).status, 200);
    assert_eq!(with("GET /session", &[cookie]).json()["login"], false);
    // It shows and does nothing.
    let here = ("Origin", origin.as_str());
    assert_eq!(with("POST /power", &[cookie, here]).status, 403);
    assert_eq!(with("POST /logout", &[cookie, here]).status, 204);
    assert_eq!(with("GET /status", &[cookie]).status, 401);

    // Three paths alone, for anybody.
    let metrics = format!("{POD}:9177");
    let probe = |path: &str| ask(&world.peer, &metrics, path, &[known, here], "").status;
    assert_eq!((probe("GET /livez"), probe("GET /readyz"), probe("GET /metrics")), (200, 200, 200));
    for path in [
        "GET /",
        "GET /session",
        "GET /status",
        "GET /log",
        "GET /screen",
        "GET /screenshot.png",
        "POST /power",
        "POST /login",
    ] {
        assert_eq!(probe(path), 404, "{path}");
    }

    // Not for the guest, by whatever address.
    for address in [POD, "192.168.254.1"] {
        for port in ["6080", "9177"] {
            let said = world.guest(&format!("nc -w 2 {address} {port} </dev/null && echo OPEN"));
            assert!(!said.contains("OPEN"), "{address} {port}: {said}");
        }
    }
    assert!(!world.log().contains(TOKEN), "{}", world.log());
    assert_eq!(world.stop(), Some(0));
}

/// A viewer that may look alone sees the screen, and no key of it reaches the guest.
#[test]
fn a_read_only_viewer_types_nothing() {
    let mut world = World::new();
    world.set("BERTH_WEB", "loopback").set("BERTH_WEB_READONLY", "on").start().ready();
    let presses = |world: &World| {
        world.guest("grep i8042 /proc/interrupts; cat /proc/bus/input/devices | head -3")
    };
    let (mut viewer, width, height) = Viewer::start(&world.pod, &origin(), 0);
    let octets = usize::from(width) * usize::from(height) * 4;
    assert_eq!(viewer.update(width, height).len(), octets);
    let before = presses(&world);
    for _ in 0..20 {
        viewer.say(&[4, 1, 0, 0, 0, 0, 0, 97, 4, 0, 0, 0, 0, 0, 0, 97]);
    }
    assert_eq!(viewer.update(width, height).len(), octets);
    assert_eq!(presses(&world), before);
    viewer.say(&[199]);
    assert_eq!(viewer.close_code(), Some(1008));
    world.until("its end", SOON, |world| {
        world.log().contains("screen detached: what a viewer may not say").then_some(())
    });
}

/// The certificate is another one while it runs.
#[test]
fn the_page_by_tls_takes_a_new_certificate() {
    let mut world = World::new();
    let dir = world.dir.path().to_owned();
    let make = |name: &str| {
        let path = |end: &str| dir.join(end).display().to_string();
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);
        openssl.args([
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &path("key"),
            "-out",
            &path("cert"),
        ]);
        checked(&mut openssl);
    };
    make("first");
    let (cert, key) =
        (world.path("cert").display().to_string(), world.path("key").display().to_string());
    std::fs::write(world.path("token"), TOKEN).unwrap();
    let token = world.path("token").display().to_string();
    world
        .set("BERTH_WEB", "loopback")
        .set("BERTH_WEB_TLS_CERT", &cert)
        .set("BERTH_WEB_TLS_KEY", &key);
    world.set("BERTH_WEB_TOKEN_FILE", &token).start();
    world.until("the page", SOON, |world| world.log().contains("HTTP listens").then_some(()));
    let said = |world: &World| {
        let request = format!(
            "POST /login HTTP/1.1\\r\\nHost: localhost\\r\\nOrigin: https://localhost\\r\\nConnection: close\\r\\nContent-Length: 38\\r\\n\\r\\ntoken={TOKEN}"
        );
        let script = format!(
            "printf '{request}' | timeout 10 openssl s_client -connect {LOCAL} -ign_eof 2>&1"
        );
        String::from_utf8_lossy(
            &world.pod.command("sh").args(["-c", &script]).output().unwrap().stdout,
        )
        .into_owned()
    };
    let first = said(&world);
    assert!(first.contains("CN = first") && first.contains("204 No Content"), "{first}");
    assert!(first.contains("SameSite=Strict; Secure"), "{first}");
    make("second");
    world.until("the new certificate", SOON, |world| {
        said(world).contains("CN = second").then_some(())
    });
}
