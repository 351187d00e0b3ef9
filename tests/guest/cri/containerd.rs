//! A containerd of the test's own, with its CRI plugin: its bridge and its pods' networks hang on a network namespace that the
//! test made (the node), its images stay in the cache, everything else is gone with it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::api::{self, Call};
use super::spec::cgroups;
use crate::containers::docker::{Docker, cache};
use crate::support::{Netns, PATIENCE, checked, find, world};

/// The node in the pods' network.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
/// What `images.vmrunner` is unless somebody says otherwise.
pub const IMAGE: &str = concat!("berth:", env!("CARGO_PKG_VERSION"));
/// A service of every cluster.
pub const SERVICE: (&str, &str) = ("kubernetes.default.svc.cluster.local", "10.96.0.1");
const PAUSE: &str = "berth-pause:local";
/// The whole of a pod's life, its grace included, is in it.
const CALL: Duration = Duration::from_secs(360);

pub struct Containerd {
    daemon: Child,
    /// The images' and the cluster's names'.
    servers: [Child; 2],
    runtime: Runtime,
    channel: Channel,
    pub node: Netns,
    pub dir: tempfile::TempDir,
    /// One daemon at a time has the images.
    _lock: File,
}

impl Containerd {
    /// Pods on a network of this CNI plugin, with the launcher image of this checkout.
    pub fn start(plugin: &str) -> Self {
        let home = cache().join("containerd");
        std::fs::create_dir_all(&home).unwrap();
        let lock = File::create(home.with_extension("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let (node, dir) = (Netns::new("node"), tempfile::tempdir().unwrap());
        let archive = archive(&home, dir.path());
        configure(&home, dir.path(), plugin);

        let daemon = daemon(&node, dir.path());
        let servers = [serve(&node, &dir.path().join("www")), names(&node)];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket = format!("unix://{}", dir.path().join("sock").display());
        let endpoint = Endpoint::from_shared(socket).unwrap();
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        let containerd = Self { daemon, servers, runtime, channel, node, dir, _lock: lock };
        containerd.ready();
        // What a test left behind that was ended by force.
        containerd.remove_pods();
        if let Some((archive, id)) = archive {
            containerd.import(&archive);
            std::fs::write(home.join("image"), id).unwrap();
        }
        containerd
    }

    pub fn tried<C: Call>(&self, request: C) -> Result<C::Answer, String> {
        let channel = self.channel.clone();
        self.runtime.block_on(async {
            match tokio::time::timeout(CALL, api::call(channel, request)).await {
                Ok(answer) => answer.map_err(|status| status.message().to_owned()),
                Err(_) => Err(format!("{} takes longer than {CALL:?}", C::PATH)),
            }
        })
    }

    /// Panics when the runtime says no.
    pub fn call<C: Call>(&self, request: C) -> C::Answer {
        self.tried(request).unwrap_or_else(|error| panic!("{}: {error}", C::PATH))
    }

    /// Until the runtime and its network are.
    fn ready(&self) {
        let state =
            || self.tried(api::StatusRequest {}).map(|status| status.status.unwrap().conditions);
        let seen = || {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            format!("{:?}\n{log}", state())
        };
        find("the runtime and its network", PATIENCE, seen, || {
            state().is_ok_and(|all| all.len() > 1 && all.iter().all(|one| one.status)).then_some(())
        });
    }

    fn ctr(&self, words: &[&str]) -> String {
        let socket = self.dir.path().join("sock");
        checked(
            Command::new("ctr")
                .arg("--address")
                .arg(socket)
                .args(["--namespace", "k8s.io"])
                .args(words),
        )
    }

    /// Instead of what was imported before.
    fn import(&self, archive: &Path) {
        let old = self.ctr(&["images", "list", "--quiet"]);
        for image in old.lines() {
            self.ctr(&["images", "remove", "--sync", image]);
        }
        self.ctr(&[
            "images",
            "import",
            "--snapshotter",
            "overlayfs",
            &archive.display().to_string(),
        ]);
        std::fs::remove_file(archive).unwrap();
    }

    fn remove_pods(&self) {
        let pods =
            self.tried(api::ListPodSandboxRequest {}).map(|all| all.items).unwrap_or_default();
        for pod in pods {
            let _ = self.tried(api::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() });
            let _ = self.tried(api::RemovePodSandboxRequest { pod_sandbox_id: pod.id });
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.remove_pods();
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        // The pods' control groups are the kubelet's own, in each hierarchy.
        let _ = Command::new("find")
            .args([
                "/sys/fs/cgroup",
                "-depth",
                "-type",
                "d",
                "-path",
                &format!("*{}*", cgroups()),
                "-delete",
            ])
            .status();
    }
}

/// The launcher image and the one that holds a sandbox, from docker, unless they were imported before: the archive, and
/// whose it is.
fn archive(home: &Path, dir: &Path) -> Option<(PathBuf, String)> {
    let docker = Docker::start();
    assert_eq!(docker.image, IMAGE, "it is what the chart's values say");
    let id = docker.docker(&format!("image inspect -f {{{{.Id}}}} {IMAGE}"));
    if std::fs::read_to_string(home.join("image")).is_ok_and(|had| had == id) {
        return None;
    }
    let (layer, archive) = (dir.join("layer.tar"), dir.join("images.tar"));
    // Debian's is static.
    checked(Command::new("tar").arg("-cf").arg(&layer).args([
        "-C",
        "/usr/bin",
        "--dereference",
        "catatonit",
    ]));
    let mut import = docker.command();
    import
        .args(["import", "--change", "ENTRYPOINT [\"/catatonit\", \"-P\"]"])
        .arg(&layer)
        .arg(PAUSE);
    checked(&mut import);
    docker.docker(&format!("save -o {} {IMAGE} {PAUSE}", archive.display()));
    Some((archive, id))
}

/// What the daemon and the CNI plugins read: block volumes are the pod's user's, as the chart asks of a node, and a sandbox may be
/// as likely to be killed as the daemon, where nobody has CAP_SYS_RESOURCE. Nothing of theirs is outside of `home` and `dir`, but the results that libcni
/// notes of each pod and forgets with it.
fn configure(home: &Path, dir: &Path, plugin: &str) {
    let path = |name: &str| dir.join(name).display().to_string();
    let (root, state) = (home.join("root"), home.join("state"));
    let config = format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
device_ownership_from_security_context = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{net}"
"#,
        root = root.display(),
        state = state.display(),
        socket = path("sock"),
        opt = path("opt"),
        net = path("net.d"),
    );
    std::fs::write(dir.join("config.toml"), config).unwrap();
    let subnet = format!("{NODE}/24").replace(".1/", ".0/");
    let mut network = json!({"type": plugin, "ipam": {
        "type": "host-local",
        "dataDir": path("leases"),
        "ranges": [[{"subnet": subnet, "gateway": NODE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }});
    if plugin == "bridge" {
        network["bridge"] = json!("cni0");
        network["isGateway"] = json!(true);
    }
    let networks: Value = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [network]});
    std::fs::create_dir(dir.join("net.d")).unwrap();
    std::fs::write(dir.join("net.d/pods.conflist"), networks.to_string()).unwrap();
}

/// Not `ip netns exec`: that hides the control groups. It ends with the test, however that ends.
fn daemon(node: &Netns, dir: &Path) -> Child {
    let log = File::create(dir.join("log")).unwrap();
    Command::new("nsenter")
        .args([
            &format!("--net={}", node.path()),
            "setpriv",
            "--pdeathsig",
            "TERM",
            "containerd",
            "--config",
        ])
        .arg(dir.join("config.toml"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// What is in `www` by HTTP, on every address of the node: the guest's image.
fn serve(node: &Netns, www: &Path) -> Child {
    std::fs::create_dir(www).unwrap();
    std::fs::copy(world::tiny(), www.join("tiny.qcow2")).unwrap();
    let mut server = of_test(node, "python3");
    server.args(["-m", "http.server", "8000", "--directory"]).arg(www);
    server.spawn().unwrap()
}

/// The cluster's DNS server, on every address of the node.
fn names(node: &Netns) -> Child {
    let mut server = of_test(node, "dnsmasq");
    server.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
    ]);
    server.arg(format!("--address=/{}/{}", SERVICE.0, SERVICE.1)).spawn().unwrap()
}

/// A server on the node, which ends with the test, however that ends.
fn of_test(node: &Netns, program: &str) -> Command {
    let mut command = node.command("setpriv");
    command.args(["--pdeathsig", "TERM", program]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
