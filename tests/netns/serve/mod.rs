//! `berth serve` as real clients find it: each in a namespace of its own behind a veth, from its first lease to its
//! last, and the server killed at any moment.

mod beside;
mod clients;
mod clock;
mod crowd;
mod files;
mod flood;
mod ipv6;
mod link;
mod names;
mod smol;
mod standing;
mod upstreams;
mod words;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{Netns, checked, veth};

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// server s0 10.0.0.1/16 ── c0 client
struct Site {
    server: Netns,
    client: Netns,
    dir: tempfile::TempDir,
    serving: Option<Running>,
}

impl Site {
    fn new(words: &str) -> Self {
        let mut site = Self::silent();
        site.serve(words);
        site
    }

    /// Without a server so far.
    fn silent() -> Self {
        let (server, client) = (Netns::new("server"), Netns::new("client"));
        veth(&server, "s0", &client, "c0");
        server.ip("addr add 10.0.0.1/16 dev s0");
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("disk")).unwrap();
        Self { server, client, dir, serving: None }
    }

    fn serve(&mut self, words: &str) {
        self.serve_both(&format!("--no-dns {words}"));
    }

    /// Names too.
    fn serve_both(&mut self, words: &str) {
        self.serve_after("true", words);
    }

    /// After a line of shell in a mount namespace of its own.
    fn serve_after(&mut self, line: &str, words: &str) {
        self.launch(line, "10.0.1.1,10.0.250.250", words);
    }

    fn launch(&mut self, line: &str, range: &str, words: &str) {
        self.launch_as(line, &format!("--range={range} {words}"));
    }

    /// With these words alone.
    fn launch_as(&mut self, line: &str, words: &str) {
        let mut command = self.server.command("sh");
        command.args([
            "-c",
            &format!("set -e; {line}; exec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_berth"),
        ]);
        command
            .args(["serve", "--interface=s0"])
            .arg(format!("--lease-file={}", self.leases().display()))
            .args(words.split_whitespace());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let path = self.dir.path().join("log");
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        let mut line = String::new();
        let mut before = String::new();
        while !(line.contains("serving DHCP") || line.contains("nothing is served")) {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "berth serve has ended: {before}");
            before += &line;
            file.write_all(line.as_bytes()).unwrap();
        }
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut log, &mut file);
        });
        self.serving = Some(Running(child));
    }

    /// What the server said since it serves.
    fn server_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn leases(&self) -> PathBuf {
        self.dir.path().join("disk/leases")
    }

    fn listed(&self) -> Vec<serde_json::Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(["leases", "--output=json", "--lease-file"]).arg(self.leases());
        serde_json::from_str(&checked(&mut command)).unwrap()
    }

    /// A script for clients that sets the address and notes why it was called, and with what.
    fn script(&self) -> (PathBuf, PathBuf) {
        let (script, told) = (self.dir.path().join("script"), self.dir.path().join("told"));
        let text = format!(
            "#!/bin/sh\n\
             case \"${{reason:-$1}}\" in\n\
             BOUND|RENEW|REBIND|REBOOT|bound|renew)\n\
             ip addr replace ${{new_ip_address:-$ip}}/16 dev c0;;\n\
             EXPIRE|RELEASE|STOP|deconfig) ip addr flush dev c0;;\n\
             esac\n\
             echo \"${{reason:-$1}} ${{new_ip_address:-$ip}}\" >>{}\n",
            told.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        (script, told)
    }

    fn told(&self) -> String {
        fs::read_to_string(self.dir.path().join("told")).unwrap_or_default()
    }

    fn log(&self, name: &str) -> (fs::File, PathBuf) {
        let path = self.dir.path().join(name);
        (fs::File::create(&path).unwrap(), path)
    }

    /// Renewals, which are sent to the server itself, do not reach it any more.
    fn deaf_to_renewals(&self) {
        self.server.nft(
            "add table netdev t { chain c { type filter hook ingress device s0 priority 0; ip daddr 10.0.0.1 udp dport 67 drop; }; }",
        );
    }

    /// Another server takes the place of this one, and knows of other addresses only.
    fn take_over(&mut self, words: &str) {
        drop(self.serving.take());
        fs::remove_file(self.leases()).unwrap();
        self.serve(&format!("--reserve=02:00:00:00:00:01,10.0.1.1 {words}"));
    }

    fn end_clients(&self) {
        let pids = checked(Command::new("ip").args(["netns", "pids", &self.client.name]));
        for pid in pids.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.end_clients();
    }
}
