//! What a real guest is given besides the network: its disks by name, who it is, and what berth says where it cannot.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::checked;
use crate::support::world::World;

fn file(world: &World, path: &str, content: &[u8]) -> PathBuf {
    let path = world.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// A volume that may be read only, as a claim of ReadOnlyMany is: in a mount namespace of berth's own.
fn start_with_read_only(world: &mut World, dir: &str) {
    let dir = world.path(dir).display().to_string();
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    world.start_under(&["unshare", "--mount", "sh", "-c", script, &dir]).ready();
}

#[test]
fn disks_are_known_by_their_serials_and_what_cannot_be_written_is_read_only() {
    let mut world = World::new();
    for name in ["d1.img", "d2.img", "d10.img", "db/disk.img", "fixed/ro.img", "cut.img"] {
        let length = if name == "cut.img" { 1000 } else { 1 << 20 };
        file(&world, &format!("volumes/{name}"), &vec![0; length]);
    }
    // A table that speaks of more than there is.
    let mut gpt = vec![0; 64 << 10];
    gpt[510..520].copy_from_slice(b"\x55\xaaEFI PART");
    gpt[520..604].fill(0xee);
    file(&world, "volumes/gpt.img", &gpt);
    start_with_read_only(&mut world, "volumes/fixed");

    let told = world
        .guest("for d in /sys/block/vd*; do echo $(cat $d/serial) $(cat $d/ro) ${d##*/}; done");
    let seen: BTreeMap<&str, (&str, &str)> = told
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, (words.next()?, words.next()?)))
        })
        .collect();
    let read_only: Vec<(&str, &str)> =
        seen.iter().map(|(serial, (ro, _))| (*serial, *ro)).collect();
    let wanted = [
        ("cut", "0"),
        ("d1", "0"),
        ("d10", "0"),
        ("d2", "0"),
        ("db-disk", "0"),
        ("fixed-ro", "1"),
        ("gpt", "0"),
        ("root", "0"),
        ("seed", "1"),
    ];
    assert_eq!(read_only, wanted, "{told}");

    let write = |serial: &str| {
        world.guest(&format!("echo here | dd of=/dev/{} conv=fsync 2>&1", seen[serial].1))
    };
    let said = write("fixed-ro");
    assert!(
        said.to_lowercase().contains("not permitted") || said.to_lowercase().contains("read-only"),
        "{said}"
    );
    write("db-disk");
    assert_eq!(&fs::read(world.path("volumes/db/disk.img")).unwrap()[..5], b"here\n");
    assert!(fs::read(world.path("volumes/fixed/ro.img")).unwrap().iter().all(|octet| *octet == 0));
    for word in ["ro.img cannot be written (Read-only file system", "cut.img has 1000 octets"] {
        assert_eq!(world.log().matches(word).count(), 1, "{word} in\n{}", world.log());
    }
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

#[test]
fn one_host_name_and_one_identity_whoever_is_asked() {
    let mut world = World::new();
    file(&world, "metadata", b"instance-id: i-1\nlocal-hostname: web-7\nserial: 0123\n");
    file(&world, "networkdata", b"links: []\nnetworks: []\n");
    fs::remove_file(world.path("userdata")).unwrap();
    let networkdata = world.path("networkdata").display().to_string();
    world
        .set("HOSTNAME", "my_vm")
        .set("BERTH_DISK_SIZE", "1M")
        .set("BERTH_NETWORKDATA", &networkdata);
    world.start().ready();
    assert!(world.guest("cat /run/lease").contains("hostname=web-7"));
    let drive = world.guest("cat /seed/openstack/latest/meta_data.json");
    let drive: serde_json::Value = serde_json::from_str(&drive).unwrap();
    assert_eq!(
        (&drive["uuid"], &drive["hostname"], &drive["serial"]),
        (&"i-1".into(), &"web-7".into(), &83.into())
    );
    let network = world.guest("cat /seed/openstack/latest/network_data.json");
    assert_eq!(network, "{\"links\": [], \"networks\": []}\n");
    assert!(world.log().contains("BERTH_DISK_SIZE is less than the disk has"), "{}", world.log());
    assert!(world.path("image/my_vm.qcow2").exists());
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// `berth VERB`: its exit code and what it said.
fn ends(world: &World, wrapper: &[&str], verb: &str) -> (i32, String) {
    let output = world.command(wrapper).arg(verb).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn what_is_mounted_wrongly_ends_the_start_with_its_name() {
    type Spoil = fn(&mut World);
    let cases: [(i32, &str, Spoil); 8] = [
        (11, "/userdata is a directory where a file is meant", |world| {
            fs::remove_file(world.path("userdata")).unwrap();
            fs::create_dir(world.path("userdata")).unwrap();
        }),
        (11, "/metadata is a link that leads nowhere", |world| {
            std::os::unix::fs::symlink("..data/metadata", world.path("metadata")).unwrap();
        }),
        (11, "/a.img is a directory where a file is meant", |world| {
            fs::create_dir_all(world.path("volumes/a.img")).unwrap();
        }),
        (11, "/resolv.conf is a directory where a file is meant", |world| {
            fs::remove_file(world.path("resolv.conf")).unwrap();
            fs::create_dir(world.path("resolv.conf")).unwrap();
        }),
        (12, "/a.img is empty: give it a size", |world| drop(file(world, "volumes/a.img", b""))),
        (16, "use BERTH_SEED_FORMAT=nocloud", |world| {
            let path = file(world, "networkdata", b"version: 2\n").display().to_string();
            world.set("BERTH_NETWORKDATA", &path);
        }),
        (16, "neither JSON nor YAML: line 1", |world| drop(file(world, "metadata", b"{\"a\": 1"))),
        (10, "at most 230", |world| {
            world.set("BERTH_NAME", &"n".repeat(252));
        }),
    ];
    for (wanted, word, spoil) in cases {
        let mut world = World::new();
        spoil(&mut world);
        let (code, said) = ends(&world, &[], "run");
        assert!(code == wanted && said.contains(word), "{wanted} {word}: {code} {said}");
    }
    let mut world = World::new();
    world.set("BERTH_NAME", &"n".repeat(230));
    assert_eq!(ends(&world, &[], "plan").0, 0);
}

/// A volume's fsGroup: files of root's, and of a group that uid 65534 has beside its own.
#[test]
fn files_of_a_supplementary_group_are_as_writable_as_their_mode_says() {
    let mut world = World::new();
    world.set("IMG_TARGET", "base.qcow2").set("IMG_SOURCE", "http://images.example/base.qcow2");
    let (uid, group) = ("65534", "2000");
    checked(std::process::Command::new("chmod").arg("755").arg(world.dir.path()));
    let shared = file(&world, "volumes/shared.img", &[0; 512]);
    checked(std::process::Command::new("chgrp").args(["-R", group]).arg(world.path("volumes")));
    checked(std::process::Command::new("chmod").arg("2770").arg(world.path("volumes")));
    let wrapper = [
        "setpriv",
        "--reuid",
        uid,
        "--regid",
        uid,
        "--groups",
        group,
        "--inh-caps=-all",
        "--bounding-set=-all",
    ];
    for (mode, wanted, word) in [
        (0o660, 0, "shared.img (raw), serial shared\n"),
        (0o440, 0, "shared.img (raw, read-only), serial shared\n"),
        (0o600, 11, "shared.img: Permission denied"),
    ] {
        fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = ends(&world, &wrapper, "plan");
        assert!(code == wanted && said.contains(word), "{mode:o}: {code} {said}");
    }
}
