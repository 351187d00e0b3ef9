//! From words to values: every wrong one is named, with its variable, what it was and what is allowed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::invalid::{Errors, Invalid};
use super::options::Options;
use super::placeholders::{PLACEHOLDERS, braces_are_closed, named};
use super::reader::switch;
use super::{
    Accel, Checksum, Config, Dns, Guest, Image, Ipv4, Ipv6, Machine, MetadataAddress, Network,
    Paths, Proxies, SeedAs, SeedFormat, Source,
};
use crate::net::{Ipv4Prefix, Port, decimal, octets};

/// What is used of the process's surroundings besides the options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ambient {
    /// The kernel's host name: stands in for an unset `HOSTNAME`, as bash does.
    pub nodename: String,
    /// `PATH`.
    pub search_path: Vec<PathBuf>,
    /// `http_proxy` and its like.
    pub proxies: Proxies,
    /// `KUBERNETES_SERVICE_HOST`, where it is an address.
    pub service_host: Option<IpAddr>,
}

impl Ambient {
    /// Reads the host name, `PATH` and the proxies, once, at start.
    #[expect(clippy::disallowed_methods, reason = "the one room that reads the environment")]
    pub fn read() -> Self {
        let nodename = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let path =
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let variable = |name: &str| std::env::var(name).ok();
        let proxies = Proxies::read(variable);
        let service_host = variable("KUBERNETES_SERVICE_HOST").and_then(|host| host.parse().ok());
        let search_path = std::env::split_paths(&path).collect();
        Self { nodename, search_path, proxies, service_host }
    }
}

impl Options {
    /// Checks every word. What depends on the pod is checked by the plan.
    pub fn parse(&self, ambient: &Ambient) -> Result<Config, Errors> {
        let mut wrong = Wrong(Vec::new());
        let config = self.gather(ambient, &mut wrong);
        if wrong.0.is_empty() { Ok(config) } else { Err(Errors(wrong.0)) }
    }

    /// What is taken, and most likely meant otherwise.
    pub fn notes(&self) -> Vec<String> {
        let variables = [("NO_DHCP", &self.no_dhcp), ("NO_VNC", &self.no_vnc)];
        let no = |(variable, value): (&str, &Option<String>)| {
            let text = any(value).filter(|text| switch(text.trim()) == Some(false))?;
            Some(format!(
                "{variable}={text:?} is yes, as any text is: leave the variable out, or empty"
            ))
        };
        variables.into_iter().filter_map(no).collect()
    }

    fn gather(&self, ambient: &Ambient, wrong: &mut Wrong) -> Config {
        let hostname = set(&self.hostname)
            .map(str::to_owned)
            .or_else(|| {
                Some(ambient.nodename.clone()).filter(|name| !name.is_empty() && name != "(none)")
            })
            .unwrap_or_else(|| "vm".to_owned());
        let name_variable = if set(&self.name).is_some() { "BERTH_NAME" } else { "HOSTNAME" };
        let name = set(&self.name).map_or_else(|| hostname.clone(), str::to_owned);
        if !is_name(&name) {
            wrong.add(
                name_variable,
                &name,
                "letters, digits, '-', '_' and '.', at most 230, not a '.' first",
            );
        }
        let machine = self.machine(ambient, wrong);
        let vnc = machine.vnc;
        Config {
            name,
            hostname,
            image: self.image(ambient, wrong),
            guest: Guest {
                seed_format: wrong.word(
                    "BERTH_SEED_FORMAT",
                    &self.seed_format,
                    SeedFormat::ConfigDrive,
                    &[("configdrive", SeedFormat::ConfigDrive), ("nocloud", SeedFormat::NoCloud)],
                ),
                seed_as: wrong.word(
                    "BERTH_SEED_AS",
                    &self.seed_as,
                    SeedAs::Disk,
                    &[("disk", SeedAs::Disk), ("cdrom", SeedAs::Cdrom)],
                ),
            },
            network: self.network(ambient, wrong),
            machine,
            lifecycle: self.lifecycle(wrong),
            web: self.web.parse(vnc, wrong),
            paths: self.paths(),
        }
    }

