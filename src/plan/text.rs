//! The plan for people: what `berth plan` prints. Whatever is in a value, a line stays one line.

use std::fmt::{self, Display, Formatter};

use super::disk::Root;
use super::{DiskPlan, GuestPlan, LinkPlan, NetPlan, Plan, RoutePlan};
use crate::log::one_line;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, net, disk, machine, lifecycle, web } = self;
        let NetPlan { link, route, nat, guest, .. } = net;
        writeln!(f, "plan for {}", one_line(name))?;
        writeln!(f)?;
        links(f, link, route)?;
        served(f, guest)?;
        for (what, addresses) in [("web", &web.page), ("metrics", &web.metrics)] {
            if !addresses.is_empty() {
                row(f, what, list(addresses))?;
            }
        }
        writeln!(f)?;
        disks(f, disk)?;
        writeln!(f)?;
        row(
            f,
            "lifecycle",
            format_args!(
                "grace {} s, quit {} s before its end, on poweroff {:?}, on reboot {:?}, on panic {:?}",
                lifecycle.grace.as_secs(),
                lifecycle.margin.as_secs(),
                lifecycle.on_poweroff,
                lifecycle.on_reboot,
                lifecycle.on_panic
            ),
        )?;
        writeln!(f)?;
        writeln!(f, "{}", one_line(&shell_words::join(machine.preview())))?;
        writeln!(f)?;
        // Lines and tabs are nft's own.
        for part in nat.to_string().split_inclusive(['\n', '\t']) {
            let text = part.trim_end_matches(['\n', '\t']);
            write!(f, "{}{}", one_line(text), part.get(text.len()..).unwrap_or_default())?;
        }
        Ok(())
    }
}

fn row(f: &mut Formatter<'_>, what: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "{what:<11}{}", one_line(&text.to_string()))
}

fn links(f: &mut Formatter<'_>, link: &LinkPlan, route: &RoutePlan) -> fmt::Result {
    let LinkPlan { uplink, bridge, tap, ipv4, ipv6 } = link;
    row(f, "uplink", format_args!("{uplink} (forwarding on)"))?;
    for further in &route.further {
        let networks = list(&further.networks);
        row(f, "further", format_args!("{} to {networks} (forwarding on)", further.name))?;
    }
    for rule in &route.rules {
        row(f, "ip rule", rule)?;
    }
    let (mac, mtu) = (&bridge.mac, bridge.mtu);
    row(f, "bridge", format_args!("{} {} {mac} mtu {mtu}", bridge.name, bridge.address))?;
    let (queues, owner) = (tap.queues, tap.owner);
    row(
        f,
        "tap",
        format_args!("{} in {}, {queues} queue(s), owner {owner}", tap.name, bridge.name),
    )?;
    row(f, "ipv4", ipv4)?;
    row(f, "ipv6", ipv6)
}

fn served(f: &mut Formatter<'_>, guest: &GuestPlan) -> fmt::Result {
    let GuestPlan { address, mac, mtu, hostname, gateway, ndots, .. } = guest;
    row(f, "guest", format_args!("{address} {mac} mtu {mtu} host name {hostname}"))?;
    if !guest.serve {
        return row(f, "dhcp", "off (NO_DHCP)");
    }
    let (dns, search) = (list(&guest.dns), list(&guest.search));
    let router = if guest.routed { gateway.to_string() } else { "none".to_owned() };
    row(f, "dhcp", format_args!("router {router}, dns {dns}, search {search}"))?;
    let upstreams = list(&guest.upstreams);
    row(f, "dns", format_args!("{gateway} forwards to {upstreams}, ndots {ndots}"))
}

fn disks(f: &mut Formatter<'_>, disk: &DiskPlan) -> fmt::Result {
    root(f, &disk.root)?;
    for disk in &disk.extra {
        let access = if disk.writable { "raw" } else { "raw, read-only" };
        row(f, "disk", format_args!("{} ({access}), serial {}", disk.path.display(), disk.serial))?;
    }
    if let Some(seed) = &disk.seed {
        let files: Vec<&str> = seed.volume.files.iter().map(|file| file.path.as_str()).collect();
        let (path, label) = (seed.path.display(), &seed.volume.label);
        row(f, "seed", format_args!("{path} label {label}: {}", files.join(" ")))?;
    }
    row(f, "lock", disk.lock.display())
}

fn root(f: &mut Formatter<'_>, root: &Root) -> fmt::Result {
    let (path, base, fetch, size_bytes) = match root {
        Root::Device { path } => {
            return row(f, "root", format_args!("{} (raw block device)", path.display()));
        }
        Root::Overlay { path, base, fetch, size_bytes } => (path, base, fetch, size_bytes),
    };
    let mut text = format!("{} on {}", path.display(), base.display());
    if let Some(bytes) = size_bytes {
        text += &format!(", at least {bytes} bytes");
    }
    if let Some(fetch) = fetch {
        text += &format!(", fetched from {fetch}");
        if let Some(checksum) = &fetch.checksum {
            text += &format!(" ({checksum})");
        }
    }
    row(f, "root", text)
}

fn list<T: Display>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(T::to_string).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}
