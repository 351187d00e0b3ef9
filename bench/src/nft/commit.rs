//! Our table, committed again and again in two variants: by berth, by `nft -f`, and its like by `iptables-restore`.

use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use berth::net::{Mapping, Port, Transport};
use berth::nft::Ruleset;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::{Engine, program, timed};
use crate::stats::Summary;
use crate::{Error, at};

#[path = "../../../tests/support/sample.rs"]
mod sample;

/// NFNLGRP_NFTABLES; NFT_MSG_NEWGEN within its subsystem.
const GROUP: u32 = 7;
const NEW_GENERATION: u16 = 0x0a0f;

/// To the end of the call or the process, and until the rules were live.
#[derive(Debug, Serialize)]
struct Side {
    done: Summary,
    live: Summary,
}

#[derive(Debug, Serialize)]
pub struct Report {
    rules: usize,
    berth: Side,
    /// Where there was no table before: nothing to compare with, everything to make.
    first: Summary,
    nft: Side,
    iptables: Side,
    /// Spawning a program that does nothing.
    floor: Summary,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, berth, first, nft, iptables, floor } = self;
        writeln!(f, "our table of {rules} rules, committed: from the call or spawn to its end")?;
        let row = |f: &mut fmt::Formatter<'_>, name, summary: &Summary, ours: &Summary| {
            writeln!(f, "  {name:<22}{summary}  {:>6.1} x", summary.median_ms / ours.median_ms)
        };
        row(f, "berth", &berth.done, &berth.done)?;
        row(f, "berth, no table before", first, &berth.done)?;
        row(f, "nft -f", &nft.done, &berth.done)?;
        row(f, "iptables-restore", &iptables.done, &berth.done)?;
        row(f, "/bin/true", floor, &berth.done)?;
        writeln!(
            f,
            "the same, until the rules are live (the last NEWGEN, with a listener in the namespace)"
        )?;
        row(f, "berth", &berth.live, &berth.live)?;
        row(f, "nft -f", &nft.live, &berth.live)?;
        row(f, "iptables-restore", &iptables.live, &berth.live)
    }
}

/// The samples of one side.
#[derive(Debug, Default)]
struct Samples {
    done: Vec<Duration>,
    live: Vec<Duration>,
}

impl Samples {
    fn summary(&self) -> Result<Side, Error> {
        Ok(Side { done: summary(&self.done)?, live: summary(&self.live)? })
    }
}

fn summary(samples: &[Duration]) -> Result<Summary, Error> {
    Summary::of(samples).ok_or_else(|| Error::Step("nothing was measured".into()))
}

pub fn run(runs: usize) -> Result<Report, Error> {
    let files = Files::new()?;
    let engine = Engine::start()?;
    let mut listener = Listener::new()?;
    let (plain, more) = (plan(&[]), plan(&[22]));
    let (mut ours, mut nft, mut iptables) =
        (Samples::default(), Samples::default(), Samples::default());
    let (mut first, mut floor) = (Vec::new(), Vec::new());
    let tables = || plain.tables.iter().map(|table| (table.family, table.name.clone())).collect();
    for round in 0..runs + 2 {
        let variant = round % 2;
        let (wanted, other) = if variant == 0 { (&plain, &more) } else { (&more, &plain) };
        let commit = || engine.wait(engine.firewall.commit(wanted.clone())).map(drop);
        let script = files.nft(variant);
        let like = files.iptables(variant);
        let one = |listener: &mut Listener,
                   samples: &mut Samples,
                   run: &dyn Fn() -> Result<(), Error>| {
            // Something to change, else a commit finds everything done.
            engine.wait(engine.firewall.commit(other.clone()))?;
            samples.done.push(timed(run)?.0);
            engine.wait(engine.firewall.commit(other.clone()))?;
            samples.live.push(listener.live(run)?);
            Ok::<_, Error>(())
        };
        one(&mut listener, &mut ours, &commit)?;
        one(&mut listener, &mut nft, &|| program(&["nft", "-f", &script]))?;
        one(&mut listener, &mut iptables, &|| program(&["iptables-restore", &like]))?;
        engine.wait(engine.firewall.remove(tables()))?;
        first.push(timed(commit)?.0);
        floor.push(timed(|| program(&["/bin/true"]))?.0);
        // The first rounds load modules and warm caches.
        if round == 1 {
            (ours, nft, iptables) = Default::default();
            first.clear();
            floor.clear();
        }
    }
    let rules =
        plain.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    Ok(Report {
        rules,
        berth: ours.summary()?,
        first: summary(&first)?,
        nft: nft.summary()?,
        iptables: iptables.summary()?,
        floor: summary(&floor)?,
    })
}

