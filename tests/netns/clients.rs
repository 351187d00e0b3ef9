//! DHCP and DNS as real clients find them: busybox, ISC and Roy Marples' DHCP clients, and dig, in a namespace
//! that hangs on the bridge as a guest does; dnsmasq is the pod's name server.
//!
//! ```text
//! guest eth0 ── port0 [br0 192.168.254.1/30] pod eth0 10.0.0.2 ── eth0 10.0.0.10 upstream (dnsmasq)
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Netns, checked, until, veth};
use berth::plan::GuestPlan;
use berth::serve;
use tokio::sync::watch;

const GATEWAY: &str = "192.168.254.1";
const GUEST: &str = "192.168.254.2";
const UPSTREAM: &str = "10.0.0.10";
const SEARCH: &str = "ns.svc.cluster.local svc.cluster.local cluster.local";

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Three namespaces, the responder serving in the middle one.
struct World {
    guest: Netns,
    pod: Netns,
    upstream: Netns,
    dir: tempfile::TempDir,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
    _dnsmasq: Running,
}

impl World {
    fn new() -> Self {
        let (guest, pod, upstream) = (Netns::new("guest"), Netns::new("pod"), Netns::new("up"));
        pod.ip("link add br0 type bridge forward_delay 0");
        pod.ip(&format!("addr add {GATEWAY}/30 dev br0"));
        pod.ip("link set br0 up");
        veth(&guest, "eth0", &pod, "port0");
        pod.ip("link set port0 master br0");
        veth(&pod, "eth0", &upstream, "eth0");
        pod.ip("addr add 10.0.0.2/24 dev eth0");
        upstream.ip(&format!("addr add {UPSTREAM}/24 dev eth0"));

        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("resolv.conf"),
            format!("nameserver {UPSTREAM}\nsearch {SEARCH}\n"),
        )
        .unwrap();
        let dnsmasq = dnsmasq(&upstream, UPSTREAM, "10.96.0.10");
        let plan = plan(&pod, dir.path().join("resolv.conf"));
        let (stop, stopped) = watch::channel(false);
        let server = serve_in(&pod, plan, stopped);
        Self { guest, pod, upstream, dir, stop, server: Some(server), _dnsmasq: dnsmasq }
    }

    /// A program of the client's that puts what it was told into a file, then takes the address.
    fn script(&self) -> (PathBuf, PathBuf) {
        let (script, told) = (self.dir.path().join("script"), self.dir.path().join("told"));
        let text = format!(
            "#!/bin/sh\n\
             case \"$reason$1\" in\n\
             BOUND|REBOOT|bound) env >{told}.new; mv {told}.new {told}\n\
             ip addr replace ${{new_ip_address:-$ip}}/30 dev eth0;;\n\
             *) echo \"$reason$1\" >>{told}.other;;\n\
             esac\n",
            told = told.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        (script, told)
    }

    /// busybox as cirros and Alpine start it, with what it does not ask for by itself.
    fn udhcpc(&self, extra: &[&str]) -> BTreeMap<String, String> {
        let (script, told) = self.script();
        let mut command = self.guest.command("timeout");
        command.args([
            "20", "busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "5", "-T", "1", "-s",
        ]);
        command.arg(script);
        for option in ["search", "staticroutes", "mtu"] {
            command.args(["-O", option]);
        }
        checked(command.args(extra));
        variables(&fs::read_to_string(told).unwrap())
    }

    /// ISC's client, with the lease it remembers; gives what it was told and what it printed.
    fn dhclient(&self, lease: &str) -> (BTreeMap<String, String>, String) {
        let (script, told) = self.script();
        let path = |name: &str| self.dir.path().join(name);
        fs::write(path("leases"), lease).unwrap();
        fs::write(
            path("dhclient.conf"),
            "option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\n\
             timeout 15;\nrequest subnet-mask, broadcast-address, routers, domain-name, domain-name-servers,\n\
             host-name, interface-mtu, domain-search, rfc3442-classless-static-routes;\n",
        )
        .unwrap();
        let mut command = self.guest.command("timeout");
        // In the foreground: it ends with `timeout`, after the script has run.
        command.args(["-s", "TERM", "25", "dhclient", "-4", "-1", "-d", "-v"]);
        command.arg("-sf").arg(script).arg("-cf").arg(path("dhclient.conf"));
        command.arg("-lf").arg(path("leases")).arg("-pf").arg(path("dhclient.pid")).arg("eth0");
        let log = fs::File::create(path("dhclient.log")).unwrap();
        let child = Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        until("dhclient's lease", || told.exists());
        drop(child);
        self.end_clients();
        (
            variables(&fs::read_to_string(told).unwrap()),
            fs::read_to_string(path("dhclient.log")).unwrap(),
        )
    }

    /// What a client left in the background, in this namespace that is the test's own.
    fn end_clients(&self) {
        let pids = checked(Command::new("ip").args(["netns", "pids", &self.guest.name]));
        for pid in pids.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
        }
    }

    /// A guest that has its address.
    fn configured(&self) {
        self.guest.ip(&format!("addr replace {GUEST}/30 dev eth0"));
    }

    fn dig(&self, words: &str) -> String {
        self.guest.run(&format!("dig @{GATEWAY} +tries=1 +time=5 {words}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_clients();
        let _ = self.stop.send(true);
        if let Some(Err(panic)) = self.server.take().map(JoinHandle::join) {
            assert!(std::thread::panicking(), "the responder panicked: {panic:?}");
        }
    }
}

fn plan(pod: &Netns, resolv_conf: PathBuf) -> GuestPlan {
    let mac = pod.run("cat /sys/class/net/br0/address");
    GuestPlan {
        serve: true,
        interface: "br0".parse().unwrap(),
        mac: "52:54:00:01:02:03".parse().unwrap(),
        address: format!("{GUEST}/30").parse().unwrap(),
        gateway: GATEWAY.parse().unwrap(),
        routed: true,
        alias: None,
        gateway_mac: mac.trim().parse().unwrap(),
        hostname: "web".into(),
        dns: vec![GATEWAY.parse().unwrap()],
        search: SEARCH.split(' ').map(Into::into).collect(),
        mtu: 1450,
        lease_secs: 86_400,
        upstreams: vec![UPSTREAM.parse().unwrap()],
        ndots: 5,
        ipv6: None,
        resolv_conf,
        notes: vec![],
    }
}

/// Serves in a thread of the namespace's own; returns once the sockets are bound.
fn serve_in(pod: &Netns, plan: GuestPlan, stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    let (bound, is_bound) = std::sync::mpsc::channel();
    let pod = pod.path();
    let thread = std::thread::spawn(move || {
        berth::sys::netns::enter(pod.as_ref()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let target = serve::Target::one_guest(&plan, 0).expect("a plan that serves");
            let server = serve::Bound::new(target).expect("ports 53 and 67");
            bound.send(()).unwrap();
            let targets = server.targets();
            server
                .run(stopped, targets.subscribe(), &watch::Sender::default(), &Default::default())
                .await;
        });
    });
    is_bound.recv_timeout(Duration::from_secs(10)).expect("the responder's sockets");
    thread
}

