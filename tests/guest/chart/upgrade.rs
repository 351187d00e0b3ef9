//! `helm upgrade`: what of an object may not change, and the seed's objects that are there already. Which fields those are
//! is in api.py.

use std::path::Path;

use serde_json::{Value, json};

use super::engine::Helm;
use super::{leaves, one};

/// Of the chart's README.
fn section(title: &str) -> String {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("chart/README.md"))
            .unwrap();
    let (_, rest) = text.split_once(title).unwrap_or_else(|| panic!("{title} is not there"));
    rest.split("\n## ").next().unwrap().to_owned()
}

fn immutable(helm: &mut Helm, old: &Value, new: &Value) -> Value {
    let old = helm.objects(&json!({"values": old}));
    let done = helm.job(&json!({"values": new, "from": old}));
    assert_eq!(done["error"], Value::Null, "{new}");
    done["immutable"].clone()
}

/// Each value of the largest example taken away and put back: no field that may not change does, but for those of the
/// table in the chart's README.
#[test]
fn an_upgrade_changes_no_immutable_field_but_those_the_readme_names() {
    let mut helm = Helm::start();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/values/everything.yaml");
    let full: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut places = Vec::new();
    leaves(&full, String::new(), &mut places);
    let (mut tried, mut changed) = (0, Vec::new());
    let whole = helm.objects(&json!({"values": full}));
    for place in places {
        let mut less = full.clone();
        *less.pointer_mut(&place).unwrap() = Value::Null;
        let forth = helm.job(&json!({"values": less, "from": whole}));
        // What is needed cannot be taken away.
        if forth["error"].is_string() {
            continue;
        }
        tried += 1;
        let back = helm.job(&json!({"values": full, "from": forth["objects"]}));
        assert_eq!(forth["immutable"], back["immutable"], "{place}");
        for field in forth["immutable"].as_array().unwrap() {
            changed.push(format!(
                "{}: {}",
                place.rsplit('/').next().unwrap(),
                field.as_str().unwrap()
            ));
        }
    }
    assert!(tried > 60, "{tried}");
    assert_eq!(
        changed,
        [
            "pvc_class: PersistentVolumeClaim db storageClassName",
            "pvc_access: PersistentVolumeClaim db accessModes",
            "loadBalancerClass: Service berth-db loadBalancerClass",
        ]
    );
    let readme = section("## What an upgrade may not change");
    for (place, old, new, field) in [
        (
            "/vmconfig/rootfs/pvc_size",
            json!("5Gi"),
            json!("4Gi"),
            "PersistentVolumeClaim web resources.requests.storage",
        ),
        (
            "/vmconfig/rootfs/pvc_class",
            json!("a"),
            json!("b"),
            "PersistentVolumeClaim web storageClassName",
        ),
        (
            "/vmconfig/rootfs/pvc_mode",
            json!("Block"),
            json!("Filesystem"),
            "PersistentVolumeClaim web volumeMode",
        ),
        (
            "/vmconfig/rootfs/pvc_access",
            json!("ReadWriteMany"),
            json!("ReadWriteOnce"),
            "PersistentVolumeClaim web accessModes",
        ),
        ("/netconfig/service/headless", json!(true), json!(false), "Service berth-web clusterIP"),
        (
            "/netconfig/service/loadBalancerClass",
            json!("a/b"),
            json!("a/c"),
            "Service berth-web loadBalancerClass",
        ),
        (
            "/netconfig/service/ipFamilies",
            json!(["IPv4"]),
            json!(["IPv6"]),
            "Service berth-web ipFamilies",
        ),
    ] {
        let with = |value: &Value| {
            one(|values| {
                let web = &mut values["vmlist"]["web"];
                let kind = if place.ends_with("Class") { "LoadBalancer" } else { "ClusterIP" };
                web["netconfig"] =
                    json!({"ports": {"a": 1}, "service": {"enabled": true, "type": kind}});
                if let Some(key) = place.strip_prefix("/netconfig/service/") {
                    web["netconfig"]["service"][key] = value.clone();
                } else {
                    web["vmconfig"]["rootfs"][place.rsplit('/').next().unwrap()] = value.clone();
                }
            })
        };
        assert_eq!(immutable(&mut helm, &with(&old), &with(&new)), json!([field]), "{place}");
        let key = place.rsplit('/').next().unwrap();
        assert!(
            readme.contains(&format!("`{key}`")),
            "the README's table of what may not change lacks {key}"
        );
    }
    let grown = |size: &str| {
        one(|values| values["vmlist"]["web"]["vmconfig"]["rootfs"]["pvc_size"] = json!(size))
    };
    assert_eq!(immutable(&mut helm, &grown("5Gi"), &grown("6Gi")), json!([]));
    assert_eq!(immutable(&mut helm, &grown("5Gi"), &grown("5120Mi")), json!([]));
}

/// The seed's objects, as an API server has them today: an `extensions/v1beta1` Deployment without a selector was given its
/// pods' labels as one.
fn seeds(name: &str, labels: &Value) -> Value {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    json!([
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "volumeName": "pv",
            "resources": {"requests": {"storage": "5Gi"}}}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("configmap-cloudconfig-{name}")}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": format!("berth-{name}")}, "spec": {
            "selector": {"matchLabels": labels}, "strategy": rolling,
            "template": {"metadata": {"labels": labels}}}},
    ])
}

#[test]
fn the_seeds_claims_and_config_maps_are_upgraded_in_place_and_its_deployments_by_their_selector() {
    let mut helm = Helm::start();
    let values = one(|_| {});
    let ours = helm.objects(&json!({"values": values}));
    let mut claim = |labels: Value| {
        let mut old = seeds("web", &labels);
        // A volume is bound by the cluster, and no chart says it.
        old[0]["spec"].as_object_mut().unwrap().shift_remove("volumeName");
        helm.job(&json!({"values": values, "from": old}))["immutable"].clone()
    };
    assert_eq!(claim(json!({"app": "berth", "vm": "web"})), json!([]));
    assert_eq!(claim(json!({"app": "berth"})), json!(["Deployment berth-web selector"]));
    assert!(section("## Coming from the seed's chart").contains(".spec.selector.matchLabels"));
    // Objects of the same names are there, and the guest's disk is found by the VM's name.
    for (kind, name) in [
        ("PersistentVolumeClaim", "web"),
        ("ConfigMap", "configmap-cloudconfig-web"),
        ("Deployment", "berth-web"),
    ] {
        super::object(&ours, kind, name);
    }
    let container = &super::pod(&ours, "web")["containers"][0];
    assert_eq!(super::variable(container, "HOSTNAME").as_deref(), Some("web"));
    assert_eq!(super::variable(container, "BERTH_NAME").as_deref(), Some("web"));
}
