//! `berth doctor`: each fault is made, and has its name, what was seen, a remedy, and the exit code that a start ends with;
//! a healthy pod is told nothing.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::life::Group;
use crate::support::checked;
use crate::support::world::{BOOT, PEER, Volume, World};
use crate::vm::Dnsmasq;

const NO_ADMIN: &[&str] = &["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
const NO_BIND: &[&str] =
    &["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
const NO_SETUID: &[&str] = &["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"];
const NO_KILL: &[&str] = &["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"];
const NO_TUN: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /dev/net && exec setpriv --bounding-set=-mknod --inh-caps=-mknod \"$0\" \"$@\"",
];
const TUN_IS_A_FILE: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /dev/net && echo >/dev/net/tun && exec \"$0\" \"$@\"",
];
const KVM_IS_NULL: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /mnt && mknod -m 666 /mnt/kvm c 1 3 && { [ -e /dev/kvm ] || mknod /dev/kvm c 10 232; } && \
     mount --bind /mnt/kvm /dev/kvm && exec \"$0\" \"$@\"",
];

/// The doctor's report in this world, and its exit code.
fn look(
    world: &World,
    wrapper: &[&str],
    variables: &[(&str, &str)],
    words: &[&str],
) -> (i32, Value) {
    let mut command = world.command(wrapper);
    let args = ["doctor", "--output", "json"];
    let output = command.args(args).args(words).envs(variables.iter().copied()).output().unwrap();
    let (said, text) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let report =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {said}{text}"));
    (output.status.code().unwrap(), report)
}

fn find<'a>(report: &'a Value, id: &str) -> Option<&'a Value> {
    report["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == id)
}

fn ids(report: &Value) -> Vec<&str> {
    report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["id"].as_str().unwrap())
        .collect()
}

/// All findings that were made, and what went otherwise.
#[derive(Default)]
struct Rows {
    seen: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Rows {
    /// The doctor finds it by itself; a start ends with its code and says its name, or starts where it has none.
    fn row(&mut self, world: &World, id: &str, wrapper: &[&str], variables: &[(&str, &str)]) {
        let began = Instant::now();
        let (code, report) = look(world, wrapper, variables, &[]);
        let took = began.elapsed();
        self.judge(id, code, &report);
        if took > Duration::from_secs(5) {
            self.wrong.push(format!("{id}: took {took:?}"));
        }
        let Some(ends) = find(&report, id).and_then(|finding| finding["exit_code"].as_i64()) else {
            return;
        };
        let (ended, log) = self.start(world, wrapper, variables, &[]);
        let _ = fs::remove_file(world.path("state/last-fault.json"));
        if i64::from(ended) != ends || !log.contains(id) {
            self.wrong.push(format!("{id}: a start ends with {ended}, not {ends}: {log}"));
        }
    }

    /// A start ends with the code, and the doctor knows of it afterwards.
    fn after(
        &mut self,
        world: &World,
        id: &str,
        ends: i32,
        variables: &[(&str, &str)],
        words: &[&str],
    ) {
        let (ended, log) = self.start(world, &[], variables, words);
        let (code, report) = look(world, &[], variables, &[]);
        self.judge(id, code, &report);
        if ended != ends || !log.contains(id) {
            self.wrong.push(format!("{id}: a start ends with {ended}, not {ends}: {log}"));
        }
        fs::remove_file(world.path("state/last-fault.json")).unwrap();
    }

    fn start(
        &self,
        world: &World,
        wrapper: &[&str],
        variables: &[(&str, &str)],
        words: &[&str],
    ) -> (i32, String) {
        let wrapper = [wrapper, &["timeout", "-k", "5", "40"]].concat();
        let mut command = world.command(&wrapper);
        let output =
            command.arg("run").args(words).envs(variables.iter().copied()).output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn judge(&mut self, id: &str, code: i32, report: &Value) {
        let Some(finding) = find(report, id) else {
            return self.wrong.push(format!("{id}: found {:?}", ids(report)));
        };
        let has = |key: &str| finding[key].as_str().is_some_and(|text| !text.is_empty());
        let wanted = match finding["severity"].as_str().unwrap() {
            "error" => 2..=2,
            "warning" => 1..=2,
            _ => 0..=2,
        };
        if !has("evidence") || !has("remedy") || !has("what") || !wanted.contains(&code) {
            self.wrong.push(format!("{id}: exit code {code}: {finding}"));
        }
        self.seen.insert(id.to_owned());
    }

    fn end(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
        println!("{} faults: {:?}", self.seen.len(), self.seen);
    }
}

#[test]
fn a_healthy_pod_is_told_nothing_before_a_start_and_beside_it() {
    let mut world = World::new();
    let _resolver = Dnsmasq::start(&world.peer);
    let silent = |world: &World| {
        let before = (world.state(), world.pod.run("ls -la /dev/net"));
        let began = Instant::now();
        let output = world.command(&[]).arg("doctor").output().unwrap();
        let took = began.elapsed();
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&said).as_ref()),
            (Some(0), ""),
            "after {took:?}"
        );
        assert!(took < Duration::from_secs(4), "{took:?}");
        println!("a healthy pod: {took:?}");
        assert_eq!((world.state(), world.pod.run("ls -la /dev/net")), before);
    };
    silent(&world);
    world.start().ready();
    world.until("ready", BOOT, |world| {
        let status = world.command(&[]).arg("status").output().unwrap();
        status.status.success().then_some(())
    });
    silent(&world);
    // What a launcher has itself is no fault, whether it can answer or not.
    world.signal("STOP");
    let began = Instant::now();
    let (code, report) = look(&world, &[], &[], &[]);
    assert_eq!((code, ids(&report)), (2, vec!["not-answering"]), "{report}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.signal("CONT");
    let (code, report) = look(&world, &[], &[], &[]);
    assert_eq!((code, &report["running"]), (0, &Value::from("run")), "{report}");

    // Another MAC address than its card's, which is answered all the same.
    world.tell_guest(
        "killall udhcpc; ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up; \
         udhcpc -f -i eth0 -n -q -s /etc/udhcpc.sh >/dev/null 2>&1 &",
    );
    let found = world.until("guest-other-mac", Duration::from_secs(60), |world| {
        let (_, report) = look(world, &[], &[], &[]);
        find(&report, "guest-other-mac").cloned()
    });
    assert!(found["evidence"].as_str().unwrap().contains("02:00:00:00:00:99"), "{found}");
    assert_eq!(world.stop(), Some(0));
    assert!(!world.path("state/last-fault.json").exists());
}

