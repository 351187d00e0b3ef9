//! What the pod gives: plain data read by `sys::probe`, and the parsers of what it reads.

mod ipv6;
mod routing;

pub use ipv6::{Forwarding, Ipv6, Off, Unusable};
pub use routing::{Further, MAX_ROUTES, Route, Route4, Route6, Routing, RoutingRule};

use std::collections::BTreeSet;
use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use crate::net::{IfName, Ipv4Prefix, Ipv6Prefix, MacAddr, no_host};

/// One look at the pod, before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    #[serde(flatten)]
    pub net: NetFacts,
    pub disks: Disks,
    pub host: Host,
}

/// What the network half needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetFacts {
    pub uplink: Uplink,
    pub routing: Routing,
    pub ipv6: Ipv6,
    pub resolver: Resolver,
    /// Content of `BERTH_EXTRA_RULES`.
    pub extra_rules: Option<String>,
    /// Content of the meta-data, which may name the guest; None when there is no such file.
    pub metadata: Option<Vec<u8>>,
    /// Whether this process may change to another uid (CAP_SETUID and CAP_SETGID): whose the tap is depends on it.
    pub can_setuid: bool,
}

/// The pod's own interface: the one with the default route, of IPv4 where there is one, or the one the user named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uplink {
    pub name: IfName,
    pub index: u32,
    pub mac: MacAddr,
    /// Octets.
    pub mtu: u32,
    /// The address that is mapped onto the guest: the default route's preferred source, else the first
    /// global one. None where the pod has IPv6 alone.
    pub address: Option<Ipv4Prefix>,
    /// Every other global IPv4 address of the interface; mapped onto the guest too.
    pub others: Vec<Ipv4Prefix>,
    /// None when the default route has no next hop (a point-to-point device).
    pub gateway: Option<Ipv4Addr>,
}

/// A link that DHCP and DNS are served on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: IfName,
    pub mac: MacAddr,
    /// Octets.
    pub mtu: u32,
    /// With their prefix lengths.
    pub addresses: Vec<Ipv4Prefix>,
    /// Global and unique-local ones that may be used, the oldest first.
    pub addresses6: Vec<Ipv6Prefix>,
    /// Where router advertisements come from.
    pub link_local: Option<Ipv6Addr>,
}

/// Such a link as it is found by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedLink {
    pub index: u32,
    /// Why nobody reaches us by it: it is not set up, or a bridge takes what comes in. (A carrier it may have or not.)
    pub deaf: Option<String>,
    pub interface: Interface,
    /// Those that are not for `interface.addresses` too: of the link's own scope, or deprecated.
    pub every_address: Vec<Ipv4Prefix>,
}

/// `resolv.conf(5)`, as far as a forwarder needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolver {
    pub nameservers: Vec<NameServer>,
    /// Lower-case, no trailing dot, valid names only.
    pub search: Vec<String>,
    /// 0 to 15; 1 when not said.
    pub ndots: u8,
    /// Words that were skipped, with why: told once, never fatal.
    pub skipped: Vec<String>,
}

/// Whom to ask, at port 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameServer {
    pub address: IpAddr,
    /// Index of the link that a link-local address is on (RFC 4007); 0 for all others.
    pub scope: u32,
}

impl NameServer {
    /// An address, with its link (fe80::1%eth0) where it is one of a link; the error says why it cannot be asked.
    fn read(word: &str, index_of: impl Fn(&str) -> Option<u32>) -> Result<Self, String> {
        let (address, zone) = match word.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (word, None),
        };
        let address: IpAddr = address.parse().map_err(|_| "not an address".to_owned())?;
        let address = address.to_canonical();
        if let Some(why) = not_to_be_asked(address) {
            return Err(why.to_owned());
        }
        let scope = match (address, zone) {
            (IpAddr::V6(address), Some(zone)) if address.is_unicast_link_local() => {
                let index =
                    zone.parse().ok().or_else(|| index_of(zone)).filter(|index| *index != 0);
                index.ok_or_else(|| format!("a link-local name server, and no interface {zone}"))?
            }
            (IpAddr::V6(address), None) if address.is_unicast_link_local() => {
                return Err(
                    "a link-local name server without its interface, as in fe80::1%eth0".to_owned()
                );
            }
            _ => 0,
        };
        Ok(Self { address, scope })
    }
}

