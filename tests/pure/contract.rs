//! The seed's contract: its example values, its variables and its defaults drive the plan the seed would have made.

use std::path::PathBuf;

use crate::support::sample;
use berth::config::{Ambient, Options};
use berth::facts::{DiskFile, Facts, Resolver, Uplink};
use berth::net::MacAddr;
use berth::plan::Plan;
use berth::plan::disk::{Root, Source};
use serde_json::Value;

/// A pod as Calico makes it, with an empty image volume.
fn facts() -> Facts {
    let mut facts = sample::facts();
    facts.net.uplink = Uplink {
        name: "eth0".parse().unwrap(),
        index: 3,
        mac: MacAddr([0xee, 0xee, 0xee, 0xee, 0xee, 0xee]),
        mtu: 1450,
        address: Some("10.244.3.17/32".parse().unwrap()),
        others: vec![],
        gateway: Some("169.254.1.1".parse().unwrap()),
    };
    facts.net.routing.ip_forward = false;
    facts.net.resolver = Resolver {
        nameservers: vec!["10.96.0.10".parse().unwrap()],
        search: vec!["default.svc.cluster.local".into(), "cluster.local".into()],
        ndots: 5,
        skipped: vec![],
    };
    facts.host.kvm = true;
    facts
}

fn ambient() -> Ambient {
    Ambient::default()
}

/// What the seed's chart makes of one entry of `vmlist`: environment and the two files.
fn start(name: &str, entry: &Value) -> (Options, Facts) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let vmconfig = &entry["vmconfig"];
    let options = Options {
        hostname: Some(name.to_owned()),
        image_source: Some(text(&vmconfig["rootfs"]["sourceurl"])),
        image_target: Some(text(&vmconfig["rootfs"]["localtarget"])),
        vcpu: Some(text(&vmconfig["cpu"]["vcpu"])),
        ram_mb: Some(text(&vmconfig["cpu"]["ram_mb"])),
        ..Options::default()
    };
    let mut facts = facts();
    facts.net.metadata = Some(text(&entry["cloudconfig"]["metadata"]).into_bytes());
    facts.disks.userdata = Some(text(&entry["cloudconfig"]["userdata"]).into_bytes());
    (options, facts)
}

/// The entries of the seed's own three values files.
fn seeds_examples() -> Vec<(String, Value)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/values");
    let entry = |name: &str| {
        let text = std::fs::read_to_string(dir.join(format!("{name}.yaml"))).unwrap();
        let values: Value = serde_saphyr::from_str(&text).unwrap();
        let vmlist = values["vmlist"].as_object().unwrap();
        assert_eq!(vmlist.keys().collect::<Vec<_>>(), [name]);
        (name.to_owned(), vmlist[name].clone())
    };
    ["cirros-test", "demo-ub14-apache", "ub16-smp-test"].map(entry).to_vec()
}

/// The value after the last `flag` of a command line.
fn after<'a>(argv: &'a [String], flag: &str) -> &'a str {
    let at =
        argv.iter().rposition(|word| word == flag).unwrap_or_else(|| panic!("{flag} in {argv:?}"));
    &argv[at + 1]
}

