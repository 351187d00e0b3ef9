//! Command lines as text, one option a line.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::config::{
    self, Accel, Lifecycle, OnNetLost, OnPoweroff, OnStop, Ready, Resume, SeedFormat,
};
use crate::facts::{Disks, Host, NetFacts, Resolver, Routing, Uplink};
use crate::iso::Volume;
use crate::plan::disk::Seed;
use crate::plan::link;

/// Everything a plan is made of, as the defaults give it on a pod with KVM.
struct Pod {
    config: Config,
    facts: Facts,
    disk: DiskPlan,
}

impl Pod {
    fn plan(&self) -> Result<MachinePlan, Error> {
        plan(
            &self.config,
            &self.facts,
            &link::plan(&self.config, &self.facts.net, 65534).unwrap(),
            &self.disk,
        )
    }

    /// The first attempt's command line and what is handed over.
    fn text(&self) -> String {
        let plan = self.plan().unwrap();
        let mut text = String::new();
        for word in plan.command(&plan.attempts[0], BaseFormat::Raw) {
            text.push_str(if word.starts_with('-') && !text.is_empty() { "\n" } else { " " });
            text.push_str(&word);
        }
        text.push_str("\n\n");
        for (number, file) in &plan.handed {
            text.push_str(&format!("{number} {file:?}\n"));
        }
        text.push_str(&format!("{:?} {:?}", plan.user, plan.notes));
        text
    }
}

fn words(text: &str) -> Option<Vec<String>> {
    Some(text.split_whitespace().map(str::to_owned).collect())
}

