//! Every verb, every row of the manual's table of exit codes: what is typed, where, and what it ends with.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::checked;
use crate::support::world::{PEER, World};

const NO_ADMIN: [&str; 3] = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];

/// What is typed, with which variables (`A=b` before the verb), what it ends with and what it says.
type Case = (i32, &'static str, &'static str);

/// On a pod with nothing of ours, but a table that drops what comes for port 9, and half of what comes for port 10.
const PLAIN: [Case; 83] = [
    (0, "plan", "table inet berth"),
    (0, "validate HERE/good.yaml", ""),
    (0, "leases --lease-file HERE/leases", ""),
    (0, "doctor --list", "tun-missing"),
    (1, "doctor", "name-server-silent"),
    (2, "BERTH_UPLINK=eth7 doctor", "no-such-uplink"),
    (2, "IMG_VCPU=none doctor", "wrong-words"),
    (0, "nft list", "chain c"),
    (0, "nft watch --for 100ms", ""),
    (0, "nft trace --for 100ms", ""),
    (0, "nft explain --from 10.0.0.9 --iif eth0 --to pod:22/tcp", "accepted"),
    (0, "--help", "berth"),
    (1, "nft explain --from 10.0.0.9 --iif eth0 --to pod:9/tcp", "dropped"),
    (1, "nft list table inet nope", "there is no table inet nope"),
    (1, "nft list chain inet t nope", "there is no chain nope"),
    (1, "nft check", "table inet berth"),
    (1, "status", "no answer on"),
    (1, "status --alive", "no answer on"),
    (1, "console", "console.sock"),
    (1, "guest info", "control.sock"),
    (1, "backup /b", "control.sock"),
    (1, "resize 1G", "control.sock"),
    (1, "suspend", "control.sock"),
    (1, "validate HERE/bad.yaml", "vmlist"),
    (1, "nft list >FULL", "writing the result"),
    (1, "nft explain --from 10.0.0.9 --iif eth0 --to pod:22/tcp >FULL", "writing the result"),
    (1, "nft check >FULL", "writing the result"),
    (1, "plan >FULL", "writing the result"),
    (1, "plan --output json >FULL", "writing the result"),
    (1, "validate HERE/bad.yaml >FULL", "writing the result"),
    (1, "leases --lease-file HERE/leases >FULL", "writing the result"),
    (2, "BERTH_IMAGE_DIR=/nowhere run", "/nowhere is not a directory"),
    (2, "BERTH_IMAGE_DIR=/nowhere vm", "/nowhere is not a directory"),
    (2, "BERTH_IMAGE_DIR=/nowhere plan", "/nowhere is not a directory"),
    (3, "nft explain --from 10.0.0.9 --iif eth0 --to pod:10/tcp", "cannot tell"),
    (4, "BERTH_TAP=lo net", "is no tap"),
    (4, "nft list --netns /nowhere", "opening the network namespace /nowhere"),
    (4, "nft check --netns /nowhere", "opening the network namespace /nowhere"),
    (10, "run --no-such-flag", "--no-such-flag"),
    (10, "net --no-such-flag", "--no-such-flag"),
    (10, "vm --no-such-flag", "--no-such-flag"),
    (10, "plan --output yaml", "yaml"),
    (10, "status --no-such-flag", "--no-such-flag"),
    (10, "doctor --explain tun", "did you mean"),
    (10, "guest freeze --for 301", "--for"),
    (10, "backup --speed fast /b", "--speed"),
    (10, "resize 0", "SIZE"),
    (10, "validate", "FILE"),
    (10, "leases --output yaml", "yaml"),
    (10, "serve --interface=eth0 --range=10.0.0.9 --lease-time=x", "--lease-time"),
    (10, "serve --interface=eth0 --range=10.0.0.9 --lease-time=x", "--range"),
    (10, "serve --interface=eth0 --no-dhcp --no-dns", "nothing to serve"),
    (10, "IMG_VCPU=none run", "IMG_VCPU=\"none\""),
    (10, "IMG_VCPU=none net", "IMG_VCPU=\"none\""),
    (10, "IMG_VCPU=none vm", "IMG_VCPU=\"none\""),
    (10, "IMG_VCPU=none plan", "IMG_VCPU=\"none\""),
    (10, "IMG_VCPU=none selftest", "IMG_VCPU=\"none\""),
    (10, "IMG_VCPU=none nft check", "IMG_VCPU=\"none\""),
    (10, "BERTH_LOG_FORMAT=yaml plan", "BERTH_LOG_FORMAT"),
    (10, "nft list nonsense", "nonsense"),
    (10, "nft explain --from nonsense --to pod:1/tcp", "nonsense"),
    (10, "nft trace --from nonsense", "nonsense"),
    (10, "nft watch --for 0s", "0s"),
    (11, "BERTH_UPLINK=eth7 run", "no interface eth7"),
    (11, "BERTH_UPLINK=eth7 net", "no interface eth7"),
    (11, "BERTH_UPLINK=eth7 vm", "no interface eth7"),
    (11, "BERTH_UPLINK=eth7 plan", "no interface eth7"),
    (11, "BERTH_UPLINK=eth7 selftest", "no interface eth7"),
    (11, "BERTH_UPLINK=eth7 nft check", "no interface eth7"),
    (11, "BERTH_QEMU=no-such-qemu run", "BERTH_QEMU"),
    (11, "serve --interface=eth7 --no-dhcp", "no interface eth7"),
    (11, "validate /nowhere.yaml", "/nowhere.yaml"),
    (11, "nft explain --from 10.0.0.9 --iif nosuch --to pod:22/tcp", "no interface nosuch"),
    (11, "nft list hooks device nosuch", "no interface nosuch"),
    (12, "BERTH_TAP=lo selftest", "lo: there already"),
    (12, "IMG_TARGET=absent.qcow2 run", "IMG_SOURCE"),
    (12, "VM_IP=10.244.7.2 VM_GW=10.244.7.1 net", "VM_GW"),
    (12, "BERTH_EXTRA_RULES=/etc/hostname plan", "the extra rules are not JSON"),
    (12, "serve --interface=eth0 --range=10.9.9.1,10.9.9.9", "--range"),
    (13, "IMG_TARGET=new.qcow2 IMG_SOURCE=http://10.244.7.3/new.qcow2 run", "404"),
    (14, "IMG_TARGET=new.qcow2 IMG_SOURCE=HERE/good.yaml run", "good.yaml"),
    (16, "BERTH_METADATA=/etc/hostname run", "meta-data"),
    (
        18,
        "serve --interface=eth0 --address=10.244.7.2/24 --range=10.244.7.9,10.244.7.9 --lease-file HERE/good.yaml",
        "good.yaml",
    ),
];

