//! Debian's qemu-ga in the tiny guest: absent, there, frozen, gone and back.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::checked;
use crate::support::world::World;
use crate::web;

const SOON: Duration = Duration::from_secs(60);

/// The agent's package, kept beside the guests; the libraries are this machine's.
const DISK: &str = r#"
set -euo pipefail
to=$1
cache=${BERTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/berth}
mkdir -p "$cache"
exec 9>"$cache/qemu-guest-agent.lock"
flock 9
deb=$(find "$cache" -name 'qemu-guest-agent_*.deb' -print -quit)
if [ -z "$deb" ]; then
    work=$(mktemp -d)
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root qemu-guest-agent >&2)
    mv "$work"/*.deb "$cache"
    rmdir "$work"
    deb=$(find "$cache" -name 'qemu-guest-agent_*.deb' -print -quit)
fi
root=$(mktemp -d)
trap 'rm -rf -- "$root"' EXIT
dpkg-deb -x "$deb" "$root/package"
mkdir "$root/disk"
cp "$root/package/usr/sbin/qemu-ga" "$root/disk/"
libraries=$(ldd "$root/disk/qemu-ga")
case $libraries in *'not found'*) echo "missing: $libraries" >&2; exit 1 ;; esac
grep -o '/[^ ]*' <<<"$libraries" | while read -r library; do cp -L "$library" "$root/disk/"; done
/sbin/mke2fs -q -t ext4 -O ^has_journal -d "$root/disk" "$to" 24M
"#;

/// In the guest: the port's device has its name in sysfs alone, without udev.
pub const START: &str = "mkdir -p /a; mount -t ext4 -o ro,noatime /dev/vdb /a; \
    port=$(grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name | cut -d/ -f5); \
    LD_LIBRARY_PATH=/a /a/ld-linux-x86-64.so.2 /a/qemu-ga -d -m virtio-serial -p /dev/$port -t /run -f /run/qga.pid 2>&1";

pub fn world() -> World {
    let world = World::new();
    std::fs::create_dir(world.path("volumes")).unwrap();
    let disk = world.path("volumes/agent.img");
    checked(Command::new("bash").args(["-c", DISK, "bash"]).arg(Path::new(&disk)));
    world
}

pub fn agent(world: &World) -> Value {
    let output = world.command(&[]).args(["status", "--output", "json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["guest"]["agent"].clone()
}

fn until_state(world: &World, state: &str) -> Value {
    world.until(&format!("agent {state}"), SOON, |world| {
        let agent = agent(world);
        (agent["state"] == state).then_some(agent)
    })
}

/// It says all that it is asked at first.
pub fn until_known(world: &World) -> Value {
    world.until("what the agent says", SOON, |world| {
        let agent = agent(world);
        (!agent["addresses"].as_array()?.is_empty()).then_some(agent)
    })
}

/// For people: the code, and what is told.
fn status(world: &World) -> (i32, String) {
    let output = world.command(&[]).arg("status").output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_the_agent_says_is_in_the_status_while_it_is_there() {
    let mut world = world();
    world.set("BERTH_READY", "agent").set("BERTH_WEB", "loopback").start().ready();
    let absent = until_state(&world, "absent");
    assert_eq!(absent["os"], Value::Null);
    let (code, text) = status(&world);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("\nbecause  the guest's agent does not answer"), "{text}");
    let said = world.guest(START);
    let agent = until_known(&world);
    assert_eq!(
        (&agent["state"], &agent["host_name"]),
        (&"answers".into(), &"demo".into()),
        "{said}"
    );
    let addresses: Vec<&str> = agent["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address.as_str().unwrap())
        .collect();
    assert!(addresses.contains(&"192.168.254.2") && !addresses.contains(&"127.0.0.1"), "{agent}");
    assert!(agent["version"].as_str().unwrap().starts_with("7.2"), "{agent}");
    let (code, text) = status(&world);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\nagent    answers, "), "{text}");
    world.until("its disk among the metrics", SOON, |world| {
        let page = web::get(world, "/metrics");
        let disk = "\nberth_agent_filesystem_size_bytes{mountpoint=\"/a\",fstype=\"ext4\"} ";
        (page.text().contains("\nberth_agent_up 1\n") && page.text().contains(disk)).then_some(())
    });
    world.guest("kill -KILL $(cat /run/qga.pid)");
    let gone = until_state(&world, "absent");
    assert_eq!(status(&world).0, 1);
    assert_eq!((&gone["host_name"], &gone["addresses"]), (&Value::Null, &Value::Array(vec![])));
    world.guest(&format!("rm -f /run/qga.pid; hostname other; {START}"));
    assert_eq!(until_known(&world)["host_name"], "other");
    assert!(world.log().contains("the guest agent answers"), "{}", world.log());
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// `berth guest`: the code, and what it says on both.
fn guest(world: &World, words: &str) -> (i32, String) {
    let output = world.command(&[]).arg("guest").args(words.split(' ')).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn json(world: &World, words: &str) -> Value {
    let (code, said) = guest(world, &format!("{words} --output json"));
    assert_eq!(code, 0, "{words}: {said}");
    serde_json::from_str(&said).unwrap()
}

/// Octets that a writer in the guest has written so far.
fn written(world: &World) -> u64 {
    let said = world.guest("wc -c </run/written");
    let number = said.split_whitespace().find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn a_freeze_stops_a_writer_until_a_thaw_or_its_end() {
    let mut world = world();
    world.start().ready();
    let (code, said) = guest(&world, "info");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no guest agent is running"), "{said}");
    world.guest(START);
    until_known(&world);
    let mode = std::fs::metadata(world.path("state/control.sock")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    let info = json(&world, "info");
    assert_eq!(
        (&info["host_name"], &info["os"]["machine"]),
        (&"demo".into(), &"x86_64".into()),
        "{info}"
    );
    let interfaces = json(&world, "interfaces");
    let card =
        interfaces.as_array().unwrap().iter().find(|interface| interface["name"] != "lo").unwrap();
    assert!(card["mac"].as_str().unwrap().starts_with("52:54:"), "{interfaces}");
    assert_eq!(card["addresses"][0]["address"], "192.168.254.2", "{interfaces}");
    let systems = json(&world, "filesystems");
    let data =
        systems.as_array().unwrap().iter().find(|system| system["mountpoint"] == "/data").unwrap();
    assert_eq!(data["type"], "ext4", "{systems}");
    assert!(data["total_bytes"].as_u64() > data["used_bytes"].as_u64(), "{systems}");
    // Each round says that it is over only when its octet is on the disk.
    world.guest(": >/run/written; (while :; do echo x | dd of=/data/w conv=fsync 2>/dev/null && echo -n x >>/run/written; usleep 100000; done) >/dev/null 2>&1 &");
    world.until("the writer", SOON, |world| (written(world) > 3).then_some(()));
    let goes_on = |world: &World| {
        let before = written(world);
        world
            .until("the writer goes on", SOON, |world| (written(world) > before + 1).then_some(()));
    };

    let (code, said) = guest(&world, "freeze --for 120");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("are frozen, for 120 s at most"), "{said}");
    // One round may be over the freeze.
    let before = written(&world);
    std::thread::sleep(Duration::from_secs(3));
    assert!(written(&world) <= before + 1);
    assert_eq!(agent(&world)["state"], "frozen");
    let (code, said) = guest(&world, "interfaces");
    assert_eq!((code, said.contains("frozen")), (1, true), "{said}");
    assert_eq!(agent(&world)["host_name"], "demo", "what it said stays");
    assert_eq!(guest(&world, "thaw").0, 0);
    goes_on(&world);
    assert_eq!(agent(&world)["state"], "answers");

    let (code, said) = guest(&world, "freeze --for 5");
    assert_eq!(code, 0, "{said}");
    world.until("the thaw", SOON, |world| (agent(world)["state"] == "answers").then_some(()));
    goes_on(&world);

    // Frozen for longer than the guest has to end: it is thawed for that.
    assert_eq!(guest(&world, "freeze --for 300").0, 0);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    let log = world.log();
    assert!(
        log.contains("file systems are frozen") && log.contains("file systems are thawed"),
        "{log}"
    );
}
