//! The supervisor's process: what a test wants of it, its start, its log, its end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{self, Netns};
use berth::config::{self, Accel, Config, OnPoweroff, OnReboot};
use berth::facts::{Disks, Facts, Host, NetFacts, Resolver, Routing, Uplink};
use berth::iso::Volume;
use berth::net::MacAddr;
use berth::plan::disk::{DiskPlan, ExtraDisk, Root, Seed};
use berth::plan::link::{Bridge, LinkPlan, Tap};
use berth::proto::lifecycle::Outcome;

fn writable(path: &Path) -> ExtraDisk {
    ExtraDisk { path: path.to_owned(), serial: "extra".to_owned(), writable: true }
}

/// What a test wants of its supervisor.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Wanted {
    pub disk: PathBuf,
    pub overlay: Option<PathBuf>,
    pub accel: String,
    /// What the facts say about /dev/kvm; the real one is there, and broken.
    pub kvm: bool,
    pub uid: u32,
    pub grace_ms: u64,
    pub margin_ms: u64,
    pub restart: bool,
    pub exit_on_reboot: bool,
    pub queues: u16,
    pub launcher: Vec<String>,
    pub extra: Vec<String>,
    /// First line of a file: VNC with a password, on 127.0.0.1.
    pub vnc_password: Option<PathBuf>,
    pub extra_disks: Vec<PathBuf>,
    /// A CD-ROM.
    pub seed: Option<PathBuf>,
    /// The supervisor is PID 1 of a PID namespace.
    pub pid1: bool,
}

impl Wanted {
    pub fn of(disk: PathBuf) -> Self {
        Self {
            disk,
            overlay: None,
            accel: "tcg".to_owned(),
            kvm: false,
            uid: 65534,
            grace_ms: 20_000,
            margin_ms: 2000,
            restart: false,
            exit_on_reboot: false,
            queues: 1,
            launcher: Vec::new(),
            extra: Vec::new(),
            vnc_password: None,
            extra_disks: Vec::new(),
            seed: None,
            pid1: false,
        }
    }

    pub fn config(&self) -> Config {
        Config {
            name: "vm".to_owned(),
            hostname: "vm".to_owned(),
            image: config::Image {
                source: None,
                proxies: config::Proxies::NONE,
                target: None,
                checksum: None,
                max_bytes: None,
                disk_size_bytes: None,
            },
            guest: config::Guest {
                seed_format: config::SeedFormat::ConfigDrive,
                seed_as: config::SeedAs::Disk,
            },
            network: config::Network {
                vm: "192.168.254.2/30".parse().unwrap(),
                gateway: [192, 168, 254, 1].into(),
                uplink: None,
                bridge: "br0".parse().unwrap(),
                tap: "tap0".parse().unwrap(),
                mtu: None,
                mac: None,
                reserved: vec![],
                gateway_ports: vec![],
                metadata_address: config::MetadataAddress::Allow,
                serve: true,
                dns: config::Dns::Gateway,
                extra_rules: None,
                nft_owner: false,
            },
            machine: config::Machine {
                vcpu: u32::from(self.queues),
                ram_mib: 64,
                qemu: "qemu-system-x86_64".into(),
                search_path: vec![],
                accel: match self.accel.as_str() {
                    "auto" => Accel::Auto,
                    "kvm" => Accel::Kvm,
                    _ => Accel::Tcg,
                },
                cpu: None,
                launcher: self.launcher.clone(),
                blk_opts: None,
                raw_blk_opts: None,
                net_opts: None,
                placeholders: BTreeMap::new(),
                reserve_vnc: true,
                vnc: self.vnc_password.is_some(),
                vnc_password_file: self.vnc_password.clone(),
                uid: self.uid,
                confine: true,
                extra_args: self.extra.clone(),
            },
            lifecycle: config::Lifecycle {
                on_poweroff: if self.restart { OnPoweroff::Restart } else { OnPoweroff::Exit },
                on_reboot: if self.exit_on_reboot { OnReboot::Exit } else { OnReboot::Reset },
                on_net_lost: config::OnNetLost::Wait,
                grace: Duration::from_millis(self.grace_ms),
                margin: Duration::from_millis(self.margin_ms),
            },
            paths: config::Paths {
                image_dir: "/image".into(),
                state_dir: "/run/berth".into(),
                metadata: "/metadata".into(),
                userdata: "/userdata".into(),
                vendordata: None,
                networkdata: None,
                device_dir: "/dev/vm".into(),
                volumes_dir: "/volumes".into(),
                resolv_conf: "/etc/resolv.conf".into(),
                ca_file: None,
            },
        }
    }

    pub fn facts(&self) -> Facts {
        Facts {
            net: NetFacts {
                uplink: Uplink {
                    name: "eth0".parse().unwrap(),
                    index: 2,
                    mac: MacAddr::stable("vm", "uplink"),
                    mtu: 1450,
                    address: "127.0.0.1/8".parse().unwrap(),
                    others: vec![],
                    gateway: None,
                },
                routing: Routing::default(),
                resolver: Resolver { nameservers: vec![], search: vec![], ndots: 1, skipped: vec![] },
                extra_rules: None,
                metadata: None,
                can_setuid: true,
            },
            disks: Disks {
                root_device: None,
                block_devices: Default::default(),
                image_dir_exists: true,
                target: None,
                overlays: vec![],
                extra: vec![],
                skipped: vec![],
                userdata: None,
                vendordata: None,
                networkdata: None,
            },
            host: Host {
                qemu: "/usr/bin/qemu-system-x86_64".into(),
                cpus: 8,
                kvm: self.kvm,
                vhost_net: false,
                uid: 0,
                kvm_gid: None,
            },
        }
    }

