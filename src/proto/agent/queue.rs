//! Who waits for the agent: others who ask, and the round of questions that keeps the status fresh.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::known::Known;
use super::{NoAnswer, Output, Request};

/// Others' requests that wait.
const MAX_WAITING: usize = 8;
/// Between rounds.
const ROUND: Duration = Duration::from_secs(30);
/// Between rounds that an opened port begins: a guest may open and close it without end.
const OPENED_AGAIN: Duration = Duration::from_secs(5);
const QUESTIONS: [Request; 6] = [
    Request::Info,
    // One that was begun anew while its guest is frozen refuses nothing: it says that it has no other commands.
    Request::FreezeStatus,
    Request::OsInfo,
    Request::HostName,
    Request::Interfaces,
    Request::FileSystems,
];

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Ours,
    Other(u64),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    others: VecDeque<(u64, Request)>,
    /// What is left of this round.
    round: VecDeque<Request>,
    /// When this one began, and when the next one does.
    began: Option<Instant>,
    next: Option<Instant>,
}

impl Queue {
    pub fn add(&mut self, number: u64, request: Request) -> Result<(), NoAnswer> {
        // Thaw and shutdown find a place behind whoever asks too much.
        let urgency = request.urgency();
        if self.others.len() >= MAX_WAITING + urgency {
            return Err(NoAnswer::Busy);
        }
        if urgency > 0 {
            self.others.push_front((number, request));
        } else {
            self.others.push_back((number, request));
        }
        Ok(())
    }

    pub fn fail(&mut self, why: &NoAnswer, outputs: &mut VecDeque<Output>) {
        self.round.clear();
        let failed = self.others.drain(..);
        outputs.extend(failed.map(|(number, _)| Output::Answer(number, Err(why.clone()))));
    }

    /// Those that wait: one is under way, or none is wanted.
    pub fn refuse_freezes(&mut self, why: &NoAnswer, outputs: &mut VecDeque<Output>) {
        self.others.retain(|(number, request)| {
            let refused = matches!(request, Request::Freeze { .. });
            if refused {
                outputs.push_back(Output::Answer(*number, Err(why.clone())));
            }
            !refused
        });
    }

    pub fn next(&mut self, now: Instant, known: &Known) -> Option<(Owner, Request)> {
        if let Some((number, request)) = self.others.pop_front() {
            return Some((Owner::Other(number), request));
        }
        if self.next.is_none_or(|next| now >= next) {
            (self.began, self.next) = (Some(now), Some(now + ROUND));
            self.round = QUESTIONS.into();
        }
        if known.is_frozen() && !self.round.is_empty() {
            // All else is refused.
            self.round.clear();
            return Some((Owner::Ours, Request::FreezeStatus));
        }
        while let Some(request) = self.round.pop_front() {
            if known.may_have(&request) {
                return Some((Owner::Ours, request));
            }
        }
        None
    }

    pub fn begin_round_soon(&mut self, now: Instant) {
        let soon = self.began.map_or(now, |began| began + OPENED_AGAIN);
        self.next = Some(soon.max(now));
    }

    pub fn end_round(&mut self) {
        self.round.clear();
    }

    /// When there is something to ask, where nobody else asks.
    pub fn next_round(&self) -> Option<Instant> {
        self.next
    }
}
