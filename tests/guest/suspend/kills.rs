//! SIGKILL at any instant of a save and of a resume: every next start is good, and what the guest has written with fsync is
//! never taken back.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{SOON, suspending};
use crate::reliability::campaign;
use crate::support::dice::Dice;
use crate::support::world::{BOOT, World};

/// Goes on from what is there. A number is in `/run/durable` only when it is on the disk.
const WRITER: &str = "[ -e /data/counter ] || { printf 00000000 >/data/counter; sync; }; \
    (i=$(sed 's/^0*//' /data/counter); while :; do i=$((i+1)); \
    printf '%08d' $i | dd of=/data/counter conv=notrunc,fsync 2>/dev/null && echo $i >/run/durable; \
    done) >/dev/null 2>&1 &";

/// Waits until the guest runs; true when it was booted.
fn runs(world: &mut World) -> bool {
    let end = Instant::now() + BOOT;
    loop {
        if world.log().contains("the guest is resumed") {
            return false;
        }
        if world.serial().contains(" ready") {
            return true;
        }
        assert!(Instant::now() < end && world.is_running(), "{}\n{}", world.log(), world.serial());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the guest has written for certain.
fn durable(world: &World) -> u64 {
    let said = world.guest("echo at $(cat /run/durable) end");
    let number = said.split("at ").last().and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// And what it reads of its disk.
fn on_disk(world: &World) -> u64 {
    let said = world.guest("echo at $(cat /data/counter) end");
    let number = said.split("at ").last().and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// berth, or QEMU and then berth.
fn strike(world: &mut World, dice: &mut Dice) {
    let pid = world.pid().to_string();
    let children = Command::new("pgrep").args(["-P", &pid, "qemu"]).output().unwrap();
    let qemu = String::from_utf8_lossy(&children.stdout).trim().to_owned();
    if dice.below(2) == 0 && !qemu.is_empty() {
        let _ = Command::new("kill").args(["-KILL", &qemu]).status();
        std::thread::sleep(Duration::from_millis(dice.below(50) as u64));
    }
    world.kill();
}

#[test]
fn killed_anywhere_a_counter_never_goes_back() {
    let mut world = suspending();
    let (mut least, mut resumes, mut boots) = (0, 0, 0);
    world.start().ready();
    world.guest(WRITER);
    campaign("suspends and resumes killed", 6, |round| {
        let mut dice = Dice::new(round as u64);
        if round > 1 {
            if !world.is_running() {
                world.start();
            }
            let is_booted = runs(&mut world);
            if is_booted {
                boots += 1;
                assert!(on_disk(&world) >= least, "{} after {least}", on_disk(&world));
                world.guest(WRITER);
            } else {
                resumes += 1;
            }
        }
        let is =
            world.until("the counter", SOON, |world| Some(durable(world)).filter(|is| *is > 0));
        assert!(is >= least, "{is} after {least}\n{}", world.log());
        least = is;
        world.signal("TERM");
        // In three rounds of four it is over by then: what comes next is killed.
        let at = if round % 4 == 0 { dice.below(400) } else { 5000 };
        let end = Instant::now() + Duration::from_millis(at as u64);
        while Instant::now() < end && world.is_running() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if world.is_running() {
            strike(&mut world, &mut dice);
        } else {
            world.forget();
        }
        world.start();
        std::thread::sleep(Duration::from_millis(dice.below(900) as u64));
        if dice.below(4) > 0 {
            strike(&mut world, &mut dice);
        }
    });
    println!("{resumes} resumed, {boots} booted, counter {least}");
}
