//! What stands on the config drive.
//!
//! OpenStack's layout as cloud-init reads it (datasource ConfigDrive): `openstack/VERSION/…`, `2012-08-10` as the
//! seed had it, `2015-10-15` for vendor and network data, `latest` as a copy. Or NoCloud's four files. User data
//! is never touched; meta-data is only touched where cloud-init would refuse it.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Error;
use crate::config::{Config, SeedFormat};
use crate::facts::Facts;
use crate::iso::{File, Volume};

/// The drive's volume; None when there is neither meta-data nor user-data.
pub(super) fn volume(config: &Config, facts: &Facts) -> Result<Option<Volume>, Error> {
    let disks = &facts.disks;
    if disks.metadata.is_none() && disks.userdata.is_none() {
        return Ok(None);
    }
    let (label, files) = match config.guest.seed_format {
        SeedFormat::ConfigDrive => ("config-2", config_drive(config, facts)?),
        SeedFormat::NoCloud => ("cidata", no_cloud(config, facts)?),
    };
    Ok(Some(Volume { label: label.to_owned(), files }))
}

fn config_drive(config: &Config, facts: &Facts) -> Result<Vec<File>, Error> {
    let metadata = metadata(config, facts, "uuid")?;
    let vendordata = facts.disks.vendordata.as_deref().map(vendor_json);
    let mut files = Vec::new();
    for (version, newer) in [("2012-08-10", false), ("2015-10-15", true), ("latest", true)] {
        let mut put = |name: &str, content: &[u8]| {
            let mode = if name == "user_data" { 0o400 } else { 0o444 };
            files.push(File { path: format!("openstack/{version}/{name}"), content: content.to_vec(), mode });
        };
        put("meta_data.json", &metadata);
        if let Some(userdata) = &facts.disks.userdata {
            put("user_data", userdata);
        }
        if let (true, Some(vendordata)) = (newer, &vendordata) {
            put("vendor_data.json", vendordata);
        }
        if let (true, Some(networkdata)) = (newer, &facts.disks.networkdata) {
            put("network_data.json", networkdata);
        }
    }
    Ok(files)
}

fn no_cloud(config: &Config, facts: &Facts) -> Result<Vec<File>, Error> {
    let file = |path: &str, content: Vec<u8>, mode| File { path: path.to_owned(), content, mode };
    let userdata = facts.disks.userdata.clone().unwrap_or_default();
    let mut files = vec![
        file("meta-data", metadata(config, facts, "instance-id")?, 0o444),
        file("user-data", userdata, 0o400),
    ];
    if let Some(vendordata) = &facts.disks.vendordata {
        files.push(file("vendor-data", vendordata.clone(), 0o444));
    }
    if let Some(networkdata) = &facts.disks.networkdata {
        files.push(file("network-config", networkdata.clone(), 0o444));
    }
    Ok(files)
}

