//! The fuzz targets' committed corpus, replayed on the stable toolchain.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeSet;
use std::time::Instant;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!files.is_empty(), "no corpus in {}", dir.display());
    files
}

/// Each file, and each file with one byte spoiled at every place: in several ways, or one where it is long.
fn replay(target: &str, run: impl Fn(&[u8])) {
    spoiled(target, 1, run);
}

/// The same for a target that takes its time: spoiled at some thousand places, all over.
fn sample(target: &str, run: impl Fn(&[u8])) {
    let octets: usize = corpus(target).iter().map(Vec::len).sum();
    spoiled(target, (octets / SAMPLES) | 1, run);
}

const SAMPLES: usize = 800;

fn spoiled(target: &str, step: usize, run: impl Fn(&[u8])) {
    for bytes in corpus(target) {
        run(&bytes);
        for at in (0..bytes.len()).step_by(step) {
            let values = [0, 0xff, bytes[at] ^ 0x80];
            let ways =
                if bytes.len() < 500 && step == 1 { &values[..] } else { &values[at % 3..=at % 3] };
            for &value in ways {
                let mut spoiled = bytes.clone();
                spoiled[at] = value;
                run(&spoiled);
            }
            if bytes.len() < 500 && step == 1 || at % 8 == 0 {
                run(&bytes[..at]);
            }
        }
    }
}

/// The targets themselves are compiled by nightly alone: each says whom it calls, and has a corpus that is replayed here.
#[test]
fn every_target_has_a_small_corpus_that_is_replayed() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(fuzz.join(dir)).unwrap();
        entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    let targets = names("fuzz_targets");
    assert_eq!(names("corpus"), targets);
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let here = include_str!("corpus.rs");
    for target in targets {
        let source =
            std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(source.contains(&format!("berth_fuzz::{target}(")), "{target} calls another");
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")),
            "{target} is not built"
        );
        assert!(here.contains(&format!("(\"{target}\", ")), "{target} is not replayed");
        let files = corpus(&target);
        let octets: usize = files.iter().map(Vec::len).sum();
        assert!(
            files.len() <= 40 && octets <= 100_000,
            "{target}: {} files, {octets} octets",
            files.len()
        );
    }
}

#[test]
fn dhcp4() {
    let now = Instant::now();
    sample("dhcp4", |bytes| targets::dhcp4(now, bytes));
}

#[test]
fn dhcp4_options() {
    let now = Instant::now();
    replay("dhcp4_options", |bytes| targets::dhcp4_options(now, bytes));
}

#[test]
fn dhcp6() {
    let now = Instant::now();
    replay("dhcp6", |bytes| targets::dhcp6(now, bytes));
}

#[test]
fn dns_query() {
    let now = Instant::now();
    replay("dns_query", |bytes| targets::dns_query(now, bytes));
}

#[test]
fn dns_response() {
    let now = Instant::now();
    replay("dns_response", |bytes| targets::dns_response(now, bytes));
}

#[test]
fn leases_file() {
    let now = Instant::now();
    replay("leases_file", |bytes| targets::leases_file(now, bytes));
}

#[test]
fn search_list() {
    let now = Instant::now();
    replay("search_list", |bytes| targets::search_list(now, bytes));
}

#[test]
fn nft_dump() {
    sample("nft_dump", targets::nft_dump);
}

#[test]
fn resolv_conf() {
    replay("resolv_conf", targets::resolv_conf);
}

#[test]
fn web_guard() {
    replay("web_guard", targets::web_guard);
}

#[test]
fn rfb() {
    replay("rfb", targets::rfb);
}

#[test]
fn values_file() {
    sample("values_file", targets::values_file);
}

#[test]
fn image_source() {
    replay("image_source", targets::image_source);
}

#[test]
fn qcow2() {
    replay("qcow2", targets::qcow2);
}

#[test]
fn seed_file() {
    replay("seed_file", targets::seed_file);
}

#[test]
fn qmp() {
    sample("qmp", targets::qmp);
}

#[test]
fn ram() {
    sample("ram", targets::ram);
}

#[test]
fn agent() {
    let now = Instant::now();
    sample("agent", |bytes| targets::agent(now, bytes));
}

#[test]
fn halves() {
    replay("halves", targets::halves);
}

#[test]
fn status() {
    replay("status", targets::status);
}

#[test]
fn unpack() {
    sample("unpack", targets::unpack);
}

#[test]
fn image_head() {
    replay("image_head", targets::image_head);
}

#[test]
fn http() {
    replay("http", targets::http);
}

#[test]
fn overlay() {
    sample("overlay", targets::overlay);
}

#[test]
fn nft_trace() {
    let now = Instant::now();
    sample("nft_trace", |bytes| targets::nft_trace(now, bytes));
}

#[test]
fn trace_packet() {
    replay("trace_packet", targets::trace_packet);
}

#[test]
fn conntrack() {
    sample("conntrack", targets::conntrack);
}

#[test]
fn nft_hooks() {
    sample("nft_hooks", targets::nft_hooks);
}

#[test]
fn nft_replay() {
    sample("nft_replay", targets::nft_replay);
}

#[test]
fn rtnetlink() {
    sample("rtnetlink", targets::rtnetlink);
}

#[test]
fn extra_rules() {
    replay("extra_rules", targets::extra_rules);
}

#[test]
fn explain() {
    sample("explain", targets::explain);
}

#[test]
fn frame() {
    replay("frame", targets::frame);
}

#[test]
fn ndp() {
    replay("ndp", targets::ndp);
}

#[test]
fn metadata() {
    sample("metadata", targets::metadata);
}

#[test]
fn options() {
    replay("options", targets::options);
}

#[test]
fn words() {
    replay("words", targets::words);
}

#[test]
fn iso() {
    sample("iso", targets::iso);
}

#[test]
fn resume_note() {
    replay("resume_note", targets::resume_note);
}
