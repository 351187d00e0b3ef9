//! A pod that runs: its sandbox and its containers, started, probed, stopped and started again as a kubelet does it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::api::{
    ContainerStatus, ContainerStatusRequest, CreateContainerRequest, EXITED, ExecSyncRequest,
    PodSandboxConfig, PodSandboxStatusRequest, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use super::containerd::Containerd;
use super::{Spec, kubelet};
use crate::support::{find, within};

/// How long a guest may take on a busy machine, its container with it.
const BOOT: Duration = Duration::from_secs(150);

struct Container {
    id: String,
    attempt: u32,
}

pub struct Pod<'a> {
    cri: &'a Containerd,
    id: String,
    config: PodSandboxConfig,
    containers: BTreeMap<String, Container>,
    pub address: Ipv4Addr,
    pub spec: Spec,
}

impl<'a> Pod<'a> {
    /// The sandbox, with nothing in it.
    pub fn sandbox(cri: &'a Containerd, spec: Spec) -> Self {
        let config = kubelet::sandbox(&spec, &spec.dir.join("logs"));
        let (id, address) = run(cri, &spec, &config);
        Self { cri, id, config, containers: BTreeMap::new(), address, spec }
    }

    /// With its containers, one after the other: a sidecar has started before the next one is made.
    pub fn run(cri: &'a Containerd, spec: Spec) -> Self {
        let mut pod = Self::sandbox(cri, spec);
        for container in pod.spec.containers() {
            pod.start(container["name"].as_str().unwrap());
        }
        pod
    }

