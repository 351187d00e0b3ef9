//! Start → QEMU's exec, with the base image there: overlay, config drive, links, NAT, DHCP included.
//!
//! QEMU is this program itself under QEMU's name: the first thing it does is to write down the time. Both sides
//! pay for that alike. Every run gets a fresh network namespace; the sides take turns. What IPv6 adds is seen in pods that
//! have it, with it and with `BERTH_IPV6=off`: links, addresses, rules and their probe. What berth costs once the
//! guest runs (RSS) is read from a run with the real QEMU.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::netns::Pod;
use crate::stats::Summary;
use crate::{Error, at};

/// Before the time, in what the program in QEMU's place says: a confined one has no files and no sockets.
const STAMP: &str = "started at ";
const QEMU: &str = "qemu-system-x86_64";
const SEED_ORDER: &str = include_str!("seed-order.sh");
const SEED_TOOLS: [&str; 6] = ["qemu-img", "mkisofs", "iptables", "brctl", "ip", "dnsmasq"];
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub struct Options {
    /// Runs of each side
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// The berth to measure [default: the static release build, made by `make build` when missing]
    #[arg(long)]
    berth: Option<PathBuf>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    berth: Summary,
    /// In a pod that has IPv6 too: with it, and with `BERTH_IPV6=off`.
    dual_stack: Summary,
    dual_stack_off: Summary,
    /// With `BERTH_WEB=loopback`.
    page: Summary,
    seed_order: Summary,
    /// The stand-in alone: spawn → its stamp. What no launcher can be below.
    floor: Summary,
    /// Median of the seed's tools over median of berth.
    ratio: f64,
    rss_kib: u64,
    pss_kib: u64,
    binary_bytes: u64,
    statically_linked: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "start -> QEMU exec (base image there; overlay, config drive, links, NAT, DHCP included)"
        )?;
        writeln!(f, "  berth                 {}", self.berth)?;
        writeln!(f, "  dual-stack pod        {}", self.dual_stack)?;
        writeln!(f, "  the same, IPv6 off    {}", self.dual_stack_off)?;
        writeln!(f, "  with the page         {}", self.page)?;
        writeln!(f, "  seed's tools in order {}", self.seed_order)?;
        writeln!(f, "  spawn of QEMU alone   {}", self.floor)?;
        writeln!(f, "  ratio                 {:>9.1} x", self.ratio)?;
        writeln!(f, "berth while its guest runs")?;
        writeln!(f, "  RSS                   {:>9.2} MiB", mib(self.rss_kib))?;
        writeln!(f, "  PSS                   {:>9.2} MiB", mib(self.pss_kib))?;
        let linking = if self.statically_linked { "static" } else { "dynamic" };
        write!(f, "  binary                {:>9.2} MiB, {linking}", mib(self.binary_bytes / 1024))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Whether this process was started in QEMU's place.
pub fn is_qemu_stand_in() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == QEMU))
}

/// Tells the time and ends.
pub fn stand_in() -> ExitCode {
    let now = monotonic().as_nanos();
    eprintln!("{STAMP}{now}");
    ExitCode::SUCCESS
}

/// CLOCK_MONOTONIC, the same for every process of the machine.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

pub fn run(options: &Options) -> Result<Report, Error> {
    missing_tools()?;
    let berth = options.berth.clone().map_or_else(release_build, Ok)?;
    let every = [
        Side::Berth(&berth),
        Side::DualStack(&berth, "auto"),
        Side::DualStack(&berth, "off"),
        Side::Page(&berth),
        Side::SeedOrder,
        Side::Floor,
    ];
    let mut sides = every.each_ref().map(|_| Vec::new());
    for _ in 0..options.runs.max(1) {
        for (side, samples) in every.iter().zip(&mut sides) {
            samples.push(one(side)?);
        }
    }
    let summaries = sides.map(|samples| Summary::of(&samples));
    let [
        Some(ours),
        Some(dual_stack),
        Some(dual_stack_off),
        Some(page),
        Some(seed_order),
        Some(floor),
    ] = summaries
    else {
        return Err(Error::Step("nothing was measured".into()));
    };
    let (rss_kib, pss_kib) = steady(&berth)?;
    let report = Report {
        ratio: seed_order.median_ms / ours.median_ms,
        berth: ours,
        dual_stack,
        dual_stack_off,
        page,
        seed_order,
        floor,
        rss_kib,
        pss_kib,
        binary_bytes: at("reading the binary's size", fs::metadata(&berth))?.len(),
        statically_linked: is_static(&berth)?,
    };
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Error::Step(error.to_string()))?;
        at(format!("writing {}", path.display()), fs::write(path, text))?;
    }
    Ok(report)
}

