//! qcow2 images of every kind `qemu-img` makes, whole and cut at many lengths: it is the judge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use berth::sys::image::{Error, Format, Keys, ensure_overlay, ensure_overlay_for, inspect, inspect_for};
use support::checked;

struct Images {
    dir: tempfile::TempDir,
}

impl Images {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An image of these options with some data in it, at the disk's two ends and spread over it.
    fn make(&self, name: &str, options: &str, size: &str) -> PathBuf {
        let path = self.path(name);
        img(&["create", "-q", "-f", "qcow2", "-o", options], &path, &[size]);
        io(
            &path,
            &["write -P 0x11 0 200k", "write -P 0x22 1M 64k", "write -P 0x33 3M 100k", "write -z 2M 64k"],
        );
        path
    }
}

fn img(before: &[&str], path: &Path, after: &[&str]) {
    checked(Command::new("qemu-img").args(before).arg(path).args(after));
}

fn io(path: &Path, commands: &[&str]) {
    let commands = commands.iter().flat_map(|command| ["-c", *command]);
    checked(Command::new("qemu-io").args(["-f", "qcow2"]).args(commands).arg(path));
}

/// What makes images differ in their tables.
fn kinds(images: &Images) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for (name, options) in [
        ("v2", "compat=0.10"),
        ("v3", "compat=1.1"),
        ("c512", "cluster_size=512"),
        ("c4k", "cluster_size=4k"),
        ("c2m", "cluster_size=2M"),
        ("refcount1", "refcount_bits=1"),
        ("refcount64", "refcount_bits=64"),
        ("metadata", "preallocation=metadata"),
        ("falloc", "preallocation=falloc"),
        ("full", "preallocation=full"),
        ("extended", "extended_l2=on"),
        ("extended2m", "extended_l2=on,cluster_size=2M"),
        ("lazy", "lazy_refcounts=on"),
    ] {
        made.push(images.make(name, options, "4M"));
    }
    let source = images.path("v3");
    for (name, words) in [
        ("compressed", &["-c", "-O", "qcow2"][..]),
        ("zstd", &["-c", "-O", "qcow2", "-o", "compression_type=zstd"]),
        ("compressed512", &["-c", "-O", "qcow2", "-o", "cluster_size=512"]),
        ("compressed2m", &["-c", "-O", "qcow2", "-o", "cluster_size=2M"]),
        ("converted", &["-O", "qcow2"]),
    ] {
        let path = images.path(name);
        checked(Command::new("qemu-img").arg("convert").args(words).arg(&source).arg(&path));
        made.push(path);
    }
    let snapshots = images.make("snapshots", "cluster_size=4k", "4M");
    for name in ["one", "two with a longer name"] {
        img(&["snapshot", "-c", name], &snapshots, &[]);
        io(&snapshots, &["write -P 0x44 512k 64k"]);
    }
    made.push(snapshots);
    for (name, options) in [("bitmaps", "cluster_size=64k"), ("bitmaps2m", "cluster_size=2M")] {
        let bitmaps = images.make(name, options, "4M");
        for name in ["first", "second"] {
            img(&["bitmap", "--add"], &bitmaps, &[name]);
        }
        io(&bitmaps, &["write -P 0x55 2M 64k"]);
        made.push(bitmaps);
    }
    let big = images.path("big");
    img(&["create", "-q", "-f", "qcow2"], &big, &["20T"]);
    io(&big, &["write 0 1M", "write 19T 1M"]);
    made.push(big);
    let odd = images.path("odd");
    img(&["create", "-q", "-f", "qcow2"], &odd, &["1000001"]);
    io(&odd, &["write 975k 512"]);
    made.push(odd);
    let empty = images.path("empty");
    img(&["create", "-q", "-f", "qcow2"], &empty, &["1G"]);
    made.push(empty);
    made
}

/// Whether `qemu-img check` finds errors, or cannot even open it. Leaks are none.
fn corrupt(path: &Path) -> bool {
    let checked = Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(path).output().unwrap();
    !matches!(checked.status.code(), Some(0 | 3))
}

#[test]
fn whole_images_of_every_kind_are_taken() {
    let images = Images::new();
    for path in kinds(&images) {
        assert!(!corrupt(&path), "{}", path.display());
        let (format, size) = inspect(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format, Format::Qcow2);
        assert!(size >= 1_000_001, "{}", path.display());
    }
}

