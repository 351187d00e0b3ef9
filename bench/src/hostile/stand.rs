//! Where a flood takes place: namespaces made for it, berth in one of them, an upstream, and what the kernel says.
//!
//! ```text
//!   net    outside 10.99.0.1 ──veth── pod: berth net, br0, tap0 ══ our pump ══ g0 192.168.254.2 guest
//!   run    the same, with a program in QEMU's place, and the guest's namespace on the bridge by a veth
//!   serve  clients 10.77.0.2 ──veth── 10.77.0.1 berth serve
//! ```

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth::net::MacAddr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frames::Ends;
use super::honest::{self, CLIENT, Service};
use crate::dhcp::link::Link;
use crate::dhcp::wire::mac;
use crate::netns::{Netns, ip};
use crate::nft::heal;
use crate::path::Site;
use crate::process::{Process, Running};
use crate::startup::Files;
use crate::{Error, at};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than a grace period of a second, and less than anybody waits.
const END: Duration = Duration::from_secs(60);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 254, 1);
const UPSTREAM_PORT: u16 = 5300;
const ECHO_PORT: u16 = 7777;
/// linux/if_tun.h: IFF_TAP | IFF_NO_PI. Without a virtio-net header the kernel fills in every checksum.
const TAP: u16 = 0x0002 | 0x1000;

/// Sends a frame; whether it was taken.
pub type Wire = Box<dyn FnMut(&[u8]) -> bool + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Net,
    Run,
    Serve,
}

/// Fields end in this order: threads and the process before the namespaces they are in.
pub struct Stand {
    verb: Verb,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), Error>>>,
    berth: Running,
    tap: Option<Arc<File>>,
    site: Site,
    files: Files,
}

impl Stand {
    /// Its services have answered. `qemu`: the words of the program in QEMU's place.
    pub fn new(verb: Verb, berth: &Path, qemu: &str) -> Result<Self, Error> {
        let (site, files) =
            (if verb == Verb::Serve { lan()? } else { Site::new()? }, Files::new()?);
        let log = at("the log", File::create(files.path("log")))?;
        let mut command = command(verb, berth, &files, qemu)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let berth = site.pod.inside(|| at("starting berth", command.spawn()).map(Running))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut stand = Self { verb, stop, threads: Vec::new(), berth, tap: None, site, files };
        if verb != Verb::Serve {
            stand.until("bridge, tap and rules", |stand| {
                let rules = stand.site.pod.run("nft list table inet berth").is_ok();
                rules
                    && ["br0", "tap0"]
                        .iter()
                        .all(|link| stand.site.pod.ip(&format!("link show {link}")).is_ok())
            })?;
            if verb == Verb::Net {
                stand.plug()?;
            } else {
                stand.site.attach()?;
            }
            stand.thread(Service::Nat, |stop| honest::echoes(ECHO_PORT, stop))?;
        }
        let port = if verb == Verb::Serve { UPSTREAM_PORT } else { 53 };
        stand.thread(Service::Dhcp, move |stop| honest::upstream(port, stop))?;
        honest::warm_up(&stand, PATIENCE)?;
        Ok(stand)
    }

    /// A guest whose network card is the other end of the tap.
    fn plug(&mut self) -> Result<(), Error> {
        let open = |netns: &Netns, name: &str| {
            netns.inside(|| {
                let mut options = File::options();
                let tun = options
                    .read(true)
                    .write(true)
                    .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
                let tun = at("opening /dev/net/tun", tun.open("/dev/net/tun"))?;
                at(format!("attaching to {name}"), berth::sys::ffi::tun_set_iff(&tun, name, TAP))?;
                Ok(Arc::new(tun))
            })
        };
        let tap = open(&self.site.pod, "tap0")?;
        let card = open(&self.site.guest, "g0")?;
        let guest = &self.site.guest;
        guest.ip(&format!("link set g0 address {} mtu 1450 up", mac(CLIENT)))?;
        guest.ip(&format!("addr add {GUEST}/30 dev g0"))?;
        guest.ip(&format!("route add default via {GATEWAY}"))?;
        let (pumped, stop) = (Arc::clone(&tap), Arc::clone(&self.stop));
        self.threads.push(std::thread::spawn(move || pump([&pumped, &card], &stop)));
        self.tap = Some(tap);
        Ok(())
    }

