//! What a person or a pod gives: words for variables, names, meta-data, and the config drive that comes of it.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use berth::config::serve::{
    BootFile, Host as HostWord, MaybeAddress, OptionWords, Relayed, Reserve, Span, Upstream, Whose,
};
use berth::config::{Ambient, Config, Options};
use berth::facts::{Disks, Facts, Host, NetFacts, Resolver, Routing, Uplink};
use berth::iso::{File, Volume};
use berth::net::{DomainName, IfName, Ipv4Prefix, MacAddr, Port};
use berth::plan::{Plan, disk};

fn facts(metadata: Option<&[u8]>) -> Facts {
    Facts {
        net: NetFacts {
            uplink: Uplink {
                name: "eth0".parse().expect("a name"),
                index: 2,
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                address: Some("10.0.0.2/24".parse().expect("a prefix")),
                others: Vec::new(),
                gateway: Some([10, 0, 0, 1].into()),
            },
            routing: Routing::default(),
            ipv6: Default::default(),
            resolver: Resolver::parse(b"nameserver 10.96.0.10\n"),
            extra_rules: None,
            metadata: metadata.map(<[u8]>::to_vec),
            can_setuid: true,
        },
        disks: Disks {
            root_device: None,
            image_dir_exists: true,
            target: Some("/image/disk.qcow2".into()),
            overlays: Vec::new(),
            extra: Vec::new(),
            skipped: Vec::new(),
            block_devices: Default::default(),
            userdata: None,
            vendordata: None,
            networkdata: None,
        },
        host: Host {
            qemu: "/usr/bin/qemu-system-x86_64".into(),
            cpus: 1,
            kvm: false,
            vhost_net: false,
            uid: 0,
            kvm_gid: None,
            can_kill: true,
            memory_limit_bytes: None,
        },
    }
}

fn config(options: &Options) -> Option<Config> {
    options.parse(&Ambient { nodename: "node".into(), ..Ambient::default() }).ok()
}

/// The meta-data that stand on the drive, and whether cloud-init reads them as JSON.
fn on_the_drive(config: &Config, given: &[u8]) -> Option<Vec<u8>> {
    let seed = disk::plan(config, &facts(Some(given))).ok()?.seed.expect("a drive");
    let is_metadata =
        |file: &&File| file.path == "meta-data" || file.path.ends_with("latest/meta_data.json");
    let files = &seed.volume.files;
    let found = files.iter().find(is_metadata).expect("meta-data");
    Some(found.content.clone())
}

/// Meta-data as a pod has them: what stands on the drive is what cloud-init reads, and is taken again as it is.
pub fn metadata(data: &[u8]) {
    for format in ["configdrive", "nocloud"] {
        let options = Options {
            hostname: Some("web".into()),
            image_target: Some("disk.qcow2".into()),
            seed_format: Some(format.into()),
            ..Options::default()
        };
        let config = config(&options).expect("a config");
        let Some(written) = on_the_drive(&config, data) else { continue };
        assert!(written.len() <= 8 * data.len() + 200);
        if format == "configdrive" {
            // Numbers keep their digits, whatever a float of 64 bits can hold.
            let json: BTreeMap<String, serde::de::IgnoredAny> =
                serde_json::from_slice(&written).expect("JSON");
            assert!(json.contains_key("uuid"), "{json:?}");
        }
        assert_eq!(on_the_drive(&config, &written), Some(written), "{format}");
    }
}

/// The variables with words in them, a line each: what was taken makes a command line without anything left open.
pub fn options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // No variable of a process has one.
    if text.contains('\0') {
        return;
    }
    let mut lines = text.split('\n').map(str::to_owned);
    let mut line = || lines.next().filter(|line| !line.is_empty());
    let options = Options {
        kvm_net_opts: line(),
        kvm_blk_opts: line(),
        launcher: line(),
        reserved_ports: line(),
        hostname: line(),
        name: line(),
        image_source: line(),
        image_target: line(),
        image_checksum: line(),
        disk_size: line(),
        vm_ip: line(),
        vm_gw: line(),
        vm_prefix: line(),
        bridge: line(),
        tap: line(),
        mac: line(),
        mtu: line(),
        cpu: line(),
        vcpu: line(),
        ram_mb: line(),
        grace: line(),
        grace_margin: line(),
        ..Options::default()
    };
    let Some(config) = config(&options) else { return };
    assert_eq!(self::config(&options).as_ref(), Some(&config));
    let Ok(plan) = Plan::new(&config, &facts(None)) else { return };
    assert_eq!(Plan::new(&config, &facts(None)).as_ref(), Ok(&plan));
    let words = plan.machine.preview();
    assert!(words.len() <= data.len() + 200 && words.iter().all(|word| !word.contains('\0')));
    let ours = ["KVM_IMAGE", "BRIDGE_IFACE", "NEWMAC", "VM_IP", "VM_GW"];
    // What stands for a placeholder may have one in it; nothing else may.
    if text.split('\n').skip(2).all(|line| !line.contains('$')) {
        assert!(
            words
                .iter()
                .all(|word| ours.iter().all(|name| !word.contains(&format!("${{{name}}}"))))
        );
    }
}

