//! `examples/compose.yaml` as it is, by both programs that read it: Compose v2, and docker-compose 1.29.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::docker::Docker;
use super::shell;
use super::world;
use crate::support::{checked, peer, within};

pub const TOKEN: &str = "a-token-of-the-tests-0123456789";
const FILE: &str = "examples/compose.yaml";
const KVM: &str = "/dev/kvm";
/// What is this machine's and not the example's: emulation, and the tiny guest, which has another service than SSH.
const HERE: &str = "
services:
  vm:
    environment: {BERTH_ACCEL: tcg, IMG_RAM_MB: '192', IMG_SOURCE: /tiny.qcow2}
    volumes: ['./tiny.qcow2:/tiny.qcow2:ro']
    ports: ['127.0.0.1:8080:8080']
";

/// Where Debian 13's `quadlet` and `docker-compose` are.
pub fn newer() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/containers/trixie.sh");
    PathBuf::from(checked(Command::new("bash").arg(script)).trim())
}

/// What a machine answers at the page's port of its localhost.
pub fn page(machine: &str, token: &str) -> String {
    let ask = format!(
        "GET /status HTTP/1.1\r\nHost: localhost:6080\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    within(machine, move || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 6080)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(ask.as_bytes()).unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        got
    })
}

/// On the machine itself: what it publishes on its localhost, and all of the guest by the container's address.
pub fn is_reached_on_the_machine(machine: &str, own: Ipv4Addr, vm: Ipv4Addr) {
    let hello = peer::answers(machine, own, vm);
    assert!(hello.contains("hello from vm at 192.168.254.2"), "{hello}");
    assert!(peer::tcp(machine, Ipv4Addr::LOCALHOST, 8080, "").contains("hello from vm"));
    assert!(page(machine, "a-wrong-token-of-many-letters").starts_with("HTTP/1.1 401 "));
    let status = page(machine, TOKEN);
    assert!(status.starts_with("HTTP/1.1 200 ") && status.contains("\"ready\":true"), "{status}");
    // There is no VNC: that port, too, is the guest's.
    assert_eq!(peer::tcp(machine, vm, 5900, "").trim(), "guest-5900");
}

/// The guest powered off by itself.
pub fn ended_well(logs: &str) {
    assert!(logs.contains("power button pressed") && !logs.contains("quitting QEMU"), "{logs}");
}

struct Project<'a> {
    docker: &'a Docker,
    program: PathBuf,
}

impl<'a> Project<'a> {
    /// The example in a directory of its own, with what it wants beside it.
    fn new(docker: &'a Docker) -> Self {
        let dir = docker.path("vm");
        std::fs::create_dir(&dir).unwrap();
        let mut text = std::fs::read_to_string(FILE).unwrap();
        assert!(text.contains(&format!("image: {}\n", docker.image)), "{text}");
        if !Path::new(KVM).exists() {
            // As its comment says.
            let without = text.replace(&format!("      - {KVM}\n"), "");
            assert_ne!(without, text);
            text = without;
        }
        std::fs::write(dir.join("compose.yaml"), text).unwrap();
        std::fs::write(dir.join("here.yaml"), HERE).unwrap();
        std::fs::write(dir.join("web-token"), format!("{TOKEN}\n")).unwrap();
        std::fs::copy(world::tiny(), dir.join("tiny.qcow2")).unwrap();
        checked(Command::new("chmod").args(["-R", "a+rX"]).arg(&dir));
        Self { docker, program: PathBuf::new() }
    }

    fn output(&self, words: &str) -> Output {
        let mut command = Command::new(&self.program);
        command.args(["-f", "compose.yaml", "-f", "here.yaml"]).args(words.split(' '));
        command.current_dir(self.docker.path("vm")).env("DOCKER_HOST", self.docker.host());
        command.output().unwrap()
    }

    fn compose(&self, words: &str) -> String {
        let Output { status, stdout, stderr } = self.output(words);
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{} {words}: {said}", self.program.display());
        String::from_utf8(stdout).unwrap().trim().to_owned()
    }

    /// From nothing to a guest and to nothing again, but its disk.
    fn plays(&self, boots: &str) {
        let warned = self.output("config --quiet").stderr;
        assert_eq!(String::from_utf8_lossy(&warned), "", "{}", self.program.display());
        let docker = self.docker;
        self.compose("up -d");
        let id = self.compose("ps -q vm");
        docker.ready(&id, 1);
        let health = || docker.inspect(&id, "{{.State.Health.Status}}");
        docker.until("a healthy container", || (health() == "healthy").then_some(()));
        let (vm, vm6) = docker.both(&id);
        let own = docker.of_network(&id, "Gateway").parse().unwrap();
        let machine = docker.netns();
        is_reached_on_the_machine(&machine, own, vm);
        let lease = format!("lease6 {vm6}");
        docker.until("its IPv6 address", || docker.logs(&id).contains(&lease).then_some(()));
        let hello = peer::tcp(&machine, vm6, 8080, "");
        assert!(hello.starts_with(&format!("hello from vm at [{vm6}]")), "{hello}");
        assert_eq!(shell(&machine, vm, "cat /data/boots").trim(), boots);

        let path = docker.path("followed");
        let said = File::create(&path).unwrap();
        let mut follow = docker.command();
        follow.args(["logs", "--follow", &id]).stdout(said.try_clone().unwrap()).stderr(said);
        let mut follow = follow.spawn().unwrap();
        let followed = || std::fs::read_to_string(&path).unwrap();
        docker.until("its log", || followed().contains(" ready").then_some(()));
        self.compose("down");
        follow.wait().unwrap();
        ended_well(&followed());
        assert_eq!(docker.docker("ps -aq"), "");
        assert!(!docker.docker("network ls").contains("vm_default"));
    }
}

#[test]
fn the_compose_file_is_a_vm_by_compose_v2_and_by_debians_docker_compose() {
    let docker = Docker::start();
    let mut project = Project::new(&docker);
    project.program = "docker-compose".into();
    println!("{}", project.compose("version"));
    project.plays("1");
    project.program = newer().join("docker-compose");
    assert!(project.compose("version").starts_with("Docker Compose version 2."));
    project.plays("2");
    assert!(docker.docker("volume ls -q").contains("vm_disk"));
    // Without the token beside it, it says what is missing.
    std::fs::remove_file(docker.path("vm/web-token")).unwrap();
    let said = String::from_utf8(project.output("up -d").stderr).unwrap();
    assert!(said.contains("web-token"), "{said}");
}
