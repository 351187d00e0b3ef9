//! The machine with a real QEMU (TCG): boot sectors of a few bytes play the guest.
//!
//! Each test starts this test program again as the supervisor, in a network namespace of its own, so that signals,
//! stdout and exit codes are those of a real process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use berth::config::{self, Accel, Config, OnPoweroff, OnReboot};
use berth::facts::{Disks, Facts, Host, Resolver, Uplink};
use berth::iso::Volume;
use berth::net::MacAddr;
use berth::plan::disk::{DiskPlan, Root, Seed};
use berth::plan::link::{Bridge, LinkPlan, Tap};
use berth::plan::machine::{self, BaseFormat};
use berth::proto::lifecycle::{By, Exit, Fault, Outcome};
use berth::supervise::{self, Console, Signals};
use support::Netns;

// ── guests ──

/// `hlt` for ever.
const IDLE: &[u8] = &[0xf4, 0xeb, 0xfd];
/// ICH9 PM1a_CNT (0x604): SLP_EN, S5.
const POWEROFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd];
/// Keyboard controller: reset line.
const REBOOT: &[u8] = &[0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];
/// PM1_EN (0x602): power button. Polls PM1_STS (0x600) for it.
const AWAIT_BUTTON: &[u8] =
    &[0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, 0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa];

/// Writes `text` to COM1 (0x3f8), goes on with `then`.
fn says(text: &str, then: &[u8]) -> Vec<u8> {
    // xor ax,ax; mov ds,ax; mov si,TEXT; next: lodsb; test al,al; jz then; mov dx,0x3f8; out dx,al; jmp next
    let mut code = vec![
        0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0, 0, 0xac, 0x84, 0xc0, 0x74, 6, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5,
    ];
    code.extend(then);
    let at = 0x7c00 + u16::try_from(code.len()).unwrap();
    code[5..7].copy_from_slice(&at.to_le_bytes());
    code.extend(text.as_bytes());
    code.push(0);
    code
}

/// A boot disk of 1 MiB (SeaBIOS boots nothing smaller than a cylinder) with `code` in its first sector.
fn disk(directory: &Path, code: &[u8]) -> PathBuf {
    let mut image = vec![0; 1 << 20];
    image[..code.len()].copy_from_slice(code);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = directory.join("root.img");
    std::fs::write(&path, image).unwrap();
    path
}

