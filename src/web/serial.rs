//! The serial line for a browser: a session of the hub as octets both ways.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

use super::{Serial, Stream};
use crate::console::{Hub, Kind, Mode, REPLAY_BYTES, Request, Session};

/// Either way, on top of what waits in the hub.
const BUFFER_BYTES: usize = 16 << 10;
/// Read of what is typed.
const TYPED_BYTES: usize = 1024;

impl Serial for Hub {
    fn attach(&self, who: &str, read_only: bool) -> Result<Box<dyn Stream>, String> {
        let mode = if read_only { Mode::ReadOnly } else { Mode::ReadWrite };
        let request = Request { kind: Kind::Web, who: who.to_owned(), mode, replay: REPLAY_BYTES };
        let session = Self::attach(self, request).map_err(|full| full.to_string())?;
        let (browsers, ours) = duplex(BUFFER_BYTES);
        tokio::spawn(async move {
            let ended = relay(session, ours).await;
            tracing::debug!(?ended, "serial line of a browser");
        });
        Ok(Box::new(browsers))
    }
}

/// Until either side has ended: the browser that leaves, the guest that is done.
async fn relay(session: Session, stream: DuplexStream) -> io::Result<()> {
    let Session { replay, mut output, input, .. } = session;
    let (mut from, mut to) = split(stream);
    let shown = async {
        to.write_all(&replay).await?;
        while let Some(chunk) = output.next().await {
            to.write_all(&chunk.into_bytes()).await?;
        }
        to.shutdown().await
    };
    let typed = async {
        let mut buffer = [0; TYPED_BYTES];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let keys = buffer.get(..length).unwrap_or_default();
            if let Some(input) = &input
                && input.send(keys).await.is_err()
            {
                // The guest has ended; what it wrote may still be read.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        ended = shown => ended,
        ended = typed => ended,
    }
}
