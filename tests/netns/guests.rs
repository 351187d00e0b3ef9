//! The clients that guests have, as they come, behind the real tap of a real `berth net`: the pod's addresses are theirs.
//!
//! ```text
//! peer ── eth0 pod: berth net, br0, tap0 ── this program ── eth0 guest: the client
//! ```
//!
//! NetworkManager takes the guest's end, a tap, for what a VPN has made; it is among the clients of `serve`.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use berth::sys::link::open_tap;
use rustix::event::{PollFd, PollFlags, poll};

use crate::support::{Netns, find, veth};

const MAC: &str = "52:54:00:01:02:03";
const POD: &str = "10.1.1.2";
const PEER: &str = "10.1.1.1";
const POD6: &str = "2001:db8:1::2";
const PEER6: &str = "2001:db8:1::1";
const SOON: Duration = Duration::from_secs(30);

/// A child that is ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct World {
    peer: Netns,
    pod: Netns,
    guest: Netns,
    dir: tempfile::TempDir,
    _berth: Ended,
    stop: Arc<AtomicBool>,
    shuttle: Option<JoinHandle<()>>,
    client: Option<Ended>,
}

impl World {
    fn new(settings: &[(&str, &str)]) -> Self {
        let [peer, pod, guest] = ["peer", "pod", "guest"].map(Netns::new);
        veth(&peer, "eth0", &pod, "eth0");
        for (netns, v4, v6) in [(&peer, PEER, PEER6), (&pod, POD, POD6)] {
            netns.ip(&format!("addr add {v4}/24 dev eth0"));
            netns.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        }
        pod.ip(&format!("route add default via {PEER}"));
        pod.ip(&format!("-6 route add default via {PEER6}"));
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("resolv.conf"), "search demo.example\nnameserver 10.1.1.1\n").unwrap();
        let mut berth = pod.command(env!("CARGO_BIN_EXE_berth"));
        berth.arg("net").env("HOSTNAME", "demo").env("BERTH_MAC", MAC);
        berth.env("BERTH_STATE_DIR", dir.path()).env("BERTH_RESOLV_CONF", path("resolv.conf"));
        berth.envs(settings.iter().copied());
        let log = fs::File::create(path("log")).unwrap();
        let berth = Ended(berth.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        let log = || fs::read_to_string(path("log")).unwrap();
        find("the pod's address is mapped", SOON, log, || {
            log().contains("pod address mapped").then_some(())
        });
        guest.ip("tuntap add dev eth0 mode tap vnet_hdr");
        guest.ip(&format!("link set eth0 address {MAC} up"));
        let stop = Arc::new(AtomicBool::new(false));
        let taps = [(&pod, "tap0"), (&guest, "eth0")].map(|(netns, name)| {
            let fd = netns.within(move || open_tap(&name.parse().unwrap(), 1).unwrap().remove(0));
            fs::File::from(fd)
        });
        let shuttle = Some(shuttle(taps, stop.clone()));
        Self { peer, pod, guest, dir, _berth: berth, stop, shuttle, client: None }
    }

