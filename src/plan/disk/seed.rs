//! What stands on the config drive.
//!
//! OpenStack's layout as cloud-init reads it (datasource ConfigDrive): `openstack/VERSION/…`, `2012-08-10` as the
//! seed had it, `2015-10-15` for vendor and network data, `latest` as a copy. Or NoCloud's four files. User data
//! is never touched; the others are only touched where cloud-init would refuse them, and refused where no change
//! would help.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Error, data, metadata, userdata};
use crate::config::{Config, SeedFormat};
use crate::facts::Facts;
use crate::iso::{File, Volume};

/// The drive's volume; None when there is none of the four files.
pub(super) fn volume(
    config: &Config,
    facts: &Facts,
    notes: &mut Vec<String>,
) -> Result<Option<Volume>, Error> {
    let disks = &facts.disks;
    let given = [&facts.net.metadata, &disks.userdata, &disks.vendordata, &disks.networkdata];
    if given.iter().all(|file| file.is_none()) {
        return Ok(None);
    }
    notes.extend(ignored(config, facts));
    let metadata = metadata::file(config, facts.net.metadata.as_deref(), notes)?;
    let (label, files) = match config.guest.seed_format {
        SeedFormat::ConfigDrive => ("config-2", config_drive(config, facts, &metadata)?),
        SeedFormat::NoCloud => ("cidata", no_cloud(config, facts, metadata)?),
    };
    Ok(Some(Volume { label: label.to_owned(), files }))
}

/// The four files, as the chart's values name them.
pub const KEYS: [&str; 4] = ["metadata", "userdata", "vendordata", "networkdata"];

/// What is to be said of one of the files: an error where no drive can be made of it, a warning where cloud-init will
/// not act on it.
pub fn judged(format: SeedFormat, key: &str, content: &[u8]) -> Result<Option<String>, String> {
    let drive = format == SeedFormat::ConfigDrive;
    match key {
        "metadata" => data::text(content).and_then(data::map).map(|_| None),
        "userdata" => Ok(userdata::ignored(content)),
        "vendordata" if is_json(content) => Ok(None),
        // What is wrapped loses its byte order mark.
        "vendordata" if drive => vendor_json(content)
            .map(|_| data::text(content).ok().and_then(|text| userdata::ignored(text.as_bytes()))),
        "vendordata" => Ok(userdata::ignored(content)),
        _ if drive => network_json(content).map(|_| None),
        _ => network_config(content).map(|_| None),
    }
}

/// What cloud-init will not act on.
fn ignored(config: &Config, facts: &Facts) -> Vec<String> {
    let (paths, disks) = (&config.paths, &facts.disks);
    let files = [
        ("userdata", Some(&paths.userdata), &disks.userdata),
        ("vendordata", paths.vendordata.as_ref(), &disks.vendordata),
    ];
    let note = |(key, path, content): (&str, Option<&PathBuf>, &Option<Vec<u8>>)| {
        let why = judged(config.guest.seed_format, key, content.as_deref()?).ok()??;
        Some(format!("{} {why}", path?.display()))
    };
    files.into_iter().filter_map(note).collect()
}

fn config_drive(config: &Config, facts: &Facts, metadata: &[u8]) -> Result<Vec<File>, Error> {
    let paths = &config.paths;
    let vendordata =
        converted(paths.vendordata.as_deref(), facts.disks.vendordata.as_deref(), vendor_json)?;
    let networkdata =
        converted(paths.networkdata.as_deref(), facts.disks.networkdata.as_deref(), network_json)?;
    let mut files = Vec::new();
    for (version, newer) in [("2012-08-10", false), ("2015-10-15", true), ("latest", true)] {
        let mut put = |name: &str, content: &[u8]| {
            let mode = if name == "user_data" { 0o400 } else { 0o444 };
            files.push(File {
                path: format!("openstack/{version}/{name}"),
                content: content.to_vec(),
                mode,
            });
        };
        put("meta_data.json", metadata);
        if let Some(userdata) = &facts.disks.userdata {
            put("user_data", userdata);
        }
        if let (true, Some(vendordata)) = (newer, &vendordata) {
            put("vendor_data.json", vendordata);
        }
        if let (true, Some(networkdata)) = (newer, &networkdata) {
            put("network_data.json", networkdata);
        }
    }
    Ok(files)
}

fn no_cloud(config: &Config, facts: &Facts, metadata: Vec<u8>) -> Result<Vec<File>, Error> {
    let file = |path: &str, content: Vec<u8>, mode| File { path: path.to_owned(), content, mode };
    let userdata = facts.disks.userdata.clone().unwrap_or_default();
    let mut files = vec![file("meta-data", metadata, 0o444), file("user-data", userdata, 0o400)];
    if let Some(vendordata) = &facts.disks.vendordata {
        files.push(file("vendor-data", vendordata.clone(), 0o444));
    }
    let networkdata = facts.disks.networkdata.as_deref();
    if let Some(networkdata) =
        converted(config.paths.networkdata.as_deref(), networkdata, network_config)?
    {
        files.push(file("network-config", networkdata, 0o444));
    }
    Ok(files)
}

