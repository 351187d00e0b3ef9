//! The pod as it is found and the links as they are made, judged by iproute2 in namespaces of the test's own.

use crate::support::{self, Netns, until, veth};
use berth::config::{Ambient, Config, Options};
use berth::facts::Facts;
use berth::net::{IfName, MacAddr};
use berth::sys::link::{Bridge, Links, Port, Tap, open_tap};
use berth::sys::probe;

fn config(change: impl FnOnce(&mut Options)) -> Config {
    let mut options = Options {
        hostname: Some("web".into()),
        qemu: Some("/bin/true".into()),
        ..Options::default()
    };
    change(&mut options);
    options.parse(&Ambient { search_path: vec!["/bin".into()], ..Ambient::default() }).unwrap()
}

fn facts(pod: &Netns, config: Config) -> Result<Facts, String> {
    pod.enter(move || async move {
        let links = Links::open().unwrap();
        probe::facts(&config, &links).await.map_err(|error| error.to_string())
    })
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 1, 2, 3]);

/// Makes bridge and tap as `berth run` does.
fn ensure(pod: &Netns, uplink: &'static str, queues: u16, mtu: u32) -> Result<(), String> {
    pod.enter(move || async move {
        let links = Links::open().unwrap();
        let (bridge, tap) = (name("br0"), name("tap0"));
        let address = "192.168.254.1/30".parse().unwrap();
        let text = |error: berth::sys::link::Error| berth::exit::error_chain(&error);
        let index = links
            .ensure_bridge(&Bridge { name: &bridge, mac: MAC, mtu, address, ipv6: false })
            .await
            .map_err(text)?;
        links
            .ensure_tap(
                &Tap { name: &tap, mtu, queues, owner: 65_534, ipv6: false, port: Port::Guest },
                index,
            )
            .await
            .map_err(text)?;
        links.ensure_forwarding(&bridge).await.map_err(text)?;
        links.ensure_forwarding(&name(uplink)).await.map_err(text)
    })
}

/// A pod as Calico makes it: a /32, a gateway that is on no network of its own, a smaller MTU.
fn calico(interface: &str) -> (Netns, Netns) {
    let (pod, node) = (Netns::new("pod"), Netns::new("node"));
    veth(&pod, interface, &node, "cali0");
    pod.ip(&format!("link set {interface} mtu 1450"));
    pod.ip(&format!("addr add 10.244.3.17/32 dev {interface}"));
    pod.ip(&format!("route add 169.254.1.1 dev {interface} scope link"));
    pod.ip(&format!("route add default via 169.254.1.1 dev {interface}"));
    (pod, node)
}

#[test]
fn finds_a_calico_pod_whatever_its_interface_is_called() {
    let (pod, _node) = calico("net1");
    let facts = facts(&pod, config(|_| {})).unwrap();
    assert_eq!(facts.net.uplink.name.as_str(), "net1");
    assert_eq!(facts.net.uplink.address.unwrap().to_string(), "10.244.3.17/32");
    assert_eq!(facts.net.uplink.gateway, Some("169.254.1.1".parse().unwrap()));
    assert_eq!(facts.net.uplink.mtu, 1450);
    let link: serde_json::Value = serde_json::from_str(&pod.ip("-j link show net1")).unwrap();
    assert_eq!(facts.net.uplink.mac.to_string(), link[0]["address"].as_str().unwrap());
}

