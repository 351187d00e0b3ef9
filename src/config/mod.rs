//! What the user asked: flags and environment variables, parsed once into values that hold.
//!
//! The only room that knows variable names. Every flag has an environment twin; the seed's names keep their
//! meaning and defaults (an empty variable counts as unset, as in its `:=`), new ones begin with `BERTH_`.
//! Wrong values are gathered, so that one start tells all of them.

mod check;
mod invalid;
mod lifecycle;
mod options;
mod parse;
mod placeholders;
mod proxy;
pub mod reader;
mod ready;
pub mod serve;
mod source;
mod variables;
mod web;

pub(crate) use crate::net::number;
pub use check::{check, check_all};
pub use invalid::{Errors, Invalid};
pub use options::{Log, LogFormat, Options, SelfTest, WebOptions};
pub use parse::{Ambient, size};
pub(crate) use placeholders::PLACEHOLDERS;
pub use proxy::{Proxies, Proxy, Unusable};
pub use ready::Ready;
pub use source::{Source, Url, WrongSource};
pub use variables::{Unknown, of_qemu, unknown, unknown_here, variables};
pub use web::{Reach, Tls, Web};

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::net::{IfName, Ipv4Prefix, MacAddr, Port};

/// Where a launcher keeps what lasts as long as its container.
pub const STATE_DIR: &str = "/run/berth";

/// Variables that may hold a password: help shows no value of them.
#[cfg(test)]
pub(crate) const SECRET_VARIABLES: &[&str] = &[
    "IMG_SOURCE",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// Everything a user can say about one VM. Each field is valid by itself; what depends on the pod is checked
/// when the plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Identity of the VM: keys its disk and its MAC addresses. `BERTH_NAME`, else `HOSTNAME`.
    pub name: String,
    /// Host name told to the guest. `HOSTNAME`.
    pub hostname: String,
    pub image: Image,
    pub guest: Guest,
    pub network: Network,
    pub machine: Machine,
    pub lifecycle: Lifecycle,
    pub web: Web,
    pub paths: Paths,
}

/// Where the root disk comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// `IMG_SOURCE`: http, https or file URL, or a plain path.
    pub source: Option<Source>,
    /// `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, as curl reads them.
    pub proxies: Proxies,
    /// `IMG_TARGET`: a path that exists, else a name under the image directory.
    pub target: Option<String>,
    /// `IMG_SHA256` (bare hex) or `sha256:HEX` / `sha512:HEX`: of the bytes as they come over the wire.
    pub checksum: Option<Checksum>,
    /// `IMG_MAX_SIZE`: no more octets are fetched, nor written for the image.
    pub max_bytes: Option<u64>,
    /// `BERTH_DISK_SIZE`: the overlay is grown to this many bytes at start; never shrunk.
    pub disk_size_bytes: Option<u64>,
}

/// Digest an image must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    Sha256(Vec<u8>),
    Sha512(Vec<u8>),
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Sha256(bytes) => ("sha256", bytes),
            Self::Sha512(bytes) => ("sha512", bytes),
        };
        write!(f, "{name}:")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How the config drive looks to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeedFormat {
    /// ISO label `config-2`, OpenStack layout.
    ConfigDrive,
    /// ISO label `cidata`.
    NoCloud,
}

/// What the config drive is attached as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeedAs {
    /// Read-only virtio-blk: every guest that boots from virtio-blk sees it.
    Disk,
    /// AHCI CD-ROM, as the seed had it.
    Cdrom,
}

/// What the guest is given besides its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guest {
    pub seed_format: SeedFormat,
    pub seed_as: SeedAs,
}

/// Links, addresses and what the guest is told by DHCP and DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// `VM_IP` with `BERTH_VM_PREFIX` (30).
    pub vm: Ipv4Prefix,
    /// `VM_GW`: the bridge's own address, in the same prefix as `vm`.
    pub gateway: Ipv4Addr,
    /// `BERTH_UPLINK`: the pod's interface; the one with the default route when unset.
    pub uplink: Option<IfName>,
    pub bridge: IfName,
    pub tap: IfName,
    /// `BERTH_MTU`: overrides the pod link's MTU (it can only be made smaller). 576 to 65535.
    pub mtu: Option<u32>,
    /// `BERTH_MAC`: the guest's MAC; derived from `name` when unset.
    pub mac: Option<MacAddr>,
    /// `BERTH_RESERVED_PORTS`: kept for the pod, beside VNC.
    pub reserved: Vec<Port>,
    /// `BERTH_GATEWAY_PORTS`: the pod's, open to the guest at the gateway's address, beside DHCP and DNS.
    pub gateway_ports: Vec<Port>,
    /// `BERTH_METADATA_ADDRESS`: whether the guest reaches the node's metadata service.
    pub metadata_address: MetadataAddress,
    /// False when `NO_DHCP` is set: neither DHCP nor DNS is served.
    pub serve: bool,
    /// `BERTH_DNS`: whether the guest is told our responder or the pod's own name servers.
    pub dns: Dns,
    /// `BERTH_IPV4`: by which way the guest has the pod's IPv4.
    pub ipv4: Ipv4,
    /// `BERTH_IPV6`: by which way the guest has the pod's IPv6.
    pub ipv6: Ipv6,
    /// `KUBERNETES_SERVICE_HOST`, which is given to every pod: where the API server is.
    pub service_host: Option<IpAddr>,
    /// `BERTH_EXTRA_RULES`: nft's JSON, whose tables are loaded beside ours.
    pub extra_rules: Option<PathBuf>,
    /// `BERTH_NFT_OWNER`: our table belongs to our socket, and stays when that is closed.
    pub nft_owner: bool,
}

