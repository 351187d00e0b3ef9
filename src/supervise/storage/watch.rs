//! A job of QEMU's until it has ended, or is given up. It is asked for, not heard of by events: what came of it is there for whoever was
//! too busy to listen.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::super::{Monitor, NoAnswer};
use super::{Error, Stop, off};
use crate::sys::image::target::{self, Target};

/// How often a job is looked at.
const POLL: Duration = Duration::from_millis(200);
/// A job that gets no further for so long is given up.
const STALL: Duration = Duration::from_secs(120);

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub disk: String,
    pub done: u64,
    pub total: u64,
}

/// Until a job has ended.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) monitor: &'a Monitor,
    pub(super) job: &'a str,
    pub(super) disk: &'a str,
    /// The directory of a target on the disk's own volume, and the room that is left to the guest.
    pub(super) shared: Option<(PathBuf, u64)>,
    /// Of speed.
    pub(super) has_limit: bool,
}

impl Watch<'_> {
    pub(super) async fn job(
        &self,
        targets: &mut Vec<Target>,
        progress: &watch::Sender<Progress>,
        stop: &mut Stop,
        scratch_room: u64,
    ) -> Result<(), Error> {
        let mut given_up: Option<Error> = None;
        let mut furthest = (0, Instant::now());
        loop {
            let why = tokio::select! {
                why = stop.wanted(), if given_up.is_none() => Some(Error::Cancelled(why)),
                () = sleep(POLL) => None,
            };
            let job = match self.look().await {
                Ok(job) => job,
                // It answers later; without a job there is nothing to wait for.
                Err(NoAnswer::TimedOut | NoAnswer::Busy) => None,
                Err(source) => return Err(Error::Qemu { step: "copying", source }),
            };
            if let Some(job) = &job {
                let number = |key: &str| job.get(key).and_then(Value::as_u64).unwrap_or(0);
                let (done, total) = (number("current-progress"), number("total-progress"));
                progress.send_replace(Progress { disk: self.disk.to_owned(), done, total });
                if done > furthest.0 {
                    furthest = (done, Instant::now());
                }
                if job["status"] == "concluded" {
                    let _ = self.ask("job-dismiss", json!({"id": self.job})).await;
                    let failed = job["error"].as_str().map(|why| self.failed(why, scratch_room));
                    return given_up.or(failed).map_or(Ok(()), Err);
                }
            }
            let why = why.or_else(|| self.too_long(furthest.1)).or(self.too_full().await);
            if let (Some(why), None) = (why, &given_up) {
                tracing::warn!("the backup is cancelled: {}", why.story());
                given_up = Some(why);
                let of = json!({"device": self.job, "force": true});
                let _ = self.ask("block-job-cancel", of).await;
                // Requests to a slow target end later; its files are of no use any more.
                removed(std::mem::take(targets)).await;
            }
        }
    }

    async fn ask(&self, command: &'static str, of: Value) -> Result<Value, NoAnswer> {
        self.monitor.ask(command, Some(of), None).await
    }

    async fn look(&self) -> Result<Option<Value>, NoAnswer> {
        let jobs = self.monitor.ask("query-jobs", None, None).await?;
        let job = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job["id"] == self.job));
        job.cloned().map(Some).ok_or(NoAnswer::Ended)
    }

    fn failed(&self, why: &str, scratch_room: u64) -> Error {
        let why = match why {
            // Of a snapshot that is broken.
            "Permission denied" => format!(
                "the guest overwrote more than the scratch file has room for, {scratch_room} octets: give the disk's volume \
                 more room, or the backup a faster target or a quieter time"
            ),
            why => why.chars().filter(|c| !c.is_control()).take(200).collect(),
        };
        Error::Job { disk: self.disk.to_owned(), why }
    }

    /// A limit of speed may be slow, too.
    fn too_long(&self, since: Instant) -> Option<Error> {
        (!self.has_limit && since.elapsed() >= STALL).then(|| Error::Job {
            disk: self.disk.to_owned(),
            why: format!("the target takes nothing for {} s", STALL.as_secs()),
        })
    }

    async fn too_full(&self) -> Option<Error> {
        let (dir, left) = self.shared.clone()?;
        let room = off(move || target::room(&dir)).await.ok()?;
        (room < left).then(|| Error::Job {
            disk: self.disk.to_owned(),
            why: "its volume, which the target shares, has no room left but a tenth of what it had"
                .to_owned(),
        })
    }
}

/// No longer waited for than whoever stops has time: on a target that is gone it may take for ever.
pub(super) async fn removed(targets: Vec<Target>) {
    let removing = off(move || drop(targets));
    let _ = tokio::time::timeout(Duration::from_secs(1), removing).await;
}
