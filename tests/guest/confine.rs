//! What is left to a QEMU that was taken over, and what berth keeps: a program in QEMU's place tries, the kernel answers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::checked;
use crate::support::world::World;
use berth::confine;
use socket2::{Domain, Socket, Type};

const NOBODY: [&str; 7] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
];
const SOON: Duration = Duration::from_secs(60);
const IN_QEMUS_PLACE: &str = include_str!("confine/taken-over.py");
/// What goes on with berth's memory, environment and open files whatever QEMU may open.
const OF_BERTH: [&str; 7] = [
    "memory-read",
    "memory-write",
    "environ",
    "descriptors",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
];
const REFUSED: [&str; 56] = [
    "signal",
    "passwd",
    "root",
    "image",
    "image-write",
    "state",
    "resolv.conf",
    "tmp-write",
    "tap",
    "bind",
    "connect",
    "net-half",
    "packets",
    "netlink",
    "vsock",
    "mount",
    "unshare",
    "unshare-net",
    "setns",
    "clone",
    "clone3",
    "x32-unshare",
    "io_uring",
    "mptcp",
    "udp",
    "unix",
    "unix-pair",
    "status",
    "fast-open",
    "fast-open-message",
    "fast-open-messages",
    "tap-attach",
    "tap-persist",
    "tap-owner",
    "tap-owner-64",
    "tap-group",
    "tap-address",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "setxattr",
    "fsetxattr",
    "removexattr",
    "utime",
    "utimensat",
    "futimens",
    "limits",
    "affinity",
    "scheduler",
    "priority",
    "io-priority",
];
const HAD: [&str; 10] = [
    "library",
    "vnc",
    "tap-features",
    "tap-offload",
    "own-limits",
    "own-affinity",
    "thread",
    "no-variables",
    "no-bounding-set",
    "no-core-files",
];

