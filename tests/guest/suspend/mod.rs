//! Suspend and resume with the tiny guest: its memory goes on, in another start, elsewhere, or it is booted.

mod kills;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use berth::ram::{HEADER_BYTES, Header};

use crate::support::world::{Volume, World};
use crate::support::{self, checked};
use crate::{agent, backup};

const SOON: Duration = Duration::from_secs(60);
const HEADER: u64 = HEADER_BYTES as u64;
/// What only this run of the guest's kernel has.
const MEMORY: &str = "sha256sum /run/memory; cat /proc/sys/kernel/random/boot_id";

fn suspending() -> World {
    let mut world = World::new();
    world.set("BERTH_ON_STOP", "suspend");
    world
}

fn image(world: &World) -> PathBuf {
    world.path("image/demo.ram")
}

fn part(world: &World) -> PathBuf {
    world.path("image/.demo.ram.part")
}

/// Waits until berth says that the guest is resumed.
fn resumed(world: &World) {
    world.until("the guest is resumed", SOON, |world| {
        world.log().contains("the guest is resumed").then_some(())
    });
}

/// Starts, and expects that it ends at once.
fn ends(world: &mut World) -> Option<i32> {
    world.start().wait(SOON).code()
}

fn qemu(world: &World) -> String {
    let pid = world.pid().to_string();
    checked(Command::new("pgrep").args(["-P", &pid, "qemu"])).trim().to_owned()
}

#[test]
fn a_guest_that_is_stopped_goes_on_in_the_next_start() {
    let mut world = suspending();
    std::fs::write(part(&world), "of a launcher that was killed").unwrap();
    world.start().ready();
    assert!(!part(&world).exists());
    world.guest("head -c 300000 /dev/urandom >/run/memory; sync");
    let before = world.guest(MEMORY);
    assert!(before.contains("/run/memory"), "{before}");
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(world.log().contains("the guest is suspended"), "{}", world.log());
    let mode = std::fs::metadata(image(&world)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    devices_are_where_the_line_says(&world);
    std::thread::sleep(Duration::from_millis(1500));
    // Another pod: another address.
    world.move_to("10.244.7.9");
    let began = Instant::now();
    resumed(world.start());
    assert_eq!(before, world.guest(MEMORY), "{}", world.log());
    println!("start to answer {:?}", began.elapsed());
    shows_its_screen(&world);
    assert!(!image(&world).exists());
    let status = world.command(&[]).arg("status").output().unwrap();
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains(": ready\n") && text.contains("suspend  resumed, "), "{text}");
    world.until("a word about the clock", SOON, |world| {
        world.log().contains("the guest's clock is behind").then_some(())
    });
    let mut shell = shell(&world);
    shell.write_all(b"x=42\n").unwrap();
    // And again, by hand.
    let said = world.command(&[]).arg("suspend").output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(world.wait(SOON).code(), Some(0), "{}", world.log());
    resumed(world.start());
    assert_eq!(before, world.guest(MEMORY));
    // In the same pod a connection goes on, and what it is to.
    shell.write_all(b"echo $x; exit\n").unwrap();
    let mut said = String::new();
    shell.read_to_string(&mut said).unwrap();
    assert_eq!(said, "42\n");
    let serial = world.guest("echo -n on >/dev/console; echo line >/dev/console; echo done");
    assert!(serial.contains("done"), "{serial}");
    world.until("the serial line", SOON, |world| world.serial().contains("online").then_some(()));
    // Off: it is booted, and nothing is left to resume.
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    world.set("BERTH_RESUME", "off").set("BERTH_ON_STOP", "poweroff").start().ready();
    assert!(!image(&world).exists());
    assert_ne!(before, world.guest(MEMORY));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    assert!(!image(&world).exists());
}

