//! What an expression does, and what a load gives.

use super::super::Verdict;
use super::bits::Bits;

/// What a register is given.
#[derive(Debug)]
pub(super) enum Loaded {
    Bits(Bits),
    /// There is no such thing: the rule does not match.
    Nothing(&'static str),
}

/// What an expression does.
#[derive(Debug)]
pub(super) enum Effect {
    /// On with the next expression.
    Next,
    /// The same, with something worth telling.
    Said(String),
    /// The rule does not match.
    Break(String),
    /// The rule may not match.
    Doubt(String),
    End(End),
}

/// What ends a rule.
#[derive(Debug)]
pub(super) enum End {
    Verdict(Verdict),
    Reject(String),
    /// Rewritten, or bound to stay as it is.
    Nat(String),
    /// It is sent out by another interface, past all that follows.
    Handed(String),
    /// What happens from here on is nobody's guess.
    Stuck(String),
}

pub(super) fn stuck(why: &str) -> Effect {
    Effect::End(End::Stuck(why.to_owned()))
}
