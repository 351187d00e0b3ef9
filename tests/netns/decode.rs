//! Packed images: every decoder to the end of its stream, by the programs that pack; holes; what is no image, by name.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{checked, run};
use berth::sys::image::{Access, Error, Origin, Request, Timing, fetch};

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

    fn fetch(&self, source: &Path) -> Result<Vec<u8>, Error> {
        let target = self.path("base");
        let _ = std::fs::remove_file(&target);
        let request = Request {
            origin: Origin::Path(source),
            target: &target,
            checksum: None,
            ca_file: None,
            proxies: &berth::config::Proxies::NONE,
            timing: Timing::default(),
            max_bytes: None,
            access: Access::ALL,
        };
        fetch(&request, &mut |_| {})?;
        Ok(std::fs::read(&target).unwrap())
    }

    /// What is fetched when the source has these octets.
    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, Error> {
        let source = self.path("source");
        std::fs::write(&source, packed).unwrap();
        self.fetch(&source)
    }

    /// Refused, by a word of the error, and nothing stays but the source.
    fn refuses(&self, packed: &[u8], word: &str) {
        let error = self.unpack(packed).expect_err(word);
        assert!(matches!(error, Error::NotAnImage { .. }), "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        let names: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|name| name.unwrap().file_name())
            .collect();
        assert_eq!(names, ["source"]);
    }
}

fn pipe(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}");
    out.stdout
}

/// A disk with a boot sector and something that does not pack to nothing.
fn disk(octets: usize) -> Vec<u8> {
    let mut seed = 1u32;
    let mut disk: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8 & 0x3f
    })
    .take(octets)
    .collect();
    disk[510..512].copy_from_slice(b"\x55\xaa");
    disk
}

const ZSTD_SKIPPABLE: &[u8] = b"\x53\x2a\x4d\x18\x05\0\0\0hello";

#[test]
fn every_frame_member_and_stream_is_unpacked() {
    let place = Place::new();
    let disk = disk(400_000);
    let (first, second) = disk.split_at(123_456);
    for packer in [
        &["gzip", "-c"][..],
        &["xz", "-c"],
        &["zstd", "-c"],
        &["zstd", "-c", "--no-check"],
        &["zstd", "-c", "--long=27"],
        &["zstd", "-c", "--ultra", "-22"],
        &["xz", "-c", "--block-size=50000", "--check=sha256"],
    ] {
        let pack = |octets: &[u8]| pipe(packer[0], &packer[1..], octets);
        let two = [pack(first), pack(second)].concat();
        assert!(place.unpack(&two).unwrap() == disk, "{packer:?}");
        let empty_between = [pack(first), pack(b""), pack(second), pack(b"")].concat();
        assert!(place.unpack(&empty_between).unwrap() == disk, "{packer:?}");
        // Cut in the second: never the first alone.
        place.refuses(&two[..two.len() - 1], "damaged archive");
        place.refuses(&two[..pack(first).len() + 7], "damaged archive");
        // Text, and the beginning of another archive.
        place.refuses(&[&two[..], b"text"].concat(), "damaged archive");
        place.refuses(&[&two[..], b"BZh9"].concat(), "damaged archive");
    }
}