#[test]
fn the_default_route_of_least_metric_wins_and_its_source_is_the_pods_address() {
    let (pod, other, node) = (Netns::new("pod"), Netns::new("other"), Netns::new("node"));
    veth(&pod, "eth0", &node, "n0");
    veth(&pod, "eth1", &other, "o0");
    for words in [
        "addr add 10.1.0.2/24 dev eth0",
        "addr add 10.1.0.3/24 dev eth0",
        "addr add 10.2.0.2/16 dev eth1",
        "route add default via 10.2.0.1 dev eth1 metric 200",
        "route add default via 10.1.0.1 dev eth0 src 10.1.0.3 metric 100",
        "route add 10.3.0.0/16 via 10.2.0.1",
    ] {
        pod.ip(words);
    }
    let found = facts(&pod, config(|_| {})).unwrap().net.uplink;
    assert_eq!(
        (found.name.as_str(), found.address.unwrap().to_string().as_str()),
        ("eth0", "10.1.0.3/24")
    );
    assert_eq!(found.others.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.2/24"]);
    assert_eq!(found.gateway, Some("10.1.0.1".parse().unwrap()));
    let named = facts(&pod, config(|o| o.uplink = Some("eth1".into()))).unwrap().net.uplink;
    assert_eq!(
        (named.name.as_str(), named.address.unwrap().to_string().as_str()),
        ("eth1", "10.2.0.2/16")
    );
}

#[test]
fn default_routes_of_other_tables_count_where_a_rule_leads_to_them() {
    let (pod, other, node) = (Netns::new("pod"), Netns::new("other"), Netns::new("node"));
    veth(&pod, "eth0", &node, "n0");
    veth(&pod, "eth1", &other, "o0");
    for words in [
        "addr add 10.1.0.2/24 dev eth0",
        "addr add 10.1.0.3/24 dev eth0",
        "addr add 10.2.0.2/16 dev eth1",
        "route add default via 10.1.0.1 dev eth0 table 100",
        "route add default via 10.2.0.1 dev eth1 table 2000",
    ] {
        pod.ip(words);
    }
    let uplink = || {
        let found = facts(&pod, config(|_| {})).map(|facts| facts.net.uplink);
        found.map(|found| (found.name.to_string(), found.address.unwrap().to_string()))
    };
    let is = |link: &str, address: &str| Ok((link.to_owned(), address.to_owned()));
    assert!(uplink().unwrap_err().contains("no default route"));
    // The rule's address is the pod's on that way; the first rule counts, and the main table before all.
    pod.ip("rule add from 10.1.0.3 lookup 100 priority 500");
    assert_eq!(uplink(), is("eth0", "10.1.0.3/24"));
    pod.ip("rule add from 10.2.0.0/16 lookup 2000 priority 400");
    assert_eq!(uplink(), is("eth1", "10.2.0.2/16"));
    pod.ip("route add default via 10.1.0.1 dev eth0 metric 4000");
    assert_eq!(uplink(), is("eth0", "10.1.0.2/24"));
    let named = facts(&pod, config(|o| o.uplink = Some("eth1".into()))).unwrap().net;
    assert_eq!(named.uplink.gateway, Some("10.2.0.1".parse().unwrap()));
    let further: Vec<&str> = named.routing.further.iter().map(|link| link.name.as_str()).collect();
    assert_eq!((further, named.routing.rules.len()), (vec!["eth0"], 2));
}

#[test]
fn says_what_is_missing() {
    let pod = Netns::new("pod");
    assert!(facts(&pod, config(|_| {})).unwrap_err().contains("BERTH_UPLINK"));
    assert!(
        facts(&pod, config(|o| o.uplink = Some("eth9".into())))
            .unwrap_err()
            .contains("no interface eth9")
    );
    assert!(
        facts(&pod, config(|o| o.uplink = Some("lo".into())))
            .unwrap_err()
            .contains("no address that could be")
    );
    let (pod, _node) = calico("eth0");
    assert!(
        facts(&pod, config(|o| o.qemu = Some("no-such-qemu".into())))
            .unwrap_err()
            .contains("BERTH_QEMU")
    );
}

#[test]
fn disks_come_in_the_seeds_order() {
    let (pod, _node) = calico("eth0");
    let dir = tempfile::tempdir().unwrap();
    let make = |path: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    };
    for path in [
        "volumes/b/1.img",
        "volumes/a 2/x y.img",
        "volumes/a/1.img",
        "volumes/a/not.txt",
        "dev/disk10",
        "dev/disk2",
        "dev/root",
        "image/one.qcow2",
    ] {
        make(path);
    }
    let device = dir.path().join("dev/disk3");
    support::checked(std::process::Command::new("mknod").arg(&device).args(["b", "7", "0"]));
    std::os::unix::fs::symlink(dir.path().join("volumes"), dir.path().join("volumes/loop"))
        .unwrap();
    let at = |path: &str| Some(dir.path().join(path));
    let config = config(|o| {
        (o.volumes_dir, o.device_dir, o.image_dir) = (at("volumes"), at("dev"), at("image"));
        o.image_target = Some(dir.path().join("image/one.qcow2").display().to_string());
    });
    let disks = facts(&pod, config).unwrap().disks;
    let seed = support::checked(
        std::process::Command::new("sh")
            .arg("-c")
            .arg("find volumes -name '*.img' | LC_ALL=C sort -d; ls -d dev/disk*")
            .current_dir(dir.path())
            .env("LC_ALL", "C"),
    );
    let ours: Vec<String> = disks
        .extra
        .iter()
        .map(|disk| disk.path.strip_prefix(dir.path()).unwrap().display().to_string())
        .collect();
    assert_eq!(ours, seed.lines().collect::<Vec<_>>());
    assert_eq!(disks.root_device.map(|disk| disk.path), at("dev/root"));
    assert_eq!(disks.block_devices, [device].into(), "the others are files in their place");
    assert_eq!(disks.overlays, [at("image/one.qcow2").unwrap()]);
    assert_eq!(disks.target, at("image/one.qcow2"));
}

