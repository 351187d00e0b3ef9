//! What a raw image's partition table says of the image: where it ends, and the sectors it is made for (UEFI §5.3; the
//! MBR as every BIOS has it).
//!
//! A table that reaches beyond the image is no proof of a download cut short: some systems are built so, and grow at
//! their first boot. So it is said and not refused.

/// What is worth a line in the log when a disk is made on an image with this head.
pub(super) fn notes(head: &[u8], length: u64, name: &str) -> Vec<String> {
    let gpt = |sector: usize| head.get(sector..sector + 8) == Some(b"EFI PART");
    if gpt(4096) && !gpt(512) {
        return vec![format!(
            "{name} is partitioned for sectors of 4096 octets, and the disk has 512: the guest finds no partition \
             unless KVM_BLK_OPTS gives the disk logical_block_size=4096,physical_block_size=4096"
        )];
    }
    let end = if gpt(512) { gpt_end(head) } else { mbr_end(head) };
    if end <= length {
        return Vec::new();
    }
    vec![format!(
        "{name} ends at octet {length}, and its partition table reaches to {end}: if its download may have been cut, \
         IMG_SHA256 tells"
    )]
}

const SECTOR: u64 = 512;

/// The backup table is the disk's last sector.
fn gpt_end(head: &[u8]) -> u64 {
    let backup = head.get(512 + 32..512 + 40).and_then(|field| field.try_into().ok());
    backup.map_or(0, u64::from_le_bytes).saturating_add(1).saturating_mul(SECTOR)
}

/// The end of the last of four partitions.
fn mbr_end(head: &[u8]) -> u64 {
    if head.get(510..512) != Some(b"\x55\xaa") {
        return 0;
    }
    let field = |entry: &[u8], from: usize| {
        entry
            .get(from..from + 4)
            .and_then(|field| field.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    };
    let entries = head.get(446..510).unwrap_or_default().chunks_exact(16);
    // An entry is active or not, and has a type; a file system's boot code looks otherwise.
    if !entries.clone().all(|entry| matches!(entry, [0 | 0x80, ..])) {
        return 0;
    }
    let used = entries.filter(|entry| entry.get(4).is_some_and(|&kind| kind != 0));
    used.map(|entry| (u64::from(field(entry, 8)) + u64::from(field(entry, 12))) * SECTOR)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; 64 << 10];
        for (at, octets) in parts {
            head[*at..at + octets.len()].copy_from_slice(octets);
        }
        head
    }

    #[test]
    fn a_table_is_held_against_the_image() {
        let mbr: &[(usize, &[u8])] =
            &[(450, &[0x83]), (454, &[0, 8, 0, 0]), (458, &[0, 8, 0, 0]), (510, b"\x55\xaa")];
        let gpt: &[(usize, &[u8])] = &[(512, b"EFI PART"), (544, &[0xff, 0x0f])];
        let fat: &[(usize, &[u8])] = &[(446, &[b'a'; 64]), (510, b"\x55\xaa")];
        for (parts, end) in [(mbr, 4096 * 512), (gpt, 4096 * 512), (fat, 0), (&[], 0)] {
            let head = disk(parts);
            assert_eq!(notes(&head, end, "x"), [""; 0]);
            if end > 0 {
                let said = notes(&head, end - 1, "x");
                assert!(
                    said[0].contains("reaches to 2097152") && said[0].contains("IMG_SHA256"),
                    "{said:?}"
                );
            }
        }
    }

    #[test]
    fn sectors_of_4096_octets_are_told() {
        let parts: &[(usize, &[u8])] = &[(510, b"\x55\xaa"), (4096, b"EFI PART")];
        assert!(notes(&disk(parts), 1 << 30, "x")[0].contains("logical_block_size=4096"));
        // Both: made for either.
        let hybrid = [parts, &[(512, b"EFI PART")]].concat();
        assert_eq!(notes(&disk(&hybrid), 1 << 30, "x"), [""; 0]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..700)) {
            let _ = notes(&bytes, 1, "x");
        }
    }
}
