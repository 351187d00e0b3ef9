//! Start → the guest's first answer over the network: a boot by berth beside one by bare QEMU with the same devices, and
//! a guest that was suspended beside its own boot.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;
use serde::Serialize;

use crate::netns::{Pair, ip};
use crate::process::{Process, Running};
use crate::startup::{Files, release_build};
use crate::stats::{Summary, median};
use crate::{Error, at};

/// The pod's, which is the guest's.
const POD: &str = "10.77.0.1:8080";
/// Where bare QEMU's own network leads to its guest.
const FORWARDED: &str = "127.0.0.1:8080";
/// A boot under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const ONE_TRY: Duration = Duration::from_millis(200);
/// Between the answer and the end: the guest's last programs have started.
const SETTLE: Duration = Duration::from_secs(2);
/// What the guest says when it boots, and not when it goes on.
const BOOTED: &str = "guest: ";

#[derive(Debug, Args)]
pub struct Options {
    /// Rounds of each side
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Memory of the guests that are suspended, in MiB; 0: none is
    #[arg(long, value_delimiter = ',', default_value = "256,1024")]
    suspend: Vec<u32>,
    /// The berth to measure [default: the static release build, made by `make build` when missing]
    #[arg(long)]
    berth: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A guest that was suspended, and came back.
#[derive(Debug, Serialize)]
pub struct Suspended {
    pub ram_mib: u32,
    pub boot: Summary,
    /// From SIGTERM to berth's end.
    pub save: Summary,
    pub resume: Summary,
    pub file_mib: f64,
    /// Boot over resume, by round: median, least, most.
    pub ratio: (f64, f64, f64),
}

#[derive(Debug, Serialize)]
pub struct Report {
    bare: Option<Summary>,
    berth: Option<Summary>,
    /// berth's time less bare QEMU's by round, in seconds: median, least, most.
    more: Option<(f64, f64, f64)>,
    suspended: Vec<Suspended>,
}

pub fn run(options: &Options) -> Result<Report, Error> {
    let berth = options.berth.clone().map_or_else(release_build, Ok)?;
    let image = image()?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(boot_bare(&image)?);
        let pod = Pod::new(&berth, &image, 256, "poweroff")?;
        ours.push(pod.start()?.answers()?);
    }
    let mut suspended = Vec::new();
    for &ram_mib in options.suspend.iter().filter(|ram_mib| **ram_mib > 0) {
        suspended.push(suspend(&berth, &image, ram_mib, options.rounds.max(1))?);
    }
    let more = ours.iter().zip(&bare).map(|(ours, bare)| ours.as_secs_f64() - bare.as_secs_f64());
    let report = Report {
        bare: Summary::of(&bare),
        berth: Summary::of(&ours),
        more: median(more),
        suspended,
    };
    if let Some(path) = &options.json {
        crate::write_json(path, &report)?;
    }
    Ok(report)
}

/// The tests' small guest, which says hello at port 8080; made when it is not there.
fn image() -> Result<PathBuf, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut script = Command::new("bash");
    script.arg(root.join("examples/guest/tiny.sh")).stderr(Stdio::inherit());
    let output = at("making the guest's image", script.output())?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !path.is_empty() {
        Ok(path.into())
    } else {
        Err(Error::Step(format!("examples/guest/tiny.sh: {}", output.status)))
    }
}

