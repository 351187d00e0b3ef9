//! User data, which goes to the guest as it is: only looked at for a header, without which cloud-init drops it.
//!
//! What cloud-init knows: user data formats in its documentation, `cloudinit/handlers`. What others read beside it is
//! let pass: Ignition's JSON, cloudbase-init's scripts.

use std::io::Read;

use flate2::read::MultiGzDecoder;

/// First words, in lower case; blanks before them do not count.
const HEADERS: [&str; 11] = [
    "#cloud-config",
    "#cloud-boothook",
    "#include",
    "#!",
    "#part-handler",
    "## template: jinja",
    // cloudbase-init
    "#ps1",
    "rem cmd",
    "<powershell>",
    "<script>",
    "{\"ignition\"",
];
/// cloud-init looks for MIME's own header so far.
const MIME_WITHIN: usize = 4096;

/// Why cloud-init does not act on it; None when it does, or when there is nothing.
pub fn ignored(content: &[u8]) -> Option<String> {
    let head =
        if content.starts_with(b"\x1f\x8b") { unpacked(content)? } else { beginning(content) };
    let is_mime = head.windows(13).any(|window| window == b"mime-version:");
    if is_mime || has_header(&head) || head.trim_ascii().is_empty() {
        return None;
    }
    let mark = [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"]
        .into_iter()
        .any(|mark| head.starts_with(mark));
    Some(if mark {
        "begins with a byte order mark, so cloud-init sees no header and ignores it: save it as UTF-8 without one"
            .to_owned()
    } else {
        "begins with no header that cloud-init knows (#cloud-config, #!, #include, MIME, ...), so cloud-init ignores it"
            .to_owned()
    })
}

fn beginning(content: &[u8]) -> Vec<u8> {
    content.get(..MIME_WITHIN).unwrap_or(content).to_ascii_lowercase()
}

/// What gzip holds; None where that cannot be told.
fn unpacked(content: &[u8]) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let limit = u64::try_from(MIME_WITHIN).unwrap_or(u64::MAX);
    MultiGzDecoder::new(content).take(limit).read_to_end(&mut head).ok()?;
    Some(beginning(&head))
}

fn has_header(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let starts = |header: &str| {
        if header.starts_with('{') {
            // JSON has blanks where it likes.
            let dense: Vec<u8> =
                head.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            dense.starts_with(header.as_bytes())
        } else {
            head.starts_with(header.as_bytes())
        }
    };
    HEADERS.iter().any(|header| starts(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(content, flate2::Compression::fast())
            .read_to_end(&mut packed)
            .unwrap();
        packed
    }

    #[test]
    fn what_cloud_init_knows_is_let_pass() {
        for content in [
            &b"#cloud-config\n{}\n"[..],
            b"\n  #Cloud-Config\n",
            b"#cloud-config-archive\n",
            b"#!/bin/sh\n\xff",
            b"#include\nhttp://h/x\n",
            b"#include-once\n",
            b"#cloud-boothook\n",
            b"#part-handler\n",
            b"## template: jinja\n#cloud-config\n",
            &gzip(b"#!/bin/sh\n"),
            b"\x1f\x8b no gzip",
            b"Content-Type: multipart/mixed; boundary=x\r\nMIME-Version: 1.0\r\n",
            b"{ \"ignition\": {\"version\": \"3.4.0\"}}",
            b"#ps1_sysnative\r\n",
            b"",
            b" \r\n",
        ] {
            assert_eq!(ignored(content), None, "{:?}", String::from_utf8_lossy(content));
        }
    }

    /// kubevirt#13376, and what an editor adds.
    #[test]
    fn what_it_ignores_is_told() {
        for (content, word) in [
            (&b"hostname: x\n"[..], "no header"),
            (b"# cloud-config\n", "no header"),
            (b"{\"a\": 1}", "no header"),
            (b"##template: jinja\n", "no header"),
            (&gzip(b"hostname: x\n"), "no header"),
            (b"\xef\xbb\xbf#cloud-config\n", "byte order mark"),
            (b"\xff\xfe#\0c\0", "byte order mark"),
        ] {
            assert!(ignored(content).is_some_and(|why| why.contains(word)), "{content:?}");
        }
    }
}
