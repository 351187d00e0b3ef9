//! Where answers came from, counted.

/// Where an answer to a client came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Remembered.
    Hit,
    /// Older than it may be, since no server answers (RFC 8767).
    Stale,
    /// Of the pod's name servers.
    Upstream,
    /// Of our own names.
    Local,
    /// No server answered, or there is none, or no room for one question more.
    Failed,
    /// What was asked is no question that is answered here.
    Refused,
}

const ALL: [(Outcome, &str); 6] = [
    (Outcome::Hit, "hit"),
    (Outcome::Stale, "stale"),
    (Outcome::Upstream, "upstream"),
    (Outcome::Local, "local"),
    (Outcome::Failed, "failed"),
    (Outcome::Refused, "refused"),
];

/// How many of each, since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Outcomes([u64; ALL.len()]);

impl Outcomes {
    pub fn add(&mut self, outcome: Outcome, more: usize) {
        let count = ALL.iter().zip(&mut self.0).find(|((of, _), _)| *of == outcome);
        if let Some((_, count)) = count {
            *count = count.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        }
    }

    /// By metric label; None: nothing was counted.
    pub fn take(&mut self) -> Option<Vec<(&'static str, u64)>> {
        let counts = std::mem::take(&mut self.0);
        counts
            .iter()
            .any(|count| *count > 0)
            .then(|| ALL.iter().zip(counts).map(|((_, label), count)| (*label, count)).collect())
    }
}
