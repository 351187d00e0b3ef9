//! The guest agent's protocol, client side (QEMU docs/interop/qemu-ga-ref, qga/qapi-schema.json): JSON objects, one per line.
//!
//! A core: bytes and the time in, bytes and answers out. Replies have no id, and a virtio-serial port keeps what a former session
//! left in it: replies to others come first, half a request spoils the next one. So one request is under way at a time, and
//! a channel counts only when `guest-sync-delimited` was answered: all before an octet 0xFF and our own number is skipped. After
//! silence it counts no more, until the next number comes back.
//!
//! ```text
//!           port opens            0xFF, number           request
//!   Absent ───────────► Syncing ──────────────► Idle ◄───────────► Asked
//!      ▲                 │   ▲                            reply      │
//!      │ port closes     ▼   │ 0 s after a request,                  │
//!      └──────────────  Lost ┘ 5 s to 60 s after a number            │
//!                        ▲───────────────────────────────────────────┘
//!                              no reply, or none that makes sense
//! ```
//!
//! The guest is hostile: lines, lists, texts and waiting requests have bounds. File systems that were frozen through here are thawed
//! through here, asked or not: a thaw goes out when its time has come, again and again until it is answered.

mod known;
mod queue;
mod reply;
mod request;
mod values;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

pub use known::{Known, Presence};
use queue::{Owner, Queue};
pub use request::Request;
pub use values::{Address, Answer, FileSystem, Info, Interface, OsInfo};

/// Longest reply taken.
const MAX_REPLY_BYTES: usize = 1 << 20;
/// The answer to a number is short; what is longer is a rest of something else.
const MAX_SYNC_BYTES: usize = 256;
/// Until a number comes back.
const SYNC_WITHIN: Duration = Duration::from_secs(5);
/// After a number that did not come back: the first wait, and the longest.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);
/// A freeze ends by itself no later than this.
pub const MAX_HOLD: Duration = Duration::from_secs(300);
/// Before whatever is next after it: outside of strings, JSON has no such octet (RFC 8259 §8.1).
const DELIMITER: u8 = 0xff;

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The guest opened the port, or closed it: QEMU's VSERPORT_CHANGE.
    Port {
        open: bool,
    },
    /// The guest begins anew: nothing of it is frozen.
    Reset,
    Bytes(&'a [u8]),
    /// Somebody asks; `number` comes back in [`Output::Answer`].
    Ask {
        number: u64,
        request: Request,
    },
    /// The deadline has come.
    Tick,
}

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    Transmit(Vec<u8>),
    Answer(u64, Result<Answer, NoAnswer>),
    /// [`Agent::known`] has changed.
    Known,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("no guest agent is running: the guest needs the package qemu-guest-agent")]
    Absent,
    #[error("the guest agent does not answer")]
    Silent,
    #[error("the guest agent did not answer in time")]
    TimedOut,
    #[error("the guest agent ended before it answered")]
    Ended,
    #[error("the guest agent is asked too much at once")]
    Busy,
    #[error("the file systems are frozen: thaw them first")]
    Frozen,
    #[error("the guest is shutting down")]
    ShuttingDown,
    /// In the agent's words.
    #[error("the guest agent refused: {0}")]
    Refused(String),
    #[error("the guest agent's answer makes no sense")]
    Misunderstood,
}

/// Why a line was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    LineTooLong,
    /// Not what the request is answered with.
    NotAnAnswer,
    /// Nobody asked.
    Unasked,
}

#[derive(Debug)]
enum State {
    /// Nobody has the port open.
    Absent,
    /// `marked`: the delimiter came, and no line after it.
    Syncing {
        id: u32,
        until: Instant,
        marked: bool,
    },
    Idle,
    Asked {
        owner: Owner,
        request: Request,
        until: Instant,
    },
    Lost {
        again: Instant,
    },
}

/// File systems that we froze.
#[derive(Debug)]
struct Guard {
    thaw_at: Instant,
    tries: u32,
}

/// Where numbers come from that a former session cannot have seen.
struct Numbers(Box<dyn FnMut() -> u32 + Send>);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

/// One guest's agent, through all its runs.
#[derive(Debug)]
pub struct Agent {
    state: State,
    line: Vec<u8>,
    /// The rest of a line that was too long is skipped.
    skipping: bool,
    numbers: Numbers,
    /// Numbers in a row that did not come back.
    failed: u32,
    queue: Queue,
    guard: Option<Guard>,
    /// A shutdown was asked for: nothing is to be frozen any more.
    is_ending: bool,
    known: Known,
    outputs: VecDeque<Output>,
    reasons: BTreeMap<Reason, u64>,
}

impl Agent {
    /// `number` gives one that nobody can guess, each time.
    pub fn new(number: impl FnMut() -> u32 + Send + 'static) -> Self {
        Self {
            state: State::Absent,
            line: Vec::new(),
            skipping: false,
            numbers: Numbers(Box::new(number)),
            failed: 0,
            queue: Queue::default(),
            guard: None,
            is_ending: false,
            known: Known::default(),
            outputs: VecDeque::new(),
            reasons: BTreeMap::new(),
        }
    }

