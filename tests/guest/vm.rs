//! Real guests: what a user is promised, seen from another pod, from the pod itself and from the guest.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::world::{BOOT, PEER, POD, World};
use crate::support::{self, Netns};

fn booted() -> World {
    let mut world = World::new();
    world.start().ready();
    world
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Reads at least `length` octets that a server says first.
fn banner(netns: &Netns, port: u16, length: usize) -> String {
    netns.within(move || {
        let mut stream = TcpStream::connect((POD, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut got = vec![0; length];
        stream.read_exact(&mut got).unwrap();
        String::from_utf8_lossy(&got).into_owned()
    })
}

#[test]
fn the_guest_is_the_pod_on_the_network() {
    let mut world = booted();

    // TCP, and who the guest sees.
    let hello = text(World::tcp(&world.peer, POD, 8080, b"").unwrap());
    assert!(hello.starts_with("hello from demo at 192.168.254.2"), "{hello}");
    assert!(hello.contains(&format!("you are {PEER}:")), "{hello}");
    // UDP and ICMP are answered by the guest: its counters move.
    assert_eq!(World::udp(&world.peer, POD, 7, b"over udp").as_deref(), Some(&b"over udp"[..]));
    let echoes = |world: &World| -> u64 {
        let snmp = world.guest("grep ^Icmp: /proc/net/snmp | tail -1");
        let names = world.guest("grep ^Icmp: /proc/net/snmp | head -1");
        let at = names.split_whitespace().position(|name| name == "InEchos").unwrap();
        snmp.split_whitespace().nth(at).unwrap().parse().unwrap()
    };
    let before = echoes(&world);
    world.peer.run(&format!("ping -c 3 -i 0.2 -W 2 {POD}"));
    assert_eq!(echoes(&world), before + 3);

    // VNC stays with QEMU.
    assert_eq!(banner(&world.peer, 5900, 4), "RFB ");

    // The pod itself reaches its guest at its own address, as a client in the same pod does.
    let local = text(World::tcp(&world.pod, POD, 8080, b"").unwrap());
    assert!(local.starts_with("hello from demo"), "{local}");
    assert_eq!(World::udp(&world.pod, POD, 7, b"pod-local").as_deref(), Some(&b"pod-local"[..]));

    // Out, it is seen as the pod.
    let listener = world.peer.within(|| TcpListener::bind("0.0.0.0:9000").unwrap());
    let server = std::thread::spawn(move || listener.accept().unwrap().1.ip().to_string());
    world.guest(&format!("echo hi | nc -w 3 {PEER} 9000"));
    assert_eq!(server.join().unwrap(), POD);

    // By an interface that the pod got meanwhile, which forwards for the guest alone.
    let other = Netns::new("other");
    support::veth(&other, "eth0", &world.pod, "net1");
    other.ip("addr add 10.99.0.1/24 dev eth0");
    world.pod.ip("addr add 10.99.0.2/24 dev net1");
    world.until("forwarding on net1", Duration::from_secs(10), |world| {
        let on = world.pod.run("cat /proc/sys/net/ipv4/conf/net1/forwarding");
        (on.trim() == "1").then_some(())
    });
    let pinged = world.guest("ping -c 2 -W 5 10.99.0.1");
    assert!(pinged.contains("bytes from 10.99.0.1"), "{pinged}");

    // 1 MiB both ways through a path of 1450 octets.
    let megabyte: Vec<u8> =
        (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let back = World::tcp(&world.peer, POD, 7, &megabyte).unwrap();
    assert!(back == megabyte, "{} octets came back", back.len());
    assert!(world.guest("ip link show eth0").contains("mtu 1450"));

    // What DHCP gave.
    let lease = world.guest("cat /run/lease");
    for word in [
        "ip=192.168.254.2",
        "mask=30",
        "router=192.168.254.1",
        "dns=192.168.254.1",
        "hostname=demo",
        "search=demo.example",
        "mtu=1450",
        "staticroutes=0.0.0.0/0 192.168.254.1",
    ] {
        assert!(lease.contains(word), "{word} in\n{lease}");
    }
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

#[test]
fn the_guest_reaches_its_own_pod_address_with_and_without_bridge_netfilter() {
    let world = booted();
    for calls in ["0", "1"] {
        let sysctl = format!("net.bridge.bridge-nf-call-iptables={calls}");
        world.pod.run(&format!("sysctl -qw {sysctl}"));
        let back = world.guest(&format!("echo round | nc -w 3 {POD} 7"));
        assert!(back.contains("round"), "{sysctl}: {back:?}");
        let outside = World::tcp(&world.peer, POD, 7, b"from outside").unwrap();
        assert_eq!(outside, b"from outside", "{sysctl}");
    }
}

#[test]
fn no_vnc_gives_port_5900_to_the_guest() {
    let mut world = World::new();
    world.set("NO_VNC", "1").start().ready();
    assert_eq!(banner(&world.peer, 5900, 10), "guest-5900");
}

#[test]
fn vnc_asks_for_the_password_of_the_file() {
    let mut world = World::new();
    std::fs::write(world.path("vnc"), "secret\n").unwrap();
    let file = world.path("vnc").display().to_string();
    world.set("BERTH_VNC_PASSWORD_FILE", &file).start().ready();
    let offered = world.peer.within(|| {
        let mut stream = TcpStream::connect((POD, 5900)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut version = [0; 12];
        stream.read_exact(&mut version).unwrap();
        std::io::Write::write_all(&mut stream, &version).unwrap();
        let mut count = [0];
        stream.read_exact(&mut count).unwrap();
        let mut types = vec![0; usize::from(count[0])];
        stream.read_exact(&mut types).unwrap();
        types
    });
    // RFC 6143 §7.1.2: 2 is VNC authentication, 1 is none.
    assert_eq!(offered, [2]);
}

/// The pod's resolver, in the peer's namespace.
pub struct Dnsmasq(Child);

impl Dnsmasq {
    pub fn start(netns: &Netns) -> Self {
        let mut command = netns.command("dnsmasq");
        command.args([
            "-k",
            "-C",
            "/dev/null",
            "--no-hosts",
            "--no-resolv",
            "--bind-interfaces",
            "--pid-file=",
        ]);
        command.arg(format!("--listen-address={PEER}"));
        command
            .args(["--host-record=svc.demo.example,10.1.2.3", "--host-record=plain.test,10.4.5.6"]);
        command.args(["--local=/demo.example/", "--local=/test/", "--user=root"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_guest_resolves_names_through_the_pods_resolver() {
    let mut world = World::new();
    let _resolver = Dnsmasq::start(&world.peer);
    world.start().ready();
    for (name, address) in [
        ("plain.test", "10.4.5.6"),
        ("svc", "10.1.2.3"),
        ("svc.demo.example", "10.1.2.3"),
        ("demo", "192.168.254.2"),
    ] {
        let answer = world.guest(&format!("nslookup -type=a {name} 192.168.254.1"));
        assert!(answer.contains(address), "{name}: {answer}");
    }
    // Its own search list, through its own resolver.
    assert!(world.guest("ping -c 1 -w 1 svc").contains("(10.1.2.3)"));
    // Not an open resolver: the pod's address has no port 53 of berth's.
    let refused = world.guest("cat /etc/resolv.conf");
    assert!(
        refused.contains("nameserver 192.168.254.1") && refused.contains("search demo.example"),
        "{refused}"
    );
    let asked = world
        .peer
        .command("dig")
        .args(["+tries=1", "+time=1", &format!("@{POD}"), "plain.test"])
        .output()
        .unwrap();
    assert!(!asked.status.success(), "{}", String::from_utf8_lossy(&asked.stdout));
}

#[test]
fn the_config_drive_brings_user_data_byte_for_byte() {
    let mut world = World::new();
    let userdata = b"#!/bin/sh\n# \xff\xfe not UTF-8 \x00 and a NUL\r\n".to_vec();
    std::fs::write(world.path("userdata"), &userdata).unwrap();
    std::fs::write(world.path("metadata"), "uuid: 42\nlist: [1, 2]\n").unwrap();
    std::fs::write(world.path("expected"), &userdata).unwrap();
    let hash = support::checked(Command::new("sha256sum").arg(world.path("expected")));
    world.start().ready();
    let serial = world.serial();
    assert!(serial.contains(&format!("user_data {}", hash.split(' ').next().unwrap())), "{serial}");
    assert!(world.guest("cat /seed/openstack/latest/meta_data.json").contains("\"uuid\": 42"));
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(
            &std::fs::metadata(world.path("state/seed.iso")).unwrap()
        ) & 0o777,
        0o600
    );
}

#[test]
fn sigterm_powers_the_guest_off_and_leaves_a_clean_journal() {
    let mut world = booted();
    world.guest("echo kept > /data/kept; sync");
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(world.serial().contains("down poweroff"), "{}", world.serial());
    assert!(!world.log().contains("quitting QEMU"), "{}", world.log());
    assert_eq!(world.data_partition(), (true, "1".to_owned()));
    // The disk is adopted, not made anew.
    world.start().ready();
    assert!(world.guest("cat /data/kept /data/boots").contains("kept\n2"));
}

#[test]
fn a_guest_that_ignores_the_power_button_is_quit_before_the_grace_period_ends() {
    let mut world = World::new();
    std::fs::write(world.path("userdata"), "#ignore-acpi\n").unwrap();
    world.set("BERTH_GRACE_S", "6").set("BERTH_GRACE_MARGIN_S", "2").start().ready();
    let asked = Instant::now();
    let code = world.stop();
    let took = asked.elapsed().as_secs_f64();
    assert!((3.9..6.0).contains(&took), "{took} s\n{}", world.log());
    assert_eq!(code, Some(0), "{}", world.log());
}

#[test]
fn what_happens_on_poweroff_and_reboot_is_the_users_choice() {
    let mut world = World::new();
    world.set("BERTH_ON_REBOOT", "reset").set("BERTH_ON_POWEROFF", "restart").start().ready();
    let boots = |world: &World, number: usize| {
        world.until("another boot", BOOT, |world| {
            world.serial().contains(&format!("boots {number}")).then_some(())
        });
        world.until("ready again", BOOT, |world| {
            (world.serial().matches(" ready").count() >= number).then_some(())
        });
    };
    world.tell_guest("down reboot");
    boots(&world, 2);
    assert_eq!(world.log().matches("the guest rebooted").count(), 1, "{}", world.log());
    world.tell_guest("down poweroff");
    boots(&world, 3);
    assert_eq!(world.stop(), Some(0));

    world.set("BERTH_ON_REBOOT", "exit").set("BERTH_ON_POWEROFF", "exit").start().ready();
    world.tell_guest("down reboot");
    assert_eq!(world.wait(Duration::from_secs(30)).code(), Some(0));
    world.start().ready();
    world.tell_guest("down poweroff");
    assert_eq!(world.wait(Duration::from_secs(30)).code(), Some(0));
}

/// No ip, nft, iptables, brctl, dnsmasq, mkisofs, curl, qemu-img or shell.
#[test]
fn nothing_is_executed_but_qemu() {
    let mut world = World::new();
    let trace = world.path("trace").display().to_string();
    world.start_under(&["strace", "-f", "-e", "trace=execve", "-o", &trace]).ready();
    world.tell_guest("down poweroff");
    assert_eq!(world.wait(Duration::from_secs(40)).code(), Some(0));
    let trace = std::fs::read_to_string(trace).unwrap();
    let executed: Vec<&str> =
        trace.lines().filter(|line| line.contains("execve(") && !line.contains(" = -1")).collect();
    assert_eq!(executed.len(), 2, "{executed:#?}");
    assert!(executed[0].contains("/berth\""), "{}", executed[0]);
    assert!(executed[1].contains("/qemu-system-x86_64\""), "{}", executed[1]);
}

#[test]
fn launcher_words_stand_before_qemu() {
    let mut world = World::new();
    world.set("LAUNCHER", "/usr/bin/nice -n 3").start().ready();
    let qemu = support::checked(
        world
            .pod
            .command("sh")
            .args(["-c", "ps -o ni=,comm= $(ip netns pids $(ip netns identify $$)) | grep qemu"]),
    );
    // nice(1) adds to what these tests run with.
    let ours: i32 = support::checked(&mut Command::new("nice")).trim().parse().unwrap();
    let words: Vec<_> = qemu.split_whitespace().collect();
    assert_eq!(words[0], (ours + 3).to_string(), "{qemu}");
    assert_eq!(world.stop(), Some(0));
}

/// What an unprivileged pod can be given.
#[test]
fn five_capabilities_are_enough() {
    let mut world = World::new();
    let bounds = "-all,+net_admin,+net_bind_service,+setuid,+setgid,+kill";
    world
        .start_under(&["setpriv", "--bounding-set", bounds, "--inh-caps", "-all", "--no-new-privs"])
        .ready();
    let status = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ours = status(&world.pid().to_string());
    // kill 5, setgid 6, setuid 7, net_bind_service 10, net_admin 12
    assert!(ours.contains("CapEff:\t00000000000014e0"), "{ours}");
    let qemu = support::checked(Command::new("pgrep").args(["-P", &world.pid().to_string()]));
    let qemu = status(qemu.trim());
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "CapEff:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
    ] {
        assert!(qemu.contains(line), "{line} in\n{qemu}");
    }
    assert!(text(World::tcp(&world.peer, POD, 8080, b"").unwrap()).starts_with("hello from demo"));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// Seeded: a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn killed_anywhere_the_next_start_converges() {
    let mut world = booted();
    let whole = world.state();
    let mut random = Random(20_261_123);
    world.kill();
    for round in 0..24u64 {
        // Two thirds while it starts, where each millisecond does something else; the rest while it runs.
        let millis = if round % 3 < 2 { random.below(60) } else { random.below(3000) };
        world.start();
        std::thread::sleep(Duration::from_millis(millis));
        world.kill();
        if round % 6 == 5 {
            world.start().ready();
            assert_eq!(world.state(), whole, "round {round}, killed after {millis} ms");
            world.kill();
        }
    }
    world.start().ready();
    assert_eq!(world.state(), whole);
    assert!(text(World::tcp(&world.peer, POD, 8080, b"").unwrap()).starts_with("hello from demo"));
    let told: u32 = world.guest("cat /data/boots").trim().parse().unwrap();
    assert!(told >= 6, "{told} boots");
    assert_eq!(world.stop(), Some(0));
    assert_eq!(world.data_partition(), (true, told.to_string()));
    support::checked(Command::new("qemu-img").arg("check").arg(world.path("image/demo.qcow2")));
    let left: Vec<_> = std::fs::read_dir(world.path("image"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "the disk and its lock: {left:?}");
}

/// The threads of a launcher end one by one, and not each may signal QEMU: from before the fork to after exec.
#[test]
fn a_launcher_killed_while_it_starts_qemu_leaves_no_qemu() {
    let mut world = World::new();
    for round in 0..12u32 {
        world.start();
        let end = Instant::now() + BOOT;
        // The last step before QEMU; short looks, since the moment matters.
        while !world.log().contains("config drive ready") {
            assert!(Instant::now() < end, "{}", world.log());
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(300) * round);
        world.kill();
        let left = || support::checked(Command::new("ip").args(["netns", "pids", &world.pod.name]));
        support::until("nobody is in the pod", || left().is_empty());
    }
    world.start().ready();
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

#[test]
fn two_launchers_never_share_a_disk() {
    let mut world = booted();
    let second = world.command(&[]).arg("run").output().unwrap();
    assert_eq!(second.status.code(), Some(15));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("held by demo (pid "), "{said}");
    assert_eq!(world.stop(), Some(0));
}

#[test]
fn plan_touches_nothing_and_tells_everything() {
    let world = World::new();
    let before = world.state();
    let files = || {
        support::checked(
            Command::new("find").arg(world.dir.path()).args(["-printf", "%p %s %T@\n"]),
        )
    };
    let listing = files();
    let output = world.command(&[]).args(["plan", "--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["guest"]["address"], "192.168.254.2/30");
    assert_eq!(plan["link"]["bridge"]["mtu"], 1450);
    assert_eq!(world.state(), before);
    assert_eq!(files(), listing);
    let text = support::checked(world.command(&[]).arg("plan"));
    assert!(text.contains("table inet berth") && text.contains("qemu-system-x86_64"), "{text}");
}

#[test]
fn mistakes_have_their_own_exit_codes() {
    let mut world = World::new();
    let mut code = |change: &dyn Fn(&mut World)| {
        let kept = world.env.clone();
        change(&mut world);
        let output = world.command(&[]).arg("run").output().unwrap();
        world.env = kept;
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let cases: [(i32, &str, &str, &str); 7] = [
        (10, "IMG_VCPU", "none", "IMG_VCPU=\"none\""),
        (2, "BERTH_IMAGE_DIR", "/nowhere", "/nowhere is not a directory"),
        (11, "BERTH_UPLINK", "eth7", "no interface eth7"),
        (11, "BERTH_QEMU", "no-such-qemu", "BERTH_QEMU"),
        (12, "VM_IP", "10.244.7.2", "VM_GW"),
        (12, "IMG_TARGET", "absent.qcow2", "IMG_SOURCE"),
        (16, "BERTH_METADATA", "/etc/hostname", "meta-data"),
    ];
    for (wanted, variable, value, said) in cases {
        let (code, log) = code(&|world| {
            world.set(variable, value);
            if variable == "VM_IP" {
                world.set("VM_GW", "10.244.7.1");
            }
        });
        assert_eq!(code, wanted, "{variable}={value}: {log}");
        assert!(log.contains(said), "{variable}={value}: {log}");
    }
}

#[test]
fn several_processors_get_several_queues() {
    let mut world = World::new();
    world.set("IMG_VCPU", "2").start().ready();
    assert!(world.pod.ip("-d link show tap0").contains("multi_queue"));
    assert_eq!(world.guest("ls -d /sys/class/net/eth0/queues/rx-* | wc -l").trim(), "2");
    let megabyte = vec![7; 1 << 20];
    assert!(World::tcp(&world.peer, POD, 7, &megabyte).unwrap() == megabyte);
    assert_eq!(world.stop(), Some(0));
}