/// What kind of address it is, where nobody answers at one. Ours at 127.0.0.0/8 and 0.0.0.0 are the pod's own, which may.
pub(crate) fn not_to_be_asked(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) if address.is_loopback() || address.is_unspecified() => None,
        IpAddr::V4(address) => no_host(address),
        IpAddr::V6(address) => address.is_multicast().then_some("a multicast address (ff00::/8)"),
    }
}

impl From<IpAddr> for NameServer {
    fn from(address: IpAddr) -> Self {
        Self { address, scope: 0 }
    }
}

impl FromStr for NameServer {
    type Err = AddrParseError;
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        text.parse::<IpAddr>().map(Self::from)
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            0 => self.address.fmt(f),
            scope => write!(f, "{}%{scope}", self.address),
        }
    }
}

impl Serialize for NameServer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What there is to boot from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disks {
    /// `/dev/vm/root`, when it exists.
    pub root_device: Option<DiskFile>,
    pub image_dir_exists: bool,
    /// `IMG_TARGET` names a path that exists: that path.
    pub target: Option<PathBuf>,
    /// `*.qcow2` directly in the image directory, sorted.
    pub overlays: Vec<PathBuf>,
    /// `/volumes/**/*.img` in `sort -d` order, then `/dev/vm/disk*` in glob order.
    pub extra: Vec<DiskFile>,
    /// What looks like a disk and is none, with why: told once, never fatal.
    pub skipped: Vec<String>,
    /// Which of all these, and of the image's source, are block devices: QEMU has another driver for these than for files.
    pub block_devices: BTreeSet<PathBuf>,
    /// Content of the files of the config drive, beside the meta-data; None when there is no such file.
    pub userdata: Option<Vec<u8>>,
    pub vendordata: Option<Vec<u8>>,
    pub networkdata: Option<Vec<u8>>,
}

/// A raw disk: a regular file or a block device that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskFile {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// Why it cannot be written; None when it can.
    pub read_only: Option<String>,
}

/// What this container and kernel offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// QEMU's full path.
    pub qemu: PathBuf,
    /// CPUs this process may run on; 0 when they cannot be counted.
    pub cpus: u32,
    /// `/dev/kvm` opens for reading and writing. Says nothing about whether guests run.
    pub kvm: bool,
    /// `/dev/vhost-net` opens.
    pub vhost_net: bool,
    /// This process's own.
    pub uid: u32,
    /// gid of `/dev/kvm`, for QEMU's supplementary groups.
    pub kvm_gid: Option<u32>,
    /// Whether a child of another uid can be killed (CAP_KILL).
    pub can_kill: bool,
    /// What the memory cgroup lets the container have; None: there is no limit, or it is not seen here.
    pub memory_limit_bytes: Option<u64>,
}

/// At most this many name servers and search domains are kept: enough for any real file, a bound for others.
const MAX_ENTRIES: usize = 32;

impl Resolver {
    /// Reads `resolv.conf(5)`: blanks or tabs, `#` and `;` comments, any number of name servers, the last of
    /// `search` and `domain`, `options ndots:N`. What cannot be used is skipped and named, never fatal.
    pub fn parse(text: &[u8]) -> Self {
        Self::parse_on(text, |_| None)
    }

