//! `examples/quadlet`: the units that podman's generator makes of it, and a VM by the commands in them. The generator is
//! Debian 13's; Debian 12's podman has none, and runs what it says.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::compose::{TOKEN, ended_well, is_reached_on_the_machine, newer};
use super::podman::Podman;
use super::{shell, world};
use crate::support::{checked, find};

/// A whole path: the generator passes over others without a word.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quadlet");
const IMAGE: &str = "localhost/berth:";

/// What the generator makes of a directory: its exit code, the units, and what it complains of.
fn generated(generator: &Path, dir: &Path) -> (Option<i32>, String, String) {
    let mut generate = Command::new(generator);
    generate.arg("-dryrun").env("QUADLET_UNIT_DIRS", dir);
    let Output { status, stdout, stderr } = generate.output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A unit of several, `---NAME---` in front of each.
fn unit<'a>(units: &'a str, name: &str) -> &'a str {
    let (_, rest) =
        units.split_once(&format!("---{name}---\n")).unwrap_or_else(|| panic!("{units}"));
    rest.split("\n---").next().unwrap()
}

/// Its words but the program.
fn words(unit: &str, key: &str) -> Vec<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=/usr/bin/podman ")));
    shell_words::split(line.unwrap_or_else(|| panic!("{unit}"))).unwrap()
}

/// The commands of all units, and what depends on what.
fn effect(units: &str) -> Vec<&str> {
    let tells =
        |line: &&str| ["Exec", "Requires=", "After="].iter().any(|key| line.starts_with(key));
    units.lines().filter(tells).collect()
}

/// Without any of its lines something else would be done.
fn each_key_does_something(generator: &Path, whole: &str) {
    let text = std::fs::read_to_string(Path::new(EXAMPLE).join("berth.container")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["berth.network", "berth.volume"] {
        std::fs::copy(Path::new(EXAMPLE).join(name), dir.path().join(name)).unwrap();
    }
    let with = |text: &str| {
        std::fs::write(dir.path().join("berth.container"), text).unwrap();
        generated(generator, dir.path())
    };
    assert_eq!(effect(&with(&text).1), effect(whole));
    let (_, keys) = text.split_once("[Container]\n").unwrap();
    let (keys, _) = keys.split_once("\n[").unwrap();
    let mut tried = 0;
    for line in keys.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // The dash: of a device that is not there nothing is said.
        if line.strip_prefix("AddDevice=-").is_some_and(|device| !Path::new(device).exists()) {
            continue;
        }
        let (_, units, _) = with(&text.replacen(&format!("{line}\n"), "", 1));
        assert_ne!(effect(&units), effect(whole), "{line} does nothing");
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
    // And a word that is not known is no word for it.
    let (code, _, said) = with(&text.replace("ReadOnly=", "ReadOlny="));
    assert!(code == Some(1) && said.contains("unsupported key 'ReadOlny'"), "{said}");
}

/// systemd's own words in them, by systemd.
fn systemd_takes(units: &str) {
    let dir = tempfile::tempdir().unwrap();
    let names = ["berth.service", "berth-network.service", "berth-volume.service"];
    let paths: Vec<PathBuf> = names.iter().map(|name| dir.path().join(name)).collect();
    for (name, path) in names.iter().zip(&paths) {
        std::fs::write(path, unit(units, name)).unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    let output = verify.args(["verify", "--man=no"]).args(&paths).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("berth")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
}

#[test]
fn the_quadlet_files_are_units_and_their_commands_are_a_vm_whose_disk_stays() {
    let generator = newer().join("quadlet");
    let (code, units, said) = generated(&generator, Path::new(EXAMPLE));
    assert_eq!(code, Some(0), "{said}");
    each_key_does_something(&generator, &units);
    systemd_takes(&units);

    let podman = Podman::start();
    let secret = podman.path("token");
    std::fs::write(&secret, format!("{TOKEN}\n")).unwrap();
    podman.podman(&format!("secret create berth-web-token {}", secret.display()));
    for name in ["berth-network.service", "berth-volume.service"] {
        let mut create = words(unit(&units, name), "ExecStart");
        // Younger than 4.3: it is there already.
        create.retain(|word| word != "--ignore");
        checked(podman.command().args(create));
    }
    for boots in ["1", "2"] {
        plays(&podman, unit(&units, "berth.service"), boots);
    }
}

/// The unit's words with systemd's `%t/%N.cid`.
fn here(podman: &Podman, service: &str, key: &str) -> Vec<String> {
    let cid = podman.path("berth.cid").display().to_string();
    words(service, key).iter().map(|word| word.replace("%t/%N.cid", &cid)).collect()
}

fn of_network(podman: &Podman, field: &str) -> Ipv4Addr {
    let format = format!("{{{{range.NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}");
    podman.podman(&format!("inspect -f {format} berth")).parse().unwrap()
}

fn plays(podman: &Podman, service: &str, boots: &str) {
    let mut start = here(podman, service, "ExecStart");
    let image = start.pop().unwrap();
    assert_eq!(image, format!("{IMAGE}{}", env!("CARGO_PKG_VERSION")));
    // A control group of the unit's, which is systemd's to make.
    start.retain(|word| word != "--cgroups=split");
    let tiny = format!("{}:/tiny.qcow2:ro", world::tiny().display());
    start.extend(["-v", &tiny, "--publish", "127.0.0.1:8080:8080"].map(str::to_owned));
    for variable in ["BERTH_ACCEL=tcg", "IMG_RAM_MB=192", "IMG_SOURCE=/tiny.qcow2"] {
        start.extend(["--env", variable].map(str::to_owned));
    }
    start.push(image);
    checked(podman.command().args(start));
    podman.ready("berth");
    let (own, vm) = (of_network(podman, "Gateway"), of_network(podman, "IPAddress"));
    is_reached_on_the_machine(&podman.netns(), own, vm);
    assert_eq!(shell(&podman.netns(), vm, "cat /data/boots").trim(), boots);
    podman.podman("healthcheck run berth");

    let path = podman.path("followed");
    let said = File::create(&path).unwrap();
    let mut follow = podman.command();
    follow.args(["logs", "--follow", "berth"]).stdout(said.try_clone().unwrap()).stderr(said);
    let mut follow = follow.spawn().unwrap();
    let followed = || std::fs::read_to_string(&path).unwrap();
    find("its log", super::podman::BOOT, followed, || followed().contains(" ready").then_some(()));
    checked(podman.command().args(here(podman, service, "ExecStop")));
    follow.wait().unwrap();
    ended_well(&followed());
    // 4.3 leaves it there, and starts nothing where it is.
    std::fs::remove_file(podman.path("berth.cid")).unwrap();
    assert_eq!(podman.podman("ps -aq"), "");
}
