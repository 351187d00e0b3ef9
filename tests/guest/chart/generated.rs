//! Values made by chance from the chart's schema, with the scalars that YAML and Helm are known to trip over: what schema
//! and `berth validate` accept renders to objects that strict validation accepts and that mean what was said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use regex_lite::Regex;
use serde_json::{Map, Value, json};

use super::engine::Helm;
use super::{VERSIONS, agreement, meaning};

/// Begins a word that stands without quotes.
const PLAIN: &str = "\u{2}plain:";

/// What is no text, or looks as if it was none.
const PLAIN_WORDS: [&str; 34] = [
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "True",
    "~",
    "null",
    "Null",
    "022",
    "08",
    "00",
    "0o17",
    "0x1f",
    "0b11",
    "1_000",
    "1e3",
    "1e9",
    "1.0",
    "1.10",
    "1.5",
    ".5",
    "5.",
    "12345678",
    "21474836480",
    "9007199254740993",
    "-1",
    "-0",
    "+5",
    "2001-01-01",
    "12:30:45",
    "=",
    "1e400",
];

/// Text that is written in quotes, and that a template must not make something else of.
const WORDS: [&str; 95] = [
    "",
    " ",
    "a: b",
    "a #b",
    "#",
    "{{ .Values }}",
    "{{",
    "}}",
    "'",
    "\"",
    "\\",
    "\\n",
    "\n",
    "a\nb\n",
    "\n---\na: b",
    "---",
    "...",
    "- a",
    "? a",
    "[a",
    "{a: b}",
    "&a",
    "*a",
    "!a",
    "|",
    ">",
    "%a",
    "@a",
    "`a`",
    "yes",
    "no",
    "y",
    "on",
    "null",
    "~",
    "true",
    "1e5",
    "0x1f",
    "022",
    "1_000",
    "12:30:45",
    "2001-01-01",
    "1.10",
    ".5",
    ".inf",
    "é",
    "日本",
    "🦀",
    "\u{2028}",
    "\u{feff}a",
    "\u{85}",
    "\t",
    "a\r\nb",
    " lead",
    "trail ",
    "\u{7f}",
    "\u{1}",
    "$(BERTH_NAME)",
    "$$",
    "$HOME",
    "a$(b",
    "$(id)",
    "c, readOnly: true",
    "reg/berth:1 #x",
    "a}",
    "<&>",
    "web",
    "a",
    "123",
    "a.b",
    "example.com/tier",
    "UPPER",
    "5Gi",
    "500m",
    "0.5",
    "1e9",
    "20G",
    "22/tcp",
    "22/tcp,53/udp",
    "99999/tcp",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.0.0.1",
    "fd00::/64",
    "fd00::1",
    "http://h/x",
    "/a/b",
    "52:54:00:12:34:56",
    "#cloud-config\n{}",
    "hostPath",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "memory",
    "dhcp",
    "tcp:22",
    "serial:login: $",
];

/// SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

pub struct Maker<'a> {
    pub schema: &'a Value,
    pub chance: Chance,
    /// Which of [`WORDS`] a part of the schema allows.
    pub fitting: BTreeMap<String, Vec<&'static str>>,
}

