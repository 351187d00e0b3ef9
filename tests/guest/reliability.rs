//! The same again and again, with real guests, and counted: orderly ends, SIGKILL at any point, volumes that are full and
//! have room again. Two rounds of each among the ordinary tests (kills: the launcher in one, QEMU in the other); more say
//! how often it holds.
//!
//! ```console
//! # make reliability ROUNDS=50 BERTH=/path/to/berth
//! ```
//!
//! Each campaign prints its rounds, and fails with the number and the reason of each that did not hold.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::dice::Dice;
use crate::support::world::{Volume, World};
use crate::support::{self, Netns, checked, veth};

const SOON: Duration = Duration::from_secs(60);
/// Writes until the guest ends, and waits for the disk each time.
const WRITER: &str = "(while :; do dd if=/dev/urandom of=/data/w bs=64k count=16 conv=fsync; done) >/dev/null 2>&1 &";

fn binary() -> String {
    std::env::var("BERTH").unwrap_or_else(|_| env!("CARGO_BIN_EXE_berth").to_owned())
}

/// So many rounds of it, unless others are asked for; whoever does not hold is told at the end, by its number.
pub fn campaign(name: &str, rounds: usize, mut round: impl FnMut(usize)) {
    let rounds = std::env::var("ROUNDS")
        .map_or(rounds, |rounds| rounds.parse().expect("ROUNDS is a number"));
    assert!(rounds > 0, "ROUNDS: nothing would be tried");
    let mut failures = Vec::new();
    for number in 1..=rounds {
        let began = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| round(number)));
        println!("{name}: round {number} of {rounds}, {:.1} s", began.elapsed().as_secs_f64());
        if let Err(why) = held {
            let why = why.downcast::<String>().map_or_else(|_| "it stopped".to_owned(), |why| *why);
            failures.push(format!("round {number}: {why}"));
        }
    }
    println!("{name}: {} of {rounds} held", rounds - failures.len());
    assert!(failures.is_empty(), "{name}: {} failed\n{}", failures.len(), failures.join("\n"));
}

fn start(world: &mut World) -> &mut World {
    world.start_binary(&[], &binary(), "run")
}

fn boots(world: &World) -> usize {
    let serial = world.serial();
    let told = serial.split_once(" boots ").and_then(|(_, rest)| rest.split_whitespace().next());
    told.and_then(|boots| boots.parse().ok()).unwrap_or_else(|| panic!("no boots in\n{serial}"))
}

