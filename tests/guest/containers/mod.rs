//! The launcher image as it is used: real containers, real guests, no privileged ones among them.

mod compose;
pub mod docker;
mod ipv6;
mod podman;
mod quadlet;
mod sbom;

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use crate::support::peer::{self, shell};
use crate::support::world;
use docker::Docker;

/// The line of README and docs/containers.md.
const SINGLE: &str = "--cap-drop ALL --cap-add NET_ADMIN --cap-add NET_BIND_SERVICE --cap-add SETUID --cap-add SETGID \
                      --cap-add KILL --device /dev/net/tun --security-opt no-new-privileges --read-only \
                      --tmpfs /run/berth --stop-timeout 30";
const NET: &str = "--cap-drop ALL --cap-add NET_ADMIN --cap-add NET_BIND_SERVICE --device /dev/net/tun \
                   --security-opt no-new-privileges --read-only --tmpfs /run/berth";
const VM: &str = "--cap-drop ALL --device /dev/net/tun --security-opt no-new-privileges --read-only --user 65534:65534 \
                  --tmpfs /run/berth --stop-timeout 30";

/// The guest's environment and its image, for docker.
fn guest(docker: &Docker) -> String {
    let image = docker.path("tiny.qcow2");
    if !image.exists() {
        std::fs::copy(world::tiny(), &image).unwrap();
        std::fs::set_permissions(&image, PermissionsExt::from_mode(0o644)).unwrap();
    }
    format!(
        "-e BERTH_ACCEL=tcg -e BERTH_NAME=demo -e HOSTNAME=demo -e IMG_RAM_MB=192 -e IMG_TARGET=/tiny.qcow2 -v {}:/tiny.qcow2:ro",
        image.display()
    )
}

/// What the guest gives to another network, and who it is.
fn answers(from: &str, address: Ipv4Addr, to: Ipv4Addr) {
    let hello = peer::answers(from, address, to);
    assert!(hello.contains("hello from demo at 192.168.254.2"), "{hello}");
}

/// A container that does nothing, to be in its network: where that is, and its address.
fn peer(docker: &Docker) -> (String, Ipv4Addr) {
    let image = &docker.image;
    docker.docker(&format!(
        "run -d --name peer -v /bin/busybox:/busybox:ro --entrypoint /busybox {image} sleep 1000"
    ));
    (format!("/proc/{}/ns/net", docker.pid("peer")), docker.address("peer"))
}

fn effective(pid: &str) -> (String, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    (field("Uid:"), u64::from_str_radix(&field("CapEff:"), 16).unwrap())
}