impl Maker<'_> {
    fn hostile(&mut self) -> Value {
        match self.chance.below(8) {
            0..4 => json!(format!("{PLAIN}{}", self.chance.of(&PLAIN_WORDS))),
            4..7 => json!(self.chance.of(&WORDS)),
            _ => json!("x".repeat(self.chance.below(70_000))),
        }
    }

    /// Something that the part allows mostly, as far as one keyword after another tells.
    fn value(&mut self, part: &Value) -> Value {
        if let Some(name) = part["$ref"].as_str() {
            return self.value(&self.schema["definitions"][name.rsplit('/').next().unwrap()]);
        }
        if let Some(words) = part["enum"].as_array() {
            return if self.chance.once_in(60) {
                self.hostile()
            } else {
                self.chance.of(words).clone()
            };
        }
        let kinds: Vec<&str> = match &part["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        let kind = *self.chance.of(if kinds.is_empty() { &["string"] } else { &kinds });
        let kind = if kind == "null" && !self.chance.once_in(4) { kinds[0] } else { kind };
        match kind {
            "object" => self.map(part),
            "array" => {
                let min = part["minItems"].as_u64().unwrap_or(0) as usize;
                (0..min + self.chance.below(3)).map(|_| self.value(&part["items"])).collect()
            }
            _ if self.chance.once_in(40) => self.hostile(),
            "null" => Value::Null,
            "boolean" => json!(self.chance.once_in(2)),
            "integer" | "number" => self.number(part, kind == "number"),
            _ => json!(self.text(part)),
        }
    }

    fn number(&mut self, part: &Value, fraction: bool) -> Value {
        let bound = |name: &str, or: f64| part[name].as_f64().unwrap_or(or);
        let (min, max) = (bound("minimum", -1e6), bound("maximum", 1e6));
        match self.chance.below(if fraction { 5 } else { 4 }) {
            0 => json!(min),
            1 => json!(max),
            4 => json!(0.5),
            _ => {
                json!(
                    (min + (max - min).min(100_000.0) * (self.chance.below(1000) as f64) / 1000.0)
                        .floor()
                )
            }
        }
    }

    fn text(&mut self, part: &Value) -> String {
        let known = format!("{} {} {}", part["pattern"], part["minLength"], part["maxLength"]);
        let fitting = self.fitting.entry(known).or_insert_with(|| {
            let pattern = part["pattern"].as_str().map(|pattern| Regex::new(pattern).unwrap());
            let right = |word: &&'static str| {
                let size = word.chars().count() as u64;
                let longest = part["maxLength"].as_u64().unwrap_or(u64::MAX);
                pattern.as_ref().is_none_or(|pattern| pattern.is_match(word))
                    && (part["minLength"].as_u64().unwrap_or(0)..=longest).contains(&size)
            };
            WORDS.into_iter().filter(right).collect()
        });
        if fitting.is_empty() { "a".to_owned() } else { (*self.chance.of(fitting)).to_owned() }
    }

    fn map(&mut self, part: &Value) -> Value {
        let mut map = Map::new();
        let required: Vec<&str> =
            part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let often = ["enabled", "netconfig", "service", "protocols"];
        for (key, part) in part["properties"].as_object().into_iter().flatten() {
            let wanted = required.contains(&key.as_str())
                || self.chance.once_in(if often.contains(&key.as_str()) { 2 } else { 4 });
            if wanted {
                map.insert(key.clone(), self.value(part));
            }
        }
        if let Some(below) = part.get("additionalProperties").filter(|below| below.is_object()) {
            for _ in 0..self.chance.below(3) {
                let names = match part["propertyNames"]["$ref"].as_str() {
                    Some(name) => &self.schema["definitions"][name.rsplit('/').next().unwrap()],
                    None => &part["propertyNames"],
                };
                map.insert(self.text(names), self.value(below));
            }
        }
        Value::Object(map)
    }

    /// A values file, mostly with what makes a VM of an entry.
    pub fn file(&mut self) -> String {
        let mut values = self.map(&json!({"properties": self.schema["properties"]}));
        let mut vms = Map::new();
        for _ in 0..=self.chance.below(5) / 4 {
            let mut vm = self.map(&self.schema["definitions"]["vm"]);
            vm["enabled"] = json!(true);
            let root = vm["vmconfig"]["rootfs"].as_object_mut().unwrap();
            if !root.contains_key("existing_claim") {
                root.entry("pvc_size").or_insert(json!("5Gi"));
            }
            root.entry("sourceurl").or_insert(json!("http://h/x"));
            // Ports that what names ports may name.
            if let Some(net) = vm.get_mut("netconfig").filter(|net| net.is_object()) {
                self.ports(net);
            }
            // On the pod's address it takes a token.
            if let Some(web) = vm.pointer_mut("/netconfig/web").and_then(Value::as_object_mut)
                && web.get("listen") == Some(&json!("pod"))
            {
                web.entry("tokenSecret").or_insert(json!("a"));
            }
            if let Some(cloud) = vm.get_mut("cloudconfig").and_then(Value::as_object_mut) {
                let existing =
                    ["existingConfigMap", "existingSecret"].map(|key| cloud.contains_key(key));
                if existing[0] && existing[1] {
                    cloud.remove("existingSecret");
                }
                let inline = ["metadata", "userdata", "vendordata", "networkdata"];
                if existing != [false, false] && !self.chance.once_in(10) {
                    cloud.retain(|key, _| !inline.contains(&key.as_str()));
                } else if !self.chance.once_in(10) {
                    cloud.remove("keys");
                }
            }
            let name = self.text(&self.schema["properties"]["vmlist"]["propertyNames"]);
            vms.insert(name, vm);
        }
        values["vmlist"] = Value::Object(vms);
        written(&values)
    }

    /// Names of ports are those that are there, and what needs a Service of one type has it: mostly.
    fn ports(&mut self, net: &mut Value) {
        if !net["service"].is_object() || self.chance.once_in(10) {
            return;
        }
        if net["ports"].as_object().is_none_or(Map::is_empty) {
            net["ports"] = json!({"web": 80, "a": 53});
        }
        let names: Vec<String> = net["ports"].as_object().unwrap().keys().cloned().collect();
        let service = &mut net["service"];
        for which in ["protocols", "nodePorts"] {
            let named = service[which].as_object().cloned().unwrap_or_default();
            let kept: Map<String, Value> = names.iter().cloned().zip(named.into_values()).collect();
            service[which] = Value::Object(kept);
        }
        let outside = ["nodePorts", "externalTrafficPolicy", "loadBalancerClass"];
        if outside.iter().any(|key| {
            service[key].is_string() || service[key].as_object().is_some_and(|map| !map.is_empty())
        }) {
            service["type"] = json!("LoadBalancer");
            service["headless"] = json!(false);
        }
    }
}

