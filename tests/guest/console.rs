//! The guest's serial line with many readers, and `berth console` on a terminal, with a real guest.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use crate::support::world::World;
use crate::support::{checked, find};

const SOON: Duration = Duration::from_secs(60);

/// A client whose output goes to a file of the world; ended with it.
struct Reader {
    child: Child,
    name: String,
}

impl Reader {
    fn start(world: &World, name: &str, words: &[&str]) -> Self {
        let mut command = world.command(&[]);
        let child = command
            .arg("console")
            .args(words)
            .stdout(File::create(world.path(name)).unwrap())
            .stderr(File::create(world.path(&format!("{name}.words"))).unwrap())
            .spawn()
            .unwrap();
        let reader = Self { child, name: name.to_owned() };
        find("its greeting", SOON, String::new, || {
            reader.words(world).contains("attached to the guest's console").then_some(())
        });
        reader
    }

    fn words(&self, world: &World) -> String {
        std::fs::read_to_string(world.path(&format!("{}.words", self.name))).unwrap()
    }

    fn output(&self, world: &World) -> Vec<u8> {
        std::fs::read(world.path(&self.name)).unwrap()
    }

    fn signal(&self, signal: &str) {
        checked(Command::new("kill").args([signal, &self.child.id().to_string()]));
    }

    fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        find("the client's end", SOON, String::new, || child.try_wait().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is behind the first of some words.
fn behind<'a>(all: &'a [u8], words: &str) -> Option<&'a [u8]> {
    let at = all.windows(words.len()).position(|window| window == words.as_bytes())?;
    all.get(at + words.len()..)
}

/// A connection as a program makes it that is not ours.
fn connect(world: &World, first_line: &str) -> UnixStream {
    let mut stream = UnixStream::connect(world.path("state/console.sock")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(first_line.as_bytes()).unwrap();
    stream
}

fn line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut octet = [0];
    while stream.read(&mut octet).unwrap() == 1 && octet != *b"\n" {
        line.extend(octet);
    }
    String::from_utf8(line).unwrap()
}

const FLOOD: usize = 100_000;

/// kubevirt#16981: consoles hang under heavy output. Of ten readers one is stopped: the others have each octet, and it is
/// told how many it missed.
#[test]
fn one_reader_that_is_stopped_costs_itself_octets_and_the_others_none() {
    let mut world = World::new();
    world.start().ready();
    let name = |number: usize| format!("reader.{number}");
    let mut readers: Vec<Reader> =
        (0..10).map(|number| Reader::start(&world, &name(number), &[])).collect();
    assert!(readers[9].words(&world).contains("the launcher's stdout; uid 0, pid"));
    let mut stopped = readers.pop().unwrap();
    stopped.signal("-STOP");
    world.tell_guest(&format!(
        "{{ echo flood begins; seq 1 {FLOOD}; echo flood ends; }} >/dev/ttyS0 &"
    ));
    let expected: String = (1..=FLOOD).map(|number| format!("{number}\r\n")).collect();
    let expected = format!("\r\n{expected}flood ends\r\n");
    let flood = |reader: &Reader| {
        let output = reader.output(&world);
        let flood = behind(&output, "flood begins")?.to_vec();
        behind(&flood, "flood ends\r\n").map(|rest| flood[..flood.len() - rest.len()].to_vec())
    };
    for reader in &readers {
        let got = find("the flood's end", 3 * SOON, String::new, || flood(reader));
        assert!(got == expected.as_bytes(), "{} lacks some of it", reader.name);
    }
    // Our stdout is one more of them.
    let serial = world.serial();
    let rest = behind(serial.as_bytes(), "flood begins").unwrap();
    assert!(rest.starts_with(expected.as_bytes()), "stdout lacks some of it");
    stopped.signal("-CONT");
    let got = find("the end, after all", SOON, String::new, || flood(&stopped));
    let got = String::from_utf8(got).unwrap();
    let (before, rest) = got.split_once("\r\n[berth: ").expect("a mark");
    let (count, after) = rest.split_once(" bytes skipped]\r\n").expect("a mark");
    assert!(!after.contains("[berth: "), "one gap");
    let count: usize = count.parse().unwrap();
    assert_eq!(before.len() + count + after.len(), expected.len());
    assert!(expected.starts_with(before) && expected.ends_with(after));
    println!("{} octets, {count} skipped by the stopped one", expected.len());

    // It types, too, and it ends with words when the guest ends.
    drop(readers);
    assert!(world.stop() == Some(0), "{}", world.log());
    assert!(stopped.wait().success());
    assert!(stopped.words(&world).ends_with("berth: the guest has ended\n"));
    let log = world.log();
    assert_eq!(log.matches("console: attached").count(), 10, "{log}");
    assert_eq!(log.matches("console: detached").count(), 10, "{log}");
    assert!(log.contains(&format!("skipped_bytes={count}")), "{log}");
}

