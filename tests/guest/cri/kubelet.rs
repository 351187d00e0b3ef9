//! What a kubelet makes of a pod's spec for its runtime: the messages, and nothing that happens.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::Spec;
use super::api::{
    Capability, ContainerConfig, ContainerMetadata, Device, DnsConfig, HugepageLimit, ImageSpec,
    Int64Value, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    NamespaceOption, OF_CONTAINER, PodSandboxConfig, PodSandboxMetadata, PortMapping,
    SecurityProfile,
};
use super::containerd::{IMAGE, NODE, SERVICE};
use super::volumes::Volume;

/// Of every container that is not privileged.
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A quantity of Kubernetes' in octets, or in units.
pub fn octets(quantity: &str) -> u64 {
    thousandths(quantity) / 1000
}

/// `500m`, `4`, `64Mi`.
fn thousandths(quantity: &str) -> u64 {
    let split = quantity.find(|c: char| !c.is_ascii_digit()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(split);
    let unit = match unit {
        "m" => 1,
        "" => 1000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        _ => panic!("{quantity}"),
    };
    number.parse::<u64>().unwrap_or_else(|_| panic!("{quantity}")) * unit
}

/// Strings and numbers are both a quantity.
fn quantity(value: &Value) -> Option<u64> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(thousandths(text)),
        other => Some(other.as_u64().unwrap() * 1000),
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn map(value: &Value) -> HashMap<String, String> {
    let all = value.as_object().into_iter().flatten();
    all.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

fn identity(pod: &Spec) -> HashMap<String, String> {
    [("name", &pod.name), ("namespace", &"vms".to_owned()), ("uid", &pod.uid)]
        .map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.clone()))
        .into()
}

/// fsGroup is one of them.
pub fn groups(spec: &Value) -> Vec<i64> {
    let security = &spec["securityContext"];
    let more = security["supplementalGroups"].as_array().into_iter().flatten();
    security["fsGroup"]
        .as_i64()
        .into_iter()
        .chain(more.map(|group| group.as_i64().unwrap()))
        .collect()
}

fn seccomp(own: &Value, pods: &Value) -> Option<SecurityProfile> {
    let kind = own["seccompProfile"]["type"].as_str().or(pods["seccompProfile"]["type"].as_str());
    let profile_type = match kind {
        Some("RuntimeDefault") => 0,
        Some("Unconfined") | None => 1,
        Some(other) => panic!("seccomp profile {other}"),
    };
    Some(SecurityProfile { profile_type, localhost_ref: String::new() })
}

/// Network and IPC are the pod's, processes the container's.
fn namespaces() -> Option<NamespaceOption> {
    Some(NamespaceOption { network: 0, pid: OF_CONTAINER, ipc: 0 })
}

fn dns(spec: &Value) -> DnsConfig {
    let own = &spec["dnsConfig"];
    let mut dns = DnsConfig {
        servers: vec![NODE.to_string()],
        searches: ["vms.svc.cluster.local", "svc.cluster.local", "cluster.local"]
            .map(str::to_owned)
            .into(),
        options: vec!["ndots:5".into()],
    };
    for option in own["options"].as_array().into_iter().flatten() {
        let (name, value) = (option["name"].as_str().unwrap(), option["value"].as_str().unwrap());
        dns.options.retain(|had| had.split(':').next() != Some(name));
        dns.options.push(format!("{name}:{value}"));
    }
    dns
}

/// `dir`: where the pod's logs go.
pub fn sandbox(pod: &Spec, dir: &Path) -> PodSandboxConfig {
    let (spec, security) = (&pod.spec, &pod.spec["securityContext"]);
    let containers = spec["containers"].as_array().into_iter().flatten();
    let ports =
        containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let port = |port: &Value| i32::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
    let mut labels = map(&pod.labels);
    labels.extend(identity(pod));
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            namespace: "vms".into(),
            attempt: 0,
        }),
        hostname: spec["hostname"].as_str().unwrap_or(&pod.name).to_owned(),
        log_directory: dir.display().to_string(),
        dns_config: Some(dns(spec)),
        port_mappings: ports
            .map(|one| PortMapping { protocol: 0, container_port: port(one), host_port: 0 })
            .collect(),
        labels,
        annotations: map(&pod.annotations),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: pod.cgroup(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: namespaces(),
                run_as_user: security["runAsUser"].as_i64().map(|value| Int64Value { value }),
                readonly_rootfs: false,
                supplemental_groups: groups(spec),
                seccomp: seccomp(security, security),
            }),
        }),
    }
}

/// What its requests and limits are to the kernel, on a node where nobody counts huge pages.
pub fn resources(container: &Value) -> LinuxContainerResources {
    let (requests, limits) =
        (&container["resources"]["requests"], &container["resources"]["limits"]);
    let processors = quantity(&requests["cpu"]).or(quantity(&limits["cpu"])).unwrap_or(0);
    let memory = quantity(&requests["memory"]).or(quantity(&limits["memory"])).unwrap_or(0) / 1000;
    let pages = quantity(&limits["hugepages-2Mi"]).unwrap_or(0) / 1000;
    LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: signed(quantity(&limits["cpu"]).unwrap_or(0) * 100),
        cpu_shares: signed((processors * 1024 / 1000).max(2)),
        memory_limit_in_bytes: signed(quantity(&limits["memory"]).unwrap_or(0) / 1000),
        oom_score_adj: oom_score(memory),
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: pages }],
    }
}

