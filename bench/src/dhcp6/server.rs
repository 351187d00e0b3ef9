//! DHCPv6 servers, each in a network namespace of its own, with the same pool and its own way to keep leases.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use super::wire::link_local;
use crate::dhcp::server::{Started, echo_is_ready, launch, own};
use crate::dhcp::wire::mac;
use crate::netns::Pair;
use crate::{Error, at};

const KEA: &str = "/usr/sbin/kea-dhcp6";
const FIRST: &str = "fd77::1:0";
const LAST: &str = "fd77::ffff:ffff";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Server {
    Berth,
    Kea,
    /// Replies made of the frames that came: the floor
    Echo,
}

impl Server {
    pub fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Kea => "kea",
            Self::Echo => "echo",
        }
    }

    /// What is missing, with the package that has it.
    pub fn missing(self) -> Option<String> {
        (self == Self::Kea && !Path::new(KEA).exists())
            .then(|| "kea: install the Debian package kea-dhcp6-server".to_owned())
    }

    /// As it says itself, in a line.
    pub fn version(self, berth: &Path) -> String {
        let (program, word) = match self {
            Self::Berth => (berth, "--version"),
            Self::Kea => (Path::new(KEA), "-v"),
            Self::Echo => return "replies made of the frames that came".into(),
        };
        let output = Command::new(program).arg(word).output().ok();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
    }
}

/// Makes these clients permanent neighbours of the server's namespace.
pub fn know(pair: &Pair, clients: impl Iterator<Item = u32>) -> Result<(), Error> {
    let mut lines = String::new();
    for client in clients {
        let (address, mac) = (link_local(client), mac(client));
        let _ = writeln!(lines, "neigh add {address} lladdr {mac} dev s0 nud permanent");
    }
    pair.in_server_batch(&lines)
}

/// Starts it in the pair's server namespace, where the link is `s0`; back when its port is open. `echo`: words for
/// that one.
pub fn start(server: Server, pair: &Pair, berth: &Path, echo: &str) -> Result<Started, Error> {
    let dir = at("a directory for leases", tempfile::tempdir())?;
    let mut words = words(server, dir.path(), berth)?;
    if server == Server::Echo {
        words.extend(echo.split_whitespace().map(str::to_owned));
    }
    launch(server.name(), pair, &words, dir, |dir| is_ready(server, pair, dir))
}

/// Whether anything has port 547 open there.
fn is_ready(server: Server, pair: &Pair, dir: &Path) -> Result<bool, Error> {
    if server == Server::Echo {
        return Ok(echo_is_ready(dir));
    }
    let words = ["ss", "-Hlnu6"].map(str::to_owned);
    let output = at("looking for the server's socket", pair.in_server(&words).output())?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().any(|line| line.contains(":547 ")))
}

fn words(server: Server, dir: &Path, berth: &Path) -> Result<Vec<String>, Error> {
    let path = |name: &str| dir.join(name).display().to_string();
    let text = match server {
        // Kea has no router advertisements.
        Server::Berth => format!(
            "{} serve --interface=s0 --range6={FIRST},{LAST} --router-advertisements=off --rapid-commit --lease-time=3600 \
             --no-dns --lease-file={} --log=warn",
            berth.display(),
            path("leases")
        ),
        Server::Kea => {
            let config = serde_json::json!({ "Dhcp6": {
                "interfaces-config": { "interfaces": ["s0"] },
                "control-socket": { "socket-type": "unix", "socket-name": path("control") },
                "lease-database": { "type": "memfile", "persist": true, "name": path("leases") },
                "server-id": { "type": "LL", "persist": false },
                "preferred-lifetime": 3600, "valid-lifetime": 3600,
                "subnet6": [{ "subnet": "fd77::/64", "interface": "s0", "rapid-commit": true,
                    "pools": [{ "pool": format!("{FIRST} - {LAST}") }] }],
                "loggers": [{ "name": "kea-dhcp6", "severity": "ERROR", "output_options": [{ "output": "stderr" }] }],
            }});
            at("writing kea.conf", fs::write(path("kea.conf"), config.to_string()))?;
            let (config, dir) = (path("kea.conf"), dir.display());
            format!("env KEA_PIDFILE_DIR={dir} KEA_LOCKFILE_DIR={dir} {KEA} -c {config}")
        }
        Server::Echo => format!("{} dhcp-echo --dhcp6 --interface s0", own()?.display()),
    };
    Ok(text.split_whitespace().map(str::to_owned).collect())
}