    fn image(&self, ambient: &Ambient, wrong: &mut Wrong) -> Image {
        let source = set(&self.image_source).map(Source::parse);
        let source = source.and_then(|source| {
            source.map_err(|error| wrong.add("IMG_SOURCE", &error.shown, error.allowed)).ok()
        });
        Image {
            source,
            proxies: ambient.proxies.clone(),
            target: set(&self.image_target).map(str::to_owned),
            checksum: wrong.optional(
                "IMG_SHA256",
                &self.image_checksum,
                "64 hexadecimal digits, sha256:HEX or sha512:HEX",
                checksum,
            ),
            max_bytes: wrong.optional("IMG_MAX_SIZE", &self.image_max_size, SIZES, size),
            disk_size_bytes: wrong.optional("BERTH_DISK_SIZE", &self.disk_size, SIZES, size),
        }
    }

    fn network(&self, ambient: &Ambient, wrong: &mut Wrong) -> Network {
        let vm_ip = wrong.host("VM_IP", &self.vm_ip, Ipv4Addr::new(192, 168, 254, 2));
        let gateway = wrong.host("VM_GW", &self.vm_gw, Ipv4Addr::new(192, 168, 254, 1));
        let length = wrong.or(
            "BERTH_VM_PREFIX",
            &self.vm_prefix,
            30,
            "a prefix length from 1 to 30",
            |text| within(text, 1, 30),
        );
        let vm = Ipv4Prefix { address: vm_ip, length };
        self.check_pair(vm, gateway, wrong);
        Network {
            vm,
            gateway,
            uplink: wrong.net("BERTH_UPLINK", &self.uplink),
            bridge: wrong.name("BERTH_BRIDGE", &self.bridge, "br0"),
            tap: wrong.name("BERTH_TAP", &self.tap, "tap0"),
            mtu: wrong.optional("BERTH_MTU", &self.mtu, "octets from 576 to 65535", |text| {
                within(text, 576, 65_535)
            }),
            mac: wrong.net("BERTH_MAC", &self.mac),
            reserved: ports("BERTH_RESERVED_PORTS", &self.reserved_ports, wrong),
            gateway_ports: ports("BERTH_GATEWAY_PORTS", &self.gateway_ports, wrong),
            metadata_address: wrong.word(
                "BERTH_METADATA_ADDRESS",
                &self.metadata_address,
                MetadataAddress::Allow,
                &[("allow", MetadataAddress::Allow), ("drop", MetadataAddress::Drop)],
            ),
            serve: any(&self.no_dhcp).is_none(),
            dns: wrong.word(
                "BERTH_DNS",
                &self.dns,
                Dns::Gateway,
                &[("gateway", Dns::Gateway), ("pod", Dns::Pod)],
            ),
            ipv4: wrong.word(
                "BERTH_IPV4",
                &self.ipv4,
                Ipv4::Nat,
                &[("nat", Ipv4::Nat), ("own", Ipv4::Own)],
            ),
            ipv6: wrong.word(
                "BERTH_IPV6",
                &self.ipv6,
                Ipv6::Auto,
                &[("auto", Ipv6::Auto), ("off", Ipv6::Off), ("own", Ipv6::Own), ("nat", Ipv6::Nat)],
            ),
            service_host: ambient.service_host,
            extra_rules: path(&self.extra_rules),
            nft_owner: wrong.or("BERTH_NFT_OWNER", &self.nft_owner, false, "on or off", switch),
        }
    }

    /// Guest and gateway must be two hosts of one network.
    fn check_pair(&self, vm: Ipv4Prefix, gateway: Ipv4Addr, wrong: &mut Wrong) {
        let hosts = |address| address != vm.network() && address != vm.broadcast();
        if !wrong.0.is_empty() {
            return;
        }
        if vm.address == gateway || !vm.contains(gateway) {
            let allowed =
                format!("another address of VM_IP's network {}/{}", vm.network(), vm.length);
            wrong.add("VM_GW", &gateway.to_string(), &allowed);
        } else if !hosts(vm.address) || !hosts(gateway) {
            let (variable, address) =
                if hosts(vm.address) { ("VM_GW", gateway) } else { ("VM_IP", vm.address) };
            let allowed = format!(
                "a host address, not {} or {}, the ends of the network (BERTH_VM_PREFIX={})",
                vm.network(),
                vm.broadcast(),
                vm.length
            );
            wrong.add(variable, &address.to_string(), &allowed);
        }
    }