    /// One mutation; then [`Self::poll`] until it gives None.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Port { open } => self.port(now, open),
            Input::Reset => self.reset(now),
            Input::Bytes(bytes) => self.bytes(now, bytes),
            Input::Ask { number, request } => self.ask(now, number, request),
            Input::Tick => {}
        }
        self.advance(now);
        self.show();
    }

    /// The next thing to do; None when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is wanted. None where nobody has the port open: an absent agent costs nothing.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Absent => None,
            State::Syncing { until, .. } | State::Asked { until, .. } => Some(*until),
            State::Lost { again } => Some(*again),
            State::Idle => {
                let thaw_at = self.guard.as_ref().map(|guard| guard.thaw_at);
                thaw_at.into_iter().chain(self.queue.next_round()).min()
            }
        }
    }

    /// What the agent said so far.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// How many lines were not understood, by reason.
    pub fn reasons(&self) -> &BTreeMap<Reason, u64> {
        &self.reasons
    }

    fn port(&mut self, now: Instant, open: bool) {
        if !open || !matches!(self.state, State::Absent) {
            self.fail(now, NoAnswer::Ended);
            self.queue.fail(&NoAnswer::Ended, &mut self.outputs);
            self.known.forget();
            self.state = State::Absent;
        }
        if open {
            self.failed = 0;
            self.queue.begin_round_soon(now);
            self.sync(now);
        }
    }

    /// One that was frozen is thawed as soon as it answers: what lies unread in the socket may be a freeze still.
    fn reset(&mut self, now: Instant) {
        self.is_ending = false;
        if let Some(guard) = &mut self.guard {
            guard.thaw_at = now;
        }
    }

    fn ask(&mut self, now: Instant, number: u64, request: Request) {
        if let (Request::Shutdown, Some(guard)) = (&request, &mut self.guard) {
            // A frozen agent refuses it, and a frozen system does not end.
            guard.thaw_at = guard.thaw_at.min(now);
        }
        if request == Request::Shutdown {
            self.is_ending = true;
            self.queue.refuse_freezes(&NoAnswer::ShuttingDown, &mut self.outputs);
        }
        let refused = match &self.state {
            State::Absent => Some(NoAnswer::Absent),
            State::Lost { .. } => Some(NoAnswer::Silent),
            _ if matches!(request, Request::Freeze { .. }) && self.is_ending => {
                Some(NoAnswer::ShuttingDown)
            }
            // Refused by the agent as well; ours would be taken for one that failed, and thawed.
            _ if matches!(request, Request::Freeze { .. }) && self.guard.is_some() => {
                Some(NoAnswer::Frozen)
            }
            State::Syncing { .. } | State::Idle | State::Asked { .. } => None,
        };
        let refused = refused.or_else(|| self.queue.add(number, request).err());
        if let Some(why) = refused {
            self.outputs.push_back(Output::Answer(number, Err(why)));
        }
    }

    fn bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        loop {
            let is_end = |byte: &u8| *byte == b'\n' || *byte == DELIMITER;
            let Some(end) = bytes.iter().position(is_end) else { break };
            let (head, tail) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            self.extend_line(now, head);
            let (last, rest) = tail.split_first().unwrap_or((&b'\n', &[]));
            match (*last, &mut self.state) {
                (DELIMITER, State::Syncing { marked, .. }) => {
                    (*marked, self.skipping) = (true, false);
                    self.line.clear();
                }
                (DELIMITER, _) => self.extend_line(now, &[DELIMITER]),
                _ => {
                    let line = std::mem::take(&mut self.line);
                    if !std::mem::take(&mut self.skipping) {
                        self.line(now, &line);
                    }
                }
            }
            bytes = rest;
        }
        self.extend_line(now, bytes);
    }

    fn extend_line(&mut self, now: Instant, bytes: &[u8]) {
        let at_most = match self.state {
            State::Asked { .. } => MAX_REPLY_BYTES,
            State::Syncing { .. } | State::Idle | State::Absent | State::Lost { .. } => {
                MAX_SYNC_BYTES
            }
        };
        if self.skipping {
            return;
        }
        if self.line.len() + bytes.len() <= at_most {
            self.line.extend_from_slice(bytes);
            return;
        }
        self.line = Vec::new();
        self.skipping = true;
        self.count(Reason::LineTooLong);
        if let State::Asked { .. } = self.state {
            self.lose(now, NoAnswer::Misunderstood);
        }
    }

    fn line(&mut self, now: Instant, line: &[u8]) {
        match &mut self.state {
            State::Syncing { id, marked, .. } => {
                if std::mem::take(marked) && reply::is_number(line, *id) {
                    (self.state, self.failed) = (State::Idle, 0);
                }
            }
            State::Idle if !line.trim_ascii().is_empty() => self.count(Reason::Unasked),
            State::Asked { request, .. } => match reply::parse(request, line) {
                Ok(answer) => self.answered(now, answer),
                Err(reply::NoReply) => {
                    self.count(Reason::NotAnAnswer);
                    self.lose(now, NoAnswer::Misunderstood);
                }
            },
            State::Idle | State::Absent | State::Lost { .. } => {}
        }
    }

    fn answered(&mut self, now: Instant, answer: Result<Answer, NoAnswer>) {
        let State::Asked { owner, request, .. } = std::mem::replace(&mut self.state, State::Idle)
        else {
            return;
        };
        self.freezes(now, &request, &answer);
        self.known.hear(now, &answer);
        if let Owner::Other(number) = owner {
            self.outputs.push_back(Output::Answer(number, answer));
        }
    }

    /// What the answer means for the file systems.
    fn freezes(&mut self, now: Instant, request: &Request, answer: &Result<Answer, NoAnswer>) {
        match (request, answer, &mut self.guard) {
            // Frozen by others, and theirs to thaw.
            (Request::Freeze { .. }, Err(NoAnswer::Frozen), guard) => *guard = None,
            // From here, not from when it was asked: it may have taken long.
            (Request::Freeze { hold }, Ok(_), Some(guard)) => {
                guard.thaw_at = now + (*hold).min(MAX_HOLD);
            }
            // Perhaps by half.
            (Request::Freeze { .. }, Err(_), Some(guard)) => guard.thaw_at = now,
            (Request::Thaw, Ok(_), guard) => {
                *guard = None;
                // What a frozen agent refused.
                self.queue.begin_round_soon(now);
            }
            (Request::Thaw, Err(_), Some(guard)) => {
                guard.thaw_at = now + wait(guard.tries);
                guard.tries = guard.tries.saturating_add(1);
            }
            _ => {}
        }
    }

    /// What is due, in the order of its weight.
    fn advance(&mut self, now: Instant) {
        match self.state {
            State::Asked { until, .. } if now >= until => self.lose(now, NoAnswer::TimedOut),
            State::Syncing { until, .. } if now >= until => {
                // Somebody waits for the thaw.
                let tries = if self.guard.is_some() { 0 } else { self.failed };
                self.state = State::Lost { again: now + wait(tries) };
                self.failed = self.failed.saturating_add(1);
                self.queue.fail(&NoAnswer::Silent, &mut self.outputs);
            }
            _ => {}
        }
        match self.state {
            State::Lost { again } if now >= again => self.sync(now),
            State::Idle => self.next_request(now),
            _ => {}
        }
    }

    fn next_request(&mut self, now: Instant) {
        let is_due = |guard: &Guard| now >= guard.thaw_at;
        if self.guard.is_some() {
            self.queue.refuse_freezes(&NoAnswer::Frozen, &mut self.outputs);
        }
        let next = if self.guard.as_ref().is_some_and(is_due) {
            Some((Owner::Ours, Request::Thaw))
        } else {
            self.queue.next(now, &self.known)
        };
        let Some((owner, request)) = next else { return };
        if let Request::Freeze { hold } = request {
            // From before it is sent: it may happen, and its answer may not come.
            self.guard = Some(Guard { thaw_at: now + hold.min(MAX_HOLD), tries: 0 });
        }
        self.outputs.push_back(Output::Transmit(request.line()));
        let until = now + request.within();
        self.state = State::Asked { owner, request, until };
    }

    /// The channel counts no more.
    fn lose(&mut self, now: Instant, why: NoAnswer) {
        if why == NoAnswer::TimedOut {
            self.queue.end_round();
        }
        self.fail(now, why);
        self.sync(now);
    }

    /// Whoever asked gets no answer. A freeze may have happened all the same, and who asked for it was told that it failed.
    fn fail(&mut self, now: Instant, why: NoAnswer) {
        if let (State::Asked { request: Request::Freeze { .. }, .. }, Some(guard)) =
            (&self.state, &mut self.guard)
        {
            guard.thaw_at = now;
        }
        if let State::Asked { owner: Owner::Other(number), .. } = self.state {
            self.outputs.push_back(Output::Answer(number, Err(why)));
        }
    }

    fn sync(&mut self, now: Instant) {
        let id = (self.numbers.0)();
        self.line = Vec::new();
        self.skipping = false;
        self.outputs.push_back(Output::Transmit(request::sync(id)));
        self.state = State::Syncing { id, until: now + SYNC_WITHIN, marked: false };
    }

    fn show(&mut self) {
        let presence = match &self.state {
            State::Absent => Presence::Absent,
            State::Lost { .. } => Presence::Lost,
            // A first number, or one after silence.
            State::Syncing { .. } if self.failed > 0 => Presence::Lost,
            State::Syncing { .. } if self.known.presence == Presence::Absent => Presence::Syncing,
            State::Syncing { .. } => self.known.presence,
            State::Idle | State::Asked { .. } if self.known.is_frozen() => Presence::Frozen,
            State::Idle | State::Asked { .. } => Presence::Answering,
        };
        if self.known.is_shown_as(presence) {
            self.outputs.push_back(Output::Known);
        }
    }

    fn count(&mut self, reason: Reason) {
        *self.reasons.entry(reason).or_default() += 1;
    }
}

/// 5 s, and twice as long each time.
fn wait(tries: u32) -> Duration {
    AGAIN.saturating_mul(1 << tries.min(8)).min(AGAIN_AT_MOST)
}

#[cfg(test)]
mod tests;
