//! The words themselves: each flag, its environment twin and its help, as one clap definition.
//!
//! Every value is kept as text here, so that `parse` can tell all that is wrong at once.

mod web;

pub use web::WebOptions;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::STATE_DIR;
use super::invalid::Invalid;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct Log {
    /// How log lines look on stderr [default: text]
    #[arg(
        long = "log-format",
        env = "BERTH_LOG_FORMAT",
        value_enum,
        value_name = "FORMAT",
        help_heading = "Logs"
    )]
    pub format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace, by module if wanted [default: info]
    #[arg(long = "log", env = "BERTH_LOG", value_name = "FILTER", help_heading = "Logs")]
    pub filter: Option<String>,
}

impl Log {
    /// The log filter: a level for berth, or directives as in `tracing_subscriber::filter::Targets`.
    pub fn targets(&self) -> Result<Targets, Invalid> {
        let words = self.filter.as_deref().filter(|words| !words.is_empty()).unwrap_or("info");
        // A lone word that is no level would be a module, and all others silent: errors, too.
        let is_told = |word: &str| word.contains('=') || word.trim().parse::<LevelFilter>().is_ok();
        let targets = if words.split(',').all(is_told) { words.parse().ok() } else { None };
        targets.ok_or_else(|| Invalid {
            variable: "BERTH_LOG",
            value: words.to_owned(),
            reason: "expected error, warn, info, debug or trace, or MODULE=LEVEL by comma, as in berth=debug,info"
                .to_owned(),
        })
    }
}

/// Flags of `berth selftest` beside those of `run`.
#[derive(Debug, Clone, Default, Args)]
pub struct SelfTest {
    /// No name server is to be had here: do not ask the pod's
    #[arg(long, env = "BERTH_SELFTEST_NO_DNS")]
    pub no_dns: bool,
}

