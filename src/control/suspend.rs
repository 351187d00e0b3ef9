//! `berth suspend`: `{"suspend":true}` on the same socket; answered when the guest's memory is saved, or is not.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Error, Told, exchange};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    suspend: bool,
}

/// Where the supervisor hears of it.
pub type Suspender = mpsc::Sender<oneshot::Sender<Result<(), String>>>;

/// Has the launcher whose state directory this is suspend its guest, and end.
pub async fn suspend(dir: &Path) -> Result<Value, Error> {
    exchange(dir, &Ask { suspend: true }).await
}

/// Whether this is what is asked for.
pub(super) fn is_asked(line: &[u8]) -> bool {
    matches!(serde_json::from_slice(line), Ok(Ask { suspend: true }))
}

pub(super) async fn answer(suspender: &Suspender) -> Told {
    let done = suspended(suspender).await;
    done.map_or_else(Told::Error, |()| Told::Answer(json!({"suspended": true})))
}

/// Has the supervisor suspend the guest; why it is not, in words.
pub async fn suspended(suspender: &Suspender) -> Result<(), String> {
    let (asks, answer) = oneshot::channel();
    if suspender.try_send(asks).is_err() {
        return Err("it is suspended already, or cannot be here".to_owned());
    }
    answer.await.unwrap_or_else(|_| Err("the launcher ends, and the guest with it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_is_known() {
        assert!(is_asked(br#"{"suspend":true}"#));
        for other in
            ["", r#"{"suspend":false}"#, r#"{"suspend":true,"x":1}"#, r#"{"guest":"info"}"#]
        {
            assert!(!is_asked(other.as_bytes()), "{other}");
        }
    }
}
