//! The wall clock is set while leases are served: for real, in a machine of its own.
//!
//! The tiny guest has the server, from a second disk, and a clock that `date -s` sets; the clients are at the other end
//! of its network. Its serial console is a shell.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::serve::Running;
use crate::serve::crowd::Crowd;
use crate::support::{Netns, PATIENCE, checked};

const LEASE_SECS: u64 = 30;
const YEAR: i64 = 365 * 86_400;
/// An emulated machine beside others takes its time for an answer.
const SILENCE: Duration = Duration::from_secs(4);

struct Guest {
    console: ChildStdin,
    lines: Receiver<String>,
    asked: u32,
    _running: Running,
    _dir: tempfile::TempDir,
}

/// The program and what it is linked to, as a disk.
fn disk(dir: &Path) -> std::path::PathBuf {
    let files = dir.join("files");
    std::fs::create_dir(&files).unwrap();
    checked(
        Command::new("strip").arg("-o").arg(files.join("berth")).arg(env!("CARGO_BIN_EXE_berth")),
    );
    for word in checked(Command::new("ldd").arg(env!("CARGO_BIN_EXE_berth"))).split_whitespace() {
        if let (true, Some(name)) = (word.starts_with('/'), Path::new(word).file_name()) {
            let name = if name.to_string_lossy().starts_with("ld-") { "ld".as_ref() } else { name };
            std::fs::copy(word, files.join(name)).unwrap();
        }
    }
    let disk = dir.join("disk");
    checked(
        Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&files)
            .arg(&disk)
            .arg("192M"),
    );
    disk
}

impl Guest {
    /// Until its shell is there.
    fn boot(netns: &Netns) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guest/tiny.sh");
        let image = checked(&mut Command::new(image)).trim().to_owned();
        let mut command = netns.command("qemu-system-x86_64");
        command.args([
            "-accel",
            "tcg",
            "-m",
            "384",
            "-display",
            "none",
            "-nodefaults",
            "-no-reboot",
            "-snapshot",
        ]);
        command.args(["-serial", "stdio", "-rtc", "base=utc"]);
        command.arg("-drive").arg(format!("file={image},if=virtio,format=qcow2"));
        command
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw", disk(dir.path()).display()));
        command.args(["-netdev", "tap,id=n,ifname=t0,script=no,downscript=no"]);
        command.args(["-device", "virtio-net-pci,netdev=n,romfile="]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (console, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let _ = say.send(String::from_utf8_lossy(&line).trim().to_owned());
                line.clear();
            }
        });
        let mut guest = Self { console, lines, asked: 0, _running: Running(child), _dir: dir };
        guest.until(|line| line.starts_with("guest:") && line.ends_with("ready"));
        guest
    }

    fn until(&mut self, is: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("{error}: {}", seen.join("\n")));
            if is(&line) {
                return seen.join("\n");
            }
            seen.push(line);
        }
    }

    /// What a line of shell prints.
    fn run(&mut self, line: &str) -> String {
        self.asked += 1;
        let asked = self.asked;
        // The console repeats what is typed: its words are not those that are printed. One line at a time: the echo
        // of a second one would come in the midst of what the first prints.
        let separator = if line.ends_with('&') { "" } else { ";" };
        writeln!(
            self.console,
            "echo begin=$(({asked}+0)); {line}{separator} echo end=$(({asked}+0))"
        )
        .unwrap();
        self.until(|line| line == format!("begin={asked}"));
        self.until(|line| line == format!("end={asked}"))
    }

    fn serve(&mut self) {
        self.run(&format!(
            ">/run/log; /p/ld --library-path /p /p/berth serve --interface eth0 --range 10.0.1.1,10.0.1.2 --no-dns \
             --lease-time {LEASE_SECS} --min-lease-time {LEASE_SECS} --lease-file /run/leases >/run/log 2>&1 &"
        ));
        self.run("until grep -q 'lease file read' /run/log; do usleep 100000; done");
    }

    fn kill(&mut self) {
        self.run("kill -9 $(pidof ld); while pidof ld; do usleep 100000; done");
    }

    fn set_clock(&mut self, by: i64) {
        self.run(&format!("date -s @$(($(date +%s) + {by}))"));
    }

    /// The last line of each address is of the clock as it is now: no end further ahead than a lease, none long past.
    fn ends_are_right(&mut self) -> bool {
        let text = self.run("cat /run/leases; echo now $(date +%s)");
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<Vec<String>> = text.lines().map(words).collect();
        let now: i64 = lines.iter().find(|words| words[0] == "now").unwrap()[1].parse().unwrap();
        ["10.0.1.1", "10.0.1.2"].iter().all(|address| {
            let last = lines
                .iter()
                .rev()
                .find(|words| words.get(1).is_some_and(|it| it == address))
                .unwrap();
            let left = last[2].parse::<i64>().unwrap() - now;
            (-300..=i64::try_from(LEASE_SECS).unwrap() + 3).contains(&left)
        })
    }
}

/// A server for the guest itself, so that it does not wait for one.
fn lease_for_the_guest(netns: &Netns, dir: &Path) -> Running {
    let mut command = netns.command(env!("CARGO_BIN_EXE_berth"));
    command.args(["serve", "--interface=t0", "--range=10.0.0.9,10.0.0.9", "--no-dns"]);
    command.arg(format!("--lease-file={}", dir.join("leases").display()));
    Running(command.stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn d54_a_clock_that_is_set_ends_no_lease_and_makes_none_endless() {
    let (netns, dir) = (Netns::new("link"), tempfile::tempdir().unwrap());
    netns.ip("tuntap add t0 mode tap");
    netns.ip("link set t0 up");
    netns.ip("addr add 10.0.0.2/16 dev t0");
    let first = lease_for_the_guest(&netns, dir.path());
    let mut guest = Guest::boot(&netns);
    drop(first);
    guest.run("killall udhcpc; ip addr flush dev eth0; ip addr add 10.0.0.1/16 dev eth0; mkdir /p");
    guest.run("mount -t ext4 -o ro /dev/vdb /p");
    guest.serve();

    let mut crowd = Crowd::new(&netns, "t0");
    crowd.silence(SILENCE);
    crowd.lease(2);
    for years in [-10, 20] {
        guest.set_clock(years * YEAR);
        crowd.renew_some();
        assert_eq!(crowd.lease_until_silent(), 0, "{years}: both addresses are somebody's");
        // The file is written anew, though nobody has to ask for anything.
        while !guest.ends_are_right() {
            guest.run("sleep 1");
        }
        // Killed at whatever time it is: both have their address, and nobody else.
        guest.kill();
        guest.serve();
        crowd.renew_some();
        assert_eq!(crowd.lease_until_silent(), 0, "{years}: both addresses are somebody's");
    }

    // A machine without a clock of its own starts years behind; the time is set after it serves.
    guest.kill();
    guest.set_clock(-30 * YEAR);
    guest.serve();
    let log = guest.run("cat /run/log");
    assert!(log.contains("leases that end later than any may now are made shorter"), "{log}");
    assert_eq!(crowd.lease_until_silent(), 0, "they may be in use");
    crowd.renew_some();
    guest.set_clock(30 * YEAR);
    crowd.renew_some();
    while !guest.ends_are_right() {
        guest.run("sleep 1");
    }
    // Their holders fall silent: the addresses are free when a lease is over, and not when ten years are.
    crowd.forget();
    guest.run(&format!("sleep {LEASE_SECS}"));
    crowd.lease(2);
}