    fn machine(&self, ambient: &Ambient, wrong: &mut Wrong) -> Machine {
        let image = [
            ("IMG_SOURCE", &self.image_source),
            ("IMG_TARGET", &self.image_target),
            ("IMG_VCPU", &self.vcpu),
            ("IMG_RAM_MB", &self.ram_mb),
        ];
        Machine {
            vcpu: wrong.or("IMG_VCPU", &self.vcpu, 1, "a whole number from 1 to 255", |text| {
                within(text, 1, 255)
            }),
            ram_mib: wrong.or("IMG_RAM_MB", &self.ram_mb, 512, "MiB from 16 to 16777216", |text| {
                within(text, 16, 16_777_216)
            }),
            qemu: set(&self.qemu).unwrap_or("qemu-system-x86_64").into(),
            search_path: ambient.search_path.clone(),
            accel: wrong.word(
                "BERTH_ACCEL",
                &self.accel,
                Accel::Auto,
                &[("auto", Accel::Auto), ("kvm", Accel::Kvm), ("tcg", Accel::Tcg)],
            ),
            cpu: set(&self.cpu).map(str::to_owned),
            launcher: wrong.words("LAUNCHER", &self.launcher, false).unwrap_or_default(),
            blk_opts: wrong.words("KVM_BLK_OPTS", &self.kvm_blk_opts, true),
            raw_blk_opts: wrong.words("KVM_RAW_BLK_OPTS", &self.kvm_raw_blk_opts, true),
            net_opts: wrong.words("KVM_NET_OPTS", &self.kvm_net_opts, true),
            placeholders: image
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.clone().unwrap_or_default()))
                .collect::<BTreeMap<_, _>>(),
            reserve_vnc: any(&self.no_vnc).is_none(),
            vnc: wrong.or("BERTH_VNC", &self.vnc, true, "on or off", switch),
            vnc_password_file: path(&self.vnc_password_file),
            uid: wrong.or(
                "BERTH_QEMU_UID",
                &self.qemu_uid,
                65_534,
                "a uid from 0 to 4294967294",
                |text| within(text, 0, u32::MAX - 1),
            ),
            confine: wrong.or("BERTH_CONFINE", &self.confine, true, "on or off", switch),
            extra_args: self.qemu_args.clone(),
        }
    }

    fn paths(&self) -> Paths {
        let or =
            |value: &Option<PathBuf>, default: &str| path(value).unwrap_or_else(|| default.into());
        Paths {
            image_dir: or(&self.image_dir, "/image"),
            state_dir: self.state_dir(),
            metadata: or(&self.metadata, "/metadata"),
            userdata: or(&self.userdata, "/userdata"),
            vendordata: path(&self.vendordata),
            networkdata: path(&self.networkdata),
            device_dir: or(&self.device_dir, "/dev/vm"),
            volumes_dir: or(&self.volumes_dir, "/volumes"),
            resolv_conf: or(&self.resolv_conf, "/etc/resolv.conf"),
            ca_file: path(&self.ca_file),
        }
    }
}

/// Gathers what is wrong; a default stands in, so that the rest can be checked too.
pub(super) struct Wrong(Vec<Invalid>);

impl Wrong {
    pub(super) fn add(&mut self, variable: &'static str, value: &str, allowed: &str) {
        self.refuse(variable, value, format!("expected {allowed}"));
    }

    pub(super) fn refuse(&mut self, variable: &'static str, value: &str, reason: String) {
        self.0.push(Invalid { variable, value: value.to_owned(), reason });
    }