    /// The same where links have names: `index_of` knows their indices.
    pub(crate) fn parse_on(text: &[u8], index_of: impl Fn(&str) -> Option<u32>) -> Self {
        let mut resolver = Self { nameservers: vec![], search: vec![], ndots: 1, skipped: vec![] };
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    resolver.nameserver(words.next().unwrap_or_default(), &index_of);
                }
                Some("search" | "domain") => resolver.search(words),
                Some("options") => resolver.options(words),
                _ => {}
            }
        }
        resolver
    }

    fn nameserver(&mut self, word: &str, index_of: impl Fn(&str) -> Option<u32>) {
        match NameServer::read(word, index_of) {
            Ok(server) if self.nameservers.contains(&server) => {}
            Ok(server) if self.nameservers.len() < MAX_ENTRIES => self.nameservers.push(server),
            Ok(_) => self.skip(word, "too many name servers"),
            Err(why) => self.skip(word, &why),
        }
    }

    fn search<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        self.search.clear();
        for word in words {
            let domain = word.trim_end_matches('.').to_ascii_lowercase();
            if domain.is_empty() || self.search.contains(&domain) {
                continue;
            }
            if !is_domain(&domain) {
                self.skip(word, "not a domain name");
            } else if self.search.len() < MAX_ENTRIES {
                self.search.push(domain);
            } else {
                self.skip(word, "too many search domains");
            }
        }
    }

    fn options<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            if let Some(number) = word.strip_prefix("ndots:") {
                match number.parse::<u8>() {
                    Ok(ndots) => self.ndots = ndots.min(15),
                    Err(_) => self.skip(word, "not a number"),
                }
            }
        }
    }

    fn skip(&mut self, word: &str, why: &str) {
        if self.skipped.len() < MAX_ENTRIES {
            let word: String = word.chars().take(80).collect();
            self.skipped.push(format!("{word:?}: {why}"));
        }
    }
}

/// Labels of 1 to 63 letters, digits, `-` and `_`, 253 octets in all, and not an address. More than a flag may say
/// (`DomainName`): the file is somebody else's, and works elsewhere.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    domain.len() <= 253 && domain.split('.').all(label) && domain.parse::<Ipv4Addr>().is_err()
}

