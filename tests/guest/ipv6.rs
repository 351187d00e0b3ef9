//! The guest has the pod's own address, with NET_ADMIN alone and nothing to write below /proc/sys: of IPv6, and of IPv4
//! where it is asked for.
//!
//! Every row holds by both ways: `fwd` in netdev chains, and `dup` alone, as where a kernel has no `fwd`. The second is
//! had by standing the launcher still while its netdev table is gone: the packets need nobody.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::Netns;
use crate::support::world::{PEER, PEER6, POD, POD6, World, tiny};

/// /proc/sys as a container has it.
const READ_ONLY: &str =
    "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$0\" \"$@\"";
const CONTAINER: [&str; 6] =
    ["sh", "-c", READ_ONLY, "setpriv", "--bounding-set", "-all,+net_admin,+net_bind_service"];
const SOON: Duration = Duration::from_secs(10);

/// Who is who, by one version of IP.
#[derive(Clone, Copy)]
struct Side {
    pod: &'static str,
    peer: &'static str,
    /// The pod as the guest sees it.
    gateway: &'static str,
    /// The guest as it sees itself, and the pod's own stack as the guest sees that.
    guest: &'static str,
    caller: &'static str,
    /// Whom a traceroute of the guest's meets first.
    first_hop: &'static str,
    /// Another's address, and its length of a host.
    other: &'static str,
    host: u8,
    /// The chains that drop what has such a sender.
    droppers: [&'static str; 2],
}

const SIX: Side = Side {
    pod: POD6,
    peer: PEER6,
    gateway: "fd00:6be::1",
    guest: POD6,
    caller: "fd00:6be::1",
    first_hop: "*",
    other: "2001:db8:7::66",
    host: 128,
    droppers: ["inet berth from-guest6", "netdev berth near"],
};

/// With an address of its own, onto which the pod's is translated.
const NAT: Side = Side {
    guest: "fd00:6be::2",
    caller: POD6,
    first_hop: "fd00:6be::1",
    other: POD6,
    droppers: ["inet berth from-guest6", "inet berth from-guest6"],
    ..SIX
};

const FOUR: Side = Side {
    pod: POD,
    peer: PEER,
    gateway: "192.168.254.1",
    guest: POD,
    caller: "192.168.254.1",
    first_hop: "*",
    other: "10.244.7.66",
    host: 32,
    droppers: ["inet berth raw", "netdev berth near4"],
};

impl Side {
    fn is_six(&self) -> bool {
        self.host == 128
    }

    /// As the guest's greeting has it.
    fn hello(&self, you: &str) -> String {
        let shown =
            |address: &str| if self.is_six() { format!("[{address}]") } else { address.into() };
        format!("hello from demo at {}, you are {}", shown(self.guest), shown(you))
    }
}

fn ping(netns: &Netns, to: &str, octets: u32) -> bool {
    let mut ping = netns.command("ping");
    ping.args(["-q", "-c", "1", "-W", "3", "-s", &octets.to_string(), to]);
    ping.output().unwrap().status.success()
}

/// What a datagram to a port where nobody listens comes back as.
fn refused(netns: &Netns, to: &str) -> bool {
    let to: SocketAddr = (to.parse::<IpAddr>().unwrap(), 9).into();
    netns.within(move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"?").unwrap();
        let error = socket.recv(&mut [0; 1]).unwrap_err();
        error.kind() == std::io::ErrorKind::ConnectionRefused
    })
}

/// Protocol 253 (RFC 3692), which no host here knows: it is told so (RFC 4443 §3.4, RFC 792).
fn unknown_protocol(netns: &Netns, to: &str) -> bool {
    use socket2::{Domain, Protocol, Socket, Type};
    let to: SocketAddr = (to.parse::<IpAddr>().unwrap(), 0).into();
    netns.within(move || {
        let raw = |protocol: i32| {
            Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(protocol))).unwrap()
        };
        let (errors, sender) = (raw(if to.is_ipv6() { 58 } else { 1 }), raw(253));
        errors.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        sender.send_to(b"12345678", &to.into()).unwrap();
        let end = Instant::now() + Duration::from_secs(3);
        let mut errors = std::io::BufReader::new(errors);
        while Instant::now() < end {
            let mut message = [0; 256];
            let Ok(length) = errors.read(&mut message) else { return false };
            // Parameter problem: unrecognized next header. Of IPv4, behind its header: protocol unreachable.
            let (at, what) = if to.is_ipv6() { (0, [4, 1]) } else { (20, [3, 2]) };
            if length > at + 2 && message[at..at + 2] == what {
                return true;
            }
        }
        false
    })
}

