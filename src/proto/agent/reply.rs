//! One line of the agent, as the answer to what it was asked.

use serde::Deserialize;

use super::values::Answer;
use super::wire::{self, Text};
use super::{NoAnswer, Request};

/// Characters of the agent's own words.
const WORDS: usize = 200;

/// The line is no reply to that.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoReply;

#[derive(Debug, Deserialize)]
struct Reply<T> {
    #[serde(rename = "return", default = "Option::default")]
    value: Option<T>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: Text<WORDS>,
}

/// Whether it says this number.
pub(super) fn is_number(line: &[u8], number: u32) -> bool {
    let reply = serde_json::from_slice::<Reply<u64>>(line);
    reply.is_ok_and(|reply| reply.error.is_none() && reply.value == Some(number.into()))
}

pub(super) fn parse(request: &Request, line: &[u8]) -> Result<Result<Answer, NoAnswer>, NoReply> {
    match request {
        Request::Ping | Request::SetTime { .. } | Request::Shutdown => {
            reply::<wire::Nothing>(line, Answer::from)
        }
        Request::Info => reply::<wire::Info>(line, Answer::from),
        Request::OsInfo => reply::<wire::OsInfo>(line, Answer::from),
        Request::HostName => reply::<wire::HostName>(line, Answer::from),
        Request::Interfaces => reply::<wire::Interfaces>(line, Answer::from),
        Request::FileSystems => reply::<wire::FileSystems>(line, Answer::from),
        Request::Freeze { .. } => reply::<u64>(line, Answer::Frozen),
        Request::Thaw => reply::<u64>(line, Answer::Thawed),
        Request::FreezeStatus => reply::<wire::FreezeStatus>(line, Answer::from),
    }
}

fn reply<'a, T: Deserialize<'a>>(
    line: &'a [u8],
    answer: impl FnOnce(T) -> Answer,
) -> Result<Result<Answer, NoAnswer>, NoReply> {
    let reply: Reply<T> = serde_json::from_slice(line).map_err(|_| NoReply)?;
    match reply {
        Reply { value: Some(value), error: None } => Ok(Ok(answer(value))),
        Reply { value: None, error: Some(Refusal { desc: Text(desc) }) } => Ok(Err(refusal(&desc))),
        Reply { .. } => Err(NoReply),
    }
}

/// A frozen agent has no class of its own for it, but always these words (qga/main.c).
fn refusal(words: &str) -> NoAnswer {
    if words.contains("in frozen state") {
        return NoAnswer::Frozen;
    }
    let words = if words.trim().is_empty() { "no reason given" } else { words };
    NoAnswer::Refused(words.to_owned())
}