#[test]
fn the_seeds_examples_drive_the_plan_the_seed_would_have_made() {
    for (name, entry) in &seeds_examples() {
        let (options, facts) = start(name, entry);
        let plan = Plan::new(&options.parse(&ambient()).unwrap(), &facts).unwrap();

        let Root::Overlay { path, base, fetch, .. } = &plan.disk.root else {
            panic!("{:?}", plan.disk.root)
        };
        assert_eq!(*path, PathBuf::from(format!("/image/{name}.qcow2")));
        let target = entry["vmconfig"]["rootfs"]["localtarget"].as_str().unwrap();
        assert_eq!(*base, PathBuf::from("/image").join(target));
        let url = entry["vmconfig"]["rootfs"]["sourceurl"].as_str().unwrap();
        assert_eq!(fetch.as_ref().unwrap().source, Source::parse(url).unwrap());

        let argv = plan.machine.preview();
        assert_eq!(after(&argv, "-smp"), entry["vmconfig"]["cpu"]["vcpu"].to_string());
        assert_eq!(after(&argv, "-m"), entry["vmconfig"]["cpu"]["ram_mb"].to_string());
        assert!(after(&argv, "-machine").starts_with("q35"), "{argv:?}");
        assert!(after(&argv, "-vnc").starts_with("10.244.3.17:0"), "{argv:?}");

        assert_eq!(plan.net.guest.address.to_string(), "192.168.254.2/30");
        assert_eq!(plan.net.guest.gateway.to_string(), "192.168.254.1");
        // The drive's word, where it has one.
        let seeds: Value =
            serde_json::from_str(entry["cloudconfig"]["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(plan.net.guest.hostname, seeds["hostname"].as_str().unwrap_or(name));
        assert_eq!(plan.net.guest.search, ["default.svc.cluster.local", "cluster.local"]);

        let seed = plan.disk.seed.as_ref().unwrap();
        assert_eq!(seed.volume.label, "config-2");
        for version in ["2012-08-10", "latest"] {
            let wanted = format!("openstack/{version}/user_data");
            let file = seed.volume.files.iter().find(|file| file.path == wanted).unwrap();
            assert_eq!(
                file.content,
                entry["cloudconfig"]["userdata"].as_str().unwrap().as_bytes(),
                "{name}"
            );
            let wanted = format!("openstack/{version}/meta_data.json");
            let file = seed.volume.files.iter().find(|file| file.path == wanted).unwrap();
            let ours: Value = serde_json::from_slice(&file.content).unwrap();
            for (key, value) in seeds.as_object().unwrap() {
                assert_eq!(&ours[key], value, "{name}: {key}");
            }
        }
    }
}

#[test]
fn a_root_device_needs_neither_image_nor_image_directory() {
    let mut facts = facts();
    facts.disks.image_dir_exists = false;
    facts.disks.root_device =
        Some(DiskFile { path: "/dev/vm/root".into(), size_bytes: 1 << 30, read_only: None });
    let options = Options {
        hostname: Some("pet".into()),
        disk_size: Some("20G".into()),
        ..Options::default()
    };
    let plan = Plan::new(&options.parse(&ambient()).unwrap(), &facts).unwrap();
    assert_eq!(plan.disk.root, Root::Device { path: "/dev/vm/root".into() });
    assert_eq!(
        plan.disk.notes,
        ["BERTH_DISK_SIZE is for images: /dev/vm/root keeps the size it has"]
    );
    facts.disks.root_device.as_mut().unwrap().size_bytes = 0;
    let empty = Plan::new(&options.parse(&ambient()).unwrap(), &facts).unwrap_err().to_string();
    assert!(empty.starts_with("/dev/vm/root is empty"), "{empty}");
}

/// Both would be `/image/debian.qcow2`.
#[test]
fn a_vm_that_has_its_images_name_gets_a_disk_beside_it_unless_somebody_said_so() {
    let planned = |target: Option<&str>| {
        let options = Options {
            hostname: Some("debian".into()),
            image_source: Some("http://images.example/debian.qcow2".into()),
            image_target: target.map(str::to_owned),
            ..Options::default()
        };
        Plan::new(&options.parse(&ambient()).unwrap(), &facts())
    };
    let Root::Overlay { path, base, .. } = planned(None).unwrap().disk.root else {
        panic!("no overlay")
    };
    assert_eq!((path, base), ("/image/debian.qcow2".into(), "/image/base-debian.qcow2".into()));
    let error = planned(Some("debian.qcow2")).unwrap_err().to_string();
    assert!(error.contains("change IMG_TARGET or BERTH_NAME"), "{error}");
}

#[test]
fn trailing_arguments_are_the_last_words_of_qemus_line() {
    let options = Options {
        hostname: Some("pet".into()),
        image_target: Some("base.qcow2".into()),
        image_source: Some("http://images.example/base.qcow2".into()),
        qemu_args: vec!["-cpu".into(), "a b".into()],
        ..Options::default()
    };
    let plan = Plan::new(&options.parse(&ambient()).unwrap(), &facts()).unwrap();
    let argv = plan.machine.preview();
    assert_eq!(argv[argv.len() - 2..], ["-cpu".to_owned(), "a b".to_owned()]);
}

/// A name of a file cleared the terminal of whoever looked at the plan, or made lines of its own.
#[test]
fn what_is_in_a_value_leaves_the_lines_of_the_plan_as_they_are() {
    let mut facts = facts();
    let strange = DiskFile {
        path: "/volumes/a\u{1b}[2J\nb.img".into(),
        size_bytes: 1 << 20,
        read_only: None,
    };
    facts.disks.extra = vec![strange];
    let options = Options {
        hostname: Some("pet".into()),
        image_target: Some("base\u{1b}[2J.qcow2".into()),
        image_source: Some("http://images.example/base.qcow2".into()),
        qemu_args: vec!["-name".into(), "a\u{9b}b\nc".into()],
        ..Options::default()
    };
    let text = Plan::new(&options.parse(&ambient()).unwrap(), &facts).unwrap().to_string();
    assert!(!text.contains(|c: char| c.is_control() && !['\n', '\t'].contains(&c)), "{text:?}");
    assert!(text.contains("disk       /volumes/a\\u001b[2J\\nb.img (raw), serial"), "{text}");
    assert!(text.contains("base\\u001b[2J.qcow2") && text.contains("a\\u009bb\\nc"), "{text}");
    assert!(text.contains("\ntable inet berth {\n\t"), "{text}");
}