/// Of a pod of the class Burstable: who asked for more of the node's memory is ended later.
fn oom_score(request: u64) -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    (1000 - signed(1000 * request / (kib << 10))).clamp(3, 999)
}

fn security(spec: &Value, own: &Value) -> LinuxContainerSecurityContext {
    let pods = &spec["securityContext"];
    let number =
        |name: &str| own[name].as_i64().or(pods[name].as_i64()).map(|value| Int64Value { value });
    let user = number("runAsUser");
    let root = user.as_ref().is_none_or(|user| user.value == 0);
    assert!(!root || own["runAsNonRoot"] != true, "a kubelet refuses it: {own}");
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: texts(&own["capabilities"]["add"]),
            drop_capabilities: texts(&own["capabilities"]["drop"]),
        }),
        privileged: own["privileged"] == true,
        namespace_options: namespaces(),
        run_as_user: user,
        run_as_group: number("runAsGroup"),
        readonly_rootfs: own["readOnlyRootFilesystem"] == true,
        supplemental_groups: groups(spec),
        no_new_privs: own["allowPrivilegeEscalation"] == false,
        masked_paths: MASKED.map(str::to_owned).into(),
        readonly_paths: READ_ONLY.map(str::to_owned).into(),
        seccomp: seccomp(own, pods),
    }
}

/// What the device plugin of a resource gives. Nobody gives KVM: the guests here are emulated.
fn devices(pod: &Spec, container: &Value) -> Vec<Device> {
    let limits = container["resources"]["limits"].as_object().into_iter().flatten();
    let node = |path: &str, host: &str| Device {
        container_path: path.into(),
        host_path: host.into(),
        permissions: "mrw".into(),
    };
    let plugins = limits.filter(|(name, count)| name.ends_with("/tun") && **count == 1);
    let mut devices: Vec<_> = plugins.map(|_| node("/dev/net/tun", "/dev/net/tun")).collect();
    for device in container["volumeDevices"].as_array().into_iter().flatten() {
        let Volume::Block(host) = &pod.volumes.all[device["name"].as_str().unwrap()] else {
            panic!("{device}")
        };
        devices.push(node(device["devicePath"].as_str().unwrap(), host));
    }
    devices
}

/// Those of the spec, and the two files that every container has of its kubelet. `dir`: where these are.
fn mounts(pod: &Spec, container: &Value, dir: &Path) -> Vec<Mount> {
    let own = container["volumeMounts"].as_array().into_iter().flatten().map(|mount| {
        let Volume::Path(host) = &pod.volumes.all[mount["name"].as_str().unwrap()] else {
            panic!("{mount}")
        };
        Mount {
            container_path: mount["mountPath"].as_str().unwrap().to_owned(),
            host_path: host.display().to_string(),
            readonly: mount["readOnly"] == true,
        }
    });
    let files = [("etc-hosts", "/etc/hosts"), ("termination-log", "/dev/termination-log")].map(
        |(file, path)| Mount {
            container_path: path.into(),
            host_path: dir.join(file).display().to_string(),
            readonly: false,
        },
    );
    own.chain(files).collect()
}

fn variables(container: &Value) -> Vec<KeyValue> {
    // Services of the cluster that everybody has.
    let cluster = [("KUBERNETES_SERVICE_HOST", SERVICE.1), ("KUBERNETES_SERVICE_PORT", "443")];
    let own = container["env"].as_array().into_iter().flatten();
    let own =
        own.map(|one| (one["name"].as_str().unwrap(), one["value"].as_str().unwrap_or_default()));
    cluster
        .into_iter()
        .chain(own)
        .map(|(key, value)| KeyValue { key: key.into(), value: value.into() })
        .collect()
}

/// The container, started for the nth time. `dir`: the pod's own on the node.
pub fn container(pod: &Spec, container: &Value, attempt: u32, dir: &Path) -> ContainerConfig {
    let name = container["name"].as_str().unwrap();
    assert_eq!(container["image"], IMAGE, "no other is here, and none is pulled");
    let mut labels = identity(pod);
    labels.insert("io.kubernetes.container.name".into(), name.into());
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt }),
        image: Some(ImageSpec { image: IMAGE.into() }),
        command: texts(&container["command"]),
        args: texts(&container["args"]),
        working_dir: String::new(),
        envs: variables(container),
        mounts: mounts(pod, container, dir),
        devices: devices(pod, container),
        labels,
        annotations: HashMap::from([(
            "io.kubernetes.container.restartCount".into(),
            attempt.to_string(),
        )]),
        log_path: format!("{name}/{attempt}.log"),
        stdin: container["stdin"] == true,
        stdin_once: container["stdinOnce"] == true,
        tty: container["tty"] == true,
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(container)),
            security_context: Some(security(&pod.spec, &container["securityContext"])),
        }),
    }
}
