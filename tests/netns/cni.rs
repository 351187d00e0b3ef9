//! Pods as CNI's own plugins wire them, dual-stack: `berth net` in one, a guest's end on its tap, another pod beside it.
//!
//! ```text
//! peer eth0 ── node (bridge, or one veth for each pod: ptp) ── eth0 pod: berth net, tap0 ══ eth0 guest
//! ```
//!
//! The guest is a namespace whose eth0 is a tap too: what one tap is given comes out of the other. Its IPv6 is asked for as a
//! guest asks: the route by router advertisement, the address by ISC's client.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::support::{Netns, PATIENCE, find, succeeded};
use berth::sys::link::open_tap;

const PLUGINS: &str = "/usr/lib/cni";
const MAC: &str = "52:54:00:00:c4:01";
const PORT: u16 = 8080;

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pod of the node's, and its addresses.
struct Pod {
    netns: Netns,
    v4: IpAddr,
    v6: IpAddr,
}

impl Pod {
    /// What a runtime does: the plugin is told by its environment and its standard input.
    fn add(node: &Netns, plugin: &str, role: &str, dir: &Path) -> Self {
        let netns = Netns::new(role);
        let mut network = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": plugin,
            "ipam": {
                "type": "host-local",
                "dataDir": dir.join("leases"),
                "ranges": [[{"subnet": "10.90.0.0/24"}], [{"subnet": "fd00:c41:6::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        });
        if plugin == "bridge" {
            network["bridge"] = json!("cni0");
            network["isGateway"] = json!(true);
        }
        let config = dir.join(format!("{role}.json"));
        fs::write(&config, network.to_string()).unwrap();
        let mut command = Command::new(Path::new(PLUGINS).join(plugin));
        command.stdin(File::open(config).unwrap());
        for (name, value) in [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", role),
            ("CNI_NETNS", &netns.path()),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", PLUGINS),
        ] {
            command.env(name, value);
        }
        let said = succeeded(&node.output(&mut command), &command);
        let result: Value = serde_json::from_str(&said).unwrap();
        let mut given = result["ips"].as_array().unwrap().iter().map(|ip| {
            let prefix = ip["address"].as_str().unwrap();
            prefix.split('/').next().unwrap().parse::<IpAddr>().unwrap()
        });
        let (v4, v6) = (given.next().unwrap(), given.next().unwrap());
        assert!(v4.is_ipv4() && v6.is_ipv6(), "{said}");
        Self { netns, v4, v6 }
    }
}

/// Frames from one tap to another, until it is dropped.
struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    fn new(ends: [File; 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let mut frame = vec![0; 1 << 17];
            while !stopping.load(Ordering::Relaxed) {
                let mut events = ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
                poll(&mut events, Some(&wait)).unwrap();
                let ready = events.each_ref().map(|event| event.revents().contains(PollFlags::IN));
                for (at, is_ready) in ready.into_iter().enumerate() {
                    if is_ready && let Ok(length) = (&ends[at]).read(&mut frame) {
                        // A link that is down takes nothing.
                        let _ = (&ends[1 - at]).write(&frame[..length]);
                    }
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// `berth net` in a pod, and who hangs on its tap.
struct Guest {
    netns: Netns,
    log: std::path::PathBuf,
    _wire: Wire,
    _berth: Running,
}

impl Guest {
    fn of(pod: &Pod, dir: &Path) -> Self {
        let log = dir.join("log");
        let mut berth = pod.netns.command(env!("CARGO_BIN_EXE_berth"));
        berth.arg("net").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        fs::write(dir.join("resolv.conf"), "nameserver 10.90.0.1\n").unwrap();
        for (name, value) in [
            ("HOSTNAME", "demo".to_owned()),
            ("BERTH_MAC", MAC.to_owned()),
            ("BERTH_STATE_DIR", dir.display().to_string()),
            ("BERTH_RESOLV_CONF", dir.join("resolv.conf").display().to_string()),
        ] {
            berth.env(name, value);
        }
        berth.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let berth = Running(berth.spawn().unwrap());
        let told = || fs::read_to_string(&log).unwrap_or_default();
        find("berth net serves", PATIENCE, told, || {
            pod.netns
                .output(
                    Command::new(env!("CARGO_BIN_EXE_berth"))
                        .arg("status")
                        .env("BERTH_STATE_DIR", dir),
                )
                .status
                .success()
                .then_some(())
        });
        let netns = Netns::new("guest");
        let tap = |netns: &Netns, name: &str| {
            let name = name.parse().unwrap();
            File::from(netns.within(|| open_tap(&name, 1).unwrap().remove(0)))
        };
        let wire = Wire::new([tap(&pod.netns, "tap0"), tap(&netns, "eth0")]);
        netns.ip(&format!("link set eth0 address {MAC}"));
        netns.ip("link set eth0 mtu 1500 up");
        netns.ip("addr add 192.168.254.2/30 dev eth0");
        netns.ip("route add default via 192.168.254.1");
        Self { netns, log, _wire: wire, _berth: berth }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The address by DHCPv6, the route by the advertisement that the kernel has heard.
    fn ask(&self, dir: &Path) {
        let (script, told) = (dir.join("script"), dir.join("told"));
        let text = format!(
            "#!/bin/sh\n[ -z \"$new_ip6_address\" ] || ip -6 addr replace $new_ip6_address/128 dev eth0 nodad\necho \"$reason\" >>{}\n",
            told.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        find(
            "the router",
            PATIENCE,
            || self.log(),
            || self.netns.ip("-6 route show default").contains("via fe80::1").then_some(()),
        );
        let mut client = self.netns.command("dhclient");
        client.args(["-6", "-1", "-d", "-sf"]).arg(&script).arg("-lf").arg(dir.join("leases6"));
        client.arg("-pf").arg(dir.join("pid6")).arg("eth0").stdout(Stdio::null());
        let _client = Running(client.stderr(Stdio::null()).spawn().unwrap());
        let bound = || fs::read_to_string(&told).is_ok_and(|told| told.contains("BOUND6"));
        find("the address", PATIENCE, || self.log(), || bound().then_some(()));
    }
}

/// Tells whoever calls who answers and who called.
fn answer(netns: &Netns, name: &'static str) {
    let listener = netns.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(format!("{name} to {}", from.ip().to_canonical()).as_bytes());
        }
    });
}

fn call(from: &Netns, to: IpAddr) -> String {
    from.within(move || {
        let mut stream =
            TcpStream::connect_timeout(&SocketAddr::from((to, PORT)), Duration::from_secs(10))
                .unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    })
}

fn holds_with(plugin: &str) {
    let dir = tempfile::tempdir().unwrap();
    let node = Netns::new("node");
    let pod = Pod::add(&node, plugin, "pod", dir.path());
    let peer = Pod::add(&node, plugin, "peer", dir.path());
    let guest = Guest::of(&pod, dir.path());
    guest.ask(dir.path());
    let owned = guest.netns.ip("-6 -o addr show dev eth0 scope global");
    assert!(owned.contains(&format!("{}/128", pod.v6)), "{owned}");

    answer(&guest.netns, "guest");
    answer(&peer.netns, "peer");
    for (from, to, said) in [
        (&peer.netns, pod.v6, format!("guest to {}", peer.v6)),
        (&peer.netns, pod.v4, format!("guest to {}", peer.v4)),
        (&guest.netns, peer.v6, format!("peer to {}", pod.v6)),
        (&guest.netns, peer.v4, format!("peer to {}", pod.v4)),
        (&pod.netns, peer.v6, format!("peer to {}", pod.v6)),
    ] {
        assert_eq!(call(from, to), said, "{plugin}");
    }
    for from in [&node, &peer.netns] {
        assert!(call(from, pod.v6).starts_with("guest to fd00:c41:6::"), "{plugin}");
        from.run(&format!("ping -6 -q -c 2 -i 0.2 -W 3 {}", pod.v6));
    }
    guest.netns.run(&format!("ping -6 -q -c 2 -i 0.2 -W 3 {}", peer.v6));
    assert_eq!(pod.netns.run("cat /proc/sys/net/ipv6/conf/all/forwarding").trim(), "0");
    assert!(!guest.log().contains("ERROR"), "{}", guest.log());
}

#[test]
fn the_guest_has_the_address_that_the_bridge_plugin_gave_its_pod() {
    holds_with("bridge");
}

#[test]
fn the_guest_has_the_address_that_the_ptp_plugin_gave_its_pod() {
    holds_with("ptp");
}
