"""What an API server says of objects beyond its schema: a model of its validation, by the published API reference.

No API server is to be had by the tests. Rules are those of the objects and fields that the chart writes; where two server
versions differ, the older and stricter one. `refused` judges objects alone, `immutable` an update of them.
"""

import ipaddress
import re
from decimal import Decimal

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
NAME_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
QUANTITY = re.compile(r"[+-]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(n|u|m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei|[eE][+-]?[0-9]+)?\Z")
SUFFIXES = dict(zip(["n", "u", "m", None, "k", "M", "G", "T", "P", "E"], [Decimal(1000) ** n for n in range(-3, 7)]))
SUFFIXES.update(zip(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], [Decimal(1024) ** n for n in range(1, 7)]))


def subdomain(text):
    return isinstance(text, str) and len(text) <= 253 and SUBDOMAIN.match(text)


def qualified(text, case=False):
    prefix, slash, name = text.rpartition("/")
    return NAME_PART.match(name) and (not slash or subdomain(prefix.lower() if case else prefix))


def port_name(text):
    letters = re.search("[a-z]", text) and "--" not in text
    return letters and len(text) <= 15 and re.match(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z", text)


def quantity(text):
    match = QUANTITY.match(str(text))
    if not match:
        return None
    number, suffix = match.groups()
    if suffix not in SUFFIXES:
        return Decimal(number) * Decimal(10) ** int(suffix[1:])
    return Decimal(number) * SUFFIXES[suffix]


def twice(items):
    items = list(items)
    return sorted({str(item) for item in items if items.count(item) > 1})


class Judge:
    def __init__(self):
        self.said = []

    def need(self, right, what):
        if not right:
            self.said.append(what)

    def once(self, items, what):
        for item in twice(items):
            self.said.append(f"{what}: {item} twice")

    def metadata(self, meta, service=False):
        name = meta.get("name", "")
        self.need(LABEL.match(name) if service else subdomain(name), f"name {name!r}")
        self.labels(meta.get("labels", {}))
        self.annotations(meta.get("annotations", {}))

    def labels(self, labels, what="label"):
        for key, value in (labels or {}).items():
            self.need(qualified(key) and isinstance(value, str) and VALUE.match(value), f"{what} {key}: {value!r}")

    def annotations(self, annotations):
        for key in annotations or {}:
            self.need(qualified(key, case=True), f"annotation {key!r}")
        octets = sum(len(key.encode()) + len(value.encode()) for key, value in (annotations or {}).items())
        self.need(octets <= 256 * 1024, f"annotations of {octets} octets")

    def selector(self, selector):
        self.labels(selector.get("matchLabels"), "selector")
        for item in selector.get("matchExpressions", []):
            self.requirement(item)

    def requirement(self, item, field=False):
        operator, values = item["operator"], item.get("values", [])
        self.need(qualified(item["key"]), f"key {item['key']!r}")
        if operator in ("In", "NotIn"):
            self.need(values, f"{operator} without values")
        elif operator in ("Exists", "DoesNotExist"):
            self.need(not values, f"{operator} with values")
        elif operator in ("Gt", "Lt"):
            self.need(len(values) == 1 and re.match(r"[+-]?[0-9]+\Z", values[0]), f"{operator} {values}")
        else:
            self.need(False, f"operator {operator}")
        self.need(field or all(VALUE.match(value) for value in values), f"values {values}")

    def pod(self, spec):
        containers = spec["containers"] + spec.get("initContainers", [])
        self.once((container["name"] for container in containers), "container")
        volumes = [volume["name"] for volume in spec["volumes"]]
        self.once(volumes, "volume")
        for name in volumes:
            self.need(LABEL.match(name), f"volume {name!r}")
        for volume in spec["volumes"]:
            for source, key in [("configMap", "name"), ("secret", "secretName"), ("persistentVolumeClaim", "claimName")]:
                if source in volume:
                    self.need(subdomain(volume[source][key]), f"{source} {volume[source][key]!r}")
        self.need(LABEL.match(spec.get("hostname", "a")), "hostname")
        self.need(spec.get("terminationGracePeriodSeconds", 30) > 0, "grace")
        self.labels(spec.get("nodeSelector"), "nodeSelector")
        for key in ("priorityClassName", "runtimeClassName"):
            self.need(key not in spec or subdomain(spec[key]), key)
        pulls = [secret["name"] for secret in spec.get("imagePullSecrets", [])]
        self.once(pulls, "imagePullSecrets")
        self.need(all(subdomain(name) for name in pulls), f"imagePullSecrets {pulls}")
        groups = spec.get("securityContext", {}).get("supplementalGroups", [])
        self.need(all(0 <= group <= 2**31 - 1 for group in groups), f"groups {groups}")
        for container in containers:
            self.container(container, volumes)
        self.dns(spec)
        self.placing(spec)

    def container(self, container, volumes):
        self.need(LABEL.match(container["name"]), f"container {container['name']!r}")
        image = container["image"]
        self.need(image and image.strip() == image, f"image {image!r}")
        env = container.get("env", [])
        self.once((variable["name"] for variable in env), "variable")
        for variable in env:
            self.need(re.match(r"[-._a-zA-Z][-._a-zA-Z0-9]*\Z", variable["name"]), f"variable {variable['name']!r}")
            self.need("\0" not in variable["value"], f"variable {variable['name']} with NUL")
        ports = container.get("ports", [])
        self.once((port["name"] for port in ports), "port")
        # What server-side apply tells them apart by.
        self.once(((port["containerPort"], port.get("protocol", "TCP")) for port in ports), "container port")
        self.need(all(port_name(port["name"]) for port in ports), f"ports {ports}")
        self.need(all(1 <= port["containerPort"] <= 65535 for port in ports), f"ports {ports}")
        mounts, devices = container.get("volumeMounts", []), container.get("volumeDevices", [])
        self.once((mount["mountPath"] for mount in mounts), "mount")
        self.once((device["devicePath"] for device in devices), "device")
        for used in mounts + devices:
            self.need(used["name"] in volumes, f"volume {used['name']} is not there")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.need(container.get(probe, {}).get("failureThreshold", 1) >= 1, probe)
        self.resources(container.get("resources", {}))

    def resources(self, resources):
        limits = resources.get("limits", {})
        for kind in ("limits", "requests"):
            for name, said in resources.get(kind, {}).items():
                amount = quantity(said)
                if amount is None or amount < 0:
                    self.said.append(f"{kind} {name}: {said!r}")
                    continue
                native = name in ("cpu", "memory", "ephemeral-storage") or re.match(r"hugepages-\d+[KMG]i\Z", name)
                self.need(native or ("/" in name and qualified(name) and "kubernetes.io/" not in name), f"resource {name}")
                if "/" in name or name.startswith("hugepages-"):
                    self.need(amount == amount.to_integral_value(), f"{name}: {said}")
                    self.need(name in limits and quantity(limits[name]) == amount, f"{name} is not as limited")
                    page = quantity(name.removeprefix("hugepages-")) if name.startswith("hugepages-") else None
                    self.need(not page or amount % page == 0, f"{name}: {said} is no whole pages")
                elif kind == "requests" and name in limits:
                    self.need(amount <= quantity(limits[name]), f"more {name} requested than the limit")

    def dns(self, spec):
        config = spec.get("dnsConfig", {})
        servers = config.get("nameservers", [])
        self.need(len(servers) <= 3 and (servers or spec.get("dnsPolicy") != "None"), f"nameservers {servers}")
        for server in servers:
            try:
                ipaddress.ip_address(server)
            except ValueError:
                self.said.append(f"nameserver {server!r}")
        searches = config.get("searches", [])
        self.need(len(searches) <= 32 and sum(map(len, searches)) + len(searches) <= 2048, f"{len(searches)} searches")
        for search in searches:
            self.need(subdomain(search.rstrip(".").replace("_", "a")), f"search {search!r}")
        self.need(all(option.get("name") for option in config.get("options", [])), "option without a name")

    def placing(self, spec):
        for item in spec.get("tolerations", []):
            operator = item.get("operator", "Equal")
            self.need(item.get("key") or operator == "Exists", f"toleration {item}")
            self.need(not item.get("key") or qualified(item["key"]), f"toleration {item}")
            self.need(operator != "Exists" or not item.get("value"), f"toleration {item}")
            self.need("tolerationSeconds" not in item or item.get("effect") == "NoExecute", f"toleration {item}")
        spread = spec.get("topologySpreadConstraints", [])
        self.once(((item["topologyKey"], item["whenUnsatisfiable"]) for item in spread), "spread")
        for item in spread:
            self.need(item["maxSkew"] > 0 and qualified(item["topologyKey"]), f"spread {item}")
            self.need("minDomains" not in item or item["whenUnsatisfiable"] == "DoNotSchedule", f"spread {item}")
            self.need("matchLabelKeys" not in item or "labelSelector" in item, f"spread {item}")
            self.selector(item.get("labelSelector", {}))
        affinity = spec.get("affinity", {})
        required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
        node = affinity.get("nodeAffinity", {})
        terms = list(node.get(required, {}).get("nodeSelectorTerms", [None]))
        self.need(terms, "no nodeSelectorTerms")
        for term in [term for term in terms if term] + [item["preference"] for item in node.get(preferred, [])]:
            for item in term.get("matchExpressions", []):
                self.requirement(item)
            for item in term.get("matchFields", []):
                self.requirement(item, field=True)
                self.need(item["key"] == "metadata.name" and len(item["values"]) == 1, f"field {item}")
        for kind in ("podAffinity", "podAntiAffinity"):
            pod = affinity.get(kind, {})
            weighed = [item["podAffinityTerm"] for item in pod.get(preferred, [])]
            for term in pod.get(required, []) + weighed:
                self.need(qualified(term["topologyKey"]), f"topologyKey {term['topologyKey']!r}")
                self.need(all(LABEL.match(name) for name in term.get("namespaces", [])), "namespaces")
                self.selector(term.get("labelSelector", {}))
                self.selector(term.get("namespaceSelector", {}))
        weights = [item["weight"] for kind in affinity.values() for item in kind.get(preferred, [])]
        self.need(all(1 <= weight <= 100 for weight in weights), f"weights {weights}")

    def deployment(self, item):
        spec, labels = item["spec"], item["spec"]["template"]["metadata"]["labels"]
        self.labels(labels)
        self.annotations(spec["template"]["metadata"]["annotations"])
        wanted = spec["selector"]["matchLabels"]
        self.need(all(labels.get(key) == value for key, value in wanted.items()), f"{labels} are not selected by {wanted}")
        self.need("rollingUpdate" not in spec["strategy"], "Recreate with rollingUpdate")
        self.pod(spec["template"]["spec"])

    def claim(self, item):
        spec = item["spec"]
        size = quantity(spec["resources"]["requests"]["storage"])
        self.need(size is not None and size > 0, f"storage {spec['resources']}")
        self.need(subdomain(spec.get("storageClassName", "a")), "storageClassName")

    def config_map(self, item):
        data = item.get("data") or {}
        octets = sum(len(value.encode()) for value in data.values())
        self.need(octets <= 1024 * 1024, f"{octets} octets")

    def service(self, item):
        spec, kind = item["spec"], item["spec"]["type"]
        ports = spec.get("ports") or []
        self.need(ports, "no ports")
        self.once((port["name"] for port in ports), "port")
        self.once(((port["port"], port["protocol"]) for port in ports), "port")
        self.once(((port["nodePort"], port["protocol"]) for port in ports if "nodePort" in port), "nodePort")
        self.need(all(port_name(port["name"]) or LABEL.match(port["name"]) for port in ports), f"{ports}")
        outside = kind in ("NodePort", "LoadBalancer")
        self.need(spec.get("clusterIP") != "None" or not outside, "headless of another type")
        self.need(outside or not any("nodePort" in port for port in ports), "nodePort in a ClusterIP")
        self.need(outside or "externalTrafficPolicy" not in spec, "externalTrafficPolicy in a ClusterIP")
        families = spec.get("ipFamilies", ["IPv4"])
        self.need(families and set(families) <= {"IPv4", "IPv6"}, f"ipFamilies {families}")
        self.once(families, "family")
        self.need(len(families) == 1 or spec.get("ipFamilyPolicy", "SingleStack") != "SingleStack", "two families of a SingleStack")
        balancer = spec.get("loadBalancerClass")
        self.need(balancer is None or (kind == "LoadBalancer" and qualified(balancer)), f"loadBalancerClass {balancer!r}")

    def policy(self, item):
        spec = item["spec"]
        self.selector(spec["podSelector"])
        for rule in (spec.get("ingress") or []) + (spec.get("egress") or []):
            for port in rule.get("ports", []):
                number = port.get("port")
                if isinstance(number, str):
                    self.need(port_name(number), f"port {number!r}")
                elif number is not None:
                    self.need(1 <= number <= 65535, f"port {number}")
                if "endPort" in port:
                    self.need(isinstance(number, int) and number <= port["endPort"] <= 65535, f"range {port}")
            for peer in rule.get("from", []) + rule.get("to", []):
                self.peer(peer)

    def peer(self, peer):
        self.need(peer, "a peer that is nobody")
        self.selector(peer.get("podSelector", {}))
        self.selector(peer.get("namespaceSelector", {}))
        block = peer.get("ipBlock")
        if block is None:
            return
        self.need(len(peer) == 1, f"peer {peer}")
        try:
            network = ipaddress.ip_network(block["cidr"], strict=False)
            for part in block.get("except", []):
                part = ipaddress.ip_network(part, strict=False)
                inside = part.version == network.version and part.subnet_of(network) and part != network
                self.need(inside, f"{part} is not in {network}")
        except ValueError as error:
            self.said.append(str(error))


def refused(objects):
    """What is wrong with each object."""
    found = [f"{item} twice" for item in twice((item["kind"], item["metadata"]["name"]) for item in objects)]
    node_ports = []
    for item in objects:
        judge, kind = Judge(), item["kind"]
        judge.metadata(item["metadata"], kind == "Service")
        if kind == "Service":
            ports = item["spec"].get("ports") or []
            node_ports += [(port["nodePort"], port["protocol"]) for port in ports if "nodePort" in port]
        kinds = {
            "Deployment": judge.deployment,
            "PersistentVolumeClaim": judge.claim,
            "ConfigMap": judge.config_map,
            "Service": judge.service,
            "NetworkPolicy": judge.policy,
            "Pod": lambda item: judge.pod(item["spec"]),
            "PodDisruptionBudget": lambda item: judge.selector(item["spec"]["selector"]),
            "PodMonitor": lambda item: judge.selector(item["spec"]["selector"]),
            # promtool judges its rules, elsewhere.
            "PrometheusRule": lambda item: None,
        }
        kinds[kind](item)
        found += [f"{kind} {item['metadata']['name']}: {said}" for said in judge.said]
    return found + [f"node port {port} twice" for port in twice(node_ports)]


def immutable(old, new):
    """Fields whose change an API server refuses, or takes without doing it."""
    found = []
    before = {(item["kind"], item["metadata"]["name"]): item for item in old}
    for item in new:
        key = (item["kind"], item["metadata"]["name"])
        was = before.get(key)
        if was is None:
            continue
        spec, old_spec = item.get("spec", {}), was.get("spec", {})
        if key[0] == "Deployment":
            fields = ["selector"]
        elif key[0] == "PersistentVolumeClaim":
            fields = ["accessModes", "storageClassName", "volumeMode", "volumeName", "selector"]
            size, old_size = (quantity(of["resources"]["requests"]["storage"]) for of in (spec, old_spec))
            if size < old_size:
                found.append(" ".join([*key, "resources.requests.storage"]))
        elif key[0] == "Service":
            fields = ["clusterIP"]
            # The first one stays, and so does what was said before where nobody says any.
            firsts = {of["ipFamilies"][0] for of in (spec, old_spec) if of.get("ipFamilies")}
            if len(firsts) == 2:
                found.append(" ".join([*key, "ipFamilies"]))
            if spec.get("type") == old_spec.get("type") == "LoadBalancer":
                fields.append("loadBalancerClass")
        else:
            continue
        # What nobody says, a server says.
        default = {"volumeMode": "Filesystem"}
        was, now = ([of.get(field, default.get(field)) for field in fields] for of in (old_spec, spec))
        found += [" ".join([*key, field]) for field, a, b in zip(fields, was, now) if a != b]
    return sorted(found)