/// What `ip` shows of bridge, tap and addresses, without what changes by itself.
fn shown(pod: &Netns) -> String {
    let keep = |text: String| {
        let volatile = ["gc_timer", "hello_timer", "tcn_timer", "topology_change_timer"];
        text.split_whitespace()
            .filter(|word| !volatile.contains(word) && word.parse::<f64>().is_err())
            .collect::<Vec<_>>()
            .join(" ")
    };
    keep(pod.ip("-d link show br0"))
        + &keep(pod.ip("-d link show tap0"))
        + &keep(pod.ip("addr show dev br0"))
}

#[test]
fn a_second_run_changes_nothing() {
    let (pod, _node) = calico("eth0");
    ensure(&pod, "eth0", 1, 1450).unwrap();
    let first = shown(&pod);
    ensure(&pod, "eth0", 1, 1450).unwrap();
    assert_eq!(shown(&pod), first);

    let bridge: serde_json::Value = serde_json::from_str(&pod.ip("-j -d addr show br0")).unwrap();
    assert_eq!(bridge[0]["address"], MAC.to_string());
    assert_eq!(bridge[0]["mtu"], 1450);
    assert_eq!(bridge[0]["addr_info"].as_array().unwrap().len(), 1, "{bridge}");
    assert_eq!(bridge[0]["addr_info"][0]["local"], "192.168.254.1");
    assert_eq!(bridge[0]["addr_info"][0]["prefixlen"], 30);
    let data = &bridge[0]["linkinfo"]["info_data"];
    assert_eq!((&data["nf_call_iptables"], &data["stp_state"]), (&0.into(), &0.into()), "{data}");
    let tap: serde_json::Value = serde_json::from_str(&pod.ip("-j -d link show tap0")).unwrap();
    assert_eq!(tap[0]["master"], "br0");
    assert_eq!(tap[0]["mtu"], 1450);
    let data = &tap[0]["linkinfo"]["info_data"];
    assert_eq!(
        (&data["persist"], &data["vnet_hdr"], &data["pi"]),
        (&true.into(), &true.into(), &false.into()),
        "{data}"
    );
    assert_eq!(data["user"].to_string().trim_matches('"').replace("nobody", "65534"), "65534");
    let port = &tap[0]["linkinfo"]["info_slave_data"];
    assert_eq!(
        (&port["hairpin"], &port["learning"], &port["flood"]),
        (&true.into(), &false.into(), &true.into())
    );
}