#[test]
fn skippable_frames_are_skipped_wherever_they_are() {
    let place = Place::new();
    let disk = disk(1_000_000);
    let source = place.path("disk");
    std::fs::write(&source, &disk).unwrap();
    checked(Command::new("pzstd").args(["-q", "-k", "-p", "2"]).arg(&source));
    assert!(place.fetch(&place.path("disk.zst")).unwrap() == disk);

    let packed = pipe("zstd", &["-c"], &disk);
    for magic in 0x50..=0x5f {
        let mut skippable = ZSTD_SKIPPABLE.to_vec();
        skippable[0] = magic;
        let frames = [&skippable[..], &skippable, &packed, &skippable].concat();
        assert!(place.unpack(&frames).unwrap() == disk, "{magic:x}");
    }
    for name in ["disk", "disk.zst", "base"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    place.refuses(&[ZSTD_SKIPPABLE, &packed, &ZSTD_SKIPPABLE[..10]].concat(), "damaged archive");
    place.refuses(ZSTD_SKIPPABLE, "empty");
}

#[test]
fn a_frame_that_is_not_what_it_says_is_refused() {
    let place = Place::new();
    let mut packed = pipe("zstd", &["-c"], &disk(1_000_000));
    let last = packed.len() - 1;
    packed[last] ^= 1;
    place.refuses(&packed, "checksum");
    // A window of 2 GiB is more than an image may ask for.
    place.refuses(
        b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00",
        "above 256 MiB (pack it with a smaller one)",
    );
}

#[test]
fn padding_is_taken_where_the_format_has_it() {
    let place = Place::new();
    let disk = disk(200_000);
    let (gzip, xz, zstd) =
        (pipe("gzip", &["-c"], &disk), pipe("xz", &["-c"], &disk), pipe("zstd", &["-c"], &disk));
    let padded = |packed: &[u8], zeros: usize| [packed, &vec![0; zeros]].concat();
    for zeros in [1, 3, 70_000] {
        assert!(place.unpack(&padded(&gzip, zeros)).unwrap() == disk, "{zeros} zeros");
    }
    for zeros in [4, 70_000] {
        assert!(place.unpack(&padded(&xz, zeros)).unwrap() == disk, "{zeros} zeros");
    }
    assert!(place.unpack(&[padded(&xz, 4), pipe("xz", &["-c"], b"")].concat()).unwrap() == disk);
    std::fs::remove_file(place.path("base")).unwrap();
    place.refuses(&padded(&xz, 3), "damaged archive");
    place.refuses(&padded(&zstd, 4), "damaged archive");
    // gzip itself calls what follows zeros garbage.
    place.refuses(&[padded(&gzip, 4), gzip.clone()].concat(), "damaged archive");
}

#[test]
fn archives_that_are_not_unpacked_are_named() {
    let place = Place::new();
    let disk = disk(100_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk.raw");
    std::fs::write(&file, &disk).unwrap();
    let within = |program: &str, words: &[&str]| {
        let out = Command::new(program)
            .args(words)
            .arg("disk.raw")
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{program}");
        out.stdout
    };
    let tar = within("tar", &["cf", "-"]);
    for (packed, word) in [
        (tar.clone(), "tar archive (unpack it first)"),
        (within("tar", &["cf", "-", "--format=v7"]), "tar archive"),
        (within("tar", &["cf", "-", "--format=pax"]), "tar archive"),
        (pipe("gzip", &["-c"], &tar), "tar archive"),
        (pipe("xz", &["-c"], &tar), "tar archive"),
        (pipe("zstd", &["-c"], &tar), "tar archive"),
        (pipe("bzip2", &["-c"], &disk), "bzip2 archive"),
        (pipe("lz4", &["-c"], &disk), "lz4 archive"),
        (pipe("lz4", &["-c", "-l"], &disk), "lz4 archive"),
        (within("zip", &["-q", "-"]), "zip archive"),
        (pipe("xz", &["-c", "--format=lzma"], &disk), "lzma archive"),
        (pipe("gzip", &["-c"], &pipe("gzip", &["-c"], &disk)), "gzip archive"),
        (
            pipe(
                "cpio",
                &["--quiet", "-o", "-D", &folder.path().display().to_string()],
                b"disk.raw\n",
            ),
            "cpio archive",
        ),
        (
            pipe(
                "cpio",
                &["--quiet", "-o", "-H", "newc", "-D", &folder.path().display().to_string()],
                b"disk.raw\n",
            ),
            "cpio archive",
        ),
        (b"7z\xbc\xaf\x27\x1c\0\x04".to_vec(), "7z archive"),
        (b"Rar!\x1a\x07\x01\0".to_vec(), "rar archive"),
    ] {
        place.refuses(&packed, word);
    }
}

fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn raw_images_keep_their_holes() {
    let place = Place::new();
    let source = place.path("disk.raw");
    const LENGTH: u64 = (24 << 20) + 1000;
    let file = std::fs::File::create(&source).unwrap();
    file.set_len(LENGTH).unwrap();
    for (offset, octets) in [(0, disk(512)), (10 << 20, disk(5000)), ((20 << 20) + 3, disk(9000))] {
        std::os::unix::fs::FileExt::write_all_at(&file, &octets, offset).unwrap();
    }
    let raw = std::fs::read(&source).unwrap();
    let mut sources = vec![source.clone()];
    for (program, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let path = place.path(&format!("disk.raw.{suffix}"));
        std::fs::write(&path, pipe(program, &["-c"], &raw)).unwrap();
        sources.push(path);
    }
    for source in sources {
        assert!(place.fetch(&source).unwrap() == raw, "{}", source.display());
        let octets = allocated(&place.path("base"));
        assert!(octets < 200_000, "{}: {octets} octets allocated", source.display());
    }
}

/// The last octets of a disk may be zeros, and so may all but the first.
#[test]
fn a_disk_that_ends_with_zeros_has_its_length() {
    let place = Place::new();
    for zeros in [1, 4095, 4096, 4097, 262_144, 1 << 20] {
        let disk = [disk(512), vec![0; zeros]].concat();
        assert!(place.unpack(&disk).unwrap() == disk, "{zeros}");
        assert!(place.unpack(&pipe("gzip", &["-c"], &disk)).unwrap() == disk, "{zeros}");
    }
}

/// What the fetch left refused before is asked for again: the bad image never had a name.
#[test]
fn an_image_that_is_refused_as_a_whole_has_no_name() {
    let place = Place::new();
    let (good, bad) = (place.path("good"), place.path("bad"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", &good.display().to_string(), "8M"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 1M", &good.display().to_string()]);
    let whole = std::fs::read(&good).unwrap();
    std::fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
    let mut dirty = whole.clone();
    dirty[79] |= 1;
    let backed = place.path("backed");
    let words = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &good.display().to_string()];
    checked(Command::new("qemu-img").args(words).arg(&backed));
    for (source, word) in [
        (whole[..whole.len() / 2].to_vec(), "was cut"),
        (dirty, "dirty"),
        (std::fs::read(&backed).unwrap(), "backing file"),
    ] {
        for packer in [None, Some("gzip"), Some("zstd")] {
            std::fs::write(place.path("base"), b"the good one").unwrap();
            let source =
                packer.map_or_else(|| source.clone(), |packer| pipe(packer, &["-c"], &source));
            let path = place.path("source");
            std::fs::write(&path, source).unwrap();
            let target = place.path("base");
            let request = Request {
                origin: Origin::Path(&path),
                target: &target,
                checksum: None,
                ca_file: None,
                proxies: &berth::config::Proxies::NONE,
                timing: Timing::default(),
                max_bytes: None,
                access: Access::ALL,
            };
            let error = fetch(&request, &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(std::fs::read(&target).unwrap(), b"the good one");
            assert!(!place.path(".base.part").exists());
        }
    }
    assert!(place.fetch(&good).unwrap() == whole);
}