/// An empty qcow2 overlay (docs/interop/qcow2.txt): header, refcount table, refcount block, L1 table. Its backing
/// file name leads nowhere: only the descriptor that is handed over does.
fn overlay(directory: &Path) -> PathBuf {
    const CLUSTER: usize = 65536;
    let mut image = vec![0; 4 * CLUSTER];
    let mut at = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    let name = b"/nowhere/base";
    at(0, b"QFI\xfb");
    at(4, &2_u32.to_be_bytes());
    at(8, &72_u64.to_be_bytes());
    at(16, &u32::try_from(name.len()).unwrap().to_be_bytes());
    at(20, &16_u32.to_be_bytes());
    at(24, &(1_u64 << 20).to_be_bytes());
    at(36, &1_u32.to_be_bytes());
    at(40, &(3 * CLUSTER as u64).to_be_bytes());
    at(48, &(CLUSTER as u64).to_be_bytes());
    at(56, &1_u32.to_be_bytes());
    at(72, name);
    at(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    for cluster in 0..4 {
        at(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    let path = directory.join("overlay.qcow2");
    std::fs::write(&path, image).unwrap();
    path
}

// ── the supervisor's process ──

/// What a test wants of its supervisor.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Wanted {
    disk: PathBuf,
    overlay: Option<PathBuf>,
    accel: String,
    /// What the facts say about /dev/kvm; the real one is there, and broken.
    kvm: bool,
    uid: u32,
    grace_ms: u64,
    margin_ms: u64,
    restart: bool,
    exit_on_reboot: bool,
    queues: u16,
    launcher: Vec<String>,
    extra: Vec<String>,
    /// First line of a file: VNC with a password, on 127.0.0.1.
    vnc_password: Option<PathBuf>,
    extra_disks: Vec<PathBuf>,
    /// A CD-ROM.
    seed: Option<PathBuf>,
    /// The supervisor is PID 1 of a PID namespace.
    pid1: bool,
}

impl Wanted {
    fn of(disk: PathBuf) -> Self {
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

    fn config(&self) -> Config {
        Config {
            name: "vm".to_owned(),
            hostname: "vm".to_owned(),
            image: config::Image { source: None, target: None, checksum: None, disk_size_bytes: None },
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
                serve: true,
                dns: config::Dns::Gateway,
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
                extra_args: self.extra.clone(),
            },
            lifecycle: config::Lifecycle {
                on_poweroff: if self.restart { OnPoweroff::Restart } else { OnPoweroff::Exit },
                on_reboot: if self.exit_on_reboot { OnReboot::Exit } else { OnReboot::Reset },
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

    fn facts(&self) -> Facts {
        Facts {
            uplink: Uplink {
                name: "eth0".parse().unwrap(),
                index: 2,
                mac: MacAddr::stable("vm", "uplink"),
                mtu: 1450,
                address: "127.0.0.1/8".parse().unwrap(),
                others: vec![],
                gateway: None,
            },
            resolver: Resolver { nameservers: vec![], search: vec![], ndots: 1, skipped: vec![] },
            disks: Disks {
                root_device: None,
                image_dir_exists: true,
                target: None,
                overlays: vec![],
                extra: vec![],
                metadata: None,
                userdata: None,
                vendordata: None,
                networkdata: None,
            },
            host: Host {
                qemu: "/usr/bin/qemu-system-x86_64".into(),
                kvm: self.kvm,
                vhost_net: false,
                can_setuid: true,
                kvm_gid: None,
            },
        }
    }

    fn link(&self) -> LinkPlan {
        let mac = MacAddr::stable("vm", "gateway");
        let address = "192.168.254.1/30".parse().unwrap();
        LinkPlan {
            uplink: "eth0".parse().unwrap(),
            bridge: Bridge { name: "br0".parse().unwrap(), mac, mtu: 1450, address },
            tap: Tap { name: "tap0".parse().unwrap(), mtu: 1450, queues: self.queues, owner: self.uid },
        }
    }

    fn disks(&self) -> DiskPlan {
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
            root,
            extra: self.extra_disks.clone(),
            seed,
            lock: "/run/lock".into(),
            state_dir: "/run".into(),
        }
    }
}

/// `linux/if_tun.h`, TUNSETIFF.
#[allow(unsafe_code, reason = "no safe wrapper of TUNSETIFF; the product's own is tested elsewhere")]
fn open_tap(queues: u16) -> Vec<OwnedFd> {
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

/// Not a test by itself: the process that the tests below start.
#[test]
fn supervisor() {
    let Ok(wanted) = std::env::var("MACHINE_TEST_WANTED") else {
        return;
    };
    let wanted: Wanted = serde_json::from_str(&wanted).unwrap();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let config = wanted.config();
    let plan = machine::plan(&config, &wanted.facts(), &wanted.link(), &wanted.disks()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen().unwrap();
        let mut console = Console::stdio(false);
        let queues = wanted.queues;
        let outcome = supervise::run(
            &plan,
            BaseFormat::Raw,
            &config.lifecycle,
            || Ok(open_tap(queues)),
            &mut console,
            &mut signals,
        )
        .await;
        console.close().await;
        outcome
    });
    match &outcome {
        Ok(outcome) => eprintln!("OUTCOME {outcome:?}"),
        Err(error) => eprintln!("ERROR {error}"),
    }
    std::process::exit(match outcome {
        Ok(outcome) => outcome.exit_code().into(),
        Err(_) => 99,
    });
}

/// A supervisor that takes longer is killed, and its test fails at the end of its output.
const LIMIT: Duration = Duration::from_secs(40);

/// A supervisor under test. Killed when dropped, and its QEMU with it.
struct Running {
    process: Child,
    stdout: ChildStdout,
    stderr: BufReader<ChildStderr>,
    log: String,
    _limit: mpsc::Sender<()>,
    netns: Netns,
}

impl Running {
    fn start(wanted: &Wanted) -> Self {
        let netns = Netns::new("vm");
        let this = std::env::current_exe().unwrap();
        let mut command = if wanted.pid1 {
            let mut command = netns.command("unshare");
            command.args(["--pid", "--fork", "--kill-child"]).arg(this);
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
    fn await_log(&mut self, text: &str) -> Instant {
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
    fn await_serial(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut byte = [0];
            let length = self.stdout.read(&mut byte).unwrap();
            assert!(length > 0, "serial ended without {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    fn signal(&self, signal: &str) -> Instant {
        support::run("kill", &[signal, &self.process.id().to_string()]);
        Instant::now()
    }

    fn qemu(&self) -> u32 {
        *children(self.process.id()).first().expect("the supervisor has a child")
    }

    /// Waits for the end; gives the exit status and all of the log.
    fn end(mut self) -> (ExitStatus, String) {
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
fn children(process: u32) -> Vec<u32> {
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

#[track_caller]
fn assert_outcome(log: &str, outcome: Outcome) {
    assert!(log.contains(&format!("OUTCOME {outcome:?}")), "wanted {outcome:?}:\n{log}");
}

// ── tests ──

#[test]
fn what_the_guest_writes_to_its_serial_line_arrives_on_stdout() {
    let directory = tempfile::tempdir().unwrap();
    let mut running =
        Running::start(&Wanted::of(disk(directory.path(), &says("hello from the guest", IDLE))));
    let serial = running.await_serial("hello from the guest");
    assert!(serial.contains("SeaBIOS"), "the firmware speaks there too: {serial}");
}

#[test]
fn a_guest_boots_through_an_overlay_whose_files_qemu_could_not_open() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let base = disk(directory.path(), &says("booted from the base", POWEROFF));
    let wanted = Wanted { overlay: Some(overlay(directory.path())), ..Wanted::of(base) };
    let mut running = Running::start(&wanted);
    running.await_serial("booted from the base");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn qemu_has_no_privilege_and_only_its_own_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("up", IDLE))));
    running.await_serial("up");
    let qemu = running.qemu();
    let status = std::fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), "65534 65534 65534 65534");
    assert_eq!(field("Gid:"), "65534 65534 65534 65534");
    assert_eq!(field("Groups:"), "");
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("CapPrm:"), "0000000000000000");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "1");
    let group = std::fs::read_to_string(format!("/proc/{qemu}/stat")).unwrap();
    let group = group.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap().to_owned();
    assert_eq!(group, qemu.to_string(), "a process group of its own");
    let mut files: Vec<String> = std::fs::read_dir(format!("/proc/{qemu}/fd"))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .filter(|file| file.starts_with('/') && !file.starts_with("/dev/null"))
        .collect();
    files.sort();
    // QEMU opens a member of an fd set by duplicating it.
    files.dedup();
    assert_eq!(files, ["/dev/net/tun".to_owned(), wanted_disk(directory.path())]);
}

fn wanted_disk(directory: &Path) -> String {
    directory.join("root.img").to_string_lossy().into_owned()
}

#[test]
fn a_guest_that_powers_itself_off_ends_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let (status, log) = Running::start(&Wanted::of(disk(directory.path(), POWEROFF))).end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_guest_that_powers_itself_off_is_run_again_when_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = Wanted { restart: true, ..Wanted::of(disk(directory.path(), &says("run", POWEROFF))) };
    let mut running = Running::start(&wanted);
    running.await_serial("run");
    running.await_log("started again");
    running.await_serial("run");
    running.await_log("started again");
    running.signal("-TERM");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_reboot_resets_the_guest_or_ends_the_machine_as_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let root = disk(directory.path(), &says("again", REBOOT));
    let mut running = Running::start(&Wanted::of(root.clone()));
    for _ in 0..3 {
        running.await_serial("again");
    }
    drop(running);
    let (status, log) = Running::start(&Wanted { exit_on_reboot: true, ..Wanted::of(root) }).end();
    assert_outcome(&log, Outcome::Reboot);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sigterm_presses_the_power_button_within_50_ms_and_the_guest_powers_off() {
    let directory = tempfile::tempdir().unwrap();
    let code = says("waiting", &[AWAIT_BUTTON, POWEROFF].concat());
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &code)));
    running.await_serial("waiting");
    // The guest needs a few microseconds more to enable the button.
    std::thread::sleep(Duration::from_millis(100));
    let asked = running.signal("-TERM");
    // That is QEMU's event, so the way to QEMU and back.
    let pressed = running.await_log("power button pressed") - asked;
    let (status, log) = running.end();
    let ended = asked.elapsed();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
    println!("SIGTERM to power button {pressed:?}, to the end of the supervisor {ended:?}");
    assert!(pressed < Duration::from_millis(50), "{pressed:?}");
    assert!(ended < Duration::from_millis(1000), "{ended:?}: the first press was missed");
}

