//! Values that charts are known to turn into something else, each with what it has to be.

use std::path::Path;

use serde_json::{Value, json};

use super::engine::Helm;
use super::{VERSIONS, agreement, object, one, pod, variable};

/// What `berth validate` says of values, one finding a line.
fn said(values: &Value) -> String {
    let findings = berth::validate::values(&[&values.to_string()]);
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// Values with one VM that has this at a place below it.
fn with(place: &str, value: Value) -> Value {
    one(|values| put(values, &format!("/vmlist/web{place}"), value))
}

fn put(values: &mut Value, place: &str, value: Value) {
    let mut at = values;
    for key in place.split('/').skip(1) {
        at = match at {
            Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
            map => &mut map[key.replace("~1", "/")],
        };
    }
    *at = value;
}

/// Objects that strict validation, and the model of an API server, have nothing against.
fn valid(helm: &mut Helm, values: &Value) -> Vec<Value> {
    let done = helm.job(&json!({"values": values, "validate": VERSIONS, "rules": true}));
    assert_eq!((&done["error"], &done["invalid"]), (&Value::Null, &json!([])), "{values}");
    assert!(!said(values).contains("[E]"), "{}", said(values));
    done["objects"].as_array().unwrap().clone()
}

/// Refused by both, and the words are in what `berth validate` says.
fn refused(helm: &mut Helm, values: &Value, words: &str) {
    let error = helm.job(&json!({"values": values}))["error"].clone();
    assert!(error.is_string(), "Helm takes {values}");
    let said = said(values);
    assert!(
        said.lines().any(|line| line.contains("[E]") && line.contains(words)),
        "{words}: {said}"
    );
}

#[test]
fn whole_numbers_are_written_as_said_and_others_are_refused_as_text() {
    let mut helm = Helm::start();
    let values = with(
        "/env",
        json!({"A": 12_345_678, "B": 21_474_836_480_u64, "C": -1, "D": "1.10", "E": true}),
    );
    let objects = valid(&mut helm, &values);
    let container = &pod(&objects, "web")["containers"][0];
    for (name, wanted) in
        [("A", "12345678"), ("B", "21474836480"), ("C", "-1"), ("D", "1.10"), ("E", "true")]
    {
        assert_eq!(variable(container, name).as_deref(), Some(wanted), "{name}");
    }
    let negative = one(|values| {
        values["labels"] = json!({"node_selector_key": "k", "node_selector_value": -1});
    });
    refused(&mut helm, &negative, "labels.node_selector_value: -1 is out of range");
    refused(&mut helm, &with("/env", json!({"B": 1.1})), "env.B: this is 1.1, and has to be");
    refused(&mut helm, &with("/env", json!({"B": 9_007_199_254_740_993_u64})), "out of range");
    for (value, wanted) in [
        (json!(12_345_678), "12345678"),
        (json!(true), "true"),
        (json!(false), "false"),
        (json!("1e5"), "1e5"),
        (Value::Null, ""),
    ] {
        let values = one(|values| {
            values["labels"] = json!({"node_selector_key": "k", "node_selector_value": value});
        });
        let objects = valid(&mut helm, &values);
        assert_eq!(pod(&objects, "web")["nodeSelector"], json!({"k": wanted}));
        let test = object(&objects, "Pod", "berth-selftest-release");
        assert_eq!(test["spec"]["nodeSelector"], json!({"k": wanted}));
    }
    let objects = valid(&mut helm, &with("/vmconfig/rootfs/pvc_size", json!(5_368_709_120_u64)));
    let claim = object(&objects, "PersistentVolumeClaim", "web");
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5368709120");
}

#[test]
fn a_null_is_as_if_it_was_not_said() {
    let mut helm = Helm::start();
    let wanted = helm.objects(&json!({"values": one(|_| {})}));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("chart/values.yaml");
    let defaults: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut places: Vec<String> =
        defaults.as_object().unwrap().keys().map(|key| format!("/{key}")).collect();
    for map in ["images", "labels", "devices"] {
        places.extend(defaults[map].as_object().unwrap().keys().map(|key| format!("/{map}/{key}")));
    }
    for place in places.into_iter().filter(|place| place != "/vmlist") {
        let values = one(|values| put(values, &place, Value::Null));
        assert_eq!(valid(&mut helm, &values), wanted, "{place}");
    }
    // So is one in a VM: it is as without it, or refused where something is needed.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/values/everything.yaml");
    let example: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut places = Vec::new();
    maps(&example["vmlist"], "/vmlist", &mut places);
    let mut taken = 0;
    for place in &places {
        let (mut emptied, mut without) = (example.clone(), example.clone());
        put(&mut emptied, place, Value::Null);
        let (parent, key) = place.rsplit_once('/').unwrap();
        without
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .shift_remove(&key.replace("~1", "/"));
        let done = helm.job(&json!({"values": emptied}));
        agreement(&emptied.to_string(), &done["error"], place);
        let without = helm.job(&json!({"values": without}));
        if done["error"].is_null() {
            taken += 1;
            assert_eq!(done["objects"], without["objects"], "{place}");
        }
        // Kubernetes's own maps are as Kubernetes has them.
        let theirs = place.contains("/pod/") || place.contains("/networkPolicy/");
        assert!(
            theirs || done["error"].is_null() == without["error"].is_null(),
            "{place}: {}",
            done["error"]
        );
    }
    assert!(taken > 60, "{taken} of {}", places.len());
}

/// Places of all that is in maps below maps.
fn maps(value: &Value, place: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let place = format!("{place}/{}", key.replace('/', "~1"));
        maps(value, &place, found);
        found.push(place);
    }
}

