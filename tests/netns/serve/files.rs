//! The lease file as people have it: a link into a volume, mounted by itself, in a directory that is not to be written.

use crate::support::until;
use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use berth::net::MacAddr;
use berth::proto::Now;
use berth::proto::leases::{ClientId, HEADER, Hardware, Leases};

use crate::serve::{Site, crowd};

/// Longer than a file may be before it is written anew.
const LONG: usize = 300 << 10;
/// What is in it when it is short: one address' line, and some more.
const SHORT: u64 = 64 << 10;

/// A file that one client made long by renewing.
fn long_file(path: &Path, ends_in: Duration) {
    let now = Now { monotonic: Instant::now(), wall: SystemTime::now() };
    let mut leases = Leases::<std::net::Ipv4Addr>::new(10);
    let mut file = HEADER.as_bytes().to_vec();
    let mac = MacAddr([2, 0, 0, 9, 9, 9]);
    let id = ClientId::new(&[&[1], &mac.0[..]].concat());
    while file.len() < LONG {
        let hardware = Hardware { kind: 1, address: mac };
        assert!(leases.bind(
            now,
            [10, 0, 200, 1].into(),
            &id,
            hardware,
            Some("old"),
            Some(ends_in)
        ));
        file.extend(leases.journal());
    }
    fs::write(path, file).unwrap();
}

/// Clients lease until `path` is short, and say who has what.
fn lease_until_short(site: &Site, path: &Path) -> crowd::Crowd {
    let mut crowd = crowd::Crowd::new(&site.client, "c0");
    crowd.lease(4);
    until("shorter file", || fs::metadata(path).unwrap().len() < SHORT);
    crowd.lease(4);
    crowd
}

/// All of them, and who had one before, are known to a server that starts on this file.
fn check(site: &mut Site, path: &Path, crowd: &crowd::Crowd) {
    drop(site.serving.take());
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("bound 10.0.200.1 "), "{text}");
    for (client, address) in crowd.held() {
        assert!(
            text.contains(&format!("bound {address} ")) && text.contains(&client.to_string()),
            "{text}"
        );
    }
}

#[test]
fn a_link_into_a_volume_stays_one_and_the_volume_has_the_leases() {
    let mut site = Site::silent();
    let volume = site.dir.path().join("vol");
    fs::create_dir(&volume).unwrap();
    long_file(&volume.join("leases"), Duration::from_secs(3600));
    symlink("../vol/leases", site.leases()).unwrap();
    site.serve("");
    let crowd = lease_until_short(&site, &volume.join("leases"));
    assert!(fs::symlink_metadata(site.leases()).unwrap().is_symlink());
    check(&mut site, &volume.join("leases"), &crowd);
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 1, "no draft is left");
}

/// What can be renamed by nobody is shortened where it is, and said once.
#[test]
fn a_file_mounted_by_itself_is_shortened_in_place() {
    for (what, line) in [
        ("mounted", "mount --bind DIR/vol/leases DIR/disk/leases"),
        (
            "in a directory that is read-only",
            "mount --bind DIR/disk DIR/disk; mount -o remount,ro,bind DIR/disk; mount --bind DIR/vol/leases DIR/disk/leases",
        ),
    ] {
        let mut site = Site::silent();
        let volume = site.dir.path().join("vol");
        fs::create_dir(&volume).unwrap();
        long_file(&volume.join("leases"), Duration::from_secs(3600));
        fs::write(site.leases(), "").unwrap();
        let inode = fs::metadata(volume.join("leases")).unwrap().ino();
        let line = line.replace("DIR", site.dir.path().to_str().unwrap());
        site.serve_after(&line, "--no-dns");
        let crowd = lease_until_short(&site, &volume.join("leases"));
        assert_eq!(fs::metadata(volume.join("leases")).unwrap().ino(), inode);
        until("word of it", || site.server_log().contains("it is shortened in place"));
        let log = site.server_log();
        assert_eq!(log.matches("it is shortened in place").count(), 1, "{what}: {log}");
        assert_eq!(log.matches("WARN").count(), 0, "{what}: {log}");
        assert_eq!(
            fs::read_dir(site.dir.path().join("disk")).unwrap().count(),
            1,
            "no draft is left"
        );
        check(&mut site, &volume.join("leases"), &crowd);
    }
}

#[test]
fn a_file_that_is_removed_comes_back_and_one_put_in_its_place_is_kept() {
    let mut site = Site::new("");
    let mut crowd = crowd::Crowd::new(&site.client, "c0");
    crowd.lease(3);
    fs::remove_file(site.leases()).unwrap();
    crowd.lease(3);
    fs::write(site.dir.path().join("disk/tmp"), "mine\n").unwrap();
    fs::rename(site.dir.path().join("disk/tmp"), site.leases()).unwrap();
    crowd.lease(3);
    until("words", || {
        site.server_log().matches("stop the server before the file is changed").count() == 2
    });
    assert_eq!(fs::read(site.dir.path().join("disk/leases.other")).unwrap(), b"mine\n");
    fs::remove_dir_all(site.dir.path().join("disk")).unwrap();
    // Nobody has to ask for anything.
    until("file", || {
        fs::read_to_string(site.leases()).is_ok_and(|text| text.lines().count() == 10)
    });
    crowd.lease(3);
    drop(site.serving.take());
    assert_eq!(site.listed().len(), 12);
    site.serve("");
    crowd.renew_some();
}

#[test]
fn what_cannot_be_a_lease_file_is_refused_by_name() {
    let site = Site::silent();
    for (path, kind) in [("/", "a directory"), ("/dev/null", "a device")] {
        let mut command = site.server.command(env!("CARGO_BIN_EXE_berth"));
        command.args([
            "serve",
            "--interface=s0",
            "--range=10.0.1.1,10.0.1.9",
            "--no-dns",
            "--lease-file",
            path,
        ]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(18), "{text}");
        assert!(text.contains(&format!("the lease file {path} is {kind}: name a file")), "{text}");
    }
}

/// A file of a machine whose clock was ahead, or that gave longer leases: a pool that is all taken until 2036 is free
/// again when the longest lease is over, and who has an address keeps it until then.
#[test]
fn leases_that_end_in_ten_years_are_as_long_as_any_lease() {
    let mut site = Site::silent();
    let ten_years = Duration::from_secs(10 * 365 * 86_400);
    let now = Now { monotonic: Instant::now(), wall: SystemTime::now() };
    let mut leases = Leases::<std::net::Ipv4Addr>::new(1000);
    for number in 1..=100u8 {
        let mac = MacAddr([2, 0, 0, 0, 1, number]);
        let id = ClientId::new(&[&[1], &mac.0[..]].concat());
        let hardware = Hardware { kind: 1, address: mac };
        assert!(leases.bind(now, [10, 0, 1, number].into(), &id, hardware, None, Some(ten_years)));
    }
    fs::write(site.leases(), [HEADER.as_bytes(), &leases.journal()].concat()).unwrap();
    site.launch("true", "10.0.1.1,10.0.1.100", "--no-dns --lease-time=3 --min-lease-time=3");
    let crowd = RefCell::new(crowd::Crowd::new(&site.client, "c0"));
    assert_eq!(crowd.borrow_mut().lease_until_silent(), 0, "they may be in use still");
    until("free address", || crowd.borrow_mut().lease_until_silent() > 0);
    let ends: Vec<u64> =
        site.listed().iter().map(|lease| lease["expires"].as_u64().unwrap()).collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(ends.iter().all(|end| *end <= now + 6), "{ends:?} at {now}");
}