/// Something that answers once by TCP, at a port of a namespace.
fn answerer(netns: &Netns, port: u16, words: &'static str) -> std::thread::JoinHandle<()> {
    let listener = netns.within(move || TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(words.as_bytes()).unwrap();
    })
}

fn asked(netns: &Netns, to: &str, port: u16) -> String {
    String::from_utf8(World::tcp(netns, to, port, b"").unwrap()).unwrap()
}

/// What comes to the pod is the guest's.
fn inward(world: &World, side: &Side) {
    let (peer, pod) = (&world.peer, side.pod);
    let hello = asked(peer, pod, 8080);
    assert!(hello.starts_with(&side.hello(side.peer)), "{hello}");
    for octets in [56, 4000] {
        assert!(ping(peer, pod, octets), "ping of {octets} octets");
    }
    for octets in [10, 3000] {
        let sent = vec![b'u'; octets];
        assert_eq!(World::udp(peer, pod, 7, &sent), Some(sent), "{octets} octets by UDP");
    }
    let blob: Vec<u8> = (0..1_048_576_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    assert!(World::tcp(peer, pod, 7, &blob).unwrap() == blob, "a mebibyte both ways");
    assert!(refused(peer, pod), "no port unreachable");
    assert!(unknown_protocol(peer, pod), "no answer to an unknown protocol");
}

/// What the guest sends goes out as it is.
fn outward(world: &World, side: &Side) {
    let (peer, gateway) = (side.peer, side.gateway);
    let guest = |line: &str| world.guest(&format!("{line} && echo it did"));
    for octets in [56, 4000] {
        let told = guest(&format!("ping -c 1 -W 3 -s {octets} {peer}"));
        assert!(told.contains("it did"), "{told}");
    }
    let answers = answerer(&world.peer, 777, "hello from the peer\n");
    let told = guest(&format!("nc {peer} 777 </dev/null"));
    assert!(told.contains("hello from the peer"), "{told}");
    answers.join().unwrap();
    // What ends in a pod that is no router is not told of. Then the node, then the peer.
    let hops = world.guest(&format!(
        "traceroute{} -n -q 1 -w 2 -m 4 {peer}",
        if side.is_six() { "6" } else { "" }
    ));
    let hops: Vec<&str> = hops.lines().skip(1).map(str::trim).collect();
    assert!(hops.len() == 3 && hops[0].starts_with(&format!("1  {}", side.first_hop)), "{hops:?}");
    assert!(hops[2].starts_with(&format!("3  {peer}")), "{hops:?}");
    // It was asked for by now, and has said that it is a router.
    if side.is_six() {
        let route = world.guest("ip -6 route show default");
        assert!(route.contains("via fe80::1"), "the guest has lost its router: {route}");
    }
    let told = guest(&format!("nc -w 3 {gateway} 777 </dev/null"));
    assert!(!told.contains("it did"), "a port of the pod that was not opened: {told}");
    assert!(guest(&format!("ping -c 1 -W 3 {gateway}")).contains("it did"), "its gateway");
}

/// What the pod has begun itself, and what stays with it, is the pod's.
fn pods_own(world: &World, side: Side) {
    let World { pod, peer, .. } = world;
    let Side { pod: address, peer: other, caller, .. } = side;
    for octets in [56, 4000] {
        assert!(ping(pod, other, octets), "the pod's ping of {octets} octets");
    }
    let answers = answerer(peer, 778, "to the pod\n");
    assert_eq!(asked(pod, other, 778), "to the pod\n");
    answers.join().unwrap();
    let closed = World::tcp(pod, other, 779, b"").unwrap_err();
    assert_eq!(closed.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(refused(pod, other), "no port unreachable for the pod");
    let echo = peer.within(|| UdpSocket::bind(("::", 7)).unwrap());
    let echoes = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let (length, from) = echo.recv_from(&mut buffer).unwrap();
        echo.send_to(&buffer[..length], from).unwrap();
    });
    let sent = vec![b'p'; 3000];
    assert_eq!(World::udp(pod, other, 7, &sent), Some(sent), "the pod's fragments");
    echoes.join().unwrap();
    let hello = asked(pod, address, 8080);
    assert!(hello.starts_with(&side.hello(caller)), "from the pod to its own address: {hello}");
    if side.is_six() {
        reserved(world);
    } else {
        for netns in [peer, pod] {
            assert_eq!(&screen(netns, address), b"RFB ");
        }
    }
}

