//! What somebody else left in the image directory and in the volumes: links to other files, FIFOs, disks that name any
//! file as their base. Nothing is written or read through them, nothing waits, and the log says what to do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::world::World;
use crate::support::{checked, run};

const SECRET: &str = "SECRET-TOKEN-abcdef is what a volume's writer would like to read\n";

/// A pod whose QEMU says which files it was handed, and a file of the container that is nobody's business.
struct Pod {
    world: World,
    victim: PathBuf,
}

impl Pod {
    fn new() -> Self {
        let mut world = World::new();
        fs::set_permissions(world.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (victim, qemu, source) = (
            world.path("victim"),
            world.path("qemu"),
            world.path("source.qcow2").display().to_string(),
        );
        fs::write(&victim, SECRET).unwrap();
        fs::write(&qemu, "#!/bin/sh\nreadlink /proc/$$/fd/* >&2\n").unwrap();
        fs::set_permissions(&qemu, PermissionsExt::from_mode(0o755)).unwrap();
        run("qemu-img", &["create", "-q", "-f", "qcow2", &source, "8M"]);
        world.set("IMG_SOURCE", &source).set("IMG_TARGET", "base.qcow2");
        // What it was handed it reads from /proc, which is not among what QEMU may open.
        world.set("BERTH_QEMU", &qemu.display().to_string()).set("BERTH_CONFINE", "off");
        Self { world, victim }
    }

    fn image(&self, name: &str) -> PathBuf {
        self.world.path("image").join(name)
    }

    /// Starts a launcher on what is there; its exit code and log.
    fn turn(&mut self) -> (i32, String) {
        self.world.start();
        let status = self.world.wait(Duration::from_secs(60));
        (status.code().unwrap_or(-1), self.world.log())
    }

    fn assert_untouched(&self, what: &str, log: &str) {
        let found = fs::metadata(&self.victim).unwrap();
        assert_eq!(fs::read_to_string(&self.victim).unwrap(), SECRET, "{what}\n{log}");
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o644, 0), "{what}\n{log}");
        assert!(!log.contains("SECRET"), "{what}\n{log}");
        let handed =
            log.lines().any(|line| line.trim_end().ends_with("/victim") && !line.contains("ERROR"));
        assert!(!handed, "{what}: QEMU was handed it\n{log}");
    }

    fn clear(&self) {
        for entry in fs::read_dir(self.world.path("image")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

/// Read or written in place: refused. Made anew: the link is taken away and not followed.
const NAMES: [(&str, bool); 7] = [
    (".demo.lock", true),
    ("demo.qcow2", true),
    ("base.qcow2", true),
    (".base.qcow2.part.lock", true),
    (".base.qcow2.part", false),
    (".base.qcow2.part.from", false),
    (".demo.qcow2.new", false),
];

#[test]
fn links_in_the_image_directory_are_neither_written_nor_read_through() {
    let mut pod = Pod::new();
    for (name, refused) in NAMES {
        pod.clear();
        symlink(&pod.victim, pod.image(name)).unwrap();
        let (code, log) = pod.turn();
        pod.assert_untouched(name, &log);
        assert_eq!(log.contains("disk ready"), !refused, "{name}\n{log}");
        if refused {
            assert_eq!(code, 3, "{name}\n{log}");
            assert!(
                log.contains(name)
                    && log.contains("leads out of")
                    && log.contains("put the file itself")
            );
        }
    }
    // What the state directory has is made anew as well.
    pod.clear();
    let seed = pod.world.path("state").join("seed.iso");
    fs::remove_file(&seed).unwrap();
    symlink(&pod.victim, &seed).unwrap();
    let (_, log) = pod.turn();
    pod.assert_untouched("seed.iso", &log);
    assert!(log.contains("config drive ready"), "{log}");
}

#[test]
fn a_link_out_of_a_volume_is_no_disk_and_one_that_stays_is() {
    let mut pod = Pod::new();
    let volumes = pod.world.path("volumes");
    fs::create_dir_all(volumes.join("data")).unwrap();
    fs::write(volumes.join("data/disk"), vec![0; 1 << 20]).unwrap();
    symlink("data/disk", volumes.join("inside.img")).unwrap();
    symlink(&pod.victim, volumes.join("a.img")).unwrap();
    symlink("../victim", volumes.join("b.img")).unwrap();
    symlink("../../..", volumes.join("up")).unwrap();
    symlink("up/etc/passwd", volumes.join("c.img")).unwrap();
    let (_, log) = pod.turn();
    pod.assert_untouched("volumes", &log);
    assert!(log.contains("volumes/data/disk") && log.contains("disk ready"), "{log}");
    assert_eq!(log.matches("leads out of").count(), 3, "{log}");
    for name in ["a.img", "b.img", "c.img"] {
        assert!(log.contains(&format!("volumes/{name} is a link that leads out")), "{name}\n{log}");
    }
}

#[test]
fn a_recorded_base_elsewhere_is_not_opened() {
    let mut pod = Pod::new();
    assert!(pod.turn().1.contains("created=true"));
    let disk = pod.image("demo.qcow2").display().to_string();
    let disk_image = pod.world.path("disk-image");
    fs::write(&disk_image, [&[0; 510][..], b"\x55\xaa", &[0; 4096]].concat()).unwrap();
    for recorded in [
        pod.victim.display().to_string(),
        disk_image.display().to_string(),
        "../victim".to_owned(),
        format!("{}/../victim", pod.world.path("image").display()),
        "/etc/passwd".to_owned(),
    ] {
        run(
            "qemu-img",
            &["rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", &recorded, &disk],
        );
        let (code, log) = pod.turn();
        pod.assert_untouched(&recorded, &log);
        assert_eq!(code, 3, "{recorded}\n{log}");
        assert!(
            log.contains("not the image that is configured") && log.contains("IMG_TARGET"),
            "{log}"
        );
    }
    // What the operator names is opened, wherever it is.
    let source = pod.world.path("source.qcow2").display().to_string();
    run("qemu-img", &["rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &source, &disk]);
    pod.world.set("IMG_TARGET", &source);
    let (_, log) = pod.turn();
    assert!(log.contains("created=false"), "{log}");
}

/// The text of a file that was not fetched is not in the log, in whatever place it is.
#[test]
fn no_content_of_a_file_is_shown() {
    let mut pod = Pod::new();
    for name in ["demo.qcow2", "base.qcow2"] {
        pod.clear();
        fs::write(pod.image(name), SECRET).unwrap();
        let (_, log) = pod.turn();
        pod.assert_untouched(name, &log);
    }
    pod.clear();
    let victim = pod.victim.display().to_string();
    pod.world.set("IMG_SOURCE", &victim);
    let (code, log) = pod.turn();
    pod.assert_untouched("source", &log);
    assert!(
        code == 14 && log.contains("is text: a qcow2 or raw disk image is needed"),
        "{code} {log}"
    );
}

fn fifo(path: &Path) {
    checked(Command::new("mkfifo").arg(path));
}

#[test]
fn a_fifo_in_place_of_any_file_is_named_and_not_waited_for() {
    let mut pod = Pod::new();
    for (name, _) in NAMES.into_iter().filter(|(_, refused)| *refused) {
        pod.clear();
        fifo(&pod.image(name));
        let (code, log) = pod.turn();
        assert!(code == 3 && log.contains(name) && log.contains("a FIFO"), "{name} {code}\n{log}");
    }
}

#[test]
fn a_directory_where_a_new_file_is_made_is_named() {
    let mut pod = Pod::new();
    let state = pod.world.path("state");
    for (at, code) in [(pod.image(".demo.qcow2.new"), 3), (state.join(".seed.iso.new"), 16)] {
        fs::create_dir_all(&at).unwrap();
        let _ = fs::remove_file(state.join("seed.iso"));
        let (found, log) = pod.turn();
        let named = format!("{}: a directory is where a new file is made: remove it", at.display());
        assert!(found == code && log.contains(&named), "{found}\n{log}");
        fs::remove_dir(&at).unwrap();
    }
}

/// A lock may have another name, as a backup by hard links gives it: it is held, and neither written to nor given to
/// QEMU's group.
#[test]
fn a_file_with_another_name_is_neither_written_to_nor_shared() {
    let mut pod = Pod::new();
    fs::set_permissions(&pod.victim, PermissionsExt::from_mode(0o600)).unwrap();
    fs::hard_link(&pod.victim, pod.image(".demo.lock")).unwrap();
    let (_, log) = pod.turn();
    assert!(log.contains("disk ready"), "{log}");
    assert!(log.contains(".demo.lock has another name as well"), "{log}");
    assert_eq!(fs::read_to_string(&pod.victim).unwrap(), SECRET);
    let found = fs::metadata(&pod.victim).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o600, 0), "{log}");
}

/// Names in a volume, and the name that an image has for its base, made lines of the log that berth never wrote.
#[test]
fn no_name_in_a_volume_makes_a_line_of_the_log() {
    const FORGED: &str = "x\n2026-01-01T00:00:00.000000Z ERROR FORGED\r";
    let mut pod = Pod::new();
    let source = pod.world.path("source.qcow2").display().to_string();
    let of_volume = pod.world.path("volumes").join("a");
    fs::create_dir_all(&of_volume).unwrap();
    symlink("/etc/passwd", of_volume.join(FORGED)).unwrap();
    symlink("/etc/passwd", of_volume.parent().unwrap().join(format!("{FORGED}.img"))).unwrap();
    fs::write(pod.image(&format!("{FORGED}.qcow2")), "").unwrap();
    let bad = pod.image("base.qcow2").display().to_string();
    for format in ["text", "json"] {
        pod.world.set("BERTH_LOG_FORMAT", format);
        let first = pod.turn().1;
        run("qemu-img", &["rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", FORGED, &source]);
        pod.world.set("IMG_TARGET", &source);
        let second = pod.turn().1;
        run("qemu-img", &["rebase", "-q", "-u", "-f", "qcow2", "-b", "", &source]);
        pod.world.set("IMG_TARGET", "base.qcow2");
        for log in [&first, &second] {
            assert!(log.contains("FORGED"), "{format}\n{log}");
            let forged =
                log.split(['\n', '\r']).any(|line| line.trim_start().starts_with("2026-01-01"));
            assert!(!forged, "{format}\n{log}");
        }
        let _ = fs::remove_file(&bad);
        let _ = fs::remove_file(pod.image("demo.qcow2"));
    }
}