/// A process that is killed with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A world in which nobody may read what a pod's user may, with the program in QEMU's place.
fn taken_over() -> World {
    let mut world = World::new();
    let dir = world.dir.path().to_owned();
    let (berth, qemu, disk) = (dir.join("berth"), dir.join("qemu"), dir.join("image/disk.img"));
    fs::copy(env!("CARGO_BIN_EXE_berth"), &berth).unwrap();
    fs::write(&qemu, IN_QEMUS_PLACE).unwrap();
    let mut bootable = vec![0; 1 << 20];
    bootable[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&disk, bootable).unwrap();
    for path in [&dir, &berth, &qemu] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    for path in [&dir.join("image"), &dir.join("state"), &disk] {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
    world
        .set("BERTH_QEMU", &qemu.display().to_string())
        .set("IMG_TARGET", &disk.display().to_string());
    world.set("IMG_SOURCE", "http://user:hunter2@192.0.2.1/x").set("BERTH_LOG", "info");
    world
}

/// How each went.
fn tried(world: &World) -> BTreeMap<String, String> {
    let log = world.until("the tries", SOON, |world| {
        let log = world.log();
        log.contains("TRIED all done").then_some(log)
    });
    // Beside them is what berth makes of its end.
    let said = log.lines().filter(|line| line.contains("WARN"));
    let lines = said.filter_map(|line| line.split_once("TRIED ")?.1.split_once(' '));
    lines.map(|(name, how)| (name.to_owned(), how.to_owned())).collect()
}

fn run(world: &mut World) -> BTreeMap<String, String> {
    world.start();
    let how = tried(world);
    world.wait(SOON);
    how
}

/// The network half, once it serves.
fn network_half(world: &World) -> Killed {
    let berth = world.path("berth").display().to_string();
    let net =
        Killed(world.command_of(&[], &berth).arg("net").stderr(Stdio::null()).spawn().unwrap());
    world.until("the network half", SOON, |world| {
        let (meets, serves) = (world.pod.run("ss -xlH"), world.pod.run("ss -ulnH"));
        (meets.contains("@berth-net/tap0") && serves.contains("%br0:67")).then_some(())
    });
    net
}

/// The machine half as nobody, beside a network half; QEMU has its uid.
fn vm(world: &mut World) -> BTreeMap<String, String> {
    let berth = world.path("berth").display().to_string();
    let net = network_half(world);
    world.start_binary(&NOBODY, &berth, "vm");
    let how = tried(world);
    world.wait(SOON);
    drop(net);
    how
}

fn assert_confined(how: &BTreeMap<String, String>, refusals: &[&str]) {
    for name in OF_BERTH.iter().chain(&REFUSED) {
        let how = how.get(*name).map(String::as_str);
        let is_refused = how.is_some_and(|how| refusals.contains(&how));
        assert!(is_refused, "{name}: {how:?}");
    }
    for name in HAD {
        assert_eq!(how.get(name).map(String::as_str), Some("done"), "{name}");
    }
    let named: usize = OF_BERTH.len() + REFUSED.len() + HAD.len();
    assert_eq!(how.len(), named + 1, "{how:?}");
}

#[test]
fn a_qemu_taken_over_under_run_reaches_nothing_but_what_it_was_handed() {
    assert_confined(&run(&mut taken_over()), &["EACCES", "EPERM", "ENOSYS"]);
}

/// Its uid is berth's: without confinement it would read and write berth's memory.
#[test]
fn a_qemu_taken_over_under_vm_reaches_nothing_but_what_it_was_handed() {
    assert_confined(&vm(&mut taken_over()), &["EACCES", "EPERM", "ENOSYS"]);
}

/// The counterproof: what is refused above is what this kernel gives who is not confined; berth's memory is not part of it.
#[test]
fn confine_off_leaves_qemu_what_its_uid_may_but_not_berths_memory() {
    let mut world = taken_over();
    world.set("BERTH_CONFINE", "off");
    let how = vm(&mut world);
    for name in OF_BERTH {
        assert!(how[name] == "EACCES" || how[name] == "EPERM", "{name}: {}", how[name]);
    }
    for name in [
        "signal",
        "passwd",
        "root",
        "image",
        "state",
        "resolv.conf",
        "tap",
        "bind",
        "net-half",
        "netlink",
        "unshare",
        "mptcp",
        "udp",
        "unix-pair",
        "status",
        "tap-persist",
        "tap-owner",
        "tap-owner-64",
        "tap-address",
        "chmod",
        "fchmod",
        "fchmodat",
        "chown",
        "utime",
        "futimens",
        "limits",
        "affinity",
        "scheduler",
        "priority",
        "io-priority",
    ] {
        assert_eq!(how[name], "done", "{name}");
    }
    for name in ["fast-open", "fast-open-message"] {
        assert_eq!(how[name], "ECONNREFUSED", "{name}");
    }
    assert_eq!(how["no-variables"], "done");
    assert!(world.log().contains("BERTH_CONFINE=off: QEMU is not confined"), "{}", world.log());
}

/// A field of /proc/PID/task/TID/status for each thread, with the thread's name.
fn threads(pid: u32, field: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap();
    let of = |status: &str, field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    };
    let texts = tasks.map(|task| status(task.unwrap()));
    texts.map(|text| (of(&text, "Name"), of(&text, field))).collect()
}

/// Only who speaks with the kernel about links and rules may change them; who reads what the guest sends may nothing.
#[test]
fn the_thread_that_reads_packets_has_no_capability() {
    const NET_ADMIN: u64 = 1 << 12;
    let world = taken_over();
    let net = network_half(&world);
    for field in ["CapEff", "CapPrm", "CapInh"] {
        let sets = threads(net.0.id(), field);
        for (name, set) in &sets {
            let set = u64::from_str_radix(set, 16).unwrap();
            match name.as_str() {
                "berth-packets" | "log" => assert_eq!(set, 0, "{name} {field}"),
                "berth" | "berth-nft" => {
                    assert_eq!(set & NET_ADMIN != 0, field != "CapInh", "{name} {field}");
                }
                _ => assert_eq!(set & NET_ADMIN, 0, "{name} {field}"),
            }
        }
        assert_eq!(sets.iter().filter(|(name, _)| name == "berth-packets").count(), 1, "{sets:?}");
    }
    for (field, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        for (name, is) in threads(net.0.id(), field) {
            assert_eq!(is, wanted, "{name} {field}");
        }
    }
    let filters = threads(net.0.id(), "Seccomp_filters");
    let of = |thread: &str| filters.iter().find(|(name, _)| name == thread).unwrap().1.clone();
    assert!(of("berth-packets") > of("berth"), "{filters:?}");
}

