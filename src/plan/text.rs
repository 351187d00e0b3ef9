//! The plan for people: what `berth plan` prints.

use std::fmt;

use super::disk::Root;
use super::{NetPlan, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, net: NetPlan { link, route, nat, guest, .. }, disk, machine, lifecycle } = self;
        writeln!(f, "plan for {name}")?;
        writeln!(f)?;
        writeln!(f, "uplink     {} (forwarding on)", link.uplink)?;
        for further in &route.further {
            let networks = list(&further.networks);
            writeln!(f, "further    {} to {networks} (forwarding on)", further.name)?;
        }
        for rule in &route.rules {
            writeln!(f, "ip rule    {rule}")?;
        }
        writeln!(
            f,
            "bridge     {} {} {} mtu {}",
            link.bridge.name, link.bridge.address, link.bridge.mac, link.bridge.mtu
        )?;
        let tap = &link.tap;
        writeln!(
            f,
            "tap        {} in {}, {} queue(s), owner {}",
            tap.name, link.bridge.name, tap.queues, tap.owner
        )?;
        writeln!(
            f,
            "guest      {} {} mtu {} host name {}",
            guest.address, guest.mac, guest.mtu, guest.hostname
        )?;
        if guest.serve {
            writeln!(
                f,
                "dhcp       router {}, dns {}, search {}",
                guest.gateway,
                list(&guest.dns),
                list(&guest.search)
            )?;
            writeln!(
                f,
                "dns        {} forwards to {}, ndots {}",
                guest.gateway,
                list(&guest.upstreams),
                guest.ndots
            )?;
        } else {
            writeln!(f, "dhcp       off (NO_DHCP)")?;
        }
        writeln!(f)?;
        root(f, &disk.root)?;
        for disk in &disk.extra {
            let access = if disk.writable { "raw" } else { "raw, read-only" };
            writeln!(f, "disk       {} ({access}), serial {}", disk.path.display(), disk.serial)?;
        }
        if let Some(seed) = &disk.seed {
            let files: Vec<&str> = seed.volume.files.iter().map(|file| file.path.as_str()).collect();
            writeln!(
                f,
                "seed       {} label {}: {}",
                seed.path.display(),
                seed.volume.label,
                files.join(" ")
            )?;
        }
        writeln!(f, "lock       {}", disk.lock.display())?;
        writeln!(f)?;
        writeln!(
            f,
            "lifecycle  grace {} s, quit {} s before its end, on poweroff {:?}, on reboot {:?}",
            lifecycle.grace.as_secs(),
            lifecycle.margin.as_secs(),
            lifecycle.on_poweroff,
            lifecycle.on_reboot
        )?;
        writeln!(f)?;
        writeln!(f, "{}", shell_words::join(machine.preview()))?;
        writeln!(f)?;
        write!(f, "{nat}")
    }
}

fn root(f: &mut fmt::Formatter<'_>, root: &Root) -> fmt::Result {
    match root {
        Root::Device { path } => writeln!(f, "root       {} (raw block device)", path.display()),
        Root::Overlay { path, base, fetch, size_bytes } => {
            write!(f, "root       {} on {}", path.display(), base.display())?;
            if let Some(bytes) = size_bytes {
                write!(f, ", at least {bytes} bytes")?;
            }
            if let Some(fetch) = fetch {
                write!(f, ", fetched from {fetch}")?;
                if let Some(checksum) = &fetch.checksum {
                    write!(f, " ({checksum})")?;
                }
            }
            writeln!(f)
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(T::to_string).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}