/// Whole as QEMU sees it: clusters that leak (3) are what a power cut leaves.
fn check_disk(world: &World) {
    let disk = world.path("image/demo.qcow2");
    let output = Command::new("qemu-img").arg("check").arg(&disk).output().unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// What our table is, without what counts up.
fn rules(world: &World) -> String {
    world.pod.run("nft -s list table inet berth")
}

#[test]
fn orderly_ends_leave_clean_file_systems() {
    campaign("orderly ends", 2, |_| {
        let mut world = World::new();
        world.set("BERTH_GRACE_S", "60");
        start(&mut world).ready().tell_guest(WRITER);
        world.until("the guest writes", SOON, |world| {
            world.guest("ls /data").contains('w').then_some(())
        });
        assert_eq!(world.stop(), Some(0), "{}", world.log());
        check_disk(&world);
        let (clean, boots) = world.data_partition();
        assert!(clean && boots == "1", "clean {clean}, boots {boots:?}\n{}", world.log());
    });
}

/// The launcher in one round, QEMU in the next; during a start or while the guest writes.
#[test]
fn killed_anywhere_the_next_start_converges() {
    let mut wanted: Option<String> = None;
    campaign("kills", 2, |round| {
        let mut dice = Dice::new(round as u64);
        let mut world = World::new();
        let at = Duration::from_millis(dice.below(9000) as u64);
        start(&mut world);
        let end = Instant::now() + at;
        let mut writes = false;
        while Instant::now() < end {
            if !writes && world.serial().contains(" ready") {
                world.tell_guest(WRITER);
                writes = true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Its start may not have come to QEMU yet.
        let children =
            Command::new("pgrep").args(["-P", &world.pid().to_string(), "qemu"]).output().unwrap();
        let qemu = String::from_utf8_lossy(&children.stdout).trim().to_owned();
        if round.is_multiple_of(2) && !qemu.is_empty() {
            support::run("kill", &["-KILL", &qemu]);
            assert_ne!(world.wait(SOON).code(), Some(0), "{}", world.log());
        } else {
            world.kill();
        }
        let booted = if world.serial().contains(" boots ") { boots(&world) } else { 0 };
        start(&mut world).ready();
        assert!(boots(&world) > booted, "boots {} after {booted}", boots(&world));
        let rules = rules(&world);
        assert_eq!(&rules, wanted.get_or_insert_with(|| rules.clone()), "killed after {at:?}");
        assert_eq!(world.stop(), Some(0), "{}", world.log());
        check_disk(&world);
        assert!(world.data_partition().0, "killed after {at:?}: {}", world.log());
    });
}

#[test]
fn full_volumes_pause_the_guest_until_there_is_room() {
    campaign("full volumes", 2, |_| {
        let mut world = World::new();
        let volume = Volume::new(&world, "image", "6m");
        world.set("BERTH_GRACE_S", "60");
        start(&mut world).ready();
        world.tell_guest("dd if=/dev/urandom of=/data/a bs=1M count=7 conv=fsync &");
        let status = |word: &'static str| {
            move |world: &World| {
                let output = world.command_of(&[], &binary()).arg("status").output().unwrap();
                String::from_utf8_lossy(&output.stdout).contains(word).then_some(())
            }
        };
        world.until("the guest is paused", SOON, status("paused (write on disk0"));
        volume.resize("64m");
        world.until("the guest runs", SOON, status("guest    running"));
        let written = |world: &World| {
            world.guest("pidof dd || stat -c %s /data/a").contains("7340032").then_some(())
        };
        world.until("all is written", SOON, written);
        assert_eq!(world.stop(), Some(0), "{}", world.log());
        check_disk(&world);
        assert!(world.data_partition().0, "{}", world.log());
    });
}

/// Ended, by its id, whatever becomes of the round.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No lease is told that a restart would not know; the server stays, says so once, and goes on when there is room.
#[test]
fn leases_are_given_again_when_their_volume_has_room() {
    campaign("lease files", 2, |_| {
        let world = World::new();
        let (server, client) = (Netns::new("srv"), Netns::new("cli"));
        veth(&server, "s0", &client, "c0");
        server.ip("addr add 10.77.0.1/16 dev s0");
        server.run("ethtool -K s0 tx off");
        let volume = Volume::new(&world, "state", "64k");
        let log = world.path("serve.log");
        let mut command = server.command(&binary());
        command.args([
            "serve",
            "--interface=s0",
            "--range=10.77.1.1,10.77.1.200",
            "--no-dns",
            "--lease-file",
        ]);
        command
            .arg(world.path("state/leases"))
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap());
        let mut serving = Server(command.spawn().unwrap());
        let said = |word: &str| std::fs::read_to_string(&log).unwrap().matches(word).count();
        let lease = || {
            let words = "busybox udhcpc -f -n -q -i c0 -t 3 -T 1 -s /bin/true";
            client
                .command("timeout")
                .arg("20")
                .args(words.split(' '))
                .output()
                .unwrap()
                .status
                .success()
        };
        let until = |what: &str, holds: &dyn Fn() -> bool| {
            let end = Instant::now() + SOON;
            while !holds() {
                assert!(Instant::now() < end, "{what}\n{}", std::fs::read_to_string(&log).unwrap());
            }
        };
        until("no lease in peace", &lease);
        // To the last octet of the volume's.
        let _ = Command::new("dd")
            .arg("if=/dev/zero")
            .arg(format!("of={}", world.path("state/fill").display()))
            .output();
        // The page that the file has is written to its end first.
        for number in 0..200 {
            client.ip(&format!("link set c0 address 02:00:00:00:01:{number:02x}"));
            if !lease() {
                break;
            }
        }
        assert!(
            said("the lease file cannot be written") == 1,
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
        assert!(!lease(), "a lease was told that is not written");
        assert!(
            serving.0.try_wait().unwrap().is_none(),
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
        volume.resize("1m");
        until("no lease though there is room", &lease);
        assert_eq!(said("the lease file can be written again"), 1);
        checked(Command::new("kill").args(["-TERM", &serving.0.id().to_string()]));
        assert!(serving.0.wait().unwrap().success());
    });
}
