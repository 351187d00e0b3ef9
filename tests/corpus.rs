//! The fuzz targets' committed corpus, replayed on the stable toolchain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may stop"
)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::time::Instant;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!files.is_empty(), "no corpus in {}", dir.display());
    files
}

/// Each file, and each file with one byte spoiled at every place: in several ways, or one where it is long.
fn replay(target: &str, run: impl Fn(&[u8])) {
    for bytes in corpus(target) {
        run(&bytes);
        for at in 0..bytes.len() {
            let values = [0, 0xff, bytes[at] ^ 0x80];
            let ways = if bytes.len() < 500 { &values[..] } else { &values[at % 3..=at % 3] };
            for &value in ways {
                let mut spoiled = bytes.clone();
                spoiled[at] = value;
                run(&spoiled);
            }
            if bytes.len() < 500 || at % 8 == 0 {
                run(&bytes[..at]);
            }
        }
    }
}

#[test]
fn dhcp4() {
    let now = Instant::now();
    replay("dhcp4", |bytes| targets::dhcp4(now, bytes));
}

#[test]
fn dhcp4_options() {
    let now = Instant::now();
    replay("dhcp4_options", |bytes| targets::dhcp4_options(now, bytes));
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
    replay("nft_dump", targets::nft_dump);
}

#[test]
fn resolv_conf() {
    replay("resolv_conf", targets::resolv_conf);
}

#[test]
fn values_file() {
    replay("values_file", targets::values_file);
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
