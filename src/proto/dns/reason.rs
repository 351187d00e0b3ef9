//! What is counted.

/// Why a message was dropped, or answered with a failure. Counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Truncated,
    NotAQuery,
    /// An upstream's answer to something else: a mistake or a forgery.
    Mismatch,
    /// An upstream's answer that comes when nobody waits for it.
    Late,
    /// A question of ours that came back: some server asks us. Answered SERVFAIL.
    Loop,
    /// A question too many: too much is under way. Answered SERVFAIL.
    Busy,
    /// A question longer than any real one. Answered FORMERR; a connection is closed.
    TooLong,
    /// A connection too many, in all or of one client. Closed.
    Connections,
    /// An answer that nobody takes: to an address that nobody has, or on a connection that is not read. Dropped.
    Unsent,
}

impl Reason {
    /// Whether there is an answer all the same.
    pub(crate) fn is_answered(self) -> bool {
        matches!(self, Self::Loop | Self::Busy | Self::TooLong)
    }

    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotAQuery => "not_a_query",
            Self::Mismatch => "mismatch",
            Self::Late => "late",
            Self::Loop => "loop",
            Self::Busy => "busy",
            Self::TooLong => "too_long",
            Self::Connections => "connections",
            Self::Unsent => "unsent",
        }
    }
}
