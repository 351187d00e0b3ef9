//! One resume, of an image whose header holds. The guest does not run before it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::storage::Storage;
use super::super::{Monitor, millis, now};
use super::save::qemu;
use super::{Done, Refusal, Told, blocking, facts, file};
use crate::ram::Header;
use crate::sys::ram_file::{self, Image, RamFiles};

/// QEMU is asked this often how far it is.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// A volume that gives nothing for this long, or a QEMU that takes nothing, is not waited for.
pub(super) const STALLED: Duration = Duration::from_secs(30);

pub(super) struct Load {
    pub files: Arc<RamFiles>,
    pub monitor: Monitor,
    pub header: Header,
    pub image: Image,
    pub storage: Storage,
}

impl Load {
    pub(super) async fn run(self, mut told: watch::Receiver<Told>) -> Done {
        let began = now();
        let Self { files, monitor, header, image, storage } = self;
        let turn = storage.alone().await;
        let loaded = tokio::select! {
            loaded = load(&monitor, &header, image) => loaded,
            _ = told.wait_for(|told| *told >= Told::GiveUp) => Err(Refusal::GivenUp),
        };
        // From here on nothing is given up half-way.
        let used_up = match loaded {
            Ok(()) => blocking(move || files.invalidate()).await.map_err(file("using it up")),
            Err(why) => Err(why),
        };
        match used_up {
            Ok(()) => Done::Loaded {
                saved_at_ms: header.saved_at_ms,
                took_ms: millis(now().saturating_duration_since(began)),
                notes: header.notes,
                turn,
            },
            Err(why) => Done::NotLoaded { why },
        }
    }
}

async fn load(monitor: &Monitor, header: &Header, image: Image) -> Result<(), Refusal> {
    let now = facts::of_qemu(monitor).await.map_err(qemu("its facts"))?;
    let differences = header.facts.among(facts::is_qemus).differences(&now);
    if !differences.is_empty() {
        return Err(Refusal::Differs(differences));
    }
    let (from, to) = ram_file::pipe().map_err(file("a pipe"))?;
    let name = json!({"fdname": "ram"});
    monitor.ask("getfd", Some(name), Some(from.into())).await.map_err(qemu("getfd"))?;
    let so_far = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&so_far);
    let sending = tokio::spawn(blocking(move || image.send(to, &counts)));
    let uri = json!({"uri": "fd:ram"});
    monitor.ask("migrate-incoming", Some(uri), None).await.map_err(qemu("migrate-incoming"))?;
    until_completed(monitor, &so_far).await?;
    let sent = sending.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    header.check(&sent.map_err(file("reading it"))?)?;
    Ok(())
}

async fn until_completed(monitor: &Monitor, so_far: &AtomicU64) -> Result<(), Refusal> {
    let (mut seen, mut since) = (0, now());
    loop {
        let state =
            monitor.ask("query-migrate", None, None).await.map_err(qemu("query-migrate"))?;
        match state.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some(status @ ("failed" | "cancelled")) => {
                let why = state.get("error-desc").and_then(Value::as_str).unwrap_or(status);
                return Err(Refusal::Migration(why.to_owned()));
            }
            _ => {}
        }
        let bytes = so_far.load(Ordering::Relaxed);
        if bytes != seen {
            (seen, since) = (bytes, now());
        } else if now().saturating_duration_since(since) >= STALLED {
            return Err(Refusal::Stalled);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
