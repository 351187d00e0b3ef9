//! Servers people run, each in a network namespace of its own, with the same pool and its own way to keep leases.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::netns::Pair;
use crate::process::Running;
use crate::{Error, at};

/// The server's address on the link; its clients have the rest of the /16 from .1.0 on.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The driver's own, as a relay.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const FIRST: &str = "10.77.1.1";
const LAST: &str = "10.77.250.250";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Server {
    Berth,
    Dnsmasq,
    Kea,
    Isc,
    Udhcpd,
    Networkd,
    /// Frames back as they came: the floor
    Echo,
}

impl Server {
    pub fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "kea",
            Self::Isc => "isc",
            Self::Udhcpd => "udhcpd",
            Self::Networkd => "networkd",
            Self::Echo => "echo",
        }
    }

    /// Program and Debian package.
    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Berth | Self::Echo => None,
            Self::Dnsmasq => Some(("/usr/sbin/dnsmasq", "dnsmasq-base")),
            Self::Kea => Some(("/usr/sbin/kea-dhcp4", "kea-dhcp4-server")),
            Self::Isc => Some(("/usr/sbin/dhcpd", "isc-dhcp-server")),
            Self::Udhcpd => Some(("/usr/sbin/udhcpd", "udhcpd")),
            Self::Networkd => Some(("/lib/systemd/systemd-networkd", "systemd")),
        }
    }

    /// What is missing, with the package that has it.
    pub fn missing(self) -> Option<String> {
        let (program, package) = self.program()?;
        (!Path::new(program).exists())
            .then(|| format!("{}: install the Debian package {package}", self.name()))
    }

    /// As it says itself, in a line.
    pub fn version(self, berth: &Path) -> String {
        let (program, word) = match self {
            Self::Berth => (berth, "--version"),
            Self::Dnsmasq => (Path::new("/usr/sbin/dnsmasq"), "--version"),
            Self::Kea => (Path::new("/usr/sbin/kea-dhcp4"), "-v"),
            Self::Isc => (Path::new("/usr/sbin/dhcpd"), "--version"),
            Self::Udhcpd => (Path::new("/usr/sbin/udhcpd"), "--help"),
            Self::Networkd => (Path::new("/lib/systemd/systemd-networkd"), "--version"),
            Self::Echo => return "frames back as they came".into(),
        };
        let output = Command::new(program).arg(word).output().ok();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
    }
}

/// A server that runs, until it is dropped, and its files.
pub struct Started {
    pub process: Running,
    dir: tempfile::TempDir,
}

/// Starts it in the pair's server namespace, where the link is `s0`; back when its port is open. `echo`: words for
/// that one.
pub fn start(server: Server, pair: &Pair, berth: &Path, echo: &str) -> Result<Started, Error> {
    if let Some(missing) = server.missing() {
        return Err(Error::Step(missing));
    }
    let dir = at("a directory for leases", tempfile::tempdir())?;
    let mut words = words(server, dir.path(), berth)?;
    if server == Server::Echo {
        words.extend(echo.split_whitespace().map(str::to_owned));
    }
    spawn(server, pair, &words, dir)
}

/// Starts one that has ended with the leases it had.
pub fn again(server: Server, pair: &Pair, berth: &Path, ended: Started) -> Result<Started, Error> {
    let Started { process, dir } = ended;
    drop(process);
    let leases = fs::read(dir.path().join("leases"));
    let words = words(server, dir.path(), berth)?;
    // Where an empty file is made before the first start.
    if let Ok(leases) = leases {
        at("the leases", fs::write(dir.path().join("leases"), leases))?;
    }
    spawn(server, pair, &words, dir)
}

fn spawn(
    server: Server,
    pair: &Pair,
    words: &[String],
    dir: tempfile::TempDir,
) -> Result<Started, Error> {
    launch(server.name(), pair, words, dir, |dir| is_ready(server, pair, dir))
}

