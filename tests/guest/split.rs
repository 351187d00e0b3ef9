//! The two halves as two processes, as two containers of a pod run them: `berth net` with two capabilities, `berth vm` with
//! none and as nobody.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::checked;
use crate::support::world::{self, PEER, POD, POD6, World};
use crate::web;

const SIDECAR: [&str; 3] = ["setpriv", "--bounding-set", "-all,+net_admin,+net_bind_service"];
const NOBODY: [&str; 7] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
];
const SOON: Duration = Duration::from_secs(30);

/// A world whose files nobody may use, and `berth net` in it.
struct Split {
    world: World,
    net: Option<Child>,
    starts: u32,
}

impl Split {
    fn new() -> Self {
        let mut world = World::new();
        let dir = world.dir.path().to_owned();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["image", "state"] {
            std::os::unix::fs::chown(dir.join(name), Some(65534), Some(65534)).unwrap();
        }
        // A cache of root's and a checkout of root's are closed to nobody.
        let (image, berth) = (dir.join("tiny.qcow2"), dir.join("berth"));
        std::fs::copy(world::tiny(), &image).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_berth"), &berth).unwrap();
        for (path, mode) in [(&image, 0o644), (&berth, 0o755)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        world.set("IMG_TARGET", &image.display().to_string());
        // Both halves read the meta-data: DHCP says what the config drive says.
        std::fs::write(dir.join("metadata"), "{\"uuid\": \"u\", \"hostname\": \"demo\"}").unwrap();
        world.set("BERTH_NAME", "demo").set("HOSTNAME", "other");
        // Two queues: both halves count them alike.
        world.set("IMG_VCPU", "2");
        Self { world, net: None, starts: 0 }
    }

    fn berth(&self, wrapper: &[&str], verb: &str) -> Command {
        let mut command =
            self.world.command_of(wrapper, &self.world.path("berth").display().to_string());
        command.arg(verb);
        command
    }

    fn start_net(&mut self) {
        self.starts += 1;
        let log = File::create(self.world.path(&format!("net.{}", self.starts))).unwrap();
        let mut command = self.berth(&SIDECAR, "net");
        command.env("BERTH_STATE_DIR", self.world.path("net-state")).stderr(log);
        self.net = Some(command.spawn().unwrap());
    }

    fn net_log(&self) -> String {
        std::fs::read_to_string(self.world.path(&format!("net.{}", self.starts))).unwrap()
    }

    fn net_pid(&self) -> String {
        self.net.as_ref().unwrap().id().to_string()
    }

    fn end_net(&mut self, signal: &str) -> Option<i32> {
        let mut net = self.net.take().unwrap();
        checked(Command::new("kill").args([&format!("-{signal}"), &net.id().to_string()]));
        net.wait().unwrap().code()
    }

    /// Exit code and output of `berth status` for a state directory.
    fn status(&self, dir: &str, words: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(self.world.path("berth"));
        let output = command
            .arg("status")
            .args(words)
            .env("BERTH_STATE_DIR", self.world.path(dir))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Exit code, output and words of `berth console --log` for a state directory.
    fn console(&self, wrapper: &[&str], dir: &str) -> (Option<i32>, String, String) {
        let mut command = self.berth(wrapper, "console");
        let command = command.arg("--log").env("BERTH_STATE_DIR", self.world.path(dir));
        let output = command.output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn vm_is_ready(&self, wanted: bool) {
        let what = format!("berth vm ready: {wanted}");
        self.world.until(&what, SOON, |_| {
            ((self.status("state", &[]).0 == Some(0)) == wanted).then_some(())
        });
    }

    fn net_is_ready(&self) {
        self.world.until(&format!("berth net ready\n{}", self.net_log()), SOON, |_| {
            (self.status("net-state", &[]).0 == Some(0)).then_some(())
        });
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        if let Some(mut net) = self.net.take() {
            let _ = net.kill();
            let _ = net.wait();
        }
    }
}

fn field(pid: &str, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().to_owned()
}

/// Its files in memory are its own, though nobody may look into it (`PR_SET_DUMPABLE`), and QEMU is no other user.
#[test]
fn the_page_of_a_guest_without_any_capability_has_its_screen() {
    let mut split = Split::new();
    split.world.set("BERTH_WEB", "loopback");
    split.start_net();
    split.net_is_ready();
    assert!(split.net_log().contains("this half has no screen"), "{}", split.net_log());
    let binary = split.world.path("berth").display().to_string();
    split.world.start_binary(&NOBODY, &binary, "vm").ready();
    assert_eq!(web::get(&split.world, "/readyz").status, 200);
    let numbers = web::get(&split.world, "/metrics");
    for half in ["net", "vm"] {
        assert!(numbers.text().contains(&format!("berth_ready{{verb=\"{half}\"}} 1\n")), "{half}");
    }
    let (_, width, height) = web::Viewer::start(&split.world.pod, &web::origin(), 1);
    let shot = web::get(&split.world, "/screenshot.png");
    assert_eq!(shot.status, 200, "{}", String::from_utf8_lossy(&shot.body));
    assert_eq!(web::picture(&shot.body), (u32::from(width), u32::from(height)));
    split.end_net("TERM");
    split.world.until("not ready", SOON, |world| {
        let said = web::get(world, "/readyz");
        (said.status == 503 && said.text().contains("no `berth net`")).then_some(())
    });
}

#[test]
fn the_halves_are_one_pod_and_each_may_end_and_come_back() {
    let mut split = Split::new();
    split.start_net();
    split.net_is_ready();
    // NET_ADMIN (12) and NET_BIND_SERVICE (10).
    assert_eq!(
        u64::from_str_radix(&field(&split.net_pid(), "CapEff"), 16).unwrap(),
        1 << 12 | 1 << 10
    );
    let binary = split.world.path("berth").display().to_string();
    split.world.start_binary(&NOBODY, &binary, "vm").ready();
    // The console is the guest's half's alone, without any capability.
    let (code, log, _) = split.console(&NOBODY, "state");
    assert!(code == Some(0) && log.contains(" ready\r\n"), "{log}");
    let (code, _, words) = split.console(&[], "net-state");
    assert!(code == Some(1) && words.contains("this is `berth net`"), "{words}");
    let vm = split.world.pid().to_string();
    let qemu = checked(Command::new("pgrep").args(["-P", &vm]));
    for pid in [vm.as_str(), qemu.trim()] {
        assert_eq!(
            (field(pid, "Uid"), field(pid, "CapEff")),
            ("65534".into(), "0".repeat(16)),
            "{pid}"
        );
    }
    let (code, text) = split.status("state", &["--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &told["verb"], &told["guest"]["phase"]),
        (Some(0), &"vm".into(), &"running".into()),
        "{text}"
    );
    assert_eq!(told["guest"]["accelerator"], "tcg");
    assert_eq!(told["network"]["serving"], "serving", "what the other half says: {text}");

    let answers = |split: &Split| {
        let hello = World::tcp(&split.world.peer, POD, 8080, b"").unwrap();
        assert!(hello.starts_with(b"hello from demo"), "{hello:?}");
        assert_eq!(World::udp(&split.world.peer, POD, 7, b"udp").as_deref(), Some(&b"udp"[..]));
        split.world.peer.run(&format!("ping -c 2 -i 0.2 -W 2 {POD}"));
    };
    answers(&split);
    // One page has both halves' numbers; the network half's own has its alone.
    let of_net =
        ["berth_ready{verb=\"net\"} 1\n", "berth_network_receive_bytes_total{device=\"guest\"} "];
    let of_vm = ["berth_ready{verb=\"vm\"} 1\n", "berth_disk_read_bytes_total{disk=\"disk0\"} "];
    let page = |dir: &str| {
        std::thread::sleep(Duration::from_millis(1100));
        split.status(dir, &["--output", "openmetrics"]).1
    };
    let text = page("state");
    assert!(of_net.iter().chain(&of_vm).all(|line| text.contains(line)), "{text}");
    assert_eq!(text.matches("# TYPE berth_ready ").count(), 1, "{text}");
    let text = page("net-state");
    assert!(of_net.iter().all(|line| text.contains(line)), "{text}");
    assert!(!of_vm.iter().any(|line| text.contains(line)), "{text}");

    // A second one is refused, before it touches anything.
    let second = split
        .berth(&SIDECAR, "net")
        .env("BERTH_STATE_DIR", split.world.path("second"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        second.status.code() == Some(18) && said.contains("another `berth net` serves tap0"),
        "{said}"
    );

    // The network half is killed: the guest goes on, and the next one heals what happened meanwhile.
    split.end_net("KILL");
    answers(&split);
    split.vm_is_ready(false);
    let (_, text) = split.status("state", &[]);
    assert!(text.contains("no `berth net` serves in this network namespace"), "{text}");
    assert_eq!(split.status("net-state", &["--alive"]).0, Some(1));
    std::thread::sleep(Duration::from_millis(1100));
    let (_, text) = split.status("state", &["--output", "openmetrics"]);
    assert!(text.contains("berth_scrape_errors_total{source=\"net\",verb=\"vm\"} 1\n"), "{text}");
    assert!(!of_net.iter().any(|line| text.contains(line)) && text.contains(of_vm[1]), "{text}");
    split.world.pod.nft("delete table inet berth");
    split.start_net();
    split.net_is_ready();
    split.vm_is_ready(true);
    answers(&split);
    assert!(split.world.guest("udhcpc -n -q -t 3 -i eth0 2>&1").contains("192.168.254.2"));

    // It is told to end: everything stays as it is.
    let before = split.world.pod.nft("-s list table inet berth");
    assert_eq!(split.end_net("TERM"), Some(0));
    assert_eq!(split.world.pod.nft("-s list table inet berth"), before);
    answers(&split);
    split.start_net();
    split.net_is_ready();

    // The guest ends, and is started again on the same tap.
    assert_eq!(split.world.stop(), Some(0), "{}", split.world.log());
    assert_eq!(split.status("state", &[]).0, Some(1));
    split.world.start_binary(&NOBODY, &binary, "vm").ready();
    answers(&split);
    assert_eq!(split.world.stop(), Some(0), "{}", split.world.log());
    assert_eq!(split.end_net("TERM"), Some(0));
}

#[test]
fn another_address_of_the_pod_reaches_a_guest_of_the_other_half() {
    let mut split = Split::new();
    split.world.dual_stack();
    split.start_net();
    let binary = split.world.path("berth").display().to_string();
    split.world.start_binary(&NOBODY, &binary, "vm").ready();
    let has = |split: &Split, address: &str| {
        split.world.until("an answer", SOON, |world| {
            World::tcp(&world.peer, address, 8080, b"").ok().map(drop)
        });
    };
    has(&split, POD6);
    // By the machine half's QMP: its link goes down and up, so that it asks again.
    split.world.readdress("2001:db8:7::22");
    split.world.address = POD;
    split.world.until("its link went down", SOON, |world| {
        world.log().contains("its link goes down for a moment").then_some(())
    });
    let link = split.world.guest("cat /sys/class/net/eth0/carrier_changes");
    // KAME's client does not look at its link; who does asks by himself (full.rs).
    split
        .world
        .guest("killall dhcp6c; sleep 1; dhcp6c -f -c /etc/dhcp6c.conf eth0 >/dev/null 2>&1 &");
    assert!(link.trim().parse::<u32>().unwrap() >= 3, "the guest saw it: {link}");
    has(&split, "2001:db8:7::22");
    assert_eq!(split.world.stop(), Some(0), "{}", split.world.log());
    assert_eq!(split.end_net("TERM"), Some(0));
}

#[test]
fn a_machine_that_comes_first_waits_for_its_tap() {
    let mut split = Split::new();
    let binary = split.world.path("berth").display().to_string();
    split.world.start_binary(&NOBODY, &binary, "vm");
    split.world.until("an answer", SOON, |_| {
        (split.status("state", &["--alive"]).0 == Some(0)).then_some(())
    });
    let (code, text) = split.status("state", &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("not ready") && text.contains("starting"), "{text}");
    split.start_net();
    split.world.ready();
    split.vm_is_ready(true);
    assert_eq!(split.world.stop(), Some(0));
}

/// What `docker restart` of the network half's container leaves behind: the namespace with bridge, tap and guest, without
/// the uplink and without anybody who serves.
#[test]
fn a_namespace_that_was_left_behind_is_told_not_ready_and_ended_by_choice() {
    let mut split = Split::new();
    split.start_net();
    split.net_is_ready();
    split.world.set("BERTH_ON_NET_LOST", "exit");
    let binary = split.world.path("berth").display().to_string();
    split.world.start_binary(&NOBODY, &binary, "vm").ready();
    split.vm_is_ready(true);

    split.end_net("KILL");
    split.world.pod.run("ip link del eth0");
    split.vm_is_ready(false);
    assert_eq!(
        split.status("state", &["--alive"]).0,
        Some(0),
        "a probe of liveness is another question"
    );
    let ended = split.world.wait(Duration::from_secs(90));
    let log = split.world.log();
    assert_eq!(ended.code(), Some(21), "{log}");
    assert!(
        log.contains("no uplink and no `berth net`") && log.contains("power button pressed"),
        "{log}"
    );
    assert!(!log.contains("quitting QEMU"), "{log}");
    assert!(log.lines().last().unwrap().contains("code=21"), "{log}");
}

#[test]
fn a_tap_of_another_shape_or_owner_is_told() {
    let mut split = Split::new();
    split.start_net();
    split.net_is_ready();
    let ends = |split: &Split, name: &str, value: &str, words: &str| {
        let mut command = split.berth(&NOBODY, "vm");
        let output = command.env(name, value).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(19) && said.contains(words), "{said}");
    };
    ends(&split, "IMG_VCPU", "1", "IMG_VCPU has to be the same");
    split.end_net("TERM");
    split.world.set("BERTH_QEMU_UID", "1234");
    split.start_net();
    split.net_is_ready();
    ends(&split, "BERTH_LOG", "info", "BERTH_QEMU_UID");
    split.end_net("TERM");
}

/// Counts who asks for the image, and has none.
fn image_server(world: &World) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = world.peer.within(|| TcpListener::bind((PEER, 80)).unwrap());
    let counter = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream
                .write_all(b"HTTP/1.1 404 None\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    asked
}

/// Gigabytes are not fetched for a guest that cannot be.
#[test]
fn what_this_container_may_not_do_is_told_before_the_image_is_asked_for() {
    const NO_TUN: [&str; 5] = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /dev/net && exec setpriv --bounding-set=-mknod --inh-caps=-mknod \"$0\" \"$@\"",
    ];
    const NO_ADMIN: [&str; 3] = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    const NO_BIND: [&str; 3] =
        ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
    let mut split = Split::new();
    let asked = image_server(&split.world);
    split
        .world
        .set("IMG_TARGET", "new.qcow2")
        .set("IMG_SOURCE", &format!("http://{PEER}/new.qcow2"));
    split.world.pod.run("sysctl -qw net.ipv4.ip_unprivileged_port_start=1024");
    let ends =
        |split: &Split, wrapper: &[&str], verb: &str, env: (&str, &str), code: i32, words: &str| {
            let output = split.berth(wrapper, verb).env(env.0, env.1).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(
                output.status.code() == Some(code) && said.contains(words),
                "{code} {words}: {said}"
            );
        };
    let none = ("BERTH_LOG", "info");
    ends(&split, &NO_ADMIN, "run", none, 4, "needs CAP_NET_ADMIN");
    ends(&split, &NO_TUN, "run", none, 4, "give the container the device");
    ends(&split, &NO_BIND, "run", none, 18, "needs CAP_NET_BIND_SERVICE");
    ends(&split, &[], "run", ("BERTH_TAP", "lo"), 4, "is no tap");
    let taken = split.world.pod.within(|| TcpListener::bind("0.0.0.0:53").unwrap());
    ends(&split, &[], "run", none, 18, "DNS, port 53");
    drop(taken);
    split.world.pod.ip("rule add not from 192.168.254.0/24 lookup 100 priority 500");
    split.world.pod.ip("route add default via 169.254.1.1 dev eth0 table 100 onlink");
    split.world.pod.ip("route del default");
    ends(&split, &[], "run", ("BERTH_UPLINK", "eth0"), 12, "add an ip rule");
    split.world.pod.ip("route add default via 169.254.1.1 dev eth0");
    // The lock is root's, and the other half is nobody.
    std::fs::remove_file(split.world.path("image/.demo.lock")).unwrap();
    split.start_net();
    split.net_is_ready();
    ends(&split, &NOBODY, "vm", ("IMG_VCPU", "1"), 19, "IMG_VCPU has to be the same");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert!(!split.world.path("image/new.qcow2").exists());

    // Else it is asked for: by one half, and by both in one once the pod is alone.
    ends(&split, &NOBODY, "vm", none, 13, "404");
    split.end_net("TERM");
    split.world.pod.nft("delete table inet berth");
    ends(&split, &[], "run", none, 13, "404");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // The address is the pod's still.
    assert!(!split.world.pod.nft("list tables").contains("table inet berth\n"));
}

#[test]
fn the_synthetic_guest_walks_the_whole_path_or_says_where_it_ends() {
    let split = Split::new();
    let walk = || {
        let output = split.berth(&SIDECAR, "selftest").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    // Nobody resolves at the peer's address.
    let (code, said) = walk();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("ok      DHCP: 192.168.254.2/30")
            && said.contains("FAILED  out through the NAT"),
        "{said}"
    );
    let mut dnsmasq = split.world.peer.command("dnsmasq");
    dnsmasq.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"]);
    let mut server =
        dnsmasq.args(["--pid-file", "--bind-interfaces", "--interface=eth0"]).spawn().unwrap();
    let (code, said) = split.world.until("a whole path", SOON, |_| {
        let (code, said) = walk();
        (code == Some(0)).then_some((code, said))
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!((code, said.matches("ok ").count()), (Some(0), 4), "{said}");
    // Somebody else's rule is in the way.
    split.world.pod.run("iptables -A FORWARD -p tcp --dport 7 -j DROP");
    split.world.pod.run("iptables -A OUTPUT -p tcp --dport 7 -j DROP");
    let (code, said) = walk();
    assert!(code == Some(1) && said.contains("FAILED  in through the NAT"), "{said}");
}