/// The rules of a plain pod, with VNC's and these ports reserved.
pub(super) fn plan(reserved: &[u16]) -> Ruleset {
    let (mut config, facts) = (sample::config(), sample::facts());
    let port = |number: &u16| Port { transport: Transport::Tcp, number: *number };
    config.network.reserved = reserved.iter().map(port).collect();
    match berth::plan::link::plan(&config, &facts.net, 65534) {
        Ok(link) => berth::plan::nat::plan(&config, &facts.net, &link),
        Err(_) => Ruleset::default(),
    }
}

/// Whom they are for.
pub(super) fn mapping() -> Mapping {
    berth::plan::nat::mapping(&sample::config(), &sample::facts().net)
}

/// The two variants as the programs want them.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Result<Self, Error> {
        let files = Self { dir: at("making a directory", tempfile::tempdir())? };
        for (variant, ports) in [[].as_slice(), &[22]].into_iter().enumerate() {
            let mut script = "table inet berth\ndelete table inet berth\n".to_owned();
            let _ = write!(script, "{}", plan(ports));
            at("writing the rules for nft", fs::write(files.nft(variant), script))?;
            let tables = iptables(if ports.is_empty() { "5900" } else { "22,5900" });
            at("writing the rules for iptables", fs::write(files.iptables(variant), tables))?;
        }
        Ok(files)
    }

    fn nft(&self, variant: usize) -> String {
        self.path(&format!("{variant}.nft"))
    }

    fn iptables(&self, variant: usize) -> String {
        self.path(&format!("{variant}.iptables"))
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = Path::join(self.dir.path(), name);
        path.display().to_string()
    }
}

/// What the same NAT is in the words of iptables.
fn iptables(ports: &str) -> String {
    format!(
        "*nat
-A PREROUTING -d 10.1.1.2/32 -p tcp -m multiport --dports {ports} -j RETURN
-A PREROUTING -d 10.1.1.2/32 -j DNAT --to-destination 192.168.254.2
-A OUTPUT -d 10.1.1.2/32 -p tcp -m multiport --dports {ports} -j RETURN
-A OUTPUT -d 10.1.1.2/32 -j DNAT --to-destination 192.168.254.2
-A POSTROUTING -s 192.168.254.2/32 -o br0 -m conntrack --ctstate DNAT -j MASQUERADE
-A POSTROUTING -s 192.168.254.2/32 -o eth0 -j SNAT --to-source 10.1.1.2
-A POSTROUTING -s 192.168.254.2/32 ! -o br0 -j MASQUERADE
COMMIT
*mangle
-A FORWARD -i br0 -p tcp -m tcp --tcp-flags SYN SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -o br0 -p tcp -m tcp --tcp-flags SYN SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD ! -s 192.168.254.2/32 -i br0 -j DROP
COMMIT
"
    )
}

/// A socket that hears of new generations while it is told to.
struct Listener {
    socket: Socket,
}

impl Listener {
    fn new() -> Result<Self, Error> {
        let mut socket = at("opening a netlink socket", Socket::new(NETLINK_NETFILTER))?;
        at("binding it", socket.bind(&SocketAddr::new(0, 0)))?;
        at("making it not wait", socket.set_non_blocking(true))?;
        Ok(Self { socket })
    }

    /// From the start of `run` to the last new generation before its end.
    fn live(&mut self, run: &dyn Fn() -> Result<(), Error>) -> Result<Duration, Error> {
        at("joining the group", self.socket.add_membership(GROUP))?;
        let over = AtomicBool::new(false);
        let ready = Barrier::new(2);
        let (begun, last) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                ready.wait();
                self.watch(&over)
            });
            ready.wait();
            let begun = Instant::now();
            let result = run();
            over.store(true, Ordering::Release);
            let last = watch.join().map_err(|_| Error::Step("the listener stopped".into()))?;
            result.map(|()| (begun, last))
        })?;
        at("leaving the group", self.socket.drop_membership(GROUP))?;
        last.map(|last| last - begun).ok_or_else(|| Error::Step("nothing was committed".into()))
    }

    /// When the last generation came before it was `over`.
    fn watch(&self, over: &AtomicBool) -> Option<Instant> {
        let mut last = None;
        loop {
            let over = over.load(Ordering::Acquire);
            let patience = Timespec { tv_sec: 0, tv_nsec: if over { 0 } else { 2_000_000 } };
            let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&patience));
            let mut buffer = Vec::with_capacity(64 * 1024);
            while self.socket.recv(&mut buffer, 0).is_ok() {
                let kind = buffer
                    .get(4..6)
                    .and_then(|kind| kind.first_chunk())
                    .map(|kind| u16::from_ne_bytes(*kind));
                if kind == Some(NEW_GENERATION) {
                    last = Some(Instant::now());
                }
                buffer.clear();
            }
            if over {
                return last;
            }
        }
    }
}
