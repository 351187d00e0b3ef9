//! Network namespaces for tests: made by the test, named after its process, gone when dropped.
#![allow(dead_code, reason = "each test program uses its own part of the support code")]

pub mod collection;
pub mod dice;
pub mod frames;
pub mod peer;
pub mod sample;
pub mod site;
pub mod world;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace of the test's own. Never the root namespace.
#[derive(Debug)]
pub struct Netns {
    pub name: String,
}

impl Netns {
    /// Needs root and iproute2; panics with what is missing, because a test that cannot run fails.
    pub fn new(role: &str) -> Self {
        let name =
            format!("bt{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    /// What a command comes to that a thread inside starts: without `ip netns exec`, which mounts a /sys for each, and
    /// waits for the kernel to unmount it. For programs that read no /sys.
    pub fn output(&self, command: &mut Command) -> Output {
        self.within(|| command.output()).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// A command to be run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `words` (split at blanks) inside and returns its standard output; panics when it fails.
    pub fn run(&self, words: &str) -> String {
        let mut words = words.split_whitespace();
        let mut command = self.command(words.next().expect("a program"));
        checked(command.args(words))
    }

    /// `ip -n NAME words`.
    pub fn ip(&self, words: &str) -> String {
        checked(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()))
    }

    /// `nft words` inside.
    pub fn nft(&self, words: &str) -> String {
        let mut command = Command::new("nft");
        succeeded(&self.output(command.args(words.split_whitespace())), &command)
    }

    /// Runs `work` in a thread of its own inside the namespace, with a current-thread tokio runtime.
    pub fn enter<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let path = self.path();
        let thread = std::thread::spawn(move || {
            berth::sys::netns::enter(Path::new(&path)).unwrap();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// What `work` makes in a thread inside the namespace; sockets stay there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.path(), work)
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ =
            Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

/// As `Netns::within`, for a namespace of any name, such as another container's.
pub fn within<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            berth::sys::netns::enter(Path::new(netns)).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What anything may take that is done at once where nothing else is to be done. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until it holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    find(what, PATIENCE, String::new, || holds().then_some(()));
}

/// Waits for what `look` finds: it looks at once, then ever more seldom, since a look may be a process and guests that
/// are emulated want the processor. A test whose `limit` is over fails, and tells what was `seen`.
#[track_caller]
pub fn find<T>(
    what: &str,
    limit: Duration,
    seen: impl FnOnce() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}\n{}", seen());
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(200));
    }
}

/// Connects `a` and `b` by a veth pair with the given interface names, both up.
pub fn veth(a: &Netns, a_if: &str, b: &Netns, b_if: &str) {
    run(
        "ip",
        &[
            "link", "add", a_if, "netns", &a.name, "type", "veth", "peer", "name", b_if, "netns",
            &b.name,
        ],
    );
    a.ip(&format!("link set {a_if} up"));
    b.ip(&format!("link set {b_if} up"));
}

/// Runs a program, panics with its output when it fails.
pub fn run(program: &str, args: &[&str]) -> String {
    checked(Command::new(program).args(args))
}

/// Standard output of a command that must succeed.
#[track_caller]
pub fn checked(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    succeeded(&output, command)
}

/// Standard output of a command that succeeded; panics with all of it else.
#[track_caller]
pub fn succeeded(output: &Output, command: &Command) -> String {
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Chains' devices in JSON, which nft has from 1.0.9 on: without them nothing loads again.
pub fn without_devices(json: &str) -> String {
    let mut parts = json.split("\"dev\": \"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once("\", ").map_or(part, |(_, rest)| rest))
}