/// What a file becomes on the drive; the reason why it cannot names the file.
fn converted(
    path: Option<&Path>,
    given: Option<&[u8]>,
    convert: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, String>,
) -> Result<Option<Vec<u8>>, Error> {
    let path = path.unwrap_or(Path::new("")).to_owned();
    given.map_or(Ok(None), convert).map_err(|why| Error::Data { path, why })
}

/// JSON stays; text is what OpenStack wraps under `cloud-init`.
fn vendor_json(given: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let text = data::text(given).map_err(|why| {
        format!("vendor data on a config drive is text, and this is {why}: use BERTH_SEED_FORMAT=nocloud")
    })?;
    if is_json(text.as_bytes()) {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    Ok(Some(json!({ "cloud-init": text }).to_string().into_bytes()))
}

fn is_json(given: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(given).is_ok()
}

/// OpenStack's network_data.json; YAML in its shape becomes JSON. netplan's and ifupdown's words mean nothing there.
fn network_json(given: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let elsewhere = "a config drive has OpenStack's network_data.json (links, networks, services)";
    let text = data::text(given)?;
    let map = data::map(text).map_err(|why| format!("network data: {why}; {elsewhere}"))?;
    if is_netplan(&map) {
        return Err(format!(
            "network data of cloud-init's or netplan's shape (version, network), but {elsewhere}: use BERTH_SEED_FORMAT=nocloud"
        ));
    }
    if !map.entries.is_empty() && !is_openstack(&map) {
        return Err(format!("network data with none of OpenStack's keys, but {elsewhere}"));
    }
    // An empty one would be a guest without any network.
    Ok(Some(map.json.into_bytes()).filter(|_| !map.entries.is_empty()))
}

/// NoCloud's network-config goes as it is; what is plainly OpenStack's is refused. What our reader does not understand
/// is left to the guest's.
fn network_config(given: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match data::text(given).and_then(data::map) {
        Ok(map) if is_openstack(&map) && !is_netplan(&map) => Err(
            "network data of OpenStack's shape (links, networks), but NoCloud's is cloud-init's (version: 2): \
             use BERTH_SEED_FORMAT=configdrive"
                .to_owned(),
        ),
        _ => Ok(Some(given.to_vec())),
    }
}

fn is_netplan(map: &data::Map) -> bool {
    ["version", "network", "ethernets", "config"].iter().any(|key| map.has(key))
}

fn is_openstack(map: &data::Map) -> bool {
    ["links", "networks", "services"].iter().any(|key| map.has(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ambient, Options};
    use crate::facts::{Disks, Host, NetFacts, Resolver, Routing, Uplink};
    use crate::net::MacAddr;

    fn config(format: &str) -> Config {
        let options = Options {
            hostname: Some("web".into()),
            seed_format: Some(format.into()),
            vendordata: Some("/vendordata".into()),
            networkdata: Some("/networkdata".into()),
            ..Options::default()
        };
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
                    address: Some("10.0.0.2/24".parse().unwrap()),
                    others: vec![],
                    gateway: None,
                },
                routing: Routing::default(),
                ipv6: Default::default(),
                resolver: Resolver {
                    nameservers: vec![],
                    search: vec![],
                    ndots: 1,
                    skipped: vec![],
                },
                extra_rules: None,
                metadata: bytes(metadata),
                can_setuid: true,
            },
            disks: Disks {
                root_device: None,
                block_devices: Default::default(),
                image_dir_exists: true,
                target: None,
                overlays: vec![],
                extra: vec![],
                skipped: vec![],
                userdata: bytes(userdata),
                vendordata: None,
                networkdata: None,
            },
            host: Host {
                qemu: "/q".into(),
                cpus: 1,
                kvm: false,
                vhost_net: false,
                uid: 0,
                kvm_gid: None,
                can_kill: true,
                memory_limit_bytes: None,
            },
        }
    }

    fn made(format: &str, facts: &Facts) -> Result<(Volume, Vec<String>), Error> {
        let mut notes = Vec::new();
        let volume = volume(&config(format), facts, &mut notes)?;
        Ok((volume.expect("a drive"), notes))
    }

    fn content(volume: &Volume, path: &str) -> String {
        let file =
            volume.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}"));
        String::from_utf8(file.content.clone()).unwrap()
    }

    fn with_networkdata(networkdata: &str) -> Facts {
        let mut facts = facts(None, None);
        facts.disks.networkdata = Some(networkdata.as_bytes().to_vec());
        facts
    }

    #[test]
    fn none_of_the_files_is_no_drive_and_any_one_of_them_is_one() {
        assert_eq!(volume(&config("configdrive"), &facts(None, None), &mut Vec::new()), Ok(None));
        for format in ["configdrive", "nocloud"] {
            let mut vendordata = facts(None, None);
            vendordata.disks.vendordata = Some(b"#cloud-config\n".to_vec());
            for facts in [
                facts(Some("a: 1"), None),
                facts(None, Some("#!")),
                vendordata,
                with_networkdata("{}"),
            ] {
                assert!(made(format, &facts).is_ok(), "{format} {:?}", facts.disks);
            }
        }
    }

    #[test]
    fn user_data_stays_byte_for_byte_in_every_version() {
        let userdata = "#cloud-config\r\nfqdn: a\n\t ";
        let (volume, notes) = made("configdrive", &facts(None, Some(userdata))).unwrap();
        for version in ["2012-08-10", "2015-10-15", "latest"] {
            assert_eq!(content(&volume, &format!("openstack/{version}/user_data")), userdata);
        }
        assert!(notes.is_empty(), "{notes:?}");
        let (_, notes) = made("nocloud", &facts(None, Some("hostname: x\n"))).unwrap();
        assert!(
            notes.len() == 1 && notes[0].starts_with("/userdata begins with no header"),
            "{notes:?}"
        );
    }

    #[test]
    fn no_cloud_has_its_own_names() {
        let mut facts = facts(Some("instance-id: i\n"), Some("#cloud-config\n"));
        facts.disks.vendordata = Some(b"#cloud-config\n".to_vec());
        facts.disks.networkdata = Some(b"version: 2\n".to_vec());
        let (volume, _) = made("nocloud", &facts).unwrap();
        assert_eq!(volume.label, "cidata");
        assert!(content(&volume, "meta-data").contains("\"instance-id\": \"i\""));
        assert_eq!(content(&volume, "network-config"), "version: 2\n");
        assert_eq!(content(&volume, "vendor-data"), "#cloud-config\n");
    }

    #[test]
    fn vendor_data_that_is_text_is_wrapped_and_what_is_none_is_refused() {
        let mut facts = facts(None, Some("#!"));
        facts.disks.vendordata = Some(b"\xef\xbb\xbf#cloud-config\n".to_vec());
        let (volume, notes) = made("configdrive", &facts).unwrap();
        let vendordata = content(&volume, "openstack/latest/vendor_data.json");
        assert_eq!(vendordata, "{\"cloud-init\":\"#cloud-config\\n\"}");
        assert!(
            !volume.files.iter().any(|file| file.path == "openstack/2012-08-10/vendor_data.json")
        );
        assert!(notes.is_empty(), "{notes:?}");
        facts.disks.vendordata = Some(b"\x1f\x8b\x08\0\xff".to_vec());
        let error = made("configdrive", &facts).unwrap_err().to_string();
        assert!(error.contains("/vendordata: vendor data") && error.contains("nocloud"), "{error}");
        assert!(made("nocloud", &facts).is_ok());
    }

    /// network_data.json and network-config are two schemas: no file is right in both.
    #[test]
    fn network_data_is_in_the_shape_of_its_format_or_refused() {
        let openstack = "links: [{id: l, type: phy}]\nnetworks: []\n";
        let (volume, _) = made("configdrive", &with_networkdata(openstack)).unwrap();
        let json = "{\"links\": [{\"id\": \"l\", \"type\": \"phy\"}], \"networks\": []}\n";
        assert_eq!(content(&volume, "openstack/latest/network_data.json"), json);
        let json = "{\n \"services\": [], \"x\": 1.10 }";
        let (volume, _) =
            made("configdrive", &with_networkdata(&format!("\u{feff}{json}"))).unwrap();
        assert_eq!(content(&volume, "openstack/latest/network_data.json"), json);
        for empty in ["", "{}", "# nothing\n"] {
            let (volume, _) = made("configdrive", &with_networkdata(empty)).unwrap();
            assert!(
                !volume.files.iter().any(|file| file.path.ends_with("network_data.json")),
                "{empty:?}"
            );
        }
        for netplan in
            ["version: 2\nethernets: {}\n", "network: {version: 1}\n", "{\"version\": 2}"]
        {
            let error = made("configdrive", &with_networkdata(netplan)).unwrap_err().to_string();
            assert!(
                error.starts_with("/networkdata: ") && error.contains("BERTH_SEED_FORMAT=nocloud"),
                "{error}"
            );
            let (volume, _) = made("nocloud", &with_networkdata(netplan)).unwrap();
            assert_eq!(content(&volume, "network-config"), netplan);
        }
        for other in ["auto eth0\niface eth0 inet dhcp\n", "- a\n", "a: 1\n"] {
            let error = made("configdrive", &with_networkdata(other)).unwrap_err().to_string();
            assert!(error.contains("OpenStack's network_data.json"), "{error}");
        }
        let error = made("nocloud", &with_networkdata(openstack)).unwrap_err().to_string();
        assert!(error.contains("BERTH_SEED_FORMAT=configdrive"), "{error}");
        assert!(made("nocloud", &with_networkdata("a: !ours 1\n")).is_ok());
    }
}
