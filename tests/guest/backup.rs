//! Backups of a guest that runs, their restore, and disks that grow.
//!
//! `ROUNDS=50` says how often a backup of a guest that writes is whole, and how long a chain of increments holds.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent;
use crate::support::checked;
use crate::support::world::{Volume, World};

const SOON: Duration = Duration::from_secs(60);
/// Writes, and waits for the disk each time.
const WRITER: &str = "(while :; do n=$((n+1)); dd if=/dev/urandom of=/data/w$((n%4)) bs=64k count=16 conv=fsync; echo $n >>/data/log; \
    mv /data/w$((n%4)) /data/v$((n%4)); sync; echo $n >/run/rounds; done) >/dev/null 2>&1 & echo $! >/run/writer";

fn world() -> World {
    let world = World::new();
    std::fs::create_dir(world.path("backup")).unwrap();
    world
}

fn rounds_wanted(ordinary: usize) -> usize {
    std::env::var("ROUNDS").map_or(ordinary, |rounds| rounds.parse().expect("ROUNDS is a number"))
}

/// `berth` in the pod: the code, and what it says on both.
fn berth(world: &World, words: &[&str]) -> (i32, String) {
    let output = world.command(&[]).args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn json(world: &World, words: &[&str]) -> Value {
    let output = world.command(&[]).args(words).args(["--output", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}\n{}", world.log());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn to(world: &World, name: &str) -> String {
    world.path("backup").join(name).display().to_string()
}

fn back_up(world: &World, target: &str, more: &[&str]) -> Value {
    let target = to(world, target);
    json(world, &[&["backup", &target], more].concat())
}

fn path_of(answer: &Value) -> PathBuf {
    answer["files"][0]["path"].as_str().unwrap().into()
}

fn left(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("backup")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn check(image: &Path) {
    checked(Command::new("qemu-img").arg("check").arg(image));
}

fn rounds(world: &World) -> u64 {
    let said = world.guest("echo rounds $(cat /run/rounds).");
    let number = said
        .rsplit_once("rounds ")
        .and_then(|(_, rest)| rest.split('.').next()?.trim().parse().ok());
    number.unwrap_or(0)
}

fn goes_on(world: &World) {
    let before = rounds(world);
    world.until("the writer goes on", SOON, |world| (rounds(world) > before + 1).then_some(()));
}

pub fn write(world: &World) {
    world.guest(WRITER);
    goes_on(world);
}

#[test]
fn a_backup_while_the_guest_writes_is_whole_and_boots() {
    let number = rounds_wanted(3);
    let mut world = world();
    world.start().ready();
    write(&world);
    let mut last = PathBuf::new();
    for round in 1..=number {
        let answer = back_up(&world, &format!("{round}.qcow2"), &[]);
        last = path_of(&answer);
        assert_eq!((&answer["consistency"], &answer["frozen_ms"]), (&"crash".into(), &Value::Null));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&last).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        check(&last);
        let (clean, _) = world.partition_of(&last, 1);
        println!(
            "round {round} of {number}: {} ms, journal clean before: {clean}",
            answer["took_ms"]
        );
        goes_on(&world);
        if round < number {
            std::fs::remove_file(&last).unwrap();
        }
    }
    let (_, page) = berth(&world, &["status", "--output", "prometheus"]);
    assert!(page.contains(&format!("berth_backups_total{{result=\"done\"}} {number}\n")), "{page}");
    assert!(page.contains("\nberth_backup_last_success_timestamp_seconds 1"), "{page}");
    let (code, said) = berth(&world, &["backup", &last.display().to_string()]);
    assert_eq!((code, said.contains("never replaces a file")), (1, true), "{said}");
    for nowhere in ["none/", "none/a.qcow2"] {
        let (code, said) = berth(&world, &["backup", &to(&world, nowhere)]);
        assert_eq!((code, said.contains("give a directory")), (1, true), "{said}");
    }
    let (code, said) = berth(&world, &["backup", "--incremental", &to(&world, "a.qcow2")]);
    assert_eq!((code, said.contains("needs a directory")), (1, true), "{said}");
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    check(&world.path("image/demo.qcow2"));

    let mut restored = self::world();
    restored.set("IMG_TARGET", &last.display().to_string()).start().ready();
    assert!(restored.serial().contains(" boots 2"), "{}", restored.serial());
    assert!(restored.guest("ls /data").contains("log"));
    assert_eq!(restored.stop(), Some(0), "{}", restored.log());
}

#[test]
fn the_agent_freezes_for_a_moment_and_one_that_is_late_is_not_waited_for() {
    let mut world = agent::world();
    std::fs::create_dir(world.path("backup")).unwrap();
    world.start().ready();
    world.guest(agent::START);
    agent::until_known(&world);
    write(&world);
    let mut frozen = Vec::new();
    for _ in 0..3 {
        let answer = back_up(&world, "a.qcow2", &[]);
        assert_eq!(answer["consistency"], "file-system", "{answer}");
        // The agent's own disk is the guest's, too.
        assert_eq!(answer["files"].as_array().unwrap().len(), 2, "{answer}");
        frozen.push(answer["frozen_ms"].as_u64().unwrap());
        check(&path_of(&answer));
        assert!(world.partition_of(&path_of(&answer), 1).0, "the journal is not clean: {answer}");
        for file in answer["files"].as_array().unwrap() {
            std::fs::remove_file(file["path"].as_str().unwrap()).unwrap();
        }
        goes_on(&world);
    }
    println!("frozen for {frozen:?} ms");
    assert!(frozen.iter().min() <= Some(&100), "{frozen:?}");

    world.guest("kill -STOP $(cat /run/qga.pid)");
    let answer = back_up(&world, "b.qcow2", &[]);
    assert_eq!(answer["consistency"], "crash", "{answer}");
    let warnings: Vec<&str> = answer["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .filter(|why| why.contains("crash-consistent"))
        .collect();
    assert_eq!(warnings.len(), 1, "{answer}");
    assert!(answer["took_ms"].as_u64().unwrap() < 20_000, "{answer}");
    check(&path_of(&answer));
    goes_on(&world);
    // What it was asked is still there: it freezes, and is thawed at once.
    world.guest("kill -CONT $(cat /run/qga.pid)");
    world.until("the agent answers", SOON, |world| {
        (agent::agent(world)["state"] == "answers").then_some(())
    });
    goes_on(&world);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// A backup that takes its time.
fn slow(world: &World, name: &str) -> Child {
    let mut command = world.command(&[]);
    command.args(["backup", "--speed", "2M", &to(world, name)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.until("a .part", SOON, |world| {
        left(world).iter().any(|name| name.ends_with(".part")).then_some(())
    });
    child
}

#[test]
fn a_backup_that_fails_or_is_cancelled_leaves_nothing_and_the_guest_goes_on() {
    let mut world = world();
    let volume = Volume::new(&world, "backup", "8m");
    world.start().ready();
    write(&world);
    let (code, said) = berth(&world, &["backup", &to(&world, "a.qcow2")]);
    assert_eq!((code, said.contains("No space left")), (1, true), "{said}\n{}", world.log());
    assert_eq!(left(&world), [""; 0]);
    goes_on(&world);
    volume.resize("200m");

    let mut client = slow(&world, "b.qcow2");
    let (code, said) = berth(&world, &["backup", &to(&world, "c.qcow2")]);
    assert_eq!((code, said.contains("one at a time")), (1, true), "{said}");
    assert_eq!(berth(&world, &["resize", "1G"]).0, 1);
    goes_on(&world);
    client.kill().unwrap();
    client.wait().unwrap();
    world.until("nothing is left", SOON, |world| left(world).is_empty().then_some(()));
    // The next one finds everything as it was.
    world.until("a backup", SOON, |world| {
        (berth(world, &["backup", &to(world, "d.qcow2")]).0 == 0).then_some(())
    });
    check(&world.path("backup/d.qcow2"));
    std::fs::remove_file(world.path("backup/d.qcow2")).unwrap();
    let log = world.log();
    assert!(log.contains("cancelled: whoever asked for it has left"), "{log}");
    assert!(!log.contains("stays in QEMU") && !log.contains("disk error"), "{log}");
    goes_on(&world);

    let client = slow(&world, "e.qcow2");
    let asked = Instant::now();
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    println!("stopped {} ms after SIGTERM", asked.elapsed().as_millis());
    assert!(asked.elapsed() < Duration::from_secs(25));
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(left(&world), [""; 0]);
    check(&world.path("image/demo.qcow2"));
    assert!(world.data_partition().0, "{}", world.log());
}

#[test]
fn a_scratch_file_that_is_full_ends_the_backup_and_no_write_of_the_guest() {
    let mut world = world();
    let _volume = Volume::new(&world, "image", "64m");
    world.start().ready();
    write(&world);
    // Little room as the backup begins; half of it is the scratch file's.
    let filler = world.path("image/filler");
    let found = rustix::fs::statvfs(world.path("image")).unwrap();
    let filled = found.f_bavail * found.f_frsize - (8 << 20);
    std::fs::write(&filler, vec![1; usize::try_from(filled).unwrap()]).unwrap();
    let client = slow(&world, "a.qcow2");
    std::fs::remove_file(&filler).unwrap();
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("more than the scratch file has room for"), "{said}\n{}", world.log());
    assert_eq!((output.status.code(), left(&world)), (Some(1), vec![]));
    goes_on(&world);
    let (code, said) = berth(&world, &["backup", &to(&world, "b.qcow2")]);
    assert_eq!(code, 0, "{said}");
    check(&world.path("backup/b.qcow2"));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(!world.log().contains("is paused"), "{}", world.log());
    assert!(world.data_partition().0, "{}", world.log());
}

/// A file system of its own, which stands still while it is frozen.
struct Target(String);

impl Target {
    fn new(world: &World) -> Self {
        let (file, dir) = (world.path("backup.img"), world.path("backup"));
        std::fs::File::create(&file).unwrap().set_len(256 << 20).unwrap();
        checked(Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&file));
        checked(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&dir));
        let _ = std::fs::remove_dir(dir.join("lost+found"));
        Self(dir.display().to_string())
    }

    fn freeze(&self, word: &str) {
        checked(Command::new("fsfreeze").args([word, &self.0]));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ =
            Command::new("fsfreeze").args(["--unfreeze", &self.0]).stderr(Stdio::null()).status();
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_target_that_stands_still_holds_up_nothing_but_its_backup() {
    let mut world = world();
    let target = Target::new(&world);
    world.start().ready();
    write(&world);
    let mut client = slow(&world, "a.qcow2");
    target.freeze("--freeze");
    let began = Instant::now();
    let before = rounds(&world);
    while began.elapsed() < Duration::from_secs(8) {
        goes_on(&world);
    }
    println!("{} rounds of the writer while the target stands still", rounds(&world) - before);
    client.kill().unwrap();
    client.wait().unwrap();
    world.until("the cancel", SOON, |world| {
        world.log().contains("the backup is cancelled").then_some(())
    });
    goes_on(&world);
    let (code, said) = berth(&world, &["status"]);
    assert_eq!(code, 0, "{said}");
    target.freeze("--unfreeze");
    world.until("nothing is left", SOON, |world| left(world).is_empty().then_some(()));
    world.until("a backup", SOON, |world| {
        (berth(world, &["backup", &to(world, "b.qcow2")]).0 == 0).then_some(())
    });
    check(&world.path("backup/b.qcow2"));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(world.data_partition().0, "{}", world.log());
}

fn same(one: &Path, other: &Path) {
    checked(Command::new("qemu-img").arg("compare").arg(one).arg(other));
}

#[test]
fn increments_are_the_full_backup_and_a_bitmap_that_a_kill_spoiled_is_not_used() {
    let mut world = world();
    world.start().ready();
    let incremental = |world: &World| {
        // Names have the time in seconds.
        std::thread::sleep(Duration::from_millis(1100));
        back_up(world, "", &["--incremental"])
    };
    let written = |world: &World, round: usize| {
        world.guest(&format!("dd if=/dev/urandom of=/data/r{round} bs=64k count=8; rm -f /data/r{}; sync; sleep 1; sync", round.saturating_sub(3)));
    };
    let first = incremental(&world);
    assert_eq!(first["files"][0]["on"], Value::Null);
    assert!(first["warnings"].to_string().contains("no bitmap of a backup before it"), "{first}");
    let mut before = path_of(&first);
    for round in 1..=rounds_wanted(4) {
        written(&world, round);
        let answer = incremental(&world);
        assert_eq!(
            answer["files"][0]["on"],
            before.file_name().unwrap().to_str().unwrap(),
            "{answer}"
        );
        let full = back_up(&world, &format!("full{round}.qcow2"), &[]);
        check(&path_of(&answer));
        same(&path_of(&answer), &path_of(&full));
        let (increment, whole) =
            (&answer["files"][0]["file_bytes"], &full["files"][0]["file_bytes"]);
        println!("round {round}: {increment} octets of {whole}");
        assert!(increment.as_u64() < whole.as_u64(), "{answer} {full}");
        before = path_of(&answer);
    }
    // An orderly end writes the bitmap down.
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    world.start().ready();
    written(&world, 5);
    let answer = incremental(&world);
    assert_eq!(answer["files"][0]["on"], before.file_name().unwrap().to_str().unwrap(), "{answer}");
    same(&path_of(&answer), &path_of(&back_up(&world, "after5.qcow2", &[])));
    // The chain as one image, for a restore.
    let whole = world.path("backup/whole.qcow2");
    checked(
        Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(path_of(&answer)).arg(&whole),
    );
    same(&whole, &world.path("backup/after5.qcow2"));

    // One that QEMU had loaded, and one that it had not written down yet.
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    world.start().ready();
    for why in ["is not consistent", "was killed before it wrote it down"] {
        world.kill();
        world.start().ready();
        written(&world, 6);
        let answer = incremental(&world);
        assert_eq!(answer["files"][0]["on"], Value::Null, "{answer}");
        assert!(answer["warnings"].to_string().contains(why), "{answer}");
        before = path_of(&answer);
    }
    written(&world, 7);
    let answer = incremental(&world);
    assert_eq!(answer["files"][0]["on"], before.file_name().unwrap().to_str().unwrap(), "{answer}");
    same(&path_of(&answer), &path_of(&back_up(&world, "after7.qcow2", &[])));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// In sectors.
fn size(world: &World, serial: &str) -> u64 {
    let said = world.guest(&format!(
        "for d in /sys/block/vd*; do [ $(cat $d/serial) = {serial} ] && echo size $(cat $d/size).; done"
    ));
    let number = said.rsplit_once("size ").unwrap_or_else(|| panic!("{said}")).1;
    number.split('.').next().unwrap().trim().parse().unwrap()
}

/// A block device on a file; gone with this.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Self {
        let device = checked(Command::new("losetup").args(["--find", "--show"]).arg(file));
        Self(device.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_disk_that_grows_is_seen_at_once_and_stays_so() {
    let mut world = world();
    for dir in ["volumes", "dev"] {
        std::fs::create_dir(world.path(dir)).unwrap();
    }
    let make = |name: &str| {
        let file = std::fs::File::create(world.path(name)).unwrap();
        file.set_len(16 << 20).unwrap();
        file
    };
    let (data, block) = (make("volumes/data.img"), make("block.img"));
    let device = Loop::new(&world.path("block.img"));
    std::os::unix::fs::symlink(&device.0, world.path("dev/disk1")).unwrap();
    world.start().ready();
    let answer = json(&world, &["resize", "1G"]);
    let grown = Instant::now();
    assert_eq!(answer[0]["size_bytes"], 1_u64 << 30, "{answer}");
    assert_eq!(size(&world, "root"), (1 << 30) / 512);
    println!("seen after {} ms at the latest", grown.elapsed().as_millis());
    assert!(grown.elapsed() < Duration::from_secs(1));
    let (code, said) = berth(&world, &["resize", "512M"]);
    assert_eq!((code, said.contains("never made smaller")), (1, true), "{said}");
    assert_eq!(json(&world, &["resize", "1G"])[0]["from_bytes"], 1_u64 << 30);

    let before = json(&world, &["resize"]);
    for disk in before.as_array().unwrap() {
        assert_eq!(
            (&disk["from_bytes"], &disk["size_bytes"]),
            (&(16_u64 << 20).into(), &(16_u64 << 20).into())
        );
    }
    assert_eq!(before.as_array().unwrap().len(), 2, "{before}");
    data.set_len(48 << 20).unwrap();
    block.set_len(64 << 20).unwrap();
    checked(Command::new("losetup").args(["--set-capacity", &device.0]));
    json(&world, &["resize"]);
    assert_eq!((size(&world, "data"), size(&world, "disk1")), ((48 << 20) / 512, (64 << 20) / 512));
    data.set_len(32 << 20).unwrap();
    let (code, said) = berth(&world, &["resize"]);
    assert_eq!((code, said.contains("never made smaller")), (1, true), "{said}");
    data.set_len(48 << 20).unwrap();

    assert_eq!(world.stop(), Some(0), "{}", world.log());
    world.set("BERTH_DISK_SIZE", "200M").start().ready();
    assert_eq!(size(&world, "root"), (1 << 30) / 512);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    check(&world.path("image/demo.qcow2"));
}
