//! Requests for disks: `berth backup` and `berth resize`.
//!
//! ```text
//!  client  {"backup":{"target":"/backup/","incremental":true}}\n        {"resize":{"size":21474836480}}\n
//!  server  {"progress":{"disk":"root","done":1,"total":2}}\n …
//!          {"answer":{"files":[…],"consistency":"file-system",…}}\n      {"answer":[{"disk":"root",…}]}\n   or {"error":"…"}\n
//! ```
//!
//! A client that leaves cancels its backup.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::{Error, MAX_ANSWER, SOCKET, TIMEOUT, Told};
use crate::supervise::storage::{self, Progress, Storage, Wanted};
use crate::sys::local_socket;

/// A client is told how far it is.
const EVERY: Duration = Duration::from_millis(500);
/// Between two lines of a launcher that works on it.
const SILENT: Duration = Duration::from_secs(180);

/// A request, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Ask {
    Backup(Wanted),
    Resize { size: Option<u64> },
}

/// One of these; None: it is about something else.
pub(super) fn parse(line: &[u8]) -> Option<Result<Ask, String>> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let is_ours = ["backup", "resize"].iter().any(|key| value.get(key).is_some());
    is_ours.then(|| serde_json::from_value(value).map_err(|error| format!("request: {error}")))
}

/// Asks, and shows each line of progress to `show`.
pub async fn ask(dir: &Path, ask: &Ask, mut show: impl FnMut(Progress)) -> Result<Value, Error> {
    let path = dir.join(SOCKET);
    let unreachable = |source| Error::Unreachable { path: path.clone(), source };
    let mut line = serde_json::to_vec(ask).map_err(|error| unreachable(error.into()))?;
    line.push(b'\n');
    let mut stream = local_socket::open(&path).map_err(unreachable)?;
    match stream.write_all(&line).await {
        // Its answer may be there all the same.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(unreachable(error)),
        _ => {}
    }
    let mut lines = BufReader::new(stream);
    loop {
        let line = timeout(SILENT, next(&mut lines)).await;
        let line = line.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let line = line.map_err(unreachable)?;
        match serde_json::from_slice(&line) {
            Ok(Told::Progress(progress)) => show(progress),
            Ok(Told::Answer(answer)) => return Ok(answer),
            Ok(Told::Error(why)) => return Err(Error::Refused(why)),
            Err(_) if line.is_empty() => return Err(Error::Ended),
            Err(source) => return Err(Error::Answer { path, source }),
        }
    }
}

async fn next(lines: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    lines.take(MAX_ANSWER).read_until(b'\n', &mut line).await?;
    Ok(line)
}

/// Does it, and tells how far it is. `from` ends when the client has left.
pub(super) async fn answer(
    ask: Ask,
    storage: Option<&Storage>,
    from: impl AsyncBufRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Told> {
    let Some(storage) = storage.cloned() else {
        return Ok(Told::Error("no guest is run here".to_owned()));
    };
    let told = |done: Result<Value, storage::Error>| match done {
        Ok(answer) => Told::Answer(answer),
        Err(error) => Told::Error(error.story()),
    };
    let wanted = match ask {
        Ask::Backup(wanted) => wanted,
        Ask::Resize { size } => {
            return Ok(told(storage.resize(size).await.map(|resized| json!(resized))));
        }
    };
    let (progress, shown) = watch::channel(Progress::default());
    let (here, gone) = oneshot::channel::<()>();
    // To its end, whoever hears of it.
    let mut work = tokio::spawn(async move { storage.back_up(&wanted, &progress, gone).await });
    let mut left = std::pin::pin!(until_left(from));
    loop {
        tokio::select! {
            done = &mut work => {
                let done = done.map_err(io::Error::other)?;
                return Ok(told(done.map(|done| json!(done))));
            }
            () = &mut left => {
                drop(here);
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            () = sleep(EVERY) => {
                let progress = shown.borrow().clone();
                write(to, &Told::Progress(progress)).await?;
            }
        }
    }
}

/// What else it says is of no account.
async fn until_left(mut from: impl AsyncBufRead + Unpin) {
    loop {
        let length = match from.fill_buf().await {
            Ok(more) if !more.is_empty() => more.len(),
            _ => return,
        };
        from.consume(length);
    }
}

/// One line.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), told: &Told) -> io::Result<()> {
    let mut text = serde_json::to_vec(told)?;
    text.push(b'\n');
    timeout(TIMEOUT, to.write_all(&text)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_words_that_are_known() {
        let wanted = Wanted { target: "/b".into(), incremental: true, speed: Some(1) };
        let line = br#"{"backup":{"target":"/b","incremental":true,"speed":1}}"#;
        assert_eq!(parse(line), Some(Ok(Ask::Backup(wanted))));
        assert_eq!(parse(br#"{"resize":{}}"#), Some(Ok(Ask::Resize { size: None })));
        for wrong in [
            r#"{"backup":{}}"#,
            r#"{"backup":{"target":"/b","format":"raw"}}"#,
            r#"{"backup":{"target":"/b"},"guest":"info"}"#,
        ] {
            assert!(matches!(parse(wrong.as_bytes()), Some(Err(_))), "{wrong}");
        }
        for other in ["", "{}", r#"{"guest":"info"}"#] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
    }
}
