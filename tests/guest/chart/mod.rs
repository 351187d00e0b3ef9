//! The chart, by Helm's own engine and Kubernetes' own schemas.

pub mod engine;
mod faults;
mod generated;
mod meaning;
mod upgrade;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine::{Helm, examples};
use serde_json::{Value, json};

/// Sidecars are since 1.29.
const VERSIONS: [&str; 5] = ["1.29", "1.31", "1.33", "1.35", "1.37"];

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found =
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn pod<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    &object(objects, "Deployment", &format!("berth-{name}"))["spec"]["template"]["spec"]
}

fn variables(container: &Value) -> Vec<(String, String)> {
    let of = |variable: &Value| {
        let field = |name: &str| variable[name].as_str().unwrap_or_default().to_owned();
        (field("name"), field("value"))
    };
    container["env"].as_array().unwrap().iter().map(of).collect()
}

fn variable(container: &Value, name: &str) -> Option<String> {
    variables(container).into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Values with one VM, changed.
fn one(change: impl FnOnce(&mut Value)) -> Value {
    let mut values = json!({"vmlist": {"web": {
        "enabled": true,
        "vmconfig": {
            "cpu": {"vcpu": 2, "ram_mb": 1024},
            "rootfs": {"sourceurl": "https://images.example/a.qcow2", "pvc_size": "5Gi"},
        },
    }}});
    change(&mut values);
    values
}

#[test]
fn every_example_renders_is_valid_and_pleases_the_linter() {
    let mut helm = Helm::start();
    for path in examples() {
        let text = std::fs::read_to_string(&path).unwrap();
        let done = helm.job(&json!({"yaml": text, "validate": VERSIONS, "lint": true}));
        assert_eq!(done["error"], Value::Null, "{}", path.display());
        assert_eq!(done["invalid"], json!([]), "{}", path.display());
        let messages = done["lint"]["messages"].as_array().unwrap();
        assert!(done["lint"]["errors"] == json!([]), "{}", done["lint"]);
        // An icon is recommended; there is none.
        assert!(messages.iter().all(|message| message["severity"] == 1), "{messages:?}");
    }
    // The validation itself can fail.
    let broken =
        one(|values| values["vmlist"]["web"]["pod"] = json!({"tolerations": [{"operator": 5}]}));
    assert_ne!(helm.job(&json!({"values": broken, "validate": VERSIONS}))["invalid"], json!([]));
}

#[test]
fn what_is_rendered_is_as_it_was_looked_at() {
    let mut helm = Helm::start();
    for name in ["demo-ub14-apache", "emulated", "everything"] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/values/{name}.yaml"));
        let done = helm.job(&json!({"yaml": std::fs::read_to_string(path).unwrap()}));
        let manifests = done["manifests"].as_object().unwrap();
        let mut text = String::new();
        for (path, manifest) in manifests {
            text.push_str(&format!("### {path}\n{}\n", manifest.as_str().unwrap().trim()));
        }
        insta::with_settings!({prepend_module_to_snapshot => false, snapshot_path => "snapshots", omit_expression => true}, {
            insta::assert_snapshot!(name, text);
        });
    }
}

#[test]
fn the_seeds_objects_keep_their_names() {
    let mut helm = Helm::start();
    for name in ["cirros-test", "demo-ub14-apache", "ub16-smp-test"] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/values/{name}.yaml"));
        let objects = helm.objects(&json!({"yaml": std::fs::read_to_string(path).unwrap()}));
        let cloud = object(&objects, "ConfigMap", &format!("configmap-cloudconfig-{name}"));
        assert!(cloud["data"]["metadata"].is_string() && cloud["data"]["userdata"].is_string());
        let claim = object(&objects, "PersistentVolumeClaim", name);
        assert_eq!(claim["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        let deployment = object(&objects, "Deployment", &format!("berth-{name}"));
        assert_eq!(deployment["metadata"]["labels"]["app"], "berth");
        assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!((&pod["hostname"], &pod["containers"][0]["name"]), (&json!(name), &json!(name)));
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "IfNotPresent");
    }
}