    /// Runs a script in the guest, with a /run of its own and a /sys that says there is no udev.
    fn runs(&mut self, script: &str) {
        let path = |name: &str| self.dir.path().join(name);
        let prelude = format!(
            "set -e\nmount -t tmpfs none /run\nmount -o remount,ro /sys\ntouch {0}\nmount --bind {0} /etc/resolv.conf\n",
            path("told").display()
        );
        fs::write(path("script"), prelude + script).unwrap();
        let log = fs::File::create(path("client")).unwrap();
        let mut command = self.guest.command("unshare");
        command.args(["--mount", "sh"]).arg(path("script"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.client = Some(Ended(command.spawn().unwrap()));
    }

    fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        let listed = self.guest.ip("addr") + &self.guest.ip("route") + &self.guest.ip("-6 route");
        format!("{listed}--- client\n{}--- berth\n{}", read("client"), read("log"))
    }

    /// It has the pod's address, and a way to the world by its router.
    fn has(&self, (address, router, peer): (&str, &str, &str)) {
        let version = if address.contains(':') { "-6" } else { "-4" };
        find(
            &format!("{address} by {router}"),
            SOON,
            || self.said(),
            || {
                let addresses =
                    self.guest.ip(&format!("{version} -o addr show dev eth0 -tentative"));
                let routes = self.guest.ip(&format!("{version} route show default"));
                let is_there = addresses.contains(&format!(
                    "inet{} {address}/",
                    if version == "-6" { "6" } else { "" }
                )) && routes.contains(&format!("via {router}"));
                is_there.then_some(())
            },
        );
        for (from, to) in [(&self.guest, peer), (&self.peer, address), (&self.pod, address)] {
            let mut ping = from.command("ping");
            let pinged = ping.args(["-q", "-c", "3", "-i", "0.2", "-W", "3", to]).output().unwrap();
            assert!(pinged.status.success(), "{} to {to}: {}", from.name, self.said());
        }
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        assert!(!log.contains("ERROR"), "{log}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.client.take());
        let pids = Command::new("ip").args(["netns", "pids", &self.guest.name]).output().unwrap();
        for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
        }
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.shuttle.take().map(JoinHandle::join);
    }
}

/// What comes by one tap goes to the other, header and all, as QEMU and its guest's driver do.
fn shuttle(taps: [fs::File; 2], stop: Arc<AtomicBool>) -> JoinHandle<()> {
    use std::io::{Read, Write};
    std::thread::spawn(move || {
        for tap in &taps {
            rustix::io::ioctl_fionbio(tap, true).unwrap();
        }
        let [a, b] = &taps;
        let mut frame = vec![0; 70_000];
        while !stop.load(Ordering::Relaxed) {
            let mut waiting = [a, b].map(|tap| PollFd::new(tap, PollFlags::IN));
            let tick = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            poll(&mut waiting, Some(&tick)).unwrap();
            for (mut from, mut to) in [(a, b), (b, a)] {
                while let Ok(length) = from.read(&mut frame) {
                    let _ = to.write(&frame[..length]);
                }
            }
        }
    })
}

const OWN4: (&str, &str, &str) = (POD, "192.168.254.1", PEER);
const OWN6: (&str, &str, &str) = (POD6, "fe80::1", PEER6);
const SETTINGS: [(&str, &str); 1] = [("BERTH_IPV4", "own")];

const NETWORKD: &str = "\
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network /run/systemd/netif
printf '%s\\n' [Match] Name=eth0 [Network] DHCP=ipv4 >/run/systemd/network/eth0.network
export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console
exec /lib/systemd/systemd-networkd
";

#[test]
fn systemd_networkd_has_both_addresses() {
    let mut world = World::new(&SETTINGS);
    world.runs(NETWORKD);
    world.has(OWN4);
    world.has(OWN6);
}

/// Somebody else may have it by now.
#[test]
fn nothing_is_sent_from_an_address_that_the_pod_has_lost() {
    let mut world = World::new(&SETTINGS);
    world.runs("exec dhcpcd -B -d eth0\n");
    world.has(OWN4);
    world.has(OWN6);
    world.peer.nft("add table netdev seen");
    world.peer.nft("add chain netdev seen c { type filter hook ingress device eth0 priority 0; }");
    // How many of the two addresses the peer has packets from.
    let seen = || {
        world.peer.nft("flush chain netdev seen c");
        world.peer.nft(&format!("add rule netdev seen c ip saddr {POD} counter"));
        world.peer.nft(&format!("add rule netdev seen c ip6 saddr {POD6} counter"));
        for peer in [PEER, PEER6] {
            let mut ping = world.guest.command("ping");
            let _ = ping.args(["-q", "-c", "2", "-i", "0.2", "-W", "1", peer]).output();
        }
        2 - world.peer.nft("list table netdev seen").matches("packets 0").count()
    };
    assert_eq!(seen(), 2);
    world.pod.ip(&format!("addr del {POD}/24 dev eth0"));
    world.pod.ip(&format!("addr del {POD6}/64 dev eth0"));
    let log = || fs::read_to_string(world.dir.path().join("log")).unwrap();
    find("it is closed", SOON, log, || log().contains("nothing is sent from it").then_some(()));
    assert_eq!(seen(), 0, "{}", world.pod.nft("list ruleset"));
    world.pod.ip(&format!("addr add {POD}/24 dev eth0"));
    world.pod.ip(&format!("addr add {POD6}/64 dev eth0 nodad"));
    world.pod.ip(&format!("route replace default via {PEER}"));
    world.pod.ip(&format!("-6 route replace default via {PEER6}"));
    find("it is open", SOON, log, || {
        (!world.pod.nft("list tables").contains("closed")).then_some(())
    });
    world.has(OWN4);
    world.has(OWN6);
}

#[test]
fn dhcpcd_has_both_addresses() {
    let mut world = World::new(&SETTINGS);
    world.runs(
        "mkdir -p /var/lib/dhcpcd\nmount -t tmpfs none /var/lib/dhcpcd\nexec dhcpcd -B -d eth0\n",
    );
    world.has(OWN4);
    world.has(OWN6);
}

/// Two of them, as ifupdown starts them.
#[test]
fn dhclient_has_both_addresses() {
    let mut world = World::new(&SETTINGS);
    let leases = world.dir.path().display().to_string();
    let line = |version: &str| {
        format!(
            "dhclient {version} -v -d -sf /sbin/dhclient-script -lf {leases}/leases{version} -pf /run/pid{version} eth0"
        )
    };
    world.runs(&format!(
        "{} &\nuntil ip -6 route show default | grep -q via; do sleep 0.2; done\nexec {}\n",
        line("-4"),
        line("-6")
    ));
    world.has(OWN4);
    world.has(OWN6);
}

/// Of a guest whose IPv4 is translated: the same clients, the address of its own.
#[test]
fn systemd_networkd_has_an_address_behind_nat() {
    let mut world = World::new(&[]);
    // Before anybody asked: who tries to reach a guest that boots is not to wait for the kernel's next question.
    let known = world.pod.ip("-4 neigh show dev br0");
    assert!(known.contains(&format!("192.168.254.2 lladdr {MAC}")), "{known}");
    world.runs(NETWORKD);
    world.has(OWN6);
    let addresses = world.guest.ip("-4 -o addr show dev eth0");
    assert!(addresses.contains("192.168.254.2/30"), "{addresses}");
}
