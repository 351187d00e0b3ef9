//! What a header says comes back as it was; what is changed anywhere is refused by name.

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    let mut facts = Facts::default();
    facts.push("QEMU", "7.2.22 (Debian 1:7.2+dfsg-7)");
    facts.push("memory", "256 MiB");
    facts.push("device virtio-rng-pci", "rng=rng0");
    let mut notes = Facts::default();
    notes.push("address", "10.244.7.2");
    Header {
        stream: Stream { bytes: 3, sha256: Sha256::digest(b"abc").into() },
        generation: Generation([7; 16]),
        saved_at_ms: 1_764_547_200_123,
        facts,
        notes,
    }
}

fn file() -> Vec<u8> {
    [header().encode().unwrap(), b"abc".to_vec()].concat()
}

fn read(file: &[u8]) -> Result<Header, Invalid> {
    Header::decode(file, file.len() as u64)
}

#[test]
fn a_header_comes_back_as_it_was() {
    assert_eq!(read(&file()), Ok(header()));
    let stream = Stream { bytes: 3, sha256: Sha256::digest(b"abc").into() };
    assert_eq!(header().check(&stream), Ok(()));
}

#[test]
fn whatever_is_changed_is_refused_by_name() {
    let whole = file();
    for length in 0..HEADER_BYTES {
        let refused = read(&whole[..length]);
        assert_eq!(refused, Err(Invalid::Short { found: length as u64 }));
    }
    let changed = |at: usize| {
        let mut file = whole.clone();
        file[at] ^= 1;
        read(&file).unwrap_err()
    };
    assert!(matches!(changed(0), Invalid::NotOurs(_)));
    assert_eq!(changed(11), Invalid::Version { saved: 0 });
    for at in 16..300 {
        assert!(matches!(changed(at), Invalid::Header { .. } | Invalid::Malformed(_)), "{at}");
    }
    assert_eq!(changed(HEADER_BYTES - 1), Invalid::Malformed("something stands behind it"));
    let longer = [&whole[..], b"d"].concat();
    assert_eq!(read(&longer), Err(Invalid::Length { said: 3, found: 4 }));
    assert_eq!(read(&whole[..whole.len() - 1]), Err(Invalid::Length { said: 3, found: 2 }));
    let other = Stream { bytes: 3, sha256: Sha256::digest(b"abd").into() };
    let why = header().check(&other).unwrap_err().to_string();
    assert!(why.contains("ba7816bf") && why.contains("a52d159f"), "{why}");
}

/// A body whose hash holds may be anything.
fn of_body(body: &[u8]) -> Vec<u8> {
    framed(body).unwrap()
}

#[test]
fn a_body_is_read_to_its_end() {
    let body = body::encode(&header());
    for length in 0..body.len() {
        assert!(matches!(read(&of_body(&body[..length])), Err(Invalid::Malformed(_))), "{length}");
    }
    let longer = [&body[..], &[0]].concat();
    assert_eq!(read(&of_body(&longer)), Err(Invalid::Malformed("octets are left over")));
}

#[test]
fn every_fact_that_differs_is_told_with_both_values() {
    let mut saved = Facts::default();
    let usual = [
        ("QEMU", "7.2.22 Debian"),
        ("machine type", "pc-q35-7.2-machine"),
        ("accelerator", "kvm"),
        ("CPU model", "host"),
        ("guest CPU feature-words", "1.0.EDX=8bfb"),
        ("memory in MiB", "256"),
        ("vCPUs", "1"),
        ("device virtio-rng-pci", "rng=rng0"),
        ("PCI 02.0", "1af4:1000"),
        ("disk web.qcow2", "qcow2 of 10 octets, written at 1.5"),
        ("config drive", "SHA-256 00"),
        ("generation of the disk", "07"),
    ];
    for (what, value) in usual {
        saved.push(what, value);
    }
    let rows: [(&str, Option<&str>, &str); 13] = [
        ("QEMU", Some("8.2.0"), "QEMU: saved 7.2.22 Debian, now 8.2.0"),
        ("machine type", Some("pc"), "machine type: saved pc-q35-7.2-machine, now pc"),
        ("accelerator", Some("tcg"), "accelerator: saved kvm, now tcg"),
        ("CPU model", Some("max"), "CPU model: saved host, now max"),
        (
            "guest CPU feature-words",
            Some("0"),
            "guest CPU feature-words: saved 1.0.EDX=8bfb, now 0",
        ),
        ("memory in MiB", Some("512"), "memory in MiB: saved 256, now 512"),
        ("vCPUs", Some("2"), "vCPUs: saved 1, now 2"),
        ("device virtio-rng-pci", None, "device virtio-rng-pci: saved rng=rng0, now none"),
        ("device tpm", Some("tpm-crb"), "device tpm: saved none, now tpm-crb"),
        ("PCI 02.0", Some("10ec:8139"), "PCI 02.0: saved 1af4:1000, now 10ec:8139"),
        (
            "disk web.qcow2",
            Some("x"),
            "disk web.qcow2: saved qcow2 of 10 octets, written at 1.5, now x",
        ),
        ("config drive", Some("y"), "config drive: saved SHA-256 00, now y"),
        ("generation of the disk", Some("08"), "generation of the disk: saved 07, now 08"),
    ];
    for (what, value, words) in rows {
        let mut now = saved.among(|name| name != what);
        if let Some(value) = value {
            now.push(what, value);
        }
        let told: Vec<String> = saved.differences(&now).iter().map(ToString::to_string).collect();
        assert_eq!(told, [words]);
    }
    assert_eq!(saved.differences(&saved), []);
}

#[test]
fn facts_are_bounded() {
    let mut facts = Facts::default();
    for _ in 0..1000 {
        facts.push("x", "y".repeat(5000));
    }
    assert_eq!(facts.all().len(), facts::MAX_FACTS);
    assert!(facts.of("x (2)").unwrap().starts_with("5000 octets of SHA-256 "));
    let header = Header { facts, ..header() };
    assert!(header.encode().is_err());
}

proptest! {
    #[test]
    fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..2000), cut in 0_usize..HEADER_BYTES) {
        let _ = read(&body);
        let file = of_body(&body);
        if let Ok(header) = read(&file) {
            prop_assert_eq!(header.encode().unwrap(), file.clone());
        }
        let _ = read(&file[..cut]);
    }

    #[test]
    fn facts_come_back(names in prop::collection::btree_map(".{0,40}", ".{0,200}", 0..40), at in any::<u64>()) {
        let mut facts = Facts::default();
        for (name, value) in names {
            facts.push(name, value);
        }
        let header = Header { facts, saved_at_ms: at, ..header() };
        let file = [header.encode().unwrap(), b"abc".to_vec()].concat();
        prop_assert_eq!(read(&file), Ok(header));
    }
}