/// JSON that has an identity stays byte for byte. YAML becomes JSON; a missing identity is added, the same at
/// every start, or cloud-init would take each start for a new machine.
fn metadata(config: &Config, facts: &Facts, identity: &str) -> Result<Vec<u8>, Error> {
    let given = facts.disks.metadata.as_deref().unwrap_or_default();
    let path = &config.paths.metadata;
    let wrong = |why: String| Error::Data { path: path.clone(), why };
    let mut map = match serde_json::from_slice(given) {
        Ok(Value::Object(map)) if map.contains_key(identity) => return Ok(given.to_vec()),
        Ok(Value::Object(map)) => map,
        Ok(other) => {
            return Err(wrong(format!("meta-data must be a map of keys to values, not {}", kind(&other))));
        }
        Err(_) => yaml(given).map_err(wrong)?,
    };
    let uuid = uuid(&config.name);
    for (key, value) in [(identity, &uuid), ("name", &config.name), ("hostname", &config.hostname)] {
        let missing = !map.contains_key(key);
        if missing && (key == identity || facts.disks.metadata.is_none()) {
            map.insert(key.to_owned(), json!(value));
        }
    }
    if identity == "instance-id" && !map.contains_key("local-hostname") {
        map.insert("local-hostname".to_owned(), json!(config.hostname));
    }
    let mut text =
        serde_json::to_vec_pretty(&Value::Object(map)).map_err(|error| wrong(error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

fn yaml(given: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(given).map_err(|error| format!("not UTF-8: {error}"))?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(format!("meta-data must be a map of keys to values, not {}", kind(&other))),
        Err(error) => Err(format!("neither JSON nor YAML: {error}")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// JSON stays; text is what OpenStack wraps under `cloud-init`.
fn vendor_json(given: &[u8]) -> Vec<u8> {
    if serde_json::from_slice::<Value>(given).is_ok() {
        return given.to_vec();
    }
    json!({ "cloud-init": String::from_utf8_lossy(given) }).to_string().into_bytes()
}

/// A UUID that depends on the name alone, in the shape of RFC 9562 version 8.
fn uuid(name: &str) -> String {
    let hash = Sha256::new().chain_update("berth instance ").chain_update(name).finalize();
    let mut bytes = [0; 16];
    for (slot, byte) in bytes.iter_mut().zip(hash.iter()) {
        *slot = *byte;
    }
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62) | (8 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    let mut text = String::with_capacity(36);
    for (number, digit) in hex.chars().enumerate() {
        if [8, 12, 16, 20].contains(&number) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ambient, Options};
    use crate::facts::{Disks, Host, NetFacts, Resolver, Uplink};
    use crate::net::MacAddr;

    fn config(format: &str) -> Config {
        let options =
            Options { hostname: Some("web".into()), seed_format: Some(format.into()), ..Options::default() };
        options.parse(&Ambient::default()).unwrap()
    }

    fn facts(metadata: Option<&str>, userdata: Option<&str>) -> Facts {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        Facts {
            net: NetFacts {
                uplink: Uplink {
                    name: "eth0".parse().unwrap(),
                    index: 2,
                    mac: MacAddr([2, 0, 0, 0, 0, 1]),
                    mtu: 1500,
                    address: "10.0.0.2/24".parse().unwrap(),
                    others: vec![],
                    gateway: None,
                },
                resolver: Resolver { nameservers: vec![], search: vec![], ndots: 1, skipped: vec![] },
                extra_rules: None,
            },
            disks: Disks {
                root_device: None,
                block_devices: Default::default(),
                image_dir_exists: true,
                target: None,
                overlays: vec![],
                extra: vec![],
                metadata: bytes(metadata),
                userdata: bytes(userdata),
                vendordata: None,
                networkdata: None,
            },
            host: Host { qemu: "/q".into(), kvm: false, vhost_net: false, can_setuid: true, kvm_gid: None },
        }
    }

    fn content(files: &[File], path: &str) -> String {
        let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}"));
        String::from_utf8(file.content.clone()).unwrap()
    }

    #[test]
    fn neither_file_is_no_drive() {
        assert_eq!(volume(&config("configdrive"), &facts(None, None)), Ok(None));
    }

    #[test]
    fn good_json_and_user_data_stay_byte_for_byte() {
        let metadata = "{ \"uuid\": \"093772fe\",\n \"x\": [1] }\n";
        let userdata = "#cloud-config\r\nfqdn: a\n\t ";
        let volume = volume(&config("configdrive"), &facts(Some(metadata), Some(userdata))).unwrap().unwrap();
        for version in ["2012-08-10", "2015-10-15", "latest"] {
            assert_eq!(content(&volume.files, &format!("openstack/{version}/meta_data.json")), metadata);
            assert_eq!(content(&volume.files, &format!("openstack/{version}/user_data")), userdata);
        }
    }

    #[test]
    fn user_data_alone_gets_meta_data_that_is_the_same_at_every_start() {
        let make = || volume(&config("configdrive"), &facts(None, Some("#!/bin/sh\n"))).unwrap().unwrap();
        let text = content(&make().files, "openstack/latest/meta_data.json");
        assert_eq!(make(), make());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["hostname"], &value["name"]), (&json!("web"), &json!("web")));
        let uuid = value["uuid"].as_str().unwrap();
        assert!(uuid.len() == 36 && &uuid[14..15] == "8" && "89ab".contains(&uuid[19..20]), "{uuid}");
    }

    #[test]
    fn yaml_becomes_json_and_keeps_its_keys() {
        let volume = volume(&config("configdrive"), &facts(Some("instance-id: i-1\nlist: [a, 2]\n"), None))
            .unwrap()
            .unwrap();
        let value: Value =
            serde_json::from_str(&content(&volume.files, "openstack/latest/meta_data.json")).unwrap();
        assert_eq!((&value["instance-id"], &value["list"]), (&json!("i-1"), &json!(["a", 2])));
        assert!(value["uuid"].is_string());
        assert!(!volume.files.iter().any(|file| file.path.ends_with("user_data")));
    }

    #[test]
    fn what_is_no_map_is_named() {
        for (metadata, word) in [
            ("[1]", "a list"),
            ("- a\n- b\n", "a list"),
            ("a: b: c\n  - }", "neither JSON nor YAML"),
            ("\"x\"", "a text"),
        ] {
            let error = volume(&config("configdrive"), &facts(Some(metadata), None)).unwrap_err().to_string();
            assert!(error.contains("/metadata") && error.contains(word), "{metadata}: {error}");
        }
    }

    #[test]
    fn no_cloud_has_its_own_names() {
        let mut facts = facts(Some("uuid: u\n"), Some("#cloud-config\n"));
        facts.disks.vendordata = Some(b"#cloud-config\n".to_vec());
        facts.disks.networkdata = Some(b"version: 2\n".to_vec());
        let volume = volume(&config("nocloud"), &facts).unwrap().unwrap();
        assert_eq!(volume.label, "cidata");
        let value: Value = serde_json::from_str(&content(&volume.files, "meta-data")).unwrap();
        assert!(value["instance-id"].is_string() && value["local-hostname"] == "web");
        assert_eq!(content(&volume.files, "network-config"), "version: 2\n");
        assert_eq!(content(&volume.files, "vendor-data"), "#cloud-config\n");
    }

    #[test]
    fn vendor_data_that_is_text_is_wrapped() {
        let mut facts = facts(None, Some("x"));
        facts.disks.vendordata = Some(b"#cloud-config\n".to_vec());
        let volume = volume(&config("configdrive"), &facts).unwrap().unwrap();
        let value: Value =
            serde_json::from_str(&content(&volume.files, "openstack/latest/vendor_data.json")).unwrap();
        assert_eq!(value["cloud-init"], "#cloud-config\n");
        assert!(!volume.files.iter().any(|file| file.path == "openstack/2012-08-10/vendor_data.json"));
    }

    proptest::proptest! {
        #[test]
        fn no_meta_data_makes_it_panic(text in "[\\x00-\\x7fé]{0,60}") {
            let _ = volume(&config("configdrive"), &facts(Some(&text), None));
        }
    }
}