fn dnsmasq(upstream: &Netns, address: &str, db: &str) -> Running {
    let text = "x".repeat(250);
    let mut command = upstream.command("dnsmasq");
    command.args([
        "-k",
        "-C",
        "/dev/null",
        "-u",
        "root",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
    ]);
    command.arg(format!("--listen-address={address}"));
    command.args(["--local=/cluster.local/", "--local=/example/"]);
    command.arg(format!("--host-record=db.ns.svc.cluster.local,{db}"));
    command.arg(format!("--txt-record=big.example{}", format!(",{text}").repeat(8)));
    let child = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("dnsmasq", || upstream.run("ss -Hlnu sport = 53").contains(&format!("{address}:53")));
    child
}

fn variables(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The variables a client's script must see.
fn assert_told(told: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(told.get(*name).map(String::as_str), Some(*value), "{name} among {told:#?}");
    }
}

#[test]
fn busybox_is_told_everything() {
    let world = World::new();
    let expected = [
        ("ip", GUEST),
        ("subnet", "255.255.255.252"),
        ("router", GATEWAY),
        ("dns", GATEWAY),
        ("hostname", "web"),
        ("domain", "ns.svc.cluster.local"),
        ("search", SEARCH),
        ("staticroutes", "0.0.0.0/0 192.168.254.1"),
        ("mtu", "1450"),
        ("broadcast", "192.168.254.3"),
        ("lease", "86400"),
        ("serverid", GATEWAY),
    ];
    assert_told(&world.udhcpc(&[]), &expected);
}

