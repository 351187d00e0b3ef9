//! The disk and the image it was made on: noted, held to it, and used by launchers of different users in turn.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::world::World;
use crate::support::{checked, run};
use berth::sys::image::qcow2::Header;
use berth::sys::image::{
    Access, Error, Identity, Note, Origin, Request, Timing, ensure_overlay, fetch_for, lock,
};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A qcow2 base with this octet in it.
    fn base(&self, name: &str, octet: u8) -> PathBuf {
        let path = self.path(name);
        img("create", &["-q", "-f", "qcow2"], &path, &["8M"]);
        io(&path, &format!("write -P {octet} 1M 64k"));
        path
    }

    /// An overlay as qemu-img makes it, or berth before it had notes.
    fn without_note(&self, name: &str, base: &Path, options: &str) -> PathBuf {
        let path = self.path(name);
        let base = base.display().to_string();
        img(
            "create",
            &["-q", "-f", "qcow2", "-F", "qcow2", "-b", &base, "-o", options],
            &path,
            &["16M"],
        );
        io(&path, "write -P 0x77 4M 64k");
        path
    }
}

fn img(verb: &str, before: &[&str], path: &Path, after: &[&str]) {
    checked(Command::new("qemu-img").arg(verb).args(before).arg(path).args(after));
}

fn io(path: &Path, command: &str) {
    let out = checked(Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(path));
    assert!(!out.contains("failed"), "{out}");
}

fn is_noted(disk: &Path, base: &Path) -> bool {
    let file = std::fs::File::open(disk).unwrap();
    let header = Header::read(&file).unwrap();
    let note = Note::read(&file, &header).unwrap();
    note.is_some_and(|note| {
        Path::new(&note.base) == base && note.identity == Identity::of(base).unwrap()
    })
}

/// Why a disk is not given to a guest; its octets stay.
fn refused(disk: &Path, base: &Path) -> String {
    let before = std::fs::read(disk).unwrap();
    let error = ensure_overlay(disk, base, None).unwrap_err();
    assert!(matches!(error, Error::Overlay { .. }), "{error}");
    assert!(std::fs::read(disk).unwrap() == before);
    error.to_string()
}

#[test]
fn another_base_under_the_same_name_is_refused() {
    let place = Place::new();
    let base = place.base("base", 1);
    let kept = place.path("kept");
    std::fs::copy(&base, &kept).unwrap();
    let disk = place.path("vm.qcow2");
    ensure_overlay(&disk, &base, None).unwrap();
    io(&disk, "write -P 0x77 4M 64k");

    // A newer build of the same shape, a raw image, one that lost its end, one with more at its end.
    let newer = place.base("newer", 2);
    let mut raw = vec![0; 20_000_000];
    raw[510..512].copy_from_slice(b"\x55\xaa");
    let whole = std::fs::read(&kept).unwrap();
    let longer = [&whole[..], &[0; 65_536]].concat();
    for other in [std::fs::read(newer).unwrap(), raw, whole[..whole.len() - 4096].to_vec(), longer]
    {
        std::fs::write(&base, other).unwrap();
        let why = refused(&disk, &base);
        for word in [
            "was made on a qcow2 image",
            "would corrupt it",
            "BERTH_NAME",
            "bring the first one back",
        ] {
            assert!(why.contains(word), "{why}");
        }
    }
    // The same image, of another file and another day.
    std::fs::remove_file(&base).unwrap();
    std::fs::copy(&kept, &base).unwrap();
    let adopted = ensure_overlay(&disk, &base, None).unwrap();
    assert!(!adopted.created && adopted.notes.is_empty());
    io(&disk, "read -P 0x77 4M 64k");
    io(&disk, "read -P 1 1M 64k");
}

