//! A pod and what its user asked for, as plain values.
#![allow(dead_code, reason = "each test program uses its own part of the support code")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use berth::config::{
    Accel, Config, Dns, Guest, Image, Lifecycle, Machine, MetadataAddress, Network, OnNetLost,
    OnPanic, OnPoweroff, OnReboot, OnStop, Paths, Ready, Resume, SeedAs, SeedFormat,
};
use berth::facts::{Disks, Facts, Host, NetFacts, Resolver, Routing, Uplink};
use berth::net::MacAddr;

/// Pod 10.1.1.2/24 on eth0, guest 192.168.254.2 behind br0, VNC reserved.
pub fn config() -> Config {
    Config {
        name: "web".to_owned(),
        hostname: "web".to_owned(),
        image: Image {
            source: None,
            proxies: berth::config::Proxies::NONE,
            target: None,
            checksum: None,
            max_bytes: None,
            disk_size_bytes: None,
        },
        guest: Guest { seed_format: SeedFormat::ConfigDrive, seed_as: SeedAs::Disk },
        network: Network {
            vm: "192.168.254.2/30".parse().unwrap(),
            gateway: "192.168.254.1".parse().unwrap(),
            uplink: None,
            bridge: "br0".parse().unwrap(),
            tap: "tap0".parse().unwrap(),
            mtu: None,
            mac: None,
            reserved: Vec::new(),
            gateway_ports: Vec::new(),
            metadata_address: MetadataAddress::Allow,
            serve: true,
            dns: Dns::Gateway,
            ipv4: berth::config::Ipv4::Nat,
            ipv6: berth::config::Ipv6::Auto,
            service_host: None,
            extra_rules: None,
            nft_owner: false,
        },
        machine: Machine {
            vcpu: 1,
            ram_mib: 256,
            qemu: "qemu-system-x86_64".into(),
            search_path: Vec::new(),
            accel: Accel::Auto,
            cpu: None,
            launcher: Vec::new(),
            blk_opts: None,
            raw_blk_opts: None,
            net_opts: None,
            placeholders: std::collections::BTreeMap::new(),
            reserve_vnc: true,
            vnc: true,
            vnc_password_file: None,
            uid: 0,
            confine: true,
            extra_args: Vec::new(),
        },
        web: berth::config::Web::default(),
        lifecycle: Lifecycle {
            on_poweroff: OnPoweroff::Exit,
            on_reboot: OnReboot::Reset,
            on_panic: OnPanic::Exit,
            on_stop: OnStop::Poweroff,
            resume: Resume::Auto,
            on_net_lost: OnNetLost::Wait,
            ready: Ready::Dhcp,
            grace: Duration::from_secs(30),
            margin: Duration::from_secs(3),
        },
        paths: Paths {
            image_dir: "/image".into(),
            state_dir: "/run/berth".into(),
            metadata: "/metadata".into(),
            userdata: "/userdata".into(),
            vendordata: None,
            networkdata: None,
            device_dir: "/dev/vm".into(),
            volumes_dir: "/volumes".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            ca_file: None,
        },
    }
}

pub fn facts() -> Facts {
    Facts {
        net: NetFacts {
            uplink: Uplink {
                name: "eth0".parse().unwrap(),
                index: 2,
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                address: Some("10.1.1.2/24".parse().unwrap()),
                others: Vec::new(),
                gateway: Some("10.1.1.1".parse().unwrap()),
            },
            routing: Routing { ip_forward: true, ..Routing::default() },
            ipv6: Default::default(),
            resolver: Resolver {
                nameservers: Vec::new(),
                search: Vec::new(),
                ndots: 1,
                skipped: Vec::new(),
            },
            extra_rules: None,
            metadata: None,
            can_setuid: true,
        },
        disks: Disks {
            root_device: None,
            block_devices: Default::default(),
            image_dir_exists: true,
            target: None,
            overlays: Vec::new(),
            extra: Vec::new(),
            skipped: Vec::new(),
            userdata: None,
            vendordata: None,
            networkdata: None,
        },
        host: Host {
            qemu: "/usr/bin/qemu-system-x86_64".into(),
            cpus: 8,
            kvm: false,
            vhost_net: false,
            uid: 0,
            kvm_gid: None,
            can_kill: true,
            memory_limit_bytes: None,
        },
    }
}