/// Until something there says hello.
fn hello(began: Instant, address: &str) -> Result<Duration, Error> {
    let to: SocketAddr =
        address.parse().map_err(|_| Error::Step(format!("{address} is no address")))?;
    while began.elapsed() < PATIENCE {
        if let Ok(mut stream) = TcpStream::connect_timeout(&to, ONE_TRY) {
            at("bounding a question", stream.set_read_timeout(Some(ONE_TRY)))?;
            let mut said = [0; 5];
            if stream.read_exact(&mut said).is_ok() && said == *b"hello" {
                return Ok(began.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(Error::Step(format!("no guest answered at {address}")))
}

/// QEMU by itself, with berth's devices and its own network and DHCP server (slirp) in place of berth's.
fn boot_bare(image: &Path) -> Result<Duration, Error> {
    let (files, pair) = (Files::new()?, Pair::new()?);
    let (overlay, seed) = (files.path("overlay.qcow2"), files.path("seed.img"));
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(image).arg(&overlay);
    if !at("running qemu-img", create.status())?.success() {
        return Err(Error::Step("qemu-img create failed".into()));
    }
    at("making a drive", File::create(&seed).and_then(|file| file.set_len(81_920)))?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args("-nodefaults -no-user-config -display none -machine q35,graphics=off".split(' '));
    qemu.args("-smp 1 -m 256 -serial stdio -accel tcg -cpu max".split(' '));
    qemu.args(["-netdev", "user,id=net0,hostfwd=tcp:127.0.0.1:8080-:8080"]);
    qemu.args(["-device", "virtio-net-pci,netdev=net0,romfile=,bus=pcie.0,addr=0x2"]);
    for (id, file, format, more) in [
        ("disk0", &overlay, "qcow2", ",serial=root,bootindex=1"),
        ("seed0", &seed, "raw,readonly=on", ",serial=seed"),
    ] {
        qemu.args(["-drive", &format!("file={},if=none,id={id},format={format}", file.display())]);
        qemu.args(["-device", &format!("virtio-blk-pci,drive={id}{more}")]);
    }
    qemu.args("-object rng-builtin,id=rng0 -device virtio-rng-pci,rng=rng0".split(' '));
    qemu.args(["-device", "pvpanic-pci,bus=pcie.0,addr=0x1f.6", "-chardev", "null,id=agent0-line"]);
    qemu.args(["-device", "virtio-serial-pci,id=agent-bus,bus=pcie.0,addr=0x1f.7"]);
    qemu.args([
        "-device",
        "virtserialport,bus=agent-bus.0,nr=1,chardev=agent0-line,name=org.qemu.guest_agent.0",
    ]);
    qemu.args(["-sandbox", "on,spawn=deny"]);
    qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    pair.driving(|| {
        let began = Instant::now();
        let _qemu = Running(at("starting QEMU", qemu.spawn())?);
        hello(began, FORWARDED)
    })
}

/// A pod, and whoever asks its guest; the VM's files are kept from run to run.
struct Pod {
    files: Files,
    pair: Pair,
    berth: PathBuf,
    image: PathBuf,
    ram_mib: u32,
    on_stop: &'static str,
}

/// berth in its pod.
struct Run<'a> {
    pod: &'a Pod,
    began: Instant,
    berth: Running,
}

impl Pod {
    fn new(berth: &Path, image: &Path, ram_mib: u32, on_stop: &'static str) -> Result<Self, Error> {
        let (files, pair) = (Files::new()?, Pair::new()?);
        pair.serving(|| ip(&["route", "add", "default", "via", "10.77.0.2"]))?;
        Ok(Self { files, pair, berth: berth.into(), image: image.into(), ram_mib, on_stop })
    }

    fn start(&self) -> Result<Run<'_>, Error> {
        let mut command = self.files.berth(&self.berth);
        command.args(["--vnc", "off", "--ram-mb", &self.ram_mib.to_string()]);
        command.env("IMG_TARGET", &self.image).env("BERTH_ON_STOP", self.on_stop);
        command.stdout(at("keeping the serial line", File::create(self.files.path("serial")))?);
        command.stderr(at("keeping the log", File::create(self.files.path("log")))?);
        let (began, berth) = self.pair.serving(|| {
            let began = Instant::now();
            Ok((began, Running(at("starting berth", command.spawn())?)))
        })?;
        Ok(Run { pod: self, began, berth })
    }

    fn said(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.files.path(file)).unwrap_or_default()).into_owned()
    }

    /// What the suspended guest takes on the volume, in MiB.
    fn file_mib(&self) -> Result<f64, Error> {
        let path = self.files.path("image/bench.ram");
        let octets = at("looking at the suspended guest", fs::metadata(path))?.len();
        #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
        Ok(octets as f64 / f64::from(1 << 20))
    }
}

impl Run<'_> {
    fn answers(&self) -> Result<Duration, Error> {
        let answered = self.pod.pair.driving(|| hello(self.began, POD));
        answered.map_err(|error| Error::Step(format!("{error}\n{}", self.pod.said("log"))))
    }

    /// From SIGTERM to the end.
    fn end(mut self) -> Result<Duration, Error> {
        let began = Instant::now();
        at("ending berth", Process(self.berth.0.id()).signal(Signal::TERM))?;
        while at("waiting for berth", self.berth.0.try_wait())?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(Error::Step("berth does not end".into()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(began.elapsed())
    }
}

fn suspend(berth: &Path, image: &Path, ram_mib: u32, rounds: usize) -> Result<Suspended, Error> {
    let (mut boots, mut saves, mut resumes) = (Vec::new(), Vec::new(), Vec::new());
    let mut file_mib = 0.0;
    for _ in 0..rounds {
        let pod = Pod::new(berth, image, ram_mib, "suspend")?;
        let run = pod.start()?;
        boots.push(run.answers()?);
        std::thread::sleep(SETTLE);
        saves.push(run.end()?);
        file_mib = pod.file_mib()?;
        let run = pod.start()?;
        resumes.push(run.answers()?);
        if pod.said("serial").contains(BOOTED) {
            return Err(Error::Step(format!("the guest booted again\n{}", pod.said("log"))));
        }
        run.end()?;
    }
    let nothing = || Error::Step("nothing was measured".into());
    let ratios =
        boots.iter().zip(&resumes).map(|(boot, resume)| boot.as_secs_f64() / resume.as_secs_f64());
    Ok(Suspended {
        ram_mib,
        file_mib,
        ratio: median(ratios).ok_or_else(nothing)?,
        boot: Summary::of(&boots).ok_or_else(nothing)?,
        save: Summary::of(&saves).ok_or_else(nothing)?,
        resume: Summary::of(&resumes).ok_or_else(nothing)?,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(bare), Some(berth), Some((more, least, most))) =
            (&self.bare, &self.berth, self.more)
        {
            writeln!(f, "start -> the guest answers, 256 MiB")?;
            writeln!(f, "  QEMU alone            {bare}")?;
            writeln!(f, "  berth                 {berth}")?;
            writeln!(
                f,
                "  berth's more          {more:>9.2} s by round ({least:.2} to {most:.2})"
            )?;
        }
        for one in &self.suspended {
            let Suspended { ram_mib, boot, save, resume, file_mib, ratio } = one;
            writeln!(
                f,
                "a guest of {ram_mib} MiB that is suspended: {file_mib:.0} MiB on the volume"
            )?;
            writeln!(f, "  SIGTERM -> the end    {save}")?;
            writeln!(f, "  start -> answer       {resume}")?;
            writeln!(f, "  its boot              {boot}")?;
            let (middle, least, most) = ratio;
            writeln!(f, "  boot over resume      {middle:>9.1} x by round ({least:.1}-{most:.1})")?;
        }
        Ok(())
    }
}