/// Raw images of the same length differ in their partition table, their file system, or somewhere after it.
#[test]
fn raw_images_of_the_same_length_are_told_apart() {
    let place = Place::new();
    let (base, disk) = (place.path("base"), place.path("vm.qcow2"));
    let mut raw = vec![0; 12 << 20];
    raw[510..512].copy_from_slice(b"\x55\xaa");
    std::fs::write(&base, &raw).unwrap();
    ensure_overlay(&disk, &base, None).unwrap();
    // The disk signature, an ext4's time of writing at 1 MiB and at 4 MiB, the backup partition table.
    for at in [440, (1 << 20) + 1024 + 0x30, (4 << 20) + 1024 + 0x30, (12 << 20) - 512] {
        let mut other = raw.clone();
        other[at] ^= 1;
        std::fs::write(&base, &other).unwrap();
        assert!(refused(&disk, &base).contains("was made on a raw image of 12582912 octets"));
    }
    std::fs::write(&base, &raw).unwrap();
    ensure_overlay(&disk, &base, None).unwrap();
}

#[test]
fn the_note_stays_whatever_qemu_and_we_do_to_the_disk() {
    let place = Place::new();
    let base = place.base("base", 1);
    let disk = place.path("vm.qcow2");
    let named = base.display().to_string();
    ensure_overlay(&disk, &base, None).unwrap();
    assert!(is_noted(&disk, &base));
    io(&disk, "write -P 0x77 4M 64k");
    img("resize", &["-q"], &disk, &["64M"]);
    img("snapshot", &["-c", "one"], &disk, &[]);
    img("bitmap", &["--add"], &disk, &["b0"]);
    img("amend", &["-q", "-o", "lazy_refcounts=on"], &disk, &[]);
    img("rebase", &["-q", "-u", "-F", "qcow2", "-b", &named], &disk, &[]);
    io(&disk, "write -P 0x78 5M 64k");
    assert!(is_noted(&disk, &base), "qemu-img");
    ensure_overlay(&disk, &base, Some(3 << 30)).unwrap();
    assert!(is_noted(&disk, &base), "our growing");
    // The bitmap is given up: its clusters leak until `qemu-img check -r leaks`.
    let code = Command::new("qemu-img").args(["check", "-q"]).arg(&disk).status().unwrap().code();
    assert!(matches!(code, Some(0 | 3)), "{code:?}");
    io(&disk, "read -P 0x77 4M 64k");
    // Moved with its directory.
    let moved = place.path("moved.qcow2");
    std::fs::rename(&disk, &moved).unwrap();
    assert!(is_noted(&moved, &base));
}

#[test]
fn a_disk_of_an_earlier_version_is_noted_once() {
    for options in ["compat=1.1", "compat=0.10", "cluster_size=4k", "compat=1.1,extended_l2=on"] {
        let place = Place::new();
        let base = place.base("base", 1);
        let disk = place.without_note("vm.qcow2", &base, options);
        assert!(!is_noted(&disk, &base));
        let adopted = ensure_overlay(&disk, &base, None).unwrap();
        assert!(!adopted.created && adopted.notes.len() == 1, "{:?}", adopted.notes);
        assert!(adopted.notes[0].contains("had no note of its base"), "{:?}", adopted.notes);
        assert!(is_noted(&disk, &base), "{options}");
        assert!(ensure_overlay(&disk, &base, None).unwrap().notes.is_empty());
        img("check", &["-q"], &disk, &[]);
        let chain = checked(Command::new("qemu-img").args(["info", "--backing-chain"]).arg(&disk));
        assert!(chain.contains("backing file format: qcow2"), "{chain}");
        io(&disk, "read -P 0x77 4M 64k");
        io(&disk, "read -P 1 1M 64k");
        let other = place.base("other", 2);
        std::fs::copy(other, &base).unwrap();
        refused(&disk, &base);
    }
}

#[test]
fn a_note_without_room_is_said() {
    let place = Place::new();
    let deep = place.path(&"d".repeat(200));
    std::fs::create_dir(&deep).unwrap();
    let base = place.base("base", 1);
    let long = deep.join("base");
    std::fs::rename(&base, &long).unwrap();
    let disk = place.without_note("vm.qcow2", &long, "compat=0.10,cluster_size=512");
    let before = std::fs::read(&disk).unwrap();
    let notes = ensure_overlay(&disk, &long, None).unwrap().notes;
    assert!(
        notes[0].contains("has no note of its base") && notes[0].contains("no room"),
        "{notes:?}"
    );
    assert!(std::fs::read(&disk).unwrap() == before);
}