fn missing_tools() -> Result<(), Error> {
    let found = |tool: &&str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(tool).exists())
    };
    let missing: Vec<&str> =
        SEED_TOOLS.iter().chain([&QEMU]).filter(|tool| !found(tool)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages =
        "qemu-system-x86 qemu-utils genisoimage iptables bridge-utils iproute2 dnsmasq-base";
    Err(Error::Step(format!("not installed: {}; apt-get install {packages}", missing.join(", "))))
}

/// The static release build, made when it is not there.
pub fn release_build() -> Result<PathBuf, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let make = at(
        "running make",
        Command::new("make").arg("-C").arg(root).args(["-s", "build"]).status(),
    )?;
    if !make.success() {
        return Err(Error::Step(format!("make build: {make}")));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(target.join(triple).join("release/berth"))
}

/// ELF without an interpreter (PT_INTERP).
pub fn is_static(binary: &Path) -> Result<bool, Error> {
    let bytes = at(format!("reading {}", binary.display()), fs::read(binary))?;
    let head = bytes.get(..4096).unwrap_or(&bytes);
    Ok(!head.windows(7).any(|window| window == b"/ld-lin" || window == b"ld-musl"))
}

enum Side<'a> {
    Berth(&'a Path),
    /// With this for `BERTH_IPV6`.
    DualStack(&'a Path, &'static str),
    /// With `BERTH_WEB=loopback`.
    Page(&'a Path),
    SeedOrder,
    Floor,
}

/// Files of one run: base image, cloud-init data, resolver, a QEMU that only tells the time.
pub struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    pub fn new() -> Result<Self, Error> {
        let dir = at("making a directory", tempfile::tempdir())?;
        let files = Self { dir };
        let open = fs::Permissions::from_mode(0o777);
        at("opening the directory", fs::set_permissions(files.dir.path(), open))?;
        for name in ["image", "state"] {
            at(name, fs::create_dir(files.path(name)))?;
        }
        for (name, text) in [
            ("metadata", "{\"uuid\": \"4f0c9b1e-8f5e-4d0f-9d51-3d5b5f0f2b11\"}\n"),
            ("userdata", "#cloud-config\nfqdn: bench.example.com\n"),
            (
                "resolv.conf",
                "nameserver 10.99.0.1\nnameserver 10.99.0.3\nsearch default.svc.cluster.local\n",
            ),
            ("seed-order.sh", SEED_ORDER),
        ] {
            at(name, fs::write(files.path(name), text))?;
        }
        let base = files.path("image/base.qcow2");
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2"]).arg(&base).arg("1G");
        let made = at("running qemu-img", create.status())?;
        if !made.success() {
            return Err(Error::Step(format!("qemu-img create: {made}")));
        }
        let me = at("finding this program", std::env::current_exe())?;
        at("copying this program", fs::copy(me, files.path(QEMU)))?;
        Ok(files)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn berth(&self, binary: &Path) -> Command {
        let mut command = self.command(binary, "run");
        command.args(["--log", "warn"]);
        command
    }

    /// Another verb, or another log.
    pub fn command(&self, binary: &Path, verb: &str) -> Command {
        let mut command = Command::new(binary);
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("BERTH_ACCEL", "tcg").env("HOSTNAME", "bench");
        for (name, file) in [
            ("IMG_TARGET", "image/base.qcow2"),
            ("BERTH_IMAGE_DIR", "image"),
            ("BERTH_STATE_DIR", "state"),
            ("BERTH_METADATA", "metadata"),
            ("BERTH_USERDATA", "userdata"),
            ("BERTH_RESOLV_CONF", "resolv.conf"),
        ] {
            command.env(name, self.path(file));
        }
        command
    }
}

/// One start, from spawn to the stamp.
fn one(side: &Side<'_>) -> Result<Duration, Error> {
    let files = Files::new()?;
    let pod = if let Side::DualStack(..) = side { Pod::dual_stack()? } else { Pod::new()? };
    let mut command = match side {
        Side::Berth(binary) => {
            let mut command = files.berth(binary);
            command.env("BERTH_QEMU", files.path(QEMU));
            command
        }
        Side::DualStack(binary, ipv6) => {
            let mut command = files.berth(binary);
            command.env("BERTH_QEMU", files.path(QEMU)).env("BERTH_IPV6", ipv6);
            command
        }
        Side::Page(binary) => {
            let mut command = files.berth(binary);
            command.env("BERTH_QEMU", files.path(QEMU)).env("BERTH_WEB", "loopback");
            command
        }
        Side::SeedOrder => {
            let mut command = Command::new("bash");
            command.arg(files.path("seed-order.sh")).arg(files.path("image/base.qcow2"));
            command
                .arg(files.path("image/bench.qcow2"))
                .arg(files.dir.path())
                .arg(files.path(QEMU));
            command
        }
        Side::Floor => Command::new(files.path(QEMU)),
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let errors = at("keeping the errors", fs::File::create(files.path("stderr")))?;
    command.stderr(errors);
    let (start, status) = pod.inside(|| {
        let start = monotonic();
        let mut child = at(format!("starting {command:?}"), command.spawn())?;
        Ok((start, bounded(&mut child)?))
    })?;
    end_dnsmasq(&files);
    // Among what berth says, where it is berth that started it.
    let errors = fs::read_to_string(files.path("stderr")).unwrap_or_default();
    let stamp = errors.split_once(STAMP).and_then(|(_, rest)| {
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    match stamp.map(Duration::from_nanos).and_then(|stamp| stamp.checked_sub(start)) {
        Some(taken) => Ok(taken),
        None => Err(Error::Step(format!(
            "{command:?} ended ({status}) without starting QEMU:\n{errors}"
        ))),
    }
}

/// Waits for the end, at most `LIMIT`.
fn bounded(child: &mut Child) -> Result<String, Error> {
    let end = monotonic() + LIMIT;
    while monotonic() < end {
        if let Some(status) = at("waiting", child.try_wait())? {
            return Ok(status.to_string());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    at("ending a run that hangs", child.kill())?;
    at("waiting", child.wait())?;
    Ok("ended at the time limit".into())
}

/// The daemon the seed's order leaves behind.
fn end_dnsmasq(files: &Files) {
    let pid = fs::read_to_string(files.path("dnsmasq.pid"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// RSS and PSS in KiB three seconds after the start with the real QEMU.
fn steady(binary: &Path) -> Result<(u64, u64), Error> {
    let files = Files::new()?;
    let pod = Pod::new()?;
    let mut command = files.berth(binary);
    command.args(["--vnc", "off", "--grace", "1", "--ram-mb", "64"]).stderr(Stdio::null());
    pod.inside(|| {
        let mut child = at("starting berth", command.spawn())?;
        std::thread::sleep(Duration::from_secs(3));
        let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id()));
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        bounded(&mut child)?;
        let smaps = at("reading berth's memory while its guest runs", smaps)?;
        let field = |name: &str| {
            let line = smaps.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        field("Rss:").zip(field("Pss:")).ok_or_else(|| Error::Step("no Rss in smaps_rollup".into()))
    })
}
