//! One look at the pod before anything is changed: interface, resolver, disks, devices.
//!
//! Only reads. A second start in the same namespace sees the same, because the default route stays the pod's.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::Handle;

use super::link::{Links, address_of, errno};
use crate::config::Config;
use crate::facts::{Disks, Facts, Host, Interface, NetFacts, Resolver, Uplink, dictionary_order};
use crate::net::{IfName, Ipv4Prefix, MacAddr};

/// cloud-init data beyond this is refused: a config drive holds small files.
const LARGEST_FILE_BYTES: u64 = 16 << 20;
/// How deep `/volumes` is searched, and how many disks a guest can have.
const DEEPEST: usize = 16;
const MOST_DISKS: usize = 64;

/// The pod is not as needed, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Link(#[from] super::link::Error),
    #[error("reading the pod's {what}")]
    Netlink { what: &'static str, source: io::Error },
    #[error("no IPv4 default route: attach the pod to a network, or name its interface with BERTH_UPLINK")]
    NoDefaultRoute,
    #[error("no interface {0}: BERTH_UPLINK must name one that exists here")]
    NoSuchLink(IfName),
    #[error("{0} has no IPv4 address that could be mapped onto the guest")]
    NoAddress(IfName),
    #[error("no interface {0}: --interface must name one that exists here")]
    NoInterface(IfName),
    #[error("{link} is not usable: {why}")]
    Unusable { link: String, why: String },
    #[error("no {} in PATH: install QEMU, or name it with BERTH_QEMU", .0.display())]
    NoQemu(PathBuf),
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("more than {MOST_DISKS} extra disks in {} and {}", volumes.display(), devices.display())]
    TooManyDisks { volumes: PathBuf, devices: PathBuf },
    #[error("{} is larger than {} MiB, too large for what it is", .0.display(), LARGEST_FILE_BYTES >> 20)]
    TooLarge(PathBuf),
}

/// Looks at everything the plan is made from.
pub async fn facts(config: &Config, links: &Links) -> Result<Facts, Error> {
    Ok(Facts { disks: disks(config)?, host: host(config)?, net: net_facts(config, links).await? })
}

/// Looks at what the network half is planned from.
pub async fn net_facts(config: &Config, links: &Links) -> Result<NetFacts, Error> {
    Ok(NetFacts {
        resolver: resolver(&config.paths.resolv_conf)?,
        uplink: uplink(config, links.handle()).await?,
        extra_rules: config.network.extra_rules.as_deref().map(text).transpose()?,
    })
}

// ── the interface ──

/// The default route of least metric, as far as it matters here.
struct DefaultRoute {
    link: u32,
    gateway: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
    metric: u32,
}

async fn uplink(config: &Config, handle: &Handle) -> Result<Uplink, Error> {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    let netlink = |what| move |error| Error::Netlink { what, source: errno(error) };
    let routes: Vec<RouteMessage> =
        handle.route().get(route).execute().try_collect().await.map_err(netlink("routes"))?;
    let mut defaults: Vec<DefaultRoute> = routes.iter().filter_map(default_route).collect();
    defaults.sort_by_key(|route| route.metric);

    let wanted = config.network.uplink.as_ref();
    let links = match (wanted, defaults.first()) {
        (Some(name), _) => handle.link().get().match_name(name.as_str()),
        (None, Some(route)) => handle.link().get().match_index(route.link),
        (None, None) => return Err(Error::NoDefaultRoute),
    };
    let link = match Box::pin(links.execute()).try_next().await {
        Ok(Some(link)) => link,
        Ok(None) => return Err(Error::NoDefaultRoute),
        Err(error) => match wanted {
            Some(name) => return Err(Error::NoSuchLink(name.clone())),
            None => return Err(netlink("interface")(error)),
        },
    };
    let index = link.header.index;
    let (name, mac, mtu) = link_words(&link.attributes)?;
    let request = handle.address().get().set_link_index_filter(index).execute();
    let addresses: Vec<AddressMessage> = request.try_collect().await.map_err(netlink("addresses"))?;
    let route = defaults.iter().find(|route| route.link == index);
    let (address, others) = pick(&addresses, route.and_then(|route| route.source))
        .ok_or_else(|| Error::NoAddress(name.clone()))?;
    Ok(Uplink { name, index, mac, mtu, address, others, gateway: route.and_then(|route| route.gateway) })
}

