//! nf_tables as data: the same types for the ruleset that is wanted and the one that is found.

use serde::Serialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ruleset {}
