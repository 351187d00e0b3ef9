//! The config drive's content, judged by the readers of cloud-init: PyYAML for YAML, Python's json for JSON.

use crate::support::sample;

use std::io::Write;
use std::process::{Command, Stdio};

use berth::config::SeedFormat;
use berth::plan::disk;

/// What a guest's config drive carries for this meta-data, or why there is none.
fn metadata(format: SeedFormat, given: &str) -> Result<String, String> {
    let (mut config, mut facts) = (sample::config(), sample::facts());
    config.guest.seed_format = format;
    config.image.target = Some("base.qcow2".to_owned());
    facts.net.metadata = Some(given.as_bytes().to_vec());
    let seed = disk::plan(&config, &facts).map_err(|error| error.to_string())?.seed.unwrap();
    let name = match format {
        SeedFormat::ConfigDrive => "openstack/latest/meta_data.json",
        SeedFormat::NoCloud => "meta-data",
    };
    let file = seed.volume.files.into_iter().find(|file| file.path == name).unwrap();
    Ok(String::from_utf8(file.content).unwrap())
}

/// Runs Python with a JSON document as its input; each line it prints is one mistake.
fn judged(program: &str, input: &serde_json::Value) {
    let mut command = Command::new("/usr/bin/python3");
    let mut child =
        command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.is_empty(), "{}\n{said}", output.status);
}

/// Every entry that was given is on the drive as `yaml.safe_load` reads it. Dates are text there; nothing is said of
/// what JSON has no word for.
const LIKE_PYYAML: &str = r#"
import datetime, json, math, sys, yaml
def like(ours, theirs, text):
    if isinstance(theirs, (datetime.date, datetime.datetime)):
        return isinstance(ours, str)
    if isinstance(theirs, float) and not math.isfinite(theirs):
        return True
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and set(ours) == set(theirs) and all(like(ours[k], theirs[k], text) for k in theirs)
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(like(a, b, text) for a, b in zip(ours, theirs))
    return type(ours) is type(theirs) and ours == theirs
for text, made in json.load(sys.stdin):
    try:
        theirs = yaml.safe_load(text)
    except ValueError:
        # A word that PyYAML takes for a number or a date and then cannot read: no guest ever gets it.
        continue
    ours = json.loads(made)
    for key, value in (theirs or {}).items():
        if not like(ours.get(key), value, text):
            print(f"{text!r}: {ours.get(key)!r}, and PyYAML reads {value!r}")
"#;

#[test]
fn yaml_means_what_cloud_inits_reader_takes_it_for() {
    let words = [
        "0123",
        "08",
        "0o17",
        "0x1F",
        "0xfF_",
        "-0b11",
        "+0b1",
        "1_000",
        "+5",
        "-0",
        "00",
        "0_1",
        "123456789012345678901234567890",
        "-99999999999999999999",
        "18446744073709551616",
        "190:20:30",
        "52:54:00:12:34:56",
        "02:54:00",
        "1:60",
        "1:30.5",
        "-1:30",
        "0:30.",
        "1e5",
        "1.0e5",
        "1.5e+3",
        "1.5E-3",
        "09.5",
        "1.",
        ".5",
        "-.5",
        "+.5",
        "1.10",
        "1_0.2_5",
        "._5",
        ".e+1",
        "+",
        ".",
        "0x",
        "0b",
        "yes",
        "Yes",
        "yEs",
        "no",
        "n",
        "y",
        "on",
        "OFF",
        "true",
        "TRUE",
        "~",
        "Null",
        "nULL",
        "''",
        "\"yes\"",
        "'0123'",
        "2001-01-01",
        "2001-01-01 10:00:00",
        "01:02:03",
        "10.0.0.1",
        "1.2.3",
        "a#b",
        "a # c",
        "!!str 5",
        "!!str yes",
        "!!int '5'",
        "i-0123456789abcdef0",
        "{a: 1, b: [yes, 0x10, ~], c: {d: 1.5}}",
        "[]",
        "{}",
        "\"\\u00e9\\n\\t\\\"\"",
        "'it''s'",
        "|\n  two\n  lines\n",
        ">-\n  folded\n  lines\n",
    ];
    let mut cases: Vec<(String, String)> = Vec::new();
    for word in words {
        let text = format!("key: {word}\n");
        let made = metadata(SeedFormat::ConfigDrive, &text)
            .unwrap_or_else(|error| panic!("{word}: {error}"));
        cases.push((text, made));
    }
    for text in [
        "base: &b {x: 1, y: 2}\nkey: {<<: *b, y: 3}\nlist: [*b, *b]\n",
        "public-keys:\n  - ssh-ed25519 AAAA a@b\ninstance-id: 0123\nlocal-hostname: vm\n",
        "a: 1\nb:\n  - c: d\n    e: 0o1\n  - f\n",
    ] {
        cases.push((text.to_owned(), metadata(SeedFormat::ConfigDrive, text).unwrap()));
    }
    judged(LIKE_PYYAML, &serde_json::json!(cases));
}

/// Words of the alphabet that numbers are made of.
#[test]
fn no_number_changes_on_its_way() {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::default();
    let word = "[-+]?(0|0x|0b|0o)?[0-9a-f_]{0,8}([.:][0-9_]{0,4}){0,3}([eE][-+]?[0-9]{0,2})?";
    let mut cases = Vec::new();
    for _ in 0..3000 {
        let text = format!("key: {}\n", word.new_tree(&mut runner).unwrap().current());
        if let Ok(made) = metadata(SeedFormat::ConfigDrive, &text) {
            cases.push((text, made));
        }
    }
    assert!(cases.len() > 2500, "{} were read", cases.len());
    judged(LIKE_PYYAML, &serde_json::json!(cases));
}

/// Both readers find an identity and a host name, whatever was given.
#[test]
fn json_and_yaml_are_read_by_both_formats_readers() {
    let program = r#"
import json, sys, yaml
for format, given, made, id, host in json.load(sys.stdin):
    read = json.loads(made) if format == "configdrive" else yaml.safe_load(made)
    names = ("uuid", "hostname") if format == "configdrive" else ("instance-id", "local-hostname")
    found = tuple(read.get(name) for name in names)
    if found != (id, host):
        print(f"{format} {given!r}: {found!r}")
"#;
    let mut cases = Vec::new();
    for (given, id, host) in [
        ("{\"instance-id\": \"i\", \"hostname\": \"h\"}", "i", "h"),
        ("{\"uuid\": \"i\", \"local-hostname\": \"h\"}\n", "i", "h"),
        (" \n{\"uuid\": \"i\"\n,\"hostname\": \"h\", \"n\": 1.10}", "i", "h"),
        ("instance-id: i\nlocal-hostname: h\n", "i", "h"),
        ("# who\nuuid: i\n", "i", "web"),
        ("instance-id: 'i'\n", "i", "web"),
    ] {
        for (format, name) in
            [(SeedFormat::ConfigDrive, "configdrive"), (SeedFormat::NoCloud, "nocloud")]
        {
            if name == "configdrive" && given.contains("\"uuid\": \"i\", \"local") {
                // JSON with a uuid stays byte for byte; local-hostname is what cloud-init takes where hostname is missing.
                continue;
            }
            cases.push((name, given, metadata(format, given).unwrap(), id, host));
        }
    }
    judged(program, &serde_json::json!(cases));
}