#[test]
fn sigterm_while_qemu_is_starting_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let code = says("waiting", &[AWAIT_BUTTON, POWEROFF].concat());
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &code)));
    running.await_log("QEMU started");
    running.signal("-TERM");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_guest_that_ignores_acpi_is_quit_at_grace_minus_margin() {
    let directory = tempfile::tempdir().unwrap();
    let wanted =
        Wanted { grace_ms: 3000, margin_ms: 1000, ..Wanted::of(disk(directory.path(), &says("deaf", IDLE))) };
    let mut running = Running::start(&wanted);
    running.await_serial("deaf");
    let asked = running.signal("-TERM");
    let (status, log) = running.end();
    let after = asked.elapsed();
    assert_outcome(&log, Outcome::Stopped(By::Quit));
    assert_eq!(status.code(), Some(0));
    assert!((1.95..2.8).contains(&after.as_secs_f64()), "{after:?}:\n{log}");
}

#[test]
fn a_stopped_qemu_is_killed_at_the_end_of_the_grace() {
    let directory = tempfile::tempdir().unwrap();
    let wanted =
        Wanted { grace_ms: 1500, margin_ms: 500, ..Wanted::of(disk(directory.path(), &says("deaf", IDLE))) };
    let mut running = Running::start(&wanted);
    running.await_serial("deaf");
    support::run("kill", &["-STOP", &running.qemu().to_string()]);
    let asked = running.signal("-TERM");
    let (status, log) = running.end();
    let after = asked.elapsed();
    assert_outcome(&log, Outcome::Stopped(By::Kill));
    assert_eq!(status.code(), Some(137));
    assert!((1.45..2.3).contains(&after.as_secs_f64()), "{after:?}:\n{log}");
}

