//! A distribution's guest as the pod: Debian with systemd and the real cloud-init, configured by the config drive.
//!
//! What it is asked, it is asked over SSH from another pod, with a key that came to it as user-data.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::world::{PEER, PEER6, POD, POD6, World};
use crate::support::{Netns, checked};

/// The slowest start measured on a busy machine took 85 s.
const BOOT: Duration = Duration::from_secs(300);

/// Sends back what comes to port 7, by UDP and TCP.
const ECHO: &str = "\
import socket, threading
def udp():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(('::', 7))
    while True:
        s.sendto(*s.recvfrom(65535))
def tcp(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
threading.Thread(target=udp).start()
s = socket.create_server(('', 7), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=tcp, args=(s.accept()[0],)).start()
";

/// A world with the full guest, started, with a key of ours and an echo service as its user-data, and an extra disk. The
/// world is wired as asked.
fn started(wire: fn(&mut World) -> &mut World, settings: &[(&str, &str)], metadata: &str) -> World {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guest/full.sh");
    let image = checked(Command::new("bash").arg(script));
    let mut world = World::new();
    let key = world.path("key");
    checked(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let public = std::fs::read_to_string(world.path("key.pub")).unwrap();
    let indented = ECHO.replace('\n', "\n      ");
    let userdata = format!(
        "#cloud-config\n\
         disable_root: false\n\
         users:\n  - name: root\n    ssh_authorized_keys: [\"{}\"]\n\
         write_files:\n  - path: /opt/echo.py\n    content: |\n      {indented}\n\
         runcmd:\n  - [systemd-run, --unit=echo, python3, /opt/echo.py]\n  - [touch, /root/user-data-ran]\n",
        public.trim()
    );
    std::fs::write(world.path("userdata"), userdata).unwrap();
    std::fs::write(world.path("metadata"), metadata).unwrap();
    std::fs::create_dir(world.path("volumes")).unwrap();
    std::fs::write(world.path("volumes/data.img"), vec![0; 1 << 20]).unwrap();
    world.set("IMG_TARGET", image.trim()).set("IMG_RAM_MB", "1024").set("IMG_VCPU", "2");
    for (name, value) in settings {
        world.set(name, value);
    }
    wire(&mut world).start();
    world.until("cloud-init finished and SSH", BOOT, |world| {
        assert!(world.log().lines().all(|line| !line.contains("ERROR")), "{}", world.log());
        let (code, _) = ssh(world, &world.peer, "cloud-init status --wait");
        // 255 is ssh's own: not up yet, or the key is not there yet.
        (code != 255).then_some(())
    });
    world
}

/// A command in the guest, by SSH from a namespace: exit code and output.
fn ssh(world: &World, from: &Netns, line: &str) -> (i32, String) {
    let mut command = from.command("timeout");
    command.args(["200", "ssh", "-i"]).arg(world.path("key"));
    for option in [
        "BatchMode=yes",
        "ConnectTimeout=5",
        "ServerAliveInterval=10",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ] {
        command.args(["-o", option]);
    }
    let output = command.arg(format!("root@{}", world.address)).arg(line).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

/// Nothing in the guest is set for IPv6: systemd-networkd hears the router, and asks for an address since it says so.
fn has_ipv6(world: &World) {
    let address = told(world, "ip -6 -o addr show dev eth0 scope global");
    assert!(address.contains(&format!("inet6 {POD6}/128")), "{address}");
    let route = told(world, "ip -6 route show default");
    assert!(route.contains("default via fe80::1 dev eth0 proto ra"), "{route}");
    // Seconds since the guest's start.
    let when = |words: &str| -> f64 {
        let line =
            format!("journalctl -u systemd-networkd -o short-monotonic -g '{words}' | tail -n 1");
        let said = told(world, &line);
        said.trim_start_matches(['[', ' ']).split(']').next().unwrap().parse().expect(&said)
    };
    let (up, there) = (when("eth0: Gained carrier"), when(&format!("eth0: DHCPv6 address {POD6}")));
    assert!(there - up < 10.0, "{} s from the link to the address", there - up);
    let megabyte: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(40_503) >> 16) as u8).collect();
    assert!(World::tcp(&world.peer, POD6, 7, &megabyte).unwrap() == megabyte);
    let long = vec![b'6'; 3000];
    assert_eq!(World::udp(&world.peer, POD6, 7, &long), Some(long), "in fragments");
    world.peer.run(&format!("ping -6 -c 1 -W 5 {POD6}"));
    let listener = world.peer.within(|| TcpListener::bind((PEER6, 9000)).unwrap());
    let heard = std::thread::spawn(move || listener.accept().unwrap().1.ip().to_string());
    told(world, &format!("bash -c 'echo hi >/dev/tcp/{PEER6}/9000'"));
    assert_eq!(heard.join().unwrap(), POD6, "out it is the pod");
    for calls in ["0", "1"] {
        world.pod.run(&format!("sysctl -qw net.bridge.bridge-nf-call-ip6tables={calls}"));
        let local = World::tcp(&world.pod, POD6, 7, b"pod-local").unwrap();
        assert_eq!(local, b"pod-local", "bridge-nf-call-ip6tables={calls}");
        let hairpin = told(world, &format!("bash -c 'exec 3<>/dev/tcp/{POD6}/22; head -c 4 <&3'"));
        assert_eq!(hairpin, "SSH-", "bridge-nf-call-ip6tables={calls}");
        told(world, "ping -6 -c 1 -W 5 fd00:6be::1");
        told(world, "networkctl renew eth0");
    }
}

/// What a command in the guest prints; it must succeed.
fn told(world: &World, line: &str) -> String {
    let (code, said) = ssh(world, &world.peer, line);
    assert_eq!(code, 0, "{line}: {said}\n--- log\n{}", world.log());
    said
}

fn cloud_init_has_run(world: &World, source: &str) {
    let status = told(world, "cloud-init status --long");
    assert!(status.contains("status: done"), "{status}");
    let result = told(world, "cat /run/cloud-init/result.json");
    assert!(result.contains(source) && result.contains("\"errors\": []"), "{result}");
    told(world, "test -e /root/user-data-ran");
    // Who it is, as the meta-data says in the other format's words.
    assert_eq!(told(world, "cloud-init query v1.instance_id").trim(), "i-first");
    assert_eq!(told(world, "hostname").trim(), "given");
    for serial in ["root", "data", "seed"] {
        told(world, &format!("test -b /dev/disk/by-id/virtio-{serial}"));
    }
}

fn ends_clean(mut world: World) {
    assert_eq!(world.stop(), Some(0), "{}\n{}", world.log(), world.serial());
    assert!(world.partition(0).0, "the journal has to be replayed\n{}", world.serial());
}

#[test]
fn a_distribution_configured_by_a_config_drive_is_the_pod() {
    let world = started(World::dual_stack, &[], "instance-id: i-first\nlocal-hostname: given\n");
    cloud_init_has_run(&world, "DataSourceConfigDrive");

    // systemd-networkd took what DHCP gave. (Search domains it takes only with UseDomains=, systemd.network(5).)
    let network =
        told(&world, "networkctl --no-pager status eth0; resolvectl --no-pager status eth0");
    for word in [
        "192.168.254.2 (DHCP4 via 192.168.254.1)",
        "Gateway: 192.168.254.1",
        "DNS Servers: 192.168.254.1",
    ] {
        assert!(network.contains(word), "{word} in\n{network}");
    }
    assert_eq!(told(&world, "cat /sys/class/net/eth0/mtu").trim(), "1450");
    has_ipv6(&world);

    // From another pod: TCP with its source kept, UDP, ICMP, and VNC that stays with QEMU.
    let connection = told(&world, "echo $SSH_CONNECTION");
    assert!(
        connection.starts_with(&format!("{PEER} ")) && connection.contains(" 192.168.254.2 22")
    );
    assert_eq!(World::udp(&world.peer, POD, 7, b"over udp").as_deref(), Some(&b"over udp"[..]));
    let echoes = || -> u64 {
        // The field InEchos, by its name in the line above the values.
        let field = "awk '/^Icmp:/ && !n { for (i = 1; i <= NF; i++) if ($i == \"InEchos\") n = i; next } \
                     /^Icmp:/ { print $n }' /proc/net/snmp";
        told(&world, field).trim().parse().unwrap()
    };
    let before = echoes();
    world.peer.run(&format!("ping -c 3 -i 0.2 -W 2 {POD}"));
    assert_eq!(echoes(), before + 3);
    let vnc = world
        .peer
        .command("sh")
        .args(["-c", &format!("nc -d -w 3 {POD} 5900 | head -c 4")])
        .output();
    assert_eq!(vnc.unwrap().stdout, b"RFB ");

    // 1 MiB both ways through a path of 1450 octets, in pieces that no header divides.
    let megabyte: Vec<u8> =
        (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(World::tcp(&world.peer, POD, 7, &megabyte).unwrap() == megabyte);

    // Out it is seen as the pod.
    std::thread::scope(|scope| {
        let (ready, listening) = std::sync::mpsc::channel();
        let peer = &world.peer;
        let heard = scope.spawn(move || {
            peer.within(move || {
                let listener = TcpListener::bind((PEER, 9000)).unwrap();
                ready.send(()).unwrap();
                listener.accept().unwrap().1.ip().to_string()
            })
        });
        listening.recv().unwrap();
        told(&world, &format!("bash -c 'echo hi >/dev/tcp/{PEER}/9000'"));
        assert_eq!(heard.join().unwrap(), POD);
    });

    // From the pod itself, and from the guest to its own pod address.
    for calls in ["0", "1"] {
        world.pod.run(&format!("sysctl -qw net.bridge.bridge-nf-call-iptables={calls}"));
        let local = World::tcp(&world.pod, POD, 7, b"pod-local").unwrap();
        assert_eq!(local, b"pod-local", "bridge-nf-call-iptables={calls}");
        let hairpin = told(&world, &format!("bash -c 'exec 3<>/dev/tcp/{POD}/22; head -c 4 <&3'"));
        assert_eq!(hairpin, "SSH-", "bridge-nf-call-iptables={calls}");
    }
    ends_clean(world);
}

#[test]
fn a_distribution_takes_a_nocloud_drive_in_a_pod_of_ipv6_alone() {
    let mut world = started(
        World::ipv6_only,
        &[("BERTH_SEED_FORMAT", "nocloud")],
        "{\"uuid\": \"i-first\", \"hostname\": \"given\"}",
    );
    cloud_init_has_run(&world, "DataSourceNoCloud");
    has_ipv6(&world);
    let dns = told(&world, "resolvectl --no-pager dns eth0");
    assert!(dns.contains("fd00:6be::1"), "{dns}");
    assert_eq!(told(&world, "ip -4 route show default"), "", "what leads nowhere");

    // Another address of the pod is the guest's at once, and the old one is not.
    world.readdress("2001:db8:7::22");
    world.until("the other address", Duration::from_secs(10), |world| {
        World::tcp(&world.peer, world.address, 7, b"there").ok()
    });
    let addresses = told(&world, "ip -6 -o addr show dev eth0 scope global");
    assert!(addresses.contains(world.address), "{addresses}");
    assert!(!addresses.contains(&format!("{POD6}/")), "{addresses}");
    ends_clean(world);
}