#[test]
fn no_vm_is_rendered_of_none_and_of_those_that_are_not_enabled() {
    let mut helm = Helm::start();
    let kinds = |objects: Vec<Value>| {
        objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for values in [
        json!({}),
        json!({"vmlist": {}}),
        json!({"vmlist": null}),
        json!({"vmlist": {"half": {"enabled": false, "vmconfig": "to be written"}, "none": {}}}),
    ] {
        // The pod of `helm test` is always there.
        assert_eq!(kinds(helm.objects(&json!({"values": values}))), ["Pod"], "{values}");
    }
    let mut values = one(|_| {});
    values["vmlist"]["half"] = json!({"enabled": false});
    let objects = helm.objects(&json!({"values": values}));
    assert_eq!(kinds(objects), ["Pod", "ConfigMap", "PersistentVolumeClaim", "Deployment"]);
}

#[test]
fn nothing_is_privileged_and_the_guests_container_can_do_nothing() {
    let mut helm = Helm::start();
    for path in examples() {
        let text = std::fs::read_to_string(&path).unwrap();
        let objects = helm.objects(&json!({"yaml": text}));
        let pods = objects.iter().filter_map(|object| match object["kind"].as_str()? {
            "Deployment" => Some(&object["spec"]["template"]["spec"]),
            "Pod" => Some(&object["spec"]),
            _ => None,
        });
        for pod in pods {
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(pod["automountServiceAccountToken"], false);
            for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
                assert_eq!(pod[forbidden], Value::Null);
            }
            for volume in pod["volumes"].as_array().unwrap() {
                let path = volume["hostPath"]["path"].as_str().unwrap_or("/dev/kvm");
                assert!(["/dev/kvm", "/dev/net/tun"].contains(&path), "{volume}");
            }
            let init = pod["initContainers"].as_array().cloned().unwrap_or_default();
            for container in pod["containers"].as_array().unwrap().iter().chain(&init) {
                let security = &container["securityContext"];
                assert_eq!(security["privileged"], false);
                assert_eq!(security["allowPrivilegeEscalation"], false);
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
                let added = &security["capabilities"]["add"];
                let half = container["args"][0].as_str().unwrap();
                match half {
                    "vm" => {
                        assert!(security["runAsNonRoot"] == true && added.is_null(), "{security}");
                    }
                    "net" | "selftest" => {
                        assert_eq!(added, &json!(["NET_ADMIN", "NET_BIND_SERVICE"]));
                    }
                    _ => assert_eq!(
                        added,
                        &json!(["NET_ADMIN", "NET_BIND_SERVICE", "SETUID", "SETGID", "KILL"])
                    ),
                }
            }
        }
    }
}

/// What of a container is beyond the level "restricted" of Kubernetes' Pod Security Standards (baseline's rules with it), as
/// they are for Linux; the pod's own fields with it.
fn beyond_restricted(pod: &Value, container: &Value) -> Vec<&'static str> {
    let (own, pods) = (&container["securityContext"], &pod["securityContext"]);
    let of = |field: &str| [&own[field], &pods[field]].into_iter().find(|value| !value.is_null());
    let none = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let volumes = list(&pod["volumes"]);
    let kinds = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let all = [
        (
            "host namespaces",
            ["hostNetwork", "hostPID", "hostIPC"].iter().all(|name| pod[name] != true),
        ),
        ("privileged", own["privileged"] != true),
        (
            "capabilities added",
            list(&own["capabilities"]["add"]).iter().all(|name| name == "NET_BIND_SERVICE"),
        ),
        ("capabilities kept", list(&own["capabilities"]["drop"]).contains(&json!("ALL"))),
        ("host ports", list(&container["ports"]).iter().all(|port| port["hostPort"].is_null())),
        ("procMount", own["procMount"].is_null() || own["procMount"] == "Default"),
        ("sysctls", none(&pods["sysctls"])),
        ("volumes", volumes.iter().all(|volume| kinds.iter().any(|kind| !volume[kind].is_null()))),
        ("allowPrivilegeEscalation", own["allowPrivilegeEscalation"] == false),
        ("runAsNonRoot", of("runAsNonRoot").is_some_and(|value| value == true)),
        ("runAsUser", of("runAsUser").is_none_or(|user| user != 0)),
        (
            "seccompProfile",
            of("seccompProfile").is_some_and(|profile| profile["type"] == "RuntimeDefault"),
        ),
    ];
    all.into_iter().filter(|(_, right)| !right).map(|(what, _)| what).collect()
}