/// What a reserved port of the pod's says first: VNC, where it listens.
fn screen(netns: &Netns, address: &'static str) -> [u8; 4] {
    netns.within(move || {
        let mut stream = TcpStream::connect((address, 5900)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut version = [0; 4];
        stream.read_exact(&mut version).unwrap();
        version
    })
}

/// VNC is not on the pod's IPv6 address: something else is, at its port.
fn reserved(world: &World) {
    let World { pod, peer, .. } = world;
    let listener = pod.within(|| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        socket.set_only_v6(true).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5900)).into()).unwrap();
        socket.listen(1).unwrap();
        TcpListener::from(socket)
    });
    let reserved = std::thread::spawn(move || {
        for _ in 0..2 {
            listener.accept().unwrap().0.write_all(b"pod-5900\n").unwrap();
        }
    });
    for netns in [peer, pod] {
        assert_eq!(asked(netns, POD6, 5900), "pod-5900\n");
    }
    reserved.join().unwrap();
}

/// Behind a link that takes less than the guest's own.
fn narrow(world: &World, side: &Side) {
    let (pod, peer) = (side.pod, side.peer);
    world.narrow(1280);
    let blob = vec![b'n'; 1_048_576];
    assert!(World::tcp(&world.peer, pod, 7, &blob).unwrap() == blob, "over 1280 octets");
    // The first is told that it is too big, the next ones come in parts.
    let told = world.guest(&format!("ping -c 3 -W 2 -s 1400 {peer}"));
    assert!(told.contains("2 packets received") || told.contains("3 packets received"), "{told}");
    assert!(ping(&world.pod, peer, 1400) || ping(&world.pod, peer, 1400), "the pod's own");
    world.narrow(1450);
}

/// With another's address the guest reaches nobody.
fn spoofed(world: &World, side: &Side) {
    let (peer, other, host) = (side.peer, side.other, side.host);
    // By whichever way packets go.
    let count = || -> u64 {
        let dropped = |chain: &str| -> u64 {
            let mut list = world.pod.command("nft");
            let listed =
                list.arg("-j").arg("list").arg("chain").args(chain.split(' ')).output().unwrap();
            let Ok(rules) = serde_json::from_slice::<serde_json::Value>(&listed.stdout) else {
                return 0;
            };
            let of = |object: &serde_json::Value| {
                let rule = &object["rule"];
                rule["comment"].as_str()?.contains("its").then_some(())?;
                rule["expr"].as_array()?.iter().find_map(|it| it["counter"]["packets"].as_u64())
            };
            rules["nftables"].as_array().unwrap().iter().filter_map(of).sum()
        };
        side.droppers.map(dropped).iter().sum::<u64>()
    };
    let before = count();
    let told = world.guest(&format!(
        "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; \
         ip addr add {other}/{host} dev eth0; sleep 1; ping -c 2 -W 1 -I {other} {peer}; \
         ip addr del {other}/{host} dev eth0"
    ));
    assert!(told.contains("0 packets received"), "{told}");
    assert!(count() >= before + 2, "not dropped by the rule that is for it");
}

