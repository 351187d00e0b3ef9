//! Network namespaces that look like pods: made for one measurement, gone when dropped.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, at};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A pod: one interface `eth0` with `10.99.0.2/24`, a gateway and an MTU of 1450.
#[derive(Debug)]
pub struct Pod {
    name: String,
}

impl Pod {
    pub fn new() -> Result<Self, Error> {
        let name = format!("bb{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let pod = Self { name };
        ip(&["netns", "add", &pod.name])?;
        for words in [
            "link set lo up",
            "link add eth0 mtu 1450 type veth peer name out",
            "addr add 10.99.0.2/24 dev eth0",
            "link set eth0 up",
            "link set out up",
            "route add default via 10.99.0.1",
        ] {
            let mut args = vec!["-n", pod.name.as_str()];
            args.extend(words.split(' '));
            ip(&args)?;
        }
        Ok(pod)
    }

    /// One that has IPv6 as well.
    pub fn dual_stack() -> Result<Self, Error> {
        let pod = Self::new()?;
        for words in [
            "addr add 2001:db8:99::2/64 dev eth0 nodad",
            "-6 route add default via 2001:db8:99::1 dev eth0",
        ] {
            let mut args = vec!["-n", pod.name.as_str()];
            args.extend(words.split(' '));
            ip(&args)?;
        }
        Ok(pod)
    }

    /// Runs `work` in a thread inside the namespace; processes it starts are inside too.
    pub fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        inside(&self.name, work)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// iproute2 with these words.
pub fn ip(args: &[&str]) -> Result<(), Error> {
    let step = format!("ip {}", args.join(" "));
    let output = at(&step, Command::new("ip").args(args).stdin(Stdio::null()).output())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Error::Step(format!("{step}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}

/// Two namespaces and a link between them: `s0` for a server, `c0` for the driver.
#[derive(Debug)]
pub struct Pair {
    server: String,
    client: String,
}

impl Pair {
    /// `s0` at 10.77.0.1/16, `c0` at 10.77.0.2/16.
    pub fn new() -> Result<Self, Error> {
        let pair = Self::linked()?;
        for (netns, link, address) in
            [(&pair.server, "s0", "10.77.0.1/16"), (&pair.client, "c0", "10.77.0.2/16")]
        {
            ip(&["-n", netns, "addr", "add", address, "dev", link])?;
            ip(&["-n", netns, "link", "set", link, "up"])?;
        }
        Ok(pair)
    }

    /// IPv6 alone: `s0` at fd77::1/64 and fe80::1, at once. `c0` has no address and so says nothing of its own.
    pub fn six() -> Result<Self, Error> {
        let pair = Self::linked()?;
        for (netns, link) in [(&pair.server, "s0"), (&pair.client, "c0")] {
            ip(&["-n", netns, "link", "set", link, "addrgenmode", "none"])?;
            ip(&["-n", netns, "link", "set", link, "up"])?;
        }
        for address in ["fd77::1/64", "fe80::1/64"] {
            ip(&["-n", &pair.server, "addr", "add", address, "dev", "s0", "nodad"])?;
        }
        Ok(pair)
    }

    fn linked() -> Result<Self, Error> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("bb{}-{number}-{role}", std::process::id());
        let pair = Self { server: name("s"), client: name("c") };
        ip(&["netns", "add", &pair.server])?;
        ip(&["netns", "add", &pair.client])?;
        ip(&[
            "link",
            "add",
            "s0",
            "netns",
            &pair.server,
            "type",
            "veth",
            "peer",
            "name",
            "c0",
            "netns",
            &pair.client,
        ])?;
        for netns in [&pair.server, &pair.client] {
            ip(&["-n", netns, "link", "set", "lo", "up"])?;
        }
        // A veth leaves checksums to hardware that is not there; the driver looks at each.
        let words = ["ethtool", "-K", "s0", "tx", "off"].map(str::to_owned);
        at("ethtool (Debian package ethtool)", pair.in_server(&words).output())?;
        Ok(pair)
    }

    /// A command in the server's namespace.
    pub fn in_server(&self, words: &[String]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.server]).args(words);
        command
    }

    /// iproute2's commands in the server's namespace, a line each.
    pub fn in_server_batch(&self, lines: &str) -> Result<(), Error> {
        let file = at("a file of commands", tempfile::NamedTempFile::new())?;
        at("a file of commands", std::fs::write(file.path(), lines))?;
        let path = file.path().display().to_string();
        ip(&["-n", &self.server, "-batch", &path])
    }

    /// A command in the driver's.
    pub fn in_client(&self, words: &[String]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.client]).args(words);
        command
    }

    /// Runs `work` in a thread inside the server's namespace; processes it starts are inside too.
    pub fn serving<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        inside(&self.server, work)
    }

    /// Runs `work` in a thread inside the driver's namespace.
    pub fn driving<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        inside(&self.client, work)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Runs `work` in a thread inside a namespace; processes it starts are inside too.
pub fn inside<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let path = format!("/run/netns/{name}");
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let file = at(format!("opening {path}"), File::open(&path))?;
            let network = Some(LinkNameSpaceType::Network);
            let entered = move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network);
            at(format!("entering {path}"), entered.map_err(Into::into))?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(Error::Step("the measuring thread stopped".into())))
    })
}

/// A namespace for whatever is needed.
#[derive(Debug)]
pub struct Netns(String);

impl Netns {
    pub fn new(role: &str) -> Result<Self, Error> {
        let netns = Self(format!(
            "bb{}-{}-{role}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        ip(&["netns", "add", &netns.0])?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// `ip -n NAME words`.
    pub fn ip(&self, words: &str) -> Result<(), Error> {
        let mut args = vec!["-n", self.0.as_str()];
        args.extend(words.split_whitespace());
        ip(&args)
    }

    /// A command inside.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).args(words.split_whitespace());
        command
    }

    /// One that must succeed.
    pub fn run(&self, words: &str) -> Result<(), Error> {
        let output = at(words, self.command(words).stdin(Stdio::null()).output())?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Step(format!("{words}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// Runs `work` in a thread inside; processes it starts are inside too.
    pub fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        inside(&self.0, work)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.0]);
    }
}
