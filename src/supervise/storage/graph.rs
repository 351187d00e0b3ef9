//! What is added to QEMU's graph of disks for a while, and how it is taken out again: in reverse, whatever came of it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::{Monitor, NoAnswer};

const TRIES: u32 = 10;
const AGAIN: Duration = Duration::from_millis(100);

/// Commands that were carried out, by what undoes them.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    monitor: &'a Monitor,
    undo: Vec<(&'static str, Value)>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(monitor: &'a Monitor) -> Self {
        Self { monitor, undo: Vec::new() }
    }

    pub(super) async fn ask(&self, command: &'static str, of: Value) -> Result<Value, NoAnswer> {
        self.monitor.ask(command, Some(of), None).await
    }

    /// A command and what undoes it. One without an answer may have been carried out.
    pub(super) async fn make(
        &mut self,
        command: &'static str,
        of: Value,
        undo: (&'static str, Value),
    ) -> Result<(), NoAnswer> {
        let answer = self.ask(command, of).await;
        if matches!(answer, Ok(_) | Err(NoAnswer::TimedOut)) {
            self.undo.push(undo);
        }
        answer.map(drop)
    }

    /// Hands an open file over. Returns the name that QEMU opens it by.
    pub(super) async fn hand(&mut self, file: OwnedFd) -> Result<String, NoAnswer> {
        let answer = self.monitor.ask("add-fd", None, Some(file)).await?;
        let set = answer.get("fdset-id").and_then(Value::as_u64);
        let set = set.ok_or_else(|| NoAnswer::Refused("no number of a set".to_owned()))?;
        self.undo.push(("remove-fd", json!({"fdset-id": set})));
        Ok(format!("/dev/fdset/{set}"))
    }

    pub(super) async fn node(&mut self, name: &str, mut of: Value) -> Result<(), NoAnswer> {
        if let Some(of) = of.as_object_mut() {
            of.insert("node-name".to_owned(), name.into());
        }
        self.make("blockdev-add", of, ("blockdev-del", json!({"node-name": name}))).await
    }

    /// Everything is as it was. What QEMU does not give up costs memory, and is told.
    pub(super) async fn undo(self) {
        for (command, of) in self.undo.into_iter().rev() {
            match ask_until_taken(self.monitor, command, Some(of.clone())).await {
                // It went with QEMU.
                Ok(_) | Err(NoAnswer::NotRunning | NoAnswer::Ended) => {}
                Err(error) => {
                    tracing::warn!(%error, command, %of, "a part of the backup stays in QEMU");
                }
            }
        }
    }
}

/// Asks again where QEMU is asked too much: what must not be left undone.
pub(super) async fn ask_until_taken(
    monitor: &Monitor,
    command: &'static str,
    of: Option<Value>,
) -> Result<Value, NoAnswer> {
    let mut left = TRIES;
    loop {
        match monitor.ask(command, of.clone(), None).await {
            Err(NoAnswer::Busy | NoAnswer::TimedOut) if left > 0 => left -= 1,
            answer => return answer,
        }
        sleep(AGAIN).await;
    }
}