    /// Something that serves: in the guest's place (NAT), or where upstreams are.
    fn thread(
        &mut self,
        place: Service,
        work: impl FnOnce(&AtomicBool) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let netns = if place == Service::Nat { &self.site.guest } else { &self.site.outside };
        let (stop, path) = (Arc::clone(&self.stop), netns.name().to_owned());
        self.threads.push(std::thread::spawn(move || crate::netns::inside(&path, || work(&stop))));
        Ok(())
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let began = Instant::now();
        while !holds(self) {
            if self.ended().is_some() || began.elapsed() > PATIENCE {
                return Err(Error::Step(format!("no {what}\n{}", self.log())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn services(&self) -> &'static [Service] {
        match self.verb {
            Verb::Net | Verb::Run => &[Service::Nat, Service::Dns, Service::Dhcp],
            Verb::Serve => &[Service::Dns, Service::Dhcp],
        }
    }

    /// Where the honest client of a service is.
    pub fn place(&self, service: Service) -> &Netns {
        if self.verb == Verb::Serve || service == Service::Nat {
            &self.site.outside
        } else {
            self.inner()
        }
    }

    /// Where a flood comes from.
    pub fn inner(&self) -> &Netns {
        if self.verb == Verb::Serve { &self.site.outside } else { &self.site.guest }
    }

    /// The interface there.
    pub fn link(&self) -> &'static str {
        match self.verb {
            Verb::Net => "g0",
            Verb::Run => "eth0",
            Verb::Serve => "c0",
        }
    }

    pub fn resolver(&self) -> SocketAddr {
        let server = if self.verb == Verb::Serve { crate::dhcp::server::ADDRESS } else { GATEWAY };
        (server, 53).into()
    }

    /// The guest, as others know it.
    #[expect(clippy::unused_self, reason = "it is the same in every stand that has a guest")]
    pub fn guest_outside(&self) -> SocketAddr {
        (Ipv4Addr::new(10, 99, 0, 2), ECHO_PORT).into()
    }

    /// What takes a flood's frames: the tap itself, or the link to the server.
    pub fn wire(&self) -> Result<Wire, Error> {
        if let Some(tap) = self.tap.clone() {
            return Ok(Box::new(move |frame| (&*tap).write(frame).is_ok()));
        }
        let mut link = self.inner().inside(|| Link::open(self.link()))?;
        Ok(Box::new(move |frame| link.send(frame).is_ok()))
    }

    pub fn ends(&self) -> Result<Ends, Error> {
        let (server, bridge, own) = match self.verb {
            Verb::Serve => (crate::dhcp::server::ADDRESS, "s0", crate::dhcp::server::RELAY),
            _ => (GATEWAY, "br0", GUEST),
        };
        let of = |netns: &Netns, link: &str| -> Result<MacAddr, Error> {
            let step = format!("the MAC address of {link}");
            let text = text(netns, &format!("cat /sys/class/net/{link}/address"));
            text.trim().parse().map_err(|_| Error::Step(format!("{step}: {text:?}")))
        };
        Ok(Ends {
            own: (of(self.inner(), self.link())?, own),
            server: (of(&self.site.pod, bridge)?, server),
        })
    }

    pub fn process(&self) -> Process {
        Process(self.berth.0.id())
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.files.path("log")).unwrap_or_default()).into_owned()
    }

    pub fn log_bytes(&self) -> u64 {
        fs::metadata(self.files.path("log")).map_or(0, |file| file.len())
    }

    /// The kernel's neighbours, FDB entries, and routes that came by advertisements, in berth's namespace.
    pub fn kernel(&self) -> [usize; 3] {
        ["ip -o neigh show nud all", "bridge fdb show", "ip -6 -o route show proto ra"]
            .map(|words| text(&self.site.pod, words).lines().count())
    }

    /// From our table's end to its return; none when it does not come back in time, or where there is none.
    pub fn heal(&self) -> Option<f64> {
        if self.verb == Verb::Serve {
            return None;
        }
        let healed =
            self.site.pod.inside(|| heal::once(&["nft", "flush", "table", "inet", "berth"]));
        healed.ok().map(|taken| taken.as_secs_f64() * 1e3)
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.berth.0.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// SIGTERM to the end; none when it had to be killed, or had ended before.
    pub fn end(&mut self) -> Option<f64> {
        if self.ended().is_some() {
            return None;
        }
        let pid = rustix::process::Pid::from_raw(self.berth.0.id().cast_signed())?;
        let began = Instant::now();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok()?;
        while began.elapsed() < END {
            if self.ended().is_some() {
                return Some(began.elapsed().as_secs_f64() * 1e3);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Two namespaces for three: a server's, and that of all its clients.
fn lan() -> Result<Site, Error> {
    let site =
        Site { outside: Netns::new("lan")?, pod: Netns::new("srv")?, guest: Netns::new("none")? };
    let (clients, server) = (site.outside.name(), site.pod.name());
    ip(&[
        "link", "add", "c0", "netns", clients, "type", "veth", "peer", "name", "s0", "netns",
        server,
    ])?;
    for (netns, words) in [
        (&site.outside, ["addr add 10.77.0.2/16 dev c0", "link set c0 up"]),
        (&site.pod, ["addr add 10.77.0.1/16 dev s0", "link set s0 up"]),
    ] {
        words.iter().try_for_each(|words| netns.ip(words))?;
    }
    // A veth leaves checksums to hardware that is not there.
    site.pod.run("ethtool -K s0 tx off")?;
    Ok(site)
}

fn command(verb: Verb, berth: &Path, files: &Files, qemu: &str) -> Result<Command, Error> {
    if verb == Verb::Serve {
        let mut command = Command::new(berth);
        command.args([
            "serve",
            "--interface=s0",
            "--range=10.77.1.1,10.77.120.250",
            "--lease-time=3600",
        ]);
        command.arg(format!("--upstream={}:{UPSTREAM_PORT}", crate::dhcp::server::RELAY));
        command.arg(format!("--lease-file={}", files.path("leases").display()));
        return Ok(command);
    }
    let resolv = files.path("resolv.hostile");
    at("writing resolv.conf", fs::write(&resolv, "nameserver 10.99.0.1\n"))?;
    let mut command = files.command(berth, if verb == Verb::Net { "net" } else { "run" });
    command
        .env("BERTH_RESOLV_CONF", resolv)
        .env("BERTH_MAC", mac(CLIENT).to_string())
        .env("BERTH_LOG", "info");
    if verb == Verb::Run {
        let program = stand_in(files, qemu)?;
        command
            .env("BERTH_QEMU", program)
            .env("BERTH_GRACE_S", "1")
            .env("NO_VNC", "1")
            .env("IMG_RAM_MB", "64");
    }
    Ok(command)
}

/// A script, because only a shell takes descriptors by number: QMP becomes the program's standard input, the console
/// its output.
fn stand_in(files: &Files, words: &str) -> Result<PathBuf, Error> {
    let script = format!(
        "#!/bin/bash\n\
         for word; do case $word in\n\
         socket,id=qmp0,fd=*) qmp=${{word##*=}} ;;\n\
         socket,id=serial0,fd=*) serial=${{word##*=}} ;;\n\
         esac; done\n\
         exec -a berth-bench {} hostile-qemu {words} <&$qmp >&$serial\n",
        files.path("qemu-system-x86_64").display()
    );
    // What is below the directory of its `bin`, a confined one may read and execute.
    let path = files.path("bin/hostile-qemu");
    at("making its directory", fs::create_dir_all(files.path("bin")))?;
    at("writing the program in QEMU's place", fs::write(&path, script))?;
    at("its mode", fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))?;
    Ok(path)
}

fn text(netns: &Netns, words: &str) -> String {
    let output = netns.command(words).stdin(Stdio::null()).output();
    String::from_utf8_lossy(&output.map(|output| output.stdout).unwrap_or_default()).into_owned()
}

/// Frames from each to the other.
fn pump(ends: [&File; 2], stop: &AtomicBool) -> Result<(), Error> {
    let mut buffer = vec![0; 65_536];
    let [one, other] = ends;
    while !stop.load(Ordering::Relaxed) {
        let mut both = ends.map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN));
        let _ = poll(&mut both, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }));
        for (mut from, mut to) in [(one, other), (other, one)] {
            // So many, and it is the other's turn.
            for _ in 0..64 {
                match from.read(&mut buffer) {
                    // A full queue loses a frame, as a card does.
                    Ok(length) => drop(buffer.get(..length).map(|frame| to.write(frame))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // The tap went with berth.
                    Err(_) => {
                        std::thread::sleep(Duration::from_millis(10));
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}