#[test]
fn names_that_look_like_numbers_or_truths_stay_text() {
    let mut helm = Helm::start();
    for name in ["123", "no", "yes", "1e5", "0x1f", "null", "y", "on", "022", "true"] {
        let mut values = one(|_| {});
        values["vmlist"] = json!({name: values["vmlist"]["web"]});
        let objects = valid(&mut helm, &values);
        object(&objects, "PersistentVolumeClaim", name);
        assert_eq!(pod(&objects, name)["containers"][0]["name"], *name);
        assert_eq!(pod(&objects, name)["volumes"][0]["persistentVolumeClaim"]["claimName"], *name);
    }
    for port in ["y", "on", "no", "1e5", "0x1f", "null"] {
        let values = with("/netconfig", json!({"ports": {port: 22}, "service": {"enabled": true}}));
        let objects = valid(&mut helm, &values);
        assert_eq!(object(&objects, "Service", "berth-web")["spec"]["ports"][0]["name"], *port);
        assert_eq!(pod(&objects, "web")["containers"][0]["ports"][0]["name"], *port);
    }
    refused(&mut helm, &with("/netconfig", json!({"ports": {"8080": 22}})), "it needs a letter");
    refused(&mut helm, &with("/netconfig", json!({"ports": {"a--b": 22}})), "no two - in a row");
    // Helm alone makes them another name without a word.
    for (text, read) in [("no", "false"), ("y", "true"), ("0x1f", "31"), ("1e5", "100000")] {
        let text = format!("vmlist:\n  {text}: {{enabled: false}}\n");
        let findings = berth::validate::values(&[&text]);
        assert!(
            findings[0].message.contains(&format!("as {read}: put it in quotes")),
            "{findings:?}"
        );
    }
}

#[test]
fn maps_of_text_hold_text_alone() {
    let mut helm = Helm::start();
    for place in
        ["/pod/annotations", "/pod/labels", "/pod/nodeSelector", "/netconfig/service/annotations"]
    {
        for value in [json!(true), json!(60), json!(1.5), json!([]), json!({})] {
            refused(&mut helm, &with(place, json!({"a": value})), "text");
        }
        valid(&mut helm, &with(place, json!({"a": "true", "example.com/b": "60"})));
    }
    let secrets = |name: Value| one(|values| values["imagePullSecrets"] = json!([{"name": name}]));
    refused(&mut helm, &secrets(json!(1)), "has to be text");
    valid(&mut helm, &secrets(json!("1")));
}