/// Starts a program in the pair's server namespace; back when it is ready.
pub fn launch(
    name: &str,
    pair: &Pair,
    words: &[String],
    dir: tempfile::TempDir,
    is_ready: impl Fn(&Path) -> Result<bool, Error>,
) -> Result<Started, Error> {
    let mut command = pair.in_server(words);
    let step = format!("starting {name}");
    let log = at(&step, fs::File::create(dir.path().join("log")))?;
    command.stdin(Stdio::null()).stdout(at(&step, log.try_clone())?).stderr(log);
    let mut started = Started { process: Running(at(&step, command.spawn())?), dir };
    let began = Instant::now();
    while !is_ready(started.dir.path())? {
        let ended = at(&step, started.process.0.try_wait())?;
        if ended.is_some() || began.elapsed() > PATIENCE {
            let log = fs::read_to_string(started.dir.path().join("log")).unwrap_or_default();
            return Err(Error::Step(format!("{step}: it does not listen\n{log}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(started)
}

/// Whether anything has port 67 open there, or a packet socket.
fn is_ready(server: Server, pair: &Pair, dir: &Path) -> Result<bool, Error> {
    if server == Server::Echo {
        return Ok(echo_is_ready(dir));
    }
    let words = ["ss", "-Hlnu0"].map(str::to_owned);
    let output = at("looking for the server's socket", pair.in_server(&words).output())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let open = |line: &str| {
        line.contains(":67 ") || line.starts_with("p_raw") || line.starts_with("p_dgr")
    };
    Ok(text.lines().any(open))
}

/// It says so.
pub fn echo_is_ready(dir: &Path) -> bool {
    fs::read_to_string(dir.join("log")).unwrap_or_default().contains("ready")
}

fn words(server: Server, dir: &Path, berth: &Path) -> Result<Vec<String>, Error> {
    let path = |name: &str| dir.join(name).display().to_string();
    let write = |name: &str, text: &str| -> Result<String, Error> {
        at(format!("writing {name}"), fs::write(dir.join(name), text))?;
        Ok(path(name))
    };
    let text = match server {
        Server::Berth => format!(
            "{} serve --interface=s0 --range={FIRST},{LAST} --lease-time=3600 --no-dns --lease-file={} --log=warn",
            berth.display(),
            path("leases")
        ),
        Server::Dnsmasq => format!(
            "dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=s0 --no-ping --user=root \
             --dhcp-authoritative --dhcp-lease-max=100000 --dhcp-range={FIRST},{LAST},255.255.0.0,1h \
             --dhcp-leasefile={} --pid-file --quiet-dhcp",
            path("leases")
        ),
        Server::Kea => {
            let config = serde_json::json!({ "Dhcp4": {
                "interfaces-config": { "interfaces": ["s0"], "dhcp-socket-type": "raw" },
                "control-socket": { "socket-type": "unix", "socket-name": path("control") },
                "lease-database": { "type": "memfile", "persist": true, "name": path("leases") },
                "valid-lifetime": 3600,
                "subnet4": [{ "subnet": "10.77.0.0/16", "pools": [{ "pool": format!("{FIRST} - {LAST}") }],
                    "option-data": [{ "name": "routers", "data": ADDRESS.to_string() }] }],
                "loggers": [{ "name": "kea-dhcp4", "severity": "ERROR", "output_options": [{ "output": "stderr" }] }],
            }});
            {
                let (config, dir) = (write("kea.conf", &config.to_string())?, dir.display());
                format!("env KEA_PIDFILE_DIR={dir} KEA_LOCKFILE_DIR={dir} kea-dhcp4 -c {config}")
            }
        }
        Server::Isc => {
            let config = write(
                "dhcpd.conf",
                &format!(
                    "authoritative; ping-check false; default-lease-time 3600; max-lease-time 3600;\n\
                     subnet 10.77.0.0 netmask 255.255.0.0 {{ range {FIRST} {LAST}; option routers {ADDRESS}; }}\n"
                ),
            )?;
            let leases = write("leases", "")?;
            format!(
                "dhcpd -f -q -4 -user root -group root -cf {config} -lf {leases} -pf {} s0",
                path("pid")
            )
        }
        Server::Udhcpd => {
            let config = write(
                "udhcpd.conf",
                &format!(
                    "start {FIRST}\nend {LAST}\ninterface s0\nmax_leases 63000\nlease_file {}\npidfile {}\n\
                     option subnet 255.255.0.0\noption router {ADDRESS}\noption lease 3600\n",
                    write("leases", "")?,
                    path("pid")
                ),
            )?;
            format!("udhcpd -f -a 0 {config}")
        }
        Server::Networkd => {
            let script = write(
                "networkd",
                &format!(
                    "set -e\nmount -t tmpfs none /run\nmount -o remount,ro /sys\n\
                     mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp\n\
                     chown -R systemd-network /run/systemd/netif\n\
                     printf '%s\\n' [Match] Name=s0 [Network] Address={ADDRESS}/16 DHCPServer=yes IPv6AcceptRA=no \
                     [DHCPServer] PoolOffset=257 PoolSize=63000 DefaultLeaseTimeSec=3600 >/run/systemd/network/s0.network\n\
                     ip addr flush dev s0\nexec /lib/systemd/systemd-networkd\n"
                ),
            )?;
            format!("unshare --mount sh {script}")
        }
        Server::Echo => format!("{} dhcp-echo --interface s0", own()?.display()),
    };
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

pub fn own() -> Result<PathBuf, Error> {
    at("our own program", std::env::current_exe())
}
