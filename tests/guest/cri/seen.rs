//! What the runtime made of a container's fields, as the kernel has it.

use serde_json::Value;

use super::kubelet;
use super::pod::Pod;

/// Those the chart gives (linux/capability.h).
const CAPABILITIES: [(&str, u32); 5] =
    [("NET_ADMIN", 12), ("NET_BIND_SERVICE", 10), ("SETUID", 7), ("SETGID", 6), ("KILL", 5)];

/// A process by its `/proc/PID/status`.
struct Process {
    pid: u32,
    status: String,
}

impl Process {
    fn of(pid: u32) -> Self {
        Self { pid, status: std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap() }
    }

    fn field(&self, name: &str) -> Vec<&str> {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name}: {}", self.status)).split_whitespace().collect()
    }

    fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(self.field(set)[0], 16).unwrap()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap()
    }

    fn children(&self) -> Vec<Self> {
        let pids = self.read(&format!("task/{}/children", self.pid));
        pids.split_whitespace().map(|pid| Self::of(pid.parse().unwrap())).collect()
    }

    /// A file of its control group, by the names of both versions.
    fn limit(&self, controller: &str, v1: &str, v2: &str) -> (bool, String) {
        let cgroups = self.read("cgroup");
        let mut found = cgroups.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':')
        });
        let old = found.clone().find(|(names, _)| names.split(',').any(|name| name == controller));
        let (at, path) = match old {
            Some((_, path)) => (format!("/sys/fs/cgroup/{controller}{path}/{v1}"), true),
            None => (
                format!(
                    "/sys/fs/cgroup{}/{v2}",
                    found.find(|(names, _)| names.is_empty()).unwrap().1
                ),
                false,
            ),
        };
        let text = std::fs::read_to_string(&at).unwrap_or_else(|error| panic!("{at}: {error}"));
        (path, text.trim().to_owned())
    }
}

/// All containers of the pod, and the guest's QEMU: nobody, without capabilities.
pub fn as_rendered(pod: &Pod) {
    for container in pod.spec.containers() {
        let name = container["name"].as_str().unwrap();
        let process = Process::of(pod.pid(name));
        security(pod, &container, &process);
        devices(&container, &process);
        resources(&container, &process);
    }
    let qemu = Process::of(pod.pid(&pod.spec.guest())).children();
    assert_eq!(qemu.len(), 1);
    for process in qemu {
        assert_eq!((process.field("Uid")[0], process.field("Gid")[0]), ("65534", "65534"));
        assert_eq!((process.capabilities("CapEff"), process.field("NoNewPrivs")), (0, vec!["1"]));
        assert_eq!(process.field("Seccomp"), ["2"]);
    }
}

fn security(pod: &Pod, container: &Value, process: &Process) {
    let (own, name) = (&container["securityContext"], &container["name"]);
    let user = own["runAsUser"].as_u64().unwrap();
    let group = own["runAsGroup"].as_u64().unwrap_or(0);
    assert_eq!(process.field("Uid"), [user.to_string().as_str(); 4], "{name}");
    assert_eq!(process.field("Gid"), [group.to_string().as_str(); 4], "{name}");
    let groups = process.field("Groups");
    for group in kubelet::groups(&pod.spec.spec) {
        assert!(groups.contains(&group.to_string().as_str()), "{name}: {group} in {groups:?}");
    }
    let added = own["capabilities"]["add"].as_array().into_iter().flatten();
    let bit = |added: &Value| 1 << CAPABILITIES.iter().find(|(name, _)| added == name).unwrap().1;
    let added: u64 = added.map(bit).sum();
    assert_eq!(process.capabilities("CapBnd"), added, "{name}");
    assert_eq!(process.capabilities("CapEff"), if user == 0 { added } else { 0 }, "{name}");
    // 2: a filter.
    assert_eq!(
        (process.field("Seccomp"), process.field("NoNewPrivs")),
        (vec!["2"], vec!["1"]),
        "{name}"
    );
    let mounts = process.read("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert_eq!(root.split(' ').nth(5).unwrap().split(',').next(), Some("ro"), "{name}: {root}");
}

/// The tap's, and of block volumes; none of KVM, which nobody gives here.
fn devices(container: &Value, process: &Process) {
    let exists = |path: &str| std::fs::exists(format!("/proc/{}/root{path}", process.pid)).unwrap();
    assert!(exists("/dev/net/tun") && !exists("/dev/kvm"), "{}", container["name"]);
    for device in container["volumeDevices"].as_array().into_iter().flatten() {
        assert!(exists(device["devicePath"].as_str().unwrap()), "{device}");
    }
}

fn resources(container: &Value, process: &Process) {
    let wanted = kubelet::resources(container);
    let name = &container["name"];
    let memory = process.limit("memory", "memory.limit_in_bytes", "memory.max").1;
    assert_eq!(memory, wanted.memory_limit_in_bytes.to_string(), "{name}");
    let (v1, shares) = process.limit("cpu", "cpu.shares", "cpu.weight");
    let weight = 1 + (wanted.cpu_shares - 2) * 9999 / 262_142;
    assert_eq!(shares, if v1 { wanted.cpu_shares } else { weight }.to_string(), "{name}");
    assert_eq!(process.read("oom_score_adj").trim(), wanted.oom_score_adj.to_string(), "{name}");
}