/// Rules as `berth nft` sees them in the pod: exit code and what it says.
fn nft(world: &World, words: &[&str]) -> (i32, String) {
    let output = world.command(&CONTAINER).arg("nft").args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn explained(world: &World, side: &Side) {
    let Side { pod, peer, .. } = side;
    let (alias, ping) =
        if side.is_six() { ("fd00:6be::2", "icmpv6") } else { ("192.168.254.2", "icmp") };
    let at = |address: &str, port: &str| {
        if side.is_six() { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    };
    for to in ["8080/tcp", "7/udp"] {
        let (from, to) = (at(peer, "40000"), at(pod, to));
        let (code, told) = nft(world, &["explain", "--iif", "eth0", "--from", &from, "--to", &to]);
        let said = format!("handed on by tap0 to {alias}");
        assert!(code == 0 && told.contains(&said), "{code}: {told}");
    }
    let to = format!("{pod}/{ping}");
    let kind = if side.is_six() { "128" } else { "8" };
    let mut words = vec!["explain", "--iif", "eth0", "--from", peer, "--to", &to];
    words.extend(["--icmp-type", kind, "--ttl", "60"]);
    let (code, told) = nft(world, &words);
    let said = format!("a copy goes on by br0 to {alias}");
    assert!(code == 0 && told.contains(&said), "{code}: {told}");
    assert_eq!(nft(world, &["check"]), (0, String::new()));
}

const ON_LINK: &str = "2001:db8:9::2";
const MOVED: &str = "2001:db8:9::22";
const NEIGHBOUR: &str = "2001:db8:9::3";

#[test]
fn an_address_that_comes_changes_or_goes_is_the_guests_and_neighbours_are_on_the_link() {
    let mut world = World::new();
    world.start_under(&CONTAINER).ready();
    assert!(world.guest("ip -6 route show default").trim().is_empty());
    assert_eq!(world.pod.run("nft list tables").matches("berth\n").count(), 2);

    // As before Linux 4.10, and as others do it: what the guest has sent itself would be another's claim (RFC 7527).
    world.guest("for at in all eth0; do echo 0 >/proc/sys/net/ipv6/conf/$at/enhanced_dad; done");
    world.on_link(ON_LINK, NEIGHBOUR);
    let said = format!("lease6 {ON_LINK}");
    world.until("an address that came late", SOON, |world| {
        world.serial().contains(&said).then_some(())
    });
    let reach = |address: &str| {
        // Its link goes down and up for another address, and the guest asks whether somebody has it.
        let hello = world
            .until("an answer", SOON, |world| World::tcp(&world.peer, address, 8080, b"").ok());
        let hello = String::from_utf8(hello).unwrap();
        assert!(hello.contains(&format!("at [{address}], you are [{NEIGHBOUR}]")), "{hello}");
        let told = world.guest(&format!("ping -6 -c 1 -W 3 {NEIGHBOUR} && echo it did"));
        assert!(told.contains("it did"), "{told}");
        assert!(ping(&world.pod, NEIGHBOUR, 4000), "the pod's own");
    };
    reach(ON_LINK);

    world.pod.ip(&format!("addr del {ON_LINK}/64 dev eth0"));
    world.on_link(MOVED, NEIGHBOUR);
    world.until("the rules", SOON, |world| {
        world.pod.run("nft list table netdev berth").contains(MOVED).then_some(())
    });
    world.guest("killall dhcp6c; sleep 1; dhcp6c -f -c /etc/dhcp6c.conf eth0 >/dev/null 2>&1 &");
    world.until("the new address", SOON, |world| {
        world.guest("ip -6 addr show dev eth0").contains(MOVED).then_some(())
    });
    reach(MOVED);

    world.pod.ip(&format!("addr del {MOVED}/64 dev eth0"));
    world.until("the guest has no IPv6 router", SOON, |world| {
        world.guest("ip -6 route show default").trim().is_empty().then_some(())
    });
    world.until("tables of IPv4 alone", SOON, |world| {
        (world.pod.run("nft list tables").matches("berth\n").count() == 2).then_some(())
    });
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(!world.log().contains("ERROR"), "{}", world.log());
}

/// A child that is ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pod_of_ipv6_alone_has_its_image_its_guest_and_its_screen_by_ipv6() {
    let mut world = World::new();
    world.ipv6_only();
    let mut off = world.command(&[]);
    let refused = off.arg("run").env("BERTH_IPV6", "off").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(12) && said.contains("eth0 has no IPv4 address"),
        "{said}"
    );

    let image = tiny();
    let (dir, name) = (image.parent().unwrap(), image.file_name().unwrap().to_str().unwrap());
    let mut server = world.peer.command("python3");
    server.args(["-m", "http.server", "8000", "--bind", "::", "--directory"]).arg(dir);
    let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _server = Ended(server);
    world.until("the image's server", SOON, |world| {
        World::tcp(&world.peer, PEER6, 8000, b"HEAD / HTTP/1.0\r\n\r\n").ok().map(drop)
    });
    let source = format!("http://[{PEER6}]:8000/{name}");
    world.set("IMG_TARGET", "base.qcow2").set("IMG_SOURCE", &source);
    world.start_under(&CONTAINER).ready();
    let said = format!("lease6 {POD6}");
    world.until("the guest's IPv6 address", SOON, |world| {
        world.serial().contains(&said).then_some(())
    });
    inward(&world, &SIX);
    outward(&world, &SIX);
    // It has an IPv4 address as every guest has, and nobody behind it: what leads nowhere is not tried.
    let routes = world.guest("ip route; cat /run/lease");
    let is_routed =
        ["default", "router=", "staticroutes="].iter().any(|word| routes.contains(word));
    assert!(routes.contains("192.168.254.0/30") && !is_routed, "{routes}");
    let told = world.guest("nslookup demo fd00:6be::1; nslookup demo 192.168.254.1");
    assert_eq!(told.matches("192.168.254.2").count(), 2, "{told}");
    assert_eq!(&screen(&world.peer, POD6), b"RFB ");
    let (code, told) = nft(&world, &["check"]);
    assert!(code == 0, "{told}");
    assert_eq!(world.log().matches("no IPv4 address").count(), 1, "{}", world.log());

    // An IPv4 address that comes later is the guest's, too.
    for words in ["addr add 10.244.7.2/32 dev eth0", "route add 169.254.1.1 dev eth0 scope link"] {
        world.pod.ip(words);
    }
    world.pod.ip("route add default via 169.254.1.1 dev eth0");
    world.peer.ip("addr add 10.244.7.3/32 dev eth0");
    world.peer.ip("route add 169.254.1.1 dev eth0 scope link");
    world.peer.ip("route add default via 169.254.1.1 dev eth0");
    world.until("the IPv4 address is the guest's", SOON, |world| {
        world.pod.run("nft list table inet berth").contains("ip daddr 10.244.7.2").then_some(())
    });
    world.guest("killall -USR2 udhcpc; sleep 1; killall -USR1 udhcpc; sleep 3");
    let hello = asked(&world.peer, "10.244.7.2", 8080);
    assert!(
        hello.contains("at [::ffff:192.168.254.2]") || hello.contains("192.168.254.2"),
        "{hello}"
    );
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(!world.log().contains("ERROR"), "{}", world.log());
}