#[test]
fn a_guest_with_another_mac_gets_the_address_all_the_same() {
    let world = World::new();
    for last in 1..=2 {
        world.guest.ip(&format!("link set eth0 address 02:00:00:00:00:0{last}"));
        assert_eq!(world.udhcpc(&[])["ip"], GUEST);
    }
}

#[test]
fn isc_dhclient_is_told_everything() {
    let world = World::new();
    let (told, log) = world.dhclient("");
    let expected = [
        ("new_ip_address", GUEST),
        ("new_subnet_mask", "255.255.255.252"),
        ("new_broadcast_address", "192.168.254.3"),
        ("new_routers", GATEWAY),
        ("new_domain_name_servers", GATEWAY),
        ("new_host_name", "web"),
        ("new_domain_name", "ns.svc.cluster.local"),
        ("new_domain_search", "ns.svc.cluster.local. svc.cluster.local. cluster.local."),
        ("new_interface_mtu", "1450"),
        ("new_rfc3442_classless_static_routes", "0 192 168 254 1"),
        ("new_dhcp_lease_time", "86400"),
        ("new_dhcp_renewal_time", "43200"),
        ("new_dhcp_rebinding_time", "75600"),
        ("new_dhcp_server_identifier", GATEWAY),
    ];
    assert_told(&told, &expected);
    assert!(!log.contains("bad udp checksum"), "{log}");
}

/// Q5: an image that was booted elsewhere remembers where.
#[test]
fn isc_dhclient_with_a_lease_of_another_network_is_sent_back_to_the_start_at_once() {
    let world = World::new();
    let began = Instant::now();
    let (told, log) = world.dhclient(
        "lease {\n  interface \"eth0\";\n  fixed-address 10.1.2.3;\n  option subnet-mask 255.255.255.0;\n  \
         option dhcp-server-identifier 10.1.2.1;\n  renew never;\n  rebind never;\n  expire never;\n}\n",
    );
    assert!(log.contains("DHCPREQUEST for 10.1.2.3"), "{log}");
    assert!(log.contains("DHCPNAK"), "{log}");
    assert_eq!(told["new_ip_address"], GUEST);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}: {log}", began.elapsed());
}

#[test]
fn dhcpcd_is_told_everything() {
    let world = World::new();
    let (script, told) = world.script();
    let options = "domain_search,interface_mtu,classless_static_routes,host_name,domain_name,\
                   domain_name_servers,routers";
    // A /run and a /var/lib/dhcpcd of its own: it keeps leases and a socket there.
    let line = format!(
        "mount -t tmpfs none /run && mkdir -p /var/lib/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd &&\
         exec dhcpcd -4 -B -A -f /dev/null -t 15 -c {} -o {options} eth0",
        script.display()
    );
    let mut command = world.guest.command("unshare");
    command.args(["--mount", "sh", "-c", &line]);
    let log = fs::File::create(world.dir.path().join("dhcpcd.log")).unwrap();
    let _dhcpcd = Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    until("dhcpcd's lease", || told.exists());
    let expected = [
        ("new_ip_address", GUEST),
        ("new_subnet_mask", "255.255.255.252"),
        ("new_domain_name_servers", GATEWAY),
        ("new_domain_search", SEARCH),
        ("new_domain_name", "ns.svc.cluster.local"),
        ("new_host_name", "web"),
        ("new_interface_mtu", "1450"),
        ("new_classless_static_routes", "0.0.0.0/0 192.168.254.1"),
    ];
    assert_told(&variables(&fs::read_to_string(told).unwrap()), &expected);
}