#[test]
fn a_second_sigint_quits_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("deaf", IDLE))));
    running.await_serial("deaf");
    running.signal("-INT");
    running.await_log("power button");
    let asked = running.signal("-INT");
    let (_, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Quit));
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[test]
fn qemus_exit_code_is_passed_on_with_what_it_said() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = Wanted { extra: vec!["-bogus".to_owned()], ..Wanted::of(disk(directory.path(), IDLE)) };
    let (status, log) = Running::start(&wanted).end();
    assert_outcome(&log, Outcome::Failed { fault: Fault::Exited(Exit::Code(1)), attempt: 0, running: false });
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("-bogus: invalid option"), "{log}");
}

#[test]
fn a_killed_qemu_is_128_and_its_signal() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("up", IDLE))));
    running.await_serial("up");
    support::run("kill", &["-KILL", &running.qemu().to_string()]);
    let (status, log) = running.end();
    assert_outcome(
        &log,
        Outcome::Failed { fault: Fault::Exited(Exit::Signal(9)), attempt: 0, running: false },
    );
    assert_eq!(status.code(), Some(137));
}

#[test]
fn no_qemu_outlives_a_supervisor_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&Wanted::of(disk(directory.path(), &says("up", IDLE))));
    running.await_serial("up");
    let qemu = PathBuf::from(format!("/proc/{}/exe", running.qemu()));
    running.signal("-KILL");
    let deadline = Instant::now() + Duration::from_secs(2);
    while qemu.read_link().is_ok() {
        assert!(Instant::now() < deadline, "{} still runs", qemu.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn several_queues_of_a_multiqueue_tap_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = Wanted { queues: 2, ..Wanted::of(disk(directory.path(), &says("up", POWEROFF))) };
    let (_, log) = Running::start(&wanted).end();
    assert_outcome(&log, Outcome::Poweroff);
}

#[test]
fn a_launcher_is_put_before_qemu() {
    let directory = tempfile::tempdir().unwrap();
    let launcher = vec!["env".to_owned(), "LAUNCHED=with these words".to_owned()];
    let mut running =
        Running::start(&Wanted { launcher, ..Wanted::of(disk(directory.path(), &says("up", IDLE))) });
    running.await_serial("up");
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", running.qemu())).unwrap();
    assert!(environment.split('\0').any(|entry| entry == "LAUNCHED=with these words"));
}

#[test]
fn a_stdout_that_nobody_reads_does_not_hold_up_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    // jmp to the beginning of the boot sector: for ever.
    let chatty =
        says(&"all work and no play makes a dull guest\r\n".repeat(8), &[0xea, 0x00, 0x7c, 0x00, 0x00]);
    let wanted = Wanted { grace_ms: 2000, margin_ms: 1000, ..Wanted::of(disk(directory.path(), &chatty)) };
    let mut running = Running::start(&wanted);
    running.await_log("QEMU runs the guest");
    std::thread::sleep(Duration::from_millis(1500));
    let asked = running.signal("-TERM");
    let pressed = running.await_log("power button pressed") - asked;
    let (_, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Quit));
    println!("SIGTERM to power button, stdout blocked: {pressed:?}");
    assert!(pressed < Duration::from_millis(50), "{pressed:?}");
    // A second for the relay, a second for stdout.
    assert!(asked.elapsed() < Duration::from_millis(4000), "{:?}", asked.elapsed());
}

