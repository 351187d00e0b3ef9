//! A launcher in trouble, with real guests: nobody reads its log, the volume is full, QEMU is killed for memory.

use std::fs::File;
use std::io::{PipeReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::support::world::{self, BOOT, POD, Volume, World};
use crate::support::{self, checked, find};

const SOON: Duration = Duration::from_secs(30);

/// Exit code and output of `berth status`.
fn status(world: &World) -> (i32, String) {
    let mut command = world.command(&[]);
    let output = command.arg("status").output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn until_status(world: &World, text: &str) -> i32 {
    world.until(&format!("status {text:?}"), SOON, |world| {
        let (code, told) = status(world);
        told.contains(text).then_some(code)
    })
}

fn qemu(world: &World) -> String {
    let pid = world.pid().to_string();
    checked(Command::new("pgrep").args(["-P", &pid])).trim().to_owned()
}

/// Writes in the guest, without waiting for it: its shell may hang with it.
fn fill(world: &World, name: &str, mebibytes: u32) {
    world.tell_guest(&format!(
        "dd if=/dev/urandom of=/data/{name} bs=1M count={mebibytes} conv=fsync &"
    ));
}

#[test]
fn a_guest_paused_by_a_full_volume_is_not_ready_until_there_is_room() {
    let mut world = World::new();
    let volume = Volume::new(&world, "image", "6m");
    world.set("BERTH_GRACE_S", "30").start().ready();
    assert_eq!(status(&world).0, 0);
    fill(&world, "a", 7);
    assert_eq!(
        until_status(&world, "not ready\nguest    paused (write on disk0: No space left on device"),
        1
    );
    let doctor = world.command(&[]).args(["doctor", "--output", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.code() == Some(2) && said.contains("\"disk-stopped\""), "{said}");
    // Three times it is tried again, and said nothing of.
    let told = status(&world).1;
    for _ in 0..80 {
        std::thread::sleep(Duration::from_millis(200));
        let (code, text) = status(&world);
        assert_eq!((code, &text), (1, &told));
    }
    assert_eq!(world.log().matches("the guest is paused").count(), 1, "{}", world.log());
    volume.resize("16m");
    assert_eq!(until_status(&world, ": ready\nguest    running, tcg"), 0);
    assert_eq!(world.log().matches("the guest runs again").count(), 1, "{}", world.log());
    // Full again, and asked to stop.
    fill(&world, "b", 8);
    world.until("all written", SOON, |world| {
        world.guest("pidof dd").trim().is_empty().then_some(())
    });
    volume.resize("64m");
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

#[test]
fn a_guest_that_stays_paused_is_quit_long_before_the_grace_period_ends() {
    let mut world = World::new();
    let _volume = Volume::new(&world, "image", "6m");
    world.set("BERTH_GRACE_S", "60").start().ready();
    fill(&world, "a", 7);
    until_status(&world, "paused (write on disk0");
    let asked = Instant::now();
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}\n{}", asked.elapsed(), world.log());
    assert!(world.log().contains("and cannot power off: quitting QEMU"), "{}", world.log());
}

/// Not for want of space: a file that may not grow, as for a quota, with the words of the system. And a QEMU that is
/// stopped answers nothing.
#[test]
fn a_guest_paused_by_any_other_error_or_a_qemu_that_hangs_is_not_ready() {
    let mut world = World::new();
    world.set("LAUNCHER", "sh -c \"trap '' XFSZ; exec \\\"\\$@\\\"\" sh").start().ready();
    let qemu = qemu(&world);
    let size = std::fs::metadata(world.path("image/demo.qcow2")).unwrap().len();
    let limit = |octets: &str| {
        let nobody =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "prlimit", "--pid", &qemu];
        support::run("setpriv", &[&nobody[..], &[&format!("--fsize={octets}:")]].concat());
    };
    limit(&(size + 65536).to_string());
    fill(&world, "a", 4);
    assert_eq!(until_status(&world, "paused (write on disk0: File too large"), 1);
    limit("unlimited");
    assert_eq!(until_status(&world, "guest    running"), 0);
    support::run("kill", &["-STOP", &qemu]);
    assert_eq!(until_status(&world, "paused (QEMU answered nothing"), 1);
    support::run("kill", &["-CONT", &qemu]);
    assert_eq!(until_status(&world, "guest    running"), 0);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// A memory cgroup of the test's own, of either version.
pub struct Group {
    path: std::path::PathBuf,
    /// Mounts it where `ip netns exec` has mounted a /sys without it.
    mount: &'static str,
}

impl Group {
    pub fn new() -> Self {
        let v1 = std::path::Path::new("/sys/fs/cgroup/memory");
        let (root, mount) = if v1.join("memory.limit_in_bytes").exists() {
            (
                v1,
                "mkdir /sys/fs/cgroup/memory && mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory",
            )
        } else {
            (std::path::Path::new("/sys/fs/cgroup"), "mount -t cgroup2 cgroup /sys/fs/cgroup")
        };
        let name = format!("berth-{}", std::process::id());
        std::fs::create_dir(root.join(&name)).unwrap();
        Self { path: root.join(&name), mount }
    }

    /// What goes before a program that is to be in it.
    pub fn enter(&self) -> String {
        let Self { path, mount } = self;
        let path = path.display();
        format!(
            "mount -t tmpfs tmpfs /sys/fs/cgroup && {mount} && echo $$ >{path}/cgroup.procs && exec \"$@\""
        )
    }

    /// What is used, and that much more.
    pub fn limit(&self, more: u64) {
        let files =
            [("memory.usage_in_bytes", "memory.limit_in_bytes"), ("memory.current", "memory.max")];
        for (usage, limit) in files {
            if let Ok(text) = std::fs::read_to_string(self.path.join(usage)) {
                let bytes = text.trim().parse::<u64>().unwrap() + more;
                return std::fs::write(self.path.join(limit), bytes.to_string()).unwrap();
            }
        }
        panic!("{}: no memory controller", self.path.display());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}

#[test]
fn a_memory_limit_that_kills_qemu_is_named_and_nothing_is_started_again() {
    let group = Group::new();
    let mut world = World::new();
    world.start_under(&["sh", "-c", &group.enter(), "sh"]).ready();
    group.limit(16 << 20);
    world.tell_guest(
        "mkdir /tmp/m; mount -t tmpfs -o size=150m m /tmp/m; dd if=/dev/urandom of=/tmp/m/x bs=1M",
    );
    let ended = world.wait(Duration::from_secs(60));
    let log = world.log();
    assert_eq!(ended.code(), Some(137), "{log}");
    assert!(
        log.contains("QEMU was killed for want of memory: raise the container's memory limit"),
        "{log}"
    );
    assert!(log.contains("QEMU ended with signal 9 while the guest ran"), "{log}");
    assert_eq!(log.matches("QEMU started").count(), 1, "{log}");
}

/// A pipe that is full, whose reading end is held and never read.
fn full_pipe() -> (Stdio, Stdio, PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    (writer.try_clone().unwrap().into(), writer.into(), reader)
}

/// A verb whose stdout and stderr nobody reads.
struct Unread {
    berth: Child,
    _reader: PipeReader,
}

impl Unread {
    fn start(world: &World, words: &[&str]) -> Self {
        let (stdout, stderr, reader) = full_pipe();
        let mut command = world.command(&[]);
        let berth = command
            .args(words)
            .env("BERTH_LOG", "trace")
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { berth, _reader: reader }
    }

    fn end(&mut self, signal: &str, within: Duration) -> ExitStatus {
        support::run("kill", &[signal, &self.berth.id().to_string()]);
        find(&format!("its end by {signal}"), within, String::new, || {
            self.berth.try_wait().unwrap()
        })
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.berth.kill();
        let _ = self.berth.wait();
    }
}

/// moby#22502: the guest is served, rules are repaired, status is told, and it stops in order.
#[test]
fn a_log_and_a_console_that_nobody_reads_stop_nothing_of_run() {
    let mut world = World::new();
    world.set("BERTH_GRACE_S", "25");
    let mut run = Unread::start(&world, &["run"]);
    // Booted: DHCP answered, the console did not hold it up.
    world.until("the guest's greeting", BOOT, |world| {
        World::tcp(&world.peer, POD, 8080, b"")
            .ok()
            .filter(|hello| hello.starts_with(b"hello from demo"))
    });
    // More than is kept for a stdout that is not read, until the end.
    world.tell_guest("seq 1 1000000 >/dev/ttyS0 &");
    for _ in 0..50 {
        world.pod.nft("flush table inet berth");
        world.until("the rules again", SOON, |world| {
            world.pod.nft("list table inet berth").contains("dnat").then_some(())
        });
    }
    assert!(world.guest("nslookup -type=a demo 192.168.254.1").contains("192.168.254.2"));
    assert!(
        world
            .guest("udhcpc -n -q -f -i eth0 -s /bin/true 2>&1")
            .contains("lease of 192.168.254.2 obtained")
    );
    assert_eq!(status(&world).0, 0);
    // Whoever reads the console has it all the same.
    world.until("the flood, by another way", BOOT, |world| {
        let mut log = world.command(&[]);
        let log = log.args(["console", "--log"]).output().unwrap();
        let text = String::from_utf8(log.stdout).unwrap();
        let numbers = text.lines().filter(|line| line.parse::<u32>().is_ok_and(|line| line > 1000));
        (numbers.count() > 100).then_some(())
    });
    let asked = Instant::now();
    assert_eq!(run.end("-TERM", Duration::from_secs(25)).code(), Some(0));
    println!("SIGTERM to the end, nobody reads: {:?}", asked.elapsed());
}

#[test]
fn a_log_that_nobody_reads_stops_none_of_the_other_verbs() {
    let world = World::new();
    let mut net = Unread::start(&world, &["net"]);
    assert_eq!(until_status(&world, ": ready"), 0);
    for _ in 0..50 {
        world.pod.nft("flush table inet berth");
        world.until("the rules again", SOON, |world| {
            world.pod.nft("list table inet berth").contains("dnat").then_some(())
        });
    }
    assert_eq!(status(&world).0, 0);
    assert!(net.end("-TERM", Duration::from_secs(5)).success());

    // Its tap is there.
    let mut vm = Unread::start(&world, &["vm"]);
    until_status(&world, "guest    running");
    // Signals that wait are one: it hears three when they come one by one.
    for _ in 0..3 {
        support::run("kill", &["-INT", &vm.berth.id().to_string()]);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(vm.end("-INT", Duration::from_secs(5)).code().is_some());

    // It ends by itself, or when asked.
    let mut selftest = Unread::start(&world, &["selftest"]);
    std::thread::sleep(Duration::from_secs(1));
    selftest.end("-TERM", Duration::from_secs(5));

    for verb in [&["nft", "watch"][..], &["nft", "trace", "--protocol", "icmp"]] {
        let mut looking = Unread::start(&world, verb);
        for _ in 0..20 {
            world.pod.nft("add table inet noise");
            world.pod.nft("delete table inet noise");
            let _ = world.peer.command("ping").args(["-c", "1", "-W", "0.1", POD]).output();
        }
        assert!(looking.end("-TERM", Duration::from_secs(5)).success(), "{verb:?}");
    }

    world.pod.ip("link add br9 type bridge");
    world.pod.ip("addr add 10.9.0.1/24 dev br9");
    world.pod.ip("link set br9 up");
    let words = [
        "serve",
        "--interface",
        "br9",
        "--range",
        "10.9.0.100,10.9.0.200",
        "--host",
        "nas=10.9.0.8",
    ];
    let words = [&words[..], &["--domain", "lan", "--lease-file"]].concat();
    let leases = world.path("leases").display().to_string();
    for signal in ["-TERM", "-HUP", "-QUIT", "-INT"] {
        let mut serve = Unread::start(&world, &[&words[..], &[&leases]].concat());
        for _ in 0..30 {
            world.until("an answer", SOON, |world| {
                let mut dig = world.pod.command("dig");
                let dig = dig
                    .args(["+short", "+tries=1", "+time=1", "@10.9.0.1", "nas.lan"])
                    .output()
                    .unwrap();
                (dig.stdout == b"10.9.0.8\n").then_some(())
            });
        }
        assert!(serve.end(signal, Duration::from_secs(5)).success(), "{signal}");
    }
}

/// nohup(1): whoever starts us decides.
#[test]
fn a_hangup_that_was_to_be_ignored_is() {
    let mut world = World::new();
    world.start_binary(
        &["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"],
        env!("CARGO_BIN_EXE_berth"),
        "net",
    );
    until_status(&world, ": ready");
    world.signal("HUP");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(status(&world).0, 0);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

#[test]
fn a_vnc_port_that_is_taken_or_a_qemu_that_does_nothing_is_code_19() {
    let mut world = World::new();
    let held = world.pod.within(|| std::net::TcpListener::bind((POD, 5900)).unwrap());
    world.start();
    assert_eq!(world.wait(SOON).code(), Some(19), "{}", world.log());
    assert!(world.log().contains("port 5900 of 10.244.7.2 is taken"), "{}", world.log());
    drop(held);
    world.set("BERTH_QEMU", "/bin/true").start();
    assert_eq!(world.wait(SOON).code(), Some(19), "{}", world.log());
    assert!(
        world.log().contains("QEMU ended with exit code 0 before the guest ran"),
        "{}",
        world.log()
    );
}

/// A terminal as `docker run -it` gives one: its program in a session of its own, with the terminal to control it.
const TERMINAL: &str = r##"
import os, pty, select, sys, termios, time
parent, child = pty.openpty()
before = termios.tcgetattr(child)
pid = os.fork()
if pid == 0:
    os.close(parent)
    os.login_tty(child)
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
def until(text, limit=90):
    global seen
    end = time.time() + limit
    while text not in seen:
        assert time.time() < end, (text, seen[-3000:])
        if select.select([parent], [], [], 0.2)[0]:
            seen += os.read(parent, 65536)
    seen = seen.split(text, 1)[1]
def keys(text):
    os.write(parent, text)
until(b"Ctrl-] presses its power button")
until(b" ready")
keys(b"\r")
until(b"# ")
for key in (b"\x03", b"\x1c"):
    keys(b"sleep 1000\r")
    until(b"sleep 1000")
    time.sleep(1)
    keys(key)
    until(b"# ")
    keys(b"echo $((40+2)) after\r")
    until(b"42 after")
# The guest's terminal is stopped; ours is not.
keys(b"\x13")
assert termios.tcgetattr(child)[3] & termios.ECHO == 0
keys(b"\x11echo $((40+3)) on\r")
until(b"43 on")
keys(b"\x1d")
until(b"power button pressed")
until(b"down poweroff")
end = time.time() + 40
while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    assert time.time() < end, seen
    if select.select([parent], [], [], 0.1)[0]:
        seen += os.read(parent, 65536)
assert termios.tcgetattr(child) == before, "the terminal is as it was"
sys.exit(os.waitstatus_to_exitcode(status))
"##;

/// microvm.nix#21: Ctrl-C at the guest's shell was the end of the VM.
#[test]
fn keys_are_the_guests_and_one_leads_out() {
    let mut world = World::new();
    world.start_under(&["python3", "-c", TERMINAL]);
    let ended = world.wait(Duration::from_secs(150));
    assert_eq!(ended.code(), Some(0), "{}\n{}", world.log(), world.serial());
}

/// Ctrl-S before anything else, on a terminal that is not key by key yet: all writing waits.
#[test]
fn a_stopped_terminal_does_not_hold_up_the_stop() {
    let stopped = r#"
import os, pty, sys, termios, time, signal
parent, child = pty.openpty()
termios.tcflow(child, termios.TCOOFF)
pid = os.fork()
if pid == 0:
    os.setsid()
    [os.dup2(child, fd) for fd in (1, 2)]
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let mut world = World::new();
    // Fetched, so that there is a bar to draw.
    let image = world::tiny().display().to_string();
    world.set("IMG_SOURCE", &image).set("IMG_TARGET", "base.qcow2");
    world.start_under(&["python3", "-c", stopped]);
    until_status(&world, "guest    running");
    world.until("the guest's greeting", BOOT, |world| {
        World::tcp(&world.peer, POD, 8080, b"")
            .ok()
            .filter(|hello| hello.starts_with(b"hello from demo"))
    });
    assert_eq!(world.stop(), Some(0));
}

/// Each line is an error of write(2).
#[test]
fn a_log_on_a_full_volume_is_lost_and_nothing_else() {
    let world = World::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut berth =
        world.command(&[]).arg("net").stdout(Stdio::null()).stderr(full).spawn().unwrap();
    until_status(&world, ": ready");
    support::run("kill", &["-TERM", &berth.id().to_string()]);
    assert!(berth.wait().unwrap().success());
}