/// Runs it to its end: the code, and what it said on both.
fn ends(world: &World, wrapper: &[&str], typed: &str) -> (i32, String) {
    let typed = typed.replace("HERE", &world.dir.path().display().to_string());
    let mut words: Vec<&str> = typed.split_whitespace().collect();
    let is_full = words.last() == Some(&">FULL");
    words.truncate(words.len() - usize::from(is_full));
    let variables =
        words.iter().take_while(|word| word.contains('=') && !word.starts_with('-')).count();
    // Nothing of it takes long: what does has gone another way.
    let wrapper = [wrapper, &["timeout", "60"]].concat();
    let mut command = world.command(&wrapper);
    for word in words.drain(..variables) {
        let (name, value) = word.split_once('=').unwrap();
        command.env(name, value);
    }
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    if is_full {
        command.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

/// A server in the peer that has no image.
fn no_images(world: &World) {
    let listener = world.peer.within(|| TcpListener::bind((PEER, 80)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream
                .write_all(b"HTTP/1.1 404 None\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
}

/// Codes of the manual's table.
fn manual() -> BTreeSet<i32> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = ["README.md", "docs/reference.md"]
        .map(|name| fs::read_to_string(root.join(name)).unwrap_or_default());
    let rows = texts.iter().flat_map(|text| text.split("## Exit codes").skip(1)).flat_map(|text| {
        text.split("\n## ")
            .next()
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.strip_prefix("| "))
    });
    rows.filter_map(|row| row.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn every_verb_ends_with_the_code_of_the_manual() {
    let world = World::new();
    world.pod.nft("add table inet t");
    world.pod.nft("add chain inet t c { type filter hook input priority 0 ; }");
    world.pod.nft("add rule inet t c tcp dport 9 drop");
    world.pod.nft("add rule inet t c tcp dport 10 numgen random mod 2 == 0 drop");
    fs::write(world.path("good.yaml"), "vmlist: {}\n").unwrap();
    fs::write(world.path("bad.yaml"), "vmlist: 7\n").unwrap();
    fs::write(world.path("leases"), "").unwrap();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut look = |world: &World, wrapper: &[&str], (code, typed, says): Case| {
        let began = Instant::now();
        let (ended, said) = ends(world, wrapper, typed);
        println!("{typed}: {ended} after {:?}", began.elapsed());
        if ended != code || !said.contains(says) {
            wrong.push(format!("{typed}: {ended}, not {code} with {says:?}: {said}"));
        }
        seen.insert(code);
    };
    no_images(&world);
    for case in PLAIN {
        look(&world, &[], case);
    }

    for typed in ["nft list", "nft check", "nft watch --count 1", "nft trace --count 1"] {
        look(&world, &NO_ADMIN, (17, typed, "CAP_NET_ADMIN"));
    }
    look(&world, &NO_ADMIN, (4, "net", "CAP_NET_ADMIN"));
    let lock =
        OpenOptions::new().create(true).append(true).open(world.path("image/.demo.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    look(&world, &[], (15, "run", "one disk, one VM"));
    drop(lock);
    fs::create_dir(world.path("image/demo.qcow2")).unwrap();
    look(&world, &[], (3, "run", "demo.qcow2"));
    fs::remove_dir(world.path("image/demo.qcow2")).unwrap();
    let taken = world.pod.within(|| TcpListener::bind("0.0.0.0:53").unwrap());
    look(&world, &[], (18, "net", "DNS, port 53"));
    drop(taken);
    let taken = world.pod.within(|| std::net::UdpSocket::bind("0.0.0.0:67").unwrap());
    look(&world, &[], (18, "net", "DHCP, port 67"));
    look(&world, &[], (1, "status", "no answer on"));
    drop(taken);
    let taken = world.pod.within(|| TcpListener::bind("0.0.0.0:5900").unwrap());
    look(&world, &[], (19, "run", "port 5900"));
    drop(taken);
    look(&world, &[], (1, "NO_DHCP=1 selftest", "FAILED  DHCP"));
    world.pod.ip("route del default");
    look(
        &world,
        &[],
        (11, "nft explain --from 10.0.0.9 --iif eth0 --to pod:22/tcp", "no default route"),
    );
    look(&world, &[], (11, "nft check", "no default route"));
    world.pod.ip("route add default via 169.254.1.1 dev eth0");

    // An image that never comes.
    let server = world.peer.within(|| TcpListener::bind((PEER, 8080)).unwrap());
    let mut command = world.command(&[]);
    command
        .arg("run")
        .env("IMG_TARGET", "new.qcow2")
        .env("IMG_SOURCE", format!("http://{PEER}:8080/new.qcow2"));
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut asked = server.accept().unwrap().0;
    asked.read_exact(&mut [0; 3]).unwrap();
    checked(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    let said = child.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(20), "{}", String::from_utf8_lossy(&said.stderr));
    seen.insert(20);

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // A network half that stays away: tests/guest/split.rs. A panic: tests/guest/panic.rs. A console that a signal ends:
    // tests/guest/console.rs.
    seen.extend([21, 22, 23, 129]);
    assert_eq!(seen, manual(), "each row of the table has a case, and each case a row");
}

/// Ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `berth net` in the pod, and what `berth status` says of it once it is ready.
fn net(world: &World, variables: &[(&str, &str)]) -> (Ended, String, serde_json::Value) {
    let mut command = world.command(&[]);
    let log = fs::File::create(world.path("net.log")).unwrap();
    let net =
        Ended(command.arg("net").envs(variables.iter().copied()).stderr(log).spawn().unwrap());
    world.until("berth net ready", Duration::from_secs(30), |world| {
        (ends(world, &[], "status").0 == 0).then_some(())
    });
    let json = ends(world, &[], "status --output json").1;
    (net, ends(world, &[], "status").1, serde_json::from_str(&json).unwrap())
}

/// UDP sockets of the pod, by port.
fn udp_ports(world: &World) -> BTreeSet<u16> {
    let table = world.pod.run("cat /proc/net/udp");
    let port = |line: &str| {
        let local = line.split_whitespace().nth(1)?;
        u16::from_str_radix(local.split(':').nth(1)?, 16).ok()
    };
    table.lines().skip(1).filter_map(port).collect()
}

/// `NO_DHCP=1` read "serving", with no socket open.
#[test]
fn a_pod_that_is_to_serve_nothing_is_ready_and_does_not_say_it_serves() {
    let world = World::new();
    let (off, text, json) = net(&world, &[("NO_DHCP", "1")]);
    assert!(text.contains(": ready\nnetwork  off; "), "{text}");
    assert_eq!(
        (&json["ready"], &json["network"]["serving"]),
        (&true.into(), &"off".into()),
        "{json}"
    );
    assert!(udp_ports(&world).is_disjoint(&[53, 67].into()));
    drop(off);
    let (_on, text, json) = net(&world, &[]);
    assert!(text.contains(": ready\nnetwork  serving; "), "{text}");
    assert_eq!(json["network"]["serving"], "serving", "{json}");
    assert!(udp_ports(&world).is_superset(&[53, 67].into()));
}
