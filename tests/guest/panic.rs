//! A kernel that panics, for real: what berth ends with, that it comes back, that it stays for a debugger.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::world::{BOOT, World};

const SOON: Duration = Duration::from_secs(30);

/// sysrq.rst: a NULL pointer dereference.
fn crash(world: &World) {
    world.tell_guest("echo c >/proc/sysrq-trigger");
}

fn berth(world: &World, words: &[&str]) -> (i32, String) {
    let output = world.command(&[]).args(words).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn until_status(world: &World, text: &str) -> i32 {
    world.until(&format!("status {text:?}"), BOOT, |world| {
        let (code, told) = berth(world, &["status"]);
        told.contains(text).then_some(code)
    })
}

fn json(world: &World) -> Value {
    serde_json::from_str(&berth(world, &["status", "--output", "json"]).1).unwrap()
}

/// A page that is no earlier one.
fn metrics(world: &World) -> BTreeMap<String, f64> {
    std::thread::sleep(Duration::from_millis(1100));
    let page = berth(world, &["status", "--output", "prometheus"]).1;
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    page.lines().filter_map(sample).collect()
}

/// With a `/dev` that has a kubelet's file.
fn under_kubelet(world: &World) -> String {
    let dir = world.dir.path().display();
    fs::create_dir(world.path("dev")).unwrap();
    fs::write(world.path("termination-log"), "").unwrap();
    format!(
        "set -e; mount -t tmpfs dev {dir}/dev; mkdir {dir}/dev/net; cp -a /dev/net/tun {dir}/dev/net/; \
         cp -a /dev/null /dev/zero /dev/random /dev/urandom {dir}/dev/; touch {dir}/dev/termination-log; \
         mount --bind {dir}/termination-log {dir}/dev/termination-log; mount --rbind {dir}/dev /dev; exec \"$@\""
    )
}

/// Under `restart` too: a panic is no power-off.
#[test]
fn a_panic_ends_berth_with_22_and_says_so() {
    let mut world = World::new();
    let kubelet = under_kubelet(&world);
    world.set("BERTH_ON_POWEROFF", "restart");
    world.start_under(&["sh", "-c", &kubelet, "sh"]).ready();
    crash(&world);
    let ended = world.wait(SOON);
    let log = world.log();
    assert_eq!(ended.code(), Some(22), "{log}\n{}", world.serial());
    assert_eq!(log.matches("the guest's kernel panicked code=22").count(), 1, "{log}");
    let told = fs::read_to_string(world.path("termination-log")).unwrap();
    assert_eq!(told, "code 22 [guest-panicked]: the guest's kernel panicked");
}

#[test]
fn a_guest_that_panics_is_reset_and_counted() {
    let mut world = World::new();
    world.set("BERTH_ON_PANIC", "reset").start().ready();
    let (pid, started) = (world.pid(), json(&world)["guest"]["started_ms"].clone());
    crash(&world);
    world.until("another boot", BOOT, |world| world.serial().contains("boots 2").then_some(()));
    world.until("ready again", BOOT, |world| {
        (world.serial().matches(" ready").count() == 2).then_some(())
    });
    assert_eq!(until_status(&world, ": ready\nguest    running"), 0);
    let log = world.log();
    assert!(log.contains("the guest is reset for its panic, 1 of 5 times in a row"), "{log}");
    assert_eq!(log.matches("QEMU started").count(), 1, "{log}");
    let numbers = metrics(&world);
    assert_eq!(numbers.get("berth_guest_panics_total"), Some(&1.0), "{numbers:#?}");
    assert_eq!(numbers.get("berth_guest_state{state=\"running\"}"), Some(&1.0), "{numbers:#?}");
    // It is the same QEMU, which told when it was started.
    assert_eq!((world.pid(), &json(&world)["guest"]["started_ms"]), (pid, &started));
    let secs = numbers.get("berth_guest_start_time_seconds").copied().unwrap();
    let ms = started.as_f64().unwrap();
    assert!((secs * 1000.0 - ms).abs() < 10.0, "{secs} s, {ms} ms");
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

#[test]
fn a_guest_that_panics_stays_for_a_debugger_alive_and_not_ready() {
    let mut world = World::new();
    world.set("BERTH_ON_PANIC", "pause").start().ready();
    crash(&world);
    assert_eq!(until_status(&world, "not ready\nguest    paused (panicked)"), 1);
    assert_eq!(berth(&world, &["status", "--alive"]).0, 0);
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(json(&world)["guest"]["reason"], "panicked");
    let numbers = metrics(&world);
    assert_eq!(numbers.get("berth_guest_state{state=\"panicked\"}"), Some(&1.0), "{numbers:#?}");
    let log = world.log();
    assert_eq!(log.matches("the guest is paused: panicked").count(), 1, "{log}");
    let asked = Instant::now();
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}\n{}", asked.elapsed(), world.log());
}

/// The words are QEMU's own for a device that it lacks, with the names of ours.
#[test]
fn a_qemu_without_our_devices_runs_the_guest_all_the_same() {
    let mut qemu = Command::new("qemu-system-x86_64");
    let said = qemu.args(["-machine", "q35", "-display", "none", "-device", "no-such-device"]);
    let said = String::from_utf8(said.output().unwrap().stderr).unwrap();
    let mut world = World::new();
    let mut script = String::new();
    for device in ["pvpanic-pci", "virtio-serial-pci"] {
        let words = world.path(device);
        fs::write(&words, said.trim().replace("no-such-device", device)).unwrap();
        let words = words.display();
        script += &format!("case \"$*\" in *{device}*) cat {words} >&2; exit 1;; esac\n");
    }
    script += "exec \"$@\"\n";
    fs::write(world.path("old-qemu"), script).unwrap();
    let launcher = format!("sh {}", world.path("old-qemu").display());
    world.set("LAUNCHER", &launcher).set("BERTH_ON_PANIC", "reset").start();
    until_status(&world, "guest    running");
    let log = world.log();
    assert_eq!(log.matches("QEMU started").count(), 3, "{log}");
    for device in ["pvpanic-pci", "virtio-serial-pci"] {
        assert_eq!(log.matches(&format!("this QEMU has no {device}")).count(), 1, "{log}");
    }
    assert!(!log.contains("valid device model"), "{log}");
    world.kill();
}
