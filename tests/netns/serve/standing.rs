//! What the server does when it is ended, killed, or not let be.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::serve::{Site, crowd};
use crate::support::{checked, until};

#[test]
fn one_lease_file_one_server() {
    let site = Site::new("");
    let mut second = site.server.command(env!("CARGO_BIN_EXE_berth"));
    second.args(["serve", "--interface=s0", "--range=10.0.1.1,10.0.1.9", "--no-dns"]);
    let output = second.arg(format!("--lease-file={}", site.leases().display())).output().unwrap();
    assert_eq!(output.status.code(), Some(18));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("another server serves from it"), "{text}");
}

#[test]
fn a_term_ends_it_at_once_and_what_is_wrong_is_told() {
    let mut site = Site::new("");
    let mut running = site.serving.take().unwrap();
    checked(Command::new("kill").args(["-TERM", &running.0.id().to_string()]));
    let began = Instant::now();
    assert!(running.0.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(1));
    let refused = |words: &str, code: i32, says: &str| {
        let mut command = site.server.command(env!("CARGO_BIN_EXE_berth"));
        let output = command.arg("serve").args(words.split_whitespace()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says), "{text}");
    };
    refused("--interface=nosuch --range=10.0.1.1,10.0.1.9", 11, "no interface nosuch");
    refused("--interface=lo --range=10.0.1.1,10.0.1.9", 12, "lo has no IPv4 address");
    refused("--interface=s0 --range=10.9.1.1,10.9.1.9", 12, "is not within 10.0.0.1/16");
    refused("--interface=s0", 10, "neither --range nor --reserve");
    refused("--interface=s0 --range=10.0.1.9", 10, "two addresses");
}

/// What was acknowledged to somebody is known after a SIGKILL at whatever moment: no address is given twice, and who
/// has one gets it again.
#[test]
fn no_acknowledged_lease_is_lost_to_fifty_kills() {
    let words = "--lease-time=3600";
    let mut site = Site::new(words);
    let mut wire = crowd::Crowd::new(&site.client, "c0");
    let mut acked = 0;
    for round in 0..50_u64 {
        let after = Duration::from_millis(5 + round * 13 % 60);
        let killer = {
            let pid = site.serving.as_ref().unwrap().0.id().to_string();
            std::thread::spawn(move || {
                std::thread::sleep(after);
                checked(Command::new("kill").args(["-KILL", &pid]));
            })
        };
        acked += wire.lease_until_silent();
        killer.join().unwrap();
        drop(site.serving.take());
        site.serve(words);
        wire.renew_some();
    }
    println!("{acked} leases acknowledged over 50 kills");
    assert!(acked > 500, "{acked}");
    let listed = site.listed();
    for (client, address) in wire.held() {
        let lease = listed.iter().find(|lease| lease["address"] == address.to_string()).unwrap();
        assert_eq!(lease["mac"], client.to_string());
    }
}

/// A disk of so many octets, until the test ends.
struct Disk(PathBuf);

impl Disk {
    fn new(site: &Site, size: &str) -> Self {
        let path = site.dir.path().join("disk");
        let mut mount = Command::new("mount");
        checked(
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "lease-test"]).arg(&path),
        );
        Self(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_gives_no_lease_and_loses_none_and_room_makes_it_go_on() {
    let mut site = Site::silent();
    let disk = Disk::new(&site, "64k");
    let other = disk.0.join("other");
    fs::write(&other, vec![1; 40 << 10]).unwrap();
    site.serve("");
    let log = |site: &Site| fs::read_to_string(site.dir.path().join("log")).unwrap();
    let mut crowd = crowd::Crowd::new(&site.client, "c0");
    let before = crowd.lease_until_silent();
    assert!((100..400).contains(&before), "{before} leases in some 20 KiB");
    assert_eq!(crowd.lease_until_silent(), 0, "no lease that is not written");
    assert!(
        log(&site)
            .contains("the lease file cannot be written: no lease is acknowledged until it can")
    );
    assert_eq!(log(&site).matches("cannot be written").count(), 1, "said once");
    fs::remove_file(other).unwrap();
    // Nobody has to ask for it.
    until("room", || log(&site).contains("the lease file can be written again"));
    let after = crowd.lease_until_silent();
    assert!(after > 100, "{after} leases in 40 KiB more");
    drop(site.serving.take());
    let listed = site.listed();
    for (client, address) in crowd.held() {
        let lease = listed.iter().find(|lease| lease["address"] == address.to_string()).unwrap();
        assert_eq!(lease["mac"], client.to_string());
    }
    let lines = fs::read_to_string(site.leases()).unwrap();
    assert!(lines.ends_with('\n'), "no half line is left behind");
    // Addresses whose lease was not told may be written all the same; each is once.
    let mut addresses: Vec<String> =
        listed.iter().map(|lease| lease["address"].to_string()).collect();
    addresses.dedup();
    assert_eq!(addresses.len(), listed.len());
}