/// The order of `sort -d` in the C locale: only blanks, letters and digits count, ties by bytes.
pub(crate) fn dictionary_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let key = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .iter()
            .copied()
            .filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'\t'))
            .collect()
    };
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Resolver {
        Resolver::parse(text.as_bytes())
    }

    #[test]
    fn reads_what_kubernetes_writes() {
        let resolver = parse(
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        );
        assert_eq!(resolver.nameservers, [IpAddr::from([10, 96, 0, 10]).into()]);
        assert_eq!(
            resolver.search,
            ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        );
        assert_eq!((resolver.ndots, resolver.skipped.len()), (5, 0));
    }

    /// The seed joined only the first two and its dnsmasq then refused to start.
    #[test]
    fn three_name_servers_tabs_and_ipv6_are_all_kept() {
        let resolver = parse(
            "nameserver\t1.1.1.1\nnameserver  2.2.2.2 \n nameserver 3.3.3.3\nnameserver fd00::a\n",
        );
        assert_eq!(resolver.nameservers.len(), 4);
        assert!(resolver.skipped.is_empty(), "{:?}", resolver.skipped);
    }

    #[test]
    fn no_search_line_is_no_search_list() {
        assert!(parse("nameserver 1.1.1.1").search.is_empty());
        assert_eq!(parse("").nameservers.len(), 0);
    }

    #[test]
    fn the_last_search_wins_and_comments_are_nothing() {
        let resolver = parse(
            "# search a.b\nsearch one.example\n;x\nsearch Two.Example. # three\ndomain four.example\n",
        );
        assert_eq!(resolver.search, ["four.example"]);
        assert_eq!(parse("search Two.Example. # three").search, ["two.example"]);
    }

    /// One odd search domain crashed a launcher of this kind.
    #[test]
    fn odd_search_domains_are_skipped_and_named() {
        let resolver = parse(&format!(
            "search DHCP good.example 10.0.0.1 a..b {} -x_y.z é.example",
            "l".repeat(64)
        ));
        assert_eq!(resolver.search, ["dhcp", "good.example", "-x_y.z"]);
        assert_eq!(resolver.skipped.len(), 4, "{:?}", resolver.skipped);
    }

    #[test]
    fn ndots_is_bounded() {
        assert_eq!(parse("options ndots:99 rotate").ndots, 15);
        assert_eq!(parse("options ndots:x").ndots, 1);
    }

    #[test]
    fn name_servers_that_cannot_be_asked_are_skipped_and_named() {
        for (word, why) in [
            ("fe80::1%eth9", "a link-local name server, and no interface eth9"),
            ("fe80::1%0", "a link-local name server, and no interface 0"),
            ("fe80::1%", "a link-local name server, and no interface "),
            ("fe80::1", "a link-local name server without its interface, as in fe80::1%eth0"),
            ("ns.example", "not an address"),
            ("10.9.0.2:53", "not an address"),
            ("[fd00::1]:53", "not an address"),
            ("224.0.0.251", "a multicast address (224.0.0.0/4)"),
            ("255.255.255.255", "the broadcast address"),
            ("ff02::fb%eth0", "a multicast address (ff00::/8)"),
            ("", "not an address"),
        ] {
            let resolver = parse(&format!("nameserver {word}\nnameserver 10.0.0.1\n"));
            assert_eq!(resolver.nameservers.len(), 1, "{word}");
            assert_eq!(resolver.skipped, [format!("{word:?}: {why}")]);
        }
    }

    #[test]
    fn a_link_local_name_server_has_its_link() {
        let text = b"nameserver fe80::1%eth0\nnameserver FE80::1%7\nnameserver fe80::2%eth1\nnameserver fd00::1%eth0\n";
        let resolver = Resolver::parse_on(text, |name| (name == "eth0").then_some(7));
        let words: Vec<String> = resolver.nameservers.iter().map(NameServer::to_string).collect();
        assert_eq!(words, ["fe80::1%7", "fd00::1"]);
        assert_eq!(resolver.skipped.len(), 1, "{:?}", resolver.skipped);
    }

    /// The same server under another name is the same: ours must be known when it is asked.
    #[test]
    fn an_address_in_another_form_is_the_same_and_the_pods_own_may_answer() {
        let resolver = parse(
            "nameserver ::ffff:10.0.0.1\nnameserver 10.0.0.1\nnameserver 0.0.0.0\nnameserver 127.0.0.53\nnameserver ::1\n",
        );
        let words: Vec<String> = resolver.nameservers.iter().map(NameServer::to_string).collect();
        assert_eq!(words, ["10.0.0.1", "0.0.0.0", "127.0.0.53", "::1"]);
    }

    /// As `printf '%s\\n' … | LC_ALL=C sort -d` prints them.
    #[test]
    fn extra_disks_come_in_dictionary_order() {
        let mut paths =
            ["/volumes/b/1.img", "/volumes/a-2.img", "/volumes/a1.img", "/volumes/a/1.img"];
        paths.sort_by(|a, b| dictionary_order(a.as_bytes(), b.as_bytes()));
        assert_eq!(
            paths,
            ["/volumes/a/1.img", "/volumes/a1.img", "/volumes/a-2.img", "/volumes/b/1.img"]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic_or_grow(text in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
            let resolver = Resolver::parse(&text);
            assert!(resolver.nameservers.len() <= MAX_ENTRIES && resolver.search.len() <= MAX_ENTRIES);
        }

        #[test]
        fn words_of_its_own_language_do_not_either(text in "((nameserver|search|options|domain|ndots:)[ \t.:0-9a-f%#]{0,20}\n){0,20}") {
            assert!(Resolver::parse(text.as_bytes()).search.iter().all(|domain| is_domain(domain)));
        }
    }
}
