//! `berth validate` as it is used: on the examples, on what is wrong, for people and for machines.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

fn berth(words: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command
        .arg("validate")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that reads no input has ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_examples_are_without_errors() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/values");
    let said: String = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let (code, said, _) = berth(&[&entry.unwrap().path().display().to_string()], "");
            assert_eq!(code, Some(0), "{said}");
            said
        })
        .collect();
    // The seed's first example says itself that one of its keys should not be there, and has little memory.
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.iter().all(|line| line.contains("[W]") && line.contains("cirros-test.yaml")),
        "{said}"
    );
    assert!(
        said.contains("vmlist.cirros-test.cloudconfig.bogus_not_used: unknown key, ignored"),
        "{said}"
    );
    assert!(said.contains("ram_mb: 256 is unusual"), "{said}");
}

#[test]
fn a_list_in_place_of_the_map_is_an_error_with_its_line() {
    let (code, said, summary) = berth(&["-"], "vmlist:\n  - name: web\n  - name: db\n");
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "-:2:3: [E] vmlist: this is a list, and has to be a map (a map of VMs by name)\n"
    );
    assert_eq!(summary, "berth: 1 error, 0 warnings\n");
}

#[test]
fn several_files_are_one_and_each_mistake_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let vm = "vmlist: {web: {enabled: true, vmconfig: {cpu: {vcpu: 1, ram_mb: 512}, rootfs: {localtarget: /a}}}}\n";
    let (vm, site) =
        (file("vm.yaml", vm), file("site.yaml", "accel: tcg\nvmlist: {web: {single: 5}}\n"));
    let (code, said, _) = berth(&[&vm, &site], "");
    assert_eq!(
        (code, said),
        (
            Some(1),
            format!(
                "{vm}:1:79: [E] vmlist.web.vmconfig.rootfs: pvc_size or existing_claim is missing: where is the disk?\n\
                 {site}:2:24: [E] vmlist.web.single: this is 5, and has to be true or false\n"
            )
        )
    );
    let last = "vmlist: {web: {single: null, vmconfig: {rootfs: {pvc_size: 5Gi}}}}";
    let (code, said, _) = berth(&[&vm, &site, "-"], last);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn machines_read_json() {
    let (code, said, _) = berth(&["--output", "json", "-"], "vmlist: {}\naccel: hvf\n");
    assert_eq!(code, Some(1));
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap(),
        json!([{"file": "-", "severity": "error", "line": 2, "column": 8, "key": "accel",
                "message": "\"hvf\" is none of auto, kvm, tcg"}])
    );
    let (code, said, _) = berth(&["--output", "json", "-"], "vmlist: {}\n");
    assert_eq!((code, said.as_str()), (Some(0), "[]\n"));
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let (code, _, said) = berth(&["/nonexistent/values.yaml"], "");
    assert!(code == Some(11) && said.contains("/nonexistent/values.yaml"), "{code:?} {said}");
    assert_eq!(berth(&[], "").0, Some(10));
}
