//! Meta-data: who the guest is.
//!
//! cloud-init's two readers have their own words for it. ConfigDrive wants `uuid`, which it copies over `instance-id`,
//! and `hostname`, which it copies over `local-hostname`; NoCloud knows `instance-id` and `local-hostname` alone.
//! Whichever of the two was given counts in both.

use sha2::{Digest, Sha256};

use super::data::{self, Map};
use super::{Error, yaml};
use crate::config::{Config, SeedFormat};
use crate::plan::host_name::usable;

/// What a reader calls it, and what the other one does.
struct Names {
    id: [&'static str; 2],
    host: [&'static str; 2],
}

fn names(format: SeedFormat) -> Names {
    match format {
        SeedFormat::ConfigDrive => {
            Names { id: ["uuid", "instance-id"], host: ["hostname", "local-hostname"] }
        }
        SeedFormat::NoCloud => {
            Names { id: ["instance-id", "uuid"], host: ["local-hostname", "hostname"] }
        }
    }
}

/// The file on the drive. JSON that says who the guest is stays byte for byte, as does YAML where it is read. What is
/// missing is added, the same at every start, or cloud-init would take each start for a new machine.
pub(super) fn file(
    config: &Config,
    given: Option<&[u8]>,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, Error> {
    let wrong = |why: String| Error::Data { path: config.paths.metadata.clone(), why };
    let text = data::text(given.unwrap_or_default()).map_err(wrong)?;
    let map = data::map(text).map_err(|why| wrong(format!("meta-data: {why}")))?;
    let format = config.guest.seed_format;
    let Names { id: [id, other_id], host: [host, other_host] } = names(format);
    let mut added = Vec::new();
    if !map.has(id) {
        added.push((id, either(&map, other_id, &uuid(&config.name))));
    } else if format == SeedFormat::ConfigDrive {
        notes.extend(overruled(&map, config));
    }
    if map.entries.is_empty() {
        added.push(("name", yaml::quoted(&config.name)));
    }
    let complete = format == SeedFormat::ConfigDrive && map.verbatim && added.is_empty();
    if !map.has(host) && !complete {
        added.push((host, either(&map, other_host, &usable(&config.hostname))));
    }
    Ok(match (added.is_empty(), format) {
        (true, SeedFormat::NoCloud) => text.to_owned(),
        (true, SeedFormat::ConfigDrive) => map.json,
        (false, _) => map.with(&added),
    }
    .into_bytes())
}

/// What was given under the other name, else ours.
fn either(map: &Map, other: &str, ours: &str) -> String {
    map.entries.get(other).cloned().unwrap_or_else(|| yaml::quoted(ours))
}

fn overruled(map: &Map, config: &Config) -> Option<String> {
    let (uuid, id) = (map.entries.get("uuid")?, map.entries.get("instance-id")?);
    (uuid != id).then(|| {
        let file = config.paths.metadata.display();
        format!("{file}: instance-id {id} does not count beside uuid {uuid} on a config drive: leave one of them out")
    })
}

/// The host name that the guest will read on its drive; None when the meta-data names none.
pub(in crate::plan) fn host_name(format: SeedFormat, given: &[u8]) -> Option<String> {
    let map = data::map(data::text(given).ok()?).ok()?;
    let found = names(format).host.into_iter().find_map(|name| map.entries.get(name));
    found.and_then(|json| data::words(json)).filter(|name| !name.is_empty())
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
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Ambient, Options};

    fn config(format: &str) -> Config {
        let options = Options {
            hostname: Some("web".into()),
            seed_format: Some(format.into()),
            ..Options::default()
        };
        options.parse(&Ambient::default()).unwrap()
    }

    fn made(format: &str, given: Option<&str>) -> (String, Vec<String>) {
        let mut notes = Vec::new();
        let bytes = file(&config(format), given.map(str::as_bytes), &mut notes);
        (
            String::from_utf8(bytes.unwrap_or_else(|error| panic!("{given:?}: {error}"))).unwrap(),
            notes,
        )
    }

    fn value(format: &str, given: &str) -> Value {
        let (text, _) = made(format, Some(given));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{given}: {error}: {text}"))
    }

    /// kubevirt#7807, cloud-init#3977: a changed instance-id is how first-boot modules are made to run again.
    #[test]
    fn the_instance_id_that_was_given_counts_in_both_formats() {
        for given in [
            "instance-id: i-1\n",
            "{\"instance-id\": \"i-1\"}",
            "{\"uuid\": \"i-1\"}",
            "uuid: i-1\n",
        ] {
            assert_eq!(value("configdrive", given)["uuid"], "i-1", "{given}");
            assert_eq!(value("nocloud", given)["instance-id"], "i-1", "{given}");
        }
        let (text, notes) = made("configdrive", Some("{\"uuid\": \"u\", \"instance-id\": \"i\"}"));
        assert_eq!(text, "{\"uuid\": \"u\", \"instance-id\": \"i\"}");
        assert!(notes.concat().contains("instance-id \"i\" does not count"), "{notes:?}");
        assert_eq!(
            made("nocloud", Some("{\"uuid\": \"u\", \"instance-id\": \"i\"}")).1,
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_host_name_that_was_given_counts_in_both_formats() {
        for given in [
            "{\"hostname\": \"h\", \"instance-id\": \"i\"}",
            "{\"uuid\": \"u-1\", \"hostname\": \"h\"}",
            "hostname: h",
        ] {
            assert_eq!(value("nocloud", given)["local-hostname"], "h", "{given}");
        }
        assert_eq!(value("configdrive", "local-hostname: h\n")["hostname"], "h");
        assert_eq!(value("configdrive", "local-hostname: l\nhostname: h\n")["hostname"], "h");
        assert_eq!(value("nocloud", "instance-id: i\n")["local-hostname"], "web");
        assert_eq!(value("configdrive", "instance-id: i\n")["hostname"], "web");
    }

    #[test]
    fn what_says_all_stays_byte_for_byte() {
        for (format, given) in [
            ("configdrive", "{ \"uuid\": \"093772fe\",\n \"x\": [1] }\n"),
            ("configdrive", "{\"uuid\": 1.10, \"n\": 123456789012345678901234567890}"),
            ("nocloud", "{\"instance-id\":\"i\", \"local-hostname\": 1e5}"),
            ("nocloud", "# who\ninstance-id: 0123\nlocal-hostname: &h yes\n"),
        ] {
            assert_eq!(made(format, Some(given)).0, given);
            assert_eq!(made(format, Some(&format!("\u{feff}{given}"))).0, given);
        }
    }

    /// Through a float they would be 1.2345678901234568e+29, 123.0 and 1.1.
    #[test]
    fn numbers_keep_their_digits() {
        let (text, _) =
            made("configdrive", Some("{\"big\": 123456789012345678901234567890, \"v\": 1.10}"));
        assert!(text.contains("\"big\": 123456789012345678901234567890, \"v\": 1.10}"), "{text}");
        let (text, _) =
            made("configdrive", Some("big: 123456789012345678901234567890\nn: 0123\nv: 1.10\n"));
        assert!(
            text.contains("\"big\": 123456789012345678901234567890, \"n\": 83, \"v\": 1.10}"),
            "{text}"
        );
        assert_eq!(value("configdrive", "instance-id: 0123\n")["uuid"], 83);
    }

    #[test]
    fn nothing_is_nothing_however_it_is_written() {
        for format in ["configdrive", "nocloud"] {
            let (wanted, _) = made(format, None);
            for given in ["", " \n", "\u{feff}", "null", "~", "{}", "# nothing\n", "---\n"] {
                let ours: Value = serde_json::from_str(&made(format, Some(given)).0).unwrap();
                assert_eq!(
                    ours,
                    serde_json::from_str::<Value>(&wanted).unwrap(),
                    "{format} {given:?}"
                );
            }
        }
    }

    #[test]
    fn user_data_alone_gets_meta_data_that_is_the_same_at_every_start() {
        let (text, _) = made("configdrive", None);
        assert_eq!(made("configdrive", None).0, text);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["hostname"], &value["name"]), (&json!("web"), &json!("web")));
        let uuid = value["uuid"].as_str().unwrap();
        assert!(
            uuid.len() == 36 && &uuid[14..15] == "8" && "89ab".contains(&uuid[19..20]),
            "{uuid}"
        );
    }

    #[test]
    fn what_is_no_map_is_named() {
        for (given, word) in [
            (&b"[1]"[..], "a list"),
            (b"- a\n- b\n", "a list"),
            (b"a: b: c\n  - }", "neither JSON nor YAML: line 1"),
            (b"\"x\"", "a text"),
            (b"5", "a number"),
            (b"\xff\xfea\0", "not UTF-8"),
            (b"{\"a\": 1", "neither JSON nor YAML"),
        ] {
            let error =
                file(&config("configdrive"), Some(given), &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains("/metadata") && error.contains(word), "{given:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_made_has_an_id_and_all_that_was_given(text in "([a-e]: [^\"\\\\\n]{0,10}\n|\\{|\\}|\"[a-e]\": ?[0-9.eE+-]{1,9},?){0,6}") {
            for format in ["configdrive", "nocloud"] {
                let Ok(bytes) = file(&config(format), Some(text.as_bytes()), &mut Vec::new()) else { continue };
                let made = data::map(std::str::from_utf8(&bytes).unwrap()).unwrap();
                assert!(made.has(names(config(format).guest.seed_format).id[0]), "{text:?}");
                for (key, json) in data::map(&text).unwrap().entries {
                    assert_eq!(made.entries.get(&key), Some(&json), "{text:?}");
                }
            }
        }
    }
}
