use serde_json::Value as Json;

use super::*;

fn said(text: &str) -> Vec<String> {
    values(&[text]).iter().map(ToString::to_string).collect()
}

/// One VM, line 4 and on.
fn vm(lines: &str) -> String {
    format!("vmlist:\n  web:\n    enabled: true\n{lines}")
}

const CONFIG: &str = "    vmconfig:\n      cpu: {vcpu: 1, ram_mb: 512}\n      rootfs: {sourceurl: /a, pvc_size: 1Gi}\n";

#[test]
fn the_schema_uses_only_what_is_understood() {
    fn walk(part: &Json, unknown: &mut Vec<String>) {
        let Some(words) = part.as_object() else { return };
        for (word, value) in words {
            match word.as_str() {
                "properties" | "definitions" => {
                    value
                        .as_object()
                        .into_iter()
                        .flatten()
                        .for_each(|(_, part)| walk(part, unknown));
                }
                "anyOf" | "allOf" => {
                    value.as_array().into_iter().flatten().for_each(|part| walk(part, unknown));
                }
                "items"
                | "additionalProperties"
                | "propertyNames"
                | "if"
                | "then"
                | "else"
                | "not" => {
                    walk(value, unknown);
                }
                // What these are differs between engines.
                "pattern" => {
                    let pattern = value.as_str().unwrap();
                    assert!(regex_lite::Regex::new(pattern).is_ok(), "{value}");
                    assert!(
                        !["\\s", "\\S", "\\w", "\\W", "\\d", "\\D", "\\b"]
                            .iter()
                            .any(|class| pattern.contains(class)),
                        "{value}"
                    );
                }
                _ => {}
            }
            if !schema::KEYWORDS.contains(&word.as_str()) {
                unknown.push(word.clone());
            }
        }
    }
    let mut unknown = Vec::new();
    walk(&serde_json::from_str(SCHEMA).unwrap(), &mut unknown);
    assert_eq!(unknown, Vec::<String>::new());
}

/// Variables that the chart's templates give are those of which it is told that `env` goes before them.
#[test]
fn the_charts_own_variables_are_known() {
    let templates = include_str!("../../chart/templates/_helpers.tpl");
    let names: Vec<&str> = templates
        .match_indices("(list \"")
        .filter_map(|(at, start)| templates.get(at + start.len()..)?.split('"').next())
        .filter(|name| !name.starts_with("--"))
        .chain(["BERTH_VENDORDATA", "BERTH_NETWORKDATA"])
        .collect();
    assert_eq!(names.len(), cross::VARIABLES.len(), "{names:?}");
    assert!(
        cross::VARIABLES.iter().all(|name| names.contains(name) && templates.contains(name)),
        "{names:?}"
    );
}

#[test]
fn a_right_file_is_right() {
    assert_eq!(said(&vm(CONFIG)), Vec::<String>::new());
    assert_eq!(
        said("vmlist:\n  half: {enabled: false, vmconfig: later}\n  none: {}\n"),
        Vec::<String>::new()
    );
    assert_eq!(said("vmlist: null"), Vec::<String>::new());
    assert_eq!(said("accel: tcg"), ["1:1: [W] there is no vmlist: VMs by name"]);
}