/// A value that goes on after what it was meant to be says something else.
#[test]
fn nothing_is_said_by_the_end_of_a_value() {
    let mut helm = Helm::start();
    for text in ["a: b", "c, readOnly: true", "c, optional: true", "c #x", "a}", "A", ""] {
        for place in [
            "/vmconfig/rootfs/existing_claim",
            "/cloudconfig/existingConfigMap",
            "/cloudconfig/existingSecret",
        ] {
            refused(&mut helm, &with(place, json!(text)), place.rsplit('/').next().unwrap());
        }
        if text != "A" {
            refused(
                &mut helm,
                &with("/netconfig/vnc", json!({"passwordSecret": "s", "passwordKey": text})),
                "passwordKey",
            );
        }
    }
    refused(
        &mut helm,
        &one(|values| values["images"]["vmrunner"] = json!("reg/berth:1 #x")),
        "images.vmrunner",
    );
    refused(&mut helm, &with("/env", json!({"A B": "x"})), "a variable's name");
    for name in ["true", "123", "1e5", "no"] {
        let values = one(|values| {
            values["images"]["vmrunner"] = json!(name);
            let web = &mut values["vmlist"]["web"];
            web["vmconfig"]["rootfs"]["existing_claim"] = json!(name);
            web["cloudconfig"] = json!({"existingConfigMap": name});
            web["netconfig"]["vnc"] = json!({"passwordSecret": name, "passwordKey": name});
            web["env"] = json!({"on": name});
        });
        let objects = valid(&mut helm, &values);
        let pod = pod(&objects, "web");
        let container = &pod["containers"][0];
        assert_eq!(
            pod["volumes"][0],
            json!({"name": "image", "persistentVolumeClaim": {"claimName": name}})
        );
        assert_eq!(pod["volumes"][1], json!({"name": "cloudconfig", "configMap": {"name": name}}));
        assert_eq!(variable(container, "BERTH_VNC_PASSWORD_FILE"), Some(format!("/vnc/{name}")));
        assert_eq!(
            (variable(container, "on").as_deref(), &container["image"]),
            (Some(name), &json!(name))
        );
    }
    // Kubernetes would put another variable there.
    let values = one(|values| {
        values["vmlist"]["web"]["env"] = json!({"A": "$(BERTH_NAME) $$ $HOME"});
        values["vmlist"]["web"]["qemu_args"] = json!(["$(BERTH_NAME)", "$a"]);
    });
    let objects = valid(&mut helm, &values);
    let container = &pod(&objects, "web")["containers"][0];
    assert_eq!(variable(container, "A").as_deref(), Some("$$(BERTH_NAME) $$$$ $$HOME"));
    assert_eq!(container["args"], json!(["vm", "--", "$$(BERTH_NAME)", "$a"]));
}