#[test]
fn a_disk_without_a_note_is_held_to_what_its_header_says() {
    let place = Place::new();
    let base = place.base("base", 1);
    let disk = place.without_note("vm.qcow2", &base, "compat=1.1");
    let mut raw = vec![0; 1 << 20];
    raw[510..512].copy_from_slice(b"\x55\xaa");
    std::fs::write(&base, raw).unwrap();
    assert!(refused(&disk, &base).contains("was made on a qcow2 image"));
    // Larger than any disk made on it may be.
    std::fs::remove_file(&base).unwrap();
    img("create", &["-q", "-f", "qcow2"], &base, &["1G"]);
    assert!(refused(&disk, &base).contains("of at most 16777216 octets"));
}

/// `qemu-img rebase` is somebody's own wish.
#[test]
fn a_disk_that_was_rebased_is_noted_anew() {
    let place = Place::new();
    let (one, two) = (place.base("one", 1), place.base("two", 2));
    let disk = place.path("vm.qcow2");
    ensure_overlay(&disk, &one, None).unwrap();
    img("rebase", &["-q", "-F", "qcow2", "-b", &two.display().to_string()], &disk, &[]);
    assert!(!is_noted(&disk, &two));
    assert_eq!(ensure_overlay(&disk, &two, None).unwrap().notes.len(), 1);
    assert!(is_noted(&disk, &two));
    io(&disk, "read -P 1 1M 64k");
}

/// The base is gone and its source serves another: it does not get the base's name, and a better source is asked.
#[test]
fn a_fetch_for_a_disk_brings_its_base_or_nothing() {
    for noted in [true, false] {
        let place = Place::new();
        let (base, other) = (place.base("base", 1), place.path("other"));
        let disk = place.path("vm.qcow2");
        if noted {
            ensure_overlay(&disk, &base, None).unwrap();
        } else {
            place.without_note("vm.qcow2", &base, "compat=1.1");
        }
        img("create", &["-q", "-f", "qcow2"], &other, &["1G"]);
        let source = place.path("source");
        std::fs::rename(&base, &source).unwrap();
        let get = |source: &Path, target: &Path| {
            let request = Request {
                origin: Origin::Path(source),
                target,
                checksum: None,
                ca_file: None,
                proxies: &berth::config::Proxies::NONE,
                timing: Timing::default(),
                max_bytes: None,
                access: Access::ALL,
            };
            fetch_for(&request, Some(&disk), &mut |_| {})
        };
        let error = get(&other, &base).unwrap_err().to_string();
        assert!(error.contains("vm.qcow2") && error.contains("would corrupt it"), "{error}");
        assert!(!base.exists() && !place.path(".base.part").exists());
        // What the disk does not stand on may be anything.
        get(&other, &place.path("elsewhere")).unwrap();
        get(&source, &base).unwrap();
        assert!(!ensure_overlay(&disk, &base, None).unwrap().created);
    }
}

/// A disk of 4096-octet sectors shows a guest no partition behind a virtio disk's 512: said when the disk is made.
#[test]
fn sectors_of_4096_octets_are_told() {
    let place = Place::new();
    let raw = place.path("raw");
    let mut octets = vec![0; 1 << 20];
    octets[510..512].copy_from_slice(b"\x55\xaa");
    octets[4096..4104].copy_from_slice(b"EFI PART");
    std::fs::write(&raw, octets).unwrap();
    for words in [&["-O", "raw"][..], &["-O", "qcow2"], &["-c", "-O", "qcow2"]] {
        let (base, disk) = (place.path("base"), place.path("vm.qcow2"));
        checked(
            Command::new("qemu-img")
                .args(["convert", "-f", "raw"])
                .args(words)
                .arg(&raw)
                .arg(&base),
        );
        let notes = ensure_overlay(&disk, &base, None).unwrap().notes;
        assert!(
            notes.len() == 1 && notes[0].contains("logical_block_size=4096"),
            "{words:?}: {notes:?}"
        );
        std::fs::remove_file(disk).unwrap();
    }
}

// ── cut, or moved ──