/// What a service that was taken over could do: the same stage, in a thread of this test.
#[test]
fn the_thread_that_reads_packets_has_its_files_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["etc", "volume/leases", "other"] {
        fs::create_dir_all(path(name)).unwrap();
        fs::write(path(name).join("file"), "content").unwrap();
    }
    let [resolv_conf, leases, other] = ["etc/file", "volume/leases/file", "other/file"].map(path);
    let confined = move || {
        confine::packets().unwrap();
        confine::packets_to(Some(&resolv_conf), Some(&leases)).unwrap();
        assert_eq!(fs::read_to_string(&resolv_conf).unwrap(), "content");
        fs::write(leases.with_extension("new"), "as long as it may be").unwrap();
        fs::rename(leases.with_extension("new"), &leases).unwrap();
        fs::remove_dir_all(leases.parent().unwrap()).unwrap();
        fs::create_dir(leases.parent().unwrap()).unwrap();
        fs::write(&leases, "made again").unwrap();
        UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        std::thread::spawn(|| ()).join().unwrap();
        let socket = |domain| Socket::new(domain, Type::RAW, None).map(drop);
        let refused = [
            ("another file", fs::read(&other).map(drop)),
            ("the directory above", fs::read_dir(dir.path()).map(drop)),
            ("resolv.conf, written", fs::write(&resolv_conf, "")),
            ("the file system", fs::write("/tmp/berth-test-new", "")),
            ("the kernel's settings", fs::write("/proc/sys/kernel/domainname", "x")),
            ("a port", TcpListener::bind(("127.0.0.1", 0)).map(drop)),
            ("a program", Command::new("/bin/true").status().map(drop)),
            ("netlink", socket(Domain::from(libc::AF_NETLINK))),
            ("frames", socket(Domain::PACKET)),
        ];
        for (what, outcome) in refused {
            let error = outcome.expect_err(what);
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
        }
    };
    std::thread::spawn(confined).join().unwrap();
}

