//! Operators' own rules: libnftables JSON (libnftables-json(5)) compiled to our [`Ruleset`].
//!
//! The document is read by the types of the `nftables` crate, object by object, so that what is wrong has a name.
//! Tables, chains, sets, maps, elements, counters and rules are taken, bare or in `add` and `create` (rules also in
//! `insert`); each table is replaced as a whole with what the document says. Whatever cannot be compiled, or would be
//! lost on the way, is refused: half a firewall is worse than none.

mod action;
mod declared;
mod document;
mod field;
mod kind;
mod lookup;
mod rule;
mod set;

pub use document::{IsReserved, compile};

/// What is wrong with a part of an object.
type Why = String;

/// Why the rules are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What the reader says, with line and column.
    #[error("the extra rules are not JSON: {0}")]
    Json(String),
    /// What it has not.
    #[error("the extra rules are not a document of nft: {0}")]
    Document(&'static str),
    /// A part that is refused.
    #[error("extra rules, object {number} ({name}): {why}")]
    Object {
        /// Counted from 1, as `jq '.nftables[N-1]'` finds it.
        number: usize,
        /// Its kind, and where it is: `rule in chain inet t c`.
        name: String,
        /// With the statement, of a rule.
        why: String,
    },
}

#[cfg(test)]
mod tests;