#[test]
fn the_guests_container_keeps_to_the_level_restricted() {
    let mut helm = Helm::start();
    let mut seen = 0;
    for path in examples() {
        let text = std::fs::read_to_string(&path).unwrap();
        let values: Value = serde_saphyr::from_str(&text).unwrap();
        // A device of the node is a volume of its own, and beyond all levels.
        let host = values["devices"].to_string().contains("hostPath");
        let beside: &[&str] = if host { &["volumes"] } else { &[] };
        for object in helm
            .objects(&json!({"yaml": text}))
            .iter()
            .filter(|object| object["kind"] == "Deployment")
        {
            let pod = &object["spec"]["template"]["spec"];
            let Some(net) = pod["initContainers"].get(0) else { continue };
            assert_eq!(beyond_restricted(pod, &pod["containers"][0]), beside, "{}", path.display());
            let mut beyond = beyond_restricted(pod, net);
            beyond.retain(|what| !beside.contains(what));
            assert_eq!(
                beyond,
                ["capabilities added", "runAsNonRoot", "runAsUser"],
                "{}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn both_halves_have_one_environment_and_the_guest_its_resources() {
    let mut helm = Helm::start();
    let objects = helm.objects(&json!({"values": one(|_| {})}));
    let pod = pod(&objects, "web");
    let (net, vm) = (&pod["initContainers"][0], &pod["containers"][0]);
    assert_eq!(
        (&net["restartPolicy"], &net["args"], &vm["args"]),
        (&json!("Always"), &json!(["net"]), &json!(["vm"]))
    );
    assert_eq!(variables(net), variables(vm));
    assert_eq!(variable(vm, "IMG_RAM_MB").as_deref(), Some("1024"));
    // 1024 + 384 MiB, twice 250 thousandths; the devices of the plugin.
    assert_eq!(
        vm["resources"],
        json!({
            "requests": {"cpu": "500m", "memory": "1408Mi", "ephemeral-storage": "16Mi"},
            "limits": {"memory": "1408Mi", "ephemeral-storage": "128Mi", "squat.ai/tun": 1, "squat.ai/kvm": 1},
        })
    );
    assert_eq!(
        net["resources"]["limits"],
        json!({"cpu": "500m", "memory": "64Mi", "ephemeral-storage": "128Mi", "squat.ai/tun": 1})
    );
    // Emulation asks for no KVM, and a device of the node is no resource.
    let values = one(|values| {
        values["accel"] = json!("tcg");
        values["devices"] = json!({"tun": "hostPath"});
    });
    let objects = helm.objects(&json!({"values": values}));
    let pod = self::pod(&objects, "web");
    assert_eq!(
        pod["containers"][0]["resources"]["limits"],
        json!({"memory": "1408Mi", "ephemeral-storage": "128Mi"})
    );
    let mounts = pod["initContainers"][0]["volumeMounts"].to_string();
    assert!(mounts.contains("/dev/net/tun") && !pod.to_string().contains("/dev/kvm"), "{mounts}");
}

#[test]
fn berth_is_done_before_kubernetes_kills_it() {
    let mut helm = Helm::start();
    for (values, seconds) in [
        (one(|_| {}), 60),
        (one(|values| values["grace_seconds"] = json!(90)), 90),
        (one(|values| values["vmlist"]["web"]["grace_seconds"] = json!(300)), 300),
        (
            one(|values| {
                values["vmlist"]["web"]["on_stop"] = json!("suspend");
                values["vmlist"]["web"]["vmconfig"]["cpu"]["ram_mb"] = json!(2048);
            }),
            124,
        ),
    ] {
        let objects = helm.objects(&json!({"values": values}));
        let pod = pod(&objects, "web");
        assert_eq!(pod["terminationGracePeriodSeconds"], seconds);
        assert_eq!(
            variable(&pod["containers"][0], "BERTH_GRACE_S"),
            Some((seconds - 5).to_string())
        );
    }
}

#[test]
fn another_cloud_config_starts_the_guest_again_and_another_chart_does_not() {
    let mut helm = Helm::start();
    let mut template = |data: &str| {
        let values =
            one(|values| values["vmlist"]["web"]["cloudconfig"] = json!({"userdata": data}));
        let objects = helm.objects(&json!({"values": values}));
        object(&objects, "Deployment", "berth-web")["spec"]["template"].clone()
    };
    let (one, other) = (template("#cloud-config\n{}"), template("#cloud-config\n{a: 1}"));
    assert_ne!(one["metadata"]["annotations"], other["metadata"]["annotations"]);
    assert_eq!(one["spec"], other["spec"]);
    assert!(!one.to_string().contains("helm.sh/chart"));
}

#[test]
fn mistakes_are_refused_and_the_key_is_named() {
    let mut helm = Helm::start();
    let web = |path: &str, value: Value| {
        one(|values| {
            let (parent, key) = path.rsplit_once('/').unwrap();
            let parent =
                if parent.is_empty() { values } else { values.pointer_mut(parent).unwrap() };
            parent[key] = value;
        })
    };
    let at = |path: &str, value: Value| web(&format!("/vmlist/web{path}"), value);
    for (values, words) in [
        (json!({"vmlist": ["web"]}), vec!["/vmlist", "array"]),
        (json!({"vmlist": {"web": ["a"]}}), vec!["/vmlist/web", "array"]),
        (json!({"vmlist": {"web": {"enabled": true}}}), vec!["/vmlist/web", "vmconfig"]),
        (json!({"vmlist": {"Web": {"enabled": true}}}), vec!["Web"]),
        (at("/vmconfig/cpu/vcpu", json!("two")), vec!["vcpu", "integer"]),
        (at("/vmconfig/cpu/vcpu", json!(0)), vec!["vcpu", "minimum"]),
        (at("/vmconfig/cpu/ram_mb", json!(null)), vec!["ram_mb"]),
        (at("/vmconfig/rootfs/pvc_size", json!("much")), vec!["pvc_size", "pattern"]),
        (
            at("/vmconfig/rootfs", json!({"sourceurl": "a"})),
            vec!["/vmlist/web/vmconfig/rootfs", "pvc_size", "existing_claim"],
        ),
        (at("/vmconfig/rootfs", json!({"pvc_size": "1Gi"})), vec!["sourceurl", "localtarget"]),
        (at("/vmconfig/rootfs/checksum", json!("md5:1")), vec!["checksum"]),
        (at("/netconfig", json!({"ports": {"ssh": 70_000}})), vec!["ports/ssh", "maximum"]),
        (
            at("/netconfig", json!({"service": {"enabled": true}})),
            vec!["/vmlist/web/netconfig", "ports"],
        ),
        (at("/netconfig", json!({"vnc": {"enable": true}})), vec!["vnc", "enable"]),
        (
            at("/cloudconfig", json!({"existingSecret": "a", "existingConfigMap": "b"})),
            vec!["/vmlist/web/cloudconfig", "not"],
        ),
        (at("/grace_seconds", json!(3)), vec!["grace_seconds"]),
        (web("/accel", json!("hvf")), vec!["/accel", "tcg"]),
        (web("/devices", json!({"tun": "/dev/net/tun"})), vec!["/devices/tun"]),
    ] {
        let error =
            helm.job(&json!({"values": values}))["error"].as_str().unwrap_or_default().to_owned();
        for word in words {
            assert!(error.contains(word), "{word} is not in {error:?} for {values}");
        }
    }
}

/// Helm has numbers as floats, and would write large ones as `1.073741824e+10`, which no start understands.
#[test]
fn a_size_that_is_a_number_is_written_in_digits() {
    let mut helm = Helm::start();
    for (size, written) in [(json!(10_737_418_240_u64), "10737418240"), (json!("20Gi"), "20Gi")] {
        let values =
            one(|values| values["vmlist"]["web"]["vmconfig"]["rootfs"]["disk_size"] = size);
        let objects = helm.objects(&json!({"values": values}));
        let container = &pod(&objects, "web")["containers"][0];
        assert_eq!(variable(container, "BERTH_DISK_SIZE").as_deref(), Some(written));
        assert_eq!(berth::config::check("BERTH_DISK_SIZE", written), Ok(()));
    }
}

/// What of `berth validate`'s errors Helm cannot know: what stands in cloud-init's files, what berth says of its variables,
/// what needs quantities or networks, and what a key was before Helm read it.
const BEYOND_HELM: [&str; 11] = [
    "a map of keys",
    "neither JSON nor YAML",
    "network data",
    "is refused at start",
    "more is requested than the limit",
    "this is asked for in whole numbers",
    "these are no whole pages",
    "is not a network such as",
    "this is no part of",
    "the range ends before it begins",
    "Helm reads the key",
];

/// `berth validate` and Helm say the same of a text, but for what Helm cannot know.
fn agreement(text: &str, error: &Value, case: &str) -> Vec<berth::validate::Finding> {
    let findings = berth::validate::values(&[text]);
    let mut errors =
        findings.iter().filter(|finding| finding.severity == berth::validate::Severity::Error);
    let bad =
        errors.any(|finding| !BEYOND_HELM.iter().any(|words| finding.message.contains(words)));
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(!bad, error.is_null(), "for\n{case}\nHelm: {error}\nberth: {said:#?}");
    findings
}

#[test]
fn validate_and_helm_agree() {
    let mut helm = Helm::start();
    let mut compare = |text: &str| {
        agreement(text, &helm.job(&json!({"yaml": text}))["error"], text);
    };
    let vm = |lines: &str| {
        let config =
            "vmconfig: {cpu: {vcpu: 1, ram_mb: 512}, rootfs: {sourceurl: /a, pvc_size: 1Gi}}";
        format!("vmlist:\n  web:\n    enabled: true\n    {config}\n{lines}\n")
    };
    for path in examples() {
        let text = std::fs::read_to_string(path).unwrap();
        compare(&text);
        // Every value of the example, spoilt one after another.
        let values: Value = serde_saphyr::from_str(&text).unwrap();
        let mut places = Vec::new();
        leaves(&values, String::new(), &mut places);
        for place in places {
            for other in
                [json!("no such word"), json!(-1), json!({"a": [1]}), json!([true]), json!(1.5)]
            {
                let mut spoilt = values.clone();
                *spoilt.pointer_mut(&place).unwrap() = other;
                compare(&spoilt.to_string());
            }
        }
    }
    for lines in [
        "    single: yes",
        "    single: 'yes'",
        "    on_poweroff: on",
        "    grace_seconds: 0o17",
        "    grace_seconds: 1_0",
        "    grace_seconds: 010",
        "    netconfig: {mac: 52:54:00:12:34:56}",
        "    netconfig: {ports: {ssh: 22.0}}",
        "    netconfig: {ports: {ssh: 22.5}}",
        "    netconfig: {ports: {UPPER: 22}}",
        "    netconfig: ~",
        "    env: {A: 1, B: true, C: x}",
        "    env: {A: [1]}",
        "    disks: [{name: a, claim: b}, {name: b}]",
        "    cloudconfig: &c {userdata: x}\n  two:\n    enabled: true\n    cloudconfig: *c",
        "  two:\n    <<: {enabled: true}",
        "\t- a",
        "    a: 'b",
    ] {
        compare(&vm(lines));
    }
}

/// Files that are made by chance; `BERTH_TEST_SEED` and `BERTH_TEST_FILES` ask for others, and more.
#[test]
fn what_is_accepted_is_rendered_valid_and_means_what_was_said() {
    let said = |name: &str, or: u64| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("chart/values.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let files = said("BERTH_TEST_FILES", 1000);
    let (accepted, seen) = generated::hold(&schema, said("BERTH_TEST_SEED", 1), files);
    println!("{accepted} of {files} files were accepted");
    let mut wanted = BTreeSet::new();
    keys(&schema, &schema, "", &mut wanted);
    let unseen: Vec<&String> = wanted
        .iter()
        .filter(|key| !seen.contains(key.rsplit(['.', ']']).next().unwrap()))
        .collect();
    assert!(unseen.is_empty(), "no file that was accepted has {unseen:?}");
    // Else nothing was tried.
    assert!(accepted * 5 >= files * 2, "{accepted} of {files}");
}

/// Places of all that is no map, as JSON pointers.
fn leaves(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(
                    value,
                    format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, format!("{place}/{index}"), found);
            }
        }
        _ => found.push(place),
    }
}

/// Keys of the schema as the README's table writes them.
fn keys(schema: &Value, node: &Value, path: &str, found: &mut BTreeSet<String>) {
    let resolved = |node: &Value| match node["$ref"].as_str() {
        Some(name) => schema["definitions"][name.rsplit('/').next().unwrap()].clone(),
        None => node.clone(),
    };
    for (key, value) in node["properties"].as_object().into_iter().flatten() {
        let (here, value) = (format!("{path}{key}"), resolved(value));
        match key.as_str() {
            "vmlist" => {
                found.insert(here);
                keys(schema, &schema["definitions"]["vm"], "vmlist.NAME.", found);
            }
            "disks" => keys(schema, &value["items"], &format!("{here}[]."), found),
            "resources" | "net_resources" | "affinity" | "dnsConfig" => drop(found.insert(here)),
            _ if value["properties"].is_object() => {
                keys(schema, &value, &format!("{here}."), found);
            }
            _ => drop(found.insert(here)),
        }
    }
}

#[test]
fn the_readme_has_every_value_and_values_yaml_every_default() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("chart");
    let read = |name: &str| std::fs::read_to_string(chart.join(name)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut wanted = BTreeSet::new();
    keys(&schema, &schema, "", &mut wanted);
    let readme = read("README.md");
    let table: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?.split_once("` |").map(|(key, _)| key.to_owned())
        })
        .filter(|key| key != "net")
        .collect();
    assert_eq!(table, wanted);
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    for key in wanted.iter().filter(|key| !key.contains("NAME")) {
        assert!(
            values.pointer(&format!("/{}", key.replace('.', "/"))).is_some(),
            "{key} has no default"
        );
    }
    // Keys of the schema are used by the templates, and every one of them by the largest example.
    let example: Value = serde_saphyr::from_str(
        &std::fs::read_to_string(chart.parent().unwrap().join("examples/values/everything.yaml"))
            .unwrap(),
    )
    .unwrap();
    let templates = ["vm.yaml", "_helpers.tpl", "metrics.yaml"]
        .map(|name| read(&format!("templates/{name}")))
        .concat();
    for key in &wanted {
        let last = key.rsplit('.').next().unwrap();
        assert!(templates.contains(last), "{key} is not used");
        let rest =
            key.strip_prefix("vmlist.NAME.").map(|rest| rest.replace("[]", ".0").replace('.', "/"));
        let found = |rest: &str| {
            let vms = example["vmlist"].as_object().unwrap();
            vms.values().any(|vm| vm.pointer(&format!("/{rest}")).is_some())
        };
        assert!(rest.is_none_or(|rest| found(&rest)), "{key} is not in the largest example");
    }
}

#[test]
fn the_chart_is_of_this_version() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("chart/Chart.yaml");
    let chart: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(
        (chart["version"].as_str(), chart["appVersion"].as_str()),
        (Some(env!("CARGO_PKG_VERSION")), Some(env!("CARGO_PKG_VERSION")))
    );
}