#[test]
fn what_is_wrong_with_the_words_and_the_network_is_found_before_a_start() {
    let world = World::new();
    let resolver = Dnsmasq::start(&world.peer);
    let mut rows = Rows::default();
    for (id, variables) in [
        ("wrong-words", &[("IMG_VCPU", "none")][..]),
        ("no-image-directory", &[("BERTH_IMAGE_DIR", "/nowhere")]),
        ("no-such-uplink", &[("BERTH_UPLINK", "eth7")]),
        ("no-qemu", &[("BERTH_QEMU", "no-such-qemu")]),
        ("network-overlap", &[("VM_IP", "10.244.7.2"), ("VM_GW", "10.244.7.1")]),
        ("no-image", &[("IMG_TARGET", "absent.qcow2")]),
        ("mtu-cut", &[("BERTH_MTU", "9000")]),
        ("network-shadows", &[("KUBERNETES_SERVICE_HOST", "192.168.254.2")]),
        ("no-name-server", &[("BERTH_RESOLV_CONF", "/nowhere")]),
        ("no-name-server", &[("BERTH_RESOLV_CONF", "/dev/null")]),
    ] {
        rows.row(&world, id, &[], variables);
    }
    for (id, wrapper) in [
        ("no-net-admin", NO_ADMIN),
        ("no-net-bind-service", NO_BIND),
        ("no-setuid", NO_SETUID),
        ("no-kill", NO_KILL),
        ("tun-missing", NO_TUN),
        ("tun-wrong", TUN_IS_A_FILE),
    ] {
        rows.row(&world, id, wrapper, &[]);
    }
    let taken = world.pod.within(|| UdpSocket::bind("0.0.0.0:67").unwrap());
    rows.row(&world, "serve-taken", &[], &[]);
    drop(taken);
    let taken = world.pod.within(|| TcpListener::bind("[::]:53").unwrap());
    rows.row(&world, "serve-taken", &[], &[]);
    drop(taken);
    let taken = world.pod.within(|| TcpListener::bind("0.0.0.0:9177").unwrap());
    rows.row(&world, "serve-taken", &[], &[("BERTH_METRICS", "pod:9177")]);
    drop(taken);
    rows.row(&world, "unknown-variable", &[], &[("BERTH_UPLNK", "eth0")]);

    let words = fs::read_to_string(world.path("resolv.conf")).unwrap();
    fs::write(world.path("resolv.conf"), format!("nameserver 300.1.1.1\n{words}")).unwrap();
    rows.row(&world, "resolv-conf-words", &[], &[]);
    fs::write(world.path("resolv.conf"), &words).unwrap();
    world.pod.ip("route add 192.168.0.0/16 via 169.254.1.1 dev eth0");
    rows.row(&world, "network-shadows", &[], &[]);
    world.pod.ip("route del 192.168.0.0/16");
    // A route that says so itself is no router on the way.
    world.pod.ip("route change default via 169.254.1.1 dev eth0 mtu 1300");
    assert_eq!(ids(&look(&world, &[], &[], &[]).1), [""; 0]);
    world.pod.ip("route change default via 169.254.1.1 dev eth0");
    world.narrow(1300);
    rows.row(&world, "path-mtu", &[], &[]);
    world.narrow(1450);
    drop(resolver);
    rows.row(&world, "name-server-silent", &[], &[]);
    // Nobody says that there is nobody.
    world.peer.nft("add table inet t");
    world.peer.nft("add chain inet t c { type filter hook input priority 0 ; policy drop ; }");
    rows.row(&world, "name-server-silent", &[], &[]);
    world.pod.ip("link set eth0 mtu 500");
    rows.row(&world, "mtu-too-small", &[], &[]);
    world.pod.ip("link set eth0 mtu 1450");
    world.pod.ip("route del default");
    rows.row(&world, "no-default-route", &[], &[]);
    world.pod.ip("addr flush dev eth0");
    rows.row(&world, "no-address", &[], &[("BERTH_UPLINK", "eth0")]);
    rows.end();
}

