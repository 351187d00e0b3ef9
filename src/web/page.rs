//! The files of the page: packed in the binary, and sent so to whom that suits.

use std::io::Read;

use flate2::read::GzDecoder;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::Asset;
use super::body::{Body, text, typed};

/// What a file of ours may have, unpacked.
const MAX_BYTES: u64 = 8 << 20;
/// For ever: another content has another name.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

pub(super) fn file<T>(request: &Request<T>, assets: &[Asset]) -> Response<Body> {
    let path = request.uri().path();
    let Some(asset) = assets.iter().find(|asset| asset.path == path) else {
        return text(StatusCode::NOT_FOUND, "there is no such file in this build");
    };
    let mut response = if takes_gzip(request.headers()) {
        let mut packed = typed(StatusCode::OK, asset.kind, asset.gzip);
        packed.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        packed
    } else {
        let mut plain = Vec::new();
        let read = GzDecoder::new(asset.gzip).take(MAX_BYTES).read_to_end(&mut plain);
        if read.is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "a file of the page is broken");
        }
        typed(StatusCode::OK, asset.kind, plain)
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if path.starts_with("/assets/") {
        headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    }
    response
}

/// RFC 9110 §12.5.3, as far as browsers and curl go.
fn takes_gzip(headers: &header::HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).iter();
    all.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|word| {
        let (name, weight) = word.split_once(';').unwrap_or((word, ""));
        let is_refused = weight
            .split_once("q=")
            .is_some_and(|(_, q)| q.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::BodyExt;

    use super::*;

    fn assets() -> &'static [Asset] {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(b"content").unwrap();
        let gzip: &'static [u8] = packer.finish().unwrap().leak();
        vec![
            Asset { path: "/", kind: "text/html; charset=utf-8", gzip },
            Asset { path: "/assets/a.1f2e.js", kind: "text/javascript", gzip },
        ]
        .leak()
    }

    async fn get(path: &str, encoding: &str) -> (StatusCode, header::HeaderMap, Vec<u8>) {
        let request = Request::get(path).header("accept-encoding", encoding).body(()).unwrap();
        let (head, body) = file(&request, assets()).into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        (head.status, head.headers, bytes)
    }

    #[tokio::test]
    async fn a_file_is_sent_packed_to_whom_that_suits() {
        for (encoding, packed) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.5", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("", false),
        ] {
            let (status, headers, bytes) = get("/assets/a.1f2e.js", encoding).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(headers.contains_key("content-encoding"), packed, "{encoding}");
            assert_eq!(bytes == b"content", !packed, "{encoding}");
            assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
        }
        let (_, headers, _) = get("/", "gzip").await;
        assert!(!headers.contains_key("cache-control"), "the index is asked for each time");
        assert_eq!(get("/assets/b.js", "gzip").await.0, StatusCode::NOT_FOUND);
    }
}
