//! What `make sbom` says of the image: valid by CycloneDX's own library, and what dpkg and cargo say.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::chart::engine::python;
use crate::containers::docker::Docker;
use crate::support::checked;

/// Strict: a word that the format does not have is wrong too.
const JUDGE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())
sys.exit(None if wrong is None else str(wrong))
";

pub fn is_true(docker: &Docker) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut write = Command::new("bash");
    write.arg(root.join("examples/sbom.sh")).env("DOCKER_HOST", docker.host());
    let text = checked(&mut write);
    let file = docker.path("sbom.json");
    std::fs::write(&file, &text).unwrap();
    checked(Command::new(python()).args(["-c", JUDGE]).arg(&file));

    let told: Value = serde_json::from_str(&text).unwrap();
    let of = |kind: &str| -> BTreeSet<(String, String)> {
        let components = told["components"].as_array().unwrap().iter();
        components
            .filter(|component| component["purl"].as_str().unwrap().starts_with(kind))
            .map(|component| {
                ["name", "version"].map(|key| component[key].as_str().unwrap().to_owned()).into()
            })
            .collect()
    };
    let list = docker.docker(&format!(
        "run --rm --entrypoint dpkg-query {} -W -f ${{Package}}={{}}${{Version}}\\n",
        docker.image
    ));
    let installed = list.lines().map(|line| line.split_once("={}").unwrap());
    assert_eq!(
        of("pkg:deb/"),
        installed.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
    );

    let page = std::fs::read_to_string(root.join("web/dist/manifest")).unwrap();
    let bundled = page.lines().filter_map(|line| line.strip_prefix("package "));
    let bundled: BTreeSet<_> = bundled
        .map(|line| line.split(' ').map(str::to_owned))
        .map(|mut words| (words.next().unwrap(), words.next().unwrap()))
        .collect();
    assert!(bundled.len() >= 3);
    assert_eq!(of("pkg:npm/"), bundled);

    let crates = of("pkg:cargo/");
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
    for (name, version) in &crates {
        assert!(
            lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")),
            "{name} {version}"
        );
    }
    for name in [
        "berth",
        "dhcproto",
        "pnet_packet",
        "rtnetlink",
        "nftables",
        "tokio",
        "socket2",
        "smoltcp",
        "rustls",
    ] {
        assert!(crates.iter().any(|(found, _)| found == name), "no {name}");
    }
    // What tests and builds alone need is not in the binary.
    for name in ["proptest", "insta", "serde_derive", "berth-bench"] {
        assert!(!crates.iter().any(|(found, _)| found == name), "{name}");
    }
}
