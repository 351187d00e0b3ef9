//! Whether each value is found again in the object where it belongs: the chart's meaning, written down once more.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What is not as the values mean it. `values` are as Helm reads them, without the chart's own defaults.
pub fn changed(values: &Value, objects: &[Value]) -> Vec<String> {
    let values = pruned(values);
    let mut check = Check { objects, values: &values, said: Vec::new() };
    let vms = values["vmlist"].as_object().cloned().unwrap_or_default();
    let mut count = 1;
    for (name, vm) in vms.iter().filter(|(_, vm)| vm["enabled"] == true) {
        count += check.vm(name, vm);
    }
    count += check.metrics();
    check.same("number of objects", &json!(objects.len()), &json!(count));
    let test = check.object("Pod", "berth-selftest-release");
    check.pull(&test["spec"], "test pod");
    check.said
}

/// As Kubernetes expands it where no variable is known.
fn expanded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if rest.starts_with('(') && rest.contains(')') {
            out += "<another variable>";
            rest = rest.split_once(')').unwrap().1;
        } else {
            out.push('$');
        }
    }
    out + rest
}

fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), pruned(value)))
            .collect(),
        Value::Array(items) => items.iter().map(pruned).collect(),
        // Whole numbers are written in two ways.
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.as_f64().unwrap().fract() == 0.0 => {
            format!("{:.0}", number.as_f64().unwrap())
        }
        other => other.to_string(),
    }
}

fn of(pairs: &[(&str, &Value)]) -> Value {
    let said = pairs.iter().filter(|(_, value)| !value.is_null());
    Value::Object(said.map(|(key, value)| ((*key).to_owned(), (*value).clone())).collect())
}

struct Check<'a> {
    objects: &'a [Value],
    values: &'a Value,
    said: Vec<String>,
}

