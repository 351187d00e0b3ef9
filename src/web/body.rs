//! Answers: their bodies, and what stands on each of them.

use std::convert::Infallible;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

/// Read of a picture at once.
const CHUNK_BYTES: u64 = 32 * 1024;

/// What is sent.
pub(super) enum Body {
    /// At once; None when it is sent.
    Whole(Option<Bytes>),
    Picture(Picture),
}

/// A file of known length, a piece at a time. Nobody else has one made meanwhile.
pub(super) struct Picture {
    pub file: File,
    pub at: u64,
    pub length: u64,
    pub _turn: OwnedSemaphorePermit,
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()),
            Self::Picture(picture) => picture.next(),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl Body {
    fn left(&self) -> u64 {
        match self {
            Self::Whole(bytes) => {
                bytes.as_ref().map_or(0, |bytes| bytes.len().try_into().unwrap_or(u64::MAX))
            }
            Self::Picture(picture) => picture.length.saturating_sub(picture.at),
        }
    }
}

impl Picture {
    fn next(&mut self) -> Option<Bytes> {
        let left = self.length.saturating_sub(self.at).min(CHUNK_BYTES);
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(0)];
        let read = self.file.read_at(&mut chunk, self.at).unwrap_or(0);
        chunk.truncate(read);
        self.at += u64::try_from(read).unwrap_or(0);
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

/// For people: a line of text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut text = text.into();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    typed(status, "text/plain; charset=utf-8", text)
}

pub(super) fn typed(
    status: StatusCode,
    kind: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(bytes.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = status;
    response
}

/// Scripts are our own files alone, connections lead to us, nobody frames the page, and a picture's data may be in it. Styles
/// are set by the viewers of screen and serial line.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
    style-src 'self' 'unsafe-inline'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const ALWAYS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// What stands on every answer. Nothing is kept by caches unless it says that it may be.
pub(super) fn protect(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