#[test]
fn a_port_has_the_protocol_that_its_service_has() {
    let mut helm = Helm::start();
    let net = json!({
        "ports": {"dns": 53, "dns-tcp": 53},
        "service": {"enabled": true, "type": "NodePort", "protocols": {"dns": "UDP"}, "nodePorts": {"dns-tcp": 30053}},
        "networkPolicy": {"enabled": true, "ingress": [{"ports": [{"port": "dns", "protocol": "UDP"}]}]},
    });
    let objects = valid(&mut helm, &with("/netconfig", net));
    assert_eq!(
        pod(&objects, "web")["containers"][0]["ports"],
        json!([
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ])
    );
    assert_eq!(
        object(&objects, "Service", "berth-web")["spec"]["ports"],
        json!([
            {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP", "nodePort": 30053},
        ])
    );
    let net = json!({"ports": {"dns": 53}, "networkPolicy": {"ingress": [{"ports": [{"port": "dns", "protocol": "UDP"}]}]}});
    assert!(
        said(&with("/netconfig", net))
            .contains("no port is called dns with UDP, so this finds nothing")
    );
}

/// What no schema can see, Helm and `berth validate` refuse in the same words.
#[test]
fn what_does_not_go_together_is_refused_in_the_same_words() {
    let mut helm = Helm::start();
    let ports = json!({"a": 53, "b": 53});
    let service = |extra: Value| {
        let mut service = json!({"enabled": true, "type": "NodePort"});
        service.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        with("/netconfig", json!({"ports": {"ssh": 22, "dns": 53}, "service": service}))
    };
    let mut called_net = one(|_| {});
    called_net["vmlist"] = json!({"net": called_net["vmlist"]["web"]});
    let mut twice = service(json!({"nodePorts": {"ssh": 30_022}}));
    twice["vmlist"]["web2"] = twice["vmlist"]["web"].clone();
    let spread = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    for (values, words) in [
        (called_net.clone(), "vmlist.net: the container of the network is called net too"),
        (
            with("/netconfig", json!({"ports": ports})),
            "vmlist.web.netconfig.ports.b: 53/TCP is a already",
        ),
        (
            service(json!({"protocols": {"dsn": "UDP"}})),
            "service.protocols.dsn: there is no port of this name",
        ),
        (
            service(json!({"nodePorts": {"dsn": 30_053}})),
            "service.nodePorts.dsn: there is no port of this name",
        ),
        (
            service(json!({"nodePorts": {"ssh": 30_022, "dns": 30_022}})),
            "30022/TCP of the nodes is vmlist.web.netconfig",
        ),
        (
            twice,
            "vmlist.web2.netconfig.service.nodePorts.ssh: 30022/TCP of the nodes is vmlist.web.netconfig",
        ),
        (
            with("/netconfig", json!({"ports": {"ssh": null}, "service": {"enabled": true}})),
            "vmlist.web.netconfig.ports: a service needs some",
        ),
        (
            with("/disks", json!([{"name": "a", "claim": "b"}, {"name": "a", "claim": "c"}])),
            "vmlist.web.disks[1].name: a is there already",
        ),
        (
            with("/resources", json!({"requests": {"squat.ai/kvm": 2}})),
            "vmlist.web.resources.requests.squat.ai/kvm: the chart asks for this device itself",
        ),
        (
            with("/resources", json!({"requests": {"hugepages-2Mi": "1Gi"}})),
            "requests.hugepages-2Mi: this is requested as it is limited",
        ),
        (
            with("/cloudconfig", json!({"userdata": format!("#!{}", "x".repeat(1_048_576))})),
            "vmlist.web.cloudconfig: these are 1048578 octets, and a ConfigMap holds 1048576",
        ),
        (
            with("/pod", json!({"topologySpreadConstraints": [spread, spread]})),
            "topologySpreadConstraints[1]: there is one of this topologyKey",
        ),
        (
            one(|values| values["net_resources"]["limits"]["squat.ai/tun"] = json!(1)),
            "net_resources.limits.squat.ai/tun: the chart asks for this device itself",
        ),
    ] {
        let error =
            helm.job(&json!({"values": values}))["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(words), "{words}: {error}");
        refused(&mut helm, &values, words);
        // The words of both are the same to their end.
        let line = said(&values).lines().find(|line| line.contains(words)).unwrap().to_owned();
        assert!(error.contains(line.split_once("[E] ").unwrap().1), "{line}: {error}");
    }
    called_net["vmlist"]["net"]["single"] = json!(true);
    valid(&mut helm, &called_net);
    valid(
        &mut helm,
        &with("/cloudconfig", json!({"userdata": format!("#!{}", "x".repeat(1_048_570))})),
    );
    // What a schema can see, it does.
    for (values, words) in [
        (
            with("/pod", json!({"labels": {"app": "web", "vm": "other"}})),
            "pod.labels.app: the chart sets this itself",
        ),
        (
            with("/pod", json!({"annotations": {"checksum/cloudconfig": "x"}})),
            "the chart sets this itself",
        ),
        (service(json!({"headless": true})), "headless: only a ClusterIP can be"),
        (
            service(json!({"type": "ClusterIP", "nodePorts": {"ssh": 30_022}})),
            "nodePorts and externalTrafficPolicy need",
        ),
        (
            service(json!({"loadBalancerClass": "a/b"})),
            "loadBalancerClass needs type: LoadBalancer",
        ),
        (service(json!({"nodePorts": {"ssh": 70_000}})), "out of range"),
        (with("/pod", json!({"dnsPolicy": "None"})), "needs nameservers"),
        (
            with("/pod", json!({"tolerations": [{"key": "a", "operator": 5}]})),
            "is none of Exists, Equal",
        ),
        (
            with("/pod", json!({"tolerations": [{"tolerationSeconds": 5, "key": "a"}]})),
            "effect: this is missing",
        ),
        (with("/pod", json!({"affinity": {"nodeAffinty": {}}})), "did you mean nodeAffinity?"),
        (with("/pod", json!({"dnsConfig": {"nameservers": ["ns"]}})), "nameservers[0]"),
        (
            with("/netconfig/networkPolicy", json!({"ingress": [{"from": [{"podselector": {}}]}]})),
            "podSelector",
        ),
        (
            with(
                "/netconfig/networkPolicy",
                json!({"ingress": [{"ports": [{"port": "a", "endPort": 2}]}]}),
            ),
            "endPort needs",
        ),
        (
            with("/netconfig/networkPolicy", json!({"ingress": [{"ports": [{"port": "22"}]}]})),
            "ports[0].port: \"22\" is not a port's name: it needs a letter",
        ),
        (
            with("/netconfig/networkPolicy", json!({"egress": [{"ports": [{"port": "a--b"}]}]})),
            "has no two - in a row",
        ),
        (with("/netconfig/reserved_ports", json!("99999/tcp")), "reserved_ports"),
        (with("/netconfig/gateway_ports", json!("15020/icmp")), "gateway_ports"),
        (with("/netconfig/metadata_address", json!("reject")), "metadata_address"),
        (with("/netconfig/ipv4", json!("off")), "ipv4: \"off\" is none of nat, own"),
        (with("/netconfig/ipv6", json!("slaac")), "ipv6: \"slaac\" is none of auto, off, own, nat"),
        (with("/netconfig/ipv6", json!(true)), "ipv6: true is none of auto, off, own, nat"),
        (service(json!({"ipFamilies": ["IPv5"]})), "is none of IPv4, IPv6"),
        (
            service(json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv6"]})),
            "ipFamilies[1]",
        ),
        (
            service(json!({"ipFamilies": ["IPv4", "IPv6"]})),
            "two ipFamilies need ipFamilyPolicy: PreferDualStack or RequireDualStack",
        ),
        (
            service(json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]})),
            "two ipFamilies need ipFamilyPolicy: PreferDualStack or RequireDualStack",
        ),
        (with("/netconfig/mac", json!("53:54:00:00:00:01")), "is not a MAC address"),
        (with("/vmconfig/rootfs/pvc_size", json!(0)), "out of range"),
        (with("/vmconfig/rootfs/pvc_size", json!("0Gi")), "more than nothing"),
        (with("/vmconfig/rootfs/pvc_size", json!("10m")), "more than nothing"),
        (
            with("/cloudconfig", json!({"userdata": "#!x", "existingConfigMap": "c"})),
            "those that stand here would be dropped",
        ),
        (
            with("/cloudconfig", json!({"userdata": "#!x", "keys": ["networkdata"]})),
            "and there is neither",
        ),
    ] {
        refused(&mut helm, &values, words);
    }
}