    pub(super) fn optional<T>(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = set(value)?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.add(variable, text, allowed);
        }
        parsed
    }

    pub(super) fn or<T>(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: T,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.optional(variable, value, allowed, parse).unwrap_or(default)
    }

    /// An address that an interface can have.
    fn host(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: Ipv4Addr,
    ) -> Ipv4Addr {
        let address = self.or(variable, value, default, "an IPv4 address", parsed);
        if let Some(kind) = crate::net::no_host(address) {
            self.add(
                variable,
                &address.to_string(),
                &format!("an address that a host can have, not {kind}"),
            );
        }
        address
    }

    pub(super) fn word<T: Copy>(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.or(variable, value, default, &names.join(" or "), |text| {
            words.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
        })
    }

    fn net<T: FromStr<Err = crate::net::Error>>(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
    ) -> Option<T> {
        let text = set(value)?;
        text.parse().map_err(|error: T::Err| self.refuse(variable, text, error.to_string())).ok()
    }

    fn name(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        default: &str,
    ) -> crate::net::IfName {
        let parsed = self.net(variable, value);
        #[expect(clippy::expect_used, reason = "the defaults are interface names")]
        parsed.unwrap_or_else(|| default.parse().expect("an interface name"))
    }

    /// Splits as a shell would, and runs nothing: command substitution and unknown variables are refused.
    fn words(
        &mut self,
        variable: &'static str,
        value: &Option<String>,
        placeholders: bool,
    ) -> Option<Vec<String>> {
        let text = set(value)?;
        if text.contains('`') || text.contains("$(") {
            self.add(variable, text, "words without ` and $(: no shell runs them");
            return None;
        }
        if placeholders && !braces_are_closed(text) {
            self.add(variable, text, "${NAME}: a name between braces behind each ${");
            return None;
        }
        if placeholders
            && let Some(name) =
                named(text).into_iter().find(|name| !PLACEHOLDERS.contains(&name.as_str()))
        {
            let known = PLACEHOLDERS.map(|name| format!("${name}")).join(" ");
            self.refuse(variable, text, format!("${name} is not known here; use {known}"));
            return None;
        }
        shell_words::split(text)
            .map_err(|_| self.add(variable, text, "words whose quotes are closed"))
            .ok()
    }
}

const SIZES: &str = "bytes, or a number with K, M, G or T, as in 20G";

/// The value without what stands around it, unless it is unset or empty.
pub(super) fn set(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// The seed's: any text is yes.
pub(super) fn any(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

pub(super) fn path(value: &Option<PathBuf>) -> Option<PathBuf> {
    value.as_deref().filter(|path| !path.as_os_str().is_empty()).map(Path::to_path_buf)
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    decimal(text)
}

pub(super) fn within<T: FromStr + PartialOrd>(text: &str, min: T, max: T) -> Option<T> {
    decimal(text).filter(|number| (min..=max).contains(number))
}

/// It becomes a file name, so it must not lead anywhere else, and leaves room for what stands around it in the names of
/// disk and lock (255 octets are NAME_MAX).
fn is_name(name: &str) -> bool {
    (1..=230).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `22/tcp,53/udp`, by comma or blank; sorted, no repeats.
fn ports(variable: &'static str, value: &Option<String>, wrong: &mut Wrong) -> Vec<Port> {
    let mut ports = Vec::new();
    for word in set(value).unwrap_or_default().split(|c: char| c == ',' || c.is_whitespace()) {
        match word.parse::<Port>() {
            Ok(port) => ports.push(port),
            Err(_) if word.is_empty() => {}
            Err(error) => wrong.refuse(variable, word, error.to_string()),
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn checksum(text: &str) -> Option<Checksum> {
    let (name, digits) = text.split_once(':').unwrap_or(("sha256", text));
    let of =
        |length| octets(digits).filter(|digest| digest.len() == length && !digits.contains(':'));
    match name.to_ascii_lowercase().as_str() {
        "sha256" => of(32).map(Checksum::Sha256),
        "sha512" => of(64).map(Checksum::Sha512),
        _ => None,
    }
}

/// `20G`, `20Gi`, `20GiB`, `1048576`: powers of 1024, as `qemu-img` has them.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches(['i', 'b'])
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}
