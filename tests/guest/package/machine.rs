//! A Debian machine with systemd as its first process, in a container of systemd-nspawn: what systemd does to a unit it does
//! here, too.
//!
//! ```text
//! client netns: c0 ── br1, c1 ── br2 :the machine's netns
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::{Netns, checked, find, veth};

/// How long a machine may take to come up, or a unit to do something, on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// System calls that berth makes to confine itself; nspawn's own list of what a container may is older.
const CALLS: &str = "landlock_create_ruleset landlock_add_rule landlock_restrict_self";

pub struct Machine {
    pub client: Netns,
    _netns: Netns,
    dir: tempfile::TempDir,
    nspawn: Child,
    /// Its systemd.
    first: u32,
}

impl Machine {
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/package/root.sh");
        let tree = checked(Command::new("bash").arg(script));
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        checked(Command::new("cp").args(["-a", "--reflink=auto", tree.trim()]).arg(&root));
        let (netns, client) = (Netns::new("machine"), Netns::new("client"));
        for (number, link, peer) in [(1, "br1", "c0"), (2, "br2", "c1")] {
            veth(&netns, link, &client, peer);
            netns.ip(&format!("addr add 10.0.{number}.1/24 dev {link}"));
        }
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args(["--quiet", "--boot", "--register=no", "--console=pipe"]);
        nspawn.arg(format!("--machine=berth-{}", std::process::id()));
        nspawn.arg(format!("--network-namespace-path={}", netns.path()));
        nspawn.arg(format!("--system-call-filter={CALLS}")).arg("-D").arg(root);
        if !Path::new("/run/systemd/system").exists() {
            // There is nobody here to ask for a scope.
            nspawn.arg("--keep-unit");
        }
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        nspawn.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut machine =
            Self { client, _netns: netns, dir, nspawn: nspawn.spawn().unwrap(), first: 0 };
        machine.boot();
        machine
    }

    fn boot(&mut self) {
        let path = format!("/proc/{0}/task/{0}/children", self.nspawn.id());
        let log = self.dir.path().join("log");
        let log = || std::fs::read_to_string(log).unwrap();
        find("a system that runs", PATIENCE, log, || {
            // Its first child is another one for a moment; and before systemd has mounted what it needs it cannot be asked.
            let children = std::fs::read_to_string(&path).ok()?;
            self.first = children.split_whitespace().next()?.parse().ok()?;
            (self.tried("systemctl is-system-running").1.trim() == "running").then_some(())
        });
    }

    /// A line of its shell.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", line]);
        command
    }

    /// The exit code and all that it said.
    pub fn tried(&self, line: &str) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    /// What it said; panics when it fails.
    pub fn run(&self, line: &str) -> String {
        checked(&mut self.command(line)).trim().to_owned()
    }

    /// One property of a unit.
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show --property={property} --value {unit}"))
    }

    /// A file in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path.trim_start_matches('/'))
    }

    /// What a DHCP client on that link is given.
    pub fn lease(&self, link: &str) -> Ipv4Addr {
        let mut client = self.client.command("busybox");
        client.args([
            "udhcpc",
            "-i",
            link,
            "-n",
            "-q",
            "-f",
            "-s",
            "/bin/true",
            "-t",
            "5",
            "-T",
            "3",
        ]);
        let output = client.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lease = said.lines().find_map(|line| line.strip_prefix("udhcpc: lease of "));
        let address = lease.and_then(|rest| rest.split(' ').next()?.parse().ok());
        address.unwrap_or_else(|| panic!("{said}"))
    }

    /// All files there are but those that package tools and logs keep of what they did.
    pub fn files(&self) -> Vec<String> {
        let not = ["/var/log", "/var/cache", "/var/lib/dpkg", "/var/lib/apt", "/tmp", "/var/tmp"];
        let prune: Vec<String> = not.iter().map(|dir| format!("-path {dir} -prune")).collect();
        let found = self.run(&format!("find / -xdev {} -o -print", prune.join(" -o ")));
        let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its systemd is told to power off, and nspawn ends with it; both are ours.
        let _ = self.tried("systemctl --no-block poweroff");
        for _ in 0..100 {
            if self.nspawn.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}