#[test]
fn what_helm_alone_cannot_see_validate_says() {
    for (values, words) in [
        (
            with(
                "/resources",
                json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1024Mi"}}),
            ),
            "[E] vmlist.web.resources.requests.memory: more is requested than the limit, 1024Mi",
        ),
        (
            one(|values| values["net_resources"]["requests"]["memory"] = json!("128Mi")),
            "[E] net_resources.requests.memory: more is requested than the limit, 64Mi",
        ),
        (
            with("/resources", json!({"limits": {"memory": "512Mi"}})),
            "[W] vmlist.web.resources.limits.memory: the guest alone",
        ),
        (
            with("/resources", json!({"requests": {"memory": "512Mi"}})),
            "[W] vmlist.web.resources.requests.memory: this is the limit too, and the guest alone",
        ),
        (with("/resources", json!({"limits": {"a.b/c": 0.5}})), "in whole numbers"),
        (
            with("/resources", json!({"limits": {"hugepages-2Mi": "3Mi"}})),
            "[E] vmlist.web.resources.limits.hugepages-2Mi: these are no whole pages",
        ),
        (one(|values| values["log"] = json!("loud")), "[E] log: \"loud\" is refused at start"),
        (
            with("/env", json!({"BERTH_VNC": 2})),
            "[E] vmlist.web.env.BERTH_VNC: \"2\" is refused at start",
        ),
        (
            with("/env", json!({"BERTH_MTU": "14e2"})),
            "[E] vmlist.web.env.BERTH_MTU: \"14e2\" is refused at start",
        ),
        (with("/env", json!({"VM_IP": "10.0.0.2"})), "refused at start"),
        (with("/env", json!({"IMG_VCPU": 3})), "[W] vmlist.web.env.IMG_VCPU: this goes before"),
        (
            with("/vmconfig/rootfs/pvc_size", json!("5")),
            "[W] vmlist.web.vmconfig.rootfs.pvc_size: this is less than 1Mi",
        ),
        (
            with("/cloudconfig", json!({"userDataBase64": "IyE="})),
            "[W] vmlist.web.cloudconfig.userDataBase64: unknown key",
        ),
        (
            with(
                "/netconfig/networkPolicy",
                json!({"ingress": [{"ports": [{"port": 9, "endPort": 8}]}]}),
            ),
            "the range ends before it begins",
        ),
        (
            with(
                "/netconfig/networkPolicy",
                json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]}]}),
            ),
            "this is no part of 10.0.0.0/8",
        ),
    ] {
        assert!(said(&values).contains(words), "{words}: {}", said(&values));
    }
    // Two files say together what neither says alone.
    assert!(
        !said(&with("/env", json!({"VM_IP": "10.0.0.2", "VM_GW": "10.0.0.1"}))).contains("[E]")
    );
    let vm = "vmlist: {web: {enabled: true, vmconfig: {cpu: {vcpu: 1, ram_mb: 512}, rootfs: {sourceurl: /a, pvc_size: 1Gi}}";
    for (rest, warned) in [
        (
            "netconfig: {ports: {ssh: 022}}",
            "ports.ssh: Helm reads 022 as 18: write it without the leading zero",
        ),
        ("grace_seconds: 060", "grace_seconds: Helm reads 060 as 48: write it"),
        ("grace_seconds: 0090", "grace_seconds: Helm reads 0090 as 90: write it"),
        ("env: {A: 0755}", "env.A: Helm reads 0755 as 493"),
        ("env: {A: 1_000}", "env.A: Helm reads 1_000 as 1000: put it in quotes"),
        ("env: {A: 1.0}", "env.A: Helm reads 1.0 as 1: put it in quotes"),
        ("env: {A: off}", "env.A: Helm reads off as false: put it in quotes"),
    ] {
        let findings = berth::validate::values(&[&format!("{vm}, {rest}}}}}")]);
        assert!(findings.len() == 1 && findings[0].to_string().contains(warned), "{findings:?}");
    }
}