/// Flags of `berth run` and `berth plan`.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Identity of the VM: keys its disk and its MAC addresses [default: the host name]
    #[arg(long, env = "BERTH_NAME", value_name = "NAME", help_heading = "Guest")]
    pub name: Option<String>,
    /// Host name told to the guest
    #[arg(long, env = "HOSTNAME", value_name = "NAME", help_heading = "Guest")]
    pub hostname: Option<String>,
    /// Virtual CPUs, 1 to 255 [default: 1]
    #[arg(long, env = "IMG_VCPU", value_name = "N", help_heading = "Guest")]
    pub vcpu: Option<String>,
    /// Memory in MiB, 16 to 16777216 [default: 512]
    #[arg(long = "ram-mb", env = "IMG_RAM_MB", value_name = "MIB", help_heading = "Guest")]
    pub ram_mb: Option<String>,

    /// Image to fetch when the target is missing: http, https or file URL, or a path
    #[arg(
        long,
        env = "IMG_SOURCE",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Disks"
    )]
    pub image_source: Option<String>,
    /// Base image: a path that exists, else a name in the image directory
    #[arg(long, env = "IMG_TARGET", value_name = "NAME", help_heading = "Disks")]
    pub image_target: Option<String>,
    /// Digest of the image as it comes over the wire: HEX, sha256:HEX or sha512:HEX
    #[arg(long, env = "IMG_SHA256", value_name = "DIGEST", help_heading = "Disks")]
    pub image_checksum: Option<String>,
    /// Largest image that is fetched, packed and unpacked, as in 20G [default: what the volume holds]
    #[arg(long, env = "IMG_MAX_SIZE", value_name = "SIZE", help_heading = "Disks")]
    pub image_max_size: Option<String>,
    /// Grow the VM's disk to at least this size at start: bytes, or with K, M, G, T (powers of 1024)
    #[arg(long, env = "BERTH_DISK_SIZE", value_name = "SIZE", help_heading = "Disks")]
    pub disk_size: Option<String>,
    /// Layout of the config drive: configdrive or nocloud [default: configdrive]
    #[arg(long, env = "BERTH_SEED_FORMAT", value_name = "FORMAT", help_heading = "Disks")]
    pub seed_format: Option<String>,
    /// What the config drive is attached as: disk (read-only virtio-blk) or cdrom (AHCI) [default: disk]
    #[arg(long, env = "BERTH_SEED_AS", value_name = "KIND", help_heading = "Disks")]
    pub seed_as: Option<String>,

    /// Address the guest gets by DHCP [default: 192.168.254.2]
    #[arg(long, env = "VM_IP", value_name = "ADDRESS", help_heading = "Network")]
    pub vm_ip: Option<String>,
    /// Address of the bridge, the guest's router and name server [default: 192.168.254.1]
    #[arg(long, env = "VM_GW", value_name = "ADDRESS", help_heading = "Network")]
    pub vm_gw: Option<String>,
    /// Prefix length of the network both are in, 1 to 30 [default: 30]
    #[arg(long, env = "BERTH_VM_PREFIX", value_name = "LENGTH", help_heading = "Network")]
    pub vm_prefix: Option<String>,
    /// The pod's interface [default: the one with the default route]
    #[arg(long, env = "BERTH_UPLINK", value_name = "NAME", help_heading = "Network")]
    pub uplink: Option<String>,
    /// Name of the bridge [default: br0]
    #[arg(long, env = "BERTH_BRIDGE", value_name = "NAME", help_heading = "Network")]
    pub bridge: Option<String>,
    /// Name of the tap [default: tap0]
    #[arg(long, env = "BERTH_TAP", value_name = "NAME", help_heading = "Network")]
    pub tap: Option<String>,
    /// MTU of bridge, tap and guest in octets, at most the pod link's, 576 to 65535 [default: the pod link's]
    #[arg(long, env = "BERTH_MTU", value_name = "OCTETS", help_heading = "Network")]
    pub mtu: Option<String>,
    /// The guest's MAC address [default: derived from the name, the same at every start]
    #[arg(long, env = "BERTH_MAC", value_name = "MAC", help_heading = "Network")]
    pub mac: Option<String>,
    /// Ports that stay with the pod, beside VNC's: NUMBER/tcp, NUMBER/udp or NUMBER/sctp, by comma
    #[arg(long, env = "BERTH_RESERVED_PORTS", value_name = "PORTS", help_heading = "Network")]
    pub reserved_ports: Option<String>,
    /// Ports of the pod that the guest may ask at the gateway's address, beside DHCP and DNS: as --reserved-ports
    #[arg(long, env = "BERTH_GATEWAY_PORTS", value_name = "PORTS", help_heading = "Network")]
    pub gateway_ports: Option<String>,
    /// The node's metadata service, 169.254.169.254: allow (as for any pod) or drop [default: allow]
    #[arg(long, env = "BERTH_METADATA_ADDRESS", value_name = "VERDICT", help_heading = "Network")]
    pub metadata_address: Option<String>,
    /// Serve neither DHCP nor DNS (any value)
    #[arg(long, env = "NO_DHCP", value_name = "ANY", num_args = 0..=1, default_missing_value = "1",
          require_equals = true, help_heading = "Network")]
    pub no_dhcp: Option<String>,
    /// Name servers the guest is told: gateway (our responder) or pod (the pod's own) [default: gateway]
    #[arg(long, env = "BERTH_DNS", value_name = "WHOSE", help_heading = "Network")]
    pub dns: Option<String>,
    /// The pod's IPv4: nat (translated onto the guest's own), or own (the guest has the pod's address) [default: nat]
    #[arg(long, env = "BERTH_IPV4", value_name = "WAY", help_heading = "Network")]
    pub ipv4: Option<String>,
    /// The pod's IPv6: own (the guest has the pod's address), nat (translated onto the guest's own, where the pod
    /// forwards), off, or auto (own where pod and kernel let it, else nat) [default: auto]
    #[arg(long, env = "BERTH_IPV6", value_name = "WAY", help_heading = "Network")]
    pub ipv6: Option<String>,
    /// Rules of your own, in nft's JSON (`nft -j list ruleset`), loaded in one transaction with ours; their tables
    /// are replaced as a whole
    #[arg(long, env = "BERTH_EXTRA_RULES", value_name = "FILE", help_heading = "Network")]
    pub extra_rules: Option<PathBuf>,
    /// Let nobody else change our nf_tables table: on or off; needs Linux 6.9 [default: off]
    #[arg(long, env = "BERTH_NFT_OWNER", value_name = "SWITCH", num_args = 0..=1, default_missing_value = "on",
          require_equals = true, help_heading = "Network")]
    pub nft_owner: Option<String>,

    /// QEMU: a program in PATH or a path [default: qemu-system-x86_64]
    #[arg(long, env = "BERTH_QEMU", value_name = "PROGRAM", help_heading = "Machine")]
    pub qemu: Option<String>,
    /// Accelerator: auto (KVM where it works, else TCG), kvm or tcg [default: auto]
    #[arg(long, env = "BERTH_ACCEL", value_name = "ACCEL", help_heading = "Machine")]
    pub accel: Option<String>,
    /// QEMU's -cpu [default: host under KVM, max under TCG]
    #[arg(long, env = "BERTH_CPU", value_name = "MODEL", help_heading = "Machine")]
    pub cpu: Option<String>,
    /// Words put before QEMU's path, as a shell would split them
    #[arg(long, env = "LAUNCHER", value_name = "WORDS", help_heading = "Machine")]
    pub launcher: Option<String>,
    /// QEMU options that replace ours for the root disk image; $KVM_IMAGE and the like are filled in
    #[arg(
        long,
        env = "KVM_BLK_OPTS",
        value_name = "OPTIONS",
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    pub kvm_blk_opts: Option<String>,
    /// The same for a root block device
    #[arg(
        long,
        env = "KVM_RAW_BLK_OPTS",
        value_name = "OPTIONS",
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    pub kvm_raw_blk_opts: Option<String>,
    /// QEMU options that replace ours for the network; $BRIDGE_IFACE and $NEWMAC are filled in
    #[arg(
        long,
        env = "KVM_NET_OPTS",
        value_name = "OPTIONS",
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    pub kvm_net_opts: Option<String>,
    /// Map 5900/tcp onto the guest too (any value); QEMU's VNC server still runs
    #[arg(long, env = "NO_VNC", value_name = "ANY", num_args = 0..=1, default_missing_value = "1",
          require_equals = true, help_heading = "Machine")]
    pub no_vnc: Option<String>,
    /// VNC server on the pod's address, port 5900: on or off [default: on]
    #[arg(long, env = "BERTH_VNC", value_name = "SWITCH", help_heading = "Machine")]
    pub vnc: Option<String>,
    /// File whose first line is the VNC password (VNC looks at 8 characters)
    #[arg(long, env = "BERTH_VNC_PASSWORD_FILE", value_name = "FILE", help_heading = "Machine")]
    pub vnc_password_file: Option<PathBuf>,
    /// uid and gid QEMU runs as where this process may choose; 0 keeps ours [default: 65534]
    #[arg(long, env = "BERTH_QEMU_UID", value_name = "UID", help_heading = "Machine")]
    pub qemu_uid: Option<String>,
    /// QEMU is confined to what it is handed, by Landlock and seccomp: on or off [default: on]
    #[arg(long, env = "BERTH_CONFINE", value_name = "SWITCH", help_heading = "Machine")]
    pub confine: Option<String>,

    /// When the guest powers off: exit or restart [default: exit]
    #[arg(long, env = "BERTH_ON_POWEROFF", value_name = "POLICY", help_heading = "Lifecycle")]
    pub on_poweroff: Option<String>,
    /// When the guest reboots: reset or exit [default: reset]
    #[arg(long, env = "BERTH_ON_REBOOT", value_name = "POLICY", help_heading = "Lifecycle")]
    pub on_reboot: Option<String>,
    /// When the guest's kernel panics: exit (with code 22), reset (at most 5 times in a row) or pause [default: exit]
    #[arg(long, env = "BERTH_ON_PANIC", value_name = "POLICY", help_heading = "Lifecycle")]
    pub on_panic: Option<String>,
    /// On SIGTERM: poweroff, or suspend (its memory is saved beside its disk, and the next start goes on) [default: poweroff]
    #[arg(long, env = "BERTH_ON_STOP", value_name = "POLICY", help_heading = "Lifecycle")]
    pub on_stop: Option<String>,
    /// A guest that was suspended: auto (goes on, or boots where it cannot), require (goes on, or exit code 23) or off (boots)
    /// [default: auto]
    #[arg(long, env = "BERTH_RESUME", value_name = "POLICY", help_heading = "Lifecycle")]
    pub resume: Option<String>,
    /// `berth vm`: when `berth net` is gone from its network namespace for 30 s: wait or exit [default: wait]
    #[arg(long, env = "BERTH_ON_NET_LOST", value_name = "POLICY", help_heading = "Lifecycle")]
    pub on_net_lost: Option<String>,
    /// What makes it ready beside a guest that runs: running (nothing more), dhcp (the guest has its address), agent (its
    /// guest agent answers), tcp:PORT (the guest takes a connection there) or serial:REGEX (it wrote that on its serial line)
    /// [default: dhcp, with NO_DHCP running]
    #[arg(long, env = "BERTH_READY", value_name = "SIGN", help_heading = "Lifecycle")]
    pub ready: Option<String>,
    /// Seconds from SIGTERM to the moment QEMU must be gone, 1 to 86400 [default: 25]
    #[arg(long, env = "BERTH_GRACE_S", value_name = "SECONDS", help_heading = "Lifecycle")]
    pub grace: Option<String>,
    /// QEMU is quit this many seconds before the grace period ends [default: 2]
    #[arg(long, env = "BERTH_GRACE_MARGIN_S", value_name = "SECONDS", help_heading = "Lifecycle")]
    pub grace_margin: Option<String>,

    #[command(flatten)]
    pub web: WebOptions,

    /// Images and the VMs' disks [default: /image]
    #[arg(long, env = "BERTH_IMAGE_DIR", value_name = "DIR", help_heading = "Paths")]
    pub image_dir: Option<PathBuf>,
    /// Config drive, locks [default: /run/berth]
    #[arg(long, env = "BERTH_STATE_DIR", value_name = "DIR", help_heading = "Paths")]
    pub state_dir: Option<PathBuf>,
    /// cloud-init meta-data [default: /metadata]
    #[arg(long, env = "BERTH_METADATA", value_name = "FILE", help_heading = "Paths")]
    pub metadata: Option<PathBuf>,
    /// cloud-init user-data [default: /userdata]
    #[arg(long, env = "BERTH_USERDATA", value_name = "FILE", help_heading = "Paths")]
    pub userdata: Option<PathBuf>,
    /// cloud-init vendor-data
    #[arg(long, env = "BERTH_VENDORDATA", value_name = "FILE", help_heading = "Paths")]
    pub vendordata: Option<PathBuf>,
    /// cloud-init network data
    #[arg(long, env = "BERTH_NETWORKDATA", value_name = "FILE", help_heading = "Paths")]
    pub networkdata: Option<PathBuf>,
    /// Holds the block devices root and disk* [default: /dev/vm]
    #[arg(long, env = "BERTH_DEVICE_DIR", value_name = "DIR", help_heading = "Paths")]
    pub device_dir: Option<PathBuf>,
    /// Every *.img below it becomes an extra disk [default: /volumes]
    #[arg(long, env = "BERTH_VOLUMES_DIR", value_name = "DIR", help_heading = "Paths")]
    pub volumes_dir: Option<PathBuf>,
    /// The pod's resolver configuration [default: /etc/resolv.conf]
    #[arg(long, env = "BERTH_RESOLV_CONF", value_name = "FILE", help_heading = "Paths")]
    pub resolv_conf: Option<PathBuf>,
    /// PEM certificates trusted for https image sources [default: the system's, else Mozilla's]
    #[arg(long, env = "BERTH_CA_FILE", value_name = "FILE", help_heading = "Paths")]
    pub ca_file: Option<PathBuf>,

    /// QEMU's own arguments, last on its line, exactly as given
    #[arg(last = true, value_name = "QEMU ARGS")]
    pub qemu_args: Vec<String>,
}

impl Options {
    /// Where the launcher keeps its state, whatever else is wrong with the words.
    pub fn state_dir(&self) -> PathBuf {
        let said = self.state_dir.clone().filter(|dir| !dir.as_os_str().is_empty());
        said.unwrap_or_else(|| STATE_DIR.into())
    }
}
