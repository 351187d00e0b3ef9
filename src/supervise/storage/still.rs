//! The moment that a backup is of: the guest's file systems stand still for as long as it takes to note it.
//!
//! ```text
//!  agent answers ──► freeze ──► noted ──► thaw         the file systems are as after an unmount
//!  none, or late ──► noted                             as after a power cut; of several disks the processors stop for it
//! ```
//!
//! A thaw is sent whatever comes, by whom was asked to freeze (`proto::agent`), 5 s after it at the latest.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::super::agent::{Answer, GuestAgent, NoAnswer as Silent, Presence, Request};
use super::super::{Monitor, NoAnswer};
use super::Storage;
use super::graph::ask_until_taken;

/// The guest's programs wait for so long at most.
const HOLD: Duration = Duration::from_secs(5);

/// In which state the copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// The guest's agent had its file systems flushed and frozen.
    FileSystem,
    /// As after a power cut: journals are replayed at the next mount.
    Crash,
}

/// What holds the guest.
#[derive(Debug)]
pub(super) struct Held<'a> {
    monitor: &'a Monitor,
    /// None: it goes on.
    frozen: Option<(&'a GuestAgent, Instant)>,
    is_stopped: bool,
    /// Why it is not frozen, where somebody would expect it.
    pub(super) warning: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) consistency: Consistency,
    pub(super) frozen: Option<Duration>,
    pub(super) warning: Option<String>,
}

impl Storage {
    pub(super) async fn hold(&self) -> Held<'_> {
        let mut held =
            Held { monitor: &self.monitor, frozen: None, is_stopped: false, warning: None };
        if let Some(agent) = &self.agent
            && agent.known().borrow().presence != Presence::Absent
        {
            match freeze(agent).await {
                Ok(since) => held.frozen = Some((agent, since)),
                Err(why) => held.warning = Some(why),
            }
        }
        if held.frozen.is_none() && self.disks.len() > 1 && self.runs().await {
            let stopped = self.monitor.ask("stop", None, None).await;
            held.is_stopped = matches!(stopped, Ok(_) | Err(NoAnswer::TimedOut));
        }
        held
    }
}

impl Storage {
    /// Whether its processors do: what others have stopped is not set going.
    async fn runs(&self) -> bool {
        let status = self.monitor.ask("query-status", None, None).await;
        status.is_ok_and(|status| status.get("status").is_some_and(|it| it == "running"))
    }
}

/// When it was asked for. Whoever is late is thawed all the same.
async fn freeze(agent: &GuestAgent) -> Result<Instant, String> {
    let since = Instant::now();
    let why = match timeout(HOLD, agent.ask(Request::Freeze { hold: HOLD })).await {
        Ok(Ok(Answer::Frozen(1..))) => return Ok(since),
        Ok(Ok(_)) => "the guest agent froze no file system".to_owned(),
        Ok(Err(Silent::Frozen)) => {
            return Err(
                "the file systems were frozen by somebody else, who may thaw them".to_owned()
            );
        }
        Ok(Err(why)) => why.to_string(),
        Err(_) => format!("the guest agent did not freeze them in {} s", HOLD.as_secs()),
    };
    let agent = agent.clone();
    tokio::spawn(async move { agent.ask(Request::Thaw).await });
    Err(why)
}

impl Held<'_> {
    /// The guest goes on.
    pub(super) async fn release(self) -> Released {
        let Self { monitor, frozen, is_stopped, mut warning } = self;
        if is_stopped {
            go_on(monitor).await;
        }
        let Some((agent, since)) = frozen else {
            return Released { consistency: Consistency::Crash, frozen: None, warning };
        };
        // It thaws by itself then: whether that was before or after the moment is not known.
        let mut is_late = since.elapsed() >= HOLD;
        let thawed = timeout(HOLD, agent.ask(Request::Thaw)).await;
        match thawed {
            Ok(Ok(Answer::Thawed(0))) => is_late = true,
            Ok(Ok(_)) => {}
            Ok(Err(why)) => {
                tracing::warn!(%why, "the file systems may be frozen yet: asking again");
            }
            Err(_) => tracing::warn!("the guest agent does not thaw yet: asking again"),
        }
        let consistency = if is_late {
            warning = Some("the file systems were thawed before the moment was noted".to_owned());
            Consistency::Crash
        } else {
            Consistency::FileSystem
        };
        Released { consistency, frozen: Some(since.elapsed()), warning }
    }
}

/// Its processors must run again.
async fn go_on(monitor: &Monitor) {
    match ask_until_taken(monitor, "cont", None).await {
        Ok(_) | Err(NoAnswer::NotRunning | NoAnswer::Ended) => {}
        Err(error) => tracing::error!(%error, "the guest stands still after a backup began"),
    }
}
