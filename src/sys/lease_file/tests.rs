use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const HEADER: &str = "header\n";

fn open(path: &Path) -> Result<(LeaseFile, Vec<u8>), Error> {
    LeaseFile::open(path, HEADER, |_| true)
}

#[test]
fn appended_lines_are_found_again_and_a_cut_one_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/leases");
    let (mut file, content) = open(&path).unwrap();
    assert!(content.is_empty());
    file.append(b"one\ntw").unwrap();
    drop(file);
    let (mut file, content) = open(&path).unwrap();
    assert_eq!(content, b"header\none\ntw");
    file.append(b"three\n").unwrap();
    assert_eq!(LeaseFile::peek(&path, |_| true).unwrap(), b"header\none\ntw\nthree\n");
}

#[test]
fn one_server_at_a_time_also_after_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let (mut file, _) = open(&path).unwrap();
    assert!(matches!(open(&path), Err(Error::Locked(_))));
    file.append(b"old\nold\n").unwrap();
    let mut draft = file.draft(HEADER).unwrap();
    draft.append(b"short\n").unwrap();
    file.replace(draft).unwrap();
    assert!(matches!(open(&path), Err(Error::Locked(_))));
    file.append(b"after\n").unwrap();
    assert_eq!(file.len(), 19);
    drop(file);
    assert_eq!(open(&path).unwrap().1, b"header\nshort\nafter\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_link_stands_for_what_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("vol")).unwrap();
    symlink("second", at("first")).unwrap();
    // Dangling: the volume's file, and its directory, are made.
    symlink("vol/sub/leases", at("second")).unwrap();
    let (mut file, _) = open(&at("first")).unwrap();
    file.append(b"old\n").unwrap();
    let mut draft = file.draft(HEADER).unwrap();
    assert!(at("vol/sub/leases.new").exists(), "a draft is beside the file, not beside the link");
    draft.append(b"short\n").unwrap();
    file.replace(draft).unwrap();
    assert!(fs::symlink_metadata(at("first")).unwrap().is_symlink());
    assert_eq!(fs::read(at("vol/sub/leases")).unwrap(), b"header\nshort\n");
    symlink("ring", at("ring")).unwrap();
    let error = open(&at("ring")).unwrap_err();
    assert!(error.to_string().starts_with("following the link to the lease file"), "{error}");
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        (dir.path(), "a directory"),
        (&fifo, "a FIFO"),
        (&socket, "a socket"),
        (Path::new("/dev/null"), "a device"),
    ] {
        let errors = [open(path).map(drop), LeaseFile::peek(path, |_| true).map(drop)];
        for error in errors {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&format!("is {kind}: name a file")), "{text}");
        }
    }
}

#[test]
fn a_draft_leaves_nothing_behind_and_writes_through_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("victim"), "precious").unwrap();
    symlink("victim", at("leases.new")).unwrap();
    let (file, _) = open(&at("leases")).unwrap();
    assert!(fs::symlink_metadata(at("leases.new")).is_err(), "what an earlier server left is gone");
    symlink("victim", at("leases.new")).unwrap();
    drop(file.draft(HEADER).unwrap());
    assert!(!at("leases.new").exists());
    assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
}

#[test]
fn who_may_read_it_may_still_when_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let (mut file, _) = open(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let draft = file.draft(HEADER).unwrap();
    file.replace(draft).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn what_others_do_to_it_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let (mut file, _) = open(&path).unwrap();
    file.append(b"one\n").unwrap();
    assert_eq!(file.named().unwrap(), Named::Ours);
    fs::write(&path, "").unwrap();
    assert_eq!(file.named().unwrap(), Named::Changed);
    fs::remove_file(&path).unwrap();
    assert_eq!(file.named().unwrap(), Named::Gone);
    fs::write(&path, "another\n").unwrap();
    assert_eq!(file.named().unwrap(), Named::Other);
}

/// A link that is turned to another volume while it is in use: the leases go along, what was there stays.
#[test]
fn a_link_that_is_turned_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    symlink("first", at("leases")).unwrap();
    let (mut file, _) = open(&at("leases")).unwrap();
    fs::write(at("second"), "before\n").unwrap();
    fs::remove_file(at("leases")).unwrap();
    symlink("second", at("leases")).unwrap();
    assert_eq!(file.named().unwrap(), Named::Other);
    file.move_along().unwrap();
    let draft = file.draft(HEADER).unwrap();
    file.replace(draft).unwrap();
    assert_eq!(file.named().unwrap(), Named::Ours);
    assert!(fs::symlink_metadata(at("leases")).unwrap().is_symlink());
    assert_eq!(fs::read(at("second")).unwrap(), HEADER.as_bytes());
    assert_eq!(fs::read(at("second.other")).unwrap(), b"before\n");
}

/// A kill between any two octets of the copy, and before the cut: the last line of each name is what it was.
#[test]
fn a_copy_in_place_may_end_anywhere() {
    let last = |content: &[u8]| {
        let text = String::from_utf8_lossy(content).into_owned();
        let lines = text.lines().filter(|line| line.len() == 4).map(|line| line.split_at(2));
        lines
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let old: String = (0..30).map(|number| format!("{:02}{number:02}\n", number % 4)).collect();
    let new = "0028\n0129\n0226\n0327\n";
    let wanted = last(new.as_bytes());
    let from = old.len();
    let whole = [old.as_bytes(), new.as_bytes()].concat();
    for done in 0..=new.len() {
        let mut content = whole.clone();
        content[..done].copy_from_slice(&new.as_bytes()[..done]);
        assert_eq!(last(&content), wanted, "{done}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    fs::write(&path, &whole).unwrap();
    let (mut file, _) = open(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let from = from.try_into().unwrap();
    LeaseFile::copy_down(&file.handle(), from, from, file.len()).unwrap();
    file.cut(new.len().try_into().unwrap()).unwrap();
    file.append(b"0130\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), [new.as_bytes(), b"0130\n"].concat());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

/// It would be appended to, and made shorter: nothing would be left of it.
#[test]
fn a_file_of_somebody_else_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, draft) = (dir.path().join("leases"), dir.path().join("leases.new"));
    for content in ["1795450226 52:54:00:00:00:01 10.0.0.1 laptop *\n", "no line end"] {
        fs::write(&path, content).unwrap();
        fs::write(&draft, "theirs").unwrap();
        let is_ours = |found: &[u8]| found != content.as_bytes();
        let error = LeaseFile::open(&path, HEADER, is_ours).unwrap_err().to_string();
        assert_eq!(LeaseFile::peek(&path, is_ours).unwrap_err().to_string(), error);
        assert!(error.ends_with("name another one"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(fs::read_to_string(&draft).unwrap(), "theirs");
    }
}
