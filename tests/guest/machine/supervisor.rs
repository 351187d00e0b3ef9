//! The supervisor's process: what a test wants of it, its start, its log, its end.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{self, Netns, sample};
use berth::config::{self, Accel, Config, OnPoweroff, OnReboot};
use berth::facts::Facts;
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
        let mut config = sample::config();
        config.machine.vcpu = u32::from(self.queues);
        config.machine.ram_mib = 64;
        config.machine.accel = match self.accel.as_str() {
            "auto" => Accel::Auto,
            "kvm" => Accel::Kvm,
            _ => Accel::Tcg,
        };
        config.machine.launcher.clone_from(&self.launcher);
        config.machine.vnc = self.vnc_password.is_some();
        config.machine.vnc_password_file.clone_from(&self.vnc_password);
        config.machine.uid = self.uid;
        config.machine.extra_args.clone_from(&self.extra);
        config.lifecycle.on_poweroff =
            if self.restart { OnPoweroff::Restart } else { OnPoweroff::Exit };
        config.lifecycle.on_reboot =
            if self.exit_on_reboot { OnReboot::Exit } else { OnReboot::Reset };
        config.lifecycle.grace = Duration::from_millis(self.grace_ms);
        config.lifecycle.margin = Duration::from_millis(self.margin_ms);
        config
    }

    pub fn facts(&self) -> Facts {
        let mut facts = sample::facts();
        // VNC listens there.
        facts.net.uplink.address = Some("127.0.0.1/8".parse().unwrap());
        facts.host.kvm = self.kvm;
        facts
    }

    pub fn link(&self) -> LinkPlan {
        let mac = MacAddr::stable("vm", "gateway");
        let address = "192.168.254.1/30".parse().unwrap();
        LinkPlan {
            uplink: "eth0".parse().unwrap(),
            bridge: Bridge { name: "br0".parse().unwrap(), mac, mtu: 1450, address },
            tap: Tap { name: "tap0".parse().unwrap(), queues: self.queues, owner: self.uid },
            ipv4: berth::plan::ipv4::Ipv4Plan::Nat,
            ipv6: berth::plan::ipv6::Ipv6Plan::Off("none".to_owned()),
        }
    }

    pub fn disks(&self) -> DiskPlan {
        let root = match &self.overlay {
            None => Root::Device { path: self.disk.clone() },
            Some(path) => Root::Overlay {
                path: path.clone(),
                base: self.disk.clone(),
                fetch: None,
                size_bytes: None,
            },
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
            findings: Vec::new(),
            root,
            extra: self.extra_disks.iter().map(|path| writable(path)).collect(),
            seed,
            lock: "/run/lock".into(),
            state_dir: "/run".into(),
        }
    }
}

/// `linux/if_tun.h`, TUNSETIFF.
#[allow(
    unsafe_code,
    reason = "no safe wrapper of TUNSETIFF; the product's own is tested elsewhere"
)]
pub fn open_tap(queues: u16) -> Vec<OwnedFd> {
    let flags: u16 = if queues > 1 { 0x5102 } else { 0x5002 };
    (0..queues)
        .map(|_| {
            let tun =
                std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
            let mut request = [0_u8; 40];
            request[..4].copy_from_slice(b"tap0");
            request[16..18].copy_from_slice(&flags.to_ne_bytes());
            // SAFETY: `request` is a live ifreq-sized buffer.
            let done = unsafe {
                libc::ioctl(
                    std::os::fd::AsRawFd::as_raw_fd(&tun),
                    0x4004_54ca,
                    request.as_mut_ptr(),
                )
            };
            assert_eq!(done, 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
            tun.into()
        })
        .collect()
}

/// A supervisor that takes longer is killed, and its test fails at the end of its output.
pub const LIMIT: Duration = Duration::from_secs(120);

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
            .args(["--exact", "machine::supervisor", "--nocapture", "--quiet"])
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
            assert!(
                length > 0,
                "serial ended without {text:?}: {:?}",
                String::from_utf8_lossy(&seen)
            );
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
        .flat_map(|text| {
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

#[track_caller]
pub fn assert_outcome(log: &str, outcome: Outcome) {
    assert!(log.contains(&format!("OUTCOME {outcome:?}")), "wanted {outcome:?}:\n{log}");
}