/// Taken, written and read the same.
fn written<T: FromStr + Display + PartialEq + Debug>(word: &str) {
    if let Ok(value) = word.parse::<T>() {
        let again = value.to_string();
        assert_eq!(again.parse().ok(), Some(value), "{again:?}");
    }
}

/// The words of `berth serve`: addresses, reservations, names, values.
pub fn words(data: &[u8]) {
    let Ok(word) = std::str::from_utf8(data) else { return };
    written::<Span>(word);
    written::<DomainName>(word);
    written::<IfName>(word);
    written::<MacAddr>(word);
    written::<Ipv4Prefix>(word);
    written::<Port>(word);
    if let Ok(Reserve { whose: Whose::Id(id), .. }) = word.parse() {
        assert!((1..=255).contains(&id.len()));
    }
    if let Ok(relayed) = word.parse::<Relayed>() {
        // That it lies in the network is the plan's to see.
        assert!(relayed.span.count() >= 1);
    }
    if let Ok(Upstream(server)) = word.parse() {
        assert!(server.port() != 0);
    }
    if let Ok(OptionWords { code, words }) = word.parse() {
        assert!((1..=254).contains(&code) && words.len() < word.len());
    }
    if let Ok(BootFile { clients, file }) = word.parse() {
        assert!(!clients.is_empty() && !file.is_empty());
    }
    if let Ok(HostWord { name, .. }) = word.parse() {
        assert!(!name.as_str().is_empty());
    }
    let _ = word.parse::<MaybeAddress>();
}

const SECTOR: usize = 2048;

/// The files of an image by its Joliet names, as another reader finds them.
fn files_of(image: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let number = |record: &[u8], at: usize| {
        u32::from_le_bytes(record[at..at + 4].try_into().expect("four octets")) as usize
    };
    let mut found = BTreeMap::new();
    let root = &image[17 * SECTOR + 156..][..34];
    let mut waiting = vec![(String::new(), number(root, 2), number(root, 10))];
    while let Some((path, sector, length)) = waiting.pop() {
        let extent = &image[sector * SECTOR..][..length];
        for mut records in extent.chunks(SECTOR) {
            while let Some(&length @ 1..) = records.first() {
                let (record, rest) = records.split_at(length.into());
                records = rest;
                let name = &record[33..33 + usize::from(record[32])];
                if name.len() == 1 {
                    continue;
                }
                let units = name
                    .chunks(2)
                    .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
                    .collect::<Vec<_>>();
                let name = String::from_utf16(&units).expect("a name");
                let (sector, length) = (number(record, 2), number(record, 10));
                if record[25] & 2 == 0 {
                    found.insert(
                        format!("{path}{name}"),
                        image[sector * SECTOR..][..length].to_vec(),
                    );
                } else {
                    waiting.push((format!("{path}{name}/"), sector, length));
                }
            }
        }
    }
    found
}

/// A label, and paths, a line each: what is taken is found again by another reader.
pub fn iso(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let label = lines.next().unwrap_or_default().to_owned();
    let file = |(number, path): (usize, &str)| File {
        path: path.to_owned(),
        content: path.as_bytes().iter().copied().cycle().take(path.len() * number * 9).collect(),
        mode: 0o444,
    };
    let files: Vec<File> = lines.take(64).enumerate().map(file).collect();
    let volume = Volume { label, files };
    let Ok(image) = volume.image() else { return };
    assert_eq!(image.len() % SECTOR, 0);
    let content =
        volume.files.iter().map(|file| file.content.len().div_ceil(SECTOR)).sum::<usize>();
    let names: usize = volume.files.iter().map(|file| 2 + file.path.matches('/').count()).sum();
    assert!(image.len() / SECTOR <= 40 + content + 8 * names);
    let wanted: BTreeMap<_, _> =
        volume.files.iter().map(|file| (file.path.clone(), file.content.clone())).collect();
    assert_eq!(files_of(&image), wanted);
}