/// A table that was moved to the end, as a resize does, is cut off before any data is: nothing of it tells of a new disk.
#[test]
fn a_users_disk_that_was_cut_is_refused_and_stays() {
    let place = Place::new();
    let base = place.base("base", 1);
    let cut_at = |disk: &Path, length: u64| {
        std::fs::OpenOptions::new().write(true).open(disk).unwrap().set_len(length).unwrap();
        let why = refused(disk, &base);
        assert!(
            why.contains("cut") && why.contains("bring a copy back, or move it away"),
            "{length}: {why}"
        );
        assert!(!place.path(".vm.qcow2.cut").exists());
    };
    for ours in [true, false] {
        let disk = place.path("vm.qcow2");
        let make = || {
            let _ = std::fs::remove_file(&disk);
            if ours {
                ensure_overlay(&disk, &base, None).unwrap();
            } else {
                place.without_note("vm.qcow2", &base, "compat=1.1");
            }
            io(&disk, "write -P 0x5a 0 6M");
        };
        // Its L2 table, its L1 table, and what comes before that.
        for length in [(4 << 16) + 100, 4 << 16, 3 << 16, (2 << 16) + 512] {
            make();
            cut_at(&disk, length);
        }
        make();
        img("resize", &["-q"], &disk, &["5T"]);
        let head = std::fs::read(&disk).unwrap();
        let table = u64::from_be_bytes(head[40..48].try_into().unwrap());
        assert!(table > 6 << 20, "the L1 table is still at {table}");
        for length in [table + 8, table, table - 1, 1 << 20, 3 << 16, 4096] {
            cut_at(&disk, length);
        }
    }
}

/// A directory that moved, a base with another name: by its identity it is the same image.
#[test]
fn a_base_that_moved_is_known_again() {
    let place = Place::new();
    let (base, moved) = (place.base("base", 1), place.path("moved"));
    let disk = place.path("vm.qcow2");
    ensure_overlay(&disk, &base, None).unwrap();
    io(&disk, "write -P 0x77 4M 64k");
    std::fs::rename(&base, &moved).unwrap();
    let before = std::fs::read(&disk).unwrap();
    let adopted = ensure_overlay(&disk, &moved, None).unwrap();
    assert!(!adopted.created && adopted.base == moved && std::fs::read(&disk).unwrap() == before);
    let [note] = &adopted.notes[..] else { panic!("{:?}", adopted.notes) };
    assert!(note.contains("is gone") && note.contains("is the same image"), "{note}");

    let other = place.base("other", 2);
    let why = refused(&disk, &other);
    assert!(
        why.contains("was a qcow2 image") && why.contains("would corrupt it: bring the base back"),
        "{why}"
    );
    let why = refused(&disk, &place.path("none"));
    assert!(why.contains("is not there either"), "{why}");

    // As the note says.
    let (_, command) = note.split_once("; qemu-img ").unwrap();
    let words: Vec<&str> = command.strip_suffix(" writes it down").unwrap().split(' ').collect();
    run("qemu-img", &words);
    ensure_overlay(&disk, &moved, None).unwrap();
    assert!(is_noted(&disk, &moved));
    assert!(ensure_overlay(&disk, &moved, None).unwrap().notes.is_empty());
    io(&disk, "read -P 0x77 4M 64k");
    io(&disk, "read -P 1 1M 64k");

    // Without a note nobody can know.
    let old = place.without_note("old.qcow2", &moved, "compat=1.1");
    std::fs::rename(&moved, &base).unwrap();
    let why = refused(&old, &base);
    assert!(
        why.contains("no note whether") && why.contains("qemu-img rebase -u -F qcow2 -b"),
        "{why}"
    );
    assert!(!why.contains("would corrupt"), "{why}");
}

// ── ends in the middle ──

/// Not a test of its own: what the next ones start and end.
#[test]
fn child_that_ensures() {
    let path = |name| std::env::var(name).map(PathBuf::from);
    if let (Ok(disk), Ok(base)) = (path("ENSURE_DISK"), path("ENSURE_BASE")) {
        let at_least = std::env::var("ENSURE_SIZE").ok().map(|size| size.parse().unwrap());
        ensure_overlay(&disk, &base, at_least).unwrap();
    }
}

