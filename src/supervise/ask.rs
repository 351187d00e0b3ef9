//! Questions to QEMU from whoever has some: the page, the metrics. QMP has one client, the supervisor's; others ask it here.
//!
//! Nobody who asks holds up the lifecycle: a question that finds too many before it is refused at once, and one that QEMU
//! does not answer is given up by whoever asked. A descriptor goes along by SCM_RIGHTS, as `getfd` and `add-fd` want it (QEMU
//! docs/interop/qmp-intro, qapi/misc.json); one at a time, since QEMU keeps only the last that came.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the supervisor, of all that ask.
const MAX_WAITING: usize = 16;
/// Questions that QEMU has not answered.
const MAX_UNDER_WAY: usize = 16;
/// A QEMU that is stuck answers nothing at all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("QEMU does not run, or does not take commands yet")]
    NotRunning,
    #[error("QEMU is asked too much at once")]
    Busy,
    #[error("QEMU refused: {0}")]
    Refused(String),
    #[error("QEMU did not answer in {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("QEMU ended before it answered")]
    Ended,
}

/// One QMP command of somebody else's.
#[derive(Debug)]
pub(super) struct Question {
    command: &'static str,
    arguments: Option<Value>,
    file: Option<OwnedFd>,
    answer: oneshot::Sender<Result<Value, NoAnswer>>,
}

impl Question {
    pub(super) fn refuse(self, why: NoAnswer) {
        let _ = self.answer.send(Err(why));
    }
}

/// Where questions are asked. Outlives each run of QEMU.
#[derive(Debug, Clone)]
pub struct Monitor(mpsc::Sender<Question>);

/// The supervisor's end.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<Question>);

impl Monitor {
    pub fn new() -> (Self, Questions) {
        let (ask, asked) = mpsc::channel(MAX_WAITING);
        (Self(ask), Questions(asked))
    }

    /// QEMU's `return` to this command. `file` becomes QEMU's.
    pub async fn ask(
        &self,
        command: &'static str,
        arguments: Option<Value>,
        file: Option<OwnedFd>,
    ) -> Result<Value, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let question = Question { command, arguments, file, answer };
        self.0.try_send(question).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Busy,
            mpsc::error::TrySendError::Closed(_) => NoAnswer::Ended,
        })?;
        match tokio::time::timeout(TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NoAnswer::Ended),
            Err(_) => Err(NoAnswer::TimedOut),
        }
    }
}

impl Questions {
    /// Nobody's.
    pub fn none() -> Self {
        Self(mpsc::channel(1).1)
    }

    /// Cancel-safe; never resolves where nobody can ask.
    pub(super) async fn next(&mut self) -> Question {
        match self.0.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }
}

/// Those of one run of QEMU that are not answered. Dropped, they say that QEMU has ended.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// Not sent: one with a descriptor is before them, or bytes that the socket did not take.
    waiting: VecDeque<Question>,
    sent: BTreeMap<u64, oneshot::Sender<Result<Value, NoAnswer>>>,
    /// The one whose descriptor QEMU may not have taken yet.
    file_of: Option<u64>,
}

/// What is to be sent now.
#[derive(Debug)]
pub(super) struct Next {
    pub command: &'static str,
    pub arguments: Option<Value>,
    pub file: Option<OwnedFd>,
    answer: oneshot::Sender<Result<Value, NoAnswer>>,
}

impl UnderWay {
    /// Whether there is room for another one.
    pub(super) fn takes(&self) -> bool {
        self.waiting.len() + self.sent.len() < MAX_UNDER_WAY
    }

    pub(super) fn add(&mut self, question: Question) {
        self.waiting.push_back(question);
    }

    /// Whoever asked may have given up: then it is not asked any more. Nothing while bytes are unsent (`is_clear` is false).
    pub(super) fn next(&mut self, is_clear: bool) -> Option<Next> {
        while self.file_of.is_none() && is_clear {
            let Question { command, arguments, file, answer } = self.waiting.pop_front()?;
            if !answer.is_closed() {
                return Some(Next { command, arguments, file, answer });
            }
        }
        None
    }

    /// `next` has this number, and is sent; with a descriptor, others wait for its answer.
    pub(super) fn sent(&mut self, id: u64, next: Next, with_file: bool) {
        self.file_of = with_file.then_some(id);
        self.sent.insert(id, next.answer);
    }

    pub(super) fn answered(&mut self, id: u64, answer: Result<Value, String>) {
        if self.file_of == Some(id) {
            self.file_of = None;
        }
        if let Some(asked) = self.sent.remove(&id) {
            let _ = asked.send(answer.map_err(NoAnswer::Refused));
        }
    }

    /// Of those that have been given up no answer is waited for: a QEMU that lost some takes others. The one with a
    /// descriptor stays until QEMU answers, or ends.
    pub(super) fn forget(&mut self) {
        let file_of = self.file_of;
        self.sent.retain(|id, answer| Some(*id) == file_of || !answer.is_closed());
        self.waiting.retain(|question| !question.answer.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_bounded_in_time_and_number() {
        let (monitor, mut questions) = Monitor::new();
        let asked = monitor.ask("query-status", None, None).await;
        assert_eq!(asked, Err(NoAnswer::TimedOut));
        let waiting: Vec<_> = (1..MAX_WAITING)
            .map(|_| {
                let monitor = monitor.clone();
                tokio::spawn(async move { monitor.ask("query-status", None, None).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(monitor.ask("query-status", None, None).await, Err(NoAnswer::Busy));
        // The first was given up.
        drop(questions.next().await);
        questions.next().await.refuse(NoAnswer::NotRunning);
        drop(questions);
        let mut answers = Vec::new();
        for task in waiting {
            answers.push(task.await.unwrap().unwrap_err());
        }
        assert_eq!(answers.first(), Some(&NoAnswer::NotRunning));
        assert!(answers.iter().skip(1).all(|why| *why == NoAnswer::Ended), "{answers:?}");
    }

    #[tokio::test]
    async fn a_descriptor_goes_alone() {
        let (monitor, mut questions) = Monitor::new();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut under_way = UnderWay::default();
        let ask = |file| {
            let monitor = monitor.clone();
            tokio::spawn(async move { monitor.ask("x", None, file).await })
        };
        let (first, second) = (ask(Some(file.into())), ask(None));
        under_way.add(questions.next().await);
        under_way.add(questions.next().await);
        assert!(under_way.next(false).is_none());
        let next = under_way.next(true).unwrap();
        under_way.sent(7, next, true);
        assert!(under_way.next(true).is_none(), "QEMU keeps the last descriptor only");
        under_way.answered(7, Ok(Value::Bool(true)));
        assert_eq!(first.await.unwrap(), Ok(Value::Bool(true)));
        let next = under_way.next(true).unwrap();
        under_way.sent(8, next, false);
        under_way.answered(8, Err("no".to_owned()));
        assert_eq!(second.await.unwrap(), Err(NoAnswer::Refused("no".to_owned())));
        assert!(under_way.takes() && under_way.sent.is_empty());
    }
}