#[test]
fn as_pid_1_it_buries_orphans_and_still_learns_of_qemus_end() {
    let directory = tempfile::tempdir().unwrap();
    let code = says("waiting", &[AWAIT_BUTTON, POWEROFF].concat());
    let orphans = "(sleep 0.01 & sleep 0.02 &) ; exec \"$@\"";
    let launcher = ["sh", "-c", orphans, "sh"].map(str::to_owned).to_vec();
    let wanted = Wanted { pid1: true, launcher, ..Wanted::of(disk(directory.path(), &code)) };
    let mut running = Running::start(&wanted);
    running.await_serial("waiting");
    std::thread::sleep(Duration::from_millis(200));
    let [supervisor] = children(running.process.id())[..] else { panic!("unshare has one child") };
    let [_qemu] = children(supervisor)[..] else { panic!("more than QEMU: {:?}", children(supervisor)) };
    support::run("kill", &["-TERM", &supervisor.to_string()]);
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Stopped(By::Guest));
    assert_eq!(status.code(), Some(0));
}

/// Every device there is on one command line: their PCI addresses must not clash.
#[test]
fn vnc_with_its_password_extra_disks_and_a_cdrom_start_together() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let wanted = Wanted {
        queues: 2,
        vnc_password: Some(file("password", b"sesame\nignored\n")),
        extra_disks: vec![file("a b.img", &[0; 4096]), file("c.img", &[0; 4096])],
        seed: Some(file("seed.iso", &[0; 65536])),
        ..Wanted::of(disk(directory.path(), &says("up", IDLE)))
    };
    let mut running = Running::start(&wanted);
    running.await_log("QEMU runs the guest");
    running.await_serial("up");
    let netns = &running.netns;
    let vnc = "import socket;s=socket.create_connection(('127.0.0.1',5900));print(s.recv(12));\
        s.send(b'RFB 003.008\\n');print(s.recv(9))";
    let said = support::checked(netns.command("python3").args(["-c", vnc]));
    assert!(said.contains("RFB 003.008") && said.contains(r"\x01\x02"), "one way in, by password: {said}");
    running.signal("-INT");
    running.await_log("asked to stop");
    running.signal("-INT");
    let (_, log) = running.end();
    assert!(!log.contains("refused"), "{log}");
}

/// KVM that does not work, whatever the machine of the test has: a launcher that fails when it is asked for.
fn broken_kvm(directory: &Path, how: &str) -> Vec<String> {
    let script = directory.join("launcher");
    std::fs::write(&script, format!("#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) {how};; esac\nexec \"$@\"\n"))
        .unwrap();
    support::run("chmod", &["755", script.to_str().unwrap()]);
    support::run("chmod", &["755", directory.to_str().unwrap()]);
    vec![script.to_string_lossy().into_owned()]
}