/// What the VM says goes over what is computed, and neither half is lost.
#[test]
fn resources_are_merged_over_the_computed_ones() {
    let mut helm = Helm::start();
    let devices = json!({"squat.ai/tun": 1, "squat.ai/kvm": 1});
    for (said, requests, limits) in [
        (json!({}), json!({"cpu": "500m", "memory": "1408Mi"}), json!({"memory": "1408Mi"})),
        (
            json!({"requests": {"cpu": 2}}),
            json!({"cpu": "2", "memory": "1408Mi"}),
            json!({"memory": "1408Mi"}),
        ),
        (
            json!({"requests": {"cpu": 0.5}}),
            json!({"cpu": "0.5", "memory": "1408Mi"}),
            json!({"memory": "1408Mi"}),
        ),
        (
            json!({"requests": {"memory": 2e9}}),
            json!({"cpu": "500m", "memory": "2000000000"}),
            json!({"memory": "2000000000"}),
        ),
        (
            json!({"requests": {"memory": "2e9"}}),
            json!({"cpu": "500m", "memory": "2e9"}),
            json!({"memory": "2e9"}),
        ),
        (
            json!({"limits": {"memory": "9Gi"}}),
            json!({"cpu": "500m", "memory": "9Gi"}),
            json!({"memory": "9Gi"}),
        ),
        (
            json!({"limits": {"cpu": 0}}),
            json!({"cpu": "0", "memory": "1408Mi"}),
            json!({"cpu": "0", "memory": "1408Mi"}),
        ),
        (
            json!({"limits": {"memory": 0}}),
            json!({"cpu": "500m", "memory": "0"}),
            json!({"memory": "0"}),
        ),
        (
            json!({"limits": {"cpu": "250m"}}),
            json!({"cpu": "250m", "memory": "1408Mi"}),
            json!({"cpu": "250m", "memory": "1408Mi"}),
        ),
        (
            json!({"requests": {"ephemeral-storage": "1Gi"}}),
            json!({"cpu": "500m", "memory": "1408Mi", "ephemeral-storage": "1Gi"}),
            json!({"memory": "1408Mi", "ephemeral-storage": "1Gi"}),
        ),
        (
            json!({"limits": {"ephemeral-storage": "1Mi"}}),
            json!({"cpu": "500m", "memory": "1408Mi", "ephemeral-storage": "1Mi"}),
            json!({"memory": "1408Mi", "ephemeral-storage": "1Mi"}),
        ),
        (
            json!({"requests": {"memory": "1Gi", "cpu": null}, "limits": {"memory": "9Gi", "a.b/c": 1}}),
            json!({"cpu": "500m", "memory": "1Gi"}),
            json!({"memory": "9Gi", "a.b/c": "1"}),
        ),
    ] {
        let objects = valid(&mut helm, &with("/resources", said.clone()));
        let found = &pod(&objects, "web")["containers"][0]["resources"];
        let (mut requests, mut limits) = (requests, limits);
        limits.as_object_mut().unwrap().extend(devices.as_object().unwrap().clone());
        for (kind, usual) in [(&mut requests, "16Mi"), (&mut limits, "128Mi")] {
            kind.as_object_mut().unwrap().entry("ephemeral-storage").or_insert(json!(usual));
        }
        assert_eq!(found, &json!({"requests": requests, "limits": limits}), "{said}");
    }
}