fn children(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_image_is_small_and_says_what_it_is() {
    let docker = Docker::start();
    let image = &docker.image;
    let size: u64 =
        docker.docker(&format!("image inspect -f {{{{.Size}}}} {image}")).parse().unwrap();
    assert!(size < 200_000_000, "{size}");
    let told: serde_json::Value =
        serde_json::from_str(&docker.docker(&format!("image inspect {image}"))).unwrap();
    let label = |name: &str| {
        told[0]["Config"]["Labels"][format!("org.opencontainers.image.{name}")].clone()
    };
    assert_eq!(
        (label("title"), label("version")),
        ("berth".into(), env!("CARGO_PKG_VERSION").into())
    );
    let setuid =
        docker.docker(&format!("run --rm --entrypoint find {image} / -xdev -type f -perm /6000"));
    assert_eq!(setuid, "");
    sbom::is_true(&docker);
    // What needs no capability runs as anybody, and without a writable root.
    let version = docker
        .docker(&format!("run --rm --read-only --user 65534 --cap-drop ALL {image} --version"));
    assert_eq!(version, format!("berth {}", env!("CARGO_PKG_VERSION")));
    let (code, said) = docker.tried(&format!("run --rm --read-only --user 65534 --cap-drop ALL -e IMG_TARGET=x.qcow2 -e IMG_SOURCE=file:///x {image} plan"));
    assert!(code == Some(0) && said.contains("plan for"), "{said}");
    // Without what it needs it says so, at once.
    let (code, said) = docker.tried(&format!("run --rm --cap-drop ALL {} {image}", guest(&docker)));
    assert!(code != Some(0) && said.contains("NET_ADMIN"), "{code:?} {said}");
}

#[test]
fn a_guest_in_an_unprivileged_container_is_the_container_and_survives_a_restart() {
    let docker = Docker::start();
    let (image, guest) = (docker.image.clone(), guest(&docker));
    docker.docker(&format!("run -d --name vm {SINGLE} {guest} -v vm-disk:/image {image}"));
    let (from, peer) = peer(&docker);
    docker.ready("vm", 1);
    let address = docker.address("vm");
    answers(&from, peer, address);
    let (code, said) = docker.tried("exec vm berth status");
    assert!(code == Some(0) && said.contains("running, tcg"), "{said}");
    // The guest: nobody, without capabilities.
    let qemu = children(docker.pid("vm"));
    assert_eq!(
        qemu.iter().map(|pid| effective(pid)).collect::<Vec<_>>(),
        [("65534".to_owned(), 0)]
    );
    let mac = shell(&from, address, "cat /sys/class/net/eth0/address");
    let boots = shell(&from, address, "cat /data/boots");

    docker.docker("stop vm");
    let logs = docker.logs("vm");
    assert_eq!(docker.inspect("vm", "{{.State.ExitCode}}"), "0", "{logs}");
    assert!(logs.contains("power button pressed") && !logs.contains("quitting QEMU"), "{logs}");

    // `docker restart` of one that runs, too: the same container, a new network namespace each time.
    docker.docker("start vm");
    docker.ready("vm", 2);
    docker.docker("restart vm");
    docker.ready("vm", 3);
    let address = docker.address("vm");
    answers(&from, peer, address);
    assert_eq!(shell(&from, address, "cat /sys/class/net/eth0/address"), mac);
    let now = shell(&from, address, "cat /data/boots");
    let number = |text: &str| text.trim().parse::<u32>().unwrap_or_else(|_| panic!("{text:?}"));
    assert_eq!(number(&now), number(&boots) + 2);
}

#[test]
fn two_containers_share_a_network_and_the_one_with_the_guest_can_do_nothing() {
    let docker = Docker::start();
    let (image, guest) = (docker.image.clone(), guest(&docker));
    docker.docker(&format!("run -d --name net {NET} {guest} {image} net"));
    let (from, peer) = peer(&docker);
    docker.docker(&format!("run -d --name vm --network container:net {VM} {guest} {image} vm"));
    docker.ready("vm", 1);
    let address = docker.address("net");
    answers(&from, peer, address);

    let vm = docker.pid("vm");
    assert_eq!(effective(&vm.to_string()), ("65534".to_owned(), 0));
    assert_eq!(
        children(vm).iter().map(|pid| effective(pid)).collect::<Vec<_>>(),
        [("65534".to_owned(), 0)]
    );
    // NET_ADMIN (12) and NET_BIND_SERVICE (10).
    assert_eq!(effective(&docker.pid("net").to_string()), ("0".to_owned(), 1 << 12 | 1 << 10));
    assert!(docker.docker("exec net berth status").contains("serving"));
    assert!(docker.docker("exec vm berth status").contains("running"));

    // The network half ends and comes back: the guest does not.
    docker.docker("stop net");
    assert_eq!(docker.inspect("net", "{{.State.ExitCode}}"), "0");
    assert_eq!(docker.inspect("vm", "{{.State.Status}}"), "running");
    docker.docker("stop vm");
    let logs = docker.logs("vm");
    assert_eq!(docker.inspect("vm", "{{.State.ExitCode}}"), "0", "{logs}");
    assert!(logs.contains("power button pressed"), "{logs}");
}

/// Docker gives a container that is started again a new network namespace, and leaves those who shared the old one there.
#[test]
fn a_restart_of_the_network_half_is_told_by_the_half_with_the_guest_and_cured_by_its_own() {
    let docker = Docker::start();
    let (image, guest) = (docker.image.clone(), guest(&docker));
    docker.docker(&format!("run -d --name net {NET} {guest} {image} net"));
    let (from, peer) = peer(&docker);
    docker.docker(&format!("run -d --name vm --network container:net {VM} {guest} {image} vm"));
    docker.ready("vm", 1);
    let status = |name: &str| docker.tried(&format!("exec {name} berth status"));
    docker.until("vm ready", || (status("vm").0 == Some(0)).then_some(()));

    docker.docker("restart net");
    docker.until("vm not ready", || (status("vm").0 == Some(1)).then_some(()));
    assert!(
        status("vm").1.contains("no `berth net` serves in this network namespace"),
        "{:?}",
        status("vm")
    );
    docker.until("the line", || {
        docker.logs("vm").contains("its container was started again").then_some(())
    });
    docker.until("net ready", || (status("net").0 == Some(0)).then_some(()));
    docker.docker("restart vm");
    docker.ready("vm", 2);
    docker.until("vm ready", || (status("vm").0 == Some(0)).then_some(()));
    answers(&from, peer, docker.address("net"));

    // By itself, as docs/containers.md has it.
    docker.docker("rm -f vm");
    docker.docker(&format!(
        "run -d --name vm --restart on-failure -e BERTH_ON_NET_LOST=exit --network container:net {VM} {guest} {image} vm"
    ));
    docker.ready("vm", 1);
    docker.docker("restart net");
    docker.ready("vm", 2);
    assert_eq!(docker.inspect("vm", "{{.RestartCount}}"), "1", "{}", docker.logs("vm"));
    docker.until("vm ready", || (status("vm").0 == Some(0)).then_some(()));
    answers(&from, peer, docker.address("net"));
}

#[test]
fn the_image_boots_by_uefi_too() {
    let docker = Docker::start();
    let (image, guest) = (docker.image.clone(), guest(&docker));
    docker.docker(&format!(
        "run -d --name vm {SINGLE} {guest} {image} run -- -bios /usr/share/ovmf/OVMF.fd"
    ));
    docker.until("UEFI's own words", || docker.logs("vm").contains("BdsDxe").then_some(()));
}

/// What each of them is for: the container without that one.
#[test]
fn each_capability_of_the_readmes_line_is_missed_when_it_is_left_out() {
    let docker = Docker::start();
    let (image, guest) = (docker.image.clone(), guest(&docker));
    let without = |capability: &str| {
        let line = SINGLE.replace(&format!("--cap-add {capability} "), "");
        assert_ne!(line, SINGLE, "{capability}");
        line
    };
    // As Kubernetes has it; Docker opens all ports.
    let ports = "--sysctl net.ipv4.ip_unprivileged_port_start=1024";
    for (capability, more, code, why) in
        [("NET_ADMIN", "", 4, "NET_ADMIN"), ("NET_BIND_SERVICE", ports, 18, "CAP_NET_BIND_SERVICE")]
    {
        let (ended, said) =
            docker.tried(&format!("run --rm {} {more} {guest} {image}", without(capability)));
        assert!(
            ended == Some(code) && said.contains(why),
            "without {capability}: {ended:?} {said}"
        );
    }
    // QEMU stays what the container is.
    for capability in ["SETUID", "SETGID"] {
        docker
            .docker(&format!("run -d --name {capability} {} {guest} {image}", without(capability)));
        docker.ready(capability, 1);
        let qemu: Vec<_> =
            children(docker.pid(capability)).iter().map(|pid| effective(pid).0).collect();
        assert_eq!(qemu, ["0"], "without {capability}");
        docker.docker(&format!("rm -f {capability}"));
    }
    // Nobody may end a QEMU of another uid by force.
    docker.docker(&format!("run -d --name kill {} {guest} {image}", without("KILL")));
    docker.ready("kill", 1);
    docker.docker("stop kill");
    assert_eq!(docker.inspect("kill", "{{.State.ExitCode}}"), "0", "it ends when it is asked to");
}