/// An interface that exists, as DHCP and DNS are served on it.
pub async fn interface(name: &IfName, links: &Links) -> Result<Interface, Error> {
    let handle = links.handle();
    let link = Box::pin(handle.link().get().match_name(name.as_str()).execute()).try_next().await;
    let Ok(Some(link)) = link else { return Err(Error::NoInterface(name.clone())) };
    let (name, mac, mtu) = link_words(&link.attributes)?;
    let request = handle.address().get().set_link_index_filter(link.header.index).execute();
    let addresses: Result<Vec<AddressMessage>, _> = request.try_collect().await;
    let addresses = addresses.map_err(|error| Error::Netlink { what: "addresses", source: errno(error) })?;
    let addresses = pick(&addresses, None).map(|(first, others)| [vec![first], others].concat());
    Ok(Interface { name, mac, mtu, addresses: addresses.unwrap_or_default() })
}

/// The resolver's settings as they are now.
pub fn resolver(path: &Path) -> Result<Resolver, Error> {
    Ok(Resolver::parse(&read(path)?.unwrap_or_default()))
}

fn default_route(message: &RouteMessage) -> Option<DefaultRoute> {
    let header = &message.header;
    let mut route = DefaultRoute { link: 0, gateway: None, source: None, metric: 0 };
    let mut table = u32::from(header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => route.link = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => route.source = Some(*address),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::MultiPath(hops) if route.link == 0 => {
                let first = hops.first()?;
                route.link = first.interface_index;
                route.gateway = first.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(*address),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let usable = header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && table == u32::from(RouteHeader::RT_TABLE_MAIN)
        && route.link != 0;
    usable.then_some(route)
}

fn link_words(attributes: &[LinkAttribute]) -> Result<(IfName, MacAddr, u32), Error> {
    let mut name = String::new();
    let (mut mac, mut mtu) = (None, 1500);
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Address(octets) => mac = <[u8; 6]>::try_from(octets.as_slice()).ok().map(MacAddr),
            LinkAttribute::Mtu(octets) => mtu = *octets,
            _ => {}
        }
    }
    let unusable = |why: String| Error::Unusable { link: name.clone(), why };
    let parsed: IfName = name.parse().map_err(|error: crate::net::Error| unusable(error.to_string()))?;
    // A device without Ethernet addresses (tun, wireguard) carries the pod's traffic all the same.
    Ok((parsed, mac.unwrap_or(MacAddr([0; 6])), mtu))
}

/// The address to map and the others: the route's source if the link has it, else the first global one.
fn pick(messages: &[AddressMessage], source: Option<Ipv4Addr>) -> Option<(Ipv4Prefix, Vec<Ipv4Prefix>)> {
    let mut global: Vec<Ipv4Prefix> = messages
        .iter()
        .filter(|message| message.header.scope == AddressScope::Universe && !is_deprecated(message))
        .filter_map(address_of)
        .filter(|address| !address.address.is_loopback())
        .collect();
    let first = global.iter().position(|address| Some(address.address) == source).unwrap_or(0);
    if global.is_empty() {
        return None;
    }
    let address = global.remove(first);
    global.dedup();
    Some((address, global))
}

fn is_deprecated(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Flags(flags) => flags.contains(AddressFlags::Deprecated),
        AddressAttribute::Address(IpAddr::V6(_)) => true,
        _ => false,
    })
}

// ── files ──

