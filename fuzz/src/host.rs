//! What other processes say: QEMU on QMP, the other half of the pod, the launcher whose status is asked.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use berth::halves;
use berth::proto::qmp::{Client, Command, Event, Output, Reason};
use berth::status::{Network, Status};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

/// The octets in pieces of a size.
pub(crate) struct Pieces<'a>(pub &'a [u8], pub usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let octets = self.0.len().min(self.1.max(1)).min(buffer.remaining());
        let (piece, rest) = self.0.split_at(octets);
        buffer.put_slice(piece);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

const GREETED: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}}}\r\n{\"return\": {}, \"id\": 0}\r\n";

/// A client after all it may ask, or before QEMU's greeting, that has read these octets in pieces of a size.
fn heard(
    greeted: bool,
    before: &[u8],
    data: &[u8],
    piece: usize,
) -> (Vec<Output>, BTreeMap<Reason, u64>) {
    let mut client = Client::default();
    if greeted {
        client.receive(GREETED);
        while client.poll().is_some() {}
        for command in [
            Command::QueryStatus,
            Command::SystemPowerdown,
            Command::SystemWakeup,
            Command::Quit,
            Command::Cont,
            Command::SetVncPassword("secret".into()),
            Command::BlockResize { device: "disk0".into(), size_bytes: 1 << 30 },
        ] {
            client.send(&command);
        }
        client.ask("query-block", None);
    }
    client.receive(before);
    data.chunks(piece).for_each(|piece| client.receive(piece));
    (std::iter::from_fn(|| client.poll()).collect(), client.reasons().clone())
}

/// What a QEMU says that was taken over: the same however it comes in pieces, and not more than was said. The first
/// octet asks for a long line before it, or for a greeting.
pub fn qmp(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    // One in sixteen after a line that is nearly too long: each costs as much as a hundred others.
    let before =
        vec![b' '; if first < 0xf0 { 0 } else { (64 << 10) - 4 * usize::from(first & 0x0f) }];
    let greeted = first & 0x40 == 0;
    let whole = heard(greeted, &before, data, data.len().max(1));
    for piece in [1, 2, 7, usize::from(first & 0x3f) + 8] {
        assert_eq!(heard(greeted, &before, data, piece), whole, "in pieces of {piece}");
    }
    let (outputs, reasons) = whole;
    assert!(outputs.len() <= 256 + 8);
    let lines = data.iter().filter(|octet| **octet == b'\n').count() as u64;
    assert!(reasons.values().sum::<u64>() <= lines + 1);
    for output in outputs {
        match output {
            Output::Transmit(line) => {
                assert!(line.ends_with(b"\r\n"));
                serde_json::from_slice::<serde_json::Value>(&line).expect("JSON");
            }
            Output::Event(Event::BlockIoError { device, operation, reason, .. }) => {
                assert!([device, operation, reason].iter().all(|text| text.chars().count() <= 64));
            }
            Output::Event(Event::Refused { why, .. }) => assert!(why.chars().count() <= 200),
            Output::Answer(_, answer) => {
                assert!(answer.err().is_none_or(|why| why.chars().count() <= 200));
            }
            Output::Event(_) => {}
        }
    }
}

fn network_heard(data: &[u8], piece: usize) -> Option<Network> {
    let (to, heard) = watch::channel(None);
    block_on(halves::listen_to(Pieces(data, piece), &to));
    heard.borrow().clone()
}

/// What whoever holds the network half's socket says: the same in pieces, and what was heard is heard again.
pub fn halves(data: &[u8]) {
    let whole = network_heard(data, usize::MAX);
    for piece in [1, 13] {
        assert_eq!(network_heard(data, piece), whole, "in pieces of {piece}");
    }
    if let Some(network) = whole {
        let line = serde_json::to_vec(&network).expect("JSON");
        assert_eq!(network_heard(&line, usize::MAX), Some(network));
    }
}

/// What whoever holds the status socket answers: what was read is written and read the same.
pub fn status(data: &[u8]) {
    let Ok(status) = serde_json::from_slice::<Status>(data) else { return };
    let again = serde_json::to_vec(&status).expect("JSON");
    assert_eq!(serde_json::from_slice::<Status>(&again).expect("our own"), status);
    // A control character of one octet is shown as `\u007f`.
    assert!(status.to_string().len() <= 6 * data.len() + 300);
}