/// A connection to the guest's shell.
fn shell(world: &World) -> TcpStream {
    let to = std::net::SocketAddr::new(world.address.parse().unwrap(), 2323);
    let stream = world.peer.within(move || TcpStream::connect_timeout(&to, SOON).unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// A reader of the screen is greeted (RFC 6143 §7.1.1).
fn shows_its_screen(world: &World) {
    let to = std::net::SocketAddr::new(world.address.parse().unwrap(), 5900);
    world.pod.within(move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut greeting = [0; 12];
        stream.read_exact(&mut greeting).unwrap();
        assert!(greeting.starts_with(b"RFB 003."), "{greeting:?}");
    });
}

/// What QEMU tells of its PCI bus is what its command line says.
fn devices_are_where_the_line_says(world: &World) {
    let file = std::fs::read(image(world)).unwrap();
    let facts = Header::decode(&file[..HEADER_BYTES], file.len() as u64).unwrap().facts;
    let mut addresses = 0;
    for fact in facts.all().iter().filter(|fact| fact.what.starts_with("device ")) {
        let Some((_, address)) = fact.value.split_once("addr=0x") else {
            assert!(fact.value.contains("bus=") && !fact.value.contains("bus=pcie"), "{fact:?}");
            continue;
        };
        let address = address.split(',').next().unwrap();
        let (slot, function) = address.split_once('.').unwrap_or((address, "0"));
        let slot = u8::from_str_radix(slot, 16).unwrap();
        let place = format!("PCI {slot:02x}.{function}");
        assert!(facts.of(&place).is_some(), "{fact:?}: no {place} in {facts:?}");
        addresses += 1;
    }
    assert!(addresses >= 5, "{facts:?}");
}

/// Of the line with this word, which has both values.
fn refusal(world: &World, words: &[&str]) {
    let log = world.log();
    let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
    assert!(line.is_some(), "{words:?} in\n{log}");
}

#[test]
fn what_does_not_fit_is_refused_with_both_values_and_the_guest_is_booted() {
    let mut world = suspending();
    world.start().ready();
    world.guest("head -c 300000 /dev/urandom >/run/memory; sync");
    let before = world.guest(MEMORY);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    world.set("BERTH_RESUME", "require");
    let usual = (world.env.clone(), world.args.clone());
    let rows: [(&str, &str, &[&str]); 4] = [
        ("IMG_RAM_MB", "200", &["memory in MiB: saved 192, now 200"]),
        ("IMG_VCPU", "2", &["vCPUs: saved 1, now 2"]),
        ("BERTH_CPU", "qemu64", &["CPU model: saved max, now qemu64"]),
        ("BERTH_VNC", "off", &["-vga: saved std, now none"]),
    ];
    for (name, value, words) in rows {
        world.set(name, value);
        assert_eq!(ends(&mut world), Some(23), "{name}\n{}", world.log());
        refusal(&world, words);
        world.env.clone_from(&usual.0);
    }
    let more = ["--", "-device", "virtio-rng-pci"].map(str::to_owned);
    world.args.extend(more);
    assert_eq!(ends(&mut world), Some(23), "{}", world.log());
    refusal(&world, &["device virtio-rng-pci (2): saved none, now "]);
    world.args.clone_from(&usual.1);

    let userdata = world.path("userdata");
    std::fs::write(&userdata, "#cloud-config\n{hostname: other}\n").unwrap();
    assert_eq!(ends(&mut world), Some(23), "{}", world.log());
    refusal(&world, &["config drive: saved SHA-256 ", ", now SHA-256 "]);
    std::fs::write(&userdata, "#cloud-config\n{}\n").unwrap();

    let generation = world.path("image/demo.gen");
    let own = std::fs::read(&generation).unwrap();
    std::fs::write(&generation, [7; 16]).unwrap();
    assert_eq!(ends(&mut world), Some(23), "{}", world.log());
    refusal(&world, &["generation of the disk: saved ", "now 07070707070707070707070707070707"]);
    std::fs::write(&generation, own).unwrap();

    let open = || std::fs::OpenOptions::new().read(true).write(true).open(image(&world)).unwrap();
    let (file, length) = (open(), open().metadata().unwrap().len());
    let flip = |at: u64| {
        let mut octet = [0];
        file.read_exact_at(&mut octet, at).unwrap();
        file.write_all_at(&[octet[0] ^ 1], at).unwrap();
    };
    let middle = HEADER + (length - HEADER) / 2;
    flip(middle);
    assert_eq!(ends(&mut world), Some(23), "{}", world.log());
    refusal(&world, &["its stream has the SHA-256 ", "and was written with "]);
    flip(middle);
    let mut last = [0];
    file.read_exact_at(&mut last, length - 1).unwrap();
    file.set_len(length - 1).unwrap();
    assert_eq!(ends(&mut world), Some(23), "{}", world.log());
    let (now, then) = (length - HEADER - 1, length - HEADER);
    refusal(&world, &[&format!("its stream has {now} octets, and was written with {then}")]);
    file.write_all_at(&last, length - 1).unwrap();
    flip(100);
    assert_eq!(ends(&mut world), Some(23), "{}", world.log());
    refusal(&world, &["its header has the SHA-256 "]);
    flip(100);

    // Nothing was touched by all of that.
    resumed(world.start());
    assert_eq!(before, world.guest(MEMORY));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(image(&world)).unwrap();
    file.write_all_at(b"not what was there", middle).unwrap();
    world.set("BERTH_RESUME", "auto").start().ready();
    refusal(&world, &["is not resumed, it is booted", "its stream has the SHA-256 "]);
    assert!(!image(&world).exists());
    assert_ne!(before, world.guest(MEMORY));
}

/// Nothing is left that could be resumed, and the guest ended in order.
fn powered_off(world: &World) {
    let log = world.log();
    assert!(log.contains("the guest is not suspended: "), "{log}");
    assert!(log.contains("power button pressed"), "{log}");
    assert!(!image(world).exists() && !part(world).exists(), "{log}");
}

#[test]
fn a_guest_that_cannot_be_saved_is_powered_off_within_the_same_grace_period() {
    let mut world = suspending();
    let volume = Volume::new(&world, "image", "40m");
    world.set("BERTH_GRACE_S", "30").start().ready();
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    powered_off(&world);
    refusal(&world, &["MiB that the volume has room for"]);
    drop(volume);

    // A device that cannot be saved.
    let words = [
        "--",
        "-object",
        "memory-backend-ram,id=shared,size=1M,share=on",
        "-device",
        "ivshmem-plain,memdev=shared,master=off",
    ];
    world.args.extend(words.map(str::to_owned));
    world.start().ready();
    // Asked for by hand, it runs on.
    let said = world.command(&[]).arg("suspend").output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!((said.status.code(), text.contains("hinders it")), (Some(1), true), "{text}");
    assert!(world.guest("echo it runs").contains("it runs"));
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    powered_off(&world);
    refusal(&world, &["something in the machine hinders it: ", "ivshmem"]);
    world.args.clear();

    // No file can be made: the button is not kept waiting, however short the grace period is.
    std::fs::create_dir(part(&world)).unwrap();
    world.set("BERTH_GRACE_S", "4").start().ready();
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    std::fs::remove_dir(part(&world)).unwrap();
    powered_off(&world);

    // A QEMU that takes too long: of 18 s it has 9.
    world.set("BERTH_GRACE_S", "20").start().ready();
    let qemu = qemu(&world);
    support::run("kill", &["-STOP", &qemu]);
    let asked = Instant::now();
    world.signal("TERM");
    std::thread::sleep(Duration::from_secs(10));
    support::run("kill", &["-CONT", &qemu]);
    assert_eq!(world.wait(SOON).code(), Some(0), "{}", world.log());
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}\n{}", asked.elapsed(), world.log());
    powered_off(&world);
    let (clean, _) = world.data_partition();
    assert!(clean, "{}", world.log());
}