    pub fn link(&self) -> LinkPlan {
        let mac = MacAddr::stable("vm", "gateway");
        let address = "192.168.254.1/30".parse().unwrap();
        LinkPlan {
            uplink: "eth0".parse().unwrap(),
            bridge: Bridge { name: "br0".parse().unwrap(), mac, mtu: 1450, address },
            tap: Tap { name: "tap0".parse().unwrap(), queues: self.queues, owner: self.uid },
        }
    }

    pub fn disks(&self) -> DiskPlan {
        let root = match &self.overlay {
            None => Root::Device { path: self.disk.clone() },
            Some(path) => {
                Root::Overlay { path: path.clone(), base: self.disk.clone(), fetch: None, size_bytes: None }
            }
        };
        let seed = self.seed.clone().map(|path| Seed {
            volume: Volume { label: "config-2".to_owned(), files: vec![] },
            path,
            attach: config::SeedAs::Cdrom,
        });
        DiskPlan {
            untrusted: Vec::new(),
            own_options: false,
            notes: vec![],
            root,
            extra: self.extra_disks.iter().map(|path| writable(path)).collect(),
            seed,
            lock: "/run/lock".into(),
            state_dir: "/run".into(),
        }
    }
}

/// `linux/if_tun.h`, TUNSETIFF.
#[allow(unsafe_code, reason = "no safe wrapper of TUNSETIFF; the product's own is tested elsewhere")]
pub fn open_tap(queues: u16) -> Vec<OwnedFd> {
    let flags: u16 = if queues > 1 { 0x5102 } else { 0x5002 };
    (0..queues)
        .map(|_| {
            let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
            let mut request = [0_u8; 40];
            request[..4].copy_from_slice(b"tap0");
            request[16..18].copy_from_slice(&flags.to_ne_bytes());
            // SAFETY: `request` is a live ifreq-sized buffer.
            let done = unsafe {
                libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&tun), 0x4004_54ca, request.as_mut_ptr())
            };
            assert_eq!(done, 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
            tun.into()
        })
        .collect()
}

/// A supervisor that takes longer is killed, and its test fails at the end of its output.
pub const LIMIT: Duration = Duration::from_secs(40);

/// A supervisor under test. Killed when dropped, and its QEMU with it.
pub struct Running {
    pub process: Child,
    pub stdout: ChildStdout,
    pub stderr: BufReader<ChildStderr>,
    pub log: String,
    pub _limit: mpsc::Sender<()>,
    pub netns: Netns,
}

impl Running {
    pub fn start(wanted: &Wanted) -> Self {
        Self::start_under(wanted, &[])
    }

    /// After the words of `wrapper`.
    pub fn start_under(wanted: &Wanted, wrapper: &[&str]) -> Self {
        let netns = Netns::new("vm");
        let this = std::env::current_exe().unwrap();
        let mut command = if wanted.pid1 {
            let mut command = netns.command("unshare");
            command.args(["--pid", "--fork", "--kill-child"]).arg(this);
            command
        } else if let Some((program, arguments)) = wrapper.split_first() {
            let mut command = netns.command(program);
            command.args(arguments).arg(this);
            command
        } else {
            netns.command(this.to_str().unwrap())
        };
        let mut process = command
            .args(["--exact", "supervisor", "--nocapture", "--quiet"])
            .env("MACHINE_TEST_WANTED", serde_json::to_string(wanted).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (limit, ended) = mpsc::channel::<()>();
        let pid = process.id().to_string();
        std::thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                support::run("kill", &["-KILL", &pid]);
            }
        });
        Self { process, stdout, stderr, log: String::new(), _limit: limit, netns }
    }

    /// Reads the log until a line has `text` in it.
    pub fn await_log(&mut self, text: &str) -> Instant {
        loop {
            let mut line = String::new();
            let length = self.stderr.read_line(&mut line).unwrap();
            assert!(length > 0, "the log ended without {text:?}:\n{}", self.log);
            self.log.push_str(&line);
            if line.contains(text) {
                return Instant::now();
            }
        }
    }

    /// Reads stdout until it has `text` in it.
    pub fn await_serial(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut byte = [0];
            let length = self.stdout.read(&mut byte).unwrap();
            assert!(length > 0, "serial ended without {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    pub fn signal(&self, signal: &str) -> Instant {
        support::run("kill", &[signal, &self.process.id().to_string()]);
        Instant::now()
    }

    pub fn qemu(&self) -> u32 {
        *children(self.process.id()).first().expect("the supervisor has a child")
    }

    /// Waits for the end; gives the exit status and all of the log.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        self.log.push_str(&rest);
        let status = self.process.wait().unwrap();
        (status, std::mem::take(&mut self.log))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Pids of a process's children.
pub fn children(process: u32) -> Vec<u32> {
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

#[track_caller]
pub fn assert_outcome(log: &str, outcome: Outcome) {
    assert!(log.contains(&format!("OUTCOME {outcome:?}")), "wanted {outcome:?}:\n{log}");
}