#[test]
fn a_kvm_that_aborts_gives_way_to_tcg_with_one_warning() {
    let directory = tempfile::tempdir().unwrap();
    let launcher = broken_kvm(directory.path(), "echo 'error: failed to set MSR' >&2; kill -ABRT $$");
    let root = disk(directory.path(), &says("runs", POWEROFF));
    let wanted =
        Wanted { accel: "auto".to_owned(), kvm: true, launcher: launcher.clone(), ..Wanted::of(root) };
    let mut running = Running::start(&wanted);
    running.await_serial("runs");
    let (status, log) = running.end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("kvm does not run the guest here").count(), 1, "{log}");

    let (status, log) = Running::start(&Wanted { accel: "kvm".to_owned(), ..wanted }).end();
    assert_eq!(status.code(), Some(99));
    assert!(
        log.contains("ERROR kvm does not run the guest here: QEMU ended with signal 6 (error: failed to set MSR); BERTH_ACCEL=auto"),
        "{log}"
    );
}

/// On a machine with a KVM that works this is the plain KVM run; with one that is broken, the fallback. Three ways
/// to be broken: QEMU aborts (`-cpu host` and MSR 0x10a), QEMU stops the guest with an internal error (the same
/// without `arch-capabilities`), QEMU may not open the device.
#[test]
fn whatever_kvm_is_like_here_auto_runs_the_guest() {
    let directory = tempfile::tempdir().unwrap();
    let no_arch_capabilities = broken_kvm(directory.path(), "exec \"$@\" -cpu host,-arch-capabilities");
    for (uid, launcher) in [(0, vec![]), (0, no_arch_capabilities), (65534, vec![])] {
        let root = disk(directory.path(), &says("runs", POWEROFF));
        let wanted = Wanted { accel: "auto".to_owned(), kvm: true, uid, launcher, ..Wanted::of(root) };
        let (status, log) = Running::start(&wanted).end();
        println!("{log}");
        assert_outcome(&log, Outcome::Poweroff);
        assert_eq!(status.code(), Some(0));
        assert!(log.matches("does not run the guest here").count() <= 1, "{log}");
    }
}

/// A QEMU whose KVM stops the guest and stays: `STOP`, then run state `internal-error`, no exit.
const STOPS_WITH_INTERNAL_ERROR: &str = r#"
import re, socket, sys, json, time
qmp = socket.socket(fileno=int(re.search(r"id=qmp0,fd=(\d+)", " ".join(sys.argv)).group(1)))
tell = lambda **message: qmp.sendall(json.dumps(message).encode() + b"\r\n")
tell(QMP={"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []})
states = ["running", "internal-error"]
for line in qmp.makefile():
    asked = json.loads(line)
    if asked["execute"] == "query-status":
        tell(id=asked["id"], **{"return": {"status": states.pop(0)}})
        if states:
            tell(event="STOP")
    else:
        tell(id=asked["id"], **{"return": {}})
"#;

#[test]
fn a_kvm_that_stops_the_guest_with_an_internal_error_gives_way_to_tcg() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("qemu.py");
    std::fs::write(&script, STOPS_WITH_INTERNAL_ERROR).unwrap();
    let launcher = broken_kvm(directory.path(), &format!("exec python3 {} \"$@\"", script.display()));
    let root = disk(directory.path(), &says("runs", POWEROFF));
    let wanted = Wanted { accel: "auto".to_owned(), kvm: true, launcher, ..Wanted::of(root) };
    let (_, log) = Running::start(&wanted).end();
    assert_outcome(&log, Outcome::Poweroff);
    assert_eq!(log.matches("kvm does not run the guest here: QEMU stopped the guest").count(), 1, "{log}");
    let (status, log) = Running::start(&Wanted { accel: "kvm".to_owned(), ..wanted }).end();
    assert_eq!(status.code(), Some(99));
    assert!(
        log.contains("ERROR kvm does not run the guest here: QEMU stopped the guest with an internal error")
    );
}