/// At each length at which qemu-img finds the image corrupt, so do we.
#[test]
fn an_image_cut_anywhere_is_refused() {
    let images = Images::new();
    let cut = images.path("cut");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for path in kinds(&images) {
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::copy(&path, &cut).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&cut).unwrap();
        // Ends of clusters, ends of sectors, and anywhere; from the longest on, as each cut makes the file shorter.
        let mut lengths: Vec<u64> = (1..5).map(|n| length.saturating_sub(n * 65_536)).collect();
        lengths.extend((1..4).map(|n| length.saturating_sub(n * 512)));
        lengths.extend([length - 1, 0, 3, 71, 72, 103, 104, 511, 4096]);
        for _ in 0..8 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            lengths.push(seed % length);
        }
        lengths.retain(|&cut| cut < length);
        lengths.sort_unstable();
        let mut refused = 0;
        for &at in lengths.iter().rev() {
            file.set_len(at).unwrap();
            let ours = inspect(&cut);
            if corrupt(&cut) {
                refused += 1;
                let error = ours.expect_err(&format!("{} cut from {length} to {at}", path.display()));
                assert!(matches!(error, Error::NotAnImage { .. }), "{error}");
            }
        }
        assert!(refused >= 5, "{}: only {refused} cuts were judged corrupt", path.display());
    }
}

/// For a data cluster that is not there as a whole qemu-img check has no word, but the guest would read zeros.
#[test]
fn an_image_cut_within_its_last_cluster_is_refused() {
    let images = Images::new();
    let cut = images.path("cut");
    let mut lost = Vec::new();
    for path in kinds(&images) {
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::copy(&path, &cut).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&cut).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for missing in [1, 511, 513, 3000, 20_000, 50_000, 70_000, 300_000, 1 << 20, 1_900_000] {
            let Some(at) = length.checked_sub(missing) else { continue };
            file.set_len(at).unwrap();
            let same = Command::new("qemu-img").args(["compare", "-q"]).args([&path, &cut]).output().unwrap();
            // A compressed cluster's length is known to the sector.
            let known = missing > 511 || !(name.starts_with("compressed") || name.starts_with("zstd"));
            if !same.status.success() && known {
                let error = inspect(&cut).expect_err(&format!("{name} lost {missing} octets"));
                assert!(error.to_string().contains("cut"), "{error}");
                lost.push((name.clone(), missing));
            }
        }
    }
    for (name, missing) in
        [("v2", 50_000), ("c2m", 1_900_000), ("extended2m", 50_000), ("compressed2m", 3000)]
    {
        assert!(lost.contains(&(name.to_owned(), missing)), "{name} {missing}: {lost:?}");
    }
}

/// What lies in the last cluster beyond the disk's end no guest can read, and not every writer writes it.
#[test]
fn a_last_cluster_may_end_with_the_disk() {
    let images = Images::new();
    let path = images.path("odd");
    img(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M"], &path, &["5000192"]);
    io(&path, &["write -P 0x11 4M 805888"]);
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length - (2 << 20) + 805_888).unwrap();
    inspect(&path).unwrap();
    io(&path, &["read -P 0x11 4M 805888"]);
    let cut = |length: u64| {
        file.set_len(length).unwrap();
        inspect(&path).unwrap_err().to_string().contains("was cut (its data cluster")
    };
    assert!(cut(length - (2 << 20) + 805_887));
    // Another cluster comes last in the file.
    file.set_len(length).unwrap();
    io(&path, &["write -P 0x22 0 2M"]);
    let length = std::fs::metadata(&path).unwrap().len();
    inspect(&path).unwrap();
    assert!(cut(length - 1));
}

/// The type and the feature's bit, as qemu-img takes them together.
#[test]
fn a_compression_type_that_qemu_does_not_open_is_refused() {
    let images = Images::new();
    let path = images.make("types", "compat=1.1", "4M");
    let whole = std::fs::read(&path).unwrap();
    for (bit, kind, word) in [
        (0, 0, ""),
        (8, 1, ""),
        (8, 0, "marked as compressed otherwise"),
        (0, 1, "not marked as compressed so"),
        (0, 2, "unknown compression type 2"),
        (8, 2, "unknown compression type 2"),
        (8, 255, "unknown compression type 255"),
    ] {
        let mut image = whole.clone();
        (image[79], image[104]) = (bit, kind);
        std::fs::write(&path, image).unwrap();
        assert_eq!(corrupt(&path), !word.is_empty(), "{bit} {kind}");
        match inspect(&path) {
            Ok(_) => assert!(word.is_empty(), "{bit} {kind}"),
            Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{error}"),
        }
    }
}

