//! A network of Docker's with IPv6: the guest has the container's address there, and nothing is written below /proc/sys.
//!
//! Docker turns IPv6 off in a container and on again for the links that it makes itself: a bridge that is made inside has
//! none, unless one `--sysctl` of the container's says otherwise.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::Command;

use super::{SINGLE, answers, docker::Docker, guest, shell};
use crate::support::{checked, peer, within};

const NETWORK: &str = "fd00:d0c:6::/64";
/// The line of docs/containers.md.
const ON: &str = "--sysctl net.ipv6.conf.default.disable_ipv6=0";

impl Docker {
    /// Of a container that is on one network.
    pub fn of_network(&self, name: &str, field: &str) -> String {
        let field = format!("{{{{.{field}}}}}");
        let each = "{{range.NetworkSettings.Networks}}";
        self.docker(&format!("inspect -f {each}{field}{{{{end}}}} {name}"))
    }

    pub fn both(&self, name: &str) -> (Ipv4Addr, Ipv6Addr) {
        let field = |field| self.of_network(name, field);
        (field("IPAddress").parse().unwrap(), field("GlobalIPv6Address").parse().unwrap())
    }
}

/// Who calls a port of a namespace; it is told that it did.
fn caller(from: &str, port: u16) -> std::thread::JoinHandle<IpAddr> {
    let listener = within(from, move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.write_all(b"called\n").unwrap();
        from.ip()
    })
}

fn ping(from: &str, to: Ipv6Addr) {
    let mut ping = Command::new("nsenter");
    ping.arg(format!("--net={from}")).args(["ping", "-6", "-c", "2", "-i", "0.2", "-W", "2"]);
    checked(ping.arg(to.to_string()));
}

#[test]
fn the_guest_has_the_containers_ipv6_address_and_where_there_is_none_ipv4_goes_on() {
    let docker = Docker::start();
    let (image, guest) = (docker.image.clone(), guest(&docker));
    docker.docker(&format!("network create --ipv6 --subnet {NETWORK} six"));
    docker.docker(&format!("run -d --name vm --network six {ON} {SINGLE} {guest} {image}"));
    docker.docker(&format!("run -d --name old --network six {SINGLE} {guest} {image}"));
    docker.docker(&format!(
        "run -d --name peer --network six -v /bin/busybox:/busybox:ro --entrypoint /busybox {image} sleep 1000"
    ));
    let from = format!("/proc/{}/ns/net", docker.pid("peer"));
    let ((_, vm), (old, _), (peer4, peer6)) =
        (docker.both("vm"), docker.both("old"), docker.both("peer"));

    docker.ready("vm", 1);
    let lease = format!("lease6 {vm}");
    docker.until("the guest's IPv6 address", || docker.logs("vm").contains(&lease).then_some(()));
    let hello = peer::tcp(&from, vm, 8080, "");
    let begin = format!("hello from demo at [{vm}], you are [{peer6}]");
    assert!(hello.starts_with(&begin), "{hello}");
    ping(&from, vm);
    let called = caller(&from, 777);
    let told = shell(&from, vm, &format!("ping -6 -c 1 -W 3 {peer6}; nc {peer6} 777 </dev/null"));
    assert!(told.contains("1 packets received") && told.contains("called"), "{told}");
    assert_eq!(called.join().unwrap(), IpAddr::V6(vm));

    // As Docker has it, and nobody inside could have changed it.
    let forwarding = "/proc/sys/net/ipv6/conf/all/forwarding";
    assert_eq!(docker.docker(&format!("exec vm cat {forwarding}")), "0");
    let (code, said) = docker.tried(&format!("exec vm dd of={forwarding}"));
    assert!(code != Some(0) && said.contains("Read-only file system"), "{said}");
    let (code, status) = docker.tried("exec vm berth status");
    assert!(code == Some(0) && status.contains(&format!("own: {vm}, by fwd")), "{status}");

    docker.ready("old", 1);
    answers(&from, peer4, old);
    let logs = docker.logs("old");
    let told: Vec<&str> = logs.lines().filter(|line| line.contains("IPv6")).collect();
    assert_eq!(told.len(), 1, "{logs}");
    assert!(
        told[0].contains("the guest has no IPv6: net.ipv6.conf.default.disable_ipv6 is 1"),
        "{}",
        told[0]
    );
    for name in ["vm", "old"] {
        assert!(!docker.logs(name).contains("ERROR"), "{}", docker.logs(name));
    }
}
