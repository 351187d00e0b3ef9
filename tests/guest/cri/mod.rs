//! The pod as a kubelet makes it. There is no kubelet here, but its runtime: containerd is told over its CRI socket to make each
//! example's pod, as Helm's engine renders it, with the network of CNI plugins. What is otherwise than rendered is in `spec.rs`.

mod api;
mod containerd;
mod kubelet;
mod pod;
mod seen;
mod spec;
mod volumes;

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::chart::engine::{Helm, examples};
use crate::support::peer::{self, shell};
use containerd::{Containerd, SERVICE};
use pod::Pod;
use spec::Spec;

/// What Helm's engine makes of an example.
fn rendered(example: &str) -> Vec<Value> {
    let path = examples()
        .into_iter()
        .find(|path| path.file_stem().is_some_and(|stem| stem == example))
        .unwrap();
    Helm::start().objects(&json!({"yaml": std::fs::read_to_string(path).unwrap()}))
}

fn deployments(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects.iter().filter(|object| object["kind"] == "Deployment")
}

/// Another pod of the node: where it is in the network.
struct Peer<'a> {
    pod: Pod<'a>,
    netns: String,
}

impl<'a> Peer<'a> {
    fn new(cri: &'a Containerd) -> Self {
        let pod = Pod::sandbox(cri, Spec::empty("peer", cri.dir.path()));
        let netns = pod.netns();
        Self { pod, netns }
    }

    /// The guest answers at the address of the pod's sandbox, and is whom the pod names.
    fn answered_by(&self, pod: &Pod) {
        let hello = peer::answers(&self.netns, self.pod.address, pod.address);
        let name = pod.spec.host_name();
        // A VM's own may have a domain.
        let told = hello.strip_prefix(&format!("hello from {name}"));
        assert!(told.is_some_and(|rest| rest.starts_with([' ', '.'])), "{name}: {hello}");
    }

    fn guest(&self, pod: &Pod, line: &str) -> String {
        shell(&self.netns, pod.address, line).trim().to_owned()
    }

    fn boots(&self, pod: &Pod) -> u32 {
        let said = self.guest(pod, "cat /data/boots");
        said.parse().unwrap_or_else(|_| panic!("{said:?}"))
    }
}

/// The order in which a kubelet stops: sidecars last. All end by themselves, the guest by its power button.
fn stop(pod: &Pod) {
    let guest = pod.spec.guest();
    for container in pod.spec.containers().iter().rev() {
        let name = container["name"].as_str().unwrap();
        assert_eq!(pod.stop(name), 0, "{name}\n{}", pod.log(name));
    }
    let log = pod.log(&guest);
    assert!(log.contains("power button pressed") && !log.contains("quitting QEMU"), "{log}");
}

/// Where readiness is a port that the tiny guest does not serve, it is not ready until it does.
fn becomes_ready(peer: &Peer, pod: &Pod) {
    let guest = pod.spec.guest();
    if let Some(port) = pod.spec.container(&guest)["readinessProbe"]["tcpSocket"]["port"].as_u64() {
        assert!(pod.probe(&guest, "readinessProbe").is_err());
        peer.guest(pod, &format!("setsid serve tcp {port} cat </dev/null >/dev/null 2>&1 &"));
    }
    pod.until(&guest, "readinessProbe");
    for container in pod.spec.containers() {
        let name = container["name"].as_str().unwrap();
        assert_eq!(pod.probe(name, "livenessProbe"), Ok(()), "{name}");
    }
}

#[test]
fn the_pods_of_all_examples_run_as_a_kubelet_makes_them() {
    let cri = Containerd::start("bridge");
    let peer = Peer::new(&cri);
    for example in examples() {
        let example = example.file_stem().unwrap().to_str().unwrap().to_owned();
        let objects = rendered(&example);
        assert!(deployments(&objects).count() > 0, "{example}");
        for deployment in deployments(&objects) {
            eprintln!("{example}: {}", deployment["metadata"]["name"]);
            let pod = Pod::run(&cri, Spec::of(deployment, &objects, cri.dir.path()));
            pod.booted(&pod.spec.guest());
            peer.answered_by(&pod);
            let resolved = peer.guest(&pod, &format!("nslookup {}", SERVICE.0));
            assert!(resolved.contains(SERVICE.1), "{resolved}");
            becomes_ready(&peer, &pod);
            seen::as_rendered(&pod);
            stop(&pod);
        }
    }
}

