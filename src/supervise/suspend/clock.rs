//! The clock of a guest that goes on: it stood still with the guest.

use std::time::Duration;

use super::super::agent::{Answer, GuestAgent, NoAnswer, Request};
use super::offset_ms;
use crate::sys::ram_file::wall_clock;

/// An agent that was there when the guest was saved answers this soon.
const AGENT_WITHIN: Duration = Duration::from_secs(10);
/// What nobody needs to be told of.
const NEGLIGIBLE_MS: u64 = 1000;

/// Has the guest's agent set it, and thaw what stands still, where there is one; else says by how much it is wrong.
pub(super) async fn set(agent: Option<GuestAgent>, saved_at_ms: u64) {
    let behind_ms = offset_ms(saved_at_ms);
    let why = match agent {
        None => "it has no channel to an agent".to_owned(),
        Some(agent) => match by(&agent).await {
            Ok(()) => {
                tracing::info!(was_behind_ms = behind_ms, "the guest's clock is set by its agent");
                return;
            }
            Err(why) => why.to_string(),
        },
    };
    if behind_ms >= NEGLIGIBLE_MS {
        tracing::warn!(
            behind_ms,
            "the guest's clock is behind by the time it was suspended, until it sets it itself: {why}"
        );
    }
}

async fn by(agent: &GuestAgent) -> Result<(), NoAnswer> {
    let mut known = agent.known();
    let answers = known.wait_for(|known| known.presence.answers());
    match tokio::time::timeout(AGENT_WITHIN, answers).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(NoAnswer::Ended),
        Err(_) => return Err(NoAnswer::Absent),
    }
    // It was frozen at the moment that it was saved, and whoever froze it is gone.
    if agent.ask(Request::FreezeStatus).await == Ok(Answer::FreezeStatus(true)) {
        agent.ask(Request::Thaw).await?;
    }
    let unix_ns = u64::try_from(wall_clock().as_nanos()).unwrap_or(u64::MAX);
    agent.ask(Request::SetTime { unix_ns }).await.map(drop)
}
