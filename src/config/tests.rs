use super::parse::Ambient;
use super::*;

fn ambient() -> Ambient {
    Ambient { nodename: "node".into(), search_path: vec!["/usr/bin".into()], ..Ambient::default() }
}

fn options(set: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options { hostname: Some("web-0".into()), ..Options::default() };
    set(&mut options);
    options
}

fn parse(set: impl FnOnce(&mut Options)) -> Result<Config, Errors> {
    options(set).parse(&ambient())
}

fn wrong(set: impl FnOnce(&mut Options)) -> String {
    parse(set).expect_err("an error").to_string()
}

#[test]
fn nothing_said_gives_the_seeds_defaults() {
    let config = parse(|_| {}).unwrap();
    assert_eq!(config.network.vm.to_string(), "192.168.254.2/30");
    assert_eq!(config.network.gateway.to_string(), "192.168.254.1");
    assert_eq!(config.network.bridge.as_str(), "br0");
    assert_eq!((config.name.as_str(), config.hostname.as_str()), ("web-0", "web-0"));
    assert!(config.machine.reserve_vnc && config.machine.vnc && config.network.serve);
    assert_eq!(config.paths.image_dir.to_str(), Some("/image"));
    assert_eq!(config.lifecycle.grace.as_secs(), 25);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let empty = || Some(String::new());
    let config = parse(|o| {
        (o.vm_ip, o.vm_gw, o.no_vnc, o.no_dhcp, o.vcpu, o.hostname) =
            (empty(), empty(), empty(), empty(), empty(), empty());
    })
    .unwrap();
    assert!(config.machine.reserve_vnc && config.network.serve);
    assert_eq!(config.machine.vcpu, 1);
    assert_eq!(config.hostname, "node");
}

#[test]
fn any_text_switches_no_vnc_and_no_dhcp_on() {
    let config =
        parse(|o| (o.no_vnc, o.no_dhcp) = (Some("false".into()), Some("0".into()))).unwrap();
    assert!(!config.machine.reserve_vnc && !config.network.serve);
    let notes = |text: &str| {
        options(|o| (o.no_vnc, o.no_dhcp) = (Some(text.into()), Some("1".into()))).notes()
    };
    assert!(notes("yes").is_empty() && notes("").is_empty());
    for text in ["false", "0", "No ", "OFF"] {
        let wanted =
            format!("NO_VNC={text:?} is yes, as any text is: leave the variable out, or empty");
        assert_eq!(notes(text), [wanted]);
    }
}

#[test]
fn what_stands_around_a_value_is_no_part_of_it() {
    let config = parse(|o| {
        (o.hostname, o.uplink, o.mac) =
            (Some("web\n".into()), Some(" eth1 ".into()), Some("52:54:00:12:34:56\r\n".into()));
        (o.accel, o.vnc, o.reserved_ports) =
            (Some("TCG\n".into()), Some("0".into()), Some("22\n53/udp, 80\t".into()));
        (o.cpu, o.image_target) = (Some("  ".into()), Some("x.qcow2 ".into()));
    })
    .unwrap();
    assert_eq!(
        (config.hostname.as_str(), config.network.uplink.unwrap().as_str()),
        ("web", "eth1")
    );
    assert_eq!(
        (config.machine.accel, config.machine.vnc, config.machine.cpu),
        (Accel::Tcg, false, None)
    );
    assert_eq!(config.network.reserved.len(), 3);
    assert_eq!(config.image.target.as_deref(), Some("x.qcow2"));
}

#[test]
fn every_wrong_value_is_told_at_once() {
    let text = wrong(|o| {
        o.vcpu = Some("0".into());
        o.ram_mb = Some("lots".into());
        o.vm_ip = Some("192.168.254.300".into());
        o.mac = Some("01:00:5e:00:00:01".into());
        o.on_poweroff = Some("explode".into());
        o.image_checksum = Some("abc".into());
        o.reserved_ports = Some("22/tcp,99999".into());
        o.gateway_ports = Some("15020/icmp".into());
        o.metadata_address = Some("reject".into());
    });
    for name in [
        "IMG_VCPU=\"0\"",
        "IMG_RAM_MB=\"lots\"",
        "VM_IP=",
        "BERTH_MAC=",
        "BERTH_ON_POWEROFF=",
        "IMG_SHA256=",
        "BERTH_RESERVED_PORTS=\"99999\"",
        "BERTH_GATEWAY_PORTS=\"15020/icmp\"",
        "BERTH_METADATA_ADDRESS=\"reject\"",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    assert_eq!(text.lines().count(), 9, "{text}");
    assert!(text.contains("exit or restart") && text.contains("1 to 255"), "{text}");
}

#[test]
fn guest_and_gateway_are_two_hosts_of_one_network() {
    assert!(wrong(|o| o.vm_gw = Some("10.0.0.1".into())).contains("VM_GW=\"10.0.0.1\""));
    assert!(wrong(|o| o.vm_gw = Some("192.168.254.2".into())).contains("VM_GW"));
    assert!(wrong(|o| o.vm_ip = Some("192.168.254.3".into())).contains("ends of the network"));
    let wide = parse(|o| {
        (o.vm_ip, o.vm_gw, o.vm_prefix) =
            (Some("10.0.7.9".into()), Some("10.0.0.1".into()), Some("16".into()));
    });
    assert_eq!(wide.unwrap().network.vm.to_string(), "10.0.7.9/16");
}

#[test]
fn guest_and_gateway_have_addresses_that_hosts_can_have() {
    for (address, gateway, kind) in [
        ("127.0.0.2", "127.0.0.1", "loopback"),
        ("224.0.0.2", "224.0.0.1", "multicast"),
        ("0.0.0.2", "0.0.0.1", "this network"),
        ("240.0.0.2", "240.0.0.1", "reserved"),
        ("255.255.255.255", "255.255.255.254", "broadcast"),
    ] {
        let text = wrong(|o| (o.vm_ip, o.vm_gw) = (Some(address.into()), Some(gateway.into())));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with(&format!("VM_IP={address:?}")), "{text}");
        assert!(
            lines[0].contains(kind) && lines[1].starts_with(&format!("VM_GW={gateway:?}")),
            "{text}"
        );
    }
    let link_local =
        parse(|o| (o.vm_ip, o.vm_gw) = (Some("169.254.7.2".into()), Some("169.254.7.1".into())));
    assert_eq!(link_local.unwrap().network.vm.to_string(), "169.254.7.2/30");
}