#[test]
fn every_row_holds_through_a_real_guest_with_net_admin_alone() {
    rows(&[SIX], &[]);
}

#[test]
fn every_row_holds_of_an_ipv4_address_that_is_the_guests_own() {
    rows(&[FOUR], &[("BERTH_IPV4", "own"), ("BERTH_IPV6", "off")]);
}

fn rows(sides: &[Side], settings: &[(&str, &str)]) {
    let mut world = World::new();
    world.dual_stack();
    for (name, value) in settings {
        world.set(name, value);
    }
    world.start_under(&CONTAINER).ready();
    let is_six = sides.iter().any(Side::is_six);
    let said = if is_six { format!("lease6 {POD6}") } else { format!("lease {POD}/32") };
    world.until("the guest's address", SOON, |world| world.serial().contains(&said).then_some(()));
    assert_eq!(world.pod.run("cat /proc/sys/net/ipv6/conf/all/forwarding").trim(), "0");
    let (version, router) = if is_six { ("6", "fe80::1") } else { ("4", "192.168.254.1") };
    let route = world.guest(&format!("ip -{version} route show default"));
    assert!(route.contains(&format!("via {router}")), "{route}");
    let rows = || {
        for side in sides {
            inward(&world, side);
            outward(&world, side);
            pods_own(&world, *side);
            narrow(&world, side);
            spoofed(&world, side);
        }
    };
    rows();
    let fwd = |world: &World| -> bool {
        world
            .pod
            .command("nft")
            .args(["list", "table", "netdev", "berth"])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(fwd(&world), "by dup alone: this kernel has fwd");
    // A name of its own, that no server of the pod's is asked for.
    if !is_six {
        let line = "killall -USR1 udhcpc; sleep 2; grep -c 'lease of .* obtained' /var/log/udhcpc";
        assert_eq!(
            world.guest(line).trim(),
            "2",
            "a lease is renewed from an address that is the pod's, too"
        );
    }
    let (server, known) = if is_six { (SIX.gateway, "192.168.254.2") } else { (FOUR.gateway, POD) };
    let told = world.guest(&format!("nslookup demo {server}"));
    assert!(told.contains(known), "{told}");
    // Though a path's MTU is remembered among the routes by now.
    sides.iter().for_each(|side| explained(&world, side));

    world.signal("STOP");
    world.pod.run("nft delete table netdev berth");
    rows();
    assert!(!fwd(&world));
    world.signal("CONT");
    world.until("the table", SOON, |world| fwd(world).then_some(()));

    world.pod.run("nft flush ruleset");
    world.until("the table", SOON, |world| fwd(world).then_some(()));
    for side in sides {
        inward(&world, side);
        pods_own(&world, *side);
    }
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(!world.log().contains("ERROR"), "{}", world.log());
}

const ROUTER: &str = "net.ipv6.conf.all.forwarding=1";

#[test]
fn every_row_holds_of_an_address_that_is_translated() {
    let mut world = World::new();
    world.dual_stack().set("BERTH_IPV6", "nat");
    // No router sends on what comes from a link-local address (RFC 4291 §2.5.6), and the pod is one here.
    world.node6();
    let refused = world.command(&CONTAINER).arg("run").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(12) && said.contains("all.forwarding is 0"), "{said}");

    // As the pod's `securityContext.sysctls` say it.
    world.pod.run(&format!("sysctl -qw {ROUTER}"));
    // Where the bridge puts fragments together, nobody knows any more how large they were (`br_netfilter`).
    world.pod.run("sysctl -qew net.bridge.bridge-nf-call-ip6tables=0");
    world.start_under(&CONTAINER).ready();
    world.until("the guest's address", SOON, |world| {
        world.serial().contains("lease6 fd00:6be::2").then_some(())
    });
    translated(&world);
    assert_eq!(nft(&world, &["check"]), (0, String::new()));
    let to = format!("[{POD6}]:8080/tcp");
    let from = format!("[{PEER6}]:40000");
    let (code, told) = nft(&world, &["explain", "--iif", "eth0", "--from", &from, "--to", &to]);
    assert!(code == 0 && told.contains("fd00:6be::2"), "{code}: {told}");

    world.pod.run("nft flush ruleset");
    world.until("the table", SOON, |world| {
        world.pod.run("nft list tables").contains("inet berth\n").then_some(())
    });
    inward(&world, &NAT);
    pods_own(&world, NAT);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(!world.log().contains("ERROR"), "{}", world.log());
}

