//! The header of a RAM image: what the volume has, from whoever wrote it.

use berth::ram::{Header, framed};

/// As it is, and as a body whose hash holds. What is taken is written as it was read.
pub fn ram(data: &[u8]) {
    let _ = Header::decode(data, data.len() as u64);
    let Ok(file) = framed(data) else { return };
    let stream = data.get(..8).and_then(|octets| octets.try_into().ok()).map(u64::from_be_bytes);
    let octets = stream.unwrap_or(0).saturating_add(file.len() as u64);
    if let Ok(header) = Header::decode(&file, octets) {
        assert_eq!(header.encode().expect("it was read"), file);
        assert!(header.facts.differences(&header.facts).is_empty());
        let _ = header.facts.differences(&header.notes);
    }
}