#[test]
fn a_name_leads_to_no_other_directory() {
    for name in ["../etc", "a/b", ".hidden", "a b"] {
        assert!(wrong(|o| o.name = Some(name.into())).starts_with("BERTH_NAME="), "{name}");
    }
    assert!(wrong(|o| o.hostname = Some("../x".into())).starts_with("HOSTNAME="));
}

#[test]
fn sizes_and_digests_are_read() {
    let config = parse(|o| {
        o.disk_size = Some("20Gi".into());
        o.image_checksum = Some("ab".repeat(32));
    })
    .unwrap();
    assert_eq!(config.image.disk_size_bytes, Some(20 << 30));
    assert_eq!(config.image.checksum.unwrap().to_string(), format!("sha256:{}", "ab".repeat(32)));
    for (text, bytes) in
        [("1", 1), ("4K", 4096), ("2m", 2 << 20), ("3TiB", 3 << 40), ("5GB", 5 << 30)]
    {
        assert_eq!(
            parse(|o| o.disk_size = Some(text.into())).unwrap().image.disk_size_bytes,
            Some(bytes),
            "{text}"
        );
    }
    for text in ["G", "-1", "0", "1.5G", "1E", "99999999999T"] {
        assert!(parse(|o| o.disk_size = Some(text.into())).is_err(), "{text}");
    }
}

#[test]
fn shell_words_are_split_and_never_run() {
    let config = parse(|o| {
        o.launcher = Some("nice -n '5 5'".into());
        o.kvm_blk_opts =
            Some("-drive file=$KVM_IMAGE,if=virtio -device x,serial=${HOSTNAME}".into());
    })
    .unwrap();
    assert_eq!(config.machine.launcher, ["nice", "-n", "5 5"]);
    assert_eq!(config.machine.blk_opts.unwrap()[1], "file=$KVM_IMAGE,if=virtio");
    assert!(wrong(|o| o.kvm_net_opts = Some("-x $(reboot)".into())).contains("KVM_NET_OPTS"));
    assert!(wrong(|o| o.kvm_net_opts = Some("-x `reboot`".into())).contains("no shell"));
    assert!(wrong(|o| o.kvm_net_opts = Some("-x $SECRET".into())).contains("$SECRET is not known"));
    for broken in
        ["${", "${}", "${NEWMAC", "${NEWMAC$IMG_TARGET\"\"N}", "${VM_IP:-1}", "${NEWMAC ${VM_IP}"]
    {
        let wrong = wrong(|o| o.kvm_net_opts = Some(format!("-x {broken}")));
        assert!(wrong.contains("a name between braces"), "{broken}: {wrong}");
    }
    assert!(wrong(|o| o.launcher = Some("a 'b".into())).contains("quotes"));
}

#[test]
fn only_schemes_we_fetch_are_allowed() {
    for text in ["ftp://x/y", "s3://b/k"] {
        assert!(wrong(|o| o.image_source = Some(text.into())).contains("IMG_SOURCE"));
    }
    for text in ["HTTP://x/y", "https://x/y", "file:///y", "/images/a b.qcow2"] {
        assert!(parse(|o| o.image_source = Some(text.into())).is_ok(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,40}", which in 0..12usize) {
        let _ = parse(|o| {
            let fields = [&mut o.name, &mut o.hostname, &mut o.vcpu, &mut o.image_source, &mut o.image_checksum,
                &mut o.image_max_size, &mut o.disk_size, &mut o.vm_ip, &mut o.vm_prefix, &mut o.mac, &mut o.reserved_ports, &mut o.kvm_net_opts,
                &mut o.launcher];
            *fields.into_iter().nth(which).unwrap() = Some(text.clone());
        });
    }
}

#[test]
fn rules_of_the_operators_own_and_the_owner_flag() {
    let plain = parse(|_| {}).unwrap().network;
    assert_eq!((plain.extra_rules, plain.nft_owner), (None, false));
    let asked = parse(|o| {
        o.extra_rules = Some("/rules.json".into());
        o.nft_owner = Some("on".into());
    });
    let asked = asked.unwrap().network;
    assert_eq!((asked.extra_rules, asked.nft_owner), (Some("/rules.json".into()), true));
    assert!(parse(|o| o.extra_rules = Some("".into())).unwrap().network.extra_rules.is_none());
    assert!(
        wrong(|o| o.nft_owner = Some("maybe".into()))
            .contains("BERTH_NFT_OWNER=\"maybe\": expected on or off")
    );
}