fn disks(config: &Config) -> Result<Disks, Error> {
    let paths = &config.paths;
    let root = paths.device_dir.join("root");
    let target = config.image.target.as_ref().map(|target| Path::new("/").join(target));
    let mut extra = Vec::new();
    images_below(&paths.volumes_dir, 0, &mut extra);
    extra.sort_by(|a, b| dictionary_order(a.as_os_str().as_bytes(), b.as_os_str().as_bytes()));
    extra.extend(entries(&paths.device_dir, |name| name.starts_with(b"disk")));
    if extra.len() > MOST_DISKS {
        let (volumes, devices) = (paths.volumes_dir.clone(), paths.device_dir.clone());
        return Err(Error::TooManyDisks { volumes, devices });
    }
    let optional = |path: &Option<PathBuf>| path.as_deref().map_or(Ok(None), required);
    let source =
        config.image.source.as_deref().map(|source| source.strip_prefix("file://").unwrap_or(source));
    let named = extra.iter().map(PathBuf::as_path).chain([&*root]).chain(target.as_deref());
    let named = named.chain(source.map(Path::new));
    let block_devices = named.filter(|path| is_block_device(path)).map(Path::to_owned).collect();
    Ok(Disks {
        block_devices,
        root_device: root.exists().then_some(root),
        image_dir_exists: paths.image_dir.is_dir(),
        target: target.filter(|target| target.is_file() || is_block_device(target)),
        overlays: entries(&paths.image_dir, |name| name.ends_with(b".qcow2") && !name.starts_with(b".")),
        extra,
        metadata: read(&paths.metadata)?,
        userdata: read(&paths.userdata)?,
        vendordata: optional(&paths.vendordata)?,
        networkdata: optional(&paths.networkdata)?,
    })
}

fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Entries of a directory by name, sorted by bytes as a glob sorts them in the C locale.
fn entries(dir: &Path, wanted: impl Fn(&[u8]) -> bool) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = read
        .filter_map(Result::ok)
        .filter(|entry| wanted(entry.file_name().as_bytes()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// `find DIR -name '*.img'`: real directories only, so that no link leads in a circle.
fn images_below(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(read) = fs::read_dir(dir) else { return };
    for entry in read.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth < DEEPEST {
                images_below(&entry.path(), depth + 1, found);
            }
        } else if found.len() <= MOST_DISKS
            && entry.file_name().as_bytes().ends_with(b".img")
            && entry.path().is_file()
        {
            found.push(entry.path());
        }
    }
}

/// Content of a regular file (links followed, as ConfigMap mounts need); None when there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    if !path.is_file() {
        return Ok(None);
    }
    required(path)
}

fn required(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST_FILE_BYTES {
        Err(Error::TooLarge(path.to_owned()))
    } else {
        Ok(Some(content))
    }
}

/// A file that must be there, and text.
fn text(path: &Path) -> Result<String, Error> {
    let content = required(path)?.unwrap_or_default();
    String::from_utf8(content).map_err(|error| Error::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

// ── devices ──

fn host(config: &Config) -> Result<Host, Error> {
    let opens = |path| OpenOptions::new().read(true).write(true).open(path).is_ok();
    Ok(Host {
        qemu: program(&config.machine.qemu, &config.machine.search_path)?,
        kvm: opens("/dev/kvm"),
        vhost_net: opens("/dev/vhost-net"),
        can_setuid: can_setuid(),
        kvm_gid: fs::metadata("/dev/kvm").ok().map(|metadata| metadata.gid()),
    })
}

/// As `execvp(3)` looks a program up.
fn program(name: &Path, search_path: &[PathBuf]) -> Result<PathBuf, Error> {
    let executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    let candidates: Vec<PathBuf> = if name.as_os_str().as_bytes().contains(&b'/') {
        vec![name.to_owned()]
    } else {
        search_path.iter().map(|dir| dir.join(name)).collect()
    };
    candidates.into_iter().find(executable).ok_or_else(|| Error::NoQemu(name.to_owned()))
}

/// CAP_SETGID (6) and CAP_SETUID (7) in the effective set (`proc(5)`, linux/capability.h).
pub fn can_setuid() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    bits & 0b1100_0000 == 0b1100_0000
}