/// Two disks and no agent: to note one moment a backup stops the guest, and has it go on.
#[test]
fn a_backup_waits_for_nothing_of_a_guest_that_is_saved_and_leaves_it_alone() {
    let mut world = suspending();
    for dir in ["volumes", "backups"] {
        std::fs::create_dir(world.path(dir)).unwrap();
    }
    let disk = std::fs::File::create(world.path("volumes/data.img")).unwrap();
    disk.set_len(64 << 20).unwrap();
    world.start().ready();
    // Its disk is another as soon as it goes on.
    backup::write(&world);
    let before = world.guest(MEMORY);
    let backup = |number: u32| {
        let mut backup = world.command(&[]);
        backup.arg("backup").arg(world.path(&format!("backups/{number}.qcow2")));
        backup.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        backup.spawn().unwrap()
    };
    // One under way, and more at every moment of the save.
    let mut backups = vec![backup(0)];
    let mut suspend = world.command(&[]).arg("suspend").spawn().unwrap();
    let mut number = 0;
    let status = loop {
        if let Some(status) = suspend.try_wait().unwrap() {
            break status;
        }
        number += 1;
        backups.push(backup(number));
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{}", world.log());
    for mut backup in backups {
        backup.wait().unwrap();
    }
    assert_eq!(world.wait(SOON).code(), Some(0), "{}", world.log());
    let left = std::fs::read_dir(world.path("backups")).unwrap().map(|file| file.unwrap().path());
    let left: Vec<_> =
        left.filter(|path| path.extension().is_some_and(|it| it == "part")).collect();
    assert!(left.is_empty(), "{left:?}\n{}", world.log());
    resumed(world.start());
    assert_eq!(before, world.guest(MEMORY), "{}", world.log());
}

#[test]
fn the_clock_is_set_by_the_guests_agent() {
    let mut world = agent::world();
    world.set("BERTH_ON_STOP", "suspend").start().ready();
    // The agent sets nothing where there is none.
    world.guest("echo '#!/bin/sh' >/sbin/hwclock; chmod 755 /sbin/hwclock");
    world.guest(agent::START);
    agent::until_known(&world);
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    std::thread::sleep(Duration::from_secs(4));
    resumed(world.start());
    world.until("the clock", SOON, |world| {
        world.log().contains("the guest's clock is set by its agent").then_some(())
    });
    let said = world.guest("echo now $(date +%s) then");
    let number = said.split("now ").last().unwrap().split_whitespace().next().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let offset = now.abs_diff(number.parse().unwrap_or_else(|_| panic!("{said}")));
    assert!(offset <= 2, "{offset} s: {said}");
    println!("{}", world.log());
}
