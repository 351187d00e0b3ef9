//! The guest's screen, from QEMU by QMP: no listener, no port, no password of VNC's.
//!
//! A viewer is one end of a socket pair whose other end QEMU is given (`getfd`, `add_client` with `skipauth`; qapi/misc.json):
//! its VNC server speaks RFB there, to as many as come. A picture is written by QEMU to a file in memory (`add-fd`, `screendump`;
//! qapi/ui.json). Neither needs a path, so QEMU's confinement stays as it is.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::body::{Body, Picture, empty, text};
use crate::supervise::{Monitor, NoAnswer};
use crate::sys::descriptors::written_by_another;

/// A picture of 4096×2160 that does not pack is 27 MB.
const MAX_PICTURE_BYTES: u64 = 32 << 20;
/// "\x89PNG\r\n\x1a\n" (W3C PNG §5.2).
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoScreen {
    #[error(transparent)]
    Qemu(#[from] NoAnswer),
    #[error("making a socket or a file for QEMU: {0}")]
    System(#[from] io::Error),
    #[error("what QEMU wrote is no picture, or too large")]
    NoPicture,
}

#[derive(Debug)]
pub(super) struct Screen {
    monitor: Monitor,
    /// Of names that QEMU knows descriptors by.
    last_name: AtomicU64,
    /// One picture at a time, until it is sent: it is in memory.
    turn: Arc<Semaphore>,
}

impl Screen {
    pub(super) fn new(monitor: Monitor) -> Self {
        Self { monitor, last_name: AtomicU64::new(0), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Another viewer, which QEMU greets by its version of RFB.
    pub(super) async fn attach(&self) -> Result<UnixStream, NoScreen> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let name = format!("web{}", self.last_name.fetch_add(1, Ordering::Relaxed));
        let named = json!({"fdname": name});
        let file: OwnedFd = theirs.into();
        self.monitor.ask("getfd", Some(named.clone()), Some(file)).await?;
        let client = json!({"protocol": "vnc", "fdname": name, "skipauth": true});
        if let Err(refused) = self.monitor.ask("add_client", Some(client), None).await {
            // It would keep the descriptor.
            let _ = self.monitor.ask("closefd", Some(named), None).await;
            return Err(refused.into());
        }
        Ok(UnixStream::from_std(ours)?)
    }

    /// As a PNG.
    pub(super) async fn picture(&self) -> Response<Body> {
        let Ok(turn) = self.turn.clone().try_acquire_owned() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "another picture is under way");
        };
        match self.dump().await {
            Ok((file, length)) => {
                let mut response = empty(StatusCode::OK);
                let kind = hyper::header::HeaderValue::from_static("image/png");
                response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
                *response.body_mut() = Body::Picture(Picture { file, at: 0, length, _turn: turn });
                response
            }
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }

    async fn dump(&self) -> Result<(std::fs::File, u64), NoScreen> {
        use std::os::unix::fs::FileExt;
        let (file, writer) = written_by_another("berth-picture")?;
        let set = self.monitor.ask("add-fd", None, Some(writer)).await?;
        let set = set.get("fdset-id").and_then(Value::as_u64).ok_or(NoScreen::NoPicture)?;
        let wanted = json!({"filename": format!("/dev/fdset/{set}"), "format": "png"});
        let dumped = self.monitor.ask("screendump", Some(wanted), None).await;
        let _ = self.monitor.ask("remove-fd", Some(json!({"fdset-id": set})), None).await;
        dumped?;
        let length = file.metadata()?.len();
        let mut begin = [0; PNG.len()];
        file.read_exact_at(&mut begin, 0).map_err(|_| NoScreen::NoPicture)?;
        if begin != PNG || length > MAX_PICTURE_BYTES {
            return Err(NoScreen::NoPicture);
        }
        Ok((file, length))
    }
}