fn translated(world: &World) {
    inward(world, &NAT);
    outward(world, &NAT);
    pods_own(world, NAT);
    narrow(world, &NAT);
    spoofed(world, &NAT);
    // From the guest to itself by the pod's address: seen as its gateway's, whose answers come this way.
    let hello = world.guest(&format!("nc {POD6} 8080 </dev/null"));
    assert!(hello.starts_with(&NAT.hello(NAT.gateway)), "{hello}");
}

#[test]
fn a_pod_that_may_write_its_sysctls_routes_for_the_guest_alone() {
    let mut world = World::new();
    world.dual_stack().set("BERTH_IPV6", "nat");
    world.start().ready();
    world.until("the guest's address", SOON, |world| {
        world.serial().contains("lease6 fd00:6be::2").then_some(())
    });
    inward(&world, &NAT);
    outward(&world, &NAT);
    let rules = world.pod.run("nft list chain inet berth forward");
    assert!(rules.contains("it routes for the guest alone"), "{rules}");
    // What was turned off by somebody is on again.
    world.pod.run("sysctl -aq --pattern 'ipv6.*force_forwarding' | sed 's/1$/0/' | sysctl -qp -");
    world.pod.run("sysctl -qw net.ipv6.conf.all.forwarding=0");
    // Links are looked at when one of them changes, else each minute.
    world.pod.ip("link add changed type bridge");
    world.until("forwarding again", SOON, |world| {
        World::tcp(&world.peer, POD6, 8080, b"").ok().map(drop)
    });
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(!world.log().contains("ERROR"), "{}", world.log());
}