    /// The network namespace of the pod.
    pub fn netns(&self) -> String {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: true };
        format!("/proc/{}/ns/net", pid(&self.cri.call(request).info))
    }

    /// The container, and the end of its start-up probe.
    fn start(&mut self, name: &str) {
        let rendered = self.spec.container(name);
        let attempt = self.containers.get(name).map_or(0, |container| container.attempt + 1);
        let log = self.spec.dir.join("termination-log");
        std::fs::write(&log, "").unwrap();
        std::fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        std::fs::create_dir_all(self.spec.dir.join("logs").join(name)).unwrap();
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(kubelet::container(&self.spec, &rendered, attempt, &self.spec.dir)),
            sandbox_config: Some(self.config.clone()),
        };
        let id = self.cri.call(request).container_id;
        self.cri.call(StartContainerRequest { container_id: id.clone() });
        self.containers.insert(name.to_owned(), Container { id, attempt });
        if !rendered["startupProbe"].is_null() {
            self.until(name, "startupProbe");
        }
    }

    fn of(&self, name: &str) -> String {
        self.containers[name].id.clone()
    }

    pub fn status(&self, name: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: self.of(name), verbose: false };
        self.cri.call(request).status.unwrap()
    }

    /// The pid of its first process, here.
    pub fn pid(&self, name: &str) -> u32 {
        pid(&self
            .cri
            .call(ContainerStatusRequest { container_id: self.of(name), verbose: true })
            .info)
    }

    /// What it said since it was started last, without what the log's format adds.
    pub fn log(&self, name: &str) -> String {
        let attempt = self.containers[name].attempt;
        let path: PathBuf = self.spec.dir.join("logs").join(name).join(format!("{attempt}.log"));
        let text = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines =
            text.lines().map(|line| line.splitn(4, ' ').last().unwrap_or_default().trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// One try of a probe: in the container, or from the node.
    pub fn probe(&self, name: &str, kind: &str) -> Result<(), String> {
        let probe = &self.spec.container(name)[kind];
        let limit = probe["timeoutSeconds"].as_i64().unwrap_or(1);
        if let Some(port) = probe["tcpSocket"]["port"].as_u64() {
            let to = SocketAddr::from((self.address, u16::try_from(port).unwrap()));
            let limit = Duration::from_secs(limit.unsigned_abs());
            let tried = within(&self.cri.node.path(), move || {
                TcpStream::connect_timeout(&to, limit).map(|_| ())
            });
            return tried.map_err(|error| format!("{to}: {error}"));
        }
        let words =
            probe["exec"]["command"].as_array().unwrap_or_else(|| panic!("{name} has no {kind}"));
        let cmd = words.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
        let ended =
            self.cri.tried(ExecSyncRequest { container_id: self.of(name), cmd, timeout: limit })?;
        let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        if ended.exit_code == 0 {
            Ok(())
        } else {
            Err(format!("exit code {}: {said}", ended.exit_code))
        }
    }

    /// Until the probe succeeds, sooner asked than a kubelet would.
    pub fn until(&self, name: &str, kind: &str) {
        find(
            &format!("{name} {kind}"),
            BOOT,
            || self.log(name),
            || {
                let Err(error) = self.probe(name, kind) else { return Some(()) };
                let status = self.status(name);
                let lives = status.state != EXITED;
                assert!(
                    lives,
                    "{name} {kind}: {error}, exit code {}\n{}",
                    status.exit_code,
                    self.log(name)
                );
                None
            },
        );
    }

    /// Until the guest says that it is up.
    pub fn booted(&self, name: &str) {
        find(
            &format!("{name} is ready"),
            BOOT,
            || self.log(name),
            || {
                let ready = self.log(name).lines().any(|line| line.ends_with(" ready"));
                assert!(
                    ready || self.status(name).state != EXITED,
                    "{name} has ended\n{}",
                    self.log(name)
                );
                ready.then_some(())
            },
        );
    }

    /// Until it has ended: its exit code.
    pub fn ended(&self, name: &str) -> i32 {
        find(
            &format!("{name} has ended"),
            BOOT,
            || self.log(name),
            || {
                let status = self.status(name);
                (status.state == EXITED).then_some(status.exit_code)
            },
        )
    }

    /// SIGTERM, and within the pod's grace the end: its exit code. SIGKILL would come after it.
    pub fn stop(&self, name: &str) -> i32 {
        let grace = self.spec.spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
        self.cri.call(StopContainerRequest { container_id: self.of(name), timeout: grace });
        self.ended(name)
    }

    /// SIGKILL from outside, as the OOM killer has it: the exit code.
    pub fn kill(&self, name: &str) -> i32 {
        kill(self.pid(name));
        self.ended(name)
    }

    /// The sandbox is lost, and all in it ended; then another one, in which everything starts again.
    pub fn move_to_another_sandbox(&mut self) {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: true };
        kill(pid(&self.cri.call(request).info));
        for container in self.spec.containers().iter().rev() {
            self.stop(container["name"].as_str().unwrap());
        }
        self.cri.call(StopPodSandboxRequest { pod_sandbox_id: self.id.clone() });
        self.cri.call(RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() });
        self.config.metadata.as_mut().unwrap().attempt += 1;
        (self.id, self.address) = run(self.cri, &self.spec, &self.config);
        for container in self.spec.containers() {
            self.start(container["name"].as_str().unwrap());
        }
    }

    /// Another one in the place of one that has ended.
    pub fn start_again(&mut self, name: &str) {
        let old = self.of(name);
        self.start(name);
        self.cri.call(RemoveContainerRequest { container_id: old });
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let id = || self.id.clone();
        let _ = self.cri.tried(StopPodSandboxRequest { pod_sandbox_id: id() });
        let removed = self.cri.tried(RemovePodSandboxRequest { pod_sandbox_id: id() });
        if let (Err(error), false) = (removed, std::thread::panicking()) {
            panic!("{}: {error}", self.spec.name);
        }
    }
}

/// The sandbox, and its address.
fn run(cri: &Containerd, spec: &Spec, config: &PodSandboxConfig) -> (String, Ipv4Addr) {
    let runtime_handler = spec.spec["runtimeClassName"].as_str().unwrap_or_default().to_owned();
    let id = cri
        .call(RunPodSandboxRequest { config: Some(config.clone()), runtime_handler })
        .pod_sandbox_id;
    let status =
        cri.call(PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false }).status;
    let address = status.unwrap().network.unwrap().ip.parse().unwrap();
    let hosts = format!("127.0.0.1\tlocalhost\n{address}\t{}\n", config.hostname);
    std::fs::write(spec.dir.join("etc-hosts"), hosts).unwrap();
    (id, address)
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// What a verbose status has as JSON.
fn pid(info: &std::collections::HashMap<String, String>) -> u32 {
    let info: Value = serde_json::from_str(&info["info"]).unwrap();
    u32::try_from(info["pid"].as_u64().unwrap()).unwrap()
}