/// A container may have these anywhere, and berth is started in any directory.
#[test]
fn a_file_in_the_root_and_a_relative_path_are_reached_by_the_thread_that_reads_packets() {
    let in_root = tempfile::NamedTempFile::new_in("/").unwrap();
    let leases = tempfile::NamedTempFile::new_in("/").unwrap();
    let here = tempfile::tempdir_in(".").unwrap();
    let relative = Path::new(here.path().file_name().unwrap()).join("file");
    fs::write(&relative, "content").unwrap();
    let in_packets = |resolv_conf: &Path, lease_file: &Path, work: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            let confined = || {
                confine::packets().unwrap();
                confine::packets_to(Some(resolv_conf), Some(lease_file)).unwrap();
                work();
            };
            scope.spawn(confined).join().unwrap();
        });
    };
    in_packets(in_root.path(), leases.path(), &|| {
        assert_eq!(fs::read_to_string(in_root.path()).unwrap(), "");
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(leases.path())
            .unwrap();
        file.write_all(b"a lease").unwrap();
        file.set_len(0).unwrap();
        assert_eq!(fs::read_dir("/").unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(fs::write(in_root.path(), "").unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
    in_packets(in_root.path(), &relative, &|| {
        fs::write(relative.with_extension("new"), "longer").unwrap();
        fs::rename(relative.with_extension("new"), &relative).unwrap();
    });
    in_packets(&relative, leases.path(), &|| {
        assert_eq!(fs::read_to_string(&relative).unwrap(), "longer");
    });
}

/// /var/run is /run, and the token of the service account is in /var/run/secrets.
#[test]
fn the_thread_that_reads_packets_does_not_read_a_pods_secrets() {
    fs::create_dir_all("/run/secrets").unwrap();
    let secrets = tempfile::tempdir_in("/run/secrets").unwrap();
    let token = secrets.path().join("token");
    fs::write(&token, "secret").unwrap();
    let confined = move || {
        confine::packets().unwrap();
        confine::packets_to(Some(Path::new("/etc/resolv.conf")), None).unwrap();
        fs::read("/etc/resolv.conf").unwrap();
        assert_eq!(fs::read(&token).unwrap_err().kind(), ErrorKind::PermissionDenied);
    };
    std::thread::spawn(confined).join().unwrap();
}

/// Not a test by itself: the process that the next one starts.
#[test]
fn a_process_that_gave_up() {
    if std::env::var("CONFINE_TEST").as_deref() != Ok("serves") {
        return;
    }
    // A thread that was there before is bound as well.
    let (go, begin) = std::sync::mpsc::channel::<()>();
    let before = std::thread::spawn(move || {
        begin.recv().unwrap();
        Command::new("/bin/true").status().map_err(|error| error.kind()).map(drop)
    });
    assert_eq!(confine::begin(), Vec::<String>::new());
    assert_eq!(confine::ourselves(None), None);
    go.send(()).unwrap();
    let other = rustix::thread::move_into_link_name_space(
        fs::File::open("/proc/self/ns/net").unwrap().as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    );
    assert_eq!(other, Err(rustix::io::Errno::PERM), "it is root's otherwise");
    assert_eq!(before.join().unwrap(), Err(ErrorKind::PermissionDenied));
    assert_eq!(Command::new("/bin/true").status().unwrap_err().kind(), ErrorKind::PermissionDenied);
    Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, None).unwrap();
}

/// One of these tests in a process of its own.
fn by_itself(test: &str, what: &str) {
    let mut process = Command::new(std::env::current_exe().unwrap());
    checked(process.args(["--exact", test, "--nocapture"]).env("CONFINE_TEST", what));
}

#[test]
fn a_process_that_serves_executes_nothing_and_enters_no_namespace() {
    by_itself("confine::a_process_that_gave_up", "serves");
}

/// Not a test by itself, either.
#[test]
fn a_process_whose_thread_has_another_filter() {
    if std::env::var("CONFINE_TEST").as_deref() != Ok("fails") {
        return;
    }
    let (done, made) = std::sync::mpsc::channel();
    let (_open, end) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        confine::packets().unwrap();
        confine::packets_to(None, None).unwrap();
        done.send(()).unwrap();
        let _ = end.recv();
    });
    made.recv().unwrap();
    assert_eq!(confine::begin(), confine::unconfined(None), "the other thread does not fail this");
    assert_eq!(confine::failed(), Vec::<String>::new());
    let told = confine::ourselves(None).expect("not all threads can be bound");
    assert_eq!(confine::ourselves(None).as_ref(), Some(&told));
    assert_eq!(confine::failed(), [told], "once");
}

/// It was said once in the log, and was missing in `berth status`.
#[test]
fn a_stage_that_failed_is_remembered() {
    by_itself("confine::a_process_whose_thread_has_another_filter", "fails");
}

/// A probe's `berth status` has the container's environment, where a URL may have a password.
#[test]
fn no_verb_shows_its_environment_to_others_of_its_uid() {
    let world = taken_over();
    let berth = world.path("berth").display().to_string();
    let mut verb = world.command_of(&NOBODY, &berth);
    let verb = Killed(verb.args(["validate", "-"]).stdin(Stdio::piped()).spawn().unwrap());
    let proc = |name: &str| format!("/proc/{}/{name}", verb.0.id());
    let is_berth = || fs::read_to_string(proc("comm")).is_ok_and(|comm| comm == "berth\n");
    // What may be looked into is its uid's.
    let hidden =
        |_: &World| (is_berth() && fs::metadata(proc("environ")).unwrap().uid() == 0).then_some(());
    world.until("the process to be hidden", SOON, hidden);
    let looks = |path: &str| {
        Command::new(NOBODY[0]).args(&NOBODY[1..]).args(["cat", path]).output().unwrap()
    };
    for name in ["environ", "maps"] {
        assert!(!looks(&proc(name)).status.success(), "{name}");
    }
    assert!(looks(&proc("status")).status.success());
}