#[test]
fn variables_are_refused_as_a_start_refuses_them_and_unknown_ones_named() {
    let env = |lines: &str| said(&vm(&format!("{CONFIG}    env:\n{lines}")));
    for (lines, wanted) in [
        (
            "      BERTH_MTU: 1400\n      BERTH_NFT_OWNER: false\n      TZ: Europe/Amsterdam\n",
            vec![],
        ),
        ("      VM_IP: 10.0.0.2\n      VM_GW: 10.0.0.1\n", vec![]),
        ("      BERTH_GRACE_MARGIN_S: 60\n      BERTH_TAP: tap1\n", vec![]),
        (
            "      BERTH_MTU: 68\n",
            vec![
                "8:18: [E] vmlist.web.env.BERTH_MTU: \"68\" is refused at start: expected octets from 576 to 65535",
            ],
        ),
        (
            "      VM_IP: 10.0.0.2\n",
            vec![
                "7:5: [E] vmlist.web.env: this is refused at start: VM_GW=\"192.168.254.1\": expected another address of \
                  VM_IP's network 10.0.0.0/30",
            ],
        ),
        (
            "      BERTH_ACCELL: tcg\n",
            vec![
                "8:7: [W] vmlist.web.env.BERTH_ACCELL: BERTH_ACCELL is not known here and does nothing: did you \
                  mean BERTH_ACCEL?",
            ],
        ),
    ] {
        assert_eq!(env(lines), wanted, "{lines}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = "\
vmlist:
  web:
    enabled: true
    vmconfg: 1
    vmconfig:
      cpu:
        vcpu: two
        ram_mb: 100
      rootfs:
        pvc_size: much
        sourceurl: /a
    netconfig:
      ports: {ssh: 70000}
      vnc: {enable: yes}
    on_poweroff: sleep
  Web_2:
    enabled: yes
accel: kvm
devices: {tun: /dev/net/tun}
";
    assert_eq!(
        said(text),
        [
            "4:5: [W] vmlist.web.vmconfg: unknown key, ignored: did you mean vmconfig?",
            "7:15: [E] vmlist.web.vmconfig.cpu.vcpu: this is \"two\", and has to be an integer (processors, 1 to 255)",
            "8:17: [W] vmlist.web.vmconfig.cpu.ram_mb: 100 is unusual (512 to 32768): is it meant? (MiB)",
            "10:19: [E] vmlist.web.vmconfig.rootfs.pvc_size: \"much\" is not a size such as 5Gi, more than nothing",
            "13:20: [E] vmlist.web.netconfig.ports.ssh: 70000 is out of range: 1 to 65535 (a port, 1 to 65535)",
            "14:13: [E] vmlist.web.netconfig.vnc.enable: there is no such key: did you mean enabled?",
            "15:18: [E] vmlist.web.on_poweroff: \"sleep\" is none of exit, restart",
            "16:3: [E] vmlist.Web_2: \"Web_2\" is not a VM's name: at most 57 of a-z, 0-9 and -",
            "17:5: [E] vmlist.Web_2.vmconfig: this is missing",
            "19:16: [E] devices.tun: \"/dev/net/tun\" is not a device plugin's resource such as example.com/tun, hostPath, or none",
        ]
    );
}

#[test]
fn what_belongs_together_or_excludes_each_other_is_told_so() {
    let told = |lines: &str| said(&vm(lines)).join("\n");
    let none = CONFIG.replace(", pvc_size: 1Gi", "");
    assert!(told(&none).contains("pvc_size or existing_claim"), "{}", told(&none));
    let none = CONFIG.replace("sourceurl: /a, ", "");
    assert!(told(&none).contains("sourceurl or localtarget"), "{}", told(&none));
    let block = CONFIG.replace("sourceurl: /a", "pvc_mode: Block");
    assert_eq!(told(&block), "");
    let service = format!("{CONFIG}    netconfig: {{service: {{enabled: true}}}}\n");
    assert!(
        told(&service).contains("vmlist.web.netconfig.ports: this is missing"),
        "{}",
        told(&service)
    );
    let both = format!("{CONFIG}    cloudconfig: {{existingSecret: a, existingConfigMap: b}}\n");
    assert!(told(&both).contains("exclude each other"), "{}", told(&both));
}

#[test]
fn inputs_that_are_something_else_fail_with_their_place() {
    assert_eq!(
        said("vmlist:\n- name: web\n"),
        ["2:3: [E] vmlist: this is a list, and has to be a map (a map of VMs by name)"]
    );
    assert_eq!(
        said("vmlist:\n  web: [1]\n"),
        [
            "2:8: [E] vmlist.web: this is a list, and has to be a map (a VM is a map; `enabled: true` or false says whether it is there)"
        ]
    );
}

/// What `berth run` would refuse is no right file, and is told before anything is started.
#[test]
fn what_a_start_refuses_is_an_error_here() {
    for (from, to, wanted) in [
        (
            "sourceurl: /a",
            "sourceurl: \"htp://x/y\"",
            "sourceurl: \"htp://x/y\" is refused at start: expected an http://",
        ),
        ("sourceurl: /a", "sourceurl: \"http://h/a b\"", "write a blank as %20"),
        ("sourceurl: /a", "sourceurl: \"htp://me:secret@x/y?secret\"", "\"htp://***@x/y?***\""),
        ("sourceurl: /a", "sourceurl: \"http://me:secret@h:0/?secret\"", "port"),
        (
            "pvc_size: 1Gi",
            "pvc_size: 1Gi, disk_size: 1.5Gi",
            "disk_size: \"1.5Gi\" is not bytes, or a whole number with K, M, G or T",
        ),
        ("pvc_size: 1Gi", "pvc_size: 1Gi, disk_size: 0", "disk_size: 0 is out of range"),
        (
            "pvc_size: 1Gi",
            "pvc_size: 1Gi, disk_size: 99999999T",
            "disk_size: \"99999999T\" is refused at start: expected bytes",
        ),
    ] {
        let told = said(&vm(&CONFIG.replace(from, to)));
        assert_eq!(told.len(), 1, "{to}: {told:?}");
        assert!(told[0].contains(wanted) && !told[0].contains("secret"), "{to}: {told:?}");
    }
    for (from, to) in [
        ("sourceurl: /a", "sourceurl: \"https://me:p%40@h/x.qcow2?sig=1\""),
        ("pvc_size: 1Gi", "pvc_size: 1Gi, disk_size: 10737418240"),
        ("pvc_size: 1Gi", "pvc_size: 1Gi, disk_size: 5Gi"),
    ] {
        assert_eq!(said(&vm(&CONFIG.replace(from, to))), Vec::<String>::new(), "{to}");
    }
    for (mac, word) in
        [("01:00:5e:00:00:01", "is not a MAC address"), ("00:00:00:00:00:00", "nobody's address")]
    {
        let told = said(&vm(&format!("{CONFIG}    netconfig: {{mac: \"{mac}\"}}\n")));
        assert!(told.len() == 1 && told[0].contains(word), "{told:?}");
    }
}

/// What `run` would end with, or warn of, at each start.
#[test]
fn cloud_inits_files_are_judged_as_at_start() {
    let cloud = |lines: &str| said(&vm(&format!("{CONFIG}    cloudconfig:\n{lines}")));
    assert_eq!(
        cloud("      userdata: |\n        hostname: x\n      metadata: '[1]'\n"),
        [
            "9:9: [W] vmlist.web.cloudconfig.userdata: begins with no header that cloud-init knows (#cloud-config, #!, \
             #include, MIME, ...), so cloud-init ignores it",
            "10:17: [E] vmlist.web.cloudconfig.metadata: a map of keys to values is needed, not a list",
        ]
    );
    let netplan = "      networkdata: |\n        version: 2\n";
    assert!(
        cloud(netplan)
            .concat()
            .contains("[E] vmlist.web.cloudconfig.networkdata: network data of cloud-init's")
    );
    assert_eq!(cloud(&format!("{netplan}      format: nocloud\n")), Vec::<String>::new());
    let right = "      userdata: |\n        #cloud-config\n      metadata: 'instance-id: i'\n      vendordata: ''\n";
    assert_eq!(cloud(right), Vec::<String>::new());
}