/// Runs the child under strace with an injection; whether it ended well.
fn ensure_with(inject: &str, disk: &Path, base: &Path, size: Option<u64>) -> bool {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e", inject])
        .arg(std::env::current_exe().unwrap());
    command.args(["--exact", "overlay::child_that_ensures", "--test-threads=1"]);
    command.env("ENSURE_DISK", disk).env("ENSURE_BASE", base);
    command.envs(size.map(|size| ("ENSURE_SIZE", size.to_string())));
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// The header is good after each step of noting: ended at the first, the second ... write or sync.
#[test]
fn noting_and_growing_may_end_anywhere() {
    let place = Place::new();
    let base = place.base("base", 1);
    let original = place.without_note("original", &base, "compat=1.1");
    let disk = place.path("vm.qcow2");
    let mut ends = 0;
    for call in ["pwrite64", "pwritev", "fdatasync", "fsync"] {
        for step in 1..20 {
            std::fs::copy(&original, &disk).unwrap();
            let inject = format!("inject={call}:signal=KILL:when={step}");
            if ensure_with(&inject, &disk, &base, Some(1 << 40)) {
                break;
            }
            ends += 1;
            // Leaked clusters cost room, no data.
            let code =
                Command::new("qemu-img").args(["check", "-q"]).arg(&disk).status().unwrap().code();
            assert!(matches!(code, Some(0 | 3)), "{call} {step}: {code:?}");
            io(&disk, "read -P 0x77 4M 64k");
            io(&disk, "read -P 1 1M 64k");
            ensure_overlay(&disk, &base, Some(1 << 40)).unwrap();
            assert!(is_noted(&disk, &base), "{call} {step}");
            io(&disk, "read -P 0x77 4M 64k");
        }
    }
    assert!(ends >= 6, "only {ends} steps were found");
}

/// Made anew, or whole: nothing between.
#[test]
fn making_may_end_anywhere() {
    let place = Place::new();
    let base = place.base("base", 1);
    let disk = place.path("vm.qcow2");
    let mut ends = 0;
    for call in ["pwrite64", "pwritev", "write", "ftruncate", "rename", "fchmod"] {
        for step in 1..20 {
            let _ = std::fs::remove_file(&disk);
            if ensure_with(&format!("inject={call}:signal=KILL:when={step}"), &disk, &base, None) {
                break;
            }
            ends += 1;
            ensure_overlay(&disk, &base, None).unwrap();
            assert!(is_noted(&disk, &base), "{call} {step}");
            img("check", &["-q"], &disk, &[]);
            io(&disk, "read -P 1 1M 64k");
        }
    }
    assert!(ends >= 4, "only {ends} steps were found");
}

/// What NFS answers when its server is in trouble.
#[test]
fn errors_of_a_bad_volume_leave_the_disk_as_it_was() {
    let place = Place::new();
    let base = place.base("base", 1);
    let disk = place.path("vm.qcow2");
    for (call, error) in [
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EDQUOT"),
        ("pwrite64", "EIO"),
        ("fchmod", "ESTALE"),
        ("renameat", "EIO"),
    ] {
        let inject = format!("inject={call}:error={error}");
        assert!(!ensure_with(&inject, &disk, &base, None), "{inject}");
        assert!(!disk.exists() && !place.path(".vm.qcow2.new").exists(), "{inject}");
    }
    ensure_overlay(&disk, &base, None).unwrap();
    let before = std::fs::read(&disk).unwrap();
    assert!(!ensure_with("inject=pread64:error=ESTALE", &disk, &base, None));
    assert!(std::fs::read(&disk).unwrap() == before);
}

// ── users ──

const AS_RUN: [&str; 3] =
    ["setpriv", "--bounding-set", "-all,+net_admin,+net_bind_service,+setuid,+setgid,+kill"];
const NOBODY: [&str; 7] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
];