/// Whether the guest reaches the node's metadata service (169.254.169.254, fd00:ec2::254).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataAddress {
    Allow,
    Drop,
}

/// How the guest has the pod's IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv4 {
    /// An address of its own, onto which the pod's is translated.
    Nat,
    /// The guest has the pod's own address.
    Own,
}

/// How the guest has the pod's IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    /// As `own` where pod and kernel let it, else not: why is told.
    Auto,
    /// Not at all.
    Off,
    /// The guest has the pod's own address. A pod that does not let it is an error.
    Own,
    /// An address of its own, onto which the pod's is translated. So is a pod that is no router, and cannot be made one.
    Nat,
}

/// Which name servers the guest is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dns {
    Gateway,
    Pod,
}

/// QEMU's accelerator, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM when it works, else TCG with one warning.
    Auto,
    Kvm,
    Tcg,
}

/// The virtual machine and its QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// `IMG_VCPU`. At least 1.
    pub vcpu: u32,
    /// `IMG_RAM_MB`. MiB.
    pub ram_mib: u64,
    /// `BERTH_QEMU`: program name (looked up in `PATH`) or path.
    pub qemu: PathBuf,
    /// `PATH`, for the look-up.
    pub search_path: Vec<PathBuf>,
    pub accel: Accel,
    /// `BERTH_CPU`: QEMU's `-cpu`; `host` under KVM and `max` under TCG when unset.
    pub cpu: Option<String>,
    /// `LAUNCHER`: words put before QEMU's path.
    pub launcher: Vec<String>,
    /// `KVM_BLK_OPTS`, `KVM_RAW_BLK_OPTS`, `KVM_NET_OPTS`: QEMU options that replace ours, as words whose
    /// placeholders are still to be filled in.
    pub blk_opts: Option<Vec<String>>,
    pub raw_blk_opts: Option<Vec<String>>,
    pub net_opts: Option<Vec<String>>,
    /// Values of the `$IMG_*` placeholders those options may name, by variable name.
    pub placeholders: BTreeMap<String, String>,
    /// `NO_VNC` is unset: 5900/tcp stays with the pod. (QEMU's VNC server runs either way, as in the seed.)
    pub reserve_vnc: bool,
    /// `BERTH_VNC` is not `off`.
    pub vnc: bool,
    /// `BERTH_VNC_PASSWORD_FILE`: first line is the VNC password (at most 8 characters count).
    pub vnc_password_file: Option<PathBuf>,
    /// `BERTH_QEMU_UID`: uid and gid QEMU runs as; 0 keeps root.
    pub uid: u32,
    /// `BERTH_CONFINE` is not `off`.
    pub confine: bool,
    /// Words after `--`, last on QEMU's line, exactly as given.
    pub extra_args: Vec<String>,
}

/// What follows the guest's own power-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPoweroff {
    Exit,
    Restart,
}

/// What follows the guest's own reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReboot {
    Reset,
    Exit,
}

/// What follows a panic of the guest's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPanic {
    /// With a code of its own.
    Exit,
    /// Some times in a row; then as `Exit`.
    Reset,
    /// For a debugger.
    Pause,
}

/// What SIGTERM does to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// Its power button is pressed.
    Poweroff,
    /// Its memory is saved beside its disk; where that cannot be, as `Poweroff`.
    Suspend,
}

/// What a start does with a guest that was suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// It goes on; where it cannot, it is booted.
    Auto,
    /// It goes on; where it cannot, that is the end.
    Require,
    /// It is booted.
    Off,
}

/// What `berth vm` does when `berth net` stays away from its network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNetLost {
    /// Not ready until it is back: in a pod it comes back into the same namespace.
    Wait,
    /// Shut the guest down and end, so that whoever starts containers puts this one into the new namespace.
    Exit,
}

/// Times and reactions around the guest's start and end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lifecycle {
    pub on_poweroff: OnPoweroff,
    pub on_reboot: OnReboot,
    /// `BERTH_ON_PANIC`
    pub on_panic: OnPanic,
    /// `BERTH_ON_STOP`
    pub on_stop: OnStop,
    /// `BERTH_RESUME`
    pub resume: Resume,
    /// `BERTH_ON_NET_LOST`
    pub on_net_lost: OnNetLost,
    /// `BERTH_READY`
    pub ready: Ready,
    /// `BERTH_GRACE_S`: seconds between SIGTERM and the moment QEMU must be gone.
    pub grace: Duration,
    /// `BERTH_GRACE_MARGIN_S`: QEMU is quit this long before `grace` ends.
    pub margin: Duration,
}

/// Where things are in the container. Defaults are the seed's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paths {
    /// `/image`
    pub image_dir: PathBuf,
    /// `/run/berth`: config drive, lock of a root device, and the socket that
    /// `berth status` asks; made 0700.
    pub state_dir: PathBuf,
    /// `/metadata`, `/userdata`; vendor data and network data have no default.
    pub metadata: PathBuf,
    pub userdata: PathBuf,
    pub vendordata: Option<PathBuf>,
    pub networkdata: Option<PathBuf>,
    /// `/dev/vm`: `root` and `disk*` in it.
    pub device_dir: PathBuf,
    /// `/volumes`: `*.img` anywhere below it.
    pub volumes_dir: PathBuf,
    /// `/etc/resolv.conf`
    pub resolv_conf: PathBuf,
    /// `BERTH_CA_FILE`: PEM certificates trusted for https image sources; the system's and Mozilla's otherwise.
    pub ca_file: Option<PathBuf>,
}

impl Paths {
    /// Directories in which others than the operator may have put things.
    pub fn untrusted(&self) -> Vec<PathBuf> {
        vec![self.image_dir.clone(), self.volumes_dir.clone(), self.state_dir.clone()]
    }
}

#[cfg(test)]
mod tests;
