//! What stands in two places of the values and has to agree. Where the chart's templates see it too (`_checks.tpl`), the
//! words are theirs; what needs quantities or the launcher's own rules is seen here alone.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::node::{Entry, Node, Value};
use super::quantity::{above, units};
use super::{Finding, Position, Severity};
use crate::config;

/// In octets, as an API server has it.
const CONFIG_MAP_LIMIT: usize = 1_048_576;
const MIB: f64 = 1_048_576.0;

/// What the templates give a VM's containers; `env` goes before it.
pub(super) const VARIABLES: [&str; 37] = [
    "BERTH_NAME",
    "HOSTNAME",
    "BERTH_LOG",
    "IMG_VCPU",
    "IMG_RAM_MB",
    "BERTH_ACCEL",
    "BERTH_CPU",
    "IMG_SOURCE",
    "IMG_TARGET",
    "IMG_SHA256",
    "IMG_MAX_SIZE",
    "BERTH_DISK_SIZE",
    "BERTH_MAC",
    "BERTH_RESERVED_PORTS",
    "BERTH_GATEWAY_PORTS",
    "BERTH_METADATA_ADDRESS",
    "BERTH_IPV4",
    "BERTH_IPV6",
    "BERTH_VNC",
    "BERTH_VNC_PASSWORD_FILE",
    "BERTH_WEB",
    "BERTH_WEB_PORT",
    "BERTH_WEB_TOKEN_FILE",
    "BERTH_WEB_READONLY",
    "BERTH_WEB_TLS_CERT",
    "BERTH_WEB_TLS_KEY",
    "BERTH_METADATA",
    "BERTH_USERDATA",
    "BERTH_VENDORDATA",
    "BERTH_NETWORKDATA",
    "BERTH_SEED_FORMAT",
    "BERTH_GRACE_S",
    "BERTH_ON_POWEROFF",
    "BERTH_ON_STOP",
    "BERTH_ON_PANIC",
    "BERTH_READY",
    "BERTH_METRICS",
];

/// Everything that does not agree, in values over the chart's own.
pub fn check(root: &Node, defaults: Option<&Node>) -> Vec<Finding> {
    let merged =
        defaults.map_or_else(|| root.clone(), |defaults| defaults.clone().merge(root.clone()));
    let devices = ["tun", "kvm"].into_iter().filter_map(|device| {
        let said = merged.get("devices")?.get(device);
        // A null is as if it was not said, where Helm's own merge takes the default away.
        said.or_else(|| defaults?.get("devices")?.get(device))?.value.text()
    });
    let mut cross = Cross {
        devices: devices.collect(),
        single: flag(&merged, "single"),
        node_ports: BTreeMap::new(),
        findings: Vec::new(),
    };
    if let Some(own) = root.entry("net_resources") {
        let merged = merged.get("net_resources").unwrap_or(&own.node);
        cross.resources("net_resources", own.key_at, merged);
    }
    let mut vms: Vec<&Entry> = root.get("vmlist").into_iter().flat_map(Node::entries).collect();
    vms.sort_by_key(|vm| &vm.key);
    for vm in vms.into_iter().filter(|vm| flag(&vm.node, "enabled") == Some(true)) {
        cross.vm(vm);
    }
    cross.findings
}

struct Cross {
    devices: Vec<String>,
    single: Option<bool>,
    /// Who has a port of the nodes, by number and protocol.
    node_ports: BTreeMap<String, String>,
    findings: Vec<Finding>,
}

impl Cross {
    fn error(&mut self, at: Position, key: &str, message: String) {
        self.findings.push(Finding { severity: Severity::Error, at, key: key.to_owned(), message });
    }

