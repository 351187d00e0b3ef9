//! What the chart renders, played by podman: a pod of Kubernetes without a Kubernetes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::docker::Docker;
use super::{answers, shell, world};
use crate::chart::engine::Helm;
use crate::support::{Netns, checked, find, peer};

pub const BOOT: Duration = Duration::from_secs(120);
/// Of the pods: podman makes no IPv6 by itself.
const NETWORKS: &str = "--subnet 10.89.0.0/24 --subnet fd00:b0d:6::/64";
/// Ways of this kernel and of its control groups that podman does not find by itself.
const CONF: &str = "\
[engine]
runtime = \"runc\"
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
[containers]
default_ulimits = [\"nofile=20000:20000\", \"nproc=20000:20000\"]
";

pub struct Podman {
    netns: Netns,
    dir: tempfile::TempDir,
    /// Serves the guest's image.
    server: Option<Child>,
}

impl Podman {
    /// With the image that docker built.
    pub fn start() -> Self {
        let podman =
            Self { netns: Netns::new("podman"), dir: tempfile::tempdir().unwrap(), server: None };
        std::fs::write(podman.path("containers.conf"), CONF).unwrap();
        let archive = podman.path("image.tar").display().to_string();
        {
            let docker = Docker::start();
            docker.docker(&format!("save -o {archive} {}", docker.image));
        }
        podman.podman(&format!("load -q -i {archive}"));
        std::fs::remove_file(archive).unwrap();
        podman
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where its machine's network is.
    pub fn netns(&self) -> String {
        self.netns.path()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns.path())).arg("podman");
        for (flag, path) in [
            ("--root", self.path("root")),
            ("--runroot", self.path("run")),
            ("--tmpdir", self.path("tmp")),
            ("--network-config-dir", self.path("net")),
        ] {
            command.arg(flag).arg(path);
        }
        command.env("CONTAINERS_CONF", self.path("containers.conf"));
        // No systemd here has timers for it: `podman healthcheck run` is what they would run.
        command.env("DISABLE_HC_SYSTEMD", "true");
        command
    }

    pub fn podman(&self, words: &str) -> String {
        checked(self.command().args(words.split_whitespace())).trim().to_owned()
    }

    fn said(&self, words: &str) -> String {
        let output = self.command().args(words.split_whitespace()).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The container of the VM, and the pod's addresses.
    fn of_pod(&self) -> (String, Ipv4Addr, Ipv6Addr) {
        let pods: Value =
            serde_json::from_str(&self.podman("pod inspect berth-tiny-pod-0")).unwrap();
        let infra = pods["InfraContainerID"].as_str().unwrap();
        let address = |field: &str| {
            let field = format!("{{{{.{field}}}}}");
            let format = format!("{{{{range.NetworkSettings.Networks}}}}{field}{{{{end}}}}");
            self.podman(&format!("inspect -f {format} {infra}"))
        };
        let (v4, v6) = (address("IPAddress"), address("GlobalIPv6Address"));
        ("berth-tiny-pod-0-tiny".to_owned(), v4.parse().unwrap(), v6.parse().unwrap())
    }

    pub fn ready(&self, name: &str) {
        let said = || self.said(&format!("logs {name}"));
        let ready = || said().lines().any(|line| line.trim_end().ends_with(" ready")).then_some(());
        find("the guest is ready", BOOT, said, ready);
    }

    /// The guest's image by HTTP, on every address of the namespace.
    fn serve(&mut self) {
        let dir = self.path("www");
        std::fs::create_dir(&dir).unwrap();
        std::fs::copy(world::tiny(), dir.join("tiny.qcow2")).unwrap();
        let mut server = self.netns.command("python3");
        server.args(["-m", "http.server", "8000", "--directory"]).arg(dir);
        self.server = Some(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.said("pod rm -f -t 0 -a");
        let _ = self.said("volume rm -a -f");
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The chart's objects, without the hook of `helm test`, and without the claim of a volume that is there already: podman 4.3
/// takes that for a mistake.
fn rendered(claim: bool) -> String {
    let values = json!({
        "single": true,
        "accel": "tcg",
        "devices": {"tun": "hostPath"},
        "vmlist": {"tiny": {
            "enabled": true,
            "hostname": "demo",
            "vmconfig": {
                "cpu": {"vcpu": 1, "ram_mb": 192},
                "rootfs": {"sourceurl": "http://10.89.0.1:8000/tiny.qcow2", "localtarget": "guest.qcow2", "pvc_size": "1Gi"},
            },
            "netconfig": {"ports": {"hello": 8080}, "readinessTcpProbe": 8080},
            "cloudconfig": {"metadata": "instance-id: of-the-chart", "userdata": "#cloud-config\n# by the chart\n"},
        }},
    });
    let objects = Helm::start().objects(&json!({"values": values}));
    let objects =
        objects.iter().filter(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_null());
    let objects = objects.filter(|object| claim || object["kind"] != "PersistentVolumeClaim");
    objects.map(|object| format!("---\n{object}\n")).collect()
}

#[test]
fn what_the_chart_renders_is_a_vm_under_podman_and_its_disk_stays() {
    let mut podman = Podman::start();
    let file = podman.path("vm.yaml").display().to_string();
    podman.serve();
    // The one that it would make itself, with IPv6.
    podman.podman(&format!("network create --ipv6 {NETWORKS} podman-default-kube-network"));
    let mut macs = Vec::new();
    for boots in ["1", "2"] {
        std::fs::write(podman.path("vm.yaml"), rendered(boots == "1")).unwrap();
        podman.podman(&format!("kube play {file}"));
        let (name, address, address6) = podman.of_pod();
        podman.ready(&name);
        let from = podman.netns.path();
        answers(&from, Ipv4Addr::new(10, 89, 0, 1), address);
        let lease = format!("lease6 {address6}");
        let said = || podman.said(&format!("logs {name}"));
        find("its IPv6 address", BOOT, said, || said().contains(&lease).then_some(()));
        let hello = peer::tcp(&from, address6, 8080, "");
        assert!(hello.contains(&format!("at [{address6}], you are [fd00:b0d:6::1]")), "{hello}");
        let guest = |line: &str| shell(&from, address, line);
        assert_eq!(guest("cat /data/boots").trim(), boots);
        // What cloud-init reads: the ConfigMap's data.
        assert!(guest("cat /seed/openstack/latest/user_data").contains("# by the chart"));
        assert!(guest("cat /seed/openstack/latest/meta_data.json").contains("of-the-chart"));
        macs.push(guest("cat /sys/class/net/eth0/address"));
        // The probes of the chart, as podman runs them.
        assert!(podman.said(&format!("exec {name} berth status")).contains("running, tcg"));
        podman.podman(&format!("healthcheck run {name}"));
        podman.podman(&format!("stop -t 30 {name}"));
        assert_eq!(podman.podman(&format!("inspect -f {{{{.State.ExitCode}}}} {name}")), "0");
        podman.podman(&format!("kube down {file}"));
    }
    assert_eq!(macs[0], macs[1]);
}