#[test]
fn dig_is_answered_over_udp_and_tcp() {
    let world = World::new();
    world.configured();
    for over in ["+notcp", "+tcp"] {
        let found = world.dig(&format!("{over} +short db.ns.svc.cluster.local"));
        assert_eq!(found.trim(), "10.96.0.10", "{over}");
        assert_eq!(world.dig(&format!("{over} +short web")).trim(), GUEST, "{over}");
        let none = world.dig(&format!("{over} nothing.example"));
        assert!(none.contains("status: NXDOMAIN"), "{over}: {none}");
    }
    let pointer = world.dig(&format!("+short -x {GUEST}"));
    assert_eq!(pointer.trim(), "web.ns.svc.cluster.local.");
}

#[test]
fn a_name_the_guest_has_no_search_list_for_is_found_in_the_pods() {
    let world = World::new();
    world.configured();
    let found = world.dig("+short +nosearch db");
    assert_eq!(
        found.split_whitespace().collect::<Vec<_>>(),
        ["db.ns.svc.cluster.local.", "10.96.0.10"]
    );
}

#[test]
fn an_answer_too_long_for_udp_comes_over_tcp() {
    let world = World::new();
    world.configured();
    let cut = world.dig("+ignore TXT big.example");
    assert!(cut.lines().any(|line| line.contains("flags:") && line.contains(" tc")), "{cut}");
    let whole = world.dig("+short TXT big.example");
    assert_eq!(whole.matches('x').count(), 8 * 250, "{whole}");
}

#[test]
fn n24_only_the_guests_side_is_served() {
    let world = World::new();
    world.configured();
    world.upstream.ip(&format!("route add {GATEWAY}/32 via 10.0.0.2"));
    for over in ["+notcp", "+tcp"] {
        for address in [GATEWAY, "10.0.0.2"] {
            let mut command = world.upstream.command("dig");
            command.args([&format!("@{address}"), over, "+tries=1", "+time=1", "+short", "web"]);
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(!text.contains(GUEST), "{address} {over} answered the uplink: {text}");
        }
    }
    assert_eq!(world.dig("+short web").trim(), GUEST, "and the guest is");
}

#[test]
fn n28_a_new_resolv_conf_is_followed() {
    let world = World::new();
    world.configured();
    world.upstream.ip("addr add 10.0.0.11/24 dev eth0");
    let _other = dnsmasq(&world.upstream, "10.0.0.11", "10.96.0.99");
    let path = world.dir.path().join("resolv.conf");
    fs::write(&path, format!("nameserver 10.0.0.11\nsearch {SEARCH}\n")).unwrap();
    let began = Instant::now();
    until("an answer of the new server", || {
        world.dig("+short db.ns.svc.cluster.local").trim() == "10.96.0.99"
    });
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// Q1: on a veth or tap the kernel leaves checksums to hardware that is not there.
#[test]
fn no_datagram_to_the_guest_has_a_bad_checksum() {
    let world = World::new();
    let file = world.dir.path().join("seen.pcap");
    let mut command = world.guest.command("tcpdump");
    command.args(["-i", "eth0", "-U", "--immediate-mode", "-Z", "root", "-w"]).arg(&file);
    command.args(["udp and ether src"]).arg(world.pod.run("cat /sys/class/net/br0/address").trim());
    let tcpdump = Running(command.stderr(Stdio::null()).spawn().unwrap());
    until("tcpdump", || fs::metadata(&file).is_ok_and(|file| file.len() >= 24));

    // One whose replies are frames of ours, and one that wants them broadcast.
    world.udhcpc(&[]);
    world.udhcpc(&["-B"]);
    world.configured();
    world.dig("+short db.ns.svc.cluster.local");
    world.dig("+short web");
    let count = || {
        let text = checked(
            Command::new("tcpdump").args(["-n", "-vv", "-r"]).arg(&file).stderr(Stdio::null()),
        );
        (text.matches("proto UDP").count(), text)
    };
    until("six datagrams", || count().0 >= 6);
    drop(tcpdump);
    let text = count().1;
    assert!(!text.contains("bad udp cksum"), "{text}");
    assert!(
        text.contains("[udp sum ok] BOOTP/DHCP, Reply")
            && text.contains("255.255.255.255.68")
            && text.contains(&format!("{GATEWAY}.53 >")),
        "{text}"
    );
}
