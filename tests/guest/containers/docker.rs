//! A docker daemon of the test's own: its bridge and rules are in a network namespace that the test made.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::support::{Netns, PATIENCE, checked, find};

/// How long a guest may take on a busy machine, its container with it.
const BOOT: Duration = Duration::from_secs(120);

pub struct Docker {
    pub image: String,
    daemon: Child,
    netns: Netns,
    dir: tempfile::TempDir,
    /// One daemon at a time has the images.
    _lock: File,
}

/// Where the guests' images are cached, and the daemon's.
pub fn cache() -> PathBuf {
    crate::support::world::tiny().parent().unwrap().to_owned()
}

impl Docker {
    /// Builds the image of this checkout, which is quick when it was built before.
    pub fn start() -> Self {
        let data = cache().join("docker");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/image.sh");
        let mut build = Command::new("bash");
        build.arg(script).env("BASES", "local").env("DOCKER_DATA", &data);
        // Half of a build is the linker's optimization, by one processor: the others wait for it.
        build.env("CARGO_PROFILE_RELEASE_LTO", "off");
        build.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        let image = checked(&mut build).trim().to_owned();

        let lock = File::create(data.with_extension("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let (netns, dir) = (Netns::new("docker"), tempfile::tempdir().unwrap());
        let at = dir.path().to_owned();
        let path = |name: &str| at.join(name).display().to_string();
        // Not `ip netns exec`: that hides the control groups.
        let daemon = Command::new("nsenter")
            .args([
                &format!("--net={}", netns.path()),
                "dockerd",
                "--data-root",
                &data.display().to_string(),
            ])
            .args(["--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .stdout(File::create(path("log")).unwrap())
            .stderr(File::create(path("errors")).unwrap())
            .spawn()
            .unwrap();
        let docker = Self { image, daemon, netns, dir, _lock: lock };
        let errors = || std::fs::read_to_string(path("errors")).unwrap();
        find("the daemon", PATIENCE, errors, || {
            let info = docker.command().arg("info").output().unwrap();
            info.status.success().then_some(())
        });
        docker
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("docker.sock").display())
    }

    /// Where its machine's network is.
    pub fn netns(&self) -> String {
        self.netns.path()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.host());
        command
    }

    /// Words split at blanks; panics when docker says no.
    pub fn docker(&self, words: &str) -> String {
        checked(self.command().args(words.split_whitespace())).trim().to_owned()
    }

    /// The exit code and all that was said.
    pub fn tried(&self, words: &str) -> (Option<i32>, String) {
        let output = self.command().args(words.split_whitespace()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }

    /// A directory of the test's, to be mounted.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn logs(&self, name: &str) -> String {
        self.tried(&format!("logs {name}")).1
    }

    /// Waits until the guest has said so often that it is ready.
    pub fn ready(&self, name: &str, times: usize) {
        // Lines of the guest; those of berth go on.
        let said =
            |logs: String| logs.lines().filter(|line| line.trim_end().ends_with(" ready")).count();
        find(
            "the guest is ready",
            BOOT,
            || self.logs(name),
            || {
                if said(self.logs(name)) >= times {
                    return Some(());
                }
                let state = self.inspect(name, "{{.State.Status}}");
                // One that Docker starts again is for a moment neither ended nor running.
                let lives = ["running", "restarting"].contains(&state.as_str());
                assert!(lives, "{name} is {state}\n{}", self.logs(name));
                None
            },
        );
    }

    /// Waits for what holds soon.
    pub fn until<T>(&self, what: &str, holds: impl FnMut() -> Option<T>) -> T {
        find(what, BOOT, String::new, holds)
    }

    pub fn inspect(&self, name: &str, what: &str) -> String {
        self.docker(&format!("inspect -f {} {name}", what.replace(' ', "")))
    }

    pub fn address(&self, name: &str) -> Ipv4Addr {
        self.inspect(name, "{{.NetworkSettings.IPAddress}}").parse().unwrap()
    }

    /// The pid of its first process, here.
    pub fn pid(&self, name: &str) -> u32 {
        self.inspect(name, "{{.State.Pid}}").parse().unwrap()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let ours = self.tried("ps -aq").1;
        for id in ours.split_whitespace() {
            let _ = self.tried(&format!("rm -fv {id}"));
        }
        let _ = self.tried("volume prune -f");
        let _ = self.tried("network prune -f");
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
        // It leaves one mount behind, and that would keep the directory.
        let mount = self.dir.path().join("exec/netns/default");
        let _ = Command::new("umount").arg(mount).stderr(Stdio::null()).status();
        let _ = &self.netns;
    }
}