fn pod() -> Pod {
    let config = Config {
        name: "web-1".to_owned(),
        hostname: "web".to_owned(),
        image: config::Image {
            source: None,
            proxies: config::Proxies::NONE,
            target: None,
            checksum: None,
            max_bytes: None,
            disk_size_bytes: None,
        },
        guest: config::Guest { seed_format: SeedFormat::ConfigDrive, seed_as: SeedAs::Disk },
        network: config::Network {
            vm: "192.168.254.2/30".parse().unwrap(),
            gateway: "192.168.254.1".parse().unwrap(),
            uplink: None,
            bridge: "br0".parse().unwrap(),
            tap: "tap0".parse().unwrap(),
            mtu: None,
            mac: None,
            reserved: vec![],
            gateway_ports: vec![],
            metadata_address: config::MetadataAddress::Allow,
            serve: true,
            dns: config::Dns::Gateway,
            ipv4: config::Ipv4::Nat,
            ipv6: config::Ipv6::Auto,
            service_host: None,
            extra_rules: None,
            nft_owner: false,
        },
        machine: config::Machine {
            vcpu: 1,
            ram_mib: 1024,
            qemu: "qemu-system-x86_64".into(),
            search_path: vec![],
            accel: Accel::Auto,
            cpu: None,
            launcher: vec![],
            blk_opts: None,
            raw_blk_opts: None,
            net_opts: None,
            placeholders: BTreeMap::from([("IMG_TARGET".to_owned(), "debian.img".to_owned())]),
            reserve_vnc: true,
            vnc: true,
            vnc_password_file: None,
            uid: 65534,
            confine: true,
            extra_args: vec![],
        },
        web: config::Web::default(),
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
        paths: config::Paths {
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
    };
    let facts = Facts {
        net: NetFacts {
            uplink: Uplink {
                name: "eth0".parse().unwrap(),
                index: 2,
                mac: "02:00:00:00:00:01".parse().unwrap(),
                mtu: 1450,
                address: Some("10.1.2.3/24".parse().unwrap()),
                others: vec![],
                gateway: None,
            },
            routing: Routing::default(),
            ipv6: Default::default(),
            resolver: Resolver { nameservers: vec![], search: vec![], ndots: 1, skipped: vec![] },
            extra_rules: None,
            metadata: None,
            can_setuid: true,
        },
        disks: Disks {
            root_device: None,
            block_devices: Default::default(),
            image_dir_exists: true,
            target: None,
            overlays: vec![],
            extra: vec![],
            skipped: vec![],
            userdata: None,
            vendordata: None,
            networkdata: None,
        },
        host: Host {
            qemu: "/usr/bin/qemu-system-x86_64".into(),
            cpus: 8,
            kvm: true,
            vhost_net: false,
            uid: 0,
            kvm_gid: Some(104),
            can_kill: true,
            memory_limit_bytes: None,
        },
    };
    let volume = Volume { label: "config-2".to_owned(), files: vec![] };
    let disk = DiskPlan {
        untrusted: Vec::new(),
        root: Root::Overlay {
            path: "/image/web-1.qcow2".into(),
            base: "/image/debian.img".into(),
            fetch: None,
            size_bytes: None,
        },
        extra: vec![],
        seed: Some(Seed { volume, path: "/run/berth/seed.iso".into(), attach: SeedAs::Disk }),
        own_options: false,
        notes: vec![],
        findings: vec![],
        lock: "/image/web-1.lock".into(),
        state_dir: "/run/berth".into(),
    };
    Pod { config, facts, disk }
}

#[test]
fn the_default_machine() {
    insta::assert_snapshot!(pod().text());
}

#[test]
fn no_vnc_no_screen_and_no_pointer() {
    let mut pod = pod();
    pod.config.machine.vnc = false;
    let text = pod.text();
    for word in ["vnc", "vga", "usb", "10.1.2.3"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

/// `force-shared` sends a viewer away that wants to be alone, and the default all others.
#[test]
fn the_page_has_a_screen_without_a_listener_and_nobody_is_alone_with_it() {
    let mut pod = pod();
    pod.config.web.reach = Reach::Loopback;
    assert!(pod.text().contains("\n-vnc 10.1.2.3:0,share=ignore\n-vga std\n"), "{}", pod.text());
    pod.config.machine.vnc = false;
    let text = pod.text();
    assert!(text.contains("\n-vnc none,share=ignore\n-vga std\n"), "{text}");
    assert!(text.contains("usb-tablet") && !text.contains("10.1.2.3"), "{text}");
}

#[test]
fn vnc_waits_for_its_password() {
    let mut pod = pod();
    pod.config.machine.vnc_password_file = Some("/secret/vnc".into());
    assert!(pod.text().contains("\n-vnc 10.1.2.3:0,password=on\n"));
}

#[test]
fn a_block_device_extra_disks_four_queues_and_a_cdrom() {
    let mut pod = pod();
    pod.config.machine.vcpu = 8;
    pod.config.machine.vnc = false;
    pod.config.lifecycle.on_reboot = OnReboot::Exit;
    pod.disk.root = Root::Device { path: "/dev/vm/root".into() };
    pod.disk.extra = vec![
        ExtraDisk {
            path: "/volumes/a b.img".into(),
            serial: "a-b-1234abcd".into(),
            writable: true,
        },
        ExtraDisk { path: "/dev/vm/disk1".into(), serial: "disk1".into(), writable: false },
    ];
    pod.facts.disks.block_devices = ["/dev/vm/root".into(), "/dev/vm/disk1".into()].into();
    pod.disk.seed.as_mut().unwrap().attach = SeedAs::Cdrom;
    insta::assert_snapshot!(pod.text());
}

#[test]
fn a_file_in_the_place_of_a_device_and_a_device_in_the_place_of_an_image_have_their_drivers() {
    let mut pod = pod();
    assert!(pod.text().contains(",backing.file.driver=file,"));
    let Root::Overlay { base, .. } = &pod.disk.root else { panic!("{:?}", pod.disk.root) };
    pod.facts.disks.block_devices = [base.clone()].into();
    assert!(pod.text().contains(",backing.file.driver=host_device,"));
    pod.disk.root = Root::Device { path: "/dev/vm/root".into() };
    assert!(pod.text().contains("-drive file=/dev/fdset/1,if=none,id=disk0,format=raw,"));
}

/// The seed's own defaults, given as its users do who changed them a little.
#[test]
fn the_seeds_own_options_as_overrides() {
    let mut pod = pod();
    pod.config.machine.blk_opts = words(
        "-drive file=$KVM_IMAGE,if=none,id=drive-disk0,format=qcow2 \
         -device virtio-blk-pci,scsi=off,drive=drive-disk0,id=virtio-disk0,bootindex=1",
    );
    pod.config.machine.net_opts = words(
        "-netdev bridge,br=${BRIDGE_IFACE},id=net0 -device virtio-net-pci,netdev=net0,mac=$NEWMAC",
    );
    pod.config.machine.launcher = words("numactl -N 1").unwrap();
    pod.config.machine.extra_args = vec!["-smbios".to_owned(), "type=1,serial=a b".to_owned()];
    insta::assert_snapshot!(pod.text());
}

#[test]
fn raw_options_are_for_a_block_device_only() {
    let mut pod = pod();
    pod.config.machine.raw_blk_opts = words("-drive file=$KVM_IMAGE,if=virtio,format=raw");
    assert!(!pod.text().contains("if=virtio"));
    pod.disk.root = Root::Device { path: "/dev/vm/root".into() };
    assert!(pod.text().contains("-drive file=/dev/vm/root,if=virtio,format=raw\n"));
}

#[test]
fn placeholders_are_filled_in_with_and_without_braces_and_nothing_else_is() {
    let mut pod = pod();
    pod.config.machine.net_opts = words(
        "-x $VM_IP/${VM_GW}_$HOSTNAME.$IMG_TARGET$IMG_SOURCE ${IMG_TARGET}x cost$ $5 ${5} $$HOSTNAME",
    );
    let text = pod.text();
    assert!(
        text.contains(
            "-x 192.168.254.2/192.168.254.1_web.debian.img debian.imgx cost$ $5 ${5} $web"
        ),
        "{text}"
    );
}

#[test]
fn an_unknown_placeholder_is_told_with_its_variable() {
    let mut pod = pod();
    // The last one is what quotes leave of `$IMG_TARGET""N`.
    for (given, name) in
        [("$HOST_IP", "HOST_IP"), ("$IMG_NONE", "IMG_NONE"), ("$IMG_TARGETN", "IMG_TARGETN")]
    {
        pod.config.machine.net_opts = words(&format!("-nic user,hostfwd={given}"));
        assert_eq!(
            pod.plan(),
            Err(Error::Placeholder { variable: "KVM_NET_OPTS", placeholder: name.to_owned() })
        );
    }
}

#[test]
fn another_bridge_is_left_to_qemus_helper_which_it_may_then_start() {
    let mut pod = pod();
    pod.config.machine.net_opts = words("-netdev bridge,br=br7,id=net0 -device e1000,netdev=net0");
    let plan = pod.plan().unwrap();
    let text = pod.text();
    assert!(text.contains("-netdev bridge,br=br7,id=net0\n"), "{text}");
    assert!(text.contains("-sandbox on,obsolete=deny,resourcecontrol=deny\n"), "{text}");
    assert!(!plan.handed.iter().any(|(_, file)| matches!(file, Handed::TapQueue(_))));
    assert_eq!(plan.user, None);
    assert_eq!(
        plan.unconfined.as_deref(),
        Some("-netdev of KVM_NET_OPTS may have QEMU open something")
    );
    assert_eq!(plan.notes.len(), 2);
}

#[test]
fn kvm_is_tried_first_and_tcg_never_gets_its_cpu() {
    let attempts = |accel, kvm, cpu: Option<&str>| {
        let mut pod = pod();
        pod.config.machine.accel = accel;
        pod.config.machine.cpu = cpu.map(str::to_owned);
        pod.facts.host.kvm = kvm;
        pod.plan().map(|plan| {
            plan.attempts
                .iter()
                .map(|attempt| format!("{}:{}", attempt.accelerator.as_str(), attempt.cpu))
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(attempts(Accel::Auto, true, None), ok("kvm:host tcg:max"));
    assert_eq!(attempts(Accel::Auto, false, None), ok("tcg:max"));
    assert_eq!(attempts(Accel::Kvm, true, None), ok("kvm:host"));
    assert_eq!(attempts(Accel::Tcg, true, None), ok("tcg:max"));
    assert_eq!(attempts(Accel::Auto, true, Some("host,+x2apic")), ok("kvm:host,+x2apic tcg:max"));
    assert_eq!(attempts(Accel::Auto, true, Some("Haswell")), ok("kvm:Haswell tcg:Haswell"));
    assert_eq!(attempts(Accel::Kvm, false, None), Err(Error::NoKvm));
}

#[test]
fn without_the_capability_qemu_keeps_our_uid_and_that_is_told() {
    let mut pod = pod();
    pod.facts.net.can_setuid = false;
    let plan = pod.plan().unwrap();
    assert_eq!((plan.user, plan.notes.len()), (None, 1));
    // As `berth vm` runs in a pod: nothing is amiss.
    pod.facts.host.uid = pod.config.machine.uid;
    let plan = pod.plan().unwrap();
    assert_eq!((plan.user, plan.notes.len()), (None, 0));
    pod.facts.host.uid = 0;
    pod.config.machine.uid = 0;
    let plan = pod.plan().unwrap();
    assert_eq!((plan.user, plan.notes.len()), (None, 0));
}

#[test]
fn emulation_that_nobody_asked_for_is_told() {
    for (accel, kvm, told) in
        [(Accel::Auto, false, 1), (Accel::Auto, true, 0), (Accel::Tcg, false, 0)]
    {
        let mut pod = pod();
        (pod.config.machine.accel, pod.facts.host.kvm) = (accel, kvm);
        let notes = pod.plan().unwrap().notes;
        assert_eq!(
            notes.iter().filter(|note| note.contains("/dev/kvm")).count(),
            told,
            "{notes:?}"
        );
    }
}

#[test]
fn more_processors_than_there_are_is_told_once() {
    let notes = |vcpu, cpus| {
        let mut pod = pod();
        (pod.config.machine.vcpu, pod.facts.host.cpus) = (vcpu, cpus);
        pod.plan().unwrap().notes.join("\n")
    };
    assert_eq!(
        notes(16, 2),
        "IMG_VCPU=16, but there are 2 CPUs here: the guest is slower than with 2"
    );
    assert_eq!((notes(2, 2), notes(1, 8), notes(255, 0)), Default::default());
}

#[test]
fn a_comma_in_the_name_does_not_make_an_option() {
    let mut pod = pod();
    pod.config.name = "a,debug-threads=on".to_owned();
    assert!(pod.text().contains("-name guest=a,,debug-threads=on\n"));
}

#[test]
fn a_panic_is_heard_where_there_is_a_place_for_its_device() {
    let has = |extra: &str, on_panic| {
        let mut pod = pod();
        pod.config.machine.extra_args = words(extra).unwrap();
        pod.config.lifecycle.on_panic = on_panic;
        (pod.text().contains("-device pvpanic-pci,id=pvpanic0"), pod.plan().unwrap().notes.len())
    };
    for (extra, wanted) in [
        ("", (true, 0)),
        ("-machine hpet=off -M pc-q35-7.2", (true, 0)),
        ("-machine pc -M type=q35", (true, 0)),
        ("-device pvpanic,ioport=1285", (false, 0)),
        ("--device pvpanic-pci", (false, 0)),
        ("-M pc,hpet=off", (false, 1)),
        ("--machine q35 -machine type=microvm", (false, 1)),
    ] {
        assert_eq!(has(extra, OnPanic::Reset), wanted, "{extra}");
        assert_eq!(has(extra, OnPanic::Exit), (wanted.0, 0), "{extra}");
    }
}

#[test]
fn an_agent_has_a_channel_unless_the_user_gives_it_another() {
    let has = |extra: &str| {
        let mut pod = pod();
        pod.config.machine.extra_args = words(extra).unwrap();
        let plan = pod.plan().unwrap();
        assert_eq!(plan.has_agent(), pod.text().contains("-device virtio-serial-pci,id=agent-bus"));
        plan.has_agent()
    };
    assert!(has("") && has("-machine q35,hpet=off -device virtio-balloon"));
    assert!(!has("-M pc"));
    assert!(!has(
        "-chardev socket,id=a,path=/a -device virtio-serial -device virtserialport,chardev=a,name=org.qemu.guest_agent.0"
    ));
}

#[test]
fn qemu_ends_at_a_panic_unless_that_is_ours_to_follow() {
    let paused = |on_panic| {
        let mut pod = pod();
        pod.config.lifecycle.on_panic = on_panic;
        pod.text().contains("\n-action panic=pause\n")
    };
    let all = [OnPanic::Exit, OnPanic::Reset, OnPanic::Pause].map(paused);
    assert_eq!(all, [false, true, true]);
}
