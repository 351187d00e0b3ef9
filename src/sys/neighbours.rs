//! Who is on a link: the addresses that can be sent to at once, because the kernel knows their MAC.
//!
//! Read from the kernel's own table (`/proc/net/arp`, `/proc/net/route`), not asked for by rtnetlink: that waits for a lock
//! which others on the node may hold for long. What is read of both has a limit; who is behind it counts as not known.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;

use crate::net::IfName;

/// Of this thread's namespace.
const ARP: &str = "/proc/thread-self/net/arp";
const ROUTES: &str = "/proc/thread-self/net/route";
/// Octets that are read: some 13,000 neighbours, 8,000 routes.
const MAX_ENTRIES: usize = 1 << 20;
/// linux/if_arp.h: the MAC is known and good.
const ATF_COM: u32 = 2;
/// linux/route.h.
const RTF_GATEWAY: u32 = 2;

/// The kernel's tables, open: whoever reads them may have no right to files any more.
#[derive(Debug)]
pub struct Tables {
    arp: File,
    routes: File,
}

impl Tables {
    /// Opens `/proc/net/arp` and what else is read, once.
    pub fn open() -> io::Result<Self> {
        Ok(Self { arp: File::open(ARP)?, routes: File::open(ROUTES)? })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    known: HashSet<Ipv4Addr>,
    routes: Vec<Route>,
}

/// A way to what is not on the link.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    destination: u32,
    mask: u32,
    /// None: on the link itself.
    gateway: Option<Ipv4Addr>,
}

impl Neighbours {
    /// As of now.
    pub fn read(tables: &Tables, interface: &IfName) -> io::Result<Self> {
        Ok(Self::parse(interface, &head_of(&tables.arp)?, &head_of(&tables.routes)?))
    }

    fn parse(interface: &IfName, arp: &str, routes: &str) -> Self {
        let name = interface.as_str();
        let known = arp.lines().filter_map(|line| neighbour(line, name)).collect();
        let mut routes: Vec<Route> = routes.lines().filter_map(|line| route(line, name)).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.mask));
        Self { known, routes }
    }

    /// Whether the address, or the router before it, has a MAC.
    pub fn reach(&self, address: Ipv4Addr) -> bool {
        self.known.contains(&address)
            || self.router(address).is_some_and(|gateway| self.known.contains(&gateway))
    }

    fn router(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let covers = |route: &&Route| address.to_bits() & route.mask == route.destination;
        self.routes.iter().find(covers)?.gateway
    }
}

/// From its beginning, which the kernel writes anew.
fn head_of(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    let mut chunk = [0; 8192];
    while text.len() < MAX_ENTRIES {
        let length = file.read_at(&mut chunk, text.len() as u64)?;
        if length == 0 {
            break;
        }
        text.extend_from_slice(chunk.get(..length).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `IP address, HW type, Flags, HW address, Mask, Device`
fn neighbour(line: &str, name: &str) -> Option<Ipv4Addr> {
    let mut words = line.split_ascii_whitespace();
    let address = words.next()?.parse().ok()?;
    let flags = u32::from_str_radix(words.nth(1)?.strip_prefix("0x")?, 16).ok()?;
    (flags & ATF_COM != 0 && words.nth(2)? == name).then_some(address)
}

/// `Iface, Destination, Gateway, Flags, RefCnt, Use, Metric, Mask`, addresses as the kernel has them in memory.
fn route(line: &str, name: &str) -> Option<Route> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != name {
        return None;
    }
    let mut hex = |skip| u32::from_str_radix(words.nth(skip)?, 16).ok();
    let (destination, gateway, flags, mask) = (hex(0)?, hex(0)?, hex(0)?, hex(3)?);
    let bits = |memory: u32| u32::from_be_bytes(memory.to_ne_bytes());
    let gateway = (flags & RTF_GATEWAY != 0).then(|| Ipv4Addr::from_bits(bits(gateway)));
    Some(Route { destination: bits(destination), mask: bits(mask), gateway })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARP: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.2         0x1         0x2         02:00:00:00:00:02     *        s0
10.0.0.3         0x1         0x0         00:00:00:00:00:00     *        s0
10.0.0.4         0x1         0x6         02:00:00:00:00:04     *        s0
10.0.0.5         0x1         0x2         02:00:00:00:00:05     *        eth0
";
    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
s0\t0000010A\t0200000A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
s0\t0000020A\t0300000A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
s0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t00000000\t0200000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
";

    /// Incomplete and failed ones have no MAC; a static one has; another link's are not ours.
    #[test]
    fn those_with_a_mac_are_reached_and_what_is_behind_them() {
        let neighbours = Neighbours::parse(&"s0".parse().unwrap(), ARP, ROUTES);
        for (address, reached) in [
            ([10, 0, 0, 2], true),
            ([10, 0, 0, 3], false),
            ([10, 0, 0, 4], true),
            ([10, 0, 0, 5], false),
            ([10, 0, 9, 9], false),
            ([10, 1, 7, 7], true),
            ([10, 2, 7, 7], false),
            ([8, 8, 8, 8], false),
        ] {
            assert_eq!(neighbours.reach(address.into()), reached, "{address:?}");
        }
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let spoilt =
            "10.0.0.2 0x1\n\n10.0.0.2 0x1 zz 02:00:00:00:00:02 * s0\ns0 zz\ns0\t0000010A\n";
        let neighbours = Neighbours::parse(&"s0".parse().unwrap(), spoilt, spoilt);
        assert!(neighbours.known.is_empty() && neighbours.routes.is_empty());
    }
}
