//! The config drive's image, judged by the readers people have: isoinfo, xorriso, bsdtar, blkid.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::checked;
use berth::iso::{File, Volume};

fn file(path: &str, content: &[u8], mode: u32) -> File {
    File { path: path.into(), content: content.into(), mode }
}

fn config_drive() -> Volume {
    Volume {
        label: "config-2".into(),
        files: vec![
            file("openstack/2012-08-10/meta_data.json", b"{\"uuid\": \"x\"}\n", 0o444),
            file("openstack/2012-08-10/user_data", b"#cloud-config\n\0\xff bytes", 0o400),
            file("openstack/latest/meta_data.json", b"{\"uuid\": \"x\"}\n", 0o444),
            file("openstack/latest/user_data", b"#cloud-config\n\0\xff bytes", 0o400),
            file("openstack/latest/empty", b"", 0o644),
            file("Straße/große Datei.tar.gz", &[7; 5000], 0o600),
        ],
    }
}

struct Image {
    dir: tempfile::TempDir,
    path: PathBuf,
}

fn write(volume: &Volume) -> Image {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed.iso");
    std::fs::write(&path, volume.image().unwrap()).unwrap();
    Image { dir, path }
}

fn assert_extracted(volume: &Volume, dir: &Path, by: &str) {
    for file in &volume.files {
        let found = std::fs::read(dir.join(&file.path))
            .unwrap_or_else(|error| panic!("{by}: {}: {error}", file.path));
        assert_eq!(found, file.content, "{by}: {}", file.path);
    }
}

#[test]
fn blkid_sees_the_label() {
    for label in ["config-2", "cidata"] {
        let image = write(&Volume { label: label.into(), ..config_drive() });
        let found = checked(Command::new("blkid").args(["-p", "-o", "export"]).arg(&image.path));
        assert!(
            found.contains(&format!("LABEL={label}\n")) && found.contains("TYPE=iso9660"),
            "{found}"
        );
    }
}

#[test]
fn bsdtar_extracts_every_file_as_it_was() {
    let volume = config_drive();
    let image = write(&volume);
    let out = image.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    checked(
        Command::new("bsdtar")
            .env("LC_ALL", "C.UTF-8")
            .arg("-C")
            .arg(&out)
            .arg("-xf")
            .arg(&image.path),
    );
    assert_extracted(&volume, &out, "bsdtar");
    let listing =
        checked(Command::new("bsdtar").env("LC_ALL", "C.UTF-8").arg("-tvf").arg(&image.path));
    let line = listing.lines().find(|line| line.ends_with("latest/user_data")).unwrap();
    assert!(line.starts_with("-r--------"), "{line}");
}

#[test]
fn xorriso_extracts_every_file_and_finds_no_fault() {
    let volume = config_drive();
    let image = write(&volume);
    let out = image.dir.path().join("out");
    let mut command = Command::new("xorriso");
    command
        .env("LC_ALL", "C.UTF-8")
        .args(["-osirrox", "on", "-indev"])
        .arg(&image.path)
        .args(["-extract", "/"])
        .arg(&out);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        !said.contains("WARNING") && !said.contains("FAILURE") && !said.contains("SORRY"),
        "{said}"
    );
    assert_extracted(&volume, &out, "xorriso");
    let modes = Command::new("chmod").args(["-R", "u+w"]).arg(&out).status().unwrap();
    assert!(modes.success());
}

#[test]
fn isoinfo_reads_rock_ridge_and_joliet_names() {
    let image = write(&config_drive());
    for option in ["-R", "-J"] {
        let listing = checked(Command::new("isoinfo").args(["-f", option, "-i"]).arg(&image.path));
        assert!(
            listing.lines().any(|line| line == "/openstack/latest/user_data"),
            "{option}: {listing}"
        );
        let content = Command::new("isoinfo")
            .args([option, "-x", "/openstack/latest/user_data", "-i"])
            .arg(&image.path)
            .output()
            .unwrap()
            .stdout;
        assert_eq!(content, b"#cloud-config\n\0\xff bytes", "{option}");
    }
    let about = checked(Command::new("isoinfo").args(["-d", "-i"]).arg(&image.path));
    assert!(
        about.contains("Volume id: config-2")
            && about.contains("Joliet with UCS level 3")
            && about.contains("Rock Ridge signatures"),
        "{about}"
    );
}

#[test]
fn many_files_with_like_names_in_one_directory_survive() {
    let files = (0..300).map(|number| {
        file(
            &format!("d/a-name-that-is-long-and-alike-{number}.json"),
            number.to_string().as_bytes(),
            0o644,
        )
    });
    let volume = Volume { label: "cidata".into(), files: files.collect() };
    let image = write(&volume);
    let out = image.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    checked(Command::new("bsdtar").arg("-C").arg(&out).arg("-xf").arg(&image.path));
    assert_extracted(&volume, &out, "bsdtar");
    let listing = checked(Command::new("isoinfo").args(["-f", "-J", "-i"]).arg(&image.path));
    assert_eq!(listing.lines().filter(|line| line.starts_with("/d/")).count(), 300);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(40))]

    #[test]
    fn what_goes_in_comes_out(files in proptest::collection::btree_map("[a-z]{1,8}(/[a-zA-Z0-9 _.-]{1,30}[a-z]){0,3}", proptest::collection::vec(proptest::num::u8::ANY, 0..5000), 0..12)) {
        let files = files.into_iter().map(|(path, content)| File { path, content, mode: 0o644 }).collect();
        let volume = Volume { label: "config-2".into(), files };
        let Ok(bytes) = volume.image() else { return Ok(()) };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("i.iso"), bytes).unwrap();
        let out = dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        checked(Command::new("bsdtar").arg("-C").arg(&out).arg("-xf").arg(dir.path().join("i.iso")));
        assert_extracted(&volume, &out, "bsdtar");
    }
}