#[test]
fn half_made_states_converge() {
    let whole = {
        let (pod, _node) = calico("eth0");
        ensure(&pod, "eth0", 1, 1450).unwrap();
        shown(&pod)
    };
    let index = |text: &str| {
        text.split(' ').filter(|word| !word.contains(':')).collect::<Vec<_>>().join(" ")
    };
    for broken in [
        vec!["link add br0 type bridge"],
        vec![
            "link add br0 type bridge",
            "addr add 10.9.9.9/24 dev br0",
            "addr add 192.168.254.1/24 dev br0",
        ],
        vec!["tuntap add tap0 mode tap vnet_hdr", "link set tap0 mtu 1300"],
        vec![
            "link add br0 type bridge nf_call_iptables 1 mcast_snooping 1",
            "link set br0 mtu 1280",
            "tuntap add tap0 mode tap vnet_hdr",
            "link set tap0 master br0",
            "link set br0 up",
        ],
        vec![
            "link add br0 type bridge",
            "tuntap add tap0 mode tap vnet_hdr",
            "link set tap0 master br0",
            "link set tap0 type bridge_slave hairpin on flood off bcast_flood off mcast_flood off",
        ],
    ] {
        let (pod, _node) = calico("eth0");
        for words in &broken {
            pod.ip(words);
        }
        ensure(&pod, "eth0", 1, 1450).unwrap_or_else(|error| panic!("{broken:?}: {error}"));
        assert_eq!(index(&shown(&pod)), index(&whole), "{broken:?}");
    }
}

#[test]
fn a_tap_of_another_shape_is_made_anew() {
    let (pod, _node) = calico("eth0");
    ensure(&pod, "eth0", 1, 1450).unwrap();
    assert!(!pod.ip("-d link show tap0").contains("multi_queue"));
    ensure(&pod, "eth0", 3, 1450).unwrap();
    assert!(pod.ip("-d link show tap0").contains("multi_queue"));
    let queues = pod.enter(|| async { open_tap(&name("tap0"), 3).map(|fds| fds.len()) }).unwrap();
    assert_eq!(queues, 3);
    ensure(&pod, "eth0", 1, 1450).unwrap();
    assert!(!pod.ip("-d link show tap0").contains("multi_queue"));
}

#[test]
fn a_link_of_another_kind_is_named_and_left_alone() {
    let (pod, _node) = calico("eth0");
    pod.ip("link add br0 type veth peer name peer0");
    let error = ensure(&pod, "eth0", 1, 1450).unwrap_err();
    assert!(error.contains("br0 exists and is veth") && error.contains("BERTH_BRIDGE"), "{error}");
    assert!(pod.ip("-d link show br0").contains("veth"));
}

#[test]
fn a_tap_in_use_is_left_as_it_is() {
    let (pod, _node) = calico("eth0");
    ensure(&pod, "eth0", 1, 1450).unwrap();
    let held = pod.enter(|| async { open_tap(&name("tap0"), 1) }).unwrap();
    // The bridge has a carrier a moment after its port has.
    until("a port that forwards", || {
        pod.ip("-d link show tap0").contains("state forwarding")
            && pod.ip("link show br0").contains("LOWER_UP")
    });
    let before = shown(&pod);
    ensure(&pod, "eth0", 1, 1450).unwrap();
    assert_eq!(shown(&pod), before);
    drop(held);
    pod.ip("link del tap0");
    pod.ip("link add tap0 type veth peer name other0");
    assert!(ensure(&pod, "eth0", 1, 1450).unwrap_err().contains("BERTH_TAP"));
}

/// Per-device forwarding is enough: the namespace-wide switch stays off.
#[test]
fn packets_are_forwarded_though_ip_forward_is_off() {
    let (pod, node, guest) = (Netns::new("pod"), Netns::new("node"), Netns::new("guest"));
    veth(&pod, "eth0", &node, "n0");
    veth(&pod, "gport", &guest, "g0");
    pod.ip("addr add 10.1.0.2/24 dev eth0");
    node.ip("addr add 10.1.0.1/24 dev n0");
    node.ip("route add 192.168.254.0/30 via 10.1.0.2");
    guest.ip("addr add 192.168.254.2/30 dev g0");
    guest.ip("route add default via 192.168.254.1");
    pod.run("sysctl -qw net.ipv4.ip_forward=0");
    let ping = || {
        guest.command("ping").args(["-c1", "-W1", "10.1.0.1"]).output().unwrap().status.success()
    };
    pod.ip("link add br0 type bridge");
    pod.ip("link set gport master br0");
    pod.ip("addr add 192.168.254.1/30 dev br0");
    pod.ip("link set br0 up");
    assert!(!ping(), "forwarded before it was turned on");
    ensure(&pod, "eth0", 1, 1500).unwrap();
    assert!(ping());
    assert_eq!(pod.run("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
}