impl Check<'_> {
    fn same(&mut self, what: &str, found: &Value, wanted: &Value) {
        let (found, wanted) = (pruned(found), pruned(wanted));
        if found != wanted {
            self.said.push(format!("{what} is {found}, and was said to be {wanted}"));
        }
    }

    fn object(&mut self, kind: &str, name: &str) -> Value {
        let found = self
            .objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.cloned().unwrap_or_else(|| {
            self.said.push(format!("no {kind} {name}"));
            Value::Null
        })
    }

    fn or(&self, own: &Value, key: &str, default: &Value) -> Value {
        [own, &self.values[key], default]
            .into_iter()
            .find(|value| !value.is_null())
            .cloned()
            .unwrap_or_default()
    }

    /// A guest that is suspended has time for its memory, unless it is said how much.
    fn grace(&self, vm: &Value) -> f64 {
        let own = &vm["grace_seconds"];
        let grace = self.or(own, "grace_seconds", &json!(60)).as_f64().unwrap();
        let memory = vm["vmconfig"]["cpu"]["ram_mb"].as_f64().unwrap_or(0.0);
        let saves = own.is_null() && vm["on_stop"] == "suspend";
        if saves { grace.max((60.0 + (memory / 32.0).floor()).min(3600.0)) } else { grace }
    }

    /// Returns how many objects there are of it.
    fn vm(&mut self, name: &str, vm: &Value) -> usize {
        let deployment = self.object("Deployment", &format!("berth-{name}"));
        let spec = &deployment["spec"];
        self.same(
            "replicas",
            &spec["replicas"],
            &json!(if vm["running"] == false { 0 } else { 1 }),
        );
        self.same(
            "selector",
            &spec["selector"],
            &json!({"matchLabels": {"app": "berth", "vm": name}}),
        );
        let (meta, pod) = (&spec["template"]["metadata"], &spec["template"]["spec"]);
        for (key, own) in [("labels", 5), ("annotations", 2)] {
            let said = vm["pod"][key].as_object().cloned().unwrap_or_default();
            let found = meta[key].as_object().unwrap();
            self.same(&format!("number of {key}"), &json!(found.len()), &json!(said.len() + own));
            for (name, value) in &said {
                self.same(&format!("{key} {name}"), &meta[key][name], value);
            }
        }
        self.pod(name, vm, pod);
        self.containers(name, vm, pod);
        let mut objects = 1;
        for made in [
            self.claim(name, vm),
            self.cloud(name, vm),
            self.service(name, vm),
            self.policy(name, vm),
        ] {
            objects += usize::from(made);
        }
        let budget = vm["pod"]["disruptionBudget"]["enabled"] == true;
        if budget {
            self.object("PodDisruptionBudget", &format!("berth-{name}"));
        }
        objects + usize::from(budget)
    }

    fn pull(&mut self, pod: &Value, what: &str) {
        let image = self.or(
            &self.values["images"]["vmrunner"],
            "",
            &json!(format!("berth:{}", env!("CARGO_PKG_VERSION"))),
        );
        let policy = self.or(&Value::Null, "imagePullPolicy", &json!("IfNotPresent"));
        let init = pod["initContainers"].as_array().cloned().unwrap_or_default();
        for container in pod["containers"].as_array().unwrap().iter().chain(&init) {
            self.same(&format!("{what}'s image"), &container["image"], &image);
            self.same(&format!("{what}'s policy"), &container["imagePullPolicy"], &policy);
        }
        let secrets =
            self.values["imagePullSecrets"].as_array().filter(|secrets| !secrets.is_empty());
        self.same(
            &format!("{what}'s secrets"),
            &pod["imagePullSecrets"],
            &secrets.cloned().map_or(Value::Null, Value::Array),
        );
    }

    fn pod(&mut self, name: &str, vm: &Value, pod: &Value) {
        self.pull(pod, name);
        self.same("hostname", &pod["hostname"], &json!(name));
        let grace = json!(self.grace(vm));
        self.same("grace", &pod["terminationGracePeriodSeconds"], &grace);
        let mut selector = vm["pod"]["nodeSelector"].as_object().cloned().unwrap_or_default();
        let labels = &self.values["labels"];
        if let Some(key) = labels["node_selector_key"].as_str().filter(|key| !key.is_empty()) {
            let value = Some(&labels["node_selector_value"]).filter(|value| !value.is_null());
            selector.insert(key.to_owned(), json!(value.map_or_else(String::new, text)));
        }
        let selector = if selector.is_empty() { Value::Null } else { Value::Object(selector) };
        self.same("nodeSelector", &pod["nodeSelector"], &selector);
        for key in ["affinity", "tolerations", "topologySpreadConstraints", "dnsConfig"]
            .into_iter()
            .chain(["priorityClassName", "runtimeClassName", "schedulerName", "dnsPolicy"])
        {
            let empty = |value: &&Value| **value != json!({}) && **value != json!([]);
            let said = Some(&vm["pod"][key]).filter(empty).cloned().unwrap_or_default();
            self.same(key, &pod[key], &said);
        }
        let groups = Some(&vm["pod"]["supplementalGroups"]).filter(|groups| **groups != json!([]));
        self.same(
            "groups",
            &pod["securityContext"]["supplementalGroups"],
            groups.unwrap_or(&Value::Null),
        );
        let claims: Vec<Value> = pod["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|volume| volume["persistentVolumeClaim"].is_object())
            .map(|volume| json!([volume["name"], volume["persistentVolumeClaim"]]))
            .collect();
        let root =
            Some(&vm["vmconfig"]["rootfs"]["existing_claim"]).filter(|claim| !claim.is_null());
        let mut wanted =
            vec![json!(["image", {"claimName": root.cloned().unwrap_or(json!(name))}])];
        for disk in vm["disks"].as_array().into_iter().flatten() {
            let name = format!("disk-{}", disk["name"].as_str().unwrap());
            wanted.push(json!([name, {"claimName": disk["claim"]}]));
        }
        self.same("claims", &json!(claims), &json!(wanted));
    }

    fn containers(&mut self, name: &str, vm: &Value, pod: &Value) {
        let single = self.or(&vm["single"], "single", &json!(false)) == true;
        let net = pod["initContainers"].as_array().map_or(Value::Null, |init| init[0].clone());
        self.same("sidecar", &json!(net.is_null()), &json!(single));
        let container = &pod["containers"][0];
        self.same("container", &container["name"], &json!(name));
        let mut args = vec![json!(if single { "run" } else { "vm" })];
        args.extend(vm["hostname"].as_str().map(|name| json!(format!("--hostname={name}"))));
        let own = vm["qemu_args"].as_array().cloned().unwrap_or_default();
        args.extend(Some(json!("--")).filter(|_| !own.is_empty()));
        args.extend(own);
        let found: Vec<String> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| expanded(word.as_str().unwrap()))
            .collect();
        self.same("arguments", &json!(found), &json!(args));
        let wanted = self.variables(name, vm);
        for container in [container, &net].into_iter().filter(|container| !container.is_null()) {
            let pairs = container["env"].as_array().unwrap().iter().map(|variable| {
                (
                    variable["name"].as_str().unwrap().to_owned(),
                    json!(expanded(variable["value"].as_str().unwrap())),
                )
            });
            let found: Map<String, Value> = pairs.collect();
            self.same("variables", &Value::Object(found), &json!(wanted));
        }
        let protocol = |port: &str| self.protocol(vm, port);
        let ports = vm["netconfig"]["ports"].as_object().cloned().unwrap_or_default();
        let wanted: BTreeMap<&String, Value> = ports
            .iter()
            .map(|(port, number)| {
                (port, json!({"name": port, "containerPort": number, "protocol": protocol(port)}))
            })
            .collect();
        let mut wanted: Vec<Value> = wanted.into_values().collect();
        wanted.extend(self.metrics_port().map(
            |port| json!({"name": "berth-metrics", "containerPort": port, "protocol": "TCP"}),
        ));
        let found = container["ports"].as_array().cloned().unwrap_or_default();
        self.same("container's ports", &json!(found), &json!(wanted));
        let ready = &vm["netconfig"]["readinessTcpProbe"];
        self.same("readiness", &container["readinessProbe"]["tcpSocket"]["port"], ready);
        self.resources(vm, container);
    }

    /// Where Prometheus asks; None: nowhere.
    fn metrics_port(&self) -> Option<u64> {
        let metrics = &self.values["metrics"];
        (metrics["enabled"] == true)
            .then(|| metrics["port"].as_f64().map_or(9177, |port| port as u64))
    }

    /// Returns how many objects there are for Prometheus and Grafana.
    fn metrics(&mut self) -> usize {
        let metrics = &self.values["metrics"];
        let is = |key: &str| metrics[key] == true;
        let wanted = [
            ("PodMonitor", "berth-release", is("enabled") && is("pod_monitor")),
            ("PrometheusRule", "berth-release", is("rules")),
            ("ConfigMap", "berth-dashboard-release", is("dashboard")),
        ];
        for (kind, name, _) in wanted.iter().filter(|(.., wanted)| *wanted) {
            self.object(kind, name);
        }
        wanted.iter().filter(|(.., wanted)| *wanted).count()
    }

    fn protocol(&self, vm: &Value, port: &str) -> Value {
        let said = &vm["netconfig"]["service"]["protocols"][port];
        if said.is_null() { json!("TCP") } else { said.clone() }
    }

    fn variables(&self, name: &str, vm: &Value) -> BTreeMap<String, String> {
        let (cpu, root) = (&vm["vmconfig"]["cpu"], &vm["vmconfig"]["rootfs"]);
        let (net, cloud) = (&vm["netconfig"], &vm["cloudconfig"]);
        let grace = self.grace(vm);
        let vnc = net["vnc"]["enabled"].as_bool().map(|on| json!(if on { "on" } else { "off" }));
        let password = net["vnc"]["passwordSecret"].as_str().map(|_| {
            json!(format!("/vnc/{}", net["vnc"]["passwordKey"].as_str().unwrap_or("password")))
        });
        let web = &net["web"];
        let listen = match &web["listen"] {
            Value::Null => json!("loopback"),
            Value::Bool(_) => json!("off"),
            said => said.clone(),
        };
        let token = web["tokenSecret"]
            .as_str()
            .map(|_| json!(format!("/web/token/{}", web["tokenKey"].as_str().unwrap_or("token"))));
        let readonly = web["readonly"].as_bool().map(|on| json!(if on { "on" } else { "off" }));
        let tls = |file: &str| {
            web["tlsSecret"].as_str().map(|_| json!(format!("/web/tls/{file}"))).unwrap_or_default()
        };
        let file = |key: &str| {
            let keys = cloud["keys"].as_array().cloned().unwrap_or_default();
            let there = cloud[key].as_str().is_some_and(|text| !text.is_empty())
                || keys.contains(&json!(key));
            if there { json!(format!("/cloudconfig/{key}")) } else { Value::Null }
        };
        let mut all: BTreeMap<String, String> = [
            ("BERTH_NAME", json!(name)),
            ("HOSTNAME", json!(name)),
            ("BERTH_LOG", self.or(&Value::Null, "log", &json!("info"))),
            ("IMG_VCPU", cpu["vcpu"].clone()),
            ("IMG_RAM_MB", cpu["ram_mb"].clone()),
            ("BERTH_ACCEL", self.or(&vm["accel"], "accel", &json!("auto"))),
            ("BERTH_CPU", cpu["model"].clone()),
            ("IMG_SOURCE", root["sourceurl"].clone()),
            ("IMG_TARGET", root["localtarget"].clone()),
            ("IMG_SHA256", root["checksum"].clone()),
            ("IMG_MAX_SIZE", root["image_max_size"].clone()),
            ("BERTH_DISK_SIZE", root["disk_size"].clone()),
            ("BERTH_MAC", net["mac"].clone()),
            ("BERTH_RESERVED_PORTS", net["reserved_ports"].clone()),
            ("BERTH_GATEWAY_PORTS", net["gateway_ports"].clone()),
            ("BERTH_METADATA_ADDRESS", net["metadata_address"].clone()),
            ("BERTH_IPV4", net["ipv4"].clone()),
            // `off` without quotes is false.
            ("BERTH_IPV6", if net["ipv6"] == false { json!("off") } else { net["ipv6"].clone() }),
            ("BERTH_VNC", vnc.unwrap_or_default()),
            ("BERTH_VNC_PASSWORD_FILE", password.unwrap_or_default()),
            ("BERTH_WEB", listen),
            ("BERTH_WEB_PORT", web["port"].clone()),
            ("BERTH_WEB_TOKEN_FILE", token.unwrap_or_default()),
            ("BERTH_WEB_READONLY", readonly.unwrap_or_default()),
            ("BERTH_WEB_TLS_CERT", tls("tls.crt")),
            ("BERTH_WEB_TLS_KEY", tls("tls.key")),
            ("BERTH_METADATA", json!("/cloudconfig/metadata")),
            ("BERTH_USERDATA", json!("/cloudconfig/userdata")),
            ("BERTH_VENDORDATA", file("vendordata")),
            ("BERTH_NETWORKDATA", file("networkdata")),
            ("BERTH_SEED_FORMAT", cloud["format"].clone()),
            ("BERTH_GRACE_S", json!(grace - 5.0)),
            ("BERTH_ON_POWEROFF", vm["on_poweroff"].clone()),
            ("BERTH_ON_STOP", vm["on_stop"].clone()),
            ("BERTH_ON_PANIC", vm["on_panic"].clone()),
            ("BERTH_READY", vm["ready"].clone()),
            (
                "BERTH_METRICS",
                self.metrics_port().map_or(Value::Null, |port| json!(format!("pod:{port}"))),
            ),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), text(&value)))
        .collect();
        let own = vm["env"].as_object().cloned().unwrap_or_default();
        all.extend(own.iter().map(|(name, value)| (name.clone(), text(value))));
        all
    }

    fn resources(&mut self, vm: &Value, container: &Value) {
        let (cpu, said) = (&vm["vmconfig"]["cpu"], &vm["resources"]);
        let number = |value: &Value| value.as_f64().unwrap();
        let overhead = number(&self.or(&Value::Null, "overhead_mb", &json!(384)));
        let milli = number(&self.or(&Value::Null, "millicpu_per_vcpu", &json!(250)));
        let memory = json!(format!("{}Mi", number(&cpu["ram_mb"]) + overhead));
        let processors = json!(format!("{}m", number(&cpu["vcpu"]) * milli));
        let first =
            |all: [&Value; 3]| text(all.into_iter().find(|value| !value.is_null()).unwrap());
        let (requests, limits) = (&said["requests"], &said["limits"]);
        let both = [requests, limits].map(|kind| {
            let all = kind.as_object().cloned().unwrap_or_default();
            all.into_iter()
                .map(|(name, amount)| (name, text(&amount)))
                .collect::<BTreeMap<String, String>>()
        });
        let [mut wanted_requests, mut wanted_limits] = both;
        wanted_requests
            .insert("cpu".into(), first([&requests["cpu"], &limits["cpu"], &processors]));
        wanted_requests
            .insert("memory".into(), first([&requests["memory"], &limits["memory"], &memory]));
        wanted_limits
            .insert("memory".into(), first([&limits["memory"], &requests["memory"], &memory]));
        let storage = "ephemeral-storage";
        let (min, max) = (json!("16Mi"), json!("128Mi"));
        wanted_requests.insert(storage.into(), first([&requests[storage], &limits[storage], &min]));
        wanted_limits.insert(storage.into(), first([&limits[storage], &requests[storage], &max]));
        let tcg = self.or(&vm["accel"], "accel", &json!("auto")) == "tcg";
        let devices = &self.values["devices"];
        let tun = text(&self.or(&devices["tun"], "", &json!("squat.ai/tun")));
        let kvm = text(&self.or(&devices["kvm"], "", &json!("squat.ai/kvm")));
        for device in [Some(tun), Some(kvm).filter(|_| !tcg)]
            .into_iter()
            .flatten()
            .filter(|name| name.contains('/'))
        {
            wanted_limits.insert(device, "1".to_owned());
        }
        let wanted = json!({"requests": wanted_requests, "limits": wanted_limits});
        let mut found = container["resources"].clone();
        for kind in found.as_object_mut().unwrap().values_mut() {
            kind.as_object_mut()
                .unwrap()
                .values_mut()
                .for_each(|amount| *amount = json!(text(amount)));
        }
        self.same("resources", &found, &wanted);
    }

    fn claim(&mut self, name: &str, vm: &Value) -> bool {
        let root = &vm["vmconfig"]["rootfs"];
        let made = root["existing_claim"].is_null();
        if made {
            let claim = self.object("PersistentVolumeClaim", name);
            let access = self.or(&root["pvc_access"], "", &json!("ReadWriteOnce"));
            let class =
                Some(&root["pvc_class"]).filter(|class| **class != "").unwrap_or(&Value::Null);
            let wanted = of(&[
                ("accessModes", &json!([access])),
                ("volumeMode", &root["pvc_mode"]),
                ("storageClassName", class),
                ("resources", &json!({"requests": {"storage": text(&root["pvc_size"])}})),
            ]);
            self.same("claim", &claim["spec"], &wanted);
        }
        made
    }

    fn cloud(&mut self, name: &str, vm: &Value) -> bool {
        let cloud = &vm["cloudconfig"];
        let made = cloud["existingConfigMap"].is_null() && cloud["existingSecret"].is_null();
        let pod =
            self.object("Deployment", &format!("berth-{name}"))["spec"]["template"]["spec"].clone();
        let volume = pod["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|volume| volume["name"] == "cloudconfig")
            .cloned();
        let volume = volume.unwrap_or_default();
        let own = format!("configmap-cloudconfig-{name}");
        let map = if made { json!(own) } else { cloud["existingConfigMap"].clone() };
        self.same("ConfigMap's name", &volume["configMap"]["name"], &map);
        self.same("Secret's name", &volume["secret"]["secretName"], &cloud["existingSecret"]);
        if made {
            let object = self.object("ConfigMap", &own);
            let files = ["metadata", "userdata", "vendordata", "networkdata"];
            let said = files
                .into_iter()
                .filter(|file| cloud[file].as_str().is_some_and(|text| !text.is_empty()));
            let wanted: Map<String, Value> =
                said.map(|file| (file.to_owned(), cloud[file].clone())).collect();
            let found = object["data"].as_object().cloned().unwrap_or_default();
            self.same("files", &Value::Object(found), &Value::Object(wanted));
        }
        made
    }

    fn service(&mut self, name: &str, vm: &Value) -> bool {
        let service = &vm["netconfig"]["service"];
        let made = service["enabled"] == true;
        if made {
            let object = self.object("Service", &format!("berth-{name}"));
            self.same(
                "Service's annotations",
                &object["metadata"]["annotations"],
                match &service["annotations"] {
                    Value::Object(map) if map.is_empty() => &Value::Null,
                    said => said,
                },
            );
            let ports: BTreeMap<String, Value> = vm["netconfig"]["ports"]
                .as_object()
                .cloned()
                .unwrap_or_default()
                .into_iter()
                .collect();
            let ports: Vec<Value> = ports
                .into_iter()
                .map(|(port, number)| {
                    of(&[
                        ("name", &json!(port)),
                        ("port", &number),
                        ("targetPort", &number),
                        ("protocol", &self.protocol(vm, &port)),
                        ("nodePort", &service["nodePorts"][&port]),
                    ])
                })
                .collect();
            let families = &service["ipFamilies"];
            let headless = if service["headless"] == true { json!("None") } else { Value::Null };
            let wanted = of(&[
                ("type", &self.or(&service["type"], "", &json!("ClusterIP"))),
                ("clusterIP", &headless),
                ("ipFamilyPolicy", &service["ipFamilyPolicy"]),
                ("ipFamilies", if *families == json!([]) { &Value::Null } else { families }),
                ("externalTrafficPolicy", &service["externalTrafficPolicy"]),
                ("loadBalancerClass", &service["loadBalancerClass"]),
                ("selector", &json!({"app": "berth", "vm": name})),
                ("ports", &json!(ports)),
            ]);
            self.same("Service", &object["spec"], &wanted);
        }
        made
    }

    fn policy(&mut self, name: &str, vm: &Value) -> bool {
        let policy = &vm["netconfig"]["networkPolicy"];
        let made = policy["enabled"] == true;
        if made {
            let object = self.object("NetworkPolicy", &format!("berth-{name}"));
            let ingress =
                if policy["ingress"].is_null() { json!([]) } else { policy["ingress"].clone() };
            self.same("ingress", &object["spec"]["ingress"], &ingress);
            self.same("egress", &object["spec"]["egress"], &policy["egress"]);
        }
        made
    }
}