/// A world with a volume as Docker makes it from the image's directory, and a QEMU that ends at once.
fn volume() -> World {
    let mut world = World::new();
    std::fs::set_permissions(world.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(world.path("image"), PermissionsExt::from_mode(0o1777)).unwrap();
    let berth = world.path("berth");
    std::fs::copy(env!("CARGO_BIN_EXE_berth"), &berth).unwrap();
    std::fs::set_permissions(berth, PermissionsExt::from_mode(0o755)).unwrap();
    let source = world.path("source.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &source.display().to_string(), "8M"]);
    world.env.remove("IMG_TARGET");
    world.set("IMG_SOURCE", &source.display().to_string()).set("IMG_TARGET", "base.qcow2");
    world.set("BERTH_QEMU", "/bin/true");
    world
}

/// Starts a launcher with a state directory of its own; its log, up to its end.
fn turn(world: &mut World, wrapper: &[&str], verb: &str) -> String {
    let state = world.path(&format!("state-{verb}"));
    std::fs::create_dir_all(&state).unwrap();
    if verb == "vm" {
        std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    }
    world.set("BERTH_STATE_DIR", &state.display().to_string());
    let binary = world.path("berth").display().to_string();
    world.start_binary(wrapper, &binary, verb);
    world.wait(Duration::from_secs(60));
    world.log()
}

/// Both forms of docs/containers.md, on one volume and in either order.
#[test]
fn root_and_nobody_take_turns_on_one_volume() {
    let mut world = volume();
    let log = turn(&mut world, &AS_RUN, "run");
    assert!(log.contains("disk ready") && log.contains("created=true"), "{log}");
    for name in ["demo.qcow2", ".demo.lock"] {
        let found = std::fs::metadata(world.path("image").join(name)).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (0, 65534, 0o660), "{name}");
    }
    let log = turn(&mut world, &NOBODY, "vm");
    assert!(log.contains("disk ready") && log.contains("created=false"), "{log}");

    for entry in std::fs::read_dir(world.path("image")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let log = turn(&mut world, &NOBODY, "vm");
    assert!(log.contains("disk ready") && log.contains("created=true"), "{log}");
    let log = turn(&mut world, &AS_RUN, "run");
    assert!(log.contains("disk ready") && log.contains("created=false"), "{log}");
}

/// The note is there after a guest wrote to the disk and powered off, and the next start has nothing to say of it.
#[test]
fn a_real_guest_leaves_the_note_as_it_is() {
    let mut world = World::new();
    world.start().ready();
    assert_eq!(world.stop(), Some(0), "{}", world.log());
    let disk = world.path("image").join("demo.qcow2");
    let base = PathBuf::from(world.env["IMG_TARGET"].clone());
    assert!(is_noted(&disk, &base));
    world.start().ready();
    assert!(!world.log().contains("note of its base"), "{}", world.log());
    assert_eq!(world.stop(), Some(0), "{}", world.log());
}

/// Files of an earlier version, or of somebody else: shared by the next start that may, or told with what helps.
#[test]
fn files_of_somebody_else_are_told_with_what_helps() {
    let mut world = volume();
    turn(&mut world, &AS_RUN, "run");
    let disk = world.path("image").join("demo.qcow2");
    for name in ["demo.qcow2", ".demo.lock"] {
        let path = world.path("image").join(name);
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    let log = turn(&mut world, &NOBODY, "vm");
    assert!(log.contains(".demo.lock belongs to 0:0 (mode 600)"), "{log}");
    assert!(log.contains("berth runs as 65534:65534: chown 65534:65534 it"), "{log}");
    let log = turn(&mut world, &AS_RUN, "run");
    assert!(log.contains("created=false"), "{log}");
    assert_eq!(std::fs::metadata(&disk).unwrap().gid(), 65534);
    let log = turn(&mut world, &NOBODY, "vm");
    assert!(log.contains("created=false"), "{log}");
}

/// An image that an earlier version left in place and that is refused: its source is asked again.
#[test]
fn a_bad_image_in_place_is_fetched_anew() {
    let mut world = volume();
    let good = std::fs::read(world.path("source.qcow2")).unwrap();
    let base = world.path("image").join("base.qcow2");
    let backed = world.path("backed");
    let source = world.path("source.qcow2").display().to_string();
    img("create", &["-q", "-f", "qcow2", "-F", "qcow2", "-b", &source], &backed, &[]);
    let backed = std::fs::read(backed).unwrap();
    let bad =
        [good[..good.len() / 2].to_vec(), backed, vec![0; 4096], b"<html>404</html>".to_vec()];
    for bad in bad {
        std::fs::write(&base, bad).unwrap();
        // Its source still has the bad one: refused, and no disk is made.
        std::fs::write(world.path("source.qcow2"), &good[..good.len() / 2]).unwrap();
        let log = turn(&mut world, &AS_RUN, "run");
        assert!(log.contains("fetching it again") && log.contains("code=14"), "{log}");
        assert!(!world.path("image").join("demo.qcow2").exists());
        // Corrected.
        std::fs::write(world.path("source.qcow2"), &good).unwrap();
        let log = turn(&mut world, &AS_RUN, "run");
        assert!(log.contains("image fetched") && log.contains("created=true"), "{log}");
        assert!(std::fs::read(&base).unwrap() == good);
        std::fs::remove_file(world.path("image").join("demo.qcow2")).unwrap();
    }
}

#[test]
fn a_lock_that_may_only_be_read_is_held_all_the_same() {
    let place = Place::new();
    let path = place.path(".vm.lock");
    drop(lock(&path, "one").unwrap());
    run("chattr", &["+i", &path.display().to_string()]);
    let held = lock(&path, "two");
    let again = lock(&path, "three").map(drop).unwrap_err();
    run("chattr", &["-i", &path.display().to_string()]);
    assert!(held.is_ok(), "{held:?}");
    assert!(matches!(again, Error::Locked { .. }), "{again}");
}

/// From one L2 table to all that fit, with what the table's cluster held before, and beyond.
#[test]
fn a_disk_grows_to_any_size_and_keeps_its_data() {
    for options in ["compat=1.1", "compat=0.10", "cluster_size=4k", "compat=1.1,extended_l2=on"] {
        let place = Place::new();
        let base = place.base("base", 1);
        let disk = place.without_note("vm.qcow2", &base, options);
        img("snapshot", &["-c", "one"], &disk, &[]);
        for size in [17u64 << 20, 3 << 30, 1 << 40, (1 << 40) + 512] {
            if options == "cluster_size=4k" && size > 3 << 30 {
                continue;
            }
            let grown = ensure_overlay(&disk, &base, Some(size))
                .unwrap_or_else(|error| panic!("{options}: {error}"));
            assert_eq!(grown.size_bytes, size);
            img("check", &["-q"], &disk, &[]);
            io(&disk, "read -P 0x77 4M 64k");
            let last = (size - 512).to_string();
            io(&disk, &format!("read -P 0 {last} 512"));
            io(&disk, &format!("write -P 0x55 {last} 512"));
            io(&disk, &format!("read -P 0x55 {last} 512"));
            img("check", &["-q"], &disk, &[]);
        }
    }
}

// ── volumes in trouble ──

/// A volume copied while a launcher works on it, and one of a launcher that was killed, as a power failure or a node's
/// end leave them: the next start has the whole image in place and a disk on it.
#[test]
fn a_volume_left_in_the_middle_comes_good() {
    let mut world = volume();
    let source = world.path("source.qcow2");
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x5a 0 8M", &source.display().to_string()]);
    let good = std::fs::read(&source).unwrap();
    checked(Command::new("gzip").arg("-k").arg(&source));
    world.set("IMG_SOURCE", &format!("{}.gz", source.display()));
    world.set("BERTH_DISK_SIZE", "1T");
    let (image, state) = (world.path("image"), world.path("state"));
    let mut left = Vec::new();
    for kill_after in (0..6).map(|n| Duration::from_millis(40 + 90 * n)) {
        clear(&image);
        let binary = world.path("berth").display().to_string();
        world.start_binary(&AS_RUN, &binary, "run");
        // Copies are slow themselves; each is of another moment.
        let started = std::time::Instant::now();
        while started.elapsed() < kill_after {
            left.push(copy_of(&image, &world.path(&format!("copy{}", left.len()))));
        }
        world.signal("KILL");
        world.wait(Duration::from_secs(10));
        left.push(copy_of(&image, &world.path(&format!("copy{}", left.len()))));
    }
    world.set("BERTH_STATE_DIR", &state.display().to_string());
    // Moments that look alike tell nothing new.
    left.dedup_by_key(|(_, shape)| shape.clone());
    for (copy, shape) in left.iter().take(25) {
        clear(&image);
        for entry in std::fs::read_dir(copy).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), image.join(entry.file_name())).unwrap();
        }
        let log = turn(&mut world, &AS_RUN, "run");
        assert!(log.contains("disk ready"), "{shape:?}\n{log}");
        assert!(std::fs::read(image.join("base.qcow2")).unwrap() == good, "{shape:?}");
        let disk = image.join("demo.qcow2");
        assert!(is_noted(&disk, &image.join("base.qcow2")), "{shape:?}");
        img("check", &["-q"], &disk, &[]);
        io(&disk, "read -P 0x5a 0 8M");
    }
    assert!(left.len() >= 3, "{left:?}");
}

fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// Where the copy is, and the names and lengths in it. A file that goes meanwhile is left out.
fn copy_of(dir: &Path, to: &Path) -> (PathBuf, Vec<(std::ffi::OsString, u64)>) {
    std::fs::create_dir(to).unwrap();
    let mut shape = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if let Ok(length) = std::fs::copy(entry.path(), to.join(entry.file_name())) {
            shape.push((entry.file_name(), length));
        }
    }
    shape.sort();
    (to.to_owned(), shape)
}

/// What an NFS server in trouble answers, at each step of a start: told by its code, and nothing half is left in place.
#[test]
fn a_volume_that_answers_with_errors_is_told() {
    for (call, error, word) in [
        ("flock", "ENOLCK", "no locks on this file system"),
        ("fsync", "EIO", "Input/output error"),
        ("fsync", "EDQUOT", "no space left"),
        ("renameat", "ESTALE", "Stale file handle"),
        ("renameat", "EIO", "Input/output error"),
    ] {
        let mut world = volume();
        let inject = format!("inject={call}:error={error}");
        let log =
            turn(&mut world, &["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject], "run");
        assert!(log.contains(word) && log.contains("ERROR"), "{inject}\n{log}");
        for name in ["base.qcow2", ".base.qcow2.part", "demo.qcow2"] {
            assert!(!world.path("image").join(name).exists(), "{inject}: {name}");
        }
        let log = turn(&mut world, &AS_RUN, "run");
        assert!(log.contains("created=true"), "{log}");
    }
}

/// A volume with a group of its own, as fsGroup makes it: whoever is in the group uses it in turn.
#[test]
fn a_volume_of_a_group_is_used_by_its_members() {
    let mut world = volume();
    let image = world.path("image");
    std::os::unix::fs::chown(&image, Some(0), Some(2000)).unwrap();
    std::fs::set_permissions(&image, PermissionsExt::from_mode(0o2775)).unwrap();
    let as_user = |uid: &'static str| {
        [
            "setpriv",
            "--reuid",
            uid,
            "--regid",
            uid,
            "--groups",
            "2000",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ]
    };
    // The tap is the first launcher's work.
    world.set("BERTH_QEMU_UID", "1001");
    let log = turn(&mut world, &AS_RUN, "run");
    assert!(log.contains("created=true"), "{log}");
    clear(&image);
    for (uid, created) in [("1001", "created=true"), ("1002", "created=false")] {
        let state = world.path("state-vm");
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir(&state).unwrap();
        let number = Some(uid.parse().unwrap());
        std::os::unix::fs::chown(&state, number, number).unwrap();
        world.set("BERTH_STATE_DIR", &state.display().to_string());
        let binary = world.path("berth").display().to_string();
        world.start_binary(&as_user(uid), &binary, "vm");
        world.wait(Duration::from_secs(60));
        let log = world.log();
        assert!(log.contains(created), "{uid}: {log}");
        let found = std::fs::metadata(image.join("demo.qcow2")).unwrap();
        assert_eq!((found.gid(), found.mode() & 0o777), (2000, 0o660));
    }
}