    fn warn(&mut self, at: Position, key: &str, message: String) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            at,
            key: key.to_owned(),
            message,
        });
    }

    fn vm(&mut self, vm: &Entry) {
        let (name, node) = (&vm.key, &vm.node);
        let key = format!("vmlist.{name}");
        if name == "net" && flag(node, "single").or(self.single) != Some(true) {
            let message = "the container of the network is called net too: take another name, or single: true";
            self.error(vm.key_at, &key, message.to_owned());
        }
        if let Some(net) = node.get("netconfig") {
            self.ports(&format!("{key}.netconfig"), net);
            self.policy(&format!("{key}.netconfig.networkPolicy"), net);
        }
        self.disks(&key, node);
        self.spread(&key, node);
        if let Some(own) = node.entry("resources") {
            self.resources(&format!("{key}.resources"), own.key_at, &own.node);
            self.memory(&format!("{key}.resources"), node);
        }
        self.config_map(&format!("{key}.cloudconfig"), node);
        self.variables(&format!("{key}.env"), node);
        let size =
            node.get("vmconfig").and_then(|vmconfig| vmconfig.get("rootfs")?.get("pvc_size"));
        if let Some(size) = size
            && size.value.text().and_then(|text| units(&text)).is_some_and(|octets| octets < MIB)
        {
            let key = format!("{key}.vmconfig.rootfs.pvc_size");
            self.warn(size.at, &key, "this is less than 1Mi: is it meant?".to_owned());
        }
    }

    /// Numbers by name are told apart by number and protocol, and what is said of one is said of one that is there.
    fn ports(&mut self, key: &str, net: &Node) {
        let (ports, service) = (net.get("ports"), net.get("service"));
        let all = sorted(ports);
        let enabled = service.is_some_and(|service| flag(service, "enabled") == Some(true));
        if let Some(at) = ports
            .filter(|ports| enabled && matches!(&ports.value, Value::Map(map) if !map.is_empty()))
            && all.is_empty()
        {
            self.error(at.at, &format!("{key}.ports"), "a service needs some".to_owned());
        }
        for which in ["nodePorts", "protocols"] {
            for entry in sorted(service.and_then(|service| service.get(which))) {
                if !all.iter().any(|port| port.key == entry.key) {
                    let key = format!("{key}.service.{which}.{}", entry.key);
                    self.error(
                        entry.key_at,
                        &key,
                        "there is no port of this name in ports".to_owned(),
                    );
                }
            }
        }
        let mut taken = BTreeMap::<String, &str>::new();
        for port in all {
            let Some(number) = port.node.value.text() else { continue };
            let place = format!("{number}/{}", protocol(service, &port.key));
            if let Some(other) = taken.get(&place) {
                let message = format!(
                    "{place} is {other} already: give one another number, or another protocol in service.protocols"
                );
                self.error(port.key_at, &format!("{key}.ports.{}", port.key), message);
            }
            taken.insert(place, &port.key);
        }
        for port in sorted(service.filter(|_| enabled).and_then(|service| service.get("nodePorts")))
        {
            let Some(number) = port.node.value.text() else { continue };
            let place = format!("{number}/{}", protocol(service, &port.key));
            let key = format!("{key}.service.nodePorts.{}", port.key);
            if let Some(other) = self.node_ports.get(&place) {
                let message = format!("{place} of the nodes is {other} already");
                self.error(port.key_at, &key, message);
            }
            self.node_ports.insert(place, key);
        }
    }

    /// A rule of a port by name finds the container's port of that name and protocol, or nothing.
    fn policy(&mut self, key: &str, net: &Node) {
        let policy = net.get("networkPolicy");
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            let rules =
                policy.and_then(|policy| policy.get(direction)).map_or(&[][..], Node::items);
            for (index, rule) in rules.iter().enumerate() {
                let key = format!("{key}.{direction}[{index}]");
                for (index, peer) in rule.get(peers).map_or(&[][..], Node::items).iter().enumerate()
                {
                    self.block(&format!("{key}.{peers}[{index}]"), peer);
                }
                for (index, port) in
                    rule.get("ports").map_or(&[][..], Node::items).iter().enumerate()
                {
                    self.range(&format!("{key}.ports[{index}].endPort"), port);
                    if direction == "ingress" {
                        self.named(&format!("{key}.ports[{index}].port"), port, net);
                    }
                }
            }
        }
    }

    fn range(&mut self, key: &str, port: &Node) {
        let number = |key: &str| match port.get(key)?.value {
            Value::Number(number) => Some(number),
            _ => None,
        };
        if let (Some(first), Some(last), Some(node)) =
            (number("port"), number("endPort"), port.get("endPort"))
            && last < first
        {
            self.error(node.at, key, format!("the range ends before it begins, at {first}"));
        }
    }

    fn named(&mut self, key: &str, port: &Node, net: &Node) {
        let Some(Node { value: Value::Text(name), at, .. }) = port.get("port") else { return };
        let wanted = port
            .get("protocol")
            .and_then(|node| node.value.text())
            .unwrap_or_else(|| "TCP".to_owned());
        let there = net.get("ports").is_some_and(|ports| ports.get(name).is_some());
        if !there || protocol(net.get("service"), name) != wanted {
            self.warn(
                *at,
                key,
                format!("no port is called {name} with {wanted}, so this finds nothing"),
            );
        }
    }

    fn block(&mut self, key: &str, peer: &Node) {
        let Some(block) = peer.get("ipBlock") else { return };
        let network = |node: &Node| node.value.text()?.parse::<IpNet>().ok();
        let Some(all) = block.get("cidr").and_then(network) else { return };
        for (index, except) in block.get("except").map_or(&[][..], Node::items).iter().enumerate() {
            let inside = |part: IpNet| all.contains(&part) && part.prefix_len() > all.prefix_len();
            if network(except).is_some_and(|part| !inside(part)) {
                let key = format!("{key}.ipBlock.except[{index}]");
                self.error(except.at, &key, format!("this is no part of {all}"));
            }
        }
    }

    fn disks(&mut self, key: &str, vm: &Node) {
        let mut names = Vec::new();
        for (index, disk) in vm.get("disks").map_or(&[][..], Node::items).iter().enumerate() {
            let Some(name) = disk.get("name") else { continue };
            let Some(text) = name.value.text() else { continue };
            if names.contains(&text) {
                let message = format!("{text} is there already: each disk has a name of its own");
                self.error(name.at, &format!("{key}.disks[{index}].name"), message);
            }
            names.push(text);
        }
    }

    /// No request may be above its limit, and what cannot be shared is requested as it is limited.
    fn resources(&mut self, key: &str, said_at: Position, resources: &Node) {
        let text = |kind: &str, name: &str| resources.get(kind)?.get(name)?.value.text();
        for kind in ["limits", "requests"] {
            for entry in sorted(resources.get(kind)) {
                let (name, here) = (&entry.key, format!("{key}.{kind}.{}", entry.key));
                let at = if entry.key_at.file > said_at.file { said_at } else { entry.key_at };
                if self.devices.contains(name) {
                    self.error(at, &here, "the chart asks for this device itself".to_owned());
                    continue;
                }
                let whole = name.contains('/') || name.starts_with("hugepages-");
                if whole && entry.node.value.text() != text("limits", name) {
                    let message =
                        "this is requested as it is limited: the same has to be in limits";
                    self.error(at, &here, message.to_owned());
                }
                let amount = text(kind, name).and_then(|text| units(&text));
                if whole && amount.is_some_and(|amount| amount.fract() != 0.0) {
                    self.error(at, &here, "this is asked for in whole numbers".to_owned());
                }
                let page = name.strip_prefix("hugepages-").and_then(units);
                if let (Some(amount), Some(page)) = (amount, page.filter(|page| *page > 0.0))
                    && (amount / page).fract() != 0.0
                {
                    self.error(at, &here, "these are no whole pages".to_owned());
                }
                let limit = text("limits", name);
                if let (Some(request), Some(max)) = (amount, limit.as_deref().and_then(units))
                    && kind == "requests"
                    && above(request, max)
                {
                    let message =
                        format!("more is requested than the limit, {}", limit.unwrap_or_default());
                    self.error(at, &here, message);
                }
            }
        }
    }

    /// What is requested is the limit where none is said; 0 is none at all.
    fn memory(&mut self, key: &str, vm: &Node) {
        let guest = vm.get("vmconfig").and_then(|vmconfig| vmconfig.get("cpu")?.get("ram_mb"));
        let said = |kind: &'static str| {
            let node = vm.get("resources")?.get(kind)?.get("memory")?;
            Some((kind, node, units(&node.value.text()?)?))
        };
        let (Some(guest), Some((kind, limit, octets))) =
            (guest, said("limits").or_else(|| said("requests")))
        else {
            return;
        };
        let mib = guest.value.text().and_then(|text| units(&text));
        if let Some(mib) = mib.filter(|mib| octets > 0.0 && above(mib * MIB, octets)) {
            let is = if kind == "limits" { "" } else { "this is the limit too, and " };
            let message =
                format!("{is}the guest alone has {mib} MiB: it is killed when it uses them");
            self.warn(limit.at, &format!("{key}.{kind}.memory"), message);
        }
    }

    fn config_map(&mut self, key: &str, vm: &Node) {
        let Some(cloud) = vm.entry("cloudconfig") else { return };
        let files = ["metadata", "userdata", "vendordata", "networkdata"];
        let octets = |file: &&str| {
            cloud.node.get(file).and_then(|node| node.value.text()).map_or(0, |text| text.len())
        };
        let all: usize = files.iter().map(octets).sum();
        if all > CONFIG_MAP_LIMIT {
            let message = format!(
                "these are {all} octets, and a ConfigMap holds {CONFIG_MAP_LIMIT}: let cloud-init fetch some (#include)"
            );
            self.error(cloud.key_at, key, message);
        }
    }

    fn variables(&mut self, key: &str, vm: &Node) {
        let all = sorted(vm.get("env"));
        let texts: Vec<(&Entry, String)> =
            all.into_iter().filter_map(|entry| Some((entry, entry.node.value.text()?))).collect();
        // The chart says who the VM is, and how long it may take to end.
        let name = key.trim_start_matches("vmlist.").trim_end_matches(".env");
        let pairs: Vec<(&str, &str)> = [("BERTH_NAME", name), ("BERTH_GRACE_S", "86400")]
            .into_iter()
            .chain(texts.iter().map(|(entry, text)| (entry.key.as_str(), text.as_str())))
            .collect();
        let refused = config::check_all(&pairs);
        let names: Vec<&str> = texts.iter().map(|(entry, _)| entry.key.as_str()).collect();
        for unknown in config::unknown(&names) {
            if let Some((entry, _)) = texts.iter().find(|(entry, _)| entry.key == unknown.name) {
                self.warn(entry.key_at, &format!("{key}.{}", entry.key), unknown.to_string());
            }
        }
        for (entry, _) in &texts {
            let key = format!("{key}.{}", entry.key);
            if VARIABLES.contains(&entry.key.as_str()) {
                let message = "this goes before what the chart gives from other keys".to_owned();
                self.warn(entry.key_at, &key, message);
            }
            if let Some(invalid) = refused.iter().find(|invalid| invalid.variable == entry.key) {
                let message =
                    format!("{:?} is refused at start: {}", invalid.value, invalid.reason);
                self.error(entry.node.at, &key, message);
            }
        }
        // Two that do not go together are told of by one name, which need not be the one that stands here.
        let elsewhere = refused
            .iter()
            .find(|invalid| !texts.iter().any(|(entry, _)| entry.key == invalid.variable));
        if let (Some(invalid), Some(entry)) = (elsewhere, vm.entry("env")) {
            self.error(entry.key_at, key, format!("this is refused at start: {invalid}"));
        }
    }

    /// Two of one key and one consequence are refused.
    fn spread(&mut self, key: &str, vm: &Node) {
        let constraints = vm.get("pod").and_then(|pod| pod.get("topologySpreadConstraints"));
        let mut there = Vec::new();
        for (index, constraint) in constraints.map_or(&[][..], Node::items).iter().enumerate() {
            let text = |key: &str| constraint.get(key).and_then(|node| node.value.text());
            let both = (text("topologyKey"), text("whenUnsatisfiable"));
            if there.contains(&both) {
                let key = format!("{key}.pod.topologySpreadConstraints[{index}]");
                let message = "there is one of this topologyKey and whenUnsatisfiable already";
                self.error(constraint.at, &key, message.to_owned());
            }
            there.push(both);
        }
    }
}

fn flag(node: &Node, key: &str) -> Option<bool> {
    match node.get(key)?.value {
        Value::Bool(flag) => Some(flag),
        _ => None,
    }
}

/// What is in a map, in the order in which the templates look at it.
fn sorted(map: Option<&Node>) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = map.into_iter().flat_map(Node::entries).collect();
    entries.sort_by_key(|entry| &entry.key);
    entries
}

fn protocol(service: Option<&Node>, port: &str) -> String {
    let said = service.and_then(|service| service.get("protocols")?.get(port)?.value.text());
    said.unwrap_or_else(|| "TCP".to_owned())
}
