//! What a saved guest depends on beyond the command line: the QEMU that runs, what it made of the words, and the disks.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::{Monitor, NoAnswer};
use crate::ram::Facts;
use crate::sys::beneath::Beneath;
use crate::sys::ram_file;

const VERSION: &str = "QEMU";
const MACHINE: &str = "machine type";
/// What the guest sees of its processor, whatever the model is called.
const CPU: [&str; 6] = ["family", "model", "stepping", "vendor", "model-id", "feature-words"];
const CPU_PREFIX: &str = "guest CPU ";
const PCI_PREFIX: &str = "PCI ";
/// A config drive is less.
const MAX_SEED: u64 = 64 << 20;

/// Whether QEMU says it, and nobody knows before it runs.
pub(super) fn is_qemus(what: &str) -> bool {
    let is_of = [CPU_PREFIX, PCI_PREFIX].iter().any(|prefix| what.starts_with(prefix));
    what == VERSION || what == MACHINE || is_of
}

/// Of a QEMU that takes commands, whether its guest runs or is awaited. What one refuses to tell is no fact of it.
pub(super) async fn of_qemu(monitor: &Monitor) -> Result<Facts, NoAnswer> {
    let mut facts = Facts::default();
    let version = monitor.ask("query-version", None, None).await?;
    facts.push(VERSION, version_words(&version));
    if let Some(machine) = property(monitor, "/machine", "type").await? {
        facts.push(MACHINE, machine.trim_matches('"'));
    }
    let cpus = monitor.ask("query-cpus-fast", None, None).await?;
    if let Some(path) = cpus.pointer("/0/qom-path").and_then(Value::as_str) {
        for name in CPU {
            if let Some(value) = property(monitor, path, name).await? {
                facts.push(format!("{CPU_PREFIX}{name}"), value);
            }
        }
    }
    let buses = monitor.ask("query-pci", None, None).await?;
    for (what, value) in pci(&buses) {
        facts.push(what, value);
    }
    Ok(facts)
}

/// As QEMU prints it; None where it has none of this name.
async fn property(monitor: &Monitor, path: &str, name: &str) -> Result<Option<String>, NoAnswer> {
    let arguments = json!({"path": path, "property": name});
    match monitor.ask("qom-get", Some(arguments), None).await {
        Ok(Value::Array(words)) if name == "feature-words" => Ok(Some(features(&words))),
        Ok(value) => Ok(Some(value.to_string())),
        Err(NoAnswer::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn version_words(version: &Value) -> String {
    let number =
        |key| version.pointer(&format!("/qemu/{key}")).and_then(Value::as_u64).unwrap_or(0);
    let package = version.get("package").and_then(Value::as_str).unwrap_or_default();
    let words = format!("{}.{}.{} {package}", number("major"), number("minor"), number("micro"));
    words.trim().to_owned()
}

/// Leaf, register and bits of CPUID (qapi/machine-target: `X86CPUFeatureWordInfo`), in the order of their leaves.
fn features(words: &[Value]) -> String {
    let mut found: Vec<String> = words
        .iter()
        .filter_map(|word| {
            let leaf = word.get("cpuid-input-eax")?.as_u64()?;
            let below = word.get("cpuid-input-ecx").and_then(Value::as_u64).unwrap_or(0);
            let register = word.get("cpuid-register")?.as_str()?;
            let bits = word.get("features")?.as_u64()?;
            (bits != 0).then(|| format!("{leaf:x}.{below}.{register}={bits:x}"))
        })
        .collect();
    found.sort();
    found.join(" ")
}

/// The devices of the first bus: behind a bridge they have no address before the firmware has run.
fn pci(buses: &Value) -> Vec<(String, String)> {
    let devices = buses.pointer("/0/devices").and_then(Value::as_array);
    devices
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|device| {
            let number = |path| device.pointer(path).and_then(Value::as_u64).unwrap_or(0);
            let name = device.get("qdev_id").and_then(Value::as_str).unwrap_or_default();
            let what = format!("{PCI_PREFIX}{:02x}.{}", number("/slot"), number("/function"));
            let value = format!("{:04x}:{:04x} {name}", number("/id/vendor"), number("/id/device"));
            (what, value.trim_end().to_owned())
        })
        .collect()
}

/// Each as it is.
pub(super) fn disks(
    disks: &[(PathBuf, bool)],
    seed: Option<&Path>,
    files: &Beneath,
) -> io::Result<Facts> {
    let mut facts = Facts::default();
    let others = disks.iter().filter(|(path, _)| Some(path.as_path()) != seed);
    for (path, writable) in others {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        facts.push(format!("disk {name}"), ram_file::disk(path, *writable, files)?);
    }
    if let Some(seed) = seed {
        facts.push("config drive", ram_file::hash(seed, MAX_SEED, files)?);
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_qemu_become_facts() {
        let version =
            json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian 1:7.2"});
        assert_eq!(version_words(&version), "7.2.22 Debian 1:7.2");
        let words = json!([
            {"cpuid-register": "EDX", "cpuid-input-eax": 1, "features": 0x8bfb_u32},
            {"cpuid-register": "EBX", "cpuid-input-eax": 7, "cpuid-input-ecx": 0, "features": 1},
            {"cpuid-register": "ECX", "cpuid-input-eax": 1, "features": 0},
        ]);
        assert_eq!(features(words.as_array().unwrap()), "1.0.EDX=8bfb 7.0.EBX=1");
        let buses = json!([{"bus": 0, "devices": [
            {"slot": 2, "function": 0, "id": {"vendor": 0x1af4, "device": 0x1000}, "qdev_id": ""},
            {"slot": 31, "function": 6, "id": {"vendor": 0x1b36, "device": 0x11}, "qdev_id": "pvpanic0"},
        ]}]);
        let wanted = [("PCI 02.0", "1af4:1000"), ("PCI 1f.6", "1b36:0011 pvpanic0")];
        assert_eq!(pci(&buses), wanted.map(|(what, value)| (what.to_owned(), value.to_owned())));
        assert!(pci(&Value::Null).is_empty());
        assert!(
            is_qemus("guest CPU feature-words") && !is_qemus("CPU model") && !is_qemus("disk x")
        );
    }
}