#[test]
fn sessions_have_a_limit_a_mode_and_a_replay() {
    let mut world = World::new();
    world.start().ready();
    let sessions: Vec<UnixStream> = (0..16)
        .map(|number| {
            let mut stream = connect(&world, "{\"mode\":\"ro\",\"replay\":0}\n");
            let answer = line(&mut stream);
            assert!(answer.starts_with("{\"mode\":\"ro\",\"replay\":0,"), "{number}: {answer}");
            stream
        })
        .collect();
    let run = |words: &[&str]| {
        let output = world.command(&[]).arg("console").args(words).output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, words) = run(&[]);
    assert_eq!(code, 1);
    assert!(
        words.contains("16 sessions are attached to the console, which is the most"),
        "{words}"
    );
    // The log takes no session.
    let (code, log, words) = run(&["--log"]);
    assert_eq!((code, words.as_str()), (0, ""));
    assert!(log.starts_with("guest: ") || log.contains("\nguest: "), "{log:?}");
    assert!(log.contains(" ready\r\n") && !log.contains('\0'), "{log:?}");

    // Who may only read types nothing, whatever the client does.
    for mut session in &sessions {
        session.write_all(b"echo > /run/forbidden\r").unwrap();
    }
    drop(sessions);
    let mut typing = world.command(&[]);
    let mut typing = typing.arg("console").stdin(Stdio::piped()).stdout(Stdio::piped());
    typing = typing.stderr(Stdio::null());
    let mut typing = find("room for one more", SOON, String::new, || {
        let mut child = typing.spawn().unwrap();
        let keys = child.stdin.as_mut().unwrap();
        let _ = keys.write_all(b"echo > /run/allowed; hexdump -C\r");
        std::thread::sleep(Duration::from_millis(300));
        // Refused while the sixteen are still there.
        child.try_wait().unwrap().is_none().then_some(child)
    });
    find(
        "what was typed",
        SOON,
        || world.serial(),
        || world.guest("ls /run").contains("allowed").then_some(()),
    );
    assert!(!world.guest("ls /run").contains("forbidden"));
    std::thread::sleep(Duration::from_secs(1));
    typing.stdin.take().unwrap().write_all(b"\x1d\r\x04").unwrap();
    // The end of its stdin was not its own end: what came of it is shown.
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    let stdout = typing.stdout.as_mut().unwrap();
    while behind(&seen, "1d 0a").is_none() {
        let length = stdout.read(&mut chunk).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..length]);
    }
    checked(Command::new("kill").args(["-TERM", &typing.id().to_string()]));
    assert_eq!(typing.wait().unwrap().code(), Some(143));

    // Nobody reads it any more, and the guest says nothing.
    let mut unread = world.command(&[]);
    let unread =
        unread.args(["console", "--no-replay"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut unread = unread.spawn().unwrap();
    drop(unread.stdout.take());
    let ended = find("its end", SOON, String::new, || unread.try_wait().unwrap());
    assert!(ended.success());

    // What is no first line, or one with unknown words, gets words.
    for (first, words) in [
        ("hello\n", "first line: "),
        ("{\"mode\":\"rw\",\"force\":true}\n", "unknown field `force`"),
        ("{\"mode\":\"rw\",\"replay\":65537}\n", "replay is at most 65536"),
        (&"x".repeat(20_000), "first line: "),
    ] {
        let answer = line(&mut connect(&world, first));
        assert!(answer.starts_with("{\"error\":") && answer.contains(words), "{answer}");
    }
    let mode = std::fs::metadata(world.path("state/console.sock")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o600);
}

#[test]
fn the_network_half_has_no_console_and_says_so() {
    let mut world = World::new();
    let run = |world: &World| {
        let output = world.command(&[]).arg("console").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, words) = run(&world);
    assert_eq!(code, 1);
    assert!(words.contains("is `berth run` or `berth vm` running here"), "{words}");
    world.start_binary(&[], env!("CARGO_BIN_EXE_berth"), "net");
    world.until("its words", SOON, |world| {
        let (code, words) = run(world);
        (code == 1 && words.contains("this is `berth net`, which has no guest")).then_some(())
    });
}

/// A client on a terminal of its own, as `kubectl exec -it` gives one.
struct Terminal {
    master: OwnedFd,
    slave: File,
    before: Termios,
    client: Child,
    seen: Vec<u8>,
}

impl Terminal {
    fn start(world: &World, words: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let open = || File::options().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        let slave = open();
        let before = tcgetattr(&slave).unwrap();
        // Its own session, and this its controlling terminal.
        let client = world
            .command(&["setsid", "--ctty", "--wait"])
            .arg("console")
            .args(words)
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let mut terminal = Self { master, slave, before, client, seen: Vec::new() };
        terminal.until("attached to the guest's console");
        find("key by key", SOON, String::new, || (!terminal.is_sane()).then_some(()));
        terminal
    }

    fn is_sane(&self) -> bool {
        let now = tcgetattr(&self.slave).unwrap();
        assert!(self.before.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        now.local_modes == self.before.local_modes
            && now.input_modes == self.before.input_modes
            && now.output_modes == self.before.output_modes
            && now.control_modes == self.before.control_modes
    }

    fn keys(&self, keys: &[u8]) {
        assert_eq!(rustix::io::write(&self.master, keys).unwrap(), keys.len());
    }

    fn read(&mut self) {
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if poll(&mut ready, Some(&wait)).unwrap() > 0 {
            let mut chunk = [0; 4096];
            let length = rustix::io::read(&self.master, &mut chunk).unwrap_or(0);
            self.seen.extend_from_slice(&chunk[..length]);
        }
    }

    /// Reads until the words were there; what came before is forgotten.
    #[track_caller]
    fn until(&mut self, words: &str) {
        let end = Instant::now() + SOON;
        loop {
            if let Some(rest) = behind(&self.seen, words) {
                self.seen = rest.to_vec();
                return;
            }
            assert!(Instant::now() < end, "{words:?}: {}", String::from_utf8_lossy(&self.seen));
            self.read();
        }
    }

    /// The client itself: `setsid` waits for it where it had to fork.
    fn signal(&self, signal: &str) {
        let parent = self.client.id().to_string();
        let child = Command::new("pgrep").args(["-P", &parent]).output().unwrap();
        let child = String::from_utf8(child.stdout).unwrap();
        let pid = if child.trim().is_empty() { parent } else { child.trim().to_owned() };
        checked(Command::new("kill").args([signal, &pid]));
    }

    fn end(&mut self) -> Option<i32> {
        let end = Instant::now() + SOON;
        loop {
            self.read();
            if let Some(status) = self.client.try_wait().unwrap() {
                self.read();
                return status.code();
            }
            assert!(Instant::now() < end, "no end: {}", String::from_utf8_lossy(&self.seen));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// virtctl finds its escape only where a read begins with it.
#[test]
fn a_terminal_leads_to_the_guest_and_out_again_and_is_as_it_was_whatever_ends_it() {
    let mut world = World::new();
    world.start().ready();
    let mut terminal = Terminal::start(&world, &[]);
    terminal.until(" ready");
    terminal.keys(b"\recho $((40+2)) one\r");
    terminal.until("42 one");
    // The guest's, and not the client's.
    terminal.keys(b"sleep 1000\r");
    terminal.until("sleep 1000");
    std::thread::sleep(Duration::from_secs(1));
    terminal.keys(b"\x03");
    terminal.keys(b"echo $((40+3)) two\r");
    terminal.until("43 two");
    // Twice is one for the guest, also in one read.
    terminal.keys(b"hexdump -C\r");
    terminal.until("hexdump -C");
    std::thread::sleep(Duration::from_secs(1));
    terminal.keys(b"\x1d\x1d\r\x04");
    terminal.until("1d 0a");
    // In the middle of a paste: what was before is typed, what comes after is nobody's, the shell's neither.
    let paste = [b"echo > /run/before\r\x1d", &b"echo > /run/after\r".repeat(20)[..]].concat();
    terminal.keys(&paste);
    assert_eq!(terminal.end(), Some(0));
    assert!(terminal.is_sane());
    assert!(behind(&terminal.seen, "left the console; the guest goes on").is_some());
    rustix::fs::fcntl_setfl(&terminal.slave, rustix::fs::OFlags::NONBLOCK).unwrap();
    assert!((&terminal.slave).read(&mut [0; 16]).is_err(), "nothing is left to read");
    find("what was typed before", SOON, String::new, || {
        world.guest("ls /run").contains("before").then_some(())
    });
    assert!(!world.guest("ls /run").contains("after"));

    // Alone, at the end of a read; and who may only read leaves by Ctrl-C.
    let mut terminal = Terminal::start(&world, &["--no-replay"]);
    terminal.keys(b"\x1d");
    assert_eq!(terminal.end(), Some(0));
    assert!(terminal.is_sane());
    let mut terminal = Terminal::start(&world, &["--read-only"]);
    terminal.keys(b"echo > /run/forbidden\r\x03");
    assert_eq!(terminal.end(), Some(0));
    assert!(terminal.is_sane());
    assert!(!world.guest("ls /run").contains("forbidden"));

    for (signal, code) in [("-TERM", 143), ("-HUP", 129), ("-INT", 130), ("-QUIT", 131)] {
        let mut terminal = Terminal::start(&world, &[]);
        terminal.signal(signal);
        assert_eq!(terminal.end(), Some(code), "{signal}");
        assert!(terminal.is_sane(), "{signal}");
    }
    let mut terminal = Terminal::start(&world, &[]);
    world.signal("KILL");
    assert_eq!(terminal.end(), Some(1));
    assert!(terminal.is_sane());
    terminal.until("the launcher has ended without a word");
}