#[test]
fn either_container_of_a_pod_restarts_alone() {
    let cri = Containerd::start("ptp");
    let peer = Peer::new(&cri);
    let objects = rendered("cirros-test");
    let deployment = deployments(&objects).next().unwrap();
    let mut pod = Pod::run(&cri, Spec::of(deployment, &objects, cri.dir.path()));
    let guest = pod.spec.guest();
    pod.booted(&guest);
    peer.answered_by(&pod);
    let (boots, vm) = (peer.boots(&pod), pod.pid(&guest));
    let answers_as_before = |pod: &Pod| {
        peer.answered_by(pod);
        assert_eq!((peer.boots(pod), pod.pid(&guest)), (boots, vm));
    };

    // The network's: the guest runs on, and has its connections' other end again.
    assert_eq!(pod.stop("net"), 0);
    pod.start_again("net");
    answers_as_before(&pod);
    assert_eq!(pod.kill("net"), 137);
    pod.start_again("net");
    answers_as_before(&pod);
    // The two find each other again.
    pod.until(&guest, "readinessProbe");

    // The guest's: the network's stays as it is.
    let net = pod.pid("net");
    for (number, ended) in [(1, 0), (2, 137)] {
        let code = if ended == 0 { pod.stop(&guest) } else { pod.kill(&guest) };
        assert_eq!(code, ended, "{}", pod.log(&guest));
        pod.start_again(&guest);
        pod.booted(&guest);
        peer.answered_by(&pod);
        assert_eq!((peer.boots(&pod), pod.pid("net")), (boots + number, net));
    }
    stop(&pod);
}

#[test]
fn a_pod_of_one_container_restarts_in_its_sandbox() {
    let cri = Containerd::start("bridge");
    let peer = Peer::new(&cri);
    let objects = rendered("emulated");
    let deployment = deployments(&objects).next().unwrap();
    let mut pod = Pod::run(&cri, Spec::of(deployment, &objects, cri.dir.path()));
    let guest = pod.spec.guest();
    pod.booted(&guest);
    let boots = peer.boots(&pod);
    for (number, ended) in [(1, 0), (2, 137)] {
        let code = if ended == 0 { pod.stop(&guest) } else { pod.kill(&guest) };
        assert_eq!(code, ended, "{}", pod.log(&guest));
        pod.start_again(&guest);
        pod.booted(&guest);
        peer.answered_by(&pod);
        assert_eq!(peer.boots(&pod), boots + number);
    }
    stop(&pod);
}

/// What a kubelet does after a restart of the node's runtime, say: the volumes stay, everything else is new.
#[test]
fn a_pod_whose_sandbox_is_lost_goes_on_in_another() {
    let cri = Containerd::start("ptp");
    let peer = Peer::new(&cri);
    let objects = rendered("cirros-test");
    let deployment = deployments(&objects).next().unwrap();
    let mut pod = Pod::run(&cri, Spec::of(deployment, &objects, cri.dir.path()));
    let guest = pod.spec.guest();
    pod.booted(&guest);
    let mac = |pod: &Pod| peer.guest(pod, "cat /sys/class/net/eth0/address");
    let before = (peer.boots(&pod) + 1, mac(&pod));
    let address = pod.address;
    pod.move_to_another_sandbox();
    pod.booted(&guest);
    peer.answered_by(&pod);
    assert_eq!((peer.boots(&pod), mac(&pod)), before);
    assert_ne!(pod.address, address);
    stop(&pod);
}

#[test]
fn the_pod_of_helm_test_finds_that_a_node_lets_a_launcher_work() {
    let cri = Containerd::start("bridge");
    for example in ["cirros-test", "emulated"] {
        let objects = rendered(example);
        let hook = objects.iter().find(|object| object["kind"] == "Pod").unwrap();
        let pod = Pod::run(&cri, Spec::of(hook, &objects, cri.dir.path()));
        assert_ne!(pod.address, Ipv4Addr::UNSPECIFIED);
        assert_eq!(pod.ended("selftest"), 0, "{}", pod.log("selftest"));
    }
}