#[test]
fn a_vm_that_is_not_running_keeps_all_that_is_its_own() {
    let mut helm = Helm::start();
    let running = helm.objects(
        &json!({"values": with("/netconfig", json!({"ports": {"a": 1}, "service": {"enabled": true}}))}),
    );
    for (said, replicas) in [(json!(true), 1), (json!(false), 0), (Value::Null, 1)] {
        let mut values =
            with("/netconfig", json!({"ports": {"a": 1}, "service": {"enabled": true}}));
        values["vmlist"]["web"]["running"] = said;
        let mut objects = valid(&mut helm, &values);
        let deployment = objects.iter_mut().find(|object| object["kind"] == "Deployment").unwrap();
        assert_eq!(deployment["spec"]["replicas"], replicas);
        deployment["spec"]["replicas"] = json!(1);
        assert_eq!(objects, running);
    }
    refused(&mut helm, &with("/running", json!("no")), "has to be true or false");
    let notes = |helm: &mut Helm, values: &Value| {
        helm.job(&json!({"values": values}))["manifests"]["berth/templates/NOTES.txt"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(notes(&mut helm, &with("/running", json!(false))).contains("is stopped"));
    assert!(notes(&mut helm, &one(|_| {})).contains("berth console"));
}

/// Unknown keys are taken, as the seed's chart took them, but not in silence: where the schema leaves a map open.
#[test]
fn a_key_that_nobody_reads_is_told_by_helm_too() {
    let mut helm = Helm::start();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("chart/values.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut open = Vec::new();
    let mut todo = vec![(String::new(), &schema["definitions"]["vm"])];
    while let Some((place, part)) = todo.pop() {
        for (key, part) in part["properties"].as_object().into_iter().flatten() {
            todo.push((format!("{place}/{key}"), part));
        }
        if part["properties"].is_object() && part["additionalProperties"].is_null() {
            open.push(place);
        }
    }
    assert_eq!(open.len(), 6, "{open:?}");
    for place in open {
        let values = with(&format!("{place}/userDataBase64"), json!("x"));
        let told =
            format!("vmlist.web{}.userDataBase64: unknown key, ignored", place.replace('/', "."));
        let notes = &helm.job(&json!({"values": values}))["manifests"]["berth/templates/NOTES.txt"];
        assert!(notes.as_str().unwrap().contains(&told), "{notes}");
        assert!(said(&values).contains(&told), "{}", said(&values));
    }
    // Every key that is read is known.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/values/everything.yaml");
    let done = helm.job(&json!({"yaml": std::fs::read_to_string(path).unwrap()}));
    let notes = done["manifests"]["berth/templates/NOTES.txt"].as_str().unwrap();
    assert!(!notes.contains("nobody"), "{notes}");
}

/// `berth validate a.yaml b.yaml` judges what `helm --values a.yaml --values b.yaml` renders.
#[test]
fn files_are_merged_before_they_are_judged() {
    let mut helm = Helm::start();
    let vm = "vmlist: {web: {enabled: true, single: true, vmconfig: {cpu: {vcpu: 1, ram_mb: 512}, \
              rootfs: {sourceurl: /a, pvc_size: 1Gi}}, env: {A: x}}}";
    for (files, error) in [
        (vec!["accel: tcg", vm], ""),
        (vec!["accel: tcg"], ""),
        (vec![vm, "vmlist: {web: {vmconfig: {cpu: {vcpu: 4}}}}"], ""),
        (vec![vm, "vmlist: {web: {vmconfig: {cpu: {vcpu: four}}}}"], "vcpu"),
        (vec!["vmlist: {web: {vmconfig: {cpu: {vcpu: four}}}}", vm], ""),
        (vec![vm, "vmlist: {web: {single: null, env: {A: null}}}"], ""),
        (
            vec![vm, "vmlist: {web: {vmconfig: {rootfs: {pvc_size: null}}}}"],
            "pvc_size or existing_claim",
        ),
        (vec![vm, "vmlist: {web: null}"], ""),
        (vec![vm, "vmlist: null"], ""),
        (vec![vm, "overhead_mb: null", "overhead_mb: none"], "overhead_mb"),
        (vec![vm, "vmlist: {net: {enabled: true}}"], "vmconfig"),
        (vec![vm, ""], ""),
        (vec![vm, "a: b\n- c"], "YAML"),
    ] {
        let done = helm.job(&json!({"yaml": files}));
        let findings = berth::validate::values(&files);
        let wrong: Vec<String> = findings
            .iter()
            .filter(|finding| finding.to_string().contains("[E]"))
            .map(ToString::to_string)
            .collect();
        assert_eq!(done["error"].is_string(), !error.is_empty(), "{files:?}: {}", done["error"]);
        assert_eq!(wrong.is_empty(), error.is_empty(), "{files:?}: {wrong:?}");
        assert!(wrong.concat().contains(error), "{error}: {wrong:?}");
    }
    // A mistake is told with the file that it stands in.
    let findings = berth::validate::values(&["accel: tcg", vm, "\nvmlist: {web: {single: 5}}"]);
    assert_eq!((findings.len(), findings[0].at.file, findings[0].at.line), (1, 2, 2));
}