#[test]
fn what_is_wrong_with_the_machine_and_its_disks_is_found_before_a_start() {
    let world = World::new();
    let _resolver = Dnsmasq::start(&world.peer);
    let mut rows = Rows::default();
    rows.row(&world, "no-kvm", KVM_IS_NULL, &[("BERTH_ACCEL", "kvm")]);
    rows.row(&world, "slow-without-kvm", KVM_IS_NULL, &[("BERTH_ACCEL", "auto")]);
    let taken = world.pod.within(|| TcpListener::bind("0.0.0.0:5900").unwrap());
    rows.row(&world, "vnc-taken", &[], &[]);
    drop(taken);
    let group = Group::new();
    group.limit(128 << 20);
    let enter = group.enter().replace("exec \"$@\"", "exec \"$0\" \"$@\"");
    rows.row(&world, "memory-limit", &["sh", "-c", &enter], &[]);

    fs::create_dir(world.path("volumes")).unwrap();
    checked(Command::new("mkfifo").arg(world.path("volumes/pipe.img")));
    rows.row(&world, "disks-skipped", &[], &[]);
    fs::remove_dir_all(world.path("volumes")).unwrap();

    let image = world.path("image").display().to_string();
    let read_only = format!(
        "mount --bind {image} {image} && mount -o remount,bind,ro {image} && exec \"$0\" \"$@\""
    );
    rows.row(&world, "volume-read-only", &["unshare", "--mount", "sh", "-c", &read_only], &[]);
    let lock =
        OpenOptions::new().create(true).append(true).open(world.path("image/.demo.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    rows.row(&world, "disk-locked", &[], &[]);
    drop(lock);
    // Whatever is in the place of files of ours is not waited for.
    fs::remove_file(world.path("image/.demo.lock")).unwrap();
    checked(Command::new("mkfifo").arg(world.path("image/.demo.lock")));
    checked(Command::new("mkfifo").arg(world.path("state/last-fault.json")));
    assert_eq!(ids(&look(&world, &["timeout", "10"], &[], &[]).1), [""; 0]);
    fs::remove_file(world.path("image/.demo.lock")).unwrap();
    fs::remove_file(world.path("state/last-fault.json")).unwrap();
    let volume = Volume::new(&world, "image", "64k");
    fs::write(world.path("image/ballast"), vec![1; 60 << 10]).unwrap();
    rows.row(&world, "volume-full", &[], &[]);
    volume.resize("50m");
    let (_, report) = look(&world, &[], &[], &[]);
    assert!(find(&report, "volume-fills").is_some(), "{report}");
    drop(volume);

    // What is so now is worse than what was once, of the same name.
    fs::write(
        world.path("state/last-fault.json"),
        r#"{"code":11,"text":"BERTH_UPLINK=old0","fault":"no-such-uplink","at_ms":1}"#,
    )
    .unwrap();
    let (_, report) = look(&world, &[], &[("BERTH_UPLINK", "new9")], &[]);
    let found = find(&report, "no-such-uplink").unwrap()["evidence"].as_str().unwrap();
    assert!(found.contains("new9"), "{report}");
    fs::remove_file(world.path("state/last-fault.json")).unwrap();
    // What those who started here have left.
    world.pod.ip("link del tap0");
    let (code, report) = look(&world, &[], &[], &["--half", "vm"]);
    rows.judge("net-half-lost", code, &report);

    // As nobody, of whom the directory is not.
    let copy = world.path("berth");
    fs::copy(env!("CARGO_BIN_EXE_berth"), &copy).unwrap();
    checked(Command::new("chmod").args(["-R", "go+rX"]).arg(world.dir.path()));
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut command = world.command_of(&nobody, copy.to_str().unwrap());
    let output = command.args(["doctor", "--half", "vm", "--output", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    rows.judge("state-directory", output.status.code().unwrap(), &report);
    rows.end();
}

/// A server whose certificate nobody has signed.
struct Untrusted(Child);

impl Untrusted {
    fn start(world: &World) -> Self {
        let (key, cert) = (world.path("key.pem"), world.path("cert.pem"));
        checked(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
                .args(["-subj", "/CN=images", "-addext", &format!("subjectAltName=IP:{PEER}")])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&cert),
        );
        let mut command = world.peer.command("openssl");
        command.args(["s_server", "-quiet", "-www", "-accept", "443", "-cert"]).arg(&cert);
        command.arg("-key").arg(&key).stdin(Stdio::null());
        let child = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        world.until("the server listens", Duration::from_secs(20), |world| {
            world.peer.run("ss -ltn").contains(":443").then_some(())
        });
        child
    }
}

impl Drop for Untrusted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_start_ended_with_is_known_afterwards() {
    let world = World::new();
    let _resolver = Dnsmasq::start(&world.peer);
    let _server = Untrusted::start(&world);
    let absent = world.peer.within(|| TcpListener::bind((PEER, 80)).unwrap());
    std::thread::spawn(move || {
        for mut stream in absent.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream
                .write_all(b"HTTP/1.1 404 None\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let text = world.path("page.html").display().to_string();
    fs::write(&text, "<html>log in first</html>\n".repeat(100)).unwrap();
    let (status, tls) = (format!("http://{PEER}/x.qcow2"), format!("https://{PEER}/x.qcow2"));
    let tiny = world.env["IMG_TARGET"].clone();
    let new = |source: &'static str| ("IMG_SOURCE", source);
    let (status, tls, text, tiny): (&'static str, &'static str, &'static str, &'static str) =
        (status.leak(), tls.leak(), text.leak(), tiny.leak());
    let target = ("IMG_TARGET", "new.qcow2");
    let mut rows = Rows::default();
    rows.after(&world, "image-status", 13, &[target, new(status)], &[]);
    rows.after(&world, "image-untrusted", 13, &[target, new(tls)], &[]);
    let ca = ("BERTH_CA_FILE", "/etc/hostname");
    rows.after(&world, "image-untrusted", 13, &[target, new(tls), ca], &[]);
    rows.after(&world, "image-refused", 14, &[target, new(text)], &[]);
    let sum = ("IMG_SHA256", "abababababababababababababababababababababababababababababababab");
    rows.after(&world, "image-checksum", 14, &[target, new(tiny), sum], &[]);
    rows.after(&world, "image-too-large", 14, &[target, new(tiny), ("IMG_MAX_SIZE", "4096")], &[]);
    // Half of an image, with a head that is whole.
    let whole = fs::read(tiny).unwrap();
    let half = world.path("half.qcow2").display().to_string();
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    rows.after(&world, "image-refused", 14, &[target, new(half.leak())], &[]);
    rows.after(&world, "qemu-refused", 19, &[], &["--", "-no-such-option"]);
    rows.after(&world, "memory-refused", 19, &[("IMG_RAM_MB", "16000000")], &[]);
    fs::write(world.path("image/demo.qcow2"), "no disk").unwrap();
    rows.after(&world, "overlay-refused", 3, &[], &[]);
    rows.end();

    // A word that nobody has heard of is no fault's name.
    let ask = |words: &[&str]| world.command(&[]).arg("doctor").args(words).output().unwrap();
    let explained = ask(&["--explain", "tun-missing"]);
    let text = String::from_utf8_lossy(&explained.stdout);
    assert!(explained.status.success() && text.contains("/dev/net/tun"), "{text}");
    let unknown = ask(&["--explain", "tun"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        unknown.status.code() == Some(10) && said.contains("did you mean tun-missing"),
        "{said}"
    );
    let list = ask(&["--list"]);
    assert!(String::from_utf8_lossy(&list.stdout).lines().count() > 50);
}

/// Two minutes of a machine that has nothing to boot: the firmware says so, nobody opens the config drive, and nobody asks
/// for an address.
#[test]
fn a_guest_that_does_not_boot_is_told_by_name() {
    let mut world = World::new();
    let _resolver = Dnsmasq::start(&world.peer);
    let empty = world.path("empty.qcow2");
    checked(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&empty).arg("1M"));
    world.set("IMG_TARGET", &empty.display().to_string()).start();
    let until = |world: &World, id: &str, limit: u64| {
        world.until(id, Duration::from_secs(limit), |world| {
            std::thread::sleep(Duration::from_secs(2));
            find(&look(world, &[], &[], &[]).1, id).cloned()
        })
    };
    until(&world, "no-boot", 90);
    let unread = until(&world, "config-drive-unread", 150);
    let silent = until(&world, "guest-silent", 150);
    assert!(silent["evidence"].as_str().unwrap().contains("the tap saw no frame"), "{silent}");
    let log = world.log();
    for finding in [&unread, &silent] {
        let id = finding["id"].as_str().unwrap();
        assert_eq!(log.matches(&format!("[{id}]")).count(), 1, "{id}: {log}");
    }
    let status = world.command(&[]).arg("status").output().unwrap();
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains("warning  guest-silent: "), "{text}");
    assert_eq!(world.stop(), Some(0));
}

/// A network half that serves nothing, and a guest that has made up its mind.
#[test]
fn a_guest_with_an_address_of_its_own_is_told_by_its_mac() {
    let mut world = World::new();
    world.set("BERTH_MAC", "52:54:00:12:34:56");
    let mut net = world
        .command(&[])
        .arg("net")
        .env("NO_DHCP", "1")
        .env("BERTH_STATE_DIR", world.path("net-state"))
        .env("BERTH_QEMU_UID", "0")
        .stderr(fs::File::create(world.path("net.log")).unwrap())
        .spawn()
        .unwrap();
    world.set("BERTH_QEMU_UID", "0");
    world.start_binary(&[], env!("CARGO_BIN_EXE_berth"), "vm");
    world.ready();
    let mut console = world
        .command(&[])
        .arg("console")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut typed = console.stdin.take().unwrap();
    typed.write_all(b"ip addr add 10.9.9.9/24 dev eth0\nping 10.9.9.8\n").unwrap();
    typed.flush().unwrap();
    let found = world.until("guest-static", Duration::from_secs(200), |world| {
        std::thread::sleep(Duration::from_secs(2));
        find(&look(world, &[], &[], &["--half", "vm"]).1, "guest-static").cloned()
    });
    let evidence = found["evidence"].as_str().unwrap();
    assert!(evidence.contains("52:54:00:12:34:56") && evidence.contains("10.9.9.9"), "{evidence}");
    let _ = console.kill();
    let _ = console.wait();
    world.stop();
    let _ = net.kill();
    let _ = net.wait();
}