#[test]
fn what_qemu_cannot_open_or_should_not_is_named() {
    let images = Images::new();
    let path = images.make("bits", "lazy_refcounts=on", "4M");
    let whole = std::fs::read(&path).unwrap();
    let with = |at: usize, octet: u8| {
        let mut image = whole.clone();
        image[at] = octet;
        std::fs::write(&path, image).unwrap();
        inspect(&path).unwrap_err().to_string()
    };
    // incompatible_features is big-endian at 72: its low octet is 79.
    assert!(with(79, 1).contains("dirty"), "{}", with(79, 1));
    assert!(with(79, 2).contains("marked as corrupt"), "{}", with(79, 2));
    assert!(with(79, 0x20).contains("unknown feature 5"), "{}", with(79, 0x20));
    assert!(with(72, 0x80).contains("unknown feature 63"), "{}", with(72, 0x80));
    assert!(with(35, 1).contains("encrypted qcow2 image (AES)"), "{}", with(35, 1));
    assert!(with(23, 40).contains("clusters of 2^40 octets"), "{}", with(23, 40));
    assert!(with(36, 0x7f).contains("L1 table of more than 32 MiB"), "{}", with(36, 0x7f));
    assert!(with(24, 0x7f).contains("an L1 table too small"), "{}", with(24, 0x7f));
    assert!(with(43, 0x7f).contains("was cut (its L1 table"), "{}", with(43, 0x7f));

    let luks = images.path("luks");
    let words = ["create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o"];
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    // It times its key derivation by the thread's CPU clock, and fails where that did not move.
    let made = || {
        let mut create = Command::new("qemu-img");
        create.args(words).arg(options).arg(&luks).arg("4M").output().unwrap()
    };
    let made = (0..20).map(|_| made()).find(|output| output.status.success());
    assert!(made.is_some(), "qemu-img makes no encrypted image");
    let error = inspect(&luks).unwrap_err();
    let words = error.to_string();
    assert!(
        matches!(error, Error::NotAnImage { .. })
            && words.contains("(LUKS)")
            && words.contains("KVM_BLK_OPTS"),
        "{words}"
    );
    // Whoever writes QEMU's options may have the key.
    inspect_for(&luks, Keys::Users).unwrap();
    let disk = images.path("disk");
    assert!(ensure_overlay(&disk, &luks, None).is_err() && !disk.exists());
    ensure_overlay_for(&disk, &luks, None, Keys::Users).unwrap();
    let opened = format!("driver=qcow2,file.filename={},backing.encrypt.key-secret=s", disk.display());
    let words = ["--object", "secret,id=s,data=x", "--image-opts", &opened, "-c", "read 0 64k"];
    let out = checked(Command::new("qemu-io").args(words));
    assert!(out.contains("read 65536/65536"), "{out}");
}

/// QEMU reads bases that our own overlay code need not understand.
#[test]
fn zstd_clusters_and_extended_l2_are_read_through_the_overlay() {
    let images = Images::new();
    let source = images.make("source", "cluster_size=64k", "4M");
    for (name, options) in [("zstd", "compression_type=zstd"), ("extended", "extended_l2=on")] {
        let (base, disk) = (images.path(name), images.path(&format!("{name}.disk")));
        let compress = if name == "zstd" { "-c" } else { "-q" };
        checked(
            Command::new("qemu-img")
                .args(["convert", compress, "-O", "qcow2", "-o", options])
                .arg(&source)
                .arg(&base),
        );
        assert!(ensure_overlay(&disk, &base, None).unwrap().created);
        checked(Command::new("qemu-img").args(["compare", "-q"]).arg(&source).arg(&disk));
    }
}

/// What a start can afford: the tables of a disk of many GiB, all of it in use.
#[test]
fn a_large_image_is_checked_in_no_time() {
    let images = Images::new();
    let path = images.path("large");
    img(&["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata"], &path, &["20G"]);
    inspect(&path).unwrap();
    let started = Instant::now();
    inspect(&path).unwrap();
    // 2.5 MiB of tables, in a debug build on a machine that is busy; a whole read would take a minute.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