/// JSON, which is YAML, but for the words that stand without quotes.
fn written(values: &Value) -> String {
    let text = values.to_string();
    let mut out = String::new();
    let mut pieces = text.split("\"\\u0002plain:");
    out += pieces.next().unwrap();
    for piece in pieces {
        let (word, rest) = piece.split_once('"').unwrap();
        let _ = write!(out, "{word} {rest}");
    }
    out
}

/// How many of these files were accepted, and all keys that they said.
pub fn hold(schema: &Value, seed: u64, files: u64) -> (u64, BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    let mut helm = Helm::start();
    let mut accepted = 0;
    let mut maker = Maker { schema, chance: Chance(0), fitting: BTreeMap::new() };
    for index in 0..files {
        maker.chance = Chance(seed.wrapping_add(index).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let text = maker.file();
        let version = VERSIONS[index as usize % VERSIONS.len()];
        let done = helm.job(&json!({"yaml": text, "validate": [version], "rules": true}));
        let case = format!(
            "seed {seed}, file {index}:\n{}\n",
            text.chars().take(6000).collect::<String>()
        );
        let findings = agreement(&text, &done["error"], &case);
        if findings.iter().any(|finding| finding.severity == berth::validate::Severity::Error) {
            continue;
        }
        accepted += 1;
        said(&done["values"], &mut seen);
        assert_eq!(done["invalid"], json!([]), "{case}");
        let objects = done["objects"].as_array().unwrap();
        let changed = meaning::changed(&done["values"], objects);
        assert!(changed.is_empty(), "{changed:#?}\n{case}");
        started(objects, &case);
    }
    (accepted, seen)
}

fn said(value: &Value, seen: &mut BTreeSet<String>) {
    for (key, value) in
        value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null())
    {
        seen.insert(key.clone());
        said(value, seen);
    }
    value.as_array().into_iter().flatten().for_each(|value| said(value, seen));
}

/// What a container is given, berth takes.
fn started(objects: &[Value], case: &str) {
    for object in objects.iter().filter(|object| object["kind"] == "Deployment") {
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        let pairs: Vec<(&str, &str)> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| {
                (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap())
            })
            .collect();
        let refused = berth::config::check_all(&pairs);
        assert!(refused.is_empty(), "{refused:?}\n{case}");
    }
}
